"""The times of the records that are sent, where brokers refuse those of this host's clock.

By itself the client stamps what it sends with the clock of its host. Brokers refuse what is ahead of their own clock by
more than `message.timestamp.after.max.ms` (an hour, unless they are told otherwise).
"""

import time
from collections.abc import Callable, Iterable

from confluent_kafka import KafkaError

from utils.logger import logger

# Where more than one record of a batch is refused the client names no reason: then each is INVALID_RECORD, and the rest
# of the batch _INVALID_DIFFERENT_RECORD (client 2.16).
_REFUSED = {KafkaError.INVALID_TIMESTAMP, KafkaError.INVALID_RECORD}
_CURE = "set the clock of this host right, or that of the brokers; then start this worker again"


class Stamps:
    """Outlives the worker: after a refusal the next one goes by the newest message that the brokers have taken."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._refused: float | None = None  # a time that was refused, and not looked at yet. All in ms since 1970
        self._known: int | None = None  # the one that is gone by
        self._begin: float | None = None  # when `clock` was 0; None: by the host's clock

    def note(self, error: KafkaError) -> None:
        """A record was refused. With which time the client does not say: it was about now."""
        if error.code() in _REFUSED:
            self._refused = self._wall_clock() * 1000 if self._known is None else self._known

    def look(self, newest: Callable[[], Iterable[int]]) -> None:
        """Before a worker begins. `newest`: the latest times of messages in the partitions of the input topics, in ms.

        A time as late as what was refused is not gone by: it is of a clock as wrong, in a topic that takes more.
        """
        if self._refused is None:
            return
        refused = self._refused
        known = max((each for each in newest() if 0 < each < refused), default=0)
        self._refused = None
        if known:
            self._known, self._begin = known, known - self._clock() * 1000
            facts = {"ahead_of_newest_message_s": round((refused - known) / 1000), "cure": _CURE}
            logger.error("brokers refuse the time of this host: results get that of the newest message", extra=facts)

    def stamped(self, produce: Callable[..., None]) -> Callable[..., None]:
        """The client's `produce` itself, as long as the host's clock is gone by."""
        begin, clock = self._begin, self._clock
        if begin is None:
            return produce
        return lambda *args, **options: produce(*args, timestamp=int(begin + clock() * 1000), **options)
