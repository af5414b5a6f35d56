"""What the loop does not expect: the worker starts again, gives up in the end, and blames no message."""

import pytest

from tests.integration.accounts import letters
from tests.integration.conftest import Scenes
from tests.services.kafka import KafkaBroker

FAILING = """
import sys, main
from utils.intake import Batch
contents = Batch.contents
def failing(batch):
    if {when}:
        raise ValueError("what nobody has expected")
    return contents(batch)
Batch.contents = failing
main.sleep = lambda *_: None
sys.exit(main.main())
"""
ALWAYS = FAILING.format(when="True")
AFTER_PROGRESS = FAILING.format(when="any(each.has_progressed for each in batch.partitions)")
AGAIN = "starting again from the last commit"


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_without_progress_the_process_ends_with_1_and_the_next_ones_blame_no_message(
    real_kafka: KafkaBroker, scenes: Scenes, delivery: str
) -> None:
    scene = scenes(real_kafka, 1, partitions=1, environment={"DELIVERY": delivery})
    scene.feed([str(number) for number in range(100)])
    for _ in range(4):  # as many as make it look for a message that ends the process
        worker = scene.job.start(main=("-c", ALWAYS))
        assert worker.ends(60) == 1
        assert [line["failures"] for line in worker.said(AGAIN)] == [1, 2, 3, 4, 5]
    worker = scene.job.start()
    scene.wait_for_all(worker)
    assert not worker.said("no progress in several starts")
    assert worker.stop() == 0
    assert letters(scene.job) == []
    scene.judge(once=True)


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_with_progress_it_goes_on_and_no_message_is_blamed(
    real_kafka: KafkaBroker, scenes: Scenes, delivery: str
) -> None:
    scene = scenes(real_kafka, 1, partitions=1, environment={"DELIVERY": delivery})
    worker = scene.job.start(main=("-c", AFTER_PROGRESS))
    number = 0
    while len(worker.said(AGAIN)) < 7:
        scene.feed([str(number)])
        number += 1
        scene.wait_for_all(worker)
    assert {line["failures"] for line in worker.said(AGAIN)} == {1}
    assert worker.stop() == 0
    assert letters(scene.job) == []
    scene.judge(once=delivery == "exactly_once")
