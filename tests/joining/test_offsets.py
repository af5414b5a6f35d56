"""What may be committed, and the map in the commit: nothing finished is repeated, nothing unfinished is passed over."""

import base64
import random
import tracemalloc
import zlib
from itertools import accumulate
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.builders import partition_offsets
from tests.fakes import TOPIC_ID
from utils.joining.layout import Layout
from utils.joining.offsets import MANY_LATER, MAX_METADATA, OffsetMap, PartitionOffsets, mark, without_start
from utils.joining.states import FINISHED, SENT, UNFINISHED, States
from utils.joining.suspicion import MOST_HUNG, CrashRecord

BASE = 1_000

# Runs and not single states: long ones are what the encodings differ in.
runs = st.lists(st.tuples(st.sampled_from([UNFINISHED, FINISHED]), st.integers(1, 300) | st.integers(1, 40_000)))
noise = st.builds(
    lambda seed, length, share: bytes(
        random.Random(seed).choices([UNFINISHED, FINISHED], [share, 1 - share], k=length)
    ),
    st.integers(0, 2**32),
    st.integers(0, 60_000),
    st.floats(0, 1),
)
states = st.builds(lambda pairs: b"".join(bytes([state]) * length for state, length in pairs), runs) | noise


def offset_map(states: bytes, base: int = BASE, topic_id: str = TOPIC_ID) -> OffsetMap:
    return OffsetMap(
        topic_id, base, oldest_ms=1_700_000_000_123, time_ms=1_700_000_060_456, states=States.of(states, base)
    )


def signed(body: str) -> str:
    """A body with a checksum that is right: what an attacker, or another version of this program, could write."""
    return f"{body}:{zlib.crc32(body.encode()):08x}"


def body(length: int | str, payload: str) -> str:
    return f"1:{TOPIC_ID}::{BASE}:0:0:{length}:{payload}"


def packed(tag: str, data: bytes) -> str:
    return tag + base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def read_all(offsets: PartitionOffsets, end: int) -> list[int]:
    """Read on up to `end`; the offsets that must be handled."""
    return [offset for offset in range(offsets.position, end) if offsets.read(offset)]


def committed(offsets: PartitionOffsets) -> tuple[int, str]:
    point = offsets.commit_point(oldest_ms=0, now_ms=0)
    return point.offset, point.metadata


def restarted(offset: int, metadata: str, now: float = 0.0) -> PartitionOffsets:
    """What the next owner has after it has loaded this commit, at `now` by its loop's clock."""
    loaded = OffsetMap.decode(metadata, TOPIC_ID, offset)
    assert loaded is not None
    return partition_offsets(offset, loaded, now=now)


# ---------------------------------------------------------------- one partition


def test_what_was_never_committed_is_handled() -> None:
    assert read_all(partition_offsets(5), 8) == [5, 6, 7]


def test_nothing_is_committed_beyond_the_start_before_anything_is_finished() -> None:
    offsets = partition_offsets(5)
    assert offsets.lowest_unfinished() == 5
    read_all(offsets, 8)
    assert offsets.lowest_unfinished() == 5


def test_the_commit_is_the_lowest_unfinished_offset_in_whatever_order_the_others_finish() -> None:
    offsets = partition_offsets(0)
    read_all(offsets, 4)
    commits = []
    for finished in (3, 0, 2, 1):
        offsets.finish(finished)
        commits.append(offsets.lowest_unfinished())
    assert commits == [0, 1, 1, 4]


def test_a_record_read_twice_is_handled_once() -> None:
    offsets = partition_offsets(0)
    assert offsets.read(0)
    assert not offsets.read(0)


def test_an_offset_that_is_finished_twice_finishes_no_other() -> None:
    offsets = partition_offsets(0)
    read_all(offsets, 3)
    offsets.finish(0)
    assert offsets.lowest_unfinished() == 1
    offsets.finish(0)
    assert (offsets.lowest_unfinished(), offsets.unfinished()) == (1, 2)


def test_a_gap_in_the_log_is_finished_once_reading_has_passed_it() -> None:
    offsets = partition_offsets(0)
    offsets.read(0)
    offsets.read(7)
    offsets.finish(0)
    assert offsets.lowest_unfinished() == 7


def test_markers_at_the_end_of_the_log_are_finished_once_the_position_has_passed_them() -> None:
    offsets = partition_offsets(0)
    offsets.read(0)
    offsets.finish(0)
    assert offsets.skip_to(3) == 0
    assert (offsets.position, offsets.lowest_unfinished()) == (3, 3)


def test_a_position_that_stands_still_or_lags_changes_nothing() -> None:
    offsets = partition_offsets(0)
    read_all(offsets, 3)
    assert offsets.skip_to(3) == offsets.skip_to(1) == 0
    assert (offsets.position, offsets.lowest_unfinished(), offsets.unfinished()) == (3, 0, 3)


def test_after_a_restart_finished_offsets_are_skipped_and_unfinished_ones_handled_again() -> None:
    offsets = partition_offsets(0)
    read_all(offsets, 6)
    for finished in (0, 2, 3, 5):
        offsets.finish(finished)
    again = restarted(*committed(offsets))
    assert read_all(again, 8) == [1, 4, 6, 7]


def test_a_commit_in_mid_replay_keeps_the_states_of_offsets_that_were_not_re_read_yet() -> None:
    offsets = partition_offsets(0)
    read_all(offsets, 10)
    for finished in (2, 3, 4, 6, 8):
        offsets.finish(finished)
    again = restarted(*committed(offsets))
    again.read(0)
    again.finish(0)
    third = restarted(*committed(again))
    assert read_all(third, 10) == [1, 5, 7, 9]


def test_a_commit_before_anything_is_re_read_is_the_commit_that_was_loaded() -> None:
    offsets = partition_offsets(0)
    read_all(offsets, 10)
    for finished in (0, 1, 5):
        offsets.finish(finished)
    before = committed(offsets)
    again = restarted(*before)
    again.suspicion.starts_without_progress -= 1  # that it is one start more is the only difference
    assert committed(again) == before


# ---------------------------------------------------------------- the clock of MESSAGE_TIMEOUT (rule 6)


def with_times(oldest_ms: int, time_ms: int, now: float) -> PartitionOffsets:
    """What the next owner has of three offsets that wait, committed at `time_ms`, from `now` on by its loop's clock."""
    offsets = partition_offsets(0)
    read_all(offsets, 3)
    point = offsets.commit_point(oldest_ms, time_ms)
    return restarted(point.offset, point.metadata, now)


@pytest.mark.parametrize(
    ("timestamp", "arrival"),
    [
        (0.0, 1_020.0),  # event time: nothing that waits arrived before the oldest
        (19.9, 1_020.0),
        (30.0, 1_030.0),
        (50.1, 1_050.0),
        (9_999.0, 1_050.0),  # a clock that is ahead: what the commit knows of had arrived
    ],
)
def test_what_is_read_again_arrived_between_the_oldest_and_the_commit(timestamp: float, arrival: float) -> None:
    again = with_times(oldest_ms=20_000, time_ms=50_000, now=1_050.0)
    assert again.first_arrival(2, timestamp, epoch=7_777.0) == arrival


def test_what_was_shed_arrived_when_it_was_read_the_first_time() -> None:
    offsets = partition_offsets(0)
    offsets.note_arrivals(10.0)
    read_all(offsets, 2)
    offsets.note_arrivals(20.0)
    read_all(offsets, 3)
    for number, offset in enumerate((0, 2), 1):
        offsets.drop(offset, number)
    offsets.set_back()
    offsets.note_arrivals(90.0)  # of what is read for the first time from now on
    assert [offsets.first_arrival(0, timestamp, epoch=0.0) for timestamp in (5.0, 10.5, 25.0)] == [10.0, 10.5, 11.0]
    assert offsets.first_arrival(2, 0.0, epoch=0.0) == 20.0


EVENT_TIME = 0.0  # timestamps that tell nothing


def over_a_restart(offsets: PartitionOffsets, oldest: float, now: float) -> PartitionOffsets:
    """Committed at `now`, in seconds of a clock that is that of the epoch; the oldest group waits since `oldest`."""
    point = offsets.commit_point(int(oldest * 1000), int(now * 1000), now)
    assert len(point.metadata) <= MAX_METADATA
    return restarted(point.offset, point.metadata, now)


def arrivals(offsets: PartitionOffsets, *of: int) -> list[float]:
    return [offsets.first_arrival(offset, EVENT_TIME, epoch=0.0) for offset in of]


def test_a_restart_ages_nothing_that_waits_though_its_timestamp_tells_nothing() -> None:
    offsets = partition_offsets(0)
    for second in range(100, 130):
        offsets.note_arrivals(float(second))
        read_all(offsets, offsets.position + 10)
    for finished in range(1, 250):
        offsets.finish(finished)
    again = over_a_restart(offsets, oldest=100.0, now=130.0)
    assert arrivals(again, 0, 250, 259, 299) == [100.0, 125.0, 125.0, 129.0]


def test_a_restart_in_the_middle_of_a_replay_carries_on_what_the_map_told() -> None:
    offsets = partition_offsets(0)
    for second in (100, 110, 120):
        offsets.note_arrivals(float(second))
        read_all(offsets, offsets.position + 10)
    again = over_a_restart(offsets, oldest=100.0, now=130.0)
    again.note_arrivals(200.0)
    read_all(again, 5)  # of 30
    again.finish(0)
    third = over_a_restart(again, oldest=200.0, now=210.0)
    assert arrivals(third, 4, 15, 29) == [100.0, 110.0, 120.0]
    third.note_arrivals(300.0)
    read_all(third, 40)
    assert arrivals(over_a_restart(third, oldest=100.0, now=310.0), 4, 15, 29, 30) == [100.0, 110.0, 120.0, 300.0]


@pytest.mark.parametrize("hours", [-30, -1, 0, 30])
def test_how_long_something_has_waited_hangs_on_no_clock_of_a_host(hours: int) -> None:
    """Nor on how long nobody had the partition: the next owner goes on where the last commit was."""
    offsets = partition_offsets(0)
    for second in (100, 110):
        offsets.note_arrivals(float(second))
        read_all(offsets, offsets.position + 10)
    wall = 1_700_000_000_000
    point = offsets.commit_point(wall - 20_000, wall, 120.0)
    again = restarted(point.offset, point.metadata, now=5.0)
    assert arrivals(again, 0, 10) == [-15.0, -5.0]
    wall += hours * 3_600_000
    point = again.commit_point(wall - 21_000, wall, 6.0)
    assert arrivals(restarted(point.offset, point.metadata, now=1_000.0), 0, 10) == [979.0, 989.0]


def test_one_partition_is_not_as_old_as_what_waits_in_another() -> None:
    offsets = partition_offsets(0)
    offsets.note_arrivals(100.0)
    read_all(offsets, 3)
    assert arrivals(over_a_restart(offsets, oldest=40.0, now=100.5), 2) == [100.0]


def test_where_all_that_waits_came_within_the_last_second_the_map_has_no_steps() -> None:
    offsets = partition_offsets(0)
    offsets.note_arrivals(100.0)
    read_all(offsets, 3)
    loaded = OffsetMap.parse(offsets.commit_point(100_000, 100_900, 100.9).metadata)
    assert loaded is not None
    assert loaded.steps == ()


@pytest.mark.parametrize("is_gone", [False, True])
def test_what_was_dropped_ahead_of_reading_is_shed_until_that_has_come_to_it(is_gone: bool) -> None:
    offsets = partition_offsets(0)
    read_all(offsets, 3)
    offsets.drop(0, 1)
    offsets.set_back()
    offsets.drop(2, 2)  # it was read before reading was set back, and waited in memory
    assert (offsets.read(0), offsets.read(1)) == (True, False)
    assert (offsets.shed.count, offsets.shed.since) == (1, 2)
    assert offsets.skip_to(3) == 1 if is_gone else offsets.read(2)
    assert (offsets.shed.count, offsets.shed.since) == (0, None)


def times(offsets: PartitionOffsets, oldest_ms: int, now_ms: int, now: float) -> tuple[int, int]:
    """Those in the map of a commit."""
    point = offsets.commit_point(oldest_ms, now_ms, now)
    found = OffsetMap.decode(point.metadata, TOPIC_ID, point.offset)
    assert found is not None
    return found.oldest_ms, found.time_ms


def test_in_the_middle_of_a_replay_the_oldest_may_be_yet_to_come() -> None:
    again = with_times(oldest_ms=20_000, time_ms=50_000, now=7.0)  # it waits since -23.0
    assert times(again, 60_000, 60_000, now=7.5) == (29_500, 60_000)  # nothing is read yet
    again.read(0)
    assert times(again, 40_000, 61_000, now=8.5) == (29_500, 61_000)
    assert times(again, 10_000, 61_000, now=8.5) == (10_000, 61_000)  # of another partition
    read_all(again, 3)
    assert times(again, 40_000, 62_000, now=9.5) == (40_000, 62_000)


# ---------------------------------------------------------------- starts without progress (rule 13)


def test_starts_are_counted_until_there_is_progress_or_an_orderly_end() -> None:
    offsets = partition_offsets(0)
    for start in range(1, 5):
        assert offsets.suspicion.starts_without_progress == start
        offsets = restarted(*committed(offsets))
    read_all(offsets, 3)
    offsets.finish_sent()
    assert offsets.suspicion.starts_without_progress == 5  # nothing was sent
    mark([Record(offsets, 1)], SENT)
    offsets.finish_sent()
    assert restarted(*committed(offsets)).suspicion.starts_without_progress == 1
    again = restarted(*committed(restarted(*committed(offsets))))
    assert again.suspicion.starts_without_progress == 2
    again.suspicion.begin_to_end()
    for is_idle in (False, True):  # as many commits as it takes
        again.end_in_order(is_idle=is_idle)
        after = restarted(*committed(again))
        assert after.suspicion.starts_without_progress == 2  # not counted: nothing was read again
    read_all(again, 3)
    again.end_in_order(is_idle=True)
    assert restarted(*committed(again)).suspicion.starts_without_progress == 1


def test_orderly_ends_in_the_middle_of_a_slow_call_count_as_no_starts_nor_forget_those_before() -> None:
    offsets = restarted(*committed(restarted(*committed(partition_offsets(0)))))
    for _ in range(5):
        assert offsets.suspicion.starts_without_progress == 3
        read_all(offsets, 3)
        offsets.suspicion.begin_to_end()
        offsets.end_in_order(is_idle=False)
        offsets = restarted(*committed(offsets))


def test_an_orderly_end_takes_back_the_start_of_a_process_in_which_the_worker_has_begun_again() -> None:
    before = restarted(*committed(restarted(*committed(partition_offsets(0)))))
    again = restarted(*committed(before))
    again.suspicion.go_on_as(before.suspicion.crash_record)
    assert again.suspicion.starts_without_progress == 3
    again.suspicion.begin_to_end()
    assert again.suspicion.starts_without_progress == 2


def test_an_orderly_end_with_groups_held_back_neither_counts_as_a_start_nor_forgets_the_others() -> None:
    offsets = partition_offsets(0)
    for _ in range(3):
        offsets = restarted(*committed(offsets))
    read_all(offsets, 3)
    offsets.suspicion.note_held_back()
    offsets.suspicion.begin_to_end()
    offsets.end_in_order(is_idle=False)
    mark([Record(offsets, 1)], SENT)  # its result was not safe before that commit
    offsets.finish_sent()
    offsets.end_in_order(is_idle=True)
    assert restarted(*committed(offsets)).suspicion.starts_without_progress == 4


def test_the_record_that_is_tried_is_known_after_a_restart_until_it_is_finished() -> None:
    offsets = partition_offsets(0)
    read_all(offsets, 5)
    offsets.suspicion.begin_batch(1, 3)
    news = [offsets.suspicion.has_news]
    before = committed(offsets)
    news.append(offsets.suspicion.has_news)
    offsets.confirm()
    news.append(offsets.suspicion.has_news)
    assert news == [True, True, False]
    assert offsets.suspicion.may_run(3)
    again = restarted(*before)
    assert again.suspicion.ended_the_process(3)
    assert (again.suspicion.first_of_batch, again.suspicion.first_in_commit) == (None, None)
    again = restarted(*committed(again))
    tried = [again.suspicion.ran_alone_at_the_end]
    read_all(again, 5)
    again.finish(3)
    committed(again)
    assert [*tried, again.suspicion.ran_alone_at_the_end] == [3, None]
    assert restarted(*committed(again)).suspicion.ran_alone_at_the_end is None


def test_what_was_tried_and_is_finished_is_named_no_more_and_an_orderly_end_names_nothing() -> None:
    offsets = partition_offsets(0)
    read_all(offsets, 5)
    offsets.suspicion.begin_batch(1, 3)
    offsets.finish(3)
    assert restarted(*committed(offsets)).suspicion.ran_alone_at_the_end is None
    offsets.suspicion.begin_batch(1, 4)
    assert restarted(*committed(offsets)).suspicion.ran_alone_at_the_end == 4
    offsets.end_in_order(is_idle=False)
    assert restarted(*committed(offsets)).suspicion.ran_alone_at_the_end is None


def test_a_start_is_taken_out_of_our_own_last_commit_and_of_no_other() -> None:
    before = restarted(*committed(restarted(*committed(partition_offsets(0)))))
    theirs = committed(before)
    before.confirm()
    offsets = restarted(*theirs)
    read_all(offsets, 5)
    at, text = committed(offsets)
    assert without_start(text, at, offsets), "it is there, whether or not its answer has come"
    offsets.confirm()
    assert without_start(theirs[1], theirs[0], offsets) is None, "the one of before counts the starts of others"
    assert without_start(text, at + 1, offsets) is None, "another tool has moved the offset"
    assert restarted(at, without_start(text, at, offsets) or "").suspicion.starts_without_progress == 4
    assert restarted(at, text).suspicion.starts_without_progress == 5


def test_who_is_named_in_a_start_that_is_taken_out_is_named_no_more_but_who_was_named_before() -> None:
    offsets = partition_offsets(0)
    read_all(offsets, 5)
    offsets.suspicion.begin_batch(1, 3)
    offsets.suspicion.starts_without_progress = 0  # the batch before has finished something
    at, text = committed(offsets)
    offsets.confirm()
    assert restarted(at, text).suspicion.ran_alone_at_the_end == 3
    assert restarted(at, without_start(text, at, offsets) or "").suspicion.ran_alone_at_the_end is None
    again = restarted(at, text)
    read_all(again, 5)
    at, text = committed(again)
    again.confirm()
    again.finish(3)
    committed(again)  # and that one is not carried out
    assert restarted(at, without_start(text, at, again) or "").suspicion.ran_alone_at_the_end == 3


def test_a_start_is_taken_out_of_a_commit_between_the_confirmed_one_and_the_last() -> None:
    """A rebalance came before its answer, and the last one, which does not name who ran alone, was not carried out."""
    offsets = partition_offsets(0)
    read_all(offsets, 5)
    offsets.suspicion.starts_without_progress = 0
    committed(offsets)
    offsets.confirm()
    offsets.suspicion.begin_batch(1, 3)
    at, text = committed(offsets)
    offsets.suspicion.end_batch()
    committed(offsets)
    assert offsets.suspicion.is_counted, "not by the last one, but that may not be carried out"
    assert restarted(at, text).suspicion.ran_alone_at_the_end == 3
    assert restarted(at, without_start(text, at, offsets) or "").suspicion.ran_alone_at_the_end is None
    committed(offsets)
    offsets.confirm()
    assert not offsets.suspicion.is_counted, "it came after all that counted this start"


def test_a_batch_that_is_run_apart_is_no_progress_and_none_of_it_is_named() -> None:
    offsets = restarted(*committed(partition_offsets(0)))
    read_all(offsets, 5)
    offsets.suspicion.begin_batch(2, 3)
    mark([Record(offsets, 1)], SENT)
    offsets.finish_sent()
    before = committed(offsets)
    news = [offsets.suspicion.has_news]
    offsets.confirm()
    assert [*news, offsets.suspicion.has_news] == [True, False]
    again = restarted(*before)
    assert (again.suspicion.starts_without_progress, again.suspicion.ran_alone_at_the_end) == (3, None)


@pytest.mark.parametrize("apart", [0, 1])
def test_progress_is_a_record_finished_by_a_commit_that_was_confirmed(apart: int) -> None:
    offsets = partition_offsets(0)
    read_all(offsets, 5)
    offsets.suspicion.begin_batch(apart, None)
    committed(offsets)
    offsets.confirm()
    seen = [offsets.suspicion.has_progressed]  # a commit of what waits
    mark([Record(offsets, 1)], SENT)
    seen.append(offsets.suspicion.has_progressed)
    committed(offsets)  # it is not safe yet
    offsets.finish_sent()
    offsets.confirm()
    seen.append(offsets.suspicion.has_progressed)
    committed(offsets)
    seen.append(offsets.suspicion.has_progressed)
    offsets.confirm()
    assert [*seen, offsets.suspicion.has_progressed] == [False, False, False, False, True]


def test_a_map_says_of_the_first_records_whose_calls_hung_how_many_attempts_have_failed() -> None:
    offsets = partition_offsets(0)
    read_all(offsets, 2 * MOST_HUNG)
    for offset in range(2 * MOST_HUNG):
        offsets.suspicion.note_hung(offset, offset % 3)
    offsets.finish(0)
    again = restarted(*committed(offsets))
    assert again.suspicion.hung == {offset: offset % 3 for offset in range(1, MOST_HUNG + 1)}
    again.finish(1)
    assert 1 not in restarted(*committed(again)).suspicion.hung


def test_what_is_before_many_finished_ones_in_a_map_was_left_behind() -> None:
    waits, done = bytes([UNFINISHED]), bytes([FINISHED]) * MANY_LATER
    maps = [
        OffsetMap(TOPIC_ID, 5, 0, 0, States.of(states, 5))
        for states in (b"", waits * 9, waits + done[1:], waits * 3 + done + waits, done + waits * 9)
    ]
    left = [partition_offsets(5, each).suspicion.left_behind_below for each in maps]
    assert left == [0, 0, 0, 8, 0]


@pytest.mark.parametrize("damage", ["x", "1.x", "x.1", "..", "1.2.3", "1.2.3*x", "1.2.3*4*5"])
def test_starts_that_are_no_numbers_make_the_map_none_of_ours(damage: str) -> None:
    assert OffsetMap.parse(signed(body(0, "r") + ":1.7")) is not None
    assert OffsetMap.parse(signed(body(0, "r") + f":{damage}")) is None


@pytest.mark.parametrize("oldest", [-62_135_596_800_001, 253_402_300_800_000])
@pytest.mark.parametrize("time", [-62_135_596_800_001, 253_402_300_800_000])
def test_a_map_of_a_time_that_there_is_not_is_none_of_ours(oldest: int, time: int) -> None:
    """`fleet` ended with a traceback for all consumers."""
    for times in ((oldest, 0), (0, time), (oldest, time)):
        assert OffsetMap.parse(OffsetMap(TOPIC_ID, 5, *times, States(5)).encode()) is None
    assert OffsetMap.parse(OffsetMap(TOPIC_ID, 5, -60_000, 0, States(5)).encode()), "of a host that begins in 1970"


class Record(NamedTuple):
    offsets: PartitionOffsets
    offset: int


def test_finishing_the_last_waiting_offset_of_a_replay_commits_the_end_of_the_map_at_once() -> None:
    offsets = partition_offsets(0)
    read_all(offsets, 10)
    for finished in range(1, 10):
        offsets.finish(finished)
    again = restarted(*committed(offsets))
    again.read(0)
    again.finish(0)
    assert again.lowest_unfinished() == 10
    assert read_all(again, 12) == [10, 11]


def test_waiting_offsets_that_the_log_has_lost_are_counted_and_finished() -> None:
    offsets = partition_offsets(0)
    read_all(offsets, 6)
    offsets.finish(1)
    again = restarted(*committed(offsets))
    assert again.skip_to(4) == 3  # 0, 2 and 3 waited, 1 did not
    assert again.lowest_unfinished() == 4
    assert read_all(again, 6) == [4, 5]


def test_a_log_that_begins_beyond_the_whole_map_loses_what_waited_and_no_more() -> None:
    offsets = partition_offsets(0)
    read_all(offsets, 6)
    again = restarted(*committed(offsets))
    assert again.skip_to(20) == 6
    assert (again.position, again.lowest_unfinished()) == (20, 20)
    assert read_all(again, 22) == [20, 21]


def test_a_run_is_skipped_at_once_where_all_of_it_is_finished_and_else_not_touched() -> None:
    offsets = partition_offsets(0)
    read_all(offsets, 8)
    for offset in (1, 2, 3, 5):
        offsets.finish(offset)
    again = restarted(*committed(offsets))
    assert not again.skip_run([1, 2])  # reading has not come to 0
    assert not again.skip_run([0, 1])
    assert again.read(0)
    assert not again.skip_run([1, 3])
    assert again.skip_run([1, 2, 3])
    assert again.position == 4
    assert not again.skip_run([4, 5])
    assert again.lowest_unfinished() == 0
    assert again.read(4)
    assert not again.skip_run([5, 6, 7, 8])  # 8 is new
    assert read_all(again, 9) == [6, 7, 8]


class OnePartition(RuleBasedStateMachine):
    """A log with gaps, and a worker that reads, finishes, commits and crashes at any moment.

    The model is one set: the offsets that a commit of now must call unfinished.
    """

    @initialize(gaps=st.sets(st.integers(0, 60), max_size=20))
    def start(self, gaps: set[int]) -> None:
        self.log = [offset for offset in range(61) if offset not in gaps]
        self.done: set[int] = set()  # finished in truth, by whichever life
        self.durable = committed(partition_offsets(0))
        self.durable_unfinished: set[int] = set()
        self.durable_end = 0
        self.crash()

    @rule()
    def crash(self) -> None:
        self.offsets = restarted(*self.durable)
        self.unfinished = set(self.durable_unfinished)  # as this life knows it
        self.known_end = self.durable_end
        self.in_hand: set[int] = set()

    @precondition(lambda self: any(offset >= self.offsets.position for offset in self.log))
    @rule(records=st.integers(1, 10))
    def read_a_run(self, records: int) -> None:
        """As `read`, but all at once where that is possible; where not, nothing may have happened."""
        run = [each for each in self.log if each >= self.offsets.position][:records]
        if self.offsets.read_run(run):
            assert all(offset >= self.known_end for offset in run)
            assert run == list(range(self.known_end, self.known_end + len(run)))
            self.unfinished |= set(run)
            self.in_hand |= set(run)
            self.known_end = run[-1] + 1
            return
        position = self.offsets.position
        if self.offsets.skip_run(run):
            assert run == list(range(position, self.offsets.position))
            assert all(offset < self.known_end for offset in run)
            assert self.unfinished.isdisjoint(run)
        else:
            self.read(records)

    @precondition(lambda self: any(offset >= self.offsets.position for offset in self.log))
    @rule(records=st.integers(1, 10))
    def read(self, records: int) -> None:
        for offset in [each for each in self.log if each >= self.offsets.position][:records]:
            self.pass_over(self.offsets.position, offset)
            handle = self.offsets.read(offset)
            assert handle == (offset in self.unfinished or offset >= self.known_end)
            if handle:
                self.unfinished.add(offset)
                self.in_hand.add(offset)
            self.known_end = max(self.known_end, offset + 1)

    @rule(ahead=st.integers(0, 5))
    def position_passes_a_gap(self, ahead: int) -> None:
        end = next((offset for offset in self.log if offset >= self.offsets.position), 61)
        to = min(self.offsets.position + ahead, end)
        gone = self.pass_over(self.offsets.position, to)
        assert self.offsets.skip_to(to) == gone
        self.known_end = max(self.known_end, to)

    def pass_over(self, first: int, end: int) -> int:
        """Offsets without a record: they are finished when reading has passed them."""
        gone = self.unfinished & set(range(first, end))
        self.unfinished -= gone
        return len(gone)

    @precondition(lambda self: self.in_hand)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(sorted(self.in_hand)))
        self.in_hand.remove(offset)
        self.unfinished.remove(offset)
        self.done.add(offset)
        self.offsets.finish(offset)

    @rule()
    def commit(self) -> None:
        self.durable = committed(self.offsets)
        self.durable_unfinished, self.durable_end = set(self.unfinished), self.known_end
        loaded = OffsetMap.decode(self.durable[1], TOPIC_ID, self.durable[0])
        assert loaded is not None
        end = self.durable[0] + len(loaded.states)
        waiting = {self.durable[0] + index for index, state in enumerate(loaded.states) if state == UNFINISHED}
        assert waiting == self.unfinished
        assert end == max(self.offsets.position, self.durable_end)
        passed = {offset for offset in self.log if offset < end and offset not in waiting}
        assert passed <= self.done

    @invariant()
    def nothing_unfinished_is_below_the_lowest_unfinished(self) -> None:
        lowest = self.offsets.lowest_unfinished()
        assert lowest == min(self.unfinished, default=self.known_end)
        assert self.offsets.unfinished() == len(self.unfinished)


TestAnyOrderOfReadsFinishesCommitsAndCrashes = OnePartition.TestCase
TestAnyOrderOfReadsFinishesCommitsAndCrashes.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None
)


# ---------------------------------------------------------------- the map


@given(states, st.integers(0, 2**62), st.integers(0, 2**45), st.integers(0, 2**45))
@settings(deadline=None)
def test_a_map_comes_back_as_it_was(states: bytes, base: int, oldest_ms: int, time_ms: int) -> None:
    written = OffsetMap(TOPIC_ID, base, oldest_ms, time_ms, States.of(states, base))
    assert OffsetMap.decode(written.encode(), TOPIC_ID, base) == written


@pytest.mark.parametrize(("pairs", "encoding"), [(30, "r"), (300, "R")])
def test_only_a_map_that_is_not_tiny_is_deflated(pairs: int, encoding: str) -> None:
    assert offset_map(b"\x00\x01" * pairs).encode().split(":")[7].startswith(encoding)


@given(states)
@settings(deadline=None, max_examples=25)
def test_a_map_is_printable_ascii_which_every_client_and_tool_carries(states: bytes) -> None:
    text = offset_map(states).encode()
    assert text.isascii()
    assert text.isprintable()


def test_a_map_of_an_embedded_broker_which_has_no_topic_ids_comes_back() -> None:
    written = offset_map(b"\x00\x01\x00", topic_id="")
    assert OffsetMap.decode(written.encode(), "", BASE) == written


@pytest.mark.parametrize("tail", ["\0", "\0\0"])
def test_a_trailing_nul_is_tolerated(tail: str) -> None:
    written = offset_map(b"\x00\x01\x00")
    assert OffsetMap.decode(written.encode() + tail, TOPIC_ID, BASE) == written


def test_a_map_of_another_topic_of_the_same_name_is_ignored() -> None:
    assert OffsetMap.decode(offset_map(b"\x00").encode(), "another", BASE) is None
    assert OffsetMap.decode(offset_map(b"\x00").encode(), "", BASE) is None


@pytest.mark.parametrize("offset", [0, BASE - 1, BASE + 1])
def test_a_map_beside_an_offset_that_was_reset_or_translated_is_ignored(offset: int) -> None:
    assert OffsetMap.decode(offset_map(b"\x00\x01\x00").encode(), TOPIC_ID, offset) is None


@pytest.mark.parametrize("foreign", [None, "", "\0", ":", "::::::::", "none", '{"host": "a"}', "bAAAAAA==", "é" * 50])
def test_metadata_of_other_tools_is_ignored(foreign: str | None) -> None:
    assert OffsetMap.decode(foreign, TOPIC_ID, BASE) is None


@given(st.text() | st.text(alphabet=":0123456789abcdefgrbGRB\0").map(lambda text: f"1:{TOPIC_ID}:{BASE}:{text}"))
def test_random_metadata_is_ignored(text: str) -> None:
    assert OffsetMap.decode(text, TOPIC_ID, BASE) is None


@pytest.mark.parametrize("gap", [1 << 30, 1_200_000_000, 1 << 36])
def test_a_map_holds_however_far_what_waits_lies_behind(gap: int) -> None:
    """A compacted topic may have such gaps. The map was made, and never read again: what came later was repeated."""
    offsets = partition_offsets(BASE)
    for offset in (BASE, BASE + gap, BASE + gap + 1):
        assert offsets.read(offset)
    offsets.finish(BASE + gap + 1)
    point = offsets.commit_point(oldest_ms=0, now_ms=0)
    loaded = OffsetMap.decode(point.metadata, TOPIC_ID, BASE)
    assert loaded
    assert [*loaded.states.runs()] == [(BASE, BASE + 1), (BASE + gap, BASE + gap + 1)]


def test_a_map_of_more_than_a_billion_offsets_is_read_however_much_waits_in_it() -> None:
    """One message waited for a day beside a busy partition: its map was made, and could not be read."""
    offsets, last, every = partition_offsets(BASE), 5_000, 1 << 18
    for number in range(last + 1):
        assert offsets.read(BASE + number * every)
    point = offsets.commit_point(oldest_ms=0, now_ms=0)
    loaded = OffsetMap.decode(point.metadata, TOPIC_ID, BASE)
    assert loaded
    assert loaded.states.unfinished() == last + 1


def test_of_many_steps_of_arrivals_a_map_has_as_many_as_can_be_read() -> None:
    chance = random.Random(1)
    states = States.of(chance.choice((FINISHED, UNFINISHED)) for _ in range(40_000))  # stored: too long for a commit
    states = States.of([UNFINISHED, *states][:40_000])
    steps = tuple((number, number * 1_000) for number in range(20_000))
    text = OffsetMap(TOPIC_ID, 0, 0, 20_000_000, states, steps=steps).encode()
    assert len(text) > MAX_METADATA
    found = OffsetMap.decode(text, TOPIC_ID, 0)
    assert found
    assert 500 <= len(found.steps) <= 1_000
    assert all(found.steps[at][1] <= time + 64_000 for at, (_, time) in enumerate(steps[::32]) if at < 400)


@pytest.mark.parametrize("unfinished", [1 << 39, (1 << 30) + 1])
def test_a_map_that_claims_more_unfinished_ones_than_memory_has_is_damaged(unfinished: int) -> None:
    numbers, payload = unfinished, bytearray(b"\x00")
    while numbers > 127:
        payload.append(numbers & 127 | 128)
        numbers >>= 7
    payload.append(numbers)
    assert OffsetMap.decode(signed(body(unfinished, packed("r", bytes(payload)))), TOPIC_ID, BASE) is None


lengths = st.integers(-5, 10_000) | st.integers(2**31, 2**45)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])), lengths, st.sampled_from("rgbRGBxé"))
def test_a_random_payload_with_a_right_checksum_never_raises(payload: str, length: int, tag: str) -> None:
    loaded = OffsetMap.decode(signed(body(length, tag + payload)), TOPIC_ID, BASE)
    assert loaded is None or len(loaded.states) == length


@given(st.binary(max_size=40), st.integers(0, 2_000), st.sampled_from("rgbRGB"), st.booleans())
def test_random_bytes_with_a_right_checksum_give_as_many_states_as_promised_or_no_map(
    data: bytes, length: int, tag: str, deflate: bool
) -> None:
    payload = packed(tag, zlib.compress(data) if deflate else data)
    loaded = OffsetMap.decode(signed(body(length, payload)), TOPIC_ID, BASE)
    assert loaded is None or (len(loaded.states) == length and set(loaded.states) <= {UNFINISHED, FINISHED})


@pytest.mark.parametrize(
    "states",
    [
        b"\x00",
        b"\x00\x01" * 9,
        b"\x00" * 9_000 + b"\x01\x00",
        random.Random(1).randbytes(200).translate(bytes(index & 1 for index in range(256))),
    ],
)
def test_a_map_that_was_cut_short_or_changed_in_any_one_place_is_ignored(states: bytes) -> None:
    text = offset_map(states).encode()
    for place in range(len(text)):
        assert OffsetMap.decode(text[:place], TOPIC_ID, BASE) is None
        assert OffsetMap.decode(text[place + 1 :], TOPIC_ID, BASE) is None
        assert OffsetMap.decode(text[:place] + text[place + 1 :], TOPIC_ID, BASE) is None
        for other in "0aA:-_\0 ÿ€":
            if other != text[place]:
                assert OffsetMap.decode(text[:place] + other + text[place + 1 :], TOPIC_ID, BASE) is None


@given(st.data())
def test_a_map_with_any_character_in_any_place_is_ignored(data: st.DataObject) -> None:
    text = offset_map(b"\x00\x01\x00\x00").encode()
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters().filter(lambda character: character != text[place]))
    assert OffsetMap.decode(text[:place] + other + text[place + 1 :], TOPIC_ID, BASE) is None


@pytest.mark.parametrize("length", ["", "-1", "1.5", "nan", str(2**41), str(2**64), "9" * 4_000, "9" * 9_000])
def test_a_length_that_no_partition_has_is_ignored_and_costs_nothing(length: str) -> None:
    tracemalloc.start()
    try:
        assert OffsetMap.decode(signed(body(length, "r")), TOPIC_ID, BASE) is None
        assert (
            OffsetMap.decode(signed(body(length, packed("r", b"\x00" + b"\xff" * 5 + b"\x7f"))), TOPIC_ID, BASE) is None
        )
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "payload",
    [
        "",  # not even a letter
        "x",  # an encoding that nobody knows
        packed("r", b"\x00\xff\xff\xff\xff\xff\x01"),  # a run of 2**35 offsets
        packed("r", b"\x00" + b"\xff" * 30 + b"\x01"),  # a number of 31 bytes
        packed("r", b"\x00\xff"),  # a number without its end
        packed("g", b"\xff\xff\xff\xff\xff\x01"),
        packed("g", b"\x00" * 12),
        packed("b", b"\x07\xff"),  # 10 states where 4 are promised
        packed("R", zlib.compress(b"\x00" * 5_000)[:-5]),  # cut short
        packed("R", b"no zlib"),
    ],
)
def test_a_payload_with_more_states_than_promised_or_without_sense_is_ignored(payload: str) -> None:
    tracemalloc.start()
    try:
        assert OffsetMap.decode(signed(body(4, payload)), TOPIC_ID, BASE) is None
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_payload_that_inflates_without_end_is_ignored_within_bounds() -> None:
    bomb = packed("B", zlib.compress(zlib.compress(bytes(1 << 20)) + bytes(1 << 28), 1))
    tracemalloc.start()
    try:
        assert OffsetMap.decode(signed(body(4, bomb)), TOPIC_ID, BASE) is None
        assert tracemalloc.get_traced_memory()[1] < 3 * (1 << 27)
    finally:
        tracemalloc.stop()


# ---------------------------------------------------------------- the steps in it


def parsed_by_older_versions(text: str) -> tuple[list[str], bytes] | None:
    """The fields and the payload, inflated, as the versions without steps read a map."""
    body, _, found = text.rpartition(":")
    fields = body.split(":")
    if found != f"{zlib.crc32(body.encode()):08x}" or len(fields) not in {8, 9} or fields[0] != "1":
        return None
    tag, data = fields[7][0], base64.b64decode(fields[7][1:] + "=" * (-len(fields[7][1:]) % 4), b"-_", validate=True)
    if tag.isupper():
        inflater = zlib.decompressobj()
        data = inflater.decompress(data, 1 << 27)
        assert inflater.eof
    fields[7] = tag.lower()
    return fields, data


@given(states, st.lists(st.tuples(st.integers(0, 1 << 30), st.integers(0, 10**6)), max_size=60))
@settings(deadline=None)
def test_steps_come_back_and_older_versions_read_the_same_map_without_them(
    states: bytes, pairs: list[tuple[int, int]]
) -> None:
    plain = offset_map(states)
    offsets = accumulate((offset for offset, _ in pairs), initial=BASE)
    times = accumulate((-tenths * 100 for _, tenths in pairs), initial=plain.time_ms // 100 * 100)
    steps = tuple(zip(offsets, reversed(list(times)), strict=True))
    written = plain._replace(steps=steps)
    text = written.encode()
    loaded = OffsetMap.decode(text, TOPIC_ID, BASE)
    assert loaded is not None
    assert loaded._replace(steps=()) == plain
    if len(text) < MAX_METADATA - 100 and len(steps) < 30:  # far from the limit: all of them
        assert loaded.steps == steps
    assert parsed_by_older_versions(text) == parsed_by_older_versions(plain.encode())


def test_a_map_of_an_older_version_is_read_as_before() -> None:
    text = f"1:{TOPIC_ID}:tags:1000:1700000000123:1700000060456:5:rAAEBAQ:3.1003"
    loaded = OffsetMap.decode(signed(text), TOPIC_ID, BASE)
    assert loaded == OffsetMap(
        TOPIC_ID, BASE, 1700000000123, 1700000060456, States.of(b"\0\1\0\1\1", BASE), "tags", 3, 1003, ()
    )
    offsets = PartitionOffsets("a", 0, Layout(TOPIC_ID), BASE, loaded, now=1_700_000_060.456)
    assert [offsets.first_arrival(BASE, each, 0.0) for each in (0.0, 1_700_000_001.0, 1_800_000_000.0)] == [
        1_700_000_000.123,
        1_700_000_001.0,
        1_700_000_060.456,
    ]


def long_map(waiting: int) -> OffsetMap:
    """With 300 steps, which a map of so many waiting offsets has room for, or not."""
    length = 300 * 1_000
    steps = tuple((BASE + at * 1_000, (1_700_000_060 - 300 + at) * 1_000) for at in range(300))
    return offset_map(sparse(length, waiting))._replace(steps=steps)


@pytest.mark.parametrize(("waiting", "fewest", "most"), [(10, 300, 300), (1_000, 100, 300), (1_800, 8, 150)])
def test_a_map_that_fits_only_with_fewer_steps_has_fewer(waiting: int, fewest: int, most: int) -> None:
    written = long_map(waiting)
    text = written.encode()
    assert len(text) <= MAX_METADATA
    loaded = OffsetMap.parse(text)
    assert loaded is not None
    assert loaded.states == written.states
    assert fewest <= len(loaded.steps) <= most


def test_a_map_without_room_for_a_few_steps_is_too_long_for_a_commit_and_one_that_is_stored_elsewhere_has_all() -> None:
    """Without any, all that waited was as old as the oldest after a restart."""
    room = MAX_METADATA - len(offset_map(b"\0")._replace(joined_with="").encode())
    full = long_map(0)._replace(joined_with="t" * (room - 20))
    assert len(full.encode()) > MAX_METADATA
    loaded = OffsetMap.parse(full.encode())
    assert loaded is not None
    assert (loaded.joined_with, 0 < len(loaded.steps) <= 8) == (full.joined_with, True)
    stored = OffsetMap.parse(long_map(3_000).encode())
    assert stored is not None
    assert stored.steps == long_map(3_000).steps


def test_steps_from_a_host_whose_clock_is_ahead_are_put_in_order() -> None:
    steps = ((BASE, 1_700_000_000_000), (BASE + 1, 1_700_000_090_000), (BASE + 2, 1_700_000_060_000))
    loaded = OffsetMap.parse(offset_map(b"\0\0\0")._replace(steps=steps).encode())
    assert loaded is not None
    assert [time - 1_700_000_000_000 for _, time in loaded.steps] == [0, 60_000, 60_000]


def test_steps_of_no_date_are_none() -> None:
    """No worker writes such a thing; `fleet` ended for all consumers where somebody had committed it."""
    steps = ((BASE, 1_700_000_000_000 - 100 * 2**41),)
    loaded = OffsetMap.parse(offset_map(b"\0\0\0")._replace(steps=steps).encode())
    assert loaded is not None
    assert loaded.steps == ()


@pytest.mark.parametrize("rest", [b"\xff", b"\x00", b"\x02\x01", b"\x02\x01\x01", b"\x01" * 9, b"\xff" * 50])
def test_what_follows_the_states_and_is_no_steps_is_ignored(rest: bytes) -> None:
    payload = packed("R", zlib.compress(b"\x00\x01") + rest)
    loaded = OffsetMap.decode(signed(body(4, payload)), TOPIC_ID, BASE)
    assert loaded is not None
    assert (bytes(loaded.states), loaded.steps) == (b"\x00\x01\x01\x01", ())


# ---------------------------------------------------------------- its size


def test_a_broker_takes_4095_characters() -> None:
    assert MAX_METADATA == 4095


def sparse(length: int, waiting: int) -> bytes:
    states = bytearray([FINISHED]) * length
    for offset in random.Random(7).sample(range(length), waiting):
        states[offset] = UNFINISHED
    return bytes(states)


@pytest.mark.parametrize(
    ("what", "states", "limit"),
    [
        ("nothing waits", b"\x01" * 1_000_000, 80),
        ("one waits", b"\x00" + b"\x01" * 1_000_000, 90),
        ("a million wait in one run", b"\x00" * 1_000_000, 90),
        ("a million wait behind one that is finished", b"\x00\x01" + b"\x00" * 1_000_000, 90),
        ("every second one of a million waits", b"\x00\x01" * 500_000, 2_000),
        ("every second one of 20,000 at random", sparse(20_000, 10_000), MAX_METADATA),
        ("1 % of 200,000 at random", sparse(200_000, 2_000), MAX_METADATA),
        ("1,300 of ten million at random", sparse(10_000_000, 1_300), MAX_METADATA),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_map_fits(what: str, states: bytes, limit: int) -> None:
    text = offset_map(states).encode()
    assert len(text) <= limit, what
    loaded = OffsetMap.decode(text, TOPIC_ID, BASE)
    assert loaded is not None
    assert bytes(loaded.states) == states


def test_a_map_that_cannot_fit_is_long_and_not_wrong() -> None:
    states = sparse(100_000, 50_000)
    text = offset_map(states).encode()
    assert len(text) > MAX_METADATA
    loaded: Any = OffsetMap.decode(text, TOPIC_ID, BASE)
    assert bytes(loaded.states) == states


def test_a_process_that_has_not_ended_goes_on_as_it_was() -> None:
    loaded = OffsetMap(TOPIC_ID, 5, 0, 0, States.of(bytes(1), 5), starts=3, trying=5)
    before = PartitionOffsets("a", 0, Layout(TOPIC_ID), 5, loaded)
    record: CrashRecord = before.suspicion.crash_record
    assert (record.starts, record.tried) == (4, 5)
    committed = OffsetMap(TOPIC_ID, 5, 0, 0, States.of(bytes(2), 5), starts=4, trying=6)
    after = PartitionOffsets("a", 0, Layout(TOPIC_ID), 5, committed)
    after.suspicion.go_on_as(record)
    assert after.suspicion.crash_record == (4, 5), "6 was run alone, and has not ended the process"


def test_a_map_up_to_an_offset_says_nothing_of_those_behind_it() -> None:
    whole = OffsetMap(
        TOPIC_ID, 10, 1, 2, States.of(b"\x00\x01\x00\x00\x01\x00", 10), starts=1, trying=14, hung=((10, 1), (13, 2))
    )
    cut = whole.up_to(13)
    assert (bytes(cut.states), cut.states.end, cut.trying, cut.hung) == (b"\x00\x01\x00", 13, None, ((10, 1),))
    assert bytes(whole.up_to(16).states) == bytes(whole.states)
    assert bytes(States.of(b"\x01\x01\x01", 10).up_to(12)) == b"\x01\x01"


def test_the_leader_epoch_of_a_commit_is_that_of_the_last_record_that_the_map_knows() -> None:
    offsets = partition_offsets(0)
    assert offsets.commit_point(0, 0).epoch == -1
    offsets.read_run(range(5))
    offsets.note_epoch(5, 3)
    offsets.note_epoch(4, 2)  # reading was set back
    offsets.note_epoch(5, None)
    assert offsets.commit_point(0, 0).epoch == 3


@given(
    st.binary(max_size=30),
    st.integers(0, 40),
    st.lists(st.integers(0, 40)),
    st.none() | st.integers(0, 40),
    st.lists(st.integers(0, 40)),
    st.integers(0, 5),
)
def test_unread_is_what_reading_would_hand_out_up_to_the_end(
    states: bytes, read: int, shed: list[int], read_again: int | None, shed_again: list[int], more: int
) -> None:
    """What was shed, and what reading was not set back to yet, did not count."""
    loaded = offset_map(bytes(each % 2 for each in states))
    offsets, copied = (partition_offsets(BASE, loaded) for _ in range(2))
    for each in (offsets, copied):
        handed_out = [offset for offset in range(BASE, BASE + read) if each.read(offset)]
        for number, offset in enumerate(sorted({*shed} & {offset - BASE for offset in handed_out}), 1):
            each.drop(BASE + offset, number)
        if each.shed.count and read_again is not None:
            start = each.set_back()
            handed_out = [offset for offset in range(start, min(start + read_again, BASE + read)) if each.read(offset)]
            for number, offset in enumerate(sorted({*shed_again} & {offset - BASE for offset in handed_out}), 50):
                each.drop(BASE + offset, number)
    end = max(BASE + read, BASE + len(states)) + more
    left = sum([copied.read(offset) for offset in range(copied.position, end)])
    if copied.shed.count:
        left += sum([copied.read(offset) for offset in range(copied.set_back(), end)])
    assert offsets.unread(end) == left


def test_what_was_shed_is_unread_before_reading_is_set_back_as_well_as_after_that() -> None:
    offsets = partition_offsets(0)
    offsets.read_run(range(1_000))
    for number, offset in enumerate(range(300, 800), 1):
        offsets.drop(offset, number)
    assert offsets.unread(1_007) == 507
    offsets.set_back()
    assert offsets.unread(1_007) == 507
