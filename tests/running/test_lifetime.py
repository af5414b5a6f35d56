"""What is waited for at the start, what this process cannot wait for, and how it ends."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from config import NeedsNewProcessError, Settings
from framework import CLOSING_IN_TIME
from tests.program import ROOT
from utils.running.lifetime import GRACE, patiently

LEAVE_GROUP = 5.0  # seconds that Kafka's client waits for the answer that it has left its group


def test_a_stop_waits_for_as_long_as_the_client_does_to_leave_a_group_that_is_not_complete() -> None:
    """It lost by 0.3 s: where another worker had just died, one that had no partitions yet ended with 1, and its log
    spoke of a commit that was missing."""
    assert Settings().shutdown_timeout + CLOSING_IN_TIME >= LEAVE_GROUP
    assert GRACE >= CLOSING_IN_TIME + 0.5


def test_what_only_a_new_process_can_try_again_is_not_tried_again_here() -> None:
    """worker.py was imported once more, and met the thread and the metric of the first time."""
    tries = []

    def step() -> None:
        tries.append(1)
        raise NeedsNewProcessError("worker.py cannot be imported")

    stopping = threading.Event()
    timer = threading.Timer(30, stopping.set)  # else it would go on for ever
    timer.start()
    with pytest.raises(NeedsNewProcessError):
        patiently(step, stopping)
    timer.cancel()
    assert len(tries) == 1


@pytest.mark.parametrize("code", [0, 1, 78])
def test_where_the_log_cannot_be_written_at_the_end_the_exit_code_is_that_of_the_command(code: int) -> None:
    """It was 120: Python's own, where what is left for standard error finds no room."""
    unwritten = (
        f"import sys; from utils.running.lifetime import leave; print('x', end='', file=sys.stderr); leave({code})"
    )
    with Path("/dev/full").open("w") as full:
        buffered = "import io, sys; sys.stderr = io.TextIOWrapper(io.BufferedWriter(io.FileIO(2, 'w', closefd=False)));"
        done = subprocess.run([sys.executable, "-c", buffered + unwritten], cwd=ROOT, stderr=full)
    assert done.returncode == code
