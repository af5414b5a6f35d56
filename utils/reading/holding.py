"""Who is ahead of its siblings is held back: its partitions are paused before memory is full, so that nothing is shed.

The client fetches one partition after the other, and all of a topic before the next one where there are many. What
comes first waits for what comes last.
"""

from collections import Counter

from utils.joining.aggregator import Aggregator
from utils.joining.ahead import WaitedFor, ahead_of_siblings, hardly_waited_for, over_all_partitions, worth_waiting_for
from utils.reading.intake import Intake

LOOKS = 16  # while what waits grows from nothing to all of its room
MOVES_FOR = 1.0  # seconds after a look for which what waits counts as growing, or falling


class HoldingBack:
    """Above half of the room those wait that are ahead, and at the latest until what waits has fallen to a quarter."""

    def __init__(self, groups: Aggregator, intake: Intake, topics: dict[str, int], room: int) -> None:
        self._groups = groups
        self._intake = intake
        self._topics = topics
        self._room = room
        self._seen = 0  # bytes that waited when they had moved last
        self._moves_until = 0.0

    def has_moved(self) -> bool:
        """Whether so much has come, or gone, that it is time to look."""
        return abs(self._groups.bytes - self._seen) * LOOKS >= self._room

    def look(self, now: float, *, in_pass: bool, in_vain: bool) -> None:
        """Pause those that are ahead now, and no others. `in_pass`: what was shed is read again; `in_vain`: once more,
        for that has made no room.
        """
        if self._intake.in_step:  # the others would be read past the time of who is held back
            return
        if self.has_moved():
            self._seen, self._moves_until = self._groups.bytes, now + MOVES_FOR
        pausing, partitions = self._intake.pausing, self._intake.owned.partitions
        if self._groups.bytes * max(len(self._topics) - 1, 1) <= self._room // 2 and not pausing.ahead:
            return
        waited_for = self._groups.waited_for()
        to_come = self._groups.bytes / waited_for.present  # bytes, if all came that is lacking, but the last of each
        if to_come <= self._room // 4:
            pausing.pause_only(())
            return
        found = self._ahead(waited_for, moves=now < self._moves_until and not in_pass, in_vain=in_vain)
        ahead = {at for at in partitions if (self._topics[at[0]], at[1]) in found}
        pausing.pause_only(ahead if to_come > self._room // 2 else ahead & pausing.ahead)

    def _ahead(self, waited_for: WaitedFor, *, moves: bool, in_vain: bool) -> set[tuple[int, int]]:
        """By the indexes of their topics. None whose siblings have nothing left: what its groups lack may never come.

        While what waits moves, these are all that hardly any group waits for: what comes next would soon be ahead, too.
        Not in a pass, which is to read all.
        """
        together, counts = self._intake.siblings.are_mostly_together(), waited_for.counts
        partitions = [(self._topics[topic], number) for topic, number in self._intake.owned.partitions]
        if not together:
            counts = over_all_partitions(counts, {number for _, number in partitions})
        worth = worth_waiting_for(counts, self._unread(together), waited_for.stands_for)
        ahead = ahead_of_siblings(counts, worth)
        if moves:
            ahead |= hardly_waited_for(counts, worth, partitions)
        return ahead - self._needed(together) if in_vain else ahead

    def _unread(self, together: bool) -> dict[tuple[int, int], int]:
        """How many offsets each partition still holds, and the others of its topic where a missing part may be in each.

        Not of what is paused: nothing has told of its end since.
        """
        ends, paused, owned = self._intake.owned.ends(), self._intake.pausing.ahead, self._intake.owned.partitions
        left = {at: end - owned[at].position for at, end in ends.items() if at not in paused}
        if not together:
            untold = {topic for topic, _ in owned.keys() - left.keys()}
            of_topic = Counter[str]()
            for (topic, _), number in left.items():
                of_topic[topic] += number
            left = {at: of_topic[at[0]] for at in owned if at[0] not in untold}
        return {(self._topics[topic], number): unread for (topic, number), unread in left.items()}

    def _needed(self, together: bool) -> set[tuple[int, int]]:
        """What the oldest group waits for: it is given up only when that was read to its end."""
        return {
            (topic, number)
            for group in self._groups.oldest(1)
            for topic in self._groups.missing(group)
            for _, number in self._intake.owned.partitions
            if number == group.partition or not together
        }
