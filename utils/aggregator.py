"""The in-memory dict: groups of fragments that wait for their mates, by id.

Pure: no Kafka, no clock, no logging; `now` is in seconds of whatever clock the caller uses throughout.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from operator import attrgetter
from typing import NamedTuple

import msgspec

from utils.messages import Fragment, Headers

FRAGMENT_OVERHEAD = 350
"""Bytes that a waiting fragment costs beside its value: objects, id, dict entry, offsets (measured, CPython 3.11)."""
HEADER_OVERHEAD = 200
"""Bytes that a header of a waiting fragment costs beside its name and value: tuple, objects, place in the list."""
FAR_AHEAD = 10  # times as many groups must wait for a sibling before a partition counts as ahead
NEVER = float("-inf")


class Group(msgspec.Struct, gc=False):
    """The fragments of an id that have arrived; `arrival` is that of the first one, also over a restart."""

    id: str
    arrival: float
    fragments: tuple[Fragment, ...]
    bytes: int = 0  # of memory
    opened: int = -1  # how many records had been dropped when it came into memory

    @property
    def partition(self) -> int:
        """The partition number that its fragments came from (that of the first one, where they differ)."""
        return self.fragments[0].offsets.partition


class Aggregator:
    """Joins fragments by id. A group is complete when each of `topics` topics has given a fragment."""

    def __init__(self, topics: int) -> None:
        self._topics = topics
        self._waiting: dict[str, Group] = {}
        self._newest = NEVER
        self._in_order = True  # of arrival; a fragment that is read again after a restart may be older than the last
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(
        self, ids: Iterable[str], fragments: Iterable[Fragment], arrivals: Iterable[float], opened: int = -1
    ) -> tuple[list[Group], list[Fragment]]:
        """Adds each fragment to the group of its id; returns the groups that are complete now, and what was superseded.

        `arrivals`: of the fragments, perhaps in the life of an earlier process; `opened`: how many records were dropped
        so far.
        """
        if self._topics == 1:
            return list(map(_alone, ids, fragments, arrivals)), []
        complete: list[Group] = []
        superseded: list[Fragment] = []
        waiting, topics, newest, more = self._waiting, self._topics, self._newest, 0
        for id, fragment, arrival in zip(ids, fragments, arrivals, strict=False):  # the arrivals may be endless
            size = len(fragment.value) + FRAGMENT_OVERHEAD
            if fragment.headers:
                size += _size_of_headers(fragment.headers)
            group = waiting.get(id)
            if group is None:
                if not waiting or arrival < newest:
                    self._in_order = not waiting
                newest = arrival
                waiting[id] = Group(id, arrival, (fragment,), size, opened)
                more += size
                continue
            for other in group.fragments:
                if other.topic == fragment.topic:
                    group.fragments = tuple([each for each in group.fragments if each is not other])
                    size -= size_of((other,))
                    if fragment.offset < other.offset and fragment.offsets is other.offsets:  # was shed, read again
                        fragment, other, size = other, fragment, 0
                    superseded.append(other)
            if arrival < group.arrival:
                group.arrival, self._in_order = arrival, False
            fragments_now = group.fragments = (*group.fragments, fragment)
            group.bytes += size
            more += size
            if len(fragments_now) == topics:
                del waiting[id]
                more -= group.bytes
                complete.append(group)
        self._newest = newest
        self.bytes += more
        return complete, superseded

    def waits(self, id: str) -> bool:
        return self._topics == 1 or id in self._waiting

    def get(self, id: str) -> Group | None:
        return self._waiting.get(id)

    def oldest(self, number: int) -> list[Group]:
        """That many of those that have waited longest, oldest first; soon after a restart only nearly so."""
        return sorted(islice(self._waiting.values(), number), key=attrgetter("arrival"))

    def shed(self, down_to: int, *, keep: str = "") -> list[Group]:
        """Drops the newest groups, but `keep`, until no more than that many bytes are left; returns them."""
        dropped = []
        while self.bytes > down_to and len(self._waiting) > 1:
            newest = self._waiting.popitem()[1]
            if newest.id == keep:
                second = self._waiting.popitem()[1]
                self._waiting[keep] = newest
                newest = second
            self.bytes -= newest.bytes
            dropped.append(newest)
        return dropped

    def oldest_arrival(self) -> float | None:
        """When the group that has waited longest was opened; soon after a restart perhaps somewhat later."""
        return next((group.arrival for group in self._waiting.values()), None)

    def has_waited_since(self, arrived_by: float) -> bool:
        """Whether a group's first fragment arrived by that time."""
        for group in self._waiting.values():
            if group.arrival <= arrived_by:
                return True
            if self._in_order:
                break
        return False

    def evict(self, enough: Mapping[tuple[int, int], "Enough"]) -> list[Group]:
        """Gives up, and returns, the groups that have waited long enough for every topic that they lack.

        `enough`: for each (topic, partition number).
        """
        latest = max((each.arrived_by for each in enough.values()), default=NEVER)
        evicted = []
        for group in self._waiting.values():
            if group.arrival > latest:
                if self._in_order:
                    break
            elif all(_is_enough(enough.get((topic, group.partition)), group) for topic in self.missing(group)):
                evicted.append(group)
        for group in evicted:
            self._remove(group)
        return evicted

    def missing(self, group: Group) -> list[int]:
        """The indexes of the topics that have given no fragment."""
        arrived = {fragment.topic for fragment in group.fragments}
        return [topic for topic in range(self._topics) if topic not in arrived]

    def waited_for(self) -> dict[int, list[int]]:
        """By partition number: how many groups lack a fragment of each topic. Walks all groups."""
        lacking: dict[int, list[int]] = {}
        for group in self._waiting.values():
            counts = lacking.setdefault(group.partition, [0] * self._topics)
            for topic in self.missing(group):
                counts[topic] += 1
        return lacking

    def clear(self) -> None:
        self._waiting.clear()
        self._newest, self._in_order = NEVER, True
        self.bytes = 0

    def _remove(self, group: Group) -> None:
        del self._waiting[group.id]
        self.bytes -= group.bytes


def size_of(fragments: Sequence[Fragment]) -> int:
    """Bytes of memory that these fragments take while they wait."""
    headers = sum([_size_of_headers(each.headers) for each in fragments if each.headers])
    return headers + sum([len(each.value) + FRAGMENT_OVERHEAD for each in fragments])


def _size_of_headers(headers: Headers) -> int:
    return sum([len(name) + len(value or b"") + HEADER_OVERHEAD for name, value in headers])


def _alone(id: str, fragment: Fragment, arrival: float) -> Group:
    headers = _size_of_headers(fragment.headers) if fragment.headers else 0
    return Group(id, arrival, (fragment,), len(fragment.value) + FRAGMENT_OVERHEAD + headers)


def _is_enough(enough: "Enough | None", group: Group) -> bool:
    return enough is not None and group.arrival <= enough.arrived_by and group.opened < enough.first_drop


class Enough(NamedTuple):
    """Which groups need not wait for a partition any longer: arrived by a time, in memory since before a drop."""

    arrived_by: float
    first_drop: float


def over_all_partitions(waited_for: Mapping[int, Sequence[int]], numbers: Iterable[int]) -> dict[int, list[int]]:
    """The sums, for each of these partition numbers: where a mate may be in any of them."""
    sums = [sum(counts) for counts in zip(*waited_for.values(), strict=True)]
    return dict.fromkeys(numbers, sums)


def ahead_of_siblings(waited_for: Mapping[int, Sequence[int]]) -> set[tuple[int, int]]:
    """Of what `Aggregator.waited_for` gives: the (topic, partition number) for which hardly any group waits.

    Reading them on would only bring more groups that wait for their siblings.
    """
    return {
        (topic, number)
        for number, counts in waited_for.items()
        for topic, count in enumerate(counts)
        if count * FAR_AHEAD <= max(counts)
    }
