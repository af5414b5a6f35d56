"""Looks for the records of one id: in one partition of a topic where that is enough, in all that are possible else."""

from itertools import count
from typing import Any, cast
from unittest.mock import patch

import pytest
from confluent_kafka import OFFSET_INVALID, Consumer, IsolationLevel
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from tests.fakes import FakeAdmin, FakeMessage, FakeReader, Partition
from utils.fleet.search import Search, Wanted, forms, homes
from utils.joining.partitions import crc32, murmur2

PARTITIONS = 16
ID = "42"
HOME, OTHER = murmur2(b"42", PARTITIONS), crc32(b"42", PARTITIONS)


class Keyed(FakeReader):
    """Its records have keys: what is before the `|`."""

    def fetched(self) -> list[FakeMessage]:
        records = super().fetched()
        for each in records:
            if each.content is not None:
                key, _, each.content = each.content.partition(b"|")
                each.its_key = key or None
        return records


class Ends(FakeAdmin):
    """Of the logs of a reader, of which some records are `deleted`, and some behind them `hidden` in transactions."""

    def __init__(self, consumer: Keyed, hidden: int = 0, deleted: int = 0) -> None:
        super().__init__()
        self.consumer, self.hidden, self.deleted = consumer, hidden, deleted

    def offset_of(self, at: Partition, spec: Any, isolation: IsolationLevel | None) -> int:
        log = self.consumer.logs.get(at, [])
        earliest, latest = type(OffsetSpec.earliest()), type(OffsetSpec.latest())  # type: ignore[no-untyped-call]
        if isinstance(spec, latest):
            return len(log) + self.hidden * (isolation == IsolationLevel.READ_UNCOMMITTED)
        if isinstance(spec, earliest):
            return self.deleted
        return next((each for each, (time, _) in enumerate(log) if time >= spec._value / 1000), -1)


def record(key: str, id: str | None = None, time: float = 100.0) -> tuple[float, bytes | None]:
    return time, f'{key}|{{"id":"{id or key}"}}'.encode()


def noise(partition: int, by: Any = murmur2, number: int = 3) -> list[tuple[float, bytes | None]]:
    keys = [str(each) for each in range(1000, 3000) if by(str(each).encode(), PARTITIONS) == partition]
    return [record(key) for key in keys[:number]]


def search(
    logs: dict[int, list[tuple[float, bytes | None]]], since: float = 50.0, **admin: int
) -> tuple[Search, Keyed]:
    consumer = Keyed({("a", each): logs.get(each, noise(each)) for each in range(PARTITIONS)})
    fake = Ends(consumer, **admin)
    return Search(cast(AdminClient, fake), cast(Consumer, consumer), Wanted(ID, since), 1e9, lambda: 0.0), consumer


def places(found: Search) -> list[tuple[int, int]]:
    return [(each.partition, each.offset) for each in found.found["a"]]


def test_where_it_is_found_by_the_usual_hash_no_other_partition_is_read() -> None:
    assert HOME != OTHER
    found, consumer = search({HOME: [*noise(HOME), record(ID)]})
    found.look({"a": PARTITIONS}, {"a"})
    assert places(found) == [(HOME, 3)]
    assert {partition for _, partition, _ in consumer.handed_out} == {HOME}


def test_where_it_is_not_the_other_hashes_are_tried_but_in_topics_that_only_workers_write() -> None:
    found, _ = search({OTHER: [record(ID)]})
    found.look({"a": PARTITIONS})
    assert places(found) == []
    found.look({"a": PARTITIONS}, {"a"})
    assert places(found) == [(OTHER, 0)]


def test_where_another_producer_hashes_differently_both_are_read() -> None:
    found, _ = search({HOME: [record(ID), *noise(HOME, crc32)], OTHER: [record(ID)]})
    found.look({"a": PARTITIONS})
    assert sorted(places(found)) == sorted([(HOME, 0), (OTHER, 0)])
    assert not found.unseen.scattered


def test_keys_that_lie_by_no_hash_are_told_and_looked_for_everywhere_when_asked() -> None:
    lost = next(each for each in range(PARTITIONS) if each not in homes(forms(ID), PARTITIONS))
    logs = {HOME: noise((HOME + 1) % PARTITIONS), lost: [record(ID)]}
    found, consumer = search(logs)
    found.look({"a": PARTITIONS}, {"a"})
    assert places(found) == []
    assert found.unseen.scattered == {"a"}
    wanted = Wanted(ID, 0.0, everywhere=True)
    everywhere = Search(cast(AdminClient, Ends(consumer)), cast(Consumer, consumer), wanted, 1e9, lambda: 0.0)
    everywhere.look({"a": PARTITIONS})
    assert places(everywhere) == [(lost, 0)]


def test_a_partition_whose_broker_does_not_answer_is_not_taken_for_an_empty_one() -> None:
    """The client tells -1001, and no error."""
    _, consumer = search({HOME: [record(ID)]})
    silent = Ends(consumer)
    with patch.object(silent, "offset_of", return_value=OFFSET_INVALID):
        at_a_loss = Search(cast(AdminClient, silent), cast(Consumer, consumer), Wanted(ID, 0.0), 1e9, lambda: 0.0)
        at_a_loss.look({"a": PARTITIONS}, {"a"})
    assert places(at_a_loss) == []
    assert set(at_a_loss.unseen.unreadable) == {"a"}


def test_asked_again_it_reads_only_what_has_come_since() -> None:
    found, consumer = search({HOME: [record(ID)]})
    found.look({"a": PARTITIONS})
    consumer.logs["a", HOME] += [*noise(HOME), record(ID)]
    found.look({"a": PARTITIONS})
    assert places(found) == [(HOME, 0), (HOME, 4)]
    assert max(consumer.handed_out.values()) == 1


def test_what_is_older_than_the_window_is_not_read() -> None:
    found, _ = search({HOME: [record(ID, time=10.0), record(ID, time=60.0)]})
    found.look({"a": PARTITIONS})
    assert places(found) == [(HOME, 1)]
    assert not found.unseen.cut
    nothing, _ = search({HOME: [record(ID, time=10.0)]})
    nothing.look({"a": PARTITIONS})
    assert places(nothing) == []


def test_that_the_log_begins_within_the_window_or_ends_before_it_was_written_is_known() -> None:
    found, _ = search({HOME: [record(ID)]}, deleted=1, hidden=2)
    found.look({"a": PARTITIONS})
    assert found.unseen.cut == {"a"}
    assert found.unseen.hidden == {("a", HOME)}


def test_a_topic_that_may_not_be_read_does_not_hide_what_is_in_the_others() -> None:
    found, consumer = search({HOME: [record(ID)]})
    consumer.logs["forbidden", HOME] = [record(ID)]
    consumer.forbidden = {"forbidden"}
    found.look({"a": PARTITIONS, "forbidden": PARTITIONS})
    assert places(found) == [(HOME, 0)]
    assert set(found.unseen.unreadable) == {"forbidden"}
    assert not found.unseen.late


def test_what_is_not_read_in_time_is_told() -> None:
    consumer = Keyed({("a", HOME): [record(ID)] * 100, ("b", HOME): [record(ID)]}, some=1)
    times, wanted = count(), Wanted(ID, 0.0)
    found = Search(cast(AdminClient, Ends(consumer)), cast(Consumer, consumer), wanted, 9.0, lambda: next(times))
    found.look({"a": PARTITIONS, "b": PARTITIONS})
    assert found.unseen.late == {"a"}


def test_what_is_no_message_is_found_by_its_key_and_the_message_of_another_key_by_its_id() -> None:
    found, _ = search({HOME: [(100.0, b"42|no json"), record("43", "42"), record("42", "43")]})
    found.look({"a": PARTITIONS})
    assert [(each.offset, bool(each.problem)) for each in found.found["a"]] == [(0, True), (1, False)]


@pytest.mark.parametrize(
    ("id", "number"),
    [("42", 4), ("-7", 4), ("007", 2), ("x", 2), (str(2**40), 3), (str(2**70), 2), ("1" * 5000, 2), ("٤", 2)],
)
def test_keys_say_an_id_in_these_forms(id: str, number: int) -> None:
    assert len(forms(id)) == number
