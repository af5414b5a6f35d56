"""The loop, step by step, with fakes for client, delivery and executor, and a clock that only the test moves."""

import json
import logging
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from config import ConfigError, Settings
from framework import BUSY, CLOSING, CLOSING_IN_TIME, MAX_IN_FLIGHT
from models import Row
from tests.builders import admin, group, partition_offsets
from tests.fakes import TOPIC_ID, FakeConsumer, FakeMessage, Partition
from tests.kafka.test_absence import at_once
from utils.joining.aggregator import NEVER, Aggregator, Enough, Group
from utils.joining.dead_letters import Letter
from utils.joining.messages import Fragment, Message, Result
from utils.joining.offsets import CommitPoint, OffsetMap, PartitionOffsets, mark
from utils.joining.states import FINISHED, SENT, UNFINISHED, States
from utils.joining.suspicion import Suspicion
from utils.kafka.absence import PATIENCE, Absence
from utils.metrics import Counters
from utils.monitoring.status import STALLED, Health
from utils.processing.outcome import Call, InFlight, Outcome, attempt
from utils.processing.parking import Parking
from utils.reading.intake import Waits
from utils.reading.locator import AssignmentOutdated, NeverJoins
from utils.reading.owned import LOOK_AT_LEAST_EVERY
from utils.reading.pausing import ALMOST_FULL
from utils.retry import Reject
from utils.running import assembly
from utils.running.assembly import Links, Surroundings, worker_of
from utils.running.refresh import Config
from utils.sending.assignment import COMMITTING
from utils.sending.commits import AGEING, KEEP
from utils.sending.delivery import Backlog, _size
from utils.sending.failures import Failures
from utils.sending.outbox import DeliveryFailed

TIMEOUT = 60.0  # MESSAGE_TIMEOUT of all tests
INTERVAL = 0.1  # COMMIT_INTERVAL
SHUTDOWN = 4.0  # SHUTDOWN_TIMEOUT
WALL = 1_700_000_000.0  # the wall clock when the other one says 0
EVER = 10.0  # any time long enough for whatever is due to be done

A0, B0, A1, B1 = ("a", 0), ("b", 0), ("a", 1), ("b", 1)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now

    def wall(self) -> float:
        return WALL + self.now


class FakeDelivery:
    """Acknowledges at once unless `slow`, confirms at once unless `answer` is changed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sent: list[Outcome] = []
        self._settled: list[Outcome] = []
        self.keeps = False  # what is settled takes room until the commit, as exactly once
        self.held: list[Outcome] = []  # came while it was settled, and leaves with the next send()
        self.settles = self.sends = 0
        self.sent: list[tuple[bytes, Any]] = []
        self.letters: list[Letter] = []
        self.commits: list[list[CommitPoint]] = []
        self.commits_in_revoke: list[list[CommitPoint]] = []
        self.slow = False
        self.most = 1_000_000  # outcomes that leave at once
        self.answer: bool | None = True
        self.later = 0.0  # seconds by which commit() has the next one wait
        self.broken: Exception | None = None  # what settle() and commit_now() raise

    @property
    def pending(self) -> int:
        return len(self._sent)

    @property
    def backlog(self) -> Backlog:
        outcomes = self._sent + self._settled
        return Backlog().plus(outcomes, _size(outcomes, copies=1))

    @property
    def holds_back(self) -> bool:
        return len(self._sent) > self.most

    def assigned(self, _consumer: Consumer) -> None:
        pass

    def on_commit(self, _error: KafkaError | None, _partitions: list[TopicPartition]) -> None:
        raise NotImplementedError

    def send(self, outcomes: list[Outcome]) -> None:
        self.sends += 1
        self._sent += outcomes
        self.letters += [outcome.letter for outcome in outcomes if outcome.letter]
        mark((fragment for outcome in outcomes for fragment in outcome.group.fragments), SENT)
        self.sent += [(result.key, json.loads(result.value)) for outcome in outcomes for result in outcome.results]

    def settle(self) -> bool:
        self.settles += 1
        self._clock.now += 0.05 if self.slow else 0
        if isinstance(self.broken, DeliveryFailed):
            raise self.broken
        if not self.slow:
            self._settled = self._sent[: self.most] if self.keeps else []
            self._sent, self.held = self._sent[self.most :] + self.held, []
        return not self.slow

    def drop(self) -> None:
        self._sent = []

    def commit(self, _consumer: Consumer, points: list[CommitPoint]) -> float:
        self.commits.append(points)
        self._settled = []
        return self.later

    def fail(self) -> None:
        pass

    def committed(self) -> bool | None:
        return self.answer

    def commit_now(self, _consumer: Consumer, points: list[CommitPoint]) -> float:
        if self.broken:
            raise self.broken
        self.commits_in_revoke.append(points)
        return self.later


class FakeExecutor:
    """Runs process() inside collect(), but not in the next `hold` of them: then time passes and the call goes on."""

    def __init__(self, clock: Clock, process: Callable[[Message, str], object]) -> None:
        self._clock = clock
        self._process = process
        self._waiting: list[Group] = []
        self.hold = 0.0
        self.circuit_open_for: float | None = None
        self.in_flight = 0
        self.parked = Parking()
        self.rests_for: float | None = None
        self.hung: list[tuple[Group, int]] = []
        self.closed = False

    def submit(self, groups: list[Group]) -> None:
        self._waiting += groups
        self.in_flight += len(groups)

    def collect(self, timeout: float) -> list[Outcome]:
        if self.hold and self.in_flight:
            self.hold -= 1
            self._clock.now += timeout
            return []
        groups, self._waiting = self._waiting, []
        self.in_flight -= len(groups)
        return [attempt(self._process, group, "name") for group in groups]

    def cancel(self) -> None:
        running = self._waiting[:1] if self.hold else []
        self.in_flight -= len(self._waiting) - len(running)
        self._waiting = running

    def drop(self) -> None:
        self._waiting, self.in_flight = [], 0

    def recall(self, id: str, attempts: int, *, at_once: bool = False) -> None: ...

    def failed_before(self, id: str) -> None: ...

    def put_aside(self, aside: Parking) -> int:
        return self.parked.move_resting(aside)

    def shed_aside(self, aside: Parking, down_to: int) -> list[Group]:
        return aside.shed(down_to)

    def take_back(self, aside: Parking) -> None: ...

    def shed(self, down_to: int) -> list[Group]:
        shed = self.parked.shed(down_to)
        self.in_flight -= len(shed)
        return shed

    def calls(self) -> list[Call]:
        return [Call(group.id, 1.0) for group in self._waiting[:1]]

    def find(self, id: str) -> InFlight | None:
        places = [group.id for group in self._waiting]
        if id not in places:
            return None
        return InFlight("queued", 0.0, 0) if places.index(id) else InFlight("called", 1.0, 0)

    def close(self) -> None:
        self.drop()
        self.closed = True


@dataclass
class Bench:
    """A worker over two topics, or others, with everything around it in the hands of the test."""

    topics: tuple[str, ...] = ("a", "b")
    process: Callable[[Message, str], object] = lambda message, _name: message
    durable: dict[Partition, CommitPoint] = field(default_factory=dict)
    consumer: FakeConsumer = field(default_factory=FakeConsumer)
    locate_error: Exception | None = None
    max_pending_bytes: int = 10**9

    def __post_init__(self) -> None:
        self.clock = Clock()
        self.delivery = FakeDelivery(self.clock)
        self.executor = FakeExecutor(self.clock, self.process)
        self.counters = Counters()
        self.health = Health(stopwatch=lambda: 0.0)
        self.stopping = threading.Event()
        self.group_state = "STABLE"
        settings = Settings(
            message_timeout=TIMEOUT,
            max_pending_bytes=self.max_pending_bytes,
            commit_interval=INTERVAL,
            shutdown_timeout=SHUTDOWN,
        )
        self.config = Config(settings, Row("consumer", self.topics, (), ""))
        self.links = Links(
            cast(Consumer, self.consumer),
            admin(self.consumer.end_of),
            self.locate,
            self.delivery,
            Failures("consumer", "letters", self.counters, self.clock.wall),
            Absence(lambda: self.group_state, at_once),
        )
        self.put_together(Waits())

    def put_together(self, waits: Waits) -> None:
        around = Surroundings(
            executor=self.executor,
            counters=self.counters,
            health=self.health,
            waits=waits,
            clock=assembly.Clock(self.clock, self.clock.wall),
        )
        self.worker = worker_of(self.config, self.links, around, self.stopping)
        self.subscribe()

    def subscribe(self) -> None:
        """A run that is stopped before its first step: the tests call step() themselves."""
        self.stopping.set()
        self.worker.run()
        self.stopping.clear()
        self.consumer.closed = self.executor.closed = self.worker.assignment.is_over = False

    def locate(self, _consumer: Consumer, owned: Any, _now: float) -> list[PartitionOffsets]:
        if self.locate_error:
            raise self.locate_error
        return [self.located((each.topic, each.partition)) for each in owned]

    def located(self, at: Partition) -> PartitionOffsets:
        if at not in self.durable:
            return partition_offsets(0, None, *at)
        offset, metadata = self.durable[at][2:4]
        loaded = OffsetMap.decode(metadata, TOPIC_ID, offset)
        assert loaded is not None
        return partition_offsets(offset, loaded, *at)

    # what happens inside the next poll()

    def assign(self, *partitions: Partition) -> None:
        owned = [TopicPartition(*at, 0) for at in partitions]
        self.consumer.events.append(lambda: self.consumer.assigned(owned))

    def revoke(self) -> None:
        self.consumer.events.append(self.revoked)

    def revoked(self) -> None:
        self.consumer.on_revoke(self.consumer, self.consumer.assignment())
        self.consumer.assign([])

    def lose(self) -> None:
        def lost() -> None:
            self.consumer.on_lost(self.consumer, self.consumer.assignment())
            self.consumer.assign([])

        self.consumer.events.append(lost)

    # what the test does

    def feed(self, at: Partition, *values: object) -> None:
        """Append to the log: a dict or a text as a message of that id, bytes and None as they are."""
        log = self.consumer.log.setdefault(at, {})
        for value in values:
            if isinstance(value, str):
                value = {"id": value, "content": {at[0]: at[1]}}
            raw = value if isinstance(value, bytes | None) else json.dumps(value).encode()
            log[next(reversed(log), -1) + 1] = raw

    def step(self, steps: int = 1, seconds: float = INTERVAL) -> None:
        """Turns of the loop; time passes before each."""
        for _ in range(steps):
            self.clock.now += seconds
            self.worker.step()

    def settle_down(self) -> None:
        self.step(6, INTERVAL)

    def sent_ids(self) -> list[str]:
        return [key.decode() for key, _ in self.delivery.sent]

    def committed(self) -> dict[Partition, int]:
        """The offsets of the last commit."""
        return {(point.topic, point.partition): point.offset for point in self.delivery.commits[-1]}

    def waiting(self, at: Partition) -> list[int]:
        """The offsets that the last commit calls unfinished."""
        [point] = [point for point in self.delivery.commits[-1] if point[:2] == at]
        loaded = OffsetMap.decode(point.metadata, TOPIC_ID, point.offset)
        assert loaded is not None
        return [point.offset + index for index, state in enumerate(loaded.states) if state == UNFINISHED]

    def next_owner(self) -> "Bench":
        """A new process, after a crash, that has the same log and the last commit."""
        durable = {(point.topic, point.partition): point for commit in self.delivery.commits for point in commit}
        consumer = FakeConsumer()
        consumer.log, consumer.ends = self.consumer.log, self.consumer.ends
        return Bench(self.topics, self.process, durable, consumer)


def started(*partitions: Partition, **options: Any) -> Bench:
    bench = Bench(**options)
    bench.assign(*(partitions or (A0, B0)))
    bench.step()
    return bench


# ---------------------------------------------------------------- the life of a message


def test_the_fragments_of_an_id_become_one_result() -> None:
    bench = started()
    bench.feed(A0, "1")
    bench.step()
    assert bench.delivery.sent == []
    bench.feed(B0, "1")
    bench.step()
    assert bench.delivery.sent == [(b"1", {"id": "1", "content": {"a": 0, "b": 0}})]


def test_records_of_several_partitions_that_are_read_at_once_keep_what_is_theirs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    where = lambda self: [("from", f"{self.topic()}:{self.offset()}".encode())]  # noqa: E731
    monkeypatch.setattr(FakeMessage, "headers", where)
    bench = started()
    bench.feed(A0, "1", "2", None, "3")
    bench.feed(B0, "4", "5")
    bench.step()
    waiting = bench.worker._waiting.groups.oldest(9)
    assert [each.id for each in waiting] == ["1", "2", "3", "4", "5"]
    for joined, (topic, offset) in zip(waiting, [("a", 0), ("a", 1), ("a", 3), ("b", 0), ("b", 1)], strict=True):
        [fragment] = joined.fragments
        assert (fragment.offsets.topic, fragment.offset) == (topic, offset)
        assert json.loads(fragment.value)["id"] == joined.id
        assert fragment.headers == [("from", f"{topic}:{offset}".encode())]


def test_with_one_topic_every_message_is_a_result() -> None:
    bench = started(A0, topics=("a",))
    bench.feed(A0, "1", "2")
    bench.settle_down()
    assert bench.sent_ids() == ["1", "2"]
    assert bench.committed() == {A0: 2}


def test_with_three_topics_a_group_waits_for_all_three() -> None:
    bench = started(A0, B0, ("c", 0), topics=("a", "b", "c"))
    bench.feed(("c", 0), "1")
    bench.feed(A0, "1")
    bench.settle_down()
    assert bench.sent_ids() == []
    bench.feed(B0, "1")
    bench.settle_down()
    assert bench.sent_ids() == ["1"]
    assert bench.committed() == {A0: 1, B0: 1, ("c", 0): 1}


def test_a_result_is_none_when_process_filters_and_its_offsets_are_committed() -> None:
    bench = started(process=lambda message, name: None)
    bench.feed(A0, "1")
    bench.feed(B0, "1")
    bench.settle_down()
    assert (bench.sent_ids(), bench.counters.filtered) == ([], 1)
    assert bench.committed() == {A0: 1, B0: 1}


def test_an_invalid_message_is_counted_and_does_not_hold_up_the_commit() -> None:
    bench = started()
    bench.feed(A0, b"no json", {"no": "id"}, None, b"", "1")
    bench.feed(B0, "1")
    bench.settle_down()
    assert bench.counters.invalid == 4
    assert bench.sent_ids() == ["1"]
    assert bench.committed() == {A0: 5, B0: 1}


@pytest.mark.parametrize("value", [None, b"", b"no json"])
def test_an_invalid_message_that_comes_alone_is_counted_too(value: bytes | None) -> None:
    bench = started()
    bench.feed(A0, value)
    bench.settle_down()
    assert bench.counters.invalid == 1
    assert bench.committed() == {A0: 1, B0: 0}


def test_progress_is_known_when_the_partitions_are_gone() -> None:
    for sent, progressed in (((A0,), False), ((A0, B0), True)):
        bench = started()
        for at in sent:
            bench.feed(at, "1")
        bench.settle_down()
        assert len(bench.delivery.commits) > 1
        bench.lose()
        bench.step()
        assert bench.worker.intake.owned.has_progressed == progressed


def test_a_record_whose_headers_cannot_be_read_is_one_dead_letter_with_its_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = started(A0, topics=("a",))

    def headers(message: FakeMessage) -> None:
        if message.number == 1:
            raise SystemError("returned a result with an exception set")

    monkeypatch.setattr(FakeMessage, "headers", headers)
    bench.feed(A0, "1", "2", "3")
    bench.settle_down()
    assert bench.sent_ids() == ["1", "3"]
    [letter] = bench.delivery.letters
    assert (letter.reason, letter.value) == ("invalid_message", bench.consumer.log[A0][1])
    assert b"headers" in dict(letter.headers)["dlq.error.message"]  # type: ignore[operator]
    assert bench.committed()[A0] == 3
    assert bench.counters.invalid == 1


def test_the_dead_letter_of_a_tombstone_is_none_itself() -> None:
    """Where somebody has the topic of dead letters compacted it would delete one."""
    bench = started()
    bench.feed(A0, None)
    bench.settle_down()
    [letter] = bench.delivery.letters
    assert (letter.reason, letter.value) == ("invalid_message", b"")


def test_a_fragment_that_turns_out_to_be_invalid_only_when_joined_is_not_tried_for_ever() -> None:
    bench = started()
    bench.feed(A0, b'{"id":"1","text":"\xff"}', "2")
    bench.feed(B0, "1", "2")
    bench.settle_down()
    assert bench.sent_ids() == ["2"]
    assert bench.counters.invalid >= 1
    assert bench.committed() == {A0: 2, B0: 2}


def test_a_replaced_fragment_is_counted_and_finished() -> None:
    bench = started()
    bench.feed(A0, {"id": "1", "content": {"v": 1}}, {"id": "1", "content": {"v": 2}})
    bench.settle_down()
    assert bench.waiting(A0) == [1]
    bench.feed(B0, {"id": "1"})
    bench.settle_down()
    assert bench.counters.superseded == 1
    assert bench.delivery.sent == [(b"1", {"id": "1", "content": {"v": 2}})]
    assert bench.committed() == {A0: 2, B0: 1}


def test_a_group_whose_process_fails_leaves_as_a_dead_letter_and_the_others_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def process(message: Message, _name: str) -> object:
        if message["id"] == "2":
            raise ZeroDivisionError
        return message

    bench = started(process=process)
    bench.feed(A0, "1", "2", "3")
    bench.feed(B0, "1", "2", "3")
    bench.settle_down()
    assert bench.sent_ids() == ["1", "3"]
    assert bench.counters.failed == 1
    assert [(letter.key, letter.reason) for letter in bench.delivery.letters] == [(b"2", "process_failed")]
    assert bench.committed() == {A0: 3, B0: 3}
    [line] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert vars(line)["id"] == "2"
    assert vars(line)["source"] == ["a:0:1", "b:0:1"]


class Empty(Exception):
    def __len__(self) -> int:
        return 0


class Unshown(Exception):
    def __str__(self) -> str:
        raise SystemExit(1)


@pytest.mark.parametrize("error", [Empty(), Reject(), Unshown()], ids=["false", "reject", "unshown"])
def test_whatever_process_raises_becomes_a_dead_letter(error: Exception) -> None:
    def process(_message: Message, _name: str) -> object:
        raise error

    bench = started(process=process)
    bench.feed(A0, "1")
    bench.feed(B0, "1")
    bench.settle_down()
    assert (bench.counters.failed, bench.counters.filtered) == (1, 0)
    assert [(letter.key, letter.reason) for letter in bench.delivery.letters] == [(b"1", "process_failed")]


def test_nothing_that_failed_is_finished_before_its_dead_letter_is_safe() -> None:
    def process(_message: Message, _name: str) -> object:
        raise ZeroDivisionError

    bench = started(process=process)
    bench.feed(A0, "1", b"no json", "alone")
    bench.feed(B0, "1")
    bench.clock.now += EVER * TIMEOUT
    bench.delivery.slow = True
    for _ in range(20):
        bench.worker.step()
    assert {letter.reason for letter in bench.delivery.letters} == {"process_failed", "invalid_message"}
    assert bench.committed() == {A0: 0, B0: 0}
    bench.delivery.slow = False
    bench.settle_down()
    assert bench.waiting(A0) == [2]
    assert bench.committed() == {A0: 2, B0: 1}


# ---------------------------------------------------------------- commits


def test_the_first_commit_notes_where_reading_began() -> None:
    bench = started()
    bench.settle_down()
    assert bench.committed() == {A0: 0, B0: 0}


def test_a_commit_is_never_above_a_waiting_fragment() -> None:
    bench = started()
    bench.feed(A0, "1", "2", "3")
    bench.feed(B0, "3", "2")
    bench.settle_down()
    assert bench.committed() == {A0: 0, B0: 2}
    assert bench.waiting(A0) == [0]


def test_a_commit_names_all_partitions_also_those_where_nothing_happened() -> None:
    bench = started(A0, A1, B0, B1)
    bench.feed(A0, "1")
    bench.feed(B0, "1")
    bench.settle_down()
    assert all(len(points) == 4 for points in bench.delivery.commits)
    assert bench.committed() == {A0: 1, A1: 0, B0: 1, B1: 0}


def test_nothing_is_committed_before_its_result_is_safe() -> None:
    bench = started()
    bench.settle_down()
    bench.delivery.slow = True
    before = len(bench.delivery.commits)
    bench.feed(A0, "1")
    bench.feed(B0, "1")
    bench.step(20)
    assert bench.sent_ids() == ["1"]
    assert len(bench.delivery.commits) == before
    bench.delivery.slow = False
    bench.settle_down()
    assert bench.committed() == {A0: 1, B0: 1}


def test_commits_keep_their_interval() -> None:
    bench = started()
    bench.settle_down()
    before = len(bench.delivery.commits)
    for number in range(50):
        bench.feed(A0, str(number))
        bench.feed(B0, str(number))
        bench.step(1, INTERVAL / 10)
    assert 4 <= len(bench.delivery.commits) - before <= 6


def test_without_news_nothing_is_committed() -> None:
    bench = started()
    bench.settle_down()
    before = len(bench.delivery.commits)
    bench.step(50)
    assert len(bench.delivery.commits) == before


def test_how_long_something_waits_is_committed_now_and_then_also_without_news() -> None:
    """Else it would begin anew wherever workers are killed more often than something comes."""
    bench = started()
    bench.feed(A0, "1")
    bench.settle_down()
    before = len(bench.delivery.commits)
    bench.step(30, 1.0)
    assert 3 <= len(bench.delivery.commits) - before <= 6
    [point] = [point for point in bench.delivery.commits[-1] if point[:2] == A0]
    loaded = OffsetMap.decode(point.metadata, TOPIC_ID, point.offset)
    assert loaded is not None
    assert loaded.time_ms - loaded.oldest_ms >= 20_000


def test_no_commit_is_begun_while_another_is_on_its_way() -> None:
    bench = started()
    bench.settle_down()
    bench.delivery.answer = None
    before = len(bench.delivery.commits)
    for number in range(5):
        bench.feed(A0, str(number))
        bench.step()
    assert len(bench.delivery.commits) == before + 1
    bench.delivery.answer = True
    bench.settle_down()
    assert bench.waiting(A0) == [0, 1, 2, 3, 4]


def test_a_failed_commit_is_repeated_with_what_has_come_since() -> None:
    bench = started()
    bench.settle_down()
    bench.delivery.answer = False
    bench.feed(A0, "1")
    bench.step(3)
    bench.feed(B0, "1")
    bench.step(3)
    assert bench.counters.failed_commits > 1
    bench.delivery.answer = True
    bench.settle_down()
    assert bench.committed() == {A0: 1, B0: 1}


def test_a_failed_commit_is_repeated_also_without_news() -> None:
    bench = started()
    bench.settle_down()
    bench.delivery.answer = False
    bench.feed(A0, "1")
    bench.step(5)
    before = len(bench.delivery.commits)
    bench.step(5)
    assert len(bench.delivery.commits) > before
    bench.delivery.answer = True
    bench.settle_down()
    last = len(bench.delivery.commits)
    bench.step(5)
    assert len(bench.delivery.commits) == last


def test_markers_at_the_end_of_the_log_are_committed() -> None:
    bench = started()
    bench.feed(A0, "1")
    bench.feed(B0, "1")
    bench.consumer.ends = {A0: 3, B0: 2}
    bench.settle_down()
    assert bench.committed() == {A0: 3, B0: 2}


def test_the_next_commit_waits_as_long_as_the_delivery_asks_for_and_one_that_failed_is_repeated_then() -> None:
    bench = started()
    bench.settle_down()
    bench.delivery.later, bench.delivery.answer = 5.0, False
    bench.feed(A0, "1")
    bench.step(3, INTERVAL)
    begun = len(bench.delivery.commits)
    bench.step(3, 1.0)
    assert len(bench.delivery.commits) == begun
    bench.delivery.answer = True
    bench.step(3, 1.0)
    assert len(bench.delivery.commits) == begun + 1
    assert bench.committed() == {A0: 0, B0: 0}


# ---------------------------------------------------------------- a restart


def test_a_restart_neither_loses_a_waiting_fragment_nor_repeats_a_finished_one() -> None:
    bench = started()
    bench.feed(A0, "1", "2", "3")
    bench.feed(B0, "3", "4")
    bench.settle_down()
    again = bench.next_owner()
    again.feed(A0, "4")
    again.feed(B0, "2", "1")
    again.assign(A0, B0)
    again.settle_down()
    assert bench.sent_ids() == ["3"]
    assert sorted(again.sent_ids()) == ["1", "2", "4"]
    assert all(result["content"] == {"a": 0, "b": 0} for _, result in again.delivery.sent)
    assert again.counters.skipped == 1  # "3" of a; that of b is below the committed offset
    assert again.committed() == {A0: 4, B0: 4}


def test_finished_records_are_skipped_before_they_are_decoded() -> None:
    bench = started()
    bench.feed(A0, "1", b"no json", b"no json")
    bench.settle_down()
    again = bench.next_owner()
    again.assign(A0, B0)
    again.settle_down()
    assert (again.counters.invalid, again.counters.skipped) == (0, 2)


def test_a_commit_right_after_a_restart_forgets_nothing() -> None:
    bench = started()
    bench.feed(A0, "1", "2", "3")
    bench.feed(B0, "2")
    bench.settle_down()
    again = bench.next_owner()
    records, again.consumer.log = again.consumer.log, {}
    again.assign(A0, B0)
    again.settle_down()
    assert again.waiting(A0) == [0, 2]
    again.consumer.log = records
    again.settle_down()
    assert again.waiting(A0) == [0, 2]


def test_a_waiting_record_that_the_log_has_lost_is_counted() -> None:
    bench = started()
    bench.feed(A0, "1", "2", "3")
    bench.settle_down()
    again = bench.next_owner()
    del again.consumer.log[A0][1]
    again.assign(A0, B0)
    again.settle_down()
    assert again.waiting(A0) == [0, 2]
    assert again.counters.gone == 1


def test_a_waiting_record_at_the_end_that_the_log_has_lost_is_counted() -> None:
    bench = started()
    bench.feed(A0, "1", "2")
    bench.settle_down()
    again = bench.next_owner()
    del again.consumer.log[A0][1]
    again.consumer.ends = {A0: 2}
    again.assign(A0, B0)
    again.settle_down()
    assert again.waiting(A0) == [0]
    assert again.counters.gone == 1


# ---------------------------------------------------------------- eviction


def test_a_group_is_given_up_after_the_message_timeout_and_not_before(caplog: pytest.LogCaptureFixture) -> None:
    bench = started()
    bench.feed(A0, "1")
    bench.step()
    bench.step(1, TIMEOUT - 1)
    bench.settle_down()
    assert bench.waiting(A0) == [0]
    bench.step(4, 1.0)
    assert bench.counters.evicted == 1
    assert bench.committed() == {A0: 1, B0: 0}
    [line] = [record for record in caplog.records if "given up" in record.message]
    assert "'1': ['b']" in str(vars(line))


def owner_of_something_old() -> Bench:
    """Before its first assignment: "old" of A0 has waited with the one before it for half of MESSAGE_TIMEOUT."""
    bench = started()
    bench.feed(A0, "old")
    bench.settle_down()
    again = bench.next_owner()
    again.clock.now = bench.clock.now + TIMEOUT / 2
    return again


def test_what_is_read_again_after_something_new_is_given_up_when_its_own_time_is_over() -> None:
    """The dict is not in order of arrival then: the loop must tell it so."""
    again = owner_of_something_old()
    records, again.consumer.log = again.consumer.log, {}
    again.feed(B0, "new")
    again.assign(A0, B0)
    again.step(2)
    again.consumer.log |= records
    again.step()
    again.step(1, TIMEOUT / 2)
    again.settle_down()
    assert (again.counters.evicted, again.waiting(A0), again.waiting(B0)) == (1, [], [0])


def test_so_is_what_is_read_again_together_with_something_new() -> None:
    again = owner_of_something_old()
    again.feed(A0, "new")
    again.assign(A0, B0)
    again.step(2)
    again.step(1, TIMEOUT / 2)
    again.settle_down()
    assert (again.counters.evicted, again.waiting(A0)) == (1, [1])


def test_if_the_search_for_what_is_due_takes_long_more_time_lies_between(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, began, takes = started(), list[float](), [1.0]

    def slow(self: Aggregator, enough: Mapping[Any, Enough], most: int) -> tuple[list[Group], list[Fragment]]:
        began.append(bench.clock.now)
        bench.clock.now += takes[0]
        return evict(self, enough, most)

    evict = Aggregator.evict
    monkeypatch.setattr(Aggregator, "evict", slow)
    bench.feed(A0, "1")
    bench.feed(B0, "2")
    bench.consumer.paused = {B0}  # what "1" waits for is not read to its end: it stays
    bench.step(100, TIMEOUT / 50)
    assert min(later - earlier for earlier, later in pairwise(began)) >= 5.0
    takes[0] = 1000.0  # as if the process had been frozen meanwhile
    bench.step(6, 1.0)
    assert began[-1] > bench.clock.now - 1010
    takes[0] = 0.0
    bench.step(12, 1.0)
    assert began[-1] > bench.clock.now - 10


def test_of_very_many_those_are_given_up_that_can_leave_and_the_others_at_the_next_turns() -> None:
    """A dead letter takes more memory than what waits: all at once, they took several times MAX_PENDING_BYTES."""
    bench = started()
    bench.feed(A0, *map(str, range(12_000)))
    bench.step(20)
    assert len(bench.waiting(A0)) == 12_000
    bench.delivery.slow = True
    bench.step(1, TIMEOUT)
    bench.step(60)
    assert bench.delivery.backlog.groups == MAX_IN_FLIGHT
    bench.delivery.slow = False
    bench.settle_down()
    assert (bench.counters.evicted, bench.waiting(A0)) == (12_000, [])
    assert len(bench.delivery.letters) == 12_000


class Changing(Bench):
    """In a group whose input topics have become others; each has two partitions."""

    differs = False

    def located(self, at: Partition) -> PartitionOffsets:
        offsets = super().located(at)
        offsets.layout = offsets.layout._replace(partitions=2, differs=self.differs)
        return offsets


def test_nothing_is_given_up_while_its_siblings_are_with_a_worker_that_reads_other_topics() -> None:
    bench = Changing()
    bench.assign(A0, B0, B1)  # as range assigns them when the other one reads only `a`
    bench.feed(B1, "1")
    bench.step()
    bench.step(5, TIMEOUT)
    assert bench.counters.evicted == 0
    bench.revoke()
    bench.assign(A1, B1)
    bench.step(2)
    bench.step(5, TIMEOUT)
    assert bench.counters.evicted == 1


def test_who_has_all_partitions_gives_up_though_the_topics_have_unequal_numbers_of_them() -> None:
    bench = Changing()
    bench.assign(A0, A1, B0)
    bench.worker.assignment.locate = lambda _consumer, _owned, _now: [
        _with_partitions(bench.located(A0), 2),
        _with_partitions(bench.located(A1), 2),
        _with_partitions(bench.located(B0), 1),
    ]
    bench.feed(A1, "1")
    bench.step()
    bench.step(5, TIMEOUT)
    assert bench.counters.evicted == 1


def _with_partitions(offsets: PartitionOffsets, number: int) -> PartitionOffsets:
    offsets.layout = offsets.layout._replace(partitions=number)
    return offsets


@pytest.mark.parametrize("seen", ["in the commits of the consumer group", "in this process"])
def test_nothing_is_given_up_before_all_workers_can_have_seen_a_change_of_the_topics(seen: str) -> None:
    bench = Changing()
    bench.differs = seen == "in the commits of the consumer group"
    settle = 10 * TIMEOUT
    changed_at = bench.clock.now if not bench.differs else NEVER
    bench.put_together(Waits(settle, changed_at))
    bench.assign(A0, A1, B0, B1)
    bench.feed(A0, "1")
    bench.step()
    bench.step(9, TIMEOUT)
    assert bench.counters.evicted == 0
    bench.step(3, TIMEOUT)
    assert bench.counters.evicted == 1


def test_a_mate_that_comes_after_a_group_was_given_up_gives_no_half_result() -> None:
    bench = started()
    bench.feed(A0, "1")
    bench.step()
    bench.step(3, TIMEOUT)
    bench.feed(B0, "1")
    bench.settle_down()
    assert bench.sent_ids() == []
    assert bench.waiting(B0) == [0]


def test_the_map_says_how_old_the_oldest_waiting_fragment_is() -> None:
    bench = started()
    bench.feed(A0, "1")
    bench.step()
    arrived = bench.clock.wall()
    bench.step(20, 1.0)
    bench.feed(A0, "2")
    bench.settle_down()
    [point] = [point for point in bench.delivery.commits[-1] if point[:2] == A0]
    loaded = OffsetMap.decode(point.metadata, TOPIC_ID, point.offset)
    assert loaded is not None
    assert loaded.oldest_ms == pytest.approx(arrived * 1000, abs=2)
    assert loaded.time_ms == pytest.approx(bench.clock.wall() * 1000, abs=1000)


# ---------------------------------------------------------------- no room


def test_without_room_nothing_is_read_and_after_a_while_the_paused_consumer_is_polled_on() -> None:
    bench = started()
    bench.executor.in_flight = 10**9
    bench.executor.hold = math.inf
    bench.feed(A0, "1")
    bench.step()
    polls = bench.consumer.polls
    bench.step(1, INTERVAL)
    assert bench.consumer.polls == polls
    bench.step(5, EVER)
    assert bench.consumer.polls >= polls + 3  # else the group would take the worker for dead
    assert bench.consumer.paused == {A0, B0}
    assert bench.counters.read == 0


def test_reading_goes_on_when_there_is_room_again() -> None:
    bench = started()
    bench.executor.in_flight = 10**9
    bench.executor.hold = math.inf
    bench.step(5, EVER)
    bench.executor.in_flight = 0
    bench.executor.hold = 0
    bench.feed(A0, "1")
    bench.feed(B0, "1")
    bench.settle_down()
    assert bench.consumer.paused == set()
    assert bench.sent_ids() == ["1"]


def test_reading_does_not_go_on_as_soon_as_there_is_room_for_one() -> None:
    bench = started()
    bench.executor.hold = math.inf
    bench.executor.in_flight = 10**9
    bench.step(5, EVER)
    bench.executor.in_flight = 7_999
    bench.step(3)
    assert bench.consumer.paused == {A0, B0}


def test_results_that_wait_for_their_acknowledgement_take_room_too() -> None:
    bench = started()
    bench.delivery.slow = True
    bench.delivery._sent = [Outcome(group(), [])] * 10**6
    polls = bench.consumer.polls
    bench.step(3, INTERVAL)
    assert bench.consumer.polls == polls


def test_results_are_not_taken_in_while_those_before_them_have_no_room() -> None:
    bench = started(max_pending_bytes=100_000)
    bench.settle_down()
    bench.delivery.slow = True
    bench.delivery._sent = [Outcome(group(), [Result(b"1", bytes(60_000))])]
    bench.executor.submit([group("2")])
    bench.step(3)
    assert bench.executor.in_flight == 1
    bench.delivery.slow = False
    bench.step(3)
    assert bench.executor.in_flight == 0


def test_the_results_that_are_being_made_take_room_too_as_much_as_the_last_ones() -> None:
    bench = started(process=lambda message, _name: {**message, "large": "x" * 10_000}, max_pending_bytes=100_000)
    bench.executor.in_flight = 5  # of 50,000 bytes that there are for what is on its way
    assert bench.worker._load() < 0.1
    bench.executor.in_flight = 0
    bench.feed(A0, "1")
    bench.feed(B0, "1")
    bench.settle_down()
    bench.executor.in_flight = 5
    assert 1 <= bench.worker._load() < 1.1


def test_what_waits_for_its_own_id_takes_no_place_but_memory() -> None:
    bench = started(max_pending_bytes=100_000)
    bench.executor.in_flight = 10_000
    bench.executor.parked.groups = 9_200
    assert bench.worker._load() == 0.1
    bench.worker._bytes_in_flight = 25_000
    assert bench.worker._load() == 0.5
    bench.executor.parked.due = dict.fromkeys(map(str, range(100_000)), 0.0)
    assert bench.worker._load() == 0.5, "what only reading makes room for must not stop reading"


def test_where_too_much_waits_for_its_own_id_the_newest_is_read_again_in_its_order() -> None:
    bench = started(A0, topics=("a",), max_pending_bytes=8_000)  # 2,000 of them for what is parked
    bench.executor.hold = math.inf
    bench.feed(A0, *({"id": "x", "content": {"number": number}} for number in range(10)))
    bench.step()
    taken, parked = bench.executor._waiting, bench.executor.parked
    bench.executor._waiting = []
    parked.rest(taken[0], math.inf)
    for each in taken[1:]:
        parked.put_behind(each)
    bench.step()
    kept = len(parked.busy["x"]) + 1
    assert (kept, bench.executor.in_flight) == (3, 3)
    assert (bench.worker._bytes_in_flight, parked.bytes) == (sum(each.bytes for each in taken[:3]),) * 2
    assert bench.counters.shed == 7
    assert (bench.counters.completed, bench.counters.put_off) == (10, 7), (
        "a counter that falls is a new one to Prometheus"
    )
    bench.feed(A0, {"id": "x", "content": {"number": 10}}, "y")
    bench.step()
    assert [each.id for each in bench.executor._waiting] == ["y"]
    bench.executor._waiting += [parked.rested(), *parked.release("x")]
    bench.executor.hold = 0
    bench.settle_down()
    bench.settle_down()
    assert bench.counters.results == 12
    sent = [value["content"].get("number") for key, value in bench.delivery.sent if key == b"x"]
    assert sent == list(range(11))


def test_where_only_a_commit_makes_room_it_does_not_wait_for_the_interval() -> None:
    bench = started()
    bench.delivery.keeps = True
    bench.delivery._sent = [Outcome(group(), [])]
    bench.step(1, INTERVAL)
    commits = len(bench.delivery.commits)
    bench.delivery._sent = [Outcome(group(), [])]
    bench.step(3, 0)
    assert len(bench.delivery.commits) == commits
    bench.delivery._sent = [Outcome(group(), [])] * 10**6
    bench.step(1, 0)
    assert len(bench.delivery.commits) == commits + 1
    assert not bench.delivery.pending


def test_where_what_is_safe_makes_room_commits_keep_their_interval() -> None:
    bench = started()
    bench.delivery._sent = [Outcome(group(), [])]
    bench.step(1, INTERVAL)
    commits = len(bench.delivery.commits)
    for _ in range(3):
        bench.delivery._sent = [Outcome(group(), [])] * 10**4
        bench.step(1, 0)
        assert not bench.delivery.pending
    assert len(bench.delivery.commits) == commits
    bench.step(1, INTERVAL)
    assert len(bench.delivery.commits) == commits + 1


def test_without_room_what_is_safe_makes_room_while_a_commit_is_unanswered() -> None:
    bench = started()
    bench.delivery.answer = None
    bench.delivery._sent = [Outcome(group(), [])]
    bench.step(1, INTERVAL)
    commits = len(bench.delivery.commits)
    bench.delivery._sent = [Outcome(group(), [])]
    bench.step(1, INTERVAL)
    assert bench.delivery.pending == 1
    bench.delivery._sent *= 10**6
    bench.step(1, INTERVAL)
    assert bench.delivery.pending == 0
    assert len(bench.delivery.commits) == commits


@pytest.mark.parametrize("limit", ["groups", "bytes"])
def test_it_does_so_before_process_runs_dry(limit: str) -> None:
    bench = started(max_pending_bytes=10**9 if limit == "groups" else 20_000)
    bench.delivery.answer = None
    bench.delivery._sent = [Outcome(group(), [])]
    bench.step(1, INTERVAL)
    bench.executor.hold = math.inf
    bench.executor.in_flight = 8_001 if limit == "groups" else 1
    bench.worker._bytes_in_flight = 10_001
    bench.delivery._sent = [Outcome(Group("1", group().fragments, 1_000), [])]
    bench.step(1, INTERVAL)
    assert bench.delivery.pending == 1  # it would make no room
    bench.executor.in_flight = int(8_000 * ALMOST_FULL) - 1 if limit == "groups" else 1
    bench.worker._bytes_in_flight = int(10_000 * ALMOST_FULL) - 1
    polls = bench.consumer.polls
    bench.step(2)
    assert bench.delivery.pending == 0
    assert bench.consumer.polls > polls  # so that the answer comes


def test_there_is_a_commit_now_and_then_also_where_nothing_comes() -> None:
    """Else brokers close the producer's connections, and the next transaction is late."""
    bench = started()
    bench.settle_down()
    commits = len(bench.delivery.commits)
    bench.step(1, KEEP - AGEING)
    assert len(bench.delivery.commits) == commits
    bench.step(2, 2 * AGEING)
    assert len(bench.delivery.commits) == commits + 1


def test_what_is_held_back_leaves_commit_after_commit_and_none_waits_for_its_interval() -> None:
    bench = started()
    bench.settle_down()
    bench.worker.commits.interval = EVER
    commits = len(bench.delivery.commits)
    bench.delivery.most = 1
    bench.delivery._sent = [Outcome(group(), [])] * 4
    bench.step(2)
    assert (bench.delivery.pending, len(bench.delivery.commits)) == (2, commits + 2)


def test_a_stop_commits_until_all_has_left() -> None:
    bench = started()
    bench.settle_down()
    commits = len(bench.delivery.commits)
    bench.delivery.most = 1
    bench.delivery._sent = [Outcome(group(), [])] * 3
    bench.worker.assignment.end()
    assert (bench.delivery.pending, len(bench.delivery.commits)) == (0, commits + 3)


def test_a_stop_does_not_wait_for_what_the_broker_takes_too_late() -> None:
    bench = started()
    bench.settle_down()
    bench.delivery.most, bench.delivery.later = 1, EVER
    bench.delivery._sent = [Outcome(group(), [])] * 3
    bench.worker.assignment.end()
    assert bench.delivery.pending == 2


def test_once_begun_it_goes_on_until_all_is_safe_for_what_comes_meanwhile_is_held() -> None:
    bench = started()
    bench.worker.commits.interval = EVER
    bench.delivery._sent = [Outcome(group(), [])]
    bench.step(1, INTERVAL)
    commits = len(bench.delivery.commits)
    bench.delivery.slow = True
    bench.delivery._sent = [Outcome(group(), [])] * 8_000
    bench.step()
    del bench.delivery._sent[1:]  # there is room again
    settles = bench.delivery.settles
    bench.step()
    assert bench.delivery.settles == settles + 1
    bench.delivery.slow = False
    bench.step()
    assert not bench.delivery.pending
    settles = bench.delivery.settles
    bench.step()
    assert bench.delivery.settles == settles
    assert len(bench.delivery.commits) == commits


def test_what_was_held_meanwhile_leaves_at_once_also_without_a_commit() -> None:
    bench = started()
    bench.worker.commits.interval = EVER
    bench.delivery._sent = [Outcome(group(), [])]
    bench.step(1, INTERVAL)
    bench.delivery._sent = [Outcome(group(), [])] * 8_000
    bench.delivery.held = [Outcome(group(), [])]
    sends = bench.delivery.sends
    bench.step()
    assert bench.delivery.pending == 1
    assert bench.delivery.sends == sends + 1


def test_what_was_lost_is_settled_no_more() -> None:
    bench = started()
    bench.delivery.slow = True
    bench.delivery._sent = [Outcome(group(), [])] * 8_000
    bench.step()
    del bench.delivery._sent[1:]  # there is room again, so that it is polled
    bench.lose()
    settles = bench.delivery.settles
    bench.step(3, 0)
    assert bench.delivery.settles == settles


def test_it_waits_as_long_as_the_delivery_asks_for_all_the_same() -> None:
    bench = started()
    bench.delivery.later = EVER
    bench.delivery._sent = [Outcome(group(), [])]
    bench.step(1, INTERVAL)
    commits = len(bench.delivery.commits)
    bench.delivery._sent = [Outcome(group(), [])] * 10**6
    bench.step(3, 0)
    assert len(bench.delivery.commits) == commits
    assert not bench.delivery.pending  # what is safe makes room meanwhile


def test_a_rebalance_while_paused_leaves_nothing_paused() -> None:
    bench = started()
    bench.executor.in_flight = 10**9
    bench.executor.hold = math.inf
    bench.step(5, EVER)
    assert bench.consumer.paused
    bench.revoke()
    bench.assign(A0, B0)
    bench.step()
    bench.executor.hold = 0
    bench.feed(A0, "1")
    bench.feed(B0, "1")
    bench.settle_down()
    assert bench.sent_ids() == ["1"]


def test_a_commit_in_a_revoke_may_wait_for_kafka_and_that_is_no_death(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was told so for SHUTDOWN_TIMEOUT only: where a broker froze in a rebalance, good workers were killed."""
    bench = started()
    lived = list[bool]()

    def wait(consumer: Consumer, points: list[CommitPoint]) -> float:
        bench.clock.now += 9 * STALLED
        lived.append(bench.health.is_live(bench.clock()))
        return 0.0

    monkeypatch.setattr(bench.delivery, "commit_now", wait)
    bench.revoke()
    bench.step(2)
    assert lived == [True]
    assert not bench.health.is_live(bench.clock() + STALLED), "not longer than that"


def test_a_drain_shortens_no_time_that_the_loop_was_given_before() -> None:
    """It did: a transaction that takes longer, inside the same call of the client, could be taken for a death."""
    bench = started()
    told = list[float]()
    bench.consumer.events += [
        lambda: bench.health.may_take(2 * COMMITTING, bench.clock()),
        lambda: told.append(bench.health.busy_until),
        bench.revoked,
        lambda: told.append(bench.health.busy_until),
    ]
    bench.step()
    assert told[1] == told[0] >= 2 * COMMITTING


# ---------------------------------------------------------------- events of the client


def test_an_error_that_the_client_mends_itself_is_logged_and_the_records_beside_it_are_handled() -> None:
    bench = started()
    bench.feed(A0, "1")
    bench.feed(B0, "1")
    bench.consumer.errors = [FakeMessage(A0, -1, b"down", KafkaError(KafkaError._TRANSPORT))]
    bench.settle_down()
    assert bench.sent_ids() == ["1"]


@pytest.mark.parametrize(
    "code",
    [KafkaError._FATAL, KafkaError._MAX_POLL_EXCEEDED, KafkaError._AUTO_OFFSET_RESET],
)
@pytest.mark.parametrize("text", [b"reason", None])
def test_any_other_error_is_raised(code: int, text: bytes | None) -> None:
    bench = started()
    bench.consumer.errors = [FakeMessage(A0, -1, text, KafkaError(code))]
    with pytest.raises(KafkaException):
        bench.step(2)


def test_where_retention_overtakes_reading_what_is_in_memory_stays(caplog: pytest.LogCaptureFixture) -> None:
    """The worker started again, and all that it had read in time and retention had deleted since was lost."""
    bench = started()
    bench.feed(A0, "1", "2", "deleted", "deleted too", "5")
    log = bench.consumer.log[A0]
    bench.consumer.log[A0] = {each: log[each] for each in (0, 1)}
    bench.feed(B0, "1")
    bench.settle_down()
    bench.consumer.log[A0] = {4: log[4]}
    bench.consumer.fetch_at.pop(A0)  # as the client: it ends the fetch of that partition
    bench.consumer.errors = [FakeMessage(A0, -1, None, KafkaError(KafkaError._AUTO_OFFSET_RESET))]
    bench.feed(B0, "2", "5")
    bench.settle_down()
    assert bench.sent_ids() == ["1", "2", "5"]
    assert (bench.counters.skipped_by_retention, bench.counters.gone) == (2, 0)
    assert bench.committed() == {A0: 5, B0: 3}
    [line] = [each for each in caplog.records if each.message == "records were deleted before they were read"]
    assert (vars(line)["from"], vars(line)["to"]) == (2, 4)


def test_that_retention_has_overtaken_reading_is_committed_also_where_nothing_is_left_to_read() -> None:
    """Else the next start would say it, and count it, once more."""
    bench = started()
    bench.feed(A0, "1")
    bench.feed(B0, "1")
    bench.settle_down()
    bench.feed(A0, "deleted", "deleted too")
    bench.consumer.fetch_at.pop(A0)
    bench.consumer.errors = [FakeMessage(A0, -1, None, KafkaError(KafkaError._AUTO_OFFSET_RESET))]
    beginning = [TopicPartition(*A0, 3)]
    bench.consumer.offsets_for_times = lambda _partitions, timeout: beginning  # type: ignore[method-assign, assignment]
    bench.step(2)
    bench.step(1, 2 * LOOK_AT_LEAST_EVERY)
    bench.settle_down()
    assert bench.counters.skipped_by_retention == 2
    assert bench.committed() == {A0: 3, B0: 1}


def test_what_was_to_be_read_again_and_is_deleted_is_gone_and_the_others_go_on() -> None:
    offset_map = OffsetMap(TOPIC_ID, 0, 0, 0, States.of([UNFINISHED, FINISHED, UNFINISHED]))
    bench = Bench(durable={A0: CommitPoint(*A0, 0, offset_map.encode())})
    bench.feed(A0, "1", "2", "3", "4", "5")
    log = bench.consumer.log[A0]
    bench.consumer.log[A0] = {each: log[each] for each in (3, 4)}
    bench.consumer.errors = [FakeMessage(A0, -1, None, KafkaError(KafkaError._AUTO_OFFSET_RESET))]
    bench.feed(B0, "1", "3", "4", "5")
    bench.assign(A0, B0)
    bench.settle_down()
    assert bench.sent_ids() == ["4", "5"]
    assert (bench.counters.skipped_by_retention, bench.counters.gone) == (0, 2)


def test_an_input_topic_that_is_gone_is_an_error_of_configuration_which_says_so() -> None:
    """The process ended with 1 and a traceback, and no line named a cure."""
    bench = started()
    text = b"Subscribed topic not available: a: Broker: Unknown topic or partition"
    bench.consumer.errors = [FakeMessage(A0, -1, text, KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART, text.decode()))]
    with pytest.raises(ConfigError, match=r"an input topic is gone: make it again, .* available: a: Broker"):
        bench.step()


# ---------------------------------------------------------------- rebalances


def test_records_read_before_a_rebalance_in_the_same_poll_are_not_taken_for_ours() -> None:
    bench = started()
    bench.feed(A0, "1", "2", "3")
    bench.feed(B0, "1")
    owned = [TopicPartition(*A0), TopicPartition(*B0)]
    bench.consumer.events_in_consume += [bench.revoked, lambda: bench.consumer.on_assign(bench.consumer, owned)]
    bench.step()
    bench.feed(B0, "2", "3")
    bench.settle_down()
    assert sorted(bench.sent_ids()) == ["1", "2", "3"]
    assert bench.committed() == {A0: 3, B0: 3}
    assert bench.counters.superseded == 0


def test_records_read_before_a_revoke_in_the_same_poll_are_left_to_the_next_owner() -> None:
    bench = started()
    bench.settle_down()
    bench.feed(A0, "1")
    bench.feed(B0, "1")
    bench.consumer.events_in_consume.append(bench.revoked)
    bench.settle_down()
    assert bench.sent_ids() == []
    [points] = bench.delivery.commits_in_revoke
    assert {point[:2]: point.offset for point in points} == {A0: 0, B0: 0}


def test_a_record_that_comes_with_its_assignment_is_not_lost() -> None:
    bench = Bench()
    bench.feed(A0, "1")
    bench.feed(B0, "1")
    bench.assign(A0, B0)
    bench.settle_down()
    assert bench.sent_ids() == ["1"]
    assert bench.committed() == {A0: 1, B0: 1}


def test_that_keys_do_not_fit_is_said_through_a_rebalance_until_there_are_no_two_topics_any_more() -> None:
    """It was said for ever, also after the row had been changed to one topic, and of a worker without a partition."""
    bench = Bench()
    bench.health.mismatches["b"] = "of an earlier worker"
    bench.assign(A0, B0)
    bench.step()
    bench.revoke()
    bench.step()
    assert bench.health.mismatches
    bench.assign(A0)
    bench.step()
    assert not bench.health.mismatches


def test_a_revoke_commits_what_is_done_with_the_map_of_what_waits() -> None:
    bench = started()
    bench.feed(A0, "1", "2")
    bench.feed(B0, "2")
    bench.step()
    bench.revoke()
    bench.step()
    [points] = bench.delivery.commits_in_revoke
    assert {point[:2]: point.offset for point in points} == {A0: 0, B0: 1}
    [metadata] = [point.metadata for point in points if point[:2] == A0]
    loaded = OffsetMap.decode(metadata, TOPIC_ID, 0)
    assert loaded is not None
    assert bytes(loaded.states) == b"\x00\x01"


def test_after_a_revoke_nothing_of_before_is_sent_or_committed() -> None:
    bench = started()
    bench.feed(A0, "1", "2")
    bench.feed(B0, "1")
    bench.executor.hold = math.inf
    bench.step()
    bench.revoke()
    bench.step()
    begun = len(bench.delivery.commits)
    bench.executor.hold = 0
    bench.feed(B0, "2")
    bench.settle_down()
    assert bench.sent_ids() == []
    assert len(bench.delivery.commits) == begun


def test_partitions_that_come_back_are_read_again_from_the_commit() -> None:
    bench = started()
    bench.feed(A0, "1", "2")
    bench.feed(B0, "1")
    bench.settle_down()
    bench.revoke()
    bench.step()
    bench.durable = {point[:2]: point for point in bench.delivery.commits_in_revoke[-1]}
    bench.feed(B0, "2")
    bench.assign(A0, B0)
    bench.settle_down()
    assert bench.sent_ids() == ["1", "2"]
    assert bench.committed() == {A0: 2, B0: 2}


def test_a_revoke_waits_for_the_running_call_and_starts_no_other() -> None:
    bench = started()
    bench.feed(A0, "1", "2")
    bench.feed(B0, "1", "2")
    bench.executor.hold = 10
    bench.step()
    bench.revoke()
    bench.step()
    assert bench.sent_ids() == ["1"]
    [points] = bench.delivery.commits_in_revoke
    assert {point[:2]: point.offset for point in points} == {A0: 1, B0: 1}


def test_a_call_that_never_ends_holds_up_a_revoke_for_the_shutdown_timeout_and_stays_unfinished() -> None:
    bench = started()
    bench.feed(A0, "1")
    bench.feed(B0, "1")
    bench.executor.hold = math.inf
    bench.step()
    bench.revoke()
    began = bench.clock.now
    bench.step(1, 0)
    assert SHUTDOWN / 2 <= bench.clock.now - began < SHUTDOWN
    assert bench.sent_ids() == []
    assert all(point.offset == 0 for points in bench.delivery.commits_in_revoke for point in points)


def test_results_that_are_never_acknowledged_hold_up_a_revoke_for_the_shutdown_timeout_and_are_not_committed() -> None:
    bench = started()
    bench.settle_down()
    bench.feed(A0, "1")
    bench.feed(B0, "1")
    bench.delivery.slow = True
    bench.step()
    bench.revoke()
    began = bench.clock.now
    bench.step(1, 0)
    assert SHUTDOWN / 2 <= bench.clock.now - began < SHUTDOWN
    assert all(point.offset == 0 for points in bench.delivery.commits_in_revoke for point in points)


def test_a_worker_that_waits_for_process_in_a_revoke_or_for_brokers_in_an_assignment_lives() -> None:
    bench = started()
    bench.worker.assignment.shutdown_timeout = 3 * STALLED
    locate, lives = bench.worker.assignment.locate, []

    def look() -> bool:
        lives.append(bench.health.is_live(bench.clock.now))
        return True

    def slow_locate(*arguments: Any) -> list[PartitionOffsets]:
        bench.clock.now += 1.5 * STALLED
        look()
        return locate(*arguments)

    bench.worker.assignment.locate = slow_locate
    bench.feed(A0, "1")
    bench.feed(B0, "1")
    bench.executor.hold = math.inf
    bench.step()
    collect = bench.executor.collect
    bench.executor.collect = lambda timeout: (look() and collect(timeout)) or []  # type: ignore[method-assign]
    bench.revoke()
    bench.assign(A0, B0)
    bench.step()
    assert len(lives) > 100
    assert all(lives)
    bench.step()
    assert not bench.health.is_live(bench.clock.now + STALLED), "as soon as it turns again, it must"


@pytest.mark.parametrize("is_running", [True, False])
def test_starts_without_progress_are_forgotten_in_order_only_where_no_old_call_can_end_the_process(
    is_running: bool,
) -> None:
    durable = {at: partition_offsets(0, None, *at).commit_point(0, 0) for at in (A0, B0)}
    bench = Bench(durable=durable)
    located = bench.located

    def after_another_start(at: Partition) -> PartitionOffsets:
        offsets = located(at)
        offsets.suspicion = Suspicion(starts=2)
        return offsets

    bench.located = after_another_start  # type: ignore[method-assign]
    bench.assign(A0, B0)
    bench.step()
    if is_running:
        bench.executor.calls = lambda: [Call("1", 99.0)]  # type: ignore[method-assign]
    bench.revoke()
    bench.step()
    [points] = bench.delivery.commits_in_revoke
    maps = [OffsetMap.decode(point.metadata, TOPIC_ID, point.offset) for point in points]
    assert [each and each.starts for each in maps] == [2 if is_running else 0] * 2


def test_a_message_that_only_waits_for_its_other_part_counts_no_starts_once_all_is_read() -> None:
    bench = Bench()
    located = bench.located

    def after_other_starts(at: Partition) -> PartitionOffsets:
        offsets = located(at)
        offsets.suspicion, offsets.log_end = Suspicion(starts=2), 1 if at == A0 else 0
        return offsets

    bench.located = after_other_starts  # type: ignore[method-assign]
    bench.feed(A0, "1")
    bench.assign(A0, B0)
    bench.settle_down()
    maps = [OffsetMap.decode(point.metadata, TOPIC_ID, point.offset) for point in bench.delivery.commits[-1]]
    assert [each and each.starts for each in maps] == [1, 1]


def test_a_commit_that_fails_in_a_revoke_leaves_the_rest_to_the_next_owner() -> None:
    bench = started()
    bench.feed(A0, "1")
    bench.step()
    bench.delivery.broken = KafkaException(KafkaError(KafkaError.ILLEGAL_GENERATION))
    bench.revoke()
    bench.step()
    bench.delivery.broken = None
    bench.feed(B0, "1")
    bench.assign(A0, B0)
    bench.settle_down()
    assert bench.sent_ids() == ["1"]


def test_partitions_that_are_lost_and_come_back_to_a_process_that_lives_are_no_start() -> None:
    """A machine that is frozen now and then, during a long call: it became a dead letter, and then ended well."""
    bench = started()
    bench.executor.hold = math.inf
    bench.feed(A0, "1")
    bench.feed(B0, "1")
    bench.step(3)
    for _ in range(3):
        bench.lose()
        bench.step()
        bench.durable = bench.next_owner().durable
        bench.assign(A0, B0)
        bench.step(3)
    owned = bench.worker.intake.owned.partitions
    assert [owned[at].suspicion.starts_without_progress for at in (A0, B0)] == [1, 1]
    bench.lose()
    bench.step()
    other = bench.next_owner()  # another process, which cannot know whether this one lives
    other.executor.hold = math.inf
    other.assign(A0, B0)
    other.step(3)
    bench.durable = other.next_owner().durable
    bench.assign(A0, B0)
    bench.step(2)
    owned = bench.worker.intake.owned.partitions
    assert [owned[at].suspicion.starts_without_progress for at in (A0, B0)] == [3, 3]


def test_what_was_lost_is_never_committed() -> None:
    bench = started()
    bench.settle_down()
    bench.delivery.answer = None
    bench.feed(A0, "0")
    bench.step()  # this commit is on its way for the rest of the test
    begun = len(bench.delivery.commits)
    bench.feed(A0, "1")
    bench.feed(B0, "1", "0")
    bench.step()
    assert bench.delivery.pending == 2
    bench.delivery.slow = True
    bench.lose()
    bench.step()
    assert (bench.delivery.pending, bench.executor.in_flight) == (0, 0)
    bench.delivery.slow = False
    bench.settle_down()
    bench.consumer.close()
    assert (len(bench.delivery.commits), bench.delivery.commits_in_revoke) == (begun, [])


def test_the_answer_to_a_commit_from_before_a_rebalance_is_not_waited_for() -> None:
    bench = started()
    bench.delivery.answer = None
    bench.step(3)
    before = len(bench.delivery.commits)
    bench.lose()
    bench.assign(A0, B0)
    bench.settle_down()
    assert len(bench.delivery.commits) == before + 1


def test_fragments_of_partitions_that_were_revoked_join_nothing_any_more() -> None:
    bench = started()
    bench.feed(A0, "1")
    bench.settle_down()
    bench.revoke()
    bench.assign(B0)
    bench.feed(B0, "1")
    bench.settle_down()
    assert bench.sent_ids() == []
    bench.revoke()
    bench.assign(A0, B0)
    bench.settle_down()
    assert bench.sent_ids() == ["1"]
    assert bench.counters.superseded == 0


def test_an_assignment_of_nothing_is_no_error() -> None:
    bench = started()
    bench.revoke()
    bench.assign()
    bench.settle_down()
    assert bench.consumer.fetch_at == {}


# ---------------------------------------------------------------- failures


@pytest.mark.parametrize(
    "error", [KafkaException(KafkaError(KafkaError._TIMED_OUT)), ConfigError(["counts"]), KeyError("x")]
)
def test_an_error_in_the_assignment_does_not_leave_the_callback_but_the_loop(error: Exception) -> None:
    bench = Bench(locate_error=error)
    bench.consumer.on_assign(bench.consumer, [TopicPartition(*A0), TopicPartition(*B0)])
    with pytest.raises(type(error)) as raised:
        bench.step()
    assert raised.value is error


def test_after_a_failure_in_the_assignment_nothing_is_read() -> None:
    bench = Bench(locate_error=KeyError("x"))
    bench.feed(A0, "1")
    bench.assign(A0, B0)
    with pytest.raises(KeyError):
        bench.step()
    assert bench.consumer.fetch_at == {}


def test_who_has_partitions_of_other_topics_leaves_the_group_before_the_consumer_is_closed() -> None:
    bench, left = Bench(locate_error=AssignmentOutdated("c is not in the row")), list[bool]()
    bench.worker.leave = lambda _consumer: left.append(bench.consumer.closed)
    bench.assign(A0, B0)
    with pytest.raises(AssignmentOutdated):
        bench.worker.run()
    assert (left, bench.consumer.closed) == ([False], True)


def test_a_worker_whose_client_does_not_join_any_more_ends_and_the_client_is_let_go() -> None:
    """Kafka's client lost its session while the broker was frozen, and never joined again: it stood still for good."""
    bench, let_go = started(), list[object]()
    bench.worker.let_go = lambda *client: let_go.append(client)
    bench.lose()
    bench.group_state = "PREPARING_REBALANCING"
    turns, since = iter(range(100)), bench.clock.now

    def stops() -> bool:
        bench.clock.now += PATIENCE / 4
        if next(turns) == 20:
            bench.group_state = "EMPTY"
        return False

    bench.stopping.is_set = stops  # type: ignore[method-assign]
    with pytest.raises(NeverJoins):
        bench.worker.run()
    assert bench.clock.now - since >= 20 * PATIENCE / 4, "a rebalance is waited for"
    assert (let_go, bench.consumer.closed) == ([(bench.consumer, CLOSING)], False)
    dropped = list[bool]()
    bench.executor.drop = lambda: dropped.append(True)  # type: ignore[method-assign]
    bench.revoked()
    assert not dropped, "what the client still calls is of another worker's time"


def test_after_any_failure_the_client_is_let_go_of_for_it_may_be_one_that_does_not_end() -> None:
    """A result that fails may come before anybody has found out that the client does not join."""
    bench, let_go = started(), list[object]()
    bench.worker.let_go = lambda *client: let_go.append(client)

    def fails() -> bool:
        raise OSError("a failure")

    bench.stopping.is_set = fails  # type: ignore[method-assign]
    with pytest.raises(OSError, match="a failure"):
        bench.worker.run()
    assert (let_go, bench.consumer.closed) == ([(bench.consumer, CLOSING)], False)


@pytest.mark.parametrize(("answer", "left"), [(True, SHUTDOWN), (None, 0.0)])
def test_after_an_end_in_order_the_client_is_closed_in_what_is_left_of_the_time(
    answer: bool | None, left: float
) -> None:
    """With brokers away the process ended with 1, and without teardown(): the client waits for their answer for 5 s."""
    bench, let_go = Bench(), list[float]()
    bench.worker.let_go = lambda _client, seconds: let_go.append(seconds)
    bench.feed(A0, "1")
    bench.assign(A0, B0)
    bench.delivery.answer = answer
    StopWhen(bench, lambda: bench.consumer.polls > 2)
    bench.worker.run()
    assert let_go == [pytest.approx(CLOSING_IN_TIME + left, abs=0.2)]
    dropped = list[bool]()
    bench.executor.drop = lambda: dropped.append(True)  # type: ignore[method-assign]
    bench.revoked()
    assert not dropped, "what the client still calls is of another worker's time"


def test_of_two_errors_of_one_read_the_first_is_raised_which_the_callback_has_kept() -> None:
    bench = Bench(locate_error=AssignmentOutdated("c is not in the row"))
    bench.assign(A0, B0)
    bench.consumer.errors = [FakeMessage(A0, -1, b"no", KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))]
    with pytest.raises(AssignmentOutdated):
        bench.worker.run()


def test_the_answer_to_a_commit_on_its_way_is_heard_when_the_loop_has_failed() -> None:
    """It may have been carried out in part, and has to be taken back then."""
    bench, heard = started(), list[bool]()
    bench.delivery.answer = None
    bench.feed(A0, "1")
    bench.step(2)

    def answered() -> None:
        bench.delivery.answer = False
        heard.append(True)

    bench.delivery.fail = lambda: bench.consumer.events.append(answered)  # type: ignore[method-assign]
    bench.consumer.errors = [FakeMessage(A0, -1, b"no", KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))]
    with pytest.raises(KafkaException):
        bench.worker.run()
    assert heard


def test_who_fails_otherwise_keeps_its_place() -> None:
    bench, left = Bench(locate_error=KeyError("x")), list[bool]()
    bench.worker.leave = lambda _consumer: left.append(True)
    bench.assign(A0, B0)
    with pytest.raises(KeyError):
        bench.worker.run()
    assert not left


def test_an_error_in_a_revoke_does_not_leave_the_callback_but_the_loop() -> None:
    bench = started()
    bench.feed(A0, "1")
    bench.feed(B0, "1")
    bench.delivery.slow = True
    bench.step()
    bench.delivery.broken = DeliveryFailed("gone")
    bench.revoked()
    with pytest.raises(DeliveryFailed):
        bench.step()
    assert bench.delivery.commits_in_revoke == []


def test_after_a_failure_in_a_revoke_the_next_one_in_the_same_poll_commits_nothing() -> None:
    bench = started()
    bench.feed(A0, "1")
    bench.feed(B0, "1")
    bench.delivery.slow = True
    bench.step()
    bench.delivery.broken = DeliveryFailed("gone")
    bench.revoke()
    bench.consumer.events.append(lambda: setattr(bench.delivery, "broken", None))
    bench.assign(A0, B0)
    bench.revoke()
    with pytest.raises(DeliveryFailed):
        bench.step()
    assert bench.delivery.commits_in_revoke == []


def test_after_a_failure_nothing_is_committed_not_even_by_close() -> None:
    bench = Bench()
    bench.feed(A0, "1")
    bench.feed(B0, "1", "2")
    bench.assign(A0, B0)
    bench.delivery.broken = DeliveryFailed("gone")
    with pytest.raises(DeliveryFailed):
        bench.worker.run()
    assert (bench.consumer.closed, bench.executor.in_flight) == (True, 0)
    assert (bench.delivery.commits, bench.delivery.commits_in_revoke) == ([], [])


def test_after_a_failure_in_the_assignment_close_commits_nothing() -> None:
    bench = started()
    bench.settle_down()
    bench.locate_error = KeyError("x")
    bench.revoke()
    bench.assign(A0, B0)
    revokes = len(bench.delivery.commits_in_revoke) + 1
    with pytest.raises(KeyError):
        bench.worker.run()
    assert len(bench.delivery.commits_in_revoke) == revokes
    assert bench.consumer.closed


# ---------------------------------------------------------------- the end


class StopWhen:
    """Sets `stopping` in the poll in which a condition holds."""

    def __init__(self, bench: Bench, condition: Callable[[], bool]) -> None:
        poll = bench.consumer.poll

        def polled(_timeout: float) -> FakeMessage | None:
            bench.clock.now += INTERVAL
            if condition():
                bench.stopping.set()
            return poll(_timeout)

        bench.consumer.poll = polled  # type: ignore[method-assign]


def test_a_stop_sees_results_through_commits_with_the_map_and_closes() -> None:
    bench = Bench()
    bench.feed(A0, "1", "2")
    bench.feed(B0, "2")
    bench.assign(A0, B0)
    StopWhen(bench, lambda: bench.consumer.polls > 0)
    bench.worker.run()
    assert bench.sent_ids() == ["2"]
    assert bench.committed() == {A0: 0, B0: 1}
    assert bench.waiting(A0) == [0]
    assert (bench.consumer.closed, bench.executor.in_flight) == (True, 0)
    assert bench.delivery.commits_in_revoke == []


def test_a_stop_waits_for_the_answer_to_its_commit_but_not_for_ever() -> None:
    bench = Bench()
    bench.feed(A0, "1")
    bench.assign(A0, B0)
    bench.delivery.answer = None
    StopWhen(bench, lambda: bench.consumer.polls > 2)
    bench.worker.run()
    assert bench.clock.now < 2 * SHUTDOWN
    assert bench.consumer.closed


def test_a_stop_says_so_where_its_commit_was_not_confirmed(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bench.assign(A0, B0)
    bench.delivery.answer = None
    StopWhen(bench, lambda: bench.consumer.polls > 2)
    bench.worker.run()
    assert "the last commit was not confirmed in time: the next owner may repeat" in caplog.messages


def stopping_with_a_commit_that_fails() -> Bench:
    """In its first turn, when nothing else is to be committed."""
    bench = started()
    bench.feed(A0, "1")
    bench.settle_down()
    bench.delivery.answer = False
    StopWhen(bench, lambda: True)
    return bench


def test_a_stop_commits_once_more_where_its_commit_has_failed(caplog: pytest.LogCaptureFixture) -> None:
    bench = stopping_with_a_commit_that_fails()
    before = bench.counters.commits
    commit = bench.delivery.commit

    def committed(*arguments: Any) -> float:
        bench.delivery.answer = bench.counters.failed_commits == 2
        return commit(*arguments)

    bench.delivery.commit = committed  # type: ignore[method-assign, assignment]
    bench.worker.run()
    assert (bench.counters.failed_commits, bench.counters.commits) == (2, before + 1)
    assert bench.waiting(A0) == [0]
    assert "the last commit was not confirmed in time: the next owner may repeat" not in caplog.messages


def test_a_stop_whose_commits_fail_all_the_time_ends_in_time() -> None:
    bench = stopping_with_a_commit_that_fails()
    bench.worker.run()
    assert bench.counters.failed_commits > 2
    assert bench.clock.now < 1.5 * SHUTDOWN


def test_a_stop_whose_commit_is_held_back_for_longer_than_it_may_take_ends_at_once() -> None:
    bench = stopping_with_a_commit_that_fails()
    bench.delivery.later = 2 * SHUTDOWN
    bench.worker.run()
    assert bench.counters.failed_commits == 1
    assert bench.clock.now < SHUTDOWN


def test_a_stop_does_not_commit_once_more_after_a_rebalance() -> None:
    bench = stopping_with_a_commit_that_fails()
    commit = bench.delivery.commit

    def committed(*arguments: Any) -> float:
        bench.revoke()
        bench.assign(A0)  # and B0 is another's
        return commit(*arguments)

    bench.delivery.commit = committed  # type: ignore[method-assign, assignment]
    bench.worker.run()
    assert bench.delivery.commits_in_revoke
    assert bench.counters.failed_commits == 1


def test_a_rebalance_while_the_last_commit_is_waited_for_gets_no_time_of_its_own() -> None:
    bench = Bench(topics=("a",))
    bench.assign(A0)
    bench.feed(A0, "1")
    StopWhen(bench, lambda: bench.consumer.polls > 4)
    bench.executor.hold = math.inf
    bench.delivery.answer = None
    commit = bench.delivery.commit

    def committed(*arguments: Any) -> float:
        if bench.stopping.is_set():
            bench.revoke()
        return commit(*arguments)

    bench.delivery.commit = committed  # type: ignore[method-assign, assignment]
    bench.worker.run()
    assert bench.delivery.commits_in_revoke
    assert bench.clock.now < 1.5 * SHUTDOWN


def test_a_stop_with_a_call_that_never_ends_commits_the_rest() -> None:
    bench = Bench(topics=("a",))
    bench.assign(A0)
    bench.feed(A0, "1")
    StopWhen(bench, lambda: bench.consumer.polls > 4)
    bench.executor.hold = math.inf
    bench.worker.run()
    assert bench.clock.now < 2 * SHUTDOWN
    assert bench.committed() == {A0: 0}
    assert bench.waiting(A0) == [0]


def test_a_stop_before_anything_was_assigned_commits_nothing() -> None:
    bench = Bench()
    bench.stopping.set()
    bench.worker.run()
    assert (bench.delivery.commits, bench.consumer.closed) == ([], True)


def test_while_a_call_lasts_what_is_there_to_be_read_is_read_at_once() -> None:
    """A million records that were finished took 20 s to be skipped, for each thousand waited for the call."""
    bench = started()
    bench.executor.hold = math.inf
    bench.feed(A0, "1")
    bench.feed(B0, "1")
    bench.step()
    assert bench.executor.in_flight == 1
    waits: list[float] = []

    def collect(timeout: float) -> list[Outcome]:
        waits.append(timeout)
        return []

    bench.executor.collect = collect  # type: ignore[method-assign]
    bench.feed(A0, *(f"waits {number}" for number in range(150)))
    bench.step()
    bench.feed(A0, "few")
    bench.step()
    bench.feed(B0, *(f"waits {number}" for number in range(150)))
    bench.step()
    assert waits == [0, BUSY, BUSY], "nothing new is to be called; few have come; some are called now"
