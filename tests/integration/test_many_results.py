"""process() that makes many results of each message: they take their room before they are sent, too."""

from pathlib import Path

import pytest

from tests.integration.conftest import Scenes
from tests.integration.workers import Worker, eventually
from tests.services.kafka import KafkaBroker

ROOM = 10_000_000  # bytes: MAX_PENDING_BYTES
MESSAGES, MANY = 50, 10_000  # whose results take 200 bytes and more each: ten times as much in all


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_no_more_results_are_made_than_memory_is_for(real_kafka: KafkaBroker, scenes: Scenes, delivery: str) -> None:
    environment = {"DELIVERY": delivery, "MAX_PENDING_BYTES": str(ROOM), "PROCESS_ODD": "x", "PROCESS_MANY": str(MANY)}
    scene = scenes(real_kafka, slow_process=True, environment=environment)
    worker = scene.job.start(KAFKA_SESSION_TIMEOUT_MS="10000").is_assigned()
    before = peak(worker)
    scene.feed(f"many-{number}" for number in range(MESSAGES))
    eventually(lambda: f'results_total{{consumer="{scene.job.name}"}} {MESSAGES * MANY}' in worker.scrape(), "all made")
    eventually(lambda: scene.job.lag() == 0, "all committed")
    assert peak(worker) - before < 5 * ROOM  # of the ten; what one call makes is not bounded
    assert worker.stop() == 0
    assert not worker.said("starting again")


def peak(worker: Worker) -> int:
    """Bytes of memory that it has had at most."""
    [line] = [each for each in Path(f"/proc/{worker.pid}/status").read_text().splitlines() if "VmHWM" in each]
    return int(line.split()[1]) * 1024
