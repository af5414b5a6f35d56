"""No crash loop: after three starts without progress groups run apart, and the one that ends the process is known.

A call of process() may end the whole process (out of memory, a crash in a library), and so would every restart. After
such starts one group is run alone, then two, then four and so on, each time after a commit that holds what was finished
before. Where the process ends in such a batch, the next one begins with its first group, alone: the guilty one comes
closer each time, and soon is alone. What has failed is put aside until nothing else is left to be run and its next
attempt is due: many ids that fail are what tells an outage from a message that always fails, and while a batch waited
for one of them no other could fail. While process() fails for one id after the other, batches are of one group: only
that one is tried, and named. Where Kafka has failed, a worker that starts again in a process that lives on is no such
start. The count of starts, and which group is run alone, travel in the map of each commit. A group that was named there
when the process ended is not run again: it has failed. How a partition stands meanwhile: utils/joining/suspicion.py.

A call that hangs for good ends the process too, but in order: how many of its attempts have failed travels in the map,
and the next process goes on with them.
"""

import time
from collections import deque
from collections.abc import Callable, Collection
from itertools import chain, compress

from utils.joining.aggregator import Group
from utils.joining.offsets import PartitionOffsets
from utils.logger import logger
from utils.processing.executor import Retrying
from utils.processing.outcome import Call, InFlight, Outcome
from utils.processing.parking import Parked, Parking, taken_in_turn

STARTS = 3  # without progress, after which groups run apart
LARGEST = 1 << 14  # groups of the last batch: all of them are more than a worker has in process() at once
LONG = 90.0  # seconds until the next call: longer than RETRY_BACKOFF waits, whose second call may end the process
PAUSE = 0.005  # seconds between two looks for the commit that a batch waits for


class EndedTheProcess(Exception):
    """The process ended while this group, and no other, was in process()."""


class Suspects:
    """An Executor that hands groups to another one: as they come, or in batches with a commit before each."""

    def __init__(
        self,
        executor: Retrying,
        owned: Callable[[], Collection[PartitionOffsets]],
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock`: the one of `executor`."""
        self._executor = executor
        self._owned = owned
        self._sleep = sleep
        self._clock = clock
        self._size = 0  # how many groups the next batch may have; 0: they pass as they come
        self._held: deque[Group] = deque()
        self._aside = Parking()  # what waits for its next attempt, and what is behind it: it holds up nobody
        self._newest_next = False  # of the held ones, while only one at a time is tried
        self._batch: list[Group] = []  # to be run, or running
        self._is_probe = False  # it is taken while only one at a time is tried
        self._is_running = False
        self._failed: list[Outcome] = []

    @property
    def in_flight(self) -> int:
        """Derived, for the other one forgets what fails after `cancel()` without an outcome."""
        batch = 0 if self._is_running else len(self._batch)
        return self._executor.in_flight + len(self._failed) + len(self._held) + batch + self._aside.groups

    def submit(self, groups: list[Group]) -> None:
        if [each for each in self._owned() if not each.suspicion.is_over]:
            groups = self._guarded(groups)  # not for long
        if self._size:
            self._held.extend(groups)
        else:
            self._executor.submit(groups)

    def collect(self, timeout: float) -> list[Outcome]:
        outcomes, self._failed = self._failed, []
        if self._size:
            self._go_on()
            if (self._batch or self._aside.groups) and not self._is_running and not outcomes:
                self._sleep(min(timeout, PAUSE))
        outcomes += self._executor.collect(0 if outcomes else timeout)
        if self._executor.hung:
            self._note_hung()
        if self._is_running and self._is_over():
            self._end_batch()
        elif (self._executor.rests_for or 0.0) > LONG and not self._executor.calls():
            for offsets in self._owned():
                offsets.suspicion.note_all_back()
        return outcomes

    def cancel(self) -> None:
        self._executor.cancel()
        for offsets in self._owned() if self._held or self._batch or self._aside.groups else ():
            offsets.suspicion.note_held_back()
        self._forget()
        if not self._is_running:
            self._batch = []

    def drop(self) -> None:
        self._executor.drop()
        self._forget()
        self._failed, self._batch = [], []
        self._size, self._is_running = 0, False

    @property
    def parked(self) -> Parking | Parked:
        parked, aside = self._executor.parked, self._aside
        if not aside.groups:
            return parked
        return Parked(parked.groups + aside.groups, parked.bytes + aside.bytes, parked.moved)

    def shed(self, down_to: int) -> list[Group]:
        if not self._size:
            return self._executor.shed(down_to)
        return [] if self._held else self._executor.shed_aside(self._aside, down_to)  # what is held came after it

    def calls(self) -> list[Call]:
        return self._executor.calls()

    def find(self, id: str) -> InFlight | None:
        held = [*self._held] if self._is_running else [*self._batch, *self._held]
        waits = id in self._aside.busy or any(group.id == id for group in held)
        return self._executor.find(id) or (InFlight("queued", 0.0, 0) if waits else None)

    @property
    def circuit_open_for(self) -> float | None:
        return self._executor.circuit_open_for

    def _guarded(self, groups: list[Group]) -> list[Group]:
        """Without those that have ended the process: they have failed. After starts without progress: run apart.

        Of those that hung before, the attempts go on.
        """
        owned = self._owned()
        if any(each.suspicion.awaits_first_call for each in owned):
            for each in chain.from_iterable([group.fragments for group in groups]):
                each.offsets.suspicion.note_called(each.offset)
        if any(each.suspicion.remembers for each in owned):
            self._recall(groups)
        if any(each.suspicion.ran_alone_at_the_end is not None for each in owned):
            groups = self._without_guilty(groups)
        if not self._size and any(each.suspicion.starts_without_progress > STARTS for each in owned):
            self._size = 1
            logger.error("first message not done in several starts: messages run one by one, then in growing batches")
        return groups

    def _note_hung(self) -> None:
        """Where its partition is ours: the call may be of an assignment before."""
        owned = {(each.topic, each.partition, each.topic_id): each.suspicion for each in self._owned()}
        for group, attempts in self._executor.hung:
            for each in group.fragments:
                of = each.offsets
                if suspicion := owned.get((of.topic, of.partition, of.topic_id)):
                    suspicion.note_hung(each.offset, attempts)

    def _recall(self, groups: list[Group]) -> None:
        for group in groups:
            if all(each.offsets.suspicion.was_left_behind(each.offset) for each in group.fragments):
                self._executor.failed_before(group.id)
            attempts = [each.offsets.suspicion.attempts_that_hung(each.offset) for each in group.fragments]
            if known := [each for each in attempts if each is not None]:
                is_full = any(each.offsets.suspicion.names_no_more for each in group.fragments)
                self._executor.recall(group.id, max(known), at_once=is_full)
        owned = self._owned()
        if all(each.suspicion.has_read_left_behind(each.position) for each in owned):  # parts come at their own pace
            for each in owned:
                each.suspicion.forget_left_behind()

    def _without_guilty(self, groups: list[Group]) -> list[Group]:
        guilty = [any(each.offsets.suspicion.ended_the_process(each.offset) for each in of.fragments) for of in groups]
        error = "the process ended while it was run alone"
        self._failed += [Outcome(group, [], EndedTheProcess(error)) for group in compress(groups, guilty)]
        return [group for group, is_guilty in zip(groups, guilty, strict=True) if not is_guilty]

    def _go_on(self) -> None:
        """Take the next batch, or run the one whose commit has come."""
        if not self._batch:
            self._take_batch()
        if self._batch and not self._is_running:
            self._is_running = all(each.offsets.suspicion.may_run(each.offset) for each in self._batch[0].fragments)
            if self._is_running:
                self._executor.submit(self._batch)

    def _take_batch(self) -> None:
        """From what has come, else from what was put aside."""
        now, fails = self._clock(), self._executor.circuit_open_for is not None
        size, self._is_probe = 1 if fails else self._size, fails
        while self._held and len(self._batch) < size:
            group = taken_in_turn(self._held, newest=self._newest_next) if fails else self._held.popleft()
            self._newest_next = fails and not self._newest_next
            if self._may_run(group, now):
                self._batch.append(group)
        while self._aside.rest_some and len(self._batch) < size and not self._held:
            if not fails and self._aside.next_due() > now:
                break
            self._batch.append(self._aside.rested())
        if self._batch:
            first = {each.offsets: each.offset for each in self._batch[0].fragments}
            for offsets in self._owned():
                offsets.suspicion.begin_batch(len(self._batch), first.get(offsets))

    def _may_run(self, group: Group, now: float) -> bool:
        """False: it waits for one of its id that was put aside, or was so itself before it was read again."""
        if group.id in self._aside.busy:
            self._aside.put_behind(group)
            return False
        if (due := self._aside.take_due(group.id, now)) > now:
            self._aside.rest(group, due)
            return False
        return True

    def _is_over(self) -> bool:
        """Whether all of the batch has ended, or waits for its next attempt."""
        return not self._executor.in_flight or self._executor.rests_for is not None

    def _end_batch(self) -> None:
        """The next batch is twice as large, unless all of this one waits, or this one was a probe.

        If the larger one ends the process, the next start comes to a smaller batch, or something is done by then. But
        what ran before a probe is mostly not done: if batches grew there, too, the next start would come to the same
        batch again.
        """
        waits = self._executor.put_aside(self._aside)
        for id in {group.id for group in self._batch}:
            if not self._aside.rests(id):
                self._held.extendleft(reversed(self._aside.release(id)))
        self._size *= 2 if waits < len(self._batch) and not self._is_probe else 1
        self._batch, self._is_running = [], False
        for offsets in self._owned():
            offsets.suspicion.end_batch()  # also of what was put aside: it runs no more
        if self._size > LARGEST:
            self._end()

    def _end(self) -> None:
        """Groups pass as they come again."""
        self._size = 0
        for offsets in self._owned():
            offsets.end_in_order(is_idle=not self._executor.in_flight)
        self._executor.take_back(self._aside)
        self._executor.submit([*self._held])
        self._forget()

    def _forget(self) -> None:
        self._held.clear()
        self._aside.clear()
