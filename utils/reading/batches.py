"""Records that were read together: which partition and offset each has, and what is in them. No clock, no logging."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby, repeat, starmap
from typing import NamedTuple, Protocol, TypeVar

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE

from utils.joining.messages import Headers, InvalidMessage, read_each
from utils.joining.offsets import PartitionOffsets
from utils.kafka.ends import Partition

T = TypeVar("T")
RUNS_FROM = 100  # records: among fewer, those of a partition in a row are too few to be noted together (measured)
_NO_TIME = (TIMESTAMP_NOT_AVAILABLE, -1)


class Record(Protocol):
    """What is looked at of the client's Message. If it is no error, only `key` and `value` may be None."""

    def topic(self) -> str: ...
    def partition(self) -> int: ...
    def offset(self) -> int: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def headers(self) -> Headers | None: ...
    def timestamp(self) -> tuple[int, int]: ...


class Contents(NamedTuple):
    """What is in the records of a batch."""

    values: list[bytes | None]
    headers: list[Headers | None]
    timestamps: list[tuple[int, int]]  # of a batch that is new: none
    unreadable: dict[int, InvalidMessage]  # by index: records of which the client cannot read all of this


class Batch(NamedTuple):
    """Records in the order in which they were read; of each its partition and its offset."""

    records: Sequence[Record]
    partitions: Sequence[PartitionOffsets]
    offsets: Sequence[int]
    is_new: bool  # none of them is known to a map that was loaded, or was read before
    runs: Sequence[tuple[PartitionOffsets, int]] = ()  # of a large batch: how many in a row are of a partition

    def topics(self, index: Mapping[str, int]) -> list[int]:
        """Of each record what `index` says of its topic."""
        if self.runs:
            return for_each((index[of.topic], number) for of, number in self.runs)
        return [index[of.topic] for of in self.partitions]

    def contents(self) -> Contents:
        """Of what the client cannot read there is nothing: no value, no headers, no time."""
        values, without_value = read_each("value", self.records)
        headers, without_headers = read_each("headers", self.records)
        timed = () if self.is_new else self.records
        timestamps, without_time = read_each("timestamp", timed, _NO_TIME)
        return Contents(values, headers, timestamps, without_time | without_headers | without_value)


def is_large(records: Sequence[object]) -> bool:
    """Whether it is worth the while to look for runs of one partition."""
    return len(records) >= RUNS_FROM


def runs(topics: Sequence[str], numbers: Sequence[int]) -> Iterator[tuple[Partition, int]]:
    """How many records in a row are of the same partition. By number first: numbers are compared faster than names."""
    if numbers.count(numbers[0]) == len(numbers) == topics.count(topics[0]):  # as most reads of few partitions are
        yield (topics[0], numbers[0]), len(numbers)
        return
    begin = 0
    for number, same in groupby(numbers):
        end = begin + len(list(same))
        for topic, its in groupby(topics[begin:end]):
            yield (topic, number), len(list(its))
        begin = end


def for_each(runs: Iterable[tuple[T, int]]) -> list[T]:
    """What is told of each run, once for each of its records."""
    return list(chain.from_iterable(starmap(repeat, runs)))
