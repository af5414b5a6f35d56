"""What is the frame's and what is its users': in the tests, in the image and in the build context."""

import subprocess
from pathlib import Path

import pytest

from tests.copies.__main__ import LOOK_AT_THE_USERS_FILES
from tests.program import FORWARDING, FRAME, ROOT, copied, is_the_users, program


def own_directories(context: Path) -> list[str]:
    done = subprocess.run(["sh", ROOT / "deploy/image.sh", "own"], cwd=context, stdout=subprocess.PIPE, text=True)
    return done.stdout.splitlines()


def test_the_image_takes_every_directory_but_the_frames_hidden_ones_and_environments(tmp_path: Path) -> None:
    for name in (*FRAME, "taxes", "rates", "env", "venv", ".git", "__pycache__"):
        (tmp_path / name).mkdir()
    for name in ("env", "venv"):
        (tmp_path / name / "pyvenv.cfg").touch()
    (tmp_path / "notes.txt").touch()
    assert own_directories(tmp_path) == ["rates", "taxes"]


def test_what_the_image_takes_of_the_frame_is_what_the_tests_run(tmp_path: Path) -> None:
    script = (ROOT / "deploy/image.sh").read_text()
    assert "./*.py .frame utils examples $(own)" in script
    copy = {path.name for path in copied(tmp_path, FORWARDING).iterdir()} - {"__pycache__"}
    assert copy == {
        "main.py",
        "framework.py",
        "config.py",
        "models.py",
        "worker.py",
        "defaults.py",
        "utils",
        "examples",
    }


def test_the_tests_run_a_worker_of_their_own_without_anybodys_defaults() -> None:
    assert (program() / "worker.py").read_text() == FORWARDING.read_text()
    assert (program() / "defaults.py").read_text() == ""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("worker.py", True),
        ("defaults.py", True),
        ("taxes/models.py", True),
        ("taxes/tests/test_rates.py", True),
        ("tests/test_worker.py", True),
        ("tests/test_worker_of_mine.py", True),
        ("tests/cases/1001-6b1f2c3d.json", True),
        ("tests/test_main.py", False),
        ("tests/integration/workers.py", False),
        ("utils/joining/offsets.py", False),
    ],
)
def test_whose_a_file_is(path: str, expected: bool) -> None:
    assert is_the_users(ROOT / path) == expected


def test_the_files_that_are_run_in_each_edited_copy_exist() -> None:
    assert [file for file in LOOK_AT_THE_USERS_FILES if not (ROOT / file).is_file()] == []


@pytest.mark.parametrize("file", [".gitignore", ".dockerignore"])
def test_an_environment_goes_neither_into_the_repository_nor_into_the_build_context(file: str) -> None:
    lines = [line.rstrip("/") for line in (ROOT / file).read_text().splitlines()]
    assert "venv" in lines
    assert {".venv", ".*"} & set(lines)
