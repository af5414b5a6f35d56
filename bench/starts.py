"""What a worker costs while nothing comes, how soon it has its first result, and how fast it skips what is finished.

Idle: after SETTLED seconds without a message. First result: two messages lie there when the process is started.
Skipping: in each partition a message without a mate comes first, and many pairs behind it, so that the commit stays at
the beginning and its map says that all but the first are finished. The worker processes them, is stopped (or killed, as
a static member, which need not wait for the session to end), one more pair is sent to each partition, and it is
started again. Both times are from the assignment of the partitions to the last result; CPU is with start and end.
"""

import os
import signal
import tempfile
import time
from collections.abc import Mapping
from datetime import datetime
from itertools import count
from pathlib import Path

import msgspec

from bench.contenders import BARE_MSGSPEC, Contender, Target, bare, worker
from bench.runs import PARTITIONS, Running, check, feed, id_of, measure, output_topic, running, send
from bench.tables import Options, Table, line, load, median, say, table
from tests.services.kafka import JavaBroker
from utils.joining.partitions import murmur2

IDS, ROUNDS, SECONDS = 200_000, 3, 15.0
MANY = 500  # partitions of a topic
SETTLED = 5.0  # seconds
STARTED = 60.0  # seconds within which partitions must be assigned
LONG = 300.0  # seconds
NEVER_JOINED, AT_THE_END = 80_000_000, 90_000_000  # the numbers from which these ids are taken
MODES = ("at_least_once", "exactly_once")


class Idle(msgspec.Struct):
    cpu: float  # percent of a core
    memory: float  # bytes, resident


class Skipped(msgspec.Struct):
    messages: int
    processed: float  # seconds from the assignment on
    skipped: float
    processed_cpu: float  # seconds of the whole process
    skipped_cpu: float


class Report(msgspec.Struct):
    """By contender, one for each round."""

    idle: dict[str, list[Idle]]
    first: dict[str, list[float]]  # seconds from the start to the first result
    skipped: dict[str, list[Skipped]]
    load: list[float]  # average number of processes in the minute before each round, ours included


def measured(broker: JavaBroker, options: Options) -> Report:
    report = Report({}, {}, {}, [])
    contenders = {BARE_MSGSPEC.name: bare(), **{f"worker {mode}": worker(mode) for mode in MODES}}
    for number in range(options.rounds or ROUNDS):
        report.load.append(os.getloadavg()[0])
        for name, launch in contenders.items():
            if options.chooses(f"{name} idle"):
                report.idle.setdefault(name, []).append(
                    idle(broker, Contender(name, launch), options.seconds or SECONDS)
                )
                say(f"round {number + 1}: {name} idle: {report.idle[name][-1]}")
                many = f"{name}, {2 * MANY:,} partitions"
                report.idle.setdefault(many, []).append(
                    idle(broker, Contender(name, launch), options.seconds or SECONDS, MANY)
                )
                say(f"round {number + 1}: {many} idle: {report.idle[many][-1]}")
                report.first.setdefault(name, []).append(first(broker, Contender(name, launch)))
                say(f"round {number + 1}: {name}: first result after {report.first[name][-1]:.2f} s")
        for mode in MODES:
            for end in (signal.SIGTERM, signal.SIGKILL):
                name = f"worker {mode}, {'stopped' if end == signal.SIGTERM else 'killed'}"
                if options.chooses(f"{name} skipping"):
                    report.skipped.setdefault(name, []).append(skipped(broker, mode, end, options.ids or IDS))
                    say(f"round {number + 1}: {name}: {report.skipped[name][-1]}")
    return report


def _topics(broker: JavaBroker, partitions: int = PARTITIONS) -> tuple[tuple[str, str], str]:
    name = f"starts-{time.time_ns()}"
    inputs = (f"{name}-a", f"{name}-b")
    for topic in inputs:
        broker.create_topic(topic, partitions)
    return inputs, output_topic(broker, f"{name}-out")


def idle(broker: JavaBroker, contender: Contender, seconds: float, partitions: int = PARTITIONS) -> Idle:
    inputs, output = _topics(broker, partitions)
    with tempfile.TemporaryDirectory() as directory:
        target = Target(broker.bootstrap, inputs, output, 1, Path(directory))
        with running(contender, target) as process:
            time.sleep(SETTLED)
            cpu, began = process.cpu(), time.monotonic()
            time.sleep(seconds)
            percent = (process.cpu() - cpu) / (time.monotonic() - began) * 100
            return Idle(percent, process.resident())


def first(broker: JavaBroker, contender: Contender) -> float:
    inputs, output = _topics(broker)
    feed(broker.bootstrap, inputs, 1)
    return measure(contender, broker.bootstrap, inputs, output, 1).first


def skipped(broker: JavaBroker, mode: str, end: signal.Signals, ids: int) -> Skipped:
    inputs, output = _topics(broker)
    first, second = inputs
    with tempfile.TemporaryDirectory() as directory:
        target = Target(broker.bootstrap, inputs, output, ids, Path(directory))
        contender = Contender("worker", worker(mode, MESSAGE_TIMEOUT="86400", GROUP_INSTANCE_ID="the-only-one"))
        send(broker.bootstrap, [(first, number) for number in in_each_partition(NEVER_JOINED)])
        send(broker.bootstrap, [(second, number) for number in in_each_partition(NEVER_JOINED + 1_000_000)])
        feed(broker.bootstrap, inputs, ids)
        with running(contender, target) as process:
            _until_finished(process, ids * len(inputs))
            os.kill(process.pid, end)
            processed_cpu = process.stop()
        processed = _took(process, broker, inputs, output, ids)
        send(broker.bootstrap, [(topic, number) for number in in_each_partition(AT_THE_END) for topic in inputs])
        with running(contender, target) as process:
            _until_finished(process, (ids + PARTITIONS) * len(inputs))
            skipped = process.metrics()["messages_skipped_total"]
            skipped_cpu = process.stop()
        took = _took(process, broker, inputs, output, ids + PARTITIONS)
    if skipped != ids * len(inputs):
        raise RuntimeError(f"{skipped:,} messages were skipped, not {ids * len(inputs):,}")
    return Skipped(ids * len(inputs), processed, took, processed_cpu, skipped_cpu)


def in_each_partition(begin: int) -> list[int]:
    """Numbers of ids, one for each partition number."""
    return [
        next(number for number in count(begin) if murmur2(id_of(number).encode(), PARTITIONS) == partition)
        for partition in range(PARTITIONS)
    ]


def _until_finished(process: Running, messages: int) -> None:
    """Until all are read, and all but those without a mate committed: a killed worker sends again what is not."""
    deadline = time.monotonic() + LONG
    while not _is_finished(process.metrics(), messages):
        if time.monotonic() > deadline or not process.runs():
            raise RuntimeError(f"not finished: {process.log.read_text()[-4000:]}")
        time.sleep(0.5)


def _is_finished(metrics: Mapping[str, float], messages: int) -> bool:
    alone = 2 * PARTITIONS
    all_read = metrics["partition_position"] == messages + alone
    return all_read and metrics["partition_unfinished"] == alone and not metrics["groups_uncommitted"]


def _took(process: Running, broker: JavaBroker, inputs: tuple[str, ...], output: str, ids: int) -> float:
    """Seconds from the assignment of the partitions to the last of so many results."""
    checked = check(broker.bootstrap, inputs, output, ids)
    if not checked.whole:
        raise RuntimeError(f"the worker's output is not whole: {checked}")
    log = msgspec.json.decode(process.waits_for("partitions assigned", STARTED))
    return checked.last - datetime.fromisoformat(log["timestamp"]).timestamp()


def shown(report: Report) -> str:
    rounds = len(report.load)
    about = f"Median (least to most) of {rounds} rounds, {load(report.load)}."
    idle = table(
        "nothing to do | CPU, % of a core | resident MB | first result s after the start",
        *(
            line(
                name,
                median([each.cpu for each in samples]),
                median([each.memory / 1e6 for each in samples], 0),
                median(report.first[name]) if name in report.first else "",
            )
            for name, samples in report.idle.items()
        ),
    )
    skipping = table(
        "skipping | messages | processed in s | skipped in s | times as fast | CPU s to process | CPU s to skip",
        *(line(name, f"{samples[0].messages:,}", *_cells(samples)) for name, samples in report.skipped.items()),
    )
    return "\n\n".join([about, *([idle] if report.idle else []), *([skipping] if report.skipped else [])])


def _cells(samples: list[Skipped]) -> list[str]:
    return [
        median([each.processed for each in samples]),
        median([each.skipped for each in samples]),
        median([each.processed / each.skipped for each in samples]),
        median([each.processed_cpu for each in samples]),
        median([each.skipped_cpu for each in samples]),
    ]


TABLE = Table("starts", "Idle, the first result, and what is finished after a restart", Report, measured, shown)
