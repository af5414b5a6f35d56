"""The keys that the intake looks at: which topic is named, when, where, and what that costs."""

import logging
from collections.abc import Iterable
from typing import cast

import pytest
from confluent_kafka import Consumer

from tests.builders import admin, partition_offsets
from tests.fakes import FakeMessage
from utils.joining.partitions import WINDOW, crc32, murmur2
from utils.metrics import Counters
from utils.monitoring.status import Health
from utils.reading.batches import Record
from utils.reading.intake import Intake
from utils.reading.keys import EARLY, EVERY, FIRST, SELDOM

PARTITIONS = 4


class Noticed(FakeMessage):
    """Notes whose key is read."""

    def __init__(self, at: tuple[str, int], number: int, id: str, keys_read: list[str]) -> None:
        super().__init__(at, number, b'{"id":"%s"}' % id.encode(), timestamp_ms=0, its_key=id.encode())
        self._noted = id, keys_read

    def key(self) -> bytes | None:
        id, keys_read = self._noted
        keys_read.append(id)
        return super().key()


class Bench:
    """An intake that owns all partitions of two topics, or others, and a clock that only the test moves."""

    def __init__(self, topics: str = "ab") -> None:
        self.topics = topics
        self.now = 0.0
        self.counters = Counters()
        self.health = Health()
        self.keys_read: list[str] = []
        self.restart()

    def restart(self) -> None:
        """A new worker in the same process."""
        mismatches = self.health.mismatches
        self.intake = Intake(cast(Consumer, object()), self.counters, admin(), lambda: self.now, mismatches)
        self.assign()

    def assign(self, *, grown: bool = False) -> None:
        owned = [partition_offsets(0, None, topic, number) for topic in self.topics for number in range(PARTITIONS)]
        for each in owned:
            each.layout = each.layout._replace(partitions=PARTITIONS, grown=grown)
        self.intake.rebalanced(owned)

    def bring(self, ids: Iterable[int], **hashes: object) -> None:
        """A batch with a record of each id from each topic."""
        records: list[Noticed] = []
        for id in map(str, ids):
            for topic, hash in hashes.items():
                at = topic, hash(id.encode(), PARTITIONS)  # type: ignore[operator]
                position = self.intake.owned.partitions[at].position + sum(each.at == at for each in records)
                records.append(Noticed(at, position, id, self.keys_read))
        records.sort(key=lambda record: record.at)
        self.intake.unfinished(cast(list[Record], records))

    def bring_enough(self, begin: int = 0, **hashes: object) -> None:
        for number in range(begin, begin + WINDOW):
            self.now += EVERY
            self.bring([number], **hashes)
        self.now += SELDOM


def errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if "keys do not fit" in record.message]


def test_a_topic_that_is_hashed_otherwise_is_named_once_in_log_counter_and_status(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench()
    bench.bring_enough(a=murmur2, b=crc32)
    bench.bring_enough(WINDOW, a=murmur2, b=crc32)
    bench.assign()
    bench.bring_enough(a=murmur2, b=crc32)
    [line] = errors(caplog)
    assert vars(line)["topic"] == "b"
    assert "CRC32" in vars(line)["mismatch"]
    assert "murmur2_random" in vars(line)["cure"]
    assert bench.counters.mismatches == 1
    assert list(bench.health.mismatches) == ["b"]


def test_topics_that_fit_are_no_news(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bench.bring_enough(a=crc32, b=crc32)
    assert errors(caplog) == []
    assert bench.health.mismatches == {}
    assert bench.counters.mismatches == 0


def test_with_one_topic_there_is_nothing_to_join_and_any_key_will_do(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench("a")
    bench.bring_enough(a=lambda _key, _partitions: 0)
    assert bench.keys_read == []
    assert errors(caplog) == []


def test_the_cure_is_told_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    bench = Bench()
    bench.bring_enough(a=murmur2, b=crc32)
    for begin in range(WINDOW, 3 * WINDOW):
        bench.now += SELDOM
        bench.bring([begin], a=murmur2, b=murmur2)
    assert [record.message for record in caplog.records].count("keys fit those of the other topics again") == 1
    assert bench.health.mismatches == {}


def test_who_has_no_two_topics_any_more_says_nothing_of_keys_nor_remembers_them() -> None:
    """It was said for ever: of a worker that had become a standby, and where the row had been changed to one topic."""
    bench = Bench()
    bench.bring_enough(a=murmur2, b=crc32)
    bench.intake.keys.assigned(["a", "b"])
    assert list(bench.health.mismatches) == ["b"]
    bench.intake.keys.assigned([])
    assert bench.health.mismatches == {}
    for number in range(WINDOW):
        bench.now += SELDOM
        bench.bring([number], a=murmur2, b=murmur2)
        assert bench.health.mismatches == {}


def test_of_a_topic_that_has_left_the_row_nothing_is_said_before_the_next_record_comes() -> None:
    bench = Bench("abc")
    bench.bring_enough(a=murmur2, b=murmur2, c=crc32)
    assert list(bench.health.mismatches) == ["c"]
    bench.topics = "ab"
    bench.restart()
    bench.intake.keys.assigned(bench.topics)
    assert bench.health.mismatches == {}


@pytest.mark.parametrize("bad", ["a", "b"])
@pytest.mark.parametrize("cured", [False, True])
def test_what_an_earlier_worker_has_found_is_said_until_the_next_one_knows_better(
    caplog: pytest.LogCaptureFixture, bad: str, cured: bool
) -> None:
    """After a restart all was well until 50 ids of each topic had come again, and then the error was told once more."""
    bench = Bench("abc")
    hashes = {"a": murmur2, "b": murmur2, "c": murmur2, bad: crc32}
    bench.bring_enough(0, **hashes)
    bench.restart()
    bench.intake.keys.assigned(bench.topics)
    if cured:
        hashes[bad] = murmur2
    for topic, hash in hashes.items():
        assert list(bench.health.mismatches) == [bad]
        bench.bring_enough(0, **{topic: hash})
    assert list(bench.health.mismatches) == ([] if cured else [bad])
    assert len(errors(caplog)) == bench.counters.mismatches == 1


def test_a_topic_of_one_partition_is_not_waited_for_before_a_cure_is_told() -> None:
    bench = Bench("abc")
    bench.bring_enough(a=murmur2, b=crc32)
    bench.restart()
    for (topic, _), offsets in bench.intake.owned.partitions.items():
        if topic == "c":
            offsets.layout = offsets.layout._replace(partitions=1)
    bench.bring_enough(a=murmur2, b=murmur2)
    assert bench.health.mismatches == {}


def test_few_keys_are_looked_at_of_a_topic_that_cannot_be_judged() -> None:
    bench = Bench()
    for _ in range(100):
        bench.bring(range(10), a=murmur2, b=murmur2)
    for _ in range(5):
        bench.bring(range(10), a=murmur2, b=murmur2)
    assert len(bench.keys_read) <= FIRST + EARLY


def test_few_keys_are_looked_at_when_enough_is_known() -> None:
    bench = Bench()
    bench.bring_enough(1000, a=murmur2, b=murmur2)
    bench.bring([1], a=murmur2, b=murmur2)
    bench.keys_read.clear()
    bench.now += SELDOM * 0.9
    bench.bring([1], a=murmur2, b=murmur2)
    assert bench.keys_read == []
    bench.now += SELDOM * 0.2
    bench.bring([1], a=murmur2, b=murmur2)
    assert bench.keys_read == ["1", "1"]


def test_topics_whose_messages_all_come_within_a_moment_are_judged() -> None:
    bench = Bench()
    bench.intake.rebalanced([])
    bench.intake.unfinished([])  # as the loop does while there is no assignment yet
    bench.assign()
    for _ in range(3):
        bench.bring(range(500), a=murmur2)
        bench.bring(range(500), b=crc32)
    assert list(bench.health.mismatches) == ["b"]


def test_a_sample_of_a_large_batch_holds_records_of_all_its_topics() -> None:
    bench = Bench()
    for begin in range(0, 5_000, 500):
        bench.now += EVERY
        bench.bring(range(begin, begin + 500), a=murmur2, b=crc32)
    assert list(bench.health.mismatches) == ["b"]


def test_a_mate_is_awaited_in_its_own_partition_only_where_that_is_known_to_be_right() -> None:
    def of_partition_1(bench: Bench) -> float:
        """For which groups of partition 1 all of topic b was read, though its partition 0 is behind."""
        for each in (bench.intake.evidence.read_through, bench.intake.evidence._read_all):
            each._ends = {("b", 0): (bench.now, 10**9)}
        bench.intake.evidence.waited_enough(bench.now, 0)  # asks for the other ends
        return bench.intake.evidence.waited_enough(bench.now, 0)["b", 1].arrived_by

    bench = Bench()
    assert of_partition_1(bench) == float("-inf"), "nothing is known yet"
    bench.bring_enough(a=murmur2, b=murmur2)
    assert of_partition_1(bench) == bench.now
    bench.assign(grown=True)
    bench.assign()
    bench.bring_enough(a=murmur2, b=murmur2)
    assert of_partition_1(bench) == float("-inf"), "what came before partitions were added lies elsewhere"
    bench = Bench()
    bench.bring_enough(a=murmur2, b=crc32)
    assert of_partition_1(bench) == float("-inf")


def test_a_topic_without_records_does_not_end_the_looks_at_the_others() -> None:
    """A new topic, or a rare one: of the others nothing was looked at any more once they had been judged."""
    bench = Bench("abc")
    bench.bring_enough(a=murmur2, b=murmur2)
    assert not bench.health.mismatches
    for number in range(2 * WINDOW):
        bench.now += SELDOM
        bench.bring([number], a=murmur2, b=crc32)
    assert bench.health.mismatches.keys() == {"b"}


def test_a_batch_of_topics_that_are_judged_puts_off_no_look_at_the_others() -> None:
    """It comes first where the client brings one topic before the other: of the other all had gone by unseen."""
    bench = Bench()
    bench.bring(range(WINDOW), a=murmur2)
    bench.bring(range(WINDOW), a=murmur2)
    bench.bring(range(WINDOW), b=crc32)
    assert bench.health.mismatches.keys() == {"b"}


def test_of_the_one_topic_that_is_left_nothing_is_said() -> None:
    bench = Bench()
    bench.bring_enough(a=murmur2, b=crc32)
    assert bench.health.mismatches.keys() == {"b"}
    bench.topics = "b"
    bench.intake.keys.assigned(bench.topics)
    assert not bench.health.mismatches
