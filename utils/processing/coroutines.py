"""An `async def process()` in as many coroutines as calls may run at once, on the event loop of one thread."""

import asyncio
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import suppress

from utils.errors import named
from utils.joining.aggregator import Group
from utils.logger import logger
from utils.processing.done import Done
from utils.processing.outcome import AsyncProcess, Call, Outcome, attempt_async, took_too_long
from utils.processing.runner import (
    NO_HOOKS,
    NOT_BEGUN,
    CallTerms,
    Hooks,
    Overdue,
    await_hook,
    overdue,
    running_calls,
)

_TURN = 1.0  # seconds between two signs of life of the event loop
_GRACE = 5.0  # seconds in which a coroutine that was cancelled, or another one of a loop that was held up, may end


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
        self._process = process
        self._consumer_name = consumer_name
        self._concurrency = concurrency
        self._hooks = hooks
        self._terms = terms or CallTerms()
        self._done = Done(self._terms.most)
        self._turned_at = 0.0  # when the event loop showed a sign of life: a turn, the begin or the end of a call
        self._found_at: float | None = None  # `_turned_at` when a look found the loop held up for too long
        self._waiting: deque[Group] = deque()
        self._calls: dict[asyncio.Task[None], tuple[Group, float]] = {}  # and since when, oldest first; or NOT_BEGUN
        self._cancelled: set[asyncio.Task[None]] = set()  # of them, because their time is over
        self._begins = False  # calls, at the moment
        self._timed = False  # a look at their times is due
        self._opened: Future[None] = Future()
        self._closed: Future[None] = Future()

    def open(self) -> None:
        self._done.start_thread(self._run, "process", self._opened, self._closed)
        self._opened.result()

    def submit(self, groups: Iterable[Group]) -> None:
        self._waiting.extend(groups)
        self._loop.call_soon_threadsafe(self._begin)

    def collect(self, timeout: float) -> list[Outcome]:
        outcomes = self._done.collect(timeout, len(self._calls))
        # Results may have been too many at any moment before, also while this has waited: then none has begun.
        if self._waiting and len(self._calls) < self._concurrency and not self._done.is_full:
            self._loop.call_soon_threadsafe(self._begin)
        return outcomes

    def cancel(self) -> list[Group]:
        return list(iter(self._take, None))

    def queued(self, id: str) -> bool:
        return False

    def go_on(self) -> None:
        pass

    def overdue(self, limit: float) -> Overdue:
        held_up = self._terms.clock() - self._turned_at - _TURN
        if held_up > limit:  # a call blocks where it should await: none of the others is to blame
            if self._found_at != self._turned_at:  # perhaps the whole process stood still: the next look tells
                self._found_at = self._turned_at
                return Overdue([], False)
            call = self._calls.get(asyncio.current_task(self._loop))  # type: ignore[arg-type]
            return Overdue([call[0]] if call else [], True)
        if held_up > _GRACE:
            return Overdue([], False)
        return overdue(self._calls.values(), self._terms.clock() - limit - _GRACE, self._concurrency)

    def calls(self) -> list[Call]:
        return running_calls(self._calls.values(), self._terms.clock())

    def close(self, timeout: float) -> None:
        self.cancel()
        self._done.close()
        self._loop.call_soon_threadsafe(self._closing.set)
        self._closed.result(timeout)

    def _run(self) -> None:
        """Until `_work` has ended. sys.exit() in a task, or stop(), ends a run before: all goes on in the next."""
        runner = asyncio.Runner()  # of a loop that is broken it is not closed, which would wait for all tasks
        loop = runner.get_loop()
        work = loop.create_task(self._work(), context=self._terms.context)
        work.add_done_callback(lambda _: loop.stop())
        while not work.done():
            ended_by = "stop()"
            try:
                loop.run_forever()
            except (SystemExit, KeyboardInterrupt) as error:
                ended_by = named(error)
            if not work.done():
                logger.warning("process() has ended its event loop: it is run again", extra={"error": ended_by})
        work.result()
        runner.close()

    async def _work(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        if not await await_hook(self._hooks.setup, self._opened):
            return
        while not self._closing.is_set():
            self._turned_at = self._terms.clock()
            self._note_broken()
            with suppress(TimeoutError, asyncio.CancelledError):  # process() may cancel all tasks of the loop
                await asyncio.wait_for(self._closing.wait(), _TURN)
        await asyncio.gather(*self._calls, return_exceptions=True)
        await await_hook(self._hooks.teardown, self._closed)

    def _begin(self) -> None:
        if self._begins:  # this is the end of an eager task
            return
        self._begins = True
        try:
            self._begin_calls()
        finally:
            self._begins = False
        timeout = self._terms.timeout
        if timeout and not self._timed:
            self._timed = True
            self._loop.call_later(timeout, self._cancel_overdue, timeout)

    def _begin_calls(self) -> None:
        may_begin = self._concurrency if not self._done.is_full else 0
        while len(self._calls) < may_begin and (group := self._take()):
            # Not as an argument: a factory of tasks that setup() has set may know none.
            task = self._terms.context.copy().run(self._loop.create_task, self._call(group))
            if task.done():  # an eager one (Python 3.12), which waits for nothing; others of the loop have their turn
                self._loop.call_soon(self._begin)
                return
            self._calls.setdefault(task, (group, NOT_BEGUN))

    async def _call(self, group: Group) -> None:
        task: asyncio.Task[None] = asyncio.current_task()  # type: ignore[assignment]
        done, terms = self._done, self._terms
        began = self._turned_at = terms.clock()
        self._calls[task] = group, began
        outcome = await attempt_async(self._process, group, self._consumer_name)
        self._turned_at = terms.clock()
        terms.times.add(self._turned_at - began)
        if task in self._cancelled:
            self._cancelled.remove(task)
            if terms.timeout:  # also where it has caught that, and returned something: it came too late
                outcome = Outcome(group, [], took_too_long(terms.timeout))
        del self._calls[task]  # first: what is collected must not be found late afterwards
        done.put(outcome)
        done.note_size(outcome.size)
        done.tell()
        del outcome  # from Python 3.12 on the frames of its error know this one: a ring that nothing ever frees
        self._begin()

    def _note_broken(self) -> None:
        """Tasks that have ended without an outcome: process() has cancelled them before their turn came, say."""
        for task in [task for task in self._calls if task.done()]:
            group, _ = self._calls.pop(task)
            self._cancelled.discard(task)
            error = asyncio.CancelledError() if task.cancelled() else task.exception()
            self._done.put(Outcome(group, [], error))
            self._done.tell()
            self._begin()

    def _cancel_overdue(self, timeout: float) -> None:
        """One timer for all calls: one for each would cost a third of what a call takes beside process() (measured)."""
        now, wait = self._terms.clock(), timeout
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
