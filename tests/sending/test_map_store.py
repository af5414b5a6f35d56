"""The topic of maps: stored before the commit, read at an assignment; what cannot be told is never taken as missing."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from config import ConfigError
from tests.fakes import FakeMessage
from utils.joining.offsets import MAX_METADATA, CommitPoint, OffsetMap
from utils.joining.references import Reference
from utils.joining.states import States
from utils.metrics import Counters
from utils.sending.map_store import ASK_EVERY, BYTES_A_SECOND, HELD_BACK, TOLD_AGAIN, MapStore, MapTopic
from utils.sending.outbox import Outbox

A0, B0 = ("a", 0), ("b", 0)
MAPS = ("maps", 0)


def long_map(seed: int) -> str:
    states = bytes(random.Random(seed).choices((0, 1), k=40_000))
    return OffsetMap("id", 5, 1, 2, States.of(states, 5), "tags").encode()


def kept(
    offset: int, key: bytes | None = b"other", value: bytes | None = b"x", failure: int | None = None
) -> FakeMessage:
    return FakeMessage(MAPS, offset, value, None if failure is None else KafkaError(failure), its_key=key)


@dataclass
class Topic:
    """The topic of maps in memory, with what the store needs of Consumer and Outbox. An error is given once."""

    log: list[FakeMessage | None] = field(default_factory=list)
    position_now: int = -1001
    read: list[int] = field(default_factory=list)
    error: int | None = None
    silent: bool = False
    now: float = 0.0
    closed: int = 0
    asked: int = 0  # for its end

    # outbox
    def put_map(self, topic: str, key: bytes, value: bytes | None) -> None:
        assert topic == "maps"
        self.log.append(kept(len(self.log), key, value))

    # consumer
    def offsets_for_times(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        if self.error is not None:
            raise KafkaException(KafkaError(self.error))
        self.asked += 1
        return [TopicPartition("maps", 0, len(self.log))]

    def assign(self, partitions: list[TopicPartition]) -> None:
        self.position_now = partitions[0].offset

    def seek(self, to: TopicPartition) -> None:
        self.position_now = to.offset

    def poll(self, timeout: float) -> FakeMessage | None:
        if self.silent:
            self.now += timeout
        return next(iter(self.consume(1, 0)), None)

    def consume(self, number: int, timeout: float) -> list[FakeMessage]:
        assert timeout == 0, "it would wait for a full batch"
        if self.silent:
            return []
        here = self.position_now
        self.position_now = min(here + min(number, 2), len(self.log))
        self.read += range(here, self.position_now)
        return [record for record in self.log[here : self.position_now] if record is not None]

    def position(self, _partitions: list[TopicPartition]) -> list[TopicPartition]:
        return [TopicPartition("maps", 0, self.position_now)]

    def close(self) -> None:
        self.closed += 1

    def clock(self) -> float:
        return self.now


class Names:
    def __init__(self) -> None:
        self.given = 0

    def __call__(self) -> str:
        self.given += 1
        return f"w{self.given}"


def store_on(
    topic: Topic,
    *,
    is_there: bool = True,
    unread: Sequence[str] = (),
    counters: Counters | None = None,
    names: Callable[[], str] | None = None,
) -> MapStore:
    maps = MapTopic("maps", is_there, unread)
    return MapStore(maps, lambda: cast(Consumer, topic), names or Names(), counters or Counters(), topic.clock)


def store_maps(store: MapStore, topic: Topic, *points: CommitPoint) -> list[CommitPoint]:
    anything: Any = topic
    return store.store(cast(Consumer, anything), cast(Outbox, anything), list(points))


def as_commits(points: list[CommitPoint]) -> dict[tuple[str, int], str | None]:
    return {(each.topic, each.partition): each.metadata for each in points}


def stored(topic: Topic, *points: CommitPoint) -> dict[tuple[str, int], str | None]:
    """By an owner of before."""
    before = store_on(topic, names=lambda: "w0")
    before.load({})
    return as_commits(store_maps(before, topic, *points))


def point(at: tuple[str, int] = A0, seed: int = 0) -> CommitPoint:
    return CommitPoint(*at, 5, long_map(seed))


# ---------------------------------------------------------------- writing


def test_maps_that_fit_cost_no_request() -> None:
    topic = Topic(error=KafkaError._TRANSPORT)
    store = store_on(topic)
    points = [CommitPoint("a", 0, 5, "x" * MAX_METADATA)]
    assert store.takes(points)
    assert store_maps(store, topic, *points) == points
    assert (topic.log, store.pause) == ([], 0)


def test_what_was_stored_is_read_by_the_next_owner() -> None:
    topic = Topic()
    commits = stored(topic, point(A0, 1), point(B0, 2))
    assert all(len(text or "") < MAX_METADATA for text in commits.values())
    assert store_on(topic).load(commits) == {A0: long_map(1), B0: long_map(2)}
    assert topic.closed == 1


def test_the_end_of_the_topic_is_asked_for_seldom_and_at_the_start_of_an_assignment() -> None:
    topic = Topic()
    store = store_on(topic)
    store.load({})
    store_maps(store, topic, point(A0, 1))
    assert topic.asked == 1
    topic.log += [kept(1 + at) for at in range(10)]
    topic.now += ASK_EVERY / 2
    commits = as_commits(store_maps(store, topic, point(A0, 2)))
    assert topic.asked == 1
    assert store_on(topic).load(commits) == {A0: long_map(2)}
    asked = topic.asked
    topic.now += ASK_EVERY / 2
    store_maps(store, topic, point(A0, 3))
    store.load({})
    topic.log.clear()  # as if it had been deleted meanwhile, and made anew
    commits = as_commits(store_maps(store, topic, point(A0, 4)))
    assert topic.asked == asked + 2
    assert store_on(topic).load(commits) == {A0: long_map(4)}


def test_a_map_in_a_topic_that_was_made_anew_since_its_end_was_asked_for_is_found() -> None:
    topic = Topic([kept(at) for at in range(10)])
    store = store_on(topic)
    store_maps(store, topic, point(A0, 1))
    topic.log.clear()
    commits = as_commits(store_maps(store, topic, point(A0, 2)))
    assert store_on(topic).load(commits) == {A0: long_map(2)}


def test_the_next_commit_waits_in_proportion_to_the_bytes_and_to_the_commits_that_failed() -> None:
    topic, counters = Topic(), Counters()
    store = store_on(topic, counters=counters)
    store_maps(store, topic, point())
    once = len(long_map(0)) / BYTES_A_SECOND
    assert store.pause == pytest.approx(once)
    store.ended(False)
    store_maps(store, topic, point())
    assert store.pause == pytest.approx(2 * once)
    store.ended(True)
    store_maps(store, topic, point())
    assert store.pause == pytest.approx(once)
    assert counters.stored_maps == 3


def test_without_the_topic_a_map_that_does_not_fit_holds_the_commit_back(caplog: pytest.LogCaptureFixture) -> None:
    topic = Topic()
    store = store_on(topic, is_there=False)
    assert store.takes([CommitPoint("a", 0, 5, "short")])
    assert not store.takes([CommitPoint("a", 0, 5, "short"), point(B0)])
    assert store.pause == HELD_BACK
    store_maps(store, topic, CommitPoint("a", 0, 5, "short"))
    assert store.pause == 0


def test_that_commits_are_held_back_is_told_every_five_minutes(caplog: pytest.LogCaptureFixture) -> None:
    """It was told at each try, every five seconds, and drove all other warnings off the status page."""
    topic = Topic()
    store = store_on(topic, is_there=False)
    for _ in range(int(TOLD_AGAIN / HELD_BACK)):
        assert not store.takes([point()])
        topic.now += HELD_BACK
    assert len(caplog.records) == 1
    assert not store.takes([point()])
    assert len(caplog.records) == 2
    assert store.takes([CommitPoint("a", 0, 5, "short")])
    assert not store.takes([point()])
    assert len(caplog.records) == 3, "anew"


def test_a_commit_that_was_refused_for_its_maps_fits_when_it_is_stored_once_more() -> None:
    topic = Topic()
    store, short, longer = store_on(topic), CommitPoint("a", 0, 5, "x" * 600), CommitPoint("b", 0, 5, long_map(0)[:900])
    assert store_maps(store, topic, short) == [short]
    store.ended(True)
    assert store_maps(store, topic, short, longer) == [short, longer]
    store.ended(False)
    too_long = KafkaError(KafkaError.OFFSET_METADATA_TOO_LARGE)
    assert not store.makes_fit(KafkaError(KafkaError.UNKNOWN_MEMBER_ID), store.allowed)
    for _ in range(2):  # as often as the answer says it of a partition
        assert store.makes_fit(too_long, store.allowed)
    fitting = store_maps(store, topic, short, longer)
    assert (fitting[0], Reference.parse(fitting[1].metadata) is None) == (short, False), "600 characters were taken"
    assert not store.makes_fit(too_long, store.allowed), "there is nothing left to be learned"


# ---------------------------------------------------------------- reading


def test_commits_without_a_reference_need_no_reading() -> None:
    topic = Topic(error=KafkaError._TRANSPORT)
    assert store_on(topic).load({A0: None, B0: long_map(1)}) == {}


def test_only_what_lies_at_the_references_is_read() -> None:
    topic = Topic([kept(at) for at in range(10)])
    first = stored(topic, point(A0, 1))
    topic.log += [kept(11 + at) for at in range(10)]
    second = stored(topic, point(B0, 2))
    topic.log += [kept(22 + at) for at in range(10)]
    assert store_on(topic).load(first | second).keys() == {A0, B0}
    assert min(topic.read) == 10
    assert set(topic.read).isdisjoint({14, 15, 16, 17, 18, 19, *range(24, 32)})


def test_a_record_of_the_same_key_and_other_content_is_not_taken() -> None:
    topic = Topic()
    commits = stored(topic, point(A0, 1))
    [record] = topic.log
    assert record
    topic.log.append(kept(1, record.its_key, b"of a zombie"))
    assert store_on(topic).load(commits) == {A0: long_map(1)}
    topic.log[0] = None
    counters = Counters()
    assert store_on(topic, counters=counters).load(commits) == {}
    assert counters.missing_maps == 1


def test_a_map_that_is_not_there_is_left_out_counted_and_the_others_are_read() -> None:
    topic, counters = Topic(), Counters()
    commits = stored(topic, point(A0, 1), point(B0, 2))
    topic.log[0] = None
    topic.log.append(kept(2))
    assert store_on(topic, counters=counters).load(commits) == {B0: long_map(2)}
    assert counters.missing_maps == 1


@pytest.mark.parametrize("only_looks", [False, True])
def test_who_only_looks_says_nothing_of_what_is_read_again(only_looks: bool, caplog: pytest.LogCaptureFixture) -> None:
    topic = Topic()
    commits = stored(topic, point(A0, 1))
    topic.log[0] = None
    topic.log.append(kept(1))
    assert store_on(topic).load(commits, only_looks=only_looks) == {}
    assert ("what it calls finished is read again" in caplog.text) != only_looks


@pytest.mark.parametrize("when", ["the end is asked for", "it is read"])
def test_an_error_says_nothing_of_the_map_and_is_raised(when: str) -> None:
    topic, counters = Topic(), Counters()
    commits = stored(topic, point())
    if when == "it is read":
        topic.log[0] = kept(0, b"", b"", KafkaError._ALL_BROKERS_DOWN)
    else:
        topic.error = KafkaError._TIMED_OUT
    with pytest.raises(KafkaException):
        store_on(topic, counters=counters).load(commits)
    assert counters.missing_maps == 0
    assert topic.closed == 1


def test_a_broker_that_falls_silent_is_not_waited_for_without_end() -> None:
    topic = Topic()
    commits = stored(topic, point())
    topic.silent = True
    with pytest.raises(KafkaException, match="stored maps cannot be read"):
        store_on(topic).load(commits)
    assert topic.closed == 1


def test_a_reference_to_a_map_that_cannot_be_read_is_an_error_of_configuration_with_the_cause() -> None:
    """It was "in topic maps, which does not exist", whatever it was."""
    topic = Topic()
    commits = stored(topic, point())
    with pytest.raises(ConfigError, match="refer to stored maps, which cannot be read: no right; no topic"):
        store_on(topic, unread=["no right", "no topic"]).load(commits)
    assert store_on(topic, unread=["no right"]).load({A0: None}) == {}
    assert topic.closed == 0, "it was not even tried"


def test_a_topic_that_is_not_to_be_written_is_read_all_the_same() -> None:
    """A right to WRITE that was taken, or another `cleanup.policy`, stopped each start for good."""
    topic = Topic()
    store = store_on(topic, is_there=False)
    assert store.load(stored(topic, point())) == {A0: long_map(0)}
    assert not store.takes([point(A0, 1)])


def test_each_assignment_has_a_writer_of_its_own() -> None:
    topic = Topic()
    store = store_on(topic)
    writers = []
    for _ in range(2):
        store.load({})
        [fitting] = store_maps(store, topic, point())
        reference = Reference.parse(fitting.metadata)
        assert reference
        writers.append(reference.lot.writer)
    assert writers == ["w1", "w2"]
