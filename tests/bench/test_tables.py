"""The pure parts of the benchmark: which runs a table is made of, and how it is shown, also where some have broken."""

from pathlib import Path
from typing import Any, cast

import pytest

from bench import latency, partitions, throughput
from bench import run as command
from bench.contenders import CONTENDERS, Contender
from bench.latency import Sample
from bench.runs import Checked, Run
from bench.tables import Options
from tests.services.kafka import JavaBroker


def run(cpu: float = 1.0, read: int = 0, memory: float = 100.0, missing: int = 0) -> Run:
    return Run(cpu, 2.0, 1.0, memory, Checked(10, missing, 0, 0), read)


def cells(shown: str, row: str) -> dict[str, str]:
    """Of the row of a Markdown table, by the names of the columns; of two with one name, the first."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in shown.splitlines() if line[:1] == "|"]
    [found] = [line for line in lines if line[0] == row]
    assert len(found) == len(lines[0]) == len(lines[1])
    return dict(reversed(list(zip(lines[0], found, strict=True))))


# ---------------------------------------------------------------- CPU.


@pytest.mark.parametrize("setup", [throughput.FEW, throughput.MORE])
def test_a_slow_contender_has_fewer_rounds(setup: throughput.Setup) -> None:
    ran = [each.name for number in range(setup.rounds) for each in setup.due(list(CONTENDERS), number)]
    for each in CONTENDERS:
        assert ran.count(each.name) == (setup.rounds_of_slow if each.slow else setup.rounds)
    assert {"worker at_least_once", "bare loop (msgspec)"} <= {each.name for each in CONTENDERS if not each.slow}


def test_a_worker_whose_output_is_not_whole_is_told_of_any_number_of_partitions() -> None:
    whole, broken = ({"worker at_least_once": [run(missing=lost)], "a peer": [run(missing=5)]} for lost in (0, 1))
    reports = [throughput.Report(10, runs, {}, []) for runs in (whole, broken)]
    assert throughput.verdict(reports[:1]) == 0
    assert throughput.verdict(reports) == "the worker's output is not whole"


# ---------------------------------------------------------------- Latency.


def sample() -> Sample:
    return Sample([float(number) for number in range(1, 101)], 7.0, 5000, 0, 400.0)


@pytest.mark.parametrize(("setup", "columns"), [(latency.FEW, 8), (latency.MORE, 5)])
def test_latency_has_the_columns_of_the_rates_that_were_measured(setup: latency.Setup, columns: int) -> None:
    samples = {each.name: {rate: [sample()] for rate in setup.rates} for each in setup.ours}
    shown = latency.shown(latency.Report(10.0, samples, {"a peer": "no result"}, [0.5], [300.0] * 99))
    row = next(line for line in shown.splitlines() if line.startswith("| worker at_least_once |"))
    assert row.count(" | ") + 1 == columns
    assert cells(shown, "worker at_least_once")["500 a second: p50 ms"] == "50.0"
    assert cells(shown, "worker at_least_once")["p99 ms"] == "99.0"
    assert "Not run: a peer: no result" in shown


# ---------------------------------------------------------------- Partitions.


def test_partitions_has_all_rows_that_are_asked_for() -> None:
    rows = {(each.partitions, each.size, each.compression, each.workers) for each in partitions.SETUPS}
    assert rows >= {(number, 200, "none", 1) for number in (1, 4, 8, 16, 64, 256)}
    assert rows >= {(4, size, "none", 1) for size in (200, 2_000, 20_000, 200_000)}
    assert rows >= {(4, size, way, 1) for size in (200, 2_000) for way in ("lz4", "zstd")}
    assert rows >= {(4, 200, "none", number) for number in (1, 2, 4)}
    assert len(rows) == len(partitions.SETUPS)
    for setup in partitions.SETUPS:
        both = {partitions.BARE, partitions.BARE_DEFAULTS, partitions.WORKER_DEFAULTS} if setup.workers == 1 else set()
        assert {each.name for each in setup.contenders} == {*partitions.WORKERS, *both}


def test_what_is_read_again_is_a_median_and_memory_the_most() -> None:
    ours = [run(2.0, read=20, memory=150.0), run(3.0, read=22, memory=170.0), run(4.0, read=60, memory=160.0)]
    runs = {partitions.BARE: [run(memory=90.0)] * 3, **dict.fromkeys(partitions.WORKERS, ours)}
    shown = cells(partitions.shown(partitions.Report({"4": 10}, {"4": runs}, [1.0])), "4")
    assert shown["of the bare loop"] == "3.00 (2.00 to 4.00)"
    assert shown["peak MiB"] == "90, 170, 170"
    assert shown["read again"] == "10.0%, 10.0%"


def test_a_run_that_breaks_leaves_all_others_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(_broker: object, _setup: object, who: Contender, _ids: int, number: int) -> Run:
        if who.name == "worker exactly_once" and number == 1:
            raise RuntimeError("nothing was sent")
        return run(read=2_000_000)

    class Broker:
        bootstrap = ""

        def create_topic(self, *_: object) -> None: ...

    def fed(*_: Any) -> None: ...

    monkeypatch.setattr(partitions, "_run", measured)
    monkeypatch.setattr(partitions, "feed", fed)
    report = partitions.measured(cast(JavaBroker, Broker()), Options(1_000_000, 3, 0, ["4 partitions, 200 B"]))
    rows = [setup for setup in partitions.SETUPS if setup.name in report.runs]
    assert {len(report.runs[row.name]["worker at_least_once"]) for row in rows} == {3}
    assert {len(report.runs[row.name]["worker exactly_once"]) for row in rows} == {1}  # rounds are compared by number
    assert report.not_run == {f"{row.name}: worker exactly_once": "in round 2: nothing was sent" for row in rows}
    assert "Not run: 4 partitions, 200 B: worker exactly_once: in round 2" in partitions.shown(report)


def test_a_contender_that_never_ran_leaves_its_cells_empty() -> None:
    shown = cells(partitions.shown(partitions.Report({"4": 10}, {"4": {}}, [1.0])), "4")
    assert {shown["peak MiB"], shown["read again"], shown["of the bare loop"], shown["worker exactly_once"]} == {""}


# ---------------------------------------------------------------- The file.


def test_a_table_takes_the_place_of_its_former_one_and_the_others_stay(tmp_path: Path) -> None:
    first, second, third = (table.title for table in command.TABLES[:3])
    file = tmp_path / "README.md"
    file.write_text(f"Before\n{command.BEGIN}\n\n### {second}\n\nold\n\n### {third}\n\nkept\n\n{command.END}\nAfter\n")
    command._write(file, {second: "new", first: "added"})
    written = f"### {first}\n\nadded\n\n### {second}\n\nnew\n\n### {third}\n\nkept"
    assert file.read_text() == f"Before\n{command.BEGIN}\n\n{written}\n\n{command.END}\nAfter\n"
