"""Stand-ins for Kafka's clients in the unit tests: a test may look into them, and bend them.

Those of the simulation are another thing: a model of the client, with all its moods, over a model of the broker
(tests/simulation/clients.py).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

from confluent_kafka import OFFSET_INVALID, IsolationLevel, KafkaError, KafkaException, Producer, TopicPartition

from utils.joining.messages import Headers
from utils.kafka.lookups import EARLIEST

Partition = tuple[str, int]
Report = Callable[[KafkaError | None, Any], None]
TOPIC_ID = "0Tb3yVvGQ7u6p2Xc4Zx1kA"


@dataclass
class FakeMessage:
    """As the client's: empty, and so false, where the value is."""

    at: Partition
    number: int
    content: bytes | None
    failure: KafkaError | None = None  # in place of a record
    timestamp_ms: int = 2**41  # in the far future: clamped to the time of the commit
    its_key: bytes | None = None
    its_headers: Headers | None = None
    epoch: int = 0

    def __len__(self) -> int:
        return len(self.content or b"")

    def topic(self) -> str:
        return self.at[0]

    def partition(self) -> int:
        return self.at[1]

    def offset(self) -> int:
        return self.number

    def leader_epoch(self) -> int | None:
        return self.epoch

    def key(self) -> bytes | None:
        return self.its_key

    def value(self) -> bytes | None:
        return self.content

    def headers(self) -> Headers | None:
        return self.its_headers

    def error(self) -> KafkaError | None:
        return self.failure

    def timestamp(self) -> tuple[int, int]:
        return 1, self.timestamp_ms


class FakeConsumer:
    """A consumer group of one, over a log in memory. `events` happen inside the next poll(), as rebalances do."""

    def __init__(self) -> None:
        self.log: dict[Partition, dict[int, bytes | None]] = {}
        self.times: dict[Partition, dict[int, int]] = {}  # of records, in ms
        self.ends: dict[Partition, int] = {}  # beyond the last record where markers stand there
        self.fetch_at: dict[Partition, int] = {}
        self.app_position: dict[Partition, int] = {}
        self.events: list[Callable[[], None]] = []
        self.events_in_consume: list[Callable[[], None]] = []
        self.errors: list[FakeMessage] = []
        self.paused: set[Partition] = set()
        self.seeks: list[tuple[str, int]] = []
        self.polls = 0
        self.assigns = 0
        self.closed = False

    def subscribe(self, topics: list[str], *, on_assign: Any, on_revoke: Any, on_lost: Any) -> None:
        self.on_assign, self.on_revoke, self.on_lost = on_assign, on_revoke, on_lost

    def poll(self, _timeout: float) -> FakeMessage | None:
        self.polls += 1
        self._serve(self.events)
        return next(iter(self._fetch(1)), None)

    def consume(self, number: int, _timeout: float) -> list[FakeMessage]:
        first = self._fetch(1) if self.events_in_consume else []
        self._serve(self.events_in_consume)
        return first + self._fetch(number)

    def _serve(self, events: list[Callable[[], None]]) -> None:
        while events:
            events.pop(0)()

    def _fetch(self, number: int) -> list[FakeMessage]:
        fetched, self.errors = self.errors, []
        for at, position in self.fetch_at.items():
            log = {} if at in self.paused else self.log.get(at, {})
            end = next(reversed(log), -1) + 1
            for offset in range(position, end):
                if len(fetched) == number:
                    break
                if offset in log:
                    ms = self.times.get(at, {}).get(offset, FakeMessage.timestamp_ms)
                    fetched.append(FakeMessage(at, offset, log[offset], timestamp_ms=ms))
                    self.fetch_at[at] = self.app_position[at] = offset + 1
            if at in self.ends and self.app_position.get(at) == end:
                self.app_position[at] = max(end, self.ends[at])
        return fetched

    def assigned(self, owned: list[TopicPartition]) -> None:
        before = self.assigns
        self.on_assign(self, owned)
        if self.assigns == before:  # as the client does of itself
            self.assign(owned)

    def assign(self, partitions: list[TopicPartition]) -> None:
        self.assigns += 1
        self.fetch_at = {(each.topic, each.partition): each.offset for each in partitions}
        self.app_position = {}  # what is paused stays so, as with the client (measured)

    def assignment(self) -> list[TopicPartition]:
        return [TopicPartition(*at) for at in self.fetch_at]

    def seek(self, to: TopicPartition) -> None:
        self.seeks.append((to.topic, to.offset))
        self.fetch_at[to.topic, to.partition] = to.offset
        self.app_position.pop((to.topic, to.partition), None)  # as the client: unknown until the next record (measured)

    def position(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        at = [(each.topic, each.partition) for each in partitions]
        return [TopicPartition(*each, self.app_position.get(each, OFFSET_INVALID)) for each in at]

    def end_of(self, at: Partition) -> int:
        log = self.log.get(at, {})
        return max(next(reversed(log), -1) + 1, self.ends.get(at, 0)) if log else 0

    def get_watermark_offsets(self, at: TopicPartition, cached: bool) -> tuple[int, int]:
        assert cached
        log = self.log.get((at.topic, at.partition))
        return OFFSET_INVALID, next(reversed(log), -1) + 1 if log else OFFSET_INVALID

    def offsets_for_times(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        """Of the beginning of time."""
        assert all(each.offset == EARLIEST for each in partitions)
        logs = [(each, self.log.get((each.topic, each.partition), {})) for each in partitions]
        return [TopicPartition(each.topic, each.partition, next(iter(log), 0)) for each, log in logs]

    def pause(self, partitions: list[TopicPartition]) -> None:
        self.paused |= {(each.topic, each.partition) for each in partitions}

    def resume(self, partitions: list[TopicPartition]) -> None:
        self.paused -= {(each.topic, each.partition) for each in partitions}

    def close(self) -> None:
        self.closed = True
        if self.fetch_at:
            self.on_revoke(self, self.assignment())


class FakeReader:
    """A consumer of no group: hands out what it is assigned, some at a time.

    In `logs` stand times in seconds and values. A value that is None is a marker of a transaction.
    """

    def __init__(self, logs: dict[Partition, list[tuple[float, bytes | None]]], some: int = 3) -> None:
        self.logs = logs
        self.events: list[FakeMessage] = []
        self.handed_out: Counter[tuple[str, int, int]] = Counter()
        self.assigned: dict[Partition, int] = {}
        self._moved: set[Partition] = set()
        self._some = some
        self._there: list[FakeMessage] = []
        self._known: set[str] = set()
        self.forbidden: set[str] = set()  # topics that may not be read

    def list_topics(self, topic: str, timeout: float) -> None:
        assert timeout > 0
        self._known.add(topic)

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        assert self._known >= {each.topic for each in partitions}, "the client would look for it a second later"
        self.assigned, self._moved = {(each.topic, each.partition): each.offset for each in partitions}, set()

    def incremental_unassign(self, partitions: Sequence[TopicPartition]) -> None:
        for each in partitions:
            del self.assigned[each.topic, each.partition]

    def unassign(self) -> None:
        self.assigned = {}

    def poll(self, _timeout: float) -> FakeMessage | None:
        self._there += self.fetched()
        return self._there.pop(0) if self._there else None

    def consume(self, _number: int, timeout: float) -> list[FakeMessage]:
        assert timeout == 0, "it would wait for a full batch"
        records, self._there = self._there, []
        return records

    def fetched(self) -> list[FakeMessage]:
        records, self.events = self.events, []
        for at, first in self.assigned.items():
            if at[0] in self.forbidden:
                records.append(FakeMessage(at, 0, None, KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)))
                continue
            for offset in range(first, min(first + self._some, len(self.logs[at]))):
                time, value = self.logs[at][offset]
                self.assigned[at] = offset + 1
                self._moved.add(at)
                if value is not None:
                    self.handed_out[*at, offset] += 1
                    records.append(FakeMessage(at, offset, value, timestamp_ms=int(time * 1000)))
        return records

    def position(self, partitions: Sequence[TopicPartition]) -> list[TopicPartition]:
        """Of what has not moved yet, the client knows none."""
        places = [(each.topic, each.partition) for each in partitions]
        return [TopicPartition(*at, self.assigned[at] if at in self._moved else OFFSET_INVALID) for at in places]


class FakeProducer:
    """Keeps what is produced until it is acknowledged or fails; reports failures only, inside poll() and flush()."""

    def __init__(self, room: int = 1_000_000) -> None:
        self.room = room
        self.produced: list[tuple[str, bytes | str | None, bytes]] = []
        self.unacknowledged = 0
        self.flushed = 0  # how many had been produced when that was waited for last
        self._report: Report | None = None
        self.events: list[Callable[[], None]] = []  # what the next poll() or flush() finds

    def reporting_to(self, report: Report) -> Producer:
        self._report = report
        return cast(Producer, self)

    def produce(
        self, topic: str, value: bytes, key: bytes | str | None, _partition: int = -1, headers: object = None
    ) -> None:
        if self.unacknowledged >= self.room:
            raise BufferError
        self.produced.append((topic, key, value))
        self.unacknowledged += 1

    def __len__(self) -> int:
        return self.unacknowledged

    def poll(self, _timeout: float) -> None:
        events, self.events = self.events, []
        for event in events:
            event()

    def flush(self, _timeout: float) -> int:
        self.poll(0)
        self.flushed = len(self.produced)
        return self.unacknowledged

    def acknowledge(self) -> None:
        self.unacknowledged = 0

    def fail(self, code: int) -> None:
        """The last result fails, the others were acknowledged."""
        self.unacknowledged = 0
        self.report(KafkaError(code), None)

    def report(self, error: KafkaError, failed: Any) -> None:
        assert self._report is not None
        self._report(error, failed)


class FakeAdmin:
    """Tells where partitions end, of which topics they are, and who is in a group.

    At once, or, where it is `late`, when the test says so.
    """

    def __init__(
        self,
        end_of: Callable[[Partition], int] = lambda _at: 0,
        members: Sequence[object] | KafkaException = (),
        *,
        late: bool = False,
    ) -> None:
        self._end_of = end_of
        self._members = members
        self._late = late
        self.asked: list[object] = []  # partitions, topics and groups
        self.isolation: list[IsolationLevel | None] = []
        self.leaderless: set[Partition] = set()
        self.open: dict[object, Future[Any]] = {}  # what was asked last of each of them, and is not answered

    def poll(self, _timeout: float) -> int:
        return 0

    def describe_topics(self, topics: Any, **_options: Any) -> dict[str, "Future[Any]"]:
        """`leaderless`: partitions that have no leader now, of three in each topic."""
        return {topic: self._asked(topic, self._described(topic)) for topic in topics.topic_names}

    def describe_consumer_groups(self, names: list[str], **_options: Any) -> dict[str, "Future[Any]"]:
        return {name: self._asked(name, self._group()) for name in names}

    def list_offsets(
        self, wanted: Any, isolation_level: IsolationLevel | None = None, **_options: Any
    ) -> dict[TopicPartition, "Future[Any]"]:
        self.isolation.append(isolation_level)
        answers = {}
        for each, spec in wanted.items():
            at = each.topic, each.partition
            answers[each] = self._asked(at, SimpleNamespace(offset=self.offset_of(at, spec, isolation_level)))
        return answers

    def _described(self, topic: str) -> object:
        leaders = [None if (topic, number) in self.leaderless else SimpleNamespace(id=1) for number in range(3)]
        partitions = [SimpleNamespace(id=number, leader=leader) for number, leader in enumerate(leaders)]
        return SimpleNamespace(topic_id=TOPIC_ID, partitions=partitions)

    def _group(self) -> object:
        return self._members if isinstance(self._members, KafkaException) else SimpleNamespace(members=self._members)

    def offset_of(self, at: Partition, _spec: object, _isolation: IsolationLevel | None) -> int:
        return self._end_of(at)

    def _asked(self, of: object, value: Any) -> "Future[Any]":
        self.asked.append(of)
        self.open[of] = answer = Future[Any]()
        if isinstance(value, KafkaException):
            self.fail(of, value)
        elif not self._late:
            self.open.pop(of).set_result(value)
        return answer

    def answer(self, of: object, **facts: object) -> None:
        self.open.pop(of).set_result(SimpleNamespace(**facts))

    def fail(self, of: object, error: KafkaException) -> None:
        self.open.pop(of).set_exception(error)
