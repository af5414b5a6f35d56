"""One process of a worker: the real Worker, supervised as in main.py, over stand-ins for its clients and its executor.

It runs in a thread, but only while the schedule lets it: each call of a client is a point where it may be stopped.
"""

import threading
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from contextlib import ExitStack
from typing import Any, Protocol, cast

from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from config import ConfigError, Settings
from framework import Worker
from models import Row
from tests.simulation.broker import SESSION, Broker, Committed, Partition
from tests.simulation.clients import FakeAdmin, FakeConsumer, FakeProducer
from utils.errors import chain
from utils.joining.aggregator import Group
from utils.kafka.limits import CommitLimits
from utils.kafka.membership import Membership
from utils.kafka.properties import TRANSACTION_TIMEOUT_MS
from utils.metrics import Counters
from utils.monitoring.status import Health
from utils.processing import attempts
from utils.processing.attempts import Attempts
from utils.processing.dispatcher import Dispatcher
from utils.processing.done import Done
from utils.processing.outcome import Call, Outcome, Process, attempt
from utils.processing.runner import Overdue
from utils.processing.suspects import Suspects
from utils.reading import leaps
from utils.reading.intake import Intake, Waits
from utils.reading.locator import AssignmentOutdated, RowOutdated
from utils.running.assembly import Clock, Surroundings, links_of, worker_of
from utils.running.refresh import Config, Refresh
from utils.running.supervision import Remedies, supervise
from utils.sending.outbox import DeliveryFailed, Report

WALL = 1_700_000_000.0  # seconds since the epoch when the model's clock says 0
FEW = 3  # records that a read brings where reading is slow
SHUTDOWN = 4.0  # seconds: SHUTDOWN_TIMEOUT
RATE = 2.0  # records a second that a narrow output takes
IDLE_TURN = 0.001  # seconds that a turn of the loop takes in which nothing is called
STUCK = 20_000  # calls of clients within one turn of the loop
OVERHEAD = 150  # bytes that a result takes beside its own
PLACES = 3  # calls that may run at once
ATTEMPTS = 2  # PROCESS_ATTEMPTS
OUTAGE = 4  # ids that fail in a row, where few are enough: then nothing but probes is called
HANGS = 2.0  # seconds: PROCESS_TIMEOUT
RIGHT_OF = "right lacks for a moment: "  # and the name of a process
NOWHERE = "nowhere"  # a topic that does not exist
REFRESH = 20.0  # seconds: CONFIG_REFRESH
FAR = 2  # offsets in a row that are finished and are not read again, where few are enough
SETTLE = 2.0  # seconds beside it until all workers of the group have seen a change of the input topics
EXPECTED = (KafkaException, DeliveryFailed)  # with these a worker may end; anything else is a defect


class Killed(BaseException):
    """The process is gone. Not an Exception: nothing in a worker may catch it."""


class Hangs(BaseException):
    """In place of a call of process() that does not return: the runner keeps it."""


class Violation(AssertionError):
    """The worker broke a promise."""

    def __init__(self, rule: str, what: str) -> None:
        super().__init__(f"{rule}: {what}")
        self.rule = rule
        self.story: list[str] = []  # what happened, where it was traced


class Judge(Protocol):
    """Who knows what was committed."""

    looked_ended: bool

    def may_take_back(self, partitions: Iterable[Partition]) -> None: ...

    def is_taken_back(self, wanted: Mapping[Partition, Committed]) -> bool: ...

    def changes_nothing(self, wanted: Mapping[Partition, Committed]) -> bool: ...


class World(Protocol):
    """What all processes share."""

    broker: Broker
    inputs: tuple[str, ...]
    """The input topics, as the row has them now."""
    has_bad_row: bool
    """It names a topic that is not there, too: this shows only when a worker runs by it."""
    is_ending: bool
    """Nothing more is done to the workers: each looks at the row at once."""
    planted: dict[str, int]
    """Faults that are still to happen, by kind."""
    clocks: dict[str, float]
    """By how many seconds the clock of a process's host is set wrong."""
    paused: bool
    """The row says that nothing more is to be taken in."""

    @property
    def oracle(self) -> Judge: ...

    @property
    def is_punctual(self) -> bool:
        """Nothing has happened that may keep a worker from sending what it has begun to send."""

    def advance(self, seconds: float) -> None: ...

    def next_writer(self) -> int: ...

    def note(self, what: str) -> None: ...

    def trace(self, who: str, what: object) -> None: ...


class Options(Protocol):
    """What a schedule fixes for all its workers."""

    @property
    def workers(self) -> int: ...
    @property
    def inputs(self) -> tuple[str, ...]: ...
    @property
    def outputs(self) -> tuple[str, ...]: ...
    @property
    def dead_letters(self) -> str: ...
    @property
    def exactly_once(self) -> bool: ...
    @property
    def static(self) -> bool: ...
    @property
    def slow(self) -> bool: ...
    @property
    def narrow(self) -> bool: ...
    @property
    def message_timeout(self) -> float: ...
    @property
    def max_pending_bytes(self) -> int: ...
    @property
    def longest_map(self) -> int: ...
    @property
    def many_calls(self) -> bool: ...
    @property
    def faults(self) -> bool: ...
    @property
    def trips(self) -> bool: ...
    @property
    def leaps(self) -> bool: ...
    @property
    def producer_room(self) -> int: ...
    @property
    def skew(self) -> float: ...
    @property
    def in_step(self) -> bool: ...


def config_of(options: Options, inputs: tuple[str, ...]) -> Config:
    """What a worker works by in this schedule, with these input topics."""
    settings = Settings(
        consumer_name="name",
        delivery="exactly_once" if options.exactly_once else "at_least_once",
        dlq_topic=options.dead_letters,
        message_timeout=options.message_timeout,
        max_pending_bytes=options.max_pending_bytes,
        commit_interval=0.1,
        shutdown_timeout=SHUTDOWN,
        config_refresh=REFRESH,
        read_order="time" if options.in_step else "fetched",
    )
    return Config(settings, Row("name", inputs, options.outputs, ""), limits=CommitLimits(options.longest_map))


class ModelClients:
    """The clients of one worker of a process. Implements Clients."""

    def __init__(self, process: "ModelProcess", options: Options) -> None:
        self._process = process
        self._options = options
        self._instance = process.name if options.static else ""
        self.admin = cast(AdminClient, FakeAdmin(process))

    def consumer(self, on_commit: Any, on_throttle: object) -> Consumer:
        most = FEW if self._options.slow else 1_000_000
        self._process.consumer = FakeConsumer(self._process, on_commit, self._instance, most=most)
        return cast(Consumer, self._process.consumer)

    def producer(self, report: Report, on_throttle: object) -> Producer:
        options, process = self._options, self._process
        identity = f"group-{self._instance or process.identity}" if options.exactly_once else ""
        rate = RATE if options.narrow else 0.0
        timeout = self.transaction_timeout
        process.producer = FakeProducer(process, options.producer_room, process.wall_ms, identity, timeout, rate)
        return process.producer.reporting_to(report)

    def map_reader(self) -> Consumer:
        return cast(Consumer, FakeConsumer(self._process, lambda _error, _partitions: None, committed_only=False))

    def new_writer(self) -> str:
        return f"w{self._process.world.next_writer()}"

    def prober(self) -> Consumer:
        created = FakeConsumer(self._process, lambda _error, _partitions: None, committed_only=False, tells_ends=True)
        return cast(Consumer, created)

    @property
    def transaction_timeout(self) -> float:
        return TRANSACTION_TIMEOUT_MS / 1000 if self._options.narrow and not self._process.was_slow else SESSION

    def is_place_taken(self, member_id: str) -> bool:
        return False

    def is_member(self) -> bool:
        return any(each.instance == self._instance != "" for each in self._process.broker.group.members.values())

    def group_state(self) -> str:
        """One that is waited for: the model of Kafka's client joins whenever it can."""
        return "PREPARING_REBALANCING"


class ModelProcess:
    """A thread that has the word only between `resume()` and the next point where it is stopped. Implements Host."""

    def __init__(self, name: str, world: World, options: Options, process: Process, number: int) -> None:
        self.name = name
        self.world = world
        self.broker = world.broker
        self.counters = Counters()
        self.dead = False
        self.ended = False
        self.frozen = False
        self.calls_of_expelled = False  # the call that ends now is one of an assignment before
        self.is_in_a_turn = False  # stopped there, and not between two turns of the loop
        self.error: BaseException | None = None  # what the process ended with
        self.violation: Violation | None = None
        self.worker: Worker | None = None
        self.producer: FakeProducer | None = None
        self.consumer: FakeConsumer | None = None
        self.restarts = 0
        self.lacked_a_right = options.faults  # or may do so
        self.has_reread = False  # others of the group work by another row: beside them nobody can by the old one
        self._shares = 0  # restarts of this process because others had partitions that must all be ours
        self._options = options
        self._number = number
        most = options.max_pending_bytes // 8
        self._runner = ScheduledRunner(self, process, one_by_one=not options.many_calls, most=most)
        tries = Attempts(ATTEMPTS, 1.0, lambda: 0.5, OUTAGE if options.trips else attempts.OUTAGE)
        self._executor = Dispatcher(self._runner, tries, self.counters, HANGS, self.stop, self.monotonic)
        row = config_of(options, world.inputs)
        self._refresh = Refresh(row, self._read_row, self.counters, Health(), self.monotonic, self._wait_for_the_row)
        self._around = self._surroundings()
        self._calls = 0  # until it is stopped
        self._was_called = True  # in this turn of the loop
        self._to_turn = True  # stopped at the next turn of the loop
        self._chance = 0
        self._go, self._stopped = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._stopped.acquire()
        self._stopping = self._worker_stop = Stopping(self)
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    # ------------------------------------------------------------------ what the schedule does

    def resume(self, quirk: int, calls: int = STUCK, *, to_turn: bool = True) -> None:
        """Run for so many calls, or to the next turn of the loop. `quirk` decides what the calls leave open."""
        if self.ended:
            return
        self._chance, self._calls, self._to_turn = quirk, calls, to_turn
        self._go.release()
        self._stopped.acquire()
        if self._calls <= 0 and calls == STUCK and not self.ended:
            raise Violation("liveness", f"{self.name} does not come to an end of its turn")
        if self.violation:
            raise self.violation
        self._check_memory()

    def _check_memory(self) -> None:
        """I6: the bytes that wait are bounded, but for a single group."""
        waiting = self.worker._waiting.groups if self.worker else None
        if waiting and len(waiting) > 1 and waiting.bytes > self._options.max_pending_bytes // 2:
            raise Violation("I6", f"{self.name}: {waiting.bytes} bytes wait")
        self._check_results()
        parked, bound = self._executor.parked, self._options.max_pending_bytes // 4
        if self.worker and not (self.is_in_a_turn or self.ended) and parked.groups > 1 and parked.bytes > bound:
            stays = self._executor.circuit_open_for is not None or cast(Suspects, self.worker.executor)._size
            if not stays:  # else others of their ids came later, and are not parked
                raise Violation("I6", f"{self.name}: {parked.bytes} bytes are parked")

    def _check_results(self) -> None:
        """I6: results that were made and are not out of our hands. Each takes more memory than its bytes."""
        if not self.worker or not self.producer or self.ended:
            return
        delivery: Any = self.worker.delivery
        outcomes = [*self._runner.done, *delivery._held]
        results = [result.value for outcome in outcomes for result in outcome.results]
        for staged in (*delivery._staged, *delivery._settled) if self._options.exactly_once else ():
            results += [result.value for outcome in staged.outcomes for result in outcome.results]
            results += [result.value for result in staged.results]
        if not self._options.exactly_once:
            results += [value for topic, value, *_ in self.producer.queued if topic in self._options.outputs]
        taken = sum(len(value or b"") + OVERHEAD for value in results)
        once, copies = self._options.max_pending_bytes, max(len(self._options.outputs), 1)
        calls = 1 if self._runner.one_by_one else PLACES
        bound = once // 2 + 2 * (once // 8 + calls * self._runner.largest * copies)
        if taken > bound:
            raise Violation("I6", f"{self.name}: results take {taken} bytes, more than {bound}")

    def check_idle(self) -> None:
        """When all is quiet, nothing may count as being on its way: it would take room for ever."""
        if self.worker and not self.ended:
            parked = self._executor.parked.groups, self._executor.parked.bytes
            load = self.worker._bytes_in_flight, self._executor.in_flight, *self.worker.delivery.backlog, *parked
            if any(load):
                raise Violation("I6", f"{self.name}: {load} count as in flight, pending and parked, and all is done")

    def stop(self) -> None:
        """SIGTERM."""
        self._stopping.set()
        self._worker_stop.set()

    def kill(self, left_behind: int = 0) -> None:
        """SIGKILL, at the call where it stands."""
        if self.producer and not self.ended:
            self.producer.leave_behind(left_behind)
        self.freeze()
        self.dead = True
        while not self.ended:
            self._go.release()
            self._stopped.acquire()

    def end_in_a_call(self) -> None:
        """A call of process() ends the process, in whose thread this runs."""
        if self.producer:
            self.producer.leave_behind(self.choose(4))
        self.freeze()
        self.dead = True
        raise Killed

    def freeze(self) -> None:
        if not self.frozen and self.consumer and not self.ended:
            self.consumer.silence(self.broker.now)
        self.frozen = True

    def thaw(self) -> None:
        if self.frozen and self.consumer and not self.dead:
            self.consumer.silence(None)
        self.frozen = False

    @property
    def has_open_circuit(self) -> bool:
        """Who has no partitions any more has nothing to close it with."""
        owns_some = not self.ended and self.worker is not None and bool(self.worker.intake.owned.partitions)
        return owns_some and self._executor.circuit_open_for is not None

    def states(self) -> set[str]:
        """What holds of the worker now."""
        if not self.worker or self.ended:
            return set()
        owned = self.worker.intake.owned.partitions.values()
        holds = {
            "without partitions": not owned,
            "behind the row": self._refresh.current.row.topics_input != self.world.inputs,
            "reads again": any(each.may_replay() for each in owned),
            "has shed": any(each.shed.count for each in owned),
            "runs apart": cast(Suspects, self.worker.executor)._size > 0,
            "results wait": self.worker.delivery.pending > 0,
            "calls rest": self._executor.parked.groups > 0,
            "paused": bool(self.worker.intake.pausing.ahead),
        }
        return {name for name, is_so in holds.items() if is_so}

    @property
    def is_expelled(self) -> bool:
        """Whether the group has gone on without this process, which may not know it yet."""
        return self.consumer is None or self.consumer.is_expelled

    @property
    def calls_for_former(self) -> bool:
        """Whether the call that ends now was begun by a worker that was expelled: that may be a member again."""
        return self.calls_of_expelled or self.is_expelled

    def describe(self) -> str:
        """What the worker has in mind, for the story of a schedule that failed."""
        if not self.worker:
            return "nothing"
        groups = [
            (group.id, group.arrival, [f"{each.offsets.topic}:{each.offset}" for each in group.fragments])
            for group in self.worker._waiting.groups.oldest(1000)
        ]
        owned = [
            (at, offsets.base, offsets.position, bytes(offsets.states).hex(" "))
            for at, offsets in self.worker.intake.owned.partitions.items()
        ]
        counted = {name: number for name, number in self.counters.as_dict().items() if number}
        failure = self.worker.assignment.failure
        return f"clock={self.monotonic()} waiting={groups} owned={owned} {counted} failure={failure!r}"

    # ------------------------------------------------------------------ the process

    def _live(self) -> None:
        self._go.acquire()
        try:
            while not (self.dead or self._stopping.is_requested):
                self._work_by_row()
                self._refresh.next()
        except BaseException as error:
            self.error = error.with_traceback(None)  # whose frames would keep all of this alive
            has_worked = self.counters.commits and not self.lacked_a_right  # for which the row before was withdrawn
            if NOWHERE in str(error) and has_worked and not self.has_reread:
                self.broken("rule 8", f"ends for good, though it has worked by the row before: {error}")
            is_alone = self._options.workers == 1 and self._shares == self.restarts
            if isinstance(error, ConfigError) and "unequal" in str(error) and is_alone:
                self.broken("rule 8", f"ends for good, though the others are dead: {error}", error)
        finally:
            self.ended = True
            self._stopped.release()

    def _work_by_row(self) -> None:
        """As the function of that name in running/supervision.py."""
        self._around = self._surroundings()
        self._worker_stop = Stopping(self)
        if self._stopping.is_requested:
            return
        ending = cast(threading.Event, self._worker_stop)
        self._refresh.begin(ending)
        try:
            supervise(self._build, self.counters, ending, Remedies(self._reread), self._around.survived)
        except ConfigError as error:
            if not self._refresh.withdraw(error):
                raise
            self.note("row withdrawn")

    def _reread(self, stopping: threading.Event, seen: int = 0) -> None:
        self.has_reread = True
        self._refresh.reread(stopping, seen)

    def _surroundings(self) -> Surroundings:
        """For the workers by one row."""
        return Surroundings(
            executor=self._executor,
            counters=self.counters,
            membership=Membership(is_static=self._options.static),
            edition=self._refresh.edition,
            waits=Waits(
                REFRESH + SETTLE,
                self._refresh.topics_changed_at,
                stopped=lambda: self.world.paused,
                far=FAR if self._options.leaps else leaps.FAR,
            ),
            clock=Clock(self.monotonic, self.wall, self.wait),
        )

    def _read_row(self, current: Config) -> Config:
        inputs = (*self.world.inputs, NOWHERE) if self.world.has_bad_row else self.world.inputs
        if current.row.topics_input == inputs:
            return current
        self.note("changed row seen")
        return config_of(self._options, inputs)

    def _wait_for_the_row(self, seconds: float) -> None:
        """A worker that is behind the group waits for a look at the row."""
        self.here("wait for the row")
        self.wait(seconds)
        self._look_at_the_row()

    def _look_at_the_row(self) -> None:
        """As the thread does that watches it."""
        if self._refresh.is_due() or self.world.is_ending:
            self._refresh.look()

    def _build(self, opened: ExitStack) -> Worker:
        """As build_worker, and a check that a worker ends with no error but those that it is made for."""
        if self._refresh.edition.number > 1 and self.fault(RIGHT_OF + self.name):
            self.lacked_a_right = True
            raise ConfigError(["a right is lacking"])
        try:
            self.here("build")
            ours, stopping = ModelClients(self, self._options), cast(threading.Event, self._worker_stop)
            config = self._refresh.current
            links = links_of(config, config.row.topics_input, ours, self._around, opened)
            self.worker = worker_of(config, links, self._around, stopping)
            self.worker.let_go = lambda consumer, _seconds: consumer.close()  # in the one thread of this model
        except Exception as error:
            self.broken("unexpected error", repr(error), error)
            raise
        return cast(Worker, self)

    @property
    def intake(self) -> Intake:
        assert self.worker
        return self.worker.intake

    def run(self) -> None:
        """As Worker.run()."""
        assert self.worker
        try:
            self.worker.run()
        except EXPECTED as error:
            self.restarts += 1
            self.note(f"restart after {type(error).__name__}")
            self.trace(f"restart after {error!r}")
            known = (*EXPECTED, TimeoutError, Killed)  # Killed: what a schedule raises anew was raised at a kill before
            if strange := [each for each in chain(error) if not isinstance(each, known)]:
                self.broken("unexpected error", f"in a callback: {strange}", error)
            raise
        except (RowOutdated, AssignmentOutdated) as error:
            self.note(f"restart after {type(error).__name__}")
            raise
        except ConfigError as error:  # a member that is dead, and not missed yet, holds partitions
            self._shares += "unequal" in str(error)
            self.restarts += 1
            self.note(f"restart after {type(error).__name__}")
            if "unequal" not in str(error) and NOWHERE not in str(error):
                self.broken("unexpected error", repr(error), error)
            raise
        except Exception as error:
            self.broken("unexpected error", repr(error), error)
            raise

    @property
    def identity(self) -> str:
        """Of this worker of this process, which no other has."""
        return f"{self.name}-{self._number}-{self.restarts}"

    @property
    def was_slow(self) -> bool:
        """A record of its has taken longer than a transaction may."""
        return self._around.refusals.pace.has_failed

    def wall_ms(self) -> int:
        return int(self.wall() * 1000)

    # ------------------------------------------------------------------ Host: what the clients see

    def here(self, call: str) -> None:
        if self.dead:
            raise Killed
        self._calls -= 1
        self._was_called = True
        if self._calls <= 0:
            self.is_in_a_turn = True
            self._pause()
            self.is_in_a_turn = False
        self.trace(call)

    def at_turn(self) -> None:
        """The loop begins its next turn."""
        if self.dead:
            raise Killed
        self._look_at_the_row()
        if not self._was_called:  # in the last one: there was no room, say. It takes time all the same
            self.wait(IDLE_TURN)
            self._calls -= 1
        self._was_called = False
        if self._to_turn or self._calls <= 0:
            self._pause()

    def _pause(self) -> None:
        self._stopped.release()
        self._go.acquire()
        if self.dead:
            raise Killed

    def choose(self, options: int) -> int:
        if not self._chance:
            return 0
        self._chance = self._chance * 1103515245 + 12345 & 0x7FFFFFFF
        return (self._chance >> 12) % options

    def wait(self, seconds: float) -> None:
        self.world.advance(seconds)

    def fault(self, kind: str) -> bool:
        planted = self.world.planted
        if not planted.get(kind):
            return False
        planted[kind] -= 1
        self.note(kind)
        if self.worker and self.worker.assignment.failure:  # its start may stay in the commit
            self.world.oracle.looked_ended = True
        self.trace(f"FAULT {kind}")
        return True

    def monotonic(self) -> float:
        return self.broker.now + 1000 * self._number

    def wall(self) -> float:
        is_wrong_by = self._options.skew * (self._number % 3 - 1) + self.world.clocks.get(self.name, 0.0)
        return WALL + self.broker.now + is_wrong_by

    def commit_refused(self, partitions: Iterable[Partition]) -> None:
        self.world.oracle.may_take_back(partitions)

    def check_commit(self, wanted: Mapping[Partition, Committed]) -> None:
        if self.world.oracle.is_taken_back(wanted):
            self.note("commit taken back")
            return
        if self.worker and self.worker.assignment.failure:
            if self.world.oracle.changes_nothing(wanted):
                self.note("start taken back")
                return
            self.broken("rule 11", f"a commit after {self.worker.assignment.failure!r}")
        if self.consumer and self.consumer.closing and not self._worker_stop.is_requested:
            self.broken("rule 11", "a commit while closing after a failure")

    def check_resume(self) -> None:
        if self.world.paused:
            self.broken("rule 7", "reads on, though the row says that nothing more is to be taken in")

    def broken(self, rule: str, what: str, cause: Exception | None = None) -> None:
        if not self.violation:
            self.violation = Violation(rule, f"{self.name}: {what}")
            self.violation.__cause__ = cause

    def is_late(self) -> None:
        self.note("record not taken in time")
        if self.world.is_punctual:
            self.broken("rule 13", "more was sent than the output takes in time")

    def note(self, what: str) -> None:
        self.world.note(what)

    def trace(self, what: object) -> None:
        self.world.trace(self.name, what)


class Stopping:
    """The event of SIGTERM, or of a changed row. Being asked is how the loop shows that it begins its next turn."""

    def __init__(self, process: ModelProcess) -> None:
        self._process = process
        self.is_requested = False

    def set(self) -> None:
        self.is_requested = True

    def is_set(self) -> bool:
        self._process.at_turn()
        return self.is_requested

    def sleep(self, seconds: float) -> None:
        """In place of sleep()."""
        self._process.here("sleep")
        if not self.is_requested:
            self._process.wait(seconds)


def sleep(seconds: float, stopping: threading.Event) -> None:
    """sleep() in model time."""
    cast(Stopping, stopping).sleep(seconds)


class ScheduledRunner:
    """Ends calls in the order and at the moments that the schedule draws, or never. A Runner."""

    def __init__(self, host: ModelProcess, process: Process, *, one_by_one: bool, most: float) -> None:
        self.one_by_one = one_by_one
        self.largest = 0  # bytes of the results of one call, so far
        self._done = Done(most)
        self._host = host
        self._process = process
        self._waiting: deque[Group] = deque()
        self._running: list[tuple[Group, float, bool]] = []  # since when; of one that was expelled
        self._hanging: list[tuple[Group, float]] = []
        self._halted = False

    def open(self) -> None: ...

    def close(self, timeout: float) -> None: ...

    def submit(self, groups: Iterable[Group]) -> None:
        self._host.here("submit")
        self._waiting.extend(groups)

    def collect(self, timeout: float) -> list[Outcome]:
        self._host.here("collect")
        if not self._work():
            self._host.wait(timeout)
        return self._done.collect(0)

    @property
    def done(self) -> Collection[Outcome]:
        """What was not collected yet."""
        return self._done._outcomes

    def _work(self) -> bool:
        """Start calls and end some, oldest first or not; whether any outcome is there."""
        course = self._host.choose(4)
        ends = self._host.choose(len(self._waiting) + len(self._running) + 1) if course else STUCK
        while ends and self._begin():
            ends -= 1
            at = self._host.choose(len(self._running))
            self._end(*self._running.pop(at))
        return bool(self.done)

    def _begin(self) -> bool:
        """As many calls as may run; whether one does."""
        places = 1 if self.one_by_one else PLACES
        places = 0 if self._done.is_full else places
        while self._waiting and not self._halted and len(self._running) + len(self._hanging) < places:
            self._running.append((self._waiting.popleft(), self._host.monotonic(), self._host.is_expelled))
        return bool(self._running)

    def _end(self, group: Group, since: float, expelled: bool) -> None:
        self._host.calls_of_expelled = expelled
        outcome = attempt(self._process, group, "name")
        if self._host.dead and isinstance(outcome.error, Killed):
            raise Killed
        if isinstance(outcome.error, Hangs):
            self._hanging.append((group, since))
            return
        if outcome.error:  # whose traceback knows the frames of the loop, and those the outcomes: a ring
            outcome.error.with_traceback(None)
        self._halted = self.one_by_one and outcome.error is not None
        self._done.put(outcome)
        self._done.note_size(outcome.size)
        self.largest = max(self.largest, sum(len(result.value) + OVERHEAD for result in outcome.results))

    def cancel(self) -> list[Group]:
        cancelled = list(self._waiting)
        self._waiting.clear()
        return cancelled

    def go_on(self) -> None:
        self._halted = False

    def queued(self, id: str) -> bool:
        return self.one_by_one and any(group.id == id for group in self._waiting)

    def overdue(self, limit: float) -> Overdue:
        late = [group for group, since in self._hanging if self._host.monotonic() - since > limit]
        return Overdue(late, bool(late) and (self.one_by_one or 2 * len(late) >= PLACES))

    def calls(self) -> list[Call]:
        now = self._host.monotonic()
        running = [(group, since) for group, since, _ in self._running]
        return [Call(group.id, now - since) for group, since in (*running, *self._hanging)]
