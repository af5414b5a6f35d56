"""The frame's tests pass also where the front page, the changelog and the manifests of a copy are its owner's."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.frames import of_the_frame, write
from tests.docs.pages import CHANGELOG_IS_THE_FRAMES, README_IS_THE_FRAMES
from tests.program import ROOT, outside_of_make
from tests.test_deploy import is_as_the_frame_has_it
from utils.version import frame_version


def test_pages_and_manifests_of_ones_own_make_no_test_red(tmp_path: Path) -> None:
    """What everybody edits first did: the front page; and what docs/deploy.md asks to be changed for Kubernetes."""
    write(tmp_path, of_the_frame())
    write(tmp_path, {"README.md": "# Paid orders\n", "CHANGELOG.md": "# Ours [gone](no-such.md)\n"})
    write(tmp_path, {"tests/cases/README.md": ""})
    for path in (tmp_path / "deploy/kubernetes").rglob("*.yaml"):
        text = path.read_text().replace("paid-orders", "refunds").replace("namespace: consumers", "namespace: team-a")
        text = text.replace('namespace="consumers"', 'namespace="team-a"').replace("DB_HOST=mysql", "DB_HOST=db")
        path.write_text(re.sub("^components:.*", "", text, flags=re.MULTILINE))
    chosen = [f"tests/docs/test_{name}.py" for name in ("blocks", "links", "reference")] + ["tests/test_deploy.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not mariadb", *chosen]
    done = subprocess.run(command, cwd=tmp_path, env=outside_of_make(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert " skipped" in done.stdout


@pytest.mark.skipif(
    bool(frame_version().commit or frame_version().left_out) or not (ROOT / ".git").exists(),
    reason="a copy may have others: only a clone of the frame is asked",
)
def test_in_the_frame_itself_they_are_not_taken_for_somebodys_own() -> None:
    """One letter of a title, or of a line of the manifests, took away all tests of it without a word."""
    assert README_IS_THE_FRAMES
    assert CHANGELOG_IS_THE_FRAMES
    assert is_as_the_frame_has_it()
