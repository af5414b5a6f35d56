"""Records that no client of ours would send: whatever is in them, each is accounted for, and the worker goes on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Topics
from tests.integration import fuzz
from tests.integration.accounts import letters
from tests.integration.commands import Commands
from tests.integration.conftest import Scenes
from tests.integration.oracle import fragment_value
from tests.integration.workers import eventually
from tests.services.kafka import KafkaBroker
from tests.services.wire import RawRecord, WireProducer

NOT_UTF8 = b"\xff\xfe"


@pytest.fixture
def wire(real_kafka: KafkaBroker) -> Iterator[WireProducer]:
    producer = WireProducer(real_kafka.bootstrap)
    yield producer
    producer.close()


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_a_header_with_a_name_that_is_not_utf8_costs_its_record_only(
    real_kafka: KafkaBroker, scenes: Scenes, wire: WireProducer, tmp_path: Path, delivery: str
) -> None:
    scene = scenes(real_kafka, 1, partitions=1, environment={"DELIVERY": delivery})
    [a] = scene.job.topics_input
    values = {id: fragment_value(a, id) for id in ("good-1", "bad-1", "good-2", "bad-2", "good-3")}
    names: list[list[bytes]] = [[b"trace"], [b"fine", NOT_UTF8, NOT_UTF8], [], [NOT_UTF8], [b"trace"]]
    records = zip(values.items(), names, strict=True)
    sent = [RawRecord(id.encode(), value, [(name, b"1") for name in named]) for (id, value), named in records]
    worker = scene.job.start().is_assigned()
    wire.produce(a, 0, sent)
    worker.says("invalid message", times=2)
    eventually(lambda: scene.job.lag() == 0, f"all committed\n{worker.tail()}")
    assert worker.stop() == 0
    assert worker.said("stopped")[0]["restarts"] == 0

    scene.outputs.read_to_the_end()
    assert scene.oracle.results == {"good-1": 1, "good-2": 1, "good-3": 1}
    found = {letter.id: letter for letter in letters(scene.job)}
    assert {id: letter.parts[0].value for id, letter in found.items()} == {id: values[id] for id in ("bad-1", "bad-2")}
    for letter in found.values():
        assert letter.reason == "invalid_message"
        assert "headers, not kept" in letter.about["error.message"]
        assert letter.parts[0].headers == []

    # One in the topic of dead letters is none of ours, and hinders no command.
    wire.produce(f"{scene.job.name}-dlq", 0, [RawRecord(b"x", b"x", [(b"dlq.reason", b"x"), (NOT_UTF8, b"1")])])
    assert "2  in all" in Commands(scene.job, tmp_path).run("list")


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
@pytest.mark.parametrize("inputs", [1, 2])
def test_whatever_is_in_records_each_is_accounted_for(
    real_kafka: KafkaBroker, scenes: Scenes, topics: Topics, delivery: str, inputs: int
) -> None:
    """A longer run: tests/integration/fuzz.py."""
    scene = scenes(real_kafka, environment=fuzz.environment(real_kafka, delivery))
    scene.job.write_row(topics(real_kafka, *"ab"[:inputs], partitions=fuzz.PARTITIONS, config=fuzz.ANY_TIME))
    assert fuzz.run(real_kafka, scene.job, fuzz.Fuzz(seed=inputs), 2_000) == []
