"""Runs the frame's tests on a copy that does without them: in a full checkout, with all files of the copy over it."""

import os
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from deploy.frame.base import find_base
from deploy.frame.git import Git, ImpossibleError
from deploy.frame.ownership import YOURS
from deploy.frame.trees import Copy, Repository

NOT_COPIED = (".git", ".venv", "venv", ".*_cache", ".hypothesis", "__pycache__", ".frame")


def test(copy: Path, source: str, base: str, arguments: str) -> int:
    """The exit code of `make test`. `source`: a clone, address or bundle of the frame."""
    if not source:
        raise ImpossibleError("say where the frame is: make frame-test FROM=path, address or bundle")
    with TemporaryDirectory(prefix="frame-test-") as directory:
        fetched, full = Path(directory) / "frame", Path(directory) / "copy"
        _clone(source, fetched)
        (Path(directory) / "objects").mkdir()
        repository = Repository.beside(fetched, Path(directory) / "objects")
        repository.git.run("fetch", "--quiet", str(fetched), "+refs/*:refs/*")
        commit = find_base(base, Copy(copy), repository).commit
        full.mkdir()
        Git(fetched).run(f"--work-tree={full}", "checkout", "--quiet", commit, "--", ".")
        shutil.copytree(copy, full, ignore=shutil.ignore_patterns(*NOT_COPIED), dirs_exist_ok=True)
        (full / ".venv").symlink_to((copy / ".venv").resolve())
        print(f"the frame's tests of {commit[:10]}, with your {', '.join(YOURS)} and your edits", flush=True)
        return subprocess.run(
            ["make", "test", f"ARGS={arguments}"], cwd=full, env={**os.environ, "MAKEFLAGS": ""}
        ).returncode


def _clone(source: str, to: Path) -> None:
    place = Path(source)
    Git(to.parent).run("clone", "--quiet", "--bare", str(place.resolve()) if place.exists() else source, str(to))
