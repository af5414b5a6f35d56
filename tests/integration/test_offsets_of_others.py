"""Offsets, maps and topics that somebody else has changed: nothing lost, nothing half, and a line that says so."""

import json
import os
import signal
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.conftest import Topics
from tests.integration.alarms import reaches
from tests.integration.conftest import Scene, Scenes
from tests.integration.oracle import Commit
from tests.integration.workers import ASSIGNED, SECONDS, eventually, feed, identities
from tests.services.kafka import KafkaBroker, kept_feeder
from utils.joining.offsets import JoinedWith, OffsetMap, short_name
from utils.joining.references import Lot, Reference


def ids(number: int, prefix: str = "") -> list[str]:
    return [f"{prefix}{each}" for each in range(number)]


def admin(broker: KafkaBroker) -> AdminClient:
    return AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})


def run_once(scene: Scene) -> None:
    """Start a worker, have it join what there is, and stop it."""
    worker = scene.job.start().is_assigned()
    scene.wait_for_all(worker)
    assert worker.stop() == 0


def test_metadata_overwritten_by_another_tool_loses_nothing(real_kafka: KafkaBroker, scenes: Scenes) -> None:
    scene = scenes(real_kafka)
    a, b = scene.job.topics_input
    scene.feed(ids(100, "waiting-"), a)
    scene.feed(ids(100, "done-"))
    run_once(scene)
    commits = scene.job.commits()
    junk = ["junk of another tool", "", "x" * 4_000, None]  # a kind for each partition number; None: damaged
    scene.job.overwrite_commits(
        {
            (topic, number): (commit.offset, commit.metadata[:-12] if junk[number] is None else str(junk[number]))
            for (topic, number), commit in commits.items()
        }
    )
    scene.feed(ids(100, "waiting-"), b)
    run_once(scene)
    scene.judge()


def test_offsets_reset_to_the_beginning_by_another_tool_lose_nothing(real_kafka: KafkaBroker, scenes: Scenes) -> None:
    scene = scenes(real_kafka)
    a, b = scene.job.topics_input
    scene.feed(ids(100, "done-"))
    scene.feed(ids(100, "waiting-"), a)
    run_once(scene)
    scene.job.overwrite_commits(dict.fromkeys(scene.job.commits(), (0, "")))
    scene.feed(ids(100, "waiting-"), b)
    run_once(scene)
    scene.judge()


def test_records_deleted_before_they_were_read_are_an_error_line_and_the_rest_goes_on(
    real_kafka: KafkaBroker, scenes: Scenes
) -> None:
    scene = scenes(real_kafka, partitions=1)
    a, _b = scene.job.topics_input
    scene.feed(ids(50, "waiting-"), a)
    scene.feed(ids(10, "done-"))
    run_once(scene)
    scene.feed(ids(40, "deleted-"))
    scene.feed(ids(40, "kept-"))
    delete_records(real_kafka, a, before=100)
    worker = scene.job.start().is_assigned()
    scene.wait_for_kept(worker)
    assert worker.stop() == 0
    [line] = worker.said("deleted")
    assert (line["level"], line["topic"]) == ("ERROR", a)
    counted = worker.said("stopped")[0]
    assert (counted["skipped_by_retention"], counted["gone"]) == (40, 50)
    assert (line["from"], line["to"]) == (60, 100)
    given_up = [*ids(40, "deleted-"), *ids(50, "waiting-")]
    scene.judge(given_up=given_up)
    assert not scene.oracle.results.keys() & given_up


def delete_records(broker: KafkaBroker, topic: str, before: int) -> None:
    client = admin(broker)  # it must outlive its futures
    [deleted] = client.delete_records([TopicPartition(topic, 0, before)]).values()
    assert deleted.result(SECONDS).low_watermark == before


def test_records_deleted_under_a_worker_that_was_frozen_let_it_go_on_with_an_error_line(
    real_kafka: KafkaBroker, scenes: Scenes
) -> None:
    scene = scenes(real_kafka, partitions=1)
    scene.feed(ids(10, "done-"))
    worker = scene.job.start().is_assigned()
    scene.wait_for_all(worker)
    os.kill(worker.pid, signal.SIGSTOP)
    # A fetch waits at the broker, and its answer takes some of these with it: 1 MB of each partition at most, of 3 MB.
    feed(real_kafka, scene.oracle, ids(30, "deleted-"), pad=100_000)
    scene.feed(ids(40, "kept-"))
    for topic in scene.job.topics_input:
        delete_records(real_kafka, topic, before=40)
    os.kill(worker.pid, signal.SIGCONT)
    scene.wait_for_kept(worker)
    assert worker.stop() == 0
    said = {(line["level"], line["topic"], line["to"]) for line in worker.said("deleted")}
    assert said == {("ERROR", topic, 40) for topic in scene.job.topics_input}
    scene.judge(given_up=ids(30, "deleted-"))


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_what_a_worker_has_read_in_time_is_done_though_retention_overtakes_it_then(
    delivery: str, real_kafka: KafkaBroker, scenes: Scenes, tmp_path: Path
) -> None:
    """It started again: up to 8,000 ids before process() were lost, and all that waited."""
    blocked = tmp_path / "blocked"
    blocked.write_text("called-0")
    environment = {"PROCESS_BLOCKED": str(blocked), "MESSAGE_TIMEOUT": "3600", "DELIVERY": delivery}
    # Kafka does not miss it while it is frozen, however long that takes here.
    environment |= {"KAFKA_SESSION_TIMEOUT_MS": "60000", "KAFKA_TRANSACTION_TIMEOUT_MS": "50000"}
    scene = scenes(real_kafka, partitions=1, slow_process=True, environment=environment)
    a, b = scene.job.topics_input
    scene.feed(ids(20, "waiting-"), a)
    scene.feed(ids(100, "called-"))
    worker = scene.job.start().is_assigned()
    reaches(worker, "consumer_groups_in_flight", 100)
    reaches(worker, "consumer_groups_waiting", 20)
    os.kill(worker.pid, signal.SIGSTOP)
    feed(real_kafka, scene.oracle, ids(30, "deleted-"), pad=100_000)  # as above: some are read nevertheless
    scene.feed(ids(40, "kept-"))
    for topic, before in ((a, 20 + 130), (b, 130)):
        delete_records(real_kafka, topic, before)
    os.kill(worker.pid, signal.SIGCONT)
    blocked.unlink()
    eventually(lambda: len(worker.said("deleted")) == 2, "both are overtaken")
    scene.feed(ids(20, "waiting-"), b)
    scene.wait_for_kept(worker)
    assert worker.stop() == 0
    counted = worker.said("stopped")[0]
    assert (counted["restarts"], counted["gone"]) == (0, 0)
    scene.judge(given_up=ids(30, "deleted-"))


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
@pytest.mark.parametrize("stored", [False, True])
def test_commits_that_a_tool_has_brought_from_another_cluster_keep_their_offsets(
    real_kafka: KafkaBroker, scenes: Scenes, delivery: str, stored: bool
) -> None:
    """As MirrorMaker 2 leaves them: offsets of here, and the metadata of there, with topics of other identities."""
    scene = scenes(real_kafka, environment={"DELIVERY": delivery})
    a, b = scene.job.topics_input
    scene.feed(ids(100, "before-"))
    run_once(scene)
    scene.feed(ids(50, "waiting-"), a)
    scene.feed(ids(100, "done-"))
    run_once(scene)
    before = Counter(scene.oracle.results)
    scene.job.overwrite_commits(
        {at: (each.offset, brought_from_elsewhere(each, stored)) for at, each in scene.job.commits().items()}
    )
    scene.feed(ids(50, "waiting-"), b)
    worker = scene.job.start().is_assigned()
    scene.wait_for_all(worker)
    assert worker.stop() == 0
    lines = worker.said("the commit is of another cluster: reading on from its offset, without its map")
    assert len(lines) == sum(1 for each in scene.job.commits().values() if each.offset)
    assert not worker.said("made again")
    assert not worker.said("stored map")
    scene.judge()
    again = {id for id, results in scene.oracle.results.items() if results > before[id]}
    assert not [id for id in again if id.startswith("before-")], "below the commit nothing is read again"
    heads = [OffsetMap.parse(commit.metadata) for commit in scene.job.commits().values()]
    assert short_name("another cluster") not in {JoinedWith.parse(head.joined_with).cluster for head in heads if head}


def brought_from_elsewhere(commit: Commit, stored: bool) -> str:
    found = OffsetMap.parse(commit.metadata)
    assert found
    joined = JoinedWith.parse(found.joined_with)
    assert joined.cluster, "the map names the cluster that it was made on"
    there = joined._replace(cluster=short_name("another cluster")).encode()
    if stored:
        lot = Lot("a-writer", 1, 1)
        return Reference("id of there", there, found.base, lot, 0, None, 0, ("0" * 24,)).encode()
    return found._replace(topic_id="id of there", joined_with=there).encode()


@pytest.mark.parametrize("commits", ["forgotten by the broker", "with a map", "below the new end"])
def test_a_topic_made_again_under_the_same_name_is_read_from_its_beginning(
    real_kafka: KafkaBroker, scenes: Scenes, commits: str
) -> None:
    scene = scenes(real_kafka)
    a, _b = scene.job.topics_input
    waiting = ids(100, "waiting-") if commits == "with a map" else []
    scene.feed(waiting, a)  # they keep the committed offset down, so that the old map would cover the new records
    scene.feed(ids(400, "done-"))
    run_once(scene)
    old = {partition: commit for partition, commit in scene.job.commits().items() if partition[0] == a}
    make_again(real_kafka, a)
    if commits != "forgotten by the broker":  # by a worker that commits once more after the topic was made again
        scene.job.overwrite_commits({partition: (commit.offset, commit.metadata) for partition, commit in old.items()})
    scene.oracle.forget(a)
    scene.feed(ids(800, "new-"))
    run_once(scene)
    scene.judge(given_up=[*waiting, *ids(400, "done-")])


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_a_topic_made_again_while_the_worker_runs_is_read_from_its_beginning(
    real_kafka: KafkaBroker, scenes: Scenes, delivery: str
) -> None:
    """Frozen meanwhile, and not missed by the group, the worker sees no rebalance, nor that the topic was gone."""
    environment = {"DELIVERY": delivery, "KAFKA_SESSION_TIMEOUT_MS": "45000", "KAFKA_HEARTBEAT_INTERVAL_MS": "1000"}
    scene = scenes(real_kafka, environment=environment)
    a, b = scene.job.topics_input
    waiting = ids(50, "waiting-")
    scene.feed(ids(200, "done-"))
    scene.feed(waiting, b)
    worker = scene.job.start().is_assigned()
    scene.wait_for_all(worker)
    eventually(lambda: scene.job.lag() == 50, "all committed")
    os.kill(worker.pid, signal.SIGSTOP)
    make_again(real_kafka, a)
    scene.oracle.forget(a)
    scene.feed(ids(400, "new-"))
    scene.feed(waiting, a)
    os.kill(worker.pid, signal.SIGCONT)
    scene.wait_for_all(worker)
    [line] = worker.said("made again while it was read")
    assert (line["level"], line["topic"]) == ("ERROR", a)
    assert worker.stop() == 0
    run_once(scene)
    scene.judge(given_up=ids(200, "done-"), once=delivery == "exactly_once")


def make_again(broker: KafkaBroker, topic: str) -> None:
    """Returns when the broker, which hears of it after the controller, tells of the new topic."""
    client, former = admin(broker), identities(broker, [topic])
    client.delete_topics([topic])[topic].result(SECONDS)

    def created() -> bool:
        try:
            broker.create_topic(topic, 4)
        except Exception:  # it is not gone yet
            return False
        return True

    def is_another() -> bool:
        with suppress(KafkaException):  # between the two it knows of none
            return identities(broker, [topic]) != former
        return False

    eventually(created, f"{topic} made again", pause=0.2)
    eventually(is_another, f"another topic {topic}")
    kept_feeder.cache_clear()  # the old one numbers its records by what was there


def test_unequal_partition_counts_are_an_error_where_a_worker_does_not_own_all_partitions(
    real_kafka: KafkaBroker, scenes: Scenes, topics: Topics
) -> None:
    scene = scenes(real_kafka, 1)
    [wider] = topics(real_kafka, "wider", partitions=6)
    scene = scene.with_topics([*scene.job.topics_input, wider], scene.job.topics_output)
    scene.feed(ids(200))
    alone = scene.job.start()
    scene.wait_for_all(alone)  # one worker that owns them all may
    second = scene.job.start()
    both = alone, second
    ended = eventually(lambda: [each for each in both if each.process.poll() is not None], "one ended", 120)
    for worker in ended:
        assert worker.ends() == 78
        *_, line = worker.said("unequal partition counts")
        assert scene.job.topics_input[0] in line["message"]
        assert wider in line["message"]
        assert not worker.said("Traceback")
    for worker in (alone, second):
        worker.kill()
    scene.feed(ids(200, "later-"))
    last = scene.job.start()
    scene.wait_for_all(last)
    assert last.stop() == 0
    assert len(last.said(ASSIGNED)) == 1
    scene.judge()


def test_a_commit_above_an_open_transaction_is_not_beyond_the_end_of_the_log(
    real_kafka: KafkaBroker, scenes: Scenes
) -> None:
    """A tool that commits the end of the log knows nothing of transactions: all was processed a second time."""
    scene = scenes(real_kafka, 1, partitions=1)
    [topic] = scene.job.topics_input
    scene.feed(ids(10, "done-"))
    run_once(scene)
    upstream = Producer({"bootstrap.servers": real_kafka.bootstrap, "transactional.id": scene.job.name})
    upstream.init_transactions(SECONDS)
    upstream.begin_transaction()
    upstream.produce(topic, json.dumps({"id": "never"}), "never")
    upstream.flush(SECONDS)
    scene.job.overwrite_commits({(topic, 0): (11, "")})
    worker = scene.job.start().is_assigned()
    scene.feed(ids(10, "new-"))
    upstream.abort_transaction(SECONDS)
    scene.wait_for_all(worker)
    assert worker.stop() == 0
    assert not worker.said("beyond the end of the log")
    scene.judge(once=True)
