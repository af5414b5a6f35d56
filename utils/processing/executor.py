"""Runs process() off the loop's thread, so that a slow call never stops the poll: in one thread, many, or coroutines.

Knows neither Kafka nor offsets: groups go in by the batch, outcomes come out.
"""

import asyncio
import inspect
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Literal, NamedTuple, Protocol

import msgspec

from utils.joining.aggregator import Group
from utils.joining.dead_letters import Letter
from utils.joining.messages import RESULT_OVERHEAD, Message, Result, join, results
from utils.metrics import BOUNDS, Histogram
from utils.processing.parking import Parked, Parking

Process = Callable[[Message, str], object]
AsyncProcess = Callable[[Message, str], Awaitable[object]]
Clock = Callable[[], float]

TOGETHER = 16  # quick calls that are timed together
LARGE = 100  # results of one call: it is looked at what room they take before the next one begins
_TURN = 1.0  # seconds between two signs of life of the event loop
NOT_BEGUN = float("inf")  # of a coroutine whose turn has not come: its time does not run
MANY = 32  # calls that are running: those that end soon after another are collected with it
SOON = 0.01  # seconds; so soon
_GRACE = 5.0  # seconds in which a coroutine that was cancelled, or another one of a loop that was held up, may end


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What became of a group: its results (none: filtered), or the error that process() or its data raised.

    `letter`: what is kept of a group that cannot become a result (utils/sending/failures.py).
    """

    group: Group
    results: list[Result]
    error: BaseException | None = None
    letter: Letter | None = None
    attempts: int = 1


class Call(NamedTuple):
    """A call of process() that has not ended."""

    id: str
    seconds: float  # so far


@dataclass(frozen=True, slots=True)
class InFlight:
    """Where an id is between its last message and the end of its process()."""

    state: Literal["called", "queued", "tried again"]
    seconds: float  # called: for so long; tried again: in so long, below 0 as soon as the circuit has closed
    failed: int  # attempts, without those that do not count


class Executor(Protocol):
    """What the loop knows of process(): groups go in, what became of them comes out."""

    @property
    def in_flight(self) -> int:
        """Groups submitted whose outcome may still be collected."""

    @property
    def parked(self) -> Parking | Parked:
        """Those of them that wait for their own id: between two attempts, or behind it."""

    def submit(self, groups: list[Group]) -> None: ...

    def collect(self, timeout: float) -> list[Outcome]:
        """The outcomes since the last call; waits up to `timeout` seconds for them, and SOON more where many run."""

    def cancel(self) -> None:
        """Start none of the groups that wait: they are not in flight any more."""

    def drop(self) -> None:
        """Cancel, and never hand back the outcomes of what has been started."""

    def shed(self, down_to: int) -> list[Group]:
        """Give back parked groups, until no more than so many bytes are parked, the newest of an id first.

        They are not in flight any more, and must be submitted again in their order, before any others of their ids.
        None while others of their ids that came later are here, too.
        """

    def calls(self) -> list[Call]:
        """Those that are running, the longest first."""

    def find(self, id: str) -> InFlight | None:
        """Where this id is, if it is in flight; of several groups of it, the first."""

    @property
    def circuit_open_for(self) -> float | None:
        """Seconds for which process() has failed for one id after the other; None while it does not."""


class Retrying(Executor, Protocol):
    """An Executor that tries again what has failed, as Suspects knows it."""

    @property
    def rests_for(self) -> float | None:
        """Seconds until the next attempt, where all that is in flight waits for one; else None."""

    @property
    def hung(self) -> list[tuple[Group, int]]:
        """What hangs for good, so that the process must end, and how many attempts of each have failed by now."""

    def recall(self, id: str, attempts: int) -> None:
        """So many attempts of a group that will be submitted next have failed in an earlier process, which it ended."""

    def failed_before(self, id: str) -> None:
        """The group of this id that is submitted next was left behind by others: if it fails, it is to blame itself."""

    def put_aside(self, aside: Parking) -> int:
        """Park there what waits for its next attempt, and what is behind it; how many groups that are.

        They are not in flight any more, until each is submitted again, or all are taken back.
        """

    def take_back(self, aside: Parking) -> None:
        """Submit what was put aside, in its order. Each is tried again when it is due."""


def nothing() -> None:
    """The setup() or teardown() of a worker.py that has none."""


class Hooks(NamedTuple):
    """What worker.py may define beside process(); `async def` where process() is."""

    setup: Callable[[], object] = nothing
    teardown: Callable[[], object] = nothing


class Overdue(NamedTuple):
    """Calls that last too long, and whether they are so many that going on makes no sense."""

    groups: list[Group]
    too_many: bool


class Runner(Protocol):
    """One way to call process(). Each group that goes in comes out once: of `collect()` or of `cancel()`."""

    @property
    def one_by_one(self) -> bool:
        """Whether each call begins only after the one before has ended, in the order of submission."""

    def open(self) -> None:
        """Start the threads, call setup() and wait for its end. Raises what it raises."""

    def submit(self, groups: Iterable[Group]) -> None: ...

    def collect(self, timeout: float) -> list[Outcome]:
        """The outcomes since the last call, also those of failed calls.

        Waits up to `timeout` seconds for them, and then, where many calls are running, up to SOON for more.
        """

    def cancel(self) -> list[Group]:
        """Take back the groups whose call has not begun, in the order of submission."""

    def queued(self, id: str) -> bool:
        """Where calls go one by one: whether a group of this id waits for its call."""

    def go_on(self) -> None:
        """Where calls go one by one, none begins after one that has failed until this is called."""

    def overdue(self, limit: float) -> Overdue:
        """The calls that have lasted for more than `limit` seconds, though they should have been ended by then."""

    def calls(self) -> list[Call]:
        """Those that are running, the longest first."""

    def close(self, timeout: float) -> None:
        """Cancel, let the calls that are running end, then call teardown(): all of it in the background.

        Waits up to `timeout` seconds for its end. Raises TimeoutError then, and what teardown() raises.
        """


NO_HOOKS = Hooks()
NO_LIMIT = float("inf")


class _Uncollected:
    """Results that were made and not collected. With more than `most` bytes of them no further call begins.

    Told by the threads of process() and by the loop's.
    """

    def __init__(self, most: float) -> None:
        self._most = most
        self._made = 0  # bytes, ever
        self._collected = 0
        self._lock = threading.Lock()
        self._is_room = threading.Event()
        self._is_room.set()

    def add(self, size: int) -> None:
        with self._lock:
            self._made += size
            if self.is_full:
                self._is_room.clear()

    @property
    def is_full(self) -> bool:
        return self._made - self._collected > self._most

    def wait(self) -> None:
        """Until there is room."""
        self._is_room.wait()

    def collect(self, collected: Callable[[], list[Outcome]]) -> list[Outcome]:
        """What `collected` returns: all that has been told of, and perhaps more."""
        made = self._made
        outcomes = collected()
        if made > self._collected:
            with self._lock:
                self._collected = made
                if not self.is_full:
                    self._is_room.set()
        return outcomes

    def close(self) -> None:
        """Nobody collects any more: let all calls come to their end."""
        self._most = NO_LIMIT
        self._is_room.set()


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTerms:
    """How calls are bounded and timed."""

    timeout: float | None = None
    """Seconds after which a coroutine is cancelled; a thread cannot be."""
    most: float = NO_LIMIT
    """Bytes of results that wait to be collected, before no further call begins."""
    clock: Clock = time.monotonic
    times: Histogram = field(default_factory=Histogram)


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
        terms = terms or CallTerms()
        self._process = process
        self._consumer_name = consumer_name
        self._hooks = hooks
        self._clock = terms.clock
        self._times = terms.times
        self._uncollected = _Uncollected(terms.most)
        self._opened: Future[None] = Future()
        self._closed: Future[None] = Future()
        self._waiting: deque[Group] = deque()
        self._call: Group | None = None  # that is running
        self._since = 0.0  # when it began, or one of the quick ones before it
        self._done: deque[Outcome] = deque()
        self._work_is_there: SimpleQueue[bool] = SimpleQueue()
        self._all_done = _News()
        self._go_on: SimpleQueue[bool] = SimpleQueue()

    def open(self) -> None:
        threading.Thread(target=self._work, name="process", daemon=True).start()
        self._opened.result()

    def submit(self, groups: Iterable[Group]) -> None:
        self._waiting.extend(groups)
        self._work_is_there.put(True)

    def collect(self, timeout: float) -> list[Outcome]:
        return self._uncollected.collect(lambda: _collected(self._done, self._all_done, timeout))

    def cancel(self) -> list[Group]:
        return list(iter(self._take, None))

    def queued(self, id: str) -> bool:
        return any(group.id == id for group in self._waiting.copy())  # a copy is made in one piece

    def go_on(self) -> None:
        self._go_on.put(True)

    def overdue(self, limit: float) -> Overdue:
        call = self._call
        return Overdue([call], True) if call and self._clock() - self._since > limit else Overdue([], False)

    def calls(self) -> list[Call]:
        call = self._call
        return _calls([(call, self._since)] if call else [], self._clock())

    def close(self, timeout: float) -> None:
        self.cancel()
        self._uncollected.close()
        self._work_is_there.put(False)
        self.go_on()
        self._closed.result(timeout)

    def _work(self) -> None:
        if not _call_hook(self._hooks.setup, self._opened):
            return
        while self._work_is_there.get():
            self._call_for_all()
            self._call = None
            self._all_done.tell()
        _call_hook(self._hooks.teardown, self._closed)

    def _call_for_all(self) -> None:
        """Quick calls are timed some together: the clock is no more for free than they are."""
        process, consumer_name = self._process, self._consumer_name
        done, take = self._done.append, self._waiting.popleft
        number, together = 1, 1
        made: list[Outcome] = []
        self._since = self._clock()
        while number:
            number, is_ordinary = 0, True
            with suppress(IndexError):  # all taken, perhaps just now by the other thread
                while number < together and is_ordinary:
                    self._call = group = take()
                    outcome = attempt(process, group, consumer_name)
                    done(outcome)
                    made.append(outcome)
                    number += 1
                    is_ordinary = outcome.error is None and len(outcome.results) < LARGE
            now = self._clock()
            took, self._since = now - self._since, now
            if number:
                self._times.add(took, number)
                is_little = is_ordinary and took < BOUNDS[0]  # as nearly always: then one stands for all
                self._uncollected.add(_size(outcome) * number if is_little else sum(map(_size, made)))
                made.clear()
                if self._uncollected.is_full:
                    self._wait_for_room()
            if number and outcome.error:
                del outcome  # else a ring that is never freed: its error's traceback knows this frame
                self._wait_for_word()
            together = TOGETHER if took * TOGETHER < BOUNDS[0] * number else 1

    def _wait_for_room(self) -> None:
        self._call = None
        self._all_done.tell()
        self._uncollected.wait()
        self._since = self._clock()

    def _wait_for_word(self) -> None:
        self._call = None
        self._all_done.tell()
        self._go_on.get()
        self._since = self._clock()

    def _take(self) -> Group | None:
        try:
            return self._waiting.popleft()
        except IndexError:  # all taken, perhaps just now by the other thread
            return None


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
        terms = terms or CallTerms()
        self._process = process
        self._consumer_name = consumer_name
        self._concurrency = concurrency
        self._hooks = hooks
        self._clock = terms.clock
        self._times = terms.times
        self._uncollected = _Uncollected(terms.most)
        self._closed: Future[None] = Future()
        self._threads: list[threading.Thread] = []
        self._calls: dict[int, tuple[Group, float]] = {}  # by thread: what it is at, and since when
        self._waiting: SimpleQueue[Group | None] = SimpleQueue()
        self._done: deque[Outcome] = deque()
        self._some_done = _News()

    def open(self) -> None:
        self._hooks.setup()
        for number in range(self._concurrency):
            thread = threading.Thread(target=self._work, args=[number], name=f"process {number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def submit(self, groups: Iterable[Group]) -> None:
        for group in groups:
            self._waiting.put(group)

    def collect(self, timeout: float) -> list[Outcome]:
        return self._uncollected.collect(lambda: _collected(self._done, self._some_done, timeout, len(self._calls)))

    def cancel(self) -> list[Group]:
        return list(iter(self._take, None))

    def queued(self, id: str) -> bool:
        return False

    def go_on(self) -> None:
        pass

    def overdue(self, limit: float) -> Overdue:
        return _overdue(self._calls.values(), self._clock() - limit, self._concurrency)

    def calls(self) -> list[Call]:
        return _calls(self._calls.values(), self._clock())

    def close(self, timeout: float) -> None:
        self.cancel()
        self._uncollected.close()
        threading.Thread(target=self._end, name="teardown", daemon=True).start()
        self._closed.result(timeout)

    def _end(self) -> None:
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()
        _call_hook(self._hooks.teardown, self._closed)

    def _work(self, thread: int) -> None:
        while group := self._next():
            self._calls[thread] = group, (began := self._clock())
            outcome = attempt(self._process, group, self._consumer_name)
            self._times.add(self._clock() - began)
            self._done.append(outcome)
            self._uncollected.add(_size(outcome))
            del self._calls[thread]
            self._some_done.tell()

    def _next(self) -> Group | None:
        while True:
            self._uncollected.wait()
            group = self._waiting.get()
            if not (group and self._uncollected.is_full):
                return group
            self._waiting.put(group)  # the room went while this thread waited for a group

    def _take(self) -> Group | None:
        try:
            return self._waiting.get_nowait()
        except Empty:
            return None


class Coroutines:
    """An `async def process()` in as many coroutines as calls may run at once, on the event loop of one thread."""

    one_by_one = False

    def __init__(
        self,
        process: AsyncProcess,
        consumer_name: str,
        concurrency: int,
        hooks: Hooks = NO_HOOKS,
        terms: CallTerms | None = None,
    ) -> None:
        terms = terms or CallTerms()
        self._uncollected = _Uncollected(terms.most)
        self._process = process
        self._consumer_name = consumer_name
        self._concurrency = concurrency
        self._timeout = terms.timeout
        self._hooks = hooks
        self._clock = terms.clock
        self._times = terms.times
        self._turned_at = 0.0  # when the event loop showed a sign of life: a turn, the begin or the end of a call
        self._waiting: deque[Group] = deque()
        self._calls: dict[asyncio.Task[None], tuple[Group, float]] = {}  # and since when, oldest first; or NOT_BEGUN
        self._cancelled: set[asyncio.Task[None]] = set()  # of them, because their time is over
        self._timed = False  # a look at their times is due
        self._done: deque[Outcome] = deque()
        self._some_done = _News()
        self._opened: Future[None] = Future()
        self._closed: Future[None] = Future()

    def open(self) -> None:
        threading.Thread(target=lambda: asyncio.run(self._work()), name="process", daemon=True).start()
        self._opened.result()

    def submit(self, groups: Iterable[Group]) -> None:
        self._waiting.extend(groups)
        self._loop.call_soon_threadsafe(self._begin)

    def collect(self, timeout: float) -> list[Outcome]:
        was_full = self._uncollected.is_full
        outcomes = self._uncollected.collect(lambda: _collected(self._done, self._some_done, timeout, len(self._calls)))
        if was_full:
            self._loop.call_soon_threadsafe(self._begin)
        return outcomes

    def cancel(self) -> list[Group]:
        return list(iter(self._take, None))

    def queued(self, id: str) -> bool:
        return False

    def go_on(self) -> None:
        pass

    def overdue(self, limit: float) -> Overdue:
        held_up = self._clock() - self._turned_at - _TURN
        if held_up > limit:  # a call blocks where it should await: none of the others is to blame
            call = self._calls.get(asyncio.current_task(self._loop))  # type: ignore[arg-type]
            return Overdue([call[0]] if call else [], True)
        if held_up > _GRACE:
            return Overdue([], False)
        return _overdue(self._calls.values(), self._clock() - limit - _GRACE, self._concurrency)

    def calls(self) -> list[Call]:
        return _calls(self._calls.values(), self._clock())

    def close(self, timeout: float) -> None:
        self.cancel()
        self._uncollected.close()
        self._loop.call_soon_threadsafe(self._closing.set)
        self._closed.result(timeout)

    async def _work(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        if not await _await_hook(self._hooks.setup, self._opened):
            return
        while not self._closing.is_set():
            self._turned_at = self._clock()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), _TURN)
        await asyncio.gather(*self._calls)
        await _await_hook(self._hooks.teardown, self._closed)

    def _begin(self) -> None:
        may_begin = self._concurrency if not self._uncollected.is_full else 0
        while len(self._calls) < may_begin and (group := self._take()):
            self._calls[self._loop.create_task(self._call(group))] = group, NOT_BEGUN
        if self._timeout and not self._timed:
            self._timed = True
            self._loop.call_later(self._timeout, self._cancel_overdue, self._timeout)

    async def _call(self, group: Group) -> None:
        task: asyncio.Task[None] = asyncio.current_task()  # type: ignore[assignment]
        began = self._turned_at = self._clock()
        self._calls[task] = group, began
        outcome = await attempt_async(self._process, group, self._consumer_name)
        del self._calls[task]
        self._turned_at = self._clock()
        self._times.add(self._turned_at - began)
        if task in self._cancelled:
            self._cancelled.remove(task)
            if self._timeout:  # also where it has caught that, and returned something: it came too late
                outcome = Outcome(group, [], took_too_long(self._timeout))
        self._done.append(outcome)
        self._uncollected.add(_size(outcome))
        self._some_done.tell()
        self._begin()

    def _cancel_overdue(self, timeout: float) -> None:
        """One timer for all calls: one for each would cost a third of what a call takes beside process() (measured)."""
        now, wait = self._clock(), timeout
        for task, (_, began) in self._calls.items():
            if task in self._cancelled:
                continue
            if began + timeout > now:
                wait = min(wait, began + timeout - now)
                break
            self._cancelled.add(task)
            task.cancel()
        self._timed = bool(self._calls)
        if self._timed:
            self._loop.call_later(wait, self._cancel_overdue, timeout)

    def _take(self) -> Group | None:
        try:
            return self._waiting.popleft()
        except IndexError:  # all taken, perhaps just now by the other thread
            return None


def _call_hook(hook: Callable[[], object], end: Future[None]) -> bool:
    """Whether it has ended well; how it did is noted in `end`."""
    try:
        hook()
    except BaseException as error:
        end.set_exception(error)
        return False
    end.set_result(None)
    return True


async def _await_hook(hook: Callable[[], object], end: Future[None]) -> bool:
    """As `_call_hook`, of one that may be `async def`."""
    try:
        returned = hook()
        if inspect.isawaitable(returned):
            await returned
    except BaseException as error:
        end.set_exception(error)
        return False
    end.set_result(None)
    return True


class _News:
    """Told by some threads after each outcome, waited for by one: an Event that the wait clears, at a fraction of its
    cost (measured). A wait may end for nothing: when what it was told of has been collected already.
    """

    def __init__(self) -> None:
        self._untold = threading.Lock()
        self._untold.acquire()

    def tell(self) -> None:
        if self._untold.locked():
            with suppress(RuntimeError):  # told just now by another thread
                self._untold.release()

    def wait(self, timeout: float) -> bool:
        """Whether there are any; waits up to `timeout` seconds, not below 0, for them."""
        return self._untold.acquire(timeout=timeout)


def _collected(done: deque[Outcome], news: _News, timeout: float, calls: int = 1) -> list[Outcome]:
    """`calls` that are running. Of many, each outcome would wake the loop for a turn of its own."""
    if news.wait(timeout) and calls >= MANY:
        time.sleep(min(SOON, timeout))
    return [done.popleft() for _ in range(len(done))]


def _size(outcome: Outcome) -> int:
    """Bytes of memory that its results take."""
    return sum([len(result.value) for result in outcome.results]) + RESULT_OVERHEAD * len(outcome.results)


def _overdue(calls: Iterable[tuple[Group, float]], begun_by: float, places: int) -> Overdue:
    groups = [group for group, since in list(calls) if since < begun_by]
    return Overdue(groups, 2 * len(groups) >= places)


def _calls(running: Iterable[tuple[Group, float]], now: float) -> list[Call]:
    """Of a snapshot: calls begin and end meanwhile."""
    calls = [Call(group.id, now - since) for group, since in list(running) if since < NOT_BEGUN]
    return sorted(calls, key=lambda call: -call.seconds)


def attempt(process: Process, group: Group, consumer_name: str) -> Outcome:
    """Join, process and encode one group. Never raises: whatever goes wrong is the outcome."""
    try:
        message = join(group.fragments)
        return Outcome(group, results(process(message, consumer_name), group.id))
    except BaseException as error:  # user code may raise anything, and sys.exit() must not end the thread
        return Outcome(group, [], error)


async def attempt_async(process: AsyncProcess, group: Group, consumer_name: str) -> Outcome:
    """As `attempt`, of a coroutine."""
    try:
        message = join(group.fragments)
        return Outcome(group, results(await process(message, consumer_name), group.id))
    except BaseException as error:
        return Outcome(group, [], error)


def took_too_long(timeout: float) -> TimeoutError:
    return TimeoutError(f"process() took longer than PROCESS_TIMEOUT ({timeout:g} s)")
