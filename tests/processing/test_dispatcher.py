"""Which group may be called when: with a runner whose calls end when the test says so."""

from collections import defaultdict, deque
from collections.abc import Iterable
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import dispatcher, fragment, group
from utils.joining.aggregator import Group
from utils.metrics import Counters
from utils.processing.attempts import FREE_PROBES_FOR, LONGEST_PROBE, OUTAGE
from utils.processing.dispatcher import Dispatcher
from utils.processing.outcome import Call, InFlight, Outcome, TookTooLong
from utils.processing.parking import Parking
from utils.processing.runner import Overdue
from utils.retry import Reject, Retry
from utils.sparing import LINES, SPAN


class FakeRunner:
    """A Runner that begins no call by itself."""

    def __init__(self, *, one_by_one: bool) -> None:
        self.one_by_one = one_by_one
        self.waiting: deque[Group] = deque()
        self.running: dict[str, Group] = {}
        self.done: list[Outcome] = []
        self.waits: list[float] = []  # that collect() was asked for
        self.went_on = 0
        self.halted = False  # until go_on()
        self.hanging_ids: list[str] = []
        self.hanging = ""  # ids of calls that are overdue
        self.too_many = False
        self.taken: list[Group] = []  # back, so far

    def open(self) -> None: ...

    def submit(self, groups: Iterable[Group]) -> None:
        self.waiting.extend(groups)

    def collect(self, timeout: float) -> list[Outcome]:
        self.waits.append(timeout)
        done, self.done = self.done, []
        return done

    def cancel(self) -> list[Group]:
        cancelled = list(self.waiting)
        self.waiting.clear()
        self.taken += cancelled
        return cancelled

    def go_on(self) -> None:
        self.went_on += 1
        self.halted = False

    def overdue(self, limit: float) -> Overdue:
        return Overdue([self.running[id] for id in self.hanging_ids or self.hanging], self.too_many)

    def queued(self, id: str) -> bool:
        return self.one_by_one and any(group.id == id for group in self.waiting)

    def calls(self) -> list[Call]:
        return [Call(id, 7.0) for id in self.running]

    def close(self, timeout: float) -> None: ...

    def begin(self, number: int = 1) -> str:
        """Begin the calls of so many groups; their ids."""
        begun = [self.waiting.popleft() for _ in range(number)]
        for each in begun:
            assert not (self.one_by_one and (self.running or self.halted))
            assert each.id not in self.running, "the same id twice at once"
            self.running[each.id] = each
        return "".join(each.id for each in begun)

    def turn(self, error: BaseException | None = None) -> str:
        """Begin and end the call of all that wait; their ids. One by one, a failure ends it."""
        called = ""
        while self.waiting and not (error and called and self.one_by_one):
            called += (id := self.begin())
            self.end(id, error)
        return called

    def end(self, ids: str, error: BaseException | None = None) -> None:
        for id in ids:
            self.end_one(id, error)

    def end_one(self, id: str, error: BaseException | None = None) -> None:
        self.halted = self.one_by_one and error is not None
        self.done.append(Outcome(self.running.pop(id), [], error))

    def ids(self) -> str:
        return "".join(each.id for each in self.waiting)


def groups(ids: str) -> list[Group]:
    return [group(id) for id in ids]


def ids(outcomes: list[Outcome]) -> str:
    return "".join(outcome.group.id for outcome in outcomes)


@pytest.fixture(params=[True, False], ids=["one by one", "many at once"])
def runner(request: pytest.FixtureRequest) -> FakeRunner:
    return FakeRunner(one_by_one=request.param)


@pytest.fixture
def executor(runner: FakeRunner) -> Dispatcher:
    return dispatcher(runner)


@pytest.fixture
def many() -> FakeRunner:
    return FakeRunner(one_by_one=False)


def test_groups_go_to_the_runner_and_their_outcomes_come_back(executor: Dispatcher, runner: FakeRunner) -> None:
    executor.submit(groups("abc"))
    for id in "ab":
        assert runner.begin() == id
        runner.end(id)
    assert ids(executor.collect(1)) == "ab"
    assert executor.in_flight == 1


def test_collect_lets_the_runner_wait_but_not_when_nothing_is_in_flight(
    executor: Dispatcher, runner: FakeRunner
) -> None:
    executor.collect(0.5)
    assert runner.waits == []
    executor.submit(groups("a"))
    executor.collect(0.5)
    assert runner.waits == [0.5]


def test_groups_of_an_id_go_to_the_runner_one_after_the_other_where_many_run_at_once(many: FakeRunner) -> None:
    executor = dispatcher(many)
    executor.submit(groups("aab"))
    executor.submit(groups("aac"))
    assert many.begin(3) == "abc"
    for left in (3, 2, 1):
        assert many.ids() == ""
        many.end("a")
        executor.collect(0)
        assert many.begin() == "a"
        assert executor.in_flight == left + len("bc")
    many.end("a")
    executor.collect(0)
    executor.submit(groups("a"))
    assert many.begin() == "a"


def test_cancelled_groups_are_not_in_flight_and_their_ids_are_free(executor: Dispatcher, runner: FakeRunner) -> None:
    executor.submit(groups("abca"))
    runner.begin(1)
    executor.cancel()
    assert (executor.in_flight, runner.ids()) == (1, "")
    executor.submit(groups("b"))
    assert runner.ids() == "b"
    runner.end("a")
    assert ids(executor.collect(0)) == "a"
    assert executor.in_flight == 1


def test_what_ends_after_a_drop_is_handed_back_to_nobody(executor: Dispatcher, runner: FakeRunner) -> None:
    executor.submit(groups("abc"))
    runner.begin(2 if not runner.one_by_one else 1)
    executor.drop()
    assert (executor.in_flight, runner.ids()) == (0, "")
    executor.submit(groups("xy"))
    runner.end("".join(runner.running))
    assert runner.turn() == "xy"
    assert ids(executor.collect(0)) == "xy"
    assert executor.in_flight == 0


def test_an_outcome_that_was_there_before_a_drop_is_handed_back_to_nobody(
    executor: Dispatcher, runner: FakeRunner
) -> None:
    executor.submit(groups("a"))
    runner.begin()
    runner.end("a")
    executor.drop()
    executor.submit(groups("b"))
    assert executor.collect(0) == []
    runner.begin()
    runner.end("b")
    assert ids(executor.collect(0)) == "b"


def test_a_group_waits_for_the_end_of_a_call_from_before_two_drops(many: FakeRunner) -> None:
    executor = dispatcher(many)
    executor.submit(groups("a"))
    many.begin()
    for _ in range(2):
        executor.drop()
        executor.submit(groups("ab"))
        assert many.ids() == "b"
    many.end("a")
    assert executor.collect(0) == []
    assert many.ids() == "ba"
    many.begin(2)
    many.end("ab")
    assert ids(executor.collect(0)) == "ab"
    assert executor.in_flight == 0


@pytest.mark.parametrize("breaks", ["_failed", "_submitted.add"])
def test_calls_whose_outcomes_the_loop_could_not_look_at_have_ended_all_the_same(
    executor: Dispatcher, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch, breaks: str
) -> None:
    """Else their ids would be busy for ever, and the only thread would wait for a word: for one, and no more."""
    executor.submit(groups("abc"))
    runner.turn()
    executor.submit(groups("de"))
    runner.end(runner.begin(), ValueError())

    def fails(*_: object) -> None:
        raise RuntimeError("unexpected")

    with monkeypatch.context() as broken:
        owner, name = (executor._submitted, "add") if "." in breaks else (executor, breaks)
        broken.setattr(owner, name, fails)
        with pytest.raises(RuntimeError):
            executor.collect(0)
    assert runner.went_on == runner.one_by_one
    executor.drop()
    executor.submit(groups("abcde"))
    assert sorted(runner.turn()) == [*"abcde"]
    assert sorted(ids(executor.collect(0))) == [*"abcde"]
    assert executor.in_flight == 0


def test_of_calls_from_before_a_drop_too(
    executor: Dispatcher, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor.submit(groups("a"))
    runner.begin()
    executor.drop()
    executor.submit(groups("a" if runner.one_by_one else "b"))
    runner.end("a")
    again = runner.begin()
    runner.end(again, ValueError())

    def fails(*_: object) -> None:
        raise RuntimeError("unexpected")

    with monkeypatch.context() as broken:
        broken.setattr(executor, "_failed", fails)
        with pytest.raises(RuntimeError):
            executor.collect(0)
    executor.drop()
    executor.submit(groups("ab"))
    assert runner.turn() == "ab"
    assert ids(executor.collect(0)) == "ab"


def test_a_cancel_after_a_drop_counts_the_old_calls_as_nobodys(executor: Dispatcher, runner: FakeRunner) -> None:
    executor.submit(groups("a"))
    runner.begin()
    executor.drop()
    executor.submit(groups("bc"))
    executor.cancel()
    assert executor.in_flight == 0


# ---------------------------------------------------------------- calls that last too long


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_call_that_lasts_too_long_has_failed_and_its_late_result_is_dropped(many: FakeRunner) -> None:
    executor = dispatcher(many, timeout=10)
    executor.submit(groups("ab"))
    many.begin(2)
    many.hanging = "a"
    [outcome] = executor.collect(0)
    assert outcome.group.id == "a"
    assert isinstance(outcome.error, TimeoutError)
    assert "PROCESS_TIMEOUT (10 s)" in str(outcome.error)
    assert executor.in_flight == 1
    many.end("ab")
    assert ids(executor.collect(0)) == "b"
    assert executor.in_flight == 0
    assert not executor.is_stuck


def test_it_fails_only_once_however_long_it_lasts(many: FakeRunner) -> None:
    clock = Clock()
    executor = dispatcher(many, timeout=10, clock=clock)
    executor.submit(groups("ab"))
    many.begin(2)
    many.hanging = "a"
    assert ids(executor.collect(0)) == "a"
    clock.now = 60
    assert executor.collect(0) == []
    assert executor.in_flight == 1


def test_the_next_group_of_its_id_waits_until_it_has_ended(many: FakeRunner) -> None:
    executor = dispatcher(many, timeout=10)
    executor.submit(groups("aa"))
    many.begin()
    many.hanging = "a"
    executor.collect(0)
    assert (many.ids(), executor.in_flight) == ("", 1)
    many.hanging = ""
    many.end("a")
    assert executor.collect(0) == []
    assert many.begin() == "a"
    many.end("a")
    assert ids(executor.collect(0)) == "a"


def test_a_call_of_an_old_assignment_that_lasts_too_long_is_nobodys(executor: Dispatcher, runner: FakeRunner) -> None:
    executor = dispatcher(runner, timeout=10)
    executor.submit(groups("a"))
    runner.begin()
    executor.drop()
    executor.submit(groups("b"))
    runner.hanging = "a"
    assert executor.collect(0) == []
    assert executor.in_flight == 1


def test_when_too_many_hang_the_worker_is_asked_to_end_once(runner: FakeRunner) -> None:
    clock = Clock()
    asked: list[bool] = []
    executor = dispatcher(runner, timeout=10, on_stuck=lambda: asked.append(True), clock=clock)
    executor.submit(groups("ab"))
    runner.begin()
    assert executor.collect(0) == []
    runner.hanging, runner.too_many = "a", True
    for clock.now in (10, 20):
        executor.collect(0)
    assert asked == [True]
    assert executor.is_stuck
    executor.cancel()
    assert executor.in_flight == 0


def test_without_a_timeout_nobody_looks(runner: FakeRunner) -> None:
    executor = dispatcher(runner)
    executor.submit(groups("a"))
    runner.begin()
    runner.hanging, runner.too_many = "a", True
    assert executor.collect(0) == []
    assert not executor.is_stuck


# ---------------------------------------------------------------- attempts

ERROR = RuntimeError("mine")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def thrice(runner: FakeRunner, clock: Clock) -> Dispatcher:
    """Three attempts; the waits between them are 1 and 2 seconds."""
    return dispatcher(runner, attempts=3, clock=clock)


def test_what_failed_is_tried_again_after_its_time(thrice: Dispatcher, runner: FakeRunner, clock: Clock) -> None:
    thrice.submit(groups("a"))
    assert runner.turn(ERROR) == "a"
    assert thrice.collect(0.02) == []
    assert thrice.in_flight == 1
    clock.now = 0.9
    thrice.collect(0.02)
    assert runner.ids() == ""
    clock.now = 1.0
    thrice.collect(0.02)
    assert runner.turn() == "a"
    [outcome] = thrice.collect(0.02)
    assert (outcome.error, outcome.attempts) == (None, 2)
    assert thrice.in_flight == 0


def test_after_the_last_attempt_it_is_handed_back_as_failed(
    thrice: Dispatcher, runner: FakeRunner, clock: Clock
) -> None:
    thrice.submit(groups("a"))
    for later in (0.0, 1.0, 2.0):
        clock.now += later
        assert thrice.collect(0) == []
        assert runner.turn(ERROR) == "a"
        if later < 2.0:
            assert thrice.collect(0) == []
    [outcome] = thrice.collect(0)
    assert (outcome.error, outcome.attempts) == (ERROR, 3)
    assert thrice.in_flight == 0


class Empty(Exception):
    def __len__(self) -> int:
        return 0


def test_an_error_that_counts_as_false_is_a_failure_all_the_same(
    thrice: Dispatcher, runner: FakeRunner, clock: Clock
) -> None:
    thrice.submit(groups("a"))
    runner.begin()
    runner.end("a", Empty())
    assert thrice.collect(0) == []
    clock.now = 1.0
    thrice.collect(0)
    assert runner.turn() == "a", "it is tried again"


def test_others_go_on_meanwhile(thrice: Dispatcher, runner: FakeRunner) -> None:
    thrice.submit(groups("abc"))
    assert runner.begin() == "a"
    runner.end("a", ERROR)
    assert thrice.collect(0) == []
    assert runner.turn() == "bc"
    assert ids(thrice.collect(0)) == "bc"
    assert thrice.in_flight == 1


def test_later_groups_of_its_id_wait_until_it_has_succeeded(
    thrice: Dispatcher, runner: FakeRunner, clock: Clock
) -> None:
    thrice.submit(groups("aab"))
    assert runner.begin() == "a"
    runner.end("a", ERROR)
    assert thrice.collect(0) == []
    thrice.submit(groups("ac"))
    assert runner.turn() == "bc"
    assert ids(thrice.collect(0)) == "bc"
    clock.now = 1.0
    thrice.collect(0)
    assert runner.turn() == "a"
    assert ids(thrice.collect(0)) == "a"
    while runner.waiting:
        runner.turn()
        assert set(ids(thrice.collect(0))) == {"a"}
    assert thrice.in_flight == 0


def test_later_groups_of_its_id_go_on_when_it_is_given_up(runner: FakeRunner) -> None:
    executor = dispatcher(runner, attempts=1)
    executor.submit(groups("aa"))
    assert runner.begin() == "a"
    runner.end("a", ERROR)
    assert executor.collect(0)[0].error is ERROR
    assert runner.turn() == "a"
    assert executor.collect(0)[0].error is None


def test_where_calls_go_one_by_one_each_failure_is_answered(clock: Clock) -> None:
    runner = FakeRunner(one_by_one=True)
    executor = dispatcher(runner, attempts=2, clock=clock)
    executor.submit(groups("ab"))
    for expected in (1, 2):
        runner.turn(ERROR)
        executor.collect(0)
        assert runner.went_on == expected
    executor.submit(groups("c"))
    runner.begin()
    executor.drop()
    runner.end("c", ERROR)
    executor.submit(groups("d"))
    executor.collect(0)
    assert runner.went_on == 3


def test_collect_waits_no_longer_than_until_something_is_due(
    thrice: Dispatcher, runner: FakeRunner, clock: Clock
) -> None:
    thrice.submit(groups("a"))
    runner.turn(ERROR)
    thrice.collect(5.0)
    clock.now = 0.75
    thrice.collect(5.0)
    assert runner.waits[-1] == 0.25
    clock.now = 1.0
    thrice.collect(5.0)
    assert runner.waits[-1] == 5.0


def test_what_waits_for_its_next_attempt_is_cancelled_and_dropped_too(thrice: Dispatcher, runner: FakeRunner) -> None:
    thrice.submit(groups("ab"))
    runner.begin()
    runner.end("a", ERROR)
    thrice.collect(0)
    thrice.cancel()
    assert thrice.in_flight == 0
    thrice.drop()
    thrice.submit(groups("a"))
    assert runner.turn(ERROR) == "a"
    thrice.collect(0)
    assert thrice.in_flight == 1


def test_what_fails_after_a_cancel_is_not_tried_again_but_left_unfinished(
    thrice: Dispatcher, runner: FakeRunner
) -> None:
    thrice.submit(groups("a"))
    runner.begin()
    thrice.cancel()
    runner.end("a", ERROR)
    assert thrice.collect(0) == []
    assert thrice.in_flight == 0


def test_a_late_call_is_tried_again_only_after_it_has_ended(many: FakeRunner, clock: Clock) -> None:
    executor = dispatcher(many, attempts=2, timeout=10, clock=clock)
    executor.submit(groups("aa"))
    many.begin()
    many.hanging = "a"
    clock.now = 11
    assert executor.collect(0) == []
    clock.now = 20
    assert executor.collect(0) == []
    assert (many.ids(), executor.in_flight) == ("", 2)
    many.hanging = ""
    many.end("a")
    executor.collect(0)
    executor.collect(0)
    assert many.turn() == "a"
    [outcome] = executor.collect(0)
    assert (outcome.error, outcome.attempts) == (None, 2)
    assert many.turn() == "a"


def test_a_late_call_that_does_not_end_is_given_up_after_as_many_times_its_time(many: FakeRunner, clock: Clock) -> None:
    executor = dispatcher(many, attempts=3, timeout=10, clock=clock)
    executor.submit(groups("ab"))
    many.begin(2)
    many.hanging = "a"
    outcomes = []
    for clock.now in (11, 15, 22, 27, 33, 38):
        outcomes += executor.collect(0)
    [outcome] = outcomes
    assert (type(outcome.error), outcome.attempts) == (TookTooLong, 3)
    many.end("ab")
    assert ids(executor.collect(0)) == "b"


def test_a_late_call_is_said_to_be_tried_again_when_it_has_returned(
    many: FakeRunner, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The log told of attempts that were never made, and when the next one would be."""
    counters = Counters()
    executor = dispatcher(many, attempts=9, timeout=10, counters=counters, clock=clock)
    executor.submit(groups("a"))
    many.begin()
    many.hanging = "a"
    for clock.now in (11, 22):
        executor.collect(0)
    assert [(each.getMessage(), each.attempt) for each in caplog.records] == [  # type: ignore[attr-defined]
        ("process() has not returned in time: it is called again when it has", number) for number in (1, 2)
    ]
    assert not hasattr(caplog.records[0], "next_try_in_s")
    assert counters.retried == 0
    many.end("a")
    executor.collect(0)
    assert counters.retried == 1


def test_a_late_call_is_tried_again_no_sooner_than_its_backoff_says(many: FakeRunner, clock: Clock) -> None:
    executor = dispatcher(many, attempts=2, backoff=8.0, timeout=10, clock=clock)
    executor.submit(groups("a"))
    many.begin()
    many.hanging = "a"
    clock.now = 11
    executor.collect(0)
    many.hanging = ""
    many.end("a")
    for clock.now in (12, 18):
        executor.collect(0)
        assert many.ids() == ""
    clock.now = 20
    executor.collect(0)
    assert many.ids() == "a"


# ---------------------------------------------------------------- calls that hang over a rebalance


def test_a_message_whose_call_hangs_over_a_rebalance_is_given_up_too(many: FakeRunner, clock: Clock) -> None:
    executor = dispatcher(many, attempts=3, timeout=10, clock=clock)
    executor.submit(groups("ab"))
    many.begin(2)
    many.hanging = "a"
    executor.drop()
    executor.submit(groups("ab"))
    outcomes = []
    for clock.now in (11, 15, 22, 27, 33, 38):
        outcomes += executor.collect(0)
    [outcome] = outcomes
    assert (outcome.group.id, type(outcome.error), outcome.attempts) == ("a", TookTooLong, 3)
    assert executor.in_flight == 1
    many.end("ab")
    assert executor.collect(0) == []  # nobody's, both of them
    assert many.turn() == "b"
    assert ids(executor.collect(0)) == "b"
    assert executor.in_flight == 0


def test_however_often_rebalances_come_the_attempts_of_a_call_that_hangs_go_on(many: FakeRunner, clock: Clock) -> None:
    executor = dispatcher(many, attempts=3, timeout=10, clock=clock)
    outcomes = []
    for clock.now in (0, 11, 15, 22, 27, 33, 38):
        executor.submit(groups("a"))
        if many.waiting:
            many.begin()
        many.hanging = "a" if clock.now else ""
        outcomes += [(clock.now, outcome.attempts) for outcome in executor.collect(0)]
        executor.cancel()
        executor.drop()
    assert outcomes[0] == (33, 3)


def test_one_whose_call_from_before_a_rebalance_ends_at_last_is_tried_again_in_its_order(
    many: FakeRunner, clock: Clock
) -> None:
    executor = dispatcher(many, attempts=3, timeout=10, clock=clock)
    executor.submit(groups("a"))
    many.begin()
    executor.drop()
    first, second = group("a", fragment(offset=0)), group("a", fragment(offset=1))
    executor.submit([first, second])
    many.hanging = "a"
    clock.now = 11
    assert executor.collect(0) == []
    many.hanging = ""
    many.end("a")
    called = []
    for clock.now in (12, 13, 14, 15):
        called += list(many.waiting)
        many.turn()
        executor.collect(0)
    assert called == [first, second]
    assert executor.in_flight == 0


@pytest.mark.parametrize("error", [None, ERROR], ids=["succeeds", "fails"])
@pytest.mark.parametrize("is_due", [False, True], ids=["rests", "is due"])
def test_what_hung_in_an_earlier_process_keeps_its_order_where_its_call_ends_after_a_rebalance(
    runner: FakeRunner, clock: Clock, error: BaseException | None, is_due: bool
) -> None:
    """One by one, the end of that call took the id from its message, which rested: the next one was called before it,
    or the loop ended with KeyError.
    """
    executor = dispatcher(runner, attempts=4, clock=clock)
    first, second, third = (group("a", fragment(offset=offset)) for offset in range(3))
    executor.recall("a", 1)
    executor.submit([first])
    clock.now = 1.0
    executor.collect(0)
    runner.begin()
    executor.drop()
    executor.recall("a", 1)
    executor.submit([first, second])
    clock.now = 5.0 if is_due else clock.now
    executor.collect(0)
    executor.submit([third])
    runner.end("a", error)
    executor.collect(0)
    called = []
    for clock.now in (6.0, 7.0, 8.0):
        executor.collect(0)
        called += list(runner.waiting)
        runner.turn()
    executor.collect(0)
    assert called == [first, second, third]
    assert executor.in_flight == 0


def test_another_message_of_the_id_is_not_taken_for_the_one_that_hangs_and_left_to_the_next_process(
    many: FakeRunner, clock: Clock
) -> None:
    asked: list[float] = []
    executor = dispatcher(many, attempts=1, timeout=10, on_stuck=lambda: asked.append(clock.now), clock=clock)
    executor.submit([group("a", fragment(offset=0))])
    many.begin()
    many.hanging = "a"
    executor.collect(0)  # it is given up
    executor.submit([group("b")])
    for clock.now in (11, 22, 33):
        assert executor.collect(0) == []
    executor.submit([group("a", fragment(offset=1))])
    for clock.now in (34, 38, 43, 45):
        assert executor.collect(0) == []
    assert asked == [45], "it has waited for as long as a call may take"


@pytest.mark.parametrize("made", [0, 1, 2])
def test_where_the_only_thread_hangs_over_a_rebalance_it_is_an_attempt_too(made: int, clock: Clock) -> None:
    runner = FakeRunner(one_by_one=True)
    executor = dispatcher(runner, attempts=3, timeout=10, clock=clock)
    executor.submit(groups("a"))
    runner.begin()
    executor.drop()
    if made:
        executor.recall("a", made)  # of processes before
    executor.submit(groups("ab"))
    clock.now = 5.0
    executor.collect(0)
    runner.hanging, runner.too_many = "a", True
    clock.now = 11.0
    given_up = executor.collect(0)
    assert executor.is_stuck
    assert [outcome.attempts for outcome in given_up] == ([3] if made == 2 else [])
    assert [(group.id, attempts) for group, attempts in executor.hung] == ([] if made == 2 else [("a", made + 1)])
    executor.cancel()
    assert executor.in_flight == 0


def test_what_hangs_from_before_a_rebalance_is_named_though_it_is_not_read_again_yet(
    runner: FakeRunner, clock: Clock
) -> None:
    executor = dispatcher(runner, attempts=3, timeout=10, clock=clock)
    executor.submit(groups("a"))
    runner.begin()
    executor.drop()
    executor.submit(groups("b"))
    runner.hanging, runner.too_many = "a", True
    clock.now = 11.0
    assert executor.collect(0) == []
    assert [(group.id, attempts) for group, attempts in executor.hung] == [("a", 1)]


def test_a_call_that_becomes_late_after_a_cancel_is_not_waited_for(many: FakeRunner, clock: Clock) -> None:
    executor = dispatcher(many, attempts=3, timeout=10, clock=clock)
    executor.submit(groups("a"))
    many.begin()
    executor.cancel()
    many.hanging = "a"
    clock.now = 11
    assert executor.collect(0) == []
    assert executor.in_flight == 0


def test_what_hangs_when_too_many_do_has_failed_once_and_is_left_to_the_next_process(
    runner: FakeRunner, clock: Clock
) -> None:
    executor = dispatcher(runner, attempts=3, timeout=10, clock=clock)
    executor.submit(groups("a"))
    runner.begin()
    runner.hanging, runner.too_many = "a", True
    assert executor.collect(0) == []
    assert [(group.id, attempts) for group, attempts in executor.hung] == [("a", 1)]
    clock.now = 100.0  # the end takes its time, as in a rebalance
    assert executor.collect(0) == []
    executor.cancel()
    assert executor.in_flight == 0


def test_the_next_process_goes_on_with_its_attempts_and_calls_others_first(runner: FakeRunner, clock: Clock) -> None:
    executor = dispatcher(runner, attempts=3, timeout=10, clock=clock)
    executor.recall("a", 2)
    executor.submit(groups("abc"))
    assert runner.turn() == "bc"
    assert ids(executor.collect(0)) == "bc"
    executor.recall("a", 2)  # read again after it was shed: nothing new
    clock.now = 2.0
    executor.collect(0)
    runner.begin()
    runner.hanging, runner.too_many = "a", True
    clock.now = 20.0
    [outcome] = executor.collect(0)
    assert (type(outcome.error), outcome.attempts) == (TookTooLong, 3)
    assert executor.is_stuck


# ---------------------------------------------------------------- what waits for its own id


def test_what_rests_or_waits_behind_its_id_is_parked_and_the_newest_of_it_can_be_shed(
    thrice: Dispatcher, runner: FakeRunner, clock: Clock
) -> None:
    sized = [Group(id, (fragment(offset=offset),), 100) for offset, id in enumerate("aaabc")]
    thrice.submit(sized)
    runner.end(runner.begin(), ERROR)
    thrice.collect(0)
    assert (thrice.in_flight, thrice.parked.groups, thrice.parked.bytes) == (5, 3, 300)
    assert thrice.shed(300) == []
    assert thrice.shed(200) == [sized[2]]
    assert (thrice.in_flight, thrice.parked.groups) == (4, 2)
    assert thrice.rests_for is None  # others are to be called
    clock.now = 1.0
    thrice.collect(0)
    thrice.submit([sized[2]])
    while runner.waiting:
        runner.turn()
        thrice.collect(0)
    assert (thrice.in_flight, thrice.parked.groups, thrice.parked.bytes) == (0, 0, 0)


def test_what_was_shed_while_it_rested_is_tried_again_no_sooner_and_its_attempts_go_on(
    thrice: Dispatcher, runner: FakeRunner, clock: Clock
) -> None:
    early, late = (Group(id, (fragment(),), 100) for id in "ab")
    thrice.submit([early])
    runner.turn(ERROR)
    thrice.collect(0)
    thrice.submit([late])
    runner.turn(Retry(after=60))
    thrice.collect(0)
    assert thrice.shed(0) == [late]
    thrice.submit([late])
    assert (thrice.in_flight, runner.ids(), thrice.rests_for) == (2, "", 1.0)
    clock.now = 60.0
    for _ in range(2):
        thrice.collect(0)
        runner.turn(ERROR)
    thrice.collect(0)
    assert thrice.find("b") == InFlight("tried again", 2.0, 2)


def test_of_what_was_shed_and_has_succeeded_the_next_message_of_its_id_has_all_attempts(
    thrice: Dispatcher, runner: FakeRunner, clock: Clock
) -> None:
    """One by one it inherited those that had failed: it could be a dead letter after a single call."""
    early, late, again = (Group(id, (fragment(offset=offset),), 100) for offset, id in enumerate("abb"))
    thrice.submit([early, late])
    for id in "ab":
        runner.end(runner.begin(), ERROR)
        assert thrice.collect(0) == [], id
    assert thrice.shed(100) == [late]
    clock.now = 1.0
    thrice.collect(0)
    assert runner.turn() == "a"
    assert ids(thrice.collect(0)) == "a"
    thrice.submit([late])
    assert runner.turn() == "b"
    [outcome] = thrice.collect(0)
    assert (outcome.error, outcome.attempts) == (None, 2)
    thrice.submit([again])
    assert thrice.find("b") == InFlight("queued", 0.0, 0)
    assert runner.turn() == "b"
    assert [outcome.attempts for outcome in thrice.collect(0)] == [1]


def test_a_message_that_others_had_left_behind_and_that_succeeds_says_nothing_of_the_next_of_its_id(
    runner: FakeRunner, clock: Clock
) -> None:
    """One by one it was still said of it: what fails then was no sign of an outage."""
    executor = dispatcher(runner, attempts=2, clock=clock)
    for id in (chr(ord("A") + number) for number in range(OUTAGE)):
        executor.failed_before(id)
        executor.submit(groups(id))
        runner.turn()
        assert ids(executor.collect(0)) == id
    for id in (chr(ord("A") + number) for number in range(OUTAGE)):
        executor.submit(groups(id))
        runner.turn(ERROR)
        executor.collect(0)
    assert executor.circuit_open_for == 0


def test_a_failure_that_is_final_takes_back_nothing_that_waits(
    executor: Dispatcher, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a tenth of Reject the 8,000 that waited were taken back and submitted again for each."""
    monkeypatch.setattr(runner, "cancel", lambda: pytest.fail("taken back"))
    executor.submit(groups("abc"))
    runner.end(runner.begin(), Reject("never"))
    assert ids(executor.collect(0)) == "a"
    assert runner.ids() == "bc"
    assert not runner.halted
    assert runner.turn() == "bc"
    assert ids(executor.collect(0)) == "bc"


@pytest.mark.parametrize("reads", [1, 5])
def test_of_what_asked_to_be_tried_in_an_hour_none_is_tried_each_time_that_it_is_read_again(
    thrice: Dispatcher, runner: FakeRunner, clock: Clock, monkeypatch: pytest.MonkeyPatch, reads: int
) -> None:
    """Of 300,000, memory had room for 113,000. Of the others all were called at each reading, once a minute."""
    monkeypatch.setattr("utils.processing.parking.MOST_NOTED", 1)
    waiting = [Group(id, (fragment(offset=offset),), 100) for offset, id in enumerate("abcde")]
    thrice.submit(waiting)
    while runner.waiting:
        runner.turn(Retry(after=3600))
        assert thrice.collect(0) == []
    for _ in range(reads):
        waiting = sorted(thrice.shed(0), key=lambda each: each.id)
        clock.now += 60.0
        thrice.submit(waiting)
        assert thrice.collect(0) == []
        assert not runner.waiting
    clock.now += 3600.0
    thrice.collect(0)
    assert sorted(runner.ids()) == list("abcde")


def test_what_rests_too_long_to_be_remembered_is_never_given_up_for_it(
    thrice: Dispatcher, runner: FakeRunner, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 200,000 messages that asked to be tried in an hour, some were dead letters after some minutes."""
    monkeypatch.setattr("utils.processing.parking.MOST_NOTED", 1)
    waiting = [Group(id, (fragment(offset=offset),), 100) for offset, id in enumerate("abc")]
    for wait in (0, 3600, 60, 60, 60):  # one of them is called in its time, and may be given up after three such calls
        clock.now += wait
        thrice.submit(waiting)
        thrice.collect(0)
        while runner.waiting:
            runner.turn(Retry(after=3600))
            assert thrice.collect(0) == []
        waiting = sorted(thrice.shed(0), key=lambda each: each.id)
        assert len(waiting) >= 2


def test_nor_is_what_left_memory_while_it_was_put_aside(
    thrice: Dispatcher, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While messages ran apart each reading counted as an attempt."""
    monkeypatch.setattr("utils.processing.parking.MOST_NOTED", 1)

    def fail(groups: list[Group]) -> None:
        thrice.submit(groups)
        while runner.waiting:
            runner.turn(Retry(after=3600))
            assert thrice.collect(0) == []

    fail([Group(id, (fragment(offset=offset),), 100) for offset, id in enumerate("abcd")])
    aside = Parking()
    thrice.put_aside(aside)
    forgotten = [each for each in thrice.shed_aside(aside, 0) if each.id not in aside.due]
    assert len(forgotten) == 2
    for _ in range(2):
        fail(forgotten)
        thrice.put_aside(Parking())


def test_what_is_taken_back_brings_along_when_those_may_be_tried_that_left_memory_meanwhile(
    thrice: Dispatcher, runner: FakeRunner, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where they were too many to know the time of each, they were tried as soon as they were read again."""
    monkeypatch.setattr("utils.processing.parking.MOST_NOTED", 1)
    aside = Parking()
    for id in "abcd":
        aside.rest(Group(id, (fragment(),), 100), 60.0)
    shed = sorted(aside.shed(0), key=lambda each: each.id)
    assert [each.id for each in shed] == list("bcd")
    thrice.take_back(aside)
    thrice.submit(shed)
    thrice.collect(0)
    assert (runner.ids(), thrice.rests_for) == ("", 60.0)
    clock.now = 60.0
    thrice.collect(0)
    assert sorted(runner.ids()) == list("abcd")


def test_in_an_outage_nothing_is_shed_for_what_is_held_came_later(thrice: Dispatcher, runner: FakeRunner) -> None:
    outage(thrice, runner, further=3)
    assert thrice.shed(0) == []


def test_in_an_outage_in_which_all_rests_the_newest_is_shed_for_what_is_not_read_yet(
    thrice: Dispatcher, runner: FakeRunner, clock: Clock
) -> None:
    """With more in memory than there is room for, of ids that all fail, nothing was read any more: not the one either
    that would have shown the end of the outage.
    """
    sized = [Group(id, (fragment(offset=offset),), 100) for offset, id in enumerate(MANY)]
    thrice.submit(sized)
    for _ in MANY:
        runner.end_one(runner.begin(), ERROR)
        thrice.collect(0)
    assert (thrice.circuit_open_for, thrice.parked.groups) == (0.0, len(MANY))
    shed = thrice.shed(100)
    assert len(shed) == len(MANY) - 1
    thrice.submit(groups("x"))
    while not thrice.collect(0):
        clock.now += 1.0
        if runner.waiting:
            id = runner.begin()
            runner.end_one(id, None if id == "x" else ERROR)
    assert thrice.circuit_open_for is None
    thrice.submit(shed)
    assert thrice.in_flight == len(MANY)


def test_where_calls_go_one_by_one_only_the_next_of_an_id_is_called_after_one_was_given_up(clock: Clock) -> None:
    runner = FakeRunner(one_by_one=True)
    executor = dispatcher(runner, attempts=2, clock=clock)
    executor.submit(groups("aaa"))
    runner.end(runner.begin(), ERROR)
    executor.collect(0)
    clock.now = 10.0
    executor.collect(0)
    runner.end(runner.begin(), ERROR)
    assert ids(executor.collect(0)) == "a"
    assert (runner.ids(), executor.parked.groups) == ("a", 1)
    runner.turn()
    assert ids(executor.collect(0)) == "a"
    assert (runner.ids(), executor.parked.groups) == ("a", 0)


# ---------------------------------------------------------------- outages

MANY = [str(number) for number in range(OUTAGE)]


def outage(executor: Dispatcher, runner: FakeRunner, further: int = 0) -> None:
    """So many ids fail that the circuit opens; some more have been submitted."""
    executor.submit([group(id) for id in MANY] + [group(f"further-{number}") for number in range(further)])
    for _ in MANY:
        id = runner.begin()
        runner.end_one(id, ERROR)
        assert executor.collect(0) == []


def test_in_an_outage_nothing_is_called_but_probes_with_different_ids(
    thrice: Dispatcher, runner: FakeRunner, clock: Clock
) -> None:
    outage(thrice, runner, further=3)
    assert not runner.waiting
    thrice.submit(groups("z"))
    assert not runner.waiting
    probes = []
    for clock.now in range(1, 100):
        assert thrice.collect(0) == []
        if runner.waiting:
            probes.append(runner.begin())
            assert not runner.waiting
            runner.end_one(probes[-1], ERROR)
    assert 10 <= len(probes) <= 14
    assert len(set(probes)) == len(probes)
    assert thrice.in_flight == OUTAGE + 4


def test_behind_many_bad_messages_the_good_ones_are_soon_found(
    thrice: Dispatcher, runner: FakeRunner, clock: Clock
) -> None:
    outage(thrice, runner, further=500)
    thrice.submit([group("good-1"), group("good-2")])
    probes: list[str] = []
    while "good" not in "".join(probes):
        clock.now += 1
        thrice.collect(0)
        while runner.waiting and not runner.halted:
            probes.append(runner.begin())
            runner.end_one(probes[-1], None if "good" in probes[-1] else ERROR)
    assert probes == ["further-0", "good-2"]
    [outcome] = thrice.collect(0)
    assert outcome.group.id == "good-2"
    assert thrice.circuit_open_for is None


def test_among_many_bad_messages_those_that_were_due_again_are_not_taken_for_the_newest(
    thrice: Dispatcher, runner: FakeRunner, clock: Clock
) -> None:
    tried = [group(f"tried-{number}") for number in range(OUTAGE // 2)]
    thrice.submit(tried)
    for _ in tried:
        runner.end_one(runner.begin(), ERROR)
        thrice.collect(0)
    thrice.submit([*(group(f"bad-{number}") for number in range(100)), group("good")])
    clock.now = 5.0  # they are called behind the good one
    thrice.collect(0)
    while thrice.circuit_open_for is None:
        runner.end_one(runner.begin(), ERROR)
        thrice.collect(0)
    assert thrice.find("tried-0") == InFlight("tried again", 0.0, 0)
    assert [probes_of(thrice, runner, clock) for _ in range(2)][-1] == ["good"]


def probes_of(executor: Dispatcher, runner: FakeRunner, clock: Clock) -> list[str]:
    """The next probe, and that it fails unless it is a good one."""
    while not runner.waiting:
        clock.now += 1.0
        executor.collect(0)
    probes = [each.id for each in runner.waiting]
    runner.end_one(runner.begin(), None if "good" in probes else ERROR)
    executor.collect(0)
    return probes


def test_what_was_put_aside_and_is_handed_over_again_is_the_next_probe(
    thrice: Dispatcher, runner: FakeRunner, clock: Clock
) -> None:
    """It rested in place of that: its batch was over before it was called, and each commit named another group."""
    outage(thrice, runner)
    aside, probes = Parking(), list[str]()
    thrice.put_aside(aside)
    for _ in range(2):
        thrice.submit([aside.rested()])
        assert thrice.rests_for is None
        probes += probes_of(thrice, runner, clock)
        thrice.put_aside(aside)
    assert probes == MANY[:2]


def test_what_was_shed_and_comes_again_in_an_outage_is_tried_no_sooner(
    thrice: Dispatcher, runner: FakeRunner, clock: Clock
) -> None:
    late = Group("late", (fragment(),), 100)
    thrice.submit(groups("a"))
    runner.turn(Retry(after=1))
    thrice.collect(0)
    thrice.submit([late])
    runner.end_one(runner.begin(), Retry(after=60))
    thrice.collect(0)
    assert thrice.shed(0) == [late]
    outage(thrice, runner)
    thrice.submit([late])
    assert thrice.find("late") == InFlight("tried again", 60.0, 1)
    assert not thrice.parked.notes_some


def test_a_probe_with_the_newest_id_takes_the_oldest_group_of_it(
    thrice: Dispatcher, runner: FakeRunner, clock: Clock
) -> None:
    outage(thrice, runner)
    first, second = (group("x", fragment(offset=offset)) for offset in range(2))
    thrice.submit([group("a"), group("b"), first, group("c"), second])
    probes: list[Group] = []
    for clock.now in (1.0, 10.0):
        thrice.collect(0)
        assert runner.begin() in "ax"
        probes += runner.running.values()
        runner.end_one(probes[-1].id, ERROR)
        thrice.collect(0)
    assert probes[-1] is first


def test_bad_messages_alone_are_given_up_in_the_end_one_with_a_probe(
    thrice: Dispatcher, runner: FakeRunner, clock: Clock
) -> None:
    outage(thrice, runner)
    clock.now = FREE_PROBES_FOR
    probed_at, given_up = [], 0
    while thrice.in_flight:
        clock.now += 1.0
        outcomes = thrice.collect(0)
        assert len(outcomes) <= 1
        given_up += len(outcomes)
        if runner.waiting:
            probed_at.append(clock.now)
            runner.end_one(runner.begin(), ERROR)
    assert given_up == OUTAGE
    assert len(probed_at) == 3 * OUTAGE
    assert min(later - before for before, later in pairwise(probed_at[10:])) >= LONGEST_PROBE
    thrice.submit(groups("z"))
    clock.now += 2 * LONGEST_PROBE
    thrice.collect(0)
    assert runner.turn() == "z"
    assert ids(thrice.collect(0)) == "z"


def test_where_an_id_is_can_be_asked(thrice: Dispatcher, runner: FakeRunner, clock: Clock) -> None:
    thrice.submit(groups("abcb"))
    runner.begin()
    assert thrice.find("a") == InFlight("called", 7.0, 0)
    assert thrice.find("c") == InFlight("queued", 0.0, 0)
    assert thrice.find("z") is None
    runner.end("a", ERROR)
    thrice.collect(0)
    assert thrice.find("a") == InFlight("tried again", 1.0, 1)
    thrice.submit(groups("a"))
    assert thrice.find("a") == InFlight("tried again", 1.0, 1)
    thrice.drop()
    assert thrice.find("a") is None


def test_where_calls_go_side_by_side_an_id_is_found_too(many: FakeRunner, clock: Clock) -> None:
    executor = dispatcher(many, attempts=3, clock=clock)
    executor.submit(groups("abab"))
    many.begin()
    assert executor.find("a") == InFlight("called", 7.0, 0)
    assert executor.find("b") == InFlight("queued", 0.0, 0)
    many.end("a")
    executor.collect(0)
    assert executor.find("a") == InFlight("queued", 0.0, 0)  # its second group
    assert executor.find("z") is None


def test_while_the_circuit_is_open_what_is_held_is_found(thrice: Dispatcher, runner: FakeRunner, clock: Clock) -> None:
    before = thrice.circuit_open_for
    outage(thrice, runner, further=2)
    clock.now = 3.0
    assert (before, thrice.circuit_open_for) == (None, 3.0)
    assert thrice.find("further-1") == InFlight("queued", 0.0, 0)
    assert thrice.find(MANY[0]) == InFlight("tried again", -2.0, 0)


def test_a_probe_that_succeeds_ends_it_and_all_that_was_held_is_called(
    thrice: Dispatcher, runner: FakeRunner, clock: Clock
) -> None:
    outage(thrice, runner, further=3)
    clock.now = 1.0
    thrice.collect(0)
    probe = runner.begin()
    runner.end_one(probe)
    [outcome] = thrice.collect(0)
    assert (outcome.group.id, outcome.attempts) == (probe, 1)
    done = [probe]
    for clock.now in (10.0, 11.0, 12.0):
        done += [outcome.group.id for outcome in thrice.collect(0)]
        while runner.waiting:
            runner.end_one(runner.begin())
    assert sorted(done) == sorted([*MANY, *(f"further-{number}" for number in range(3))])
    assert thrice.in_flight == 0


@pytest.mark.parametrize("end", [None, Reject("no")], ids=["succeeds", "is rejected"])
def test_the_order_within_an_id_outlasts_an_outage(
    thrice: Dispatcher, runner: FakeRunner, clock: Clock, end: Exception | None
) -> None:
    first, second, third = (group("x", fragment(offset=offset)) for offset in range(3))
    thrice.submit([first])
    runner.end_one(runner.begin(), ERROR)
    thrice.collect(0)
    thrice.submit([second])
    outage_but_one = [group(id) for id in MANY[1:]]
    thrice.submit(outage_but_one)
    for _ in outage_but_one:
        runner.end_one(runner.begin(), ERROR)
        thrice.collect(0)
    thrice.submit([third])
    order = []
    for clock.now in range(5, 60):
        order += [outcome.group.fragments[0].offset for outcome in thrice.collect(0) if outcome.group.id == "x"]
        while runner.waiting and not runner.halted:
            id = runner.begin()
            runner.end_one(id, end if id == "x" and not order else None if order else ERROR)
    assert order == [0, 1, 2]
    assert thrice.in_flight == 0


def test_a_probe_that_is_invalid_is_followed_by_the_next_at_once(
    thrice: Dispatcher, runner: FakeRunner, clock: Clock
) -> None:
    outage(thrice, runner, further=2)
    clock.now = 1.0
    thrice.collect(0)
    runner.end_one(runner.begin(), Reject("no"))
    assert len(thrice.collect(0)) == 1
    thrice.collect(0)
    assert len(runner.waiting) == 1


def test_after_a_drop_in_an_outage_the_next_probe_is_one_of_the_new_groups(
    thrice: Dispatcher, runner: FakeRunner, clock: Clock
) -> None:
    outage(thrice, runner)
    clock.now = 1.0
    thrice.collect(0)
    old = runner.begin()
    thrice.drop()
    thrice.submit(groups("z"))
    runner.end_one(old)
    thrice.collect(0)
    thrice.collect(0)
    assert runner.begin() == "z"
    runner.end_one("z")
    assert ids(thrice.collect(0)) == "z"


def test_without_a_group_to_probe_with_collect_waits_as_long_as_it_was_asked_to(
    thrice: Dispatcher, runner: FakeRunner, clock: Clock
) -> None:
    outage(thrice, runner)
    clock.now = 1.0
    thrice.collect(0)
    assert len(runner.waiting) == 1
    thrice.collect(0.02)
    assert runner.waits[-1] == 0.02


def test_what_hangs_in_an_outage_is_left_to_the_next_process(many: FakeRunner, clock: Clock) -> None:
    executor = dispatcher(many, attempts=1, timeout=10, clock=clock)
    executor.submit([group(id) for id in MANY])
    many.begin(OUTAGE)
    many.hanging_ids, many.too_many = MANY, True
    given_up = executor.collect(0)
    assert executor.is_stuck
    assert len(given_up) == OUTAGE - 1  # with one attempt only, those before it was clear


def test_where_different_ids_have_hung_in_one_process_after_the_other_it_is_an_outage(
    runner: FakeRunner, clock: Clock
) -> None:
    hung: dict[str, int] = {}
    probes = []
    for _ in range(2 * OUTAGE):  # processes
        executor = dispatcher(runner, attempts=2, timeout=10, clock=clock)
        for id, attempts in hung.items():
            executor.recall(id, attempts)
        executor.submit([group(id) for id in (*MANY, *(f"further-{number}" for number in range(50)))])
        while not runner.waiting:
            clock.now += 1.0
            assert executor.collect(0) == []
        probes.append(runner.begin())
        runner.hanging_ids, runner.too_many = [probes[-1]], True
        clock.now += 20.0
        assert executor.collect(0) == []  # none is given up
        hung |= {each.id: attempts for each, attempts in executor.hung}
        runner = FakeRunner(one_by_one=runner.one_by_one)
    assert len(set(probes[:OUTAGE])) == OUTAGE
    assert executor.circuit_open_for is not None


def test_what_hung_in_earlier_processes_while_others_succeeded_is_no_outage_and_its_attempts_go_on(
    runner: FakeRunner, clock: Clock
) -> None:
    """With 20 of them it was one for good: none ever became a dead letter, and each process ended with the first."""
    executor = dispatcher(runner, attempts=2, timeout=10, clock=clock)
    for id in MANY:
        executor.failed_before(id)
        executor.recall(id, 1)
    assert executor.circuit_open_for is None
    executor.submit([group(id) for id in MANY])
    clock.now = 10.0
    assert executor.collect(0) == []
    runner.hanging_ids, runner.too_many = [runner.begin()], True
    clock.now = 30.0
    assert ids(executor.collect(0)) == runner.hanging_ids[0], "it is given up"


def test_what_is_recalled_to_be_tried_at_once_comes_before_what_was_read_after_it(
    runner: FakeRunner, clock: Clock
) -> None:
    executor = dispatcher(runner, attempts=2, timeout=10, clock=clock)
    executor.recall("a", 1, at_once=True)
    executor.submit(groups("ab"))
    assert runner.begin() == "a"


def test_in_an_outage_over_restarts_what_has_hung_is_tried_after_all_others(runner: FakeRunner, clock: Clock) -> None:
    """It is read first, and ended each process, though others would have succeeded.

    Nor the oldest of the others first: no commit may have room for it, and it may end each process, too.
    """
    executor = dispatcher(runner, attempts=2, timeout=10, clock=clock)
    for id in MANY:
        executor.recall(id, 1)
    executor.submit([group(id) for id in (*MANY, "new", "newer")])
    clock.now = 100.0
    assert executor.circuit_open_for == 100.0
    executor.collect(0)
    assert runner.begin() == "newer"
    runner.end_one("newer")
    executor.collect(0)
    executor.collect(0)
    assert runner.begin() == "new"


# ---------------------------------------------------------------- all of it, at random


class Chaos:
    """Groups of few ids, calls that begin, end, fail and hang in any order, cancels and drops at any moment."""

    def __init__(self, random: Random, *, one_by_one: bool) -> None:
        self.random = random
        self.runner = FakeRunner(one_by_one=one_by_one)
        self.clock = Clock()
        self.executor = dispatcher(self.runner, attempts=3, timeout=10, clock=self.clock)
        self.number = 0
        self.owed: dict[str, list[int]] = defaultdict(list)  # by id, the groups that must come back, in their order
        self.down = True  # everything fails
        self.shed: list[Group] = []

    def step(self) -> None:
        self.clock.now += self.random.choice((0, 0.1, 1, 5))
        steps = (self.submit, self.begin, self.end, self.hang, self.drop, self.turn, self.shed_some, self.submit_again)
        self.random.choices(steps, (4, 9, 9, 1, 1, 1, 2, 1))[0]()
        self.collect()

    def submit(self) -> None:
        for _ in range(self.random.randrange(30)):
            id = str(self.random.randrange(40))
            self.owed[id].append(self.number)
            one = Group(id, (fragment(offset=self.number),), 100)
            self.number += 1
            if id in [each.id for each in self.shed]:
                self.shed.append(one)
            else:
                self.executor.submit([one])

    def begin(self) -> None:
        while self.runner.waiting and not (self.runner.one_by_one and (self.runner.running or self.runner.halted)):
            self.runner.begin()
            if self.random.random() < 0.2:
                break

    def end(self) -> None:
        for id in self.random.sample(sorted(self.runner.running), self.random.randint(0, len(self.runner.running))):
            failed = self.down or self.random.random() < 0.3
            self.runner.end_one(id, self.random.choice((ERROR, ERROR, Reject("no"))) if failed else None)

    def hang(self) -> None:
        if not self.runner.one_by_one:  # the only thread: the process would end
            self.runner.hanging_ids = self.random.sample(sorted(self.runner.running), len(self.runner.running) // 2)

    def drop(self) -> None:
        if self.random.random() < 0.5:
            self.executor.cancel()
        self.executor.drop()
        again = sorted((number, id) for id, numbers in self.owed.items() for number in numbers)
        self.owed.clear()
        self.shed.clear()
        for number, id in again if self.random.random() < 0.5 else ():  # the partitions come back, and are read again
            self.owed[id].append(number)
            self.executor.submit([Group(id, (fragment(offset=number),), 100)])

    def turn(self) -> None:
        self.down = self.random.random() < 0.6

    def collect(self) -> None:
        self.runner.hanging_ids = [id for id in self.runner.hanging_ids if id in self.runner.running]
        for outcome in self.executor.collect(0):
            assert outcome.group.fragments[0].offset == self.owed[outcome.group.id].pop(0)
        assert self.executor.in_flight == sum(map(len, self.owed.values())) - len(self.shed)
        parked = self.executor.parked
        assert parked.groups == sum(map(len, parked.busy.values())) + sum(map(parked.rests, parked.busy))

    def shed_some(self) -> None:
        """The newest of their ids, which are not submitted again before they are."""
        self.shed += self.executor.shed(self.executor.parked.bytes // 2)

    def submit_again(self) -> None:
        shed, self.shed = self.shed, []
        self.executor.submit(sorted(shed, key=lambda group: group.fragments[0].offset))

    def settle(self) -> None:
        """Nothing fails any more: all must come back."""
        self.down = False
        self.runner.hanging_ids = []
        self.submit_again()
        for _ in range(2_000):
            if not self.executor.in_flight:
                break
            self.clock.now += 1
            while self.runner.waiting and not (self.runner.one_by_one and (self.runner.running or self.runner.halted)):
                self.runner.begin()
            for id in list(self.runner.running):
                self.runner.end_one(id)
            self.collect()
        assert self.executor.in_flight == 0


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.booleans())
def test_each_group_comes_back_once_in_the_order_of_its_id_and_never_two_are_called_at_once(
    seed: int, one_by_one: bool
) -> None:
    chaos = Chaos(Random(seed), one_by_one=one_by_one)
    for _ in range(80):
        chaos.step()
    chaos.settle()


def test_a_flood_of_calls_that_are_tried_again_does_not_fill_the_log(
    many: FakeRunner, caplog: pytest.LogCaptureFixture
) -> None:
    """A tenth of 2,000 calls a second that failed wrote 20 GB of log a day."""
    now = 0.0
    executor = dispatcher(many, attempts=9, backoff=1e6, clock=lambda: now)

    def lines(number: int) -> list[int]:
        caplog.clear()
        for _ in range(number):
            executor.submit(groups("ab"))
            many.turn(ZeroDivisionError())
            many.done[1] = Outcome(many.done[1].group, [])  # every other one succeeds: there is no outage
            executor.collect(0)
            executor.drop()
        return [vars(each).get("not_logged", 0) for each in caplog.records]

    assert lines(LINES + 7) == [0] * LINES
    now = SPAN
    assert lines(2) == [7, 0]


def test_where_one_call_runs_at_a_time_a_failure_leaves_what_waits_where_it_is_unless_its_id_is_among_it() -> None:
    """All that waited was taken back at each failure: where a fifth of 8,000 failed, 1 % of the rate was left."""
    runner = FakeRunner(one_by_one=True)
    executor = dispatcher(runner, attempts=9)
    executor.submit(groups("abcdb"))
    for id, waits in (("a", "bcdb"), ("b", "cd")):
        assert runner.begin() == id
        runner.end(id, ZeroDivisionError())
        executor.collect(0)
        assert runner.ids() == waits
        assert not runner.halted
        assert bool(runner.taken) == (id == "b")
