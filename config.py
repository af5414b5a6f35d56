"""Settings: the defaults of this file, yours (defaults.py) over them, the environment over both, and over all the row's
`metadatas`. Edit defaults.py and not this file.

Nothing is read at import. What is wrong is named all at once, by variable and by key of the row.
"""

import difflib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

# ---------------------------------------------------------------- How a setting is read.
T = TypeVar("T")
EX_CONFIG = 78  # sysexits.h: starting again is no use before somebody has changed the configuration


class ConfigError(Exception):
    """The configuration is wrong and stays so until somebody changes it: one line for each problem."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class UnavailableError(Exception):
    """Something outside is not there yet and may heal by itself: worth waiting for. The text is one line."""


class Trouble(NamedTuple):
    """Why something outside cannot be used: whether it may heal by itself, and one line that names the cure."""

    heals: bool
    line: str

    def error(self) -> Exception:
        return UnavailableError(self.line) if self.heals else ConfigError([self.line])


def seconds(*, zero: bool = False) -> Callable[[object], float]:
    """Above 0, or with `zero` from 0 on."""

    def parse(raw: object) -> float:
        try:
            number = math.nan if isinstance(raw, bool) else float(raw)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            number = math.nan
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


def _url(raw: str) -> URL:
    """The URL with the driver that requirements.txt installs. ValueError says what it must be."""
    drivers = {"mysql": "mysql+pymysql", "mariadb": "mysql+pymysql"}
    drivers |= {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
    try:
        url = make_url(raw)
    except (ArgumentError, ValueError):
        raise ValueError("a URL such as mysql://user:password@host:3306/database") from None
    url = url.set(drivername=drivers.get(url.drivername, url.drivername))
    backend = url.get_backend_name()
    if backend not in {"mysql", "postgresql", "sqlite"}:
        raise ValueError("a URL that begins with mysql://, mariadb://, postgresql:// or sqlite:///")
    if backend != "sqlite" and "@" in f"{url.host}{url.database}":
        raise ValueError("a URL whose password is percent-encoded (@ is %40), or set DB_PASSWORD and the others")
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
    """Every setting, validated. A new one is a line here: its variable is the name in capitals."""

    # Which row of consumer_configs this worker is; also its Kafka group and the base of topic names.
    consumer_name: str = setting(
        "",
        text(r"[A-Za-z0-9._-]{1,200}", "the name of this worker's row, 1 to 200 characters of A-Z a-z 0-9 . _ -"),
        row=False,
    )
    db_host: str = setting("localhost", text(), row=False)
    db_port: int = setting(3306, whole("number", least=1, most=65535), row=False)
    db_name: str = setting("", text(), row=False)
    db_user: str = setting("", text(), row=False)
    db_password: str = setting("", password, row=False, secret=True, empty=True)
    # Instead of the five above: mysql://…, mariadb://…, postgresql://…, sqlite:///file
    database_url: str = setting("", database_url, row=False, secret=True)
    log_level: str = setting(
        "INFO", one_of("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", WARN="WARNING", FATAL="CRITICAL")
    )
    # Seconds that a message waits for its mates on the other topics before it is given up.
    message_timeout: float = setting(60.0, seconds())
    delivery: str = setting("at_least_once", one_of("at_least_once", "exactly_once"))
    # Seconds between two commits; with exactly_once also the most that a result waits.
    commit_interval: float = setting(0.1, seconds())
    # Calls of process() at once: in as many threads, or coroutines where it is `async def`.
    concurrency: int = setting(1, whole("number of calls", least=1, most=10_000))
    # Seconds after which a call of process() has failed; 0: it may take for ever.
    process_timeout: float = setting(300.0, seconds(zero=True))
    # Calls of process() with a message before it is given up: dead-lettered.
    process_attempts: int = setting(5, whole("number of calls", least=1))
    # Seconds before the second attempt; each further wait is twice as long, up to a minute.
    retry_backoff: float = setting(1.0, seconds())
    # Bytes of messages held in memory: waiting, in process() and not yet committed.
    max_pending_bytes: int = setting(268_435_456, whole("number of bytes", least=1))
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
        own = own or {}
        for each in _declared():
            name = each.name.upper()
            given = name in environ and (environ[name] != "" or each.metadata["empty"])
            default = own.get(name, each.default)
            sources[name] = "environment" if given else "default" if default == each.default else "defaults.py"
            values[each.name] = _parsed(each, environ[name] if given else default, name, problems)
        own_kafka = _kafka_of_defaults(own, problems)
        kafka, warnings = _kafka_of_environment(environ, problems)
        warnings += tuple(_near_misses(own, tuple(sources), "defaults.py: "))
        sources |= {**dict.fromkeys(own_kafka, "defaults.py"), **dict.fromkeys(kafka, "environment")}
        settings = cls(**values, kafka={**own_kafka, **kafka}, sources=sources, warnings=warnings)
        problems += settings._missing(problems)
        if problems:
            raise ConfigError(problems)
        return settings

    def overlaid(self, metadatas: str | None) -> "Settings":
        """These settings with those of the row's `metadatas` over them; ConfigError names everything wrong there.

        Other keys are the user's own and are left alone; so is JSON that is no object.
        """
        content = _json_object(metadatas)
        problems: list[str] = []
        names = {each.name: each for each in _declared() if each.metadata["row"]}
        values = {
            key: _parsed(names[key], raw, f"metadatas.{key}", problems) for key, raw in content.items() if key in names
        }
        kafka = _kafka_of_row(content.get("kafka") or {}, problems)
        paused = content.get("paused", False)
        if not isinstance(paused, bool):
            problems.append(f"metadatas.paused must be true or false, not {_cut(paused)}")
        if problems:
            raise ConfigError(problems)
        sources = {**self.sources, **dict.fromkeys([key.upper() for key in values] + list(kafka), "row")}
        warnings = (*self.warnings, *_near_misses(content, [*names, "kafka", "paused"], "metadatas."), *_shared(values))
        kafka = {**self.kafka, **kafka}
        return replace(self, **values, paused=paused, kafka=kafka, sources=sources, warnings=warnings)

    @property
    def dead_letters(self) -> str:
        """The topic of dead letters; empty: there is none."""
        return self.dlq_topic.replace("<consumer_name>", self.consumer_name)

    def url(self) -> URL:
        """Where the row is: DATABASE_URL, else MySQL by DB_HOST and the others."""
        if self.database_url:
            return _url(self.database_url)
        return URL.create("mysql+pymysql", self.db_user, self.db_password, self.db_host, self.db_port, self.db_name)

    def public(self) -> dict[str, object]:
        """Every setting by its name and every Kafka property by its own, secrets masked: fit for a page or a log."""
        shown = {each.name.upper(): getattr(self, each.name) for each in _declared()}
        shown["DB_PASSWORD"] = "***" if self.db_password else ""
        shown["DATABASE_URL"] = masked(self.url()) if self.database_url else ""
        return shown | {name: "***" if is_secret(name) else value for name, value in self.kafka.items()}

    def differs_in_pause(self, other: "Settings") -> bool:
        """And in nothing else."""
        return self.paused != other.paused and replace(self, paused=other.paused) == other

    def _missing(self, problems: Sequence[str]) -> list[str]:
        if self.database_url or any(problem.startswith("DATABASE_URL ") for problem in problems):
            return []
        unset = [name for name in ("db_host", "db_name", "db_user") if not getattr(self, name)]
        return [f"{name.upper()} must be set (or DATABASE_URL, which replaces all of DB_…)" for name in unset]


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
    try:
        return each.metadata["parse"](raw)
    except ValueError as expected:
        problems.append(f"{label} must be {expected}" + ("" if each.metadata["secret"] else f", not {_cut(raw)}"))
        return each.default


def _cut(raw: object) -> str:
    shown = repr(raw)
    return shown if len(shown) <= 80 else f"{shown[:80]}…"


def _json_object(metadatas: str | None) -> dict[str, Any]:
    if not (metadatas or "").strip():
        return {}
    try:
        content = json.loads(metadatas or "")
    except (ValueError, RecursionError) as error:
        raise ConfigError([f"metadatas must be JSON, or empty: {error}"]) from None
    return content if isinstance(content, dict) else {}


def _near_misses(given: Iterable[str], names: Sequence[str], place: str) -> Iterator[str]:
    by_lower = {name.lower(): name for name in names}
    for key in given:
        close = difflib.get_close_matches(key.lower(), by_lower, n=1, cutoff=0.85)
        if close and key not in names:
            yield f"{place}{key} is not a setting and is ignored: did you mean {by_lower[close[0]]}?"


def _shared(values: Mapping[str, object]) -> Iterator[str]:
    if values.get("group_instance_id"):
        yield (
            "metadatas.group_instance_id is the same for all workers of the row, and each needs its own: with more than"
            " one, set GROUP_INSTANCE_ID in the environment of each instead"
        )


# ---------------------------------------------------------------- KAFKA_<PROPERTY>, and `kafka` of the metadatas.

# The worker sets these itself: its rules of correctness stand on them, and the brokers are the row's.
OWNED_PROPERTIES = frozenset(
    """
    bootstrap.servers metadata.broker.list group.id group.instance.id group.protocol partition.assignment.strategy
    enable.auto.commit auto.commit.enable enable.auto.offset.store auto.offset.reset enable.partition.eof
    isolation.level enable.idempotence acks request.required.acks transactional.id delivery.report.only.error
    partitioner default.topic.config logger on.commit on.delivery
    """.split()  # noqa: SIM905  a list would say the same in a page of quotes
)
# Kubernetes puts these into every container beside a service named kafka or kafka-…: addresses, no properties.
_INJECTED = re.compile(r"KAFKA_(.+_)?(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT|PORT_\d+_(TCP|UDP)(_.+)?)")


def _kafka_of_environment(environ: Mapping[str, str], problems: list[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    given = {name: value for name, value in environ.items() if name.startswith("KAFKA_") and value}
    given = {name: value for name, value in given.items() if not _INJECTED.fullmatch(name)}
    # Not an error, unlike the other owned ones: test beds and other tools in the container use this very name.
    ignored = given.pop("KAFKA_BOOTSTRAP_SERVERS", None)
    warning = "KAFKA_BOOTSTRAP_SERVERS is ignored: the brokers are kafka_bootstrap_server of the row"
    named = {name: (name.removeprefix("KAFKA_"), value) for name, value in given.items()}
    return _properties(named, problems), (warning,) if ignored else ()


def _kafka_of_defaults(own: Mapping[str, object], problems: list[str]) -> dict[str, str]:
    given = {name: value for name, value in own.items() if name.startswith("KAFKA_") and value != ""}
    return _properties({name: (name.removeprefix("KAFKA_"), value) for name, value in given.items()}, problems)


def _kafka_of_row(given: object, problems: list[str]) -> dict[str, str]:
    if not isinstance(given, dict):
        problems.append("metadatas.kafka must be an object of client properties")
        return {}
    return _properties({f"metadatas.kafka.{name}": (name, value) for name, value in given.items()}, problems)


def _properties(named: Mapping[str, tuple[str, object]], problems: list[str]) -> dict[str, str]:
    """Label -> (name as given, value) becomes property -> text, dots for underscores, lower case."""
    properties = {}
    for label, (name, value) in named.items():
        name = name.replace("_", ".").lower()
        if name in OWNED_PROPERTIES or name.endswith(".cb"):
            problems.append(f"{label} must not be set: the worker sets {name} itself{_instead(name)}")
        elif isinstance(value, bool):
            properties[name] = str(value).lower()
        elif isinstance(value, str | int | float):
            properties[name] = str(value)
        else:
            problems.append(f"{label} must be text, a number, true or false")
    return properties


def _instead(name: str) -> str:
    settings = {
        "bootstrap.servers": "kafka_bootstrap_server of the row",
        "group.id": "CONSUMER_NAME",
        "group.instance.id": "GROUP_INSTANCE_ID",
        "transactional.id": "DELIVERY",
        "enable.idempotence": "DELIVERY",
    }
    return f" (see {settings[name]})" if name in settings else ""
