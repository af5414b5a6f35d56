"""What groups that wait for their mate cost: memory and CPU each, and what a commit takes with so many of them.

A worker joins WARM_UP ids and is idle again: now it has what it needs to work at all. Then so many ids come on one of
its two topics, 200 B each, and it reads them all. Memory is the resident size of the whole process afterwards
less that before, CPU that of the whole process in between. Then both messages of TRICKLE further ids a second come
while those wait: CPU and commits in that time are what waiting costs. "Scattered": as many ids again, drawn at random
among them, have their mate: the map of those that wait is as long as it can be.
"""

import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

import msgspec

from bench.contenders import Contender, Target, worker
from bench.runs import PARTITIONS, Running, at_a_rate, output_topic, running, send
from bench.tables import Options, Table, counted, line, load, median, say, table
from tests.services.kafka import JavaBroker

SECONDS, ROUNDS = 5.0, 1
SETTLED = 2.0  # seconds without work before something is measured
TRICKLE = 200  # ids a second
WARM_UP = 200  # ids: more would leave free memory behind, in which some of those that wait have room
WARMED_FROM, TRICKLED_FROM = 40_000_000, 50_000_000  # the numbers of the first of these ids
LONG = 300.0  # seconds within which all must be read


@dataclass(frozen=True, slots=True)
class Case:
    waiting: int
    scattered: bool = False

    @property
    def name(self) -> str:
        return f"{self.waiting:,}{' scattered' * self.scattered}"

    def messages(self, inputs: tuple[str, ...]) -> Iterator[tuple[str, int]]:
        """Topic and number of the id."""
        first = inputs[0]
        if not self.scattered:
            return ((first, number) for number in range(self.waiting))
        both = set(random.Random(1).sample(range(2 * self.waiting), self.waiting))
        topics = {True: inputs, False: (first,)}
        return ((topic, number) for number in range(2 * self.waiting) for topic in topics[number in both])


CASES = (Case(0), Case(1_000), Case(10_000), Case(100_000), Case(1_000_000), Case(100_000, scattered=True))
MODES = ("at_least_once", "exactly_once")


class Sample(msgspec.Struct):
    waiting: int
    resident: float  # bytes, the whole process
    memory: float  # bytes of it, of all that wait
    cpu: float  # seconds, to read all of them
    trickle: float  # percent of a core that the trickle costs while they wait
    commit: float  # ms on average, in that time
    commits: float  # a second


class Report(msgspec.Struct):
    samples: dict[str, dict[str, list[Sample]]]  # by mode and case, one for each round
    load: list[float]  # average number of processes in the minute before each round, ours included


def measured(broker: JavaBroker, options: Options) -> Report:
    report = Report({mode: {} for mode in MODES}, [])
    for number in range(options.rounds or ROUNDS):
        report.load.append(os.getloadavg()[0])
        for case in CASES:
            for mode in MODES:
                if options.chooses(f"{mode} {case.name.replace(',', '')}"):
                    sample = sampled(broker, case, mode, options.seconds or SECONDS)
                    report.samples[mode].setdefault(case.name, []).append(sample)
                    say(f"round {number + 1}: {mode}, {case.name}: {sample}")
    return report


def sampled(broker: JavaBroker, case: Case, mode: str, seconds: float) -> Sample:
    name = f"waiting-{time.time_ns()}"
    inputs = (f"{name}-a", f"{name}-b")
    for topic in inputs:
        broker.create_topic(topic, PARTITIONS)
    output = output_topic(broker, f"{name}-out")
    contender = Contender("worker", worker(mode, MAX_PENDING_BYTES="4000000000", MESSAGE_TIMEOUT="86400"))
    with tempfile.TemporaryDirectory() as directory:
        target = Target(broker.bootstrap, inputs, output, 0, Path(directory))
        with running(contender, target) as process:
            sent = send(broker.bootstrap, _pairs(inputs, WARMED_FROM, WARM_UP))
            _until_read(process, sent, 0)
            time.sleep(SETTLED)
            before, cpu = process.resident(), process.cpu()
            sent += send(broker.bootstrap, case.messages(inputs))
            _until_read(process, sent, case.waiting)
            time.sleep(SETTLED)
            resident, cpu = process.resident(), process.cpu() - cpu
            sample = Sample(case.waiting, resident, resident - before, cpu, 0, 0, 0)
            return _trickled(broker, process, inputs, seconds, sample)


def _pairs(inputs: tuple[str, ...], begin: int, number: int) -> Iterator[tuple[str, int]]:
    return ((topic, each) for each in islice(count(begin), number) for topic in inputs)


def _until_read(process: Running, messages: int, waiting: int) -> None:
    deadline = time.monotonic() + LONG
    while (now := process.metrics())["messages_read_total"] < messages or now["groups_waiting"] != waiting:
        if time.monotonic() > deadline or not process.runs():
            raise RuntimeError(f"{waiting} groups do not wait: {process.log.read_text()[-4000:]}")
        time.sleep(0.5)


def _trickled(broker: JavaBroker, process: Running, inputs: tuple[str, ...], seconds: float, sample: Sample) -> Sample:
    pairs = _pairs(inputs, TRICKLED_FROM, sys.maxsize)
    send(broker.bootstrap, at_a_rate(pairs, TRICKLE * len(inputs), 1.0), linger=0)  # what is slow only once
    before, cpu, began = process.metrics(), process.cpu(), time.monotonic()
    send(broker.bootstrap, at_a_rate(pairs, TRICKLE * len(inputs), seconds), linger=0)
    took, cpu = time.monotonic() - began, process.cpu() - cpu
    after = process.metrics()
    commits = after["commit_seconds_count"] - before["commit_seconds_count"]
    commit = (after["commit_seconds_sum"] - before["commit_seconds_sum"]) / max(commits, 1) * 1000
    return msgspec.structs.replace(sample, trickle=cpu / took * 100, commit=commit, commits=commits / took)


def shown(report: Report) -> str:
    about = (
        f"Fragments of 200 B, one an id, and then {TRICKLE} further ids a second while they wait;"
        f" median (least to most) of {counted(len(report.load))}, {load(report.load)}."
    )
    head = (
        "groups that wait | resident MB | bytes each | CPU µs each | CPU of the trickle, % of a core | a commit, ms"
        " | commits a second"
    )
    lines = [
        line(f"{name}, {mode}", *_cells(samples))
        for mode, cases in report.samples.items()
        for name, samples in cases.items()
    ]
    return f"{about}\n\n{table(head, *lines)}"


def _cells(samples: list[Sample]) -> list[str]:
    each = [sample for sample in samples if sample.waiting]
    return [
        median([sample.resident / 1e6 for sample in samples], 0),
        median([sample.memory / sample.waiting for sample in each], 0) if each else "",
        median([sample.cpu / sample.waiting * 1e6 for sample in each], 1) if each else "",
        median([sample.trickle for sample in samples], 1),
        median([sample.commit for sample in samples], 1),
        median([sample.commits for sample in samples], 1),
    ]


TABLE = Table("waiting", "Groups that wait", Report, measured, shown)
