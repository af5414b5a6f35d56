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
    """As the last fetch told, which costs no request. Paused partitions are not fetched: their ends are asked for."""

    def __init__(self, admin: AdminClient, owned: OwnedPartitions, pausing: Pausing) -> None:
        self._ask = EndOffsets(admin, IsolationLevel.READ_COMMITTED)
        self._owned = owned
        self._pausing = pausing
        self._ends_of_paused: dict[Partition, int] = {}
        self._next_asked = 0.0

    def rebalanced(self) -> None:
        self._ask.forget()
        self._ends_of_paused = {}

    def look(self, now: float) -> dict[Partition, int]:
        """The end of each partition, as far as it is known. Paused ones are asked for every `ASK_EVERY` at most."""
        owned = self._owned.partitions
        paused = [at for at in owned if self._pausing.is_paused(at)]
        self._ends_of_paused |= {at: end for at, (_, end) in self._ask.answers().items()}
        if paused and now >= self._next_asked:
            self._next_asked = now + ASK_EVERY
            self._ask.ask(paused, now)
        return self._owned.ends() | {at: end for at, end in self._ends_of_paused.items() if at in paused}
