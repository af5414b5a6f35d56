"""What holds from the first moment of a process on, before all that takes time is imported. Standard library only."""

import atexit
import gc
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from utils.running.crashes import leave_no_core

_NEEDED = ("config", "defaults", "framework", "main", "models", "worker")
# What no file of these names has but ours.
_OURS = {"config.py": b"EX_CONFIG", "models.py": b"utils.database_errors", "utils/logger.py": b"stay_heard"}
_EX_CONFIG = 78  # config.py has it too, but may be what is hidden

ends_whole_with: int | None = None
"""The exit code of a process that Python is not to take apart at its end."""


def begin() -> None:
    """Call it before the other imports, and `over` when a command begins. Until then a signal ends the process."""
    atexit.register(_end_whole)  # the first one is called last
    gc.disable()
    open_missing_streams()
    leave_no_core()
    refuse_hidden_files()
    # The kernel drops a signal for which process 1 of a container has no handler: one that came meanwhile left the
    # worker running until it was killed. Any other process ends by SIGTERM anyway.
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # ignored it stays, as under nohup
        signal.signal(signal.SIGINT, _interrupted)


def over() -> None:
    """Garbage is collected, and Ctrl-C raises KeyboardInterrupt, from now on."""
    gc.freeze()  # what was imported is no garbage: looking through it took a quarter of the CPU of a command (measured)
    gc.enable()
    if signal.getsignal(signal.SIGINT) is _interrupted:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end_whole() -> None:
    if ends_whole_with is not None:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(ends_whole_with)


def _interrupted(*_: object) -> None:
    """A KeyboardInterrupt would come out of whatever is just being imported, as a page of traceback."""
    os._exit(1)


def refuse_hidden_files() -> None:
    """Where there is config.py and a package config/, Python takes the package: nothing of ours could be imported. And
    where there is a queue.py, libraries take it for Python's own. A config.py of theirs may have replaced ours, too.
    """
    ours = Path(__file__).parents[2]
    files, packages = sorted(ours.glob("*.py")), sorted(ours.glob("*/__init__.py"))
    directories = {each.parent.name for each in packages}
    hidden = [each for each in files if each.stem in directories]
    told = [
        f"the directory {each.stem}/ hides {each.name}, which the worker needs: give it another name"
        if each.stem in _NEEDED
        else f"the directory {each.stem}/ hides {each.name}: give {each.name} another name"
        for each in hidden
    ]
    told += [
        f"{each} hides a module of Python's own, which libraries need: give it another name"
        for each in (*(each.name for each in files), *(f"{name}/" for name in sorted(directories)))
        if each.removesuffix("/").removesuffix(".py") in sys.stdlib_module_names
    ]
    told += [
        f"{name} is not the frame's, which the worker needs: give yours another name, or move its values into"
        " defaults.py, and bring the frame's back, from git"
        for name, sign in _OURS.items()
        if (ours / name).is_file() and sign not in (ours / name).read_bytes()
    ]
    if told:
        print(*told, sep="\n", file=sys.stderr)
        sys.exit(_EX_CONFIG)


def open_missing_streams() -> None:
    """A stream that was closed before the start is /dev/null.

    Python has None in its place. And the next file or connection that is opened gets its number, and with it what a
    library of C prints.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
            setattr(sys, name, open(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False))  # noqa: SIM115
