"""How Kafka's clients are made: what they have by default, and what a user may change."""

from contextlib import nullcontext
from typing import Any, cast

import pytest

from config import ConfigError, Settings
from utils.kafka.clients import consumer, fetches, producer
from utils.kafka.properties import SESSION_TIMEOUT_MS, TRANSACTION_TIMEOUT_MS


@pytest.mark.parametrize(
    ("transactional_id", "linger", "backoff"), [("", 0, None), ("orders-1", 2500, 20)], ids=["at least once", "exactly"]
)
def test_results_leave_soon_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, transactional_id: str, linger: int, backoff: int | None
) -> None:
    made: list[dict[str, object]] = []
    monkeypatch.setattr("utils.kafka.clients.Producer", made.append)
    producer({}, lambda *_: None, transactional_id)
    producer({"linger.ms": "7", "retry.backoff.ms": "70"}, lambda *_: None, transactional_id)
    assert [each.get("linger.ms") for each in made] == [linger, "7"]
    assert [each.get("retry.backoff.ms") for each in made] == [backoff, "70"]


def test_one_request_is_on_its_way_at_a_time_where_batches_may_be_of_a_few_records(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else the client may lose some, exactly once: tests/integration/test_refused_requests.py."""
    made: list[dict[str, object]] = []
    monkeypatch.setattr("utils.kafka.clients.Producer", made.append)
    producer({}, lambda *_: None, "orders-1")
    assert "max.in.flight" not in made.pop()
    for name in ("batch.size", "batch.num.messages", "message.max.bytes", "linger.ms"):
        producer({name: "7"}, lambda *_: None, "orders-1")
    producer({}, lambda *_: None, "orders-1", batch_size=1)
    producer({}, lambda *_: None)
    assert [each["max.in.flight"] for each in made] == [1] * 6


def test_a_topic_that_is_gone_is_told_before_a_transaction_is_over_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the client's own 30 s it had "timed out" by then, and nobody knew what was gone."""
    made: list[dict[str, Any]] = []
    monkeypatch.setattr("utils.kafka.clients.Producer", made.append)
    producer({}, lambda *_: None)
    producer({}, lambda *_: None, "orders-1")
    for each in made:
        assert each["topic.metadata.propagation.max.ms"] < each["message.timeout.ms"]
    producer({"topic.metadata.propagation.max.ms": "7"}, lambda *_: None, "orders-1")
    assert made[-1]["topic.metadata.propagation.max.ms"] == "7"


def test_results_that_get_no_answer_have_time_for_a_second_try_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A broker that had vanished without a word, or a quiet connection, cost a minute and a restart."""
    made: list[dict[str, Any]] = []
    monkeypatch.setattr("utils.kafka.clients.Producer", made.append)
    producer({}, lambda *_: None)
    producer({"socket.timeout.ms": "7", "connections.max.idle.ms": "0"}, lambda *_: None)
    producer({}, lambda *_: None, "orders-1")
    by_us, by_user, transactional = made
    assert 2 * by_us["socket.timeout.ms"] < by_us["message.timeout.ms"]
    assert 0 < by_us["connections.max.idle.ms"] < 240_000
    assert (by_user["socket.timeout.ms"], by_user["connections.max.idle.ms"]) == ("7", "0")
    assert not {"socket.timeout.ms", "connections.max.idle.ms"} & transactional.keys(), "the client sets it by itself"


@pytest.mark.parametrize(
    ("given", "is_refused"),
    [
        ({"transaction.timeout.ms": "10000"}, False),
        ({"transaction.timeout.ms": "10001"}, True),
        ({"transaction.timeout.ms": "10001", "session.timeout.ms": "20000"}, False),
        ({"transaction.timeout.ms": "50000", "session.timeout.ms": "90000"}, False),
        ({"transaction.timeout.ms": "50001", "session.timeout.ms": "90000"}, True),
    ],
)
def test_a_transaction_must_end_before_the_partitions_of_a_dead_worker_go_on(
    given: dict[str, str], is_refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("utils.kafka.clients.Producer", lambda properties: properties)
    producer(given, lambda *_: None)
    with pytest.raises(ConfigError, match="KAFKA_TRANSACTION_TIMEOUT_MS") if is_refused else nullcontext():
        producer(given, lambda *_: None, "orders-1")


def test_the_transaction_of_a_worker_with_a_short_session_is_as_short(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, object]] = []
    monkeypatch.setattr("utils.kafka.clients.Producer", made.append)
    producer({"session.timeout.ms": "1500"}, lambda *_: None, "orders-1")
    assert made[0]["transaction.timeout.ms"] == 1500


def test_a_transaction_that_did_not_end_in_time_may_take_as_long_as_the_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[dict[str, object]] = []
    monkeypatch.setattr("utils.kafka.clients.Producer", made.append)
    for is_slow in (False, True):
        producer({}, lambda *_: None, "orders-1", is_slow=is_slow)
    assert [each["transaction.timeout.ms"] for each in made] == [TRANSACTION_TIMEOUT_MS, SESSION_TIMEOUT_MS]


def test_results_are_acknowledged_by_all_replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, object]] = []
    monkeypatch.setattr("utils.kafka.clients.Producer", made.append)
    producer({}, lambda *_: None)
    assert made[0]["acks"] == "all"


@pytest.mark.parametrize(
    ("partitions", "kilobytes"), [(0, 1024), (2, 1024), (8, 256), (16, 128), (256, 128), (512, 64), (5000, 32)]
)
def test_the_more_partitions_there_are_the_less_is_fetched_of_each(
    partitions: int, kilobytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("utils.kafka.clients.Consumer", lambda properties: properties)

    def of_one(properties: dict[str, str]) -> object:
        made = cast("dict[str, object]", consumer(properties, Settings(), lambda *_: None, partitions))
        return made["max.partition.fetch.bytes"]

    assert of_one({}) == fetches(partitions)["max.partition.fetch.bytes"] == kilobytes * 1024
    assert of_one({"max.partition.fetch.bytes": "7"}) == "7"


@pytest.mark.parametrize(("given", "sparse"), [({}, False), ({"enable.sparse.connections": "true"}, "true")])
def test_the_consumer_keeps_a_connection_to_each_broker_if_the_user_does_not_say_otherwise(
    given: dict[str, str], sparse: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some made none any more after a broker had been frozen for longer than the session (docs/measured.md)."""
    monkeypatch.setattr("utils.kafka.clients.Consumer", lambda properties: properties)
    made = cast("dict[str, object]", consumer(given, Settings(consumer_name="orders"), lambda *_: None))
    assert made["enable.sparse.connections"] == sparse
