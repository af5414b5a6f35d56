"""Quotas of brokers: who is above his own is told with an answer, and gets the next one only after a while."""

import time
from collections.abc import Callable

from confluent_kafka import ThrottleEvent


class Mute:
    """How long a broker takes nothing more of a producer, or gives nothing more to a consumer."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until = 0.0

    def on_throttle(self, event: ThrottleEvent) -> None:
        """The client's `throttle_cb`."""
        self._until = max(self._until, self._clock() + event.throttle_time)

    @property
    def seconds(self) -> float:
        """From now on."""
        return max(self._until - self._clock(), 0.0)
