"""The dead letters of many consumers: how many are neither replayed nor discarded, and what the newest one says.

Reads only, and joins no consumer group. Of a topic with very many of them only the last ones are read; the others are
counted by their offsets, with markers of transactions among them. Rights: READ of these topics.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaException

from utils.joining.dead_letters import PROCESS_FAILED, Contents, read
from utils.joining.messages import read_each
from utils.joining.offsets import OffsetMap
from utils.joining.progress import Log
from utils.joining.states import FINISHED
from utils.kafka.groups import Commits
from utils.kafka.ranges import Range, Reading

MOST = 500  # offsets of a partition that are read

Partition = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Letters:
    """Those of one consumer that nobody has dealt with. Not `exact`: about so many. The rest: of the newest one."""

    count: int
    exact: bool = True
    time: str = ""  # ISO 8601
    reason: str = ""
    error: str = ""  # class and message, or the topics that were missing


class Pile(NamedTuple):
    """The dead letters of a consumer, where they lie, and what the consumer group that replays them has committed."""

    consumer: str
    topic: str
    logs: Mapping[int, Log]  # by partition number
    done: Commits


def letters(
    make_consumer: Callable[[], Consumer],
    piles: Iterable[Pile],
    deadline: float,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Letters]:
    """By consumer. Where reading does not come to its end in time, or is forbidden, what is known by the offsets."""
    counts = [_Count(pile) for pile in piles]
    if any(each.first for each in counts):
        consumer = make_consumer()
        try:
            _read(consumer, counts, deadline, clock)
        finally:
            consumer.close()
    return {each.pile.consumer: each.result() for each in counts}


def _read(consumer: Consumer, counts: Sequence["_Count"], deadline: float, clock: Callable[[], float]) -> None:
    by_topic: dict[str, list[_Count]] = {}
    ranges: dict[Partition, Range] = {}
    for each in counts:
        by_topic.setdefault(each.pile.topic, []).append(each)
        for number, first in each.first.items():
            at = each.pile.topic, number
            ranges[at] = min(first, ranges.get(at, (first,))[0]), each.pile.logs[number].end
    reading = Reading(consumer, ranges, deadline, clock)
    with suppress(KafkaException):
        for records in reading:
            for record, headers in zip(records, read_each("headers", records)[0], strict=True):
                if found := read(record.key(), record.value(), headers):
                    for each in by_topic[str(record.topic())]:
                        each.add(int(record.partition() or 0), int(record.offset() or 0), found)
    for each in counts:
        each.rest = {number for number in each.first if (each.pile.topic, number) in reading.rest}


class _Count:
    """On the way to `Letters`."""

    def __init__(self, pile: Pile) -> None:
        self.pile = pile
        self.first: dict[int, int] = {}  # from where on a partition is to be read
        self.rest: set[int] = set()  # those that were not read to their end
        self._maps = {number: _map(pile.done, (pile.topic, number)) for number in pile.logs}
        self._older = 0  # below `first`, by their offsets
        self._seen = 0  # those that were read, of whichever consumer
        self._from_there: dict[int, int] = {}  # the others, by theirs
        self._read: dict[int, int] = {}
        self._newest: tuple[str, Contents] | None = None
        for number, log in pile.logs.items():
            commit = pile.done.get((pile.topic, number))
            undone = max(log.begin, commit.offset if commit else 0)
            if undone < log.end:
                self.first[number] = max(undone, log.end - MOST)
                self._from_there[number] = self._open(number, self.first[number], log.end)
                self._older += self._open(number, undone, self.first[number])

    def _open(self, number: int, first: int, end: int) -> int:
        """How many offsets of [first, end) are not known to be done with."""
        known = self._maps[number]
        until = min(end, known.states.end) if known else first
        done = known.states.count(FINISHED, first, until) if known and first < until else 0
        return end - first - done

    def add(self, number: int, offset: int, found: Contents) -> None:
        if offset < self.first.get(number, offset + 1):
            return
        self._seen += 1
        if not found.is_of(self.pile.consumer):
            return
        known = self._maps[number]
        if known and offset < known.states.end and known.states.get(offset) == FINISHED:
            return
        self._read[number] = self._read.get(number, 0) + 1
        written = found.about.get("time", "")
        if self._newest is None or written >= self._newest[0]:
            self._newest = written, found

    def result(self) -> Letters:
        known = sum(self._from_there[at] if at in self.rest else self._read.get(at, 0) for at in self.first)
        exact = not self._older and not self.rest
        known += self._share(self._older)
        if self._newest is None:
            return Letters(known, exact)
        time, newest = self._newest
        # What process() has raised may quote the message, and the page has no login.
        message = "" if newest.reason == PROCESS_FAILED else newest.about.get("error.message", "")
        error = f"{newest.about.get('error.class', '')}: {message}".strip(": ")
        missing = newest.about.get("missing.topics", "")
        said = error or (f"nothing came on {missing}" if missing else "")
        return Letters(known, exact, time, newest.reason, said)

    def _share(self, number: int) -> int:
        """How many of so many are this consumer's: others may share the topic. As among those that were read."""
        return number * sum(self._read.values()) // self._seen if self._seen else number


def _map(done: Commits, at: Partition) -> OffsetMap | None:
    commit = done.get(at)
    found = OffsetMap.parse(commit.metadata) if commit else None
    return found if found and commit and found.base == commit.offset else None
