"""The frame's tests pass also where the front page, the changelog and the manifests of a copy are its owner's."""

import re
import subprocess
import sys
from pathlib import Path

from tests.deploy.frames import of_the_frame, write
from tests.program import outside_of_make


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
