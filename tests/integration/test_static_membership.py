"""GROUP_INSTANCE_ID: a worker that comes back keeps its partitions, and two that share one do not fence for ever."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from config import Settings
from tests.conftest import Topics
from tests.integration.conftest import Scenes
from tests.integration.oracle import Oracle
from tests.integration.stream import Records
from tests.integration.workers import ASSIGNED, Job, Worker, eventually, feed
from tests.services.kafka import KafkaBroker, unique_name
from utils.kafka import membership
from utils.running.assembly import transactional_id

TAKEN = "another member of the group has our GROUP_INSTANCE_ID: waiting whether it is alive"
LONG = {"KAFKA_SESSION_TIMEOUT_MS": "30000"}  # longer than a test waits for what static membership saves


def ids(number: int, prefix: str = "") -> list[str]:
    return [f"{prefix}{each}" for each in range(number)]


def ended(*workers: Worker) -> list[Worker]:
    return [worker for worker in workers if worker.process.poll() is not None]


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_of_two_workers_with_one_instance_id_one_ends_with_a_line_that_says_so(
    real_kafka: KafkaBroker, scenes: Scenes, delivery: str
) -> None:
    scene = scenes(real_kafka, environment={"DELIVERY": delivery, "GROUP_INSTANCE_ID": "the-same"})
    scene.feed(ids(200))
    workers = [scene.job.start().is_assigned()]
    scene.wait_for_all(*workers)
    workers.append(scene.job.start())
    feeding = iter(range(1_000_000))

    def one_has_ended() -> list[Worker]:
        scene.feed(ids(10, f"later-{next(feeding)}-"))  # so that there is something to commit
        return ended(*workers)

    [left] = eventually(one_has_ended, "one of them has ended", pause=0.1)
    assert left.process.returncode == 78
    assert len(left.said(TAKEN)) == len(left.said("GROUP_INSTANCE_ID: another worker")) == 1
    assert not left.said("unexpected")
    [stays] = [worker for worker in workers if worker is not left]
    scene.wait_for_all(stays)
    assert stays.stop() == 0
    scene.judge(once=delivery == "exactly_once")


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_a_place_that_a_member_has_taken_which_is_heard_of_no_more_is_waited_for(
    real_kafka: KafkaBroker, scenes: Scenes, delivery: str
) -> None:
    """So it is where our own request to join has reached Kafka, and the network has lost the answer."""
    scene = scenes(real_kafka, environment={"DELIVERY": delivery, "GROUP_INSTANCE_ID": "the-same"})
    scene.feed(ids(100))
    worker = scene.job.start().is_assigned()
    scene.wait_for_all(worker)
    silent = scene.job.start().is_assigned()
    silent.kill()
    scene.feed(ids(100, "later-"))
    scene.wait_for_all(worker)
    if delivery == "at_least_once":  # else the fence of the producer may be heard of first, and the worker starts again
        assert len(worker.said(TAKEN)) == 1
    assert worker.stop() == 0
    scene.judge(once=delivery == "exactly_once")


def test_a_worker_whose_producer_is_fenced_while_its_place_in_the_group_is_its_own_starts_again(
    real_kafka: KafkaBroker, scenes: Scenes
) -> None:
    scene = scenes(real_kafka, environment={"DELIVERY": "exactly_once", "GROUP_INSTANCE_ID": "the-same"})
    scene.feed(ids(200))
    worker = scene.job.start().is_assigned()
    scene.wait_for_all(worker)
    bootstrap: dict[str, str | int | float | bool] = {"bootstrap.servers": real_kafka.bootstrap}
    Producer({**bootstrap, "transactional.id": transactional_id(scene.job.name, "the-same")}).init_transactions(30)
    scene.feed(ids(200, "later-"))
    scene.wait_for_all(worker)
    assert len(worker.said("starting again")) == 1
    assert worker.stop() == 0
    scene.judge(once=True)


def test_whose_place_it_is_says_the_group(real_kafka: KafkaBroker, topics: Topics) -> None:
    [topic] = topics(real_kafka, "a")
    settings = Settings(consumer_name=unique_name("group"), group_instance_id="the-same")
    bootstrap: dict[str, str | int | float | bool] = {"bootstrap.servers": real_kafka.bootstrap}
    consumer = Consumer({**bootstrap, "group.id": settings.consumer_name, "group.instance.id": "the-same"})
    try:
        consumer.subscribe([topic])
        eventually(lambda: consumer.poll(0.1) or consumer.assignment(), "it has joined")
        admin = AdminClient(bootstrap)
        assert not membership.is_place_taken(admin, settings, consumer.memberid())
        assert membership.is_place_taken(admin, settings, "the-same-another")
        assert not membership.is_place_taken(admin, replace(settings, group_instance_id="second"), "the-same-another")
    finally:
        consumer.close()


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
@pytest.mark.parametrize("end", ["kill", "stop"])
def test_a_worker_that_comes_back_is_not_waited_for(
    real_kafka: KafkaBroker, scenes: Scenes, delivery: str, end: str
) -> None:
    scene = scenes(real_kafka, environment={**LONG, "DELIVERY": delivery})
    names = ["first", "second"]
    first, second = [scene.job.start(GROUP_INSTANCE_ID=name).is_assigned() for name in names]
    first.is_assigned(times=2)
    scene.feed(ids(1_000))
    scene.wait_for_all(first, second)
    owned = second.said(ASSIGNED)[-1]["partitions"]
    if end == "kill":
        second.kill()
    else:
        assert second.stop() == 0
    scene.feed(ids(1_000, "later-"))
    second = scene.job.start(GROUP_INSTANCE_ID="second").is_assigned()
    scene.wait_for_all(first, second)
    assert second.said(ASSIGNED)[-1]["partitions"] == owned
    assert len(first.said(ASSIGNED)) == 2  # nothing was taken from the other one
    assert [worker.stop() for worker in (first, second)] == [0, 0]
    scene.judge(once=delivery == "exactly_once" or end == "stop")


@pytest.mark.parametrize(("applied_by", "delivery"), [("reload", "at_least_once"), ("restart", "exactly_once")])
def test_topics_that_are_added_and_removed_reach_workers_that_keep_their_places(
    real_kafka: KafkaBroker, topics: Topics, tmp_path: Path, applied_by: str, delivery: str
) -> None:
    a, b, c, out = topics(real_kafka, "a", "b", "c", "out")
    reloads = applied_by == "reload"
    environment = {**LONG, "DELIVERY": delivery, "CONFIG_REFRESH": "1" if reloads else "0", "RETRY_BACKOFF": "0.05"}
    names = ["first", "second"]
    with Job(real_kafka, unique_name("job"), [a, b], [out], tmp_path, environment=environment) as job:
        workers = {name: job.start(GROUP_INSTANCE_ID=name) for name in names}
        share(workers, [a, b])
        for row in ([a, b, c], [a, c]):
            job.write_row(row)
            for name in names if not reloads else ():
                assert workers[name].stop() == 0
                workers[name] = job.start(GROUP_INSTANCE_ID=name)
            share(workers, row)
            feed(real_kafka, Oracle(tuple(row)), ids(100, f"{len(row)}-"))
            eventually(partial(has_all, real_kafka, out, ids(100, f"{len(row)}-")), "a result of each")
        assert [worker.stop() for worker in workers.values()] == [0, 0]
        for id, values in Records.of(real_kafka, out).values.items():
            assert [json.loads(value)["content"].keys() for value in values] == [{a, c, *([b] if id[0] == "3" else [])}]
        assert all(not worker.said("starting again") for worker in job.workers)
        assert any(worker.said("joining the consumer group anew") for worker in job.workers)


def has_all(broker: KafkaBroker, out: str, ids: Iterable[str]) -> bool:
    return Records.of(broker, out).values.keys() >= set(ids)


def share(workers: Mapping[str, Worker], row: Sequence[str]) -> None:
    """Wait until two workers have one half each of all four partitions of these topics."""

    def halves() -> bool:
        last = [set(lines[-1]["partitions"]) for each in workers.values() if (lines := each.said(ASSIGNED))]
        every = {f"{topic}:{number}" for topic in row for number in range(4)}
        return len(last) == 2 and set.union(*last) == every and all(len(each) == len(every) // 2 for each in last)

    eventually(halves, "each has its half of every topic")


def test_consumers_whose_names_and_instance_ids_make_the_same_text_do_not_fence_each_other(
    real_kafka: KafkaBroker, topics: Topics, tmp_path: Path
) -> None:
    a, out, b, other = topics(real_kafka, "a", "out", "b", "other")
    environment, name = {"DELIVERY": "exactly_once", "RETRY_BACKOFF": "0.05"}, unique_name("shop")
    with (
        Job(real_kafka, name, [a], [out], tmp_path, environment=environment) as shop,
        Job(real_kafka, f"{name}-eu", [b], [other], tmp_path, environment=environment) as shop_eu,
    ):
        workers = [shop.start(GROUP_INSTANCE_ID="eu-1"), shop_eu.start(GROUP_INSTANCE_ID="1")]
        for worker in workers:
            worker.is_assigned()
        for topic, results in ((a, out), (b, other), (a, out)):
            sent = ids(10, f"{unique_name('id')}-")
            feed(real_kafka, Oracle((topic,)), sent)
            eventually(partial(has_all, real_kafka, results, sent), "a result of each")
        assert [worker.stop() for worker in workers] == [0, 0]
        assert not any(worker.said("starting again") for worker in workers)
