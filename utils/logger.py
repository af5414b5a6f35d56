"""The logger of the worker: JSON lines for machines, readable text on a terminal. Importing it sets nothing up."""

import json
import logging
import sys
from collections.abc import Iterator
from copy import copy
from functools import partial
from itertools import islice
from typing import Any, TextIO

from pythonjsonlogger.core import RESERVED_ATTRS, merge_record_extra
from pythonjsonlogger.defaults import unknown_default
from pythonjsonlogger.json import JsonFormatter

from utils.errors import Unquoted, is_of_the_frame


class _Heard(logging.Logger):
    """One that stays. dictConfig() and fileConfig() disable each logger that they do not name, unless they are told not
    to; and a library may call them at any time, first of all in a call of process().
    """

    @property
    def disabled(self) -> bool:
        return False

    @disabled.setter
    def disabled(self, _value: bool) -> None:
        pass

    def findCaller(  # noqa: N802 (the name of logging)
        self, stack_info: bool = False, stacklevel: int = 1
    ) -> tuple[str, int, str, str | None]:
        """The place of a line tells whose it is. A `stacklevel` of worker.py that leads into the frame, which calls it,
        does not count; the frame itself gives none.
        """
        caller = super().findCaller(stack_info, stacklevel + 1)  # this method, too, is on the stack
        return super().findCaller(stack_info, 2) if stacklevel > 1 and is_of_the_frame(caller[0]) else caller


logger = logging.getLogger("consumer")
client_logger = logger.getChild("kafka")
"""For the lines of Kafka's client."""
logger.__class__ = client_logger.__class__ = _Heard

MOST_LISTED = 200  # of a list, such as partitions, or of a dict: Docker breaks lines of more than 16 kB in pieces
LONGEST = 1024  # characters of a text in `extra`: an id may have a million, and a line may name ten
DEEPEST = 20  # levels of lists and dicts in one another
MOST_NESTED = 1_000  # lists and dicts in one field: where objects point to one another, there may be millions of ways


def configure(level: str, *, stream: TextIO | None = None, consumer_name: str = "") -> None:
    """Send all log lines to `stream` (default: stderr), `logger` from `level` on, libraries from WARNING on.

    Called again, it replaces what the call before set up. `consumer_name` goes into every JSON line.
    """
    root = logging.getLogger()
    for former in _ours(root):
        root.removeHandler(former)
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.name = logger.name
    handler.setFormatter(_Text() if handler.stream.isatty() else _json(consumer_name))
    root.addHandler(handler)
    logger.setLevel(level)
    logging.captureWarnings(True)  # by `warnings`: of Kafka's client, of what process() calls. Else they are no JSON


def configure_again(level: str, consumer_name: str) -> None:
    """As the settings want it. Where worker.py has put its own handlers in the place of ours, all lines go there."""
    stay_heard()
    if _ours(logging.getLogger()):
        configure(level, consumer_name=consumer_name)
    logger.setLevel(level)


def stay_heard() -> None:
    """After code of worker.py has run, which may have taken all handlers away."""
    if not logging.getLogger().handlers:
        configure(logging.getLevelName(logger.level))


def _ours(root: logging.Logger) -> list[logging.Handler]:
    return [each for each in root.handlers if each.name == logger.name]


def _json(consumer_name: str) -> logging.Formatter:
    """One JSON object a line: timestamp (ISO 8601, UTC), level, message, logger, consumer, and the extra fields."""
    return _Json(
        ["timestamp", "levelname", "message", "name"],
        timestamp=True,
        rename_fields={"levelname": "level", "name": "logger"},
        static_fields={"consumer": consumer_name} if consumer_name else {},
        json_serializer=partial(json.dumps, allow_nan=False),
    )


class _Discreet(logging.Formatter):
    """Tracebacks as Python prints them, and those of process() as if Python printed them, without the texts."""

    def formatException(self, ei: Any) -> str:  # noqa: N802 (the name of logging)
        return str(ei[1]) if isinstance(ei[1], Unquoted) else super().formatException(ei)


_OURS = ("timestamp", "level", "logger", "consumer")  # fields of each line


class _Json(_Discreet, JsonFormatter):
    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        """What worker.py gives as `extra` by one of our names gets a `_` behind it: neither hides the other."""
        record = copy(record)
        for name in _OURS:
            if name in vars(record):
                vars(record)[f"{name}_"] = vars(record).pop(name)
        super().add_fields(log_data, record, message_dict)

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        whole = ("message", "exc_info", "stack_info")
        return {key: value if key in whole else cut(value) for key, value in log_data.items()}

    def jsonify_log_record(self, log_data: dict[str, Any]) -> str:
        """As text what JSON does not know, such as NaN, or a date that is a key."""
        try:
            return super().jsonify_log_record(log_data)
        except Exception:  # of what worker.py gives as `extra`, or a dict as the message, whatever is in it
            as_text = {unknown_default(name): self._as_json(value) for name, value in log_data.items()}
            return super().jsonify_log_record(as_text)

    def _as_json(self, value: Any) -> Any:
        try:
            super().jsonify_log_record({"": value})
        except Exception:
            return cut(unknown_default(value))
        return value


class _Text(_Discreet):
    """`12:30:59 WARNING message  key=value`, a traceback below it."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s%(extras)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (the name of logging)
        record.message = shown(record.message)  # it may name what stands in the database
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        record.extras = "".join(f"  {key}={_quoted(value)}" for key, value in facts_of(record).items())
        record.exc_text = None  # what another handler has made of the error
        return super().format(record)


def facts_of(record: logging.LogRecord) -> dict[str, Any]:
    """What was given as `extra`, cut."""
    facts = merge_record_extra(record, {}, {*RESERVED_ATTRS, "extras"})
    return {name: cut(value) for name, value in facts.items()}


def cut(value: Any) -> Any:
    """The value with none but the beginning of a long text, and of one in a list or a dict; it tells its length. What
    holds itself, as an item points to its order, is shown once on each way.
    """
    return _cut(value, (), iter(range(MOST_NESTED)))


def _cut(value: Any, around: tuple[Any, ...], room: Iterator[int]) -> Any:
    if isinstance(value, str):
        return value if len(value) <= LONGEST else f"{value[:LONGEST]}… {len(value):,} characters"
    if not isinstance(value, dict | list | tuple):
        return value
    if len(around) == DEEPEST or any(value is each for each in around) or next(room, None) is None:
        return "…"
    around = (*around, value)
    rest = [f"… {len(value):,} in all"] if len(value) > MOST_LISTED else []
    if isinstance(value, dict):
        first = islice(value.items(), MOST_LISTED)
        return {cut(key): _cut(each, around, room) for key, each in first} | dict.fromkeys(rest, "…")
    listed = [_cut(each, around, room) for each in value[:MOST_LISTED]] + rest
    return listed if isinstance(value, list) else tuple(listed)


def shown(text: str) -> str:
    """One line that no content can break, and that drives no terminal."""
    return text if text.isprintable() else repr(text)[1:-1]


def _quoted(value: object) -> str:
    """Plain where it is one printable word, else quoted: no id can break the line or drive the terminal."""
    text = unknown_default(value)
    return text if text and text.isprintable() and not any(c in text for c in ' "=') else repr(text)
