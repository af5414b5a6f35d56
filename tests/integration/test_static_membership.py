"""GROUP_INSTANCE_ID: a worker that comes back keeps its partitions, and two that share one do not fence for ever."""

from dataclasses import replace

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from config import Settings
from main import transactional_id
from tests.conftest import Topics
from tests.integration.conftest import Scenes
from tests.integration.workers import ASSIGNED, Worker, eventually
from tests.services.kafka import KafkaBroker, unique_name
from utils import kafka

LONG = {"KAFKA_SESSION_TIMEOUT_MS": "30000"}  # longer than a test waits for what static membership saves


def ids(number: int, prefix: str = "") -> list[str]:
    return [f"{prefix}{each}" for each in range(number)]


def ended(*workers: Worker) -> list[Worker]:
    return [worker for worker in workers if worker.process.poll() is not None]


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_of_two_workers_with_one_instance_id_one_ends_with_a_line_that_says_so(
    real_kafka: KafkaBroker, scenes: Scenes, delivery: str
) -> None:
    scene = scenes(real_kafka, environment={"DELIVERY": delivery, "GROUP_INSTANCE_ID": "the-same"})
    scene.feed(ids(200))
    workers = [scene.job.start().is_assigned()]
    scene.wait_for_all(*workers)
    workers.append(scene.job.start())
    feeding = iter(range(1_000_000))

    def one_has_ended() -> list[Worker]:
        scene.feed(ids(10, f"later-{next(feeding)}-"))  # so that there is something to commit
        return ended(*workers)

    [left] = eventually(one_has_ended, "one of them has ended", pause=0.1)
    assert left.process.returncode == 78
    assert len(left.said("GROUP_INSTANCE_ID")) == 1
    assert not left.said("unexpected")
    [stays] = [worker for worker in workers if worker is not left]
    scene.wait_for_all(stays)
    assert stays.stop() == 0
    scene.judge(once=delivery == "exactly_once")


def test_a_worker_whose_producer_is_fenced_while_its_place_in_the_group_is_its_own_starts_again(
    real_kafka: KafkaBroker, scenes: Scenes
) -> None:
    scene = scenes(real_kafka, environment={"DELIVERY": "exactly_once", "GROUP_INSTANCE_ID": "the-same"})
    scene.feed(ids(200))
    worker = scene.job.start().is_assigned()
    scene.wait_for_all(worker)
    bootstrap: dict[str, str | int | float | bool] = {"bootstrap.servers": real_kafka.bootstrap}
    Producer({**bootstrap, "transactional.id": transactional_id(scene.job.name, "the-same")}).init_transactions(30)
    scene.feed(ids(200, "later-"))
    scene.wait_for_all(worker)
    assert len(worker.said("starting again")) == 1
    assert worker.stop() == 0
    scene.judge(once=True)


def test_whose_place_it_is_says_the_group(real_kafka: KafkaBroker, topics: Topics) -> None:
    [topic] = topics(real_kafka, "a")
    settings = Settings(consumer_name=unique_name("group"), group_instance_id="the-same")
    bootstrap: dict[str, str | int | float | bool] = {"bootstrap.servers": real_kafka.bootstrap}
    consumer = Consumer({**bootstrap, "group.id": settings.consumer_name, "group.instance.id": "the-same"})
    try:
        consumer.subscribe([topic])
        eventually(lambda: consumer.poll(0.1) or consumer.assignment(), "it has joined")
        admin = AdminClient(bootstrap)
        assert not kafka.is_place_taken(admin, settings, consumer.memberid())
        assert kafka.is_place_taken(admin, settings, "the-same-another")
        assert not kafka.is_place_taken(admin, replace(settings, group_instance_id="second"), "the-same-another")
    finally:
        consumer.close()


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
@pytest.mark.parametrize("end", ["kill", "stop"])
def test_a_worker_that_comes_back_is_not_waited_for(
    real_kafka: KafkaBroker, scenes: Scenes, delivery: str, end: str
) -> None:
    scene = scenes(real_kafka, environment={**LONG, "DELIVERY": delivery})
    names = ["first", "second"]
    first, second = [scene.job.start(GROUP_INSTANCE_ID=name).is_assigned() for name in names]
    first.is_assigned(times=2)
    scene.feed(ids(1_000))
    scene.wait_for_all(first, second)
    owned = second.said(ASSIGNED)[-1]["partitions"]
    if end == "kill":
        second.kill()
    else:
        assert second.stop() == 0
    scene.feed(ids(1_000, "later-"))
    second = scene.job.start(GROUP_INSTANCE_ID="second").is_assigned()
    scene.wait_for_all(first, second)
    assert second.said(ASSIGNED)[-1]["partitions"] == owned
    assert len(first.said(ASSIGNED)) == 2  # nothing was taken from the other one
    assert [worker.stop() for worker in (first, second)] == [0, 0]
    scene.judge(once=delivery == "exactly_once" or end == "stop")
