"""Builders for the unit tests, with defaults for what a test ignores: a fragment, a group, offsets of a partition."""

from collections.abc import Callable
from typing import Any, cast

from confluent_kafka.admin import AdminClient

from tests.fakes import TOPIC_ID, FakeAdmin
from utils.joining.aggregator import Group
from utils.joining.layout import Layout
from utils.joining.messages import Fragment
from utils.joining.offsets import OffsetMap, PartitionOffsets
from utils.metrics import Counters
from utils.processing.attempts import Attempts
from utils.processing.dispatcher import Dispatcher
from utils.processing.runner import Runner


def partition_offsets(
    start: int = 0,
    loaded: OffsetMap | None = None,
    topic: str = "a",
    partition: int = 0,
    topic_id: str = TOPIC_ID,
    now: float = 0.0,
) -> PartitionOffsets:
    return PartitionOffsets(topic, partition, Layout(topic_id), start, loaded, now)


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


def admin(end_of: Callable[[tuple[str, int]], int] = lambda _at: 0) -> AdminClient:
    return cast(AdminClient, FakeAdmin(end_of))
