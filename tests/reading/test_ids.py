"""What ManyIds knows, before and beyond the number of those that it knows exactly."""

import pytest

from utils.reading.ids import ManyIds


def test_what_was_added_is_in_it_and_nothing_else_while_they_are_few() -> None:
    ids = ManyIds()
    assert not ids
    assert "a" not in ids
    ids.add("a")
    assert ids
    assert [each in ids for each in "ab"] == [True, False]


def test_of_very_many_each_is_in_it_and_hardly_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("utils.reading.ids.KNOWN", 10)
    ids = ManyIds()
    for number in range(20_000):
        ids.add(f"added {number}")
    assert all(f"added {number}" in ids for number in range(20_000))
    assert sum(f"other {number}" in ids for number in range(20_000)) < 200  # 12 are to be expected
