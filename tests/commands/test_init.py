"""What `init` does not write over."""

import pytest
from sqlalchemy import Engine, make_url

import main
from config import UnavailableError
from models import Row, engine, init_db, load, save
from utils.commands import init


def test_a_pause_that_cannot_be_read_just_now_is_not_written_over(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock on the table at that moment was taken for a row without a pause: its workers went on, without a word."""

    def locked(*_: object) -> None:
        raise UnavailableError("locked")

    database: Engine = engine(make_url(sqlite_url), create=True)
    init_db(database)
    row = Row.validated("orders", "a", "c", "h:9092", '{"paused": true}')
    save(database, row)
    monkeypatch.setattr("utils.processing.user_code.defaults", dict)
    monkeypatch.setattr(init, "load_pause", locked)
    columns = ("--topics-input", "a", "--topics-output", "c", "--kafka-bootstrap-server", "h:9092")
    parsed = main._parser().parse_args(["init", *columns, "--metadatas", "{}"])
    with pytest.raises(UnavailableError, match="locked"):
        init.init(parsed, {"DATABASE_URL": sqlite_url, "CONSUMER_NAME": "orders"})
    assert load(database, "orders") == row
