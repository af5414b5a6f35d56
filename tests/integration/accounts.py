"""I7: every record of the inputs is in a result, a dead letter, superseded, filtered, or waiting; and which is right.

What a record is to become is told by the beginning of its id (`whole-7`, `alone-7`, …). The ledger is the log itself:
whoever feeds need not say what was sent.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, TopicPartition

from tests.integration.oracle import EXAMPLES, Commit, Partition
from tests.integration.workers import SECONDS, Job, ends_of, eventually, partitions_of
from tests.services.kafka import KafkaBroker
from utils.joining.dead_letters import Contents, read

Source = tuple[str, int, int]  # topic, partition, offset

RESULT, FILTERED, SUPERSEDED, WAITING = "a result", "filtered", "superseded", "waiting"
PLACES = {  # by kind; all others: in a result
    "invalid": {"invalid_message"},
    "alone": {"incomplete"},
    "fail": {"process_failed"},
    "reject": {"process_failed"},
    "wrong": {"result_invalid"},
    "huge": {"too_large"},
    "big": {"too_large"},
    "none": {FILTERED},
    "twice": {RESULT, SUPERSEDED, "incomplete"},  # which of two is joined depends on which topic is read first
    "late": {WAITING},
}


@dataclass(frozen=True, slots=True)
class Accounts:
    """What became of the records. `str()` of it fits in an assertion."""

    records: int
    places: Counter[str]
    missing: list[str]
    """Records that are nowhere, as text."""
    twice: list[str]
    """Those that are in two places, or twice in one."""
    wrong: list[str]
    """Those that are where they should not be, and what is wrong with dead letters and results."""

    def __str__(self) -> str:
        faults = {"missing": self.missing, "twice": self.twice, "wrong": self.wrong}
        counts = ", ".join(f"{len(found)} {name}" for name, found in faults.items())
        places = ", ".join(f"{number} {place}" for place, number in self.places.most_common())
        examples = [f"{name}: {found[:EXAMPLES]}" for name, found in faults.items() if found]
        return "\n".join([f"{self.records} records: {counts}; {places}", *examples])

    def is_good(self, *, once: bool) -> bool:
        return not (self.missing or self.wrong or (once and self.twice))


def account(job: Job, seconds: float = SECONDS) -> Accounts:
    """Of all that is in the topics of this job. Its workers must have stopped in order."""
    commits = job.commits()
    inputs = {source(each): each.value() or b"" for each in records(job.broker, job.topics_input, seconds)}
    places: dict[Source, list[str]] = defaultdict(list)
    wrong = [
        *_bury(places, letters(job, seconds), inputs, job.topics_input),
        *_place_results(places, records(job.broker, job.topics_output[:1], seconds), inputs, job.topics_input),
    ]
    newest = _newest(inputs)
    missing, twice = [], []
    for at, value in inputs.items():
        found = places[at]
        if not _is_finished(commits, at):
            found.append(WAITING)
        elif not found:
            found += _without_a_trace(at, value, newest)
        where = f"{at}: {value[:100]!r} is in {found}"
        if not found:
            missing.append(where)
        elif not set(found) <= PLACES.get(kind(value), {RESULT}):
            wrong.append(where)
        if len(found) > 1:
            twice.append(where)
    wrong += [f"{at} is no record of the inputs: {found}" for at, found in places.items() if at not in inputs]
    return Accounts(len(inputs), Counter(place for found in places.values() for place in found), missing, twice, wrong)


def _bury(
    places: dict[Source, list[str]], found: Iterable[Contents], inputs: Mapping[Source, bytes], topics: tuple[str, ...]
) -> Iterable[str]:
    for letter in found:
        for part in letter.parts:
            at = (part.topic, part.partition, part.offset)
            places[at].append(letter.reason)
            if part.value != inputs.get(at):
                yield f"a dead letter has other bytes than {at}: {part.value!r}"
        there = {part.topic for part in letter.parts}
        lacking = ",".join(topic for topic in topics if topic not in there)
        if letter.reason == "incomplete" and letter.about["missing.topics"] != lacking:
            yield f"{letter.about} lacks {lacking}"


def _place_results(
    places: dict[Source, list[str]], results: Iterable[Any], inputs: Mapping[Source, bytes], topics: tuple[str, ...]
) -> Iterable[str]:
    """A result tells by its content which messages it was made of (`fragment_value`)."""
    by_text = {(at[0], text): at for at, value in inputs.items() if (text := _text(at[0], value))}
    for result in results:
        content = msgspec.json.decode(result.value())["content"]
        parts = [(topic, content.get(topic)) for topic in topics]
        if not all(part in by_text for part in parts) or len({text.split("/")[1] for _, text in parts}) > 1:
            yield f"a result that is half: {content}"
        for part in parts:
            if part in by_text:
                places[by_text[part]].append(RESULT)


def _text(topic: str, value: bytes) -> str | None:
    try:
        text = msgspec.json.decode(value)["content"][topic]
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError, IndexError):
        return None
    return text if isinstance(text, str) else None


def _without_a_trace(at: Source, value: bytes, newest: Mapping[tuple[str, str], Source]) -> list[str]:
    if kind(value) == "none":
        return [FILTERED]
    id = id_of(value)
    return [SUPERSEDED] if id and newest[at[0], id] > at else []


def _newest(inputs: Mapping[Source, bytes]) -> dict[tuple[str, str], Source]:
    """By topic and id, the last of its messages. An id lies in one partition."""
    newest: dict[tuple[str, str], Source] = {}
    for at, value in inputs.items():
        if id := id_of(value):
            newest[at[0], id] = max(at, newest.get((at[0], id), at))
    return newest


def _is_finished(commits: Mapping[Partition, Commit], at: Source) -> bool:
    topic, partition, offset = at
    commit = commits.get((topic, partition))
    return commit is not None and commit.is_finished(offset)


# ---------------------------------------------------------------- what is in the topics


def records(broker: KafkaBroker, topics: Iterable[str], seconds: float = SECONDS) -> list[Any]:
    """All records of these topics that may be seen."""
    settings: dict[str, str | bool] = {"bootstrap.servers": broker.bootstrap, "group.id": "reader"}
    consumer = Consumer({**settings, "isolation.level": "read_committed", "enable.auto.commit": False})
    partitions = partitions_of(consumer, topics)
    consumer.assign([TopicPartition(*at, OFFSET_BEGINNING) for at in partitions])
    ends, found = ends_of(consumer, topics, OFFSET_END), []

    def all_read() -> bool:
        found.extend(consumer.consume(10_000, 0.1))
        positions = consumer.position([TopicPartition(*at) for at in partitions])
        return all(max(at.offset, 0) >= ends[at.topic, at.partition] for at in positions)

    eventually(all_read, "the records read to their end", seconds, pause=0)
    consumer.close()
    return [record for record in found if record.error() is None]


def letters(job: Job, seconds: float = SECONDS) -> list[Contents]:
    """All dead letters of this job."""
    found = [(each.key(), each.value(), each.headers()) for each in records(job.broker, [f"{job.name}-dlq"], seconds)]
    contents = [read(*each) for each in found]
    assert None not in contents, found
    return [each for each in contents if each]


def source(record: Any) -> Source:
    return record.topic(), record.partition(), record.offset()


def id_of(value: bytes) -> str | None:
    """None for what is no message."""
    try:
        message = msgspec.json.decode(value)
        return message["id"] if isinstance(message["id"], str) and isinstance(message["content"], dict) else None
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError, IndexError):
        return None


def kind(value: bytes) -> str:
    """What a record is to become: the beginning of its id."""
    id = id_of(value)
    return "invalid" if id is None else id.partition("-")[0]
