"""Three brokers with a network between them, for chaos: any of them can be killed, frozen, cut off or slow.

with running(KafkaCluster()) as cluster:
    cluster.create_topic("a", 6)                          (three replicas, of which two must have each record)
    node = cluster.leader("a", 0)
    node.kill(); node.launch()
    cluster.network.rules = [torn(node.name, "broker")]

Each is a broker and a controller, so that whoever fails takes a vote with it. `bootstrap` leads past the network, for
who feeds and looks; `bootstrap_of_workers` goes through it, as all does that the brokers say to each other.
"""

import os
import shutil
import signal
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.services.kafka import (
    UNMEASURED,
    VERSION,
    Kind,
    create_topic,
    is_answered,
    java_server,
    single_node,
    wait_for_leaders,
)
from tests.services.network import Network
from tests.services.processes import HOST, ServerProcess, free_port
from tests.services.wire import transactional_ids

NODES = 3
REPLICAS, IN_SYNC = "3", "2"
ASK = 10.0  # seconds that a broker may take to tell what is where
OFFSETS, TRANSACTIONS = "__consumer_offsets", "__transaction_state"
COORDINATED = 6  # partitions of either of them

_PROPERTIES = {
    "inter.broker.listener.name": "BROKERS",
    "listener.security.protocol.map": ",".join(
        f"{name}:PLAINTEXT" for name in ("PLAINTEXT", "WORKERS", "BROKERS", "CONTROLLER")
    ),
    "default.replication.factor": REPLICAS,
    "min.insync.replicas": IN_SYNC,
    "offsets.topic.replication.factor": REPLICAS,
    "offsets.topic.num.partitions": str(COORDINATED),
    "transaction.state.log.replication.factor": REPLICAS,
    "transaction.state.log.min.isr": IN_SYNC,
    "transaction.state.log.num.partitions": str(COORDINATED),
    "share.coordinator.state.topic.replication.factor": REPLICAS,
    "share.coordinator.state.topic.min.isr": IN_SYNC,
    # Sooner than shipped (9, 30 and 30 s), so that a fault and what comes of it are over in some seconds; and not so
    # soon that a busy machine is a fault by itself.
    "broker.session.timeout.ms": "3000",
    "replica.lag.time.max.ms": "4000",
    "replica.socket.timeout.ms": "4000",
}


class Node:
    """One of the brokers. `name` is the one that it has in the network."""

    def __init__(self, number: int, network: Network, home: Path) -> None:
        self.number = number
        self.name = f"broker-{number}"
        self._network = network
        self._home = home
        self.ports = {name: free_port() for name in ("PLAINTEXT", "WORKERS", "BROKERS", "CONTROLLER")}
        self.doors = {name: network.door(self.name, self.ports[name]) for name in ("WORKERS", "BROKERS", "CONTROLLER")}
        self.address = f"{HOST}:{self.ports['PLAINTEXT']}"
        self.is_frozen = False
        self._process: ServerProcess | None = None

    def format(self, voters: str, heap: str, properties: Mapping[str, str]) -> None:
        listening = ",".join(f"{name}://{HOST}:{port}" for name, port in self.ports.items())
        outside = {"PLAINTEXT": self.ports["PLAINTEXT"], **self.doors}
        own = {
            "node.id": str(self.number),
            "controller.quorum.voters": voters,
            "listeners": listening,
            "advertised.listeners": ",".join(f"{name}://{HOST}:{port}" for name, port in outside.items()),
        }
        alone = single_node(listen=HOST, advertised=HOST, port=0, controller_port=0)
        options = [f"-Xmx{heap}", *UNMEASURED]
        self._home.mkdir()
        self._process = java_server(
            self._home, {**alone, **_PROPERTIES, **own, **properties}, options, partial(is_answered, self.address)
        )
        self._process.stop_signal = signal.SIGKILL  # one that stops in order waits for the others, perhaps for ever

    @property
    def process(self) -> ServerProcess:
        if self._process is None:
            raise RuntimeError("not started")
        return self._process

    def launch(self) -> None:
        """Start it, or start it again with the same data, without waiting until it is ready."""
        self.process.launch()
        self._network.processes[self.process.pid] = self.name

    def kill(self) -> None:
        """SIGKILL."""
        self._network.processes.pop(self.process.pid, None)
        self.process.kill()
        self.is_frozen = False

    def terminate(self) -> None:
        """SIGTERM, without waiting: it hands over what it leads."""
        os.kill(self.process.pid, signal.SIGTERM)

    def has_ended(self) -> bool:
        return self.process.has_ended()

    def freeze(self) -> None:
        self.is_frozen = True
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        if self.is_frozen:
            os.kill(self.process.pid, signal.SIGCONT)
        self.is_frozen = False


class KafkaCluster:
    """A KafkaBroker made of three."""

    kind: Kind = "java"

    def __init__(self, properties: Mapping[str, str] | None = None, heap: str = "256m") -> None:
        self.description = f"{NODES} x Apache Kafka {VERSION} (Java)"
        self.network = Network()
        self.bootstrap = ""
        self.nodes: list[Node] = []
        self._properties = dict(properties or {})
        self._heap = heap
        self._directory: tempfile.TemporaryDirectory[str] | None = None

    def start(self) -> None:
        self.network.start()
        self._directory = tempfile.TemporaryDirectory(prefix="consumer-skeleton-cluster-")
        home = Path(self._directory.name)
        self.nodes = [Node(number, self.network, home / str(number)) for number in range(1, NODES + 1)]
        self.bootstrap = ",".join(node.address for node in self.nodes)
        voters = ",".join(f"{node.number}@{HOST}:{node.doors['CONTROLLER']}" for node in self.nodes)
        for node in self.nodes:
            node.format(voters, self._heap, self._properties)
            node.launch()
        for node in self.nodes:
            node.process.wait()
        # The brokers would make them for the first group and transaction, which would then wait for it.
        compacted = {"cleanup.policy": "compact"}
        for topic in (OFFSETS, TRANSACTIONS):
            self.create_topic(topic, COORDINATED, compacted)

    def stop(self) -> None:
        for node in self.nodes:
            node.process.kill()
        if self._directory is not None:
            self._directory.cleanup()
        self.network.stop()

    def keep_logs(self, directory: Path) -> None:
        """A copy of all that the brokers have written, to look at what went wrong."""
        if self._directory is not None:
            with suppress(shutil.Error):  # what they delete meanwhile
                shutil.copytree(self._directory.name, directory)

    @property
    def bootstrap_of_workers(self) -> str:
        return ",".join(f"{HOST}:{node.doors['WORKERS']}" for node in self.nodes)

    def create_topic(self, name: str, partitions: int, config: Mapping[str, str] | None = None) -> None:
        create_topic(self.bootstrap, name, partitions, config, NODES)
        for node in self.nodes:  # each learns of it a little later
            wait_for_leaders(node.address, name, partitions)

    # ------------------------------------------------------------------ what is where

    def leader(self, topic: str, partition: int) -> Node:
        """While the cluster is whole."""
        found = self._admin().list_topics(topic, timeout=ASK).topics[topic].partitions[partition].leader
        return self.node(found)

    def node(self, number: int) -> Node:
        return next(node for node in self.nodes if node.number == number)

    def group_coordinator(self, group: str) -> Node:
        return self.leader(OFFSETS, java_hash(group) % COORDINATED)

    def transaction_coordinators(self, prefix: str) -> list[Node]:
        """Of the transactional ids that begin so."""
        return [node for node in self.nodes if any(id.startswith(prefix) for id in transactional_ids(node.address))]

    def is_whole(self) -> bool:
        """Whether all brokers run and every replica is in sync, and each of them knows it."""
        return all(not node.is_frozen and _sees_all(node.address) for node in self.nodes)

    def _admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})


def _sees_all(address: str) -> bool:
    try:
        seen = AdminClient({"bootstrap.servers": address, "log_level": 0}).list_topics(timeout=1)
    except KafkaException:
        return False
    partitions = [each for topic in seen.topics.values() for each in topic.partitions.values()]
    return len(seen.brokers) == NODES and all(len(each.isrs) == NODES for each in partitions)


def java_hash(text: str) -> int:
    """`Utils.abs(text.hashCode())`, by which Kafka tells a coordinator's partition."""
    found = 0
    for character in text:
        found = (31 * found + ord(character)) & 0xFFFFFFFF
    return min(found, 0x100000000 - found) % 0x80000000
