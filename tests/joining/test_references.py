"""References in place of maps, and keys: none is written over or deleted while a commit that names it may count."""

import random
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from utils.joining.offsets import MAX_METADATA, CommitPoint, OffsetMap
from utils.joining.references import Lot, MapSlots, Reference, StoredRecord, digest
from utils.joining.states import States

A0, B0 = ("a", 0), ("b", 0)
SHORT = 80


def map_text(offset: int = 5, waiting: int = 300, seed: int = 0) -> str:
    states = bytes(random.Random(seed).choices((0, 1), k=waiting))
    return OffsetMap("id-of-a", offset, 1, 2, States.of(states, offset), "tags").encode()


def point(at: tuple[str, int] = A0, seed: int = 0) -> CommitPoint:
    """Of a map that does not fit."""
    return CommitPoint(*at, 5, map_text(seed=seed))


def plain(at: tuple[str, int] = A0) -> CommitPoint:
    return CommitPoint(*at, 5, "short")


def map_slots(writer: str = "w1", **found: Reference) -> MapSlots:
    begun = MapSlots()
    begun.begin(writer, {(name, 0): reference for name, reference in found.items()})
    return begun


def put(on: MapSlots, *points: CommitPoint) -> tuple[list[Reference | None], dict[str, bytes | None]]:
    """What the commit refers to, and the records written before it."""
    fitting, records = on.put(points, SHORT, since=7)
    return [Reference.parse(each.metadata) for each in fitting], written(records)


def written(records: Sequence[StoredRecord]) -> dict[str, bytes | None]:
    assert len({record.key for record in records}) == len(records)
    return {record.key.decode(): record.value for record in records}


def reference(writer: str = "w0", before: Lot | None = None) -> Reference:
    return Reference("id-of-a", "tags", 5, Lot(writer, 2, 1), 1, before, 3, ("d0",))


# ---------------------------------------------------------------- the text


def test_a_reference_comes_back_as_it_was() -> None:
    for each in (reference(), reference(before=Lot("w9", 3, 2))):
        assert Reference.parse(each.encode()) == each
        assert Reference.parse(each.encode() + "\0") == each


def test_a_map_is_no_reference_and_a_reference_is_no_map() -> None:
    assert Reference.parse(map_text()) is None
    assert OffsetMap.parse(reference().encode()) is None


@given(st.integers(0, 200), st.characters())
def test_a_changed_character_is_noticed(place: int, character: str) -> None:
    text = reference(before=Lot("w9", 3, 2)).encode()
    place %= len(text)
    changed = text[:place] + character + text[place + 1 :]
    assert changed == text or Reference.parse(changed) is None


@given(st.text())
def test_any_text_is_no_reference_and_never_raises(text: str) -> None:
    assert Reference.parse(text) is None


def test_a_reference_to_twenty_records_fits_into_a_commit() -> None:
    on = MapSlots(max_record=len(map_text()) // 19)
    on.begin("w" * 12, {A0: reference("w" * 12)})
    [fitting], records = on.put([point()], SHORT, since=1 << 60)
    assert len(records) >= 19
    assert len(fitting.metadata) < MAX_METADATA


# ---------------------------------------------------------------- storing


def test_a_map_that_fits_stays_in_the_commit() -> None:
    fitting, records = map_slots().put([plain()], SHORT, 0)
    assert (fitting, records) == ([plain()], [])


def test_a_map_that_does_not_fit_is_written_whole_and_named_with_its_digest() -> None:
    fitting, records = map_slots().put([plain(B0), point()], SHORT, since=7)
    assert fitting[0] == plain(B0)
    found = Reference.parse(fitting[1].metadata)
    assert found
    assert (found.topic_id, found.joined_with, found.base, found.since) == ("id-of-a", "tags", 5, 7)
    [(key, tag)] = found.records(*A0)
    assert written(records) == {key.decode(): map_text().encode()}
    assert tag == digest(map_text().encode())


def test_a_map_longer_than_a_record_takes_several() -> None:
    on = MapSlots(max_record=50)
    on.begin("w1", {})
    [fitting], records = on.put([point()], SHORT, 0)
    found = Reference.parse(fitting.metadata)
    assert found
    assert len(records) == -(-len(map_text()) // 50) == len(found.digests)
    assert b"".join(record.value or b"" for record in records) == map_text().encode()
    assert [record.key for record in records] == [key for key, _ in found.records(*A0)]


# ---------------------------------------------------------------- keys


def test_the_key_in_use_is_not_written_and_two_alternate() -> None:
    on = map_slots()
    keys = []
    for seed in range(6):
        _, records = put(on, point(seed=seed))
        keys += list(records)
        on.ended(True)
    assert keys == ["a:0:w1:0:0", "a:0:w1:1:0"] * 3


def test_the_key_of_a_commit_whose_end_is_not_known_is_not_written_before_a_later_one_was_confirmed() -> None:
    on = map_slots()
    slots = []
    unconfirmed = []
    for confirmed in (True, False, False, True, True):
        [found], _ = put(on, point())
        assert found
        slots.append(found.slot)
        unconfirmed.append(on.unconfirmed)
        on.ended(confirmed)
    assert slots == [0, 1, 2, 3, 0]
    assert unconfirmed == [1, 1, 2, 3, 1]


def test_an_answer_that_comes_after_the_end_was_noted_changes_nothing() -> None:
    on = map_slots()
    put(on, point())
    on.ended(True)
    put(on, point())
    on.ended(False)
    on.ended(True)  # of an older commit
    assert put(on, point())[1].keys() == {"a:0:w1:2:0"}


def test_when_maps_fit_again_their_records_are_deleted_after_that_was_confirmed() -> None:
    on = map_slots()
    put(on, point())
    on.ended(True)
    put(on, point())
    on.ended(True)
    assert put(on, plain())[1] == {}
    on.ended(False)
    assert put(on, plain())[1] == {}
    on.ended(True)
    assert put(on, plain())[1] == {"a:0:w1:0:0": None, "a:0:w1:1:0": None}
    on.ended(True)
    assert put(on, plain())[1] == {}


def test_of_two_partitions_only_the_records_of_that_whose_map_fits_are_deleted() -> None:
    on = map_slots()
    put(on, point(), point(B0))
    on.ended(True)
    put(on, point(), plain(B0))
    on.ended(True)
    assert put(on, point(), plain(B0))[1].keys() == {"b:0:w1:0:0", "a:0:w1:0:0"}


def test_a_predecessors_records_are_deleted_after_a_commit_took_their_place() -> None:
    on = map_slots(a=reference("w0"))
    [found], records = put(on, point())
    assert records.keys() == {"a:0:w1:0:0"}
    assert found
    assert found.before == Lot("w0", 2, 1)  # should we not come to it, the next owner deletes them
    on.ended(True)
    [found], records = put(on, point())
    assert records == {"a:0:w0:0:0": None, "a:0:w0:1:0": None, "a:0:w1:1:0": map_text().encode()}
    assert found
    assert found.before is None


def test_what_the_commits_call_out_of_use_is_deleted_at_once() -> None:
    on = map_slots("w2", a=reference("w1", before=Lot("w0", 1, 2)))
    assert put(on, plain())[1] == {"a:0:w0:0:0": None, "a:0:w0:0:1": None}


def test_a_new_assignment_writes_under_keys_of_its_own() -> None:
    on = map_slots("w1")
    [found], _ = put(on, point())
    on.ended(True)
    assert found
    on.begin("w2", {A0: found})
    assert put(on, point())[1].keys() == {"a:0:w2:0:0"}
