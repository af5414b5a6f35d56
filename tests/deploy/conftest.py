"""Frames of which tests make copies, each made once for all tests, of whatever process. No test writes into one."""

import fcntl
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.deploy.frames import committed, git, of_the_frame
from tests.deploy.updates import MOVED, NEW, OLD, Frame

Files = Mapping[str, bytes | str | None]


@pytest.fixture(scope="session")
def frame(tmp_path_factory: pytest.TempPathFactory) -> Frame:
    return _made_once("frame", [{"main.py": "begun\n"}, OLD, MOVED, NEW], 2, tmp_path_factory)


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Frame:
    """The frame as it is here, and one commit more."""
    return _made_once("real", [of_the_frame(), {"docs/fresh.md": "fresh\n"}], 1, tmp_path_factory)


def _made_once(name: str, commits: list[Files], old: int, factory: pytest.TempPathFactory) -> Frame:
    """`old`: the version of the copies is so many commits from the first on, counted from 1."""
    base = factory.getbasetemp()
    home = (base.parent if base.name.startswith("popen-") else base) / f"frame-{name}"  # of pytest-xdist
    home.mkdir(exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "made").exists():
            for files in commits:
                committed(home / "frame", files)
            (home / "made").touch()
    place: Path = home / "frame"
    return Frame(place, git(place, "rev-parse", f"HEAD~{len(commits) - old}"), git(place, "rev-parse", "HEAD"))
