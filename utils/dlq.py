"""What is in the topic of dead letters, and what of it has been replayed. Reads only: it joins no group."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

from utils.dead_letters import Contents, read
from utils.intake import BATCH
from utils.locator import LATEST, checked
from utils.offsets import FINISHED, OffsetMap

_REQUEST = 10.0  # seconds that one request may take
_WAIT = 0.2  # seconds that one read waits for records


class Found(NamedTuple):
    """A dead letter where it stands; `replayed`: it is done with."""

    contents: Contents
    value: bytes | None
    headers: list[tuple[str, bytes]]
    at: TopicPartition
    replayed: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """Which dead letters are meant: of a reason, of an id, of a time (ISO 8601, compared as text)."""

    reason: str = ""
    id: str = ""
    since: str = ""
    until: str = ""

    def takes(self, contents: Contents) -> bool:
        time = contents.about.get("time", "")
        return (
            self.reason in {"", contents.reason}
            and self.id in {"", contents.id}
            and self.since <= time
            and (not self.until or time < self.until)
        )


def letters(consumer: Consumer, topic: str) -> Iterator[Found]:
    """The dead letters that are there now. `consumer` is named like the group that replays them, and never joins it."""
    partitions = consumer.list_topics(topic, timeout=_REQUEST).topics[topic].partitions
    asked = [TopicPartition(topic, number) for number in sorted(partitions)]
    done = {at.partition: _finished(at) for at in checked(consumer.committed(asked, timeout=_REQUEST))}
    latest = [TopicPartition(topic, at.partition, LATEST) for at in asked]
    ends = {at.partition: at.offset for at in checked(consumer.offsets_for_times(latest, timeout=_REQUEST))}
    consumer.assign([TopicPartition(topic, at.partition, OFFSET_BEGINNING) for at in asked])
    while any(max(at.offset, 0) < ends[at.partition] for at in consumer.position(asked)):
        for record in consumer.consume(BATCH, _WAIT):
            if error := record.error():
                raise KafkaException(error)
            contents = read(record.key(), record.value(), record.headers())
            number, offset = record.partition(), record.offset()
            if contents and number is not None and offset is not None:
                at = TopicPartition(topic, number, offset)
                headers = [(name, value) for name, value in record.headers() or [] if isinstance(value, bytes)]
                yield Found(contents, record.value(), headers, at, done[number].holds(offset))


class _Finished(NamedTuple):
    """What the replaying group has committed of a partition."""

    offset: int
    states: bytes

    def holds(self, offset: int) -> bool:
        """Whether this offset is done with."""
        index = offset - self.offset
        return index < 0 or self.states[index : index + 1] == bytes((FINISHED,))


def _finished(committed: TopicPartition) -> _Finished:
    found = OffsetMap.parse(committed.metadata) if committed.offset >= 0 else None
    return _Finished(committed.offset, found.states if found and found.base == committed.offset else b"")


def table(found: Iterable[Found]) -> Iterator[str]:
    """A line for each, oldest first, and then how many there are of each kind of error."""
    rows = sorted((each.contents.about.get("time", ""), number, each) for number, each in enumerate(found))
    counts: Counter[tuple[str, str]] = Counter()
    for time, _, (contents, _, _, _, replayed) in rows:
        about = contents.about
        counts[contents.reason, about.get("error.class", "")] += 1
        why = f"{about.get('error.class', '')} {about.get('error.message', '')}".strip()
        why = why or f"missing: {about.get('missing.topics', '')}"
        state = "  (replayed)" if replayed else ""
        yield f"{time[:19]:19}  {contents.reason:15}  {shown(contents.id):20}  {shown(why[:80])}{state}"
    yield from ([""] if rows else [])
    for (reason, error), count in counts.most_common():
        yield f"{count:8}  {reason}  {shown(error)}".rstrip()
    yield f"{len(rows):8}  in all"


def details(each: Found) -> Iterator[str]:
    """All of a dead letter: where it stands, what it tells of itself, and the messages in it."""
    yield f"{each.at.topic}:{each.at.partition}:{each.at.offset}" + ("  (replayed)" if each.replayed else "")
    yield from (f"  {name}: {shown(text)}" for name, text in each.contents.about.items())
    for part in each.contents.parts:
        yield f"  {part.topic}:{part.partition}:{part.offset}"
        yield from (f"    {shown(name)}: {shown(_text(value))}" for name, value in part.headers)
        yield f"    {shown(_text(part.value))}"


def _text(value: str | bytes | None) -> str:
    return value if isinstance(value, str) else (value or b"").decode(errors="backslashreplace")


def shown(text: str) -> str:
    """One line that no content can break, and that drives no terminal."""
    return text if text.isprintable() else repr(text)[1:-1]
