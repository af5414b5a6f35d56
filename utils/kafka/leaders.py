"""Whether partitions that had no leader when they were assigned have one by now, asked without making the loop wait."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress

from confluent_kafka import KafkaException, Node, TopicCollection, TopicPartitionInfo
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._topic import TopicDescription

from utils.kafka.answers import answered
from utils.kafka.ends import Partition
from utils.logger import logger

LOOK_EVERY = 2.0  # seconds
_REQUEST = 5.0  # seconds that one look may take
_FIND = 1.0  # seconds; a few ms as long as there is any broker


class Leaders:
    """One open look at a time, at the topics of these partitions."""

    def __init__(self, admin: AdminClient) -> None:
        self._admin = admin
        self.missed: set[Partition] = set()
        """They have no leader, or their siblings have none."""
        self._open: dict[str, Future[TopicDescription]] = {}
        self._next_look = 0.0

    def assigned(self, without: Collection[Partition]) -> None:
        """`without`: of the partitions that are ours now, those that had no leader, or whose siblings had none."""
        self.missed, self._open = set(without), {}

    def have_returned(self, now: float) -> bool:
        """Whether one of them has a leader again, and so have all that are joined with it."""
        if not self.missed:
            return False
        if self._open and all(future.done() for future in self._open.values()):
            answers, self._open = self._open, {}
            every = {topic: partitions_of(future) for topic, future in answers.items()}
            if not any(every.values()):
                find_brokers(self._admin, next(iter(answers)))
            led = {(topic, each.id) for topic, some in every.items() for each in some if is_led(each.leader)}
            counts = {len(some) for some in every.values()}
            joined = _by_number(self.missed) if len(counts) == 1 else [self.missed]
            if back := sorted(at for some in joined if some <= led for at in some):
                named = [f"{topic}:{number}" for topic, number in back]
                logger.warning("partitions have a leader again: starting again", extra={"partitions": named})
                self.missed = set()
                return True
        if now >= self._next_look and not self._open:
            self._next_look = now + LOOK_EVERY
            topics = sorted({topic for topic, _ in self.missed})
            self._open = self._admin.describe_topics(TopicCollection(topics), request_timeout=_REQUEST)
        return False


def is_led(leader: Node | None) -> bool:
    return leader is not None and leader.id >= 0


def partitions_of(described: "Future[TopicDescription]") -> Sequence[TopicPartitionInfo]:
    """None where it could not be told."""
    try:
        partitions: list[TopicPartitionInfo] = answered(described).partitions
    except KafkaException:
        return []
    return partitions


def find_brokers(admin: AdminClient, topic: str) -> None:
    """Nothing could be told: have the client ask anew who is there, for the next look.

    It asks the broker that it takes for the controller. With KRaft that is any of them, and where this one is down, the
    client waits for it, and looks for no other (librdkafka 2.16; `rd_kafka_broker_controller_async`).
    """
    with suppress(KafkaException):
        admin.list_topics(topic, timeout=_FIND)


def _by_number(partitions: Iterable[Partition]) -> Iterable[set[Partition]]:
    found = defaultdict[int, set[Partition]](set)
    for at in partitions:
        found[at[1]].add(at)
    return found.values()
