"""Rights that are missing, and the commands that grant them."""

import shlex
from dataclasses import replace

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin._acl import AclOperation
from confluent_kafka.admin._resource import ResourceType

from config import UnavailableError
from tests.conftest import Topics, grant
from tests.kafka.brokers import eventually, row_at, settings_with
from tests.services.kafka import KafkaBroker
from utils.kafka import rights
from utils.kafka.preflight import Cluster, look
from utils.kafka.rights import missing_rights


def test_that_no_transactions_are_made_is_no_matter_of_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a partition of `__transaction_state` had no leader, it was said that Kafka cannot be reached."""

    class TimesOut:
        def init_transactions(self, _timeout: float) -> None:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "Timed out waiting for operation to finish"))

    monkeypatch.setattr(rights, "kafka_producer", lambda *_: TimesOut())
    with pytest.raises(UnavailableError, match=r"Kafka makes no transactions just now: .* whether __transaction_state"):
        rights.missing_transactions(settings_with(), row_at("h:9092"))


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


def test_a_broker_that_does_not_tell_rights_leaves_them_open(embedded_kafka: KafkaBroker, topics: Topics) -> None:
    (a,) = topics(embedded_kafka, "a")

    assert missing_rights(settings_with(), row_at(embedded_kafka.bootstrap, a, ""), Cluster((), {}), "READ") is None


def test_the_command_of_a_cure_is_no_other_command_whoever_the_user_is() -> None:
    settings = replace(settings_with(), kafka={"sasl.username": "x' ; touch y #"})
    command = rights._grant(settings, row_at("kafka:9092"), "READ")
    assert shlex.split(command)[5:7] == ["User:x' ; touch y #", "--operation"]
