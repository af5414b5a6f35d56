"""process(): what leaves for the output topics. Yours to extend: say here what your process() must do."""

import json
from typing import Any

import pytest

from utils.cases import saved, tried
from utils.messages import results
from worker import process

CONSUMER_NAME = "test"
CASES = saved()  # tests/cases/, where `python main.py try --save-tests` puts messages that it has seen


def forwarded(message: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Key and value of each result of process(), in its order; raises what the worker would count as a failure."""
    sent = results(process(message, CONSUMER_NAME), str(message["id"]))
    return [(result.key.decode(), json.loads(result.value)) for result in sent]


def test_a_joined_message_is_forwarded_unchanged_under_its_id() -> None:
    message = {"id": 1001, "source": "shop", "content": {"item": "tea", "total": 9.8, "paid": 9.8}}
    assert forwarded(message) == [
        ("1001", {"id": 1001, "source": "shop", "content": {"item": "tea", "total": 9.8, "paid": 9.8}})
    ]


def test_a_message_without_content_is_forwarded_too() -> None:
    assert forwarded({"id": "a-1", "content": {}}) == [("a-1", {"id": "a-1", "content": {}})]


@pytest.mark.parametrize("case", CASES)
def test_a_message_that_was_seen_still_has_the_same_results(case: str) -> None:
    assert tried(CASES[case], process) == CASES[case]
