"""The dead-letter record: what was written is read back as it came, byte by byte."""

import json
from typing import Any

import pytest

from tests.builders import group, partition_offsets
from utils.joining.dead_letters import Contents, Letter, Part, read, text_of, without_contents, write
from utils.joining.messages import Fragment, Headers

TRACE: Headers = [("traceparent", b"00-1-2-01"), ("empty", None)]


def at(topic: str, offset: int, value: bytes, headers: Headers | None = None, index: int = 0) -> Fragment:
    return Fragment(index, partition_offsets(topic=topic, partition=3), offset, value, headers)


def written(*fragments: Fragment, id: str = "7", reason: str = "process_failed", **more: Any) -> Letter:
    return write(group(id, *fragments), reason, consumer="orders", time="2026-01-01T00:00:00.000+00:00", **more)


def contents(letter: Letter) -> Contents:
    found = read(letter.key, letter.value, letter.headers)
    assert found is not None
    return found


def test_a_single_record_stays_as_it_came_with_its_headers_and_ours_behind_them() -> None:
    letter = written(at("a", 5, b"\xff no json", TRACE), error=ValueError("bad"), attempts=2, missing=["b", "c"])
    assert (letter.key, letter.value) == (b"7", b"\xff no json")
    assert letter.headers == [
        *TRACE,
        ("dlq.reason", b"process_failed"),
        ("dlq.consumer", b"orders"),
        ("dlq.time", b"2026-01-01T00:00:00.000+00:00"),
        ("dlq.source", b"a:3:5"),
        ("dlq.error.class", b"ValueError"),
        ("dlq.error.message", b"bad"),
        ("dlq.missing.topics", b"b,c"),
        ("dlq.attempts", b"2"),
    ]


def test_a_group_is_the_json_of_its_fragments() -> None:
    letter = written(at("a", 5, b'{"id":7, "x":1}'), at("b", 6, b'{"id":"7"}'))
    assert json.loads(letter.value or b"") == {
        "id": "7",
        "fragments": [
            {"topic": "a", "partition": 3, "offset": 5, "value": '{"id":7, "x":1}'},
            {"topic": "b", "partition": 3, "offset": 6, "value": '{"id":"7"}'},
        ],
    }
    assert dict(letter.headers)["dlq.source"] == b"a:3:5,b:3:6"


def test_the_order_of_arrival_makes_no_difference() -> None:
    fragments = at("b", 5, b"1", index=0), at("a", 6, b"2", index=1)
    assert written(*fragments) == written(*fragments[::-1])
    assert dict(written(*fragments).headers)["dlq.source"] == b"b:3:5,a:3:6"


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("value", [b"", b'{"id": "\\u00e9 \xc3\xa9"}', b"\xff\x00\xfe", b' {"id":1}\n'])
def test_what_is_read_is_what_was_written(number: int, value: bytes) -> None:
    fragments = [at(f"t.{n}", n, value, TRACE if n != 1 else None) for n in range(number)]
    letter = written(*fragments, error=KeyError("x"), attempts=3)
    assert contents(letter) == Contents(
        "7",
        "process_failed",
        tuple(Part(f"t.{n}", 3, n, value, TRACE if n != 1 else []) for n in range(number)),
        {
            "reason": "process_failed",
            "consumer": "orders",
            "time": "2026-01-01T00:00:00.000+00:00",
            "source": ",".join(f"t.{n}:3:{n}" for n in range(number)),
            "error.class": "KeyError",
            "error.message": "'x'",
            "attempts": "3",
        },
    )


def test_a_record_without_an_id_keeps_its_own_key() -> None:
    assert written(at("a", 1, b"x"), id="", key=b"\xff").key == b"\xff"
    assert written(at("a", 1, b"x"), id="").key is None


def test_a_letter_without_its_contents_still_tells_where_they_stand() -> None:
    small = without_contents(written(at("a", 1, b"x" * 1000, TRACE), at("b", 2, b"y")))
    assert small.value is None
    assert contents(small).parts == ()
    assert contents(small).about["source"] == "a:3:1,b:3:2"
    assert without_contents(small).value is None


def test_a_dead_letter_that_fails_again_carries_the_headers_of_its_last_failure_only() -> None:
    first = written(at("a", 1, b"x", TRACE), reason="invalid_message")
    again = written(at("a", 1, b"x", first.headers))
    assert [value for name, value in again.headers if name == "dlq.reason"] == [b"process_failed"]
    assert contents(again).parts[0].headers == TRACE


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        (b"x", None),
        (b"x", [("dlq.reason", b"too_large")]),
        (b"x", [("dlq.reason", b"x"), ("dlq.source", b"a:1")]),
        (b"x", [("dlq.reason", b"x"), ("dlq.source", b"a:x:1")]),
        (b"no json", [("dlq.reason", b"x"), ("dlq.source", b"a:1:1,b:1:1")]),
        (None, [("dlq.reason", b"x"), ("dlq.source", b"a:1:1,b:1:1")]),
        (b'{"fragments":[{"topic":"a"}]}', [("dlq.reason", b"x"), ("dlq.source", b"a:1:1,b:1:1")]),
        *(
            (b'{"fragments":[%s]}' % each, [("dlq.reason", b"x"), ("dlq.source", b"a:1:1,b:1:1")])
            for each in (
                b'{"topic":"a","partition":1,"offset":1,"value":5}',
                b'{"topic":"a","partition":"1","offset":1,"value":""}',
                b'{"topic":"a","partition":1,"offset":1,"value":"","headers_base64":[["a"]]}',
                b'{"topic":"a","partition":1,"offset":1,"value_base64":"\xc3\xa9"}',
                b'{"topic":"a","partition":1,"offset":1}',
                b'{"topic":"a","partition":1,"offset":1,"value":null}',
                b"5",
            )
        ),
        (b"[1]", [("dlq.reason", b"x"), ("dlq.source", b"a:1:1,b:1:1")]),
        (b'{"y":' + b"[" * 5000 + b"]" * 5000 + b"}", [("dlq.reason", b"x"), ("dlq.source", b"a:1:1,b:1:1")]),
    ],
)
def test_any_other_record_is_none_of_ours(value: bytes | None, headers: Headers | None) -> None:
    assert read(b"key", value, headers) is None


def test_the_text_of_an_error_is_cut_and_never_fails() -> None:
    class Hostile(Exception):
        def __str__(self) -> str:
            raise ZeroDivisionError

    assert text_of(Hostile()) == "(its text cannot be shown)"
    long = written(at("a", 1, b"x"), error=ValueError("\ud800" + "x" * 5000))
    assert len(dict(long.headers)["dlq.error.message"] or b"") < 1100
