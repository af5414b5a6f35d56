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


def over_all_partitions(counts: Counts, numbers: Iterable[int]) -> Counts:
    """The sums, for each of these partition numbers: where a missing part may be in any of them."""
    sums = [sum(each) for each in zip(*counts.values(), strict=True)]
    return dict.fromkeys(numbers, sums)


def ahead_of_siblings(counts: Counts) -> set[tuple[int, int]]:
    """Those for which hardly any group waits, beside the ones of their number in other topics.

    Reading them on would only bring more groups that wait for their siblings.
    """
    return {
        (topic, number)
        for number, of_number in counts.items()
        for topic, count in enumerate(of_number)
        if count * FAR_AHEAD <= max(of_number)
    }


def hardly_waited_for(counts: Counts, partitions: Iterable[tuple[int, int]]) -> set[tuple[int, int]]:
    """Those for which hardly any group waits, beside the others of any number.

    Reading them on may bring groups that wait, or complete some. Reading the others makes room for sure.
    """
    most = max(map(max, counts.values()), default=0)
    return {
        (topic, number)
        for topic, number in partitions
        if (counts[number][topic] if number in counts else 0) * FAR_AHEAD <= most
    }
