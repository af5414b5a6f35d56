"""What is different between a message and a result, field by field.

Pure: no Kafka, no clock, no logging.
"""

import json
from collections.abc import Iterator
from typing import NamedTuple

_LONGEST = 200  # characters of a value that are shown


class Change(NamedTuple):
    """A field that is only in the message (`-`), only in the result (`+`), or in both with other values (`~`)."""

    sign: str
    path: str  # content.items[0].price
    before: object = None
    after: object = None

    def told(self, *, show: bool) -> str:
        """In a line: the name of the field, and its values only where they may be seen."""
        values = {"-": [self.before], "+": [self.after], "~": [self.before, self.after]}[self.sign]
        kinds = list(dict.fromkeys(map(_kind, values)))
        seen = " -> ".join(map(_shown, values)) if show else " -> ".join(kinds) if len(kinds) > 1 else ""
        return f"{self.sign} {self.path}" + (f": {seen}" if seen else "")


def changes(before: object, after: object, path: str = "") -> Iterator[Change]:
    """Of two values as JSON has them. Lists of one length are compared item by item, others as a whole."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys([*before, *after]):
            below = f"{path}.{name}" if path else str(name)
            if name not in after:
                yield Change("-", below, before=before[name])
            elif name not in before:
                yield Change("+", below, after=after[name])
            else:
                yield from changes(before[name], after[name], below)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, pair in enumerate(zip(before, after, strict=True)):
            yield from changes(*pair, f"{path}[{index}]")
    elif type(before) is not type(after) or before != after:  # in Python 1 equals True, in JSON it does not
        yield Change("~", path, before, after)


def _kind(value: object) -> str:
    """As JSON calls it."""
    kinds = {dict: "object", list: "array", str: "text", bool: "boolean", int: "number", float: "number"}
    return kinds.get(type(value), "null")


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
