"""What is looked at before a worker starts: brokers, topics, partition counts, rights.

Nothing is changed, but that the worker's own topics, of dead letters and of maps, are created where they are missing.
"""

import difflib
import socket
import ssl
import struct
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._metadata import TopicMetadata
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewTopic

from config import ConfigError, Settings, Trouble
from models import Row, map_topic
from utils.kafka.answers import answer, answered, described_groups
from utils.kafka.client_errors import (
    CONNECTION_ERRORS,
    LOGIN_ERRORS,
    PROTOCOL,
    RIGHTS_ERRORS,
    SERVERS,
    advertised,
    ended_in_handshake,
    explain,
    not_reached,
    plain,
    tls_fails,
)
from utils.kafka.client_log import unheard
from utils.kafka.clients import producer as kafka_producer
from utils.kafka.clients import quiet_properties, reader
from utils.kafka.ends import Partition, ends_now
from utils.kafka.limits import DEFAULT_METADATA, LARGEST_BATCH, LEAST_METADATA, CommitLimits
from utils.kafka.lookups import EARLIEST, LATEST, committed, offsets_at
from utils.kafka.names import Named, own_collisions
from utils.kafka.properties import largest_record
from utils.kafka.topic_configs import Configs, alter, compacted_dead_letters
from utils.kafka.wrong_properties import named_properties

_REQUEST = 5.0  # seconds that one request may take
METADATA_SETTING = "offset.metadata.max.bytes"
RETENTION_SETTING = "offsets.retention.minutes"  # of commits
_CREATED = 5.0  # seconds until brokers know of a topic that was made
_TRANSACTION = 10.0  # seconds: a broker that has never had a transaction first makes room for them
_BY_ANOTHER_CHECK = {
    KafkaError._FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.PRODUCER_FENCED,
    KafkaError.CONCURRENT_TRANSACTIONS,
}
FAMILY = "broker.address.family"
_FAMILIES = {"v4": socket.AF_INET, "v6": socket.AF_INET6}
_API_VERSIONS = 18  # of a request
_PAUSE = 0.1  # seconds before brokers are asked again
_NO_BROKER = (
    "what answers is no broker, but perhaps a controller (KRaft), whose port is often 9093:"
    " check kafka_bootstrap_server of the row"
)
_SHOWN = 20  # topics that an error names at most

DEAD_LETTER_TOPIC = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
"""Nothing vanishes from it before somebody has decided so, whatever the brokers have for topics that say nothing."""

_POLICY, _STAYS = "cleanup.policy", "min.compaction.lag.ms"
MAP_TOPIC = {
    _POLICY: "compact",
    "segment.bytes": "16777216",
    "segment.ms": "600000",
    "min.cleanable.dirty.ratio": "0.1",
    _STAYS: "300000",
}
"""Small segments, since the last one is never compacted. And what is out of use stays for as long as a request may be
late, should one come that refers to it."""
_NOT_WITH_THESE = {KafkaError.POLICY_VIOLATION, KafkaError.INVALID_CONFIG}  # configurations
PLAINER_MAP_TOPICS = [{name: MAP_TOPIC[name] for name in names} for names in ((_POLICY, _STAYS), (_POLICY,))]
"""Where brokers do not take that: managed ones let nobody set some of it (Confluent Cloud: segments of 50 MB at least),
and their own will do. In large segments nothing is compacted for long.
"""


@dataclass(frozen=True, slots=True)
class Cluster:
    """What the brokers of a row say of themselves to this user."""

    brokers: tuple[str, ...]  # as advertised to the clients, host:port
    partitions: Mapping[str, int]  # of every topic that exists and that the user may see
    embedded: bool = False  # the broker in Kafka's client, which answers no admin requests
    session_timeouts: tuple[int, int] | None = None  # ms that a session may last, at least and at most; None: not told
    metadata_limit: int | None = None  # the least METADATA_SETTING of the brokers; None: not told
    commits_stay: float | None = None  # seconds, once a consumer group is empty; None: not told
    configs: Configs = field(default_factory=dict)  # of the row's topics and the worker's own: those that are told
    replicas: Mapping[str, int] = field(default_factory=dict)
    """Of the row's topics and the worker's own: that partition's which has the fewest."""
    admin: AdminClient | None = field(default=None, compare=False, repr=False)
    """Which has asked, for more questions: each new client connects twice, and asks for all topics."""
    largest_batch: int = LARGEST_BATCH
    """Bytes that a broker takes at once for a topic that is not set otherwise, as Kafka's own; as far as it is told."""


def look(settings: Settings, row: Row) -> Cluster:
    """The cluster as it is now. UnavailableError: not there at the moment; ConfigError: not with these settings."""
    heard: list[KafkaError] = []
    admin = _admin(settings, row, heard.append)
    deadline, patience = time.monotonic() + _REQUEST, 1.0
    while True:
        try:
            # All topics, not ours by name: a name asked for is created where brokers create topics by themselves.
            metadata = admin.list_topics(timeout=patience)
        except KafkaException as error:
            if error.args[0].code() == KafkaError._UNSUPPORTED_FEATURE:
                raise ConfigError([f"{_NO_BROKER} ({plain(error.args[0].str())})"]) from error
            patience = min(patience * 2, _REQUEST)  # over a slow line the names of thousands take longer
            time.sleep(_PAUSE)  # what fails at once would be asked again without end, and all of it stay in the client
            admin.poll(0)
            all_failed = any(each.code() == KafkaError._ALL_BROKERS_DOWN for each in heard)
            if all_failed or time.monotonic() > deadline:
                raise _why([*heard, error.args[0]], settings, row).error() from error
        else:
            if not metadata.brokers and time.monotonic() < deadline:  # told by one that starts
                time.sleep(_PAUSE)
                continue
            addresses = {number: f"{each.host}:{each.port}" for number, each in metadata.brokers.items()}
            embedded = str(metadata.cluster_id).startswith("mockCluster")
            told = [] if embedded else _reach(admin, addresses, heard, settings)
            counts = {name: len(topic.partitions) for name, topic in metadata.topics.items()}
            limits = _session_timeouts(told), min(_told(told, METADATA_SETTING), default=None)
            named = {*row.topics_input, *row.topics_output, settings.dead_letters, map_topic(row.consumer_name)}
            there = sorted(named & counts.keys())
            configs = {} if embedded else _configs(admin, there)
            replicas = {name: _fewest_replicas(metadata.topics[name]) for name in there}
            facts = *limits, _stay(told), configs, replicas, admin
            batch = min(_told(told, "message.max.bytes"), default=LARGEST_BATCH)
            return Cluster(tuple(sorted(addresses.values())), counts, embedded, *facts, batch)


def _fewest_replicas(topic: TopicMetadata) -> int:
    return min((len(each.replicas) for each in topic.partitions.values()), default=0)


def _reach(
    admin: AdminClient, addresses: Mapping[int, str], heard: Sequence[KafkaError], settings: Settings
) -> list[Mapping[str, Any]]:
    """Each broker at the address that it advertises, which need not be one of those that the row names.

    Returns the configurations of those that tell this user theirs. Raises UnavailableError, ConfigError.

    Each is asked what only it can tell. Whether it does so, or forbids it, is all the same.
    """
    brokers = [ConfigResource(ResourceType.BROKER, str(number)) for number in addresses]
    asked = [admin.describe_configs([broker], request_timeout=_REQUEST)[broker] for broker in brokers]
    silent, configurations = [], list[Mapping[str, Any]]()
    for address, future in zip(addresses.values(), asked, strict=True):
        try:
            configurations.append(answered(future))
        except KafkaException as error:
            if error.args[0].code() in CONNECTION_ERRORS:
                silent.append(address)
    admin.poll(0)
    if silent:
        told = [each for each in heard if advertised(each) in silent]
        hopeless = _hopeless(told, settings, silent)
        reason = plain(told[0].str()) if told else f"no answer within {_REQUEST:g} s"
        raise (hopeless or not_reached(silent, reason, _or_family(settings))).error()
    return configurations


def _configs(admin: AdminClient, topics: Sequence[str]) -> Configs:
    """Those of each topic, as the broker writes them; without the topics of which it does not tell them, for want of
    the right. All are asked for at once.
    """
    resources = [ConfigResource(ResourceType.TOPIC, topic) for topic in topics]
    asked = admin.describe_configs(resources, request_timeout=_REQUEST) if resources else {}
    told = dict[str, Mapping[str, str]]()
    for resource, future in asked.items():
        with suppress(KafkaException):
            told[resource.name] = {name: str(entry.value) for name, entry in answered(future).items()}
    return told


def _session_timeouts(configurations: Sequence[Mapping[str, Any]]) -> tuple[int, int] | None:
    """Of all brokers, for any of them may be the consumer group's coordinator."""
    least, most = (_told(configurations, f"group.{end}.session.timeout.ms") for end in ("min", "max"))
    return (max(least), min(most)) if least and most else None


def _stay(configurations: Sequence[Mapping[str, Any]]) -> float | None:
    """For how long commits stay without a member, in seconds: any broker may be the one that keeps them."""
    minutes = _told(configurations, RETENTION_SETTING)
    return min(minutes) * 60.0 if minutes else None


def _told(configurations: Sequence[Mapping[str, Any]], name: str) -> list[int]:
    """What each broker says of this number, as far as it does."""
    return [int(each[name].value) for each in configurations if name in each]


def hidden_topics(settings: Settings, row: Row, cluster: Cluster) -> set[str]:
    """Topics of the row that this user may not even see: it is a right that is missing, and perhaps no topic."""
    absent = [f"topic {topic}" for topic in (*row.topics_input, *row.topics_output) if topic not in cluster.partitions]
    if not absent or cluster.embedded:
        return set()
    granted = _granted(_asking(settings, row, cluster), "DESCRIBE", absent)
    return {resource.removeprefix("topic ") for resource, may in granted.items() if may is False}


def missing_topics(row: Row, cluster: Cluster, hidden: Collection[str] = ()) -> list[str]:
    """One line for each topic of the row that does not exist: the names that do, near ones first, and the cure.

    `hidden`: those whose rights are named elsewhere.
    """
    siblings = [cluster.partitions[topic] for topic in row.topics_input if topic in cluster.partitions]
    tool = f"kafka-topics.sh --bootstrap-server {row.bootstrap_servers}"
    replicas = _replicas(replicas_of_inputs(row, cluster))
    create = f"{tool} --create --partitions {max(siblings, default=4)}{replicas}"
    return [
        f"topic {topic} of {column} does not exist, or this user may not see it; there are: {_names(topic, cluster)}."
        f" Correct the row, or create it: {create} --topic {topic}"
        for column, topics in (("topics_input", row.topics_input), ("topics_output", row.topics_output))
        for topic in topics
        if topic not in cluster.partitions and topic not in hidden
    ]


def provide_dead_letter_topic(settings: Settings, row: Row, cluster: Cluster, *, only_try: bool = False) -> list[str]:
    """Create the topic of dead letters where it is wanted and missing. One line where that cannot be, or where it is
    one that does not keep them.

    `only_try`: ask the broker whether it could be created. Raises UnavailableError.
    """
    name = settings.dead_letters
    if problems := own_collisions(Named(row, name)):
        return problems
    if not name or cluster.embedded:
        return []
    if name in cluster.partitions:
        return compacted_dead_letters(settings, row, cluster.configs)
    partitions = max(cluster.partitions.get(topic, 1) for topic in row.topics_input)
    topic = NewTopic(name, partitions, replicas_of_inputs(row, cluster), config=DEAD_LETTER_TOPIC)
    problem = _create(settings, row, cluster, topic, only_try=only_try)
    without = "; or do without, with an empty DLQ_TOPIC: what fails is then logged and discarded"
    return [f"topic {name} for dead letters {problem}{without}"] if problem else []


def provide_map_topic(settings: Settings, row: Row, cluster: Cluster, *, only_try: bool = False) -> list[str]:
    """Create the topic of maps where it is missing. One line where that cannot be, or where it is not compacted.

    `only_try`: ask the broker whether it could be created. Raises UnavailableError.
    """
    name = map_topic(row.consumer_name)
    if cluster.embedded:
        return []
    if name not in cluster.partitions:
        topic = NewTopic(name, 1, replicas_of_inputs(row, cluster), config=MAP_TOPIC)
        problem = _create(settings, row, cluster, topic, only_try=only_try, plainer=PLAINER_MAP_TOPICS)
        return [f"topic {name} for maps of waiting messages {problem}"] if problem else []
    if cluster.configs.get(name, {}).get("cleanup.policy", "compact") == "compact":
        return []
    cure = alter(row, name, "cleanup.policy=compact")
    return [f"topic {name} for maps of waiting messages must be compacted, and nothing else: {cure}"]


def replicas_of_inputs(row: Row, cluster: Cluster) -> int:
    """How many the worker's own topics are to have: with fewer they are gone, and it stands still, before its inputs
    are. -1, the default of the brokers, where the inputs that there are have one, or do not tell.
    """
    there = [topic for topic in row.topics_input if topic in cluster.partitions]
    least = min((cluster.replicas.get(topic, 0) for topic in there), default=0)
    return least if least > 1 else -1


def _replicas(number: int) -> str:
    """For a command that creates a topic: the default of brokers is one."""
    return f" --replication-factor {number}" if number > 0 else ""


def fewer_replicas(row: Row, cluster: Cluster, name: str) -> str:
    """What is said of a topic of the worker's own that has fewer of them; nothing where it has as many."""
    has, needs = cluster.replicas.get(name, 0), replicas_of_inputs(row, cluster)
    if not 0 < has < needs:
        return ""
    tool = f"kafka-reassign-partitions.sh --bootstrap-server {row.bootstrap_servers}"
    number = f"{has} replica{'s' * (has > 1)}"
    return (
        f"topic {name} has {number}, the input topics have {needs}: without its brokers the worker stands still: {tool}"
    )


def commit_limits(settings: Settings, row: Row, cluster: Cluster) -> CommitLimits:
    """What the brokers take of a commit, and their topic of maps of a record. ConfigError where that is too little."""
    told, topic = cluster.metadata_limit, cluster.configs.get(map_topic(row.consumer_name), {})
    batch = cluster.largest_batch
    record = min(largest_record(settings.kafka), int(topic.get("max.message.bytes") or batch))
    # The client sends one character more (measured).
    metadata = DEFAULT_METADATA if told is None else told - 1
    limits = CommitLimits(metadata, told=told is not None, record=record, batch=batch)
    if limits.metadata < LEAST_METADATA:
        cure = f"set it to {LEAST_METADATA + 1} or more on every broker; Kafka's default is {DEFAULT_METADATA + 1}"
        raise ConfigError([f"{METADATA_SETTING} of the brokers is {told}, too little for a commit: {cure}"])
    return limits


def _create(
    settings: Settings,
    row: Row,
    cluster: Cluster,
    topic: NewTopic,
    *,
    only_try: bool,
    plainer: Sequence[dict[str, str]] = (),
) -> str:
    """Why a topic that is missing cannot be created, with the command that does it; nothing where it was.

    `plainer`: its configurations where brokers do not take that of `topic`, tried in turn.
    """
    admin = _asking(settings, row, cluster)
    try:
        answered(admin.create_topics([topic], request_timeout=_REQUEST, validate_only=only_try)[topic.topic])
    except KafkaException as error:
        reason = error.args[0]
        if plainer and reason.code() in _NOT_WITH_THESE:
            topic = NewTopic(topic.topic, topic.num_partitions, topic.replication_factor, config=plainer[0])
            return _create(settings, row, cluster, topic, only_try=only_try, plainer=plainer[1:])
        if reason.code() == KafkaError.TOPIC_ALREADY_EXISTS:  # another worker has just done it
            _wait_until_known(admin, topic.topic)
            return ""
        if (trouble := explain(reason)).heals:
            raise trouble.error() from error
        if reason.code() == KafkaError.INVALID_REPLICATION_FACTOR:  # a broker is away
            few = (
                f"topic {topic.topic} is missing, and not enough brokers are there to create it: {plain(reason.str())}"
            )
            raise Trouble(heals=True, line=few).error() from error
        if reason.code() == KafkaError.TOPIC_EXCEPTION:  # for Kafka's metrics a.b and a_b are one
            cure = "choose another name (DLQ_TOPIC, CONSUMER_NAME)"
            return f"is missing and cannot be created ({plain(reason.str())}): {cure}"
        given = topic.config or {}
        if reason.code() in _NOT_WITH_THESE:  # the command would be refused, too: somebody must know what they allow
            given = {"cleanup.policy": given["cleanup.policy"]} | dict.fromkeys({"retention.ms"} & given.keys(), "…")
        configs = " ".join(f"--config {key}={value}" for key, value in given.items())
        tool = f"kafka-topics.sh --bootstrap-server {row.bootstrap_servers}"
        size = f"--partitions {topic.num_partitions}{_replicas(topic.replication_factor)}"
        create = f"{tool} --create --topic {topic.topic} {size} {configs}"
        return f"is missing and cannot be created ({plain(reason.str())}): {create}"
    if not only_try:
        _wait_until_known(admin, topic.topic)
    return ""


def _wait_until_known(admin: AdminClient, topic: str) -> None:
    """The brokers hear of a topic after the controller has made it, and tell no rights to it until then."""
    deadline = time.monotonic() + _CREATED
    while time.monotonic() < deadline:
        described = admin.describe_topics(TopicCollection([topic]), request_timeout=_REQUEST)[topic]
        error = described.exception()
        if not (isinstance(error, KafkaException) and error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART):
            return
        time.sleep(0.1)


def unequal_partitions(row: Row, cluster: Cluster) -> list[str]:
    """One line where the input topics that exist do not all have the same number of partitions, else none."""
    counts = {topic: cluster.partitions[topic] for topic in row.topics_input if topic in cluster.partitions}
    if len(set(counts.values())) <= 1:
        return []
    listed = ", ".join(f"{topic} has {count}" for topic, count in counts.items())
    fewer = " and ".join(topic for topic, count in counts.items() if count < max(counts.values()))
    return [
        f"the input topics have unequal partition counts ({listed}), so the messages of an id would reach different"
        f" workers: make {fewer} again with {max(counts.values())} partitions, or run no more than one worker"
    ]


def ends(settings: Settings, row: Row, cluster: Cluster, topics: Collection[str]) -> dict[Partition, int]:
    """Where the partitions of these topics end now. Raises UnavailableError."""
    partitions = [(topic, number) for topic in topics for number in range(cluster.partitions.get(topic, 0))]
    try:
        return ends_now(_asking(settings, row, cluster), partitions) if partitions else {}
    except KafkaException as error:
        raise explain(error.args[0]).error() from error


def history(settings: Settings, row: Row, cluster: Cluster) -> int:
    """How many offsets of the inputs a first worker has before it: 0 where its consumer group has a commit of one.

    Raises KafkaException.
    """
    inputs = [
        TopicPartition(name, each) for name in row.topics_input for each in range(cluster.partitions.get(name, 0))
    ]
    with reader(settings, row) as asking:
        if any(each.offset >= 0 for each in committed(asking, inputs, _REQUEST)):
            return 0
        begins, ends = (sum(offsets_at(asking, inputs, time).values()) for time in (EARLIEST, LATEST))
        return ends - begins


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


def missing_rights(
    settings: Settings, row: Row, cluster: Cluster, operation: str, patience: float = _REQUEST
) -> list[str] | None:
    """One line for each right that READ of the inputs, or WRITE of the outputs, lacks. None: the broker does not tell.

    Reads only: brokers tell a user's own rights since 2.3 (KIP-430), without an authorizer all of them. `patience`:
    seconds for which a broker that does not tell is asked again.
    """
    return _missing(settings, row, cluster, operation, _needed(settings, row, operation), patience)


def _needed(settings: Settings, row: Row, operation: str) -> list[str]:
    """`topic NAME` and `group NAME` of all that is read or written, but for the maps."""
    if operation == "READ":
        return [*(f"topic {name}" for name in row.topics_input), f"group {row.consumer_name}"]
    return [f"topic {name}" for name in (*row.topics_output, settings.dead_letters) if name]


def _missing(
    settings: Settings, row: Row, cluster: Cluster, operation: str, resources: Sequence[str], patience: float = 0
) -> list[str] | None:
    """`patience`: seconds for which a broker that does not tell is asked again."""
    admin = _asking(settings, row, cluster)
    deadline = time.monotonic() + patience
    while None in (granted := _granted(admin, operation, resources)).values():
        if time.monotonic() > deadline:
            return None
        time.sleep(0.5)  # a broker that has never had a consumer group first makes room for them
    grant = _grant(settings, row, operation)
    return [f"no right to {operation} {resource}: {grant} --{resource}" for resource, may in granted.items() if not may]


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


def _asking(settings: Settings, row: Row, cluster: Cluster) -> AdminClient:
    # No `or`: a client is false while nothing waits in its queue.
    return _admin(settings, row, lambda _error: None) if cluster.admin is None else cluster.admin


def _admin(settings: Settings, row: Row, on_error: Callable[[KafkaError], None]) -> AdminClient:
    """A client for one look: what it hears goes to `on_error` and not to the log."""
    with named_properties(settings):
        return AdminClient(quiet_properties(settings, row, on_error))


def _names(topic: str, cluster: Cluster) -> str:
    existing = sorted(name for name in cluster.partitions if not name.startswith("__"))
    near = difflib.get_close_matches(topic, existing, n=5, cutoff=0.6)
    names = near + [name for name in existing if name not in near]
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "") or "none"


def _may(described: Any, operation: str) -> bool | None:
    if isinstance(described, KafkaError):
        if described.code() in RIGHTS_ERRORS:
            return False
        # It is missing_topics that names one that is not there.
        return True if described.code() == KafkaError.UNKNOWN_TOPIC_OR_PART else None
    operations = described.authorized_operations
    return operation in {each.name for each in operations} if operations else None


def _why(heard: list[KafkaError], settings: Settings, row: Row) -> Trouble:
    """Of all that a client has heard, what tells the most."""
    hopeless = _hopeless(heard, settings, row.bootstrap_servers.split(","))
    told = next((explain(each) for each in heard if advertised(each) or each.code() in LOGIN_ERRORS), None)
    reason = plain(next((each for each in heard if each.code() != KafkaError._ALL_BROKERS_DOWN), heard[0]).str())
    cures = f"{SERVERS}{_or_family(settings)}"
    down = Trouble(heals=True, line=f"Kafka at {row.bootstrap_servers} cannot be reached: {cures} ({reason})")
    return hopeless or _no_tls(heard, settings, row) or told or _wrong_protocol(settings, row) or down


def _or_family(settings: Settings) -> str:
    """What else it may be, where the client is not to use all addresses of a name."""
    family = settings.kafka.get(FAMILY, "any")
    return "" if family == "any" else f", or KAFKA_BROKER_ADDRESS_FAMILY: it allows {family} only"


def _hopeless(heard: Sequence[KafkaError], settings: Settings, servers: Sequence[str]) -> Trouble | None:
    """What does not heal by itself."""
    found = next((trouble for trouble in map(explain, heard) if not trouble.heals), None)
    if found and "certificate verify failed" in found.line:
        told = dict.fromkeys(address for each in heard if (address := advertised(each)))
        reason = _unverified(settings, [*told, *servers])
        return tls_fails(reason) if reason else found
    return found


def _unverified(settings: Settings, servers: Sequence[str]) -> str:
    """Why the certificate of a broker is no good, which the client does not tell; "" where that cannot be seen."""
    try:
        context = _verifying(settings)
        for host, port in _addresses(servers):
            with socket.create_connection((host, port), timeout=_REQUEST) as connection:
                context.wrap_socket(connection, server_hostname=host).close()
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    except (OSError, UnicodeError):
        pass
    return ""


def _verifying(settings: Settings) -> ssl.SSLContext:
    """Trusts whom the client trusts, and compares names where it does: else it would tell another reason."""
    context, given = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), settings.kafka
    place, authorities = given.get("ssl.ca.location", ""), given.get("ssl.ca.pem", "")
    place = "" if place == "probe" else place
    if place and Path(place).is_dir():
        context.load_verify_locations(capath=place)
    elif place:
        context.load_verify_locations(place)
    if authorities:
        context.load_verify_locations(cadata=authorities)
    if not place and not authorities:
        context.load_default_certs()
    context.check_hostname = given.get("ssl.endpoint.identification.algorithm", "https") != "none"
    return context


def _addresses(servers: Sequence[str]) -> Iterator[tuple[str, int]]:
    for server in servers[:3]:
        address = urlsplit("//" + server.rpartition("://")[2])
        yield address.hostname or "", address.port or 9092


def _no_tls(heard: Sequence[KafkaError], settings: Settings, row: Row) -> Trouble | None:
    """A broker that ended connections for TLS may not speak it: find out by asking without."""
    if not any(map(ended_in_handshake, heard)):
        return None
    family = _FAMILIES.get(settings.kafka.get(FAMILY, "any"), socket.AF_UNSPEC)
    for host, port in _addresses(row.bootstrap_servers.split(",")):
        if _is_open_kafka(host, port, family):
            answers = f"{host}:{port} answers without it"
            return Trouble(heals=False, line=f"the broker does not speak TLS: set {PROTOCOL} without SSL ({answers})")
    return None


def _is_open_kafka(host: str, port: int, family: socket.AddressFamily) -> bool:
    """Whether a broker answers there to what each may be asked first, without TLS and without a login (KIP-35)."""
    asks = struct.pack(">ihhih", 10, _API_VERSIONS, 0, number := 1_848_921, -1)
    try:
        with _connection(host, port, family) as connection:
            connection.sendall(asks)
            answer = connection.makefile("rb").read(8)
            return len(answer) == 8 and struct.unpack(">ii", answer)[1] == number
    except (OSError, UnicodeError):
        return False


def _connection(host: str, port: int, family: socket.AddressFamily) -> socket.socket:
    if family is not socket.AF_UNSPEC:
        host = str(socket.getaddrinfo(host, port, family)[0][4][0])
    return socket.create_connection((host, port), timeout=_REQUEST)


def _wrong_protocol(settings: Settings, row: Row) -> Trouble | None:
    """The client reports a broker that wants TLS or a login only as `disconnected`, and one that wants a login over TLS
    as silent: find out by asking for TLS.
    """
    protocol = settings.kafka.get("security.protocol", "plaintext").lower()
    if protocol == "sasl_ssl":
        return None
    for host, port in _addresses(row.bootstrap_servers.split(",")):
        answer = _greet(host, port, _FAMILIES.get(settings.kafka.get(FAMILY, "any"), socket.AF_UNSPEC))
        if answer == "tls" and protocol != "ssl":
            return Trouble(heals=False, line=f"{host}:{port} wants TLS: set {PROTOCOL} to SSL or SASL_SSL")
        if answer == ("tls" if protocol == "ssl" else "open"):
            login = "SASL_SSL" if protocol == "ssl" else "SASL_PLAINTEXT"
            silent = f"{host}:{port} accepts connections but does not answer: if this stays, check {PROTOCOL}:"
            may = "be no Kafka, or take no more connections (max.connections.per.ip)"
            wants = "" if protocol == "sasl_plaintext" else f"want a login, {login}, "
            return Trouble(heals=True, line=f"{silent} it may {wants}{may}")
    return None


def _greet(host: str, port: int, family: socket.AddressFamily) -> Literal["tls", "open", "closed"]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with _connection(host, port, family) as connection:
            try:
                with context.wrap_socket(connection):
                    return "tls"
            except ssl.SSLError as error:
                return "tls" if "ALERT" in (error.reason or "") else "open"
            except OSError:
                return "open"
    except (OSError, UnicodeError):
        return "closed"
