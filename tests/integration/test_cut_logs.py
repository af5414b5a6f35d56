"""A log that lost records which had been read, as in an unclean leader election: new ones have their offsets."""

from functools import partial

import pytest
from confluent_kafka import Producer

from tests.integration.conftest import Scenes
from tests.integration.workers import ASSIGNED
from tests.services.kafka import JavaBroker, unique_name
from utils.kafka.clients import prober
from utils.kafka.lookups import divergence

LOST = "the brokers have lost records that were read"


def ids(number: int, prefix: str) -> list[str]:
    return [f"{prefix}{each}" for each in range(number)]


@pytest.mark.parametrize(
    ("delivery", "when"),
    [("at_least_once", "grown again"), ("exactly_once", "shorter"), ("exactly_once", "while it runs")],
)
def test_what_is_written_where_the_log_was_cut_is_read_and_nothing_twice(
    own_broker: JavaBroker, scenes: Scenes, delivery: str, when: str
) -> None:
    scene = scenes(own_broker, inputs=1, partitions=1, environment={"DELIVERY": delivery})
    [topic] = scene.job.topics_input
    worker = scene.job.start().is_assigned()
    for prefix in ("kept-", "lost-"):
        scene.feed(ids(30, prefix))
        scene.wait_for_all(worker)
    if when != "while it runs":
        assert worker.stop() == 0
    own_broker.restart_without(topic, 30)
    if when == "grown again":
        scene.feed(ids(40, "new-"))
    if when != "while it runs":
        worker = scene.job.start().is_assigned()
    if when != "grown again":
        scene.feed(ids(40, "new-"))
    scene.wait_for_all(worker)
    line = worker.says(LOST)
    assert (line["level"], line["topic"], line["from"], line["to"]) == ("ERROR", topic, 30, 60)
    assert worker.stop() == 0
    assert worker.said("stopped")[0]["cut_off"] in {30, 60}, (
        "once more where the group rebalances before the next commit"
    )
    assert len(worker.said(ASSIGNED)) <= 3
    results = scene.oracle.results
    assert sum(results.values()) == 100, "each of the three kinds once"
    again = scene.job.start().is_assigned()
    scene.feed(ids(1, "last-"))
    scene.wait_for_all(again)
    assert again.stop() == 0
    assert not again.said(LOST)


def test_what_is_written_where_the_log_was_cut_is_read_also_by_who_had_read_nothing_since_it_was_assigned(
    own_broker: JavaBroker, scenes: Scenes
) -> None:
    """Its client knew no epoch of its position, so it read on there once the log had grown again: 10 of these 40."""
    environment = {"CONFIG_REFRESH": "0.5", "KAFKA_SESSION_TIMEOUT_MS": "45000"}
    scene = scenes(own_broker, inputs=1, partitions=1, environment=environment)
    [topic] = scene.job.topics_input
    worker = scene.job.start().is_assigned()
    for prefix in ("kept-", "lost-"):
        scene.feed(ids(30, prefix))
        scene.wait_for_all(worker)
    assert worker.stop() == 0
    scene.job.write_row(metadatas='{"paused": true}')
    worker = scene.job.start().is_assigned()
    own_broker.restart_without(topic, 30)
    scene.feed(ids(40, "new-"))
    scene.job.write_row(metadatas="")
    scene.wait_for_all(worker)
    assert worker.says(LOST)["to"] == 60
    assert worker.stop() == 0
    assert sum(scene.oracle.results.values()) == 100, "each of the three kinds once"


def test_where_logs_differ_is_told_also_of_many_partitions_with_much_behind(
    own_broker: JavaBroker,
) -> None:
    topic, partitions, each = unique_name("long"), 40, 500
    own_broker.create_topic(topic, partitions)
    producer = Producer({"bootstrap.servers": own_broker.bootstrap})
    for number in range(partitions * each):
        producer.produce(topic, b"x" * 100, partition=number % partitions)
    producer.flush()
    own_broker.restart()  # a new leader epoch
    positions = {(topic, number): (100 if number else each + 7, 0) for number in range(partitions)}
    asking = partial(prober, {"bootstrap.servers": own_broker.bootstrap}, "long")
    assert divergence(asking, positions) == {(topic, 0): each}
