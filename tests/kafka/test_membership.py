"""What tells that partitions were assigned for other topics than the row's, and leaving the group for it."""

from dataclasses import dataclass
from threading import Event
from typing import cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from config import Settings
from tests.fakes import FakeAdmin
from utils.kafka.membership import Membership, gets_place_back, is_place_taken, misfit, shared_with_others

AB, ABC = {"a": 2, "b": 2}, {"a": 2, "b": 2, "c": 2}


class Waiting(Event):
    """Whose wait() takes no time of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def wait(self, timeout: float | None = None) -> bool:
        self.now += timeout or 0.0
        return self.is_set()


@pytest.mark.parametrize(
    ("answers", "is_ours"),
    [
        ([["it"]] * 5 + [[]], True),
        ([["it"]] * 60, False),
        ([None] * 60 + [["it"]] * 5 + [[]], True),  # no broker tells: what is not known is not held against us
        ([["it"]] * 5 + [None] * 60 + [[]], True),
    ],
)
def test_a_place_is_anothers_when_one_has_it_for_longer_than_kafka_keeps_the_silent(
    answers: list[list[str] | None], is_ours: bool
) -> None:
    stop, told = Waiting(), iter(answers)
    assert gets_place_back(lambda: next(told), 10.0, stop, lambda: stop.now) is is_ours
    assert is_ours or stop.now > 10.0


def test_nobody_waits_for_a_place_when_the_worker_is_to_stop() -> None:
    stop = Waiting()
    stop.set()
    assert gets_place_back(lambda: ["it"], 10.0, stop, lambda: stop.now)


def owned(*partitions: str) -> list[tuple[str, int]]:
    return [(each[0], int(each[1:])) for each in partitions]


def test_the_same_numbers_of_every_topic_fit() -> None:
    assert not misfit(owned("a0", "a1", "b0", "b1"), AB)
    assert not misfit(owned("a1", "b1"), AB)


def test_a_topic_that_was_added_is_lacking_and_one_that_was_removed_is_foreign() -> None:
    assert misfit(owned("a0", "b0"), ABC) == "nothing of c is assigned"
    assert misfit(owned("a0", "b0", "c0"), AB) == "c is not in the row"
    assert misfit(owned("a0", "b0"), {"a": 2, "c": 2}) == "b is not in the row, nothing of c is assigned"


def test_who_owns_nothing_may_be_one_too_many() -> None:
    assert not misfit([], ABC)


def test_others_that_have_not_got_the_row_yet_leave_more_of_the_added_topic_to_us() -> None:
    assert not misfit(owned("a0", "b0", "c0", "c1"), ABC)


def test_of_a_topic_with_fewer_partitions_the_later_members_own_nothing() -> None:
    assert not misfit(owned("a3"), {"a": 4, "b": 1})
    assert misfit(owned("a0"), {"a": 4, "b": 1})


@pytest.mark.parametrize(
    ("assigned", "counts", "shared"),
    [
        (owned("a0", "a1", "b0", "b1"), AB, []),
        (owned("a0", "b0", "c0"), ABC, []),
        ([], AB, []),  # one too many
        (owned("a0", "b0", "b1"), AB, ["a"]),  # of a, another member has the rest
        (owned("b0", "b1"), AB, ["a"]),
        (owned("a0", "b1"), AB, ["a", "b"]),
        (owned("a0", "a1", "b0"), {"a": 2, "b": 1}, []),  # only who has all may begin at all
    ],
)
def test_a_topic_of_which_we_have_other_numbers_is_read_by_a_member_with_other_topics(
    assigned: list[tuple[str, int]], counts: dict[str, int], shared: list[str]
) -> None:
    """`range` gives all members with the same topics the same numbers of each."""
    assert shared_with_others(assigned, counts) == shared


class Member:
    """A consumer in a group that needs so many turns to let it go."""

    def __init__(self, turns: int) -> None:
        self.turns = turns
        self.unsubscribed = False

    def unsubscribe(self) -> None:
        self.unsubscribed = True

    def poll(self, _timeout: float) -> None:
        assert self.unsubscribed
        self.turns -= 1

    def is_member(self) -> bool:
        return self.turns > 0


def test_a_static_member_leaves_for_good_and_then_takes_what_it_is_given() -> None:
    membership, member = Membership(is_static=True), Member(3)
    assert membership.misfit(owned("a0", "b0"), ABC)
    membership.leave(member.is_member, cast(Consumer, member))
    assert member.turns == 0
    assert not membership.misfit(owned("a0", "b0"), ABC)


def test_one_that_could_not_leave_is_still_suspicious(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("utils.kafka.membership._LEAVE", 0.0)
    membership, member = Membership(is_static=True), Member(3)
    membership.leave(member.is_member, cast(Consumer, member))
    assert membership.misfit(owned("a0", "b0"), ABC)


def test_a_dynamic_member_is_always_assigned_anew() -> None:
    assert not Membership().misfit(owned("a0", "b0"), ABC)


@dataclass(frozen=True)
class Described:
    member_id: str
    group_instance_id: str | None


@pytest.mark.parametrize(
    ("members", "taken"),
    [
        ([Described("ours", "first"), Described("another", "second")], False),
        ([Described("another", "first"), Described("third", None)], True),
        ([Described("third", None)], False),  # the group has missed us
        (KafkaException(KafkaError(KafkaError._TIMED_OUT)), False),
    ],
)
def test_whether_another_member_has_our_instance_id_is_asked_of_the_group(
    members: list[Described] | KafkaException, taken: bool
) -> None:
    admin = FakeAdmin(members=members)
    settings = Settings(consumer_name="orders", group_instance_id="first")
    assert is_place_taken(cast(AdminClient, admin), settings, "ours") == taken
    assert admin.asked == ["orders"]


def test_who_is_no_member_or_has_no_instance_id_has_no_place_that_could_be_taken() -> None:
    admin = FakeAdmin(members=[Described("another", "first")])
    assert not is_place_taken(cast(AdminClient, admin), Settings(group_instance_id="first"), "")
    assert not is_place_taken(cast(AdminClient, admin), Settings(), "ours")
    assert not admin.asked
