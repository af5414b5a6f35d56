"""The partitions that are ours: from when Kafka assigns them until it revokes them, or the worker ends.

The callbacks run inside poll() and close(). No exception may leave them: what went wrong is kept in `failure`, for the
loop to raise.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import Protocol

from confluent_kafka import Consumer, KafkaException, TopicPartition

from utils.errors import guarded
from utils.joining.offsets import CommitPoint, PartitionOffsets
from utils.joining.suspicion import CrashRecord
from utils.logger import logger
from utils.metrics import Counters
from utils.processing.executor import Executor
from utils.processing.outcome import Outcome
from utils.sending.commits import Commits, Partitions
from utils.sending.delivery import Delivery
from utils.sending.drain import drain

LOCATING = 120.0  # seconds: several requests to slow brokers, the maps that are stored, and the first transaction
# Seconds that Kafka may take for the commit in a revoke: the client waits for its coordinator as long as that is away.
COMMITTING = 600.0

OnRebalance = Callable[[Consumer, list[TopicPartition]], None]
Locate = Callable[[Consumer, Sequence[TopicPartition], float], list[PartitionOffsets]]
"""Where to read on in these partitions, from now on by the loop's clock. Raises KafkaException, ConfigError."""


class Input(Protocol):
    """What is read: told which partitions that is."""

    @property
    def owned(self) -> Partitions: ...

    def rebalanced(self, owned: Iterable[PartitionOffsets], left_out: Collection[tuple[str, int]] = ()) -> None: ...


class Loop(Protocol):
    """Whose partitions they are: a worker, or a replay of dead letters."""

    @property
    def consumer(self) -> Consumer: ...
    @property
    def intake(self) -> Input: ...
    @property
    def delivery(self) -> Delivery: ...
    @property
    def executor(self) -> Executor: ...
    @property
    def counters(self) -> Counters: ...
    @property
    def clock(self) -> Callable[[], float]: ...

    def commit_points(self) -> list[CommitPoint]:
        """Of every partition that is owned: a commit without its map would break the groups that wait."""

    def assigned(self, located: Sequence[PartitionOffsets]) -> None:
        """These are ours from now on."""

    def deliver(self, outcomes: list[Outcome]) -> None:
        """Results, on their way out."""

    def may_take(self, seconds: float) -> None:
        """No turn of the loop comes for so long, and that is no fault."""

    def forget(self) -> None:
        """Drop all that is in memory: whoever is assigned the partitions next reads it again."""


class Assignment:
    """Of one loop, with its commits. `failure` is what a callback caught, or the loop raised: from then on nothing is
    committed, not even by close().
    """

    def __init__(self, loop: Loop, locate: Locate, commit_interval: float, shutdown_timeout: float) -> None:
        self.consumer = loop.consumer
        self.reading = loop.intake
        self.executor = loop.executor
        self.delivery = loop.delivery
        self.locate = locate
        self.shutdown_timeout = shutdown_timeout
        self.failure: BaseException | None = None
        # All is forgotten: what the client still calls while it is closed concerns a loop that is no more.
        self.is_over = False
        self._loop = loop
        self._ends_by: float | None = None  # the end of the assignment that is under way
        # How the partitions stood that went last without a commit of ours.
        self._lost: dict[tuple[str, int], CrashRecord] = {}
        self.commits = Commits(
            consumer=loop.consumer,
            owned=loop.intake.owned,
            delivery=loop.delivery,
            points=loop.commit_points,
            counters=loop.counters,
            interval=commit_interval,
            clock=loop.clock,
        )

    @property
    def owned(self) -> Partitions:
        return self.reading.owned

    @property
    def clock(self) -> Callable[[], float]:
        return self._loop.clock

    def subscribe(self, topics: Sequence[str]) -> None:
        self.consumer.subscribe(
            list(topics),
            on_assign=guarded(self._unless_over(self._on_assign), self.fail),
            on_revoke=guarded(self._unless_over(self._on_revoke), self.fail),
            on_lost=guarded(self._unless_over(self._on_lost), self.fail),
        )

    def _unless_over(self, callback: OnRebalance) -> OnRebalance:
        def called(consumer: Consumer, partitions: list[TopicPartition]) -> None:
            if not self.is_over:
                callback(consumer, partitions)

        return called

    def fail(self, error: BaseException) -> None:
        self.failure = self.failure or error

    def end(self) -> float:
        """As a revoke, but with polling, so that a broker that does not answer cannot hold it up. The seconds of
        SHUTDOWN_TIMEOUT that are left.
        """
        by = self.clock() + self.shutdown_timeout
        if self.owned.partitions:
            self._drain(lambda deadline: self.commits.last_by(deadline, self._last_points))
        return max(by - self.clock(), 0.0)

    def forget(self) -> None:
        self.executor.drop()
        self.commits.drop()
        self._loop.forget()
        self.reading.rebalanced([])

    def _on_assign(self, consumer: Consumer, owned: list[TopicPartition]) -> None:
        try:
            self._loop.counters.rebalances += 1
            self._loop.may_take(LOCATING)
            self.delivery.assigned(consumer)
            located = self.locate(consumer, owned, self.clock())
            self._recognise(located)
            found = {(each.topic, each.partition) for each in located}
            self.reading.rebalanced(located, {(each.topic, each.partition) for each in owned} - found)
            partitions = [TopicPartition(*each.place) for each in located]
            consumer.assign(partitions)
            consumer.resume(partitions)  # a pause outlives a rebalance (measured)
            self.commits.has_news = bool(located)  # the first commit notes where reading began
            self._loop.assigned(located)
        except Exception:
            with suppress(Exception):  # else the client assigns all by itself, and reads from the commits
                consumer.assign([])
            raise

    def _on_revoke(self, consumer: Consumer, _revoked: list[TopicPartition]) -> None:
        """Finish what is done, commit, forget. The loop raises DeliveryFailed: with exactly once, any failure."""
        stood = self._crash_records()
        try:
            if self.owned.partitions and not self.failure:
                self._drain(lambda _deadline: self._commit_now(consumer))
        except Exception as error:
            self._lost = stood
            self.commits.take_back_start(error)
            if not isinstance(error, KafkaException):
                raise
            logger.warning("commit before a revoke failed: the next owner repeats", extra={"error": str(error)})
        finally:
            self.forget()

    def _commit_now(self, consumer: Consumer) -> float:
        self._loop.may_take(COMMITTING)
        return self.commits.last_now(consumer, self._last_points())

    def _on_lost(self, _consumer: Consumer, _lost: list[TopicPartition]) -> None:
        """Kafka has given our partitions to others: nothing of them may be committed."""
        self._lost = self._crash_records() or self._lost
        logger.warning("partitions lost")
        self.forget()

    def _crash_records(self) -> dict[tuple[str, int], CrashRecord]:
        return {at: offsets.suspicion.crash_record for at, offsets in self.owned.partitions.items()}

    def _recognise(self, located: Iterable[PartitionOffsets]) -> None:
        """What went without a commit and is ours again: this process lives, whatever the network did meanwhile."""
        lost, self._lost = self._lost, {}
        for offsets in located:
            if before := lost.get((offsets.topic, offsets.partition)):
                offsets.suspicion.live_on_as(before)

    def _drain(self, commit: Callable[[float], float]) -> None:
        """A rebalance that comes while the last commit of `end()` is waited for gets no time of its own."""
        before, now = self._ends_by, self.clock()
        for offsets in self.owned.partitions.values() if before is None else ():
            offsets.suspicion.begin_to_end()
        self._ends_by = now + self.shutdown_timeout if before is None else before
        self._loop.may_take(self._ends_by - now)
        try:
            drain(self, self._ends_by, self._loop.deliver, self.commits.finish_safe, commit)
        finally:
            self._ends_by = before

    def _last_points(self) -> list[CommitPoint]:
        self.owned.note_epochs()
        is_idle = not (self.executor.in_flight or self.executor.calls() or self.delivery.pending)
        for offsets in self.owned.partitions.values():
            offsets.end_in_order(is_idle=is_idle)
        return self.commits.points()
