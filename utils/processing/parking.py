"""The ids that are busy, and what waits because of it: groups that rest between two attempts, or are behind their id.

Pure: no Kafka, no clock, no logging. None of it takes the place of another id: it is bounded in bytes alone.
"""

import heapq
import math
from collections import deque
from itertools import count
from typing import NamedTuple

from utils.joining.aggregator import Group

MOST_NOTED = 50_000
"""Ids that are not in memory, of which the time of the next attempt is known: some 400 bytes each (an estimate)."""
MOST_EARLY = 50_000
"""Ids of which only the time of the first of their next attempts is known: some 100 bytes each."""


def taken_in_turn(waiting: deque[Group], *, newest: bool) -> Group:
    """The oldest of those that wait (or the newest), out of their queue; of an id always its oldest."""
    id = waiting[-1 if newest else 0].id
    at = next(at for at, group in enumerate(waiting) if group.id == id)
    group = waiting[at]
    del waiting[at]
    return group


class Parked(NamedTuple):
    """How much is parked, and how many groups have been called after they had waited for their id."""

    groups: int
    bytes: int
    moved: int


class Early:
    """Ids of whose next attempts only the first is known: none of them may be before that.

    No id is taken for one of them that is none: it would rest before its first attempt. So too many are not kept, and
    are tried when they are read again.
    """

    __slots__ = ("_asked", "_first", "ids")

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self._first = math.inf
        self._asked = -math.inf

    def add(self, id: str, due: float) -> None:
        if due > self._asked and (len(self.ids) < MOST_EARLY or id in self.ids):
            self._first = min(self._first, due)
            self.ids.add(id)

    def add_all(self, others: "Early") -> None:
        for id in others.ids:
            self.add(id, others._first)

    def due(self, id: str, now: float) -> float:
        """0: nothing is known of it."""
        self._asked = now
        if now >= self._first:  # then it is for all of them
            self.ids, self._first = set(), math.inf
        return self._first if id in self.ids else 0.0


class Parking:
    """Groups that wait for their own id, in the order of each id. `groups` and `bytes`: how much they are."""

    __slots__ = ("_again", "_early", "_resting", "_serial", "busy", "bytes", "due", "forgotten", "groups", "moved")

    def __init__(self) -> None:
        self.groups = 0
        self.bytes = 0
        self.moved = 0  # so far: how many that were behind their id have been called
        self.busy: dict[str, deque[Group]] = {}
        """By each id that is being called or rests: the groups behind it."""
        self.due: dict[str, float] = {}
        """Of ids that are not in memory: when their next attempt may be."""
        self.forgotten: list[str] = []
        """Those of them that were too many: they may be tried too early, so their attempts count for nothing."""
        self._early = Early()
        self._again: list[tuple[float, int, Group]] = []  # a heap: when, and what is tried again; their ids are busy
        self._resting: set[str] = set()  # their ids
        self._serial = count()

    def note(self, id: str, due: float) -> None:
        """An id that is not in memory: when its next attempt may be. Of too many that of the first is forgotten.

        Then it is tried when the first of those that are forgotten may be, or at once where these are too many, too. It
        takes no room from what is read: nothing would end that.
        """
        if len(self.due) >= MOST_NOTED:
            first = next(iter(self.due))
            self._early.add(first, self.due.pop(first))
            self.forgotten.append(first)
        self.due[id] = due

    def note_all(self, others: "Parking") -> None:
        """What is known there of ids that are not in memory is known here, too."""
        self._early.add_all(others._early)
        self.forgotten += others.forgotten
        for id, due in others.due.items():
            self.note(id, due)

    @property
    def notes_some(self) -> bool:
        """Whether of some ids that are not in memory it is known when their next attempt may be."""
        return bool(self.due or self._early.ids)

    def take_due(self, id: str, now: float) -> float:
        """When the next attempt of an id may be that was not in memory: it is there now. 0: nothing is known of it."""
        not_before = self._early.due(id, now)
        return self.due.pop(id, not_before)

    def put_behind(self, group: Group) -> None:
        """Its id is busy."""
        self.busy[group.id].append(group)
        self._add(group)

    def rest(self, group: Group, due: float) -> None:
        """It is tried again at `due`, and busy until then."""
        self.busy.setdefault(group.id, deque())
        self._resting.add(group.id)
        heapq.heappush(self._again, (due, next(self._serial), group))
        self._add(group)

    def rests(self, id: str) -> bool:
        return id in self._resting

    @property
    def rest_some(self) -> bool:
        return bool(self._again)

    def next_due(self) -> float:
        """Of those that rest, of which there must be some."""
        return self._again[0][0]

    def due_of(self, id: str) -> float:
        """When the group of this id that rests is tried again."""
        return next(due for due, _, group in self._again if group.id == id)

    def rested(self) -> Group:
        """The one that is due first. It rests no more; its id stays busy."""
        group = heapq.heappop(self._again)[2]
        self._resting.remove(group.id)
        self._remove(group)
        return group

    def first_behind(self, id: str) -> Group | None:
        behind = self.busy.get(id)
        return behind[0] if behind else None

    def next_of(self, id: str) -> Group | None:
        """The first behind this id, which stays busy: it is called now."""
        behind = self.busy.get(id)
        if not behind:
            return None
        self._remove(behind[0])
        self.moved += 1
        return behind.popleft()

    def release(self, id: str) -> deque[Group]:
        """The id is not busy any more; all that were behind it."""
        behind = self.busy.pop(id, None) or deque()
        for group in behind:
            self._remove(group)
        return behind

    def move_resting(self, to: "Parking") -> int:
        """Those that rest are parked there from now on, with what is behind them; how many groups that are."""
        before = self.groups
        for due, _, group in sorted(self._again):
            self._resting.remove(group.id)
            self._remove(group)
            to.rest(group, due)
            for each in self.release(group.id):
                to.put_behind(each)
        self._again = []
        return before - self.groups

    def release_all(self) -> list[Group]:
        """Those that rest, each followed by what is behind it; `due` keeps when their next attempts are."""
        released: list[Group] = []
        for due, _, group in sorted(self._again):
            self.note(group.id, due)
            self._resting.remove(group.id)
            self._remove(group)
            released += [group, *self.release(group.id)]
        self._again = []
        return released

    def shed(self, down_to: int) -> list[Group]:
        """Groups, the newest of their ids, to leave memory until no more than so many bytes are parked.

        First those of the ids behind which most wait, so that a single one does not drive out all others; then those
        that rest longest, but for one: of these `due` keeps when their next attempt is.
        """
        shed: list[Group] = []
        while self.bytes > down_to and (longest := [id for id, behind in self.busy.items() if behind]):
            for id in sorted(longest, key=lambda id: len(self.busy[id]), reverse=True):
                behind = self.busy[id]
                for _ in range(-(-len(behind) // 2) if self.bytes > down_to else 0):
                    self._remove(behind[-1])
                    shed.append(behind.pop())
                    if self.bytes <= down_to:
                        break
        if self.bytes > down_to:
            shed += self._shed_resting(down_to)
        return shed

    def _shed_resting(self, down_to: int) -> list[Group]:
        shed: list[Group] = []
        latest = sorted(self._again)
        while self.bytes > down_to and len(latest) > 1:
            due, _, group = latest.pop()
            self.note(group.id, due)
            self._resting.remove(group.id)
            del self.busy[group.id]
            self._remove(group)
            shed.append(group)
        self._again = latest  # in order, and so a heap
        return shed

    def clear(self, *, but_called: bool = False) -> None:
        """Forget all groups. `but_called`: the ids that are called stay busy."""
        called = {id: deque[Group]() for id in self.busy if id not in self._resting} if but_called else {}
        self.groups = self.bytes = 0
        self.busy, self.due, self._again, self._resting = called, {}, [], set()
        self._early = Early()

    def _add(self, group: Group) -> None:
        self.groups += 1
        self.bytes += group.bytes

    def _remove(self, group: Group) -> None:
        self.groups -= 1
        self.bytes -= group.bytes
