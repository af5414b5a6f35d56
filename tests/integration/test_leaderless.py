"""A partition of the input that nobody can read: all its replicas are away."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.integration.conftest import PROCESS
from tests.integration.oracle import Oracle
from tests.integration.stream import Records
from tests.integration.test_alarms import exported, fires
from tests.integration.test_scrape import metrics
from tests.integration.workers import Job, Outputs, Worker, eventually, feed, short_session
from tests.services.kafka import JavaBroker, kept_feeder, unique_name
from tests.services.processes import running

FIRST, SECOND = 1, 2  # the brokers, by their ids
LEFT_OUT = "partitions have no leader"


@pytest.fixture
def second(own_broker: JavaBroker) -> Iterator[JavaBroker]:
    with running(JavaBroker(beside=own_broker)) as broker:
        yield broker


def created(broker: JavaBroker, name: str, replicas: dict[str, list[list[int]]]) -> None:
    """The input topics with these replicas, and all others of this consumer on the first broker."""
    replicas = {**replicas, f"{name}-out": [[FIRST]], f"{name}-dlq": [[FIRST]] * 2, f"{name}-offsets": [[FIRST]]}
    configs = {f"{name}-dlq": {"retention.ms": "-1"}, f"{name}-offsets": {"cleanup.policy": "compact"}}
    topics = [
        NewTopic(each, len(on), replica_assignment=on, config=configs.get(each, {})) for each, on in replicas.items()
    ]
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    for made in admin.create_topics(topics).values():
        made.result()


@pytest.mark.real_kafka
def test_the_others_are_read_meanwhile_and_this_one_as_soon_as_it_has_a_leader_again(
    own_broker: JavaBroker, second: JavaBroker, tmp_path: Path
) -> None:
    """No worker came beyond its start, and six starts ended the process."""
    name, topic = unique_name("leaderless"), unique_name("in")
    created(own_broker, name, {topic: [[FIRST], [SECOND]]})
    with Job(own_broker, name, [topic], [f"{name}-out"], tmp_path, environment=short_session(own_broker)) as job:
        oracle = Oracle(job.topics_input)
        feed(own_broker, oracle, [f"whole-{number}" for number in range(10)], [topic])
        outputs = Outputs(job, oracle)
        first = job.start()
        outputs.wait(lambda: not oracle.missing(), first)
        assert first.stop() == 0
        second.kill()
        worker = job.start()
        feed(own_broker, oracle, [f"alone-{number}" for number in range(10)], [topic], partition=0)
        outputs.wait(lambda: not oracle.missing(), worker)
        second.restart()
        feed(own_broker, oracle, [f"again-{number}" for number in range(10)], [topic], partition=1)
        outputs.wait(lambda: not oracle.missing(), worker)
        assert worker.stop() == 0
        outputs.read_to_the_end()
        oracle.judge(job.commits()).require(once=True)
        outputs.close()


@pytest.mark.real_kafka
def test_an_alert_tells_of_it_where_its_leader_went_away_while_it_was_read_and_where_it_was_left_out_at_the_start(
    own_broker: JavaBroker, second: JavaBroker, tmp_path: Path
) -> None:
    """Nothing told of the first, whose lag stays as it was, and a line of the log of the second."""
    name, topic = unique_name("leaderless"), unique_name("in")
    created(own_broker, name, {topic: [[FIRST], [SECOND]]})
    session = {"KAFKA_SESSION_TIMEOUT_MS": "45000"}  # after a rebalance, on a busy machine, the first is left out, too
    with Job(own_broker, name, [topic], [f"{name}-out"], tmp_path, environment=session) as job:
        worker = job.start().is_assigned()
        well = exported(worker.scrape(), worker.pid)
        second.kill()
        eventually(lambda: without_leader(worker) == 1, "it went away")
        while_it_is_read = exported(worker.scrape(), worker.pid)
        assert worker.stop() == 0
        assert not worker.said(LEFT_OUT)
        worker = job.start()
        worker.says(LEFT_OUT)
        eventually(lambda: without_leader(worker) == 1, "it is left out")
        left_out = exported(worker.scrape(), worker.pid)
        second.restart()
        eventually(lambda: without_leader(worker) == 0, "it has a leader again")
        assert worker.stop() == 0
    for moments, expected in (([well], False), ([well, while_it_is_read], True), ([well, left_out], True)):
        assert fires("ConsumerPartitionsWithoutLeader", moments, tmp_path) is expected


def without_leader(worker: Worker) -> float | None:
    return metrics(worker).get(("partitions_without_leader", ""))


@pytest.mark.real_kafka
def test_what_has_met_stays_together_where_a_sibling_has_no_leader_at_the_restart(
    own_broker: JavaBroker, second: JavaBroker, tmp_path: Path
) -> None:
    """The first of `a`, which had met its mate, was superseded by the second: a result of parts that never met."""
    name, a, b = (unique_name(each) for each in ("leaderless", "a", "b"))
    created(own_broker, name, {a: [[FIRST]], b: [[SECOND]]})
    blocked = tmp_path / "blocked"
    blocked.write_text("twice")
    environment = {**short_session(own_broker), "PROCESS_BLOCKED": str(blocked)}
    with Job(own_broker, name, [a, b], [f"{name}-out"], tmp_path, process=PROCESS, environment=environment) as job:
        oracle = Oracle(job.topics_input)
        worker = job.start().is_assigned()
        feed(own_broker, oracle, ["twice"])
        eventually(lambda: metrics(worker)["groups_in_flight", ""] == 1, "in process()")
        # Kept over a crash is what was committed: within 0.1 s, but not on every machine.
        eventually(lambda: [each.end for each in job.commits().values()] == [1, 1], "the commit of what has met")
        feed(own_broker, oracle, ["twice"], [a])
        eventually(lambda: metrics(worker)["groups_waiting", ""] == 1, "the second waits")
        worker.kill()
        second.kill()
        blocked.unlink()
        worker = job.start()
        worker.says(LEFT_OUT)
        feed(own_broker, oracle, ["other"], [a])
        second.restart()
        kept_feeder.cache_clear()
        feed(own_broker, oracle, ["twice", "other"], [b])
        outputs = Outputs(job, oracle)
        outputs.wait(lambda: sum(oracle.results.values()) >= 3, worker)
        assert worker.stop() == 0
        outputs.close()
        results = [json.loads(value)["content"] for value in Records.of(own_broker, f"{name}-out").values["twice"]]
        assert {tuple(each.values()) for each in results} == {
            (f"{a}/twice/{version}", f"{b}/twice/{version}") for version in range(2)
        }
