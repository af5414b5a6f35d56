"""When reading goes back: passes over what was dropped, and what was put off."""

from tests.reading.bench import ONE, VALUE, Bench, of
from utils.joining.aggregator import Group
from utils.joining.messages import Fragment
from utils.reading.going_back import LONGEST_PAUSE, NOT_COUNTED, Pass


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
    bench.waiting.put_off(groups)


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


def test_what_was_put_off_is_away_no_more_once_the_partitions_are_others() -> None:
    bench = Bench(room=40, end=8, topics="a")
    assert bench.read("a", "xx") == "xx"
    put_off(bench, "a", "x", 1)
    assert bench.read("a", "x", first=2) == ""
    bench.waiting.forget()
    assert bench.read("a", "x", first=3) == "x"


def test_what_would_be_put_off_again_is_not_read_again() -> None:
    bench = Bench(room=40, end=2, topics="a")
    large = Group("x", (Fragment(0, bench.offsets["a"], 1, VALUE),), 12 * ONE)
    bench.read("a", "yx")
    bench.waiting.put_off([large])
    assert bench.balance(parked=4 * ONE) == []
    assert bench.balance(parked=0) == [("a", 1)]


def test_what_rests_for_hours_keeps_nothing_else_back() -> None:
    bench = Bench(room=40, end=3, topics="a")
    bench.read("a", "xyx")
    bench.waiting.put_off([Group("x", (Fragment(0, bench.offsets["a"], 0, VALUE),), 12 * ONE)])
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


def test_after_all_of_it_has_found_room_what_is_put_off_later_waits_no_longer_than_the_first_time() -> None:
    """Each later time it waited for up to a minute, between any two readings, though each time less was left of it."""
    bench = Bench(room=40, end=4, topics="a")
    bench.read("a", "xxxx")
    waits = []
    for _ in range(2):
        for left in ((0, 1, 2), (1, 2), (2,)):
            bench.waiting.put_off([Group("x", (Fragment(0, bench.offsets["a"], at, VALUE),), 12 * ONE) for at in left])
            waits.append(1)
            while not bench.balance(parked=11 * ONE):
                waits[-1] += 1
            bench.read("a", "xxxx")
        bench.balance()
    assert waits[3:] == waits[:3]


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
    bench.waiting.put_off([Group("x", fragments, 2 * ONE)])
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
    bench.waiting.put_off([Group("x", fragments, 2 * ONE)])
    assert len(bench.aggregator) == 0
    assert bench.read("b", "x", first=1) == ""
    assert bench.balance() == [("a", 0), ("b", 0)]
    bench.read("a", "xx")
    assert bench.read("b", "xx") == "xx"
    assert bench.joined[1:] == [(0, 0), (1, 1)]
    assert bench.counters.superseded == 0
