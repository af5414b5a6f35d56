"""A worker.py whose process() is `async def`: many calls wait at once on one thread, over a pool of connections.

Copy it over worker.py, add httpx==0.28.1 to requirements.txt, and set RATES_URL, and CONCURRENCY to how many calls may
wait at once.
"""

import os
from typing import Any

import httpx

from utils.retry import Retry

client: httpx.AsyncClient


async def setup() -> None:
    """On the event loop on which process() runs, so the pool belongs to it."""
    global client
    client = httpx.AsyncClient(
        base_url=os.environ.get("RATES_URL", "http://localhost:8000"),
        timeout=httpx.Timeout(10, connect=3),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),  # CONCURRENCY is limit enough
    )


async def process(message: dict[str, Any], consumer_name: str) -> dict[str, Any]:
    """An answer other than 2xx is a failure, tried again later; so is one that does not come in time."""
    answer = await client.get("/rates", params={"currency": message["content"].get("currency", "EUR")})
    if answer.status_code in (429, 503):
        raise Retry(f"the rates answer {answer.status_code}", after=answer.headers.get("Retry-After"))
    answer.raise_for_status()
    message["content"]["rate"] = answer.json()["rate"]
    return message


async def teardown() -> None:
    await client.aclose()
