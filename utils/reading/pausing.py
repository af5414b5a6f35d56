"""Which partitions are paused: all while there is no room for records, and some that are ahead of the others.

No logging. How full memory is, is a parameter.
"""

from collections.abc import Callable, Iterable

from confluent_kafka import Consumer, TopicPartition

from utils.kafka.ends import Partition
from utils.reading.fetching import BATCH
from utils.reading.owned import OwnedPartitions

PAUSE_AFTER = 1.0  # seconds without room for more records before the partitions are paused, to poll on
ALMOST_FULL = 1 - 1 / 64  # with more load, reading waits for more room: a turn for a few records costs as one for many
FEW_AFTER = 0.5
"""Seconds; then a few are read. So where process() is slow but not still, nothing is paused: the client throws away
what it has read ahead of a paused partition, and fetches it again (measured)."""

STANDSTILL = 10.0
"""Seconds for which nothing has moved: then what room there is, is read into. All that is there may rest in an outage,
and only a message that is not there yet shows that it is over."""


class Pausing:
    """Without room for long all partitions are paused, so that polling, and with it the membership, goes on."""

    def __init__(
        self, consumer: Consumer, owned: OwnedPartitions, stopped: Callable[[], bool], clock: Callable[[], float]
    ) -> None:
        """`stopped`: see Waits."""
        self._consumer = consumer
        self._owned = owned
        self._stopped = stopped
        self._clock = clock
        self.ahead: set[Partition] = set()  # paused because their siblings must catch up
        self._full_since: float | None = None
        self._all_paused = False
        self._load, self._same_since = 0.0, 0.0  # while all are paused: the load, and since when it is that

    def rebalanced(self) -> None:
        """None is paused any more."""
        self.ahead = set()
        self._all_paused, self._full_since = False, None

    @property
    def is_stopped(self) -> bool:
        """Whether the row says so. What is in memory goes its way; polling, and with it the membership, goes on."""
        return self._stopped()

    def is_paused(self, at: Partition) -> bool:
        return self._all_paused or at in self.ahead

    def most(self, load: float, groups: int) -> int:
        """How many records a poll may bring: as many as there is room for. 0: there is none, do not poll.

        `load`: 1 and more is no room; with paused partitions they go on below a half, or where nothing moves. `groups`:
        how many make that load. While all partitions are paused a poll brings no records, whatever this says.
        """
        is_stopped = self.is_stopped
        if not is_stopped and load < (0.5 if self._all_paused and not self._stands_still(load) else ALMOST_FULL):
            self._resume()
            return _fit(load, groups)
        now = self._clock()
        if self._full_since is None:
            self._full_since = now
        full_for = now - self._full_since
        if not is_stopped and load < 1 and not self._all_paused and full_for > FEW_AFTER:
            self._full_since = None
            return _fit(load, groups)
        if not self._all_paused and (is_stopped or full_for > PAUSE_AFTER):
            self._load, self._same_since = load, now
            self._consumer.pause([TopicPartition(*at) for at in self._owned.partitions])
            self._all_paused = True
        return BATCH if self._all_paused else 0

    def _stands_still(self, load: float) -> bool:
        now = self._clock()
        if load != self._load:
            self._load, self._same_since = load, now
        return now - self._same_since > STANDSTILL

    def _resume(self) -> None:
        """There is room: all go on but those that are ahead."""
        if self._all_paused:
            self._consumer.resume([TopicPartition(*at) for at in self._owned.partitions if at not in self.ahead])
        self._all_paused, self._full_since = False, None

    def pause_only(self, ahead: Iterable[Partition]) -> None:
        """Pause these partitions, and no others; while there is no room, all stay paused, and these go on to be."""
        ahead = set(ahead)
        if not self._all_paused and (resumed := self.ahead - ahead):
            self._consumer.resume([TopicPartition(*at) for at in resumed])
        if paused := ahead - self.ahead:
            self._consumer.pause([TopicPartition(*at) for at in paused])
        self.ahead = ahead


def _fit(load: float, groups: int) -> int:
    """How many records have room, if each takes what one of these groups takes."""
    return min(max(int(groups * (1 - load) / load), 1), BATCH) if load > 0.5 else BATCH
