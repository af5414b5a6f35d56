"""Cycles that process() leaves behind."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from utils.processing.garbage import GROWTH, LOOK_EVERY, MUCH, Garbage, resident


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
    garbage = Garbage(lambda: 1)
    left = weakref.ref(Message())
    garbage.passed(LOOK_EVERY - 1)
    assert left() is not None
    garbage.passed(1)
    assert left() is None


def test_it_looks_again_after_as_many() -> None:
    garbage = Garbage(lambda: 1)
    garbage.passed(LOOK_EVERY)
    left = weakref.ref(Message())
    garbage.passed(LOOK_EVERY - 1)
    assert left() is not None
    garbage.passed(1)
    assert left() is None


def test_a_cycle_of_a_small_message_goes_when_the_process_has_grown() -> None:
    """What process() made of it may be large: 1.6 GB where a plain loop took 140 MB."""
    memory = 100 * GROWTH
    garbage = Garbage(lambda: memory)
    for _ in range(2):
        left = weakref.ref(Message())
        memory += GROWTH - 1
        garbage.passed(1)
        assert left() is not None
        memory += 1
        garbage.passed(1)
        assert left() is None, "it has grown since it was smallest after the last look"
        memory -= 10 * GROWTH
        garbage.passed(1)


def test_what_has_become_old_goes_when_it_has_grown_much() -> None:
    memory = 100 * GROWTH
    garbage = Garbage(lambda: memory)
    old = Message()
    gc.collect(), gc.collect()
    left = weakref.ref(old)
    del old
    for _ in range(MUCH - 1):
        memory += GROWTH
        garbage.passed(1)
    assert left() is not None
    memory += GROWTH
    garbage.passed(1)
    assert left() is None


def test_how_large_the_process_is() -> None:
    before = resident()
    held = bytearray(b"x") * 50_000_000
    assert resident() >= before + 40_000_000
    assert len(held) == 50_000_000
