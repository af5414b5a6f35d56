"""Messages that were sent, joined as a worker joins them, for `main.py try`: the last ones, those of some ids, dead
letters, or the lines of a file. Reads only, and joins no consumer group.
"""

from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import merge
from pathlib import Path
from typing import NamedTuple

from confluent_kafka import Consumer, Message

from utils.commands.letters import ListedLetter
from utils.commands.replay import CannotReplay, Joining
from utils.joining.aggregator import Aggregator, Group, size_of
from utils.joining.layout import Layout
from utils.joining.messages import Fragment, Headers, read_each, read_ids
from utils.joining.offsets import PartitionOffsets
from utils.joining.partitions import crc32, murmur2
from utils.kafka.ranges import records_of
from utils.logger import logger

Partition = tuple[str, int]

FIRST = 64  # records of a partition that are read at least, where they are there
_UNKNOWN = float("-inf")  # the time of a record that tells none


@dataclass(slots=True)
class Samples:
    """What was found. `groups` are whole, the newest last; `incomplete`: by id, the topics that gave nothing."""

    groups: list[Group] = field(default_factory=list)
    incomplete: dict[str, tuple[str, ...]] = field(default_factory=dict)
    invalid: list[tuple[str, str]] = field(default_factory=list)  # topic:partition:offset, and why
    note: str = ""  # what somebody who asked for more should know

    def last(self, number: int) -> "Samples":
        return Samples(self.groups[-number:], self.incomplete, self.invalid, self.note)


class Read(NamedTuple):
    """What is kept of a record."""

    time: float
    topic: str
    partition: int
    offset: int
    value: bytes
    headers: Headers | None
    id: str


class Backwards:
    """Reads partitions from their ends towards their beginnings, each time as much again as before."""

    def __init__(
        self,
        consumer: Consumer,
        begins: Mapping[Partition, int],
        ends: Mapping[Partition, int],
        first: int = FIRST,
        wanted: Collection[str] = (),
    ) -> None:
        """`first`: records of a partition that are read first. `wanted`: the only ids that are kept, if there are any.

        `ends`: of what is committed, also by transactions.
        """
        self._consumer = consumer
        self._begins = begins
        self._from = dict(ends)
        self._ends = ends
        self._number = first
        self._wanted = frozenset(wanted)
        self._read: dict[Partition, list[Read]] = {at: [] for at in ends}
        self.invalid: list[tuple[str, str]] = []
        self.bytes = 0  # of memory that all of it takes, about

    @property
    def is_at_the_beginning(self) -> bool:
        return all(self._from[at] <= self._begins[at] for at in self._ends)

    def widen(self) -> None:
        ranges = {at: (max(self._ends[at] - self._number, self._begins[at]), until) for at, until in self._from.items()}
        earlier: dict[Partition, list[Read]] = {at: [] for at in ranges}
        for records in records_of(self._consumer, ranges):
            for each in self._valid(records):
                earlier[each.topic, each.partition].append(each)
        for at, (first, _) in ranges.items():
            self._read[at] = earlier[at] + self._read[at]
            self._from[at] = min(first, self._from[at])
        self._number *= 2

    def in_order(self) -> Iterator[Read]:
        """All that was read, as it arrived: by time, as far as the order in each partition allows."""
        return merge(*self._read.values(), key=lambda each: each.time)

    def _valid(self, records: Sequence[Message]) -> Iterator[Read]:
        values, unreadable = read_each("value", records)
        headers, _ = read_each("headers", records)
        times, _ = read_each("timestamp", records, (0, _UNKNOWN))
        ids, invalid = read_ids(values, unreadable)
        for index, (record, id, value) in enumerate(zip(records, ids, values, strict=True)):
            at = str(record.topic()), int(record.partition() or 0), int(record.offset() or 0)
            if index in invalid:
                if not self._wanted:
                    self.invalid.append((":".join(map(str, at)), str(invalid[index])))
            elif not self._wanted or id in self._wanted:
                self.bytes += len(value) + 500
                yield Read(times[index][1] / 1000, *at, value, headers[index] or None, id)


def last(backwards: Backwards, topics: Sequence[str], number: int, most_bytes: float) -> Samples:
    """The last so many messages that are whole, and what is incomplete between them."""
    while True:
        backwards.widen()
        samples = joined(backwards.in_order(), topics)
        is_full = backwards.bytes > most_bytes
        if len(samples.groups) >= number or backwards.is_at_the_beginning or is_full:
            break
    samples.invalid = backwards.invalid
    if len(samples.groups) < number:
        why = "more would not fit into MAX_PENDING_BYTES" if is_full else "the topics hold no more"
        samples.note = f"{len(samples.groups)} of the {number} messages asked for are whole: {why}"
    return samples.last(number)


def of_ids(
    make: Callable[[Collection[Partition]], Backwards], topics: Mapping[str, int], ids: Collection[str]
) -> Samples:
    """The newest whole message of each of these ids. First where the hashes of their keys say, then everywhere.

    `make`: a Backwards for such partitions; `topics`: the input topics, and how many partitions each has.
    """
    ids = dict.fromkeys(ids)
    keys = [id.encode() for id in ids]
    likely = {(topic, of(key, number)) for topic, number in topics.items() for key in keys for of in (murmur2, crc32)}
    every = {(topic, each) for topic, number in topics.items() for each in range(number)}
    groups, samples = dict[str, Group](), Samples()
    for partitions in (likely, every):
        if len(groups) == len(ids):
            break
        if partitions is every:
            logger.warning("not where the hashes of their keys say: looking through all partitions")
        backwards = make(partitions)
        while len(groups) < len(ids) and not backwards.is_at_the_beginning:
            backwards.widen()
            samples = joined(backwards.in_order(), list(topics))
            groups = {group.id: group for group in samples.groups}
    incomplete = {id: lacking for id, lacking in samples.incomplete.items() if id not in groups}
    missing = [id for id in ids if id not in groups and id not in incomplete]
    note = f"no message of {', '.join(missing)} is in the input topics" if missing else ""
    return Samples(list(groups.values()), incomplete, [], note)


def joined(records: Iterable[Read], topics: Sequence[str]) -> Samples:
    """As a worker joins them that reads them in this order."""
    index = {topic: at for at, topic in enumerate(topics)}
    partitions: dict[Partition, PartitionOffsets] = {}
    aggregator, groups = Aggregator(len(topics)), list[Group]()
    waiting: dict[str, None] = {}
    for each in records:
        at = each.topic, each.partition
        offsets = partitions.setdefault(at, PartitionOffsets(*at, Layout(""), 0))
        fragment = Fragment(index[each.topic], offsets, each.offset, each.value, each.headers)
        complete, _ = aggregator.add([each.id], [fragment], size_of([fragment]))
        groups += complete
        waiting[each.id] = None
    halves = [group for id in waiting if (group := aggregator.get(id))]
    return Samples(groups, {group.id: tuple(topics[at] for at in aggregator.missing(group)) for group in halves})


def dead(found: Iterable[ListedLetter], topics: tuple[str, ...]) -> Samples:
    """What these dead letters hold, as a replay of them would hand it to process()."""
    joining, samples = Joining(topics), Samples()
    partitions: dict[int, PartitionOffsets] = {}
    for contents, at, _ in found:
        offsets = partitions.setdefault(at.partition, PartitionOffsets(at.topic, at.partition, Layout(""), 0))
        offsets.read(at.offset)
        try:
            group = joining.add(contents, offsets, at.offset)
        except CannotReplay as error:
            samples.invalid.append((f"{at.topic}:{at.partition}:{at.offset}", str(error)))
        else:
            samples.groups += [group] if group else []
    samples.incomplete = joining.incomplete()
    return samples


def of_file(path: Path) -> Samples:
    """A message on each line, as process() gets it."""
    samples = Samples()
    for number, line in enumerate(path.read_bytes().removeprefix(BOM_UTF8).splitlines(), 1):
        if not line.strip():
            continue
        [id], invalid = read_ids([line])
        if invalid:
            samples.invalid.append((f"{path}:{number}", str(invalid[0])))
            continue
        fragment = Fragment(0, PartitionOffsets("", 0, Layout(""), 0), number, line)
        samples.groups.append(Group(id, (fragment,), len(line)))
    return samples


def lacking_by_topic(samples: Samples) -> Counter[str]:
    """How many incomplete ones lack a message of each topic."""
    return Counter(topic for topics in samples.incomplete.values() for topic in topics)
