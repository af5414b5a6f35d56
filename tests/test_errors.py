"""What is told of an error: its class, its place and the way there, and never what it says."""

import inspect
import json
import re
from typing import cast

import pytest

from tests.builders import group
from utils.errors import Untold, named, unquoted, way_to
from utils.joining.messages import InvalidResult, Message, results
from utils.processing.outcome import Process, attempt, took_too_long

SECRET = "4711-0815"


def caught(cause: BaseException | None = None, *, hidden: bool = False) -> ValueError:
    """A ValueError that was raised in the handling of a KeyError, or from the cause that is given."""
    try:
        try:
            raise KeyError(SECRET)
        except KeyError:
            if cause or hidden:
                raise ValueError(f"cannot take {SECRET}") from cause
            raise ValueError(f"cannot take {SECRET}")  # noqa: B904 (that is what is tried)
    except ValueError as error:
        return error


def test_an_error_is_named_by_its_class_and_the_place_where_it_was_raised() -> None:
    line = caught.__code__.co_firstlineno + 8
    assert named(caught()) == f"ValueError at test_errors.py:{line}"


def test_errors_of_the_workers_own_keep_their_text() -> None:
    assert named(took_too_long(5)) == "TimeoutError: process() took longer than PROCESS_TIMEOUT (5 s)"
    with pytest.raises(InvalidResult) as raised:
        results(7, "1")
    assert named(raised.value) == "InvalidResult: process() returns a dict, a list of dicts or None, not int"
    assert way_to(raised.value).endswith(named(raised.value))


def test_the_way_to_an_error_begins_with_its_causes_and_has_none_of_the_texts() -> None:
    told = way_to(caught())
    assert told.index("KeyError at test_errors.py:") < told.index("which led to:") < told.index("ValueError at ")
    assert told.count("Traceback (most recent call last):") == 2
    assert ", in caught\n    raise KeyError(SECRET)" in told
    assert SECRET not in told


def test_a_cause_that_is_named_stands_for_what_was_handled_and_one_that_is_hidden_is_not_told() -> None:
    try:
        raise OSError(SECRET)
    except OSError as error:
        told = way_to(caught(error))
    assert "OSError at" in told
    assert "KeyError at" not in told
    assert way_to(caught(hidden=True)).count("Traceback") == 1


def test_what_was_made_and_never_raised_is_told_by_its_class_alone() -> None:
    """A cause that was made for it, one of several in a group, and what a process of its own has raised."""
    cause = caught(OSError(SECRET))
    assert way_to(cause).startswith("Traceback (most recent call last):\nOSError\n")
    assert SECRET not in way_to(cause)

    def process(_message: Message, _consumer_name: str) -> object:
        raise ExceptionGroup("fields", [ValueError(SECRET), KeyError(SECRET)])

    error = attempt(process, group("1"), "").error
    assert error
    assert named(error) == f"ValueError at test_errors.py:{process.__code__.co_firstlineno + 1}"


def test_errors_that_are_each_others_cause_are_told_once() -> None:
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    assert way_to(first).count("Traceback") == 2


def _raises(error: BaseException) -> Process:
    def process(_message: Message, _consumer_name: str) -> object:
        raise error

    return process


class Nameless(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise SystemExit(1)


class Liar(Exception):
    @property  # type: ignore[misc]
    def __class__(self) -> type:
        raise RuntimeError("no class")


class Closed(Exception):
    def __getattribute__(self, name: str) -> object:
        raise KeyboardInterrupt


class Busy(Exception, metaclass=Nameless):
    pass


KINDS: dict[str, type[Exception]] = {"nameless": Busy, "liar": Liar, "closed": Closed}


@pytest.mark.parametrize("kind", KINDS)  # by name: pytest looks at what it is given, too
def test_an_error_that_cannot_be_looked_at_gives_way_to_one_that_can(kind: str) -> None:
    error = attempt(_raises(KINDS[kind]("text")), group("1"), "").error
    assert isinstance(error, Untold)
    assert "cannot even be looked at" in named(error)


def test_any_other_error_is_left_as_it_is() -> None:
    error = ValueError("text")
    assert attempt(_raises(error), group("1"), "").error is error


def test_what_is_no_error_is_no_traceback() -> None:
    assert unquoted(None) is None


def test_where_a_library_has_raised_the_line_of_the_users_code_is_named_too() -> None:
    try:
        json.loads("{")  # it is this line
    except ValueError as error:
        told = named(error)
    line = inspect.currentframe().f_lineno - 3  # type: ignore[union-attr]
    assert re.fullmatch(rf"JSONDecodeError at decoder\.py:\d+, called at test_errors\.py:{line}", told)


@pytest.mark.parametrize(
    ("directory", "called"),
    [
        ("/home/me/my-packages", ", called at worker.py:1"),
        ("/usr/lib/python3/dist-packages", ""),
        ("/home/me/.local/lib/python3.11/site-packages", ""),
    ],
)
def test_a_copy_may_stand_in_a_directory_whose_name_ends_as_that_of_libraries(directory: str, called: str) -> None:
    """In one of the name my-packages the line of worker.py was told of no error."""
    try:
        exec(compile("load('{')", f"{directory}/worker.py", "exec"), {"load": json.loads})
    except ValueError as error:
        # But for that of this test, which calls it.
        told = named(error.with_traceback(error.__traceback__ and error.__traceback__.tb_next))
    assert re.fullmatch(rf"JSONDecodeError at decoder\.py:\d+{called}", told)


def test_where_process_itself_has_raised_no_other_place_is_named() -> None:
    def process(_message: Message, _name: str) -> object:
        raise KeyError(SECRET)

    outcome = attempt(process, group(), "orders")
    assert re.fullmatch(r"KeyError at test_errors\.py:\d+", named(cast(BaseException, outcome.error)))
