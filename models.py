"""The row: which topics a consumer joins, on which brokers. The table, its life, and what may be wrong with both.

No Kafka. Connections are short: nothing that is tied to one leaves this file.
"""

import json
import os
import re
import socket
import sqlite3
import ssl
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    Engine,
    Insert,
    String,
    Text,
    Update,
    bindparam,
    cast,
    create_engine,
    event,
    func,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.pool import NullPool
from sqlalchemy.types import NULLTYPE

from config import BOM, CONSUMER_NAME, ConfigError, Trouble, quoted

# Of org.apache.kafka.common.internals.Topic: where brokers write, no client may.
INTERNAL_TOPICS = frozenset({"__consumer_offsets", "__transaction_state", "__share_group_state"})


class Base(DeclarativeBase):
    pass


# All of Unicode, also where a server of MySQL makes its tables for less. The name, of ASCII, is left as the server has
# it: in utf8mb4 its key would be too long for old servers.
_UNICODE = Text().with_variant(Text(collation="utf8mb4_general_ci"), "mysql")


class ConsumerConfig(Base):
    __tablename__ = "consumer_configs"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    consumer_name: Mapped[str] = mapped_column(String(200), unique=True)
    topics_input: Mapped[str] = mapped_column(_UNICODE)  # comma separated, as the three below
    topics_output: Mapped[str] = mapped_column(_UNICODE)
    kafka_bootstrap_server: Mapped[str] = mapped_column(_UNICODE)
    # Text and not JSON: tables that exist already hold free text here, and some databases have no JSON type.
    metadatas: Mapped[str | None] = mapped_column(_UNICODE)


@dataclass(frozen=True, slots=True)
class Row:
    """One consumer's row, validated."""

    consumer_name: str
    topics_input: tuple[str, ...]
    topics_output: tuple[str, ...]  # empty: a worker whose process() forwards nothing
    bootstrap_servers: str
    metadatas: str | None = None  # JSON text; its settings are read by Settings.overlaid

    @classmethod
    def validated(
        cls,
        consumer_name: str,
        topics_input: str | None,
        topics_output: str | None,
        kafka_bootstrap_server: str | None,
        metadatas: str | None = None,
    ) -> "Row":
        """The row of these columns; ConfigError names every column that is wrong."""
        problems: list[str] = []
        inputs = _topics("topics_input", topics_input, problems)
        outputs = _topics("topics_output", topics_output, problems)
        if not _parts(topics_input):
            problems.append("topics_input is empty: name the topics to read, comma separated")
        both = sorted({*inputs} & {*outputs})
        problems += [f"topics_output names {topic}, an input too: it would read its own results" for topic in both]
        maps = map_topic(consumer_name)
        named = [column for column, topics in (("topics_input", inputs), ("topics_output", outputs)) if maps in topics]
        problems += [
            f"{column} names {maps}, where the worker keeps its maps: choose another topic" for column in named
        ]
        servers = _servers(kafka_bootstrap_server, problems)
        if problems:
            raise ConfigError([f"row {consumer_name}: {problem}" for problem in problems])
        return cls(consumer_name, inputs, outputs, servers, metadatas)


def map_topic(consumer_name: str) -> str:
    """Where maps of waiting offsets go that do not fit into a commit."""
    return f"{consumer_name}-offsets"


def _parts(listed: str | None) -> list[str]:
    return [part.strip() for part in (listed or "").split(",") if part.strip()]


def _topics(column: str, listed: str | None, problems: list[str]) -> tuple[str, ...]:
    topics = _parts(listed)
    for topic, times in Counter(topics).items():
        # The rule of org.apache.kafka.common.internals.Topic.
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", topic) or topic in {".", ".."}:
            rule = "up to 249 of A-Z a-z 0-9 . _ -"
            problems.append(f"{column} names {quoted(topic)}, which Kafka does not allow: {rule}")
        if topic in INTERNAL_TOPICS:
            problems.append(f"{column} names {topic}, which is Kafka's own: choose another topic")
        if times > 1:
            problems.append(f"{column} names {topic} twice")
    return tuple(topics)


def _servers(listed: str | None, problems: list[str]) -> str:
    """Nothing that a shell would take for more than a name: cures are commands with these addresses."""
    servers = _parts(listed)
    for server in servers:
        match = re.fullmatch(
            r"((?i:SASL_)?(?i:PLAINTEXT|SSL)://)?([\w.-]+|\[[0-9A-Fa-f:.%]+\])(:(?P<port>[0-9]{1,5}))?", server
        )
        if not match or not 1 <= int(match["port"] or 9092) <= 65535:
            rule = "host:port, one or more, comma separated"
            problems.append(f"kafka_bootstrap_server must be {rule}, not {quoted(server)}")
    if not servers:
        problems.append("kafka_bootstrap_server is empty: name one or more brokers as host:port, comma separated")
    return ",".join(servers)


# ---------------------------------------------------------------- The table's life.


def engine(url: URL, *, create: bool = False, name: str = "") -> Engine:
    """The way to the database; connects to nothing yet. `create`: an SQLite file may be created. `name`: what the
    server calls our sessions by.

    Without a pool: the row is read now and then, and dozens of workers should not each keep a connection.
    """
    options: dict[str, dict[str, Any]] = {
        "mysql": {"connect_timeout": 5, "read_timeout": 10, "write_timeout": 10, "charset": "utf8mb4"},
        # client_encoding: by itself the driver takes that of the database, and then cannot send what is not in it.
        "postgresql": {"connect_timeout": 5, "tcp_user_timeout": 10_000, "client_encoding": "utf8"},
        "sqlite": {"timeout": 5},
    }
    if url.drivername == "postgresql+psycopg":
        # What is prepared stays in the session, which behind a pooler (PgBouncer) goes to other programs.
        options["postgresql"]["prepare_threshold"] = None
    backend = url.get_backend_name()
    called = {"mysql": "program_name", "postgresql": "application_name"}.get(backend, "")
    if name and called:
        options[backend][called] = name
    url = url.difference_update_query(_OF_CHARACTERS)
    if backend in options:  # what the URL says wins
        options[backend] = {option: value for option, value in options[backend].items() if option not in url.query}
    _try_options(url)
    if url.drivername == "mysql+pymysql" and url.password:  # text would be sent in Latin-1: no server has it so
        options["mysql"]["password"] = str(url.password).encode(errors="surrogateescape")
    if backend == "sqlite" and url.database and not url.database.startswith("file:"):
        mode = {"mode": "rwc" if create else "rw", "uri": "true"}
        url = url.set(database=f"file:{quote(url.database)}", query={**url.query, **mode})
    try:
        made = create_engine(url, poolclass=NullPool, connect_args=options.get(backend, {}))
    except ImportError as error:
        package = {"postgresql": "psycopg[binary]", "mysql": "PyMySQL[rsa]"}.get(backend)
        cure = f"add {package} to requirements.txt, then make lock, and set up or build anew"
        if not package:
            cure = "this Python was built without the module sqlite3: take another one"
        raise ConfigError([f"the driver for {url.drivername} is not installed: {cure}"]) from error
    except (ArgumentError, ValueError) as error:  # an option that should be a number
        raise explain(error, url).error() from error
    if backend == "postgresql":
        event.listen(made, "connect", _end_in_time, insert=True)  # SQLAlchemy itself asks first things of the server
        event.listen(made, "close", lambda _connection, record: record.info.pop("end").cancel())
    return made


_OF_CHARACTERS = "charset", "collation", "use_unicode", "client_encoding"
"""Options of a URL that make text smaller than all of Unicode. In place of what a charset lacks the server of MySQL
sends question marks, also with charset=utf8, and a pause writes what was read.
"""

LONGEST_CONNECTION = 20.0  # seconds, to PostgreSQL: more than a statement may take, and the wait for locks


def _end_in_time(connection: Any, record: Any) -> None:
    """The driver of PostgreSQL waits for an answer for ever: of a proxy, say, whose server has gone without a word."""

    def end() -> None:
        if not connection.closed:
            with socket.socket(fileno=os.dup(connection.fileno())) as same:
                same.shutdown(socket.SHUT_RDWR)  # who waits for an answer hears of it

    record.info["end"] = timer = threading.Timer(LONGEST_CONNECTION, end)
    timer.daemon = True
    timer.start()


_SESSION = {
    "mysql": "SET SESSION lock_wait_timeout = 5, innodb_lock_wait_timeout = 5,"
    " sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')",
    "postgresql": "SET LOCAL lock_timeout = 5000; SET LOCAL statement_timeout = 10000",
}
"""By dialect: how long a statement may wait for other sessions. Else it waits for as long as they keep their locks.

MySQL's: also that what a column cannot hold is an error. Servers may be set to cut it off, and say that all is well.
PostgreSQL's hold for one transaction: behind a pooler (PgBouncer) the session goes to other programs afterwards.
"""

# Option of a URL, in the words of either driver -> the setting that sets it.
_TLS_FILES = {"ssl_ca": "DB_SSL_CA", "ssl_cert": "DB_SSL_CERT", "ssl_key": "DB_SSL_KEY"}
_TLS_FILES |= {"sslrootcert": "DB_SSL_CA", "sslcert": "DB_SSL_CERT", "sslkey": "DB_SSL_KEY"}


def _try_options(url: URL) -> None:
    """ConfigError names an option of the URL that the drivers pass over or answer with a traceback."""
    files = {name: str(url.query[name]) for name in _TLS_FILES if url.query.get(name, "system") != "system"}
    problems = [
        f"{_named(option, path)}, which cannot be read: {error.strerror}"
        for option, path in files.items()
        if (error := _unreadable(path))
    ]
    problems = problems or [*_bad_certificates(files)]
    if url.get_backend_name() == "mysql" and "ssl" in url.query:
        problems.append(
            f"DATABASE_URL: the driver of MySQL has no option ssl={url.query['ssl']}:"
            " set DB_SSL_CA, to a file or to system"
        )
    if problems:
        raise ConfigError(problems)


def _named(option: str, path: str) -> str:
    return f"{_TLS_FILES[option]} (or {option} of DATABASE_URL) names {path}"


def _unreadable(path: str) -> OSError | None:
    try:
        with Path(path).open("rb"):
            return None
    except OSError as error:
        return error


def _bad_certificates(files: Mapping[str, str]) -> Iterator[str]:
    """The drivers tell neither the file nor what is wrong with it, and ask the terminal for the password of a key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # without those of the system, which take 20 ms
    by_setting = {_TLS_FILES[option]: option for option in files}
    if option := by_setting.get("DB_SSL_CA"):
        try:
            context.load_verify_locations(files[option])
        except ssl.SSLError:
            yield f"{_named(option, files[option])}, which holds no certificate in PEM"
    cert, key = by_setting.get("DB_SSL_CERT"), by_setting.get("DB_SSL_KEY")
    if cert and key:
        try:
            context.load_cert_chain(files[cert], files[key], password="")
        except (ssl.SSLError, ValueError) as error:
            reason = getattr(error, "reason", None)
            wrong = "is not the key of" if reason == "KEY_VALUES_MISMATCH" else "does not go with"
            cure = "both must be PEM, and the key without a password"
            yield f"{_named(key, files[key])}, which {wrong} {files[cert]} of {_TLS_FILES[cert]}: {cure}"


def ping(engine: Engine) -> None:
    """Connect and no more. ConfigError or UnavailableError where that fails."""
    with _connected(engine):
        pass


def init_db(engine: Engine) -> bool:
    """Create the table where it is missing; whether this call did."""
    with _connected(engine) as connection:
        if inspect(connection).has_table(ConsumerConfig.__tablename__):
            return False
        try:
            Base.metadata.create_all(connection)
            connection.commit()
        except SQLAlchemyError:
            connection.rollback()
            if not inspect(connection).has_table(ConsumerConfig.__tablename__):
                raise
            return False  # another init was faster
        return True


def load(engine: Engine, consumer_name: str) -> Row:
    """The consumer's row. ConfigError: no table, no row, a bad row. UnavailableError: no database at the moment."""
    table = ConsumerConfig
    with _connected(engine) as connection:
        rows = connection.execute(select(*_as_text()).where(table.consumer_name == consumer_name)).all()
        # MySQL takes `Orders` for `orders`; Kafka does not.
        rows = [row for row in rows if row[0] == consumer_name]
        name, *_ = _as_text()
        named = select(name).where(table.consumer_name != "").order_by(table.consumer_name)
        names = [] if rows else connection.scalars(named.limit(21)).all()
    if not rows:
        exist = ", ".join(map(_legible, names[:20])) + (", …" if len(names) > 20 else "") or "none"
        missing = f"table consumer_configs has no row {consumer_name!r} (CONSUMER_NAME), but: {exist}"
        similar = [each for each in names if each.strip().casefold() == consumer_name.casefold()]
        rename = f"rename row {similar[0]!r}, " if similar else ""
        raise ConfigError([f"{missing}; {rename}set CONSUMER_NAME, or insert the row with python main.py init"])
    if len(rows) > 1:
        raise ConfigError([f"table consumer_configs has {len(rows)} rows {consumer_name!r}: keep one"])
    return Row.validated(*rows[0])


def load_pause(engine: Engine, consumer_name: str) -> bool | None:
    """Whether the row says that its workers pause, whatever else is wrong with it; None: it does not tell."""
    named, *_, settings = _as_text()
    with _connected(engine) as connection:
        asked = select(named, settings).where(ConsumerConfig.consumer_name == consumer_name)
        told = [_json_object(metadatas) for name, metadatas in connection.execute(asked) if name == consumer_name]
    said = [each.get("paused", False) if each is not None else None for each in told]  # by two rows of a name, too
    return said[0] if said and isinstance(said[0], bool) and all(each is said[0] for each in said) else None


def _as_text() -> list[Any]:
    """What a row is made of. Tables made by hand have columns of other types, JSON or MySQL's bytes, too."""
    table = ConsumerConfig
    columns = (
        table.consumer_name,
        table.topics_input,
        table.topics_output,
        table.kafka_bootstrap_server,
        table.metadatas,
    )
    return [cast(column, Text) for column in columns]


LONGEST_LISTED = 1_048_576
"""Characters of a column in a list of all rows: what somebody writes into another row ends no worker. Far more than
settings take, for the other keys of `metadatas` are the user's own.
"""

NAMELESS = "(no name)"
"""What a row without one is listed by: no consumer can be called so."""


class ListedRow(NamedTuple):
    """A row of the table; `problems` say why it is no good, and then `row` is None."""

    consumer_name: str
    row: Row | None
    problems: tuple[str, ...] = ()


def load_all(engine: Engine) -> list[ListedRow]:
    """Every row, by name, also those that are no good. ConfigError: no table. UnavailableError: no database."""
    with _connected(engine) as connection:
        try:
            columns = [func.substr(column, 1, LONGEST_LISTED + 1) for column in _as_text()]
            # Not sorted there: versions of MySQL have no memory for that where rows are long (1038).
            rows = sorted(connection.execute(select(*columns)).all(), key=lambda row: row[0] or "")
        except DBAPIError as error:
            if not _is_not_utf8(error):
                raise
            connection.rollback()
            ids = connection.scalars(select(ConsumerConfig.id).order_by(ConsumerConfig.consumer_name)).all()
            found = dict.fromkeys([_name_of(connection, each) for each in ids])
            return [each if isinstance(each, ListedRow) else _by_itself(engine, each) for each in found]
    names = [row[0] or NAMELESS for row in rows]
    return [
        _listed(names.count(name), name, *row[1:])
        for at, (name, row) in enumerate(zip(names, rows, strict=True))
        if name not in names[:at]
    ]


def _name_of(connection: Connection, id: int) -> "str | ListedRow":
    """The name in one row; the row itself, as no good, where the name is not UTF-8."""
    name, *_ = _as_text()
    try:
        return connection.scalar(select(name).where(ConsumerConfig.id == id)) or NAMELESS
    except DBAPIError as error:
        if not _is_not_utf8(error):
            raise
        connection.rollback()
        cure = "write it anew, or delete the row"
        return ListedRow(f"(id {id})", None, (f"the row with id {id} has a consumer_name that is not UTF-8: {cure}",))


def _by_itself(engine: Engine, name: str) -> ListedRow:
    """One row whose text is not UTF-8 ends a statement that reads all of them."""
    if not re.fullmatch(CONSUMER_NAME, name):
        return _listed(1, name)
    try:
        return ListedRow(name, load(engine, name))
    except DatabaseRefusedError as error:
        return ListedRow(name, None, tuple(f"row {name}: {problem}" for problem in error.problems))
    except ConfigError as error:
        return ListedRow(name, None, tuple(error.problems))


def _is_not_utf8(error: DBAPIError) -> bool:
    return _code(error.orig) == "22021" or str(error.orig).startswith("Could not decode to UTF-8")


def _legible(name: str) -> str:
    """Blanks at its end must be seen."""
    return name if re.fullmatch(CONSUMER_NAME, name) else repr(name)


def _listed(number: int, name: str, *columns: str | None) -> ListedRow:
    if name == NAMELESS:
        return ListedRow(
            name, None, ("a row of table consumer_configs has no consumer_name: give it one, or delete it",)
        )
    if not re.fullmatch(CONSUMER_NAME, name):
        return ListedRow(
            name, None, (f"no worker can be called {name!r}: rename the row, with A-Z a-z 0-9 . _ - only",)
        )
    if any(len(column or "") > LONGEST_LISTED for column in columns):
        return ListedRow(
            name, None, (f"row {name} has a column of more than {LONGEST_LISTED:,} characters: shorten it",)
        )
    try:
        row = Row.validated(name, *columns)
    except ConfigError as error:
        return ListedRow(name, None, tuple(error.problems))
    except Exception as error:  # no worker ends by what stands in the row of another one
        return ListedRow(name, None, (f"row {name} cannot be looked at: {type(error).__name__}",))
    if number > 1:
        return ListedRow(name, None, (f"table consumer_configs has {number} rows {name!r}: keep one",))
    return ListedRow(name, row)


def save(engine: Engine, row: Row) -> bool:
    """Insert the consumer's row (True) or replace it (False); the last of two at once wins.

    `metadatas` None keeps the stored ones, "" empties them.
    """
    for _ in range(2):  # when another init inserts it in between, it is there to be replaced the second time
        try:
            return _save(engine, row)
        except IntegrityError:
            continue
    taken = f"the database takes {row.consumer_name!r} for the name of another row (case or blanks may differ)"
    raise ConfigError([f"{taken}: rename that row, or choose another name"])


def _save(engine: Engine, row: Row) -> bool:
    table = ConsumerConfig
    values: dict[str, Any] = {
        "topics_input": ",".join(row.topics_input),
        "topics_output": ",".join(row.topics_output),
        "kafka_bootstrap_server": row.bootstrap_servers,
    }
    if row.metadatas is not None:
        # Without a type of its own the text also fits where the column was made as JSON.
        values["metadatas"] = text(":given").bindparams(bindparam("given", row.metadatas or None, NULLTYPE))
    column, *_ = _as_text()
    with _connected(engine) as connection:
        found = connection.execute(select(table.id, column).where(table.consumer_name == row.consumer_name))
        ids = {number for number, name in found if name == row.consumer_name}
        for each in ids:
            _write(connection, update(table).where(*_is_row(each, row.consumer_name)).values(values), row.consumer_name)
        if not ids:
            _write(connection, insert(table).values(consumer_name=row.consumer_name, **values), row.consumer_name)
        connection.commit()
        return not ids


def _write(connection: Connection, statement: Insert | Update, name: str) -> None:
    """ConfigError: no row was written, which is no error to a database."""
    if connection.execute(statement.execution_options(preserve_rowcount=True)).rowcount == 0:
        why = "its row level security or a trigger forbids it, or somebody has just deleted or renamed it"
        raise ConfigError([f"the database does not write row {name}, and does not say why: {why}"])


def _is_row(id: int | None, name: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """By its name alone the database may take another row, of another case; by its id alone, too, in a table made by
    hand in which ids are no key.
    """
    return ConsumerConfig.id == id, ConsumerConfig.consumer_name == name


def set_paused(engine: Engine, names: Sequence[str], *, paused: bool) -> dict[str, bool]:
    """Write it into the `metadatas` of these rows, all of them or none; for each whether it was otherwise before.

    ConfigError: no such row, or metadatas that hold no settings. What else is in them stays. Nothing is written before
    all of them were looked at: some tables know no transactions (MySQL's MyISAM and Aria).
    """
    table, problems, changed, given = ConsumerConfig, list[str](), dict[str, bool](), list[tuple[int, str, str]]()
    column, *_, settings = _as_text()
    with _connected(engine) as connection:
        asked = select(table.id, column, settings).where(table.consumer_name.in_(names))
        rows = [row for row in connection.execute(asked.with_for_update()) if row[1] in names]
        missing = [name for name in names if name not in {row[1] for row in rows}]
        problems += [f"table consumer_configs has no row {name!r} that this user may write" for name in missing]
        for id, name, metadatas in rows:
            content = _json_object(metadatas)
            if content is None:
                problems.append(f"metadatas of row {name} is no JSON object: put one there, with init --metadatas")
                continue
            changed[name] = content.get("paused", False) is not paused
            if changed[name]:
                given.append((id, name, _with_pause(metadatas or "", paused=paused)))
        if problems:
            raise ConfigError(problems)
        for id, name, stands in given:
            written = text(":given").bindparams(bindparam("given", stands, NULLTYPE))
            _write(connection, update(table).where(*_is_row(id, name)).values(metadatas=written), name)
        connection.commit()
    return {name: changed[name] for name in names}


def keeping_pause(row: Row) -> Row:
    """The row with a pause in its `metadatas`, unless they say themselves whether there is one, or can hold none."""
    content = _json_object(row.metadatas)
    if row.metadatas is None or content is None or "paused" in content:
        return row
    return replace(row, metadatas=_with_pause(row.metadatas, paused=True))


def _with_pause(metadatas: str, *, paused: bool) -> str:
    """This text of a JSON object, or of nothing, with a pause or without. All else in it stays as it was written:
    read and written again, 1.10 would be another text, and of two equal keys one would be gone.
    """
    written = metadatas if metadatas.removeprefix(BOM).strip() not in {"", "null"} else "{}"
    members = _members(written)
    while said := [at for at, member in enumerate(members) if member.key == "paused"]:
        at = said[0]
        if at:  # with the comma before it
            begin, end = members[at - 1].end, members[at].end
        else:
            begin, end = members[0].begin, members[1].begin if len(members) > 1 else members[0].end
        written = written[:begin] + written[end:]
        members = _members(written)
    if not paused:
        return written
    at = members[-1].end if members else written.index("{") + 1
    return f'{written[:at]}{", " if members else ""}"paused": true{written[at:]}'


class _Member(NamedTuple):
    """Of a JSON object: where it is written, from the quotation mark of its key to the end of its value."""

    key: str
    begin: int
    end: int


def _members(written: str) -> list[_Member]:
    """Those of this object; it is known to be one."""
    decode, found = json.JSONDecoder().raw_decode, list[_Member]()
    at = _blanks_end(written, written.index("{") + 1)
    while written[at] != "}":
        key, colon = decode(written, at)
        _, end = decode(written, _blanks_end(written, _blanks_end(written, colon) + 1))
        found.append(_Member(key, at, end))
        at = _blanks_end(written, end)
        if written[at] == ",":
            at = _blanks_end(written, at + 1)
    return found


def _blanks_end(written: str, at: int) -> int:
    return len(written) - len(written[at:].lstrip(" \t\r\n"))


def _json_object(metadatas: str | None) -> dict[str, Any] | None:
    """What a row's metadatas hold; None where it is something else than settings, such as free text."""
    try:
        content = json.loads((metadatas or "").removeprefix(BOM).strip() or "null")
    except (ValueError, RecursionError):
        return None
    content = {} if content is None else content
    return content if isinstance(content, dict) else None


# ---------------------------------------------------------------- What may be wrong with a database.


class _Cause(NamedTuple):
    heals: bool
    cure: str
    words: str  # what the message says where there is no code: a failed connection of PostgreSQL, all of SQLite
    codes: frozenset[int | str] = frozenset()  # MySQL's numbers and PostgreSQL's SQLSTATEs, from their manuals


_NEVER = r"(?!)"  # the words of what always has a code

# A server of PostgreSQL may speak the language of its machine, and tells no code before it has let somebody in. These
# are the words of its German, Spanish, French and Italian (version 15).
_LOCKED_ABROAD = "keine Berechtigung zum Einloggen|no se le permite conectarse|pas autorisé à se connecter"
_LOCKED_ABROAD += "|non è consentito effettuare il login"
_LOGIN_ABROAD = "Authentifizierung .*fehlgeschlagen|Rolle .*existiert nicht|autentificación .*falló|no existe el rol"
_LOGIN_ABROAD += "|authentification .*échou|rôle .*n'existe pas|autenticazione .*fallita|ruolo .*non esiste"
_DATABASE_ABROAD = "Datenbank .*existiert nicht|no existe la base de datos|base de données .*n'existe pas"
_DATABASE_ABROAD += "|database .*non esiste"


# Of TLS. PyMySQL gives a handshake that fails the number of a server that is away.
_TLS_CAUSES = (
    _Cause(
        heals=False,
        cure="has a certificate for another name: set DB_HOST (or DATABASE_URL) to a name that is in it, or"
        " DB_SSL_MODE=verify-ca, which does not compare names",
        words=r"hostname mismatch|ip address mismatch|does not match host name",
    ),
    _Cause(
        heals=True,  # a machine that has just started, before its clock was set
        cure="has a certificate that is not valid yet: set the clock of this machine, or wait",
        words="not yet valid",
    ),
    _Cause(
        heals=False,
        cure="has a certificate that is no good here: it or that of who signed it has expired, or DB_SSL_CA{ca} did not"
        " sign it, or the clock of this machine is wrong",
        words=r"certificate verify failed|certificate_verify_failed",
    ),
    _Cause(
        heals=False,  # MySQL's driver asks for TLS wherever it is offered
        cure="has no version of TLS that this worker takes, mostly because it is too old: upgrade it, or do without"
        " TLS: DB_SSL_MODE=disable",
        words=r"alert.protocol.version|unsupported.protocol|dh.key.too.small",
    ),
    _Cause(
        heals=False,
        cure="wants a certificate of this worker, or refuses its own: check DB_SSL_CERT{cert} and DB_SSL_KEY",
        words=r"\balert\b|_alert_|valid client certificate|certificate authentication failed",
    ),
    _Cause(
        heals=True,  # so ends, too, who is shut down at that moment, or later
        cure="ends the connection while TLS begins: if this stays, check DB_SSL_CERT{cert}, which it may refuse;"
        " or its TLS is too old, and DB_SSL_MODE=disable does without",
        words="eof occurred in violation of protocol|unexpected eof|eof detected|ssl connection has been closed",
    ),
    _Cause(
        heals=False,
        cure="is not asked: others may read the key DB_SSL_KEY{key}, and then the driver does not take it: chmod 600",
        words="private key file .* has group or world access",
    ),
    _Cause(
        heals=False,
        cure="does not speak TLS: turn it on there, or unset DB_SSL_CA and DB_SSL_MODE (or ssl… of DATABASE_URL)",
        words="doesn't support it|does not support ssl|support ssl",
    ),
    _Cause(
        heals=False,
        cure="has no line for this host, user and database in its pg_hba.conf: add one there; or, where it has one for"
        " TLS alone (hostssl), set DB_SSL_CA=FILE to who signed its certificate, or DB_SSL_CA=system",
        words=r"pg_hba\.conf",  # in any language; also a line that rejects it
    ),
    _Cause(
        heals=False,
        cure="wants TLS: set DB_SSL_CA=FILE to who signed its certificate, or DB_SSL_CA=system",
        codes=frozenset({3159}),
        words="insecure transport",
    ),
    _Cause(
        heals=False,
        cure="and this worker do not agree on TLS: check DB_SSL_CA{ca} and DB_SSL_MODE (or ssl… of DATABASE_URL)",
        codes=frozenset({2026}),
        words=r"certificate|\[SSL|ssl error|sslmode",
    ),
)
_BY_WORDS = (
    *_TLS_CAUSES,
    _Cause(  # PostgreSQL has one code for this and for a view that cannot be written
        heals=False,
        cure="has a materialized view consumer_configs that was never filled: REFRESH MATERIALIZED VIEW"
        " consumer_configs",
        words="has not been populated",
    ),
)
"""What has words of its own, where the code tells less: that of a connection that failed, and PostgreSQL's 55000."""

_TELLS_LESS = frozenset({None, 2002, 2003, 2006, 2013, 2026, "55000"})

# A host, a user, a database may be called `alert`, or `certificates`. An apostrophe inside a word quotes nothing.
_NAMES = re.compile(
    r"""(?<!\w)'[^']*'|"[^"]*"|`[^`]*`|[«»„][^«»“]*[«»“]|(?<=no such user: )\S+|(?<=no such database: )\S+"""
)

# What Python's TLS tells stands in quotes, too: SSLEOFError(8, 'EOF occurred in violation of protocol').
_TOLD_BY_PYTHON = re.compile(r"Error\(-?\d+, '([^']*)'")

_CAUSES = (
    _Cause(
        heals=False,  # not by itself, as a password that is refused
        cure="does not let this user in: it is locked, or its password has expired: unlock it or renew the password"
        " there (ALTER USER), or check DB_USER (or DATABASE_URL)",
        codes=frozenset({1820, 1862, 3118, 3955, 4150, 4151}),
        words=f"not permitted to log in|{_LOCKED_ABROAD}",
    ),
    _Cause(
        heals=False,
        cure="refuses the login: check DB_USER and DB_PASSWORD (or DATABASE_URL){expired}{no_cert}",
        codes=frozenset({1045, 1130, 1251, 1698, 2059, "28P01", "28000"}),
        words=f"authentication failed|no password supplied|role .* does not exist|no such user|{_LOGIN_ABROAD}",
    ),
    _Cause(
        heals=False,
        cure="is not there, or not for this user: check DB_NAME (or DATABASE_URL), create it, or grant the rights on it"
        " (those of a role: SET DEFAULT ROLE)",
        codes=frozenset({1044, 1049, "3D000"}),
        words=f"database .* does not exist|no such database|permission denied for database|{_DATABASE_ABROAD}",
    ),
    _Cause(
        heals=False,
        cure="is not there, cannot be opened or is no database: check DATABASE_URL and the rights of its directory;"
        " python main.py init creates it",
        words="unable to open database file|file is not a database",
    ),
    _Cause(
        heals=False,
        cure="has no table consumer_configs: create it with python main.py init{schema}",
        codes=frozenset({1146, "42P01"}),
        words="no such table",
    ),
    _Cause(
        heals=False,
        cure="has a table consumer_configs without some column of models.py: add it",
        codes=frozenset({1054, "42703"}),
        words="no such column|has no column named",
    ),
    _Cause(
        heals=False,
        cure="cannot be written: check who may write the file and its directory",
        words="readonly database",
    ),
    _Cause(
        heals=True,
        cure="has no room: its disk is full",
        codes=frozenset({1021, 1114, "53100"}),
        words="disk is full",
    ),
    _Cause(
        heals=False,
        cure="is read-only, as a replica is: check DB_HOST and DB_PORT (or DATABASE_URL); only init, pause and resume"
        " write",
        codes=frozenset({1290, 1836, 1792, "25006"}),
        words="read-only transaction|read-only option",
    ),
    _Cause(
        heals=False,
        cure="has a view consumer_configs that cannot be read: who defined it may not read what is behind it, or that"
        " is gone: make it anew (CREATE OR REPLACE VIEW)",
        codes=frozenset({1356}),
        words=_NEVER,
    ),
    _Cause(
        heals=False,
        cure="has a view consumer_configs, or a trigger on that table, and who defined it is gone: make it anew"
        " (CREATE OR REPLACE VIEW; DROP TRIGGER and CREATE TRIGGER)",
        codes=frozenset({1449}),
        words=_NEVER,
    ),
    _Cause(
        heals=True,
        cure="has a table consumer_configs that is damaged: if this stays, REPAIR TABLE consumer_configs, or make it"
        " anew",
        codes=frozenset({1034, 1194, 1195}),
        words=_NEVER,
    ),
    _Cause(
        heals=True,
        cure="has a table consumer_configs whose file is gone: if this stays, restore it, or DROP TABLE"
        " consumer_configs and make it anew with python main.py init",
        codes=frozenset({1932}),  # of InnoDB, which knows no REPAIR TABLE
        words=_NEVER,
    ),
    _Cause(
        heals=False,
        cure="has a view consumer_configs that cannot be written: change the table behind it; only init, pause and"
        " resume write",
        codes=frozenset({1288, 1393, 1394, 1471, "0A000", "42809", "55000"}),
        words="because it is a view",
    ),
    _Cause(
        heals=False,
        cure="forbids it: grant its user SELECT on consumer_configs (for init also CREATE, INSERT, UPDATE{sequence}; to"
        " pause and resume UPDATE)",
        codes=frozenset({1142, 1143, "42501"}),
        words=_NEVER,
    ),
    _Cause(
        heals=False,
        cure="has a table consumer_configs with a column that is left empty and must not be: let it be NULL"
        " (metadatas), or give it a default (the id: MODIFY id INTEGER NOT NULL AUTO_INCREMENT, or in PostgreSQL ALTER"
        " id ADD GENERATED BY DEFAULT AS IDENTITY)",
        codes=frozenset({1048, 1364, "23502"}),
        words="NOT NULL constraint failed",
    ),
    _Cause(
        heals=False,
        cure="cannot hold a character of it: its table consumer_configs is not for all of Unicode (MySQL: ALTER TABLE"
        " consumer_configs MODIFY metadatas TEXT CHARACTER SET utf8mb4; PostgreSQL: a database with ENCODING 'UTF8')",
        codes=frozenset({1366, 3988, "22P05"}),
        words="has no equivalent in encoding",
    ),
    _Cause(
        heals=False,
        cure="has a table consumer_configs that cannot hold this: a column is too short, not of a type for text, or has"
        " a rule of its own: make it TEXT (consumer_name: VARCHAR(200))",
        codes=frozenset(
            {1265, 1292, 1406, 3140, 3819, 4025}  # MariaDB keeps the type JSON by a rule
            | {1267, 1416, 4078, 4079}  # no text can be made of it, as of a POINT, nor it of text
            | {1906, 3105}  # the server makes its values by itself, as for 428C9
            | {"22001", "22007", "22P02", "23514", "428C9", "42804", "42883"}
        ),
        words=_NEVER,
    ),
    _Cause(
        heals=False,
        cure="holds text in consumer_configs that is not UTF-8: write it anew, with init --metadatas or there",
        codes=frozenset({"22021"}),
        words="could not decode to utf-8",
    ),
    _Cause(
        heals=True,
        cure="has a lock on consumer_configs that another session holds: if this stays, end its transaction",
        codes=frozenset({1205, "55P03"}),
        words="database is locked",
    ),
    _Cause(
        heals=True,
        cure="is not ready",
        codes=frozenset(
            {1037, 1040, 1041, 1053, 1129, 1135, 1203, 1213, 1226, 1317, 1927, 1969, 3024, 3032}
            | {1158, 1159, 1160, 1161, 9001, 9006}  # the last two of ProxySQL
            | {1047}  # of Galera: this node is not part of the cluster just now
            | {"40001", "40P01", "53000", "53200", "53300", "53400", "57014", "57P01", "57P02", "57P03", "57P05"}
            | {"08P01", "58000", "58030"}  # the first of PgBouncer: no server was free in time
        ),
        words="not currently accepting connections|starting up|shutting down|too many|connection slots|recovery",
    ),
    _Cause(
        heals=False,
        cure="takes no such option: check DATABASE_URL",
        words=r"invalid ([\w.]+ )*(value|number|option)|could not match",
    ),
    _Cause(
        heals=True,
        cure="cannot be reached: if this stays, check DB_HOST and DB_PORT (or DATABASE_URL)",
        codes=frozenset({2002, 2003, 2005, 2006, 2013, "08000", "08001", "08003", "08006"}),
        words="refused|timed? ?out|(resolve|translate) host|closed the connection|no route|unreachable|reset by peer"
        "|on socket .*no such file",
    ),
    # A server of PostgreSQL, or a proxy before it, tells in words alone why it lets nobody in. What is not known to be
    # for ever may be over in a moment: a failover, a proxy whose database is away.
    _Cause(
        heals=False, cure="takes no such option: check DATABASE_URL", words="FATAL: .*(parameter|protocol|argument)"
    ),
    _Cause(
        heals=False,
        cure="does not answer as a server of PostgreSQL does: check DB_HOST and DB_PORT (or DATABASE_URL)",
        words="expected authentication request|invalid response to SSL negotiation",
    ),
    _Cause(
        heals=True,
        cure="lets nobody in just now: if this stays, check DATABASE_URL, or DB_HOST and the others",
        words="FATAL: ",
    ),
)
_UNKNOWN = _Cause(heals=False, cure="cannot be used: check DATABASE_URL, or DB_HOST and the others", words="")
_UNKNOWN_OF_SERVER = _Cause(
    heals=True, cure="cannot be used just now: if this stays, check DATABASE_URL, or DB_HOST and the others", words=""
)


def explain(error: Exception, url: URL) -> Trouble:
    """What an error of SQLAlchemy, or of a driver below it, means for the person who set up the database `url`."""
    reported: Any = error.orig if isinstance(error, DBAPIError) else error
    code = _code(reported)
    # The arguments of a UnicodeEncodeError hold all of the text that could not be sent: the password, or with it.
    parts = (reported.reason,) if isinstance(reported, UnicodeEncodeError) else reported.args
    message = _telling(" ".join(str(part) for part in parts if part != code))
    nameless = _NAMES.sub("''", _TOLD_BY_PYTHON.sub(r"Error(\1", message))
    told = (each for each in _BY_WORDS if code in _TELLS_LESS and re.search(each.words, nameless, re.IGNORECASE))
    fitting = (
        each
        for each in (*_BY_WORDS, *_CAUSES)
        if (code in each.codes if code else re.search(each.words, nameless, re.IGNORECASE))
    )
    cause = next(told, None) or next(fitting, _UNKNOWN_OF_SERVER if _is_of_server(reported) else _UNKNOWN)
    return Trouble(cause.heals, f"{_place(url)} {cause.cure.format(**_files(url))} ({_first_line(message)})")


def _telling(message: str) -> str:
    """Without DB_SSL_MODE libpq tries again without TLS, and has a line for each try. That one of them has no line in
    pg_hba.conf says nothing where the other one came further.
    """
    lines = message.splitlines()
    further = [line for line in lines if "pg_hba.conf" not in line]
    return "\n".join(further if any("FATAL" in line for line in further) else lines)


def _is_of_server(reported: Exception) -> bool:
    """Whether a server, or the way to it, has failed. Nobody knows all that may happen there: most of it is over soon,
    and who waits says why.
    """
    kinds = {each.__name__ for each in type(reported).__mro__}
    is_of_server = not kinds.isdisjoint({"OperationalError", "InternalError", "InterfaceError"})  # names of PEP 249
    return is_of_server and not isinstance(reported, sqlite3.Error)


def _files(url: URL) -> dict[str, str]:
    """What stands for the names in braces of a cure: the files of TLS, in brackets, and what else it may be."""
    names = {"ca": ("ssl_ca", "sslrootcert"), "cert": ("ssl_cert", "sslcert"), "key": ("ssl_key", "sslkey")}
    given = {name: next((url.query[each] for each in both if each in url.query), "") for name, both in names.items()}
    # PostgreSQL does not tell a password that is over from a wrong one, nor MySQL whether it missed the certificate.
    no_cert = "" if given["cert"] else "; DB_SSL_CERT where the user must show a certificate"
    of_postgresql = {
        "expired": ", or its password has expired (VALID UNTIL)",
        "schema": ", or grant its user USAGE on the schema where it is",
        "sequence": ", USAGE on the schema and on the sequence consumer_configs_id_seq",
    }
    if url.get_backend_name() != "postgresql":
        of_postgresql = dict.fromkeys(of_postgresql, "")
    return {name: f" ({file})" if file else "" for name, file in given.items()} | of_postgresql | {"no_cert": no_cert}


def _code(reported: Any) -> int | str | None:
    """MySQL's number, which says more than its SQLSTATE, or the SQLSTATE. SQLite has none."""
    number = reported.args[0] if reported.args else None
    return number if isinstance(number, int) else getattr(reported, "sqlstate", None)


def _place(url: URL) -> str:
    if url.get_backend_name() == "sqlite":
        return f"SQLite file {unquote((url.database or '').removeprefix('file:'))}"
    host = url.host or url.query.get("unix_socket") or url.query.get("host") or "localhost"
    host = host if isinstance(host, str) else ",".join(host)
    return f"database {url.database} at {host}" + (f":{url.port}" if url.port else "")


def _first_line(message: str) -> str:
    line = (message.strip().splitlines() or ["no reason given"])[0]
    # SQLite shows a text of the row, which may hold a secret.
    return re.sub(r"^(connection failed: )?connection to server .*? failed: | with text .*", "", line)[:200]


class DatabaseRefusedError(ConfigError):
    """The database cannot be used as it is set up: a login, a right, a missing table. No row is to blame."""


def _refused(error: Exception, url: URL) -> Exception:
    trouble = explain(error, url)
    return trouble.error() if trouble.heals else DatabaseRefusedError([trouble.line])


@contextmanager
def _connected(engine: Engine) -> Iterator[Connection]:
    """A connection; what goes wrong on the way and on it leaves as UnavailableError or ConfigError."""
    try:
        connection = engine.connect()
    # Drivers pass what they were given badly through: TypeError for an unknown option, OSError for a missing ssl_ca.
    except (SQLAlchemyError, OSError, RuntimeError, TypeError, ValueError, AttributeError, LookupError) as error:
        raise _refused(error, engine.url) from error
    try:
        with connection:
            if settings := _SESSION.get(engine.dialect.name):
                connection.exec_driver_sql(settings)
            yield connection
    except IntegrityError as error:
        if _code(error.orig) in {1062, "23505"} or str(error.orig).startswith("UNIQUE constraint failed"):
            raise  # the name is there already: `save` knows what that means
        raise _refused(error, engine.url) from error
    except DBAPIError as error:  # also of the last words to a server that has just gone
        raise _refused(error, engine.url) from error
