"""Runs git, and says in one line why something cannot be done."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LEAST = (2, 38)  # `git merge-tree --write-tree`
_OF_A_HOOK = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY")
_NOBODY = {f"GIT_{who}_{what}": "frame" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


class ImpossibleError(Exception):
    """Nothing was changed: one line that says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Git:
    """git in this directory, which need not be a repository."""

    directory: Path

    def run(
        self, *arguments: str, given: bytes = b"", takes: Sequence[int] = (0,), environ: Mapping[str, str] | None = None
    ) -> bytes:
        """What it prints; an exit code that is not in `takes` raises ImpossibleError."""
        done = self._run(arguments, given, environ or {})
        if done.returncode not in takes:
            said = done.stderr.decode(errors="replace").strip().splitlines() or [f"it ended with {done.returncode}"]
            raise ImpossibleError(f"git {arguments[0]} in {self.directory}: {' '.join(said)}")
        return done.stdout

    def text(self, *arguments: str) -> str:
        return self.run(*arguments).decode().strip()

    def tries(self, *arguments: str) -> str:
        """As `text`, but empty where it fails."""
        done = self._run(arguments, b"", {})
        return "" if done.returncode else done.stdout.decode().strip()

    def is_there(self) -> bool:
        """Whether a repository holds this directory. ImpossibleError where there is one that git does not read."""
        done = self._run(("rev-parse", "--is-inside-work-tree"), b"", {})
        if done.returncode and b"not a git repository" not in done.stderr:
            said = " ".join(done.stderr.decode(errors="replace").split())
            raise ImpossibleError(f"git cannot say what is committed in {self.directory}: {said}")
        return done.returncode == 0

    def agrees(self, *arguments: str) -> bool:
        return self._run(arguments, b"", {}).returncode == 0

    def _run(
        self, arguments: Sequence[str], given: bytes, environ: Mapping[str, str]
    ) -> "subprocess.CompletedProcess[bytes]":
        own = {name: value for name, value in os.environ.items() if name not in _OF_A_HOOK}
        environ = {**own, "LC_ALL": "C", **_NOBODY, **environ}
        # Some of ours are bare, which a git that was hardened (`explicit`) reads only when it is told to.
        command = ["git", "-c", "safe.bareRepository=all", "-C", str(self.directory), *arguments]
        try:
            return subprocess.run(command, input=given, capture_output=True, env=environ)
        except FileNotFoundError:
            raise ImpossibleError("git is not there: install git 2.38 or newer") from None


def require(git: Git) -> None:
    version = git.text("--version").split()[2]
    if tuple(int(part) for part in version.split(".")[:2]) < LEAST:
        raise ImpossibleError(f"git is {version}: 2.38 or newer is needed")
