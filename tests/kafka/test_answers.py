"""A question that fails keeps no client: Python looks for rings too seldom for what has threads and connections."""

import gc
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection

from config import ConfigError, Settings, UnavailableError
from models import Row
from tests.builders import partition_offsets
from utils.kafka import membership, needed_topics, preflight, rights
from utils.kafka.answers import LONGEST, answer, answered, described_groups
from utils.kafka.ends import EndOffsets, ends_now
from utils.kafka.identities import Identities
from utils.kafka.leaders import Leaders
from utils.kafka.lookups import describe
from utils.running.lifetime import interruptibly, patiently

ROW = Row.validated("orders", "a,b", "c", "h:1")
SETTINGS = Settings.read({"CONSUMER_NAME": "orders", "DATABASE_URL": "sqlite:///r.db", "GROUP_INSTANCE_ID": "0"})


def failed() -> "Future[Any]":
    future: Future[Any] = Future()
    future.set_exception(KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)))
    return future


class FailingAdmin:
    """Each of its answers is an error."""

    def list_topics(self, *_topic: str, timeout: float) -> Any:
        topics = {name: SimpleNamespace(partitions={}) for name in "ab"}
        return SimpleNamespace(topics=topics, cluster_id="c")

    def poll(self, _timeout: float) -> None: ...

    def describe_topics(self, topics: TopicCollection, **_: Any) -> dict[str, "Future[Any]"]:
        return {name: failed() for name in topics.topic_names}

    def describe(self, asked: Iterable[Any], **_: Any) -> dict[Any, "Future[Any]"]:
        return {each: failed() for each in asked}

    describe_consumer_groups = describe_configs = list_offsets = describe

    def create_topics(self, topics: Iterable[Any], **_: Any) -> dict[str, "Future[Any]"]:
        return {each.topic: failed() for each in topics}


def leaders(admin: Any) -> None:
    looked = Leaders(admin)
    looked.assigned([("a", 0)])
    for now in (0.0, 1.0):
        looked.have_returned(now)


def identities(admin: Any) -> None:
    looked = Identities(admin)
    for now in (0.0, 1.0):
        looked.made_again([partition_offsets()], now)


def ends(admin: Any) -> None:
    asked = EndOffsets(admin, IsolationLevel.READ_COMMITTED)
    asked.ask([("a", 0)], 0.0)
    assert asked.answers() == {}


def creates(admin: Any) -> None:
    cluster = preflight.Cluster(("h:1",), {"a": 1, "b": 1}, admin=admin)
    assert needed_topics.provide_map_topic(SETTINGS, ROW, cluster)


QUESTIONS: dict[str, Callable[[Any], object]] = {
    "an answer": lambda admin: answered(admin.describe(["a"])["a"]),
    "rights": lambda admin: rights._granted(admin, "DESCRIBE", ["topic a", "group g"]),
    "configurations": lambda admin: preflight._configs(admin, ["a", "b"]),
    "each broker": lambda admin: preflight._reach(admin, {1: "h:1", 2: "h:2"}, [], SETTINGS),
    "a topic that is made": creates,
    "leaders": leaders,
    "identities": identities,
    "ends, asked for": ends,
    "ends, waited for": lambda admin: ends_now(admin, [("a", 0)]),
    "topics": lambda admin: describe(admin, ("a", "b")),
    "members": lambda admin: membership.member_ids(admin, SETTINGS),
    "what a group is": lambda admin: [answer(each) for each in admin.describe(["g"]).values()],
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_client_whose_answer_is_an_error_is_freed_with_the_error(question: str) -> None:
    """The error kept the frames on its way, and these the future that kept the error: each look at a row that was no
    good left a client behind, with its threads.
    """
    assert is_freed(QUESTIONS[question])


@pytest.mark.parametrize("error", [UnavailableError("away"), ConfigError(["no good"])])
def test_so_is_what_a_step_of_a_start_had_in_its_hands_when_it_failed(error: Exception) -> None:
    def step_with(mine: Any) -> None:
        def step() -> None:
            admin = mine
            raise type(error)(*error.args) from KafkaException(admin.describe("a"))

        interruptibly(step, Event())

    assert is_freed(step_with)


def test_so_is_what_it_had_while_it_is_tried_again() -> None:
    tried: list[weakref.ref[FailingAdmin]] = []

    def step() -> list[bool]:
        freed = [each() is None for each in tried]
        if len(tried) < 2:
            admin = FailingAdmin()
            tried.append(weakref.ref(admin))
            raise UnavailableError("away")
        return freed

    class Impatient(Event):
        def wait(self, timeout: float | None = None) -> bool:
            end_of_starts()
            return False

    with without_collections():
        assert patiently(step, Impatient()) == [True, True]


def is_freed(ask: Callable[[Any], object]) -> bool:
    admin = FailingAdmin()
    known = weakref.ref(admin)
    with without_collections():
        with suppress(KafkaException, ConfigError, UnavailableError):
            ask(admin)
        del admin
        end_of_starts()
        return known() is None


def end_of_starts() -> None:
    """The thread of a step that has failed wakes who waits for it while it still has all in its hands."""
    for each in threading.enumerate():
        if each.name == "start":
            each.join()


@contextmanager
def without_collections() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def test_groups_that_are_asked_for_share_the_time_and_the_client_is_given_all_of_its_own() -> None:
    """How a client ends the process that stops asking earlier: tests/kafka/test_moved_groups.py."""
    asked, waited = list[dict[str, Any]](), list[float]()

    class Unanswered(Future[Any]):
        def exception(self, timeout: float | None = None) -> BaseException | None:
            waited.append(timeout or 0.0)
            return super().exception(timeout)

    class Silent:
        def describe_consumer_groups(self, names: list[str], **options: Any) -> dict[str, "Future[Any]"]:
            asked.append(options)
            return {name: Unanswered() for name in names}

    silent: Any = Silent()
    told = described_groups(silent, ["a", "b", "c"], 0.1)
    assert {each.code() for each in told.values()} == {KafkaError._TIMED_OUT}
    assert sum(waited) <= 0.1
    assert asked == [{"request_timeout": LONGEST}]
