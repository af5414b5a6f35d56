"""Why the brokers of a row cannot be reached: what a client has heard, and what asking them without it shows."""

import socket
import ssl
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from confluent_kafka import KafkaError

from config import Settings, Trouble
from models import Row
from utils.kafka.client_errors import (
    LOGIN_ERRORS,
    PROTOCOL,
    SERVERS,
    advertised,
    ended_in_handshake,
    explain,
    plain,
    tls_fails,
)

_REQUEST = 5.0  # seconds that one request may take
FAMILY = "broker.address.family"
_FAMILIES = {"v4": socket.AF_INET, "v6": socket.AF_INET6}
_API_VERSIONS = 18  # of a request


def why(heard: list[KafkaError], settings: Settings, row: Row) -> Trouble:
    """Of all that a client has heard, what tells the most."""
    lasting = hopeless(heard, settings, row.bootstrap_servers.split(","))
    told = next((explain(each) for each in heard if advertised(each) or each.code() in LOGIN_ERRORS), None)
    reason = plain(next((each for each in heard if each.code() != KafkaError._ALL_BROKERS_DOWN), heard[0]).str())
    cures = f"{SERVERS}{or_family(settings)}"
    down = Trouble(heals=True, line=f"Kafka at {row.bootstrap_servers} cannot be reached: {cures} ({reason})")
    return lasting or _no_tls(heard, settings, row) or told or _wrong_protocol(settings, row) or down


def or_family(settings: Settings) -> str:
    """What else it may be, where the client is not to use all addresses of a name."""
    family = settings.kafka.get(FAMILY, "any")
    return "" if family == "any" else f", or KAFKA_BROKER_ADDRESS_FAMILY: it allows {family} only"


def hopeless(heard: Sequence[KafkaError], settings: Settings, servers: Sequence[str]) -> Trouble | None:
    """What does not heal by itself."""
    found = next((trouble for trouble in map(explain, heard) if not trouble.heals), None)
    if found and "certificate verify failed" in found.line:
        told = dict.fromkeys(address for each in heard if (address := advertised(each)))
        reason = _unverified(settings, [*told, *servers])
        return tls_fails(reason) if reason else found
    return found


def _unverified(settings: Settings, servers: Sequence[str]) -> str:
    """Why the certificate of a broker is no good, which the client does not tell; "" where that cannot be seen."""
    try:
        context = _verifying(settings)
        for host, port in _addresses(servers):
            with socket.create_connection((host, port), timeout=_REQUEST) as connection:
                context.wrap_socket(connection, server_hostname=host).close()
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    except (OSError, UnicodeError):
        pass
    return ""


def _verifying(settings: Settings) -> ssl.SSLContext:
    """Trusts whom the client trusts, and compares names where it does: else it would tell another reason."""
    context, given = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), settings.kafka
    place, authorities = given.get("ssl.ca.location", ""), given.get("ssl.ca.pem", "")
    place = "" if place == "probe" else place
    if place and Path(place).is_dir():
        context.load_verify_locations(capath=place)
    elif place:
        context.load_verify_locations(place)
    if authorities:
        context.load_verify_locations(cadata=authorities)
    if not place and not authorities:
        context.load_default_certs()
    context.check_hostname = given.get("ssl.endpoint.identification.algorithm", "https") != "none"
    return context


def _addresses(servers: Sequence[str]) -> Iterator[tuple[str, int]]:
    for server in servers[:3]:
        address = urlsplit("//" + server.rpartition("://")[2])
        yield address.hostname or "", address.port or 9092


def _no_tls(heard: Sequence[KafkaError], settings: Settings, row: Row) -> Trouble | None:
    """A broker that ended connections for TLS may not speak it: find out by asking without."""
    if not any(map(ended_in_handshake, heard)):
        return None
    family = _FAMILIES.get(settings.kafka.get(FAMILY, "any"), socket.AF_UNSPEC)
    for host, port in _addresses(row.bootstrap_servers.split(",")):
        if _is_open_kafka(host, port, family):
            answers = f"{host}:{port} answers without it"
            return Trouble(heals=False, line=f"the broker does not speak TLS: set {PROTOCOL} without SSL ({answers})")
    return None


def _is_open_kafka(host: str, port: int, family: socket.AddressFamily) -> bool:
    """Whether a broker answers there to what each may be asked first, without TLS and without a login (KIP-35)."""
    asks = struct.pack(">ihhih", 10, _API_VERSIONS, 0, number := 1_848_921, -1)
    try:
        with _connection(host, port, family) as connection:
            connection.sendall(asks)
            answer = connection.makefile("rb").read(8)
            return len(answer) == 8 and struct.unpack(">ii", answer)[1] == number
    except (OSError, UnicodeError):
        return False


def _connection(host: str, port: int, family: socket.AddressFamily) -> socket.socket:
    if family is not socket.AF_UNSPEC:
        host = str(socket.getaddrinfo(host, port, family)[0][4][0])
    return socket.create_connection((host, port), timeout=_REQUEST)


def _wrong_protocol(settings: Settings, row: Row) -> Trouble | None:
    """The client reports a broker that wants TLS or a login only as `disconnected`, and one that wants a login over TLS
    as silent: find out by asking for TLS.
    """
    protocol = settings.kafka.get("security.protocol", "plaintext").lower()
    if protocol == "sasl_ssl":
        return None
    for host, port in _addresses(row.bootstrap_servers.split(",")):
        answer = _greet(host, port, _FAMILIES.get(settings.kafka.get(FAMILY, "any"), socket.AF_UNSPEC))
        if answer == "tls" and protocol != "ssl":
            return Trouble(heals=False, line=f"{host}:{port} wants TLS: set {PROTOCOL} to SSL or SASL_SSL")
        if answer == ("tls" if protocol == "ssl" else "open"):
            login = "SASL_SSL" if protocol == "ssl" else "SASL_PLAINTEXT"
            silent = f"{host}:{port} accepts connections but does not answer: if this stays, check {PROTOCOL}:"
            may = "be no Kafka, or take no more connections (max.connections.per.ip)"
            wants = "" if protocol == "sasl_plaintext" else f"want a login, {login}, "
            return Trouble(heals=True, line=f"{silent} it may {wants}{may}")
    return None


def _greet(host: str, port: int, family: socket.AddressFamily) -> Literal["tls", "open", "closed"]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with _connection(host, port, family) as connection:
            try:
                with context.wrap_socket(connection):
                    return "tls"
            except ssl.SSLError as error:
                return "tls" if "ALERT" in (error.reason or "") else "open"
            except OSError:
                return "open"
    except (OSError, UnicodeError):
        return "closed"
