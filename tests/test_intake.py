"""When the intake reads: at a low rate not at once, so that a turn of the loop takes some records together."""

from typing import cast

import pytest
from confluent_kafka import Consumer, Message

from config import Settings
from main import _gather
from tests.builders import admin
from utils.intake import FEW, Intake
from utils.metrics import Counters

GATHER, WAIT = 0.0045, 0.2
A_TURN = 0.001  # seconds


class Timed:
    """Reads by a clock that goes on as the intake waits and by A_TURN after each read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._now = 0.0
        self._brings = 0
        self._intake = Intake(cast(Consumer, self), Counters(), admin(), lambda: self._now, gather=GATHER)
        monkeypatch.setattr("utils.intake.time.sleep", self._sleep)

    def after(self, brought: int, wait: float = WAIT) -> float:
        """How long the intake waits before a read, when the one before has brought so many records."""
        self._now += 10 * GATHER
        self._brings = brought
        self._intake.read(0.0, WAIT)
        self._now += A_TURN
        before = self._now
        self._intake.read(0.0, wait)
        return self._now - before

    def poll(self, _timeout: float) -> Message | None:
        return Message() if self._brings else None

    def consume(self, _most: int, _timeout: float) -> list[Message]:
        return [Message() for _ in range(self._brings - 1)]

    def _sleep(self, seconds: float) -> None:
        self._now += seconds


def test_after_a_few_records_the_next_read_waits_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    timed = Timed(monkeypatch)
    assert timed.after(1) == pytest.approx(GATHER - A_TURN)
    assert timed.after(FEW - 1) == pytest.approx(GATHER - A_TURN)


def test_it_waits_neither_after_many_nor_after_none_nor_while_process_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    timed = Timed(monkeypatch)
    assert timed.after(FEW) == 0
    assert timed.after(0) == 0
    assert timed.after(1, wait=0) == 0


@pytest.mark.parametrize(
    ("delivery", "commits", "seconds"),
    [
        ("at_least_once", 0.1, 0.0045),
        ("exactly_once", 0.1, 0.01),
        ("exactly_once", 0.02, 0.002),
        ("exactly_once", 5, 0.01),
    ],
)
def test_where_results_wait_for_their_commit_anyway_reads_may_wait_longer(
    delivery: str, commits: float, seconds: float
) -> None:
    settings = Settings(consumer_name="orders", delivery=delivery, commit_interval=commits)
    assert _gather(settings) == pytest.approx(seconds)
