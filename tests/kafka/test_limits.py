"""How long a map in a commit may be: by what brokers tell, by what they refuse, and by the size of the request."""

import pytest

from utils.joining.offsets import MAX_METADATA, CommitPoint
from utils.kafka.limits import (
    _BESIDE,
    _REFERENCE,
    _REQUEST,
    LARGEST_BATCH,
    LEAST_METADATA,
    CommitLimits,
    least_commit,
)

GROUP = "orders"


def points(*lengths: int) -> list[CommitPoint]:
    return [CommitPoint("a", number, 5, "x" * length) for number, length in enumerate(lengths)]


def size(committed: list[CommitPoint], limit: int) -> int:
    """Of the request, when longer maps than that are stored elsewhere."""
    metadata = [len(each.metadata) if len(each.metadata) <= limit else _REFERENCE for each in committed]
    return sum(metadata) + len(committed) * (len(GROUP) + len("a") + _BESIDE)


def test_in_a_small_commit_the_limit_of_the_brokers_alone_counts() -> None:
    assert CommitLimits().longest_map(points(100, 4095, 50_000), GROUP) == MAX_METADATA
    assert CommitLimits(1023).longest_map(points(100, 4095), GROUP) == 1023
    assert CommitLimits().longest_map([], GROUP) == MAX_METADATA


def test_of_a_commit_that_is_too_large_the_longest_maps_go() -> None:
    committed = points(*range(3_000, 3_262))
    assert size(committed, MAX_METADATA) > _REQUEST
    limit = CommitLimits().longest_map(committed, GROUP)
    assert size(committed, limit) <= _REQUEST < size(committed, limit + 1)


def test_maps_that_do_not_fit_anyway_count_as_their_references() -> None:
    assert CommitLimits(1023).longest_map(points(*[4_000] * 262), GROUP) == 1023
    assert CommitLimits().longest_map(points(*[50_000] * 262), GROUP) == MAX_METADATA


def test_what_is_no_longer_than_a_reference_stays() -> None:
    limit = CommitLimits().longest_map(points(*[_REFERENCE] * 5_000, 4_000), GROUP)
    assert _REFERENCE <= limit < 4_000


def test_262_partitions_with_long_maps_make_a_commit_far_below_the_limit_of_the_broker() -> None:
    committed = points(*[4_000] * 262)
    assert size(committed, CommitLimits().longest_map(committed, GROUP)) < 500_000


def test_a_refusal_lowers_the_limit_once_to_what_is_known_to_be_taken() -> None:
    limits = CommitLimits(taken=900)
    assert limits.lower()
    assert limits.metadata == 900
    assert not limits.lower()


@pytest.mark.parametrize("taken", [0, 100])
def test_it_is_never_lowered_below_what_a_commit_needs(taken: int) -> None:
    limits = CommitLimits(taken=taken)
    assert limits.lower()
    assert limits.metadata == LEAST_METADATA


def test_what_a_predecessor_has_stored_is_not_tried_where_brokers_do_not_tell() -> None:
    limits, told = CommitLimits(), CommitLimits(told=True)
    for each in (limits, told):
        each.note_stored(50_000)
    assert limits.metadata == told.metadata == MAX_METADATA
    for each in (limits, told):
        each.note_stored(2_000)
    assert (limits.metadata, told.metadata) == (1_999, MAX_METADATA)
    limits.note_stored(100)
    assert limits.metadata == LEAST_METADATA


def test_where_brokers_take_little_a_commit_is_half_of_it_at_most() -> None:
    committed = points(*[4_000] * 40)
    limit = CommitLimits(batch=40_000).longest_map(committed, GROUP)
    assert size(committed, limit) <= 20_000


@pytest.mark.parametrize(
    ("partitions", "fits"),
    [({"a": 64, "b": 64}, True), ({"a": 2_500, "b": 2_500}, False), ({f"t{n:03}": 12 for n in range(100)}, False)],
)
def test_a_commit_of_all_partitions_may_be_more_than_brokers_take(partitions: dict[str, int], fits: bool) -> None:
    assert (least_commit(GROUP, partitions) <= LARGEST_BATCH) is fits
