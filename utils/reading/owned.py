"""The partitions that this worker owns: how far each has been read, and which of its records are still to be done.

No decoding, and no pausing. What a commit says of a partition is in `utils/joining/offsets.py`.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import compress

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from utils.joining.aggregator import NEVER
from utils.joining.arrivals import STEP
from utils.joining.offsets import PartitionOffsets
from utils.kafka.ends import Partition
from utils.kafka.lookups import EARLIEST, offsets_at
from utils.logger import logger
from utils.metrics import Counters
from utils.reading.batches import Batch, Record, for_each, is_large, runs

LOOK_PAUSE = 2000  # times as long as a look at all positions takes pass until the next: it takes 0.05 % of a core
LOOK_AT_LEAST_EVERY = 5.0  # seconds


class OwnedPartitions:
    """From one rebalance to the next. `partitions`: the state of each, by topic and number."""

    def __init__(self, consumer: Consumer, counters: Counters, clock: Callable[[], float]) -> None:
        self._consumer = consumer
        self._counters = counters
        self._clock = clock
        self.partitions: dict[Partition, PartitionOffsets] = {}
        self.former: dict[Partition, PartitionOffsets] = {}  # what was owned last, before
        self.has_progressed = False  # in what was owned before, a record has been finished for good
        self._next_look = NEVER  # at all positions
        self._looked_at: dict[Partition, int] = {}  # where reading stood then
        self._has_read = False  # since then, or since the last look at what was read
        self._skipped = 0  # offsets that are not in the log any more, since then
        self.may_replay = False  # what comes may have been read before, by this worker or the one before it
        self._next_step = NEVER

    def rebalanced(self, owned: Iterable[PartitionOffsets]) -> None:
        """These are ours now, and what was read before is not."""
        before = self.partitions
        self.former = before or self.former
        self.has_progressed = self.has_progressed or any(each.suspicion.has_progressed for each in before.values())
        self.partitions = {(offsets.topic, offsets.partition): offsets for offsets in owned}
        self.may_replay = True
        self._next_step = self._next_look = NEVER
        self._looked_at = {}

    # ------------------------------------------------------------------ what was read

    def unfinished(self, records: Sequence[Record]) -> Batch:
        """The records that no earlier commit says are done. Nothing is decoded."""
        self._counters.read += len(records)
        self._has_read = True
        self._note_arrivals()
        # Asked before reading moves on: these may be the last that are read again.
        self.may_replay = self.may_replay and any(map(PartitionOffsets.may_replay, self.partitions.values()))
        in_runs, offsets = self._runs_of(records), [record.offset() for record in records]
        if in_runs:
            partitions, wanted = for_each(in_runs), self._unfinished_of_runs(in_runs, offsets)
        else:
            partitions = [self.partitions[record.topic(), record.partition()] for record in records]
            wanted = self._unfinished_of_each(partitions, offsets)
        if not all(wanted):
            self._counters.skipped += wanted.count(False)
            records, partitions = list(compress(records, wanted)), list(compress(partitions, wanted))
            offsets, in_runs = list(compress(offsets, wanted)), []
        is_new = not self.may_replay or all(map(PartitionOffsets.is_new, partitions, offsets))
        return Batch(records, partitions, offsets, is_new, in_runs)

    def _note_arrivals(self) -> None:
        """Once a second: what has been read of each partition before this arrived earlier."""
        if (now := self._clock()) >= self._next_step:
            self._next_step = now + STEP
            for offsets in self.partitions.values():
                offsets.note_arrivals(now)

    def _runs_of(self, records: Sequence[Record]) -> list[tuple[PartitionOffsets, int]]:
        """How many in a row are of a partition; none of a few records. In a large read one look-up a run is enough."""
        if not is_large(records):
            return []
        topics, numbers = [record.topic() for record in records], [record.partition() for record in records]
        return [(self.partitions[at], number) for at, number in runs(topics, numbers)]

    def _unfinished_of_runs(
        self, in_runs: Iterable[tuple[PartitionOffsets, int]], offsets: Sequence[int]
    ) -> list[bool]:
        """Of each of these records whether it is."""
        wanted: list[bool] = []
        for of, number in in_runs:
            begin = len(wanted)
            wanted += self._unfinished_run(of, offsets[begin : begin + number])
        return wanted

    def _unfinished_of_each(self, partitions: Sequence[PartitionOffsets], offsets: Sequence[int]) -> list[bool]:
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

    # ------------------------------------------------------------------ for a commit

    def forget_vain_starts(self) -> None:
        """Of partitions of which nothing was called, once all that was there at the assignment is read: of all of them.

        What one topic still holds may complete what another one has given. And which of them is read last changes: if
        each forgot for itself, a message that ends the process might be found late, or never.
        """
        if all(each.has_read_all for each in self.partitions.values()):
            for each in self.partitions.values():
                each.suspicion.note_all_read()

    def note_positions(self) -> int:
        """Finish what reading has passed without a record, transaction markers for example; how much news there is."""
        began = self._clock()
        is_due = began >= self._next_look
        if not (is_due or self._has_read):
            return 0
        news = self._skipped + sum([offsets.suspicion.has_news for offsets in self.partitions.values()])
        self._has_read, self._skipped = False, 0
        for at in self._positions(self.partitions if is_due else self._read_since()):
            offsets = self.partitions[at.topic, at.partition]
            if at.offset > offsets.position:
                news += at.offset - offsets.position
                offsets.skip_to(at.offset)
            offsets.note_epoch(at.offset, at.leader_epoch)
            self._looked_at[at.topic, at.partition] = offsets.position
        if is_due:
            self._next_look = began + min(LOOK_PAUSE * (self._clock() - began), LOOK_AT_LEAST_EVERY)
        self._count_gone()
        return news

    def _read_since(self) -> list[Partition]:
        """Those of which records were read since they were looked at."""
        return [at for at, offsets in self.partitions.items() if offsets.position != self._looked_at.get(at)]

    def note_epochs(self) -> None:
        """Of the last records that were read. Those of later ones, which a rebalance has made stale, do no harm."""
        for at in self._positions(self.partitions):
            self.partitions[at.topic, at.partition].note_epoch(at.offset, at.leader_epoch)

    def _positions(self, partitions: Collection[Partition]) -> list[TopicPartition]:
        return self._consumer.position([TopicPartition(*at) for at in partitions]) if partitions else []

    def _count_gone(self) -> None:
        for (topic, partition), offsets in self.partitions.items():
            if gone := offsets.take_gone():
                self._counters.gone += gone
                facts = {"topic": topic, "partition": partition, "count": gone}
                logger.error("records that were waiting are no longer in the log", extra=facts)

    def ends(self) -> dict[Partition, int]:
        """Of each partition, as the last fetch of it told, which costs no request. Without those of which none has."""
        ends = {at: self._consumer.get_watermark_offsets(TopicPartition(*at), cached=True)[1] for at in self.partitions}
        return {at: end for at, end in ends.items() if end >= 0}

    # ------------------------------------------------------------------ back in the log

    def rewind(self, records: Iterable[Record]) -> None:
        """Have these records fetched once more, as far as their partitions are ours."""
        for at in {(record.topic(), record.partition()) for record in records}:
            if offsets := self.partitions.get(at):
                self._consumer.seek(TopicPartition(*offsets.place))

    def go_on_from_earliest(self, overtaken: Iterable[Partition]) -> None:
        """What these were to read next is not in the log any more: retention was faster. What is in memory stays there.

        Raises KafkaException where it was not retention, or no broker tells.
        """
        ours = [at for at in overtaken if at in self.partitions]
        for at, earliest in offsets_at(self._consumer, [TopicPartition(*at) for at in ours], EARLIEST).items():
            offsets = self.partitions[at]
            if offsets.position >= earliest:  # the log was cut, say: a new worker finds out where
                raise KafkaException(KafkaError(KafkaError._AUTO_OFFSET_RESET))
            self._skipped += earliest - offsets.position
            skip_deleted(offsets, earliest, self._counters)
            offsets.epoch = -1  # of the record before it nobody knows
        self._count_gone()
        if ours:  # all are: the client has ended the fetch of a partition, and seek() does not begin it anew (measured)
            places = [TopicPartition(*each.place) for each in self.partitions.values()]
            self._consumer.assign(places)
            self._consumer.resume(places)

    def read_shed_again(self) -> list[Partition]:
        """Go back to the lowest offset for which there was no room, where reading has passed one since it last did.

        Returns the partitions in which that is so.
        """
        self.may_replay = True
        set_back = {at: offsets for at, offsets in self.partitions.items() if offsets.shed.since is not None}
        for offsets in set_back.values():
            before = offsets.position
            offsets.set_back()
            self._consumer.seek(TopicPartition(*offsets.place))
            self._counters.read_again += before - offsets.position
        return [*set_back]


def skip_deleted(offsets: PartitionOffsets, earliest: int, counters: Counters) -> None:
    """Go on from the earliest record of the log. Of what lies before it, what was to be read again counts as gone."""
    unread = max(offsets.loaded_end, offsets.read_end)
    if unread < earliest:
        facts = {"topic": offsets.topic, "partition": offsets.partition, "from": unread, "to": earliest}
        logger.error("records were deleted before they were read", extra=facts)
        counters.skipped_by_retention += earliest - unread
    offsets.skip_to(earliest)
