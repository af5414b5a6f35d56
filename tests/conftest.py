"""Fixtures that hand real services to tests, and the summary that says what the tests ran on.

A test asks for `kafka` (it runs twice: on the embedded broker and on real Kafka), `real_kafka` or `embedded_kafka`, and
for `topics` to create topics there; for `database_url` (it runs three times) or `mariadb_url`, `postgresql_url`,
`sqlite_url`: an empty database of its own each; for `tab`: an empty page in a browser.

With `-n auto` (pytest-xdist, as `make test` does it) some processes share one broker, one server of each database and
one browser. Most tests wait most of their time.
"""

import datetime
import gc
import ipaddress
import os
import signal
import sqlite3
import warnings
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import hypothesis
import pytest
from confluent_kafka.admin._acl import AclBinding, AclBindingFilter, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.integration.workers import eventually
from tests.order import Kind, mixed
from tests.program import ROOT, is_the_users, share_programs
from tests.services.chromium import Chromium, Tab, headless_chromium
from tests.services.databases import DatabaseServer, mysql_server, postgresql_server, scratch_database
from tests.services.kafka import (
    PATIENT,
    EmbeddedBroker,
    EnvBroker,
    JavaBroker,
    KafkaBroker,
    SharedBroker,
    kept_admin,
    real_broker,
    unique_name,
)
from tests.services.nodes import forked_nodes
from tests.services.processes import Unavailable, in_memory, running
from tests.services.shared import RemoteServices, Services
from tests.services.starts import quick_starts, shared_starts
from utils.processing import user_code

SERVICES = {
    "embedded_kafka": "embedded Kafka",
    "real_kafka": "real Kafka",
    "mariadb": "MariaDB or MySQL",
    "postgresql": "PostgreSQL",
    "sqlite": "SQLite",
    "chromium": "Chromium",
}
# How fast this machine is at the moment says nothing about the code.
hypothesis.settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")

# Fixtures that start a broker for the tests of a file, and those that start something else.
OWN_BROKERS = {"forbidding_kafka", "eager_kafka", "advertised", "narrow_kafka", "site", "quiet_kafka"}
OWN_SERVICES = {*OWN_BROKERS, "secured"}
LONG = {"deploy", "simulation"}  # directories of tests that take seconds, though they need no broker
LONGEST = {"test_simulation", "test_raised_anywhere", "test_slow_output", "test_offsets_of_others", "test_rights"}
LONGEST |= {"test_reload", "test_cut_logs", "test_pause"}
"""Files with a test of 20 s and more: were it begun late, all would wait for it in the end."""
SHARED = pytest.StashKey[Services | RemoteServices]()
STARTS = pytest.StashKey[str]()  # where the Python that forks is asked
OPEN = pytest.StashKey[ExitStack]()  # what ends with the first process
STARTED = pytest.StashKey[dict[str, str]]()  # by service: what it is, for the summary


class Topics(Protocol):
    def __call__(
        self, broker: KafkaBroker, *names: str, partitions: int = 4, config: Mapping[str, str] | None = None
    ) -> list[str]:
        """Create a topic for each name, made unique; their full names, in this order."""


@pytest.fixture(scope="session", autouse=True)
def quickly(pytestconfig: pytest.Config) -> Iterator[None]:
    """The workers and commands of the tests need not import what all of them import."""
    with quick_starts(getattr(pytestconfig, "workerinput", {}).get("starts", "")):
        yield


@pytest.fixture(scope="session", params=["embedded_kafka", "real_kafka"], ids=["embedded", "real"])
def kafka(request: pytest.FixtureRequest) -> KafkaBroker:
    broker: KafkaBroker = request.getfixturevalue(request.param)
    return broker


@pytest.fixture(scope="session")
def embedded_kafka(pytestconfig: pytest.Config) -> Iterator[KafkaBroker]:
    with running(EmbeddedBroker()) as broker:
        pytestconfig.stash[STARTED]["embedded_kafka"] = broker.description
        yield broker


@pytest.fixture(scope="session")
def real_kafka(pytestconfig: pytest.Config) -> Iterator[KafkaBroker]:
    broker: SharedBroker = _shared("real_kafka", pytestconfig)
    if broker.kind == "env":
        with running(EnvBroker()) as left_as_it_was:
            yield left_as_it_was
    else:
        yield broker


@pytest.fixture(scope="session")
def guarded_kafka(pytestconfig: pytest.Config) -> KafkaBroker:
    """A broker that grants what its ACLs say, and everything where there are none. Others use it at the same time: what
    everybody may do with the cluster must stay.
    """
    try:
        broker: KafkaBroker = pytestconfig.stash[SHARED].get("guarded_kafka")
    except Unavailable as reason:
        pytest.skip(f"no broker with an authorizer: {reason}")
    return broker


@pytest.fixture(scope="module")
def forbidding_kafka() -> Iterator[KafkaBroker]:
    """The same, for tests that change what everybody may do."""
    try:
        with _guarded_kafka() as broker:
            yield broker
    except Unavailable as reason:
        pytest.skip(f"no broker with an authorizer: {reason}")


def grant(broker: KafkaBroker, kind: ResourceType, name: str, operation: AclOperation) -> None:
    acl = AclBinding(kind, name, ResourcePatternType.LITERAL, "User:*", "*", operation, AclPermissionType.ALLOW)
    admin = kept_admin(broker.bootstrap)
    admin.create_acls([acl])[acl].result(60)
    same = AclBindingFilter(kind, name, ResourcePatternType.LITERAL, "User:*", "*", operation, AclPermissionType.ALLOW)
    # It learns of it a little later than the controller.
    eventually(lambda: admin.describe_acls(same).result(60), "a right that the broker knows", pause=0.02)


@pytest.fixture(scope="session")
def topics() -> Topics:
    def create(
        broker: KafkaBroker, *names: str, partitions: int = 4, config: Mapping[str, str] | None = None
    ) -> list[str]:
        created = [unique_name(name) for name in names]
        for topic in created:
            broker.create_topic(topic, partitions, config)
        return created

    return create


@pytest.fixture(scope="session")
def changelog_of_the_frame() -> str:
    text = (ROOT / "CHANGELOG.md").read_text()
    if "[1.0.0] - 2026-11-29" not in text:
        pytest.skip("this copy has a CHANGELOG.md of its own")
    return text


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of 127.0.0.1 with its key, which nobody trusts but by this very file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    signed = builder.sign(key, hashes.SHA256())
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    file.write_bytes(key.private_bytes(*pem) + signed.public_bytes(serialization.Encoding.PEM))
    return file


@pytest.fixture(params=["mariadb", "postgresql", "sqlite"])
def database_url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def mariadb_url(mariadb: DatabaseServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    # The driver loads those of the system at each connection, for 20 ms of CPU, and then trusts anybody.
    monkeypatch.setenv("SSL_CERT_FILE", os.devnull)
    with scratch_database(mariadb) as url:
        yield url


@pytest.fixture
def postgresql_url(postgresql: DatabaseServer) -> Iterator[str]:
    with scratch_database(postgresql) as url:
        yield url


@pytest.fixture
def sqlite_url(tmp_path: Path, pytestconfig: pytest.Config) -> str:
    pytestconfig.stash[STARTED]["sqlite"] = f"SQLite {sqlite3.sqlite_version}"
    return f"sqlite:///{tmp_path}/consumer.db"


@pytest.fixture(scope="session")
def mariadb(pytestconfig: pytest.Config) -> DatabaseServer:
    server: DatabaseServer = _shared("mariadb", pytestconfig)
    return server


@pytest.fixture(scope="session")
def postgresql(pytestconfig: pytest.Config) -> DatabaseServer:
    server: DatabaseServer = _shared("postgresql", pytestconfig)
    return server


@pytest.fixture
def tab(one_tab: Tab) -> Iterator[Tab]:
    yield one_tab
    one_tab.begin_anew()  # also after the last one: a page that is left open would go on renewing itself


@pytest.fixture(scope="session")
def one_tab(chromium: Chromium) -> Iterator[Tab]:
    """The one of this process: to open another takes longer than most tests with it."""
    with chromium.tab() as tab:
        yield tab


@pytest.fixture(scope="session")
def chromium(pytestconfig: pytest.Config) -> Chromium:
    browser: Chromium = _shared("chromium", pytestconfig)
    return browser


def _shared(name: str, config: pytest.Config) -> Any:
    """A service of the whole run. Where it cannot be had: skip; in CI, fail."""
    try:
        return config.stash[SHARED].get(name)
    except Unavailable as reason:
        outcome = pytest.fail.Exception if os.environ.get("CI") == "true" else pytest.skip.Exception
        raise outcome(f"{SERVICES[name]} cannot be had: {reason}", pytrace=False) from None


# What another process is given of a service cannot hold the means to stop it.
@contextmanager
def _real_kafka() -> Iterator[SharedBroker]:
    with real_broker() as broker:
        yield SharedBroker(broker.kind, broker.bootstrap, broker.description)


@contextmanager
def _guarded_kafka() -> Iterator[SharedBroker]:
    authorizer = {"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer", **PATIENT}
    with running(JavaBroker({**authorizer, "allow.everyone.if.no.acl.found": "true"}, heap="512m")) as broker:
        yield SharedBroker(broker.kind, broker.bootstrap, broker.description)


@contextmanager
def _mariadb() -> Iterator[DatabaseServer]:
    with mysql_server() as server:
        yield replace(server, process=None)


@contextmanager
def _postgresql() -> Iterator[DatabaseServer]:
    with postgresql_server() as server:
        yield replace(server, process=None)


class UsersTests:
    """Warnings are errors in the tests of the frame. In those that its users have written they are what they are.

    defaults.py is imported before them, and so before worker.py. What they put into the environment while they are
    imported (a .env) is there for their tests alone.
    """

    def __init__(self) -> None:
        self._environment: dict[str, str] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        with warnings.catch_warnings(), ExitStack() as around:
            if isinstance(collector, pytest.File) and is_the_users(collector.path):
                warnings.simplefilter("default")
                around.enter_context(self._their_environment())
                user_code.before_worker()
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        with self._their_environment() if is_the_users(item.path) else nullcontext():
            return (yield)

    @contextmanager
    def _their_environment(self) -> Iterator[None]:
        before = dict(os.environ)
        os.environ.update(self._environment)
        try:
            yield
        finally:
            self._environment = dict(os.environ.items() - before.items())
            for name in os.environ.keys() - before.keys():
                del os.environ[name]
            os.environ.update(before)

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        if is_the_users(item.path):
            item.add_marker(pytest.mark.filterwarnings("default"))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", "error")
    config.pluginmanager.register(UsersTests())  # and not as hooks of this file, which see only tests/
    config.stash[STARTED] = {}
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the services are stopped in order
    if hasattr(config, "workerinput"):  # a process of pytest-xdist
        config.stash[SHARED] = RemoteServices(*config.workerinput["services"])
        share_programs(Path(config.workerinput["starts"]).parent)
    else:
        databases = {"mariadb": _mariadb, "postgresql": _postgresql}
        config.stash[OPEN] = ExitStack()
        if memory := in_memory():  # for tmp_path
            os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))
        brokers = {"real_kafka": _real_kafka, "guarded_kafka": _guarded_kafka}
        config.stash[SHARED] = Services({**brokers, **databases, "chromium": headless_chromium})


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """What the processes share. In a new clone hypothesis makes tables of Unicode and keeps them, which takes 1.2 s of
    CPU: once, and not in each process at the same time.
    """
    opened = config.stash[OPEN]
    config.stash[STARTS] = opened.enter_context(shared_starts())
    opened.enter_context(forked_nodes(config.args))
    hypothesis.strategies.text().validate()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is collected stays to the end: nothing in it need be looked at again and again as garbage."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """In the first process, for each of pytest-xdist's."""
    node.workerinput["services"] = tuple(node.config.stash[SHARED].address())
    node.workerinput["starts"] = node.config.stash[STARTS]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """The same, when that process has ended."""
    told: dict[str, str] = getattr(node, "workeroutput", {}).get("started", {})
    started: dict[str, str] = node.config.stash[STARTED]
    started.update(told)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["started"] = session.config.stash[STARTED]


def pytest_unconfigure(config: pytest.Config) -> None:
    services = config.stash[SHARED]
    if isinstance(services, Services):
        config.stash[OPEN].close()
        services.close()


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark a test by the services that it uses, for `-m` and for the summary."""
    fixtures = set(getattr(item, "fixturenames", ()))
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    used = fixtures | {parameters.get("kafka"), parameters.get("database_url")}
    for name in SERVICES:
        if used & {name, f"{name}_url"}:
            item.add_marker(name)
    if used & {*OWN_BROKERS, "guarded_kafka"}:
        item.add_marker("real_kafka")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """What `-n auto` means."""
    return min(12, 5 * (os.cpu_count() or 1))


def _kind(item: pytest.Item) -> Kind:
    directory = item.path.parent.name
    if directory == "integration" or item.get_closest_marker("real_kafka"):
        return "waits"
    return "long" if directory in LONG else "short"


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where processes share the tests: mixed, and those together that share a service of their own."""
    if not hasattr(config, "workerinput"):
        return
    items.sort(key=lambda item: item.path.stem not in LONGEST)
    items[:] = mixed(items, _kind)
    for item in items:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        for name in OWN_SERVICES & set(getattr(item, "fixturenames", ())):
            which = "-".join([item.path.stem, name, *([parameters[name]] if name in parameters else [])])
            item.add_marker(pytest.mark.xdist_group(which))
        # pytest-xdist goes by the end of the id. Its 3.8 appends the group where pytest 9.2 does not look any more.
        for group in item.iter_markers("xdist_group"):
            item._id = type(item.id).parse(f"{item.nodeid}@{group.args[0]}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """How many tests ran on which broker, database and browser, and why some did not."""
    terminalreporter.section("ran on")
    services = config.stash[SHARED]
    assert isinstance(services, Services)
    started = config.stash[STARTED] | services.told()
    for name, title in SERVICES.items():
        counts = _counts(terminalreporter, name)
        terminalreporter.line(f"{title:17} {counts or 'no tests':24} {started.get(name, '')}".rstrip())
    reasons = Counter(str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", []))
    for reason, number in reasons.items():
        terminalreporter.line(f"{number} skipped: {reason.removeprefix('Skipped: ')}")


def _counts(reporter: pytest.TerminalReporter, marker: str) -> str:
    outcomes = ("passed", "failed", "error", "skipped")
    numbers = {
        outcome: sum(marker in getattr(report, "keywords", ()) for report in reporter.stats.get(outcome, []))
        for outcome in outcomes
    }
    return ", ".join(f"{number} {outcome}" for outcome, number in numbers.items() if number)
