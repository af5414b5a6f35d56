"""The in-memory dict: groups of fragments that wait for their mates, by id.

Pure: no Kafka, no clock, no logging; `now` is in seconds of whatever clock the caller uses throughout.
"""

from collections.abc import Iterator

import msgspec

from utils.messages import Fragment

FRAGMENT_OVERHEAD = 350
"""Bytes that a waiting fragment costs beside its value: objects, id, dict entry, offsets (measured, CPython 3.11)."""


class Group(msgspec.Struct, gc=False):
    """The fragments of an id that have arrived; `arrival` is that of the first one."""

    id: str
    arrival: float
    fragments: tuple[Fragment, ...]


class Aggregator:
    """Joins fragments by id. A group is complete when each of `topics` topics has given a fragment."""

    def __init__(self, topics: int) -> None:
        self._topics = topics
        self._waiting: dict[str, Group] = {}
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, id: str, fragment: Fragment, arrival: float) -> tuple[Group | None, Fragment | None]:
        """Returns the group that this fragment completes, and the fragment that it supersedes, if any."""
        if self._topics == 1:
            return Group(id, arrival, (fragment,)), None
        group = self._waiting.get(id)
        if group is None:
            self._waiting[id] = Group(id, arrival, (fragment,))
            self.bytes += len(fragment.value) + FRAGMENT_OVERHEAD
            return None, None
        superseded = None
        for other in group.fragments:
            if other.topic == fragment.topic:
                superseded = other
                self._drop(group, other)
        group.fragments += (fragment,)
        self.bytes += len(fragment.value) + FRAGMENT_OVERHEAD
        if len(group.fragments) < self._topics:
            return None, superseded
        self._remove(group)
        return group, superseded

    def oldest_arrival(self) -> float | None:
        """When the group that has waited longest was opened."""
        return next((group.arrival for group in self._waiting.values()), None)

    def evict(self, before: float) -> list[Group]:
        """Gives up, and returns, the groups whose first fragment arrived before that time."""
        evicted = []
        for group in self._waiting.values():
            if group.arrival >= before:
                break
            evicted.append(group)
        for group in evicted:
            self._remove(group)
        return evicted

    def missing(self, group: Group) -> Iterator[int]:
        """The indexes of the topics that have given no fragment."""
        arrived = {fragment.topic for fragment in group.fragments}
        return (topic for topic in range(self._topics) if topic not in arrived)

    def clear(self) -> None:
        self._waiting.clear()
        self.bytes = 0

    def _remove(self, group: Group) -> None:
        del self._waiting[group.id]
        for fragment in group.fragments:
            self.bytes -= len(fragment.value) + FRAGMENT_OVERHEAD

    def _drop(self, group: Group, superseded: Fragment) -> None:
        group.fragments = tuple(each for each in group.fragments if each is not superseded)
        self.bytes -= len(superseded.value) + FRAGMENT_OVERHEAD
