"""The ways in which a worker cannot begin, each brought about: `check` and `run` say the same of it, in one line.

docs/failures.md is held against these cases by tests/docs/test_failures_page.py.
"""

import json
import os
import sqlite3
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Thread

import pytest
from confluent_kafka.admin._acl import AclBinding, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType
from confluent_kafka.admin._scram import ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion

from config import Settings
from models import Row, engine, init_db, save
from tests.conftest import Topics
from tests.program import program
from tests.services.certificates import Authority
from tests.services.kafka import PATIENT, JavaBroker, Listener, kept_admin, unique_name
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
OIDC = {"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "KAFKA_SASL_MECHANISM": "OAUTHBEARER"}
OIDC |= {"KAFKA_SASL_OAUTHBEARER_METHOD": "oidc", "KAFKA_SASL_OAUTHBEARER_CLIENT_ID": "id"}
OIDC |= {"KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET": SECRET}
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
    sql: str = ""  # what somebody has done to the table; `{name}` as above
    makes: tuple[str, Mapping[str, str]] = ("", {})  # a topic that is there, and its configuration
    locked: bool = False  # another session has the table for itself


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
    "a secret that is given twice": Case(
        "DB_PASSWORD and DB_PASSWORD_FILE are both set: keep one",
        "settings",
        {"DB_PASSWORD": SECRET, "DB_PASSWORD_FILE": "{password}"},
    ),
    "other arguments": Case(
        "worker.py: process(message) must take two arguments: message, consumer_name",
        "worker.py",
        worker="def process(message):\n    return message\n",
    ),
    "no Python": Case("worker.py cannot be imported: SyntaxError in ", "worker.py", worker="def process(:\n"),
    "a worker.py that ends the process": Case(
        "worker.py cannot be imported: SystemExit at worker.py:2", "worker.py", worker="import sys\nsys.exit()\n"
    ),
    "a generator": Case(
        "worker.py: process() must return its results, as a list where they are several, and not yield them",
        "worker.py",
        worker="def process(message, consumer_name):\n    yield message\n",
    ),
    "a setup() with arguments": Case(
        "worker.py: setup must be a function that takes no arguments",
        "worker.py",
        worker=f"def setup(pool):\n    pass\n\n\n{GOOD}",
    ),
    "a port": Case("HTTP_PORT, HTTP_HOST: cannot listen on ", "http", {"HTTP_HOST": "192.0.2.1"}),
    "a port that is taken": Case("HTTP_PORT, HTTP_HOST: cannot listen on ", "http", {"HTTP_PORT": "{port}"}),
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
    "no database in the file": Case(
        "is not there, cannot be opened or is no database: check DATABASE_URL",
        "row",
        {"DATABASE_URL": "sqlite:///{password}"},
    ),
    "no table": Case(
        "has no table consumer_configs: create it with python main.py init", "row", sql="DROP TABLE consumer_configs"
    ),
    "a column that is missing": Case(
        "has a table consumer_configs without some column of models.py: add it",
        "row",
        sql="ALTER TABLE consumer_configs DROP COLUMN metadatas",
    ),
    "a lock of another session": Case(
        "has a lock on consumer_configs that another session holds: if this stays, end its transaction",
        "row",
        waits=True,
        locked=True,
    ),
    "two rows": Case(
        "table consumer_configs has 2 rows '{name}': keep one",
        "row",
        sql="CREATE TABLE t AS SELECT * FROM consumer_configs; DROP TABLE consumer_configs;"
        " ALTER TABLE t RENAME TO consumer_configs; INSERT INTO consumer_configs SELECT * FROM consumer_configs",
    ),
    "metadatas that are no JSON": Case(
        "metadatas must be JSON, or empty, or a note: ", "row", sql="UPDATE consumer_configs SET metadatas = '{{'"
    ),
    "a setting of the row": Case(
        "metadatas.message_timeout must be a number of seconds above 0",
        "row",
        sql="UPDATE consumer_configs SET metadatas = '{{\"message_timeout\": 0}}'",
    ),
    "an address with http://": Case(
        "kafka_bootstrap_server must be host:port, one or more, comma separated, not 'http://h:9092'",
        "row",
        sql="UPDATE consumer_configs SET kafka_bootstrap_server = 'http://h:9092'",
    ),
    "no input": Case(
        "topics_input is empty: name the topics to read, comma separated",
        "row",
        sql="UPDATE consumer_configs SET topics_input = ' , '",
    ),
    "an output that is an input": Case(
        "topics_output names {a}, an input too: it would read its own results",
        "row",
        sql="UPDATE consumer_configs SET topics_output = '{a}'",
    ),
    "no row": Case("table consumer_configs has no row ", "row", {"CONSUMER_NAME": "nobody"}),
    "no broker": Case(
        f"Kafka at {CLOSED} cannot be reached: if this stays, check kafka_bootstrap_server",
        "broker",
        servers=CLOSED,
        waits=True,
    ),
    "no Kafka": Case(
        "what answers is no Kafka: check kafka_bootstrap_server of the row", "broker", servers=f"{HOST}:{{page}}"
    ),
    "addresses of the other kind": Case(
        ", or KAFKA_BROKER_ADDRESS_FAMILY: it allows ",
        "broker",
        {"KAFKA_BROKER_ADDRESS_FAMILY": "v6"},
        waits=True,
    ),
    "an advertised address": Case(
        f"Kafka advertises {CLOSED}, which cannot be reached from here: if this stays, start that broker; or, if it"
        " runs, set advertised.listeners",
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
    "the port of a controller": Case(
        "what answers is no broker, but perhaps a controller (KRaft), whose port is often 9093: check kafka_bootstrap",
        "broker",
        servers="{controller}",
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
    "a login is wanted over TLS": Case(
        "accepts connections but does not answer: if this stays, check KAFKA_SECURITY_PROTOCOL",
        "broker",
        {"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SSL_CA_LOCATION": "{authority}"},
        "SCRAM",
        waits=True,
    ),
    "no login is wanted": Case("Kafka wants no login there: set KAFKA_SECURITY_PROTOCOL", "broker", SASL),
    "no mechanism": Case(
        "KAFKA_SASL_MECHANISM must be set: PLAIN", "properties", {"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT"}, "SASL"
    ),
    "another mechanism": Case(
        "Kafka refuses the login: check KAFKA_SASL_MECHANISM",
        "broker",
        {**SASL, "KAFKA_SASL_MECHANISM": "SCRAM-SHA-256"},
        "SASL",
    ),
    "no password": Case(
        "KAFKA_SASL_PASSWORD must be set: sasl.mechanism is PLAIN",
        "properties",
        {name: value for name, value in SASL.items() if name != "KAFKA_SASL_PASSWORD"},
        "SASL",
    ),
    "a wrong password": Case(
        "Kafka refuses the login: check KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD",
        "broker",
        {**SASL, "KAFKA_SASL_PASSWORD": f"{SECRET}x"},
        "SASL",
    ),
    "no way to a token": Case(
        "KAFKA_SASL_OAUTHBEARER_METHOD must be set to oidc: without it this client asks nobody for a token",
        "properties",
        {name: value for name, value in OIDC.items() if not name.endswith("METHOD")},
        "SASL",
    ),
    "no token endpoint": Case(
        "no token for the login to Kafka can be had: if this stays, check KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL",
        "broker",
        {**OIDC, "KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL": f"http://u:{SECRET}@{CLOSED}/token"},
        "SASL",
        waits=True,
    ),
    "a property": Case(
        "KAFKA_NO_SUCH_PROPERTY: Kafka's client refuses:", "properties", {"KAFKA_NO_SUCH_PROPERTY": "1"}
    ),
    "a stop that takes too long": Case(
        "SHUTDOWN_TIMEOUT must be less than max.poll.interval.ms (300 s), not 400: the consumer group drives out a"
        " worker whose rebalance takes longer",
        "properties",
        {"SHUTDOWN_TIMEOUT": "400"},
    ),
    "heartbeats that are too rare": Case(
        "KAFKA_HEARTBEAT_INTERVAL_MS: heartbeat.interval.ms (12000) must be less than session.timeout.ms (10000), a"
        " third at best: the consumer group takes a worker for dead that it does not hear of for so long",
        "properties",
        {"KAFKA_HEARTBEAT_INTERVAL_MS": "12000"},
    ),
    "a transaction that outlives its worker": Case(
        "transaction.timeout.ms (11000) must not be above session.timeout.ms (10000): who takes over from a dead"
        " worker would read past results of its transaction",
        "properties",
        {"DELIVERY": "exactly_once", "KAFKA_TRANSACTION_TIMEOUT_MS": "11000"},
    ),
    "a name that no transaction takes": Case(
        "GROUP_INSTANCE_ID must be printable ASCII where DELIVERY is exactly_once, not 'é'",
        "properties",
        {"DELIVERY": "exactly_once", "GROUP_INSTANCE_ID": "é"},
    ),
    "no input topic": Case(
        "topic {b}x of topics_input does not exist, or this user may not see it; there are:",
        "topics",
        topics=("{a},{b}x", "{out}"),
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
    "no right to write dead letters": Case(
        "no right to WRITE topic {name}-dlq: kafka-acls.sh",
        "writing",
        SASL,
        "SASL",
        lacks="write dead letters",
        makes=("{name}-dlq", {"cleanup.policy": "delete"}),
    ),
    "dead letters among the results": Case(
        "DLQ_TOPIC is {out}, which the row names too: choose another topic for dead letters, or none",
        "dead letters",
        {"DLQ_TOPIC": "{out}"},
    ),
    "dead letters among the maps": Case(
        "DLQ_TOPIC is {name}-offsets, where the worker keeps its maps: choose another topic for dead letters, or none",
        "dead letters",
        {"DLQ_TOPIC": "{name}-offsets"},
    ),
    "dead letters in a compacted topic": Case(
        "(DLQ_TOPIC) must not be compacted (",
        "dead letters",
        makes=("{name}-dlq", {"cleanup.policy": "compact"}),
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
    "no right to read maps": Case(
        "no right to READ topic {name}-offsets: kafka-acls.sh",
        "maps",
        TWICE,
        "SASL",
        lacks="read maps",
        makes=("{name}-offsets", {"cleanup.policy": "compact"}),
    ),
    "no right to write maps": Case(
        "no right to WRITE topic {name}-offsets: kafka-acls.sh",
        "maps",
        TWICE,
        "SASL",
        lacks="write maps",
        makes=("{name}-offsets", {"cleanup.policy": "compact"}),
    ),
    "maps in a topic that deletes": Case(
        "topic {name}-offsets for maps of waiting messages must be compacted, and nothing else: kafka-configs.sh",
        "maps",
        {"DELIVERY": "exactly_once"},
        makes=("{name}-offsets", {"cleanup.policy": "delete"}),
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
    "a name that another row takes": Case(
        "has the name of the consumer group of dlq replay of {name}: rename one of the two",
        "names",
        sql="INSERT INTO consumer_configs (consumer_name, topics_input, topics_output, kafka_bootstrap_server)"
        " SELECT '{name}-dlq-replay', topics_input, topics_output, kafka_bootstrap_server FROM consumer_configs",
    ),
    "an input that is compacted": Case(
        "is compacted: of the records of an id only the last one stays, and",
        "topics",
        topics=("{name}-in,{b}", "{out}"),
        makes=("{name}-in", {"cleanup.policy": "compact"}),
    ),
    "an input that is deleted early": Case(
        "topic {name}-in deletes records after 600 s (retention.ms), less than MESSAGE_TIMEOUT and an hour: ",
        "topics",
        topics=("{name}-in,{b}", "{out}"),
        makes=("{name}-in", {"retention.ms": "600000"}),
    ),
    "an output that takes less than the worker may send": Case(
        "topic {name}-out takes 20,000 bytes (max.message.bytes), and the worker may send 1,000,000: ",
        "writing",
        topics=("{a},{b}", "{name}-out"),
        makes=("{name}-out", {"max.message.bytes": "20000"}),
    ),
    "dead letters that vanish by themselves": Case(
        "dead letters vanish by themselves: topic {name}-dlq has retention.ms=600000: ",
        "dead letters",
        makes=("{name}-dlq", {"retention.ms": "600000"}),
    ),
    "an input that holds more than the worker may send": Case(
        "topic {name}-in may hold messages of 5,000,000 bytes (max.message.bytes), and the worker may send 1,000,000: ",
        "writing",
        topics=("{name}-in,{b}", "{out}"),
        makes=("{name}-in", {"max.message.bytes": "5000000"}),
    ),
    "no right to replay": Case(
        "dlq replay would fail: no right to READ group {name}-dlq-replay: kafka-acls.sh",
        "replay",
        SASL,
        "SASL",
        lacks="replay",
    ),
    "no right to read dead letters": Case(
        "dlq replay would fail: no right to READ topic {name}-dlq: kafka-acls.sh",
        "replay",
        SASL,
        "SASL",
        lacks="read dead letters",
        makes=("{name}-dlq", {"cleanup.policy": "delete"}),
    ),
    "no right to write maps, at least once": Case(
        "commits pause when a map of waiting messages does not fit: no right to WRITE topic {name}-offsets",
        "maps",
        SASL,
        "SASL",
        lacks="write maps",
        makes=("{name}-offsets", {"cleanup.policy": "compact"}),
    ),
    "maps in a topic that deletes, at least once": Case(
        "commits pause when a map of waiting messages does not fit: topic {name}-offsets for maps of waiting",
        "maps",
        makes=("{name}-offsets", {"cleanup.policy": "delete"}),
    ),
    "a setting that has no effect": Case(
        "KAFKA_BOOTSTRAP_SERVERS is ignored: the brokers are kafka_bootstrap_server of the row",
        "settings",
        {"KAFKA_BOOTSTRAP_SERVERS": "h:9092"},
    ),
    "settings of the row that were encoded twice": Case(
        "metadatas is JSON, but no object: it sets nothing. Was it encoded twice?",
        "warning",
        sql="UPDATE consumer_configs SET metadatas = '\"paused\"'",
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
    names: Mapping[str, str]
    """What stands for files, ports, and topics that all may read and write, by what stands for each in braces."""


class BadRequest(BaseRequestHandler):
    """What many a server of HTTP says to who speaks something else."""

    def handle(self) -> None:
        self.request.recv(1000)
        self.request.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")


@pytest.fixture(scope="module")
def site(certificate: Path, topics: Topics, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
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
        **PATIENT,
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
        page = stack.enter_context(ThreadingTCPServer((HOST, 0), BadRequest))
        stack.callback(page.shutdown)
        Thread(target=page.serve_forever, daemon=True).start()
        names = {name: str(path) for name, path in files.items()}
        names |= dict(zip(("a", "b", "out"), topics(broker, "a", "b", "out", partitions=1), strict=True))
        names["controller"] = broker.quorum.partition("@")[2]
        names |= {"port": broker.bootstrap.rpartition(":")[2], "page": str(page.server_address[1])}
        [names["other"]] = topics(broker, "other", partitions=2)
        yield Site(broker, names)


def add_scram_user(broker: JavaBroker) -> None:
    admin = kept_admin(broker.bootstrap)
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    [future] = admin.alter_user_scram_credentials(
        [UserScramCredentialUpsertion("worker", info, SECRET.encode())]
    ).values()
    future.result(60)


def prepared(case: Case, site: Site, topics: Topics, directory: Path) -> tuple[Path, dict[str, str], dict[str, str]]:
    """The program, its environment, and the names of its consumer and topics; rights are granted, the row is there."""
    names = {**site.names, "name": unique_name("orders")}
    if case.lacks:  # with topics to which nothing is granted yet
        names |= dict(zip(("a", "b", "out"), topics(site.broker, "a", "b", "out", partitions=1), strict=True))
    if case.makes[0]:
        site.broker.create_topic(case.makes[0].format(**names), 1, case.makes[1])
    if {"KAFKA_SASL_USERNAME", "KAFKA_SSL_CERTIFICATE_LOCATION"} & case.environ.keys():
        granted = [each for right, each in RIGHTS.items() if right != case.lacks]
        grant_all([(kind, name.format(**names), operation) for kind, name, operation in granted], site.broker)
    url = f"sqlite:///{directory}/rows.db"
    database = engine(Settings(database_url=url).url(), create=True)
    init_db(database)
    servers = case.servers.format(**names) or site.broker.addresses.get(case.listener, site.broker.bootstrap)
    inputs, outputs = (each.format(**names) for each in case.topics)
    save(database, Row.validated(names["name"], inputs, outputs, servers))
    with database.begin() as connection:
        for statement in filter(None, case.sql.format(**names).split(";")):
            connection.exec_driver_sql(statement)
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
    with (
        locked(environ) if case.locked else nullcontext(),
        piped_python(["main.py", "run"], its_program, environ) as run,
    ):
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


@contextmanager
def locked(environ: Mapping[str, str]) -> Iterator[None]:
    with closing(sqlite3.connect(environ["DATABASE_URL"].removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield


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
