"""Runs process() off the loop's thread, so that a slow call never stops the poll.

Knows neither Kafka nor offsets: groups go in by the batch, outcomes come out.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import repeat
from queue import SimpleQueue
from typing import Protocol

import msgspec

from utils.aggregator import Group
from utils.dead_letters import Letter
from utils.messages import Message, Result, join, results

Process = Callable[[Message, str], object]
_HAND_BACK = 0.02  # seconds: outcomes of a batch that is not done yet are handed back at least this often


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What became of a group: its results (none: filtered), or the error that process() or its data raised.

    `letter`: what is kept of a group that is given up (utils/failures.py).
    """

    group: Group
    results: list[Result]
    error: BaseException | None = None
    letter: Letter | None = None


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
        self._done: deque[Outcome] = deque()  # another one after each drop: what was started before ends in the old one
        self._waiting: deque[tuple[Group, deque[Outcome]]] = deque()  # each with the place for its outcome
        self._work_is_there: SimpleQueue[bool] = SimpleQueue()
        self._hand_back = threading.Event()
        self._thread = threading.Thread(target=self._work, name="process", daemon=True)
        self.in_flight = 0

    def submit(self, groups: list[Group]) -> None:
        if not self._thread.ident:
            self._thread.start()
        self.in_flight += len(groups)
        self._waiting.extend(zip(groups, repeat(self._done)))
        self._work_is_there.put(True)

    def collect(self, timeout: float) -> list[Outcome]:
        if not self.in_flight:
            return []
        self._hand_back.wait(timeout)
        self._hand_back.clear()
        collected = [self._done.popleft() for _ in range(len(self._done))]
        self.in_flight -= len(collected)
        return collected

    def cancel(self) -> None:
        while self._take():
            self.in_flight -= 1

    def drop(self) -> None:
        self._waiting.clear()
        self._done = deque()
        self.in_flight = 0

    def close(self) -> None:
        self.drop()
        self._work_is_there.put(False)

    def _work(self) -> None:
        while self._work_is_there.get():
            since = time.monotonic()
            while taken := self._take():
                group, done = taken
                done.append(attempt(self._process, group, self._consumer_name))
                if time.monotonic() - since > _HAND_BACK:
                    since = time.monotonic()
                    self._hand_back.set()
            self._hand_back.set()

    def _take(self) -> tuple[Group, deque[Outcome]] | None:
        try:
            return self._waiting.popleft()
        except IndexError:  # the other thread was faster
            return None


def attempt(process: Process, group: Group, consumer_name: str) -> Outcome:
    """Join, process and encode one group. Never raises: whatever goes wrong is the outcome."""
    try:
        message = join(group.fragments)
        return Outcome(group, results(process(message, consumer_name), group.id))
    except BaseException as error:  # user code may raise anything, and sys.exit() must not end the thread
        return Outcome(group, [], error)
