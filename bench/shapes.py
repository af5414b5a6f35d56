"""Other shapes than two topics of 200 B: CPU a message, beside the bare loop with msgspec on the same messages.

What a process costs with a single id, its start above all, is measured in the same round and taken off: with large
messages there are too few of them to make it small.
"""

import os
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from bench.contenders import BARE_MSGSPEC, CONTENDERS
from bench.runs import PARTITIONS, feed, measure, output_topic
from bench.tables import Options, Table, counted, line, load, median, say, table
from tests.services.kafka import JavaBroker

IDS, ROUNDS = 200_000, 3
WHO = [each for each in CONTENDERS if each is BARE_MSGSPEC or each.name.startswith("worker")]


@dataclass(frozen=True, slots=True)
class Shape:
    topics: int
    size: int  # bytes of a message

    @property
    def name(self) -> str:
        return f"{self.topics} topic{'s' * (self.topics > 1)} of {self.size:,} B"

    def ids(self, most: int) -> int:
        """As many messages as `most` ids of two topics have, but fewer of the large ones: at most 1 kB on average."""
        return min(most * 2, most * 2 * 1_000 // self.size) // self.topics


ONE_ID = Shape(2, 201)  # another topic than that of the usual shape
SHAPES = (*(Shape(topics, 200) for topics in (1, 2, 3, 5)), *(Shape(2, size) for size in (2_000, 20_000, 200_000)))


class Report(msgspec.Struct):
    ids: dict[str, int]  # by shape
    cpu: dict[str, dict[str, list[float]]]  # seconds, by shape and contender, one for each round
    start: dict[str, list[float]]  # seconds with a single id, by contender
    load: list[float]  # average number of processes in the minute before each round, ours included


def measured(broker: JavaBroker, options: Options) -> Report:
    shapes = [shape for shape in SHAPES if options.chooses(shape.name)]
    ids = {shape.name: shape.ids(options.ids or IDS) for shape in shapes}
    report = Report(ids, {shape.name: {each.name: [] for each in WHO} for shape in shapes}, {}, [])
    for shape in (ONE_ID, *shapes):
        for topic in _topics(shape):
            broker.create_topic(topic, PARTITIONS)
        feed(broker.bootstrap, _topics(shape), ids.get(shape.name, 1), shape.size)
    for number in range(options.rounds or ROUNDS):
        report.load.append(os.getloadavg()[0])
        for who in WHO:
            report.start.setdefault(who.name, []).append(_cpu(broker, ONE_ID, who.name, 1, number))
        for shape in shapes:
            for who in WHO:
                cpu = _cpu(broker, shape, who.name, ids[shape.name], number)
                report.cpu[shape.name][who.name].append(cpu)
                say(f"round {number + 1}: {shape.name}: {who.name}: {cpu:.2f} s of CPU")
    return report


def _topics(shape: Shape) -> tuple[str, ...]:
    return tuple(f"shape-{shape.topics}-{shape.size}-{letter}" for letter in "abcde"[: shape.topics])


def _cpu(broker: JavaBroker, shape: Shape, contender: str, ids: int, number: int) -> float:
    [who] = [each for each in WHO if each.name == contender]
    output = output_topic(broker, f"shape-{shape.topics}-{shape.size}-{who.slug}-{number}")
    run = measure(who, broker.bootstrap, _topics(shape), output, ids)
    if not run.checked.whole:
        raise RuntimeError(f"{shape.name}: the output of {who.name} is not whole: {run.checked}")
    return run.cpu


def shown(report: Report) -> str:
    rounds = max((len(each) for each in report.start.values()), default=0)
    starts = ", ".join(f"{name} {statistics.median(each):.2f} s" for name, each in report.start.items())
    about = (
        f"CPU µs a message without that of the start ({starts}), and how many times that of the"
        f" {BARE_MSGSPEC.name} it is; median (least to most) of {counted(rounds)},"
        f" {load(report.load)}."
    )
    names = {shape.name: shape for shape in SHAPES}
    lines = [_line(names[name], report.ids[name], by_name, report) for name, by_name in report.cpu.items()]
    ours = [f"{who.name} | of {BARE_MSGSPEC.name}'s, round by round" for who in WHO[1:]]
    return f"{about}\n\n{table(' | '.join(['messages', 'number', BARE_MSGSPEC.name, *ours]), *lines)}"


def _line(shape: Shape, ids: int, cpu: Mapping[str, list[float]], report: Report) -> str:
    messages = ids * shape.topics
    net = {
        name: [(mine - start) / messages * 1e6 for mine, start in zip(each, report.start[name], strict=True)]
        for name, each in cpu.items()
    }
    base = net[BARE_MSGSPEC.name]
    cells = [f"{statistics.median(base):.2f}"]
    for who in WHO[1:]:
        ratios = [mine / bare for mine, bare in zip(net[who.name], base, strict=True)]
        cells += [f"{statistics.median(net[who.name]):.2f}", median(ratios)]
    return line(shape.name, f"{messages:,}", *cells)


TABLE = Table("shapes", "Other numbers of topics, larger messages", Report, measured, shown)
