"""The worker.py of a program whose clients raise, once at each place where the worker calls them. Used by
test_raised_anywhere.py.

A place is the function of the worker that calls, and the method that it calls. The test makes a file, and the next
place that has not raised yet does so and removes it. With AGAIN in it any place raises, and then the next in the start
that follows.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from framework import Worker
from utils.kafka import clients
from utils.running import supervision

ROOT = Path(clients.__file__).parents[2]
WANTED = Path(os.environ["RAISE_WANTED"])
AGAIN = "again"
LOG = Path(os.environ["RAISED"])  # a line for each place that has raised
AFTER = os.environ["RAISE"] == "after"  # the call has done its work

raised: set[tuple[str, ...]] = set()


class Planted(Exception):
    """What nobody has expected."""


def must_raise(method: str) -> bool:
    frame = sys._getframe(2)
    path = Path(frame.f_code.co_filename)
    if ROOT not in path.parents or not WANTED.exists():
        return False
    place = str(path.relative_to(ROOT)), frame.f_code.co_name, method
    if not place[0].startswith(("utils/", "framework.py")):
        return False
    if WANTED.read_text() == AGAIN:
        WANTED.write_text("")
        return True
    if place in raised:
        return False
    raised.add(place)
    with LOG.open("a") as log:
        log.write(json.dumps(place) + "\n")
    WANTED.unlink()
    return True


def wrapped(name: str, method: Any) -> Any:
    def call(self: Any, *arguments: Any, **options: Any) -> Any:
        raises = must_raise(name)
        if raises and not AFTER:
            raise Planted(name)
        result = method(self, *arguments, **options)
        if raises:
            raise KafkaException(KafkaError(KafkaError._FAIL, name))
        return result

    return call


def raising(client: type) -> Any:
    names = [name for name in dir(client) if not name.startswith("_") and callable(getattr(client, name))]
    methods = {name: wrapped(f"{client.__name__}.{name}", getattr(client, name)) for name in names}
    return type(client.__name__, (client,), methods)


setattr(supervision, "LONGEST_PAUSE", 0.05)  # noqa: B010 (seconds before the worker is started again)


for kind in (Consumer, Producer, AdminClient):
    for module in list(sys.modules.values()):
        is_ours = ROOT / "utils" in Path(getattr(module, "__file__", None) or "").parents
        if is_ours and getattr(module, kind.__name__, None) is kind:
            setattr(module, kind.__name__, raising(kind))
for step in Worker.step.__code__.co_names:
    if callable(getattr(Worker, step, None)):
        setattr(Worker, step, wrapped(f"Worker.{step}", getattr(Worker, step)))


def process(message: dict[str, Any], consumer_name: str) -> dict[str, Any]:
    return message
