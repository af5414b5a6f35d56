"""process() in as many threads as calls may run at once."""

import decimal
import sys
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from functools import partial
from queue import Empty, SimpleQueue

from config import UnavailableError
from utils.joining.aggregator import Group
from utils.processing.done import Done
from utils.processing.outcome import Call, Outcome, Process, attempt
from utils.processing.runner import NO_HOOKS, CallTerms, Hooks, Overdue, call_hook, overdue, refuse_unrun, running_calls
from utils.threads import Apart

ROUND = 0.08  # seconds in which each thread that uses the CPU has had its turn: the loop and health wait for theirs
LEAST_TURN = 0.0005  # seconds; with shorter ones a tenth of the CPU and more is lost (measured)


class ThreadPool:
    """process() in as many threads as calls may run at once."""

    one_by_one = False

    def __init__(
        self,
        process: Process,
        consumer_name: str,
        concurrency: int,
        hooks: Hooks = NO_HOOKS,
        terms: CallTerms | None = None,
    ) -> None:
        self._process = process
        self._consumer_name = consumer_name
        self._concurrency = concurrency
        self._hooks = hooks
        self._terms = terms or CallTerms()
        self._done = Done(self._terms.most)
        self._closed: Future[None] = Future()
        self._threads: list[threading.Thread] = []
        self._calls: dict[int, tuple[Group, float]] = {}  # by thread: what it is at, and since when
        self._waiting: SimpleQueue[Group | None] = SimpleQueue()

    def open(self) -> None:
        sys.setswitchinterval(min(sys.getswitchinterval(), max(ROUND / self._concurrency, LEAST_TURN)))
        refuse_unrun(self._terms.context.run(self._hooks.setup))
        try:
            for number in range(self._concurrency):
                work = partial(self._terms.context.copy().run, self._work, number)
                self._threads.append(self._done.start_thread(work, f"process {number}"))
        except RuntimeError as error:
            self._end()
            given = f"CONCURRENCY is {self._concurrency}, and only {len(self._threads)} threads could be started"
            limits = "raise the limit of threads here (TasksMax of systemd, pids of a container)"
            raise UnavailableError(f"{given}: lower it, or {limits} ({error})") from error

    def submit(self, groups: Iterable[Group]) -> None:
        for group in groups:
            self._waiting.put(group)

    def collect(self, timeout: float) -> list[Outcome]:
        return self._done.collect(timeout, len(self._calls))

    def cancel(self) -> list[Group]:
        return list(iter(self._take, None))

    def queued(self, id: str) -> bool:
        return False

    def go_on(self) -> None:
        pass

    def overdue(self, limit: float) -> Overdue:
        return overdue(self._calls.values(), self._terms.clock() - limit, self._concurrency)

    def calls(self) -> list[Call]:
        return running_calls(self._calls.values(), self._terms.clock())

    def close(self, timeout: float) -> None:
        self.cancel()
        self._done.close()
        Apart(target=self._end, name="teardown").start()
        self._closed.result(timeout)

    def _end(self) -> None:
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()
        self._terms.context.run(call_hook, self._hooks.teardown, self._closed)

    def _work(self, thread: int) -> None:
        done, terms = self._done, self._terms
        decimal.setcontext(decimal.getcontext().copy())  # what the threads have of setup() is one object
        while group := self._next():
            self._calls[thread] = group, (began := terms.clock())
            outcome = attempt(self._process, group, self._consumer_name)
            terms.times.add(terms.clock() - began)
            del self._calls[thread]  # first: what is collected must not be found late afterwards
            done.put(outcome)
            done.note_size(outcome.size)
            done.tell()
            del group, outcome  # else an error keeps all that process() had in its hands until the next call has ended

    def _next(self) -> Group | None:
        while True:
            self._done.wait_for_room()
            group = self._waiting.get()
            if not (group and self._done.is_full):
                return group
            self._waiting.put(group)  # the room went while this thread waited for a group

    def _take(self) -> Group | None:
        try:
            return self._waiting.get_nowait()
        except Empty:
            return None
