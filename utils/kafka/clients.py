"""Kafka's clients, made from the settings and the row of a worker."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Consumer, KafkaError, Producer

from config import ConfigError, Settings
from models import Row
from utils.errors import guarded
from utils.kafka.client_log import log_error, log_failure, silent, to_log, unheard
from utils.kafka.properties import (
    HEARTBEAT_MS,
    QUEUE_MESSAGES,
    SESSION_TIMEOUT_MS,
    Properties,
    leaves_alone,
    number,
    transaction_timeout,
)
from utils.kafka.wrong_properties import named_properties, wrong_properties

METADATA_REFRESH_MS = 10_000  # until added partitions are noticed: before groups are given up whose parts are there
ANSWER_MS, RESULT_MS = 20_000, 60_000  # until results are sent once more, to another leader perhaps; and have failed
UNKNOWN_MS = 5_000  # until a topic counts as gone to which nothing was sent before: see `lacks_topic`
IDLE_MS = 180_000  # until a connection is closed: balancers and NAT forget quiet ones after 4 minutes and more
TRANSACTION_BACKOFF_MS = 20  # until a request of a transaction that came too soon after another one is made again


def client_properties(settings: Settings, row: Row) -> dict[str, Any]:
    """What all clients of a worker have in common: brokers, name, log, and the user's own properties."""
    return {
        "bootstrap.servers": row.bootstrap_servers,
        "client.id": row.consumer_name,
        # Else a producer's question for a topic that was deleted makes the brokers create it, with their defaults.
        "allow.auto.create.topics": False,
        **settings.kafka,
        "error_cb": guarded(log_error, log_failure),
        "logger": to_log(),
    }


def quiet_properties(settings: Settings, row: Row, on_error: Callable[[KafkaError], None]) -> dict[str, Any]:
    """Those of a client for a look: what it hears goes to `on_error`, and nothing to the log."""
    own = {"error_cb": guarded(on_error, lambda _error: None), "logger": silent()}
    return {**client_properties(settings, row), **own}


FETCHES: Properties = {
    "queued.min.messages": 40_000,  # as many as 8 MB of 200 B: the client counts values only, no keys and no headers
    "queued.max.messages.kbytes": 8_192,  # 32 MB: no less CPU, and 70 MB more of memory (measured, 200 B)
    # After a full queue. With the client's 1,000 reading stood still; with 20 it costs 6 % more CPU (measured).
    "fetch.queue.backoff.ms": 50,
    "max.partition.fetch.bytes": 1_048_576,
}
# Bytes of all partitions in one answer. 4 MB: no less CPU, and 60 MB more memory with lz4 (measured: bench/README.md,
# "Partitions"). With 1 MB a broker that is 50 ms away would send 20 MB/s at most.
ANSWER, ANSWER_AT_MOST = 2_097_152, 33_554_432
FETCH, LEAST_FETCH = 131_072, 32_768  # bytes of one partition; less than FETCH only where there are too many of them


def fetches(partitions: int) -> Properties:
    """How the consumer of so many partitions fetches; 0: it is not known of how many.

    An answer brings something of all of them. Else it brings much of the first topic and nothing of the last one, which
    must wait in memory; and it is inflated as a whole. But small pieces cost CPU: with 32 kB an eighth more than with
    1 MB, with 128 kB about nothing (measured: bench/README.md, "Partitions").
    """
    if not partitions:
        return FETCHES
    wanted, possible = max(ANSWER // partitions, FETCH), max(ANSWER_AT_MOST // partitions, LEAST_FETCH)
    return {**FETCHES, "max.partition.fetch.bytes": min(wanted, possible)}


def consumer(
    properties: Properties,
    settings: Settings,
    on_commit: Callable[..., None],
    partitions: int = 0,
    *,
    on_throttle: Callable[..., None] | None = None,
) -> Consumer:
    """The one consumer of a worker, for topics of so many partitions together.

    Its fetch settings keep a core busy; the user's properties win.
    """
    heard = {"throttle_cb": guarded(on_throttle, log_failure)} if on_throttle else {}
    return Consumer(
        {
            "session.timeout.ms": SESSION_TIMEOUT_MS,
            "heartbeat.interval.ms": HEARTBEAT_MS,
            "topic.metadata.refresh.interval.ms": METADATA_REFRESH_MS,
            **fetches(partitions),
            "isolation.level": "read_committed",
            "reconnect.backoff.max.ms": 2_000,
            # A connection to each broker, made anew where it breaks. Else the client makes one when it needs one: where
            # a broker was frozen for longer than the session, some made none any more (measured, client 2.16).
            "enable.sparse.connections": False,
            **properties,
            "group.id": settings.consumer_name,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "partition.assignment.strategy": "range",
            "on_commit": on_commit,
            **heard,
            **({"group.instance.id": settings.group_instance_id} if settings.group_instance_id else {}),
        }
    )


def map_reader(properties: Properties, settings: Settings) -> Consumer:
    """A consumer that joins no consumer group, for the topic of maps: all records, also those of open transactions."""
    own = {"group.id": settings.consumer_name, "isolation.level": "read_uncommitted", "auto.offset.reset": "earliest"}
    return Consumer({**properties, **own, "enable.auto.commit": False, "enable.auto.offset.store": False})


def onlooker(properties: Properties, group: str) -> Consumer:
    """A consumer that reads what it is assigned, read_committed. It joins no consumer group: `group` is only a name."""
    own: dict[str, Any] = {"group.id": group, "isolation.level": "read_committed", "fetch.wait.max.ms": 50}
    own |= {"auto.offset.reset": "earliest", "enable.auto.commit": False, "enable.auto.offset.store": False}
    return Consumer({**FETCHES, **properties, **own})


def prober(properties: Properties, group: str) -> Consumer:
    """For lookups: what is at an offset, and what the consumer group has committed, also beside an open transaction.

    It does not join the consumer group. Where brokers cannot tell, it claims nothing.
    """
    own = {"group.id": group, "auto.offset.reset": "latest", "isolation.level": "read_uncommitted"}
    # A partition whose batch is larger has an answer of its own, so a round trip: few records, and most batches whole.
    few = {"fetch.message.max.bytes": 16_384, "fetch.wait.max.ms": 50, "enable.partition.eof": True}
    return Consumer({**properties, **few, **own, "enable.auto.commit": False, "enable.auto.offset.store": False})


def try_properties(settings: Settings, row: Row) -> None:
    """Create both clients of a worker for a moment, without a broker. Raises ConfigError for what they refuse."""
    if problems := wrong_properties(settings):
        raise ConfigError(problems)
    with named_properties(settings):
        properties = client_properties(settings, row)
        consumer(properties, settings, unheard).close()
        producer(properties, unheard, "tried" if settings.delivery == "exactly_once" else "")


@contextmanager
def reader(settings: Settings, row: Row) -> Iterator[Consumer]:
    """A consumer that may ask what its consumer group has committed, and that never joins it."""
    with named_properties(settings):
        created = consumer(client_properties(settings, row), settings, unheard)
    try:
        yield created
    finally:
        created.close()


def producer(
    properties: Properties,
    on_delivery: Callable[..., None],
    transactional_id: str = "",
    *,
    batch_size: int = 0,
    is_slow: bool = False,
    on_throttle: Callable[..., None] | None = None,
) -> Producer:
    """The producer of results: keys spread as Java's clients do (murmur2), only failures reported.

    An idempotent producer of this client polls without a pause while more records wait behind those of a partition that
    are on the way (measured: a third of its CPU), so it is none at least once: one request at a time keeps the order.
    It makes batches, too, of what comes meanwhile: to linger would only wake the client once more (measured).

    In a transaction the client sends the next batch of a partition before the last one is acknowledged, where that is
    of less than five records. Where a broker refuses one and takes the next, as it has just become the leader and does
    not know this producer, the client holds both for safe, and the first is lost without a word (measured; librdkafka,
    issue 4134). So a large record has to leave alone (`leaves_alone`), or only one request is on its way at a time.

    A broker may vanish without a word, and so may a connection on which nothing was sent for long. Results that are on
    their way then must have time for a second try; with the client's own settings they fail as soon as the first one
    does (measured). No sooner: a broker may wait for another one that has just vanished, 9 s with KRaft, 18 s before.

    With `transactional_id` it works in transactions, whose records wait for the flush of the commit. One that a dead
    worker has left open keeps its offsets from the next owner, and all later results from whoever reads them committed.
    The broker looks for such only every 10 s (`transaction.abort.timed.out.transaction.cleanup.interval.ms`), so they
    must be over their time early. With commits in quick succession the broker may still be writing the end of the last
    transaction when the offsets of the next one come. The client would wait 100 ms before it sends them again, which
    shows in the latency (measured; Java's waits 20: KAFKA-5477). All other retries of this producer begin as early.
    `batch_size`: bytes that a batch has at most, unless it is one record; 0: as configured. `is_slow`: a transaction
    has not come to its end in time, so that it may take as long as the session.

    Raises KafkaException, ConfigError.
    """
    defaults: dict[str, Any] = {"linger.ms": 0, "max.in.flight": 1, "message.timeout.ms": RESULT_MS}
    defaults |= {"socket.timeout.ms": ANSWER_MS, "connections.max.idle.ms": IDLE_MS}
    defaults |= {"topic.metadata.propagation.max.ms": UNKNOWN_MS}
    transactional: dict[str, Any] = {}
    if transactional_id:
        timeout = transaction_timeout(properties, is_slow=is_slow)
        defaults = {"linger.ms": timeout // 2, "retry.backoff.ms": TRANSACTION_BACKOFF_MS}
        defaults |= {} if leaves_alone(properties, batch_size) else {"max.in.flight": 1}
        defaults |= {"topic.metadata.propagation.max.ms": min(UNKNOWN_MS, timeout // 2)}
        given = properties.get("transaction.timeout.ms", timeout)
        transactional = {"transactional.id": transactional_id, "transaction.timeout.ms": given}
        transactional["message.timeout.ms"] = timeout
        if on_throttle:
            transactional["throttle_cb"] = guarded(on_throttle, log_failure)
    configured = number(properties.get("batch.size"), batch_size)
    narrow = {"batch.size": min(batch_size, configured)} if batch_size else {}
    return Producer(
        {
            **defaults,
            "queue.buffering.max.messages": QUEUE_MESSAGES,
            "reconnect.backoff.max.ms": 2_000,
            **properties,
            "partitioner": "murmur2_random",
            "acks": "all",
            "delivery.report.only.error": True,
            "on_delivery": on_delivery,
            **narrow,
            **transactional,
        }
    )
