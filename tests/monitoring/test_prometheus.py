"""The metrics as Prometheus reads them, of a worker with fakes around it."""

import logging
import re
import threading
from collections.abc import Callable, Iterable, Iterator

import pytest
from prometheus_client import REGISTRY, Counter, Gauge, Metric, ProcessCollector
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from tests.program import sources
from tests.test_framework import A0, B0, WALL, Bench, started
from utils.metrics import Counters
from utils.monitoring.prometheus import COUNTERS, Metrics
from utils.monitoring.status import Health

TAKEN = re.compile(r"counters\.\w+(\[.*\])? -=")


def metrics(bench: Bench) -> Metrics:
    return Metrics("orders", bench.counters, bench.health, {"python": "3"}, bench.clock, bench.clock.wall)


def scrape(bench: Bench, collector: Metrics | None = None) -> dict[str, Metric]:
    """The families by name, while the loop turns."""
    page = turning(bench, (collector or metrics(bench)).page)
    return {family.name: family for family in text_string_to_metric_families(page.decode())}


def turning(bench: Bench, call: Callable[[], bytes]) -> bytes:
    """The value of a call in another thread, made while the loop turns without time passing."""
    values: list[bytes] = []
    other = threading.Thread(target=lambda: values.append(call()))
    other.start()
    while other.is_alive():
        bench.step(seconds=0)
        other.join(0.005)
    return values[0]


def value(families: dict[str, Metric], name: str, **labels: str) -> float:
    [found] = [
        sample.value
        for family in families.values()
        for sample in family.samples
        if sample.name == name and sample.labels == {"consumer": "orders", **labels}
    ]
    return found


def exported() -> dict[str, set[str]]:
    """Every metric that a worker exports which has done everything once: its labels beside `consumer`, by its name."""
    bench = started()
    bench.feed(A0, "1", "2", b"no json")
    bench.feed(B0, "1")
    bench.settle_down()
    bench.counters.count_evicted([["b"]])
    found = {}
    for family in scrape(bench).values():
        labels = {label for sample in family.samples for label in sample.labels} - {"consumer", "le"}
        found[family.name + ("_total" if family.type == "counter" else "")] = labels
    return found


def test_every_metric_begins_with_consumer_and_is_labelled_with_it() -> None:
    families = scrape(started())
    assert len(families) > 30
    for family in families.values():
        assert family.name.startswith("consumer_")
        assert family.documentation
        for sample in family.samples:
            assert sample.labels["consumer"] == "orders"


def test_counters_are_exported_with_what_was_counted() -> None:
    bench = started()
    bench.feed(A0, "1", "2", b"no json")
    bench.feed(B0, "1")
    bench.settle_down()
    families = scrape(bench)
    assert value(families, "consumer_messages_invalid_total") == 1
    assert value(families, "consumer_groups_completed_total") == 1
    assert value(families, "consumer_results_total") == 1


def test_every_plain_counter_is_exported() -> None:
    exported = {each.attribute for each in COUNTERS} - {"evicted_without"} | {"evicted"}
    assert set(Counters().as_dict()) <= exported | {"read"}


def test_nothing_is_taken_from_a_counter() -> None:
    """Two were: of a counter that falls Prometheus takes all for new, which muted alerts that divide by it."""
    taken = [f"{path}: {line}" for path in sources() for line in path.read_text().splitlines() if TAKEN.search(line)]
    assert not taken


def test_what_was_given_up_is_exported_by_the_topics_that_were_missing() -> None:
    bench = started()
    bench.counters.count_evicted([["b"], ["b"], ["a"]])
    families = scrape(bench)
    assert value(families, "consumer_groups_evicted_total", missing_topics="b") == 2
    assert value(families, "consumer_groups_evicted_total", missing_topics="a") == 1


def test_gauges_are_those_of_the_moment() -> None:
    bench = started()
    bench.feed(A0, "1", "2")
    bench.step()
    bench.feed(A0, "3")
    bench.clock.now += 7
    bench.consumer.paused = {A0}
    families = scrape(bench)
    assert value(families, "consumer_groups_waiting") == 2
    assert value(families, "consumer_oldest_waiting_seconds") == 7
    assert value(families, "consumer_partition_lag", topic="a", partition="0") == 1
    assert value(families, "consumer_partition_position", topic="a", partition="0") == 2
    assert value(families, "consumer_last_poll_timestamp_seconds") == WALL + bench.clock.now
    assert value(families, "consumer_ready") == 1


def test_an_open_circuit_is_a_1() -> None:
    bench = started()
    assert value(scrape(bench), "consumer_circuit_open") == 0
    bench.executor.circuit_open_for, bench.executor.in_flight = 0.0, 1
    assert value(scrape(bench), "consumer_circuit_open") == 1
    bench.worker.assignment.forget()  # others have the partitions: nothing will succeed here and close it
    assert value(scrape(bench), "consumer_circuit_open") == 0


def test_how_full_a_worker_is_shows_also_where_few_ids_fill_it() -> None:
    """By the number of ids alone, what large results filled was taken for one that had nothing to do."""
    bench = started()
    assert value(scrape(bench), "consumer_load") == 0
    bench.worker._bytes_in_flight = bench.worker.max_pending_bytes // 4
    assert value(scrape(bench), "consumer_load") == 0.5


def test_a_circuit_that_holds_nothing_back_is_not_called_open() -> None:
    """Where all that had failed was another worker's, or a dead letter, the alert fired until the next message came."""
    bench = started()
    bench.executor.circuit_open_for = 3600.0
    assert value(scrape(bench), "consumer_circuit_open") == 0
    bench.executor.in_flight = 1
    assert value(scrape(bench), "consumer_circuit_open") == 1


def test_partitions_without_a_leader_are_counted_also_where_nothing_else_is_read() -> None:
    bench = started()
    assert value(scrape(bench), "consumer_partitions_without_leader") == 0
    bench.worker.intake.rebalanced([], {A0, B0})
    assert value(scrape(bench), "consumer_partitions_without_leader") == 2


def test_an_unknown_end_is_no_lag_of_zero() -> None:
    families = scrape(started())
    assert families["consumer_partition_lag"].samples == []
    assert len(families["consumer_partition_position"].samples) == 2


def test_times_are_histograms() -> None:
    bench = started()
    bench.counters.process_time.add(0.5, 10)
    families = scrape(bench)
    assert value(families, "consumer_process_seconds_bucket", le="0.001") == 9
    assert value(families, "consumer_process_seconds_bucket", le="+Inf") == 10
    assert value(families, "consumer_process_seconds_count") == 10
    assert value(families, "consumer_process_seconds_sum") == 0.5


def test_a_clock_that_is_set_is_no_new_start_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The start is told from that of the machine, which the kernel moves by as much as the clock is set."""
    bench, collector = started(), metrics(started())
    begun = value(scrape(bench, collector), "consumer_start_time_seconds")
    monkeypatch.setattr(ProcessCollector, "_boot_time", lambda _self: 5.0)
    assert value(scrape(bench, collector), "consumer_start_time_seconds") == begun


def test_without_a_worker_counters_stay_and_gauges_go() -> None:
    counters = Counters(read=5, restarts=1)
    page = Metrics("orders", counters, Health()).page().decode()
    assert "consumer_restarts_total" in page
    assert "consumer_groups_waiting" not in page
    assert 'consumer_ready{consumer="orders"} 0.0' in page


def test_a_loop_that_is_busy_shows_what_it_showed_the_last_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("utils.monitoring.prometheus.ANSWER_WITHIN", 0.01)
    bench = started()
    bench.feed(A0, "1")
    bench.step()
    collector = metrics(bench)
    bench.health.turned_at = 0.0
    assert b"consumer_groups_waiting" not in collector.page()
    monkeypatch.setattr("utils.monitoring.prometheus.ANSWER_WITHIN", 30.0)
    scrape(bench, collector)
    monkeypatch.setattr("utils.monitoring.prometheus.ANSWER_WITHIN", 0.01)
    assert b'consumer_groups_waiting{consumer="orders"} 1.0' in collector.page()


def test_while_one_asks_the_loop_the_others_are_told_what_was_told_last() -> None:
    bench = started()
    bench.feed(A0, {"id": "1"})
    bench.step()
    collector = metrics(bench)
    scrape(bench, collector)
    with collector._asking:
        assert b'consumer_groups_waiting{consumer="orders"} 1.0' in collector.page()


@pytest.fixture
def of_worker_py() -> Iterator[Callable[[Collector], None]]:
    """Register a collector for all of this process, as Counter() does."""
    registered: list[Collector] = []

    def register(collector: Collector) -> None:
        REGISTRY.register(collector)
        registered.append(collector)

    yield register
    for each in registered:
        REGISTRY.unregister(each)


def test_what_worker_py_counts_stands_there_too(of_worker_py: Callable[[Collector], None]) -> None:
    """It was counted, and shown nowhere: the page has a registry of its own."""
    for name in ("shop_orders", "process_failures", "consumer_orders"):  # the last may be one of the frame's
        counter = Counter(name, "Orders", registry=None)
        counter.inc()
        of_worker_py(counter)
    families = scrape(started())
    assert families["shop_orders"].samples[0].value == 1
    own = ("process_", "python_", "consumer_orders")
    assert {name for name in families if name.startswith(own)} == {"process_failures", "process_failures_created"}


def test_a_collector_of_worker_py_that_raises_takes_nothing_of_the_frames_away(
    of_worker_py: Callable[[Collector], None], caplog: pytest.LogCaptureFixture
) -> None:
    class Raises(Collector):
        def describe(self) -> Iterable[Metric]:  # when it is registered
            return ()

        def collect(self) -> Iterable[Metric]:
            raise RuntimeError("top" + "secret")

    of_worker_py(Raises())
    bench = started()
    collector = metrics(bench)
    assert all("consumer_live" in scrape(bench, collector) for _ in range(3))
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert errors == ["metrics of worker.py failed"], "said once"
    assert "topsecret" not in caplog.text


def test_a_collector_of_worker_py_that_hangs_keeps_one_thread_and_no_scrape(
    of_worker_py: Callable[[Collector], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prometheus took the worker for down. After forty minutes there was no thread left for Kafka's client."""
    monkeypatch.setattr("utils.monitoring.prometheus.ANSWER_WITHIN", 0.01)
    asked, answered = list[int](), threading.Event()

    def ask() -> float:
        asked.append(1)
        return float(answered.wait(10))

    depth = Gauge("queue_depth", "Asks the queue", registry=None)
    depth.set_function(ask)
    collector = metrics(started())
    of_worker_py(depth)
    try:
        for _ in range(3):
            page = collector.page()
            assert b"consumer_live" in page
            assert b"queue_depth" not in page
    finally:
        answered.set()
    monkeypatch.setattr("utils.monitoring.prometheus.ANSWER_WITHIN", 30.0)
    assert b"queue_depth 1.0" in collector._own.page()
    assert len(asked) <= 2
