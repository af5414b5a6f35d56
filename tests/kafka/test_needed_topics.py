"""The topics that a worker needs: those that are missing, and its own."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from types import MappingProxyType
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclOperation
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType

from config import Settings, UnavailableError
from models import Row
from tests.conftest import Topics, grant
from tests.kafka.brokers import SlowAdmin, eventually, no_right_to_create, row_at, settings_with
from tests.services.kafka import KafkaBroker, unique_name
from tests.services.processes import free_port
from utils.kafka.needed_topics import (
    DEAD_LETTER_TOPIC,
    fewer_replicas,
    missing_topics,
    provide_dead_letter_topic,
    provide_map_topic,
    unequal_partitions,
)
from utils.kafka.preflight import Cluster, look
from utils.kafka.topic_configs import forgotten_dead_letters


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


def test_looking_for_a_topic_does_not_create_it(kafka: KafkaBroker, topics: Topics) -> None:
    (a,) = topics(kafka, "a")
    row = row_at(kafka.bootstrap, a, f"{a}-absent")

    for _ in range(2):
        [problem] = missing_topics(row, look(settings_with(), row))
        assert problem.startswith(f"topic {a}-absent of topics_output does not exist")
        assert f" there are: {a}" in problem


@pytest.mark.parametrize(("only_try", "asked"), [(False, 3), (True, 0)])
def test_a_topic_is_created_when_the_broker_knows_it(
    monkeypatch: pytest.MonkeyPatch, only_try: bool, asked: int
) -> None:
    """Until then it tells no rights to it, and a worker that may not write it took itself for one that may."""
    monkeypatch.setattr("utils.kafka.needed_topics.time.sleep", lambda _seconds: None)
    admin = SlowAdmin()
    cluster = Cluster(("h:1",), {}, admin=cast(AdminClient, admin))
    assert provide_map_topic(settings_with(), row_at("h:1"), cluster, only_try=only_try) == []
    assert admin.asked == asked


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
    told = fewer_replicas(row_at("h:1"), cluster, "orders-dlq")
    assert told.startswith("topic orders-dlq has 1 replica, the input topics have 3: ")
    assert fewer_replicas(row_at("h:1"), cluster, "orders-offsets") == ""
    assert fewer_replicas(row_at("h:1"), cluster, "not there") == ""


def test_where_not_enough_brokers_are_there_for_its_topics_a_worker_waits() -> None:
    class Refusing(SlowAdmin):
        def create_topics(self, topics: Sequence[Any], **_: Any) -> dict[str, "Future[None]"]:
            future: Future[None] = Future()
            future.set_exception(KafkaException(KafkaError(KafkaError.INVALID_REPLICATION_FACTOR)))
            return {each.topic: future for each in topics}

    cluster = Cluster(("h:1",), {"a": 3, "b": 3}, replicas={"a": 3, "b": 3}, admin=cast(AdminClient, Refusing()))
    with pytest.raises(UnavailableError, match="topic orders-offsets is missing, and not enough brokers are there"):
        provide_map_topic(settings_with(), row_at("h:1"), cluster)
