"""The row is edited while two workers join a steady feed, on real Kafka: every id once, none half, none given up."""

import time
from pathlib import Path
from urllib.request import urlopen

import msgspec
import pytest

from tests.conftest import Topics
from tests.integration.accounts import records
from tests.integration.conftest import PROCESS, Scenes
from tests.integration.oracle import Oracle
from tests.integration.stream import Records, Stream, found
from tests.integration.workers import Job, Worker, eventually, feed
from tests.program import program
from tests.services.kafka import KafkaBroker, unique_name
from tests.services.starts import run_python

CHANGED = "the row has changed: the worker starts again with it"
OUTDATED = "reading the row again"
REFUSED = "the row has changed and is no good: the old one stays"
RATE = 150.0  # ids a second
ENVIRONMENT = {"CONFIG_REFRESH": "1", "MESSAGE_TIMEOUT": "3"}


def both_have(workers: list[Worker], partitions: int) -> None:
    """Wait until two workers share so many partitions by halves."""

    def shared() -> bool:
        last = [worker.said("partitions assigned")[-1:] for worker in workers]
        return all(lines and len(lines[0]["partitions"]) == partitions // 2 for lines in last)

    eventually(shared, "both have their half")


def applied(workers: list[Worker], times: int, partitions: int) -> None:
    for worker in workers:
        worker.says(CHANGED, times)
    both_have(workers, partitions)


def test_topics_are_added_and_removed_while_messages_flow_through_two_workers(
    real_kafka: KafkaBroker, topics: Topics, tmp_path: Path
) -> None:
    a, b, c, out, more = topics(real_kafka, "a", "b", "c", "out", "more")
    with (
        Job(real_kafka, unique_name("job"), [a, b], [out], tmp_path, environment=ENVIRONMENT) as job,
        Stream(real_kafka, [a, b, c], RATE) as stream,
    ):
        workers = [job.start(), job.start()]
        both_have(workers, 8)
        job.write_row([a, b], [out, more])
        applied(workers, 1, 8)
        begun = stream.sent
        job.write_row([a, b, c])
        applied(workers, 2, 12)
        eventually(lambda: stream.sent > begun + 5 * RATE, "a while with three topics")
        job.write_row([a, c])
        applied(workers, 3, 8)
        begun = stream.sent
        eventually(lambda: stream.sent > begun + 2 * RATE, "a while with the other two")
        sent = stream.end()
        eventually(lambda: not any(at.waiting for at in job.commits().values()) and not job.lag(), "all done")
        assert [worker.stop() for worker in workers] == [0, 0]
        results, letters = Records.of(real_kafka, out), Records.of(real_kafka, f"{job.name}-dlq")
        verdict = found(sent, results, letters, [(a, b), (a, b, c), (a, c)])
        assert verdict.good, str(verdict)
        assert len(verdict.joined) == 3, str(verdict)
        copies = Records.of(real_kafka, more)
        assert {id for id, values in copies.values.items() if len(values) > 1} == set()
        assert copies.values.keys() >= {f"id-{number}" for number in range(begun, sent)}
        restarts = [worker.said("stopped")[0]["restarts"] for worker in workers]
        assert restarts == [0, 0]


def test_a_bad_row_leaves_the_old_one_in_force_and_is_mended_without_a_restart(
    real_kafka: KafkaBroker, scenes: Scenes
) -> None:
    scene = scenes(real_kafka, environment={"CONFIG_REFRESH": "1"})
    job = scene.job
    good, worker = job.topics_input, job.start().is_assigned()
    job.write_row([*good, "no-such-topic"])
    line = worker.says(REFUSED)
    assert "topic no-such-topic of topics_input does not exist" in line["problems"][0]
    assert refused(worker) == 1
    scene.feed(["1", "2"])
    scene.wait_for_all(worker)
    job.write_row(good)
    eventually(lambda: refused(worker) == 0, "the row is good again")
    scene.feed(["3", "4"])
    scene.wait_for_all(worker)
    assert worker.stop() == 0
    assert not worker.said(CHANGED)
    scene.judge(once=True)


NOT_TOLD = """
import sys
import main
from utils.kafka import preflight
preflight._session_timeouts = lambda told: None  # as where the user may not ask the broker for its configuration
sys.exit(main.main())
"""


def test_a_row_that_only_running_shows_to_be_bad_gives_way_to_the_old_one(
    real_kafka: KafkaBroker, scenes: Scenes
) -> None:
    scene = scenes(real_kafka, environment={"CONFIG_REFRESH": "1"})
    worker = scene.job.start(main=("-c", NOT_TOLD)).is_assigned()
    scene.job.write_row(metadatas='{"kafka": {"session.timeout.ms": 100, "heartbeat.interval.ms": 30}}')
    worker.says(CHANGED)
    line = worker.says(REFUSED)
    assert "Kafka refuses a setting" in line["problems"][0]
    worker.is_assigned(times=2)
    assert refused(worker) == 1
    scene.feed(["1", "2"])
    scene.wait_for_all(worker)
    scene.job.write_row(metadatas="")
    eventually(lambda: refused(worker) == 0, "the row is good again")
    assert worker.stop() == 0
    scene.judge(once=True)


def test_a_worker_that_gets_partitions_of_one_with_a_newer_row_joins_nothing_by_the_older_one(
    real_kafka: KafkaBroker, topics: Topics, tmp_path: Path
) -> None:
    a, b, c, out = topics(real_kafka, "a", "b", "c", "out")
    with Job(real_kafka, unique_name("job"), [a, b], [out], tmp_path, environment={"CONFIG_REFRESH": "0"}) as job:
        older = job.start().is_assigned()
        job.write_row([a, b, c])
        newer = job.start()
        eventually(lambda: len(newer.said("partitions assigned")) == 1, "the newer one has its part")
        with Stream(real_kafka, [a, b], 200) as stream:
            eventually(lambda: stream.sent >= 400, "ids that lack the third topic")
        sent = stream.end()
        eventually(lambda: sum(len(at.waiting) for at in job.commits().values()) > sent / 2, "half of them wait")
        assert newer.stop() == 0
        older.says(OUTDATED)
        older.says(CHANGED)
        eventually(lambda: len(older.said("partitions assigned")[-1]["partitions"]) == 12, "it has all of them")
        with Stream(real_kafka, [c], 4 * sent) as rest:
            eventually(lambda: rest.sent >= sent, "the third topic")
        rest.end()
        eventually(lambda: results(real_kafka, out) >= sent, "all results")
        assert older.stop() == 0
        found_in_the_end = Records.of(real_kafka, out)
        verdict = found(sent, found_in_the_end, Records.of(real_kafka, f"{job.name}-dlq"), [(a, b), (a, b, c)])
        assert verdict.good, str(verdict)
        assert min(verdict.joined[tuple(sorted(each))] for each in ([a, b], [a, b, c])) > sent / 4, str(verdict)


AHEAD = """
import sys, time
from pathlib import Path
right, wrong = time.time, Path(sys.argv.pop(1))
time.time = lambda: right() + 86_400 * wrong.exists()
import main
sys.exit(main.main())
"""


def test_a_clock_that_was_a_day_ahead_when_the_row_was_read_keeps_no_changed_row_away(
    real_kafka: KafkaBroker, topics: Topics, tmp_path: Path
) -> None:
    a, b, c, out = topics(real_kafka, "a", "b", "c", "out")
    wrong = tmp_path / "wrong"
    wrong.touch()
    with Job(real_kafka, unique_name("job"), [a, b], [out], tmp_path, environment={"CONFIG_REFRESH": "1"}) as job:

        def joins(*row: str) -> None:
            feed(real_kafka, Oracle(row), [f"{len(row)}-{row[1]}"])
            eventually(lambda: f"{len(row)}-{row[1]}" in Records.of(real_kafka, out).values, "a result")
            eventually(lambda: not job.lag(), "it is committed")

        worker = job.start(main=("-c", AHEAD, str(wrong))).is_assigned()
        joins(a, b)
        wrong.unlink()
        job.write_row([a, b, c])
        worker.says(CHANGED)
        worker.says("reading a new input topic")  # else the one before may still join the first two of them
        joins(a, b, c)
        assert not worker.said(OUTDATED)
        assert worker.stop() == 0
        job.write_row([a, c])
        worker = job.start()
        joins(a, c)
        assert worker.stop() == 0
        assert len(worker.said(OUTDATED)) == 1, "a look at the row after that at the commits settles it"


def results(broker: KafkaBroker, topic: str) -> int:
    return len(Records.of(broker, topic).values)


def refused(worker: Worker) -> int:
    """As an alert sees it."""
    with urlopen(worker.says("row loaded")["status"] + "metrics") as answer:
        lines = answer.read().decode().splitlines()
    [value] = [line.rpartition(" ")[2] for line in lines if line.startswith("consumer_row_refused{")]
    return int(float(value))


def test_what_comes_to_an_added_topic_when_the_row_is_known_is_read_whatever_its_timestamps_say(
    real_kafka: KafkaBroker, topics: Topics, tmp_path: Path
) -> None:
    a, b, c, out = topics(real_kafka, "a", "b", "c", "out")
    blocked, oracle, long_ago = tmp_path / "blocked", Oracle((a, b, c)), int((time.time() - 7200) * 1000)
    blocked.touch()
    environment = {**ENVIRONMENT, "PROCESS_BLOCKED": str(blocked), "SHUTDOWN_TIMEOUT": "15"}
    with Job(real_kafka, unique_name("job"), [a, b], [out], tmp_path, process=PROCESS, environment=environment) as job:
        feed(real_kafka, oracle, ["before"], [a, b])
        worker = job.start()
        eventually(lambda: sum(len(each.waiting) for each in job.commits().values()) == 2, "a call that lasts")
        job.write_row([a, b, c])
        worker.says(CHANGED)  # it has to wait for the call before it can begin by the new row
        ids = [str(number) for number in range(20)]
        feed(real_kafka, oracle, ids, [a, b])
        feed(real_kafka, oracle, ids, [c], timestamp=long_ago)
        blocked.unlink()
        eventually(lambda: len(records(real_kafka, [out])) == 21, "all results")
        contents = [msgspec.json.decode(each.value())["content"] for each in records(real_kafka, [out])]
        assert sorted(c in content for content in contents) == [False] + [True] * 20
        assert worker.stop() == 0


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_a_topic_that_is_added_while_the_others_lag_is_read_from_where_they_are(
    real_kafka: KafkaBroker, topics: Topics, tmp_path: Path, delivery: str
) -> None:
    a, b, c, out = topics(real_kafka, "a", "b", "c", "out")
    environment = {"MESSAGE_TIMEOUT": "3", "DELIVERY": delivery}
    long_ago, since_then = (int((time.time() - age) * 1000) for age in (7200, 3600))
    with Job(real_kafka, unique_name("job"), [a, b], [out], tmp_path, environment=environment) as job:
        joined, added = [str(number) for number in range(20)], [f"later-{number}" for number in range(20)]
        feed(real_kafka, Oracle((a, b, c)), joined, timestamp=long_ago)
        worker = job.start()
        eventually(lambda: results(real_kafka, out) == 20, "what is joined without the third topic")
        assert worker.stop() == 0
        feed(real_kafka, Oracle((a, b, c)), added, timestamp=since_then)
        job.write_row([a, b, c])
        worker = job.start()
        eventually(lambda: results(real_kafka, out) == 40, "what came while no worker ran")
        assert worker.stop() == 0
        contents = {id: values for id, values in Records.of(real_kafka, out).values.items() if id in added}
        assert all(set(msgspec.json.decode(value)["content"]) == {a, b, c} for [value] in contents.values())
        assert worker.said("stopped")[0]["evicted"] == 0
        left_out = worker.said("older records of a new input topic are not read")
        assert sum(line["to"] - line["from"] for line in left_out) == 20


def test_a_worker_whose_row_is_in_another_database_is_told_of(
    real_kafka: KafkaBroker, topics: Topics, tmp_path: Path
) -> None:
    """In one consumer group with us it reads what we must join: nothing is lost, and nothing goes on."""
    a, b, c, out = topics(real_kafka, "a", "b", "c", "out", partitions=2)
    name, elsewhere = unique_name("job"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    with (
        Job(real_kafka, name, [a, b], [out], tmp_path) as job,
        Job(real_kafka, name, [a, c], [out], elsewhere) as other,
    ):
        workers = [job.start().is_assigned(), other.start()]
        for worker in workers:
            line = worker.says("another member of the consumer group joins other topics")
            assert line["shared"] == [a]
            assert "another database" in line["cure"]
        eventually(lambda: f"reads {c}, which is not in the row" in fleet(job), "told by fleet")
        assert f"reads {b}, which is not in the row" in fleet(other)


def fleet(job: Job) -> str:
    return run_python(["main.py", "fleet", job.name, "--apart", "0.2"], program(), job.whole_environment()).stdout
