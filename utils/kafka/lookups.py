"""What is asked of brokers and waited for: topics, commits, and where in a partition a time is."""

from collections.abc import Sequence
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from config import ConfigError

_REQUEST = 10.0  # seconds that one request may take
EARLIEST, LATEST = -2, -1  # timestamps of the ListOffsets request that stand for the two ends of the log


@dataclass(frozen=True, slots=True)
class Topic:
    """What a worker must know of a topic: its identity (a topic made again has another one) and its partitions."""

    id: str
    partitions: int


def describe(admin: AdminClient, topics: tuple[str, ...]) -> dict[str, Topic]:
    """Identity and number of partitions of each topic. Raises ConfigError where one is missing, KafkaException."""
    cluster = admin.list_topics(timeout=_REQUEST)
    missing = [topic for topic in topics if topic not in cluster.topics]
    if missing:
        raise ConfigError([f"topic {topic} does not exist" for topic in missing])
    counts = {topic: len(cluster.topics[topic].partitions) for topic in topics}
    if str(cluster.cluster_id).startswith("mockCluster"):  # the embedded broker answers no admin requests
        return {topic: Topic("", count) for topic, count in counts.items()}
    described = admin.describe_topics(TopicCollection(list(topics)), request_timeout=_REQUEST)
    return {topic: Topic(str(future.result().topic_id), counts[topic]) for topic, future in described.items()}


def offsets_at(consumer: Consumer, partitions: Sequence[TopicPartition], timestamp: int) -> dict[tuple[str, int], int]:
    """Where in each partition that time is, or EARLIEST or LATEST: asked of the brokers."""
    asked = [TopicPartition(each.topic, each.partition, timestamp) for each in partitions]
    answers = checked(consumer.offsets_for_times(asked, timeout=_REQUEST)) if asked else []
    return {(each.topic, each.partition): each.offset for each in answers}


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
