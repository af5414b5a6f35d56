"""A worker.py that sends each message to an API with a key.

Copy it over worker.py, add requests==2.34.2 to requirements.txt, and set API_URL and API_KEY, or API_KEY_FILE. With
CONCURRENCY above 1 each thread has a session, for those of requests are not made to be shared.
"""

import os
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests

from utils.retry import Reject, Retry

TIMEOUT = (3, 10)  # seconds to connect, and between two pieces of the answer; without one a call may hang for good

url: str
key: str
_sessions = threading.local()


def setup() -> None:
    """What is missing is said before the first message, and the worker ends."""
    global url, key
    url = os.environ.get("API_URL", "http://localhost:8000/orders")
    file = os.environ.get("API_KEY_FILE")
    key = Path(file).read_text().strip() if file else os.environ["API_KEY"]


def process(message: dict[str, Any], consumer_name: str) -> dict[str, Any]:
    """The API may see a message twice, after a crash: it knows it again by its key of idempotency."""
    again = quote(f"{consumer_name}-{message['id']}", safe="")  # an id may be any text, a header not
    headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": again}
    answer = _session().post(url, json=message["content"], headers=headers, timeout=TIMEOUT)
    if answer.status_code in (409, 429, 503):  # 409: a call with this key, which has timed out here, still runs there
        raise Retry(f"the API answers {answer.status_code}", after=answer.headers.get("Retry-After"))
    if answer.status_code in (400, 404, 422):  # the message is at fault, and will be so the next time
        raise Reject(f"the API answers {answer.status_code}: {answer.text[:200]}")
    # 401 and 403, too: that the key is wrong is the fault of no message. Tried again, and in the end a dead letter.
    answer.raise_for_status()
    message["content"]["answer"] = answer.json()
    return message


def _session() -> requests.Session:
    if not hasattr(_sessions, "session"):
        _sessions.session = requests.Session()
    session: requests.Session = _sessions.session
    return session
