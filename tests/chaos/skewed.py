"""`python -m tests.chaos.skewed`: main.py on a host whose clock is moved while it runs.

CHAOS_CLOCK: a file with the seconds by which the clock is ahead, looked at twice a second. What it sends has the
time of that clock. What measures durations (the monotonic clock) is not moved, as on a real host. (Debian's
libfaketime does not do: the waits of librdkafka, which are by the monotonic clock, then last as long as the clock
was moved. Measured, 0.9.10.)
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

import confluent_kafka

LOOK_EVERY = 0.5  # seconds


class SkewedClock:
    def __init__(self, file: Path) -> None:
        self._file = file
        self._real = time.time
        self._ahead = 0.0
        self._next_look = 0.0

    def __call__(self) -> float:
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_EVERY
            self._ahead = float(self._file.read_text())
        return self._real() + self._ahead


class SkewedProducer(confluent_kafka.Producer):
    """What it sends has the time of that clock, as with a client whose host is ahead."""

    def produce(self, *args: Any, **options: Any) -> None:
        super().produce(*args, **{"timestamp": int(time.time() * 1000), **options})


if __name__ == "__main__":
    vars(time)["time"] = SkewedClock(Path(os.environ["CHAOS_CLOCK"]))
    vars(confluent_kafka)["Producer"] = SkewedProducer
    from main import main

    sys.exit(main())
