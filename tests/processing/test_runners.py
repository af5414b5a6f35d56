"""process() off the loop's thread: whatever it raises, and nothing from before a drop; one by one and many at once."""

import asyncio
import decimal
import gc
import sys
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from contextvars import Context, ContextVar
from functools import partial
from queue import SimpleQueue
from typing import Any, Protocol, cast

import pytest

from config import Settings, UnavailableError
from tests.builders import dispatcher, fragment, group
from tests.integration.workers import eventually
from utils.joining.aggregator import Group
from utils.joining.messages import InvalidResult, Message
from utils.metrics import BOUNDS, Counters, Histogram
from utils.processing.coroutines import Coroutines
from utils.processing.dispatcher import Dispatcher
from utils.processing.done import MANY, ThreadDied
from utils.processing.outcome import Call, Outcome, Process, TookTooLong
from utils.processing.runner import NO_LIMIT, CallTerms, Hooks, Runner
from utils.processing.single_thread import LARGE, SingleThread
from utils.processing.thread_pool import ThreadPool
from utils.running.calls import opened_calls

SECONDS = 60.0  # how long a test waits for another thread before it fails
NAME = "orders"


class Start(Protocol):
    def __call__(self, process: Process, concurrency: int = 1, *, coroutines: bool = False) -> Dispatcher:
        """With `coroutines` each call is one: it waits for the process() given here without blocking the others."""


@pytest.fixture
def start() -> Iterator[Start]:
    """Makes an executor that is closed at the end of the test."""
    started: list[Runner] = []

    def make(process: Process, concurrency: int = 1, *, coroutines: bool = False) -> Dispatcher:
        runner: Runner = SingleThread(process, NAME)
        if coroutines:
            runner = Coroutines(in_a_coroutine(process), NAME, concurrency)
        elif concurrency > 1:
            runner = ThreadPool(process, NAME, concurrency)
        runner.open()
        started.append(runner)
        return dispatcher(runner)

    yield make
    for runner in started:
        with suppress(TimeoutError):
            runner.close(0)


def in_a_coroutine(process: Process) -> Callable[[Message, str], Any]:
    async def call(message: Message, name: str) -> object:
        return await asyncio.to_thread(process, message, name)

    return call


class Held:
    """A process() that stays in the call with the id `hold` until it is let go, and notes what it was called with."""

    def __init__(self, hold: str) -> None:
        self.hold = hold
        self.called: list[str] = []
        self.entered = threading.Event()
        self._leave = threading.Event()

    def __call__(self, message: Message, _name: str) -> Message:
        self.called.append(message["id"])
        if message["id"] == self.hold:
            self.entered.set()
            assert self._leave.wait(SECONDS)
        return message

    def wait(self) -> None:
        assert self.entered.wait(SECONDS)

    def let_go(self) -> None:
        self._leave.set()


def groups(ids: str) -> list[Group]:
    return [group(id) for id in ids]


def collect(executor: Dispatcher, number: int) -> list[Outcome]:
    """Collect until there are that many outcomes."""
    outcomes: list[Outcome] = []
    deadline = time.monotonic() + SECONDS
    while len(outcomes) < number:
        assert time.monotonic() < deadline, f"{len(outcomes)} of {number} outcomes"
        outcomes += executor.collect(0.05)
    return outcomes


def ids(outcomes: list[Outcome]) -> str:
    return "".join(outcome.group.id for outcome in outcomes)


def test_groups_are_processed_in_the_order_of_submission(start: Start) -> None:
    executor = start(lambda message, _: message)
    executor.submit(groups("abc"))
    executor.submit(groups("de"))
    assert ids(collect(executor, 5)) == "abcde"
    assert executor.in_flight == 0


def test_process_gets_the_joined_message_and_the_name_of_the_consumer(start: Start) -> None:
    seen: list[tuple[Message, str]] = []
    executor = start(lambda message, name: seen.append((message, name)))
    executor.submit([group("1", fragment(1, b'{"id":"1","b":2}'), fragment(0, b'{"id":"1","a":1}'))])
    [outcome] = collect(executor, 1)
    assert seen == [({"id": "1", "a": 1, "b": 2, "content": {}}, NAME)]
    assert (outcome.results, outcome.error) == ([], None)


def test_what_process_returns_is_the_result(start: Start) -> None:
    executor = start(lambda message, _: [{"x": 1}, {"id": "2"}])
    executor.submit(groups("1"))
    [outcome] = collect(executor, 1)
    assert [(result.key, result.value) for result in outcome.results] == [(b"1", b'{"x":1}'), (b"2", b'{"id":"2"}')]


def test_an_exception_is_the_outcome_of_its_group_alone(start: Start) -> None:
    def process(message: Message, _name: str) -> object:
        if message["id"] == "b":
            raise ZeroDivisionError("mine")
        return message

    executor = start(process)
    executor.submit(groups("abc"))
    outcomes = collect(executor, 3)
    assert ids(outcomes) == "abc"
    assert [type(outcome.error) for outcome in outcomes] == [type(None), ZeroDivisionError, type(None)]
    assert outcomes[1].results == []


def test_a_result_that_cannot_be_forwarded_is_an_outcome_too(start: Start) -> None:
    executor = start(lambda message, _: "no dict")
    executor.submit(groups("a"))
    assert isinstance(collect(executor, 1)[0].error, InvalidResult)


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit()])
def test_also_what_ends_a_thread_is_an_outcome_and_the_next_group_is_processed(
    start: Start, error: BaseException
) -> None:
    def process(message: Message, _name: str) -> object:
        if message["id"] == "a":
            raise error
        return message

    executor = start(process)
    executor.submit(groups("ab"))
    outcomes = collect(executor, 2)
    assert ids(outcomes) == "ab"
    assert outcomes[0].error is not None
    assert outcomes[1].error is None


def test_collect_does_not_wait_when_nothing_is_in_flight(start: Start) -> None:
    executor = start(lambda message, _: message)
    began = time.monotonic()
    assert executor.collect(SECONDS) == []
    assert time.monotonic() - began < SECONDS / 2


def test_collect_gives_up_after_its_time_while_a_call_is_held(start: Start) -> None:
    process = Held("a")
    executor = start(process)
    executor.submit(groups("a"))
    process.wait()
    assert executor.collect(0.01) == []
    assert executor.in_flight == 1
    process.let_go()
    assert ids(collect(executor, 1)) == "a"


def test_collect_returns_as_soon_as_an_outcome_is_there(start: Start) -> None:
    executor = start(lambda message, _: message)
    began = time.monotonic()
    executor.submit(groups("a"))
    assert ids(executor.collect(SECONDS)) == "a"
    assert time.monotonic() - began < SECONDS / 2


def test_outcomes_before_a_call_that_is_held_are_handed_back(start: Start) -> None:
    process = Held("c")
    executor = start(process)
    executor.submit(groups("abc"))
    process.wait()
    assert ids(collect(executor, 2)) == "ab"
    assert executor.in_flight == 1
    process.let_go()
    assert ids(collect(executor, 1)) == "c"


def test_cancel_starts_nothing_more_but_the_running_call_is_collected(start: Start) -> None:
    process = Held("a")
    executor = start(process)
    executor.submit(groups("abc"))
    process.wait()
    executor.cancel()
    assert executor.in_flight == 1
    process.let_go()
    assert ids(collect(executor, 1)) == "a"
    assert executor.in_flight == 0
    executor.submit(groups("d"))
    assert ids(collect(executor, 1)) == "d"
    assert process.called == ["a", "d"]


def test_cancel_keeps_outcomes_that_are_there_already(start: Start) -> None:
    process = Held("b")
    executor = start(process)
    executor.submit(groups("abc"))
    process.wait()
    executor.cancel()
    process.let_go()
    assert ids(collect(executor, 2)) == "ab"


def test_after_a_drop_neither_old_outcomes_nor_that_of_the_running_call_come_back(start: Start) -> None:
    process = Held("b")
    executor = start(process)
    executor.submit(groups("abc"))
    process.wait()
    executor.drop()
    assert executor.in_flight == 0
    executor.submit(groups("bd"))  # the same id again: its partition has come back
    process.hold = "none"
    process.let_go()
    outcomes = collect(executor, 2)
    assert ids(outcomes) == "bd"
    assert process.called == ["a", "b", "b", "d"]
    assert (executor.in_flight, executor.collect(0.01)) == (0, [])


def test_the_same_id_is_not_processed_a_second_time_while_the_dropped_call_still_runs(start: Start) -> None:
    inside = threading.Semaphore(1)
    overlapped = threading.Event()
    entered, leave = threading.Event(), threading.Event()

    def process(message: Message, _name: str) -> Message:
        if not inside.acquire(blocking=False):
            overlapped.set()
        entered.set()
        assert leave.wait(SECONDS)
        inside.release()
        return message

    executor = start(process)
    executor.submit(groups("a"))
    assert entered.wait(SECONDS)
    executor.drop()
    executor.submit(groups("a"))
    assert executor.collect(0.05) == []
    leave.set()
    assert ids(collect(executor, 1)) == "a"
    assert not overlapped.is_set()


def test_two_drops_in_a_row_hand_back_nothing_of_either(start: Start) -> None:
    process = Held("a")
    executor = start(process)
    executor.submit(groups("a"))
    process.wait()
    executor.drop()
    executor.submit(groups("b"))
    executor.drop()
    executor.submit(groups("c"))
    process.let_go()
    assert ids(collect(executor, 1)) == "c"
    assert process.called == ["a", "c"]


def test_close_does_not_wait_for_a_call_that_is_held_and_ends_the_thread_after_it() -> None:
    process = Held("a")
    runner = SingleThread(process, NAME)
    before = set(threading.enumerate())
    runner.open()
    runner.submit(groups("ab"))
    [thread] = set(threading.enumerate()) - before
    process.wait()
    with pytest.raises(TimeoutError):
        runner.close(0)
    process.let_go()
    thread.join(SECONDS)
    assert not thread.is_alive()
    assert process.called == ["a"]


def test_a_thread_that_always_has_work_is_told_of_it_once() -> None:
    """Each call to submit() left a word that was not taken before all work was done: memory grew for days."""
    process = Held("a")
    runner = SingleThread(process, NAME)
    runner.open()
    runner.submit(groups("a"))
    process.wait()
    for id in "bcdefg":
        runner.submit(groups(id))
    assert runner._work_is_there.qsize() == 1
    process.let_go()
    eventually(lambda: len(process.called) == 7, "all calls")
    runner.close(SECONDS)


def test_an_executor_that_was_never_used_can_be_cancelled_and_dropped(start: Start) -> None:
    executor = start(lambda message, _: message)
    executor.cancel()
    executor.drop()
    assert executor.collect(SECONDS) == []


def test_in_flight_counts_what_was_submitted_and_not_collected(start: Start) -> None:
    process = Held("a")
    executor = start(process)
    executor.submit(groups("ab"))
    executor.submit(groups("c"))
    assert executor.in_flight == 3
    process.let_go()
    collect(executor, 3)
    assert executor.in_flight == 0


def test_a_large_backlog_comes_back_complete_and_in_order(start: Start) -> None:
    executor = start(lambda message, _: message)
    many: list[Any] = [str(number) for number in range(5_000)]
    executor.submit([group(id) for id in many])
    assert [outcome.group.id for outcome in collect(executor, 5_000)] == many


# ---------------------------------------------------------------- many at once

AT_ONCE = pytest.mark.parametrize("coroutines", [False, True], ids=["threads", "coroutines"])


class Together:
    """A process() whose calls return only when a number of them are running at the same time."""

    def __init__(self, number: int) -> None:
        self._barrier = threading.Barrier(number)

    def __call__(self, message: Message, _name: str) -> Message:
        self._barrier.wait(SECONDS)
        return message


@AT_ONCE
def test_as_many_calls_run_at_once_as_the_concurrency_says(start: Start, coroutines: bool) -> None:
    executor = start(Together(3), 3, coroutines=coroutines)
    executor.submit(groups("abcdef"))
    outcomes = collect(executor, 6)
    assert sorted(ids(outcomes)) == list("abcdef")
    assert not any(outcome.error for outcome in outcomes)
    assert executor.in_flight == 0


@AT_ONCE
def test_no_more_calls_run_at_once_than_the_concurrency_says(start: Start, coroutines: bool) -> None:
    running = threading.Semaphore(2)
    exceeded = threading.Event()

    def process(message: Message, _name: str) -> Message:
        if not running.acquire(blocking=False):
            exceeded.set()
        time.sleep(0.001)
        running.release()
        return message

    executor = start(process, 2, coroutines=coroutines)
    executor.submit([group(str(number)) for number in range(100)])
    assert len(collect(executor, 100)) == 100
    assert not exceeded.is_set()


@AT_ONCE
def test_a_call_that_is_held_does_not_hold_up_the_others(start: Start, coroutines: bool) -> None:
    process = Held("a")
    executor = start(process, 2, coroutines=coroutines)
    executor.submit(groups("abcd"))
    assert ids(collect(executor, 3)) == "bcd"
    process.let_go()
    assert ids(collect(executor, 1)) == "a"


@AT_ONCE
def test_groups_of_an_id_are_processed_one_after_the_other_in_their_order(start: Start, coroutines: bool) -> None:
    inside = {id: threading.Semaphore(1) for id in "ab"}
    overlapped = threading.Event()
    order: dict[str, list[int]] = {"a": [], "b": []}

    def process(message: Message, _name: str) -> Message:
        alone = inside[message["id"]]
        if not alone.acquire(blocking=False):
            overlapped.set()
        order[message["id"]].append(message["number"])
        alone.release()
        return message

    executor = start(process, 8, coroutines=coroutines)
    for number in range(50):
        values = [b'{"id":"%s","number":%d}' % (id, number) for id in (b"a", b"b")]
        executor.submit([group(id, fragment(value=value)) for id, value in zip("ab", values, strict=True)])
    collect(executor, 100)
    assert order == {"a": list(range(50)), "b": list(range(50))}
    assert not overlapped.is_set()


@AT_ONCE
def test_a_group_waits_until_the_dropped_call_of_the_same_id_has_ended(start: Start, coroutines: bool) -> None:
    process = Held("a")
    executor = start(process, 4, coroutines=coroutines)
    executor.submit(groups("ab"))
    process.wait()
    executor.drop()
    executor.submit(groups("abc"))
    assert sorted(ids(collect(executor, 2))) == ["b", "c"]
    assert process.called.count("a") == 1
    process.let_go()
    assert ids(collect(executor, 1)) == "a"
    assert process.called.count("a") == 2


@AT_ONCE
def test_cancel_starts_nothing_more_of_many_either(start: Start, coroutines: bool) -> None:
    process = Held("b")
    executor = start(process, 2, coroutines=coroutines)
    executor.submit(groups("bbb"))
    process.wait()
    executor.cancel()
    assert executor.in_flight == 1
    process.let_go()
    assert ids(collect(executor, 1)) == "b"
    executor.submit(groups("b"))
    assert ids(collect(executor, 1)) == "b"
    assert process.called == ["b", "b"]


@AT_ONCE
@pytest.mark.parametrize("error", [ValueError("mine"), SystemExit(1)])
def test_an_exception_is_the_outcome_of_its_group_alone_among_many(
    start: Start, coroutines: bool, error: BaseException
) -> None:
    def process(message: Message, _name: str) -> Message:
        if message["id"] == "b":
            raise error
        return message

    executor = start(process, 2, coroutines=coroutines)
    executor.submit(groups("abc"))
    failed = {outcome.group.id: outcome.error for outcome in collect(executor, 3)}
    assert failed == {"a": None, "b": error, "c": None}


def test_an_error_of_the_coroutine_itself_is_an_outcome(start: Start) -> None:
    async def process(message: Message, _name: str) -> Message:
        raise asyncio.CancelledError if message["id"] == "a" else KeyboardInterrupt

    runner = Coroutines(process, NAME, 2)
    runner.open()
    executor = dispatcher(runner)
    executor.submit(groups("ab"))
    failed = {outcome.group.id: type(outcome.error) for outcome in collect(executor, 2)}
    assert failed == {"a": asyncio.CancelledError, "b": KeyboardInterrupt}
    runner.close(SECONDS)


async def exits(error: BaseException) -> None:
    raise error


async def exits_in_a_task(_message: Message, _name: str) -> object:
    await asyncio.gather(exits(SystemExit(3)))
    raise AssertionError


async def is_interrupted_in_a_task(_message: Message, _name: str) -> object:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(exits(KeyboardInterrupt()))
    raise AssertionError


async def does_not_wait_for_a_task_that_exits(message: Message, _name: str) -> object:
    task = asyncio.create_task(exits(SystemExit(3)))
    await asyncio.wait([task])
    return message


async def stops_the_loop(message: Message, _name: str) -> object:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0)
    return message


async def cancels_all_tasks(message: Message, _name: str) -> object:
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await asyncio.sleep(0)
    return message


@pytest.mark.parametrize(
    ("process", "error"),
    [
        (exits_in_a_task, SystemExit),
        (is_interrupted_in_a_task, BaseExceptionGroup | KeyboardInterrupt),
        (does_not_wait_for_a_task_that_exits, None),
        (stops_the_loop, None),
        (cancels_all_tasks, None),
    ],
)
def test_what_a_coroutine_does_to_its_event_loop_concerns_its_own_message_alone(
    process: Callable[[Message, str], Any], error: Any
) -> None:
    others_wait = asyncio.Event()

    async def one_that_does_it(message: Message, name: str) -> object:
        if message["id"] == "x":
            others_wait.set()
            return await process(message, name)
        await others_wait.wait()
        for _ in range(3):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.001)
        return message

    torn_down = threading.Event()
    runner = Coroutines(one_that_does_it, NAME, 3, Hooks(teardown=torn_down.set))
    runner.open()
    executor = dispatcher(runner)
    executor.submit(groups("abxcd"))
    outcomes = {outcome.group.id: outcome.error for outcome in collect(executor, 5)}
    assert isinstance(outcomes.pop("x"), error or type(None))
    assert set(outcomes) == set("abcd")
    if process is not cancels_all_tasks:
        assert set(outcomes.values()) == {None}
    executor.submit(groups("e"))
    assert collect(executor, 1)[0].error is None
    runner.close(SECONDS)
    assert torn_down.is_set()


def test_a_call_that_is_cancelled_before_it_has_begun_has_failed() -> None:
    async def process(message: Message, _name: str) -> object:
        if message["id"] == "a":
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
        return message

    runner = Coroutines(process, NAME, 4)
    runner.open()
    executor = dispatcher(runner)
    executor.submit(groups("abcdefg"))
    errors = {outcome.group.id: type(outcome.error) for outcome in collect(executor, 7)}
    assert [errors[id] for id in "abcd"] == [type(None), *[asyncio.CancelledError] * 3]
    runner.close(SECONDS)


class NoMemory(Histogram):
    """In which nothing can be counted."""

    def add(self, value: float, number: int = 1) -> None:
        raise MemoryError


async def breaks_the_loop(_message: Message, _name: str) -> object:
    asyncio.get_running_loop()._run_once = None  # type: ignore[attr-defined]
    await asyncio.sleep(SECONDS)
    raise AssertionError


def clear_away(runner: Coroutines) -> None:
    """What stays of a loop that broke, until the process ends."""
    loop = runner._loop
    del loop._run_once  # type: ignore[attr-defined]
    runner._closing.set()
    for task in asyncio.all_tasks(loop):
        task.cancel()
    while asyncio.all_tasks(loop):
        loop.call_soon(loop.stop)
        loop.run_forever()
    loop.close()


@pytest.mark.parametrize("way", ["one thread", "two threads", "coroutines"])
def test_a_thread_that_has_died_is_told_to_whoever_collects_and_nobody_waits_for_it(way: str) -> None:
    terms = CallTerms(times=NoMemory())
    runner: Runner = SingleThread(lambda message, _name: message, NAME, terms=terms)
    if way == "two threads":
        runner = ThreadPool(lambda message, _name: message, NAME, 2, terms=terms)
    elif way == "coroutines":
        runner = Coroutines(breaks_the_loop, NAME, 2)
    runner.open()
    executor = dispatcher(runner)
    executor.submit(groups("ab"))
    for _ in range(2):  # the next worker gets the same answer
        with pytest.raises(ThreadDied) as caught:
            collect(executor, 2)
        assert isinstance(caught.value.__cause__, TypeError if way == "coroutines" else MemoryError)
    if way == "two threads":  # teardown() has a thread of its own
        runner.close(SECONDS)
        return
    with pytest.raises(ThreadDied):
        runner.close(SECONDS)
    if isinstance(runner, Coroutines):
        clear_away(runner)


def test_also_a_setup_that_breaks_its_event_loop_is_not_waited_for() -> None:
    async def setup() -> None:
        await breaks_the_loop({}, NAME)

    runner = Coroutines(breaks_the_loop, NAME, 2, Hooks(setup=setup))
    with pytest.raises(ThreadDied):
        runner.open()
    clear_away(runner)


def test_calls_that_have_nothing_to_wait_for_do_not_hold_up_one_that_has() -> None:
    async def process(message: Message, _name: str) -> Message:
        if message["id"] == "a":
            await asyncio.sleep(0)
        return message

    runner = Coroutines(process, NAME, 2)
    runner.open()
    executor = dispatcher(runner)
    executor.submit(groups("abcdefghijklmnopqrstuvwxyz"))
    assert "a" in ids(collect(executor, 26))[:5]
    runner.close(SECONDS)


@pytest.mark.parametrize("kind", [SingleThread, ThreadPool, Coroutines])
def test_threads_that_process_and_setup_begin_are_waited_for_at_the_end_as_in_any_program(kind: type) -> None:
    """They were daemons as the thread that calls process(), and cut off in the middle of what they did."""
    daemons = list[bool]()

    def note(*_: object) -> None:
        daemons.append(threading.Thread().daemon)

    async def note_in_a_coroutine(*_: object) -> None:
        note()

    called: Any = note_in_a_coroutine if kind is Coroutines else note
    runner = kind(called, NAME, **({} if kind is SingleThread else {"concurrency": 2}), hooks=Hooks(called, called))
    runner.open()
    executor = dispatcher(runner)
    executor.submit(groups("a"))
    collect(executor, 1)
    runner.close(SECONDS)
    assert daemons == [False, False, False]


def begun_at_once(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
    """asyncio.eager_task_factory, for Python 3.11: the first step is taken before there is a task for who asked."""
    tasks, steps = cast(Any, asyncio.tasks), list[Callable[[], None]]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "call_soon", lambda step, context: steps.append(partial(context.run, step)))
        task: asyncio.Task[Any] = tasks._PyTask(coroutine, loop=loop)
    current = asyncio.current_task(loop)
    if current:
        tasks._leave_task(loop, current)
    [step] = steps
    step()
    if current:
        tasks._enter_task(loop, current)
    return task


def test_tasks_that_begin_at_once_come_out_once_each_and_have_their_time() -> None:
    """With asyncio.eager_task_factory each group came out twice, and hundreds ended by a RecursionError."""
    clock, leave = Clock(), threading.Event()
    factory: Any = getattr(asyncio, "eager_task_factory", begun_at_once)

    async def setup() -> None:
        asyncio.get_running_loop().set_task_factory(factory)

    async def process(message: Message, _name: str) -> Message:
        while message["id"] == "a" and not leave.is_set():
            await asyncio.sleep(0.001)
        if message["id"] < "z":
            await asyncio.sleep(0)
        return message

    def until(last: str) -> str:
        seen, deadline = "", time.monotonic() + SECONDS
        while last not in seen:
            assert time.monotonic() < deadline, seen
            seen += ids(runner.collect(0.05))
        return seen

    many = "".join(map(chr, range(256, 900)))
    runner = Coroutines(process, NAME, 4, Hooks(setup), CallTerms(clock=clock))
    runner.open()
    runner.submit(groups(f"abcd{many}z"))
    seen = until("z")
    assert sorted(seen) == sorted(f"bcd{many}z")
    clock.now = 16
    assert [tuple(call) for call in runner.calls()] == [("a", 16)]
    wait_for_a_turn(runner, clock)
    runner.submit(groups("y"))
    assert until("y") == "y", "none of the others a second time"
    leave.set()
    assert until("a") == "a"
    runner.close(SECONDS)


@AT_ONCE
@pytest.mark.parametrize(("calls", "together"), [(MANY + 1, "ab"), (MANY, "a")], ids=["many", "few"])
def test_where_many_calls_run_what_ends_soon_after_another_is_collected_with_it(
    start: Start, monkeypatch: pytest.MonkeyPatch, coroutines: bool, calls: int, together: str
) -> None:
    letters = [chr(ord("a") + number) for number in range(calls)]
    may_end = {id: threading.Event() for id in letters}

    def process(message: Message, _name: str) -> Message:
        assert may_end[message["id"]].wait(SECONDS)
        return message

    def until_running(number: int) -> None:
        deadline = time.monotonic() + SECONDS
        while len(executor.calls()) != number:
            assert time.monotonic() < deadline
            threading.Event().wait(0.001)

    def gathering(_seconds: float) -> None:
        may_end["b"].set()
        until_running(calls - 2)

    executor = start(process, calls, coroutines=coroutines)
    monkeypatch.setattr("utils.processing.done.time.sleep", gathering)
    executor.submit(groups("".join(letters)))
    until_running(calls)
    may_end["a"].set()
    until_running(calls - 1)
    assert ids(collect(executor, 1)) == together
    for id in letters:
        may_end[id].set()
    collect(executor, calls - len(together))


@AT_ONCE
def test_the_threads_of_many_end_after_close(coroutines: bool) -> None:
    before = set(threading.enumerate())
    process: Process = lambda message, _: message  # noqa: E731
    runner = Coroutines(in_a_coroutine(process), NAME, 3) if coroutines else ThreadPool(process, NAME, 3)
    runner.open()
    runner.submit(groups("abc"))
    runner.close(SECONDS)
    # One that is only about to start cannot be joined yet.
    eventually(lambda: not set(threading.enumerate()) - before, "the end of its threads", SECONDS)


# ---------------------------------------------------------------- calls that last too long


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def overdue_after(runner: Runner, clock: Clock, seconds: float, limit: float) -> tuple[str, bool]:
    clock.now += seconds
    groups, too_many = runner.overdue(limit)
    return "".join(sorted(group.id for group in groups)), too_many


def test_the_one_thread_that_hangs_is_one_too_many() -> None:
    process, clock = Held("b"), Clock()
    runner = SingleThread(process, NAME, terms=CallTerms(clock=clock))
    runner.open()
    runner.submit(groups("ab"))
    process.wait()
    assert overdue_after(runner, clock, 5, limit=10) == ("", False)
    assert overdue_after(runner, clock, 5, limit=10) == ("", False)
    assert overdue_after(runner, clock, 0.1, limit=10) == ("b", True)
    process.let_go()
    while runner.collect(0.05) == []:
        pass
    assert overdue_after(runner, clock, 99, limit=10) == ("", False)
    runner.close(SECONDS)


def test_calls_that_become_slow_after_many_quick_ones_are_timed_each_by_itself() -> None:
    """The time of up to 16 was that of one: where each took a tenth of PROCESS_TIMEOUT, the worker was said to hang."""
    clock, times = Clock(), Histogram()
    held = Held("held")

    def process(message: Message, name: str) -> Message:
        if message["id"].startswith("slow"):
            clock.now += 1
        return held(message, name)

    runner = SingleThread(process, NAME, terms=CallTerms(clock=clock, times=times))
    runner.open()
    runner.submit([group(id) for id in [*map(str, range(100)), *(f"slow {number}" for number in range(12)), "held"]])
    held.wait()
    assert clock.now == 12
    assert overdue_after(runner, clock, 9, limit=10) == ("", False)
    assert runner.calls() == [Call("held", 9.0)]
    assert overdue_after(runner, clock, 2, limit=10) == ("held", True)
    held.let_go()
    runner.close(SECONDS)
    counts, _ = times.read()
    assert (counts[0], counts[BOUNDS.index(0.5)], counts[BOUNDS.index(1.0)], counts[-1]) == (100, 100, 112, 113)


def test_threads_that_hang_are_too_many_when_they_are_half_of_all() -> None:
    processes = {id: Held(id) for id in "ab"}
    clock = Clock()
    terms = CallTerms(clock=clock)
    runner = ThreadPool(lambda message, name: processes[message["id"]](message, name), NAME, 4, terms=terms)
    runner.open()
    runner.submit(groups("a"))
    processes["a"].wait()
    assert overdue_after(runner, clock, 6, limit=10) == ("", False)
    runner.submit(groups("b"))
    processes["b"].wait()
    assert overdue_after(runner, clock, 5, limit=10) == ("a", False)
    assert overdue_after(runner, clock, 6, limit=10) == ("ab", True)
    for process in processes.values():
        process.let_go()
    runner.close(SECONDS)


def test_a_coroutine_is_cancelled_when_its_time_is_over() -> None:
    cancelled = threading.Event()

    async def process(_message: Message, _name: str) -> None:
        try:
            await asyncio.sleep(SECONDS)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    runner = Coroutines(process, NAME, 1, terms=CallTerms(timeout=0.01))
    runner.open()
    executor = dispatcher(runner)
    executor.submit(groups("ab"))
    outcomes = collect(executor, 2)
    assert ids(outcomes) == "ab"
    assert cancelled.is_set()
    assert [str(outcome.error) for outcome in outcomes] == ["process() took longer than PROCESS_TIMEOUT (0.01 s)"] * 2
    assert [type(outcome.error) for outcome in outcomes] == [TookTooLong] * 2
    runner.close(SECONDS)


def test_each_coroutine_has_its_own_time_also_beside_one_that_ignores_being_cancelled_and_after_a_rest() -> None:
    leave = threading.Event()

    async def process(message: Message, _name: str) -> Message:
        while message["id"] == "a" and not leave.is_set():
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.001)
        if message["id"] in "bd":
            await asyncio.sleep(SECONDS)
        return message

    runner = Coroutines(process, NAME, 2, terms=CallTerms(timeout=0.02))
    runner.open()
    executor = dispatcher(runner)
    executor.submit(groups("abcd"))
    late = "process() took longer than PROCESS_TIMEOUT (0.02 s)"
    assert [(each.group.id, str(each.error)) for each in collect(executor, 3)] == [
        ("b", late),
        ("c", "None"),
        ("d", late),
    ]
    leave.set()
    assert [(each.group.id, str(each.error)) for each in collect(executor, 1)] == [("a", late)]
    deadline = time.monotonic() + SECONDS
    while runner._timed:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    executor.submit(groups("b"))
    assert [str(each.error) for each in collect(executor, 1)] == [late]
    runner.close(SECONDS)


def test_a_time_out_of_the_users_own_is_not_called_ours() -> None:
    async def process(_message: Message, _name: str) -> None:
        raise TimeoutError("mine")

    runner = Coroutines(process, NAME, 1, terms=CallTerms(timeout=SECONDS))
    runner.open()
    executor = dispatcher(runner)
    executor.submit(groups("a"))
    assert str(collect(executor, 1)[0].error) == "mine"
    runner.close(SECONDS)


def test_coroutines_that_ignore_being_cancelled_are_overdue_after_some_grace() -> None:
    clock, entered, leave = Clock(), threading.Semaphore(0), threading.Event()

    async def process(_message: Message, _name: str) -> None:
        entered.release()
        while not leave.is_set():
            await asyncio.sleep(0.001)

    runner = Coroutines(process, NAME, 4, terms=CallTerms(clock=clock))
    runner.open()
    runner.submit(groups("ab"))
    for _ in "ab":
        assert entered.acquire(timeout=SECONDS)
    assert overdue_after(runner, clock, 5, limit=10) == ("", False)
    clock.now = 16
    wait_for_a_turn(runner, clock)
    assert overdue_after(runner, clock, 0, limit=10) == ("ab", True)
    leave.set()
    runner.close(SECONDS)


def wait_for_a_turn(runner: Coroutines, clock: Clock) -> None:
    """The event loop shows its signs of life by the test's clock."""
    deadline = time.monotonic() + SECONDS
    while runner._turned_at != clock.now:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_call_that_blocks_the_event_loop_is_alone_to_blame() -> None:
    process, clock = Held("b"), Clock()

    async def blocking(message: Message, name: str) -> object:
        await asyncio.sleep(0)
        if message["id"] == "b":
            return process(message, name)
        await asyncio.sleep(0.001)
        return message

    runner = Coroutines(blocking, NAME, 100, terms=CallTerms(clock=clock))
    runner.open()
    runner.submit(groups("abc"))
    process.wait()
    assert overdue_after(runner, clock, 9, limit=10) == ("", False)
    assert overdue_after(runner, clock, 3, limit=10) == ("", False)
    assert overdue_after(runner, clock, 1, limit=10) == ("b", True)
    process.let_go()
    runner.close(SECONDS)


def test_an_event_loop_of_a_process_that_was_frozen_has_its_turn_before_it_is_said_to_be_blocked() -> None:
    clock = Clock()

    async def process(message: Message, _name: str) -> Message:
        return message

    runner = Coroutines(process, NAME, 100, terms=CallTerms(clock=clock))
    runner.open()
    assert overdue_after(runner, clock, 14, limit=2) == ("", False)
    deadline = time.monotonic() + SECONDS
    while runner._turned_at != clock.now and time.monotonic() < deadline:
        time.sleep(0.01)
    assert overdue_after(runner, clock, 1, limit=2) == ("", False)
    assert overdue_after(runner, clock, 14, limit=2) == ("", False)
    runner.close(SECONDS)


@pytest.mark.parametrize("at_the_end", [False, True])
def test_calls_that_block_one_after_the_other_are_no_call_that_hangs(at_the_end: bool) -> None:
    """Each for a short time, in the same turn of the event loop: together longer than a call may take."""
    clock = Clock()
    seen: list[bool] = []

    async def blocking(_message: Message, _name: str) -> None:
        if at_the_end:
            await asyncio.sleep(0)
        clock.now += 4
        seen.append(runner.overdue(limit=10).too_many)
        if not at_the_end:
            await asyncio.sleep(0)

    runner = Coroutines(blocking, NAME, 5, terms=CallTerms(clock=clock))
    runner.open()
    executor = dispatcher(runner)
    executor.submit(groups("abcde"))
    collect(executor, 5)
    runner.close(SECONDS)
    assert seen == [False] * 5


def test_a_coroutine_whose_turn_has_not_come_is_neither_cancelled_nor_said_to_run() -> None:
    blocked, entered = threading.Event(), threading.Event()
    calls: list[Call] = []

    async def process(message: Message, _name: str) -> Message:
        if message["id"] == "a":
            entered.set()
            blocked.wait(SECONDS)  # the event loop stands still
        return message

    def stand_still() -> None:
        calls.extend(runner.calls())
        time.sleep(0.05)

    runner = Coroutines(process, NAME, 2, terms=CallTerms(timeout=0.02))
    runner.open()
    executor = dispatcher(runner)
    executor.submit(groups("a"))
    assert entered.wait(SECONDS)
    executor.submit(groups("b"))  # its coroutine is made in the next turn,
    runner._loop.call_soon_threadsafe(stand_still)  # which lasts for longer than a call may: only then it would begin
    time.sleep(0.05)
    blocked.set()
    assert [(each.group.id, each.error) for each in collect(executor, 2)] == [("a", None), ("b", None)]
    assert calls == []
    runner.close(SECONDS)


# ---------------------------------------------------------------- setup() and teardown()

RUNNERS = pytest.mark.parametrize("kind", [SingleThread, ThreadPool, Coroutines])


class Story:
    """Hooks and a process() that tell in which order, and in which threads, they were called."""

    def __init__(self, *, fails: str = "") -> None:
        self.told: list[str] = []
        self.threads: list[int] = []
        self._fails = fails

    def _tell(self, what: str) -> None:
        self.told.append(what)
        self.threads.append(threading.get_ident())
        if what == self._fails:
            raise RuntimeError(what)

    def runner(self, kind: type) -> Runner:
        hooks = Hooks(lambda: self._tell("setup"), lambda: self._tell("teardown"))
        if kind is Coroutines:
            return Coroutines(
                self._async("process"), NAME, 2, hooks=Hooks(self._async("setup"), self._async("teardown"))
            )

        def process(message: Message, _name: str) -> Message:
            self._tell("process")
            return message

        return SingleThread(process, NAME, hooks) if kind is SingleThread else ThreadPool(process, NAME, 2, hooks)

    def _async(self, what: str) -> Callable[..., Any]:
        async def tell(*_: object) -> None:
            await asyncio.sleep(0)
            self._tell(what)

        return tell


@RUNNERS
def test_setup_comes_before_the_first_call_and_teardown_after_the_last(kind: type) -> None:
    story = Story()
    runner = story.runner(kind)
    runner.open()
    assert story.told == ["setup"]
    executor = dispatcher(runner)
    executor.submit(groups("ab"))
    collect(executor, 2)
    runner.close(SECONDS)
    assert story.told == ["setup", "process", "process", "teardown"]


@pytest.mark.parametrize("kind", [SingleThread, Coroutines])
def test_where_one_thread_calls_process_it_also_calls_setup_and_teardown(kind: type) -> None:
    story = Story()
    runner = story.runner(kind)
    runner.open()
    runner.submit(groups("a"))
    while not runner.collect(0.05):
        pass
    runner.close(SECONDS)
    assert len(set(story.threads)) == 1
    assert threading.get_ident() not in story.threads


@RUNNERS
def test_what_setup_raises_is_raised_to_whoever_opens(kind: type) -> None:
    story = Story(fails="setup")
    with pytest.raises(RuntimeError, match="setup"):
        story.runner(kind).open()
    assert story.told == ["setup"]


@RUNNERS
def test_each_call_has_the_context_of_the_import_and_of_setup_and_its_thread_shares_none(kind: type) -> None:
    """Threads begin with none: what worker.py had said of how decimal rounds was lost, and money rounded otherwise."""
    imported, both, seen = Context(), threading.Barrier(1 if kind is SingleThread else 2), list[object]()
    name = ContextVar("name", default="none")
    imported.run(lambda: setattr(decimal.getcontext(), "prec", 5))

    def setup() -> None:
        name.set("of setup")
        decimal.getcontext().rounding = decimal.ROUND_HALF_UP

    def call(message: Message, _name: str) -> Message:
        if kind is ThreadPool:
            decimal.getcontext().prec += 1
            both.wait(SECONDS)
        seen.append((name.get(), decimal.getcontext().prec, decimal.Decimal("2.5").quantize(decimal.Decimal(1))))
        name.set("of a call")
        return message

    async def coroutine(message: Message, name: str) -> Message:
        return call(message, name)

    terms = CallTerms(context=imported.copy())
    runner: Runner = SingleThread(call, NAME, Hooks(setup, lambda: seen.append(name.get())), terms)
    if kind is not SingleThread:
        process = coroutine if kind is Coroutines else call
        runner = kind(process, NAME, 2, Hooks(setup, lambda: seen.append(name.get())), terms)
    runner.open()
    executor = dispatcher(runner)
    executor.submit(groups("ab"))
    assert not any(outcome.error for outcome in collect(executor, 2))
    runner.close(SECONDS)
    of_setup = ("of setup", 6 if kind is ThreadPool else 5, decimal.Decimal(3))
    second = ("of a call", *of_setup[1:]) if kind is SingleThread else of_setup
    assert seen == [of_setup, second, "of a call" if kind is SingleThread else "of setup"]


@RUNNERS
def test_a_setup_that_only_makes_a_generator_has_not_been_called(kind: type) -> None:
    """As behind a decorator, which hides that it yields."""

    async def unchanged(message: Message, _name: str) -> Message:
        return message

    process: Any = unchanged if kind is Coroutines else (lambda message, _name: message)
    hooks = Hooks(setup=lambda: (each for each in "ab"))
    with pytest.raises(TypeError, match="it returned a generator, which nobody runs"):
        (kind(process, NAME, hooks) if kind is SingleThread else kind(process, NAME, 2, hooks)).open()


@RUNNERS
def test_what_teardown_raises_is_raised_to_whoever_closes(kind: type) -> None:
    runner = Story(fails="teardown").runner(kind)
    runner.open()
    with pytest.raises(RuntimeError, match="teardown"):
        runner.close(SECONDS)


def test_teardown_waits_for_the_calls_that_are_running() -> None:
    process, torn_down = Held("a"), threading.Event()
    runner = ThreadPool(process, NAME, 3, Hooks(teardown=torn_down.set))
    runner.open()
    runner.submit(groups("a"))
    process.wait()
    with pytest.raises(TimeoutError):
        runner.close(0.01)
    assert not torn_down.is_set()
    process.let_go()
    assert torn_down.wait(SECONDS)


# ---------------------------------------------------------------- what is shown of the calls


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize(("concurrency", "turn"), [(2, 0.005), (16, 0.005), (64, 0.00125), (400, 0.0005)])
def test_of_many_threads_none_has_the_interpreter_for_long(concurrency: int, turn: float) -> None:
    """Each of 64 that use the CPU had it for 5 ms: health was answered after seconds, and a stop took too long."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.005)  # as Python has it
    pool = ThreadPool(lambda message, _name: message, NAME, concurrency)
    try:
        pool.open()
        assert sys.getswitchinterval() == pytest.approx(turn, abs=1e-6)
        pool.close(5)
    finally:
        sys.setswitchinterval(before)


def test_too_few_threads_for_the_calls_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With TasksMax=200 and CONCURRENCY=300 it was `setup() failed`, and there was none."""
    pool = ThreadPool(lambda message, _name: message, NAME, 5)
    begin = pool._done.start_thread

    def start_thread(work: Callable[[], None], name: str) -> threading.Thread:
        if name == "process 3":
            raise RuntimeError("can't start new thread")
        return begin(work, name)

    monkeypatch.setattr(pool._done, "start_thread", start_thread)
    monkeypatch.setattr("utils.running.calls.runner_of", lambda *_: pool)
    with pytest.raises(UnavailableError, match="CONCURRENCY is 5, and only 3 threads could be started"):
        opened_calls(Settings(), Counters(), threading.Event())
    assert not any(each.is_alive() for each in pool._threads), "who starts fewer needs the place of these"


@pytest.mark.parametrize("coroutines", [False, True])
@pytest.mark.parametrize("concurrency", [1, 4])
def test_calls_are_timed_each_once(coroutines: bool, concurrency: int) -> None:
    times = Histogram()

    def process(message: Message, _name: str) -> Message:
        if message["id"] == "3":
            raise ValueError
        time.sleep(0.01)
        return message

    runner: Runner = SingleThread(process, NAME, terms=CallTerms(times=times))
    if coroutines:
        runner = Coroutines(in_a_coroutine(process), NAME, concurrency, terms=CallTerms(times=times))
    elif concurrency > 1:
        runner = ThreadPool(process, NAME, concurrency, terms=CallTerms(times=times))
    runner.open()
    executor = dispatcher(runner)
    executor.submit([group(str(number)) for number in range(5)])
    collect(executor, 5)
    runner.close(SECONDS)
    until(lambda: times.read()[0][-1] == 5)  # the last one is counted just after it was handed back
    counts, total = times.read()
    assert counts[-1] == 5
    assert counts[BOUNDS.index(0.005)] <= 1
    assert total >= 0.04


def test_many_quick_calls_are_counted_by_the_batch() -> None:
    added: list[int] = []

    class Times(Histogram):
        def add(self, seconds: float, number: int = 1) -> None:
            added.append(number)
            super().add(seconds, number)

    times = Times()
    runner = SingleThread(lambda message, _: message, NAME, terms=CallTerms(clock=Clock(), times=times))
    runner.open()
    runner.submit([group(str(number)) for number in range(1000)])
    until(lambda: times.read()[0][-1] == 1000)
    runner.close(SECONDS)
    assert times.read()[0][0] == 1000
    assert len(added) < 100


@pytest.mark.parametrize("kind", ["one thread", "threads", "coroutines"])
def test_a_call_that_is_running_is_named_with_its_time(kind: str) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def process(message: Message, _name: str) -> Message:
        begun.set()
        go_on.wait(SECONDS)
        return message

    async def process_async(message: Message, _name: str) -> Message:
        begun.set()
        while not go_on.is_set():
            await asyncio.sleep(0.001)
        return message

    runner: Runner = Coroutines(process_async, NAME, 2)
    if kind != "coroutines":
        runner = SingleThread(process, NAME) if kind == "one thread" else ThreadPool(process, NAME, 2)
    runner.open()
    executor = dispatcher(runner)
    assert executor.calls() == []
    executor.submit([group("slow")])
    assert begun.wait(SECONDS)  # before another thread has something to begin with
    executor.submit([group("next"), group("last")])
    call, *_ = executor.calls()
    found = {id: place.state for id in ("slow", "last", "none") if (place := executor.find(id))}
    go_on.set()
    collect(executor, 3)
    runner.close(SECONDS)
    assert call.id == "slow"
    assert found == {"slow": "called", "last": "queued"}
    assert 0 <= call.seconds < SECONDS
    until(lambda: not executor.calls())


@pytest.mark.parametrize("way", ["one thread", "two threads", "coroutines"])
def test_a_failed_call_and_all_that_it_had_in_its_hands_are_freed_with_its_outcome(way: str) -> None:
    """An outcome is none of the garbage collector's business: in a ring with the traceback it would stay for ever.

    Each of several threads kept that of its last call until its next one had ended: a message whose first attempt had
    failed in an open transaction found its own lock in each further one, and became a dead letter.
    """
    errors: list[weakref.ref[BaseException]] = []

    class Failed(Exception):  # one of Python's own has no weak references
        pass

    def process(_message: Message, _name: str) -> object:
        error = Failed()
        errors.append(weakref.ref(error))
        raise error

    def is_freed() -> bool:
        gc.collect()
        return [error() for error in errors] == [None]

    runner = runners(process, NO_LIMIT)[way]
    runner.open()
    runner.submit(groups("a"))
    until(lambda: bool(runner.collect(SECONDS)))
    runner.go_on()
    until(is_freed)
    runner.close(SECONDS)


# ---------------------------------------------------------------- results take room before they are collected


def runners(process: Process, most: float) -> dict[str, Runner]:
    return {
        "one thread": SingleThread(process, NAME, terms=CallTerms(most=most)),
        "two threads": ThreadPool(process, NAME, 2, terms=CallTerms(most=most)),
        "coroutines": Coroutines(in_a_coroutine(process), NAME, 2, terms=CallTerms(most=most)),
    }


@pytest.mark.parametrize("way", ["one thread", "two threads", "coroutines"])
def test_a_call_whose_outcome_can_be_collected_runs_no_more(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It did, while its results were counted. If it was found late just then, after its outcome had been collected, it
    was called again, its results came twice, and the outcome of the next message of its id was thrown away.
    """
    running: list[list[Call]] = []

    def put(outcome: Outcome) -> None:
        running.append(runner.calls())
        done(outcome)

    runner: Any = runners(lambda message, _: message, most=NO_LIMIT)[way]
    done = runner._done.put
    monkeypatch.setattr(runner._done, "put", put)
    runner.open()
    runner.submit(groups("a"))
    until(lambda: bool(runner.collect(0.05)))
    runner.close(SECONDS)
    assert running == [[]]


@pytest.mark.parametrize("way", ["one thread", "two threads", "coroutines"])
def test_no_call_begins_while_results_beyond_a_limit_are_not_collected(way: str) -> None:
    called: list[str] = []

    def process(message: Message, _name: str) -> object:
        called.append(message["id"])
        return [message] * LARGE

    runner = runners(process, most=1)[way]
    runner.open()
    runner.submit(groups("abcdef"))
    collected, deadline = 0, time.monotonic() + SECONDS
    while collected < 6:
        assert time.monotonic() < deadline
        outcomes = runner.collect(0.05)
        assert len(outcomes) <= 2
        collected += len(outcomes)
        assert len(called) <= collected + 2
    runner.close(SECONDS)


def test_where_results_become_large_after_many_quick_calls_no_further_call_begins() -> None:
    """It was looked for room after 16 calls only."""
    clock, called = Clock(), list[str]()

    def process(message: Message, _name: str) -> object:
        if message["id"] == "quick":
            return None
        called.append(message["id"])
        clock.now += 0.01  # large ones take their time, if only to be encoded
        return message

    runner = SingleThread(process, NAME, terms=CallTerms(most=1, clock=clock))
    runner.open()
    runner.submit([group("quick")] * 100 + groups("abcdef"))
    until(lambda: bool(called) and not runner.calls())
    assert called == ["a"]
    assert len(runner.collect(0)) == 101
    runner.close(SECONDS)


def test_coroutines_begin_what_waits_also_where_results_became_too_many_while_they_were_collected() -> None:
    """All calls had ended, none began, and nobody looked again."""
    may_end = threading.Event()

    def process(message: Message, _name: str) -> object:
        may_end.wait(SECONDS)
        return [message] * LARGE

    runner = Coroutines(in_a_coroutine(process), NAME, 1, terms=CallTerms(most=1))
    runner.open()
    runner.submit(groups("abc"))
    done = runner._done
    collect = done.collect

    def collect_late(timeout: float, calls: int = 1) -> list[Outcome]:
        may_end.set()
        while not done.is_full or runner._calls:
            time.sleep(0.001)
        return collect(timeout, calls)

    done.collect = collect_late  # type: ignore[method-assign]
    assert len(runner.collect(0)) == 1
    done.collect = collect  # type: ignore[method-assign]
    collected = [each for _ in range(2) for each in runner.collect(SECONDS)]
    assert [each.group.id for each in collected] == ["b", "c"]
    runner.close(SECONDS)


def test_a_thread_that_was_waiting_for_a_group_when_the_room_went_begins_none() -> None:
    pool = ThreadPool(lambda message, _name: message, NAME, 2, terms=CallTerms(most=1))
    [late] = groups("a")
    seen: list[str] = []

    class Queue(SimpleQueue[Group | None]):
        def get(self, block: bool = True, timeout: float | None = None) -> Group | None:
            seen.append("taken")
            if len(seen) == 1:
                pool._done.note_size(2)  # of a call in another thread, which has ended meanwhile
            return super().get(block, timeout)

        def put(self, item: Group | None, block: bool = True, timeout: float | None = None) -> None:
            if seen:
                seen.append("put back")
                pool._done.collect(0)  # else the thread would wait for room now
            super().put(item, block, timeout)

    pool._waiting = Queue()
    pool.submit([late])
    assert pool._next() is late
    assert seen == ["taken", "put back", "taken"]


@pytest.mark.parametrize("way", ["one thread", "two threads", "coroutines"])
def test_a_runner_whose_results_nobody_collects_ends_all_the_same(way: str) -> None:
    runner = runners(lambda message, _name: [message] * LARGE, most=1)[way]
    runner.open()
    runner.submit(groups("abc"))
    assert runner.collect(SECONDS)
    runner.close(SECONDS)
