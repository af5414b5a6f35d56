"""An id comes again, and is read again: what was complete meets the same parts, what waited is superseded as before."""

import random
from dataclasses import dataclass, field
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import partition_offsets
from utils.joining.aggregator import Aggregator, Enough, Group, size_of
from utils.joining.messages import Fragment
from utils.joining.offsets import OffsetMap, PartitionOffsets
from utils.joining.states import FINISHED, UNFINISHED, States

Part = tuple[int, int]  # topic and offset
ID = "1"


def unfinished(*offsets: int) -> PartitionOffsets:
    """Of a partition whose last commit said so of these, and that all others up to the last were finished."""
    states = States.of(UNFINISHED if each in offsets else FINISHED for each in range(max(offsets, default=-1) + 1))
    return partition_offsets(0, OffsetMap("topic-id", 0, 0, 0, states))


def parts(group: Group) -> list[Part]:
    return [(each.topic, each.offset) for each in group.fragments]


@dataclass
class Bench:
    """`offsets`: by topic."""

    offsets: list[PartitionOffsets]
    joined: list[list[Part]] = field(default_factory=list)
    superseded: list[Part] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.aggregator = Aggregator(len(self.offsets))
        self.aggregator.keeps_apart = True

    def read(self, topic: int, offset: int, arrival: float = 0.0) -> None:
        fragment = Fragment(topic, self.offsets[topic], offset, b"", arrival=arrival)
        complete, superseded = self.aggregator.add([ID], [fragment], size_of([fragment]))
        self.joined += map(parts, complete)
        self._note(superseded)

    def settle(self) -> None:
        self._note(self.aggregator.settle())

    def evict(self) -> list[list[Part]]:
        evicted, superseded = self.aggregator.evict({(topic, 0): Enough(9.0, 9.0) for topic in range(9)})
        self._note(superseded)
        return [*map(parts, evicted)]

    def _note(self, superseded: list[Fragment]) -> None:
        self.superseded += [(each.topic, each.offset) for each in superseded]

    @property
    def waiting(self) -> list[Part]:
        group = self.aggregator.get(ID)
        return parts(group) if group else []


def test_what_was_complete_meets_the_same_part_again_though_a_second_one_of_its_id_is_read_first() -> None:
    bench = Bench([unfinished(0, 1), unfinished(0)])
    bench.read(0, 0)
    bench.read(0, 1)
    bench.read(1, 0)
    assert (bench.joined, bench.waiting) == ([[(0, 0), (1, 0)]], [(0, 1)])
    bench.read(1, 1)
    assert bench.joined[1:] == [[(0, 1), (1, 1)]]
    assert (bench.superseded, bench.aggregator.bytes) == ([], 0)


def test_what_is_new_supersedes_what_waits_but_not_before_the_parts_that_it_may_have_met_were_read() -> None:
    bench = Bench([unfinished(0, 1), unfinished(0)])
    for topic, offset in ((0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)):
        bench.read(topic, offset)
    assert bench.joined == [[(0, 0), (1, 0)], [(0, 3), (1, 1)]]
    assert sorted(bench.superseded) == [(0, 1), (0, 2)]


def test_a_new_part_is_for_the_last_one_where_those_before_had_none() -> None:
    """They had been shed, for example, before they met any."""
    bench = Bench([unfinished(0, 1, 2), unfinished()])
    for topic, offset in ((0, 0), (0, 1), (0, 2), (1, 0)):
        bench.read(topic, offset)
    assert bench.joined == [[(0, 2), (1, 0)]]
    assert (bench.superseded, bench.aggregator.bytes) == ([(0, 0), (0, 1)], 0)


def test_when_all_was_read_again_only_the_last_one_waits_since_it_came() -> None:
    bench = Bench([unfinished(0, 1), unfinished()])
    bench.read(0, 0, arrival=1.0)
    bench.read(0, 1, arrival=5.0)
    before = bench.aggregator.bytes
    bench.settle()
    assert (bench.superseded, bench.waiting) == ([(0, 0)], [(0, 1)])
    assert bench.aggregator.bytes == before // 2
    assert bench.aggregator.oldest_arrival() == 5.0
    bench.read(0, 2, arrival=7.0)
    assert (bench.superseded[1:], bench.waiting) == ([(0, 1)], [(0, 2)])
    assert bench.aggregator.oldest_arrival() == 5.0


def test_given_up_is_the_last_one_and_by_its_own_time() -> None:
    bench = Bench([unfinished(0, 1), unfinished()])
    bench.read(0, 0, arrival=1.0)
    bench.read(0, 1, arrival=8.0)
    assert bench.evict() == []
    assert bench.superseded == [(0, 0)]
    assert bench.evict() == [[(0, 1)]]
    assert bench.aggregator.bytes == 0


@pytest.mark.parametrize("how", ["take", "shed"])
def test_what_waits_behind_leaves_memory_with_its_group(how: str) -> None:
    bench = Bench([unfinished(0, 1), unfinished()])
    other = Fragment(0, bench.offsets[0], 9, b"")
    bench.aggregator.add(["other"], [other], size_of([other]))
    bench.read(0, 0)
    bench.read(0, 1)
    left = bench.aggregator.take(ID) if how == "take" else bench.aggregator.shed(0)
    assert [*map(parts, left)] == [[(0, 0), (0, 1)]]
    assert bench.aggregator.bytes == size_of([other])
    bench.read(1, 0)
    assert bench.joined == []


@given(
    topics=st.integers(2, 3),
    arrivals=st.lists(st.integers(0, 2), max_size=14),
    stopped=st.integers(0, 14),
    done=st.integers(0, 4),
    seed=st.integers(0, 1 << 20),
    is_late=st.booleans(),
)
def test_read_again_in_any_order_an_id_is_joined_as_without_the_stop(
    topics: int, arrivals: list[int], stopped: int, done: int, seed: int, is_late: bool
) -> None:
    """Some of the groups that were complete by then are finished: the first ones. `is_late`: what is new is read when
    all that is known has been. Else it may meet what it would not have met, but never what was complete."""
    feed = [each % topics for each in arrivals]
    events = [(topic, feed[:at].count(topic)) for at, topic in enumerate(feed)]
    undisturbed = Bench([unfinished() for _ in range(topics)])
    undisturbed.settle()
    for topic, offset in events[:stopped]:
        undisturbed.read(topic, offset)
    were_complete = undisturbed.joined[done:]
    known = sorted([*chain.from_iterable(were_complete), *undisturbed.waiting])
    before = len(undisturbed.joined) - len(were_complete), len(undisturbed.superseded)
    for topic, offset in events[stopped:]:
        undisturbed.read(topic, offset)

    bench = Bench([unfinished(*[offset for of, offset in known if of == topic]) for topic in range(topics)])
    chance, new = random.Random(seed), events[stopped:]
    while known or new:
        if not known and bench.aggregator.keeps_apart:
            bench.settle()
        firsts = {topic: (topic, offset) for topic, offset in reversed(known)}
        may_be_new = bool(new) and (not known if is_late else new[0][0] not in firsts)
        part = chance.choice([*firsts.values(), *new[:may_be_new]])
        (known if part in known else new).remove(part)
        bench.read(*part)
    bench.settle()
    assert bench.joined[: len(were_complete)] == were_complete
    if is_late:
        assert bench.joined == undisturbed.joined[before[0] :]
        assert bench.waiting == undisturbed.waiting
        assert sorted(bench.superseded) == sorted(undisturbed.superseded[before[1] :])
        assert bench.aggregator.bytes == undisturbed.aggregator.bytes


def test_thousands_behind_an_id_are_not_looked_at_for_each_group() -> None:
    """8,000 pairs of one id, which were in process() when the worker ended: the loop stood still for a minute."""
    looks, many = 0, 1_000

    class Counted(PartitionOffsets):
        def comes_back(self, offset: int) -> bool:
            nonlocal looks
            looks += 1
            return True

    bench = Bench([Counted("a", 0, partition_offsets(0).layout, 0), Counted("b", 0, partition_offsets(0).layout, 0)])
    for topic in (0, 1):
        for offset in range(many):
            bench.read(topic, offset)
    assert bench.joined == [[(0, offset), (1, offset)] for offset in range(many)]
    assert looks < 10 * many
