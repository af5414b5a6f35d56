"""What the worker counts and times. Plain numbers: the worker adds, whoever asks reads. No Prometheus, no clock."""

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from itertools import combinations

_LONG = (120.0, 300.0, 600.0, 1800.0, 3600.0, 14_400.0, 43_200.0)
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, *_LONG)
"""Seconds: the upper bounds of a histogram's buckets. What took longer than the last one Prometheus shows as that long;
and an id may wait for hours for its other parts, or for its call."""
OTHERS, _MOST_MIXTURES = "(others)", 100  # of topics that were missing: each is a series, and of 20 there are a million
_ALL_MIXTURES = 5  # input topics: of more, there are too many mixtures that may be missing to begin a series for each


class Histogram:
    """How long something took, counted by upper bound. Any thread adds, any thread reads."""

    __slots__ = ("_counts", "_lock", "_sum")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self._sum = 0.0
        self._lock = threading.Lock()

    def add(self, seconds: float, number: int = 1) -> None:
        """`number` of them, one after the other, took `seconds`: all but one at most were quick (`BOUNDS[0]`)."""
        with self._lock:
            self._sum += seconds
            self._counts[0] += number - 1
            self._counts[bisect_left(BOUNDS, seconds)] += 1

    def add_alike(self, seconds: float, number: int) -> None:
        """`number` of them took `seconds` each."""
        with self._lock:
            self._sum += seconds * number
            self._counts[bisect_left(BOUNDS, seconds)] += number

    def read(self) -> tuple[list[int], float]:
        """How many took up to each bound, cumulated, at last how many there were; and the sum of their seconds."""
        with self._lock:
            counts, total = list(self._counts), self._sum
        for index in range(1, len(counts)):
            counts[index] += counts[index - 1]
        return counts, total


@dataclass(slots=True)
class Counters:
    """Records unless said otherwise, since the start of the process. utils/monitoring/prometheus.py exports them.

    They only rise: Prometheus takes one that falls for one that begins again at 0, and adds all of it once more.
    """

    read: int = 0
    skipped: int = 0  # finished by an earlier commit
    invalid: int = 0
    superseded: int = 0
    with_headers: int = 0
    shed: int = 0  # for want of memory: read again later
    read_again: int = 0  # offsets to which reading has gone back, for what was shed
    mismatches: int = 0  # input topics found to have other keys than their siblings
    gone: int = 0  # waiting according to the commit, but no longer in the log
    skipped_by_retention: int = 0
    cut_off: int = 0
    completed: int = 0  # groups; one that is put off is so once more when it is read again
    put_off: int = 0  # groups, of the completed: there was no room for them to be parked
    filtered: int = 0  # groups
    failed: int = 0  # groups
    retried: int = 0  # calls that failed and are made again
    outages: int = 0  # times that calls failed for one id after the other
    evicted: int = 0  # groups
    stored_maps: int = 0  # written because they did not fit into a commit
    missing_maps: int = 0  # commits whose stored map was not there any more
    results: int = 0
    refused_results: int = 0  # of them: too large for their topic
    commits: int = 0
    failed_commits: int = 0
    rebalances: int = 0
    restarts: int = 0
    reloads: int = 0  # of the row: times that the worker was started again with a changed one
    refused_rows: int = 0  # times that a changed row was found to be no good
    failed_row_reads: int = 0  # the database was away, or refused this worker
    dead_letters: Counter[str] = field(default_factory=Counter)  # by reason

    read_from: Counter[str] = field(default_factory=Counter)  # by topic
    evicted_without: Counter[str] = field(default_factory=Counter)  # groups, by the topics they lacked, comma separated
    process_time: Histogram = field(default_factory=Histogram)
    commit_time: Histogram = field(default_factory=Histogram)
    latency: Histogram = field(default_factory=Histogram)  # groups, from the first arrival to the delivery of results

    def expect(self, topics: Sequence[str], reasons: Iterable[str]) -> None:
        """Let the counts by topic, and of dead letters by reason, begin at 0.

        Prometheus sees no increase in what appears with a 1.
        """
        lacking = range(1, len(topics) if len(topics) <= _ALL_MIXTURES else 2)
        mixtures = [",".join(mixture) for number in lacking for mixture in combinations(topics, number)]
        for counter, names in (
            (self.read_from, topics),
            (self.evicted_without, mixtures or topics),
            (self.dead_letters, reasons),
        ):
            for name in names:
                counter[name] += 0

    def count_evicted(self, missing: Iterable[Sequence[str]]) -> None:
        """Groups were given up: the topics that each lacked."""
        without = Counter(map(",".join, missing))
        self.evicted += without.total()
        for names, number in without.items():
            is_kept = names in self.evicted_without or len(self.evicted_without) < _MOST_MIXTURES
            self.evicted_without[names if is_kept else OTHERS] += number

    def as_dict(self) -> dict[str, int]:
        """The plain numbers by name."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, int)}
