"""Names that consumers take in Kafka: which of them meet those of others, and which do not."""

from dataclasses import replace

import pytest

from models import Row
from utils.kafka.names import Named, collisions, own_collisions


def named(
    name: str, inputs: str = "a", outputs: str = "b", servers: str = "kafka:9092", letters: str | None = None
) -> Named:
    row = Row.validated(name, inputs, outputs, servers)
    return Named(row, f"{name}-dlq" if letters is None else letters)


@pytest.mark.parametrize(
    ("one", "line"),
    [
        (
            named("t1-dlq-replay"),
            "row t1-dlq-replay has the name of the consumer group of dlq replay of t1: rename one of the two"
            " (docs/change-the-row.md)",
        ),
        (
            named("t2", inputs="a,t1-offsets"),
            "row t2: topics_input names t1-offsets, where t1 keeps its maps: choose another topic",
        ),
        (
            named("t2", outputs="t1-offsets"),
            "row t2: topics_output names t1-offsets, where t1 keeps its maps: choose another topic",
        ),
        (
            named("t2", outputs="t1-dlq"),
            "row t2: topics_output names t1-dlq, where t1 keeps its dead letters: choose another topic",
        ),
        (
            named("t2", letters="t1-offsets"),
            "DLQ_TOPIC of t2 is t1-offsets, where t1 keeps its maps: choose another topic",
        ),
    ],
)
def test_what_two_consumers_take_for_theirs_is_told_of_both(one: Named, line: str) -> None:
    for servers in ("kafka:9092", "other:9092,Kafka:9092"):
        of_one = Named(replace(one.row, bootstrap_servers=servers), one.dead_letters)
        assert collisions([named("t1"), named("t3"), of_one]) == {"t1": [line], one.row.consumer_name: [line]}


@pytest.mark.parametrize(
    "one",
    [
        named("t2"),
        named("t2-dlq-replay"),  # of nobody
        named("t2", inputs="t1-dlq", outputs="c"),  # may be meant so
        named("t2", letters="t1-dlq"),  # each knows its own
        named("t2", letters=""),
        named("t2", letters="t2-offsets"),  # a problem of its own
        named("t2", outputs="t1-offsets", servers="other:9092,third:9092"),
    ],
)
def test_what_does_not_meet_or_may_be_meant_so_is_not_told(one: Named) -> None:
    assert collisions([named("t1", letters="t1-dlq"), named("t3", letters=""), one]) == {}


def test_consumers_whose_rows_name_one_broker_of_several_are_on_the_same() -> None:
    one, other = named("t1", servers="x:1,y:1"), named("t2", outputs="t1-offsets", servers="y:1")
    assert collisions([one, other]).keys() == {"t1", "t2"}


def test_dead_letters_among_a_consumers_own_topics_are_a_problem() -> None:
    assert own_collisions(named("t1")) == own_collisions(named("t1", letters="")) == []
    [line] = own_collisions(named("t1", inputs="a,t1-dlq"))
    assert line == "DLQ_TOPIC is t1-dlq, which the row names too: choose another topic for dead letters, or none"
    assert own_collisions(named("t1", outputs="failed", letters="failed")) != []
    [line] = own_collisions(named("t1", letters="t1-offsets"))
    assert line.startswith("DLQ_TOPIC is t1-offsets, where the worker keeps its maps: ")
