"""Whether the topics that are read are still the ones that they were, asked of the broker without making the loop wait;
and, as the answer tells it too, which of their partitions have no leader.

The client does not tell: where a topic was deleted and made again, it reads on in the new one at the offset of the old
one, as long as there is such an offset (librdkafka 2.16; `rd_kafka_topic_metadata_update` says so). What comes before
is never read, and the lag is 0.
"""

from collections.abc import Iterable
from concurrent.futures import Future
from typing import Protocol

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._topic import TopicDescription

from utils.kafka.answers import answered
from utils.kafka.ends import Partition
from utils.kafka.leaders import find_brokers, is_led, partitions_of
from utils.logger import logger
from utils.topic_ids import identity

LOOK_EVERY = 2.0  # seconds; what is read of a new topic meanwhile is read twice. A look: 0.6 ms of CPU (measured),
LOOK_PAUSE = 0.01  # and more for each partition, for which so many seconds pass besides
_REQUEST = 5.0  # seconds that one look may take


class Owned(Protocol):
    """A partition of ours, and which topic of its name it was assigned of; no identity where there is none."""

    @property
    def topic(self) -> str: ...
    @property
    def topic_id(self) -> str: ...


class Identities:
    """One open look at a time, at all topics."""

    def __init__(self, admin: AdminClient) -> None:
        self._admin = admin
        self._open: dict[str, Future[TopicDescription]] = {}
        self._next_look = 0.0
        self._first: dict[str, str] = {}  # by topic: the identity that the client of these partitions has known first
        self._changed: set[str] = set()
        self.leaderless: set[Partition] = set()
        """Of the topics that are read, as the last answer told, which costs no request of its own."""

    def assigned(self, owned: Iterable[Owned]) -> None:
        """These partitions are read now; an answer that is open may be older than what is known of them.

        A client that has known a former topic may read nothing of the new one: it passes over news of a leader whose
        epoch is below the one that it knows, and epochs begin anew (librdkafka 2.16; `rd_kafka_toppar_leader_update`).
        """
        self._open, self.leaderless = {}, set()
        known = {each.topic: each.topic_id for each in owned if each.topic_id}
        self._changed = {topic for topic, found in known.items() if self._first.setdefault(topic, found) != found}

    def made_again(self, owned: Iterable[Owned], now: float) -> set[str]:
        """The topics of these partitions that have another identity than their client has known, once that is told.

        What cannot be told is not said: a topic that is not there is the client's to notice.
        """
        if self._open and all(future.done() for future in self._open.values()):
            answers, self._open = self._open, {}
            found = {topic: _identity(future) for topic, future in answers.items()}
            self._note_leaders(answers)
            self._changed |= {each.topic for each in owned if found.get(each.topic, "") not in {"", each.topic_id}}
        if self._changed:
            for topic in sorted(self._changed):
                logger.error("the topic was made again while it was read: starting again", extra={"topic": topic})
            made_again, self._changed = self._changed, set()
            return made_again
        if now >= self._next_look and not self._open:
            # Without an identity there is nothing to be told: the embedded broker has none.
            topics = [each.topic for each in owned if each.topic_id]
            self._next_look = now + LOOK_EVERY + LOOK_PAUSE * len(topics)
            self._admin.poll(0)  # else the errors and the log of this client, which has no other polls, stay in memory
            if topics := sorted(set(topics)):
                self._open = self._admin.describe_topics(TopicCollection(topics), request_timeout=_REQUEST)
        return set()

    def _note_leaders(self, answers: dict[str, Future[TopicDescription]]) -> None:
        """Of a topic that could not be told, what is known stays."""
        told = {topic: partitions for topic, future in answers.items() if (partitions := partitions_of(future))}
        if not told:
            find_brokers(self._admin, next(iter(answers)))
        without = {(topic, each.id) for topic, some in told.items() for each in some if not is_led(each.leader)}
        self.leaderless = {at for at in self.leaderless if at[0] not in told} | without


def _identity(described: "Future[TopicDescription]") -> str:
    """Nothing where it could not be told."""
    try:
        return identity(answered(described).topic_id)
    except KafkaException:
        return ""
