"""From where the partitions of a group that is adopted are read again."""

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition

from config import ConfigError
from tests.fakes import FakeMessage, FakeReader
from utils.commands.adopt import FEW, _before, _not_in_the_future, _starts, adopt, start_of
from utils.kafka.lookups import EARLIEST, LATEST

A = "a", 0


class FakeBroker(FakeReader):
    """Of one partition, whose records begin at `first`."""

    def __init__(self, log: list[tuple[float, bytes | None]], first: int = 0) -> None:
        super().__init__({A: log})
        self.first = first

    def offsets_for_times(self, partitions: Sequence[TopicPartition], timeout: float) -> list[TopicPartition]:
        assert timeout > 0
        return [TopicPartition(*A, self._at(each)) for each in partitions]

    def _at(self, asked: TopicPartition) -> int:
        if asked.offset in (EARLIEST, LATEST):
            return self.first if asked.offset == EARLIEST else len(self.logs[A])
        later = (offset for offset, (time, value) in enumerate(self.logs[A]) if value and time * 1000 >= asked.offset)
        return next((each for each in later if each >= self.first), -1)


class Silent(FakeBroker):
    """It tells offsets, and gives no records."""

    def fetched(self) -> list[FakeMessage]:
        return []


def before(broker: FakeBroker, committed: int, wait: float) -> int:
    """Where there is none: `committed`."""
    return _before(cast(Consumer, broker), {A: committed}, wait).get(A, committed)


LOG: list[tuple[float, bytes | None]] = [(float(each), b"x") for each in range(500)]


@pytest.mark.parametrize(
    ("committed", "since", "before", "expected"),
    [
        (100, 80, 90, 80),  # the longest wait before now
        (100, 900, 60, 60),  # behind: the longest wait before the last that it had read
        (100, -1, 60, 60),  # nothing came since then, or its timestamps are older
        (100, 80, 60, 60),
        (100, -1, 100, 100),
        (0, 0, 0, 0),
    ],
)
def test_where_a_partition_is_read_again(committed: int, since: int, before: int, expected: int) -> None:
    assert start_of(committed, since, before) == expected


def test_where_nothing_waited_nothing_is_read_again_whatever_the_timestamps_say() -> None:
    """It was: one record of a clock that is ahead set a renamed consumer back to it, and all behind it came twice."""
    log = [*LOG]
    log[10] = (900.0, b"of tomorrow")
    now, broker = datetime.fromtimestamp(500, UTC), cast(Consumer, FakeBroker(log))
    assert _starts(broker, {A: 450}, now, 0.0) == {A: 450}
    assert _starts(broker, {A: 450}, now, 1.0) == {A: 10}  # what is ahead may have come in this second


def test_a_worker_that_was_behind_goes_back_from_the_last_record_that_it_had_committed() -> None:
    assert before(FakeBroker(LOG), 200, wait=20) == 179
    assert before(FakeBroker(LOG), 10, wait=20) == 0
    assert before(FakeBroker(LOG, first=190), 200, wait=20) == 190


@pytest.mark.parametrize("lacking", [1, FEW, 3 * FEW, 15 * FEW])
def test_offsets_without_a_record_before_the_commit_are_passed_over(lacking: int) -> None:
    log = LOG[: 200 - lacking] + [(0.0, None)] * lacking + LOG[200:]
    assert before(FakeBroker(log), 200, wait=20) == 200 - lacking - 1 - 20


@pytest.mark.parametrize("first", [0, 100, 200, 250])
def test_where_no_record_is_left_before_the_commit_there_is_no_way_back(first: int) -> None:
    assert before(FakeBroker([(0.0, None)] * 200 + LOG[200:], first), 200, wait=20) == 200


def test_a_broker_that_gives_no_records_is_no_reason_to_go_back_by_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("utils.kafka.ranges.QUIET", 0.01)
    with pytest.raises(KafkaException):
        before(Silent(LOG), 200, wait=20)


def test_a_former_worker_that_ended_in_the_future_is_none() -> None:
    """It was taken without a word, and then nothing was read again: what waited was lost. A time of Berlin that is
    typed without its zone is two hours ahead in summer.
    """
    soon = datetime.now(UTC) + timedelta(hours=2)
    with pytest.raises(ConfigError, match=r"--stopped .* is in the future.* a time without a zone is UTC"):
        adopt(argparse.Namespace(stopped=soon), {})


def test_a_clock_that_is_a_little_ahead_of_ours_tells_of_now() -> None:
    now = datetime(2026, 11, 30, 12, tzinfo=UTC)
    assert _not_in_the_future(now + timedelta(seconds=30), now) == _not_in_the_future(None, now) == now
    assert _not_in_the_future(now - timedelta(hours=1), now) == now - timedelta(hours=1)
