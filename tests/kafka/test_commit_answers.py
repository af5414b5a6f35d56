"""That commits fail for a while is told, and why."""

from dataclasses import dataclass
from typing import cast

import pytest
from confluent_kafka import KafkaError, TopicPartition

from utils.kafka.commit_answers import AGAIN, GAP, LASTS, CommitAnswers

MOVES = KafkaError(KafkaError.COORDINATOR_NOT_AVAILABLE)


@dataclass
class Answered:
    """One partition of an answer."""

    error: KafkaError | None


class Bench:
    def __init__(self) -> None:
        self.now = 1000.0
        self.heard: list[KafkaError | None] = []
        self.answers = CommitAnswers(lambda error, _: self.heard.append(error), lambda: self.now)

    def answer(self, error: KafkaError | None, of_partition: KafkaError | None = None, *, after: float = 0.0) -> None:
        self.now += after
        self.answers.on_commit(error, cast(list[TopicPartition], [Answered(None), Answered(of_partition)]))


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int]]:
    return [(record.__dict__["error"], record.__dict__["for_s"]) for record in caplog.records]


def test_commits_that_fail_for_a_while_are_told_with_why_and_for_how_long(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing but a counter told it: the log, to which the runbook sends, was silent at the hundredth in a row."""
    bench = Bench()
    for _ in range(int(LASTS)):
        bench.answer(MOVES, after=1.0)
    assert (caplog.records, bench.heard) == ([], [MOVES] * int(LASTS))
    bench.answer(None, MOVES, after=1.0)
    assert told(caplog) == [(str(MOVES), LASTS)]
    assert "commits fail" in caplog.text
    for _ in range(int(AGAIN)):
        bench.answer(MOVES, after=1.0)
    assert told(caplog)[1:] == [(str(MOVES), LASTS + AGAIN)]


def test_one_that_succeeds_begins_the_count_anew(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    for error in (MOVES, None, MOVES):
        bench.answer(error, after=LASTS - 1)
    assert caplog.records == []
    bench.answer(MOVES, after=LASTS)
    assert told(caplog) == [(str(MOVES), LASTS)]


def test_two_that_fail_with_hours_between_them_are_no_row(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bench.answer(MOVES)
    bench.answer(MOVES, after=GAP + 1)
    assert caplog.records == []
