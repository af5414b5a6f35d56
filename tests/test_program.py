"""What is the frame's and what is its users': in the tests, in the image and in the build context."""

import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from tests.conftest import UsersTests
from tests.copies.__main__ import LOOK_AT_THE_USERS_FILES
from tests.program import FORWARDING, FRAME, ROOT, copied, is_the_users, outside_of_make, program
from tests.test_deploy import of_the_frame


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


def test_a_directory_with_a_blank_in_its_name_is_told_and_no_test_is_left_out_without_a_word(tmp_path: Path) -> None:
    """pytest was asked for "my" and "data", and ran nothing."""
    (tmp_path / "my data").mkdir()
    (tmp_path / "deploy").mkdir()
    for name in ("Makefile", "deploy/image.sh"):
        shutil.copy(ROOT / name, tmp_path / name)
    command = ["make", "--no-print-directory", "--eval=tell:\n\t@echo $(OWN)", "tell"]
    done = subprocess.run(command, cwd=tmp_path, env=outside_of_make(), capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("my data: rename it, for a name with a blank cannot be taken\n")


def test_wheels_are_asked_for_by_the_name_that_linux_gives_to_the_machine(tmp_path: Path) -> None:
    """A Mac says arm64: no package has wheels for that."""
    (tmp_path / "uname").write_text("#!/bin/sh\necho arm64\n")
    (tmp_path / "uname").chmod(0o755)
    environ = outside_of_make()
    environ["PATH"] = f"{tmp_path}:{environ['PATH']}"
    command = ["make", "--no-print-directory", "--eval=tell:\n\t@echo $(WHEELS_ARCHITECTURES)", "tell"]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.stdout == "aarch64\n"


def test_what_the_image_takes_of_the_frame_is_what_the_tests_run(tmp_path: Path) -> None:
    script = (ROOT / "deploy/image.sh").read_text()
    assert "./*.py .frame utils $mine" in script
    assert 'set -- "$@" examples' in script
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


THEIRS = """
import warnings

import pytest


@pytest.mark.slow
def test_with_a_marker_of_its_own_and_a_library_that_warns() -> None:
    warnings.warn("soon", DeprecationWarning)


@pytest.mark.parametrize("total", [1, 1])
def test_of_equal_parameters(total: int) -> None: ...


@pytest.mark.xfail(reason="a service that is sometimes there")
def test_that_may_fail() -> None: ...
"""


def test_what_the_frame_demands_of_its_tests_it_does_not_demand_of_those_in_a_copy(tmp_path: Path) -> None:
    """An unknown marker, or two equal parameters, kept all tests from running, and a warning was a failure."""
    (tmp_path / "tests").mkdir()
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "tests/test_prices.py").write_text(THEIRS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "3 passed, 1 xpassed, 2 warnings" in done.stdout


FITS = """
import pytest
import worker
from utils.cases import opened, saved, tried
CASES = saved()

@pytest.fixture(scope="module")
def process():
    with opened(worker) as called:
        yield called

def test_a_message(process):
    assert process({"id": 1, "content": {}}, "test") == {"id": 1, "content": {}}

@pytest.mark.parametrize("case", CASES)
def test_a_case(process, case):
    assert tried(CASES[case], process) == CASES[case]
"""


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_test_as_the_one_that_a_copy_comes_with_fits_each_kind_of_worker(kind: str, tmp_path: Path) -> None:
    """It called process() as a function without setup(), which is where connections are made."""
    copy = copied(tmp_path / "copy", FORWARDING)
    (copy / "worker.py").write_text(
        f"made = []\n{kind} setup(): made.append(1)\n{kind} process(message, name): return message if made else {{}}\n"
    )
    (copy / "tests").mkdir()
    (copy / "tests/test_worker.py").write_text(FITS)
    case = {"consumer": "a", "message": {"id": 1, "content": {}}, "results": [["1", {"id": 1, "content": {}}]]}
    (copy / "tests/cases").mkdir()
    (copy / "tests/cases/1.json").write_text(json.dumps(case))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", ".", "tests"]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True)
    assert "2 passed" in done.stdout, done.stdout


def test_the_tests_of_a_copy_import_defaults_py_before_worker_py_as_a_worker_does(tmp_path: Path) -> None:
    """What a .env that defaults.py loads holds was not there for worker.py: no test was collected."""
    copy = copied(tmp_path / "copy", FORWARDING, "import os\nos.environ['PRICES_URL'] = 'http://prices.example'\n")
    (copy / "worker.py").write_text(f"import os\nURL = os.environ['PRICES_URL']\n{FORWARDING.read_text()}")
    (copy / "tests").mkdir()
    (copy / "tests/test_worker.py").write_text(FITS)
    (copy / "prices").mkdir()
    (copy / "prices/test_prices.py").write_text("from worker import process\ndef test(): assert process\n")
    for name in ("Makefile", "deploy/image.sh"):
        (copy / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    (copy / ".venv/bin").mkdir(parents=True)
    (copy / ".venv/bin/python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (copy / ".venv/bin/python").chmod(0o755)
    (copy / ".venv/locked").write_text(f"{(copy / '.venv').resolve()}\n")
    for goal in ("test", "test-mine"):
        command = ["make", goal, "ARGS=-q -p no:cacheprovider --rootdir .", "REQUIREMENTS=", "LOCKS="]
        done = subprocess.run(command, cwd=copy, env=outside_of_make(), capture_output=True, text=True)
        assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_what_is_wrong_with_defaults_py_keeps_no_test_of_a_copy_from_running(tmp_path: Path) -> None:
    copy = copied(tmp_path / "copy", FORWARDING, "import os\nDB_PASSWORD = os.environ['SECRET_OF_THE_CLUSTER']\n")
    done = subprocess.run([sys.executable, "-c", "import utils.cases"], cwd=copy, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_environment_that_the_users_files_make_is_there_for_their_tests_and_for_no_other(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []
    monkeypatch.setattr("utils.processing.user_code.before_worker", lambda: called.append("defaults.py"))
    monkeypatch.setenv("CONCURRENCY", "2")
    theirs = pytest.Module.from_parent(request.session, path=ROOT / "tests/test_worker.py")
    plugin, name = UsersTests(), "MESSAGE_TIMEOUT_OF_TESTS"
    importing = plugin.pytest_make_collect_report(theirs)
    next(importing)
    assert called == ["defaults.py"]
    os.environ.update({name: "7", "CONCURRENCY": "3"})
    with pytest.raises(StopIteration):
        importing.send(pytest.CollectReport("", "passed", None, []))
    assert (os.environ.get(name), os.environ["CONCURRENCY"]) == (None, "2")

    item = pytest.Function.from_parent(theirs, name="test_mine", callobj=lambda: None)
    for of, seen in ((item, "7"), (request.node, None)):
        running = plugin.pytest_runtest_protocol(of)
        next(running)
        assert os.environ.get(name) == seen
        with pytest.raises(StopIteration):
            running.send(None)
    assert (os.environ.get(name), os.environ["CONCURRENCY"]) == (None, "2")


def test_in_the_frames_tests_a_warning_is_an_error() -> None:
    with pytest.raises(DeprecationWarning):
        warnings.warn("soon", DeprecationWarning, stacklevel=1)
    with pytest.raises(pytest.PytestUnknownMarkWarning):
        _ = pytest.mark.no_such_marker


@pytest.mark.parametrize(
    ("frame", "expected"),
    [("tests/frame.mk", "tests/test_worker.py"), ("Makefile", "tests")],
)
def test_the_tests_of_a_copy_are_all_in_it_and_beside_those_of_the_frame_the_named_ones(
    frame: str, expected: str, tmp_path: Path
) -> None:
    (tmp_path / "tests").mkdir()
    for name in ("Makefile", frame):
        shutil.copy(ROOT / name, tmp_path / name)
    for name in ("test_worker.py", "test_prices.py"):
        (tmp_path / "tests" / name).touch()
    command = ["make", "--no-print-directory", "--eval=tell:\n\t@echo $(sort $(OWN_TESTS))", "tell"]
    done = subprocess.run(command, cwd=tmp_path, env=outside_of_make(), stdout=subprocess.PIPE, text=True)
    assert done.stdout.strip() == expected


def test_the_frames_files_are_judged_by_the_frames_rules(tmp_path: Path) -> None:
    """A ruff.toml or mypy.ini of the user's goes before pyproject.toml: all of the frame was to be formatted anew."""
    (tmp_path / "tests").mkdir()
    for name in ("Makefile", "tests/frame.mk"):
        shutil.copy(ROOT / name, tmp_path / name)
    command = ["make", "-n", "frame-check", "REQUIREMENTS=", "LOCKS="]
    dry = subprocess.run(command, cwd=tmp_path, env=outside_of_make(), capture_output=True, text=True, check=True)
    judges = [line for line in dry.stdout.splitlines() if " -m ruff " in line or " -m mypy " in line]
    assert len(judges) == 3
    assert [line for line in judges if "pyproject.toml" not in line] == []


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


@pytest.mark.parametrize(
    "file", [pytest.param(name, marks=of_the_frame(f"../{name}")) for name in (".gitignore", ".dockerignore")]
)
def test_an_environment_goes_neither_into_the_repository_nor_into_the_build_context(file: str) -> None:
    lines = [line.rstrip("/") for line in (ROOT / file).read_text().splitlines()]
    assert "venv" in lines
    assert {".venv", ".*"} & set(lines)
