"""What was given up and is not safe yet: which later parts of its id supersede it."""

import random

from hypothesis import given
from hypothesis import strategies as st

from tests.builders import partition_offsets
from tests.joining.test_behind import ID, Bench, parts
from utils.joining.aggregator import Aggregator, Enough, Group, size_of
from utils.joining.leaving import Leaving
from utils.joining.messages import Fragment
from utils.joining.offsets import OffsetMap, PartitionOffsets, mark
from utils.joining.states import FINISHED

Part = tuple[int, int]  # topic and offset


def partition(topic: str, number: int = 0) -> PartitionOffsets:
    offsets = partition_offsets(0, topic=topic, partition=number)
    offsets.read_run(range(9))
    return offsets


A, B, C = map(partition, "abc")


def part(topic: int, offset: int, offsets: PartitionOffsets | None = None) -> Fragment:
    return Fragment(topic, offsets or (A, B, C)[topic], offset, b"")


def leaving(**groups: tuple[Fragment, ...]) -> Leaving:
    made = Leaving()
    made.add(Group(id, fragments) for id, fragments in groups.items())
    return made


def superseded(of: Leaving, ids: str, *fragments: Fragment) -> list[Part]:
    return [(each.topic, each.offset) for each in of.superseded(ids, fragments)]


def test_each_later_part_supersedes_those_of_its_topic_alone_and_once() -> None:
    mine = leaving(x=(part(0, 1), part(1, 1)), y=(part(0, 2),))
    assert superseded(mine, "z", part(0, 3)) == []
    assert superseded(mine, "xx", part(2, 0), part(0, 4)) == [(0, 1)]
    assert superseded(mine, "x", part(0, 5)) == []
    assert superseded(mine, "xy", part(1, 2), part(0, 6)) == [(1, 1), (0, 2)]


def test_what_lay_before_it_and_is_read_again_supersedes_nothing() -> None:
    mine = leaving(x=(part(0, 3),))
    assert superseded(mine, "x", part(0, 2)) == []
    assert superseded(mine, "x", part(0, 2, partition("a", 1))) == [(0, 3)], "of another partition all is later"


def test_of_an_id_that_is_given_up_again_and_again_all_are_known_until_they_are_safe() -> None:
    mine = leaving(x=(part(0, 6),))
    mine.add([Group("x", (part(1, 6),)), Group("y", (part(1, 7),))])
    B.finish(7)
    mine.forget_safe()
    assert len(mine) == 1
    assert superseded(mine, "xx", part(0, 8), part(1, 8)) == [(0, 6), (1, 6)]
    mine.clear()
    assert len(mine) == 0


RECORDS, GIVE_UP, SAFE, DONE = range(3), 3, 4, 5  # what happens: a record of a topic comes, and so on


@given(
    topics=st.integers(2, 3),
    steps=st.lists(st.sampled_from([*RECORDS, *RECORDS, GIVE_UP, GIVE_UP, SAFE, DONE]), max_size=30),
    seed=st.integers(0, 1 << 20),
)
def test_what_has_met_meets_again_whatever_was_given_up_before_it_and_is_not_safe(
    topics: int, steps: list[int], seed: int
) -> None:
    """All are of one id. After the last step a commit is made, and another worker goes on from it."""
    owned = [partition_offsets(topic=name) for name in "abc"[:topics]]
    aggregator, mine = Aggregator(topics), Leaving()
    met: list[Group] = []
    given_up: list[Group] = []
    for step in steps:
        if step < topics:
            new = Fragment(step, owned[step], owned[step].position, b"")
            owned[step].read(new.offset)
            mark(mine.superseded([ID], [new]), FINISHED)
            complete, replaced = aggregator.add([ID], [new], size_of([new]))
            mark(replaced, FINISHED)
            met += complete
        elif step == GIVE_UP:
            evicted, _ = aggregator.evict({(topic, 0): Enough(9.0, 9.0) for topic in range(topics)})
            mine.add(evicted)
            given_up += evicted
        elif step in (SAFE, DONE) and (ended := given_up if step == SAFE else met):
            mark(ended.pop(0).fragments, FINISHED)
            mine.forget_safe()

    maps = [OffsetMap("topic-id", 0, 0, 0, offsets.states) for offsets in owned]
    bench = Bench([partition_offsets(0, each) for each in maps])
    left = [[at for at in range(offsets.position) if not offsets.is_finished(at)] for offsets in owned]
    chance = random.Random(seed)
    while some := [topic for topic in range(topics) if left[topic]]:
        bench.read(topic := chance.choice(some), left[topic].pop(0))
    for group in met:
        assert parts(group) in bench.joined
