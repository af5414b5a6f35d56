"""Cycles that process() leaves behind."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from utils.processing.garbage import LOOK_EVERY, Garbage


class Message:
    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def rarely() -> Iterator[None]:
    """As in a worker: Python itself does not look meanwhile."""
    before = gc.get_threshold()
    gc.set_threshold(1_000_000)
    yield
    gc.set_threshold(*before)


def test_a_cycle_that_holds_a_message_goes_when_so_many_bytes_have_passed() -> None:
    garbage = Garbage()
    left = weakref.ref(Message())
    garbage.passed(LOOK_EVERY - 1)
    assert left() is not None
    garbage.passed(1)
    assert left() is None


def test_it_looks_again_after_as_many() -> None:
    garbage = Garbage()
    garbage.passed(LOOK_EVERY)
    left = weakref.ref(Message())
    garbage.passed(LOOK_EVERY - 1)
    assert left() is not None
    garbage.passed(1)
    assert left() is None
