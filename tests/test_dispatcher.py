"""Which group may be called when: with a runner whose calls end when the test says so."""

from collections import deque
from collections.abc import Iterable

import pytest

from tests.builders import group
from utils.aggregator import Group
from utils.dispatcher import Dispatcher
from utils.executor import Call, Outcome, Overdue


class FakeRunner:
    """A Runner that begins no call by itself."""

    def __init__(self, *, one_by_one: bool) -> None:
        self.one_by_one = one_by_one
        self.waiting: deque[Group] = deque()
        self.running: dict[str, Group] = {}
        self.done: list[Outcome] = []
        self.waits: list[float] = []  # that collect() was asked for
        self.hanging = ""  # ids of calls that are overdue
        self.too_many = False

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
        return cancelled

    def overdue(self, limit: float) -> Overdue:
        return Overdue([self.running[id] for id in self.hanging], self.too_many)

    def calls(self) -> list[Call]:
        return []

    def close(self, timeout: float) -> None: ...

    def begin(self, number: int = 1) -> str:
        """Begin the calls of so many groups; their ids."""
        begun = [self.waiting.popleft() for _ in range(number)]
        for each in begun:
            assert each.id not in self.running, "the same id twice at once"
            self.running[each.id] = each
        return "".join(each.id for each in begun)

    def end(self, ids: str, error: BaseException | None = None) -> None:
        for id in ids:
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
    return Dispatcher(runner)


@pytest.fixture
def many() -> FakeRunner:
    return FakeRunner(one_by_one=False)


def test_groups_go_to_the_runner_and_their_outcomes_come_back(executor: Dispatcher, runner: FakeRunner) -> None:
    executor.submit(groups("abc"))
    assert runner.begin(2) == "ab"
    runner.end("ab")
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
    executor = Dispatcher(many)
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
    runner.begin(2)
    runner.end("xy")
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
    executor = Dispatcher(many)
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
    executor = Dispatcher(many, timeout=10)
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
    executor = Dispatcher(many, timeout=10, clock=clock)
    executor.submit(groups("ab"))
    many.begin(2)
    many.hanging = "a"
    assert ids(executor.collect(0)) == "a"
    clock.now = 60
    assert executor.collect(0) == []
    assert executor.in_flight == 1


def test_the_next_group_of_its_id_waits_until_it_has_ended(many: FakeRunner) -> None:
    executor = Dispatcher(many, timeout=10)
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
    executor = Dispatcher(runner, timeout=10)
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
    executor = Dispatcher(runner, 10, lambda: asked.append(True), clock)
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
    executor = Dispatcher(runner)
    executor.submit(groups("a"))
    runner.begin()
    runner.hanging, runner.too_many = "a", True
    assert executor.collect(0) == []
    assert not executor.is_stuck
