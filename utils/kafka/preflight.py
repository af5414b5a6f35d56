"""What is looked at before a worker starts: the brokers of its row, and what they say of themselves and their topics.

Nothing is changed. Why brokers cannot be reached, what the user may do, and which topics there are to be, have files of
their own beside it.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._metadata import TopicMetadata
from confluent_kafka.admin._resource import ResourceType

from config import ConfigError, Settings
from models import Row, map_topic
from utils.kafka.answers import answered
from utils.kafka.client_errors import CONNECTION_ERRORS, advertised, explain, not_reached, plain
from utils.kafka.clients import quiet_properties, reader
from utils.kafka.ends import Partition, ends_now
from utils.kafka.limits import DEFAULT_METADATA, LARGEST_BATCH, LEAST_METADATA, CommitLimits
from utils.kafka.lookups import EARLIEST, LATEST, committed, offsets_at
from utils.kafka.properties import largest_record
from utils.kafka.topic_configs import Configs
from utils.kafka.unreached import hopeless, or_family, why
from utils.kafka.wrong_properties import named_properties

_REQUEST = 5.0  # seconds that one request may take
METADATA_SETTING = "offset.metadata.max.bytes"
RETENTION_SETTING = "offsets.retention.minutes"  # of commits
_PAUSE = 0.1  # seconds before brokers are asked again
_NO_BROKER = (
    "what answers is no broker, but perhaps a controller (KRaft), whose port is often 9093:"
    " check kafka_bootstrap_server of the row"
)


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
                raise why([*heard, error.args[0]], settings, row).error() from error
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
    answers = [admin.describe_configs([broker], request_timeout=_REQUEST)[broker] for broker in brokers]
    silent, configurations = [], list[Mapping[str, Any]]()
    for address, answer in zip(addresses.values(), answers, strict=True):
        try:
            configurations.append(answered(answer))
        except KafkaException as error:
            if error.args[0].code() in CONNECTION_ERRORS:
                silent.append(address)
    admin.poll(0)
    if silent:
        told = [each for each in heard if advertised(each) in silent]
        lasting = hopeless(told, settings, silent)
        reason = plain(told[0].str()) if told else f"no answer within {_REQUEST:g} s"
        raise (lasting or not_reached(silent, reason, or_family(settings))).error()
    return configurations


def _configs(admin: AdminClient, topics: Sequence[str]) -> Configs:
    """Those of each topic, as the broker writes them; without the topics of which it does not tell them, for want of
    the right. All are asked for at once.
    """
    resources = [ConfigResource(ResourceType.TOPIC, topic) for topic in topics]
    answers = admin.describe_configs(resources, request_timeout=_REQUEST) if resources else {}
    told = dict[str, Mapping[str, str]]()
    for resource, answer in answers.items():
        with suppress(KafkaException):
            told[resource.name] = {name: str(entry.value) for name, entry in answered(answer).items()}
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


def ends(settings: Settings, row: Row, cluster: Cluster, topics: Collection[str]) -> dict[Partition, int]:
    """Where the partitions of these topics end now. Raises UnavailableError."""
    partitions = [(topic, number) for topic in topics for number in range(cluster.partitions.get(topic, 0))]
    try:
        return ends_now(asking(settings, row, cluster), partitions) if partitions else {}
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


def asking(settings: Settings, row: Row, cluster: Cluster) -> AdminClient:
    # No `or`: a client is false while nothing waits in its queue.
    return _admin(settings, row, lambda _error: None) if cluster.admin is None else cluster.admin


def _admin(settings: Settings, row: Row, on_error: Callable[[KafkaError], None]) -> AdminClient:
    """A client for one look: what it hears goes to `on_error` and not to the log."""
    with named_properties(settings):
        return AdminClient(quiet_properties(settings, row, on_error))
