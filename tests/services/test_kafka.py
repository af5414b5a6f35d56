"""The brokers that the other tests trust: that they keep records, survive a crash, and leave nothing behind."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, KafkaError, Producer

from tests.conftest import Topics
from tests.services.kafka import JavaBroker, KafkaBroker, unique_name
from tests.services.processes import running

SECONDS = 60.0


def produce(broker: KafkaBroker, topic: str, values: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(SECONDS) == 0


def consume(broker: KafkaBroker, topic: str, number: int) -> list[bytes]:
    settings = {
        "bootstrap.servers": broker.bootstrap,
        "group.id": unique_name("group"),
        "auto.offset.reset": "earliest",
    }
    consumer = Consumer(settings)
    try:
        consumer.subscribe([topic])
        return sorted(message.value() or b"" for message in consumer.consume(number, SECONDS))
    finally:
        consumer.close()


def test_what_is_produced_is_consumed(kafka: KafkaBroker, topics: Topics) -> None:
    [topic] = topics(kafka, "round-trip")
    produce(kafka, topic, [b"a", b"b", b"c"])
    assert consume(kafka, topic, 3) == [b"a", b"b", b"c"]


def test_a_topic_has_the_partitions_that_were_asked_for(kafka: KafkaBroker, topics: Topics) -> None:
    [topic] = topics(kafka, "partitions", partitions=7)
    found = Producer({"bootstrap.servers": kafka.bootstrap}).list_topics(topic, SECONDS).topics[topic]
    assert len(found.partitions) == 7


def test_a_topic_of_real_kafka_takes_a_configuration(real_kafka: KafkaBroker, topics: Topics) -> None:
    [topic] = topics(real_kafka, "small", config={"max.message.bytes": "100"})
    failures: list[KafkaError | None] = []
    producer = Producer({"bootstrap.servers": real_kafka.bootstrap})
    producer.produce(topic, b"x" * 200, on_delivery=lambda error, _: failures.append(error))
    producer.flush(SECONDS)
    assert failures == [KafkaError.MSG_SIZE_TOO_LARGE]


@pytest.fixture
def own_broker(real_kafka: KafkaBroker) -> Iterator[JavaBroker]:
    if real_kafka.kind != "java":
        pytest.skip("only a broker started with Java can be killed")
    with running(JavaBroker()) as broker:
        yield broker


def test_a_broker_keeps_its_records_over_a_crash_and_a_restart(own_broker: JavaBroker) -> None:
    own_broker.create_topic("kept", 1)
    produce(own_broker, "kept", [b"before the crash"])
    bootstrap, pid = own_broker.bootstrap, own_broker.pid
    own_broker.kill()
    own_broker.restart()
    produce(own_broker, "kept", [b"between"])
    own_broker.restart()
    assert consume(own_broker, "kept", 2) == [b"before the crash", b"between"]
    assert own_broker.pid != pid
    assert own_broker.bootstrap == bootstrap


def test_from_the_command_line_a_broker_runs_until_its_input_ends() -> None:
    command = [sys.executable, "-m", "tests.services.kafka", "--embedded"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        bootstrap = process.stdout.readline().strip()
        assert Producer({"bootstrap.servers": bootstrap}).list_topics(timeout=SECONDS).brokers
        process.stdin.close()
        assert process.wait(SECONDS) == 0
