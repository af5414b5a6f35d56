"""How long the intake keeps a record for others, and which of what it has read is unfinished."""

from types import SimpleNamespace
from typing import NamedTuple, cast

import pytest
from confluent_kafka import Consumer, Message
from hypothesis import given
from hypothesis import strategies as st

from config import Settings
from main import _gather
from tests.builders import admin, partition_offsets
from utils.intake import FEW, Batch, Intake, Record
from utils.metrics import Counters
from utils.offsets import FINISHED, UNFINISHED, OffsetMap

GATHER, WAIT = 0.004, 0.2
A_TURN = 0.001  # seconds


class Timed:
    """Reads by a clock that goes on as the intake waits and by A_TURN after each read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._now = 100.0
        self._brings = 0
        self._comes_at = 0.0
        self._intake = Intake(cast(Consumer, self), Counters(), admin(), lambda: self._now, gather=GATHER)
        monkeypatch.setattr("utils.intake.time.sleep", self._sleep)

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
    assert _gather(settings) == pytest.approx(seconds)


class At(NamedTuple):
    """A record of the topic `a`, as far as the intake looks at it."""

    number: int
    of_partition: int

    def topic(self) -> str:
        return "a"

    def partition(self) -> int:
        return self.of_partition

    def offset(self) -> int:
        return self.number


class Reading:
    """An intake that reads partitions of which an earlier commit says which of the first offsets are finished."""

    def __init__(self, maps: list[bytes]) -> None:
        self.counters = Counters()
        self._intake = Intake(cast(Consumer, SimpleNamespace(seek=id)), self.counters, admin())
        self.owned = [
            partition_offsets(0, OffsetMap("", 0, 0, 0, states), partition=number) for number, states in enumerate(maps)
        ]
        self._intake.rebalanced(self.owned)

    def read(self, records: list[At]) -> Batch:
        return self._intake.unfinished(cast("list[Record]", records))

    def shed(self, number: int) -> None:
        """There is no room for the record of the first partition that has this offset: it is read again."""
        self.owned[0].drop(number, 0.0, 1)
        self._intake.read_shed_again()

    @property
    def may_replay(self) -> bool:
        return self._intake._may_replay


MAPS = st.lists(
    st.lists(st.sampled_from((FINISHED, UNFINISHED)), max_size=6).map(lambda states: bytes([UNFINISHED, *states])),
    min_size=1,
    max_size=3,
)


@given(maps=MAPS, data=st.data())
def test_many_records_are_told_from_finished_ones_as_few_are(maps: list[bytes], data: st.DataObject) -> None:
    """Those of a partition come in their order, but for gaps; the partitions in any."""
    with pytest.MonkeyPatch.context() as patch:
        few, many, skipped = Reading(maps), Reading(maps), 0
        for _ in range(3):
            records: list[At] = []
            for number, of in enumerate(few.owned):
                come = sorted(data.draw(st.sets(st.integers(of.position, of.position + 4), max_size=4)))
                records += [At(offset, number) for offset in come]
            order = data.draw(st.permutations([each.of_partition for each in records]))
            in_turn = {number: iter([each for each in records if each.of_partition == number]) for number in order}
            records = [next(in_turn[number]) for number in order]
            known = [max(of.loaded_end, of.read_end) for of in few.owned]
            wanted = [at for at in records if maps[at.of_partition][at.number : at.number + 1] != b"\x01"]
            patch.setattr("utils.intake.RUNS_FROM", 1000)
            batch = few.read(records)
            patch.setattr("utils.intake.RUNS_FROM", 0 if records else 1)
            assert [*many.read(records)[2:]] == [*batch[2:]]
            assert [*map(id, batch.records)] == [*map(id, wanted)]
            assert [*batch.offsets] == [each.number for each in wanted]
            assert [of.partition for of in batch.partitions] == [each.of_partition for each in wanted]
            assert batch.is_new == all(each.number >= known[each.of_partition] for each in records)
            assert many.counters.as_dict() == few.counters.as_dict()
            assert many.counters.read_from == few.counters.read_from
            assert [of.position for of in many.owned] == [of.position for of in few.owned]
            skipped += len(records) - len(wanted)
    assert (few.counters.read_from["a"], few.counters.skipped) == (few.counters.read, skipped)


@pytest.mark.parametrize("records", [1, 1000])
def test_what_is_read_again_for_want_of_room_is_not_new(monkeypatch: pytest.MonkeyPatch, records: int) -> None:
    monkeypatch.setattr("utils.intake.RUNS_FROM", records)
    reading = Reading([b""])
    assert reading.read([At(0, 0), At(1, 0), At(2, 0)]).is_new
    assert not reading.may_replay, "nothing can be: it costs no look at each record"
    reading.shed(1)
    again = reading.read([At(1, 0), At(2, 0), At(3, 0)])
    assert (again.is_new, again.offsets) == (False, [1, 3])
    assert reading.read([At(4, 0)]).is_new
