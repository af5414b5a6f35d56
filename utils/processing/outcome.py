"""One group in process(): the call, where it is meanwhile, and what became of it. Knows no thread and no order."""

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import msgspec

from utils.errors import Quotable, tame
from utils.joining.aggregator import Group
from utils.joining.dead_letters import Letter
from utils.joining.messages import RESULT_OVERHEAD, Message, Result, join, results
from utils.retry import Reject, Retry

Process = Callable[[Message, str], object]
AsyncProcess = Callable[[Message, str], Awaitable[object]]


def is_async(function: Callable[..., object]) -> bool:
    """Whether a call gives a coroutine: of an `async def`, or of an object whose `__call__` is one."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What became of a group: its results (none: filtered), or the error that process() or its data raised.

    `letter`: what is kept of a group that cannot become a result (utils/sending/failures.py).
    `lacks_some`: the group has been given up without a part of it, and may be superseded until it is safe (Leaving).
    """

    group: Group
    results: list[Result]
    error: BaseException | None = None
    letter: Letter | None = None
    attempts: int = 1
    lacks_some: bool = False

    @property
    def size(self) -> int:
        """Bytes of memory that its results take."""
        return sum([len(result.value) for result in self.results]) + RESULT_OVERHEAD * len(self.results)


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


def attempt(process: Process, group: Group, consumer_name: str) -> Outcome:
    """Join, process and encode one group. Never raises: whatever goes wrong is the outcome."""
    try:
        message = join(group.fragments)
        return Outcome(group, results(process(message, consumer_name), group.id))
    except BaseException as error:  # user code may raise anything, and sys.exit() must not end the thread
        return Outcome(group, [], tame(error, decisive))


async def attempt_async(process: AsyncProcess, group: Group, consumer_name: str) -> Outcome:
    """As `attempt`, of a coroutine."""
    try:
        message = join(group.fragments)
        return Outcome(group, results(await process(message, consumer_name), group.id))
    except BaseException as error:
        return Outcome(group, [], tame(error, decisive))


def decisive(error: BaseException) -> BaseException:
    """Of an ExceptionGroup, as asyncio.TaskGroup raises it: the Reject or Retry in it, or the first error of it."""
    errors, leaves = [error], list[BaseException]()
    while errors:
        each = errors.pop()
        if isinstance(each, BaseExceptionGroup):
            errors += reversed(each.exceptions)
        else:
            leaves.append(each)
    said = [each for kind in (Reject, Retry) for each in leaves if isinstance(each, kind)]
    return (said or leaves)[0]


class TookTooLong(Quotable, TimeoutError):
    """Told, and named in dead letters, as what Python itself would raise."""


TookTooLong.__name__ = TookTooLong.__qualname__ = TimeoutError.__name__


def took_too_long(timeout: float) -> TookTooLong:
    return TookTooLong(f"process() took longer than PROCESS_TIMEOUT ({timeout:g} s)")
