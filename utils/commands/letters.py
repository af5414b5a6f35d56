"""What is in the topic of dead letters, and what of it is done with. Reads only: it joins no consumer group."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import NamedTuple

from confluent_kafka import Consumer, TopicPartition

from utils.commands.moments import moment
from utils.commands.notes import Commit, commits_of
from utils.joining.dead_letters import Contents, read
from utils.joining.messages import read_each
from utils.joining.offsets import OffsetMap
from utils.joining.states import FINISHED, States
from utils.kafka.lookups import EARLIEST, LATEST, offsets_at
from utils.kafka.ranges import records_of
from utils.logger import cut, shown
from utils.reading.locator import LoadMaps

EPOCH = datetime.fromtimestamp(0, UTC)
_REQUEST = 10.0  # seconds that one request may take
DONE = "  (replayed or discarded)"  # the commit does not tell which


class ListedLetter(NamedTuple):
    """A dead letter where it stands; `done`: it was replayed or discarded."""

    contents: Contents
    at: TopicPartition
    done: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """Which dead letters are meant: of a consumer; of a reason, of an id, from one time (with a zone) to another.

    One that does not say when it failed is of no time.
    """

    consumer: str
    reason: str = ""
    id: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def takes(self, contents: Contents) -> bool:
        return (
            contents.is_of(self.consumer)
            and self.reason in {"", contents.reason}
            and self.id in {"", contents.id}
            and self._is_in_time(contents.about.get("time", ""))
        )

    def _is_in_time(self, written: str) -> bool:
        if not self.since and not self.until:
            return True
        try:
            time = moment(written, EPOCH)
        except ValueError:
            return False
        return (not self.since or self.since <= time) and (not self.until or time < self.until)


def letters(
    consumer: Consumer, topic: str, load_maps: LoadMaps, forgotten: Mapping[int, Commit] = MappingProxyType({})
) -> Iterator[ListedLetter]:
    """The dead letters that are there now. `consumer` never joins the consumer group that replays, but has its name.

    `forgotten`: what has no commit any more, and was noted.
    """
    partitions = consumer.list_topics(topic, timeout=_REQUEST).topics[topic].partitions
    asked = [TopicPartition(topic, number) for number in sorted(partitions)]
    commits = {**forgotten, **commits_of(consumer, topic, load_maps)}
    done = {number: _finished(*commit) for number, commit in commits.items()}
    begins, ends = offsets_at(consumer, asked, EARLIEST), offsets_at(consumer, asked, LATEST)
    # A partition without a record may end above 0: retention has deleted what was there.
    for records in records_of(consumer, {at: (begin, ends[at]) for at, begin in begins.items()}):
        for each, headers in zip(records, read_each("headers", records)[0], strict=True):
            contents = read(each.key(), each.value(), headers)
            if contents:
                at = TopicPartition(topic, int(each.partition() or 0), int(each.offset() or 0))
                yield ListedLetter(contents, at, at.partition in done and done[at.partition].holds(at.offset))


class _Finished(NamedTuple):
    """What the replaying consumer group has committed of a partition."""

    offset: int
    states: States | None

    def holds(self, offset: int) -> bool:
        """Whether this offset is done with."""
        known = self.states
        return offset < self.offset or (known is not None and offset < known.end and known.get(offset) == FINISHED)


def _finished(offset: int, metadata: str | None) -> _Finished:
    found = OffsetMap.parse(metadata)
    return _Finished(offset, found.states if found and found.base == offset else None)


def table(found: Iterable[ListedLetter]) -> Iterator[str]:
    """A line for each, oldest first, and then how many there are of each kind of error."""
    rows: list[tuple[str, int, str]] = []  # and no more of them: there may be more dead letters than memory holds
    counts: Counter[tuple[str, str]] = Counter()
    for number, (contents, _, done) in enumerate(found):
        about, reason = contents.about, shown(contents.reason)
        time, error = about.get("time", ""), about.get("error.class", "")
        counts[reason, error] += 1
        why = f"{error} {about.get('error.message', '')}".strip() or f"missing: {about.get('missing.topics', '')}"
        state = DONE if done else ""
        line = f"{shown(time[:19]):19}  {reason:15}  {shown(cut(contents.id)):20}  {shown(why[:80])}{state}"
        rows.append((time, number, line))
    yield from (line for _, _, line in sorted(rows))
    yield from ([""] if rows else [])
    for (reason, error), count in counts.most_common():
        yield f"{count:8}  {reason}  {shown(error)}".rstrip()
    yield f"{len(rows):8}  in all"


def details(each: ListedLetter) -> Iterator[str]:
    """All of a dead letter: where it stands, what it tells of itself, and the messages in it."""
    yield f"{each.at.topic}:{each.at.partition}:{each.at.offset}" + (DONE if each.done else "")
    yield from (f"  {shown(name)}: {shown(text)}" for name, text in each.contents.about.items())
    for part in each.contents.parts:
        yield f"  {shown(part.topic)}:{part.partition}:{part.offset}"
        yield from (f"    {shown(name)}: {shown(_text(value))}" for name, value in part.headers)
        yield f"    {shown(_text(part.value))}"


def _text(value: str | bytes | None) -> str:
    return value if isinstance(value, str) else (value or b"").decode(errors="backslashreplace")
