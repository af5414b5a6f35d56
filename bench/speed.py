"""How fast the contenders' core is just now: a loop that is always the same, timed 10 times a second.

python -m bench.speed      (prints when, and the microseconds that it took, until it is killed)

On a machine that others use too, the same instructions take up to twice as long at some moments, with nothing else
running in it (100,000 dependent additions: about 34 us or about 60 us), and so does what is measured meanwhile.
"""

import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.runs import PINNED

EVERY = 0.1  # seconds
STEPS = 20_000  # of the loop: 0.3 to 0.5 ms, about half a percent of the core


class Core:
    """The contenders' core, as the loop on it has found it so far."""

    def __init__(self, log: Path) -> None:
        self._log = log

    def taken(self, since: float, until: float) -> float:
        """Microseconds of CPU for the loop between these moments of time.monotonic(), on an average.

        Raises ChildProcessError where it was not timed.
        """
        return statistics.mean(self._timed(since, until))

    def percentiles(self) -> list[float]:
        """Microseconds of CPU for the loop, from the quickest hundredth (1) to the slowest (99), of all times."""
        return statistics.quantiles(self._timed(), n=100, method="inclusive")

    def _timed(self, since: float = 0.0, until: float = math.inf) -> list[float]:
        lines = [line.split() for line in self._log.read_text().splitlines()]
        timed = [float(took) for at, took in lines if since <= float(at) <= until]
        if not timed:
            raise ChildProcessError("bench.speed has timed nothing in that time: has it ended?")
        return timed


@contextmanager
def timed_core() -> Iterator[Core]:
    with tempfile.NamedTemporaryFile() as log:
        words = [*PINNED, sys.executable, "-m", "bench.speed"]
        # A session of its own: Ctrl-C is for this process, which ends the other one.
        with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, start_new_session=True) as loop:
            try:
                yield Core(Path(log.name))
            finally:
                loop.kill()


def main() -> None:
    while True:
        time.sleep(EVERY)
        began = time.thread_time_ns()
        for _ in range(STEPS):
            pass
        took = (time.thread_time_ns() - began) / 1_000
        sys.stdout.write(f"{time.monotonic():.3f} {took:.1f}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
