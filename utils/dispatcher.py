"""Hands groups to process(): those of an id one after the other, in their order, at any concurrency.

Knows neither Kafka nor offsets; all of it runs on the loop's thread.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from utils.aggregator import Group
from utils.executor import Call, Outcome, Runner, took_too_long
from utils.logger import logger

WATCH_EVERY = 1.0  # seconds
EXAMPLES = 10  # ids that a log line names at most


class Dispatcher:
    """The loop's Executor, over one way to call process(). Outlives a worker, for calls outlive an assignment.

    A call that lasts longer than `timeout` seconds has failed, whatever comes of it later (0: none does). When too many
    hang, `is_stuck` is set and `on_stuck` called: the worker shall commit what is finished, and the process end.
    """

    def __init__(
        self,
        runner: Runner,
        timeout: float = 0,
        on_stuck: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runner = runner
        self._timeout = timeout
        self._on_stuck = on_stuck
        self._clock = clock
        self._next_watch = 0.0
        self.is_stuck = False
        self._behind: dict[str, deque[Group]] = {}  # by each id that is in a call: the groups that wait for its end
        self._started = 0  # groups that the runner has
        self._stale = 0  # calls whose outcome nobody wants any more: the next ones to end, where they run one by one,
        self._stale_ids: set[str] = set()  # else those of these ids
        self.in_flight = 0

    def submit(self, groups: list[Group]) -> None:
        self.in_flight += len(groups)
        self._start(groups if self._runner.one_by_one else self._first_of_their_ids(groups))

    def collect(self, timeout: float) -> list[Outcome]:
        if not self.in_flight:
            return []
        outcomes = self._runner.collect(timeout)
        self._started -= len(outcomes)
        if self._runner.one_by_one:
            stale = min(self._stale, len(outcomes))
            self._stale -= stale
            outcomes = outcomes[stale:] if stale else outcomes
        else:
            self._start(self._next_of_their_ids(outcomes))
            outcomes = [outcome for outcome in outcomes if not self._is_stale(outcome)]
        if self._timeout and self._clock() >= self._next_watch:
            outcomes += self._overdue()
        self.in_flight -= len(outcomes)
        return outcomes

    def cancel(self) -> None:
        cancelled = self._runner.cancel()
        self._started -= len(cancelled)
        if not self._runner.one_by_one:
            for group in cancelled:
                del self._behind[group.id]
        for behind in self._behind.values():
            behind.clear()
        self.in_flight = self._started - self._stale - len(self._stale_ids)

    def drop(self) -> None:
        self.cancel()
        if self._runner.one_by_one:
            self._stale = self._started
        else:
            self._stale_ids = set(self._behind)
        self.in_flight = 0

    def calls(self) -> list[Call]:
        return self._runner.calls()

    def _start(self, groups: Sequence[Group]) -> None:
        if groups:
            self._started += len(groups)
            self._runner.submit(groups)

    def _first_of_their_ids(self, groups: Iterable[Group]) -> list[Group]:
        first = []
        for group in groups:
            if group.id in self._behind:
                self._behind[group.id].append(group)
            else:
                self._behind[group.id] = deque()
                first.append(group)
        return first

    def _next_of_their_ids(self, outcomes: Iterable[Outcome]) -> list[Group]:
        following = []
        for outcome in outcomes:
            if behind := self._behind[outcome.group.id]:
                following.append(behind.popleft())
            else:
                del self._behind[outcome.group.id]
        return following

    def _overdue(self) -> list[Outcome]:
        """The calls that have just turned out to last too long, as failed."""
        self._next_watch = self._clock() + min(WATCH_EVERY, self._timeout / 2)
        groups, too_many = self._runner.overdue(self._timeout)
        failed = [group for group in groups if self._make_stale(group)]
        if too_many and not self.is_stuck:
            self.is_stuck = True
            facts = {"timeout": self._timeout, "ids": [group.id for group in groups[:EXAMPLES]], "count": len(groups)}
            logger.error("process() hangs: the worker commits what is finished and ends", extra=facts)
            self._on_stuck()
        return [Outcome(group, [], took_too_long(self._timeout)) for group in failed]

    def _make_stale(self, group: Group) -> bool:
        """False where it was so before."""
        if self._runner.one_by_one:
            fresh = not self._stale
            self._stale = max(self._stale, 1)
            return fresh
        fresh = group.id not in self._stale_ids
        self._stale_ids.add(group.id)
        return fresh

    def _is_stale(self, outcome: Outcome) -> bool:
        if outcome.group.id not in self._stale_ids:
            return False
        self._stale_ids.remove(outcome.group.id)
        return True
