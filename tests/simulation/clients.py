"""Stand-ins for confluent_kafka's Consumer, Producer and AdminClient over the model broker.

What the client library adds to the broker: positions, callbacks inside poll() and consume(), queues, answers that come
later. A `Host` decides what is left open (how much comes at once, what fails), and may end the process at any call.
"""

import struct
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any, NoReturn, Protocol, cast

from confluent_kafka import (
    OFFSET_INVALID,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)

from tests.simulation.broker import MAPS, MAX_POLL, Broker, Committed, Entry, Member, Partition, Transaction
from utils.joining.messages import Headers

ANSWER_LATER = 3  # polls that the answer to a commit takes at most
ACKNOWLEDGED = 1.0  # seconds until a record is acknowledged, unless a fault is planted
BACKGROUND = 0.5  # seconds between two tries of what a client repeats by itself

_METADATA = b"CGMDv2:"

Offsets = dict[Partition, Committed]
Identity = tuple[str, str, int]


class Host(Protocol):
    """The process that the clients live in, as they see it."""

    broker: Broker
    dead: bool
    """The process was killed: nothing it still does has any effect."""

    def here(self, call: str) -> None:
        """A call begins: the schedule may let others go first, or end the process here."""

    def choose(self, options: int) -> int:
        """One of so many courses of events; 0 is the one without complications."""

    def wait(self, seconds: float) -> None:
        """Time passes in this call."""

    def fault(self, kind: str) -> bool:
        """Whether this call is to fail so. Each fault that was planted happens once."""

    def monotonic(self) -> float: ...

    def broken(self, rule: str, what: str, cause: Exception | None = None) -> None:
        """The worker has done what it must never do."""

    def commit_refused(self, partitions: Iterable[Partition]) -> None:
        """A commit is about to be carried out for some of these, and not for others."""

    def check_commit(self, wanted: Mapping[Partition, Committed]) -> None:
        """Offsets are about to be committed: complains where this worker must not do it any more."""

    def check_resume(self) -> None:
        """Of partitions that were all paused some go on."""

    def is_late(self) -> None:
        """A record was not taken in time."""

    def note(self, what: str) -> None:
        """For the table of what was exercised."""

    def trace(self, what: object) -> None:
        """For the story of a schedule that failed."""


@dataclass(slots=True)
class Part:
    """A TopicPartition of an answer: only the client itself can set `error` of the real one."""

    topic: str
    partition: int
    offset: int = OFFSET_INVALID
    metadata: str | None = None
    error: KafkaError | None = None
    leader_epoch: int | None = None


class FakeConsumer:
    """Classic protocol, eager; no auto commit.

    It reads committed records only, and an offset out of range is an error; or, without a group, all from the earliest.
    """

    def __init__(
        self,
        host: Host,
        on_commit: Callable[[KafkaError | None, list[Part]], None],
        instance: str = "",
        *,
        client: str = "client",
        committed_only: bool = True,
        tells_ends: bool = False,
        most: int = 1_000_000,
    ) -> None:
        """`tells_ends`: that it has come to one, each time. `most`: records that one read brings."""
        self._tells_ends = tells_ends
        self._committed_only = committed_only
        self._most = most
        self._host = host
        self._broker = host.broker
        self._on_commit = on_commit
        self._client = client
        self._instance = instance
        self._subscription: list[str] = []
        self._callbacks: dict[str, Callable[[Any, list[TopicPartition]], None]] = {}
        self._member: Member | None = None
        self._knows = False  # that the group has expelled us
        self._generation = -1  # of the assignment that the callback was told of
        self._assigned: dict[Partition, int] = {}
        self._topic_ids: dict[str, str] = {}
        self._positions: dict[Partition, int] = {}
        self._paused: set[Partition] = set()
        self._off: set[Partition] = set()  # fetching has ended with an error, until the next assign() (measured)
        self._fetched_at: dict[Partition, float] = {}  # when a fetch that a seek has begun will have brought something
        self._events: list[Message] = []
        self._answers: list[tuple[int, KafkaError | None, list[Part]]] = []
        self._polled = host.monotonic()
        self.fetched = 0  # records
        self.closing = self._closed = False
        self._assign_called = self._in_callback = False

    # ------------------------------------------------------------------ records

    def subscribe(self, topics: list[str], *, on_assign: Any, on_revoke: Any, on_lost: Any) -> None:
        self._host.here("subscribe")
        self._subscription = topics
        self._callbacks = {"assign": on_assign, "revoke": on_revoke, "lost": on_lost}

    def poll(self, timeout: float = -1) -> Message | None:
        self._begin("poll")
        before = self._assigned
        self._serve(self._host.choose(4) != 3)
        if self._assigned is not before and self._host.choose(2):
            return None  # the first fetch takes its time
        messages = self._fetch(1)
        if not messages:
            self._host.wait(max(timeout, 0))
            self._serve(self._host.choose(2) == 0)
            messages = self._fetch(1)
        return messages[0] if messages else None

    def consume(self, num_messages: int = 1, timeout: float = -1) -> list[Message]:
        self._begin("consume")
        limit = min((num_messages, 1, 2, 3)[self._host.choose(4)], self._most)
        before = self._fetch(min(limit, self._host.choose(4) or num_messages))
        if self._host.choose(2):
            assignment = self._assigned
            self._serve(True)
            if assignment is not self._assigned:
                self._host.note("rebalance within a read")
                if self._host.choose(2):
                    before = []  # the client has noticed in time that they are stale
                elif before:
                    self._host.note("stale records handed out")
        messages = before + self._fetch(limit - len(before))
        if not messages:
            self._host.wait(max(timeout, 0))
        return messages

    def _begin(self, call: str) -> None:
        self._host.here(call)
        if self._closed:
            raise RuntimeError("Consumer closed")
        now = self._host.monotonic()
        if now - self._polled > MAX_POLL:
            self._events.append(Message(error=KafkaError(KafkaError._MAX_POLL_EXCEEDED), value=self._reason()))
        for kind, code in _EVENTS.items():
            if self._host.fault(kind):
                self._events.append(Message(error=KafkaError(code), value=self._reason()))
        self._polled = now
        if self._member:
            self._member.polled = self._broker.now

    def _fetch(self, limit: int) -> list[Message]:
        messages, self._events = self._events[:limit], self._events[limit:]
        turn = self._host.choose(len(self._assigned) or 1)
        order = list(self._assigned)
        for at in order[turn:] + order[:turn]:
            is_fetched = self._fetched_at.get(at, 0.0) <= self._broker.now
            if is_fetched and len(messages) < limit and at not in self._paused and at not in self._off:
                messages += self._fetch_from(at, limit - len(messages))
        return messages

    def _fetch_from(self, at: Partition, limit: int) -> list[Message]:
        if self._broker.topics[at[0]].id != self._topic_ids[at[0]]:
            self._host.note("read on in a topic made again")  # nothing tells (measured)
        log, position = self._broker.log(at), self._assigned[at]
        if not log.start <= position <= log.end:
            if self._committed_only:
                return self._stop(at, KafkaError._AUTO_OFFSET_RESET)
            position = self._assigned[at] = log.start
        entries, passed = log.read(position, limit, committed_only=self._committed_only)
        self.fetched += len(entries)
        if entries and at[0] == MAPS:
            self._host.note("stored map read")
        if passed > position:
            self._assigned[at] = self._positions[at] = passed
            self._host.trace((at, "read", [entry.offset for entry in entries], "position", passed))
        if self._tells_ends and not entries:
            return [Message(topic=at[0], partition=at[1], offset=passed, error=KafkaError(KafkaError._PARTITION_EOF))]
        return [_message(at, entry) for entry in entries]

    def _stop(self, at: Partition, code: int) -> list[Message]:
        self._off.add(at)
        return [Message(topic=at[0], partition=at[1], error=KafkaError(code), value=self._reason())]

    def _reason(self) -> bytes:
        """The client's words, where it has any."""
        return (b"reason", b"")[self._host.choose(2)]

    # ------------------------------------------------------------------ the group

    def _serve(self, group_too: bool) -> None:
        """What happens inside poll(): answers to commits, then what the group wants."""
        while self._answers and self._answers[0][0] <= 0:
            _, error, parts = self._answers.pop(0)
            self._call("on_commit", partial(self._on_commit, error, parts))
        self._answers = [(polls - 1, error, parts) for polls, error, parts in self._answers]
        if group_too and self._callbacks:
            self._serve_group()

    def _serve_group(self) -> None:
        group, now, member = self._broker.group, self._broker.now, self._member
        if member is None:
            self._member = group.join(self._subscription, self._client, self._instance, now)
        elif member.id not in group.members and member.generation > self._generation and self._host.choose(2):
            self._host.note("assignment that is lost already")  # it was on its way to the callback for too long
            self._knows = True
            self._give(member)
        elif member.id not in group.members:
            self._host.note("assignment lost")
            self._take_away("lost")
            self._member, self._knows = group.join(self._subscription, self._client, self._instance, now), False
        elif group.rebalancing_since is not None and not member.joined:
            if self._assigned:
                self._host.note("revoke")
                self._take_away("revoke")
            if member.id in group.members:
                group.rejoin(member, now)
        if group.rebalancing_since is None and self._member and self._member.generation != self._generation:
            self._give(self._member)

    def _give(self, member: Member) -> None:
        self._generation = member.generation
        self._assign_called = False
        given = [TopicPartition(*at) for at in member.assignment]
        self._host.trace(("assigned", member.assignment, "generation", member.generation))
        self._host.note("assignment")
        self._call("on_assign", lambda: self._callbacks["assign"](self, given))
        if not self._assign_called:  # as the client: from the committed offsets
            committed = self._broker.group.offsets
            self._host.note("client assigned by itself")
            self._begin_with(
                [TopicPartition(*at, committed[at].offset if at in committed else 0) for at in member.assignment]
            )

    def _take_away(self, how: str) -> None:
        if self._assigned or how == "lost":
            taken = [TopicPartition(*at) for at in self._assigned]
            self._host.trace((how, self._assigned))
            self._call(f"on_{how}", lambda: self._callbacks[how](self, taken))
        self._drop_assignment()

    def _drop_assignment(self) -> None:
        """What is paused stays so, should it come back (measured)."""
        self._assigned, self._positions, self._off, self._fetched_at = {}, {}, set(), {}

    def _call(self, name: str, callback: Callable[[], None]) -> None:
        self._in_callback = True
        try:
            callback()
        except Exception as error:
            self._host.broken("rule 12", f"{error!r} left {name}", error)
        self._in_callback = False

    def assign(self, partitions: list[TopicPartition]) -> None:
        if self._host.fault("assign fails"):
            raise KafkaException(KafkaError(KafkaError._STATE))
        self._assign_called = True
        self._begin_with(partitions)

    def _begin_with(self, partitions: list[TopicPartition]) -> None:
        self._drop_assignment()
        self._assigned = {(each.topic, each.partition): each.offset for each in partitions}
        self._topic_ids = {each.topic: self._broker.topics[each.topic].id for each in partitions}

    def unassign(self) -> None:
        self._drop_assignment()

    def unsubscribe(self) -> None:
        """Leaves the group, also as a static member."""
        self._host.here("unsubscribe")
        self._host.note("left the group for good")
        self._callbacks = {}
        self._drop_assignment()
        if self._member:
            self._broker.group.leave(self._member, self._broker.now)
            self._member = None

    def assignment(self) -> list[TopicPartition]:
        return [TopicPartition(*at) for at in self._assigned]

    def consumer_group_metadata(self) -> bytes:
        """In the client's own form (measured). Without a member and a generation before the group has given one."""
        member_id, instance, generation = self._identity()
        of_instance = b"\0" + instance.encode() + b"\0" if instance else b"\1"
        return _METADATA + struct.pack("=i", generation) + b"group\0" + member_id.encode() + b"\0" + of_instance

    def memberid(self) -> str:
        return self._identity()[0]

    @property
    def is_expelled(self) -> bool:
        """Whether the group goes on without this member: the client may not know it yet."""
        return self._member is None or self._member.id not in self._broker.group.members

    @property
    def _is_current(self) -> bool:
        if self._member is None:
            return True
        return not self.is_expelled and self._member.generation == self._broker.group.generation

    def _identity(self) -> Identity:
        """Member, instance and generation: none once a heartbeat has told the client that it was expelled."""
        member = self._member
        if member and member.id not in self._broker.group.members:
            self._knows = self._knows or self._host.choose(2) == 1
        if member is None or self._knows:
            return "", self._instance, -1
        return member.id, self._instance, member.generation

    def close(self) -> None:
        if self._closed:
            return
        self._host.here("close")
        self.closing = True
        member, group = self._member, self._broker.group
        self._serve(group_too=False)
        if member and member.id in group.members:
            if self._assigned:
                self._take_away("revoke")
            if not self._instance:
                group.leave(member, self._broker.now)
            member.silent_since = self._broker.now
        elif self._assigned and self._callbacks:
            self._take_away("lost")
        self._closed = True
        self._host.here("closed")

    def silence(self, since: float | None) -> None:
        """The process is frozen or dead since then; None: it lives. Closed, the client is silent in any case."""
        if self._member and not self._closed:
            self._member.silent_since = since

    # ------------------------------------------------------------------ positions

    def position(self, partitions: Iterable[TopicPartition]) -> list[Part]:
        self._host.here("position")
        at = [(each.topic, each.partition) for each in partitions]
        return [Part(*each, self._positions.get(each, OFFSET_INVALID)) for each in at]

    def seek(self, to: TopicPartition) -> None:
        self._host.here("seek")
        at = to.topic, to.partition
        if at not in self._assigned or at in self._off:
            raise KafkaException(KafkaError(KafkaError._STATE))
        if to.offset > self._assigned[at]:
            self._host.note("read on behind what is done")
        self._assigned[at] = to.offset
        self._positions.pop(at, None)  # unknown until the next record (measured)
        self._fetched_at[at] = self._broker.now + (0.0, 0.0, 0.5, 2.0)[self._host.choose(4)]

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        self._host.note("pause")
        self._paused |= {(each.topic, each.partition) for each in partitions} & self._assigned.keys()

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        if self._paused.issuperset(self._assigned) and not self._in_callback:
            self._host.check_resume()
        self._paused -= {(each.topic, each.partition) for each in partitions}

    def offsets_for_times(self, partitions: Iterable[TopicPartition], timeout: float = -1) -> list[Part]:
        self._begin_request("offsets_for_times", timeout)
        return [Part(each.topic, each.partition, self._offset_for_time(each)) for each in partitions]

    def _offset_for_time(self, each: TopicPartition) -> int:
        log = self._broker.log((each.topic, each.partition))
        if each.offset == -2:
            return log.start
        if each.offset == -1:
            return log.stable_end if self._committed_only else log.end
        later = (entry.offset for entry in log.waiting() if entry.timestamp_ms >= each.offset)
        return next(later, -1)

    def get_watermark_offsets(self, at: TopicPartition, timeout: float = -1, cached: bool = False) -> tuple[int, int]:
        """`cached`: as the last fetch told, if one has."""
        log = self._broker.log((at.topic, at.partition))
        if cached:
            return OFFSET_INVALID, OFFSET_INVALID if self._host.choose(4) == 3 else log.stable_end
        self._begin_request("get_watermark_offsets", timeout)
        return log.start, log.stable_end

    def list_topics(self, topic: str | None = None, timeout: float = -1) -> "Metadata":
        self._begin_request("list_topics", timeout)
        return Metadata.of(self._broker)

    def _begin_request(self, call: str, timeout: float) -> None:
        self._host.here(call)
        if self._member and self._host.fault("expelled in a request"):
            self._broker.group.leave(self._member, self._broker.now)
        if self._host.fault("request"):
            self._host.wait(max(timeout, 0))
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    # ------------------------------------------------------------------ commits

    def committed(self, partitions: Iterable[TopicPartition], timeout: float = -1) -> list[Part]:
        """A consumer that is read_committed waits for transactions that are about to change the answer (KIP-447)."""
        self._begin_request("committed", timeout)
        at, group, waited = [(each.topic, each.partition) for each in partitions], self._broker.group, 0.0
        while self._committed_only and any(group.pending.get(each) for each in at):
            self._host.note("waited for a transaction with offsets")
            if waited >= timeout:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
            self._host.wait(BACKGROUND)
            self._host.here("committed")
            waited += BACKGROUND
        return _committed(group.offsets, at, nul="\0" * self._host.choose(2))

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool = True) -> list[Part] | None:
        self._host.here("commit")
        wanted = _offsets(offsets)
        if self._is_current or not self._broker.group.members:  # else it is refused, and does no harm
            self._host.check_commit(wanted)
        error, errors = self._request_commit(wanted)
        parts = [Part(*at, each.offset, each.metadata, _error(errors.get(at))) for at, each in wanted.items()]
        if KafkaError.OFFSET_METADATA_TOO_LARGE in errors.values():
            self._host.note("map refused as too long")
        in_part = error is None and 0 < len(errors) < len(wanted)
        if error is None and errors:  # as the client: of all, though the others were carried out (measured)
            error = next(iter(errors.values()))
            parts = [Part(*at, each.offset, each.metadata, _error(error)) for at, each in wanted.items()]
        self._host.note("commit failed in part" if in_part else "commit failed" if error is not None else "commit")
        if asynchronous:
            if self._answers:
                self._host.note("commit while another is on its way")
            self._answers.append((self._host.choose(ANSWER_LATER + 1), _error(error), parts))
            return None
        self._host.here("commit answered")
        if error is not None:
            raise KafkaException(_error(error))
        return parts

    def _request_commit(self, wanted: Offsets) -> tuple[int | None, dict[Partition, int]]:
        if self._host.fault("commit lost"):
            return KafkaError._TRANSPORT, {}
        failing = next((kind for kind in _PARTIAL if self._host.fault(kind)), None)
        failed = {list(wanted)[-1 - self._host.choose(len(wanted))]} if failing and wanted else set()
        accepted = {at: each for at, each in wanted.items() if at not in failed}
        if failed:
            self._host.commit_refused(wanted)
        error, errors = self._broker.commit(self._identity(), accepted)
        if self._host.fault("commit answer lost"):
            return KafkaError._TIMED_OUT, {}
        return error, errors if error is not None else errors | dict.fromkeys(failed, _PARTIAL.get(failing or "", 0))


def _committed(known: Mapping[Partition, Committed], asked: Iterable[Partition], nul: str) -> list[Part]:
    return [Part(*at, known[at].offset, known[at].metadata + nul) if at in known else Part(*at) for at in asked]


_EVENTS = {"event": KafkaError._ALL_BROKERS_DOWN, "fatal event": KafkaError._FATAL}
_PARTIAL = {
    "commit fails for one partition": KafkaError.UNKNOWN_TOPIC_OR_PART,
    "commit is refused for one partition": KafkaError.TOPIC_AUTHORIZATION_FAILED,
}
_RETRIABLE = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._TRANSPORT}


def _error(code: int | None) -> KafkaError | None:
    return None if code is None else KafkaError(code, None, False, code in _RETRIABLE, False)


def _offsets(offsets: Iterable[TopicPartition]) -> Offsets:
    return {(each.topic, each.partition): Committed(each.offset, each.metadata or "") for each in offsets}


def _identity_in(metadata: bytes) -> Identity:
    generation = struct.unpack_from("=i", metadata, len(_METADATA))[0]
    _, member_id, instance = metadata[len(_METADATA) + 4 :].split(b"\0", 2)
    return member_id.decode(), instance.strip(b"\0\1").decode(), generation


class InputMessage(Message):
    """As the client has it: where it cannot read the name of a header it raises."""

    is_unreadable = False

    def headers(self) -> Any:
        return b"\xff".decode() if self.is_unreadable else super().headers()


def _message(at: Partition, entry: Entry) -> Message:
    message = InputMessage(
        topic=at[0],
        partition=at[1],
        offset=entry.offset,
        key=entry.key,
        value=entry.value,
        headers=entry.headers,
        timestamp=(1, entry.timestamp_ms),
    )
    message.is_unreadable = entry.unreadable
    return message


Report = Callable[[KafkaError | None, Any], None]
Queued = tuple[str, bytes | None, bytes | None, Headers | None]


class FakeProducer:
    """Idempotent, only failures reported; with `transactional_id` in transactions."""

    def __init__(
        self,
        host: Host,
        room: int,
        wall_ms: Callable[[], int],
        transactional_id: str = "",
        timeout: float = 10,
        rate: float = 0.0,
    ) -> None:
        """`rate`: records a second that the broker takes; 0: any number. `timeout`: seconds until a record fails."""
        self._host = host
        self._broker = host.broker
        self._room = room
        self._wall_ms = wall_ms
        self._id = transactional_id
        self._timeout = timeout
        self._epoch: int | None = None
        self._open: Transaction | None = None
        self._begun = False
        self._must_abort: int | None = None  # the code of the error for which it must
        self._fatal = False
        self._in_doubt = False  # a commit was asked for and not answered: it may still be carried out
        self._report: Report | None = None
        self._rate = rate
        self._next_sent = 0.0  # at the earliest
        self._queue: list[Queued] = []
        self._queued_at: deque[float] = deque()  # as many
        self._unanswered: list[Queued] = []  # in the log, but we do not know it yet

    def __len__(self) -> int:
        return len(self._queue) + len(self._unanswered)

    @property
    def queued(self) -> list[Queued]:
        """What is in the memory of the client."""
        return self._queue + self._unanswered

    def reporting_to(self, report: Report) -> Producer:
        self._report = report
        return cast(Producer, self)

    def purge(self) -> None: ...

    def close(self) -> None: ...

    def produce(
        self, topic: str, value: bytes | None, key: bytes | None, _partition: int = -1, headers: Headers | None = None
    ) -> None:
        self._host.here("produce")
        if self._id and (not self._begun or (self._must_abort is not None and not self._fatal)):
            raise KafkaException(KafkaError(KafkaError._STATE))
        if len(self) >= self._room:
            self._host.note("producer queue full")
            raise BufferError
        if self._fatal:
            raise KafkaException(KafkaError(KafkaError._FATAL))
        if topic == MAPS:
            self._host.note("map deleted" if value is None else "map stored")
        self._queue.append((topic, value, key, headers))
        self._queued_at.append(self._broker.now)
        self._background()

    def poll(self, timeout: float = -1) -> int:
        self._host.here("producer.poll")
        self._exchange(max(timeout, 0))
        return 0

    def flush(self, timeout: float = -1) -> int:
        self._host.here("flush")
        self._exchange(max(timeout, 0))
        return len(self)

    def _exchange(self, timeout: float) -> None:
        if self._host.fault("broker slow"):
            self._host.note("flush not in time")
            self._host.wait(timeout)
            return
        self._send_for(timeout)
        if self._unanswered and self._host.choose(3) == 2:
            self._host.note("acknowledged later")
            self._host.wait(min(timeout, ACKNOWLEDGED))
            if timeout < ACKNOWLEDGED:
                return
        self._unanswered = []

    def _background(self) -> None:
        if self._host.choose(3):
            self._send(self._host.choose(len(self._queue) + 1))

    def leave_behind(self, number: int) -> None:
        """The process is killed: so many records of the queue were on the way already."""
        for topic, value, key, headers in self._queue[:number]:
            if not self._id:
                self._append(topic, key, value, headers)

    def _send_for(self, timeout: float) -> None:
        """As much as the broker takes until then, and has taken since the last call."""
        until = self._broker.now + timeout
        while self._queue:
            if (early := min(self._sent_at(), until) - self._broker.now) > 0:
                self._host.wait(early)
            if self._sent_at() > self._broker.now:
                return
            self._send(1)

    def _sent_at(self) -> float:
        """When the broker takes the next record."""
        return max(self._next_sent, self._queued_at[0])

    def _send(self, number: int) -> None:
        """So many, as far as the broker has taken them by now."""
        for _ in range(number):
            if (sent_at := self._sent_at()) > self._broker.now:
                return
            record, queued_at = self._queue.pop(0), self._queued_at.popleft()
            topic, value, key, headers = record
            if self._rate and topic != MAPS:  # of maps nobody knows how many there are
                self._next_sent = sent_at + 1 / self._rate
            if self._rate and topic != MAPS and sent_at - queued_at > self._timeout:
                self._host.is_late()
                self._fail(KafkaError._MSG_TIMED_OUT)
            elif self._host.fault("produce fails"):
                self._fail(KafkaError._MSG_TIMED_OUT)
            elif self._host.fault("produce fails yet arrives"):
                self._append(topic, key, value, headers)
                self._fail(KafkaError._MSG_TIMED_OUT)
            elif self._id and self._is_fenced():
                self._fatal = True
                self._fail(KafkaError._FENCED)
            else:
                self._append(topic, key, value, headers)
                self._unanswered.append(record)

    def _fail(self, code: int) -> None:
        self._host.note("delivery failed")
        self._must_abort = code
        if self._report:
            self._report(KafkaError(code), Message())

    def _append(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers | None) -> None:
        transaction = self._join_transaction() if self._id else None
        partition = sum(key or b"") % len(self._broker.topics[topic].logs)
        self._broker.append((topic, partition), key, value, self._wall_ms(), transaction, headers)

    # ------------------------------------------------------------------ transactions

    def _is_fenced(self) -> bool:
        return self._epoch is None or self._broker.is_fenced(self._id, self._epoch)

    def _join_transaction(self) -> Transaction:
        self._open = self._broker.transaction(self._id, self._timeout)
        return self._open

    def init_transactions(self, timeout: float = -1) -> None:
        self._begin("init_transactions", timeout)
        self._epoch = self._broker.init_transactions(self._id)

    def begin_transaction(self) -> None:
        self._host.here("begin_transaction")
        if self._fatal:  # otherwise it is not known yet: no request is made
            self._raise_if_fenced()
        if self._must_abort is not None:
            self._abortable(self._must_abort)
        if self._epoch is None or self._begun:
            raise KafkaException(KafkaError(KafkaError._STATE))
        self._begun, self._must_abort, self._open = True, None, None
        self._host.note("transaction")

    def send_offsets_to_transaction(self, offsets: list[TopicPartition], group: bytes, timeout: float = -1) -> None:
        self._begin("send_offsets_to_transaction", timeout, in_transaction=True)
        self._raise_if_fenced()
        self._host.check_commit({})
        code = self._broker.add_offsets(self._join_transaction(), _identity_in(group), _offsets(offsets))
        if code is not None:
            self._abortable(code)

    def commit_transaction(self, timeout: float = -1) -> None:
        self._begin("commit_transaction", timeout, in_transaction=True)
        self._exchange(0)
        self._send_for(timeout)
        if self._open or self._fatal:  # without records and offsets nothing is asked of the broker (measured)
            self._raise_if_fenced()
        if self._must_abort is not None:
            self._abortable(self._must_abort)
        if self._host.fault("transaction answer lost"):
            self._broker.end_later(self._id, self._host.choose(3))
            self._in_doubt = True
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, None, False, True, False))
        self._end(committed=True)
        self._host.here("transaction committed")

    def abort_transaction(self, timeout: float = -1) -> None:
        self._begin("abort_transaction", timeout)
        if not self._begun:
            raise KafkaException(KafkaError(KafkaError._STATE))
        if self._open:
            self._raise_if_fenced()
        if self._in_doubt:
            raise KafkaException(KafkaError(KafkaError._CONFLICT))
        self._host.note("transaction aborted")
        self._end(committed=False)

    def _end(self, *, committed: bool) -> None:
        self._queue, self._unanswered, self._begun, self._must_abort = [], [], False, None
        self._queued_at.clear()
        if self._open:
            self._broker.end(self._id, committed=committed)
            self._open = None

    def _begin(self, call: str, timeout: float, *, in_transaction: bool = False) -> None:
        self._host.here(call)
        if self._fatal:
            self._raise_if_fenced()
        if in_transaction and not self._begun:
            raise KafkaException(KafkaError(KafkaError._STATE))
        if in_transaction and self._must_abort is not None:
            self._abortable(self._must_abort)
        if self._host.fault("transaction fails"):
            self._host.wait(max(timeout, 0))
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, None, False, True, False))

    def _raise_if_fenced(self) -> None:
        if self._fatal or self._is_fenced():
            self._fatal = True
            self._host.note("producer fenced")
            raise KafkaException(KafkaError(KafkaError._FENCED, None, True, False, False))

    def _abortable(self, code: int) -> NoReturn:
        self._must_abort = code
        raise KafkaException(KafkaError(code, None, False, False, True))


@dataclass(slots=True)
class TopicMetadata:
    partitions: dict[int, object]


@dataclass(slots=True)
class Metadata:
    topics: dict[str, TopicMetadata]
    cluster_id: str = "model"

    @staticmethod
    def of(broker: Broker) -> "Metadata":
        counts = {name: len(topic.logs) for name, topic in broker.topics.items()}
        led = SimpleNamespace(leader=0)
        return Metadata({name: TopicMetadata(dict.fromkeys(range(count), led)) for name, count in counts.items()})


@dataclass(slots=True)
class Answer:
    """A future whose answer is there already, or, `late`, when it is asked whether it is done the second time."""

    value: Any
    late: bool = False
    failed: bool = False

    def done(self) -> bool:
        late, self.late = self.late, False
        return not late

    def exception(self, timeout: float | None = None) -> KafkaException | None:
        return KafkaException(KafkaError(KafkaError._TIMED_OUT)) if self.failed else None

    def result(self, timeout: float | None = None) -> Any:
        if error := self.exception():
            raise error
        return self.value


@dataclass(slots=True)
class Listed:
    """A ListOffsetsResultInfo."""

    offset: int


@dataclass(slots=True)
class Described:
    topic_id: str
    partitions: tuple[()] = ()  # whoever leads them is not told


class FakeAdmin:
    def __init__(self, host: Host) -> None:
        self._host = host

    def list_topics(self, topic: str | None = None, timeout: float = -1) -> Metadata:
        self._begin("list_topics", timeout)
        return Metadata.of(self._host.broker)

    def poll(self, _timeout: float) -> int:
        return 0

    def describe_topics(self, topics: Any, request_timeout: float = -1) -> dict[str, Answer]:
        """One answer in three comes later, and tells how it is now."""
        self._host.here("describe_topics")
        late, failed = self._host.choose(3) == 2, self._host.fault("request")
        found = {name: Described(self._host.broker.topics[name].id) for name in topics.topic_names}
        return {name: Answer(each, late, failed) for name, each in found.items()}

    def list_offsets(self, wanted: Any, isolation_level: Any, request_timeout: float) -> dict[TopicPartition, Answer]:
        """Nobody waits for the answers; one in three comes later, for the end of now."""
        self._host.here("list_offsets")
        late, failed = self._host.choose(3) == 2, self._host.fault("request")
        logs = {at: self._host.broker.log((at.topic, at.partition)) for at in wanted}
        committed = isolation_level is IsolationLevel.READ_COMMITTED
        ends = {at: log.stable_end if committed else log.end for at, log in logs.items()}
        return {at: Answer(Listed(end), late, failed) for at, end in ends.items()}

    def _begin(self, call: str, timeout: float) -> None:
        self._host.here(call)
        if self._host.fault("request"):
            self._host.wait(max(timeout, 0))
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
