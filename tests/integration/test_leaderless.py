"""A partition of the input that nobody can read: all its replicas are away."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.integration.oracle import Oracle
from tests.integration.workers import Job, Outputs, feed, short_session
from tests.services.kafka import JavaBroker, unique_name
from tests.services.processes import running

FIRST, SECOND = 1, 2  # the brokers, by their ids


@pytest.fixture
def second(own_broker: JavaBroker) -> Iterator[JavaBroker]:
    with running(JavaBroker(beside=own_broker)) as broker:
        yield broker


@pytest.mark.real_kafka
def test_the_others_are_read_meanwhile_and_this_one_as_soon_as_it_has_a_leader_again(
    own_broker: JavaBroker, second: JavaBroker, tmp_path: Path
) -> None:
    """No worker came beyond its start, and six starts ended the process."""
    name, topic = unique_name("leaderless"), unique_name("in")
    replicas = {topic: [[FIRST], [SECOND]], f"{name}-out": [[FIRST]], f"{name}-dlq": [[FIRST]] * 2}
    replicas[f"{name}-offsets"] = [[FIRST]]
    admin = AdminClient({"bootstrap.servers": own_broker.bootstrap})
    configs = {f"{name}-dlq": {"retention.ms": "-1"}, f"{name}-offsets": {"cleanup.policy": "compact"}}
    topics = [
        NewTopic(each, len(on), replica_assignment=on, config=configs.get(each, {})) for each, on in replicas.items()
    ]
    for made in admin.create_topics(topics).values():
        made.result()
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
