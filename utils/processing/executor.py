"""What the loop, and Suspects before it, know of process(). `Dispatcher` is what does it, over one of the runners.

Knows neither Kafka nor offsets: groups go in by the batch, outcomes come out.
"""

from typing import Protocol

from utils.joining.aggregator import Group
from utils.processing.outcome import Call, InFlight, Outcome
from utils.processing.parking import Parked, Parking


class Executor(Protocol):
    """What the loop knows of process(): groups go in, what became of them comes out."""

    @property
    def in_flight(self) -> int:
        """Groups submitted whose outcome may still be collected."""

    @property
    def parked(self) -> Parking | Parked:
        """Those of them that wait for their own id: between two attempts, or behind it."""

    def submit(self, groups: list[Group]) -> None: ...

    def collect(self, timeout: float) -> list[Outcome]:
        """The outcomes since the last call.

        Waits up to `timeout` seconds for them, and where many calls are running, up to SOON (`done.py`) for more.
        """

    def cancel(self) -> None:
        """Start none of the groups that wait: they are not in flight any more."""

    def drop(self) -> None:
        """Cancel, and never hand back the outcomes of what has been started."""

    def shed(self, down_to: int) -> list[Group]:
        """Give back parked groups, until no more than so many bytes are parked, the newest of an id first.

        They are not in flight any more, and must be submitted again in their order, before any others of their ids.
        None while others of their ids that came later are here, too.
        """

    def calls(self) -> list[Call]:
        """Those that are running, the longest first."""

    def find(self, id: str) -> InFlight | None:
        """Where this id is, if it is in flight; of several groups of it, the first."""

    @property
    def circuit_open_for(self) -> float | None:
        """Seconds for which process() has failed for one id after the other; None while it does not."""


class Retrying(Executor, Protocol):
    """An Executor that tries again what has failed, as Suspects knows it."""

    @property
    def rests_for(self) -> float | None:
        """Seconds until the next attempt, where all that is in flight waits for one; else None."""

    @property
    def hung(self) -> list[tuple[Group, int]]:
        """What hangs for good, so that the process must end, and how many attempts of each have failed by now."""

    def recall(self, id: str, attempts: int, *, at_once: bool = False) -> None:
        """So many attempts of a group that will be submitted next have failed in an earlier process, which it ended.

        `at_once`: it is tried in its order. Else after a while, so that others come first.
        """

    def failed_before(self, id: str) -> None:
        """The group of this id that is submitted next was left behind by others: if it fails, it is to blame itself."""

    def put_aside(self, aside: Parking) -> int:
        """Park there what waits for its next attempt, and what is behind it; how many groups that are.

        They are not in flight any more, until each is submitted again, or all are taken back.
        """

    def shed_aside(self, aside: Parking, down_to: int) -> list[Group]:
        """As `shed`, of what was put aside there."""

    def take_back(self, aside: Parking) -> None:
        """Submit what was put aside, in its order. Each is tried again when it is due."""
