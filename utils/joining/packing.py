"""States of offsets, and steps of arrivals, to text and back: what travels in the metadata of a commit.

Pure: no Kafka, no clock, no logging.
"""

import base64
import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, islice, pairwise, repeat

from utils.joining.arrivals import Step
from utils.joining.states import Run, States

_MAX_INFLATED = 1 << 27  # bytes: what a damaged or hostile payload may grow to
_FEW = 4096  # runs or gaps: beyond this many, a bitmap is smaller and faster, unless they lie far apart
_FAR_APART = (
    512  # offsets for each run: runs take half the bytes of a bitmap then, and not three times its CPU (measured)
)
_MOST_RUNS = 1 << 20  # that are read, each some 60 bytes meanwhile
_LONGEST_BITMAP = _MAX_INFLATED * 8  # offsets: of more, runs are the only way, however many they are
_FAR = 16  # bytes of a bitmap for each that runs or gaps take: with more it is never smaller, and slow
_TINY = 64  # bytes: nothing else is tried, nor is it deflated, when an encoding is this small
_VARINT_BYTES = 6
_MOST_UNFINISHED = 1 << 30  # that a map may claim: they take memory, and those between them none
_CONTINUED = bytes(range(128, 256))


def pack(states: States) -> tuple[str, bytes]:
    """A tiny encoding, or the smallest: its letter (a capital: deflated) and its bytes."""
    best = b""
    letter = ""
    for name, payload in _encodings(states):
        candidate, tag = payload, name
        if len(payload) > _TINY:  # at a low rate it hardly ever is, and to deflate takes longer than all the rest
            deflated = zlib.compress(payload, 1 if len(payload) > 1 << 16 else 6)
            if len(deflated) < len(payload):
                candidate, tag = deflated, name.upper()
        if not letter or len(candidate) < len(best):
            best, letter = candidate, tag
        if len(best) <= _TINY:
            break
    return letter, best


def as_text(data: bytes) -> str:
    """URL-safe, without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _encodings(states: States) -> Iterator[tuple[str, bytes]]:
    smallest = 0
    has_bitmap = len(states) <= _LONGEST_BITMAP
    most = min(max(_FEW, len(states) // _FAR_APART), _MOST_RUNS)
    runs = list(islice(states.runs(), most if has_bitmap else None))
    if len(runs) < most or not has_bitmap:
        by_runs = _varints(chain.from_iterable(_with_gaps(runs, states.base)))
        yield "r", by_runs
        smallest = len(by_runs)
        if sum([end - first for first, end in runs]) < _FEW:
            by_gaps = _varints(_gaps(runs, states.base))
            yield "g", by_gaps
            smallest = min(smallest, len(by_gaps))
    if has_bitmap and (not smallest or len(states) >> 3 <= _FAR * smallest):
        yield "b", states.bitmap()


def _with_gaps(runs: Iterable[Run], base: int) -> Iterator[tuple[int, int]]:
    """Lengths, in turn of what is finished (the first one perhaps 0) and of what is not."""
    for first, end in runs:
        yield first - base, end - first
        base = end


def _gaps(runs: Iterable[Run], base: int) -> Iterator[int]:
    """How many are finished before each that is not; and one 0 at the end."""
    for gap, length in _with_gaps(runs, base):
        yield gap
        yield from repeat(0, length - 1)
    yield 0


def unpack(payload: str, base: int, length: int) -> tuple[States, bytes]:
    """The states, and what follows them. Raises ValueError, IndexError, zlib.error."""
    tag, data = payload[0], base64.b64decode(payload[1:] + "=" * (-len(payload[1:]) % 4), altchars=b"-_", validate=True)
    rest = b""
    if tag.isupper():
        data, rest = _inflate(data)
    match tag.lower():
        case "r":
            return _of_runs(_read_varints(data, 2 * _MOST_RUNS), base, length), rest
        case "g":
            gaps = _read_varints(data, _FEW)
            return _of_runs([number for gap in gaps for number in (gap, 1)][:-1], base, length), rest
        case "b":
            return States.of_bitmap(data, base, length), rest
    raise ValueError(f"unknown encoding {tag!r}")


def _of_runs(runs: Sequence[int], base: int, length: int) -> States:
    if sum(runs) > length:
        raise ValueError("runs longer than the length says")
    if sum(runs[1::2]) > _MOST_UNFINISHED:
        raise ValueError("more is unfinished than any worker reads")
    ends = list(accumulate(runs, initial=base))
    return States.of_runs(zip(ends[1::2], ends[2::2], strict=False), base, base + length)


def _inflate(data: bytes) -> tuple[bytes, bytes]:
    """The data, and what follows its end."""
    inflater = zlib.decompressobj()
    inflated = inflater.decompress(data, _MAX_INFLATED)
    if not inflater.eof:
        raise ValueError("payload cut short or too large")
    return inflated, inflater.unused_data


def pack_steps(steps: Sequence[Step], base: int, time_ms: int) -> bytes:
    """How many; how long before the commit the first one began; then how far each other is from the one before it.

    In offsets and in tenths of a second. The first one holds for all from the base on.
    """
    places = [base, *[offset for offset, _ in steps[1:]]]
    # Rounded up: so restarts age nothing. What an older version has put together of clocks of hosts may not rise.
    tenths = [*accumulate([-(-time // 100) for _, time in reversed(steps)], min)][::-1]
    numbers = [len(steps), max(time_ms // 100 - tenths[0], 0)]
    for (offset, next_offset), (begin, end) in zip(pairwise(places), pairwise(tenths), strict=True):
        numbers += [next_offset - offset, end - begin]
    return _varints(numbers)


def unpack_steps(data: bytes, base: int, time_ms: int) -> tuple[Step, ...]:
    """None for anything else."""
    try:
        number, age, *deltas = _read_varints(data, 2 * _FEW)
    except ValueError:
        return ()
    if len(deltas) != 2 * (number - 1):
        return ()
    offsets = accumulate(deltas[::2], initial=base)
    tenths = accumulate(deltas[1::2], initial=time_ms // 100 - age)
    return tuple([(offset, tenth * 100) for offset, tenth in zip(offsets, tenths, strict=True)])


def _varints(numbers: Iterable[int]) -> bytes:
    """LEB128, as in Protocol Buffers."""
    packed = bytearray()
    for number in numbers:
        while number > 127:
            packed.append(number & 127 | 128)
            number >>= 7
        packed.append(number)
    return bytes(packed)


def _read_varints(data: bytes, most: int) -> list[int]:
    """No more than `most`: what is damaged or hostile must not take memory."""
    if data and data[-1] > 127:
        raise ValueError("last number cut short")
    if len(data.translate(None, _CONTINUED)) > most:
        raise ValueError("too many numbers")
    ends = [-1, *(index for index, byte in enumerate(data) if byte <= 127)]
    if len(ends) == len(data) + 1:
        return list(data)
    if max(end - before for before, end in pairwise(ends)) > _VARINT_BYTES:
        raise ValueError("a number is too long")
    return [
        sum((byte & 127) << 7 * place for place, byte in enumerate(data[before + 1 : end + 1]))
        for before, end in pairwise(ends)
    ]
