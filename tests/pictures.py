"""`python -m tests.pictures`: takes the documents' pictures of the status page, of a real worker with something to do.

It reads two topics of the embedded broker for some minutes. Some messages come late or never, some calls fail or take
long; in the end more comes than process() can do. Before that, those of the page of a fleet, which is made up. Needs
Chromium.
"""

import argparse
import heapq
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from math import sin
from pathlib import Path
from random import Random

from confluent_kafka import Producer

from tests.fleet.fleets import fleet
from tests.integration.workers import Job, feeder
from tests.program import ROOT
from tests.services.chromium import Scheme, Tab, headless_chromium
from tests.services.kafka import EmbeddedBroker
from tests.services.processes import running
from utils.fleet.pages import page as fleet_page

INPUTS = ("orders", "payments")
RATE = 240  # ids a second, on an average
SPURT = 12.0  # seconds before the end from which on it is the eightfold
FLEET = (1400, 1150, 0.7)
DESKTOP, PHONE = (1000, 1820, 0.7), (360, 760, 1)  # width and height in CSS pixels, and the scale of the picture

PROCESS = """
import random, time
from utils.retry import Reject

def process(message, consumer_name):
    time.sleep(random.expovariate(50))
    if random.random() < 0.0002:
        time.sleep(20)
    if random.random() < 0.0005:
        raise ConnectionError
    if random.random() < 0.0001:
        raise Reject("no such customer")
    return message
"""


def fragments(random: Random, seconds: float) -> Iterator[tuple[float, str, str]]:
    """When each is due, its topic and its id, in no order."""
    at, number = 0.0, 14_500
    while at < seconds:
        wave = 8 if at > seconds - SPURT else 1 + sin(at / 9) / 3
        at, number = at + random.expovariate(RATE * wave), number + 1
        first, second = random.sample(INPUTS, 2) if random.random() < 0.2 else INPUTS
        yield at, first, f"order-{number}"
        late = random.random()
        if late > 0.006:
            yield at + (random.uniform(5, 50) if late < 0.01 else random.uniform(0, 0.3)), second, f"order-{number}"


def feed(producer: Producer, seconds: float) -> None:
    due = list(fragments(Random(1), seconds))
    heapq.heapify(due)
    began = time.monotonic()
    while due and (now := time.monotonic() - began) < seconds:
        while due and due[0][0] <= now:
            _, topic, id = heapq.heappop(due)
            producer.produce(topic, json.dumps({"id": id, "source": topic, "content": {topic: "x" * 100}}), id)
        producer.poll(0.02)
    producer.flush(10)


def take(tab: Tab, directory: Path, page: str, desktop: tuple[int, int, float]) -> None:
    views: list[tuple[str, Scheme, tuple[int, int, float]]]
    views = [("light", "light", desktop), ("dark", "dark", desktop), ("phone", "dark", PHONE)]
    for name, scheme, size in views:
        tab.looks(scheme, *size)
        path = directory / f"{page}-{name}.png"
        path.write_bytes(tab.picture())
        print(f"{path}: {path.stat().st_size:,} bytes")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.pictures", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=240, help="for which the worker works before")
    parser.add_argument("--directory", type=Path, default=ROOT / "docs/pictures")
    parser.add_argument("--only-fleet", action="store_true", help="only the page of a fleet, which takes seconds")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, headless_chromium() as browser, browser.tab() as tab:
        file = Path(directory) / "fleet.html"
        file.write_text(fleet_page(fleet(40)))
        tab.open(file.as_uri())
        take(tab, arguments.directory, "fleet", FLEET)
    if arguments.only_fleet:
        return 0
    with (
        tempfile.TemporaryDirectory() as directory,
        running(EmbeddedBroker()) as broker,
        headless_chromium() as browser,
    ):
        for topic in (*INPUTS, "paid-orders", "paid-orders-dlq"):
            broker.create_topic(topic, 4)
        process = Path(directory) / "process.py"
        process.write_text(PROCESS)
        environment = {"CONCURRENCY": "16"}
        job = Job(
            broker, "paid-orders", INPUTS, ("paid-orders",), Path(directory), process=process, environment=environment
        )
        with job, browser.tab() as tab:
            worker = job.start().is_assigned()
            feed(feeder(broker), arguments.seconds)
            tab.open(worker.address)
            take(tab, arguments.directory, "status", DESKTOP)
            worker.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
