"""A certificate is renewed on disk while a worker runs, as cert-manager and Vault do it; then the old one is over."""

import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.alarms import reaches
from tests.integration.oracle import Oracle
from tests.integration.workers import ASSIGNED, Job, feed
from tests.services.certificates import Authority, Certificate
from tests.services.kafka import PATIENT, JavaBroker, Listener, unique_name
from tests.services.processes import HOST, Unavailable, running


@pytest.mark.real_kafka
def test_a_worker_takes_a_renewed_certificate_before_the_old_one_is_refused(tmp_path: Path) -> None:
    """It was refused for ever when brokers came back, alive and not ready, and its line blamed the new files."""
    of_brokers, old, new = (Authority(tmp_path / name, name) for name in ("of-brokers", "old", "new"))
    trusted, own = tmp_path / "trusted.pem", Certificate(tmp_path / "cert.pem", tmp_path / "key.pem")

    def put(authority: Authority) -> None:
        issued = authority.issue("worker")
        shutil.copy(issued.cert, own.cert)
        shutil.copy(issued.key, own.key)

    put(old)
    trusted.write_bytes(old.file.read_bytes() + new.file.read_bytes())  # as while certificates are renewed
    server = of_brokers.issue("broker", HOST)
    mutual = {"keystore.location": server.both, "truststore.type": "PEM", "truststore.location": trusted}
    properties = {f"listener.name.mutual.ssl.{name}": str(value) for name, value in mutual.items()}
    properties |= {"listener.name.mutual.ssl.client.auth": "required", "ssl.keystore.type": "PEM", **PATIENT}
    environ = {
        "KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SSL_CA_LOCATION": str(of_brokers.file), "CONFIG_REFRESH": "0.5",
        "KAFKA_SSL_CERTIFICATE_LOCATION": str(own.cert), "KAFKA_SSL_KEY_LOCATION": str(own.key),
    }  # fmt: skip
    with ExitStack() as stack:
        try:
            broker = stack.enter_context(running(JavaBroker(properties, "400m", listeners={"MUTUAL": Listener("SSL")})))
        except Unavailable as reason:
            pytest.skip(f"no broker with several listeners: {reason}")
        a, b, out = (unique_name(name) for name in ("a", "b", "out"))
        for topic in (a, b, out):
            broker.create_topic(topic, 1)
        where = broker.addresses["MUTUAL"]
        job = Job(broker, unique_name("job"), [a, b], [out], tmp_path, bootstrap_servers=where, environment=environ)
        worker = stack.enter_context(job).start().is_assigned()
        put(new)
        worker.says("files of TLS have changed: the worker starts again with them")
        worker.says(ASSIGNED, 2)
        shutil.copy(new.file, trusted)
        broker.restart()
        feed(broker, Oracle((a, b)), ["1"])
        reaches(worker, "consumer_results_total", 1)
        assert worker.stop() == 0
