"""Sends the demo's orders and payments to a real Kafka, until it is stopped: python -m examples.feed HOST:PORT

The topics `orders` and `payments` must be there.
"""

import sys
import threading
import time
from collections.abc import Iterable
from random import Random

from confluent_kafka import Producer

from examples.demo_feed import Sample, samples
from utils.running.lifetime import stop_on_signals


def feed(producer: Producer, messages: Iterable[Sample], stopping: threading.Event) -> None:
    """Send each at its time. In the main thread, whose signals set the event: it must not wait for that."""
    start = time.monotonic()
    for sample in messages:
        while not stopping.is_set() and time.monotonic() < start + sample.at:
            time.sleep(0.05)
        if stopping.is_set():
            break
        producer.produce(sample.topic, sample.value, str(sample.id).encode() if sample.id else None)
        producer.poll(0)
    producer.flush(5)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    # The partitioner of Java's clients, as those of the shop would use it: both topics put an id in the same number.
    feed(
        Producer({"bootstrap.servers": sys.argv[1], "partitioner": "murmur2_random"}),
        samples(Random()),
        stop_on_signals(),
    )
