"""States of offsets: whatever lies behind, in whatever form, is as if each offset had a byte."""

import random
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from utils.joining import packing
from utils.joining import states as module
from utils.joining.states import BITS, FINISHED, SENT, SHED, UNFINISHED, WINDOW, Segment, States

FAR = 50_000_000


@contextmanager
def small(window: int = 16) -> Iterator[None]:
    """Segments of 8 offsets."""
    with patch.object(module, "BITS", 3), patch.object(module, "WINDOW", window), patch.object(module, "BUSY", 1):
        yield


@contextmanager
def takes_less_than(limit: int) -> Iterator[None]:
    """Bytes of memory, at any moment."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


class AsBytes(RuleBasedStateMachine):
    """Segments of 8 offsets and a window of 16, and beside them a byte for each offset from 0 on."""

    @initialize(base=st.integers(0, 20))
    def start(self, base: int) -> None:
        self.states, self.bytes = States(base), bytearray(b"\x01" * base)

    @rule(state=st.sampled_from([UNFINISHED, FINISHED, SHED]), number=st.integers(0, 60))
    def extend(self, state: int, number: int) -> None:
        with small():
            self.states.extend(state, number)
        self.bytes += bytes((state,)) * number

    @rule(number=st.integers(0, 30))
    def read(self, number: int) -> None:
        """As PartitionOffsets does it."""
        self.states.window.extend(bytes(number))
        self.bytes += bytes(number)

    @rule(state=st.sampled_from([FINISHED, SHED, SENT, UNFINISHED]), which=st.integers(0, 60), most=st.integers(1, 40))
    def set(self, state: int, which: int, most: int) -> None:
        with small():
            for offset in range(self.states.base + which, min(self.states.base + which + most, self.states.end)):
                if self.bytes[offset] != FINISHED:
                    self.states.set(offset, state)
                    self.bytes[offset] = state

    @rule(state=st.sampled_from([UNFINISHED, SHED]), which=st.integers(0, 60), most=st.integers(1, 60))
    def replace(self, state: int, which: int, most: int) -> None:
        first = min(self.states.base + which, self.states.end - 1)
        end = min(first + most, self.states.end)
        if first >= self.states.base and first < end:
            with small():
                assert self.states.replace(state, first, end) == self.bytes.count(state, first, end)
            self.bytes[first:end] = self.bytes[first:end].replace(bytes((state,)), b"\x01")

    @rule()
    def finish_sent(self) -> None:
        with small():
            assert self.states.finish_sent() == (SENT in self.bytes)
        self.bytes = self.bytes.replace(bytes((SENT,)), b"\x01")

    @rule()
    def cut(self) -> None:
        with small():
            assert self.states.cut() == len(self.bytes) - len(self.bytes.lstrip(b"\x01"))

    @rule()
    def copy(self) -> None:
        with small():
            self.states = self.states.copy()

    @rule()
    def travel(self) -> None:
        """As a bitmap, in which all that is not finished is alike."""
        with small():
            bits = self.states.bitmap()
            loaded = States.of_bitmap(bits, self.states.base, len(self.states))
        expected = bytes(self.bytes[self.states.base :]).translate(b"\x00\x01\x00\x00".ljust(256, b"\x00"))
        with small():
            assert bytes(loaded) == expected

    @invariant()
    def all_is_as_in_the_bytes(self) -> None:
        if not hasattr(self, "states"):
            return
        with small():
            states, base = self.states, self.states.base
            assert states.end == len(self.bytes)
            assert bytes(states) == self.bytes[base:]
            assert [states.get(offset) for offset in range(base, states.end)] == list(self.bytes[base:])
            for state in (UNFINISHED, FINISHED, SHED, SENT):
                assert states.count(state, base, states.end) == self.bytes.count(state, base)
            assert states.unfinished() == len(states) - self.bytes.count(FINISHED, base)
            unfinished = [offset for offset in range(base, states.end) if self.bytes[offset] != FINISHED]
            assert [offset for run in states.runs() for offset in range(*run)] == unfinished
            assert all(before[1] < after[0] for before, after in pairwise(states.runs()))
            for offset in range(base, states.end, 3):
                assert states.next_unfinished(offset) == next((each for each in unfinished if each >= offset), None)
            if SHED in self.bytes:
                assert states.lowest_shed() == self.bytes.index(SHED)


TestAsBytes = AsBytes.TestCase
TestAsBytes.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


def of_holes(holes: int, length: int) -> States:
    states = States(0)
    last = -1
    for hole in sorted(random.Random(3).sample(range(length), holes)):
        states.extend(FINISHED, hole - last - 1)
        states.extend(UNFINISHED, 1)
        last = hole
    states.extend(FINISHED, length - last - 1)
    return states


@pytest.mark.parametrize("state", [FINISHED, SHED, UNFINISHED])
def test_millions_of_offsets_in_one_state_behind_one_that_waits_take_hardly_any_memory(state: int) -> None:
    with takes_less_than(2_000_000):
        states = States(0)
        states.extend(UNFINISHED, 1)
        states.extend(state, FAR)
        assert states.cut() == 0
        assert states.unfinished() == 1 + FAR * (state != FINISHED)
        assert states.copy().end == FAR + 1


def test_what_is_read_one_by_one_takes_no_memory_when_it_is_finished() -> None:
    with takes_less_than(2_000_000):
        states = States(7)
        for _ in range(100):
            states.window.extend(bytes(50_000))
            for offset in range(states.end - 50_000, states.end, 1_000):
                assert states.get(offset) == UNFINISHED
            states.replace(UNFINISHED, max(states.end - 50_000, 8), states.end)
            assert states.cut() == 7
        assert states.end == 5_000_007
        assert list(states.runs()) == [(7, 8)]


def test_memory_follows_the_number_of_those_that_wait_far_apart() -> None:
    with takes_less_than(4_000_000):
        states = of_holes(10_000, FAR)
    assert states.unfinished() == 10_000


def test_those_that_wait_in_memory_keep_a_byte_each_which_is_quick() -> None:
    states = States(0)
    states.extend(UNFINISHED, 10 * WINDOW)
    for offset in range(1, 10 * WINDOW, 2):
        states.set(offset, FINISHED)
    assert (states.cut(), len(states.window)) == (0, 10 * WINDOW)
    states.replace(UNFINISHED, 1, 9 * WINDOW)
    states.cut()
    assert len(states.window) <= 2 * WINDOW


def test_what_is_busy_is_not_looked_at_again_for_each_gap_in_the_log() -> None:
    """It was: with inputs that are written by transactions, reading took up to forty times as long in a backlog."""
    looks, is_busy = 0, States._is_busy

    def counted(states: States) -> bool:
        nonlocal looks
        looks += 1
        return is_busy(states)

    states = States(0)
    with patch.object(States, "_is_busy", counted):
        for _ in range(2 * WINDOW // 10):
            states.window.extend(bytes(9))
            states.extend(FINISHED, 1)
        assert 0 < looks < 20
        states.replace(UNFINISHED, 1, states.end)
        states.extend(FINISHED, WINDOW)
    assert len(states.window) <= 2 * WINDOW


def test_when_all_behind_is_finished_nothing_of_it_is_kept() -> None:
    states = of_holes(1_000, 3 * WINDOW)
    for first, end in list(states.runs()):
        for offset in range(first, end):
            states.set(offset, SENT)
    assert states.finish_sent()
    assert states.cut() == states.end
    assert (len(states), len(states.window)) == (0, 0)


def test_segments_before_the_one_that_is_asked_for_are_not_walked_through() -> None:
    """It was the more the longer something waited: 4.4 ms for each partition of a commit after a day."""
    steps: list[object] = []

    class Counted(dict[int, Segment]):
        def __contains__(self, number: object) -> bool:
            steps.append(number)
            return super().__contains__(number)

        def __iter__(self) -> Iterator[int]:
            for number in super().__iter__():
                steps.append(number)
                yield number

        def items(self) -> Iterator[tuple[int, Segment]]:  # type: ignore[override]
            return ((number, self[number]) for number in self)

    states = of_holes(5_000, FAR)
    states._behind = Counted(states._behind)
    segments = range(0, FAR, 1 << BITS)
    assert None not in [states.next_unfinished(offset) for offset in segments[:-2]]
    assert len(steps) <= 2 * len(segments)


def test_where_nothing_is_to_be_finished_no_segment_is_made_anew() -> None:
    """Each was, for each marker of a transaction that was read again: minutes of a core after each rebalance."""
    states = of_holes(5_000, FAR)
    before = dict(states._behind)
    assert len(before) > 100
    found = [states.replace(state, at, at + 3) for at in range(1, FAR, 50_000) for state in (SHED, UNFINISHED)]
    assert not any(found)
    assert all(states._behind[number] is segment for number, segment in before.items())


@given(st.binary(max_size=40), st.integers(0, 400), st.integers(0, 30))
def test_any_bits_give_as_many_states_as_promised_or_none(bits: bytes, length: int, base: int) -> None:
    with small():
        try:
            loaded = States.of_bitmap(bits, base, length)
        except ValueError:
            assert int.from_bytes(bits).bit_length() - 1 > length
            return
        digits = bin(int.from_bytes(bits))[3:] if any(bits) else ""
        expected = bytes(FINISHED if digit == "0" else UNFINISHED for digit in digits)
        assert (loaded.base, bytes(loaded)) == (base, expected.ljust(length, b"\x01"))


def test_a_segment_is_as_small_as_can_be() -> None:
    size = 1 << BITS
    half = random.Random(1).sample(range(1, size), size // 2)
    with takes_less_than(20 * size):
        states = States(0)
        states.extend(UNFINISHED, 6 * size)
        for offset in half:
            states.set(offset, FINISHED)
        assert states.unfinished() == 6 * size - len(half)
        for offset in range(1, size):
            states.set(offset, FINISHED)
    assert next(states.runs()) == (0, 1)


def test_what_is_built_of_many_runs_is_looked_at_a_few_times_and_not_once_for_each() -> None:
    """A map of 200,000 messages that waited, cut where a log was, stopped the loop for more than two minutes."""
    with small(), patch.object(module, "BUSY", 8), patch.object(States, "_is_busy", return_value=True) as looks:
        states = States.of_runs(((at, at + 1) for at in range(0, 4_000, 2)), 0, 4_000)
        assert bytes(states.up_to(3_001)) == (b"\x00\x01" * 2_000)[:3_001]
        assert looks.call_count < 30


@pytest.mark.parametrize(("number", "apart", "letter"), [(4_000, 1_000, "G"), (5_000, 1_000, "R"), (5_000, 100, "B")])
def test_many_that_wait_far_apart_travel_as_runs_and_nearer_ones_as_a_bitmap(
    number: int, apart: int, letter: str
) -> None:
    """From 4,096 on each commit took a bit for every offset between them: 160 MB and half a second for 400 million."""
    with takes_less_than(4_000_000):
        states = of_holes(number, number * apart)
        tag, payload = packing.pack(states)
    assert tag == letter
    assert packing.unpack(tag + packing.as_text(payload), states.base, len(states)) == (states, b"")


def test_what_waits_over_hundreds_of_millions_of_offsets_takes_memory_by_its_number() -> None:
    with takes_less_than(4_000_000):
        tag, _ = packing.pack(of_holes(5_000, 8 * FAR))
    assert tag == "R"
