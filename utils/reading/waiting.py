"""The one door of the dict: what waits comes and goes through here. Memory is bounded in bytes: what has no room is
shed, and read again later (going_back.py).

No Kafka but by the intake, no clock, no logging; `now` is a parameter.
"""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import compress

from utils.joining.aggregator import Aggregator, Group, size_of
from utils.joining.leaving import Leaving
from utils.joining.messages import Fragment
from utils.joining.offsets import mark
from utils.joining.states import FINISHED
from utils.metrics import Counters
from utils.reading.going_back import LOOK_EVERY, GoingBack
from utils.reading.holding import HoldingBack
from utils.reading.intake import Intake

EVICTED_AT_ONCE = 1_000  # groups: a dead letter takes three times the memory of what waits until it is safe


class Waiting:
    """Keeps the groups that wait within `room` bytes.

    `groups` is the dict. Others may look at it, and change it only here.
    """

    def __init__(
        self, aggregator: Aggregator, intake: Intake, topics: dict[str, int], room: int, counters: Counters
    ) -> None:
        self.groups = aggregator
        self._intake = intake
        self._topics = topics
        self.room = room
        self._counters = counters
        self._holding_back = HoldingBack(aggregator, intake, topics, room)
        self._going_back = GoingBack(aggregator, intake, room, counters)
        self._next_look = 0.0
        self._leaving = Leaving()
        self._newcomers = OrderedDict[str, None]()  # ids that came when there was room for newcomers only, in order

    @property
    def _room_for_any(self) -> int:
        """The other eighth is for newcomers only."""
        return self.room - self.room // 8

    @property
    def room_to_park(self) -> int:
        """Bytes, of the other half of memory: for what waits for its own id, and is complete."""
        return self.room // 2

    @property
    def drops(self) -> int:
        """How many records were dropped so far."""
        return self._going_back.drops

    def add(self, ids: Sequence[str], fragments: Sequence[Fragment], now: float) -> list[Group]:
        """The groups that are complete with what there is room for. What is superseded is finished.

        A part of a group that waits has room; the newest groups make it. That may be the group that has just grown:
        else two that have no room together could drop each other for ever, and neither be given up. But the last eighth
        is for newcomers: of these the first makes room for the next one. So parts that come side by side meet, however
        long the others wait.

        Of an id that was put off or dropped none is kept: later parts would be joined before earlier ones, which come
        in the next pass.
        """
        mark(self._leaving.superseded(ids, fragments), FINISHED)  # they are counted already: as given up
        if self.groups.keeps_apart and not self._intake.owned.may_replay:
            self._finish(self.groups.settle())
        if self._going_back.away:
            stays = [not self._is_away(id) for id in ids]
            self._going_back.put_off_records([each for each, kept in zip(fragments, stays, strict=True) if not kept])
            ids, fragments = list(compress(ids, stays)), list(compress(fragments, stays))
        complete, superseded = self._add(ids, fragments, now)
        self._finish(superseded)
        return complete

    def _add(self, ids: Sequence[str], fragments: Sequence[Fragment], now: float) -> tuple[list[Group], list[Fragment]]:
        aggregator, size = self.groups, size_of(fragments)
        if aggregator.bytes + size <= self._room_for_any:
            self._newcomers.clear()  # who of them is still here has room like all others
            complete, superseded = aggregator.add(ids, fragments, size)
            self._going_back.note_completed(len(complete))
            return complete, superseded
        complete, superseded = [], []
        for id, fragment in zip(ids, fragments, strict=True):
            if self._is_away(id):
                self._going_back.put_off_records((fragment,))
                continue
            if aggregator.bytes >= self._room_for_any and not aggregator.waits(id):
                self._newcomers[id] = None
            fragment.drops = self.drops
            completed, replaced = aggregator.add((id,), (fragment,), size_of((fragment,)))
            complete += completed
            superseded += replaced
            if completed and id in self._newcomers:
                del self._newcomers[id]
            else:
                self._going_back.note_completed(len(completed))
            self._make_room(now, id)
        return complete, superseded

    def _is_away(self, id: str) -> bool:
        """Of many ids this is known only roughly. Then an id that waits is none of them: its group would not wait for
        what is put off so.
        """
        away = self._going_back.away
        return away.is_known(id) or (id in away and (len(self._topics) == 1 or not self.groups.waits(id)))

    def _make_room(self, now: float, added: str) -> None:
        """So that the bound holds, now that something of this id was added."""
        while self.groups.bytes > self.room and self._newcomers:
            self._going_back.drop(self.groups.take(self._newcomers.popitem(last=False)[0]), now)
        if self.groups.bytes > self.room:
            self._shed(self.room, now, added)

    def _shed(self, down_to: int, now: float, added: str = "") -> None:
        """Drop groups as `Aggregator.shed` does."""
        groups = self.groups.shed(down_to, added=added)
        self._are_no_newcomers(groups)
        self._going_back.drop(groups, now)

    def _are_no_newcomers(self, groups: Sequence[Group]) -> None:
        """They have left: what comes of their ids from now on comes anew."""
        if self._newcomers:
            for group in groups:
                self._newcomers.pop(group.id, None)

    def _finish(self, superseded: Sequence[Fragment]) -> None:
        self._counters.superseded += len(superseded)
        mark(superseded, FINISHED)

    def arrived_before(self, arrival: float) -> None:
        """What is added next is read again: it may have arrived earlier than what waits, the first at `arrival`."""
        self.groups.disorder(arrival)
        self.groups.keeps_apart = True

    def evict(self, now: float, timeout: float) -> list[Group]:
        """Give up groups that have waited for `timeout` seconds, and could not have got a missing part since. Of many
        those that came into memory first, EVICTED_AT_ONCE.
        """
        self._leaving.forget_safe()
        if not self.groups.has_waited_since(now - timeout):
            return []
        enough = self._intake.evidence.waited_enough(now, timeout)
        evicted, superseded = self.groups.evict(
            {(self._topics[at[0]], at[1]): by for at, by in enough.items()}, EVICTED_AT_ONCE
        )
        self._finish(superseded)
        self._are_no_newcomers(evicted)
        self._leaving.add(evicted)
        return evicted

    def missing(self, group: Group) -> list[str]:
        """The topics that have given it no fragment, in the order of the input topics."""
        names = list(self._topics)
        return [names[index] for index in self.groups.missing(group)]

    def put_off(self, groups: Sequence[Group]) -> None:
        """There is no room for these complete groups, nor for later ones of their ids before they were read again."""
        for group in groups:
            self._going_back.put_off(group)
            self._newcomers.pop(group.id, None)
            for each in self.groups.take(group.id):
                self._going_back.put_off_records(each.fragments)

    def balance(self, now: float, parked: int = 0) -> None:
        """Near the bound those partitions wait that are ahead, while they are; with room read what was shed again.

        `parked`: bytes of what waits for its own id.
        """
        if now >= self._next_look:
            self._next_look = now + LOOK_EVERY
            if self._going_back.look(now, parked, self._make_way):
                return
        elif not self._holding_back.has_moved():
            return
        going_back = self._going_back
        self._holding_back.look(now, in_pass=going_back.is_under_way, in_vain=going_back.is_in_vain)

    def _make_way(self, now: float) -> None:
        self._shed(self.room // 8, now)

    def forget(self) -> None:
        """The partitions are ours no more."""
        self.groups.clear()
        self._leaving.clear()
        self._newcomers.clear()
        self._going_back.forget()
