"""Over what of a partition reading leaps."""

from typing import cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from tests.builders import partition_offsets
from utils.joining.offsets import OffsetMap, PartitionOffsets
from utils.joining.states import States
from utils.metrics import Counters
from utils.reading.leaps import Leaps
from utils.reading.owned import OwnedPartitions

FAR, END = 5, 40


class Seeks:
    """A consumer."""

    def __init__(self) -> None:
        self.seeks: list[tuple[str, int]] = []
        self.refuses: int | None = None

    def seek(self, to: TopicPartition) -> None:
        if self.refuses is not None:
            raise KafkaException(KafkaError(self.refuses))
        self.seeks.append((to.topic, to.offset))


def leaps_over(*partitions: PartitionOffsets) -> tuple[Seeks, Leaps]:
    consumer = Seeks()
    owned = OwnedPartitions(cast(Consumer, consumer), Counters(), lambda: 0.0)
    owned.rebalanced(partitions)
    leaps = Leaps(cast(Consumer, consumer), owned, FAR)
    leaps.is_due = True
    return consumer, leaps


def loaded(topic: str, *unfinished: int) -> PartitionOffsets:
    states = States.of_runs(((each, each + 1) for each in unfinished), unfinished[0], END)
    return partition_offsets(unfinished[0], OffsetMap("", unfinished[0], 0, 0, states), topic)


@pytest.mark.parametrize(
    ("unfinished", "read", "to"),
    [
        ((0, 6), 0, []),  # it is at the one that waits
        ((0, 6), 1, [6]),
        ((0, 5), 1, []),  # it is near
        ((0, 20, 30), 3, [20]),
        ((0, 20, 30), 21, [30]),
        ((0,), 1, [END]),  # where the first new one will be
        ((0, 38), 39, []),
    ],
)
def test_it_goes_on_at_the_next_that_is_to_be_done(unfinished: tuple[int, ...], read: int, to: list[int]) -> None:
    at, beside = loaded("a", *unfinished), partition_offsets(0, None, "b")
    consumer, leaps = leaps_over(at, beside)
    for offset in range(read):
        at.read(offset)
    leaps.take()
    assert consumer.seeks == [("a", offset) for offset in to]
    assert at.position == (to[0] if to else read)
    leaps.take()
    assert consumer.seeks == [("a", offset) for offset in to], "once"
    assert at.unfinished() == len(unfinished), "nothing is finished by it, and nothing is gone"
    assert at.take_gone() == 0


def test_what_was_shed_and_is_read_again_is_not_leapt_over() -> None:
    at = partition_offsets(0, None, "a")
    for offset in range(30):
        assert at.read(offset)
        if offset not in {3, 20}:
            at.finish(offset)
    at.drop(3, 1)
    at.drop(20, 2)
    at.set_back()
    consumer, leaps = leaps_over(at)
    leaps.take()
    assert (consumer.seeks, at.position) == ([], 3)
    assert at.read(3)
    leaps.take()
    assert consumer.seeks == [], "it was not due"
    leaps.is_due = True
    leaps.take()
    assert consumer.seeks == [("a", 20)]
    assert at.read(20)


@pytest.mark.parametrize("code", [KafkaError._STATE, KafkaError._PREV_IN_PROGRESS])
def test_where_the_client_does_not_read_just_now_what_is_done_is_read_again(code: int) -> None:
    """Retention has just overtaken the partition, say. The worker started again."""
    at = loaded("a", 0, 20)
    consumer, leaps = leaps_over(at)
    at.read(0)
    consumer.refuses = code
    leaps.take()
    assert (at.position, at.read(1), at.position) == (1, False, 2)
    leaps.is_due, consumer.refuses = True, KafkaError._FAIL
    with pytest.raises(KafkaException):
        leaps.take()
