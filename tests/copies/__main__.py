"""`python -m tests.copies`: users copy this repository and edit their files. Does all that is the frame's still pass?

It makes copies, edits each in a way of its own, and runs in it `make check`, the user's own tests and `make test`, and
`make image-check`. Then it looks whether the user's process() was called by any of these: it must not be.

--quick: two copies that have all of the edits, and of `make test` only what needs no service.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.copies.edits import Edit, classic, coroutine, defaults, example, package, tell_calls
from tests.program import ROOT

COPIES: Mapping[str, Sequence[Edit]] = {
    "classic": [classic],
    "example": [example],
    "coroutine": [example, coroutine],
    "package": [package],
    "defaults": [defaults],
}
QUICK: Mapping[str, Sequence[Edit]] = {
    "classic, with defaults": [classic, defaults],
    "example as a coroutine, with a package": [example, coroutine, package],
}
NO_SERVICES = "not real_kafka and not mariadb and not postgresql and not chromium"
LEFT_OUT = (".git", ".venv", "venv", ".*_cache", ".hypothesis", "__pycache__", "wheels")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.copies", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two copies for all edits, and only the quick tests")
    parser.add_argument("--only", choices=COPIES, help="this copy only")
    options = parser.parse_args()
    copies = QUICK if options.quick else {name: COPIES[name] for name in COPIES if options.only in (None, name)}
    tests = [f"ARGS=-m '{NO_SERVICES}'"] if options.quick else []
    verdicts = [is_well(name, edits, tests) for name, edits in copies.items()]
    return int(not all(verdicts))


def is_well(name: str, edits: Sequence[Edit], tests: Sequence[str]) -> bool:
    """Whether everything passes in a copy with these edits; prints what does not."""
    with tempfile.TemporaryDirectory(prefix="consumer-skeleton-copies-") as directory:
        copy, called = Path(directory) / "copy", Path(directory) / "called"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
        (copy / ".venv").symlink_to(ROOT / ".venv")
        for edit in edits:
            edit(copy)
        tell_calls(copy, called)
        commands = [["check"], ["test-mine"], ["test", *tests]]
        if classic not in edits:  # the image has requests only where requirements.txt names it
            commands.append(["image-check"])
        verdicts = [passes(name, command, copy) for command in commands]
        if called.exists():
            print(f"{name}: process() of the user was called, for {called.read_text()[:200]}", flush=True)
        return all(verdicts) and not called.exists()


def passes(name: str, command: Sequence[str], copy: Path) -> bool:
    began = time.monotonic()
    done = subprocess.run(["make", *command], cwd=copy, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    verdict = f"failed with {done.returncode}" if done.returncode else "passed"
    lines = [line for line in done.stdout.splitlines() if " passed" in line or " failed" in line]
    shown = f" ({lines[-1].strip('= ')})" if lines else ""
    print(f"{name}: make {command[0]} {verdict} in {time.monotonic() - began:.0f} s{shown}", flush=True)
    if done.returncode:
        print(done.stdout[-10_000:], flush=True)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
