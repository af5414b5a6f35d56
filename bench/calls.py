"""How much of the ideal throughput is reached when process() waits for something: calls that sleep for 50 ms.

python -m bench.calls [--embedded] [--seconds 10] [--rounds 3]

Feeds as many messages as would ideally take so many seconds, runs the worker at each CONCURRENCY, and reads from the
timestamps of its results how long they took, from the first to the last. The ideal is CONCURRENCY / 0.05 s.
"""

import argparse
import os
import signal
import statistics
import tempfile
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from tests.integration.oracle import Oracle
from tests.integration.workers import Job, eventually, feed
from tests.services.kafka import EmbeddedBroker, JavaBroker, KafkaBroker, unique_name
from tests.services.processes import running

PARTITIONS = 16
CALL = 0.05  # seconds
THREADS = f"""
import time

def process(message, consumer_name):
    time.sleep({CALL})
    return message
"""
COROUTINES = f"""
import asyncio

async def process(message, consumer_name):
    await asyncio.sleep({CALL})
    return message
"""
CONTENDERS = {"one thread": (1, THREADS), "64 threads": (64, THREADS), "512 coroutines": (512, COROUTINES)}


def main() -> None:
    parser = argparse.ArgumentParser("bench.calls", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--embedded", action="store_true", help="on the embedded broker instead of real Kafka")
    parser.add_argument("--seconds", type=float, default=10, help="that a run ideally takes")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print("| process() sleeps 50 ms | results | a second | of the ideal, round by round | CPU µs a result |")
    print("|---|---|---|---|---|")
    with running(EmbeddedBroker() if arguments.embedded else JavaBroker()) as broker:
        for name, (concurrency, source) in CONTENDERS.items():
            results = int(concurrency / CALL * arguments.seconds)
            rounds = [run(broker, concurrency, source, results) for _ in range(arguments.rounds)]
            rates = [(results - concurrency) / seconds for seconds, _ in rounds]
            shares = ", ".join(f"{rate * CALL / concurrency:.1%}" for rate in rates)
            cpu = statistics.median(cpu for _, cpu in rounds) / results * 1e6
            print(f"| {name} | {results} | {statistics.median(rates):,.0f} | {shares} | {cpu:.0f} |", flush=True)


def run(broker: KafkaBroker, concurrency: int, source: str, results: int) -> tuple[float, float]:
    """Seconds from the first result to the last, and of CPU in the whole process of the worker."""
    input, output = unique_name("in"), unique_name("out")
    for topic in (input, output):
        broker.create_topic(topic, PARTITIONS)
    oracle = Oracle((input,))
    feed(broker, oracle, map(str, range(results)))
    with tempfile.TemporaryDirectory() as directory:
        process = Path(directory) / "process.py"
        process.write_text(source)
        environment = {"CONCURRENCY": str(concurrency)}
        with Job(
            broker, unique_name("job"), [input], [output], Path(directory), process=process, environment=environment
        ) as job:
            worker = job.start()
            eventually(lambda: job.lag() == 0, "all committed", seconds=600, pause=0.2)
            os.kill(worker.pid, signal.SIGTERM)
            _, status, usage = os.wait4(worker.pid, 0)
            worker.process.returncode = os.waitstatus_to_exitcode(status)
    return span(broker, output, results), usage.ru_utime + usage.ru_stime


def span(broker: KafkaBroker, topic: str, results: int) -> float:
    """Seconds from the first record to the last; every result must be there once."""
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "bench", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
    times: list[int] = []
    keys: set[bytes | None] = set()
    while len(times) < results:
        for record in consumer.consume(10_000, 1.0):
            assert not record.error(), record.error()
            times.append(record.timestamp()[1])
            keys.add(record.key())
    consumer.close()
    assert len(keys) == results
    return (max(times) - min(times)) / 1000


if __name__ == "__main__":
    main()
