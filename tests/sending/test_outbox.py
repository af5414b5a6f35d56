"""What is too large becomes a dead letter of its group alone, whether the client or the broker finds it."""

import threading
from concurrent.futures import Future
from functools import partial
from typing import cast

import pytest
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from tests.builders import fragment, group, partition_offsets
from tests.conftest import Topics
from tests.fakes import FakeMessage, Report
from tests.services.kafka import KafkaBroker, unique_name
from utils.joining.aggregator import Group
from utils.joining.dead_letters import Letter, sources
from utils.joining.messages import Headers, Result
from utils.kafka import clients
from utils.kafka.limits import RECORD_OVERHEAD
from utils.metrics import Counters
from utils.processing.outcome import Outcome
from utils.sending.failures import Failures
from utils.sending.outbox import DeliveryFailed, Outbox, RecordRefused
from utils.sending.refusals import NARROW, REMEMBERED, Largest, Refusals, Refused
from utils.threads import in_thread

Produced = tuple[str, bytes | None, bytes | None]
TRACE: Headers = [("traceparent", b"00-1-2-01")]


def record(topic: str, key: bytes | None, value: bytes | None) -> Message:
    """As in a delivery report."""
    return cast(Message, FakeMessage((topic, 0), 0, value, its_key=key))


class SmallTopics:
    """A producer that takes records of up to `client` bytes, for a broker that takes up to `broker`, in `batch`es."""

    def __init__(self, client: int = 100, broker: int = 100, batch: int = 1) -> None:
        self.client, self.broker, self.batch = client, broker, batch
        self.taken: list[Produced] = []
        self.headers: list[Headers | None] = []  # of all records that were produced
        self.full = self.closed = False
        self.has_closed = threading.Event()
        self.room = 1_000  # bytes of the queue
        self._queue: list[Produced] = []
        self._report: Report | None = None

    def reporting_to(self, report: Report) -> Producer:
        self._report = report
        return cast(Producer, self)

    def produce(
        self, topic: str, value: bytes | None, key: bytes | None, _partition: int = -1, headers: Headers | None = None
    ) -> None:
        if len(key or b"") + len(value or b"") > self.client:
            raise KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))
        if self.full:
            self.full = False
            raise BufferError
        if len(value or b"") > self.room:
            raise BufferError
        self.headers.append(headers)
        self._queue.append((topic, key, value))

    def __len__(self) -> int:
        return len(self._queue)

    def poll(self, _timeout: float) -> int:
        return 0

    def flush(self, _timeout: float) -> int:
        assert self._report is not None
        while batch := self._queue[: self.batch]:
            del self._queue[: self.batch]
            if sum(len(value or b"") for _, _, value in batch) <= self.broker:
                self.taken += batch
            else:
                for each in batch:
                    self._report(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE), record(*each))
        return 0

    def purge(self) -> None:
        self._queue = []

    def close(self) -> None:
        assert not self._queue, "it would wait until they are acknowledged, without an end"
        self.closed = True
        self.has_closed.set()

    def letters(self) -> list[tuple[bytes | None, bytes | None]]:
        return [(key, value) for topic, key, value in self.taken if topic == "letters"]


def outbox(producer: SmallTopics, refusals: Refusals | None = None, counters: Counters | None = None) -> Outbox:
    failures = Failures("orders", "letters", Counters(), lambda: 0.0)
    return Outbox(producer.reporting_to, ("out",), failures, refusals or Refusals(), counters)


def result(id: str, *sizes: int, value: bytes = b"in") -> Outcome:
    return Outcome(a_group(id, value), [Result(id.encode(), b"x" * size) for size in sizes])


def a_group(id: str, value: bytes = b"in") -> Group:
    offset = int(id)
    return group(id, type(fragment())(0, partition_offsets(), offset, value))


def reasons(outcomes: list[Outcome]) -> list[str | None]:
    return [outcome.letter.reason if outcome.letter else None for outcome in outcomes]


def test_a_result_that_the_client_finds_too_large_leaves_as_a_dead_letter_and_the_others_as_they_are() -> None:
    producer = SmallTopics()
    box = outbox(producer)
    assert reasons(box.put([result("1", 10), result("2", 101), result("3", 10)])) == [None, "too_large", None]
    box.flush(0)
    assert [(topic, key) for topic, key, _ in producer.taken] == [("out", b"1"), ("out", b"3"), ("letters", b"2")]
    assert producer.letters() == [(b"2", b"in")]


def test_a_result_that_an_empty_queue_has_no_room_for_is_too_large() -> None:
    """With KAFKA_QUEUE_BUFFERING_MAX_KBYTES=512 one of 600 kB stopped the worker for good."""
    producer = SmallTopics()
    producer.room = 50
    box = outbox(producer)
    assert reasons(box.put([result("1", 51), result("2", 50)])) == ["too_large", None]


def test_closing_waits_for_nothing() -> None:
    producer = SmallTopics()
    box = outbox(producer)
    box.put([result("1", 10)])
    box.close()
    assert producer.closed


def test_a_producer_that_is_stuck_in_a_call_is_closed_once_that_has_returned() -> None:
    """It never was: each restart of a broker left threads and connections behind, for the life of the process."""
    producer = SmallTopics()
    box = outbox(producer)
    box.stuck = Future()
    in_thread(lambda: box.close(600), "close").result(60)  # it waits for nothing
    assert not producer.closed
    box.stuck.set_exception(KafkaException(KafkaError(KafkaError._FENCED)))
    assert producer.has_closed.wait(60)


class Fenced(SmallTopics):
    def close(self) -> None:
        super().close()
        raise KafkaException(KafkaError(KafkaError._FENCED))


def test_closing_a_producer_that_was_fenced_ends_nothing_else() -> None:
    producer = Fenced()
    outbox(producer).close()
    assert producer.closed


class Hanging(SmallTopics):
    """Its close() waits for a coordinator that the client does not look for any more."""

    def __init__(self) -> None:
        super().__init__()
        self.found = threading.Event()

    def close(self) -> None:
        self.found.wait()
        super().close()


def test_closing_a_producer_that_waits_without_an_end_leaves_it_behind() -> None:
    producer = Hanging()
    outbox(producer).close(seconds=0.01)
    assert not producer.closed
    producer.found.set()


def traced(id: str, *sizes: int) -> Outcome:
    with_headers = type(fragment())(0, partition_offsets(), int(id), b"in", [("other", b"x"), *TRACE])
    return Outcome(group(id, with_headers), [Result(id.encode(), b"x" * size) for size in sizes])


@pytest.mark.parametrize("full", [False, True])
def test_each_result_carries_the_trace_of_its_messages_and_no_other(full: bool) -> None:
    producer = SmallTopics()
    producer.full = full
    outbox(producer).put([traced("1", 10, 10), result("2", 10), traced("3", 10)])
    assert producer.headers == [TRACE, TRACE, None, TRACE]


def test_no_trace_is_looked_for_as_long_as_no_message_had_headers() -> None:
    counters, producer = Counters(), SmallTopics()
    box = Outbox(producer.reporting_to, ("out",), Failures("orders", "", counters), Refusals(), counters)
    box.put([traced("1", 10)])
    counters.with_headers += 1
    box.put([traced("1", 10)])
    assert producer.headers == [None, TRACE]


def test_where_the_client_will_refuse_one_of_several_results_none_of_them_is_put() -> None:
    """Each such message cost a restart of the worker."""
    producer, refusals = SmallTopics(client=100), Refusals()
    refusals.largest.client_takes = 100 + RECORD_OVERHEAD
    box = outbox(producer, refusals)
    largest = 100 - len(b"1")
    assert reasons(
        box.put(box.as_known([result("1", 10, largest), result("2", 10, largest + 1), result("3", 10)]))
    ) == [
        None,
        "too_large",
        None,
    ]
    box.flush(0)
    assert [(topic, key) for topic, key, _ in producer.taken] == [
        ("out", b"1"),
        ("out", b"1"),
        ("out", b"3"),
        ("letters", b"2"),
    ]


def test_where_results_go_nowhere_none_is_too_large() -> None:
    refusals = Refusals()
    refusals.largest.client_takes = 100
    box = Outbox(SmallTopics().reporting_to, (), Failures("orders", "letters", Counters()), refusals)
    assert reasons(box.as_known([result("1", 10, 1000)])) == [None]


def test_of_several_results_none_stays_in_a_transaction_when_one_of_them_is_too_large() -> None:
    """As the client finds it: for the sake of headers, or of its queue."""
    refusals = Refusals()
    with pytest.raises(RecordRefused):
        outbox(SmallTopics(), refusals).put([result("1", 10, 101)])
    again = SmallTopics()
    box = outbox(again, refusals)
    assert reasons(box.put(box.as_known([result("1", 10, 101)]))) == ["too_large"]
    box.flush(0)
    assert again.letters() == [(b"1", b"in")]
    assert len(again.taken) == 1


def test_of_many_such_groups_that_are_put_together_all_are_known_after_one_restart() -> None:
    """Each cost a restart of its own, and what was beside them left as many times."""
    refusals, many = Refusals(), [result(str(number), 10, 101) for number in range(10)]
    with pytest.raises(RecordRefused):
        outbox(SmallTopics(), refusals).put([result("10", 10), *many])
    box = outbox(SmallTopics(), refusals)
    assert reasons(box.put(box.as_known(many))) == ["too_large"] * 10


def test_a_dead_letter_that_the_client_finds_too_large_keeps_its_sources_only() -> None:
    producer = SmallTopics()
    box = outbox(producer)
    [left] = box.put([result("1", 101, value=b"y" * 101)])
    box.flush(0)
    assert producer.letters() == [(b"1", None)]
    assert left.letter
    assert dict(left.letter.headers)["dlq.source"] == b"a:0:1"


@pytest.mark.parametrize("value", [b"", b"y" * 2000], ids=["alone", "with its value"])
def test_a_dead_letter_whose_key_is_too_large_has_none(value: bytes) -> None:
    producer = SmallTopics(client=2000)
    box = outbox(producer)
    letter = Letter(b"k" * 2001, value, [("dlq.source", b"a:0:1")], "invalid_message")
    [left] = box.put([Outcome(a_group("1"), [], letter=letter)])
    box.flush(0)
    assert producer.letters() == [(None, None)]
    assert left.letter
    assert dict(left.letter.headers)["dlq.source"] == b"a:0:1"


def test_a_batch_that_the_broker_refuses_accuses_nobody_and_leads_to_smaller_ones_and_then_to_batches_of_one() -> None:
    refusals = Refusals()
    for smaller in (NARROW, 1):
        box = outbox(SmallTopics(broker=50, batch=10), refusals)
        sent = box.put([result("1", 30), result("2", 30)])
        box.flush(0)
        assert box.has_refused
        with pytest.raises(RecordRefused, match="out"):
            box.accuse(sent)
        assert refusals.batch_size == smaller
    assert refusals.groups == {}


def test_a_refused_record_larger_than_a_batch_was_alone_in_its_own() -> None:
    refusals = Refusals(batch_size=40)
    box = outbox(SmallTopics(broker=50), refusals)
    sent = box.put([result("1", 30), result("2", 60)])
    box.flush(0)
    assert [outcome.group.id for outcome in box.accuse(sent)] == ["2"]
    assert refusals.batch_size == 40


def test_beside_one_that_was_alone_another_one_was_refused_in_a_batch_that_is_too_large() -> None:
    refusals = Refusals(batch_size=40)
    box = outbox(SmallTopics(broker=35, batch=2), refusals)
    sent = box.put([result("1", 30), result("2", 60)])
    box.flush(0)
    with pytest.raises(RecordRefused):
        box.accuse(sent)
    assert refusals.batch_size == 1
    assert refusals.groups == {}


def test_a_record_that_the_broker_refuses_alone_is_known_from_then_on_and_no_other() -> None:
    producer, refusals = SmallTopics(broker=50), Refusals(batch_size=1)
    box = outbox(producer, refusals)
    sent = box.put([result("1", 30), result("2", 60)])
    box.flush(0)
    guilty = box.accuse(sent)
    assert [outcome.group.id for outcome in guilty] == ["2"]
    assert not box.has_refused
    assert reasons(box.put(box.as_known([result("1", 30), result("2", 60)]))) == [None, "too_large"]
    box.flush(0)
    assert producer.letters() == [(b"2", b"in")]


def test_a_dead_letter_that_the_broker_refuses_keeps_its_sources_only_and_then_it_is_given_up() -> None:
    producer, refusals = SmallTopics(broker=50), Refusals(batch_size=1)
    box = outbox(producer, refusals)
    outcomes = [result("1", 60, value=b"y" * 60)]
    for _ in range(2):
        left = box.put(box.as_known(outcomes))
        box.flush(0)
        assert len(box.accuse(left)) == 1
    left = box.put(box.as_known(outcomes))
    box.flush(0)
    assert producer.letters() == [(b"1", None)]
    assert not box.has_refused
    box.on_delivery(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE), record("letters", b"1", None))
    with pytest.raises(DeliveryFailed, match="not even the sources"):
        box.accuse(left)


def test_what_is_as_large_as_a_result_that_the_broker_has_refused_is_known_for_a_while() -> None:
    """With exactly once each cost a restart of its own. Not for ever: the limit of a topic may be raised."""
    now = [0.0]
    refusals = Refusals(batch_size=1, largest=Largest(lambda: now[0]))
    box = outbox(SmallTopics(broker=50), refusals)
    sent = box.put([result("1", 30), result("2", 60)])
    box.flush(0)
    box.accuse(sent)
    box = outbox(SmallTopics(broker=50), refusals)  # after the restart
    many = [result("3", 60), result("4", 59), result("5", 10, 70), result("6")]
    assert reasons(box.put(box.as_known(many))) == ["too_large", None, "too_large", None]
    now[0] += REMEMBERED
    assert reasons(box.put(box.as_known([result("7", 60)]))) == [None], "it is tried again"


def test_where_results_are_compressed_one_that_was_refused_says_nothing_of_others() -> None:
    """Those that had left before became dead letters for a minute."""
    refusals = Refusals(batch_size=1)
    refusals.largest.are_compressed = True
    box = outbox(SmallTopics(broker=50), refusals)
    sent = box.put([result("1", 60)])
    box.flush(0)
    box.accuse(sent)
    assert reasons(box.as_known([result("2", 60)])) == [None]


@pytest.mark.parametrize("then", [[], [10]], ids=["none", "a small one"])
def test_of_a_group_that_was_refused_another_result_leaves_and_no_dead_letter(then: list[int]) -> None:
    """process() is called again after the restart, and need not return the same."""
    refusals = Refusals()
    with pytest.raises(RecordRefused):
        outbox(SmallTopics(), refusals).put([result("1", 10, 101)])
    box = outbox(SmallTopics(), refusals)
    assert reasons(box.put(box.as_known([result("1", *then)]))) == [None]


def test_of_a_group_whose_result_was_refused_the_dead_letter_of_another_failure_keeps_its_contents() -> None:
    refusals = Refusals()
    with pytest.raises(RecordRefused):
        outbox(SmallTopics(), refusals).put([result("1", 10, 101)])
    box = outbox(again := SmallTopics(), refusals)
    letter = Letter(b"1", b"in", [("dlq.source", b"a:0:1")], "process_failed")
    box.put(box.as_known([Outcome(a_group("1"), [], letter=letter)]))
    box.flush(0)
    assert again.letters() == [(b"1", b"in")]


def test_of_what_stays_nothing_leaves_and_it_is_known_after_the_restart() -> None:
    """A replay, which has no topic of dead letters, finished what had been refused."""
    refusals = Refusals(batch_size=1, stays=True)
    box = outbox(SmallTopics(broker=50), refusals)
    sent = box.put([result("1", 60), result("2", 10)])
    box.flush(0)
    with pytest.raises(RecordRefused):
        box.accuse(sent)
    with pytest.raises(RecordRefused):  # by the client
        box.put([result("3", 101)])
    assert refusals.groups.keys() == {sources(each.group)[0] for each in (result("1"), result("3"))}


def test_what_is_safe_is_forgotten() -> None:
    refusals = Refusals(batch_size=1)
    box = outbox(SmallTopics(broker=50), refusals)
    sent = box.put([result("1", 60)])
    box.flush(0)
    box.accuse(sent)
    box.forget(sent)
    assert refusals.groups == {}


def test_another_failure_is_none_of_size_and_is_raised() -> None:
    box = outbox(SmallTopics())
    box.on_delivery(KafkaError(KafkaError._MSG_TIMED_OUT), record("out", b"1", b""))
    assert not box.has_refused
    with pytest.raises(DeliveryFailed, match=r"Message timed out \(out:0\)$"):  # which partition has no leader, say
        box.flush(0)


def test_of_ordinary_outcomes_the_results_are_enough() -> None:
    producer = SmallTopics()
    producer.full = True
    box = outbox(producer, counters=Counters())
    results = box.results_alone([result("1", 10), result("2"), result("3", 20, 30)])
    assert results == [Result(b"1", b"x" * 10), Result(b"3", b"x" * 20), Result(b"3", b"x" * 30)]
    box.put_results(results)
    box.flush(0)
    assert producer.taken == [("out", each.key, each.value) for each in results]


@pytest.mark.parametrize(
    ("more", "refusals", "counters"),
    [
        (Outcome(a_group("2"), [], letter=Letter(b"2", b"in", [], "incomplete")), Refusals(), Counters()),
        (result("2", 10_000), Refusals(), Counters()),  # it may be too large
        (result("2", 10), Refusals(batch_size=NARROW), Counters()),
        (result("2", 10), Refusals(groups={"a:0:7": Refused()}), Counters()),
        (result("2", 10), Refusals(), Counters(with_headers=1)),  # there may be a trace to carry on
    ],
)
def test_of_others_the_groups_are_kept(more: Outcome, refusals: Refusals, counters: Counters) -> None:
    assert outbox(SmallTopics(), refusals, counters).results_alone([result("1", 10), more]) is None


def test_where_the_client_refuses_a_result_whose_group_is_not_known_groups_are_kept_from_then_on() -> None:
    refusals = Refusals()
    box = outbox(SmallTopics(), refusals, Counters())
    results = box.results_alone([result("1", 10), result("2", 101)])
    assert results
    with pytest.raises(RecordRefused):
        box.put_results(results)
    box = outbox(SmallTopics(), refusals, Counters())  # after the restart
    outcomes = [result("1", 10), result("2", 101)]
    assert box.results_alone(outcomes) is None
    assert reasons(box.put(outcomes)) == [None, "too_large"]


def test_a_result_alone_is_refused_by_a_client_that_is_broken_with_its_own_error() -> None:
    producer, refusals = SmallTopics(), Refusals()

    def broken(*_: object, **__: object) -> None:
        raise KafkaException(KafkaError(KafkaError._FATAL))

    producer.produce = broken  # type: ignore[method-assign]
    box = outbox(producer, refusals, Counters())
    with pytest.raises(KafkaException):
        box.put_results([Result(b"1", b"x")])
    assert not refusals.whole


def test_a_fenced_producer_is_told_of_by_its_own_error_whatever_call_brings_it(
    real_kafka: KafkaBroker, topics: Topics
) -> None:
    """The client calls on_delivery while it has that error to raise: what the callback calls fails with another one."""
    [out] = topics(real_kafka, "out")
    properties = {"bootstrap.servers": real_kafka.bootstrap, "log_level": 0}
    identity = unique_name("fenced")
    make = partial(clients.producer, properties, transactional_id=identity)
    box = Outbox(make, (out,), Failures("orders", "", Counters()), Refusals())
    box.producer.init_transactions(30)
    box.producer.begin_transaction()
    box.put([result("1", 10)])
    assert box.flush(10) == 0
    Producer({**properties, "transactional.id": identity}).init_transactions(30)
    box.put([result(str(number), 10) for number in range(5)])
    for _ in range(2):
        with pytest.raises((KafkaException, DeliveryFailed)):
            box.flush(10)
    box.close()


def test_a_callback_that_has_failed_is_a_failed_delivery() -> None:
    producer = SmallTopics(broker=1)
    box = outbox(producer)
    box.put([result("1", 10)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeMessage, "topic", None)  # what on_delivery asks of it raises
        with pytest.raises(DeliveryFailed, match="callback"):
            box.flush(0)
    with pytest.raises(DeliveryFailed, match="callback"):
        box.flush(0)
