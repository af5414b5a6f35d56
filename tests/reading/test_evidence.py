"""What a group need not wait for any longer, beside transactions that hide the end of a partition."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import IsolationLevel
from confluent_kafka.admin import AdminClient

from tests.builders import partition_offsets
from tests.fakes import FakeAdmin, FakeConsumer
from utils.joining.layout import Layout
from utils.joining.offsets import PartitionOffsets
from utils.metrics import Counters
from utils.reading.evidence import PATIENCE, Evidence
from utils.reading.intake import Intake
from utils.reading.siblings import Siblings

A = ("a", 0)
NEVER, TIMEOUT, NOW = float("-inf"), 60.0, 1_000.0


class FiveRecords(FakeAdmin):
    def offset_of(self, at: tuple[str, int], spec: object, isolation: IsolationLevel | None) -> int:
        return 5


class Hiding(FakeAdmin):
    """Of five records an open transaction hides the last two."""

    def offset_of(self, at: tuple[str, int], spec: object, isolation: IsolationLevel | None) -> int:
        return 3 if isolation is IsolationLevel.READ_COMMITTED else 5


def siblings(
    *, are_together: bool = True, are_all_here: bool = False, some_are_left_out: bool = False
) -> SimpleNamespace:
    return SimpleNamespace(
        may_be_elsewhere=lambda _now: False,
        are_together=lambda: are_together,
        are_all_here=lambda: are_all_here,
        some_are_left_out=some_are_left_out,
    )


@pytest.mark.parametrize(
    ("read", "arrived_by"),
    [
        (2, NEVER),  # there is more that can be read
        (3, NOW - 2 * TIMEOUT),  # the rest is waited for, for MESSAGE_TIMEOUT once more
        (5, NOW - TIMEOUT),
    ],
)
def test_what_an_open_transaction_hides_is_waited_for_once_more(read: int, arrived_by: float) -> None:
    offsets = partition_offsets()
    for offset in range(read):
        offsets.read(offset)
    owned = SimpleNamespace(partitions={A: offsets})
    evidence = Evidence(cast(AdminClient, Hiding()), cast(Any, owned), cast(Any, siblings()))
    evidence.waited_enough(NOW, TIMEOUT)  # asks for the ends
    assert evidence.waited_enough(NOW, TIMEOUT)[A].arrived_by == arrived_by


@pytest.mark.parametrize(
    ("are_together", "are_all_here", "arrived_by"),
    [
        (True, False, NOW - TIMEOUT),  # it can only be there, or with a worker that does not tell
        (True, True, NOW - TIMEOUT - PATIENCE * TIMEOUT),
        (False, True, NEVER),
    ],
)
def test_who_has_all_partitions_waits_for_those_of_other_numbers(
    are_together: bool, are_all_here: bool, arrived_by: float
) -> None:
    """What a producer had put elsewhere, or lay there since partitions were added, was given up unread."""
    partitions = {
        (topic, number): partition_offsets(topic=topic, partition=number) for topic in "ab" for number in (0, 1)
    }
    for at, offsets in partitions.items():
        for offset in range(2 if at == ("b", 1) else 5):
            offsets.read(offset)
    known = siblings(are_together=are_together, are_all_here=are_all_here)
    evidence = Evidence(
        cast(AdminClient, FiveRecords()), cast(Any, SimpleNamespace(partitions=partitions)), cast(Any, known)
    )
    evidence.waited_enough(NOW, TIMEOUT)
    enough = evidence.waited_enough(NOW, TIMEOUT)
    assert enough["b", 0].arrived_by == arrived_by
    assert enough["b", 1].arrived_by == NEVER
    assert enough["a", 1].arrived_by == NOW - TIMEOUT


@pytest.mark.parametrize("are_together", [False, True])
def test_what_may_be_in_a_partition_without_a_leader_is_waited_for(are_together: bool) -> None:
    """Where the producers of the topics hash differently, say, a missing part may be in each. It was given up."""
    known = siblings(are_together=are_together, some_are_left_out=True)
    owned = SimpleNamespace(partitions={(topic, 0): partition_offsets(topic=topic) for topic in "ab"})
    for offsets in owned.partitions.values():
        for offset in range(5):
            offsets.read(offset)
    evidence = Evidence(cast(AdminClient, FiveRecords()), cast(Any, owned), cast(Any, known))
    evidence.waited_enough(NOW, TIMEOUT)
    waits = 0 if are_together else PATIENCE * TIMEOUT
    assert {each.arrived_by for each in evidence.waited_enough(NOW, TIMEOUT).values()} == {NOW - TIMEOUT - waits}


def test_partitions_without_a_leader_are_told_of_at_each_assignment() -> None:
    intake = Intake(cast(Any, FakeConsumer()), Counters(), cast(AdminClient, FiveRecords()))
    for left_out in ({("a", 1), ("b", 1)}, set()):
        intake.rebalanced([partition_offsets()], left_out)
        assert intake.siblings.some_are_left_out is bool(left_out)
        assert intake.without_leader == left_out


@pytest.mark.parametrize(("there", "are_all_here"), [(2, True), (3, False)])
def test_whether_all_partitions_are_here_is_told_by_how_many_the_topics_have(there: int, are_all_here: bool) -> None:
    """Those of the same numbers may be here, and others of the topics with another worker."""
    layout = Layout("id", partitions=there)
    partitions = {(topic, number): PartitionOffsets(topic, number, layout, 0) for topic in "ab" for number in (0, 1)}
    keys = SimpleNamespace(are_alike=lambda _topics, *, all_records: all_records)
    known = Siblings(cast(Any, SimpleNamespace(partitions=partitions)), cast(Any, keys), lambda: NOW)
    assert known.are_all_here() == are_all_here
    assert known.are_together()
    assert not known.may_be_elsewhere(NOW)
    del partitions["b", 1]
    assert not known.are_all_here()
    assert known.may_be_elsewhere(NOW)
