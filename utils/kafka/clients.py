"""Kafka's clients, from the settings and the row of a worker, and what their errors mean for a person."""

import hashlib
import logging
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from config import ConfigError, Settings, Trouble, is_secret
from models import Row
from utils.errors import guarded
from utils.kafka.answers import answered
from utils.kafka.limits import LARGEST_RECORD
from utils.logger import client_logger, logger

Properties = Mapping[str, Any]

QUIET = 10.0  # seconds until the same kind of trouble with a broker is logged again
_said: dict[str, float] = {}  # when each error was told last
_lines: dict[str, float] = {}  # and each line of a client's own
_MOST_LINES = 1_000  # that are remembered
METADATA_REFRESH_MS = 10_000  # until added partitions are noticed: before groups are given up whose parts are there
MAX_POLL_INTERVAL_MS = 300_000  # the client's default
SESSION_TIMEOUT_MS = 10_000  # after this time the partitions of a dead worker go to others
HEARTBEAT_MS = 2_000
TRANSACTION_TIMEOUT_MS = 5_000  # and its open transaction, which hides what comes behind it, is aborted
LONGEST_TRANSACTION_MS = 50_000  # less than the time without a turn of the loop after which a worker counts as dead
ANSWER_MS, RESULT_MS = 20_000, 60_000  # until results are sent once more, to another leader perhaps; and have failed
UNKNOWN_MS = 5_000  # until a topic counts as gone to which nothing was sent before: see `lacks_topic`
LARGE = 125_000  # bytes: at least eight records of less fit into a batch of the client
_OF_BATCHES = {"batch.size", "batch.num.messages", "message.max.bytes", "linger.ms", "queue.buffering.max.ms"}
IDLE_MS = 180_000  # until a connection is closed: balancers and NAT forget quiet ones after 4 minutes and more
QUEUE_MESSAGES, _QUEUE_KILOBYTES = 1_000_000, 1_048_576  # in the producer's queue at most; the second is the client's
TRANSACTION_BACKOFF_MS = 20  # until a request of a transaction that came too soon after another one is made again
_ASK_GROUP = 5.0  # seconds that it may take to say who its members are

# ---------------------------------------------------------------- Properties.


def client_properties(settings: Settings, row: Row) -> dict[str, Any]:
    """What all clients of a worker have in common: brokers, name, log, and the user's own properties."""
    return {
        "bootstrap.servers": row.bootstrap_servers,
        "client.id": row.consumer_name,
        # Else a producer's question for a topic that was deleted makes the brokers create it, with their defaults.
        "allow.auto.create.topics": False,
        **settings.kafka,
        "error_cb": guarded(log_error, _tell),
        "logger": _client_log(),
    }


def log_error(error: KafkaError) -> None:
    """The clients' `error_cb`: tells what is wrong and what to do. They mend by themselves what heals."""
    heals, line = explain(error)
    if _was_said(error.name(), _said):  # while a broker is away each client reports it many times a second
        return
    logger.log(logging.WARNING if heals else logging.ERROR, line, extra={"kafka_error": error.name()})


def _tell(error: Exception) -> None:
    logger.error("a callback of Kafka's client failed", exc_info=error)


unheard = guarded(lambda *_: None, _tell)
"""A callback for what nobody wants to know."""


@contextmanager
def named_properties(settings: Settings) -> Iterator[None]:
    """Create a client inside: a property that it does not take becomes a ConfigError that names its origin.

    UnavailableError: the machine has no thread or no memory left for a client.
    """
    try:
        yield
    except KafkaException as error:
        if error.args[0].code() == KafkaError._CRIT_SYS_RESOURCE:  # no property is to blame
            raise explain(error.args[0]).error() from None
        raise ConfigError(_refused_properties(error.args[0].str(), settings)) from None


_OF_ITSELF = re.compile('onfiguration property:? "')


def _refused_properties(reason: str, settings: Settings) -> list[str]:
    """A line for each of them: the client tells of the first alone."""
    # It may name a property by another one of its names (linger.ms): which one alone is refused so?
    given = settings.kafka.items()
    refusals = {name: _refusal(name, value) or "" for name, value in given}
    guilty = [name for name, refusal in refusals.items() if refusal == reason]
    guilty = guilty or [name for name in settings.kafka if name in reason]
    guilty = guilty or [name for name, value in given if reason.endswith(f": {value}")]
    label = " and ".join(_origin(name, settings) for name in guilty) or "KAFKA_… and metadatas.kafka"
    # Refused for itself: others alone may only lack one more.
    more = [name for name in refusals if name not in guilty and _OF_ITSELF.search(refusals[name])]
    lines = [(label, reason), *((_origin(name, settings), refusals[name]) for name in more)]
    secrets = [value for name, value in given if is_secret(name) and value]
    for secret in secrets:
        lines = [(where, told.replace(secret, "***")) for where, told in lines]
    return [f"{where}: Kafka's client refuses: {told.strip()}" for where, told in lines]


def _wrong_properties(settings: Settings) -> list[str]:
    """What the client says only in riddles: files that cannot be read, and a login that is not complete."""
    given, problems = settings.kafka, list[str]()
    for name, path in given.items():
        if name.endswith(".location") and "truststore" not in name and path not in {"", "probe"}:
            try:
                if not Path(path).is_dir():
                    Path(path).open("rb").close()
            except OSError as error:
                problems.append(f"{_origin(name, settings)}: {path} cannot be read: {error.strerror}")
    problems = problems or wrong_tls_files(settings)
    problems += _wrong_numbers(settings)
    problems += [*_too_long_a_stop(settings), *_too_rare_a_heartbeat(settings), *_not_in_a_transaction(settings)]
    if given.get("security.protocol", "").lower() in {"sasl_plaintext", "sasl_ssl"}:
        mechanism = given.get("sasl.mechanism") or given.get("sasl.mechanisms") or "GSSAPI"
        if mechanism.upper() == "GSSAPI":
            problems.append(
                "KAFKA_SASL_MECHANISM must be set: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER"
                " (this client has no GSSAPI, its default)"
            )
        elif mechanism.upper().startswith(("PLAIN", "SCRAM")) and "sasl.jaas.config" not in given:  # it refuses that
            lacking = [name for name in ("sasl.username", "sasl.password") if not given.get(name)]
            problems += [f"{_origin(name, settings)} must be set: sasl.mechanism is {mechanism}" for name in lacking]
        elif mechanism.upper() == "OAUTHBEARER" and not _gets_tokens(given):
            method = _origin("sasl.oauthbearer.method", settings)
            problems.append(f"{method} must be set to oidc: without it this client asks nobody for a token")
    return problems


def _gets_tokens(given: Properties) -> bool:
    """Else the client waits for a token, and makes no connection at all."""
    is_unsecured = given.get("enable.sasl.oauthbearer.unsecure.jwt", "false") != "false"
    return is_unsecured or str(given.get("sasl.oauthbearer.method")).lower() == "oidc"


def tls_files(settings: Settings) -> dict[str, str]:
    """A digest of each file by which the clients speak TLS, by its property. They read them when they are made."""
    names = [f"ssl.{each}.location" for each in ("ca", "certificate", "key", "keystore", "crl")]
    paths = {name: Path(settings.kafka[name]) for name in names if settings.kafka.get(name)}
    if not settings.kafka.get("security.protocol", "").lower().endswith("ssl"):
        return {}
    return {name: _digest(path) for name, path in paths.items()}


def _digest(path: Path) -> str:
    """Empty: it is a directory, or not there just now."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def wrong_tls_files(settings: Settings) -> list[str]:
    """Also that a key is not yet, or no longer, that of its certificate: they are written one after the other."""
    return [*_wrong_authority(settings), *_wrong_key(settings)]


def _wrong_numbers(settings: Settings) -> Iterator[str]:
    """The client takes what a text begins with for the number (`45s` for 45 ms), and a 0 before it for another one."""
    for name, value in settings.kafka.items():
        is_nearly_one = re.match(r"\s*[-+]?\d", value) and not re.fullmatch(r"-?(0|[1-9]\d*)", value)
        if is_nearly_one and _refusal(name, value) is None and _refusal(name, "x") is not None:
            yield f"{_origin(name, settings)} must be a whole number, not {value!r}"


def _wrong_authority(settings: Settings) -> Iterator[str]:
    """The client says "no certificate or crl found", and no file."""
    path = Path(settings.kafka.get("ssl.ca.location", ""))
    if path.is_file() and settings.kafka.get("security.protocol", "").lower().endswith("ssl"):
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
        except ssl.SSLError:
            yield f"{_origin('ssl.ca.location', settings)}: {path} holds no certificate in PEM"


def _too_long_a_stop(settings: Settings) -> Iterator[str]:
    """A rebalance may take as long as a stop, and the loop does not poll meanwhile."""
    most = _number(settings.kafka.get("max.poll.interval.ms"), MAX_POLL_INTERVAL_MS) / 1000
    if settings.shutdown_timeout >= most:
        is_of_row = settings.sources.get("SHUTDOWN_TIMEOUT") == "row"
        name = "metadatas.shutdown_timeout" if is_of_row else "SHUTDOWN_TIMEOUT"
        yield (
            f"{name} must be less than max.poll.interval.ms ({most:g} s), not {settings.shutdown_timeout:g}:"
            " the consumer group drives out a worker whose rebalance takes longer"
        )


def _too_rare_a_heartbeat(settings: Settings) -> Iterator[str]:
    """The client takes it, and the consumer group takes the worker for dead again and again."""
    session, name = session_timeout(settings.kafka), "heartbeat.interval.ms"
    heartbeat = _number(settings.kafka.get(name), HEARTBEAT_MS)
    if heartbeat >= session:
        yield (
            f"{_origin(name if name in settings.kafka else 'session.timeout.ms', settings)}: {name} ({heartbeat}) must"
            f" be less than session.timeout.ms ({session}), a third at best: the consumer group takes a worker for dead"
            " that it does not hear of for so long"
        )


def _not_in_a_transaction(settings: Settings) -> Iterator[str]:
    """The client makes the id of a member of these, and takes no other in a transaction ("member id is not safe")."""
    is_of_row = settings.sources.get("GROUP_INSTANCE_ID") == "row"
    place = "metadatas.group_instance_id" if is_of_row else "GROUP_INSTANCE_ID"
    given = {place: settings.group_instance_id, _origin("client.id", settings): settings.kafka.get("client.id", "")}
    for name, value in given.items():
        if settings.delivery == "exactly_once" and not (value.isascii() and value.isprintable()):
            yield f"{name} must be printable ASCII where DELIVERY is exactly_once, not {value!r}"


def _wrong_key(settings: Settings) -> Iterator[str]:
    """The client tells no file, and asks the terminal for a password that is missing."""
    cert, key, password = (
        settings.kafka.get(f"ssl.{name}", "") for name in ("certificate.location", "key.location", "key.password")
    )
    if not key or not settings.kafka.get("security.protocol", "").lower().endswith("ssl"):
        return
    named = f"{_origin('ssl.key.location', settings)}: {key}"
    if not cert:
        if not any(settings.kafka.get(f"ssl.{each}") for each in ("certificate.pem", "keystore.location")):
            yield f"{named} is the key of no certificate: set {_origin('ssl.certificate.location', settings)}, too"
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(cert, key, password=password)
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        if reason == "KEY_VALUES_MISMATCH":
            yield f"{named} is not the key of {_origin('ssl.certificate.location', settings)}, {cert}"
        elif "ENCRYPTED" in Path(key).read_text(errors="replace"):
            yield f"{named} cannot be opened with {_origin('ssl.key.password', settings)} ({reason})"
        else:
            yield f"{named} and {cert} must both be PEM ({reason})"


def _refusal(name: str, value: str) -> str | None:
    try:
        properties: dict[str, Any] = {name: value, "log_level": 0, "logger": _silent()}  # `debug` raises the level
        AdminClient(properties)
    except KafkaException as error:
        return str(error.args[0].str())
    return None


def _origin(name: str, settings: Settings) -> str:
    if settings.sources.get(name) == "row":
        return f"metadatas.kafka.{name}"
    return f"KAFKA_{name.replace('.', '_').upper()}"


class ClientLog:
    """All that a client asks of a logger: to be its callback, too. Logins in addresses are hidden."""

    def __init__(self, to: logging.Logger) -> None:
        self._to = to
        self.log = guarded(self._log, lambda _error: None)

    def _log(self, level: int, line: str, *arguments: object) -> None:
        self._to.log(level, line, *(without_login(each) if isinstance(each, str) else each for each in arguments))


def _client_log() -> ClientLog:
    client_logger.addFilter(_is_news)
    return ClientLog(client_logger)


def quiet_properties(settings: Settings, row: Row, on_error: Callable[[KafkaError], None]) -> dict[str, Any]:
    """Those of a client for a look: what it hears goes to `on_error`, and nothing to the log."""
    own = {"error_cb": guarded(on_error, lambda _error: None), "logger": _silent()}
    return {**client_properties(settings, row), **own}


def _silent() -> ClientLog:
    return ClientLog(logging.Logger("silent", logging.CRITICAL + 1))


def _is_news(record: logging.LogRecord) -> bool:
    """Not what is said elsewhere, or meant so.

    The client logs each failed connection twice, as a line and to `error_cb`, which says it with its cure. And our
    properties go to both clients: each warns of those that are the other one's. Some trouble it tells many times a
    second, of each broker for which it gets no thread, for example: the same line again is none for QUIET seconds.
    """
    text = record.getMessage()
    failed_connection = record.levelno >= logging.WARNING and text.startswith("FAIL ")
    if failed_connection or "property and will be ignored by this" in text:
        return False
    return record.levelno < logging.WARNING or not _was_said(text, _lines)


def _was_said(text: str, said: dict[str, float]) -> bool:
    """Whether it was within the last QUIET seconds; from now on it was."""
    now = time.monotonic()
    if now - said.get(text, -QUIET) < QUIET:
        return True
    if len(said) >= _MOST_LINES:
        said.clear()
    said[text] = now
    return False


# ---------------------------------------------------------------- Clients.

_TOO_LONG = (
    "transaction.timeout.ms ({timeout}) must not be above session.timeout.ms ({session}): who takes over from a dead"
    " worker would read past results of its transaction; lower KAFKA_TRANSACTION_TIMEOUT_MS or raise"
    " KAFKA_SESSION_TIMEOUT_MS (or `kafka` in the row's metadatas)"
)

_LONGER_THAN_WAITED_FOR = (
    "transaction.timeout.ms ({timeout}) must not be above {most}: the worker waits for a transaction no longer, and it"
    " would stay open; lower KAFKA_TRANSACTION_TIMEOUT_MS (or `kafka` in the row's metadatas)"
)

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
    heard = {"throttle_cb": guarded(on_throttle, _tell)} if on_throttle else {}
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
    if problems := _wrong_properties(settings):
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
            transactional["throttle_cb"] = guarded(on_throttle, _tell)
    configured = _number(properties.get("batch.size"), batch_size)
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


def leaves_alone(properties: Properties, batch_size: int = 0) -> int:
    """Bytes of a record of a transaction from which nothing else may be on its way with it: five of them might not be
    in one batch. 0: batches are not as they are by default, and only one request is on its way at a time.
    """
    return 0 if batch_size or _OF_BATCHES & properties.keys() else LARGE


def queue_room(properties: Properties) -> tuple[int, int]:
    """How many records the producer's queue takes, and how many bytes."""
    records = _number(properties.get("queue.buffering.max.messages"), QUEUE_MESSAGES)
    kilobytes = _number(properties.get("queue.buffering.max.kbytes"), _QUEUE_KILOBYTES)
    return records or QUEUE_MESSAGES, kilobytes * 1024  # 0 records: no limit


def largest_record(properties: Properties) -> int:
    """Bytes of a record that the producer takes at most, as these properties set it."""
    return _number(properties.get("message.max.bytes"), LARGEST_RECORD)


def compresses(properties: Properties) -> bool:
    """Whether the producer does, by these properties."""
    names = "compression.type", "compression.codec"
    return any(properties.get(name, "none") != "none" for name in names)


def session_timeout(properties: Properties) -> int:
    """In ms, as these properties set it."""
    return _number(properties.get("session.timeout.ms"), SESSION_TIMEOUT_MS)


def transaction_timeout(properties: Properties, *, is_slow: bool) -> int:
    """In ms. Raises ConfigError where it is set too high."""
    session = session_timeout(properties)
    default = min(session, LONGEST_TRANSACTION_MS if is_slow else TRANSACTION_TIMEOUT_MS)
    timeout = _number(properties.get("transaction.timeout.ms"), default)
    if timeout > session:
        raise ConfigError([_TOO_LONG.format(timeout=timeout, session=session)])
    if timeout > LONGEST_TRANSACTION_MS:
        raise ConfigError([_LONGER_THAN_WAITED_FOR.format(timeout=timeout, most=LONGEST_TRANSACTION_MS)])
    return timeout


def _number(value: object, default: int) -> int:
    """What is no number the client refuses, and names, when it is given it."""
    return int(str(value)) if str(value).isdecimal() else default


# ---------------------------------------------------------------- What may be wrong with a broker.

_LOGIN = (
    "check KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD (or `kafka` in the row's metadatas);"
    " a worker reads secrets at its start: restart one whose secret was changed since"
)
_TOKEN_LOGIN = "check KAFKA_SASL_OAUTHBEARER_CLIENT_ID, …_CLIENT_SECRET and …_SCOPE (or `kafka` in the row's metadatas)"
PROTOCOL = "KAFKA_SECURITY_PROTOCOL (or security.protocol in `kafka` of the row's metadatas)"
SERVERS = "if this stays, check kafka_bootstrap_server of the row"
_LISTENERS = (
    "if this stays, start that broker; or, if it runs, set advertised.listeners of the broker to an address that can be"
    " reached from here, or kafka_bootstrap_server of the row to a listener of the brokers that advertises one"
)

LOGIN_ERRORS = {
    KafkaError._AUTHENTICATION,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.UNSUPPORTED_SASL_MECHANISM,
    KafkaError.ILLEGAL_SASL_STATE,
}
RIGHTS_ERRORS = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
}
_OF_ONE_RECORD = {
    KafkaError.INVALID_MSG,
    KafkaError.INVALID_MSG_SIZE,
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.RECORD_LIST_TOO_LARGE,
    KafkaError.INVALID_RECORD,
    KafkaError.POLICY_VIOLATION,
    KafkaError.UNSUPPORTED_FOR_MESSAGE_FORMAT,
    KafkaError._BAD_MSG,
}
_REFUSED_SETTINGS = {
    KafkaError.INVALID_SESSION_TIMEOUT: "KAFKA_SESSION_TIMEOUT_MS must lie between group.min.session.timeout.ms and"
    " group.max.session.timeout.ms of the brokers",
    KafkaError.INVALID_TRANSACTION_TIMEOUT: "KAFKA_TRANSACTION_TIMEOUT_MS must not be above transaction.max.timeout.ms"
    " of the brokers",
}
# The protocol calls them retriable. The client sets that flag on errors of transactions only.
HEALING = {
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.BROKER_NOT_AVAILABLE,
    KafkaError.REPLICA_NOT_AVAILABLE,
    KafkaError.NETWORK_EXCEPTION,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.NOT_ENOUGH_REPLICAS,
    KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    KafkaError.NOT_CONTROLLER,
    KafkaError.CONCURRENT_TRANSACTIONS,
    KafkaError.KAFKA_STORAGE_ERROR,
    KafkaError.LISTENER_NOT_FOUND,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError.UNSTABLE_OFFSET_COMMIT,
    KafkaError.THROTTLING_QUOTA_EXCEEDED,
}
CONNECTION_ERRORS = {
    KafkaError._TRANSPORT,
    KafkaError._RESOLVE,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TIMED_OUT,
    KafkaError._TIMED_OUT_QUEUE,
    KafkaError._WAIT_COORD,
}


_NOT_CONNECTED = "Connect(ion)? |resolve |setup "  # with a blank, which no name of a broker holds


def _explain_token(reason: str) -> Trouble:
    """The client could not get a token for its login (OIDC). By the answer's error (RFC 6749, 5.2), if one came."""
    if re.search("invalid_|unauthorized_|unsupported_|access_denied", reason):
        line = f"the token endpoint refuses the login: {_TOKEN_LOGIN} ({reason})"
        return Trouble(heals=False, line=line)
    endpoint = "check KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL (or `kafka` in the row's metadatas)"
    return Trouble(heals=True, line=f"no token for the login to Kafka can be had: if this stays, {endpoint} ({reason})")


def explain(error: KafkaError) -> Trouble:
    """What an error of a client or a broker means for the person who set them up."""
    code, reason = error.code(), plain(error.str())
    if code == KafkaError._AUTHENTICATION and reason.startswith("Failed to acquire SASL OAUTHBEARER token"):
        return _explain_token(reason)
    if code in LOGIN_ERRORS and "Request not valid in current SASL state" in reason:
        return Trouble(heals=False, line=f"Kafka wants no login there: set {PROTOCOL} without SASL_ ({reason})")
    if code in LOGIN_ERRORS and "OAUTHBEARER" in reason:
        return Trouble(heals=False, line=f"Kafka refuses the login: {_TOKEN_LOGIN} ({reason})")
    if code in LOGIN_ERRORS:
        return Trouble(heals=False, line=f"Kafka refuses the login: {_LOGIN} ({reason})")
    if code in RIGHTS_ERRORS:
        return Trouble(heals=False, line=f"Kafka forbids it: grant the right; main.py check names it ({reason})")
    if code in _REFUSED_SETTINGS:
        return Trouble(heals=False, line=f"Kafka refuses a setting: {_REFUSED_SETTINGS[code]} ({reason})")
    if "Invalid response size" in reason:  # the client advises to take larger ones: it has read text as a number
        told = reason.partition("): increase")[0]
        return Trouble(False, f"what answers is no Kafka: check kafka_bootstrap_server of the row ({told}))")
    if ended_in_handshake(error):
        ended = f"Kafka ends the connection while TLS begins: if this stays, check {PROTOCOL}"
        return Trouble(heals=True, line=f"{ended} ({reason})")
    if code == KafkaError._SSL or "certificate verify failed" in reason or "SSL alert number" in reason:
        return tls_fails(reason)
    if code in CONNECTION_ERRORS and (address := advertised(error)) and re.search(_NOT_CONNECTED, reason):
        return not_reached([address], reason)
    if code in CONNECTION_ERRORS:
        return Trouble(heals=True, line=f"Kafka cannot be reached: {SERVERS} ({reason})")
    if code == KafkaError._CRIT_SYS_RESOURCE:
        limits = "raise the limits of memory and of threads (pids) here"
        return Trouble(
            heals=True, line=f"Kafka's client gets no thread or no memory: if this stays, {limits} ({reason})"
        )
    if (error.retriable() or code in HEALING) and not error.fatal():
        return Trouble(heals=True, line=f"Kafka is not ready ({reason})")
    return Trouble(heals=False, line=f"Kafka: {error.name()} ({reason})")


@contextmanager
def explained() -> Iterator[None]:
    """For a command: what Kafka's client raises leaves as a ConfigError, or as UnavailableError where it may heal."""
    try:
        yield
    except KafkaException as error:
        raise explain(error.args[0]).error() from error


def tls_fails(reason: str) -> Trouble:
    heals = _TOO_EARLY in reason  # for a machine that has just started, before its clock was set
    return Trouble(heals, f"TLS with the broker fails: {_tls_cure(reason)} ({reason})")


_TOO_EARLY = "not yet valid"
_AT_THE_START = "where it was renewed, a worker takes it within CONFIG_REFRESH; where that is 0, restart it"


def _tls_cure(reason: str) -> str:
    """By what OpenSSL says. All other alerts come from the broker, and are about the certificate of this worker.

    The reason names the broker, too, which may be called `kafka-alerts`.
    """
    if re.search("alert protocol version|unsupported protocol", reason):
        return "it has no version of TLS that this worker takes, mostly because it is too old: upgrade it"
    if _TOO_EARLY in reason:
        return "its certificate is not valid yet: set the clock of this machine, or wait"
    if re.search(r"\b(ssl|tls)[\w/]* alert|SSL alert number", reason):
        own = "KAFKA_SSL_CERTIFICATE_LOCATION and KAFKA_SSL_KEY_LOCATION"
        return f"it wants a certificate of this worker, or refuses its own: check {own}; {_AT_THE_START}"
    if "certificate has expired" in reason:
        return "its certificate, or that of who signed it, has expired: it needs another one"
    if re.search("(host ?name|address) mismatch", reason, re.IGNORECASE):
        return "its certificate is for another name than kafka_bootstrap_server of the row, or than it advertises"
    return f"check KAFKA_SSL_CA_LOCATION, or KAFKA_SSL_CA_PEM; {_AT_THE_START}"


def wrong_session_timeout(timeout: int) -> str:
    """What is said of one that the brokers do not take."""
    return f"Kafka refuses a setting: {_REFUSED_SETTINGS[KafkaError.INVALID_SESSION_TIMEOUT]} ({timeout})"


def ended_in_handshake(error: KafkaError) -> bool:
    """So ends a connection for TLS to a listener without it, and to a broker that is shut down at that moment: the
    client guesses the first.
    """
    return "PLAINTEXT broker listener" in error.str()


def advertised(error: KafkaError) -> str:
    """The address of the broker that this error is about, where a broker has told it; where the row has, nothing."""
    found = re.match(r"(?:\w+://)?(\S+:\d+)/\d+: ", error.str())
    return found[1] if found else ""


def not_reached(addresses: Sequence[str], reason: str, or_else: str = "") -> Trouble:
    """Brokers have told a client that it is to reach them there, and it cannot. `or_else`: a further cure."""
    there, cures = ", ".join(addresses), f"{_LISTENERS}{or_else}"
    return Trouble(True, f"Kafka advertises {there}, which cannot be reached from here: {cures} ({reason})")


REPLACED = (
    "GROUP_INSTANCE_ID: another worker of this consumer has the same one and has taken this one's place;"
    " give each worker its own in its environment, such as the name of its pod, not all of them one in the row"
)
_FENCED = KafkaError(KafkaError.FENCED_INSTANCE_ID).str()


def is_replaced(error: BaseException | None) -> bool:
    """Whether this came of a worker with our GROUP_INSTANCE_ID: joining again would drive that one out, and so on.

    By the text, for a fatal error of the client carries no other code than its own.
    """
    return any(_FENCED in each.str() for each in _reasons(error))


def cure_of(error: BaseException | None) -> str:
    """What somebody must do before starting again is of use (but see `is_forbidden`); nothing where it may heal."""
    if is_replaced(error):
        return REPLACED
    hopeless = RIGHTS_ERRORS | _REFUSED_SETTINGS.keys()  # a login was tried at the start, and may fail for a moment
    return next((explain(each).line for each in _reasons(error) if each.code() in hopeless), "")


def is_forbidden(error: BaseException | None) -> bool:
    """Whether a right is missing: for a moment, perhaps, for it is being replaced."""
    return any(each.code() in RIGHTS_ERRORS for each in _reasons(error))


def concerns_all(error: BaseException | None) -> bool:
    """Whether no record is to blame: Kafka has refused none. What the loop itself cannot handle accuses nobody."""
    return {each.code() for each in _reasons(error)}.isdisjoint(_OF_ONE_RECORD)


def lacks_topic(error: BaseException | None) -> bool:
    """Whether a record went to a topic that is not there, or its end was asked for: somebody has deleted it.

    The client's own 30 s until it says so are longer than a transaction, which would end for want of time.
    Of an offset that is asked for it says that the partition is unknown.
    """
    gone = {KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION, KafkaError.UNKNOWN_TOPIC_OR_PART}
    return any(each.code() in gone for each in _reasons(error))


def _reasons(error: BaseException | None) -> Iterator[KafkaError]:
    """What Kafka's client has said of this error and of what it came of."""
    while error is not None:
        if isinstance(error, KafkaException):
            yield error.args[0]
        error = error.__cause__


def is_place_taken(admin: AdminClient, settings: Settings, member_id: str) -> bool:
    """Whether the consumer group has another member with our GROUP_INSTANCE_ID. False where nobody can tell."""
    ours = member_ids(admin, settings) if member_id else None
    return any(each != member_id for each in ours or ())


def is_member(admin: AdminClient, settings: Settings) -> bool:
    """Whether the consumer group has a member with our GROUP_INSTANCE_ID. True where nobody can tell."""
    return member_ids(admin, settings) != []


def member_ids(admin: AdminClient, settings: Settings) -> list[str] | None:
    """Of members of the consumer group with our GROUP_INSTANCE_ID. None: nobody can tell."""
    ours = settings.group_instance_id
    if not ours:
        return []
    try:
        [asked] = admin.describe_consumer_groups([settings.consumer_name], request_timeout=_ASK_GROUP).values()
        members = answered(asked).members
    except KafkaException as error:
        logger.warning("the consumer group cannot be asked who has our GROUP_INSTANCE_ID", extra={"error": str(error)})
        return None
    return [each.member_id for each in members if each.group_instance_id == ours]


def group_state(properties: Properties, settings: Settings) -> str:
    """As Kafka calls it, in capitals; empty where nobody can tell. Asked by a client of its own."""
    try:
        admin = AdminClient(dict(properties))
        [asked] = admin.describe_consumer_groups([settings.consumer_name], request_timeout=_ASK_GROUP).values()
        return str(answered(asked).state.name)
    except KafkaException:
        return ""


def plain(reason: str) -> str:
    """The client's text without its own state: `127.0.0.1:9092: Connect to … failed: Connection refused`."""
    return without_login(re.sub(r" \(after \d+ms in state [^)]*\)", "", reason).replace("/bootstrap:", ":").strip())


def without_login(text: str) -> str:
    """As `https://***@host/…`, where an address in it holds a user and a password."""
    return re.sub(r"(?<=://)[^\s/@\"]+@", "***@", text)
