"""The oracle finds what it is there to find."""

import json

import pytest

from tests.integration.oracle import Commit, Oracle, fragment_value
from utils.joining.offsets import OffsetMap
from utils.joining.states import States

TOPICS = ("a", "b")


def ledger(*ids: str) -> Oracle:
    """Each id sent to both topics, at the offset of its place."""
    oracle = Oracle(TOPICS)
    for offset, id in enumerate(ids):
        for topic in TOPICS:
            oracle.sent(topic, 0, offset, id)
    return oracle


def joined(*parts: bytes) -> bytes:
    content = {key: value for part in parts for key, value in json.loads(part)["content"].items()}
    return json.dumps({**json.loads(parts[0]), "content": content}).encode()


def whole(id: str) -> bytes:
    return joined(fragment_value("a", id), fragment_value("b", id, pad=5))


def commit(offset: int, states: bytes = b"") -> Commit:
    return Commit.read(offset, OffsetMap("t", offset, 0, 0, States.of(states, offset)).encode(), "t")


def test_every_id_once_is_a_clean_verdict() -> None:
    oracle = ledger("1", "2")
    for id in ("2", "1"):
        oracle.seen(id.encode(), whole(id))
    verdict = oracle.judge({("a", 0): commit(2), ("b", 0): commit(2)})
    verdict.require(once=True)
    assert (verdict.complete, verdict.results) == (2, 2)


def test_a_complete_id_without_a_result_is_lost_and_one_with_a_single_fragment_is_not() -> None:
    oracle = ledger("1")
    oracle.sent("a", 0, 1, "2")
    verdict = oracle.judge()
    assert [each.split(",")[0] for each in verdict.lost] == ["1"]
    with pytest.raises(AssertionError, match="1 lost"):
        verdict.require()
    oracle.judge(given_up={"1"}).require()


def test_an_id_with_two_results_is_twice_which_only_exactly_once_forbids() -> None:
    oracle = ledger("1")
    oracle.seen(b"1", whole("1"))
    oracle.seen(b"1", whole("1"))
    verdict = oracle.judge()
    assert verdict.twice == ["1"]
    verdict.require()
    with pytest.raises(AssertionError, match="1 twice"):
        verdict.require(once=True)


@pytest.mark.parametrize(
    "value",
    [
        fragment_value("a", "1"),
        joined(fragment_value("a", "1"), fragment_value("b", "2")),
        joined(fragment_value("a", "1"), fragment_value("b", "1", version=1)),
        joined(fragment_value("a", "1"), fragment_value("b", "1"), fragment_value("c", "1")),
        b'{"id":"1"}',
        b'{"id":"1","content":[]}',
        b"1",
        None,
    ],
    ids=[
        "one missing",
        "one foreign",
        "one never sent",
        "one too many",
        "no content",
        "other content",
        "number",
        "none",
    ],
)
def test_a_result_of_missing_or_foreign_fragments_is_half(value: bytes | None) -> None:
    oracle = ledger("1", "2")
    oracle.seen(b"1", value)
    assert len(oracle.judge().half) == 1


def test_a_result_under_the_key_of_another_id_is_half() -> None:
    oracle = ledger("1", "2")
    oracle.seen(b"2", whole("1"))
    assert len(oracle.judge().half) == 1


def test_a_commit_above_an_unfinished_offset_is_overtaken() -> None:
    oracle = ledger("1", "2", "3")
    oracle.seen(b"2", whole("2"))
    assert oracle.judge({("a", 0): commit(0, b"\x00\x01\x00")}).overtaken == []
    assert len(oracle.judge({("a", 0): commit(1)}).overtaken) == 1
    assert len(oracle.judge({("a", 0): commit(3)}).overtaken) == 2
    assert len(oracle.judge({("a", 0): commit(0, b"\x01\x01\x00")}).overtaken) == 1


def test_a_commit_may_pass_what_is_invalid_superseded_or_given_up() -> None:
    oracle = Oracle(TOPICS)
    oracle.sent("a", 0, 0, None)
    oracle.sent("a", 0, 1, "1")
    oracle.sent("a", 0, 2, "1")
    oracle.sent("a", 0, 3, "2")
    commits = {("a", 0): commit(2, b"\x00\x01")}
    assert len(oracle.judge(commits).overtaken) == 1
    assert oracle.judge(commits, given_up={"2"}).overtaken == []


def test_metadata_of_another_tool_is_a_commit_without_a_map() -> None:
    assert Commit.read(5, "junk", "t") == Commit(5, frozenset(), 5, "junk")
    assert Commit.read(5, None, "t") == Commit(5, frozenset(), 5, "")


def test_a_result_may_be_made_of_any_list_of_topics_that_was_in_force_and_of_no_other() -> None:
    oracle = Oracle(("a", "b", "c"), (("a", "b"), ("a", "b", "c")))
    for offset, id in enumerate(("1", "2", "3")):
        for topic in ("a", "b", "c"):
            oracle.sent(topic, 0, offset, id)
    fragments = {id: [fragment_value(topic, id) for topic in ("a", "b", "c")] for id in ("1", "2", "3")}
    oracle.seen(b"1", joined(*fragments["1"][:2]))
    oracle.seen(b"2", joined(*fragments["2"]))
    oracle.seen(b"3", joined(*fragments["3"][1:]))
    [half] = oracle.judge().half
    assert half.startswith("3:")
    assert oracle.made_of == {frozenset("ab"): 1, frozenset("abc"): 1}


def test_what_was_in_a_deleted_topic_may_have_no_result_and_what_came_later_must_have_one() -> None:
    oracle = ledger("done", "waits")
    oracle.seen(b"done", whole("done"))
    oracle.destroy("a")
    oracle.sent("a", 0, 0, "later")  # offsets begin anew
    oracle.sent("b", 0, 2, "later")
    verdict = oracle.judge({("a", 0): commit(0), ("b", 0): commit(2)})
    assert [each.split(",")[0] for each in verdict.lost] == ["later"]
    assert not verdict.overtaken
    assert oracle.judge({("a", 0): commit(1)}).overtaken
    assert oracle.missing() == {"later"}
