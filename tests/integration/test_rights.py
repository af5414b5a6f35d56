"""What Kafka forbids a worker, from the start or while it runs, on a broker with an authorizer; and what heals."""

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBindingFilter, AclOperation, AclPermissionType
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType

from tests.conftest import grant
from tests.integration.conftest import Scene, Scenes
from tests.integration.test_joining import ids
from tests.services.kafka import KafkaBroker

AGAIN = "starting again from the last commit"
FORBIDDEN = "Kafka forbids it"
EX_CONFIG = 78


def allow_all_again(broker: KafkaBroker, topic: str) -> None:
    every = AclBindingFilter(
        ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, "User:*", "*", AclOperation.ANY, AclPermissionType.ANY
    )
    admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    for removed in admin.delete_acls([every]).values():
        assert removed.result(10)


def failed(scene: Scene) -> int:
    """How many messages the last worker has given up as failed."""
    [stopped] = scene.job.workers[-1].said("stopped")
    return int(stopped["failed"])


@pytest.mark.real_kafka
@pytest.mark.parametrize("right", ["write to an output", "read an input", "read the group"])
def test_a_worker_that_lacks_a_right_says_which_and_does_not_start(
    guarded_kafka: KafkaBroker, scenes: Scenes, right: str
) -> None:
    scene = scenes(guarded_kafka)
    scene.feed(ids(10))
    (a, _), (out,) = scene.job.topics_input, scene.job.topics_output
    kind, name = {
        "write to an output": (ResourceType.TOPIC, out),
        "read an input": (ResourceType.TOPIC, a),
        "read the group": (ResourceType.GROUP, scene.job.name),
    }[right]
    grant(guarded_kafka, kind, name, AclOperation.DESCRIBE)
    worker = scene.job.start()
    assert worker.ends(60) == EX_CONFIG, worker.tail()
    assert worker.said(AGAIN) == []
    problems = [str(line["message"]) for line in worker.lines() if "no right to" in str(line["message"])]
    assert any(f" {name}: kafka-acls.sh " in problem for problem in problems), worker.tail()
    assert "Traceback" not in worker.tail()


@pytest.mark.real_kafka
@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_a_right_that_is_taken_away_ends_the_worker_and_no_message_is_blamed_for_it(
    guarded_kafka: KafkaBroker, scenes: Scenes, delivery: str
) -> None:
    scene = scenes(guarded_kafka, environment={"DELIVERY": delivery})
    (out,) = scene.job.topics_output
    worker = scene.job.start()
    scene.feed(ids(10, "before-"))
    scene.wait_for_all(worker)
    grant(guarded_kafka, ResourceType.TOPIC, out, AclOperation.READ)
    scene.feed(ids(10, "while-"))
    assert worker.ends(60) == EX_CONFIG, worker.tail()
    assert FORBIDDEN in str(worker.lines()[-1]["message"])
    allow_all_again(guarded_kafka, out)
    worker = scene.job.start()
    scene.wait_for_all(worker)
    assert worker.stop() == 0
    assert failed(scene) == 0
    scene.judge(once=delivery == "exactly_once")


@pytest.mark.real_kafka
def test_results_that_are_not_taken_for_long_are_nobodys_fault_and_leave_when_they_are(
    real_kafka: KafkaBroker, scenes: Scenes
) -> None:
    scene = scenes(real_kafka, environment={"KAFKA_LINGER_MS": "20"})
    (out,) = scene.job.topics_output
    let_records_be_older(real_kafka, out, 0)  # ms: no record is taken
    scene.feed(ids(10))
    worker = scene.job.start()
    worker.says(AGAIN, 5)
    let_records_be_older(real_kafka, out, 86_400_000)
    scene.wait_for_all(worker)
    assert worker.stop() == 0
    assert worker.said("no progress in several starts") == []
    assert failed(scene) == 0
    scene.judge()


def let_records_be_older(broker: KafkaBroker, topic: str, ms: int) -> None:
    """By so much than the broker's clock; it refuses what is older."""
    operation = AlterConfigOpType.SET
    entry = ConfigEntry("message.timestamp.before.max.ms", str(ms), incremental_operation=operation)
    changed = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    for future in admin.incremental_alter_configs([changed]).values():
        future.result(10)
