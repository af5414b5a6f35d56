"""What properties of Kafka's clients set, where they are given, and where they are not: by our defaults."""

from collections.abc import Mapping
from typing import Any

from config import ConfigError, Settings
from utils.kafka.limits import LARGEST_RECORD

Properties = Mapping[str, Any]
MAX_POLL_INTERVAL_MS = 300_000  # the client's default
SESSION_TIMEOUT_MS = 10_000  # after this time the partitions of a dead worker go to others
HEARTBEAT_MS = 2_000
TRANSACTION_TIMEOUT_MS = 5_000  # and its open transaction, which hides what comes behind it, is aborted
LONGEST_TRANSACTION_MS = 50_000  # less than the time without a turn of the loop after which a worker counts as dead
LARGE = 125_000  # bytes: at least eight records of less fit into a batch of the client
_OF_BATCHES = {"batch.size", "batch.num.messages", "message.max.bytes", "linger.ms", "queue.buffering.max.ms"}
QUEUE_MESSAGES, _QUEUE_KILOBYTES = 1_000_000, 1_048_576  # in the producer's queue at most; the second is the client's
_TOO_LONG = (
    "transaction.timeout.ms ({timeout}) must not be above session.timeout.ms ({session}): who takes over from a dead"
    " worker would read past results of its transaction; lower KAFKA_TRANSACTION_TIMEOUT_MS or raise"
    " KAFKA_SESSION_TIMEOUT_MS (or `kafka` in the row's metadatas)"
)
_LONGER_THAN_WAITED_FOR = (
    "transaction.timeout.ms ({timeout}) must not be above {most}: the worker waits for a transaction no longer, and it"
    " would stay open; lower KAFKA_TRANSACTION_TIMEOUT_MS (or `kafka` in the row's metadatas)"
)


def leaves_alone(properties: Properties, batch_size: int = 0) -> int:
    """Bytes of a record of a transaction from which nothing else may be on its way with it: five of them might not be
    in one batch. 0: batches are not as they are by default, and only one request is on its way at a time.
    """
    return 0 if batch_size or _OF_BATCHES & properties.keys() else LARGE


def queue_room(properties: Properties) -> tuple[int, int]:
    """How many records the producer's queue takes, and how many bytes."""
    records = number(properties.get("queue.buffering.max.messages"), QUEUE_MESSAGES)
    kilobytes = number(properties.get("queue.buffering.max.kbytes"), _QUEUE_KILOBYTES)
    return records or QUEUE_MESSAGES, kilobytes * 1024  # 0 records: no limit


def largest_record(properties: Properties) -> int:
    """Bytes of a record that the producer takes at most, as these properties set it."""
    return number(properties.get("message.max.bytes"), LARGEST_RECORD)


def compresses(properties: Properties) -> bool:
    """Whether the producer does, by these properties."""
    names = "compression.type", "compression.codec"
    return any(properties.get(name, "none") != "none" for name in names)


def session_timeout(properties: Properties) -> int:
    """In ms, as these properties set it."""
    return number(properties.get("session.timeout.ms"), SESSION_TIMEOUT_MS)


def transaction_timeout(properties: Properties, *, is_slow: bool) -> int:
    """In ms. Raises ConfigError where it is set too high."""
    session = session_timeout(properties)
    default = min(session, LONGEST_TRANSACTION_MS if is_slow else TRANSACTION_TIMEOUT_MS)
    timeout = number(properties.get("transaction.timeout.ms"), default)
    if timeout > session:
        raise ConfigError([_TOO_LONG.format(timeout=timeout, session=session)])
    if timeout > LONGEST_TRANSACTION_MS:
        raise ConfigError([_LONGER_THAN_WAITED_FOR.format(timeout=timeout, most=LONGEST_TRANSACTION_MS)])
    return timeout


def number(value: object, default: int) -> int:
    """What is no number the client refuses, and names, when it is given it."""
    return int(str(value)) if str(value).isdecimal() else default


def origin(name: str, settings: Settings) -> str:
    """Where a user has set it, or would: a variable of the environment, a name in defaults.py, or a part of the row."""
    if settings.sources.get(name) == "row":
        return f"metadatas.kafka.{name}"
    place = " (in defaults.py)" if settings.sources.get(name) == "defaults.py" else ""
    return f"KAFKA_{name.replace('.', '_').upper()}{place}"
