"""`main.py try` on real Kafka: what it says of messages is what the worker has made of them, and it leaves no trace."""

import json
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from tests.integration.accounts import records
from tests.integration.commands import Commands
from tests.integration.conftest import Scene, Scenes
from tests.integration.workers import eventually
from tests.services.kafka import JavaBroker, KafkaBroker
from tests.services.processes import running

ODD = {"PROCESS_ODD": "1", "PROCESS_MANY": "3", "MESSAGE_TIMEOUT": "2"}
KINDS = {"whole": 40, "none": 10, "reject": 5, "fail": 25, "wrong": 5, "many": 10, "big": 2}


@pytest.fixture(scope="module")
def quiet_kafka(real_kafka: KafkaBroker) -> Iterator[KafkaBroker]:
    """A broker on which nothing happens but what the test does."""
    if shutil.which("java") is None:
        pytest.skip("only a broker started with Java is ours alone")
    with running(JavaBroker()) as broker:
        yield broker


def everything(broker: KafkaBroker) -> dict[str, Any]:
    """All that a broker can tell of its topics, groups and offsets."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    topics = {name: sorted(each.partitions) for name, each in admin.list_topics(timeout=60).topics.items()}
    ends: dict[str, Any] = {}
    for isolation in (IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED):
        for spec in (OffsetSpec.earliest(), OffsetSpec.latest()):  # type: ignore[no-untyped-call]
            asked = {TopicPartition(name, each): spec for name, numbers in topics.items() for each in numbers}
            answers = admin.list_offsets(asked, isolation_level=isolation)
            ends[f"{isolation} {type(spec)}"] = {str(at): future.result().offset for at, future in answers.items()}
    groups = {each.group_id: str(each.state) for each in admin.list_consumer_groups().result().valid}
    offsets = {}
    for name in groups:
        [answer] = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(name)]).values()
        offsets[name] = [(str(each), each.metadata) for each in answer.result().topic_partitions]
    return {"topics": topics, "ends": ends, "groups": groups, "offsets": offsets}


def told(out: str) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """What --json says: of each id, and the counts."""
    *lines, counts = [json.loads(line) for line in out.splitlines()]
    return {line["id"]: line for line in lines}, counts["counts"]


def sent(scene: Scene, topics: Iterable[str]) -> dict[str, list[tuple[str, str]]]:
    """Key and value of each record, by the id of the message that the worker made it of."""
    found = defaultdict(list)
    for each in records(scene.broker, topics):
        id = each.key().decode()
        found[id.rpartition("-")[0] if id.startswith("many") else id].append((id, each.value().decode()))
    return found


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_what_it_says_of_each_id_is_byte_for_byte_what_the_worker_has_made_of_it_and_nothing_has_changed(
    quiet_kafka: KafkaBroker, scenes: Scenes, tmp_path: Path, delivery: str
) -> None:
    scene = scenes(quiet_kafka, slow_process=True, environment={**ODD, "DELIVERY": delivery, "PROCESS_ATTEMPTS": "1"})
    a, b = scene.job.topics_input
    ids = [f"{kind}-{number}" for kind, count in KINDS.items() for number in range(count)]
    scene.feed(ids[::2])
    scene.feed(["alone-1", *ids[1::2]], a)
    scene.feed(reversed(ids[1::2]), b)
    scene.feed_raw(b, b"no json")
    worker = scene.job.start()
    eventually(lambda: scene.job.lag() == 0, "all committed")
    assert worker.stop() == 0
    before = everything(quiet_kafka)

    commands = Commands(scene.job, tmp_path, command="try", **ODD)
    found, counts = told(commands.run("--last", "1000", "--json", "--show", code=1))
    assert everything(quiet_kafka) == before
    assert found.keys() == set(ids)
    results = sent(scene, scene.job.topics_output)
    dead = sent(scene, [f"{scene.job.name}-dlq"])
    for id in ids:
        made = sorted((each["key"], each["value"]) for each in found[id]["results"])
        assert made == sorted(results.get(id, [])), id  # results of several partitions come in any order
        assert (found[id]["state"] == "failed") == (id in dead), id
        assert (found[id]["state"] == "filtered") == id.startswith("none"), id
    assert counts["incomplete"] == {"alone-1": [b]}
    assert [each["at"].rpartition(":")[0].rpartition(":")[0] for each in counts["invalid"]] == [b]
    assert (counts["forwarded"], counts["filtered"], counts["failed"]) == (50, 10, 37)
    assert counts["results"] == 70
    assert sum(counts["errors"].values()) == 37
    assert "100" in counts["note"]

    text = commands.run("--last", "97", code=1)
    assert "x" * 100 not in text
    assert f"{a}/whole" not in text, "no payload without --show"
    assert everything(quiet_kafka) == before


def test_one_id_is_found_where_its_key_says_and_where_it_does_not_and_a_dead_letter_is_tried_again(
    kafka: KafkaBroker, scenes: Scenes, tmp_path: Path
) -> None:
    scene = scenes(kafka, slow_process=True, environment={**ODD, "PROCESS_ATTEMPTS": "1"})
    scene.feed([f"whole-{number}" for number in range(300)])
    scene.feed(["fail-1", "reject-2"])
    scene.feed(["elsewhere"], partition=1)
    scene.feed(["elsewhere"], partition=2)  # one of the two is where neither hash says
    worker = scene.job.start()
    eventually(lambda: scene.job.lag() == 0, "all committed")
    assert worker.stop() == 0
    commands = Commands(scene.job, tmp_path, command="try")
    for id in ("whole-3", "whole-299", "elsewhere"):
        found, counts = told(commands.run("--id", id, "--json"))
        assert list(found) == [id]
        assert counts["forwarded"] == 1
    assert "no message of nobody" in commands.run("--id", "nobody", "--id", "whole-7", code=1)
    found, _ = told(commands.run("--dlq", "--json"))
    assert {id: each["state"] for id, each in found.items()} == {"fail-1": "forwarded", "reject-2": "forwarded"}
    failing = Commands(scene.job, tmp_path / "failing", command="try", PROCESS_ODD="1")
    out = failing.run("--dlq", "--id", "fail-1", code=1)
    assert "ZeroDivisionError at worker.py:" in out
    assert "reject-2" not in out
