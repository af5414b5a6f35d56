"""What is said of an error of a database: whether it heals by itself, and the cure."""

import sqlite3

import psycopg
import pymysql  # type: ignore[import-untyped]
import pytest
from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError

from utils.database_errors import explain


@pytest.mark.parametrize(
    ("error", "heals"),
    [
        (pymysql.OperationalError(1040, "Too many connections"), True),
        (pymysql.OperationalError(1053, "Server shutdown in progress"), True),
        (pymysql.OperationalError(2013, "Lost connection to MySQL server during query"), True),
        (pymysql.OperationalError(2003, "Can't connect to MySQL server on 'h' (timed out)"), True),
        (pymysql.OperationalError(1142, "SELECT command denied to user"), False),
        (pymysql.OperationalError(1194, "Table 'consumer_configs' is marked as crashed"), True),
        *((pymysql.OperationalError(code, "Illegal parameter data type point"), False) for code in (1267, 4078, 4079)),
        (
            pymysql.OperationalError(2003, "Can't connect to MySQL server on 'h' ([SSL: CERTIFICATE_VERIFY_FAILED])"),
            False,
        ),
        (pymysql.OperationalError(3159, "Connections using insecure transport are prohibited"), False),
        (psycopg.OperationalError("connection failed: FATAL:  the database system is starting up"), True),
        (
            psycopg.OperationalError('connection failed: FATAL:  database "d" is not currently accepting connections'),
            True,
        ),
        (pymysql.OperationalError(4151, "Access denied, this account is locked"), False),
        *(
            (psycopg.OperationalError(f"connection failed: FATAL:  {text}"), True)
            for text in (
                "no more connections allowed (max_client_conn)",
                "pgbouncer cannot connect to server",
                "server login has been failing, cached error: connect failed (server_login_retry)",
                "server conn crashed?",
                "database is paused",
                "out of memory",
                "could not fork new process for connection: Resource temporarily unavailable",
                "the database system is not accepting connections",
                "Max client connections reached",
            )
        ),
        *(
            (psycopg.OperationalError(f"connection failed: FATAL:  {text}"), False)
            for text in (
                'password authentication failed for user "u"',
                "no such user: u",
                "no such database: d",
                "unsupported startup parameter: options",
                'unrecognized configuration parameter "x"',
            )
        ),
        (pymysql.OperationalError(2003, "certificate verify failed: certificate is not yet valid"), True),
        (pymysql.OperationalError(2003, "certificate verify failed: certificate has expired"), False),
        (psycopg.errors.OutOfMemory("out of memory"), True),
        *(
            (pymysql.OperationalError(code, "interrupted"), True)
            for code in (1047, 1135, 1317, 1927, 1969, 3024, 3032, 9001)
        ),
        (psycopg.errors.ProtocolViolation("query_wait_timeout"), True),
        (psycopg.errors.IoError("could not read block"), True),
        (psycopg.OperationalError("connection failed: FATAL:  sorry, too many clients already"), True),
        (psycopg.errors.AdminShutdown("terminating connection due to administrator command"), True),
        (psycopg.errors.ConnectionTimeout("connection timeout expired"), True),
        (psycopg.errors.InsufficientPrivilege("permission denied for table consumer_configs"), False),
        (psycopg.OperationalError("connection failed: server does not support SSL, but SSL was required"), False),
        (sqlite3.OperationalError("database is locked"), True),
        (sqlite3.OperationalError("attempt to write a readonly database"), False),
        (sqlite3.OperationalError("database or disk is full"), True),
        (pymysql.OperationalError(1021, "Disk full"), True),
        (psycopg.errors.DiskFull("could not extend file: No space left on device"), True),
        (sqlite3.OperationalError("something new"), False),
        (pymysql.OperationalError(9876, "something new"), True),
        (pymysql.InternalError("Packet sequence number wrong - got 0 expected 1"), True),
        (pymysql.InterfaceError(0, "something new"), True),
        (pymysql.ProgrammingError(9876, "something new"), False),
        (psycopg.OperationalError("the connection is lost"), True),
        (psycopg.OperationalError("connection failed: ERROR:  no more connections allowed (max_client_conn)"), True),
        (psycopg.ProgrammingError("something new"), False),
        (psycopg.OperationalError('invalid integer value "x" for connection option "connect_timeout"'), False),
        (
            psycopg.OperationalError("connection failed: expected authentication request from server, but received S"),
            False,
        ),
        *(
            (psycopg.OperationalError(f"consuming input failed: {text}"), True)
            for text in (
                "SSL SYSCALL error: EOF detected",
                "SSL connection has been closed unexpectedly",
                "SSL error: unexpected eof while reading",
            )
        ),
    ],
)
def test_only_what_heals_by_itself_is_worth_waiting_for(error: Exception, heals: bool) -> None:
    trouble = explain(OperationalError("SELECT 1", None, error), make_url("mysql://u:topsecret@h/d"))

    assert trouble.heals is heals
    assert str(error.args[-1]).removeprefix("connection failed: ") in trouble.line
    assert "\n" not in trouble.line
    assert "topsecret" not in trouble.line


@pytest.mark.parametrize("name", ["alert", "mysql.alert.svc", "price_alert_store", "certificates", "sslmode"])
@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            pymysql.OperationalError(2003, "Can't connect to MySQL server on 'NAME' (refused)"),
            "cannot be reached",
        ),
        (
            pymysql.OperationalError(1045, "Access denied for user 'NAME'@'h' (using …)"),
            "refuses the login",
        ),
        (pymysql.OperationalError(1049, "Unknown database 'NAME'"), "is not there, or not for this user"),
        (pymysql.OperationalError(1203, "User NAME already has more than 'max_user_connections' …"), "is not ready"),
        (psycopg.OperationalError("[Errno -2] failed to resolve host 'NAME': Name or …"), "cannot be reached"),
        (psycopg.OperationalError('connection to server at "NAME" failed: Connection refused'), "cannot be reached"),
        (psycopg.OperationalError('connection failed: FATAL:  database "NAME" does not exist'), "is not there, or not"),
        (psycopg.OperationalError('FATAL:  password authentication failed for user "NAME"'), "refuses the login"),
        (psycopg.OperationalError("connection failed: FATAL:  no such user: NAME"), "refuses the login"),
    ],
)
def test_no_cause_is_seen_in_a_name(error: Exception, says: str, name: str) -> None:
    """`run` ended with 78 where the database at the host `mysql.alert.svc` was away, and spoke of certificates."""
    told = [str(each).replace("NAME", name) for each in error.args[-1:]]
    named = type(error)(*error.args[:-1], *told)
    trouble = explain(OperationalError("SELECT 1", None, named), make_url("mysql+pymysql://u@h/d"))
    assert f"database d at h {says}" in trouble.line
    assert trouble.heals is (says in {"cannot be reached", "is not ready"})


def test_what_python_tells_of_tls_stands_in_quotes_and_is_no_name() -> None:
    """A certificate of this worker that the server does not know was told as a server that cannot be reached."""
    told = "MySQL server has gone away (SSLEOFError(8, 'EOF occurred in violation of protocol (_ssl.c:2427)'))"
    url = make_url("mysql+pymysql://u@h/d?ssl_ca=ca.pem&ssl_cert=own.pem&ssl_key=own.key")
    trouble = explain(OperationalError("SELECT 1", None, pymysql.OperationalError(2006, told)), url)
    assert "check DB_SSL_CERT (own.pem)" in trouble.line


LOGIN, PLACE, LOCKED, LINE = "refuses the login", "is not there, or not for", "does not let this user in", "has no line"


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ("Passwort-Authentifizierung für Benutzer »alert« fehlgeschlagen", LOGIN),
        ("la autentificación password falló para el usuario «alert»", LOGIN),
        ("authentification par mot de passe échouée pour l'utilisateur  « alert »", LOGIN),
        ('autenticazione con password fallita per l\'utente "alert"', LOGIN),
        ("Rolle »database« existiert nicht", LOGIN),
        ("no existe el rol «u»", LOGIN),
        ("le rôle « u » n'existe pas", LOGIN),
        ('il ruolo "u" non esiste', LOGIN),
        ("Datenbank »Rolle« existiert nicht", PLACE),
        ("no existe la base de datos «d»", PLACE),
        ("la base de données « rôle » n'existe pas", PLACE),
        ('il database "ruolo" non esiste', PLACE),
        ("Rolle »u« hat keine Berechtigung zum Einloggen", LOCKED),
        ("al rol «u» no se le permite conectarse", LOCKED),
        ("le rôle « u » n'est pas autorisé à se connecter", LOCKED),
        ('al ruolo "u" non è consentito effettuare il login', LOCKED),
        ("kein pg_hba.conf-Eintrag für Host »h«, Benutzer »u«, Datenbank »d«, keine Verschlüsselung", LINE),
        ("в pg_hba.conf нет записи для компьютера", LINE),
        ('pg_hba.conf rejects connection for host "h", user "u", database "d", no encryption', LINE),
        ("zu viele Verbindungen für Rolle »u«", "lets nobody in just now"),
        ("Datenbank »d« akzeptiert gegenwärtig keine Verbindungen", "lets nobody in just now"),
        ("das Datenbanksystem startet", "lets nobody in just now"),
    ],
)
def test_a_server_that_speaks_another_language_is_understood(told: str, says: str) -> None:
    """Only English was: a wrong password was waited for, for ever."""
    message = f'connection failed: connection to server at "10.0.0.9", port 5432 failed: FATAL:  {told}'
    error = OperationalError("SELECT 1", None, psycopg.OperationalError(message))
    trouble = explain(error, make_url("postgresql+psycopg://u@h/d"))
    assert f"database d at h {says}" in trouble.line
    assert trouble.heals is (says not in {LOGIN, PLACE, LOCKED, LINE})


@pytest.mark.parametrize(
    "tries",
    [
        ('password authentication failed for user "u"', 'no pg_hba.conf entry for host "h", no encryption'),
        ('no pg_hba.conf entry for host "h", SSL encryption', 'password authentication failed for user "u"'),
        ("Passwort-Authentifizierung für Benutzer »u« fehlgeschlagen", "kein pg_hba.conf-Eintrag für Host »h«"),
    ],
)
def test_a_login_that_is_refused_over_tls_is_not_one_that_wants_tls(tries: tuple[str, str]) -> None:
    """With the lines of both tries in it the message was taken for one about TLS: DB_SSL_CA was to be set."""
    way = 'connection to server at "10.0.0.9", port 5432 failed: FATAL:  '
    message = "connection failed: " + "\n".join(way + told for told in tries)
    error = OperationalError("SELECT 1", None, psycopg.OperationalError(message))
    line = explain(error, make_url("postgresql+psycopg://u@h/d")).line
    assert LOGIN in line
    assert "DB_SSL_CA" not in line
    assert "(FATAL:  " in line
    assert "pg_hba" not in line


@pytest.mark.parametrize(
    ("url", "error"),
    [
        (
            "mysql+pymysql://u@/d?unix_socket=/no/socket",
            pymysql.OperationalError(2003, "Can't connect to MySQL server on 'localhost' ([Errno 2] No such file)"),
        ),
        (
            "postgresql+psycopg://u@/d?host=/no/socket",
            psycopg.OperationalError(
                'connection is bad: connection to server on socket "/no/socket/.s" failed: No such file or directory'
            ),
        ),
    ],
)
def test_a_socket_is_named_as_the_place_of_the_database_and_may_come_yet(url: str, error: Exception) -> None:
    trouble = explain(OperationalError("SELECT 1", None, error), make_url(url))
    assert trouble.heals
    assert trouble.line.startswith("database d at /no/socket cannot be reached")


@pytest.mark.parametrize(
    "error",
    [
        *(
            pymysql.OperationalError(2003, f"Can't connect to MySQL server on 'h' ({text})")
            for text in (
                "[SSL: TLSV1_ALERT_PROTOCOL_VERSION] tlsv1 alert protocol version (_ssl.c:1006)",
                "[SSL: UNSUPPORTED_PROTOCOL] unsupported protocol (_ssl.c:1006)",
                "[SSL: DH_KEY_TOO_SMALL] dh key too small (_ssl.c:1006)",
            )
        ),
        psycopg.OperationalError("connection failed: SSL error: tlsv1 alert protocol version"),
    ],
)
def test_a_server_with_a_tls_too_old_is_not_one_that_wants_a_certificate(error: Exception) -> None:
    """It was, also where nobody had asked for TLS: the driver of MySQL does where it is offered."""
    trouble = explain(OperationalError("SELECT 1", None, error), make_url("mysql+pymysql://u@h/d"))
    assert not trouble.heals
    assert "has no version of TLS that this worker takes" in trouble.line
    assert "DB_SSL_MODE=disable" in trouble.line
    assert "DB_SSL_CERT" not in trouble.line


@pytest.mark.parametrize(
    ("message", "cure"),
    [
        ("attempt to write a readonly database", "cannot be written: check who may write the file and its directory"),
        ("unable to open database file", "is not there, cannot be opened or is no database: check DATABASE_URL and"),
        ("database or disk is full", "has no room: its disk is full"),
    ],
)
def test_what_sqlite_says_has_a_cure_for_files(message: str, cure: str) -> None:
    error = OperationalError("SELECT 1", None, sqlite3.OperationalError(message))
    assert f"SQLite file /f {cure}" in explain(error, make_url("sqlite:////f")).line


@pytest.mark.parametrize(
    "error",
    [
        pymysql.OperationalError(1290, "The MariaDB server is running with the --read-only option"),
        psycopg.errors.ReadOnlySqlTransaction("cannot execute UPDATE in a read-only transaction"),
    ],
)
def test_a_server_that_is_read_only_is_no_matter_of_rights(error: Exception) -> None:
    line = explain(OperationalError("UPDATE", None, error), make_url("mysql+pymysql://u@h/d")).line
    assert "is read-only, as a replica is: check DB_HOST" in line
    assert "grant" not in line


def test_a_database_without_the_right_to_connect_is_not_for_this_user() -> None:
    error = psycopg.OperationalError('connection failed: FATAL:  permission denied for database "d"')
    assert "is not there, or not for this user: check DB_NAME" in explain(error, make_url("postgresql://u@h/d")).line


def test_a_table_of_innodb_whose_file_is_gone_is_not_to_be_repaired() -> None:
    error = pymysql.ProgrammingError(1932, "Table 'd.consumer_configs' doesn't exist in engine")
    line = explain(OperationalError("SELECT 1", None, error), make_url("mysql+pymysql://u@h/d")).line
    assert "whose file is gone: if this stays, restore it" in line
    assert "REPAIR" not in line
