"""What the clients' errors mean, and what they log."""

import logging
import threading
from collections import Counter
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from config import ConfigError, Settings, UnavailableError
from framework import Worker
from models import Row
from tests.fakes import FakeAdmin
from tests.integration.workers import eventually
from tests.services.certificates import Authority
from utils.kafka.clients import (
    SESSION_TIMEOUT_MS,
    TRANSACTION_TIMEOUT_MS,
    client_properties,
    concerns_all,
    consumer,
    cure_of,
    explain,
    fetches,
    is_place_taken,
    is_replaced,
    largest_record,
    named_properties,
    producer,
    queue_room,
    tls_fails,
    tls_files,
    try_properties,
    wrong_tls_files,
)
from utils.kafka.limits import RECORD_OVERHEAD
from utils.logger import logger
from utils.metrics import Counters
from utils.running.supervision import supervise
from utils.sending.outbox import DeliveryFailed

FENCED = KafkaError(KafkaError.FENCED_INSTANCE_ID)
FATAL = KafkaError(KafkaError._FATAL, f"Fatal error: {FENCED.str()}: OffsetCommit failed: {FENCED.str()}")  # as seen


def aborted(reason: KafkaError) -> DeliveryFailed:
    error = DeliveryFailed("transaction aborted")
    error.__cause__ = KafkaException(reason)
    return error


@pytest.mark.parametrize("error", [KafkaException(FENCED), KafkaException(FATAL), aborted(FENCED)])
def test_a_worker_is_replaced_when_a_client_says_so_in_whatever_way(error: Exception) -> None:
    assert is_replaced(error)


@pytest.mark.parametrize(
    ("error", "cure"),
    [
        (KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)), "main.py check names it"),
        (aborted(KafkaError(KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED)), "main.py check names it"),
        (KafkaException(KafkaError(KafkaError.INVALID_SESSION_TIMEOUT)), "KAFKA_SESSION_TIMEOUT_MS"),
        (aborted(KafkaError(KafkaError.INVALID_TRANSACTION_TIMEOUT)), "KAFKA_TRANSACTION_TIMEOUT_MS"),
        (KafkaException(FENCED), "GROUP_INSTANCE_ID"),
    ],
)
def test_what_does_not_heal_has_a_cure(error: Exception, cure: str) -> None:
    assert cure in cure_of(error)


@pytest.mark.parametrize("reason", ["ssl alert number 45", "unable to get local issuer certificate"])
def test_of_files_that_were_renewed_it_is_said_when_they_are_taken(reason: str) -> None:
    """A worker that was refused for a certificate of old told its reader to check the new one, which was good."""
    trouble = explain(KafkaError(KafkaError._SSL, f"SSL handshake failed: {reason}"))
    assert "where it was renewed, a worker takes it within CONFIG_REFRESH" in trouble.line


@pytest.mark.parametrize(
    ("reason", "cure"),
    [
        ("tlsv1 alert protocol version: SSL alert number 70", "has no version of TLS that this worker takes"),
        ("error:0A000102:SSL routines::unsupported protocol", "has no version of TLS that this worker takes"),
        ("certificate is not yet valid", "set the clock of this machine"),
    ],
)
def test_a_clock_that_is_behind_or_a_tls_too_old_is_no_matter_of_the_files(reason: str, cure: str) -> None:
    """It was said that they are to be checked."""
    trouble = explain(KafkaError(KafkaError._SSL, f"SSL handshake failed: {reason}"))
    assert cure in trouble.line
    assert "_LOCATION" not in trouble.line


@pytest.mark.parametrize("name", ["kafka-alerts.example", "alert", "mismatch.example"])
@pytest.mark.parametrize(
    ("reason", "cure"),
    [
        (
            "ssl://NAME:9093/bootstrap: SSL handshake failed: certificate verify failed: …",
            "check KAFKA_SSL_CA_LOCATION",
        ),
        ("Hostname mismatch, certificate is not valid for 'NAME'.", "its certificate is for another name"),
        (
            "ssl://NAME:9093/1: SSL routines::ssl/tls alert bad certificate",
            "a certificate of this",
        ),
    ],
)
def test_no_cause_of_tls_is_seen_in_the_name_of_a_broker(reason: str, cure: str, name: str) -> None:
    """A broker `kafka-alerts` with a wrong CA was said to want a certificate of this worker."""
    assert cure in tls_fails(reason.replace("NAME", name)).line


@pytest.mark.parametrize("name", ["kafka-setup", "resolve", "Connect"])
def test_a_broker_that_ends_a_connection_is_reached_whatever_its_name_is(name: str) -> None:
    disconnected = KafkaError(KafkaError._TRANSPORT, f"{name}:9092/1: Disconnected (after 3000ms in state UP)")
    assert "Kafka cannot be reached" in explain(disconnected).line
    for reason in (
        "Connect to ipv4#10.0.0.1:9092 failed: refused",
        "Failed to resolve 'h:9092'",
        "Connection setup timed",
    ):
        assert "Kafka advertises h:9092" in explain(KafkaError(KafkaError._TRANSPORT, f"h:9092/1: {reason}")).line


def test_files_of_tls_are_known_by_what_is_in_them(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    worker, other = authority.issue("worker"), authority.issue("other")
    environ = {"CONSUMER_NAME": "orders", "DATABASE_URL": "sqlite:///rows.db", "KAFKA_SSL_CA_LOCATION": str(tmp_path)}
    environ |= {"KAFKA_SSL_CERTIFICATE_LOCATION": str(worker.cert), "KAFKA_SSL_KEY_LOCATION": str(worker.key)}
    given = Settings.read({**environ, "KAFKA_SECURITY_PROTOCOL": "SSL"})
    before = tls_files(given)
    assert before == {**tls_files(given), "ssl.ca.location": ""}, "a directory has no digest"
    worker.cert.write_bytes(other.cert.read_bytes())
    assert [name for name, digest in tls_files(given).items() if digest != before[name]] == ["ssl.certificate.location"]
    assert wrong_tls_files(given), "its key is that of the other one yet"
    worker.key.write_bytes(other.key.read_bytes())
    assert not wrong_tls_files(given)
    assert tls_files(Settings.read(environ)) == {}, "nobody reads them"


@pytest.mark.parametrize(
    ("answer", "heals", "cure"),
    [
        ("Failed to connect to 127.0.0.1:28098 after 0 ms: Could not connect to server", True, "TOKEN_ENDPOINT_URL"),
        ("Could not resolve host: id.example", True, "TOKEN_ENDPOINT_URL"),
        ("Response is not JSON encoded: (n/a)", True, "TOKEN_ENDPOINT_URL"),
        ('{"error":"invalid_client","error_description":"Bad secret"}', False, "CLIENT_SECRET"),
    ],
)
def test_a_token_that_cannot_be_had_is_waited_for_unless_it_is_refused(answer: str, heals: bool, cure: str) -> None:
    """What the client says (2.16.1) where its own endpoint of OIDC is away, and where that refuses it."""
    text = f"Failed to acquire SASL OAUTHBEARER token: {answer}"
    trouble = explain(KafkaError(KafkaError._AUTHENTICATION, text))
    assert trouble.heals is heals
    assert cure in trouble.line
    assert "USERNAME" not in trouble.line


def test_a_token_that_the_broker_refuses_does_not_heal() -> None:
    text = 'SASL OAUTHBEARER authentication failed (principal=p): {"status":"invalid_token"}'
    trouble = explain(KafkaError(KafkaError.SASL_AUTHENTICATION_FAILED, text))
    assert (trouble.heals, "KAFKA_SASL_OAUTHBEARER_CLIENT_ID" in trouble.line) == (False, True)


def test_what_answers_in_another_protocol_is_no_kafka() -> None:
    """An HTTP port, say: the client reads "HTTP" as a size, and advises to take larger answers."""
    reason = "h:8080/bootstrap: Receive failed: Invalid response size 1213486160 (0..100000000): increase receive.mes"
    trouble = explain(KafkaError(KafkaError._BAD_MSG, reason))
    assert not trouble.heals
    assert trouble.line.startswith("what answers is no Kafka: check kafka_bootstrap_server of the row (")
    assert "increase" not in trouble.line


@pytest.mark.parametrize(
    ("error", "does"),
    [
        (aborted(KafkaError(KafkaError.INVALID_TIMESTAMP)), True),
        (KafkaException(KafkaError(KafkaError._TIMED_OUT)), True),
        (aborted(KafkaError(KafkaError.INVALID_RECORD)), False),
        (KafkaException(KafkaError(KafkaError.POLICY_VIOLATION)), False),
        (DeliveryFailed("not even the sources fit"), True),
        (MemoryError(), True),
    ],
)
def test_whether_a_failure_concerns_all_records(error: Exception, does: bool) -> None:
    assert concerns_all(error) == does


@pytest.mark.parametrize("code", [KafkaError._TRANSPORT, KafkaError._AUTHENTICATION, KafkaError.UNKNOWN_MEMBER_ID])
def test_what_may_heal_by_itself_has_none(code: int) -> None:
    assert cure_of(aborted(KafkaError(code))) == cure_of(ValueError("broken")) == ""


@pytest.mark.parametrize(
    "error",
    [
        KafkaException(KafkaError(KafkaError._FENCED)),  # also a transaction that took too long ends so
        KafkaException(KafkaError(KafkaError.UNKNOWN_MEMBER_ID)),
        aborted(KafkaError(KafkaError._FENCED)),
        ValueError("group.instance.id"),
        None,
    ],
)
def test_no_other_error_means_that_a_worker_is_replaced(error: Exception | None) -> None:
    assert not is_replaced(error)


@dataclass(frozen=True)
class Member:
    member_id: str
    group_instance_id: str | None


@pytest.mark.parametrize(
    ("members", "taken"),
    [
        ([Member("ours", "first"), Member("another", "second")], False),
        ([Member("another", "first"), Member("third", None)], True),
        ([Member("third", None)], False),  # the group has missed us
        (KafkaException(KafkaError(KafkaError._TIMED_OUT)), False),
    ],
)
def test_whether_another_member_has_our_instance_id_is_asked_of_the_group(
    members: list[Member] | KafkaException, taken: bool
) -> None:
    admin = FakeAdmin(members=members)
    settings = Settings(consumer_name="orders", group_instance_id="first")
    assert is_place_taken(cast(AdminClient, admin), settings, "ours") == taken
    assert admin.asked == ["orders"]


def test_who_is_no_member_or_has_no_instance_id_has_no_place_that_could_be_taken() -> None:
    admin = FakeAdmin(members=[Member("another", "first")])
    assert not is_place_taken(cast(AdminClient, admin), Settings(group_instance_id="first"), "")
    assert not is_place_taken(cast(AdminClient, admin), Settings(), "ours")
    assert not admin.asked


def test_a_replaced_worker_does_not_start_again() -> None:
    built: list[None] = []

    class Replaced:
        intake = SimpleNamespace(owned=SimpleNamespace(former={}, has_progressed=False))

        def run(self) -> None:
            raise aborted(FENCED)

    def build(_clients: ExitStack) -> Worker:
        built.append(None)
        return cast(Worker, Replaced())

    with pytest.raises(ConfigError, match="GROUP_INSTANCE_ID"):
        supervise(build, Counters(), threading.Event())
    assert len(built) == 1


@pytest.mark.parametrize(
    ("transactional_id", "linger", "backoff"), [("", 0, None), ("orders-1", 2500, 20)], ids=["at least once", "exactly"]
)
def test_results_leave_soon_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, transactional_id: str, linger: int, backoff: int | None
) -> None:
    made: list[dict[str, object]] = []
    monkeypatch.setattr("utils.kafka.clients.Producer", made.append)
    producer({}, lambda *_: None, transactional_id)
    producer({"linger.ms": "7", "retry.backoff.ms": "70"}, lambda *_: None, transactional_id)
    assert [each.get("linger.ms") for each in made] == [linger, "7"]
    assert [each.get("retry.backoff.ms") for each in made] == [backoff, "70"]


def test_one_request_is_on_its_way_at_a_time_where_batches_may_be_of_a_few_records(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else the client may lose some, exactly once: tests/integration/test_refused_requests.py."""
    made: list[dict[str, object]] = []
    monkeypatch.setattr("utils.kafka.clients.Producer", made.append)
    producer({}, lambda *_: None, "orders-1")
    assert "max.in.flight" not in made.pop()
    for name in ("batch.size", "batch.num.messages", "message.max.bytes", "linger.ms"):
        producer({name: "7"}, lambda *_: None, "orders-1")
    producer({}, lambda *_: None, "orders-1", batch_size=1)
    producer({}, lambda *_: None)
    assert [each["max.in.flight"] for each in made] == [1] * 6


def test_a_topic_that_is_gone_is_told_before_a_transaction_is_over_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the client's own 30 s it had "timed out" by then, and nobody knew what was gone."""
    made: list[dict[str, Any]] = []
    monkeypatch.setattr("utils.kafka.clients.Producer", made.append)
    producer({}, lambda *_: None)
    producer({}, lambda *_: None, "orders-1")
    for each in made:
        assert each["topic.metadata.propagation.max.ms"] < each["message.timeout.ms"]
    producer({"topic.metadata.propagation.max.ms": "7"}, lambda *_: None, "orders-1")
    assert made[-1]["topic.metadata.propagation.max.ms"] == "7"


def test_results_that_get_no_answer_have_time_for_a_second_try_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A broker that had vanished without a word, or a quiet connection, cost a minute and a restart."""
    made: list[dict[str, Any]] = []
    monkeypatch.setattr("utils.kafka.clients.Producer", made.append)
    producer({}, lambda *_: None)
    producer({"socket.timeout.ms": "7", "connections.max.idle.ms": "0"}, lambda *_: None)
    producer({}, lambda *_: None, "orders-1")
    by_us, by_user, transactional = made
    assert 2 * by_us["socket.timeout.ms"] < by_us["message.timeout.ms"]
    assert 0 < by_us["connections.max.idle.ms"] < 240_000
    assert (by_user["socket.timeout.ms"], by_user["connections.max.idle.ms"]) == ("7", "0")
    assert not {"socket.timeout.ms", "connections.max.idle.ms"} & transactional.keys(), "the client sets it by itself"


def test_the_log_tells_what_clients_warn_of_but_not_that_a_property_belongs_to_the_other_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    row = Row.validated("orders", "a,b", "c", "127.0.0.1:1")
    properties = client_properties(Settings(kafka={"session.timeout.ms": "9000"}), row)
    client = producer(properties, lambda *_: None)
    logger.getChild("kafka").warning("CONFWARN: something else")
    client.flush(0)  # the client hands its own lines over here
    warnings = [record.getMessage() for record in caplog.records if "CONFWARN" in record.getMessage()]
    assert warnings == ["CONFWARN: something else"]


def test_a_line_that_a_client_repeats_is_logged_once_but_not_one_of_its_debugging(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Without a thread to be had for a broker it comes some 50 times a second, for each."""
    caplog.set_level(logging.DEBUG, "consumer")
    client_properties(Settings(), Row.validated("orders", "a,b", "c", "127.0.0.1:1"))
    for _ in range(3):
        for broker in (1, 2):
            logger.getChild("kafka").critical("THREAD: no thread for broker %s", broker)
        logger.getChild("kafka").debug("FETCH: nothing")
    told = Counter(record.getMessage() for record in caplog.records)
    assert told == {"THREAD: no thread for broker 1": 1, "THREAD: no thread for broker 2": 1, "FETCH: nothing": 3}


def test_a_login_in_the_address_of_a_token_endpoint_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    properties = {
        "security.protocol": "sasl_plaintext",
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.token.endpoint.url": "http://bob:topsecret@127.0.0.1:1/token",
        "sasl.oauthbearer.client.id": "id",
        "sasl.oauthbearer.client.secret": "alsosecret",
    }
    client = producer(client_properties(Settings(kafka=properties), Row.validated("o", "a", "b", "127.0.0.1:1")), print)
    eventually(lambda: [client.poll(0.05), "Failed to retrieve OIDC token" in caplog.text][1], "its line")
    assert "http://***@127.0.0.1:1/token" in caplog.text
    assert "topsecret" not in caplog.text
    assert "alsosecret" not in caplog.text


@pytest.mark.parametrize(
    ("given", "is_refused"),
    [
        ({"transaction.timeout.ms": "10000"}, False),
        ({"transaction.timeout.ms": "10001"}, True),
        ({"transaction.timeout.ms": "10001", "session.timeout.ms": "20000"}, False),
        ({"transaction.timeout.ms": "50000", "session.timeout.ms": "90000"}, False),
        ({"transaction.timeout.ms": "50001", "session.timeout.ms": "90000"}, True),
    ],
)
def test_a_transaction_must_end_before_the_partitions_of_a_dead_worker_go_on(
    given: dict[str, str], is_refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("utils.kafka.clients.Producer", lambda properties: properties)
    producer(given, lambda *_: None)
    with pytest.raises(ConfigError, match="KAFKA_TRANSACTION_TIMEOUT_MS") if is_refused else nullcontext():
        producer(given, lambda *_: None, "orders-1")


def test_the_transaction_of_a_worker_with_a_short_session_is_as_short(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, object]] = []
    monkeypatch.setattr("utils.kafka.clients.Producer", made.append)
    producer({"session.timeout.ms": "1500"}, lambda *_: None, "orders-1")
    assert made[0]["transaction.timeout.ms"] == 1500


def test_a_transaction_that_did_not_end_in_time_may_take_as_long_as_the_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[dict[str, object]] = []
    monkeypatch.setattr("utils.kafka.clients.Producer", made.append)
    for is_slow in (False, True):
        producer({}, lambda *_: None, "orders-1", is_slow=is_slow)
    assert [each["transaction.timeout.ms"] for each in made] == [TRANSACTION_TIMEOUT_MS, SESSION_TIMEOUT_MS]


@pytest.mark.parametrize(
    ("given", "room"),
    [
        ({}, (1_000_000, 1 << 30)),
        ({"queue.buffering.max.messages": "10", "queue.buffering.max.kbytes": "2"}, (10, 2048)),
        ({"queue.buffering.max.messages": "0"}, (1_000_000, 1 << 30)),  # no limit
    ],
)
def test_the_room_of_the_producers_queue_is_known(given: dict[str, str], room: tuple[int, int]) -> None:
    assert queue_room(given) == room


@pytest.mark.parametrize("key", [b"", b"k" * 300])
def test_the_client_takes_as_large_a_record_as_is_said_and_not_a_byte_more(key: bytes) -> None:
    properties = {"bootstrap.servers": "127.0.0.1:1", "message.max.bytes": "50000", "log_level": "0"}
    made = producer(properties, lambda *_: None)
    room = largest_record(properties) - RECORD_OVERHEAD - len(key)
    made.produce("any", b"x" * room, key)
    with pytest.raises(KafkaException) as refused:
        made.produce("any", b"x" * (room + 1), key)
    assert refused.value.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE
    made.purge()


def test_results_are_acknowledged_by_all_replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, object]] = []
    monkeypatch.setattr("utils.kafka.clients.Producer", made.append)
    producer({}, lambda *_: None)
    assert made[0]["acks"] == "all"


def test_a_login_mechanism_that_the_client_does_not_have_is_named() -> None:
    kafka = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "NOPE", "client.rack": ""}
    settings = Settings(kafka=kafka, sources=dict.fromkeys(kafka, "environment"))
    with pytest.raises(ConfigError, match=r"^KAFKA_SASL_MECHANISM: .*NOPE"):
        try_properties(settings, Row.validated("orders", "a,b", "c", "127.0.0.1:1"))


@pytest.mark.parametrize(
    ("properties", "problems"),
    [
        ({"security.protocol": "SASL_PLAINTEXT"}, ["KAFKA_SASL_MECHANISM must be set: PLAIN, SCRAM-SHA-256"]),
        (
            {"security.protocol": "sasl_ssl", "sasl.mechanism": "SCRAM-SHA-512", "sasl.username": "bob"},
            ["KAFKA_SASL_PASSWORD must be set: sasl.mechanism is SCRAM-SHA-512"],
        ),
        (
            {"security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER", "sasl.oauthbearer.client.id": "id"},
            ["KAFKA_SASL_OAUTHBEARER_METHOD must be set to oidc: without it this client asks nobody for a token"],
        ),
        (
            {"security.protocol": "SSL", "ssl.ca.location": "/no/ca.pem", "ssl.keystore.location": "/no/store.p12"},
            [
                "KAFKA_SSL_CA_LOCATION: /no/ca.pem cannot be read: No such file or directory",
                "KAFKA_SSL_KEYSTORE_LOCATION: /no/store.p12 cannot be read: No such file or directory",
            ],
        ),
        (
            {"security.protocol": "SSL", "ssl.ca.location": "/etc/ssl/certs", "ssl.truststore.location": "/no/t.jks"},
            ["KAFKA_SSL_TRUSTSTORE_LOCATION: Kafka's client refuses: Java TrustStores are not supported"],
        ),
        (
            {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.jaas.config": "password=topsecret"},
            ["KAFKA_SASL_JAAS_CONFIG: Kafka's client refuses: Java JAAS configuration is not supported"],
        ),
        (
            {"security.protocol": "SSL", "ssl.key.location": __file__},
            [f"KAFKA_SSL_KEY_LOCATION: {__file__} is the key of no certificate: set KAFKA_SSL_CERTIFICATE_LO"],
        ),
        (
            {"security.protocol": "SSL", "ssl.key.location": __file__, "ssl.keystore.location": "/no/store.p12"},
            ["KAFKA_SSL_KEYSTORE_LOCATION: /no/store.p12 cannot be read: No such file or directory"],
        ),
        ({"security.protocol": "sasl-ssl"}, ["KAFKA_SECURITY_PROTOCOL: Kafka's client refuses: Invalid value"]),
        (  # as in the container of a broker: each cost one more start
            {
                "version": "4.3.1",
                "sasl.oauthbearer.method": "oidc",
                "log.dirs": "/kafka",
                "acks.password": "topsecret",
            },
            [
                "KAFKA_VERSION: Kafka's client refuses: No such configuration property",
                "KAFKA_LOG_DIRS: Kafka's client refuses: No such configuration property",
                "KAFKA_ACKS_PASSWORD: Kafka's client refuses: No such configuration property",
            ],
        ),
    ],
)
def test_the_property_that_is_to_blame_is_named(properties: dict[str, str], problems: list[str]) -> None:
    settings = Settings(kafka=properties, sources=dict.fromkeys(properties, "environment"))
    with pytest.raises(ConfigError) as caught:
        try_properties(settings, Row.validated("orders", "a,b", "c", "127.0.0.1:1"))
    assert len(caught.value.problems) == len(problems)
    assert all(told.startswith(problem) for told, problem in zip(caught.value.problems, problems, strict=True))
    assert "topsecret" not in str(caught.value)


def test_tokens_that_nobody_signs_need_no_method() -> None:
    kafka = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "OAUTHBEARER"}
    kafka |= {"enable.sasl.oauthbearer.unsecure.jwt": "true", "sasl.oauthbearer.config": "principal=bob"}
    only_problem_is(None, Settings(consumer_name="orders", kafka=kafka))


def test_a_property_that_only_the_consumer_refuses_is_found_without_a_broker() -> None:
    settings = Settings(kafka={"max.poll.interval.ms": "5000"}, sources={"max.poll.interval.ms": "row"})
    with pytest.raises(ConfigError, match=r"^metadatas.kafka.max.poll.interval.ms: "):
        try_properties(settings, Row.validated("orders", "a,b", "c", "127.0.0.1:1"))


def only_problem_is(problem: str | None, settings: Settings) -> None:
    """The beginning of the one that is told; None: there is none."""
    problems: list[str] = []
    try:
        try_properties(settings, Row.validated("orders", "a,b", "c", "127.0.0.1:1"))
    except ConfigError as error:
        problems = error.problems
    assert [each.startswith(problem or "none") for each in problems] == ([True] if problem else [])


@pytest.mark.parametrize("text", ["45s", "45_000", "45,000", "1e5", "045000", "45000 ", " 45000", "+45000", "4.5e4"])
def test_a_number_must_be_one_for_the_client_takes_what_the_text_begins_with(text: str) -> None:
    settings = Settings(
        consumer_name="orders", kafka={"session.timeout.ms": text}, sources={"session.timeout.ms": "row"}
    )
    only_problem_is(f"metadatas.kafka.session.timeout.ms must be a whole number, not {text!r}", settings)


def test_a_text_may_begin_with_a_digit() -> None:
    kafka = {"client.id": "01-worker", "client.rack": "1a", "session.timeout.ms": "45000"}
    only_problem_is(None, Settings(consumer_name="orders", kafka=kafka))


@pytest.mark.parametrize(
    ("seconds", "given", "sources", "problem"),
    [
        (300.0, {}, {}, "SHUTDOWN_TIMEOUT must be less than max.poll.interval.ms (300 s), not 300: "),
        (299.0, {}, {}, None),
        (20.0, {"max.poll.interval.ms": "20000"}, {"SHUTDOWN_TIMEOUT": "row"}, "metadatas.shutdown_timeout must "),
        (20.0, {"max.poll.interval.ms": "21000"}, {}, None),
    ],
)
def test_a_stop_may_not_take_so_long_that_the_group_drives_the_worker_out(
    seconds: float, given: dict[str, str], sources: dict[str, str], problem: str | None
) -> None:
    settings = Settings(consumer_name="orders", shutdown_timeout=seconds, kafka=given, sources=sources)
    only_problem_is(problem, settings)


@pytest.mark.parametrize(
    ("given", "sources", "problem"),
    [
        ({"heartbeat.interval.ms": "10000"}, {}, "KAFKA_HEARTBEAT_INTERVAL_MS: heartbeat.interval.ms (10000) must be"),
        ({"heartbeat.interval.ms": "9999"}, {}, None),
        ({"session.timeout.ms": "2000"}, {"session.timeout.ms": "row"}, "metadatas.kafka.session.timeout.ms: heart"),
        ({"session.timeout.ms": "30000", "heartbeat.interval.ms": "10000"}, {}, None),
    ],
)
def test_a_worker_may_not_be_silent_so_long_that_the_group_takes_it_for_dead(
    given: dict[str, str], sources: dict[str, str], problem: str | None
) -> None:
    settings = Settings(consumer_name="orders", kafka=given, sources=sources)
    only_problem_is(problem, settings)


@pytest.mark.parametrize(
    ("delivery", "instance", "given", "sources", "problem"),
    [
        ("exactly_once", "é", {}, {}, "GROUP_INSTANCE_ID must be printable ASCII where DELIVERY is exactly"),
        ("exactly_once", "é", {}, {"GROUP_INSTANCE_ID": "row"}, "metadatas.group_instance_id must be printable ASCII"),
        ("exactly_once", "", {"client.id": "wörker"}, {}, "KAFKA_CLIENT_ID must be printable ASCII"),
        ("exactly_once", "pod 0", {"client.id": "worker"}, {}, None),
        ("at_least_once", "é", {"client.id": "wörker"}, {}, None),
    ],
)
def test_what_the_client_takes_in_no_transaction_is_refused_where_there_are_some(
    delivery: str, instance: str, given: dict[str, str], sources: dict[str, str], problem: str | None
) -> None:
    settings = Settings(
        consumer_name="orders", delivery=delivery, group_instance_id=instance, kafka=given, sources=sources
    )
    only_problem_is(problem, settings)


@pytest.mark.parametrize("reason", ["Failed to create producer: Failed to create thread: Cannot", "Unable to create"])
def test_a_machine_without_threads_or_memory_is_waited_for_and_no_property_is_blamed(reason: str) -> None:
    """What the client says (2.16.0) with `ulimit -v 350000` or 400000: run ended with 78."""
    error = KafkaError(KafkaError._CRIT_SYS_RESOURCE, reason)
    with pytest.raises(UnavailableError, match=r"no thread or no memory: .*pids"), named_properties(Settings()):
        raise KafkaException(error)
    assert explain(error).heals


@pytest.mark.parametrize("name", ["session.timeout.ms", "transaction.timeout.ms"])
def test_a_time_out_that_is_no_number_is_refused_by_its_name(name: str) -> None:
    settings = Settings(kafka={name: "soon"}, sources={name: "environment"})
    properties = client_properties(settings, Row.validated("orders", "a,b", "c", "127.0.0.1:1"))
    with pytest.raises(ConfigError, match=f"KAFKA_{name.replace('.', '_').upper()}"), named_properties(settings):
        producer(properties, lambda *_: None, "orders-1")


@pytest.mark.parametrize(
    ("partitions", "kilobytes"), [(0, 1024), (2, 1024), (8, 256), (16, 128), (256, 128), (512, 64), (5000, 32)]
)
def test_the_more_partitions_there_are_the_less_is_fetched_of_each(
    partitions: int, kilobytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("utils.kafka.clients.Consumer", lambda properties: properties)

    def of_one(properties: dict[str, str]) -> object:
        made = cast("dict[str, object]", consumer(properties, Settings(), lambda *_: None, partitions))
        return made["max.partition.fetch.bytes"]

    assert of_one({}) == fetches(partitions)["max.partition.fetch.bytes"] == kilobytes * 1024
    assert of_one({"max.partition.fetch.bytes": "7"}) == "7"


@pytest.mark.parametrize(("given", "sparse"), [({}, False), ({"enable.sparse.connections": "true"}, "true")])
def test_the_consumer_keeps_a_connection_to_each_broker_if_the_user_does_not_say_otherwise(
    given: dict[str, str], sparse: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some made none any more after a broker had been frozen for longer than the session (docs/measured.md)."""
    monkeypatch.setattr("utils.kafka.clients.Consumer", lambda properties: properties)
    made = cast("dict[str, object]", consumer(given, Settings(consumer_name="orders"), lambda *_: None))
    assert made["enable.sparse.connections"] == sparse
