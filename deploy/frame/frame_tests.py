"""Runs the frame's tests on a copy that does without them: in a full checkout, with all files of the copy over it."""

import os
import shutil
import subprocess
from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory

from deploy.frame.base import find_base
from deploy.frame.git import Git, ImpossibleError
from deploy.frame.ownership import YOURS, is_left_out, is_yours
from deploy.frame.trees import Copy, Repository
from utils.version import frame_version

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
        not_the_frames, others = _of_names_of_the_frame(copy, full), _other_tests_of_a_slim_copy(copy)
        _lay_over(full, copy, {*not_the_frames, *others})
        (full / ".venv").symlink_to((copy / ".venv").resolve())
        for path in not_the_frames:
            print(f"without {path} of yours: the frame has a file of that name")
        if others:
            print(f"without your other tests ({len(others)}): `make test` runs them where they are")
        print(f"the frame's tests of {commit[:10]}, with your {', '.join(YOURS)} and your edits", flush=True)
        return subprocess.run(
            ["make", "test", f"ARGS={arguments}"], cwd=full, env={**os.environ, "MAKEFLAGS": ""}
        ).returncode


def _of_names_of_the_frame(copy: Path, full: Path) -> list[str]:
    """What has the name of a file that a slim copy does without is no edit of it."""
    if not frame_version(copy / ".frame").left_out:
        return []
    paths = [path.relative_to(full).as_posix() for path in full.rglob("*") if path.is_file()]
    return sorted(path for path in paths if is_left_out(path) and not is_yours(path) and os.path.lexists(copy / path))


def _other_tests_of_a_slim_copy(copy: Path) -> list[str]:
    """There they are all yours, with a conftest.py of yours; here they would be taken for the frame's."""
    if not frame_version(copy / ".frame").left_out:
        return []
    names = ("test_*.py", "*_test.py")  # pytest takes both
    found = {path.relative_to(copy).as_posix() for name in names for path in (copy / "tests").rglob(name)}
    return sorted(path for path in found if not is_yours(path))


def _lay_over(full: Path, copy: Path, but: Collection[str]) -> None:
    """All files of the copy, but for these and for links to nothing."""
    by_name = shutil.ignore_patterns(*NOT_COPIED)

    def ignored(directory: str, names: list[str]) -> set[str]:
        place = Path(directory).relative_to(copy)
        return {*by_name(directory, names), *(name for name in names if (place / name).as_posix() in but)}

    try:
        shutil.copytree(copy, full, ignore=ignored, ignore_dangling_symlinks=True, dirs_exist_ok=True)
    except shutil.Error as error:
        place, _, why = error.args[0][0]
        raise ImpossibleError(f"{place} cannot be copied: {why}") from None


def _clone(source: str, to: Path) -> None:
    place = Path(source).expanduser()  # zsh has not done it
    Git(to.parent).run("clone", "--quiet", "--bare", str(place.resolve()) if place.exists() else source, str(to))
