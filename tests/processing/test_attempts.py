"""When a message is tried again, when it is given up, and when it is not the message's fault."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.joining.messages import InvalidMessage, InvalidResult
from utils.processing.attempts import FREE_PROBES_FOR, LONGEST_BACKOFF, LONGEST_PROBE, OUTAGE, Attempts, Backoff
from utils.retry import LONGEST_RETRY, Reject, Retry

ERROR = RuntimeError("mine")
NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


def attempts(limit: int = 3, backoff: float = 1.0) -> Attempts:
    """Without jitter."""
    return Attempts(limit, backoff, lambda: 0.5)


def fail(many: Attempts, ids: range, now: float = 0.0) -> list[float | None]:
    return [many.failed(str(id), ERROR, now) for id in ids]


def test_each_wait_is_twice_as_long_as_the_one_before_until_the_last_attempt() -> None:
    mine = attempts(limit=4, backoff=2.0)
    assert [mine.failed("a", ERROR, 100.0) for _ in range(4)] == [102.0, 104.0, 108.0, None]
    assert mine.forget("a") == 4


def test_with_one_attempt_nothing_is_tried_again() -> None:
    assert attempts(limit=1).failed("a", ERROR, 0.0) is None


def test_ids_are_counted_apart_and_a_success_says_how_many_attempts_it_took() -> None:
    mine = attempts()
    mine.failed("a", ERROR, 0.0)
    mine.failed("a", ERROR, 0.0)
    mine.failed("b", ERROR, 0.0)
    assert (mine.succeeded("a"), mine.succeeded("b"), mine.succeeded("c")) == (3, 2, 1)
    assert mine.failed("a", ERROR, 0.0) == 1.0


@given(st.integers(1, 200), st.floats(0, 1), st.floats(0.01, 3600))
def test_no_wait_is_longer_than_its_bound_with_jitter_nor_shorter_than_half_the_first(
    failures: int, jitter: float, first: float
) -> None:
    longest = max(LONGEST_BACKOFF, first)
    assert first / 2 <= Backoff(first, longest, lambda: jitter).wait(failures) <= longest * 1.5


def test_jitter_spreads_what_failed_together() -> None:
    draws = iter((0.0, 1.0))
    mine = Attempts(3, 10.0, lambda: next(draws))
    assert [mine.failed("a", ERROR, 0.0), mine.failed("b", ERROR, 0.0)] == [5.0, 15.0]


def test_retry_says_when_and_counts_as_an_attempt() -> None:
    mine = attempts(limit=3)
    assert mine.failed("a", Retry("busy", after=30), 100.0) == 130.0
    assert mine.failed("a", Retry(), 100.0) == 102.0
    assert mine.failed("a", Retry(after="7"), 100.0) is None


@pytest.mark.parametrize("after", ["Wed, 25 Nov 2026 22:00:00 GMT", "", "inf", "nan"])
def test_what_is_no_number_of_seconds_does_not_say_when(after: str) -> None:
    assert attempts().failed("a", Retry("busy", after=after), 100.0) == 101.0


@pytest.mark.parametrize("after", [1e300, "99999999999", LONGEST_RETRY, LONGEST_RETRY + 1])
def test_no_message_waits_for_longer_than_a_day_at_a_time(after: float | str) -> None:
    assert attempts().failed("a", Retry("busy", after=after), 100.0) == 100.0 + 24 * 3600
    assert attempts().failed("a", Busy(after), 100.0) == 100.0 + 24 * 3600


def test_a_time_in_the_past_is_at_once() -> None:
    assert attempts().failed("a", Retry(after=-5), 100.0) == 100.0


@pytest.mark.parametrize("after", [timedelta(minutes=5), Decimal(300), Fraction(300)])
def test_a_time_may_be_given_as_any_number_or_as_a_time(after: Any) -> None:
    """It was taken as if there were none: an attempt after 1, 3, 7 and 15 s, and then a dead letter."""
    assert attempts().failed("a", Retry("busy", after=after), 100.0) == 400.0


@pytest.mark.parametrize(
    "given", [{"why": 300}, {"why": 0.5}, {"why": timedelta(minutes=5)}, {"after": [300]}, {"after": NOON}]
)
def test_what_can_be_no_time_or_stands_in_the_wrong_place_is_an_error_of_its_own(given: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=r"Retry\(why, after=seconds\)"):
        Retry(**given)


class Busy(Retry):
    """As a user would write it, who has not read how Retry is made."""

    def __init__(self, after: object = None) -> None:
        if after is not None:
            self.after = after  # type: ignore[assignment]


class Computed(Retry):
    def __init__(self, error: BaseException) -> None:
        self.error = error

    @property
    def after(self) -> float:  # type: ignore[override]
        raise self.error


class Odd(float):
    def __float__(self) -> float:
        raise RuntimeError("no seconds")


@pytest.mark.parametrize("error", [Computed(ValueError("no header")), Computed(SystemExit(1)), Busy(Odd(7))])
def test_an_own_kind_of_retry_that_fails_to_say_when_does_not_say_when(error: Retry) -> None:
    assert attempts().failed("a", error, 100.0) == 101.0


@pytest.mark.parametrize(("after", "due"), [("7", 107.0), (b"7", 101.0), ([], 101.0), (10**400, 101.0), (None, 101.0)])
def test_an_own_kind_of_retry_may_say_what_it_likes(after: object, due: float) -> None:
    assert attempts().failed("a", Busy(after), 100.0) == due


@pytest.mark.parametrize("error", [Reject("no such customer"), InvalidMessage("no JSON")])
def test_what_can_never_succeed_is_given_up_at_once(error: Exception) -> None:
    mine = attempts()
    assert mine.failed("a", error, 0.0) is None
    assert mine.forget("a") == 1
    assert mine.circuit.is_quiet


def test_an_invalid_result_is_a_failure_like_any_other() -> None:
    assert attempts().failed("a", InvalidResult("no dict"), 0.0) == 1.0


# ---------------------------------------------------------------- the circuit


def test_it_opens_when_so_many_different_ids_fail_in_a_row() -> None:
    mine = attempts()
    opened = []
    for id in range(OUTAGE):
        mine.failed(str(id), ERROR, 0.0)
        opened.append(mine.circuit.is_open)
    assert opened == [False] * (OUTAGE - 1) + [True]


def test_one_message_that_always_fails_does_not_open_it() -> None:
    mine = attempts(limit=1000)
    for _ in range(500):
        mine.failed("poison", ERROR, 0.0)
    assert not mine.circuit.is_open


def test_a_success_in_between_begins_the_count_anew() -> None:
    mine = attempts()
    fail(mine, range(OUTAGE - 1))
    mine.succeeded("other")
    fail(mine, range(100, 100 + OUTAGE - 1))
    assert not mine.circuit.is_open
    assert not mine.circuit.is_quiet
    mine.succeeded("other")
    assert mine.made("0") == 1


@pytest.mark.parametrize(("ids", "messages"), [(2, 10 * OUTAGE), (3, OUTAGE), (OUTAGE - 1, OUTAGE)])
def test_where_few_ids_are_there_messages_that_come_after_each_other_open_it(ids: int, messages: int) -> None:
    """Of ten devices, say, each message became a dead letter for as long as a service was down."""
    mine, left = attempts(limit=3), messages
    given_up = 0
    while not mine.circuit.is_open and left > 0:
        for id in range(ids):
            for _ in range(3):
                if mine.failed(str(id), ERROR, 0.0) is None:
                    mine.forget(str(id))
                    given_up, left = given_up + 1, left - 1
                    break
    assert mine.circuit.is_open == (ids > 2)
    if ids > 2:
        assert given_up < OUTAGE
        assert all(0 <= mine.made(str(id)) <= 1 for id in range(ids)), "what was given up is not taken off again"


def test_many_messages_that_always_fail_do_not_open_it_while_others_succeed() -> None:
    mine = attempts(limit=1000)
    for round in range(500):
        mine.failed(str(round % 50), ERROR, 0.0)
        if round % 10 == 0:
            mine.succeeded("good")
    assert not mine.circuit.is_open


def test_attempts_of_the_row_that_opens_it_and_those_while_it_is_open_do_not_count() -> None:
    mine = attempts(limit=3)
    mine.failed("0", ERROR, 0.0)
    mine.succeeded("good")  # so the first failure of 0 counts
    fail(mine, range(1, OUTAGE + 1))
    assert mine.circuit.is_open
    mine.failed("0", ERROR, 0.0)
    assert (mine.made("0"), mine.made("1")) == (1, 0)
    for _ in range(10):
        assert mine.failed("1", ERROR, 0.0) is not None
    assert mine.made("1") == 0
    mine.succeeded("good")
    assert [mine.failed("1", ERROR, 0.0) is None for _ in range(3)] == [False, False, True]


def test_also_the_last_attempt_does_not_count_when_it_opens_it() -> None:
    mine = attempts(limit=1)
    given_up = [due is None for due in fail(mine, range(OUTAGE))]
    assert given_up == [True] * (OUTAGE - 1) + [False]


def test_what_failed_before_others_succeeded_says_nothing_of_an_outage() -> None:
    mine = attempts(limit=10)
    for ten in (range(10), range(10, 20), range(20, 30)):  # as at the end of a feed, when only bad ones are left
        fail(mine, ten)
        mine.succeeded("good")
    for _ in range(8):
        fail(mine, range(30))
    assert not mine.circuit.is_open
    assert fail(mine, range(30)) == [None] * 30


def test_what_failed_in_an_outage_and_fails_again_after_it_does_not_open_it_again() -> None:
    mine = attempts(limit=3)
    poison = range(2 * OUTAGE)
    fail(mine, poison)
    mine.succeeded("good")
    states = []
    for _ in range(3):
        given_up = fail(mine, poison)
        states.append(mine.circuit.is_open)
    assert states == [False] * 3
    assert given_up == [None] * len(poison)


def test_of_an_outage_after_it_no_attempt_counts_either() -> None:
    mine = attempts(limit=3)
    fail(mine, range(OUTAGE))
    mine.succeeded("good")
    fail(mine, range(OUTAGE))
    assert mine.made("0") == 1
    fail(mine, range(100, 100 + OUTAGE))
    assert mine.circuit.is_open
    assert mine.made("0") == 0


def test_an_outage_of_hours_costs_no_attempt_but_bad_messages_alone_do_not_stay_for_ever() -> None:
    mine = attempts(limit=3)
    fail(mine, range(OUTAGE), now=100.0)
    for _ in range(50):
        assert mine.failed("0", ERROR, 100.0 + FREE_PROBES_FOR - 1) is not None
    assert mine.made("0") == 0
    given_up = [mine.failed("0", ERROR, 100.0 + FREE_PROBES_FOR) is None for _ in range(3)]
    assert given_up == [False, False, True]
    assert mine.circuit.is_open


def test_results_that_are_invalid_say_nothing_of_an_outage() -> None:
    mine = attempts()
    for id in range(2 * OUTAGE):
        mine.failed(str(id), InvalidResult("no dict"), 0.0)
    assert mine.circuit.is_quiet


def test_probes_come_ever_more_rarely_but_never_too_rarely() -> None:
    mine = attempts(backoff=1.0)
    fail(mine, range(OUTAGE), now=100.0)
    waits = []
    for _ in range(6):
        waits.append(mine.circuit.next_probe - 100.0)
        mine.circuit.probing()
        assert mine.circuit.next_probe == float("inf")
        mine.circuit.probed(100.0)
    assert waits == [1.0, 2.0, 4.0, 8.0, LONGEST_PROBE, LONGEST_PROBE]


def test_a_success_closes_it() -> None:
    mine = attempts()
    fail(mine, range(OUTAGE))
    mine.succeeded("0")
    assert not mine.circuit.is_open
    assert mine.circuit.next_probe == float("inf")


def test_what_others_left_behind_before_a_restart_is_no_sign_of_an_outage() -> None:
    many = attempts()
    for id in range(3 * OUTAGE):
        many.failed_before(str(id))
        many.failed(str(id), ERROR, 0.0)
    opened = [many.circuit.opened_at]
    fail(many, range(1_000, 1_000 + OUTAGE))
    assert [*opened, many.circuit.opened_at] == [None, 0.0]
    assert many.made("0") == 0


def test_a_message_that_process_wants_later_is_no_outage_unless_it_wants_it_later_once_more() -> None:
    mine = attempts(limit=5)
    for number in range(200):
        assert mine.failed(str(number), Retry("not settled yet", after=5), 100.0) == 105.0
    assert mine.circuit.opened_at is None
    for number in range(200):
        mine.failed(str(number), Retry("not settled yet", after=5), 200.0)
    assert mine.circuit.opened_at == 200.0
