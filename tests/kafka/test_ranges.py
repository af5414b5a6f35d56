"""Records of given ranges, read once each."""

from collections import Counter
from collections.abc import Sequence
from itertools import count
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from utils.kafka.ranges import QUIET, Range, records_of

Partition = tuple[str, int]


class Record:
    def __init__(self, at: Partition, offset: int, time: float, value: bytes | None) -> None:
        self._at, self._offset, self._time, self._value = at, offset, time, value

    def topic(self) -> str:
        return self._at[0]

    def partition(self) -> int:
        return self._at[1]

    def offset(self) -> int:
        return self._offset

    def key(self) -> bytes | None:
        return None

    def value(self) -> bytes | None:
        return self._value

    def headers(self) -> None:
        return None

    def timestamp(self) -> tuple[int, int]:
        return 1, int(self._time * 1000)

    def error(self) -> None:
        return None


class Failed(Record):
    def __init__(self, code: int) -> None:
        super().__init__(("a", 0), 0, 0.0, None)
        self._code = code

    def error(self) -> Any:
        return KafkaError(self._code)


class FakeConsumer:
    """Hands out what it is assigned, some at a time. A value that is None is a marker of a transaction."""

    def __init__(self, logs: dict[Partition, list[tuple[float, bytes | None]]], some: int = 3) -> None:
        self.logs = logs
        self.events: list[Record] = []
        self.handed_out: Counter[tuple[str, int, int]] = Counter()
        self.assigned: dict[Partition, int] = {}
        self._moved: set[Partition] = set()
        self._some = some
        self._there: list[Record] = []
        self._known: set[str] = set()

    def list_topics(self, topic: str, timeout: float) -> None:
        assert timeout > 0
        self._known.add(topic)

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        assert self._known >= {each.topic for each in partitions}, "the client would look for it a second later"
        self.assigned, self._moved = {(each.topic, each.partition): each.offset for each in partitions}, set()

    def incremental_unassign(self, partitions: Sequence[TopicPartition]) -> None:
        for each in partitions:
            del self.assigned[each.topic, each.partition]

    def unassign(self) -> None:
        self.assigned = {}

    def poll(self, _timeout: float) -> Record | None:
        self._there += self.fetched()
        return self._there.pop(0) if self._there else None

    def consume(self, _number: int, timeout: float) -> list[Record]:
        assert timeout == 0, "it would wait for a full batch"
        records, self._there = self._there, []
        return records

    def fetched(self) -> list[Record]:
        records, self.events = self.events, []
        for at, first in self.assigned.items():
            for offset in range(first, min(first + self._some, len(self.logs[at]))):
                time, value = self.logs[at][offset]
                self.assigned[at] = offset + 1
                self._moved.add(at)
                if value is not None:
                    self.handed_out[*at, offset] += 1
                    records.append(Record(at, offset, time, value))
        return records

    def position(self, partitions: Sequence[TopicPartition]) -> list[TopicPartition]:
        """Of what has not moved yet, the client knows none."""
        places = [(each.topic, each.partition) for each in partitions]
        return [TopicPartition(*at, self.assigned[at] if at in self._moved else -1001) for at in places]


def read(consumer: FakeConsumer, ranges: dict[Partition, Range], clock: Any = lambda: 0.0) -> list[tuple[int, int]]:
    batches = records_of(cast(Consumer, consumer), ranges, clock)
    return [(int(each.partition() or 0), int(each.offset() or 0)) for batch in batches for each in batch]


LOG: list[tuple[float, bytes | None]] = [(float(each), b"%d" % each) for each in range(10)]


def test_all_of_each_range_is_read_once_and_nothing_beyond() -> None:
    consumer = FakeConsumer({("a", 0): LOG, ("a", 1): LOG, ("a", 2): LOG})
    found = read(consumer, {("a", 0): (2, 4), ("a", 1): (0, 10), ("a", 2): (5, 5)})
    assert sorted(found) == [(0, 2), (0, 3), *[(1, each) for each in range(10)]]
    assert consumer.assigned == {}


def test_a_range_that_ends_with_markers_has_an_end() -> None:
    consumer = FakeConsumer({("a", 0): [*LOG, (10.0, None), (11.0, None)]}, some=1)
    assert len(read(consumer, {("a", 0): (8, 12)})) == 2


def test_brokers_that_do_not_answer_any_more_are_an_error() -> None:
    times = count(step=int(QUIET) // 2)
    with pytest.raises(KafkaException):
        read(FakeConsumer({("a", 0): LOG}), {("a", 0): (8, 20)}, lambda: float(next(times)))


def test_what_the_client_mends_is_waited_for_and_what_it_does_not_is_raised() -> None:
    consumer = FakeConsumer({("a", 0): LOG})
    consumer.events = [Failed(KafkaError._TRANSPORT)]
    assert len(read(consumer, {("a", 0): (0, 10)})) == 10
    consumer.events = [Failed(KafkaError.TOPIC_AUTHORIZATION_FAILED)]
    with pytest.raises(KafkaException):
        read(consumer, {("a", 0): (0, 10)})
    assert consumer.assigned == {}
