"""What is said of a cluster is what its client has heard since the last look."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from confluent_kafka import KafkaError

from config import Settings
from models import Row
from utils.fleet import looks
from utils.fleet.looks import NOBODY, Sites, Subject, _Said

ONE = Subject(Row("orders", ("a",), ("out",), "h:9092"), Settings(consumer_name="orders"))
UNKNOWN = KafkaError(KafkaError._UNKNOWN_TOPIC)
WELL = _Said(0.0, {"a": UNKNOWN, "out": UNKNOWN}, {"orders": NOBODY}, {"orders": UNKNOWN}, {})
REFUSED = KafkaError(KafkaError._AUTHENTICATION)


class Client:
    """An admin client: what it hears waits until it is polled."""

    def __init__(self, properties: dict[str, Any]) -> None:
        self._tell: Callable[[KafkaError], None] = properties["error_cb"]
        self.unpolled: list[KafkaError] = []
        CLIENTS.append(self)

    def poll(self, _timeout: float) -> int:
        while self.unpolled:
            self._tell(self.unpolled.pop())
        return 0

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None: ...


CLIENTS: list[Client] = []


def test_what_a_client_has_heard_while_all_was_well_is_not_why_the_cluster_is_away_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It stayed in its queue, for weeks: a login that had been refused once was named when brokers were away."""
    said: list[_Said | KafkaError] = []
    monkeypatch.setattr(looks, "AdminClient", Client)
    monkeypatch.setattr(looks, "_asked", lambda *_: said.pop())
    sites = Sites(10.0, 0.0)

    def line(now: _Said | KafkaError) -> str:
        said.append(now)
        trouble = sites.look([ONE], {"orders": looks.Look(0.0)})["orders"].now.trouble
        return trouble.line if trouble else ""

    away = KafkaError(KafkaError._TIMED_OUT)
    assert "does not answer in time" in line(away)
    CLIENTS[-1].unpolled.append(REFUSED)
    assert "does not answer in time" not in line(away), "of an outage it tells what was heard between two looks, too"
    CLIENTS[-1].unpolled.append(REFUSED)
    assert not line(WELL)
    assert "does not answer in time" in line(away)


@pytest.mark.parametrize(
    ("code", "clients"),
    [(KafkaError._TIMED_OUT, [1, 1, 1, 2, 2]), (KafkaError.GROUP_AUTHORIZATION_FAILED, [1, 1, 1, 1, 1])],
    ids=["no answer", "no right"],
)
def test_only_a_client_that_was_not_told_in_time_what_a_group_is_is_asked_no_more(
    code: int, clients: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on asking for an hour, and would end the process after that: see `described_groups`.

    Where a right was missing, too, each look made a new client, with its threads and its login.
    """
    said = [WELL, WELL, replace(WELL, groups={"orders": KafkaError(code)}), WELL, WELL]
    monkeypatch.setattr(looks, "AdminClient", Client)
    monkeypatch.setattr(looks, "_asked", lambda *_: said.pop(0))
    sites, made = Sites(10.0, 0.0), list[int]()
    before = len(CLIENTS)
    while said:
        sites.look([ONE], {"orders": looks.Look(0.0)})
        made.append(len(CLIENTS) - before)
    assert made == clients
