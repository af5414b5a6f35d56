"""Standard output: where it cannot be written, a command ends in one line. And it may be kept free for these lines."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from config import UnavailableError

STDOUT, STDERR = 1, 2


@contextmanager
def others_print_to_stderr() -> Iterator[None]:
    """What is printed inside, by libraries of C and by children too, goes to standard error."""
    kept = os.dup(STDOUT)
    os.dup2(STDERR, STDOUT)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, STDOUT)
        os.close(kept)


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
