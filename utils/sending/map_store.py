"""Maps that are too long for a commit: kept in the compacted topic `<consumer_name>-offsets`, read on assignment.

Which keys they are written under is decided in references.py. No clock but the one that bounds reading.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from config import ConfigError
from utils.joining.offsets import CommitPoint
from utils.joining.references import MapSlots, Partition, Reference, characters_of, digest
from utils.kafka.limits import CommitLimits
from utils.kafka.lookups import LATEST, checked
from utils.kafka.ranges import at_once
from utils.logger import logger
from utils.metrics import Counters
from utils.sending.outbox import Outbox

BYTES_A_SECOND = 1_000_000  # of stored maps that a worker writes at most
HELD_BACK = 5.0  # seconds until a commit whose map did not fit is tried again
TOLD_AGAIN = 300.0  # seconds until that is told once more: the status page remembers a hundred warnings
ASK_EVERY = 5.0  # seconds; what others write meanwhile is read in vain on assignment
_REQUEST = 10.0  # seconds that one request may take, and that reading may stand still
_READ = 100  # records at once
_WAIT = 1.0  # seconds that one read waits for a first record


class MapTopic(NamedTuple):
    name: str
    is_there: bool = True
    """It can be written."""
    unread: Sequence[str] = ()
    """Why it cannot be read, with the cure. Nothing: it can, also where it is not to be written."""


class MapStore:
    """Stores the maps of one worker's partitions, and reads those of its predecessors."""

    def __init__(
        self,
        topic: MapTopic,
        reader: Callable[[], Consumer],
        new_writer: Callable[[], str],
        counters: Counters,
        clock: Callable[[], float] = time.monotonic,
        limits: CommitLimits | None = None,
    ) -> None:
        """`reader` makes a consumer of no consumer group that reads all records, also those of open transactions.

        `new_writer` returns another name at each call, of all workers.
        """
        self._topic, self._is_there, self._unread = topic
        self._reader = reader
        self._new_writer = new_writer
        self._counters = counters
        self._clock = clock
        self._limits = limits or CommitLimits()
        self._longest = 0  # of the maps in the last commit
        self.allowed = 0  # characters of a map in it, by the limit of then
        self._slots = MapSlots(characters_of(self._limits.record))
        self._end = 0  # of the topic, when it was asked for last
        self._next_asked = self._next_told = 0.0
        self.pause = 0.0  # seconds by which the next commit is to be later, for the sake of the broker

    # ------------------------------------------------------------------ writing

    def takes(self, points: Sequence[CommitPoint]) -> bool:
        """Whether these can be committed. Never without a map: that would break the groups that wait."""
        if self._is_there:
            return True
        longest, limit = max(points, key=lambda point: len(point.metadata), default=None), self._limit(points)
        if longest is None or len(longest.metadata) <= limit:
            self._next_told = 0.0
            return True
        self.pause = HELD_BACK
        if (now := self._clock()) >= self._next_told:
            self._next_told = now + TOLD_AGAIN
            facts = {"partition": f"{longest.topic}:{longest.partition}", "characters": len(longest.metadata)}
            logger.warning(
                "commit held back: the map of waiting offsets does not fit",
                extra=facts | {"limit": limit, "missing_topic": self._topic},
            )
        return False

    def store(self, consumer: Consumer, outbox: Outbox, points: list[CommitPoint]) -> list[CommitPoint]:
        """Put the maps that do not fit into the outbox, and return what to commit once they were acknowledged.

        `ended` is to be told how that ended. Raises KafkaException, DeliveryFailed.
        """
        limit = self._limit(points)
        since = self._since(consumer) if any(len(point.metadata) > limit for point in points) else 0
        fitting, records = self._slots.put(points, limit, since)
        for record in records:
            self._counters.stored_maps += record.value is not None
            outbox.put_map(self._topic, *record)
        stored = sum([len(record.value or b"") for record in records])
        self.pause = stored / BYTES_A_SECOND * self._slots.unconfirmed
        lengths = [len(point.metadata) for point in points]
        self._longest = max([length for length in lengths if length <= limit], default=0)
        self.allowed = self._limits.metadata
        return fitting

    def ended(self, confirmed: bool) -> None:
        """How the commit of what `store` has returned ended. Not confirmed: it may be carried out all the same."""
        self._slots.ended(confirmed)
        if confirmed:
            self._limits.taken = max(self._limits.taken, self._longest)

    @property
    def may_be_refused(self) -> bool:
        """Whether the maps in what `store` has returned may turn out to be too long for the brokers."""
        return self._limits.may_refuse(self._longest)

    def makes_fit(self, error: KafkaError, allowed: int) -> bool:
        """Whether a commit that was refused so will fit when it is stored and made once more: its maps were too long.

        `allowed`: what it was when that commit was made. Another one may have been made since.
        Brokers that do not tell their limit, for want of a right, are taken to have the default.
        """
        if error.code() != KafkaError.OFFSET_METADATA_TOO_LARGE:
            return False
        if self._limits.lower():
            facts = {"limit": self._limits.metadata, "topic": self._topic}
            logger.warning("the brokers take shorter maps only: longer ones go to the topic of maps", extra=facts)
        return allowed > self._limits.metadata

    def _limit(self, points: Sequence[CommitPoint]) -> int:
        return self._limits.longest_map(points, self._topic)

    def _since(self, consumer: Consumer) -> int:
        """No record written from now on lies below it.

        Asked for seldom: the question waits behind the consumer's fetch, half a second at the end of the log.
        """
        if self._clock() >= self._next_asked:
            [end] = checked(consumer.offsets_for_times([TopicPartition(self._topic, 0, LATEST)], timeout=_REQUEST))
            self._end, self._next_asked = end.offset, self._clock() + ASK_EVERY
        return self._end

    # ------------------------------------------------------------------ reading

    def load(self, commits: Mapping[Partition, str | None], *, only_looks: bool = False) -> dict[Partition, str]:
        """A new assignment: the stored map for each commit, given by its metadata, that refers to one.

        One that is not there, or not what it was, is left out, counted and logged: as if its commit had no map. Not
        logged for who `only_looks` and reads nothing again. Raises KafkaException where it cannot be told, ConfigError.
        """
        self._next_asked = 0.0  # the topic may be another one
        references = {at: found for at, text in commits.items() if (found := Reference.parse(text))}
        self._slots.begin(self._new_writer(), references)
        if not references:
            return {}
        if self._unread:
            why = "; ".join(self._unread)
            raise ConfigError([f"commits of this consumer refer to stored maps, which cannot be read: {why}"])
        values = self._read(references)
        maps = {}
        for at, reference in references.items():
            parts = [values.get(record) for record in reference.records(*at)]
            if None in parts:
                self._counters.missing_maps += 1
                if only_looks:
                    continue
                facts = {"partition": f"{at[0]}:{at[1]}", "topic": self._topic, "from": reference.since}
                logger.error("the stored map of a commit is missing: what it calls finished is read again", extra=facts)
            else:
                maps[at] = b"".join(part or b"" for part in parts).decode()
                self._limits.note_stored(len(maps[at]))
        return maps

    def _read(self, references: Mapping[Partition, Reference]) -> dict[tuple[bytes, str], bytes]:
        """The records that these name, by key and digest, as far as they are there: in one passage to the end.

        Records of transactions are read whatever became of them: a commit that names one says that it counts.
        """
        found: dict[tuple[bytes, str], bytes] = {}
        reader = self._reader()
        try:
            [end] = checked(reader.offsets_for_times([TopicPartition(self._topic, 0, LATEST)], timeout=_REQUEST))
            wanted = {
                record: each.since if each.since < end.offset else 0  # the topic has been made anew: perhaps before it
                for at, each in references.items()
                for record in each.records(*at)
            }
            position, moved = min(wanted.values()), self._clock()
            reader.assign([TopicPartition(self._topic, 0, position)])
            while wanted and position < end.offset:
                for message in at_once(reader, _READ, _WAIT):
                    if error := message.error():
                        raise KafkaException(error)
                    record = message.key() or b"", digest(message.value() or b"")
                    if wanted.pop(record, None) is not None:
                        found[record] = message.value() or b""
                [at] = reader.position([TopicPartition(self._topic, 0)])
                if at.offset > position:
                    position, moved = at.offset, self._clock()
                elif self._clock() - moved > _REQUEST:
                    raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "stored maps cannot be read"))
                if wanted and (first := min(wanted.values())) > position:
                    reader.seek(TopicPartition(self._topic, 0, first))
                    position = first
        finally:
            reader.close()
        return found
