"""What the times mean that people type, and what is no time."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from utils.commands.moments import moment

NOW = datetime(2026, 3, 1, 0, 30, tzinfo=timezone(timedelta(hours=2)))  # in UTC it is still the day before, 22:30


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-01-31", "2026-01-31T00:00:00+00:00"),
        ("2026-01-31T12:00", "2026-01-31T12:00:00+00:00"),
        ("2026-01-31 12:00:30", "2026-01-31T12:00:30+00:00"),
        ("2026-01-31T12:00Z", "2026-01-31T12:00:00+00:00"),
        ("2026-01-31T12:00:00.5+02:00", "2026-01-31T10:00:00.500000+00:00"),
        ("90s", "2026-02-28T22:28:30+00:00"),
        ("15m", "2026-02-28T22:15:00+00:00"),
        (" 1H ", "2026-02-28T21:30:00+00:00"),
        ("2 d", "2026-02-26T22:30:00+00:00"),
        ("1w", "2026-02-21T22:30:00+00:00"),
        ("Today", "2026-02-28T00:00:00+00:00"),
        ("yesterday", "2026-02-27T00:00:00+00:00"),
        ("0001-01-01", "1970-01-01T00:00:00+00:00"),
        ("9999w", "1970-01-01T00:00:00+00:00"),
    ],
)
def test_what_is_typed_is_a_time_in_utc_unless_it_names_a_zone(text: str, meant: str) -> None:
    assert moment(text, NOW).astimezone(UTC).isoformat() == meant


@pytest.mark.parametrize(
    "text",
    [
        "",
        "garbage",
        "1y",
        "-1h",
        "1.5h",
        "2026-02-30",
        "9" * 30 + "d",
        "12:00",
        "1h ago",
        "0001-01-01T00:00+14:00",
        "9999-12-31T23:59-14:00",
    ],
)
def test_what_is_no_time_is_said_with_the_forms_there_are(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no time\. A time is .*yesterday"):
        moment(text, NOW)
