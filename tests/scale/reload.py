"""The row is edited while 5,000 messages a second flow through two workers, on real Kafka (issue 6, line 6).

    python -m tests.scale.reload --delivery exactly_once

Every id is sent to three topics at once. Two of them are joined; an output is added, the third input is added, the
second one removed, the row made a bad one, and mended with another setting. It prints how long each change took until
both workers had their half of the partitions by it, how long the results stood still, and what became of the ids; and
ends with 1 where a change took longer than CONFIG_REFRESH + 5 s, or where an id was lost, half, falsely given up, or
doubled (at least once: only after a kill may one be, and there is none).
"""

import argparse
import sys
import tempfile
import time
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from tests.integration.stream import Records, Stream, found
from tests.integration.workers import ASSIGNED, Job, eventually
from tests.scale.join_500k import LONG, a_broker, say
from tests.services.kafka import KafkaBroker, unique_name

CHANGED = "the row has changed: the worker starts again with it"
REFUSED = "the row has changed and is no good: the old one stays"
PARTITIONS = 4
PAD = 60  # characters, which make a message of about 200 bytes
MARGIN = 5.0  # seconds beside CONFIG_REFRESH


class Run:
    """Two workers, their row, and what every change of it took."""

    def __init__(self, job: Job, inputs: int, refresh: float) -> None:
        self.job = job
        self.workers = [job.start(), job.start()]
        self.late: list[str] = []
        self._refresh = refresh
        self._changes = 0
        self.applied(inputs)

    def change(self, what: str, topics_input: list[str], topics_output: list[str]) -> None:
        began = time.time()
        self.job.write_row(topics_input, topics_output)
        self._changes += 1
        seen = [at(worker.says(CHANGED, self._changes, LONG)) - began for worker in self.workers]
        took = self.applied(len(topics_input)) - began
        say(f"{what}: seen after {min(seen):.1f} and {max(seen):.1f} s, applied by both after {took:.1f} s")
        if took > self._refresh + MARGIN:
            self.late.append(what)

    def applied(self, inputs: int) -> float:
        """When both had their half of the partitions, since the last change."""

        def shared() -> float | None:
            lines = [(worker.said(CHANGED)[-1:], worker.said(ASSIGNED)[-1:]) for worker in self.workers]
            for worker in self.workers:
                worker.must_run()
            is_half = all(last and len(last[0]["partitions"]) == inputs * PARTITIONS // 2 for _, last in lines)
            is_new = all(not changed or at(changed[0]) < at(last[0]) for changed, last in lines if last)
            return max(at(last[0]) for _, last in lines) if is_half and is_new else None

        return eventually(shared, "both have their half", LONG)

    def refuse(self, topics_input: list[str]) -> None:
        began = time.time()
        self.job.write_row(topics_input)
        took = max(at(worker.says(REFUSED, seconds=LONG)) - began for worker in self.workers)
        say(f"a bad row: refused by both after {took:.1f} s")


def at(line: dict[str, str]) -> float:
    return datetime.fromisoformat(line["timestamp"]).timestamp()


def run(broker: KafkaBroker, directory: Path, options: argparse.Namespace) -> int:
    a, b, c, out, more = (unique_name(f"reload-{each}") for each in ("a", "b", "c", "out", "more"))
    for topic in (a, b, c, out, more):
        broker.create_topic(topic, PARTITIONS)
    environment = {
        "DELIVERY": options.delivery,
        "CONFIG_REFRESH": str(options.refresh),
        "MESSAGE_TIMEOUT": str(options.message_timeout),
    }
    with (
        Job(broker, unique_name("reload"), [a, b], [out], directory, environment=environment) as job,
        Stream(broker, [a, b, c], options.rate / 2, PAD) as stream,
    ):
        work = Run(job, 2, options.refresh)
        for what, inputs, outputs in (
            ("an output added", [a, b], [out, more]),
            ("an input added", [a, b, c], [out, more]),
            ("an input removed", [a, c], [out, more]),
        ):
            time.sleep(options.pause)
            work.change(what, inputs, outputs)
        time.sleep(options.pause)
        work.refuse([a, "no-such-topic"])
        work.change("mended, with an output less", [a, c], [out])
        time.sleep(options.pause + options.message_timeout + options.refresh)
        sent = stream.end()
        say(f"{sent} ids sent to three topics each, {options.rate} messages a second to two of them")
        eventually(lambda: not any(each.waiting for each in job.commits().values()), "nothing waits", LONG, pause=1)
        eventually(lambda: job.lag() == 0, "all committed", LONG, pause=1)
        codes = [worker.stop() for worker in work.workers]
        return judged(broker, job, sent, [(a, b), (a, b, c), (a, c)], codes, work.late)


def judged(
    broker: KafkaBroker, job: Job, sent: int, lists: list[tuple[str, ...]], codes: list[int], late: list[str]
) -> int:
    results = Records.of(broker, job.topics_output[0])
    verdict = found(sent, results, Records.of(broker, f"{job.name}-dlq"), lists)
    pauses = sorted((later - earlier for earlier, later in pairwise(results.times)), reverse=True)
    say(f"the results stood still for {', '.join(f'{pause:.1f}' for pause in pauses[:8])} s at most")
    restarts = sum(line["restarts"] for worker in job.workers for line in worker.said("stopped"))
    print(f"{sent} ids: {verdict}; exit codes {codes}, restarts after failures {restarts}, late: {late or 'none'}")
    return int(not verdict.good or any(codes) or bool(restarts) or bool(late))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.scale.reload", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--bootstrap", default="", help="host:port of a real Kafka; without it one is started")
    parser.add_argument("--rate", type=int, default=5_000, help="messages a second through the workers")
    parser.add_argument("--refresh", type=float, default=10.0, help="CONFIG_REFRESH, seconds")
    parser.add_argument("--message-timeout", type=float, default=10.0, help="MESSAGE_TIMEOUT, seconds")
    parser.add_argument("--pause", type=float, default=13.0, help="seconds between two changes")
    parser.add_argument("--delivery", choices=["at_least_once", "exactly_once"], default="at_least_once")
    options = parser.parse_args()
    with a_broker(options.bootstrap) as broker, tempfile.TemporaryDirectory(prefix="reload-") as directory:
        return run(broker, Path(directory), options)


if __name__ == "__main__":
    sys.exit(main())
