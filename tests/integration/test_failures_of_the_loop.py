"""What the loop does not expect: the worker starts again, gives up in the end, and blames no message."""

import signal
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from tests.conftest import Topics
from tests.integration.accounts import letters
from tests.integration.conftest import Scenes
from tests.integration.workers import eventually
from tests.services.kafka import KafkaBroker
from utils.joining.offsets import OffsetMap
from utils.running.supervision import RESTARTS

FAILING = """
import sys, main
from utils.running import supervision
from utils.reading.batches import Batch
contents = Batch.contents
def failing(batch):
    if {when}:
        raise ValueError("what nobody has expected")
    return contents(batch)
Batch.contents = failing
supervision.sleep = lambda *_: None
sys.exit(main.main())
"""
ALWAYS = FAILING.format(when="True")
AFTER_PROGRESS = FAILING.format(when="any(each.suspicion.has_progressed for each in batch.partitions)")
AGAIN = "starting again from the last commit"


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_without_progress_the_process_ends_with_1_and_the_next_ones_blame_no_message(
    real_kafka: KafkaBroker, scenes: Scenes, delivery: str
) -> None:
    scene = scenes(real_kafka, 1, partitions=1, environment={"DELIVERY": delivery})
    scene.feed([str(number) for number in range(100)])
    for _ in range(4):  # as many as make it look for a message that ends the process
        worker = scene.job.start(main=("-c", ALWAYS))
        assert worker.ends() == 1
        assert [line["failures"] for line in worker.said(AGAIN)] == [1, 2, 3, 4, 5]
    worker = scene.job.start()
    scene.wait_for_all(worker)
    assert not worker.said("first message not done in several starts")
    assert worker.stop() == 0
    assert letters(scene.job) == []
    scene.judge(once=True)


def test_a_worker_that_has_failed_leaves_no_start_to_other_processes(real_kafka: KafkaBroker, scenes: Scenes) -> None:
    """It did: where the output was away for minutes, the partition went from one process to the next, and the fifth
    took the message that had been tried for one that ends the process.
    """
    impatient = {"KAFKA_TOPIC_METADATA_PROPAGATION_MAX_MS": "200", "KAFKA_MESSAGE_TIMEOUT_MS": "2000"}
    scene = scenes(real_kafka, 1, partitions=1, environment=impatient)
    worker = scene.job.start()

    def starts() -> set[int]:
        maps = [OffsetMap.parse(commit.metadata) for commit in scene.job.commits().values()]
        return {each.starts for each in maps if each}

    eventually(lambda: starts() == {1}, f"the start in the first commit\n{worker.tail()}", pause=0.1)
    admin = AdminClient({"bootstrap.servers": real_kafka.bootstrap, "log_level": 0})
    admin.delete_topics([*scene.job.topics_output])[scene.job.topics_output[0]].result(60)
    scene.feed(["1"])
    eventually(lambda: starts() == {0}, f"no start in the commit\n{worker.tail()}", pause=0.1)
    assert len(worker.said(AGAIN)) < RESTARTS, "not because the next failure ends this process"
    worker.kill()


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


ON_SIGNAL = """
import signal, sys, main
from utils.running import supervision
from utils.reading.intake import Intake
read, asked = Intake.read, []
def failing(*arguments):
    if asked:
        raise ValueError(asked.pop())
    return read(*arguments)
Intake.read = failing
signal.signal(signal.SIGUSR1, lambda *_: asked.append("asked for"))
supervision.sleep, supervision.RESTARTS = lambda *_: None, 1000
sys.exit(main.main())
"""


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_neither_restarts_nor_reloads_keep_threads_or_descriptors(
    real_kafka: KafkaBroker, scenes: Scenes, topics: Topics, delivery: str
) -> None:
    scene = scenes(real_kafka, 1, partitions=1, environment={"DELIVERY": delivery, "CONFIG_REFRESH": "0.5"})
    worker = scene.job.start(main=("-c", ON_SIGNAL)).is_assigned()
    outputs = [*topics(real_kafka, "other", partitions=1), *scene.job.topics_output]
    held = []
    for times in range(2, 14):
        if times < 9:
            worker.process.send_signal(signal.SIGUSR1)
        else:
            scene.job.write_row(topics_output=[outputs[1 - times % 2]])
        worker.is_assigned(times)
        held.append(in_use(worker.pid))
    assert worker.stop() == 0
    first, last = held[1], held[-1]
    assert all(now < before + 6 for before, now in zip(first, last, strict=True)), f"threads, descriptors: {held}"
    assert (len(worker.said(AGAIN)), worker.said("stopped")[0]["reloads"]) == (7, 5)


def in_use(pid: int) -> tuple[int, int]:
    """Threads and descriptors of a process."""
    return len(list(Path(f"/proc/{pid}/task").iterdir())), len(list(Path(f"/proc/{pid}/fd").iterdir()))
