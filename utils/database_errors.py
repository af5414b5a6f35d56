"""What an error of a database means for a person: whether it may heal by itself, and one line that names the cure.

The words and numbers are those of MySQL, MariaDB, PostgreSQL and SQLite, and of their drivers.
"""

import re
import sqlite3
from typing import Any, NamedTuple
from urllib.parse import unquote

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError

from config import ConfigError, Trouble


class DatabaseRefusedError(ConfigError):
    """The database cannot be used as it is set up: a login, a right, a missing table. No row is to blame."""


def refused(error: Exception, url: URL) -> Exception:
    trouble = explain(error, url)
    return trouble.error() if trouble.heals else DatabaseRefusedError([trouble.line])


def explain(error: Exception, url: URL) -> Trouble:
    """What an error of SQLAlchemy, or of a driver below it, means for the person who set up the database `url`."""
    reported: Any = error.orig if isinstance(error, DBAPIError) else error
    code = code_of(reported)
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


def code_of(reported: Any) -> int | str | None:
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


# ---------------------------------------------------------------- The causes.


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
        heals=False,
        cure="has a trigger, or a rule of its own, that refuses this: ask who looks after it; only init, pause and"
        " resume write",
        codes=frozenset({1644, "P0001"}),  # SIGNAL, RAISE EXCEPTION
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
