"""A call in a thread of its own, which nobody waits for at the end of the process."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def in_thread(call: Callable[[], T], name: str) -> Future[T]:
    """What the call gives, or raises. Who waits for it may leave it behind, which a pool of threads does not allow."""
    future: Future[T] = Future()

    def attempt() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=attempt, name=name, daemon=True).start()
    return future
