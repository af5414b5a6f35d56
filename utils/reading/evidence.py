"""Evidence that no part of a group can come any more: how far the log is known to have been read, and when it ended.

No clock, no logging; `now` is a parameter.
"""

from confluent_kafka import IsolationLevel
from confluent_kafka.admin import AdminClient

from utils.joining.aggregator import FOREVER, NEVER, Enough
from utils.kafka.ends import EndOffsets, Partition
from utils.reading.owned import OwnedPartitions
from utils.reading.siblings import Siblings

PATIENCE = 10
"""Times MESSAGE_TIMEOUT for which a worker that has all partitions waits for those of other numbers; also one that has
some that it cannot read, where a missing part may be in each.
"""


class ReadThrough:
    """For each partition the last moment for which it is known that all records there were then have been read.

    The ends are asked for anew, never taken from the client's cache, and compared with the position, which counts
    transaction markers too. A broker that does not answer only delays the answer.
    """

    def __init__(self, admin: AdminClient, owned: OwnedPartitions, isolation: IsolationLevel) -> None:
        self._ask = EndOffsets(admin, isolation)
        self._owned = owned
        self._ends: dict[Partition, tuple[float, int]] = {}  # when asked for, and the answer not yet read up to
        self._through: dict[Partition, float] = {}
        self.last_ends: dict[Partition, int] = {}  # as last answered

    def __call__(self, now: float) -> dict[Partition, float]:
        owned = self._owned.partitions
        self._note_answers()
        for at, (asked, end) in list(self._ends.items()):
            if owned[at].position >= end:
                self._through[at] = asked
                del self._ends[at]
        self._ask.ask((at for at in owned if at not in self._ends), now)
        self._note_answers()
        return {at: self._through.get(at, NEVER) for at in owned}

    def rebalanced(self) -> None:
        """What is known is of partitions that may be ours no more."""
        self._ask.forget()
        self._ends, self._through, self.last_ends = {}, {}, {}

    def set_back(self, at: Partition) -> None:
        """Reading goes back there: it has to come to the end once more."""
        self._through.pop(at, None)

    def _note_answers(self) -> None:
        answers = self._ask.answers()
        self._ends |= answers
        self.last_ends |= {at: end for at, (_, end) in answers.items()}


class Evidence:
    """What the brokers tell of the ends of partitions, and how far reading has come since."""

    def __init__(self, admin: AdminClient, owned: OwnedPartitions, siblings: Siblings) -> None:
        self.read_through = ReadThrough(admin, owned, IsolationLevel.READ_COMMITTED)
        self._read_all = ReadThrough(admin, owned, IsolationLevel.READ_UNCOMMITTED)
        self._owned = owned
        self._siblings = siblings

    @property
    def last_ends(self) -> dict[Partition, int]:
        """Of what can be read, as last answered."""
        return self.read_through.last_ends

    def rebalanced(self) -> None:
        self.read_through.rebalanced()
        self._read_all.rebalanced()

    def set_back(self, at: Partition) -> None:
        self.read_through.set_back(at)
        self._read_all.set_back(at)

    def waited_enough(self, now: float, timeout: float) -> dict[Partition, Enough]:
        """By partition: which groups need not wait for it any longer.

        `timeout` has passed for them, and reading has come to the end that the partition had after that, with every
        record of it offered to the group: none was shed before the group was opened. None at all as long as other
        workers of the consumer may read other topics than this one: a missing part may be with them.

        An open transaction, of whomever, hides what comes after its first record, and the missing part may be there. So
        the end is that of the log; but after `timeout` once more it is that of what can be read. A transaction that
        nobody ends stops nothing.
        """
        if self._siblings.may_be_elsewhere(now):
            return {}
        enough = {}
        readable = self.read_through(now)
        for at, moment in self._read_all(now).items():
            shed_since = self._owned.partitions[at].shed.since
            arrived_by = max(moment - timeout, readable[at] - 2 * timeout)
            enough[at] = Enough(arrived_by, FOREVER if shed_since is None else shed_since)
        if not self._siblings.are_together():
            enough = _of_all_partitions(enough)
            return _later(enough, PATIENCE * timeout) if self._siblings.some_are_left_out else enough
        return _patiently(enough, PATIENCE * timeout) if self._siblings.are_all_here() else enough


def _patiently(enough: dict[Partition, Enough], patience: float) -> dict[Partition, Enough]:
    """As `_of_all_partitions`; but what could have been given up so long ago waits for the others no longer."""
    patient = {}
    for at, each in _of_all_partitions(enough).items():
        alone = enough[at].arrived_by - patience
        patient[at] = Enough(max(each.arrived_by, alone), each.first_drop)
    return patient


def _later(enough: dict[Partition, Enough], patience: float) -> dict[Partition, Enough]:
    """A partition that is ours is not read: only what could have been given up so long ago waits for it no longer."""
    return {at: Enough(each.arrived_by - patience, each.first_drop) for at, each in enough.items()}


def _of_all_partitions(enough: dict[Partition, Enough]) -> dict[Partition, Enough]:
    """For any partition number: what holds for all partitions of the topic, for a missing part may be in each."""
    numbers = {number for _, number in enough}
    least: dict[str, Enough] = {}
    for (topic, _), each in enough.items():
        known = least.get(topic, each)
        least[topic] = Enough(min(known.arrived_by, each.arrived_by), min(known.first_drop, each.first_drop))
    return {(topic, number): each for topic, each in least.items() for number in numbers}
