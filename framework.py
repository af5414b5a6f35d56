"""The worker: one poll loop, in the order in which a message travels.

read -> receive -> process -> deliver -> commit, and once in a while evict (give up), put off, balance. One thread owns
Kafka's client, the dict and the states of offsets; rebalance and delivery callbacks run inside its calls. Crash-only:
what the loop cannot handle is raised, all memory is thrown away, the client is closed without a commit, and
`supervise` (utils/running/supervision.py) builds a new worker that goes on from the last commit.

A group here is the fragments of one id: docs/how-it-works.md has the words. Kafka's is called the consumer group.
"""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import InitVar, dataclass, field
from itertools import compress, repeat

from confluent_kafka import Consumer

from utils.joining.aggregator import Aggregator, Group
from utils.joining.messages import Fragment, read_each, read_ids
from utils.joining.offsets import CommitPoint, PartitionOffsets
from utils.logger import logger
from utils.metrics import Counters
from utils.monitoring.status import Health
from utils.monitoring.view import View
from utils.processing.crowd import Crowd
from utils.processing.executor import Executor
from utils.processing.garbage import Garbage
from utils.processing.outcome import Outcome
from utils.reading.batches import Batch, Contents, Record
from utils.reading.fetching import FEW
from utils.reading.intake import Intake
from utils.reading.locator import AssignmentOutdated, NeverJoins
from utils.reading.pausing import ALMOST_FULL
from utils.reading.waiting import EVICTED_AT_ONCE, Waiting
from utils.sending.assignment import Assignment, Locate
from utils.sending.commits import Commits
from utils.sending.delivery import Backlog, Delivery
from utils.sending.failures import Failures

IDLE = 0.2  # seconds that a turn waits for a record; also how long a signal may go unnoticed
BUSY = 0.02  # seconds that a turn waits for process() before it polls again
MAX_IN_FLIGHT = 8_000  # groups in process() or on their way out; with more, reading waits
CLOSING = 10.0  # seconds until a client that does not end is left behind, after a failure
# After an end in order, beside what that has left of SHUTDOWN_TIMEOUT. A consumer that is not let into its group yet
# waits 5 s for the answer that it has left: the broker reads on only when the group is complete (librdkafka 2.16;
# `rd_kafka_LeaveGroupRequest`). With SHUTDOWN_TIMEOUT as it is by default it has these.
CLOSING_IN_TIME = 1.0
EVICT_EVERY, EVICT_AT_LEAST_EVERY = 0.5, 10.0  # seconds between two; in these bounds four times as long as one takes


@dataclass(kw_only=True, eq=False, slots=True)
class Worker:
    """Joins the records of the input topics by id, hands the groups to process(), delivers what it returns."""

    topics_input: tuple[str, ...]
    message_timeout: float
    max_pending_bytes: int
    consumer: Consumer
    intake: Intake
    delivery: Delivery
    failures: Failures
    executor: Executor
    counters: Counters
    health: Health
    worker_stop: threading.Event
    locate: InitVar[Locate]
    commit_interval: InitVar[float]
    shutdown_timeout: InitVar[float]
    leave: Callable[[Consumer], None] = lambda _consumer: None
    """Leave the consumer group for good, which closing the client does not do for a static member."""
    is_left_out: Callable[[float, bool], bool] = lambda _now, _is_assigned: False
    """Whether Kafka's client will never have an assignment any more, given whether it has one now."""
    let_go: Callable[[Consumer, float], None] = lambda consumer, _seconds: consumer.close()
    """Close a client within these seconds: it may be such a one, or its brokers are away, and then it may not end."""
    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time

    _bytes_in_flight: int = 0  # of the groups in process()
    _bytes_of_results: float = 0.0  # of one group, lately; the guess for each group that is in process()
    _next_eviction: float = 0.0
    _garbage: Garbage = field(default_factory=Garbage)
    _crowd: Crowd = field(default_factory=Crowd)

    commits: Commits = field(init=False)
    assignment: Assignment = field(init=False)
    _topic_index: dict[str, int] = field(init=False)
    _waiting: Waiting = field(init=False)  # the one door of the dict, which is its `groups`

    def __post_init__(self, locate: Locate, commit_interval: float, shutdown_timeout: float) -> None:
        self._topic_index = {topic: index for index, topic in enumerate(self.topics_input)}
        aggregator = Aggregator(len(self.topics_input))
        self.health.view = View(self, aggregator)
        room = self.max_pending_bytes // 2  # for what waits; the other half is for what is on its way out
        self._waiting = Waiting(aggregator, self.intake, self._topic_index, room, self.counters)
        self.assignment = Assignment(self, locate, commit_interval, shutdown_timeout)
        self.commits = self.assignment.commits

    # ------------------------------------------------------------------ the loop

    def run(self) -> None:
        """Until `worker_stop` is set or the input is another. Raises what it cannot go on with. Closes the client."""
        closing = CLOSING
        try:
            self.assignment.subscribe(self.topics_input)
            while not (self.worker_stop.is_set() or self.intake.is_outdated(self.clock())):
                self.step()
                if self.is_left_out(self.clock(), self.health.joined):
                    raise NeverJoins("Kafka's client does not join the consumer group any more")
            closing = self.assignment.end() + CLOSING_IN_TIME
        except BaseException as error:
            failure = self.assignment.failure = self.assignment.failure or error
            self.commits.fail(failure)
            if isinstance(failure, AssignmentOutdated):
                self.leave(self.consumer)
            raise failure  # noqa: B904 (the first, which has a cause of its own)
        finally:
            self.assignment.forget()
            self.health.turned_at = None
            self.assignment.is_over = True
            self.let_go(self.consumer, closing)

    def step(self) -> None:
        """One turn of the loop."""
        self.health.turn(self.clock())
        takes_results = self.delivery.backlog.bytes < self._waiting.room  # else they stay, and process() soon waits
        records = self._read(takes_results)
        complete = self._receive(records) if records else []
        self._process(complete)
        if takes_results:
            more_is_there = len(records) >= FEW and not complete
            self.deliver(self.executor.collect(0 if more_is_there else BUSY))
        self.commits.turn(self._is_full)
        self._evict()
        self._put_off()
        self._waiting.balance(self.clock(), self.executor.parked.bytes)

    # ------------------------------------------------------------------ the life of a message

    def _read(self, takes_results: bool) -> list[Record]:
        """The next records, as soon as there are any; none while there is no memory for them."""
        busy = min(self.commits.interval, IDLE) if self.delivery.pending or self.commits.has_news else IDLE
        groups = self.executor.in_flight + self.delivery.backlog.groups
        records = self.intake.read(self._load(), groups, 0 if self.executor.in_flight and takes_results else busy)
        if self.assignment.failure:
            raise self.assignment.failure
        return records

    def _receive(self, records: list[Record]) -> list[Group]:
        """Records into the dict; returns the groups that are complete now."""
        now = self.clock()
        self.commits.has_news = True
        batch = self.intake.unfinished(records)
        contents = batch.contents()
        ids, invalid = read_ids(contents.values, contents.unreadable)
        fragments = self._fragments(batch, contents, now)
        if invalid:
            keys, _ = read_each("key", [batch.records[at] for at in invalid])
            theirs = [fragments[at] for at in invalid]
            self._send_failed(list(map(self.failures.invalid, theirs, keys, invalid.values())))
            fragments, ids = list(compress(fragments, ids)), list(filter(None, ids))
        complete = self._waiting.add(ids, fragments, now)
        self.counters.completed += len(complete)
        return complete

    def _process(self, groups: list[Group]) -> None:
        if groups:
            self._bytes_in_flight += sum([group.bytes for group in groups])
            parked = self.executor.parked.groups
            self.executor.submit(groups)
            self._crowd.note(len(groups), self.executor.parked.groups - parked)

    def deliver(self, outcomes: list[Outcome]) -> None:
        """Send the results, and dead letters in place of what has failed. Called by the loop and by the assignment."""
        if not outcomes:
            return
        done = sum([outcome.group.bytes for outcome in outcomes])
        self._bytes_in_flight -= done
        self._garbage.passed(done)
        sizes = [len(outcome.results) for outcome in outcomes if outcome.error is None]
        if len(sizes) < len(outcomes):
            outcomes = [
                left for each in outcomes for left in ([each] if each.error is None else self.failures.failed(each))
            ]
        self.counters.results += sum(sizes)
        self.counters.filtered += sizes.count(0)
        before = self.delivery.backlog.bytes
        self.delivery.send(outcomes)
        self._bytes_of_results = max((self.delivery.backlog.bytes - before) / len(outcomes), self._bytes_of_results / 2)
        self.commits.has_news = True

    def _send_failed(self, outcomes: list[Outcome]) -> None:
        """What never gets to process() leaves as a result does: it is finished when its dead letter is safe."""
        self.delivery.send(outcomes)
        self.commits.has_news = True

    def _evict(self) -> None:
        """Give up the groups that have waited for MESSAGE_TIMEOUT, as many as can leave."""
        began = self.clock()
        if began < self._next_eviction or self.delivery.backlog.groups >= MAX_IN_FLIGHT:
            return
        if evicted := self._waiting.evict(began, self.message_timeout):
            self._send_failed(self.failures.incomplete(evicted, self._waiting.missing))
        now = self.clock()
        pause = 0.0 if len(evicted) == EVICTED_AT_ONCE else EVICT_EVERY
        self._next_eviction = now + min(max(pause, 4 * (now - began)), EVICT_AT_LEAST_EVERY)

    def _put_off(self) -> None:
        """Too much waits between attempts, or behind its own id: the newest leaves memory, and is read again later."""
        if self.executor.parked.bytes > self._waiting.room_to_park:
            groups = self.executor.shed(self._waiting.room_to_park * 3 // 4)
            self._bytes_in_flight -= sum([group.bytes for group in groups])
            self.counters.put_off += len(groups)
            self._waiting.put_off(groups)

    # ------------------------------------------------------------------ what a turn is made of

    @property
    def load(self) -> float:
        """For who looks on."""
        return self._load()

    def _load(self, backlog: Backlog | None = None) -> float:
        """How much is in process() and on its way out (there: `backlog`). 1 and more: there is no memory for more."""
        parked, backlog = self.executor.parked, self.delivery.backlog if backlog is None else backlog
        in_flight = self.executor.in_flight - parked.groups
        in_bytes = self._bytes_in_flight + in_flight * self._bytes_of_results + backlog.bytes
        load = max((in_flight + backlog.groups) / MAX_IN_FLIGHT, in_bytes / self._waiting.room)
        crowded = parked.bytes * 2 / self._waiting.room_to_park
        if crowded > load and self._crowd.stops_reading(parked.moved, self.clock()):
            return crowded
        return load

    def _is_full(self) -> bool:
        """Whether only results that become safe can make room now. Commits.turn asks before and after some have."""
        is_stopped = self.delivery.holds_back or self.delivery.backlog.bytes >= self._waiting.room
        return is_stopped or self._load() >= ALMOST_FULL > self._load(Backlog())

    def _fragments(self, batch: Batch, contents: Contents, now: float) -> list[Fragment]:
        """One for each record: `offsets` is the PartitionOffsets of its partition, `offset` where it stands there."""
        bodies = [value or b"" for value in contents.values]
        headers = contents.headers
        self.counters.with_headers += len(headers) - headers.count(None)
        arrivals, drops = self._arrivals(batch, contents, now), repeat(self._waiting.drops)
        topics = batch.topics(self._topic_index)
        return list(map(Fragment, topics, batch.partitions, batch.offsets, bodies, headers, arrivals, drops))

    def _arrivals(self, batch: Batch, contents: Contents, now: float) -> Iterable[float]:
        """When these records arrived the first time: for what is read again, the time of MESSAGE_TIMEOUT goes on."""
        if batch.is_new:
            return repeat(now)
        epoch, read = now - self.wall_clock(), zip(batch.partitions, batch.offsets, contents.timestamps, strict=True)
        arrivals = [
            now if of.is_new(offset) else min(of.first_arrival(offset, ms / 1000, epoch), now)
            for of, offset, (_, ms) in read
        ]
        self._waiting.arrived_before(min(arrivals))
        return arrivals

    def commit_points(self) -> list[CommitPoint]:
        """Offset and map of every partition that we own: a commit without its map would break the groups that wait."""
        now, now_ms = self.clock(), int(self.wall_clock() * 1000)
        oldest = self._waiting.groups.oldest_arrival()
        oldest_ms = now_ms if oldest is None else now_ms - int((now - oldest) * 1000)
        self.intake.owned.forget_vain_starts()
        return [offsets.commit_point(oldest_ms, now_ms, now) for offsets in self.intake.owned.partitions.values()]

    # ------------------------------------------------------------------ rebalances

    def assigned(self, located: Sequence[PartitionOffsets]) -> None:
        """Told by the assignment, inside poll(): these partitions are ours now."""
        self.health.joined = True
        self.intake.keys.assigned({each.topic for each in located})
        logger.info("partitions assigned", extra={"partitions": [f"{each.topic}:{each.partition}" for each in located]})

    def may_take(self, seconds: float) -> None:
        """Told by the assignment: it waits for process(), or for Kafka, and the loop does not turn for so long."""
        self.health.may_take(seconds, self.clock())

    def forget(self) -> None:
        """Told by the assignment: the partitions are ours no more, and nothing of them is kept."""
        self.health.joined = False
        self._bytes_in_flight = 0
        self._waiting.forget()
