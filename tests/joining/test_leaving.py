"""What was given up and is not safe yet: which later parts of its id supersede it."""

from tests.builders import partition_offsets
from utils.joining.aggregator import Group
from utils.joining.leaving import Leaving
from utils.joining.messages import Fragment
from utils.joining.offsets import PartitionOffsets

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
