"""Files of TLS: known by what is in them."""

from pathlib import Path

from config import Settings
from tests.services.certificates import Authority
from utils.kafka import tls_files


def test_files_of_tls_are_known_by_what_is_in_them(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    worker, other = authority.issue("worker"), authority.issue("other")
    environ = {"CONSUMER_NAME": "orders", "DATABASE_URL": "sqlite:///rows.db", "KAFKA_SSL_CA_LOCATION": str(tmp_path)}
    environ |= {"KAFKA_SSL_CERTIFICATE_LOCATION": str(worker.cert), "KAFKA_SSL_KEY_LOCATION": str(worker.key)}
    given = Settings.read({**environ, "KAFKA_SECURITY_PROTOCOL": "SSL"})
    before = tls_files.digests(given)
    assert before == {**tls_files.digests(given), "ssl.ca.location": ""}, "a directory has no digest"
    worker.cert.write_bytes(other.cert.read_bytes())
    assert [name for name, digest in tls_files.digests(given).items() if digest != before[name]] == [
        "ssl.certificate.location"
    ]
    assert tls_files.problems(given), "its key is that of the other one yet"
    worker.key.write_bytes(other.key.read_bytes())
    assert not tls_files.problems(given)
    assert tls_files.digests(Settings.read(environ)) == {}, "nobody reads them"
