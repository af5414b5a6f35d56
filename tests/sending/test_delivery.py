"""At least once: nothing is safe before it was acknowledged, nothing committed before the broker has confirmed it.

Exactly once: results and offsets in one transaction, which is open for no longer than that takes.
"""

import random
import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, ThrottleEvent, TopicPartition

from tests.builders import group
from tests.fakes import FakeMessage, FakeProducer, Report
from utils.joining.aggregator import Group
from utils.joining.messages import RESULT_OVERHEAD, Result
from utils.joining.offsets import CommitPoint, OffsetMap, PartitionOffsets, mark
from utils.joining.references import Reference
from utils.joining.states import FINISHED, SENT, UNFINISHED, States
from utils.kafka import client_errors
from utils.kafka.client_errors import cure_of
from utils.kafka.mute import Mute
from utils.metrics import Counters, Histogram
from utils.processing.outcome import Outcome
from utils.sending.delivery import AtLeastOnce, Backlog, ExactlyOnce, TransactionTerms
from utils.sending.failures import Failures
from utils.sending.map_store import HELD_BACK, MapStore, MapTopic
from utils.sending.outbox import DeliveryFailed, Outbox, RecordRefused
from utils.sending.pace import MOST, WITHIN, Pace
from utils.sending.refusals import Refusals

POINTS = [CommitPoint("a", 0, 5, "map of a0"), CommitPoint("b", 0, 7, "map of b0")]


@dataclass
class Answered:
    """A partition in the answer to a commit."""

    topic: str
    partition: int
    error: KafkaError | None = None


class Committer:
    """A consumer, as far as it commits."""

    def __init__(self, answer: list[Answered] | None = None) -> None:
        self.commits: list[tuple[list[tuple[str, int, int, str | None]], bool]] = []
        self.answer = answer or [Answered("a", 0), Answered("b", 0)]
        self.first: list[list[Answered]] = []  # answers to the next ones
        self.broken: int | None = None  # the error of requests about the topic of maps

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> list[Answered] | None:
        named = [(each.topic, each.partition, each.offset, each.metadata) for each in offsets]
        self.commits.append((named, asynchronous))
        if asynchronous:
            return None
        return self.first.pop(0) if self.first else self.answer

    def offsets_for_times(self, _partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        if self.broken is not None:
            raise KafkaException(KafkaError(self.broken))
        return [TopicPartition("maps", 0, 0)]


def store(*, is_there: bool = True) -> MapStore:
    """A topic of maps of which nothing is read."""

    def reader() -> Consumer:
        raise AssertionError

    return MapStore(MapTopic("maps", is_there), reader, lambda: "w1", Counters())


def outcomes(*ids: str) -> list[Outcome]:
    return [Outcome(group(id), [Result(id.encode(), b"{}")]) for id in ids]


def settled(delivery: AtLeastOnce | ExactlyOnce, *sent: Outcome) -> list[str] | None:
    """None: not settled. The ids of those whose offsets are finished now."""
    if not delivery.settle():
        return None
    finished = []
    for outcome in sent:
        [fragment] = outcome.group.fragments
        fragment.offsets.finish_sent()
        if fragment.offsets.lowest_unfinished() > fragment.offset:
            finished.append(outcome.group.id)
    return finished


def at_least_once(producer: FakeProducer, *topics: str) -> AtLeastOnce:
    return AtLeastOnce(outbox(producer, *topics or ("out",)), store())


def outbox(producer: "FakeProducer | FakeTransactions", *topics: str, refusals: Refusals | None = None) -> Outbox:
    return Outbox(producer.reporting_to, topics, failures(), refusals or Refusals(pace=quick()), Counters())


def quick() -> Pace:
    """That of an output which has taken much at once."""
    pace = Pace()
    pace.size = MOST
    return pace


def slow(size: int) -> Refusals:
    """Of an output that takes so many bytes in a short while."""
    refusals = Refusals()
    refusals.pace.size = size
    return refusals


def failures() -> Failures:
    return Failures("consumer", "letters", Counters(), lambda: 0.0)


def as_consumer(fake: Committer) -> Consumer:
    return cast(Consumer, fake)


def answer(delivery: AtLeastOnce, error: KafkaError | None = None, *partitions: Answered) -> None:
    """The client calls on_commit: an error of the whole request, or what became of each partition."""
    delivery.on_commit(error, cast(list[TopicPartition], list(partitions) or [Answered("a", 0), Answered("b", 0)]))


def failed(code: int) -> KafkaError:
    return KafkaError(code)


# ---------------------------------------------------------------- results


def test_each_result_goes_to_every_output_topic_under_its_key() -> None:
    producer = FakeProducer()
    results = [Result(b"1", b'{"x":1}'), Result(b"2", b'{"x":2}')]
    at_least_once(producer, "out", "copy").send([Outcome(group("1"), results)])
    assert sorted(producer.produced) == [
        ("copy", b"1", b'{"x":1}'),
        ("copy", b"2", b'{"x":2}'),
        ("out", b"1", b'{"x":1}'),
        ("out", b"2", b'{"x":2}'),
    ]


def test_results_leave_in_the_order_in_which_they_were_sent() -> None:
    producer = FakeProducer()
    delivery = at_least_once(producer)
    delivery.send(outcomes("1", "2"))
    delivery.send(outcomes("3"))
    assert [key for _, key, _ in producer.produced] == [b"1", b"2", b"3"]


def test_nothing_is_safe_before_everything_was_acknowledged() -> None:
    producer = FakeProducer()
    delivery = at_least_once(producer)
    sent = outcomes("1", "2")
    delivery.send(sent)
    assert delivery.settle() is False
    producer.unacknowledged = 1
    assert delivery.settle() is False
    assert delivery.pending == 2
    producer.acknowledge()
    assert settled(delivery, *sent) == ["1", "2"]
    assert (delivery.pending, delivery.backlog) == (0, Backlog())


def timed(latency: Histogram) -> int:
    return latency.read()[0][-1]


def test_what_was_acknowledged_is_timed_and_what_was_dropped_is_not() -> None:
    producer, latency = FakeProducer(), Histogram()
    delivery = AtLeastOnce(outbox(producer, "out"), store(), None, latency)
    delivery.send(outcomes("1"))
    delivery.drop()
    delivery.send(outcomes("2"))
    producer.unacknowledged = 1
    assert not delivery.settle()
    assert timed(latency) == 0
    producer.acknowledge()
    assert delivery.settle()
    assert timed(latency) == 1


def test_a_group_without_results_is_safe_as_soon_as_the_others_are() -> None:
    producer = FakeProducer()
    delivery = at_least_once(producer)
    filtered = Outcome(group("filtered"), [])
    delivery.send([filtered])
    assert delivery.pending == 1
    assert settled(delivery, filtered) == ["filtered"]


def test_without_output_topics_every_group_is_safe_at_once() -> None:
    producer = FakeProducer()
    delivery = AtLeastOnce(outbox(producer), store())
    sent = outcomes("1")
    delivery.send(sent)
    assert settled(delivery, *sent) == ["1"]
    assert producer.produced == []


def test_what_is_sent_while_settling_does_not_keep_it_from_ending_and_leaves_after_it() -> None:
    producer = FakeProducer()
    delivery = at_least_once(producer)
    first, second = outcomes("1", "2")
    delivery.send([first])
    assert delivery.settle() is False
    delivery.send([second])
    assert [key for _, key, _ in producer.produced] == [b"1"]
    assert delivery.pending == 2
    producer.acknowledge()
    assert settled(delivery, first, second) == ["1"]
    assert delivery.pending == 1
    delivery.commit(as_consumer(Committer()), POINTS)
    assert [key for _, key, _ in producer.produced] == [b"1", b"2"]
    assert delivery.settle() is False  # 2 is on its way now
    producer.acknowledge()
    assert settled(delivery, second) == ["2"]


@pytest.mark.parametrize("letters", ["letters", ""])
@pytest.mark.parametrize("mode", ["at least once", "exactly once"])
def test_what_was_superseded_while_it_was_held_stays_finished(mode: str, letters: str) -> None:
    producer: Any = FakeProducer() if mode == "at least once" else FakeTransactions()
    box = outbox(producer, "out", refusals=slow(1))
    delivery = AtLeastOnce(box, store()) if mode == "at least once" else ExactlyOnce(box, store())
    gives_up = Failures("consumer", letters, Counters(), lambda: 0.0)
    given_up = gives_up.incomplete([group("2"), group("3")], lambda _group: ["b"])
    sent = [*outcomes("0", "1"), *given_up]
    for each in sent:
        delivery.send([each])
    states = [each.group.fragments[0].offsets.states for each in sent]
    assert [of.get(0) for of in states] == [SENT, UNFINISHED, UNFINISHED, UNFINISHED]
    mark(sent[2].group.fragments, FINISHED)
    for _ in sent:
        if mode == "at least once":
            producer.acknowledge()
        delivery.settle()
        delivery.commit(cast(Consumer, Committer()), POINTS)
        delivery.send([])
    assert not delivery.holds_back
    assert [of.get(0) for of in states] == [SENT, SENT, FINISHED, SENT]


@pytest.mark.parametrize("mode", ["at least once", "exactly once"])
def test_of_what_is_filtered_nobody_asks_whether_it_has_been_superseded(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was asked of each part: a tenth of the CPU where process() filters most. Only what lacks a part can be so."""
    producer: Any = FakeProducer() if mode == "at least once" else FakeTransactions()
    box = outbox(producer, "out")
    delivery = AtLeastOnce(box, store()) if mode == "at least once" else ExactlyOnce(box, store())
    monkeypatch.setattr(PartitionOffsets, "is_finished", lambda *_: pytest.fail("asked"))
    filtered = Outcome(group("1"), [])
    delivery.send([filtered])
    assert filtered.group.fragments[0].offsets.states.get(0) == SENT


def test_a_letter_that_is_too_large_stays_that_of_a_group_that_lacks_a_part() -> None:
    [given_up] = failures().incomplete([group("1")], lambda _group: ["b"])
    assert failures().refused(given_up, "too large").lacks_some


def test_what_was_held_leaves_also_where_the_commit_behind_it_is_held_back() -> None:
    producer = FakeProducer()
    delivery = at_least_once(producer)
    delivery.send(outcomes("1"))
    assert delivery.settle() is False
    delivery.send(outcomes("2"))
    producer.acknowledge()
    assert delivery.settle() is True
    delivery.settle()
    assert [key for _, key, _ in producer.produced] == [b"1", b"2"]


def test_a_failed_result_raises_and_its_group_is_never_safe() -> None:
    producer = FakeProducer()
    delivery = at_least_once(producer)
    delivery.send(outcomes("1", "2"))
    producer.events.append(lambda: producer.fail(KafkaError._MSG_TIMED_OUT))
    with pytest.raises(DeliveryFailed, match=r"\w"):  # although the queue is empty now
        delivery.settle()


def test_a_failure_is_sticky() -> None:
    producer = FakeProducer()
    delivery = at_least_once(producer)
    producer.events.append(lambda: producer.fail(KafkaError._MSG_TIMED_OUT))
    delivery.send(outcomes("1"))
    for _ in range(3):
        producer.acknowledge()
        with pytest.raises(DeliveryFailed):
            delivery.settle()


def test_the_failure_of_a_result_from_before_a_drop_still_forbids_to_settle() -> None:
    producer = FakeProducer()
    delivery = at_least_once(producer)
    delivery.send(outcomes("1"))
    delivery.drop()
    delivery.send(outcomes("2"))
    producer.events.append(lambda: producer.fail(KafkaError._MSG_TIMED_OUT))
    with pytest.raises(DeliveryFailed):
        delivery.settle()


def test_a_full_queue_is_waited_for_and_no_result_left_out() -> None:
    producer = FakeProducer(room=2)
    delivery = at_least_once(producer)
    producer.events.append(producer.acknowledge)
    delivery.send(outcomes("1", "2", "3"))
    assert [key for _, key, _ in producer.produced] == [b"1", b"2", b"3"]


def test_a_full_queue_of_results_that_fail_raises_instead_of_waiting_for_ever() -> None:
    producer = FakeProducer(room=2)
    delivery = at_least_once(producer)
    producer.events.append(lambda: producer.fail(KafkaError._MSG_TIMED_OUT))
    with pytest.raises(DeliveryFailed):
        delivery.send(outcomes("1", "2", "3"))


def test_after_a_drop_nothing_of_before_is_handed_back_and_what_was_held_is_never_sent() -> None:
    producer = FakeProducer()
    delivery = at_least_once(producer)
    sent, held, new = outcomes("sent", "held", "new")
    delivery.send([sent])
    assert delivery.settle() is False
    delivery.send([held])
    delivery.drop()
    assert delivery.pending == 0
    delivery.send([new])
    producer.acknowledge()
    assert settled(delivery, held, new) == ["new"]
    assert [key for _, key, _ in producer.produced] == [b"sent", b"new"]


# ---------------------------------------------------------------- maps that do not fit into a commit

MAP = OffsetMap("id", 7, 1, 2, States.of(random.Random(1).choices((0, 1), k=40_000)), "tags").encode()
OVERFLOWING = [POINTS[0], CommitPoint("b", 0, 7, MAP)]


def test_a_map_that_does_not_fit_is_acknowledged_before_the_commit_that_refers_to_it() -> None:
    producer, consumer = FakeProducer(), Committer()
    delivery = at_least_once(producer)
    committed_before: list[int] = []
    producer.events.append(lambda: committed_before.append(len(consumer.commits)))
    producer.events.append(producer.acknowledge)
    later = delivery.commit(as_consumer(consumer), OVERFLOWING)
    assert committed_before == [0]
    assert [(topic, value) for topic, _, value in producer.produced] == [("maps", MAP.encode())]
    [([plain, (*_, metadata)], _)] = consumer.commits
    assert plain == tuple(POINTS[0])[:4]
    assert Reference.parse(metadata)
    assert later > 0


def test_a_map_that_is_not_acknowledged_in_time_is_a_failed_commit_and_nothing_is_sent() -> None:
    producer, consumer = FakeProducer(), Committer()
    delivery = at_least_once(producer)
    delivery.commit(as_consumer(consumer), OVERFLOWING)
    assert consumer.commits == []
    assert delivery.committed() is False
    producer.events.append(producer.acknowledge)
    delivery.commit(as_consumer(consumer), OVERFLOWING)
    keys = [key for _, key, _ in producer.produced]
    assert len(set(keys)) == 2  # the first may be in the log, and it is not known which commit names it


def test_a_map_that_fails_raises_and_nothing_is_sent() -> None:
    producer, consumer = FakeProducer(), Committer()
    delivery = at_least_once(producer)
    producer.events.append(lambda: producer.fail(KafkaError._MSG_TIMED_OUT))
    with pytest.raises(DeliveryFailed):
        delivery.commit(as_consumer(consumer), OVERFLOWING)
    assert consumer.commits == []


@pytest.mark.parametrize("heals", [True, False])
def test_a_topic_of_maps_that_does_not_answer_is_a_failed_commit_where_that_heals(heals: bool) -> None:
    producer, consumer = FakeProducer(), Committer()
    delivery = at_least_once(producer)
    consumer.broken = KafkaError._TIMED_OUT if heals else KafkaError.TOPIC_AUTHORIZATION_FAILED
    with nullcontext() if heals else pytest.raises(KafkaException):
        delivery.commit(as_consumer(consumer), OVERFLOWING)
    assert consumer.commits == []
    assert delivery.committed() is False


def test_an_answer_to_an_older_commit_confirms_no_map_of_a_later_one() -> None:
    producer, consumer = FakeProducer(), Committer()
    delivery = at_least_once(producer)
    producer.events.append(producer.acknowledge)
    delivery.commit(as_consumer(consumer), OVERFLOWING)
    delivery.commit(as_consumer(consumer), OVERFLOWING)  # not acknowledged
    answer(delivery)
    producer.events.append(producer.acknowledge)
    delivery.commit(as_consumer(consumer), OVERFLOWING)
    assert len({key for _, key, _ in producer.produced}) == 3


def test_where_maps_cannot_be_stored_the_whole_commit_is_held_back_in_both_modes() -> None:
    consumer, transactions = Committer(), FakeTransactions()
    delivery = AtLeastOnce(outbox(FakeProducer(), "out"), store(is_there=False))
    exactly = ExactlyOnce(outbox(transactions, "out"), store(is_there=False))
    for each in (delivery, exactly):
        assert each.commit(as_consumer(consumer), OVERFLOWING) == HELD_BACK
        assert each.committed() is False
        with pytest.raises(KafkaException):
            each.commit_now(as_consumer(consumer), OVERFLOWING)
    assert (consumer.commits, transactions.calls) == ([], [])


def test_exactly_once_maps_go_in_the_transaction_of_the_commit_that_refers_to_them() -> None:
    producer = FakeTransactions()
    delivery = exactly_once(producer)
    for _ in range(2):
        delivery.commit(as_consumer(Committer()), OVERFLOWING)
    assert producer.names() == ["begin", "produce", "offsets", "commit"] * 2
    assert producer.calls[1][1:] == ("maps", b"b:0::0:0", MAP.encode())
    assert producer.calls[5][2] == b"b:0::1:0"


def test_exactly_once_a_topic_of_maps_that_does_not_answer_aborts() -> None:
    producer, consumer = FakeTransactions(), Committer()
    consumer.broken = KafkaError._TIMED_OUT
    with pytest.raises(DeliveryFailed):
        exactly_once(producer).commit(as_consumer(consumer), OVERFLOWING)
    assert producer.names() == ["begin", "abort"]


TOO_LARGE = KafkaError.OFFSET_METADATA_TOO_LARGE
TOO_LONG = [POINTS[0], CommitPoint("b", 0, 7, MAP[:3_000])]
"""Where brokers take shorter maps than is known."""


def test_a_commit_with_maps_too_long_for_the_brokers_is_made_again_at_once_with_shorter_ones() -> None:
    producer, consumer = FakeProducer(), Committer()
    delivery = at_least_once(producer)
    delivery.commit(as_consumer(consumer), TOO_LONG)
    answer(delivery, None, Answered("a", 0), Answered("b", 0, failed(TOO_LARGE)))
    producer.events.append(producer.acknowledge)
    assert delivery.committed() is None
    [_, ([plain, (*_, metadata)], _)] = consumer.commits
    assert plain == tuple(POINTS[0])[:4]
    assert Reference.parse(metadata)
    answer(delivery)
    assert delivery.committed() is True
    delivery.commit(as_consumer(consumer), POINTS)
    answer(delivery, failed(TOO_LARGE))
    with pytest.raises(KafkaException):
        delivery.committed()


def test_a_commit_that_was_refused_is_not_made_again_for_partitions_that_are_lost() -> None:
    consumer = Committer()
    delivery = at_least_once(FakeProducer())
    delivery.commit(as_consumer(consumer), TOO_LONG)
    delivery.drop()
    answer(delivery, failed(TOO_LARGE))
    assert delivery.committed() is False
    assert len(consumer.commits) == 1


def test_a_commit_of_a_revoke_is_made_again_too() -> None:
    producer, consumer = FakeProducer(), Committer([Answered("a", 0), Answered("b", 0, failed(TOO_LARGE))])
    producer.events += [producer.acknowledge, lambda: setattr(consumer, "answer", [])]
    at_least_once(producer).commit_now(as_consumer(consumer), TOO_LONG)
    assert [len(named) for named, _ in consumer.commits] == [2, 2]
    assert Reference.parse(consumer.commits[1][0][1][3])


def test_exactly_once_a_transaction_with_maps_too_long_for_the_brokers_is_made_again() -> None:
    producer = FakeTransactions("offsets", TOO_LARGE)
    producer.heals = True
    delivery = exactly_once(producer)
    delivery.send(outcomes("1"))
    delivery.settle()
    delivery.commit(as_consumer(Committer()), TOO_LONG)
    first, second = ["begin", "flush", "offsets"], ["begin", "produce", "offsets", "produce", "commit"]
    assert producer.names() == [*first, "abort", *second], "the second one stores the map, too"
    assert delivery.committed() is True
    assert delivery.backlog == Backlog()


# ---------------------------------------------------------------- commits


def test_a_commit_carries_offset_and_map_of_every_partition_in_one_request() -> None:
    consumer = Committer()
    at_least_once(FakeProducer()).commit(as_consumer(consumer), POINTS)
    assert consumer.commits == [([("a", 0, 5, "map of a0"), ("b", 0, 7, "map of b0")], True)]


def test_a_commit_counts_only_after_the_broker_has_answered() -> None:
    delivery = at_least_once(FakeProducer())
    delivery.commit(as_consumer(Committer()), POINTS)
    assert delivery.committed() is None
    answer(delivery)
    assert delivery.committed() is True


def test_an_error_on_one_partition_is_a_failed_commit() -> None:
    delivery = at_least_once(FakeProducer())
    delivery.commit(as_consumer(Committer()), POINTS)
    answer(delivery, None, Answered("a", 0), Answered("b", 0, failed(KafkaError.REBALANCE_IN_PROGRESS)))
    assert delivery.committed() is False


@pytest.mark.parametrize(
    "code",
    [
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError._TIMED_OUT,
        KafkaError._TRANSPORT,
        KafkaError._WAIT_COORD,
        KafkaError._ALL_BROKERS_DOWN,
    ],
)
def test_what_may_heal_is_committed_again(code: int) -> None:
    delivery = at_least_once(FakeProducer())
    delivery.commit(as_consumer(Committer()), POINTS)
    answer(delivery, failed(code))
    assert delivery.committed() is False
    delivery.commit(as_consumer(Committer()), POINTS)
    assert delivery.committed() is None
    answer(delivery)
    assert delivery.committed() is True


@pytest.mark.parametrize(
    "code",
    [
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError.INVALID_COMMIT_OFFSET_SIZE,
        KafkaError._FATAL,
    ],
)
def test_what_no_repetition_heals_is_raised(code: int) -> None:
    for answers in ((failed(code),), (None, Answered("a", 0), Answered("b", 0, failed(code)))):
        delivery = at_least_once(FakeProducer())
        delivery.commit(as_consumer(Committer()), POINTS)
        answer(delivery, *cast(Any, answers))
        with pytest.raises(KafkaException):
            delivery.committed()


def test_the_late_answer_of_an_older_commit_is_not_taken_for_that_of_the_newer_one() -> None:
    delivery = at_least_once(FakeProducer())
    delivery.commit(as_consumer(Committer()), POINTS)
    delivery.drop()  # a rebalance: nobody has asked for the answer
    delivery.commit(as_consumer(Committer()), POINTS)
    answer(delivery)
    assert delivery.committed() is None
    answer(delivery, failed(KafkaError.REBALANCE_IN_PROGRESS))
    assert delivery.committed() is False


def test_the_late_failure_of_an_older_commit_does_not_undo_the_newer_one() -> None:
    delivery = at_least_once(FakeProducer())
    delivery.commit(as_consumer(Committer()), POINTS)
    delivery.drop()
    delivery.commit(as_consumer(Committer()), POINTS)
    answer(delivery, failed(KafkaError.ILLEGAL_GENERATION))
    assert delivery.committed() is None
    answer(delivery)
    assert delivery.committed() is True


def test_in_a_revoke_the_commit_waits_for_its_answer() -> None:
    consumer = Committer()
    at_least_once(FakeProducer()).commit_now(as_consumer(consumer), POINTS)
    assert consumer.commits == [([("a", 0, 5, "map of a0"), ("b", 0, 7, "map of b0")], False)]


def test_in_a_revoke_an_error_on_one_partition_is_raised() -> None:
    consumer = Committer([Answered("a", 0), Answered("b", 0, failed(KafkaError.ILLEGAL_GENERATION))])
    with pytest.raises(KafkaException):
        at_least_once(FakeProducer()).commit_now(as_consumer(consumer), POINTS)


def test_what_did_not_fit_is_not_committed_once_more_when_the_loop_has_failed() -> None:
    consumer, delivery = Committer(), at_least_once(FakeProducer())
    delivery.commit(as_consumer(consumer), TOO_LONG)
    answer(delivery, None, Answered("a", 0), Answered("b", 0, failed(KafkaError.OFFSET_METADATA_TOO_LARGE)))
    delivery.fail()
    assert delivery.committed() is False
    assert len(consumer.commits) == 1


def test_of_two_commits_on_their_way_with_maps_too_long_only_the_last_is_made_again() -> None:
    """An assignment may end while one is on its way. Each is judged by the limit of when it was made."""
    producer, consumer = FakeProducer(), Committer()
    delivery = at_least_once(producer)
    for _ in range(2):
        delivery.commit(as_consumer(consumer), TOO_LONG)
    producer.events += [producer.acknowledge] * 2
    for made in (2, 3):
        answer(delivery, None, Answered("a", 0), Answered("b", 0, failed(TOO_LARGE)))
        assert delivery.committed() is None
        assert len(consumer.commits) == made
    answer(delivery, None, Answered("a", 0), Answered("b", 0))
    assert delivery.committed() is True


def test_the_answer_to_a_commit_of_before_a_revoke_is_judged_by_what_maps_were_allowed_then() -> None:
    """The commit of the revoke has taught that less is allowed: from the answer nothing is to be learned any more."""
    producer, consumer = FakeProducer(), Committer()
    too_long = [Answered("a", 0), Answered("b", 0, failed(TOO_LARGE))]
    consumer.first = [too_long]
    delivery = at_least_once(producer)
    delivery.commit(as_consumer(consumer), TOO_LONG)
    producer.events.append(producer.acknowledge)
    delivery.commit_now(as_consumer(consumer), TOO_LONG)
    delivery.drop()
    answer(delivery, None, *too_long)
    assert delivery.committed() is False


BEFORE = [CommitPoint("a", 0, 3, "map of a0 before"), CommitPoint("b", 0, 4, "map of b0 before")]
DENIED = KafkaError.TOPIC_AUTHORIZATION_FAILED


@pytest.mark.parametrize("in_a_revoke", [False, True])
def test_a_commit_that_kafka_has_refused_is_taken_back_topic_by_topic(in_a_revoke: bool) -> None:
    """It may be carried out for one of the topics: of what had met one part was done, and the other given up."""
    consumer, delivery = Committer(), at_least_once(FakeProducer())
    delivery.commit(as_consumer(consumer), BEFORE)
    answer(delivery)
    assert delivery.committed() is True
    refused = [Answered("a", 0, failed(DENIED)), Answered("b", 0, failed(DENIED))]
    consumer.answer, consumer.first = [Answered("a", 0)], [refused] if in_a_revoke else []

    def commit() -> None:
        if in_a_revoke:
            delivery.commit_now(as_consumer(consumer), POINTS)
        delivery.commit(as_consumer(consumer), POINTS)
        answer(delivery, failed(DENIED), *refused)
        delivery.committed()

    with pytest.raises(KafkaException) as raised:
        commit()
    assert raised.value.args[0].code() == DENIED
    assert consumer.commits[2:] == [
        ([("a", 0, 3, "map of a0 before")], False),
        ([("b", 0, 4, "map of b0 before")], False),
    ]
    with suppress(KafkaException):
        delivery.committed()
    assert len(consumer.commits) == 4, "once"


@pytest.mark.parametrize("code", [DENIED, KafkaError.ILLEGAL_GENERATION])
def test_nothing_is_taken_back_of_another_assignment_nor_of_a_commit_that_is_made_again(code: int) -> None:
    consumer, delivery = Committer(), at_least_once(FakeProducer())
    delivery.commit(as_consumer(consumer), BEFORE)
    answer(delivery)
    if code == DENIED:
        delivery.drop()
    delivery.commit(as_consumer(consumer), POINTS)
    answer(delivery, failed(code), Answered("a", 0, failed(code)))
    with suppress(KafkaException):
        assert delivery.committed() is False
    assert len(consumer.commits) == 2


# ---------------------------------------------------------------- exactly once


class FakeTransactions:
    """A transactional producer that notes its calls; `failing` is the call that raises, `room` what its queue takes."""

    unacknowledged = 0

    def __init__(self, failing: str = "", code: int = KafkaError._TIMED_OUT, room: int = 1_000_000) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.failing = failing
        self.code = code
        self.room = room
        self.heals = False  # it fails once only
        self.patience = 0.0  # of the last commit

    def _call(self, name: str, *arguments: object) -> None:
        self.calls.append((name, *arguments))
        if name == self.failing:
            self.failing = "" if self.heals else name
            raise KafkaException(KafkaError(self.code))

    def init_transactions(self, _timeout: float) -> None:
        self._call("init")

    def begin_transaction(self) -> None:
        self._call("begin")

    def reporting_to(self, report: Report) -> Producer:
        self._report = report
        return cast(Producer, self)

    def produce(self, topic: str, value: bytes, key: bytes, _partition: int = -1, headers: object = None) -> None:
        if not self.room:
            raise BufferError
        self.room -= 1
        self._call("produce", topic, key, value)

    def __len__(self) -> int:
        return 0 if self.room else 1

    def poll(self, _timeout: float) -> None:
        self.room += 1

    def flush(self, _timeout: float) -> int:
        self._call("flush")
        return self.unacknowledged

    def send_offsets_to_transaction(self, offsets: list[TopicPartition], group: object, _timeout: float) -> None:
        self._call("offsets", [(each.topic, each.partition, each.offset, each.metadata) for each in offsets], group)

    def commit_transaction(self, timeout: float) -> None:
        self.patience = timeout
        self._call("commit")

    def abort_transaction(self, _timeout: float) -> None:
        self._call("abort")

    def names(self) -> list[object]:
        return [name for name, *_ in self.calls]


class FakeMember:
    """A consumer whose group metadata names its generation."""

    generation = 1

    def memberid(self) -> str:
        return "member"

    def consumer_group_metadata(self) -> str:
        return f"generation {self.generation}"


@pytest.mark.parametrize(("timeout", "seconds"), [(5.0, 8.0), (10.0, 11.0), (50.0, 51.0)])
def test_a_transaction_is_waited_for_until_brokers_have_ended_it(timeout: float, seconds: float) -> None:
    producer = FakeTransactions()
    delivery = ExactlyOnce(outbox(producer, "out"), store(), terms=TransactionTerms(timeout))
    delivery.assigned(cast(Consumer, FakeMember()))
    commit(delivery)
    assert producer.patience == seconds


def test_a_transaction_tells_how_long_the_loop_may_not_turn_before_it_begins() -> None:
    """With long ones, a worker whose broker was away did not turn for more than a minute, and was killed for it."""
    producer = FakeTransactions()

    def may_take(seconds: float) -> None:
        producer.calls.append(("may take", seconds))

    delivery = ExactlyOnce(outbox(producer, "out"), store(), terms=TransactionTerms(50.0, may_take=may_take))
    delivery.assigned(cast(Consumer, FakeMember()))
    producer.calls.clear()
    commit(delivery)
    assert producer.calls[:2] == [("may take", 103.0), ("begin",)], "the offsets, with a second more; and aborting it"


class ExpelledMember(FakeMember):
    def memberid(self) -> str:
        return ""


def exactly_once(producer: FakeTransactions, member: FakeMember | None = None) -> ExactlyOnce:
    delivery = ExactlyOnce(outbox(producer, "out"), store())
    delivery.assigned(cast(Consumer, member or FakeMember()))
    producer.calls.clear()
    return delivery


def commit(delivery: ExactlyOnce) -> None:
    delivery.commit(cast(Consumer, None), POINTS)


def test_exactly_once_results_and_offsets_go_in_one_transaction() -> None:
    producer = FakeTransactions()
    delivery = exactly_once(producer)
    sent = outcomes("1", "2")
    delivery.send(sent[:1])
    delivery.send(sent[1:])
    assert settled(delivery, *sent) == ["1", "2"]
    assert producer.calls == []  # open only for the moment of the commit
    commit(delivery)
    offsets = [("a", 0, 5, "map of a0"), ("b", 0, 7, "map of b0")]
    assert producer.calls == [
        ("begin",),
        ("offsets", offsets, "generation 1"),  # first: above a quota what comes behind the results waits
        ("produce", "out", b"1", b"{}"),
        ("produce", "out", b"2", b"{}"),
        ("commit",),
    ]
    assert delivery.committed() is True


def large(*ids: str) -> list[Outcome]:
    return [Outcome(group(id), [Result(id.encode(), bytes(900_000))]) for id in ids]


def test_exactly_once_more_than_one_batch_of_results_waits_for_the_batch_before_it() -> None:
    producer = FakeTransactions()
    delivery = exactly_once(producer)
    delivery.send(large("1", "2"))
    delivery.settle()
    commit(delivery)
    assert producer.names() == ["begin", "offsets", "produce", "flush", "produce", "commit"]


def test_exactly_once_so_do_results_that_were_sent_one_after_the_other() -> None:
    producer = FakeTransactions()
    delivery = exactly_once(producer)
    for id in ("1", "2"):
        delivery.send(large(id))
    delivery.settle()
    commit(delivery)
    assert producer.names() == ["begin", "offsets", "produce", "flush", "produce", "commit"]


def test_exactly_once_a_batch_that_is_not_acknowledged_in_time_aborts() -> None:
    producer = FakeTransactions()
    producer.unacknowledged = 1
    delivery = exactly_once(producer)
    delivery.send(large("1", "2"))
    delivery.settle()
    with pytest.raises(DeliveryFailed):
        commit(delivery)
    assert producer.names() == ["begin", "offsets", "produce", "flush", "abort"]


class Refusing(FakeTransactions):
    """The client refuses what is larger than a megabyte, the broker dead letters, which ends the transaction."""

    over = False

    def produce(self, topic: str, value: bytes, key: bytes, _partition: int = -1, headers: object = None) -> None:
        if self.over or len(value) > 1_000_000:
            raise KafkaException(KafkaError(KafkaError._STATE if self.over else KafkaError.MSG_SIZE_TOO_LARGE))
        if topic != "out":
            self.letter = Message(topic=topic, key=key, value=value)

    def flush(self, _timeout: float) -> int:
        self.over = True
        self._report(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE), self.letter)
        return 0


def test_exactly_once_a_refused_dead_letter_of_an_earlier_batch_is_known_when_a_later_one_fails() -> None:
    producer, refusals = Refusing(), Refusals(batch_size=1, pace=quick())
    delivery = ExactlyOnce(outbox(producer, "out", refusals=refusals), store())
    delivery.assigned(cast(Consumer, FakeMember()))
    delivery.send([Outcome(group("1"), [Result(b"1", bytes(1_500_000))]), *outcomes("2")])
    delivery.settle()
    with pytest.raises(RecordRefused):
        commit(delivery)
    assert refusals.groups


def test_exactly_once_what_was_committed_is_timed() -> None:
    producer, latency = FakeTransactions(), Histogram()
    delivery = ExactlyOnce(outbox(producer, "out"), store(), None, latency)
    delivery.assigned(cast(Consumer, FakeMember()))
    delivery.send(outcomes("1"))
    delivery.settle()
    assert timed(latency) == 0
    commit(delivery)
    assert timed(latency) == 1


def test_exactly_once_each_result_goes_into_one_transaction_only() -> None:
    producer = FakeTransactions()
    delivery = exactly_once(producer)
    for id in ("1", "2"):
        delivery.send(outcomes(id))
        delivery.settle()
        commit(delivery)
    assert [key for name, *rest in producer.calls if name == "produce" for key in rest[1:2]] == [b"1", b"2"]


def test_exactly_once_the_order_is_that_of_sending_whether_groups_are_kept_or_not() -> None:
    producer = FakeTransactions()
    delivery = ExactlyOnce(outbox(producer, "out"), store())
    delivery.assigned(cast(Consumer, FakeMember()))
    sent = [outcomes("1"), large("1"), outcomes("2", "1")]
    for each in sent:
        delivery.send(each)
    assert (delivery.pending, delivery.backlog.groups) == (4, 4)
    delivery.settle()
    commit(delivery)
    produced = [call[2:] for call in producer.calls if call[0] == "produce"]
    assert produced == [(result.key, result.value) for each in sent for outcome in each for result in outcome.results]
    assert (delivery.pending, delivery.backlog) == (0, Backlog())


def test_exactly_once_of_ordinary_results_the_groups_are_not_kept_until_the_commit() -> None:
    delivery = exactly_once(FakeTransactions())
    [outcome] = outcomes("1")
    before = sys.getrefcount(outcome)
    delivery.send([outcome])
    assert sys.getrefcount(outcome) == before


def test_exactly_once_what_was_not_settled_is_in_no_transaction() -> None:
    producer = FakeTransactions()
    delivery = exactly_once(producer)
    delivery.send(outcomes("1"))
    delivery.settle()
    delivery.send(outcomes("2"))
    assert delivery.pending == 1
    commit(delivery)
    assert producer.names().count("produce") == 1
    assert delivery.backlog.groups == 1


def test_exactly_once_results_take_room_as_long_as_the_commit_behind_them_is_held_back() -> None:
    producer = FakeTransactions()
    delivery = exactly_once(producer)
    delivery.send(outcomes("1"))
    delivery.settle()
    delivery.send(outcomes("2"))
    delivery.settle()
    assert (delivery.pending, delivery.backlog.groups) == (0, 2)
    commit(delivery)
    assert producer.names().count("produce") == 2
    assert delivery.backlog == Backlog()


@pytest.mark.parametrize("make", [exactly_once, at_least_once])
def test_results_take_the_room_of_their_bytes_where_those_are_more_than_what_they_were_made_of(
    make: Callable[[Any], AtLeastOnce | ExactlyOnce],
) -> None:
    delivery = make(FakeTransactions())
    of_400_bytes = Group("1", group("1").fragments, 400)
    delivery.send([Outcome(of_400_bytes, [Result(b"1", b"x" * 100)])])
    assert delivery.backlog.bytes == 400
    delivery.send([Outcome(of_400_bytes, [Result(b"1", b"x" * 5_000), Result(b"2", b"x" * 5_000)])])
    assert delivery.backlog.bytes == 10_400 + 2 * RESULT_OVERHEAD


@pytest.mark.parametrize("failing", ["produce", "offsets", "commit"])
def test_exactly_once_a_failure_aborts_and_is_raised(failing: str) -> None:
    producer = FakeTransactions(failing)
    delivery = exactly_once(producer)
    delivery.send(outcomes("1"))
    delivery.settle()
    with pytest.raises(DeliveryFailed, match=r"\w"):
        commit(delivery)
    assert producer.names()[-1] == "abort"


def test_exactly_once_an_abort_says_for_which_delivery_it_was() -> None:
    """The client says that the transaction has failed, and only the report of a result that a right is missing."""
    producer = FakeTransactions("commit")
    delivery = exactly_once(producer)
    delivery.send(outcomes("1"))
    delivery.settle()
    forbidden, record = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), FakeMessage(("out", 7), 0, b"")
    producer.poll = lambda _timeout: producer._report(forbidden, cast(Message, record))  # type: ignore[method-assign]
    with pytest.raises(DeliveryFailed, match=r"^transaction aborted: .*uthoriz.* \(out:7\)$") as caught:
        commit(delivery)
    assert "grant the right" in cure_of(caught.value)


def test_exactly_once_a_transaction_that_cannot_even_be_aborted_raises_why_it_failed() -> None:
    producer = FakeTransactions("commit")
    delivery = exactly_once(producer)
    producer.abort_transaction = lambda _timeout: producer._call("commit")  # type: ignore[method-assign]
    with pytest.raises(DeliveryFailed):
        commit(delivery)


@pytest.mark.parametrize(
    ("code", "taken", "replaced"),
    [
        (KafkaError._FENCED, True, True),  # by a worker that shares our GROUP_INSTANCE_ID
        (KafkaError._FENCED, False, False),  # by our own time-out
        (KafkaError._TIMED_OUT, True, False),  # then the group is not even asked
    ],
)
def test_exactly_once_a_fenced_producer_asks_whether_its_worker_is_replaced(
    code: int, taken: bool, replaced: bool
) -> None:
    producer, asked = FakeTransactions("commit", code), []

    def is_place_taken(member_id: str) -> bool:
        asked.append(member_id)
        return taken

    delivery = ExactlyOnce(outbox(producer, "out"), store(), terms=TransactionTerms(is_place_taken=is_place_taken))
    delivery.assigned(cast(Consumer, FakeMember()))
    producer.abort_transaction = lambda _timeout: producer._call("commit")  # type: ignore[method-assign]
    with pytest.raises(DeliveryFailed) as caught:  # in a revoke too: a KafkaException there means: go on
        delivery.commit_now(cast(Consumer, FakeMember()), POINTS)
    assert client_errors.is_replaced(caught.value) == replaced
    assert asked == ["member"] * (code == KafkaError._FENCED)


def test_exactly_once_the_generation_is_that_of_the_assignment_not_that_of_the_moment() -> None:
    producer, member = FakeTransactions(), FakeMember()
    delivery = exactly_once(producer, member)
    member.generation = -1  # the consumer has been thrown out and does not know it yet
    commit(delivery)
    assert ("offsets", [tuple(point)[:4] for point in POINTS], "generation 1") in producer.calls
    member.generation = 2
    delivery.assigned(cast(Consumer, member))
    commit(delivery)
    assert producer.calls[-2][-1] == "generation 2"
    assert "init" not in producer.names()  # it would fence ourselves


def test_exactly_once_after_a_drop_nothing_of_before_is_sent() -> None:
    producer = FakeTransactions()
    delivery = exactly_once(producer)
    delivery.send(outcomes("settled"))
    delivery.settle()
    delivery.send(outcomes("staged"))
    delivery.drop()
    assert (delivery.pending, delivery.backlog) == (0, Backlog())
    delivery.settle()
    commit(delivery)
    assert "produce" not in producer.names()


def test_exactly_once_a_full_queue_is_waited_for() -> None:
    producer = FakeTransactions(room=1)
    delivery = exactly_once(producer)
    delivery.send(outcomes("1", "2", "3"))
    delivery.settle()
    commit(delivery)
    assert producer.names().count("produce") == 3


class SilentTransactions(FakeTransactions):
    """As the client when the group's coordinator was away: sending the offsets never ends."""

    def __init__(self) -> None:
        super().__init__()
        self.end, self.is_closed = threading.Event(), threading.Event()

    def send_offsets_to_transaction(self, offsets: list[TopicPartition], group: object, _timeout: float) -> None:
        self.end.wait()

    def purge(self) -> None:
        self.calls.append(("purge",))

    def close(self) -> None:
        self.is_closed.set()


def test_exactly_once_offsets_that_are_never_answered_fail_the_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("utils.sending.delivery._OFFSETS", 0.01)
    producer = SilentTransactions()
    delivery = exactly_once(producer)
    delivery.send(outcomes("1"))
    delivery.settle()
    with pytest.raises(DeliveryFailed, match="no answer"):
        commit(delivery)
    delivery._outbox.close()
    assert [name for name, *_ in producer.calls] == ["begin", "abort"], "not closed: that call goes on"
    producer.end.set()
    assert producer.is_closed.wait(60), "now that it has come back"


def test_exactly_once_takes_no_assignment_without_a_generation_that_the_broker_could_fence() -> None:
    delivery = ExactlyOnce(outbox(FakeTransactions(), "out"), store())
    with pytest.raises(DeliveryFailed, match="expelled"):
        delivery.assigned(cast(Consumer, ExpelledMember()))


# ---------------------------------------------------------------- an output that is slower than process()

SIZE = RESULT_OVERHEAD + 2  # bytes of each result of outcomes()


def keys(producer: FakeTransactions) -> list[object]:
    return [call[2] for call in producer.calls if call[0] == "produce"]


def exactly_once_at(producer: FakeTransactions, size: int, mute: Mute | None = None) -> ExactlyOnce:
    box = Outbox(producer.reporting_to, ("out",), failures(), slow(size), Counters(), mute)
    delivery = ExactlyOnce(box, store())
    delivery.assigned(cast(Consumer, FakeMember()))
    producer.calls.clear()
    return delivery


def test_exactly_once_a_transaction_has_no_more_results_than_the_output_takes_and_offsets_of_those_only() -> None:
    producer = FakeTransactions()
    delivery = exactly_once_at(producer, 2 * SIZE)
    sent = outcomes("1", "2", "3")
    delivery.send(sent[:1])
    delivery.send(sent[1:])
    assert delivery.holds_back
    assert settled(delivery, *sent) == ["1", "2"]
    assert delivery.pending == 1
    commit(delivery)
    assert keys(producer) == [b"1", b"2"]
    assert delivery.backlog.groups == 1
    assert settled(delivery, *sent) == ["1", "2", "3"]
    commit(delivery)
    assert keys(producer) == [b"1", b"2", b"3"]
    assert (delivery.pending, delivery.backlog) == (0, Backlog())


def test_exactly_once_what_comes_while_others_wait_for_a_transaction_waits_behind_them() -> None:
    producer = FakeTransactions()
    delivery = exactly_once_at(producer, SIZE)
    delivery.send(outcomes("1", "2"))
    delivery.send(outcomes("3"))
    for _ in range(3):
        delivery.settle()
        commit(delivery)
    assert keys(producer) == [b"1", b"2", b"3"]


def test_exactly_once_a_group_that_is_more_than_the_output_takes_goes_alone_and_whole() -> None:
    producer = FakeTransactions()
    delivery = exactly_once_at(producer, 1)
    delivery.send([Outcome(group("1"), [Result(b"1", b"{}"), Result(b"2", b"{}")]), *outcomes("3")])
    delivery.settle()
    commit(delivery)
    assert keys(producer) == [b"1", b"2"]


def test_exactly_once_above_its_quota_the_next_transaction_waits_as_long_as_the_broker_says() -> None:
    mute = Mute(lambda: 0.0)
    delivery = exactly_once_at(FakeTransactions(), SIZE, mute)
    delivery.send(outcomes("1"))
    delivery.settle()
    mute.on_throttle(ThrottleEvent("broker", 1, 1.5))
    assert delivery.commit(cast(Consumer, None), POINTS) == 1.5


def test_at_least_once_no_more_is_on_the_way_than_the_output_takes() -> None:
    producer = FakeProducer()
    delivery = AtLeastOnce(outbox(producer, "out", refusals=slow(2 * SIZE)), store())
    sent = outcomes("1", "2", "3")
    delivery.send(sent)
    assert [key for _, key, _ in producer.produced] == [b"1", b"2"]
    assert delivery.holds_back
    producer.acknowledge()
    assert settled(delivery, *sent) == ["1", "2"]
    assert delivery.pending == 1
    delivery.send([])
    producer.acknowledge()
    assert settled(delivery, *sent) == ["1", "2", "3"]
    assert (delivery.pending, delivery.backlog) == (0, Backlog())


@pytest.mark.parametrize("mode", [AtLeastOnce, ExactlyOnce])
def test_what_is_held_weighs_as_much_after_a_commit_as_before_one_also_with_several_output_topics(
    mode: type[AtLeastOnce] | type[ExactlyOnce],
) -> None:
    of_each = 3 * (1_000 + RESULT_OVERHEAD)
    producer = FakeTransactions()
    delivery = mode(outbox(producer, "x", "y", "z", refusals=slow(of_each)), store())
    delivery.assigned(cast(Consumer, FakeMember()))
    delivery.send([Outcome(group(id), [Result(b"1", b"x" * 1_000)]) for id in ("1", "2")])
    assert delivery.backlog.bytes == 2 * of_each
    assert delivery.settle()
    if isinstance(delivery, ExactlyOnce):
        commit(delivery)
    assert (delivery.holds_back, delivery.backlog) == (True, Backlog(1, of_each))


def test_at_least_once_of_a_group_that_is_more_than_that_part_after_part_and_it_is_safe_with_the_last() -> None:
    producer = FakeProducer()
    delivery = AtLeastOnce(outbox(producer, "out", refusals=slow(2 * SIZE)), store())
    large = Outcome(group("1"), [Result(b"%d" % number, b"{}") for number in range(5)])
    delivery.send([large])
    assert [key for _, key, _ in producer.produced] == [b"0", b"1"]
    producer.acknowledge()
    assert settled(delivery, large) == []
    delivery.send([])
    assert [key for _, key, _ in producer.produced] == [b"0", b"1", b"2", b"3", b"4"]  # no part is a single one
    producer.acknowledge()
    assert settled(delivery, large) == ["1"]
    assert (delivery.pending, delivery.backlog) == (0, Backlog())


def test_at_least_once_of_a_group_that_is_refused_in_one_of_its_parts_the_rest_does_not_leave() -> None:
    """It left after the dead letter, and where another one of it was refused the dead letter came twice."""
    producer, refusals = FakeProducer(), slow(2 * SIZE)
    refusals.batch_size = 1
    delivery = AtLeastOnce(outbox(producer, "out", refusals=refusals), store())
    large = Outcome(group("1"), [Result(b"%d" % number, b"{}") for number in range(9)])
    delivery.send([large])
    topic, key, value = producer.produced[0]
    first = FakeMessage((topic, 0), 0, value, its_key=cast(bytes, key))
    producer.events.append(lambda: producer.report(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE), first))
    producer.acknowledge()
    assert not delivery.settle(), "its dead letter is on the way"
    assert [topic for topic, _, _ in producer.produced] == ["out", "out", "letters"]
    producer.acknowledge()
    assert settled(delivery, large) == ["1"]
    delivery.send([])
    assert len(producer.produced) == 3
    assert (delivery.pending, delivery.backlog, refusals.groups) == (0, Backlog(), {})


def test_at_least_once_what_takes_long_is_sent_in_smaller_amounts() -> None:
    now, refusals = [0.0], slow(2 * SIZE)
    producer = FakeProducer()
    delivery = AtLeastOnce(outbox(producer, "out", refusals=refusals), store(), clock=lambda: now[0])
    delivery.send(outcomes("1", "2"))
    assert not delivery.settle()
    now[0] += 4 * WITHIN
    producer.acknowledge()
    assert delivery.settle()
    assert refusals.pace.size == 2 * SIZE // 4
