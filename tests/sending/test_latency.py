"""How long ids take, told by a sample of them."""

import pytest

from tests.builders import fragment
from utils.joining.aggregator import Group
from utils.joining.messages import Fragment, Result
from utils.metrics import Histogram
from utils.processing.outcome import Outcome
from utils.sending.latency import SAMPLE, Latency


class Bench(Latency):
    def __init__(self) -> None:
        self.now = 0.0
        self.times = Histogram()
        super().__init__(self.times, lambda: self.now)

    @property
    def timed(self) -> tuple[int, float]:
        """How many, and the sum of their seconds."""
        counts, total = self.times.read()
        return counts[-1], total


def outcome(*arrivals: float, results: int = 1) -> Outcome:
    plain = fragment()
    fragments = [Fragment(topic, plain.offsets, 0, b"", None, arrival) for topic, arrival in enumerate(arrivals)]
    return Outcome(Group("1", tuple(fragments)), [Result(b"1", b"{}")] * results)


def test_the_time_runs_from_the_first_message_of_the_id_to_the_delivery() -> None:
    bench = Bench()
    bench.now = 10.0
    bench.sent([outcome(9.0, 4.0)])
    assert bench.timed == (0, 0.0)
    bench.now = 12.0
    bench.delivered()
    bench.delivered()
    assert bench.timed == (1, 8.0)


def test_what_has_no_result_is_not_timed() -> None:
    bench = Bench()
    bench.sent([outcome(0.0, results=0)])
    bench.delivered()
    assert bench.timed == (0, 0.0)


def test_what_is_dropped_is_not_delivered() -> None:
    bench = Bench()
    bench.sent([outcome(0.0)])
    bench.drop()
    bench.delivered()
    assert bench.timed == (0, 0.0)


def test_an_arrival_that_a_clock_puts_into_the_future_is_now() -> None:
    bench = Bench()
    bench.sent([outcome(5.0)])
    bench.delivered()
    assert bench.timed == (1, 0.0)


@pytest.mark.parametrize("number", [1, SAMPLE - 1, SAMPLE, 3 * SAMPLE, 1000])
def test_a_few_of_a_batch_stand_for_all(number: int) -> None:
    bench = Bench()
    bench.sent([outcome(-2.0) for _ in range(number)])
    assert len(bench._on_the_way) <= SAMPLE
    bench.delivered()
    timed, seconds = bench.timed
    assert seconds == 2 * timed
    assert timed == pytest.approx(number, rel=0.5)
