"""Looks for the records of one id in the topics of one cluster, from a time on.

A record lies where the hash of its key says, so one partition of each topic is read, and not all. Joins no consumer
group, commits nothing. Rights: DESCRIBE and READ of the topics.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from confluent_kafka import Consumer, IsolationLevel, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from utils.joining.journey import Sighting
from utils.joining.messages import read_each, read_ids
from utils.joining.partitions import crc32, murmur2
from utils.kafka.ranges import Reading

Partition = tuple[str, int]

SAMPLE = 64  # records of a batch whose keys are looked at: by which hash do they lie where they lie?
_NO_TIME = (0, -1)
_LONGEST_NUMBER = 20  # characters of one of Java's; Python refuses to read those of thousands
_REQUEST = 10.0  # seconds that one request may take


class Extent(NamedTuple):
    """Of a partition: its first record, the first one in the window, and its end with and without what is hidden."""

    begin: int
    first: int
    end: int
    high: int


class Wanted(NamedTuple):
    """An id, in records that are no older than `since`, in seconds since the epoch; `everywhere`: in all partitions."""

    id: str
    since: float
    everywhere: bool = False


@dataclass(slots=True)
class Unseen:
    """Topics of which not everything was looked at."""

    cut: set[str] = field(default_factory=set)  # the oldest of their records in the window may be deleted
    late: set[str] = field(default_factory=set)  # not read to their ends in time
    hidden: set[Partition] = field(default_factory=set)  # an open transaction hides what is at the end
    scattered: set[str] = field(default_factory=set)  # keys tell no partition
    unreadable: dict[str, str] = field(default_factory=dict)  # and why


class Search:
    """What was found so far, by topic. Each partition is read once; asked again, only what has come since."""

    def __init__(
        self,
        admin: AdminClient,
        consumer: Consumer,
        wanted: Wanted,
        deadline: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`deadline`: by `clock`."""
        self._admin = admin
        self._consumer = consumer
        self._wanted = wanted
        self._deadline = deadline
        self._clock = clock
        self._keys = forms(wanted.id)
        self.ends: dict[Partition, int] = {}  # of the partitions that were read
        self._numbers: dict[str, int] = {}  # of partitions, by topic
        self._hashes: dict[str, Counter[str]] = defaultdict(Counter)
        self.found: dict[str, list[Sighting]] = defaultdict(list)
        self.records = 0  # that were read
        self.unseen = Unseen()

    def look(self, topics: Mapping[str, int], thorough: Collection[str] = ()) -> None:
        """In these topics, which have so many partitions.

        First where workers and most producers put an id. Then, in topics where other producers do differently, and in
        the `thorough` ones where it was not found, in the other partitions that a hash may mean.
        """
        self._numbers |= topics
        every = {(topic, each) for topic, number in topics.items() for each in range(number)}
        likely = {(topic, murmur2(self._wanted.id.encode(), number)) for topic, number in topics.items()}
        self._look_into(every if self._wanted.everywhere else likely | (every & self.ends.keys()))
        if self._wanted.everywhere:
            return
        again = {topic for topic in thorough if topic in topics and not self.found[topic]}
        again |= {topic for topic in topics if self._hashes[topic]["crc32"]}
        possible = {(topic, each) for topic in again for each in homes(self._keys, topics[topic])}
        self._look_into(possible - self.ends.keys())
        self.unseen.scattered = {topic for topic, hashes in self._hashes.items() if hashes["neither"]}

    def _look_into(self, partitions: Collection[Partition]) -> None:
        extents = self._extents([at for at in partitions if at[0] not in self.unseen.unreadable])
        ranges = {}
        for at, extent in extents.items():
            if at not in self.ends and extent.begin and extent.first <= extent.begin:
                self.unseen.cut.add(at[0])
            (self.unseen.hidden.add if extent.high > extent.end else self.unseen.hidden.discard)(at)
            ranges[at] = (self.ends.get(at, extent.first), extent.end)
        reading = Reading(self._consumer, ranges, self._deadline, self._clock)
        for records in reading:
            self._note(records)
        self.unseen.unreadable |= {topic: error.str() for topic, error in reading.refused.items()}
        self.unseen.late |= {topic for topic, _ in reading.rest} - reading.refused.keys()
        self.ends |= {at: max(*each) for at, each in ranges.items()}

    def _note(self, records: Sequence[Message]) -> None:
        self.records += len(records)
        values, unreadable = read_each("value", records)
        ids, invalid = read_ids(values, unreadable)
        hits = [at for at, id in enumerate(ids) if id == self._wanted.id] if self._wanted.id in ids else []
        sample = range(0, len(records), len(records) // SAMPLE + 1)
        keys = dict(zip(sample, read_each("key", [records[at] for at in sample])[0], strict=True))
        for at, key in keys.items():
            if key is not None:
                self._sample(records[at], key)
        if invalid:
            named = read_each("key", [records[at] for at in invalid])[0]
            hits += [at for at, key in zip(invalid, named, strict=True) if key in self._keys]
        for at in sorted(hits):
            seen = _sighting(records[at], str(invalid.get(at, "")))
            self.found[seen.topic].append(seen)

    def _sample(self, record: Message, key: bytes) -> None:
        """By which hash does it lie where it lies?"""
        topic, partition = str(record.topic()), int(record.partition() or 0)
        number = self._numbers.get(topic, 1)
        by_murmur2 = murmur2(key, number) == partition
        if not by_murmur2:
            self._hashes[topic]["crc32" if crc32(key, number) == partition else "neither"] += 1

    def _extents(self, partitions: Sequence[Partition]) -> dict[Partition, Extent]:
        """Asked of the brokers, all at once. Topics that are not answered are unreadable from then on."""
        specs = {
            "begin": OffsetSpec.earliest(),  # type: ignore[no-untyped-call]
            "first": OffsetSpec.for_timestamp(int(self._wanted.since * 1000)),
            "end": OffsetSpec.latest(),  # type: ignore[no-untyped-call]
        }
        committed, all_of_it = IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED
        asked = {name: self._ask(partitions, spec, committed) for name, spec in specs.items()}
        asked["high"] = self._ask(partitions, specs["end"], all_of_it)
        extents = {}
        for at in partitions:
            try:
                told = {name: answers[at].result().offset for name, answers in asked.items()}
            except KafkaException as error:
                self.unseen.unreadable[at[0]] = str(error.args[0].str())
                continue
            if told["end"] < 0 or told["high"] < 0:  # as in utils/kafka/ends.py
                self.unseen.unreadable[at[0]] = "a broker does not answer"
                continue
            if told["first"] < 0:  # nothing is as new
                told["first"] = told["end"]
            extents[at] = Extent(**told)
        return extents

    def _ask(
        self, partitions: Iterable[Partition], spec: OffsetSpec, isolation: IsolationLevel
    ) -> dict[Partition, Any]:
        asked = {TopicPartition(*at): spec for at in partitions}
        if not asked:
            return {}
        answers = self._admin.list_offsets(asked, isolation_level=isolation, request_timeout=_REQUEST)
        return {(at.topic, at.partition): future for at, future in answers.items()}


def forms(id: str) -> list[bytes]:
    """The keys by which producers say an id: as text, as JSON, as one of Java's whole numbers."""
    text = id.encode()
    keys = [text, b'"%s"' % text]
    if len(id) <= _LONGEST_NUMBER and id.isascii() and id.removeprefix("-").isdecimal() and str(int(id)) == id:
        keys += [int(id).to_bytes(size, signed=True) for size in (4, 8) if abs(int(id)) < 1 << (8 * size - 1)]
    return keys


def homes(keys: Iterable[bytes], partitions: int) -> set[int]:
    """The partitions where records with such keys may be."""
    return {hash(key, partitions) for key in keys for hash in (murmur2, crc32)}


def _sighting(record: Message, problem: str) -> Sighting:
    one = [record]
    [value], [headers], [key] = (read_each(what, one)[0] for what in ("value", "headers", "key"))
    [(_, time_ms)] = read_each("timestamp", one, _NO_TIME)[0]
    at = str(record.topic()), int(record.partition() or 0), int(record.offset() or 0)
    return Sighting(*at, time_ms / 1000 if time_ms >= 0 else None, key, value, headers, problem)
