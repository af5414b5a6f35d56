"""Bytewax, with its own Kafka connector: its join operator, or a dict in place of it.

python bytewax_flow.py BOOTSTRAP INPUT_A INPUT_B OUTPUT join|dict

Without a recovery store: it commits nothing. The fetch settings are those of the bare loop, with an eighth of the
queue: it makes a consumer for each of 8 partitions.
"""

import sys
from collections.abc import Callable
from typing import Any

import orjson
from bytewax import operators as op
from bytewax.connectors.kafka import KafkaSinkMessage, KafkaSource, KafkaSourceMessage
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from bytewax.run import cli_main

Message = dict[str, Any]
CONSUMER = {"queued.max.messages.kbytes": "8192", "max.partition.fetch.bytes": "4194304"}
PRODUCER = {"queue.buffering.max.messages": "1000000", "partitioner": "murmur2_random"}
BATCH = 4000


def main(bootstrap: str, first: str, second: str, output: str, way: str) -> None:
    flow = Dataflow("peer")
    joined = (by_operator if way == "join" else in_a_dict)(flow, bootstrap, first, second)
    kop.output("out", joined, brokers=[bootstrap], topic=output, add_config=PRODUCER)
    cli_main(flow)


def by_operator(flow: Dataflow, bootstrap: str, *topics: str) -> Any:
    sides = []
    for topic in topics:
        records = op.input(topic, flow, KafkaSource([bootstrap], [topic], add_config=CONSUMER, batch_size=BATCH))
        sides.append(op.flat_map_batch(f"decode-{topic}", records, decoded))
    pairs = op.join("join", *sides)
    return op.flat_map_batch("encode", pairs, lambda batch: [sent(id, *pair) for id, pair in batch])


def in_a_dict(flow: Dataflow, bootstrap: str, *topics: str) -> Any:
    records = op.input("in", flow, KafkaSource([bootstrap], topics, add_config=CONSUMER, batch_size=BATCH))
    return op.flat_map_batch("join", records, dict_join())


def decoded(batch: list[KafkaSourceMessage[bytes, bytes]]) -> list[tuple[str, Message]]:
    messages = [orjson.loads(record.value) for record in batch]
    return [(message["id"], message) for message in messages]


def dict_join() -> Callable[[list[KafkaSourceMessage[bytes, bytes]]], list[KafkaSinkMessage[bytes, bytes]]]:
    waiting: dict[str, Message] = {}

    def join(batch: list[KafkaSourceMessage[bytes, bytes]]) -> list[KafkaSinkMessage[bytes, bytes]]:
        complete = []
        for id, message in decoded(batch):
            mate = waiting.pop(id, None)
            if mate is None:
                waiting[id] = message
            else:
                complete.append(sent(id, mate, message))
        return complete

    return join


def sent(id: str, left: Message, right: Message) -> KafkaSinkMessage[bytes, bytes]:
    merged = {**left, **right, "content": {**left["content"], **right["content"]}}
    return KafkaSinkMessage(id.encode(), orjson.dumps(merged))


if __name__ == "__main__":
    main(*sys.argv[1:])
