"""The service that process() calls is down for two minutes, in mid-stream, on real Kafka (issue 6, line 2).

    python -m tests.scale.api_down
    python -m tests.scale.api_down --how frozen

Two workers run examples/http_session.py as their worker.py, over an HTTP service of this run. That is ended by SIGKILL
(or stopped by SIGSTOP: it takes connections and never answers), and comes back without anybody touching the workers.
Prometheus scrapes them, with the rules as shipped. It prints when the circuit opened, what the page said, when the
alert fired and ended, and how long the first new result took; and ends with 1 where an id was lost, doubled or dead-
lettered, where results came in the outage, or where metric, page, JSON or alert did not tell of it.
"""

import argparse
import json
import re
import signal
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from os import kill
from pathlib import Path

from tests.integration.alarms import value
from tests.integration.stream import Records, Stream
from tests.integration.workers import Job, Worker, eventually
from tests.program import ROOT
from tests.scale.alarms import Prometheus
from tests.scale.join_500k import LONG, a_broker, say
from tests.scale.prices import service
from tests.services.kafka import KafkaBroker, unique_name
from tests.services.processes import HOST, ServerProcess, free_port, running

PARTITIONS = 4
CONCURRENCY = 16
ALERT = "ConsumerCircuitOpen"
WELL = 20.0  # seconds of results before the outage, and after it
TURN = 0.5  # seconds between two looks
CALL = 10.0  # seconds after which the example gives up a call: so long results of the time before may still come


class Orders(Stream):
    """Two topics of which one names the item whose price is asked."""

    def send(self, number: int) -> None:
        orders, payments = self.topics
        id = f"id-{number}"
        self.put(orders, b'{"id": "%s", "content": {"item": "tea"}}' % id.encode(), id)
        self.put(payments, b'{"id": "%s", "content": {"paid": 9.8}}' % id.encode(), id)


@dataclass
class Seen:
    """When each was first seen, and when it was over: seconds after the service went, and after it was back."""

    workers: list[Worker]
    prometheus: Prometheus
    page: str = ""
    first: dict[str, float] = field(default_factory=dict)
    over: dict[str, float] = field(default_factory=dict)

    def look(self, began: float, into: dict[str, float], wanted: bool) -> None:
        for name, tells in self._signs().items():
            if name not in into and tells() == wanted:
                into[name] = time.time() - began
                say(f"{name} {'tells of it' if wanted else 'is over'} after {into[name]:.1f} s")

    def _signs(self) -> dict[str, Callable[[], bool]]:
        return {
            "metric": lambda: any(value(worker, "consumer_circuit_open") for worker in self.workers),
            "JSON": lambda: any(self._json(worker) for worker in self.workers),
            "page": lambda: any(self._sentence(worker) for worker in self.workers),
            "alert": lambda: any(each["alertname"] == ALERT for each in self.prometheus.firing()),
        }

    @staticmethod
    def _json(worker: Worker) -> bool:
        with urllib.request.urlopen(f"{worker.address}/status.json", timeout=30) as answer:
            snapshot = json.load(answer)["snapshot"]
        return bool(snapshot) and snapshot["circuit_open_for"] is not None

    def _sentence(self, worker: Worker) -> bool:
        with urllib.request.urlopen(f"{worker.address}/", timeout=30) as answer:
            found = re.search(r"Circuit open: [^<]*", answer.read().decode())
        self.page = found[0] if found else self.page
        return bool(found)


def run(broker: KafkaBroker, directory: Path, stack: ExitStack, options: argparse.Namespace) -> int:
    topics = [unique_name(f"api-{each}") for each in ("orders", "payments", "out")]
    for topic in topics:
        broker.create_topic(topic, PARTITIONS)
    port = free_port()
    environment = {"PRICES_URL": f"http://{HOST}:{port}/prices", "CONCURRENCY": str(CONCURRENCY)}
    environment["DELIVERY"] = options.delivery
    name, example = unique_name("api"), ROOT / "examples/http_session.py"
    job = Job(broker, name, topics[:2], topics[2:], directory, process=example, environment=environment)
    stack.enter_context(job)
    prices = service(port, directory / "prices.log")
    stack.enter_context(running(prices))
    prometheus = Prometheus(directory)
    stack.enter_context(running(prometheus))
    seen = Seen([job.start().is_assigned(), job.start().is_assigned()], prometheus)
    prometheus.scrape({"api": seen.workers})
    with Orders(broker, topics[:2], options.rate) as stream:
        time.sleep(WELL)
        gone = time.time()
        go(prices, options.how)
        say(f"the service is {options.how}, {stream.sent} ids were sent")
        while time.time() < gone + options.seconds:
            seen.look(gone, seen.first, True)
            time.sleep(TURN)
        held = job.lag()
        back = time.time()
        come_back(prices, options.how)
        say(f"the service is back, {held} messages behind the commits")
        while len(seen.over) < len(seen.first) and time.time() < back + LONG:
            seen.look(back, seen.over, False)
            time.sleep(TURN)
        time.sleep(WELL)
        sent = stream.end()
    eventually(lambda: job.lag() == 0, "all committed", LONG, pause=0.5)
    caught_up = time.time() - back
    codes = [worker.stop() for worker in seen.workers]
    return judged(broker, job, sent, (gone, back), caught_up, codes, seen)


def go(prices: ServerProcess, how: str) -> None:
    if how == "killed":
        prices.kill()
    else:
        kill(prices.pid, signal.SIGSTOP)


def come_back(prices: ServerProcess, how: str) -> None:
    if how == "killed":
        prices.start()
    else:
        kill(prices.pid, signal.SIGCONT)


def judged(
    broker: KafkaBroker,
    job: Job,
    sent: int,
    outage: tuple[float, float],
    caught_up: float,
    codes: list[int],
    seen: Seen,
) -> int:
    gone, back = outage
    results = Records.of(broker, job.topics_output[0])
    letters = Records.of(broker, f"{job.name}-dlq")
    ids = {f"id-{number}" for number in range(sent)}
    lost, twice = len(ids - results.values.keys()), sum(len(each) > 1 for each in results.values.values())
    bad = sum("price" not in json.loads(each)["content"] for values in results.values.values() for each in values)
    while_down = sum(gone + CALL < time < back for time in results.times)
    recovered = next((time - back for time in results.times if time >= back), float("inf"))
    counted = [worker.said("stopped")[-1] for worker in job.workers]
    facts = {name: [line[name] for line in counted] for name in ("outages", "retried", "failed", "restarts")}
    print(f"{sent} ids: {lost} lost, {twice} twice, {bad} without a price, {len(letters.times)} dead letters")
    print(f"{back - gone:.0f} s without the service, {while_down} results in them; the page said: {seen.page!r}")
    print(f"told of it, seconds after it went: {rounded(seen.first)}")
    print(f"over, seconds after it was back: {rounded(seen.over)}")
    print(f"first new result {recovered:.1f} s after it was back, all caught up after {caught_up:.0f} s")
    print(f"by worker: {facts}; exit codes {codes}")
    told = len(seen.first) == len(seen.over) == 4
    return int(bool(lost or twice or bad or letters.times or while_down or not told or any(codes)))


def rounded(times: dict[str, float]) -> dict[str, float]:
    return {name: round(seconds, 1) for name, seconds in times.items()}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.scale.api_down", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--bootstrap", default="", help="host:port of a real Kafka; without it one is started")
    parser.add_argument("--seconds", type=float, default=120.0, help="that the service is down")
    parser.add_argument("--how", choices=["killed", "frozen"], default="killed")
    parser.add_argument("--rate", type=int, default=200, help="ids a second")
    parser.add_argument("--delivery", choices=["at_least_once", "exactly_once"], default="at_least_once")
    options = parser.parse_args()
    with (
        a_broker(options.bootstrap) as broker,
        tempfile.TemporaryDirectory(prefix="api-") as directory,
        ExitStack() as stack,
    ):
        return run(broker, Path(directory), stack, options)


if __name__ == "__main__":
    sys.exit(main())
