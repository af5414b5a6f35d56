"""What brokers are asked, and when they are asked again."""

from typing import Any, cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from utils.kafka.lookups import LATEST, places_at


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
