"""Which partitions are ahead of their siblings: hardly any group waits for them. Pure.

A partition is told here by the index of its topic, and its number.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

FAR_AHEAD = 10  # times as many groups must wait for a sibling before a partition counts as ahead

Counts = Mapping[int, Sequence[int]]
"""By partition number: how many groups lack a fragment of each topic."""


class WaitedFor(NamedTuple):
    """What the groups lack."""

    counts: Counts
    present: float
    """How many fragments they have, of those that they may have before they are complete: all but the last of each."""
    stands_for: int = 1
    """How many groups each of those stands for that were counted."""


def over_all_partitions(counts: Counts, numbers: Iterable[int]) -> Counts:
    """The sums, for each of these partition numbers: where a missing part may be in any of them."""
    sums = [sum(each) for each in zip(*counts.values(), strict=True)]
    return dict.fromkeys(numbers, sums)


def worth_waiting_for(counts: Counts, unread: Mapping[tuple[int, int], int], stands_for: int = 1) -> Counts:
    """As `counts`, without the groups that lack what is not there: of a partition that has hardly anything left to be
    read. Nobody need wait until that has been read.

    `unread`: how many records each may still hold; any number where that is not told. `stands_for`: see WaitedFor.
    """
    return {
        number: [
            count if unread.get((topic, number), count * stands_for) * FAR_AHEAD >= count * stands_for else 0
            for topic, count in enumerate(of_number)
        ]
        for number, of_number in counts.items()
    }


def ahead_of_siblings(counts: Counts, worth: Counts) -> set[tuple[int, int]]:
    """Those for which hardly any group waits, beside the ones of their number in other topics. `worth`: see above.

    Reading them on would only bring more groups that wait for their siblings.
    """
    return {
        (topic, number)
        for number, of_number in counts.items()
        for topic, count in enumerate(of_number)
        if count * FAR_AHEAD <= max(worth[number]) > 0
    }


def hardly_waited_for(counts: Counts, worth: Counts, partitions: Iterable[tuple[int, int]]) -> set[tuple[int, int]]:
    """Those for which hardly any group waits, beside the others of any number.

    Reading them on may bring groups that wait, or complete some. Reading the others makes room for sure.
    """
    most = max(map(max, worth.values()), default=0)
    if counts and not most:
        return set()
    return {
        (topic, number)
        for topic, number in partitions
        if (counts[number][topic] if number in counts else 0) * FAR_AHEAD <= most
    }
