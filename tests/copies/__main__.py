"""`python -m tests.copies`: users copy this repository and edit their files. Does all that is the frame's still pass?

It makes copies, edits each in a way of its own, and runs in it `make check`, the user's own tests and `make test`, and
`make image-check`. One has a requirement of its own, which `make lock` takes in. Then it looks whether the user's
process() was called by any of these: it must not be.

--quick: in each copy only the tests that look at the user's files. All tests that need no service run once, in a copy
that has the other edits together: the rest of the frame is equal in all of them.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.copies.edits import Edit, classic, coroutine, defaults, example, package, requirement, tell_calls
from tests.program import ROOT, outside_of_make

COPIES: Mapping[str, Sequence[Edit]] = {
    "classic": [classic, requirement],  # first: what `make lock` may change in .venv is there for all
    "example": [example],
    "coroutine": [example, coroutine],
    "package": [package],
    "defaults": [defaults],
}
TOGETHER = [classic, requirement, package, defaults]
LOOK_AT_THE_USERS_FILES = [
    "tests/processing/test_user_code.py",
    *(f"tests/test_{name}.py" for name in ("alerts", "config", "image", "imports", "logger", "program", "version")),
]
NO_SERVICES = "not real_kafka and not mariadb and not postgresql and not chromium"
LEFT_OUT = (".git", ".venv", "venv", ".pytest_cache", ".hypothesis", "__pycache__", "wheels")


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy that was edited, and what is to pass in it: each the arguments of `make`."""

    name: str
    edits: Sequence[Edit]
    commands: Sequence[Sequence[str]]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.copies", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="what is equal in all copies runs once, and no services")
    parser.add_argument("--only", choices=COPIES, help="this copy only")
    options = parser.parse_args()
    first, *others = quick() if options.quick else thorough()
    chosen = [copy for copy in (first, *others) if options.only in (None, copy.name)]
    began = time.monotonic()
    with ThreadPoolExecutor(2 if options.quick else 1) as pool:
        verdicts = [is_well(first)] if first in chosen else []
        verdicts += pool.map(is_well, [copy for copy in chosen if copy is not first])
    print(f"{sum(verdicts)} of {len(verdicts)} copies are well, after {time.monotonic() - began:.0f} s", flush=True)
    return int(not all(verdicts))


def thorough() -> list[Copy]:
    return [
        Copy(name, edits, [*locked(edits), ["check"], ["test-mine"], ["test"], ["image-check"]])
        for name, edits in COPIES.items()
    ]


def quick() -> list[Copy]:
    tests = ["test", f"ARGS=-n 2 -m '{NO_SERVICES}' {' '.join(LOOK_AT_THE_USERS_FILES)}"]
    copies = [Copy(name, edits, [*locked(edits), ["check"], ["test-mine"], tests]) for name, edits in COPIES.items()]
    # The simulation knows none of the user's files, and is a step of CI by itself.
    whole = ["test", f"ARGS=-n 4 -m '{NO_SERVICES}' --ignore tests/simulation"]
    return [copies[0], Copy("together", TOGETHER, [*locked(TOGETHER), ["image-check"], whole]), *copies[1:]]


def locked(edits: Sequence[Edit]) -> list[list[str]]:
    return [["lock"]] if requirement in edits else []


def is_well(copy: Copy) -> bool:
    """Whether everything passes in it; prints what does not."""
    with tempfile.TemporaryDirectory(prefix="consumer-skeleton-copies-") as directory:
        place, called = Path(directory) / "copy", Path(directory) / "called"
        shutil.copytree(ROOT, place, ignore=shutil.ignore_patterns(*LEFT_OUT))
        (place / ".venv").symlink_to(ROOT / ".venv")
        for edit in copy.edits:
            edit(place)
        tell_calls(place, called)
        verdicts = [passes(copy.name, command, place) for command in copy.commands]
        if called.exists():
            print(f"{copy.name}: process() of the user was called, for {called.read_text()[:200]}", flush=True)
        return all(verdicts) and not called.exists()


def passes(name: str, command: Sequence[str], copy: Path) -> bool:
    began = time.monotonic()
    # A `make copies ARGS=…` around this would hand its ARGS on to each make below it.
    done = subprocess.run(
        ["make", *command], cwd=copy, env=outside_of_make(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    verdict = f"failed with {done.returncode}" if done.returncode else "passed"
    lines = [line for line in done.stdout.splitlines() if " passed" in line or " failed" in line]
    shown = f" ({lines[-1].strip('= ')})" if lines else ""
    failed = "" if not done.returncode else f"\n{done.stdout[-10_000:]}"
    print(f"{name}: make {command[0]} {verdict} in {time.monotonic() - began:.0f} s{shown}{failed}", flush=True)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
