"""Calls of 50 ms in process(): a sleep, held against the ideal; a local HTTP service, held against its client alone.

The ideal is CONCURRENCY / 0.05 s. The client alone makes the same calls in as many threads or coroutines, on the same
core, without Kafka, right before the worker; the service shares the other core with the broker. How long the worker's
results took, from the first to the last, is read from the timestamps that the broker gave them.
"""

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import msgspec

from bench import peers
from bench.calling.service import CALL
from bench.contenders import Contender, worker
from bench.runs import PINNED, TIED, feed, measure, output_topic
from bench.tables import Options, Table, line, load, median, say, table
from tests.program import ROOT
from tests.services.kafka import JavaBroker
from tests.services.processes import Unavailable

SECONDS, ROUNDS = 6.0, 3
PARTITIONS = 4


@dataclass(frozen=True, slots=True)
class Case:
    concurrency: int
    way: Literal["threads", "coroutines"]  # in bench/calling

    @property
    def name(self) -> str:
        return "one thread" if self.concurrency == 1 else f"{self.concurrency} {self.way}"

    @property
    def ideal(self) -> float:
        """Results a second."""
        return self.concurrency / CALL


CASES = (Case(1, "threads"), Case(64, "threads"), Case(512, "coroutines"))


class Sample(msgspec.Struct):
    possible: float  # results a second: the ideal, or what the client reached alone
    reached: float
    cpu: float  # seconds a result, of the whole process
    possible_cpu: float  # seconds a call, of the client alone


class Report(msgspec.Struct):
    samples: dict[str, list[Sample]]  # by what is called and how; one for each round
    not_run: dict[str, str]
    load: list[float]  # average number of processes in the minute before each round, ours included


def measured(broker: JavaBroker, options: Options) -> Report:
    seconds = options.seconds or SECONDS
    report = Report({}, {}, [])
    with service() as url:
        for number in range(options.rounds or ROUNDS):
            report.load.append(os.getloadavg()[0])
            for case in CASES:
                for what, address in (("sleep", ""), ("HTTP", url)):
                    name = f"{what}, {case.name}"
                    if not options.chooses(name):
                        continue
                    try:
                        sample = sampled(broker, case, address, seconds)
                    except Unavailable as reason:
                        report.not_run[name] = str(reason)
                        continue
                    report.samples.setdefault(name, []).append(sample)
                    say(f"round {number + 1}: {name}: {sample.reached:,.1f} of {sample.possible:,.1f} a second")
    return report


@contextmanager
def service() -> Iterator[str]:
    """The address of bench/calling/service.py, on the broker's core."""
    command = [*TIED, sys.executable, "-m", "bench.calling.service"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.terminate()


def sampled(broker: JavaBroker, case: Case, url: str, seconds: float) -> Sample:
    environment = {"CONCURRENCY": str(case.concurrency), "CALL_URL": url}
    if url and case.way == "coroutines":
        environment["PYTHONPATH"] = peers.packages("aiohttp")
    possible, possible_cpu = alone(case, environment, seconds) if url else (case.ideal, 0.0)
    results = max(int(possible * seconds), case.concurrency + 1)
    name = f"calls-{time.time_ns()}"
    input, output = f"{name}-in", output_topic(broker, f"{name}-out")
    broker.create_topic(input, PARTITIONS)
    feed(broker.bootstrap, (input,), results)
    process = ROOT / "bench" / "calling" / f"{case.way}.py"
    contender = Contender("worker", worker("at_least_once", process=process, **environment), commits=True)
    run = measure(contender, broker.bootstrap, (input,), output, results)
    if not run.checked.whole:
        raise RuntimeError(f"the worker's output is not whole: {run.checked}")
    reached = (results - case.concurrency) / (run.checked.last - run.checked.first)
    return Sample(possible, reached, run.cpu / results, possible_cpu)


def alone(case: Case, environment: Mapping[str, str], seconds: float) -> tuple[float, float]:
    """Calls a second, and seconds of CPU for each, of the whole process."""
    command = [*PINNED, sys.executable, "-m", "bench.calling.alone", case.way, str(seconds)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    calls, rate = map(float, done.stdout.split())
    return rate, (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / calls


def shown(report: Report) -> str:
    rounds = max((len(samples) for samples in report.samples.values()), default=0)
    about = f"At least once, median (least to most) of {rounds} rounds, {load(report.load)}."
    lines = [line(name, *_cells(samples)) for name, samples in report.samples.items()]
    head = "process() calls | possible a second | reached | %, round by round | CPU µs a result | of the client alone"
    lacking = [f"\n\nNot run: {name}: {reason}" for name, reason in report.not_run.items()]
    return f"{about}\n\n{table(head, *lines)}{''.join(lacking)}"


def _cells(samples: list[Sample]) -> list[str]:
    shares = median([each.reached / each.possible * 100 for each in samples], 1)
    cpu = statistics.median(each.cpu for each in samples) * 1e6
    possible, reached = [each.possible for each in samples], [each.reached for each in samples]
    alone = statistics.median(each.possible_cpu for each in samples) * 1e6
    return [median(possible, 1), median(reached, 1), shares, f"{cpu:,.0f}", f"{alone:,.0f}" if alone else ""]


TABLE = Table("calls", "process() that waits 50 ms", Report, measured, shown)
