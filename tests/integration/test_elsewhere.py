"""A missing part that lies unread in a partition of another number, on real Kafka: it is waited for, not given up."""

import time
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import pytest

from tests.integration.conftest import Scene, Scenes
from tests.integration.test_partitions import ADDED, add_partitions
from tests.integration.workers import feed
from tests.services.kafka import KafkaBroker
from utils.joining.partitions import murmur2

TIMEOUT = 3.0
PARTS, FILLERS = 20, 3_000
PAD = 2_000  # bytes of what fills memory: far less than all of it has room


@pytest.fixture
def blocked(tmp_path: Path) -> Path:
    """While it exists, process() does not return: soon nothing more is read."""
    return tmp_path / "blocked"


def ids_of(partition: int, prefix: str) -> Iterator[str]:
    """Those whose key belongs there, of two."""
    return (id for id in (f"{prefix}{number}" for number in count()) if murmur2(id.encode(), 2) == partition)


def scene_with_little_memory(scenes: Scenes, broker: KafkaBroker, blocked: Path, partitions: int) -> Scene:
    environment = {"MESSAGE_TIMEOUT": f"{TIMEOUT:g}", "MAX_PENDING_BYTES": "2000000", "PROCESS_BLOCKED": str(blocked)}
    return scenes(broker, partitions=partitions, slow_process=True, environment=environment)


def feed_fillers_and_then(scene: Scene, ids: list[str]) -> None:
    """Into partition 1: more than is read before process() returns, and behind it the missing parts."""
    fillers = list(islice(ids_of(1, "filler-"), FILLERS))
    feed(scene.broker, scene.oracle, fillers, pad=PAD, partition=1)
    feed(scene.broker, scene.oracle, ids, scene.job.topics_input[1:], partition=1)


def test_of_a_producer_that_has_begun_to_hash_otherwise(real_kafka: KafkaBroker, scenes: Scenes, blocked: Path) -> None:
    scene = scene_with_little_memory(scenes, real_kafka, blocked, partitions=2)
    worker = scene.job.start().is_assigned()
    for partition in range(2):
        scene.feed(islice(ids_of(partition, "alike-"), 200), partition=partition)
    scene.wait_for_all(worker)
    blocked.touch()
    moved = list(islice(ids_of(0, "moved-"), PARTS))
    scene.feed(moved, scene.job.topics_input[0])
    feed_fillers_and_then(scene, moved)
    time.sleep(3 * TIMEOUT)
    blocked.unlink()
    scene.wait_for_all(worker)
    assert worker.stop() == 0
    assert worker.said("stopped")[0]["evicted"] == 0
    scene.judge(once=True)


def test_of_before_partitions_were_added_also_after_another_start(
    real_kafka: KafkaBroker, scenes: Scenes, blocked: Path
) -> None:
    scene = scene_with_little_memory(scenes, real_kafka, blocked, partitions=1)
    worker = scene.job.start().is_assigned()
    old = list(islice(ids_of(1, "old-"), PARTS))
    scene.feed(["first"])
    scene.feed(old, scene.job.topics_input[0])
    scene.wait_for_all(worker)
    assert worker.stop() == 0
    add_partitions(real_kafka, scene.job.topics_input, 2)
    worker = scene.job.start().is_assigned()
    assert worker.said(ADDED)
    assert worker.stop() == 0
    blocked.touch()
    feed_fillers_and_then(scene, old)
    worker = scene.job.start().is_assigned()
    time.sleep(3 * TIMEOUT)
    blocked.unlink()
    scene.wait_for_all(worker)
    assert worker.stop() == 0
    assert worker.said("stopped")[0]["evicted"] == 0
    scene.judge(once=True)
