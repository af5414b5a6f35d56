"""Topics that are read in step: what is older comes first, and to the worker it is a consumer as any other."""

from collections import defaultdict
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, IsolationLevel, KafkaError, ThrottleEvent, TopicPartition
from confluent_kafka.admin import AdminClient
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import FakeAdmin, FakeConsumer, FakeMessage, Partition
from utils.joining.aggregator import FRAGMENT_OVERHEAD
from utils.kafka.ends import EndOffsets
from utils.kafka.mute import Mute
from utils.reading import in_step
from utils.reading.in_step import ASK_AFTER, ASK_EVERY, PATIENCE, PATIENCE_WHEN_RECENT, RECENT, InStep

A, B, A1 = ("a", 0), ("b", 0), ("a", 1)
NOW = 1_700_000_000  # seconds since 1970
OLD = NOW - 3600
TURN = in_step.A_TURN
Read = tuple[str, int, int]  # topic, partition number, offset


class Inner(FakeConsumer):
    """Hands out all of the first partition, then of the second, as the client does with what has gathered."""

    told = True  # the last fetch has told where a partition ends

    def get_watermark_offsets(self, at: TopicPartition, cached: bool) -> tuple[int, int]:
        return (0, self.end_of((at.topic, at.partition))) if self.told else (-1001, -1001)


class Bench:
    def __init__(self, *partitions: Partition, late: bool = False) -> None:
        self.inner = Inner()
        self.admin = FakeAdmin(self.inner.end_of, late=late)
        self.now = 100.0
        ends = EndOffsets(cast(AdminClient, self.admin), IsolationLevel.READ_UNCOMMITTED)
        self.mute = Mute(lambda: self.now)
        clocks = lambda: self.now, lambda: self.now - 100 + NOW
        self.consumer = InStep(cast(Consumer, self.inner), ends, *clocks, self.mute)
        self.consumer.subscribe([], on_assign=self.assign, on_revoke=self.end, on_lost=self.end)
        self.told: list[Any] = []
        self.inner.assigned([TopicPartition(*at, 0) for at in partitions or (A, B)])

    def assign(self, consumer: InStep, partitions: list[TopicPartition]) -> None:
        consumer.assign(partitions)

    def end(self, consumer: InStep, partitions: list[TopicPartition]) -> None:
        self.told.append((consumer, self.position(*[(each.topic, each.partition) for each in partitions])))

    def feed(self, at: Partition, *times: float) -> None:
        """Records with these times, in seconds since 1970."""
        log, known = self.inner.log.setdefault(at, {}), self.inner.times.setdefault(at, {})
        for time in times:
            known[len(log)] = int(time * 1000)
            log[len(log)] = b"{}"

    def read(self, most: int = 100) -> list[Read]:
        """As Fetching does."""
        first = self.consumer.poll(0)
        messages = [] if first is None else [first, *self.consumer.consume(most - 1, 0)]
        return [(str(each.topic()), cast(int, each.partition()), cast(int, each.offset())) for each in messages]

    def read_all(self) -> list[Read]:
        """Also what comes after the brokers have been asked."""
        read = self.read()
        for _ in range(3):
            self.now += ASK_AFTER
            read += self.read()
        return read

    def read_for(self, seconds: float) -> list[Read]:
        """As a loop that turns."""
        read = []
        for _ in range(round(seconds / TURN)):
            self.now += TURN
            read += self.read()
        return read

    def position(self, *partitions: Partition) -> list[int]:
        return [each.offset for each in self.consumer.position([TopicPartition(*at) for at in partitions])]


def test_of_two_topics_that_have_gathered_what_is_older_comes_first() -> None:
    bench = Bench()
    bench.feed(A, OLD, OLD + 2, OLD + 4)
    bench.feed(B, OLD + 1, OLD + 3, OLD + 5)
    assert bench.read_all() == [("a", 0, 0), ("b", 0, 0), ("a", 0, 1), ("b", 0, 1), ("a", 0, 2), ("b", 0, 2)]


def test_each_partition_keeps_its_order_whatever_the_timestamps_say() -> None:
    bench = Bench()
    bench.feed(A, OLD + 9, OLD, -1)
    bench.feed(B, OLD + 1)
    assert bench.read_all() == [("a", 0, 0), ("a", 0, 1), ("a", 0, 2), ("b", 0, 0)]


def test_a_single_timestamp_that_is_far_off_holds_nobody_up() -> None:
    bench = Bench()
    bench.feed(A, OLD, NOW + 9999, OLD + 2, -1, OLD + 4)
    bench.feed(B, OLD + 1, OLD + 3, OLD + 5)
    assert [topic for topic, _, _ in bench.read_all()] == ["a", "b", "a", "a", "a", "b", "a", "b"]


@pytest.mark.parametrize("late", [OLD - 3600, 0, -0.001])
def test_a_single_timestamp_that_is_far_behind_brings_nobody_along(late: float) -> None:
    bench = Bench()
    bench.feed(A, OLD, OLD + 60, late, OLD + 120)
    bench.feed(B, OLD + 1, OLD + 61, OLD + 121)
    assert [f"{topic}{offset}" for topic, _, offset in bench.read_all()] == ["a0", "b0", "a1", "a2", "b1", "a3", "b2"]


@pytest.mark.parametrize("late", [OLD - 3600, 0, -0.001])
def test_nor_does_one_that_is_the_last_that_has_come(late: float) -> None:
    bench = Bench()
    bench.feed(A, OLD, OLD + 60, late)
    bench.feed(B, OLD + 1, OLD + 61)
    assert [f"{topic}{offset}" for topic, _, offset in bench.read_all()] == ["a0", "b0", "a1", "a2", "b1"]


def test_nor_holds_one_that_is_ahead_anybody_up_where_only_one_is_behind_it() -> None:
    bench = Bench()
    bench.feed(A, OLD, NOW + 9999, OLD + 2)
    bench.feed(B, OLD + 1, OLD + 3)
    assert [f"{topic}{offset}" for topic, _, offset in bench.read_all()] == ["a0", "b0", "a1", "a2", "b1"]


def test_old_records_wait_until_the_broker_has_said_that_their_sibling_has_no_more() -> None:
    """What the last fetch told may be of the time before a standstill."""
    bench = Bench(late=True)
    bench.feed(A, OLD)
    assert bench.read() == []
    bench.now += ASK_AFTER
    assert bench.read() == []
    assert bench.admin.asked == [B]
    bench.admin.answer(B, offset=1)
    bench.now += ASK_AFTER
    assert bench.read() == []
    bench.feed(B, OLD - 1)
    assert bench.read()[:1] == [("b", 0, 0)]


def test_an_answer_holds_for_what_had_been_fetched_when_it_was_asked_for() -> None:
    bench = Bench(late=True)
    bench.feed(A, OLD, OLD + 1)
    assert bench.read() == []
    bench.now += ASK_AFTER
    assert bench.read() == []
    bench.feed(A, OLD + 2)
    bench.now += 0.01
    assert bench.read() == []
    bench.admin.answer(B, offset=0)
    assert bench.read() == [("a", 0, 0), ("a", 0, 1)]


def test_the_ends_of_many_partitions_are_asked_for_at_once_and_seldom() -> None:
    bench = Bench(A, B, A1, ("b", 1))
    for number in (0, 1):
        bench.feed(("a", number), OLD)
        bench.feed(("b", number), OLD)
        bench.inner.paused.add(("b", number))  # it does not come
    for _ in range(10):
        assert bench.read() == []
        bench.now += ASK_EVERY / 5
    assert bench.admin.asked == [B, ("b", 1)] * 2


def test_what_is_recent_is_read_as_it_comes() -> None:
    bench = Bench(late=True)
    bench.feed(A, NOW - RECENT)
    assert bench.read() == [("a", 0, 0)]
    bench.feed(B, NOW)
    assert bench.read() == [("b", 0, 0)]
    assert bench.admin.asked == []


def test_what_is_recent_waits_too_where_it_is_known_that_more_is_there() -> None:
    bench = Bench(late=True)
    bench.inner.paused.add(B)  # it is not fetched yet
    bench.feed(B, NOW - 1)
    bench.feed(A, NOW)
    assert bench.read() == []
    bench.inner.paused.clear()
    assert bench.read() == [("b", 0, 0), ("a", 0, 0)]


def test_a_sibling_of_which_nothing_comes_is_not_waited_for_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(late=True)
    bench.feed(A, OLD, OLD + 1)
    assert bench.read() == []
    assert bench.read_for(PATIENCE - TURN) == []
    assert bench.read_for(TURN) == [("a", 0, 0), ("a", 0, 1)]
    bench.feed(A, OLD + 2)
    assert bench.read() == [("a", 0, 2)], "it is known to be silent"
    [line] = caplog.records
    assert vars(line)["partition"] == "b:0"


def test_what_is_recent_waits_for_such_a_sibling_for_a_second_only() -> None:
    bench = Bench(late=True)
    bench.inner.paused.add(B)  # it does not come
    bench.feed(B, NOW)
    bench.feed(A, NOW)
    assert bench.read() == []
    assert bench.read_for(PATIENCE_WHEN_RECENT - TURN) == []
    assert bench.read_for(TURN) == [("a", 0, 0)]


def test_what_lies_ready_behind_others_in_the_client_is_waited_for_however_slowly_it_is_read() -> None:
    bench = Bench(late=True)
    bench.feed(A, *[OLD + number for number in range(30_000)])
    bench.feed(B, OLD + 0.5)
    read: list[Read] = []
    for _ in range(30 + 1):  # a thousand each
        bench.now += PATIENCE / 10
        read += bench.read(20)
    assert read[:2] == [("a", 0, 0), ("b", 0, 0)]


def test_who_is_above_a_quota_waits_until_the_brokers_would_answer_again() -> None:
    bench = Bench(late=True)
    bench.feed(A, OLD)
    assert bench.read() == []
    bench.mute.on_throttle(ThrottleEvent("broker", 1, PATIENCE))
    assert bench.read_for(2 * PATIENCE - 2 * TURN) == []
    assert bench.read_for(2 * TURN) == [("a", 0, 0)]


def test_a_sibling_is_silent_for_as_long_however_steadily_others_come() -> None:
    bench = Bench(A, B, A1, late=True)
    bench.feed(A, OLD)
    for turns in range(round(PATIENCE / TURN)):
        bench.feed(A1, NOW)
        assert ("a", 0, 0) not in bench.read(), f"after {turns} turns"
        bench.now += TURN
    bench.feed(A1, NOW)
    assert ("a", 0, 0) in bench.read()


@pytest.mark.parametrize("is_there", [True, False])
def test_in_a_standstill_of_the_worker_nobody_is_silent(is_there: bool) -> None:
    """What had come lies in the client, and what had not could not come."""
    bench = Bench(late=True)
    bench.feed(A, OLD)
    assert bench.read() == []
    bench.now += PATIENCE + 1
    bench.feed(A, *[OLD + number for number in range(1, in_step.FETCH * is_there + 1)])
    assert bench.read() == []
    bench.feed(B, OLD - 1)
    assert bench.read_for(PATIENCE) == [("b", 0, 0)]


def test_partitions_of_other_numbers_do_not_wait_for_one_another() -> None:
    bench = Bench(A, A1, ("b", 1), late=True)
    bench.feed(A, OLD)
    bench.feed(A1, OLD)
    assert bench.read() == [("a", 0, 0)]


def test_what_is_paused_neither_comes_nor_is_waited_for() -> None:
    bench = Bench()
    bench.feed(A, OLD, OLD + 2)
    bench.feed(B, OLD + 1, OLD + 3)
    assert bench.read(most=1) == [("a", 0, 0)]
    bench.consumer.pause([TopicPartition(*B)])
    assert bench.read_all() == [("a", 0, 1)]
    assert bench.inner.paused == {B}
    bench.consumer.resume([TopicPartition(*B)])
    assert bench.read_all() == [("b", 0, 0), ("b", 0, 1)]


def test_who_was_paused_was_not_silent() -> None:
    bench = Bench(late=True)
    bench.feed(A, OLD)
    bench.feed(B, OLD)
    bench.inner.paused.add(B)  # it does not come yet
    assert bench.read() == []
    places = [TopicPartition(*A), TopicPartition(*B)]
    bench.consumer.pause(places)
    bench.read_for(PATIENCE + 1)
    bench.consumer.resume(places)
    bench.inner.paused.add(B)
    assert bench.read() == []
    bench.inner.paused.clear()
    assert bench.read() == [("a", 0, 0)]


def test_a_partition_that_holds_too_much_back_is_paused_until_half_of_it_has_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(in_step, "MOST_BYTES", 2 * 4 * (FRAGMENT_OVERHEAD + 2))  # four records of each
    monkeypatch.setattr(in_step, "FETCH", 2)
    bench = Bench(late=True)
    bench.feed(A, *(OLD + second for second in range(100)))
    for _ in range(10):
        assert bench.read() == []
    assert bench.inner.paused == {A}
    assert bench.inner.app_position[A] <= 8
    bench.consumer.resume([TopicPartition(*A)])
    assert bench.inner.paused == {A}, "the worker does not know of it"
    bench.feed(B, OLD + 98.5)
    read = [each for _ in range(100) for each in bench.read(most=2)]
    assert read[:99] == [("a", 0, offset) for offset in range(99)]
    assert bench.inner.paused == set()


def test_the_position_is_that_of_what_has_come_out() -> None:
    bench = Bench(late=True)
    bench.feed(A, OLD, OLD + 2)
    bench.feed(B, OLD + 1)
    assert bench.read() == [("a", 0, 0), ("b", 0, 0)]
    bench.inner.ends[B] = 5  # markers
    assert bench.read() == []
    [a, b] = bench.consumer.position([TopicPartition(*A), TopicPartition(*B)])
    assert (a.offset, a.leader_epoch, b.offset) == (1, 0, 5)


def test_who_goes_back_gets_again_what_is_held_back() -> None:
    bench = Bench(late=True)
    bench.feed(A, OLD, OLD + 2)
    bench.feed(B, OLD + 1)
    assert bench.read() == [("a", 0, 0), ("b", 0, 0)]
    bench.consumer.seek(TopicPartition(*A, 0))
    assert bench.position(A) == [-1001], "as with any consumer"
    bench.feed(B, OLD + 3)
    assert bench.read() == [("a", 0, 0), ("a", 0, 1)]


def test_an_error_of_a_partition_comes_after_what_is_held_back_of_it() -> None:
    bench = Bench(late=True)
    bench.feed(A, OLD, OLD + 2)
    assert bench.read() == []
    bench.inner.errors.append(FakeMessage(A, -1, None, KafkaError(KafkaError._AUTO_OFFSET_RESET)))
    assert bench.read() == []
    bench.inner.errors.append(FakeMessage(B, -1, None, KafkaError(KafkaError._TRANSPORT)))
    assert [each[0] for each in bench.read()] == ["b"]
    bench.feed(B, OLD + 3)
    assert bench.read() == [("a", 0, 0), ("a", 0, 1), ("a", 0, -1)]


def test_a_rebalance_throws_away_what_is_held_back_and_its_callbacks_get_this_consumer() -> None:
    bench = Bench(late=True)
    bench.feed(A, OLD, OLD + 1)
    bench.feed(B, OLD)
    assert bench.read(most=1) == [("a", 0, 0)]
    bench.inner.on_revoke(bench.inner, [TopicPartition(*A), TopicPartition(*B)])
    assert bench.told == [(bench.consumer, [1, 0])]
    bench.inner.assigned([TopicPartition(*A, 1)])
    assert bench.read() == [("a", 0, 1)], "there is no sibling to wait for"


def test_what_a_callback_raises_comes_out_of_the_next_read() -> None:
    """An exception that leaves a callback makes the client lose what it has fetched."""
    bench = Bench()
    bench.consumer.subscribe([], on_assign=bench.assign, on_revoke=lambda *_: 1 / 0, on_lost=bench.end)
    bench.inner.on_revoke(bench.inner, [])
    with pytest.raises(ZeroDivisionError):
        bench.read()


def test_what_a_rebalance_in_the_middle_of_a_read_makes_stale_is_read_again() -> None:
    bench = Bench()
    bench.feed(A, OLD, OLD + 1)
    bench.feed(B, OLD, OLD + 1)
    bench.inner.events_in_consume.append(
        lambda: bench.inner.assigned([TopicPartition(*A, 0), TopicPartition(*B, 1)])  # of the first one is handed out
    )
    assert sorted(bench.read_all()) == [("a", 0, 0), ("a", 0, 1), ("b", 0, 1)]


def full(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Topic a holds back more than its share, for nothing is known of b."""
    monkeypatch.setattr(in_step, "MOST_BYTES", 2 * FRAGMENT_OVERHEAD)
    bench.feed(A, *(OLD + second for second in range(9)))
    assert bench.read() == []
    assert bench.inner.paused == {A}


def test_who_goes_back_in_a_partition_that_holds_too_much_back_reads_on_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(late=True)
    full(bench, monkeypatch)
    bench.consumer.seek(TopicPartition(*A, 0))
    assert bench.inner.paused == set()


def test_what_the_worker_has_paused_is_not_resumed_by_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(late=True)
    full(bench, monkeypatch)
    bench.consumer.pause([TopicPartition(*A)])
    bench.consumer.seek(TopicPartition(*A, 0))
    assert bench.inner.paused == {A}
    assert bench.read() == []


def test_an_end_that_no_fetch_has_told_yet_is_none() -> None:
    bench = Bench(late=True)
    bench.inner.told = False
    bench.feed(A, NOW)
    assert bench.read() == []
    bench.inner.told = True
    assert bench.read() == [("a", 0, 0)]


def test_who_sends_something_now_and_then_is_not_silent() -> None:
    bench = Bench(late=True)
    for second in range(0, 50, 2):
        bench.feed(A, OLD + second)
        assert bench.read() == [("b", 0, second // 2 - 1)] * (second > 0)
        assert bench.read_for(PATIENCE / 2) == []
        bench.feed(B, OLD + second + 1)
        assert bench.read() == [("a", 0, second // 2)]


def test_an_error_is_told_also_where_a_rebalance_comes_with_it() -> None:
    bench = Bench()
    bench.inner.errors.append(FakeMessage(B, -1, None, KafkaError(KafkaError._AUTO_OFFSET_RESET)))
    bench.inner.events.append(lambda: bench.inner.assigned([TopicPartition(*A, 0), TopicPartition(*B, 0)]))
    assert [each[0] for each in bench.read()] == ["b"]


def test_an_answer_of_before_a_rebalance_tells_nothing() -> None:
    bench = Bench(late=True)
    bench.feed(A, OLD)
    assert bench.read() == []
    bench.now += ASK_AFTER
    assert bench.read() == []
    bench.inner.assigned([TopicPartition(*A, 0), TopicPartition(*B, 0)])
    bench.admin.answer(B, offset=0)
    bench.now -= ASK_AFTER  # as if it were fetched before that question
    assert bench.read() == []


def test_each_partition_number_comes_first_in_its_turn() -> None:
    bench = Bench(A, B, A1, ("b", 1), late=True)
    for number in (0, 1):
        bench.feed(("a", number), *[OLD] * 9)
    assert bench.read() == []
    for number in (0, 1):
        bench.feed(("b", number), OLD + 1)
    for _ in range(2):
        bench.consumer.poll(0)  # brings one of b each
    numbers = [each.partition() for _ in range(4) for each in bench.consumer.consume(2)]
    assert numbers in ([0, 0, 1, 1] * 2, [1, 1, 0, 0] * 2)


@given(st.data())
def test_whatever_comes_in_between_each_record_comes_once_and_in_its_order(data: st.DataObject) -> None:
    partitions = data.draw(st.lists(st.sampled_from([A, B, A1, ("b", 1), ("c", 0)]), unique=True, min_size=1))
    bench = Bench(*partitions, late=data.draw(st.booleans()))
    read: dict[Partition, list[int]] = defaultdict(list)
    for _ in range(data.draw(st.integers(1, 30))):
        at = data.draw(st.sampled_from(partitions))
        place = TopicPartition(*at, len(read[at]))
        what = data.draw(st.sampled_from(["feed", "read", "read", "time", "pause", "resume", "seek", "told"]))
        if what == "feed":
            bench.feed(at, *data.draw(st.lists(st.sampled_from([OLD, OLD + 1, OLD + 2, NOW]), max_size=5)))
        elif what == "time":
            bench.now += data.draw(st.sampled_from([0.01, 1.0, PATIENCE + 1]))
        elif what == "pause":
            bench.consumer.pause([place])
        elif what == "resume":
            bench.consumer.resume([place])
        elif what == "seek":
            bench.consumer.seek(place)
        elif what == "told":
            bench.inner.told = not bench.inner.told
        for topic, number, offset in bench.read(data.draw(st.integers(1, 4))) if what == "read" else ():
            read[topic, number].append(offset)
        for at, position in zip(partitions, bench.position(*partitions), strict=True):
            assert position in {len(read[at]), -1001}
    bench.consumer.resume([TopicPartition(*at) for at in partitions])
    for topic, number, offset in bench.read_for((1 + len(partitions)) * (PATIENCE + 1)):
        read[topic, number].append(offset)
    for at in partitions:
        assert read[at] == [*bench.inner.log.get(at, {})]
