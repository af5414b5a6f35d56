"""What restarts what, and why.

    process    from `python main.py` until `process_stop` is set: by a signal, or when calls of process() hang for good
      calls      the way to process(), with setup() and teardown(): another one when the row changes a setting of theirs
        row        when it changes, `worker_stop` is set: the worker ends in order, and the next one begins by the new
                   row. Where no worker can even begin by that, the row before it is in force again
          worker     when it fails, or an input topic was made again, its memory is thrown away, and the next one goes
                     on from the last commit

A worker that fails is started again, RESTARTS times. The next failure without progress in between, the sixth, ends the
process (where Kafka forbids something, also with progress): whoever has started it (a container, systemd) starts the
next one, on another machine perhaps. The exit code of each end is in docs/how-it-works.md, "What restarts what".
"""

import gc
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from threading import Event
from typing import NamedTuple, Protocol

from config import ConfigError, UnavailableError
from utils.errors import chain, unquoted
from utils.joining.suspicion import CrashRecord
from utils.kafka import client_errors
from utils.kafka.membership import Membership
from utils.logger import configure_again, logger
from utils.metrics import Counters
from utils.monitoring.watch import Watch
from utils.processing.done import ThreadDied
from utils.processing.executor import Retrying
from utils.reading.intake import Intake, Waits
from utils.reading.locator import AssignmentOutdated, NeverJoins, Partition, RowOutdated
from utils.running.assembly import SETTLE, Surroundings, build_worker, gathering, gets_place_back, provides_topics
from utils.running.calls import opened_calls
from utils.running.lifetime import LONGEST_PAUSE, STANDSTILL, Stopped, ending_in_time, sleep
from utils.running.refresh import Refresh
from utils.sending.outbox import RecordRefused
from utils.version import frame_version

RESTARTS = 5  # of the worker; its next failure in a row ends the process
LASTING = 600.0  # seconds: after a worker that ran so long the count begins anew, also where there were no records


def work(refresh: Refresh, process_stop: Event, watch: Watch) -> int:
    """Run workers, one after the other where one fails or the row changes, until `process_stop` is set: the exit code.

    0 only where nothing but a signal has set it. What a worker does not survive is raised.
    """
    calls = None
    try:
        while not process_stop.is_set():
            settings = refresh.current.settings
            if calls and not calls.fit(settings):
                former, calls = calls, None
                if not former.close() or former.dispatcher.is_stuck:
                    return 1  # ids that are still in process() must not get there a second time
                del former
                watch.health.view = None
                gc.unfreeze()  # what was there when those calls were opened; and the worker before is not to be frozen
                gc.collect()
            try:
                calls = calls or opened_calls(settings, watch.counters, process_stop, health=watch.health)
            except UnavailableError as error:  # no threads for what a row asks for: all workers of it would end
                if not refresh.withdraw(error):
                    raise
                continue
            _work_by_row(refresh, calls.dispatcher, process_stop, watch)
            refresh.next()  # without one the row was withdrawn, and the one before is in force again
    except Stopped:
        return 0
    except ThreadDied as error:
        logger.error("a thread of process() has died: the process ends", exc_info=unquoted(error.__cause__))
        return 1
    finally:
        if calls:
            calls.close()
    logger.info("stopped", extra=watch.counters.as_dict())
    return 1 if calls and calls.dispatcher.is_stuck else 0


def _work_by_row(refresh: Refresh, executor: Retrying, process_stop: Event, watch: Watch) -> None:
    """Run workers until `process_stop` is set or the row has changed."""
    settings, row = refresh.current.settings, refresh.current.row
    configure_again(settings.log_level, settings.consumer_name)
    watch.sees(settings, row.topics_input, row.topics_output)
    around = Surroundings(
        executor=executor,
        counters=watch.counters,
        health=watch.health,
        membership=Membership(is_static=bool(settings.group_instance_id)),
        edition=refresh.edition,
        waits=Waits(
            settings.config_refresh + SETTLE,
            refresh.topics_changed_at,
            gathering(settings),
            stopped=lambda: refresh.current.settings.paused,
        ),
        frame=frame_version().in_commits,
    )
    standstill = settings.process_timeout and settings.process_timeout + STANDSTILL
    with ending_in_time(process_stop, settings.shutdown_timeout, standstill) as worker_stop:
        refresh.begin(worker_stop)

        def build(opened: ExitStack) -> Runs:
            return build_worker(refresh.current, around, worker_stop, opened)

        try:
            remedies = Remedies(
                refresh.reread,
                partial(gets_place_back, refresh.current),
                partial(provides_topics, refresh.current),
            )
            supervise(build, watch.counters, worker_stop, remedies, around.survived)
        except Exception as error:
            if not refresh.withdraw(error):
                raise


class Remedies(NamedTuple):
    """What helps where a worker has ended, and has not failed. All return when `worker_stop` is set."""

    reread_row: Callable[[Event, int], None] = lambda _worker_stop, _edition: None
    """Wait until the row has been read again: a commit has that edition of it."""
    gets_place_back: Callable[[Event], bool] = lambda _worker_stop: False
    """Wait whether who has our GROUP_INSTANCE_ID is alive: then it keeps our place in the consumer group."""
    provides_topics: Callable[[Event], None] = lambda _worker_stop: None
    """Make those of the worker's own that are gone: somebody has deleted the dead letters, say."""


class Runs(Protocol):
    """A worker, or a replay of dead letters."""

    intake: Intake

    def run(self) -> None: ...


def supervise(
    build: Callable[[ExitStack], Runs],
    counters: Counters,
    worker_stop: Event,
    remedies: Remedies = Remedies(),  # noqa: B008 (it cannot be changed)
    survived: dict[Partition, CrashRecord] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Crash-only: after a failure a new worker goes on from the last commit.

    What follows an error, in the order of the branches below; "counts": after RESTARTS in a row the next one is raised.

        RowOutdated                     the row is read again                              does not count
        AssignmentOutdated, NeverJoins  joins the consumer group anew                      does not count
        RecordRefused                   starts again, and knows that record now            does not count
        our GROUP_INSTANCE_ID is taken  by a member that is not alive: joins anew          does not count
                                        by one that is: it would be driven out in turn     raised
        ThreadDied                      the start counts as in rule 13: ends the process   raised
        Kafka does not take a setting   nor will it take it from the next worker           raised, as a ConfigError
        Kafka forbids something         who replaces a right takes the old one away first  counts, also after progress
        any other                       also a ConfigError: a topic is being made again    counts from the last progress

    A ConfigError of build() is raised at once. Progress is a record finished, and not a commit made: each start makes
    one. Where Kafka forbids something progress does not begin the count anew: else results that may be sent would come
    again and again beside those that may not. A worker that has run for LASTING ends any count.

    What is to be closed after a worker, `build` puts on the stack that it is given.

    `survived` is told how the partitions of a worker stood that has failed: the process has not ended, so that no
    message is to blame, unless Kafka has refused one. The last worker counts no start: the process ends by itself then.
    """
    failures, survived = 0, {} if survived is None else survived
    while not worker_stop.is_set():
        began = clock()
        error, had, has_progressed = _run_one(build)
        _free_memory(error)
        if error is None:
            continue
        if isinstance(error, RowOutdated):
            logger.warning("reading the row again", extra={"why": str(error)})
            remedies.reread_row(worker_stop, error.edition)
            sleep(1.0, worker_stop)
            continue
        if isinstance(error, (AssignmentOutdated, NeverJoins)):
            survived |= had
            logger.warning("joining the consumer group anew", extra={"why": str(error)})
            continue
        if isinstance(error, RecordRefused):  # no failure of the worker: it knows now what to do with that record
            counters.restarts += 1
            survived |= had
            logger.error("starting again from the last commit", extra={"error": str(error)})
            continue
        if client_errors.is_replaced(error):
            logger.warning("another member of the group has our GROUP_INSTANCE_ID: waiting whether it is alive")
            if remedies.gets_place_back(worker_stop):
                counters.restarts += 1
                survived |= had
                logger.warning("joining the consumer group anew", extra={"why": "nobody has our GROUP_INSTANCE_ID"})
                continue
        if isinstance(error, ThreadDied):  # the next worker would have the same threads
            raise error
        is_forbidden = client_errors.is_forbidden(error)
        if cure := client_errors.cure_of(error):
            refused = ConfigError([cure])
            refused.__cause__ = error
            if not is_forbidden:
                raise refused
            error = refused
        in_a_row = (is_forbidden or not has_progressed) and clock() - began < LASTING
        failures = failures + 1 if in_a_row else 1
        if failures > RESTARTS:
            raise error
        counters.restarts += 1
        survived |= had
        if not client_errors.concerns_all(error):
            survived.clear()  # whose record it is shows as it does where one ends the process
        elif failures == RESTARTS:
            survived |= {at: record._replace(starts=0) for at, record in survived.items()}
        facts = {"failures": failures, "error": str(error)}
        known = isinstance(error, (ConfigError, UnavailableError))  # they say all there is to say
        logger.error("starting again from the last commit", extra=facts, exc_info=None if known else error)
        if client_errors.lacks_topic(error):
            remedies.provides_topics(worker_stop)
        sleep(min(2.0 ** (failures - 1), LONGEST_PAUSE), worker_stop)


class Ended(NamedTuple):
    """How a worker has ended. Without an error: in order."""

    error: Exception | None
    records: dict[Partition, CrashRecord]  # of the partitions that it had last
    has_progressed: bool


def _run_one(build: Callable[[ExitStack], Runs]) -> Ended:
    """Build a worker and let it run. Its clients are closed then: each of them has threads and connections."""
    opened = ExitStack()
    try:
        worker = build(opened)
    except ConfigError:
        _close(opened)
        raise
    except Exception as not_built:
        _close(opened)
        return Ended(not_built, {}, has_progressed=False)
    try:
        worker.run()
        error = None
    except Exception as raised:
        error = raised
    _close(opened)
    owned = worker.intake.owned
    records = {at: offsets.suspicion.crash_record for at, offsets in owned.former.items()}
    return Ended(error, records, owned.has_progressed)


def _close(opened: ExitStack) -> None:
    """What was to be done is done, or has failed by now: that a client cannot be closed changes nothing of it."""
    try:
        opened.close()
    except Exception:
        logger.exception("a client could not be closed")


def _free_memory(error: Exception | None) -> None:
    """That of the worker which has ended so.

    The frames of an error hold it, also where only the log remembers that. And what it is made of holds itself in
    rings, which are not looked for in a long time.
    """
    for each in chain(error):
        traceback.clear_frames(each.__traceback__)
    gc.collect()
