"""One request of a producer is refused, and the next one, which is on its way already, is taken.

So it is where a partition has just got another leader. To a broker that does not know the producer yet the second is as
good as the first, and the client takes it for a proof that the first was taken, too (librdkafka, issue 4134;
confluent-kafka-go, issue 921): it tells that all are safe, and commits, without the records of the first.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import pytest

from tests.builders import group
from tests.integration.stream import Records
from tests.integration.workers import eventually, open_transactions
from tests.services.kafka import JavaBroker, Listener, unique_name
from tests.services.processes import Unavailable, running
from tests.services.refusing import Door, refusing
from utils.joining.messages import Result
from utils.kafka import clients
from utils.kafka.properties import leaves_alone
from utils.metrics import Counters
from utils.processing.outcome import Outcome
from utils.sending.failures import Failures
from utils.sending.outbox import Outbox
from utils.sending.refusals import Refusals

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


def lost(refuses: Refusing, delivery: str, properties: dict[str, str], size: int, batch_size: int = 0) -> list[str]:
    """Which of so many results of this size are said to be safe, and Kafka does not have."""
    topic, ids = unique_name("refused"), [str(each) for each in range(RESULTS)]
    refuses.broker.create_topic(topic, 1)
    properties = {"bootstrap.servers": refuses.door.address, **properties}
    transactional_id = unique_name("refused") if delivery == "exactly_once" else ""
    refusals = Refusals(batch_size=batch_size)
    refusals.alone = leaves_alone(properties, batch_size) if transactional_id else 0
    make = partial(clients.producer, transactional_id=transactional_id, batch_size=batch_size)
    outbox = Outbox(lambda report: make(properties, report), (topic,), Failures("orders", "", Counters()), refusals)
    if transactional_id:
        outbox.producer.init_transactions(SECONDS)
        outbox.producer.begin_transaction()
    refuses.door.refuses = True
    outbox.put([Outcome(group(id), [Result(id.encode(), b"x" * size)]) for id in ids])
    assert outbox.flush(SECONDS) == 0
    if transactional_id:
        outbox.producer.commit_transaction(SECONDS)
    assert not refuses.door.refuses, "nothing was refused"
    outbox.close()
    eventually(lambda: not open_transactions(refuses.broker, [topic]), "the end of the transaction")
    return sorted(set(ids) - Records.of(refuses.broker, topic).values.keys())


@pytest.mark.parametrize(
    ("size", "batch_size", "properties"),
    [(LARGE, 0, {}), (100, 1, {}), (100, 0, {"linger.ms": "0"}), (100, 0, {"batch.size": "200"})],
    ids=["large results", "each in its own batch", "no linger", "small batches"],
)
@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_what_is_refused_once_is_not_lost(
    refuses: Refusing, delivery: str, size: int, batch_size: int, properties: dict[str, str]
) -> None:
    """Two of six were, exactly once: the transaction was committed without them."""
    assert lost(refuses, delivery, properties, size, batch_size) == []


def test_the_client_still_loses_it_where_it_sends_the_next_batch_before_the_answer(refuses: Refusing) -> None:
    """Where this fails a newer client has mended it, perhaps: then nothing need leave alone."""
    properties = {"max.in.flight": "5", "batch.size": "200"}
    assert any(lost(refuses, "exactly_once", properties, 100) for _ in range(5))
