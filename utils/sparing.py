"""Few log lines of what comes in floods: so many in a span, and how many there were besides. Logs nothing itself."""

from collections.abc import Callable

LINES, SPAN = 100, 10.0  # of one kind, in so many seconds: a disk has an end


class Sparing:
    """At most so many log lines of a kind in a span; the first of the next one tells how many there were besides."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = float("-inf")
        self._lines = self._left_out = 0

    def next(self) -> dict[str, int] | None:
        """What to tell beside the next line; None: leave that out."""
        now = self._clock()
        if not 0 <= now - self._began < SPAN:
            self._began, self._lines = now, 0
        self._lines += 1
        if self._lines > LINES:
            self._left_out += 1
            return None
        left_out, self._left_out = self._left_out, 0
        return {"not_logged": left_out} if left_out else {}


class SparingByKind:
    """As Sparing, of each kind of line by itself."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._kinds: dict[str, Sparing] = {}

    def next(self, kind: str) -> dict[str, int] | None:
        return self._kinds.setdefault(kind, Sparing(self._clock)).next()
