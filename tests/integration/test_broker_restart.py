"""A broker that goes away and comes back: the worker waits, then goes on, and its process never ends."""

import os
import signal

import pytest
from confluent_kafka import Producer

from tests.integration.conftest import Scenes
from tests.integration.workers import SECONDS, eventually
from tests.services.kafka import JavaBroker
from utils.metrics import Counters
from utils.sending.failures import Failures
from utils.sending.outbox import Outbox
from utils.sending.refusals import Refusals
from utils.threads import bounded


def ids(number: int, prefix: str = "") -> list[str]:
    return [f"{prefix}{each}" for each in range(number)]


@pytest.mark.real_kafka
def test_a_restart_and_a_crash_of_the_broker_heal(own_broker: JavaBroker, scenes: Scenes) -> None:
    scene = scenes(own_broker)
    a, b = scene.job.topics_input
    scene.feed(ids(200, "split-"), a)
    scene.feed(ids(500, "before-"))
    worker = scene.job.start()
    scene.wait_for_all(worker)
    own_broker.restart()
    scene.feed(ids(500, "between-"))
    scene.feed(ids(200, "split-"), b)
    scene.wait_for_all(worker)
    own_broker.kill()
    own_broker.restart()
    scene.feed(ids(500, "after-"))
    scene.wait_for_all(worker)
    eventually(lambda: scene.job.lag() == 0, "all committed")
    assert worker.stop() == 0
    scene.judge()


@pytest.mark.real_kafka
def test_a_producer_is_let_go_of_also_while_its_transaction_cannot_be_aborted(own_broker: JavaBroker) -> None:
    own_broker.create_topic("out", 1)
    settings = {"bootstrap.servers": own_broker.bootstrap, "transactional.id": "x", "log_level": 0}
    outbox = Outbox(lambda _report: Producer(settings), ("out",), Failures("x", "", Counters()), Refusals())
    outbox.producer.init_transactions(SECONDS)
    outbox.producer.begin_transaction()
    outbox.producer.produce("out", b"x")
    assert outbox.producer.flush(SECONDS) == 0
    os.kill(own_broker.pid, signal.SIGSTOP)
    try:
        bounded(outbox.close, SECONDS)  # else the test would wait as the producer does
    finally:
        os.kill(own_broker.pid, signal.SIGCONT)
