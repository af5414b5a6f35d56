"""Records out of the consumer: by the batch, none while there is no room for them, back to those that were shed."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, compress, groupby, repeat, starmap
from typing import NamedTuple, Protocol, cast

from confluent_kafka import (
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from utils.joining.aggregator import FOREVER, NEVER, Enough
from utils.joining.arrivals import STEP
from utils.joining.messages import Headers, InvalidMessage, read_each
from utils.joining.offsets import PartitionOffsets
from utils.kafka.ends import EndOffsets
from utils.kafka.identities import Identities
from utils.logger import logger
from utils.metrics import Counters
from utils.reading.keys import KeyWatch

BATCH = 1000  # records that one read takes at most; larger ones leave the processor's caches (measured)
FEW = 100  # records: a read of fewer has left none behind, and what comes soon after it may stay for more
RUNS_FROM = 100  # records: among fewer, those of a partition in a row are too few to be noted together (measured)
ASK_EVERY = 10.0  # seconds
_NO_TIME = (TIMESTAMP_NOT_AVAILABLE, -1)
PAUSE_AFTER = 1.0  # seconds without room for more records before the partitions are paused, to poll on


class Record(Protocol):
    """What the loop reads of the client's Message; in a record that is no error only `key` and `value` may be None."""

    def topic(self) -> str: ...
    def partition(self) -> int: ...
    def offset(self) -> int: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def headers(self) -> Headers | None: ...
    def timestamp(self) -> tuple[int, int]: ...


class Contents(NamedTuple):
    """What is in the records of a batch."""

    values: list[bytes | None]
    headers: list[Headers | None]
    timestamps: list[tuple[int, int]]  # of a batch that is new: none
    unreadable: dict[int, InvalidMessage]  # by index: records of which the client cannot read all of this


class Batch(NamedTuple):
    """Records in the order in which they were read; of each its partition and its offset."""

    records: Sequence[Record]
    partitions: Sequence[PartitionOffsets]
    offsets: Sequence[int]
    is_new: bool  # none of them is known to a map that was loaded, or was read before

    def topics(self, index: Mapping[str, int]) -> Iterable[int]:
        """Of each record what `index` says of its topic; perhaps without an end: to be zipped with the records."""
        if _are_of_one(self.partitions):
            return repeat(index[self.partitions[0].topic])
        return [index[of.topic] for of in self.partitions]

    def contents(self) -> Contents:
        """Of what the client cannot read there is nothing: no value, no headers, no time."""
        values, without_value = read_each("value", self.records)
        headers, without_headers = read_each("headers", self.records)
        timed = () if self.is_new else self.records
        timestamps, without_time = read_each("timestamp", timed, _NO_TIME)
        return Contents(values, headers, timestamps, without_time | without_headers | without_value)


_MENDED_BY_THE_CLIENT = {
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._RESOLVE,
    KafkaError._TIMED_OUT,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.NOT_COORDINATOR,
}


@dataclass(frozen=True, slots=True)
class Waits:
    """What reading waits for."""

    settle: float = 0.0
    """Seconds until other workers of the group have seen a change of the input topics, too."""
    topics_changed_at: float = NEVER
    gather: float = 0.0
    """Seconds that a record stays for others, if it comes within so long of a read of a few. At a low rate each record
    would be a turn of the loop else, and what runs after a sleep runs cold: most of its CPU is that of the turn
    (measured)."""
    stopped: Callable[[], bool] = lambda: False
    """Whether the row says that nothing more is to be taken in for now."""


class Intake:
    """Records out of the consumer, by the batch, and none while there is no room for them.

    Without room for long, the partitions are paused, so that polling, and with it the membership, goes on.
    """

    def __init__(
        self,
        consumer: Consumer,
        counters: Counters,
        admin: AdminClient,
        clock: Callable[[], float] = time.monotonic,
        tell_mismatches: Callable[[dict[str, str]], None] = lambda _by_topic: None,
        waits: Waits | None = None,
    ) -> None:
        """`tell_mismatches`: of the input topics whose keys do not fit, and why, after each look."""
        self._consumer = consumer
        self._ask, self._ask_paused = EndOffsets(admin), EndOffsets(admin)
        self._identities = Identities(admin)
        self._counters = counters
        self._clock = clock
        self.owned: dict[tuple[str, int], PartitionOffsets] = {}
        self.former: dict[tuple[str, int], PartitionOffsets] = {}  # what was owned last, before
        self.has_progressed = False  # in what was owned before, a record has been finished for good
        self._ends: dict[tuple[str, int], tuple[float, int]] = {}  # when asked for, and the answer not yet read up to
        self._through: dict[tuple[str, int], float] = {}
        self.last_ends: dict[tuple[str, int], int] = {}  # as last answered
        self.ahead: set[tuple[str, int]] = set()  # paused because their siblings must catch up
        self._keys = KeyWatch(counters, tell_mismatches, clock)
        self._rebalances = 0
        self._may_replay = False  # what comes may have been read before, by this worker or the one before it
        waits = waits or Waits()
        self._settle = waits.settle
        self._gather = waits.gather
        self._stopped = waits.stopped
        self._soon = 0.0  # until when a record comes soon after a read of a few
        self._settled_at = waits.topics_changed_at + waits.settle
        self._grown = False  # partitions were added to a topic
        self._full_since: float | None = None
        self._paused = False
        self._ends_of_paused: dict[tuple[str, int], int] = {}
        self._next_asked = 0.0
        self._next_step = NEVER

    def rebalanced(self, owned: Iterable[PartitionOffsets]) -> None:
        """Told by the rebalance callbacks: these partitions are ours now, and what was read before is not."""
        self._ask.forget()
        self._ask_paused.forget()
        self.former = self.owned or self.former
        self.has_progressed = self.has_progressed or any(each.suspicion.has_progressed for each in self.owned.values())
        self.owned = {(offsets.topic, offsets.partition): offsets for offsets in owned}
        self._identities.assigned(self.owned.values())
        self._rebalances += 1
        self._may_replay = True
        if any(offsets.layout.differs for offsets in self.owned.values()):
            self._settled_at = self._clock() + self._settle
        self._grown = self._grown or any(offsets.layout.grown for offsets in self.owned.values())
        self._paused, self._full_since = False, None
        self._next_step = NEVER
        self.ahead = set()
        self._ends, self._through, self.last_ends, self._ends_of_paused = {}, {}, {}, {}

    def reads_former_topic(self, now: float) -> bool:
        """Whether a topic was deleted and made again since its partitions were assigned: not all of it will be read."""
        return bool(self._identities.made_again(self.owned.values(), now))

    def read(self, load: float, wait: float) -> list[Record]:
        """The next records, as soon as there are any; waits up to `wait` seconds for the first.

        Unless `wait` is 0, what comes soon after a read of a few stays for `gather` seconds, for more to come. `load`:
        1 and more is no room; with paused partitions they go on below a half. Raises KafkaException for what the client
        does not mend by itself.
        """
        if self._holds_back(load):
            return []
        rebalances = self._rebalances
        first = self._first(wait)
        messages = [first, *self._consumer.consume(BATCH, 0)] if first is not None else []
        self._soon = self._clock() + self._gather if 0 < len(messages) < FEW else 0.0
        if [message for message in messages if message.error()]:
            messages = [each for each in messages if not self._is_event(each)]
        records = cast("list[Record]", messages)
        if rebalances != self._rebalances:  # in the middle of the read: what came before it is not ours any more
            self._rewind(records)
            return []
        return records

    def _first(self, wait: float) -> Message | None:
        """The next message, after it has stayed for others where it shall."""
        first, stays_until = self._consumer.poll(0), self._soon  # at the earliest it came right after the last read
        if first is None and wait:
            first, came = self._consumer.poll(wait), self._clock()
            stays_until = came + self._gather if came < self._soon else came
        if wait and first is not None and (early := stays_until - self._clock()) > 0:
            time.sleep(early)
        return first

    def unfinished(self, records: Sequence[Record]) -> Batch:
        """The records that no earlier commit says are done. Nothing is decoded."""
        self._counters.read += len(records)
        self._note_arrivals()
        self._keys.look(records, self.owned)
        # Asked before reading moves on: these may be the last that are read again.
        self._may_replay = self._may_replay and any(map(PartitionOffsets.may_replay, self.owned.values()))
        partitions, offsets = self._partitions(records), [record.offset() for record in records]
        wanted = self._unfinished(partitions, offsets)
        if not all(wanted):
            self._counters.skipped += wanted.count(False)
            records, partitions = list(compress(records, wanted)), list(compress(partitions, wanted))
            offsets = list(compress(offsets, wanted))
        is_new = not self._may_replay or all(map(PartitionOffsets.is_new, partitions, offsets))
        return Batch(records, partitions, offsets, is_new)

    def _note_arrivals(self) -> None:
        """Once a second: what has been read of each partition before this arrived earlier."""
        if (now := self._clock()) >= self._next_step:
            self._next_step = now + STEP
            for offsets in self.owned.values():
                offsets.note_arrivals(now)

    def _partitions(self, records: Sequence[Record]) -> list[PartitionOffsets]:
        """Of each of these records. A large read is mostly of a single one: then one look-up is enough."""
        if len(records) < RUNS_FROM:
            return [self.owned[record.topic(), record.partition()] for record in records]
        topics, numbers = [record.topic() for record in records], [record.partition() for record in records]
        if topics.count(topics[0]) == numbers.count(numbers[0]) == len(records):
            return [self.owned[topics[0], numbers[0]]] * len(records)
        return [self.owned[at] for at in zip(topics, numbers, strict=True)]

    def _unfinished(self, partitions: Sequence[PartitionOffsets], offsets: Sequence[int]) -> Sequence[bool]:
        """Of each of these records whether it is."""
        if _are_of_one(partitions):
            return self._unfinished_run(partitions[0], offsets)
        if len(offsets) >= RUNS_FROM:
            return list(chain.from_iterable(starmap(self._unfinished_run, _runs(partitions, offsets))))
        for of in partitions:
            self._counters.read_from[of.topic] += 1
        return list(map(PartitionOffsets.read, partitions, offsets))

    def _unfinished_run(self, of: PartitionOffsets, run: Sequence[int]) -> Sequence[bool]:
        """Of each of these offsets of a partition whether it is."""
        self._counters.read_from[of.topic] += len(run)
        if of.read_run(run):
            return [True] * len(run)
        if of.skip_run(run):
            return [False] * len(run)
        return [of.read(offset) for offset in run]

    def note_positions(self) -> int:
        """Finish what reading has passed without a record, transaction markers for example; how much news there is."""
        moved = 0
        if self.owned:
            for at in self._consumer.position([TopicPartition(*each) for each in self.owned]):
                offsets = self.owned[at.topic, at.partition]
                if at.offset > offsets.position:
                    moved += at.offset - offsets.position
                    offsets.skip_to(at.offset)
                offsets.note_epoch(at.offset, at.leader_epoch)
                moved += offsets.suspicion.has_news
        self._count_gone()
        return moved

    def note_epochs(self) -> None:
        """Of the last records that were read. Those of later ones, which a rebalance has made stale, do no harm."""
        for at in self._consumer.position([TopicPartition(*each) for each in self.owned]) if self.owned else ():
            self.owned[at.topic, at.partition].note_epoch(at.offset, at.leader_epoch)

    def _count_gone(self) -> None:
        for (topic, partition), offsets in self.owned.items():
            if gone := offsets.take_gone():
                self._counters.gone += gone
                facts = {"topic": topic, "partition": partition, "count": gone}
                logger.error("records that were waiting are no longer in the log", extra=facts)

    def read_through(self, now: float) -> dict[tuple[str, int], float]:
        """For each partition the last moment for which it is known that all records there were then have been read.

        The ends are asked for anew, never taken from the client's cache, and compared with the position, which counts
        transaction markers too. A broker that does not answer only delays the answer.
        """
        self._note_answers()
        for at, (asked, end) in list(self._ends.items()):
            if self.owned[at].position >= end:
                self._through[at] = asked
                del self._ends[at]
        self._ask.ask((at for at in self.owned if at not in self._ends), now)
        self._note_answers()
        return {at: self._through.get(at, NEVER) for at in self.owned}

    def _note_answers(self) -> None:
        answers = self._ask.answers()
        self._ends |= answers
        self.last_ends |= {at: end for at, (_, end) in answers.items()}

    def waited_enough(self, now: float, timeout: float) -> dict[tuple[str, int], Enough]:
        """By partition: which groups need not wait for it any longer.

        `timeout` has passed for them, and reading has come to the end that the partition had after that, with every
        record of it offered to the group: none was shed before the group was opened. None at all as long as workers of
        the group may read other topics than this one: a mate may be with them.
        """
        if now < self._settled_at or self._are_siblings_apart():
            return {}
        enough = {}
        for at, moment in self.read_through(now).items():
            shed_since = self.owned[at].shed.since
            enough[at] = Enough(moment - timeout, FOREVER if shed_since is None else shed_since)
        return enough if self.are_siblings_together() else _of_all_partitions(enough)

    def are_siblings_together(self) -> bool:
        """Whether it is known that fragments of an id have the same partition number in all topics.

        Not where partitions were added: the keys may be alike again, but what came before lies where it lay.
        """
        numbers = self._numbers()
        return not self._grown and _are_equal(numbers) and self._keys.are_alike(numbers)

    def _are_siblings_apart(self) -> bool:
        """Whether partitions are here whose siblings are with another worker.

        `range` does that only while workers of a group read other topics than each other.
        """
        numbers = self._numbers()
        partitions = {topic: offsets.layout.partitions for (topic, _), offsets in self.owned.items()}
        return not _are_equal(numbers) and any(len(each) < partitions[topic] for topic, each in numbers.items())

    def _numbers(self) -> dict[str, set[int]]:
        """The partition numbers that are ours, by topic."""
        numbers: dict[str, set[int]] = {}
        for topic, number in self.owned:
            numbers.setdefault(topic, set()).add(number)
        return numbers

    def ends(self, now: float) -> dict[tuple[str, int], int]:
        """The end of each partition, as far as it is known, to show: as the last fetch told, which costs no request.

        Paused partitions are not fetched: their ends are asked for, every `ASK_EVERY` seconds at most.
        """
        paused = [at for at in self.owned if self.is_paused(at)]
        self._ends_of_paused |= {at: end for at, (_, end) in self._ask_paused.answers().items()}
        if paused and now >= self._next_asked:
            self._next_asked = now + ASK_EVERY
            self._ask_paused.ask(paused, now)
        ends = {at: self._consumer.get_watermark_offsets(TopicPartition(*at), cached=True)[1] for at in self.owned}
        ends |= {at: end for at, end in self._ends_of_paused.items() if at in paused}
        return {at: end for at, end in ends.items() if end >= 0}

    @property
    def is_stopped(self) -> bool:
        """Whether the row says so. What is in memory goes its way; polling, and with it the membership, goes on."""
        return self._stopped()

    def is_paused(self, at: tuple[str, int]) -> bool:
        return self._paused or at in self.ahead

    def pause_only(self, ahead: Iterable[tuple[str, int]]) -> None:
        """Pause these partitions, and no others; while there is no room, all stay paused, and these go on to be."""
        ahead = set(ahead)
        if not self._paused and (resumed := self.ahead - ahead):
            self._consumer.resume([TopicPartition(*at) for at in resumed])
        if paused := ahead - self.ahead:
            self._consumer.pause([TopicPartition(*at) for at in paused])
        self.ahead = ahead

    def read_shed_again(self) -> dict[tuple[str, int], int]:
        """Go back to the lowest offset for which there was no room, where reading has passed one since it last did.

        Returns how far reading had come in all partitions, or further: to the end that is known.
        """
        targets = {at: max(each.read_end, self.last_ends.get(at, 0)) for at, each in self.owned.items()}
        self._may_replay = True
        for at, offsets in self.owned.items():
            if offsets.shed.since is not None:
                self._consumer.seek(TopicPartition(*at, offsets.set_back()))
                self._through.pop(at, None)
        return targets

    def _holds_back(self, load: float) -> bool:
        is_stopped = self.is_stopped
        if not is_stopped and load < (0.5 if self._paused else 1):
            if self._paused:
                self._consumer.resume([TopicPartition(*at) for at in self.owned if at not in self.ahead])
            self._paused, self._full_since = False, None
            return False
        now = self._clock()
        if self._full_since is None:
            self._full_since = now
        if not self._paused and (is_stopped or now - self._full_since > PAUSE_AFTER):
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


def _are_equal(numbers: dict[str, set[int]]) -> bool:
    return len({frozenset(each) for each in numbers.values()}) <= 1


def _are_of_one(partitions: Sequence[PartitionOffsets]) -> bool:
    """Whether this is a large read of a single partition, as most are. Of few records it is not worth asking."""
    return len(partitions) >= RUNS_FROM and partitions.count(partitions[0]) == len(partitions)


def _runs(
    partitions: Sequence[PartitionOffsets], offsets: Sequence[int]
) -> Iterator[tuple[PartitionOffsets, Sequence[int]]]:
    """The offsets in a row that are of one partition."""
    begin = 0
    for of, same in groupby(partitions):
        end = begin + len(list(same))
        yield of, offsets[begin:end]
        begin = end


def _of_all_partitions(enough: dict[tuple[str, int], Enough]) -> dict[tuple[str, int], Enough]:
    """For any partition number: what holds for all partitions of the topic, for a mate may be in each of them."""
    numbers = {number for _, number in enough}
    least: dict[str, Enough] = {}
    for (topic, _), each in enough.items():
        known = least.get(topic, each)
        least[topic] = Enough(min(known.arrived_by, each.arrived_by), min(known.first_drop, each.first_drop))
    return {(topic, number): each for topic, each in least.items() for number in numbers}
