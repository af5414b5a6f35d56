"""The dict of waiting groups: when one is complete, what is superseded, what is given up, what it costs in bytes."""

import math
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.builders import fragment, partition_offsets
from utils.joining.aggregator import (
    FRAGMENT_OVERHEAD,
    HEADER_OVERHEAD,
    Aggregator,
    Enough,
    Group,
    size_of,
)
from utils.joining.messages import Fragment


def given_up(aggregator: Aggregator, before: float) -> list[Group]:
    """Evict what arrived before that time, all partitions having been read far enough."""
    last = math.nextafter(before, -math.inf)
    enough = {(topic, number): Enough(last, math.inf) for topic in range(4) for number in range(3)}
    return aggregator.evict(enough)[0]


def add(aggregator: Aggregator, id: str, fragment: Fragment, arrival: float) -> tuple[Group | None, Fragment | None]:
    """One fragment: the group that it completes, and the one that it supersedes."""
    fragment.arrival = arrival
    complete, superseded = aggregator.add([id], [fragment], size_of([fragment]))
    return next(iter(complete), None), next(iter(superseded), None)


def test_with_one_topic_each_fragment_is_complete_at_once() -> None:
    aggregator, only = Aggregator(1), fragment(0)
    group, superseded = add(aggregator, "1", only, 5.0)
    assert group is not None
    assert (group.id, group.fragments, superseded) == ("1", (only,), None)
    assert (len(aggregator), aggregator.bytes) == (0, 0)


def test_with_two_topics_the_second_fragment_completes_a_group() -> None:
    aggregator, first, second = Aggregator(2), fragment(1), fragment(0)
    assert add(aggregator, "1", first, 5.0) == (None, None)
    assert len(aggregator) == 1
    group, _ = add(aggregator, "1", second, 6.0)
    assert group is not None
    assert set(map(id, group.fragments)) == {id(first), id(second)}
    assert group.arrival == 5.0
    assert (len(aggregator), aggregator.bytes) == (0, 0)


def test_what_is_read_again_may_have_arrived_before_what_is_new_and_added_with_it() -> None:
    aggregator, new, again = Aggregator(2), fragment(0, offset=9), fragment(0, offset=1)
    new.arrival, again.arrival = 5.0, 3.0
    aggregator.disorder(3.0)
    aggregator.add(["new", "again"], [new, again], size_of([new, again]))
    assert aggregator.has_waited_since(3.0)
    assert not aggregator.has_waited_since(2.0)
    assert [group.id for group in given_up(aggregator, before=4.0)] == ["again"]


def test_once_all_that_wait_are_in_order_again_the_first_tells_enough() -> None:
    aggregator, old, young = Aggregator(2), fragment(0), fragment(0)
    aggregator.disorder(3.0)
    add(aggregator, "young", young, 5.0)
    add(aggregator, "old", old, 3.0)
    assert not aggregator.has_waited_since(2.0)
    assert aggregator.has_waited_since(4.0), "not in order: the second one is looked at, too"
    add(aggregator, "young", fragment(1), 6.0)
    add(aggregator, "new", fragment(0), 7.0)
    assert aggregator.has_waited_since(3.0), "all are looked at, for the last time"
    old.arrival, aggregator.get("new").fragments[0].arrival = 4.0, 1.0  # type: ignore[union-attr]
    assert not aggregator.has_waited_since(3.5), "only the first is looked at: a million need not be"


def test_what_comes_after_all_was_dropped_is_in_order() -> None:
    aggregator, second = Aggregator(2), fragment(0)
    aggregator.disorder(1.0)
    aggregator.clear()
    add(aggregator, "first", fragment(0), 5.0)
    add(aggregator, "second", second, 6.0)
    second.arrival = 2.0
    assert not aggregator.has_waited_since(3.0), "only the first is looked at"


def test_out_of_order_what_waited_before_counts_too() -> None:
    aggregator = Aggregator(2)
    add(aggregator, "first", fragment(0), 5.0)
    aggregator.disorder(6.0)
    add(aggregator, "again", fragment(0), 6.0)
    assert not aggregator.has_waited_since(4.0)
    assert aggregator.has_waited_since(5.0)


def test_out_of_order_none_is_looked_at_before_the_earliest_is_due() -> None:
    aggregator, old = Aggregator(2), fragment(0)
    add(aggregator, "first", fragment(0), 5.0)
    aggregator.disorder(2.0)
    add(aggregator, "old", old, 4.0)
    assert not aggregator.has_waited_since(3.0)
    old.arrival = 1.0
    assert not aggregator.has_waited_since(3.0), "after one look it is known that none is due before 4.0"
    assert aggregator.has_waited_since(4.0)


def test_out_of_order_the_earliest_of_all_that_was_read_again_counts() -> None:
    aggregator = Aggregator(2)
    for id, arrival in (("1", 5.0), ("2", 1.0), ("3", 4.0)):
        aggregator.disorder(arrival)
        add(aggregator, id, fragment(0), arrival)
    assert aggregator.has_waited_since(2.0)


def test_those_that_wait_longest_are_told_although_others_were_read_again_before_them() -> None:
    """After a rebalance the first that had come into memory passed for the oldest, and an hour for a minute."""
    aggregator = Aggregator(2)
    for id, arrival in (("young", 40.0), ("old", 1.0), ("middle", 30.0), ("youngest", 50.0)):
        aggregator.disorder(arrival)
        add(aggregator, id, fragment(0), arrival)
    assert [group.id for group in aggregator.longest(3)] == ["old", "middle", "young"]
    assert [group.arrival for group in aggregator.longest(1)] == [1.0]
    assert not aggregator.has_waited_since(0.5), "to look changes nothing"
    assert aggregator.has_waited_since(1.0)


def test_a_group_is_given_up_only_when_every_topic_that_it_lacks_was_read_far_enough() -> None:
    aggregator = Aggregator(3)
    for id, topics in (("a", [0]), ("ab", [0, 1]), ("b", [1]), ("c", [2])):
        for topic in topics:
            add(aggregator, id, fragment(topic), 5.0)
    enough = {(0, 0): Enough(5.0, 1.0), (1, 0): Enough(4.0, 1.0), (2, 0): Enough(6.0, 1.0)}
    assert [group.id for group in aggregator.evict(enough)[0]] == ["ab", "b"]
    del enough[0, 0]
    assert aggregator.evict(enough | {(1, 0): Enough(5.0, -1.0)})[0] == []
    assert [group.id for group in aggregator.evict(enough | {(1, 0): Enough(5.0, 1.0)})[0]] == ["a"]


def test_it_counts_by_partition_number_which_topics_groups_wait_for() -> None:
    aggregator = Aggregator(3)
    for id, topics, number in (("1", [0], 0), ("2", [0], 0), ("3", [2, 0], 0), ("4", [1], 1), ("5", [1, 2], 1)):
        for topic in topics:
            add(aggregator, id, Fragment(topic, partition_offsets(partition=number), 0, b""), 0.0)
    assert aggregator.waited_for() == ({0: [0, 3, 2], 1: [2, 0, 1]}, 7 / 10, 1)
    assert Aggregator(3).waited_for() == ({}, 1.0, 1)


def test_of_many_groups_a_few_are_counted_evenly_over_all() -> None:
    aggregator = Aggregator(2)
    for number in range(100):
        of = partition_offsets(partition=number // 25)
        add(aggregator, str(number), Fragment(number % 2, of, number, b""), 0.0)
    assert aggregator.waited_for(most=34).counts == {0: [4, 5], 1: [4, 4], 2: [4, 4], 3: [5, 4]}
    assert aggregator.waited_for(most=34).stands_for == 3
    assert aggregator.waited_for(most=101).counts == {0: [12, 13], 1: [13, 12], 2: [12, 13], 3: [13, 12]}


def test_with_three_topics_two_fragments_still_wait() -> None:
    aggregator = Aggregator(3)
    assert add(aggregator, "1", fragment(2), 5.0) == (None, None)
    assert add(aggregator, "1", fragment(0), 6.0) == (None, None)
    group, _ = add(aggregator, "1", fragment(1), 7.0)
    assert group is not None
    assert sorted(each.topic for each in group.fragments) == [0, 1, 2]


def test_different_ids_do_not_meet() -> None:
    aggregator = Aggregator(2)
    add(aggregator, "1", fragment(0), 5.0)
    assert add(aggregator, "01", fragment(1), 5.0) == (None, None)
    assert len(aggregator) == 2


def test_a_second_fragment_of_a_topic_replaces_the_first() -> None:
    aggregator, old, new, mate = Aggregator(2), fragment(0), fragment(0), fragment(1)
    add(aggregator, "1", old, 5.0)
    _, superseded = add(aggregator, "1", new, 6.0)
    assert superseded is old
    group, superseded = add(aggregator, "1", mate, 7.0)
    assert group is not None
    assert superseded is None
    assert set(map(id, group.fragments)) == {id(new), id(mate)}


def test_a_replaced_fragment_does_not_set_back_the_timer() -> None:
    aggregator = Aggregator(2)
    add(aggregator, "1", fragment(0), 5.0)
    add(aggregator, "1", fragment(0), 60.0)
    assert aggregator.oldest_arrival() == 5.0
    assert [group.arrival for group in given_up(aggregator, 5.1)] == [5.0]


def test_replacing_never_completes_a_group() -> None:
    aggregator = Aggregator(3)
    for _ in range(3):
        add(aggregator, "1", fragment(0), 5.0)
        assert add(aggregator, "1", fragment(1), 5.0)[0] is None


def test_an_id_may_come_again_after_it_was_complete_or_given_up() -> None:
    aggregator = Aggregator(2)
    add(aggregator, "1", fragment(0), 5.0)
    assert add(aggregator, "1", fragment(1), 5.0)[0]
    assert add(aggregator, "1", fragment(1), 6.0) == (None, None)
    assert given_up(aggregator, 7.0)
    assert add(aggregator, "1", fragment(0), 8.0) == (None, None)


def test_groups_are_given_up_oldest_first_and_only_those_that_arrived_before() -> None:
    aggregator = Aggregator(2)
    for arrival, name in enumerate("abcd"):
        add(aggregator, name, fragment(0), float(arrival))
    assert [group.id for group in given_up(aggregator, 2.0)] == ["a", "b"]
    assert given_up(aggregator, 2.0) == []
    assert aggregator.oldest_arrival() == 2.0
    assert [group.id for group in given_up(aggregator, 2.0001)] == ["c"]


def test_what_was_given_up_is_not_completed_later() -> None:
    aggregator = Aggregator(2)
    add(aggregator, "1", fragment(0), 0.0)
    given_up(aggregator, 1.0)
    assert add(aggregator, "1", fragment(1), 2.0) == (None, None)


def test_a_group_says_which_topics_are_missing() -> None:
    aggregator = Aggregator(4)
    add(aggregator, "1", fragment(2), 0.0)
    add(aggregator, "1", fragment(0), 0.0)
    [group] = given_up(aggregator, 1.0)
    assert sorted(aggregator.missing(group)) == [1, 3]


def test_nothing_waits_in_an_empty_aggregator() -> None:
    aggregator = Aggregator(2)
    assert aggregator.oldest_arrival() is None
    assert given_up(aggregator, 1e12) == []
    add(aggregator, "1", fragment(0), 0.0)
    aggregator.clear()
    assert (len(aggregator), aggregator.bytes, aggregator.oldest_arrival()) == (0, 0, None)
    assert add(aggregator, "1", fragment(1), 0.0) == (None, None)


def test_an_older_record_that_is_read_again_is_superseded_by_the_newer_one_that_waits() -> None:
    aggregator, newer = Aggregator(2), fragment(0, b"newer", offset=7)
    older = Fragment(0, newer.offsets, 3, b"older, and longer")
    add(aggregator, "1", newer, 5.0)
    before = aggregator.bytes
    assert add(aggregator, "1", older, 4.0) == (None, older)
    assert aggregator.bytes == before
    group, _ = add(aggregator, "1", fragment(1), 6.0)
    assert group is not None
    assert newer in group.fragments
    assert older not in group.fragments
    assert (group.arrival, aggregator.bytes) == (4.0, 0)


def test_bytes_are_the_values_and_an_overhead_for_each_fragment() -> None:
    aggregator = Aggregator(3)
    add(aggregator, "1", fragment(0, b"x" * 100), 0.0)
    add(aggregator, "1", fragment(1, b"x" * 20), 0.0)
    add(aggregator, "2", fragment(1, b"x" * 3), 0.0)
    assert aggregator.bytes == 123 + 3 * FRAGMENT_OVERHEAD
    add(aggregator, "1", fragment(0, b"x" * 7), 0.0)
    assert aggregator.bytes == 30 + 3 * FRAGMENT_OVERHEAD


def test_headers_count_too_and_no_longer_when_they_are_superseded() -> None:
    aggregator = Aggregator(2)
    headed = Fragment(0, partition_offsets(), 0, b"x" * 100, [("name", b"value"), ("n", None)])
    add(aggregator, "1", headed, 0.0)
    assert aggregator.bytes == size_of([headed]) == 110 + FRAGMENT_OVERHEAD + 2 * HEADER_OVERHEAD
    add(aggregator, "1", fragment(0, b"x"), 0.0)
    assert aggregator.bytes == 1 + FRAGMENT_OVERHEAD
    complete, _ = add(Aggregator(1), "1", headed, 0.0)
    assert complete is not None
    assert complete.bytes == size_of([headed])


@dataclass
class Waiting:
    arrival: float
    by_topic: dict[int, Fragment] = field(default_factory=dict)


class AnyFeed(RuleBasedStateMachine):
    """Beside the aggregator a dict of dicts, which is too simple to be wrong."""

    @initialize(topics=st.integers(1, 4))
    def start(self, topics: int) -> None:
        self.topics = topics
        self.aggregator = Aggregator(topics)
        self.model: dict[str, Waiting] = {}
        self.now = 0.0

    @rule(id=st.sampled_from("abcdef"), topic=st.integers(0, 3), size=st.integers(0, 50), later=st.integers(0, 2))
    def add(self, id: str, topic: int, size: int, later: int) -> None:
        added = fragment(topic % self.topics, b"x" * size)
        self.now += later
        group, superseded = add(self.aggregator, id, added, self.now)
        waiting = self.model.setdefault(id, Waiting(self.now))
        assert superseded is waiting.by_topic.get(added.topic)
        waiting.by_topic[added.topic] = added
        assert (group is not None) == (len(waiting.by_topic) == self.topics)
        if group is not None:
            assert {each.topic: each for each in group.fragments} == waiting.by_topic
            assert len(group.fragments) == self.topics
            assert (group.id, group.arrival) == (id, waiting.arrival)
            del self.model[id]

    @rule(ids=st.lists(st.sampled_from("ghijklmnop"), unique=True), ago=st.integers(0, 5), since=st.integers(0, 6))
    def read_several_again_and_ask(self, ids: list[str], ago: int, since: int) -> None:
        for later, id in enumerate(ids):
            self.read_again(id, 0, (ago + later * 3) % 10)
        self.ask_for_the_oldest(since)

    @rule(id=st.sampled_from("abcdef"), topic=st.integers(0, 3), ago=st.integers(0, 9))
    def read_again(self, id: str, topic: int, ago: int) -> None:
        added = fragment(topic % self.topics)
        arrival = self.now - ago
        self.aggregator.disorder(arrival)
        group, _ = add(self.aggregator, id, added, arrival)
        waiting = self.model.setdefault(id, Waiting(arrival))
        waiting.arrival = min(waiting.arrival, arrival)
        waiting.by_topic[added.topic] = added
        if group is not None:
            assert group.arrival == waiting.arrival
            del self.model[id]

    @rule(ago=st.integers(0, 12))
    def ask_for_the_oldest(self, ago: int) -> None:
        since = self.now - ago
        expected = any(waiting.arrival <= since for waiting in self.model.values())
        assert self.aggregator.has_waited_since(since) == expected

    @rule(age=st.integers(0, 5))
    def evict(self, age: int) -> None:
        before = self.now - age
        expected = [id for id, waiting in self.model.items() if waiting.arrival < before]
        assert [group.id for group in given_up(self.aggregator, before)] == expected
        for id in expected:
            del self.model[id]

    @rule()
    def evict_everything(self) -> None:
        assert len(given_up(self.aggregator, self.now + 1)) == len(self.model)
        self.model.clear()
        assert self.aggregator.bytes == 0

    @rule()
    def clear(self) -> None:
        self.aggregator.clear()
        self.model.clear()
        assert self.aggregator.bytes == 0

    @invariant()
    def count_age_and_bytes_are_those_of_the_model(self) -> None:
        kept = [each for waiting in self.model.values() for each in waiting.by_topic.values()]
        assert len(self.aggregator) == len(self.model)
        assert self.aggregator.bytes == sum(len(each.value) + FRAGMENT_OVERHEAD for each in kept)
        assert self.aggregator.oldest_arrival() == next((each.arrival for each in self.model.values()), None)
        longest = sorted(each.arrival for each in self.model.values())[:3]
        assert [group.arrival for group in self.aggregator.longest(3)] == longest


TestAnyFeed = AnyFeed.TestCase
TestAnyFeed.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_while_many_are_due_not_all_are_looked_at_for_some_of_them() -> None:
    aggregator = Aggregator(2)
    for offset, arrival in enumerate([5.0, 1.0, 4.0, 3.0, 9.0]):
        part = Fragment(0, partition_offsets(), offset, b"", arrival=arrival)
        aggregator.add([str(offset)], [part], size_of([part]))
        aggregator.disorder(1.0)
    enough = {(1, 0): Enough(6.0, 9)}
    for left in (3, 1):
        assert aggregator.has_waited_since(6.0)
        assert len(aggregator.evict(enough, 2)[0]) == 2
        assert len(aggregator) == left
    assert aggregator.has_waited_since(6.0), "the last ones were as many as wanted"
    assert aggregator.evict(enough, 2)[0] == []
    assert not aggregator.has_waited_since(6.0)
