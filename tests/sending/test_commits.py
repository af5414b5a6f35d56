"""Whose start counts: what a worker that has failed leaves in its last commit."""

import pytest
from confluent_kafka import KafkaError, KafkaException

from utils.processing.done import ThreadDied
from utils.sending.commits import accuses_a_message
from utils.sending.outbox import DeliveryFailed, RecordRefused


def caused(error: Exception, code: int) -> Exception:
    error.__cause__ = KafkaException(KafkaError(code))
    return error


@pytest.mark.parametrize(
    ("failure", "accuses"),
    [
        (ThreadDied("worker"), True),
        (caused(DeliveryFailed("transaction aborted"), KafkaError.POLICY_VIOLATION), True),
        (caused(RecordRefused("too large"), KafkaError.MSG_SIZE_TOO_LARGE), False),
        (caused(DeliveryFailed("Message timed out"), KafkaError._MSG_TIMED_OUT), False),
        (KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)), False),
        (ValueError("what nobody has expected"), False),
    ],
)
def test_a_message_is_accused_where_it_may_have_ended_the_worker_and_is_not_known(
    failure: Exception, accuses: bool
) -> None:
    assert accuses_a_message(failure) is accuses
