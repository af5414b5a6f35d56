"""What a consumer has made of an id, judged from its commits and from what was found."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from utils.joining.dead_letters import Contents
from utils.joining.journey import CommittedOffsets, Consumer, LetterAt, Sighting, Visit, judged
from utils.joining.offsets import OffsetMap
from utils.joining.progress import Committed
from utils.joining.states import FINISHED, UNFINISHED, States

IDS = {"a": "id of a", "b": "id of b"}
NOW = 1_000_000.0


def seen(topic: str, offset: int, time: float = NOW, partition: int = 0) -> Sighting:
    return Sighting(topic, partition, offset, time, b"1", b'{"id":"1"}', None)


def committed(topic: str, base: int, *states: int, id: str = "", oldest: float = NOW) -> Committed:
    """A commit of `base` with the states of the offsets from there on."""
    made = OffsetMap(id or IDS[topic], base, int(oldest * 1000), int(NOW * 1000) + 5000, States.of(states, base))
    return Committed(base, OffsetMap.parse(made.encode()))


def letter(reason: str, *sources: str, done: bool = False) -> LetterAt:
    return LetterAt("dlq:0:0", Contents("1", reason, (), {"source": ",".join(sources), "reason": reason}), done)


def visit(
    records: Sequence[Sighting],
    commits: Mapping[str, Committed] | None,
    topics: tuple[str, ...] = ("a", "b"),
    **more: Any,
) -> Visit:
    known = None if commits is None else {(topic, 0): commit for topic, commit in commits.items()}
    facts = {"results": [], "letters": [], **more}
    offsets = CommittedOffsets(known, IDS, facts.pop("ends", {}))
    return judged(Consumer("shop", topics, ("out",), 60.0, records, offsets=offsets, **facts))


BOTH = [seen("a", 5), seen("b", 7)]


def test_what_lies_below_the_commit_or_is_finished_in_its_map_is_done() -> None:
    found = visit(
        BOTH, {"a": committed("a", 6), "b": committed("b", 6, UNFINISHED, FINISHED)}, results=[seen("out", 1)]
    )
    assert found.state == "done"
    assert [how for _, how in found.standings] == ["done", "done"]
    assert found.remarks == []


def test_a_message_without_its_mate_waits_for_it_since_it_arrived() -> None:
    found = visit([seen("a", 5, NOW - 7)], {"a": committed("a", 5, UNFINISHED, oldest=NOW - 7)})
    assert (found.state, found.lacking, found.unread) == ("waiting", ("b",), ())
    assert found.since == NOW - 7
    assert found.until == NOW + 53
    elsewhere = visit([seen("a", 5)], {"a": committed("a", 5, UNFINISHED)}, unseen={"b"})
    assert any("not all of b" in each for each in elsewhere.remarks)


def test_event_time_is_no_arrival() -> None:
    """The clock of the message says 1970, that of the map when its oldest one arrived."""
    found = visit([seen("a", 5, 3.0)], {"a": committed("a", 5, UNFINISHED, oldest=NOW - 7)})
    assert found.since == NOW - 7


def test_a_mate_that_is_there_and_not_read_yet_is_waited_for() -> None:
    found = visit(BOTH, {"a": committed("a", 5, UNFINISHED), "b": committed("b", 7)})
    assert (found.state, found.lacking, found.unread) == ("waiting", (), ("b",))


def test_what_is_whole_and_unfinished_is_in_process() -> None:
    found = visit(BOTH, {"a": committed("a", 5, UNFINISHED), "b": committed("b", 7, UNFINISHED)})
    assert found.state == "in process"
    alone = visit([seen("a", 5)], {"a": committed("a", 5, UNFINISHED)}, ("a",))
    assert alone.state == "in process"


@pytest.mark.parametrize("commits", [{}, {"a": committed("a", 5)}, {"a": committed("a", 3, UNFINISHED, FINISHED)}])
def test_what_no_commit_has_come_to_is_not_read_or_since_then(commits: dict[str, Committed]) -> None:
    assert visit([seen("a", 5)], commits).state == "not read"


def test_a_commit_of_a_former_topic_of_the_name_tells_nothing() -> None:
    assert visit([seen("a", 5)], {"a": committed("a", 9, id="another")}).state == "not read"


def test_a_commit_beyond_the_end_is_of_another_log() -> None:
    assert visit([seen("a", 5)], {"a": Committed(9, None)}, ("a",), ends={("a", 0): 9}).state == "done"
    assert visit([seen("a", 5)], {"a": Committed(9, None)}, ("a",), ends={("a", 0): 8}).state == "not read"


def test_without_the_map_that_would_tell_it_cannot_be_told_but_below_the_commit() -> None:
    commit = Committed(5, None, is_elsewhere=True)
    assert visit([seen("a", 5)], {"a": commit}).state == "cannot tell"
    assert visit([seen("a", 4)], {"a": commit}, ("a",)).state == "done"
    assert visit([seen("a", 4)], None).state == "cannot tell"


def test_a_commit_of_another_tool_counts_without_a_map() -> None:
    assert visit([seen("a", 4)], {"a": Committed(5, None)}, ("a",)).state == "done"
    assert visit([seen("a", 5)], {"a": Committed(5, None)}, ("a",)).state == "not read"


def test_a_dead_letter_is_told_also_before_it_is_committed() -> None:
    letters = [letter("process_failed", "a:0:5", "b:0:7")]
    for commits in ({"a": committed("a", 6), "b": committed("b", 8)}, {"a": committed("a", 5, UNFINISHED)}):
        found = visit(BOTH, commits, letters=letters)
        assert found.state == "dead-lettered"
        assert found.letter == letters[0]


def test_a_dead_letter_of_an_earlier_message_of_the_id_is_not_that_of_the_newest() -> None:
    records, letters = [seen("a", 5), seen("a", 8, NOW + 1)], [letter("process_failed", "a:0:5")]
    found = visit(records, {"a": committed("a", 9)}, ("a",), letters=letters, results=[seen("out", 1)])
    assert found.state == "done"
    assert visit(records, {"a": committed("a", 6, FINISHED)}, ("a",), letters=letters).state == "not read"
    newest = visit(records, {"a": committed("a", 9)}, ("a",), letters=[letter("process_failed", "a:0:8")])
    assert newest.state == "dead-lettered"


def test_a_second_message_waits_for_a_second_mate() -> None:
    records = [*BOTH, seen("a", 8, NOW + 1)]
    commits = {"a": committed("a", 8, UNFINISHED), "b": committed("b", 8)}
    found = visit(records, commits, results=[seen("out", 1)])
    assert (found.state, found.lacking) == ("waiting", ("b",))
    assert [how for _, how in found.standings] == ["done", "done", "unfinished"]


def test_what_is_done_without_a_result_was_filtered_or_has_results_of_other_ids() -> None:
    done = {"a": committed("a", 6), "b": committed("b", 8)}
    [remark] = visit(BOTH, done).remarks
    assert remark.startswith("no result under this id")
    [remark] = visit([seen("a", 5)], done).remarks
    assert "no message of b was found" in remark
    [remark] = visit(BOTH, done, hidden={"out"}).remarks
    assert "open transaction in out" in remark


def test_that_nobody_is_there_and_that_partitions_differ_is_remarked() -> None:
    records = [seen("a", 5), seen("b", 7, partition=1)]
    remarks = visit(records, {"a": committed("a", 5, UNFINISHED)}, members=0).remarks
    assert any("no worker runs" in each for each in remarks)
    assert any("different partition numbers" in each for each in remarks)
    assert visit(BOTH, {"a": committed("a", 5, UNFINISHED)}, members=1).remarks == []
