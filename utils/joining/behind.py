"""An id that comes again: what waits behind the group of its id while records are read again (rule 5). Pure.

In the step in which a record is superseded it is finished. So if two records of an id and a topic are both unfinished
in the map of a commit, the later one did not supersede the earlier one: that was in a group that was complete (and not
in one that was given up: see leaving.py). All of that group are unfinished, then, and are read again: the first record
of each topic meets the first of the others, the second the second.
"""

from itertools import chain
from operator import itemgetter

from utils.joining.messages import Fragment

Fragments = tuple[Fragment, ...]  # one a topic, in the order of the topics


def has_come_back(fragment: Fragment) -> bool:
    """Whether it may be of a group that was complete before."""
    return fragment.offsets.comes_back(fragment.offset)


def supersede(group: Fragments, old: Fragment, new: Fragment) -> tuple[Fragments, list[Fragment]]:
    """The group with one of the two, which are of one topic, and the other one.

    The newer one stays: `new`, but for a record that had been shed and is read again. The clock does not start anew,
    unless the newer one has come back: it had waited in a group of its own.
    """
    if new.offset < old.offset and new.offsets is old.offsets:
        old, new = new, old
    if not has_come_back(new):
        new.arrival, new.drops = min(old.arrival, new.arrival), min(old.drops, new.drops)
    return tuple([new if each.topic == new.topic else each for each in group]), [old]


class Behind:
    """`parts`: by id and topic, in the order in which they were read, numbered by it. Their topics are among those of
    the group before them.
    """

    __slots__ = ("_in_order", "_number", "parts")

    def __init__(self) -> None:
        self.parts: dict[str, dict[int, list[tuple[int, Fragment]]]] = {}
        self._number = 0
        self._in_order = True  # those of an id come in the order of their offsets

    def put(self, id: str, new: Fragment) -> list[Fragment]:
        """Returns the one that it supersedes, if that is behind the group, too, and has not come back."""
        parts = self.parts.setdefault(id, {}).setdefault(new.topic, [])
        if not parts or has_come_back(parts[-1][1]):
            self._number += 1
            self._in_order &= not parts or parts[-1][1].offset < new.offset
            parts.append((self._number, new))
            return []
        number, last = parts[-1]
        (kept,), replaced = supersede((last,), last, new)
        parts[-1] = number, kept
        return replaced

    def take(self, id: str) -> list[Fragment]:
        """All of this id."""
        return [each for _, each in sorted(chain(*self.parts.pop(id, {}).values()), key=itemgetter(0))]

    def take_first(self, id: str) -> list[Fragment]:
        """The first of each topic: they are the next group. None where that must be found out part by part.

        There may be thousands behind an id: to look at all of them for each group took minutes (measured).
        """
        parts = self.parts.get(id)
        if not parts or not self._in_order or not all(has_come_back(each[0][1]) for each in parts.values()):
            return []
        first = [each.pop(0)[1] for each in parts.values()]
        if left := {topic: each for topic, each in parts.items() if each}:
            self.parts[id] = left
        else:
            del self.parts[id]
        return first

    def clear(self) -> None:
        self.parts.clear()
        self._in_order = True

    def put_into(self, id: str, group: Fragments) -> tuple[Fragments, list[Fragment]]:
        """The group before them with the last of each topic, and what these have superseded."""
        superseded: list[Fragment] = []
        for new in self.take(id):
            old = next(each for each in group if each.topic == new.topic)
            group, replaced = supersede(group, old, new)
            superseded += replaced
        return group, superseded
