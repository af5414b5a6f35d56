from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import OFFSET_INVALID, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.fakes import FakeAdmin
from utils.kafka.ends import EndOffsets, ends_now, newest_times
from utils.kafka.groups import Brokers

A, B = ("a", 0), ("b", 0)


def ends() -> tuple[FakeAdmin, EndOffsets]:
    admin = FakeAdmin(late=True)
    return admin, EndOffsets(cast(AdminClient, admin), IsolationLevel.READ_COMMITTED)


def test_each_answer_comes_once_with_the_moment_of_its_question() -> None:
    admin, asked = ends()
    asked.ask([A, B], now=1.0)
    assert asked.answers() == {}
    admin.answer(A, offset=7)
    assert asked.answers() == {A: (1.0, 7)}
    admin.answer(B, offset=8)
    assert asked.answers() == {B: (1.0, 8)}
    assert asked.answers() == {}


def test_nothing_is_asked_again_before_it_is_answered() -> None:
    admin, asked = ends()
    asked.ask([A], now=1.0)
    first = admin.open[A]
    asked.ask([A, B], now=2.0)
    assert admin.open[A] is first
    admin.answer(A, offset=7)
    admin.answer(B, offset=8)
    assert asked.answers() == {A: (1.0, 7), B: (2.0, 8)}


def test_what_fails_is_asked_again() -> None:
    admin, asked = ends()
    asked.ask([A], now=1.0)
    admin.fail(A, KafkaException(KafkaError(KafkaError._TIMED_OUT)))
    assert asked.answers() == {}
    asked.ask([A], now=2.0)
    admin.answer(A, offset=7)
    assert asked.answers() == {A: (2.0, 7)}


def test_that_it_fails_is_told_every_ten_seconds(caplog: pytest.LogCaptureFixture) -> None:
    """It was told twice or three times a second, for as long as the broker was away."""
    admin, asked = ends()
    for now in range(31):
        asked.ask([A, B], now=float(now))
        for at in (A, B):
            admin.fail(at, KafkaException(KafkaError(KafkaError._TIMED_OUT)))
        assert asked.answers() == {}
    assert len(caplog.records) == 4


def test_what_a_broker_has_not_answered_is_no_end_though_the_client_tells_no_error() -> None:
    """It was one, below all that was read: what waited for a message there was given up, though that may come."""
    admin, asked = ends()
    asked.ask([A, B], now=1.0)
    admin.answer(A, offset=OFFSET_INVALID)
    admin.answer(B, offset=8)
    assert asked.answers() == {B: (1.0, 8)}
    with pytest.raises(KafkaException):
        ends_now(cast(AdminClient, FakeAdmin(lambda at: OFFSET_INVALID if at == A else 8)), [A, B])


def test_a_look_at_all_consumers_leaves_out_what_a_broker_has_not_answered() -> None:
    """It showed an end of -1001."""
    admin = FakeAdmin(lambda at: OFFSET_INVALID if at == A else 8)
    brokers = Brokers(cast(AdminClient, admin), cast(Any, None), 9.0, lambda: 0.0)
    assert brokers.ends([A, B]) == brokers.begins([A, B]) == {B: 8}


def test_an_answer_to_a_question_that_was_forgotten_is_none() -> None:
    admin, asked = ends()
    asked.ask([A], now=1.0)
    asked.forget()
    admin.answer(A, offset=7)
    assert asked.answers() == {}


def test_the_ends_are_those_of_committed_records() -> None:
    admin, asked = ends()
    asked.ask([A], now=1.0)
    assert admin.isolation == [IsolationLevel.READ_COMMITTED]


def test_the_newest_times_are_of_the_topics_that_are_there_and_of_the_partitions_that_answer() -> None:
    class Brokers:
        def list_topics(self, **_: object) -> object:
            return SimpleNamespace(topics={"a": SimpleNamespace(partitions={0: None, 1: None}), "other": None})

        def list_offsets(self, wanted: dict[TopicPartition, object], **_: object) -> object:
            answers = {each: Future[object]() for each in wanted}
            for each, answer in answers.items():
                if each.partition:
                    answer.set_exception(KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE)))
                else:
                    answer.set_result(SimpleNamespace(timestamp=7))
            return answers

    assert newest_times(cast(AdminClient, Brokers()), ("a", "deleted")) == [7]
