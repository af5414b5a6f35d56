"""The two sides of a comparison, alike to look at: the model, and a real broker, each with clients of one group.

What they are asked for is in Kafka's own terms. Neither knows what the other one answers.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka import TopicCollection as Names
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec
from confluent_kafka.cimpl import NewTopic

from tests.integration.workers import SECONDS, eventually
from tests.services.wire import WireGroup
from tests.simulation.broker import SESSION, Broker, Committed, Entry, Partition
from tests.simulation.clients import FakeAdmin, FakeConsumer, FakeProducer

Offsets = Mapping[Partition, Committed]
Identity = tuple[str, str, int]  # of a member: its id, its instance id or "", its generation
TIMEOUT = 1.0  # seconds that a transaction may take which is meant to time out
LONG = 600.0  # and any other one
NONE = Committed(-1, "")
_LATEST: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_SILENT = logging.getLogger("tests.simulation.sides")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False


class Side(Protocol):
    """Consumers are confluent_kafka's or stand-ins. A member's partitions are paused: it never reads."""

    def member(self, name: str, instance: str) -> Any:
        """A consumer of the group that has not joined yet."""

    def kill(self, member: Any) -> None:
        """It ends without a word to the group."""

    def reader(self) -> Any:
        """A consumer of another group, with read_committed."""

    def producer(self, transactional_id: str, timeout: float, failed: Callable[[KafkaError], None]) -> Any: ...

    def commit_as(self, who: Identity, at: Partition, committed: Committed) -> int:
        """A plain commit in anybody's name; the error code, 0 where it is taken."""

    def make_again(self, topic: str, partitions: int) -> None: ...
    def delete_records(self, at: Partition, before: int) -> None: ...

    def pass_session(self) -> None:
        """Time passes in which a member that is silent is expelled: at once, or while others are waited for."""

    def pass_transaction(self) -> None:
        """The same, for a transaction with TIMEOUT."""

    def topic_ids(self) -> dict[str, str]: ...

    def ends(self) -> dict[Partition, tuple[int, int]]:
        """For readers of committed records, and for others."""

    def committed(self) -> dict[Partition, Committed]:
        """What is committed now, also while a transaction is about to change it."""

    def unstable(self) -> set[Partition]:
        """Whose committed offset an open transaction is about to change."""

    def members(self) -> tuple[str, list[tuple[str, tuple[Partition, ...]]]]:
        """The state of the group, and the instance ids and assignments of its members, in order."""

    def close(self) -> None: ...


class Nobody:
    """Watches a broker and does not care."""

    def on_record(self, at: Partition, entry: Entry) -> None: ...
    def on_visible(self, at: Partition, entry: Entry) -> None: ...
    def on_commit(self, at: Partition, committed: Committed) -> None: ...
    def on_unfenced(self) -> None: ...


class Straight:
    """A Host whose calls go the plain way, unless `option` says otherwise."""

    dead = False

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.option = 0

    def choose(self, options: int) -> int:
        return min(self.option, options - 1)

    def wait(self, seconds: float) -> None:
        self.broker.tick(self.broker.now + seconds)

    def fault(self, _kind: str) -> bool:
        return False

    def monotonic(self) -> float:
        return self.broker.now

    def here(self, _call: str) -> None: ...
    def commit_refused(self, partitions: Iterable[Partition]) -> None: ...

    def check_commit(self, wanted: Mapping[Partition, Committed]) -> None: ...
    def check_resume(self) -> None: ...

    def is_late(self) -> None: ...
    def note(self, _what: str) -> None: ...
    def trace(self, _what: object) -> None: ...

    def broken(self, rule: str, what: str, cause: Exception | None = None) -> None:
        raise AssertionError(rule, what) from cause


class ModelSide:
    def __init__(self, partitions: Mapping[str, int]) -> None:
        self.broker = Broker(dict(partitions), Nobody())
        self._host = Straight(self.broker)
        self._admin = FakeAdmin(self._host)

    def member(self, name: str, instance: str) -> FakeConsumer:
        return FakeConsumer(self._host, _ignore, instance, client=name)

    def kill(self, member: FakeConsumer) -> None:
        member.silence(self.broker.now)

    def reader(self) -> FakeConsumer:
        return FakeConsumer(self._host, _ignore)

    def producer(self, transactional_id: str, timeout: float, failed: Callable[[KafkaError], None]) -> FakeProducer:
        producer = FakeProducer(self._host, 1_000, lambda: 0, transactional_id, timeout)
        producer.reporting_to(lambda error, _record: failed(error) if error else None)
        return producer

    def commit_as(self, who: Identity, at: Partition, committed: Committed) -> int:
        error, errors = self.broker.commit(who, {at: committed})
        return error or errors.get(at, 0)

    def make_again(self, topic: str, partitions: int) -> None:
        self.broker.create(topic, partitions)

    def delete_records(self, at: Partition, before: int) -> None:
        self.broker.log(at).truncate(before)

    def pass_session(self) -> None:
        self._host.wait(SESSION)

    def pass_transaction(self) -> None:
        self._host.wait(TIMEOUT)

    def topic_ids(self) -> dict[str, str]:
        return {name: topic.id for name, topic in self.broker.topics.items()}

    def ends(self) -> dict[Partition, tuple[int, int]]:
        asked = dict.fromkeys(TopicPartition(*at) for at in _partitions(self.broker))
        stable = {(at.topic, at.partition): each.value.offset for at, each in self._listed(asked).items()}
        return {at: (end, self.broker.log(at).end) for at, end in stable.items()}

    def _listed(self, asked: Any) -> Any:
        return self._admin.list_offsets(asked, IsolationLevel.READ_COMMITTED, SECONDS)

    def committed(self) -> dict[Partition, Committed]:
        return {at: self.broker.group.offsets.get(at, NONE) for at in _partitions(self.broker)}

    def unstable(self) -> set[Partition]:
        asker, found = FakeConsumer(self._host, _ignore), set[Partition]()
        for at in _partitions(self.broker):
            try:
                asker.committed([TopicPartition(*at)], timeout=0)
            except KafkaException:
                found.add(at)
        return found

    def members(self) -> tuple[str, list[tuple[str, tuple[Partition, ...]]]]:
        group = self.broker.group
        empty = "EMPTY" if group.is_known else "DEAD"  # so is called what there is not
        state = empty if not group.members else "STABLE" if group.rebalancing_since is None else "rebalancing"
        return state, sorted((each.instance, tuple(sorted(each.assignment))) for each in group.members.values())

    def close(self) -> None: ...


def _partitions(broker: Broker) -> list[Partition]:
    return [(name, number) for name, topic in broker.topics.items() for number in range(len(topic.logs))]


def _ignore(_error: object, _parts: object) -> None: ...


@dataclass
class KafkaSide:
    """`session`: seconds after which the broker expels a silent member."""

    bootstrap: str
    group: str
    partitions: Mapping[str, int]
    session: float

    def __post_init__(self) -> None:
        self._common: dict[str, Any] = {"bootstrap.servers": self.bootstrap, "logger": _SILENT}
        self._clients: list[Any] = []
        self._create(self.partitions)

    @cached_property
    def _admin(self) -> AdminClient:
        return AdminClient(self._common)

    @cached_property
    def _observer(self) -> Consumer:
        return self._consumer({"group.id": self.group, "isolation.level": "read_uncommitted"})

    @cached_property
    def _wire(self) -> WireGroup:
        return WireGroup(self.bootstrap, self.group)

    def _consumer(self, properties: Mapping[str, Any]) -> Consumer:
        own = {"enable.auto.commit": False, "enable.auto.offset.store": False, "auto.offset.reset": "error"}
        quick = {"fetch.wait.max.ms": 50, "fetch.error.backoff.ms": 50, "retry.backoff.ms": 20}
        consumer = Consumer({**self._common, **own, **quick, **properties})
        self._clients.append(consumer)
        return consumer

    def member(self, name: str, instance: str) -> Consumer:
        properties: dict[str, Any] = {
            "group.id": self.group,
            "client.id": name,
            "isolation.level": "read_committed",
            "partition.assignment.strategy": "range",
            "session.timeout.ms": int(self.session * 1000),
            "heartbeat.interval.ms": 100,
        }
        return self._consumer(properties | ({"group.instance.id": instance} if instance else {}))

    def kill(self, member: Consumer) -> None:
        self._clients.remove(member)  # the last reference but that of our caller: not closed, it does not leave

    def reader(self) -> Consumer:
        return self._consumer({"group.id": f"{self.group}-reader", "isolation.level": "read_committed"})

    def producer(self, transactional_id: str, timeout: float, failed: Callable[[KafkaError], None]) -> Producer:
        transactional: dict[str, Any] = {
            "transactional.id": transactional_id,
            "transaction.timeout.ms": int(timeout * 1000),
        }
        return Producer(
            {
                **self._common,
                "linger.ms": 0,
                "retry.backoff.ms": 20,
                "on_delivery": lambda error, _record: failed(error) if error else None,
                "delivery.report.only.error": True,
                **(transactional if transactional_id else {}),
            }
        )

    def commit_as(self, who: Identity, at: Partition, committed: Committed) -> int:
        ended = f"{committed.metadata}\0"  # as librdkafka writes it, which reads past the end of what has no such end
        return self._wire.commit(who, *at, committed.offset, ended)

    def _create(self, topics: Mapping[str, int]) -> None:
        made = self._admin.create_topics([NewTopic(name, count, 1) for name, count in topics.items()])
        for future in made.values():
            future.result(SECONDS)
        eventually(lambda: self._are_led(topics), "the topics have leaders", pause=0.01)

    def _are_led(self, topics: Mapping[str, int]) -> bool:
        try:
            self._list_offsets(topics)
        except KafkaException:
            return False
        return True

    def make_again(self, topic: str, partitions: int) -> None:
        self._admin.delete_topics([topic])[topic].result(SECONDS)

        def is_made() -> bool:
            try:
                self._create({topic: partitions})
            except KafkaException:  # the old one is not gone yet
                return False
            return True

        eventually(is_made, f"{topic} made again", pause=0.02)

    def delete_records(self, at: Partition, before: int) -> None:
        for future in self._admin.delete_records([TopicPartition(*at, before)]).values():
            future.result(SECONDS)

    def pass_session(self) -> None: ...
    def pass_transaction(self) -> None: ...

    def topic_ids(self) -> dict[str, str]:
        described = self._admin.describe_topics(Names(list(self.partitions)), request_timeout=SECONDS)
        return {topic: str(future.result().topic_id) for topic, future in described.items()}

    def ends(self) -> dict[Partition, tuple[int, int]]:
        isolations = IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED
        stable, ends = (self._list_offsets(self.partitions, each) for each in isolations)
        return {at: (stable[at], ends[at]) for at in ends}

    def _list_offsets(
        self, topics: Iterable[str], isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED
    ) -> dict[Partition, int]:
        asked = {TopicPartition(name, number): _LATEST for name in topics for number in range(self.partitions[name])}
        answers = self._admin.list_offsets(asked, isolation_level=isolation, request_timeout=SECONDS)
        return {(at.topic, at.partition): future.result().offset for at, future in answers.items()}

    def _every(self) -> list[TopicPartition]:
        return [TopicPartition(name, number) for name, count in self.partitions.items() for number in range(count)]

    def committed(self) -> dict[Partition, Committed]:
        found = self._observer.committed(self._every(), timeout=SECONDS)
        return {
            (each.topic, each.partition): Committed(each.offset, (each.metadata or "").rstrip("\0"))
            if each.offset >= 0
            else NONE
            for each in found
        }

    def unstable(self) -> set[Partition]:
        asked = ConsumerGroupTopicPartitions(self.group, self._every())
        [future] = self._admin.list_consumer_group_offsets(
            [asked], require_stable=True, request_timeout=SECONDS
        ).values()
        parts = future.result().topic_partitions
        return {(each.topic, each.partition) for each in parts if each.error}

    def members(self) -> tuple[str, list[tuple[str, tuple[Partition, ...]]]]:
        [future] = self._admin.describe_consumer_groups([self.group], request_timeout=SECONDS).values()
        try:
            group = future.result()
        except KafkaException as error:
            if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
                return "DEAD", []
            raise
        assigned = [
            (each.group_instance_id or "", _in_order(each.assignment.topic_partitions)) for each in group.members
        ]
        return group.state.name, sorted(assigned)

    def close(self) -> None:
        for client in self._clients:
            client.close()
        if "_wire" in self.__dict__:
            self._wire.close()
        for future in self._admin.delete_topics(list(self.partitions)).values():
            future.result(SECONDS)


def _in_order(partitions: Sequence[TopicPartition]) -> tuple[Partition, ...]:
    return tuple(sorted((each.topic, each.partition) for each in partitions))
