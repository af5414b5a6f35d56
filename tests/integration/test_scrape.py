"""A running worker is asked over HTTP, as Prometheus and people do."""

import json
import os
import subprocess
import sys
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.conftest import Scenes
from tests.integration.test_joining import ids
from tests.integration.workers import Worker, eventually
from tests.program import ROOT
from tests.services.kafka import KafkaBroker
from tests.test_deploy import DOCKERFILE, of_the_dockerfile, text_of


def get(worker: Worker, path: str) -> bytes:
    address = worker.says("row loaded")["status"]
    with urllib.request.urlopen(f"{address.rstrip('/')}{path}", timeout=60) as answer:
        body: bytes = answer.read()
    return body


def metrics(worker: Worker) -> dict[tuple[str, str], float]:
    """The values by name and topic, summed over other labels."""
    values: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(get(worker, "/metrics").decode()):
        for sample in family.samples:
            key = (sample.name.removeprefix("consumer_"), sample.labels.get("topic", ""))
            values[key] = values.get(key, 0) + sample.value
    return values


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_a_worker_is_scraped_while_it_runs(embedded_kafka: KafkaBroker, scenes: Scenes, delivery: str) -> None:
    scene = scenes(embedded_kafka, environment={"DELIVERY": delivery})
    a, b = scene.job.topics_input
    scene.feed(ids(100))
    scene.feed(ids(7, "alone-"), a)
    worker = scene.job.start()
    scene.wait_for_all(worker)
    eventually(lambda: metrics(worker).get(("groups_uncommitted", "")) == 0, "all committed")
    seen = metrics(worker)
    assert seen["messages_read_total", a] == 107
    assert seen["messages_read_total", b] == 100
    assert seen["groups_completed_total", ""] == seen["results_total", ""] == 100
    assert seen["groups_waiting", ""] == 7
    assert seen["waiting_bytes", ""] > 0
    assert seen["partition_lag", a] == seen["partition_lag", b] == 0
    assert seen["partition_position", a] == 107
    assert seen["partition_map_characters", a] > 0
    assert seen["commit_seconds_count", ""] >= 1
    assert seen["ready", ""] == 1
    assert json.loads(get(worker, "/health/ready")) == {"ready": True}

    status = json.loads(get(worker, "/status.json"))
    assert status["verdict"]["level"] == "ok"
    assert status["snapshot"]["waiting"] == 7
    assert json.loads(get(worker, "/waiting.json?id=alone-3"))["waiting"]["missing"] == [b]
    page = get(worker, "/?id=alone-3").decode()
    assert "waits here" in page
    assert page.count("alone-") > 7
    assert worker.stop() == 0


@of_the_dockerfile
def test_the_health_check_of_the_image_tells_whether_the_worker_lives(
    embedded_kafka: KafkaBroker, scenes: Scenes
) -> None:
    scene = scenes(embedded_kafka)
    worker = scene.job.start().is_assigned()
    port = worker.address.rpartition(":")[2]
    words = json.loads(text_of(DOCKERFILE).split("HEALTHCHECK", 1)[1].split("CMD ", 1)[1].splitlines()[0])

    def code() -> int:
        command = [*words[:at], sys.executable, *words[at + 1 :]]
        environment = {**os.environ, "HTTP_PORT": port, "PYTHONSAFEPATH": "1"}  # as some harden their machines
        return subprocess.run(command, cwd=ROOT, env=environment, timeout=60).returncode

    at = words.index("python")
    assert code() == 0
    assert worker.stop() == 0
    assert code() == 1
