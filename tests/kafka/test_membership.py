"""What tells that partitions were assigned for other topics than the row's, and leaving the group for it."""

from typing import cast

import pytest
from confluent_kafka import Consumer

from utils.kafka.membership import Membership, misfit

AB, ABC = {"a": 2, "b": 2}, {"a": 2, "b": 2, "c": 2}


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
