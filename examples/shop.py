"""The other side of the tutorial: a shop that sends orders and payments, and a reader of what the worker makes of them.

    python -m examples.shop topics                 creates the topics orders, payments and paid
    python -m examples.shop order 1001 tea 9.8
    python -m examples.shop payment 1001 9.8
    python -m examples.shop results 1              prints results until so many are there

A producer must keep to no more than this: JSON with an `id`, the `id` as the key, and the partitioner murmur2_random.
"""

import argparse
import json
import logging
import sys
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

ORDERS, PAYMENTS, PAID = "orders", "payments", "paid"
PARTITIONS = 4  # as many in all topics, so that an id has the same partition number in each
PATIENCE = 10.0  # seconds


def make_topics(servers: str) -> None:
    admin = AdminClient(_properties(servers))
    _find(admin, servers)
    for topic, made in admin.create_topics([NewTopic(each, PARTITIONS, 1) for each in _topics()]).items():
        try:
            made.result(10)
            print("created", topic)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                sys.exit(f"{servers} does not create {topic}: {error.args[0].str()}")
            print("there is already", topic)
        except TimeoutError:
            sys.exit(f"{servers} cannot be reached")


def send(servers: str, topic: str, id: str, content: dict[str, Any]) -> None:
    producer = Producer({**_properties(servers), "partitioner": "murmur2_random"})
    _find(producer, servers)
    producer.produce(topic, key=id, value=json.dumps({"id": id, "content": content}))
    left = producer.flush(10)
    if left:
        sys.exit(f"{servers} does not take the message")
    print("sent to", topic)


def print_results(servers: str, number: int) -> None:
    """All that was ever sent, from the beginning. It joins no consumer group and commits nothing."""
    reader = Consumer({**_properties(servers), "group.id": "none", "isolation.level": "read_committed"})
    _find(reader, servers)
    reader.assign([TopicPartition(PAID, each, 0) for each in range(PARTITIONS)])
    while number:
        record = reader.poll(1)
        if record is not None and not record.error():
            print((record.value() or b"").decode(), flush=True)
            number -= 1
    reader.close()


def _properties(servers: str) -> dict[str, Any]:
    """Of a client that does not say again and again that nobody answers."""
    return {"bootstrap.servers": servers, "logger": logging.Logger("silent", logging.CRITICAL + 1)}


def _find(client: AdminClient | Producer | Consumer, servers: str) -> None:
    try:
        client.list_topics(timeout=PATIENCE)
    except KafkaException:
        where = "start it (step 2 of docs/tutorial.md), or say where it is: --kafka"
        sys.exit(f"no Kafka answers at {servers}: {where}")


def _topics() -> list[str]:
    return [ORDERS, PAYMENTS, PAID]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.shop", description="Sends orders and payments.")
    parser.add_argument("--kafka", default="localhost:9092", metavar="HOST:PORT")
    commands = parser.add_subparsers(required=True, dest="command")
    commands.add_parser("topics", help="create the topics")
    order = commands.add_parser("order", help="send an order")
    order.add_argument("id")
    order.add_argument("item")
    order.add_argument("total", type=float)
    payment = commands.add_parser("payment", help="send a payment")
    payment.add_argument("id")
    payment.add_argument("paid", type=float)
    results = commands.add_parser("results", help="print results until so many are there")
    results.add_argument("number", type=int)
    given = parser.parse_args()
    if given.command == "topics":
        make_topics(given.kafka)
    elif given.command == "order":
        send(given.kafka, ORDERS, given.id, {"item": given.item, "total": given.total})
    elif given.command == "payment":
        send(given.kafka, PAYMENTS, given.id, {"method": "card", "paid": given.paid})
    else:
        print_results(given.kafka, given.number)


if __name__ == "__main__":
    main()
