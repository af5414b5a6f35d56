"""What each alert of deploy/prometheus is for, brought about in real workers on real Kafka.

A fault is a generator: at its first `yield` all is well, at the next one the fault is there, and each further one keeps
it up. It yields the worker that shows it. tests/integration/test_alarms.py hands what such workers export to promtool;
tests/scale/alarms.py has Prometheus itself scrape them, and waits until all the alerts fire.
"""

import os
import random
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourceType
from sqlalchemy import text

from tests.integration.oracle import Oracle
from tests.integration.workers import SECONDS, Job, Worker, eventually, feed, feed_raw, short_session
from tests.services.kafka import EnvBroker, KafkaBroker, unique_name
from tests.services.processes import free_port

PROCESS = Path(__file__).with_name("process_for_tests.py")

Fault = Callable[["Stage"], Iterator[Worker]]
FAULTS: dict[str, Fault] = {}
"""By the name of the alert."""


def fault_of(alert: str) -> Callable[[Fault], Fault]:
    def note(fault: Fault) -> Fault:
        FAULTS[alert] = fault
        return fault

    return note


@dataclass
class Stage:
    """The topics, the row and the workers of one fault; all goes when `stack` is closed."""

    alert: str
    broker: KafkaBroker
    directory: Path
    stack: ExitStack
    job: Job = None  # type: ignore[assignment]
    oracle: Oracle = None  # type: ignore[assignment]
    transaction_ms: int = 900_000  # the most that Kafka allows by itself

    def start(self, *, partitions: int = 1, largest: int = 1_000_000, **environment: str) -> Worker:
        """A worker over two topics with a process() that does what the environment says; it has its partitions.

        `largest`: bytes of a result that its topic takes.
        """
        self.open(partitions, largest, environment)
        return self.job.start().is_assigned()

    def open(self, partitions: int, largest: int, environment: dict[str, str]) -> None:
        a, b, out = (unique_name(f"{self.alert}-{each}") for each in ("a", "b", "out"))
        for topic in (a, b):
            self.broker.create_topic(topic, partitions)
        self.broker.create_topic(out, partitions, {"max.message.bytes": str(largest)})
        settings = {**short_session(self.broker), "RETRY_BACKOFF": "0.05", **environment}
        name = unique_name(self.alert)
        self.job = Job(self.broker, name, [a, b], [out], self.directory, process=PROCESS, environment=settings)
        self.stack.enter_context(self.job)
        self.oracle = Oracle((a, b))

    def feed(self, ids: Iterable[str], *topics: str, pad: int = 0, partition: int | None = None) -> None:
        feed(self.broker, self.oracle, ids, topics, pad=pad, partition=partition)

    @property
    def a(self) -> str:
        return self.job.topics_input[0]

    @property
    def b(self) -> str:
        return self.job.topics_input[1]

    def file(self, name: str) -> Path:
        return self.directory / f"{self.alert}-{name}"

    def half_fed(self, number: int = 26_000) -> list[str]:
        """So many ids on the first topic, a random half of them on the second one; those that wait."""
        every = numbered(number)
        met = set(random.Random(7).sample(every, number // 2))
        self.feed(every, self.a)
        self.feed(met, self.b)
        return [id for id in every if id not in met]

    def set_of_output(self, name: str, value: str) -> None:
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, self.job.topics_output[0], incremental_configs=[entry])
        admin = self.admin()  # kept until it has answered
        for changed in admin.incremental_alter_configs([resource]).values():
            changed.result()

    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.broker.bootstrap, "log_level": 0})


def numbered(number: int, prefix: str = "") -> list[str]:
    return [f"{prefix}{each}" for each in range(number)]


def value(worker: Worker, metric: str) -> float:
    """Summed over its labels."""
    lines = [line for line in worker.scrape().splitlines() if line.startswith((f"{metric}{{", f"{metric} "))]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def reaches(worker: Worker, metric: str, least: float) -> None:
    eventually(lambda: value(worker, metric) >= least, f"{metric} of {worker.log} {least:g}", pause=0.2)


def keep(worker: Worker) -> Iterator[Worker]:
    """It stays as it is."""
    while True:
        yield worker


# ---------------------------------------------------------------- processes


@fault_of("ConsumerGone")
@fault_of("ConsumerDown")
def killed(stage: Stage) -> Iterator[Worker]:
    worker = stage.start()
    yield worker
    worker.kill()
    yield from keep(worker)


@fault_of("ConsumerStuck")
def a_call_of_the_loop_that_does_not_return(stage: Stage) -> Iterator[Worker]:
    worker = stage.start(PROCESS_STUCK="1")
    yield worker
    os.kill(worker.pid, signal.SIGUSR1)
    yield from keep(worker)


@fault_of("ConsumerNotReady")
def no_broker(stage: Stage) -> Iterator[Worker]:
    worker = stage.start()
    yield worker
    assert worker.stop() == 0
    stage.job.broker = EnvBroker()
    stage.job.broker.bootstrap = "127.0.0.1:9"  # where none listens
    stage.job.write_row()
    worker = stage.job.start()
    worker.says("waiting: ")
    yield from keep(worker)


@fault_of("ConsumerKeepsRestarting")
def an_output_that_takes_nothing(stage: Stage) -> Iterator[Worker]:
    """Its topic finds each record too old. Each sixth failure ends the process, and the next one has its port."""
    worker = stage.start(HTTP_PORT=str(free_port()))
    stage.feed(numbered(10))
    reaches(worker, "consumer_latency_seconds_count", 1)
    yield worker
    stage.set_of_output("message.timestamp.before.max.ms", "0")
    stage.feed(numbered(10, "stays-"))
    reaches(worker, "consumer_restarts_total", 1)
    while True:
        if worker.process.poll() is not None:
            worker = stage.job.start().is_assigned()
        yield worker


@fault_of("ConsumerRestarting")
def results_that_the_topic_refuses(stage: Stage) -> Iterator[Worker]:
    """Only the broker knows its limit; with exactly_once each result that is smaller than those before it, and still
    too large, costs the transaction.
    """
    worker = stage.start(largest=20_000, DELIVERY="exactly_once", PROCESS_ODD="1", PROCESS_SIZE="50000")
    yield worker
    number = 0
    while True:
        stage.feed([f"smaller-{number}"])
        number += 1
        reaches(worker, "consumer_restarts_total", number)
        if number > 3:
            yield worker


@fault_of("ConsumerRebalancing")
def a_member_that_flaps(stage: Stage) -> Iterator[Worker]:
    worker = stage.start()
    stage.feed(numbered(10))
    yield worker
    while True:
        least = value(worker, "consumer_rebalances_total") + 10  # a member that joins and leaves makes one or two
        while (before := value(worker, "consumer_rebalances_total")) < least:
            settings = {"bootstrap.servers": stage.broker.bootstrap, "group.id": stage.job.name, "log_level": 0}
            member = Consumer({**settings, "partition.assignment.strategy": "range", **short(stage.broker)})
            member.subscribe(list(stage.job.topics_input))

            def moved(member: Consumer = member, before: float = before) -> bool:
                member.poll(0.1)
                return value(worker, "consumer_rebalances_total") > before

            eventually(moved, "a rebalance")
            member.close()
        yield worker


def short(broker: KafkaBroker) -> dict[str, str]:
    names = {name: name.removeprefix("KAFKA_").lower().replace("_", ".") for name in short_session(broker)}
    return {names[name]: text for name, text in short_session(broker).items()}


# ---------------------------------------------------------------- progress


@fault_of("ConsumerStalled")
def an_open_transaction_of_somebody_else(stage: Stage) -> Iterator[Worker]:
    worker = stage.start(MESSAGE_TIMEOUT="3600")
    stage.feed(numbered(10))
    reaches(worker, "consumer_results_total", 10)
    yield worker
    with open_transaction(stage):
        stage.feed(numbered(100, "behind-"))
        reaches(worker, "consumer_messages_read_total", 120)
        read_and_committed(worker)
        while True:
            yield worker
            before = value(worker, "consumer_commits_total")
            reaches(worker, "consumer_commits_total", before + 1)  # of what waits they tell the age


@fault_of("ConsumerPartitionStalled")
def an_open_transaction_in_one_of_two_partitions(stage: Stage) -> Iterator[Worker]:
    worker = stage.start(partitions=2)
    stage.feed(numbered(100))
    reaches(worker, "consumer_results_total", 100)
    eventually(lambda: not value(worker, "consumer_partition_lag"), "all is read", pause=0.2)
    yield worker
    with open_transaction(stage):
        number = 0
        while True:
            stage.feed(numbered(10, f"behind-{number}-"), partition=0)
            stage.feed(numbered(10, f"read-{number}-"), partition=1)
            number += 1
            reaches(worker, "consumer_results_total", 100 + 10 * number)
            reaches(worker, "consumer_partition_lag", 1)
            yield worker


@contextmanager
def open_transaction(stage: Stage) -> Iterator[None]:
    """In the first partition of the second topic: what comes after it cannot be read."""
    settings: dict[str, str | int] = {"bootstrap.servers": stage.broker.bootstrap, "log_level": 0}
    settings |= {"transactional.id": unique_name("hanging"), "transaction.timeout.ms": stage.transaction_ms}
    producer = Producer(settings)
    producer.init_transactions(SECONDS)
    producer.begin_transaction()
    producer.produce(stage.b, b'{"id": "open"}', "open", partition=0)
    assert producer.flush(SECONDS) == 0
    try:
        yield
    finally:
        with suppress(KafkaException):  # the broker may have been stopped before
            producer.abort_transaction(10)


def read_and_committed(worker: Worker) -> None:
    """Until nothing is read and nothing committed any more."""
    last: list[tuple[float, float]] = []

    def still() -> bool:
        time.sleep(0.5)
        last.append((value(worker, "consumer_messages_read_total"), value(worker, "consumer_commits_total")))
        return last[-2:-1] == last[-1:]

    eventually(still, "nothing moves")


@fault_of("ConsumerLagGrowing")
def a_process_slower_than_its_feed(stage: Stage) -> Iterator[Worker]:
    worker = stage.start(PROCESS_SECONDS="0.5")  # with memory for all that waits: else the lag goes up and down
    yield worker
    stage.feed(numbered(25_000))
    number = 0
    while True:
        stage.feed(numbered(40, f"more-{number}-"))
        number += 1
        yield worker


@fault_of("ConsumerNotCommitting")
def maps_that_do_not_fit_and_have_no_topic(stage: Stage) -> Iterator[Worker]:
    stage.open(1, 1_000_000, {"MESSAGE_TIMEOUT": "36000"})
    stage.broker.create_topic(stage.job.map_topic, 1, {"cleanup.policy": "delete"})
    worker = stage.job.start().is_assigned()
    stage.feed(["first"])
    reaches(worker, "consumer_results_total", 1)
    yield worker
    stage.half_fed()
    worker.says("commit held back")
    reaches(worker, "consumer_results_total", 13_001)
    number = 0
    while True:
        yield worker
        stage.feed(numbered(10, f"more-{number}-"))
        number += 1
        reaches(worker, "consumer_results_total", 13_001 + 10 * number)


@fault_of("ConsumerMapMissing")
def a_topic_of_maps_that_somebody_deleted(stage: Stage) -> Iterator[Worker]:
    worker = stage.start(MESSAGE_TIMEOUT="36000")
    stage.half_fed()
    reaches(worker, "consumer_results_total", 13_000)
    reaches(worker, "consumer_maps_stored_total", 1)
    yield worker
    assert worker.stop() == 0
    client, topic = stage.admin(), stage.job.map_topic
    client.delete_topics([topic])[topic].result(SECONDS)
    eventually(lambda: topic not in client.list_topics(timeout=SECONDS).topics, "the end of the topic")
    worker = stage.job.start().is_assigned()
    yield from keep(worker)


@fault_of("ConsumerMemoryFull")
def many_that_wait(stage: Stage) -> Iterator[Worker]:
    worker = stage.start(MESSAGE_TIMEOUT="36000", MAX_PENDING_BYTES="500000")
    yield worker
    stage.feed(numbered(2_000), stage.a, pad=500)
    reaches(worker, "consumer_waiting_bytes", 0.45 * 500_000)
    yield from keep(worker)


# ---------------------------------------------------------------- messages


@fault_of("ConsumerProcessFailing")
def one_bad_message(stage: Stage) -> Iterator[Worker]:
    worker = stage.start(PROCESS_ODD="1", PROCESS_ATTEMPTS="2")
    yield worker
    stage.feed(["fail-1"])
    reaches(worker, "consumer_groups_failed_total", 1)
    yield from keep(worker)


@fault_of("ConsumerNearlyAllFails")
def results_that_are_no_results(stage: Stage) -> Iterator[Worker]:
    worker = stage.start(PROCESS_ODD="1", PROCESS_ATTEMPTS="1")
    stage.feed(numbered(50))
    yield worker
    number = 0
    while True:
        stage.feed([*numbered(60, f"wrong-{number}-"), *numbered(20, f"good-{number}-")])
        number += 1
        reaches(worker, "consumer_groups_failed_total", 60 * number)
        yield worker


@fault_of("ConsumerPaused")
def a_row_that_is_paused(stage: Stage) -> Iterator[Worker]:
    worker = stage.start(CONFIG_REFRESH="0.5")
    yield worker
    stage.job.write_row(metadatas='{"paused": true}')
    reaches(worker, "consumer_paused", 1)
    yield from keep(worker)


@fault_of("ConsumerCircuitOpen")
def a_service_that_is_down(stage: Stage) -> Iterator[Worker]:
    down = stage.file("down")
    worker = stage.start(PROCESS_DOWN=str(down))
    stage.feed(numbered(10))
    yield worker
    down.touch()
    stage.feed(numbered(100, "in-the-outage-"))
    reaches(worker, "consumer_circuit_open", 1)
    yield from keep(worker)


@fault_of("ConsumerDeadLetters")
def a_result_larger_than_the_client_sends(stage: Stage) -> Iterator[Worker]:
    worker = stage.start(PROCESS_ODD="1", PROCESS_SIZE="2000000")
    yield worker
    stage.feed(["huge-1"])
    reaches(worker, "consumer_dead_letters_total", 1)
    yield from keep(worker)


@fault_of("ConsumerCallHangs")
def a_call_without_a_time_out(stage: Stage) -> Iterator[Worker]:
    blocked = stage.file("blocked")
    worker = stage.start(PROCESS_BLOCKED=str(blocked))
    yield worker
    blocked.touch()
    stage.feed(["hangs"])
    yield from keep(worker)


@fault_of("ConsumerCallsAllHang")
def a_service_that_hangs_and_processes_that_end_for_it(stage: Stage) -> Iterator[Worker]:
    blocked = stage.file("blocked")
    worker = stage.start(PROCESS_BLOCKED=str(blocked), PROCESS_TIMEOUT="70")
    stage.feed(numbered(10))
    reaches(worker, "consumer_results_total", 10)
    yield worker
    blocked.touch()
    stage.feed(numbered(50, "hangs-"))  # each becomes a dead letter after some processes
    while True:
        yield worker
        if worker.process.poll() is not None:
            worker = stage.job.start()


@fault_of("ConsumerRowRefused")
def a_row_with_a_topic_that_does_not_exist(stage: Stage) -> Iterator[Worker]:
    worker = stage.start(CONFIG_REFRESH="1")
    yield worker
    stage.job.write_row([*stage.job.topics_input, "no-such-topic"])
    reaches(worker, "consumer_row_refused", 1)
    yield from keep(worker)


@fault_of("ConsumerRowUnread")
def a_table_that_somebody_has_dropped(stage: Stage) -> Iterator[Worker]:
    worker = stage.start(CONFIG_REFRESH="1")
    yield worker
    with stage.job.database() as connection:
        connection.execute(text("DROP TABLE consumer_configs"))
    reaches(worker, "consumer_row_unread", 1)
    assert value(worker, "consumer_row_refused") == 0
    yield from keep(worker)


@fault_of("ConsumerKeysDiffer")
def a_producer_with_partitions_of_its_own_choice(stage: Stage) -> Iterator[Worker]:
    worker = stage.start(partitions=4)
    stage.feed(numbered(300))
    yield worker
    every = numbered(1_000, "later-")
    stage.feed(every, stage.a)
    for partition in range(4):
        stage.feed(every[partition::4], stage.b, partition=partition)
    number = 0
    while not value(worker, "consumer_topics_with_other_keys"):  # some records a second are looked at
        stage.feed(numbered(200, f"more-{number}-"), stage.a)
        stage.feed(numbered(200, f"more-{number}-"), stage.b, partition=number % 4)
        number += 1
        time.sleep(0.2)
    yield from keep(worker)


@fault_of("ConsumerInvalidMessages")
def what_is_no_json(stage: Stage) -> Iterator[Worker]:
    worker = stage.start()
    yield worker
    feed_raw(stage.broker, stage.oracle, stage.a, [b"no json"])
    reaches(worker, "consumer_messages_invalid_total", 1)
    yield from keep(worker)


@fault_of("ConsumerGivingUp")
def a_message_without_its_mate(stage: Stage) -> Iterator[Worker]:
    worker = stage.start(MESSAGE_TIMEOUT="1")
    stage.feed(numbered(100))
    yield worker
    stage.feed(["alone"], stage.a)
    reaches(worker, "consumer_groups_evicted_total", 1)
    yield from keep(worker)


@fault_of("ConsumerNothingJoins")
def a_topic_that_has_dried_up(stage: Stage) -> Iterator[Worker]:
    worker = stage.start(MESSAGE_TIMEOUT="1")
    stage.feed(numbered(10))
    yield worker
    number = 0
    while True:
        stage.feed(numbered(50, f"alone-{number}-"), stage.a)
        number += 1
        reaches(worker, "consumer_groups_evicted_total", 50 * number)
        yield worker


@fault_of("ConsumerWaitsTooLong")
def a_sibling_that_is_far_behind(stage: Stage) -> Iterator[Worker]:
    worker = stage.start(PROCESS_SECONDS="1", MAX_PENDING_BYTES="20000", MESSAGE_TIMEOUT="5")
    yield worker
    stage.feed(["waits"], stage.a)
    stage.feed(numbered(10_000))
    reaches(worker, "consumer_oldest_waiting_seconds", 16)
    yield from keep(worker)


@fault_of("ConsumerMessagesDeletedUnread")
def retention_faster_than_the_worker(stage: Stage) -> Iterator[Worker]:
    worker = stage.start()
    stage.feed(numbered(10))
    reaches(worker, "consumer_results_total", 10)
    yield worker
    assert worker.stop() == 0
    stage.feed(numbered(40, "deleted-"))
    client = stage.admin()  # it must outlive its futures
    for future in client.delete_records([TopicPartition(topic, 0, 50) for topic in stage.job.topics_input]).values():
        future.result(SECONDS)
    worker = stage.job.start().is_assigned()
    stage.feed(numbered(10, "later-"))
    reaches(worker, "consumer_results_total", 10)
    yield from keep(worker)
