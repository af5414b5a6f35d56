"""A stage on three brokers: rows that change, static members, and a network between workers and brokers."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from tests.chaos.stage import PARTITIONS, Stage
from tests.integration.oracle import Oracle
from tests.integration.workers import SECONDS, Outputs, Worker, feeder
from tests.services.cluster import KafkaCluster
from tests.services.kafka import unique_name
from tests.services.quotas import set_quotas

WORKERS = 2
CLUSTER_RATE = 80.0  # ids a second, of three messages each, at most: every record is written three times
CLUSTER_SESSION = 5.0  # seconds that a killed worker is missed: longer than brokers take to make a new leader
QUOTAS = ("producer_byte_rate", "consumer_byte_rate")
# Seconds: longer than a half can be on its way to a broker that is frozen, so that nothing may be given up but what is
# left over when a row changes.
MESSAGE_TIMEOUT = 60
CONFIG_REFRESH = 1


class ClusterStage(Stage):
    """Its row names two of three input topics, and one of two output topics; all three are always fed."""

    def __init__(
        self,
        cluster: KafkaCluster,
        delivery: str,
        directory: Path,
        chance: random.Random,
        *,
        is_static: bool = False,
        **options: Any,
    ) -> None:
        environment = {"MESSAGE_TIMEOUT": str(MESSAGE_TIMEOUT), "CONFIG_REFRESH": str(CONFIG_REFRESH)}
        super().__init__(
            cluster,
            delivery,
            directory,
            chance,
            bootstrap_servers=cluster.bootstrap_of_workers,
            environment=environment,
            **options,
        )
        self.cluster = cluster
        self._old_feeders: list[Producer] = []
        self.is_static = is_static
        self._instances: dict[str, Worker] = {}
        self.outputs.close()
        self.added, self.other_output = unique_name("chaos-c"), unique_name("chaos-out-2")
        for topic in (self.added, self.other_output):
            cluster.create_topic(topic, PARTITIONS)
        self.topics, self.output = self.job.topics_input, self.job.topics_output[0]
        self.topics_fed = (*self.topics, self.added)
        self.oracle = Oracle(self.topics_fed, (self.topics, self.topics_fed))
        self.outputs = Outputs(self.job, self.oracle, [self.output, self.other_output])

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self.cluster.network.rules = ()

    # ------------------------------------------------------------------ workers

    def launch(self, *, main: Sequence[str] = ("main.py",), **environment: str) -> Worker:
        if self.is_static:
            environment["GROUP_INSTANCE_ID"] = name = self._free_name()
        worker = super().launch(main=main, **environment)
        if self.is_static:
            self._instances[name] = worker
        self.cluster.network.processes[worker.pid] = self.network_name(worker)
        return worker

    def _free_name(self) -> str:
        """That of the worker that ended first, if there is one."""
        ended = (name for name, worker in self._instances.items() if worker.process.poll() is not None)
        name = next(ended, f"worker-{len(self._instances)}")
        self._instances.pop(name, None)
        return name

    @staticmethod
    def network_name(worker: Worker) -> str:
        """The one that it has in the network."""
        return f"worker-{worker.pid}/"

    # ------------------------------------------------------------------ the topics

    def renew_feeder(self) -> None:
        """What the old one has on its way to a broker that does not answer holds up all behind it: that shall wait for
        nobody but the workers.
        """
        self._old_feeders.append(self._feeder)
        self._feeder = feeder(self.cluster)

    def _feed(self, now: float) -> None:
        super()._feed(now)
        self._old_feeders = [each for each in self._old_feeders if each.flush(0)]

    def make_again(self, topic: str) -> None:
        """Delete a topic and create it once more. What was in it is gone; nothing is fed meanwhile."""
        self.feed(False)
        self.wait_until(self.all_sent, "all halves sent")
        admin = AdminClient({"bootstrap.servers": self.cluster.bootstrap, "log_level": 0})
        self.outputs.read(0)
        admin.delete_topics([topic])[topic].result(SECONDS)
        self.oracle.destroy(topic)
        self.cluster.create_topic(topic, PARTITIONS)
        self.renew_feeder()  # the old one numbers its records by what was there
        self.feed()

    # ------------------------------------------------------------------ after a fault

    def heal(self) -> None:
        """Until all is as before the first fault: brokers, network, quotas, the number of workers."""
        self.cluster.network.rules = ()
        self.until_whole()
        self.set_quotas(dict.fromkeys(QUOTAS))
        for worker in self.workers[WORKERS:]:
            self.stop(worker)
        self.start(WORKERS - len(self.workers))
        self.until_assigned(self.workers)

    def until_whole(self) -> None:
        """Until every replica is in sync, also those of a broker that has been put off."""

        def is_whole() -> bool:
            self.pass_time(0.5)
            return self.cluster.is_whole()

        self.wait_until(is_whole, "all replicas in sync")

    def set_quotas(self, quotas: dict[str, float | None]) -> None:
        """Of the workers, at each broker."""
        set_quotas(self.cluster.nodes[0].address, self.job.name, quotas)

    def all_sent(self) -> bool:
        return not (self._actions or self._old_feeders or self._feeder.flush(0))

    def all_out(self) -> bool:
        if not self.all_sent():
            return False
        return len(self.oracle.results) >= self.fed - len(self.oracle.destroyed) and not self.oracle.missing()
