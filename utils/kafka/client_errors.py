"""What an error of Kafka's clients, or of a broker, means for a person: whether it heals, and what to do.

No client, no settings and no log: lines for those who have them.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from confluent_kafka import KafkaError, KafkaException

from config import Trouble

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


def plain(reason: str) -> str:
    """The client's text without its own state: `127.0.0.1:9092: Connect to … failed: Connection refused`."""
    return without_login(re.sub(r" \(after \d+ms in state [^)]*\)", "", reason).replace("/bootstrap:", ":").strip())


def without_login(text: str) -> str:
    """As `https://***@host/…`, where an address in it holds a user and a password."""
    return re.sub(r"(?<=://)[^\s/@\"]+@", "***@", text)
