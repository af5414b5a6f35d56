"""What waits of two topics of one partition, with a consumer that notes where it was sought to."""

from typing import Any, cast

from confluent_kafka import Consumer

from tests.builders import admin, partition_offsets
from tests.fakes import TOPIC_ID, FakeConsumer
from tests.reading.feeds import know_to_be_together
from utils.joining.aggregator import Aggregator, size_of
from utils.joining.messages import Fragment
from utils.joining.offsets import OffsetMap
from utils.joining.states import UNFINISHED, States
from utils.metrics import Counters
from utils.reading.going_back import LOOK_EVERY
from utils.reading.intake import Intake
from utils.reading.waiting import Waiting

A, B = ("a", 0), ("b", 0)
VALUE = b"x" * 100
ONE = size_of([Fragment(0, cast(Any, None), 0, VALUE)])


def of(fragments: float) -> bytes:
    """The value of a record that takes as much memory as so many of the others."""
    return bytes(int(fragments * ONE) - ONE + len(VALUE))


class Bench:
    """Room for `room` fragments; `end` records in each topic."""

    def __init__(self, room: int, end: int, topics: str = "ab", partitions: int = 1, known: int = 0) -> None:
        """`known`: so many of the records are unfinished in the maps that were loaded."""
        self.consumer = FakeConsumer()
        self.now = 0.0
        self.topics = topics
        self.aggregator = Aggregator(len(topics))
        self.joined: list[tuple[int, ...]] = []  # the offsets of each group, in the order of their topics
        ends = admin(lambda _at: end)
        self.counters = Counters()
        self.intake = Intake(cast(Consumer, self.consumer), self.counters, ends, lambda: self.now)
        loaded = OffsetMap(TOPIC_ID, 0, 0, 0, States.of([UNFINISHED] * known))
        owned = [partition_offsets(0, loaded, topic, number) for number in range(partitions) for topic in topics]
        self.offsets = {offsets.topic: offsets for offsets in owned[: len(topics)]}
        self.intake.rebalanced(owned)
        know_to_be_together(self.intake)
        index = {topic: at for at, topic in enumerate(topics)}
        self.waiting = Waiting(self.aggregator, self.intake, index, room * ONE, self.counters)

    def read(self, topic: str, ids: str, first: int = 0, value: bytes = VALUE) -> str:
        """Records of these ids, a letter each, from that offset on; the ids that were completed."""
        fragments = []
        wanted = []
        for offset, id in enumerate(ids, first):
            offsets = self.offsets[topic]
            arrival = self.now if offsets.is_new(offset) else offsets.first_arrival(offset, 0.0, epoch=0.0)
            if not offsets.is_new(offset):
                self.waiting.arrived_before(arrival)
            if offsets.read(offset):
                fragments.append(Fragment(self.topics.index(topic), offsets, offset, value, arrival=arrival))
                wanted.append(id)
        complete = self.waiting.add(wanted, fragments, self.now)
        self.joined += [tuple(each.offset for each in group.fragments) for group in complete]
        return "".join(group.id for group in complete)

    def balance(self, seconds: float = LOOK_EVERY, parked: int = 0) -> list[tuple[str, int]]:
        """Where reading was set back to."""
        self.consumer.seeks.clear()
        self.now += seconds
        self.waiting.balance(self.now, parked)
        return self.consumer.seeks
