"""The loop of a first-time user: one poll() after the other, json, auto-commit, a dict. It loses messages in a crash.

python bench/peers/naive.py BOOTSTRAP INPUT_A INPUT_B OUTPUT
"""

import json
import sys
from typing import Any

from confluent_kafka import Consumer, Producer


def main(bootstrap: str, first: str, second: str, output: str) -> None:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": output, "auto.offset.reset": "earliest"})
    producer = Producer({"bootstrap.servers": bootstrap})
    consumer.subscribe([first, second])
    waiting: dict[str, dict[str, Any]] = {}
    while True:
        record = consumer.poll(1.0)
        if record is None:
            continue
        if record.error():
            print(record.error())
            continue
        message = json.loads(record.value() or b"")
        id = message["id"]
        if id not in waiting:
            waiting[id] = message
            continue
        joined = waiting.pop(id)
        joined["content"].update(message["content"])
        while True:
            try:
                producer.produce(output, key=id, value=json.dumps(joined))
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
