"""What is done behind a message that waits is not fetched again."""

from uuid import uuid4

import pytest
from confluent_kafka import Producer

from tests.integration.conftest import Scenes
from tests.integration.workers import eventually, feed
from tests.services.kafka import KafkaBroker
from utils.reading.leaps import FAR

DONE = 6 * FAR  # pairs; a batch is at most 10,000 records


def read(metrics: str) -> float:
    lines = [line for line in metrics.splitlines() if line.startswith("consumer_messages_read_total{")]
    return sum(float(line.split()[-1]) for line in lines)


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_after_a_restart_reading_goes_on_behind_what_is_done(
    real_kafka: KafkaBroker, scenes: Scenes, delivery: str
) -> None:
    """All that came after one that waits was fetched again, and thrown away. The log ends with a marker here."""
    environment = {"DELIVERY": delivery, "MESSAGE_TIMEOUT": "3600", "DLQ_TOPIC": "", "LOG_LEVEL": "INFO"}
    scene = scenes(real_kafka, partitions=1, environment=environment)
    first, second = scene.job.topics_input
    producer = Producer({"bootstrap.servers": real_kafka.bootstrap, "transactional.id": uuid4().hex, "linger.ms": 50})
    producer.init_transactions()
    producer.begin_transaction()
    feed(real_kafka, scene.oracle, ["early", "given up"], [first], producer=producer)
    feed(real_kafka, scene.oracle, map(str, range(DONE)), producer=producer)
    producer.commit_transaction()
    worker = scene.job.start()
    scene.wait_for_all(worker)
    assert worker.stop() == 0
    worker = scene.job.start()
    producer.begin_transaction()
    feed(real_kafka, scene.oracle, ["new"], producer=producer)
    producer.commit_transaction()
    scene.wait_for_all(worker)
    assert 2 <= read(worker.scrape()) < DONE / 2
    feed(real_kafka, scene.oracle, ["early"], [second])
    scene.wait_for_all(worker)
    assert worker.stop() == 0
    # Nothing is to come any more: what waits is given up where reading has come to the end of the log by a leap.
    worker = scene.job.start(MESSAGE_TIMEOUT="1")
    worker.says("incomplete messages given up")
    eventually(lambda: scene.job.lag() == 0, "all committed")
    assert worker.stop() == 0
    scene.judge(once=delivery == "exactly_once", given_up=["given up"])
