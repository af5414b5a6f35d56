"""An id comes a second time while its first message is complete and not yet processed: the same parts meet."""

from collections import Counter
from pathlib import Path

import msgspec
import pytest

from tests.integration.accounts import records
from tests.integration.conftest import Scene, Scenes
from tests.integration.workers import eventually
from tests.services.kafka import KafkaBroker

IDS = [str(number) for number in range(20)]
BOTH = ["at_least_once", "exactly_once"]


def met(scene: Scene) -> Counter[tuple[int, ...]]:
    """Which version of the first topic's messages met which of the second's, in how many results."""
    contents = [msgspec.json.decode(each.value())["content"] for each in records(scene.broker, scene.job.topics_output)]
    return Counter(tuple(int(text[topic].rsplit("/", 1)[1]) for topic in scene.job.topics_input) for text in contents)


def wait_for_waiting(scene: Scene, number: int) -> None:
    """Until commits say of so many messages that they are unfinished."""

    def waiting() -> int:
        return sum(len(commit.waiting) for commit in scene.job.commits().values())

    eventually(lambda: waiting() == number, f"{number} waiting messages in the commits")


@pytest.mark.parametrize("delivery", BOTH)
@pytest.mark.parametrize("how", ["stop", "rebalance", "kill"])
def test_over_a_restart_an_id_that_came_twice_is_joined_as_without_it(
    real_kafka: KafkaBroker, scenes: Scenes, tmp_path: Path, delivery: str, how: str
) -> None:
    blocked = tmp_path / "blocked"
    blocked.touch()
    environment = {"DELIVERY": delivery, "PROCESS_BLOCKED": str(blocked), "SHUTDOWN_TIMEOUT": "1"}
    scene = scenes(real_kafka, partitions=2, slow_process=True, environment=environment)
    first, second = scene.job.topics_input
    workers = [scene.job.start().is_assigned()]
    scene.feed(IDS)
    wait_for_waiting(scene, 2 * len(IDS))
    scene.feed(IDS[:10], first)  # whichever topic is read first afterwards, some ids come twice there
    scene.feed(IDS[10:], second)
    wait_for_waiting(scene, 3 * len(IDS))
    if how == "stop":
        workers.pop().stop()  # with 1 on a busy machine, for a call still runs
    elif how == "kill":
        workers.pop().kill()
    workers.append(scene.job.start().is_assigned())
    scene.feed(IDS[:10], second)
    scene.feed(IDS[10:], first)
    blocked.unlink()
    scene.wait_for(2 * len(IDS), *workers)
    assert met(scene) == {(0, 0): len(IDS), (1, 1): len(IDS)}


@pytest.mark.parametrize("delivery", BOTH)
def test_what_is_put_off_for_want_of_memory_meets_the_same_parts_when_it_is_read_again(
    real_kafka: KafkaBroker, scenes: Scenes, tmp_path: Path, delivery: str
) -> None:
    bad = tmp_path / "bad"
    bad.touch()
    environment = {"PROCESS_BAD": str(bad), "PROCESS_ATTEMPTS": "1000", "RETRY_BACKOFF": "0.5"}
    little = {"MAX_PENDING_BYTES": "30000", "DELIVERY": delivery}  # a quarter of it for what rests between attempts
    scene = scenes(real_kafka, partitions=1, slow_process=True, environment={**environment, **little})
    first, second = scene.job.topics_input
    worker = scene.job.start().is_assigned()
    ids = [f"bad-{id}" for id in IDS[:10]]
    for version in (1, 2):
        scene.feed(["good-again"])  # so that process() does not fail for all
        scene.feed(ids)
        wait_for_waiting(scene, 2 * version * len(ids))
    scene.feed(ids[:5], first)
    scene.feed(ids[5:], second)
    wait_for_waiting(scene, 5 * len(ids))
    assert shed(worker.scrape()) > 0
    bad.unlink()
    scene.feed(ids[:5], second)
    scene.feed(ids[5:], first)
    scene.wait_for(32, worker)
    assert met(scene) == {(0, 0): 11, (1, 1): 11, (2, 2): 10}
    assert worker.stop() == 0


def shed(scraped: str) -> float:
    lines = [line for line in scraped.splitlines() if line.startswith("consumer_messages_shed_total")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)
