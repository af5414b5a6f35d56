"""What the worker costs beside the bare loop of the same client and beside what a user could pick instead, in one run.

python -m bench.run [--ids 500000] [--rounds 5] [--only bare,worker] [--json FILE] [--plot FILE.svg]
python -m bench.run --show FILE [--plot FILE.svg]

Starts real Kafka on one core, feeds two topics once, then runs the contenders in turn on the other core, each from the
first message with a new group and a new output topic, and looks at every result. CPU is user plus system time of the
whole process, its start included, as the operating system accounts it.
"""

import argparse
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from bench.contenders import BARE, BARE_JSON, chosen, prepared
from bench.plot import plot
from bench.runs import PARTITIONS, Run, feed, measure, output_topic, pinned_broker

INPUTS = ("bench-a", "bench-b")


class Report(msgspec.Struct):
    """All that a call of this program has measured."""

    ids: int
    runs: dict[str, list[Run]]  # by contender, a run for each round
    not_run: dict[str, str]  # contender: why not
    load: list[float]  # average number of processes in the minute before each round, ours included


def main() -> None:
    arguments = _arguments()
    shown = arguments.show
    report = msgspec.json.decode(shown.read_bytes(), type=Report) if shown else measured(arguments)
    if arguments.json:
        arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    show(report)
    if arguments.plot:
        arguments.plot.write_text(plot(_bars(report), "CPU µs a message: less is better"))
    ours = [run.checked for name, runs in report.runs.items() if name.startswith("worker") for run in runs]
    sys.exit(0 if all(checked.whole for checked in ours) else "the worker's output is not whole")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("bench.run", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--ids", type=int, default=500_000, help="joined results; twice as many messages")
    parser.add_argument("--rounds", type=int, default=5, help="of which the medians are shown")
    parser.add_argument("--only", default="", help="contenders, by parts of their names: bare,worker,naive,streams")
    parser.add_argument("--json", type=Path, help="write all that was measured into this file")
    parser.add_argument("--plot", type=Path, help="draw the table into this SVG")
    parser.add_argument("--show", type=Path, help="the table and plot of such a JSON file; nothing is run")
    return parser.parse_args()


def measured(arguments: argparse.Namespace) -> Report:
    """Every round runs all contenders one after the other, so that what else the machine does meets them all."""
    contenders, not_run = prepared(chosen(arguments.only.split(",")))
    report = Report(arguments.ids, {each.name: [] for each in contenders}, not_run, [])
    with pinned_broker() as broker:
        for topic in INPUTS:
            broker.create_topic(topic, PARTITIONS)
        feed(broker.bootstrap, INPUTS, arguments.ids)
        for number in range(arguments.rounds):
            report.load.append(os.getloadavg()[0])
            for contender in [each for each in contenders if number < each.rounds]:
                name = "".join(letter if letter.isalnum() else "-" for letter in contender.name)
                output = output_topic(broker, f"bench-{name}-{number}")
                try:
                    run = measure(contender, broker.bootstrap, INPUTS, output, arguments.ids)
                except RuntimeError as error:
                    report.not_run[contender.name] = str(error)
                    continue
                report.runs[contender.name].append(run)
                _say(f"round {number + 1}: {contender.name}: {run.cpu:.2f} s of CPU, {run.checked}")
    return report


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def show(report: Report) -> None:
    messages = report.ids * len(INPUTS)
    rounds = max(len(runs) for runs in report.runs.values())
    print(f"\n{messages:,} messages, {report.ids:,} results, median (least to most) of {rounds} rounds", end="")
    print(f", load average before them {', '.join(f'{load:.1f}' for load in report.load)}\n")
    print("| contender | CPU s | of the bare loop's, round by round | the same, with json", end="")
    print(" | CPU µs a message | messages a second | first result after s | peak MB | output |")
    print("|---|---|---|---|---|---|---|---|---|")
    bases = [[run.cpu for run in report.runs.get(bare.name, [])] for bare in (BARE, BARE_JSON)]
    for name, runs in report.runs.items():
        if runs:
            print(_line(name if len(runs) == rounds else f"{name} ({len(runs)} rounds)", runs, bases, messages))
    for name, reason in report.not_run.items():
        print(f"\nNot run: {name}: {reason}")


def _line(name: str, runs: list[Run], bases: list[list[float]], messages: int) -> str:
    cpu = [run.cpu for run in runs]
    faults = [str(run.checked) for run in runs if not run.checked.whole]
    cells = [
        name,
        _spread(cpu),
        *(_spread(ratios) if (ratios := _ratios(cpu, base)) else "" for base in bases),
        f"{statistics.median(cpu) / messages * 1e6:.2f}",
        f"{messages / _median(runs, lambda run: run.wall):,.0f}",
        f"{_median(runs, lambda run: run.first):.1f}",
        f"{_median(runs, lambda run: run.memory):.0f}",
        "; ".join(faults) or "whole",
    ]
    return f"| {' | '.join(cells)} |"


def _ratios(cpu: list[float], base: list[float]) -> list[float]:
    """Round by round; a slow contender may have fewer rounds."""
    return [mine / bare for mine, bare in zip(cpu, base, strict=False)]


def _median(runs: list[Run], of: Callable[[Run], float]) -> float:
    return statistics.median(of(run) for run in runs)


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def _bars(report: Report) -> dict[str, list[float]]:
    per_message = 1e6 / (report.ids * len(INPUTS))
    return {name: [run.cpu * per_message for run in runs] for name, runs in report.runs.items() if runs}


if __name__ == "__main__":
    main()
