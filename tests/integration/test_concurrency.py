"""Many calls of process() at once, in threads and in coroutines: every id once, and the loop turns on meanwhile."""

import pytest

from tests.integration.conftest import Scenes
from tests.integration.workers import eventually
from tests.services.kafka import KafkaBroker

IN_THREADS = {"CONCURRENCY": "50"}
IN_COROUTINES = {"CONCURRENCY": "50", "PROCESS_ASYNC": "1"}


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
@pytest.mark.parametrize("concurrency", [IN_THREADS, IN_COROUTINES], ids=["threads", "coroutines"])
def test_every_id_is_processed_once(
    kafka: KafkaBroker, scenes: Scenes, concurrency: dict[str, str], delivery: str
) -> None:
    environment = {**concurrency, "PROCESS_SECONDS": "0.02", "DELIVERY": delivery}
    scene = scenes(kafka, slow_process=True, environment=environment)
    scene.feed([str(number) for number in range(1_000)])
    worker = scene.job.start()
    scene.wait_for_all(worker)
    if kafka.kind != "embedded" or delivery == "at_least_once":  # it drops the offsets of transactions
        eventually(lambda: scene.job.lag() == 0, "all committed")
    assert worker.stop() == 0
    scene.judge(once=True)


@pytest.mark.parametrize("concurrency", [IN_THREADS, IN_COROUTINES], ids=["threads", "coroutines"])
def test_a_stop_leaves_what_has_not_been_called_to_the_next_owner(
    kafka: KafkaBroker, scenes: Scenes, concurrency: dict[str, str]
) -> None:
    scene = scenes(kafka, slow_process=True, environment={**concurrency, "PROCESS_SECONDS": "0.5"})
    scene.feed([str(number) for number in range(300)])
    worker = scene.job.start()
    scene.wait_for(10, worker)
    assert worker.stop() == 0
    scene.judge_so_far()
    worker = scene.job.start()
    scene.wait_for_all(worker)
    assert worker.stop() == 0
    scene.judge(once=True)
