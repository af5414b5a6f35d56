"""How long the intake keeps a record for others, and which of what it has read is unfinished."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import pytest
from confluent_kafka import Consumer, Message, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from config import Settings
from tests.builders import admin, partition_offsets
from utils.joining.offsets import OffsetMap
from utils.joining.states import FINISHED, UNFINISHED, States
from utils.metrics import Counters
from utils.reading.intake import FEW, PAUSE_AFTER, Batch, Intake, Record, Waits
from utils.running.assembly import gathering

GATHER, WAIT = 0.004, 0.2
A_TURN = 0.001  # seconds


class Timed:
    """Reads by a clock that goes on as the intake waits and by A_TURN after each read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._now = 100.0
        self._brings = 0
        self._comes_at = 0.0
        self._intake = Intake(cast(Consumer, self), Counters(), admin(), lambda: self._now, waits=Waits(gather=GATHER))
        monkeypatch.setattr("utils.reading.intake.time.sleep", self._sleep)

    def after(self, brought: int, comes: float = 0.0, wait: float = WAIT) -> float:
        """How long a record stays that comes so many seconds after a read of so many records."""
        self._now += 10 * GATHER
        self._brings, self._comes_at = brought, self._now
        self._intake.read(0.0, WAIT)
        self._comes_at = self._now + comes
        self._now += A_TURN
        self._brings = 1
        assert self._intake.read(0.0, wait)
        return self._now - self._comes_at

    def poll(self, timeout: float) -> Message | None:
        self._now = min(self._now + timeout, max(self._now, self._comes_at))
        return Message() if self._brings and self._now >= self._comes_at else None

    def consume(self, _most: int, _timeout: float) -> list[Message]:
        return [Message() for _ in range(self._brings - 1)]

    def _sleep(self, seconds: float) -> None:
        self._now += seconds


@pytest.mark.parametrize("brought", [1, FEW - 1])
def test_what_comes_soon_after_a_few_records_stays_for_more(monkeypatch: pytest.MonkeyPatch, brought: int) -> None:
    timed = Timed(monkeypatch)
    assert timed.after(brought, comes=A_TURN * 2) == pytest.approx(GATHER)
    assert timed.after(brought, comes=0) == pytest.approx(GATHER), "counted from the end of the last read"


def test_what_comes_later_is_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Timed(monkeypatch).after(1, comes=GATHER * 1.01) == 0


def test_nothing_stays_after_many_nor_after_none_nor_while_process_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    timed = Timed(monkeypatch)
    assert timed.after(FEW) == pytest.approx(A_TURN)
    assert timed.after(0, comes=A_TURN * 2) == 0
    assert timed.after(1, wait=0) == pytest.approx(A_TURN)


@pytest.mark.parametrize(
    ("delivery", "commits", "seconds"),
    [
        ("at_least_once", 0.1, 0.004),
        ("exactly_once", 0.1, 0.01),
        ("exactly_once", 0.02, 0.002),
        ("exactly_once", 5, 0.01),
    ],
)
def test_where_results_wait_for_their_commit_anyway_records_may_stay_longer(
    delivery: str, commits: float, seconds: float
) -> None:
    settings = Settings(consumer_name="orders", delivery=delivery, commit_interval=commits)
    assert gathering(settings) == pytest.approx(seconds)


class Paused:
    """A consumer that knows which partitions are paused, and reads nothing."""

    def __init__(self) -> None:
        self.now = 0.0
        self.paused: set[tuple[str, int]] = set()
        self.polls = 0
        self.stopped = False
        waits = Waits(stopped=lambda: self.stopped)
        self.intake = Intake(cast(Consumer, self), Counters(), admin(), lambda: self.now, waits=waits)
        self.intake.rebalanced([partition_offsets(0, None, *at) for at in PARTITIONS])

    def pause(self, partitions: list[TopicPartition]) -> None:
        self.paused |= {(each.topic, each.partition) for each in partitions}

    def resume(self, partitions: list[TopicPartition]) -> None:
        self.paused -= {(each.topic, each.partition) for each in partitions}

    def poll(self, _timeout: float) -> None:
        self.now += PAUSE_AFTER
        self.polls += 1


def test_while_there_is_no_room_no_partition_is_resumed_because_it_is_ahead_no_more() -> None:
    consumer = Paused()
    consumer.intake.pause_only([PARTITIONS[0]])
    for _ in range(2):
        consumer.intake.read(1.0, 0)
        consumer.now += 2 * PAUSE_AFTER
    assert consumer.paused == set(PARTITIONS)
    consumer.intake.pause_only([PARTITIONS[1]])
    assert consumer.paused == set(PARTITIONS)
    consumer.intake.read(0.0, 0)
    assert consumer.paused == {PARTITIONS[1]}, "there is room again"


def test_when_the_row_says_so_nothing_is_taken_in_at_once_and_polling_goes_on() -> None:
    consumer = Paused()
    consumer.intake.pause_only([PARTITIONS[0]])
    consumer.stopped = True
    consumer.intake.read(0.0, 0.2)
    assert consumer.paused == set(PARTITIONS)
    assert consumer.polls
    consumer.intake.rebalanced([partition_offsets(0, None, *at) for at in PARTITIONS])
    consumer.paused = set()  # the worker resumes what it is assigned
    consumer.intake.read(0.0, 0.2)
    assert consumer.paused == set(PARTITIONS)
    consumer.stopped = False
    consumer.intake.read(0.0, 0)
    assert consumer.paused == set()


class At(NamedTuple):
    """A record, as far as the intake looks at it."""

    of: tuple[str, int]
    number: int

    def topic(self) -> str:
        return self.of[0]

    def partition(self) -> int:
        return self.of[1]

    def offset(self) -> int:
        return self.number

    def value(self) -> None:
        """Not JSON: its key is of no interest."""


PARTITIONS = [("a", 0), ("a", 1), ("b", 0)]


class Reading:
    """An intake that reads partitions of which an earlier commit says which of the first offsets are finished."""

    def __init__(self, *maps: bytes) -> None:
        self.counters = Counters()
        self._intake = Intake(cast(Consumer, self), self.counters, admin())
        self.owned = {
            at: partition_offsets(0, OffsetMap("", 0, 0, 0, States.of(states)), *at)
            for at, states in zip(PARTITIONS, maps, strict=False)
        }
        self._intake.rebalanced(self.owned.values())

    def read(self, *records: At) -> Batch:
        return self._intake.unfinished(cast("list[Record]", records))

    def read_again(self, *shed: At) -> None:
        """There was no room for these records: reading goes back to the first of each partition."""
        for each in shed:
            self.owned[each.of].drop(each.number, 1)
        self._intake.read_shed_again()

    def seek(self, _where: object) -> None:
        """As of the consumer."""

    @property
    def may_replay(self) -> bool:
        return self._intake._may_replay


def facts(batch: Batch) -> tuple[object, ...]:
    partitions = [(of.topic, of.partition) for of in batch.partitions]
    return [*map(id, batch.records)], partitions, [*batch.offsets], batch.is_new


MAP = st.lists(st.sampled_from((FINISHED, UNFINISHED)), max_size=6).map(lambda states: bytes([UNFINISHED, *states]))


@given(maps=st.lists(MAP, min_size=1, max_size=3), data=st.data())
def test_many_records_are_told_from_finished_ones_as_few_are(maps: list[bytes], data: st.DataObject) -> None:
    """Those of a partition come in their order, but for gaps; the partitions in any. Some are read again."""
    few, many, counted = Reading(*maps), Reading(*maps), 0
    known = {at: of.loaded_end for at, of in few.owned.items()}  # below it, only what is in `unfinished` is wanted
    unfinished = {At(at, number) for at, end in known.items() for number in range(end)}
    unfinished -= {each for each in unfinished if maps[PARTITIONS.index(each.of)][each.number] == FINISHED}
    for _ in range(4):
        come = [
            At(at, number)
            for at, of in few.owned.items()
            for number in sorted(data.draw(st.sets(st.integers(of.position, of.position + 4), max_size=4)))
        ]
        order = data.draw(st.permutations([each.of for each in come]))
        in_turn = {at: iter([each for each in come if each.of == at]) for at in order}
        records = [next(in_turn[at]) for at in order]
        wanted = [each for each in records if each.number >= known[each.of] or each in unfinished]
        is_new = all(each.number >= known[each.of] for each in wanted)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("utils.reading.intake.RUNS_FROM", 1000)
            batch = few.read(*records)
            patch.setattr("utils.reading.intake.RUNS_FROM", 1)
            assert facts(many.read(*records)) == facts(batch)
        places = [each.of for each in wanted], [each.number for each in wanted]
        assert facts(batch) == ([*map(id, wanted)], *places, is_new)
        assert [of.position for of in many.owned.values()] == [of.position for of in few.owned.values()]
        counted += len(records) - len(wanted)
        unfinished = {each for each in unfinished if each.number >= few.owned[each.of].position}
        shed = [each for each in wanted if data.draw(st.integers(0, 2)) == 2]
        few.read_again(*shed)
        many.read_again(*shed)
        known |= {each.of: max(known[each.of], few.owned[each.of].read_end) for each in shed}
        unfinished |= set(shed)
    assert many.counters.as_dict() == few.counters.as_dict()
    assert many.counters.read_from == few.counters.read_from
    assert few.counters.read_from.total() == few.counters.read
    assert few.counters.skipped == counted


@pytest.mark.parametrize("runs_from", [1, 1000])
def test_what_is_read_again_for_want_of_room_is_not_new(monkeypatch: pytest.MonkeyPatch, runs_from: int) -> None:
    monkeypatch.setattr("utils.reading.intake.RUNS_FROM", runs_from)
    reading, zero, one, two = Reading(b""), *(At(("a", 0), number) for number in range(3))
    assert reading.read(zero, one, two).is_new
    assert not reading.may_replay, "no record is asked whether it is new"
    reading.read_again(one)
    again = reading.read(one, two, At(("a", 0), 3))
    assert (again.is_new, [*again.offsets]) == (False, [1, 3])
    assert reading.read(At(("a", 0), 4)).is_new


@dataclass
class Odd:
    """A record of which the client cannot read everything, and which must not be asked a second time."""

    broken: str = ""
    asked: set[str] = field(default_factory=set)

    def _read(self, what: str, value: Any) -> Any:
        assert what not in self.asked, "asked twice: the client would end the process"
        self.asked.add(what)
        if self.broken == what:
            raise SystemError("returned a result with an exception set") from UnicodeDecodeError(
                "utf-8", b"\xff", 0, 1, "invalid start byte"
            )
        return value

    def key(self) -> bytes:
        return cast(bytes, self._read("key", b"k"))

    def value(self) -> bytes:
        return cast(bytes, self._read("value", b"v"))

    def headers(self) -> list[tuple[str, bytes]]:
        return cast("list[tuple[str, bytes]]", self._read("headers", [("h", b"1")]))

    def timestamp(self) -> tuple[int, int]:
        return cast("tuple[int, int]", self._read("timestamp", (1, 7)))


@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize("broken", ["value", "headers", "timestamp"])
def test_what_the_client_cannot_read_of_a_record_concerns_that_record_alone(broken: str, is_new: bool) -> None:
    records = [Odd(), Odd(broken), Odd(), Odd(broken)]
    contents = Batch(cast("list[Record]", records), [], [], is_new).contents()

    asked = not (is_new and broken == "timestamp")
    assert list(contents.unreadable) == ([1, 3] if asked else [])
    for text in map(str, contents.unreadable.values()):
        assert broken in text
        assert "invalid start byte" in text, "why"
    assert contents.values == [None if broken == "value" and at % 2 else b"v" for at in range(4)]
    assert contents.headers == [None if broken == "headers" and at % 2 else [("h", b"1")] for at in range(4)]
    times = [(0, -1) if broken == "timestamp" and at % 2 else (1, 7) for at in range(4)]
    assert contents.timestamps == ([] if is_new else times)


def test_an_empty_batch_holds_nothing() -> None:
    assert Batch([], [], [], False).contents() == ([], [], [], {})
