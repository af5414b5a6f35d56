"""The worker: one poll loop, in the order in which a message travels.

read -> receive -> process -> deliver -> commit, and once in a while evict. One thread owns the consumer and all state;
rebalance and delivery callbacks run inside its calls. Crash-only: what the loop cannot handle is raised, all memory is
dropped, the consumer is closed without a commit, and `supervise` builds a new worker that goes on from the last commit.
"""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import compress, repeat

from confluent_kafka import Consumer, KafkaException, TopicPartition

from utils.joining.aggregator import Aggregator, Group
from utils.joining.messages import Fragment, read_each, read_ids
from utils.joining.offsets import CommitPoint, PartitionOffsets, mark
from utils.joining.states import FINISHED
from utils.logger import logger
from utils.metrics import Counters
from utils.monitoring.status import Health
from utils.monitoring.view import View
from utils.processing.executor import Executor, Outcome
from utils.reading.intake import Batch, Contents, Intake, Record
from utils.reading.locator import AssignmentOutdated
from utils.reading.overflow import Overflow
from utils.sending.delivery import Backlog, Delivery
from utils.sending.drain import drain
from utils.sending.failures import Failures

IDLE = 0.2  # seconds that a step waits for a record; also how long a signal may go unnoticed
BUSY = 0.02  # seconds that a step waits for process() before it polls again
MAX_IN_FLIGHT = 8_000  # groups in process() or on their way out; with more, reading waits
EVICT_EVERY, EVICT_AT_LEAST_EVERY = 0.5, 10.0  # seconds: if it takes long, four times as long between


@dataclass(kw_only=True, eq=False, slots=True)
class Worker:
    """Joins the records of the input topics by id, hands the groups to process(), delivers what it returns."""

    topics_input: tuple[str, ...]
    message_timeout: float
    max_pending_bytes: int
    commit_interval: float
    shutdown_timeout: float
    consumer: Consumer
    intake: Intake
    delivery: Delivery
    failures: Failures
    executor: Executor
    locate: Callable[[Consumer, Sequence[TopicPartition]], list[PartitionOffsets]]
    """Where to read on in these partitions. Raises KafkaException, ConfigError."""
    counters: Counters
    health: Health
    stopping: threading.Event
    leave: Callable[[Consumer], None] = lambda _consumer: None
    """Leave the group for good, which closing the consumer does not do for a static member."""
    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time

    _failure: BaseException | None = None  # what a callback caught, for the loop to raise
    _bytes_in_flight: int = 0  # of the groups in process()
    _bytes_of_results: float = 0.0  # of a group, lately: what those in process() will take
    _dirty: bool = False  # something has changed since the last commit was begun
    _settling: bool = False  # a settle() has begun, and is gone on with until it is done
    _committing: bool = False
    _earliest_commit: float = 0.0
    _next_commit: float = 0.0
    _next_eviction: float = 0.0

    _topic_index: dict[str, int] = field(init=False)
    _aggregator: Aggregator = field(init=False)
    _overflow: Overflow = field(init=False)

    def __post_init__(self) -> None:
        self._topic_index = {topic: index for index, topic in enumerate(self.topics_input)}
        self._aggregator = Aggregator(len(self.topics_input))
        self.health.view = View(self, self._aggregator)
        room = self.max_pending_bytes // 2  # for what waits; the other half is for what is on its way out
        self._overflow = Overflow(self._aggregator, self.intake, self._topic_index, room, self.counters)

    # ------------------------------------------------------------------ the loop

    def run(self) -> None:
        """Until `stopping` is set or a topic was made again; raises what it cannot go on with. Closes the consumer."""
        try:
            topics = list(self.topics_input)
            self.consumer.subscribe(topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)
            while not (self.stopping.is_set() or self.intake.reads_former_topic(self.clock())):
                self.step()
            self._shut_down()
        except BaseException as error:
            self._failure = self._failure or error  # from here on nothing is committed, not even by close()
            if isinstance(self._failure, AssignmentOutdated):
                self.leave(self.consumer)
            raise
        finally:
            self._forget()
            self.health.turned_at = None
            self.consumer.close()

    def step(self) -> None:
        """One turn of the loop."""
        self.health.turn(self.clock())
        takes_results = self.delivery.backlog.bytes < self._overflow.room  # else process() soon waits, too
        if records := self._read(takes_results):
            self._process(self._receive(records))
        if takes_results:
            self._deliver(self.executor.collect(BUSY))
        self._commit()
        self._evict()
        self._put_off()
        self._overflow.balance(self.clock(), self.executor.parked.bytes)

    # ------------------------------------------------------------------ the life of a message

    def _read(self, takes_results: bool) -> list[Record]:
        """The next records, as soon as there are any; none while there is no room for them."""
        busy = min(self.commit_interval, IDLE) if self.delivery.pending or self._dirty else IDLE
        records = self.intake.read(self._load(), 0 if self.executor.in_flight and takes_results else busy)
        if self._failure:
            raise self._failure
        return records

    def _receive(self, records: list[Record]) -> list[Group]:
        """Records into the dict; returns the groups that are complete now."""
        now = self.clock()
        self._dirty = True
        batch = self.intake.unfinished(records)
        contents = batch.contents()
        ids, invalid = read_ids(contents.values, contents.unreadable)
        fragments = self._fragments(batch, contents, now)
        if invalid:
            keys, _ = read_each("key", [batch.records[at] for at in invalid])
            self._give_up(list(map(self.failures.invalid, [fragments[at] for at in invalid], keys, invalid.values())))
            fragments, ids = list(compress(fragments, ids)), list(filter(None, ids))
        complete, superseded = self._overflow.add(ids, fragments, now)
        self.counters.completed += len(complete)
        self.counters.superseded += len(superseded)
        mark(superseded, FINISHED)
        return complete

    def _process(self, groups: list[Group]) -> None:
        if groups:
            self._bytes_in_flight += sum([group.bytes for group in groups])
            self.executor.submit(groups)

    def _deliver(self, outcomes: list[Outcome]) -> None:
        """Results, and dead letters in place of those that failed, on their way out."""
        if not outcomes:
            return
        self._bytes_in_flight -= sum([outcome.group.bytes for outcome in outcomes])
        sizes = [len(outcome.results) for outcome in outcomes if not outcome.error]
        if len(sizes) < len(outcomes):
            outcomes = [self.failures.failed(outcome) if outcome.error else outcome for outcome in outcomes]
        self.counters.results += sum(sizes)
        self.counters.filtered += sizes.count(0)
        before = self.delivery.backlog.bytes
        self.delivery.send(outcomes)
        self._bytes_of_results = max((self.delivery.backlog.bytes - before) / len(outcomes), self._bytes_of_results / 2)
        self._dirty = True

    def _give_up(self, outcomes: list[Outcome]) -> None:
        """What never gets to process() leaves as a result does: its offsets are finished when its letter is safe."""
        self.delivery.send(outcomes)
        self._dirty = True

    def _commit(self) -> None:
        """When it is due: finish what is safe, then commit every partition's offset and map in one request."""
        # Without room the first makes some, also while a commit is unanswered: an answer comes only while we read.
        if self._committing and (confirmed := self.delivery.committed()) is not None:
            self._committing = False
            self._count_commit(confirmed)
        is_full = self._is_full()
        is_due = not self._committing and self.clock() >= (self._earliest_commit if is_full else self._next_commit)
        if is_due:
            self._dirty = self.intake.note_positions() > 0 or self._dirty
        has_news = self._dirty or self.delivery.pending > 0
        if not (is_full or self._settling or (is_due and has_news)) or not self._finish_safe():
            return
        self._dirty = True
        if is_due and (self.clock() >= self._next_commit or self._is_full()) and (points := self._commit_points()):
            self._dirty, self._committing = False, True
            self._earliest_commit = self.clock() + self.delivery.commit(self.consumer, points)
            self._next_commit = self._earliest_commit + self.commit_interval
        elif self.delivery.pending:
            self.delivery.send([])  # what has come meanwhile, and has waited for this

    def _evict(self) -> None:
        """Give up the groups that have waited for MESSAGE_TIMEOUT."""
        began = self.clock()
        if began < self._next_eviction:
            return
        if self._aggregator.has_waited_since(began - self.message_timeout):
            enough = self.intake.waited_enough(began, self.message_timeout)
            evicted = self._aggregator.evict({(self._topic_index[at[0]], at[1]): by for at, by in enough.items()})
            if evicted:
                self._give_up(self.failures.incomplete(evicted, self._missing_topics))
        now = self.clock()
        self._next_eviction = now + min(max(EVICT_EVERY, 4 * (now - began)), EVICT_AT_LEAST_EVERY)

    def _put_off(self) -> None:
        """Too much waits for its own id, between attempts or behind it: the newest is read again later."""
        if self.executor.parked.bytes > self._overflow.room_to_park:
            groups = self.executor.shed(self._overflow.room_to_park * 3 // 4)
            self._bytes_in_flight -= sum([group.bytes for group in groups])
            self.counters.completed -= len(groups)
            self._overflow.put_off(groups)

    # ------------------------------------------------------------------ what the steps are made of

    def _load(self, backlog: Backlog | None = None) -> float:
        """How much is in process() and on its way out (or `backlog`); 1 and more: there is no room for more."""
        parked, backlog = self.executor.parked, self.delivery.backlog if backlog is None else backlog
        in_flight = self.executor.in_flight - parked.groups
        in_bytes = self._bytes_in_flight + in_flight * self._bytes_of_results + backlog.bytes
        return max((in_flight + backlog.groups) / MAX_IN_FLIGHT, in_bytes / self._overflow.room)

    def _is_full(self) -> bool:
        """No more can leave or be collected, or there is no room, but would be if what is on its way out were safe."""
        is_stopped = self.delivery.holds_back or self.delivery.backlog.bytes >= self._overflow.room
        return is_stopped or self._load() >= 1 > self._load(Backlog())

    def _fragments(self, batch: Batch, contents: Contents, now: float) -> list[Fragment]:
        bodies = [value or b"" for value in contents.values]
        headers = contents.headers
        self.counters.with_headers += len(headers) - headers.count(None)
        arrivals, drops = self._arrivals(batch, contents, now), repeat(self._overflow.drops)
        topics = batch.topics(self._topic_index)
        return list(map(Fragment, topics, batch.partitions, batch.offsets, bodies, headers, arrivals, drops))

    def _arrivals(self, batch: Batch, contents: Contents, now: float) -> Iterable[float]:
        """When these records arrived the first time: for what is read again, the clock of MESSAGE_TIMEOUT goes on."""
        if batch.is_new:
            return repeat(now)
        epoch, read = now - self.wall_clock(), zip(batch.partitions, batch.offsets, contents.timestamps, strict=True)
        arrivals = [
            now if of.is_new(offset) else min(of.first_arrival(offset, epoch + ms / 1000, epoch), now)
            for of, offset, (_, ms) in read
        ]
        self._aggregator.disorder(min(arrivals))
        return arrivals

    def _finish_safe(self) -> bool:
        """Whether what was sent is safe; then its offsets are finished."""
        self._settling = not self.delivery.settle()
        for offsets in () if self._settling else self.intake.owned.values():
            offsets.finish_sent()
        return not self._settling

    def _missing_topics(self, group: Group) -> list[str]:
        return [self.topics_input[index] for index in self._aggregator.missing(group)]

    def _commit_points(self) -> list[CommitPoint]:
        """Of every partition that we own: a commit without its map would break the groups that wait."""
        now, now_ms = self.clock(), int(self.wall_clock() * 1000)
        oldest = self._aggregator.oldest_arrival()
        oldest_ms = now_ms if oldest is None else now_ms - int((now - oldest) * 1000)
        return [offsets.commit_point(oldest_ms, now_ms, now) for offsets in self.intake.owned.values()]

    def _count_commit(self, confirmed: bool) -> None:
        for offsets in self.intake.owned.values() if confirmed else ():
            offsets.confirm()
        self.counters.commits += confirmed
        self.counters.failed_commits += not confirmed
        self._dirty = self._dirty or not confirmed

    # ------------------------------------------------------------------ rebalances and the end

    def _on_assign(self, consumer: Consumer, owned: list[TopicPartition]) -> None:
        """Runs inside poll(): no exception may leave it, the client would lose records (measured)."""
        self.counters.rebalances += 1
        try:
            self.delivery.assigned(consumer)
            located = self.locate(consumer, owned)
            self.intake.rebalanced(located)
            partitions = [TopicPartition(each.topic, each.partition, each.position) for each in located]
            consumer.assign(partitions)
            consumer.resume(partitions)  # a pause outlives a rebalance (measured)
            self.health.joined = True
            self._dirty = True  # the first commit notes where reading began
            logger.info(
                "partitions assigned", extra={"partitions": [f"{each.topic}:{each.partition}" for each in owned]}
            )
        except Exception as error:
            self._failure = self._failure or error
            with suppress(Exception):  # else the client assigns all by itself, and reads from the commits
                consumer.assign([])

    def _on_revoke(self, consumer: Consumer, _revoked: list[TopicPartition]) -> None:
        """Finish what is done, commit, forget. Runs inside poll() and close(): no exception may leave it."""
        try:
            if self.intake.owned and not self._failure:
                drain(self, self._deliver, self._finish_safe, lambda _deadline: self._commit_now(consumer))
        except KafkaException as error:
            logger.warning("commit before a revoke failed: the next owner repeats", extra={"error": str(error)})
        except Exception as error:
            self._failure = self._failure or error
        finally:
            self._forget()

    def _on_lost(self, _consumer: Consumer, _lost: list[TopicPartition]) -> None:
        """The group has given our partitions to others: nothing of them may be committed."""
        logger.warning("partitions lost")
        self._forget()

    def _shut_down(self) -> None:
        """As a revoke, but with polling, so that a broker that does not answer cannot hold it up."""
        if self.intake.owned:
            drain(self, self._deliver, self._finish_safe, self._commit_by)

    def _commit_by(self, deadline: float) -> float:
        pause = self.delivery.commit(self.consumer, self._last_points())
        while self.delivery.committed() is None and self.clock() < deadline:
            self.consumer.poll(BUSY)
        self._count_commit(self.delivery.committed() is True)
        return pause

    def _commit_now(self, consumer: Consumer) -> float:
        pause = self.delivery.commit_now(consumer, self._last_points())
        self._count_commit(True)
        return pause

    def _last_points(self) -> list[CommitPoint]:
        for offsets in self.intake.owned.values() if not self.delivery.pending else ():
            offsets.end_in_order(is_idle=not self.executor.in_flight)
        return self._commit_points()

    def _forget(self) -> None:
        """Drop all that is in memory: whoever is assigned the partitions next reads it again."""
        self.executor.drop()
        self.delivery.drop()
        self._aggregator.clear()
        self.health.joined = False
        self._bytes_in_flight = 0
        self._overflow.forget()
        self._settling = self._committing = False
        self.intake.rebalanced([])
