"""What is waited for at the start, and what this process cannot wait for."""

import threading

import pytest

from config import NeedsNewProcessError
from utils.running.lifetime import patiently


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
