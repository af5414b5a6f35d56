"""process(): what leaves for the output topics. Yours to extend: say here what your process() must do."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import utils.cases  # before worker: it imports defaults.py, where a .env may be loaded
import worker
from utils.messages import results

Process = Callable[[dict[str, Any], str], Any]
CONSUMER_NAME = "test"
CASES = utils.cases.saved()  # tests/cases/, where `python main.py try --save-tests` puts messages that it has seen


@pytest.fixture(scope="module")
def process() -> Iterator[Process]:
    """As a worker calls it: after setup(), and as a coroutine where it is one."""
    with utils.cases.opened(worker) as called:
        yield called


def forwarded(process: Process, message: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Key and value of each result of process(), in its order; raises what the worker would count as a failure."""
    id = str(message["id"])  # before process() changes the message, which is its own
    sent = results(process(message, CONSUMER_NAME), id)
    return [(result.key.decode(), json.loads(result.value)) for result in sent]


def test_a_joined_message_is_forwarded_unchanged_under_its_id(process: Process) -> None:
    message = {"id": 1001, "source": "shop", "content": {"item": "tea", "total": 9.8, "paid": 9.8}}
    assert forwarded(process, message) == [
        ("1001", {"id": 1001, "source": "shop", "content": {"item": "tea", "total": 9.8, "paid": 9.8}})
    ]


def test_a_message_without_content_is_forwarded_too(process: Process) -> None:
    assert forwarded(process, {"id": "a-1", "content": {}}) == [("a-1", {"id": "a-1", "content": {}})]


@pytest.mark.parametrize("case", CASES)
def test_a_message_that_was_seen_still_has_the_same_results(process: Process, case: str) -> None:
    assert utils.cases.tried(CASES[case], process) == CASES[case]
