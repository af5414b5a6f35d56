"""What the user of a worker may do, as far as brokers tell, and the command that grants what is missing. Reads only."""

import time
from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from config import Settings, Trouble
from models import Row, map_topic
from utils.kafka.answers import answer, described_groups
from utils.kafka.client_errors import RIGHTS_ERRORS, explain
from utils.kafka.client_log import unheard
from utils.kafka.clients import producer as kafka_producer
from utils.kafka.clients import quiet_properties
from utils.kafka.preflight import Cluster, asking
from utils.kafka.wrong_properties import named_properties

_REQUEST = 5.0  # seconds that one request may take
_TRANSACTION = 10.0  # seconds: a broker that has never had a transaction first makes room for them
_BY_ANOTHER_CHECK = {
    KafkaError._FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.PRODUCER_FENCED,
    KafkaError.CONCURRENT_TRANSACTIONS,
}


def hidden_topics(settings: Settings, row: Row, cluster: Cluster) -> set[str]:
    """Topics of the row that this user may not even see: it is a right that is missing, and perhaps no topic."""
    absent = [f"topic {topic}" for topic in (*row.topics_input, *row.topics_output) if topic not in cluster.partitions]
    if not absent or cluster.embedded:
        return set()
    granted = _granted(asking(settings, row, cluster), "DESCRIBE", absent)
    return {resource.removeprefix("topic ") for resource, may in granted.items() if may is False}


def missing_rights(
    settings: Settings, row: Row, cluster: Cluster, operation: str, patience: float = _REQUEST
) -> list[str] | None:
    """One line for each right that READ of the inputs, or WRITE of the outputs, lacks. None: the broker does not tell.

    Reads only: brokers tell a user's own rights since 2.3 (KIP-430), without an authorizer all of them. `patience`:
    seconds for which a broker that does not tell is asked again.
    """
    return _missing(settings, row, cluster, operation, _needed(settings, row, operation), patience)


def missing_map_rights(
    settings: Settings, row: Row, cluster: Cluster, operations: Sequence[str] = ("READ", "WRITE")
) -> list[str]:
    """One line for each right to the topic of maps that is missing, as far as the broker tells at once."""
    return [
        line
        for each in operations
        if not cluster.embedded
        for line in _missing(settings, row, cluster, each, [f"topic {map_topic(row.consumer_name)}"]) or ()
    ]


def missing_dead_letter_rights(
    settings: Settings, row: Row, cluster: Cluster, group: str, topics_output: Sequence[str] | None = None
) -> list[str]:
    """Of a consumer group that looks at dead letters or, with the outputs that it writes, replays or discards them."""
    topic, group = f"topic {settings.dead_letters}", f"group {group}"
    needed = {"READ": [topic], "DESCRIBE": [group]}
    if topics_output is not None:
        needed = {"READ": [topic, group], "WRITE": [f"topic {name}" for name in topics_output]}
    operations = {} if cluster.embedded else needed
    return [
        line
        for each, resources in operations.items()
        for line in _missing(settings, row, cluster, each, resources) or ()
    ]


def _needed(settings: Settings, row: Row, operation: str) -> list[str]:
    """`topic NAME` and `group NAME` of all that is read or written, but for the maps."""
    if operation == "READ":
        return [*(f"topic {name}" for name in row.topics_input), f"group {row.consumer_name}"]
    return [f"topic {name}" for name in (*row.topics_output, settings.dead_letters) if name]


def _missing(
    settings: Settings, row: Row, cluster: Cluster, operation: str, resources: Sequence[str], patience: float = 0
) -> list[str] | None:
    """`patience`: seconds for which a broker that does not tell is asked again."""
    admin = asking(settings, row, cluster)
    deadline = time.monotonic() + patience
    while None in (granted := _granted(admin, operation, resources)).values():
        if time.monotonic() > deadline:
            return None
        time.sleep(0.5)  # a broker that has never had a consumer group first makes room for them
    grant = _grant(settings, row, operation)
    return [f"no right to {operation} {resource}: {grant} --{resource}" for resource, may in granted.items() if not may]


def missing_transactions(settings: Settings, row: Row) -> list[str]:
    """One line where the worker may not make transactions, or not with its time-out. Raises UnavailableError.

    Tried with an id that no worker has, since whoever takes one drives out its owner.
    """
    properties = quiet_properties(settings, row, unheard)
    with named_properties(settings):
        producer = kafka_producer(properties, unheard, f"{row.consumer_name}-check")
    try:
        producer.init_transactions(_TRANSACTION)
    except KafkaException as error:
        reason = error.args[0]
        if reason.code() == KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
            ids = f"--transactional-id {row.consumer_name}- --resource-pattern-type prefixed"
            return [
                f"no right to WRITE transactional ids {row.consumer_name}-…: {_grant(settings, row, 'WRITE')} {ids}"
            ]
        if reason.code() in _BY_ANOTHER_CHECK:
            return []
        if reason.code() == KafkaError._TIMED_OUT:  # brokers have answered all that was asked before
            look = f"kafka-topics.sh --bootstrap-server {row.bootstrap_servers}{_login(settings)} --describe"
            cure = f"see with {look} --unavailable-partitions whether __transaction_state lacks a leader"
            line = f"Kafka makes no transactions just now: if this stays, {cure} ({reason.str()})"
            raise Trouble(heals=True, line=line).error() from error
        if (trouble := explain(reason)).heals:
            raise trouble.error() from error
        return [trouble.line]
    return []


def _grant(settings: Settings, row: Row, operation: str) -> str:
    """The beginning of the command that does it."""
    user = settings.kafka.get("sasl.username", "…").replace("'", "'\"'\"'")  # as a shell wants it: a row may set it
    server = f"--bootstrap-server {row.bootstrap_servers}{_login(settings)}"
    return f"kafka-acls.sh {server} --add --allow-principal 'User:{user}' --operation {operation.capitalize()}"


def _login(settings: Settings) -> str:
    """docs/failures.md says what stands in FILE: the login of somebody who may grant rights."""
    return (
        "" if settings.kafka.get("security.protocol", "plaintext").lower() == "plaintext" else " --command-config FILE"
    )


def _granted(admin: AdminClient, operation: str, resources: Sequence[str]) -> dict[str, bool | None]:
    """Whether the user may, for each of these resources. None: no answer."""
    topics, groups = (
        [name for kind, name in (each.split(" ", 1) for each in resources) if kind == wanted]
        for wanted in ("topic", "group")
    )
    options: dict[str, Any] = {"include_authorized_operations": True}
    asked = admin.describe_topics(TopicCollection(topics), request_timeout=_REQUEST, **options) if topics else {}
    told = {f"topic {name}": answer(future, _REQUEST + 1) for name, future in asked.items()}
    if groups:
        described = described_groups(admin, groups, _REQUEST, **options)
        told |= {f"group {name}": each for name, each in described.items()}
    return {resource: _may(each, operation) for resource, each in told.items()}


def _may(described: Any, operation: str) -> bool | None:
    if isinstance(described, KafkaError):
        if described.code() in RIGHTS_ERRORS:
            return False
        # It is missing_topics that names one that is not there.
        return True if described.code() == KafkaError.UNKNOWN_TOPIC_OR_PART else None
    operations = described.authorized_operations
    return operation in {each.name for each in operations} if operations else None
