"""No crash loop: after three starts without progress groups run apart, and the one that ends the process is known.

A call of process() may end the whole process (out of memory, a crash in a library), and so would every restart. After
such starts one group is run alone, then two, then four and so on, each time after a commit that holds what was finished
before. Where the process ends in such a batch, the next one begins with its first group, alone: the guilty one comes
closer each time, and soon is alone. Where Kafka has failed, a worker that starts again in a process that lives on is no
such start. The count of starts, and which group is run alone, travel in the map of each commit. A group that was named
there when the process ended is not run again: it has failed.

A call that hangs for good ends the process too, but in order: how many of its attempts have failed travels in the map,
and the next process goes on with them.
"""

import time
from collections import deque
from collections.abc import Callable, Collection
from itertools import chain

from utils.joining.aggregator import Group
from utils.joining.offsets import PartitionOffsets
from utils.logger import logger
from utils.processing.attempts import LONGEST_BACKOFF
from utils.processing.executor import Call, Executor, InFlight, Outcome
from utils.processing.parking import Parking

STARTS = 3  # without progress, after which groups run apart
LARGEST = 1 << 14  # groups of the last batch: all of them are more than a worker has in process() at once
LONG = LONGEST_BACKOFF * 1.5  # seconds: what rests for longer was told to
PAUSE = 0.005  # seconds between two looks for the commit that a batch waits for


class EndedTheProcess(Exception):
    """The process ended while this group, and no other, was in process()."""


class Suspects:
    """An Executor that hands groups to another one: as they come, or in batches with a commit before each."""

    def __init__(
        self,
        executor: Executor,
        owned: Callable[[], Collection[PartitionOffsets]],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._executor = executor
        self._owned = owned
        self._sleep = sleep
        self._size = 0  # how many groups the next batch may have; 0: they pass as they come
        self._held: deque[Group] = deque()
        self._aside: dict[str, list[Group]] = {}  # by id: what waits long for its next attempt, and what came after it
        self._batch: list[Group] = []  # to be run, or running
        self._is_running = False
        self._failed: list[Outcome] = []

    @property
    def in_flight(self) -> int:
        """Derived, for the other one forgets what fails after `cancel()` without an outcome."""
        batch = 0 if self._is_running else len(self._batch)
        aside = sum(map(len, self._aside.values()))
        return self._executor.in_flight + len(self._failed) + len(self._held) + batch + aside

    def submit(self, groups: list[Group]) -> None:
        known = [each.suspicion for each in self._owned()]
        if [each for each in known if each.starts > STARTS or each.tried is not None or each.remembers]:
            groups = self._guarded(groups)  # hardly ever
        if self._size:
            self._held.extend(groups)
        else:
            self._executor.submit(groups)

    def collect(self, timeout: float) -> list[Outcome]:
        outcomes, self._failed = self._failed, []
        if self._size:
            self._go_on()
            if self._batch and not self._is_running and not outcomes:
                self._sleep(min(timeout, PAUSE))
        outcomes += self._executor.collect(0 if outcomes else timeout)
        for group, attempts in self._executor.hung:
            for each in group.fragments:
                each.offsets.suspicion.hung[each.offset] = attempts
        is_over = not self._executor.in_flight or self._executor.rests_for > LONG
        if self._is_running and (is_over or self._executor.circuit_open_for is not None):
            self._end_batch()  # open: only probes are called, and they must find good ones
        return outcomes

    def cancel(self) -> None:
        self._executor.cancel()
        for offsets in self._owned() if self._held or self._batch or self._aside else ():
            offsets.suspicion.holds_back = True
        self._held.clear()
        self._aside.clear()
        if not self._is_running:
            self._batch = []

    def drop(self) -> None:
        self._executor.drop()
        self._held.clear()
        self._aside.clear()
        self._failed, self._batch = [], []
        self._size, self._is_running = 0, False

    @property
    def rests_for(self) -> float:
        return self._executor.rests_for

    @property
    def hung(self) -> list[tuple[Group, int]]:
        return self._executor.hung

    def recall(self, id: str, attempts: int) -> None:
        self._executor.recall(id, attempts)

    def failed_before(self, id: str) -> None:
        self._executor.failed_before(id)

    @property
    def parked(self) -> Parking:
        return self._executor.parked

    def shed(self, down_to: int) -> list[Group]:
        if self._size:  # what is held came after it
            return []
        return self._executor.shed(down_to)

    def calls(self) -> list[Call]:
        return self._executor.calls()

    def find(self, id: str) -> InFlight | None:
        held = [*self._held] if self._is_running else [*self._batch, *self._held]
        waits = id in self._aside or any(group.id == id for group in held)
        return self._executor.find(id) or (InFlight("queued", 0.0, 0) if waits else None)

    @property
    def circuit_open_for(self) -> float | None:
        return self._executor.circuit_open_for

    def _guarded(self, groups: list[Group]) -> list[Group]:
        """Without those that have ended the process: they have failed. After starts without progress: run apart.

        Of those that hung before, the attempts go on.
        """
        owned = self._owned()
        if any(each.suspicion.remembers for each in owned):
            self._recall(groups)
        if any(each.suspicion.tried is not None for each in owned):
            groups = self._without_tried(groups)
        if not self._size and any(each.suspicion.starts > STARTS for each in owned):
            self._size = 1
            logger.error("no progress in several starts: messages are processed one by one, then in growing batches")
        return groups

    def _recall(self, groups: list[Group]) -> None:
        for group in groups:
            attempts = [each.offsets.suspicion.hung.get(each.offset) for each in group.fragments]
            if known := [each for each in attempts if each is not None]:
                self._executor.recall(group.id, max(known))
            elif all(each.offset < each.offsets.suspicion.left_behind for each in group.fragments):
                self._executor.failed_before(group.id)
        for offsets in self._owned():
            if offsets.position >= offsets.suspicion.left_behind:
                offsets.suspicion.left_behind = 0

    def _without_tried(self, groups: list[Group]) -> list[Group]:
        tried = [any(each.offsets.suspicion.tried == each.offset for each in group.fragments) for group in groups]
        self._failed += [
            Outcome(group, [], EndedTheProcess("the process ended while it was run alone"))
            for group, was_tried in zip(groups, tried, strict=True)
            if was_tried
        ]
        return [group for group, was_tried in zip(groups, tried, strict=True) if not was_tried]

    def _go_on(self) -> None:
        """Take the next batch, or run the one whose commit has come."""
        if not self._batch:
            self._take_batch()
        if self._batch and not self._is_running:
            self._is_running = all(each.offsets.suspicion.noted == each.offset for each in self._batch[0].fragments)
            if self._is_running:
                self._executor.submit(self._batch)

    def _take_batch(self) -> None:
        while self._held and len(self._batch) < self._size:
            group = self._held.popleft()
            self._aside.get(group.id, self._batch).append(group)
        if self._batch:
            for offsets in self._owned():
                offsets.suspicion.apart = len(self._batch)
                offsets.suspicion.trying = None  # also of what was put aside: it runs no more
            for each in self._batch[0].fragments:
                each.offsets.suspicion.trying = each.offset
        elif self._aside:
            self._end()

    def _end_batch(self) -> None:
        """What waits long for its next attempt is put aside: it holds up nobody. Then the next batch is no larger:

        if that ends the process, it is the same one again after the next start, but for what is done by then.
        """
        waits = self._executor.shed(-1)
        for group in reversed(waits):
            self._aside.setdefault(group.id, []).append(group)
        self._batch, self._is_running = [], False
        self._size *= 1 if waits else 2
        if self._size > LARGEST:
            self._end()

    def _end(self) -> None:
        """Groups pass as they come again."""
        self._size = 0
        for offsets in self._owned():
            offsets.end_in_order(is_idle=not self._executor.in_flight)
        self._executor.submit([*chain.from_iterable(self._aside.values()), *self._held])
        self._held.clear()
        self._aside.clear()
