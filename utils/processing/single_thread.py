"""process() in one thread: each call begins after the one before has ended, in the order of submission."""

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from queue import SimpleQueue

from utils.joining.aggregator import Group
from utils.metrics import BOUNDS
from utils.processing.done import Done
from utils.processing.outcome import Call, Outcome, Process, attempt
from utils.processing.runner import NO_HOOKS, CallTerms, Hooks, Overdue, call_hook, running_calls

TOGETHER = 16  # quick calls that are timed together, all but the last one
LARGE = 100  # results of one call: it is looked at what room they take before the next one begins


class SingleThread:
    """process() in one thread. Outcomes come by the batch: with quick calls a turn of the loop for each costs more."""

    one_by_one = True

    def __init__(
        self,
        process: Process,
        consumer_name: str,
        hooks: Hooks = NO_HOOKS,
        terms: CallTerms | None = None,
    ) -> None:
        self._process = process
        self._consumer_name = consumer_name
        self._hooks = hooks
        self._terms = terms or CallTerms()
        self._done = Done(self._terms.most)
        self._opened: Future[None] = Future()
        self._closed: Future[None] = Future()
        self._waiting: deque[Group] = deque()
        self._call: Group | None = None  # that is running
        self._since = 0.0  # when it began, or one of the quick ones before it
        self._work_is_there: SimpleQueue[bool] = SimpleQueue()
        self._go_on: SimpleQueue[bool] = SimpleQueue()

    def open(self) -> None:
        work = partial(self._terms.context.run, self._work)
        self._done.start_thread(work, "process", self._opened, self._closed)
        self._opened.result()

    def submit(self, groups: Iterable[Group]) -> None:
        self._waiting.extend(groups)
        if self._work_is_there.empty():  # one word is enough, however long the thread does not come to it
            self._work_is_there.put(True)

    def collect(self, timeout: float) -> list[Outcome]:
        return self._done.collect(timeout)

    def cancel(self) -> list[Group]:
        return list(iter(self._take, None))

    def queued(self, id: str) -> bool:
        return any(group.id == id for group in self._waiting.copy())  # a copy is made in one piece

    def go_on(self) -> None:
        self._go_on.put(True)

    def overdue(self, limit: float) -> Overdue:
        call = self._call  # which may end just now: then its time seems shorter than it was
        return Overdue([call], True) if call and self._terms.clock() - self._since > limit else Overdue([], False)

    def calls(self) -> list[Call]:
        call = self._call
        return running_calls([(call, self._since)] if call else [], self._terms.clock())

    def close(self, timeout: float) -> None:
        self.cancel()
        self._done.close()
        self._work_is_there.put(False)
        self.go_on()
        self._closed.result(timeout)

    def _work(self) -> None:
        if not call_hook(self._hooks.setup, self._opened):
            return
        while self._work_is_there.get():
            self._call_for_all()
            self._done.tell()
        call_hook(self._hooks.teardown, self._closed)

    def _call_for_all(self) -> None:
        """All that waits. Quick calls are noted some together: the locks of it are no more for free than they are."""
        clock, times, done = self._terms.clock, self._terms.times, self._done
        together = 1
        self._since = clock()
        while made := self._call_some(together):
            now = clock()
            took, self._since, number = now - self._since, now, len(made)
            times.add(took, number)
            has_failed = made[-1].error is not None
            is_little = took < BOUNDS[0] and not has_failed and len(made[-1].results) < LARGE
            # As nearly always: then one stands for all.
            done.note_size(made[-1].size * number if is_little else sum([outcome.size for outcome in made]))
            made.clear()  # else a ring that is never freed: the traceback of an error knows this frame
            if done.is_full:
                self._wait_for_room()
            if has_failed:
                self._wait_for_word()
            together = TOGETHER if took * TOGETHER < BOUNDS[0] * number else 1

    def _call_some(self, together: int) -> list[Outcome]:
        """The next calls, no more after one that failed, made many results or took long. None: all are taken."""
        process, consumer_name, clock = self._process, self._consumer_name, self._terms.clock
        quick_until = self._since + BOUNDS[0]  # the next one would be held against the time of this one, too
        put, take = self._done.put, self._waiting.popleft
        made: list[Outcome] = []
        with suppress(IndexError):  # all taken, perhaps just now by the other thread
            for _ in range(together):
                self._call = group = take()
                outcome = attempt(process, group, consumer_name)
                self._call = None  # first: what is collected must not be found late afterwards
                put(outcome)
                made.append(outcome)
                if outcome.error is not None or len(outcome.results) >= LARGE or clock() >= quick_until:
                    del outcome  # as there
                    break
        return made

    def _wait_for_room(self) -> None:
        self._done.tell()
        self._done.wait_for_room()
        self._since = self._terms.clock()

    def _wait_for_word(self) -> None:
        self._done.tell()
        self._go_on.get()
        self._since = self._terms.clock()

    def _take(self) -> Group | None:
        try:
            return self._waiting.popleft()
        except IndexError:  # all taken, perhaps just now by the other thread
            return None
