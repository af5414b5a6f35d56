"""What a consumer has made of an id: its records in the input topics, held against what the consumer has committed.

Pure: no Kafka, no clock, no logging. Times are in seconds since the epoch. Only what follows from commits, maps and
records is said; of what is neither in a commit nor in a topic, nobody can tell from outside.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from utils.joining.dead_letters import Contents
from utils.joining.layout import Layout
from utils.joining.messages import Headers
from utils.joining.offsets import PartitionOffsets
from utils.joining.progress import Committed
from utils.joining.states import FINISHED
from utils.topic_ids import is_another

Partition = tuple[str, int]

Standing = Literal["done", "unfinished", "not read", "unknown"]
"""Of a record, with a group. `unfinished`: it was read, and its result is not safe yet. `not read`: or read since the
last commit. `unknown`: the map that would tell cannot be read.
"""
State = Literal["done", "waiting", "in process", "not read", "dead-lettered", "cannot tell"]


class Sighting(NamedTuple):
    """A record of an id, where it was found."""

    topic: str
    partition: int
    offset: int
    time: float | None
    key: bytes | None
    value: bytes | None
    headers: Headers | None
    problem: str = ""  # why it is no valid message, where only its key says the id

    @property
    def at(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}"


class LetterAt(NamedTuple):
    """A dead letter. `done`: it was replayed or discarded since."""

    at: str
    contents: Contents
    done: bool


class CommittedOffsets(NamedTuple):
    """What a consumer has committed, and what must be known of the topics to understand it."""

    committed: Mapping[Partition, Committed] | None  # None: that could not be asked
    topic_ids: Mapping[str, str]
    ends: Mapping[Partition, int]  # of the partitions that were looked at, asked for after the commits

    def standing(self, record: Sighting) -> Standing:
        """What the commits say of a record."""
        if self.committed is None:
            return "unknown"
        at = record.topic, record.partition
        commit = self.committed.get(at)
        if commit is None or self._is_of_former(at, commit):
            return "not read"
        if record.offset < commit.offset:
            return "done"
        if commit.map is None or commit.map.base != commit.offset:
            return "unknown" if commit.is_elsewhere else "not read"
        if record.offset >= commit.map.states.end:
            return "not read"
        return "done" if commit.map.states.get(record.offset) == FINISHED else "unfinished"

    def arrival(self, record: Sighting) -> float:
        """When a record that is unfinished in a map was read the first time, as exactly as the map tells."""
        commit = (self.committed or {})[record.topic, record.partition]
        committed_at = commit.map.time_ms / 1000 if commit.map else 0.0
        offsets = PartitionOffsets(record.topic, record.partition, Layout(""), commit.offset, commit.map, committed_at)
        return offsets.first_arrival(record.offset, record.time or 0.0, 0.0)

    def hung(self, record: Sighting) -> int:
        """How many calls with it have hung, over the restarts that they caused."""
        commit = (self.committed or {}).get((record.topic, record.partition))
        return dict(commit.map.hung).get(record.offset, 0) if commit and commit.map else 0

    def _is_of_former(self, at: Partition, commit: Committed) -> bool:
        """Of a topic of this name that is gone, or of a log that was cut: a worker reads it from its beginning."""
        here = self.topic_ids.get(at[0])
        if commit.map and (here is None or is_another(commit.map.topic_id, here)):
            return True
        return commit.offset > self.ends.get(at, commit.offset)


@dataclass(frozen=True, slots=True)
class Consumer:
    """One that reads a topic where the id was found, and what was found of it there."""

    name: str
    topics_input: tuple[str, ...]
    topics_output: tuple[str, ...]
    message_timeout: float  # seconds
    records: Sequence[Sighting]  # in its input topics
    results: Sequence[Sighting]  # of this id, in its output topics
    letters: Sequence[LetterAt]  # its own
    offsets: CommittedOffsets
    members: int | None = None  # processes that are in the consumer group; None: that could not be asked
    unseen: Collection[str] = ()  # topics, also of what it writes, of which not all was looked at that may hold the id
    hidden: Collection[str] = ()  # output topics whose newest records an open transaction hides


@dataclass(frozen=True, slots=True)
class Visit:
    """What has become of an id with one consumer."""

    consumer: Consumer
    state: State
    standings: Sequence[tuple[Sighting, Standing]]
    lacking: tuple[str, ...] = ()  # waiting: for messages of these topics, which were found nowhere
    unread: tuple[str, ...] = ()  # waiting: for those of these topics, which are there and not read yet
    since: float | None = None  # waiting: when its first message arrived
    letter: LetterAt | None = None
    remarks: list[str] = field(default_factory=list)

    @property
    def until(self) -> float | None:
        """Waiting: when it is given up at the earliest."""
        return None if self.since is None else self.since + self.consumer.message_timeout


def judged(consumer: Consumer) -> Visit:
    """The state is that of the newest record of the id; each record has its own, too."""
    standings = [(each, consumer.offsets.standing(each)) for each in consumer.records]
    visit = _judged(consumer, standings)
    _remark(visit)
    return visit


def _judged(consumer: Consumer, standings: Sequence[tuple[Sighting, Standing]]) -> Visit:
    letters = {source: each for each in consumer.letters for source in each.contents.about["source"].split(",")}
    undone = [(each, how) for each, how in standings if how != "done" and each.at not in letters]
    read = [each for each, how in undone if how == "unfinished"]
    if not undone:
        newest = max((each for each, _ in standings), key=lambda each: (each.time or 0.0, each.offset))
        letter = next((letters[each.at] for each in _latest_of_each(standings) if each.at in letters), None)
        if letter and newest.at not in letters and len(consumer.topics_input) == 1:
            letter = None  # it was an earlier one
        return Visit(consumer, "dead-lettered" if letter else "done", standings, letter=letter)
    if any(how == "unknown" for _, how in undone):
        return Visit(consumer, "cannot tell", standings)
    if not read:
        return Visit(consumer, "not read", standings)
    there = {each.topic for each, _ in undone}
    lacking = tuple(topic for topic in consumer.topics_input if topic not in there)
    unread = tuple(topic for topic in consumer.topics_input if topic in there - {each.topic for each in read})
    if not lacking and not unread:
        return Visit(consumer, "in process", standings)
    since = min(consumer.offsets.arrival(each) for each in read)
    return Visit(consumer, "waiting", standings, lacking, unread, since)


def _latest_of_each(standings: Sequence[tuple[Sighting, Standing]]) -> list[Sighting]:
    """The last record of each topic."""
    latest: dict[str, Sighting] = {}
    for each, _ in standings:
        known = latest.get(each.topic, each)
        latest[each.topic] = max(known, each, key=lambda one: (one.time or 0.0, one.offset))
    return list(latest.values())


def _remark(visit: Visit) -> None:
    """What somebody should know who believes it."""
    consumer, say = visit.consumer, visit.remarks.append
    numbers = {each.partition for each, how in visit.standings if how != "done"}
    if len(numbers) > 1:
        say("its messages lie in different partition numbers: they meet only where one worker has all partitions")
    if visit.state in {"waiting", "in process", "not read"} and consumer.members == 0:
        say("nobody is in the consumer group: no worker runs")
    for each, how in visit.standings:
        if how == "unfinished" and (hung := consumer.offsets.hung(each)):
            say(f"its call of process() hung {hung} times")
    if visit.state == "waiting" and (unseen := [topic for topic in visit.lacking if topic in consumer.unseen]):
        say(f"not all of {', '.join(unseen)} was looked at: it may be there")
    if visit.state == "done" and not consumer.results and consumer.topics_output:
        _remark_on_silence(visit)
    if visit.state == "not read" and consumer.results:
        say("a result is there: made since the last commit, or of an earlier message, or by another consumer")


def _remark_on_silence(visit: Visit) -> None:
    """It is done, and nothing was found of it."""
    consumer, say = visit.consumer, visit.remarks.append
    if consumer.hidden:
        say(f"a result may be hidden by an open transaction in {', '.join(sorted(consumer.hidden))}")
        return
    if unseen := sorted({*consumer.unseen} - {*consumer.topics_input}):
        say(f"cannot tell what has come of it: {', '.join(unseen)} could not be read, or not all of it was")
        return
    there = {each.topic for each, _ in visit.standings}
    lacking = [topic for topic in consumer.topics_input if topic not in there]
    if lacking:
        say(
            f"no result, and no message of {', '.join(lacking)} was found: given up without a dead letter,"
            " or joined with one that was not seen"
        )
    else:
        say("no result under this id: process() has filtered it, or its results have ids of their own")
