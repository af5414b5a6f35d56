"""deploy/locked.py: what `make setup` says of a package that was not locked."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.locked import lacking
from tests.program import FORWARDING, ROOT, copied, outside_of_make

LOCK = """\
# made by make lock
confluent-kafka==2.16.1 \\
    --hash=sha256:00
pymysql==1.2.4 ; python_version >= '3.11' \\
    --hash=sha256:00
"""


@pytest.mark.parametrize(
    "line",
    [
        "confluent-kafka==2.16.1",
        "Confluent_Kafka>=2,<3  # the client",
        "PyMySQL[rsa]==1.2.4",
        "pymysql",
        "# requests==2.34.2",
        "requests; python_version < '3'",
        "-r other.txt",
        "",
        "./mine",
    ],
)
def test_what_is_locked_is_no_news(line: str) -> None:
    assert lacking(f"{line}\n", LOCK) == []


@pytest.mark.parametrize(
    "line", ["requests", "requests==2.34.2  # for process()", "confluent-kafka==2.17", "PyMySQL~=2.0"]
)
def test_what_is_not_locked_is_named(line: str) -> None:
    assert lacking(f"pymysql\n{line}\n", LOCK) == [line.partition("  #")[0]]


def test_setup_and_all_that_begins_with_it_end_where_a_package_was_not_locked(tmp_path: Path) -> None:
    """The lock of the tests may happen to hold it: all was green, and where it was deployed the worker ended."""
    copied(tmp_path, FORWARDING)
    for name in ("Makefile", "requirements.txt", "requirements.lock", "requirements-dev.txt", "requirements-dev.lock"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy", ignore=shutil.ignore_patterns("wheels"))
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    # All but the installing, which is pip's and takes long.
    python.write_text(f'#!/bin/sh\n[ "$2" = pip ] || exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    made = make_check(tmp_path)
    assert (made.returncode, (tmp_path / ".venv/locked").exists()) == (0, True), made.stderr
    with (tmp_path / "requirements.txt").open("a") as requirements:
        requirements.write("locked-by-nobody\n")
    for _ in range(2):
        made = make_check(tmp_path)
        assert made.returncode == 2
        assert "requirements.lock lacks locked-by-nobody of requirements.txt: run `make lock`\n" in made.stderr


def make_check(directory: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["make", "check", "OWN_TESTS="], cwd=directory, env=outside_of_make(), capture_output=True, text=True
    )
