"""What an open status page costs the loop, on real Kafka: a steady feed, and the page by turns open and closed.

    python -m tests.scale.page
    python -m tests.scale.page --waiting 1000000 --rate 500

While it is open it is asked for as often as its own script does, and with it the JSON views, the longest list and a
search; /metrics is scraped every second all the time. It prints the CPU of the loop's thread and of the whole process,
in percent of a core, as medians of the turns. It judges nothing: a machine that others use gives other figures each
time.
"""

import argparse
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.oracle import fragment_value
from tests.integration.stream import Stream
from tests.integration.workers import Job, Worker, eventually, feeder
from tests.scale.join_500k import LONG, a_broker, say
from tests.services.kafka import KafkaBroker, unique_name

PARTITIONS = 4
SETTLED = 5.0  # seconds
PATHS = ("/", "/status.json", "/waiting.json?limit=10000", "/waiting.json?id=id-0")
EVERY = 5.0  # seconds, as the page's script has it


@contextmanager
def asked(worker: Worker, paths: tuple[str, ...], every: float) -> Iterator[None]:
    """Somebody asks for all of these pages again and again."""
    ended = threading.Event()
    address = worker.address

    def ask() -> None:
        while not ended.wait(every):
            for path in paths:
                with urllib.request.urlopen(f"{address}{path}", timeout=10) as answer:
                    answer.read()

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def cpu_of(worker: Worker, seconds: float) -> tuple[float, float]:
    """That of the loop's thread and of the process, in percent of a core, over so long."""
    began, before = time.monotonic(), _cpu(worker)
    time.sleep(seconds)
    passed = time.monotonic() - began
    loop, process = (100 * (after - first) / passed for after, first in zip(_cpu(worker), before, strict=True))
    return loop, process


def _cpu(worker: Worker) -> tuple[float, float]:
    """Seconds so far; the loop runs in the first thread of the process."""
    return worker.cpu(worker.pid), worker.cpu()


def run(broker: KafkaBroker, directory: Path, options: argparse.Namespace) -> int:
    a, b, out = (unique_name(f"page-{each}") for each in ("a", "b", "out"))
    for topic in (a, b, out):
        broker.create_topic(topic, PARTITIONS)
    environment = {"MESSAGE_TIMEOUT": "86400", "MAX_PENDING_BYTES": "2000000000", "DELIVERY": options.delivery}
    with Job(broker, unique_name("page"), (a, b), (out,), directory, environment=environment) as job:
        producer = feeder(broker)
        for number in range(options.waiting):
            producer.produce(a, fragment_value(a, f"alone-{number}"), f"alone-{number}")
            producer.poll(0)
        producer.flush()
        worker = job.start().is_assigned()
        waiting = f'consumer_groups_waiting{{consumer="{job.name}"}} {options.waiting:.1f}'
        eventually(lambda: waiting in worker.scrape(), f"{options.waiting} wait", LONG, pause=1)
        say(f"{options.waiting} ids wait")
        turns: dict[str, list[tuple[float, float]]] = {"closed": [], "open": []}
        with Stream(broker, (a, b), options.rate / 2), asked(worker, ("/metrics",), 1.0):
            time.sleep(SETTLED)
            for _ in range(options.turns):
                turns["closed"].append(cpu_of(worker, options.seconds))
                with asked(worker, PATHS, EVERY):
                    turns["open"].append(cpu_of(worker, options.seconds))
        code = worker.stop()
    for name, figures in turns.items():
        loop, process = ([each[at] for each in figures] for at in (0, 1))
        print(
            f"page {name}: the loop {statistics.median(loop):.1f} ({min(loop):.1f} to {max(loop):.1f}) % of a core, "
            f"the process {statistics.median(process):.1f} ({min(process):.1f} to {max(process):.1f})"
        )
    return code


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.scale.page", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--bootstrap", default="", help="host:port of a real Kafka; without it one is started")
    parser.add_argument("--rate", type=int, default=5_000, help="messages a second")
    parser.add_argument("--waiting", type=int, default=20_000, help="ids that wait")
    parser.add_argument("--turns", type=int, default=5, help="with the page open, and as many without")
    parser.add_argument("--seconds", type=float, default=10.0, help="of a turn")
    parser.add_argument("--delivery", choices=["at_least_once", "exactly_once"], default="at_least_once")
    options = parser.parse_args()
    with a_broker(options.bootstrap) as broker, tempfile.TemporaryDirectory(prefix="page-") as directory:
        return run(broker, Path(directory), options)


if __name__ == "__main__":
    sys.exit(main())
