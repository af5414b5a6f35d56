"""The program as the frame's tests run it: copied, with a worker.py of the tests and without defaults of the user's.

So no test of the frame runs the process() that somebody has written, or depends on their values.
"""

import atexit
import contextlib
import functools
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from deploy.frame.ownership import DIRECTORIES, is_yours
from tests.services.starts import stays

ROOT = Path(__file__).parents[1]
FRAME = set(DIRECTORIES)
MODULES = ("main.py", "framework.py", "config.py", "models.py")  # of the frame, beside worker.py and defaults.py
ROOMS = ("utils", "examples")
FORWARDING = Path(__file__).with_name("forwarding.py")


def outside_of_make() -> dict[str, str]:
    """The environment, without what a `make` around the tests hands down: its flags, and ARGS of its command line."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "ARGS"))}


@functools.cache
def is_the_users(path: Path) -> bool:
    """Whether the users of the frame have written this file, and not we."""
    parts = path.relative_to(ROOT).parts
    return parts[0] not in FRAME or is_yours(path.relative_to(ROOT).as_posix())


def sources() -> Iterator[Path]:
    """The files of the frame that a worker runs."""
    yield from (ROOT / name for name in MODULES)
    for room in ROOMS:
        yield from sorted((ROOT / room).rglob("*.py"))


_programs: dict[bytes, Path] = {}  # by their worker.py
_shared: list[Path] = []


def share_programs(directory: Path) -> None:
    """From now on this process and others have their programs in there."""
    _shared[:] = [directory]


def program(worker: Path = FORWARDING) -> Path:
    """The program with that worker.py: one copy for all tests, none of which may change it.

    By default process() forwards what it is given.
    """
    source = worker.read_bytes()
    if source not in _programs:
        if not _shared:
            _shared.append(Path(tempfile.mkdtemp(prefix="consumer-skeleton-programs-")))
            atexit.register(shutil.rmtree, _shared[0], ignore_errors=True)
        _programs[source] = _shared[0] / hashlib.sha256(source).hexdigest()[:16]
        if not _programs[source].is_dir():
            with tempfile.TemporaryDirectory(dir=_shared[0]) as unfinished:
                made = copied(Path(unfinished, "program"), worker)
                with contextlib.suppress(OSError):  # another process was faster
                    made.rename(_programs[source])
        stays(_programs[source])
    return _programs[source]


def copied(directory: Path, worker: Path, defaults: str = "") -> Path:
    """The program in this directory, with that file as its worker.py, and this as its defaults.py."""
    directory.mkdir(parents=True, exist_ok=True)
    # With what Python has compiled of it: compiling takes longer than all the rest of a start.
    (directory / "__pycache__").mkdir()
    for name in MODULES:
        shutil.copy2(ROOT / name, directory)
        for compiled in (ROOT / "__pycache__").glob(f"{name.removesuffix('.py')}.*.pyc"):
            shutil.copy2(compiled, directory / "__pycache__")
    for room in ROOMS:
        shutil.copytree(ROOT / room, directory / room, ignore=shutil.ignore_patterns("*.pyc.*"))
    shutil.copy(worker, directory / "worker.py")
    (directory / "defaults.py").write_text(defaults)
    return directory
