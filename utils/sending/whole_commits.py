"""A commit counts for all of its partitions, or for none: one that Kafka has refused is taken back.

A broker judges a commit partition by partition: where the right to read one topic was taken away, or a topic was
deleted, those of the others are carried out. Then of what had met one part would be done and the other not. Which ones
they are the client does not tell: it gives the one error to all of them (measured).
"""

from itertools import groupby
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from utils.joining.offsets import CommitPoint
from utils.logger import logger


class WholeCommits:
    """Of one assignment: what was committed last, and what is on its way."""

    def __init__(self) -> None:
        self._confirmed: list[CommitPoint] = []
        self._made: list[CommitPoint] = []

    def made(self, points: list[CommitPoint]) -> None:
        self._made = points

    def confirmed(self) -> None:
        """The commit that was made last has been."""
        self._confirmed = self._made

    def take_back(self, consumer: Consumer) -> None:
        """Commit once more what was confirmed last, each topic by itself. Those that are refused have stayed there."""
        before, self._confirmed = sorted(self._confirmed, key=_topic), []
        stand = [topic for topic, points in groupby(before, _topic) if _is_taken(consumer, list(points))]
        if stand:
            logger.warning("a commit was refused: what it may have changed is taken back", extra={"topics": stand})

    def forget(self) -> None:
        """The partitions are ours no more."""
        self._confirmed, self._made = [], []


def _topic(point: CommitPoint) -> str:
    return point.topic


def _is_taken(consumer: Consumer, points: list[CommitPoint]) -> bool:
    try:
        answer: Any = consumer.commit(offsets=[TopicPartition(*point) for point in points], asynchronous=False)
    except KafkaException:
        return False
    return not any(each.error for each in answer or ())
