"""`fleet` on real Kafka: what it says of each consumer is what was done to it."""

import os
import signal
from pathlib import Path

from confluent_kafka.admin._acl import AclOperation
from confluent_kafka.admin._resource import ResourceType

from tests.conftest import Topics, grant
from tests.integration.oracle import Oracle
from tests.integration.platform import Platform
from tests.integration.workers import eventually, feed, feed_raw, short_session
from tests.program import FORWARDING, copied
from tests.services.kafka import KafkaBroker, unique_name
from tests.services.processes import free_port
from utils.fleet.verdicts import READS_AT_LEAST_EVERY
from utils.joining.offsets import JoinedWith, OffsetMap, short_name, topic_tags
from utils.joining.states import FINISHED, UNFINISHED, States

PATIENT = {"KAFKA_SESSION_TIMEOUT_MS": "60000"}  # a frozen worker stays in its group


def test_each_consumer_is_told_as_it_is(real_kafka: KafkaBroker, topics: Topics, tmp_path: Path) -> None:
    a, b, c, d = topics(real_kafka, "a", "b", "c", "d", partitions=2)
    joins, frozen, killed, never = map(unique_name, ("joins", "frozen", "killed", "never"))
    with Platform(real_kafka, tmp_path) as platform:
        once = {"DELIVERY": "exactly_once"}
        joining = platform.job(joins, [a, b], [c], once)
        other = copied(tmp_path / "other", FORWARDING)
        (other / ".frame").write_text("version: 1.2.0\n")
        joining.run_program(other)
        alive = joining.start()
        asleep = platform.job(frozen, [c], [d], {**PATIENT, **once}).start()
        dead = platform.job(killed, [c], [d], short_session(real_kafka)).start()
        platform.job(never, [d], [])
        platform.row("bad", "", d)
        platform.row("missing", d, f"{d}-nowhere")
        platform.row("away", a, b, f"127.0.0.1:{free_port()}")
        for worker in (alive, asleep, dead):
            worker.is_assigned()
        oracle = Oracle((a, b))
        feed(real_kafka, oracle, [str(each) for each in range(40)])
        jobs = [platform.jobs[name] for name in (joins, frozen, killed)]  # the first makes what the others read
        eventually(lambda: all(job.lag() == 0 for job in jobs), "all committed")
        dead.kill()
        os.kill(asleep.pid, signal.SIGSTOP)
        feed(real_kafka, oracle, [f"more-{each}" for each in range(20)])
        feed(real_kafka, oracle, [f"alone-{each}" for each in range(7)], [a])
        feed_raw(real_kafka, oracle, a, [b"no json", b"[]"])

        def has_stood_still() -> bool:
            seen = platform.look("--apart", "0.5", joins, frozen, killed).seen
            return seen[frozen].state == "standing still" and seen[killed].state == "nobody there"

        eventually(has_stood_still, "seen to stand still", READS_AT_LEAST_EVERY + 30)
        code, seen = platform.look()
        assert code == 1
        assert {name: each.state for name, each in seen.items()} == {
            joins: "idle",
            frozen: "standing still",
            killed: "nobody there",
            never: "no commit",
            "bad": "row no good",
            "missing": "row no good",
            "away": "not seen",
        }
        assert (seen[joins].unread, seen[joins].unfinished, seen[joins].waits) == (0, 7, True)
        letters = seen[joins].letters
        assert letters is not None
        assert (letters.count, letters.reason) == (2, "invalid_message")
        assert [each.host for each in seen[joins].members] == ["127.0.0.1"]
        assert seen[joins].frames == ("1.2.0",)
        assert seen[joins].members[0].partitions == {a: (0, 1), b: (0, 1)}
        assert 20 <= (seen[frozen].unread or 0) <= 60  # with the markers of the transactions that they came in
        assert seen[killed].unread == seen[frozen].unread
        assert [each.level for each in seen.values()] == ["bad"] * 6 + ["warning"]
        asleep.process.send_signal(signal.SIGCONT)
        eventually(lambda: platform.look("--apart", "0.5", frozen).seen[frozen].state == "idle", "awake again")
        assert platform.look(joins, frozen).code == 0


def test_a_commit_that_a_tool_has_brought_from_another_cluster_is_read_on_from_its_offset(
    real_kafka: KafkaBroker, topics: Topics, tmp_path: Path
) -> None:
    a, out = topics(real_kafka, "a", "out", partitions=1)
    name = unique_name("brought")
    of_there = JoinedWith(topic_tags([a]), 1, cluster=short_name("there"))
    waited = OffsetMap("id of a there", 4, 0, 0, States.of((UNFINISHED, FINISHED), 4), of_there.encode())
    with Platform(real_kafka, tmp_path) as platform:
        job = platform.job(name, [a], [out])
        feed(real_kafka, Oracle((a,)), [str(each) for each in range(10)])
        job.overwrite_commits({(a, 0): (4, waited.encode())})
        found = platform.look(name).seen[name]
        assert (found.unread, found.unfinished) == (6, 0)
        assert "was made again" not in found.sentence


def test_to_look_needs_no_more_than_the_rights_that_the_documents_list(
    guarded_kafka: KafkaBroker, topics: Topics, tmp_path: Path
) -> None:
    a, out = topics(guarded_kafka, "a", "out", partitions=2)
    name = unique_name("guarded")
    with Platform(guarded_kafka, tmp_path) as platform:
        worker = platform.job(name, [a], [out]).start().is_assigned()
        oracle = Oracle((a,))
        feed(guarded_kafka, oracle, ["1", "2"])
        feed_raw(guarded_kafka, oracle, a, [b"no json"])
        eventually(lambda: platform.jobs[name].lag() == 0, "all committed")
        assert worker.stop() == 0
        for topic in (a, out):
            grant(guarded_kafka, ResourceType.TOPIC, topic, AclOperation.DESCRIBE)
        grant(guarded_kafka, ResourceType.TOPIC, f"{name}-dlq", AclOperation.READ)
        for group in (name, f"{name}-dlq-replay"):
            grant(guarded_kafka, ResourceType.GROUP, group, AclOperation.DESCRIBE)
        found = platform.look().seen[name]
        assert (found.state, found.unread) == ("nobody there", 0)
        assert found.letters is not None
        assert found.letters.count == 1
        grant(guarded_kafka, ResourceType.TOPIC, hidden := f"{name}-hidden", AclOperation.DESCRIBE_CONFIGS)
        platform.row("hidden", hidden, out)
        assert platform.look("hidden").seen["hidden"].state == "not seen"
