"""What is said of a broker that does not answer."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from config import ConfigError, UnavailableError
from tests.kafka.brokers import listening, row_at, settings_with
from tests.services.certificates import Authority, Certificate
from tests.services.kafka import KafkaBroker
from tests.services.processes import free_port
from utils.kafka.preflight import look


@pytest.fixture
def tls_broker(certificate: Path) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def shake_hands(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True):
            pass

    with listening(shake_hands) as address:
        yield address


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_a_broker_that_is_not_there_heals(host: str) -> None:
    server = f"{host}:{free_port()}"

    with pytest.raises(UnavailableError, match=rf"Kafka at {server} cannot be reached.*kafka_bootstrap_server"):
        look(settings_with(), row_at(server))


def test_a_broker_that_wants_tls_does_not_heal(tls_broker: str) -> None:
    with pytest.raises(ConfigError, match=rf"{tls_broker} wants TLS: set KAFKA_SECURITY_PROTOCOL"):
        look(settings_with(), row_at(tls_broker))


def test_a_broker_that_wants_tls_is_found_among_brokers_that_are_down(tls_broker: str) -> None:
    with pytest.raises(ConfigError, match="wants TLS"):
        look(settings_with(), row_at(f"127.0.0.1:{free_port()},{tls_broker}"))


def test_a_broker_that_refuses_our_kind_of_tls_still_speaks_tls() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # without a certificate no handshake succeeds

    def refuse(connection: socket.socket) -> None:
        with suppress(ssl.SSLError), context.wrap_socket(connection, server_side=True):
            pass

    with listening(refuse) as address, pytest.raises(ConfigError, match="wants TLS"):
        look(settings_with(), row_at(address))


def test_a_certificate_that_is_not_trusted_does_not_heal(tls_broker: str) -> None:
    with pytest.raises(ConfigError, match=r"TLS with the broker fails: check KAFKA_SSL_CA_LOCATION"):
        look(settings_with(security_protocol="ssl"), row_at(tls_broker))


@contextmanager
def tls_with(certificate: Certificate) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert, certificate.key)

    def shake_hands(connection: socket.socket) -> None:
        with suppress(OSError), context.wrap_socket(connection, server_side=True) as wrapped:
            wrapped.recv(4096)

    with listening(shake_hands) as address:
        yield address


@pytest.mark.parametrize("given", ["file", "directory", "PEM"])
def test_what_is_wrong_with_a_certificate_is_told_however_the_authority_is_given(tmp_path: Path, given: str) -> None:
    """That it had expired was told for a file alone. Else KAFKA_SSL_CA_LOCATION was blamed, also where none was set."""
    authority, other = Authority(tmp_path / "ours"), Authority(tmp_path / "other")
    directory = tmp_path / "probes"
    directory.mkdir()
    (directory / "aabdaf6b.0").write_bytes(authority.file.read_bytes())  # so OpenSSL calls it, by its subject
    trusts = {
        "file": {"ssl_ca_location": str(authority.file)},
        "directory": {"ssl_ca_location": str(directory)},
        "PEM": {"ssl_ca_pem": authority.file.read_text()},
    }
    settings = settings_with(security_protocol="ssl", **trusts[given])
    for certificate, says in {
        authority.issue("expired", "127.0.0.1", expired=True): "its certificate, or that of who signed it, has expired",
        authority.issue("named", "other.example"): "its certificate is for another name",
        other.issue("foreign", "127.0.0.1"): "check KAFKA_SSL_CA_LOCATION, or KAFKA_SSL_CA_PEM",
    }.items():
        with tls_with(certificate) as address, pytest.raises(ConfigError, match=f"TLS with the broker fails: {says}"):
            look(settings, row_at(address))


def test_a_certificate_that_is_not_valid_yet_is_waited_for(tmp_path: Path) -> None:
    """A machine whose clock was behind for its first minute had no worker until somebody came."""
    authority = Authority(tmp_path)
    settings = settings_with(security_protocol="ssl", ssl_ca_location=str(authority.file))
    early = authority.issue("broker", "127.0.0.1", early=True)
    with tls_with(early) as address, pytest.raises(UnavailableError, match="set the clock of this machine, or wait"):
        look(settings, row_at(address))


def test_a_name_that_is_not_compared_is_no_cause(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    settings = settings_with(
        security_protocol="ssl", ssl_ca_location=str(authority.file), ssl_endpoint_identification_algorithm="none"
    )
    good, expired = authority.issue("named", "other.example"), authority.issue("old", "other.example", expired=True)
    with tls_with(good) as one, tls_with(expired) as another, pytest.raises(ConfigError, match="has expired"):
        look(settings, row_at(f"{one},{another}"))


def test_a_server_that_hangs_up_is_waited_for_with_a_hint() -> None:
    hint = "accepts connections but does not answer.*KAFKA_SECURITY_PROTOCOL"

    with listening(lambda _connection: None) as address, pytest.raises(UnavailableError, match=hint):
        look(settings_with(), row_at(address))


def test_who_logs_in_already_is_not_told_to_log_in() -> None:
    login = {"sasl_mechanism": "PLAIN", "sasl_username": "bob", "sasl_password": "secret"}
    with listening(lambda _connection: None) as address, pytest.raises(UnavailableError, match="be no Kafka") as caught:
        look(settings_with(security_protocol="sasl_plaintext", **login), row_at(address))
    assert "login" not in str(caught.value)


@pytest.mark.parametrize("asks", [False, True])
@pytest.mark.parametrize("protocol", ["ssl", "sasl_ssl"])
def test_who_ends_connections_for_tls_and_is_no_broker_without_it_is_waited_for(protocol: str, asks: bool) -> None:
    """A load balancer whose brokers are away: to switch TLS off would send it the password."""
    login = {"sasl_mechanism": "PLAIN", "sasl_username": "bob", "sasl_password": "secret"}

    def hang_up(connection: socket.socket) -> None:
        if asks:
            connection.recv(4096)

    with listening(hang_up) as address, pytest.raises(UnavailableError, match="if this stays"):
        look(settings_with(security_protocol=protocol, **login), row_at(address))


def test_tls_towards_a_broker_without_tls_does_not_heal(real_kafka: KafkaBroker) -> None:
    with pytest.raises(ConfigError, match=r"does not speak TLS: set KAFKA_SECURITY_PROTOCOL"):
        look(settings_with(security_protocol="ssl"), row_at(real_kafka.bootstrap))


def test_a_login_where_none_is_wanted_does_not_heal_and_hides_the_password(real_kafka: KafkaBroker) -> None:
    """It was told as one that is refused, for its password."""
    login = {"sasl_mechanism": "PLAIN", "sasl_username": "bob", "sasl_password": "topsecret"}

    with pytest.raises(ConfigError, match=r"Kafka wants no login there: set KAFKA_SECURITY_PROTOCOL") as caught:
        look(settings_with(security_protocol="sasl_plaintext", **login), row_at(real_kafka.bootstrap))
    assert "topsecret" not in str(caught.value)
