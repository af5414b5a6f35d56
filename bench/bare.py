"""The yardstick: consume, decode, join, produce with the same client. No commit, no map, no process().

python -m bench.bare BOOTSTRAP INPUT_A INPUT_B OUTPUT RESULTS [--json]

--json: with the json of the standard library, as most would write it, in place of msgspec.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

import msgspec
from confluent_kafka import Consumer, Producer


def main(bootstrap: str, first: str, second: str, output: str, results: int, option: str = "") -> None:
    decode: Callable[[bytes], dict[str, Any]] = msgspec.json.Decoder(dict[str, Any]).decode
    encode: Callable[[object], bytes | str] = msgspec.json.Encoder().encode
    if option == "--json":
        decode, encode = json.loads, json.dumps
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": output,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "queued.min.messages": 1_000_000,
            "queued.max.messages.kbytes": 65_536,
            "max.partition.fetch.bytes": 4_194_304,
        }
    )
    producer = Producer(
        {"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "queue.buffering.max.messages": 1_000_000}
    )
    consumer.subscribe([first, second])
    waiting: dict[str, dict[str, Any]] = {}
    done = 0
    while done < results:
        for record in consumer.consume(4000, 0.1):
            message = decode(record.value() or b"")
            id = message["id"]
            mate = waiting.pop(id, None)
            if mate is None:
                waiting[id] = message
                continue
            mate["content"] |= message["content"]
            message["content"] = mate["content"]
            mate |= message
            while True:
                try:
                    producer.produce(output, encode(mate), id)
                    break
                except BufferError:
                    producer.poll(0.05)
            done += 1
        producer.poll(0)
    producer.flush()
    consumer.close()


if __name__ == "__main__":
    _, bootstrap, first, second, output, results, *option = sys.argv
    main(bootstrap, first, second, output, int(results), *option)
