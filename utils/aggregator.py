"""The in-memory dict: groups of fragments that wait for their mates, by id.

Pure: no Kafka, no clock, no logging; `now` is in seconds of whatever clock the caller uses throughout.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from utils.messages import Fragment

FRAGMENT_OVERHEAD = 350
"""Bytes that a waiting fragment costs beside its value: objects, id, dict entry, offsets (measured, CPython 3.11)."""
FAR_AHEAD = 10  # times as many groups must wait for a sibling before a partition counts as ahead
NEVER = float("-inf")


class Group(msgspec.Struct, gc=False):
    """The fragments of an id that have arrived; `arrival` is that of the first one."""

    id: str
    arrival: float
    fragments: tuple[Fragment, ...]
    bytes: int = 0  # of memory

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

    def add(self, id: str, fragment: Fragment, arrival: float) -> tuple[Group | None, Fragment | None]:
        """Returns the group that this fragment completes, and the fragment that it supersedes, if any."""
        size = len(fragment.value) + FRAGMENT_OVERHEAD
        if self._topics == 1:
            return Group(id, arrival, (fragment,), size), None
        group = self._waiting.get(id)
        if group is None:
            if not self._waiting:
                self._in_order = True
            elif arrival < self._newest:
                self._in_order = False
            self._newest = arrival
            self._waiting[id] = Group(id, arrival, (fragment,), size)
            self.bytes += size
            return None, None
        superseded = None
        for other in group.fragments:
            if other.topic == fragment.topic:
                superseded = other
        if superseded:
            size -= len(superseded.value) + FRAGMENT_OVERHEAD
            group.fragments = tuple([each for each in group.fragments if each is not superseded])
        if arrival < group.arrival:
            group.arrival, self._in_order = arrival, False
        group.fragments += (fragment,)
        group.bytes += size
        self.bytes += size
        if len(group.fragments) < self._topics:
            return None, superseded
        self._remove(group)
        return group, superseded

    def waits(self, id: str) -> bool:
        return self._topics == 1 or id in self._waiting

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

    def evict(self, arrived_by: Mapping[tuple[int, int], float]) -> list[Group]:
        """Gives up, and returns, the groups that have waited long enough for every topic that they lack.

        `arrived_by`: for (topic, partition number), the arrival up to which a group need not wait for it any longer.
        """
        latest = max(arrived_by.values(), default=NEVER)
        evicted = []
        for group in self._waiting.values():
            if group.arrival > latest:
                if self._in_order:
                    break
            elif group.arrival <= min(
                [arrived_by.get((topic, group.partition), NEVER) for topic in self.missing(group)]
            ):
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


@dataclass(slots=True)
class Pass:
    """One reading of the log from the lowest record for which there was no room up to its end."""

    began: float
    ended: float | None = None

    def is_stuck(self, now: float, read_through: float) -> bool:
        """Whether it has ended, by `read_through`, and has made no room for as long as it took.

        What waits then may lack mates that were dropped before it came: it must make room and be read again after them.
        """
        if self.ended is None and read_through >= self.began:
            self.ended = now
        return self.ended is not None and now - self.ended >= self.ended - self.began


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
