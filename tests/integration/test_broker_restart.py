"""A broker that goes away and comes back: the worker waits, then goes on, and its process never ends."""

import pytest

from tests.integration.conftest import Scenes
from tests.integration.workers import eventually
from tests.services.kafka import JavaBroker


def ids(number: int, prefix: str = "") -> list[str]:
    return [f"{prefix}{each}" for each in range(number)]


@pytest.mark.real_kafka
def test_a_restart_and_a_crash_of_the_broker_heal(own_broker: JavaBroker, scenes: Scenes) -> None:
    scene = scenes(own_broker)
    a, b = scene.job.topics_input
    scene.feed(ids(200, "split-"), a)
    scene.feed(ids(500, "before-"))
    worker = scene.job.start()
    scene.wait_for_all(worker)
    own_broker.restart()
    scene.feed(ids(500, "between-"))
    scene.feed(ids(200, "split-"), b)
    scene.wait_for_all(worker)
    own_broker.kill()
    own_broker.restart()
    scene.feed(ids(500, "after-"))
    scene.wait_for_all(worker)
    eventually(lambda: scene.job.lag() == 0, "all committed")
    assert worker.stop() == 0
    scene.judge()
