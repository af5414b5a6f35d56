"""What is asked of brokers and waited for: topics, commits, and where in a partition a time is."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._metadata import TopicMetadata

from config import ConfigError
from utils.kafka.answers import answered
from utils.topic_ids import identity

_REQUEST = 10.0  # seconds that one request may take
_LEAST = 0.2  # seconds that one may take, also when the deadline is near
_MOVING = {
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
}
_ELECTED = 5.0  # seconds until a broker has heard of an election that the cluster tells of already
EARLIEST, LATEST = -2, -1  # timestamps of the ListOffsets request that stand for the two ends of the log


@dataclass(frozen=True, slots=True)
class Topic:
    """What a worker must know of a topic: its identity (a topic made again has another one), its partitions, and the
    id of its cluster.
    """

    id: str
    partitions: int
    cluster: str = ""  # "": it has none
    leaderless: frozenset[int] = frozenset()
    """Partitions that nobody can read for now: all their replicas are away."""


def describe(admin: AdminClient, topics: tuple[str, ...]) -> dict[str, Topic]:
    """Identity and number of partitions of each topic, and which have no leader, once an election has had its time.

    Raises ConfigError where a topic is missing, KafkaException.
    """
    deadline = time.monotonic() + _ELECTED
    while True:
        cluster = admin.list_topics(timeout=_REQUEST)
        missing = [topic for topic in topics if topic not in cluster.topics]
        if missing:
            raise ConfigError([f"topic {topic} does not exist" for topic in missing])
        leaderless = {topic: _leaderless(cluster.topics[topic]) for topic in topics}
        if not any(leaderless.values()) or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    counts = {topic: len(cluster.topics[topic].partitions) for topic in topics}
    if str(cluster.cluster_id).startswith("mockCluster"):  # the embedded broker answers no admin requests
        return {topic: Topic("", count) for topic, count in counts.items()}
    described = admin.describe_topics(TopicCollection(list(topics)), request_timeout=_REQUEST)
    return {
        topic: Topic(identity(answered(future).topic_id), counts[topic], str(cluster.cluster_id), leaderless[topic])
        for topic, future in described.items()
    }


def _leaderless(topic: TopicMetadata) -> frozenset[int]:
    return frozenset(number for number, partition in topic.partitions.items() if partition.leader < 0)


def commits_as_they_are(
    prober: Callable[[], Consumer], partitions: Sequence[TopicPartition], timeout: float = _REQUEST
) -> list[TopicPartition]:
    """What a consumer group has committed. Beside an open transaction that is about to change it: what was before.

    A consumer that is read_committed waits for the end of each such transaction (KIP-447). An admin client could be
    asked, too, but it ends the process (SIGSEGV) where the group has just got another coordinator: librdkafka's
    issue 5040 (measured). Raises KafkaException.
    """
    asking = prober()
    try:
        return committed(asking, partitions, timeout)
    finally:
        asking.close()


def committed(consumer: Consumer, partitions: Sequence[TopicPartition], timeout: float) -> list[TopicPartition]:
    """What its consumer group has committed; asked again while another broker takes over as the coordinator.

    `timeout` in seconds. Raises KafkaException.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            return checked(consumer.committed(list(partitions), timeout=max(deadline - time.monotonic(), _LEAST)))
        except KafkaException as error:
            if error.args[0].code() not in _MOVING or time.monotonic() > deadline:
                raise
        time.sleep(0.1)


def offsets_at(consumer: Consumer, partitions: Sequence[TopicPartition], timestamp: int) -> dict[tuple[str, int], int]:
    """Where in each partition that time is, or EARLIEST or LATEST: asked of the brokers."""
    return {(each.topic, each.partition): each.offset for each in places_at(consumer, partitions, timestamp)}


def places_at(consumer: Consumer, partitions: Sequence[TopicPartition], timestamp: int) -> list[TopicPartition]:
    """As `offsets_at`, with leader epochs: for LATEST those of now."""
    asked = [TopicPartition(each.topic, each.partition, timestamp) for each in partitions]
    deadline = time.monotonic() + _ELECTED
    while asked:
        try:
            return checked(consumer.offsets_for_times(asked, timeout=_REQUEST))
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_LEADER_EPOCH or time.monotonic() > deadline:
                raise
        time.sleep(0.1)
    return []


def divergence(
    prober: Callable[[], Consumer], positions: Mapping[tuple[str, int], tuple[int, int]]
) -> dict[tuple[str, int], int]:
    """Where the logs part from what was read up to these positions: offset, leader epoch of the last record before it.

    Only of partitions where they do: their records from there on are gone, and others have or will have their offsets.
    The client asks for it by itself (OffsetForLeaderEpoch) where it begins to read, and goes to where it parts.
    Raises KafkaException.
    """
    asked = [TopicPartition(*at, offset, "", epoch) for at, (offset, epoch) in positions.items()]
    return {
        at: offset
        for at, message in _first_of_each(prober, asked).items()
        if (offset := message.offset() or 0) < positions[at][0]
    }


def timestamps_at(
    prober: Callable[[], Consumer], positions: Mapping[tuple[str, int], int]
) -> dict[tuple[str, int], int]:
    """Of the first record from each position on, in ms since the epoch; without those that have none, or no record.

    Raises KafkaException.
    """
    found = _first_of_each(prober, [TopicPartition(*at, offset) for at, offset in positions.items()])
    return {at: ms for at, message in found.items() if not message.error() and (ms := message.timestamp()[1]) >= 0}


def _first_of_each(
    prober: Callable[[], Consumer], positions: Sequence[TopicPartition]
) -> dict[tuple[str, int], Message]:
    """What a client that begins to read there is given first: a record, or that this is the end (its error says so)."""
    if not positions:
        return {}
    found, reader = dict[tuple[str, int], Message](), prober()
    deadline = time.monotonic() + _REQUEST  # of the first, and then of each: of many partitions one may come at a time
    try:
        reader.assign(list(positions))
        while len(found) < len(positions):
            if time.monotonic() > deadline:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "no answer what a partition holds at an offset"))
            message = reader.poll(0.1)
            if message is None or ((error := message.error()) and error.code() != KafkaError._PARTITION_EOF):
                continue
            at = (str(message.topic()), message.partition() or 0)
            if at not in found:
                found[at], deadline = message, time.monotonic() + _REQUEST
                reader.pause([TopicPartition(*at)])  # what follows in it would fill the queue that the others need
    finally:
        reader.close()
    return found


def metadata_of(commit: TopicPartition) -> str | None:
    """What a commit says beside its offset; None where that is no text.

    The client reads that of another tool, which ends without a NUL, past its end (measured, 2.16.1).
    """
    try:
        return commit.metadata
    except UnicodeDecodeError:
        return None


def checked(partitions: list[TopicPartition]) -> list[TopicPartition]:
    for each in partitions:
        if each.error:
            raise KafkaException(each.error)
    return partitions
