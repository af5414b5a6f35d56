"""A feed with one per cent of everything bad, two workers and several kills, on real Kafka (issue 6, line 1).

    python -m tests.scale.bad_feed
    python -m tests.scale.bad_feed --delivery exactly_once --ids 20000

Of all ids one in ten is incomplete, and one in a hundred each: no JSON, without an id, with a content and with an id
of another type, always failing, rejected, with a result that is no JSON, too large for any topic, filtered, sent twice;
and one in 5,000 has a result that only the broker finds too large. Any call of process() fails by chance, and is tried
again. Every few seconds one or two of the workers are ended by SIGKILL. At the end it holds every record of the inputs
against results, dead letters and commits (I7 of the design), and ends with 1 where one is nowhere, where it should not
be, or (exactly once) in two places.
"""

import argparse
import heapq
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path

from tests.integration.accounts import account
from tests.integration.alarms import PROCESS, numbered, value
from tests.integration.oracle import Oracle, fragment_value
from tests.integration.stream import Stream
from tests.integration.workers import Job, Worker, eventually, feed
from tests.scale.join_500k import LONG, a_broker, say
from tests.services.kafka import KafkaBroker, unique_name

PARTITIONS = 4
LIMIT = 20_000  # bytes of a result that the output topic takes
TIMEOUT = 15.0  # MESSAGE_TIMEOUT, seconds
SPLIT = 0.1  # of the ids have their halves apart, by up to
APART = 5.0  # seconds
LATE = 200  # ids that still wait at the end
QUIET = 10.0  # seconds before the end of the feed in which nothing is killed

RAW: dict[str, Callable[[str], bytes]] = {  # records that are no messages
    "no json": lambda id: b'{"id": "%s", "content"' % id.encode(),
    "no id": lambda _: b'{"content": {"item": "tea"}}',
    "other content": lambda id: b'{"id": "%s", "content": ["tea"]}' % id.encode(),
    "other id": lambda _: b'{"id": {"number": 7}, "content": {}}',
}
SHARES = {
    **dict.fromkeys([*RAW, "fail", "reject", "wrong", "huge", "big", "none", "twice"], 0.01),
    "huge": 0.0002,  # each costs a restart with exactly once: a hundredth of them would be all that the run is about
    "alone": 0.1,
}


class BadFeed(Stream):
    """Whole ids, and shares of all that is bad."""

    def __init__(self, broker: KafkaBroker, topics: Sequence[str], ids_a_second: float, chance: random.Random) -> None:
        super().__init__(broker, topics, ids_a_second)
        self._chance = chance
        self._apart = int(APART * ids_a_second)
        self._later: list[tuple[int, str, bytes, str]] = []  # what is sent with which number
        self._kinds = [*SHARES, "whole"]
        self._limits = [*accumulate(SHARES.values()), 1.0]

    def send(self, number: int) -> None:
        while self._later and self._later[0][0] <= number:
            self.put(*heapq.heappop(self._later)[1:])
        [kind] = self._chance.choices(self._kinds, cum_weights=self._limits)
        id = f"{kind}-{number}"
        first, second = self._chance.sample(self.topics, 2)
        if kind in RAW:
            self.put(first, RAW[kind](id), id)
            return
        self.put(first, fragment_value(first, id), id)
        if kind == "twice":
            self.put(first, fragment_value(first, id, version=1), id)
        if kind == "alone":
            return
        if self._chance.random() < SPLIT:
            due = number + self._chance.randrange(1, self._apart)
            heapq.heappush(self._later, (due, second, fragment_value(second, id), id))
        else:
            self.put(second, fragment_value(second, id), id)

    def end(self) -> int:
        sent = super().end()
        while self._later:
            self.put(*heapq.heappop(self._later)[1:])
        super().end()
        return sent


class Workers:
    """Two of them, and what they did."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self.running: list[Worker] = [job.start(), job.start()]
        self.kills = 0
        self.ended: list[str] = []  # those that ended though nobody told them to
        for worker in self.running:
            worker.is_assigned()

    def kill(self, number: int, chance: random.Random) -> None:
        for worker in chance.sample(self.running, number):
            worker.kill()
            self.running.remove(worker)
            self.kills += 1
        self.complete()

    def complete(self) -> None:
        for worker in [each for each in self.running if each.process.poll() is not None]:
            self.running.remove(worker)
            self.ended.append(f"{worker.process.returncode}: {worker.tail()}")
        while len(self.running) < 2:
            self.running.append(self._job.start())

    def stop(self) -> None:
        for worker in self.running:
            worker.process.terminate()
        self.ended += [f"{code} at the end: {worker.tail()}" for worker in self.running if (code := worker.ends())]

    def has_open_circuit(self) -> bool:
        """Where none but failing ids are left after a restart, only another message shows that it is no outage."""
        return any(value(worker, "consumer_circuit_open") for worker in self.running)


def run(broker: KafkaBroker, directory: Path, delivery: str, options: argparse.Namespace) -> int:
    chance = random.Random(options.seed)
    a, b, out = (unique_name(f"bad-{each}") for each in ("a", "b", "out"))
    for topic in (a, b):
        broker.create_topic(topic, PARTITIONS)
    broker.create_topic(out, PARTITIONS, {"max.message.bytes": str(LIMIT)})
    environment = {
        "DELIVERY": delivery,
        "MESSAGE_TIMEOUT": str(TIMEOUT),
        "PROCESS_ATTEMPTS": "8",  # one that fails by chance only is never given up
        "RETRY_BACKOFF": "0.05",
        "PROCESS_ODD": "1",
        "PROCESS_SIZE": str(LIMIT + 10_000),
        "PROCESS_RANDOM": str(options.failing),
        "KAFKA_SESSION_TIMEOUT_MS": "3000",
        "KAFKA_HEARTBEAT_INTERVAL_MS": "600",
    }
    job = Job(broker, unique_name("bad"), [a, b], [out], directory, process=PROCESS, environment=environment)
    with job, BadFeed(broker, (a, b), options.rate, chance) as stream:
        workers, began = Workers(job), time.monotonic()
        while stream.sent < options.ids:
            time.sleep(chance.uniform(*options.pause))
            if stream.sent < options.ids - QUIET * options.rate:
                workers.kill(chance.randint(1, 2), chance)
                say(f"{stream.sent} ids sent, {workers.kills} kills")
        sent = stream.end()
        say(f"{sent} ids sent in {time.monotonic() - began:.0f} s")

        def all_committed() -> bool:
            if workers.has_open_circuit():
                feed(broker, Oracle((a, b)), numbered(20, f"more-{time.time()}-"))
            workers.complete()
            return job.lag() == 0

        eventually(all_committed, "all committed", LONG, pause=0.5)
        say(f"all committed after {time.monotonic() - began:.0f} s")
        feed(broker, Oracle((a, b)), numbered(LATE, "late-"), [a])

        def all_wait() -> bool:
            return sum(len(each.waiting) for each in job.commits().values()) == LATE

        eventually(all_wait, "the last ones wait", TIMEOUT)
        workers.stop()
        found = account(job, LONG)
    counted = [line for worker in workers.running for line in worker.said("stopped")]
    restarts, retried, outages = (sum(line[name] for line in counted) for name in ("restarts", "retried", "outages"))
    print(f"{delivery}, {sent} ids, {workers.kills} kills of {len(job.workers)} workers; {found}")
    print(f"the last two workers: {restarts} restarts, {retried} calls tried again, {outages} outages")
    print(f"ended by themselves: {json.dumps(workers.ended) if workers.ended else 'none'}", flush=True)
    return int(bool(not found.is_good(once=delivery == "exactly_once") or workers.ended))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.scale.bad_feed", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--bootstrap", default="", help="host:port of a real Kafka; without it one is started")
    parser.add_argument("--delivery", choices=["at_least_once", "exactly_once"], help="without it: both")
    parser.add_argument("--ids", type=int, default=100_000)
    parser.add_argument("--rate", type=int, default=1_000, help="ids a second")
    parser.add_argument("--failing", type=float, default=0.05, help="share of calls that fail by chance")
    parser.add_argument("--pause", type=float, nargs=2, default=(8, 16), help="seconds between two kills")
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    deliveries = [options.delivery] if options.delivery else ["at_least_once", "exactly_once"]
    with a_broker(options.bootstrap) as broker, tempfile.TemporaryDirectory(prefix="bad-") as directory:
        return max([run(broker, Path(directory), delivery, options) for delivery in deliveries])


if __name__ == "__main__":
    sys.exit(main())
