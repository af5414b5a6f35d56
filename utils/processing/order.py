"""In which order groups are called: those of an id one after the other, whether one call runs at a time or many.

No Kafka, no clock, no logging; `now` is in seconds of the dispatcher's clock.
"""

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from utils.joining.aggregator import Group
from utils.joining.dead_letters import sources
from utils.processing.outcome import Outcome
from utils.processing.parking import Parking
from utils.processing.runner import Runner


class Submitted:
    """The groups that the runner has: `number` of them, with those whose outcome was not collected."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.number = 0

    def add(self, groups: Sequence[Group]) -> None:
        if groups:
            self.number += len(groups)
            self._runner.submit(groups)

    def collect(self, timeout: float) -> list[Outcome]:
        outcomes = self._runner.collect(timeout)
        self.number -= len(outcomes)
        return outcomes

    def take_back(self) -> list[Group]:
        """Those whose call has not begun, in the order of submission."""
        taken = self._runner.cancel()
        self.number -= len(taken)
        return taken


class Order(Protocol):
    """Which groups may be called, and which calls are abandoned: they go on, and nobody wants their outcomes."""

    @property
    def abandoned(self) -> int:
        """How many calls are."""

    def ready(self, groups: Sequence[Group], now: float) -> Sequence[Group]:
        """Those that may be called. The others are parked: behind their id, or until their next attempt is due."""

    def may_start(self, group: Group, now: float) -> bool:
        """As `ready`, of one."""

    def following(self, id: str, *, has_failed: bool) -> Group | None:
        """A call of this id has ended: the only one that may follow. None: all that wait behind it may go on."""

    def is_uneventful(self, outcomes: list[Outcome]) -> bool:
        """None has failed, is abandoned, or is waited for: they are what the loop wants, and looked at no further."""

    def halted(self, *, take_back: bool = True) -> list[Group]:
        """The last outcome was a failure. Where calls go one by one: all that wait for theirs, if they are to be taken
        back, and submitted again but for those that are to wait for what has failed.
        """

    def abandon(self, id: str) -> bool:
        """A call that runs. False: it was so before."""

    def abandon_all(self) -> None:
        """All calls that have begun."""

    def was_abandoned(self, id: str) -> bool:
        """Of a call that has ended. Told once."""

    def forget(self, id: str) -> None:
        """A call of this id has ended, abandoned or not, and nobody looks at what came of it."""

    def take_same(self, call: Group) -> Group | None:
        """The message of this abandoned call, where it was read again and waits: it does so no more.

        Not another message of its id, which has not been called.
        """

    def has_behind(self, id: str) -> bool:
        """Whether a group waits for the end of a call of this id, beside which others are called."""


class OneByOne:
    """Each call begins when the one before has ended, so the order of submission is enough, until a call fails.

    An id is busy from then on until its last attempt.
    """

    def __init__(self, runner: Runner, submitted: Submitted, parked: Parking) -> None:
        self.abandoned = 0  # the next ones to end
        self._runner = runner
        self._submitted = submitted
        self._parked = parked

    def ready(self, groups: Sequence[Group], now: float) -> Sequence[Group]:
        if not (self._parked.busy or self._parked.notes_some):
            return groups
        return [group for group in groups if self.may_start(group, now)]

    def may_start(self, group: Group, now: float) -> bool:
        return not _is_parked(group, self._parked, now)

    def following(self, id: str, *, has_failed: bool) -> Group | None:
        """After one that has failed the next may fail, too, and all of them would have to be taken back."""
        return self._parked.next_of(id) if has_failed else None

    def is_uneventful(self, outcomes: list[Outcome]) -> bool:
        return not (outcomes and outcomes[-1].error is not None) and not self.abandoned and not self._parked.busy

    def halted(self, *, take_back: bool = True) -> list[Group]:
        """The thread waits after a failure. To take back all costs 2 ms, to look for an id 0.3 (measured)."""
        taken = self._submitted.take_back() if take_back else []
        self._runner.go_on()
        return taken

    def abandon(self, id: str) -> bool:
        is_fresh = not self.abandoned
        self.abandoned = max(self.abandoned, 1)
        return is_fresh

    def abandon_all(self) -> None:
        self.abandoned = self._submitted.number
        self._parked.clear()

    def was_abandoned(self, id: str) -> bool:
        was_so = self.abandoned > 0
        self.abandoned -= was_so
        return was_so

    def forget(self, id: str) -> None:
        self.was_abandoned(id)

    def take_same(self, call: Group) -> Group | None:
        waiting = self._submitted.take_back()
        same = next((group for group in waiting if _are_same(group, call)), None)
        self._submitted.add([group for group in waiting if group is not same])
        return same

    def has_behind(self, id: str) -> bool:
        return False


class OneOfEachId:
    """Many calls run at once. An id is busy from its first call until its last one has ended."""

    def __init__(self, submitted: Submitted, parked: Parking) -> None:
        self._submitted = submitted
        self._parked = parked
        self._abandoned: set[str] = set()  # the ids of the calls

    @property
    def abandoned(self) -> int:
        return len(self._abandoned)

    def ready(self, groups: Sequence[Group], now: float) -> Sequence[Group]:
        return [group for group in groups if self.may_start(group, now)]

    def may_start(self, group: Group, now: float) -> bool:
        parked = self._parked
        if (group.id in parked.busy or parked.notes_some) and _is_parked(group, parked, now):
            return False
        parked.busy[group.id] = deque()
        return True

    def following(self, id: str, *, has_failed: bool) -> Group | None:
        return self._parked.next_of(id)

    def is_uneventful(self, outcomes: list[Outcome]) -> bool:
        return False

    def halted(self, *, take_back: bool = True) -> list[Group]:
        return []

    def abandon(self, id: str) -> bool:
        is_fresh = id not in self._abandoned
        self._abandoned.add(id)
        return is_fresh

    def abandon_all(self) -> None:
        self._abandoned = set(self._parked.busy)

    def was_abandoned(self, id: str) -> bool:
        was_so = id in self._abandoned
        self._abandoned.discard(id)
        return was_so

    def forget(self, id: str) -> None:
        self._abandoned.discard(id)
        self._parked.busy.pop(id, None)

    def take_same(self, call: Group) -> Group | None:
        first = self._parked.first_behind(call.id)
        return self._parked.next_of(call.id) if first and _are_same(first, call) else None

    def has_behind(self, id: str) -> bool:
        return self._parked.first_behind(id) is not None


def _is_parked(group: Group, parked: Parking, now: float) -> bool:
    """Its id is busy, or its next attempt is not due, and it is parked for that."""
    if group.id in parked.busy:
        parked.put_behind(group)
        return True
    if parked.notes_some and (due := parked.take_due(group.id, now)) > now:
        parked.rest(group, due)
        return True
    return False


def _are_same(one: Group, other: Group) -> bool:
    """Whether both hold the same record, read once more."""
    return one.id == other.id and not set(sources(one)).isdisjoint(sources(other))
