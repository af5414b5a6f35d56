"""What may be committed of one partition, and the map that travels in the commit.

Pure: no Kafka, no clock, no logging. Offsets count records as Kafka does: `position` is the offset to be read next,
a range is [first, end). States are kept as one byte an offset, which lets C code search, count and pack them.
"""

import base64
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, islice, pairwise
from typing import NamedTuple, Protocol

from utils.arrivals import STEP, Arrivals, Step, halved

UNFINISHED, FINISHED, SHED, SENT = 0, 1, 2, 3
"""SHED: read, and dropped from memory. SENT: its results are on the way. Both are UNFINISHED in a map that travels."""

MAX_METADATA = 4095
"""Characters of commit metadata that a broker accepts with its default `offset.metadata.max.bytes` of 4,096
(measured: the client sends one character more)."""

MANY_LATER = 100  # records that were finished though they came later
MOST_HUNG = 32  # records of which a map says that their calls hung

_VERSION = "1"
_MAX_LENGTH = 1 << 30  # a map that claims more offsets than this is taken for damage
_MAX_INFLATED = 1 << 27  # bytes: what a damaged or hostile payload may grow to
_FEW = 4096  # runs or gaps: beyond this many, a bitmap is smaller and faster
_TINY = 64  # bytes: nothing else is tried, nor is it deflated, when an encoding is this small
_FEWEST_STEPS = 8  # as few as these tell hardly more than the two times of the map
_VARINT_BYTES = 6
_AS_DIGITS = bytes.maketrans(b"\x00\x01", b"10")  # in a bitmap 1 means unfinished
_FROM_DIGITS = bytes.maketrans(b"10", b"\x00\x01")
_AS_UNFINISHED = bytes.maketrans(b"\x02\x03", b"\x00\x00")
_SENT_AS_FINISHED = bytes.maketrans(b"\x03", b"\x01")
_UNFINISHED = re.compile(b"[^\x01]")
_UNFINISHED_RUN = re.compile(b"\x00+")


class PartitionOffsets:
    """Which offsets of one assigned partition are finished, from the committed one up to the last that is known.

    `base` is the lowest offset that is kept, `position` the next one to be read. Offsets between `position` and the end
    of the map that was loaded keep the state that the map gave them until they are read again.
    """

    __slots__ = (
        "_has_finished",
        "_in_commit",
        "_known_end",
        "_loaded",
        "_read_end",
        "_states",
        "apart",
        "arrivals",
        "base",
        "differs",
        "gone",
        "grown",
        "has_progressed",
        "holds_back",
        "hung",
        "joined_with",
        "left_behind",
        "loaded_end",
        "map_characters",
        "noted",
        "partition",
        "position",
        "shed",
        "shed_since",
        "starts",
        "topic",
        "topic_id",
        "topic_partitions",
        "tried",
        "trying",
    )

    def __init__(
        self,
        topic: str,
        partition: int,
        topic_id: str,
        start: int,
        loaded: "OffsetMap | None" = None,
        joined_with: str = "",
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.topic_id = topic_id
        self.topic_partitions = 0  # how many partitions the topic has; 0: not known
        self.joined_with = joined_with
        self.differs = False  # commits of the group name other input topics: its workers may not have the same ones
        self.grown = False  # the topic has more partitions than when the group last committed
        self.base = self.position = start
        self._loaded = loaded
        self.loaded_end = start + len(loaded.states) if loaded else start  # below it the map that was loaded speaks
        self.map_characters = 0  # of the last map that was made for a commit
        self.gone = 0  # how many were waiting to be read again and are not in the log any more
        self.shed = 0  # how many offsets were read, not kept, and must be read again
        self.shed_since: int | None = None  # the first drop since reading was last set back, by its number
        self.starts = loaded.starts + 1 if loaded else 1  # in a row, this one too, without an orderly end or progress
        self.tried = loaded.trying if loaded else None  # the record of the group that was run alone when all ended
        self.trying: int | None = None  # of the first group of those that are run apart from the others
        self.apart = 0  # how many they are: commits name the one that is run alone
        self.holds_back = False  # groups that were to run apart have not run
        self.hung = dict(loaded.hung) if loaded else {}  # records whose calls hung, and how many attempts had failed
        left_behind = _left_behind(loaded.states) if loaded else 0
        self.left_behind = start + left_behind if left_behind else 0
        """Below it, what was unfinished when the commit was made had been left behind by many others. 0: nothing is."""
        self.noted: int | None = None  # what `trying` was in the last commit that was confirmed
        self.has_progressed = False  # a record that was read has been finished by a commit that was confirmed
        self._has_finished = False  # one has been, and the next commit says so
        self._in_commit: tuple[int | None, bool] = None, False  # `trying` and `_has_finished`
        self._states = bytearray(loaded.states if loaded else b"")
        self._known_end = start + len(self._states)
        before = loaded.steps or [(start, loaded.time_ms)] if loaded else ()
        self.arrivals = Arrivals(self.loaded_end, before)
        self._read_end = start  # below it everything has been read before, when position has been set back

    def go_on_as(self, before: "Standing") -> None:
        """The process that reads this partition has not ended since: its start is counted once."""
        self.starts, self.tried = before

    @property
    def standing(self) -> "Standing":
        return Standing(self.starts, self.tried)

    def read(self, offset: int) -> bool:
        """Note that reading has come to `offset`. True: it is unfinished, handle it. False: skip it."""
        if offset == self.position == self._known_end:
            self.position = self._known_end = offset + 1
            self._states.append(UNFINISHED)
            return True
        return self._read_known(offset)

    def read_run(self, run: Sequence[int]) -> bool:
        """`read` for a run of offsets at once. False, and nothing done: they are not all new and in a row."""
        first, end = run[0], run[-1] + 1
        if not first == self.position == self._known_end or end - first != len(run):
            return False
        self.position = self._known_end = end
        self._states.extend(bytes(len(run)))
        return True

    def skip_run(self, run: Sequence[int]) -> bool:
        """`read` for a run of offsets at once. False, and nothing done: they are not all finished and in a row."""
        first, end = run[0], run[-1] + 1
        if first < self.base or end > self._known_end or not first == self.position == end - len(run):
            return False
        if self._states.count(FINISHED, first - self.base, end - self.base) < len(run):
            return False
        self.position = end
        return True

    def _read_known(self, offset: int) -> bool:
        if offset < self.position:
            return False
        self.skip_to(offset)
        if offset == self._known_end:
            return self.read(offset)
        self.position = offset + 1
        if offset < self.base:
            return False
        state = self._states[offset - self.base]
        if offset >= self._read_end:
            return state == UNFINISHED
        if state == SHED:
            self._states[offset - self.base] = UNFINISHED
            self._shed_no_more(1)
        return state == SHED

    def skip_to(self, position: int) -> int:
        """Finish [self.position, position), which the log does not hold (compaction, transaction markers, retention).

        Those of them that were waiting to be read again are counted in `gone` and returned.
        """
        first, end = max(self.position, self.base), min(position, self._known_end)
        again = min(max(first, self._read_end), end)  # below it, unfinished offsets are in memory and stay so
        gone = self._finish_all(SHED, first, again)
        self._shed_no_more(gone)
        gone += self._finish_all(UNFINISHED, again, end)
        if position > self._known_end:
            self._states.extend(b"\x01" * (position - self._known_end))
            self._known_end = position
        self.position = max(self.position, position)
        self.gone += gone
        return gone

    def _shed_no_more(self, number: int) -> None:
        self.shed -= number
        if not self.shed:  # also what was dropped ahead of reading, since it was set back
            self.shed_since = None

    def _finish_all(self, state: int, first: int, end: int) -> int:
        if first >= end:
            return 0
        states = self._states[first - self.base : end - self.base]
        self._states[first - self.base : end - self.base] = states.replace(bytes((state,)), b"\x01")
        return states.count(state)

    def finish(self, offset: int) -> None:
        """The record at `offset`, read before, needs no further work: its result is safe, or there is none."""
        if offset >= self.base:
            self._states[offset - self.base] = FINISHED

    def finish_sent(self) -> None:
        """What was sent is safe: this is progress, which ends the count of starts unless groups are run apart."""
        if SENT in self._states:
            self._has_finished = True
            self.starts = self.starts if self.apart else 0
        self._states = self._states.translate(_SENT_AS_FINISHED)

    def drop(self, offset: int, number: int) -> None:
        """There is no room for the record at `offset`, which was read: it stays unfinished and is to be read again.

        `number`: how many records were dropped so far, in all partitions, with this one.
        """
        self._states[offset - self.base] = SHED
        self.shed += 1
        self.shed_since = number if self.shed_since is None else min(self.shed_since, number)

    def set_back(self) -> int:
        """Go on reading from the lowest offset that was shed; returns it."""
        self._read_end = self.read_end
        self.position = self.base + self._states.index(SHED)
        self.shed_since = None
        return self.position

    @property
    def read_end(self) -> int:
        """How far reading has come, before it was set back."""
        return max(self._read_end, self.position)

    def is_new(self, offset: int) -> bool:
        """Whether neither the map that was loaded nor an earlier reading knows this offset."""
        return offset >= self.loaded_end and offset >= self._read_end

    def may_replay(self) -> bool:
        """Whether reading has yet to come to what `is_new`."""
        return not self.is_new(self.position)

    def first_arrival(self, offset: int, timestamp: float, epoch: float) -> float:
        """When a record that is read again arrived the first time, as far as its timestamp and what is known tell.

        All in seconds of the loop's clock; `epoch` is what that clock showed at the epoch of the map's times.
        """
        if self._loaded and offset < self.loaded_end and not self._loaded.steps:
            first, last = epoch + self._loaded.oldest_ms / 1000, epoch + self._loaded.time_ms / 1000
        else:
            first, last = self.arrivals.between(offset, epoch)
        return min(max(timestamp, first), last)

    def note_arrivals(self, now: float) -> None:
        """What is read from here on for the first time arrives now. Once a second is enough."""
        self.arrivals.note(self.read_end, now)

    def lowest_unfinished(self) -> int:
        """The offset to commit: everything below it is finished."""
        unfinished = _UNFINISHED.search(self._states)
        finished = unfinished.start() if unfinished else len(self._states)
        del self._states[:finished]
        self.base += finished
        return self.base

    def confirm(self) -> None:
        """The last commit point has been committed."""
        self.noted, self.has_progressed = self._in_commit

    @property
    def remembers(self) -> bool:
        """Whether the map that was loaded tells of calls that failed."""
        return bool(self.hung or self.left_behind)

    @property
    def has_news(self) -> bool:
        """Whether groups are to be run apart, after the next commit."""
        return self.trying != self.noted

    def end_in_order(self, is_idle: bool) -> None:
        """What is in process() now has not ended the process; where it `is_idle`, nothing can any more.

        Where not all that was to be read again was, or groups were held back, this start has shown nothing: it is not
        counted.
        """
        self.apart, self.trying = 0, None
        if is_idle:
            has_shown = self.position >= self.loaded_end and not self.holds_back
            self.starts = 0 if has_shown else self.starts - 1

    def _is_finished(self, offset: int) -> bool:
        index = offset - self.base
        return index < 0 or self._states[index : index + 1] == b"\x01"

    def unfinished(self) -> int:
        """How many known offsets are unfinished."""
        return len(self._states) - self._states.count(FINISHED)

    def commit_point(self, oldest_ms: int, now_ms: int, now: float = 0.0) -> "CommitPoint":
        """What to commit now. Its map may be longer than `MAX_METADATA`.

        `oldest_ms` as in OffsetMap; `now_ms` since the epoch is `now` by the loop's clock, by which arrivals are noted.
        """
        lowest = self.lowest_unfinished()
        if self._loaded and self.position < self.loaded_end:  # in the middle of a replay the oldest may be yet to come
            oldest_ms = min(oldest_ms, self._loaded.oldest_ms)
        states = bytes(self._states.translate(_AS_UNFINISHED))
        if self.tried is not None and self._is_finished(self.tried):
            self.tried = None
        self._in_commit = self.trying, self._has_finished
        alone = self.trying if self.apart == 1 else None
        trying = self.tried if alone is None or self._is_finished(alone) else alone
        steps = self._steps(oldest_ms, now_ms, now)
        self.hung = {offset: number for offset, number in self.hung.items() if not self._is_finished(offset)}
        hung = tuple(islice(self.hung.items(), MOST_HUNG))
        head = self.topic_id, lowest, oldest_ms, now_ms, states, self.joined_with
        offset_map = OffsetMap(*head, self.starts, trying, steps, hung)
        metadata = offset_map.encode()
        self.map_characters = len(metadata)
        return CommitPoint(self.topic, self.partition, lowest, metadata)

    def _steps(self, oldest_ms: int, now_ms: int, now: float) -> tuple[Step, ...]:
        """For the map; none where its two times alone tell the same, to the second."""
        self.arrivals.forget_below(self.base)
        if now_ms - min(oldest_ms, self.arrivals.oldest_ms(now, now_ms)) <= STEP * 1000:
            return ()
        return tuple(self.arrivals.steps(now, now_ms, self._next_unfinished))

    def _next_unfinished(self, offset: int) -> int | None:
        found = _UNFINISHED.search(self._states, max(offset - self.base, 0))
        return self.base + found.start() if found else None


class Located(Protocol):
    """A record that was read: what it is told by."""

    @property
    def offsets(self) -> PartitionOffsets: ...
    @property
    def offset(self) -> int: ...


def mark(records: Iterable[Located], state: int) -> None:
    """Give the records of any partitions, all of them read before, the state FINISHED or SENT."""
    for record in records:
        offsets = record.offsets
        index = record.offset - offsets.base
        if index >= 0:
            offsets._states[index] = state


class Standing(NamedTuple):
    """What rule 13 knows of a partition: see PartitionOffsets."""

    starts: int
    tried: int | None


class CommitPoint(NamedTuple):
    """The offset of a partition and the map that must travel with it, taken in one piece."""

    topic: str
    partition: int
    offset: int
    metadata: str


class OffsetMap(NamedTuple):
    """The states of the offsets from `base` on, one byte each, as they travel in the metadata of a commit.

    `oldest_ms` is the arrival of the oldest waiting fragment, `time_ms` the time of the commit, in ms since the epoch.
    `joined_with` names all input topics of the worker (`JoinedWith`): another topic, seen later, is a new one.
    `starts`, `trying` and `hung`: see PartitionOffsets (rule 13). `steps`: when what is unfinished arrived
    (`Arrivals`), in ms since the epoch; they travel in tenths of a second.
    """

    topic_id: str
    base: int
    oldest_ms: int
    time_ms: int
    states: bytes
    joined_with: str = ""
    starts: int = 0
    trying: int | None = None
    steps: tuple[Step, ...] = ()
    hung: tuple[tuple[int, int], ...] = ()

    def encode(self) -> str:
        """`version:topic id:joined with:base:oldest:time:length:payload:checksum`, all ASCII.

        With starts without progress, they and the record that is tried stand before the checksum: `3.17:`. There follow
        the records whose calls hung, with the attempts that had failed: `3.17.20*1,24*2:`. The steps
        follow the payload, which is deflated then: older versions do not look beyond its end. Where the map fits into a
        commit only with fewer of them, there are fewer, or none.
        """
        tag, packed = _pack(self.states.rstrip(b"\x01"))  # what is missing up to the length is finished
        plain = self._with(tag + _base64(packed))
        if not self.steps:
            return plain
        if tag.islower():
            tag, packed = tag.upper(), zlib.compress(packed)
        steps: Sequence[Step] = self.steps
        text = self._with(tag + _base64(packed + _pack_steps(steps, self.base, self.time_ms)))
        while len(text) > MAX_METADATA >= len(plain) and len(steps) > _FEWEST_STEPS:
            steps = halved(steps)
            text = self._with(tag + _base64(packed + _pack_steps(steps, self.base, self.time_ms)))
        return plain if len(text) > MAX_METADATA >= len(plain) else text

    def _with(self, payload: str) -> str:
        head = f"{_VERSION}:{self.topic_id}:{self.joined_with}:{self.base}:{self.oldest_ms}:{self.time_ms}"
        body = f"{head}:{len(self.states)}:{payload}"
        if self.starts or self.trying is not None or self.hung:
            body += f":{self.starts}.{'' if self.trying is None else self.trying}"
        if self.hung:
            body += "." + ",".join(f"{offset}*{attempts}" for offset, attempts in self.hung)
        return f"{body}:{checksum(body)}"

    @staticmethod
    def decode(text: str | None, topic_id: str, committed: int) -> "OffsetMap | None":
        """The map in the metadata of a commit; None when it is not one of ours for this very topic and offset.

        Never raises. A trailing NUL, which some brokers and clients return, is tolerated.
        """
        found = OffsetMap.parse(text)
        return found if found and (found.topic_id, found.base) == (topic_id, committed) else None

    @staticmethod
    def parse(text: str | None) -> "OffsetMap | None":
        """A map of ours, of whichever topic and offset; None for any other text. Never raises."""
        body, _, found = (text or "").rstrip("\0").rpartition(":")
        fields = body.split(":")
        if found != checksum(body) or len(fields) not in {8, 9} or fields[0] != _VERSION:
            return None
        try:
            starts, trying, hung = [*(fields[8] if len(fields) == 9 else "0.").split("."), ""][:3]
            base, oldest_ms, time_ms, length = map(int, fields[3:7])
            if not 0 <= length <= _MAX_LENGTH:
                return None
            states, rest = _unpack(fields[7], length)
            head = fields[1], base, oldest_ms, time_ms, states, fields[2]
            steps, counts = _unpack_steps(rest, base, time_ms), (int(starts), int(trying) if trying else None)
            return OffsetMap(*head, *counts, steps, _read_hung(hung))
        except (ValueError, IndexError, zlib.error):
            return None


def _left_behind(states: bytes) -> int:
    """How many of these are before so many finished ones that it is no chance."""
    end = len(states)
    for _ in range(MANY_LATER):
        end = max(states.rfind(FINISHED, 0, end), 0)
    return end if UNFINISHED in states[:end] else 0


def _read_hung(text: str) -> tuple[tuple[int, int], ...]:
    pairs = [each.split("*") for each in text.split(",")] if text else []
    return tuple((int(offset), int(attempts)) for offset, attempts in pairs)


def topic_tags(topics: Iterable[str]) -> str:
    """Short names of topics for `OffsetMap.joined_with`, separated by dots."""
    return ".".join(sorted(f"{zlib.crc32(topic.encode()):08x}" for topic in topics))


class JoinedWith(NamedTuple):
    """`OffsetMap.joined_with` as it is read.

    The topics' short names, which edition of the row names them, and how many partitions the topic had whose commit it
    is: `tags@edition/partitions`, both hexadecimal.
    """

    tags: str
    edition: int  # see Edition; 0: not known
    partitions: int = 0  # 0: not known

    @staticmethod
    def parse(text: str) -> "JoinedWith":
        tags, _, rest = text.partition("@")
        found = re.fullmatch("([0-9a-f]+)(?:/([0-9a-f]+))?", rest)
        return JoinedWith(tags, int(found[1], 16), int(found[2] or "0", 16)) if found else JoinedWith(tags, 0)

    def encode(self) -> str:
        partitions = f"/{self.partitions:x}" if self.partitions else ""
        return f"{self.tags}@{self.edition:x}{partitions}" if self.edition or partitions else self.tags

    def names(self, topic: str) -> bool:
        return topic_tags([topic]) in self.tags.split(".")


class Edition:
    """Which edition of its row a worker works by, as the group counts them. No clock of a host has a part in it.

    A row that was read after a commit had been seen is newer than the row of that commit, or it is the same one. So an
    edition has a higher number than all that were seen in commits before the row was read. 0: there is no row.
    """

    __slots__ = ("number",)

    def __init__(self, number: int = 0) -> None:
        self.number = number

    def comes_after(self, other: int) -> None:
        """The row was read after that one had been seen."""
        self.number = max(self.number, other + 1)


def checksum(body: str) -> str:
    """Guards what travels in the metadata of a commit against damage."""
    return f"{zlib.crc32(body.encode('utf-8', 'surrogatepass')):08x}"


def _pack(states: bytes) -> tuple[str, bytes]:
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


def _base64(data: bytes) -> str:
    """URL-safe, without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _encodings(states: bytes) -> Iterator[tuple[str, bytes]]:
    if states.count(b"\x00\x01") < _FEW:
        yield "r", _varints(_runs(states))
    if states.count(b"\x00") < _FEW:
        yield "g", _varints(map(len, states.split(b"\x00")))
    digits = states.translate(_AS_DIGITS)
    yield "b", int(b"1" + digits, 2).to_bytes(len(digits) // 8 + 1) if digits else b""


def _runs(states: bytes) -> Iterator[int]:
    """Lengths of the runs, in turn finished (the first one perhaps 0) and unfinished."""
    end = 0
    for run in _UNFINISHED_RUN.finditer(states):
        yield run.start() - end
        end = run.end()
        yield end - run.start()


def _unpack(payload: str, length: int) -> tuple[bytes, bytes]:
    """The states, and what follows them."""
    tag, data = payload[0], base64.b64decode(payload[1:] + "=" * (-len(payload[1:]) % 4), altchars=b"-_", validate=True)
    rest = b""
    if tag.isupper():
        data, rest = _inflate(data)
    match tag.lower():
        case "r":
            states = _from_runs(_read_varints(data), length)
        case "g":
            states = _from_gaps(_read_varints(data), length)
        case "b":
            states = bin(int.from_bytes(data))[3:].encode().translate(_FROM_DIGITS) if data else b""
        case _:
            raise ValueError(f"unknown encoding {tag!r}")
    if len(states) > length:
        raise ValueError("more states than the length says")
    return states + b"\x01" * (length - len(states)), rest


def _from_runs(runs: list[int], length: int) -> bytes:
    if sum(runs) > length:
        raise ValueError("runs longer than the length says")
    return b"".join((b"\x00" if index % 2 else b"\x01") * run for index, run in enumerate(runs))


def _from_gaps(gaps: list[int], length: int) -> bytes:
    if sum(gaps) + len(gaps) - 1 > length:
        raise ValueError("gaps longer than the length says")
    return b"\x00".join(b"\x01" * gap for gap in gaps)


def _inflate(data: bytes) -> tuple[bytes, bytes]:
    """The data, and what follows its end."""
    inflater = zlib.decompressobj()
    inflated = inflater.decompress(data, _MAX_INFLATED)
    if not inflater.eof:
        raise ValueError("payload cut short or too large")
    return inflated, inflater.unused_data


def _pack_steps(steps: Sequence[Step], base: int, time_ms: int) -> bytes:
    """How many; how long before the commit the first one began; then how far each other is from the one before it.

    In offsets and in tenths of a second. The first one holds for all from the base on.
    """
    places = [base, *[offset for offset, _ in steps[1:]]]
    tenths = [*accumulate([time // 100 for _, time in reversed(steps)], min)][::-1]  # clocks of hosts may differ
    numbers = [len(steps), max(time_ms // 100 - tenths[0], 0)]
    for (offset, next_offset), (begin, end) in zip(pairwise(places), pairwise(tenths), strict=True):
        numbers += [next_offset - offset, end - begin]
    return _varints(numbers)


def _unpack_steps(data: bytes, base: int, time_ms: int) -> tuple[Step, ...]:
    """None for anything else."""
    try:
        number, age, *deltas = _read_varints(data)
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


def _read_varints(data: bytes) -> list[int]:
    if data and data[-1] > 127:
        raise ValueError("last number cut short")
    ends = [-1, *(index for index, byte in enumerate(data) if byte <= 127)]
    if len(ends) == len(data) + 1:
        return list(data)
    if max(end - before for before, end in pairwise(ends)) > _VARINT_BYTES:
        raise ValueError("a number is too long")
    return [
        sum((byte & 127) << 7 * place for place, byte in enumerate(data[before + 1 : end + 1]))
        for before, end in pairwise(ends)
    ]
