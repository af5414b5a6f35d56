"""Workers on a broker: what they join, what they skip, what they keep over a restart."""

import json
import signal
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.conftest import Topics
from tests.integration.conftest import Scene, Scenes
from tests.integration.oracle import fragment_value
from tests.integration.workers import Worker, eventually, feeder, open_transactions
from tests.services.kafka import KafkaBroker, unique_name
from utils.joining.messages import Headers


def ids(number: int, prefix: str = "") -> list[str]:
    return [f"{prefix}{each}" for each in range(number)]


@pytest.mark.parametrize("inputs", [1, 2, 3])
def test_a_worker_joins_its_topics(kafka: KafkaBroker, scenes: Scenes, inputs: int) -> None:
    scene = scenes(kafka, inputs)
    scene.feed(ids(1_000))
    worker = scene.job.start().is_assigned()
    scene.wait_for_all(worker)
    scene.feed(ids(1_000, "later-"))
    scene.wait_for_all(worker)
    assert worker.stop() == 0
    assert scene.job.lag() == 0
    scene.judge(once=True)


def test_a_restart_neither_loses_a_waiting_fragment_nor_emits_a_half(kafka: KafkaBroker, scenes: Scenes) -> None:
    scene = scenes(kafka)
    a, b = scene.job.topics_input
    first, second = ids(500, "first-"), ids(500, "second-")
    scene.feed(first, a)
    scene.feed(second)  # finished above what waits
    worker = scene.job.start()
    scene.wait_for_all(worker)
    assert worker.stop() == 0
    waiting = sum(len(commit.waiting) for (topic, _), commit in scene.job.commits().items() if topic == a)
    assert waiting == 500
    scene.judge(once=True)

    scene.feed(first, b)
    worker = scene.job.start()
    scene.wait_for_all(worker)
    assert worker.stop() == 0
    assert scene.job.lag() == 0
    scene.judge(once=True)


def test_a_waiting_fragment_survives_several_restarts_without_news(kafka: KafkaBroker, scenes: Scenes) -> None:
    scene = scenes(kafka)
    a, b = scene.job.topics_input
    scene.feed(ids(100), a)
    scene.feed(ids(100, "done-"))
    for _ in range(2):
        worker = scene.job.start().is_assigned()
        scene.wait_for_all(worker)
        assert worker.stop() == 0
    scene.feed(ids(100), b)
    worker = scene.job.start()
    scene.wait_for_all(worker)
    assert worker.stop() == 0
    scene.judge(once=True)


def test_invalid_messages_are_skipped_and_counted(kafka: KafkaBroker, scenes: Scenes) -> None:
    scene = scenes(kafka)
    a, b = scene.job.topics_input
    scene.feed(ids(50, "before-"))
    invalid = (b"no json", b'{"no":"id"}', b'{"id":1.5}', b'{"id":"x","content":[]}', b"", None, b"\xff\xfe")
    scene.feed_raw(a, *invalid)
    scene.feed_raw(b, None)
    scene.feed(ids(50, "after-"))
    worker = scene.job.start()
    scene.wait_for_all(worker)
    eventually(lambda: scene.job.lag() == 0, "all committed")
    assert len(worker.said("invalid message")) == len(invalid) + 1
    assert worker.stop() == 0
    assert worker.said("stopped")[0]["invalid"] == len(invalid) + 1
    scene.judge(once=True)


def test_an_invalid_message_that_comes_alone_is_counted_too(kafka: KafkaBroker, scenes: Scenes) -> None:
    scene = scenes(kafka)
    worker = scene.job.start().is_assigned()
    for value in (None, b"", b"no json"):
        before = len(worker.said("invalid message"))
        scene.feed_raw(scene.job.topics_input[0], value)
        worker.says("invalid message", before + 1)


def test_a_fragment_that_turns_out_to_be_invalid_only_when_joined_does_not_stay_for_ever(
    kafka: KafkaBroker, scenes: Scenes
) -> None:
    scene = scenes(kafka)
    a, b = scene.job.topics_input
    scene.feed_raw(a, b'{"id":"x","text":"\xff"}')
    scene.feed_raw(b, b'{"id":"x"}')
    scene.feed(ids(10))
    worker = scene.job.start()
    scene.wait_for_all(worker)
    eventually(lambda: scene.job.lag() == 0, "all committed")
    assert worker.stop() == 0


def test_incomplete_messages_are_given_up_after_the_message_timeout(kafka: KafkaBroker, scenes: Scenes) -> None:
    scene = scenes(kafka, environment={"MESSAGE_TIMEOUT": "1"})
    scene.feed(ids(20, "alone-"), scene.job.topics_input[0])
    scene.feed(ids(20))
    worker = scene.job.start()
    scene.wait_for_all(worker)
    worker.says("given up")
    eventually(lambda: scene.job.lag() == 0, "all committed")
    assert worker.stop() == 0
    assert worker.said("stopped")[0]["evicted"] == 20
    scene.judge(once=True, given_up=ids(20, "alone-"))


@contextmanager
def transaction(broker: KafkaBroker, topic: str) -> Iterator[None]:
    """Of another producer, with one record; open as long as this lasts, and then aborted: a marker is behind it."""
    settings = {"bootstrap.servers": broker.bootstrap, "transactional.id": unique_name("other"), "log_level": 0}
    producer = Producer(settings)
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, fragment_value(topic, "in-a-transaction"), "in-a-transaction")
    assert producer.flush(30) == 0
    yield
    producer.abort_transaction(30)
    eventually(lambda: not open_transactions(broker, [topic]), "the marker")  # written after the answer


def gives_up_those_alone(scene: Scene, worker: Worker) -> None:
    """The 20 others come out, and the worker ends with all committed."""
    scene.wait_for_all(worker)
    worker.says("given up")
    eventually(lambda: scene.job.lag() == 0, "all committed")
    assert worker.stop() == 0
    assert worker.said("stopped")[0]["evicted"] == 20


def test_what_an_open_transaction_hides_is_waited_for(real_kafka: KafkaBroker, scenes: Scenes) -> None:
    """For MESSAGE_TIMEOUT once more."""
    scene = scenes(real_kafka, partitions=1, environment={"MESSAGE_TIMEOUT": "20"})
    a, b = scene.job.topics_input
    worker = scene.job.start().is_assigned()
    with transaction(real_kafka, b):
        scene.feed(ids(20))
        scene.feed(ids(20, "alone-"), a)
        time.sleep(22)
        assert worker.said("given up") == []
    gives_up_those_alone(scene, worker)
    scene.judge(once=True, given_up=ids(20, "alone-"))


def test_an_open_transaction_that_nobody_ends_keeps_nothing_from_being_given_up(
    real_kafka: KafkaBroker, scenes: Scenes
) -> None:
    scene = scenes(real_kafka, partitions=1, environment={"MESSAGE_TIMEOUT": "3"})
    a, b = scene.job.topics_input
    scene.feed(ids(20))
    scene.feed(ids(20, "alone-"), a)
    with transaction(real_kafka, b):
        pass
    with transaction(real_kafka, b):
        worker = scene.job.start()
        gives_up_those_alone(scene, worker)
    scene.judge(once=True, given_up=ids(20, "alone-"))


def test_nothing_is_given_up_before_the_end_before_an_open_transaction_is_read(
    real_kafka: KafkaBroker, scenes: Scenes
) -> None:
    """The worker stands still while the mates come and MESSAGE_TIMEOUT passes."""
    session = {"KAFKA_SESSION_TIMEOUT_MS": "60000", "KAFKA_HEARTBEAT_INTERVAL_MS": "3000"}
    scene = scenes(real_kafka, partitions=1, environment={"MESSAGE_TIMEOUT": "3", **session})
    a, b = scene.job.topics_input
    worker = scene.job.start().is_assigned()
    scene.feed(ids(20), a)
    eventually(lambda: len(scene.job.commits()[a, 0].waiting) == 20, "the first halves read")
    worker.process.send_signal(signal.SIGSTOP)
    scene.feed(ids(20), b)
    with transaction(real_kafka, b):
        pass
    with transaction(real_kafka, b):
        scene.feed(ids(20, "alone-"), a)
        time.sleep(4)  # a slow machine makes it longer
        worker.process.send_signal(signal.SIGCONT)
        gives_up_those_alone(scene, worker)
    scene.judge(once=True, given_up=ids(20, "alone-"))


def test_over_a_restart_each_waits_on_from_its_own_arrival_though_the_timestamps_tell_nothing(
    real_kafka: KafkaBroker, scenes: Scenes
) -> None:
    scene = scenes(real_kafka, partitions=1, environment={"MESSAGE_TIMEOUT": "3600"})
    a, b = scene.job.topics_input
    event_time = 7200.0  # seconds before now

    def age_of(worker: Worker, id: str) -> float:
        with urllib.request.urlopen(f"{worker.address}/waiting.json?id={id}", timeout=60) as answer:
            return float((json.loads(answer.read())["waiting"] or {"age": -1})["age"])

    worker = scene.job.start().is_assigned()
    scene.feed_old(["first"], a, age=event_time)
    eventually(lambda: age_of(worker, "first") > 4, "the first has waited")
    scene.feed_old(ids(100, "later-"), a, age=event_time)
    eventually(lambda: age_of(worker, "later-99") >= 0, "the others wait too")
    apart = age_of(worker, "first") - age_of(worker, "later-99")
    for _ in range(2):  # the second is a restart of one that has read nothing new
        assert worker.stop() == 0
        worker = scene.job.start().is_assigned()
        eventually(lambda: age_of(worker, "later-99") >= 0, "all is read again")  # noqa: B023
        later, first = age_of(worker, "later-99"), age_of(worker, "first")
        assert first > later + apart - 1.5, f"all are as old as the oldest: {later}, {first}"
        assert first > 4
    scene.feed_old(["first", *ids(100, "later-")], b, age=event_time)
    scene.wait_for_all(worker)
    assert worker.stop() == 0
    scene.judge(once=True)


def test_a_topic_that_is_added_to_the_row_later_begins_at_the_message_timeout_before_now(
    real_kafka: KafkaBroker, scenes: Scenes, topics: Topics
) -> None:
    scene = scenes(real_kafka, 1, environment={"MESSAGE_TIMEOUT": "3600"})
    scene.feed(ids(50, "old-"))
    worker = scene.job.start()
    scene.wait_for_all(worker)
    assert worker.stop() == 0

    added, out = topics(real_kafka, "added", "out")
    two = scene.with_topics([*scene.job.topics_input, added], [out])
    two.feed_old(ids(300, "history-"), added, age=7200)
    two.feed(ids(50, "new-"))
    worker = two.job.start()
    two.wait_for_all(worker)
    assert worker.stop() == 0
    commits = two.job.commits()
    assert worker.said("stopped")[0]["read"] == 100
    assert all(not commit.waiting for commit in commits.values())
    two.judge(once=True, given_up=ids(300, "history-"))
    assert two.job.lag() == 0


def test_the_trace_of_the_messages_goes_on_with_the_result(kafka: KafkaBroker, scenes: Scenes) -> None:
    scene = scenes(kafka, partitions=1)
    a, b = scene.job.topics_input
    first, second = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", b"00-2-2-00"
    producer = feeder(kafka)
    sent: list[tuple[str, str, Headers | None]] = [
        ("1", b, [("traceparent", second), ("tracestate", b"of=b")]),
        ("1", a, [("other", b"x"), ("traceparent", first), ("tracestate", b"of=a")]),
        ("2", a, None),
        ("2", b, [("traceparent", second)]),
        ("3", a, None),
        ("3", b, None),
    ]
    for id, topic, headers in sent:
        producer.produce(topic, fragment_value(topic, id), id, headers=headers)
    assert producer.flush(30) == 0
    worker = scene.job.start().is_assigned()
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "none", "log_level": 0})
    consumer.assign([TopicPartition(scene.job.topics_output[0], 0, 0)])
    found = {}

    def all_came() -> bool:
        for record in consumer.consume(3, 0.1):
            assert record.error() is None, record.error()
            found[record.key()] = record.headers()
        return len(found) == 3

    eventually(all_came, "the results")
    consumer.close()
    assert worker.stop() == 0
    assert found == {
        b"1": [("traceparent", first), ("tracestate", b"of=a")],
        b"2": [("traceparent", second)],
        b"3": None,
    }
