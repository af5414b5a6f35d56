"""Running a contender: pinned, watched, and its output checked. What a run took is a Run."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from bench.contenders import Contender, Target
from tests.services.kafka import JavaBroker

ROOT = Path(__file__).parents[1]
PARTITIONS = 4
BROKER_CORE, WORKER_CORE = 1, 0  # one for the contender, the other for all else
STALLED = 60.0  # seconds without any progress, after which a contender is stopped
TIED = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []  # it must not outlive this process
TICK = 1 / os.sysconf("SC_CLK_TCK")


class Checked(msgspec.Struct):
    """What is in an output topic."""

    results: int
    missing: int
    twice: int
    wrong: int  # half-joined, or of other messages
    first: float = 0.0  # when the broker appended the first and the last of them: seconds since the epoch
    last: float = 0.0

    @property
    def whole(self) -> bool:
        return not (self.missing or self.twice or self.wrong)

    def __str__(self) -> str:
        if self.whole:
            return "whole"
        counts = {"missing": self.missing, "twice": self.twice, "wrong": self.wrong}
        return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)


class Run(msgspec.Struct):
    """What one run of one contender took."""

    cpu: float  # seconds, user and system, of the whole process, its start and end included
    wall: float  # seconds from the start of the process to the last result
    first: float  # seconds from the start of the process to the first result
    memory: float  # MB, the largest resident size
    checked: Checked


@contextmanager
def pinned_broker() -> Iterator[JavaBroker]:
    """Real Kafka on a core that it shares with this process only; the other is the contenders'."""
    os.sched_setaffinity(0, {BROKER_CORE})  # all that is started from here on inherits it
    broker = JavaBroker()
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


def feed(bootstrap: str, topics: tuple[str, ...], ids: int, pad: int = 100) -> None:
    """Each id once a topic, in the same order; a message has about 100 bytes and the padding."""
    producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "linger.ms": 20})
    note = "x" * pad
    for number in range(ids):
        id = f"order-{number:08d}"
        for topic in topics:
            content = {f"{topic}-amount": number, f"{topic}-note": note}
            value = msgspec.json.encode({"id": id, "source": topic, "content": content})
            while True:
                try:
                    producer.produce(topic, value, id)
                    break
                except BufferError:
                    producer.poll(0.05)
    producer.flush()


def output_topic(broker: JavaBroker, name: str) -> str:
    """A topic for results, whose records carry the time at which the broker appended them."""
    broker.create_topic(name, PARTITIONS, {"message.timestamp.type": "LogAppendTime"})
    return name


class Running:
    """A process of a contender on its core, with what /proc says of it."""

    def __init__(self, contender: Contender, target: Target) -> None:
        launch = contender.launch(target)
        self.log = target.directory / "log"
        self.started = time.time()
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*TIED, "taskset", "--cpu-list", str(WORKER_CORE), *launch.words],
                cwd=ROOT,
                env={**os.environ, **launch.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.pid = self._process.pid
        self.memory = 0.0  # MB, the largest resident size seen

    def runs(self) -> bool:
        """Whether it still runs; notes its memory. (ru_maxrss of a child begins with the size of its parent.)"""
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    self.memory = max(self.memory, int(line.split()[1]) / 1024)
        return not os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)

    def cpu(self) -> float:
        """Seconds so far, user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * TICK

    def stop(self) -> float:
        """SIGTERM, SIGKILL after 30 s; returns the CPU seconds of its whole life."""
        if self.runs():
            os.kill(self.pid, signal.SIGTERM)
        deadline = time.monotonic() + 30
        while self.runs():
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(0.02)
        _, status, usage = os.wait4(self.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        return usage.ru_utime + usage.ru_stime


@contextmanager
def running(contender: Contender, target: Target) -> Iterator[Running]:
    process = Running(contender, target)
    stopped = False
    try:
        yield process
        process.stop()
        stopped = True
    finally:
        if not stopped:
            with contextlib.suppress(ChildProcessError, ProcessLookupError):
                process.stop()


def measure(contender: Contender, bootstrap: str, inputs: tuple[str, ...], output: str, ids: int) -> Run:
    """Run a contender until all results are there, then SIGTERM; what it took, and what came out."""
    with tempfile.TemporaryDirectory() as directory:
        process = Running(contender, Target(bootstrap, inputs, output, ids, Path(directory)))
        try:
            _wait_until_done(contender, bootstrap, inputs, output, ids, process)
        finally:
            cpu = process.stop()
        checked = check(bootstrap, inputs, output, ids)
        if not checked.results:
            raise RuntimeError(f"{contender.name} has sent nothing: {process.log.read_text()[-4000:]}")
    wall, first = checked.last - process.started, checked.first - process.started
    return Run(cpu, wall, first, process.memory, checked)


def _wait_until_done(
    contender: Contender, bootstrap: str, inputs: tuple[str, ...], output: str, ids: int, process: Running
) -> None:
    """Until it ends by itself, or has committed all, or all results are to be seen, or nothing moves any more."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": output})
    progress, moved = -1, time.monotonic()
    try:
        while process.runs() and time.monotonic() < moved + STALLED:
            if contender.commits:
                seen, wanted = _committed(consumer, inputs), ids * len(inputs)
            else:
                seen, wanted = _written(consumer, output), ids
            if seen >= wanted:
                return
            if seen != progress:
                progress, moved = seen, time.monotonic()
            time.sleep(0.1)
    finally:
        consumer.close()


def _committed(consumer: Consumer, inputs: tuple[str, ...]) -> int:
    asked = [TopicPartition(topic, number) for topic in inputs for number in range(PARTITIONS)]
    return sum(max(each.offset, 0) for each in consumer.committed(asked, timeout=10))


def _written(consumer: Consumer, output: str) -> int:
    """Records in it; transaction markers would count. 0 also where a partition has no leader yet."""
    try:
        ends = [consumer.get_watermark_offsets(TopicPartition(output, number), 10) for number in range(PARTITIONS)]
    except KafkaException:
        return 0
    return sum(end[1] for end in ends)


def check(bootstrap: str, inputs: tuple[str, ...], output: str, ids: int) -> Checked:
    """Every id once, joined of all topics, nothing else in it?"""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "bench-check",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
        }
    )
    consumer.assign([TopicPartition(output, number, 0) for number in range(PARTITIONS)])
    seen: set[str] = set()
    count = wrong = ended = 0
    times: list[int] = []
    while ended < PARTITIONS:
        for record in consumer.consume(10_000, 1.0):
            if record.error():
                ended += 1
                continue
            times.append(record.timestamp()[1])
            result = msgspec.json.decode(record.value() or b"")
            id = result["id"]
            number = int(id.removeprefix("order-"))
            amounts = [result["content"].get(f"{topic}-amount") for topic in inputs]
            wrong += amounts != [number] * len(inputs) or len(result["content"]) != 2 * len(inputs)
            seen.add(id)
            count += 1
    consumer.close()
    first, last = (min(times) / 1000, max(times) / 1000) if times else (0.0, 0.0)
    return Checked(count, ids - len(seen), count - len(seen), wrong, first, last)
