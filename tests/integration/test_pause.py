"""A row that is paused and resumed while messages flow, on real Kafka: nothing is taken in, and nothing is lost."""

import json
import re
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.conftest import Topics
from tests.integration.oracle import Oracle
from tests.integration.platform import Platform
from tests.integration.workers import Outputs, Worker, eventually, feed
from tests.services.kafka import KafkaBroker, unique_name

PAUSED = "paused by the row: nothing more is taken in"
RESUMED = "no longer paused by the row: the worker goes on"


def metric(worker: Worker, name: str) -> float:
    return sum(float(value) for value in re.findall(rf"^{name}{{.*}} (.*)$", worker.scrape(), re.MULTILINE))


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_a_paused_worker_finishes_what_it_has_stays_a_member_and_goes_on(
    real_kafka: KafkaBroker, topics: Topics, tmp_path: Path, delivery: str
) -> None:
    a, b, out = topics(real_kafka, "a", "b", "out", partitions=2)
    name, environment = unique_name("paused"), {"CONFIG_REFRESH": "0.5", "DELIVERY": delivery}
    with Platform(real_kafka, tmp_path) as platform:
        job = platform.job(name, [a, b], [out], environment)
        worker = job.start().is_assigned()
        oracle = Oracle((a, b))
        outputs = Outputs(job, oracle)
        feed(real_kafka, oracle, [f"before-{each}" for each in range(20)])
        feed(real_kafka, oracle, [f"half-{each}" for each in range(5)], [a])
        assert platform.fleet("pause", name).stdout.startswith(f"{name} paused: its workers see it within ")
        worker.says(PAUSED)
        assert platform.fleet("pause", name).stdout.startswith(f"{name} was paused already")
        outputs.wait(lambda: not oracle.missing(), worker)
        eventually(lambda: metric(worker, "consumer_paused") == 1, "told by the metric")
        read = metric(worker, "consumer_messages_read_total")
        feed(real_kafka, oracle, [f"half-{each}" for each in range(5)], [b])
        feed(real_kafka, oracle, [f"while-{each}" for each in range(20)])
        eventually(lambda: metric(worker, "consumer_partition_lag") >= 45, "the ends of what is paused are known")
        assert metric(worker, "consumer_messages_read_total") == read
        assert metric(worker, "consumer_ready") == 1
        with urlopen(f"{worker.address}/status.json") as answer:
            assert json.load(answer)["verdict"]["sentence"].startswith("Paused by its row")
        seen = platform.look(name, "--timeout", "30").seen[name]
        assert (seen.state, seen.unfinished) == ("paused", 5)
        assert seen.unread is not None
        assert seen.unread >= 45
        other = job.start().is_assigned()  # a rebalance changes nothing of it
        eventually(lambda: len(platform.look(name, "--timeout", "30").seen[name].members) == 2, "both are members")
        assert metric(worker, "consumer_messages_read_total") + metric(other, "consumer_messages_read_total") == read
        assert platform.fleet("resume", name).stdout.startswith(f"{name} resumed: its workers see it within ")
        outputs.wait(lambda: not oracle.missing(), worker, other)
        assert worker.said(RESUMED)
        assert [each.stop() for each in (worker, other)] == [0, 0]
        outputs.read_to_the_end()
        oracle.judge(job.commits()).require(once=True)
        outputs.close()
