"""Quix Streams: its interval join, whose state is in RocksDB and in changelog topics; or a dict in place of it.

python quix.py BOOTSTRAP INPUT_A INPUT_B OUTPUT STATE_DIRECTORY interval|dict

Its JSON is orjson already. The fetch settings are those of the bare loop.
"""

import sys
from typing import Any

from quixstreams import Application
from quixstreams.dataframe import StreamingDataFrame

WINDOW = 60_000  # ms


def main(bootstrap: str, first: str, second: str, output: str, directory: str, way: str) -> None:
    app = Application(
        broker_address=bootstrap,
        consumer_group=output,
        auto_offset_reset="earliest",
        state_dir=directory,
        loglevel="WARNING",
        consumer_extra_config={
            "queued.min.messages": 1_000_000,
            "queued.max.messages.kbytes": 65_536,
            "max.partition.fetch.bytes": 4_194_304,
        },
        producer_extra_config={"queue.buffering.max.messages": 1_000_000, "partitioner": "murmur2_random"},
    )
    left, right = (app.dataframe(app.topic(name, key_deserializer="str")) for name in (first, second))
    (joined_by_interval if way == "interval" else joined_in_a_dict)(
        left, right, app.topic(output, key_serializer="str")
    )
    app.run()


def joined_by_interval(left: StreamingDataFrame, right: StreamingDataFrame, output: Any) -> None:
    left.join_interval(
        right, how="inner", on_merge=merged, grace_ms=WINDOW, backward_ms=WINDOW, forward_ms=WINDOW
    ).to_topic(output)


def joined_in_a_dict(left: StreamingDataFrame, right: StreamingDataFrame, output: Any) -> None:
    waiting: dict[str, dict[str, Any]] = {}

    def join(message: dict[str, Any]) -> list[dict[str, Any]]:
        mate = waiting.pop(message["id"], None)
        if mate is None:
            waiting[message["id"]] = message
            return []
        return [merged(mate, message)]

    for frame in (left, right):
        frame.apply(join, expand=True).to_topic(output)


def merged(left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
    return {**left, **right, "content": {**left["content"], **right["content"]}}


if __name__ == "__main__":
    main(*sys.argv[1:])
