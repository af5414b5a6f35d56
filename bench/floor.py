"""What a loop costs at a low rate that waits, hands over and commits as the worker does, and keeps no promise.

python -m bench.floor BOOTSTRAP INPUT_A INPUT_B OUTPUT RESULTS

The bare loop with the worker's turns: a record stays for others, another thread decodes, joins and encodes, offsets are
committed every 0.1 s with a few bytes of metadata. No check of anything, no map, no time-out, no dead letters, no
metrics; what waits is lost in a crash. What the worker takes above it in bench.latency is the price of those.
"""

import sys
import threading
import time
from queue import SimpleQueue
from typing import Any

import msgspec
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from utils.running.assembly import GATHER

COMMIT_INTERVAL = 0.1  # seconds, as config.py has it
METADATA = "x" * 64  # characters: that of a small map

decode = msgspec.json.Decoder(dict[str, Any]).decode
encode = msgspec.json.Encoder().encode


def main(bootstrap: str, input_a: str, input_b: str, output: str, results: int) -> None:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": output,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    producer = Producer(
        {"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "linger.ms": 0, "max.in.flight": 1}
    )
    consumer.subscribe([input_a, input_b])
    reader, joiner = Reader(consumer), Joiner()
    threading.Thread(target=joiner.work, daemon=True).start()
    read: dict[tuple[str, int], int] = {}  # by partition: the offset to read next
    done, next_commit = 0, 0.0
    while done < results:
        records = reader.read()
        joiner.todo.put([record.value() or b"" for record in records])
        for id, value in joiner.joined.get():
            producer.produce(output, value, id)
            done += 1
        producer.poll(0)
        read |= {(record.topic() or "", record.partition() or 0): (record.offset() or 0) + 1 for record in records}
        if records and time.monotonic() >= next_commit:
            next_commit = time.monotonic() + COMMIT_INTERVAL
            consumer.commit(offsets=[TopicPartition(*at, offset, METADATA) for at, offset in read.items()])
    producer.flush()
    consumer.close()


class Reader:
    """Reads as the worker's Intake does: what comes soon after a read stays for others."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._soon = 0.0  # until when a record comes soon after a read

    def read(self) -> list[Message]:
        first, stays_until = self._consumer.poll(0), self._soon
        while first is None:
            first, came = self._consumer.poll(0.2), time.monotonic()
            stays_until = came + GATHER if came < self._soon else came
        if (early := stays_until - time.monotonic()) > 0:
            time.sleep(early)
        records = [first, *self._consumer.consume(1000, 0)]
        self._soon = time.monotonic() + GATHER
        return records


class Joiner:
    """Decodes, joins and encodes, in a thread of its own."""

    def __init__(self) -> None:
        self.todo: SimpleQueue[list[bytes]] = SimpleQueue()
        self.joined: SimpleQueue[list[tuple[str, bytes]]] = SimpleQueue()
        self._waiting: dict[str, dict[str, Any]] = {}

    def work(self) -> None:
        while True:
            self.joined.put([pair for value in self.todo.get() for pair in self._joined(decode(value))])

    def _joined(self, message: dict[str, Any]) -> list[tuple[str, bytes]]:
        mate = self._waiting.pop(message["id"], None)
        if mate is None:
            self._waiting[message["id"]] = message
            return []
        message["content"] |= mate["content"]
        return [(message["id"], encode(mate | message))]


if __name__ == "__main__":
    bootstrap, input_a, input_b, output, results = sys.argv[1:]
    main(bootstrap, input_a, input_b, output, int(results))
