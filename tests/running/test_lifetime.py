"""What is waited for at the start, what this process cannot wait for, and how it ends."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from config import NeedsNewProcessError, Settings
from framework import CLOSING_IN_TIME
from tests.program import ROOT, program
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


@pytest.mark.parametrize("is_left", [True, False])
def test_python_is_not_taken_apart_around_a_thread_of_ours_that_is_left_behind(is_left: bool) -> None:
    """Kafka's client, which such a thread may have, called into it: a stop in order ended with SIGSEGV."""
    ends = f"""
import os, sys, threading, time
from utils.running import first_moment, lifetime
from utils.threads import Apart

first_moment.begin()

class TakenApart:
    def __del__(self):
        os.write(1, b"taken apart")

kept = TakenApart()
import atexit
atexit.register(lambda: print("at its end"))
threading.Thread(target=lambda: (time.sleep(0.3), print("a thread of others"))).start()
if {is_left}:
    Apart(target=time.sleep, args=(60,), name="row").start()
lifetime.leave(3)
"""
    buffered = {**os.environ, "PYTHONUNBUFFERED": ""}  # what is printed is written at the end
    done = subprocess.run([sys.executable, "-c", ends], cwd=program(), env=buffered, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (3, b"")
    assert done.stdout.decode().split("\n") == ["a thread of others", "at its end", "" if is_left else "taken apart"]
