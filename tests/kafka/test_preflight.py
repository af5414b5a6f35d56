"""What the brokers of a row say of themselves, and what fits into a commit of theirs."""

from collections.abc import Sequence
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from config import ConfigError, UnavailableError
from models import map_topic
from tests.conftest import Topics
from tests.kafka.brokers import SlowAdmin, row_at, settings_with
from tests.services.kafka import KafkaBroker
from tests.services.processes import free_port
from utils.kafka import preflight
from utils.kafka.clients import client_properties
from utils.kafka.preflight import Cluster, commit_limits, look


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


def test_topics_of_a_real_broker_are_seen_with_their_partitions(real_kafka: KafkaBroker, topics: Topics) -> None:
    a, b = topics(real_kafka, "a", "b", partitions=3)

    seen = look(settings_with(), row_at(real_kafka.bootstrap, f"{a},{b}", ""))

    assert (seen.partitions[a], seen.partitions[b]) == (3, 3)


@pytest.fixture
def slow_admin(monkeypatch: pytest.MonkeyPatch) -> SlowAdmin:
    admin = SlowAdmin()
    monkeypatch.setattr(preflight, "_admin", lambda *_: admin)
    monkeypatch.setattr("utils.kafka.preflight.time.sleep", lambda _seconds: None)
    return admin


def test_a_broker_that_starts_and_knows_no_brokers_yet_is_asked_again(slow_admin: SlowAdmin) -> None:
    assert look(settings_with(), row_at("h:1")).brokers == ("h:9092",)
    assert slow_admin.asked == 3


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
