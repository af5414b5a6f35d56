"""Kafka brokers for tests, benchmarks and chaos runs: one given by the environment, in Docker, from jars, or embedded.

    with running(JavaBroker()) as broker: ...      (kill, restart, pid)
    with running(EmbeddedBroker()) as broker: ...
    with real_broker() as broker: ...              (whatever real Kafka this machine has)

`python -m tests.services.kafka [--embedded] [--port 9092]` starts one, prints its address as the first line, and stops
it at SIGTERM, Ctrl-C or the end of its standard input.
"""

import argparse
import base64
import contextlib
import ctypes
import fcntl
import functools
import os
import shutil
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import wait
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from confluent_kafka import KafkaException, Producer, cimpl, libversion
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.services.containers import docker_host, kafka_container, require_docker, start_container
from tests.services.processes import (
    HOST,
    ServerProcess,
    Unavailable,
    answers,
    first_available,
    free_port,
    run_tool,
    running,
    scratch_directory,
)

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

VERSION = "4.3.1"
CLUSTER = "consumer-skeleton-test"
POM = Path(__file__).with_name("pom.xml")
UNMEASURED = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
SILENT = {"metadata.max.idle.interval.ms": "0"}  # no record twice a second that says that nothing has changed
PATIENT = {"broker.session.timeout.ms": "9000"}
"""Kafka's default, for a broker that nobody kills: on a busy machine it is else fenced."""
FEATURES, CLASSES = "bootstrap.checkpoint", "classes.jsa"
BACK_SOON = {"reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 100}  # to a broker that a test restarts
CACHE = Path(os.environ.get("CONSUMER_SKELETON_CACHE", "~/.cache/consumer-skeleton")).expanduser()

Kind = Literal["env", "docker", "java", "embedded"]


class KafkaBroker(Protocol):
    """A broker to test against. `bootstrap` and `description` are known once it is started."""

    kind: Kind
    bootstrap: str
    description: str

    def start(self) -> None: ...
    def stop(self) -> None: ...

    def create_topic(self, name: str, partitions: int, config: Mapping[str, str] | None = None) -> None:
        """Create a topic with one replica and return when it can be used."""


def real_broker(port: int = 0) -> AbstractContextManager[KafkaBroker]:
    """Real Kafka by whichever way comes first: KAFKA_BOOTSTRAP_SERVERS, Docker, Java. Unavailable if there is none.

    `port`: of one that is started here; 0: any free one.
    """
    return first_available(running(EnvBroker()), running(DockerBroker(port)), running(JavaBroker(PATIENT, port=port)))


@dataclass(slots=True)
class SharedBroker:
    """A broker that somebody else has started and will stop: plain data, which another process can be given."""

    kind: Kind
    bootstrap: str
    description: str

    def start(self) -> None: ...
    def stop(self) -> None: ...

    def create_topic(self, name: str, partitions: int, config: Mapping[str, str] | None = None) -> None:
        create_topic(self.bootstrap, name, partitions, config)


class EnvBroker:
    """The broker that KAFKA_BOOTSTRAP_SERVERS names. It is left running, without the topics created here."""

    kind: Kind = "env"

    def __init__(self) -> None:
        self.bootstrap = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "")
        self.description = f"Kafka at {self.bootstrap} (KAFKA_BOOTSTRAP_SERVERS)"
        self._topics: list[str] = []

    def start(self) -> None:
        if not self.bootstrap:
            raise Unavailable("KAFKA_BOOTSTRAP_SERVERS is not set")
        if not _has_broker(self.bootstrap, timeout=10):
            raise RuntimeError(f"no broker answers at KAFKA_BOOTSTRAP_SERVERS={self.bootstrap}")

    def stop(self) -> None:
        if self._topics:
            admin = kept_admin(self.bootstrap)
            wait(admin.delete_topics(self._topics).values())

    def create_topic(self, name: str, partitions: int, config: Mapping[str, str] | None = None) -> None:
        create_topic(self.bootstrap, name, partitions, config)
        self._topics.append(name)


class DockerBroker:
    """The official image, by testcontainers."""

    kind: Kind = "docker"

    def __init__(self, port: int = 0) -> None:
        self.bootstrap = ""
        self.description = f"Apache Kafka {VERSION} (Docker)"
        self._port = port
        self._container: DockerContainer | None = None

    def start(self) -> None:
        require_docker()
        host, port = docker_host(), self._port or free_port()
        self.bootstrap = f"{host}:{port}"
        properties = single_node(listen="0.0.0.0", advertised=host, port=port, controller_port=port + 1)
        self._container = kafka_container(f"apache/kafka:{VERSION}", port, properties)
        start_container(self._container)
        _wait_for_broker(self.bootstrap)

    def stop(self) -> None:
        if self._container is not None:
            self._container.stop()

    def create_topic(self, name: str, partitions: int, config: Mapping[str, str] | None = None) -> None:
        create_topic(self.bootstrap, name, partitions, config)


class Listener(NamedTuple):
    """One more way to a broker. `advertised`: the address, or the host, that it tells its clients; empty: its own."""

    protocol: str = "PLAINTEXT"
    advertised: str = ""


class JavaBroker:
    """A single-node broker from the jars on Maven Central, in a directory of its own that goes when it stops.

    For chaos: `kill()` is a crash, `restart()` brings it back (stopping it in order first, if it runs) with the same
    data on the same port.
    """

    kind: Kind = "java"

    def __init__(
        self,
        properties: Mapping[str, str] | None = None,
        heap: str = "1g",
        *,
        listeners: Mapping[str, Listener] | None = None,
        beside: "JavaBroker | None" = None,
        measured: bool = False,
        port: int = 0,
        cluster: str = CLUSTER,
    ) -> None:
        """`properties` are added to the broker's own; `heap` is Java's -Xmx.

        `listeners`: by name, besides the one of `bootstrap`. `beside`: the first broker of a cluster, for its second.
        `measured`: as Kafka runs by itself, on a disk. Otherwise Java compiles less, which takes a broker that runs for
        a few minutes 40 % less CPU. `port`: 0 is any free one. `cluster`: its id, the same for all brokers of one.
        """
        self.bootstrap = ""
        self.addresses: dict[str, str] = {}  # of `listeners`
        self.quorum = ""
        self.description = f"Apache Kafka {VERSION} (Java)"
        self._properties = {**({} if measured else SILENT), **(properties or {})}
        self._options = [f"-Xmx{heap}", *([] if measured else UNMEASURED)]
        self._measured = measured
        self._listeners = dict(listeners or {})
        self._beside = beside
        self._port = port
        self._cluster = cluster
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._process: ServerProcess | None = None

    @property
    def pid(self) -> int:
        return self._started.pid

    def start(self) -> None:
        prefix = "consumer-skeleton-kafka-"
        self._directory = tempfile.TemporaryDirectory(prefix=prefix) if self._measured else scratch_directory("kafka")
        home = Path(self._directory.name)
        port, controller_port = self._port or free_port(), free_port()
        self.bootstrap = f"{HOST}:{port}"
        properties = single_node(listen=HOST, advertised=HOST, port=port, controller_port=controller_port)
        self.quorum = properties["controller.quorum.voters"]
        if self._beside:
            only_broker = {"node.id": "2", "process.roles": "broker", "controller.quorum.voters": self._beside.quorum}
            properties |= {**only_broker, "listeners": f"PLAINTEXT://{self.bootstrap}"}
        self._listen(properties)
        properties |= self._properties
        ready = functools.partial(is_answered, self.bootstrap)
        self._process = java_server(home, properties, self._options, ready, self._cluster)
        self.restart()
        if self._beside:
            return
        # The broker would make it for the first group, which would then wait 3 s for its coordinator.
        partitions = int(properties["offsets.topic.num.partitions"])
        self.create_topic("__consumer_offsets", partitions, {"cleanup.policy": "compact"})

    def _listen(self, properties: dict[str, str]) -> None:
        for name, listener in self._listeners.items():
            self.addresses[name] = f"{HOST}:{free_port()}"
            properties["listeners"] += f",{name}://{self.addresses[name]}"
            own_host, _, own_port = self.addresses[name].partition(":")
            host, _, port = listener.advertised.partition(":")
            properties["advertised.listeners"] += f",{name}://{host or own_host}:{port or own_port}"
            properties["listener.security.protocol.map"] += f",{name}:{listener.protocol}"

    def restart(self) -> None:
        kept_feeder.cache_clear()  # the old one numbers its records by what was there
        self._started.stop()
        self._started.start()

    def kill(self) -> None:
        kept_feeder.cache_clear()
        self._started.kill()

    def restart_without(self, topic: str, offset: int) -> None:
        """As after an unclean leader election, or the loss of a disk: partition 0 has lost its records from there on.

        The offset must be the first of a batch. The leader epoch after the restart is a higher one.
        """
        kept_feeder.cache_clear()
        self._started.stop()
        assert self._directory is not None
        data = Path(self._directory.name) / "data"
        log = data / f"{topic}-0" / "00000000000000000000.log"
        records, at = log.read_bytes(), 0
        while int.from_bytes(records[at : at + 8], "big") < offset:
            at += 12 + int.from_bytes(records[at + 8 : at + 12], "big")
        os.truncate(log, at)
        for each in (*log.parent.glob("*index"), data / ".kafka_cleanshutdown"):
            each.unlink()
        self._started.start()

    def stop(self) -> None:
        kept_feeder.cache_clear()
        kept_admin.cache_clear()
        if self._process is not None:
            self._process.kill()  # in order it would first write down what then goes
        if self._directory is not None:
            self._directory.cleanup()

    def create_topic(self, name: str, partitions: int, config: Mapping[str, str] | None = None) -> None:
        create_topic(self.bootstrap, name, partitions, config)

    @property
    def _started(self) -> ServerProcess:
        if self._process is None:
            raise RuntimeError("not started")
        return self._process


class EmbeddedBroker:
    """librdkafka's mock cluster, in this process, reachable by every client on this machine.

    Started by its C interface and not by the property `test.mock.num.brokers`, which has 3 s of initial rebalance
    delay and 4 partitions a topic. It has no admin requests, no real transactions and no metadata limit, creates an
    unknown topic (4 partitions) when asked for it, and keeps 5 MiB a partition.
    """

    kind: Kind = "embedded"

    def __init__(self) -> None:
        self.bootstrap = ""
        self.description = f"embedded broker of librdkafka {libversion()[0]}"
        self._library = _librdkafka()
        self._client: int | None = None
        self._cluster: int | None = None

    def start(self) -> None:
        error = ctypes.create_string_buffer(512)
        self._client = self._library.rd_kafka_new(_PRODUCER, None, error, len(error))
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._client, 1)
        if not self._cluster:
            raise RuntimeError(f"no mock cluster: {error.value.decode()}")
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)
        self.bootstrap = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()

    def stop(self) -> None:
        if self._cluster:
            self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        if self._client:
            self._library.rd_kafka_destroy(self._client)
        self._cluster = self._client = None

    def fail_next(self, request: int, *errors: int) -> None:
        """Answer the next requests of this kind, by its number in Kafka's protocol, with these errors."""
        codes = (ctypes.c_int * len(errors))(*errors)
        self._library.rd_kafka_mock_push_request_errors_array(self._cluster, request, len(errors), codes)

    def create_topic(self, name: str, partitions: int, config: Mapping[str, str] | None = None) -> None:
        if config:
            raise ValueError("topics of the embedded broker have no configuration")
        error = self._library.rd_kafka_mock_topic_create(self._cluster, name.encode(), partitions, 1)
        if error:
            raise RuntimeError(f"topic {name} not created: librdkafka error {error}")


def unique_name(name: str) -> str:
    """A topic or group name that no other test has."""
    return f"{name}-{uuid.uuid4().hex[:8]}"


def single_node(*, listen: str, advertised: str, port: int, controller_port: int) -> dict[str, str]:
    """The properties of a broker that is a cluster by itself."""
    return {
        "node.id": "1",
        "process.roles": "broker,controller",
        "controller.quorum.voters": f"1@{HOST}:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{listen}:{port},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{advertised}:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        "auto.create.topics.enable": "false",
        # A broker that crashed may register again only when its old session is over: 2 s and not 9.
        "broker.session.timeout.ms": "2000",
        "broker.heartbeat.interval.ms": "500",
    }


def java_server(
    home: Path,
    properties: Mapping[str, str],
    options: Sequence[str],
    ready: Callable[[], bool],
    cluster: str = CLUSTER,
) -> ServerProcess:
    """A broker with these properties, formatted in this directory, and not yet started."""
    prepared = _prepared()
    config = _configured(home, properties)
    _format(prepared, home / "data", properties["node.id"], cluster)
    classes = [f"-XX:SharedArchiveFile={prepared / CLASSES}"]
    return ServerProcess([*_command(), *classes, *options, "kafka.Kafka", config], ready=ready, log=home / "broker.log")


def is_answered(bootstrap: str) -> bool:
    """Whether a broker answers there that knows of one, perhaps of itself."""
    return answers(int(bootstrap.rpartition(":")[2])) and _has_broker(bootstrap)


def _java() -> str:
    java = shutil.which("java")
    if java is None:
        raise Unavailable("no java")
    return java


def _jars() -> Path:
    """The directory of the broker's jars, filled by Maven the first time."""
    jars = CACHE / f"kafka-{VERSION}"
    if jars.is_dir():
        return jars
    maven = shutil.which("mvn")
    if maven is None:
        raise Unavailable(f"no mvn to fill {jars}")
    with tempfile.TemporaryDirectory(dir=CACHE) as unfinished:
        options = [f"-Dkafka.version={VERSION}", "-DincludeScope=runtime", f"-DoutputDirectory={unfinished}/jars"]
        try:
            run_tool([maven, "-q", "-B", "-f", POM, "dependency:copy-dependencies", *options])
        except RuntimeError as error:
            raise Unavailable(f"Maven could not fetch Kafka's jars: {error}") from error
        Path(unfinished, "jars").rename(jars)
    return jars


def _command() -> list[str]:
    return [_java(), "-cp", f"{_jars()}/*", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]


def _configured(home: Path, properties: Mapping[str, str]) -> Path:
    config = home / "server.properties"
    properties = {**properties, "log.dirs": str(home / "data")}
    config.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
    return config


def _prepared() -> Path:
    """What a start needs and each would make anew, made the first time: with it one takes 1.5 s of CPU and not 4.

    FEATURES, of a formatted directory, and CLASSES: those that a broker loads, as Java has them in memory.
    """
    java = Path(_java()).resolve()
    prepared = CACHE / f"kafka-{VERSION}-{java.stat().st_mtime_ns:x}"  # another Java cannot read CLASSES
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "prepared.lock").open("w") as lock, tempfile.TemporaryDirectory(dir=CACHE) as unfinished:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _jars()  # under the lock, too: on a new machine two runs of tests may begin side by side
        if not prepared.is_dir():
            _prepare(Path(unfinished, "home"))
            Path(unfinished, "home").rename(prepared)
    return prepared


def _prepare(home: Path) -> None:
    home.mkdir()
    port = free_port()
    config = _configured(home, single_node(listen=HOST, advertised=HOST, port=port, controller_port=free_port()))
    try:
        run_tool([*_command(), "kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c", config])
    except RuntimeError as error:
        if "UnsupportedClassVersionError" in str(error):
            raise Unavailable(f"java is too old for Kafka {VERSION}, which needs 17") from error
        raise
    shutil.copy(home / "data" / FEATURES, home)
    noting = [*UNMEASURED, f"-XX:ArchiveClassesAtExit={home / CLASSES}"]
    ready = functools.partial(is_answered, f"{HOST}:{port}")
    server = ServerProcess([*_command(), *noting, "kafka.Kafka", config], ready=ready, log=home / "broker.log")
    server.start()
    server.stop(120)  # where this takes longer, Java finds the archive cut and does without
    shutil.rmtree(home / "data")


def _format(prepared: Path, data: Path, node: str, cluster: str) -> None:
    """As kafka.tools.StorageTool does it, which takes longer than all the rest of a start."""
    data.mkdir()
    shutil.copy(prepared / FEATURES, data)
    directory = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    meta = {"version": "1", "cluster.id": cluster, "node.id": node, "directory.id": directory}
    (data / "meta.properties").write_text("".join(f"{name}={value}\n" for name, value in meta.items()))


def _has_broker(bootstrap: str, timeout: float = 1) -> bool:
    try:
        return bool(kept_admin(bootstrap).list_topics(timeout=timeout).brokers)
    except KafkaException:
        return False


def _wait_for_broker(bootstrap: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not _has_broker(bootstrap):
        if time.monotonic() > deadline:
            raise RuntimeError(f"no broker answers at {bootstrap} after {seconds:g} s")


def create_topic(
    bootstrap: str, name: str, partitions: int, config: Mapping[str, str] | None, replicas: int = 1
) -> None:
    """Create a topic and return when all its partitions have leaders."""
    admin = kept_admin(bootstrap)
    topic = NewTopic(name, partitions, replicas, config=dict(config or {}))
    admin.create_topics([topic])[name].result()
    wait_for_leaders(bootstrap, name, partitions)


def wait_for_leaders(bootstrap: str, name: str, partitions: int) -> None:
    """Until the broker that answers there knows the leaders of this topic's partitions."""
    admin = kept_admin(bootstrap)
    deadline = time.monotonic() + 60
    while not is_led(admin, name, partitions):
        if time.monotonic() > deadline:
            raise RuntimeError(f"topic {name} has no leaders after 60 s")
        time.sleep(0.05)


def is_led(admin: AdminClient, name: str, partitions: int) -> bool:
    found = admin.list_topics(topic=name, timeout=60).topics[name].partitions
    return len(found) == partitions and all(partition.leader >= 0 for partition in found.values())


@functools.lru_cache(maxsize=3)  # the shared broker, that with an authorizer, and one that a test has for itself
def kept_admin(bootstrap: str) -> AdminClient:
    """One for many questions: a client takes longer to begin than a question."""
    return AdminClient({"bootstrap.servers": bootstrap, "log_level": 0, **BACK_SOON})


@functools.lru_cache(maxsize=4)  # the shared brokers, the embedded one, and one that a test has for itself
def kept_feeder(bootstrap: str) -> Producer:
    """One for many feeds: a new one waits for half a second before its first record (measured).

    Who makes a topic again under its name calls `kept_feeder.cache_clear()`.
    """
    return feeder(bootstrap)


def feeder(bootstrap: str) -> Producer:
    """Its keys go where Java's clients put them."""
    return Producer(
        {
            "bootstrap.servers": bootstrap,
            "partitioner": "murmur2_random",
            "enable.idempotence": True,  # a broker that restarts must not have a record twice
            "max.in.flight": 1,  # else records are lost where leaders change: see clients.py
            "linger.ms": 5,
            "queue.buffering.max.messages": 500_000,
            "log_level": 0,
            **BACK_SOON,
        }
    )


_PRODUCER = 0  # rd_kafka_type_t


def _librdkafka() -> ctypes.CDLL:
    """The library behind the client, wherever it lies: a symbol is looked up in all that a module is linked with."""
    library = ctypes.CDLL(cimpl.__file__)
    pointer, integer, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
    for name, result, arguments in (
        ("rd_kafka_new", pointer, [integer, pointer, text, ctypes.c_size_t]),
        ("rd_kafka_destroy", None, [pointer]),
        ("rd_kafka_mock_cluster_new", pointer, [pointer, integer]),
        ("rd_kafka_mock_cluster_destroy", None, [pointer]),
        ("rd_kafka_mock_cluster_bootstraps", text, [pointer]),
        ("rd_kafka_mock_group_initial_rebalance_delay_ms", None, [pointer, ctypes.c_int32]),
        (
            "rd_kafka_mock_push_request_errors_array",
            integer,
            [pointer, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(integer)],
        ),
        ("rd_kafka_mock_topic_create", integer, [pointer, text, integer, integer]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.services.kafka", description="Run a Kafka broker.")
    parser.add_argument("--embedded", action="store_true", help="the client's embedded broker instead of real Kafka")
    parser.add_argument("--port", type=int, default=0, help="of real Kafka; without it, any free one")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    broker_of = running(EmbeddedBroker()) if given.embedded else real_broker(given.port)
    try:
        with contextlib.suppress(KeyboardInterrupt), broker_of as broker:
            print(broker.bootstrap, flush=True)
            print(f"{broker.description}; stop it with Ctrl-C", file=sys.stderr)
            sys.stdin.read()
    except Unavailable as lack:
        sys.exit(f"no Kafka can be started here: {lack}. Install Docker, or Java 17 and Maven")


if __name__ == "__main__":
    main()
