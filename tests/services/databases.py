"""Databases for tests: MySQL or MariaDB and PostgreSQL, given by the environment, in Docker, or as throwaway processes.

with mysql_server() as server, scratch_database(server) as url: ...
"""

import contextlib
import getpass
import os
import shutil
import signal
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL, Engine, NullPool, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError

from tests.services.containers import mysql_container, postgresql_container
from tests.services.processes import (
    HOST,
    ServerProcess,
    Unavailable,
    first_available,
    free_port,
    run_tool,
    running,
    scratch_directory,
    service_user,
)

MYSQL = "mysql+pymysql"
POSTGRESQL = "postgresql+psycopg"
USER = "skeleton"
PASSWORD = "only-for-tests"


@dataclass(frozen=True, slots=True)
class DatabaseServer:
    """A running server; the user in `url` may create databases. `description`: product, version, how it was found.

    `process`: a server of our own, which a test may stop and start.
    """

    url: URL
    description: str
    process: ServerProcess | None = None


def mysql_server() -> AbstractContextManager[DatabaseServer]:
    """MySQL or MariaDB by whichever way comes first: MYSQL_URL, Docker, mariadbd. Unavailable if there is none."""
    return first_available(_from_environment("MYSQL_URL", MYSQL), _mysql_in_docker(), mariadb_of_this_machine())


def postgresql_server() -> AbstractContextManager[DatabaseServer]:
    """PostgreSQL by whichever way comes first: POSTGRESQL_URL, Docker, postgres. Unavailable if there is none."""
    return first_available(
        _from_environment("POSTGRESQL_URL", POSTGRESQL), _postgresql_in_docker(), postgresql_of_this_machine()
    )


@contextmanager
def scratch_database(server: DatabaseServer) -> Iterator[str]:
    """The URL of a new, empty database on this server, dropped at the end."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    _execute(server.url, f"CREATE DATABASE {name}")
    try:
        yield server.url.set(database=name).render_as_string(hide_password=False)
    finally:
        with_force = " WITH (FORCE)" if server.url.drivername == POSTGRESQL else ""
        _execute(server.url, f"DROP DATABASE {name}{with_force}")


@contextmanager
def _from_environment(variable: str, driver: str) -> Iterator[DatabaseServer]:
    if not os.environ.get(variable):
        raise Unavailable(f"{variable} is not set")
    url = make_url(os.environ[variable]).set(drivername=driver)
    yield DatabaseServer(url, _describe(url, variable))


@contextmanager
def _mysql_in_docker() -> Iterator[DatabaseServer]:
    with mysql_container(PASSWORD) as address:
        url = make_url(address).set(drivername=MYSQL)
        yield DatabaseServer(url, _describe(url, "Docker"))


@contextmanager
def _postgresql_in_docker() -> Iterator[DatabaseServer]:
    with postgresql_container(USER, PASSWORD) as address:
        url = make_url(address).set(drivername=POSTGRESQL)
        yield DatabaseServer(url, _describe(url, "Docker"))


@contextmanager
def mariadb_of_this_machine(*options: str) -> Iterator[DatabaseServer]:
    """`options`: further ones of mariadbd."""
    server, installer = _binary("mariadbd"), _binary("mariadb-install-db")
    with scratch_directory("mariadb") as directory:
        home, port = Path(directory), free_port()
        # It wants to be told that it is root. A server removes the temporary tables of others where it starts.
        data = [f"--datadir={home}/data", f"--tmpdir={home}", f"--user={getpass.getuser()}"]
        run_tool([installer, "--no-defaults", *data, "--auth-root-authentication-method=normal", "--skip-test-db"])
        users = home / "users.sql"
        rights = f"GRANT ALL ON *.* TO {USER}@'%' WITH GRANT OPTION"
        users.write_text(f"CREATE USER {USER}@'%' IDENTIFIED BY '{PASSWORD}';\n{rights};\n")
        listen = [f"--bind-address={HOST}", f"--port={port}", f"--socket={home}/socket", f"--pid-file={home}/pid"]
        url = URL.create(MYSQL, USER, PASSWORD, HOST, port)
        process = ServerProcess(
            [server, "--no-defaults", *data, *listen, f"--init-file={users}", "--skip-name-resolve", *options],
            ready=lambda: _answers(url),
            log=home / "log",
        )
        with running(process):
            yield DatabaseServer(url, _describe(url, server), process)


@contextmanager
def postgresql_of_this_machine(*options: str) -> Iterator[DatabaseServer]:
    """`options`: settings of the server, NAME=VALUE."""
    server, installer = _binary("postgres"), _binary("initdb")
    user = service_user("postgres")  # it refuses to run as root
    with scratch_directory("postgresql") as directory:
        home, port = Path(directory), free_port()
        password = home / "password"
        password.write_text(PASSWORD)
        for path in (home, password):
            shutil.chown(path, user or getpass.getuser())
        cluster = ["-D", f"{home}/data", "-U", USER, f"--pwfile={password}", "--auth=scram-sha-256"]
        run_tool([installer, *cluster, "--encoding=UTF8", "--locale=C", "--no-sync"], user=user)
        listen = ["-h", HOST, "-p", str(port), "-c", "unix_socket_directories="]
        url = URL.create(POSTGRESQL, USER, PASSWORD, HOST, port, "postgres")
        process = ServerProcess(
            [server, "-D", f"{home}/data", *listen, *(f"-c{each}" for each in ("fsync=off", *options))],
            ready=lambda: _answers(url),
            log=home / "log",
            user=user,
            stop_signal=signal.SIGINT,  # SIGTERM would wait for the tests' connections
        )
        with running(process):
            yield DatabaseServer(url, _describe(url, server), process)


def _binary(name: str) -> str:
    """A server program on the PATH or where Debian puts it, the newest version first."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    found = shutil.which(name, path=os.pathsep.join([*map(str, debian), os.environ.get("PATH", ""), "/usr/sbin"]))
    if found is None:
        raise Unavailable(f"no {name}")
    return found


def _answers(url: URL) -> bool:
    try:
        _execute(url, "SELECT 1")
    except DBAPIError:
        return False
    return True


def _execute(url: URL, statement: str) -> None:
    with contextlib.closing(_engine(url).connect()) as connection:
        connection.execute(text(statement))


def _describe(url: URL, how: str) -> str:
    engine = _engine(url)
    with engine.connect():
        is_mariadb = getattr(engine.dialect, "is_mariadb", False)
        product = "MariaDB" if is_mariadb else {MYSQL: "MySQL", POSTGRESQL: "PostgreSQL"}[url.drivername]
        version = ".".join(map(str, engine.dialect.server_version_info or ()))
    return f"{product} {version} ({how})"


def _engine(url: URL) -> Engine:
    """An engine that keeps no connection: PostgreSQL creates and drops databases outside transactions only."""
    return create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
