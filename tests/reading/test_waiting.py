"""Who of those that wait stays in memory, who makes way, and who is given up."""

import pytest

from tests.builders import partition_offsets
from tests.fakes import TOPIC_ID
from tests.reading.bench import ONE, A, B, Bench, of
from utils.joining.aggregator import Group
from utils.joining.offsets import OffsetMap, mark
from utils.joining.states import FINISHED, SENT, UNFINISHED
from utils.reading.going_back import LOOK_EVERY


def test_an_older_group_makes_no_room_for_a_newer_one() -> None:
    bench = Bench(room=3, end=2)
    bench.read("a", "o", value=of(2))
    bench.read("b", "n", value=of(2))
    assert [*map(bench.aggregator.waits, "on")] == [True, False]
    assert bench.read("b", "o", first=1, value=of(2)) == "o"


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
    bench.balance(0.9 * LOOK_EVERY)
    assert bench.intake.pausing.ahead == {A, ("a", 1), ("b", 1)}
    bench.balance(0.2 * LOOK_EVERY)
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
    assert bench.aggregator.bytes <= bench.waiting.room


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
    newcomers = list(bench.waiting._newcomers)
    assert newcomers == ["e", "f"]
    for _ in range(3):
        bench.balance(100)
        bench.read("b", "zz", first=bench.offsets["b"].position)
    bench.now += 1000
    bench.offsets["b"].skip_to(40)
    bench.offsets["a"].skip_to(40)
    for _ in range(3):
        bench.waiting.evict(bench.now, 60.0)
        bench.now += 100
    assert len(bench.aggregator) == 0
    assert not bench.waiting._newcomers


def given_up(bench: Bench, topic: str, ids: str) -> list[Group]:
    """Groups of these ids, of which only that topic has come, for longer than MESSAGE_TIMEOUT."""
    bench.read(topic, ids)
    bench.balance(100)
    bench.waiting.evict(bench.now, 60.0)  # the ends are asked for
    return bench.waiting.evict(bench.now, 60.0)


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
    assert len(bench.waiting._leaving) == 2
    bench.offsets["a"].finish(0)
    bench.waiting.evict(bench.now, 60.0)
    assert len(bench.waiting._leaving) == 1
    bench.waiting.forget()
    assert len(bench.waiting._leaving) == 0
