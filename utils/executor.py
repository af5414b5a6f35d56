"""Runs process() off the loop's thread, so that a slow call never stops the poll.

Knows neither Kafka nor offsets: groups go in by the batch, outcomes come out.
"""

import threading
import time
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
        """Start none of the groups that wait: they leave `in_flight` as soon as a call that runs has ended."""

    def drop(self) -> None:
        """Cancel, and never hand back the outcomes of what has been started."""

    def close(self) -> None:
        """Drop, and end the threads after the call that is running, without waiting for it."""


class SingleThread:
    """process() in one thread, in the order of submission."""

    def __init__(self, process: Process, consumer_name: str) -> None:
        self._process = process
        self._consumer_name = consumer_name
        self._submitted = self._cancelled = self._dropped = 0  # numbers of batches
        self._batches: SimpleQueue[tuple[int, list[Group]] | None] = SimpleQueue()
        self._done: SimpleQueue[tuple[int, list[Outcome], int]] = SimpleQueue()  # batch, outcomes, groups not started
        self._thread = threading.Thread(target=self._work, name="process", daemon=True)
        self.in_flight = 0

    def submit(self, groups: list[Group]) -> None:
        if not self._thread.ident:
            self._thread.start()
        self.in_flight += len(groups)
        self._submitted += 1
        self._batches.put((self._submitted, groups))

    def collect(self, timeout: float) -> list[Outcome]:
        collected: list[Outcome] = []
        try:
            while self.in_flight:
                number, outcomes, not_started = self._done.get(timeout=0 if collected else timeout)
                if number > self._dropped:
                    collected += outcomes
                    self.in_flight -= len(outcomes) + not_started
        except Empty:
            pass
        return collected

    def cancel(self) -> None:
        self._cancelled = self._submitted

    def drop(self) -> None:
        self._cancelled = self._dropped = self._submitted
        self.in_flight = 0

    def close(self) -> None:
        self.drop()
        self._batches.put(None)

    def _work(self) -> None:
        while batch := self._batches.get():
            self._run(*batch)

    def _run(self, number: int, groups: list[Group]) -> None:
        done: list[Outcome] = []
        started = 0
        hand_back = time.monotonic() + _HAND_BACK
        for group in groups:
            if number <= self._cancelled:
                break
            started += 1
            done.append(attempt(self._process, group, self._consumer_name))
            if time.monotonic() >= hand_back:
                self._done.put((number, done, 0))
                done, hand_back = [], time.monotonic() + _HAND_BACK
        self._done.put((number, done, len(groups) - started))


def attempt(process: Process, group: Group, consumer_name: str) -> Outcome:
    """Join, process and encode one group. Never raises: whatever goes wrong is the outcome."""
    try:
        message = join(group.fragments)
        return Outcome(group, results(process(message, consumer_name), group.id))
    except Exception as error:  # user code may raise anything
        return Outcome(group, [], error)
