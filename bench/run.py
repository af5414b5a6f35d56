"""What the worker costs beside the bare loop of the same client, measured side by side in one run.

python -m bench.run [--ids 500000] [--rounds 5]

Starts real Kafka on one core, feeds two topics once, then runs the contenders in turn on the other core, each from the
first message with a new group and a new output topic, and looks at every result. CPU is user plus system time of the
whole process, its start included, as the operating system accounts it.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from confluent_kafka import Consumer, Producer, TopicPartition

from config import Settings
from models import Row, engine, init_db, save
from tests.services.kafka import JavaBroker
from tests.services.processes import running

ROOT = Path(__file__).parents[1]
PARTITIONS = 4
INPUTS = ("bench-a", "bench-b")
BROKER_CORE, WORKER_CORE = 1, 0


@dataclass
class Runs:
    """The figures of one contender, a value for each round."""

    cpu: list[float] = field(default_factory=list)  # seconds
    wall: list[float] = field(default_factory=list)  # seconds, from the start of the process to the last result
    memory: list[float] = field(default_factory=list)  # MB, the largest resident size


def main() -> None:
    arguments = _arguments()
    with running(JavaBroker()) as broker:
        _pin(broker.pid, BROKER_CORE)
        for topic in INPUTS:
            broker.create_topic(topic, PARTITIONS)
        feed(broker.bootstrap, arguments.ids)
        runs = {name: Runs() for name in CONTENDERS}
        for number in range(arguments.rounds):
            for name, command in CONTENDERS.items():
                output = f"bench-{name.replace(' ', '-')}-{number}"
                broker.create_topic(output, PARTITIONS)
                measure(command, broker.bootstrap, output, arguments.ids, runs[name])
                check(broker.bootstrap, output, arguments.ids)
                print(f"round {number + 1}: {name}: {runs[name].cpu[-1]:.2f} s of CPU", file=sys.stderr, flush=True)
    show(runs, arguments.ids)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("bench.run", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--ids", type=int, default=500_000, help="joined results; twice as many messages")
    parser.add_argument("--rounds", type=int, default=5, help="of which the medians are shown")
    return parser.parse_args()


def feed(bootstrap: str, ids: int) -> None:
    """Each id once a topic, in the same order, about 200 bytes a message."""
    producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "linger.ms": 20})
    for number in range(ids):
        id = f"order-{number:08d}"
        for topic in INPUTS:
            content = {f"{topic}-amount": number, f"{topic}-note": "x" * 100}
            value = msgspec.json.encode({"id": id, "source": topic, "content": content})
            while True:
                try:
                    producer.produce(topic, value, id)
                    break
                except BufferError:
                    producer.poll(0.05)
    producer.flush()


Command = Callable[[str, str, int, Path], tuple[list[str], dict[str, str]]]


def bare(bootstrap: str, output: str, ids: int, _directory: Path) -> tuple[list[str], dict[str, str]]:
    return [sys.executable, "-m", "bench.bare", bootstrap, *INPUTS, output, str(ids)], {}


def worker(delivery: str) -> Command:
    def command(bootstrap: str, output: str, _ids: int, directory: Path) -> tuple[list[str], dict[str, str]]:
        environment = {"CONSUMER_NAME": output, "DATABASE_URL": f"sqlite:///{directory}/bench.db", "DELIVERY": delivery}
        database = engine(Settings.read(environment).url(), create=True)
        init_db(database)
        save(database, Row.validated(output, ",".join(INPUTS), output, bootstrap))
        return [sys.executable, "main.py"], environment

    return command


CONTENDERS: dict[str, Command] = {
    "bare loop": bare,
    "worker at_least_once": worker("at_least_once"),
    "worker exactly_once": worker("exactly_once"),
}


def measure(command: Command, bootstrap: str, output: str, ids: int, runs: Runs) -> None:
    """Run a contender until all results are there, then SIGTERM, and note what it took."""
    with tempfile.TemporaryDirectory() as directory:
        words, environment = command(bootstrap, output, ids, Path(directory))
        begun = time.monotonic()
        with (Path(directory) / "log").open("wb") as log:
            process = subprocess.Popen(
                ["taskset", "--cpu-list", str(WORKER_CORE), *words],
                cwd=ROOT,
                env={**os.environ, **environment},
                stdout=log,
                stderr=log,
            )
        _wait_for_results(bootstrap, output, ids, process)
        runs.wall.append(time.monotonic() - begun)
        os.kill(process.pid, signal.SIGTERM)
        _, _, usage = os.wait4(process.pid, 0)
        process.returncode = 0
        runs.cpu.append(usage.ru_utime + usage.ru_stime)
        runs.memory.append(usage.ru_maxrss / 1024)


def _wait_for_results(bootstrap: str, group: str, ids: int, process: subprocess.Popen[bytes]) -> None:
    """The bare loop ends by itself; a worker is done when it has committed all that it reads."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group})
    partitions = [TopicPartition(topic, number) for topic in INPUTS for number in range(PARTITIONS)]
    try:
        while not os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            committed = consumer.committed(partitions, timeout=10)
            if sum(max(each.offset, 0) for each in committed) == ids * len(INPUTS):
                return
            time.sleep(0.1)
    finally:
        consumer.close()


def check(bootstrap: str, output: str, ids: int) -> None:
    """Every id once, joined of both topics. Raises AssertionError."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "bench-check",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    consumer.assign([TopicPartition(output, number, 0) for number in range(PARTITIONS)])
    seen: set[str] = set()
    count = ended = 0
    while ended < PARTITIONS:
        for record in consumer.consume(10_000, 1.0):
            if record.error():
                ended += 1
                continue
            result = msgspec.json.decode(record.value() or b"")
            assert set(result["content"]) == {f"{topic}-{key}" for topic in INPUTS for key in ("amount", "note")}, (
                result
            )
            seen.add(result["id"])
            count += 1
    consumer.close()
    assert count == len(seen) == ids, f"{output}: {count} results, {len(seen)} ids of {ids}"


def show(runs: dict[str, Runs], ids: int) -> None:
    base = runs["bare loop"].cpu
    messages = ids * len(INPUTS)
    rounds = len(base)
    print(f"\n{messages} messages, {ids} results, median (least to most) of {rounds} rounds, every result checked\n")
    print("| contender | CPU s | of the bare loop's, round by round | CPU µs a message | messages a second | peak MB |")
    print("|---|---|---|---|---|---|")
    for name, each in runs.items():
        ratios = [mine / bare for mine, bare in zip(each.cpu, base, strict=True)]
        print(
            f"| {name} | {_spread(each.cpu)} | {_spread(ratios)} | {statistics.median(each.cpu) / messages * 1e6:.2f}"
            f" | {messages / statistics.median(each.wall):,.0f} | {statistics.median(each.memory):.0f} |"
        )


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def _pin(pid: int, core: int) -> None:
    subprocess.run(
        ["taskset", "--all-tasks", "--cpu-list", "--pid", str(core), str(pid)], check=True, capture_output=True
    )


if __name__ == "__main__":
    main()
