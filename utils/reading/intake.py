"""The door of reading: records come in here by the batch, none while there is no room for them.

Each thing that reading has to know is a part of its own, with a file beside this one; the door tells all of them of a
rebalance.
"""

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient

from utils.joining.aggregator import NEVER
from utils.joining.offsets import PartitionOffsets
from utils.kafka.ends import Partition
from utils.kafka.identities import Identities
from utils.kafka.leaders import Leaders
from utils.metrics import Counters
from utils.reading.batches import Batch, Record
from utils.reading.evidence import Evidence
from utils.reading.fetching import Fetching
from utils.reading.in_step import InStep
from utils.reading.keys import KeyWatch
from utils.reading.leaps import FAR, Leaps
from utils.reading.owned import OwnedPartitions
from utils.reading.pausing import Pausing
from utils.reading.shown_ends import ShownEnds
from utils.reading.siblings import Siblings


@dataclass(frozen=True, slots=True)
class Waits:
    """What reading waits for."""

    settle: float = 0.0
    """Seconds until other workers of the consumer have seen a change of the input topics, too."""
    topics_changed_at: float = NEVER
    gather: float = 0.0
    """Seconds that a record stays for others, if it comes within so long of a read of a few. Without it, at a low rate
    each record is a turn of the loop, and what runs after a sleep runs cold: most of its CPU is that of the turn
    (measured)."""
    stopped: Callable[[], bool] = lambda: False
    """Whether the row says that nothing more is to be taken in for now."""
    far: int = FAR
    """Finished offsets in a row that are fetched again all the same: more are not waited for (`Leaps`)."""


class Intake:
    """Reads, and says what of it is to be done.

    `owned`: the partitions that are ours. `pausing`: which of them are paused. `keys`: of which topics they do not fit.
    `siblings`: where the other parts of their ids are. `evidence`: that none can come any more. `shown_ends`: for the
    status page.
    """

    def __init__(
        self,
        consumer: Consumer,
        counters: Counters,
        admin: AdminClient,
        clock: Callable[[], float] = time.monotonic,
        mismatches: dict[str, str] | None = None,
        waits: Waits | None = None,
    ) -> None:
        """`mismatches`: where it is said which input topics have keys that do not fit, and why."""
        waits = waits or Waits()
        self.keys = KeyWatch(counters, {} if mismatches is None else mismatches, clock)
        self.owned = OwnedPartitions(consumer, counters, clock)
        self.pausing = Pausing(consumer, self.owned, waits.stopped, clock)
        self.siblings = Siblings(self.owned, self.keys, clock, waits.settle, waits.topics_changed_at)
        self.evidence = Evidence(admin, self.owned, self.siblings)
        self.shown_ends = ShownEnds(admin, self.owned, self.pausing)
        self._leaps = Leaps(consumer, self.owned, waits.far)
        self._fetching = Fetching(consumer, waits.gather, clock)
        self._identities = Identities(admin)
        self._leaders = Leaders(admin)
        self.in_step = isinstance(consumer, InStep)  # topics come side by side
        self._rebalances = 0

    def rebalanced(self, owned: Iterable[PartitionOffsets], left_out: Collection[Partition] = ()) -> None:
        """Told by the rebalance callbacks: these partitions are ours now, and what was read before is not. `left_out`:
        so are these, but they, or their siblings, have no leader.
        """
        self._rebalances += 1
        self._leaps.is_due = False
        self._fetching.overtaken.clear()
        self.owned.rebalanced(owned)
        self._identities.assigned(self.owned.partitions.values())
        self._leaders.assigned(left_out)
        self.pausing.rebalanced()
        self.siblings.rebalanced(some_are_left_out=bool(left_out))
        self.evidence.rebalanced()
        self.shown_ends.rebalanced()

    @property
    def without_leader(self) -> set[Partition]:
        """Of our partitions, those that cannot be read for now: they, or siblings of them, have no leader."""
        return self._leaders.missed | (self._identities.leaderless & self.owned.partitions.keys())

    def is_outdated(self, now: float) -> bool:
        """Whether not all will be read that could be: since the partitions were assigned, a topic was deleted and made
        again, or one that had no leader has got one. Also asks, now and then, for the ends that are shown.
        """
        self.shown_ends.renew(now)
        return self._reads_former_topic(now) or self._leaders.have_returned(now)

    def _reads_former_topic(self, now: float) -> bool:
        return bool(self._identities.made_again(self.owned.partitions.values(), now))

    def read(self, load: float, groups: int, wait: float) -> list[Record]:
        """The next records, as soon as there are any; waits up to `wait` seconds for the first.

        `load`: 1 and more is no room; with paused partitions they go on below a half. `groups`: how many make that
        load. Raises KafkaException for what the client does not mend by itself.
        """
        if self._fetching.overtaken:
            self._go_on_from_earliest()
        self._leaps.take()
        most = self.pausing.most(load, groups)
        if not most:
            return []
        rebalances = self._rebalances
        records = self._fetching.next(wait, most)
        if rebalances != self._rebalances:  # in the middle of the read: what came before it is not ours any more
            self.owned.rewind(records)
            return []
        return records

    def _go_on_from_earliest(self) -> None:
        """Of no partition are there records that were read and that `unfinished` does not know yet."""
        overtaken, self._fetching.overtaken = self._fetching.overtaken, set()
        self.owned.go_on_from_earliest(overtaken)
        self._leaps.is_due = False
        self.pausing.rebalanced()

    def unfinished(self, records: Sequence[Record]) -> Batch:
        """The records that no earlier commit says are done. Nothing is decoded, but for a sample of their keys."""
        self.siblings.look(records)
        batch = self.owned.unfinished(records)
        self._leaps.is_due = len(batch.records) < len(records)
        return batch

    def read_shed_again(self) -> dict[Partition, int]:
        """Go back to the lowest offset for which there was no room, where reading has passed one since it last did.

        Returns how far reading had come in all partitions, or further: to the end that is known.
        """
        ends = self.evidence.last_ends
        targets = {at: max(each.read_end, ends.get(at, 0)) for at, each in self.owned.partitions.items()}
        for at in self.owned.read_shed_again():
            self.evidence.set_back(at)
        return targets
