"""Which properties of Kafka's clients are wrong, by their names in the environment or the row.

What a client refuses, what it says only in riddles, and what it takes and should not. Asked of the client itself where
it can tell; no broker is asked.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from config import NOT_FOR_YOURS, ConfigError, Settings, is_secret
from utils.kafka import tls_files
from utils.kafka.client_errors import explain
from utils.kafka.client_log import silent
from utils.kafka.properties import HEARTBEAT_MS, MAX_POLL_INTERVAL_MS, Properties, number, origin, session_timeout


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
    label = " and ".join(origin(name, settings) for name in guilty) or "KAFKA_… and metadatas.kafka"
    # Refused for itself: others alone may only lack one more.
    more = [name for name in refusals if name not in guilty and _OF_ITSELF.search(refusals[name])]
    lines = [(label, reason), *((origin(name, settings), refusals[name]) for name in more)]
    secrets = [value for name, value in given if is_secret(name) and value]
    for secret in secrets:
        lines = [(where, told.replace(secret, "***")) for where, told in lines]
    return [f"{where}: Kafka's client refuses: {told.strip()}{_hint(where, told)}" for where, told in lines]


def _hint(where: str, told: str) -> str:
    """Some have a KAFKA_TOPIC of their own."""
    return NOT_FOR_YOURS if where.startswith("KAFKA_") and told.startswith("No such configuration property") else ""


def wrong_properties(settings: Settings) -> list[str]:
    """What the client says only in riddles, and what it takes and should not."""
    return [
        *(list(_unreadable_files(settings)) or tls_files.problems(settings)),
        *_wrong_numbers(settings),
        *_too_long_a_stop(settings),
        *_too_rare_a_heartbeat(settings),
        *_not_in_a_transaction(settings),
        *_incomplete_login(settings),
    ]


def _unreadable_files(settings: Settings) -> Iterator[str]:
    for name, path in settings.kafka.items():
        if name.endswith(".location") and "truststore" not in name and path not in {"", "probe"}:
            try:
                if not Path(path).is_dir():
                    Path(path).open("rb").close()
            except OSError as error:
                yield f"{origin(name, settings)}: {path} cannot be read: {error.strerror}"


def _incomplete_login(settings: Settings) -> Iterator[str]:
    given = settings.kafka
    if given.get("security.protocol", "").lower() not in {"sasl_plaintext", "sasl_ssl"}:
        return
    mechanism = given.get("sasl.mechanism") or given.get("sasl.mechanisms") or "GSSAPI"
    if mechanism.upper() == "GSSAPI":
        yield (
            "KAFKA_SASL_MECHANISM must be set: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER"
            " (this client has no GSSAPI, its default)"
        )
    elif mechanism.upper().startswith(("PLAIN", "SCRAM")) and "sasl.jaas.config" not in given:  # it refuses that
        for name in ("sasl.username", "sasl.password"):
            if not given.get(name):
                yield f"{origin(name, settings)} must be set: sasl.mechanism is {mechanism}"
    elif mechanism.upper() == "OAUTHBEARER" and not _gets_tokens(given):
        method = origin("sasl.oauthbearer.method", settings)
        yield f"{method} must be set to oidc: without it this client asks nobody for a token"


def _gets_tokens(given: Properties) -> bool:
    """Else the client waits for a token, and makes no connection at all."""
    is_unsecured = given.get("enable.sasl.oauthbearer.unsecure.jwt", "false") != "false"
    return is_unsecured or str(given.get("sasl.oauthbearer.method")).lower() == "oidc"


def _wrong_numbers(settings: Settings) -> Iterator[str]:
    """The client takes what a text begins with for the number (`45s` for 45 ms), and a 0 before it for another one."""
    for name, value in settings.kafka.items():
        is_nearly_one = re.match(r"\s*[-+]?\d", value) and not re.fullmatch(r"-?(0|[1-9]\d*)", value)
        if is_nearly_one and _refusal(name, value) is None and _refusal(name, "x") is not None:
            yield f"{origin(name, settings)} must be a whole number, not {value!r}"


def _too_long_a_stop(settings: Settings) -> Iterator[str]:
    """A rebalance may take as long as a stop, and the loop does not poll meanwhile."""
    most = number(settings.kafka.get("max.poll.interval.ms"), MAX_POLL_INTERVAL_MS) / 1000
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
    heartbeat = number(settings.kafka.get(name), HEARTBEAT_MS)
    if heartbeat >= session:
        yield (
            f"{origin(name if name in settings.kafka else 'session.timeout.ms', settings)}: {name} ({heartbeat}) must"
            f" be less than session.timeout.ms ({session}), a third at best: the consumer group takes a worker for dead"
            " that it does not hear of for so long"
        )


def _not_in_a_transaction(settings: Settings) -> Iterator[str]:
    """The client makes the id of a member of these, and takes no other in a transaction ("member id is not safe")."""
    is_of_row = settings.sources.get("GROUP_INSTANCE_ID") == "row"
    place = "metadatas.group_instance_id" if is_of_row else "GROUP_INSTANCE_ID"
    given = {place: settings.group_instance_id, origin("client.id", settings): settings.kafka.get("client.id", "")}
    for name, value in given.items():
        if settings.delivery == "exactly_once" and not (value.isascii() and value.isprintable()):
            yield f"{name} must be printable ASCII where DELIVERY is exactly_once, not {value!r}"


def _refusal(name: str, value: str) -> str | None:
    try:
        properties: dict[str, Any] = {name: value, "log_level": 0, "logger": silent()}  # `debug` raises the level
        AdminClient(properties)
    except KafkaException as error:
        return str(error.args[0].str())
    return None
