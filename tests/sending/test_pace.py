"""How much may be on its way at once follows how long it took before."""

from random import Random

import pytest

from utils.sending.pace import CAREFULLY, FIRST, LITTLE, MOST, PATIENCE_OF_A_TRANSACTION, WITHIN, Pace


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


@pytest.mark.parametrize("fixed", [0.5, 1.5, 1.9, 2.1, 2.7, 4.0])
def test_a_transaction_that_takes_as_long_however_little_it_is_does_not_become_less_and_less(fixed: float) -> None:
    """From 2 s on each was smaller than the one before, down to one group: brokers that are 450 ms away are enough."""
    pace, took = Pace(), list[float]()
    pace.at_most(MOST, PATIENCE_OF_A_TRANSACTION)
    for _ in range(100):
        took.append(fixed + pace.size / 10_000_000)
        pace.passed(pace.size, took[-1])
    assert pace.size > FIRST
    assert max(took) < 4.6, "it is aborted after 5 s"


@pytest.mark.parametrize("fixed", [1.5, 2.7, 3.5])
def test_chance_makes_a_transaction_not_less_and_less(fixed: float) -> None:
    """Seen with brokers that are 450 ms away: 2.6 to 3.3 s each."""
    pace, random, sizes, took = Pace(), Random(7), list[int](), list[float]()
    pace.at_most(MOST, PATIENCE_OF_A_TRANSACTION)
    for _ in range(300):
        took.append(fixed * random.uniform(0.95, 1.2) + pace.size / 10_000_000)
        pace.passed(pace.size, took[-1])
        sizes.append(pace.size)
    assert min(sizes[100:]) > LITTLE / 2
    assert sorted(sizes[100:])[100] > FIRST / 4, "mostly"
    assert max(took) < 4.9, "it is aborted after 5 s"


@pytest.mark.parametrize("fixed", [0.5, 1.5, 2.7])
def test_a_transaction_that_takes_longer_the_more_is_in_it_becomes_less(fixed: float) -> None:
    pace, took = Pace(), list[float]()
    pace.at_most(MOST, PATIENCE_OF_A_TRANSACTION)
    for _ in range(100):
        took.append(fixed + pace.size / 500_000)
        pace.passed(pace.size, took[-1])
    assert max(took[10:]) < max(fixed, PATIENCE_OF_A_TRANSACTION) + 1.2 * WITHIN
    assert pace.size > 50_000


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
