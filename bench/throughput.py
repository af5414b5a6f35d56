"""CPU, throughput and memory of joining two topics that are fed before: ours, the bare loop, and the peers.

The contenders run in turn, each from the first message with a new group and a new output topic, and every result is
looked at. CPU is user plus system time of the whole process, its start included, as the operating system accounts it.
There is a table for each number of partitions that a topic of the input has.
"""

import os
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import msgspec

from bench.contenders import BARE, BARE_MSGSPEC, CONTENDERS, Contender, prepared
from bench.runs import BREAKS, PARTITIONS, Run, feed, measure, output_topic
from bench.tables import Options, Table, in_rounds, line, load, median, say, table
from tests.services.kafka import JavaBroker

TOPICS, IDS = 2, 500_000


@dataclass(frozen=True, slots=True)
class Setup:
    partitions: int  # of a topic
    rounds: int
    rounds_of_slow: int

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(f"bench-{self.partitions}-{letter}" for letter in "ab"[:TOPICS])

    def due(self, contenders: list[Contender], number: int) -> list[Contender]:
        """Those that run in this round; the first is 0."""
        return [each for each in contenders if not each.slow or number < self.rounds_of_slow]


FEW, MORE = Setup(PARTITIONS, rounds=5, rounds_of_slow=3), Setup(16, rounds=3, rounds_of_slow=1)


class Report(msgspec.Struct):
    """All that was measured, for one number of partitions."""

    ids: int
    runs: dict[str, list[Run]]  # by contender, a run for each round
    not_run: dict[str, str]  # contender: why not
    load: list[float]  # average number of processes in the minute before each round, ours included


def measured(setup: Setup, broker: JavaBroker, options: Options) -> Report:
    """Every round runs all contenders one after the other, so that what else the machine does meets them all."""
    contenders, not_run = prepared([each for each in CONTENDERS if options.chooses(each.name)])
    report = Report(options.ids or IDS, {each.name: [] for each in contenders}, not_run, [])
    for topic in setup.inputs:
        broker.create_topic(topic, setup.partitions)
    feed(broker.bootstrap, setup.inputs, report.ids)
    for number in range(options.rounds or setup.rounds):
        report.load.append(os.getloadavg()[0])
        for contender in setup.due(contenders, number):
            output = output_topic(broker, f"bench-{setup.partitions}-{contender.slug}-{number}")
            try:
                run = measure(contender, broker.bootstrap, setup.inputs, output, report.ids)
            except BREAKS as error:
                report.not_run[contender.name] = f"in round {number + 1}: {error}"
                contenders.remove(contender)  # no further one either: runs are told by their round
                continue
            report.runs[contender.name].append(run)
            say(f"round {number + 1}: {contender.name}: {run.cpu:.2f} s of CPU, {run.checked}")
    return report


def shown(report: Report) -> str:
    messages = report.ids * TOPICS
    rounds = max((len(runs) for runs in report.runs.values()), default=0)
    about = f"{messages:,} messages, {report.ids:,} results, median (least to most) of {rounds} rounds"
    bases = [[run.cpu for run in report.runs.get(bare.name, [])] for bare in (BARE, BARE_MSGSPEC)]
    lines = [
        _line(in_rounds(name, len(runs), rounds), runs, bases, messages) for name, runs in report.runs.items() if runs
    ]
    head = (
        "contender | CPU s | of the bare loop's, round by round | of the one with msgspec"
        " | CPU µs a message | messages a second | first result after s | peak MiB | output"
    )
    lacking = [f"\n\nNot run: {name}: {reason}" for name, reason in report.not_run.items()]
    return f"{about}, {load(report.load)}.\n\n{table(head, *lines)}{''.join(lacking)}"


def _line(name: str, runs: list[Run], bases: list[list[float]], messages: int) -> str:
    cpu = [run.cpu for run in runs]
    faults = [str(run.checked) for run in runs if not run.checked.whole]
    return line(
        name,
        median(cpu),
        *(median(ratios) if (ratios := _ratios(cpu, base)) else "" for base in bases),
        f"{statistics.median(cpu) / messages * 1e6:.2f}",
        f"{messages / _median(runs, lambda run: run.wall):,.0f}",
        f"{_median(runs, lambda run: run.first):.1f}",
        f"{_median(runs, lambda run: run.memory):.0f}",
        "; ".join(faults) or "whole",
    )


def _ratios(cpu: list[float], base: list[float]) -> list[float]:
    """Round by round; a slow contender may have fewer rounds."""
    return [mine / bare for mine, bare in zip(cpu, base, strict=False)]


def _median(runs: list[Run], of: Callable[[Run], float]) -> float:
    return statistics.median(of(run) for run in runs)


def bars(report: Report) -> dict[str, list[float]]:
    per_message = 1e6 / (report.ids * TOPICS)
    return {name: [run.cpu * per_message for run in runs] for name, runs in report.runs.items() if runs}


def verdict(reports: Iterable[Report]) -> int | str:
    """For sys.exit(): the worker's own output must be whole."""
    rows = [row for report in reports for row in report.runs.items()]
    ours = [run.checked for name, runs in rows if name.startswith("worker") for run in runs]
    return 0 if all(checked.whole for checked in ours) else "the worker's output is not whole"


TABLE = Table("cpu", "CPU, throughput and memory", Report, partial(measured, FEW), shown)
TABLE_OF_MORE = Table(
    f"cpu-{MORE.partitions}",
    f"CPU, throughput and memory, with {MORE.partitions} partitions a topic",
    Report,
    partial(measured, MORE),
    shown,
)
