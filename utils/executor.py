"""Runs process() off the loop's thread, so that a slow call never stops the poll.

Knows neither Kafka nor offsets: groups go in by the batch, outcomes come out.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Protocol

import msgspec

from utils.aggregator import Group
from utils.messages import Message, Result, join, results

Process = Callable[[Message, str], object]
_HAND_BACK = 0.02  # seconds: outcomes of a batch that is not done yet are handed back at least this often


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What became of a group: its results (none: filtered), or the error that process() or its data raised."""

    group: Group
    results: list[Result]
    error: Exception | None = None


class Executor(Protocol):
    """One way to run process(): in one thread, in many, or in coroutines."""

    in_flight: int
    """Groups submitted whose outcome has not been collected."""

    def submit(self, groups: list[Group]) -> None: ...

    def collect(self, timeout: float) -> list[Outcome]:
        """The outcomes since the last call; waits up to `timeout` seconds for the first one."""

    def cancel(self) -> None:
        """Start none of the groups that wait: they are not in flight any more."""

    def drop(self) -> None:
        """Cancel, and never hand back the outcomes of what has been started."""

    def close(self) -> None:
        """Drop, and end the threads after the call that is running, without waiting for it."""


class SingleThread:
    """process() in one thread, in the order of submission."""

    def __init__(self, process: Process, consumer_name: str) -> None:
        self._process = process
        self._consumer_name = consumer_name
        self._epoch = 0  # goes up when outcomes are dropped: what was started before comes back with the old one
        self._waiting: deque[tuple[int, Group]] = deque()
        self._wake: SimpleQueue[bool] = SimpleQueue()
        self._outcomes: SimpleQueue[tuple[int, list[Outcome]]] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="process", daemon=True)
        self.in_flight = 0

    def submit(self, groups: list[Group]) -> None:
        if not self._thread.ident:
            self._thread.start()
        self.in_flight += len(groups)
        self._waiting.extend((self._epoch, group) for group in groups)
        self._wake.put(True)

    def collect(self, timeout: float) -> list[Outcome]:
        collected: list[Outcome] = []
        try:
            while self.in_flight:
                epoch, outcomes = self._outcomes.get(timeout=0 if collected else timeout)
                if epoch == self._epoch:
                    collected += outcomes
                    self.in_flight -= len(outcomes)
        except Empty:
            pass
        return collected

    def cancel(self) -> None:
        try:
            while True:
                self._waiting.pop()
                self.in_flight -= 1
        except IndexError:
            pass

    def drop(self) -> None:
        self.cancel()
        self._epoch += 1
        self.in_flight = 0

    def close(self) -> None:
        self.drop()
        self._wake.put(False)

    def _work(self) -> None:
        while self._wake.get():
            self._run_waiting()

    def _run_waiting(self) -> None:
        done: list[Outcome] = []
        epoch, hand_back = self._epoch, time.monotonic() + _HAND_BACK
        while self._waiting:
            try:
                started, group = self._waiting.popleft()
            except IndexError:  # cancelled in between
                break
            if started != epoch:
                self._outcomes.put((epoch, done))
                done, epoch = [], started
            done.append(attempt(self._process, group, self._consumer_name))
            if time.monotonic() >= hand_back:
                self._outcomes.put((epoch, done))
                done, hand_back = [], time.monotonic() + _HAND_BACK
        self._outcomes.put((epoch, done))


def attempt(process: Process, group: Group, consumer_name: str) -> Outcome:
    """Join, process and encode one group. Never raises: whatever goes wrong is the outcome."""
    try:
        message = join(group.fragments)
        return Outcome(group, results(process(message, consumer_name), group.id))
    except Exception as error:  # user code may raise anything
        return Outcome(group, [], error)
