"""What the log and the status page tell of an error: its class and place, and not its text. And what keeps errors in.

What process() raises may quote the message, and payloads are shown nowhere. The dead letter has the text: it has the
message too.
"""

import sysconfig
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

_OF_THE_FRAME = tuple(f"{Path(__file__).parents[1]}/{name}" for name in ("utils/", "framework.py", "main.py"))
_LIBRARIES = tuple(f"{sysconfig.get_path(name)}/" for name in ("stdlib", "platstdlib", "purelib", "platlib"))


class Quotable(Exception):
    """An error of the worker's own, whose text may be shown: it names types and places of a message, not its values."""


class Untold(Quotable):
    """In the place of an error of process() that does not let itself be looked at."""


class Unquoted(Exception):
    """For the `exc_info` of a log line, in the place of an error of process(): all of it but the texts.

    Whatever handles the line, a handler that worker.py has set up too, is given no more.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def __str__(self) -> str:
        return way_to(self.error)


def unquoted(error: BaseException | None) -> Unquoted | None:
    return Unquoted(error) if error is not None else None


def tame(error: BaseException, decisive: Callable[[BaseException], BaseException]) -> BaseException:
    """An error of process() that the loop may look at: code of its class, where there is some, is tried here.

    `decisive`: which one of several that it holds.
    """
    try:
        whole, error = error, decisive(error)
        if error.__traceback__ is None:  # it was made, and raised only as one of several
            error = error.with_traceback(whole.__traceback__)
        for each in chain(error):
            _ = type(each).__name__, each.__traceback__, isinstance(each, Untold)
    except BaseException:
        return Untold("process() raised an exception that cannot even be looked at: its class raises another one")
    return error


def named(error: BaseException) -> str:
    """Class and place, `ValueError at worker.py:12`; of an error of the worker's own, class and text.

    Of what was never raised there is only the class: it may be the cause of an error of process(), and quote the
    message.
    """
    if isinstance(error, Unquoted):
        return named(error.error)
    if isinstance(error, Quotable):
        return f"{type(error).__name__}: {error}"
    return " at ".join(filter(None, (type(error).__name__, place_of(error))))


def place_of(error: BaseException) -> str:
    """Where it was raised, `worker.py:12`; empty: nowhere.

    What a library has raised is told with the line of the user's code that called it: `…, called at worker.py:12`.
    """
    steps = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    if not steps:
        return ""
    users = [step for step in steps if _is_users(step[0])]
    called = f", called at {_place(*users[-1])}" if users and users[-1] != steps[-1] else ""
    return f"{_place(*steps[-1])}{called}"


def guarded(callback: Callable[..., None], failed: Callable[[Exception], None]) -> Callable[..., None]:
    """A callback for Kafka's client that lets nothing out: what it raises is given to `failed`.

    An exception that crosses `poll()` makes the client lose the records that it has fetched (measured: 10 to 400).
    """

    def guard(*arguments: object) -> None:
        try:
            callback(*arguments)
        except Exception as error:
            with suppress(Exception):
                failed(error)

    return guard


def is_of_the_frame(path: str) -> bool:
    """Whether a file is one of those that log: lines of others may show payloads."""
    return path.startswith(_OF_THE_FRAME)


def _is_users(path: str) -> bool:
    """Whether a file is neither a library's nor the frame's, but of who has copied it."""
    installed = "/site-packages/" in path or "/dist-packages/" in path
    return not (installed or is_of_the_frame(path) or path.startswith((*_LIBRARIES, "<")))


def _place(path: str, line: int) -> str:
    return f"{path.rpartition('/')[2]}:{line}"


def way_to(error: BaseException) -> str:
    """The traceback, those of its causes before it as Python prints them; each ends with what `named` tells."""
    told = [
        "Traceback (most recent call last):\n" + "".join(traceback.format_tb(each.__traceback__)) + named(each)
        for each in chain(error)
    ]
    return "\n\nwhich led to:\n\n".join(reversed(told))


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and what it was raised from or in the handling of. Each once: user code may tie them into a ring."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        hidden = error.__suppress_context__ or error.__cause__ is not None
        error = error.__cause__ if hidden else error.__context__
