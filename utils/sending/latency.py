"""How long ids take from the arrival of their first message to the delivery of their results.

No Kafka. Of each batch a few ids stand for all, so that it costs the loop nothing to speak of.
"""

import time
from collections.abc import Callable, Sequence

from utils.metrics import Histogram
from utils.processing.outcome import Outcome

SAMPLE = 4  # ids of a batch that are timed


class Latency:
    """Told of what has left, and when it has arrived."""

    def __init__(self, histogram: Histogram | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: that by which fragments arrived."""
        self._histogram = histogram or Histogram()
        self._clock = clock
        self._on_the_way: list[tuple[float, int]] = []  # arrival, and how many ids it stands for

    def sent(self, outcomes: Sequence[Outcome]) -> None:
        """These are on their way. What has no result (filtered, failed) is not timed."""
        step = len(outcomes) // SAMPLE + 1
        self._on_the_way += [(each.group.arrival, step) for each in outcomes[::step] if each.results]

    def delivered(self) -> None:
        """Kafka has acknowledged all that was on its way."""
        now, on_the_way, self._on_the_way = self._clock(), self._on_the_way, []
        for arrival, number in on_the_way:
            self._histogram.add_alike(max(now - arrival, 0.0), number)

    def drop(self) -> None:
        """It is somebody else's now."""
        self._on_the_way = []
