"""What is said of the configuration of topics: of what is a risk, with its cure, and of nothing else."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from config import Settings
from models import Row
from utils.kafka.topic_configs import AWAY, forgotten_inputs, narrow_outputs

ROW = Row.validated("orders", "a,b", "out", "kafka:9092")
SETTINGS = Settings(consumer_name="orders")
DEFAULTS = {"cleanup.policy": "delete", "retention.ms": "604800000", "max.message.bytes": "1048588"}
LARGEST = 1_000_000


def of_topics(**changed: Mapping[str, str]) -> dict[str, Mapping[str, str]]:
    """Topics of a default broker, but for these."""
    topics = ("a", "b", "out", "orders-dlq")
    return {topic: {**DEFAULTS, **changed.get(topic.replace("-", "_"), {})} for topic in topics}


def inputs(settings: Settings = SETTINGS, **changed: Mapping[str, str]) -> list[str]:
    return list(forgotten_inputs(settings, ROW, of_topics(**changed)))


def outputs(largest: int = LARGEST, **changed: Mapping[str, str]) -> list[str]:
    return list(narrow_outputs(SETTINGS, ROW, of_topics(**changed), largest))


def test_of_a_default_broker_and_of_one_that_tells_nothing_nothing_is_said() -> None:
    assert inputs() + outputs() == []
    assert [*forgotten_inputs(SETTINGS, ROW, {}), *narrow_outputs(SETTINGS, ROW, {}, LARGEST)] == []
    nothing = dict.fromkeys(DEFAULTS, "None")  # what the broker keeps to itself
    assert inputs(a=nothing) + outputs(out=nothing) == []


@pytest.mark.parametrize("policy", ["compact", "compact,delete"])
def test_a_compacted_input_is_told_with_its_cure(policy: str) -> None:
    [line] = inputs(b={"cleanup.policy": policy})
    assert line.startswith("topic b is compacted: ")
    assert line.endswith(
        ": kafka-configs.sh --bootstrap-server kafka:9092 --alter --entity-type topics --entity-name b"
        " --add-config cleanup.policy=delete"
    )


def test_an_input_must_be_kept_for_as_long_as_a_message_waits_and_an_hour() -> None:
    enough = round((SETTINGS.message_timeout + AWAY) * 1000)
    assert inputs(a={"retention.ms": str(enough)}) == inputs(a={"retention.ms": "-1"}) == []
    [line] = inputs(a={"retention.ms": str(enough - 1)})
    assert line.startswith("topic a deletes records after 3660 s (retention.ms), less than MESSAGE_TIMEOUT and an hour")
    assert line.endswith("--entity-name a --add-config retention.ms=604800000")
    assert inputs(a={"retention.ms": "1", "cleanup.policy": "compact"})[1:] == [], "nothing is deleted by its age"


def test_a_long_message_timeout_needs_a_long_retention() -> None:
    a_week = replace(SETTINGS, message_timeout=604_800.0)
    told = inputs(a_week)
    assert [line.rpartition(" ")[2] for line in told] == ["retention.ms=608400000"] * 2


def test_an_output_that_takes_less_than_the_worker_may_send_is_told_with_two_cures() -> None:
    [line] = outputs(out={"max.message.bytes": "20000"})
    assert line.startswith(
        "topic out takes 20,000 bytes (max.message.bytes), and the worker may send 1,000,000: larger"
    )
    assert "results become dead letters: set KAFKA_MESSAGE_MAX_BYTES=20000, or kafka-configs.sh" in line
    assert line.endswith("--add-config max.message.bytes=1048588")
    assert outputs(20_000, out={"max.message.bytes": "20000"}) == [], "the first cure"
    assert outputs(out={"max.message.bytes": "1048588"}) == [], "the second"


def test_a_worker_that_may_send_more_needs_wider_outputs() -> None:
    told = outputs(5_000_000)
    assert [line.split()[1] for line in told] == ["out", "orders-dlq"]
    assert "larger dead letters keep no message" in told[1]
    assert all(line.endswith("--add-config max.message.bytes=5000100") for line in told)
    wider = {"max.message.bytes": "5000100"}
    assert outputs(5_000_000, out=wider, orders_dlq=wider) == []


def test_inputs_that_may_hold_more_than_the_worker_may_send_are_told_with_all_that_must_be_wider() -> None:
    most = {"max.message.bytes": "5000000"}
    [line] = outputs(a=most, out=most)
    assert line.startswith("topic a may hold messages of 5,000,000 bytes (max.message.bytes), and the worker may send")
    assert "set KAFKA_MESSAGE_MAX_BYTES=5000000, and kafka-configs.sh" in line
    assert line.endswith("--entity-name orders-dlq --add-config max.message.bytes=5000100")
    assert "--entity-name out " not in line
    assert outputs(5_000_000, a=most, out=most, orders_dlq=most) == [], "the cure"


def test_of_an_output_that_is_too_narrow_for_the_worker_alone_no_more_is_said() -> None:
    [line] = outputs(a={"max.message.bytes": "5000000"}, out={"max.message.bytes": "20000"})
    assert line.startswith("topic out takes")


def test_what_nothing_is_written_to_is_not_too_narrow() -> None:
    row, silent = replace(ROW, topics_output=()), replace(SETTINGS, dlq_topic="")
    narrow = of_topics(a={"max.message.bytes": "5000000"}, out={"max.message.bytes": "1"})
    assert list(narrow_outputs(silent, row, narrow, LARGEST)) == []
