"""examples/feed.py: the demo's messages, sent to a real Kafka."""

import threading
from typing import Any, cast

from confluent_kafka import Producer

from examples.demo_feed import Sample
from examples.feed import feed
from tests.fakes import FakeProducer


def test_messages_are_sent_with_their_id_as_the_key_and_what_was_sent_leaves_at_the_end() -> None:
    producer = FakeProducer()
    messages = [Sample(0.0, "orders", 7, b"{}"), Sample(0.0, "payments", 0, b"no JSON")]
    feed(cast(Producer, producer), messages, threading.Event())
    assert producer.produced == [("orders", b"7", b"{}"), ("payments", None, b"no JSON")]
    assert producer.flushed == 2


def test_a_stop_does_not_wait_for_the_next_message() -> None:
    producer, stopping = FakeProducer(), threading.Event()

    def messages() -> Any:
        yield Sample(0.0, "orders", 7, b"{}")
        stopping.set()
        yield Sample(1e9, "orders", 8, b"{}")

    feed(cast(Producer, producer), messages(), stopping)
    assert producer.flushed == 1
