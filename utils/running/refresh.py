"""Looks at the row again, every CONFIG_REFRESH seconds and whenever workers of the consumer come or go.

A good change ends the worker in order, so that another one is built by it; a bad one is said, counted and left alone.
Knows neither the database nor Kafka: `read` does (reread.py). All of it runs in a thread of its own, but for `begin()`,
`next()`, `withdraw()` and `reread()`, which are for the thread of the worker.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from config import ConfigError, Settings, UnavailableError, is_secret
from models import Row
from utils.joining.offsets import Edition
from utils.kafka.ends import Partition
from utils.kafka.limits import CommitLimits
from utils.logger import logger
from utils.metrics import Counters
from utils.monitoring.status import Health

TURN = 0.5  # seconds between two looks at the clock
TRY_AGAIN = 1.0  # seconds, while a worker cannot go on without the row
UNREAD = 60.0  # seconds at most from a look that failed to the next one: until then the row counts as unread
WITHDRAWN, WITHDRAWN_AT_MOST = 60.0, 3600.0  # seconds until a row is tried once more; twice as long each time
_SHOWN = 200  # characters of a value


@dataclass(frozen=True, slots=True)
class Config:
    """What a worker works by."""

    settings: Settings  # those of the row over those of the environment
    row: Row
    stores_maps: bool = True
    limits: CommitLimits = field(default_factory=CommitLimits)
    partitions: int = 0  # of all input topics together; 0: not known
    ends: Mapping[Partition, int] = field(default_factory=dict)
    """Of topics that were added to the row, when this process saw it: what comes from there on is read."""
    files: Mapping[str, str] = field(default_factory=dict)  # of TLS, by property: a digest; the client reads them once
    unfit_files: str = ""  # why those that are there now are not taken yet, where they are others
    problems: tuple[str, ...] = ()  # why no worker could work by the row as it is now: then this is the one before it
    unread_maps: tuple[str, ...] = ()  # why stored ones cannot be read; nothing: they can
    lacking: tuple[str, ...] = ()  # what a worker does without, found when this row was tried


Read = Callable[[Config], Config]
"""The row as it is now; as given where it is the same. UnavailableError: no database at the moment; ConfigError: there
is no such row. A row that is no good for another reason may pause the worker all the same."""


class _Withdrawn(NamedTuple):
    """A row that looked good, but no worker could begin by it."""

    config: Config
    pause: float  # seconds
    until: float  # when it is tried once more

    def is_of(self, found: Config) -> bool:
        """Whether this is that row, paused since or not."""
        row, settings = self.config.row, self.config.settings
        is_like = settings == found.settings or settings.differs_in_pause(found.settings)
        return is_like and replace(found.row, metadatas=row.metadatas) == row


class Refresh:
    """The configuration in force, and the way to the next one."""

    def __init__(
        self,
        current: Config,
        read: Read,
        counters: Counters,
        health: Health,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.current = current
        self._read = read
        self._counters = counters
        self._health = health
        self._clock = clock
        self._sleep = sleep
        self.edition = Edition(1)  # of the current row; for the worker's thread only
        self.topics_changed_at = float("-inf")  # when the input topics became others
        self._before: Config | None = None  # the last one by which a worker has worked
        self._commits = 0  # when it did
        self._withdrawn: _Withdrawn | None = None
        self._shared: Row | None = None  # withdrawn, and then seen to be the one by which others work
        self._next: Config | None = None
        # Of several brokers that are away, each look may name another one: what was said is not said again.
        self._refusals = set[tuple[str, ...]]()  # while the row is no good
        self._unfit = set[str]()  # while files of TLS are not
        self._is_numbered = False  # its edition is known: higher by one than that of a commit that was seen
        self._ending = threading.Event()
        self._next_look = clock() + current.settings.config_refresh
        self._rebalances = 0
        self._wanted = False  # a worker waits for a look that begins after it has asked
        self._is_told = False  # that look told which topics the row names, and a worker can work by it

    # ------------------------------------------------------------------ for the worker's thread

    def begin(self, ending: threading.Event) -> Config:
        """A worker begins, by the configuration that is returned; `ending` is set when there is another one."""
        self._ending = ending
        self._rebalances = self._counters.rebalances
        if self.current.settings.paused:  # else who starts it would wonder
            _tell_pause()
        if self._next:
            ending.set()
        return self.current

    def next(self) -> bool:
        """Whether there is another configuration; then it is the current one now."""
        if not self._next:
            return False
        self._counters.reloads += 1
        former, self.current, self._next = self.current, self._next, None
        if not self._before or self._counters.commits > self._commits:  # else no worker has worked by the former
            self._before = former
        self._commits = self._counters.commits
        if self._note_topics(former) and not self._is_numbered:
            self.edition.comes_after(self.edition.number)
        self._is_numbered = False
        return True

    def withdraw(self, error: Exception) -> bool:
        """A worker could not even begin by the current configuration: back to the one before, if there is one.

        Not where others of the consumer work by this one: by the one before, nobody can work beside them. It is tried
        again, soon after an error of brokers, say, and seldom after a ConfigError: that needs somebody who grants a
        right, perhaps, without a word to us.
        """
        if not self._before or self._counters.commits > self._commits or self.current.row == self._shared:
            return False
        last = self._withdrawn
        if isinstance(error, ConfigError):
            pause, problems = WITHDRAWN_AT_MOST, error.problems
        else:
            pause = min(last.pause * 2, WITHDRAWN_AT_MOST) if last and last.is_of(self.current) else WITHDRAWN
            problems = [str(error)]
        problems = [f"no worker could begin by it, in {pause:.0f} s it is tried again: {each}" for each in problems]
        self._withdrawn = _Withdrawn(self.current, pause, self._clock() + pause)
        self._refuse(problems)
        former, before = self.current, self._before
        before = replace(before, settings=replace(before.settings, paused=former.settings.paused))  # by either row
        self.current, self._before, self._next = before, None, None
        self._note_topics(former)
        return True

    def _note_topics(self, former: Config) -> bool:
        """Whether the input topics have become others."""
        if self.current.row.topics_input == former.row.topics_input:
            return False
        self.topics_changed_at = self._clock()
        return True

    def reread(self, worker_stop: threading.Event, seen: int = 0) -> None:
        """Wait for a look at the row: a commit of the consumer has that edition of it, with other topics than ours.

        What the row says now is newer. Where no worker can work by it, the old one stays and is not. That no worker of
        this process could begin by a row counts no more: those who have committed by it can.
        """
        if self._withdrawn:
            self._shared, self._withdrawn = self._withdrawn.config.row, None
        self._is_told, self._wanted = False, True
        while self._wanted and not worker_stop.is_set():
            self._sleep(0.1)
        if self._is_told:
            self.edition.comes_after(seen)
            self._is_numbered = self._next is not None  # counted twice, it would come after a row that is newer

    # ------------------------------------------------------------------ in a thread of its own

    def watch(self, process_stop: threading.Event) -> None:
        """Look whenever it is due, until `process_stop` is set."""
        while not process_stop.wait(TURN):
            if self.is_due():
                self.look()

    def is_due(self) -> bool:
        """Not while a change is being applied. After a rebalance at once: perhaps others have a changed row."""
        every, rebalances = self.current.settings.config_refresh, self._counters.rebalances
        if self._next:
            return False
        if self._wanted:
            return self._clock() >= self._next_look or not self._health.unread
        return every > 0 and (self._clock() >= self._next_look or rebalances != self._rebalances)

    def look(self) -> None:
        """Once. Never raises: the worker goes on by the row that it has."""
        self._rebalances = self._counters.rebalances
        wanted, is_told = self._wanted, False  # who asks while it reads is not answered: the row may be older than that
        try:
            is_told = self._take(self._read(self.current))
            self._is_available()
        except ConfigError as error:
            self._refuse(error.problems)
            self._is_available()
        except UnavailableError as error:
            self._is_unavailable(str(error))
        except Exception as error:  # this thread must not end: nobody would notice
            logger.exception("looking at the row failed")
            self._is_unavailable(str(error))
        if wanted and not self._health.unread:
            self._is_told, self._wanted = is_told, False
        every = self.current.settings.config_refresh
        pause = TRY_AGAIN if self._wanted else min(every, UNREAD) if self._health.unread else every
        self._next_look = self._clock() + pause

    def _take(self, found: Config) -> bool:
        """False: no worker could work by it."""
        if found.problems:
            self._refuse(found.problems)
            self._note_pause(found.settings.paused)
            self.current = replace(found, problems=())
            return False
        if not self._withdrawn or not self._withdrawn.is_of(found):
            self._withdrawn = None
        elif self._clock() < self._withdrawn.until:
            self._note_pause(found.settings.paused)  # by which row ever it works: somebody wants it to stop now
            self.current = replace(self.current, settings=replace(self.current.settings, paused=found.settings.paused))
            return False
        if self._health.refused:
            if self._withdrawn:
                logger.info("the row is tried again")
            else:
                logger.info("the row is good again")
        self._health.refused = ()
        self._refusals.clear()
        told = self.current.settings.warnings + self.current.lacking
        tell_warnings(each for each in found.settings.warnings + found.lacking if each not in told)
        if not found.unfit_files:
            self._unfit.clear()
        elif found.unfit_files not in self._unfit:
            self._unfit.add(found.unfit_files)
            logger.warning("files of TLS have changed, and are not taken yet", extra={"error": found.unfit_files})
        changes, renewed = changed(self.current, found), renewed_files(self.current, found)
        if not changes and not renewed:
            self._note_pause(found.settings.paused)
            self.current = found
            return True
        if changes:
            logger.info("the row has changed: the worker starts again with it", extra={"changed": changes})
        if renewed:
            logger.info("files of TLS have changed: the worker starts again with them", extra={"changed": renewed})
        self._next = found
        self._ending.set()
        return True

    def _note_pause(self, paused: bool) -> None:
        """The worker asks for it at each turn, and need not start again."""
        if paused and not self.current.settings.paused:
            _tell_pause()
        elif self.current.settings.paused and not paused:
            logger.info("no longer paused by the row: the worker goes on")

    def _refuse(self, problems: Sequence[str]) -> None:
        self._health.refused = tuple(problems)
        if self._health.refused not in self._refusals:
            self._refusals.add(self._health.refused)
            self._counters.refused_rows += 1
            logger.error("the row has changed and is no good: the old one stays", extra={"problems": list(problems)})

    def _is_unavailable(self, why: str) -> None:
        self._counters.failed_row_reads += 1
        if not self._health.unread:
            logger.warning("the row cannot be read: the one that is known stays", extra={"error": why})
        self._health.unread = True

    def _is_available(self) -> None:
        if self._health.unread:
            logger.info("the row can be read again")
        self._health.unread = False


def tell_warnings(warnings: Iterable[str]) -> None:
    for warning in warnings:
        logger.warning("the worker runs, but: %s", warning)


def _tell_pause() -> None:
    logger.info("paused by the row: nothing more is taken in")


def changed(old: Config, new: Config) -> dict[str, list[str]]:
    """By name of a column, a setting or a property: the old value and the new one, secrets masked."""
    if (old.row, old.settings) == (new.row, new.settings):
        return {}
    before, after = _values(old), _values(new)
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return {name: [_shown(name, before.get(name)), _shown(name, after.get(name))] for name in names}


def renewed_files(old: Config, new: Config) -> list[str]:
    """The properties that name them. Of other settings, other files are no news."""
    return [name for name, digest in new.files.items() if digest and old.files.get(name, digest) != digest]


def _values(config: Config) -> dict[str, Any]:
    row, settings = config.row, config.settings
    columns = {
        "topics_input": ",".join(row.topics_input),
        "topics_output": ",".join(row.topics_output),
        "kafka_bootstrap_server": row.bootstrap_servers,
    }
    return {**columns, **settings.public(), **settings.kafka}


def _shown(name: str, value: object) -> str:
    return "***" if value is not None and is_secret(name) else "" if value is None else str(value)[:_SHOWN]
