"""Whether a client that has no assignment will never get one."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future

from utils.kafka.absence import AGAIN, ANSWERS, PATIENCE, SELDOM, SILENT, UNANSWERED, Absence


def at_once(ask: Callable[[], str]) -> Future[str]:
    future: Future[str] = Future()
    future.set_result(ask())
    return future


class Bench:
    def __init__(self, *answers: str) -> None:
        self.now = 1000.0
        self.asked: list[float] = []
        self._answers: Iterator[str] = iter(answers)
        self.absence = Absence(self._ask, at_once)

    def _ask(self) -> str:
        self.asked.append(self.now)
        return next(self._answers)

    def looks(self, seconds: float, *, is_assigned: bool = False) -> bool:
        """Each second; whether it is for good at the end, and not before."""
        for _ in range(int(seconds)):
            assert not self.absence.is_for_good(self.now, is_assigned=is_assigned)
            self.now += 1.0
        return self.absence.is_for_good(self.now, is_assigned=is_assigned)


def test_where_the_group_does_without_us_and_nothing_is_under_way_the_client_joins_no_more() -> None:
    """A worker whose broker was frozen for longer than the session stood still for good: its client never joined."""
    bench = Bench("EMPTY", "STABLE", "DEAD")
    assert bench.looks(PATIENCE + (ANSWERS - 1) * AGAIN)
    assert bench.asked == [1000.0 + PATIENCE + number * AGAIN for number in range(ANSWERS)]


def test_a_rebalance_and_brokers_that_are_away_are_waited_for() -> None:
    waits = ["PREPARING_REBALANCING", "STABLE", "STABLE", "COMPLETING_REBALANCING", "", "STABLE", "STABLE", ""]
    bench = Bench(*waits)
    assert not bench.looks(PATIENCE + (len(waits) - 2) * AGAIN + SELDOM)
    assert len(bench.asked) == len(waits)


def test_an_answer_is_not_waited_for_and_none_is_asked_for_before_it() -> None:
    """Else a worker that is to stop would wait for brokers that are away."""
    open_ones: list[Future[str]] = []

    def apart(_ask: Callable[[], str]) -> Future[str]:
        open_ones.append(Future())
        return open_ones[-1]

    absence = Absence(lambda: "EMPTY", apart)
    for now in range(int(PATIENCE + UNANSWERED)):
        assert not absence.is_for_good(float(now), is_assigned=False)
    [asked] = open_ones
    asked.set_result("EMPTY")
    assert not absence.is_for_good(100.0, is_assigned=False)
    assert not absence.is_for_good(100.0 + AGAIN, is_assigned=False)
    assert len(open_ones) == 2


def test_a_question_that_never_ends_is_not_waited_for() -> None:
    """It ends with the client that has asked, and such a client may not end: then nobody was ever asked again."""
    absence = Absence(lambda: "EMPTY", lambda _ask: Future())
    ends = next(now for now in range(3600) if absence.is_for_good(float(now), is_assigned=False))
    assert ends == PATIENCE + SILENT * UNANSWERED + (SILENT - 1) * SELDOM


def test_who_has_an_assignment_asks_nobody_and_the_time_without_one_begins_with_its_end() -> None:
    bench = Bench()
    assert not bench.looks(10 * PATIENCE, is_assigned=True)
    assert not bench.looks(PATIENCE - 1)
    assert not bench.looks(1, is_assigned=True)
    assert not bench.looks(PATIENCE - 1)
    assert bench.asked == []


def test_answers_before_an_assignment_count_no_more() -> None:
    bench = Bench(*["EMPTY"] * (ANSWERS - 1), *["EMPTY"] * ANSWERS)
    assert not bench.looks(PATIENCE + (ANSWERS - 2) * AGAIN)
    assert not bench.looks(1, is_assigned=True)
    assert bench.looks(PATIENCE + (ANSWERS - 1) * AGAIN)


def test_where_nobody_answers_for_minutes_all_clients_are_made_anew() -> None:
    """The one that asks may have lost its brokers for good, too: then nobody ever told."""
    bench = Bench("", "PREPARING_REBALANCING", *[""] * SILENT)
    assert bench.looks(PATIENCE + SELDOM + AGAIN + (SILENT - 1) * SELDOM)
