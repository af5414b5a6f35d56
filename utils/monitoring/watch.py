"""Who watches the worker, from the start of the process to its end: what is counted, remembered and shown of it."""

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from platform import python_version

from config import Settings
from utils.errors import is_of_the_frame, named
from utils.joining.dead_letters import REASONS
from utils.logger import client_logger, cut, facts_of, logger
from utils.metrics import Counters
from utils.monitoring.as_json import as_json
from utils.monitoring.history import History, Sample
from utils.monitoring.pages import POLICY, page
from utils.monitoring.prometheus import CONTENT_TYPE, Metrics
from utils.monitoring.report import Facts, Report, Search, Setting, Trouble, verdict
from utils.monitoring.status import Answer, Health, Page
from utils.monitoring.view import Snapshot
from utils.version import frame_version

ANSWER_WITHIN = 1.0  # seconds that a page waits for the loop
OLDEST = 20  # groups that a page shows
MOST = 10_000  # groups that /waiting.json?limit=… gives
REMEMBERED = 100  # warnings, and as many errors, of the log
RECENT = 600.0  # seconds
TELL_EVERY = 600.0  # seconds at most, of messages that were superseded: in some topics they are all day
LONGEST_FACT = 1024  # characters

_OF_THE_FRAME = logger.name, client_logger.name  # these alone see to it that the place of a line is whose it is


class Memory(logging.Handler):
    """Remembers the last warnings and the last errors of the log, apart: a retry is a warning, and pushes no error out.

    As text, and not the lines themselves: the error of one holds all that process() had in its hands.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock`: a monotonic one. That of the host may be set, and an old error would be new for so long."""
        super().__init__(logging.WARNING)
        self._clock = clock
        self._warnings: deque[tuple[float, Trouble]] = deque(maxlen=REMEMBERED)  # when, and what
        self._errors: deque[tuple[float, Trouble]] = deque(maxlen=REMEMBERED)

    def emit(self, record: logging.LogRecord) -> None:
        lines = self._warnings if record.levelno < logging.ERROR else self._errors
        try:
            lines.append((self._clock(), _trouble(record)))
        except Exception:  # worker.py may log what cannot be shown
            self.handleError(record)

    def troubles(self, now: float) -> list[Trouble]:
        """The newest first."""
        lines = sorted([*self._warnings, *self._errors], key=lambda line: line[0])
        return [replace(trouble, age=now - at) for at, trouble in reversed(lines)]


class Superseded:
    """Such messages leave nothing behind; and where it is not meant so, parts that were not sent together may meet."""

    def __init__(self) -> None:
        self._told = 0
        self._next = float("-inf")

    def tell(self, superseded: int, read_order: str, now: float) -> None:
        """`superseded`: messages so far."""
        if superseded > self._told and now >= self._next:
            since, self._told, self._next = superseded - self._told, superseded, now + TELL_EVERY
            facts = {"superseded": since, "read_order": read_order}
            logger.warning("ids came again while they waited: the later message counts", extra=facts)


class Watch:
    """Outlives the workers of a process. `settings` are those of the environment until the row is known."""

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.topics_input: tuple[str, ...] = ()
        self.topics_output: tuple[str, ...] = ()
        self.counters = Counters()
        self.health = Health()
        self.memory = Memory(clock)
        self._history = History()
        self._superseded = Superseded()
        self._clock, self._wall_clock = clock, wall_clock
        self._frame = frame_version()
        build = {"python": python_version(), "confluent_kafka": version("confluent-kafka")}
        build |= {"version": self._frame.version, "commit": self._frame.commit}
        self._metrics = Metrics(settings.consumer_name, self.counters, self.health, build, clock, wall_clock)

    def sees(self, settings: Settings, topics_input: tuple[str, ...], topics_output: tuple[str, ...]) -> None:
        """What the row says: the settings with its own over them, and the topics."""
        self.settings, self.topics_input, self.topics_output = settings, topics_input, topics_output
        self.counters.expect(topics_input, REASONS)

    def tick(self) -> None:
        """Every few seconds, from whichever thread: note the numbers of the charts. Only counts are read."""
        counters, view, now = self.counters, self.health.view, self._clock()
        waiting = len(view.aggregator) if view else 0
        sent = counters.results - counters.refused_results
        self._history.add(Sample(now, counters.read, sent, counters.failed, waiting))
        self._superseded.tell(counters.superseded, self.settings.read_order, now)

    def pages(self) -> dict[str, Page]:
        return {
            "/": self._status_page,
            "/status.json": self._status_json,
            "/waiting.json": self._waiting_json,
            "/metrics": self._metrics_page,
        }

    def _status_page(self, query: Mapping[str, str]) -> Answer:
        search = self.search(query["id"]) if query.get("id") else None
        return Answer("text/html; charset=utf-8", page(self.report(), search).encode(errors="replace"), POLICY)

    def _status_json(self, _query: Mapping[str, str]) -> Answer:
        return _json(self.report())

    def _waiting_json(self, query: Mapping[str, str]) -> Answer:
        """`id`: one search; else the groups that wait longest, `limit` of them at most."""
        if query.get("id"):
            return _json(self.search(query["id"]))
        limit = query.get("limit", "")
        number = min(int(limit[:9]), MOST) if limit.isascii() and limit.isdigit() else OLDEST
        snapshot = self._snapshot(number)
        return _json({"waiting": snapshot.waiting if snapshot else None, "oldest": snapshot.oldest if snapshot else ()})

    def _metrics_page(self, _query: Mapping[str, str]) -> Answer:
        return Answer(CONTENT_TYPE, self._metrics.page())

    def report(self) -> Report:
        """All that the page shows. The loop is asked for a snapshot."""
        snapshot = self._snapshot(OLDEST)
        now, series, troubles = self._clock(), self._history.series(), self._troubles()
        live, ready = self.health.is_live(now), self.health.is_ready(now)
        mismatches = self.health.mismatches.copy()  # the loop's thread changes it
        errors = sum(each.age < RECENT and each.level != "WARNING" for each in troubles)
        facts = Facts(
            begun=self.health.turned_at is not None,
            live=live,
            ready=ready,
            restarts=self.counters.restarts,
            snapshot=snapshot,
            series=series,
            errors=errors,
            remembered=REMEMBERED,
            mismatches=mismatches,
            refused=bool(self.health.refused),
            unread=self.health.unread,
            late=self.health.late(now),
        )
        return Report(
            consumer=self.settings.consumer_name,
            time=_utc(self._wall_clock()),
            verdict=verdict(facts),
            live=live,
            ready=ready,
            mismatches=mismatches,
            refused=self.health.refused,
            topics_input=self.topics_input,
            topics_output=self.topics_output,
            counters=self.counters.as_dict(),
            series=series,
            snapshot=snapshot,
            troubles=tuple(troubles),
            settings=self._settings(),
            frame=str(self._frame),
        )

    def search(self, id: str) -> Search:
        """Where this id is, as far as this worker knows."""
        answer = self.health.ask(lambda view: (view.waiting(id), view.in_flight(id)), ANSWER_WITHIN)
        waiting, in_flight = answer or (None, None)
        troubles = tuple(each for each in self._troubles() if cut(id) in each.ids)
        return Search(id, answer is not None, waiting, in_flight, troubles)

    def _snapshot(self, oldest: int) -> Snapshot | None:
        return self.health.ask(lambda view: view.snapshot(oldest), ANSWER_WITHIN)

    def _troubles(self) -> list[Trouble]:
        """The newest first."""
        return self.memory.troubles(self._clock())

    def _settings(self) -> tuple[Setting, ...]:
        settings = self.settings
        return tuple(
            Setting(name, str(value), settings.sources.get(name, "default"))
            for name, value in settings.public().items()
        )


def _trouble(record: logging.LogRecord) -> Trouble:
    """As it is now: its age is 0."""
    facts = facts_of(record)
    by_id = facts.get("missing_topics_by_id")
    error = record.exc_info[1] if record.exc_info else None
    message = record.getMessage()
    if not (record.name in _OF_THE_FRAME and is_of_the_frame(record.pathname)):
        # of worker.py: it may show a payload, and whoever reaches the port reads it
        facts = {key: value for key, value in facts.items() if key == "id"}
        message = f"{record.filename}:{record.lineno} has logged this: the log has its text"
    return Trouble(
        time=_utc(record.created),
        age=0.0,
        level=record.levelname,
        message=message[:LONGEST_FACT],
        facts={key: str(value)[:LONGEST_FACT] for key, value in facts.items()},
        error=named(error) if error is not None else "",
        ids=(str(facts["id"]),) if "id" in facts else tuple(by_id) if isinstance(by_id, dict) else (),
    )


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _json(value: object) -> Answer:
    return Answer("application/json", as_json(value) + b"\n")
