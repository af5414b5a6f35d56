"""The states of a range of offsets: a byte each at its end, where work goes on; before that, only what stands out.

Pure: no Kafka, no clock, no logging. A message may wait for hours while millions behind it are finished. So memory and
the cost of a commit follow the number of those that are not, and not how far apart they lie.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator

UNFINISHED, FINISHED, SHED, SENT = 0, 1, 2, 3
"""SHED: read, and dropped from memory. SENT: its results are on the way. Both are UNFINISHED in a map that travels."""

BITS = 16  # a segment holds 2**BITS offsets, which an array("H") can name
WINDOW = 2 << BITS  # offsets that have a byte each, and a few more between two commits
BUSY = 8  # more have one where one of so many waits in memory: that takes far more, and its missing part will soon come
_MOST = 1 << 24  # that have one, whatever a map claims
_LOOK = 256  # offsets that are looked at first, and then twice as many: mostly the one searched for is near
_NEAR = 8  # numbers of which one has a segment: then they are gone through quicker than the segments
_AS_DIGITS = bytes(48 if state == FINISHED else 49 for state in range(256))  # in a bitmap 1 means unfinished
_FROM_DIGITS = bytes.maketrans(b"10", b"\x00\x01")
_AT_REST = bytes((FINISHED, SHED))
_SENT_AS_FINISHED = bytes.maketrans(b"\x03", b"\x01")
_OTHER_THAN = {state: bytes(each != state for each in range(256)) for state in range(4)}
"""Tables that leave a 1 for each other state: then `find` goes a hundred times faster than a regular expression."""

Run = tuple[int, int]  # [first, end)


class States:
    """Of the offsets [base, end). Reads and writes of a single state take an offset that lies in there."""

    __slots__ = ("_behind", "_looked", "_sent", "base", "first", "window")

    def __init__(self, base: int) -> None:
        self.base = base
        self.first = base  # of the window; what lies before it is finished but for what stands in `_behind`
        self.window = bytearray()
        self._behind: dict[int, Segment] = {}  # by number, in order; only those with something unfinished
        self._sent: list[int] = []  # the offsets behind that were given that state
        self._looked = 0  # how long the window was when all of it was looked at, and it was busy

    @classmethod
    def of(cls, states: Iterable[int], base: int = 0) -> "States":
        made = cls(base)
        made.window.extend(states)
        made._settle()
        return made

    @classmethod
    def of_runs(cls, runs: Iterable[Run], base: int, end: int) -> "States":
        """Of [base, end): unfinished are those in `runs`, which stand in order. It settles seldom, for that is slow."""
        made, settled = cls(base), WINDOW
        for first, until in runs:
            made._append(FINISHED, first - made.end)
            made._append(UNFINISHED, until - first)
            if len(made.window) > 2 * settled:
                made._settle()
                settled = max(len(made.window), WINDOW)
        made.extend(FINISHED, end - made.end)
        return made

    def copy(self) -> "States":
        copied = States(self.base)
        copied.first, copied.window, copied._sent = self.first, self.window[:], self._sent[:]
        copied._behind = {number: segment.copy() for number, segment in self._behind.items()}
        return copied

    @property
    def end(self) -> int:
        return self.first + len(self.window)

    def __len__(self) -> int:
        return self.end - self.base

    def __iter__(self) -> Iterator[int]:
        return iter(bytes(self))

    def __bytes__(self) -> bytes:
        """All of them, one byte each: for tests, and to look at few."""
        states = bytearray(b"\x01") * max(self.first - self.base, 0)
        for first, end in self.runs() if states else ():
            begin, until = first - self.base, min(end, self.first) - self.base
            states[begin:until] = bytes(map(self.get, range(first, min(end, self.first))))
        return bytes(states) + bytes(self.window[max(self.base - self.first, 0) :])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, States) and (self.base, bytes(self)) == (other.base, bytes(other))

    __hash__ = None  # type: ignore[assignment]  # they change

    def extend(self, state: int, number: int) -> None:
        """So many more offsets at the end, all in this state."""
        self._append(state, number)
        if len(self.window) >= self._looked + self._looked // 8:  # each marker of a transaction comes here
            self._settle()

    def _append(self, state: int, number: int) -> None:
        size = 1 << BITS
        room = -self.end % size
        if number >= room + size and (state != UNFINISHED or number > _MOST):
            self.window += bytes((state,)) * room
            self._put_behind(self.end)
            whole = (number - room) // size
            if state != FINISHED:
                begin = self.first >> BITS
                self._behind.update((each, Sparse(state)) for each in range(begin, begin + whole))
            self.first += whole * size
            number -= room + whole * size
        self.window += bytes((state,)) * number

    def get(self, offset: int) -> int:
        if offset >= self.first:
            return self.window[offset - self.first]
        segment = self._behind.get(offset >> BITS)
        return segment.get(offset & (1 << BITS) - 1) if segment else FINISHED

    def set(self, offset: int, state: int) -> None:
        if offset >= self.first:
            self.window[offset - self.first] = state
        elif segment := self._behind.get(offset >> BITS):
            segment.set(offset & (1 << BITS) - 1, state)
            self._fit(offset >> BITS, segment)
            if state == SENT:
                self._sent.append(offset)

    def count(self, state: int, first: int, end: int) -> int:
        """How many of [first, end) are in this state."""
        behind = 0
        numbers = range(first >> BITS, (min(end, self.first) - 1 >> BITS) + 1 if first < self.first else 0)
        for number in numbers if state == FINISHED else self._segments_in(numbers):
            zero = number << BITS
            begin, until = max(first - zero, 0), min(min(end, self.first) - zero, 1 << BITS)
            segment = self._behind.get(number)
            behind += segment.count(state, begin, until) if segment else (until - begin) * (state == FINISHED)
        return behind + self.window.count(state, max(first - self.first, 0), max(end - self.first, 0))

    def replace(self, state: int, first: int, end: int) -> int:
        """Finish those of [first, end) that are in this state; how many they were."""
        replaced = 0
        for number in [*self._segments_in(range(first >> BITS, (min(end, self.first) - 1 >> BITS) + 1))]:
            zero = number << BITS
            begin, until = max(first - zero, 0), min(end - zero, 1 << BITS)
            if not (found := self._behind[number].count(state, begin, until)):
                continue  # as where a marker of a transaction was, which is the most frequent
            replaced += found
            states = self._behind[number].expanded()
            states[begin:until] = states[begin:until].replace(bytes((state,)), b"\x01")
            self._put(number, states)
        begin, until = max(first - self.first, 0), max(end - self.first, 0)
        replaced += self.window.count(state, begin, until)
        self.window[begin:until] = self.window[begin:until].replace(bytes((state,)), b"\x01")
        return replaced

    def finish_sent(self) -> bool:
        """Finish all that were sent; whether there were any."""
        sent, self._sent = [offset for offset in self._sent if self.get(offset) == SENT], []
        for offset in sent:
            self.set(offset, FINISHED)
        any_sent = bool(sent)
        if SENT in self.window:
            any_sent, self.window = True, self.window.translate(_SENT_AS_FINISHED)
        return any_sent

    def up_to(self, end: int) -> "States":
        """Those below `end`, which is not below the base."""
        return States.of_runs(((first, min(last, end)) for first, last in self.runs() if first < end), self.base, end)

    def cut(self) -> int:
        """Keep nothing below the lowest that is unfinished; returns it, or the end."""
        lowest = self.next_unfinished(self.base)
        self.base = self.end if lowest is None else lowest
        if not self._behind:
            del self.window[: self.base - self.first]
            self.first = self.base
        self._settle()
        return self.base

    def next_unfinished(self, offset: int) -> int | None:
        """The lowest that is unfinished, from this offset on."""
        for number in self._segments_in(range(offset >> BITS, self.first >> BITS)):
            zero = number << BITS
            if (at := self._behind[number].next_unfinished(max(offset - zero, 0))) is not None:
                return zero + at
        found = _next_other(self.window, FINISHED, max(offset - self.first, 0))
        return None if found is None else self.first + found

    def _segments_in(self, numbers: range) -> Iterator[int]:
        """The numbers of segments among these. Where there are many others, they are not walked through."""
        if len(numbers) > _NEAR * len(self._behind):
            return (each for each in self._behind if each in numbers)
        return filter(self._behind.__contains__, numbers)

    def lowest_shed(self) -> int:
        """The lowest that was shed. Raises ValueError where none was."""
        for number, segment in self._behind.items():
            if (at := segment.expanded().find(SHED)) >= 0:
                return (number << BITS) + at
        return self.first + self.window.index(SHED)

    def unfinished(self) -> int:
        """How many are."""
        behind = sum([segment.unfinished for segment in self._behind.values()])
        return behind + len(self.window) - self.window.count(FINISHED)

    def overtaken_by(self, number: int) -> int:
        """The end of the unfinished ones that so many finished ones come after, at least; 0: there are none."""
        later, overtaken, before = len(self) - self.unfinished(), 0, self.base
        for first, end in self.runs():
            later -= first - before
            if later < number:
                break
            overtaken, before = end, end
        return overtaken

    def runs(self) -> Iterator[Run]:
        """Of those that are unfinished, in order."""
        begin = end = self.base
        for first, until in self._pieces():
            if first > end:
                if end > begin:
                    yield begin, end
                begin = first
            end = until
        if end > begin:
            yield begin, end

    def bitmap(self) -> bytes:
        """A bit for each offset from the base on, up to the last that is unfinished or some more; 1 is unfinished.

        There is one more 1 before the first bit, and zeros before that.
        """
        digits = self.window.rstrip(b"\x01").translate(_AS_DIGITS)
        if self.first == self.base:
            return int(b"1" + digits, 2).to_bytes(len(digits) // 8 + 1) if digits else b""
        digits += b"0" * (-len(digits) % 8)  # a window with something before it begins with a whole byte
        empty = bytes(1 << BITS - 3)
        numbers = range(self.base >> BITS, self.first >> BITS)
        behind = b"".join([self._behind[each].packed() if each in self._behind else empty for each in numbers])
        begin = self.base & -8
        bits = bytearray(b"\x00" + behind[begin - (self.base >> BITS << BITS) >> 3 :] + _packed(digits))
        mark = 7 + self.base - begin
        bits[mark >> 3] |= 128 >> (mark & 7)
        beyond = begin + (len(bits) - 1 << 3) - self.end
        return bytes(bits) if beyond <= 0 else (int.from_bytes(bits) >> beyond).to_bytes(len(bits))

    @classmethod
    def of_bitmap(cls, bits: bytes, base: int, length: int) -> "States":
        """As `bitmap` has it; those that are missing up to the length are finished. Raises ValueError: too many."""
        value = int.from_bytes(bits)
        number = max(value.bit_length() - 1, 0)
        if number > length:
            raise ValueError("more states than the length says")
        made = cls(base)
        if number <= WINDOW or (number <= _MOST and value.bit_count() * BUSY >= number):
            made.window += bin(value)[3:].encode().translate(_FROM_DIGITS) if value else b""
        else:
            made._put_bits(value ^ 1 << number, number)
        made.extend(FINISHED, length - number)
        return made

    def _put_bits(self, value: int, number: int) -> None:
        """So many at the end, of a bit each, where nothing has been put yet."""
        size, zero = 1 << BITS, self.base >> BITS << BITS
        beyond = -(self.base + number) % size
        packed = (value << beyond).to_bytes(self.base + number + beyond - zero >> 3)
        for at in range(0, len(packed), size >> 3):
            bits = packed[at : at + (size >> 3)]
            if any(bits):
                self._put(zero + (at << 3) >> BITS, bytearray(_unpacked(bits)))
        self.first = self.base + number + beyond
        if beyond:  # the last one is not whole
            last = self._behind.pop(self.first - 1 >> BITS, None)
            states = last.expanded() if last else bytearray(b"\x01") * size
            self.first -= size
            self.window = states[: size - beyond]

    def _pieces(self) -> Iterator[Run]:
        """Runs of unfinished ones, some of them cut where a segment ends."""
        for number, segment in self._behind.items():
            zero = number << BITS
            for first, end in segment.runs():
                yield zero + first, zero + end
        for first, end in _runs(self.window):
            yield self.first + first, self.first + end

    def _settle(self) -> None:
        """Put what is far behind the end into segments."""
        self._looked = 0
        if len(self.window) <= WINDOW:
            return
        if self._is_busy():
            self._looked = len(self.window)
        else:
            self._put_behind((self.end >> BITS) - 1 << BITS)

    def _is_busy(self) -> bool:
        """Whether so many in the window are in memory that it is no waste, and quicker."""
        return len(self.window) <= _MOST and len(self.window.translate(None, _AT_REST)) * BUSY >= len(self.window)

    def _put_behind(self, end: int) -> None:
        """The part of the window up to this first offset of a segment."""
        while self.first < end:
            number = self.first >> BITS
            until = number + 1 << BITS
            states = self.window[: until - self.first]
            del self.window[: until - self.first]
            if SENT in states:
                self._sent += [until - len(states) + at for at, state in enumerate(states) if state == SENT]
            self._put(number, bytearray(b"\x01") * ((1 << BITS) - len(states)) + states)
            self.first = until

    def _put(self, number: int, states: bytearray) -> None:
        segment = segment_of(states)
        if segment:
            self._behind[number] = segment
        else:
            self._behind.pop(number, None)

    def _fit(self, number: int, segment: "Segment") -> None:
        """After a change: nothing is kept where all is finished, and a segment is dense where that is smaller."""
        if not segment.unfinished:
            del self._behind[number]
        elif segment.is_misfit():
            self._put(number, segment.expanded())


class Dense:
    """A segment with a byte for each offset."""

    __slots__ = ("_bits", "_states", "unfinished")

    def __init__(self, states: bytearray) -> None:
        self._states = states
        self.unfinished = _others(states, FINISHED)
        self._bits = bytearray()  # as `packed` returned it; empty before that

    def copy(self) -> "Dense":
        return Dense(self._states[:])

    def get(self, at: int) -> int:
        return self._states[at]

    def set(self, at: int, state: int) -> None:
        before, self._states[at] = self._states[at], state
        self.unfinished += _flip(self._bits, at, before, state)

    def count(self, state: int, first: int, end: int) -> int:
        return self._states.count(state, first, end)

    def next_unfinished(self, at: int) -> int | None:
        return _next_other(self._states, FINISHED, at)

    def runs(self) -> Iterator[Run]:
        return _runs(self._states)

    def expanded(self) -> bytearray:
        return self._states[:]

    def packed(self) -> bytearray:
        """A bit each: 1 is unfinished. Kept, for a commit follows the other."""
        if not self._bits:
            self._bits += _packed(self._states.translate(_AS_DIGITS))
        return self._bits

    def is_misfit(self) -> bool:
        return self.unfinished < _few() // 2


class Sparse:
    """A segment most of which is in one state: only the others have a place."""

    __slots__ = ("_bits", "_others", "_places", "_state", "unfinished")

    def __init__(self, state: int, places: Iterable[int] = (), others: Iterable[int] = ()) -> None:
        """`places`: in order, of those in other states, which `others` are."""
        self._state = state
        self._places, self._others = array("H", places), bytearray(others)
        finished = self._others.count(FINISHED) if state != FINISHED else (1 << BITS) - len(self._others)
        self.unfinished = (1 << BITS) - finished
        self._bits = bytearray()  # as `packed` returned it; empty before that

    def copy(self) -> "Sparse":
        return Sparse(self._state, self._places, self._others)

    def get(self, at: int) -> int:
        index = bisect_left(self._places, at)
        return self._others[index] if index < len(self._places) and self._places[index] == at else self._state

    def set(self, at: int, state: int) -> None:
        index = bisect_left(self._places, at)
        is_other = index < len(self._places) and self._places[index] == at
        before = self._others[index] if is_other else self._state
        if is_other and state == self._state:
            del self._places[index], self._others[index]
        elif is_other:
            self._others[index] = state
        elif state != self._state:
            self._places.insert(index, at)
            self._others.insert(index, state)
        self.unfinished += _flip(self._bits, at, before, state)

    def count(self, state: int, first: int, end: int) -> int:
        begin, until = bisect_left(self._places, first), bisect_left(self._places, end)
        usual = (end - first) - (until - begin) if state == self._state else 0
        return usual + self._others.count(state, begin, until)

    def next_unfinished(self, at: int) -> int | None:
        index = bisect_left(self._places, at)
        if self._state == FINISHED:
            return self._places[index] if index < len(self._places) else None
        while index < len(self._places) and self._places[index] == at and self._others[index] == FINISHED:
            index, at = index + 1, at + 1
        return at if at < 1 << BITS else None

    def runs(self) -> Iterator[Run]:
        if self._state == FINISHED:
            return ((at, at + 1) for at in self._places)
        return _runs(self.expanded())

    def expanded(self) -> bytearray:
        states = bytearray((self._state,)) * (1 << BITS)
        for at, state in zip(self._places, self._others, strict=True):
            states[at] = state
        return states

    def packed(self) -> bytearray:
        """A bit each: 1 is unfinished. Kept, for a commit follows the other."""
        if not self._bits:
            self._bits += _packed(self.expanded().translate(_AS_DIGITS))
        return self._bits

    def is_misfit(self) -> bool:
        return len(self._places) > 2 * _few()


Segment = Dense | Sparse


def segment_of(states: bytearray) -> Segment | None:
    """The smaller kind; None where all are finished."""
    for state in (FINISHED, SHED, UNFINISHED):
        others = _others(states, state)
        if not others and state == FINISHED:
            return None
        if others <= _few():
            places = [at for first, end in _runs(states, state) for at in range(first, end)]
            return Sparse(state, places, [states[at] for at in places])
    return Dense(states)


def _few() -> int:
    """Offsets of a segment, of 3 bytes each, which take less room than a byte for every one."""
    return 1 << BITS - 3


def _flip(bits: bytearray, at: int, before: int, state: int) -> int:
    """Note that the state has changed; how many more are unfinished now: -1, 0 or 1."""
    if (before == FINISHED) == (state == FINISHED):
        return 0
    if bits:
        bits[at >> 3] ^= 128 >> (at & 7)
    return -1 if state == FINISHED else 1


def _next_other(states: bytearray, state: int, at: int) -> int | None:
    """Where the first one from there on is that is in another state."""
    size = _LOOK
    while at < len(states):
        found = states[at : at + size].translate(_OTHER_THAN[state]).find(1)
        if found >= 0:
            return at + found
        at, size = at + size, size * 2
    return None


def _runs(states: bytearray, state: int = FINISHED) -> Iterator[Run]:
    """Of those in other states."""
    others, end = states.translate(_OTHER_THAN[state]), 0
    while (first := others.find(1, end)) >= 0:
        end = others.find(0, first)
        end = len(others) if end < 0 else end
        yield first, end


def _others(states: bytearray, state: int) -> int:
    """How many are in another state."""
    return states.translate(_OTHER_THAN[state]).count(1)


def _packed(digits: bytes | bytearray) -> bytes:
    """Of a multiple of 8 binary digits."""
    return int(digits, 2).to_bytes(len(digits) >> 3) if digits else b""


def _unpacked(bits: bytes) -> bytes:
    return bin(int.from_bytes(b"\x01" + bits))[3:].encode().translate(_FROM_DIGITS)
