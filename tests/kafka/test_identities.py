"""Topics that were deleted and made again while they are read are found, and nothing else is taken for one."""

from collections.abc import Collection
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, cast

from confluent_kafka import KafkaError, KafkaException, Uuid
from confluent_kafka.admin import AdminClient

from tests.builders import partition_offsets
from utils.kafka.identities import LOOK_EVERY, LOOK_PAUSE, Identities

OWNED = [partition_offsets(0, None, topic, number, f"id of {topic}") for topic in "ab" for number in (0, 1)]


class Looked:
    """An admin client whose answers come when they are told to."""

    def __init__(self) -> None:
        self.identities = Identities(cast(AdminClient, self))
        self.open: list[dict[str, Future[Any]]] = []
        self.now = 100.0
        self.found: list[str] = []  # topics by which brokers were looked for
        self.unpolled = 0  # errors and lines of its log

    def poll(self, timeout: float) -> int:
        assert timeout == 0, "the loop's thread waits for nothing here"
        polled, self.unpolled = self.unpolled, 0
        return polled

    def list_topics(self, topic: str, timeout: float) -> None:
        self.found.append(topic)

    def describe_topics(self, topics: Any, **_options: Any) -> dict[str, "Future[Any]"]:
        self.open.append({topic: Future() for topic in topics.topic_names})
        return self.open[-1]

    def answer(self, leaderless: Collection[tuple[str, int]] = (), **changed: str | KafkaException) -> None:
        for topic, future in self.open[-1].items():
            found = changed.get(topic, f"id of {topic}")
            if isinstance(found, KafkaException):
                future.set_exception(found)
            else:
                leaders = [None if (topic, number) in leaderless else SimpleNamespace(id=1) for number in range(3)]
                partitions = [SimpleNamespace(id=number, leader=each) for number, each in enumerate(leaders)]
                future.set_result(SimpleNamespace(topic_id=found, partitions=partitions))

    def made_again(self, after: float = LOOK_EVERY) -> set[str]:
        self.now += after
        return self.identities.made_again(OWNED, self.now)


def test_a_topic_with_another_identity_was_made_again() -> None:
    looked = Looked()
    assert looked.made_again() == set()
    assert looked.made_again() == set(), "no answer yet"
    looked.answer(b="another")
    assert looked.made_again(0) == {"b"}


def test_topics_that_stay_are_looked_at_every_few_seconds_one_look_at_a_time() -> None:
    looked = Looked()
    for _ in range(3):
        assert looked.made_again() == set()
    assert len(looked.open) == 1, "the first look is not answered"
    looked.answer()
    assert looked.made_again(0) == set()
    assert looked.made_again(0) == set()
    assert len(looked.open) == 2
    looked.answer()
    assert [looked.made_again(LOOK_EVERY / 4) for _ in range(2)] == [set(), set()]
    assert len(looked.open) == 2


def test_what_the_client_tells_of_itself_is_taken_with_each_look_also_where_no_topic_has_an_identity() -> None:
    """Nobody did: 36 lines a second with `debug` stayed in memory, and each error of a broker that was away."""
    looked, bare = Looked(), [partition_offsets(topic_id="")]
    for owned in (bare, [], OWNED):
        looked.unpolled = 3
        looked.now += LOOK_EVERY * 2
        looked.identities.made_again(owned, looked.now)
        assert looked.unpolled == 0


def test_the_more_partitions_there_are_the_longer_it_takes_to_the_next_look() -> None:
    looked = Looked()
    many = OWNED * 400
    looked.identities.made_again(many, looked.now)
    looked.answer()
    pause = LOOK_EVERY + LOOK_PAUSE * len(many)
    looked.identities.made_again(many, looked.now + 0.99 * pause)
    assert len(looked.open) == 1
    looked.identities.made_again(many, looked.now + 1.01 * pause)
    assert len(looked.open) == 2


def test_a_topic_of_which_nothing_is_told_was_not_made_again() -> None:
    looked = Looked()
    looked.made_again()
    looked.answer(a=KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)))
    assert looked.made_again() == set()


def test_a_broker_that_has_no_identities_yet_says_nothing() -> None:
    """In a rolling upgrade from Kafka below 2.8 each look may be answered by an old broker, or by a new one."""
    looked = Looked()
    looked.made_again()
    looked.answer(a=str(Uuid(0, 0)), b="another")
    assert looked.made_again() == {"b"}


def test_an_answer_that_may_be_older_than_the_assignment_is_not_heard() -> None:
    looked = Looked()
    looked.made_again()
    looked.answer(a="the one before")
    looked.identities.assigned(OWNED)
    assert looked.made_again() == set()


def test_a_topic_that_comes_with_another_identity_after_a_rebalance_was_made_again() -> None:
    """Also where its partitions were taken away meanwhile: it is the client that may not read it."""
    looked = Looked()
    looked.identities.assigned(OWNED)
    looked.identities.assigned([])
    assert looked.made_again() == set()
    looked.identities.assigned([*OWNED[:2], partition_offsets(0, None, "b", 0, "another")])
    assert looked.made_again(0) == {"b"}
    looked.identities.assigned(OWNED)
    assert looked.made_again(0) == set()


def test_a_broker_without_identities_is_not_asked() -> None:
    looked = Looked()
    owned = [partition_offsets(0, None, "a", 0, "")]
    assert looked.identities.made_again(owned, looked.now) == set()
    assert looked.open == []


def test_the_same_answer_tells_which_partitions_have_no_leader() -> None:
    """Nothing told of a leader that went away while its partition was read: for as long as that lasted."""
    looked = Looked()
    looked.made_again(2 * LOOK_EVERY)
    looked.answer({("a", 0), ("b", 2)})
    assert looked.made_again(0) == set()
    assert looked.identities.leaderless == {("a", 0), ("b", 2)}
    looked.made_again(2 * LOOK_EVERY)
    looked.answer(a=KafkaException(KafkaError(KafkaError._TIMED_OUT)))
    looked.made_again(0)
    assert looked.identities.leaderless == {("a", 0)}, "of a topic that was not told, what was known stays"
    looked.made_again(2 * LOOK_EVERY)
    looked.identities.assigned(OWNED)
    assert looked.identities.leaderless == set(), "what has none then is left out"


def test_where_nothing_is_told_the_client_looks_for_another_broker() -> None:
    """It went on to wait for the one that it took for the controller, which was down: nothing was told any more."""
    looked, no_answer = Looked(), KafkaException(KafkaError(KafkaError._TIMED_OUT))
    looked.made_again()
    looked.answer(a=no_answer)
    looked.made_again(2 * LOOK_EVERY)
    assert looked.found == []
    looked.made_again()
    looked.answer(a=no_answer, b=no_answer)
    looked.made_again(0)
    assert looked.found == ["a"]
