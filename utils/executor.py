"""Runs process() off the loop's thread, so that a slow call never stops the poll.

Knows neither Kafka nor offsets: groups go in by the batch, outcomes come out.
"""

import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Protocol

import msgspec

from utils.aggregator import Group
from utils.dead_letters import Letter
from utils.messages import Message, Result, join, results

Process = Callable[[Message, str], object]


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
        self._lane = _Lane()  # another one after each drop: what was started before ends in the old one
        self._work_is_there: SimpleQueue[bool] = SimpleQueue()
        self._all_done = threading.Event()
        self._thread = threading.Thread(target=self._work, name="process", daemon=True)
        self.in_flight = 0

    def submit(self, groups: list[Group]) -> None:
        if not self._thread.ident:
            self._thread.start()
        self.in_flight += len(groups)
        self._lane.waiting.extend(groups)
        self._work_is_there.put(True)

    def collect(self, timeout: float) -> list[Outcome]:
        if not self.in_flight:
            return []
        self._all_done.wait(timeout)
        self._all_done.clear()
        done = self._lane.done
        collected = [done.popleft() for _ in range(len(done))]
        self.in_flight -= len(collected)
        return collected

    def cancel(self) -> None:
        while self._lane.take():
            self.in_flight -= 1

    def drop(self) -> None:
        self._lane.waiting.clear()
        self._lane = _Lane()
        self.in_flight = 0

    def close(self) -> None:
        self.drop()
        self._work_is_there.put(False)

    def _work(self) -> None:
        while self._work_is_there.get():
            lane, process, consumer_name = self._lane, self._process, self._consumer_name
            for group in iter(lane.take, None):
                lane.done.append(attempt(process, group, consumer_name))
            self._all_done.set()


class _Lane:
    """Groups on their way through the thread."""

    def __init__(self) -> None:
        self.waiting: deque[Group] = deque()
        self.done: deque[Outcome] = deque()

    def take(self) -> Group | None:
        try:
            return self.waiting.popleft()
        except IndexError:  # the other thread was faster
            return None


def attempt(process: Process, group: Group, consumer_name: str) -> Outcome:
    """Join, process and encode one group. Never raises: whatever goes wrong is the outcome."""
    try:
        message = join(group.fragments)
        return Outcome(group, results(process(message, consumer_name), group.id))
    except BaseException as error:  # user code may raise anything, and sys.exit() must not end the thread
        return Outcome(group, [], error)
