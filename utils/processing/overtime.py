"""Calls that last too long: each is a failed attempt, and once more each time that as long is over again.

No Kafka, no clock; `now` is in seconds of the dispatcher's clock.
"""

from collections.abc import Callable, Collection
from typing import NamedTuple

from utils.joining.aggregator import Group
from utils.logger import logger
from utils.processing.attempts import Attempts
from utils.processing.order import Order
from utils.processing.outcome import Outcome, took_too_long
from utils.processing.runner import Runner

WATCH_EVERY = 1.0  # seconds
EXAMPLES = 10  # ids that a log line names at most

Judge = Callable[[str, BaseException, float], float | None]
"""Told of a failed attempt: the id, its error, `now`. When the next may be; None: the message has failed for good."""


class Late(NamedTuple):
    """A call whose time was over at `failed_at`, for the last time, as long as it goes on."""

    group: Group | None
    """What is tried again when the call ends. None: the assignment that began it is over."""
    failed_at: float
    due: float
    """When the next attempt may be."""


class Overtime:
    """Looks after the calls of a runner. `timeout`: seconds that one may take; 0: for ever.

    A late call is abandoned. It keeps its id busy, over a rebalance, too: the message that is read again waits behind
    it, and its attempts go on. Another message of the id is not to blame. Where it has waited for `timeout`, only
    another process can call it.
    """

    def __init__(
        self, runner: Runner, order: Order, attempts: Attempts, timeout: float, on_stuck: Callable[[], None]
    ) -> None:
        self._runner = runner
        self._order = order
        self._attempts = attempts
        self._timeout = timeout
        self._on_stuck = on_stuck
        self._next_watch = 0.0
        self._late: dict[str, Late] = {}  # by id, those whose message is tried again
        self._blocked: dict[str, float] = {}  # by id: since when another message waits behind its late call
        self.is_stuck = False
        self.hung: list[tuple[Group, int]] = []

    @property
    def late(self) -> Collection[str]:
        """The ids of late calls whose message is tried again."""
        return self._late

    @property
    def error(self) -> TimeoutError:
        return took_too_long(self._timeout)

    def is_due(self, now: float) -> bool:
        """A look is. Once too many calls are late, the end of the process is waited for."""
        return self._timeout > 0 and now >= self._next_watch and not self.is_stuck

    def look(self, now: float, judge: Judge, *, is_cancelled: bool) -> list[Outcome]:
        """The messages that have failed for good because their calls last too long.

        `is_cancelled`: what is to be tried again is left unfinished, and nobody waits for it.
        """
        self._next_watch = now + min(WATCH_EVERY, self._timeout / 2)
        groups, too_many = self._runner.overdue(self._timeout)
        looks = [self._look_at(group, now, judge, is_cancelled=is_cancelled) for group in groups]
        failed = [outcome for outcome in looks if outcome]
        if too_many or self._is_one_blocked(groups, now):
            self.is_stuck = True
            facts = {"timeout": self._timeout, "ids": [group.id for group in groups[:EXAMPLES]], "count": len(groups)}
            logger.error("process() hangs: the worker commits what is finished and ends", extra=facts)
            self.hung = self._hanging(groups, {outcome.group.id for outcome in failed})
            self._on_stuck()
        return failed

    def cancel(self) -> None:
        self._blocked = {}
        self._late = {id: late._replace(group=None) for id, late in self._late.items()}

    def ended(self, id: str) -> Late | None:
        """An abandoned call has ended. None: its message has failed for good, or the call was not late."""
        return self._late.pop(id, None)

    def _look_at(self, call: Group, now: float, judge: Judge, *, is_cancelled: bool) -> Outcome | None:
        late, is_fresh = self._late.get(call.id), self._order.abandon(call.id)
        group = call if is_fresh else (late and late.group) or self._order.take_same(call)
        if not group:
            return None
        if late and now - late.failed_at <= self._timeout:
            self._late[call.id] = late._replace(group=group)
            return None
        due = judge(call.id, self.error, now)
        if due is None:  # its id stays busy: the call goes on
            self._late.pop(call.id, None)
            return Outcome(group, [], self.error, attempts=self._attempts.forget(call.id))
        self._late[call.id] = Late(None if is_cancelled else group, now, due)
        return None

    def _is_one_blocked(self, calls: list[Group], now: float) -> bool:
        blocked = [
            call.id  # also where what was behind it has left memory since, to be read again
            for call in calls
            if call.id not in self._late and (call.id in self._blocked or self._order.has_behind(call.id))
        ]
        self._blocked = {id: self._blocked.get(id, now) for id in blocked}
        return any(now - since > self._timeout for since in self._blocked.values())

    def _hanging(self, calls: list[Group], failed: set[str]) -> list[tuple[Group, int]]:
        """Of an assignment before, too: its message may be ours again, though it is not here yet."""
        open_ones = [group for group in calls if group.id not in failed]
        return [(group, self._attempts.made(group.id) + (group.id not in self._late)) for group in open_ones]
