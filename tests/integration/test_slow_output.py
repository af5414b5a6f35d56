"""Output slower than process(): a quota of the broker. Slower is slower, and no failure."""

import pytest

from tests.integration.conftest import Scenes
from tests.integration.workers import eventually, feed
from tests.services.kafka import KafkaBroker
from tests.services.quotas import slow_producers

QUOTA = 200_000  # bytes a second; ten times as many, which nobody has used before, pass at once
NUMBER, PAD = {"at_least_once": 4_000, "exactly_once": 2_600}, 900  # two messages of so many bytes make one result


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_results_that_leave_more_slowly_than_they_are_made_arrive_without_a_restart(
    real_kafka: KafkaBroker, scenes: Scenes, delivery: str
) -> None:
    # As much shorter than its default as the test is shorter than what needs it.
    environment = {"KAFKA_MESSAGE_TIMEOUT_MS": "20000"} if delivery == "at_least_once" else {}
    scene = scenes(real_kafka, partitions=1, environment={"DELIVERY": delivery, **environment})
    slow_producers(real_kafka.bootstrap, scene.job.name, QUOTA)
    feed(real_kafka, scene.oracle, map(str, range(NUMBER[delivery])), pad=PAD)
    worker = scene.job.start(KAFKA_SESSION_TIMEOUT_MS="10000")
    scene.wait_for_all(worker)
    eventually(lambda: scene.job.lag() == 0, "all committed")
    assert worker.stop() == 0
    assert not worker.said("starting again")
    scene.judge(once=True)
