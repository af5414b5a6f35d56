"""What a consumer group has committed, who its members are, and where its topics end: asked of the brokers alone.

Many things at once, by clients that join nothing, with one deadline for all. What is not answered is a value,
a KafkaError in its place, and no exception. Rights: DESCRIBE of the topics and consumer groups that are asked for.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from utils.kafka.answers import answer, described_groups
from utils.kafka.lookups import Topic, commits_as_they_are, metadata_of
from utils.topic_ids import identity

Partition = tuple[str, int]
T = TypeVar("T")

_EARLIEST = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_LATEST = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_LEAST = 0.2  # seconds that a request may take, also when the deadline is near
_AT_ONCE = 8  # consumer groups whose commits are asked for: each by a client of some five threads


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

    def __init__(
        self,
        admin: AdminClient,
        prober: Callable[[str], Consumer],
        deadline: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`prober`: a client that asks for what this consumer group has committed."""
        self._admin = admin
        self._prober = prober
        self.deadline = deadline
        self._clock = clock

    def topics(self, names: Iterable[str]) -> dict[str, Topic | KafkaError]:
        """Asked for by name, so that others need not be seen; none is created by it."""
        asked = TopicCollection(sorted(set(names)))
        if not asked.topic_names:
            return {}
        options = self._in_time()
        described, cluster = self._admin.describe_topics(asked, **options), self._admin.describe_cluster(**options)
        id = _cluster_id(answer(cluster))
        return {name: _topic(each, id) for name, each in self._answers(described).items()}

    def groups(self, names: Iterable[str]) -> dict[str, ConsumerGroup | KafkaError]:
        asked = sorted(set(names))
        if not asked:
            return {}
        found = described_groups(self._admin, asked, self._left())
        return {name: each if isinstance(each, KafkaError) else _group(each) for name, each in found.items()}

    def commits(self, asked: Mapping[str, Iterable[Partition]]) -> dict[str, Commits | KafkaError]:
        """What each of these consumer groups has committed of these partitions.

        A client a group, for a moment: why no admin client is asked, `commits_as_they_are` tells.
        """
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return dict(zip(asked, pool.map(self._commits_of, asked, asked.values()), strict=True))

    def _commits_of(self, group: str, partitions: Iterable[Partition]) -> Commits | KafkaError:
        if not (wanted := [TopicPartition(*at) for at in partitions]):
            return {}
        try:
            found = commits_as_they_are(lambda: self._prober(group), wanted, self._left())
        except KafkaException as error:
            told: KafkaError = error.args[0]
            return told
        return {(at.topic, at.partition): Commit(at.offset, metadata_of(at)) for at in found if at.offset >= 0}

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
        told = {at: each.offset for at, each in found.items() if not isinstance(each, KafkaError)}
        return {(at.topic, at.partition): offset for at, offset in told.items() if offset >= 0}  # as in `ends.py`

    def _in_time(self) -> dict[str, Any]:
        return {"request_timeout": self._left()}

    def _left(self) -> float:
        return max(self.deadline - self._clock(), _LEAST)

    def _answers(self, futures: "Mapping[T, Future[Any]]") -> dict[T, Any]:
        """Of each what it is, or the KafkaError that came instead."""
        return {asked: answer(future) for asked, future in futures.items()}


def partitions_of(names: Iterable[str], topics: Mapping[str, Topic | KafkaError]) -> list[Partition]:
    """Those of these topics that are known."""
    known = [(name, each) for name in names if isinstance(each := topics.get(name), Topic)]
    return [(name, number) for name, each in known for number in range(each.partitions)]


def _cluster_id(described: Any) -> str:
    """Empty where it is not told."""
    return "" if isinstance(described, KafkaError) else str(described.cluster_id or "")


def _topic(described: Any, cluster: str) -> Topic | KafkaError:
    if isinstance(described, KafkaError):
        return described
    return Topic(identity(described.topic_id), len(described.partitions), cluster)


def _group(described: Any) -> ConsumerGroup:
    return ConsumerGroup(described.state.name, tuple(_member(each) for each in described.members))


def _member(described: Any) -> Member:
    assigned = described.assignment.topic_partitions if described.assignment else []
    partitions = tuple(sorted((each.topic, each.partition) for each in assigned))
    return Member(described.host.lstrip("/"), described.client_id or "", described.group_instance_id or "", partitions)
