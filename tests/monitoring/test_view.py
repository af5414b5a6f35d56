"""What the loop shows of itself, on a worker with fakes around it."""

from concurrent.futures import Future
from typing import Any, cast
from unittest.mock import patch

from confluent_kafka import OFFSET_INVALID, IsolationLevel, KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from tests.builders import partition_offsets
from tests.fakes import TOPIC_ID, FakeAdmin
from tests.test_framework import A0, A1, B0, B1, TIMEOUT, Bench, owner_of_something_old, started
from utils.joining.offsets import CommitPoint, OffsetMap
from utils.joining.states import FINISHED, UNFINISHED, States
from utils.kafka.ends import EndOffsets
from utils.kafka.identities import LOOK_EVERY
from utils.monitoring.view import PartitionView, Snapshot, View
from utils.reading.shown_ends import ASK_EVERY, ASK_SELDOM, UNTOLD


def view(bench: Bench) -> View:
    assert bench.health.view is not None
    return bench.health.view


def snapshot(bench: Bench, oldest: int = 0) -> Snapshot:
    return view(bench).snapshot(oldest)


def partition(bench: Bench, at: tuple[str, int]) -> PartitionView:
    [found] = [each for each in snapshot(bench).partitions if (each.topic, each.partition) == at]
    return found


def test_a_worker_that_has_read_nothing_shows_empty_partitions() -> None:
    shown = snapshot(started())
    assert (shown.waiting, shown.waiting_bytes, shown.oldest_age, shown.in_flight) == (0, 0, 0, 0)
    assert [(each.topic, each.position, each.end, each.lag) for each in shown.partitions] == [
        ("a", 0, None, None),
        ("b", 0, None, None),
    ]


def test_what_waits_is_shown_with_its_age() -> None:
    bench = started()
    bench.feed(A0, "1", "2")
    bench.step()
    bench.clock.now += 5
    shown = snapshot(bench)
    assert shown.waiting == 2
    assert shown.waiting_bytes > 0
    assert shown.oldest_age == 5
    assert partition(bench, A0).unfinished == 2


def test_after_a_restart_the_oldest_is_the_one_that_has_waited_longest_though_it_is_read_again_last() -> None:
    """Metric, sentence and list showed the one that had come into memory first."""
    again = owner_of_something_old()
    records, again.consumer.log = again.consumer.log, {}
    again.feed(B0, "new")
    again.assign(A0, B0)
    again.step(2)
    again.consumer.log |= records
    again.step()
    again.clock.now += TIMEOUT / 4
    shown = snapshot(again, oldest=1)
    assert [each.id for each in shown.oldest] == ["old"]
    assert shown.oldest_age == shown.oldest[0].age >= TIMEOUT * 3 / 4
    assert (snapshot(again).oldest, snapshot(again).oldest_age) == ((), shown.oldest_age)


def test_lag_is_the_distance_from_the_next_record_to_the_end() -> None:
    bench = started()
    bench.feed(A0, "1", "2")
    bench.step()
    bench.feed(A0, "3")
    assert partition(bench, A0) == PartitionView("a", 0, 2, 3, 1, 2, partition(bench, A0).map_characters, False)


def test_what_is_done_and_only_passed_once_more_is_no_lag() -> None:
    """After each rebalance the lag was that of the commit, for as long as it takes to read all of that again."""
    states = States.of([UNFINISHED, *[FINISHED] * 500, UNFINISHED, *[FINISHED] * 200])
    bench = Bench(durable={A0: CommitPoint(*A0, 0, OffsetMap(TOPIC_ID, 0, 0, 0, states).encode())})
    bench.assign(A0, B0)
    bench.feed(A0, *map(str, range(705)))
    bench.consumer.paused = {A0}
    bench.step()
    assert (partition(bench, A0).position, partition(bench, A0).lag) == (0, 5)
    bench.consumer.paused = set()
    bench.step()
    assert (partition(bench, A0).position, partition(bench, A0).lag) == (705, 0)


def test_the_end_of_a_paused_partition_is_asked_for_since_it_is_not_fetched() -> None:
    bench = started()
    bench.feed(A0, "1")
    bench.step()
    bench.worker.intake.pausing.pause_only([A0])
    bench.feed(A0, "2", "3")
    shown = partition(bench, A0)
    assert (shown.paused, shown.lag) == (True, 2)


def test_the_end_of_a_paused_partition_is_known_at_the_first_look_whoever_has_looked_before() -> None:
    """The page of a worker that was paused for a week said that nothing was unread, and 3 s later how much was."""
    bench = started()
    bench.worker.intake.pausing.pause_only([A0])
    for _ in range(3):
        bench.feed(A0, "1", "2")
        assert not bench.worker.intake.is_outdated(bench.clock())
        bench.clock.now += ASK_EVERY
    with patch.object(bench.consumer, "get_watermark_offsets", return_value=(OFFSET_INVALID, OFFSET_INVALID)):
        assert partition(bench, A0).lag == 6


def test_the_end_is_asked_for_where_there_is_a_lag_since_nothing_may_be_fetched_for_long() -> None:
    """With a slow process() the client's queue is full: for an hour the lag fell, while the log grew."""
    bench = started()
    bench.feed(A0, "1", "2")
    bench.step()
    bench.feed(A0, *map(str, range(3, 103)))
    with patch.object(bench.consumer, "get_watermark_offsets", return_value=(OFFSET_INVALID, 3)):
        partition(bench, A0)
        assert partition(bench, A0).lag == 100
        bench.feed(A0, *map(str, range(103, 203)))
        assert partition(bench, A0).lag == 100, "it is asked for every few seconds only"
        bench.clock.now += ASK_EVERY
        partition(bench, A0)
        assert partition(bench, A0).lag == 200


def test_the_end_is_asked_for_after_a_rebalance_without_a_wait() -> None:
    """For half a minute a partition that is not fetched had no lag: the sum fell, and with it an alert."""
    bench = started()
    bench.feed(A0, "1", "2")
    partition(bench, A0)
    bench.revoke()
    bench.step()
    bench.assign(A0, B0)
    bench.consumer.paused = {A0}
    bench.step()
    with patch.object(bench.consumer, "get_watermark_offsets", return_value=(OFFSET_INVALID, OFFSET_INVALID)):
        partition(bench, A0)
        assert partition(bench, A0).lag == 2


class Torn(FakeAdmin):
    """Some brokers do not answer it."""

    def __init__(self) -> None:
        super().__init__()
        self.torn: set[object] = set()

    def _asked(self, of: object, value: Any) -> "Future[Any]":
        return super()._asked(of, KafkaException(KafkaError(KafkaError._TIMED_OUT)) if of in self.torn else value)


def test_a_partition_whose_broker_does_not_answer_while_others_do_has_no_lag_and_is_counted() -> None:
    """Its lag was 0 for as long as nobody missed its messages, and all was said to be well."""
    bench, admin = started(), Torn()
    bench.worker.intake.shown_ends._ask = EndOffsets(cast(AdminClient, admin), IsolationLevel.READ_COMMITTED)

    def counted_after(seconds: float) -> int:
        for _ in range(round(seconds / ASK_EVERY)):
            bench.clock.now += ASK_EVERY
            snapshot(bench)
        return snapshot(bench).without_leader

    assert counted_after(UNTOLD) == 0
    assert admin.asked.count(A0) == UNTOLD / ASK_SELDOM, "seldom, where there is no lag"
    admin.torn = {A0}
    assert counted_after(2 * UNTOLD) == 1
    assert (partition(bench, A0).lag, partition(bench, B0).lag) == (None, 0)
    admin.torn = set()
    assert counted_after(2 * ASK_SELDOM) == 0
    assert partition(bench, A0).lag == 0


def test_so_has_one_of_a_worker_that_has_no_other_partitions() -> None:
    """Another broker, the coordinator, lets it keep them: it read nothing, and said that all had been read."""
    bench, admin = started(), Torn()
    bench.worker.intake.shown_ends._ask = EndOffsets(cast(AdminClient, admin), IsolationLevel.READ_COMMITTED)
    of_ours = {(each.topic, each.partition) for each in snapshot(bench).partitions}
    admin.torn = {*of_ours}
    counts = []
    for _ in range(2 * round(UNTOLD / ASK_EVERY)):
        bench.clock.now += ASK_EVERY
        counts.append(snapshot(bench).without_leader)
    assert set(counts[: round(UNTOLD / ASK_EVERY)]) == {0}, "nobody is called silent too soon"
    assert counts[-1] == len(of_ours)
    assert {each.lag for each in snapshot(bench).partitions} == {None}


def test_partitions_of_ours_that_have_no_leader_are_counted_whether_they_were_left_out_or_lost_it_since() -> None:
    """Nobody was told: one that was left out has no lag, and of one that lost its leader the last known lag stays."""
    bench = started()
    assert snapshot(bench).without_leader == 0
    cast(FakeAdmin, bench.links.admin).leaderless = {B0, B1}
    for turn in range(2):
        assert not bench.worker.intake.is_outdated(bench.clock() + 2 * LOOK_EVERY * turn)
    assert snapshot(bench).without_leader == 1, "b:1 is another worker's"
    bench.worker.intake.rebalanced([partition_offsets()], {A1, B1})
    assert snapshot(bench).without_leader == 2


def test_partitions_whose_siblings_another_member_of_the_consumer_group_has_are_told() -> None:
    """A console consumer with its group.id had a partition, and all was said to be well."""
    bench = started(A0, B0)
    assert not snapshot(bench).are_apart
    bench.worker.intake.siblings.are_apart = lambda: True  # type: ignore[method-assign]
    assert snapshot(bench).are_apart
    assert snapshot(started(A0)).are_apart, "it has all of a topic"


def test_the_size_of_the_map_in_the_last_commit_is_shown() -> None:
    bench = started()
    bench.feed(A0, "1")
    bench.settle_down()
    [metadata] = [point.metadata for point in bench.delivery.commits[-1] if point.topic == "a"]
    assert partition(bench, A0).map_characters == len(metadata)


def test_the_groups_that_wait_longest_come_first() -> None:
    bench = started(A0, A1, B0, B1)
    for id in ("old", "middle", "new"):
        bench.feed(A1, id)
        bench.step(seconds=1)
    first, second = snapshot(bench, oldest=2).oldest
    assert (first.id, second.id) == ("old", "middle")
    assert (first.age, first.given_up_in) == (2, TIMEOUT - 2)
    assert (first.partition, first.arrived, first.missing) == (1, ("a",), ("b",))


def test_an_id_is_found_while_it_waits() -> None:
    bench = started()
    bench.feed(B0, "1")
    bench.step()
    found = view(bench).waiting("1")
    assert found is not None
    assert (found.arrived, found.missing) == (("b",), ("a",))
    assert view(bench).waiting("2") is None
    bench.feed(A0, "1")
    bench.step()
    assert view(bench).waiting("1") is None


def test_a_new_worker_of_the_process_is_the_one_that_is_shown() -> None:
    bench = started()
    bench.feed(A0, "1")
    bench.step()
    other = Bench()
    bench.health.view = view(other)
    assert snapshot(bench).waiting == 0
