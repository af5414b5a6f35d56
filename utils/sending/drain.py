"""The end of an assignment: nothing more is begun, what runs is seen through, and what has come of it is committed."""

from collections.abc import Callable
from typing import Protocol

from utils.logger import logger
from utils.processing.executor import Executor
from utils.processing.outcome import Outcome
from utils.sending.delivery import Delivery

BUSY = 0.02  # seconds that one look for outcomes waits
RESERVE = 1.0  # seconds at the end, at most a quarter of the time: half for the acknowledgements, half for the commit


class Loop(Protocol):
    """Whose assignment ends."""

    executor: Executor

    @property
    def delivery(self) -> Delivery: ...

    @property
    def clock(self) -> Callable[[], float]: ...


def drain(
    loop: Loop,
    deadline: float,
    deliver: Callable[[list[Outcome]], None],
    finish_safe: Callable[[], bool],
    commit: Callable[[float], float],
) -> None:
    """See all results through and commit them, by as many commits as it takes, until `deadline`.

    What the calls or the output do not yield until then the next owner does again. `commit` is given the deadline, and
    returns by how many seconds the next one is to be later.
    """
    executor, delivery, clock = loop.executor, loop.delivery, loop.clock
    reserve, is_last = min(RESERVE, (deadline - clock()) / 4), False
    executor.cancel()
    while executor.in_flight and clock() < deadline - reserve:
        deliver(executor.collect(BUSY))
        if delivery.pending:
            finish_safe()
    while not is_last:
        while delivery.pending and not finish_safe() and clock() < deadline - reserve / 2:
            pass
        pause = commit(deadline)
        is_last = not delivery.pending or clock() + pause >= deadline - reserve / 2
    if delivery.pending:
        logger.warning("no time for all results: the next owner makes them again", extra={"groups": delivery.pending})
