"""Other numbers of partitions and workers, sizes, compression: CPU a message, memory, and what is read again.

The worker beside the bare loop with msgspec, once with the worker's own fetch settings and once with the client's
defaults. To try others, set KAFKA_MAX_PARTITION_FETCH_BYTES and the like in the environment: the worker takes them.
"""

import json
import os
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from bench.contenders import Contender, bare, worker
from bench.runs import Run, feed, measure, output_topic
from bench.tables import Options, Table, counted, line, load, median, say, table
from tests.services.kafka import JavaBroker
from utils.kafka.clients import fetches

IDS, ROUNDS = 500_000, 5
BARE = "bare loop (msgspec)"
BARE_DEFAULTS = "bare loop, the client's defaults"
WORKERS = ("worker at_least_once", "worker exactly_once")


@dataclass(frozen=True, slots=True)
class Setup:
    partitions: int = 4
    size: int = 200  # bytes of a message
    compression: str = "none"
    workers: int = 1

    @property
    def name(self) -> str:
        workers = f", {self.workers} workers" if self.workers > 1 else ""
        packed = "" if self.compression == "none" else f", {self.compression}"
        return f"{self.partitions} partitions, {self.size:,} B{packed}{workers}"

    @property
    def topics(self) -> tuple[str, str]:
        name = f"p{self.partitions}-{self.size}-{self.compression}"
        return f"{name}-a", f"{name}-b"

    @property
    def contenders(self) -> tuple[Contender, ...]:
        modes = (Contender(f"worker {mode}", worker(mode), commits=True) for mode in ("at_least_once", "exactly_once"))
        if self.workers > 1:
            return tuple(modes)
        ours = json.dumps(fetches(self.partitions * len(self.topics)))
        return Contender(BARE, bare(f"--consumer={ours}")), Contender(BARE_DEFAULTS, bare("--consumer={}")), *modes

    def ids(self, most: int) -> int:
        """Fewer of the large ones: at most 1 kB on average."""
        return min(most, most * 1_000 // self.size)


SETUPS = (
    *(Setup(partitions) for partitions in (1, 4, 8, 16, 64, 256)),
    *(Setup(size=size) for size in (2_000, 20_000, 200_000)),
    *(Setup(size=size, compression=way) for way in ("lz4", "zstd") for size in (200, 2_000)),
    *(Setup(workers=workers) for workers in (2, 4)),
    Setup(16, compression="lz4"),
)


class Report(msgspec.Struct):
    ids: dict[str, int]  # by setup
    runs: dict[str, dict[str, list[Run]]]  # by setup and contender, one for each round
    load: list[float]  # average number of processes in the minute before each round, ours included


def measured(broker: JavaBroker, options: Options) -> Report:
    setups = [setup for setup in SETUPS if options.chooses(setup.name)]
    ids = {setup.name: setup.ids(options.ids or IDS) for setup in setups}
    report = Report(ids, {setup.name: {} for setup in setups}, [])
    for topics, setup in {setup.topics: setup for setup in setups}.items():
        for topic in topics:
            broker.create_topic(topic, setup.partitions)
        feed(broker.bootstrap, topics, ids[setup.name], setup.size, setup.compression)
    for number in range(options.rounds or ROUNDS):
        report.load.append(os.getloadavg()[0])
        for setup in setups:
            for who in setup.contenders:
                run = _run(broker, setup, who, ids[setup.name], number)
                report.runs[setup.name].setdefault(who.name, []).append(run)
                say(f"round {number + 1}: {setup.name}: {who.name}: {run.cpu:.2f} s, {run.memory:.0f} MB, {run.read:,}")
    return report


def _run(broker: JavaBroker, setup: Setup, who: Contender, ids: int, number: int) -> Run:
    output = output_topic(broker, f"{setup.topics[0]}-{setup.workers}-{who.slug}-{number}")
    run = measure(who, broker.bootstrap, setup.topics, output, ids, setup.workers)
    if run.checked.missing or run.checked.wrong:
        raise RuntimeError(f"{setup.name}: the output of {who.name} is not whole: {run.checked}")
    return run


def shown(report: Report) -> str:
    rounds = max((len(runs) for by_name in report.runs.values() for runs in by_name.values()), default=0)
    about = (
        f"CPU µs a message, median of {counted(rounds)}, and how many times that of the {BARE} with the worker's fetch"
        f" settings it is, round by round. Read again: of the messages, at least and exactly once. {load(report.load)}."
    )
    head = [
        "messages",
        "number",
        BARE,
        BARE_DEFAULTS,
        *(f"{who} | of the bare loop" for who in WORKERS),
        "peak MB: bare, ours",
        "read again",
    ]
    lines = [_line(name, report.ids[name], by_name) for name, by_name in report.runs.items()]
    return f"{about}\n\n{table(' | '.join(head), *lines)}"


def _line(name: str, ids: int, runs: Mapping[str, list[Run]]) -> str:
    messages = ids * 2
    cells = [_cpu(runs.get(each, []), messages) for each in (BARE, BARE_DEFAULTS)]
    for who in WORKERS:
        ratios = [ours.cpu / bare.cpu for ours, bare in zip(runs[who], runs.get(BARE, []), strict=False)]
        cells += [_cpu(runs[who], messages), median(ratios) if ratios else ""]
    memory = ", ".join(f"{max(run.memory for run in runs[each]):.0f}" for each in (BARE, *WORKERS) if each in runs)
    again = ", ".join(f"{max(run.read / messages - 1 for run in runs[who]):.1%}" for who in WORKERS)
    return line(name, f"{messages:,}", *cells, memory, again)


def _cpu(runs: list[Run], messages: int) -> str:
    return f"{statistics.median(run.cpu for run in runs) / messages * 1e6:.2f}" if runs else ""


TABLE = Table("partitions", "Partitions, sizes, compression, workers", Report, measured, shown)
