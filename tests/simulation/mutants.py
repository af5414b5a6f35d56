"""Bugs planted on purpose, at least one for each numbered rule: a simulation that does not find them proves nothing.

Each replaces a few functions of the real classes while the simulation runs. `python -m tests.simulation.mutants` looks
for every one of them until a promise is broken, and prints after how many schedules it was.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from operator import attrgetter
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

import framework
from config import ConfigError
from framework import Worker
from tests.simulation.clients import FakeConsumer
from tests.simulation.explore import explore, notes_of, settle_down
from tests.simulation.process import Violation
from tests.simulation.schedule import Schedule
from utils.joining import aggregator, dead_letters, messages, offsets
from utils.joining.aggregator import FOREVER, NEVER, Aggregator, Enough, Group, size_of
from utils.joining.arrivals import Arrivals, Step
from utils.joining.dead_letters import Letter
from utils.joining.messages import Fragment, Result
from utils.joining.offsets import CommitPoint, OffsetMap, PartitionOffsets
from utils.joining.references import MapSlots, digest
from utils.joining.states import FINISHED, SHED, UNFINISHED, Run, States
from utils.kafka import lookups
from utils.metrics import Counters
from utils.processing import executor, suspects
from utils.processing.dispatcher import Dispatcher
from utils.processing.executor import Outcome
from utils.processing.parking import Parking
from utils.processing.suspects import Suspects
from utils.reading import intake, locator, overflow
from utils.reading.intake import Intake
from utils.reading.locator import History, Locator
from utils.reading.overflow import Overflow, Pass
from utils.running import supervision
from utils.sending import assignment, delivery
from utils.sending.assignment import Assignment
from utils.sending.commits import Commits
from utils.sending.delivery import AtLeastOnce, Backlog, ExactlyOnce, _as_offsets, _mark_sent
from utils.sending.failures import Failures
from utils.sending.map_store import MapStore
from utils.sending.outbox import DeliveryFailed, Outbox
from utils.sending.pace import Pace

SCHEDULES = 10_000  # that are tried for one mutant

Replacement = tuple[object, str, object]


@dataclass(frozen=True, slots=True)
class Mutant:
    rule: str
    what: str
    replacements: tuple[Replacement, ...]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the setup that are not drawn, where what the bug needs comes together too rarely."""

    @contextmanager
    def planted(self) -> Iterator[None]:
        with ExitStack() as stack:
            for where, name, replacement in self.replacements:
                stack.enter_context(patch.object(where, name, replacement))
            yield


def _nothing(*_arguments: object, **_named: object) -> None:
    """In place of a function whose work is left out."""


# ---------------------------------------------------------------- offsets and maps


def _commit_the_position(self: PartitionOffsets) -> int:
    self.states.replace(UNFINISHED, self.base, self.position)
    return _lowest_unfinished(self)


_lowest_unfinished = PartitionOffsets.lowest_unfinished


def _up_to_position(self: PartitionOffsets, oldest_ms: int, now_ms: int, _now: float) -> CommitPoint:
    lowest = self.lowest_unfinished()
    states = States.of(bytes(self.states)[: max(self.position - lowest, 0)], lowest)
    offset_map = OffsetMap(self.topic_id, lowest, oldest_ms, now_ms, states, self.layout.joined_with)
    return CommitPoint(self.topic, self.partition, lowest, offset_map.encode())


def _reads_all_again(self: PartitionOffsets, offset: int) -> bool:
    known = _read_known(self, offset)
    return known or self.base <= offset


def _skips_all_known(self: PartitionOffsets, offset: int) -> bool:
    new = offset >= self.loaded_end
    return _read_known(self, offset) and new


_read_known = PartitionOffsets._read_known


def _gap_unfinished(self: PartitionOffsets, position: int) -> int:
    if position > self._known_end:
        self.states.extend(UNFINISHED, position - self._known_end)
        self._known_end = position
    self.position = max(self.position, position)
    return 0


def _any_base(self: History, topic: str, number: int) -> tuple[int | None, OffsetMap | None]:
    commit = self._commits.get((topic, number))
    return (commit.offset, self._maps[topic, number]) if commit else (None, None)


def _any_topic(self: History, topic: str, number: int) -> tuple[int | None, OffsetMap | None]:
    commit, found = self._commits.get((topic, number)), self._maps.get((topic, number))
    return (commit.offset, found if found and found.base == commit.offset else None) if commit else (None, None)


def _no_map(self: History, topic: str, number: int) -> tuple[int | None, OffsetMap | None]:
    return _committed(self, topic, number)[0], None


_committed = History.committed


def _unchecked(text: str | None) -> OffsetMap | None:
    fields = (text or "").rstrip("\0").split(":")
    if len(fields) != 9:
        return None
    return _parse(":".join([*fields[:8], offsets.checksum(":".join(fields[:8]))]))


def _raises_when_damaged(text: str | None) -> OffsetMap | None:
    if text and not _parse(text):
        raise ValueError("damaged")
    return _parse(text)


_parse = OffsetMap.parse


def _first_partition_only(self: Worker) -> list[CommitPoint]:
    return _commit_points(self)[:1]


def _map_of_before(self: Worker) -> list[CommitPoint]:
    before = [each.states.copy() for each in self.intake.owned.values()]
    points = _commit_points(self)
    return [
        point._replace(
            metadata=OffsetMap(owned.topic_id, point.offset, 0, 0, states, owned.layout.joined_with).encode()
        )
        for point, states, owned in zip(points, before, self.intake.owned.values(), strict=True)
    ]


_commit_points = Worker.commit_points


def _joins_runs(self: States) -> Iterator[Run]:
    """Where one finished offset, or two, are between them."""
    begin = end = self.base
    for run in _runs(self):
        if run[0] > end + 2:
            yield begin, end
            begin = run[0]
        end = run[1]
    yield begin, end


def _forgets_what_is_behind(self: States, number: int, states: bytearray) -> None:
    _put_segment(self, number, states.replace(b"\x00", b"\x01"))


_runs, _put_segment = States.runs, States._put


def _one_key(self: MapSlots, point: CommitPoint, since: int) -> tuple[Any, Any]:
    """The key in use is written over."""
    self._slot = 0
    return _store(self, point, since)


def _frees_what_failed(self: MapSlots, confirmed: bool) -> None:
    """The key of a commit that failed is written again: it was perhaps carried out all the same."""
    if not confirmed and self._slot is not None:
        self._taken.discard(self._slot)
    _ended(self, confirmed)


def _one_writer(self: MapSlots, _writer: str, found: Any) -> None:
    """All workers write under the same keys, each from its first slot on."""
    _begin(self, "w", found)


def _deletes_at_once(self: MapSlots, *arguments: Any) -> tuple[Any, Any]:
    """A predecessor's records, before a commit has taken their place."""
    for at, lot in self._before.items():
        self._delete(at, lot)
    return _put(self, *arguments)


def _deletes_its_own(self: MapSlots, confirmed: bool) -> None:
    """Those of the commit that was just confirmed too."""
    self._stored = set()
    _ended(self, confirmed)


_store, _ended, _begin, _put = MapSlots._store, MapSlots.ended, MapSlots.begin, MapSlots.put


def _always_ended_well(self: MapSlots, _confirmed: bool) -> None:
    _ended(self, True)


def _puts_without_what_is_long(self: MapSlots, points: Any, limit: int, since: int) -> tuple[Any, Any]:
    points = [each._replace(metadata="") if len(each.metadata) > limit else each for each in points]
    return _put(self, points, limit, since)


def _names_the_first_record_only(self: MapSlots, point: CommitPoint, since: int) -> tuple[Any, Any]:
    reference, records = _store(self, point, since)
    return replace(reference, digests=reference.digests[:1]), records


def _names_what_is_to_come(self: MapSlots, point: CommitPoint, since: int) -> tuple[Any, Any]:
    reference, records = _store(self, point, since)
    return replace(reference, since=since + 1), records


def _reads_once(self: MapStore, references: Any) -> dict[tuple[bytes, str], bytes]:
    """The first batch of records, whatever is behind it."""
    reader = self._reader()
    try:
        wanted = {record: each.since for at, each in references.items() for record in each.records(*at)}
        reader.assign([TopicPartition(self._topic, 0, min(wanted.values()))])
        records = [((each.key() or b""), each.value() or b"") for each in reader.consume(1, 1.0) if not each.error()]
        return {(key, digest(value)): value for key, value in records if (key, digest(value)) in wanted}
    finally:
        reader.close()


def _stores_after_the_commit(self: AtLeastOnce, consumer: Consumer, points: list[CommitPoint]) -> float:
    produced: list[tuple[Any, Any]] = []

    def later(*arguments: Any, **named: Any) -> None:
        produced.append((arguments, named))

    with patch.object(self._outbox.producer, "produce", later):
        pause = _commit_at_least_once(self, consumer, points)
    for arguments, named in produced:
        self._outbox.producer.produce(*arguments, **named)
    return pause


def _does_not_wait_for_maps(self: AtLeastOnce, consumer: Consumer, points: list[CommitPoint]) -> Any:
    with patch.object(self._outbox.producer, "flush", lambda _timeout: 0):
        return _stored(self, consumer, points)


_commit_at_least_once, _stored = AtLeastOnce.commit, AtLeastOnce._stored


def _missing_is_empty(self: MapStore, commits: Any) -> dict[tuple[str, int], str]:
    """What cannot be read now is taken as not there."""
    try:
        return _load(self, commits)
    except KafkaException:
        return {}


def _no_map_is_read(self: MapStore, commits: Any) -> dict[tuple[str, int], str]:
    _load(self, commits)
    return {}


_load = MapStore.load


def _whole_error_only(self: AtLeastOnce, error: KafkaError | None, _partitions: list[TopicPartition]) -> None:
    _on_commit(self, error, [])


def _always_confirmed(self: AtLeastOnce, _error: KafkaError | None, _partitions: list[TopicPartition]) -> None:
    _on_commit(self, None, [])


_on_commit = AtLeastOnce.on_commit


def _dirty_only(self: Commits) -> bool:
    return self.has_news and _finish_safe(self)


_finish_safe = Commits.finish_safe


def _only_when_dirty(self: Commits, is_full: Callable[[], bool]) -> None:
    """What is pending does not make a commit due."""
    with patch.object(type(self.delivery), "pending", 0):
        _commit_when_due(self, is_full)


_commit_when_due = Commits.turn

# ---------------------------------------------------------------- joining


def _one_topic_less(self: Aggregator, topics: int) -> None:
    _init_aggregator(self, max(topics - 1, 1))


_init_aggregator = Aggregator.__init__


Added = tuple[list[Group], list[Fragment]]


def _superseded_stays(self: Aggregator, *added: Any) -> Added:
    return _add(self, *added)[0], []


def _newer_goes(self: Aggregator, ids: list[str], fragments: list[Fragment], _size: int) -> Added:
    complete: list[Group] = []
    superseding: list[Fragment] = []
    for id, fragment in zip(ids, fragments, strict=True):
        completed, superseded = _add(self, [id], [fragment], size_of([fragment]))
        complete += completed
        superseding += [fragment] if superseded else []
    return complete, superseding


def _counts_fragments(self: Aggregator, ids: list[str], fragments: list[Fragment], _size: int) -> Added:
    complete: list[Group] = []
    superseded: list[Fragment] = []
    for id, fragment in zip(ids, fragments, strict=True):
        waiting = self.get(id)
        if waiting and len(waiting.fragments) == self._topics - 1:
            self._remove(waiting)
            complete.append(Group(id, (*waiting.fragments, fragment), waiting.bytes))
            continue
        completed, replaced = _add(self, [id], [fragment], size_of([fragment]))
        complete += completed
        superseded += replaced
    return complete, superseded


_add = Aggregator.add


def _typed_ids(values: list[bytes | None], unreadable: Any = None) -> tuple[list[str], Any]:
    """1 is not "1"."""
    ids, invalid = _read_ids(values, unreadable)
    return [
        id if not id or f'"{id}"'.encode() in (value or b"") else f"#{id}"
        for id, value in zip(ids, values, strict=True)
    ], invalid


_read_ids = messages.read_ids


def _as_they_came(id: str, fragments: tuple[Fragment, ...]) -> Group:
    """Fragments merge in the order of arrival."""
    return _group(id, tuple(sorted(fragments, key=attrgetter("arrival"))))


_group = aggregator._group


def _plain_timer(self: Intake, now: float, timeout: float) -> dict[tuple[str, int], Enough]:
    return dict.fromkeys(self.owned, Enough(now - timeout, FOREVER))


def _whatever_was_shed(self: Intake, now: float, timeout: float) -> dict[tuple[str, int], Enough]:
    return {at: each._replace(first_drop=FOREVER) for at, each in _waited_enough(self, now, timeout).items()}


_waited_enough = Intake.waited_enough


def _of_the_first_number(self: Intake, now: float, timeout: float) -> dict[tuple[str, int], Enough]:
    """Where ids have the same number in all topics, for any number what holds for the first."""
    enough = _waited_enough(self, now, timeout)
    if not self.are_siblings_together():
        return enough
    first = min((number for _, number in enough), default=0)
    return {(topic, number): enough[topic, first] for topic, number in enough}


def _all_have_waited(self: Intake, now: float, timeout: float) -> dict[tuple[str, int], Enough]:
    """Where ids have the same number in all topics, no partition is waited for."""
    enough = _waited_enough(self, now, timeout)
    return _plain_timer(self, now, timeout) if self.are_siblings_together() else enough


def _of_the_other_number(waited_for: Mapping[int, Sequence[int]]) -> set[tuple[int, int]]:
    """Of two. Where a mate may be in either, both are ahead or none is."""
    return {(topic, 1 - number) for topic, number in _ahead_of_siblings(waited_for)}


_ahead_of_siblings = aggregator.ahead_of_siblings


def _evicts_in_silence(self: Aggregator, arrived_by: Any) -> list[Group]:
    _evict(self, arrived_by)
    return []


_evict = Aggregator.evict


def _no_lower_clamp(self: PartitionOffsets, offset: int, timestamp: float, epoch: float) -> float:
    return min(timestamp, _first_arrival(self, offset, FOREVER, epoch))


def _no_upper_clamp(self: PartitionOffsets, offset: int, timestamp: float, epoch: float) -> float:
    return max(timestamp, _first_arrival(self, offset, NEVER, epoch))


_first_arrival = PartitionOffsets.first_arrival


def _oldest_read(self: PartitionOffsets, *times: Any) -> CommitPoint:
    """In the middle of a replay too."""
    loaded, self._loaded = self._loaded, None
    try:
        return _commit_point(self, *times)
    finally:
        self._loaded = loaded


def _without_steps(_data: bytes, _base: int, _time_ms: int) -> tuple[Step, ...]:
    return ()


def _forgets_what_the_map_told(self: Arrivals, *arguments: Any) -> list[Step]:
    """In the next map, in the middle of a replay too."""
    steps = _steps(self, *arguments)
    return [(0, steps[0][1]), *steps[len(self._before) :]] if steps else []


def _as_of_the_next_step(self: Arrivals, offset: int, epoch: float) -> tuple[float, float]:
    return _between(self, offset + 1, epoch)


_steps, _between = Arrivals.steps, Arrivals.between


def _wherever_reading_is(self: Intake, now: float) -> dict[tuple[str, int], float]:
    self._note_answers()
    self._ends = {at: (asked, 0) for at, (asked, _) in self._ends.items()}
    return _read_through(self, now)


def _dated_as_they_came(self: Intake) -> None:
    came = self._clock()
    answers = {at: (came, end) for at, (_, end) in self._ask.answers().items()}
    self._ends |= answers
    self.last_ends |= {at: end for at, (_, end) in answers.items()}


_read_through = Intake.read_through


def _arrives_now(self: Worker, batch: Any, _contents: Any, now: float) -> list[float]:
    """Also what is read again."""
    return [now] * len(batch.records)


def _finished_when_dropped(self: PartitionOffsets, offset: int, *_more: object) -> None:
    self.states.set(offset, FINISHED)


def _balance_not_in_between(self: Overflow, now: float) -> None:
    """Between the two bounds nobody looks again at who is paused."""
    if not self.room // 4 <= self.groups.bytes <= self.room // 2:
        _balance(self, now)


_balance = Overflow.balance


def _stays_paused(self: Intake, ahead: Any) -> None:
    ahead = set(ahead) | self.ahead
    if paused := ahead - self.ahead:
        self._consumer.pause([TopicPartition(*at) for at in paused])
    self.ahead = ahead


def _hardly_any_wait(self: Overflow, _current: Pass) -> bool:
    return self.groups.bytes < self.room // 4


def _the_last_stays(self: Aggregator, down_to: int, added: str = "") -> list[Group]:
    dropped = []
    while self.bytes > down_to and len(self._waiting) > 1:
        second = list(self._waiting)[-2 if added else -1]
        dropped.append(aggregator._group(second, self._waiting.pop(second)))
        self.bytes -= dropped[-1].bytes
    return dropped


def _room_for_all(self: Overflow, *arguments: Any) -> None:
    _init_overflow(self, *arguments)
    self.room = 1 << 40


_init_overflow = Overflow.__init__


def _shed_is_not_read(self: Intake) -> bool:
    return any(each.shed.count for each in self.owned.values())


def _set_back_too_far(self: PartitionOffsets) -> int:
    """Goes back beyond what is kept in memory without knowing that it is."""
    position = _set_back(self)
    self.shed.read_end = position
    self.states = States.of(bytes(self.states).replace(bytes((SHED,)), b"\x00"), self.base)
    self.shed.count = 0
    return position


_set_back = PartitionOffsets.set_back

# ---------------------------------------------------------------- process, dead letters and deliver


def _without_filtered(self: Worker, outcomes: list[Outcome]) -> None:
    _deliver(self, [each for each in outcomes if each.error or each.results])


def _failed_is_done(self: Worker, outcomes: list[Outcome]) -> None:
    _deliver(self, [Outcome(each.group, []) if each.error else each for each in outcomes])


_deliver = Worker.deliver


def _first_fragment_only(group: Group, reason: str, **about: Any) -> Letter:
    return _write(msgspec.structs.replace(group, fragments=group.fragments[:1]), reason, **about)


def _of_another_reason(group: Group, reason: str, **about: Any) -> Letter:
    return _write(group, {"invalid_message": "process_failed"}.get(reason, "invalid_message"), **about)


def _with_other_bytes(group: Group, reason: str, **about: Any) -> Letter:
    """The value is no longer the bytes that came."""
    letter = _write(group, reason, **about)
    return letter if letter.value is None else msgspec.structs.replace(letter, value=letter.value + b" ")


def _from_the_first_partition(group: Group, reason: str, **about: Any) -> Letter:
    letter = _write(group, reason, **about)
    headers = [(name, b"a:0:0" if name == "dlq.source" else value) for name, value in letter.headers]
    return msgspec.structs.replace(letter, headers=headers)


def _all_are_missing(self: Overflow, _group: Group) -> list[str]:
    return list(self._topics)


def _without_letter(self: Failures, *arguments: Any, **named: Any) -> Outcome:
    return msgspec.structs.replace(_given_up(self, *arguments, **named), letter=None)


_write, _given_up = dead_letters.write, Failures._given_up


def _letter_twice(self: Outbox, outcome: Outcome, letter: Letter) -> Outcome:
    _put_letter(self, outcome, letter)
    return _put_letter(self, outcome, letter)


_put_letter = Outbox._put_letter


def _first_result_only(returned: object, group_id: str) -> list[Result]:
    return _results(returned, group_id)[:1]


_results = messages.results


def _safe_when_produced(self: AtLeastOnce) -> bool:
    self._settling = False
    self._produce()
    self.backlog = Backlog()
    return True


def _held_is_safe(self: AtLeastOnce) -> bool:
    _mark_sent(self._held)
    return _settle(self)


def _queue_empty_is_enough(self: AtLeastOnce) -> bool:
    self._outbox._failure = None
    try:
        return _settle(self)
    except DeliveryFailed:
        self.backlog, self._settling = Backlog().plus(self._held), False
        return True


_settle = AtLeastOnce.settle


def _offsets_after_the_transaction(self: ExactlyOnce, consumer: Consumer, points: list[CommitPoint]) -> float:
    self._producer.begin_transaction()
    try:
        self._put_settled()
        self._producer.commit_transaction(8.0)
    except KafkaException as error:
        self._abort()
        raise DeliveryFailed("aborted") from error
    self._settled, self.backlog = [], Backlog()
    consumer.commit(offsets=_as_offsets(points), asynchronous=False)
    return 0.0


def _identity_of_the_moment(self: ExactlyOnce, consumer: Consumer, points: list[CommitPoint]) -> float:
    self._group = consumer.consumer_group_metadata()
    return _commit(self, consumer, points)


def _no_identity(self: ExactlyOnce, consumer: Consumer, points: list[CommitPoint]) -> float:
    self._group = b"CGMDv2:\xff\xff\xff\xffgroup\0\0\1"
    return _commit(self, consumer, points)


def _goes_on_after_abort(self: ExactlyOnce, consumer: Consumer, points: list[CommitPoint]) -> float:
    try:
        return _commit(self, consumer, points)
    except DeliveryFailed:
        self._settled, self.backlog = [], Backlog()
        return 0.0


_commit = ExactlyOnce.commit


def _any_member(self: ExactlyOnce, consumer: Consumer) -> None:
    with patch.object(FakeConsumer, "memberid", lambda _self: "not looked at"):
        _assigned(self, consumer)


_assigned = ExactlyOnce.assigned

# ---------------------------------------------------------------- what is counted


def _not_counted(name: str, step: Callable[..., Any]) -> Callable[..., Any]:
    """This step of the worker without one of its counts."""

    def without(self: Worker, *arguments: Any) -> Any:
        before = getattr(self.counters, name)
        try:
            return step(self, *arguments)
        finally:
            setattr(self.counters, name, before)

    return without


# ---------------------------------------------------------------- calls that end the process


def _counts_no_starts(self: PartitionOffsets, *arguments: Any, **named: Any) -> None:
    _init_offsets(self, *arguments, **named)
    self.suspicion.starts = 1


def _names_any_batch(self: PartitionOffsets, *times: Any) -> CommitPoint:
    """The first group of a batch, also where others run beside it."""
    apart, self.suspicion.apart = self.suspicion.apart, min(self.suspicion.apart, 1)
    try:
        return _commit_point(self, *times)
    finally:
        self.suspicion.apart = apart


def _names_none(self: PartitionOffsets, *times: Any) -> CommitPoint:
    apart, self.suspicion.apart = self.suspicion.apart, 0
    try:
        return _commit_point(self, *times)
    finally:
        self.suspicion.apart = apart


def _forgets_the_starts(self: PartitionOffsets, is_idle: bool) -> None:
    """Also where those that were to run apart have not run."""
    self.suspicion.holds_back = False
    _end_in_order(self, is_idle)


_init_offsets, _commit_point = PartitionOffsets.__init__, PartitionOffsets.commit_point
_end_in_order = PartitionOffsets.end_in_order


def _does_not_wait_for_the_commit(self: Suspects) -> None:
    _go_on(self)
    if self._batch and not self._is_running:
        self._is_running = True
        self._executor.submit(self._batch)


def _two_at_a_time(self: Suspects, groups: list[Group]) -> None:
    _submit(self, groups)
    self._size = self._size and max(self._size, 2)


def _runs_again(_self: Suspects, groups: list[Group]) -> list[Group]:
    return groups


def _ends_when_only_what_waits_is_left(self: Suspects) -> None:
    """The running apart, though what ends the process may be read yet."""
    _take_batch(self)
    if not self._batch and self._aside.groups:
        self._end()


def _is_over_in_an_outage(self: Suspects) -> bool:
    """As if it had been tried: it is a probe, sooner or later."""
    return self._executor.circuit_open_for is not None or _is_over(self)


def _never_has_its_turn(self: Suspects) -> None:
    with patch.object(Parking, "rest_some", False):
        _take_batch(self)


def _any_is_progress(self: PartitionOffsets) -> None:
    self.suspicion.first = None
    _finish_sent(self)


_go_on, _submit, _take_batch = Suspects._go_on, Suspects.submit, Suspects._take_batch
_is_over, _finish_sent = Suspects._is_over, PartitionOffsets.finish_sent

# ---------------------------------------------------------------- calls that fail, or hang


def _counts_what_is_parked(self: Worker, backlog: Backlog | None = None) -> float:
    """As taking a place of those that may be in flight."""
    return max(_load_of(self, backlog), self.executor.in_flight / framework.MAX_IN_FLIGHT)


def _collects_always(self: Worker) -> None:
    """A turn of the loop, whatever waits to leave."""
    self.health.turn(self.clock())
    if records := self._read(True):
        self._process(self._receive(records))
    self.deliver(self.executor.collect(framework.BUSY))
    self.commits.turn(self._is_full)
    self._evict()
    self._put_off()
    self._waiting.balance(self.clock(), self.executor.parked.bytes)


def _forgets_the_id(self: Overflow, groups: Sequence[Group]) -> None:
    """So that the next messages of it are taken."""
    _put_off(self, groups)
    self._put_off = {"of none"}


def _sheds_the_oldest(self: Parking, down_to: int) -> list[Group]:
    shed = []
    for behind in self.busy.values():
        while self.bytes > down_to and behind:
            self._remove(behind[0])
            shed.append(behind.popleft())
    return shed


def _calls_beside_who_rests(self: Dispatcher, group: Group) -> bool:
    return group.id in self.parked.busy or _may_start(self, group)


def _gives_up_at_once(self: Dispatcher, group: Group, now: float) -> Outcome | None:
    given_up = _is_late(self, group, now)
    return self._give_up(self._late.pop(group.id)[0]) if group.id in self._late else given_up


_load_of, _put_off, _may_start, _is_late = Worker._load, Overflow.put_off, Dispatcher._may_start, Dispatcher._is_late

# ---------------------------------------------------------------- rebalances and the end


class _Ended(BaseException):
    """With a ConfigError."""


def _config_error_ends(build: Callable[[ExitStack], Worker], *more: Any, **named: Any) -> None:
    """Also one that may heal."""
    ended: list[ConfigError] = []

    def built(clients: ExitStack) -> Any:
        worker = build(clients)

        def run() -> None:
            try:
                worker.run()
            except ConfigError as error:
                ended.append(error)
                raise _Ended from error

        return SimpleNamespace(run=run, intake=worker.intake)

    try:
        _supervise(built, *more, **named)
    except _Ended:
        raise ended[0] from None


_supervise = supervision.supervise


def _commits_after_failure(self: Worker) -> None:
    """In the revoke that close() brings."""
    try:
        self.assignment.subscribe(self.topics_input)
        while not self.stopping.is_set():
            self.step()
        self.assignment.end()
    finally:
        self.consumer.close()


def _without_commit(self: Assignment, _consumer: Consumer, _revoked: list[TopicPartition]) -> None:
    self.forget()


def _forgets_all_but(what: str) -> Callable[[Assignment], None]:
    """`Assignment.forget` with one of its steps left out."""

    def forget(self: Assignment) -> None:
        owner = {
            "executor": Dispatcher,
            "delivery": type(self.delivery),
            "aggregator": Aggregator,
            "intake": Intake,
        }
        name = {"executor": "drop", "delivery": "drop", "aggregator": "clear", "intake": "rebalanced"}
        with patch.object(owner[what], name[what], _nothing):
            _forget(self)

    return forget


_forget = Assignment.forget


def _stale_outcomes(self: Dispatcher) -> None:
    """The outcomes of what has been started are handed back after all."""
    self.cancel()
    self._cancelled = False


def _does_not_notice(self: Intake, load: float, wait: float) -> list[Any]:
    """A rebalance in the middle of a read."""
    if self._holds_back(load):
        return []
    first = self._consumer.poll(wait)
    messages = [first, *self._consumer.consume(4_000, 0)] if first is not None else []
    records = [each for each in messages if not self._is_event(each)]
    return [each for each in records if (each.topic(), each.partition()) in self.owned]


def _stays_paused_when_it_comes_back(self: Assignment, consumer: Consumer, owned: list[TopicPartition]) -> None:
    with patch.object(FakeConsumer, "resume", _nothing):
        _on_assign(self, consumer, owned)


_on_assign = Assignment._on_assign


def _from_the_end(consumer: Consumer, partitions: Any, timestamp: int) -> Any:
    return _offsets_at(consumer, partitions, lookups.LATEST if timestamp == lookups.EARLIEST else timestamp)


_offsets_at = lookups.offsets_at


def _out_of_range(_self: Locator, offsets: PartitionOffsets, _earliest: int, _latest: int) -> PartitionOffsets:
    return offsets


def _new_without_a_commit(self: History, topic: str) -> bool:
    return bool(self._commits) and all(at[0] != topic for at in self._commits)


# ---------------------------------------------------------------- an output that is slower than process()


def _all_at_once(self: Pace) -> None:
    self.size = self._most = 1 << 40
    self.has_failed = False


def _held_is_marked(self: ExactlyOnce, outcomes: list[Outcome]) -> None:
    _send_exactly_once(self, outcomes)
    _mark_sent(self._held)


_send_exactly_once = ExactlyOnce.send


DEADLY = {
    "deadly": True,
    "crashes": False,
    "freezes": False,
    "faults": False,
    "loss": False,
    "destruction": False,
    "tight": False,
}
COUNTED = {"odd": True, "evictions": True} | dict.fromkeys(
    ("crashes", "freezes", "faults", "loss", "destruction", "deadly"), False
)
CALLS = {"calls": True, "topics": 1, "partitions": 1, "workers": 1, "large": False} | dict.fromkeys(
    ("crashes", "freezes", "rebalances", "faults", "loss", "destruction", "deadly", "unequal", "tight"), False
)
MANY = {"odd": True, "tight": True, "large": False, "narrow": False, "topics": 1, "calls": False, "slow": False}
FIXED: dict[str, dict[str, Any]] = {
    "of results their bytes count alone": MANY,
    "calls begin however many results wait": MANY,
    "results are collected without room for them": MANY,
    "what waits for its own id takes the places of others": CALLS | {"small_queue": True},
    "what waits long holds up those that run apart": CALLS | {"deadly": True},
    "the end of the others ends the running apart": CALLS | {"deadly": True, "slow": True},
    "in an outage none is waited for": CALLS | {"deadly": True, "odd": True},
    "what was put aside has its turn never": CALLS | {"deadly": True},
    "what comes later is progress": CALLS | {"deadly": True, "odd": True},
    **dict.fromkeys(
        (
            "what is parked is not bounded",
            "what was put off is not read again",
            "later messages of an id that was put off are taken",
            "of what is parked the oldest leaves memory",
        ),
        CALLS | {"tight": True},
    ),
    "an id is called while another message of it rests": CALLS,
    "what hangs is given up at once": CALLS | {"many_calls": False},
    "the attempts of what hung are forgotten": CALLS | {"many_calls": False},
    "a topic made again is read on": {"destruction": True},
    "a commit refused for its maps is not made again": {"strict": True},
    "groups never run apart": DEADLY,
    "starts are not counted": DEADLY,
    "who was run alone is run again": DEADLY,
    "who runs among others is named": DEADLY,
    "who runs alone is not named": DEADLY,
    "who runs alone does not wait for the commit": DEADLY,
    "none is run alone": DEADLY,
    "an end in order leaves who ran alone named": DEADLY | {"rebalances": True},
    "an end in order forgets the starts of who did not run": DEADLY | {"workers": 3, "partitions": 2},
    "all is sent at once": {"narrow": True, "overflows": False},
    "what waits for a later transaction is finished": {"narrow": True, "exactly_once": True},
    "a map that does not fit is left out": {"overflows": True},
    "one record of a stored map is named": {"overflows": True},
    "a stored map is looked for behind itself": {"overflows": True},
    "a stored map is looked for in the first records only": {"overflows": True},
    "a commit that failed counts for the stored maps": {"overflows": True},
    "who is needed elsewhere is paused": {
        "topics": 2,
        "partitions": 1,
        "workers": 1,
        "tight": True,
        "large": False,
        "unequal": True,
        "deadly": False,
    },
    "who was paused is so after a rebalance": {"tight": True, "rebalances": True},
    "what has no room is read again at once": {"partitions": 1, "workers": 1}
    | dict.fromkeys(("slow", "tight", "large"), True)
    | dict.fromkeys(("crashes", "freezes", "rebalances", "faults", "loss", "destruction", "unequal", "deadly"), False),
    "what came last drops what waits": {"partitions": 1, "workers": 1, "tight": True, "large": True}
    | dict.fromkeys(("crashes", "freezes", "rebalances", "faults", "loss", "destruction", "unequal", "deadly"), False),
    "a share of unequal partition counts is taken": {"unequal": True, "workers": 2, "evictions": True},
    "in a replay the oldest is of what was read": {"evictions": True, "tight": False, "overflows": True},
    "an arrival may be after the last commit": {"evictions": True, "tight": False},
    "an end counts wherever reading is": {"evictions": True},
    "an end is of when the answer came": {"evictions": True, "quirks": True},
    "a mate is awaited in the first partition only": {"evictions": True, "unequal": False, "alike": True},
    "a mate is not awaited where it can only be": {"evictions": True, "unequal": False, "alike": True},
    "a partition of another number is paused": {
        "topics": 2,
        "partitions": 2,
        "workers": 1,
        "tight": True,
        "unequal": False,
        "alike": True,
    },
    **dict.fromkeys(
        (
            "what is superseded is not counted",
            "what is filtered is not counted",
            "what has failed is not counted",
            "what is given up is not counted",
        ),
        COUNTED,
    ),
    "an assignment without a generation is taken": {
        "topics": 1,
        "partitions": 1,
        "workers": 2,
        "exactly_once": True,
        "static": False,
        "quirks": True,
        "rebalances": True,
        **dict.fromkeys(("crashes", "freezes", "faults", "odd", "evictions", "tight", "loss", "destruction"), False),
        **dict.fromkeys(("transactions", "small_queue", "unequal", "overflows", "deadly"), False),
    },
    "the key in use is written over": {"overflows": True},
    "the key of a commit that failed is written over": {"overflows": True},
    "all workers write under the same keys": {"overflows": True},
    "a predecessor's maps are deleted too early": {"overflows": True},
    "the maps in use are deleted": {"overflows": True},
    "the map is stored after the commit": {"overflows": True},
    "a map counts as stored when it is produced": {"overflows": True},
    "a stored map that cannot be read is none": {"overflows": True},
    "stored maps are not read": {"overflows": True},
}
MUTANTS = tuple(
    Mutant(rule, what, tuple(replacements), FIXED.get(what, {}))
    for rule, what, *replacements in (
        ("1", "the position is committed", (PartitionOffsets, "lowest_unfinished", _commit_the_position)),
        ("1", "what is not re-read yet is left out of the map", (PartitionOffsets, "commit_point", _up_to_position)),
        ("1", "finished offsets are handled again", (PartitionOffsets, "_read_known", _reads_all_again)),
        ("1", "unfinished offsets of the map are skipped", (PartitionOffsets, "_read_known", _skips_all_known)),
        ("1", "gaps stay unfinished", (PartitionOffsets, "skip_to", _gap_unfinished)),
        ("1", "markers at the end are not noticed", (Intake, "note_positions", lambda _self: 0)),
        ("1", "the map is not loaded", (History, "committed", _no_map)),
        ("2", "a map of another base is taken", (History, "committed", _any_base)),
        ("2", "a map of another topic is taken", (History, "committed", _any_topic)),
        ("2", "the checksum is not looked at", (OffsetMap, "parse", staticmethod(_unchecked))),
        ("2", "damage raises", (OffsetMap, "parse", staticmethod(_raises_when_damaged))),
        ("2", "runs of what waits are joined", (States, "runs", _joins_runs)),
        ("1", "what waits far behind is forgotten", (States, "_put", _forgets_what_is_behind)),
        ("3", "the map is left out", (OffsetMap, "encode", lambda _self: "")),
        ("3", "one partition is committed", (Worker, "commit_points", _first_partition_only)),
        ("3", "a commit refused for its maps is not made again", (MapStore, "makes_fit", lambda *_: False)),
        ("3", "the key in use is written over", (MapSlots, "_store", _one_key)),
        ("3", "the key of a commit that failed is written over", (MapSlots, "ended", _frees_what_failed)),
        ("3", "all workers write under the same keys", (MapSlots, "begin", _one_writer)),
        ("3", "a predecessor's maps are deleted too early", (MapSlots, "put", _deletes_at_once)),
        ("3", "the maps in use are deleted", (MapSlots, "ended", _deletes_its_own)),
        ("3", "the map is stored after the commit", (AtLeastOnce, "commit", _stores_after_the_commit)),
        ("3", "a map counts as stored when it is produced", (AtLeastOnce, "_stored", _does_not_wait_for_maps)),
        ("3", "a stored map that cannot be read is none", (MapStore, "load", _missing_is_empty)),
        ("3", "stored maps are not read", (MapStore, "load", _no_map_is_read)),
        ("3", "a map that does not fit is left out", (MapSlots, "put", _puts_without_what_is_long)),
        ("3", "one record of a stored map is named", (MapSlots, "_store", _names_the_first_record_only)),
        ("3", "a stored map is looked for behind itself", (MapSlots, "_store", _names_what_is_to_come)),
        ("3", "a stored map is looked for in the first records only", (MapStore, "_read", _reads_once)),
        ("3", "a commit that failed counts for the stored maps", (MapSlots, "ended", _always_ended_well)),
        ("4", "the map is of a moment before the offset", (Worker, "commit_points", _map_of_before)),
        ("4", "what is pending does not make a commit due", (Commits, "turn", _only_when_dirty)),
        ("4", "errors of single partitions pass", (AtLeastOnce, "on_commit", _whole_error_only)),
        ("4", "a failed commit is not repeated", (AtLeastOnce, "on_commit", _always_confirmed)),
        ("5", "a group is complete without its last topic", (Aggregator, "__init__", _one_topic_less)),
        ("5", "a superseded fragment stays unfinished", (Aggregator, "add", _superseded_stays)),
        ("5", "the superseding fragment is finished instead", (Aggregator, "add", _newer_goes)),
        ("5", "two fragments of one topic make a group", (Aggregator, "add", _counts_fragments)),
        ("5", "1 is not '1'", (framework, "read_ids", _typed_ids)),
        ("5", "fragments merge in the order of arrival", (aggregator, "_group", _as_they_came)),
        ("6", "a plain timer evicts", (Intake, "waited_enough", _plain_timer)),
        ("6", "a mate is awaited in one partition only", (intake, "_of_all_partitions", lambda enough: enough)),
        ("6", "a mate is awaited in the first partition only", (Intake, "waited_enough", _of_the_first_number)),
        ("6", "a mate is not awaited where it can only be", (Intake, "waited_enough", _all_have_waited)),
        ("6", "what is evicted stays unfinished", (Aggregator, "evict", _evicts_in_silence)),
        ("6", "the timer begins anew at a restart", (Worker, "_arrivals", _arrives_now)),
        ("6", "an arrival may be before what any can be", (PartitionOffsets, "first_arrival", _no_lower_clamp)),
        ("6", "an arrival may be after the last commit", (PartitionOffsets, "first_arrival", _no_upper_clamp)),
        (
            "6",
            "in a replay the oldest is of what was read",
            (PartitionOffsets, "commit_point", _oldest_read),
        ),
        ("6", "the steps of a map are not read", (offsets, "unpack_steps", _without_steps)),
        ("6", "the steps of a map are not carried on", (Arrivals, "steps", _forgets_what_the_map_told)),
        ("6", "an arrival is that of the next step", (Arrivals, "between", _as_of_the_next_step)),
        ("6", "an end counts wherever reading is", (Intake, "read_through", _wherever_reading_is)),
        ("6", "an end is of when the answer came", (Intake, "_note_answers", _dated_as_they_came)),
        ("7", "memory is not bounded", (Overflow, "__init__", _room_for_all)),
        ("7", "what was shed does not delay an eviction", (Intake, "waited_enough", _whatever_was_shed)),
        ("7", "what was shed is finished", (PartitionOffsets, "drop", _finished_when_dropped)),
        ("7", "what was shed is not read again", (Intake, "read_shed_again", _shed_is_not_read)),
        ("7", "what came last drops what waits", (Aggregator, "shed", _the_last_stays)),
        ("7", "what has no room is read again at once", (Overflow, "_has_room_again", _hardly_any_wait)),
        ("7", "what was kept is read again too", (PartitionOffsets, "set_back", _set_back_too_far)),
        ("7", "who was paused stays paused", (Intake, "pause_only", _stays_paused)),
        ("7", "who was paused near the bound stays so below it", (Overflow, "balance", _balance_not_in_between)),
        ("7", "who is needed elsewhere is paused", (overflow, "over_all_partitions", lambda counts, _numbers: counts)),
        ("7", "a partition of another number is paused", (overflow, "ahead_of_siblings", _of_the_other_number)),
        ("7", "who was paused is so after a rebalance", (Assignment, "_on_assign", _stays_paused_when_it_comes_back)),
        ("7", "what is parked is not bounded", (Worker, "_put_off", _nothing)),
        ("7", "what was put off is not read again", (Overflow, "_has_room_to_park", lambda _self, _parked: False)),
        ("7", "later messages of an id that was put off are taken", (Overflow, "put_off", _forgets_the_id)),
        ("7", "of what is parked the oldest leaves memory", (Parking, "shed", _sheds_the_oldest)),
        ("7", "of results their bytes count alone", (delivery, "RESULT_OVERHEAD", 0), (executor, "RESULT_OVERHEAD", 0)),
        ("7", "calls begin however many results wait", (executor._Uncollected, "is_full", False)),
        ("7", "results are collected without room for them", (Worker, "step", _collects_always)),
        ("8", "a share of the partitions ends the process", (supervision, "supervise", _config_error_ends)),
        ("8", "a share of unequal partition counts is taken", (locator, "check_counts", _nothing)),
        ("9", "what waits for its own id takes the places of others", (Worker, "_load", _counts_what_is_parked)),
        ("9", "an id is called while another message of it rests", (Dispatcher, "_may_start", _calls_beside_who_rests)),
        ("9", "filtered groups stay unfinished", (Worker, "deliver", _without_filtered)),
        ("9", "failed groups are finished", (Worker, "deliver", _failed_is_done)),
        ("9", "one result of a list is sent", (executor, "results", _first_result_only)),
        ("9", "what is given up leaves no dead letter", (Failures, "_given_up", _without_letter)),
        ("9", "a dead letter holds one fragment of several", (dead_letters, "write", _first_fragment_only)),
        ("9", "a dead letter names another reason", (dead_letters, "write", _of_another_reason)),
        ("9", "a dead letter names another source", (dead_letters, "write", _from_the_first_partition)),
        ("9", "a dead letter does not hold the bytes that came", (dead_letters, "write", _with_other_bytes)),
        ("9", "a dead letter names topics that were there", (Overflow, "missing", _all_are_missing)),
        ("9", "a dead letter is sent twice", (Outbox, "_put_letter", _letter_twice)),
        ("I7", "what is superseded is not counted", (Worker, "_receive", _not_counted("superseded", Worker._receive))),
        ("I7", "what is given up is not counted", (Counters, "count_evicted", _nothing)),
        ("I7", "what is filtered is not counted", (Worker, "deliver", _not_counted("filtered", _deliver))),
        ("I7", "what has failed is not counted", (Worker, "deliver", _not_counted("failed", _deliver))),
        ("10", "finished when produced, not when acknowledged", (AtLeastOnce, "settle", _safe_when_produced)),
        ("10", "what is held counts as safe", (AtLeastOnce, "settle", _held_is_safe)),
        ("10", "an empty queue proves delivery", (AtLeastOnce, "settle", _queue_empty_is_enough)),
        ("10", "what waits for a later transaction is finished", (ExactlyOnce, "send", _held_is_marked)),
        ("10", "offsets outside the transaction", (ExactlyOnce, "commit", _offsets_after_the_transaction)),
        ("10", "the member of the moment in the transaction", (ExactlyOnce, "commit", _identity_of_the_moment)),
        ("10", "no member in the transaction", (ExactlyOnce, "commit", _no_identity)),
        ("10", "an assignment without a generation is taken", (ExactlyOnce, "assigned", _any_member)),
        ("10", "goes on after an aborted transaction", (ExactlyOnce, "commit", _goes_on_after_abort)),
        ("11", "a revoke commits after a failure", (Worker, "run", _commits_after_failure)),
        ("11", "a revoke does not commit", (Assignment, "_on_revoke", _without_commit)),
        ("11", "a stop does not commit", (Assignment, "end", _nothing)),
        ("11", "outcomes of old assignments are taken", (Dispatcher, "drop", _stale_outcomes)),
        ("11", "results of old assignments are sent", (Assignment, "forget", _forgets_all_but("delivery"))),
        ("11", "fragments of old assignments wait on", (Assignment, "forget", _forgets_all_but("aggregator"))),
        ("11", "lost partitions are not forgotten", (Assignment, "_on_lost", _nothing)),
        ("11", "no rewind after a rebalance within a read", (Intake, "_rewind", _nothing)),
        ("11", "a rebalance within a read is not noticed", (Intake, "read", _does_not_notice)),
        ("12", "an exception leaves a callback", (assignment, "guarded", lambda callback, _failed: callback)),
        ("13", "groups never run apart", (suspects, "STARTS", 1 << 30)),
        ("13", "starts are not counted", (PartitionOffsets, "__init__", _counts_no_starts)),
        ("13", "who was run alone is run again", (Suspects, "_without_tried", _runs_again)),
        ("13", "who runs among others is named", (PartitionOffsets, "commit_point", _names_any_batch)),
        ("13", "who runs alone is not named", (PartitionOffsets, "commit_point", _names_none)),
        ("13", "who runs alone does not wait for the commit", (Suspects, "_go_on", _does_not_wait_for_the_commit)),
        ("13", "what waits long holds up those that run apart", (suspects, "LONG", 1e18)),
        (
            "13",
            "the end of the others ends the running apart",
            (Suspects, "_take_batch", _ends_when_only_what_waits_is_left),
        ),
        ("13", "in an outage none is waited for", (Suspects, "_is_over", _is_over_in_an_outage)),
        ("13", "what was put aside has its turn never", (Suspects, "_take_batch", _never_has_its_turn)),
        ("13", "what comes later is progress", (PartitionOffsets, "finish_sent", _any_is_progress)),
        ("13", "what hangs is given up at once", (Dispatcher, "_is_late", _gives_up_at_once)),
        ("13", "the attempts of what hung are forgotten", (Suspects, "_recall", _nothing)),
        ("13", "none is run alone", (Suspects, "submit", _two_at_a_time)),
        ("13", "an end in order leaves who ran alone named", (PartitionOffsets, "end_in_order", _nothing)),
        (
            "13",
            "an end in order forgets the starts of who did not run",
            (PartitionOffsets, "end_in_order", _forgets_the_starts),
        ),
        ("13", "all is sent at once", (Pace, "__init__", _all_at_once)),
        ("14", "a new group reads from the end", (locator, "offsets_at", _from_the_end)),
        ("14", "a topic made again is read on", (Intake, "reads_former_topic", lambda *_: False)),
        ("14", "out of range is not mended", (Locator, "_within", _out_of_range)),
        ("14", "a topic without a commit counts as new", (History, "is_new", _new_without_a_commit)),
    )
)


def look_for(mutant: Mutant, schedules: int, seed: int) -> tuple[int | None, str]:
    """After how many schedules a promise was broken that is kept without the mutant, and which; None: it was not."""

    def run(schedule: Schedule) -> Counter[str]:
        try:
            with mutant.planted():
                return notes_of(schedule)
        except Violation as violation:
            if breaks_anyway(schedule):
                return Counter()
            if isinstance(violation.__cause__, TypeError):
                raise ValueError(f"the mutant no longer fits the code: {violation}") from violation
            raise

    found = explore(schedules, seed, run, fixed=mutant.fixed)
    return (found.runs, str(found.violation)) if found.violation else (None, "")


def breaks_anyway(schedule: Schedule) -> bool:
    try:
        notes_of(schedule)
    except Violation:
        return True
    return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pattern", nargs="?", default="", help="only those whose rule or name contains it")
    parser.add_argument("--schedules", type=int, default=SCHEDULES)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    settle_down()
    missed = 0
    for mutant in MUTANTS:
        name = f"rule {mutant.rule:2}  {mutant.what}"
        if arguments.pattern not in name:
            continue
        began = time.monotonic()
        runs, broken = look_for(mutant, arguments.schedules, arguments.seed)
        missed += runs is None
        result = "NOT FOUND" if runs is None else f"found after {runs}"
        print(f"{name:64} {result:18} {time.monotonic() - began:5.1f} s  {broken[:70]}", flush=True)
    print(f"{missed} of {len(MUTANTS)} not found" if missed else "all found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
