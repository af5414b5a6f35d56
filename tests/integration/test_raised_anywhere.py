"""A call of Kafka's client, or a step of the loop, raises: on real Kafka, once at each place of the worker that calls.

tests/simulation/test_call_sites.py does the same in the model, and there also: always, and in the middle.
"""

import itertools
import json
from pathlib import Path

import pytest

from tests.integration.conftest import Scenes
from tests.integration.workers import eventually
from tests.services.kafka import KafkaBroker

RAISING = Path(__file__).with_name("raising.py")
AGAIN = "again"  # as in raising.py: also in a start
QUIET = 3  # rounds in which nothing raised: then every place that is reached has
AT_LEAST = 23  # places; else what calls is not found any more


@pytest.mark.parametrize(("delivery", "when"), [("at_least_once", "before"), ("exactly_once", "after")])
def test_whatever_raises_once_nothing_is_lost_and_no_message_is_blamed(
    real_kafka: KafkaBroker, scenes: Scenes, tmp_path: Path, delivery: str, when: str
) -> None:
    log, wanted = tmp_path / "raised", tmp_path / "wanted"
    environment = {"DELIVERY": delivery, "RAISED": str(log), "RAISE_WANTED": str(wanted), "RAISE": when}
    scene = scenes(real_kafka, process=RAISING, environment=environment)
    worker = scene.job.start().is_assigned()
    ids = map(str, itertools.count())

    def all_that_is_fed_is_done() -> None:
        scene.feed(itertools.islice(ids, 30))
        scene.wait_for_all(worker)
        eventually(lambda: scene.job.lag() == 0, "all is committed")

    for how in ("", AGAIN):
        quiet = 0
        while quiet < QUIET:
            all_that_is_fed_is_done()  # so that the commit of what was fed before is confirmed: this is progress
            wanted.write_text(how)
            all_that_is_fed_is_done()
            quiet = quiet + 1 if wanted.exists() else 0
    wanted.unlink()
    places = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(places) >= AT_LEAST, places
    assert worker.stop() == 0
    scene.judge(once=delivery == "exactly_once")
    assert not worker.said("dead letter")
