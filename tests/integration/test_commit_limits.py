"""What brokers take of a commit, on real Kafka: the length of a map, told or not, and the size of one request."""

import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import cast

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBinding, AclBindingFilter, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType
from confluent_kafka.cimpl import NewTopic

from tests.integration.conftest import Scene, Scenes
from tests.integration.workers import SECONDS, eventually
from tests.services.kafka import JavaBroker, KafkaBroker, unique_name
from tests.services.processes import running
from utils.joining.offsets import CommitPoint, OffsetMap
from utils.joining.states import States
from utils.metrics import Counters
from utils.sending.delivery import AtLeastOnce, Delivery, ExactlyOnce
from utils.sending.failures import Failures
from utils.sending.map_store import MapStore, MapTopic
from utils.sending.outbox import Outbox
from utils.sending.refusals import Refusals

MODES = pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
WIDE = 270  # partitions
MANY = 12_000  # of which a random half waits: a map of 2,000 characters
NARROW = 1_024
AUTHORIZER = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}


@pytest.fixture(scope="module")
def narrow_kafka(real_kafka: KafkaBroker) -> Iterator[JavaBroker]:
    """A broker that takes short metadata only."""
    if shutil.which("java") is None:
        pytest.skip("only a broker started with Java can be told so")
    with running(JavaBroker({"offset.metadata.max.bytes": str(NARROW), **AUTHORIZER}, heap="512m")) as broker:
        yield broker


@MODES
@pytest.mark.parametrize("tells", [True, False], ids=["told", "not told"])
def test_maps_that_the_broker_finds_too_long_are_stored_and_nothing_starts_again(
    narrow_kafka: JavaBroker, scenes: Scenes, delivery: str, tells: bool
) -> None:
    scene = scenes(narrow_kafka, partitions=1, environment={"DELIVERY": delivery, "MESSAGE_TIMEOUT": "3600"})
    with nullcontext() if tells else configuration_is_secret(narrow_kafka):
        join_and_restart(scene, tells)


def join_and_restart(scene: Scene, tells: bool) -> None:
    a, b = scene.job.topics_input
    every = [str(number) for number in range(MANY)]
    scene.feed(every, a, partition=0)
    met = set(random.Random(3).sample(every, MANY // 2))
    scene.feed(met, b, partition=0)
    waiting = [id for id in every if id not in met]
    worker = scene.job.start()
    scene.wait_for_all(worker)
    eventually(lambda: waiting_in_commits(scene) == len(waiting), f"the map of all that waits\n{worker.tail()}")
    assert worker.stop() == 0
    assert not worker.said("starting again"), worker.tail()
    assert len(worker.said("the brokers take shorter maps only")) == (0 if tells else 1)
    worker = scene.job.start()
    scene.feed(waiting, b, partition=0)
    scene.wait_for_all(worker)
    assert worker.stop() == 0
    scene.judge(once=True)


@contextmanager
def configuration_is_secret(broker: KafkaBroker) -> Iterator[None]:
    """Everybody may do with the cluster what is named, and so nothing else."""
    granted = (AclOperation.ALTER, AclOperation.CLUSTER_ACTION, AclOperation.CREATE, AclOperation.DESCRIBE)
    cluster = ResourceType.BROKER, "kafka-cluster", ResourcePatternType.LITERAL, "User:*", "*"
    admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    acls = [AclBinding(*cluster, each, AclPermissionType.ALLOW) for each in granted]
    for created in admin.create_acls(acls).values():
        created.result(SECONDS)
    yield
    for deleted in admin.delete_acls([AclBindingFilter(*cluster, AclOperation.ANY, AclPermissionType.ANY)]).values():
        deleted.result(SECONDS)


def waiting_in_commits(scene: Scene) -> int:
    return sum(len(commit.waiting) for commit in scene.job.commits().values())


@pytest.fixture(scope="module")
def wide_topic(real_kafka: KafkaBroker) -> str:
    """As wide as a topic must be for its maps, short ones all, to make too large a commit."""
    admin = AdminClient({"bootstrap.servers": real_kafka.bootstrap, "log_level": 0})
    name = unique_name("wide")
    for delivery in ("at_least_once", "exactly_once"):  # before it keeps the broker busy for a moment
        real_kafka.create_topic(f"{name}-{delivery}-offsets", 1, {"cleanup.policy": "compact"})
    admin.create_topics([NewTopic(name, WIDE, 1)])[name].result(SECONDS)

    def has_leaders() -> bool:
        found = admin.list_topics(name, timeout=SECONDS).topics[name].partitions
        return len(found) == WIDE and all(each.leader >= 0 for each in found.values())

    eventually(has_leaders, "leaders of all partitions", pause=0.2)
    return name


@MODES
def test_a_commit_of_many_long_maps_stays_below_what_the_broker_takes_at_once(
    real_kafka: KafkaBroker, wide_topic: str, delivery: str
) -> None:
    topic, partitions = wide_topic, WIDE
    group = f"{wide_topic}-{delivery}"
    chance = random.Random(5)
    points = []
    for number in range(partitions):
        states = States.of(chance.choices((0, 1), k=chance.randrange(22_000, 24_000)), 7)
        points.append(CommitPoint(topic, number, 7, OffsetMap("id", 7, 1, 2, states, "tags").encode()))
    longest = max(len(point.metadata) for point in points)
    assert 3_900 < longest < 4_096, "each of them alone fits"
    settings = {
        "bootstrap.servers": real_kafka.bootstrap,
        "group.id": group,
        "enable.auto.commit": False,
        "log_level": 0,
    }
    maps = MapStore(
        MapTopic(f"{group}-offsets"),
        partial(Consumer, {**settings, "isolation.level": "read_uncommitted"}),
        lambda: unique_name("writer"),
        Counters(),
    )
    maps.load({})
    sender = committing(real_kafka, maps, delivery)
    consumer = Consumer({**settings, "on_commit": sender.on_commit})
    assigned: list[TopicPartition] = []
    try:

        def on_assign(consumer: Consumer, given: list[TopicPartition]) -> None:
            sender.assigned(consumer)
            assigned.extend(given)

        consumer.subscribe([topic], on_assign=on_assign)
        eventually(lambda: consumer.poll(0.1) or assigned, "the assignment")
        sender.commit_now(consumer, points)
        committed = consumer.committed([TopicPartition(topic, number) for number in range(partitions)], timeout=30)
        found = {(each.topic, each.partition): each.metadata for each in committed}
        stored = maps.load(found)
        assert 0 < len(stored) < partitions, "some are stored, and some are in the commit"
        assert {at: stored.get(at, text) for at, text in found.items()} == {
            (point.topic, point.partition): point.metadata for point in points
        }
    finally:
        consumer.close()


def committing(broker: KafkaBroker, maps: MapStore, delivery: str) -> Delivery:
    settings: dict[str, str] = {"bootstrap.servers": broker.bootstrap, "log_level": "0"}
    if delivery == "exactly_once":
        settings["transactional.id"] = unique_name("wide")
    failures = Failures("wide", "", Counters())
    outbox = Outbox(lambda report: Producer({**settings, "on_delivery": report}), (), failures, Refusals())
    return cast(Delivery, (ExactlyOnce if delivery == "exactly_once" else AtLeastOnce)(outbox, maps))
