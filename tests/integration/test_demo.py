"""`python main.py demo` as a user starts it."""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.program import FORWARDING, copied, program
from tests.services.starts import piped_python, run_python

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
RESULT = re.compile(r"\d{4}  buyer=\w+ item=\w+ total=[\d.]+ +method=\w+ paid=[\d.]+ +(orders|payments) +\d\.\d s")


def demo(*arguments: str) -> "subprocess.Popen[str]":
    return piped_python(["main.py", "demo", *arguments], program(), {**ENVIRONMENT, "SHUTDOWN_TIMEOUT": "30"})


@pytest.mark.embedded_kafka
@pytest.mark.sqlite
def test_it_shows_as_many_joined_results_as_asked_for_and_ends() -> None:
    with demo("--results", "5") as process:
        output, errors = process.communicate(timeout=60)
    lines = output.splitlines()
    assert process.returncode == 0, errors
    assert errors == ""
    assert sum(bool(RESULT.fullmatch(line)) for line in lines) == 5, output
    assert lines[-2].startswith("5 results shown.")


@pytest.mark.embedded_kafka
@pytest.mark.sqlite
def test_it_runs_the_process_of_worker_py() -> None:
    other = "worker.process = lambda message, consumer_name: {**message, 'seen_by': consumer_name}"
    code = f"import sys, worker; {other}; import main; sys.exit(main.main(['demo', '--results', '2']))"
    done = run_python(["-c", code], program(), ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("from process(): seen_by=demo\n") == 2


@pytest.mark.embedded_kafka
@pytest.mark.sqlite
@pytest.mark.parametrize(("example", "adds"), [("model", "risk="), ("sentiment", "")])
def test_it_runs_an_example_in_place_of_worker_py(example: str, adds: str) -> None:
    with demo("--results", "2", "--worker", f"examples/{example}.py") as process:
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert output.splitlines()[-2].startswith("2 results shown.")
    assert adds in output


@pytest.mark.embedded_kafka
@pytest.mark.sqlite
def test_a_setup_that_fails_is_the_last_that_it_says(tmp_path: Path) -> None:
    """Below it stood the traceback of a KeyError: the summary needs what only a worker that has begun counts."""
    (tmp_path / "away.py").write_text(
        "def setup():\n    raise RuntimeError('away')\n\ndef process(message, consumer_name): ...\n"
    )
    with demo("--worker", str(tmp_path / "away.py")) as process:
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (1, "")
    assert "setup() failed: RuntimeError: away" in output.splitlines()[-1]


LOGS = """
from utils.logger import logger

def process(message, consumer_name):
    for line in ("process() failed", "invalid message", "stopped", "partitions assigned"):
        logger.warning(line)
    logger.info("%d ids", "some")
    return message
"""


@pytest.mark.embedded_kafka
@pytest.mark.sqlite
def test_whatever_process_logs_is_no_failure_of_it(tmp_path: Path) -> None:
    """Of what could not be shown an error was raised in process(), as in no worker. And "stopped" broke the summary."""
    (tmp_path / "logs.py").write_text(LOGS)
    with demo("--worker", str(tmp_path / "logs.py"), "--results", "2") as process:
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert output.splitlines()[-2].startswith("2 results shown.")
    assert output.count("warning: process() failed\n") >= 2
    assert "failed in process()" not in output
    assert "--- Logging error ---" in errors, "it is told as in a worker"


def test_an_example_that_cannot_begin_says_why() -> None:
    with demo("--worker", "examples/no_such.py") as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 78
    assert "examples/no_such.py is no file of Python that could take the place of worker.py" in errors


@pytest.mark.embedded_kafka
@pytest.mark.sqlite
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order(number: signal.Signals) -> None:
    with demo() as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if RESULT.fullmatch(line.strip()):
                break
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert errors == ""
    assert "results shown." in output


def test_a_copy_that_has_deleted_the_examples_is_told_so(tmp_path: Path) -> None:
    """It was a traceback."""
    copy = copied(tmp_path / "copy", FORWARDING)
    shutil.rmtree(copy / "examples")
    done = run_python(["main.py", "demo"], copy, ENVIRONMENT)
    assert done.returncode == 78
    [line] = done.stderr.splitlines()
    assert "the demo is in examples/, which is not all here" in line
