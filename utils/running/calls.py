"""The way to process() of worker.py: opened with its setup(), closed with its teardown()."""

import gc
import random
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from config import Settings, UnavailableError
from utils.logger import logger, stay_heard
from utils.metrics import Counters, Histogram
from utils.monitoring.status import Health
from utils.processing import user_code
from utils.processing.attempts import Attempts
from utils.processing.coroutines import Coroutines
from utils.processing.dispatcher import Dispatcher
from utils.processing.runner import CallTerms, Runner, nothing
from utils.processing.single_thread import SingleThread
from utils.processing.thread_pool import ThreadPool
from utils.running.lifetime import Stopped, interruptibly

SETUP_IS_SLOW = 30.0  # seconds after which the log says that setup() has not returned; then after twice as long
GC_THRESHOLDS = 50_000, 20, 50  # what travels holds no cycles: with the defaults a tenth of the CPU goes into looking


class Calls(NamedTuple):
    """The way to process(), with the settings that made it. It outlives a change of the row that leaves these alone."""

    runner: Runner
    dispatcher: Dispatcher
    settings: Settings

    def fit(self, settings: Settings) -> bool:
        names = ("concurrency", "max_pending_bytes", "process_timeout", "process_attempts", "retry_backoff")
        return all(getattr(settings, name) == getattr(self.settings, name) for name in names)

    def close(self) -> bool:
        """Let teardown() of worker.py run; whether all calls have ended. What it raises comes too late to matter."""
        timeout = 0 if self.dispatcher.is_stuck else self.settings.shutdown_timeout
        try:
            self.runner.close(timeout)
        except BaseException as error:  # CancelledError, say, of a task that it has cancelled and awaited
            ended = not isinstance(error, TimeoutError)
            if not ended and user_code.load().hooks.teardown is nothing:
                logger.warning("process() had not ended when the worker did", extra={"timeout": timeout})
            else:
                logger.warning("no orderly teardown()", extra={"timeout": timeout}, exc_info=error)
            return ended
        return True


class SetupFailed(Exception):
    """setup() of worker.py has raised its cause, and the log has it."""


def opened_calls(
    settings: Settings,
    counters: Counters,
    process_stop: threading.Event,
    attempts: Attempts | None = None,
    health: Health | None = None,
    code: user_code.UserCode | None = None,
) -> Calls:
    """`attempts`, `code`: where they are not those of a worker.

    Raises Stopped, SetupFailed. UnavailableError: there are too few threads for process().
    """
    runner = runner_of(settings.consumer_name, settings, counters.process_time, code)
    try:
        open_runner(runner, process_stop, health)
    except (Stopped, UnavailableError):
        raise
    except BaseException as error:  # also CancelledError; and sys.exit() would look like a stop in order
        logger.error("setup() failed", exc_info=error)
        raise SetupFailed from error
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    return Calls(runner, dispatcher_of(runner, settings, counters, process_stop, attempts), settings)


def open_runner(
    runner: Runner,
    stopping: threading.Event,
    health: Health | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Let setup() of worker.py run. One that hangs does so for ever: log and health tell. Raises Stopped."""
    health, began, due = health or Health(), clock(), SETUP_IS_SLOW

    def tell() -> None:
        nonlocal due
        if (lasted := clock() - began) >= due:
            due *= 2
            logger.warning("setup() has not returned yet", extra={"seconds": round(lasted)})

    try:
        with health.awaits("setup() of worker.py", began):
            interruptibly(runner.open, stopping, tell)
    finally:
        stay_heard()


def runner_of(
    consumer_name: str, settings: Settings, times: Histogram, code: user_code.UserCode | None = None
) -> Runner:
    """How to call process(), setup() and teardown() of worker.py, or of `code`. Raises ConfigError."""
    process, hooks = (code := code or user_code.load()).process, code.hooks
    # A thread cannot be cancelled: of those that take longer the dispatcher tells.
    terms = CallTerms(
        timeout=(settings.process_timeout or None) if code.is_async else None,
        most=settings.max_pending_bytes // 8,
        times=times,
        context=code.context.copy(),
    )
    if code.is_async:
        return Coroutines(process, consumer_name, settings.concurrency, hooks, terms)
    if settings.concurrency > 1:
        return ThreadPool(process, consumer_name, settings.concurrency, hooks, terms)
    return SingleThread(process, consumer_name, hooks, terms)


def dispatcher_of(
    runner: Runner,
    settings: Settings,
    counters: Counters,
    process_stop: threading.Event,
    attempts: Attempts | None = None,
) -> Dispatcher:
    attempts = attempts or Attempts(settings.process_attempts, settings.retry_backoff, random.random)
    return Dispatcher(runner, attempts, counters, settings.process_timeout, process_stop.set)
