"""A tenth of 90,000 messages waits for its own id: of one that always fails, or `raise Retry(after=3600)`.

    python -m tests.scale.one_id
    python -m tests.scale.one_id --delivery exactly_once --memory 4000000

Prints how long the others took, beside a run in which nothing fails, and how much memory it was at most; then the
worker is started again, and nothing fails any more. Ends with 1 where a result is missing, is there twice, or stands
before an older one of its id.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from tests.integration.conftest import PROCESS
from tests.integration.oracle import Oracle
from tests.integration.stream import Records
from tests.integration.test_scrape import metrics
from tests.integration.workers import Job, Outputs, Worker, eventually, feed
from tests.scale.join_500k import LONG, a_broker, say
from tests.services.kafka import KafkaBroker, unique_name

MESSAGES = 90_000
PARTITIONS = 4


def ids(which: str) -> list[str]:
    """A tenth is of the id `bad`, or begins with `later`."""
    tenth = {"bad": "bad", "later": "later-{}", "nothing": "{}"}[which]
    return [str(number) if number % 10 else tenth.format(number) for number in range(MESSAGES)]


def resident(worker: Worker) -> int:
    """MB, at most so far."""
    status = Path(f"/proc/{worker.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1000


def run(broker: KafkaBroker, directory: Path, which: str, options: argparse.Namespace) -> bool:
    topics = [unique_name("one-id"), unique_name("one-id-out")]
    for topic in topics:
        broker.create_topic(topic, PARTITIONS)
    bad = directory / which
    bad.touch()
    environment = {"PROCESS_BAD": str(bad), "DELIVERY": options.delivery, "MAX_PENDING_BYTES": str(options.memory)}
    job = Job(broker, unique_name("one"), topics[:1], topics[1:], directory, process=PROCESS, environment=environment)
    with ExitStack() as stack:
        stack.enter_context(job)
        oracle = Oracle(job.topics_input)
        outputs = Outputs(job, oracle)
        stack.callback(outputs.close)
        feed(broker, oracle, ids(which), topics[:1])
        worker = job.start(RETRY_BACKOFF="3600").is_assigned()
        began, others = time.monotonic(), MESSAGES if which == "nothing" else MESSAGES * 9 // 10
        outputs.wait(lambda: sum(oracle.results.values()) >= others, worker, seconds=LONG)
        took, seen = time.monotonic() - began, metrics(worker)
        parked, shed = seen["groups_parked", ""], seen["messages_shed_total", ""]
        say(f"{which}: {others} in {took:.1f} s, {worker.cpu():.1f} s of CPU, {resident(worker)} MB at most")
        say(f"{which}: {parked:.0f} parked, {shed:.0f} shed")
        assert worker.stop() == 0
        bad.unlink()
        worker = job.start().is_assigned()
        eventually(lambda: job.lag() == 0, "all committed", seconds=LONG)
        say(f"{which}: all done after a restart, {resident(worker)} MB at most")
        assert worker.stop() == 0
        results = Records.of(broker, topics[1]).values
        versions = [json.loads(value)["content"][topics[0]].rpartition("/")[2] for value in results["bad"]]
        good = Counter({id: len(values) for id, values in results.items() if values}) == Counter(ids(which))
        in_order = [int(version) for version in versions] == list(range(len(versions)))
        say(f"{which}: {'each once' if good else 'NOT each once'}, {'in order' if in_order else 'NOT in order'}")
        return good and in_order


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--delivery", default="at_least_once", choices=["at_least_once", "exactly_once"])
    parser.add_argument("--memory", type=int, default=268_435_456, help="MAX_PENDING_BYTES")
    options = parser.parse_args()
    with a_broker("") as broker, tempfile.TemporaryDirectory() as directory:
        good = [run(broker, Path(directory), which, options) for which in ("nothing", "bad", "later")]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
