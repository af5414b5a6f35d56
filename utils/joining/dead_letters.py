"""The dead-letter record: what could not be made a result, as it came, with the reason in its headers.

Pure: no Kafka, no clock, no logging.
"""

import base64
from collections.abc import Sequence
from typing import Any

import msgspec

from utils.joining.aggregator import Group
from utils.joining.messages import Fragment, Headers

INVALID_MESSAGE = "invalid_message"
INCOMPLETE = "incomplete"
PROCESS_FAILED = "process_failed"
RESULT_INVALID = "result_invalid"
TOO_LARGE = "too_large"
REASONS = (INVALID_MESSAGE, INCOMPLETE, PROCESS_FAILED, RESULT_INVALID, TOO_LARGE)

_PREFIX = "dlq."
_LONGEST_TEXT = 1000  # characters of an error's message that are kept
_LONGEST_KEY = 1000  # bytes of a key that is kept where the contents are not


class Letter(msgspec.Struct, frozen=True, gc=False):
    """A record for the dead-letter topic. The key is None where the record that failed had none; the value is empty
    then (as a tombstone it would delete letters where somebody has that topic compacted), and None if it is left out.
    """

    key: bytes | None
    value: bytes | None
    headers: Headers
    reason: str


class Part(msgspec.Struct, frozen=True, gc=False):
    """A record that a dead letter was made of: where it stood, its bytes and headers."""

    topic: str
    partition: int
    offset: int
    value: bytes | None
    headers: Headers = []


class Contents(msgspec.Struct, frozen=True, gc=False):
    """A dead letter, read. Without parts where it was too large and keeps its sources only."""

    id: str
    reason: str
    parts: tuple[Part, ...]
    about: dict[str, str]  # the headers of its own, without their prefix: reason, error.class, source, …

    def is_of(self, consumer_name: str) -> bool:
        """Whether this consumer has failed to process it. Without a name another tool wrote it, for whoever asks."""
        return self.about.get("consumer", consumer_name) == consumer_name


class _Fragment(msgspec.Struct, frozen=True, gc=False):
    """A fragment in the JSON of a group: its bytes as text where they are UTF-8, else in Base64."""

    topic: str
    partition: int
    offset: int
    value: str | None = None
    value_base64: str | None = None
    headers_base64: list[tuple[str, str | None]] = []


class _Fragments(msgspec.Struct, frozen=True, gc=False):
    fragments: tuple[_Fragment, ...]


def write(
    group: Group,
    reason: str,
    *,
    consumer: str,
    time: str,
    error: BaseException | None = None,
    missing: Sequence[str] = (),
    attempts: int = 0,
    key: bytes | None = None,
) -> Letter:
    """The dead letter of a group, or of a single record as a group of one.

    One fragment stays as it came, with its headers; several become the JSON of all. `time`: now, in ISO 8601;
    `key`: that of a record without an id; `attempts`: calls of process(), 0 where there was none.
    """
    about = {"reason": reason, "consumer": consumer, "time": time, "source": ",".join(sources(group))}
    if error is not None:
        about |= {"error.class": type(error).__qualname__, "error.message": text_of(error)[:_LONGEST_TEXT]}
    if missing:
        about["missing.topics"] = ",".join(missing)
    if attempts:
        about["attempts"] = str(attempts)
    ours: Headers = [(_PREFIX + name, text.encode(errors="backslashreplace")) for name, text in about.items()]
    first = group.fragments[0]
    if len(group.fragments) == 1:
        theirs = [(name, value) for name, value in first.headers or [] if not name.startswith(_PREFIX)]
        return Letter(group.id.encode() or key, first.value, theirs + ours, reason)
    return Letter(group.id.encode(), _as_json(group), ours, reason)


def without_contents(letter: Letter) -> Letter:
    """The same, small: its sources tell where the records stand as long as their topics keep them.

    Without its key, too, where that alone may be too large: part of it would be another id.
    """
    ours = [(name, value) for name, value in letter.headers if name.startswith(_PREFIX)]
    key = letter.key if len(letter.key or b"") <= _LONGEST_KEY else None
    return Letter(key, None, [*ours, (_PREFIX + "contents", b"left out")], letter.reason)


def read(key: bytes | None, value: bytes | None, headers: Headers | None) -> Contents | None:
    """A dead letter of ours; None for any other record. Never raises."""
    about = {name.removeprefix(_PREFIX): _text(text) for name, text in headers or () if name.startswith(_PREFIX)}
    theirs = [(name, text) for name, text in headers or () if not name.startswith(_PREFIX)]
    try:
        standing = [_parse_source(each) for each in about["source"].split(",")]
        parts: tuple[Part, ...] = ()
        if "contents" in about:
            pass
        elif len(standing) == 1:
            parts = (Part(*standing[0], value, theirs),)
        else:
            parts = tuple(map(_part, msgspec.json.decode(value or b"", type=_Fragments).fragments))
        return Contents(_text(key), about["reason"], parts, about)
    except (KeyError, ValueError, RecursionError, msgspec.MsgspecError):
        return None


def sources(group: Group) -> list[str]:
    """Where the fragments of a group stand: topic:partition:offset, in the order of the topics, not of arrival."""
    return [f"{each.offsets.topic}:{each.offsets.partition}:{each.offset}" for each in _in_order(group)]


def text_of(error: BaseException) -> str:
    """What an error says; user code may raise one that cannot even be shown."""
    try:
        return str(error)
    except BaseException:  # SystemExit, too, would end the loop that asks
        return "(its text cannot be shown)"


def _in_order(group: Group) -> list[Fragment]:
    return sorted(group.fragments, key=lambda each: each.topic)


def _parse_source(text: str) -> tuple[str, int, int]:
    topic, partition, offset = text.rsplit(":", 2)
    return topic, int(partition), int(offset)


def _as_json(group: Group) -> bytes:
    return msgspec.json.encode({"id": group.id, "fragments": [_fragment(each) for each in _in_order(group)]})


def _fragment(fragment: Fragment) -> dict[str, Any]:
    """Bytes as text where they are UTF-8, which gives back the very same bytes; else in Base64."""
    at = {"topic": fragment.offsets.topic, "partition": fragment.offsets.partition, "offset": fragment.offset}
    headers = [[name, None if value is None else _base64(value)] for name, value in fragment.headers or []]
    more = {"headers_base64": headers} if headers else {}
    try:
        return {**at, "value": fragment.value.decode(), **more}
    except UnicodeDecodeError:
        return {**at, "value_base64": _base64(fragment.value), **more}


def _part(each: _Fragment) -> Part:
    if each.value is None and each.value_base64 is None:
        raise ValueError("a fragment without its bytes")
    value = base64.b64decode(each.value_base64 or "") if each.value is None else each.value.encode()
    headers: Headers = [(name, None if text is None else base64.b64decode(text)) for name, text in each.headers_base64]
    return Part(each.topic, each.partition, each.offset, value, headers)


def _base64(value: str | bytes) -> str:
    return base64.b64encode(value.encode() if isinstance(value, str) else value).decode()


def _text(value: str | bytes | None) -> str:
    return value if isinstance(value, str) else (value or b"").decode(errors="replace")
