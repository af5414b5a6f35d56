"""When offsets are committed, and what is finished by then: the same for a worker and for a replay of dead letters.

A commit names every partition that is owned, with its map. The loop goes on until its answer comes.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from confluent_kafka import Consumer, TopicPartition

from utils.joining.offsets import CommitPoint, PartitionOffsets, without_start
from utils.kafka import client_errors
from utils.kafka.lookups import metadata_of
from utils.logger import logger
from utils.metrics import Counters
from utils.processing.done import ThreadDied
from utils.sending.delivery import Delivery
from utils.sending.outbox import RecordRefused

BUSY = 0.02  # seconds that a look for an answer waits
AGAIN = 0.25  # seconds until the last commit of an assignment is made once more
ANSWERED = 2.0  # seconds that the answer to the last commit of a loop that has failed is waited for
AGEING = 5.0
"""Seconds: so often a commit tells how long something has waited, where nothing comes. A crash takes back no more."""

KEEP = 200.0
"""Seconds: so often there is a commit in any case. Some balancers close connections that were quiet for four minutes.
Then the next transaction of a producer is late by its own time-out, or fails (measured).
"""


class Partitions(Protocol):
    """Those that are owned: what is committed is what they say."""

    @property
    def partitions(self) -> Mapping[tuple[str, int], PartitionOffsets]: ...

    def note_positions(self) -> int:
        """Finish what reading has passed without a record; how much news there is."""

    def note_epochs(self) -> None:
        """Of the leaders, up to where reading has come."""


@dataclass(kw_only=True, slots=True)
class Commits:
    """Of one worker: at most one is on its way."""

    consumer: Consumer
    owned: Partitions
    delivery: Delivery
    points: Callable[[], list[CommitPoint]]
    """Of every partition that is owned, now."""
    counters: Counters
    interval: float
    clock: Callable[[], float]
    has_news: bool = False
    """Something has changed since the last commit was begun."""

    _settling: bool = False  # a settle() has begun, and is gone on with until it is done
    _unanswered: bool = False  # until a rebalance, too
    _earliest: float = 0.0
    _next: float = 0.0

    def turn(self, is_full: Callable[[], bool]) -> None:
        """When it is due: finish what is safe, then commit every partition's offset and map in one request.

        `is_full`: whether it is due earlier, since only what becomes safe makes room.
        """
        # Without room the first makes some, also while a commit is unanswered: an answer comes only while we read.
        if self._unanswered and (confirmed := self.delivery.committed()) is not None:
            self._unanswered = False
            self._count(confirmed)
        full = is_full()
        is_due = not self._unanswered and self.clock() >= (self._earliest if full else self._next)
        if is_due:
            self.has_news = self.owned.note_positions() > 0 or self.has_news or self._has_aged()
        has_news = self.has_news or self.delivery.pending > 0
        if not (full or self._settling or (is_due and has_news)) or not self.finish_safe():
            return
        self.has_news = True
        if is_due and (self.clock() >= self._next or is_full()) and (points := self.points()):
            self.has_news, self._unanswered = False, True
            self._earliest = self.clock() + self.delivery.commit(self.consumer, points)
            self._next = self._earliest + self.interval
        elif self.delivery.pending:
            self.delivery.send([])  # what has come meanwhile, and has waited for this

    def _has_aged(self) -> bool:
        """Whether something is unfinished, and the last commit, or look, is `AGEING` ago; or the last commit `KEEP`."""
        if self.clock() < self._next + AGEING:
            return False
        self._next, partitions = self.clock(), self.owned.partitions
        return bool(partitions) and (
            self._next >= self._earliest + KEEP or any(each.unfinished() for each in partitions.values())
        )

    def finish_safe(self) -> bool:
        """Whether what was sent is safe; then its offsets are finished."""
        self._settling = not self.delivery.settle()
        for offsets in () if self._settling else self.owned.partitions.values():
            offsets.finish_sent()
        return not self._settling

    @property
    def is_idle(self) -> bool:
        """Nothing is to be committed, and no answer is awaited."""
        return not (self.has_news or self._unanswered or self.delivery.pending)

    def last_by(self, deadline: float, points: Callable[[], list[CommitPoint]]) -> float:
        """Commit, with polling, so that a broker that does not answer cannot hold it up after `deadline`. One that
        has failed is taken anew, while there is time.

        Returns by how many seconds the next one is to be later.
        """
        confirmed, pause = self._confirmed_by(deadline, points())
        while not confirmed and self._may_repeat(deadline, max(pause, AGAIN)):
            confirmed, pause = self._confirmed_by(deadline, points())
        if not confirmed:
            logger.warning("the last commit was not confirmed in time: the next owner may repeat")
        return pause

    def _confirmed_by(self, deadline: float, points: list[CommitPoint]) -> tuple[bool, float]:
        self._unanswered = True
        pause = self.delivery.commit(self.consumer, points)
        while self.delivery.committed() is None and self.clock() < deadline:
            self.consumer.poll(BUSY)
        confirmed = self.delivery.committed() is True
        self._count(confirmed)
        return confirmed, pause

    def _may_repeat(self, deadline: float, pause: float) -> bool:
        """After a while. Not after a rebalance, in which the partitions had a last commit of their own."""
        again = self.clock() + pause
        while self._unanswered and self.clock() < again < deadline:
            self.consumer.poll(BUSY)
        return self._unanswered and again < deadline

    def last_now(self, consumer: Consumer, points: list[CommitPoint]) -> float:
        """Commit these inside a callback of the consumer, where it cannot be polled. Raises KafkaException."""
        pause = self.delivery.commit_now(consumer, points)
        self._count(True)
        return pause

    def fail(self, failure: BaseException) -> None:
        """The loop has failed. The answer to a commit on its way is still heard: it may have to be taken back."""
        by = self.clock() + ANSWERED
        with suppress(Exception):  # why it has failed is known already
            self.delivery.fail()
            while self._unanswered and self.delivery.committed() is None and self.clock() < by:
                self.consumer.poll(BUSY)
        self.take_back_start(failure)

    def take_back_start(self, failure: BaseException) -> None:
        """Commit once more what is committed, but for the start that it counts. Not where a message may be to blame.

        What is committed only Kafka knows for certain: the last transaction may have been carried out, or not. It does
        not tell while that is open.
        """
        owned = self.owned.partitions
        asked = [TopicPartition(*at) for at, each in owned.items() if each.suspicion.is_counted]
        if not asked or accuses_a_message(failure):
            return
        with suppress(Exception):  # then it stays; why the loop has failed is known already
            found = [each for each in self.consumer.committed(asked, timeout=ANSWERED) if not each.error]
            texts = [without_start(metadata_of(each), each.offset, owned[each.topic, each.partition]) for each in found]
            if again := [_with(text, each) for text, each in zip(texts, found, strict=True) if text]:
                self.consumer.commit(offsets=again, asynchronous=False)

    def drop(self) -> None:
        """Of partitions that are ours no more nothing is committed."""
        self.delivery.drop()
        self._settling = self._unanswered = False

    def _count(self, confirmed: bool) -> None:
        for offsets in self.owned.partitions.values() if confirmed else ():
            offsets.confirm()
        self.counters.commits += confirmed
        self.counters.failed_commits += not confirmed
        self.has_news = self.has_news or not confirmed


def _with(text: str, commit: TopicPartition) -> TopicPartition:
    epoch: int | None = commit.leader_epoch
    return TopicPartition(commit.topic, commit.partition, commit.offset, text, -1 if epoch is None else epoch)


def accuses_a_message(failure: BaseException) -> bool:
    """Whether a start that ended so counts as one that a message may have ended (rule 13)."""
    if isinstance(failure, RecordRefused):  # it is known which, and leaves as a dead letter
        return False
    return isinstance(failure, ThreadDied) or not client_errors.concerns_all(failure)
