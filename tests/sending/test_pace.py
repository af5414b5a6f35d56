"""How much may be on its way at once follows how long it took before."""

from utils.sending.pace import CAREFULLY, FIRST, MOST, WITHIN, Pace


def test_what_is_acknowledged_soon_is_followed_by_somewhat_more_up_to_a_limit() -> None:
    pace = Pace()
    pace.passed(FIRST, WITHIN / 2)
    assert pace.size == FIRST + FIRST // CAREFULLY
    for _ in range(1000):
        pace.passed(pace.size, WITHIN / 2)
    assert pace.size == MOST


def test_what_takes_long_is_followed_by_as_much_as_would_have_been_in_time() -> None:
    pace = Pace()
    pace.passed(FIRST, 4 * WITHIN)
    assert pace.size == FIRST // 4


def test_a_little_that_takes_long_tells_nothing() -> None:
    pace = Pace()
    pace.passed(100, 4 * WITHIN)
    assert pace.size == FIRST


def test_after_a_failure_it_is_a_quarter_but_never_nothing() -> None:
    pace = Pace()
    pace.failed()
    assert (pace.size, pace.has_failed) == (FIRST // 4, True)
    for _ in range(50):
        pace.failed()
        pace.passed(1, 1000 * WITHIN)
    assert pace.size == 1


def test_it_is_never_more_than_the_queue_of_the_client_takes() -> None:
    pace = Pace()
    pace.at_most(1000)
    pace.passed(1000, 0)
    assert pace.size == 1000
