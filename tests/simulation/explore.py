"""Draws schedules with Hypothesis, as many as asked, and stops at the first that breaks a promise."""

import gc
import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.simulation.process import Violation
from tests.simulation.schedule import BYTES, Schedule, decode, shrink
from tests.simulation.world import simulate
from utils.running.calls import GC_THRESHOLDS

CHUNK = 2_000  # schedules that Hypothesis draws at a time: it remembers them all


class Enough(Exception):
    """A promise was broken: no more schedules are drawn."""


@dataclass
class Found:
    """What became of an exploration."""

    runs: int = 0
    notes: Counter[str] = field(default_factory=Counter)
    schedule: Schedule | None = None
    violation: Violation | None = None


def settle_down() -> None:
    """For a process that does nothing else: rare looks for garbage, and one processor.

    The threads hand the word to each other: when they need not wait for another processor, that takes half the time.
    """
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    if sys.platform == "linux":
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {allowed[os.getpid() % len(allowed)]})


def notes_of(schedule: Schedule) -> Counter[str]:
    """Run it; what was exercised. Raises Violation."""
    return simulate(schedule).notes


def explore(
    schedules: int,
    seed_value: int,
    run: Callable[[Schedule], Counter[str]] = notes_of,
    progress: Callable[[int], None] = lambda _runs: None,
    fixed: Mapping[str, Any] = MappingProxyType({}),
) -> Found:
    """Run that many schedules, the same ones for the same seed; `fixed` are fields of their setups."""
    found = Found()
    chunk = 0
    while found.runs < schedules and not found.violation:
        _draw(min(CHUNK, schedules - found.runs), seed_value * 1_000_003 + chunk, run, found, fixed)
        progress(found.runs)
        chunk += 1
    return found


def _draw(
    number: int,
    seed_value: int,
    run: Callable[[Schedule], Counter[str]],
    found: Found,
    fixed: Mapping[str, Any],
) -> None:
    @seed(seed_value)
    @settings(
        max_examples=number,
        database=None,
        deadline=None,
        phases=[Phase.generate],  # and not to shrink byte by byte: `shrink` knows better
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.binary(min_size=BYTES, max_size=BYTES))
    def each(drawn: bytes) -> None:
        if not found.violation:
            _try(decode(drawn, fixed), run, found)
        if found.violation:
            raise Enough

    with suppress(Enough):
        each()


def _try(schedule: Schedule, run: Callable[[Schedule], Counter[str]], found: Found) -> None:
    found.runs += 1
    try:
        found.notes.update(run(schedule))
    except Violation as violation:
        found.schedule, found.violation = schedule, violation


def shortest(schedule: Schedule, violation: Violation) -> Schedule:
    """A schedule as short as can be that breaks the same promise."""

    def fails(candidate: Schedule) -> bool:
        try:
            simulate(candidate)
        except Violation as other:
            return other.rule == violation.rule
        return False

    return shrink(schedule, fails)


def tell(schedule: Schedule) -> str:
    """The schedule, all that happened in it, and how it ended."""
    try:
        simulate(schedule, traced=True)
    except Violation as violation:
        return "\n".join([*violation.story, "", str(schedule), "", str(violation)])
    return f"{schedule}\nno promise was broken"


def report(found: Found) -> None:
    """Shrink what was found and print it, to be read and to be kept as a regression test."""
    assert found.schedule
    assert found.violation
    print(f"after {found.runs} schedules: {found.violation}\n{found.schedule}\nshrinking ...", file=sys.stderr)
    print(tell(shortest(found.schedule, found.violation)))
