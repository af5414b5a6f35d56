"""A million messages of the last hour on one topic, whose sibling is read 100 times slower, on real Kafka (rule 6).

    python -m tests.scale.backlog

Both topics hold the same ids, in the same order and with the same timestamps, but the messages of the second are a
hundred times as large: each fetch brings a hundred times fewer of them. Everything is in the log before the worker
starts, there is room for a twentieth of it, MESSAGE_TIMEOUT is a small part of what the run takes, and in the middle
the worker is killed. It prints a line every ten seconds and a table, and ends with 1 where an id was lost, half, given
up or (exactly once) twice, or where the process took more memory than MAX_PENDING_BYTES and what it takes without
waiting messages.
"""

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from tests.integration.workers import Job, eventually, feeder
from tests.scale.join_500k import LONG, a_broker, say, stopped
from tests.scale.opposite_order import Progress, peak_memory
from tests.scale.scattered_1m import Ledger, feed, metrics_of
from tests.services.kafka import unique_name
from utils.joining.aggregator import FRAGMENT_OVERHEAD

HOUR = 3_600.0  # seconds
PROCESS = '''"""Without the padding, which would make the outputs as large as the inputs."""

def process(message, consumer_name):
    return {"id": message["id"], "content": message["content"]}
'''


def run(job: Job, options: argparse.Namespace) -> int:
    a, b = job.topics_input
    producer, ledger = feeder(job.broker), Ledger(job, options.ids)
    began, now = time.monotonic(), time.time()
    small = len(message(options.ids))
    for topic, pad in ((a, 0), (b, (options.slower - 1) * small)):
        feed(producer, topic, range(options.ids), pad, lambda id: now - HOUR + HOUR * id / options.ids)
    say(f"fed {2 * options.ids} messages of {small} and {options.slower * small} B in {time.monotonic() - began:.0f} s")
    given_up, memory = 0, 0
    began = time.monotonic()
    for ids in (options.ids // 2, options.ids):
        worker = job.start()
        is_done = partial(Progress(ledger, worker).is_done, ids)
        eventually(is_done, f"{ids} ids out", options.patience, pause=0)
        given_up += int(metrics_of(worker)["groups_evicted_total"])
        memory = max(memory, peak_memory(worker))
        if ids < options.ids:
            worker.kill()
            say(f"kill -9 after {ledger.ids} ids")
    seconds = time.monotonic() - began
    eventually(lambda: job.lag() == 0, "all committed", LONG, pause=0.5)
    given_up += int(metrics_of(worker)["groups_evicted_total"])
    code, _ = stopped(worker)
    time.sleep(1)
    ledger.read()
    ledger.close()
    bound = int(job.whole_environment()["MAX_PENDING_BYTES"]) // 1_000_000 + options.beside
    figures = {
        "ids": options.ids,
        "room, in fragments of the first topic": options.room,
        "seconds": round(seconds),
        "lost": options.ids - ledger.ids,
        "half": len(ledger.half),
        "twice": ledger.twice,
        "given up": given_up,
        "peak memory, MB": memory,
        "bound of memory, MB": bound,
        "exit code": code,
    }
    for name, figure in figures.items():
        print(f"{name:40} {figure:12,}")
    once = options.delivery == "exactly_once"
    lost_or_bad = ledger.ids < options.ids or ledger.half or given_up or (once and ledger.twice)
    return int(bool(lost_or_bad or memory > bound or code))


def message(id: int) -> bytes:
    """As long as one of the first topic with the largest id."""
    return b'{"id":%d,"content":{"%s":%d}}' % (id, b"backlog-a-12345678", id)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.scale.backlog", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--bootstrap", default="", help="host:port of a real Kafka; without it one is started")
    parser.add_argument("--ids", type=int, default=1_000_000)
    parser.add_argument("--slower", type=int, default=100, help="how much larger the second topic's messages are")
    parser.add_argument("--room", type=int, default=50_000, help="fragments that may wait in memory")
    parser.add_argument("--delivery", choices=["at_least_once", "exactly_once"], default="at_least_once")
    parser.add_argument("--message-timeout", default="2", help="seconds")
    beside = "MB that the process takes beside what waits: also a batch of large messages"
    parser.add_argument("--beside", type=int, default=350, help=beside)
    parser.add_argument("--patience", type=float, default=3600.0, help="seconds until the run has failed")
    options = parser.parse_args()
    print(f"{options.ids} ids, {options.delivery}", flush=True)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="backlog-")))
        process = directory / "worker.py"
        process.write_text(PROCESS)
        broker = stack.enter_context(a_broker(options.bootstrap))
        topics = [unique_name(f"backlog-{each}") for each in ("a", "b", "out")]
        for topic in topics:
            broker.create_topic(topic, 1)
        environment = {
            "DELIVERY": options.delivery,
            "MESSAGE_TIMEOUT": options.message_timeout,
            # half of it is for what waits
            "MAX_PENDING_BYTES": str(2 * options.room * (len(message(options.ids)) + FRAGMENT_OVERHEAD)),
        }
        name = unique_name("backlog")
        job = Job(broker, name, topics[:2], topics[2:], directory, environment=environment, process=process)
        with job:
            return run(job, options)


if __name__ == "__main__":
    sys.exit(main())
