"""Schedules that broke a promise once: what the simulation has found, each as short as it could be made."""

import pytest

from tests.simulation.mutants import MUTANTS
from tests.simulation.process import Violation
from tests.simulation.schedule import Action, Schedule, Setup
from tests.simulation.world import simulate

Actions = list[tuple[str, int, int]]

REGRESSIONS: dict[str, tuple[Setup, Actions]] = {
    "where all that is in memory rests in an outage, what comes later is read as far as there is room": (
        Setup(topics=1, odd=True, tight=True, calls=True, many_calls=True),
        [
            ("burst", 0, 2),
            ("same", 0, 86),
            ("same", 0, 166),
            ("same", 0, 55),
            ("feed all", 0, 204),
            ("feed", 0, 53),
            ("rounds", 0, 25),
        ],
    ),
    "a call that a worker had begun when it was expelled ends when it is a member again": (
        Setup(partitions=3, workers=2, static=True, quirks=True, odd=True, many_calls=True),
        [
            ("step", 0, 0),
            ("feed", 0, 0),
            ("step", 0, 0),
            ("feed all", 0, 0),
            ("step", 0, 0),
            ("freeze", 0, 0),
            ("feed all", 0, 0),
            ("feed all", 0, 0),
            ("feed all", 0, 0),
            ("mate", 0, 0),
            ("feed", 0, 85),
            ("rounds", 0, 1),
            ("version", 0, 0),
            ("same", 0, 0),
            ("thaw", 0, 0),
            ("step", 0, 224),
        ],
    ),
    "what another tool commits after a worker was expelled may be overwritten by the last commit of that one": (
        Setup(topics=1, quirks=True),
        [
            ("step", 0, 0),
            ("step", 0, 0),
            ("step", 0, 0),
            ("feed all", 0, 0),
            ("step", 0, 0),
            ("stop", 0, 0),
            ("lose", 0, 0),
            ("damage", 0, 1),
            ("step", 0, 1),
        ],
    ),
    "a row that is two changes behind does not come after the newest one": (
        Setup(workers=3, rows=True),
        [
            ("row", 2, 0),
            ("calls", 1, 20),
            ("step", 1, 0),
            ("lose", 0, 0),
            ("calls", 0, 2),
            ("step", 0, 0),
            ("row", 0, 0),
            ("calls", 1, 18),
            ("step", 0, 0),
            ("step", 1, 0),
            ("stop", 1, 0),
            ("step", 0, 0),
            ("step", 1, 0),
            ("step", 0, 0),
        ],
    ),
    "with dead letters off, a part that came in the place of one whose call hangs is given up with it": (
        Setup(discards=True, calls=True, many_calls=True),
        [("feed", 0, 56), ("mate", 0, 0), ("calls", 0, 160), ("lose", 0, 0), ("duplicate", 0, 0)],
    ),
    "what waits behind a call that hangs is noticed also where it leaves memory again and again": (
        Setup(topics=1, tight=True, calls=True, many_calls=True),
        [
            ("feed all", 0, 56),
            ("feed", 0, 89),
            ("same", 0, 2),
            ("rounds", 0, 0),
            ("burst", 0, 164),
            ("again", 0, 0),
        ],
    ),
    "what was put off is read again at once where nothing new is there": (
        Setup(topics=1, tight=True, large=True, narrow=True, calls=True, many_calls=True),
        [
            ("step", 0, 0),
            ("step", 0, 0),
            ("step", 0, 0),
            ("feed", 0, 56),
            ("calls", 0, 52),
            ("minute", 0, 0),
            ("feed all", 0, 56),
            ("burst", 0, 78),
            ("burst", 0, 71),
            ("same", 0, 35),
            ("feed", 0, 62),
            ("fault", 0, 97),
        ],
    ),
    "what is put off now and again does not keep reading from what is new": (
        Setup(topics=1, tight=True, slow=True, calls=True),
        [
            ("rounds", 0, 0),
            ("feed", 0, 105),
            ("step", 0, 0),
            ("burst", 0, 230),
            ("same", 0, 45),
            ("minute", 0, 0),
            ("version", 0, 0),
            ("feed all", 0, 137),
            ("feed", 0, 0),
            ("same", 0, 54),
            ("step", 0, 0),
            ("burst", 0, 1),
            ("version", 0, 0),
        ],
    ),
    "a row that one worker has withdrawn, and the others work by, is tried by that one, too": (
        Setup(workers=2, rows=True),
        [
            ("step", 0, 0),
            ("step", 0, 0),
            ("row", 0, 0),
            ("step", 0, 0),
            ("calls", 0, 3),
            ("fault", 0, 11),
            ("fault", 0, 198),
        ],
    ),
    "a loop that has failed commits nothing, not even once more what was too long for a commit": (
        Setup(partitions=3, workers=3, quirks=True, strict=True),
        [
            ("step", 1, 0),
            ("calls", 0, 66),
            ("step", 1, 0),
            ("feed all", 0, 0),
            ("step", 1, 0),
            ("step", 0, 2),
            ("step", 2, 0),
            ("step", 2, 0),
            ("step", 0, 0),
            ("step", 2, 0),
            ("step", 0, 0),
            ("step", 1, 0),
            ("retention", 0, 1),
        ],
    ),
    "groups run apart as long as something waits for its next attempt": (
        Setup(slow=True, deadly=True, calls=True),
        [
            ("feed", 0, 237),
            ("same", 0, 38),
            ("same", 0, 0),
            ("same", 0, 2),
            ("feed all", 0, 88),
        ],
    ),
    "half of what was put off is not given up because its mate was passed in this reading": (
        Setup(tight=True, large=True, deadly=True, calls=True),
        [
            ("feed", 0, 173),
            ("burst", 0, 118),
            ("mate", 0, 0),
            ("feed all", 0, 62),
            ("same", 0, 107),
            ("feed all", 0, 253),
            ("feed all", 0, 137),
            ("mate", 0, 2),
        ],
    ),
    "what ends the process after an outage is run alone, though a probe has succeeded before it": (
        Setup(topics=1, workers=2, odd=True, deadly=True, calls=True),
        [
            ("feed", 0, 133),
            ("feed", 0, 53),
            ("outage", 0, 0),
            ("same", 0, 1),
            ("feed all", 0, 24),
            ("outage", 0, 0),
        ],
    ),
    "while only probes are called each of them is named": (
        Setup(deadly=True, calls=True),
        [("feed all", 0, 45), ("feed all", 0, 152)],
    ),
    "a row by which no worker could begin leaves the one before it in force": (
        Setup(evictions=True, rows=True),
        [("row", 0, 91), ("feed all", 0, 0), ("rounds", 0, 39)],
    ),
    "what is finished in each start is no progress where it came later than what ends the process": (
        Setup(topics=1, odd=True, deadly=True, calls=True),
        [
            ("feed", 0, 133),
            ("feed", 0, 53),
            ("outage", 0, 0),
            ("feed", 0, 0),
            ("same", 0, 0),
            ("feed all", 0, 24),
        ],
    ),
    "a result that was held while others settled is committed too": (
        Setup(quirks=True),
        [
            ("calls", 0, 22),
            ("feed", 0, 0),
            ("mate", 0, 0),
            ("step", 0, 0),
            ("step", 0, 2),
            ("feed", 0, 0),
            ("mate", 0, 0),
        ],
    ),
    "a topic that was made again is read from its beginning": (
        Setup(),
        [
            ("feed", 0, 0),
            ("mate", 0, 0),
            ("calls", 0, 161),
            ("recreate", 0, 0),
            ("feed all", 0, 0),
        ],
    ),
    "what was shed once and kept then is not shed again": (
        Setup(evictions=True, tight=True),
        [
            ("feed all", 0, 0),
            ("burst", 0, 6),
            ("burst", 0, 6),
            ("feed all", 0, 0),
            ("feed all", 0, 0),
        ],
    ),
    "a topic whose first commit failed is not a new one": (
        Setup(evictions=True),
        [
            ("fault", 0, 3),
            ("calls", 0, 204),
            ("feed all", 0, 0),
            ("minute", 0, 0),
        ],
    ),
    "an empty record that comes alone is counted": (
        Setup(odd=True),
        [
            ("invalid", 0, 1),
        ],
    ),
    "after a restart a group waits for a mate that was shed": (
        Setup(workers=2, evictions=True, tight=True),
        [
            ("burst", 0, 126),
            ("burst", 0, 180),
            ("mates", 0, 183),
            ("step", 0, 0),
            ("minute", 0, 0),
            ("stop", 0, 0),
        ],
    ),
    "a group waits for a mate that was shed in the same batch": (
        Setup(topics=3, workers=2, evictions=True, tight=True),
        [
            ("burst", 0, 126),
            ("burst", 0, 180),
            ("mates", 0, 183),
            ("mate", 0, 92),
            ("step", 0, 0),
        ],
    ),
    "a group is given up though a topic has no partition of its number": (
        Setup(evictions=True, unequal=True),
        [
            ("feed", 1, 0),
        ],
    ),
    "what is shed grows old": (
        Setup(evictions=True, tight=True),
        [
            ("burst", 0, 2),
            ("burst", 0, 22),
            ("burst", 1, 0),
            ("burst", 0, 0),
            ("burst", 0, 37),
            ("burst", 0, 133),
        ],
    ),
    "a worker that shares partitions with its own ghosts waits until they are missed": (
        Setup(crashes=True, unequal=True),
        [
            ("step", 0, 0),
            ("step", 0, 0),
            ("step", 0, 0),
            ("kill", 0, 0),
            ("time", 0, 5),
            ("start", 0, 0),
            ("step", 0, 0),
            ("step", 0, 0),
            ("step", 0, 0),
            ("kill", 0, 0),
            ("start", 0, 0),
            ("step", 0, 0),
            ("step", 0, 0),
            ("step", 0, 0),
            ("time", 0, 5),
            ("time", 0, 3),
            ("step", 0, 0),
        ],
    ),
    "with unequal partition counts no partition is paused for which a group of another number waits": (
        Setup(tight=True, unequal=True),
        [
            ("burst", 0, 1),
            ("feed", 0, 0),
            ("step", 0, 0),
            ("feed", 0, 0),
            ("feed", 0, 0),
            ("step", 0, 0),
            ("feed", 1, 0),
            ("step", 0, 0),
            ("minute", 0, 0),
            ("step", 0, 0),
            ("mate", 0, 0),
        ],
    ),
    "who was paused near the bound is read when it is waited for below it": (
        Setup(topics=3, partitions=3, quirks=True, tight=True),
        [
            ("feed all", 0, 0),
            ("step", 0, 0),
            ("step", 0, 0),
            ("feed all", 0, 0),
            ("step", 0, 0),
            ("burst", 2, 2),
            ("mate", 0, 0),
            ("step", 0, 218),
            ("step", 0, 133),
            ("mate", 0, 0),
            ("minute", 0, 0),
            ("mate", 0, 0),
            ("step", 0, 3),
            ("feed all", 0, 0),
            ("feed", 0, 0),
            ("mate", 1, 115),
        ],
    ),
    "what an expelled worker joins of an id that is used again is never seen exactly once": (
        Setup(workers=3, exactly_once=True),
        [
            ("feed all", 0, 0),
            ("step", 0, 0),
            ("step", 0, 0),
            ("step", 1, 0),
            ("calls", 0, 161),
            ("step", 1, 0),
            ("freeze", 0, 0),
            ("session", 0, 0),
            ("step", 1, 0),
            ("time", 0, 0),
            ("step", 1, 0),
            ("again", 0, 0),
        ],
    ),
    "a dead letter may be of a topic that was made again since": (
        Setup(odd=True),
        [
            ("feed all", 0, 5),
            ("calls", 0, 2),
            ("step", 0, 0),
            ("step", 0, 0),
            ("recreate", 0, 0),
            ("feed", 0, 0),
        ],
    ),
    "what was shed and is read again does not supersede what is newer": (
        Setup(topics=3, tight=True),
        [
            ("burst", 0, 2),
            ("feed", 0, 0),
            ("feed all", 0, 0),
            ("calls", 0, 210),
            ("feed all", 0, 0),
            ("feed", 0, 0),
            ("feed", 0, 0),
            ("burst", 2, 75),
            ("feed", 0, 0),
            ("feed all", 0, 0),
            ("feed all", 0, 0),
            ("mates", 1, 1),
            ("duplicate", 2, 213),
        ],
    ),
    "a revoke waits for stored maps that are acknowledged a little later": (
        Setup(topics=3, workers=2, quirks=True, small_queue=True, overflows=True),
        [
            ("calls", 0, 0),
            ("invalid", 0, 0),
            ("calls", 0, 1),
            ("step", 0, 0),
            ("step", 0, 0),
            ("calls", 1, 2),
            ("step", 1, 0),
            ("step", 0, 1),
        ],
    ),
    "a topic without a commit is not new where no map can be read": (
        Setup(evictions=True),
        [
            ("calls", 0, 108),
            ("recreate", 0, 0),
            ("lose", 0, 0),
            ("feed all", 0, 0),
            ("minute", 0, 0),
            ("damage", 1, 1),
        ],
    ),
    "what made room while a commit was on its way is in the next one": (
        Setup(quirks=True, small_queue=True),
        [
            ("feed all", 0, 0),
            ("step", 0, 0),
            ("feed", 0, 0),
            ("step", 0, 0),
            ("feed all", 0, 0),
            ("step", 0, 0),
            ("feed all", 0, 0),
            ("step", 0, 0),
            ("mate", 0, 0),
            ("calls", 0, 58),
            ("feed", 0, 0),
            ("mate", 0, 0),
            ("feed all", 0, 0),
            ("step", 0, 2),
            ("feed all", 0, 0),
        ],
    ),
    "workers that are ended by turns by messages of two partitions find both": (
        Setup(topics=1, partitions=2, workers=3, small_queue=True, deadly=True),
        [
            ("step", 2, 0),
            ("step", 0, 0),
            ("feed all", 0, 0),
            ("step", 0, 0),
            ("feed", 0, 24),
            ("step", 0, 0),
            ("feed", 0, 0),
            ("step", 2, 0),
            ("step", 2, 0),
            ("feed", 0, 0),
            ("feed all", 0, 216),
            ("step", 0, 0),
            ("step", 2, 0),
            ("stop", 0, 0),
            ("feed all", 0, 0),
            ("step", 2, 0),
            ("feed all", 0, 0),
        ],
    ),
    "a duplicate may be given up while its mates are held back with the other one": (
        Setup(tight=True, deadly=True),
        [
            ("feed", 0, 0),
            ("feed all", 0, 0),
            ("feed all", 0, 0),
            ("feed", 1, 0),
            ("mate", 0, 0),
            ("feed all", 0, 0),
            ("feed all", 0, 0),
            ("feed", 0, 24),
            ("mate", 0, 1),
            ("feed", 0, 0),
            ("feed", 0, 0),
            ("feed", 0, 0),
            ("feed all", 0, 0),
            ("duplicate", 0, 47),
            ("mate", 0, 0),
            ("mate", 0, 0),
            ("feed", 0, 0),
            ("feed", 0, 0),
            ("mate", 0, 0),
            ("mate", 0, 0),
            ("mate", 0, 0),
            ("duplicate", 1, 12),
        ],
    ),
    "who hands on a partition before it was read again does not vouch for what is in it": (
        Setup(topics=1, workers=3, deadly=True),
        [
            ("feed", 0, 0),
            ("feed all", 0, 24),
            ("fault", 2, 58),
            ("fault", 2, 46),
        ],
    ),
    "a revoke in which the process is held up for a minute may repeat a dead letter": (
        Setup(workers=2, quirks=True),
        [
            ("step", 1, 0),
            ("step", 0, 0),
            ("step", 0, 0),
            ("invalid", 0, 0),
            ("step", 0, 0),
            ("step", 0, 0),
            ("step", 1, 0),
            ("step", 1, 0),
            ("calls", 0, 1),
            ("minute", 0, 0),
            ("step", 0, 2),
        ],
    ),
    "a static member that has closed its client is missed, also when its process is frozen meanwhile": (
        Setup(workers=3, static=True, unequal=True),
        [
            ("step", 1, 0),
            ("step", 1, 0),
            ("fault", 0, 188),
            ("feed all", 0, 0),
            ("step", 1, 0),
            ("session", 0, 0),
            ("step", 1, 0),
            ("freeze", 1, 0),
        ],
    ),
    "what the oldest group waits for is read to its end, though hardly any other waits for it": (
        Setup(topics=3, tight=True, large=True, slow=True),
        [
            ("burst", 0, 0),
            ("mates", 0, 0),
            ("burst", 0, 2),
            ("mates", 1, 213),
            ("feed", 0, 0),
            ("burst", 2, 55),
        ],
    ),
    "of two groups that have no room together the older one stays": (
        Setup(tight=True, large=True),
        [
            ("feed", 1, 71),
            ("burst", 0, 99),
            ("burst", 0, 19),
        ],
    ),
    "where maps have no room for arrivals, a clock that is set by hours may make all that waits as old as the oldest": (
        Setup(tight=True, overflows=True, calls=True, hours=True),
        [
            ("burst", 0, 0),
            ("rounds", 0, 1),
            ("burst", 0, 0),
            ("clock", 0, 1),
        ],
    ),
    "each right that lacks for a moment ends a process, and that is no loop": (
        Setup(partitions=3, workers=2, static=True, rows=True),
        [
            ("kill twice", 1, 0),
            ("row", 1, 123),
            ("step", 1, 0),
            ("step", 1, 0),
            ("fault", 2, 172),
            ("kill", 1, 0),
            ("kill", 0, 0),
            ("row", 0, 215),
        ],
    ),
    "what is good and not read yet shows the end of an outage, though the bad ones fill more than all of memory": (
        Setup(topics=1, tight=True, large=True, calls=True),
        [
            ("burst", 0, 42),
            ("burst", 0, 170),
            ("feed", 0, 12),
            ("feed all", 0, 120),
            ("same", 0, 6),
            ("same", 0, 167),
        ],
    ),
}


@pytest.mark.parametrize(("setup", "actions"), REGRESSIONS.values(), ids=REGRESSIONS.keys())
def test_promise_is_kept(setup: Setup, actions: Actions) -> None:
    simulate(Schedule(setup, tuple(Action(*action) for action in actions)))


BUGS = {
    "what is good and not read yet shows the end of an outage, though the bad ones fill more than all of memory": (
        "in an outage nothing makes room"
    ),
    "a row that one worker has withdrawn, and the others work by, is tried by that one, too": (
        "a row that others work by stays withdrawn"
    ),
    "groups run apart as long as something waits for its next attempt": "the end of the others ends the running apart",
    "what ends the process after an outage is run alone, though a probe has succeeded before it": (
        "what a probe has shown is taken to hold for two"
    ),
    "while only probes are called each of them is named": "in an outage none is waited for",
    "what is finished in each start is no progress where it came later than what ends the process": (
        "what comes later is progress"
    ),
}


@pytest.mark.parametrize(("schedule", "bug"), BUGS.items(), ids=BUGS.keys())
def test_a_promise_is_broken_where_the_bug_is_back(schedule: str, bug: str) -> None:
    """Else what a schedule needs has become something else, and it would pass whatever the worker does."""
    setup, actions = REGRESSIONS[schedule]
    [mutant] = [each for each in MUTANTS if each.what == bug]
    with mutant.planted(), pytest.raises(Violation):
        simulate(Schedule(setup, tuple(Action(*action) for action in actions)))
