"""Groups that were given up, until that is safe: so long they are superseded as groups that wait are (rule 5). Pure.

A dead letter takes its time, and until then the map of each commit says "unfinished". If the id comes again meanwhile,
and meets its parts, the map must not hold both: the next owner could not tell which parts have met.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from utils.joining.aggregator import Group
from utils.joining.messages import Fragment
from utils.joining.offsets import PartitionOffsets


class Left(NamedTuple):
    """Where a part of such a group stands: what was in it is of no interest."""

    topic: int
    offsets: PartitionOffsets
    offset: int

    @property
    def is_safe(self) -> bool:
        return self.offsets.is_finished(self.offset)

    def is_superseded_by(self, new: Fragment) -> bool:
        """Not by one that was shed before it came, and is read again."""
        is_earlier = new.offset < self.offset and new.offsets is self.offsets
        return new.topic == self.topic and not is_earlier


class Leaving:
    """By id."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: dict[str, list[Left]] = {}

    def __len__(self) -> int:
        return len(self._parts)

    def add(self, groups: Iterable[Group]) -> None:
        for group in groups:
            left = [Left(each.topic, each.offsets, each.offset) for each in group.fragments]
            self._parts.setdefault(group.id, []).extend(left)

    def superseded(self, ids: Sequence[str], fragments: Sequence[Fragment]) -> list[Left]:
        """The parts that are superseded by these fragments. Told once."""
        parts = self._parts
        if not parts or parts.keys().isdisjoint(ids):
            return []
        superseded: list[Left] = []
        for id, new in zip(ids, fragments, strict=True):
            if found := [each for each in parts.get(id, ()) if each.is_superseded_by(new)]:
                superseded += found
                parts[id] = [each for each in parts[id] if each not in found]
        return superseded

    def forget_safe(self) -> None:
        self._parts = {id: left for id, parts in self._parts.items() if (left := [e for e in parts if not e.is_safe])}

    def clear(self) -> None:
        self._parts.clear()
