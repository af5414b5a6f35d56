"""A call in a thread of its own, which nobody waits for at the end of the process."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


class Apart(threading.Thread):
    """A thread that nobody waits for at the end of the process. Those that its code begins are waited for, as in any
    program: a thread hands on what it says of itself.

    A daemon would do all of this but one thing: `leave` knows that this one may have a client of Kafka.
    """

    _has_begun = False

    @property
    def daemon(self) -> bool:
        return not self._has_begun

    @daemon.setter
    def daemon(self, _value: bool) -> None:
        """It is asked when the thread begins, and by the threads that it begins."""

    def run(self) -> None:
        self._has_begun = True
        super().run()


def in_thread(call: Callable[[], T], name: str) -> Future[T]:
    """What the call gives, or raises. Who waits for it may leave it behind, which a pool of threads does not allow."""
    future: Future[T] = Future()
    Apart(target=_attempt, args=(call, future), name=name).start()
    return future


def _attempt(call: Callable[[], T], future: Future[T]) -> None:
    try:
        future.set_result(call())
    except BaseException as error:
        future.set_exception(error)
    finally:
        del future  # the error knows this frame: in a ring it would keep all that the call had in its hands


def bounded(call: Callable[[], object], seconds: float) -> None:
    """Make the call in a thread, which is left behind when it takes longer: TimeoutError."""
    in_thread(call, "bounded").result(seconds)
