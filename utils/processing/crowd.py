"""Whether reading on is in vain: nearly all that is read waits for its own id, and those ids are getting on.

A backlog of a few ids would be read over and over: what has no memory behind its id is put off and read again later.
Where it waits because an id rests or hangs, reading on is right: others must not wait for it.

Pure: no Kafka, no clock, no logging; `now` is in seconds of the loop's clock.
"""

from dataclasses import dataclass

_LATELY = 2_000  # groups that were submitted: what is judged by; those before count for half, and so on
_ENOUGH = 100  # groups: fewer tell nothing
_FEW = 16  # reading is in vain where no more than this part of them could be called
_STANDSTILL = 5.0  # seconds without a call of one that had waited for its id: an id rests, or hangs


@dataclass(slots=True)
class Crowd:
    """What became of the groups that were submitted lately."""

    _submitted: int = 0
    _parked: int = 0
    _moved: int = 0
    _moved_at: float = float("-inf")

    def note(self, submitted: int, parked: int) -> None:
        """Of these groups, so many wait for their own id."""
        self._submitted += submitted
        self._parked += parked
        if self._submitted > _LATELY:
            self._submitted //= 2
            self._parked //= 2

    def stops_reading(self, moved: int, now: float) -> bool:
        """`moved`: how many groups that waited for their id have been called by now."""
        if moved != self._moved:
            self._moved, self._moved_at = moved, now
        is_vain = self._submitted >= _ENOUGH and (self._submitted - self._parked) * _FEW <= self._submitted
        return is_vain and now - self._moved_at < _STANDSTILL
