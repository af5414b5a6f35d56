"""Where ids come again: with READ_ORDER=time those parts meet that were sent together, whatever has gathered."""

import json
import time
from collections import Counter
from functools import partial
from typing import cast

import pytest

from tests.integration.conftest import Scene, Scenes
from tests.integration.oracle import Oracle
from tests.integration.workers import Outputs, feeder, flushed
from tests.services.kafka import KafkaBroker

IDS = 20
ROUNDS = 50  # in each backlog: of each id one part on each topic


class Pairs:
    """What Outputs tells it of: by how many rounds the parts of the results differ."""

    def __init__(self) -> None:
        self.apart = Counter[int]()
        self.results = 0

    def seen(self, _key: bytes, value: bytes) -> None:
        first, second = json.loads(value)["content"].values()
        self.apart[abs(first - second)] += 1
        self.results += 1

    def are_there(self, results: int) -> bool:
        return self.results >= results

    def judge(self) -> str:
        return f"{self.results} results, apart by rounds: {dict(self.apart)}"


def feed_backlog(scene: Scene, first: int, age: float) -> None:
    """Rounds a second apart, by their timestamps, topic by topic. The last of them is so many seconds old."""
    producer = feeder(scene.broker)
    begin = time.time() - age - ROUNDS
    for index, topic in enumerate(scene.job.topics_input):
        for number in range(ROUNDS):
            ms = int((begin + number + index / 10) * 1000)
            for id in range(IDS):
                value = {"id": f"device-{id}", "content": {topic: first + number}}
                producer.produce(topic, json.dumps(value), f"device-{id}", timestamp=ms)
        flushed(producer)


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_parts_that_were_sent_together_meet_after_any_standstill(
    real_kafka: KafkaBroker, scenes: Scenes, delivery: str
) -> None:
    """At the first start, after a stop, and after a crash. With `fetched`, all pairs but the first were apart."""
    scene = scenes(real_kafka, partitions=2, environment={"DELIVERY": delivery, "READ_ORDER": "time"})
    pairs = Pairs()
    outputs = Outputs(scene.job, cast(Oracle, pairs))
    for standstill, ends_by_a_crash in enumerate((False, True, False)):
        feed_backlog(scene, standstill * ROUNDS, age=(3 - standstill) * ROUNDS)
        worker = scene.job.start()
        outputs.wait(partial(pairs.are_there, (standstill + 1) * ROUNDS * IDS), worker)
        if ends_by_a_crash:
            worker.kill()
        else:
            assert worker.stop() == 0
    outputs.read_to_the_end()
    outputs.close()
    assert set(pairs.apart) == {0}, pairs.judge()
    assert delivery == "at_least_once" or pairs.results == 3 * ROUNDS * IDS
