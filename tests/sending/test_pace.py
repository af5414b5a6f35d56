"""How much may be on its way at once follows how long it took before."""

import pytest

from utils.sending.pace import CAREFULLY, FIRST, MOST, PATIENCE_OF_A_TRANSACTION, WITHIN, Pace


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


@pytest.mark.parametrize("fixed", [1.2, 3.2, 15.0])
def test_what_takes_as_long_however_little_it_is_does_not_become_less_and_less(fixed: float) -> None:
    """As many partitions, each a request that waits for the answer to the one before."""
    pace = Pace()
    for _ in range(200):
        pace.passed(pace.size, fixed + pace.size / 50_000_000)
    assert pace.size > MOST / 2


def test_of_a_slow_output_to_many_partitions_only_the_time_for_bytes_counts() -> None:
    pace = Pace()
    took = []
    for _ in range(200):
        took.append(3.0 + pace.size / 100_000)
        pace.passed(pace.size, took[-1])
    assert 50_000 < pace.size < 150_000
    assert max(took[100:]) < 3.0 + 1.5 * WITHIN


def test_once_it_is_quicker_it_must_stay_so() -> None:
    pace = Pace()
    for _ in range(50):
        pace.passed(pace.size, 3.0)
    pace.passed(pace.size, 0.1)
    size = pace.size
    pace.passed(size, 4 * WITHIN)
    assert pace.size < size / 3


def test_a_transaction_is_kept_from_its_time_out_whatever_takes_so_long() -> None:
    pace = Pace()
    pace.at_most(MOST, PATIENCE_OF_A_TRANSACTION)
    pace.passed(pace.size, 4.0)
    for _ in range(50):
        pace.passed(pace.size, 3.0)  # whatever is sent
    assert pace.size < 100


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
