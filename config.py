"""Settings: the defaults of this file, yours (defaults.py) over them, the environment over both, and over all the row's
`metadatas`. Edit defaults.py and not this file.

Nothing is read at import. What is wrong is named all at once, by variable and by key of the row.
"""

import difflib
import json
import math
import os
import re
import ssl
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

# ---------------------------------------------------------------- How a setting is read.
T = TypeVar("T")
EX_CONFIG = 78  # sysexits.h: starting again is no use before somebody has changed the configuration
CONSUMER_NAME = r"[A-Za-z0-9._-]{1,200}"  # the rule of such a name; deploy/frame/copy.py has it, too


class ConfigError(Exception):
    """The configuration is wrong and stays so until somebody changes it: one line for each problem."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class UnavailableError(Exception):
    """Something outside is not there yet and may heal by itself: worth waiting for. The text is one line."""


class NeedsNewProcessError(UnavailableError):
    """It may heal, but this process cannot try it again: it ends with 1, and who has started it starts it again."""


class Trouble(NamedTuple):
    """Why something outside cannot be used: whether it may heal by itself, and one line that names the cure."""

    heals: bool
    line: str

    def error(self) -> Exception:
        return UnavailableError(self.line) if self.heals else ConfigError([self.line])


BOM = "\ufeff"  # the byte order mark: editors and shells of Windows put it before a text in UTF-8
LEAST_MEMORY = 65_536  # bytes of MAX_PENDING_BYTES below which there is a warning
LONGEST = 1e9  # seconds: locks and dates overflow some time above that


def seconds(*, zero: bool = False) -> Callable[[object], float]:
    """Above 0, or with `zero` from 0 on."""

    def parse(raw: object) -> float:
        try:
            number = math.nan if isinstance(raw, bool) else float(raw)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if LONGEST <= number < math.inf:
            raise ValueError("a number of seconds below 1e9, which are 31 years")
        if math.isfinite(number) and (number > 0 or (zero and number == 0)):
            return number
        raise ValueError("a number of seconds, 0 or more" if zero else "a number of seconds above 0")

    return parse


def whole(unit: str, *, least: int, most: int = 2**63 - 1) -> Callable[[object], int]:
    def parse(raw: object) -> int:
        try:
            number = int(raw) if isinstance(raw, int | str) and not isinstance(raw, bool) else least - 1
        except ValueError:
            number = least - 1
        if least <= number <= most:
            return number
        raise ValueError(f"a whole {unit}, at least {least}" + (f", at most {most}" if most < 2**63 - 1 else ""))

    return parse


def text(pattern: str = r"[^\x00-\x1f]*", meaning: str = "one line of text") -> Callable[[object], str]:
    def parse(raw: object) -> str:
        if isinstance(raw, str) and re.fullmatch(pattern, raw.strip()):
            return raw.strip()
        raise ValueError(meaning)

    return parse


# What a key or a certificate in PEM begins with, that in base64 once more, and a key without such a first line.
_KEY = r"-----BEGIN|LS0tLS1CRUdJT|M(I[GHI]|HcC|C4C)[\w+/=]{60}"


def file_name() -> Callable[[object], str]:
    """Not what stands in the file: it would be shown, as a name is."""
    return text(rf"(?!.*({_KEY}))[^\x00-\x1f]*", "the name of a file")


def part_of_url(without: str = "") -> Callable[[object], str]:
    """Not the whole of it: its password would be shown, as a host is and a name. `without`: what is not in it, too."""
    return text(rf"((?!://)[^\x00-\x1f{without}])*", "one line of text, and no URL (that goes into DATABASE_URL)")


def one_of(*choices: str, **synonyms: str) -> Callable[[object], str]:
    """One of these, in whatever case. `synonyms`: other names, and the choice that each stands for."""
    known = {name.lower(): choice for name, choice in {**dict(zip(choices, choices, strict=True)), **synonyms}.items()}

    def parse(raw: object) -> str:
        if isinstance(raw, str) and raw.strip().lower() in known:
            return known[raw.strip().lower()]
        raise ValueError(" or ".join(choices))

    return parse


def password(raw: object) -> str:
    if isinstance(raw, str):
        return raw.rstrip("\r\n")  # a secret that was read from a file often ends with one
    raise ValueError("text")


def database_url(raw: object) -> str:
    if isinstance(raw, str) and (not raw.strip() or _url(raw.strip())):
        return raw.strip()
    raise ValueError("text")


_MOST_NAMES, _LONGEST_NAME = 200, 60  # that may be a setting misspelled: to look at one takes some 0.5 ms
# By what a URL begins with, whatever driver it names behind a +: the answers to errors are those of these two.
_DRIVERS = {"mysql": "mysql+pymysql", "mariadb": "mysql+pymysql"}
_DRIVERS |= {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "sqlite": "sqlite"}


def _url(raw: str) -> URL:
    """The URL with the one driver that this frame knows. ValueError says what it must be."""
    try:
        url = make_url(raw)
    except (ArgumentError, ValueError):
        raise ValueError("a URL such as mysql://user:password@host:3306/database") from None
    url = url.set(drivername=_DRIVERS.get(url.get_backend_name(), url.drivername))
    backend = url.get_backend_name()
    if backend not in {"mysql", "postgresql", "sqlite"}:
        raise ValueError("a URL that begins with mysql://, mariadb://, postgresql:// or sqlite:///")
    if backend != "sqlite" and "@" in f"{url.host}{url.database}":
        raise ValueError("a URL whose password is percent-encoded (@ is %40), or set DB_PASSWORD and the others")
    if not 1 <= (url.port or 1) <= 65535:
        raise ValueError("a URL whose port is at most 65535")
    if not url.database or url.database == ":memory:":
        raise ValueError("a URL that names the database after the host (SQLite: sqlite:///file)")
    return url


def setting(
    default: T, parse: Callable[[object], T], *, secret: bool = False, row: bool = True, empty: bool = False
) -> T:
    """Declare one setting: its default, and `parse`, whose ValueError completes the sentence "NAME must be …".

    secret: never shown. row: the row's metadatas may set it. empty: an empty variable is a value of its own;
    otherwise it counts as not set.
    """
    facts = {"parse": parse, "secret": secret, "row": row, "empty": empty}
    return field(default=default, repr=not secret, metadata=facts)


# ---------------------------------------------------------------- The settings.
@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting, validated. Its variable is the name in capitals.

    A new one is a line here and in docs/settings.md; and in Calls.fit where a change of it must make new calls.
    """

    # The consumer that this worker belongs to: its row, its consumer group in Kafka, and the base of topic names.
    consumer_name: str = setting(
        "",
        text(CONSUMER_NAME, "the name of this worker's row, 1 to 200 characters of A-Z a-z 0-9 . _ -"),
        row=False,
    )
    db_driver: str = setting("mysql", one_of("mysql", "postgresql", mariadb="mysql", postgres="postgresql"), row=False)
    db_host: str = setting("localhost", part_of_url(without="@"), row=False)
    # With DB_DRIVER postgresql 5432, where nobody says another one.
    db_port: int = setting(3306, whole("number", least=1, most=65535), row=False)
    db_name: str = setting("", part_of_url(), row=False)
    db_user: str = setting("", part_of_url(), row=False)
    db_password: str = setting("", password, row=False, secret=True, empty=True)
    # Instead of the six above: mysql://…, mariadb://…, postgresql://…, sqlite:///file
    database_url: str = setting("", database_url, row=False, secret=True)
    # Files in PEM, for either way: who signed the server's certificate (`system`: those whom this machine trusts), and
    # the certificate of this worker with its key. With a CA the certificate and the name of the server are verified.
    db_ssl_ca: str = setting("", file_name(), row=False)
    db_ssl_cert: str = setting("", file_name(), row=False)
    db_ssl_key: str = setting("", file_name(), row=False)
    # verify-ca leaves out the server's name, require takes any certificate. Empty: the strictest that the files allow,
    # and without files what the drivers do: TLS where the server offers it. disable: for servers with a TLS too old.
    db_ssl_mode: str = setting(
        "", text("(verify-full|verify-ca|require|disable)?", "verify-full, verify-ca, require or disable"), row=False
    )
    log_level: str = setting(
        "INFO", one_of("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", WARN="WARNING", FATAL="CRITICAL")
    )
    # Seconds that a message waits for its other parts before it is given up.
    message_timeout: float = setting(60.0, seconds())
    delivery: str = setting("at_least_once", one_of("at_least_once", "exactly_once"))
    # Which of the records that lie in Kafka comes first: the one that its client has fetched first, or the oldest.
    read_order: str = setting("fetched", one_of("fetched", "time"))
    # Seconds between two commits; with exactly_once also the most that a result waits.
    commit_interval: float = setting(0.1, seconds())
    # Calls of process() at once: in as many threads, or coroutines where it is `async def`.
    concurrency: int = setting(1, whole("number of calls", least=1, most=10_000))
    # Seconds after which a call of process() has failed; 0: it may take for ever.
    process_timeout: float = setting(300.0, seconds(zero=True))
    # Calls of process() with a message before that becomes a dead letter.
    process_attempts: int = setting(5, whole("number of calls", least=1))
    # Seconds before the second attempt; each further wait is twice as long, up to a minute.
    retry_backoff: float = setting(1.0, seconds())
    # Bytes of messages held in memory: waiting, in process() and not yet committed.
    max_pending_bytes: int = setting(268_435_456, whole("number of bytes", least=8))
    # Where what fails is kept; empty: nowhere, it is logged and discarded.
    dlq_topic: str = setting(
        "<consumer_name>-dlq",
        text(
            r"([A-Za-z0-9._-]|<consumer_name>){0,249}",
            "the name of a topic, in which <consumer_name> stands for that of this consumer, or empty",
        ),
        empty=True,
    )
    # Seconds between two looks at the row: a change is applied without a restart; 0: none is.
    config_refresh: float = setting(30.0, seconds(zero=True))
    # A name that stays with this instance over restarts (static membership); empty: dynamic.
    group_instance_id: str = setting("", text(), empty=True)
    # Where /health/live and /health/ready are answered; 0.0.0.0: for all (the container's way). Port 0: any free one.
    http_host: str = setting("127.0.0.1", text(), row=False)
    http_port: int = setting(0, whole("number", least=0, most=65535), row=False)
    # Public names, comma separated, by which the status page is reached (a proxy's, say).
    http_allowed_hosts: str = setting("", text(r"[A-Za-z0-9._, -]*", "names of hosts"), row=False)
    # Seconds that a stop may take to finish and commit what is in process().
    shutdown_timeout: float = setting(4.0, seconds())

    # Only the row says this, for all of its workers: they take in nothing more, and stay.
    paused: bool = False
    kafka: Mapping[str, str] = field(default_factory=dict, repr=False)  # the user's properties of both clients
    # Name -> default, defaults.py, environment or row.
    sources: Mapping[str, str] = field(default_factory=dict, repr=False)
    warnings: tuple[str, ...] = ()  # what was ignored and probably should not have been

    @classmethod
    def read(cls, environ: Mapping[str, str], own: Mapping[str, object] | None = None) -> "Settings":
        """The settings of an environment over `own`, the names of defaults.py; ConfigError names all that is wrong."""
        problems: list[str] = []
        values: dict[str, Any] = {}
        sources: dict[str, str] = {}
        # Kubernetes and links of Docker put these there beside a service named db or http: an address, no setting.
        injected = {name for name in ("DB_PORT", "HTTP_PORT") if re.fullmatch(_LINKED, environ.get(name, ""))}
        environ = {name: value for name, value in environ.items() if name not in injected}
        environ = _with_secrets_of_files(environ, problems)
        own = _with_secrets_of_files(own or {}, problems, environ)
        for each in _declared():
            name = each.name.upper()
            given = name in environ and (environ[name] != "" or each.metadata["empty"])
            default = own.get(name, each.default)
            sources[name] = "environment" if given else "default" if default == each.default else "defaults.py"
            label = f"{name} (in defaults.py)" if sources[name] == "defaults.py" else name
            values[each.name] = _parsed(each, environ[name] if given else default, label, problems)
        if values["db_driver"] == "postgresql" and sources["DB_PORT"] == "default":
            values["db_port"] = 5432
        own_kafka = _kafka_of_defaults(own, problems)
        kafka, warnings = _kafka_of_environment(environ, problems)
        unknown = [name for name in environ if name not in sources]
        unset = [name for name in sources if name not in environ]  # where both are there, the other is no slip
        warnings += (*_near_misses(own, tuple(sources), "defaults.py: "), *_near_misses(unknown, unset, ""))
        warnings += (*_kafka_misspelled(own, "defaults.py: "), *_kafka_misspelled(environ, ""))
        warnings += (*_replaced(values, sources), *_kafka_in_one(own), *_too_little(values, "MAX_PENDING_BYTES"))
        sources |= {**dict.fromkeys(own_kafka, "defaults.py"), **dict.fromkeys(kafka, "environment")}
        settings = cls(**values, kafka={**own_kafka, **kafka}, sources=sources, warnings=warnings)
        problems += [*settings._missing(problems), *settings._tls_problems()]
        if problems:
            raise ConfigError(problems)
        return settings

    def overlaid(self, metadatas: str | None) -> "Settings":
        """These settings with those of the row's `metadatas` over them; ConfigError names everything wrong there.

        Other keys are the user's own and are left alone; so is JSON that is no object, and text that is none, which are
        warnings.
        """
        content, notes = _json_object(metadatas)
        problems: list[str] = []
        names = {each.name: each for each in _declared() if each.metadata["row"]}
        values = {
            key: _parsed(names[key], raw, f"metadatas.{key}", problems) for key, raw in content.items() if key in names
        }
        kafka = _kafka_of_row(content.get("kafka") or {}, problems)
        paused = content.get("paused", False)
        if not isinstance(paused, bool):
            problems.append(f"metadatas.paused must be true or false, not {quoted(paused)}")
        if problems:
            raise ConfigError(problems)
        sources = {**self.sources, **dict.fromkeys([key.upper() for key in values] + list(kafka), "row")}
        near = (*_near_misses(content, [*names, "kafka", "paused"], "metadatas."),)
        near += (*_kafka_misspelled(content, "metadatas."),)
        warnings = (*self.warnings, *notes, *near, *_barred(content, names), *_shared(values))
        warnings += tuple(_too_little(values, "metadatas.max_pending_bytes"))
        kafka = {**self.kafka, **kafka}
        return replace(self, **values, paused=paused, kafka=kafka, sources=sources, warnings=warnings)

    @staticmethod
    def set_too_late(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[str, ...]:
        """The variables of settings that are others in the environment than they were when it was read."""
        names = {each.name.upper() for each in _declared()}
        changed = sorted(name for name, value in after.items() if before.get(name) != value)
        return tuple(each for each in changed if each in names or each[:6] == "KAFKA_" or _is_file_of_secret(each))

    def of_row(self, consumer_name: str, metadatas: str | None) -> "Settings":
        """Those of any worker, by this environment. Raises ConfigError, whatever its row holds: others look at it."""
        try:
            return replace(self, consumer_name=consumer_name).overlaid(metadatas)
        except ConfigError:
            raise
        except Exception as error:
            raise ConfigError([f"metadatas cannot be looked at: {type(error).__name__}"]) from error

    @property
    def dead_letters(self) -> str:
        """The topic of dead letters; empty: there is none."""
        return self.dlq_topic.replace("<consumer_name>", self.consumer_name)

    def url(self) -> URL:
        """Where the row is: DATABASE_URL, else DB_DRIVER, DB_HOST and the others; with TLS as DB_SSL_… say."""
        if self.database_url:
            url = _url(self.database_url)
        else:
            login = self.db_user, self.db_password
            url = URL.create(_DRIVERS[self.db_driver], *login, self.db_host, self.db_port, self.db_name)
        return _with_system_ca(url.update_query_dict(self._tls_options(url.get_backend_name())))

    def public(self) -> dict[str, object]:
        """Every setting by its name and every Kafka property by its own, secrets masked: fit for a page or a log."""
        shown = {each.name.upper(): getattr(self, each.name) for each in _declared()}
        shown["DB_PASSWORD"] = "***" if self.db_password else ""
        shown["DATABASE_URL"] = masked(self.url()) if self.database_url else ""
        return shown | {name: "***" if is_secret(name) else value for name, value in self.kafka.items()}

    def differs_in_pause(self, other: "Settings") -> bool:
        """And in nothing else."""
        return self.paused != other.paused and replace(self, paused=other.paused) == other

    def _tls_options(self, backend: str) -> dict[str, str]:
        """DB_SSL_… as options of a URL, in the words of its driver."""
        ca, cert, key = self.db_ssl_ca, self.db_ssl_cert, self.db_ssl_key
        mode = self.db_ssl_mode or ("verify-full" if ca else "require" if cert else "")
        if not mode or backend == "sqlite":
            return {}
        if mode == "disable":
            return {"sslmode": mode} if backend == "postgresql" else {"ssl_disabled": "true"}
        if backend == "postgresql":
            root = _system_ca_file() if ca == "system" else ca
            options = {"sslmode": mode, "sslrootcert": root, "sslcert": cert, "sslkey": key}
        else:
            options = {**(_system_cas() if ca == "system" else {"ssl_ca": ca}), "ssl_cert": cert, "ssl_key": key}
            options["ssl_check_hostname"] = "false" if mode == "verify-ca" else ""
            # With a file of any kind the driver asks for TLS by itself, and takes this for all there is to say.
            options["ssl_verify_cert"] = "" if ca or cert else "false"
        return {name: value for name, value in options.items() if value}

    def _tls_problems(self) -> Iterator[str]:
        if bool(self.db_ssl_cert) != bool(self.db_ssl_key):
            yield "DB_SSL_CERT and DB_SSL_KEY must be set both, or neither"
        if self.db_ssl_mode.startswith("verify") and not self.db_ssl_ca:
            yield f"DB_SSL_CA must be set where DB_SSL_MODE is {self.db_ssl_mode}: a file, or system"
        if self.db_ssl_mode == "require" and self.db_ssl_ca:
            yield "DB_SSL_MODE must not be require where DB_SSL_CA is set: it would verify nothing"
        if self.db_ssl_mode == "disable" and (self.db_ssl_ca or self.db_ssl_cert):
            yield "DB_SSL_MODE must not be disable where DB_SSL_CA or DB_SSL_CERT is set: keep one of the two"
        query = _url(self.database_url).query if self.database_url else {}
        given = [name for name in query if name.startswith("ssl")]
        if given and (self.db_ssl_ca or self.db_ssl_cert or self.db_ssl_mode):
            yield f"DATABASE_URL must not have {given[0]} where DB_SSL_… are set: keep one of the two"

    def _missing(self, problems: Sequence[str]) -> list[str]:
        wrong = {problem.split()[0] for problem in problems}
        if self.database_url or any(name.startswith("DATABASE_URL") for name in wrong):
            return []
        unset = [name.upper() for name in ("db_host", "db_name", "db_user") if not getattr(self, name)]
        return [
            f"{name} must be set (or DATABASE_URL, which replaces all of DB_…)" for name in unset if name not in wrong
        ]


def is_secret(name: str) -> bool:
    """Whether a Kafka property or an option of a database URL may hold something that nobody should read."""
    if name.endswith(".location"):
        return False
    return re.search("password|passwd|secret|key|jaas|token|oauthbearer.config|assertion", name.lower()) is not None


def masked(url: URL) -> str:
    """The URL as text without its password and without other secrets."""
    query = {name: "hidden" if is_secret(name) else value for name, value in url.query.items()}
    return url.set(query=query).render_as_string(hide_password=True)


def _declared() -> Iterator[Field[Any]]:
    return (each for each in fields(Settings) if "parse" in each.metadata)


def _parsed(each: Field[Any], raw: object, label: str, problems: list[str]) -> Any:
    if isinstance(raw, str) and (wrong := _no_text(raw)):
        problems.append(f"{label} {wrong}")
        return each.default
    try:
        return each.metadata["parse"](raw)
    except ValueError as expected:
        problems.append(f"{label} must be {expected}" + ("" if each.metadata["secret"] else f", not {quoted(raw)}"))
        return each.default


def quoted(raw: object) -> str:
    """What somebody has set, for the line that calls it wrong: cut, and without a login that stands in an address."""
    if isinstance(raw, str) and re.search(_KEY, raw):
        return "a key or a certificate"
    if isinstance(raw, str):
        login, at, address = raw.rpartition("@")
        raw = f"***@{address}" if at and ":" in login else raw
    try:
        shown = repr(raw)
    except RecursionError:
        return "what is nested too deep"
    return shown if len(shown) <= 80 else f"{shown[:80]}…"


def _json_object(metadatas: str | None) -> tuple[dict[str, Any], list[str]]:
    """The object, empty where there is none; and what is to be said of a text that is no JSON and was not meant so."""
    text = (metadatas or "").removeprefix(BOM).strip()
    if not text:
        return {}, []
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        if text[0] not in '{["':
            return {}, ["metadatas is no JSON: it is taken for a note, and sets nothing"]
        raise ConfigError([f"metadatas must be JSON, or empty, or a note: {error}"]) from None
    if isinstance(content, dict) or content is None:
        return content or {}, []
    return {}, ["metadatas is JSON, but no object: it sets nothing. Was it encoded twice?"]


def _near_misses(given: Iterable[str], names: Sequence[str], place: str) -> Iterator[str]:
    """Of many or long keys only the first: they may stand in a row of which somebody else's worker looks at all."""
    by_lower = {name.lower(): name for name in names}
    for key in islice((each for each in given if len(each) <= _LONGEST_NAME), _MOST_NAMES):
        close = difflib.get_close_matches(key.lower(), by_lower, n=1, cutoff=0.85)
        if close and key not in names:
            yield f"{place}{key} is not a setting and is ignored: did you mean {by_lower[close[0]]}?"


# Properties of Kafka's client. Of another name nobody can tell here whether it is one: kafka_version is the user's own.
OFTEN_SET = frozenset(
    """
    security.protocol sasl.mechanism sasl.mechanisms sasl.username sasl.password sasl.oauthbearer.method
    sasl.oauthbearer.client.id sasl.oauthbearer.client.secret sasl.oauthbearer.scope sasl.oauthbearer.token.endpoint.url
    ssl.ca.location ssl.ca.pem ssl.certificate.location ssl.certificate.pem ssl.key.location ssl.key.password
    ssl.key.pem ssl.keystore.location ssl.keystore.password ssl.endpoint.identification.algorithm
    enable.ssl.certificate.verification client.id client.rack debug linger.ms batch.size compression.type
    compression.codec compression.level message.max.bytes message.timeout.ms delivery.timeout.ms
    request.timeout.ms transaction.timeout.ms session.timeout.ms heartbeat.interval.ms
    max.poll.interval.ms socket.timeout.ms socket.keepalive.enable statistics.interval.ms
    fetch.min.bytes fetch.max.bytes fetch.message.max.bytes max.partition.fetch.bytes fetch.wait.max.ms
    queued.min.messages queued.max.messages.kbytes queue.buffering.max.messages queue.buffering.max.kbytes
    """.split()  # noqa: SIM905  as OWNED_PROPERTIES
)


def _kafka_misspelled(given: Mapping[str, object], place: str) -> Iterator[str]:
    """Of a property only the exact name counts; in a row it has a place of its own."""
    for key, value in islice(given.items(), _MOST_NAMES):
        name = key.upper().replace(".", "_")
        if key.startswith(("security.", "sasl.", "ssl.")):  # as Kafka itself writes it
            name = f"KAFKA_{name}"
        of_client = name.removeprefix("KAFKA_").replace("_", ".").lower() in OFTEN_SET
        if not name.startswith("KAFKA_") or not of_client or not isinstance(value, (str, int, float)):
            continue
        if place == "metadatas.":
            right = f'"kafka": {{"{name.removeprefix("KAFKA_").replace("_", ".").lower()}": …}}'
        elif key.startswith("KAFKA_"):
            continue
        else:
            right = name
        yield f"{place}{key} is not a setting and is ignored: did you mean {right}?"


def _kafka_in_one(own: Mapping[str, object]) -> Iterator[str]:
    """As `kafka` of the row is."""
    for name, value in own.items():
        if name.lower() == "kafka" and isinstance(value, dict) and value:
            first = str(next(iter(value))).replace(".", "_").upper()
            cure = f"give each property its own name, KAFKA_{first} = …"
            yield f"defaults.py: {name} is not a setting and is ignored: {cure}"


def _barred(content: Collection[str], names: Collection[str]) -> Iterator[str]:
    for each in _declared():
        if each.name in content and each.name not in names:
            yield f"metadatas.{each.name} is ignored: a row cannot set {each.name.upper()}"


def _replaced(values: Mapping[str, object], sources: Mapping[str, str]) -> Iterator[str]:
    parts = [name for name in sources if name.startswith("DB_") and not name.startswith("DB_SSL_")]
    given = [name for name in parts if sources[name] == "environment"]
    if values["database_url"] and given:
        yield f"{', '.join(given)} {'is' if len(given) == 1 else 'are'} ignored: DATABASE_URL is set"


def _too_little(values: Mapping[str, object], name: str) -> Iterator[str]:
    """Who means megabytes gets hardly a result: most messages are read again and again."""
    given = values.get("max_pending_bytes")
    if isinstance(given, int) and given < LEAST_MEMORY:
        yield f"{name} is {given} bytes: hardly a message has room, and most are read again and again"


def _shared(values: Mapping[str, object]) -> Iterator[str]:
    if values.get("group_instance_id"):
        yield (
            "metadatas.group_instance_id is the same for all workers of the row, and each needs its own: with more than"
            " one, set GROUP_INSTANCE_ID in the environment of each instead"
        )


# ---------------------------------------------------------------- NAME_FILE: a secret that is in a file.

_PROPERTY_FILES = re.compile(r"KAFKA_SASL_OAUTHBEARER_ASSERTION_(.+_)?FILE")  # properties of the client's own
_LARGEST_SECRET = 65_536  # bytes: above that it is another file


def _with_secrets_of_files(
    given: Mapping[str, T], problems: list[str], over: Mapping[str, object] | None = None
) -> dict[str, T | str]:
    """What is given, and for each NAME_FILE of a secret its NAME: the text of that file. `over`: what wins over it.

    The row has no such names: who may write the row could have any file of a worker's machine sent to any broker.
    """
    values: dict[str, T | str] = dict(given)
    for file_name in [each for each in given if _is_file_of_secret(each) and given[each] != ""]:
        name, path = file_name.removesuffix("_FILE"), values.pop(file_name)
        if given.get(name, "") != "":
            problems.append(f"{name} and {file_name} are both set: keep one")
        elif name in (over or {}):
            continue
        elif (content := _secret_of(file_name, path, problems)) is not None:
            values[name] = content
    return values


def _is_file_of_secret(name: str) -> bool:
    if not name.endswith("_FILE") or _PROPERTY_FILES.fullmatch(name):
        return False
    name = name.removesuffix("_FILE")
    if name.startswith("KAFKA_"):
        return is_secret(name.removeprefix("KAFKA_").replace("_", ".").lower())
    return any(each.name.upper() == name and each.metadata["secret"] for each in _declared())


def _secret_of(name: str, path: object, problems: list[str]) -> str | None:
    """The text of the file without the line end behind it. None, and a problem: it cannot be had."""
    try:
        with Path(str(path)).open("rb") as file:
            content = file.read(_LARGEST_SECRET + 1).decode().removeprefix(BOM).rstrip("\r\n")
        wrong = "is empty" if not content else "is too large for a secret" if len(content) > _LARGEST_SECRET else ""
    except OSError as error:
        content, wrong = "", f"cannot be read: {error.strerror}{_whose(error)}"
    except ValueError:  # of the name (a NUL in it), or not UTF-8
        content, wrong = "", "is no text in UTF-8"
    if wrong:
        # What looks like no path may be the secret itself, set in the wrong place.
        shown = repr(str(path)) if re.fullmatch(r"\.{0,2}/[\w./@%-]*", str(path)) else "a file"
        problems.append(f"{name} names {shown}, which {wrong}")
        return None
    return content


def _whose(error: OSError) -> str:
    return f"; let user {os.geteuid()} read it" if isinstance(error, PermissionError) else ""


# Where systems keep the certificates that they trust, in one file: Debian and Alpine, Red Hat, SUSE.
_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem")


def _system_cas() -> dict[str, str]:
    """A directory that is not there is named, too: the driver verifies nothing where it is told of none."""
    paths = ssl.get_default_verify_paths()
    return {"ssl_ca": paths.cafile} if paths.cafile else {"ssl_capath": paths.capath or paths.openssl_capath}


def _system_ca_file() -> str:
    """For libpq, which takes no directory. Its own word, `system`, means where its OpenSSL looks: that of
    psycopg[binary] looks in a directory that no machine has, unless SSL_CERT_DIR or SSL_CERT_FILE name another.
    """
    paths = ssl.get_default_verify_paths()
    if paths.capath and paths.capath != paths.openssl_capath:
        return "system"  # SSL_CERT_DIR is set
    return paths.cafile or next(filter(os.path.isfile, _BUNDLES), "system")


def _with_system_ca(url: URL) -> URL:
    """With `system` in a DATABASE_URL, too, libpq verifies all, or refuses a weaker sslmode."""
    if url.query.get("sslrootcert") != "system" or url.query.get("sslmode", "verify-full") != "verify-full":
        return url
    return url.update_query_dict({"sslmode": "verify-full", "sslrootcert": _system_ca_file()})


# ---------------------------------------------------------------- KAFKA_<PROPERTY>, and `kafka` of the metadatas.

# The worker sets these itself, or needs their defaults: its rules of correctness stand on them, and the brokers are the
# row's.
OWNED_PROPERTIES = frozenset(
    """
    bootstrap.servers metadata.broker.list group.id group.instance.id group.protocol partition.assignment.strategy
    enable.auto.commit auto.commit.enable enable.auto.offset.store auto.offset.reset enable.partition.eof
    isolation.level enable.idempotence acks request.required.acks transactional.id delivery.report.only.error
    partitioner default.topic.config logger on.commit on.delivery
    max.in.flight max.in.flight.requests.per.connection
    topic.blacklist queuing.strategy offset.store.method test.mock.num.brokers internal.termination.signal
    """.split()  # noqa: SIM905  a list would say the same in a page of quotes
)
# What begins so makes the client load a library, run a command (Kerberos' is made of three of them), or send a file
# or the identity of the machine to an address of the row. Who may write a row may not do that at every worker, and at
# everybody who looks at it: who sets a worker's environment may.
BARRED_IN_ROWS = (
    "plugin.", "ssl.engine.", "ssl.providers", "sasl.kerberos.",
    "sasl.oauthbearer.assertion.", "sasl.oauthbearer.metadata.",
)  # fmt: skip
NOT_FOR_YOURS = ": names that begin with KAFKA_ are properties of Kafka's client; give a value of yours another name"
_LINKED = r"tcp://[\w.:\[\]-]+:[0-9]+"
# Of others, and no properties: addresses, which Kubernetes puts into every container beside a service named kafka or
# kafka-…, and what the scripts of Kafka's own tools read (KAFKA_HEAP_OPTS).
_OF_OTHERS = re.compile(r"KAFKA_((.+_)?(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT|PORT_\d+_(TCP|UDP)(_.+)?|OPTS)|HOME)")


def _no_text(value: str) -> str:
    """What is wrong with it, if something is: what no server takes, and what an error would quote. Bytes that are no
    UTF-8 come as surrogates, and JSON may hold any.
    """
    if "\0" in value:
        return "holds a NUL character"
    return "is no text in UTF-8" if not value.isascii() and re.search("[\ud800-\udfff]", value) else ""


def _kafka_of_environment(environ: Mapping[str, str], problems: list[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    given = {name: value for name, value in environ.items() if name.startswith("KAFKA_") and value}
    given = {name: value for name, value in given.items() if not _OF_OTHERS.fullmatch(name)}
    # Not an error, unlike the other owned ones: test beds and other tools in the container use this very name.
    ignored = given.pop("KAFKA_BOOTSTRAP_SERVERS", None)
    warning = "KAFKA_BOOTSTRAP_SERVERS is ignored: the brokers are kafka_bootstrap_server of the row"
    named = {name: (name.removeprefix("KAFKA_"), value) for name, value in given.items()}
    return _properties(named, problems), (warning,) if ignored else ()


def _kafka_of_defaults(own: Mapping[str, object], problems: list[str]) -> dict[str, str]:
    given = {name: value for name, value in own.items() if name.startswith("KAFKA_") and value != ""}
    named = {f"{name} (in defaults.py)": (name.removeprefix("KAFKA_"), value) for name, value in given.items()}
    return _properties(named, problems)


def _kafka_of_row(given: object, problems: list[str]) -> dict[str, str]:
    if not isinstance(given, dict):
        problems.append("metadatas.kafka must be an object of client properties")
        return {}
    properties = _properties({f"metadatas.kafka.{name}": (name, value) for name, value in given.items()}, problems)
    problems += [
        f"metadatas.kafka.{name} must not be set: it runs code or sends a file. The environment may have it, as KAFKA_…"
        for name in sorted(properties)
        if name.startswith(BARRED_IN_ROWS)
    ]
    problems += [
        f"metadatas.kafka.{name} must name a file or a directory, not {quoted(path)}"
        for name, path in properties.items()
        if name.endswith(".location") and _may_block(path)
    ]
    return properties


def _may_block(path: str) -> bool:
    """A pipe or a device: the client reads it while it holds Python's lock, and the whole process stands still.

    What cannot be looked at here (a directory that is closed to us) is told to the worker that uses it, not to others.
    """
    try:
        real = os.path.realpath(path)
        if real.startswith(("/proc/", "/sys/")):
            return True
        mode = Path(real).stat().st_mode
    except (OSError, ValueError):  # of characters, too, that the names of files here cannot have
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _properties(named: Mapping[str, tuple[str, object]], problems: list[str]) -> dict[str, str]:
    """Label -> (name as given, value) becomes property -> text, dots for underscores, lower case."""
    properties = {}
    for label, (name, value) in named.items():
        name = name.replace("_", ".").lower()
        if wrong := _no_text(name) or _no_text(value if isinstance(value, str) else ""):
            problems.append(f"{ascii(label)[1:-1]} {wrong}")  # the client ends the process by some of it
        elif name in OWNED_PROPERTIES or name.endswith(".cb"):
            problems.append(f"{label} must not be set: the worker's rules stand on {name}{_instead(name)}")
        elif name.endswith(".location") and re.search(_KEY, str(value)):
            problems.append(f"{label} must be the name of a file, not {quoted(value)}{_in_place_of_a_file(name)}")
        elif isinstance(value, bool):
            properties[name] = str(value).lower()
        elif isinstance(value, float) and value.is_integer():
            properties[name] = str(int(value))  # 2e6 in JSON
        elif isinstance(value, str | int | float):
            properties[name] = str(value).rstrip("\r\n")  # as of a password
        else:
            hint = NOT_FOR_YOURS if label.startswith("KAFKA_") else ""
            problems.append(f"{label} must be text, a number, true or false{hint}")
    return properties


def _in_place_of_a_file(name: str) -> str:
    takers = {f"ssl.{each}.location": f"KAFKA_SSL_{each.upper()}_PEM" for each in ("ca", "certificate", "key")}
    return f" (that goes into {takers[name]})" if name in takers else ""


def _instead(name: str) -> str:
    settings = {
        "bootstrap.servers": "kafka_bootstrap_server of the row",
        "group.id": "CONSUMER_NAME",
        "group.instance.id": "GROUP_INSTANCE_ID",
        "auto.offset.reset": "docs/row.md, Where a new consumer begins",
        "transactional.id": "DELIVERY",
        "enable.idempotence": "DELIVERY",
    }
    return f" (see {settings[name]})" if name in settings else ""
