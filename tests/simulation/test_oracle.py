"""The oracle complains where it must: what an id that is used again is joined of, what is to be called again."""

import json
from collections import Counter

import pytest

from tests.simulation.broker import Broker
from tests.simulation.oracle import Oracle, Sent
from utils.joining.dead_letters import PROCESS_FAILED

A, B, X = ("a", 0), ("b", 0), ("x", 0)


def used_again(*, exactly_once: bool) -> Oracle:
    """Id 1 was sent to a (1) and b (2), and to a again (3)."""
    oracle = Oracle(("a", "b"), ("x",), "d", exactly_once, 60.0)
    oracle.broker = Broker({"a": 1, "b": 1, "x": 1, "d": 1}, oracle)
    for uid, at, number in ((1, A, 0), (2, B, 0), (3, A, 1)):
        oracle.is_sent(Sent(uid, at, oracle.broker.append(at, b"1", b"", 0), "1", number, 0.0))
    return oracle


def joined(a: int, b: int) -> dict[str, object]:
    return {"id": "1", "from": "b", "content": {"a": a, "b": b}}


def send(oracle: Oracle, message: dict[str, object]) -> None:
    oracle.broker.append(X, b"1", json.dumps(message).encode(), 0)


@pytest.mark.parametrize("exactly_once", [True, False])
def test_what_was_sent_together_may_be_joined(exactly_once: bool) -> None:
    oracle = used_again(exactly_once=exactly_once)
    oracle.is_called(joined(1, 2))
    send(oracle, joined(1, 2))
    assert oracle.problems == []


@pytest.mark.parametrize("exactly_once", [True, False])
def test_a_member_must_not_join_what_is_finished_with_what_is_new(exactly_once: bool) -> None:
    oracle = used_again(exactly_once=exactly_once)
    oracle.is_called(joined(3, 2))
    assert [rule for rule, _ in oracle.problems] == ["I2"]


def test_an_expelled_worker_may_as_long_as_nobody_sees_it() -> None:
    oracle = used_again(exactly_once=True)
    oracle.is_called(joined(3, 2), expelled=True)
    assert oracle.problems == []
    send(oracle, joined(3, 2))
    assert [rule for rule, _ in oracle.problems] == ["I2"]


def test_at_least_once_nothing_fences_the_results_of_an_expelled_worker() -> None:
    oracle = used_again(exactly_once=False)
    oracle.is_called(joined(3, 2), expelled=True)
    send(oracle, joined(3, 2))
    assert oracle.problems == []


def set_back_to_the_beginning(id: str) -> Oracle:
    """By another tool, after process() was called with the only message."""
    oracle = Oracle(("a",), ("x",), "d", False, 60.0)
    oracle.broker = Broker({"a": 1, "x": 1, "d": 1}, oracle)
    oracle.many_calls = True
    oracle.is_sent(Sent(1, A, oracle.broker.append(A, id.encode(), b"", 0), id, 0, 0.0))
    oracle.is_called({"id": id, "from": "a", "content": {"a": 1}})
    oracle.is_reset(A, None)
    return oracle


def is_missed(oracle: Oracle) -> bool:
    oracle.check_end(evicted=False)
    return "rule 2" in [rule for rule, _ in oracle.problems]


@pytest.mark.parametrize("id", ["1", "1h"])
def test_what_another_tool_wants_again_is_called_again_or_becomes_a_dead_letter(id: str) -> None:
    oracle = set_back_to_the_beginning(id)
    assert is_missed(oracle)
    oracle = set_back_to_the_beginning(id)
    oracle.letters[1] = Counter([PROCESS_FAILED])
    assert not is_missed(oracle)
    oracle = set_back_to_the_beginning(id)
    oracle.is_called({"id": id, "from": "a", "content": {"a": 1}})
    assert not is_missed(oracle)
