"""Topics that hold the same ids: however the client fetches them, none runs so far ahead that memory overflows.

Numbers of records are a hundredth of those in production, with messages of 200 B and a MAX_PENDING_BYTES of 256 MB.
"""

from typing import Any, cast

import pytest
from confluent_kafka import Consumer

from tests.builders import admin, partition_offsets
from tests.reading.feeds import Fetches, FetchingConsumer, know_to_be_together
from utils.joining.aggregator import Aggregator, size_of
from utils.joining.messages import Fragment
from utils.metrics import Counters
from utils.reading.intake import Intake
from utils.reading.waiting import Waiting

VALUE = b"x" * 200
ONE = size_of([Fragment(0, cast(Any, None), 0, VALUE)])
ROOM, RECORDS = 2_440, 6_000  # RECORDS: of a topic
BATCH, TAKES = 10, 0.0003  # records that are read at once; seconds that each takes: so the whole is a few seconds
IDLE = 0.01  # seconds
MB = 50  # records


class Reading:
    """All topics, to their ends."""

    def __init__(self, topics: str, partitions: int, room: int, fetches: Fetches) -> None:
        names = [(topic, number) for topic in topics for number in range(partitions)]
        self.now = 0.0
        self.consumer = FetchingConsumer(names, RECORDS // partitions, fetches)
        self.counters = Counters()
        ends = admin(lambda _at: RECORDS // partitions)
        self.intake = Intake(cast(Consumer, self.consumer), self.counters, ends, lambda: self.now)
        self.intake.rebalanced([partition_offsets(0, None, *at) for at in names])
        know_to_be_together(self.intake)
        self._index = {topic: index for index, topic in enumerate(topics)}
        self.waiting = Waiting(Aggregator(len(topics)), self.intake, self._index, room * ONE, self.counters)
        self.joined, self.read, self.most_held = 0, 0, 0

    def to_the_end(self) -> "Reading":
        while not self.consumer.is_done or self.waiting.groups.bytes:
            ids, fragments = [], []
            for at, offset in self.consumer.consume(BATCH, self.now):
                self.read, self.now = self.read + 1, self.now + TAKES
                offsets = self.intake.owned.partitions[at]
                if offsets.read(offset):
                    ids.append(f"{at[1]}:{offset}")
                    fragments.append(Fragment(self._index[at[0]], offsets, offset, VALUE, arrival=self.now))
            complete = self.waiting.add(ids, fragments, self.now)
            self.joined += len(complete)
            self.most_held = max(self.most_held, self.waiting.groups.bytes // ONE)
            self.now += 0 if ids else IDLE
            self.waiting.balance(self.now)
            assert self.now < 100 * RECORDS * TAKES, "it does not come to an end"
        return self


@pytest.mark.parametrize("topics", ["ab", "abc"])
@pytest.mark.parametrize("partitions", [1, 8, 16, 64, 256])
@pytest.mark.parametrize("piece", [MB, 4 * MB])
@pytest.mark.parametrize("round_trip", [0.0, 0.05])
def test_a_topic_that_is_fetched_before_its_siblings_is_held_back_before_memory_is_full(
    topics: str, partitions: int, piece: int, round_trip: float
) -> None:
    fetches = Fetches(piece, answer=50 * MB, queue=32 * MB, round_trip=round_trip)
    reading = Reading(topics, partitions, ROOM, fetches).to_the_end()
    assert reading.joined == RECORDS // partitions * partitions
    assert reading.counters.shed == 0
    assert reading.read == reading.joined * len(topics)


@pytest.mark.parametrize("partitions", [8, 16, 64])
def test_so_it_is_where_memory_has_far_less_room_than_one_answer_brings(partitions: int) -> None:
    reading = Reading("ab", partitions, ROOM // 8, Fetches(4 * MB, answer=50 * MB, queue=32 * MB)).to_the_end()
    assert reading.joined == RECORDS // partitions * partitions
    assert reading.counters.shed == 0
    assert reading.most_held < ROOM // 8 * 3 // 4


@pytest.mark.parametrize("partitions", [8, 16, 64, 256])
def test_topics_that_come_side_by_side_are_not_held_back(partitions: int) -> None:
    reading = Reading("ab", partitions, ROOM, Fetches(32 * MB // (2 * partitions), answer=50 * MB, queue=32 * MB))
    reading.to_the_end()
    assert reading.consumer.fetched == reading.joined * 2  # what is paused is fetched twice
