"""The checks of brokers and topics: what is said of a broker that does not answer, of topics, and of rights."""

import shlex
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, TypeVar, cast

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBinding, AclBindingFilter, AclOperation, AclPermissionType
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType

from config import ConfigError, Settings, UnavailableError
from models import Row, map_topic
from tests.conftest import Topics, grant
from tests.services.certificates import Authority, Certificate
from tests.services.kafka import KafkaBroker, unique_name
from tests.services.processes import free_port
from utils.kafka import preflight
from utils.kafka.client_errors import explain
from utils.kafka.clients import client_properties
from utils.kafka.preflight import (
    DEAD_LETTER_TOPIC,
    Cluster,
    commit_limits,
    look,
    missing_rights,
    missing_topics,
    provide_dead_letter_topic,
    provide_map_topic,
    unequal_partitions,
)
from utils.kafka.topic_configs import forgotten_dead_letters

T = TypeVar("T")
Handler = Callable[[socket.socket], None]


def row_at(servers: str, topics_input: str = "a,b", topics_output: str = "c", name: str = "orders") -> Row:
    return Row.validated(name, topics_input, topics_output, servers)


def settings_with(**properties: str) -> Settings:
    variables = {f"KAFKA_{name.upper()}": value for name, value in properties.items()}
    return Settings.read({"CONSUMER_NAME": "orders", "DATABASE_URL": "sqlite:///rows.db", **variables})


def eventually(look: Callable[[], T], found: Callable[[T], bool], seconds: float = 60) -> T:
    """What `look` gives as soon as it is what was to be found; after `seconds`, what it gives then."""
    deadline = time.monotonic() + seconds
    while not found(seen := look()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return seen


@contextmanager
def listening(handle: Handler) -> Iterator[str]:
    """A server on a free port whose every connection `handle` gets; its address."""

    def serve(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    handle(connection)

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(60)


@pytest.fixture
def tls_broker(certificate: Path) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def shake_hands(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True):
            pass

    with listening(shake_hands) as address:
        yield address


# ---------------------------------------------------------------- brokers that do not answer


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_a_broker_that_is_not_there_heals(host: str) -> None:
    server = f"{host}:{free_port()}"

    with pytest.raises(UnavailableError, match=rf"Kafka at {server} cannot be reached.*kafka_bootstrap_server"):
        look(settings_with(), row_at(server))


class Failing:
    """An admin client to which each question fails at once."""

    def __init__(self, code: int) -> None:
        self.error, self.asked, self.patience = KafkaError(code), 0, 0.0

    def list_topics(self, timeout: float) -> None:
        self.asked, self.patience = self.asked + 1, max(self.patience, timeout)
        raise KafkaException(self.error)

    def poll(self, _timeout: float) -> None:
        pass


def test_the_port_of_a_controller_does_not_heal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer comes at once, and it was asked again without a pause: the client, full of questions, never ended."""
    admin = Failing(KafkaError._UNSUPPORTED_FEATURE)
    monkeypatch.setattr(preflight, "_admin", lambda *_: admin)
    with pytest.raises(ConfigError, match="is no broker, but perhaps a controller"):
        look(settings_with(), row_at("h:9093"))
    assert admin.asked == 1


def test_brokers_that_fail_at_once_are_not_asked_without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    admin = Failing(KafkaError._TRANSPORT)
    monkeypatch.setattr(preflight, "_admin", lambda *_: admin)
    monkeypatch.setattr(preflight, "_REQUEST", 1.0)
    with pytest.raises(UnavailableError, match="cannot be reached"):
        look(settings_with(), row_at(f"127.0.0.1:{free_port()}"))
    assert admin.asked <= 12
    assert admin.patience == 1.0


def test_a_broker_that_wants_tls_does_not_heal(tls_broker: str) -> None:
    with pytest.raises(ConfigError, match=rf"{tls_broker} wants TLS: set KAFKA_SECURITY_PROTOCOL"):
        look(settings_with(), row_at(tls_broker))


def test_a_broker_that_wants_tls_is_found_among_brokers_that_are_down(tls_broker: str) -> None:
    with pytest.raises(ConfigError, match="wants TLS"):
        look(settings_with(), row_at(f"127.0.0.1:{free_port()},{tls_broker}"))


def test_a_broker_that_refuses_our_kind_of_tls_still_speaks_tls() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # without a certificate no handshake succeeds

    def refuse(connection: socket.socket) -> None:
        with suppress(ssl.SSLError), context.wrap_socket(connection, server_side=True):
            pass

    with listening(refuse) as address, pytest.raises(ConfigError, match="wants TLS"):
        look(settings_with(), row_at(address))


def test_that_no_transactions_are_made_is_no_matter_of_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a partition of `__transaction_state` had no leader, it was said that Kafka cannot be reached."""

    class TimesOut:
        def init_transactions(self, _timeout: float) -> None:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "Timed out waiting for operation to finish"))

    monkeypatch.setattr(preflight, "kafka_producer", lambda *_: TimesOut())
    with pytest.raises(UnavailableError, match=r"Kafka makes no transactions just now: .* whether __transaction_state"):
        preflight.missing_transactions(settings_with(), row_at("h:9092"))


def test_a_certificate_that_is_not_trusted_does_not_heal(tls_broker: str) -> None:
    with pytest.raises(ConfigError, match=r"TLS with the broker fails: check KAFKA_SSL_CA_LOCATION"):
        look(settings_with(security_protocol="ssl"), row_at(tls_broker))


@contextmanager
def tls_with(certificate: Certificate) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert, certificate.key)

    def shake_hands(connection: socket.socket) -> None:
        with suppress(OSError), context.wrap_socket(connection, server_side=True) as wrapped:
            wrapped.recv(4096)

    with listening(shake_hands) as address:
        yield address


@pytest.mark.parametrize("given", ["file", "directory", "PEM"])
def test_what_is_wrong_with_a_certificate_is_told_however_the_authority_is_given(tmp_path: Path, given: str) -> None:
    """That it had expired was told for a file alone. Else KAFKA_SSL_CA_LOCATION was blamed, also where none was set."""
    authority, other = Authority(tmp_path / "ours"), Authority(tmp_path / "other")
    directory = tmp_path / "probes"
    directory.mkdir()
    (directory / "aabdaf6b.0").write_bytes(authority.file.read_bytes())  # so OpenSSL calls it, by its subject
    trusts = {
        "file": {"ssl_ca_location": str(authority.file)},
        "directory": {"ssl_ca_location": str(directory)},
        "PEM": {"ssl_ca_pem": authority.file.read_text()},
    }
    settings = settings_with(security_protocol="ssl", **trusts[given])
    for certificate, says in {
        authority.issue("expired", "127.0.0.1", expired=True): "its certificate, or that of who signed it, has expired",
        authority.issue("named", "other.example"): "its certificate is for another name",
        other.issue("foreign", "127.0.0.1"): "check KAFKA_SSL_CA_LOCATION, or KAFKA_SSL_CA_PEM",
    }.items():
        with tls_with(certificate) as address, pytest.raises(ConfigError, match=f"TLS with the broker fails: {says}"):
            look(settings, row_at(address))


def test_a_certificate_that_is_not_valid_yet_is_waited_for(tmp_path: Path) -> None:
    """A machine whose clock was behind for its first minute had no worker until somebody came."""
    authority = Authority(tmp_path)
    settings = settings_with(security_protocol="ssl", ssl_ca_location=str(authority.file))
    early = authority.issue("broker", "127.0.0.1", early=True)
    with tls_with(early) as address, pytest.raises(UnavailableError, match="set the clock of this machine, or wait"):
        look(settings, row_at(address))


def test_a_name_that_is_not_compared_is_no_cause(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    settings = settings_with(
        security_protocol="ssl", ssl_ca_location=str(authority.file), ssl_endpoint_identification_algorithm="none"
    )
    good, expired = authority.issue("named", "other.example"), authority.issue("old", "other.example", expired=True)
    with tls_with(good) as one, tls_with(expired) as another, pytest.raises(ConfigError, match="has expired"):
        look(settings, row_at(f"{one},{another}"))


def test_a_server_that_hangs_up_is_waited_for_with_a_hint() -> None:
    hint = "accepts connections but does not answer.*KAFKA_SECURITY_PROTOCOL"

    with listening(lambda _connection: None) as address, pytest.raises(UnavailableError, match=hint):
        look(settings_with(), row_at(address))


def test_who_logs_in_already_is_not_told_to_log_in() -> None:
    login = {"sasl_mechanism": "PLAIN", "sasl_username": "bob", "sasl_password": "secret"}
    with listening(lambda _connection: None) as address, pytest.raises(UnavailableError, match="be no Kafka") as caught:
        look(settings_with(security_protocol="sasl_plaintext", **login), row_at(address))
    assert "login" not in str(caught.value)


@pytest.mark.parametrize("asks", [False, True])
@pytest.mark.parametrize("protocol", ["ssl", "sasl_ssl"])
def test_who_ends_connections_for_tls_and_is_no_broker_without_it_is_waited_for(protocol: str, asks: bool) -> None:
    """A load balancer whose brokers are away: to switch TLS off would send it the password."""
    login = {"sasl_mechanism": "PLAIN", "sasl_username": "bob", "sasl_password": "secret"}

    def hang_up(connection: socket.socket) -> None:
        if asks:
            connection.recv(4096)

    with listening(hang_up) as address, pytest.raises(UnavailableError, match="if this stays"):
        look(settings_with(security_protocol=protocol, **login), row_at(address))


def test_tls_towards_a_broker_without_tls_does_not_heal(real_kafka: KafkaBroker) -> None:
    with pytest.raises(ConfigError, match=r"does not speak TLS: set KAFKA_SECURITY_PROTOCOL"):
        look(settings_with(security_protocol="ssl"), row_at(real_kafka.bootstrap))


def test_a_login_where_none_is_wanted_does_not_heal_and_hides_the_password(real_kafka: KafkaBroker) -> None:
    """It was told as one that is refused, for its password."""
    login = {"sasl_mechanism": "PLAIN", "sasl_username": "bob", "sasl_password": "topsecret"}

    with pytest.raises(ConfigError, match=r"Kafka wants no login there: set KAFKA_SECURITY_PROTOCOL") as caught:
        look(settings_with(security_protocol="sasl_plaintext", **login), row_at(real_kafka.bootstrap))
    assert "topsecret" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "heals"),
    [
        (KafkaError._RESOLVE, True),
        (KafkaError._ALL_BROKERS_DOWN, True),
        (KafkaError._TIMED_OUT, True),
        (KafkaError.SASL_AUTHENTICATION_FAILED, False),
        (KafkaError.GROUP_AUTHORIZATION_FAILED, False),
        (KafkaError._SSL, False),
        (KafkaError.UNKNOWN, False),
        (KafkaError.NOT_CONTROLLER, True),
        (KafkaError.THROTTLING_QUOTA_EXCEEDED, True),
        (KafkaError.COORDINATOR_NOT_AVAILABLE, True),
        (KafkaError.NOT_ENOUGH_REPLICAS, True),
    ],
)
def test_only_what_heals_by_itself_is_worth_waiting_for(code: int, heals: bool) -> None:
    trouble = explain(KafkaError(code, "broker/bootstrap: what happened (after 3ms in state CONNECT)"))

    assert trouble.heals is heals
    assert "(broker: what happened)" in trouble.line


@pytest.mark.parametrize(
    ("error", "names"),
    [
        ("sasl_ssl://b.example:9093/2: Connect to ipv4#10.0.0.1:9093 failed: Connection refused", "b.example:9093"),
        ("b:1/7: Failed to resolve 'b:1': Name or service not known (after 1ms in state CONNECT)", "b:1"),
        ("b:1/7: Connection setup timed out in state CONNECT (after 30028ms in state CONNECT)", "b:1"),
        ("b:1/7: Disconnected (after 100ms in state UP)", ""),
        ("b:1/bootstrap: Connect to ipv4#10.0.0.1:1 failed: Connection refused", ""),
    ],
)
def test_an_address_that_a_broker_advertises_is_told_from_one_of_the_row(error: str, names: str) -> None:
    line = explain(KafkaError(KafkaError._TRANSPORT, error)).line
    assert ("advertised.listeners" in line) == bool(names)
    assert line.startswith(f"Kafka advertises {names}, which" if names else "Kafka cannot be reached")


# ---------------------------------------------------------------- properties


def test_clients_get_the_users_properties_with_the_brokers_of_the_row() -> None:
    properties = client_properties(settings_with(sasl_username="bob", client_id="mine"), row_at("h:1,i:2"))

    assert properties["bootstrap.servers"] == "h:1,i:2"
    assert properties["sasl.username"] == "bob"
    assert properties["client.id"] == "mine"


@pytest.mark.parametrize(("name", "value"), [("no_such_property", "x"), ("security_protocol", "x"), ("linger_ms", "a")])
def test_a_property_that_the_client_does_not_take_is_named_by_its_variable(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"^KAFKA_{name.upper()}: Kafka's client refuses"):
        look(settings_with(**{name: value}), row_at("h:1"))


def test_a_property_that_the_client_does_not_take_is_named_by_its_key_in_the_row() -> None:
    settings = settings_with().overlaid('{"kafka": {"no.such.property": 1}}')

    with pytest.raises(ConfigError, match=r"^metadatas.kafka.no.such.property: Kafka's client refuses"):
        look(settings, row_at("h:1"))


# ---------------------------------------------------------------- topics and rights


def cluster(**partitions: int) -> Cluster:
    return Cluster(("h:1",), {name.replace("_", "-"): count for name, count in partitions.items()})


def test_a_missing_topic_names_those_that_exist_near_ones_first() -> None:
    exist = cluster(aaa=1, zzz=1, payments=3, payment=3, orders=3)

    (problem,) = missing_topics(row_at("h:1", "orders,paymenst", "aaa"), exist)

    assert "topic paymenst of topics_input does not exist" in problem
    assert "there are: payment, payments, aaa, orders, zzz." in problem
    assert problem.endswith("kafka-topics.sh --bootstrap-server h:1 --create --partitions 3 --topic paymenst")


def test_of_very_many_topics_twenty_are_named() -> None:
    exist = Cluster(("h:1",), {"__consumer_offsets": 50, **{f"t{number:03}": 1 for number in range(100)}})

    (problem,) = missing_topics(row_at("h:1", "absent", ""), exist)

    assert "there are: t000, t001," in problem
    assert "t019, …." in problem
    assert "t020" not in problem
    assert "__consumer" not in problem


def test_equal_partition_counts_are_no_problem_and_outputs_do_not_count() -> None:
    assert unequal_partitions(row_at("h:1"), cluster(a=4, b=4, c=1)) == []


def test_unequal_partition_counts_name_the_topics_and_the_cure() -> None:
    (problem,) = unequal_partitions(row_at("h:1"), cluster(a=4, b=3, c=1))

    assert "a has 4, b has 3" in problem
    assert "make b again with 4 partitions" in problem


def test_topics_of_a_real_broker_are_seen_with_their_partitions(real_kafka: KafkaBroker, topics: Topics) -> None:
    a, b = topics(real_kafka, "a", "b", partitions=3)

    seen = look(settings_with(), row_at(real_kafka.bootstrap, f"{a},{b}", ""))

    assert (seen.partitions[a], seen.partitions[b]) == (3, 3)


def test_looking_for_a_topic_does_not_create_it(kafka: KafkaBroker, topics: Topics) -> None:
    (a,) = topics(kafka, "a")
    row = row_at(kafka.bootstrap, a, f"{a}-absent")

    for _ in range(2):
        [problem] = missing_topics(row, look(settings_with(), row))
        assert problem.startswith(f"topic {a}-absent of topics_output does not exist")
        assert f" there are: {a}" in problem


class SlowAdmin:
    """Of a cluster that has just started, or has just made a topic."""

    def __init__(self) -> None:
        self.knows_after = 2  # questions
        self.asked = 0

    def create_topics(self, topics: Sequence[Any], **_: Any) -> dict[str, "Future[None]"]:
        return {each.topic: done(None) for each in topics}

    def describe_topics(self, topics: Any, **_: Any) -> dict[str, "Future[Any]"]:
        self.asked += 1
        if self.asked > self.knows_after:
            return {"orders-offsets": done(SimpleNamespace())}
        future: Future[Any] = Future()
        future.set_exception(KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)))
        return {"orders-offsets": future}

    def list_topics(self, **_: Any) -> Any:
        self.asked += 1
        brokers = {1: SimpleNamespace(host="h", port=9092)} if self.asked > self.knows_after else {}
        return SimpleNamespace(brokers=brokers, topics={}, cluster_id="mockCluster")  # which has no more to tell


def done(result: Any) -> "Future[Any]":
    future: Future[Any] = Future()
    future.set_result(result)
    return future


@pytest.fixture
def slow_admin(monkeypatch: pytest.MonkeyPatch) -> SlowAdmin:
    admin = SlowAdmin()
    monkeypatch.setattr(preflight, "_admin", lambda *_: admin)
    monkeypatch.setattr("utils.kafka.preflight.time.sleep", lambda _seconds: None)
    return admin


@pytest.mark.parametrize(("only_try", "asked"), [(False, 3), (True, 0)])
def test_a_topic_is_created_when_the_broker_knows_it(slow_admin: SlowAdmin, only_try: bool, asked: int) -> None:
    """Until then it tells no rights to it, and a worker that may not write it took itself for one that may."""
    cluster: Any = SimpleNamespace(embedded=False, partitions={}, admin=None, replicas={})
    assert preflight.provide_map_topic(settings_with(), row_at("h:1"), cluster, only_try=only_try) == []
    assert slow_admin.asked == asked


def test_a_broker_that_starts_and_knows_no_brokers_yet_is_asked_again(slow_admin: SlowAdmin) -> None:
    assert look(settings_with(), row_at("h:1")).brokers == ("h:9092",)
    assert slow_admin.asked == 3


def test_a_broker_without_authorizer_grants_everything(real_kafka: KafkaBroker, topics: Topics) -> None:
    a, b, c = topics(real_kafka, "a", "b", "c")
    row = row_at(real_kafka.bootstrap, f"{a},{b}", c)

    cluster = look(settings_with(), row)
    assert missing_rights(settings_with(), row, cluster, "READ") == []
    assert missing_rights(settings_with(), row, cluster, "WRITE") == []


@pytest.mark.real_kafka
def test_missing_rights_are_named_with_the_command_that_grants_them(
    forbidding_kafka: KafkaBroker, topics: Topics
) -> None:
    a, b, c, hidden = topics(forbidding_kafka, "a", "b", "c", "hidden")
    grant(forbidding_kafka, ResourceType.TOPIC, hidden, AclOperation.ALTER_CONFIGS)
    grant(forbidding_kafka, ResourceType.TOPIC, b, AclOperation.DESCRIBE)
    grant(forbidding_kafka, ResourceType.TOPIC, c, AclOperation.READ)
    grant(forbidding_kafka, ResourceType.GROUP, "orders", AclOperation.DESCRIBE)
    row = row_at(forbidding_kafka.bootstrap, f"{a},{b},{hidden}", c)

    cluster = look(settings_with(), row)

    def seen() -> tuple[list[str] | None, list[str] | None]:
        reading = missing_rights(settings_with(), row, cluster, "READ")
        return reading, missing_rights(settings_with(), row, cluster, "WRITE")

    reading, writing = eventually(seen, lambda both: both[0] is not None and len(both[0]) == 3 and both[1] != [])

    assert reading is not None
    assert [problem.partition(":")[0] for problem in reading] == [
        f"no right to READ topic {b}",
        f"no right to READ topic {hidden}",
        "no right to READ group orders",
    ]
    assert reading[0].endswith(f"--allow-principal 'User:…' --operation Read --topic {b}")
    assert writing is not None
    assert [problem.partition(":")[0] for problem in writing] == [f"no right to WRITE topic {c}"]


@pytest.mark.real_kafka
def test_a_topic_of_dead_letters_that_may_not_be_created_names_the_command_and_how_to_do_without(
    forbidding_kafka: KafkaBroker, topics: Topics
) -> None:
    a, b = topics(forbidding_kafka, "a", "b", partitions=3)
    row = row_at(forbidding_kafka.bootstrap, f"{a},{b}", "")
    settings = Settings.read({"CONSUMER_NAME": a, "DATABASE_URL": "sqlite:///rows.db"})
    grant(forbidding_kafka, ResourceType.TOPIC, f"{a}-dlq", AclOperation.READ)

    def provide(only_try: bool) -> list[str]:
        return provide_dead_letter_topic(settings, row, Cluster((), {a: 3, b: 3}), only_try=only_try)

    with no_right_to_create(forbidding_kafka):
        [problem] = eventually(lambda: provide(only_try=True), lambda found: found != [])
        assert provide(only_try=False) == [problem]
    assert f"topic {a}-dlq for dead letters is missing and cannot be created" in problem
    create = f"kafka-topics.sh --bootstrap-server {forbidding_kafka.bootstrap} --create --topic {a}-dlq"
    assert f"{create} --partitions 3 --config cleanup.policy=delete --config retention.ms=-1" in problem
    assert "an empty DLQ_TOPIC" in problem


@pytest.mark.real_kafka
def test_a_topic_that_this_user_may_not_see_says_so(forbidding_kafka: KafkaBroker, topics: Topics) -> None:
    (hidden,) = topics(forbidding_kafka, "hidden")
    grant(forbidding_kafka, ResourceType.TOPIC, hidden, AclOperation.ALTER_CONFIGS)
    row = row_at(forbidding_kafka.bootstrap, hidden, "")

    problems = eventually(lambda: missing_topics(row, look(settings_with(), row)), lambda found: found != [])

    assert "does not exist, or this user may not see it" in problems[0]


def test_the_topic_of_dead_letters_is_created_once_and_not_by_a_try(real_kafka: KafkaBroker, topics: Topics) -> None:
    (a,) = topics(real_kafka, "a", partitions=3)
    row = row_at(real_kafka.bootstrap, a, "")
    settings = Settings.read(
        {"CONSUMER_NAME": a, "DATABASE_URL": "sqlite:///rows.db", "DLQ_TOPIC": "failed-<consumer_name>"}
    )
    before = look(settings, row)
    assert provide_dead_letter_topic(settings, row, before, only_try=True) == []
    assert f"failed-{a}" not in look(settings, row).partitions
    for _ in range(2):  # as if another worker had done it in between
        assert provide_dead_letter_topic(settings, row, before) == []
    assert eventually(lambda: look(settings, row).partitions.get(f"failed-{a}"), bool) == 3


def test_nothing_of_how_long_dead_letters_are_kept_is_left_to_the_defaults_of_the_brokers(
    real_kafka: KafkaBroker, topics: Topics
) -> None:
    """Their `log.retention.bytes` held, so that dead letters vanished, and with `log.cleanup.policy=compact` the next
    start refused the topic.
    """
    (a,) = topics(real_kafka, "a")
    row, settings = row_at(real_kafka.bootstrap, a, ""), replace(settings_with(), dlq_topic=f"letters-{a}")
    assert provide_dead_letter_topic(settings, row, look(settings, row)) == []
    eventually(lambda: look(settings, row), lambda cluster: settings.dead_letters in cluster.partitions)
    admin = AdminClient({"bootstrap.servers": real_kafka.bootstrap})
    [described] = admin.describe_configs([ConfigResource(ResourceType.TOPIC, settings.dead_letters)]).values()
    kept = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
    assert {
        name: each.value for name, each in described.result().items() if name in kept and not each.is_default
    } == kept


def test_a_topic_whose_name_collides_needs_another_name(real_kafka: KafkaBroker, topics: Topics) -> None:
    """For Kafka's metrics a.b and a_b are one: no command could create it."""
    (there,) = topics(real_kafka, "a.b")
    row = row_at(real_kafka.bootstrap, there, "")
    settings = replace(settings_with(), dlq_topic=there.replace(".", "_"))
    [problem] = provide_dead_letter_topic(settings, row, look(settings, row), only_try=True)
    assert problem.startswith(f"topic {settings.dlq_topic} for dead letters is missing and cannot be created (")
    assert "collides" in problem
    assert "choose another name (DLQ_TOPIC, CONSUMER_NAME)" in problem
    assert "--create" not in problem


def test_no_topic_of_dead_letters_is_wanted_where_it_is_switched_off_and_none_may_be_an_input() -> None:
    off = Settings.read({"CONSUMER_NAME": "orders", "DATABASE_URL": "sqlite:///rows.db", "DLQ_TOPIC": ""})
    nobody = f"127.0.0.1:{free_port()}"
    assert provide_dead_letter_topic(off, row_at(nobody), Cluster((), {})) == []
    [problem] = provide_dead_letter_topic(settings_with(), row_at(nobody, "a,orders-dlq"), Cluster((), {}))
    assert problem.startswith("DLQ_TOPIC is orders-dlq, which the row names too")


def test_dead_letters_are_not_kept_among_the_maps() -> None:
    among = Settings.read(
        {
            "CONSUMER_NAME": "orders",
            "DATABASE_URL": "sqlite:///rows.db",
            "DLQ_TOPIC": "<consumer_name>-offsets",
        }
    )
    [problem] = provide_dead_letter_topic(among, row_at(f"127.0.0.1:{free_port()}"), Cluster((), {}))
    assert problem.startswith("DLQ_TOPIC is orders-offsets, where the worker keeps its maps")


@pytest.mark.parametrize("policy", ["compact", "compact,delete"])
def test_a_compacted_topic_of_dead_letters_is_a_problem_with_its_cure(
    real_kafka: KafkaBroker, topics: Topics, policy: str
) -> None:
    (a, kept), (compacted,) = (
        topics(real_kafka, "a", "kept"),
        topics(real_kafka, "dlq", config={"cleanup.policy": policy}),
    )
    row = row_at(real_kafka.bootstrap, a, "")
    told, well = (replace(settings_with(), dlq_topic=topic) for topic in (compacted, kept))

    [problem] = provide_dead_letter_topic(told, row, look(told, row))

    assert problem.startswith(f"topic {compacted} (DLQ_TOPIC) must not be compacted")
    assert problem.endswith(
        f"--entity-name {compacted} --add-config cleanup.policy=delete,retention.ms=-1,retention.bytes=-1"
    )
    assert provide_dead_letter_topic(well, row, look(well, row)) == []


def test_a_topic_of_dead_letters_that_are_deleted_after_a_time_is_told_with_its_cure(
    real_kafka: KafkaBroker, topics: Topics
) -> None:
    (a,), (short,) = topics(real_kafka, "a"), topics(real_kafka, "dlq", config={"retention.ms": "60000"})
    (kept,) = topics(real_kafka, "kept", config=DEAD_LETTER_TOPIC)
    row = row_at(real_kafka.bootstrap, a, "")
    told = _forgotten(short, row)
    assert told.startswith(f"dead letters vanish by themselves: topic {short} has retention.ms=60000: kafka-configs.sh")
    assert told.endswith("--add-config retention.ms=-1")
    assert _forgotten(kept, row) == ""
    assert _forgotten("", row) == ""


def _forgotten(topic: str, row: Row) -> str:
    settings = replace(settings_with(), dlq_topic=topic)
    return forgotten_dead_letters(settings, row, look(settings, row).configs)


def test_a_broker_that_does_not_tell_rights_leaves_them_open(embedded_kafka: KafkaBroker, topics: Topics) -> None:
    (a,) = topics(embedded_kafka, "a")

    assert missing_rights(settings_with(), row_at(embedded_kafka.bootstrap, a, ""), Cluster((), {}), "READ") is None


# ---------------------------------------------------------------- the topic of maps


def map_topic_of(row: Row, *, only_try: bool = False) -> list[str]:
    return provide_map_topic(settings_with(), row, look(settings_with(), row), only_try=only_try)


def test_the_topic_of_maps_is_created_compacted_and_found_the_next_time(real_kafka: KafkaBroker) -> None:
    row = row_at(real_kafka.bootstrap, name=unique_name("orders"))
    topic = f"{row.consumer_name}-offsets"

    assert map_topic_of(row, only_try=True) == []
    assert topic not in look(settings_with(), row).partitions
    assert map_topic_of(row) == []

    seen = eventually(lambda: look(settings_with(), row), lambda cluster: topic in cluster.partitions)
    assert seen.partitions[topic] == 1
    resource = ConfigResource(ResourceType.TOPIC, topic)
    admin = AdminClient({"bootstrap.servers": real_kafka.bootstrap})
    [described] = admin.describe_configs([resource]).values()
    assert described.result()["cleanup.policy"].value == "compact"
    assert map_topic_of(row) == []


def test_two_workers_that_create_it_at_once_both_have_it(real_kafka: KafkaBroker) -> None:
    row = row_at(real_kafka.bootstrap, name=unique_name("orders"))
    before = look(settings_with(), row)

    assert [provide_map_topic(settings_with(), row, before) for _ in range(2)] == [[], []]


def test_a_topic_of_maps_that_deletes_by_age_is_a_problem_with_its_cure(real_kafka: KafkaBroker) -> None:
    row = row_at(real_kafka.bootstrap, name=unique_name("orders"))
    real_kafka.create_topic(f"{row.consumer_name}-offsets", 1, {"cleanup.policy": "delete"})

    [problem] = map_topic_of(row)

    assert "must be compacted" in problem
    assert problem.endswith(f"--entity-name {row.consumer_name}-offsets --add-config cleanup.policy=compact")


def test_the_embedded_broker_makes_the_topic_of_maps_by_itself(embedded_kafka: KafkaBroker) -> None:
    assert map_topic_of(row_at(embedded_kafka.bootstrap)) == []


@pytest.mark.real_kafka
def test_a_topic_of_maps_that_may_not_be_created_comes_with_the_command(forbidding_kafka: KafkaBroker) -> None:
    row = row_at(forbidding_kafka.bootstrap, name=unique_name("orders"))
    topic = f"{row.consumer_name}-offsets"
    grant(forbidding_kafka, ResourceType.TOPIC, topic, AclOperation.READ)

    with no_right_to_create(forbidding_kafka):
        [problem] = eventually(lambda: map_topic_of(row, only_try=True), lambda found: found != [])
        assert map_topic_of(row) == [problem]

    assert f"topic {topic} for maps of waiting messages is missing and cannot be created" in problem
    assert (
        f"kafka-topics.sh --bootstrap-server {row.bootstrap_servers} --create --topic {topic} --partitions 1" in problem
    )
    assert "--config cleanup.policy=compact" in problem


@contextmanager
def no_right_to_create(broker: KafkaBroker) -> Iterator[None]:
    """Everybody may do some things with the cluster, and so nobody may do others."""
    kept = (AclOperation.CLUSTER_ACTION, AclOperation.ALTER)
    cluster = ResourceType.BROKER, "kafka-cluster", ResourcePatternType.LITERAL, "User:*", "*"
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    acls = [AclBinding(*cluster, operation, AclPermissionType.ALLOW) for operation in kept]
    for future in admin.create_acls(acls).values():
        future.result(60)
    yield
    every = AclBindingFilter(*cluster, AclOperation.ANY, AclPermissionType.ANY)
    for removed in admin.delete_acls([every]).values():
        assert len(removed.result(60)) == len(kept)


# ---------------------------------------------------------------- what fits into a commit


@pytest.mark.parametrize(("told", "characters"), [(None, 4095), (4096, 4095), (1024, 1023), (512, 511)])
def test_a_map_may_be_as_long_as_the_brokers_tell_less_the_character_that_the_client_adds(
    told: int | None, characters: int
) -> None:
    limits = commit_limits(settings_with(), row_at("h:1"), Cluster((), {}, metadata_limit=told))
    assert (limits.metadata, limits.told) == (characters, told is not None)


def test_brokers_that_take_hardly_any_metadata_are_named_with_the_cure() -> None:
    with pytest.raises(ConfigError, match=r"offset\.metadata\.max\.bytes of the brokers is 100.*set it to 512"):
        commit_limits(settings_with(), row_at("h:1"), Cluster((), {}, metadata_limit=100))


@pytest.mark.parametrize(
    ("given", "topic", "record"),
    [({}, {}, 1_000_000), ({"message_max_bytes": "50000"}, {}, 50_000), ({}, {"max.message.bytes": "70000"}, 70_000)],
)
def test_a_map_goes_into_records_that_the_client_and_its_topic_take(
    given: dict[str, str], topic: dict[str, str], record: int
) -> None:
    row = row_at("h:1")
    cluster = Cluster((), {}, configs={map_topic(row.consumer_name): topic})
    assert commit_limits(settings_with(**given), row, cluster).record == record


class ManyBrokers:
    """An admin client of brokers with these settings. As the real one it takes one broker a request (measured)."""

    def __init__(self, *settings: dict[str, str]) -> None:
        self.settings = settings

    def list_topics(self, timeout: float) -> Any:
        brokers = {number: SimpleNamespace(host="kafka", port=9092 + number) for number in range(len(self.settings))}
        return SimpleNamespace(brokers=brokers, cluster_id="real", topics={})

    def describe_configs(self, asked: Sequence[Any], request_timeout: float) -> dict[Any, Future[Any]]:
        [broker] = asked
        answer: Future[Any] = Future()
        if found := self.settings[int(broker.name)]:
            answer.set_result({name: SimpleNamespace(value=value) for name, value in found.items()})
        else:
            answer.set_exception(KafkaException(KafkaError(KafkaError.CLUSTER_AUTHORIZATION_FAILED)))
        return {broker: answer}

    def poll(self, timeout: float) -> None: ...


@pytest.mark.parametrize(("replicas", "wanted"), [({"a": 3, "b": 2}, 2), ({"a": 1, "b": 3}, -1), ({"a": 3}, -1)])
def test_the_workers_own_topics_have_as_many_replicas_as_its_inputs(
    monkeypatch: pytest.MonkeyPatch, replicas: dict[str, int], wanted: int
) -> None:
    """The default of brokers is one: with that broker the dead letters were gone, and the worker stood still."""
    created: list[Any] = []

    class Creating(SlowAdmin):
        def create_topics(self, topics: Sequence[Any], **options: Any) -> dict[str, "Future[None]"]:
            created.extend(topics)
            return super().create_topics(topics, **options)

    cluster = Cluster(("h:1",), {"a": 3, "b": 3}, replicas=replicas, admin=cast(AdminClient, Creating()))
    for provide in (provide_dead_letter_topic, provide_map_topic):
        assert provide(settings_with(), row_at("h:1"), cluster, only_try=True) == []
    assert [each.replication_factor for each in created] == [wanted, wanted]


@pytest.mark.parametrize(("replicas", "told"), [(3, " --replication-factor 3"), (1, "")])
def test_the_command_that_creates_a_topic_gives_it_as_many_replicas_as_the_inputs_have(
    replicas: int, told: str
) -> None:
    """The default of brokers is one, and the next `check` told who had followed the line that it is too few."""

    class Forbidding(SlowAdmin):
        def create_topics(self, topics: Sequence[Any], **_: Any) -> dict[str, "Future[None]"]:
            future: Future[None] = Future()
            future.set_exception(KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)))
            return {each.topic: future for each in topics}

    row, of_inputs = row_at("h:1", "a,b", "out"), {"a": replicas, "b": replicas}
    cluster = Cluster(("h:1",), {"a": 3, "b": 3}, replicas=of_inputs, admin=cast(AdminClient, Forbidding()))
    [maps] = provide_map_topic(settings_with(), row, cluster)
    assert f": kafka-topics.sh --bootstrap-server h:1 --create --topic orders-offsets --partitions 1{told} --c" in maps
    [letters] = provide_dead_letter_topic(settings_with(), row, cluster)
    kept = "--config cleanup.policy=delete --config retention.ms=-1 --config retention.bytes=-1"
    assert f" --create --topic orders-dlq --partitions 3{told} {kept}" in letters
    [output] = missing_topics(row, cluster)
    assert output.endswith(f"kafka-topics.sh --bootstrap-server h:1 --create --partitions 3{told} --topic out")
    half = Cluster(("h:1",), {"a": 3, "out": 1}, replicas={"a": replicas, "out": 1})
    [other] = missing_topics(row, half)
    assert other.endswith(f" --create --partitions 3{told} --topic b")


@pytest.mark.parametrize("code", [KafkaError.POLICY_VIOLATION, KafkaError.INVALID_CONFIG])
def test_brokers_that_let_nobody_set_segments_get_a_topic_of_maps_with_what_is_needed_alone(code: int) -> None:
    """Of Confluent Cloud. With exactly_once no worker began, and the command of the line was refused, too."""

    class Managed(SlowAdmin):
        allowed: frozenset[str] = frozenset()
        made: Mapping[str, str] = MappingProxyType({})

        def create_topics(self, topics: Sequence[Any], **options: Any) -> dict[str, "Future[None]"]:
            [topic] = topics
            if topic.config.keys() <= self.allowed:
                self.made = topic.config
                return super().create_topics(topics, **options)
            future: Future[None] = Future()
            future.set_exception(KafkaException(KafkaError(code, "lower than the minimum allowed value")))
            return {topic.topic: future}

    managed = Managed()
    cluster = Cluster(("h:1",), {"a": 3, "b": 3}, admin=cast(AdminClient, managed))
    [problem] = provide_map_topic(settings_with(), row_at("h:1"), cluster, only_try=True)
    assert "lower than the minimum" in problem
    assert problem.endswith(" --create --topic orders-offsets --partitions 1 --config cleanup.policy=compact")
    managed.allowed = frozenset({"cleanup.policy"})
    assert provide_map_topic(settings_with(), row_at("h:1"), cluster, only_try=True) == []
    assert managed.made == {"cleanup.policy": "compact"}
    managed.allowed |= {"min.compaction.lag.ms"}
    assert provide_map_topic(settings_with(), row_at("h:1"), cluster, only_try=True) == []
    assert managed.made.keys() == managed.allowed
    [letters] = provide_dead_letter_topic(settings_with(), row_at("h:1"), cluster, only_try=True)
    by_hand = "--create --topic orders-dlq --partitions 3 --config cleanup.policy=delete --config retention.ms=…; or do"
    assert by_hand in letters, "the command of the line was refused, too; and without it letters vanish after a week"


def test_a_topic_of_its_own_with_fewer_replicas_is_named() -> None:
    replicas = {"a": 3, "b": 3, "orders-dlq": 1, "orders-offsets": 3}
    cluster = Cluster(("h:1",), {"a": 3, "b": 3}, replicas=replicas)
    told = preflight.fewer_replicas(row_at("h:1"), cluster, "orders-dlq")
    assert told.startswith("topic orders-dlq has 1 replica, the input topics have 3: ")
    assert preflight.fewer_replicas(row_at("h:1"), cluster, "orders-offsets") == ""
    assert preflight.fewer_replicas(row_at("h:1"), cluster, "not there") == ""


def test_where_not_enough_brokers_are_there_for_its_topics_a_worker_waits() -> None:
    class Refusing(SlowAdmin):
        def create_topics(self, topics: Sequence[Any], **_: Any) -> dict[str, "Future[None]"]:
            future: Future[None] = Future()
            future.set_exception(KafkaException(KafkaError(KafkaError.INVALID_REPLICATION_FACTOR)))
            return {each.topic: future for each in topics}

    cluster = Cluster(("h:1",), {"a": 3, "b": 3}, replicas={"a": 3, "b": 3}, admin=cast(AdminClient, Refusing()))
    with pytest.raises(UnavailableError, match="topic orders-offsets is missing, and not enough brokers are there"):
        provide_map_topic(settings_with(), row_at("h:1"), cluster)


def test_the_command_of_a_cure_is_no_other_command_whoever_the_user_is() -> None:
    settings = replace(settings_with(), kafka={"sasl.username": "x' ; touch y #"})
    command = preflight._grant(settings, row_at("kafka:9092"), "READ")
    assert shlex.split(command)[5:7] == ["User:x' ; touch y #", "--operation"]


def test_what_holds_for_each_of_several_brokers_holds_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    timeouts = [{f"group.{end}.session.timeout.ms": value} for end, value in (("min", "6000"), ("max", "60000"))]
    first = {"offset.metadata.max.bytes": "4096", "offsets.retention.minutes": "10080", **timeouts[0], **timeouts[1]}
    second = {**first, "offset.metadata.max.bytes": "1024", "group.min.session.timeout.ms": "8000"}
    second["offsets.retention.minutes"] = "1440"
    monkeypatch.setattr(preflight, "_admin", lambda *_: ManyBrokers(first, second, {}))
    cluster = look(settings_with(), row_at("kafka:9092"))
    assert (cluster.metadata_limit, cluster.session_timeouts) == (1024, (8000, 60000))
    assert cluster.commits_stay == 86_400
    monkeypatch.setattr(preflight, "_admin", lambda *_: ManyBrokers({}, {}))
    cluster = look(settings_with(), row_at("kafka:9092"))
    assert (cluster.metadata_limit, cluster.session_timeouts, cluster.commits_stay) == (None, None, None)


class SlowBrokers(ManyBrokers):
    """Which have so many topics that to name them takes more than a second."""

    def list_topics(self, timeout: float) -> Any:
        if timeout < 1.5:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return super().list_topics(timeout)


def test_brokers_that_take_longer_than_a_second_to_name_their_topics_are_not_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(preflight, "_admin", lambda *_: SlowBrokers({}))
    assert look(settings_with(), row_at("kafka:9092")).brokers == ("kafka:9092",)
