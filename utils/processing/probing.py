"""What waits while the circuit is open, and the probe that finds out whether process() succeeds again.

No Kafka, no clock, no logging; `now` is in seconds of the dispatcher's clock.
"""

from collections import deque
from collections.abc import Iterable, Sequence

from utils.joining.aggregator import Group
from utils.processing.attempts import HOPELESS, Attempts
from utils.processing.order import Order
from utils.processing.parking import Parking, taken_in_turn


class Probing:
    """Holds groups. One at a time is called, by turns the oldest and the newest: behind many bad messages there may be
    good ones.
    """

    def __init__(self, attempts: Attempts, order: Order, parked: Parking) -> None:
        self._attempts = attempts
        self._circuit = attempts.circuit
        self._order = order
        self._parked = parked
        self._held: deque[Group] = deque()
        self._probe = ""  # the id of the one that is called
        self._newest_next = False

    @property
    def is_open(self) -> bool:
        return self._circuit.opened_at is not None

    @property
    def due(self) -> float:
        """When the next probe is. Infinite while one is called."""
        return self._circuit.next_probe

    def open(self, taken: list[Group], last: str, now: float) -> int:
        """Hold what was taken back; how many groups that are. `last`: the id that has opened the circuit.

        What has failed before rests in place of that, so that others are tried first.
        """
        self._held.extend([group for group in taken if group.id == last or not self._rests(group, now)])
        return len(self._held)

    def begin_with_newest(self) -> None:
        """What has hung in earlier processes has opened it: the oldest of the others may end each process, too."""
        self._newest_next = True

    def hold(self, groups: Sequence[Group], now: float) -> None:
        """What has failed in an earlier process, or before it left memory, rests in place of that, so that others are
        tried first. Not what was put aside, and is handed over to be tried now.
        """
        noted = self._parked.due
        self._held.extend([group for group in groups if not (group.id in noted and self._rests(group, now))])

    def hold_first(self, groups: Iterable[Group]) -> None:
        """Before those of their id that came later."""
        self._held.extendleft(reversed([*groups]))

    @property
    def holds_some(self) -> bool:
        return bool(self._held)

    def holds(self, id: str) -> bool:
        return any(group.id == id for group in self._held)

    def next(self, now: float) -> list[Group]:
        """One group, if it is time: of those that have not been tried, else of an id that has not been for longest.

        None where all ids are busy.
        """
        if now < self.due:
            return []
        probe = next((group for group in self._in_turn() if self._order.may_start(group, now)), None)
        if not probe and self._parked.rest_some:
            probe = self._parked.rested()
        if not probe:
            return []
        self._probe = probe.id
        self._circuit.probing()
        return [probe]

    def failed(self, id: str, error: BaseException, now: float) -> None:
        if id != self._probe:
            return
        self._probe = ""
        if isinstance(error, HOPELESS):
            self._circuit.undecided(now)
        else:
            self._circuit.probed(now)

    def _rests(self, group: Group, now: float) -> bool:
        """It has failed before. It rests from now on, unless its id is busy."""
        if not self._attempts.has_failed(group.id) or group.id in self._parked.busy:
            return False
        self._parked.rest(group, max(self._parked.take_due(group.id, now), now))
        return True

    def close(self) -> list[Group]:
        """Something has succeeded: all that was held."""
        held, self._held = [*self._held], deque()
        self._probe = ""
        return held

    def cancel(self) -> None:
        self._held.clear()

    def drop(self, now: float) -> None:
        if self._probe:
            self._probe = ""
            self._circuit.undecided(now)

    def _in_turn(self) -> Iterable[Group]:
        """By turns the oldest and the newest; of an id always its oldest."""
        while self._held:
            newest, self._newest_next = self._newest_next, not self._newest_next
            yield taken_in_turn(self._held, newest=newest)
