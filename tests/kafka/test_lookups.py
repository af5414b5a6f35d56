"""What brokers are asked, and when they are asked again."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from tests.fakes import FakeMessage
from utils.kafka.lookups import LATEST, divergence, places_at


class FakeConsumer:
    def __init__(self, *errors: int) -> None:
        self._errors = list(errors)

    def offsets_for_times(self, asked: list[TopicPartition], **_: Any) -> list[TopicPartition]:
        if self._errors:
            raise KafkaException(KafkaError(self._errors.pop(0)))
        return [TopicPartition(each.topic, each.partition, 7) for each in asked]


def asked_of(*errors: int) -> list[int]:
    consumer = cast(Consumer, FakeConsumer(*errors))
    return [each.offset for each in places_at(consumer, [TopicPartition("t", 0)], LATEST)]


def test_a_broker_that_has_not_heard_of_an_election_is_asked_again() -> None:
    """Soon after a topic was created, for example: `adopt` ended with 78 by it."""
    assert asked_of(*[KafkaError.UNKNOWN_LEADER_EPOCH] * 2) == [7]


def test_another_error_is_not_waited_out() -> None:
    with pytest.raises(KafkaException):
        asked_of(KafkaError.TOPIC_AUTHORIZATION_FAILED)


class Slow:
    """A reader that is given one record a second, each of another partition, and after `many` no more."""

    def __init__(self, clock: list[float], many: int) -> None:
        self._clock, self._many, self._left = clock, many, list[TopicPartition]()

    def assign(self, partitions: list[TopicPartition]) -> None:
        self._left = partitions[: self._many]

    def poll(self, _timeout: float) -> Message | None:
        self._clock[0] += 1.0
        each = self._left.pop(0) if self._left else None
        return cast(Message, FakeMessage((each.topic, each.partition), each.offset, b"x")) if each else None

    def pause(self, _partitions: list[TopicPartition]) -> None: ...

    def close(self) -> None: ...


def test_many_partitions_far_away_are_waited_for_as_long_as_one_of_them_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a restart of the brokers all are asked: with 500 of them, 25 ms away, no worker came beyond its start."""
    clock = [0.0]
    monkeypatch.setattr("utils.kafka.lookups.time", SimpleNamespace(monotonic=lambda: clock[0]))
    positions = {("t", number): (7, 0) for number in range(30)}
    assert divergence(lambda: cast(Consumer, Slow(clock, 30)), positions) == {}
    with pytest.raises(KafkaException):
        divergence(lambda: cast(Consumer, Slow(clock, 29)), positions)
