"""Follows one id through the consumers of a cluster: from topic to topic, as far as it is found. Reads only.

What consumers have committed is always asked before the ends of the topics that they write. So what a commit calls done
has its results, dead letters included, in what is read after that. Rights: DESCRIBE of the consumer groups, DESCRIBE
and READ of the topics, of dead letters and of stored maps too.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from confluent_kafka import KafkaError

from utils.fleet.looks import Subject, committed
from utils.fleet.search import Search
from utils.joining.dead_letters import read
from utils.joining.journey import CommittedOffsets, Consumer, LetterAt, Sighting, Visit, judged
from utils.joining.progress import Committed
from utils.kafka import clients
from utils.kafka.groups import Brokers, Commits, ConsumerGroup, partitions_of
from utils.kafka.lookups import Topic
from utils.kafka.names import replay_group

Partition = tuple[str, int]

UNSETTLED = 2.0  # seconds for which it is looked again where an open transaction hides what was written
_PAUSE = 0.1  # seconds between two such looks


@dataclass(frozen=True, slots=True)
class Journey:
    """What was found of an id in one cluster. `not_seen`: lines about what could not be looked at."""

    sightings: Mapping[str, Sequence[Sighting]] = field(default_factory=dict)  # by topic, without dead letters
    visits: Sequence[Visit] = ()  # in the order of the topics along the chain
    not_seen: Sequence[str] = ()
    records: int = 0  # that were read
    is_seen: bool = True  # the cluster has answered


class _Told(NamedTuple):
    """What the brokers say of a consumer."""

    committed: Mapping[Partition, Committed] | None
    replayed: Mapping[Partition, Committed]
    members: int | None


def follow(
    subjects: Sequence[Subject], brokers: Brokers, search: Search, sleep: Callable[[float], None] = time.sleep
) -> Journey:
    """Raises KafkaException where brokers do not answer."""
    described = brokers.topics([topic for each in subjects for topic in _topics(each)])
    walk = _Walk(subjects, brokers, search, {name: each for name, each in described.items() if isinstance(each, Topic)})
    walk.go()
    walk.settle(sleep)
    dead = {topic for each in subjects for topic in _dead_letters(each)}
    lacking = {name: each.str() for name, each in described.items() if isinstance(each, KafkaError)}
    # Topics of dead letters are created by workers that have begun: some may not be there yet.
    problems = {name: why for name, why in lacking.items() if name not in dead} | search.unseen.unreadable
    found = {topic: some for topic, some in search.found.items() if some and topic not in dead - walk.inputs}
    return Journey(found, walk.visits(), _not_seen(search, problems), search.records)


class _Walk:
    """From the topics where the id begins to the consumers that read them, to the topics that they write, and on."""

    def __init__(
        self, subjects: Sequence[Subject], brokers: Brokers, search: Search, topics: Mapping[str, Topic]
    ) -> None:
        """`topics`: those that are there."""
        self._subjects = subjects
        self._brokers = brokers
        self._search = search
        self._topics = topics
        self._told: dict[str, _Told] = {}
        self._met: list[Subject] = []
        self.inputs = {topic for each in subjects for topic in each.row.topics_input}
        self._sources = self.inputs - {topic for each in subjects for topic in each.row.topics_output}

    def go(self) -> None:
        self._look(self._sources)
        if not any(self._search.found[topic] for topic in self._sources):
            self._look({topic for each in self._subjects for topic in each.topics})
        while new := [each for each in self._subjects if each not in self._met and self._is_met(each)]:
            self._told |= _ask(new, self._brokers, self._topics)
            self._met += new
            self._look_around(new)

    def settle(self, sleep: Callable[[float], None]) -> None:
        """Look again where something is done, and a transaction that is just ending may hide what came of it."""
        for _ in range(int(UNSETTLED / _PAUSE)):
            consumers = [(each, self._consumer(each)) for each in self._met]
            doubtful = [each for each, consumer in consumers if consumer.hidden and _is_silent(consumer)]
            if not doubtful:
                return
            sleep(_PAUSE)
            self._look_around(doubtful)

    def visits(self) -> list[Visit]:
        return [judged(self._consumer(each)) for each in _along_the_chain(self._met)]

    def _is_met(self, each: Subject) -> bool:
        return any(self._search.found[topic] for topic in each.row.topics_input)

    def _look_around(self, some: Sequence[Subject]) -> None:
        """In all topics of these: their other inputs, their outputs and their dead letters.

        The key of a dead letter is the id; where a record had none, it is that of the record.
        """
        self._look(
            {topic for each in some for topic in _topics(each)}, [each for each in some if self._has_invalid(each)]
        )

    def _has_invalid(self, each: Subject) -> bool:
        return any(seen.problem for topic in each.row.topics_input for seen in self._search.found[topic])

    def _look(self, topics: Iterable[str], with_odd_letters: Iterable[Subject] = ()) -> None:
        thorough = {*self._sources, *(topic for each in with_odd_letters for topic in _dead_letters(each))}
        there = {topic: self._topics[topic].partitions for topic in topics if topic in self._topics}
        self._search.look(there, thorough)

    def _consumer(self, each: Subject) -> Consumer:
        row, told, search = each.row, self._told[each.row.consumer_name], self._search
        topic_ids = {name: topic.id for name, topic in self._topics.items()}
        not_looked_at = (search.unseen.late, search.unseen.scattered, search.unseen.unreadable)
        replayed = CommittedOffsets(told.replayed, topic_ids, {})
        return Consumer(
            name=row.consumer_name,
            topics_input=row.topics_input,
            topics_output=row.topics_output,
            message_timeout=each.settings.message_timeout,
            records=[seen for topic in row.topics_input for seen in search.found[topic]],
            results=[seen for topic in row.topics_output for seen in search.found[topic]],
            letters=[
                letter
                for topic in _dead_letters(each)
                for letter in _letters(row.consumer_name, search.found[topic], replayed)
            ],
            offsets=CommittedOffsets(told.committed, topic_ids, search.ends),
            members=told.members,
            unseen={topic for topic in _topics(each) if any(topic in some for some in not_looked_at)}
            | {topic for topic in row.topics_output if topic not in self._topics},
            hidden={topic for topic, _ in search.unseen.hidden} & {*row.topics_output, *_dead_letters(each)},
        )


def _along_the_chain(some: Sequence[Subject]) -> list[Subject]:
    """Each after those that write its inputs, as far as they are no circle."""
    placed: list[Subject] = []

    def place(each: Subject, behind: tuple[Subject, ...]) -> None:
        if each in placed or each in behind:
            return
        for other in some:
            if {*other.row.topics_output} & {*each.row.topics_input}:
                place(other, (*behind, each))
        placed.append(each)

    for each in some:
        place(each, ())
    return placed


def _dead_letters(each: Subject) -> tuple[str, ...]:
    return (each.settings.dead_letters,) if each.settings.dead_letters else ()


def _topics(each: Subject) -> tuple[str, ...]:
    return (*each.topics, *_dead_letters(each))


def _is_silent(consumer: Consumer) -> bool:
    """Whether a record is done, and nothing was found of it."""
    letters = {source for each in consumer.letters for source in each.contents.about["source"].split(",")}
    done = [each for each in consumer.records if consumer.offsets.standing(each) == "done"]
    return not consumer.results and any(each.at not in letters for each in done)


def _letters(consumer_name: str, found: Iterable[Sighting], replayed: CommittedOffsets) -> Iterable[LetterAt]:
    """Those of this consumer; others may keep theirs in the same topic."""
    for seen in found:
        contents = read(seen.key, seen.value, seen.headers)
        if contents and contents.is_of(consumer_name):
            yield LetterAt(seen.at, contents, replayed.standing(seen) == "done")


# ---------------------------------------------------------------- What brokers say of a consumer.


def _ask(some: Sequence[Subject], brokers: Brokers, topics: Mapping[str, Topic]) -> dict[str, _Told]:
    names = [each.row.consumer_name for each in some]
    read = {each.row.consumer_name: partitions_of(each.row.topics_input, topics) for each in some}
    replayed = {replay_group(each.row): partitions_of(_dead_letters(each), topics) for each in some}
    commits = brokers.commits(read | replayed)
    groups = brokers.groups(names)
    found = {}
    for name, each in zip(names, some, strict=True):
        group, done = groups[name], _committed(each, commits[replay_group(each.row)], topics)
        members = len(group.members) if isinstance(group, ConsumerGroup) else None
        found[name] = _Told(_committed(each, commits[name], topics), done or {}, members)
    return found


def _committed(
    each: Subject, commits: Commits | KafkaError, topics: Mapping[str, Topic]
) -> dict[Partition, Committed] | None:
    if isinstance(commits, KafkaError):
        return None
    return committed(each, clients.client_properties(each.settings, each.row), commits, topics)


def _not_seen(search: Search, problems: Mapping[str, str]) -> list[str]:
    lines = [f"{name}: {why}" for name, why in sorted(problems.items())]
    for topics, why in (
        (search.unseen.late, "not read to its end in time: a shorter --since helps"),
        (search.unseen.cut, "what was there before its first record is deleted"),
        (search.unseen.scattered, "keys lie where no known hash puts them: --everywhere looks in all partitions"),
        ({topic for topic, _ in search.unseen.hidden}, "an open transaction hides its newest records"),
    ):
        lines += [f"{topic}: {why}" for topic in sorted(topics)]
    return lines
