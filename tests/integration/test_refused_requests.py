"""One request of a producer is refused, and the next one, which is on its way already, is taken.

So it is where a partition has just got another leader. To a broker that does not know the producer yet the second is as
good as the first, and the client takes it for a proof that the first was taken, too (librdkafka, issue 4134;
confluent-kafka-go, issue 921): it tells that all are safe, and commits, without the records of the first.
"""

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import pytest
from confluent_kafka import KafkaException, Producer

from tests.integration.stream import Records
from tests.services.kafka import JavaBroker, Listener, unique_name
from tests.services.processes import Unavailable, running
from tests.services.refusing import Door, refusing
from utils.kafka import clients

SECONDS = 60.0
LARGE, RESULTS = 400_000, 6  # bytes: two to a batch, which is so few that the client would send the next one at once


@dataclass(frozen=True)
class Refusing:
    broker: JavaBroker
    door: Door


@pytest.fixture(scope="module")
def refuses() -> Iterator[Refusing]:
    with ExitStack() as stack:
        door = stack.enter_context(refusing())
        ways = {"DOOR": Listener(advertised=door.address)}
        try:
            broker = stack.enter_context(running(JavaBroker(heap="400m", listeners=ways)))
        except Unavailable as reason:
            pytest.skip(f"no broker with several listeners: {reason}")
        door.leads_to = int(broker.addresses["DOOR"].rpartition(":")[2])
        yield Refusing(broker, door)


def lost(refuses: Refusing, producer: Producer, size: int) -> list[str]:
    """What the client calls safe and Kafka does not have."""
    topic, ids = unique_name("refused"), [str(each) for each in range(RESULTS)]
    refuses.broker.create_topic(topic, 1)
    refuses.door.refuses = True
    for id in ids:
        producer.produce(topic, b"x" * size, id)
    assert producer.flush(SECONDS) == 0
    with suppress(KafkaException):  # at least once there is no transaction
        producer.commit_transaction(SECONDS)
    assert not refuses.door.refuses, "nothing was refused"
    return sorted(set(ids) - Records.of(refuses.broker, topic).values.keys())


@pytest.mark.parametrize(("size", "batch_size"), [(LARGE, 0), (100, 1)], ids=["large results", "each in its own batch"])
@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_what_is_refused_once_is_not_lost(refuses: Refusing, delivery: str, size: int, batch_size: int) -> None:
    """Two of six were, exactly once: the transaction was committed without them."""
    transactional_id = unique_name("refused") if delivery == "exactly_once" else ""
    at = {"bootstrap.servers": refuses.door.address}
    producer = clients.producer(at, lambda *_: None, transactional_id, batch_size=batch_size)
    if transactional_id:
        producer.init_transactions(SECONDS)
        producer.begin_transaction()
    assert lost(refuses, producer, size) == []


def test_the_client_still_loses_it_where_it_sends_the_next_request_before_the_answer(refuses: Refusing) -> None:
    """Where this fails a newer client has mended it: then `max.in.flight` may be left to the client, exactly once."""
    properties = {"bootstrap.servers": refuses.door.address, "max.in.flight": 5}
    producer = clients.producer(properties, lambda *_: None, unique_name("refused"))
    producer.init_transactions(SECONDS)
    producer.begin_transaction()
    assert lost(refuses, producer, LARGE) == ["0", "1"]
