"""What is in a batch, and of what the client cannot read."""

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from utils.reading.batches import Batch, Record


@dataclass
class Odd:
    """A record of which the client cannot read everything, and which must not be asked a second time."""

    broken: str = ""
    asked: set[str] = field(default_factory=set)

    def _read(self, what: str, value: Any) -> Any:
        assert what not in self.asked, "asked twice: the client would end the process"
        self.asked.add(what)
        if self.broken == what:
            raise SystemError("returned a result with an exception set") from UnicodeDecodeError(
                "utf-8", b"\xff", 0, 1, "invalid start byte"
            )
        return value

    def key(self) -> bytes:
        return cast(bytes, self._read("key", b"k"))

    def value(self) -> bytes:
        return cast(bytes, self._read("value", b"v"))

    def headers(self) -> list[tuple[str, bytes]]:
        return cast("list[tuple[str, bytes]]", self._read("headers", [("h", b"1")]))

    def timestamp(self) -> tuple[int, int]:
        return cast("tuple[int, int]", self._read("timestamp", (1, 7)))


@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize("broken", ["value", "headers", "timestamp"])
def test_what_the_client_cannot_read_of_a_record_concerns_that_record_alone(broken: str, is_new: bool) -> None:
    records = [Odd(), Odd(broken), Odd(), Odd(broken)]
    contents = Batch(cast("list[Record]", records), [], [], is_new).contents()

    asked = not (is_new and broken == "timestamp")
    assert list(contents.unreadable) == ([1, 3] if asked else [])
    for text in map(str, contents.unreadable.values()):
        assert broken in text
        assert "invalid start byte" in text, "why"
    assert contents.values == [None if broken == "value" and at % 2 else b"v" for at in range(4)]
    assert contents.headers == [None if broken == "headers" and at % 2 else [("h", b"1")] for at in range(4)]
    times = [(0, -1) if broken == "timestamp" and at % 2 else (1, 7) for at in range(4)]
    assert contents.timestamps == ([] if is_new else times)


def test_an_empty_batch_holds_nothing() -> None:
    assert Batch([], [], [], False).contents() == ([], [], [], {})
