"""How fast the contenders' core is just now: a loop that is always the same, timed 10 times a second.

python -m bench.speed

Of a machine that others use too, half a physical core may be theirs. While it is busy the same instructions take up to
twice as long here, and so does all that is measured meanwhile (100,000 dependent additions: 34 us or 60 us, seldom
anything between, with nothing else running in this machine).
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.runs import TIED, WORKER_CORE

EVERY = 0.1  # seconds
STEPS = 20_000  # of the loop: 0.3 to 0.5 ms, less than half a percent of the core
QUICKEST = 100  # one in so many is taken for undisturbed; in a quiet hour nearly all are


class Core:
    """The contenders' core, as the loop on it has found it so far."""

    def __init__(self, log: Path) -> None:
        self._log = log

    def taken(self, since: float, until: float) -> float:
        """Microseconds of CPU for the loop between these moments of time.monotonic(), on an average.

        Raises RuntimeError where it was not timed.
        """
        timed = [took for at, took in self._timed() if since <= at <= until]
        if not timed:
            raise RuntimeError("bench.speed has timed nothing in that time: has it ended?")
        return statistics.mean(timed)

    def undisturbed(self) -> float:
        """Microseconds of CPU for the loop when nobody else slows it down."""
        return statistics.quantiles([took for _, took in self._timed()], n=QUICKEST)[0]

    def _timed(self) -> Iterator[tuple[float, float]]:
        for line in self._log.read_text().splitlines():
            at, took = line.split()
            yield float(at), float(took)


@contextmanager
def timed_core() -> Iterator[Core]:
    with tempfile.NamedTemporaryFile() as log:
        words = [*TIED, "taskset", "--cpu-list", str(WORKER_CORE), sys.executable, "-m", "bench.speed"]
        with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log) as loop:
            try:
                yield Core(Path(log.name))
                if loop.poll() is not None:
                    raise RuntimeError(f"{' '.join(words)} has ended with {loop.returncode}")
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
