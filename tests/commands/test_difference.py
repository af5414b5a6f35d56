"""What is different between a message and a result."""

import pytest

from utils.commands.difference import changes

BEFORE = {"id": 1, "content": {"item": "tea", "total": 9.8, "lines": [{"n": 1}, {"n": 2}]}, "gone": None}


def told(after: object, *, show: bool = False) -> list[str]:
    return [each.told(show=show) for each in changes(BEFORE, after)]


def test_what_came_as_it_was_has_no_difference() -> None:
    assert told(BEFORE) == []


def test_fields_that_came_went_and_changed_are_named_by_their_paths() -> None:
    content = {"item": "tea", "total": 12, "lines": [{"n": 1}, {"n": 3}], "tax": 0.5}
    assert told({"id": 1, "content": content}) == [
        "~ content.total",
        "~ content.lines[1].n",
        "+ content.tax",
        "- gone",
    ]


def test_values_are_told_only_where_they_may_be_seen() -> None:
    after = {**BEFORE, "gone": "secret", "id": "1"}
    assert told(after) == ["~ id: number -> text", "~ gone: null -> text"]
    assert told(after, show=True) == ['~ id: 1 -> "1"', '~ gone: null -> "secret"']


@pytest.mark.parametrize(("before", "after"), [(1, True), (0, False), (1, 1.0), ("", None), ([], {}), ([1], [1, 2])])
def test_what_python_takes_for_equal_and_json_does_not_is_a_difference(before: object, after: object) -> None:
    assert len(list(changes({"a": before}, {"a": after}))) == 1


def test_a_long_value_is_cut() -> None:
    [change] = changes({"a": "x" * 1000}, {})
    assert len(change.told(show=True)) < 300
