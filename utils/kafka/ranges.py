"""Records of given ranges of partitions, read once each, by a consumer that joins no group. Knows no message."""

import time
from collections.abc import Callable, Iterator, Mapping

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
}


def records_of(
    consumer: Consumer, ranges: Mapping[Partition, Range], clock: Callable[[], float] = time.monotonic
) -> Iterator[list[Message]]:
    """All records of these ranges, by the batch; those of a partition come in their order.

    The consumer is assigned what is to be read, and nothing in the end. Raises KafkaException, also where brokers do
    not answer any more. What is not in the log (markers of transactions, what was compacted) is passed over.
    """
    rest = {at: end for at, (first, end) in ranges.items() if first < end}
    positions = {at: ranges[at][0] for at in rest}
    if not rest:
        return
    for topic in {topic for topic, _ in rest}:
        # A topic that the client has not heard of is else looked for at its next turn, a second later.
        consumer.list_topics(topic, timeout=QUIET)
    consumer.assign([TopicPartition(*at, first) for at, first in positions.items()])
    try:
        moved = clock()
        while rest:
            records = [each for each in _next(consumer) if not _is_event(each)]
            if wanted := [each for each in records if _offset(each) < rest.get(_at(each), 0)]:
                yield wanted
            before = dict(positions)
            for each in consumer.position([TopicPartition(*at) for at in rest]):
                at = each.topic, each.partition
                positions[at] = max(positions[at], each.offset)
            if positions != before:
                moved = clock()
            elif clock() - moved > QUIET:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "records cannot be read"))
            if read := [at for at, end in rest.items() if positions[at] >= end]:
                consumer.incremental_unassign([TopicPartition(*at) for at in read])
                for at in read:
                    del rest[at]
    finally:
        consumer.unassign()


def _next(consumer: Consumer) -> list[Message]:
    """As soon as there are any, all that are there: consume() with a time-out would wait for a full batch."""
    first = consumer.poll(WAIT)
    return [first, *consumer.consume(BATCH, 0)] if first is not None else []


def _is_event(message: Message) -> bool:
    """Whether this is an error in place of a record, which the client mends by itself. Raises KafkaException."""
    error = message.error()
    if error is None:
        return False
    if error.code() not in _NO_RECORDS:
        raise KafkaException(error)
    return True


def _at(record: Message) -> Partition:
    return str(record.topic()), int(record.partition() or 0)


def _offset(record: Message) -> int:
    return int(record.offset() or 0)
