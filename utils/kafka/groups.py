"""What a consumer group has committed, who its members are, and where its topics end: asked of the brokers alone.

Many things at once, by an admin client that joins nothing, with one deadline for all. What is not answered is a value,
a KafkaError in its place, and no exception. Rights: DESCRIBE of the topics and consumer groups that are asked for.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeVar

from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from utils.kafka.lookups import Topic, metadata_of

Partition = tuple[str, int]
T = TypeVar("T")

_EARLIEST = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_LATEST = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_LEAST = 0.2  # seconds that a request may take, also when the deadline is near


class Member(NamedTuple):
    """A process that is in the consumer group now."""

    host: str
    client_id: str
    instance: str  # its GROUP_INSTANCE_ID, or empty
    partitions: tuple[Partition, ...]


class ConsumerGroup(NamedTuple):
    """`state`: as Kafka calls it, in capitals. One that nobody has ever joined is DEAD, without members."""

    state: str
    members: tuple[Member, ...]


class Commit(NamedTuple):
    offset: int
    metadata: str | None  # None: what is there is no text


Commits = Mapping[Partition, Commit]


class Brokers:
    """Those of one cluster, until `deadline`, a moment of `clock` by which all must have been answered."""

    def __init__(self, admin: AdminClient, deadline: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._admin = admin
        self.deadline = deadline
        self._clock = clock

    def topics(self, names: Iterable[str]) -> dict[str, Topic | KafkaError]:
        """Asked for by name, so that others need not be seen; none is created by it."""
        asked = TopicCollection(sorted(set(names)))
        if not asked.topic_names:
            return {}
        options = self._in_time()
        described, cluster = self._admin.describe_topics(asked, **options), self._admin.describe_cluster(**options)
        id = _cluster_id(_answer(cluster))
        return {name: _topic(each, id) for name, each in self._answers(described).items()}

    def groups(self, names: Iterable[str]) -> dict[str, ConsumerGroup | KafkaError]:
        asked = sorted(set(names))
        if not asked:
            return {}
        found = self._answers(self._admin.describe_consumer_groups(asked, **self._in_time()))
        return {name: each if isinstance(each, KafkaError) else _group(each) for name, each in found.items()}

    def commits(self, names: Iterable[str]) -> dict[str, Commits | KafkaError]:
        """All that each of these consumer groups has committed."""
        options = self._in_time()
        futures: dict[str, Future[Any]] = {}
        for name in sorted(set(names)):  # the client takes one name a call; the requests are on their way together
            futures |= self._admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(name)], **options)
        found = self._answers(futures)
        return {name: each if isinstance(each, KafkaError) else _commits(each) for name, each in found.items()}

    def begins(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """The first offset of each partition; those that are not answered are left out."""
        return self._offsets(partitions, _EARLIEST)

    def ends(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """The offset behind the last one that may be read: what an open transaction hides comes after it."""
        return self._offsets(partitions, _LATEST)

    def _offsets(self, partitions: Iterable[Partition], which: OffsetSpec) -> dict[Partition, int]:
        asked = {TopicPartition(*at): which for at in partitions}
        if not asked:
            return {}
        committed = IsolationLevel.READ_COMMITTED
        found = self._answers(self._admin.list_offsets(asked, isolation_level=committed, **self._in_time()))
        return {(at.topic, at.partition): each.offset for at, each in found.items() if not isinstance(each, KafkaError)}

    def _in_time(self) -> dict[str, Any]:
        return {"request_timeout": max(self.deadline - self._clock(), _LEAST)}

    def _answers(self, futures: "Mapping[T, Future[Any]]") -> dict[T, Any]:
        """Of each what it is, or the KafkaError that came instead."""
        return {asked: _answer(future) for asked, future in futures.items()}


def _answer(future: "Future[Any]") -> Any:
    try:
        return future.result()
    except KafkaException as error:
        return error.args[0]


def _cluster_id(described: Any) -> str:
    """Empty where it is not told."""
    return "" if isinstance(described, KafkaError) else str(described.cluster_id or "")


def _topic(described: Any, cluster: str) -> Topic | KafkaError:
    if isinstance(described, KafkaError):
        return described
    return Topic(str(described.topic_id), len(described.partitions), cluster)


def _group(described: Any) -> ConsumerGroup:
    return ConsumerGroup(described.state.name, tuple(_member(each) for each in described.members))


def _member(described: Any) -> Member:
    assigned = described.assignment.topic_partitions if described.assignment else []
    partitions = tuple(sorted((each.topic, each.partition) for each in assigned))
    return Member(described.host.lstrip("/"), described.client_id or "", described.group_instance_id or "", partitions)


def _commits(answered: Any) -> Commits:
    return {
        (each.topic, each.partition): Commit(each.offset, metadata_of(each))
        for each in answered.topic_partitions
        if each.offset >= 0 and not each.error
    }
