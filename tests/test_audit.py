"""`make audit`: where pip-audit could not ask, that is no all-clear."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.program import ROOT, outside_of_make

CLEAR = "No known vulnerabilities found"
SKIPPED = """\
Name               Skip Reason
------------------ ------------------------------------------------------------
cffi               Dependency not found on PyPI and could not be audited: cffi (2.1.1)
ours               URL requirements cannot be pinned to a specific package version
"""
FOUND = """\
Name Version ID           Fix Versions
---- ------- ------------ ------------
cffi 2.1.1   PYSEC-2026-1 2.1.2
"""


def audit(project: Path, told: str, code: int, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """With a pip-audit that says this, and ends so."""
    for name in ("Makefile", "requirements.lock", "deploy/requirements-check.txt"):
        (project / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, project / name)
    (project / "told").write_text(told)
    commands = {
        ".venv/bin/python": "",
        ".venv-deploy/bin/python": "",
        ".venv-deploy/bin/pip-audit": f'echo "{CLEAR}" >&2\ncat told\nexit {code}\n',
    }
    for place, script in commands.items():
        (project / place).parent.mkdir(parents=True, exist_ok=True)
        (project / place).write_text(f"#!/bin/sh\n{script}")
        (project / place).chmod(0o755)
    (project / ".venv-deploy/done").touch()
    command = ["make", "audit", *arguments]
    return subprocess.run(command, cwd=project, env=outside_of_make(), capture_output=True, text=True)


@pytest.mark.parametrize(
    ("told", "code", "arguments", "missed"),
    [
        ("", 0, (), ""),
        (SKIPPED, 0, (), "cffi ours"),
        (SKIPPED, 0, ("AUDIT_OWN=ours",), "cffi"),
        (SKIPPED, 0, ("AUDIT_OWN=ours cffi",), ""),
        (FOUND, 1, (), ""),
        (FOUND + SKIPPED, 1, (), ""),
    ],
)
def test_a_package_that_nobody_was_asked_about_is_named_and_fails(
    told: str, code: int, arguments: tuple[str, ...], missed: str, tmp_path: Path
) -> None:
    """With an index that knew none of them it ended with 0: no known vulnerabilities."""
    done = audit(tmp_path, told, code, *arguments)
    assert (done.returncode == 0) is (code == 0 and not missed), done.stderr
    assert told in done.stdout
    assert (f"audit: nobody could be asked about {missed}:" in done.stderr) is bool(missed)
