"""What a commit and its map tell of a partition: what is unread, what waits, and since when."""

import pytest

from utils.joining.layout import Layout
from utils.joining.offsets import JoinedWith, OffsetMap, PartitionOffsets
from utils.joining.progress import Committed, Log, Progress, progress
from utils.joining.states import FINISHED, UNFINISHED, States

ID = "topic-id"
NOW_MS = 1_700_000_000_000


def offset_map(base: int, *states: int, oldest_ms: int = NOW_MS, topic_id: str = ID, **more: object) -> OffsetMap:
    return OffsetMap(topic_id, base, oldest_ms, NOW_MS, States.of(states, base), **more)  # type: ignore[arg-type]


def seen(committed: int | None, found: OffsetMap | None, *, begin: int = 0, end: int = 10) -> Progress:
    return progress(("a", 0), Log(ID, begin, end), None if committed is None else Committed(committed, found))


def test_what_nobody_has_ever_committed_is_all_unread() -> None:
    at = seen(None, None, begin=4)
    assert (at.unread, at.unfinished, at.committed) == (6, 0, None)


def test_what_waits_is_not_unread_although_the_commit_is_below_it() -> None:
    at = seen(3, offset_map(3, UNFINISHED, FINISHED, FINISHED, UNFINISHED, FINISHED))
    assert (at.read, at.unread, at.unfinished, at.done) == (8, 2, 2, 6)


def test_a_map_as_a_worker_makes_it_gives_the_same() -> None:
    offsets = PartitionOffsets("a", 0, Layout(ID), 3)
    for offset in range(3, 8):
        offsets.read(offset)
    for offset in (4, 5, 7):
        offsets.finish(offset)
    point = offsets.commit_point(NOW_MS - 5000, NOW_MS)
    at = seen(point.offset, OffsetMap.parse(point.metadata))
    assert (at.committed, at.read, at.unread, at.unfinished) == (3, 8, 2, 2)


def test_without_a_map_the_commit_says_all_there_is() -> None:
    at = seen(7, None)
    assert (at.read, at.unread, at.unfinished, at.committed_at) == (7, 3, 0, None)


def test_a_map_for_another_offset_counts_for_nothing() -> None:
    at = seen(7, offset_map(3, UNFINISHED))
    assert (at.read, at.unfinished) == (7, 0)


def test_a_commit_of_a_topic_that_was_made_again_counts_for_nothing() -> None:
    at = seen(7, offset_map(7, UNFINISHED, topic_id="former"), begin=2)
    assert at.trouble == "former topic"
    assert (at.unread, at.unfinished) == (8, 0)


def test_a_commit_beyond_the_end_is_one_of_a_log_that_was_cut() -> None:
    at = seen(11, None)
    assert at.trouble == "log cut"
    assert at.unread == 0


@pytest.mark.parametrize(("found", "deleted"), [(None, 5), (offset_map(1, UNFINISHED, FINISHED), 3)])
def test_what_retention_has_deleted_unread_is_told_and_not_unread(found: OffsetMap | None, deleted: int) -> None:
    at = seen(1, found, begin=6)
    assert at.unread == 4
    assert at.deleted == deleted


def test_the_oldest_of_the_worker_tells_since_when() -> None:
    at = seen(3, offset_map(3, UNFINISHED, oldest_ms=NOW_MS - 9000))
    assert at.since == (NOW_MS - 9000) / 1000
    assert at.waits


def test_the_steps_of_the_partition_know_it_better() -> None:
    steps = ((3, NOW_MS - 2000), (5, NOW_MS - 1000))
    at = seen(3, offset_map(3, UNFINISHED, oldest_ms=NOW_MS - 9000, steps=steps))
    assert at.since == (NOW_MS - 2000) / 1000


def test_what_is_not_done_where_nothing_waits_is_in_process() -> None:
    at = seen(3, offset_map(3, UNFINISHED))
    assert at.unfinished == 1
    assert not at.waits


def test_the_commit_tells_which_version_of_the_frame_has_made_it() -> None:
    joined_with = JoinedWith("0a1b2c3d", 4, 2, "1.2.0-rc.1").encode()
    assert seen(3, offset_map(3, joined_with=joined_with)).frame == "1.2.0-rc.1"
    assert seen(3, offset_map(3, joined_with="0a1b2c3d@4/2")).frame == ""


def test_a_partition_without_anything_to_be_done_is_as_old_as_nothing() -> None:
    at = seen(3, offset_map(3, oldest_ms=NOW_MS - 9000))
    assert at.since is None
    assert not at.waits
