"""`python -m tests.copies.old`: copies of every tenth commit of this repository's history are brought to what is here.

Each as a clone, as a directory without git and as an archive, with a worker.py of its own, a requirement more and
changed defaults; every third with an edited file of the frame. A table says for each: clean, or which conflict; whether
all that is its owner's is as it was; whether it passes its tests and joins in the demo; and how long the update took.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.copies.edits import EXAMPLE_TEST, example
from tests.deploy.frames import GIT, files_of, git, write
from tests.program import ROOT

MARK = "# an edit of ours"
EDITED = (
    "utils/messages.py",
    "framework.py",
    "utils/offsets.py",
    "Dockerfile",
    "utils/kafka.py",
    "Makefile",
    "main.py",
)
DEMO = [sys.executable, "main.py", "demo", "--results", "3"]
BASE = re.compile(r"BASE=(\w+)")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.copies.old", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--every", type=int, default=10, help="commits from one to the next")
    parser.add_argument("--first", type=int, default=0, help="the number of the first commit")
    parser.add_argument("--last", type=int, default=10**9)
    options = parser.parse_args()
    commits = list(enumerate(git(ROOT, "log", "--reverse", "--format=%H").split()))
    chosen = [each for each in commits[:: options.every] if options.first <= each[0] <= options.last]
    print(
        "| commit | kind | edited | outcome | its own | tests, demo | seconds |\n|---|---|---|---|---|---|---|",
        flush=True,
    )
    bad = 0
    for number, commit in chosen:
        for kind, make in KINDS.items():
            with tempfile.TemporaryDirectory(prefix="old-copy-") as directory:
                bad += not _is_well(number, commit, kind, make, Path(directory) / "copy")
    return int(bad > 0)


def clone(commit: str, copy: Path) -> None:
    git(ROOT, "clone", "--quiet", str(ROOT), str(copy))
    git(copy, "checkout", "--quiet", "-b", "mine", commit)


def directory(commit: str, copy: Path) -> None:
    clone(commit, copy)
    shutil.rmtree(copy / ".git")


def archive(commit: str, copy: Path) -> None:
    copy.mkdir()
    subprocess.run(f"git -C {ROOT} archive {commit} | tar -xf - -C {copy}", shell=True, check=True)


KINDS: Mapping[str, Callable[[str, Path], None]] = {"clone": clone, "cp -r": directory, "archive": archive}


def _is_well(number: int, commit: str, kind: str, make: Callable[[str, Path], None], copy: Path) -> bool:
    make(commit, copy)
    own, edited = _edit(copy, number)
    if kind == "clone":
        git(copy, "add", "--all")
        git(copy, "commit", "--quiet", "-m", "ours")
    before = files_of(copy)
    began = time.monotonic()
    done = _update(copy)
    guessed = BASE.search(done.stderr)
    if done.returncode == 2 and guessed:
        right = commit.startswith(guessed.group(1))
        done = _update(copy, "--base", guessed.group(1))
    else:
        right = True
    seconds = time.monotonic() - began
    after = files_of(copy)
    if done.returncode == 0:
        outcome = "clean" if right else "clean, by another base"
        kept = all(after.get(path) == content.encode() for path, content in own.items()) and _values_are_kept(copy)
        marked = not edited or any(MARK.encode() in content for content in after.values())
        works = _works(copy)
    else:
        reasons = re.findall(r"^  (\S+: .*)$", done.stdout.partition("conflicts: ")[2], re.MULTILINE)
        outcome = f"conflict: {'; '.join(reasons)}" if done.returncode == 1 else f"impossible: {done.stderr.strip()}"
        kept, marked, works = after == before, True, "not tried"
    its_own = ("as it was" if kept else "CHANGED") + ("" if marked else ", the edit is LOST")
    print(
        f"| {number} {commit[:7]} | {kind} | {edited} | {outcome} | {its_own} | {works} | {seconds:.1f} |", flush=True
    )
    return done.returncode in (0, 1) and kept and marked and works in ("pass", "not tried")


def _edit(copy: Path, number: int) -> tuple[dict[str, str], str]:
    """What its owner has written, and the file of the frame that was edited."""
    own = {
        "worker.py": _example_worker(),
        "tests/test_worker.py": EXAMPLE_TEST,
        "tests/test_worker_more.py": "import worker\n",
    }
    own |= {"taxes/__init__.py": "RATE = 0.07\n"}
    write(copy, dict(own))
    with (copy / "requirements.txt").open("a") as file:
        file.write("requests==2.34.2\n")
    values = copy / ("defaults.py" if (copy / "defaults.py").exists() else "config.py")
    text = values.read_text().replace('CONSUMER_NAME = ""', 'CONSUMER_NAME = "paid"').replace("= 3306", "= 3307")
    values.write_text(text)
    if number // 10 % 3:
        return own, ""
    there = [path for path in EDITED if (copy / path).exists()]
    if not there:
        return own, ""
    edited = there[number // 30 % len(there)]
    lines = (copy / edited).read_text().splitlines(keepends=True)
    at = len(lines) * 2 // 3
    at = next(index for index in range(at, len(lines)) if not lines[index][:1].isspace())  # between two definitions
    (copy / edited).write_text("".join([*lines[:at], f"{MARK}\n", *lines[at:]]))
    return own, edited


def _example_worker() -> str:
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory)
        (copy / "tests").mkdir()
        shutil.copy(ROOT / "README.md", copy)
        example(copy)
        return "# mine\n" + (copy / "worker.py").read_text()


def _update(copy: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "deploy.frame", "update", "--copy", str(copy), *options]
    return subprocess.run(command, cwd=ROOT, env=GIT, capture_output=True, text=True)


def _values_are_kept(copy: Path) -> bool:
    defaults = (copy / "defaults.py").read_text()
    return '"paid"' in defaults and "3307" in defaults and "requests==2.34.2" in (copy / "requirements.txt").read_text()


def _works(copy: Path) -> str:
    tests = [sys.executable, "-m", "pytest", "-q", "tests/test_worker.py", "tests/test_worker_more.py"]
    for command in (tests, [sys.executable, "-m", "utils.processing.user_code"], DEMO):
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True)
        if done.returncode:
            return f"FAIL: {' '.join(command[1:4])}: {(done.stdout + done.stderr).strip()[-200:]!r}"
    return "pass"


if __name__ == "__main__":
    sys.exit(main())
