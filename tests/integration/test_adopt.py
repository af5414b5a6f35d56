"""`python main.py adopt`: a hand-written worker with a dict and auto-commit gives way to one of this frame; 0 lost."""

import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin._acl import AclOperation
from confluent_kafka.admin._resource import ResourceType
from sqlalchemy import NullPool, create_engine, text

from tests.conftest import grant
from tests.integration.conftest import Scene, Scenes
from tests.integration.test_rights import allow_all_again
from tests.integration.workers import Job, eventually, feed, feeder, short_session
from tests.program import program
from tests.services.kafka import KafkaBroker
from tests.services.starts import run_python
from utils.joining.references import ADOPTED

CLASSIC = Path(__file__).with_name("classic_skeleton.py")
WAIT = "60"  # seconds that the classic worker keeps a message


def adopted(scene: Scene, *options: str, code: int = 0) -> str:
    """What the command prints, or logs where it is refused."""
    command = ["main.py", "adopt", "--wait", WAIT, *options]
    done = run_python(command, program(), scene.job.whole_environment())
    assert done.returncode == code, done.stdout + done.stderr
    return done.stderr if code else done.stdout


@contextmanager
def classic(scene: Scene) -> "Iterator[subprocess.Popen[str]]":
    job = scene.job
    command = [sys.executable, str(CLASSIC), scene.broker.bootstrap, job.name]
    command += [",".join(job.topics_input), job.topics_output[0], WAIT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def feeding(scene: Scene) -> Iterator[None]:
    """A message every few ms, whose mate comes when twenty others have come."""
    ended, producer = threading.Event(), feeder(scene.broker)
    first, second = scene.job.topics_input

    def send(number: int, topic: str) -> None:
        if number >= 0:
            feed(scene.broker, scene.oracle, [f"live-{number}"], [topic], producer=producer)

    def send_all() -> None:
        for number in itertools.count():
            send(number, first)
            send(number - 20, second)
            if ended.is_set():
                break
        for late in range(number - 19, number + 1):
            send(late, second)

    thread = threading.Thread(target=send_all)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_of_a_classic_worker_that_is_adopted_while_a_feed_runs_nothing_is_lost(
    real_kafka: KafkaBroker, scenes: Scenes, tmp_path: Path
) -> None:
    scene = scenes(real_kafka)
    by_hand = create_engine(f"sqlite:///{tmp_path}/{scene.job.name}.db")
    with by_hand.begin() as connection:  # a table as somebody made it by hand, with other types, and a note
        [row] = connection.execute(text("SELECT * FROM consumer_configs")).mappings()
        connection.execute(text("DROP TABLE consumer_configs"))
        columns = "id BIGINT, consumer_name VARCHAR(64), topics_input VARCHAR(255), topics_output VARCHAR(255),"
        columns += " kafka_bootstrap_server VARCHAR(255), metadatas JSON"
        connection.execute(text(f"CREATE TABLE consumer_configs ({columns})"))
        values = {**row, "metadatas": "ask the team of payments"}
        names = ", ".join(f":{name}" for name in values)
        connection.execute(text(f"INSERT INTO consumer_configs ({', '.join(values)}) VALUES ({names})"), values)
    by_hand.dispose()
    [first, second] = scene.job.topics_input
    with feeding(scene):
        scene.feed([f"waits-{each}" for each in range(50)], first)
        scene.feed([f"early-{each}" for each in range(200)])
        with classic(scene) as process:
            scene.outputs.wait(lambda: len(scene.oracle.results) >= 210)
            problem = adopted(scene, code=78)
            assert "has members" in problem
            assert "stop all of the former worker first" in problem
            process.terminate()
            assert process.wait(30) == 0
        before = scene.job.commits()
        assert "would be adopted" in adopted(scene, "--dry-run")
        assert scene.job.commits() == before
        assert "is adopted" in adopted(scene)
        assert "is adopted already" in adopted(scene, code=78)
        worker = scene.job.start().is_assigned()
        scene.feed([f"waits-{each}" for each in range(50)], second)
    scene.wait_for_all(worker)
    assert worker.said("taken for a note")
    assert worker.stop() == 0
    scene.judge()
    assert "just start it" in adopted(scene, code=78)


# As people have made it by hand: columns with their types, and what stands in metadatas.
SHORT = "consumer_name VARCHAR(64), topics_input VARCHAR(255), topics_output VARCHAR(255),"
SHORT += " kafka_bootstrap_server VARCHAR(255)"
TABLES = {
    "JSON, NULL": (f"id BIGINT PRIMARY KEY AUTO_INCREMENT, {SHORT}, metadatas JSON", None),
    "JSON, an object": (f"id CHAR(36), {SHORT}, metadatas JSON", '{"owner": "payments", "message_timeout": 61}'),
    "JSON, a text": (f"{SHORT}, metadatas JSON", '"ask the team of payments"'),
    "JSON, a list": (f"{SHORT}, metadatas JSON", '["payments", {"since": 2019}]'),
    "JSON, null": (f"{SHORT}, metadatas JSON", "null"),
    "a note": (f"{SHORT}, metadatas MEDIUMTEXT", "bitte Team Zahlungen fragen: 30 Sek. sind genug"),
    "empty": (f"{SHORT} NOT NULL, metadatas VARCHAR(1000) NOT NULL, made TIMESTAMP DEFAULT NOW()", ""),
    "old letters": (f"{SHORT}, metadatas TEXT CHARACTER SET latin1", "für Aufträge"),
    "bytes": (
        "consumer_name VARBINARY(64), topics_input BLOB, topics_output LONGTEXT,"
        " kafka_bootstrap_server CHAR(200) CHARACTER SET ascii, metadatas LONGBLOB",
        '{"message_timeout": 61}',
    ),
}


def _has_committed(consumer: Consumer, offset: TopicPartition) -> bool:
    """False while the coordinator of a new group is not ready."""
    try:
        consumer.commit(offsets=[offset], asynchronous=False)
    except KafkaException:
        return False
    return True


TALKATIVE = """
import sys, main
from utils.reading import fetching
fetching.TOLD_AGAIN = 0.0
sys.exit(main.main())
"""


def test_a_worker_waits_for_the_end_of_another_program_in_its_consumer_group(
    real_kafka: KafkaBroker, scenes: Scenes
) -> None:
    """The classic worker that somebody has forgotten: Kafka takes no member that assigns in another way."""
    scene = scenes(real_kafka)
    group = {"bootstrap.servers": real_kafka.bootstrap, "group.id": scene.job.name}
    other = Consumer({**group, "partition.assignment.strategy": "roundrobin"})
    other.subscribe([*scene.job.topics_input])
    eventually(lambda: [other.poll(0.1), other.assignment()][1], "its partitions")
    worker = scene.job.start(main=("-c", TALKATIVE))
    worker.says("another program in the consumer group assigns partitions in another way")
    worker.says("another program in the consumer group assigns partitions in another way", times=2)
    other.close()
    worker.is_assigned()
    scene.feed(["1"])
    scene.wait_for_all(worker)
    assert not worker.said("starting again")
    assert worker.stop() == 0


@pytest.mark.parametrize("table", TABLES)
def test_a_table_is_adopted_as_somebody_has_made_it(
    real_kafka: KafkaBroker, mariadb_url: str, scenes: Scenes, table: str
) -> None:
    columns, metadatas = TABLES[table]
    scene = scenes(real_kafka, environment={"DATABASE_URL": mariadb_url}, partitions=1)
    first, second = scene.job.topics_input
    scene.feed(["waits"], first)
    by_hand = Consumer({"bootstrap.servers": real_kafka.bootstrap, "group.id": scene.job.name})
    eventually(lambda: _has_committed(by_hand, TopicPartition(first, 0, 1)), "the offset of the worker by hand")
    by_hand.close()
    row = {
        "consumer_name": scene.job.name,
        "topics_input": f"{first}, {second}",
        "topics_output": scene.job.topics_output[0],
        "kafka_bootstrap_server": real_kafka.bootstrap,
        "metadatas": metadatas,
    }
    database = create_engine(mariadb_url, poolclass=NullPool)
    with database.begin() as connection:
        connection.execute(text(f"CREATE TABLE consumer_configs ({columns})"))
        names = ", ".join(f":{name}" for name in row)
        connection.execute(text(f"INSERT INTO consumer_configs ({', '.join(row)}) VALUES ({names})"), row)
        before = connection.execute(text("SELECT * FROM consumer_configs")).all()
    assert f"{first}:0  1 -> 0  (1 are read again)" in adopted(scene)
    worker = scene.job.start().is_assigned()
    scene.feed(["waits"], second)
    scene.wait_for_all(worker)
    assert bool(worker.said("taken for a note")) is (metadatas or "").startswith(("bitte", "für"))
    assert worker.stop() == 0
    scene.judge(once=True)
    with database.begin() as connection:
        assert connection.execute(text("SELECT * FROM consumer_configs")).all() == before


def test_without_it_what_waited_would_be_lost(real_kafka: KafkaBroker, scenes: Scenes) -> None:
    """The reason for the command, so that the test above can fail."""
    scene = scenes(real_kafka)
    [first, second] = scene.job.topics_input
    scene.feed(["waits"], first)
    scene.feed(["early"])
    with classic(scene) as process:
        scene.outputs.wait(lambda: "early" in scene.oracle.results)
        process.terminate()
        process.wait(30)
    committed = eventually(scene.job.commits, "a commit")
    assert sum(each.offset for each in committed.values()) == 3
    scene.feed(["waits", "late"], second)
    scene.feed(["late"], first)
    worker = scene.job.start().is_assigned()
    scene.outputs.wait(lambda: "late" in scene.oracle.results, worker)
    assert scene.oracle.missing() == {"waits"}


def test_for_a_worker_that_was_behind_the_wait_is_counted_from_the_last_record_that_it_had_committed(
    real_kafka: KafkaBroker, scenes: Scenes
) -> None:
    scene = scenes(real_kafka)
    producer, began = feeder(scene.broker), int(time.time() - 3600) * 1000
    topic = scene.job.topics_input[0]
    for each in range(40):  # one in 6 s
        at = {"partition": 0, "timestamp": began + each * 6000}
        feed(scene.broker, scene.oracle, [str(each)], [topic], **at, producer=producer)
    scene.job.overwrite_commits({(topic, 0): (30, "")})
    assert f"{topic}:0  30 -> 19  (11 are read again)" in adopted(scene)


def test_what_has_just_come_with_the_time_of_its_event_is_read_again(real_kafka: KafkaBroker, scenes: Scenes) -> None:
    """By its timestamp it had come before the longest wait, so nothing was read again: what waited was lost."""
    scene = scenes(real_kafka, partitions=1)
    first, second = scene.job.topics_input
    producer, event = feeder(scene.broker), int(time.time() - 7200) * 1000
    feed(scene.broker, scene.oracle, ["waits"], [first], timestamp=event, producer=producer)
    feed(scene.broker, scene.oracle, ["early"], [first, second], timestamp=event + 1000, producer=producer)
    scene.job.overwrite_commits({(first, 0): (2, ""), (second, 0): (1, "")})
    assert f"{first}:0  2 -> 2  (0 are read again)" in adopted(scene, "--dry-run", "--wait", "0")
    assert f"{first}:0  2 -> 0  (2 are read again)" in adopted(scene)


def test_a_group_without_commits_of_the_inputs_is_not_adopted(real_kafka: KafkaBroker, scenes: Scenes) -> None:
    """By a slip in --group all of history would be processed again."""
    scene = scenes(real_kafka)
    scene.feed(["1"])
    for dry in ((), ("--dry-run",)):
        problem = adopted(scene, "--group", "clasic-old", *dry, code=78)
        assert "consumer group clasic-old has no commit of" in problem
        assert "say with --group what its group.id was" in problem
    assert not scene.job.commits()


def test_a_commit_beyond_the_end_of_the_log_is_named_and_not_adopted(real_kafka: KafkaBroker, scenes: Scenes) -> None:
    scene = scenes(real_kafka, partitions=1)
    scene.feed(["1"])
    first, second = scene.job.topics_input
    scene.job.overwrite_commits({(first, 0): (9999, ""), (second, 0): (1, "")})
    problem = adopted(scene, code=78)
    assert f"{first}:0  9999 is beyond the end of the log, 1" in problem
    assert "--reset-offsets" in problem
    assert f"{second}:0  1 is" not in problem
    scene.job.overwrite_commits({(first, 0): (1, "")})
    assert "is adopted" in adopted(scene)


def test_history_of_a_partition_without_a_commit_is_not_sent_unless_somebody_wants_it(
    real_kafka: KafkaBroker, scenes: Scenes
) -> None:
    """A worker with auto.offset.reset=latest, of a partition to which nothing came: its whole history was sent."""
    scene = scenes(real_kafka, partitions=2)
    first, second = scene.job.topics_input
    an_hour_ago = int(time.time() - 3600) * 1000
    feed(scene.broker, scene.oracle, ["1", "2"], [first], partition=1, timestamp=an_hour_ago)
    scene.feed(["3"])
    scene.job.overwrite_commits({(first, 0): (0, ""), (second, 0): (0, "")})
    for dry in (("--dry-run",), ()):
        problem = adopted(scene, *dry, code=78)
        assert f"has no commit of {first}:1 (2), where older messages lie: say --unread skip" in problem
    told = adopted(scene, "--unread", "read", "--dry-run")
    assert f"{first}:1  no commit: it is read from its beginning" in told
    told = adopted(scene, "--unread", "skip")
    assert f"{first}:1  no commit -> 2  (2 older messages are skipped)" in told
    assert scene.job.commits()[first, 1].offset == 2
    assert "is adopted already" in adopted(scene, code=78)


def test_nor_where_an_earlier_run_has_adopted_all_others(real_kafka: KafkaBroker, scenes: Scenes) -> None:
    """It was called adopted already. Brokers had carried out the rest of the commit, or --unread was read at first."""
    scene = scenes(real_kafka, partitions=2)
    first, second = scene.job.topics_input
    an_hour_ago = int(time.time() - 3600) * 1000
    feed(scene.broker, scene.oracle, ["1", "2"], [first], partition=1, timestamp=an_hour_ago)
    scene.job.overwrite_commits(dict.fromkeys(((first, 0), (second, 0), (second, 1)), (0, ADOPTED)))
    assert "is adopted already" in adopted(scene, "--unread", "read", code=78)
    assert f"{first}:1  no commit -> 2  (2 older messages are skipped)" in adopted(scene, "--unread", "skip")
    assert "is adopted already" in adopted(scene, "--unread", "skip", code=78)


def test_who_lacks_a_right_adopts_nothing(guarded_kafka: KafkaBroker, scenes: Scenes) -> None:
    """The commit was carried out for the one topic and refused for the other, and so was each later run: "is adopted
    already: just start it". What had waited in the other topic was lost then.
    """
    scene = scenes(guarded_kafka, partitions=1)
    first, second = scene.job.topics_input
    scene.feed(["waits-1", "waits-2"], first)
    scene.feed(["pays-1", "pays-2"], second)
    scene.job.overwrite_commits({(first, 0): (2, ""), (second, 0): (2, "")})
    before = scene.job.commits()
    grant(guarded_kafka, ResourceType.TOPIC, second, AclOperation.DESCRIBE)
    for dry in (("--dry-run",), ()):
        assert f"no right to READ topic {second}: kafka-acls.sh" in adopted(scene, *dry, code=78)
    assert scene.job.commits() == before
    allow_all_again(guarded_kafka, second)
    eventually(lambda: "would be adopted" in adopted(scene, "--dry-run"), "the right is there")
    assert "is adopted" in adopted(scene)
    assert {each.offset for each in scene.job.commits().values()} == {0}


def test_who_may_not_see_the_outputs_may_adopt(guarded_kafka: KafkaBroker, scenes: Scenes) -> None:
    """It was told to create them."""
    scene = scenes(guarded_kafka, partitions=1)
    first, second = scene.job.topics_input
    scene.feed(["1"])
    scene.job.overwrite_commits({(first, 0): (1, ""), (second, 0): (1, "")})
    for topic in scene.job.topics_output:
        grant(guarded_kafka, ResourceType.TOPIC, topic, AclOperation.DESCRIBE_CONFIGS)  # and nothing else any more
    assert "would be adopted" in adopted(scene, "--dry-run")


def test_what_was_adopted_in_part_is_adopted_in_whole(real_kafka: KafkaBroker, scenes: Scenes) -> None:
    scene = scenes(real_kafka, partitions=1)
    first, second = scene.job.topics_input
    scene.feed(["1", "2"])
    scene.job.overwrite_commits({(first, 0): (1, ADOPTED), (second, 0): (2, "")})
    told = adopted(scene)
    assert f"{second}:0  2 -> 0  (2 are read again)" in told
    assert f"{first}:0" not in told
    assert "an earlier run has adopted the other partitions" in told
    assert {at: each.offset for at, each in scene.job.commits().items()} == {(first, 0): 1, (second, 0): 0}
    assert "is adopted already" in adopted(scene, code=78)


def test_a_partition_without_a_commit_is_no_part_that_is_left(real_kafka: KafkaBroker, scenes: Scenes) -> None:
    scene = scenes(real_kafka, partitions=1)
    scene.feed(["1"])
    scene.job.overwrite_commits({(scene.job.topics_input[0], 0): (1, "")})
    assert "no commit: it is read from its beginning" in adopted(scene)
    assert "is adopted already" in adopted(scene, code=78)


def test_a_consumer_of_this_frame_that_is_renamed_goes_on_by_the_commits_of_its_old_name(
    real_kafka: KafkaBroker, scenes: Scenes, tmp_path: Path
) -> None:
    """As docs/change-the-row.md says: by its new name alone it would process all that the topics hold once more."""
    scene = scenes(real_kafka)
    scene.feed([f"before-{each}" for each in range(100)])
    worker = scene.job.start().is_assigned()
    scene.wait_for_all(worker)
    eventually(lambda: scene.job.lag() == 0, "nothing waits")
    assert worker.stop() == 0
    job = scene.job
    environment = short_session(real_kafka)
    with Job(
        real_kafka, f"{job.name}-new", job.topics_input, job.topics_output, tmp_path, environment=environment
    ) as new:
        command = ["main.py", "adopt", "--wait", "0", "--group", job.name]
        done = run_python(command, program(), new.whole_environment())
        assert done.returncode == 0, done.stdout + done.stderr
        worker = new.start().is_assigned()
        scene.feed([f"after-{each}" for each in range(20)])
        scene.wait_for_all(worker)
        assert worker.stop() == 0
        scene.outputs.read_to_the_end()
        scene.oracle.judge(new.commits()).require(once=True)
