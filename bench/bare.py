"""The yardstick: consume, decode, join, produce with the same client. No commit, no map, no process().

python -m bench.bare BOOTSTRAP INPUT_A INPUT_B … OUTPUT RESULTS [--json] [--prompt] [--consumer=JSON]

--json: with the json of the standard library, as most would write it, in place of msgspec. --prompt: as quick in its
answer as the client can be, for bench.latency: it waits for no batch, neither of what it reads nor of what it sends.
--consumer: properties of its consumer in place of its own fetch settings.
"""

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from confluent_kafka import Consumer, Message, Producer

FETCHES: dict[str, Any] = {
    "queued.min.messages": 1_000_000,
    "queued.max.messages.kbytes": 65_536,
    "max.partition.fetch.bytes": 4_194_304,
}


def main(bootstrap: str, inputs: Sequence[str], output: str, results: int, options: Sequence[str]) -> None:
    decode: Callable[[bytes], dict[str, Any]] = msgspec.json.Decoder(dict[str, Any]).decode
    encode: Callable[[object], bytes | str] = msgspec.json.Encoder().encode
    if "--json" in options:
        decode, encode = json.loads, json.dumps
    prompt = "--prompt" in options
    given = [each.removeprefix("--consumer=") for each in options if each.startswith("--consumer=")]
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": output,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            **(json.loads(given[0]) if given else FETCHES),
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": 1_000_000,
            **({"linger.ms": 0, "max.in.flight": 1} if prompt else {}),
        }
    )
    consumer.subscribe(list(inputs))
    topics = len(inputs)
    waiting: dict[str, dict[str, Any]] = {}
    came: dict[str, int] = {}  # of more than two topics
    done = 0
    while done < results:
        for record in _next(consumer) if prompt else consumer.consume(4000, 0.1):
            message = decode(record.value() or b"")
            id = message["id"]
            if topics > 1:
                mate = waiting.pop(id, None)
                if mate is None:
                    waiting[id] = message
                    continue
                mate["content"] |= message["content"]
                message["content"] = mate["content"]
                mate |= message
                message = mate
                if topics > 2 and (number := came.pop(id, 1) + 1) < topics:
                    came[id] = number
                    waiting[id] = message
                    continue
            while True:
                try:
                    producer.produce(output, encode(message), id)
                    break
                except BufferError:
                    producer.poll(0.05)
            done += 1
        producer.poll(0)
    producer.flush()
    consumer.close()


def _next(consumer: Consumer) -> list[Message]:
    first = consumer.poll(0.1)
    return [first, *consumer.consume(4000, 0)] if first is not None else []


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if not word.startswith("--")]
    bootstrap, *inputs, output, results = words
    main(bootstrap, inputs, output, int(results), [word for word in sys.argv if word.startswith("--")])
