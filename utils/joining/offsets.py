"""What may be committed of one partition, and the map that travels in the commit.

Pure: no Kafka, no clock, no logging. Offsets count records as Kafka does: `position` is the offset to be read next,
a range is [first, end).
"""

import re
import zlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from utils.joining.arrivals import STEP, Arrivals, Step, halved
from utils.joining.layout import Layout
from utils.joining.packing import as_text, pack, pack_steps, unpack, unpack_steps
from utils.joining.shed import Shed
from utils.joining.states import FINISHED, SHED, UNFINISHED, States
from utils.joining.suspicion import Suspicion
from utils.topic_ids import identity

MAX_METADATA = 4095
"""Characters of commit metadata that a broker accepts with its default `offset.metadata.max.bytes` of 4,096
(measured: the client sends one character more)."""

MANY_LATER = 100  # records that were finished though they came later

_VERSION = "1"
_YEAR_1, _YEAR_10000 = -62_135_596_800_000, 253_402_300_800_000  # ms since the epoch: dates begin and end there
_NOT_KNOWN = 1 << 62  # as an offset: reading never comes there
_MAX_LENGTH = 1 << 40  # a map that claims more offsets than this is taken for damage
_MOST_STEPS = 1_000  # in a map: four times as many could be read
_FEWEST_STEPS = 8  # as few as these tell hardly more than the two times of the map


class PartitionOffsets:
    """Which offsets of one assigned partition are finished, from the committed one up to the last that is known.

    `base` is the lowest offset that is kept, `position` the next one to be read. Offsets between `position` and the end
    of the map that was loaded keep the state that the map gave them until they are read again. Three other things of a
    partition are not told here: what was read and not kept (`shed`), what is suspected of ending the process
    (`suspicion`), and how the topic is laid out (`layout`).
    """

    __slots__ = (
        "_known_end",
        "_loaded",
        "_loaded_epoch",
        "arrivals",
        "back_end",
        "epoch",
        "gone",
        "layout",
        "loaded_end",
        "log_end",
        "map_characters",
        "partition",
        "position",
        "shed",
        "states",
        "suspicion",
        "topic",
    )

    def __init__(
        self,
        topic: str,
        partition: int,
        layout: Layout,
        start: int,
        loaded: "OffsetMap | None" = None,
        now: float = 0.0,
    ) -> None:
        """`loaded` is the map of the last commit, whose times go on from `now` by the loop's clock.

        So what waits is as old as at the commit: clocks of hosts do not matter, nor how long nobody had the partition.
        """
        self.topic = topic
        self.partition = partition
        self.layout = layout
        self.position = start
        self.states = loaded.states.copy() if loaded else States(start)
        self._loaded = loaded
        self.loaded_end = self._known_end = self.states.end  # below it the map that was loaded speaks
        self.back_end = self.loaded_end  # below it a record that is read again may be of a group that was complete
        self.log_end = _NOT_KNOWN  # of the log, when the partition was assigned
        self.map_characters = 0  # of the last map that was made for a commit
        self.epoch = -1  # leader epoch of the last record below the end of the map; -1: not known
        self.gone = 0  # how many were waiting to be read again and are not in the log any more
        self.shed = Shed(start)
        self.suspicion = (
            Suspicion(loaded.starts, loaded.trying, loaded.hung, loaded.states.overtaken_by(MANY_LATER))
            if loaded
            else Suspicion()
        )
        epoch = self._loaded_epoch = int(now * 1000) - loaded.time_ms if loaded else 0  # in ms of the loop's clock
        steps = loaded.steps or [(start, loaded.time_ms)] if loaded else ()
        self.arrivals = Arrivals(self.loaded_end, [(offset, time + epoch) for offset, time in steps])

    @property
    def topic_id(self) -> str:
        return self.layout.topic_id

    @property
    def place(self) -> tuple[str, int, int, str, int]:
        """Where reading goes on, as the client takes it: with a leader epoch, by which it finds out that a log is cut.

        It knows none by itself until it has read a record. That of a later record tells as well.
        """
        return self.topic, self.partition, self.position, "", self.epoch

    @property
    def base(self) -> int:
        return self.states.base

    def read(self, offset: int) -> bool:
        """Note that reading has come to `offset`. True: it is unfinished, handle it. False: skip it."""
        if offset == self.position == self._known_end:
            self.position = self._known_end = offset + 1
            self.states.window.append(UNFINISHED)
            return True
        return self._read_known(offset)

    def read_run(self, run: Sequence[int]) -> bool:
        """`read` for a run of offsets at once. False, and nothing done: they are not all new and in a row."""
        first, end = run[0], run[-1] + 1
        if not first == self.position == self._known_end or end - first != len(run):
            return False
        self.position = self._known_end = end
        self.states.window.extend(bytes(len(run)))
        return True

    def skip_run(self, run: Sequence[int]) -> bool:
        """`read` for a run of offsets at once. False, and nothing done: they are not all finished and in a row."""
        first, end = run[0], run[-1] + 1
        if first < self.base or end > self._known_end or not first == self.position == end - len(run):
            return False
        if self.states.count(FINISHED, first, end) < len(run):
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
        state = self.states.get(offset)
        if offset >= self.shed.read_end:
            return state == UNFINISHED
        if state == SHED:
            self.states.set(offset, UNFINISHED)
            self.shed.no_more(1)
        return state == SHED

    def skip_to(self, position: int) -> int:
        """Finish [self.position, position), which the log does not hold (compaction, transaction markers, retention).

        Those of them that were waiting to be read again are counted in `gone` and returned.
        """
        first, end = max(self.position, self.base), min(position, self._known_end)
        again = min(max(first, self.shed.read_end), end)  # below it, unfinished offsets are in memory and stay so
        gone = self._finish_all(SHED, first, again)
        self.shed.no_more(gone)
        gone += self._finish_all(UNFINISHED, again, end)
        if position > self._known_end:
            self.states.extend(FINISHED, position - self._known_end)
            self._known_end = position
        self.position = max(self.position, position)
        self.gone += gone
        return gone

    def next_wanted(self) -> int:
        """The next offset to be read that is not known to be finished: the first new one, where all are."""
        unfinished = self.states.next_unfinished(self.position)
        return self._known_end if unfinished is None else unfinished

    def _finish_all(self, state: int, first: int, end: int) -> int:
        return self.states.replace(state, first, end) if first < end else 0

    def finish(self, offset: int) -> None:
        """The record at `offset`, read before, needs no further work: its result is safe, or there is none."""
        if offset >= self.base:
            self.states.set(offset, FINISHED)

    def finish_sent(self) -> None:
        """What was sent is safe."""
        if self.states.finish_sent():
            self.suspicion.note_finished(self.is_finished)

    def drop(self, offset: int, number: int) -> None:
        """There is no room for the record at `offset`, which was read: it stays unfinished and is to be read again.

        `number`: how many records were dropped so far, in all partitions, with this one.
        """
        self.states.set(offset, SHED)
        self.shed.add(number)

    def put_off(self, offset: int, number: int) -> None:
        """`drop` of a record whose group was complete, or that comes after such a one of its id."""
        self.back_end = max(self.back_end, offset + 1)
        self.drop(offset, number)

    def set_back(self) -> int:
        """Go on reading from the lowest offset that was shed; returns it."""
        self.shed.set_back(self.position)
        self.position = self.states.lowest_shed()
        return self.position

    @property
    def read_end(self) -> int:
        """How far reading has come, before it was set back."""
        return max(self.shed.read_end, self.position)

    def unread(self, end: int) -> int:
        """How many records below `end`, the end of the log, are to be read: those that were shed, too. Not those that
        are only passed once more: what the map calls finished, and what reading has come to before and is in memory.
        """
        again, known = self.read_end, max(self.loaded_end, self.read_end)
        unfinished = self.states.count(UNFINISHED, max(again, self.base), known) if again < self.loaded_end else 0
        return self.shed.count + unfinished + max(end - known, 0)

    def note_epoch(self, position: int, epoch: int | None) -> None:
        """The leader epoch of the last record before `position`, up to which reading has come."""
        if epoch is not None and position >= self._known_end:
            self.epoch = epoch

    def is_new(self, offset: int) -> bool:
        """Whether neither the map that was loaded nor an earlier reading knows this offset."""
        return offset >= self.loaded_end and offset >= self.shed.read_end

    def comes_back(self, offset: int) -> bool:
        """Whether the record there, which is unfinished, may be of a group that was complete before."""
        return offset < self.back_end

    def may_replay(self) -> bool:
        """Whether reading has yet to come to what `is_new`."""
        return not self.is_new(self.position)

    def first_arrival(self, offset: int, timestamp: float, epoch: float) -> float:
        """When a record that is read again arrived the first time, as far as its timestamp and what is known tell.

        By the loop's clock, in seconds. `timestamp` is that of the record, since 1970; of what was read since the
        assignment, `epoch` is what the loop's clock showed at its beginning.
        """
        first, last = self.arrivals.between(offset)
        if self._loaded and offset < self.loaded_end:
            epoch = self._loaded_epoch / 1000
            if not self._loaded.steps:
                first, last = epoch + self._loaded.oldest_ms / 1000, epoch + self._loaded.time_ms / 1000
        return min(max(epoch + timestamp, first), last)

    def note_arrivals(self, now: float) -> None:
        """What is read from here on for the first time arrives now. Once a second is enough."""
        self.arrivals.note(self.read_end, now)

    def lowest_unfinished(self) -> int:
        """The offset to commit: everything below it is finished."""
        return self.states.cut()

    @property
    def has_read_all(self) -> bool:
        """Whether all was read, and kept, that was there at the assignment."""
        return self.position >= self.log_end and not self.shed.count

    def confirm(self) -> None:
        """The last commit point has been committed."""
        self.suspicion.confirm()

    def end_in_order(self, is_idle: bool) -> None:
        """The assignment ends: see Suspicion. `is_idle`: no call runs, not even one of an assignment before."""
        self.suspicion.end_in_order(is_idle=is_idle, has_read_all=self.position >= self.loaded_end)

    def take_gone(self) -> int:
        """How many records were waiting to be read again and are not in the log any more; told once."""
        gone, self.gone = self.gone, 0
        return gone

    def is_finished(self, offset: int) -> bool:
        """Whether a record that was read needs no further work."""
        return offset < self.base or (offset < self._known_end and self.states.get(offset) == FINISHED)

    def unfinished(self) -> int:
        """How many known offsets are unfinished."""
        return self.states.unfinished()

    def commit_point(self, oldest_ms: int, now_ms: int, now: float = 0.0) -> "CommitPoint":
        """What to commit now. Its map may be longer than `MAX_METADATA`.

        `oldest_ms` as in OffsetMap; `now_ms` since the epoch is `now` by the loop's clock, by which arrivals are noted.
        """
        lowest, epoch = self.lowest_unfinished(), int(now * 1000) - now_ms
        if self._loaded and self.position < self.loaded_end:  # in the middle of a replay the oldest may be yet to come
            oldest_ms = min(oldest_ms, self._loaded.oldest_ms + self._loaded_epoch - epoch)
        starts, trying, hung = self.suspicion.in_commit(self.is_finished)
        steps = self._steps(oldest_ms, now_ms, epoch)
        head = self.topic_id, lowest, oldest_ms, now_ms, self.states, self.layout.joined_with
        offset_map = OffsetMap(*head, starts, trying, steps, hung)
        metadata = offset_map.encode()
        self.map_characters = len(metadata)
        return CommitPoint(self.topic, self.partition, lowest, metadata, self.epoch)

    def _steps(self, oldest_ms: int, now_ms: int, epoch: int) -> tuple[Step, ...]:
        """For the map; none where its two times tell the same, to the second. `epoch` by the loop's clock, in ms."""
        self.arrivals.forget_below(self.base)
        first_ms = self.arrivals.oldest_ms()
        if now_ms - min(oldest_ms, now_ms if first_ms is None else first_ms - epoch) <= STEP * 1000:
            return ()
        return tuple([(offset, time - epoch) for offset, time in self.arrivals.steps(self.states.next_unfinished)])


class Located(Protocol):
    """A record that was read: what it is told by."""

    @property
    def offsets(self) -> PartitionOffsets: ...
    @property
    def offset(self) -> int: ...


def mark(records: Iterable[Located], state: int) -> None:
    """Give the records of any partitions, all of them read before, the state FINISHED or SENT."""
    for record in records:
        states = record.offsets.states
        index = record.offset - states.first
        if index >= 0:
            states.window[index] = state
        elif record.offset >= states.base:
            states.set(record.offset, state)


class CommitPoint(NamedTuple):
    """The offset of a partition and the map that must travel with it, taken in one piece."""

    topic: str
    partition: int
    offset: int
    metadata: str
    epoch: int = -1
    """Leader epoch of the last record that the map knows: by it shows later whether the log is still the same."""


class OffsetMap(NamedTuple):
    """The states of the offsets from `base` on, as they travel in the metadata of a commit: finished, or not.

    `oldest_ms` is the arrival of the oldest waiting fragment, `time_ms` the time of the commit, in ms since the epoch.
    `joined_with` names all input topics of the worker (`JoinedWith`): another topic, seen later, is a new one.
    `starts`, `trying` and `hung`: see Suspicion (rule 13). `steps`: when what is unfinished arrived
    (`Arrivals`), in ms since the epoch; they travel in tenths of a second.
    """

    topic_id: str
    base: int
    oldest_ms: int
    time_ms: int
    states: States
    joined_with: str = ""
    starts: int = 0
    trying: int | None = None
    steps: tuple[Step, ...] = ()
    hung: tuple[tuple[int, int], ...] = ()

    def up_to(self, end: int) -> "OffsetMap":
        """What it says of the offsets below `end`, which is not below its base."""
        trying = self.trying if self.trying is None or self.trying < end else None
        steps = tuple(each for each in self.steps if each[0] < end)
        hung = tuple(each for each in self.hung if each[0] < end)
        return self._replace(states=self.states.up_to(end), trying=trying, steps=steps, hung=hung)

    def encode(self) -> str:
        """`version:topic id:joined with:base:oldest:time:length:payload:checksum`, all ASCII.

        With starts without progress, they and the record that is tried stand before the checksum: `3.17:`. There follow
        the records whose calls hung, with the attempts that had failed: `3.17.20*1,24*2:`. The steps
        follow the payload, which is deflated then: older versions do not look beyond its end. Where the map fits into a
        commit only with fewer of them, there are fewer. Where it does not with a few, it is too long for a commit:
        without any, all that waits would be as old as the oldest at the next start.
        """
        tag, packed = pack(self.states)
        plain = self._with(tag + as_text(packed))
        if not self.steps:
            return plain
        if tag.islower():
            tag, packed = tag.upper(), zlib.compress(packed)
        steps: Sequence[Step] = self.steps
        while len(steps) > _MOST_STEPS:
            steps = halved(steps)
        text = self._with(tag + as_text(packed + pack_steps(steps, self.base, self.time_ms)))
        while len(text) > MAX_METADATA >= len(plain) and len(steps) > _FEWEST_STEPS:
            steps = halved(steps)
            text = self._with(tag + as_text(packed + pack_steps(steps, self.base, self.time_ms)))
        return text

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
        if not (fields := _fields(text)):
            return None
        try:
            starts, trying, hung = [*(fields[8] if len(fields) == 9 else "0.").split("."), ""][:3]
            base, oldest_ms, time_ms, length = map(int, fields[3:7])
            if not 0 <= length <= _MAX_LENGTH or not all(_YEAR_1 <= ms < _YEAR_10000 for ms in (oldest_ms, time_ms)):
                return None
            states, rest = unpack(fields[7], base, length)
            head = identity(fields[1]), base, oldest_ms, time_ms, states, fields[2]
            steps, counts = unpack_steps(rest, base, time_ms), (int(starts), int(trying) if trying else None)
            if not all(_YEAR_1 <= ms < _YEAR_10000 for _, ms in steps):
                steps = ()
            return OffsetMap(*head, *counts, steps, _read_hung(hung))
        except (ValueError, IndexError, zlib.error):
            return None


def without_start(text: str | None, offset: int, of: PartitionOffsets) -> str | None:
    """The metadata of our last commit, of this offset, as if the start that it counts had not been.

    None where it counts none, or is somebody else's. For a worker that has failed in a process that lives on: who has
    the partition next may be another process, to which the count would say that this one has ended.
    """
    found = OffsetMap.decode(text, of.topic_id, offset)
    said = found and of.suspicion.without_this_start(found.starts, found.trying)
    return found._replace(starts=said[0], trying=said[1]).encode() if found and said else None


class MapHead(NamedTuple):
    """What is looked at of a map that others have committed. The states of one may take milliseconds to unpack."""

    topic_id: str
    joined_with: str

    @staticmethod
    def parse(text: str | None) -> "MapHead | None":
        """None for a text that is no map of ours. Never raises."""
        fields = _fields(text)
        return MapHead(identity(fields[1]), fields[2]) if fields else None


def _fields(text: str | None) -> list[str]:
    """Of a map of ours, as `OffsetMap.encode` has them, without the checksum; none of any other text."""
    body, _, found = (text or "").rstrip("\0").rpartition(":")
    fields = body.split(":")
    return fields if found == checksum(body) and len(fields) in {8, 9} and fields[0] == _VERSION else []


def _read_hung(text: str) -> tuple[tuple[int, int], ...]:
    pairs = [each.split("*") for each in text.split(",")] if text else []
    return tuple((int(offset), int(attempts)) for offset, attempts in pairs)


def topic_tags(topics: Iterable[str]) -> str:
    """Short names of topics for `OffsetMap.joined_with`, separated by dots."""
    return ".".join(sorted(short_name(topic) for topic in topics))


def short_name(name: str) -> str:
    """Of a topic or a cluster, as it travels in a commit."""
    return f"{zlib.crc32(name.encode()):08x}"


class JoinedWith(NamedTuple):
    """`OffsetMap.joined_with` as it is read.

    The topics' short names, which edition of the row names them, how many partitions the topic had whose commit it is,
    both hexadecimal, the version of the worker's frame, and the short name of the cluster on which it was made:
    `tags@edition/partitions~version#cluster`.
    """

    tags: str
    edition: int  # see Edition; 0: not known
    partitions: int = 0  # 0: not known
    frame: str = ""  # of letters, digits, dots, hyphens and plus signs; empty: not known
    cluster: str = ""  # empty: not known

    @staticmethod
    def parse(text: str) -> "JoinedWith":
        tags, _, rest = text.partition("@")
        found = re.fullmatch("([0-9a-f]+)(?:/([0-9a-f]+))?(?:~([A-Za-z0-9.+-]+))?(?:#([0-9a-f]+))?", rest)
        if not found:
            return JoinedWith(tags, 0)
        return JoinedWith(tags, int(found[1], 16), int(found[2] or "0", 16), found[3] or "", found[4] or "")

    def encode(self) -> str:
        partitions = f"/{self.partitions:x}" if self.partitions else ""
        rest = partitions + (f"~{self.frame}" if self.frame else "") + (f"#{self.cluster}" if self.cluster else "")
        return f"{self.tags}@{self.edition:x}{rest}" if self.edition or rest else self.tags

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
