"""What the admin client has been answered: by no error that keeps the client, and no question that ends the process."""

import time
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

T = TypeVar("T")
LONGEST = 3_600.0  # seconds: no client takes a longer time-out


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


def answer(future: "Future[Any]", timeout: float | None = None) -> Any:
    """What it is, or the KafkaError that came instead."""
    try:
        return answered(future, timeout)
    except KafkaException as error:
        return error.args[0]
    except TimeoutError:
        return KafkaError(KafkaError._TIMED_OUT)


def described_groups(admin: AdminClient, names: Iterable[str], seconds: float, **options: Any) -> dict[str, Any]:
    """Each of these consumer groups as the admin client describes it, or the KafkaError that came instead.

    A client whose own time-out passes before it has found the coordinator ends the process when it finds it
    (SIGABRT, "eonce->refcnt > 0"; measured). So it is we who do not wait any longer, and the client goes on asking, for
    LONGEST. Who keeps one for days must let it go after a question that was not answered, as fleet does; a worker that
    has no coordinator for minutes makes its clients anew.
    """
    until = time.monotonic() + seconds
    asked = admin.describe_consumer_groups(list(names), request_timeout=LONGEST, **options)
    return {name: answer(future, max(until - time.monotonic(), 0.0)) for name, future in asked.items()}
