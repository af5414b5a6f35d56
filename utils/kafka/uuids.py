"""Identities of topics, as Kafka's client makes them. Asks nothing."""

from functools import lru_cache

import confluent_kafka

_DIFFERENT = 10_000  # identities that are kept: of as many topics


def share_uuids() -> None:
    """Let the client make each identity once.

    Of each topic that it describes it makes a Uuid that is never freed (confluent-kafka 2.16.1; measured), and a worker
    asks every two seconds, for months. It looks the class up by its name each time: there it finds what it has made.
    """
    if isinstance(confluent_kafka.Uuid, type):
        confluent_kafka.Uuid = lru_cache(_DIFFERENT)(confluent_kafka.Uuid)  # type: ignore[assignment, misc]
