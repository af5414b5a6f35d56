"""A short round of chaos. `make chaos MINUTES=…` is the long one, with every fault in both modes."""

import random
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tests.chaos.faults import FAULTS
from tests.chaos.rounds import play, problems
from tests.chaos.stage import Stage
from tests.services.kafka import KafkaBroker, unique_name

pytestmark = pytest.mark.chaos


@pytest.mark.parametrize(
    ("name", "delivery", "times"),
    [
        ("kills and freezes at random", "exactly_once", 5),
        ("kills and freezes at random", "at_least_once", 3),
        ("SIGKILL after the offsets are sent", "exactly_once", 1),
        ("SIGKILL within a commit", "at_least_once", 1),
        ("metadata overwritten with junk", "exactly_once", 1),
    ],
)
def test_a_fault_loses_nothing_and_halves_nothing(
    real_kafka: KafkaBroker, tmp_path: Path, name: str, delivery: str, times: int
) -> None:
    [fault] = [fault for fault in FAULTS if fault.name == name]
    line = play(fault, real_kafka, delivery, tmp_path, random.Random(name), seconds=60, most=times)
    assert not line.problems, "\n".join([str(line), *line.problems])
    assert line.times >= times
    assert line.verdict.complete > 500 * times, "too little was fed to say anything"


def test_a_transaction_that_stays_open_is_a_problem(real_kafka: KafkaBroker, tmp_path: Path) -> None:
    with Stage(real_kafka, "exactly_once", tmp_path, random.Random()) as stage:
        settings = {"bootstrap.servers": real_kafka.bootstrap, "transactional.id": unique_name("open"), "log_level": 0}
        producer = Producer(settings)
        producer.init_transactions(30)
        producer.begin_transaction()
        producer.produce(stage.job.topics_output[0], b"{}", b"id", partition=1)
        assert producer.flush(30) == 0
        left_open = stage.wait_for_transactions(0)
        assert left_open == 1
        [problem] = problems(stage.oracle.judge(), left_open, once=True)
        assert "I4" in problem
        producer.abort_transaction(30)
        assert stage.wait_for_transactions(30) == 0
        assert problems(stage.oracle.judge(), 0, once=True) == []


def test_what_kafka_has_acknowledged_and_lost_is_told_apart(real_kafka: KafkaBroker, tmp_path: Path) -> None:
    """Such an id has no result, and no worker is to blame."""
    with Stage(real_kafka, "at_least_once", tmp_path, random.Random()) as stage:
        for id in ("kept", "gone"):
            for topic in stage.job.topics_input[: 1 + (id == "kept")]:
                stage._send(id, topic)
        assert stage._feeder.flush(30) == 0
        [told] = stage.not_in_the_logs({"kept", "gone"})
        assert told == f"Kafka has lost 1 of them from {stage.job.topics_input[1]}: ['gone']"
