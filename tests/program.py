"""The program as the frame's tests run it: copied, with a worker.py of the tests and without defaults of the user's.

So no test of the frame runs the process() that somebody has written, or depends on their values.
"""

import atexit
import functools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from deploy.frame.ownership import DIRECTORIES, is_yours

ROOT = Path(__file__).parents[1]
FRAME = set(DIRECTORIES)
MODULES = ("main.py", "framework.py", "config.py", "models.py")  # of the frame, beside worker.py and defaults.py
ROOMS = ("utils", "examples")
FORWARDING = Path(__file__).with_name("forwarding.py")


def is_the_users(path: Path) -> bool:
    """Whether the users of the frame have written this file, and not we."""
    parts = path.relative_to(ROOT).parts
    return parts[0] not in FRAME or is_yours(path.relative_to(ROOT).as_posix())


def sources() -> Iterator[Path]:
    """The files of the frame that a worker runs."""
    yield from (ROOT / name for name in MODULES)
    for room in ROOMS:
        yield from sorted((ROOT / room).rglob("*.py"))


@functools.cache
def program() -> Path:
    """The program with a process() that forwards what it is given: one copy for all tests of this process."""
    directory = Path(tempfile.mkdtemp(prefix="consumer-skeleton-program-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return copied(directory, FORWARDING)


def copied(directory: Path, worker: Path, defaults: str = "") -> Path:
    """The program in this directory, with that file as its worker.py, and this as its defaults.py."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in MODULES:
        shutil.copy2(ROOT / name, directory)
    for room in ROOMS:  # with what Python has compiled of it: compiling takes longer than all the rest of a start
        shutil.copytree(ROOT / room, directory / room, ignore=shutil.ignore_patterns("*.pyc.*"))
    shutil.copy(worker, directory / "worker.py")
    (directory / "defaults.py").write_text(defaults)
    return directory
