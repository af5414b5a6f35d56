"""Records of given ranges of partitions, read once each, without joining a consumer group. Knows no message."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

Partition = tuple[str, int]
Range = tuple[int, int]  # [first, end)

BATCH = 10_000  # records that one read takes at most
WAIT = 0.1  # seconds that one read waits for a first record
QUIET = 10.0  # seconds without any progress after which brokers are taken not to answer
_NO_RECORDS = {
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._RESOLVE,
    KafkaError._TIMED_OUT,
    KafkaError.GROUP_AUTHORIZATION_FAILED,  # the client looks for the coordinator of its group, which it never joins
}


class Reading:
    """All records of these ranges, by the batch; those of a partition come in their order.

    `rest`: the end of each partition that is not read to it, because time was up or its topic is one of the `refused`,
    which may not be read.
    """

    def __init__(
        self,
        consumer: Consumer,
        ranges: Mapping[Partition, Range],
        deadline: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`deadline`: by `clock`."""
        self._consumer = consumer
        self._deadline = deadline
        self._clock = clock
        self._positions = {at: first for at, (first, end) in ranges.items() if first < end}
        self.rest = {at: ranges[at][1] for at in self._positions}
        self.refused: dict[str, KafkaError] = {}

    def __iter__(self) -> Iterator[list[Message]]:
        """The consumer is assigned what is to be read, and nothing in the end. Raises KafkaException, also where
        brokers do not answer any more. What is not in the log (markers of transactions, what was compacted) is passed
        over.
        """
        for topic in sorted({topic for topic, _ in self.rest}):
            # A topic that the client has not heard of is else looked for at its next turn, a second later.
            self._consumer.list_topics(topic, timeout=max(min(QUIET, self._deadline - self._clock()), WAIT))
        self._consumer.assign([TopicPartition(*at, first) for at, first in self._positions.items()])
        try:
            moved = self._clock()
            while not self.refused.keys() >= {topic for topic, _ in self.rest} and self._clock() < self._deadline:
                if records := self._records():
                    yield records
                if self._moves():
                    moved = self._clock()
                elif self._clock() - moved > QUIET:
                    raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "records cannot be read"))
        finally:
            self._consumer.unassign()

    def _records(self) -> list[Message]:
        fetched: list[Any] = at_once(self._consumer, BATCH, WAIT)
        records = [each for each in fetched if each.error() is None]
        if len(records) < len(fetched):
            self._note_errors(each for each in fetched if each.error() is not None)
        ends = self.rest.get
        return [each for each in records if each.offset() < ends((each.topic(), each.partition()), 0)]

    def _note_errors(self, failed: Iterator[Any]) -> None:
        """The client mends some by itself. Raises KafkaException for those that it does not."""
        for each in failed:
            if each.error().code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                self.refused[str(each.topic())] = each.error()
            elif each.error().code() not in _NO_RECORDS:
                raise KafkaException(each.error())

    def _moves(self) -> bool:
        """Take leave of what is read to its end. Whether anything was read since.

        A partition in which only markers of transactions are left has a position, too, once they are passed (measured).
        """
        moves = False
        for each in self._consumer.position([TopicPartition(*at) for at in self.rest]):
            at = each.topic, each.partition
            if each.offset > self._positions[at]:
                self._positions[at], moves = each.offset, True
        if read := [at for at, end in self.rest.items() if self._positions[at] >= end]:
            self._consumer.incremental_unassign([TopicPartition(*at) for at in read])
            for at in read:
                del self.rest[at]
        return moves


def records_of(consumer: Consumer, ranges: Mapping[Partition, Range]) -> Iterator[list[Message]]:
    """As Reading. Raises KafkaException also where a topic may not be read."""
    reading = Reading(consumer, ranges)
    yield from reading
    for error in reading.refused.values():
        raise KafkaException(error)


def at_once(consumer: Consumer, most: int, wait: float) -> list[Message]:
    """What is there, as soon as there is anything: consume() with a time-out would wait for a full batch."""
    first = consumer.poll(wait)
    return [first, *consumer.consume(most, 0)] if first is not None else []
