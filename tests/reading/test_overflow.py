"""Overflow over two topics of one partition, with a consumer that notes where it was sought to."""

from typing import Any, cast

import pytest
from confluent_kafka import Consumer

from tests.builders import admin, partition_offsets
from tests.fakes import TOPIC_ID, FakeConsumer
from tests.reading.feeds import know_to_be_together
from utils.joining.aggregator import Aggregator, Group, size_of
from utils.joining.messages import Fragment
from utils.joining.offsets import OffsetMap, mark
from utils.joining.states import FINISHED, SENT, UNFINISHED, States
from utils.metrics import Counters
from utils.reading.intake import Intake
from utils.reading.overflow import BALANCE_EVERY, LONGEST_PAUSE, NOT_COUNTED, Overflow, Pass

A, B = ("a", 0), ("b", 0)
VALUE = b"x" * 100
ONE = size_of([Fragment(0, cast(Any, None), 0, VALUE)])


def of(fragments: float) -> bytes:
    """The value of a record that takes as much memory as so many of the others."""
    return bytes(int(fragments * ONE) - ONE + len(VALUE))


class Bench:
    """Room for `room` fragments; `end` records in each topic."""

    def __init__(self, room: int, end: int, topics: str = "ab", partitions: int = 1, known: int = 0) -> None:
        """`known`: so many of the records are unfinished in the maps that were loaded."""
        self.consumer = FakeConsumer()
        self.now = 0.0
        self.topics = topics
        self.aggregator = Aggregator(len(topics))
        self.joined: list[tuple[int, ...]] = []  # the offsets of each group, in the order of their topics
        ends = admin(lambda _at: end)
        self.counters = Counters()
        self.intake = Intake(cast(Consumer, self.consumer), self.counters, ends, lambda: self.now)
        loaded = OffsetMap(TOPIC_ID, 0, 0, 0, States.of([UNFINISHED] * known))
        owned = [partition_offsets(0, loaded, topic, number) for number in range(partitions) for topic in topics]
        self.offsets = {offsets.topic: offsets for offsets in owned[: len(topics)]}
        self.intake.rebalanced(owned)
        know_to_be_together(self.intake)
        index = {topic: at for at, topic in enumerate(topics)}
        self.overflow = Overflow(self.aggregator, self.intake, index, room * ONE, self.counters)

    def read(self, topic: str, ids: str, first: int = 0, value: bytes = VALUE) -> str:
        """Records of these ids, a letter each, from that offset on; the ids that were completed."""
        fragments = []
        wanted = []
        for offset, id in enumerate(ids, first):
            offsets = self.offsets[topic]
            arrival = self.now if offsets.is_new(offset) else offsets.first_arrival(offset, 0.0, epoch=0.0)
            if not offsets.is_new(offset):
                self.overflow.arrived_before(arrival)
            if offsets.read(offset):
                fragments.append(Fragment(self.topics.index(topic), offsets, offset, value, arrival=arrival))
                wanted.append(id)
        complete = self.overflow.add(wanted, fragments, self.now)
        self.joined += [tuple(each.offset for each in group.fragments) for group in complete]
        return "".join(group.id for group in complete)

    def balance(self, seconds: float = BALANCE_EVERY, parked: int = 0) -> list[tuple[str, int]]:
        """Where reading was set back to."""
        self.consumer.seeks.clear()
        self.now += seconds
        self.overflow.balance(self.now, parked)
        return self.consumer.seeks


def test_ids_in_opposite_order_are_joined_in_passes_over_what_was_dropped() -> None:
    bench = Bench(room=2, end=6)
    assert bench.read("a", "123456") == ""  # 1 and 2 are kept
    assert bench.read("b", "654321") == "21"
    assert bench.balance() == [("a", 2), ("b", 0)]
    assert bench.read("a", "3456", first=2) == ""  # 3 and 4
    assert bench.read("b", "654321") == "43"
    assert bench.balance() == [("a", 4), ("b", 0)]
    assert bench.read("a", "56", first=4) == ""
    assert bench.read("b", "654321") == "65"
    assert bench.balance() == []


def test_with_room_again_only_what_was_dropped_and_passed_is_read_again() -> None:
    bench = Bench(room=2, end=4)
    bench.read("a", "1234")
    assert bench.read("b", "21") == "21"
    assert bench.balance() == [("a", 2)]
    assert bench.counters.read_again == 2
    assert bench.balance() == []  # nothing was dropped since


def test_what_made_room_before_it_was_read_again_is_not_set_back_to_after_that() -> None:
    bench = Bench(room=16, end=19)
    bench.read("a", "abcdefghijklm")
    bench.read("a", "q", first=13, value=of(4))  # there is no room for it
    assert bench.read("b", "mlkjihgfedcb") == "mlkjihgfedcb"
    bench.read("b", "z", first=12)
    bench.read("a", "r", first=14)
    assert bench.balance() == [("a", 13)]
    bench.read("b", "z", first=13, value=bytes(14 * ONE))  # the newest group makes room for what waits
    assert [*map(bench.aggregator.waits, "arz")] == [True, False, True]
    bench.read("b", "z", first=14)
    bench.read("a", "q", first=13, value=of(4))
    bench.read("a", "r", first=14)
    assert bench.read("b", "q", first=15) == "q"
    assert [*map(bench.aggregator.waits, "arz")] == [True, True, True]
    assert bench.balance() == []


def test_an_older_group_makes_no_room_for_a_newer_one() -> None:
    bench = Bench(room=3, end=2)
    bench.read("a", "o", value=of(2))
    bench.read("b", "n", value=of(2))
    assert [*map(bench.aggregator.waits, "on")] == [True, False]
    assert bench.read("b", "o", first=1, value=of(2)) == "o"


def test_what_has_no_room_beside_what_waits_is_not_read_again_before_that_is_gone() -> None:
    bench = Bench(room=8, end=20)
    bench.read("a", "o")
    bench.read("b", "n", value=of(9))
    assert bench.balance() == []  # though hardly anything waits: reading has to get on, to what o waits for
    assert bench.read("b", "o", first=1) == "o"
    assert bench.balance() == [("b", 0)]
    bench.read("b", "n", value=of(9))
    assert bench.read("a", "n", first=1) == "n"
    bench.read("a", "qrstuvwxy", first=2)
    assert bench.read("b", "rstuvwy", first=2) == "rstuvwy"
    assert bench.balance() == [("a", 9)]  # x has room beside q


def test_what_had_room_until_it_grew_is_not_read_again_either() -> None:
    bench = Bench(room=8, end=20, topics="abc")
    bench.read("a", "o")
    bench.read("a", "n", first=1, value=of(4))
    bench.read("b", "n", value=of(4))
    assert [*map(bench.aggregator.waits, "on")] == [True, False]
    assert bench.balance() == []


def test_what_is_read_again_makes_those_give_way_that_have_come_since() -> None:
    bench = Bench(room=8, end=20)
    bench.read("a", "o", value=of(3))
    bench.read("b", "l", value=of(5.5))
    assert [*map(bench.aggregator.waits, "ol")] == [True, False]
    bench.now = 5.0
    bench.read("a", "xyz", first=1)
    assert bench.read("b", "oxy", first=1) == "oxy"
    assert bench.balance() == [("b", 0)]
    bench.read("a", "n", first=4, value=of(3))
    bench.read("b", "l", value=of(5.5))
    assert [*map(bench.aggregator.waits, "znl")] == [True, False, True]


def test_what_the_oldest_waits_for_is_read_on_after_a_vain_pass_also_where_hardly_any_other_does() -> None:
    bench = Bench(room=12, end=20, topics="abc")
    bench.read("a", "o")
    bench.read("b", "o")
    bench.read("c", "123456789klm")
    for topic in "ab":
        bench.offsets[topic].skip_to(20)
    assert bench.balance() == []
    assert bench.intake.pausing.ahead == {("c", 0)}
    bench.balance()  # the pass has ended
    assert bench.balance(100.0) == [("c", 0)]
    assert bench.aggregator.waits("o")
    bench.read("c", "123456789klm")
    assert bench.balance() == []
    assert bench.intake.pausing.ahead == set()


def test_nobody_is_held_back_where_topics_are_read_in_step() -> None:
    """Its siblings would be read past its time."""
    bench = Bench(16, end=100)
    bench.intake.in_step = True
    bench.read("a", "abcdefghijkl")
    bench.balance()
    assert bench.intake.pausing.ahead == set()


def test_who_is_ahead_is_paused_as_soon_as_what_waits_has_grown_and_goes_on_as_soon_as_that_is_gone() -> None:
    bench = Bench(room=32, end=99)
    assert bench.balance() == []
    bench.read("a", "abcdefghijklmnopq")
    bench.balance(seconds=0.0)
    assert bench.intake.pausing.ahead == {A}
    assert bench.read("b", "abcdefgh") == "abcdefgh"
    bench.balance(seconds=0.0)
    assert bench.intake.pausing.ahead == {A}  # until a quarter is left
    assert bench.read("b", "i", first=8) == "i"
    bench.balance(seconds=0.0)
    assert bench.intake.pausing.ahead == {A}  # this was no sixteenth of the room
    assert bench.read("b", "j", first=9) == "j"
    bench.balance(seconds=0.0)
    assert bench.intake.pausing.ahead == set()


def test_nobody_is_held_back_for_a_topic_of_which_hardly_anything_is_left() -> None:
    """Where the mates of what waits never come, nothing of its topic was read any more, though there was room."""
    bench = Bench(room=32, end=99)
    bench.consumer.log[B] = {4: b""}
    bench.read("a", "abcdefghijklmnopq")
    bench.balance()
    assert bench.intake.pausing.ahead == {A}
    assert bench.read("b", "abcd") == "abcd"
    bench.balance()
    assert bench.intake.pausing.ahead == set()
    bench.read("a", "rstuvwxyz", first=17)
    bench.balance()
    assert bench.intake.pausing.ahead == set()


def test_what_nobody_waits_for_is_paused_too_but_only_while_what_waits_grows_or_falls() -> None:
    bench = Bench(room=32, end=99, partitions=2)
    bench.read("a", "abcdefghijklmnopq")
    bench.balance()
    assert bench.intake.pausing.ahead == {A, ("a", 1), ("b", 1)}
    bench.balance(0.9 * BALANCE_EVERY)
    assert bench.intake.pausing.ahead == {A, ("a", 1), ("b", 1)}
    bench.balance(0.2 * BALANCE_EVERY)
    assert bench.intake.pausing.ahead == {A}  # what is waited for does not come


def test_of_three_topics_the_first_is_held_back_while_there_is_room_for_the_second() -> None:
    bench = Bench(room=32, end=99, topics="abc")
    bench.read("a", "abcdefgh")
    bench.balance()
    assert bench.intake.pausing.ahead == set()
    bench.read("a", "ijk", first=8)
    bench.balance(seconds=0.0)
    assert bench.intake.pausing.ahead == {A}
    bench.read("b", "abcdefghijk")
    bench.balance(seconds=0.0)
    assert bench.intake.pausing.ahead == {A, B}


def test_after_a_pass_that_completed_something_the_next_begins_at_once() -> None:
    assert Pass(0.0, completed=1, ended=100.0).is_over(100.0, waiting=8)


def test_after_a_vain_pass_the_next_one_waits_as_long_as_it_took_and_twice_as_long_after_each() -> None:
    assert not Pass(0.0, ended=10.0).is_over(19.9, waiting=1)
    assert Pass(0.0, ended=10.0).is_over(20.0, waiting=1)
    assert not Pass(0.0, vain=1, ended=10.0).is_over(29.9, waiting=1)
    assert Pass(0.0, vain=1, ended=10.0).is_over(30.0, waiting=1)
    assert Pass(0.0, vain=9, ended=10.0).is_over(10.0 + LONGEST_PAUSE, waiting=1)


def test_a_pass_is_not_over_before_everything_was_read_up_to_the_end() -> None:
    bench = Bench(room=2, end=4)
    bench.read("a", "1234")
    for _ in range(5):
        assert bench.balance() == []  # b may have the mates of what waits
    assert bench.read("b", "56") == ""
    assert bench.balance() == []
    assert bench.read("b", "78", first=2) == ""
    bench.balance()
    assert bench.balance(100.0) == [("a", 1), ("b", 0)]  # nothing was completed: what waits has made room


def test_what_was_admitted_late_makes_room_for_what_was_dropped_before() -> None:
    bench = Bench(room=8, end=24)
    bench.read("a", "abcdefghijklmnopqrstuvwx")  # a to g are kept, and x as the last that has come
    assert bench.read("b", "ponmlkji" + "hgfedcba" + "xwvutsrq") == "gfedcbax"
    assert len(bench.aggregator) == 0  # w to q are not kept: what they would wait for was dropped before
    assert bench.balance() == [("a", 7), ("b", 0)]


def test_of_an_id_that_was_dropped_no_later_message_is_joined_first() -> None:
    bench = Bench(room=2, end=8)
    bench.read("a", "1234")  # 1 and 2 are kept
    assert bench.read("b", "12") == "12"
    assert bench.read("a", "34", first=4) == ""  # there is room now, but the first ones of them were dropped
    assert bench.read("b", "3434", first=2) == ""
    assert bench.balance() == [("a", 2), ("b", 2)]
    assert bench.read("a", "34", first=2) == ""
    assert bench.read("b", "34", first=2) == "34"
    assert bench.joined == [(0, 0), (1, 1), (2, 2), (3, 3)]


def test_what_a_group_lacks_is_taken_though_its_id_is_taken_for_one_that_had_to_make_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody waits for what is dropped so: the group could be given up, with its other part in Kafka."""
    monkeypatch.setattr("utils.reading.ids.KNOWN", 1)
    monkeypatch.setattr("utils.reading.ids.BITS", 1 << 3)  # so that each is taken for one of the others
    bench, many = Bench(room=2, end=400), "".join(chr(0x4E00 + number) for number in range(300))
    bench.read("a", "1")
    bench.read("a", many, first=1)
    assert bench.read("b", "1") == "1"
    assert bench.read("a", "k", first=301) == ""
    assert not bench.aggregator.waits("k")  # it is taken for one of them


def test_what_comes_side_by_side_is_joined_though_all_that_waits_beside_it_never_will_be() -> None:
    bench = Bench(room=16, end=100)
    bench.read("a", "ABCDEFGHIJKLMNOPQRST")  # A to N stay, to be given up one day
    joined = ""
    for at, id in enumerate("abcdefgh"):
        bench.read("a", id + id.upper() * 2, first=20 + 3 * at)
        joined += bench.read("b", id, first=at)
    assert joined == "abcdefgh"
    assert [*map(bench.aggregator.waits, "ABCDEFGHIJKLMN")] == [True] * 14
    assert bench.aggregator.bytes <= bench.overflow.room


def test_what_is_joined_side_by_side_makes_no_pass_less_vain() -> None:
    bench = Bench(room=8, end=20)
    bench.read("a", "ABCDEFGHIJKL")
    for at, id in enumerate("abcdefgh"):
        bench.read("a", id, first=12 + at)
        assert bench.read("b", id, first=at) == id
    bench.read("b", "Y" * 12, first=8)
    bench.balance()  # all was read to its end
    assert bench.balance() == []  # what waits makes room after a while only


# ---------------------------------------------------------------- complete groups that there is no room to park


def put_off(bench: Bench, topic: str, id: str, *at: int) -> None:
    """Complete groups of an id, of one topic."""
    offsets = bench.offsets[topic]
    groups = [Group(id, (Fragment(0, offsets, offset, VALUE),), ONE) for offset in at]
    bench.overflow.put_off(groups)


def test_later_groups_of_an_id_that_was_put_off_are_so_too_until_it_is_read_again() -> None:
    bench = Bench(room=40, end=8, topics="a")
    assert bench.read("a", "xxyx") == "xxyx"
    put_off(bench, "a", "x", 3)
    assert bench.read("a", "xyx", first=4) == "y"
    assert bench.balance(parked=15 * ONE) == []  # no room to park yet
    assert bench.balance(parked=10 * ONE) == [("a", 3)]
    assert bench.read("a", "xxyx", first=3) == "xxx"
    assert bench.read("a", "x", first=7) == "x"
    assert bench.balance() == []


def test_what_would_be_put_off_again_is_not_read_again() -> None:
    bench = Bench(room=40, end=2, topics="a")
    large = Group("x", (Fragment(0, bench.offsets["a"], 1, VALUE),), 12 * ONE)
    bench.read("a", "yx")
    bench.overflow.put_off([large])
    assert bench.balance(parked=4 * ONE) == []
    assert bench.balance(parked=0) == [("a", 1)]


def test_what_rests_for_hours_keeps_nothing_else_back() -> None:
    bench = Bench(room=40, end=3, topics="a")
    bench.read("a", "xyx")
    bench.overflow.put_off([Group("x", (Fragment(0, bench.offsets["a"], 0, VALUE),), 12 * ONE)])
    put_off(bench, "a", "y", 1)
    back = [bool(bench.balance(parked=11 * ONE)), bool(bench.balance(parked=11 * ONE))]
    assert back == [False, True]
    assert bench.read("a", "xyx") == "xy"
    put_off(bench, "a", "x", 0)  # now it is in vain
    waits = []
    for _ in range(3):
        waits.append(0)
        while not bench.balance(parked=11 * ONE):
            waits[-1] += 1
        bench.read("a", "xyx")
        put_off(bench, "a", "x", 0)
    assert waits[0] < waits[1] < waits[2]


def test_between_two_readings_of_what_was_put_off_as_much_time_goes_into_what_is_new() -> None:
    bench = Bench(room=40, end=100, topics="a")
    bench.read("a", "xyxyyyyy")
    put_off(bench, "a", "x", 0)
    bench.balance(parked=11 * ONE)
    assert bench.balance(parked=11 * ONE) == [("a", 0)]
    for again in ((0, 2), (0,), (0, 2)):  # now more and now less of it finds room
        bench.read("a", "xyx")
        put_off(bench, "a", "x", *again)
        for offset in range(3, 8):  # all of it has been read again, but reading is not where it was
            assert bench.balance() == []
            bench.read("a", "y", first=offset)
        new = 0
        while not bench.balance():  # though there is room for it
            new += 1
        assert new >= 5


def test_while_it_is_read_again_reading_is_not_set_back_once_more() -> None:
    bench = Bench(room=40, end=6, topics="a")
    bench.read("a", "xxxxxx")
    put_off(bench, "a", "x", 1, 2, 3, 4, 5)
    assert bench.balance() == [("a", 1)]
    assert bench.read("a", "xx", first=1) == "xx"
    put_off(bench, "a", "x", 2)
    assert bench.read("a", "x", first=3) == ""
    assert bench.balance() == []
    assert bench.read("a", "xx", first=4) == ""
    assert bench.balance() == [("a", 2)]  # nothing new is there, that would need the time


def test_what_was_put_off_delays_no_eviction() -> None:
    bench = Bench(room=40, end=1)
    bench.read("a", "x")
    put_off(bench, "a", "x", 0)
    assert bench.offsets["a"].shed.since == NOT_COUNTED
    bench.offsets["a"].drop(0, 1)
    assert bench.offsets["a"].shed.since == 1


def test_half_of_what_was_put_off_does_not_wait_for_a_mate_that_this_reading_has_passed() -> None:
    bench = Bench(room=40, end=1)
    bench.read("a", "x")
    assert bench.read("b", "x") == "x"
    fragments = tuple(Fragment(index, bench.offsets[topic], 0, VALUE) for index, topic in enumerate("ab"))
    bench.overflow.put_off([Group("x", fragments, 2 * ONE)])
    bench.offsets["a"].set_back()  # for others: only its reading was behind x
    assert bench.read("a", "x") == ""
    assert len(bench.aggregator) == 0
    assert bench.balance() == [("a", 0), ("b", 0)]
    bench.read("a", "x")
    assert bench.read("b", "x") == "x"


def test_what_is_put_off_meets_the_same_parts_though_a_second_message_of_its_id_waits() -> None:
    bench = Bench(room=40, end=2)
    bench.read("a", "x")
    assert bench.read("b", "x") == "x"
    bench.read("a", "x", first=1)
    fragments = tuple(Fragment(index, bench.offsets[topic], 0, VALUE) for index, topic in enumerate("ab"))
    bench.overflow.put_off([Group("x", fragments, 2 * ONE)])
    assert len(bench.aggregator) == 0
    assert bench.read("b", "x", first=1) == ""
    assert bench.balance() == [("a", 0), ("b", 0)]
    bench.read("a", "xx")
    assert bench.read("b", "xx") == "xx"
    assert bench.joined[1:] == [(0, 0), (1, 1)]
    assert bench.counters.superseded == 0


def test_where_there_is_no_room_for_what_is_read_again_nothing_later_of_its_id_takes_its_place() -> None:
    bench = Bench(room=2, end=4, known=4)
    bench.read("b", "yzxx")  # y and z are kept
    assert bench.read("a", "yzxx") == "yz"
    assert len(bench.aggregator) == 0  # no x, though there is room by now
    assert bench.balance() == [("a", 2), ("b", 2)]
    bench.read("a", "xx", first=2)
    assert bench.read("b", "xx", first=2) == "xx"
    assert bench.joined[2:] == [(2, 2), (3, 3)]
    assert bench.aggregator.bytes == 0


def test_when_all_was_read_again_what_waits_is_superseded_and_that_is_counted() -> None:
    bench = Bench(room=40, end=3, known=2)
    bench.read("a", "xx")
    assert bench.aggregator.bytes == 2 * ONE
    bench.intake.owned.may_replay = False
    bench.read("a", "x", first=2)
    assert bench.aggregator.bytes == ONE
    assert bench.counters.superseded == 2
    assert list(bench.offsets["a"].states) == [FINISHED, FINISHED, UNFINISHED]


def test_an_id_that_was_given_up_is_no_newcomer_any_more() -> None:
    """Each was kept for good where what waits lay in the last eighth, and made way first when it came again."""
    bench = Bench(room=16, end=40)
    bench.read("a", "0123456789abcdef")
    bench.read("b", "", first=0)
    newcomers = list(bench.overflow._newcomers)
    assert newcomers == ["e", "f"]
    for _ in range(3):
        bench.balance(100)
        bench.read("b", "zz", first=bench.offsets["b"].position)
    bench.now += 1000
    bench.offsets["b"].skip_to(40)
    bench.offsets["a"].skip_to(40)
    for _ in range(3):
        bench.overflow.evict(bench.now, 60.0)
        bench.now += 100
    assert len(bench.aggregator) == 0
    assert not bench.overflow._newcomers


def given_up(bench: Bench, topic: str, ids: str) -> list[Group]:
    """Groups of these ids, of which only that topic has come, for longer than MESSAGE_TIMEOUT."""
    bench.read(topic, ids)
    bench.balance(100)
    bench.overflow.evict(bench.now, 60.0)  # the ends are asked for
    return bench.overflow.evict(bench.now, 60.0)


def next_owner(bench: Bench) -> Bench:
    """It goes on from the commit that is made now."""
    points = [offsets.commit_point(0, 1) for offsets in bench.offsets.values()]
    maps = [OffsetMap.decode(point.metadata, TOPIC_ID, point.offset) for point in points]
    owner = Bench(room=40, end=0)
    owned = [partition_offsets(point.offset, of, point.topic) for point, of in zip(points, maps, strict=True)]
    owner.offsets = {each.topic: each for each in owned}
    owner.intake.rebalanced(owned)
    return owner


@pytest.mark.parametrize("state", [UNFINISHED, SENT], ids=["its dead letter is held", "its dead letter is on its way"])
def test_what_has_met_meets_again_though_a_part_that_was_given_up_before_it_is_not_safe_yet(state: int) -> None:
    """The next owner joined the part that had been given up with one of the two that had met later, and the other one
    was left alone.
    """
    bench = Bench(room=40, end=0)
    [group] = given_up(bench, "a", "x")
    mark(group.fragments, state)
    bench.read("a", "x", first=1)
    assert bench.read("b", "x") == "x"
    owner = next_owner(bench)
    owner.read("a", "x" * (2 - owner.offsets["a"].base), first=owner.offsets["a"].base)
    owner.read("b", "x")
    assert owner.joined == [(1, 0)]
    assert not owner.aggregator.waits("x")
    assert (bench.counters.superseded, owner.counters.superseded) == (0, 0), "it is counted as given up"


def test_as_long_as_no_second_part_has_come_what_was_given_up_is_unfinished_until_it_is_safe() -> None:
    bench = Bench(room=40, end=0)
    [group] = given_up(bench, "a", "x")
    mark(group.fragments, SENT)
    bench.read("b", "x")
    bench.read("a", "y", first=1)
    assert bytes(bench.offsets["a"].states) == bytes([SENT, UNFINISHED])


def test_what_was_given_up_is_not_remembered_when_it_is_safe_or_the_partitions_are_gone() -> None:
    bench = Bench(room=40, end=0)
    for group in given_up(bench, "a", "xy"):
        mark(group.fragments, SENT)
    assert len(bench.overflow._leaving) == 2
    bench.offsets["a"].finish(0)
    bench.overflow.evict(bench.now, 60.0)
    assert len(bench.overflow._leaving) == 1
    bench.overflow.forget()
    assert len(bench.overflow._leaving) == 0
