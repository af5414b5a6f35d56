"""A short run of the simulation, and of the bugs planted on purpose. The long ones: `make simulate`, `make mutants`."""

import pytest

from tests.simulation.explore import explore, shortest, tell
from tests.simulation.mutants import MUTANTS, Mutant, look_for
from tests.simulation.schedule import BYTES, LENGTH, Action, Schedule, Setup, decode, shrink
from tests.simulation.world import _ACTIONS as ACTIONS
from tests.simulation.world import MEETS, simulate

STATES = {
    "behind the row",
    "calls rest",
    "circuit open",
    "ended",
    "frozen",
    "has shed",
    "in a turn",
    "open input transaction",
    "paused",
    "plain",
    "reads again",
    "results wait",
    "runs apart",
    "without partitions",
}
"""What an action must have met."""

QUICK = {
    "the position is committed",
    "what is not re-read yet is left out of the map",
    "finished offsets are handled again",
    "gaps stay unfinished",
    "the map is left out",
    "the map is of a moment before the offset",
    "the key in use is written over",
    "a predecessor's maps are deleted too early",
    "the map is stored after the commit",
    "stored maps are not read",
    "a superseded fragment stays unfinished",
    "two fragments of one topic make a group",
    "what is read again supersedes what was complete",
    "what is held back to be read in step counts as read",
    "what is evicted stays unfinished",
    "an arrival may be before what any can be",
    "an arrival may be after the last commit",
    "the steps of a map are not carried on",
    "the steps of a map are not read",
    "a mate is not awaited where it can only be",
    "what was shed is finished",
    "failed groups are finished",
    "what is superseded is not counted",
    "what is given up is not counted",
    "what is filtered is not counted",
    "what has failed is not counted",
    "finished when produced, not when acknowledged",
    "offsets outside the transaction",
    "goes on after an aborted transaction",
    "outcomes of old assignments are taken",
    "a share of unequal partition counts is taken",
    "no rewind after a rebalance within a read",
    "an exception leaves a callback",
    "out of range is not mended",
}
"""Mutants that are found within some dozen schedules."""


def test_no_promise_is_broken() -> None:
    found = explore(300, 0)
    if found.schedule and found.violation:
        pytest.fail(tell(shortest(found.schedule, found.violation)))
    assert found.runs == 300
    met = [tuple(what.split(MEETS)) for what in found.notes if MEETS in what]
    assert {action for action, _ in met} == set(ACTIONS), "each kind of action has been drawn"
    assert {state for _, state in met} >= STATES
    assert {action for action, state in met if state in {"ended", "in a turn"}} == set(ACTIONS)


@pytest.mark.parametrize("mutant", [each for each in MUTANTS if each.what in QUICK], ids=lambda each: each.what)
def test_a_bug_planted_on_purpose_is_found(mutant: Mutant) -> None:
    runs, _ = look_for(mutant, 200, 1)
    assert runs


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda each: f"{each.rule}-{each.what}")
def test_a_bug_planted_on_purpose_replaces_what_is_there(mutant: Mutant) -> None:
    """`make mutants`, which looks for all of them, would end at the first that does not."""
    with mutant.planted():
        pass


def test_the_same_seed_draws_the_same_schedules() -> None:
    assert explore(20, 7).notes == explore(20, 7).notes


def test_a_schedule_runs_the_same_way_each_time() -> None:
    schedule = decode(bytes(range(BYTES)))
    assert simulate(schedule, traced=True).log == simulate(schedule, traced=True).log


def test_any_bytes_are_a_schedule() -> None:
    assert decode(bytes(BYTES)) == Schedule(Setup(), (Action("feed"),) * LENGTH)


def test_what_is_printed_of_a_schedule_can_be_pasted_into_a_test() -> None:
    schedule = Schedule(Setup(workers=2, crashes=True), (Action("feed", 1, 2), Action("kill")))
    assert str(schedule) == "Setup(workers=2, crashes=True)\n[\n    ('feed', 1, 2),\n    ('kill', 0, 0),\n]"


def test_a_failing_schedule_is_shrunk_to_what_matters() -> None:
    schedule = Schedule(Setup(workers=3), tuple(Action("kill" if each == 40 else "step", 2, 90) for each in range(80)))
    shrunk = shrink(schedule, lambda candidate: any(action.kind == "kill" for action in candidate.actions))
    assert shrunk == Schedule(Setup(), (Action("kill"),))
