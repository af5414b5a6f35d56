"""Records of given ranges, read once each."""

from itertools import count
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException

from tests.fakes import FakeMessage, FakeReader, Partition
from utils.kafka.ranges import QUIET, Range, records_of


def failed(code: int) -> FakeMessage:
    return FakeMessage(("a", 0), 0, None, KafkaError(code))


def read(consumer: FakeReader, ranges: dict[Partition, Range], clock: Any = lambda: 0.0) -> list[tuple[int, int]]:
    batches = records_of(cast(Consumer, consumer), ranges, clock)
    return [(int(each.partition() or 0), int(each.offset() or 0)) for batch in batches for each in batch]


LOG: list[tuple[float, bytes | None]] = [(float(each), b"%d" % each) for each in range(10)]


def test_all_of_each_range_is_read_once_and_nothing_beyond() -> None:
    consumer = FakeReader({("a", 0): LOG, ("a", 1): LOG, ("a", 2): LOG})
    found = read(consumer, {("a", 0): (2, 4), ("a", 1): (0, 10), ("a", 2): (5, 5)})
    assert sorted(found) == [(0, 2), (0, 3), *[(1, each) for each in range(10)]]
    assert consumer.assigned == {}


def test_a_range_that_ends_with_markers_has_an_end() -> None:
    consumer = FakeReader({("a", 0): [*LOG, (10.0, None), (11.0, None)]}, some=1)
    assert len(read(consumer, {("a", 0): (8, 12)})) == 2


def test_brokers_that_do_not_answer_any_more_are_an_error() -> None:
    times = count(step=int(QUIET) // 2)
    with pytest.raises(KafkaException):
        read(FakeReader({("a", 0): LOG}), {("a", 0): (8, 20)}, lambda: float(next(times)))


def test_what_the_client_mends_is_waited_for_and_what_it_does_not_is_raised() -> None:
    consumer = FakeReader({("a", 0): LOG})
    consumer.events = [failed(KafkaError._TRANSPORT)]
    assert len(read(consumer, {("a", 0): (0, 10)})) == 10
    consumer.events = [failed(KafkaError.TOPIC_AUTHORIZATION_FAILED)]
    with pytest.raises(KafkaException):
        read(consumer, {("a", 0): (0, 10)})
    assert consumer.assigned == {}
