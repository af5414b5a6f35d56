"""The end of an assignment: nothing more is begun, what runs is seen through, and what has come of it is committed."""

from collections.abc import Callable
from typing import Protocol

from utils.processing.executor import Executor, Outcome
from utils.sending.delivery import Delivery

BUSY = 0.02  # seconds that one look for outcomes waits


class Loop(Protocol):
    """Whose assignment ends."""

    executor: Executor
    shutdown_timeout: float

    @property
    def delivery(self) -> Delivery: ...

    @property
    def clock(self) -> Callable[[], float]: ...


def drain(
    loop: Loop,
    deliver: Callable[[list[Outcome]], None],
    finish_safe: Callable[[], bool],
    commit: Callable[[float], float],
) -> None:
    """See all results through and commit them, by as many commits as it takes, within `shutdown_timeout`.

    What the output does not take until then the next owner does again. `commit` is given the end of that time, and
    returns by how many seconds the next one is to be later.
    """
    executor, delivery, clock = loop.executor, loop.delivery, loop.clock
    deadline, is_last = clock() + loop.shutdown_timeout, False
    executor.cancel()
    while executor.in_flight and clock() < deadline:
        deliver(executor.collect(BUSY))
    while not is_last:
        while delivery.pending and not finish_safe():
            if clock() >= deadline:
                return
        pause = commit(deadline)
        is_last = not delivery.pending or clock() + pause >= deadline
