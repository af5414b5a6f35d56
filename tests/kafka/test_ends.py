from concurrent.futures import Future
from typing import Any, cast

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import ListOffsetsResultInfo

from utils.kafka.ends import EndOffsets

A, B = ("a", 0), ("b", 0)


class FakeAdmin:
    """Answers when the test says so."""

    def __init__(self) -> None:
        self.asked: dict[tuple[str, int], Future[Any]] = {}
        self.isolation: list[IsolationLevel] = []

    def list_offsets(self, wanted: Any, isolation_level: IsolationLevel, **_: Any) -> dict[TopicPartition, Future[Any]]:
        self.isolation.append(isolation_level)
        futures = {at: Future[Any]() for at in wanted}
        self.asked |= {(at.topic, at.partition): future for at, future in futures.items()}
        return futures

    def answer(self, at: tuple[str, int], end: int) -> None:
        self.asked.pop(at).set_result(ListOffsetsResultInfo(end, 0, -1))

    def fail(self, at: tuple[str, int]) -> None:
        self.asked.pop(at).set_exception(KafkaException(KafkaError(KafkaError._TIMED_OUT)))


def ends() -> tuple[FakeAdmin, EndOffsets]:
    admin = FakeAdmin()
    return admin, EndOffsets(cast(AdminClient, admin))


def test_each_answer_comes_once_with_the_moment_of_its_question() -> None:
    admin, asked = ends()
    asked.ask([A, B], now=1.0)
    assert asked.answers() == {}
    admin.answer(A, 7)
    assert asked.answers() == {A: (1.0, 7)}
    admin.answer(B, 8)
    assert asked.answers() == {B: (1.0, 8)}
    assert asked.answers() == {}


def test_nothing_is_asked_again_before_it_is_answered() -> None:
    admin, asked = ends()
    asked.ask([A], now=1.0)
    first = admin.asked[A]
    asked.ask([A, B], now=2.0)
    assert admin.asked[A] is first
    admin.answer(A, 7)
    admin.answer(B, 8)
    assert asked.answers() == {A: (1.0, 7), B: (2.0, 8)}


def test_what_fails_is_asked_again() -> None:
    admin, asked = ends()
    asked.ask([A], now=1.0)
    admin.fail(A)
    assert asked.answers() == {}
    asked.ask([A], now=2.0)
    admin.answer(A, 7)
    assert asked.answers() == {A: (2.0, 7)}


def test_an_answer_to_a_question_that_was_forgotten_is_none() -> None:
    admin, asked = ends()
    asked.ask([A], now=1.0)
    asked.forget()
    admin.answer(A, 7)
    assert asked.answers() == {}


def test_the_ends_are_those_of_committed_records() -> None:
    admin, asked = ends()
    asked.ask([A], now=1.0)
    assert admin.isolation == [IsolationLevel.READ_COMMITTED]
