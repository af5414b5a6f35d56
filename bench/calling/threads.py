"""A worker.py whose calls take 50 ms: those of a service at CALL_URL, as in examples/http_session.py; else a sleep."""

import os
import time
from typing import Any

import urllib3

URL = os.environ.get("CALL_URL", "")
CALL = 0.05  # seconds

pool: urllib3.PoolManager


def setup() -> None:
    global pool
    size = int(os.environ["CONCURRENCY"])
    pool = urllib3.PoolManager(maxsize=size, timeout=urllib3.Timeout(connect=3, read=10), retries=False)


def process(message: dict[str, Any], consumer_name: str) -> dict[str, Any]:
    if URL:
        message["price"] = pool.request("GET", f"{URL}/{message['id']}").json()["price"]
    else:
        time.sleep(CALL)
    return message


def teardown() -> None:
    pool.clear()
