"""How `dlq replay` ends where setup() of worker.py does not come to its end."""

import argparse
from types import SimpleNamespace
from typing import Any

import pytest

from utils.commands import dlq
from utils.running.calls import SetupFailed
from utils.running.lifetime import Stopped


@pytest.mark.parametrize(("error", "code"), [(Stopped(), 0), (SetupFailed(), 1)])
def test_a_replay_that_is_stopped_in_setup_ends_in_order(
    monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    def raises(*_: object) -> None:
        raise error

    monkeypatch.setattr(dlq, "opened_calls", raises)
    monkeypatch.setattr(dlq, "stop_on_signals", lambda: None)
    row, settings = SimpleNamespace(topics_input=("a",)), SimpleNamespace()
    dead: Any = SimpleNamespace(consumer_name="orders", config=SimpleNamespace(row=row, settings=settings))
    arguments = argparse.Namespace(reason="", id="", since=None, until=None, all=True, dry_run=False)
    assert dlq.dlq_replay(arguments, dead) == code
