"""The topics that a worker needs: those of its row, and its own, of dead letters and of maps.

Nothing is changed, but that its own are created where they are missing.
"""

import difflib
import time
from collections.abc import Collection, Sequence

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from config import Settings, Trouble
from models import Row, map_topic
from utils.kafka.answers import answered
from utils.kafka.client_errors import explain, plain
from utils.kafka.names import Named, own_collisions
from utils.kafka.preflight import Cluster, asking
from utils.kafka.topic_configs import alter, compacted_dead_letters

_REQUEST = 5.0  # seconds that one request may take
_CREATED = 5.0  # seconds until brokers know of a topic that was made
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


def _names(topic: str, cluster: Cluster) -> str:
    existing = sorted(name for name in cluster.partitions if not name.startswith("__"))
    near = difflib.get_close_matches(topic, existing, n=5, cutoff=0.6)
    names = near + [name for name in existing if name not in near]
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "") or "none"


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
    admin = asking(settings, row, cluster)
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
