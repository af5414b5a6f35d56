"""The one door of the dict: what waits comes and goes through here. Memory is bounded in bytes, and the log is its
overflow: what does not fit is shed, and read again later.

No Kafka but by the intake, no clock, no logging; `now` is a parameter.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import compress

from utils.joining.aggregator import FOREVER, Aggregator, Group, size_of
from utils.joining.behind import has_come_back
from utils.joining.leaving import Leaving
from utils.joining.messages import Fragment
from utils.joining.offsets import mark
from utils.joining.states import FINISHED
from utils.kafka.ends import Partition
from utils.metrics import Counters
from utils.reading.holding import HoldingBack
from utils.reading.ids import ManyIds
from utils.reading.intake import Intake

BALANCE_EVERY = 1.0  # seconds
LONGEST_PAUSE = 60.0  # seconds between passes that make no room, unless a pass itself takes longer
NOT_COUNTED = 1 << 62  # as the number of a drop: no other group waits for what was complete
EVICTED_AT_ONCE = 1_000  # groups: a dead letter takes three times the memory of what waits until it is safe


@dataclass(slots=True)
class Pass:
    """One reading of the log from the lowest record for which there was no room up to its end."""

    began: float
    targets: dict[Partition, int] = field(default_factory=dict)  # offsets, by partition; else the end of the log
    vain: int = 0  # passes before this one that made no room
    completed: int = 0  # groups since it began
    largest: int = 0  # bytes of a group that had to make room since then
    ended: float | None = None

    def is_over(self, now: float, waiting: int) -> bool:
        """Whether it has ended and the next one is due: at once, or without progress after a while.

        That is twice as long after each vain one. What waits then may lack parts that were dropped before it came: it
        must make room and be read again after them.
        """
        if self.ended is None:
            return False
        took = max(self.ended - self.began, 1.0)
        return not self.is_vain(waiting) or now - self.ended >= max(took, min(took * 2.0**self.vain, LONGEST_PAUSE))

    def is_vain(self, waiting: int) -> bool:
        """Whether hardly any groups were completed in it, measured by those that wait."""
        return self.completed * 8 < waiting


@dataclass(slots=True)
class PutOff:
    """Complete groups that were dropped since reading was last set back, for there was no room to park them.

    They wait for such room, but not for long: what is parked may rest for hours, and they may be done at once.
    """

    ids: ManyIds = field(default_factory=ManyIds)  # of which nothing is kept until then; also of what else made way
    records: int = 0
    largest: int = 0  # bytes of a group
    reached: dict[Partition, int] = field(default_factory=dict)  # how far reading had come before it was set back
    rests_since: float = 0.0  # when it had come there again
    rests_until: float = -FOREVER  # what is new is read until then, if there is any: for as long as that took
    until: float | None = None  # when they are read again in any case
    pause: float = BALANCE_EVERY
    fewest: int = NOT_COUNTED  # records that were put off when they were read again; at first: more than any

    def add(self, group: Group) -> None:
        self.ids.add(group.id)
        self.largest = max(self.largest, group.bytes)

    def have_waited(self, now: float) -> bool:
        if self.until is None:
            self.until = now + self.pause
        return now >= self.until

    def wait_again(self, now: float, took: float) -> None:
        """They were read again, up to where reading had been, in so many seconds.

        If not fewer are put off than ever before, the wait is twice as long.
        """
        self.pause = BALANCE_EVERY if self.records < self.fewest else min(2 * self.pause, LONGEST_PAUSE)
        self.rests_since, self.rests_until, self.fewest = now, now + took, min(self.fewest, self.records)
        self.until = now + self.pause if self.records else None

    def clear(self) -> None:
        self.ids, self.records, self.largest = ManyIds(), 0, 0


class Overflow:
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
        self._next_balance = 0.0
        self.drops = 0  # so far: tells what came before which drop
        self._pass: Pass | None = None  # there is something to be read again
        self._put_off = PutOff()
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
        if self._put_off.ids:
            stays = [not self._is_away(id) for id in ids]
            self._drop_for_later([each for each, kept in zip(fragments, stays, strict=True) if not kept])
            ids, fragments = list(compress(ids, stays)), list(compress(fragments, stays))
        complete, superseded = self._add(ids, fragments, now)
        self._finish(superseded)
        return complete

    def _add(self, ids: Sequence[str], fragments: Sequence[Fragment], now: float) -> tuple[list[Group], list[Fragment]]:
        aggregator, size = self.groups, size_of(fragments)
        if aggregator.bytes + size <= self._room_for_any:
            self._newcomers.clear()  # who of them is still here has room like all others
            complete, superseded = aggregator.add(ids, fragments, size)
            self._note_progress(len(complete))
            return complete, superseded
        complete, superseded = [], []
        for id, fragment in zip(ids, fragments, strict=True):
            if self._is_away(id):
                self._drop_for_later((fragment,))
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
                self._note_progress(len(completed))
            self._make_room(now, id)
        return complete, superseded

    def _is_away(self, id: str) -> bool:
        """Of those that are known only roughly none that waits: it would not wait for what is dropped so."""
        ids = self._put_off.ids
        return ids.is_known(id) or (id in ids and (len(self._topics) == 1 or not self.groups.waits(id)))

    def _note_progress(self, completed: int) -> None:
        if self._pass:
            self._pass.completed += completed

    def _make_room(self, now: float, added: str) -> None:
        """So that the bound holds, now that something of this id was added."""
        while self.groups.bytes > self.room and self._newcomers:
            self._drop_groups(self.groups.take(self._newcomers.popitem(last=False)[0]), now)
        if self.groups.bytes > self.room:
            self.shed(self.room, now, added)

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
            self._put_off.add(group)
            self._newcomers.pop(group.id, None)
            for each in (group, *self.groups.take(group.id)):
                self._drop_for_later(each.fragments)

    def _drop_for_later(self, fragments: Sequence[Fragment]) -> None:
        self._put_off.records += len(fragments)
        self._counters.shed += len(fragments)
        for fragment in fragments:
            fragment.offsets.put_off(fragment.offset, NOT_COUNTED)

    def shed(self, down_to: int, now: float, added: str = "") -> None:
        """Drop groups as `Aggregator.shed` does."""
        groups = self.groups.shed(down_to, added=added)
        self._are_no_newcomers(groups)
        self._drop_groups(groups, now)

    def _are_no_newcomers(self, groups: Sequence[Group]) -> None:
        """They have left: what comes of their ids from now on comes anew."""
        if self._newcomers:
            for group in groups:
                self._newcomers.pop(group.id, None)

    def _drop_groups(self, groups: Sequence[Group], now: float) -> None:
        for group in groups:
            self._pass = self._pass or Pass(now)
            self._pass.largest = max(self._pass.largest, group.bytes)
            self._drop(group.id, group.fragments, now)

    def _drop(self, id: str, fragments: Sequence[Fragment], now: float) -> None:
        """There is no room for these records. Later ones of their id are not kept either: they stay in their order, and
        each shall meet the parts that it had met. But for what this pass has not come to yet.
        """
        self._pass = self._pass or Pass(now)
        for fragment in fragments:
            self._counters.shed += 1
            self.drops += 1
            fragment.offsets.drop(fragment.offset, self.drops)
        if any(has_come_back(each) or each.offset < each.offsets.position for each in fragments):
            self._put_off.ids.add(id)

    def balance(self, now: float, parked: int = 0) -> None:
        """Near the bound those partitions wait that are ahead, while they are; with room read what was shed again.

        `parked`: bytes of what waits for its own id.
        """
        if now >= self._next_balance:
            self._next_balance = now + BALANCE_EVERY
            if self._goes_back(now, parked):
                return
        elif not self._holding_back.has_moved():
            return
        in_vain = self._pass is not None and self._pass.vain > 0
        self._holding_back.look(now, in_pass=self._pass is not None, in_vain=in_vain)

    def _goes_back(self, now: float, parked: int) -> bool:
        """Whether a pass over what was shed begins."""
        owned = self._intake.owned.partitions.values()
        if sum([offsets.shed.count for offsets in owned]) <= self._put_off.records:
            self._reads_put_off(now, parked)
            return False
        waiting = len(self.groups)
        over = self._pass is not None and self._has_ended(self._pass, now) and self._pass.is_over(now, waiting)
        passed_some = any((offsets.shed.since or NOT_COUNTED) < NOT_COUNTED for offsets in owned)
        if not (over or (self._pass and passed_some and self._has_room_again(self._pass))):
            return False
        self._intake.pausing.pause_only(())
        vain = self._pass.vain + 1 if self._pass and over and self._pass.is_vain(waiting) else 0
        if over:
            self.shed(self.room // 8, now)
        self._pass = Pass(now, self._read_again(), vain)
        return True

    def _reads_put_off(self, now: float, parked: int) -> None:
        """Go back to what was put off, if it is time: nothing else is to be read again.

        Not before reading is where it was before the last time, and has then read what is new for as long as that took:
        else nothing new was ever read.
        """
        put_off = self._put_off
        if self._pass and put_off.reached and not self._has_come_to(put_off.reached, self._pass.began, now):
            return
        if self._pass:
            put_off.wait_again(now, now - self._pass.began)
            self._pass = None
        if not put_off.ids:
            return
        if now < put_off.rests_until and not self._has_come_to({}, put_off.rests_since, now):
            return
        if self._has_room_to_park(parked) or put_off.have_waited(now):
            put_off.reached = {at: each.position for at, each in self._intake.owned.partitions.items()}
            self._pass = Pass(now, self._read_again())

    def _read_again(self) -> dict[Partition, int]:
        """Go back to what was dropped; all of it is ahead then, each id in its order."""
        self._put_off.clear()
        return self._intake.read_shed_again()

    def _has_room_to_park(self, parked: int) -> bool:
        """Else most of what was put off may be so again."""
        half = self.room_to_park // 2
        return parked <= half and (not parked or parked + self._put_off.largest <= half + half // 2)

    def _has_room_again(self, current: Pass) -> bool:
        """Not as long as one of those that were dropped would be dropped again: reading would not get on."""
        in_bytes = self.groups.bytes
        return in_bytes < self.room // 4 and (not in_bytes or in_bytes + current.largest <= self.room)

    def _has_ended(self, current: Pass, now: float) -> bool:
        """Whether all was read again, but for partitions that are paused because they are ahead."""
        if current.ended is None and self._has_come_to(current.targets, current.began, now):
            current.ended = now
        return current.ended is not None

    def _has_come_to(self, targets: dict[Partition, int], since: float, now: float) -> bool:
        """Whether reading has come so far, or since then to the end of the log."""
        through = self._intake.evidence.read_through(now)
        return all(
            at in self._intake.pausing.ahead or offsets.position >= targets.get(at, FOREVER) or through[at] >= since
            for at, offsets in self._intake.owned.partitions.items()
        )

    def forget(self) -> None:
        """The partitions are ours no more."""
        self.groups.clear()
        self._leaving.clear()
        self._newcomers.clear()
        self._pass = None
        self._put_off = PutOff()
