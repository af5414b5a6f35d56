"""A worker.py with coroutines whose calls take 50 ms: those of a service at CALL_URL, by aiohttp; else a sleep."""

import asyncio
import os
from typing import Any

URL = os.environ.get("CALL_URL", "")
CALL = 0.05  # seconds

if URL:
    import aiohttp

    session: aiohttp.ClientSession


async def setup() -> None:
    global session
    if URL:
        session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))


async def process(message: dict[str, Any], consumer_name: str) -> dict[str, Any]:
    if URL:
        async with session.get(f"{URL}/{message['id']}") as answer:
            message["price"] = (await answer.json())["price"]
    else:
        await asyncio.sleep(CALL)
    return message


async def teardown() -> None:
    if URL:
        await session.close()
