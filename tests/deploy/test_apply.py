"""deploy/frame/apply.py: killed at any moment, a copy is as it was, or refuses to run until that is ended."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.frame.apply import STAGE, finish_what_was_begun
from tests.deploy.frames import files_of, write
from tests.program import ROOT, program

OLD = {
    "main.py": "old",
    "Makefile": "old",
    "worker.py": "mine",
    "utils/a.py": "a",
    "utils/deep/b.py": "b",
    "it's.md": "x",
    "utils/c": "a file",
}
NEW = {
    "main.py": "new",
    "Makefile": "new",
    "worker.py": "mine",
    "utils/x/a.py": "a",
    "docs/new.md": "n",
    "it's.md": "y",
    "utils/c/d.py": "in a folder",
}
# Ends itself at the step number sys.argv[2]: before a file or folder of the copy is opened, made or removed.
UPDATE = """\
import os, signal, sys
from pathlib import Path
from deploy.frame.apply import apply
from deploy.frame.merge import Plan

copy, last = Path(sys.argv[1]), int(sys.argv[2])
steps = 0

def kill_at_the_last_step(event, arguments):
    global steps
    if event in {"open", "os.mkdir", "os.chmod", "os.rename", "os.remove", "os.rmdir", "subprocess.Popen"}:
        if str(copy) in str(arguments):
            steps += 1
            if steps == last:
                os.kill(os.getpid(), signal.SIGKILL)

old, new = eval(sys.argv[3]), eval(sys.argv[4])
writes = {path: ("100644", text.encode()) for path, text in new.items() if old.get(path) != text}
sys.addaudithook(kill_at_the_last_step)
apply(copy, Plan(writes=writes, deletes=sorted(set(old) - set(new))))
"""
# In place of mv, rm, mkdir and rmdir: at the step number $LAST_STEP ends the shell and the updater, and does nothing.
KILLING = """\
#!/bin/sh
echo >> "$STEPS"
if [ "$(wc -l < "$STEPS")" = "$LAST_STEP" ]; then
    kill -9 "$(awk '{print $4}' "/proc/$PPID/stat")" "$PPID"
    exit 1
fi
exec "/bin/${0##*/}" "$@"
"""


def updated(copy: Path, last: int, path: str = "") -> int:
    environ = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}", "LAST_STEP": str(last), "STEPS": f"{path}/steps"}
    command = [sys.executable, "-c", UPDATE, str(copy), "0" if path else str(last), repr(OLD), repr(NEW)]
    return subprocess.run(command, cwd=ROOT, env=environ).returncode


def as_text(copy: Path) -> dict[str, str]:
    return {path: content.decode() for path, content in files_of(copy).items() if not path.startswith(STAGE)}


@pytest.fixture
def killing(tmp_path: Path) -> Path:
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in ("mv", "rm", "mkdir", "rmdir"):
        (directory / name).write_text(KILLING)
        (directory / name).chmod(0o755)
    return directory


@pytest.mark.parametrize("where", ["updater", "finish.sh"])
def test_killed_at_any_step_it_is_as_before_or_can_be_ended(where: str, tmp_path: Path, killing: Path) -> None:
    outcomes = set()
    for step in range(1, 100):
        copy = tmp_path / str(step)
        write(copy, OLD)
        (killing / "steps").write_text("")
        code = updated(copy, step, str(killing) if where == "finish.sh" else "")
        begun = (copy / STAGE / "finish.sh").exists()
        if not begun:
            assert as_text(copy) in (OLD, NEW)
        elif as_text(copy) != OLD:
            assert (copy / "main.py").read_text() == "new"  # which refuses to run
        outcomes.add("begun" if begun else "new" if as_text(copy) == NEW else "old")
        assert finish_what_was_begun(copy) == begun
        assert not (copy / STAGE).exists()
        if begun:
            assert as_text(copy) == NEW
        if code != -signal.SIGKILL:
            break
    assert code == 0
    assert step > 8
    assert {"old", "begun"} & outcomes
    assert "new" in outcomes


def test_folders_that_have_become_empty_go_and_what_else_is_in_one_stays(tmp_path: Path) -> None:
    write(tmp_path, {**OLD, "utils/deep/__pycache__/b.pyc": "", "utils/mine.py": "mine"})
    assert updated(tmp_path, 0) == 0
    assert not (tmp_path / "utils/deep").exists()
    assert (tmp_path / "utils/mine.py").exists()


def test_main_and_make_refuse_to_run_in_between(tmp_path: Path) -> None:
    write(tmp_path, {"update-in-progress/finish.sh": "", "Makefile": (ROOT / "Makefile").read_bytes()})
    for path in files_of(program()):
        write(tmp_path, {path: (program() / path).read_bytes()})
    ran = subprocess.run(
        [sys.executable, "main.py", "demo", "--results", "1"], cwd=tmp_path, capture_output=True, text=True
    )
    assert ran.returncode == 78
    assert "sh update-in-progress/finish.sh ends it" in ran.stdout + ran.stderr
    made = subprocess.run(["make", "-n", "test"], cwd=tmp_path, capture_output=True, text=True)
    assert made.returncode == 2
    assert "sh update-in-progress/finish.sh ends it" in made.stderr
