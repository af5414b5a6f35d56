"""Stops, kills and rebalances at bad moments: every id at least once, none half, no commit above a waiting message."""

import random
import re
import time
from itertools import count
from pathlib import Path

import pytest

from tests.integration.conftest import Scene, Scenes
from tests.integration.workers import ASSIGNED, eventually
from tests.services.kafka import KafkaBroker

MANY = 2_000  # ids of which a worker with a slow process() has 1,500 before it for at least 7 s when 500 are done
SLOW = {"PROCESS_SECONDS": "0.005"}


CALLING = re.compile(r"^consumer_groups_in_flight\{.*\} [1-9]", re.MULTILINE)


def ids(number: int, prefix: str = "") -> list[str]:
    return [f"{prefix}{each}" for each in range(number)]


def in_mid_stream(scene: Scene, number: int) -> None:
    """That some results are out, and some are not."""
    assert 0 < len(scene.oracle.results) < number, "not in mid-stream: take more ids"


def test_sigterm_in_mid_stream_ends_in_order_and_a_second_run_goes_on(kafka: KafkaBroker, scenes: Scenes) -> None:
    # It ends by itself, long before it must.
    scene = scenes(kafka, slow_process=True, environment={**SLOW, "SHUTDOWN_TIMEOUT": "200"})
    scene.feed(ids(MANY))
    worker = scene.job.start()
    scene.wait_for(MANY // 4, worker)
    assert worker.stop() == 0
    assert worker.said("stopped")[0]["restarts"] == 0
    scene.judge_so_far()
    in_mid_stream(scene, MANY)
    worker = scene.job.start(PROCESS_SECONDS="0")
    scene.wait_for_all(worker)
    assert worker.stop() == 0
    scene.judge(once=True)  # a stop in order doubles nothing either
    assert scene.job.lag() == 0


def test_kill_in_mid_stream(kafka: KafkaBroker, scenes: Scenes) -> None:
    scene = scenes(kafka, slow_process=True, environment=SLOW)
    scene.feed(ids(MANY))
    worker = scene.job.start()
    scene.wait_for(MANY // 4, worker)
    worker.kill()
    scene.judge_so_far()
    in_mid_stream(scene, MANY)
    worker = scene.job.start(PROCESS_SECONDS="0")
    scene.wait_for_all(worker)
    assert worker.stop() == 0
    scene.judge()


def test_exactly_once_a_kill_in_mid_stream_doubles_nothing(real_kafka: KafkaBroker, scenes: Scenes) -> None:
    scene = scenes(real_kafka, slow_process=True, environment={**SLOW, "DELIVERY": "exactly_once"})
    scene.feed(ids(MANY))
    worker = scene.job.start()
    scene.wait_for(MANY // 4, worker)
    worker.kill()
    scene.judge_so_far()
    in_mid_stream(scene, MANY)
    worker = scene.job.start(PROCESS_SECONDS="0")
    scene.wait_for_all(worker)
    assert worker.stop() == 0
    scene.judge(once=True)


def test_kill_within_200_ms_of_an_assignment(kafka: KafkaBroker, scenes: Scenes) -> None:
    scene = scenes(kafka)
    a, b = scene.job.topics_input
    scene.feed(ids(500, "waiting-"), a)
    for round in range(3):
        scene.feed(ids(1_000, f"{round}-"))
        worker = scene.job.start()
        worker.is_assigned(pause=0.002)
        time.sleep(random.uniform(0, 0.2))
        worker.kill()
        scene.judge_so_far()
    scene.feed(ids(500, "waiting-"), b)
    worker = scene.job.start()
    scene.wait_for_all(worker)
    assert worker.stop() == 0
    scene.judge()


def test_kill_twice_before_the_replay_of_the_first_has_ended(kafka: KafkaBroker, scenes: Scenes) -> None:
    scene = scenes(kafka)
    a, b = scene.job.topics_input
    scene.feed(ids(200, "waiting-"), a)  # they keep the committed offset down: everything behind is replayed
    scene.feed(ids(6_000, "done-"))
    worker = scene.job.start()
    scene.wait_for_all(worker)
    eventually(lambda: waiting(scene) == 200, "the map of 200 waiting fragments")
    worker.kill()
    for _ in range(2):
        worker = scene.job.start()
        worker.is_assigned(pause=0.002)
        time.sleep(random.uniform(0, 0.1))
        worker.kill()
        assert waiting(scene) == 200
        scene.judge_so_far()
    scene.feed(ids(200, "waiting-"), b)
    worker = scene.job.start()
    scene.wait_for_all(worker)
    assert worker.stop() == 0
    assert worker.said("stopped")[0]["results"] == 200  # what was done is not done again
    scene.judge()


def waiting(scene: Scene) -> int:
    return sum(len(commit.waiting) for commit in scene.job.commits().values())


def test_a_second_worker_comes_and_goes(kafka: KafkaBroker, scenes: Scenes) -> None:
    scene = scenes(kafka)
    a, b = scene.job.topics_input
    numbers = count()

    def feed_some() -> None:
        """Ids whose second half comes only after the next rebalance, and whole ones."""
        number = next(numbers)
        scene.feed(ids(100, f"split-{number}-"), a)
        scene.feed(ids(300, f"whole-{number}-"))
        scene.feed(ids(100, f"split-{number - 1}-") if number else [], b)

    feed_some()
    first = scene.job.start().is_assigned()
    feed_some()
    second = scene.job.start().is_assigned()
    first.is_assigned(times=2)
    feed_some()
    scene.wait_for_all(first, second)
    shared = [partitions for worker in (first, second) for partitions in worker.said(ASSIGNED)[-1]["partitions"]]
    assert sorted(shared) == sorted(f"{topic}:{partition}" for topic in (a, b) for partition in range(4))
    feed_some()
    assert second.stop() == 0
    first.is_assigned(times=3)
    feed_some()
    scene.wait_for_all(first)
    third = scene.job.start().is_assigned()
    first.is_assigned(times=4)
    feed_some()
    third.kill()
    first.is_assigned(times=5)
    feed_some()
    scene.wait_for_all(first)
    assert first.stop() == 0
    scene.judge()


def test_a_call_that_takes_longer_than_the_poll_interval_costs_no_assignment(
    embedded_kafka: KafkaBroker, scenes: Scenes, tmp_path: Path
) -> None:
    blocked = tmp_path / "blocked"
    blocked.touch()
    limits = {"KAFKA_MAX_POLL_INTERVAL_MS": "2000", "SHUTDOWN_TIMEOUT": "1"}
    scene = scenes(embedded_kafka, slow_process=True, environment={**limits, "PROCESS_BLOCKED": str(blocked)})
    scene.feed(ids(100))
    worker = scene.job.start().is_assigned()
    time.sleep(3.5)
    assert not scene.oracle.results
    blocked.unlink()
    scene.wait_for_all(worker)
    assert len(worker.said(ASSIGNED)) == 1
    assert worker.stop() == 0
    assert worker.said("stopped")[0]["restarts"] == 0
    scene.judge(once=True)


def test_a_worker_that_is_full_behind_a_blocked_call_keeps_its_assignment_and_goes_on(
    real_kafka: KafkaBroker, scenes: Scenes, tmp_path: Path
) -> None:
    blocked = tmp_path / "blocked"
    blocked.touch()
    limits = {"KAFKA_MAX_POLL_INTERVAL_MS": "2000", "SHUTDOWN_TIMEOUT": "1"}
    scene = scenes(real_kafka, 1, slow_process=True, environment={**limits, "PROCESS_BLOCKED": str(blocked)})
    scene.feed(ids(30_000))
    worker = scene.job.start().is_assigned()
    time.sleep(3.5)
    blocked.unlink()
    scene.wait_for_all(worker)
    assert len(worker.said(ASSIGNED)) == 1
    assert worker.stop() == 0
    scene.judge(once=True)


def test_a_rebalance_behind_a_blocked_call_leaves_no_partition_paused(
    real_kafka: KafkaBroker, scenes: Scenes, tmp_path: Path
) -> None:
    blocked = tmp_path / "blocked"
    blocked.touch()
    environment = {"PROCESS_BLOCKED": str(blocked), "SHUTDOWN_TIMEOUT": "1"}
    scene = scenes(real_kafka, 1, slow_process=True, environment=environment)
    scene.feed(ids(30_000))
    first = scene.job.start().is_assigned()
    time.sleep(3)  # full, and paused after a second
    second = scene.job.start(PROCESS_BLOCKED="").is_assigned()
    first.is_assigned(times=2)
    assert second.stop() == 0
    first.is_assigned(times=3)
    blocked.unlink()
    scene.wait_for_all(first)
    assert first.stop() == 0
    scene.judge()


def test_a_stop_behind_a_call_that_never_ends_still_ends_and_leaves_it_to_the_next_run(
    embedded_kafka: KafkaBroker, scenes: Scenes, tmp_path: Path
) -> None:
    blocked = tmp_path / "blocked"
    blocked.touch()
    environment = {"PROCESS_BLOCKED": str(blocked), "SHUTDOWN_TIMEOUT": "1"}
    scene = scenes(embedded_kafka, slow_process=True, environment=environment)
    scene.feed(ids(100))
    worker = scene.job.start().is_assigned()
    eventually(lambda: CALLING.search(worker.scrape()), "the call")
    assert worker.stop() == 0
    scene.judge_so_far()
    blocked.unlink()
    worker = scene.job.start()
    scene.wait_for_all(worker)
    assert worker.stop() == 0
    scene.judge()


@pytest.mark.parametrize("process", ["fast", "slow"])
def test_results_that_are_done_are_not_held_up_by_a_call_that_never_ends(
    embedded_kafka: KafkaBroker, scenes: Scenes, tmp_path: Path, process: str
) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("last")
    seconds = {"fast": "0", "slow": "0.01"}[process]
    environment = {"PROCESS_BLOCKED": str(blocked), "PROCESS_SECONDS": seconds}
    scene = scenes(embedded_kafka, 1, partitions=1, slow_process=True, environment=environment)
    scene.feed([*ids(20), "last"])
    worker = scene.job.start().is_assigned()
    scene.wait_for(20, worker)
    blocked.unlink()
    scene.wait_for_all(worker)
    assert worker.stop() == 0
