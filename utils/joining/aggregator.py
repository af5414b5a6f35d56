"""The in-memory dict: groups of fragments that wait for the other fragments of their id.

Pure: no Kafka, no clock, no logging; `now` is in seconds of whatever clock the caller uses throughout.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from heapq import nsmallest
from itertools import count, islice
from operator import attrgetter
from typing import NamedTuple

import msgspec

from utils.joining.ahead import WaitedFor
from utils.joining.behind import Behind, Fragments, has_come_back, supersede
from utils.joining.messages import Fragment

FRAGMENT_OVERHEAD = 350
"""Bytes that a waiting fragment costs beside its value: objects, id, dict entry, offsets (measured, CPython 3.11)."""
HEADER_OVERHEAD = 200
"""Bytes that a header of a waiting fragment costs beside its name and value: tuple, objects, place in the list."""
SAMPLE = 4_000  # groups that are counted: 2 ms, and 10 ns for each of the others (measured)
NEVER, FOREVER = float("-inf"), float("inf")


class Group(msgspec.Struct, frozen=True, gc=False):
    """The fragments of an id that have arrived, one a topic, in the order of the topics."""

    id: str
    fragments: tuple[Fragment, ...]
    bytes: int = 0  # of memory

    @property
    def partition(self) -> int:
        """The partition number that its fragments came from (that of the first one, where they differ)."""
        return self.fragments[0].offsets.partition

    @property
    def arrival(self) -> float:
        """When the first of its fragments arrived. A restart does not change it."""
        return _arrival(self.fragments)

    @property
    def drops(self) -> int:
        """How many records had been dropped when it came into memory."""
        return _drops(self.fragments)


class Aggregator:
    """Joins fragments by id. A group is complete when each of `topics` topics has given a fragment.

    `keeps_apart`: records are being read again, and a part that a group lacks may be among them (rule 5).
    """

    def __init__(self, topics: int) -> None:
        self._topics = topics
        self.keeps_apart = False
        self._by_id: dict[str, Fragments] = {}
        self._behind = Behind()  # of ids in `_by_id` only
        self._earliest: float | None = None  # no group arrived before it; None: they stand in the order of arrival
        self._more_are_due = False  # the last eviction has given up as many as it was allowed to
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, ids: Sequence[str], fragments: Sequence[Fragment], size: int) -> tuple[list[Group], list[Fragment]]:
        """Adds each fragment to the group of its id; returns the groups that are complete now, and what was superseded.

        `size`: `size_of(fragments)`. Unless `disorder()` was called, none has arrived earlier than those that wait.
        """
        if self._topics == 1:
            return [_group(id, one) for id, one in zip(ids, zip(fragments, strict=True), strict=True)], []
        complete: list[Group] = []
        superseded: list[Fragment] = []
        waiting, topics, behind = self._by_id, self._topics, self._behind.parts
        join = waiting.setdefault
        for id, one in zip(ids, zip(fragments, strict=True), strict=True):
            others = join(id, one)
            if others is one:
                continue
            topic = one[0].topic
            if topic > others[-1].topic and not behind:
                together = others + one
            elif topic < others[0].topic and not behind:
                together = one + others
            else:
                together, replaced = self._put_in(id, others, one[0])
                superseded += replaced
                size -= size_of(replaced)
            if len(together) < topics:
                waiting[id] = together
                continue
            del waiting[id]
            complete.append(_group(id, together))
            if behind:
                replaced = self._open_next(id)
                superseded += replaced
                size -= size_of(replaced)
        size -= sum([group.bytes for group in complete])
        self.bytes += size
        return complete, superseded

    def disorder(self, earliest: float) -> None:
        """What is added next is read again. None of it arrived before `earliest`, but some before groups that wait."""
        before = self.oldest_arrival() if self._earliest is None else self._earliest
        self._earliest = earliest if before is None else min(before, earliest)

    def waits(self, id: str) -> bool:
        return self._topics == 1 or id in self._by_id

    def get(self, id: str) -> Group | None:
        fragments = self._by_id.get(id)
        return _group(id, fragments) if fragments else None

    def oldest(self, number: int) -> list[Group]:
        """So many groups that have waited longest, the oldest first. Cheap; soon after a restart only roughly right."""
        groups = [_group(id, fragments) for id, fragments in islice(self._by_id.items(), number)]
        return sorted(groups, key=attrgetter("arrival"))

    def longest(self, number: int) -> list[Group]:
        """So many groups that have waited longest, the oldest first. While they do not stand in order it looks at all:
        too slow for each turn of the loop, but not for the status page.
        """
        if self._earliest is None:
            return self.oldest(number)
        arrivals = zip(map(_arrival, self._by_id.values()), count(), self._by_id)
        return [_group(id, self._by_id[id]) for _, _, id in nsmallest(number, arrivals)]

    def shed(self, down_to: int, *, added: str = "") -> list[Group]:
        """Drops the newest groups until no more than so many bytes, or one group, are left. Returns what was dropped.

        The newest is the one that came into memory last. But the group of the id `added` may have been read again: it
        is dropped before the next newest only if it did not arrive before that one.
        """
        dropped = []
        waiting = self._by_id
        while self.bytes > down_to and len(waiting) > 1:
            newest = waiting.popitem()  # by its key each would be found behind the places of those before it
            if newest[0] == added:
                second = waiting.popitem()
                newest, stays = (second, newest) if _arrival(newest[1]) < _arrival(second[1]) else (newest, second)
                waiting[stays[0]] = stays[1]
            dropped.append(self._out_of_memory(*newest))
        return dropped

    def take(self, id: str) -> list[Group]:
        """All that waits of this id, out of memory: as one group, if there is any."""
        return [self._out_of_memory(id, self._by_id.pop(id))] if id in self._by_id else []

    def settle(self) -> list[Fragment]:
        """All that groups may lack has been read again: what waits behind them supersedes. Returns what it replaces."""
        self.keeps_apart = False
        return [each for id in [*self._behind.parts] for each in self._settle(id)]

    def oldest_arrival(self) -> float | None:
        """When the group that has waited longest arrived; soon after a restart perhaps somewhat later."""
        return next((_arrival(fragments) for fragments in self._by_id.values()), None)

    def has_waited_since(self, arrived_by: float) -> bool:
        """Whether a group arrived by that time. Also notes when the groups stand in order again."""
        if self._more_are_due:  # to look at all of many for each thousand of them kept no pace with what came
            return True
        if self._earliest is not None and self._earliest <= arrived_by:
            arrivals = list(map(_arrival, self._by_id.values()))
            self._earliest = None if arrivals == sorted(arrivals) else min(arrivals)
        oldest = self.oldest_arrival() if self._earliest is None else self._earliest
        return oldest is not None and oldest <= arrived_by

    def evict(
        self, enough: Mapping[tuple[int, int], "Enough"], most: int = 1 << 62
    ) -> tuple[list[Group], list[Fragment]]:
        """Gives up the groups that have waited long enough for every topic that they lack, at most `most`. Returns
        them, and what is superseded: where something waits behind such a group, that replaces its parts instead.

        `enough`: for each (topic, partition number).
        """
        latest = max((each.arrived_by for each in enough.values()), default=NEVER)
        evicted: list[Group] = []
        replaced: list[Fragment] = []
        of_kind: dict[tuple[int, ...], Enough] = {}
        for id, fragments in self._by_id.items():
            arrival = _arrival(fragments)
            if arrival > latest:
                if self._earliest is None:
                    break
                continue
            if (kind := _kind(fragments)) not in of_kind:
                of_kind[kind] = self._enough_of(kind, enough)
            needed = of_kind[kind]
            if arrival > needed.arrived_by or _drops(fragments) >= needed.first_drop:
                continue
            if id in self._behind.parts:  # the next call looks at the new group
                replaced += self._settle(id)
            else:
                evicted.append(_group(id, fragments))
                if len(evicted) == most:
                    break
        for group in evicted:
            self._remove(group)
        self._more_are_due = len(evicted) == most
        return evicted, replaced

    def missing(self, group: Group) -> list[int]:
        """The indexes of the topics that have given no fragment."""
        return self._lacking(map(_topic, group.fragments))

    def waited_for(self, most: int = SAMPLE) -> WaitedFor:
        """Counts at most `most` groups. If there are more, it takes every second, every third, … in their order."""
        stands_for = len(self._by_id) // most + 1
        sample = islice(self._by_id.values(), 0, None, stands_for)
        lacking: dict[int, list[int]] = {}
        present = possible = 0
        for (partition, *arrived), groups in Counter(map(_kind, sample)).items():
            present, possible = present + len(arrived) * groups, possible + (self._topics - 1) * groups
            counts = lacking.setdefault(partition, [0] * self._topics)
            for topic in self._lacking(arrived):
                counts[topic] += groups
        return WaitedFor(lacking, present / possible if possible else 1.0, stands_for)

    def clear(self) -> None:
        self._by_id.clear()
        self._behind.clear()
        self.keeps_apart = self._more_are_due = False
        self._earliest = None
        self.bytes = 0

    def _lacking(self, arrived: Iterable[int]) -> list[int]:
        return sorted(set(range(self._topics)).difference(arrived))

    def _enough_of(self, kind: tuple[int, ...], enough: Mapping[tuple[int, int], "Enough"]) -> "Enough":
        """What is enough for every topic that these groups lack."""
        partition, *arrived = kind
        each = [enough.get((topic, partition), Enough(NEVER, NEVER)) for topic in self._lacking(arrived)]
        return Enough(min([of.arrived_by for of in each]), min([of.first_drop for of in each]))

    def _out_of_memory(self, id: str, fragments: Fragments) -> Group:
        group = _group(id, (*fragments, *self._behind.take(id)))
        self.bytes -= group.bytes
        return group

    def _remove(self, group: Group) -> None:
        del self._by_id[group.id]
        self.bytes -= group.bytes

    def _settle(self, id: str) -> list[Fragment]:
        """What waits behind the group of this id supersedes its parts. Returns what is superseded."""
        self._by_id[id], replaced = self._superseded(id, self._by_id[id])
        self.bytes -= size_of(replaced)
        return replaced

    def _superseded(self, id: str, group: Fragments) -> tuple[Fragments, list[Fragment]]:
        """The group with the last of each topic that waits behind it; and what is superseded."""
        if id in self._behind.parts:
            self.disorder(_arrival(group))
        return self._behind.put_into(id, group)

    def _put_in(self, id: str, group: Fragments, new: Fragment) -> tuple[Fragments, list[Fragment]]:
        """Puts the fragment into the group of this id, or behind it. Returns the group, and what is superseded.

        A partition gives new records only after all that is read again. So if a group still lacks a fragment that is
        new, it was not complete before: what waits behind it supersedes its parts.
        """
        old = next((each for each in group if each.topic == new.topic), None)
        if old is None:
            group, replaced = (group, []) if has_come_back(new) else self._superseded(id, group)
            return tuple(sorted((*group, new), key=_topic)), replaced
        is_earlier = new.offset < old.offset and new.offsets is old.offsets
        if self.keeps_apart and has_come_back(old) and not is_earlier:
            return group, self._behind.put(id, new)
        return supersede(group, old, new)

    def _open_next(self, id: str) -> list[Fragment]:
        """The group of this id has left. What waited behind it makes the next one. Returns what is superseded."""
        superseded: list[Fragment] = []
        group: Fragments
        if self.keeps_apart and (first := self._behind.take_first(id)):
            self._by_id[id] = group = tuple(sorted(first, key=_topic))
            self.disorder(_arrival(group))
        elif parts := self._behind.take(id):
            group = (parts[0],)
            for each in parts[1:]:
                group, replaced = self._put_in(id, group, each)
                superseded += replaced
            self._by_id[id] = group
            self.disorder(_arrival(group))
        return superseded


_topic, _value, _headers = attrgetter("topic"), attrgetter("value"), attrgetter("headers")


def size_of(fragments: Sequence[Fragment]) -> int:
    """Bytes of memory that these fragments take while they wait."""
    size = sum(map(len, map(_value, fragments))) + len(fragments) * FRAGMENT_OVERHEAD
    for headers in filter(None, map(_headers, fragments)):
        size += sum(
            [len(name) * (1 if name.isascii() else 4) + len(value or b"") + HEADER_OVERHEAD for name, value in headers]
        )
    return size


def _group(id: str, fragments: tuple[Fragment, ...]) -> Group:
    size = 0
    for each in fragments:  # two or three: too few for the C code of size_of() to pay
        size += len(each.value) + FRAGMENT_OVERHEAD if each.headers is None else size_of((each,))
    return Group(id, fragments, size)


def _arrival(fragments: tuple[Fragment, ...]) -> float:
    return fragments[0].arrival if len(fragments) == 1 else min([each.arrival for each in fragments])


def _drops(fragments: tuple[Fragment, ...]) -> int:
    return min([each.drops for each in fragments])


def _kind(fragments: tuple[Fragment, ...]) -> tuple[int, ...]:
    """The partition number, and the topics that have given a fragment."""
    partition = fragments[0].offsets.partition
    return (partition, fragments[0].topic) if len(fragments) == 1 else (partition, *map(_topic, fragments))


class Enough(NamedTuple):
    """Which groups need not wait for a partition any longer: those that arrived by `arrived_by`, and were in memory
    before the drop with the number `first_drop`.
    """

    arrived_by: float
    first_drop: float
