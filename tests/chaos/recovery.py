"""`python -m tests.chaos.recovery`: how long new results take after a worker's end, with the shipped time-outs.

A worker is killed or stopped and started again at once, with and without GROUP_INSTANCE_ID, alone or beside another
one. Measured is the time until, in every partition, what was sent after its end has its result. Ends with 1 where that
is more than it may be (issue 4): the session time-out + 2 s after `kill -9`, 3 s when static or stopped in order.
"""

import argparse
import random
import statistics
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.chaos.faults import has_ended
from tests.chaos.stage import Stage
from tests.services.kafka import real_broker
from utils.kafka.properties import SESSION_TIMEOUT_MS

SESSION = SESSION_TIMEOUT_MS / 1000
RATE = 200  # ids a second


def cases() -> Iterator[tuple[str, str, bool, int, float]]:
    """Delivery, what is done to the worker, whether it is a static member, how many there are, seconds it may take."""
    for delivery in ("at_least_once", "exactly_once"):
        for end, is_static in (("kill", False), ("kill", True), ("stop", False), ("stop", True)):
            for workers in (1, 2):
                yield delivery, end, is_static, workers, SESSION + 2 if (end, is_static) == ("kill", False) else 3


def measure(stage: Stage, end: str, is_static: bool, workers: int, times: int) -> list[float]:
    names = [f"worker-{number}" if is_static else "" for number in range(workers)]
    stage.feed()
    for name in names:
        stage.until_assigned(stage.start(GROUP_INSTANCE_ID=name))
    stage.happened()
    stage.until_results_flow()
    stage.seconds.clear()
    for _ in range(times):
        stage.pass_time(stage.chance.uniform(2, 4))
        worker = stage.workers[0]
        stage.happened()
        if end == "kill":
            stage.kill(worker)
        else:
            stage.stop(worker)
            stage.wait_until(partial(has_ended, worker), "its end")
        names.append(names.pop(0))  # as the workers: the killed one's successor is the last
        stage.start(GROUP_INSTANCE_ID=names[-1])
        stage.until_results_flow()
    return stage.seconds


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.recovery", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--delivery", default="")
    parser.add_argument("--end", default="")
    parser.add_argument("--keep", type=Path, help="a directory for the workers' logs; default: they are not kept")
    options = parser.parse_args()
    slow = 0
    print(f"{'delivery':14} {'end':5} {'member':8} workers  median longest  may take   each")
    with tempfile.TemporaryDirectory(prefix="recovery-") as temporary, real_broker() as broker:
        directory = options.keep or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        for delivery, end, is_static, workers, most in cases():
            if options.delivery not in delivery or options.end not in end:
                continue
            with Stage(broker, delivery, directory, random.Random(), session=SESSION, rate=RATE) as stage:
                seconds = measure(stage, end, is_static, workers, options.times)
            slow += max(seconds) > most
            figures = f"{statistics.median(seconds):8.1f} {max(seconds):7.1f} {most:9.0f}"
            each = " ".join(f"{number:.1f}" for number in seconds)
            member = "static" if is_static else "dynamic"
            print(f"{delivery:14} {end:5} {member:8} {workers:7} {figures}   {each}", flush=True)
    return int(slow > 0)


if __name__ == "__main__":
    sys.exit(main())
