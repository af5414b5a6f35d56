"""The row: which topics a consumer joins, on which brokers. The table, and its life.

No Kafka. Connections are short: nothing that is tied to one leaves this file.
"""

import json
import os
import re
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

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

from config import BOM, CONSUMER_NAME, ConfigError, quoted
from utils.database_errors import DatabaseRefusedError, code_of, explain, refused

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
    return code_of(error.orig) == "22021" or str(error.orig).startswith("Could not decode to UTF-8")


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


@contextmanager
def _connected(engine: Engine) -> Iterator[Connection]:
    """A connection; what goes wrong on the way and on it leaves as UnavailableError or ConfigError."""
    try:
        connection = engine.connect()
    # Drivers pass what they were given badly through: TypeError for an unknown option, OSError for a missing ssl_ca.
    except (SQLAlchemyError, OSError, RuntimeError, TypeError, ValueError, AttributeError, LookupError) as error:
        raise refused(error, engine.url) from error
    try:
        with connection:
            if settings := _SESSION.get(engine.dialect.name):
                connection.exec_driver_sql(settings)
            yield connection
    except IntegrityError as error:
        if code_of(error.orig) in {1062, "23505"} or str(error.orig).startswith("UNIQUE constraint failed"):
            raise  # the name is there already: `save` knows what that means
        raise refused(error, engine.url) from error
    except DBAPIError as error:  # also of the last words to a server that has just gone
        raise refused(error, engine.url) from error
