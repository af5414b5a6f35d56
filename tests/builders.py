"""Builders for the unit tests, with defaults for what a test ignores: a fragment, a group, offsets of a partition."""

from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, cast

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import ListOffsetsResultInfo

from utils.joining.aggregator import Group
from utils.joining.layout import Layout
from utils.joining.messages import Fragment
from utils.joining.offsets import OffsetMap, PartitionOffsets
from utils.metrics import Counters
from utils.processing.attempts import Attempts
from utils.processing.dispatcher import Dispatcher
from utils.processing.executor import Runner

TOPIC_ID = "0Tb3yVvGQ7u6p2Xc4Zx1kA"


def partition_offsets(
    start: int = 0, loaded: OffsetMap | None = None, topic: str = "a", partition: int = 0, topic_id: str = TOPIC_ID
) -> PartitionOffsets:
    return PartitionOffsets(topic, partition, Layout(topic_id), start, loaded)


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


class FakeAdmin:
    """Tells at once where partitions end, and which topics they are of."""

    def __init__(self, end_of: Callable[[tuple[str, int]], int]) -> None:
        self._end_of = end_of

    def describe_topics(self, topics: Any, **_options: Any) -> dict[str, "Future[Any]"]:
        answers: dict[str, Future[Any]] = {topic: Future() for topic in topics.topic_names}
        for future in answers.values():
            future.set_result(SimpleNamespace(topic_id=TOPIC_ID))
        return answers

    def list_offsets(self, wanted: Any, **_options: Any) -> dict[TopicPartition, "Future[ListOffsetsResultInfo]"]:
        answers = {}
        for at in wanted:
            answers[at] = Future[ListOffsetsResultInfo]()
            answers[at].set_result(ListOffsetsResultInfo(self._end_of((at.topic, at.partition)), 0, -1))
        return answers


def admin(end_of: Callable[[tuple[str, int]], int] = lambda _at: 0) -> AdminClient:
    return cast(AdminClient, FakeAdmin(end_of))
