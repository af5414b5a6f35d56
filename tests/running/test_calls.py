"""The way to process(): how it ends."""

import asyncio
import logging
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest

from config import Settings
from utils.logger import logger
from utils.metrics import Counters
from utils.monitoring.status import Awaited, Health
from utils.processing.dispatcher import Dispatcher
from utils.processing.runner import Hooks, Runner
from utils.processing.user_code import UserCode
from utils.running.calls import Calls, SetupFailed, open_runner, opened_calls


class HangingRunner:
    """A call of process() does not end."""

    def close(self, timeout: float) -> None:
        raise TimeoutError


class SlowRunner:
    """A setup() that does not return before the clock has been looked at as often as it has times."""

    def __init__(self, *times: float, error: Exception | None = None) -> None:
        self._times, self._error, self._over = list(times), error, threading.Event()
        self.health, self.seen = Health(), set[Awaited | None]()

    def open(self) -> None:
        assert self._over.wait(60)
        if self._error:
            raise self._error

    def clock(self) -> float:
        self.seen.add(self.health.awaited)
        if len(self._times) == 1:
            self._over.set()
            return self._times[0]
        return self._times.pop(0)


def test_a_setup_that_does_not_return_is_told_more_and_more_rarely(caplog: pytest.LogCaptureFixture) -> None:
    slow = SlowRunner(100.0, 129.0, 130.0, 159.0, 160.0, 161.0, 219.0, 220.0, 221.0)
    open_runner(cast(Runner, slow), threading.Event(), slow.health, slow.clock)
    assert [(record.getMessage(), record.seconds) for record in caplog.records] == [  # type: ignore[attr-defined]
        ("setup() has not returned yet", seconds) for seconds in (30, 60, 120)
    ]
    assert slow.seen == {None, Awaited("setup() of worker.py", 100.0)}, "health has told since when"
    assert slow.health.awaited is None


class RaisingRunner:
    """setup() and teardown() raise what is no Exception."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def open(self) -> None:
        raise self._error

    def close(self, timeout: float) -> None:
        raise self._error


@pytest.mark.parametrize("kind", [asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_hook_that_raises_what_is_no_exception_is_told_as_any_other(
    kind: type[BaseException], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The classic end of an async teardown(), `task.cancel(); await task`, ended the process with 1, by a traceback."""
    raising = cast(Runner, RaisingRunner(kind()))
    monkeypatch.setattr("utils.running.calls.runner_of", lambda *_: raising)
    with pytest.raises(SetupFailed) as failed:
        opened_calls(Settings(), Counters(), threading.Event())
    assert isinstance(failed.value.__cause__, kind)
    assert [record.getMessage() for record in caplog.records] == ["setup() failed"]
    dispatcher = cast(Dispatcher, SimpleNamespace(is_stuck=False))
    assert Calls(raising, dispatcher, Settings()).close()
    assert caplog.records[-1].getMessage() == "no orderly teardown()"


def test_a_setup_that_raises_is_over(caplog: pytest.LogCaptureFixture) -> None:
    failing = SlowRunner(0.0, error=RuntimeError("no model"))
    with pytest.raises(RuntimeError, match="no model"):
        open_runner(cast(Runner, failing), threading.Event(), failing.health, failing.clock)
    assert failing.health.awaited is None
    assert not caplog.records


def test_a_setup_that_takes_all_handlers_away_does_not_silence_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    runner, root = SlowRunner(0.0), logging.getLogger()
    monkeypatch.setattr(root, "handlers", list(root.handlers))
    monkeypatch.setattr(runner, "open", root.handlers.clear)
    open_runner(cast(Runner, runner), threading.Event(), runner.health, runner.clock)
    assert [each.name for each in root.handlers] == [logger.name]


@pytest.mark.parametrize(("teardown", "says"), [(None, "process() had not ended"), (print, "no orderly teardown()")])
def test_a_call_that_does_not_end_is_laid_at_the_door_of_teardown_only_where_there_is_one(
    teardown: Callable[[], None] | None, says: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hooks = Hooks(teardown=teardown) if teardown else Hooks()
    monkeypatch.setattr("utils.processing.user_code.load", lambda: UserCode(lambda message, _name: message, hooks))
    calls = Calls(cast(Runner, HangingRunner()), cast(Dispatcher, SimpleNamespace(is_stuck=False)), Settings())
    assert not calls.close()
    [record] = caplog.records
    assert record.getMessage().startswith(says)
    assert bool(record.exc_info) == bool(teardown)
