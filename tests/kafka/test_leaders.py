"""Partitions that had no leader are looked at until one of them has."""

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, cast

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from utils.kafka.leaders import LOOK_EVERY, Leaders


class Looked:
    """An admin client that notes what it is asked, and whose answers are there at once. `leader`: of each partition."""

    def __init__(self, leader: object) -> None:
        self.leader = leader
        self.asked: list[list[str]] = []
        self.found = 0  # times that brokers were looked for

    def list_topics(self, topic: str, timeout: float) -> None:
        self.found += 1
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    def describe_topics(self, topics: Any, **_options: Any) -> dict[str, "Future[Any]"]:
        self.asked.append(list(topics.topic_names))
        answers = {topic: Future[Any]() for topic in topics.topic_names}
        for future in answers.values():
            if isinstance(self.leader, KafkaException):
                future.set_exception(self.leader)
            else:
                partitions = [SimpleNamespace(id=number, leader=self.leader) for number in range(3)]
                future.set_result(SimpleNamespace(partitions=partitions))
        return answers


class Some(Looked):
    """`led`: by topic, whether each of its partitions has a leader."""

    def __init__(self, **led: list[bool]) -> None:
        super().__init__(None)
        self._led = led

    def describe_topics(self, topics: Any, **_options: Any) -> dict[str, "Future[Any]"]:
        answers = {topic: Future[Any]() for topic in topics.topic_names}
        for topic, future in answers.items():
            leaders = [SimpleNamespace(id=1) if led else None for led in self._led[topic]]
            partitions = [SimpleNamespace(id=number, leader=each) for number, each in enumerate(leaders)]
            future.set_result(SimpleNamespace(partitions=partitions))
        return answers


def returned(leaders: Leaders, turns: int = 6) -> list[bool]:
    return [leaders.have_returned(100.0 + turn * LOOK_EVERY / 2) for turn in range(turns)]


def test_nobody_is_asked_where_all_have_leaders() -> None:
    looked = Looked(None)
    assert not any(returned(Leaders(cast(AdminClient, looked))))
    assert looked.asked == []


def test_one_that_has_a_leader_again_is_told_once() -> None:
    looked = Looked(SimpleNamespace(id=1))
    leaders = Leaders(cast(AdminClient, looked))
    leaders.assigned({("b", 1), ("a", 2), ("b", 0)})
    assert returned(leaders) == [False, True, False, False, False, False]
    assert looked.asked == [["a", "b"]]


def test_as_long_as_none_has_one_or_nothing_is_told_it_is_asked_again() -> None:
    for leader in (None, SimpleNamespace(id=-1), KafkaException(KafkaError(KafkaError._TIMED_OUT))):
        looked = Looked(leader)
        leaders = Leaders(cast(AdminClient, looked))
        leaders.assigned({("a", 2)})
        assert not any(returned(leaders))
        assert looked.asked == [["a"]] * 3
        assert looked.found == (3 if isinstance(leader, KafkaException) else 0)
    leaders.assigned(())
    assert not any(returned(leaders))
    assert looked.asked == [["a"]] * 3


def test_siblings_that_have_a_leader_wait_for_those_that_have_none() -> None:
    """Else the worker would start again every two seconds."""
    missed = {("a", 0), ("b", 0), ("a", 1), ("b", 1)}
    for a, b, back in (
        ([True, True], [False, False], False),
        ([True, True], [True, False], True),
        ([True, True, True], [True, False], False),  # ids meet across numbers: all were left out
        ([True, True, True], [True, True], True),
    ):
        leaders = Leaders(cast(AdminClient, Some(a=a, b=b)))
        leaders.assigned(missed)
        assert any(returned(leaders)) == back
