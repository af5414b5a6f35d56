"""What the commands print of dead letters, and which ones are chosen."""

from typing import Any

from confluent_kafka import TopicPartition

from tests.builders import fragment, group
from utils.dead_letters import Contents, read, without_contents, write
from utils.dlq import Choice, Found, details, shown, table
from utils.messages import Fragment


def contents(id: str = "1", reason: str = "process_failed", *fragments: Fragment, **more: Any) -> Contents:
    given = {"time": "2026-01-31T12:00:00.000+00:00", "error": ValueError("bad"), **more}
    letter = write(group(id, *(fragments or (fragment(0),))), reason, consumer="orders", **given)
    found = read(letter.key, letter.value, letter.headers)
    assert found
    return found


def found(each: Contents, *, replayed: bool = False) -> Found:
    return Found(each, TopicPartition("orders-dlq", 2, 7), replayed)


def test_a_choice_is_by_reason_by_id_and_by_time() -> None:
    each = contents("1", "too_large")
    assert Choice().takes(each)
    assert Choice(reason="too_large", id="1", since="2026-01-31", until="2026-01-31T12:01").takes(each)
    assert not Choice(reason="incomplete").takes(each)
    assert not Choice(id="2").takes(each)
    assert not Choice(since="2026-01-31T12:01").takes(each)
    assert not Choice(until="2026-01-31T12:00").takes(each)


def test_the_list_is_in_the_order_of_time_and_ends_with_counts_by_error() -> None:
    lines = list(
        table(
            [
                found(contents("2", time="2026-02-01")),
                found(contents("1", time="2026-01-01"), replayed=True),
                found(contents("3", "incomplete", time="2026-03-01", error=None, missing=["b"])),
            ]
        )
    )
    assert [line.split() for line in lines] == [
        ["2026-01-01", "process_failed", "1", "ValueError", "bad", "(replayed)"],
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
