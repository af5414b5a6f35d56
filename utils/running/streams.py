"""Standard input, output and error: none is missing, and output that cannot be written ends a command in one line."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from config import UnavailableError


def open_missing_streams() -> None:
    """A stream that was closed before the start is /dev/null.

    Python has None in its place. And the next file or connection that is opened gets its number, and with it what a
    library of C prints.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
            setattr(sys, name, open(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False))  # noqa: SIM115


@contextmanager
def printing() -> Iterator[None]:
    """Print inside: UnavailableError where that fails, for want of room, say. BrokenPipeError: nobody reads it."""
    try:
        yield
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else it fails at the interpreter's end, too
        if isinstance(error, BrokenPipeError):
            raise
        raise UnavailableError(f"standard output cannot be written: {error.strerror}") from error
