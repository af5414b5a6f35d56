"""What every way to call process() has: in one thread, in many, or in coroutines. Each has a file of its name.

A slow call never stops the poll, for none runs on the loop's thread. Knows neither Kafka nor offsets, nor the order of
ids.
"""

import inspect
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextvars import Context
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from utils.joining.aggregator import Group
from utils.metrics import Histogram
from utils.processing.outcome import Call, Outcome

NOT_BEGUN = float("inf")  # of a coroutine whose turn has not come: its time does not run
NO_LIMIT = float("inf")


def nothing() -> None:
    """The setup() or teardown() of a worker.py that has none."""


class Hooks(NamedTuple):
    """What worker.py may define beside process(); `async def` where process() is."""

    setup: Callable[[], object] = nothing
    teardown: Callable[[], object] = nothing


NO_HOOKS = Hooks()


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTerms:
    """How calls are bounded and timed, and in which context they run."""

    timeout: float | None = None
    """Seconds after which a coroutine is cancelled; a thread cannot be."""
    most: float = NO_LIMIT
    """Bytes of results that wait to be collected, before no further call begins."""
    clock: Callable[[], float] = time.monotonic
    times: Histogram = field(default_factory=Histogram)
    context: Context = field(default_factory=Context)
    """In which setup() runs. The threads and coroutines of process() have it, or a copy."""


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

        Waits up to `timeout` seconds for them, and then, where many calls are running, up to SOON (`done.py`) for more.
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


def call_hook(hook: Callable[[], object], end: Future[None]) -> bool:
    """Whether it has ended well; how it did is noted in `end`."""
    try:
        refuse_unrun(hook())
    except BaseException as error:
        end.set_exception(error)
        return False
    end.set_result(None)
    return True


async def await_hook(hook: Callable[[], object], end: Future[None]) -> bool:
    """As `call_hook`, of one that may be `async def`."""
    try:
        returned = hook()
        if inspect.isawaitable(returned):
            await returned
        else:
            refuse_unrun(returned)
    except BaseException as error:
        end.set_exception(error)
        return False
    end.set_result(None)
    return True


def refuse_unrun(returned: object) -> None:
    """What only makes a coroutine or a generator, as behind a decorator, has done nothing."""
    if inspect.iscoroutine(returned) or inspect.isgenerator(returned) or inspect.isasyncgen(returned):
        raise TypeError(f"it returned a {type(returned).__name__}, which nobody runs: it must do its work, and return")


def overdue(calls: Iterable[tuple[Group, float]], begun_by: float, places: int) -> Overdue:
    groups = [group for group, since in list(calls) if since < begun_by]
    return Overdue(groups, 2 * len(groups) >= places)


def running_calls(running: Iterable[tuple[Group, float]], now: float) -> list[Call]:
    """Of a snapshot: calls begin and end meanwhile."""
    calls = [Call(group.id, now - since) for group, since in list(running) if since < NOT_BEGUN]
    return sorted(calls, key=lambda call: -call.seconds)
