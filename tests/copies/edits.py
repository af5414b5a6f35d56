"""What users do to a copy: each edit changes the files that the README calls theirs, in the way of one of them."""

import re
from collections.abc import Callable
from pathlib import Path

Edit = Callable[[Path], None]

LONG = "what a comment of more than a line has to say about it " * 4

# Untyped, with a line that is too long, and a service that nobody has started. It is called in its own test only.
CLASSIC = """\
import os, json
import requests

API_URL = os.environ.get("API_URL", "http://127.0.0.1:9/enrich")  # LONG


def process(message, consumer_name):
    answer = requests.post(API_URL, data=json.dumps(message["content"]), timeout=5)
    message['content']['customer'] = answer.json()
    message['processed_by'] = consumer_name
    return message
"""
CLASSIC_TEST = """\
import warnings
from worker import *
import worker


class Answer:
    def json(self): return {"name": "Emmy"}


def test_process(monkeypatch):
    warnings.warn("some library is older than its Python", DeprecationWarning)
    monkeypatch.setattr(worker.requests, "post", lambda url, data, timeout: Answer())
    assert process({"id": 1, "content": {}}, "test")["content"] == {"customer": {"name": "Emmy"}}
"""
EXAMPLE_TEST = """\
from worker import process


def test_what_is_not_paid_in_full_is_left_out():
    assert process({"id": 1, "content": {"item": "tea", "total": 2, "paid": 1}}, "test") is None


def test_the_tax():
    assert process({"id": 1, "content": {"item": "tea", "total": 2, "paid": 2}}, "test")["content"]["tax"] == 0.14
"""
RATES = """\
import json
from pathlib import Path

def rate(item): return json.loads(Path(__file__).with_name("rates.json").read_text())[item]
"""
RATES_TEST = """\
from taxes.models import rate


def test_rate():
    assert rate("tea") == 0.07
"""
RUN = """\
import asyncio

coroutine = process
def process(*given): return asyncio.run(coroutine(*given))
"""
DEFAULTS = """\
CONSUMER_NAME = "consumer_1"  # LONG
DB_HOST = 'db.invalid'
DB_PORT = 3307
DB_NAME = "kafka"
DB_USER = "reader"
DB_PASSWORD = "secret"
MESSAGE_TIMEOUT = 300
DELIVERY = "exactly_once"
CONCURRENCY = 4
HTTP_PORT = 9
KAFKA_SECURITY_PROTOCOL = "SSL"
API_URL = "http://api.invalid"
"""


def classic(copy: Path) -> None:
    (copy / "worker.py").write_text(CLASSIC.replace("LONG", LONG))
    (copy / "tests/test_worker.py").write_text(CLASSIC_TEST)


def requirement(copy: Path) -> None:
    """One of their own, in the version that the tests of the frame come with."""
    [pinned] = re.findall(r"^(requests==\S+)", (copy / "requirements-dev.lock").read_text(), re.MULTILINE)
    with (copy / "requirements.txt").open("a") as file:
        file.write(f"{pinned}\n")


def example(copy: Path) -> None:
    """The README's own."""
    [block] = re.findall(r"^```python\n(.*?)^```$", (copy / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    (copy / "worker.py").write_text(block)
    (copy / "tests/test_worker.py").write_text(EXAMPLE_TEST)


def coroutine(copy: Path) -> None:
    """process() as `async def`, whatever it is."""
    _replace(copy / "worker.py", "\ndef process(", "\nasync def process(")
    imported = "from worker import process\n"
    _replace(copy / "tests/test_worker.py", imported, imported + RUN)


def package(copy: Path) -> None:
    """Beside worker.py, which imports it, with data, a test, and a file that is named like one of the frame's."""
    taxes = copy / "taxes"
    taxes.mkdir()
    (taxes / "__init__.py").touch()
    (taxes / "rates.json").write_text('{"tea": 0.07}')
    (taxes / "models.py").write_text(RATES)
    (taxes / "test_taxes.py").write_text(RATES_TEST)
    worker = copy / "worker.py"
    worker.write_text(f"from taxes.models import rate\n{worker.read_text()}\nassert rate('tea') == 0.07\n")


def defaults(copy: Path) -> None:
    (copy / "defaults.py").write_text(DEFAULTS.replace("LONG", LONG))


def tell_calls(copy: Path, called: Path) -> None:
    """Note each call of process() in this file, but those of the user's own tests."""
    worker = copy / "worker.py"
    noted = f'    if consumer_name != "test":\n        open({str(called)!r}, "a").write(consumer_name)\n'
    worker.write_text(re.sub(r"(?m)^((?:async )?def process\(.*:\n)", rf"\1{noted}", worker.read_text()))
    assert noted in worker.read_text()


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, f"{path} has no {old!r}"
    path.write_text(text.replace(old, new))
