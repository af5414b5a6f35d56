"""What is shed for want of memory, and when reading goes back for it. The log is the overflow: it holds all of it.

A record is shed in one of two ways, and each has a time of its own to be read again:

- It is *dropped*: there was no room for it among the groups that wait. Reading goes back when most of that room is free
  again. Or when the log has been read to its end, and those that wait still take the room: then the newest make way.
- It is *put off*: its group is complete, and there was no room to park it. Reading goes back when there is, or after a
  short while.

Each time all that was shed is read again, of both kinds. So what was put off comes with what was dropped, and the time
of its own counts only while nothing is dropped.

No clock, no logging; `now` is a parameter.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from utils.joining.aggregator import FOREVER, Aggregator, Group
from utils.joining.behind import has_come_back
from utils.joining.messages import Fragment
from utils.kafka.ends import Partition
from utils.metrics import Counters
from utils.reading.ids import ManyIds
from utils.reading.intake import Intake

LOOK_EVERY = 1.0  # seconds
LONGEST_PAUSE = 60.0  # seconds before reading goes back in vain once more, unless reading all again takes longer
NOT_COUNTED = 1 << 62  # as the number of a drop: no other group waits for what was complete


@dataclass(slots=True)
class Pass:
    """One reading of the log, from the lowest record that was shed up to its end."""

    began: float
    targets: dict[Partition, int] = field(default_factory=dict)  # offsets, by partition; else the end of the log
    vain: int = 0  # passes before this one that made no room
    completed: int = 0  # groups since it began
    largest: int = 0  # bytes of a group that was dropped since then
    ended: float | None = None

    def is_over(self, now: float, waiting: int) -> bool:
        """Whether it has ended and the next one is due: at once, or after a pause if it was in vain.

        The pause is twice as long after each vain pass. What waits then may lack parts that were dropped before it
        came: it must make way, and be read again after them.
        """
        if self.ended is None:
            return False
        took = max(self.ended - self.began, 1.0)
        return not self.is_vain(waiting) or now - self.ended >= max(took, min(took * 2.0**self.vain, LONGEST_PAUSE))

    def is_vain(self, waiting: int) -> bool:
        """Whether it has completed hardly any groups, compared with those that wait."""
        return self.completed * 8 < waiting


@dataclass(slots=True)
class PutOff:
    """What was put off since reading last went back.

    It waits for room to be parked, but not for long: what is parked may rest for hours, and this may be done at once.
    """

    records: int = 0
    largest: int = 0  # bytes of a group
    reached: dict[Partition, int] = field(default_factory=dict)  # how far reading had come before it went back
    rests_since: float = 0.0  # when it had come there again
    rests_until: float = -FOREVER  # until then it reads what is new, if there is any: for as long as that took
    until: float | None = None  # when it is read again in any case
    pause: float = LOOK_EVERY
    fewest: int = NOT_COUNTED  # records that were put off again when they were read again; at first: more than any

    def has_waited(self, now: float) -> bool:
        if self.until is None:
            self.until = now + self.pause
        return now >= self.until

    def wait_again(self, now: float, took: float) -> None:
        """It was read again, up to where reading had been, in so many seconds.

        If not fewer records are put off again than ever before, the wait is twice as long. After none it begins anew.
        """
        self.pause = LOOK_EVERY if self.records < self.fewest else min(2 * self.pause, LONGEST_PAUSE)
        self.fewest = min(self.fewest, self.records) or NOT_COUNTED
        self.rests_since, self.rests_until = now, now + took
        self.until = now + self.pause if self.records else None


class GoingBack:
    """`room`: bytes for the groups that wait; the other half of memory is as large.

    `away`: ids of which something is shed, and nothing kept until it is read again. Else later parts would be joined
    before earlier ones.
    """

    def __init__(self, groups: Aggregator, intake: Intake, room: int, counters: Counters) -> None:
        self._groups = groups
        self._intake = intake
        self._room = room
        self._counters = counters
        self.drops = 0  # so far: tells what came before which drop
        self.away = ManyIds()
        self._pass: Pass | None = None  # something was dropped, or is read again
        self._put_off = PutOff()

    # ------------------------------------------------------------------ records are shed

    def drop(self, groups: Sequence[Group], now: float) -> None:
        """There is no room for these groups. Later records of their ids are not kept either: they stay in their order,
        and each shall meet the parts that it had met. But for records that this pass has not come to yet.
        """
        for group in groups:
            self._pass = self._pass or Pass(now)
            self._pass.largest = max(self._pass.largest, group.bytes)
            for fragment in group.fragments:
                self._counters.shed += 1
                self.drops += 1
                fragment.offsets.drop(fragment.offset, self.drops)
            if any(has_come_back(each) or each.offset < each.offsets.position for each in group.fragments):
                self.away.add(group.id)

    def put_off(self, group: Group) -> None:
        """There is no room for this group, which is complete, nor for later records of its id."""
        self.away.add(group.id)
        self._put_off.largest = max(self._put_off.largest, group.bytes)
        self.put_off_records(group.fragments)

    def put_off_records(self, fragments: Sequence[Fragment]) -> None:
        """Their ids are away."""
        self._put_off.records += len(fragments)
        self._counters.shed += len(fragments)
        for fragment in fragments:
            fragment.offsets.put_off(fragment.offset, NOT_COUNTED)

    # ------------------------------------------------------------------ and read again

    @property
    def is_under_way(self) -> bool:
        """Something was dropped, or is read again."""
        return self._pass is not None

    @property
    def is_in_vain(self) -> bool:
        """The pass before this one has made no room."""
        return self._pass is not None and self._pass.vain > 0

    def note_completed(self, groups: int) -> None:
        if self._pass:
            self._pass.completed += groups

    def look(self, now: float, parked: int, make_way: Callable[[float], None]) -> bool:
        """Go back, if it is time. Returns whether it went back for what was dropped.

        `parked`: bytes of what waits for its own id. `make_way`: drops the newest groups.
        """
        shed = sum([offsets.shed.count for offsets in self._intake.owned.partitions.values()])
        if shed > self._put_off.records:
            return self._look_for_dropped(now, make_way)
        self._look_for_put_off(now, parked)
        return False

    def _look_for_dropped(self, now: float, make_way: Callable[[float], None]) -> bool:
        current, waiting = self._pass, len(self._groups)
        is_over = current is not None and self._has_ended(current, now) and current.is_over(now, waiting)
        if not (is_over or (current and self._has_passed_some() and self._has_room_again(current))):
            return False
        self._intake.pausing.pause_only(())
        vain = current.vain + 1 if current and is_over and current.is_vain(waiting) else 0
        if is_over:
            make_way(now)
        self._go_back(now, vain)
        return True

    def _look_for_put_off(self, now: float, parked: int) -> None:
        """Not before reading is where it was before the last time, and has then read what is new for as long as that
        took: else nothing new was ever read.
        """
        put_off = self._put_off
        if self._pass and put_off.reached and not self._has_come_to(put_off.reached, self._pass.began, now):
            return
        if self._pass:
            put_off.wait_again(now, now - self._pass.began)
            self._pass = None
        if not self.away:
            return
        if now < put_off.rests_until and not self._has_come_to({}, put_off.rests_since, now):
            return
        if self._has_room_to_park(parked) or put_off.has_waited(now):
            put_off.reached = {at: each.position for at, each in self._intake.owned.partitions.items()}
            self._go_back(now)

    def _go_back(self, now: float, vain: int = 0) -> None:
        """All that was shed is ahead then, each id in its order."""
        self.away, self._put_off.records, self._put_off.largest = ManyIds(), 0, 0
        self._pass = Pass(now, self._intake.read_shed_again(), vain)

    def _has_passed_some(self) -> bool:
        """Whether some of what was dropped is behind: not all of it is still to come in this pass."""
        owned = self._intake.owned.partitions.values()
        return any((offsets.shed.since or NOT_COUNTED) < NOT_COUNTED for offsets in owned)

    def _has_room_again(self, current: Pass) -> bool:
        """Not as long as one of those that were dropped would be dropped again: reading would not get on."""
        in_bytes = self._groups.bytes
        return in_bytes < self._room // 4 and (not in_bytes or in_bytes + current.largest <= self._room)

    def _has_room_to_park(self, parked: int) -> bool:
        """Else most of what was put off may be so again. A quarter of the room is half of what may be parked."""
        half = self._room // 4
        return parked <= half and (not parked or parked + self._put_off.largest <= half + half // 2)

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
        self.away = ManyIds()
        self._pass = None
        self._put_off = PutOff()
