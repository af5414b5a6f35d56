"""What fails in a worker on a broker: tried again, given up alone, and held back when everything fails."""

import json
from pathlib import Path

import pytest

from tests.integration.conftest import Scenes
from tests.integration.test_scrape import get, metrics
from tests.integration.workers import eventually
from tests.services.kafka import KafkaBroker


@pytest.mark.parametrize("concurrency", ["1", "16"])
def test_in_an_outage_nothing_is_given_up_and_all_is_done_after_it(
    kafka: KafkaBroker, scenes: Scenes, tmp_path: Path, concurrency: str
) -> None:
    down = tmp_path / "down"
    down.touch()
    environment = {"PROCESS_DOWN": str(down), "CONCURRENCY": concurrency, "PROCESS_ATTEMPTS": "2"}
    scene = scenes(kafka, slow_process=True, environment=environment)
    scene.feed(map(str, range(300)))
    worker = scene.job.start()
    worker.says("process() fails for one id after the other")
    scene.feed(map(str, range(300, 400)))
    eventually(lambda: len(worker.said("is tried again")) > 25, "some probes")
    assert not [line for line in worker.lines() if line["message"] == "process() failed"]
    assert "Circuit open: process() has failed for all ids" in get(worker, "/").decode()
    assert metrics(worker)["circuit_open", ""] == 1
    found = json.loads(get(worker, f"/waiting.json?id={worker.said('is tried again')[0]['id']}"))
    assert found["in_flight"]["state"] in {"tried again", "called"}
    down.unlink()
    scene.wait_for_all(worker)
    worker.says("process() succeeds again")
    assert metrics(worker)["circuit_open", ""] == 0
    eventually(lambda: scene.job.lag() == 0, "all committed")
    assert worker.stop() == 0
    scene.judge(once=True)


def test_one_message_that_always_fails_is_given_up_alone(kafka: KafkaBroker, scenes: Scenes, tmp_path: Path) -> None:
    failing = tmp_path / "failing"
    failing.write_text("poison")
    scene = scenes(kafka, slow_process=True, environment={"PROCESS_FAILING": str(failing), "PROCESS_ATTEMPTS": "3"})
    scene.feed(["poison", *map(str, range(100))])
    worker = scene.job.start()
    scene.wait_for(100, worker)
    eventually(lambda: [line for line in worker.lines() if line["message"] == "process() failed"], "given up")
    assert len(worker.said("is tried again")) == 2
    eventually(lambda: scene.job.lag() == 0, "all committed")
    assert worker.stop() == 0
    assert not worker.said("one id after the other")
