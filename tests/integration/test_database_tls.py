"""Secrets and TLS to real databases, by DB_…: what is verified, and what is said of each setting that is wrong."""

import contextlib
import getpass
import json
import os
import shutil
import ssl
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine, make_url, text

from config import ConfigError, Settings, UnavailableError
from models import engine, init_db, ping
from tests.program import program
from tests.services.certificates import Authority, Certificate
from tests.services.databases import (
    PASSWORD,
    USER,
    DatabaseServer,
    mariadb_of_this_machine,
    postgresql_of_this_machine,
    scratch_database,
)
from tests.services.processes import HOST, Unavailable, service_user
from tests.services.starts import run_python

HBA = f"""
hostssl  all  with_cert  {HOST}/32  scram-sha-256 clientcert=verify-ca
hostssl  all  all        {HOST}/32  scram-sha-256
host     all  {USER}     {HOST}/32  scram-sha-256
"""


@dataclass(frozen=True)
class Secured:
    """A server with TLS. `show` changes its certificate."""

    driver: str
    server: DatabaseServer
    authority: Authority
    worker: Certificate
    database: str
    """It has the table, and no row."""
    show: Callable[[Certificate], None]

    def environ(self, **given: object) -> dict[str, str]:
        """Of a worker that reaches it in the DB_* way."""
        url = self.server.url
        environ = {
            "CONSUMER_NAME": "orders", "DB_DRIVER": self.driver, "DB_HOST": HOST, "DB_PORT": url.port,
            "DB_NAME": self.database, "DB_USER": USER, "DB_PASSWORD": PASSWORD, "DB_SSL_CA": self.authority.file,
            **given,
        }  # fmt: skip
        return {name: str(value) for name, value in environ.items() if value is not None}

    def said(self, **given: object) -> str:
        """What is said of settings with which it cannot be reached."""
        with pytest.raises((ConfigError, UnavailableError)) as caught:
            ping(engine(Settings.read(self.environ(**given)).url()))
        line = str(caught.value)
        assert PASSWORD not in line
        assert "\n" not in line
        return line


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("mysql", marks=pytest.mark.mariadb),
        pytest.param("postgresql", marks=pytest.mark.postgresql),
    ],
)
def secured(request: pytest.FixtureRequest) -> Iterator[Secured]:
    with tempfile.TemporaryDirectory(prefix="consumer-skeleton-tls-") as directory:
        home = Path(directory)
        home.chmod(0o711)  # the server has a user of its own
        yield from _secured(request, home)


def _secured(request: pytest.FixtureRequest, home: Path) -> Iterator[Secured]:
    authority, user = Authority(home / "ca"), service_user("postgres") or getpass.getuser()
    shown = Certificate(home / "server.cert.pem", home / "server.key.pem")
    good, worker = authority.issue("server", HOST), authority.issue("worker")

    def put(certificate: Certificate) -> None:
        for source, target in ((certificate.cert, shown.cert), (certificate.key, shown.key)):
            shutil.copy(source, target)
            target.chmod(0o600)
            if request.param == "postgresql":
                shutil.chown(target, user)

    put(good)
    if request.param == "postgresql":
        files = {home / "ca.pem": authority.file.read_text(), home / "hba.conf": HBA}
        for file, content in files.items():
            file.write_text(content)
            file.chmod(0o644)
        tls = f"ssl_cert_file={shown.cert}", f"ssl_key_file={shown.key}", f"ssl_ca_file={home}/ca.pem"
        way = postgresql_of_this_machine("ssl=on", *tls, f"hba_file={home}/hba.conf")
        reload = "SELECT pg_reload_conf()"
        users = [f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'" for name in ("with_cert", "only_tls", "no_right")]
        users += [f"CREATE ROLE locked NOLOGIN PASSWORD '{PASSWORD}'"]
        users += [f"CREATE ROLE expired LOGIN PASSWORD '{PASSWORD}' VALID UNTIL '2020-01-01'"]
    else:
        files_ = f"--ssl-cert={shown.cert}", f"--ssl-key={shown.key}", f"--ssl-ca={authority.file}"
        way = mariadb_of_this_machine(*files_)
        reload = "FLUSH SSL"
        rules = {"with_cert": "X509", "only_tls": "SSL"}
        users = [f"CREATE USER {name}@'%' IDENTIFIED BY '{PASSWORD}' REQUIRE {rules[name]}" for name in rules]
        users += [f"GRANT SELECT ON *.* TO {name}@'%'" for name in rules]
        users += [f"CREATE USER no_right@'%' IDENTIFIED BY '{PASSWORD}'", "GRANT INSERT ON *.* TO no_right@'%'"]
        users += [f"CREATE USER locked@'%' IDENTIFIED BY '{PASSWORD}' ACCOUNT LOCK"]
        users += [f"CREATE USER expired@'%' IDENTIFIED BY '{PASSWORD}' PASSWORD EXPIRE"]
        users += ["GRANT SELECT ON *.* TO expired@'%'"]
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(way)
        except Unavailable as reason:
            pytest.skip(f"no server of this machine's own: {reason}")
        direct = create_engine(server.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")

        def execute(*statements: str) -> None:
            with direct.connect() as connection:
                for each in statements:
                    connection.execute(text(each))

        def show(certificate: Certificate) -> None:
            put(certificate)
            execute(reload)

        execute(*users)
        url = stack.enter_context(scratch_database(server))
        init_db(engine(make_url(url)))
        yield Secured(request.param, server, authority, worker, url.rpartition("/")[2], show)


@pytest.fixture
def shows(secured: Secured) -> Iterator[Callable[[Certificate], None]]:
    """Changes the server's certificate for the length of a test."""
    yield secured.show
    secured.show(secured.authority.issue("server", HOST))


def test_a_ca_is_all_that_is_needed(secured: Secured) -> None:
    ping(engine(Settings.read(secured.environ(DB_USER="only_tls")).url()))


def test_those_whom_the_machine_trusts_sign_too(secured: Secured, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL's driver looked for them in a directory that no machine has."""
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):  # which would show it the way
        monkeypatch.delenv(name, raising=False)
    ca = str(secured.authority.file)
    paths = ssl.DefaultVerifyPaths(ca, "", "SSL_CERT_FILE", ca, "SSL_CERT_DIR", "/no/certs")
    monkeypatch.setattr("ssl.get_default_verify_paths", lambda: paths)
    ping(engine(Settings.read(secured.environ(DB_USER="only_tls", DB_SSL_CA="system")).url()))


def test_a_worker_shows_its_certificate(secured: Secured) -> None:
    files = {"DB_SSL_CERT": secured.worker.cert, "DB_SSL_KEY": secured.worker.key}
    ping(engine(Settings.read(secured.environ(DB_USER="with_cert", **files)).url()))


def test_tls_without_a_ca_is_encrypted_and_no_more(secured: Secured) -> None:
    ping(engine(Settings.read(secured.environ(DB_SSL_CA=None, DB_USER="only_tls", DB_SSL_MODE="require")).url()))


@pytest.mark.parametrize(("mode", "encrypted"), [(None, True), ("disable", False)])
def test_tls_is_what_the_server_offers_unless_it_is_turned_off(
    secured: Secured, mode: str | None, encrypted: bool
) -> None:
    asked = {
        "mysql": "SHOW STATUS LIKE 'Ssl_version'",
        "postgresql": "SELECT '', version FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
    }
    settings = Settings.read(secured.environ(DB_SSL_CA=None, DB_SSL_MODE=mode))
    with engine(settings.url()).connect() as connection:
        told = connection.execute(text(asked[secured.driver])).one()[1]
    assert (told or "").startswith("TLS") is encrypted


def test_a_certificate_of_another_name_is_taken_where_names_are_not_compared(
    secured: Secured, shows: Callable[[Certificate], None]
) -> None:
    shows(secured.authority.issue("server", "db.example"))
    ping(engine(Settings.read(secured.environ(DB_SSL_MODE="verify-ca")).url()))


def test_a_certificate_that_is_not_valid_yet_is_waited_for(
    secured: Secured, shows: Callable[[Certificate], None]
) -> None:
    """A clock that is behind is set soon; the driver of PostgreSQL does not tell that it is this."""
    shows(secured.authority.issue("server", HOST, early=True))
    said = secured.said()
    assert "clock of this machine" in said
    assert ("is not valid yet" in said) is (secured.driver == "mysql")


@dataclass(frozen=True)
class Fault:
    """A setting that is wrong, and what a worker says of it. `{name}` stands for a file of `files`."""

    says: str
    environ: Mapping[str, str | None] = field(default_factory=dict)
    shown: str = ""
    """The name of the certificate that the server shows in place of its good one."""
    mysql_waits: bool = False
    """It closes the connection without a word, as it does when it shuts down."""


NO_GOOD = "has a certificate that is no good here: it or that of who signed it has expired, or DB_SSL_CA ({}) did not"
OF_THE_WORKER = {"DB_USER": "with_cert", "DB_SSL_CERT": "{worker}", "DB_SSL_KEY": "{worker_key}"}
FAULTS = {
    "a wrong password": Fault("refuses the login: check DB_USER and DB_PASSWORD", {"DB_PASSWORD": "other"}),
    "no such user": Fault("refuses the login: check DB_USER and DB_PASSWORD", {"DB_USER": "nobody"}),
    "a wrong password in a file": Fault(
        "refuses the login: check DB_USER and DB_PASSWORD", {"DB_PASSWORD": None, "DB_PASSWORD_FILE": "{password}"}
    ),
    "a password in a file that is not there": Fault(
        "DB_PASSWORD_FILE names '/no/password', which cannot be read: No such file or directory",
        {"DB_PASSWORD": None, "DB_PASSWORD_FILE": "/no/password"},
    ),
    "a user that is locked": Fault("does not let this user in: it is locked, or", {"DB_USER": "locked"}),
    "a password that has expired": Fault("or its password has expired", {"DB_USER": "expired"}),
    "no such database": Fault("is not there, or not for this user: check DB_NAME", {"DB_NAME": "nowhere"}),
    "no right to read the table": Fault(
        "forbids it: grant its user SELECT on consumer_configs", {"DB_USER": "no_right"}
    ),
    "a CA that did not sign": Fault(NO_GOOD.format("{other_ca}"), {"DB_SSL_CA": "{other_ca}"}),
    "a CA that is not there": Fault(
        "names /no/ca.pem, which cannot be read: No such file or directory", {"DB_SSL_CA": "/no/ca.pem"}
    ),
    "a CA that is no certificate": Fault("which holds no certificate in PEM", {"DB_SSL_CA": "{password}"}),
    "a CA that has expired": Fault(NO_GOOD.format("{expired_ca}"), {"DB_SSL_CA": "{expired_ca}"}, "expired CA"),
    "a certificate that has expired": Fault(NO_GOOD.format("{ca}"), shown="expired"),
    "a certificate of another name": Fault(
        "has a certificate for another name: set DB_HOST (or DATABASE_URL) to a name that is in it", shown="other name"
    ),
    "a certificate of the worker is wanted": Fault("DB_SSL_CERT", {"DB_USER": "with_cert"}),
    "a certificate of the worker that is not known there": Fault(
        "check DB_SSL_CERT ({stranger})",
        {"DB_USER": "with_cert", "DB_SSL_CERT": "{stranger}", "DB_SSL_KEY": "{stranger_key}"},
        mysql_waits=True,
    ),
    "a certificate of the worker that has expired": Fault(
        "check DB_SSL_CERT ({stale})",
        {"DB_USER": "with_cert", "DB_SSL_CERT": "{stale}", "DB_SSL_KEY": "{stale_key}"},
        mysql_waits=True,
    ),
    "a key of another certificate": Fault(
        "names {stranger_key}, which is not the key of {worker}", {**OF_THE_WORKER, "DB_SSL_KEY": "{stranger_key}"}
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_wrong_setting_ends_a_worker_with_78_and_one_line_that_tells_the_cure(
    secured: Secured, shows: Callable[[Certificate], None], tmp_path: Path, name: str
) -> None:
    fault = FAULTS[name]
    other, expired = Authority(tmp_path / "other", "other"), Authority(tmp_path / "gone", "gone", expired=True)
    stranger, stale = other.issue("worker"), secured.authority.issue("stale", expired=True)
    password = tmp_path / "password"
    password.write_text("other\n")
    files = {
        "ca": secured.authority.file, "other_ca": other.file, "expired_ca": expired.file, "password": password,
        "worker": secured.worker.cert, "worker_key": secured.worker.key, "stranger": stranger.cert,
        "stranger_key": stranger.key, "stale": stale.cert, "stale_key": stale.key,
    }  # fmt: skip
    certificates = {
        "expired": lambda: secured.authority.issue("server", HOST, expired=True),
        "other name": lambda: secured.authority.issue("server", "db.example"),
        "expired CA": lambda: expired.issue("server", HOST),
    }
    if fault.shown:
        shows(certificates[fault.shown]())
    given = {key: value and value.format(**files) for key, value in fault.environ.items()}
    says = fault.says.format(**files)
    if fault.mysql_waits and secured.driver == "mysql":
        assert says in secured.said(**given)
        return
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "LD_LIBRARY_PATH") if key in os.environ}
    environ = {**kept, **secured.environ(**given)}
    done, tried = run_python(["main.py"], program(), environ), run_python(["main.py", "check"], program(), environ)
    told = done.stdout + done.stderr + tried.stdout + tried.stderr
    assert (done.returncode, tried.returncode) == (78, 78), told
    [line] = [line for line in done.stderr.splitlines() if json.loads(line)["level"] == "CRITICAL"]
    message = json.loads(line)["message"]
    assert says in message
    assert [each[2:].split(maxsplit=1)[1] for each in tried.stdout.splitlines() if each[0] == "✗"] == [message]
    assert PASSWORD not in told
    assert "Traceback" not in told


@pytest.mark.postgresql
def test_a_key_that_others_may_read_is_named_with_the_cure(secured: Secured, tmp_path: Path) -> None:
    if secured.driver != "postgresql":
        pytest.skip("PyMySQL does not look")
    key = tmp_path / "key.pem"
    shutil.copy(secured.worker.key, key)
    key.chmod(0o644)
    line = secured.said(DB_USER="with_cert", DB_SSL_CERT=secured.worker.cert, DB_SSL_KEY=key)
    assert f"others may read the key DB_SSL_KEY ({key}), and then the driver does not take it: chmod 600" in line


def test_a_server_without_tls_is_told_from_one_that_is_away(mariadb_url: str, postgresql_url: str) -> None:
    for url in (mariadb_url, postgresql_url):
        given = {"CONSUMER_NAME": "orders", "DATABASE_URL": url, "DB_SSL_MODE": "require"}
        with pytest.raises(ConfigError, match="does not speak TLS: turn it on there, or unset DB_SSL_CA"):
            ping(engine(Settings.read(given).url()))


def test_a_server_that_wants_tls_says_what_to_set(secured: Secured) -> None:
    if secured.driver == "mysql":
        pytest.skip("PyMySQL asks for TLS by itself where the server speaks it")
    environ = secured.environ(DB_USER="only_tls", DB_SSL_CA=None)
    url = Settings.read(environ).url().update_query_dict({"sslmode": "disable"})
    with pytest.raises(
        ConfigError, match=r"no line for this host, user and database in its pg_hba.conf: .* set DB_SSL_CA=FILE"
    ):
        ping(engine(url))
