"""temporary: to be merged into utils/kafka.py"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from config import ConfigError, Settings
from utils.aggregator import NEVER
from utils.logger import logger
from utils.metrics import Counters
from utils.offsets import OffsetMap, PartitionOffsets, topic_tags

Properties = Mapping[str, Any]

SESSION_TIMEOUT_MS = 10_000  # after this time the partitions of a dead worker go to others
BATCH = 4000  # records that one read takes at most
PAUSE_AFTER = 1.0  # seconds without room for more records before the partitions are paused, to poll on
_REQUEST = 10.0  # seconds that one request may take
_EARLIEST, _LATEST = -2, -1  # timestamps of the ListOffsets request that stand for the two ends of the log


def consumer(properties: Properties, settings: Settings, on_commit: Callable[..., None]) -> Consumer:
    """The one consumer of a worker. Its fetch settings keep a core busy (DESIGN 4); the user's properties win."""
    return Consumer(
        {
            "session.timeout.ms": SESSION_TIMEOUT_MS,
            "heartbeat.interval.ms": 2_000,
            "queued.min.messages": 1_000_000,
            "queued.max.messages.kbytes": 65_536,
            "max.partition.fetch.bytes": 4_194_304,
            "isolation.level": "read_committed",
            "reconnect.backoff.max.ms": 2_000,
            **properties,
            "group.id": settings.consumer_name,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "partition.assignment.strategy": "range",
            "on_commit": on_commit,
            **({"group.instance.id": settings.group_instance_id} if settings.group_instance_id else {}),
        }
    )


def producer(properties: Properties, transactional_id: str = "") -> Producer:
    """The producer of results: idempotent, keys spread as Java's clients do (murmur2), only failures reported.

    With `transactional_id` it works in transactions, which the broker aborts as soon as it misses a dead member: one
    that is open for longer would hide all later results of these topics.
    """
    session = int(properties.get("session.timeout.ms", SESSION_TIMEOUT_MS))
    transactional: dict[str, Any] = {}
    if transactional_id:
        transactional = {"transactional.id": transactional_id, "transaction.timeout.ms": session}
        transactional["message.timeout.ms"] = session
    return Producer(
        {
            "linger.ms": 5,
            "queue.buffering.max.messages": 1_000_000,
            "message.timeout.ms": 60_000,
            "reconnect.backoff.max.ms": 2_000,
            **properties,
            "partitioner": "murmur2_random",
            "enable.idempotence": True,
            "delivery.report.only.error": True,
            **transactional,
        }
    )


class Record(Protocol):
    """What the loop reads of the client's Message; in a record that is no error nothing but `value` may be None."""

    def topic(self) -> str: ...
    def partition(self) -> int: ...
    def offset(self) -> int: ...
    def value(self) -> bytes | None: ...
    def timestamp(self) -> tuple[int, int]: ...


_MENDED_BY_THE_CLIENT = {
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._RESOLVE,
    KafkaError._TIMED_OUT,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.NOT_COORDINATOR,
}


class Intake:
    """Records out of the consumer, by the batch, and none while there is no room for them.

    Without room for long, the partitions are paused, so that polling, and with it the membership, goes on.
    """

    def __init__(self, consumer: Consumer, clock: Callable[[], float] = time.monotonic) -> None:
        self._consumer = consumer
        self._clock = clock
        self.owned: dict[tuple[str, int], PartitionOffsets] = {}
        self._ends: dict[tuple[str, int], tuple[float, int]] = {}  # when asked for, and the answer not yet read up to
        self._through: dict[tuple[str, int], float] = {}
        self._ahead: set[tuple[str, int]] = set()  # paused because their siblings must catch up
        self._rebalances = 0
        self._full_since: float | None = None
        self._paused = False

    def rebalanced(self, owned: Iterable[PartitionOffsets]) -> None:
        """Told by the rebalance callbacks: these partitions are ours now, and what was read before is not."""
        self.owned = {(offsets.topic, offsets.partition): offsets for offsets in owned}
        self._rebalances += 1
        self._paused, self._full_since = False, None
        self._ahead = set()
        self._ends, self._through = {}, {}

    def read(self, load: float, wait: float) -> list[Record]:
        """The next records, as soon as there are any; waits up to `wait` seconds for the first.

        `load`: 1 and more is no room; with paused partitions they go on below a half. Raises KafkaException for what
        the client does not mend by itself.
        """
        if self._holds_back(load):
            return []
        rebalances = self._rebalances
        first = self._consumer.poll(wait)
        messages = [first, *self._consumer.consume(BATCH, 0)] if first is not None else []
        if any(map(Message.error, messages)):
            messages = [each for each in messages if not self._is_event(each)]
        records = cast(list[Record], messages)
        if rebalances != self._rebalances:  # in the middle of the read: what came before it is not ours any more
            self._rewind(records)
            return []
        return records

    def note_positions(self) -> int:
        """Finish what reading has passed without a record, transaction markers for example; how far it has moved."""
        moved = 0
        if self.owned:
            for at in self._consumer.position([TopicPartition(*each) for each in self.owned]):
                offsets = self.owned[at.topic, at.partition]
                if at.offset > offsets.position:
                    moved += at.offset - offsets.position
                    offsets.skip_to(at.offset)
        return moved

    def read_through(self, now: float) -> dict[tuple[str, int], float]:
        """For each partition the last moment for which it is known that all records there were then have been read.

        The ends are asked for anew, never taken from the client's cache, and compared with the position, which counts
        transaction markers too. A broker that does not answer only delays the answer.
        """
        for at, (asked, end) in list(self._ends.items()):
            if self.owned[at].position >= end:
                self._through[at] = asked
                del self._ends[at]
        wanted = [TopicPartition(*at, _LATEST) for at in self.owned if at not in self._ends]
        try:
            answers = _checked(self._consumer.offsets_for_times(wanted, timeout=1.0)) if wanted else []
            self._ends |= {(each.topic, each.partition): (now, each.offset) for each in answers}
        except KafkaException as error:
            logger.warning("waiting for the ends of the partitions", extra={"error": str(error)})
        return {at: self._through.get(at, NEVER) for at in self.owned}

    def all_read_through(self, now: float) -> float:
        """`read_through` of all partitions together, but for those that are paused because they are ahead."""
        return min((moment for at, moment in self.read_through(now).items() if at not in self._ahead), default=NEVER)

    def pause_only(self, ahead: Iterable[tuple[str, int]]) -> None:
        """Pause these partitions, and no others."""
        ahead = set(ahead)
        if resumed := self._ahead - ahead:
            self._consumer.resume([TopicPartition(*at) for at in resumed])
        if paused := ahead - self._ahead:
            self._consumer.pause([TopicPartition(*at) for at in paused])
        self._ahead = ahead

    def read_shed_again(self) -> bool:
        """Go back, in each partition, to the lowest offset for which there was no room; whether there is any."""
        shed = {at: offsets for at, offsets in self.owned.items() if offsets.shed}
        for at, offsets in shed.items():
            self._consumer.seek(TopicPartition(*at, offsets.set_back()))
            self._through.pop(at, None)
        return bool(shed)

    def _holds_back(self, load: float) -> bool:
        if load < (0.5 if self._paused else 1):
            if self._paused:
                self._consumer.resume([TopicPartition(*at) for at in self.owned if at not in self._ahead])
            self._paused, self._full_since = False, None
            return False
        now = self._clock()
        if self._full_since is None:
            self._full_since = now
        elif not self._paused and now - self._full_since > PAUSE_AFTER:
            self._consumer.pause([TopicPartition(*at) for at in self.owned])
            self._paused = True
        return not self._paused

    def _is_event(self, message: Message) -> bool:
        """Whether this is an error in place of a record. Raised unless the client mends it by itself."""
        error = message.error()
        if error is None:
            return False
        if error.code() not in _MENDED_BY_THE_CLIENT:
            raise KafkaException(error)
        logger.warning("waiting for Kafka", extra={"error": error.str()})
        return True

    def _rewind(self, records: list[Record]) -> None:
        """Have these records fetched once more, as far as their partitions are ours."""
        for topic_partition in {(record.topic(), record.partition()) for record in records}:
            if offsets := self.owned.get(topic_partition):
                self._consumer.seek(TopicPartition(*topic_partition, offsets.position))


@dataclass(frozen=True, slots=True)
class Topic:
    """What a worker must know of a topic: its identity (a topic made again has another one) and its partitions."""

    id: str
    partitions: int


def describe(admin: AdminClient, topics: tuple[str, ...]) -> dict[str, Topic]:
    """Identity and number of partitions of each topic. Raises ConfigError where one is missing, KafkaException."""
    cluster = admin.list_topics(timeout=_REQUEST)
    missing = [topic for topic in topics if topic not in cluster.topics]
    if missing:
        raise ConfigError([f"topic {topic} does not exist" for topic in missing])
    counts = {topic: len(cluster.topics[topic].partitions) for topic in topics}
    if str(cluster.cluster_id).startswith("mockCluster"):  # the embedded broker answers no admin requests
        return {topic: Topic("", count) for topic, count in counts.items()}
    described = admin.describe_topics(TopicCollection(list(topics)), request_timeout=_REQUEST)
    return {topic: Topic(str(future.result().topic_id), counts[topic]) for topic, future in described.items()}


def locator(properties: Properties, topics: tuple[str, ...], message_timeout: float, counters: Counters) -> "Locator":
    """`Worker.locate` for the input topics `topics`."""
    return Locator(AdminClient(dict(properties)), topics, message_timeout, counters)


@dataclass(frozen=True, slots=True)
class Locator:
    """Where to read on: the commits of the group, the maps in them, and the ends of the log."""

    admin: AdminClient
    topics: tuple[str, ...]
    message_timeout: float
    counters: Counters
    wall_clock: Callable[[], float] = time.time

    def __call__(self, consumer: Consumer, owned: Sequence[TopicPartition]) -> list[PartitionOffsets]:
        if not owned:
            return []
        topics = describe(self.admin, self.topics)
        check_counts(topics, len(owned))
        every = [TopicPartition(topic, each) for topic in self.topics for each in range(topics[topic].partitions)]
        commits = [each for each in _checked(consumer.committed(every, timeout=_REQUEST)) if each.offset >= 0]
        history = _History(commits, {topic: described.id for topic, described in topics.items()})
        earliest, latest = self._ends(consumer, owned, _EARLIEST), self._ends(consumer, owned, _LATEST)
        tags = topic_tags(self.topics)
        located = []
        for topic, number in earliest:
            start, loaded = history.committed(topic, number)
            if start is None:
                start = earliest[topic, number]
                if history.is_new(topic):
                    start = self._recent(consumer, topic, number, latest[topic, number])
            offsets = PartitionOffsets(topic, number, topics[topic].id, start, loaded, tags)
            located.append(self._within(offsets, earliest[topic, number], latest[topic, number]))
        return located

    def _recent(self, consumer: Consumer, topic: str, number: int, end: int) -> int:
        """MESSAGE_TIMEOUT before now: the history of a new topic would open groups that can never be complete."""
        since = int((self.wall_clock() - self.message_timeout) * 1000)
        start = self._ends(consumer, [TopicPartition(topic, number)], since)[topic, number]
        start = end if start < 0 else start
        logger.info("reading a new input topic", extra={"topic": topic, "partition": number, "offset": start})
        return start

    def _within(self, offsets: PartitionOffsets, earliest: int, latest: int) -> PartitionOffsets:
        """Go on from the earliest record where retention, or a new topic of the same name, overtook the commit."""
        if offsets.position > latest:
            logger.error("committed offset is beyond the end of the log: reading the topic from its beginning",
                extra={"topic": offsets.topic, "partition": offsets.partition, "committed": offsets.position, "end": latest})
            return PartitionOffsets(
                offsets.topic, offsets.partition, offsets.topic_id, earliest, None, offsets.joined_with
            )
        if offsets.position < earliest:
            logger.error("records were deleted before they were read",
                extra={"topic": offsets.topic, "partition": offsets.partition, "from": offsets.position, "to": earliest})
            self.counters.skipped_by_retention += earliest - offsets.position
            self.counters.gone += offsets.skip_to(earliest)
        return offsets

    def _ends(self, consumer: Consumer, partitions: Sequence[TopicPartition], timestamp: int) -> dict[tuple[str, int], int]:
        asked = [TopicPartition(each.topic, each.partition, timestamp) for each in partitions]
        answers = _checked(consumer.offsets_for_times(asked, timeout=_REQUEST))
        return {(each.topic, each.partition): each.offset for each in answers}


class _History:
    """What the commits of the group, and the maps in them, tell of its input topics."""

    def __init__(self, commits: Iterable[TopicPartition], topic_ids: Mapping[str, str]) -> None:
        self._topic_ids = topic_ids
        self._commits = {(each.topic, each.partition): each for each in commits}
        self._maps = {at: OffsetMap.parse(each.metadata) for at, each in self._commits.items()}

    def committed(self, topic: str, number: int) -> tuple[int | None, OffsetMap | None]:
        """The committed offset and the map that fits to it; no offset where there is none of this very topic."""
        commit, found = self._commits.get((topic, number)), self._maps.get((topic, number))
        if commit is None:
            return None, None
        if found and found.topic_id != self._topic_ids[topic]:
            logger.error("the topic was made again: reading it from its beginning", extra={"topic": topic})
            return None, None
        return commit.offset, found if found and found.base == commit.offset else None

    def is_new(self, topic: str) -> bool:
        """Whether the group has read other topics so far, but not this one."""
        known = {topic for topic, _ in self._commits}
        tag = topic_tags([topic])
        joined = any(tag in found.joined_with.split(".") for found in self._maps.values() if found)
        return bool(known) and topic not in known and not joined


def check_counts(topics: Mapping[str, Topic], owned: int) -> None:
    """Fragments of an id meet only where all topics have as many partitions, or one worker owns them all (rule 8)."""
    counts = {name: topic.partitions for name, topic in topics.items()}
    if len(set(counts.values())) > 1 and owned < sum(counts.values()):
        listed = ", ".join(f"{name} has {count}" for name, count in counts.items())
        cure = "make them equal, or run no more than one worker"
        raise ConfigError([f"the input topics have unequal partition counts ({listed}): {cure}"])


def _checked(partitions: list[TopicPartition]) -> list[TopicPartition]:
    for each in partitions:
        if each.error:
            raise KafkaException(each.error)
    return partitions
