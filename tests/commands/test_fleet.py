"""`fleet` as people meet it, with brokers that do not answer: what it prints, writes and serves."""

import errno
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec
import pytest
from sqlalchemy import Engine, insert, make_url, select, update

import main
from config import EX_CONFIG, ConfigError, Settings, UnavailableError
from models import ConsumerConfig, Row, engine, init_db, save
from tests.fleet.fleets import fleet as some_fleet
from tests.program import program
from tests.services.processes import free_port
from tests.services.starts import piped_python
from utils.commands.fleet import fleet, lines
from utils.fleet.watcher import FleetSeen, Watcher
from utils.monitoring.status import check

QUICK = ("--timeout", "0.5", "--apart", "0")


@pytest.fixture
def database(sqlite_url: str) -> Engine:
    """With a good row whose broker is away, one that is no good, and one that is paused."""
    made = engine(make_url(sqlite_url), create=True)
    init_db(made)
    away = f"127.0.0.1:{free_port()}"
    columns = ("consumer_name", "topics_input", "topics_output", "kafka_bootstrap_server", "metadatas")
    rows = [("away", "a,b", "c", away, None), ("bad", "", "c", away, None), ("paused", "a", "c", away, '{"x": 1}')]
    with made.begin() as connection:
        connection.execute(insert(ConsumerConfig), [dict(zip(columns, row, strict=True)) for row in rows])
    return made


def url_of(database: Engine) -> str:
    return str(database.url).replace("file%3A", "").split("?")[0]


def command(database: Engine, *arguments: str) -> "subprocess.Popen[str]":
    return piped_python(["main.py", "fleet", *arguments], program(), {"DATABASE_URL": url_of(database)})


class Run(NamedTuple):
    code: int
    out: str
    problems: list[str]


class Here(Protocol):
    def __call__(self, *arguments: str) -> Run: ...


@pytest.fixture
def run(database: Engine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Here:
    """The same in this process, which need not start first."""
    monkeypatch.setattr("utils.processing.user_code.defaults", dict)

    def here(*arguments: str) -> Run:
        parsed = main._parser().parse_args(["fleet", *arguments])
        try:
            return Run(fleet(parsed, {"DATABASE_URL": url_of(database)}), capsys.readouterr().out, [])
        except ConfigError as error:
            return Run(EX_CONFIG, capsys.readouterr().out, error.problems)

    return here


def test_what_does_not_answer_and_what_is_no_good_are_lines_and_the_exit_code_tells(database: Engine) -> None:
    with command(database, *QUICK) as process:
        out, log = process.communicate(timeout=60)
    assert process.returncode == 1
    first, *rows, last = out.splitlines()
    assert "consumer" in first
    assert sorted(row.split()[:4] for row in rows) == [
        ["✗", "away", "not", "seen"],
        ["✗", "bad", "row", "no"],
        ["✗", "paused", "not", "seen"],
    ]
    assert "Connection refused" in out
    assert last == "3 consumers: 3 bad, 0 to be looked at, 0 well"
    assert log == "", "the client's own words are in the lines"


def test_names_choose_and_an_unknown_one_names_those_that_there_are(run: Here) -> None:
    code, out, _ = run("--json", *QUICK, "away")
    assert code == 1
    assert [each.name for each in msgspec.json.decode(out, type=FleetSeen).consumers] == ["away"]
    code, _, problems = run("nobody", *QUICK)
    assert code == 78
    assert "no row 'nobody', but: away, bad, paused" in problems[0]


def test_pause_and_resume_write_the_row_and_nothing_else_of_it(database: Engine, run: Here) -> None:
    for action, metadatas in (("pause", '{"x": 1, "paused": true}'), ("resume", '{"x": 1}')):
        assert run(action, "paused") == (0, f"paused {action}d: its workers see it within 30 s (CONFIG_REFRESH)\n", [])
        with database.connect() as connection:
            rows = connection.execute(select(ConsumerConfig.consumer_name, ConsumerConfig.metadatas)).all()
        assert {row[0]: row[1] for row in rows} == {"away": None, "bad": None, "paused": metadatas}
    assert run("resume", "paused").out.startswith("paused was resumed already")


def test_of_a_row_that_is_not_looked_at_again_a_pause_says_so(database: Engine, run: Here) -> None:
    with database.begin() as connection:
        connection.execute(update(ConsumerConfig).values(metadatas='{"config_refresh": 0}'))
    expected = "paused paused, but with CONFIG_REFRESH=0 its workers see it only when they start again\n"
    assert run("pause", "paused").out == expected


def test_what_was_paused_is_told_though_the_database_goes_away(run: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ended with 1 and "cannot be reached": nobody knew that all of them were paused."""

    def gone(*_: object) -> None:
        raise UnavailableError("gone")

    monkeypatch.setattr("utils.commands.fleet.load", gone)
    assert run("pause", "away", "paused") == (0, "away paused\npaused paused\n", [])


def test_a_consumer_that_is_called_pause_is_looked_at_and_paused_as_any_other(database: Engine, run: Here) -> None:
    assert "fleet pause NAME" in run("pause").problems[0]
    columns = {"topics_input": "a", "topics_output": "", "kafka_bootstrap_server": f"127.0.0.1:{free_port()}"}
    with database.begin() as connection:
        connection.execute(insert(ConsumerConfig), [{"consumer_name": "pause", **columns}])
    assert [each["name"] for each in json.loads(run("pause", "--json", *QUICK).out)["consumers"]] == ["pause"]
    assert run("pause", "pause").out.startswith("pause paused")


@pytest.mark.parametrize("arguments", [["pause"], ["resume", "nobody"], ["--html", "/no/such/file"]])
def test_a_wrong_command_line_is_bad_configuration(run: Here, arguments: Sequence[str]) -> None:
    code, _, problems = run(*QUICK, *arguments)
    assert code == 78
    assert problems


def test_a_file_has_a_name_though_a_variable_of_a_shell_may_be_empty(run: Here) -> None:
    with pytest.raises(SystemExit):
        run(*QUICK, "--html", "")


@pytest.mark.parametrize("option", ["--apart", "--timeout", "--serve"])
@pytest.mark.parametrize("value", ["x", "nan", "inf", "-1", "1e300"])
def test_a_number_that_can_be_none_is_a_wrong_command_line(run: Here, option: str, value: str) -> None:
    with pytest.raises(SystemExit):
        run(*QUICK, option, value)


def test_the_page_is_written_in_one_piece(run: Here, tmp_path: Path) -> None:
    file = tmp_path / "fleet.html"
    assert run(*QUICK, "--html", str(file))[0] == 1
    assert "3 of 3 consumers are bad" in file.read_text()
    assert [each.name for each in tmp_path.iterdir() if "fleet" in each.name] == ["fleet.html"]


def test_the_page_goes_into_what_is_no_file_and_does_not_replace_it(run: Here, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        run(*QUICK, "--html", str(pipe))
        assert b"3 of 3 consumers are bad" in os.read(reading, 65_536)
    finally:
        os.close(reading)
    assert pipe.is_fifo()
    assert not Path(f"{pipe}.new").exists()


def test_what_nobody_can_write_into_is_named_and_not_replaced(
    run: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind("taken")
        code, _, problems = run(*QUICK, "--html", "taken")
    assert (code, problems) == (78, ["--html: taken cannot be written (No such device or address)"])
    assert Path("taken").is_socket()


def test_a_page_that_cannot_be_finished_leaves_the_one_before_and_nothing_beside_it(
    run: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "fleet.html"
    file.write_text("the one before")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert run(*QUICK, "--html", str(file)).problems == [f"--html: {file} cannot be written (No space left on device)"]
    assert file.read_text() == "the one before"
    assert not Path(f"{file}.new").exists()


def test_a_page_that_cannot_be_written_for_a_moment_does_not_end_who_watches(
    run: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ended with 78, and with it the page that it served."""
    www = tmp_path / "www"
    www.mkdir()
    file, away = www / "fleet.html", tmp_path / "away"

    def end() -> None:
        raise KeyboardInterrupt

    def back() -> None:
        away.rename(www)
        file.unlink()

    moments: list[Callable[[], object]] = [lambda: www.rename(away), back, end]
    monkeypatch.setattr(time, "sleep", lambda _seconds: moments.pop(0)())
    assert run(*QUICK, "--watch", "--html", str(file)).code == 1
    assert file.exists(), "it is tried again at the next look"


def test_a_link_beside_the_page_is_not_followed(run: Here, tmp_path: Path) -> None:
    others, file = tmp_path / "others", tmp_path / "fleet.html"
    others.write_text("not to be touched")
    Path(f"{file}.new").symlink_to(others)
    run(*QUICK, "--html", str(file))
    assert "3 of 3 consumers are bad" in file.read_text()
    assert others.read_text() == "not to be touched"
    assert not file.is_symlink()


def test_a_link_at_the_place_of_the_page_stays_and_what_it_names_is_written(run: Here, tmp_path: Path) -> None:
    (tmp_path / "www").mkdir()
    file, link = tmp_path / "www" / "fleet.html", tmp_path / "link"
    link.symlink_to("www/fleet.html")
    for there in (False, True):
        assert file.exists() is there
        run(*QUICK, "--html", str(link))
        assert link.is_symlink()
        assert "3 of 3 consumers are bad" in file.read_text()


def test_the_page_is_served_until_ctrl_c(database: Engine) -> None:
    with command(database, *QUICK, "--serve", "0") as process:
        assert process.stdout
        address = process.stdout.readline().removeprefix("the page: ").strip()
        with urllib.request.urlopen(address) as answer:
            assert b"3 of 3 consumers are bad" in answer.read()
        with urllib.request.urlopen(f"{address}fleet.json") as answer:
            assert len(json.load(answer)["consumers"]) == 3
        host, port = address.removeprefix("http://").strip("/").split(":")
        assert check(host, port) == 0, "what the image asks: it was unhealthy for ever"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 1


def test_a_table_that_cannot_be_read_any_more_is_told_and_the_rows_stay(database: Engine) -> None:
    watcher = Watcher(Settings(), database, (), 0.2, 0.0)
    assert not watcher.see().problem
    with database.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE consumer_configs RENAME TO elsewhere")
    seen = watcher.see()
    assert "no table consumer_configs" in seen.problem
    assert len(seen.consumers) == 3
    assert seen.is_bad
    watcher.close()


def test_an_empty_table_that_cannot_be_read_any_more_ends_no_page(sqlite_url: str) -> None:
    init_db(database := engine(make_url(sqlite_url), create=True))
    with closing(Watcher(Settings(), database, (), 0.2, 0.0)) as watcher:
        assert not watcher.see().problem
        with database.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE consumer_configs RENAME TO elsewhere")
        assert "no table consumer_configs" in watcher.see().problem


@pytest.mark.parametrize("names", [(), ("orders",)])
def test_what_rows_take_from_each_other_is_noted_also_where_not_all_are_looked_at(
    sqlite_url: str, names: tuple[str, ...]
) -> None:
    database, nobody = engine(make_url(sqlite_url), create=True), f"127.0.0.1:{free_port()}"
    init_db(database)
    save(database, Row.validated("orders", "a", "b", nobody, '{"dlq_topic": "failed"}'))
    save(database, Row.validated("bills", "c", "failed", nobody))
    with closing(Watcher(Settings(), database, names, 0.2, 0.0)) as watcher:
        [orders] = [each for each in watcher.see().consumers if each.name == "orders"]
    assert "Row bills: topics_output names failed, where orders keeps its dead letters" in orders.sentence


def test_lines_are_aligned_and_nothing_in_a_row_breaks_them() -> None:
    seen = some_fleet(40)
    made = list(lines(seen))
    assert len(made) == 42
    at = made[0].index("state")
    assert {line[at - 2 : at] for line in made[:-1]} == {"  "}
