"""What brokers have refused as too large: known over restarts, so that each record is refused once."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from utils.kafka.limits import RECORD_OVERHEAD
from utils.processing.outcome import Outcome
from utils.sending.pace import Pace
from utils.sending.stamps import Stamps

NARROW = 16_384  # bytes of a batch, once a larger one was refused: few topics take less
REMEMBERED = 60.0  # seconds for which what is as large as a result that was refused is taken to be refused, too

Sent = tuple[str | None, bytes | None, bytes | None]  # topic, key and value of a record


@dataclass(slots=True)
class Refused:
    """What of one group was too large for its topic."""

    result: float = math.inf  # bytes of the smallest one
    letter: bool = False


class Largest:
    """How large a result may be, as far as brokers have shown lately: each refusal of a transaction costs a restart.

    Not for long: the limit of a topic may be raised. And not where results are compressed: then their size does not
    tell what is sent.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.are_compressed = False
        self.client_takes: float = math.inf  # bytes of a record, as the client counts them
        self._refused: float = math.inf  # bytes of key and value of the smallest one
        self._until = 0.0

    def note(self, size: int) -> None:
        """Of a result that was refused, and not for its batch."""
        if self.are_compressed:
            return
        known = self._refused if self._clock() < self._until else math.inf
        self._refused, self._until = min(known, size), self._clock() + REMEMBERED

    def refuses(self, outcome: Outcome) -> bool:
        """Whether one of its results is as large."""
        return self.is_known and any(len(each.key) + len(each.value) >= self._refused for each in outcome.results)

    def client_refuses(self, outcome: Outcome) -> bool:
        """Whether one of its results is larger than the client takes, whatever its headers are."""
        room = self.client_takes - RECORD_OVERHEAD
        return any(len(each.key) + len(each.value) > room for each in outcome.results)

    @property
    def is_known(self) -> bool:
        return self._clock() < self._until


@dataclass(slots=True)
class Refusals:
    """What brokers have refused as too large. Outlives the worker: which record it was may show after a restart only.

    And how much they take at once, and which times.

    A broker refuses batches: only of a record that was alone in its own is it known that it was the one.
    """

    batch_size: int = 0
    """Bytes of a batch of several records; a larger record is alone in its own. 0: as many as the client takes."""
    groups: dict[str, Refused] = field(default_factory=dict)  # by the source of the first fragment
    largest: Largest = field(default_factory=Largest)
    alone: int = 0
    """Bytes from which a record leaves alone: see Alone."""
    whole: bool = False
    """Groups are to be kept with their results: the client has refused one of which no more was known."""
    stays: bool = False
    """What is refused is not to be done with: nothing leaves in its place, and what has refused it starts again."""
    pace: Pace = field(default_factory=Pace)
    stamps: Stamps = field(default_factory=Stamps)

    def has_been_alone(self, record: Sent) -> bool:
        _, key, value = record
        return 0 < self.batch_size <= max(len(key or b"") + len(value or b""), 1)

    def narrow(self) -> None:
        """Smaller batches from the next producer on. Those of one record cost most of the throughput (measured)."""
        self.batch_size = 1 if self.batch_size else NARROW
