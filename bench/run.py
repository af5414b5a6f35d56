"""What the worker costs beside the bare loop of the same client and beside what a user could pick instead.

python -m bench.run [--tables cpu,calls] [--ids N] [--rounds N] [--seconds S] [--only bare,worker] [--json FILE]
python -m bench.run --show FILE [--plot FILE.svg] [--write README.md]

Starts real Kafka on one core and runs what is measured on the other, one table after the other. What a FILE of --json
holds of other tables stays in it, so that a report can be made in parts; it is written after each table.
"""

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from bench import calls, images, latency, partitions, shapes, starts, throughput, waiting
from bench.plot import plot
from bench.runs import BREAKS, pinned_broker
from bench.tables import Options, Table, say
from tests.services.processes import Unavailable

TABLES: tuple[Table, ...] = (
    throughput.TABLE,
    throughput.TABLE_OF_MORE,
    latency.TABLE,
    latency.TABLE_OF_MORE,
    calls.TABLE,
    waiting.TABLE,
    shapes.TABLE,
    partitions.TABLE,
    starts.TABLE,
    images.TABLE,
)
BEGIN, END = "<!-- bench.run --write: begin -->", "<!-- bench.run --write: end -->"

Report = dict[str, msgspec.Raw]  # by table


def main() -> None:
    arguments = _arguments()
    file = arguments.show or arguments.json
    report: Report = msgspec.json.decode(file.read_bytes(), type=Report) if file and file.exists() else {}
    broken: list[str] = []  # tables
    if not arguments.show:
        wanted = _wanted(arguments.tables)
        options = Options(arguments.ids, arguments.rounds, arguments.seconds, arguments.only.split(","))
        with pinned_broker() as broker:
            for table in wanted:
                say(f"--- {table.name}")
                began = time.monotonic()
                try:
                    report[table.name] = msgspec.Raw(msgspec.json.encode(table.measured(broker, options)))
                except Unavailable as lack:
                    say(f"--- {table.name}: not measured, {lack}")
                    continue
                except BREAKS as error:
                    broken.append(table.name)
                    say(f"--- {table.name}: broke, {error!r}")
                    continue
                say(f"--- {table.name} took {time.monotonic() - began:.0f} s")
                if file:
                    file.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
        report = {table.name: report[table.name] for table in wanted if table.name in report} if not file else report
    shown = {table.title: _shown(table, report[table.name]) for table in TABLES if table.name in report}
    print(f"\n{with_titles(shown)}")
    if arguments.write:
        _write(arguments.write, shown)
    if arguments.plot and (raw := report.get(throughput.TABLE.name)):
        bars = throughput.bars(msgspec.json.decode(raw, type=throughput.Report))
        arguments.plot.write_text(plot(bars, "CPU µs a message: less is better"))
    if broken:
        sys.exit(f"not measured: {', '.join(broken)}")
    kept = [report[table.name] for table in (throughput.TABLE, throughput.TABLE_OF_MORE) if table.name in report]
    sys.exit(throughput.verdict(msgspec.json.decode(raw, type=throughput.Report) for raw in kept))


def _arguments() -> argparse.Namespace:
    names = ", ".join(table.name for table in TABLES)
    parser = argparse.ArgumentParser("bench.run", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tables", default="", help=f"which of {names}; all where none is named")
    parser.add_argument("--ids", type=int, default=0, help="joined results of each run of cpu, shapes and starts")
    parser.add_argument("--rounds", type=int, default=0, help="of which the medians are shown")
    parser.add_argument("--seconds", type=float, default=0, help="of each measurement of latency and calls")
    parser.add_argument("--only", default="", help="rows, by parts of their names: bare,worker,naive,streams")
    parser.add_argument("--json", type=Path, help="keep all that is measured in this file")
    parser.add_argument("--show", type=Path, help="the tables of such a file; nothing is run")
    parser.add_argument("--plot", type=Path, help="draw the table cpu into this SVG")
    parser.add_argument(
        "--write",
        type=Path,
        help=f"put the tables into this file, between\n{BEGIN} and {END};\nthose that are there and not in FILE stay",
    )
    return parser.parse_args()


def _wanted(names: str) -> list[Table]:
    known = {table.name: table for table in TABLES}
    wanted = [name.strip() for name in names.split(",") if name.strip()] or list(known)
    if unknown := [name for name in wanted if name not in known]:
        sys.exit(f"no such table: {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in wanted]


def _shown(table: Table, raw: msgspec.Raw) -> str:
    return table.shown(msgspec.json.decode(raw, type=table.report))


def _write(file: Path, shown: Mapping[str, str]) -> None:
    before, begin, rest = file.read_text().partition(BEGIN)
    there, end, after = rest.partition(END)
    if not (begin and end):
        sys.exit(f"{file} has no {BEGIN} and {END}")
    file.write_text(f"{before}{BEGIN}\n\n{with_titles({**titled(there), **shown})}\n\n{END}{after}")


def titled(text: str) -> dict[str, str]:
    """The tables of a text, by their titles."""
    sections = [section.partition("\n") for section in f"\n{text}".split("\n### ")[1:]]
    return {title: table.strip() for title, _, table in sections}


def with_titles(shown: Mapping[str, str]) -> str:
    """The tables in their usual order, each below its title."""
    return "\n\n".join(f"### {each.title}\n\n{shown[each.title]}" for each in TABLES if each.title in shown)


if __name__ == "__main__":
    main()
