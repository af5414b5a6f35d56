"""Commits of a group whose coordinator has just moved to another broker. An admin client ends the process there."""

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from typing import cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.services.kafka import EmbeddedBroker
from tests.services.processes import running
from utils.kafka.clients import prober
from utils.kafka.groups import Brokers, Commit
from utils.kafka.lookups import commits_as_they_are, committed

OFFSET_FETCH, FIND_COORDINATOR = 9, 10  # in Kafka's protocol
LONG = 60.0  # seconds
ASKS = """
import sys, time
from confluent_kafka.admin import AdminClient
from utils.kafka.answers import described_groups
admin = AdminClient({"bootstrap.servers": sys.argv[1], "log_level": 0})
print(described_groups(admin, ["orders"], 0.1)["orders"].name())
time.sleep(1.5)  # it is told now who the coordinator is
"""
MOVING = [KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.COORDINATOR_NOT_AVAILABLE]


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with running(EmbeddedBroker()) as broker:
        broker.create_topic("t", 2)
        asking = prober({"bootstrap.servers": broker.bootstrap}, "orders")
        asking.commit(offsets=[TopicPartition("t", 0, 7, "a map")], asynchronous=False)
        asking.close()
        yield broker


def asking(broker: EmbeddedBroker, group: str = "orders") -> Consumer:
    return prober({"bootstrap.servers": broker.bootstrap, "log_level": 0}, group)


def test_they_are_asked_for_again(broker: EmbeddedBroker) -> None:
    """A worker that is given partitions asks for those of the others: each loss of a broker ended some by SIGSEGV."""
    wanted = [TopicPartition("t", 0), TopicPartition("t", 1)]
    broker.fail_next(OFFSET_FETCH, *MOVING)
    found = commits_as_they_are(partial(asking, broker), wanted, LONG)
    assert [each.offset for each in found] == [7, -1001]
    broker.fail_next(OFFSET_FETCH, *MOVING)
    consumer = asking(broker)
    assert [each.offset for each in committed(consumer, wanted, LONG)] == [7, -1001]
    consumer.close()


def test_a_fleet_is_looked_at_meanwhile(broker: EmbeddedBroker) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    brokers = Brokers(admin, partial(asking, broker), deadline=LONG, clock=lambda: 0.0)
    broker.fail_next(OFFSET_FETCH, *MOVING)
    found = brokers.commits({"orders": [("t", 0), ("t", 1)], "new": [("t", 0)], "without topics": []})
    assert found == {"orders": {("t", 0): Commit(7, "a map")}, "new": {}, "without topics": {}}


def test_what_does_not_pass_is_told_at_once() -> None:
    class Refused:
        def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
            raise KafkaException(KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED))

        def close(self) -> None: ...

    with pytest.raises(KafkaException):
        committed(cast(Consumer, Refused()), [], LONG)
    brokers = Brokers(cast(AdminClient, None), lambda _group: cast(Consumer, Refused()), LONG, lambda: 0.0)
    [told] = brokers.commits({"orders": [("t", 0)]}).values()
    assert isinstance(told, KafkaError)
    assert told.code() == KafkaError.GROUP_AUTHORIZATION_FAILED


def test_what_a_group_is_may_be_told_after_nobody_waits_for_it_any_more(broker: EmbeddedBroker) -> None:
    """The client's own time-out must not have passed by then: it ended the process (SIGABRT, `eonce->refcnt > 0`)."""
    broker.fail_next(FIND_COORDINATOR, *[KafkaError.COORDINATOR_NOT_AVAILABLE] * 3)
    asking = [sys.executable, "-c", ASKS, broker.bootstrap]
    asked = subprocess.run(asking, capture_output=True, text=True, check=False)
    assert (asked.returncode, asked.stdout) == (0, "_TIMED_OUT\n"), asked.stderr
