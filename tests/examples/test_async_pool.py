"""The example of `async def`: calls wait at once, each over a connection of its own."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from examples import async_pool
from tests.examples.server import Server, serving
from utils.retry import Retry


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving() as server:
        server.answer = {"rate": 1.1}
        monkeypatch.setenv("RATES_URL", server.url)
        monkeypatch.setenv("CONCURRENCY", "")
        yield server


def processed(*contents: dict[str, Any]) -> list[Any]:
    """What becomes of messages that are processed at the same time."""

    async def run() -> list[Any]:
        await async_pool.setup()
        try:
            calls = [async_pool.process({"id": 1, "content": content}, "rates") for content in contents]
            return list(await asyncio.gather(*calls, return_exceptions=True))
        finally:
            await async_pool.teardown()

    return asyncio.run(run())


def test_messages_get_their_rates_at_the_same_time(rates: Server) -> None:
    """Where CONCURRENCY was set in the row or in defaults.py, one was asked for after the other."""
    rates.together = threading.Barrier(3)  # none is answered before all three are asked for
    messages = processed(*({"currency": each} for each in ("EUR", "USD", "CHF")))
    assert [message["content"]["rate"] for message in messages] == [1.1] * 3
    assert sorted(asked.path for asked in rates.asked) == [f"/rates?currency={each}" for each in ("CHF", "EUR", "USD")]
    assert rates.at_once == 3


@pytest.mark.parametrize(("status", "failure"), [(429, Retry), (503, Retry), (404, httpx.HTTPStatusError)])
def test_other_answers_are_failures_each_of_its_kind(rates: Server, status: int, failure: type[Exception]) -> None:
    rates.status, rates.headers = status, {"Retry-After": "7"}
    [raised] = processed({})
    assert isinstance(raised, failure)
    assert getattr(raised, "after", 7.0) == 7.0
