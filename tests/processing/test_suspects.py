"""Groups as they come; after starts without progress each alone, and named in a commit before it runs."""

from typing import Any

import pytest

from tests.fakes import TOPIC_ID
from utils.joining.aggregator import Group
from utils.joining.layout import Layout
from utils.joining.messages import Fragment
from utils.joining.offsets import OffsetMap, PartitionOffsets
from utils.joining.states import SENT, States
from utils.joining.suspicion import MOST_HUNG
from utils.processing.outcome import Call, InFlight, Outcome
from utils.processing.parking import Parking
from utils.processing.suspects import EndedTheProcess, Suspects


class FakeExecutor:
    """Ends every call at once, or none while `hangs`."""

    def __init__(self) -> None:
        self.running: list[Group] = []
        self.ran: list[str] = []
        self.hangs = False
        self.circuit_open_for: float | None = None
        self.hung: list[tuple[Group, int]] = []
        self.parked = Parking()
        self.rests_for: float | None = None
        self.runs: list[Call] = []
        self.recalled: dict[str, int] = {}
        self.at_once = False
        self.left_behind: list[str] = []
        self.told: list[str] = []  # in which order

    def put_aside(self, aside: Parking) -> int:
        moved = self.parked.move_resting(aside)
        self.running = [each for each in self.running if not aside.rests(each.id)]
        return moved

    def shed_aside(self, aside: Parking, down_to: int) -> list[Group]:
        self.told.append("shed aside")
        return aside.shed(down_to)

    def take_back(self, aside: Parking) -> None:
        self.submit(aside.release_all())

    def recall(self, id: str, attempts: int, *, at_once: bool = False) -> None:
        self.recalled[id] = attempts
        self.at_once = at_once
        self.told.append(f"recalled {id}")

    def failed_before(self, id: str) -> None:
        self.left_behind.append(id)
        self.told.append(f"left behind {id}")

    @property
    def in_flight(self) -> int:
        return len(self.running)

    def submit(self, groups: list[Group]) -> None:
        self.running += groups
        self.ran += [group.id for group in groups]

    def collect(self, _timeout: float) -> list[Outcome]:
        ended, self.running = ([], self.running) if self.hangs else (self.running, [])
        return [Outcome(group, []) for group in ended]

    def cancel(self) -> None:
        self.running = self.running[:1] if self.hangs else []

    def drop(self) -> None:
        self.running = []

    def calls(self) -> list[Call]:
        return self.runs

    def find(self, id: str) -> InFlight | None:
        return InFlight("called", 0.0, 0) if id in [group.id for group in self.running] else None


class Bench:
    """Two partitions, after so many starts without progress."""

    def __init__(self, starts: int = 1, tried: int | None = None) -> None:
        self.assign(starts, tried)
        self.executor = FakeExecutor()
        self.slept = 0.0
        executor: Any = self.executor
        self.now = 0.0
        self.suspects = Suspects(executor, lambda: self.owned, self.sleep, lambda: self.now)

    def assign(self, starts: int, tried: int | None = None) -> None:
        loaded = OffsetMap(TOPIC_ID, 0, 0, 0, States.of(bytes(9)), starts=starts - 1, trying=tried)
        self.owned = [PartitionOffsets(topic, 0, Layout(TOPIC_ID), 0, loaded) for topic in ("a", "b")]
        for offsets in self.owned:
            for offset in range(9):
                offsets.read(offset)

    def sleep(self, seconds: float) -> None:
        self.slept += seconds

    def submit(self, *ids: int) -> None:
        self.suspects.submit([self.group(id) for id in ids])

    def group(self, id: int) -> Group:
        return Group(str(id), tuple(Fragment(n, offsets, id, b"{}") for n, offsets in enumerate(self.owned)), 3)

    def commit(self) -> list[OffsetMap | None]:
        points = [offsets.commit_point(0, 0) for offsets in self.owned]
        for offsets in self.owned:
            offsets.confirm()
        return [OffsetMap.parse(point.metadata) for point in points]

    def rest(self, due: float) -> None:
        """The batch that runs has failed, and is tried again then."""
        for group in self.executor.running:
            self.executor.parked.rest(group, due)
        self.executor.rests_for = due - self.now
        assert self.collect() == []
        self.executor.rests_for = None

    def batch(self) -> list[str]:
        assert self.collect() == []
        self.commit()
        return self.collect()

    def collect(self) -> list[str]:
        return [outcome.group.id for outcome in self.suspects.collect(1.0)]


def test_after_few_starts_groups_pass_as_they_come() -> None:
    bench = Bench(starts=3)
    bench.submit(0, 1, 2)
    assert bench.suspects.in_flight == 3
    assert bench.collect() == ["0", "1", "2"]
    assert bench.suspects.in_flight == 0
    bench.suspects.cancel()
    assert not bench.owned[0].suspicion.held_some_back
    assert not bench.owned[0].suspicion.has_news


def test_after_three_starts_without_progress_each_group_runs_alone_and_after_a_commit_that_names_it() -> None:
    bench = Bench(starts=4)
    bench.submit(0, 1)
    assert bench.collect() == []
    assert bench.executor.ran == []
    assert [offsets.suspicion.first_of_batch for offsets in bench.owned] == [0, 0]
    assert bench.slept > 0  # the loop does not turn in vain
    bench.commit()
    assert bench.collect() == ["0"]
    assert bench.executor.ran == ["0"]
    assert bench.suspects.in_flight == 1
    assert bench.collect() == []
    assert [offsets.suspicion.first_of_batch for offsets in bench.owned] == [1, 1]
    bench.commit()
    assert bench.collect() == ["1"]
    assert bench.suspects.in_flight == 0


def test_of_each_partition_the_first_that_is_called_is_known_however_many_of_others_come_before_it() -> None:
    bench = Bench(starts=2)
    first, other = bench.owned
    groups = [Group("0", (Fragment(0, first, 0, b"{}"),), 3) for _ in range(30)]
    bench.suspects.submit([*groups, Group("4", (Fragment(1, other, 4, b"{}"),), 3)])
    assert [offsets.suspicion.first_called for offsets in bench.owned] == [0, 4]


def test_a_commit_that_is_not_confirmed_names_nothing() -> None:
    bench = Bench(starts=4)
    bench.submit(0)
    bench.collect()
    for offsets in bench.owned:
        offsets.commit_point(0, 0)
    assert bench.collect() == []
    assert bench.executor.ran == []


def test_batches_grow_and_each_waits_for_a_commit_that_holds_the_one_before() -> None:
    bench = Bench(starts=4)
    bench.submit(*range(8))
    batches = [bench.batch() for _ in range(4)]
    assert batches == [["0"], ["1", "2"], ["3", "4", "5", "6"], ["7"]]
    assert bench.suspects.in_flight == 0
    assert bench.owned[0].suspicion.starts_without_progress == 4  # it is no progress before the last batch was through


def test_when_the_largest_batch_has_passed_the_others_follow_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("utils.processing.suspects.LARGEST", 2)
    bench = Bench(starts=4)
    bench.submit(*range(7))
    assert [bench.batch() for _ in range(2)] == [["0"], ["1", "2"]]
    assert bench.executor.ran == ["0", "1", "2", "3", "4", "5", "6"]
    assert bench.collect() == ["3", "4", "5", "6"]
    assert bench.suspects.in_flight == 0
    assert [offsets.suspicion.starts_without_progress for offsets in bench.owned] == [0, 0]
    bench.submit(7)
    assert bench.collect() == ["7"]


def test_while_the_circuit_is_open_batches_are_of_one_so_that_each_probe_is_named() -> None:
    bench = Bench(starts=4)
    bench.suspects._size = 8
    bench.executor.hangs, bench.executor.circuit_open_for = True, 1.0
    bench.submit(*range(4))
    tried = []
    for _ in range(5):
        assert bench.collect() == []
        tried += [each and each.trying for each in bench.commit()[:1]]
        assert bench.collect() == []
        assert len(bench.executor.running) == 1
        bench.rest(due=bench.now + 10.0)
    assert tried == [0, 3, 1, 2, 0]  # the oldest and the newest by turns; then the one that was not tried for longest
    assert bench.suspects.in_flight == 4
    bench.executor.hangs, bench.executor.circuit_open_for = False, None
    bench.now = 100.0
    assert bench.batch() == ["3", "1", "2", "0"]
    assert bench.suspects.in_flight == 0


def test_what_a_probe_has_shown_says_nothing_of_a_larger_batch() -> None:
    """Else one ends the process in each start in a batch of two, unnamed: what comes before it is not over."""
    bench = Bench(starts=4)
    bench.executor.circuit_open_for = 1.0
    bench.submit(*range(4))
    assert bench.batch() == ["0"]
    bench.executor.circuit_open_for = None  # it has succeeded
    assert bench.batch() == ["1"]
    assert bench.batch() == ["2", "3"]


def test_a_process_that_ends_again_and_again_ends_with_the_guilty_group_alone() -> None:
    """Each start goes on after what the one before has committed; the group 6 ends the process."""
    left, tried, deaths = list(range(9)), None, 0
    while tried is None and deaths < 9:
        bench = Bench(starts=4)
        bench.submit(*left)
        done: list[str] = []
        for _ in range(9):
            if "6" in bench.executor.ran:
                break
            done = list(bench.executor.ran)
            bench.collect()
            [tried] = {each.trying for each in bench.commit() if each}
            bench.collect()
        left = [id for id in left if str(id) not in done]
        deaths += 1
    assert (tried, deaths) == (6, 3)  # among 3 to 6, among 6 to 8, alone


def test_what_was_named_when_the_process_ended_has_failed_and_does_not_run_again() -> None:
    bench = Bench(tried=1)
    bench.submit(0, 1, 2)
    assert bench.suspects.in_flight == 3
    outcomes = bench.suspects.collect(1.0)
    assert [(each.group.id, type(each.error)) for each in outcomes] == [
        ("1", EndedTheProcess),
        ("0", type(None)),
        ("2", type(None)),
    ]
    assert bench.executor.ran == ["0", "2"]
    assert bench.suspects.in_flight == 0


def test_what_was_named_does_not_run_again_where_others_come_before_it() -> None:
    bench = Bench(tried=1)
    bench.submit(0)
    assert bench.collect() == ["0"]
    bench.submit(1)
    assert [type(each.error) for each in bench.suspects.collect(1.0)] == [EndedTheProcess]
    assert bench.executor.ran == ["0"]


@pytest.mark.parametrize(("starts", "tried"), [(4, None), (1, 1)])
def test_partitions_that_are_assigned_later_are_guarded_as_the_first_ones_are(starts: int, tried: int | None) -> None:
    bench = Bench()
    bench.submit(1)
    assert bench.collect() == ["1"]
    bench.suspects.drop()
    bench.assign(starts, tried)
    bench.submit(1)
    bench.collect()
    assert bench.executor.ran == ["1"]  # only before


def test_cancelled_groups_are_not_in_flight_but_the_running_one_is() -> None:
    bench = Bench(starts=4)
    bench.submit(0, 1)
    bench.collect()
    bench.suspects.cancel()
    assert bench.suspects.in_flight == 0
    assert [offsets.suspicion.held_some_back for offsets in bench.owned] == [True, True]
    bench.submit(0, 1)
    bench.executor.hangs = True
    bench.collect()
    bench.commit()
    bench.collect()
    bench.suspects.cancel()
    assert bench.suspects.in_flight == 1
    bench.executor.hangs = False
    assert bench.collect() == ["0"]
    assert bench.suspects.in_flight == 0


def test_what_fails_after_the_cancel_is_not_in_flight_though_no_outcome_tells_of_it() -> None:
    bench = Bench()
    bench.executor.hangs = True
    bench.submit(0)
    bench.suspects.cancel()
    assert bench.suspects.in_flight == 1
    bench.executor.running = []  # as the Dispatcher does: it would be tried again, and is forgotten
    assert bench.suspects.in_flight == 0


def test_after_a_drop_nothing_is_left() -> None:
    bench = Bench(starts=4, tried=3)
    bench.submit(0, 1, 3)
    bench.suspects.drop()
    assert bench.suspects.in_flight == 0
    assert bench.collect() == []
    assert bench.executor.ran == []


def test_an_id_is_found_while_its_batch_waits_for_its_commit_and_while_it_runs() -> None:
    bench = Bench(starts=4)
    bench.submit(0, 1)
    states = []
    bench.executor.hangs = True
    for turn in (bench.collect, bench.commit, bench.collect):
        turn()
        states.append([found.state if (found := bench.suspects.find(str(id))) else None for id in range(3)])
    assert states == [["queued", "queued", None]] * 2 + [["called", "queued", None]]
    bench.executor.hangs = False
    assert bench.collect() == ["0"]
    assert bench.suspects.find("0") is None


def test_one_that_waits_for_its_next_attempt_does_not_hold_up_those_that_run_apart() -> None:
    bench = Bench(starts=4)
    bench.submit(0, 1)
    bench.suspects.submit([Group("0", bench.group(2).fragments, 3)])
    bench.submit(3)
    bench.executor.hangs = True
    bench.batch()
    bench.rest(due=3600.0)
    assert bench.executor.running == []
    assert bench.suspects.find("0") == InFlight("queued", 0.0, 0)
    bench.executor.hangs = False
    assert bench.batch() == ["1"]  # alone: the batch before has not shown that more can be run
    assert bench.batch() == ["3"]
    assert bench.executor.ran == ["0", "1", "3"]
    assert (bench.suspects.in_flight, bench.suspects.parked.groups, bench.suspects.parked.bytes) == (2, 2, 6)


def test_all_others_are_tried_before_one_that_failed_is_tried_again() -> None:
    """Else in an outage the first ones use up their attempts before so many ids have failed that it is seen as one."""
    bench = Bench(starts=4)
    bench.submit(*range(20))
    bench.executor.hangs = True
    for _ in range(20):
        bench.batch()
        bench.now += 1.0
        bench.rest(due=bench.now + 0.5)
    assert bench.executor.ran == [str(id) for id in range(20)]


def test_what_was_put_aside_has_its_turn_when_it_is_due_and_those_behind_it_after_it() -> None:
    bench = Bench(starts=4)
    bench.submit(0)
    bench.suspects.submit([Group("0", bench.group(2).fragments, 3)])
    bench.executor.hangs = True
    bench.batch()
    bench.rest(due=3600.0)
    bench.executor.hangs = False
    slept = bench.slept
    assert bench.batch() == []
    named = [offsets.suspicion.first_of_batch for offsets in bench.owned]
    assert named == [None, None]  # whatever ends the process now: it was not that
    assert bench.slept > slept
    bench.now = 3600.0
    assert bench.batch() == ["0"]
    assert bench.owned[0].suspicion.first_in_commit == 0
    assert bench.batch() == ["0"]
    assert bench.owned[0].suspicion.first_in_commit == 2
    assert (bench.suspects.in_flight, bench.suspects.parked.groups) == (0, 0)


def test_while_something_is_put_aside_what_comes_later_still_runs_apart() -> None:
    bench = Bench(starts=4)
    bench.submit(0)
    bench.executor.hangs = True
    bench.batch()
    bench.rest(due=3600.0)
    bench.batch()
    bench.submit(1, 2)
    assert bench.batch() == []
    assert bench.executor.ran == ["0", "1"]
    assert [each and each.trying for each in bench.commit()] == [1, 1]


def test_what_was_put_aside_leaves_memory_where_it_is_too_much_and_is_tried_no_sooner_when_it_was_read_again() -> None:
    bench = Bench(starts=4)
    bench.submit(0)
    bench.executor.hangs = True
    bench.batch()
    bench.rest(due=3600.0)
    bench.submit(1)
    assert bench.suspects.shed(0) == []  # others of its id may be among those that are held
    bench.executor.hangs = False
    assert bench.batch() == ["1"]
    bench.submit(2)
    bench.suspects._aside.rest(bench.group(3), 60.0)
    assert bench.batch() == ["2"]
    assert [group.id for group in bench.suspects.shed(0)] == ["0"]
    assert bench.executor.told == ["shed aside"], "it forgets attempts"
    assert bench.suspects.in_flight == 1
    bench.submit(0)
    assert bench.batch() == []
    assert bench.suspects.parked.groups == 2


def test_what_is_finished_behind_one_that_is_not_is_no_progress() -> None:
    """The first may end the process each time, some time after others were through."""
    starts = []
    for finished in (1, 0):
        bench = Bench(starts=3)
        bench.submit(0, 1)
        bench.collect()
        for offsets in bench.owned:
            offsets.states.set(finished, SENT)
            offsets.finish_sent()
        starts.append([each and each.starts for each in bench.commit()])
    assert starts == [[3, 3], [0, 0]]


@pytest.mark.parametrize(
    ("due", "runs", "starts"),
    [
        pytest.param(600.0, [], 0, id="long"),
        pytest.param(600.0, [Call("0", 3.0)], 3, id="a call of an assignment before still runs"),
        pytest.param(60.0, [], 3, id="as after any failure"),
    ],
)
def test_what_rests_for_long_has_not_ended_the_process_if_all_calls_were_back_meanwhile(
    due: float, runs: list[Call], starts: int
) -> None:
    """Else, where a process is killed now and then, it is taken for one that ends it."""
    bench = Bench(starts=3)
    bench.submit(0)
    bench.executor.hangs = True
    for group in bench.executor.running:
        bench.executor.parked.rest(group, due)
    bench.executor.rests_for, bench.executor.runs = due, runs
    assert bench.collect() == []
    bench.executor.rests_for = None
    bench.submit(1)
    assert {offsets.suspicion.first_called for offsets in bench.owned} == {0 if starts else 1}
    for offsets in bench.owned:
        offsets.states.set(1, SENT)
        offsets.finish_sent()
    assert [each and each.starts for each in bench.commit()] == [starts, starts]


# ---------------------------------------------------------------- calls that hang


def test_what_hangs_is_named_in_the_commits_until_it_is_finished_and_recalled_in_the_next_process() -> None:
    bench = Bench()
    bench.executor.hung = [(bench.group(1), 2)]
    bench.collect()
    assert [each and each.hung for each in bench.commit()] == [((1, 2),)] * 2
    after = Bench()
    for offsets, before in zip(after.owned, bench.owned, strict=True):
        offsets.suspicion.hung = before.suspicion.hung
    after.submit(0, 1)
    assert after.executor.recalled == {"1": 2}
    assert after.executor.ran == ["0", "1"]
    after.owned[0].finish(1)
    assert [each and each.hung for each in after.commit()] == [(), ((1, 2),)]


def test_where_no_more_that_hang_can_be_named_those_that_are_come_first() -> None:
    """The next one that hung was named in no commit: it was called first in each process, and ended it."""
    bench = Bench()
    for number, is_full in ((MOST_HUNG - 1, False), (MOST_HUNG, True)):
        bench.owned[0].suspicion.hung = dict.fromkeys(range(number), 1)
        bench.submit(1)
        assert bench.executor.at_once == is_full


def test_what_an_assignment_before_has_called_is_named_where_its_partition_is_ours_again() -> None:
    bench = Bench()
    before = bench.group(1)
    bench.assign(starts=1)
    of_another_topic = Group("1", (Fragment(0, PartitionOffsets("a", 0, Layout("made again"), 0), 2, b"{}"),))
    bench.owned = bench.owned[:1]
    bench.executor.hung = [(before, 2), (of_another_topic, 1)]
    bench.collect()
    assert [each and each.hung for each in bench.commit()] == [((1, 2),)]


def test_what_others_have_left_behind_before_the_restart_is_told_so() -> None:
    bench = Bench()
    for offsets in bench.owned:
        offsets.suspicion.left_behind_below = 2
        offsets.suspicion.hung = {1: 3}
    bench.submit(1, 2)
    assert bench.executor.left_behind == ["1"]
    assert bench.executor.told == ["left behind 1", "recalled 1"], "so that it is no sign of an outage"
    bench.submit(0)  # read again after all that is so was read
    assert bench.executor.left_behind == ["1"]


def test_also_where_one_topic_is_read_ahead_of_the_other() -> None:
    """With the second batch it was forgotten: what had hung was taken for an outage again."""
    bench = Bench()
    for offsets, end in zip(bench.owned, (2, 99), strict=True):
        offsets.suspicion.left_behind_below = end
    bench.submit(0)
    bench.submit(1)
    assert bench.executor.left_behind == ["0", "1"]
