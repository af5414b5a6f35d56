"""The last minutes of a few numbers, for the charts of the status page. No clock: the caller says when it was."""

from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

LENGTH = 120  # samples; one every five seconds makes ten minutes


class Sample(NamedTuple):
    """What was counted at a moment, in seconds of a monotonic clock."""

    at: float
    read: int
    results: int
    failed: int
    waiting: int  # groups at that moment


@dataclass(frozen=True, slots=True)
class Series:
    """A chart: values from the oldest to the newest."""

    title: str
    unit: str
    values: tuple[float, ...]

    @property
    def latest(self) -> float:
        return self.values[-1] if self.values else 0.0


class History:
    """Written by one thread, read by any."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque(maxlen=LENGTH)

    def add(self, sample: Sample) -> None:
        self._samples.append(sample)

    def series(self) -> tuple[Series, ...]:
        samples = list(self._samples)
        return (
            Series("messages in", "a second", _rates([(each.at, each.read) for each in samples])),
            Series("results out", "a second", _rates([(each.at, each.results) for each in samples])),
            Series("failed", "a second", _rates([(each.at, each.failed) for each in samples])),
            Series("ids waiting", "", tuple(float(each.waiting) for each in samples)),
        )


def _rates(samples: list[tuple[float, int]]) -> tuple[float, ...]:
    """By which the count grew a second, between each two samples: what is taken out of it is never more than that."""
    return tuple(
        max(after - before, 0) / (later - earlier)
        for (earlier, before), (later, after) in pairwise(samples)
        if later > earlier
    )
