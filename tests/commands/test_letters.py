"""What the commands print of dead letters, and which ones are chosen."""

from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import OFFSET_INVALID, Consumer, TopicPartition

from tests.builders import fragment, group
from tests.fakes import FakeConsumer, FakeMessage
from utils.commands.letters import Choice, ListedLetter, details, letters, table
from utils.joining.dead_letters import Contents, Letter, read, without_contents, write
from utils.joining.messages import Fragment, Headers
from utils.kafka.lookups import EARLIEST, LATEST
from utils.logger import shown


def letter(id: str = "1", reason: str = "process_failed", *fragments: Fragment, **more: Any) -> Letter:
    given = {"consumer": "orders", "time": "2026-01-31T12:00:00.000+00:00", "error": ValueError("bad"), **more}
    return write(group(id, *(fragments or (fragment(0),))), reason, **given)


def contents(id: str = "1", reason: str = "process_failed", *fragments: Fragment, **more: Any) -> Contents:
    written = letter(id, reason, *fragments, **more)
    found = read(written.key, written.value, written.headers)
    assert found
    return found


def found(each: Contents, *, done: bool = False) -> ListedLetter:
    return ListedLetter(each, TopicPartition("orders-dlq", 2, 7), done)


def test_a_choice_is_by_reason_by_id_and_by_time() -> None:
    each, noon = contents("1", "too_large"), datetime(2026, 1, 31, 12, tzinfo=UTC)
    minute, eastern = timedelta(minutes=1), timezone(timedelta(hours=2))
    assert Choice("orders").takes(each)
    assert Choice("orders", reason="too_large", id="1", since=noon, until=noon + minute).takes(each)
    assert Choice("orders", since=datetime(2026, 1, 31, 14, tzinfo=eastern)).takes(each)
    assert not Choice("orders", since=datetime(2026, 1, 31, 14, 1, tzinfo=eastern)).takes(each)
    assert not Choice("orders", reason="incomplete").takes(each)
    assert not Choice("orders", id="2").takes(each)
    assert not Choice("orders", since=noon + minute).takes(each)
    assert not Choice("orders", until=noon).takes(each)


def test_what_does_not_say_when_it_failed_is_of_no_time() -> None:
    assert Choice("orders").takes(contents("1", time="long ago"))
    assert not Choice("orders", since=datetime(2026, 1, 31, tzinfo=UTC)).takes(contents("1", time="long ago"))
    assert not Choice("orders", until=datetime(2026, 1, 31, tzinfo=UTC)).takes(contents("1", time="long ago"))


def test_a_choice_is_of_one_consumer_and_what_names_none_is_of_any() -> None:
    assert not Choice("paid").takes(contents("1"))
    assert not Choice("paid", id="1").takes(contents("1"))
    assert Choice("paid").takes(contents("1", consumer="paid"))
    foreign = read(b"1", b"{}", [("dlq.reason", b"process_failed"), ("dlq.source", b"a:0:0")])
    assert foreign
    assert Choice("paid").takes(foreign)


def test_the_list_is_in_the_order_of_time_and_ends_with_counts_by_error() -> None:
    lines = list(
        table(
            [
                found(contents("2", time="2026-02-01")),
                found(contents("1", time="2026-01-01"), done=True),
                found(contents("3", "incomplete", time="2026-03-01", error=None, missing=["b"])),
            ]
        )
    )
    assert [line.split() for line in lines] == [
        ["2026-01-01", "process_failed", "1", "ValueError", "bad", "(replayed", "or", "discarded)"],
        ["2026-02-01", "process_failed", "2", "ValueError", "bad"],
        ["2026-03-01", "incomplete", "3", "missing:", "b"],
        [],
        ["2", "process_failed", "ValueError"],
        ["1", "incomplete"],
        ["3", "in", "all"],
    ]
    assert list(table([])) == ["       0  in all"]


def test_the_details_are_all_that_it_holds() -> None:
    headed = Fragment(0, fragment(0).offsets, 4, b'{"id":"1"}', [("trace", b"\xff")])
    lines = [line.strip() for line in details(found(contents("1", "process_failed", headed)))]
    assert lines[0] == "orders-dlq:2:7"
    assert {"reason: process_failed", "source: a:0:4", "a:0:4", "trace: \\xff", '{"id":"1"}'} <= set(lines)


def test_details_of_one_that_keeps_its_sources_only_name_them() -> None:
    letter = without_contents(write(group("1", fragment(0)), "too_large", consumer="orders", time="2026"))
    each = read(letter.key, letter.value, letter.headers)
    assert each
    assert "  source: a:0:0" in details(found(each))


def test_no_id_can_break_a_line_or_drive_the_terminal() -> None:
    hostile = "1\n2\x1b[31m\u202e"
    assert shown(hostile) == r"1\n2\x1b[31m\u202e"
    assert all(line.isprintable() for line in table([found(contents(hostile, error=ValueError(hostile)))]))
    assert all(line.isprintable() for line in details(found(contents(hostile, error=ValueError(hostile)))))


def test_nor_can_what_another_tool_has_written_there() -> None:
    forged = "x\n  replayed"
    about: Headers = [("dlq.reason", forged.encode()), ("dlq.time", forged.encode()), (f"dlq.{forged}", b"1")]
    each = read(b"1", b"{}", [*about, ("dlq.source", f"{forged}:0:0".encode())])
    assert each
    assert all(line.isprintable() for line in table([found(each)]))
    assert all(line.isprintable() for line in details(found(each)))


def test_no_id_fills_the_list() -> None:
    assert len("".join(table([found(contents("x" * 900_000))]))) < 2_000


# ---------------------------------------------------------------- reading


class FakeRecord(FakeMessage):
    content: Letter  # type: ignore[assignment]

    def key(self) -> bytes | None:
        return self.content.key

    def value(self) -> bytes | None:
        return self.content.value

    def headers(self) -> Any:
        return self.content.headers


class FakeTopic(FakeConsumer):
    """Dead letters in partitions that begin where retention has left them. `begins` are also ends of empty ones."""

    def __init__(self, begins: list[int]) -> None:
        super().__init__()
        self.begins = begins
        self.reads = 0

    def put(self, number: int, offset: int, letter: Letter) -> None:
        self.log.setdefault(("dlq", number), {})[offset] = cast(Any, letter)

    def list_topics(self, topic: str, timeout: float) -> Any:
        return SimpleNamespace(topics={topic: SimpleNamespace(partitions=dict.fromkeys(range(len(self.begins))))})

    def committed(self, asked: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        return [TopicPartition(each.topic, each.partition, OFFSET_INVALID) for each in asked]

    def offsets_for_times(self, asked: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        return [TopicPartition(each.topic, each.partition, self._offset_at(each)) for each in asked]

    def _offset_at(self, asked: TopicPartition) -> int:
        begin = self.begins[asked.partition]
        end = max(begin, self.end_of((asked.topic, asked.partition)))
        return {EARLIEST: begin, LATEST: end}[asked.offset]

    def poll(self, _timeout: float) -> FakeMessage | None:
        return next(iter(self.consume(1, 0)), None)

    def consume(self, number: int, timeout: float) -> list[FakeMessage]:
        assert timeout == 0, "it would wait for a full batch"
        self.reads += 1
        assert self.reads < 10, "there is nothing more to read"
        return [FakeRecord(each.at, each.number, each.content) for each in super().consume(number, timeout)]

    def incremental_unassign(self, partitions: list[TopicPartition]) -> None:
        for each in partitions:
            del self.fetch_at[each.topic, each.partition]

    def unassign(self) -> None:
        self.fetch_at = {}


def ids(topic: FakeTopic) -> list[str]:
    return [each.contents.id for each in letters(cast(Consumer, topic), "dlq", lambda _commits: {})]


def test_all_that_is_there_is_read_where_partitions_are_empty_or_have_been_emptied() -> None:
    topic = FakeTopic(begins=[3, 0, 5])
    topic.put(2, 5, letter("1"))
    topic.put(2, 7, letter("2"))
    assert ids(topic) == ["1", "2"]


@pytest.mark.parametrize("begins", [[], [0], [3], [3, 0]])
def test_where_no_partition_has_a_dead_letter_nothing_is_waited_for(begins: list[int]) -> None:
    topic = FakeTopic(begins)
    assert ids(topic) == []
    assert topic.reads == 0


def test_markers_of_transactions_at_the_end_are_waited_for() -> None:
    topic = FakeTopic(begins=[0])
    topic.put(0, 0, letter("1"))
    topic.ends = {("dlq", 0): 2}
    assert ids(topic) == ["1"]
