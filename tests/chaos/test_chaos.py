"""A short round of chaos. `make chaos MINUTES=…` is the long one, with every fault in both modes."""

import random
from pathlib import Path

import pytest

from tests.chaos.faults import FAULTS
from tests.chaos.rounds import play
from tests.services.kafka import KafkaBroker

pytestmark = pytest.mark.chaos


@pytest.mark.parametrize(
    ("name", "delivery", "times"),
    [
        ("kills and freezes at random", "exactly_once", 5),
        ("kills and freezes at random", "at_least_once", 3),
        ("SIGKILL after the offsets are sent", "exactly_once", 1),
        ("SIGKILL within a commit", "at_least_once", 1),
        ("metadata overwritten with junk", "exactly_once", 1),
    ],
)
def test_a_fault_loses_nothing_and_halves_nothing(
    real_kafka: KafkaBroker, tmp_path: Path, name: str, delivery: str, times: int
) -> None:
    [fault] = [fault for fault in FAULTS if fault.name == name]
    line = play(fault, real_kafka, delivery, tmp_path, random.Random(name), seconds=60, most=times)
    assert not line.problems, "\n".join([str(line), *line.problems])
    assert line.times >= times
    assert line.verdict.complete > 500 * times, "too little was fed to say anything"
