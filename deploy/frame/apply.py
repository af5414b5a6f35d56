"""Changes a copy, all or nothing, also where the process is killed or the power fails.

Everything is written into `update-in-progress/` first. Then `finish.sh` appears there, which only renames and removes,
and may be run any number of times; and it is run. Before it appears nothing has changed; after that the new version is
complete but for the renames. main.py and the Makefile come first, and refuse to start while it is there.
"""

import os
import shlex
import shutil
import subprocess
import tarfile
from collections.abc import Iterable
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
tidy() {
    rm -rf "$1/__pycache__"
    rmdir -p "$1" 2>/dev/null || true
}
"""
END = """\
rm -f update-in-progress/finish.sh
rm -rf update-in-progress
"""


def finish_what_was_begun(copy: Path) -> bool:
    """End an update that was interrupted; whether there was one. What had not changed anything yet is dropped."""
    stage = copy / STAGE
    if (stage / FINISH).exists():
        _finish(copy)
        return True
    if stage.exists():
        shutil.rmtree(stage)
    return False


def apply(copy: Path, plan: Plan) -> None:
    stage = copy / STAGE
    stage.mkdir()
    numbers = {}
    for number, path in enumerate(sorted(plan.writes, key=_turn)):
        mode, content = plan.writes[path]
        staged = stage / str(number)
        staged.write_bytes(content)
        staged.chmod(0o755 if mode == "100755" else 0o644)
        numbers[path] = number
    lines = [_line("mkdir -p", folder) for folder in _folders(numbers)]
    lines += [_line(f"put {number}", path) for path, number in numbers.items()]
    lines += [_line("rm -f", path) for path in plan.deletes]
    lines += [_line("tidy", folder) for folder in _folders(plan.deletes)]
    script = stage / "finish"
    script.write_text(HEAD + "".join(lines) + END)
    os.sync()
    script.rename(stage / FINISH)
    os.sync()
    _finish(copy)


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
            f"the update could not be ended: {done.stderr.strip()}; mend that, then run `sh {STAGE}/{FINISH}`"
        )


def saved(copy: Path, plan: Plan, name: str) -> Path:
    """An archive, beside the copy, of all files that the plan changes, and a list of those that it adds."""
    archive = copy.parent / f"{copy.name}-before-{name}.tar.gz"
    changed = [path for path in (*plan.writes, *plan.deletes) if (copy / path).exists()]
    added = copy.parent / f"{copy.name}-before-{name}.added"
    with tarfile.open(archive, "w:gz") as tar:
        for path in changed:
            tar.add(copy / path, path)
    added.write_text("".join(f"{path}\n" for path in plan.writes if path not in changed))
    return archive
