"""Many calls of process() at once, in threads and in coroutines: every id once, and the loop turns on meanwhile."""

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Scenes
from tests.integration.stream import Records
from tests.integration.workers import eventually
from tests.services.kafka import KafkaBroker

IN_THREADS = {"CONCURRENCY": "50"}
IN_ONE_THREAD = {"CONCURRENCY": "1"}
IN_COROUTINES = {"CONCURRENCY": "50", "PROCESS_ASYNC": "1"}


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
@pytest.mark.parametrize("concurrency", [IN_THREADS, IN_COROUTINES], ids=["threads", "coroutines"])
def test_every_id_is_processed_once(
    kafka: KafkaBroker, scenes: Scenes, concurrency: dict[str, str], delivery: str
) -> None:
    environment = {**concurrency, "PROCESS_SECONDS": "0.02", "DELIVERY": delivery}
    scene = scenes(kafka, slow_process=True, environment=environment)
    scene.feed([str(number) for number in range(1_000)])
    worker = scene.job.start()
    scene.wait_for_all(worker)
    if kafka.kind != "embedded" or delivery == "at_least_once":  # it drops the offsets of transactions
        eventually(lambda: scene.job.lag() == 0, "all committed")
    assert worker.stop() == 0
    scene.judge(once=True)


@pytest.mark.parametrize("concurrency", [IN_THREADS, IN_COROUTINES], ids=["threads", "coroutines"])
def test_a_stop_leaves_what_has_not_been_called_to_the_next_owner(
    kafka: KafkaBroker, scenes: Scenes, concurrency: dict[str, str]
) -> None:
    scene = scenes(kafka, slow_process=True, environment={**concurrency, "PROCESS_SECONDS": "0.5"})
    scene.feed([str(number) for number in range(300)])
    worker = scene.job.start()
    scene.wait_for(10, worker)
    assert worker.stop() == 0
    scene.judge_so_far()
    worker = scene.job.start()
    scene.wait_for_all(worker)
    assert worker.stop() == 0
    scene.judge(once=True)


def test_a_call_that_hangs_fails_and_the_others_go_on(kafka: KafkaBroker, scenes: Scenes, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("hangs")
    environment = {"CONCURRENCY": "4", "PROCESS_TIMEOUT": "1", "PROCESS_BLOCKED": str(blocked), "SHUTDOWN_TIMEOUT": "1"}
    scene = scenes(kafka, slow_process=True, environment=environment)
    scene.feed(["hangs", *map(str, range(100))])
    worker = scene.job.start()
    scene.wait_for(100, worker)
    worker.says("process() failed")
    scene.feed(["later"])
    scene.wait_for(101, worker)
    assert worker.stop() == 0
    assert "hangs" not in scene.oracle.results


def test_when_the_only_thread_hangs_the_worker_commits_what_is_finished_and_ends(
    kafka: KafkaBroker, scenes: Scenes, tmp_path: Path
) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("hangs")
    environment = {"PROCESS_TIMEOUT": "1", "PROCESS_BLOCKED": str(blocked)}
    scene = scenes(kafka, slow_process=True, environment=environment)
    scene.feed(["1", "2", "3"])
    worker = scene.job.start()
    scene.wait_for(3, worker)
    scene.feed(["hangs"])
    scene.feed(["after"])
    assert worker.ends() == 1
    assert worker.said("process() hangs")[0]["ids"] == ["hangs"]
    blocked.write_text("nothing")
    worker = scene.job.start()
    scene.wait_for(5, worker)
    assert worker.stop() == 0
    assert [scene.oracle.results[id] for id in ("1", "2", "3", "after", "hangs")] == [1, 1, 1, 1, 1]


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_a_hang_is_one_attempt_of_several_over_restarts_and_others_go_on_between(
    real_kafka: KafkaBroker, scenes: Scenes, tmp_path: Path, delivery: str
) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("hangs")
    environment = {"PROCESS_TIMEOUT": "1", "PROCESS_BLOCKED": str(blocked), "PROCESS_ATTEMPTS": "2"}
    scene = scenes(real_kafka, 1, slow_process=True, partitions=1, environment={**environment, "DELIVERY": delivery})
    scene.feed(["hangs", "after"])
    for done, given_up in ((False, 0), (True, 1)):
        worker = scene.job.start()
        assert worker.ends() == 1
        assert len(worker.said("process() hangs")) == 1
        scene.outputs.read_to_the_end()
        assert dict(scene.oracle.results) == ({"after": 1} if done else {})
        assert len([line for line in worker.lines() if line["message"] == "process() failed"]) == given_up
    assert scene.job.lag() == 0
    [letter] = Records.of(real_kafka, f"{scene.job.name}-dlq").headers["hangs"]
    assert (letter["dlq.reason"], letter["dlq.attempts"]) == ("process_failed", "2")


def test_a_message_whose_call_hangs_over_rebalances_becomes_a_dead_letter_too(
    real_kafka: KafkaBroker, scenes: Scenes, tmp_path: Path
) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("hangs")
    environment = {
        "CONCURRENCY": "4",
        "PROCESS_TIMEOUT": "2",
        "PROCESS_ATTEMPTS": "3",
        "SHUTDOWN_TIMEOUT": "1",
        "PROCESS_BLOCKED": str(blocked),
    }
    scene = scenes(real_kafka, 1, slow_process=True, partitions=1, environment=environment)
    scene.feed(["hangs", "after"])
    worker = scene.job.start()
    scene.wait_for(1, worker)
    other = scene.job.start().is_assigned()
    other.stop()
    worker.is_assigned(3)
    scene.feed(["later"])
    scene.wait_for(2, worker)
    eventually(lambda: scene.job.lag() == 0, "nothing waits any more")
    [letter] = Records.of(real_kafka, f"{scene.job.name}-dlq").headers["hangs"]
    assert (letter["dlq.reason"], letter["dlq.error.class"]) == ("process_failed", "TimeoutError")
    assert worker.stop() == 0


def test_while_a_service_hangs_no_restart_costs_a_message(
    real_kafka: KafkaBroker, scenes: Scenes, tmp_path: Path
) -> None:
    blocked = tmp_path / "blocked"
    blocked.touch()
    environment = {"PROCESS_TIMEOUT": "0.5", "PROCESS_BLOCKED": str(blocked), "PROCESS_ATTEMPTS": "2"}
    scene = scenes(real_kafka, 1, slow_process=True, partitions=1, environment=environment)
    scene.feed(map(str, range(10)))
    hung = []
    for _ in range(3):
        worker = scene.job.start()
        assert worker.ends() == 1
        hung += worker.said("process() hangs")[0]["ids"]
    assert sorted(hung) == ["0", "1", "2"]
    blocked.unlink()
    worker = scene.job.start()
    scene.wait_for_all(worker)
    eventually(lambda: scene.job.lag() == 0, "all committed")
    assert worker.stop() == 0
    assert [scene.oracle.results[str(id)] for id in range(10)] == [1] * 10
    assert not Records.of(real_kafka, f"{scene.job.name}-dlq").times


@pytest.mark.parametrize(
    "concurrency", [IN_ONE_THREAD, IN_THREADS, IN_COROUTINES], ids=["one thread", "threads", "coroutines"]
)
def test_setup_is_called_before_the_first_message_and_teardown_at_the_end(
    embedded_kafka: KafkaBroker, scenes: Scenes, tmp_path: Path, concurrency: dict[str, str]
) -> None:
    told = tmp_path / "told"
    scene = scenes(embedded_kafka, slow_process=True, environment={**concurrency, "PROCESS_HOOKS": str(told)})
    scene.feed(["1", "2"])
    worker = scene.job.start()
    scene.wait_for_all(worker)
    assert told.read_text() == "setup\n"
    assert worker.stop() == 0
    assert told.read_text() == "setup\nteardown\n"


def test_a_setup_that_does_not_return_is_told_by_its_name_and_holds_up_no_stop(
    embedded_kafka: KafkaBroker, scenes: Scenes
) -> None:
    scene = scenes(embedded_kafka, slow_process=True, environment={"PROCESS_SETUP_FAILS": "hang"})
    worker = scene.job.start()

    def why() -> str | None:
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{worker.address}/health/ready", timeout=60)
        with caught.value as answer:
            told: dict[str, Any] = json.load(answer)
        assert told["ready"] is False
        return told.get("why")

    assert eventually(why, "why it is not ready").startswith("setup() of worker.py has not returned for ")
    with urllib.request.urlopen(f"{worker.address}/status.json", timeout=60) as page:
        assert "setup() of worker.py has not returned" in json.load(page)["verdict"]["sentence"]
    assert worker.stop() == 0


@pytest.mark.parametrize(("how", "said"), [("no model", "no model"), ("exit", "SystemExit: 0")])
def test_a_setup_that_fails_ends_the_worker_before_it_has_read_anything(
    embedded_kafka: KafkaBroker, scenes: Scenes, how: str, said: str
) -> None:
    scene = scenes(embedded_kafka, slow_process=True, environment={"PROCESS_SETUP_FAILS": how})
    worker = scene.job.start()
    assert worker.ends() == 1
    assert said in worker.said("setup() failed")[0]["exc_info"]
    assert not worker.said("partitions assigned")


FEW_IDS = 4
BACKLOG = 10_000  # messages, of which memory has room for a sixth behind their ids


def test_a_backlog_of_a_few_ids_is_not_read_again_and_again(real_kafka: KafkaBroker, scenes: Scenes) -> None:
    """What had no room behind its id was read again: 120 times, with four ids and four calls at once."""
    environment = {"CONCURRENCY": "4", "MAX_PENDING_BYTES": "4000000"}
    scene = scenes(real_kafka, 1, partitions=1, environment=environment)
    scene.feed(f"device-{number % FEW_IDS}" for number in range(BACKLOG))
    worker = scene.job.start()
    scene.wait_for(BACKLOG, worker)
    assert worker.stop() == 0
    [counted] = worker.said("stopped")
    assert counted["read"] <= 1.5 * BACKLOG
    scene.judge()
