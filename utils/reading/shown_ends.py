"""The ends of the partitions, as status page and metrics show them.

The worker decides nothing by them: what it needs to know of ends, it asks for in `evidence.py`.
"""

from confluent_kafka import IsolationLevel
from confluent_kafka.admin import AdminClient

from utils.kafka.ends import EndOffsets, Partition
from utils.reading.owned import OwnedPartitions
from utils.reading.pausing import Pausing

ASK_EVERY = 10.0  # seconds


class ShownEnds:
    """As the last fetch told, which costs no request, as long as there is no lag: then each partition is fetched.

    Else none may be for an hour: the client's queue is full where process() is slow, and what is paused is not fetched
    at all. So ends are asked for then.
    """

    def __init__(self, admin: AdminClient, owned: OwnedPartitions, pausing: Pausing) -> None:
        self._ask = EndOffsets(admin, IsolationLevel.READ_COMMITTED)
        self._owned = owned
        self._pausing = pausing
        self._answered: dict[Partition, int] = {}
        self._next_asked = 0.0

    def rebalanced(self) -> None:
        self._ask.forget()
        self._answered = {}

    def look(self, now: float) -> dict[Partition, int]:
        """The end of each partition, as far as it is known. It is asked for every `ASK_EVERY` at most."""
        owned, ends = self._owned.partitions, self._owned.ends()
        paused = {at for at in owned if self._pausing.is_paused(at)}
        self._answered |= {at: end for at, (_, end) in self._ask.answers().items()}
        ends |= {at: end for at, end in self._answered.items() if at in paused or end > ends.get(at, -1)}
        has_lag = any(ends.get(at, 0) > offsets.position for at, offsets in owned.items())
        if (paused or has_lag) and now >= self._next_asked:
            self._next_asked = now + ASK_EVERY
            self._ask.ask(owned, now)
        return ends
