"""Which partitions are paused while there is no room, or when the row says so, and that polling goes on."""

from typing import cast

from confluent_kafka import Consumer, TopicPartition

from tests.builders import admin, partition_offsets
from utils.metrics import Counters
from utils.reading.intake import Intake, Waits
from utils.reading.pausing import PAUSE_AFTER

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
        consumer.intake.read(1.0, 0)
        consumer.now += 2 * PAUSE_AFTER
    assert consumer.paused == set(PARTITIONS)
    consumer.intake.pausing.pause_only([PARTITIONS[1]])
    assert consumer.paused == set(PARTITIONS)
    consumer.intake.read(0.0, 0)
    assert consumer.paused == {PARTITIONS[1]}, "there is room again"


def test_when_the_row_says_so_nothing_is_taken_in_at_once_and_polling_goes_on() -> None:
    consumer = Paused()
    consumer.intake.pausing.pause_only([PARTITIONS[0]])
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
