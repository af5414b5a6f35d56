"""The row: what is valid, its life in each database, and what is said of a database that does not work."""

import json
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from sqlalchemy import URL, Engine, event, make_url, text

import models
from config import ConfigError, Settings, UnavailableError
from models import (
    ConsumerConfig,
    Row,
    engine,
    init_db,
    load,
    load_all,
    load_pause,
    ping,
    save,
    set_paused,
)
from tests.services.certificates import Authority
from tests.services.databases import mariadb_of_this_machine
from tests.services.processes import Unavailable, free_port
from utils.database_errors import DatabaseRefusedError


def row(**columns: str | None) -> Row:
    given: dict[str, str | None] = {"topics_input": "a,b", "topics_output": "c", "kafka_bootstrap_server": "h:9092"}
    return Row.validated("orders", **{**given, **columns})


def problems_of(**columns: str | None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        row(**columns)
    return caught.value.problems


@pytest.fixture
def database(database_url: str) -> Engine:
    """An empty database with the table."""
    made = engine(make_url(database_url), create=True)
    init_db(made)
    return made


def execute(database: Engine, statement: str) -> None:
    with database.begin() as connection:
        connection.execute(text(statement))


# ---------------------------------------------------------------- what is valid


def test_topics_may_have_spaces_and_empty_parts() -> None:
    assert row(topics_input=" a, b,,\nc ,", topics_output=" d ").topics_input == ("a", "b", "c")


def test_the_order_of_the_topics_is_kept() -> None:
    assert row(topics_input="b,a").topics_input == ("b", "a")


def test_a_worker_may_have_no_output() -> None:
    assert row(topics_output="").topics_output == row(topics_output=None).topics_output == ()


@pytest.mark.parametrize("topics", ["", " , ", None])
def test_a_worker_without_input_is_refused(topics: str | None) -> None:
    assert problems_of(topics_input=topics) == [
        "row orders: topics_input is empty: name the topics to read, comma separated"
    ]


@pytest.mark.parametrize("column", ["topics_input", "topics_output"])
def test_a_topic_that_is_named_twice_is_refused(column: str) -> None:
    assert problems_of(**{column: "x, y, x"}) == [f"row orders: {column} names x twice"]


@pytest.mark.parametrize("topic", [".", "..", "a b", "a/b", "ä", "a" * 250])
def test_a_topic_name_that_kafka_does_not_allow_is_refused(topic: str) -> None:
    (problem,) = problems_of(topics_input=topic)

    assert "which Kafka does not allow" in problem


@pytest.mark.parametrize("column", ["topics_input", "topics_output"])
def test_a_topic_of_kafkas_own_is_refused(column: str) -> None:
    says = f"row orders: {column} names __consumer_offsets, which is Kafka's own: choose another topic"
    assert problems_of(**{column: "__consumer_offsets"}) == [says]


def test_a_topic_that_is_both_input_and_output_is_refused() -> None:
    (problem,) = problems_of(topics_input="a,b", topics_output="b")

    assert problem.startswith("row orders: topics_output names b, an input too")


@pytest.mark.parametrize("column", ["topics_input", "topics_output"])
def test_the_topic_of_the_workers_own_maps_is_none_of_the_rows(column: str) -> None:
    (problem,) = problems_of(**{column: "orders-offsets"})

    assert problem.startswith(f"row orders: {column} names orders-offsets, where the worker keeps its maps")


@pytest.mark.parametrize("servers", ["h:9092", "h:1,i:2", " h:1 , ,i:2", "h", "[::1]:9092", "SASL_SSL://h:9092"])
def test_brokers_are_one_or_more_addresses(servers: str) -> None:
    assert row(kafka_bootstrap_server=servers).bootstrap_servers == servers.replace(" ", "").replace(",,", ",")


@pytest.mark.parametrize(
    "servers",
    [
        "h:",
        "h:x",
        "h:0",
        "h:70000",
        "h i:1",
        "http://h:1/path",
        "http://h:1",
        "https://h",
        "::1:9092",
        ",",
        "",
        None,
        "h;id:1",
        "$(id)",
        "h`id`:1",
    ],
)
def test_what_is_no_address_of_a_broker_is_refused(servers: str | None) -> None:
    (problem,) = problems_of(kafka_bootstrap_server=servers)

    assert problem.startswith("row orders: kafka_bootstrap_server")


@pytest.mark.parametrize("address", ["bob:topsecret@h:9092", "SASL_SSL://bob:topsecret@h:9092", "SSL://topsecret@h"])
def test_a_login_in_an_address_of_the_row_is_not_shown(address: str) -> None:
    problems = problems_of(kafka_bootstrap_server=f"i:9092,{address}", topics_input=address)

    assert [problem.split()[2] for problem in problems] == ["topics_input", "kafka_bootstrap_server"]
    assert all("***@h" in problem and "secret" not in problem for problem in problems)


def test_all_columns_that_are_wrong_are_named_at_once() -> None:
    assert len(problems_of(topics_input="", topics_output="a b", kafka_bootstrap_server="")) == 3


# ---------------------------------------------------------------- the row's life


def test_the_row_comes_back_as_it_was_saved(database: Engine) -> None:
    saved = row(topics_input="b,a", topics_output="c,d", metadatas='{"message_timeout": 5, "owner": "Zoë"}')

    assert save(database, saved) is True
    assert load(database, "orders") == saved


def test_saved_again_the_row_is_replaced(database: Engine) -> None:
    save(database, row(metadatas='{"message_timeout": 5}'))

    assert save(database, row(topics_input="x", topics_output="")) is False
    assert load(database, "orders") == row(topics_input="x", topics_output="", metadatas='{"message_timeout": 5}')


def test_saved_with_empty_metadatas_the_row_has_none(database: Engine) -> None:
    save(database, row(metadatas='{"message_timeout": 5}'))
    save(database, row(metadatas=""))

    assert load(database, "orders").metadatas is None


def test_the_table_is_created_once(database_url: str) -> None:
    database = engine(make_url(database_url), create=True)

    assert [init_db(database), init_db(database)] == [True, False]


def test_two_inits_at_once_get_along(database_url: str) -> None:
    together = threading.Barrier(4, timeout=60)

    def initialise(number: int) -> bool:
        database = engine(make_url(database_url), create=True)
        together.wait()
        init_db(database)
        together.wait()
        return save(database, row(topics_output=f"out-{number}"))

    with ThreadPoolExecutor(4) as threads:
        inserted = list(threads.map(initialise, range(4)))

    assert sum(inserted) == 1
    assert load(engine(make_url(database_url)), "orders").topics_output[0].startswith("out-")


def test_no_table_names_the_command_that_creates_it(database_url: str) -> None:
    ping(database := engine(make_url(database_url), create=True))

    with pytest.raises(ConfigError, match=r"has no table consumer_configs: create it with python main.py init"):
        load(database, "orders")


def test_no_row_names_the_rows_that_exist(database: Engine) -> None:
    for number in range(25):
        save(database, Row.validated(f"worker-{number:02}", "a", "b", "h:9092"))

    with pytest.raises(ConfigError, match=r"no row 'orders' .* but: worker-00, .*worker-19, …; set CONSUMER_NAME"):
        load(database, "orders")


def test_a_name_in_other_capitals_is_another_name(database: Engine) -> None:
    save(database, Row.validated("Orders", "a", "b", "h:9092"))

    with pytest.raises(ConfigError, match=r"no row 'orders' \(CONSUMER_NAME\), but: Orders"):
        load(database, "orders")


def test_a_row_whose_name_is_in_other_capitals_is_never_overwritten(database: Engine) -> None:
    others = Row.validated("Orders", "a", "b", "h:9092")
    save(database, others)

    with suppress(ConfigError):  # MySQL takes the two for one name
        save(database, row(topics_input="x"))

    assert load(database, "Orders") == others


def test_a_bad_row_in_the_table_is_named_by_its_columns(database: Engine) -> None:
    execute(
        database,
        "INSERT INTO consumer_configs (consumer_name, topics_input, topics_output, kafka_bootstrap_server)"
        " VALUES ('orders', 'a,a', 'a', '')",
    )

    with pytest.raises(ConfigError) as caught:
        load(database, "orders")
    assert [problem.split()[2] for problem in caught.value.problems] == [
        "topics_input", "topics_output", "kafka_bootstrap_server",
    ]  # fmt: skip


def insert(database: Engine, name: str, topics: str = "a", metadatas: str = "NULL") -> None:
    values = f"'{name}', '{topics}', 'b', 'h:9092', {metadatas}"
    columns = "consumer_name, topics_input, topics_output, kafka_bootstrap_server, metadatas"
    execute(database, f"INSERT INTO consumer_configs ({columns}) VALUES ({values})")


def metadatas_of(database: Engine, name: str) -> str | None:
    return load(database, name).metadatas


@pytest.mark.parametrize("servers", [":" * 60_000, "h:" + "9" * 5_000, "h:٣", "@" * 60_000])
def test_no_worker_stands_still_or_ends_by_the_addresses_in_the_row_of_another_one(servers: str) -> None:
    """A pattern took hours for the first, with Python's lock, and int() refuses the second."""
    listed = models._listed(1, "other", "a", "b", servers, None)
    assert listed.row is None
    assert listed.problems[0].startswith("row other: kafka_bootstrap_server must be host:port")


def test_all_rows_are_listed_by_name_and_a_bad_one_with_what_is_wrong(database: Engine) -> None:
    insert(database, "second")
    insert(database, "first", topics="no good!")
    first, second = load_all(database)
    assert (first.consumer_name, first.row) == ("first", None)
    assert "Kafka does not allow" in first.problems[0]
    assert second.row == load(database, "second")


def test_no_server_has_to_sort_the_text_of_all_rows(database: Engine) -> None:
    """MySQL 8.0.20 to 8.0.27 ends such a statement (1038) where a row is longer than some 18 kB."""
    statements = list[str]()
    event.listen(database, "before_cursor_execute", lambda *told: statements.append(told[2]))
    insert(database, "one")
    load_all(database)
    listing = [each for each in statements if "substr" in each.lower()]
    assert listing
    assert not any("ORDER BY" in each for each in listing)


def test_a_row_whose_name_no_worker_can_have_is_no_good_and_says_what_to_do(sqlite_url: str) -> None:
    database = made_by_hand(sqlite_url, "VARCHAR(200)")
    insert(database, "orders ")
    [listed] = load_all(database)
    says = "no worker can be called 'orders ': rename the row, with A-Z a-z 0-9 . _ - only"
    assert (listed.row, listed.problems) == (None, (says,))
    with pytest.raises(
        ConfigError, match=r"no row 'orders' .*, but: 'orders '; rename row 'orders ', set CONSUMER_NAME"
    ):
        load(database, "orders")


def test_of_a_row_that_is_far_too_long_only_its_beginning_is_read(database: Engine) -> None:
    """Another team's row of some hundred megabytes ended each worker at its start."""
    insert(database, "one")
    with database.begin() as connection:
        if database.dialect.name == "mysql":  # whose TEXT of init holds no more
            connection.execute(text("ALTER TABLE consumer_configs MODIFY metadatas LONGTEXT"))
        long = {"given": "x" * (models.LONGEST_LISTED + 1)}
        connection.execute(text("UPDATE consumer_configs SET metadatas = :given"), long)
    insert(database, "two")
    one, two = load_all(database)
    assert one.problems == ("row one has a column of more than 1,048,576 characters: shorten it",)
    assert two.row


def test_a_row_with_many_keys_of_its_users_own_is_listed(sqlite_url: str) -> None:
    """From 65,536 characters on `fleet` called the row of a worker that runs well no good, and `trace` left it out."""
    database = engine(make_url(sqlite_url), create=True)
    init_db(database)
    insert(database, "orders")
    prices = {"given": json.dumps({"prices": ["9.99"] * 60_000})}
    with database.begin() as connection:
        connection.execute(text("UPDATE consumer_configs SET metadatas = :given"), prices)
    [listed] = load_all(database)
    assert listed.row == load(database, "orders")


def test_two_rows_of_a_name_pause_where_both_say_so(sqlite_url: str) -> None:
    database = made_by_hand(sqlite_url, "VARCHAR(200)")
    insert(database, "orders")
    insert(database, "orders")
    assert load_pause(database, "orders") is False
    set_paused(database, ["orders"], paused=True)
    assert load_pause(database, "orders") is True
    execute(database, "UPDATE consumer_configs SET metadatas = NULL WHERE id = 1")
    assert load_pause(database, "orders") is None


def test_a_row_without_a_name_is_in_nobodys_way(sqlite_url: str) -> None:
    database = made_by_hand(sqlite_url, "VARCHAR(200)")
    execute(database, "INSERT INTO consumer_configs (topics_input) VALUES ('a')")
    with pytest.raises(ConfigError, match=r"no row 'orders' .*, but: none"):
        load(database, "orders")
    save(database, row())
    execute(database, "INSERT INTO consumer_configs (consumer_name, topics_input) VALUES ('', 'b')")
    assert load(database, "orders") == row()
    nameless, named = load_all(database)
    assert (nameless.row, named.row) == (None, row())
    assert nameless.problems == ("a row of table consumer_configs has no consumer_name: give it one, or delete it",)


@pytest.mark.parametrize("server", ["sqlite_url", pytest.param("postgresql_url", marks=pytest.mark.postgresql)])
def test_a_row_that_is_not_utf8_takes_no_other_away(server: str, request: pytest.FixtureRequest) -> None:
    """It ended all of `fleet` and `trace`, and the `check` of all others, and was blamed on DATABASE_URL."""
    with ExitStack() as stack:
        url = make_url(request.getfixturevalue(server))
        if server == "postgresql_url":
            url = url.set(database=stack.enter_context(database_in("SQL_ASCII", url)))
        init_db(database := engine(url, create=True))
        for name in ("one", "two", "three", "no good"):
            insert(database, name)
        bytes_of = "CAST(X'4DFC' AS BLOB)" if server == "sqlite_url" else "E'M\\xfc'"
        execute(database, f"UPDATE consumer_configs SET metadatas = {bytes_of} WHERE consumer_name = 'two'")
        insert(database, "four")
        execute(database, f"UPDATE consumer_configs SET consumer_name = {bytes_of} WHERE consumer_name = 'four'")
        insert(database, "")
        listed = {each.consumer_name: each for each in load_all(database)}
    assert sorted(listed) == ["(id 5)", "(no name)", "no good", "one", "three", "two"]
    [problem] = listed["(id 5)"].problems
    assert problem == "the row with id 5 has a consumer_name that is not UTF-8: write it anew, or delete the row"
    assert [name for name, each in listed.items() if each.row] == ["one", "three"]
    assert "no worker can be called" in listed["no good"].problems[0]
    [problem] = listed["two"].problems
    assert problem.startswith("row two: ")
    assert "holds text in consumer_configs that is not UTF-8: write it anew" in problem
    assert "M\ufffd" not in problem, "it may be a secret"


def test_a_view_that_cannot_be_written_is_read_and_said_to_be_one(database: Engine) -> None:
    """It was blamed on DATABASE_URL, or on DB_HOST."""
    save(database, row())
    execute(database, "ALTER TABLE consumer_configs RENAME TO rows_behind")
    execute(database, "CREATE VIEW consumer_configs AS SELECT DISTINCT * FROM rows_behind")
    assert load(database, "orders") == row()
    for name in ("orders", "payments"):
        with pytest.raises(ConfigError, match=r"has a view consumer_configs that cannot be written: change the table"):
            save(database, Row.validated(name, "x", "c", "h:9092"))
    with pytest.raises(ConfigError, match=r"has a view consumer_configs that cannot be written: change the table"):
        set_paused(database, ["orders"], paused=True)


def test_a_materialized_view_that_was_never_filled_is_said_to_be_one(postgresql_url: str) -> None:
    """It was told as a view that cannot be written, to those who only read."""
    database = engine(make_url(postgresql_url))
    init_db(database)
    save(database, row())
    execute(database, "ALTER TABLE consumer_configs RENAME TO rows_behind")
    execute(database, "CREATE MATERIALIZED VIEW consumer_configs AS SELECT * FROM rows_behind WITH NO DATA")
    with pytest.raises(ConfigError, match=r"materialized view consumer_configs that was never filled: REFRESH"):
        load(database, "orders")
    execute(database, "REFRESH MATERIALIZED VIEW consumer_configs")
    assert load(database, "orders") == row()
    with pytest.raises(ConfigError, match=r"has a view consumer_configs that cannot be written: change the table"):
        set_paused(database, ["orders"], paused=True)


@pytest.mark.parametrize(
    ("server", "kind"),
    [
        pytest.param("mariadb_url", "VARBINARY(200)", marks=pytest.mark.mariadb),
        pytest.param("mariadb_url", "CHAR(200)", marks=pytest.mark.mariadb),
        pytest.param("postgresql_url", "CHAR(200)", marks=pytest.mark.postgresql),
    ],
)
def test_a_name_in_a_column_of_another_type_is_the_same_name(
    server: str, kind: str, request: pytest.FixtureRequest
) -> None:
    database = made_by_hand(request.getfixturevalue(server), kind)
    assert save(database, row(topics_input="a"))
    assert not save(database, row(topics_input="x"))
    assert load(database, "orders") == row(topics_input="x")
    assert set_paused(database, ["orders"], paused=True) == {"orders": True}


def test_a_row_is_paused_and_resumed_and_all_else_in_it_stays(database: Engine) -> None:
    insert(database, "one", metadatas='\'{"message_timeout": 5, "note": "für alle"}\'')
    insert(database, "two")
    insert(database, "other")
    assert set_paused(database, ["one", "two"], paused=True) == {"one": True, "two": True}
    assert Settings().overlaid(metadatas_of(database, "one")).paused
    assert Settings().overlaid(metadatas_of(database, "two")).paused
    assert metadatas_of(database, "other") is None
    assert set_paused(database, ["one"], paused=True) == {"one": False}
    assert set_paused(database, ["one", "two"], paused=False) == {"one": True, "two": True}
    assert json.loads(metadatas_of(database, "one") or "") == {"message_timeout": 5, "note": "für alle"}
    assert not Settings().overlaid(metadatas_of(database, "two")).paused
    insert(database, "three", metadatas='\'{"note":"as it is"}\'')
    assert set_paused(database, ["other", "three"], paused=False) == {"other": False, "three": False}
    assert [metadatas_of(database, name) for name in ("other", "three")] == [None, '{"note":"as it is"}']


@pytest.mark.parametrize("id", ["INTEGER", "INTEGER DEFAULT 0"])
def test_where_ids_are_no_key_the_rows_of_others_are_left_alone(database_url: str, id: str) -> None:
    """In a table made by hand they all may be NULL, or 0. A pause of one paused all, and took the others' settings."""
    database = engine(make_url(database_url), create=True)
    others = ", ".join(
        f"{name} TEXT" for name in ("topics_input", "topics_output", "kafka_bootstrap_server", "metadatas")
    )
    execute(database, f"CREATE TABLE consumer_configs (id {id}, consumer_name VARCHAR(200) UNIQUE, {others})")
    insert(database, "orders")
    insert(database, "other", metadatas="'{\"message_timeout\": 5}'")
    assert set_paused(database, ["orders"], paused=True) == {"orders": True}
    assert not save(database, row(topics_input="new"))
    assert load(database, "orders").topics_input == ("new",)
    assert Settings().overlaid(metadatas_of(database, "orders")).paused
    assert load(database, "other").topics_input == ("a",)
    assert metadatas_of(database, "other") == '{"message_timeout": 5}'


# What a program that reads JSON and writes it again would change.
AS_IT_IS = (
    "{}",
    " {\t} ",
    '{"factor": 1.10, "limit": 1e400, "big": 100000000000000000000.5}',
    '{"note": "one", "note": "two", "u": "\\u00fc"}',
    '\ufeff{"note": "of a file of Windows"}',
    '{\n  "kafka": {"client.id": "a,}b", "paused": true},\n  "list": [1, {"paused": 2}]\n}\n',
)


@pytest.mark.parametrize("metadatas", AS_IT_IS)
def test_a_pause_leaves_the_text_around_it_alone(sqlite_url: str, metadatas: str) -> None:
    init_db(database := engine(make_url(sqlite_url), create=True))
    save(database, row(metadatas=metadatas))
    set_paused(database, ["orders"], paused=True)
    paused = load(database, "orders").metadatas or ""
    before, after = (json.loads(each.removeprefix("\ufeff")) for each in (metadatas, paused))
    assert after == {**before, "paused": True}
    set_paused(database, ["orders"], paused=False)
    assert load(database, "orders").metadatas == metadatas


@pytest.mark.parametrize(
    ("metadatas", "paused", "resumed"),
    [
        ('{"paused": "yes", "a": 1.0}', '{"a": 1.0, "paused": true}', '{"a": 1.0}'),
        ('{"paused": 0, "a": 1.0, "paused": false , "b": 2}', '{"a": 1.0 , "b": 2, "paused": true}', None),
        ("null", '{"paused": true}', "{}"),
        ("\ufeff", '{"paused": true}', "{}"),
        ("\ufeffnull ", '{"paused": true}', "{}"),
        ('\u00a0{"paused": false}', '\u00a0{"paused": true}', "\u00a0{}"),
        ('{"\\u0070aused": false}', '{"paused": true}', "{}"),
    ],
)
def test_what_says_paused_already_is_said_anew(
    sqlite_url: str, metadatas: str, paused: str, resumed: str | None
) -> None:
    init_db(database := engine(make_url(sqlite_url), create=True))
    save(database, row(metadatas=metadatas))
    set_paused(database, ["orders"], paused=True)
    assert load(database, "orders").metadatas == paused
    set_paused(database, ["orders"], paused=False)
    assert load(database, "orders").metadatas == (resumed or paused.replace(', "paused": true', ""))


NOT_WRITTEN = {
    "sqlite": ("CREATE TRIGGER no BEFORE {} ON consumer_configs BEGIN SELECT RAISE(IGNORE); END",),
    "postgresql": (
        "CREATE FUNCTION no() RETURNS trigger AS 'BEGIN RETURN NULL; END' LANGUAGE plpgsql",
        "CREATE TRIGGER no BEFORE {} ON consumer_configs FOR EACH ROW EXECUTE FUNCTION no()",
    ),
}


@pytest.mark.parametrize("server", ["sqlite_url", pytest.param("postgresql_url", marks=pytest.mark.postgresql)])
@pytest.mark.parametrize("kind", ["INSERT", "UPDATE"])
def test_a_row_that_the_database_does_not_write_is_not_said_to_be_written(
    server: str, kind: str, request: pytest.FixtureRequest
) -> None:
    """Of a trigger, or of row level security, PostgreSQL tells nothing: `fleet pause` said "paused", untruly."""
    database = engine(make_url(request.getfixturevalue(server)), create=True)
    init_db(database)
    if kind == "UPDATE":
        save(database, row())
    for each in NOT_WRITTEN[database.dialect.name]:
        execute(database, each.format(kind))
    with pytest.raises(ConfigError, match="the database does not write row orders, and does not say why"):
        save(database, row(topics_input="x"))
    if kind == "UPDATE":
        with pytest.raises(ConfigError, match="the database does not write row orders"):
            set_paused(database, ["orders"], paused=True)


ON = "CREATE TRIGGER no BEFORE UPDATE ON consumer_configs FOR EACH ROW"
REFUSED = {
    "mysql": (f"{ON} SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'frozen'",),
    "postgresql": (
        "CREATE FUNCTION no() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION 'frozen'; END $$ LANGUAGE plpgsql",
        f"{ON} EXECUTE FUNCTION no()",
    ),
}


@pytest.mark.parametrize(
    "server",
    [
        pytest.param("mariadb_url", marks=pytest.mark.mariadb),
        pytest.param("postgresql_url", marks=pytest.mark.postgresql),
    ],
)
def test_a_trigger_that_refuses_with_a_message_is_told_as_one(server: str, request: pytest.FixtureRequest) -> None:
    """The address was to be checked; and of MariaDB it was said to heal."""
    init_db(database := engine(make_url(request.getfixturevalue(server))))
    save(database, row())
    for each in REFUSED[database.dialect.name]:
        execute(database, each)
    with pytest.raises(ConfigError, match=r"has a trigger, or a rule of its own, that refuses this: .* \(frozen"):
        set_paused(database, ["orders"], paused=True)


@pytest.mark.parametrize("metadatas", ["'free text'", "'[1]'"])
def test_a_row_whose_metadatas_hold_no_settings_is_not_paused_and_nor_are_the_others(
    sqlite_url: str, metadatas: str
) -> None:
    init_db(database := engine(make_url(sqlite_url), create=True))
    insert(database, "one")
    insert(database, "two", metadatas=metadatas)
    with pytest.raises(ConfigError) as caught:
        set_paused(database, ["one", "two", "three"], paused=True)
    assert ["three" in problem or "two" in problem for problem in caught.value.problems] == [True, True]
    assert metadatas_of(database, "one") is None


@pytest.mark.parametrize("kind", ["MyISAM", "InnoDB"])
def test_all_rows_are_paused_or_none_also_where_a_table_knows_no_transactions(mariadb_url: str, kind: str) -> None:
    """The first one was paused in a table of MyISAM, and the command said that the other one was not there."""
    database = made_by_hand(mariadb_url, "VARCHAR(200)")
    execute(database, f"ALTER TABLE consumer_configs ENGINE = {kind}")
    insert(database, "orders")
    with pytest.raises(ConfigError, match="no row 'typo'"):
        set_paused(database, ["orders", "typo"], paused=True)
    assert metadatas_of(database, "orders") is None


def made_by_hand(url: str, name: str, metadatas: str = "TEXT") -> Engine:
    """A table with columns of these types; no name is UNIQUE."""
    database = engine(make_url(url), create=True)
    number = {"sqlite": "INTEGER", "postgresql": "SERIAL"}.get(database.dialect.name, "INTEGER AUTO_INCREMENT")
    execute(
        database,
        f"CREATE TABLE consumer_configs (id {number} PRIMARY KEY, consumer_name {name}, topics_input TEXT,"
        f" topics_output TEXT, kafka_bootstrap_server TEXT, metadatas {metadatas})",
    )
    return database


def test_a_table_whose_metadatas_are_of_a_json_type_will_do(database_url: str) -> None:
    kind = "JSONB" if make_url(database_url).get_backend_name() == "postgresql" else "JSON"
    database = made_by_hand(database_url, "VARCHAR(200)", kind)
    save(database, row(metadatas='{"message_timeout": 5}'))
    save(database, row(metadatas='{"message_timeout": 6}'))

    metadatas = load(database, "orders").metadatas
    assert Settings(consumer_name="orders").overlaid(metadatas).message_timeout == 6


def test_a_table_that_gives_a_row_no_id_says_so(database_url: str) -> None:
    database = engine(make_url(database_url), create=True)
    execute(
        database,
        "CREATE TABLE consumer_configs (id BIGINT NOT NULL, consumer_name VARCHAR(200) UNIQUE, topics_input TEXT,"
        " topics_output TEXT, kafka_bootstrap_server TEXT, metadatas TEXT)",
    )
    with pytest.raises(ConfigError, match=r"that is left empty and must not be: .*give it a default .*AUTO_INCREMENT"):
        save(database, row())


def test_metadatas_that_must_not_be_null_cannot_be_emptied_and_the_cure_is_told(database_url: str) -> None:
    database = made_by_hand(database_url, "VARCHAR(200)", "VARCHAR(900) NOT NULL DEFAULT '{}'")
    save(database, row())
    with pytest.raises(ConfigError, match=r"left empty and must not be: let it be NULL \(metadatas\)"):
        save(database, row(metadatas=""))


def test_a_missing_column_is_named(database: Engine) -> None:
    execute(database, "ALTER TABLE consumer_configs DROP COLUMN metadatas")

    with pytest.raises(ConfigError, match=r"without some column of models.py.*metadatas"):
        load(database, "orders")


# ---------------------------------------------------------------- databases that do not work


@pytest.fixture
def server_url(request: pytest.FixtureRequest) -> URL:
    return make_url(request.getfixturevalue(request.param))


both_servers = pytest.mark.parametrize(
    "server_url",
    [
        pytest.param("mariadb_url", marks=pytest.mark.mariadb),
        pytest.param("postgresql_url", marks=pytest.mark.postgresql),
    ],
    indirect=True,
)


@both_servers
def test_a_wrong_password_does_not_heal(server_url: URL) -> None:
    with pytest.raises(DatabaseRefusedError, match=r"refuses the login: check DB_USER and DB_PASSWORD") as caught:
        ping(engine(server_url.set(password="topsecret")))
    assert "topsecret" not in str(caught.value)


@both_servers
def test_an_unknown_user_does_not_heal(server_url: URL) -> None:
    with pytest.raises(ConfigError, match="refuses the login"):
        ping(engine(server_url.set(username="nobody")))


@both_servers
def test_a_database_that_does_not_exist_does_not_heal(server_url: URL) -> None:
    with pytest.raises(ConfigError, match=r"database nowhere at .* is not there.*: check DB_NAME"):
        ping(engine(server_url.set(database="nowhere")))


@both_servers
def test_a_password_may_be_any_text(server_url: URL) -> None:
    with engine(server_url).connect() as root:
        name = f"u{uuid.uuid4().hex[:10]}"
        kind = "USER" if server_url.get_backend_name() == "mysql" else "ROLE"
        login = "IDENTIFIED BY" if kind == "USER" else "LOGIN PASSWORD"
        root.exec_driver_sql(f"CREATE {kind} {name} {login} 'пароль ö'")
        if kind == "USER":
            root.exec_driver_sql(f"GRANT ALL ON {server_url.database}.* TO {name}")
        root.commit()
    try:
        ping(engine(server_url.set(username=name, password="пароль ö")))
        with pytest.raises(ConfigError, match="refuses the login") as caught:
            ping(engine(server_url.set(username=name, password="другой")))
        assert "другой" not in str(caught.value)
    finally:
        with engine(server_url).connect() as root:
            root.exec_driver_sql(f"DROP {kind} {name}")
            root.commit()


@both_servers
def test_what_cannot_be_sent_is_not_quoted(server_url: URL) -> None:
    """The error of Python holds all of the text: PostgreSQL's the whole address with its password."""
    url, no_text = server_url.set(password="topsecret"), "topsecret\udcff"
    for bad in (url.set(username=no_text), url.set(password=no_text), url.set(database=no_text)):
        with pytest.raises(ConfigError, match=r"surrogates not allowed|refuses the login") as caught:
            ping(engine(bad))
        assert "topsecret" not in str(caught.value).replace(f"database {no_text}", "")


@both_servers
def test_a_lock_of_another_session_is_waited_for_and_named(server_url: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration that hangs: `check` said nothing for as long, or blamed host and port."""
    short = {dialect: limits.replace("= 5", "= 1") for dialect, limits in models._SESSION.items()}
    monkeypatch.setattr(models, "_SESSION", short)
    init_db(database := engine(server_url))
    save(database, row())
    is_mysql = server_url.get_backend_name() == "mysql"
    lock = "LOCK TABLES {} WRITE" if is_mysql else "LOCK TABLE {} IN ACCESS EXCLUSIVE MODE"
    with engine(server_url).connect() as other:
        other.exec_driver_sql(lock.format("consumer_configs"))
        for ask in (partial(load, database, "orders"), partial(set_paused, database, ["orders"], paused=True)):
            with pytest.raises(UnavailableError, match="has a lock on consumer_configs that another session holds"):
                ask()
        other.invalidate()  # ends the session, and so its locks
    assert load(database, "orders") == row()


@both_servers
def test_who_runs_the_server_sees_whose_sessions_they_are(server_url: URL) -> None:
    """Of forty consumers with one login, nobody could tell which one held a lock."""
    with engine(server_url, name="paid-orders").connect() as connection:
        if server_url.get_backend_name() == "mysql":  # the server of this machine does not tell
            driver: Any = connection.connection.driver_connection
            told = driver._connect_attrs["program_name"]
        else:
            told = connection.exec_driver_sql("SHOW application_name").scalar()
    assert told == "paid-orders"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mysql://u@h/d?connect_timeout=30&read_timeout=60", {"connect_timeout": 30, "read_timeout": 60}),
        ("mysql://u@h/d", {"connect_timeout": 5, "read_timeout": 10}),
        ("postgresql://u@h/d?connect_timeout=30", {"connect_timeout": "30", "client_encoding": "utf8"}),
        ("sqlite:///f?timeout=30", {"timeout": 30.0}),
    ],
)
def test_what_the_address_says_of_time_outs_holds(url: str, expected: dict[str, object]) -> None:
    given: dict[str, object] = {}
    made = engine(Settings(database_url=url).url(), name="orders")

    def connects(_dialect: object, _record: object, _args: object, parameters: dict[str, object]) -> None:
        given.update(parameters)
        raise ConnectionRefusedError

    event.listen(made, "do_connect", connects)
    with pytest.raises(ConfigError):
        ping(made)
    assert {name: given[name] for name in expected} == expected


@pytest.mark.postgresql
def test_a_server_that_says_nothing_any_more_is_not_waited_for_for_ever(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that looks at the row would hang for good, and no change would ever be seen."""
    monkeypatch.setattr(models, "LONGEST_CONNECTION", 1.0)
    with models._connected(engine(make_url(postgresql_url))) as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1
    with pytest.raises(UnavailableError), models._connected(engine(make_url(postgresql_url))) as connection:
        connection.execute(text("SELECT pg_sleep(8)"))


@contextmanager
def behind_a_proxy(url: URL, goes_on: Callable[[bytes, bytes], bool]) -> Iterator[URL]:
    """The server's address as its clients have it: a proxy that forwards all, until `goes_on` says no of what the
    client, and the server, have said so far. Then it says nothing more: it hangs up where the client spoke last.
    """
    server = socket.create_connection((url.host or "", url.port or 0))
    with closing(server), closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def forward(client: socket.socket, said: list[bytes], at: int, there: socket.socket) -> None:
            with suppress(OSError):
                while data := client.recv(65_536):
                    said[at] += data
                    if not goes_on(*said):
                        if at == 0:
                            client.shutdown(socket.SHUT_RDWR)
                        return
                    there.sendall(data)

        def serve() -> None:
            client, _ = listener.accept()
            said = [b"", b""]
            with client:
                back = threading.Thread(target=forward, args=(server, said, 1, client), daemon=True)
                back.start()
                forward(client, said, 0, server)
                with suppress(OSError):
                    server.shutdown(socket.SHUT_RDWR)
                back.join()

        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        yield url.set(host="127.0.0.1", port=listener.getsockname()[1])
        serving.join()


@pytest.mark.postgresql
def test_a_server_that_says_nothing_after_the_login_is_not_waited_for_for_ever(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLAlchemy has questions of its own before any of ours."""
    monkeypatch.setattr(models, "LONGEST_CONNECTION", 1.0)
    is_ready = b"Z\0\0\0\5I"
    url = make_url(postgresql_url).update_query_dict({"sslmode": "disable"})
    with behind_a_proxy(url, lambda _asked, told: told.count(is_ready) < 2) as there, pytest.raises(UnavailableError):
        ping(engine(there))


@both_servers
def test_a_server_that_goes_as_we_leave_is_one_that_cannot_be_reached(server_url: URL) -> None:
    """The last word to it is a ROLLBACK, beyond all that was asked."""
    plain = {"postgresql": {"sslmode": "disable"}, "mysql": {"ssl_disabled": "true"}}[server_url.get_backend_name()]
    url = server_url.update_query_dict(plain)
    ping(engine(url))

    def goes_on(asked: bytes, _told: bytes) -> bool:
        return asked.count(b"ROLLBACK") < 2  # the first is of SQLAlchemy's own questions

    with behind_a_proxy(url, goes_on) as there, pytest.raises(UnavailableError):
        ping(engine(there))


@pytest.mark.postgresql
def test_a_pooled_session_is_left_to_other_programs_as_it_was(postgresql_url: str) -> None:
    """Behind PgBouncer, pool_mode=transaction, their statements were ended after 10 s."""
    with models._connected(engine(make_url(postgresql_url))) as connection:
        ours = [connection.exec_driver_sql(f"SHOW {name}_timeout").scalar() for name in ("lock", "statement")]
        connection.commit()
        theirs = [connection.exec_driver_sql(f"SHOW {name}_timeout").scalar() for name in ("lock", "statement")]
    assert (ours, theirs) == (["5s", "10s"], ["0", "0"])


@pytest.mark.postgresql
def test_nothing_is_left_prepared_in_a_pooled_session(postgresql_url: str) -> None:
    """Behind PgBouncer a pause of six consumers was refused: another program's statement had its name already."""
    with models._connected(engine(make_url(postgresql_url))) as connection:
        for _ in range(10):
            connection.execute(text("SELECT :given"), {"given": 1})
        assert connection.execute(text("SELECT count(*) FROM pg_prepared_statements")).scalar() == 0


def test_the_table_holds_all_of_unicode_also_where_the_server_makes_its_tables_for_less(mariadb_url: str) -> None:
    database = engine(make_url(mariadb_url))
    execute(database, f"ALTER DATABASE {database.url.database} CHARACTER SET latin1")
    init_db(database)
    saved = row(metadatas='{"note": "Zoë 😀 пароль"}')
    save(database, saved)
    assert load(database, "orders") == saved


@pytest.mark.parametrize(
    ("server", "option"),
    [
        *(
            pytest.param("mariadb_url", each, marks=pytest.mark.mariadb)
            for each in ("charset=utf8", "charset=latin1&collation=latin1_swedish_ci", "charset=utf8&use_unicode=0")
        ),
        pytest.param("postgresql_url", "client_encoding=latin1", marks=pytest.mark.postgresql),
    ],
)
def test_a_pause_keeps_all_characters_whatever_charset_the_address_names(
    server: str, option: str, request: pytest.FixtureRequest
) -> None:
    """They became question marks: with charset=utf8 all of four bytes. `init` ended with a traceback, with latin1."""
    url, note = request.getfixturevalue(server), '{"note": "Zoë 😀 пароль"'
    by_all, database = engine(make_url(url)), engine(Settings(database_url=f"{url}?{option}").url())
    init_db(by_all)
    save(by_all, row(metadatas=f"{note}}}"))
    set_paused(database, ["orders"], paused=True)
    assert load(by_all, "orders").metadatas == f'{note}, "paused": true}}'
    save(database, row(metadatas=f"{note}}}"))
    assert load(database, "orders").metadatas == f"{note}}}"


@both_servers
def test_a_character_for_which_a_table_has_no_room_is_named(server_url: URL) -> None:
    """It was blamed on DATABASE_URL, or on DB_HOST."""
    with ExitStack() as stack:
        database = engine(server_url)
        if server_url.get_backend_name() == "mysql":
            init_db(database)
            execute(database, "ALTER TABLE consumer_configs MODIFY metadatas TEXT CHARACTER SET latin1")
        else:
            database = engine(server_url.set(database=stack.enter_context(database_in("LATIN1", server_url))))
            init_db(database)
        with pytest.raises(ConfigError, match=r"cannot hold a character of it: .*MODIFY metadatas TEXT CHARACTER SET"):
            save(database, row(metadatas='{"note": "😀"}'))


@pytest.mark.parametrize(
    ("server", "columns"),
    [
        pytest.param("mariadb_url", "topics_input VARCHAR(2)", marks=pytest.mark.mariadb),
        pytest.param("mariadb_url", "topics_input JSON", marks=pytest.mark.mariadb),
        pytest.param("mariadb_url", "topics_input ENUM('x')", marks=pytest.mark.mariadb),
        pytest.param("mariadb_url", "topics_input DATE", marks=pytest.mark.mariadb),
        pytest.param("mariadb_url", "topics_input POINT", marks=pytest.mark.mariadb),
        pytest.param("mariadb_url", "topics_input CHAR(9) AS ('x') VIRTUAL", marks=pytest.mark.mariadb),
        pytest.param("postgresql_url", "topics_input VARCHAR(2)", marks=pytest.mark.postgresql),
        pytest.param("postgresql_url", "topics_input TEXT[]", marks=pytest.mark.postgresql),
        pytest.param(
            "postgresql_url", "topics_input TEXT GENERATED ALWAYS AS ('x') STORED", marks=pytest.mark.postgresql
        ),
        pytest.param("postgresql_url", "topics_input JSON", marks=pytest.mark.postgresql),
        pytest.param("postgresql_url", "topics_input TEXT CHECK (topics_input = 'x')", marks=pytest.mark.postgresql),
        pytest.param("postgresql_url", "consumer_name NAME_TYPE", marks=pytest.mark.postgresql),
    ],
)
def test_a_column_that_cannot_hold_it_is_blamed_and_not_the_address(
    server: str, columns: str, request: pytest.FixtureRequest
) -> None:
    """It was blamed on DATABASE_URL, or on DB_HOST; or it was waited for, as what heals."""
    database = engine(make_url(request.getfixturevalue(server)))
    if "NAME_TYPE" in columns:
        execute(database, "CREATE TYPE NAME_TYPE AS ENUM ('orders')")
    names = [name for name in ("consumer_name", "topics_input") if not columns.startswith(name)]
    others = ", ".join(f"{name} TEXT" for name in [*names, "topics_output", "kafka_bootstrap_server", "metadatas"])
    execute(database, f"CREATE TABLE consumer_configs (id INTEGER DEFAULT 1, {columns}, {others})")
    with pytest.raises(ConfigError, match=r"consumer_configs that cannot hold this: .* make it TEXT"):
        save(database, row())


@pytest.mark.parametrize(
    "columns",
    [
        "topics_input VARCHAR(9)",
        "kafka_bootstrap_server VARCHAR(9)",
        "metadatas VARCHAR(9)",
        "metadatas TEXT CHARSET latin1",
    ],
)
def test_a_server_that_cuts_off_what_a_column_cannot_hold_is_told_not_to(mariadb_url: str, columns: str) -> None:
    """Half a topic was in the row, and `init` said that it was inserted."""
    names = "consumer_name", "topics_input", "topics_output", "kafka_bootstrap_server", "metadatas"
    others = ", ".join(f"{name} TEXT" for name in names if not columns.startswith(name))
    database = engine(make_url(mariadb_url).update_query_dict({"sql_mode": "NO_ENGINE_SUBSTITUTION"}))
    execute(database, f"CREATE TABLE consumer_configs (id INTEGER PRIMARY KEY AUTO_INCREMENT, {columns}, {others})")
    insert(database, "orders", metadatas="'{}'")
    long = row(topics_input="a-long-name", kafka_bootstrap_server="a-long-name:9092", metadatas='{"note": "日本"}')
    with pytest.raises(ConfigError, match="cannot hold"):
        save(database, long)
    with database.begin() as connection:
        assert connection.execute(text("SELECT topics_input FROM consumer_configs")).scalars().all() == ["a"]
    if columns == "metadatas VARCHAR(9)":
        with pytest.raises(ConfigError, match="cannot hold"):
            set_paused(database, ["orders"], paused=True)


@pytest.mark.parametrize("broken", ["its definer is gone", "its definer may not read", "its table is gone"])
def test_a_view_that_cannot_be_read_does_not_heal(mariadb_url: str, broken: str) -> None:
    """A dump that is restored on another server brings it about. It was waited for, and the address was blamed."""
    database, definer = engine(make_url(mariadb_url)), f"u{uuid.uuid4().hex[:10]}"
    init_db(database)
    save(database, row())
    execute(database, "ALTER TABLE consumer_configs RENAME kept")
    execute(database, f"CREATE USER {definer}@'%'")
    if broken != "its definer may not read":
        execute(database, f"GRANT SELECT ON {database.url.database}.* TO {definer}@'%'")
    try:
        execute(database, f"CREATE DEFINER = {definer}@'%' VIEW consumer_configs AS SELECT * FROM kept")
        if broken == "its table is gone":
            execute(database, "DROP TABLE kept")
        if broken == "its definer is gone":
            execute(database, f"DROP USER {definer}@'%'")
        says = r"has a view consumer_configs(, or a trigger on that table, and| that cannot be read:) .* make it anew"
        with pytest.raises(ConfigError, match=says):
            load(database, "orders")
    finally:
        execute(database, f"DROP USER IF EXISTS {definer}@'%'")


@pytest.mark.mariadb
def test_a_trigger_whose_definer_is_gone_is_not_told_as_a_view_alone(mariadb_url: str) -> None:
    """The number is that of a view, too: it was "a view consumer_configs that cannot be read", and reading is well."""
    database, definer = engine(make_url(mariadb_url)), f"u{uuid.uuid4().hex[:10]}"
    init_db(database)
    save(database, row())
    execute(database, f"CREATE USER {definer}@'%'")
    trigger = f"CREATE DEFINER = {definer}@'%' TRIGGER watch_{definer} BEFORE UPDATE ON consumer_configs FOR EACH ROW"
    execute(database, f"{trigger} SET @changed = 1")
    execute(database, f"DROP USER {definer}@'%'")
    assert load(database, "orders") == row()
    with pytest.raises(ConfigError, match="or a trigger on that table, and who defined it is gone"):
        set_paused(database, ["orders"], paused=True)


@contextmanager
def database_in(encoding: str, server_url: URL) -> Iterator[str]:
    """Of PostgreSQL; its name."""
    name = f"other_{uuid.uuid4().hex[:10]}"
    made = engine(server_url).execution_options(isolation_level="AUTOCOMMIT")
    execute(made, f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    try:
        yield name
    finally:
        execute(made, f"DROP DATABASE {name}")


@both_servers
def test_an_option_that_the_driver_does_not_know_does_not_heal(server_url: URL) -> None:
    with pytest.raises(ConfigError, match=r"(cannot be used|takes no such option): check DATABASE_URL"):
        ping(engine(server_url.update_query_dict({"no_such_option": "1"})))


@pytest.mark.mariadb
def test_a_server_whose_certificate_is_not_trusted_does_not_heal(certificate: Path) -> None:
    with ExitStack() as stack:
        try:
            options = f"--ssl-cert={certificate}", f"--ssl-key={certificate}"
            server = stack.enter_context(mariadb_of_this_machine(*options))
        except Unavailable as reason:
            pytest.skip(f"no MariaDB of this machine's own: {reason}")
        url = server.url.set(database="mysql").update_query_dict({"ssl_ca": "/etc/ssl/certs/ca-certificates.crt"})
        with pytest.raises(ConfigError, match=r"has expired, or DB_SSL_CA \(/etc/ssl/certs/.*\) did not sign it"):
            ping(engine(url))


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql://u:p@h/d?ssl=true", "DATABASE_URL: the driver of MySQL has no option ssl=true: set DB_SSL_CA, to a"),
        (
            "mysql://u:p@h/d?ssl_ca=/no/ca.pem",
            "DB_SSL_CA (or ssl_ca of DATABASE_URL) names /no/ca.pem, which cannot be",
        ),
        ("postgresql://u:p@h/d?sslrootcert=/no/ca.pem", "DB_SSL_CA (or sslrootcert of DATABASE_URL) names /no/ca.pem,"),
        (
            "postgresql://u:p@h/d?sslkey=/no/k",
            "DB_SSL_KEY (or sslkey of DATABASE_URL) names /no/k, which cannot be read",
        ),
    ],
)
def test_an_option_that_can_be_no_good_is_named_before_anything_is_connected(url: str, says: str) -> None:
    settings = Settings.read({"CONSUMER_NAME": "orders", "DATABASE_URL": url})
    with pytest.raises(ConfigError) as caught:
        engine(settings.url())
    assert str(caught.value).startswith(says)


@pytest.mark.parametrize("driver", ["mysql", "postgresql"])
def test_a_file_of_tls_that_holds_something_else_is_named_before_anything_is_connected(
    driver: str, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    worker, other = authority.issue("worker"), authority.issue("other")
    (tmp_path / "text").write_text("topsecret")
    given = {"CONSUMER_NAME": "orders", "DB_NAME": "d", "DB_USER": "u", "DB_DRIVER": driver}

    def says(ca: Path, cert: Path, key: Path) -> str:
        files = {"DB_SSL_CA": str(ca), "DB_SSL_CERT": str(cert), "DB_SSL_KEY": str(key)}
        with pytest.raises(ConfigError) as caught:
            engine(Settings.read({**given, **files}).url())
        return str(caught.value)

    assert f"names {tmp_path}/text, which holds no certificate in PEM" in says(
        tmp_path / "text", worker.cert, worker.key
    )
    assert f"names {other.key}, which is not the key of {worker.cert}" in says(authority.file, worker.cert, other.key)
    assert f"names {tmp_path}/text, which does not go with" in says(authority.file, worker.cert, tmp_path / "text")
    engine(Settings.read({**given, "DB_SSL_CA": str(authority.file)}).url())


def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(tmp_path: Path) -> None:
    worker = Authority(tmp_path).issue("worker")
    url = make_url(f"mysql+pymysql://u:p@h/d?ssl_cert={worker.cert}&ssl_key={worker.locked('topsecret')}")
    with pytest.raises(ConfigError, match="both must be PEM, and the key without a password"):
        engine(url)


def test_the_cas_of_the_system_are_no_file() -> None:
    engine(make_url("postgresql+psycopg://u:p@h/d?sslmode=verify-full&sslrootcert=system"))


@pytest.mark.parametrize("driver", ["mysql+pymysql", "postgresql+psycopg"])
@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_a_server_that_is_not_there_heals(driver: str, host: str) -> None:
    with pytest.raises(UnavailableError, match=r"cannot be reached: if this stays, check DB_HOST and DB_PORT"):
        ping(engine(URL.create(driver, "u", "topsecret", host, free_port(), "d")))


def test_an_sqlite_file_that_is_missing_is_not_created_by_reading(tmp_path: Path) -> None:
    file = tmp_path / "a name with ? and %.db"
    url = URL.create("sqlite", database=str(file))

    with pytest.raises(ConfigError, match=r"SQLite file .*/a name with \? and %.db is not there"):
        load(engine(url), "orders")
    assert not file.exists()
    init_db(engine(url, create=True))
    assert file.exists()


def test_a_file_that_is_no_database_does_not_heal(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("not a database " * 100)

    with pytest.raises(ConfigError, match="is no database"):
        load(engine(make_url(f"sqlite:///{file}")), "orders")


@pytest.mark.parametrize("option", ["conv=x", "read_timeout=abc", "no_such_option=1"])
def test_an_option_with_which_the_driver_cannot_even_begin_does_not_heal(option: str) -> None:
    url = Settings.read(
        {"CONSUMER_NAME": "orders", "DATABASE_URL": f"mysql://u:topsecret@127.0.0.1:1/d?{option}"}
    ).url()
    with pytest.raises(ConfigError, match=r"database d at 127.0.0.1:1 cannot be used: check DATABASE_URL") as caught:
        ping(engine(url))
    assert "topsecret" not in str(caught.value)


def test_a_python_without_sqlite_is_not_told_to_install_a_driver_of_mysql(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of pyenv, on a machine without the headers of SQLite."""
    monkeypatch.setattr("models.create_engine", Mock(side_effect=ModuleNotFoundError("No module named '_sqlite3'")))
    with pytest.raises(ConfigError, match=r"the driver for sqlite is not installed: this Python was built without"):
        engine(make_url("sqlite:///rows.db"))


def test_a_driver_that_is_not_installed_names_what_to_install() -> None:
    with pytest.raises(ConfigError, match=r"the driver for mysql\+mysqldb is not installed: add PyMySQL\[rsa\] to"):
        engine(make_url("mysql+mysqldb://u:p@h/d"))


def test_the_model_has_the_columns_that_exist_out_there() -> None:
    assert list(ConsumerConfig.__table__.columns.keys()) == [
        "id", "consumer_name", "topics_input", "topics_output", "kafka_bootstrap_server", "metadatas",
    ]  # fmt: skip
