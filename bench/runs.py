"""Running a contender: pinned, watched, and its output checked. What a run took is a Run."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import wait
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from bench.contenders import Contender, Target
from tests.services.kafka import JavaBroker, kept_admin

PARTITIONS = 4
BROKER_CORE, WORKER_CORE = 1, 0  # one for the contender, the other for all else
STALLED = 60.0  # seconds without any progress, after which a contender is stopped
TIED = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []  # it must not outlive this process
PINNED = [*TIED, "taskset", "--cpu-list", str(WORKER_CORE)]  # before the words of what runs on the contenders' core
BREAKS = (RuntimeError, KafkaException, OSError)  # what a run raises that has failed; the others go on
T = TypeVar("T")
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
    read: int = 0  # messages that a worker has read, those that it read again too; 0 of all others


@contextmanager
def pinned_broker() -> Iterator[JavaBroker]:
    """Real Kafka on a core that it shares with this process only; the other is the contenders'."""
    os.sched_setaffinity(0, {BROKER_CORE})  # all that is started from here on inherits it
    broker = JavaBroker(measured=True)
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


def feed(bootstrap: str, topics: tuple[str, ...], ids: int, size: int = 200, compression: str = "none") -> None:
    """Each id once a topic, in the same order; a message has `size` bytes."""
    send(bootstrap, ((topic, number) for number in range(ids) for topic in topics), size, compression=compression)


def send(
    bootstrap: str,
    messages: Iterable[tuple[str, int]],
    size: int = 200,
    linger: int = 20,
    compression: str = "none",
) -> int:
    """A message for each topic and number of an id, of `size` bytes; how many they were."""
    settings = {"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "linger.ms": linger, "log_level": 0}
    producer = Producer({**settings, "compression.type": compression})
    notes: dict[str, str] = {}  # by topic
    sent = 0
    for topic, number in messages:
        if topic not in notes:
            notes[topic] = "x" * (size - len(message(topic, number, "")))
        id, value = id_of(number), message(topic, number, notes[topic])
        while True:
            try:
                producer.produce(topic, value, id)
                break
            except BufferError:
                producer.poll(0.05)
        sent += 1
    producer.flush()
    return sent


def message(topic: str, number: int, note: str) -> bytes:
    content = {f"{topic}-amount": f"{number:08d}", f"{topic}-note": note}
    return msgspec.json.encode({"id": id_of(number), "source": topic, "content": content})


def id_of(number: int) -> str:
    return f"order-{number:08d}"


def at_a_rate(messages: Iterable[T], rate: float, seconds: float) -> Iterator[T]:
    """So many of them a second, for so long."""
    began = time.monotonic()
    for number, message in enumerate(messages):
        due = number / rate
        if due >= seconds:
            return
        time.sleep(max(0.0, began + due - time.monotonic()))
        yield message


def output_topic(broker: JavaBroker, name: str) -> str:
    """A topic for results, whose records carry the time at which the broker appended them."""
    broker.create_topic(name, PARTITIONS, {"message.timestamp.type": "LogAppendTime"})
    return name


def delete_topic(broker: JavaBroker, name: str) -> None:
    """Its files go a minute later (file.delete.delay.ms)."""
    wait(kept_admin(broker.bootstrap).delete_topics([name]).values())


class Running:
    """A process of a contender on its core, with what /proc says of it."""

    def __init__(self, contender: Contender, target: Target) -> None:
        launch = contender.launch(target)
        self.log = target.directory / "log"
        self.started = time.time()
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*PINNED, *launch.words],
                cwd=launch.program,
                env={**os.environ, **launch.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.pid = self._process.pid
        self._used = 0.0  # seconds of CPU, when it has ended
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

    def resident(self) -> float:
        """Bytes of memory now."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * float(os.sysconf("SC_PAGE_SIZE"))

    def waits_for(self, text: str, seconds: float) -> str:
        """The first line of its log that holds this text, as soon as there is one."""
        deadline = time.monotonic() + seconds
        while True:
            log = self.log.read_text()
            if line := next((each for each in log.splitlines() if text in each), ""):
                return line
            if time.monotonic() > deadline or not self.runs():
                raise RuntimeError(f"no {text!r} in its log: {log[-4000:]}")
            time.sleep(0.02)

    def metrics(self) -> defaultdict[str, float]:
        """Of a worker, without the prefix; each is the sum over its labels."""
        address = msgspec.json.decode(self.waits_for("row loaded", STALLED))["status"]
        with urllib.request.urlopen(f"{address}metrics", timeout=30) as answer:
            lines = [line.split() for line in answer.read().decode().splitlines() if line and line[0] != "#"]
        values: defaultdict[str, float] = defaultdict(float)
        for name, value, *_ in lines:
            values[name.partition("{")[0].removeprefix("consumer_")] += float(value)
        return values

    def stop(self) -> float:
        """SIGTERM, SIGKILL after 30 s; returns the CPU seconds of its whole life, also when it is called again."""
        if self._process.returncode is not None:
            return self._used
        if self.runs():
            os.kill(self.pid, signal.SIGTERM)
        deadline = time.monotonic() + 30
        while self.runs():
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(0.02)
        _, status, usage = os.wait4(self.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        self._used = usage.ru_utime + usage.ru_stime
        return self._used


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


def measure(
    contender: Contender, bootstrap: str, inputs: tuple[str, ...], output: str, ids: int, workers: int = 1
) -> Run:
    """Run a contender until all results are there, then SIGTERM; what it took, and what came out.

    With several workers: their CPU together, and the memory of the largest.
    """
    with tempfile.TemporaryDirectory() as directory:
        processes = []
        try:
            for number in range(workers):
                own = Path(directory) / str(number)
                own.mkdir()
                processes.append(Running(contender, Target(bootstrap, inputs, output, ids, own)))
            _wait_until_done(contender, bootstrap, inputs, output, ids, processes)
        finally:
            cpu = sum([process.stop() for process in processes])
        checked = check(bootstrap, inputs, output, ids)
        logs = [process.log.read_text() for process in processes]
        if not checked.results:
            raise RuntimeError(f"{contender.name} has sent nothing: {logs[0][-4000:]}")
    started = processes[0].started
    memory = max(process.memory for process in processes)
    return Run(cpu, checked.last - started, checked.first - started, memory, checked, sum(map(_read, logs)))


def _read(log: str) -> int:
    """How many messages a worker says it has read, at its end."""
    return sum(msgspec.json.decode(line)["read"] for line in log.splitlines() if '"message": "stopped"' in line)


def _wait_until_done(
    contender: Contender,
    bootstrap: str,
    inputs: tuple[str, ...],
    output: str,
    ids: int,
    processes: Sequence[Running],
) -> None:
    """Until it ends by itself, or has committed all, or all results are to be seen, or nothing moves any more."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": output})
    progress, moved = -1, time.monotonic()
    try:
        partitions = _partitions(consumer, inputs)
        while _all_run(processes) and time.monotonic() < moved + STALLED:
            if contender.commits:
                seen, wanted = _committed(consumer, partitions), ids * len(inputs)
            else:
                seen, wanted = _written(consumer, output), ids
            if seen >= wanted:
                return
            if seen != progress:
                progress, moved = seen, time.monotonic()
            time.sleep(0.1)
    finally:
        consumer.close()


def _all_run(processes: Iterable[Running]) -> bool:
    """Each is asked, for that notes its memory."""
    return all([process.runs() for process in processes])  # noqa: C419


def _partitions(consumer: Consumer, topics: Iterable[str]) -> list[TopicPartition]:
    found = consumer.list_topics(timeout=10).topics
    return [TopicPartition(topic, number) for topic in topics for number in found[topic].partitions]


def _committed(consumer: Consumer, partitions: list[TopicPartition]) -> int:
    return sum(max(each.offset, 0) for each in consumer.committed(partitions, timeout=10))


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
            wrong += amounts != [f"{number:08d}"] * len(inputs) or len(result["content"]) != 2 * len(inputs)
            seen.add(id)
            count += 1
    consumer.close()
    first, last = (min(times) / 1000, max(times) / 1000) if times else (0.0, 0.0)
    return Checked(count, ids - len(seen), count - len(seen), wrong, first, last)
