"""`python main.py adopt`: takes over the consumer group of a hand-written worker, which kept what waits in a dict.

Such a worker commits by itself (auto-commit) what it has read, also what still waits in its dict. Who goes on from
these commits loses that. So the commits go back by the longest time that a message may have waited.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from confluent_kafka import Consumer, ConsumerGroupState, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from config import ConfigError, Settings
from models import Row, engine, load
from utils.commands.command import Commands, Environ, add_command, say, seconds_of, settings_of, time_of
from utils.commands.moments import FORMS
from utils.joining.offsets import OffsetMap
from utils.joining.references import ADOPTED, Reference
from utils.kafka import client_errors, clients, needed_topics, preflight, rights
from utils.kafka.answers import described_groups
from utils.kafka.lookups import EARLIEST, LATEST, checked, committed, metadata_of, offsets_at
from utils.kafka.ranges import records_of

EMPTY = {ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD}  # dead: there is no such one
PATIENCE = 10.0  # seconds that one request may take
FEW = 10  # offsets before a commit where its last record is looked for first, then ten times as many
CLOCKS_DIFFER = timedelta(minutes=1)  # by so much the clock of who tells a time may be ahead of ours

Partition = tuple[str, int]


def add(commands: Commands) -> None:
    parser = add_command(commands, "adopt", adopt, "take over the consumer group of a hand-written worker with a dict")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    parser.add_argument("--group", default="", help="its group.id, where that was not CONSUMER_NAME")
    parser.add_argument(
        "--wait", type=seconds_of, metavar="SECONDS", help="the longest that a message waited in its dict"
    )
    parser.add_argument(
        "--stopped", type=time_of, metavar="TIME", help=f"when its last process ended, else now: {FORMS}"
    )
    parser.add_argument(
        "--unread", choices=("skip", "read"), help="older messages of partitions of which it had no commit"
    )


@dataclass(frozen=True, slots=True)
class Place:
    """A partition, and from where it is read from now on: None is its beginning. `committed`: None where the worker had
    never committed.
    """

    topic: str
    partition: int
    committed: int | None
    start: int | None
    end: int = 0
    unread: int = 0
    """Without a commit: how many offsets lie before the moment from which on others are read again."""

    @property
    def is_beyond(self) -> bool:
        """Whether its log does not go as far as the commit."""
        return self.committed is not None and self.committed > self.end

    def __str__(self) -> str:
        name = f"{self.topic}:{self.partition}"
        if self.committed is None and self.start is not None:
            return f"{name}  no commit -> {self.start}  ({self.unread} older messages are skipped)"
        if self.committed is None or self.start is None:
            return f"{name}  no commit: it is read from its beginning"
        if self.is_beyond:
            return f"{name}  {self.committed} is beyond the end of the log, {self.end}"
        return f"{name}  {self.committed} -> {self.start}  ({self.committed - self.start} are read again)"


def adopt(arguments: argparse.Namespace, environ: Environ) -> int:
    """Take over the commits of a hand-written worker that kept waiting messages in a dict, once it has been stopped.

    Each goes back by --wait (MESSAGE_TIMEOUT) before --stopped (now), so that what waited is read again.
    """
    stopped = _not_in_the_future(arguments.stopped, datetime.now(UTC))
    settings = settings_of(environ)
    row = load(engine(settings.url()), settings.consumer_name)
    settings = settings.overlaid(row.metadatas)
    cluster = preflight.look(settings, row)
    # Rights, too: brokers judge a commit topic by topic, and half of it may be done before it is refused.
    inputs = replace(row, topics_output=())  # the others are not touched, and need not be seen
    problems = needed_topics.missing_topics(inputs, cluster) or rights.missing_rights(settings, row, cluster, "READ")
    if problems:
        raise ConfigError(problems)
    former = replace(settings, consumer_name=arguments.group or settings.consumer_name, group_instance_id="")
    with client_errors.explained():
        _refuse_members(
            AdminClient(clients.client_properties(settings, row)), {former.consumer_name, row.consumer_name}
        )
        every = [TopicPartition(topic, each) for topic in row.topics_input for each in range(cluster.partitions[topic])]
        left = _not_adopted(settings, row, every)
        wait = settings.message_timeout if arguments.wait is None else arguments.wait
        places = _places(former, row, left, stopped - timedelta(seconds=wait), wait)
        if arguments.unread != "skip":  # such a partition is read from its beginning
            places = [each if each.committed is not None else replace(each, start=None) for each in places]
        if len(left) < len(every):
            _refuse_what_is_done(row, places)
        else:
            _refuse_what_is_not_there(former.consumer_name, row, places)
        say("\n".join(map(str, places)))
        _refuse_what_is_beyond(former.consumer_name, places)
        if not arguments.unread:
            _refuse_what_is_unread(former.consumer_name, places)
        if not arguments.dry_run:
            _commit(settings, row, places)
    what = "would be" if arguments.dry_run else "is"
    say(f"the consumer group {row.consumer_name} {what} adopted: now start its workers by this frame, and no others")
    return 0


def _not_in_the_future(given: datetime | None, now: datetime) -> datetime:
    """When the former worker ended. After a time that is yet to come nothing lies that could be read again."""
    if given and given > now + CLOCKS_DIFFER:
        cure = "a time without a zone is UTC: add yours (+02:00), or say how long ago it was (10m)"
        raise ConfigError([f"--stopped {given:%Y-%m-%dT%H:%M} (UTC) is in the future, now it is {now:%H:%M}: {cure}"])
    return min(given or now, now)


def _refuse_members(admin: AdminClient, groups: set[str]) -> None:
    problems = []
    for name, group in described_groups(admin, sorted(groups), PATIENCE).items():
        if isinstance(group, KafkaError):
            raise KafkaException(group)
        if group.state not in EMPTY:
            hosts = ", ".join(sorted({f"{each.client_id} on {each.host}" for each in group.members})) or "just leaving"
            problems.append(
                f"consumer group {name} has members ({hosts}): stop all of the former worker first (one that was"
                " killed counts until its session.timeout.ms is over, 45 s by default: then try again). The two assign"
                " partitions in different ways, and what is in its memory is read again only after its end"
            )
    if problems:
        raise ConfigError(problems)


def _not_adopted(settings: Settings, row: Row, every: Sequence[TopicPartition]) -> list[TopicPartition]:
    """The partitions that no earlier run has adopted: brokers may have carried out its commit in part."""
    said = {at: metadata_of(each) for at, each in _commits(settings, row, every).items()}
    if any(OffsetMap.parse(metadata) or Reference.parse(metadata) for metadata in said.values()):
        raise ConfigError([f"consumer group {row.consumer_name} has commits of this frame already: just start it"])
    return [each for each in every if said.get((each.topic, each.partition)) != ADOPTED]


def _refuse_what_is_done(row: Row, places: Sequence[Place]) -> None:
    """Where an earlier run has adopted some partitions: it has left those that are to be read from their beginning,
    unless it was refused.
    """
    if all(each.start is None for each in places):
        raise ConfigError([f"consumer group {row.consumer_name} is adopted already: just start it"])
    say(
        "an earlier run has adopted the other partitions. If the former worker ended a while ago, say so with --stopped"
    )


def _refuse_what_is_not_there(group: str, row: Row, places: Sequence[Place]) -> None:
    """By a name that is not that of the former group, all would be read from its beginning, and sent again."""
    if all(each.committed is None for each in places):
        cure = "say with --group what its group.id was (kafka-consumer-groups.sh --list shows all there are)"
        topics = ", ".join(row.topics_input)
        raise ConfigError([f"consumer group {group} has no commit of {topics}, so there is nothing to adopt: {cure}"])


def _refuse_what_is_beyond(group: str, places: Sequence[Place]) -> None:
    """The commit says nothing of the log that is there now: only who knows both can tell what has been read of it."""
    cure = "if that stays, the topic was made again: set where to read from (kafka-consumer-groups.sh --reset-offsets)"
    if problems := [f"consumer group {group}: {each}: {cure}" for each in places if each.is_beyond]:
        raise ConfigError(problems)


def _refuse_what_is_unread(group: str, places: Sequence[Place]) -> None:
    """The former worker has left it out (auto.offset.reset=latest, the default of clients), or had not come to it."""
    if unread := ", ".join(f"{each.topic}:{each.partition} ({each.unread})" for each in places if each.unread):
        cure = "say --unread skip where its auto.offset.reset was latest, which is the default, else --unread read"
        raise ConfigError([f"consumer group {group} has no commit of {unread}, where older messages lie: {cure}"])


def _commits(settings: Settings, row: Row, every: Sequence[TopicPartition]) -> Mapping[Partition, TopicPartition]:
    with clients.reader(settings, row) as consumer:
        answers = committed(consumer, list(every), PATIENCE)
    return {(each.topic, each.partition): each for each in answers if each.offset >= 0}


def _places(former: Settings, row: Row, every: Sequence[TopicPartition], since: datetime, wait: float) -> list[Place]:
    commits = _commits(former, row, every) if every else {}
    known = [each for each in every if (each.topic, each.partition) in commits]
    with clients.reader(former, row) as consumer:
        starts = _starts(consumer, {at: each.offset for at, each in commits.items()}, since, wait)
        others = [each for each in every if (each.topic, each.partition) not in commits]
        fresh = _first_and_since(consumer, others, since)
    whole = _ends_of_logs(former, row, known)
    places = []
    for each in every:
        partition = (each.topic, each.partition)
        if partition not in commits:
            first, start = fresh[partition]
            places.append(Place(*partition, None, start if start > first else None, unread=start - first))
            continue
        places.append(Place(*partition, commits[partition].offset, starts[partition], whole[partition]))
    return places


def _starts(
    consumer: Consumer, commits: Mapping[Partition, int], since: datetime, wait: float
) -> Mapping[Partition, int]:
    """From where each partition is read again. Where nothing waited, from its commit, whatever the timestamps say:
    clocks and events that are ahead put a record of any age after `since`.
    """
    if not wait:
        return commits
    known = [TopicPartition(*at) for at in commits]
    at, ends = offsets_at(consumer, known, _milliseconds(since)), offsets_at(consumer, known, LATEST)
    before = _before(consumer, {each: min(commits[each], end) for each, end in ends.items()}, wait)
    return {each: start_of(offset, at[each], before.get(each, offset)) for each, offset in commits.items()}


def _first_and_since(
    consumer: Consumer, partitions: Sequence[TopicPartition], since: datetime
) -> Mapping[Partition, tuple[int, int]]:
    """The first offset of each, and the first one after that moment."""
    firsts, ends = offsets_at(consumer, partitions, EARLIEST), offsets_at(consumer, partitions, LATEST)
    later = offsets_at(consumer, partitions, _milliseconds(since))
    return {at: (first, later[at] if later[at] >= 0 else ends[at]) for at, first in firsts.items()}


def _ends_of_logs(settings: Settings, row: Row, known: Sequence[TopicPartition]) -> Mapping[Partition, int]:
    """With what an open transaction hides: a hand-written worker may have read that."""
    asking = clients.prober(clients.client_properties(settings, row), settings.consumer_name)
    try:
        return offsets_at(asking, known, LATEST)
    finally:
        asking.close()


def start_of(committed: int, since: int, before_it: int) -> int:
    """From where a partition is read again.

    `since`: the first offset after the longest wait began, negative where there is none. `before_it`: the same, but
    counted from the last record that was committed. That is for a worker that was behind, and for timestamps that are
    those of events: what has just been read may be older than a moment.
    """
    return min(committed, before_it, since if since >= 0 else committed)


def _before(consumer: Consumer, read: Mapping[Partition, int], wait: float) -> dict[Partition, int]:
    """Of what was read up to these offsets: the first one of the time `wait` before the last record."""
    times = {at: int(last.timestamp()[1] - wait * 1000) for at, last in _last_before(consumer, read).items()}
    found = {at: offsets_at(consumer, [TopicPartition(*at)], max(time, 0))[at] for at, time in times.items()}
    return {at: offset for at, offset in found.items() if offset >= 0}


def _last_before(consumer: Consumer, ends: Mapping[Partition, int]) -> dict[Partition, Message]:
    """Without the partitions whose log holds no record before that. Of some offsets it holds none: markers, and what
    was compacted.
    """
    begins, last, back = dict(ends), dict[Partition, Message](), FEW
    firsts = offsets_at(consumer, [TopicPartition(*at) for at in ends], EARLIEST)
    while ranges := {
        at: (max(end - back, firsts[at]), end) for at, end in ends.items() if at not in last and begins[at] > firsts[at]
    }:
        for records in records_of(consumer, ranges):
            last |= {(str(each.topic()), each.partition() or 0): each for each in records}
        begins |= {at: begin for at, (begin, _) in ranges.items()}
        back *= 10
    return last


def _commit(settings: Settings, row: Row, places: Sequence[Place]) -> None:
    """The brokers refuse it where the consumer group has got a member meanwhile."""
    new = [
        TopicPartition(each.topic, each.partition, each.start, metadata=ADOPTED)
        for each in places
        if each.start is not None
    ]
    if new:
        with clients.reader(settings, row) as consumer:
            checked(consumer.commit(offsets=new, asynchronous=False) or [])


def _milliseconds(time: datetime) -> int:
    return max(int(time.timestamp() * 1000), 0)
