"""Values of a class that is made from a type which can be sent, as that type. Of datetime only the types: no clock."""

from contextlib import suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal


def plain(value: object) -> object:
    """What the encoder takes, of a class that is made from it, as pandas.Timestamp is from datetime. The encoder asks
    for what it does not know, and so never for most of what there is.
    """
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return int.__int__(value)
    with suppress(TypeError, ValueError):  # pandas.NaT is a datetime, and has no year
        if isinstance(value, datetime):
            return datetime.combine(_date(value), _time(value))
        if isinstance(value, date):
            return _date(value)
        if isinstance(value, time):
            return _time(value)
        if isinstance(value, timedelta):
            return timedelta(value.days, value.seconds, value.microseconds)
        if isinstance(value, Decimal):
            return Decimal(value)
        if isinstance(value, bytes):
            return bytes(memoryview(value))
    kind = type(value)
    place = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    raise TypeError(f"a value, or a name in an object, of type {place}{kind.__name__}")


def _date(value: date) -> date:
    return date(value.year, value.month, value.day)


def _time(value: datetime | time) -> time:
    return time(value.hour, value.minute, value.second, value.microsecond, value.tzinfo, fold=value.fold)
