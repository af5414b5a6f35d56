"""Builders for the unit tests, with defaults for what a test ignores: a fragment, a group, offsets of a partition."""

from typing import Any

from utils.aggregator import Group
from utils.attempts import Attempts
from utils.dispatcher import Dispatcher
from utils.executor import Runner
from utils.messages import Fragment
from utils.metrics import Counters
from utils.offsets import OffsetMap, PartitionOffsets

TOPIC_ID = "0Tb3yVvGQ7u6p2Xc4Zx1kA"


def partition_offsets(
    start: int = 0, loaded: OffsetMap | None = None, topic: str = "a", partition: int = 0, topic_id: str = TOPIC_ID
) -> PartitionOffsets:
    return PartitionOffsets(topic, partition, topic_id, start, loaded)


def fragment(topic: int = 0, value: bytes = b'{"id":"1"}', offset: int = 0) -> Fragment:
    offsets = partition_offsets(offset)
    offsets.read(offset)
    return Fragment(topic, offsets, offset, value)


def group(id: str = "1", *fragments: Fragment) -> Group:
    return Group(id, fragments or (fragment(value=b'{"id":"%s"}' % id.encode()),))


def dispatcher(
    runner: Runner, *, attempts: int = 1, backoff: float = 1.0, counters: Counters | None = None, **options: Any
) -> Dispatcher:
    """Without jitter."""
    return Dispatcher(runner, Attempts(attempts, backoff, lambda: 0.5), counters or Counters(), **options)
