"""Bytes to fragments, fragments to one message, a result to bytes. Messages are JSON objects with an `id`.

Pure: no Kafka, no clock, no logging. A fragment stays bytes until its group is complete: a waiting message costs half
the memory that way, and one that is never completed is never decoded.
"""

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from typing import Annotated, Any, cast

import msgspec

from utils.errors import Quotable
from utils.joining.offsets import PartitionOffsets
from utils.plain import plain

Message = dict[str, Any]
Headers = list[tuple[str, str | bytes | None]]  # as the client has it; what it has read is bytes


class InvalidMessage(Quotable):
    """An input that cannot be joined: it will not become valid by trying again."""


class InvalidResult(Quotable):
    """`process()` returned something that cannot be forwarded."""


class NotAwaited(Quotable):
    """`process()` is `async def` and was called as if it were not: it has not run, and no message is to blame."""


class Fragment(msgspec.Struct, gc=False):
    """One topic's message of an id: the index of its topic in `topics_input`, where it stands, its bytes."""

    topic: int
    offsets: PartitionOffsets
    offset: int
    value: bytes
    headers: Headers | None = None  # None where there are none: they cost a waiting fragment nothing
    arrival: float = 0.0  # when it was read the first time, perhaps by an earlier process: seconds of the loop's clock
    drops: int = -1  # how many records had been dropped for want of memory when it was read


class Result(msgspec.Struct, frozen=True, gc=False):
    """One record for every output topic."""

    key: bytes
    value: bytes


RESULT_OVERHEAD = 150
"""Bytes that a result costs beside its value: objects, key, and about the same once more where it waits in the client
(measured, CPython 3.11)."""


class _Object(msgspec.Struct, frozen=True, gc=False):
    """Any JSON object: checked, not built."""


LONGEST_ID = 1_000
"""Characters. What is kept by ids, in memory and in logs, does not count their text: it may take four bytes each."""


class _Head(msgspec.Struct, gc=False):
    """What must be known of a fragment before its group is complete."""

    id: Annotated[str, msgspec.Meta(max_length=LONGEST_ID)] | int
    content: _Object = _Object()


class _PlainHead(msgspec.Struct, gc=False):
    """As nearly all are: what C code alone can judge."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_ID)]
    content: _Object = _Object()


_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError)
_decode_head = msgspec.json.Decoder(_Head).decode
_decode_plain_head = msgspec.json.Decoder(_PlainHead).decode
_decode: Callable[[bytes], Message] = msgspec.json.Decoder().decode  # an object, for that has been checked
_encode = msgspec.json.Encoder(enc_hook=plain).encode


def read_each(
    what: str, records: Sequence[object], instead: object = None
) -> tuple[list[Any], dict[int, InvalidMessage]]:
    """What the method `what` gives of each record; and by index why it gives nothing, in place of which is `instead`.

    All records are of one type. None is asked twice, and by `map`, which looks for an error after each: the client puts
    a NULL where the name of a header is not UTF-8. Asked again, or by a plain call, it hands that out, and the process
    is gone (measured, 2.16.1).
    """
    found: list[Any] = []
    failed: dict[int, InvalidMessage] = {}
    rest = iter(records)
    while len(found) < len(records):
        try:
            found.extend(map(getattr(type(records[0]), what), rest))
        except Exception as error:
            cause = error.__cause__ or error
            failed[len(found)] = InvalidMessage(f"the client cannot read its {what}, not kept here: {cause}")
            found.append(instead)
    return found, failed


def read_ids(
    values: Sequence[bytes | None], unreadable: Mapping[int, InvalidMessage] | None = None
) -> tuple[list[str], dict[int, InvalidMessage]]:
    """The id of each message, as text (`1` is `"1"`); and by index why one has none, in place of which there is "".

    Not JSON, no `id`, `content` no object; or `unreadable`, whatever its value is.
    """
    try:
        ids: list[str | InvalidMessage] = [head.id for head in map(_decode_plain_head, cast("Sequence[bytes]", values))]
        if not unreadable:
            return cast("list[str]", ids), {}
    except _UNREADABLE:
        ids = [_read_id(value) for value in values]
    for index, why in (unreadable or {}).items():
        ids[index] = why
    invalid = {index: id for index, id in enumerate(ids) if isinstance(id, InvalidMessage)}
    return ["" if isinstance(id, InvalidMessage) else id for id in ids], invalid


def _read_id(value: bytes | None) -> str | InvalidMessage:
    if value is None:
        return InvalidMessage("no value (a tombstone)")
    try:
        head = _decode_head(value)
    except _UNREADABLE as error:
        return InvalidMessage(_why(error, value))
    id = str(head.id)
    if len(id) > LONGEST_ID:
        return InvalidMessage(f"`id` is a number of more than {LONGEST_ID} characters")
    return id or InvalidMessage("`id` is empty")


def join(fragments: Sequence[Fragment]) -> Message:
    """One message of the fragments of a group, in the order of their topics, which does not depend on their arrival.

    Later topics of `topics_input` win over earlier ones, field by field, and key by key in `content`, which is always
    a dict. Raises InvalidMessage where a fragment turns out not to be JSON only now.
    """
    try:
        others = iter(fragments)
        joined = _decode(next(others).value)
        content = joined.setdefault("content", {})
        for fragment in others:
            message = _decode(fragment.value)
            if more := message.get("content"):
                content |= more
            joined |= message
    except _UNREADABLE as error:
        raise InvalidMessage(str(error)) from None
    joined["content"] = content
    return joined


def not_json(fragments: Sequence[Fragment]) -> tuple[Fragment, ...]:
    """Those for which `join` has raised InvalidMessage."""
    return tuple([each for each in fragments if not _is_json(each.value)])


def _why(error: Exception, value: bytes) -> str:
    """The decoder says of half a surrogate pair, as of an emoji that was cut, that the data was."""
    if "truncated" in str(error):
        with suppress(ValueError, RecursionError):
            json.loads(value)
            return "it holds half of a surrogate pair (\\ud800 to \\udfff), which is no text"
    return str(error)


def _is_json(value: bytes) -> bool:
    try:
        _decode(value)
    except _UNREADABLE:
        return False
    return True


def results(returned: object, group_id: str) -> list[Result]:
    """What `process()` returned, as records: a dict is one, a list of dicts as many, None is none.

    The key is the result's own `id`, which the next worker joins by; the group's where it has none. Raises
    InvalidResult for anything else, and for what JSON cannot carry; NotAwaited for a coroutine.
    """
    if isinstance(returned, dict):
        return [_result(returned, group_id)]
    if isinstance(returned, list):
        if others := {type(item).__name__ for item in returned if not isinstance(item, dict)}:
            raise InvalidResult(f"process() returned a list with {', '.join(sorted(others))} in it, not only dicts")
        return [_result(item, group_id) for item in returned]
    if returned is None:
        return []
    if inspect.iscoroutine(returned):
        returned.close()
        raise NotAwaited("process() returned a coroutine, which nobody awaits: does a decorator hide its `async def`?")
    raise InvalidResult(f"process() returns a dict, a list of dicts or None, not {type(returned).__name__}")


def _result(item: Message, group_id: str) -> Result:
    key = item.get("id", group_id)
    if type(key) is not str or not key:
        key = _as_key(key)
    try:
        return Result(key.encode(), _encode(item))
    except (TypeError, ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise InvalidResult(f"not JSON: {error}{_where(item)}") from None


def _where(item: Message) -> str:
    """The field that is not JSON, and in it the one that is not: what is deeper may be named by values."""
    names: list[str] = []
    within: object = item
    while isinstance(within, dict) and len(names) < 2:
        found = next(((name, value) for name, value in within.items() if not _can_be_sent(value)), None)
        if found is None:  # a name is what is wrong
            break
        names.append(f"{found[0]!s:.60}")
        within = found[1]
    return f", in {'.'.join(names)}" if names else ""


def _can_be_sent(value: object) -> bool:
    try:
        _encode(value)
    except (TypeError, ValueError, msgspec.MsgspecError, RecursionError):
        return False
    return True


def _as_key(id: object) -> str:
    if isinstance(id, Enum):  # it is text or a number, too, and JSON has that
        id = id.value
    if isinstance(id, bool) or not isinstance(id, int | str) or id == "":
        raise InvalidResult("the `id` of a result is text (not empty) or a whole number")
    return str(plain(id))
