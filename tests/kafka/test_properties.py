"""What the properties of Kafka's clients set."""

import pytest
from confluent_kafka import KafkaError, KafkaException

from utils.kafka.clients import producer
from utils.kafka.limits import RECORD_OVERHEAD
from utils.kafka.properties import largest_record, queue_room


@pytest.mark.parametrize(
    ("given", "room"),
    [
        ({}, (1_000_000, 1 << 30)),
        ({"queue.buffering.max.messages": "10", "queue.buffering.max.kbytes": "2"}, (10, 2048)),
        ({"queue.buffering.max.messages": "0"}, (1_000_000, 1 << 30)),  # no limit
    ],
)
def test_the_room_of_the_producers_queue_is_known(given: dict[str, str], room: tuple[int, int]) -> None:
    assert queue_room(given) == room


@pytest.mark.parametrize("key", [b"", b"k" * 300])
def test_the_client_takes_as_large_a_record_as_is_said_and_not_a_byte_more(key: bytes) -> None:
    properties = {"bootstrap.servers": "127.0.0.1:1", "message.max.bytes": "50000", "log_level": "0"}
    made = producer(properties, lambda *_: None)
    room = largest_record(properties) - RECORD_OVERHEAD - len(key)
    made.produce("any", b"x" * room, key)
    with pytest.raises(KafkaException) as refused:
        made.produce("any", b"x" * (room + 1), key)
    assert refused.value.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE
    made.purge()
