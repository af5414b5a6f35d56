"""What Kafka forbids a worker, from the start or while it runs, on a broker with an authorizer; and what heals."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBindingFilter, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType

from tests.conftest import Topics, grant
from tests.integration.commands import Commands
from tests.integration.conftest import Scene, Scenes
from tests.integration.test_joining import ids
from tests.integration.workers import Worker, eventually
from tests.services.kafka import KafkaBroker

AGAIN = "starting again from the last commit"
FORBIDDEN = "Kafka forbids it"
EX_CONFIG = 78
# A worker whose pauses before it starts again end at once: 25 s of them come before the sixth failure.
WITHOUT_PAUSES = """
import sys, main
from utils.running import supervision
supervision.sleep = lambda *_: None
sys.exit(main.main())
"""


def allow_all_again(broker: KafkaBroker, topic: str) -> None:
    every = AclBindingFilter(
        ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, "User:*", "*", AclOperation.ANY, AclPermissionType.ANY
    )
    admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    for removed in admin.delete_acls([every]).values():
        assert removed.result(60)


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
    assert worker.ends() == EX_CONFIG, worker.tail()
    assert worker.said(AGAIN) == []
    problems = [str(line["message"]) for line in worker.lines() if "no right to" in str(line["message"])]
    assert any(f" {name}: kafka-acls.sh " in problem for problem in problems), worker.tail()
    assert "Traceback" not in worker.tail()


@pytest.mark.real_kafka
def test_who_tries_messages_needs_no_right_to_the_group(
    guarded_kafka: KafkaBroker, scenes: Scenes, tmp_path: Path
) -> None:
    """The client looks for the coordinator of a group that it never joins."""
    scene = scenes(guarded_kafka)
    grant(guarded_kafka, ResourceType.GROUP, scene.job.name, AclOperation.DESCRIBE_CONFIGS)  # nothing else any more
    scene.feed(ids(10))
    tried = Commands(scene.job, tmp_path, command="try")
    assert "10  forwarded" in tried.run("--last", "10")
    *_, said = tried.refused("--last", "10", "--anonymous", "")
    assert said.endswith("--anonymous: must not be empty")


@pytest.mark.real_kafka
def test_at_least_once_does_without_the_right_to_store_maps(guarded_kafka: KafkaBroker, scenes: Scenes) -> None:
    scene = scenes(guarded_kafka)
    grant(guarded_kafka, ResourceType.TOPIC, scene.job.map_topic, AclOperation.DESCRIBE)
    scene.feed(ids(10))
    worker = scene.job.start()
    scene.wait_for_all(worker)
    assert worker.says("commits pause when a map of waiting messages does not fit")
    assert worker.stop() == 0
    worker = scene.job.start(DELIVERY="exactly_once")
    assert worker.ends() == EX_CONFIG, worker.tail()
    assert scene.job.map_topic in str(worker.lines()[-1]["message"])


@pytest.mark.real_kafka
def test_dead_letters_are_listed_and_replayed_without_the_right_to_read_the_topic_of_maps(
    guarded_kafka: KafkaBroker, scenes: Scenes, tmp_path: Path
) -> None:
    """It ended with 78 and sent its reader to `check`, which named nothing."""
    scene = scenes(guarded_kafka, slow_process=True, environment={"PROCESS_ODD": "1"})
    scene.feed(["fail-1", "1"])
    worker = scene.job.start()
    eventually(lambda: scene.job.lag() == 0, f"all committed\n{worker.tail()}")
    assert worker.stop() == 0
    scene.feed_raw(scene.job.map_topic, b"a map, say")
    grant(guarded_kafka, ResourceType.TOPIC, scene.job.map_topic, AclOperation.DESCRIBE)
    commands = Commands(scene.job, tmp_path)
    process = commands.start("list")
    out, log = process.communicate(timeout=120)
    assert process.returncode == 0, log
    assert "fail-1" in out
    assert f"no right to READ topic {scene.job.map_topic}: kafka-acls.sh" in log
    assert "1  replayed" in commands.run("replay", "--all")
    assert "fail-1" not in commands.run("list")


def deprived(
    guarded_kafka: KafkaBroker, scenes: Scenes, delivery: str, main: Sequence[str] = ("main.py",)
) -> tuple[Scene, Worker]:
    """A worker that has sent results, and may send no more; there is something to send."""
    scene = scenes(guarded_kafka, environment={"DELIVERY": delivery})
    worker = scene.job.start(main=main)
    scene.feed(ids(10, "before-"))
    scene.wait_for_all(worker)
    (out,) = scene.job.topics_output
    grant(guarded_kafka, ResourceType.TOPIC, out, AclOperation.READ)
    scene.feed(ids(10, "while-"))
    return scene, worker


@pytest.mark.real_kafka
@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_a_right_that_is_taken_away_ends_the_worker_and_no_message_is_blamed_for_it(
    guarded_kafka: KafkaBroker, scenes: Scenes, delivery: str
) -> None:
    scene, worker = deprived(guarded_kafka, scenes, delivery, main=("-c", WITHOUT_PAUSES))
    assert worker.ends() == EX_CONFIG, worker.tail()
    assert [line["failures"] for line in worker.said(AGAIN)] == [1, 2, 3, 4, 5]
    assert FORBIDDEN in str(worker.lines()[-1]["message"])
    allow_all_again(guarded_kafka, *scene.job.topics_output)
    worker = scene.job.start()
    scene.wait_for_all(worker)
    assert worker.stop() == 0
    assert failed(scene) == 0
    scene.judge(once=delivery == "exactly_once")


@pytest.mark.real_kafka
@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_a_right_that_is_missing_for_a_moment_ends_no_worker(
    guarded_kafka: KafkaBroker, scenes: Scenes, delivery: str
) -> None:
    """Who replaces an ACL takes the old one away first: all workers of the consumer ended with 78."""
    scene, worker = deprived(guarded_kafka, scenes, delivery)
    assert FORBIDDEN in str(worker.says(AGAIN)["error"])
    allow_all_again(guarded_kafka, *scene.job.topics_output)
    scene.wait_for_all(worker)
    assert worker.stop() == 0
    assert failed(scene) == 0
    scene.judge(once=delivery == "exactly_once")


@pytest.mark.real_kafka
def test_results_that_are_not_taken_for_long_are_nobodys_fault_and_leave_when_they_are(
    real_kafka: KafkaBroker, scenes: Scenes, topics: Topics
) -> None:
    impatient = {"KAFKA_TOPIC_METADATA_PROPAGATION_MAX_MS": "200", "KAFKA_MESSAGE_TIMEOUT_MS": "2000"}
    scene = scenes(real_kafka, environment=impatient)
    (gone,) = topics(real_kafka, "gone")
    scene.job.write_row(topics_output=[*scene.job.topics_output, gone])
    worker = scene.job.start().is_assigned()
    admin = AdminClient({"bootstrap.servers": real_kafka.bootstrap, "log_level": 0})
    admin.delete_topics([gone])[gone].result(60)
    scene.feed(ids(10))
    worker.says(AGAIN, 5)
    real_kafka.create_topic(gone, 4)
    eventually(lambda: not scene.job.lag(), f"all committed\n{worker.tail()}")
    scene.wait_for_all(worker)
    assert worker.stop() == 0
    assert worker.said("first message not done in several starts") == []
    assert failed(scene) == 0
    scene.judge()


@pytest.mark.real_kafka
@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_a_commit_that_is_refused_for_one_topic_is_none_for_the_others(
    guarded_kafka: KafkaBroker, scenes: Scenes, delivery: str
) -> None:
    """It was carried out for them: a thousand messages had lost their mates, and were given up."""
    environment = {"MESSAGE_TIMEOUT": "4", "PROCESS_SECONDS": "0.001", "COMMIT_INTERVAL": "0.2"}
    scene = scenes(guarded_kafka, partitions=1, environment={"DELIVERY": delivery, **environment})
    scene.feed(ids(6_000))
    worker = scene.job.start()
    scene.wait_for(500, worker)
    _, b = scene.job.topics_input
    grant(guarded_kafka, ResourceType.TOPIC, b, AclOperation.DESCRIBE)
    worker.says(AGAIN)
    allow_all_again(guarded_kafka, b)
    scene.wait_for_all(worker)
    eventually(lambda: not scene.job.lag(), f"all committed\n{worker.tail()}")
    assert worker.stop() == 0
    [stopped] = worker.said("stopped")
    assert not stopped["evicted"]
    scene.judge(once=delivery == "exactly_once")


@pytest.mark.real_kafka
@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_a_right_that_several_workers_lose_is_no_message_s_fault(
    guarded_kafka: KafkaBroker, scenes: Scenes, delivery: str
) -> None:
    """The partition with news goes from one to the next as each fails, and the fifth took a message for guilty."""
    scene = scenes(guarded_kafka, environment={"DELIVERY": delivery, "MESSAGE_TIMEOUT": "600"}, partitions=6)
    (out,) = scene.job.topics_output
    workers = [scene.job.start() for _ in range(6)]
    for each in workers:
        each.is_assigned()  # at a start a right that is missing ends it at once
    scene.feed(ids(60, "before-"))
    scene.wait_for_all(*workers)
    grant(guarded_kafka, ResourceType.TOPIC, out, AclOperation.READ)
    scene.feed(ids(6, "while-"), *scene.job.topics_input, partition=2)
    eventually(lambda: sum(len(each.said(AGAIN)) for each in workers) >= 8, f"hops\n{workers[0].tail()}")
    allow_all_again(guarded_kafka, out)
    scene.wait_for_all(*workers)
    assert [each.stop() for each in workers] == [0] * 6
    assert [int(each.said("stopped")[0]["failed"]) for each in workers] == [0] * 6
    assert not any(each.said("process() failed") for each in workers)
