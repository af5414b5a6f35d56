"""FastStream with a dict: batches, no validation (apply_types), orjson, results by the batch and not waited for.

python faststream_app.py BOOTSTRAP INPUT_A INPUT_B OUTPUT
"""

import asyncio
import sys
from typing import Any

import orjson
from faststream import FastStream
from faststream.confluent import KafkaBroker, KafkaPublishMessage
from faststream.confluent.message import KafkaMessage

BATCH, POLL = 5000, 0.01  # records; seconds


async def decoded(message: KafkaMessage) -> list[dict[str, Any]]:
    return [orjson.loads(record.value()) for record in message.raw_message]


def main(bootstrap: str, first: str, second: str, output: str) -> None:
    # Fetch settings of the bare loop; and no longer than POLL for a batch that does not get full.
    config = {"queued.min.messages": 1_000_000, "queued.max.messages.kbytes": 65_536}
    broker = KafkaBroker(bootstrap, apply_types=False, logger=None, config=config)
    waiting: dict[str, dict[str, Any]] = {}

    @broker.subscriber(
        first,
        second,
        group_id=output,
        auto_offset_reset="earliest",
        batch=True,
        max_records=BATCH,
        polling_interval=POLL,
        max_partition_fetch_bytes=4_194_304,
        decoder=decoded,
    )
    async def join(messages: list[dict[str, Any]]) -> None:
        complete = []
        for message in messages:
            id = message["id"]
            mate = waiting.pop(id, None)
            if mate is None:
                waiting[id] = message
                continue
            mate["content"].update(message["content"])
            body = orjson.dumps({**mate, **message, "content": mate["content"]})
            complete.append(KafkaPublishMessage(body, key=id))
        if complete:
            await broker.publish_batch(*complete, topic=output, no_confirm=True)

    asyncio.run(FastStream(broker, logger=None).run())


if __name__ == "__main__":
    main(*sys.argv[1:])
