"""deploy/image.sh, the steps of the Dockerfile: what they say where they cannot go on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.program import FORWARDING, ROOT, copied


def test_wheels_that_lack_a_part_of_the_lock_come_with_the_cure(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    environ = {**os.environ, "WHEELS": str(wheels), "PYTHON": sys.executable}
    command: list[str | Path] = ["sh", ROOT / "deploy/image.sh", "packages", tmp_path / "app"]
    made = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert made.returncode == 1
    lacks = f"{wheels} lacks a part of requirements.lock, for this Python and machine: run `make wheels`"
    assert made.stderr.strip().splitlines()[-1] == lacks


@pytest.mark.parametrize(("name", "works"), [("mine", True), ("my data", False)])
def test_a_directory_that_cannot_be_copied_ends_the_build(tmp_path: Path, name: str, works: bool) -> None:
    """It was left out, and the image was made."""
    source = copied(tmp_path / "source", FORWARDING)
    (source / ".frame").mkdir()
    (source / name).mkdir()
    (source / name / "prices.py").write_text("TEA = 1\n")
    (tmp_path / "app").mkdir()
    (tmp_path / "app/.venv").symlink_to(sys.prefix)
    command: list[str | Path] = ["sh", ROOT / "deploy/image.sh", "program", tmp_path / "app"]
    made = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert (made.returncode == 0) == works, made.stderr
    assert (tmp_path / "app" / name / "prices.py").exists() == works
    assert not works or not (tmp_path / "app/program.tar").exists()
