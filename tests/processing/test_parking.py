"""What waits for its own id: counted, in the order of the id, and shed so that no id drives out another."""

import pytest

from utils.joining.aggregator import Group
from utils.processing.parking import MOST_NOTED, Parking


def group(id: str, size: int = 10) -> Group:
    return Group(id, (), size)


def parking(**behind: int) -> Parking:
    """So many groups of ten bytes behind each of these ids."""
    parked = Parking()
    for id, number in behind.items():
        parked.rest(group(id, 0), 1.0)
        for _ in range(number):
            parked.put_behind(group(id))
    return parked


def ids(groups: list[Group]) -> dict[str, int]:
    return {id: [each.id for each in groups].count(id) for id in sorted({each.id for each in groups})}


def test_all_that_is_parked_is_counted_until_it_is_called() -> None:
    parked = parking(a=2, b=1)
    assert (parked.groups, parked.bytes) == (5, 30)
    assert parked.rested().id == "a"
    assert parked.next_of("a") is not None
    assert (parked.groups, parked.bytes) == (3, 20)
    assert len(parked.release("a")) == 1
    assert parked.next_of("a") is None
    parked.clear()
    assert (parked.groups, parked.bytes, parked.rest_some) == (0, 0, False)


def test_the_ids_that_are_called_stay_busy_when_all_others_are_forgotten() -> None:
    parked = parking(a=2)
    parked.rested()
    parked.rest(group("b"), 2.0)
    parked.clear(but_called=True)
    assert (list(parked.busy), parked.groups) == (["a"], 0)


def test_what_is_shed_is_the_newest_of_the_id_behind_which_most_wait() -> None:
    parked = parking(a=2, b=10)
    assert ids(parked.shed(80)) == {"b": 4}
    assert (parked.groups, parked.bytes) == (10, 80)
    parked = Parking()
    parked.rest(group("a"), 1.0)
    waiting = [group("a") for _ in range(4)]
    for each in waiting:
        parked.put_behind(each)
    assert all(one is other for one, other in zip(parked.shed(30), reversed(waiting[2:]), strict=True))


def test_those_that_rest_are_shed_last_the_one_that_rests_longest_first_and_when_they_are_due_is_kept() -> None:
    parked = Parking()
    for due, id in enumerate("abc"):
        parked.rest(group(id), float(due))
    parked.put_behind(group("a"))
    assert ids(parked.shed(20)) == {"a": 1, "c": 1}
    assert parked.due == {"c": 2.0}
    assert ids(parked.shed(0)) == {"b": 1}  # one stays, however large it is
    assert [parked.rested().id, parked.groups, list(parked.busy)] == ["a", 0, ["a"]]


def test_of_too_many_ids_that_are_not_in_memory_the_first_are_forgotten() -> None:
    parked = Parking()
    for number in range(MOST_NOTED + 1):
        parked.note(str(number), 1.0)
    assert len(parked.due) == MOST_NOTED
    assert "0" not in parked.due


def test_none_of_those_that_are_forgotten_is_due_before_the_first_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """They were due at once, each time that they were read again: in an hour of maintenance, every minute."""
    monkeypatch.setattr("utils.processing.parking.MOST_NOTED", 1)
    parked = Parking()
    for id, due in (("a", 70.0), ("b", 60.0), ("c", 80.0)):
        parked.note(id, due)
    assert parked.forgotten == ["a", "b"]
    assert [parked.take_due(id, 10.0) for id in "abcx"] == [60.0, 60.0, 80.0, 0.0]
    assert not parked.due
    assert parked.notes_some, "of the others"
    assert [parked.take_due(id, 60.0) for id in "abc"] == [0.0, 0.0, 0.0]
    assert not parked.notes_some


def test_what_was_due_already_when_it_was_forgotten_brings_no_other_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("utils.processing.parking.MOST_NOTED", 1)
    parked = Parking()
    parked.take_due("x", 10.0)
    for id, due in (("a", 70.0), ("b", 5.0), ("c", 80.0)):
        parked.note(id, due)
    assert [parked.take_due(id, 11.0) for id in "ab"] == [70.0, 0.0]


def test_however_many_are_forgotten_no_other_id_is_taken_for_one_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was, for 1.5 % of all new ids with 600,000 of them: each rested for up to an hour without one attempt."""
    monkeypatch.setattr("utils.processing.parking.MOST_NOTED", 1)
    monkeypatch.setattr("utils.processing.parking.MOST_EARLY", 2)
    parked = Parking()
    for number in range(100):
        parked.note(f"old {number}", 70.0 - number / 10)
    assert [parked.take_due(f"new {number}", 10.0) for number in range(50)] == [0.0] * 50
    assert [parked.take_due(f"old {number}", 10.0) for number in (0, 1, 2, 99)] == [69.9, 69.9, 0.0, 60.1]
    assert len(parked.forgotten) == 99, "so the attempts of those that are tried early count for nothing"


def test_what_is_known_in_one_place_is_known_in_the_other_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("utils.processing.parking.MOST_NOTED", 1)
    here, there = Parking(), Parking()
    for parked, ids in ((here, "ab"), (there, "cde")):
        for id in ids:
            parked.note(id, 70.0 + ord(id))
    here.note_all(there)
    assert here.forgotten == ["a", "c", "d", "b"]
    assert [here.take_due(id, 10.0) for id in "abcdex"] == [70.0 + ord(each) for each in "aaaae"] + [0.0]


def test_where_all_are_somebody_elses_nothing_is_known_of_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("utils.processing.parking.MOST_NOTED", 1)
    parked = Parking()
    for id in "ab":
        parked.note(id, 70.0)
    parked.clear()
    assert not parked.notes_some
    assert parked.take_due("a", 1.0) == 0.0


def test_within_its_bound_nothing_is_shed() -> None:
    assert parking(a=5).shed(50) == []
