"""`main.py dlq` on brokers: what it lists, and that a replay loses and doubles nothing, killed, repeated or twice."""

import random
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import OFFSET_END, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclOperation
from confluent_kafka.admin._resource import ResourceType

from tests.builders import group
from tests.conftest import grant
from tests.integration.accounts import records
from tests.integration.commands import Commands
from tests.integration.conftest import Scene, Scenes
from tests.integration.workers import SECONDS, eventually, feeder
from tests.services.kafka import KafkaBroker, unique_name
from utils.joining.dead_letters import write

ODD = {"PROCESS_ODD": "1", "MESSAGE_TIMEOUT": "2"}


def fed(scene: Scene, ids: list[str]) -> None:
    """These ids fail, and lie in the topic of dead letters."""
    scene.feed(ids)
    worker = scene.job.start()
    eventually(lambda: scene.job.lag() == 0, "all committed")
    assert worker.stop() == 0


def results(scene: Scene) -> Counter[str]:
    scene.outputs.read_to_the_end()
    return Counter(scene.oracle.results)


def test_replayed_by_reason_by_id_and_all_each_is_replayed_once(
    kafka: KafkaBroker, scenes: Scenes, tmp_path: Path
) -> None:
    scene = scenes(kafka, slow_process=True, environment=ODD)
    a, b = scene.job.topics_input
    scene.feed(["alone-1", "late-1"], a)
    scene.feed_raw(a, b"no json")
    fed(scene, [*(f"reject-{number}" for number in range(20)), "wrong-1", "whole-1"])
    commands = Commands(scene.job, tmp_path)
    listed = commands.run("list")
    assert re.search(r"^ +20  process_failed  Reject$", listed, re.MULTILINE)
    assert re.search(r"^ +24  in all$", listed, re.MULTILINE)
    assert "alone-1" in commands.run("show", "alone-1")
    assert commands.run("replay", "--id", "reject-3", "--dry-run").split()[:1] == ["1"]
    assert results(scene) == Counter(["whole-1"])

    commands.run("replay", "--id", "reject-3")
    assert results(scene) == Counter(["whole-1", "reject-3"])
    commands.run("replay", "--reason", "process_failed")
    failed = [f"reject-{number}" for number in range(20)]
    assert results(scene) == Counter(["whole-1", *failed])

    scene.feed(["late-1"], b)
    worker = scene.job.start()
    eventually(lambda: re.search(r"^ +3  incomplete$", commands.run("list"), re.MULTILINE), "the late mate given up")
    assert worker.stop() == 0
    for _ in range(2):
        out = commands.run("replay", "--all")
        assert results(scene) == Counter(["whole-1", "wrong-1", "late-1", *failed])
    assert re.search(r"^ +0  replayed$", out, re.MULTILINE)
    assert "1  stay: still incomplete" in out
    assert re.search(r"^ +2  in all$", commands.run("list"), re.MULTILINE)
    assert "26  in all" not in commands.run("list", "--reason", "incomplete", "--replayed")
    scene.judge(once=True, given_up=["alone-1"])


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_a_replay_that_is_killed_twice_and_run_twice_at_once_loses_and_doubles_nothing(
    real_kafka: KafkaBroker, scenes: Scenes, tmp_path: Path, delivery: str
) -> None:
    scene = scenes(real_kafka, slow_process=True, environment={**ODD, "DELIVERY": delivery})
    ids = [f"reject-{number}" for number in range(3_000)]
    fed(scene, ids)
    commands = Commands(scene.job, tmp_path, PROCESS_SECONDS="0.0005")
    for kills in range(2):
        process = commands.start("replay", "--all")
        scene.wait_for(500 * (kills + 1))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    both = [commands.start("replay", "--all") for _ in range(2)]
    for process in both:
        commands.ends(process)
    commands.run("replay", "--all")
    found = results(scene)
    assert set(found) == set(ids)
    if delivery == "exactly_once":
        assert found == Counter(ids)
    assert "0  in all" in commands.run("list")


def test_a_replay_that_is_stopped_goes_on_the_next_time_and_doubles_nothing(
    kafka: KafkaBroker, scenes: Scenes, tmp_path: Path
) -> None:
    scene = scenes(kafka, slow_process=True, environment=ODD)
    ids = [f"reject-{number}" for number in range(2_000)]
    fed(scene, ids)
    process = Commands(scene.job, tmp_path / "slow", PROCESS_SECONDS="0.005").start("replay", "--all")
    scene.wait_for(300)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert "stopped: what it has not come to stays as it was" in out
    assert 300 <= results(scene).total() < 2_000
    Commands(scene.job, tmp_path / "again").run("replay", "--all")
    assert results(scene) == Counter(ids)


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_a_letter_that_a_later_one_has_superseded_comes_to_life_in_no_later_replay(
    real_kafka: KafkaBroker, scenes: Scenes, tmp_path: Path, delivery: str
) -> None:
    scene = scenes(real_kafka, slow_process=True, environment={**ODD, "MESSAGE_TIMEOUT": "1", "DELIVERY": delivery})
    a, b = scene.job.topics_input
    worker = scene.job.start()
    for number, topic in enumerate([a, a, b, b], 1):
        scene.feed(["again"], topic)
        eventually(lambda: len(worker.said("incomplete messages given up")) >= number, "given up")  # noqa: B023
        eventually(lambda: scene.job.lag() == 0, "all committed")
    assert worker.stop() == 0
    commands = Commands(scene.job, tmp_path, DELIVERY=delivery)
    first, second = commands.run("replay", "--all"), commands.run("replay", "--all")
    assert first.split("\n")[:2] == [
        "       2  replayed",
        "       1  left out, now and from now on: a later one holds the message of its topic",
    ]
    assert second.split("\n")[:2] == ["       0  replayed", "       1  stay: still incomplete"]
    assert results(scene) == Counter(["again"])


def test_what_fails_again_stays(kafka: KafkaBroker, scenes: Scenes, tmp_path: Path) -> None:
    scene = scenes(kafka, slow_process=True, environment=ODD)
    more = [f"reject-{number}" for number in range(25)]  # than a worker takes for an outage, where they only fail
    fed(scene, ["fail-1", "huge-1", *more])
    bad = tmp_path / "bad"
    bad.write_text("\n".join(more))
    commands = Commands(scene.job, tmp_path, PROCESS_ODD="1", PROCESS_FAILING=str(bad))
    out = commands.run("replay", "--all", code=1)
    assert "1  stay: failed again: ZeroDivisionError" in out
    assert "25  stay: failed again: RuntimeError" in out
    assert "1  stay: the result is too large" in out
    assert "27  in all" in commands.run("list")
    assert results(scene).total() == 0


@pytest.mark.real_kafka
@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_what_only_the_broker_finds_too_large_stays(
    real_kafka: KafkaBroker, scenes: Scenes, tmp_path: Path, delivery: str
) -> None:
    """At least once it was taken for replayed, and its result was nowhere."""
    scene = scenes(real_kafka, slow_process=True, environment={**ODD, "PROCESS_SIZE": "30000", "DELIVERY": delivery})
    small = f"{scene.job.topics_output[0]}-small"
    real_kafka.create_topic(small, 1, {"max.message.bytes": "20000"})
    scene = scene.with_topics(scene.job.topics_input, [small])
    fed(scene, ["huge-1", "huge-2", "reject-1"])
    commands = Commands(scene.job, tmp_path, DELIVERY=delivery, PROCESS_ODD="1", PROCESS_SIZE="30000")
    out = commands.run("replay", "--all", code=1)
    assert "2  stay: the result is too large for its topic" in out
    assert "2  in all" in commands.run("list", "--reason", "too_large")
    assert "0  replayed" in commands.run("replay", "--reason", "too_large", code=1)


def test_of_a_topic_that_two_consumers_share_each_lists_shows_and_replays_its_own(
    kafka: KafkaBroker, scenes: Scenes, tmp_path: Path
) -> None:
    environment = {**ODD, "DLQ_TOPIC": unique_name("shared-dlq")}
    mine, theirs = [scenes(kafka, slow_process=True, environment=environment) for _ in range(2)]
    ids = {"mine": [f"reject-mine-{number}" for number in range(8)], "theirs": ["reject-theirs", "reject-both"]}
    ids["mine"].append("reject-both")
    for each in range(2):  # by turns, so that they lie between each other
        fed(mine, ids["mine"][each::2])
        fed(theirs, ids["theirs"][each::2])
    commands, their_commands = Commands(mine.job, tmp_path / "mine"), Commands(theirs.job, tmp_path / "theirs")
    assert re.search(r"^ +9  in all$", commands.run("list"), re.MULTILINE)
    assert "reject-theirs" not in commands.run("list")
    assert commands.run("show", "reject-both").count("  consumer: ") == 1
    assert f"  consumer: {theirs.job.name}" in their_commands.run("show", "reject-both")
    assert commands.run("replay", "--all", "--dry-run").split()[:1] == ["9"]
    for _ in range(2):
        commands.run("replay", "--all")
        assert results(mine) == Counter(ids["mine"])
        assert results(theirs).total() == 0
    assert re.search(r"^ +0  in all$", commands.run("list"), re.MULTILINE)
    assert re.search(r"^ +2  in all$", their_commands.run("list"), re.MULTILINE)
    their_commands.run("replay", "--all")
    assert results(theirs) == Counter(ids["theirs"])
    assert results(mine) == Counter(ids["mine"])


def test_where_dead_letters_were_deleted_those_that_are_left_are_listed_and_replayed(
    real_kafka: KafkaBroker, scenes: Scenes, tmp_path: Path
) -> None:
    scene = scenes(real_kafka, slow_process=True, environment={**ODD, "DELIVERY": "exactly_once"})
    ids = {f"reject-{number}" for number in range(20)}
    fed(scene, sorted(ids))
    by_partition: dict[int, set[str]] = {}
    for each in records(real_kafka, [f"{scene.job.name}-dlq"]):
        by_partition.setdefault(each.partition(), set()).add(each.key().decode())
    emptied, lost = min(by_partition.items())
    left = ids - lost
    assert lost
    assert left
    delete_all(scene, emptied)
    commands = Commands(scene.job, tmp_path)
    assert f"{len(left)}  in all" in commands.run("list", seconds=SECONDS)
    assert commands.run("replay", "--all", "--dry-run", seconds=SECONDS).split()[:1] == [str(len(left))]
    assert min(left) in commands.run("show", min(left), seconds=SECONDS)
    commands.run("replay", "--all")
    assert results(scene) == Counter(left)
    for number in by_partition:
        delete_all(scene, number)
    assert "0  in all" in commands.run("list", "--replayed", seconds=SECONDS)


def test_what_is_of_no_use_is_discarded_by_choice_and_for_good(
    real_kafka: KafkaBroker, scenes: Scenes, tmp_path: Path
) -> None:
    scene = scenes(real_kafka, slow_process=True, environment={**ODD, "DELIVERY": "exactly_once"})
    scene.feed_raw(scene.job.topics_input[0], *[b"junk"] * 3)
    fed(scene, ["reject-1", "reject-2"])
    commands = Commands(scene.job, tmp_path)
    assert "3  stay: still no valid message" in commands.run("replay", "--reason", "invalid_message")
    assert "3  would be discarded" in commands.run("discard", "--reason", "invalid_message", "--dry-run")
    assert "5  in all" in commands.run("list"), "a dry run changes nothing"
    [said] = commands.refused("discard")
    assert "--all" in said
    assert "3  discarded" in commands.run("discard", "--reason", "invalid_message")
    assert "1  discarded" in commands.run("discard", "--id", "reject-1")
    assert "0  discarded" in commands.run("discard", "--id", "reject-1")
    assert "1  in all" in commands.run("list")
    assert "5  in all" in commands.run("list", "--replayed")
    assert results(scene).total() == 0
    commands.run("replay", "--all")
    assert results(scene) == Counter(["reject-2"])


def test_a_time_that_is_none_chooses_nothing(embedded_kafka: KafkaBroker, scenes: Scenes, tmp_path: Path) -> None:
    scene = scenes(embedded_kafka, slow_process=True, environment=ODD)
    fed(scene, ["reject-1"])
    commands = Commands(scene.job, tmp_path)
    for name in ("--since", "--until"):
        assert "'garbage' is no time" in "\n".join(commands.refused("replay", name, "garbage"))
    commands.refused("list", "--since", "1h", "--until", "2h")
    assert "0  in all" in commands.run("list", "--until", "1h")
    assert "0  replayed" in commands.run("replay", "--until", "yesterday")
    assert "1  in all" in commands.run("list", "--since", "1h")
    commands.run("replay", "--since", "today", "--until", "2999-01-01T00:00+01:00")
    assert results(scene) == Counter(["reject-1"])


def test_a_right_that_a_command_on_dead_letters_lacks_is_named_with_its_cure(
    guarded_kafka: KafkaBroker, scenes: Scenes, tmp_path: Path
) -> None:
    scene = scenes(guarded_kafka, slow_process=True, environment=ODD)
    fed(scene, ["reject-1"])
    commands, group, topic = Commands(scene.job, tmp_path), f"{scene.job.name}-dlq-replay", f"{scene.job.name}-dlq"
    grant(guarded_kafka, ResourceType.GROUP, group, AclOperation.DESCRIBE)
    assert "1  in all" in commands.run("list"), "to look it is enough to see what the group has committed"
    for command in ("replay", "discard"):
        [said] = commands.refused(command, "--all")
        assert f"no right to READ group {group}: kafka-acls.sh" in said
    grant(guarded_kafka, ResourceType.TOPIC, topic, AclOperation.DESCRIBE)
    [said] = commands.refused("list")
    assert f"no right to READ topic {topic}: kafka-acls.sh" in said


def delete_all(scene: Scene, partition: int) -> None:
    """As retention does, or kafka-delete-records: of a partition of the topic of dead letters."""
    admin = AdminClient({"bootstrap.servers": scene.broker.bootstrap})
    at = TopicPartition(f"{scene.job.name}-dlq", partition, OFFSET_END)
    for deleted in admin.delete_records([at]).values():
        deleted.result()


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_what_was_done_stays_known_where_brokers_forget_the_commits_of_it(
    real_kafka: KafkaBroker, scenes: Scenes, tmp_path: Path, delivery: str
) -> None:
    """They do so a week after the last replay (`offsets.retention.minutes`): the consumer group has no members."""
    scene = scenes(real_kafka, slow_process=True, environment={**ODD, "DELIVERY": delivery})
    fed(scene, [f"reject-{number}" for number in range(6)])
    commands = Commands(scene.job, tmp_path)
    commands.run("replay", "--id", "reject-1")
    commands.run("discard", "--id", "reject-2")
    admin = AdminClient({"bootstrap.servers": real_kafka.bootstrap})
    for left in (4, 0):
        [asked] = admin.delete_consumer_groups([f"{scene.job.name}-dlq-replay"]).values()
        asked.result()
        assert f"{left}  in all" in commands.run("list")
        assert "6  in all" in commands.run("list", "--replayed")
        for command in ("replay", "discard"):
            assert f"{left}  would be {command}" in commands.run(command, "--all", "--dry-run")
        groups = {each.group_id for each in admin.list_consumer_groups().result().valid}
        assert f"{scene.job.name}-dlq-replay" not in groups, "who looks has committed nothing"
        assert f"{left}  replayed" in commands.run("replay", "--all")
    assert results(scene) == Counter(f"reject-{number}" for number in range(6) if number != 2)


def test_what_a_killed_replay_has_done_stays_known_where_brokers_forget_the_commits_of_it(
    real_kafka: KafkaBroker, scenes: Scenes, tmp_path: Path
) -> None:
    """It was noted at the end of a run only, so that all of it was sent a second time a week later."""
    scene = scenes(real_kafka, slow_process=True, environment=ODD, partitions=1)
    fed(scene, [f"reject-{number}" for number in range(40)])
    slow, commands = Commands(scene.job, tmp_path / "slow", PROCESS_SECONDS="0.3"), Commands(scene.job, tmp_path)
    killed(slow.start("replay", "--all"), lambda: results(scene).total() >= 15)
    left = in_all(commands)
    assert 0 < left < 40
    before = notes(scene)
    killed(slow.start("replay", "--all"), lambda: notes(scene) > before)  # as it begins
    admin = AdminClient({"bootstrap.servers": real_kafka.bootstrap, "log_level": 0})
    eventually(lambda: _is_deleted(admin, f"{scene.job.name}-dlq-replay"), "no member any more")
    assert in_all(commands) <= left


@pytest.mark.real_kafka
def test_what_was_done_here_and_there_stays_known_where_brokers_forget_the_commits_of_it(
    real_kafka: KafkaBroker, scenes: Scenes, tmp_path: Path
) -> None:
    """A map that is too long for a commit was left out, and all above it was sent a second time."""
    scene = scenes(real_kafka, environment=ODD, partitions=1)
    real_kafka.create_topic(f"{scene.job.name}-dlq", 1)
    real_kafka.create_topic(scene.job.map_topic, 1, {"cleanup.policy": "compact"})
    producer, chance = feeder(real_kafka), random.Random(4)
    for id in chance.choices(("junk", "order"), k=30_000):
        letter = write(group(id), "process_failed", consumer=scene.job.name, time="2026-11-30T12:00:00+00:00")
        producer.produce(f"{scene.job.name}-dlq", letter.value, letter.key, 0, headers=letter.headers)
    assert producer.flush(30) == 0
    commands = Commands(scene.job, tmp_path)
    commands.run("discard", "--id", "junk")
    left = in_all(commands)
    assert 14_000 < left < 16_000
    admin = AdminClient({"bootstrap.servers": real_kafka.bootstrap})
    [asked] = admin.delete_consumer_groups([f"{scene.job.name}-dlq-replay"]).values()
    asked.result()
    commands.run("discard", "--id", "none of them")
    assert in_all(commands) == left


def killed(process: "subprocess.Popen[str]", when: Callable[[], bool]) -> None:
    eventually(when, "the moment to kill it")
    process.kill()
    process.communicate()


def in_all(commands: Commands) -> int:
    [number] = re.findall(r"^ +(\d+)  in all$", commands.run("list"), re.MULTILINE)
    return int(number)


def notes(scene: Scene) -> int:
    return sum((each.key() or b"").startswith(b"dlq-done:") for each in records(scene.broker, [scene.job.map_topic]))


def _is_deleted(admin: AdminClient, group: str) -> bool:
    [asked] = admin.delete_consumer_groups([group]).values()
    try:
        asked.result()
    except KafkaException:
        return False
    return True


def test_what_was_done_of_a_former_topic_hides_nothing_in_one_that_was_made_again(
    real_kafka: KafkaBroker, scenes: Scenes, tmp_path: Path
) -> None:
    scene = scenes(real_kafka, slow_process=True, environment=ODD)
    fed(scene, [f"reject-{number}" for number in range(20)])
    commands = Commands(scene.job, tmp_path)
    commands.run("replay", "--all")
    admin = AdminClient({"bootstrap.servers": real_kafka.bootstrap})
    [deleted] = admin.delete_topics([f"{scene.job.name}-dlq"], operation_timeout=SECONDS).values()
    deleted.result()
    fed(scene, ["reject-new-1", "reject-new-2"])  # the worker makes it again
    assert "2  in all" in commands.run("list")
    assert "2  replayed" in commands.run("replay", "--all")
