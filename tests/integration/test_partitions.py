"""Producers that hash differently, and partitions that are added while workers run, on real Kafka."""

import time
from collections.abc import Sequence
from itertools import count, islice
from pathlib import Path

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from tests.integration.conftest import Scene, Scenes
from tests.integration.workers import Worker, eventually, feed
from tests.services.kafka import KafkaBroker, is_led, kept_feeder
from utils.joining.partitions import murmur2

ADDED = "partitions were added to an input topic"
NO_FIT = "keys do not fit those of the other topics"
GIVEN_UP = {"MESSAGE_TIMEOUT": "3"}


def ids(number: int, prefix: str = "") -> list[str]:
    return [f"{prefix}{each}" for each in range(number)]


def feed_hashed(scene: Scene, ids: Sequence[str], topic: str, partitioner: str) -> None:
    settings = {"bootstrap.servers": scene.broker.bootstrap, "partitioner": partitioner, "log_level": 0}
    feed(scene.broker, scene.oracle, ids, [topic], producer=Producer(settings))


def add_partitions(broker: KafkaBroker, topics: Sequence[str], number: int) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    for future in admin.create_partitions([NewPartitions(topic, number) for topic in topics]).values():
        future.result(60)
    # It learns of them a little later than the controller.
    eventually(lambda: all(is_led(admin, topic, number) for topic in topics), "the partitions", pause=0.02)
    kept_feeder.cache_clear()  # the old one hears of them minutes later


def partitions_of(worker: Worker) -> list[str]:
    """What its last assignment was."""
    said = worker.said("partitions assigned")
    return list(said[-1]["partitions"]) if said else []


def test_a_topic_of_librdkafka_beside_one_of_java_is_named_and_joined_by_a_worker_that_owns_all(
    real_kafka: KafkaBroker, scenes: Scenes
) -> None:
    scene = scenes(real_kafka, environment=GIVEN_UP)
    java, other = scene.job.topics_input
    worker = scene.job.start().is_assigned()
    feed_hashed(scene, ids(5_000), java, "murmur2_random")
    feed_hashed(scene, ids(5_000), other, "consistent_random")
    scene.wait_for_all(worker)
    line = worker.says(NO_FIT)
    assert (line["topic"], line["level"].upper()) == (other, "ERROR")
    assert "CRC32" in line["mismatch"]
    feed_hashed(scene, ids(1_000, "later-"), other, "consistent_random")
    feed_hashed(scene, ids(1_000, "later-"), java, "murmur2_random")
    scene.wait_for_all(worker)
    assert worker.stop() == 0
    assert len(worker.said(NO_FIT)) == 1
    assert worker.said("stopped")[0]["evicted"] == 0
    scene.judge(once=True)


def ids_of(partition: int, prefix: str, number: int) -> list[str]:
    """Those whose key belongs there, of two."""
    return list(islice((id for each in count() if murmur2((id := f"{prefix}{each}").encode(), 2) == partition), number))


def test_a_part_that_lies_unread_where_a_producer_has_begun_to_put_it_is_waited_for(
    real_kafka: KafkaBroker, scenes: Scenes, tmp_path: Path
) -> None:
    """The first keys were as they should be, and believed."""
    blocked = tmp_path / "blocked"  # while it exists, process() does not return: soon nothing more is read
    environment = {**GIVEN_UP, "MAX_PENDING_BYTES": "2000000", "PROCESS_BLOCKED": str(blocked)}
    scene = scenes(real_kafka, partitions=2, slow_process=True, environment=environment)
    worker = scene.job.start().is_assigned()
    for partition in range(2):
        scene.feed(ids_of(partition, "alike-", 200), partition=partition)
    scene.wait_for_all(worker)
    blocked.touch()
    first, second = scene.job.topics_input
    moved = ids_of(0, "moved-", 20)
    scene.feed(moved, first)
    feed(real_kafka, scene.oracle, ids_of(1, "filler-", 3_000), pad=2_000, partition=1)
    scene.feed(moved, second, partition=1)
    time.sleep(9.0)  # three times MESSAGE_TIMEOUT
    blocked.unlink()
    scene.wait_for_all(worker)
    assert worker.stop() == 0
    assert worker.said("stopped")[0]["evicted"] == 0
    scene.judge(once=True)


def test_two_workers_name_it_too(real_kafka: KafkaBroker, scenes: Scenes) -> None:
    scene = scenes(real_kafka, environment={"MESSAGE_TIMEOUT": "3600"})
    java, other = scene.job.topics_input
    workers = [scene.job.start(), scene.job.start()]
    eventually(lambda: all(len(partitions_of(worker)) == 4 for worker in workers), "both have their part")
    feed_hashed(scene, ids(2_000), java, "murmur2_random")
    feed_hashed(scene, ids(2_000), other, "consistent_random")
    for worker in workers:
        assert worker.says(NO_FIT)["topic"] == other


def test_topics_that_are_hashed_alike_are_no_news(real_kafka: KafkaBroker, scenes: Scenes) -> None:
    scene = scenes(real_kafka)
    worker = scene.job.start().is_assigned()
    for topic in scene.job.topics_input:
        feed_hashed(scene, ids(5_000), topic, "consistent_random")
    scene.wait_for_all(worker)
    assert worker.stop() == 0
    assert worker.said(NO_FIT) == []
    scene.judge(once=True)


def test_partitions_that_are_added_at_run_time_are_read_from_their_beginning_by_all_workers(
    real_kafka: KafkaBroker, scenes: Scenes
) -> None:
    scene = scenes(real_kafka, partitions=2, environment={"MESSAGE_TIMEOUT": "3600"})
    workers = [scene.job.start(), scene.job.start()]
    eventually(lambda: all(len(partitions_of(worker)) == 2 for worker in workers), "both have their part")
    scene.feed(ids(100, "before-"))
    scene.wait_for_all(*workers)
    add_partitions(real_kafka, scene.job.topics_input, 4)
    for partition in range(4):  # at once: long before the workers know of them
        feed(real_kafka, scene.oracle, ids(50, f"{partition}-"), partition=partition)
    scene.wait_for_all(*workers)
    eventually(lambda: all(len(partitions_of(worker)) == 4 for worker in workers), "both have their part again")
    for worker in workers:
        assert worker.stop() == 0
    named = {(line["topic"], line["before"], line["partitions"]) for worker in workers for line in worker.said(ADDED)}
    assert named == {(topic, 2, 4) for topic in scene.job.topics_input}
    scene.judge(once=True)
    assert scene.job.lag() == 0


def test_one_worker_goes_on_when_only_one_topic_gets_more_partitions(real_kafka: KafkaBroker, scenes: Scenes) -> None:
    scene = scenes(real_kafka, partitions=2, environment={"MESSAGE_TIMEOUT": "3600"})
    worker = scene.job.start().is_assigned()
    add_partitions(real_kafka, scene.job.topics_input[:1], 4)
    scene.feed(ids(500))
    feed(real_kafka, scene.oracle, ids(50, "added-"), scene.job.topics_input[:1], partition=3)
    feed(real_kafka, scene.oracle, ids(50, "added-"), scene.job.topics_input[1:], partition=0)
    scene.wait_for_all(worker)
    assert worker.stop() == 0
    assert {line["topic"] for line in worker.said(ADDED)} == {scene.job.topics_input[0]}
    scene.judge(once=True)


def test_workers_of_a_new_group_that_start_together_take_nothing_for_added(
    real_kafka: KafkaBroker, scenes: Scenes
) -> None:
    scene = scenes(real_kafka, partitions=8)
    scene.feed(ids(100))
    workers = [scene.job.start() for _ in range(3)]
    eventually(lambda: sum(len(partitions_of(worker)) for worker in workers) == 16, "all have their part")
    scene.wait_for_all(*workers)
    for worker in workers:
        assert worker.stop() == 0
        assert worker.said(ADDED) == []
    scene.judge()


def test_partitions_that_are_added_while_no_worker_runs_are_named(real_kafka: KafkaBroker, scenes: Scenes) -> None:
    scene = scenes(real_kafka, partitions=2)
    worker = scene.job.start().is_assigned()
    scene.feed(ids(100))
    scene.wait_for_all(worker)
    assert worker.stop() == 0
    assert worker.said(ADDED) == []
    add_partitions(real_kafka, scene.job.topics_input, 3)
    worker = scene.job.start().is_assigned()
    named = [(line["topic"], line["before"], line["partitions"]) for line in worker.said(ADDED)]
    assert sorted(named) == sorted((topic, 2, 3) for topic in scene.job.topics_input)
    assert worker.stop() == 0
    worker = scene.job.start().is_assigned()
    assert worker.stop() == 0
    assert worker.said(ADDED) == [], "said once"


def test_workers_that_share_topics_which_get_unequal_say_so_and_join_nothing_by_halves(
    real_kafka: KafkaBroker, scenes: Scenes
) -> None:
    scene = scenes(real_kafka, partitions=2, environment={"MESSAGE_TIMEOUT": "3600"})
    workers = [scene.job.start(), scene.job.start()]
    eventually(lambda: all(len(partitions_of(worker)) == 2 for worker in workers), "both have their part")
    scene.feed(ids(100))
    grown, other = scene.job.topics_input
    add_partitions(real_kafka, [grown], 4)

    def complaints() -> list[str]:
        lines = [line for worker in workers for line in worker.lines()]
        return [text for line in lines if "unequal" in (text := str(line.get("error", line["message"])))]

    complaint = eventually(complaints, "a worker says it")[0]
    assert f"{grown} has 4" in complaint
    assert f"{other} has 2" in complaint
    scene.judge_so_far()
