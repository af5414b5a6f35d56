"""What is waited for at the start, and what this process cannot wait for."""

import threading

import pytest

from config import NeedsNewProcessError, Settings
from utils.running.lifetime import GRACE, patiently

LEAVE_GROUP = 5.0  # seconds that Kafka's client waits for the answer that it has left its group


def test_a_stop_waits_for_as_long_as_the_client_does_to_leave_a_group_that_is_not_complete() -> None:
    """It lost by 0.3 s: where another worker had just died, one that had no partitions yet ended with 1, and its log
    spoke of a commit that was missing."""
    assert Settings().shutdown_timeout + GRACE >= LEAVE_GROUP + 0.5


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
