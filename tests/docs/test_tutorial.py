"""docs/tutorial.md, done as its reader would do it: in a copy of the tree, one line after the other, on real Kafka."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from tests.docs.pages import DOCS
from tests.program import ROOT, is_the_users
from tests.services.kafka import KafkaBroker
from tests.test_deploy import of_the_frame

TUTORIAL = DOCS["tutorial"]
SECONDS = 90  # the session of a killed worker takes 10 of them
TOPICS = ("orders", "payments", "paid", "paid-orders-dlq", "paid-orders-offsets")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The tree as a clone would have it, without anybody's defaults, with a .venv that is made already."""
    copied = tmp_path / "paid-orders"
    left_out = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", "bench")
    shutil.copytree(ROOT, copied, ignore=left_out, symlinks=True)
    (copied / "defaults.py").write_text("")
    (copied / ".venv").symlink_to(sys.prefix)
    return copied


@pytest.fixture
def broker(real_kafka: KafkaBroker) -> Iterator[KafkaBroker]:
    """The names of the tutorial's topics are its own: they go when it ends."""
    yield real_kafka
    admin = AdminClient({"bootstrap.servers": real_kafka.bootstrap})
    if made := set(TOPICS) & set(admin.list_topics(timeout=10).topics):
        for done in admin.delete_topics(sorted(made)).values():
            done.result()


def test_the_tutorial_ends_as_it_says(copy: Path, broker: KafkaBroker) -> None:
    [example] = TUTORIAL.texts("python")
    (copy / "worker.py").write_text(example)
    script = "".join(["set -e\n", *TUTORIAL.texts("sh")])
    script = script.replace("make setup\n", "")  # it takes minutes where nothing is there; CI begins with it
    script = script.replace("localhost:9092", broker.bootstrap)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("KAFKA_", "DB_"))}
    with subprocess.Popen(
        ["bash", "-c", script],
        cwd=copy,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as shell:
        try:
            printed, _ = shell.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(shell.pid, signal.SIGKILL)
            pytest.fail(f"not at its end after {SECONDS} s: {shell.communicate()[0]}\n{log(copy)}")
    assert shell.returncode == 0, printed + log(copy)
    for shown in outputs():
        assert all(line in printed.splitlines() for line in shown), printed
    checks = re.findall(r"^(?:✓|✗|-|ok|FAIL) ", printed, re.MULTILINE)
    assert len(checks) > 5
    assert set(checks) == {"✓ "}


def outputs() -> Iterator[list[str]]:
    """What the page says that is printed: topics, and results."""
    for text in TUTORIAL.texts("text"):
        if text.startswith(("created", "{")):
            yield text.splitlines()


def log(copy: Path) -> str:
    file = copy / "worker.log"
    return file.read_text() if file.exists() else ""


@of_the_frame("../.gitignore")
def test_what_it_leaves_does_not_get_into_the_repository() -> None:
    files = set(re.findall(r"2> (\S+)|sqlite:///(\S+)", "".join(TUTORIAL.texts("sh"))))
    left = sorted(name for each in files for name in each if name)
    assert left == ["consumers.db", "worker.log"]
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert [name for name in left if not any(fnmatch(name, each) for each in ignored)] == []


def test_the_files_that_it_edits_are_the_users() -> None:
    assert is_the_users(ROOT / "worker.py")
