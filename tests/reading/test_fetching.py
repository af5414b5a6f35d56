"""How long a record stays for others, and what comes in place of one."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, KafkaError, Message

from config import Settings
from utils.reading.fetching import FEW, TOLD_AGAIN, Fetching
from utils.running.assembly import gathering

GATHER, WAIT = 0.004, 0.2
A_TURN = 0.001  # seconds


class Timed:
    """Reads by a clock that goes on as it waits and by A_TURN after each read."""

    def __init__(self) -> None:
        self._now = 100.0
        self._brings = 0
        self._comes_at = 0.0
        self._fetching = Fetching(cast(Consumer, self), GATHER, lambda: self._now, self._sleep)

    def after(self, brought: int, comes: float = 0.0, wait: float = WAIT) -> float:
        """How long a record stays that comes so many seconds after a read of so many records."""
        self._now += 10 * GATHER
        self._brings, self._comes_at = brought, self._now
        self._fetching.next(WAIT)
        self._comes_at = self._now + comes
        self._now += A_TURN
        self._brings = 1
        assert self._fetching.next(wait)
        return self._now - self._comes_at

    def poll(self, timeout: float) -> Message | None:
        self._now = min(self._now + timeout, max(self._now, self._comes_at))
        return Message() if self._brings and self._now >= self._comes_at else None

    def consume(self, _most: int, _timeout: float) -> list[Message]:
        return [Message() for _ in range(self._brings - 1)]

    def _sleep(self, seconds: float) -> None:
        self._now += seconds


@pytest.mark.parametrize("brought", [1, FEW - 1])
def test_what_comes_soon_after_a_few_records_stays_for_more(brought: int) -> None:
    timed = Timed()
    assert timed.after(brought, comes=A_TURN * 2) == pytest.approx(GATHER)
    assert timed.after(brought, comes=0) == pytest.approx(GATHER), "counted from the end of the last read"


def test_what_comes_later_is_read_at_once() -> None:
    assert Timed().after(1, comes=GATHER * 1.01) == 0


def test_nothing_stays_after_many_nor_after_none_nor_while_process_is_busy() -> None:
    timed = Timed()
    assert timed.after(FEW) == pytest.approx(A_TURN)
    assert timed.after(0, comes=A_TURN * 2) == 0
    assert timed.after(1, wait=0) == pytest.approx(A_TURN)


@pytest.mark.parametrize(
    ("delivery", "commits", "seconds"),
    [
        ("at_least_once", 0.1, 0.004),
        ("exactly_once", 0.1, 0.01),
        ("exactly_once", 0.02, 0.002),
        ("exactly_once", 5, 0.01),
    ],
)
def test_where_results_wait_for_their_commit_anyway_records_may_stay_longer(
    delivery: str, commits: float, seconds: float
) -> None:
    settings = Settings(consumer_name="orders", delivery=delivery, commit_interval=commits)
    assert gathering(settings) == pytest.approx(seconds)


def test_that_another_program_keeps_it_out_of_its_group_is_said_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    """It was every two seconds, as often as Kafka's client tried."""
    now, refused = [0.0], KafkaError(KafkaError.INCONSISTENT_GROUP_PROTOCOL)
    nothing = lambda: None  # noqa: E731
    event: Any = SimpleNamespace(error=lambda: refused, topic=nothing, partition=nothing)
    consumer: Any = SimpleNamespace(poll=lambda _timeout: event, consume=lambda *_: [])
    fetching = Fetching(consumer, clock=lambda: now[0])
    for _ in range(2):
        for _ in range(5):
            assert fetching.next(WAIT) == []
            now[0] += 2.0
        assert len(caplog.messages) == 1
        now[0] += TOLD_AGAIN
        caplog.clear()
