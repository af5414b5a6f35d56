"""I7: every record of the inputs is in a result, in a dead letter with its own bytes, or was filtered. With kill -9."""

from collections import Counter
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from tests.conftest import Topics
from tests.integration.accounts import account, letters
from tests.integration.conftest import Scene, Scenes
from tests.integration.workers import Worker, eventually, feeder
from tests.services.kafka import KafkaBroker
from utils.running.supervision import RESTARTS

ODD = {"PROCESS_ODD": "1", "MESSAGE_TIMEOUT": "2"}
INVALID = (b"no json", b'{"no":"id"}', b"\xff\xfe", b"")


def judge(scene: Scene, *, once: bool) -> None:
    """I7, with the reasons. `once`: in one dead letter and one result only, each."""
    found = account(scene.job)
    assert found.is_good(once=once), str(found)


def feed_odd(scene: Scene, name: str, number: int = 40) -> None:
    a, _ = scene.job.topics_input
    both: list[str] = []
    for each in range(number):
        both += [f"whole-{name}-{each}-{more}" for more in range(20)]
        both += [f"{odd}-{name}-{each}" for odd in ("none", "fail", "wrong", "huge")] if each % 8 == 0 else []
    scene.feed(both)
    scene.feed([f"alone-{name}-{each}" for each in range(number)], a)
    scene.feed_raw(a, *INVALID)


def has_ended(worker: Worker, scene: Scene) -> bool:
    """Wait until it has, or until all is committed."""
    eventually(lambda: worker.process.poll() is not None or scene.job.lag() == 0, f"an end\n{worker.tail()}")
    return worker.process.poll() is not None


def meets_an_outage(worker: Worker) -> None:
    """Wait until it holds all back, or has ended before."""
    sign = "fails for one id after the other"
    eventually(lambda: worker.process.poll() is not None or worker.said(sign), f"an outage\n{worker.tail()}")


def with_kills(scene: Scene) -> None:
    """Feed, and kill the worker in the middle, twice."""
    for round in range(3):
        feed_odd(scene, str(round))
        worker = scene.job.start()
        if round < 2:
            scene.wait_for((round + 1) * 400, worker)
            worker.kill()
    eventually(lambda: scene.job.lag() == 0, f"all committed\n{worker.tail()}")
    assert worker.stop() == 0


def test_i7_at_least_once_with_kills(kafka: KafkaBroker, scenes: Scenes) -> None:
    scene = scenes(kafka, slow_process=True, environment=ODD)
    with_kills(scene)
    judge(scene, once=False)


def test_i7_exactly_once_with_kills(real_kafka: KafkaBroker, scenes: Scenes) -> None:
    scene = scenes(real_kafka, slow_process=True, environment={**ODD, "DELIVERY": "exactly_once"})
    with_kills(scene)
    judge(scene, once=True)


def test_without_faults_each_is_there_once(kafka: KafkaBroker, scenes: Scenes) -> None:
    scene = scenes(kafka, slow_process=True, environment=ODD)
    feed_odd(scene, "only")
    worker = scene.job.start()
    eventually(lambda: scene.job.lag() == 0, "all committed")
    assert worker.stop() == 0
    judge(scene, once=True)
    counted = worker.said("stopped")[0]
    assert (counted["restarts"], counted["failed"], counted["filtered"], counted["evicted"]) == (0, 15, 5, 40)


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_what_only_the_broker_finds_too_large_is_found_out_and_nothing_else_suffers(
    real_kafka: KafkaBroker, scenes: Scenes, topics: Topics, delivery: str
) -> None:
    limits = {"PROCESS_SIZE": "30000", "DELIVERY": delivery}
    scene = scenes(real_kafka, slow_process=True, environment={**ODD, **limits})
    small = f"{scene.job.topics_output[0]}-small"
    real_kafka.create_topic(small, 1, {"max.message.bytes": "20000"})
    scene = scene.with_topics(scene.job.topics_input, [small])
    feed_odd(scene, "only", number=16)
    worker = scene.job.start()
    eventually(lambda: scene.job.lag() == 0, f"all committed\n{worker.tail()}")
    assert worker.stop() == 0
    judge(scene, once=delivery == "exactly_once")
    assert worker.said("a batch was too large for its topic")


def test_a_dead_letter_that_is_too_large_for_its_topic_keeps_its_sources(
    real_kafka: KafkaBroker, scenes: Scenes
) -> None:
    scene = scenes(real_kafka, slow_process=True, environment=ODD)
    real_kafka.create_topic(f"{scene.job.name}-dlq", 1, {"max.message.bytes": "20000"})
    producer = feeder(real_kafka)
    a, b = scene.job.topics_input
    for topic in (a, b):
        producer.produce(topic, b'{"id":"fail-1","pad":"%s"}' % (b"x" * 30_000), "fail-1")
    assert producer.flush(10) == 0
    scene.feed(["whole-1", "fail-2"])
    worker = scene.job.start()
    eventually(lambda: scene.job.lag() == 0, f"all committed\n{worker.tail()}")
    assert worker.stop() == 0
    by_id = {letter.id: letter for letter in letters(scene.job)}
    assert sorted(by_id) == ["fail-1", "fail-2"]
    assert by_id["fail-1"].parts == ()
    assert len(by_id["fail-1"].about["source"].split(",")) == len(by_id["fail-2"].parts) == 2


IN_COROUTINES = {"CONCURRENCY": "3", "PROCESS_ASYNC": "1"}


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_sys_exit_in_a_task_of_a_coroutine_fails_its_message_and_no_other(
    real_kafka: KafkaBroker, scenes: Scenes, delivery: str
) -> None:
    environment = {**ODD, **IN_COROUTINES, "DELIVERY": delivery, "MESSAGE_TIMEOUT": "600"}
    scene = scenes(real_kafka, partitions=1, slow_process=True, environment=environment)
    others = [f"whole-{number}" for number in range(10)]
    scene.feed([*others[:5], "exit-1", *others[5:]])
    worker = scene.job.start()
    eventually(lambda: scene.job.lag() == 0, f"all committed\n{worker.tail()}")
    assert worker.stop() == 0
    assert worker.said("stopped")[0]["restarts"] == 0
    assert "SystemExit" in worker.said("process() has ended its event loop: it is run again")[0]["error"]
    [letter] = letters(scene.job)
    assert (letter.id, letter.about["error.class"]) == ("exit-1", "SystemExit")
    scene.outputs.read_to_the_end()
    assert scene.oracle.results == Counter(others)


@pytest.mark.parametrize("way", [{}, IN_COROUTINES], ids=["the process", "the event loop"])
@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_a_message_that_ends_the_process_is_found_out_over_its_restarts_and_no_other_suffers(
    real_kafka: KafkaBroker, scenes: Scenes, delivery: str, way: dict[str, str]
) -> None:
    environment = {**ODD, **way, "DELIVERY": delivery, "MESSAGE_TIMEOUT": "600"}
    scene = scenes(real_kafka, partitions=1, slow_process=True, environment=environment)
    before, behind = [[f"whole-{place}-{number}" for number in range(5)] for place in ("before", "behind")]
    scene.feed([*before, "kill-1", *behind])
    worker, ends = scene.job.start(), 0
    while ends < 12 and has_ended(worker, scene):
        worker, ends = scene.job.start(), ends + 1
    assert worker.stop() == 0
    assert 4 <= ends <= 10  # three without a suspicion, one alone; between them, in batches that it shares with others
    assert not worker.said("starting again from the last commit")
    [letter] = letters(scene.job)
    assert (letter.id, letter.reason) == ("kill-1", "process_failed")
    assert letter.about["error.class"] == "EndedTheProcess"
    scene.outputs.read_to_the_end()
    assert set(scene.oracle.results) == {*before, *behind}
    if delivery == "exactly_once":
        assert scene.oracle.results == Counter([*before, *behind])


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_a_message_that_ends_the_process_is_found_out_in_an_outage_too(
    real_kafka: KafkaBroker, scenes: Scenes, tmp_path: Path, delivery: str
) -> None:
    """Each start meets the outage first, then its end: a probe that has succeeded hides nobody."""
    down = tmp_path / "down"
    environment = {**ODD, "DELIVERY": delivery, "PROCESS_DOWN": str(down), "MESSAGE_TIMEOUT": "600"}
    scene = scenes(real_kafka, partitions=1, slow_process=True, environment=environment)
    before, behind = [[f"whole-{place}-{number}" for number in range(25)] for place in ("before", "behind")]
    scene.feed([*before, "kill-1", *behind])

    for _ in range(12):
        down.touch()
        worker = scene.job.start()
        meets_an_outage(worker)
        down.unlink()
        if not has_ended(worker, scene):
            break
    assert worker.stop() == 0
    assert [(letter.id, letter.about["error.class"]) for letter in letters(scene.job)] == [
        ("kill-1", "EndedTheProcess")
    ]
    scene.outputs.read_to_the_end()
    assert set(scene.oracle.results) == {*before, *behind}


def test_switched_off_what_fails_is_discarded_and_the_worker_goes_on(kafka: KafkaBroker, scenes: Scenes) -> None:
    scene = scenes(kafka, slow_process=True, environment={**ODD, "DLQ_TOPIC": ""})
    feed_odd(scene, "only", number=8)
    worker = scene.job.start()
    eventually(lambda: scene.job.lag() == 0, "all committed")
    assert worker.stop() == 0
    assert [line["message"] for line in worker.lines()].count("process() failed") == 2
    assert len(worker.said("result too large")) == 1
    assert worker.said("stopped")[0]["restarts"] == 0


def test_headers_of_a_message_are_kept(kafka: KafkaBroker, scenes: Scenes) -> None:
    scene = scenes(kafka, slow_process=True, environment=ODD)
    a, b = scene.job.topics_input
    producer = feeder(kafka)
    for topic in (a, b):
        producer.produce(topic, b'{"id":"fail-1"}', "fail-1", headers=[("trace", b"\xff"), ("from", topic)])
    producer.produce(a, b"no json", "key", headers=[("trace", b"1")])
    assert producer.flush(10) == 0
    worker = scene.job.start()
    eventually(lambda: scene.job.lag() == 0, "all committed")
    assert worker.stop() == 0
    parts = {letter.id: letter.parts for letter in letters(scene.job)}
    assert [part.headers for part in parts["fail-1"]] == [[("trace", b"\xff"), ("from", at.encode())] for at in (a, b)]
    assert parts["key"][0].headers == [("trace", b"1")]


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_a_topic_of_dead_letters_that_is_deleted_while_the_worker_runs_is_made_again(
    real_kafka: KafkaBroker, scenes: Scenes, delivery: str
) -> None:
    """Only a new process made it, after six failures of the worker of half a minute each."""
    scene = scenes(real_kafka, environment={"DELIVERY": delivery})
    scene.feed(["1", "2"])
    worker = scene.job.start()
    scene.wait_for_all(worker)
    topic = f"{scene.job.name}-dlq"
    admin = AdminClient({"bootstrap.servers": real_kafka.bootstrap, "log_level": 0})
    admin.delete_topics([topic])[topic].result(60)
    eventually(lambda: topic not in admin.list_topics(timeout=60).topics, "the end of the topic")
    scene.feed_raw(scene.job.topics_input[0], b"no json")
    assert worker.says("topics of the worker's own were gone: they are made again")["topics"] == [topic]
    eventually(lambda: scene.job.lag() == 0, f"all committed\n{worker.tail()}")
    assert worker.stop() == 0
    assert worker.said("stopped")[0]["restarts"] < RESTARTS
    assert [letter.reason for letter in letters(scene.job)] == ["invalid_message"]
