"""A row that is read again: what is taken of it, and what no worker could work by."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import Engine, make_url

from config import Settings, UnavailableError
from models import Row, engine, init_db, save, set_paused
from utils.database_errors import DatabaseRefusedError
from utils.kafka import tls_files
from utils.kafka.limits import CommitLimits
from utils.monitoring.status import Health
from utils.monitoring.watch import Watch
from utils.running import reread
from utils.running.refresh import Config, Refresh
from utils.running.reread import read_again


@pytest.fixture
def database(sqlite_url: str) -> Engine:
    """With a table that has no row yet."""
    made = engine(make_url(sqlite_url), create=True)
    init_db(made)
    return made


def test_a_row_is_no_good_for_its_unequal_topics_only_where_the_worker_has_said_what_it_owns(
    sqlite_url: str, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = Row.validated("orders", "a,b", "c", "127.0.0.1:1")
    save(database, row)
    environment = Settings(consumer_name="orders", database_url=sqlite_url)
    watch = Watch(environment)
    unequal: Any = SimpleNamespace(partitions={"a": 1, "b": 2})
    owns_all = partial(reread._owns_all, watch, row, unequal)
    monkeypatch.setattr(reread, "_tried_row", lambda *_: owns_all())
    with pytest.raises(UnavailableError):  # of a worker that does not run, as of one that is busy for a second
        read_again(database, environment, watch, Config(environment, replace(row, topics_output=())))
    for owned in (2, 3):
        monkeypatch.setattr(Health, "ask", lambda *_, owned=owned: owned)
        assert owns_all() == (owned == 3)


def test_a_pause_is_taken_without_a_look_at_the_brokers_and_another_change_is_not(
    sqlite_url: str, database: Engine
) -> None:
    """Somebody pauses a consumer just when something else does not work."""
    away = Row.validated("orders", "a", "b", "127.0.0.1:1")
    save(database, away)
    environment = Settings(consumer_name="orders", database_url=sqlite_url)
    watch = Watch(environment)
    current = Config(environment, away, limits=CommitLimits(99))
    set_paused(database, ["orders"], paused=True)
    found = read_again(database, environment, watch, current)
    assert found.settings.paused
    assert found.limits == current.limits
    save(database, replace(away, topics_output=("c",)))
    assert read_again(database, environment, watch, current).problems


@pytest.mark.parametrize("broken", ["topics_output", "metadatas", "a topic that is missing"])
def test_a_pause_is_taken_though_the_row_is_no_good_for_another_reason(
    sqlite_url: str, database: Engine, broken: str
) -> None:
    good = Row.validated("orders", "a", "b", "127.0.0.1:1")
    environment = Settings(consumer_name="orders", database_url=sqlite_url)
    watch, current = Watch(environment), Config(environment, good, limits=CommitLimits(99))
    rows = {
        "topics_output": replace(good, topics_output=("a/b",)),
        "metadatas": replace(good, metadatas='{"concurrency": "many"}'),
        "a topic that is missing": replace(good, topics_output=("c",)),
    }
    save(database, rows[broken])
    set_paused(database, ["orders"], paused=True)
    found = read_again(database, environment, watch, current)
    assert found.problems
    assert found.settings.paused
    assert (found.row, found.limits) == (current.row, current.limits)
    set_paused(database, ["orders"], paused=False)
    assert not read_again(database, environment, watch, found).settings.paused
    set_paused(database, ["orders"], paused=True)
    save(database, replace(good, metadatas=""))  # mended as it was, and no longer paused
    mended = read_again(database, environment, watch, found)
    assert (mended.settings.paused, mended.problems) == (False, ())


def test_files_of_tls_that_do_not_fit_are_told_once(
    sqlite_url: str, database: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    row = Row.validated("orders", "a", "b", "127.0.0.1:1")
    save(database, row)
    file = tmp_path / "ca.pem"
    file.write_text("the old one")
    environment = Settings(
        consumer_name="orders",
        database_url=sqlite_url,
        kafka={"security.protocol": "SSL", "ssl.ca.location": str(file)},
    )
    watch, current = Watch(environment), Config(environment, row, files=tls_files.digests(environment))
    refresh = Refresh(current, partial(read_again, database, environment, watch), watch.counters, watch.health)
    for written in ("half of the new one", "half of the new one", "the old one", "half of another one"):
        file.write_text(written)
        refresh.look()
    assert [line.getMessage() for line in caplog.records] == ["files of TLS have changed, and are not taken yet"] * 2
    assert refresh.current == replace(current, unfit_files=f"KAFKA_SSL_CA_LOCATION: {file} holds no certificate in PEM")


def test_a_database_that_refuses_a_running_worker_is_no_changed_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new password, or a right that was taken: nobody has touched the row."""

    def refuses(*_: object) -> None:
        raise DatabaseRefusedError(["refuses the login"])

    monkeypatch.setattr(reread, "load", refuses)
    nothing = cast(Any, None)
    with pytest.raises(UnavailableError, match="refuses the login"):
        read_again(nothing, Settings(), nothing, nothing)
