"""Certificates for tests: an authority of their own, and what it signs. Files in PEM, good for a day."""

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Certificate:
    cert: Path
    key: Path

    @property
    def both(self) -> Path:
        """Key and certificate in one file, as Kafka's brokers take it."""
        file = self.cert.with_suffix(".both.pem")
        file.write_bytes(self.key.read_bytes() + self.cert.read_bytes())
        return file

    def locked(self, password: str) -> Path:
        """A copy of the key that only this password opens."""
        file = self.key.with_suffix(".locked.pem")
        key = serialization.load_pem_private_key(self.key.read_bytes(), None)
        locked = serialization.BestAvailableEncryption(password.encode())
        file.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked))
        return file


class Authority:
    """Who signs; `file` is its own certificate. `expired`: that one, not those that it signs."""

    def __init__(self, directory: Path, name: str = "authority", *, expired: bool = False) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._name = _named(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder(self._name, self._name, self._key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - 3 * DAY).not_valid_after(now - DAY if expired else now + DAY)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.file = directory / f"{name}.pem"
        self.file.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, host: str = "", *, expired: bool = False, early: bool = False) -> Certificate:
        """Signed for the common name, and for a host by name or address. `early`: it is not valid yet."""
        key = ec.generate_private_key(ec.SECP256R1())
        end = datetime.datetime.now(datetime.UTC) + (-DAY if expired else 3 * DAY if early else DAY)
        builder = x509.CertificateBuilder(self._name, _named(name), key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(end - 2 * DAY).not_valid_after(end)
        if host:
            builder = builder.add_extension(x509.SubjectAlternativeName([_host(host)]), critical=False)
        files = Certificate(self._directory / f"{name}.cert.pem", self._directory / f"{name}.key.pem")
        files.cert.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        pkcs8, open_ = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        files.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, pkcs8, open_))
        files.key.chmod(0o600)
        return files


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
