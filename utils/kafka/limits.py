"""What the brokers take of a commit: how long a map in it may be, and how large the whole request.

Pure: no Kafka, no clock, no logging.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

DEFAULT_METADATA = 4095
"""Characters that a broker takes beside an offset unless it is set otherwise (offset.metadata.max.bytes; measured)."""
LEAST_METADATA = 511
"""Characters without which commits are not possible: a map of nothing takes some 150, a reference up to 300."""

LARGEST_RECORD = 1_000_000
"""Bytes of a record that the client sends at most unless it is set otherwise; a topic takes a little more."""
RECORD_OVERHEAD = 36
"""Bytes that the client counts for a record beside its key, its value and its headers."""
LARGEST_BATCH = 1_048_588
"""Bytes of a batch that brokers take at most (`message.max.bytes`) unless they are set otherwise. The coordinator of a
consumer group writes all of a commit as one; a larger one is refused as UNKNOWN, in a transaction too (measured)."""

_REQUEST = 500_000  # bytes of one commit, or half of what brokers take
_REFERENCE = 300  # characters that a reference takes at most, for a map of one record
_LEAST, _OF_A_TOPIC = 140, 9  # characters of a map of nothing, and of each input topic that it names
_BESIDE = 100  # bytes of a partition in that batch beside its metadata and the names of consumer and topic, rounded up


class Commit(Protocol):
    """What is looked at of a commit of one partition."""

    @property
    def topic(self) -> str: ...
    @property
    def metadata(self) -> str: ...


def least_commit(group: str, partitions: Mapping[str, int]) -> int:
    """Bytes of a commit of all partitions of these input topics, where nothing waits. By topic: how many it has."""
    of_a_map = _LEAST + _OF_A_TOPIC * len(partitions)
    return sum([number * (len(group) + len(topic) + _BESIDE + of_a_map) for topic, number in partitions.items()])


@dataclass(slots=True)
class CommitLimits:
    """Outlives the worker: what was learned from a refusal is known to the next one."""

    metadata: int = DEFAULT_METADATA
    """Characters of one partition."""
    told: bool = False
    """By the brokers; else this is their default."""
    taken: int = 0
    """The longest map that brokers are known to take."""
    record: int = LARGEST_RECORD
    """Bytes of a record of the topic of maps at most, as the client and that topic are set."""
    batch: int = LARGEST_BATCH
    """Bytes of a commit at most, as the coordinator writes it."""

    def longest_map(self, points: Sequence[Commit], group: str) -> int:
        """Longer maps than this are to be stored elsewhere, so that all that is left makes a commit."""
        lengths = sorted([len(point.metadata) for point in points])
        limit, size = self.metadata, sum([len(group) + len(point.topic) + _BESIDE for point in points])
        size += sum([length if length <= limit else _REFERENCE for length in lengths])
        while size > min(_REQUEST, self.batch // 2) and lengths and lengths[-1] > _REFERENCE:
            length = lengths.pop()
            if length <= self.metadata:
                limit, size = length - 1, size - length + _REFERENCE
        return limit

    def note_stored(self, length: int) -> None:
        """A predecessor has stored a map of this length. What it has learned need not be learned by another refusal.

        Else one that dies soon after each start would never come to a commit.
        """
        if not self.told:
            self.metadata = min(self.metadata, max(length - 1, LEAST_METADATA))

    def may_refuse(self, length: int) -> bool:
        """Whether it is not known that brokers take a map of this length."""
        return not self.told and length > max(self.taken, LEAST_METADATA)

    def lower(self) -> bool:
        """A map was refused as too long. False: the next one would be, too."""
        before = self.metadata
        self.metadata = min(before, max(self.taken, LEAST_METADATA))
        return self.metadata < before
