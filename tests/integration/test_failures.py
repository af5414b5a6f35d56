"""The ways in which a worker cannot begin, each brought about: `check` and `run` say the same of it, in one line.

docs/failures.md is held against these cases by tests/docs/test_failures_page.py.
"""

import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from confluent_kafka.admin._acl import AclBinding, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType
from confluent_kafka.admin._scram import ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion

from config import Settings
from models import Row, engine, init_db, save
from tests.conftest import Topics
from tests.program import program
from tests.services.certificates import Authority
from tests.services.kafka import JavaBroker, Listener, kept_admin, unique_name
from tests.services.processes import HOST, Unavailable, free_port, running
from tests.services.starts import piped_python

EX_CONFIG = 78
SECRET = "topsecret"
CLOSED = f"{HOST}:{free_port()}"
SASL = {"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "KAFKA_SASL_MECHANISM": "PLAIN"}
SASL |= {"KAFKA_SASL_USERNAME": "worker", "KAFKA_SASL_PASSWORD": SECRET}
SCRAM = {**SASL, "KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512"}
SCRAM |= {"KAFKA_SSL_CA_LOCATION": "{authority}"}
WITHOUT_PASSWORD = {name: value for name, value in SCRAM.items() if name != "KAFKA_SASL_PASSWORD"}
MUTUAL = {"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SSL_CA_LOCATION": "{authority}"}
MUTUAL |= {"KAFKA_SSL_CERTIFICATE_LOCATION": "{cert}", "KAFKA_SSL_KEY_LOCATION": "{key}"}
GOOD = "def process(message, consumer_name):\n    return message\n"


@dataclass(frozen=True)
class Case:
    """What is wrong, and what is said of it. `{name}`, `{a}`, `{b}`, `{out}`: of the consumer and of its topics."""

    says: str
    subject: str
    environ: Mapping[str, str] = field(default_factory=dict)
    listener: str = ""  # that the row names
    topics: tuple[str, str] = ("{a},{b}", "{out}")
    lacks: str = ""  # a right of those below
    worker: str = ""  # its worker.py
    waits: bool = False  # `run` waits for it to heal, else it ends with 78
    servers: str = ""


RIGHTS = {
    "read an input": (ResourceType.TOPIC, "{b}", AclOperation.READ),
    "read the group": (ResourceType.GROUP, "{name}", AclOperation.READ),
    "write an output": (ResourceType.TOPIC, "{out}", AclOperation.WRITE),
    "write dead letters": (ResourceType.TOPIC, "{name}-dlq", AclOperation.WRITE),
    "create dead letters": (ResourceType.TOPIC, "{name}-dlq", AclOperation.CREATE),
    "read dead letters": (ResourceType.TOPIC, "{name}-dlq", AclOperation.READ),
    "replay": (ResourceType.GROUP, "{name}-dlq-replay", AclOperation.READ),
    "read maps": (ResourceType.TOPIC, "{name}-offsets", AclOperation.READ),
    "write maps": (ResourceType.TOPIC, "{name}-offsets", AclOperation.WRITE),
    "create maps": (ResourceType.TOPIC, "{name}-offsets", AclOperation.CREATE),
    "transactions": (ResourceType.TRANSACTIONAL_ID, "{name}-", AclOperation.WRITE),
    "read the other input": (ResourceType.TOPIC, "{a}", AclOperation.READ),
}
TWICE = {**SASL, "DELIVERY": "exactly_once"}
NO_RIGHT = "no right to {what}: kafka-acls.sh"

CASES = {
    "a setting": Case("MESSAGE_TIMEOUT must be a number of seconds above 0", "settings", {"MESSAGE_TIMEOUT": "never"}),
    "no process()": Case("worker.py defines no process()", "worker.py", worker="import os\n"),
    "an import": Case(
        "worker.py cannot be imported: ModuleNotFoundError at worker.py:1", "worker.py", worker="import x7\n"
    ),
    "a port": Case("HTTP_PORT, HTTP_HOST: cannot listen on ", "http", {"HTTP_HOST": "192.0.2.1"}),
    "no database": Case(
        "cannot be reached: if this stays, check DB_HOST and DB_PORT",
        "database",
        {"DATABASE_URL": f"mysql://u:{SECRET}@{CLOSED}/d"},
        waits=True,
    ),
    "no file": Case(
        "is not there, cannot be opened or is no database: check DATABASE_URL",
        "database",
        {"DATABASE_URL": "sqlite:////no/f"},
    ),
    "no row": Case("table consumer_configs has no row ", "row", {"CONSUMER_NAME": "nobody"}),
    "no broker": Case(
        f"Kafka at {CLOSED} cannot be reached: if this stays, check kafka_bootstrap_server",
        "broker",
        servers=CLOSED,
        waits=True,
    ),
    "an advertised address": Case(
        f"Kafka advertises {CLOSED}, which cannot be reached from here: if this stays, set advertised.listeners",
        "broker",
        listener="CLOSED",
        waits=True,
    ),
    "an advertised name": Case(
        "Kafka advertises no-such-host.invalid:9092, which cannot be reached from here",
        "broker",
        listener="NAMELESS",
        waits=True,
    ),
    "TLS is wanted": Case("wants TLS: set KAFKA_SECURITY_PROTOCOL", "broker", listener="TLS"),
    "TLS is not spoken": Case(
        "the broker does not speak TLS: set KAFKA_SECURITY_PROTOCOL", "broker", {"KAFKA_SECURITY_PROTOCOL": "SSL"}
    ),
    "a CA that did not sign": Case(
        "TLS with the broker fails: check KAFKA_SSL_CA_LOCATION", "broker", {"KAFKA_SECURITY_PROTOCOL": "SSL"}, "TLS"
    ),
    "a CA that is not there": Case(
        "KAFKA_SSL_CA_LOCATION: /no/ca.pem cannot be read: No such file or directory",
        "properties",
        {"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SSL_CA_LOCATION": "/no/ca.pem"},
        "TLS",
    ),
    "a CA that is no certificate": Case(
        "KAFKA_SSL_CA_LOCATION: {password} holds no certificate in PEM",
        "properties",
        {"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SSL_CA_LOCATION": "{password}"},
        "TLS",
    ),
    "a certificate of another name": Case(
        "TLS with the broker fails: its certificate is for another name than kafka_bootstrap_server of the row, or",
        "broker",
        {"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SSL_CA_LOCATION": "{ca}"},
        "OTHER",
    ),
    "a certificate that has expired": Case(
        "TLS with the broker fails: its certificate, or that of who signed it, has expired: it needs another one",
        "broker",
        {"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SSL_CA_LOCATION": "{authority}"},
        "EXPIRED",
    ),
    "a CA that has expired": Case(
        "TLS with the broker fails: its certificate, or that of who signed it, has expired: it needs another one",
        "broker",
        {"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SSL_CA_LOCATION": "{expired_ca}"},
        "EXPIRED_CA",
    ),
    "a certificate of the worker that has expired": Case(
        "TLS with the broker fails: it wants a certificate of this worker, or refuses its own: check KAFKA_SSL",
        "broker",
        {**MUTUAL, "KAFKA_SSL_CERTIFICATE_LOCATION": "{stale}", "KAFKA_SSL_KEY_LOCATION": "{stale_key}"},
        "MUTUAL",
    ),
    "a certificate of the worker is wanted": Case(
        "TLS with the broker fails: it wants a certificate of this worker, or refuses its own: check KAFKA_SSL",
        "broker",
        {"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SSL_CA_LOCATION": "{authority}"},
        "MUTUAL",
    ),
    "a certificate of the worker that is not known there": Case(
        "TLS with the broker fails: it wants a certificate of this worker, or refuses its own: check KAFKA_SSL",
        "broker",
        {**MUTUAL, "KAFKA_SSL_CERTIFICATE_LOCATION": "{stranger}", "KAFKA_SSL_KEY_LOCATION": "{stranger_key}"},
        "MUTUAL",
    ),
    "a key of another certificate": Case(
        "KAFKA_SSL_KEY_LOCATION: {stranger_key} is not the key of KAFKA_SSL_CERTIFICATE_LOCATION, {cert}",
        "properties",
        {**MUTUAL, "KAFKA_SSL_KEY_LOCATION": "{stranger_key}"},
        "MUTUAL",
    ),
    "a wrong password of a key": Case(
        "KAFKA_SSL_KEY_LOCATION: {locked_key} cannot be opened with KAFKA_SSL_KEY_PASSWORD",
        "properties",
        {**MUTUAL, "KAFKA_SSL_KEY_LOCATION": "{locked_key}", "KAFKA_SSL_KEY_PASSWORD": f"{SECRET}x"},
        "MUTUAL",
    ),
    "a wrong password by SCRAM": Case(
        "Kafka refuses the login: check KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD",
        "broker",
        {**SCRAM, "KAFKA_SASL_PASSWORD": f"{SECRET}x"},
        "SCRAM",
    ),
    "no such user": Case(
        "Kafka refuses the login: check KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD",
        "broker",
        {**SCRAM, "KAFKA_SASL_USERNAME": "nobody"},
        "SCRAM",
    ),
    "a password in a file that is not there": Case(
        "KAFKA_SASL_PASSWORD_FILE names '/no/password', which cannot be read: No such file or directory",
        "settings",
        {**WITHOUT_PASSWORD, "KAFKA_SASL_PASSWORD_FILE": "/no/password"},
        "SCRAM",
    ),
    "a wrong password in a file": Case(
        "Kafka refuses the login: check KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD",
        "broker",
        {**WITHOUT_PASSWORD, "KAFKA_SASL_PASSWORD_FILE": "{wrong_password}"},
        "SCRAM",
    ),
    "no right to read an input, by mutual TLS": Case(
        "no right to READ topic {b}: kafka-acls.sh", "reading", MUTUAL, "MUTUAL", lacks="read an input"
    ),
    "a login is wanted": Case(
        "accepts connections but does not answer: if this stays, check KAFKA_SECURITY_PROTOCOL",
        "broker",
        listener="SASL",
        waits=True,
    ),
    "no mechanism": Case(
        "KAFKA_SASL_MECHANISM must be set: PLAIN", "properties", {"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT"}, "SASL"
    ),
    "another mechanism": Case(
        "Kafka refuses the login: check KAFKA_SASL_MECHANISM",
        "broker",
        {**SASL, "KAFKA_SASL_MECHANISM": "SCRAM-SHA-256"},
        "SASL",
    ),
    "a wrong password": Case(
        "Kafka refuses the login: check KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD",
        "broker",
        {**SASL, "KAFKA_SASL_PASSWORD": f"{SECRET}x"},
        "SASL",
    ),
    "a property": Case(
        "KAFKA_NO_SUCH_PROPERTY: Kafka's client refuses:", "properties", {"KAFKA_NO_SUCH_PROPERTY": "1"}
    ),
    "no topic": Case(
        "topic {out}x of topics_output does not exist, or this user may not see it; there are:",
        "topics",
        topics=("{a},{b}", "{out}x"),
    ),
    "partitions": Case(
        "the input topics have unequal partition counts ({a} has 1, {other} has 2)",
        "partitions",
        topics=("{a},{other}", "{out}"),
    ),
    "no right to read an input": Case(
        "no right to READ topic {b}: kafka-acls.sh", "reading", SASL, "SASL", lacks="read an input"
    ),
    "no right to read the group": Case(
        "no right to READ group {name}: kafka-acls.sh", "reading", SASL, "SASL", lacks="read the group"
    ),
    "no right to write an output": Case(
        "no right to WRITE topic {out}: kafka-acls.sh", "writing", SASL, "SASL", lacks="write an output"
    ),
    "no right to create dead letters": Case(
        "topic {name}-dlq for dead letters is missing and cannot be created",
        "dead letters",
        SASL,
        "SASL",
        lacks="create dead letters",
    ),
    "no right to make transactions": Case(
        "no right to WRITE transactional ids {name}-…: kafka-acls.sh",
        "transactions",
        TWICE,
        "SASL",
        lacks="transactions",
    ),
    "no right to create maps": Case(
        "topic {name}-offsets for maps of waiting messages is missing and cannot be created",
        "maps",
        TWICE,
        "SASL",
        lacks="create maps",
    ),
    "a transaction that is too long": Case(
        "Kafka refuses a setting: KAFKA_TRANSACTION_TIMEOUT_MS must not be above",
        "transactions",
        {"DELIVERY": "exactly_once", "KAFKA_TRANSACTION_TIMEOUT_MS": "8000"},
    ),
}
CASES["a session that is too short"] = Case(
    "Kafka refuses a setting: KAFKA_SESSION_TIMEOUT_MS must lie between group.min.session.timeout.ms and",
    "session",
    {"KAFKA_SESSION_TIMEOUT_MS": "900", "KAFKA_HEARTBEAT_INTERVAL_MS": "200"},
)
RUNS_BUT = {
    "no right to replay": Case(
        "dlq replay would fail: no right to READ group {name}-dlq-replay: kafka-acls.sh",
        "replay",
        SASL,
        "SASL",
        lacks="replay",
    ),
    "no right to create maps, at least once": Case(
        "commits pause when a map of waiting messages does not fit: topic {name}-offsets",
        "maps",
        SASL,
        "SASL",
        lacks="create maps",
    ),
}


@dataclass(frozen=True)
class Site:
    broker: JavaBroker
    files: Mapping[str, Path]
    """By the name that stands for each in braces."""


@pytest.fixture(scope="module")
def site(certificate: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A broker of many listeners, on which `worker` may do what it is granted, and who needs no login everything."""
    listeners = {
        "SASL": Listener("SASL_PLAINTEXT"),
        "TLS": Listener("SSL"),
        "OTHER": Listener("SSL", "localhost"),
        "CLOSED": Listener(advertised=CLOSED),
        "NAMELESS": Listener(advertised="no-such-host.invalid:9092"),
        "SCRAM": Listener("SASL_SSL"),
        "MUTUAL": Listener("SSL"),
        "EXPIRED": Listener("SSL"),
        "EXPIRED_CA": Listener("SSL"),
    }
    directory = tmp_path_factory.mktemp("certificates")
    authority, other = Authority(directory), Authority(directory / "other", "other")
    good, expired = authority.issue("broker", HOST), authority.issue("expired", HOST, expired=True)
    worker, stranger = authority.issue("worker"), other.issue("worker")
    stale = authority.issue("stale-worker", expired=True)
    gone = Authority(directory / "gone", "gone", expired=True)
    files = {"ca": certificate, "authority": authority.file, "cert": worker.cert, "key": worker.key}
    files |= {"stranger": stranger.cert, "stranger_key": stranger.key, "locked_key": worker.locked(SECRET)}
    files |= {"stale": stale.cert, "stale_key": stale.key, "expired_ca": gone.file}
    files["wrong_password"] = directory / "wrong-password"
    files["wrong_password"].write_text(f"{SECRET}x\n")
    files["password"] = directory / "password"
    files["password"].write_text(f"{SECRET}\n")
    login = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_worker="{SECRET}";'
    properties = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "listener.name.sasl.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.scram.sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.scram.scram-sha-512.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
        "listener.name.scram.ssl.keystore.location": str(good.both),
        "listener.name.expired.ssl.keystore.location": str(expired.both),
        "listener.name.expired_ca.ssl.keystore.location": str(gone.issue("broker", HOST).both),
        "listener.name.mutual.ssl.keystore.location": str(good.both),
        "listener.name.mutual.ssl.truststore.type": "PEM",
        "listener.name.mutual.ssl.truststore.location": str(authority.file),
        "listener.name.mutual.ssl.client.auth": "required",
        "listener.name.mutual.ssl.principal.mapping.rules": "RULE:^CN=(.*)$/$1/",
        "listener.name.sasl.plain.sasl.jaas.config": login,
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(certificate),
        "transaction.max.timeout.ms": "6000",
    }
    with ExitStack() as stack:
        try:
            broker = stack.enter_context(running(JavaBroker(properties, "400m", listeners=listeners)))
        except Unavailable as reason:
            pytest.skip(f"no broker with several listeners: {reason}")
        add_scram_user(broker)
        yield Site(broker, files)


def add_scram_user(broker: JavaBroker) -> None:
    admin = kept_admin(broker.bootstrap)
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    [future] = admin.alter_user_scram_credentials(
        [UserScramCredentialUpsertion("worker", info, SECRET.encode())]
    ).values()
    future.result(60)


def prepared(case: Case, site: Site, topics: Topics, directory: Path) -> tuple[Path, dict[str, str], dict[str, str]]:
    """The program, its environment, and the names of its consumer and topics; rights are granted, the row is there."""
    a, b, out = topics(site.broker, "a", "b", "out", partitions=1)
    [other] = topics(site.broker, "other", partitions=2) if "{other}" in case.topics[0] else [""]
    names = {"name": unique_name("orders"), "a": a, "b": b, "out": out, "other": other}
    names |= {name: str(path) for name, path in site.files.items()}
    if {"KAFKA_SASL_USERNAME", "KAFKA_SSL_CERTIFICATE_LOCATION"} & case.environ.keys():
        granted = [each for right, each in RIGHTS.items() if right != case.lacks]
        grant_all([(kind, name.format(**names), operation) for kind, name, operation in granted], site.broker)
    url = f"sqlite:///{directory}/rows.db"
    database = engine(Settings(database_url=url).url(), create=True)
    init_db(database)
    servers = case.servers or site.broker.addresses.get(case.listener, site.broker.bootstrap)
    inputs, outputs = (each.format(**names) for each in case.topics)
    save(database, Row.validated(names["name"], inputs, outputs, servers))
    (directory / "its_worker.py").write_text(case.worker or GOOD)
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH") if name in os.environ}
    environ = {**kept, "CONSUMER_NAME": names["name"], "DATABASE_URL": url, **case.environ}
    return program(directory / "its_worker.py"), {name: value.format(**names) for name, value in environ.items()}, names


def grant_all(rights: list[tuple[ResourceType, str, AclOperation]], broker: JavaBroker) -> None:
    admin = kept_admin(broker.bootstrap)
    prefixed, literal = ResourcePatternType.PREFIXED, ResourcePatternType.LITERAL
    acls = [
        AclBinding(
            kind, name, prefixed if kind is ResourceType.TRANSACTIONAL_ID else literal,
            "User:worker", "*", operation, AclPermissionType.ALLOW,
        )
        for kind, name, operation in rights
    ]  # fmt: skip
    for future in admin.create_acls(acls).values():
        future.result(60)


@pytest.mark.real_kafka
@pytest.mark.parametrize("fault", CASES)
def test_check_and_run_say_the_same(fault: str, site: Site, topics: Topics, tmp_path: Path) -> None:
    case = CASES[fault]
    its_program, environ, names = prepared(case, site, topics, tmp_path)
    says = case.says.format(**names)
    with piped_python(["main.py", "run"], its_program, environ) as run:
        try:
            check = piped_python(["main.py", "check"], its_program, environ)
            out, log = check.communicate(timeout=60)
            assert check.returncode == EX_CONFIG, out + log
            marked = [line for line in out.splitlines() if line.startswith("✗")]
            assert [line for line in marked if line[2:].startswith(case.subject) and says in line], out
            if case.subject != "partitions":  # one worker alone may have them all
                said = said_by(run, case, says)
                assert SECRET not in out + log + said
            assert len(marked) == 1, out
        finally:
            run.kill()


def said_by(run: "subprocess.Popen[str]", case: Case, says: str) -> str:
    if not case.waits:
        out, log = run.communicate(timeout=60)
        assert run.returncode == EX_CONFIG, log
        assert "Traceback" not in log
        [line] = [line for line in log.splitlines() if json.loads(line)["level"] == "CRITICAL"]
        assert says in json.loads(line)["message"], log
        return out + log
    assert run.stderr
    line = next(line for line in run.stderr if "waiting: " in line)
    assert says in json.loads(line)["message"]
    return line


@pytest.mark.real_kafka
@pytest.mark.parametrize("fault", RUNS_BUT)
def test_what_a_worker_does_without_is_said_by_both(fault: str, site: Site, topics: Topics, tmp_path: Path) -> None:
    case = RUNS_BUT[fault]
    its_program, environ, names = prepared(case, site, topics, tmp_path)
    says = case.says.format(**names)
    check = piped_python(["main.py", "check"], its_program, environ)
    out, log = check.communicate(timeout=60)
    assert check.returncode == 0, out + log
    assert [line for line in out.splitlines() if line.startswith(f"- {case.subject}") and says in line], out
    with piped_python(["main.py", "run"], its_program, environ) as run:
        try:
            assert run.stderr
            assert says in next(line for line in run.stderr if "the worker runs, but: " in line)
            assert next(line for line in run.stderr if "partitions assigned" in line)
        finally:
            run.kill()


@pytest.mark.real_kafka
@pytest.mark.parametrize(
    ("delivery", "listener", "login"),
    [
        ("at_least_once", "SASL", SASL),
        ("exactly_once", "SASL", SASL),
        ("exactly_once", "SCRAM", {**WITHOUT_PASSWORD, "KAFKA_SASL_PASSWORD_FILE": "{password}"}),
        ("exactly_once", "MUTUAL", MUTUAL),
        (
            "at_least_once",
            "MUTUAL",
            {**MUTUAL, "KAFKA_SSL_KEY_LOCATION": "{locked_key}", "KAFKA_SSL_KEY_PASSWORD_FILE": "{password}"},
        ),
    ],
)
def test_with_the_rights_that_are_named_all_is_well(
    delivery: str, listener: str, login: Mapping[str, str], site: Site, topics: Topics, tmp_path: Path
) -> None:
    case = Case("", "", {**login, "DELIVERY": delivery}, listener)
    its_program, environ, _ = prepared(case, site, topics, tmp_path)
    check = piped_python(["main.py", "check"], its_program, environ)
    out, log = check.communicate(timeout=60)
    assert check.returncode == 0, out + log
    untold = [line for line in out.splitlines() if not line.startswith("✓")]
    # How long a map may be is told to those who may DescribeConfigs.
    assert [line.split()[1] for line in untold] == ["commits"], out + log
    full = {"PYTHONUNBUFFERED": "1"}  # a start in full: its command line is looked at
    with piped_python(["main.py", "run"], its_program, {**environ, **full, "LOG_LEVEL": "DEBUG"}) as run:
        try:
            told = shown_by(run)
        finally:
            run.kill()
    secrets = {SECRET, *(Path(value).read_text().strip() for name, value in environ.items() if name.endswith("_FILE"))}
    assert not [secret for secret in secrets if secret in out + log + told]


def shown_by(run: "subprocess.Popen[str]") -> str:
    """Log, pages and command line of a worker that has come to read."""
    assert run.stderr
    told: list[str] = []
    for line in run.stderr:
        told.append(line)
        if "partitions assigned" in line:
            break
    [loaded] = [json.loads(line) for line in told if '"row loaded"' in line]
    for page in ("", "status.json", "waiting.json", "metrics"):
        with urllib.request.urlopen(loaded["status"] + page, timeout=30) as answer:
            told.append(answer.read().decode())
    told.append(Path(f"/proc/{run.pid}/cmdline").read_text())
    assert any("ssl.ca.location" in page or "sasl.username" in page for page in told), "the settings are shown"
    return "".join(told)
