"""How long `main.py trace` takes with 5,000,000 messages of a day in the topics of a chain, on real Kafka.

    python -m tests.scale.trace
    python -m tests.scale.trace --messages 1000000

Four topics of a chain get as many messages each, whose times are spread over a day, as a chain of workers would have
left them. Random ids of the last two hours are traced, with windows of two hours and of a day. It prints seconds and
records that were read, and from both what it would take with 100,000,000 messages. It ends with 1 where an id was not
found in each topic.
"""

import argparse
import random
import statistics
import sys
import time

from confluent_kafka import Producer

from config import Settings
from models import Row
from tests.scale.join_500k import a_broker, say
from tests.services.kafka import KafkaBroker
from utils.commands.trace import traced
from utils.fleet.looks import Subject
from utils.fleet.search import Wanted

PARTITIONS = 12
DAY, WINDOW = 86_400, 7_200  # seconds
TRACES = 20
MANY = 100_000_000
TOPICS = ("a", "b", "mid", "out")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=5_000_000, help="in all topics together")
    parser.add_argument("--bootstrap", default="", help="host:port of a real Kafka; without it one is started")
    arguments = parser.parse_args()
    number = arguments.messages // len(TOPICS)
    with a_broker(arguments.bootstrap) as broker:
        for topic in TOPICS:
            broker.create_topic(topic, PARTITIONS)
        now = time.time()
        fill(broker, number, now)
        (took, read, good), (took_more, read_more, all_good) = [
            measure(broker, number, now, window) for window in (WINDOW, DAY + 60)
        ]
    rate = (read_more - read) / (took_more - took)
    many = read * MANY / (number * len(TOPICS))
    fixed = took - read / rate
    say(f"{rate:,.0f} records a second, and {fixed:.2f} s besides")
    say(f"with {MANY:,} messages: {many:,.0f} records, {fixed + many / rate:.1f} s")
    return 0 if good and all_good else 1


def fill(broker: KafkaBroker, number: int, now: float) -> None:
    producer = Producer(
        {
            "bootstrap.servers": broker.bootstrap,
            "partitioner": "murmur2_random",
            "linger.ms": 50,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    began = time.monotonic()
    for each in range(number):
        value = b'{"id":"%d","content":{"item":"tea","total":9.8,"note":"%s"}}' % (each, b"x" * 100)
        timestamp = int((now - DAY + DAY * each / number) * 1000)
        for topic in TOPICS:
            while True:
                try:
                    producer.produce(topic, value, str(each), timestamp=timestamp)
                    break
                except BufferError:
                    producer.poll(0.1)
    producer.flush()
    say(f"{number * len(TOPICS):,} messages in {len(TOPICS)} topics after {time.monotonic() - began:.0f} s")


def measure(broker: KafkaBroker, number: int, now: float, window: int) -> tuple[float, float, bool]:
    environment = Settings.read({"CONSUMER_NAME": "x", "DATABASE_URL": "sqlite:///x"})
    rows = [("join", "a,b", "mid"), ("bill", "mid", "out")]
    subjects = [Subject(Row.validated(*row, broker.bootstrap), environment) for row in rows]
    seconds, records, good = list[float](), list[int](), True
    recent = range(number - number * WINDOW // DAY + 100, number)
    for id in random.sample(recent, TRACES):
        began = time.monotonic()
        journey = traced(Wanted(str(id), now - window), subjects)
        seconds.append(time.monotonic() - began)
        records.append(journey.records)
        good = good and {topic: len(some) for topic, some in journey.sightings.items()} == dict.fromkeys(TOPICS, 1)
    took, read = statistics.median(seconds), statistics.median(records)
    say(f"window of {window / 3600:.0f} h: median {took:.2f} s, longest {max(seconds):.2f} s, {read:,.0f} records read")
    return took, read, good


if __name__ == "__main__":
    sys.exit(main())
