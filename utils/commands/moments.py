"""Times as people type them: a date, a time with or without a zone, `1h` ago, `today`. No clock: `now` is given.

None is before 1970, where Kafka's time begins: who types one means all that there is.
"""

import re
from datetime import UTC, datetime, timedelta

FORMS = (
    "2026-01-31, 2026-01-31T12:00 (UTC), 2026-01-31T12:00+02:00, 90s, 15m, 1h, 2d, 1w (so long ago), today or yesterday"
)
_FIRST = datetime.fromtimestamp(0, UTC)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def moment(text: str, now: datetime) -> datetime:
    """The time that `text` means, with a zone; without one it is UTC. ValueError says which forms there are."""
    text = text.strip()
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if text.lower() == "today":
        return midnight
    if text.lower() == "yesterday":
        return midnight - timedelta(days=1)
    try:
        if ago := re.fullmatch(r"(\d+)\s*([smhdw])", text.lower()):
            given = now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        else:
            given = datetime.fromisoformat(text)
        given = given.astimezone(UTC) if given.tzinfo else given.replace(tzinfo=UTC)
        return max(given, _FIRST)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is no time. A time is {FORMS}") from None
