"""What fails in a worker on a broker: tried again, given up alone, and held back when everything fails."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import Scenes
from tests.integration.stream import Records
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


MANY = 10_000  # of whom a tenth waits for its next attempt: that is more than may be in flight, as it is set here
IN_FLIGHT = 500
SMALL = """\
import sys
import framework
framework.MAX_IN_FLIGHT = int(sys.argv.pop(1))
from main import main
sys.exit(main())
"""


@pytest.mark.parametrize(("which", "memory"), [("bad", 1_000_000), ("later", 268_435_456)])
@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_what_waits_for_its_next_attempt_keeps_nothing_else_back(
    real_kafka: KafkaBroker, scenes: Scenes, tmp_path: Path, which: str, delivery: str, memory: int
) -> None:
    """A tenth is of one id that always fails, or raises Retry(after=3600): all others are through. Then all is well."""
    bad = tmp_path / "bad"
    bad.touch()
    environment = {"PROCESS_BAD": str(bad), "DELIVERY": delivery, "RETRY_BACKOFF": "3600"}
    environment["MAX_PENDING_BYTES"] = str(memory)
    scene = scenes(real_kafka, 1, slow_process=True, environment=environment)
    scene.feed(_a_tenth(which))
    few = ["-c", SMALL, str(IN_FLIGHT)]
    worker = scene.job.start(main=few)
    scene.wait_for(MANY * 9 // 10, worker)
    assert not any(id.startswith(which) for id in scene.oracle.results)
    assert (metrics(worker)["messages_shed_total", ""] > 0) == (memory < MANY * 200)
    assert 0 < metrics(worker)["groups_parked", ""] <= MANY // 10
    assert worker.stop() == 0
    bad.unlink()
    worker = scene.job.start(main=few)
    scene.wait_for(MANY, worker)
    eventually(lambda: scene.job.lag() == 0, "all committed")
    assert worker.stop() == 0
    scene.judge(once=which == "later" and delivery == "exactly_once")
    results = Records.of(real_kafka, scene.job.topics_output[0]).values
    assert delivery == "at_least_once" or sum(map(len, results.values())) == MANY
    if which == "bad":
        [topic] = scene.job.topics_input
        came = dict.fromkeys(json.loads(value)["content"][topic] for value in results["bad"])  # each, as it came first
        assert list(came) == [f"{topic}/bad/{version}" for version in range(MANY // 10)]


def _a_tenth(which: str) -> Iterator[str]:
    """Of them is of the id `bad`, or begins with `later`."""
    for number in range(MANY):
        yield str(number) if number % 10 else "bad" if which == "bad" else f"later-{number}"
