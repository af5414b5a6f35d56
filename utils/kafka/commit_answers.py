"""What Kafka answers to commits, looked at beside the worker: that they fail for a while is told, and why."""

from collections.abc import Callable
from dataclasses import dataclass

from confluent_kafka import KafkaError, TopicPartition

from utils.logger import logger

LASTS = 10.0  # seconds: a rebalance, or a coordinator that moves, refuses commits for less
AGAIN = 300.0  # seconds between two lines: the status page counts the errors of ten minutes
GAP = 60.0  # seconds between two that fail: the first has nothing to do with the second


@dataclass(slots=True)
class CommitAnswers:
    """Of one consumer. A commit that fails for now is made again soon, so that one alone is no news."""

    heard: Callable[[KafkaError | None, list[TopicPartition]], None]
    """Who acts upon them."""
    clock: Callable[[], float]

    _since: float | None = None  # the first that has failed
    _last: float = 0.0
    _next: float = 0.0

    def on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        """As Kafka's client calls it."""
        self.heard(error, partitions)
        errors = [each for each in (error, *(partition.error for partition in partitions)) if each]
        if errors:
            self._note(errors[0], self.clock())
        else:
            self._since = None

    def _note(self, error: KafkaError, now: float) -> None:
        if self._since is None or now - self._last > GAP:
            self._since, self._next = now, now + LASTS
        self._last = now
        if now >= self._next:
            self._next = now + AGAIN
            facts = {"error": str(error), "for_s": round(now - self._since)}
            logger.error("commits fail, and are tried again", extra=facts)
