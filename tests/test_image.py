"""deploy/image.sh, the steps of the Dockerfile: what they say where they cannot go on."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.program import FORWARDING, ROOT, copied

ENVIRONMENT = """\
#!/bin/sh
# python -m venv TARGET, with the pip that is there: to unpack its own one takes four fifths of all
{python} -m venv --without-pip "$3" && ln -s {pip} "$3"/lib/python*/site-packages
"""


def test_wheels_that_lack_a_part_of_the_lock_come_with_the_cure(tmp_path: Path) -> None:
    wheels, python, pip = tmp_path / "wheels", tmp_path / "python", find_spec("pip")
    wheels.mkdir()
    assert pip
    assert pip.origin
    python.write_text(ENVIRONMENT.format(python=sys.executable, pip=Path(pip.origin).parent))
    python.chmod(0o700)
    environ = {**os.environ, "WHEELS": str(wheels), "PYTHON": str(python)}
    command: list[str | Path] = ["sh", ROOT / "deploy/image.sh", "packages", tmp_path / "app"]
    made = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert made.returncode == 1
    lacks = f"{wheels} lacks a part of requirements.lock, for this Python and machine: run `make wheels`"
    assert made.stderr.strip().splitlines()[-1] == lacks
    assert "No matching distribution found" in made.stderr


@pytest.mark.parametrize(("name", "works"), [("mine", True), ("my data", False), ("models", False)])
def test_a_directory_that_cannot_be_copied_or_hides_a_file_ends_the_build(
    tmp_path: Path, name: str, works: bool
) -> None:
    """It was left out, and the image was made."""
    source = copied(tmp_path / "source", FORWARDING)
    (source / ".frame").mkdir()
    (source / name).mkdir()
    for module in ("__init__.py", "prices.py"):
        (source / name / module).write_text("TEA = 1\n")
    (tmp_path / "app").mkdir()
    (tmp_path / "app/.venv").symlink_to(sys.prefix)
    command: list[str | Path] = ["sh", ROOT / "deploy/image.sh", "program", tmp_path / "app"]
    made = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert (made.returncode == 0) == works, made.stderr
    assert (tmp_path / "app" / name / "prices.py").exists() or not works
    assert not works or not (tmp_path / "app/program.tar").exists()
