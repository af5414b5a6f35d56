"""When the records of a partition arrived the first time: in steps of a second, kept over restarts.

Pure: no Kafka, no clock, no logging. All times are by the loop's clock. Records are read in the order of their offsets.
So a few steps `(offset, time)` tell it of all of them: those from that offset on, up to the next step, arrived at that
time or at most a second later. Of many steps those that are old become longer: then some of them arrived earlier, by a
part of their age.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from operator import itemgetter

STEP = 1.0  # seconds
RELATIVE = 16  # a step may be as long as this part of its age: a day takes some 200 of them
_MANY = 64  # steps: with more, those that are old are made longer

Step = tuple[int, int]
"""An offset, and a time in ms: by the loop's clock, and in a map since the epoch."""
_offset = itemgetter(0)


class Arrivals:
    """Those of one assigned partition: what an earlier owner's map tells, and what has been read since."""

    def __init__(self, end: int, before: Sequence[Step] = ()) -> None:
        """`before`: of offsets below `end`."""
        self._end = end
        self._before = list(before)
        self._since: list[Step] = []
        self._many = _MANY

    def note(self, offset: int, now: float) -> None:
        """What is read from this offset on for the first time arrives now, or up to a second later.

        `now` is in seconds.
        """
        offset = max(offset, self._end)
        if self._since and self._since[-1][0] == offset:
            self._since.pop()
        self._since.append((offset, int(now * 1000)))
        if len(self._since) > self._many:
            self._since = longer(self._since, int(now * 1000))
            self._many = max(_MANY, 2 * len(self._since))

    def between(self, offset: int) -> tuple[float, float]:
        """When this record arrived, at the earliest and at the latest, in seconds; at any time if nothing is known."""
        steps = self._before if offset < self._end else self._since
        at = bisect_right(steps, offset, key=_offset)
        if not at:
            return float("-inf"), float("inf")
        begin = steps[at - 1][1] / 1000
        return begin, begin + STEP

    def forget_below(self, offset: int) -> None:
        """All below this offset is finished."""
        for steps in (self._before, self._since):
            if len(steps) > 1 and steps[1][0] <= offset:
                del steps[: bisect_right(steps, offset, key=_offset) - 1]
        if offset >= self._end:
            self._before = []

    def oldest_ms(self) -> int | None:
        """The first arrival of all that is not forgotten; None where nothing is known."""
        steps = self._before or self._since
        return steps[0][1] if steps else None

    def steps(self, next_unfinished: Callable[[int], int | None]) -> list[Step]:
        """Those of what is unfinished. `next_unfinished`: the lowest such offset from one on."""
        steps = [*self._before, *self._since]
        kept, at = [], 0
        while at < len(steps) and (offset := next_unfinished(steps[at][0])) is not None:
            at = bisect_right(steps, offset, lo=at, key=_offset)
            kept.append(steps[at - 1])
        return kept


def longer(steps: Sequence[Step], now_ms: int) -> list[Step]:
    """The same with fewer steps, the longer the older they are.

    A step begins later by that, never earlier, so that nothing is given up too early. It is rounded up to a power of
    two: then doing it again and again makes it no later than doing it once.
    """
    kept: list[Step] = []
    for offset, time in reversed(steps):
        length = (now_ms - time) // RELATIVE
        if length >= STEP * 1000:
            length = 1 << (length.bit_length() - 1)
            time = -(-time // length) * length
        if kept and time >= kept[-1][1]:
            kept[-1] = offset, kept[-1][1]
        else:
            kept.append((offset, time))
    return kept[::-1]


def halved(steps: Sequence[Step]) -> list[Step]:
    """Each two of them in one."""
    pairs = [steps[at : at + 2] for at in range(0, len(steps), 2)]
    return [(pair[0][0], pair[-1][1]) for pair in pairs]
