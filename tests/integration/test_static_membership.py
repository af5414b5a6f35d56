"""GROUP_INSTANCE_ID: a worker that comes back keeps its partitions, and two that share one do not fence for ever."""

import pytest

from tests.integration.conftest import Scenes
from tests.integration.workers import ASSIGNED, Worker, eventually
from tests.services.kafka import KafkaBroker

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
