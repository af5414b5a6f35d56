"""deploy/target.py: what is fetched for the Python and the machine of an image, whichever are here."""

import subprocess
import sys
from pathlib import Path

import pytest

from deploy.target import for_target
from tests.program import ROOT, outside_of_make

LOCK = """\
# made by make lock
async-timeout==5.0 ; python_full_version < '3.11.3' \\
    --hash=sha256:a1
    # via redis
colorama==0.4 ; sys_platform == 'win32' \\
    --hash=sha256:c1
greenlet==3.2 ; platform_machine == 'aarch64' or platform_machine == 'x86_64' \\
    --hash=sha256:g1 \\
    --hash=sha256:g2
numpy==2.4 ; python_full_version < '3.12' \\
    --hash=sha256:n1
numpy==2.5 ; python_full_version >= '3.12' \\
    --hash=sha256:n2
PyMySQL[rsa]==1.2 \\
    --hash=sha256:p1
uvloop==0.21 ; sys_platform == 'linux' and platform_python_implementation == 'CPython' \\
    --hash=sha256:u1
"""
GREENLET = "greenlet==3.2 --hash=sha256:g1 --hash=sha256:g2"
READS = 'while [ "$1" != -r ]; do shift; done\ncat "$2"\n'  # what pip is given
ALWAYS = ["PyMySQL[rsa]==1.2 --hash=sha256:p1", "uvloop==0.21 --hash=sha256:u1"]


@pytest.mark.parametrize(
    ("version", "machine", "expected"),
    [
        ("3.11", "x86_64", ["async-timeout==5.0 --hash=sha256:a1", GREENLET, "numpy==2.4 --hash=sha256:n1", *ALWAYS]),
        ("3.13", "aarch64", [GREENLET, "numpy==2.5 --hash=sha256:n2", *ALWAYS]),
        ("3.12", "riscv64", ["numpy==2.5 --hash=sha256:n2", *ALWAYS]),
    ],
)
def test_of_a_lock_that_is_fetched_which_is_installed_there(version: str, machine: str, expected: list[str]) -> None:
    """pip asked for the numpy of the Python that ran it, and no image could be made of that."""
    assert for_target(LOCK, version, machine).splitlines() == expected


def test_without_a_machine_it_is_this_one() -> None:
    there = [each for each in ("colorama", "uvloop") if f"{each}==" in for_target(LOCK, "3.13")]
    assert there == {"win32": ["colorama"], "linux": ["uvloop"]}.get(sys.platform, [])


def test_of_the_lock_that_is_here_all_is_kept_that_has_no_condition() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    always = [line.partition(" ")[0] for line in lock.splitlines() if line[:1].isalnum() and ";" not in line]
    assert "msgspec==" in str(always)
    assert set(always) <= {line.partition(" ")[0] for line in for_target(lock, "3.13", "x86_64").splitlines()}


def test_wheels_are_those_of_the_target(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy/target.py").write_text((ROOT / "deploy/target.py").read_text())
    (tmp_path / "requirements.lock").write_text(LOCK)
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\n[ "$2" = pip ] || exec "{sys.executable}" "$@"\n{READS}')
    python.chmod(0o755)
    for name in ("requirements.txt", "requirements-dev.txt", "requirements-dev.lock"):
        (tmp_path / name).touch()
    (tmp_path / ".venv/locked").write_text(f"{(tmp_path / '.venv').resolve()}\n")
    command = ["make", "wheels", "WHEELS_PYTHON=3.13", "WHEELS_ARCHITECTURES=aarch64"]
    done = subprocess.run(command, cwd=tmp_path, env=outside_of_make(), capture_output=True, text=True)
    assert done.stdout == f"wheels for Python 3.13, aarch64\n{for_target(LOCK, '3.13', 'aarch64')}", done.stderr
