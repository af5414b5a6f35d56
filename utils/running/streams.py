"""Standard output: where it cannot be written, a command ends in one line."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from config import UnavailableError


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
