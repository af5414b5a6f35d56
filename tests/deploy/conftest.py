"""Frames of which tests make copies, each made once for a file of tests."""

import pytest

from tests.deploy.frames import committed, git, of_the_frame
from tests.deploy.updates import MOVED, NEW, OLD, Frame


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> Frame:
    place = committed(tmp_path_factory.mktemp("frame") / "frame", {"main.py": "begun\n"})
    committed(place, OLD)
    old = git(place, "rev-parse", "HEAD")
    committed(place, MOVED)
    committed(place, NEW)
    return Frame(place, old, git(place, "rev-parse", "HEAD"))


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Frame:
    """The frame as it is here, and one commit more."""
    place = committed(tmp_path_factory.mktemp("real") / "frame", of_the_frame())
    old = git(place, "rev-parse", "HEAD")
    committed(place, {"docs/fresh.md": "fresh\n"})
    return Frame(place, old, git(place, "rev-parse", "HEAD"))
