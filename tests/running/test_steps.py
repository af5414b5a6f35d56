"""The steps of a start: what they ask the brokers by, and that it is let go of."""

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from sqlalchemy import make_url

from config import ConfigError, Settings, UnavailableError
from models import Row, engine, init_db, save
from tests.conftest import Topics
from tests.services.kafka import KafkaBroker, feeder, unique_name
from utils.commands.check import findings
from utils.kafka import clients, needed_topics, preflight, rights
from utils.monitoring.status import Address, Health, serve
from utils.processing.runner import Hooks
from utils.processing.user_code import UserCode
from utils.running import steps
from utils.running.steps import ROW_STEPS, STEPS, Seen, Start, Step, is_worker, take


@pytest.fixture(autouse=True)
def nobodys_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("utils.processing.user_code.defaults", dict)


def test_all_questions_to_the_brokers_are_asked_by_one_client(
    sqlite_url: str, real_kafka: KafkaBroker, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each connects twice; there were nine."""
    made, new = list[AdminClient](), preflight._admin

    def noted(*given: Any) -> AdminClient:
        made.append(new(*given))
        return made[-1]

    monkeypatch.setattr(preflight, "_admin", noted)
    a, b, out = topics(real_kafka, "a", "b", "out", partitions=1)
    database, name = engine(make_url(sqlite_url), create=True), unique_name("orders")
    init_db(database)
    save(database, Row.validated(name, f"{a},{b}", out, real_kafka.bootstrap))
    found = list(findings({"CONSUMER_NAME": name, "DATABASE_URL": sqlite_url}))
    assert [each for each in found if each.problems != []] == [], "a default broker is no risk"
    assert {each.subject for each in found} >= {each.subject for each in ROW_STEPS} - {"transactions"}
    assert len(made) == 1


def test_check_tells_of_the_history_that_a_new_consumer_reads(
    sqlite_url: str, real_kafka: KafkaBroker, topics: Topics
) -> None:
    """Whoever has `latest` in mind sent a year of mails once more."""
    a, b, out = topics(real_kafka, "a", "b", "out", partitions=2)
    database, name = engine(make_url(sqlite_url), create=True), unique_name("orders")
    init_db(database)
    save(database, Row.validated(name, f"{a},{b}", out, real_kafka.bootstrap))
    environ = {"CONSUMER_NAME": name, "DATABASE_URL": sqlite_url}

    def told() -> list[str]:
        return [each.seen for each in findings(environ) if each.subject == "commits" and each.problems is None]

    assert told() == []
    producer = feeder(real_kafka.bootstrap)
    for number in range(1_234):
        producer.produce(b if number % 5 else a, b"{}", str(number))
    assert producer.flush(30) == 0
    [line] = told()
    assert line.startswith("none yet: the first worker reads all that its topics hold (1,234 messages), from the begin")
    assert line.endswith(f"--group {name} --topic {a} --topic {b} --reset-offsets --to-latest --execute")
    with clients.reader(Settings(consumer_name=name), Row.validated(name, a, out, real_kafka.bootstrap)) as group:
        group.commit(offsets=[TopicPartition(a, 0, 1)], asynchronous=False)
    assert told() == []


def test_where_nobody_can_tell_the_history_check_goes_on_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> int:
        raise KafkaException(KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED))

    monkeypatch.setattr(preflight, "history", forbidden)
    start: Any = SimpleNamespace(only_try=True, cluster=preflight.Cluster(("h:1",), {}), settings=None, row=None)
    assert list(steps._history(start)) == []


def test_a_slip_in_a_variable_is_told_before_what_comes_of_it(sqlite_url: str) -> None:
    """DB_HSOT, and then a database that cannot be reached at localhost. Once, also where all goes well."""
    database = engine(make_url(sqlite_url), create=True)
    environ = {"CONSUMER_NAME": "orders", "DATABASE_URL": sqlite_url, "DB_HSOT": "db.example"}
    without_table = list(findings(environ))
    init_db(database)
    save(database, Row.validated("orders", "a,b", "out", "127.0.0.1:1", '{"message_timout": 2}'))
    told = [
        [(each.subject, each.seen.split()[0]) for each in found if each.problems is None and each.subject != "the rest"]
        for found in (without_table, findings(environ))
    ]
    assert told == [[("settings", "DB_HSOT")], [("settings", "DB_HSOT"), ("warning", "metadatas.message_timout")]]


def test_settings_that_worker_py_puts_into_the_environment_are_told_to_come_too_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """load_dotenv() at the top of it: the worker went by the defaults, and os.environ said otherwise."""
    environ = {"HOME": "/", "DELIVERY": "at_least_once", "DB_NAME": "rows"}

    def load() -> UserCode:
        environ.update(
            HOME="/root", DELIVERY="exactly_once", DB_NAME="rows", KAFKA_LINGER_MS="5", API_TOKEN="topsecret"
        )
        environ.update(DB_PASSWORD_FILE="topsecret")
        return UserCode(lambda message, _name: message, Hooks())

    monkeypatch.setattr("utils.processing.user_code.load", load)
    [step] = [step for step in STEPS if step.subject == "worker.py"]
    start = Start(environ=environ, listen=lambda _settings: "")
    lacking, well = step.take(start)
    assert (lacking.how, well.how) == ("lacking", "well")
    assert lacking.text.startswith("worker.py sets DB_PASSWORD_FILE, DELIVERY, KAFKA_LINGER_MS in the environment, and")
    assert [each.how for each in step.take(start)] == ["well"], "imported before"


@pytest.mark.parametrize("well", [True, False])
def test_the_client_is_let_go_of_when_all_is_asked(well: bool) -> None:
    def asks(start: Start) -> Iterator[Seen]:
        with socket.socket() as client:  # anything that can be told from None
            taken: Any = client
        start.cluster = preflight.Cluster((), {"a": 1}, admin=taken)
        if not well:
            raise ConfigError(["no"])
        yield Seen("all well")

    start = Start(environ={}, listen=lambda _settings: "")
    try:
        assert list(take(start, [Step("broker", asks, needs="")], lambda step: step())) != []
    except ConfigError:
        assert not well
    assert (start.cluster.admin, start.cluster.partitions) == (None, {"a": 1})


def test_a_step_that_is_tried_again_asks_by_another_client() -> None:
    """The first one waited for a broker that had gone, for up to five minutes: librdkafka looks for no other."""
    asked_by = list[AdminClient | None]()

    def asks(start: Start) -> Iterator[Seen]:
        asked_by.append(start.cluster.admin)
        if len(asked_by) == 1:
            raise UnavailableError("nobody answers")
        yield Seen("all well")

    def patiently(step: Callable[[], list[Seen]]) -> list[Seen]:
        with suppress(UnavailableError):
            step()
        return step()

    start = Start(environ={}, listen=lambda _settings: "")
    with socket.socket() as client:  # anything that can be told from None
        taken: Any = client
        start.cluster = preflight.Cluster((), {"a": 1}, admin=taken)
        assert [seen.text for _, seen in take(start, [Step("dead letters", asks, needs="")], patiently)] == ["all well"]
    assert asked_by == [taken, None], "None: whoever asks makes one"


def test_a_row_that_is_corrected_while_a_worker_waits_for_what_it_names_is_taken(sqlite_url: str) -> None:
    """It asked the old address for ever, and the log said to check the row."""
    database, environ = engine(make_url(sqlite_url), create=True), {"CONSUMER_NAME": "a", "DATABASE_URL": sqlite_url}
    init_db(database)
    tried = []

    def asks(start: Start) -> Iterator[Seen]:
        tried.append((start.row.bootstrap_servers, start.settings.message_timeout))
        if start.row.bootstrap_servers != "there:1":
            raise UnavailableError("nobody answers")
        yield Seen("all well")

    def patiently(step: Callable[[], list[Seen]]) -> list[Seen]:
        for address in ("away:1", "there:1"):
            with suppress(UnavailableError):
                return step()
            save(database, Row.validated("a", "x", "y", address, '{"pause": 1}' if address == "there:1" else None))
        return step()

    save(database, Row.validated("a", "x", "y", "away:1", '{"message_timeout": 7}'))
    steps = [each for each in STEPS if each.subject in {"settings", "database", "row"}]
    start = Start(environ=environ, listen=lambda _settings: "")
    seen = [step.subject for step, _ in take(start, [*steps, Step("broker", asks, needs="row")], patiently)]
    assert seen == ["settings", "database", "row", "row", "broker"]
    assert tried == [("away:1", 7.0), ("away:1", 7.0), ("there:1", 60.0)]


MAPS = "take maps of 4,095 characters"
BOTH = "offset.metadata.max.bytes, offsets.retention.minutes"
DELETED = (
    "Kafka deletes the commits of a consumer once no worker has run for 1 d (offsets.retention.minutes of the brokers),"
    " and a start then reads all from its beginning: raise that, or let a paused worker run"
)


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        (7, [("well", f"{MAPS}, and stay for 7 d without a worker ({BOTH})")]),
        (3, [("well", f"{MAPS}, and stay for 3 d without a worker ({BOTH})")]),
        (1, [("lacking", DELETED), ("well", f"{MAPS} (offset.metadata.max.bytes)")]),
        (None, [("well", f"{MAPS} (offset.metadata.max.bytes)")]),
    ],
)
def test_how_long_commits_outlive_the_workers_is_told(days: int | None, expected: list[tuple[str, str]]) -> None:
    """After that, all topics are read from their beginning."""
    start = Start(environ={}, listen=lambda _settings: "")
    start.settings, start.row = Settings(), Row.validated("orders", "a", "b", "h:1")
    stay = None if days is None else days * 86_400.0
    start.cluster = preflight.Cluster((), {}, metadata_limit=4096, commits_stay=stay)
    [step] = [step for step in STEPS if step.subject == "commits"]
    assert [(each.how, each.text) for each in step.take(start)] == expected


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ({"a": 2, "b": 2}, Seen("a has 2, b has 2")),
        ({"a": 2}, Seen("not checked: a topic is missing", "untold")),
        ({}, Seen("not checked: a topic is missing", "untold")),
    ],
)
def test_partitions_are_well_only_where_all_topics_have_told_theirs(there: dict[str, int], expected: Seen) -> None:
    """`check` said "✓ partitions", and nothing behind it, of topics that do not exist."""
    start = Start(environ={}, listen=lambda _settings: "")
    start.row, start.cluster = Row.validated("orders", "a,b", "", "h:1"), preflight.Cluster((), there)
    [step] = [step for step in STEPS if step.subject == "partitions"]
    assert list(step.take(start)) == [expected]


MAY_NOT_WRITE, MAY_NOT_READ = "no right to WRITE topic shop-offsets: x", "no right to READ topic shop-offsets: y"


@pytest.mark.parametrize(
    ("policy", "lacking", "unread"),
    [
        ("compact", [], ()),
        ("compact,delete", [], ()),
        ("compact", [MAY_NOT_WRITE], ()),
        ("compact", [MAY_NOT_READ], (MAY_NOT_READ,)),
        ("delete", [MAY_NOT_READ, MAY_NOT_WRITE], (MAY_NOT_READ,)),
    ],
)
def test_at_least_once_what_may_not_be_written_to_the_topic_of_maps_is_read_all_the_same(
    policy: str, lacking: list[str], unread: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The topic counted as one that does not exist: where a commit referred to a map, no worker began."""

    def missing(
        _settings: Settings, _row: Row, _cluster: object, which: Sequence[str] = ("READ", "WRITE")
    ) -> list[str]:
        return [each for each in lacking if each.split()[3] in which]

    monkeypatch.setattr(rights, "missing_map_rights", missing)
    start, seen = maps_of({"shop-offsets": 1}, policy)
    assert (start.unread_maps, start.stores_maps) == (unread, policy == "compact" and not lacking)
    assert (seen.how, "no worker starts" in seen.text) == ("well" if start.stores_maps else "lacking", bool(unread))


def test_a_topic_of_maps_that_cannot_be_created_is_why_none_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needed_topics, "_create", lambda *_given, **_more: "cannot be created: x")
    start, seen = maps_of({}, "compact")
    assert start.unread_maps == ("topic shop-offsets for maps of waiting messages cannot be created: x",)
    none_starts = "and no worker starts where a commit refers to a stored one"
    assert seen.text.endswith(f"created: x; {none_starts}; after the cure start again the workers that run")


def maps_of(own: dict[str, int], policy: str) -> tuple[Start, Seen]:
    """At least once, with these topics of the worker's own."""
    [step] = [step for step in ROW_STEPS if step.subject == "maps"]
    start = Start(environ={}, listen=lambda _settings: "")
    start.settings, start.row = Settings(), Row.validated("shop", "a,b", "out", "h:1")
    start.cluster = preflight.Cluster((), {"a": 1, "b": 1, **own}, configs={"shop-offsets": {"cleanup.policy": policy}})
    [seen] = step.take(start)
    return start, seen


@pytest.mark.parametrize(("theirs", "ours"), [("orders", True), ("shop", False), ("", False)])
def test_a_port_is_taken_by_our_own_worker_or_by_somebody_else(theirs: str, ours: bool) -> None:
    """Forty workers of a machine may take each other's, and then run would end."""
    server = serve(Health(), Address("127.0.0.1", 0, consumer=theirs))
    try:
        assert is_worker(Settings(consumer_name="orders", http_port=server.server_port)) is ours
    finally:
        server.shutdown()
        server.server_close()
