"""What process() may raise to say how its message goes on: `from utils.retry import Reject, Retry`."""

LONGEST_RETRY = 24 * 3600.0  # seconds: what waits keeps the committed offset of its partition where it is


class Retry(Exception):
    """Try this message again, in `after` seconds, a day at most; without it, when any other failed one would be.

    It counts as an attempt, as any other exception does.
    """

    def __init__(self, why: str = "", after: float | str | None = None) -> None:
        """`after`: also as text, such as an HTTP service says it in Retry-After; a date is as if there were none."""
        super().__init__(why)
        self.after = _seconds(after)


def asked_for(error: Retry) -> float | None:
    """The seconds that it asks for, also where a class of its user's own has set `after` by itself, or not at all."""
    try:
        return _seconds(error.after)
    except BaseException:  # a property of the user's own; this is called by the loop, which must not end for it
        return None


def _seconds(after: object) -> float | None:
    try:
        seconds = float(after) if isinstance(after, int | float | str) else float("nan")
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), LONGEST_RETRY) if seconds < float("inf") else None


class Reject(Exception):
    """This message will never succeed: no further attempt is made, and it becomes a dead letter at once."""
