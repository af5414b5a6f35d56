"""Brokers that advertise an address which cannot be reached from here: what `check` and `run` say of them."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from config import UnavailableError
from tests.kafka.brokers import row_at, settings_with
from tests.services.kafka import JavaBroker, Listener
from tests.services.processes import HOST, Unavailable, free_port, running
from tests.test_main import run, with_row, working
from utils.kafka.preflight import look

TOPICS = "a,b", "c"


@dataclass(frozen=True)
class Advertised:
    broker: JavaBroker
    closed: str  # an address where nobody listens


@pytest.fixture(scope="module")
def advertised() -> Iterator[Advertised]:
    closed = f"{HOST}:{free_port()}"
    ways = {"CLOSED": Listener(advertised=closed), "NAMELESS": Listener(advertised="no-such-host.invalid:9092")}
    with ExitStack() as stack:
        try:
            broker = stack.enter_context(running(JavaBroker(heap="400m", listeners=ways)))
        except Unavailable as reason:
            pytest.skip(f"no broker with several listeners: {reason}")
        for topic in "abc":
            broker.create_topic(topic, 1)
        yield Advertised(broker, closed)


@pytest.mark.real_kafka
@pytest.mark.parametrize("way", ["CLOSED", "NAMELESS"])
def test_check_and_run_name_the_address_that_a_broker_advertises_and_the_cure(
    advertised: Advertised, sqlite_url: str, way: str
) -> None:
    url = with_row(sqlite_url, servers=advertised.broker.addresses[way], topics=TOPICS)
    address = advertised.closed if way == "CLOSED" else "no-such-host.invalid:9092"
    says = f"Kafka advertises {address}, which cannot be reached from here"
    ended = run("check", DATABASE_URL=url)
    [line] = [line for line in ended.out.splitlines() if line.startswith("✗")]
    assert says in line
    assert "set advertised.listeners of the broker" in line
    assert "kafka_bootstrap_server of the row" in line
    assert "SASL" not in line
    assert ended.code == 78
    with working("run", DATABASE_URL=url) as worker:
        assert f"waiting: {says}" in worker.waits_for("waiting: ")


@pytest.mark.real_kafka
def test_the_listener_that_can_be_reached_is_all_right(advertised: Advertised) -> None:
    cluster = look(settings_with(), row_at(advertised.broker.bootstrap))
    assert cluster.brokers == (advertised.broker.bootstrap,)


@pytest.mark.real_kafka
def test_of_several_brokers_the_one_that_cannot_be_reached_is_named(advertised: Advertised) -> None:
    closed = f"{HOST}:{free_port()}"
    second = JavaBroker({"advertised.listeners": f"PLAINTEXT://{closed}"}, "400m", beside=advertised.broker)
    with running(second), pytest.raises(UnavailableError, match=f"Kafka advertises {closed}, which cannot be reached"):
        look(settings_with(), row_at(advertised.broker.bootstrap))
