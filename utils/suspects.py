"""No crash loop: after three starts without progress groups run alone, and the one that ends the process is known.

A call of process() may end the whole process (out of memory, a crash in a library), and so would every restart. The
count of such starts, and which group is run alone, travel in the map of each commit. A group that was named there when
the process ended is not run again: it has failed.
"""

import time
from collections import deque
from collections.abc import Callable, Collection

from utils.aggregator import Group
from utils.executor import Call, Executor, Outcome
from utils.logger import logger
from utils.offsets import PartitionOffsets

STARTS = 3  # without progress, after which groups run alone
ALONE = 1000  # groups that then run alone: the one that ends the process was among the first
PAUSE = 0.005  # seconds between two looks for the commit that names a group


class EndedTheProcess(Exception):
    """The process ended while this group, and no other, was in process()."""


class Suspects:
    """An Executor that hands groups to another one: as they come, or each alone and named in a commit before."""

    def __init__(
        self,
        executor: Executor,
        owned: Callable[[], Collection[PartitionOffsets]],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._executor = executor
        self._owned = owned
        self._sleep = sleep
        self._left = 0  # groups that are still to run alone
        self._held: deque[Group] = deque()
        self._alone: Group | None = None  # to be run, or running
        self._is_running = False
        self._failed: list[Outcome] = []
        self.in_flight = 0

    def submit(self, groups: list[Group]) -> None:
        self.in_flight += len(groups)
        owned = self._owned()
        if any(each.tried is not None for each in owned):
            groups = self._without_tried(groups)
        if not self._left and any(each.starts > STARTS for each in owned):
            self._left = ALONE
            logger.error("no progress in several starts: messages are processed one by one for a while")
        if self._left:
            self._held.extend(groups)
        else:
            self._executor.submit(groups)

    def collect(self, timeout: float) -> list[Outcome]:
        outcomes, self._failed = self._failed, []
        if self._left or self._alone:
            self._go_on()
            if self._alone and not self._is_running and not outcomes:
                self._sleep(min(timeout, PAUSE))
        outcomes += self._executor.collect(0 if outcomes else timeout)
        if self._alone and any(outcome.group is self._alone for outcome in outcomes):
            self._alone = None
            self._left -= 1
            if not self._left:
                self._executor.submit(list(self._held))
                self._held.clear()
        self.in_flight -= len(outcomes)
        return outcomes

    def cancel(self) -> None:
        self._executor.cancel()
        self._held.clear()
        if not self._is_running:
            self._alone = None
        self.in_flight = self._executor.in_flight + len(self._failed)

    def drop(self) -> None:
        self._executor.drop()
        self._held.clear()
        self._failed = []
        self._alone, self._left, self.in_flight = None, 0, 0

    def calls(self) -> list[Call]:
        return self._executor.calls()

    def _without_tried(self, groups: list[Group]) -> list[Group]:
        tried = [any(each.offsets.tried == each.offset for each in group.fragments) for group in groups]
        self._failed += [
            Outcome(group, [], EndedTheProcess("the process ended while it was run alone"))
            for group, was_tried in zip(groups, tried, strict=True)
            if was_tried
        ]
        return [group for group, was_tried in zip(groups, tried, strict=True) if not was_tried]

    def _go_on(self) -> None:
        """Name the next group, or run the one that is named in a commit."""
        if self._alone is None and self._held:
            self._alone, self._is_running = self._held.popleft(), False
            for each in self._alone.fragments:
                each.offsets.trying = each.offset
        if self._alone and not self._is_running:
            self._is_running = all(each.offsets.noted == each.offset for each in self._alone.fragments)
            if self._is_running:
                self._executor.submit([self._alone])
