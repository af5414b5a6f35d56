"""Properties of Kafka's clients that are wrong are named, before a broker is asked."""

import pytest
from confluent_kafka import KafkaError, KafkaException

from config import ConfigError, Settings, UnavailableError
from models import Row
from utils.kafka.client_errors import explain
from utils.kafka.clients import client_properties, producer, try_properties
from utils.kafka.wrong_properties import named_properties


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


def test_a_value_of_ones_own_that_is_taken_for_a_property_is_told_so_and_where_it_stands() -> None:
    settings = Settings(kafka={"topic": "orders"}, sources={"topic": "defaults.py"})
    with pytest.raises(ConfigError) as caught:
        try_properties(settings, Row.validated("orders", "a,b", "c", "127.0.0.1:1"))
    [told] = caught.value.problems
    assert told.startswith("KAFKA_TOPIC (in defaults.py): Kafka's client refuses: No such configuration property")
    assert told.endswith("give a value of yours another name")


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
