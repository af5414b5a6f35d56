"""What the admin client has been answered, without an error that keeps the client."""

from concurrent.futures import Future
from typing import TypeVar

from confluent_kafka import KafkaException

T = TypeVar("T")


def answered(future: "Future[T]", timeout: float | None = None) -> T:
    """As `future.result(timeout)`; but a KafkaException that it raises is a new one.

    The future keeps its own. If that was raised it would keep each frame on its way, and with them the future and the
    client that was asked: a ring, in which the client's threads and connections stay until Python looks for rings. In a
    quiet process that takes hours.
    """
    error = future.exception(timeout)
    if isinstance(error, KafkaException):
        raise KafkaException(*error.args)
    return future.result()
