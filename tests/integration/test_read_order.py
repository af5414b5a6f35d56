"""Where ids come again: with READ_ORDER=time those parts meet that were sent together, whatever has gathered."""

import json
import time
from collections import Counter
from functools import partial
from typing import cast
from uuid import uuid4

import pytest
from confluent_kafka import Producer

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


def feed_backlog(scene: Scene, first: int, age: float, last: Producer | None = None) -> None:
    """Rounds a second apart, by their timestamps, topic by topic. The last of them is so many seconds old.

    `last`: who sends to the last topic, if it is somebody else.
    """
    producer = feeder(scene.broker)
    begin = time.time() - age - ROUNDS
    for index, topic in enumerate(scene.job.topics_input):
        if last and topic == scene.job.topics_input[-1]:
            producer = last
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


def test_what_a_transaction_hides_is_waited_for(real_kafka: KafkaBroker, scenes: Scenes) -> None:
    """All but the last part of the other topic were superseded meanwhile."""
    scene = scenes(real_kafka, partitions=1, environment={"READ_ORDER": "time"})
    pairs = Pairs()
    outputs = Outputs(scene.job, cast(Oracle, pairs))
    bootstrap = {"bootstrap.servers": real_kafka.bootstrap, "transactional.id": uuid4().hex}
    producer = Producer(bootstrap)
    producer.init_transactions()
    producer.begin_transaction()
    feed_backlog(scene, 0, ROUNDS, producer)
    worker = scene.job.start().is_assigned()
    time.sleep(1)  # in which it read all that it could
    producer.commit_transaction()
    outputs.wait(partial(pairs.are_there, ROUNDS * IDS), worker)
    assert worker.stop() == 0
    outputs.close()
    assert pairs.apart == {0: ROUNDS * IDS}
