"""Changes a copy, all or nothing, also where the process is killed or the power fails.

Everything is written into `update-in-progress/` first. Then `finish.sh` appears there, which only renames and removes,
and may be run any number of times; and it is run. Before it appears nothing has changed; after that the new version is
complete but for the renames. main.py and the Makefile come first, and refuse to start while it is there.
"""

import fcntl
import os
import shlex
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.frame.git import ImpossibleError
from deploy.frame.merge import Plan

STAGE = "update-in-progress"
FINISH = "finish.sh"
FIRST = ("main.py", "Makefile")
HEAD = """\
#!/bin/sh
# An update of the frame was interrupted. This ends it: sh update-in-progress/finish.sh
set -eu
cd "$(dirname "$0")/.."
put() {
    [ ! -e "update-in-progress/$1" ] || mv -f "update-in-progress/$1" "$2"
}
make_room() {
    [ -d "$1" ] || rm -f "$1"
}
tidy() {
    rm -rf "$1/__pycache__"
    rmdir -p "$1" 2>/dev/null || true
}
"""
END = """\
rm -f update-in-progress/finish.sh
rm -rf update-in-progress
"""


@contextmanager
def alone(copy: Path) -> Iterator[None]:
    """While this is the only update of the copy. Ends with the process, and leaves no file."""
    directory = os.open(copy, os.O_RDONLY)
    try:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ImpossibleError(f"another update of {copy} is running: wait for its end") from None
        except OSError:
            pass  # some file systems over a network lock no directories
        yield
    finally:
        os.close(directory)


def finish_what_was_begun(copy: Path) -> bool:
    """End an update that was interrupted; whether there was one. What had not changed anything yet is dropped."""
    stage = copy / STAGE
    if (stage / FINISH).exists():
        _finish(copy)
        return True
    if stage.exists():
        shutil.rmtree(stage)
    return False


def refuse_what_cannot_be_written(copy: Path, plan: Plan) -> None:
    for folder in ["", *_folders([*plan.writes, *plan.deletes])]:
        place = copy / folder
        while not place.exists():
            place = place.parent
        if not place.is_dir() and place.relative_to(copy).as_posix() not in plan.deletes:
            raise ImpossibleError(f"{place} is a file of yours, where the frame has a folder: give it another name")
        if place.is_dir() and not os.access(place, os.W_OK | os.X_OK):
            raise ImpossibleError(f"{place} may not be written to: nothing was changed")


def apply(copy: Path, plan: Plan, saved_files: Iterable[Path] = ()) -> None:
    """`saved_files`: what goes again, where nothing could be changed."""
    stage = copy / STAGE
    try:
        script = _staged(copy, plan, stage)
    except OSError as error:
        shutil.rmtree(stage, ignore_errors=True)
        for file in saved_files:
            file.unlink()
        raise _not_written(copy, error) from error
    script.rename(stage / FINISH)
    _force(stage)
    _finish(copy)


def _staged(copy: Path, plan: Plan, stage: Path) -> Path:
    """The script that ends the update, under another name than it needs for that."""
    stage.mkdir()
    numbers = {}
    for number, path in enumerate(sorted(plan.writes, key=_turn)):
        mode, content = plan.writes[path]
        _write(stage / str(number), content)
        (stage / str(number)).chmod(_rights(copy / path, can_be_run=mode == "100755"))
        numbers[path] = number
    folders_now = [path for path in plan.deletes if any(each.startswith(f"{path}/") for each in numbers)]
    puts = [_line(f"put {number}", path) for path, number in numbers.items()]
    first = sum(path in FIRST for path in numbers)
    lines = puts[:first]
    lines += [_line("make_room", path) for path in folders_now]
    lines += [_line("mkdir -p", folder) for folder in _folders(numbers)]
    lines += puts[first:]
    lines += [_line("rm -f", path) for path in plan.deletes if path not in folders_now]
    lines += [_line("tidy", folder) for folder in _folders(plan.deletes)]
    script = stage / "finish"
    _write(script, (HEAD + "".join(lines) + END).encode())
    _force(stage)
    return script


def _write(file: Path, content: bytes) -> None:
    with file.open("wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())


def _force(directory: Path) -> None:
    """The names in it onto the disk."""
    opened = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _rights(file: Path, *, can_be_run: bool) -> int:
    """Those of the file that is there; of a new one those that any new file gets here."""
    try:
        rights = stat.S_IMODE(file.stat().st_mode) & 0o666
    except OSError:
        os.umask(mask := os.umask(0o077))
        rights = 0o666 & ~mask
    return rights | ((rights & 0o444) >> 2 if can_be_run else 0)


def _not_written(copy: Path, error: OSError) -> ImpossibleError:
    return ImpossibleError(f"{copy} could not be written ({error.strerror}): nothing was changed")


def _turn(path: str) -> tuple[int, str]:
    return (FIRST.index(path) if path in FIRST else len(FIRST) + (path == ".frame"), path)


def _line(command: str, path: str) -> str:
    return f"{command} {shlex.quote(path)}\n"


def _folders(paths: Iterable[str]) -> list[str]:
    return sorted({path.rpartition("/")[0] for path in paths} - {""})


def _finish(copy: Path) -> None:
    done = subprocess.run(["sh", STAGE + "/" + FINISH], cwd=copy, capture_output=True, text=True)
    if done.returncode:
        raise ImpossibleError(
            f"the update could not be ended: {done.stderr.strip()}; fix that, then run `sh {STAGE}/{FINISH}`"
        )


def saved(copy: Path, plan: Plan, name: str) -> tuple[Path, Path]:
    """An archive, beside the copy, of all files that the plan changes, and a list of those that it adds."""
    archive = copy.parent / f"{copy.name}-before-{name}.tar.gz"
    changed = [path for path in (*plan.writes, *plan.deletes) if (copy / path).exists()]
    added = copy.parent / f"{copy.name}-before-{name}.added"
    try:
        with tarfile.open(archive, "w:gz") as tar:
            for path in changed:
                tar.add(copy / path, path)
        added.write_text("".join(f"{path}\n" for path in plan.writes if path not in changed))
    except OSError as error:
        for file in (archive, added):
            file.unlink(missing_ok=True)
        raise _not_written(copy.parent, error) from error
    return archive, added
