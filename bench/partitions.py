"""Other numbers of partitions and workers, sizes, compression: CPU a message, memory, and what is read again.

The worker beside the bare loop with msgspec, each once with the worker's own fetch settings and once with the client's
defaults. To try others, set KAFKA_MAX_PARTITION_FETCH_BYTES and the like in the environment: the worker takes them.
What breaks is named below the table.
"""

import json
import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from bench.contenders import Contender, bare, worker
from bench.runs import BREAKS, Run, delete_topic, feed, measure, output_topic
from bench.tables import Options, Table, counted, line, load, median, say, table
from tests.services.kafka import JavaBroker
from utils.kafka.clients import fetches

IDS, ROUNDS = 500_000, 5
BARE = "bare loop (msgspec)"
BARE_DEFAULTS = "bare loop, the client's defaults"
WORKERS = ("worker at_least_once", "worker exactly_once")
WORKER_DEFAULTS = "worker at_least_once, the client's defaults"
# Of Kafka's client, where the worker has settings of its own (docs of librdkafka 2.16).
DEFAULTS = {
    "KAFKA_QUEUED_MIN_MESSAGES": "100000",
    "KAFKA_QUEUED_MAX_MESSAGES_KBYTES": "65536",
    "KAFKA_FETCH_QUEUE_BACKOFF_MS": "1000",
    "KAFKA_MAX_PARTITION_FETCH_BYTES": "1048576",
}


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
        modes = [Contender(name, worker(name.removeprefix("worker ")), commits=True) for name in WORKERS]
        if self.workers > 1:
            return tuple(modes)
        ours = json.dumps(fetches(self.partitions * len(self.topics)))
        defaults = Contender(WORKER_DEFAULTS, worker("at_least_once", process=None, **DEFAULTS), commits=True)
        loops = Contender(BARE, bare(f"--consumer={ours}")), Contender(BARE_DEFAULTS, bare("--consumer={}"))
        return (*loops, *modes, defaults)

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
    not_run: dict[str, str] = {}  # setup and contender: why not


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
                name = f"{setup.name}: {who.name}"
                if name in report.not_run:
                    continue  # no further one either: runs are told by their round
                try:
                    run = _run(broker, setup, who, ids[setup.name], number)
                except BREAKS as error:
                    report.not_run[name] = f"in round {number + 1}: {error}"
                    say(f"{name}: {report.not_run[name]}")
                    continue
                report.runs[setup.name].setdefault(who.name, []).append(run)
                say(f"round {number + 1}: {name}: {run.cpu:.2f} s, {run.memory:.0f} MB, {run.read:,}")
    return report


def _run(broker: JavaBroker, setup: Setup, who: Contender, ids: int, number: int) -> Run:
    output = output_topic(broker, f"{setup.topics[0]}-{setup.workers}-{who.slug}-{number}")
    run = measure(who, broker.bootstrap, setup.topics, output, ids, setup.workers)
    delete_topic(broker, output)  # of all runs together they would be 25 GB a round
    if run.checked.missing or run.checked.wrong:
        raise RuntimeError(f"the output is not whole: {run.checked}")
    return run


def shown(report: Report) -> str:
    rounds = max((len(runs) for by_name in report.runs.values() for runs in by_name.values()), default=0)
    about = (
        f"CPU µs a message, median of {counted(rounds)}, and how many times that of the {BARE} with the same fetch"
        f" settings it is, round by round; {load(report.load)}. Peak MiB: the most of all rounds, of the bare loop, of"
        " the worker at least once and exactly once. Read again: of the messages, median, at least and exactly once."
    )
    head = [
        "messages",
        "number",
        BARE,
        *(f"{who} | of the bare loop" for who in WORKERS),
        BARE_DEFAULTS,
        f"{WORKER_DEFAULTS} | of the bare loop",
        "peak MiB",
        "read again",
        "with the client's defaults: peak MiB",
        "read again",
    ]
    lines = [_line(name, report.ids[name] * 2, by_name) for name, by_name in report.runs.items()]
    lacking = [f"\n\nNot run: {name}: {reason}" for name, reason in report.not_run.items()]
    return f"{about}\n\n{table(' | '.join(head), *lines)}{''.join(lacking)}"


def _line(name: str, messages: int, runs: Mapping[str, list[Run]]) -> str:
    ours = [cell for who in WORKERS for cell in _beside(runs.get(BARE, []), runs.get(who, []), messages)]
    defaults = _beside(runs.get(BARE_DEFAULTS, []), runs.get(WORKER_DEFAULTS, []), messages)
    return line(
        name,
        f"{messages:,}",
        _cpu(runs.get(BARE, []), messages),
        *ours,
        _cpu(runs.get(BARE_DEFAULTS, []), messages),
        *defaults,
        _memory([runs.get(each, []) for each in (BARE, *WORKERS)]),
        _again([runs.get(who, []) for who in WORKERS], messages),
        _memory([runs.get(each, []) for each in (BARE_DEFAULTS, WORKER_DEFAULTS)]),
        _again([runs.get(WORKER_DEFAULTS, [])], messages),
    )


def _cpu(runs: Sequence[Run], messages: int) -> str:
    return f"{statistics.median(run.cpu for run in runs) / messages * 1e6:.2f}" if runs else ""


def _beside(bare: Sequence[Run], ours: Sequence[Run], messages: int) -> tuple[str, str]:
    """The worker's CPU, and how many times the bare loop's it is."""
    ratios = [run.cpu / loop.cpu for run, loop in zip(ours, bare, strict=False)]
    return _cpu(ours, messages), median(ratios) if ratios else ""


def _memory(rows: Iterable[Sequence[Run]]) -> str:
    return ", ".join(f"{max(run.memory for run in runs):.0f}" for runs in rows if runs)


def _again(rows: Iterable[Sequence[Run]], messages: int) -> str:
    return ", ".join(f"{statistics.median(run.read / messages - 1 for run in runs):.1%}" for runs in rows if runs)


TABLE = Table("partitions", "Partitions, sizes, compression, workers", Report, measured, shown)
