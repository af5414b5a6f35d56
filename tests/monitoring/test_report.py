"""The sentence that sums a worker up."""

from dataclasses import replace
from typing import Any

import pytest

from utils.monitoring.history import Series
from utils.monitoring.report import Facts, Verdict, duration, lagging, verdict
from utils.monitoring.view import PartitionView, Snapshot

A = PartitionView("a", 0, position=10, end=10, lag=0, unfinished=0, map_characters=60, paused=False)
IDLE = Snapshot(
    waiting=0,
    waiting_bytes=0,
    oldest_age=0.0,
    in_flight=0,
    oldest_call=0.0,
    circuit_open_for=None,
    calls=(),
    uncommitted=0,
    max_pending_bytes=1000,
    message_timeout=60.0,
    partitions=(A,),
    oldest=(),
)


def judged(snapshot: Snapshot | None = IDLE, rates: tuple[float, float] = (0, 0), **changes: Any) -> Verdict:
    series = (Series("messages in", "", (rates[0],)), Series("results out", "", (rates[1],)))
    facts: dict[str, Any] = {
        "begun": True,
        "live": True,
        "ready": True,
        "restarts": 0,
        "errors": 0,
        "remembered": 100,
        "mismatches": {},
    }
    facts |= changes
    return verdict(Facts(snapshot=snapshot, series=series, **facts))


def with_lag(lag: int | None, paused: bool = False) -> Snapshot:
    return replace(IDLE, partitions=(replace(A, lag=lag, paused=paused),))


@pytest.mark.parametrize(
    ("found", "level", "words"),
    [
        pytest.param(judged(live=False), "bad", "Stuck", id="stuck"),
        pytest.param(judged(None, begun=False, ready=False), "warning", "Starting: waiting", id="starting"),
        pytest.param(
            judged(None, begun=False, ready=False, late=("setup() of worker.py", 75.0)),
            "warning",
            "Starting: setup() of worker.py has not returned for 1 min 15 s.",
            id="setup",
        ),
        pytest.param(judged(None, begun=False, restarts=2), "bad", "for the 2nd time", id="starting again"),
        pytest.param(judged(ready=False), "warning", "Waiting for Kafka", id="not joined"),
        pytest.param(judged(None), "warning", "Busy", id="no answer"),
        pytest.param(judged(replace(IDLE, partitions=())), "ok", "Standing by", id="surplus"),
        pytest.param(
            judged(replace(IDLE, partitions=(), without_leader=2), errors=1),
            "bad",
            "Not all is read: 2 partitions without a leader that answers.",
            id="no leader",
        ),
        pytest.param(
            judged(replace(with_lag(9), without_leader=2, paused=True)),
            "bad",
            "without a leader that answers. Paused by its row: nothing more is taken in. 9 messages unread in Kafka.",
            id="no leader, and paused by the row",
        ),
        pytest.param(
            judged(replace(IDLE, are_apart=True)),
            "warning",
            "Not all will meet: another member of the consumer group, such as a tool with its group.id, has partitions",
            id="a tool in the consumer group",
        ),
        pytest.param(judged(), "ok", "Idle: all that has come is read.", id="idle"),
        pytest.param(judged(rates=(1234.4, 600)), "ok", "1,234 messages a second in, 600 results out.", id="working"),
        pytest.param(judged(rates=(0.4, 0.2)), "ok", "Working: 0.4 messages a second in, 0.2 results out.", id="quiet"),
        pytest.param(
            judged(replace(IDLE, in_flight=5, parked=5)),
            "ok",
            "Idle: all that has come is read, 5 ids between attempts, or behind an earlier one of theirs.",
            id="all rest",
        ),
        pytest.param(judged(replace(IDLE, in_flight=5, parked=4)), "ok", "Working: 1 id in process().", id="some rest"),
        pytest.param(
            judged(replace(IDLE, in_flight=7_970), rates=(1, 0.5)), "ok", "7,970 ids in process().", id="hours of calls"
        ),
        pytest.param(
            judged(replace(IDLE, in_flight=500, parked=490), rates=(1, 0.5)),
            "ok",
            "out, 490 ids between",
            id="most rest",
        ),
        pytest.param(judged(replace(IDLE, in_flight=900), rates=(600, 600)), "ok", "600 results out.", id="a moment's"),
        pytest.param(judged(errors=3), "warning", "Idle: all that has come is read. 3 errors", id="errors"),
        pytest.param(judged(errors=1), "warning", " 1 error in the last", id="one error"),
        pytest.param(judged(errors=100), "warning", "More than 99 errors", id="more errors than remembered"),
        pytest.param(judged(mismatches={"b": "other hash"}, errors=1), "bad", "the keys of b do not fit", id="keys"),
        pytest.param(judged(refused=True, errors=1), "bad", "The row has been changed and is no good", id="row"),
        pytest.param(  # who waited for a pause looked here, and was told that all is well
            judged(unread=True),
            "warning",
            "Idle: all that has come is read. The row cannot be read: no change of it is seen, and no pause.",
            id="row cannot be read",
        ),
        pytest.param(
            judged(replace(IDLE, circuit_open_for=125.0), unread=True),
            "bad",
            "when one succeeds. The row cannot be read",
            id="circuit, and the row cannot be read",
        ),
        pytest.param(
            judged(replace(IDLE, paused=True), refused=True),
            "bad",
            "goes on by the old one. Paused by its row: nothing more is taken in.",
            id="paused by a row that is no good",
        ),
        pytest.param(
            judged(replace(IDLE, circuit_open_for=125.0, in_flight=40), errors=9),
            "bad",
            "Circuit open: process() has failed for all ids for 2 min 5 s. 40 ids held back",
            id="circuit",
        ),
        pytest.param(
            judged(replace(IDLE, circuit_open_for=125.0, in_flight=40, are_apart=True)),
            "bad",
            "Circuit open: process() has failed for all ids for 2 min 5 s. 40 ids held back",
            id="circuit, and a tool in the consumer group",
        ),
        pytest.param(
            judged(replace(with_lag(9, paused=True), paused=True, are_apart=True)),
            "warning",
            "The log tells the cure. Paused by its row: nothing more is taken in.",
            id="paused by the row, and a tool in the consumer group",
        ),
        pytest.param(
            judged(replace(IDLE, paused=True), mismatches={"b": "other hash"}),
            "bad",
            "do not fit those of the other topics. Paused by its row: nothing more is taken in.",
            id="keys, and paused by the row",
        ),
        pytest.param(
            judged(replace(with_lag(9, paused=True), paused=True, waiting=2, oldest_age=75), errors=3),
            "warning",
            "Paused by its row: nothing more is taken in. 9 messages unread in Kafka, 2 ids waiting, the oldest for",
            id="paused by the row",
        ),
        pytest.param(judged(with_lag(500)), "ok", "Reading, 500 messages behind.", id="behind"),
        pytest.param(judged(with_lag(None)), "ok", "Idle", id="end unknown"),
        pytest.param(judged(with_lag(9, paused=True)), "warning", "process() is slower", id="all paused"),
        pytest.param(
            judged(replace(with_lag(9, paused=True), in_flight=5000, uncommitted=300)),
            "warning",
            "process() is slower",
            id="all paused, and some results out",
        ),
        pytest.param(  # process() was blamed
            judged(replace(with_lag(9, paused=True), in_flight=70, parked=60, uncommitted=8000)),
            "warning",
            "1 partition paused: Kafka takes the results slowly, those of 8,000 ids are on their way.",
            id="all paused for slow results",
        ),
        pytest.param(judged(replace(IDLE, in_flight=2)), "ok", "2 ids in process()", id="slow process"),
        pytest.param(judged(replace(IDLE, oldest_call=59)), "ok", "Idle: all that has come is read.", id="a call"),
        pytest.param(judged(replace(IDLE, oldest_call=61)), "ok", "has lasted for 1 min", id="a long call"),
        pytest.param(
            judged(replace(IDLE, oldest_call=7500)),
            "ok",
            "Idle: all that has come is read, the longest call of process() has lasted for 2 h 5 min.",
            id="a call that nobody waits for",
        ),
        pytest.param(judged(replace(IDLE, waiting_bytes=460)), "warning", "nearly full", id="memory"),
        pytest.param(
            judged(replace(IDLE, waiting=2, oldest_age=75)), "ok", "2 ids waiting, the oldest for 1 min 15 s."
        ),
    ],
)
def test_what_an_operator_should_know_first_is_said_first(found: Verdict, level: str, words: str) -> None:
    assert found.level == level
    assert words in found.sentence


def test_what_arrived_just_now_is_not_behind() -> None:
    assert "behind" not in judged(with_lag(100), rates=(100, 0)).sentence
    assert "300 messages behind" in judged(with_lag(300), rates=(100, 0)).sentence


def test_only_some_paused_partitions_wait_for_their_siblings() -> None:
    snapshot = replace(IDLE, partitions=(A, replace(A, partition=1, paused=True)))
    assert "1 partition paused: their siblings are behind" in judged(snapshot).sentence


def test_the_partition_farthest_behind_comes_first() -> None:
    behind = [replace(A, partition=number, lag=lag) for number, lag in enumerate((5, None, 70))]
    assert [each.partition for each in lagging(behind)] == [2, 0, 1]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.0 s"),
        (0.42, "0.4 s"),
        (9.97, "10 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (90000, "1 d 1 h"),
    ],
)
def test_durations_are_told_in_the_unit_that_fits(seconds: float, text: str) -> None:
    assert duration(seconds) == text
