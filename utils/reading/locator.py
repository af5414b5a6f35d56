"""Where a worker reads on: the commits of its consumer group, the maps in them, and the ends of the log."""

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from config import ConfigError
from utils.joining.layout import Layout
from utils.joining.offsets import Edition, JoinedWith, MapHead, OffsetMap, PartitionOffsets, short_name, topic_tags
from utils.joining.references import ADOPTED, Reference, was_brought
from utils.joining.suspicion import CrashRecord
from utils.kafka.ends import ends_now
from utils.kafka.lookups import (
    EARLIEST,
    LATEST,
    Topic,
    commits_as_they_are,
    committed,
    describe,
    divergence,
    metadata_of,
    offsets_at,
    places_at,
    timestamps_at,
)
from utils.kafka.membership import Membership, shared_with_others
from utils.logger import logger
from utils.metrics import Counters
from utils.reading.owned import skip_deleted
from utils.topic_ids import is_another

_LONGEST_TRANSACTION = 25.0
"""Seconds for which brokers may not tell commits: beside a transaction that was left open, which they end when its time
is over, at most the session time-out (10 s), and up to 10 s later. Kafka's client waits for its end."""
_HIDDEN = (
    "an open transaction hides the commits of the consumer group; if this stays, its end is lost:"
    " ConsumerKeepsRestarting in docs/runbook.md tells how to end it"
)

GROWN = (
    "ids that were sent before and after may not meet: let the workers come to lag 0 before partitions are added,"
    " and add as many to every input topic"
)

OTHER_TOPICS = (
    "if this stays, a worker of this CONSUMER_NAME has its row in another database (DATABASE_URL), or another tool has"
    " this group.id: end it (fleet names its host). Until then what should meet is with different members"
)

Partition = tuple[str, int]
LoadMaps = Callable[[Mapping[Partition, str | None]], Mapping[Partition, str]]
"""The stored maps that commits refer to, whose metadata is given. Raises KafkaException, ConfigError."""


class RowOutdated(Exception):
    """Commits of the consumer group name other topics, by a row that may be newer: this worker must read the row again.

    Else it would take for complete what waits, in a map of another one, for a topic that it does not know.
    """

    def __init__(self, edition: int = 0) -> None:
        super().__init__("commits of the consumer group name other topics, by a row that may be newer")
        self.edition = edition


class AssignmentOutdated(Exception):
    """The partitions are those of other topics than the row's: leave the consumer group, and join it anew."""


class NeverJoins(Exception):
    """Kafka's client has no assignment, and asks for none: join the consumer group with another one."""


@dataclass(frozen=True, slots=True)
class Locator:
    """Where to read on: the commits of the consumer group, the maps in them, and the ends of the log."""

    admin: AdminClient
    topics: tuple[str, ...]
    message_timeout: float
    load_maps: LoadMaps
    counters: Counters
    wall_clock: Callable[[], float] = time.time
    edition: Edition = field(default_factory=Edition)
    """Of the row, which names `topics`."""
    survived: dict[Partition, CrashRecord] = field(default_factory=dict)
    """How the partitions of an earlier worker of this very process stood, which has failed for a known reason. What is
    located is taken out of it."""
    membership: Membership = field(default_factory=Membership)
    prober: Callable[[], Consumer] | None = None
    """For `lookups`. Without one the logs are not compared with what was read, nobody asks how old a record is, nor for
    the commits of others."""
    frame: str = ""
    """Its version, for the commits; empty: not known."""
    ends: Mapping[Partition, int] = field(default_factory=dict)
    """Of topics that were added to the row, when that was seen: what comes from there on is read."""

    def __call__(self, consumer: Consumer, owned: Sequence[TopicPartition], now: float) -> list[PartitionOffsets]:
        """`now` by the loop's clock: from then on what waits grows older. Not of partitions that have no leader."""
        if not owned:
            return []
        topics = describe(self.admin, self.topics)
        counts = {name: topic.partitions for name, topic in topics.items()}
        if why := self.membership.misfit([(each.topic, each.partition) for each in owned], counts):
            raise AssignmentOutdated(why)
        check_counts(topics, len(owned))
        if shared := shared_with_others([(each.topic, each.partition) for each in owned], counts):
            facts = {"shared": shared, "cure": OTHER_TOPICS}
            logger.warning("another member of the consumer group joins other topics", extra=facts)
        asked = {(each.topic, each.partition) for each in owned}
        commits = [each for each in self._committed(consumer, asked, topics) if each.offset >= 0]
        cluster = next(short_name(each.cluster) if each.cluster else "" for each in topics.values())
        metadata = {at: metadata_of(each) for each in commits if (at := (each.topic, each.partition)) in asked}
        ids = {topic: each.id for topic, each in topics.items()}
        stored = {
            at: text for at, text in metadata.items() if not was_brought(Reference.parse(text), ids[at[0]], cluster)
        }
        history = History(commits, ids, self.load_maps(stored), cluster, asked)
        if history.is_of_another_program():
            cure = {"cure": "if it kept messages in memory: stop all of it, and let python main.py adopt take it over"}
            logger.warning("the commits of the consumer group are of another program", extra=cure)
        led = readable(owned, topics)
        if len(led) < len(owned):
            without = [f"{name}:{number}" for name, each in topics.items() for number in sorted(each.leaderless)]
            read = {(each.topic, each.partition) for each in led}
            left_out = [f"{topic}:{number}" for topic, number in sorted(asked - read)]
            facts = {"without_leader": without, "left_out": left_out}
            logger.error("partitions have no leader: they are not read until they have one", extra=facts)
        earliest, ends = offsets_at(consumer, led, EARLIEST), self._ends(consumer, led, history)
        latest = {(each.topic, each.partition): each.offset for each in ends}
        tags = topic_tags(self.topics)
        self.edition.number = history.edition(tags, self.edition.number)
        ours = JoinedWith(tags, self.edition.number, frame=self.frame, cluster=cluster)
        differs = history.differs(tags)
        grown = self._grown(history, topics)
        cut = self._cut(history, ends)
        new = {at for at in earliest if history.is_new(*at)}
        since: int | None = None
        located: list[PartitionOffsets] = []
        for topic, number in sorted(earliest, key=new.__contains__):  # it depends on the others where they begin
            start, loaded = history.committed(topic, number)
            if history.is_of_another_tool(topic, number):
                self.counters.missing_maps += 1
                commit = {"topic": topic, "partition": number, "offset": start}
                logger.error("a commit is of another tool: what waited before it is not known any more", extra=commit)
            if start is not None and (end := cut.get((topic, number))) is not None:
                start, loaded = min(start, end), loaded.up_to(end) if loaded and start < end else None
            if start is None:
                start = earliest[topic, number]
                if (topic, number) in new:
                    if since is None:
                        since = self._since([each for each in located if (each.topic, each.partition) not in new])
                    start = self._recent(consumer, topic, number, since, start, latest[topic, number])
            partitions = topics[topic].partitions
            joined_with = ours._replace(partitions=partitions).encode()
            layout = Layout(topics[topic].id, joined_with, partitions, differs, topic in grown)
            offsets = PartitionOffsets(topic, number, layout, start, loaded, now)
            offsets.epoch = -1 if (topic, number) in cut else history.epoch(topic, number)
            if before := self.survived.pop((topic, number), None):
                offsets.suspicion.go_on_as(before)
            located.append(self._within(offsets, earliest[topic, number], latest[topic, number]))
            located[-1].gone += history.gone(topic, number)
        return located

    def _committed(
        self, consumer: Consumer, asked: Collection[Partition], topics: Mapping[str, Topic]
    ) -> list[TopicPartition]:
        """All commits of the consumer group. Those of our partitions when no transaction is about to change them.

        Those of others tell of topics and rows only. Among many busy workers there is always one with a transaction.
        """
        found = self._of_ours(consumer, [TopicPartition(*at) for at in asked])
        every = [(topic, each) for topic in self.topics for each in range(topics[topic].partitions)]
        others = [TopicPartition(*at) for at in every if at not in asked]
        if others and self.prober:
            found += commits_as_they_are(self.prober, others)
        return found

    def _of_ours(self, consumer: Consumer, asked: Sequence[TopicPartition]) -> list[TopicPartition]:
        try:
            return committed(consumer, asked, _LONGEST_TRANSACTION)
        except KafkaException as error:
            if error.args[0].code() == KafkaError._TIMED_OUT and self._are_hidden(asked):
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, _HIDDEN)) from error
            raise

    def _are_hidden(self, asked: Sequence[TopicPartition]) -> bool:
        """Whether commits that are not told are told as they were before the transaction."""
        with suppress(KafkaException):
            return bool(self.prober and commits_as_they_are(self.prober, asked))
        return False

    def _ends(self, consumer: Consumer, led: Sequence[TopicPartition], history: "History") -> list[TopicPartition]:
        """Of what may be read. Where more was committed: of the log, whose end an open transaction hides."""
        ends = places_at(consumer, led, LATEST)
        hidden = {(each.topic, each.partition): each for each in ends if history.reaches(each) > each.offset}
        for at, offset in ends_now(self.admin, hidden, IsolationLevel.READ_UNCOMMITTED).items():
            hidden[at].offset = max(hidden[at].offset, offset)
        return ends

    def _cut(self, history: "History", ends: Sequence[TopicPartition]) -> dict[Partition, int]:
        """Where logs were cut that had been read further: by an unclean leader election, or by the loss of a disk.

        What was read from there on is gone. New records have its offsets, or will have them, and are to be read.
        """
        now = {(each.topic, each.partition): each for each in ends}
        read = {at: end for at in now if (end := history.read_up_to(*at)) is not None}
        cut = {at: now[at].offset for at, end in read.items() if end > now[at].offset}
        known = {at: (end, history.epoch(*at)) for at, end in read.items() if history.epoch(*at) >= 0}
        led_anew = {at: each for at, each in known.items() if each[1] != now[at].leader_epoch}
        for at, end in divergence(self.prober, led_anew).items() if self.prober else ():
            cut[at] = min(end, cut.get(at, end))
        for at, end in cut.items():
            facts = {"topic": at[0], "partition": at[1], "from": end, "to": read[at]}
            logger.error("the brokers have lost records that were read: going on where the log was cut", extra=facts)
            self.counters.cut_off += read[at] - end
        return cut

    def _grown(self, history: "History", topics: Mapping[str, Topic]) -> set[str]:
        """The topics that have more partitions than at the last commit: ids lie elsewhere from then on."""
        known = {name: history.known(name) for name in topics if len(topics) > 1}
        grown = {name for name, before in known.items() if 0 < before < topics[name].partitions}
        for name in sorted(grown):
            facts = {"topic": name, "partitions": topics[name].partitions, "before": known[name], "cure": GROWN}
            logger.warning("partitions were added to an input topic", extra=facts)
        return grown

    def _since(self, others: Sequence[PartitionOffsets]) -> int:
        """From when on new topics are read, in ms since the epoch: MESSAGE_TIMEOUT before what is unfinished in others.

        What is older would open groups that can never be complete, for the rest of them is finished. Where nothing is
        unfinished, it is MESSAGE_TIMEOUT before now. How old something is, only its timestamp tells.
        """
        unfinished = {(each.topic, each.partition): each.position for each in others}
        times = timestamps_at(self.prober, unfinished).values() if self.prober else ()
        oldest: int = min([int(self.wall_clock() * 1000), *times])
        return max(oldest - int(self.message_timeout * 1000), 0)

    def _recent(self, consumer: Consumer, topic: str, number: int, since: int, earliest: int, end: int) -> int:
        """Where a new topic is read from that time on.

        But no record is left out that came when the row was known, whatever its producer has set its timestamp to.
        """
        start = offsets_at(consumer, [TopicPartition(topic, number)], since)[topic, number]
        start = end if start < 0 else start
        start = min(start, self.ends.get((topic, number), start))
        logger.info("reading a new input topic", extra={"topic": topic, "partition": number, "offset": start})
        if start > earliest:
            facts = {"topic": topic, "partition": number, "from": earliest, "to": start}
            logger.warning("older records of a new input topic are not read", extra=facts)
        return start

    def _within(self, offsets: PartitionOffsets, earliest: int, latest: int) -> PartitionOffsets:
        """Go on from the earliest record where retention, or a new topic of the same name, overtook the commit."""
        if offsets.position > latest:
            logger.error(
                "committed offset is beyond the end of the log: reading the topic from its beginning",
                extra={
                    "topic": offsets.topic,
                    "partition": offsets.partition,
                    "committed": offsets.position,
                    "end": latest,
                },
            )
            return PartitionOffsets(offsets.topic, offsets.partition, offsets.layout, earliest)
        skip_deleted(offsets, earliest, self.counters)
        offsets.log_end = latest
        if offsets.position >= latest:
            offsets.suspicion.note_all_read()
        return offsets


class History:
    """What the commits of the consumer group, and the maps in them or stored for them, tell of its input topics."""

    def __init__(
        self,
        commits: Iterable[TopicPartition],
        topic_ids: Mapping[str, str],
        stored: Mapping[Partition, str],
        cluster: str = "",
        asked: Collection[Partition] | None = None,
    ) -> None:
        """`cluster`: the short name of the one that was asked; "": it has none. `asked`: the partitions whose maps are
        looked at, and not only their heads; None: all.
        """
        self._topic_ids = topic_ids
        self._cluster = cluster
        self._commits = {(each.topic, each.partition): each for each in commits}
        metadata = {at: stored.get(at, metadata_of(each)) for at, each in self._commits.items()}
        self._maps = {at: OffsetMap.parse(text) for at, text in metadata.items() if asked is None or at in asked}
        # What is read of a map without having it: those of others were not asked for, and one may be missing.
        self._heads = {
            at: (self._maps[at] if at in self._maps else MapHead.parse(text)) or Reference.parse(text)
            for at, text in metadata.items()
        }

    def committed(self, topic: str, number: int) -> tuple[int | None, OffsetMap | None]:
        """The committed offset and the map that fits to it; no offset where there is none of this very topic."""
        commit, found = self._commits.get((topic, number)), self._maps.get((topic, number))
        if commit is None:
            return None, None
        if self._was_brought(topic, number):
            facts = {"topic": topic, "partition": number, "offset": commit.offset}
            logger.warning("the commit is of another cluster: reading on from its offset, without its map", extra=facts)
            return commit.offset, None
        if self._is_of_former(topic, number):
            logger.error("the topic was made again: reading it from its beginning", extra={"topic": topic})
            return None, None
        return commit.offset, found if found and found.base == commit.offset else None

    def is_of_another_program(self) -> bool:
        """Whether there are commits, and none of them is by a worker, or by `adopt`."""
        known = any(self._heads.values()) or any(metadata_of(each) == ADOPTED for each in self._commits.values())
        return bool(self._commits) and not known

    def is_of_another_tool(self, topic: str, number: int) -> bool:
        """Whether somebody else has committed for this consumer group, whose other commits are ours.

        Not of a new topic, of which nothing of ours can be lost: an operator has said where it is to be read from.
        """
        commit, head = self._commits.get((topic, number)), self._heads.get((topic, number))
        is_theirs = commit is not None and head is None and metadata_of(commit) != ADOPTED
        return is_theirs and bool(self._joined_with) and not self.is_new(topic, number)

    def reaches(self, at: TopicPartition) -> int:
        """The highest offset that the commit of this partition tells of; -1: there is none."""
        commit = self._commits.get((at.topic, at.partition))
        return max(commit.offset, self.read_up_to(at.topic, at.partition) or 0) if commit else -1

    def read_up_to(self, topic: str, number: int) -> int | None:
        """How far this very partition had been read by its commit, as its map tells; None: it has none that fits."""
        found = self._maps.get((topic, number))
        if not found or self._is_of_another(topic, number) or found.base != self._commits[topic, number].offset:
            return None
        return found.states.end

    def epoch(self, topic: str, number: int) -> int:
        """Leader epoch of the last record that the map knows; -1: not known."""
        commit = self._commits.get((topic, number))
        if commit is None or commit.leader_epoch is None:
            return -1
        return -1 if self._is_of_another(topic, number) else commit.leader_epoch

    def gone(self, topic: str, number: int) -> int:
        """How many records were waiting when this commit was made, and are gone with the topic that it was made for."""
        found = self._maps.get((topic, number))
        return found.states.unfinished() if found and self._is_of_former(topic, number) else 0

    def _is_of_former(self, topic: str, number: int) -> bool:
        """Whether this commit was made for a topic of the same name that is gone."""
        return self._is_of_another(topic, number) and not self._was_brought(topic, number)

    def _is_of_another(self, topic: str, number: int) -> bool:
        """Whether this commit was made for another topic than the one that is here: a former one, or one elsewhere."""
        head = self._heads[topic, number]
        if head is None:
            return False
        return is_another(head.topic_id, self._topic_ids[topic]) or self._was_brought(topic, number)

    def _was_brought(self, topic: str, number: int) -> bool:
        return was_brought(self._heads[topic, number], self._topic_ids.get(topic, ""), self._cluster)

    def known(self, topic: str) -> int:
        """How few partitions this very topic had for one of the commits; 0: none of them tells."""
        heads = [self._heads[at] for at in self._commits if at[0] == topic and not self._is_of_former(*at)]
        counts = [JoinedWith.parse(head.joined_with).partitions for head in heads if head]
        return min(filter(None, counts), default=0)

    def is_new(self, topic: str, number: int) -> bool:
        """Whether commits tell of other topics, but not of this one. Where no map tells: no, to lose nothing.

        Those of this partition number do, if there are any: others of the consumer group, which have got the new topic
        in the same moment, may have made commits of theirs already.
        """
        joined = self._by_number.get(number) or self._joined_with
        return bool(joined) and not any(each.names(topic) for each in joined)

    def edition(self, tags: str, known: int) -> int:
        """The number of the edition with these topics: `known`, or a higher one of a commit. 0: no row.

        RowOutdated: other topics have a number as high. Only the row itself tells which of the two is the newer one.
        """
        joined = self._joined_with
        ours = max([known, *(each.edition for each in joined if each.tags == tags)]) if known else 0
        others = max((each.edition for each in joined if each.tags != tags), default=0)
        if known and others >= ours:
            raise RowOutdated(others)
        return ours

    def differs(self, tags: str) -> bool:
        """Whether others of the consumer read, or have read, other topics than these."""
        return any(each.tags != tags for each in self._joined_with)

    @cached_property
    def _joined_with(self) -> set[JoinedWith]:
        return set().union(*self._by_number.values())

    @cached_property
    def _by_number(self) -> dict[int, set[JoinedWith]]:
        """Of the partitions with each number. Not of another cluster: topics may have other names there."""
        found = defaultdict[int, set[JoinedWith]](set)
        for at, head in self._heads.items():
            if head and head.joined_with and not self._was_brought(*at):
                found[at[1]].add(JoinedWith.parse(head.joined_with))
        return found


def readable(owned: Sequence[TopicPartition], topics: Mapping[str, Topic]) -> list[TopicPartition]:
    """Those that are read while some partition has no leader: none whose messages might have met one of that (rule 8).

    Else what comes again, of which a part had met one that cannot be read now, would be joined with a later one.
    """
    away = {number for each in topics.values() for number in each.leaderless}
    if away and len({each.partitions for each in topics.values()}) > 1:
        return []
    return [each for each in owned if each.partition not in away]


def check_counts(topics: Mapping[str, Topic], owned: int) -> None:
    """Fragments of an id meet only where all topics have as many partitions, or one worker owns them all (rule 8)."""
    counts = {name: topic.partitions for name, topic in topics.items()}
    if len(set(counts.values())) > 1 and owned < sum(counts.values()):
        listed = ", ".join(f"{name} has {count}" for name, count in counts.items())
        cure = "make them equal, or run no more than one worker"
        raise ConfigError([f"the input topics have unequal partition counts ({listed}): {cure}"])
