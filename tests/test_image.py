"""deploy/image.sh, the steps of the Dockerfile: what they say where they cannot go on."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_wheels_that_lack_a_part_of_the_lock_come_with_the_cure(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    environ = {**os.environ, "WHEELS": str(wheels), "PYTHON": sys.executable}
    command: list[str | Path] = ["sh", ROOT / "deploy/image.sh", "packages", tmp_path / "app"]
    made = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert made.returncode == 1
    lacks = f"{wheels} lacks a part of requirements.lock, for this Python and machine: run `make wheels`"
    assert made.stderr.strip().splitlines()[-1] == lacks
