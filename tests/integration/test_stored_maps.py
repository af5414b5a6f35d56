"""Maps that do not fit into a commit, on real Kafka: kills and compaction lose none, a deleted one breaks no pair."""

import random
import shutil
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourceType

from config import Settings
from models import Row
from tests.integration.conftest import Scene, Scenes
from tests.integration.workers import ends_of, eventually
from tests.services.kafka import JavaBroker, KafkaBroker, unique_name
from tests.services.processes import running
from utils.kafka.clients import client_properties, producer

MANY = 40_000  # of which a random half waits: a map of 6,700 characters
FEW, SHORT = 10_000, "1024"  # as many for a broker that takes only this as metadata: a quarter of the time
COMPACTED_AT_ONCE = {
    "cleanup.policy": "compact",
    "segment.ms": "200",
    "min.cleanable.dirty.ratio": "0.001",
    "min.compaction.lag.ms": "0",
    "delete.retention.ms": "0",
}
MODES = pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])


@pytest.fixture(scope="module")
def eager_kafka(real_kafka: KafkaBroker) -> Iterator[KafkaBroker]:
    """A broker that compacts as soon as it may, and has little room for a map in a commit."""
    if shutil.which("java") is None:
        pytest.skip("only a broker started with Java can be told to compact at once")
    properties = {"log.cleaner.backoff.ms": "200", "offset.metadata.max.bytes": SHORT}
    properties["auto.create.topics.enable"] = "true"  # as is Kafka's default
    with running(JavaBroker(properties, heap="512m")) as broker:
        yield broker


def half_fed(scene: Scene, chance: random.Random, many: int = MANY) -> list[str]:
    """Many ids on the first topic, a random half of them on the second; those whose mate is to come, in any order."""
    a, b = scene.job.topics_input
    every = [str(number) for number in range(many)]
    scene.feed(every, a, partition=0)
    met = set(chance.sample(every, many // 2))
    scene.feed(met, b, partition=0)
    waiting = [id for id in every if id not in met]
    chance.shuffle(waiting)
    return waiting


def waiting_in_commits(scene: Scene) -> int:
    return sum(len(commit.waiting) for commit in scene.job.commits().values())


def stored(scene: Scene) -> tuple[int, int]:
    """How many records the topic of maps holds, and how many it has ever held."""
    settings = {"bootstrap.servers": scene.broker.bootstrap, "group.id": "none", "log_level": 0}
    reader = Consumer({**settings, "isolation.level": "read_uncommitted", "enable.auto.commit": False})
    try:
        [end] = ends_of(reader, [scene.job.map_topic], OFFSET_END).values()
        reader.assign([TopicPartition(scene.job.map_topic, 0, OFFSET_BEGINNING)])
        seen = 0
        while max(reader.position([TopicPartition(scene.job.map_topic, 0)])[0].offset, 0) < end:
            seen += len(reader.consume(1_000, 0.2))
        return seen, end
    finally:
        reader.close()


@MODES
def test_kills_and_compaction_leave_the_map_of_the_commit(
    eager_kafka: KafkaBroker, scenes: Scenes, delivery: str
) -> None:
    chance = random.Random(7)
    scene = scenes(eager_kafka, partitions=1, environment={"DELIVERY": delivery, "MESSAGE_TIMEOUT": "3600"})
    eager_kafka.create_topic(scene.job.map_topic, 1, COMPACTED_AT_ONCE)
    waiting = half_fed(scene, chance, FEW)
    worker = scene.job.start()
    scene.wait_for_all(worker)
    eventually(lambda: waiting_in_commits(scene) == len(waiting), "the map of all that waits")
    worker.kill()
    for _ in range(3):  # each one takes over from a stored map, and dies with another one
        some, waiting = waiting[:500], waiting[500:]
        before = sum(scene.oracle.results.values())
        worker = scene.job.start()
        worker.is_assigned()
        scene.feed(some, scene.job.topics_input[1], partition=0)
        scene.wait_for(before + len(some) // 2, worker)
        time.sleep(chance.uniform(0, 0.2))
        worker.kill()
        scene.judge_so_far()
    worker = scene.job.start().is_assigned()
    scene.wait_for_all(worker)
    # Commits go on as long as there is anything to read; the compacted topic keeps what the last one names.
    for number in range(10):
        scene.feed([f"later-{number}"])
        time.sleep(0.3)
    eventually(lambda: stored(scene)[0] < stored(scene)[1] // 2, "the compaction of maps out of use")
    scene.wait_for_all(worker)
    eventually(lambda: waiting_in_commits(scene) == len(waiting), "the commit of what was fed last")
    assert worker.stop() == 0
    worker = scene.job.start()
    scene.feed(waiting, scene.job.topics_input[1], partition=0)
    scene.wait_for_all(worker)
    assert worker.stop() == 0
    assert not worker.said("the stored map of a commit is missing")
    scene.judge(once=delivery == "exactly_once")
    assert scene.job.lag() == 0


def test_a_topic_of_maps_that_somebody_deleted_loses_nothing_and_is_an_error_in_the_log(
    real_kafka: KafkaBroker, scenes: Scenes
) -> None:
    scene = scenes(real_kafka, partitions=1, environment={"MESSAGE_TIMEOUT": "3600"})
    waiting = half_fed(scene, random.Random(8))
    worker = scene.job.start()
    scene.wait_for_all(worker)
    assert worker.stop() == 0
    assert waiting_in_commits(scene) == len(waiting)
    admin = AdminClient({"bootstrap.servers": real_kafka.bootstrap, "log_level": 0})
    admin.delete_topics([scene.job.map_topic])[scene.job.map_topic].result(60)
    eventually(lambda: scene.job.map_topic not in admin.list_topics(timeout=60).topics, "the end of the topic")
    worker = scene.job.start()
    worker.says("the stored map of a commit is missing")
    scene.feed(waiting, scene.job.topics_input[1], partition=0)
    scene.wait_for_all(worker)
    assert worker.stop() == 0
    assert worker.said("stopped")[0]["missing_maps"] == 1
    scene.judge()


def test_a_topic_of_maps_that_is_deleted_before_it_is_needed_is_made_again(
    eager_kafka: KafkaBroker, scenes: Scenes
) -> None:
    """The worker started again five times, committed hardly anything, and ended with 1."""
    scene = scenes(eager_kafka, partitions=1, environment={"MESSAGE_TIMEOUT": "3600"})
    worker = scene.job.start().is_assigned()
    admin = AdminClient({"bootstrap.servers": eager_kafka.bootstrap, "log_level": 0})
    admin.delete_topics([scene.job.map_topic])[scene.job.map_topic].result(60)
    eventually(lambda: scene.job.map_topic not in admin.list_topics(timeout=60).topics, "the end of the topic")
    waiting = half_fed(scene, random.Random(8), FEW)
    assert worker.says("topics of the worker's own were gone: they are made again")["topics"] == [scene.job.map_topic]
    scene.wait_for_all(worker)
    assert worker.stop() == 0
    assert waiting_in_commits(scene) == len(waiting)
    scene.judge()


def test_a_topic_of_maps_that_somebody_has_changed_is_read_all_the_same(
    eager_kafka: KafkaBroker, scenes: Scenes
) -> None:
    """At least once it is not written any more. It counted as one that does not exist, and no worker began."""
    scene = scenes(eager_kafka, partitions=1, environment={"MESSAGE_TIMEOUT": "3600"})
    waiting = half_fed(scene, random.Random(8), FEW)
    worker = scene.job.start()
    scene.wait_for_all(worker)
    assert worker.stop() == 0
    assert waiting_in_commits(scene) == len(waiting)
    entry = ConfigEntry("cleanup.policy", "compact,delete", incremental_operation=AlterConfigOpType.SET)
    changed = ConfigResource(ResourceType.TOPIC, scene.job.map_topic, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": eager_kafka.bootstrap, "log_level": 0})
    admin.incremental_alter_configs([changed])[changed].result(60)
    worker = scene.job.start()
    worker.says("commits pause when a map of waiting messages does not fit")
    scene.feed(waiting, scene.job.topics_input[1], partition=0)
    scene.wait_for_all(worker)
    assert worker.stop() == 0
    assert worker.said("stopped")[0]["missing_maps"] == 0
    scene.judge()  # while commits are held back, a rebalance on a busy machine makes results come twice


def test_no_client_of_ours_makes_the_brokers_create_a_topic(eager_kafka: KafkaBroker) -> None:
    """A topic of dead letters that somebody deleted came back by itself, with one partition that keeps a week."""
    name, row = unique_name("deleted"), Row.validated("orders", "a", "b", eager_kafka.bootstrap)
    with closing(producer(client_properties(Settings(), row), lambda *_: None)) as ours:
        ours.produce(name, b"{}")
        assert ours.list_topics(name, timeout=60).topics[name].error is not None
    assert name not in AdminClient({"bootstrap.servers": eager_kafka.bootstrap}).list_topics(timeout=60).topics


def test_without_the_right_topic_commits_are_held_back_and_nothing_is_lost(
    real_kafka: KafkaBroker, scenes: Scenes
) -> None:
    scene = scenes(real_kafka, partitions=1, environment={"MESSAGE_TIMEOUT": "3600"})
    real_kafka.create_topic(scene.job.map_topic, 1, {"cleanup.policy": "delete"})
    waiting = half_fed(scene, random.Random(9))
    worker = scene.job.start()
    worker.says("commits pause when a map of waiting messages does not fit")
    worker.says("commit held back: the map of waiting offsets does not fit")
    scene.wait_for_all(worker)
    scene.feed(waiting, scene.job.topics_input[1], partition=0)
    scene.wait_for_all(worker)
    eventually(lambda: scene.job.lag() == 0, "a commit, now that the map fits")
    assert worker.stop() == 0
    scene.judge(once=True)
