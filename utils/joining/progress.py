"""How far a consumer has come with a partition: its commit and the map in it, held against the ends of the log.

Pure: no Kafka, no clock, no logging. A commit names the lowest offset that is not done; what is above it and done, and
how far reading has come, only the map tells. So end minus commit would count what waits as if nobody had read it.
"""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from utils.joining.offsets import JoinedWith, OffsetMap
from utils.topic_ids import is_another

Partition = tuple[str, int]


class Log(NamedTuple):
    """Of a partition, as it is now."""

    topic_id: str
    begin: int
    end: int


class Committed(NamedTuple):
    offset: int
    map: OffsetMap | None  # in the commit, or the one that it refers to
    is_elsewhere: bool = False  # it refers to one that could not be read


@dataclass(frozen=True, slots=True)
class Progress:
    """Offsets count records as Kafka does, with the markers of transactions among them. Times: s since the epoch."""

    topic: str
    partition: int
    end: int
    read: int  # the next offset to be read, as far as is known
    unfinished: int  # read and not done: they wait for other parts, or are in process()
    since: float | None  # since when the oldest of them has been there
    waits: bool  # some wait for other parts; else what is not done is in process()
    committed: int | None  # None: never
    committed_at: float | None  # by the clock of who did; None: the commit has no map of ours
    deleted: int = 0  # records that were deleted before they were read
    trouble: Literal["", "former topic", "log cut", "map elsewhere"] = ""
    """The commit was made for a topic of the same name that is gone. The log ends below it. Its map lies elsewhere and
    could not be read: then `read` is the least that it can be."""
    frame: str = ""  # the version of the frame that has made the commit, where it tells

    @property
    def unread(self) -> int:
        return max(self.end - self.read, 0)

    @property
    def done(self) -> int:
        """It grows by one with each record that is done."""
        return self.read - self.unfinished


def progress(at: Partition, log: Log, commit: Committed | None) -> Progress:
    """`commit`: None where there has never been one."""
    if commit is None:
        return Progress(*at, log.end, log.begin, 0, None, False, None, None)
    found = commit.map
    time = found.time_ms / 1000 if found else None
    if found is not None and is_another(found.topic_id, log.topic_id):  # a worker reads it from its beginning
        return Progress(*at, log.end, log.begin, 0, None, False, commit.offset, time, trouble="former topic")
    if commit.offset > log.end:  # a worker finds out where it was cut
        return Progress(*at, log.end, log.end, 0, None, False, commit.offset, time, trouble="log cut")
    if found is None or found.base != commit.offset:
        read = max(commit.offset, log.begin)
        made = Progress(*at, log.end, read, 0, None, False, commit.offset, None, read - commit.offset)
        return replace(made, trouble="map elsewhere") if commit.is_elsewhere else made
    unfinished = found.states.unfinished()
    return Progress(
        *at,
        end=log.end,
        read=max(found.states.end, log.begin),
        unfinished=unfinished,
        since=_since(found) if unfinished else None,
        waits=bool(unfinished) and found.oldest_ms < found.time_ms,
        committed=commit.offset,
        committed_at=found.time_ms / 1000,
        deleted=max(log.begin - found.states.end, 0),
        frame=JoinedWith.parse(found.joined_with).frame,
    )


def _since(found: OffsetMap) -> float:
    """Of this partition the steps tell; the map's own time is that of the oldest of all partitions of the worker."""
    return (found.steps[0][1] if found.steps else found.oldest_ms) / 1000
