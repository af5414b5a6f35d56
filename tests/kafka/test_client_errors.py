"""What errors of Kafka's clients mean for a person."""

import threading
from contextlib import ExitStack
from types import SimpleNamespace
from typing import cast

import pytest
from confluent_kafka import KafkaError, KafkaException

from config import ConfigError
from framework import Worker
from utils.kafka.client_errors import concerns_all, cure_of, explain, is_replaced, tls_fails
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
