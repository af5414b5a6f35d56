"""The ends of the partitions, as status page and metrics show them.

The worker decides nothing by them: what it needs to know of ends, it asks for in `evidence.py`.
"""

from collections.abc import Collection

from confluent_kafka import IsolationLevel
from confluent_kafka.admin import AdminClient

from utils.kafka.ends import EndOffsets, Partition
from utils.reading.owned import OwnedPartitions
from utils.reading.pausing import Pausing

ASK_EVERY, ASK_SELDOM = 10.0, 30.0  # seconds; the second where there is no lag
UNTOLD = 90.0  # seconds without a sign of life of a partition, whose broker does not answer then


class ShownEnds:
    """As the last fetch told, or as the broker answers: what is later.

    No partition may be fetched for an hour where process() is slow, for the client's queue is full; and what is paused
    is not fetched at all. Where the broker of some does not answer, nothing of them is known: they are `untold`, and
    have no end. That may be all of ours; where all of Kafka is away, they are not ours any more, long before.
    """

    def __init__(self, admin: AdminClient, owned: OwnedPartitions, pausing: Pausing) -> None:
        self._ask = EndOffsets(admin, IsolationLevel.READ_COMMITTED)
        self._owned = owned
        self._pausing = pausing
        self._answered: dict[Partition, int] = {}
        self._heard: dict[Partition, tuple[float, int]] = {}  # when there was a sign of life last; the position then
        self._next_asked = self._looked = 0.0
        self.untold: set[Partition] = set()

    def rebalanced(self) -> None:
        self._ask.forget()
        self._answered, self._heard, self.untold = {}, {}, set()
        self._next_asked = 0.0

    def renew(self, now: float) -> None:
        """At each turn of the loop, whether somebody looks or not: else the first look would tell what was so long ago.
        They are asked for every `ASK_EVERY` at most.
        """
        if now >= self._next_asked:
            self.look(now)

    def look(self, now: float) -> dict[Partition, int]:
        """The end of each partition, as far as it is known."""
        owned, ends = self._owned.partitions, self._owned.ends()
        paused = {at for at in owned if self._pausing.is_paused(at)}
        answers = {at: end for at, (_, end) in self._ask.answers().items()}
        self._answered |= answers
        ends |= {at: end for at, end in self._answered.items() if at in paused or end > ends.get(at, -1)}
        self._listen(answers, now)
        has_lag = any(ends.get(at, 0) > offsets.position for at, offsets in owned.items())
        if now >= self._next_asked:
            self._next_asked = now + (ASK_EVERY if paused or has_lag else ASK_SELDOM)
            self._ask.ask(owned, now)
        return {at: end for at, end in ends.items() if at not in self.untold}

    def _listen(self, answers: Collection[Partition], now: float) -> None:
        """A sign of life is an answer, or a record. Nobody has asked while the loop stood still."""
        if now - self._looked > UNTOLD:
            self._heard = {}
        self._looked = now
        for at, offsets in self._owned.partitions.items():
            _, before = self._heard.get(at, (now, -1))
            if at in answers or offsets.position != before:
                self._heard[at] = now, offsets.position
        self.untold = {at for at, (heard, _) in self._heard.items() if now - heard > UNTOLD}
