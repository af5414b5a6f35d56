"""A worker.py that asks a service about each message, over connections that are made once and kept.

Copy it over worker.py, add urllib3==2.8.0 to requirements.txt, and set CONCURRENCY to how many calls may wait at once.
"""

import os
from typing import Any
from urllib.parse import quote

import urllib3

from utils.retry import Reject, Retry

URL = os.environ.get("PRICES_URL", "http://localhost:8000/prices")  # + /<item> answers {"price": …}
TIMEOUT = urllib3.Timeout(connect=3, read=10)  # seconds; a call without one may hang for good
KEPT = 1000  # connections at most; there are as many as calls have run at once

pool: urllib3.PoolManager


def setup() -> None:
    """Called once, before the first message."""
    global pool
    pool = urllib3.PoolManager(maxsize=KEPT, timeout=TIMEOUT, retries=False)


def process(message: dict[str, Any], consumer_name: str) -> dict[str, Any]:
    """Called in as many threads as CONCURRENCY says: the pool may be used by all of them."""
    item = quote(str(message["content"]["item"]), safe="")  # whoever has sent it: "../admin" is no other address
    if item in (".", ".."):  # nor are these, which quote() leaves as they are
        raise Reject("no such item")
    answer = pool.request("GET", f"{URL}/{item}")
    if answer.status in (429, 503):
        raise Retry(f"the price service answers {answer.status}", after=answer.headers.get("Retry-After"))
    if answer.status == 404:
        raise Reject("no such item")
    if answer.status != 200:
        raise RuntimeError(f"the price service answers {answer.status}")
    message["content"]["price"] = answer.json()["price"]
    return message


def teardown() -> None:
    """Called once, at the end of the worker."""
    pool.clear()
