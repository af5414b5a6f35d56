"""The way to process(): how it ends."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest

from config import Settings
from utils.processing.dispatcher import Dispatcher
from utils.processing.runner import Hooks, Runner
from utils.processing.user_code import UserCode
from utils.running.calls import Calls


class HangingRunner:
    """A call of process() does not end."""

    def close(self, timeout: float) -> None:
        raise TimeoutError


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
