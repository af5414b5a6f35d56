"""The metrics as Prometheus reads them: made of the worker's counters and of a snapshot, when somebody asks.

The loop knows nothing of it. A new metric is one line in one of the tables.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    REGISTRY,
    CollectorRegistry,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from utils.errors import unquoted
from utils.logger import logger
from utils.metrics import BOUNDS, Counters, Histogram
from utils.monitoring.status import Health
from utils.monitoring.view import PartitionView, Snapshot
from utils.threads import in_thread

PREFIX = "consumer_"
CONTENT_TYPE = CONTENT_TYPE_LATEST
_OF_PYTHON = {each.name for of in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR) for each in of.collect()}
"""What prometheus_client itself has among all metrics of a process."""
ANSWER_WITHIN = 1.0  # seconds that a scrape waits for the loop before it shows what it was told the last time


class Exported(NamedTuple):
    """One metric: its name without the prefix, what it tells, which attribute it shows."""

    name: str
    tells: str
    attribute: str
    label: str = ""  # of a counter that is kept by name: what the name is


COUNTERS = (
    Exported("messages_read", "Messages read from the input topics", "read_from", "topic"),
    Exported("messages_skipped", "Messages that an earlier commit says are done", "skipped"),
    Exported("messages_invalid", "Messages that are no JSON object with an id", "invalid"),
    Exported("messages_superseded", "Messages replaced by a later one of the same topic and id", "superseded"),
    Exported("messages_with_headers", "Messages with headers; of a trace they go on to the result", "with_headers"),
    Exported("messages_shed", "Messages for which memory had no room: they are read again", "shed"),
    Exported("messages_read_again", "Messages read once more for those that memory had no room for", "read_again"),
    Exported("messages_gone", "Messages that waited and are no longer in the log", "gone"),
    Exported("messages_skipped_by_retention", "Messages deleted before they were read", "skipped_by_retention"),
    Exported("messages_cut_off", "Messages that were read and that the brokers have lost since", "cut_off"),
    Exported("maps_stored", "Maps of waiting messages too long for a commit, written to their topic", "stored_maps"),
    Exported("maps_missing", "Maps that are gone: stored ones, or another tool has committed", "missing_maps"),
    Exported("key_mismatches", "Input topics found to have other keys than their siblings", "mismatches"),
    Exported("groups_completed", "Ids whose message was there on every input topic", "completed"),
    Exported("groups_put_off", "Of these: no memory to wait for the next attempt, so they are read again", "put_off"),
    Exported("groups_filtered", "Ids for which process() returned None", "filtered"),
    Exported("groups_failed", "Ids for which process() failed", "failed"),
    Exported("retries", "Calls of process() that failed and are made again", "retried"),
    Exported("outages", "Times that process() failed for so many ids in a row that no more were taken in", "outages"),
    Exported("groups_evicted", "Ids given up, by the topics that were missing", "evicted_without", "missing_topics"),
    Exported("dead_letters", "Dead letters, by reason", "dead_letters", "reason"),
    Exported("results", "Results that process() returned", "results"),
    Exported("results_refused", "Of these: too large for their topic, and not sent", "refused_results"),
    Exported("commits", "Commits that Kafka confirmed", "commits"),
    Exported("commits_failed", "Commits that failed and are tried again", "failed_commits"),
    Exported("rebalances", "Times that partitions were assigned", "rebalances"),
    Exported("restarts", "Times that the worker started again from its last commit, in this process", "restarts"),
    Exported("reloads", "Times that the worker started again with a changed row, in this process", "reloads"),
    Exported("rows_refused", "Times that a changed row was found to be no good", "refused_rows"),
    Exported(
        "row_reads_failed",
        "Times that the row could not be read: the database was away, or refused this worker",
        "failed_row_reads",
    ),
)
HISTOGRAMS = (
    Exported("process_seconds", "Time of a call of process()", "process_time"),
    Exported("latency_seconds", "Time from an id's first message to the delivery of its results", "latency"),
    Exported("commit_seconds", "Time from the request of a commit to its answer", "commit_time"),
)
GAUGES = (
    Exported("groups_waiting", "Ids that wait for a message of another topic", "waiting"),
    Exported("waiting_bytes", "Memory that they take", "waiting_bytes"),
    Exported("oldest_waiting_seconds", "How long the oldest of them has waited", "oldest_age"),
    Exported("groups_in_flight", "Ids in process() or on the way there", "in_flight"),
    Exported("groups_parked", "Of them: they wait for their next attempt, or for another one of their id", "parked"),
    Exported(
        "load",
        "How full it is with what is in process() and on its way out, or waits for its next attempt; with 1 nothing"
        " more is read",
        "load",
    ),
    Exported("oldest_call_seconds", "How long the longest call of process() has lasted", "oldest_call"),
    Exported(
        "circuit_open", "1 while process() fails for one id after the other and no more are taken in", "circuit_open"
    ),
    Exported("paused", "1 while the row says that nothing more is to be taken in", "paused"),
    Exported(
        "partitions_without_leader",
        "Partitions of this worker that cannot be read: they, or what is joined with them, have no leader that answers",
        "without_leader",
    ),
    Exported("groups_uncommitted", "Ids whose results are out and not committed yet", "uncommitted"),
    Exported("max_pending_bytes", "The setting MAX_PENDING_BYTES", "max_pending_bytes"),
    Exported("message_timeout_seconds", "The setting MESSAGE_TIMEOUT", "message_timeout"),
)
OF_PARTITIONS = (
    Exported("lag", "Messages of a partition that are to be read, also once more for want of memory", "lag"),
    Exported("position", "Offset of a partition that is read next", "position"),
    Exported("unfinished", "Offsets of a partition that are read or known and not done", "unfinished"),
    Exported("map_characters", "Length of the map of waiting offsets; 4,095 fit into a commit", "map_characters"),
    Exported("paused", "1 while a partition is paused", "paused"),
)


@dataclass(slots=True, eq=False)
class Metrics(Collector):
    """Collects the metrics of one consumer, on the thread of whoever asks."""

    consumer: str
    counters: Counters
    health: Health
    build: Mapping[str, str] = field(default_factory=dict)  # labels of build_info
    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time

    _last: Snapshot | None = None
    _asking: threading.Lock = field(default_factory=threading.Lock)
    _own: "_OfWorkerPy" = field(default_factory=lambda: _OfWorkerPy())

    def page(self) -> bytes:
        """All of them in the text format, and behind them those of worker.py."""
        return _text(self) + self._own.page()

    def collect(self) -> Iterator[Metric]:
        snapshot = self._snapshot()
        for each in COUNTERS:
            yield self._counter(each, getattr(self.counters, each.attribute))
        for each in HISTOGRAMS:
            yield self._histogram(each, getattr(self.counters, each.attribute))
        yield from self._of_health()
        if snapshot:
            for each in GAUGES:
                yield self._gauge(each.name, each.tells, getattr(snapshot, each.attribute))
            for each in OF_PARTITIONS:
                yield self._of_partitions(each, snapshot.partitions)
        yield from self._of_process()
        yield self._info()

    def _counter(self, each: Exported, value: int | Mapping[str, int]) -> Metric:
        labels = ["consumer", each.label] if each.label else ["consumer"]
        family = CounterMetricFamily(PREFIX + each.name, each.tells, labels=labels)
        if isinstance(value, int):
            family.add_metric([self.consumer], value)
        else:
            for name, count in sorted(dict(value).items()):  # a copy, made in one piece: the worker goes on counting
                family.add_metric([self.consumer, name], count)
        return family

    def _histogram(self, each: Exported, histogram: Histogram) -> Metric:
        family = HistogramMetricFamily(PREFIX + each.name, each.tells, labels=["consumer"])
        counts, total = histogram.read()
        bounds = [*(f"{bound:g}" for bound in BOUNDS), "+Inf"]
        family.add_metric([self.consumer], list(zip(bounds, counts, strict=True)), total)
        return family

    def _gauge(self, name: str, tells: str, value: float) -> Metric:
        family = GaugeMetricFamily(PREFIX + name, tells, labels=["consumer"])
        family.add_metric([self.consumer], value)
        return family

    def _of_health(self) -> Iterator[Metric]:
        now, turned_at = self.clock(), self.health.turned_at
        yield self._gauge("live", "1 unless the loop stands still, as /health/live tells", self.health.is_live(now))
        yield self._gauge("ready", "1 while messages are read, as /health/ready tells", self.health.is_ready(now))
        differ = len(self.health.mismatches)
        yield self._gauge("topics_with_other_keys", "Input topics whose keys do not fit those of the others", differ)
        yield self._gauge(
            "row_refused", "1 while the row is no good and an earlier one in force", bool(self.health.refused)
        )
        yield self._gauge("row_unread", "1 while the row cannot be read", self.health.unread)
        if turned_at is not None:
            last = self.wall_clock() - (now - turned_at)
            yield self._gauge("last_poll_timestamp_seconds", "When the loop last turned, since the epoch", last)

    def _snapshot(self) -> Snapshot | None:
        """None where there is no worker at the moment. However many ask for metrics, one of them asks the loop, and
        before all who ask for pages: alerts look at these numbers.
        """
        if self.health.turned_at is None:
            self._last = None
        elif self._asking.acquire(blocking=False):
            try:
                self._last = self.health.ask_first(lambda view: view.snapshot(), ANSWER_WITHIN) or self._last
            finally:
                self._asking.release()
        return self._last

    def _of_partitions(self, each: Exported, partitions: Iterable[PartitionView]) -> Metric:
        family = GaugeMetricFamily(
            f"{PREFIX}partition_{each.name}", each.tells, labels=["consumer", "topic", "partition"]
        )
        for partition in partitions:
            value = getattr(partition, each.attribute)
            if value is not None:
                family.add_metric([self.consumer, partition.topic, str(partition.partition)], value)
        return family

    def _of_process(self) -> Iterator[Metric]:
        """Memory, CPU, start and files of the operating system's process; nothing where there is no /proc.

        Always of the same collector: another one would tell another start once the clock of the machine was set.
        """
        for family in PROCESS_COLLECTOR.collect():
            family.name = PREFIX + family.name.removeprefix("process_")
            family.samples = [
                sample._replace(name=PREFIX + sample.name.removeprefix("process_"), labels={"consumer": self.consumer})
                for sample in family.samples
            ]
            yield family

    def _info(self) -> Metric:
        labels = {"consumer": self.consumer, **self.build}
        family = GaugeMetricFamily(f"{PREFIX}build_info", "1; the versions are its labels", labels=list(labels))
        family.add_metric(list(labels.values()), 1)
        return family


class _OfWorkerPy(Collector):
    """What it counts by prometheus_client, which keeps it in a registry of the process. Nothing while a collector of
    its own hangs, which keeps one thread and not one for each who asks.
    """

    def __init__(self) -> None:
        self._asking = threading.Lock()
        self._asked: Future[bytes] | None = None
        self._has_failed = False

    def page(self) -> bytes:
        with suppress(TimeoutError, RuntimeError):  # it hangs; no thread is to be had at the moment
            with self._asking:
                if self._asked is None or self._asked.done():
                    self._asked = in_thread(self._read, "metrics")
                asked = self._asked
            return asked.result(ANSWER_WITHIN)
        return b""

    def _read(self) -> bytes:
        try:
            text, self._has_failed = _text(self), False
        except Exception as error:
            if not self._has_failed:  # said once, and not at each scrape
                logger.error("metrics of worker.py failed", exc_info=unquoted(error))
            text, self._has_failed = b"", True
        return text

    def collect(self) -> Iterator[Metric]:
        return (each for each in REGISTRY.collect() if not (each.name.startswith(PREFIX) or each.name in _OF_PYTHON))


def _text(collector: Collector) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return generate_latest(registry)
