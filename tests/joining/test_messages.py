"""Bytes to fragments, fragments to one message, results to bytes."""

import contextlib
import itertools
import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import fragment
from utils.joining.aggregator import Aggregator, size_of
from utils.joining.messages import (
    LONGEST_ID,
    Fragment,
    InvalidMessage,
    InvalidResult,
    NotAwaited,
    Result,
    join,
    read_ids,
    results,
)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
keys = st.sampled_from(["a", "b", "c", "price"])
messages = st.fixed_dictionaries(
    {"id": st.just("1")},
    optional={
        "content": st.dictionaries(keys, json_values),
        "source": json_values,
        "price": json_values,
        "a": json_values,
    },
)


def fragments(*contents: dict[str, Any]) -> list[Fragment]:
    """One fragment of each topic, in the order of `topics_input`."""
    return [fragment(topic, json.dumps(content).encode()) for topic, content in enumerate(contents)]


# ---------------------------------------------------------------- the id


def test_a_message_that_is_unreadable_has_no_id_whatever_its_value_says() -> None:
    values = [b'{"id":"1"}', b'{"id":"2"}', b"no json"]
    why = InvalidMessage("no headers")
    for valid in (values[:2], values):
        ids, invalid = read_ids(valid, {0: why})
        assert ids == ["", "2", ""][: len(valid)]
        assert invalid[0] is why


@pytest.mark.parametrize(
    ("value", "id"),
    [
        (b'{"id":"order-1"}', "order-1"),
        (b'{"id":1}', "1"),
        (b'{"id":0}', "0"),
        (b'{"id":-7}', "-7"),
        (b'{"id":100000000000000000000000}', "100000000000000000000000"),
        (b'{"id":"01"}', "01"),
        (b'{"id":" 1 "}', " 1 "),
        ('{"id":"zwölf"}'.encode(), "zwölf"),
        (b'{"id":"zw\\u00f6lf"}', "zwölf"),
        (b' {"content": {}, "id": "last"}\n', "last"),
    ],
)
def test_an_id_is_text_or_a_whole_number_and_is_compared_as_text(value: bytes, id: str) -> None:
    assert read_id(value) == id


@pytest.mark.parametrize(
    "id", ['""', "1.5", "1.0", "1e3", "true", "false", "null", "[]", "{}", '["1"]', '"\\ud800"', "NaN"]
)
def test_any_other_id_makes_a_message_invalid(id: str) -> None:
    with pytest.raises(InvalidMessage):
        read_id(b'{"id":%s}' % id.encode())


def test_an_id_has_at_most_so_many_characters_of_whatever_size() -> None:
    """Of ids of nearly a megabyte, whose text was not counted, a few hundred ended the worker again and again."""
    for character in ("x", "\U0001f600"):
        longest = character * LONGEST_ID
        assert read_id(json.dumps({"id": longest}).encode()) == longest
        with pytest.raises(InvalidMessage, match="length <= 1000"):
            read_id(json.dumps({"id": longest + "x"}).encode())


@pytest.mark.parametrize("sign", ["", "-"])
def test_nor_has_an_id_that_is_a_number_more_of_them(sign: str) -> None:
    longest = sign + "1" * (LONGEST_ID - len(sign))
    assert read_id(b'{"id":%s}' % longest.encode()) == longest
    with pytest.raises(InvalidMessage, match="a number of more than 1000 characters"):
        read_id(b'{"id":%s1}' % longest.encode())


@pytest.mark.parametrize("content", ["null", "[]", "1", '"text"', "true", '[{"a":1}]'])
def test_a_content_that_is_no_object_makes_a_message_invalid(content: str) -> None:
    with pytest.raises(InvalidMessage):
        read_id(b'{"id":"1","content":%s}' % content.encode())


@pytest.mark.parametrize(
    "value",
    [
        None,  # a tombstone
        b"",
        b" ",
        b"{}",
        b'{"content":{}}',
        b"null",
        b"1",
        b'"id"',
        b'[{"id":"1"}]',
        b'{"id":"1"',
        b'{"id":"1"}}',
        b'{"id":"1"}{"id":"2"}',
        b"{'id':'1'}",
        b'\xef\xbb\xbf{"id":"1"}',  # a byte order mark
        '{"id":"1"}'.encode("utf-16"),
        b'{"id":"\xff"}',
        b"\x00\x00\x00\x00\x01\x02",  # Avro behind a schema registry
        b'{"id":"1","content":{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
        b'{"id":"1","x":' + b'{"x":' * 100_000 + b"1" + b"}" * 100_001,
        b"[" * 1_000_000,
    ],
    ids=lambda value: f"{value!r:.60}{len(value or b'')}",
)
def test_what_is_no_json_object_with_an_id_is_invalid_with_a_reason(value: bytes | None) -> None:
    with pytest.raises(InvalidMessage, match=r"\w"):
        read_id(value)


@given(st.binary())
def test_random_bytes_are_an_id_or_invalid_and_nothing_else(value: bytes) -> None:
    with contextlib.suppress(InvalidMessage):
        assert read_id(value)


@given(messages, st.data())
def test_a_message_cut_short_is_invalid(message: dict[str, Any], data: st.DataObject) -> None:
    value = json.dumps(message).encode()
    with pytest.raises(InvalidMessage):
        read_id(value[: data.draw(st.integers(0, len(value) - 1))])


# ---------------------------------------------------------------- joining


def read_id(value: bytes | None) -> str:
    [id], invalid = read_ids([value])
    if invalid:
        raise invalid[0]
    return id


def test_later_topics_win_field_by_field_and_key_by_key_in_content() -> None:
    order = {"id": "1", "source": "orders", "at": 5, "content": {"amount": 10, "state": "new", "lines": [1, 2]}}
    payment = {"id": "1", "source": "payments", "content": {"state": "paid", "method": "card", "lines": [3]}}
    assert join(fragments(order, payment)) == {
        "id": "1",
        "source": "payments",
        "at": 5,
        "content": {"amount": 10, "state": "paid", "method": "card", "lines": [3]},
    }


def test_content_is_merged_one_level_deep_and_no_further() -> None:
    first = {"id": "1", "content": {"address": {"street": "A", "city": "B"}}}
    second = {"id": "1", "content": {"address": {"street": "C"}}}
    assert join(fragments(first, second))["content"] == {"address": {"street": "C"}}


def test_fields_beside_content_are_replaced_and_not_merged() -> None:
    joined = join(fragments({"id": "1", "meta": {"a": 1}}, {"id": "1", "meta": {"b": 2}}))
    assert joined["meta"] == {"b": 2}


@pytest.mark.parametrize("first", [{"id": "1"}, {"id": "1", "content": {}}, {"id": "1", "content": {"a": 1}}])
@pytest.mark.parametrize("second", [{"id": "1"}, {"id": "1", "content": {}}, {"id": "1", "content": {"b": 2}}])
def test_content_is_always_a_dict(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert join(fragments(first, second))["content"] == {**first.get("content", {}), **second.get("content", {})}
    assert join(fragments(first))["content"] == first.get("content", {})


def test_a_null_in_content_is_a_value_like_any_other() -> None:
    joined = join(fragments({"id": "1", "content": {"a": 1}}, {"id": "1", "content": {"a": None}}))
    assert joined["content"] == {"a": None}


@given(st.lists(messages, min_size=1, max_size=4))
def test_the_joined_message_does_not_depend_on_the_order_of_arrival(parts: list[dict[str, Any]]) -> None:
    expected: dict[str, Any] = {}
    for part in parts:
        expected |= part
    expected["content"] = {key: value for part in parts for key, value in part.get("content", {}).items()}
    for arrived in itertools.permutations(fragments(*parts)):
        aggregator = Aggregator(len(parts))
        [group] = [group for each in arrived for group in aggregator.add(["1"], [each], size_of([each]))[0]]
        assert same(join(group.fragments), expected)


def same(left: object, right: object) -> bool:
    """Equal, and 1 is not True and 1.0 is not 1."""
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)


@given(st.lists(messages, min_size=2, max_size=3))
def test_a_joined_message_shares_nothing_with_the_one_that_was_joined_before(parts: list[dict[str, Any]]) -> None:
    arrived = fragments(*parts)
    first = join(arrived)
    first["content"]["mine"] = first["mine"] = True
    second = join(arrived)
    assert "mine" not in second
    assert "mine" not in second["content"]


@pytest.mark.parametrize(
    "later",
    [
        b'{"id":"1","text":"\xff"}',
        b'{"id":"1","\xff":1}',
        b'{"id":"1","content":{"text":"\xff"}}',
        b'{"id":"1","number":1e999}',
    ],
)
@pytest.mark.parametrize("place", [0, 1])
def test_a_fragment_that_turns_out_to_be_no_json_only_now_is_invalid_with_a_reason(later: bytes, place: int) -> None:
    values = [b'{"id":"1"}', b'{"id":"1"}']
    values[place] = later
    with pytest.raises(InvalidMessage, match=r"\w"):
        join([fragment(topic, value) for topic, value in enumerate(values)])


@given(st.binary())
def test_joining_whatever_has_an_id_gives_a_message_or_says_that_it_is_invalid(tail: bytes) -> None:
    value = b'{"id":"1","x":' + tail + b"}"
    with contextlib.suppress(InvalidMessage):
        read_id(value)
        assert join([fragment(0, value)])["content"] is not None


# ---------------------------------------------------------------- results


def decoded(sent: Sequence[Result]) -> list[tuple[bytes, Any]]:
    return [(result.key, json.loads(result.value)) for result in sent]


class Tea(StrEnum):
    GREEN = "green"


class Size(Enum):
    TWO = 2
    HALF = 0.5


def test_a_dict_is_one_result_keyed_by_its_id() -> None:
    assert decoded(results({"id": "7", "x": 1}, "1")) == [(b"7", {"id": "7", "x": 1})]


def test_a_result_without_an_id_is_keyed_by_the_id_of_its_group() -> None:
    assert decoded(results({"x": 1}, "1")) == [(b"1", {"x": 1})]


@pytest.mark.parametrize(
    ("id", "key"),
    [(7, b"7"), (0, b"0"), ("zwölf", "zwölf".encode()), ("07", b"07"), (Tea.GREEN, b"green"), (Size.TWO, b"2")],
)
def test_a_key_is_the_id_as_the_next_worker_reads_it(id: object, key: bytes) -> None:
    [result] = results({"id": id}, "1")
    assert result.key == key
    assert read_id(result.value).encode() == key


def test_a_list_is_as_many_results_in_its_order() -> None:
    returned = [{"id": "b"}, {"x": 1}, {"id": "a"}]
    assert decoded(results(returned, "1")) == [(b"b", {"id": "b"}), (b"1", {"x": 1}), (b"a", {"id": "a"})]


@pytest.mark.parametrize("returned", [None, []])
def test_none_and_an_empty_list_are_no_result(returned: object) -> None:
    assert results(returned, "1") == []


@pytest.mark.parametrize(
    "returned", [1, "text", b"bytes", True, ({"id": "1"},), {1, 2}, object(), [None], [{"id": "1"}, "text"], [[{}]]]
)
def test_anything_else_is_an_invalid_result(returned: object) -> None:
    with pytest.raises(InvalidResult, match="process"):
        results(returned, "1")


def test_a_coroutine_that_nobody_awaits_is_no_fault_of_the_message() -> None:
    """Each message became a dead letter: an invalid result tells that what process() asks is there."""

    async def process() -> None: ...

    with pytest.raises(NotAwaited, match="does a decorator hide its `async def`"):
        results(process(), "1")
    assert not issubclass(NotAwaited, InvalidResult)


@pytest.mark.parametrize("id", ["", None, True, False, 1.5, [], {}, "\ud800", Size.HALF])
def test_an_id_that_can_be_no_key_is_an_invalid_result(id: object) -> None:
    with pytest.raises(InvalidResult):
        results({"id": id}, "1")


def test_what_json_cannot_carry_is_an_invalid_result() -> None:
    endless: dict[str, Any] = {}
    endless["itself"] = endless
    for value in (object(), "\ud800", endless, 1j, lambda: None):
        with pytest.raises(InvalidResult):
            results({"x": value}, "1")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_has_not_never_leaves_as_text_that_is_no_json(number: float) -> None:
    try:
        [result] = results({"x": number}, "1")
    except InvalidResult:
        return
    assert json.loads(result.value, parse_constant=lambda name: pytest.fail(name)) == {"x": None}


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (Decimal("1.10"), "1.10"),
        (datetime(2026, 1, 2, 3, 4, tzinfo=UTC), "2026-01-02T03:04:00Z"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ({1}, [1]),
        (b"ab", "YWI="),
    ],
)
def test_what_json_has_no_type_for_is_sent_as_text_or_a_list(value: object, sent: object) -> None:
    [result] = results({"x": value}, "1")
    assert json.loads(result.value) == {"x": sent}


class Money: ...


class Markup(str):
    """As libraries for HTML make it."""

    def __str__(self) -> str:
        return "of its own"


class Price(float): ...


class Count(int):
    def __repr__(self) -> str:
        return "of its own"


@pytest.mark.parametrize("value", [Markup("a"), Price(1.5), Count(12), [Markup("a")], {Markup("a"): 1}])
def test_text_and_numbers_of_a_class_of_their_own_are_what_they_are(value: object) -> None:
    """Python's own json takes them, so a worker written by hand had sent them; here each message was a dead letter."""
    [result] = results({"x": value}, "1")
    assert result.value.decode() == json.dumps({"x": value}, separators=(",", ":"))


@pytest.mark.parametrize(("id", "key"), [(Markup("a"), "a"), (Count(12), "12")])
def test_also_a_key_of_such_a_class_is_the_id_as_the_next_worker_reads_it(id: object, key: str) -> None:
    [result] = results({"id": id}, "1")
    assert result.key.decode() == key == read_id(result.value)


@pytest.mark.parametrize("key", [None, True, (1, 2)])
def test_a_name_that_is_neither_text_nor_a_number_is_an_invalid_result(key: object) -> None:
    with pytest.raises(
        InvalidResult, match=rf"^not JSON: a value, or a name in an object, of type {type(key).__name__}, in x$"
    ):
        results({"x": {key: 1}}, "1")


class Stamp(datetime): ...


class Day(date): ...


class Hour(time): ...


class Span(timedelta): ...


class Amount(Decimal): ...


class Blob(bytes): ...


class NotATime(datetime):
    """As pandas.NaT is."""

    year = float("nan")  # type: ignore[assignment]


@pytest.mark.parametrize(
    "made",
    [
        (Stamp, datetime, (2026, 10, 25, 2, 30, 1, 7, UTC)),
        (Stamp, datetime, (2026, 1, 2)),
        (Day, date, (2026, 1, 2)),
        (Hour, time, (1, 2, 3, 4, UTC)),
        (Span, timedelta, (-1, 2, 3)),
        (Amount, Decimal, ("1.10",)),
        (Blob, bytes, (b"ab",)),
    ],
    ids=lambda made: made[0].__name__,
)
def test_a_class_that_is_made_from_a_time_or_a_number_is_sent_as_that(made: tuple[Any, Any, tuple[Any, ...]]) -> None:
    """pandas.Timestamp: each message was a dead letter, "of type Timestamp"."""
    kind, base, given = made
    assert results({"x": kind(*given)}, "1") == results({"x": base(*given)}, "1")


@pytest.mark.parametrize(
    ("result", "place"),
    [
        ({"a": 1, "x": object()}, "of type object, in x"),
        ({"content": {"a": 1, "paid": Stamp}}, "of type type, in content.paid"),
        ({"content": {"rows": {"topsecret": {"x": 1j}}}}, "of type complex, in content.rows"),
        ({"x": [1, Money()]}, f"of type {__name__}.Money, in x"),
        ({"x": NotATime(2026, 1, 1)}, f"of type {__name__}.NotATime, in x"),
        ({"x" * 100: object()}, f"of type object, in {'x' * 60}"),
    ],
)
def test_what_is_not_json_is_named_with_its_place(result: dict[str, Any], place: str) -> None:
    """numpy.bool was told as "of type bool", which JSON has; and nothing said where it stood."""
    with pytest.raises(InvalidResult) as raised:
        results(result, "1")
    assert str(raised.value) == f"not JSON: a value, or a name in an object, {place}"


@given(messages)
def test_a_joined_message_that_is_returned_as_it_is_can_be_read_by_the_next_worker(message: dict[str, Any]) -> None:
    joined = join(fragments(message))
    [result] = results(joined, "1")
    assert read_id(result.value) == "1"
    assert same(json.loads(result.value), joined)


@pytest.mark.parametrize("value", [b'{"id": "\\ud83d"}', b'{"id": "1", "content": {"text": "\\ud83d"}}'])
def test_half_a_surrogate_pair_is_not_told_as_data_that_was_cut(value: bytes) -> None:
    """As JavaScript and Python write an emoji that was cut. Who looks finds a record that is whole."""
    told = str(read_ids([value])[1][0])
    assert told == "it holds half of a surrogate pair (\\ud800 to \\udfff), which is no text"
    assert "truncated" in str(read_ids([value[:-2]])[1][0])
