"""Whether partitions that had no leader when they were assigned have one by now, asked without making the loop wait."""

from collections.abc import Collection
from concurrent.futures import Future

from confluent_kafka import KafkaException, Node, TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._topic import TopicDescription

from utils.kafka.ends import Partition
from utils.logger import logger

LOOK_EVERY = 2.0  # seconds
_REQUEST = 5.0  # seconds that one look may take


class Leaders:
    """One open look at a time, at the topics of these partitions."""

    def __init__(self, admin: AdminClient) -> None:
        self._admin = admin
        self._missed: set[Partition] = set()
        self._open: dict[str, Future[TopicDescription]] = {}
        self._next_look = 0.0

    def assigned(self, without: Collection[Partition]) -> None:
        """`without`: of the partitions that are ours now, those that had no leader."""
        self._missed, self._open = set(without), {}

    def have_returned(self, now: float) -> bool:
        """Whether one of them has a leader again."""
        if not self._missed:
            return False
        if self._open and all(future.done() for future in self._open.values()):
            answers, self._open = self._open, {}
            led = {at for topic, future in answers.items() for at in _led(topic, future)}
            if back := sorted(self._missed & led):
                named = [f"{topic}:{number}" for topic, number in back]
                logger.warning("partitions have a leader again: starting again", extra={"partitions": named})
                self._missed = set()
                return True
        if now >= self._next_look and not self._open:
            self._next_look = now + LOOK_EVERY
            topics = sorted({topic for topic, _ in self._missed})
            self._open = self._admin.describe_topics(TopicCollection(topics), request_timeout=_REQUEST)
        return False


def _is_led(leader: Node | None) -> bool:
    return leader is not None and leader.id >= 0


def _led(topic: str, described: "Future[TopicDescription]") -> set[Partition]:
    """Nothing where it could not be told."""
    try:
        return {(topic, each.id) for each in described.result().partitions if _is_led(each.leader)}
    except KafkaException:
        return set()
