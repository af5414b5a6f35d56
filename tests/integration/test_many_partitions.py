"""Many partitions, fetched one topic after the other: what comes first is held back, and nothing is read twice."""

import pytest

from tests.integration.conftest import Scenes
from tests.services.kafka import KafkaBroker

IDS = 30_000  # of which memory has room for a third


@pytest.mark.parametrize(("partitions", "delivery"), [(8, "at_least_once"), (32, "exactly_once")])
def test_a_topic_that_is_fetched_before_the_other_does_not_fill_memory(
    real_kafka: KafkaBroker, scenes: Scenes, partitions: int, delivery: str
) -> None:
    environment = {"DELIVERY": delivery, "MAX_PENDING_BYTES": "8000000", "KAFKA_MAX_PARTITION_FETCH_BYTES": "4194304"}
    environment["KAFKA_SESSION_TIMEOUT_MS"] = "45000"  # else on a busy machine there is a rebalance
    scene = scenes(real_kafka, partitions=partitions, environment=environment)
    scene.feed(str(number) for number in range(IDS))
    worker = scene.job.start()
    scene.wait_for_all(worker)
    assert worker.stop() == 0
    [counted] = worker.said("stopped")
    assert (counted["read"], counted["shed"], counted["read_again"]) == (2 * IDS, 0, 0)
    assert scene.job.lag() == 0
    scene.judge(once=True)
