"""The model itself: that it behaves as the real broker was measured to (docs/measured.md)."""

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from tests.simulation.broker import METADATA_LIMIT, SESSION, Broker, Log
from tests.simulation.clients import FakeConsumer, FakeProducer
from tests.simulation.sides import Nobody, Straight

A0, X0 = ("a", 0), ("x", 0)


@pytest.fixture
def broker() -> Broker:
    return Broker({"a": 1, "x": 1}, Nobody())


@pytest.fixture
def host(broker: Broker) -> Straight:
    return Straight(broker)


def joined(host: Straight, **options: Any) -> FakeConsumer:
    consumer = FakeConsumer(host, lambda _error, _parts: None, **options)
    consumer.subscribe(["a"], on_assign=nothing, on_revoke=nothing, on_lost=nothing)
    consumer.poll(0)
    return consumer


def nothing(_consumer: object, _partitions: list[TopicPartition]) -> None: ...


def producer(host: Straight, transactional_id: str = "") -> FakeProducer:
    return FakeProducer(host, 100, lambda: 0, transactional_id)


def in_transaction(host: Straight, transactional_id: str = "t") -> FakeProducer:
    transactional = producer(host, transactional_id)
    transactional.init_transactions()
    transactional.begin_transaction()
    return transactional


def at(offset: int, metadata: str = "") -> list[TopicPartition]:
    return [TopicPartition("a", 0, offset, metadata)]


def code(raised: pytest.ExceptionInfo[KafkaException]) -> int:
    error: KafkaError = raised.value.args[0]
    return error.code()


# ---------------------------------------------------------------- logs and transactions


def test_a_reader_sees_no_record_of_an_open_transaction_and_none_behind_it() -> None:
    log, transaction = Log(), Broker({}, Nobody()).transaction("t", 10)
    log.append(None, b"1", 0, 0.0)
    log.append(None, b"2", 0, 0.0, transaction)
    log.append(None, b"3", 0, 0.0)
    assert [entry.value for entry in log.read(0, 10)[0]] == [b"1"]
    assert (log.end, log.stable_end) == (3, 1)


def test_a_position_passes_the_marker_at_the_end_and_an_aborted_record(broker: Broker) -> None:
    broker.append(A0, None, b"1", 0, broker.transaction("t", 10))
    broker.end("t", committed=False)
    assert broker.log(A0).read(0, 10) == ([], 2)


def test_a_position_does_not_pass_a_gap_at_the_end(broker: Broker) -> None:
    for number in range(2):
        broker.append(A0, None, b"%d" % number, 0)
    broker.log(A0).remove(1)
    assert broker.log(A0).read(0, 10)[1] == 1


def test_a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced(broker: Broker, host: Straight) -> None:
    transactional = in_transaction(host)
    transactional.produce("x", b"1", b"k")
    transactional.flush(0)
    broker.tick(10.0)
    assert broker.open_transactions == []
    with pytest.raises(KafkaException) as raised:
        transactional.commit_transaction(1)
    assert raised.value.args[0].fatal()


def test_a_second_producer_of_the_same_transactional_id_fences_the_first(broker: Broker, host: Straight) -> None:
    first = in_transaction(host)
    first.produce("x", b"1", b"k")
    first.flush(0)
    in_transaction(host)
    with pytest.raises(KafkaException):
        first.commit_transaction(1)


# ---------------------------------------------------------------- commits


def test_metadata_of_4095_characters_is_accepted_and_4096_are_not(broker: Broker, host: Straight) -> None:
    consumer = joined(host)
    consumer.commit(offsets=at(0, "m" * METADATA_LIMIT), asynchronous=False)
    with pytest.raises(KafkaException) as raised:
        consumer.commit(offsets=at(0, "m" * (METADATA_LIMIT + 1)), asynchronous=False)
    assert code(raised) == KafkaError.OFFSET_METADATA_TOO_LARGE


def test_offsets_with_an_old_generation_are_refused_plain_and_in_a_transaction(broker: Broker, host: Straight) -> None:
    consumer = joined(host)
    metadata = consumer.consumer_group_metadata()
    broker.group.leave(next(iter(broker.group.members.values())), 0)
    joined(host)
    with pytest.raises(KafkaException) as raised:
        consumer.commit(offsets=at(1), asynchronous=False)
    assert code(raised) == KafkaError.UNKNOWN_MEMBER_ID
    with pytest.raises(KafkaException) as raised:
        in_transaction(host).send_offsets_to_transaction(at(1), metadata)
    assert raised.value.args[0].txn_requires_abort()


def test_offsets_of_a_consumer_that_never_joined_are_accepted_in_a_transaction(broker: Broker, host: Straight) -> None:
    joined(host)
    stranger = FakeConsumer(host, lambda _error, _parts: None)
    transactional = in_transaction(host)
    transactional.send_offsets_to_transaction(at(7), stranger.consumer_group_metadata())
    transactional.commit_transaction(1)
    assert broker.group.offsets[A0].offset == 7


def test_a_client_that_knows_that_it_was_expelled_has_no_generation(broker: Broker, host: Straight) -> None:
    consumer = joined(host)
    broker.group.leave(next(iter(broker.group.members.values())), 0)
    assert consumer.memberid() != ""
    host.option = 1
    assert consumer.memberid() == ""
    assert consumer.consumer_group_metadata() == b"CGMDv2:\xff\xff\xff\xffgroup\0\0\1"


def test_a_partition_of_another_member_can_be_committed(broker: Broker, host: Straight) -> None:
    owner, other = joined(host), joined(host)
    owner.poll(0)
    other.poll(0)
    assert (len(owner.assignment()), len(other.assignment())) == (1, 0)
    other.commit(offsets=at(5), asynchronous=False)
    assert broker.group.offsets[A0].offset == 5


def test_offsets_on_their_way_in_a_transaction_are_waited_for(broker: Broker, host: Straight) -> None:
    consumer = joined(host)
    in_transaction(host).send_offsets_to_transaction(at(3), consumer.consumer_group_metadata())
    assert consumer.committed([TopicPartition("a", 0)], timeout=20)[0].offset < 0
    assert broker.now >= 10.0  # until the transaction's time-out


def test_the_answer_to_an_asynchronous_commit_comes_in_a_later_poll(broker: Broker, host: Straight) -> None:
    answers: list[object] = []
    consumer = FakeConsumer(host, lambda error, parts: answers.append((error, len(parts))))
    consumer.subscribe(["a"], on_assign=nothing, on_revoke=nothing, on_lost=nothing)
    consumer.poll(0)
    consumer.commit(offsets=at(1), asynchronous=True)
    assert answers == []
    consumer.poll(0)
    assert answers == [(None, 1)]


# ---------------------------------------------------------------- the group


def test_a_member_that_is_silent_for_the_session_timeout_is_expelled(broker: Broker, host: Straight) -> None:
    consumer = joined(host)
    consumer.silence(broker.now)
    broker.tick(SESSION - 1)
    assert broker.group.members
    broker.tick(SESSION)
    assert not broker.group.members


def test_a_static_member_that_comes_back_in_time_has_its_partitions_at_once(broker: Broker, host: Straight) -> None:
    joined(host, instance="one").close()
    generation = broker.group.generation
    again = joined(host, instance="one")
    assert [(each.topic, each.partition) for each in again.assignment()] == [A0]
    assert broker.group.generation == generation


def test_siblings_are_assigned_to_the_same_member(host: Straight) -> None:
    broker = host.broker = Broker({"a": 3, "b": 3}, Nobody())
    for _ in range(2):
        broker.group.join(("a", "b"), "client", "", 0.0)
    for member in list(broker.group.members.values()):
        broker.group.rejoin(member, 0.0)
    for member in broker.group.members.values():
        assert [each for topic, each in member.assignment if topic == "a"] == [
            each for topic, each in member.assignment if topic == "b"
        ]


# ---------------------------------------------------------------- the client


def test_a_partition_that_was_paused_stays_paused_when_it_is_assigned_again(broker: Broker, host: Straight) -> None:
    consumer = joined(host)
    broker.append(A0, None, b"1", 0)
    consumer.pause(consumer.assignment())
    consumer.assign([TopicPartition("a", 0, 0)])
    assert consumer.poll(0) is None
    consumer.resume(consumer.assignment())
    assert consumer.poll(0) is not None


def test_a_position_is_unknown_after_a_seek_until_the_next_record(broker: Broker, host: Straight) -> None:
    consumer = joined(host)
    broker.append(A0, None, b"1", 0)
    assert consumer.poll(0)
    assert consumer.position([TopicPartition("a", 0)])[0].offset == 1
    consumer.seek(TopicPartition("a", 0, 0))
    assert consumer.position([TopicPartition("a", 0)])[0].offset < 0


def test_an_offset_out_of_range_is_one_error_and_then_silence(broker: Broker, host: Straight) -> None:
    consumer = joined(host)
    consumer.assign([TopicPartition("a", 0, 99)])
    message = consumer.poll(0)
    assert message is not None
    error = message.error()
    assert error is not None
    assert error.code() == KafkaError._AUTO_OFFSET_RESET
    assert consumer.poll(0) is None


def test_a_full_queue_is_a_buffer_error(host: Straight) -> None:
    small = FakeProducer(host, 1, lambda: 0)
    small.produce("x", b"1", b"k")
    with pytest.raises(BufferError):
        small.produce("x", b"2", b"k")
