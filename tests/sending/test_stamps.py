"""Stamps: which times go on what is sent, after brokers have refused those of the host's clock."""

from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError

from utils.sending.stamps import Stamps

HOUR = 3_600_000
NOW = 1_700_000_000_000


class Clock:
    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def sent_by(stamps: Stamps) -> dict[str, Any]:
    """The options with which a record leaves."""
    given: dict[str, Any] = {}

    def produce(_topic: str, _value: bytes, **options: Any) -> None:
        given.update(options)

    stamps.stamped(produce)("topic", b"value", headers=None)
    return given


def refusing(stamps: Stamps, code: int = KafkaError.INVALID_RECORD) -> Stamps:
    stamps.note(KafkaError(code))
    return stamps


def ahead(clock: Clock | None = None) -> Stamps:
    return Stamps(clock or Clock(), lambda: (NOW + 2 * HOUR) / 1000)


def never() -> list[int]:
    raise AssertionError("nobody is asked")


def test_as_long_as_nothing_is_refused_the_client_stamps_and_nobody_is_asked() -> None:
    produce: Callable[..., None] = print
    stamps = refusing(ahead(), KafkaError.TOPIC_AUTHORIZATION_FAILED)
    stamps.look(never)
    assert stamps.stamped(produce) is produce


@pytest.mark.parametrize("code", [KafkaError.INVALID_RECORD, KafkaError.INVALID_TIMESTAMP])
def test_after_a_refusal_time_goes_on_from_that_of_the_newest_message(code: int) -> None:
    clock = Clock()
    stamps = refusing(ahead(clock), code)
    stamps.look(lambda: [-1, NOW - HOUR, NOW])
    clock.seconds += 7
    assert sent_by(stamps) == {"headers": None, "timestamp": NOW + 7000}
    stamps.look(never)
    assert sent_by(stamps)["timestamp"] == NOW + 7000


def test_a_time_as_late_as_what_was_refused_is_not_gone_by() -> None:
    stamps = refusing(ahead())
    stamps.look(lambda: [NOW + 9 * HOUR, NOW + HOUR])
    assert sent_by(stamps)["timestamp"] == NOW + HOUR
    refusing(stamps).look(lambda: [NOW + 9 * HOUR, NOW + HOUR, NOW])
    assert sent_by(stamps)["timestamp"] == NOW


@pytest.mark.parametrize("newest", [[], [-1], [NOW + 3 * HOUR]])
def test_where_nobody_knows_better_the_client_goes_on_to_stamp(newest: list[int]) -> None:
    stamps = refusing(ahead())
    stamps.look(lambda: newest)
    assert sent_by(stamps) == {"headers": None}


def test_brokers_that_do_not_answer_are_asked_once_more() -> None:
    def away() -> list[int]:
        raise ConnectionError

    stamps = refusing(ahead())
    with pytest.raises(ConnectionError):
        stamps.look(away)
    stamps.look(lambda: [NOW])
    assert sent_by(stamps)["timestamp"] == NOW
