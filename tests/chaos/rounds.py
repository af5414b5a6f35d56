"""A round: one fault, again and again for a time, on a stage of its own; then the verdict, as a line of the table."""

import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.faults import Fault
from tests.integration.oracle import Verdict
from tests.services.kafka import KafkaBroker

HEADER = (
    f"{'fault':38} {'delivery':13} {'times':>5} {'ids':>7} {'lost':>5} {'twice':>6} {'half':>5}"
    f" {'overtaken':>9} {'open':>4}  seconds until new results (median, longest)"
)


@dataclass(frozen=True, slots=True)
class Line:
    """What one fault did. `str()` of it is the line of the table; `problems` are what must not be, as text."""

    fault: str
    delivery: str
    times: int
    verdict: Verdict
    open_transactions: int
    seconds: str
    problems: list[str]

    def __str__(self) -> str:
        found = self.verdict
        counts = f"{len(found.lost):5} {len(found.twice):6} {len(found.half):5} {len(found.overtaken):9}"
        line = f"{self.fault:38} {self.delivery:13} {self.times:5} {found.complete:7} {counts}"
        return f"{line} {self.open_transactions:4}  {self.seconds}"


def play(
    fault: Fault,
    broker: KafkaBroker,
    delivery: str,
    directory: Path,
    chance: random.Random,
    seconds: float,
    most: int = 1_000_000,
    until_all_is_fed: bool = False,
    **options: Any,
) -> Line:
    """The fault, at least once and at most `most` times, until the time is up; `options` are those of the stage.

    `until_all_is_fed`: until both the stage has fed as much as it may and the fault was there `most` times.
    """
    with fault.stage(broker, delivery, directory, chance, **options) as stage:
        stage.feed()
        stage.start(fault.workers)
        for worker in stage.workers:
            worker.is_assigned()
        stage.pass_time(1)
        until = time.monotonic() + seconds
        try:
            while stage.faults == 0 or (time.monotonic() < until and stage.faults < most):
                fault.play(stage)
            while until_all_is_fed and not (stage.has_fed_all and stage.faults >= most):
                fault.play(stage)
        except AssertionError as error:
            stage.ended.append(str(error))
        verdict = stage.finish(lag=not fault.destroys)
        left_open = stage.open_transactions()
        once = delivery == "exactly_once" and not fault.destroys
        found = problems(verdict, left_open, once=once) + stage.ended
        return Line(fault.name, delivery, stage.faults, verdict, left_open, stage.times(), found)


def problems(verdict: Verdict, left_open: int, *, once: bool) -> list[str]:
    """`left_open`: partitions of the outputs in which a transaction is open."""
    found = [f"a transaction is open in {left_open} partitions of the outputs (I4)"] if left_open else []
    try:
        verdict.require(once=once)
    except AssertionError as error:
        found.append(str(error))
    return found
