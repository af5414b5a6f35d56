"""A host whose clock is ahead of the brokers' by more than they take: what it sends is refused."""

import time
from pathlib import Path

import pytest

from tests.integration.conftest import Scenes
from tests.integration.stream import Records
from tests.integration.workers import eventually, feed
from tests.program import ROOT
from tests.services.kafka import KafkaBroker

SKEWED = ("-m", "tests.chaos.skewed")
AHEAD = 2 * 3600  # seconds; brokers take one hour (message.timestamp.after.max.ms)


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
@pytest.mark.parametrize("number", [1, 40])  # one record is refused for its time, those of a batch for no reason
def test_a_host_whose_clock_is_hours_ahead_sends_with_the_time_of_the_newest_message(
    real_kafka: KafkaBroker, scenes: Scenes, tmp_path: Path, number: int, delivery: str
) -> None:
    """It started again and again for ever, and nothing said why."""
    (tmp_path / "clock").write_text(str(AHEAD))
    scene = scenes(real_kafka, environment={"DELIVERY": delivery})
    began = time.time()
    feed(real_kafka, scene.oracle, map(str, range(number)))
    worker = scene.job.start(main=SKEWED, CHAOS_CLOCK=str(tmp_path / "clock"), PYTHONPATH=str(ROOT))
    scene.wait_for_all(worker)
    eventually(lambda: scene.job.lag() == 0, "all committed")
    assert worker.stop() == 0
    assert worker.said("brokers refuse the time of this host")
    assert not worker.said("one by one")
    scene.judge(once=delivery == "exactly_once")
    times = Records.of(real_kafka, scene.job.topics_output[0]).times
    assert all(began - 1 < each < began + AHEAD / 2 for each in times)
