"""The files by which Kafka's clients speak TLS: whether they are others than before, and what is wrong with them.

The clients read them when they are made, and of a wrong one they tell no name.
"""

import hashlib
import ssl
from collections.abc import Iterator
from pathlib import Path

from config import Settings
from utils.kafka.properties import origin


def digests(settings: Settings) -> dict[str, str]:
    """A digest of each file by which the clients speak TLS, by its property. They read them when they are made."""
    names = [f"ssl.{each}.location" for each in ("ca", "certificate", "key", "keystore", "crl")]
    paths = {name: Path(settings.kafka[name]) for name in names if settings.kafka.get(name)}
    if not settings.kafka.get("security.protocol", "").lower().endswith("ssl"):
        return {}
    return {name: _digest(path) for name, path in paths.items()}


def _digest(path: Path) -> str:
    """Empty: it is a directory, or not there just now."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def problems(settings: Settings) -> list[str]:
    """Also that a key is not yet, or no longer, that of its certificate: they are written one after the other."""
    return [*_wrong_authority(settings), *_wrong_key(settings)]


def _wrong_authority(settings: Settings) -> Iterator[str]:
    """The client says "no certificate or crl found", and no file."""
    path = Path(settings.kafka.get("ssl.ca.location", ""))
    if path.is_file() and settings.kafka.get("security.protocol", "").lower().endswith("ssl"):
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
        except ssl.SSLError:
            yield f"{origin('ssl.ca.location', settings)}: {path} holds no certificate in PEM"


def _wrong_key(settings: Settings) -> Iterator[str]:
    """The client tells no file, and asks the terminal for a password that is missing."""
    cert, key, password = (
        settings.kafka.get(f"ssl.{name}", "") for name in ("certificate.location", "key.location", "key.password")
    )
    if not key or not settings.kafka.get("security.protocol", "").lower().endswith("ssl"):
        return
    named = f"{origin('ssl.key.location', settings)}: {key}"
    if not cert:
        if not any(settings.kafka.get(f"ssl.{each}") for each in ("certificate.pem", "keystore.location")):
            yield f"{named} is the key of no certificate: set {origin('ssl.certificate.location', settings)}, too"
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(cert, key, password=password)
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        if reason == "KEY_VALUES_MISMATCH":
            yield f"{named} is not the key of {origin('ssl.certificate.location', settings)}, {cert}"
        elif "ENCRYPTED" in Path(key).read_text(errors="replace"):
            yield f"{named} cannot be opened with {origin('ssl.key.password', settings)} ({reason})"
        else:
            yield f"{named} and {cert} must both be PEM ({reason})"
