"""What fails is logged, counted, and kept where there is a topic for it."""

import logging

import pytest

from tests.builders import fragment, group, partition_offsets
from utils.joining.messages import Fragment, InvalidMessage, InvalidResult, Result
from utils.metrics import Counters
from utils.processing.outcome import Outcome
from utils.sending.failures import Failures
from utils.sparing import LINES, SPAN, SparingByKind


def failures(topic: str = "letters") -> tuple[Failures, Counters]:
    counters = Counters()
    return Failures("orders", topic, counters, lambda: 0.0), counters


def reason(outcome: Outcome) -> str | None:
    return outcome.letter.reason if outcome.letter else None


def test_an_invalid_record_is_a_group_of_its_own_with_its_bytes_for_memory(caplog: pytest.LogCaptureFixture) -> None:
    keeping, counters = failures()
    record = Fragment(0, partition_offsets(topic="a", partition=2), 7, b"no json")
    outcome = keeping.invalid(record, b"key", InvalidMessage("why"))
    assert (reason(outcome), outcome.letter and outcome.letter.key) == ("invalid_message", b"key")
    assert (outcome.group.fragments, outcome.group.bytes) == ((record,), 7)
    assert counters.invalid == counters.dead_letters["invalid_message"] == 1
    assert vars(caplog.records[0]) | {"source": "a:2:7", "error": "why"} == vars(caplog.records[0])


def test_a_worker_that_starts_again_and_again_fills_the_log_no_more_than_one(caplog: pytest.LogCaptureFixture) -> None:
    """Each start began to count anew: 8,600 lines for 600 results that a broker found too large one by one."""
    lines = SparingByKind(lambda: 0.0)
    for offset in range(LINES + 7):
        keeping = Failures("orders", "letters", Counters(), lines=lines)
        keeping.invalid(Fragment(0, partition_offsets(topic="a"), offset, b"junk"), None, InvalidMessage("why"))
    assert len(caplog.records) == LINES
    keeping.failed(Outcome(group("7"), [], error=ValueError()))
    assert len(caplog.records) == LINES + 1, "of another kind"


@pytest.mark.parametrize("topic", ["letters", ""])
def test_a_flood_of_what_dead_letters_name_does_not_fill_the_log(topic: str, caplog: pytest.LogCaptureFixture) -> None:
    """A producer that sends junk wrote 190 GB of log a day."""
    now = 0.0
    keeping = Failures("orders", topic, Counters(), lambda: now)

    def lines(number: int) -> list[int]:
        caplog.clear()
        for offset in range(number):
            keeping.invalid(Fragment(0, partition_offsets(topic="a"), offset, b"junk"), None, InvalidMessage("why"))
        return [vars(each).get("not_logged", 0) for each in caplog.records]

    assert lines(LINES + 7) == [0] * (LINES if topic else LINES + 7), "without dead letters only the log names them"
    now = SPAN
    assert lines(2) == ([7, 0] if topic else [0, 0])
    now = 0.0  # a clock that was set back
    assert lines(1) == [0]


@pytest.mark.parametrize("topic", ["letters", ""])
def test_a_flood_of_what_is_too_large_does_not_fill_the_log(topic: str, caplog: pytest.LogCaptureFixture) -> None:
    """Each had its line."""
    keeping, _ = failures(topic)
    outcomes = [Outcome(group(str(number)), [Result(b"1", b"x")]) for number in range(LINES + 7)]
    letters = [keeping.refused(outcome, "too large") for outcome in outcomes]
    assert len(caplog.records) == (LINES if topic else LINES + 7), "without dead letters only the log names them"
    for letter in letters if topic else ():
        keeping.refused(letter, "too large")
    assert len(caplog.records) == (2 * LINES if topic else LINES + 7), "each kind has its own"


@pytest.mark.parametrize(
    ("error", "expected", "failed", "invalid"),
    [
        (ZeroDivisionError(), "process_failed", 1, 0),
        (SystemExit(), "process_failed", 1, 0),
        (InvalidResult("no dict"), "result_invalid", 1, 0),
        (InvalidMessage("no json after all"), "invalid_message", 0, 2),
    ],
)
def test_the_reason_is_that_of_the_error(error: BaseException, expected: str, failed: int, invalid: int) -> None:
    keeping, counters = failures()
    [outcome] = keeping.failed(Outcome(group("1", fragment(0), fragment(1)), [], error))
    assert reason(outcome) == expected
    assert outcome.error is None  # whose frames hold what process() had
    assert (counters.failed, counters.invalid) == (failed, invalid)
    assert counters.dead_letters == {expected: 1}


def test_of_a_group_only_the_part_that_is_no_message_is_invalid_and_the_other_may_still_be_joined() -> None:
    keeping, counters = failures()
    bad = Fragment(0, partition_offsets(topic="a"), 3, b'{"id": "1", "content": {"paid": 1e999}}')
    good = Fragment(1, partition_offsets(topic="b"), 4, b'{"id": "1"}')
    invalid, incomplete = keeping.failed(Outcome(group("1", bad, good), [], InvalidMessage("out of range")))
    assert (reason(invalid), invalid.group.fragments) == ("invalid_message", (bad,))
    assert (reason(incomplete), incomplete.group.fragments) == ("incomplete", (good,))
    assert incomplete.letter
    assert dict(incomplete.letter.headers)["dlq.missing.topics"] == b"a"
    assert (counters.invalid, counters.evicted) == (1, 1)


def test_groups_that_were_not_completed_are_one_log_line_and_name_what_is_missing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    keeping, counters = failures()
    outcomes = keeping.incomplete([group(str(number)) for number in range(12)], lambda each: ["b", each.id])
    assert [dict(each.letter.headers)["dlq.missing.topics"] for each in outcomes if each.letter] == [
        f"b,{number}".encode() for number in range(12)
    ]
    assert counters.evicted == counters.dead_letters["incomplete"] == 12
    [line] = caplog.records
    assert vars(line)["count"] == 12
    assert len(vars(line)["missing_topics_by_id"]) == 10


def test_a_result_that_is_too_large_is_none_any_more_and_then_its_letter_loses_its_contents() -> None:
    keeping, counters = failures()
    counters.results = 2
    once = keeping.refused(Outcome(group("1"), [Result(b"1", b"x"), Result(b"1", b"y")]), "too large")
    assert (reason(once), once.results) == ("too_large", [])
    assert (counters.results, counters.refused_results) == (2, 2), "a counter that falls is a new one to Prometheus"
    assert once.letter
    assert once.letter.value is not None
    twice = keeping.refused(once, "too large")
    assert (reason(twice), twice.letter and twice.letter.value) == ("too_large", None)
    assert counters.dead_letters == {"too_large": 1}


def test_without_a_topic_nothing_is_kept_and_all_is_logged_with_its_coordinates(
    caplog: pytest.LogCaptureFixture,
) -> None:
    keeping, counters = failures(topic="")
    failed = Outcome(group("1"), [], ZeroDivisionError())
    outcomes = [
        keeping.invalid(fragment(), None, InvalidMessage("why")),
        *keeping.failed(failed),
        keeping.refused(Outcome(group("1"), [Result(b"1", b"x")]), "too large"),
        *keeping.incomplete([group("1")], lambda _: ["b"]),
    ]
    assert [outcome.letter for outcome in outcomes] == [None] * 4
    assert counters.dead_letters == {}
    sources = [vars(line).get("source") for line in caplog.records if line.levelno == logging.ERROR]
    assert sources == ["a:0:0", ["a:0:0"], ["a:0:0"]]
    [line] = [line for line in caplog.records if line.levelno == logging.WARNING]
    assert (line.getMessage(), vars(line)["sources"]) == ("incomplete messages given up", [["a:0:0"]])


def test_without_a_topic_each_of_many_incomplete_groups_is_logged_with_its_coordinates(
    caplog: pytest.LogCaptureFixture,
) -> None:
    keeping, counters = failures(topic="")
    groups = [group(str(number), fragment(offset=number), fragment(offset=100 + number)) for number in range(25)]
    outcomes = keeping.incomplete(groups, lambda each: ["c", each.id])
    assert [outcome.letter for outcome in outcomes] == [None] * 25
    assert counters.evicted == 25
    lines = [vars(line) for line in caplog.records]
    assert {(line["levelname"], line["msg"]) for line in lines} == {("WARNING", "incomplete messages given up")}
    assert [line["count"] for line in lines] == [10, 10, 5]
    missing = {id: topics for line in lines for id, topics in line["missing_topics_by_id"].items()}
    assert missing == {str(number): ["c", str(number)] for number in range(25)}
    assert [where for line in lines for where in line["sources"]] == [
        [f"a:0:{number}", f"a:0:{100 + number}"] for number in range(25)
    ]
