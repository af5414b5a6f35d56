"""TLS to real databases by DB_SSL_…: what is verified, and what is said of each file that is wrong."""

import contextlib
import getpass
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine, text

from config import ConfigError, Settings, UnavailableError
from models import engine, ping
from tests.services.certificates import Authority, Certificate
from tests.services.databases import (
    PASSWORD,
    USER,
    DatabaseServer,
    mariadb_of_this_machine,
    postgresql_of_this_machine,
)
from tests.services.processes import HOST, Unavailable, service_user

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
    show: Callable[[Certificate], None]

    def environ(self, **given: object) -> dict[str, str]:
        """Of a worker that reaches it in the DB_* way."""
        url = self.server.url
        database = "postgres" if self.driver == "postgresql" else "information_schema"  # open to all
        environ = {
            "CONSUMER_NAME": "orders", "DB_DRIVER": self.driver, "DB_HOST": HOST, "DB_PORT": url.port,
            "DB_NAME": database, "DB_USER": USER, "DB_PASSWORD": PASSWORD, "DB_SSL_CA": self.authority.file, **given,
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
        users = [f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'" for name in ("with_cert", "only_tls")]
    else:
        files_ = f"--ssl-cert={shown.cert}", f"--ssl-key={shown.key}", f"--ssl-ca={authority.file}"
        way = mariadb_of_this_machine(*files_)
        reload = "FLUSH SSL"
        rules = {"with_cert": "X509", "only_tls": "SSL"}
        users = [f"CREATE USER {name}@'%' IDENTIFIED BY '{PASSWORD}' REQUIRE {rules[name]}" for name in rules]
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
        yield Secured(request.param, server, authority, worker, show)


@pytest.fixture
def shows(secured: Secured) -> Iterator[Callable[[Certificate], None]]:
    """Changes the server's certificate for the length of a test."""
    yield secured.show
    secured.show(secured.authority.issue("server", HOST))


def test_a_ca_is_all_that_is_needed(secured: Secured) -> None:
    ping(engine(Settings.read(secured.environ(DB_USER="only_tls")).url()))


def test_a_worker_shows_its_certificate(secured: Secured) -> None:
    files = {"DB_SSL_CERT": secured.worker.cert, "DB_SSL_KEY": secured.worker.key}
    ping(engine(Settings.read(secured.environ(DB_USER="with_cert", **files)).url()))


def test_without_a_certificate_of_its_own_a_worker_is_told_what_to_set(secured: Secured) -> None:
    assert "DB_SSL_CERT" in secured.said(DB_USER="with_cert")


def test_tls_without_a_ca_is_encrypted_and_no_more(secured: Secured) -> None:
    ping(engine(Settings.read(secured.environ(DB_SSL_CA=None, DB_USER="only_tls", DB_SSL_MODE="require")).url()))


def test_a_ca_that_did_not_sign_is_named(secured: Secured, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other")
    assert f"it has expired, or DB_SSL_CA ({other.file}) did not sign it" in secured.said(DB_SSL_CA=other.file)
    assert "did not sign it" in secured.said(DB_SSL_CA="system")


def test_a_certificate_that_has_expired_is_refused(secured: Secured, shows: Callable[[Certificate], None]) -> None:
    shows(secured.authority.issue("server", HOST, expired=True))
    assert "has a certificate that is no good here: it has expired, or" in secured.said()


def test_a_certificate_of_another_name_is_refused_unless_names_are_not_compared(
    secured: Secured, shows: Callable[[Certificate], None]
) -> None:
    shows(secured.authority.issue("server", "db.example"))
    assert "has a certificate for another name: set DB_HOST (or DATABASE_URL) to a name that is in it" in secured.said()
    ping(engine(Settings.read(secured.environ(DB_SSL_MODE="verify-ca")).url()))


def test_a_certificate_of_the_worker_s_own_that_is_not_known_there_is_named(secured: Secured, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "other").issue("worker")
    line = secured.said(DB_USER="with_cert", DB_SSL_CERT=stranger.cert, DB_SSL_KEY=stranger.key)
    # MariaDB does not tell why it closes the connection, so that a worker waits.
    assert f"check DB_SSL_CERT ({stranger.cert})" in line


def test_a_wrong_password_is_no_matter_of_tls(secured: Secured) -> None:
    assert "refuses the login: check DB_USER and DB_PASSWORD" in secured.said(DB_PASSWORD="other")


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
    with pytest.raises(ConfigError, match="wants TLS: set DB_SSL_CA=FILE to who signed its certificate"):
        ping(engine(url))
