"""Runs process() off the loop's thread, so that a slow call never stops the poll: in one thread, many, or coroutines.

Knows neither Kafka nor offsets: groups go in by the batch, outcomes come out.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from queue import Empty, SimpleQueue
from typing import Protocol

import msgspec

from utils.aggregator import Group
from utils.dead_letters import Letter
from utils.messages import Message, Result, join, results

Process = Callable[[Message, str], object]
AsyncProcess = Callable[[Message, str], Awaitable[object]]


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What became of a group: its results (none: filtered), or the error that process() or its data raised.

    `letter`: what is kept of a group that is given up (utils/failures.py).
    """

    group: Group
    results: list[Result]
    error: BaseException | None = None
    letter: Letter | None = None


class Executor(Protocol):
    """What the loop knows of process(): groups go in, what became of them comes out."""

    in_flight: int
    """Groups submitted whose outcome has not been collected."""

    def submit(self, groups: list[Group]) -> None: ...

    def collect(self, timeout: float) -> list[Outcome]:
        """The outcomes since the last call; waits up to `timeout` seconds for them."""

    def cancel(self) -> None:
        """Start none of the groups that wait: they are not in flight any more."""

    def drop(self) -> None:
        """Cancel, and never hand back the outcomes of what has been started."""


class Runner(Protocol):
    """One way to call process(). Each group that goes in comes out once: of `collect()` or of `cancel()`."""

    @property
    def one_by_one(self) -> bool:
        """Whether each call begins only after the one before has ended, in the order of submission."""

    def open(self) -> None:
        """Start the threads. The first thing to call."""

    def submit(self, groups: Iterable[Group]) -> None: ...

    def collect(self, timeout: float) -> list[Outcome]:
        """The outcomes since the last call, also those of failed calls; waits up to `timeout` seconds for them."""

    def cancel(self) -> list[Group]:
        """Take back the groups whose call has not begun, in the order of submission."""

    def close(self) -> None:
        """Cancel, and end the threads after the calls that are running, without waiting for them."""


class SingleThread:
    """process() in one thread. Outcomes come by the batch: with quick calls a turn of the loop for each costs more."""

    one_by_one = True

    def __init__(self, process: Process, consumer_name: str) -> None:
        self._process = process
        self._consumer_name = consumer_name
        self._waiting: deque[Group] = deque()
        self._done: deque[Outcome] = deque()
        self._work_is_there: SimpleQueue[bool] = SimpleQueue()
        self._all_done = threading.Event()

    def open(self) -> None:
        threading.Thread(target=self._work, name="process", daemon=True).start()

    def submit(self, groups: Iterable[Group]) -> None:
        self._waiting.extend(groups)
        self._work_is_there.put(True)

    def collect(self, timeout: float) -> list[Outcome]:
        return _collected(self._done, self._all_done, timeout)

    def cancel(self) -> list[Group]:
        return list(iter(self._take, None))

    def close(self) -> None:
        self.cancel()
        self._work_is_there.put(False)

    def _work(self) -> None:
        while self._work_is_there.get():
            while group := self._take():
                self._done.append(attempt(self._process, group, self._consumer_name))
            self._all_done.set()

    def _take(self) -> Group | None:
        try:
            return self._waiting.popleft()
        except IndexError:  # all taken, perhaps just now by the other thread
            return None


class ThreadPool:
    """process() in as many threads as calls may run at once."""

    one_by_one = False

    def __init__(self, process: Process, consumer_name: str, concurrency: int) -> None:
        self._process = process
        self._consumer_name = consumer_name
        self._concurrency = concurrency
        self._waiting: SimpleQueue[Group | None] = SimpleQueue()
        self._done: deque[Outcome] = deque()
        self._some_done = threading.Event()

    def open(self) -> None:
        for number in range(self._concurrency):
            threading.Thread(target=self._work, name=f"process {number}", daemon=True).start()

    def submit(self, groups: Iterable[Group]) -> None:
        for group in groups:
            self._waiting.put(group)

    def collect(self, timeout: float) -> list[Outcome]:
        return _collected(self._done, self._some_done, timeout)

    def cancel(self) -> list[Group]:
        return list(iter(self._take, None))

    def close(self) -> None:
        self.cancel()
        for _ in range(self._concurrency):
            self._waiting.put(None)

    def _work(self) -> None:
        while group := self._waiting.get():
            self._done.append(attempt(self._process, group, self._consumer_name))
            self._some_done.set()

    def _take(self) -> Group | None:
        try:
            return self._waiting.get_nowait()
        except Empty:
            return None


class Coroutines:
    """An `async def process()` in as many coroutines as calls may run at once, on the event loop of one thread."""

    one_by_one = False

    def __init__(self, process: AsyncProcess, consumer_name: str, concurrency: int) -> None:
        self._process = process
        self._consumer_name = consumer_name
        self._concurrency = concurrency
        self._waiting: deque[Group] = deque()
        self._calls: set[asyncio.Task[None]] = set()
        self._done: deque[Outcome] = deque()
        self._some_done = threading.Event()
        self._opened = threading.Event()

    def open(self) -> None:
        threading.Thread(target=lambda: asyncio.run(self._work()), name="process", daemon=True).start()
        self._opened.wait()

    def submit(self, groups: Iterable[Group]) -> None:
        self._waiting.extend(groups)
        self._loop.call_soon_threadsafe(self._begin)

    def collect(self, timeout: float) -> list[Outcome]:
        return _collected(self._done, self._some_done, timeout)

    def cancel(self) -> list[Group]:
        return list(iter(self._take, None))

    def close(self) -> None:
        self.cancel()
        self._loop.call_soon_threadsafe(self._closing.set)

    async def _work(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        self._opened.set()
        await self._closing.wait()
        await asyncio.gather(*self._calls)

    def _begin(self) -> None:
        while len(self._calls) < self._concurrency and (group := self._take()):
            self._calls.add(self._loop.create_task(self._call(group)))

    async def _call(self, group: Group) -> None:
        self._done.append(await attempt_async(self._process, group, self._consumer_name))
        self._some_done.set()
        self._calls.remove(asyncio.current_task())  # type: ignore[arg-type]
        self._begin()

    def _take(self) -> Group | None:
        try:
            return self._waiting.popleft()
        except IndexError:  # all taken, perhaps just now by the other thread
            return None


def _collected(done: deque[Outcome], news: threading.Event, timeout: float) -> list[Outcome]:
    news.wait(timeout)
    news.clear()
    return [done.popleft() for _ in range(len(done))]


def attempt(process: Process, group: Group, consumer_name: str) -> Outcome:
    """Join, process and encode one group. Never raises: whatever goes wrong is the outcome."""
    try:
        message = join(group.fragments)
        return Outcome(group, results(process(message, consumer_name), group.id))
    except BaseException as error:  # user code may raise anything, and sys.exit() must not end the thread
        return Outcome(group, [], error)


async def attempt_async(process: AsyncProcess, group: Group, consumer_name: str) -> Outcome:
    """As `attempt`."""
    try:
        message = join(group.fragments)
        return Outcome(group, results(await process(message, consumer_name), group.id))
    except BaseException as error:
        return Outcome(group, [], error)
