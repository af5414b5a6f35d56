"""Which partitions are paused while there is no room, or when the row says so, and that polling goes on."""

from typing import cast

import pytest
from confluent_kafka import Consumer, Message, TopicPartition

from tests.builders import admin, partition_offsets
from utils.metrics import Counters
from utils.reading.intake import Intake, Waits
from utils.reading.pausing import PAUSE_AFTER, STANDSTILL

PARTITIONS = [("a", 0), ("a", 1), ("b", 0)]


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
    consumer.intake.pausing.pause_only([PARTITIONS[0]])
    for _ in range(2):
        consumer.intake.read(1.0, 100, 0)
        consumer.now += 2 * PAUSE_AFTER
    assert consumer.paused == set(PARTITIONS)
    consumer.intake.pausing.pause_only([PARTITIONS[1]])
    assert consumer.paused == set(PARTITIONS)
    consumer.intake.read(0.0, 0, 0)
    assert consumer.paused == {PARTITIONS[1]}, "there is room again"


def test_when_the_row_says_so_nothing_is_taken_in_at_once_and_polling_goes_on() -> None:
    consumer = Paused()
    consumer.intake.pausing.pause_only([PARTITIONS[0]])
    consumer.stopped = True
    consumer.intake.read(0.0, 0, 0.2)
    assert consumer.paused == set(PARTITIONS)
    assert consumer.polls
    consumer.intake.rebalanced([partition_offsets(0, None, *at) for at in PARTITIONS])
    consumer.paused = set()  # the worker resumes what it is assigned
    consumer.intake.read(0.0, 0, 0.2)
    assert consumer.paused == set(PARTITIONS)
    consumer.stopped = False
    consumer.intake.read(0.0, 0, 0)
    assert consumer.paused == set()


class Slow(Paused):
    """A consumer with records without end, for a process() that ends so many calls a second. 1,000 are full."""

    def __init__(self, calls: float) -> None:
        super().__init__()
        self.calls = calls
        self.in_flight = 0.0
        self.pauses = 0
        self.reads: list[int] = []

    def go_on(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now += 0.02
            self.in_flight = max(self.in_flight - 0.02 * self.calls, 0.0)
            records = self.intake.read(self.in_flight / 1000, int(self.in_flight), 0)
            self.in_flight += len(records)
            self.reads += [len(records)] if records else []

    def pause(self, partitions: list[TopicPartition]) -> None:
        super().pause(partitions)
        self.pauses += 1

    def poll(self, _timeout: float) -> Message | None:  # type: ignore[override]
        return None if self.paused else Message()

    def consume(self, most: int, _timeout: float) -> list[Message]:
        return [Message() for _ in range(most)]


@pytest.mark.parametrize("calls", [2, 20, 300, 5_000])
def test_where_process_is_slow_but_not_still_nothing_is_paused_and_no_more_is_read_than_has_room(calls: int) -> None:
    consumer = Slow(calls)
    consumer.go_on(60)
    assert consumer.pauses == 0
    assert consumer.in_flight <= 1000
    assert sum(consumer.reads) >= 1000 + 59 * calls - 20, "as many as end"
    assert len(consumer.reads) <= 60 * max(2, calls / 10), "not a read for each record, where many end"


def test_where_no_call_ends_all_is_paused_and_polling_goes_on() -> None:
    consumer = Slow(0)
    consumer.go_on(60)
    assert consumer.paused == set(PARTITIONS)
    assert consumer.pauses == 1
    assert consumer.in_flight == 1000


def test_where_nothing_moves_what_room_there_is_is_read_into() -> None:
    """In an outage all that was there rested, more than half of memory, and a message that would have succeeded was
    not read.
    """
    consumer = Paused()
    for load in (1.0, 1.0, 0.7):
        consumer.intake.read(load, 100, 0)
        consumer.now += 2 * PAUSE_AFTER
        assert consumer.paused == set(PARTITIONS) or load == 1.0
    assert consumer.paused == set(PARTITIONS), "for a moment it does not: there may be more room soon"
    consumer.now += STANDSTILL
    consumer.intake.read(0.71, 100, 0)
    assert consumer.paused == set(PARTITIONS), "something has moved"
    consumer.now += STANDSTILL + 1
    consumer.intake.read(0.71, 100, 0)
    assert consumer.paused == set()
