"""What process() may raise to say how its message goes on: `from utils.retry import Reject, Retry`."""

LONGEST_RETRY = 24 * 3600.0  # seconds: what waits keeps the committed offset of its partition where it is


class Retry(Exception):
    """Try this message again, in `after` seconds, a day at most; without it, when any other failed one would be.

    It counts as an attempt, as any other exception does.
    """

    def __init__(self, why: str = "", after: object = None) -> None:
        """`after`: seconds, or a timedelta; also as text, as an HTTP service says it in Retry-After: a date there is as
        if there were none.

        Raises TypeError for what can be no time, and for a time in the place of `why`.
        """
        if _is_time(why) or not (after is None or isinstance(after, str) or _is_time(after)):
            raise TypeError(f"not Retry(why, after=seconds): Retry({type(why).__name__}, {type(after).__name__})")
        super().__init__(why)
        self.after = _seconds(after)


def asked_for(error: Retry) -> float | None:
    """The seconds that it asks for, also where a class of its user's own has set `after` by itself, or not at all."""
    try:
        return _seconds(error.after)
    except BaseException:  # a property of the user's own; this is called by the loop, which must not end for it
        return None


def _is_time(value: object) -> bool:
    return hasattr(value, "__float__") or hasattr(value, "total_seconds")


def _seconds(after: object) -> float | None:
    if hasattr(after, "total_seconds"):
        after = after.total_seconds()
    try:
        seconds = float(after) if isinstance(after, str) or hasattr(after, "__float__") else float("nan")
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), LONGEST_RETRY) if seconds < float("inf") else None


class Reject(Exception):
    """This message will never succeed: no further attempt is made, and it becomes a dead letter at once."""
