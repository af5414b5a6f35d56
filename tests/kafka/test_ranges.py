"""Records of given ranges, read once each."""

from itertools import count
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException

from tests.fakes import FakeMessage, FakeReader, Partition
from utils.kafka.ranges import QUIET, Range, Reading, records_of


def failed(code: int) -> FakeMessage:
    return FakeMessage(("a", 0), 0, None, KafkaError(code))


def read(consumer: FakeReader, ranges: dict[Partition, Range], clock: Any = lambda: 0.0) -> list[tuple[int, int]]:
    reading = Reading(cast(Consumer, consumer), ranges, clock=clock)
    return [(int(each.partition() or 0), int(each.offset() or 0)) for batch in reading for each in batch]


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
    consumer.events = [failed(KafkaError.GROUP_AUTHORIZATION_FAILED)]
    assert len(read(consumer, {("a", 0): (0, 10)})) == 10, "it joins no group"
    consumer.events = [failed(KafkaError._AUTHENTICATION)]
    with pytest.raises(KafkaException):
        read(consumer, {("a", 0): (0, 10)})
    assert consumer.assigned == {}


def test_a_topic_that_may_not_be_read_is_told_and_the_others_are_read() -> None:
    consumer = FakeReader({("a", 0): LOG, ("b", 0): LOG})
    consumer.forbidden = {"b"}
    reading = Reading(cast(Consumer, consumer), {("a", 0): (0, 10), ("b", 0): (0, 10)}, clock=lambda: 0.0)
    assert {each.topic() for batch in reading for each in batch} == {"a"}
    assert set(reading.refused) == {"b"}
    assert reading.rest == {("b", 0): 10}
    assert consumer.assigned == {}
    with pytest.raises(KafkaException):
        list(records_of(cast(Consumer, consumer), {("b", 0): (0, 10)}))


def test_what_is_not_read_when_time_is_up_is_told() -> None:
    times = count()
    consumer = FakeReader({("a", 0): LOG, ("a", 1): LOG[:2]}, some=2)
    reading = Reading(cast(Consumer, consumer), {("a", 0): (0, 10), ("a", 1): (0, 2)}, 6.0, lambda: next(times))
    assert 2 < sum(map(len, reading)) < 12
    assert reading.rest == {("a", 0): 10}
    assert consumer.assigned == {}
