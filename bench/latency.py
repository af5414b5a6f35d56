"""How long a result takes, and the CPU that it costs, at a steady 500 and 5,000 messages a second.

One thread feeds pairs of messages to real Kafka and reads the results, read_committed. Messages come evenly spaced,
the two of an id next to each other. The latency of an id is the time from just before its second message is handed to
the producer (no linger) until the consumer hands out its result. CPU is user plus system time of the contender's whole
process in those seconds, in percent of one core. A contender is measured from its warm-up after its first result on.
It has one core; the broker and this program have the other. How fast that core was meanwhile is measured too: see
bench.speed. With many partitions only the lower rate is measured, and of the peers only Kafka Streams as it is tuned.
"""

import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
from confluent_kafka import Consumer, Producer, TopicPartition

from bench.contenders import BARE_MSGSPEC, CONTENDERS, Contender, Target, bare, floor, kafka_streams, prepared, worker
from bench.runs import BREAKS, PARTITIONS, Running, id_of, message, output_topic, running
from bench.speed import Core, timed_core
from bench.tables import Options, Table, in_rounds, line, load, median, say, table
from tests.services.kafka import JavaBroker

SLOW, FAST = 500, 5_000  # messages a second, two for each result
SECONDS, ROUNDS = 10.0, 5
PEERS_ROUNDS = 3
STARTED = 90.0  # seconds within which the first result must come
LATE = 5.0  # seconds after which a result counts as missing
NOTE = "x" * 100

PEERS = (
    *(each for each in CONTENDERS if each.name == "naive loop"),
    kafka_streams("at_least_once", "default"),
    kafka_streams("at_least_once", "tuned", "producer.linger.ms=0"),
    kafka_streams("exactly_once_v2", "default"),
    kafka_streams("exactly_once_v2", "tuned", "producer.linger.ms=0", "commit.interval.ms=20"),
    *(each for each in CONTENDERS if each.name.endswith(", a dict")),
)
OURS = (
    Contender(f"{BARE_MSGSPEC.name}, no batches", bare("--prompt")),
    Contender("bare loop (msgspec), with the worker's turns", floor),
    Contender("worker at_least_once", worker("at_least_once")),
    Contender("worker exactly_once", worker("exactly_once")),
)
PROMPT = Contender("worker exactly_once, COMMIT_INTERVAL=0.02", worker("exactly_once", COMMIT_INTERVAL="0.02"))


@dataclass(frozen=True, slots=True)
class Setup:
    partitions: int  # of a topic of the input
    rates: tuple[int, ...]
    ours: tuple[Contender, ...]
    peers: tuple[Contender, ...]

    @property
    def contenders(self) -> tuple[Contender, ...]:
        return (*self.ours, *self.peers)


FEW = Setup(PARTITIONS, (SLOW, FAST), (*OURS, PROMPT), PEERS)
MORE = Setup(64, (SLOW,), OURS, tuple(each for each in PEERS if "tuned" in each.name))


class Sample(msgspec.Struct):
    """What one contender was like at one rate, in one round."""

    latencies: list[float]  # ms, from the least to the most: percentiles 1 to 100
    cpu: float  # percent of a core
    sent: int  # ids
    missing: int  # of them without a result LATE seconds after the last of them was sent
    loop: float  # microseconds that the loop of bench.speed took meanwhile

    def percentile(self, number: int) -> float:
        return self.latencies[number - 1]


class Report(msgspec.Struct):
    seconds: float
    samples: dict[str, dict[int, list[Sample]]]  # by contender and messages a second, one for each round
    not_run: dict[str, str]  # contender: why not
    load: list[float]  # average number of processes in the minute before each round, ours included
    loops: list[float] = []  # microseconds of the loop of bench.speed in the whole run: percentiles 1 to 99


def measured(setup: Setup, broker: JavaBroker, options: Options) -> Report:
    with timed_core() as core:
        return _measured(setup, broker, options, core)


def _measured(setup: Setup, broker: JavaBroker, options: Options, core: Core) -> Report:
    contenders, not_run = prepared([each for each in setup.contenders if options.chooses(each.name)])
    seconds = options.seconds or SECONDS
    report = Report(seconds, {each.name: {rate: [] for rate in setup.rates} for each in contenders}, not_run, [])
    for number in range(options.rounds or ROUNDS):
        report.load.append(os.getloadavg()[0])
        for contender in [each for each in contenders if number < PEERS_ROUNDS or each not in setup.peers]:
            try:
                samples = measure(contender, setup, broker, core, seconds)
            except BREAKS as error:
                report.not_run[contender.name] = str(error)
                continue
            for rate, sample in zip(setup.rates, samples, strict=True):
                report.samples[contender.name][rate].append(sample)
                percentiles = f"p50 {sample.percentile(50):.1f} ms, p99 {sample.percentile(99):.1f} ms"
                say(f"round {number + 1}: {contender.name}: {rate} a second: {percentiles}, {sample.cpu:.1f} % CPU")
    report.loops = core.percentiles() if contenders else []
    return report


def measure(contender: Contender, setup: Setup, broker: JavaBroker, core: Core, seconds: float) -> list[Sample]:
    """One process of a contender at one rate after the other."""
    name = f"latency-{time.time_ns()}"
    inputs = (f"{name}-a", f"{name}-b")
    for topic in inputs:
        broker.create_topic(topic, setup.partitions)
    output = output_topic(broker, f"{name}-out")
    with tempfile.TemporaryDirectory() as directory:
        target = Target(broker.bootstrap, inputs, output, sys.maxsize, Path(directory))
        with running(contender, target) as process:
            pairs = Line(broker.bootstrap, inputs, output)
            try:
                pairs.start(setup.rates[0], process, contender.warm_up)
                return [pairs.sample(rate, seconds, process, core) for rate in setup.rates]
            finally:
                pairs.close()


class Line:
    """Feeds pairs and times their results, in one thread, so that neither waits for the other."""

    def __init__(self, bootstrap: str, inputs: tuple[str, ...], output: str) -> None:
        self._inputs = inputs
        quick = {"bootstrap.servers": bootstrap, "socket.nagle.disable": True}
        # One request at a time: else at 5,000 a second each message is one, which is too much for the broker's core.
        prompt = {"partitioner": "murmur2_random", "linger.ms": 0, "max.in.flight": 1}
        self._producer = Producer({**quick, **prompt})
        self._consumer = Consumer({**quick, "group.id": f"{output}-reader", "isolation.level": "read_committed"})
        self._consumer.assign([TopicPartition(output, number, 0) for number in range(PARTITIONS)])
        self._sent = 0  # messages
        self._waiting: dict[bytes, float] = {}  # ids without a result, and when their second message was sent
        self._latencies: list[float] = []

    def start(self, rate: int, process: Running, warm_up: float) -> None:
        """Feed until so many seconds after the first result."""
        deadline = time.monotonic() + STARTED
        while not self._latencies:
            if not process.runs() or time.monotonic() > deadline:
                raise RuntimeError(f"no result: {process.log.read_text()[-4000:]}")
            self._feed(rate, 0.5)
        self._feed(rate, warm_up)

    def sample(self, rate: int, seconds: float, process: Running, core: Core) -> Sample:
        self._feed(rate, 1.0)  # whatever another rate has left behind
        self._waiting, self._latencies = {}, []
        sent, cpu, began = self._sent, process.cpu(), time.monotonic()
        self._feed(rate, seconds)
        ended = time.monotonic()
        percent = (process.cpu() - cpu) / (ended - began) * 100
        ids = (self._sent - sent) // len(self._inputs)
        deadline = time.monotonic() + LATE
        while self._waiting and time.monotonic() < deadline:
            self._read()
        if not self._latencies:
            raise RuntimeError(f"no result at {rate} a second: {process.log.read_text()[-4000:]}")
        percentiles = statistics.quantiles(self._latencies, n=100, method="inclusive")
        latencies, loop = [*percentiles, max(self._latencies)], core.taken(began, ended)
        return Sample(latencies, percent, ids, len(self._waiting), loop)

    def close(self) -> None:
        self._producer.flush(LATE)
        self._consumer.close()

    def _feed(self, rate: int, seconds: float) -> None:
        """Both messages of an id, one right behind the other."""
        began, first = time.monotonic(), self._sent
        while (passed := time.monotonic() - began) < seconds or self._sent % len(self._inputs):
            while self._sent - first < passed * rate:
                self._send()
            self._read()

    def _send(self) -> None:
        number, which = divmod(self._sent, len(self._inputs))
        self._sent += 1
        id, topic = id_of(number), self._inputs[which]
        value = message(topic, number, NOTE)
        self._waiting[id.encode()] = time.monotonic()
        self._producer.produce(topic, value, id)
        self._producer.poll(0)

    def _read(self) -> None:
        record = self._consumer.poll(0.001)
        now = time.monotonic()
        if record is not None and not record.error():
            sent = self._waiting.pop(record.key() or b"", None)
            if sent is not None:
                self._latencies.append((now - sent) * 1000)


def shown(report: Report) -> str:
    rounds = max((len(runs) for rates in report.samples.values() for runs in rates.values()), default=0)
    about = f"Median of {rounds} rounds of {report.seconds:g} s (in brackets: least to most), {load(report.load)}."
    if loops := [each.loop for rates in report.samples.values() for runs in rates.values() for each in runs]:
        quickest = f"{report.loops[0]:.0f} µs at its quickest (one in a hundred)"
        about += f" A loop on the contender's core, {quickest}, took {median(loops, 0)} meanwhile."
    rates = next(iter(report.samples.values()), {})
    heads = [f"{rate:,} a second: p50 ms | p99 ms | CPU, % of a core" for rate in rates]
    heads.insert(1, "at its quickest")
    runs = {name: len(by_rate[SLOW]) for name, by_rate in report.samples.items()}
    lines = [
        line(
            in_rounds(name, runs[name], rounds),
            _cells(by_rate[SLOW]),
            _at_its_quickest(by_rate[SLOW], report.loops[0]),
            *(_cells(samples) for rate, samples in by_rate.items() if rate != SLOW),
        )
        for name, by_rate in report.samples.items()
        if runs[name]
    ]
    lacking = [f"\n\nNot run: {name}: {reason}" for name, reason in report.not_run.items()]
    return f"{about}\n\n{table(' | '.join(['contender', *heads]), *lines)}{''.join(lacking)}"


def _cells(samples: list[Sample]) -> str:
    middle, worst = [each.percentile(50) for each in samples], [each.percentile(99) for each in samples]
    missing, sent = sum(each.missing for each in samples), sum(each.sent for each in samples)
    lost = f", {missing:,} of {sent:,} missing" if missing else ""
    cpu = median([each.cpu for each in samples], 1)
    return f"{statistics.median(middle):.1f} | {median(worst, 1)}{lost} | {cpu}"


def _at_its_quickest(samples: list[Sample], loop: float) -> str:
    """CPU in percent of a core on which the loop of bench.speed takes `loop`: an estimate, rather too low.

    No core is always as quick as in its quickest hundredth, and the loop finds caches cold that the contender has used.
    Not at the higher rate: there a slower core makes for larger batches, which cost less.
    """
    return median([each.cpu * loop / each.loop for each in samples], 1)


TABLE = Table("latency", "Latency, and CPU at a steady rate", Report, partial(measured, FEW), shown)
TABLE_OF_MORE = Table(
    f"latency-{MORE.partitions}",
    f"Latency, and CPU at a steady rate, with {MORE.partitions} partitions a topic",
    Report,
    partial(measured, MORE),
    shown,
)
