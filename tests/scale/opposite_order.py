"""Two topics that bring the same ids in opposite order, with room for a twentieth of them, on real Kafka (rule 7).

    python -m tests.scale.opposite_order

Everything is in the log before the worker starts, and MESSAGE_TIMEOUT is a small part of what the run takes. It prints
a line every ten seconds and a table, and ends with 1 where an id was lost, half, given up or (exactly once) twice, or
where the process took more memory than MAX_PENDING_BYTES and what it takes without waiting messages.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.integration.workers import Job, Worker, eventually, feeder
from tests.scale.join_500k import LONG, a_broker, say, stopped
from tests.scale.scattered_1m import Ledger, feed, metrics_of
from tests.services.kafka import unique_name
from utils.joining.aggregator import FRAGMENT_OVERHEAD

PAD = 130  # characters, which make a message of about 200 bytes
EVERY = 10.0  # seconds between two lines

Order = Callable[[list[int], random.Random], Sequence[int]]
ORDERS: dict[str, Order] = {
    "opposite": lambda ids, _: ids[::-1],
    "random": lambda ids, chance: chance.sample(ids, len(ids)),
    "same": lambda ids, _: ids,
}


class Progress:
    """What the worker does, a line every ten seconds, and the most memory it ever had."""

    def __init__(self, ledger: Ledger, worker: Worker) -> None:
        self._ledger = ledger
        self._worker = worker
        self._next = time.monotonic() + EVERY
        self.began = time.monotonic()

    def is_done(self, ids: int) -> bool:
        self._ledger.read()
        self._worker.must_run()
        if time.monotonic() >= self._next:
            self._next += EVERY
            say(self.line())
        return self._ledger.ids >= ids

    def line(self) -> str:
        seen = metrics_of(self._worker)
        return (
            f"{time.monotonic() - self.began:5.0f} s: {self._ledger.ids} results, {seen['groups_waiting']:.0f} wait, "
            f"read {seen['messages_read_total']:.0f}, dropped {seen['messages_shed_total']:.0f}, "
            f"{peak_memory(self._worker)} MB at most"
        )


def peak_memory(worker: Worker) -> int:
    """Resident, in MB, the most so far."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{worker.pid}/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) // 1024


def run(job: Job, options: argparse.Namespace) -> int:
    a, b = job.topics_input
    ids = list(range(options.ids))
    producer, ledger = feeder(job.broker), Ledger(job, options.ids)
    began = time.monotonic()
    feed(producer, a, ids, PAD)
    feed(producer, b, ORDERS[options.order](ids, random.Random(options.seed)), PAD)
    say(f"fed {2 * options.ids} messages in {time.monotonic() - began:.0f} s")
    worker = job.start()
    progress = Progress(ledger, worker)
    eventually(lambda: progress.is_done(options.ids), "every id out", options.patience, pause=0)
    seconds = time.monotonic() - progress.began
    eventually(lambda: job.lag() == 0, "all committed", LONG, pause=0.5)
    seen, memory = metrics_of(worker), peak_memory(worker)
    code, _ = stopped(worker)
    time.sleep(1)
    ledger.read()
    ledger.close()
    given_up = int(seen["groups_evicted_total"])
    bound = int(job.whole_environment()["MAX_PENDING_BYTES"]) // 1_000_000 + options.beside
    figures = {
        "order of the second topic": options.order,
        "ids": options.ids,
        "room, in fragments": options.room,
        "seconds": round(seconds),
        "lost": options.ids - ledger.ids,
        "half": len(ledger.half),
        "twice": ledger.twice,
        "given up": given_up,
        "messages read": int(seen["messages_read_total"]),
        "of them dropped, to be read again": int(seen["messages_shed_total"]),
        "skipped": int(seen["messages_skipped_total"]),
        "peak memory, MB": memory,
        "bound of memory, MB": bound,
        "exit code": code,
    }
    for name, figure in figures.items():
        print(f"{name:36} {figure:>12}" if isinstance(figure, str) else f"{name:36} {figure:12,}")
    once = options.delivery == "exactly_once"
    lost_or_bad = ledger.ids < options.ids or ledger.half or given_up or (once and ledger.twice)
    return int(bool(lost_or_bad or memory > bound or code))


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.scale.opposite_order", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--bootstrap", default="", help="host:port of a real Kafka; without it one is started")
    parser.add_argument("--ids", type=int, default=1_000_000)
    parser.add_argument("--room", type=int, default=50_000, help="fragments that may wait in memory")
    parser.add_argument("--order", choices=ORDERS, default="opposite", help="of the ids in the second topic")
    parser.add_argument("--delivery", choices=["at_least_once", "exactly_once"], default="at_least_once")
    parser.add_argument("--message-timeout", default="10", help="seconds")
    parser.add_argument("--beside", type=int, default=300, help="MB that the process takes beside what waits")
    parser.add_argument("--patience", type=float, default=3600.0, help="seconds until the run has failed")
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.ids} ids, {options.delivery}", flush=True)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="opposite-")))
        broker = stack.enter_context(a_broker(options.bootstrap))
        topics = [unique_name(f"opposite-{each}") for each in ("a", "b", "out")]
        for topic in topics:
            broker.create_topic(topic, 1)
        fragment = len(b'{"id":%d,"content":{"%s":%d},"pad":"%s"}' % (options.ids, b"a" * 19, options.ids, b"x" * PAD))
        environment = {
            "DELIVERY": options.delivery,
            "MESSAGE_TIMEOUT": options.message_timeout,
            # half of it is for what waits
            "MAX_PENDING_BYTES": str(2 * options.room * (fragment + FRAGMENT_OVERHEAD)),
        }
        job = Job(broker, unique_name("opposite"), topics[:2], topics[2:], directory, environment=environment)
        with job:
            return run(job, options)


if __name__ == "__main__":
    sys.exit(main())
