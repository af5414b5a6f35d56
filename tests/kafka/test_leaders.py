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
    leaders.assigned(())
    assert not any(returned(leaders))
    assert looked.asked == [["a"]] * 3
