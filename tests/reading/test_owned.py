"""Which of what was read is unfinished."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, cast

import pytest
from confluent_kafka import OFFSET_INVALID, Consumer, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import partition_offsets
from tests.fakes import TOPIC_ID
from utils.joining.offsets import OffsetMap, PartitionOffsets
from utils.joining.states import FINISHED, UNFINISHED, States
from utils.metrics import Counters
from utils.reading.batches import Batch, Record
from utils.reading.owned import LOOK_AT_LEAST_EVERY, OwnedPartitions


class At(NamedTuple):
    """A record, as far as it is looked at."""

    of: tuple[str, int]
    number: int

    def topic(self) -> str:
        return self.of[0]

    def partition(self) -> int:
        return self.of[1]

    def offset(self) -> int:
        return self.number


PARTITIONS = [("a", 0), ("a", 1), ("b", 0)]


class Reading:
    """Owns partitions of which an earlier commit says which of the first offsets are finished."""

    def __init__(self, *maps: bytes) -> None:
        self.counters = Counters()
        self._owned = OwnedPartitions(cast(Consumer, self), self.counters, lambda: 0.0)
        self.owned = {
            at: partition_offsets(0, OffsetMap("", 0, 0, 0, States.of(states)), *at)
            for at, states in zip(PARTITIONS, maps, strict=False)
        }
        self._owned.rebalanced(self.owned.values())

    def read(self, *records: At) -> Batch:
        return self._owned.unfinished(cast("list[Record]", records))

    def read_again(self, *shed: At) -> None:
        """There was no room for these records: reading goes back to the first of each partition."""
        for each in shed:
            self.owned[each.of].drop(each.number, 1)
        self._owned.read_shed_again()

    def seek(self, _where: object) -> None:
        """As of the consumer."""

    @property
    def may_replay(self) -> bool:
        return self._owned.may_replay


def facts(batch: Batch) -> tuple[object, ...]:
    partitions = [(of.topic, of.partition) for of in batch.partitions]
    topics = [("a", "b")[index] for index in batch.topics({"a": 0, "b": 1})]
    assert topics == [topic for topic, _ in partitions]
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
            patch.setattr("utils.reading.batches.RUNS_FROM", 1000)
            batch = few.read(*records)
            patch.setattr("utils.reading.batches.RUNS_FROM", 1)
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
    monkeypatch.setattr("utils.reading.batches.RUNS_FROM", runs_from)
    reading, zero, one, two = Reading(b""), *(At(("a", 0), number) for number in range(3))
    assert reading.read(zero, one, two).is_new
    assert not reading.may_replay, "no record is asked whether it is new"
    reading.read_again(one)
    again = reading.read(one, two, At(("a", 0), 3))
    assert (again.is_new, [*again.offsets]) == (False, [1, 3])
    assert reading.read(At(("a", 0), 4)).is_new


class Positions:
    """A consumer that takes 10 ms to tell positions."""

    def __init__(self) -> None:
        self.now = 0.0
        self.at: dict[tuple[str, int], int] = {}
        self.asked: list[tuple[str, int]] = []

    def position(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        self.now += 0.01
        self.asked = [(each.topic, each.partition) for each in partitions]
        return [TopicPartition(*at, self.at.get(at, OFFSET_INVALID), leader_epoch=7) for at in self.asked]


def test_positions_of_what_was_not_read_are_looked_at_the_more_seldom_the_longer_that_takes() -> None:
    consumer = Positions()
    owned = OwnedPartitions(cast(Consumer, consumer), Counters(), lambda: consumer.now)
    partitions = {at: partition_offsets(0, None, *at) for at in PARTITIONS}
    owned.rebalanced(partitions.values())
    assert owned.note_positions() == 0
    assert consumer.asked == PARTITIONS
    consumer.at = {("a", 1): 1, ("b", 0): 5}  # a marker in b
    owned.unfinished(cast("list[Record]", [At(("a", 1), 0)]))
    assert owned.note_positions() == 0
    assert consumer.asked == [("a", 1)]
    assert partitions["a", 1].epoch == 7
    consumer.now += LOOK_AT_LEAST_EVERY
    assert owned.note_positions() == 5
    assert consumer.asked == PARTITIONS
    assert partitions["b", 0].position == 5
    consumer.at = {}
    owned.rebalanced([partition_offsets(0, None, "c")])
    owned.note_positions()
    assert consumer.asked == [("c", 0)]


# ---------------------------------------------------------------- starts that ended without progress

TOPICS = ("a", "b")


def started(commits: Mapping[str, str]) -> tuple[OwnedPartitions, dict[str, PartitionOffsets]]:
    """A process with a partition of each topic, after these commits, and three records in each that it has not read."""
    owned = OwnedPartitions(cast(Consumer, None), Counters(), lambda: 0.0)
    loaded = {topic: OffsetMap.decode(text, TOPIC_ID, 0) for topic, text in commits.items()}
    offsets = {topic: partition_offsets(0, loaded.get(topic), topic) for topic in TOPICS}
    for each in offsets.values():
        each.log_end = 3
    owned.rebalanced(offsets.values())
    return owned, offsets


def commits(owned: OwnedPartitions, offsets: Mapping[str, PartitionOffsets]) -> dict[str, str]:
    owned.forget_vain_starts()
    return {topic: each.commit_point(0, 0).metadata for topic, each in offsets.items()}


def read_to(end: int, offsets: PartitionOffsets) -> None:
    for offset in range(offsets.position, end):
        offsets.read(offset)


@pytest.mark.parametrize(
    ("happens", "starts"),
    [
        (lambda _: None, 2),
        (lambda offsets: offsets.suspicion.note_called(1), 5),
        (lambda offsets: offsets.suspicion.note_called(1) or offsets.suspicion.note_all_back(), 5),
        (lambda offsets: offsets.drop(1, 1), 5),
        (lambda offsets: offsets.suspicion.begin_batch(1, None), 5),
        (lambda offsets: offsets.suspicion.note_held_back(), 5),
        (lambda offsets: setattr(offsets, "log_end", 4), 5),
    ],
    ids=["nothing", "called", "called, and back", "shed", "others run apart", "held back", "not read to the end"],
)
def test_starts_before_do_not_count_where_all_was_read_and_nothing_was_called(
    happens: Callable[[PartitionOffsets], object], starts: int
) -> None:
    """An order waited for its payment, and after some kills, weeks apart, all messages of the worker ran apart."""
    committed: dict[str, str] = {}
    for _ in range(4):
        owned, offsets = started(committed)
        for each in offsets.values():
            read_to(3, each)
        happens(offsets["a"])
        committed = commits(owned, offsets)
    _, offsets = started(committed)
    assert offsets["a"].suspicion.starts_without_progress == starts


def test_a_message_that_ends_each_process_is_found_whichever_topic_is_read_to_its_end_first() -> None:
    """A commit between the two reads forgot the starts of the first: by turns of one and the other, without an end."""
    committed: dict[str, str] = {}
    for number in range(4):
        owned, offsets = started(committed)
        first, last = TOPICS if number % 2 else reversed(TOPICS)
        read_to(3, offsets[first])
        committed = commits(owned, offsets)
        read_to(3, offsets[last])
        for each in offsets.values():
            each.suspicion.note_called(0)  # and it ends the process
    _, offsets = started(committed)
    assert [each.suspicion.starts_without_progress for each in offsets.values()] == [5, 5]
