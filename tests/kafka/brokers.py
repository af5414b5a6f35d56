"""Rows, settings and brokers that several tests of this directory have."""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager, suppress
from types import SimpleNamespace
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBinding, AclBindingFilter, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType

from config import Settings
from models import Row
from tests.services.kafka import KafkaBroker

T = TypeVar("T")
Handler = Callable[[socket.socket], None]


def row_at(servers: str, topics_input: str = "a,b", topics_output: str = "c", name: str = "orders") -> Row:
    return Row.validated(name, topics_input, topics_output, servers)


def settings_with(**properties: str) -> Settings:
    variables = {f"KAFKA_{name.upper()}": value for name, value in properties.items()}
    return Settings.read({"CONSUMER_NAME": "orders", "DATABASE_URL": "sqlite:///rows.db", **variables})


def eventually(look: Callable[[], T], found: Callable[[T], bool], seconds: float = 60) -> T:
    """What `look` gives as soon as it is what was to be found; after `seconds`, what it gives then."""
    deadline = time.monotonic() + seconds
    while not found(seen := look()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return seen


@contextmanager
def listening(handle: Handler) -> Iterator[str]:
    """A server on a free port whose every connection `handle` gets; its address."""

    def serve(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    handle(connection)

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(60)


class SlowAdmin:
    """Of a cluster that has just started, or has just made a topic."""

    def __init__(self) -> None:
        self.knows_after = 2  # questions
        self.asked = 0

    def create_topics(self, topics: Sequence[Any], **_: Any) -> dict[str, "Future[None]"]:
        return {each.topic: done(None) for each in topics}

    def describe_topics(self, topics: Any, **_: Any) -> dict[str, "Future[Any]"]:
        self.asked += 1
        if self.asked > self.knows_after:
            return {"orders-offsets": done(SimpleNamespace())}
        future: Future[Any] = Future()
        future.set_exception(KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)))
        return {"orders-offsets": future}

    def list_topics(self, **_: Any) -> Any:
        self.asked += 1
        brokers = {1: SimpleNamespace(host="h", port=9092)} if self.asked > self.knows_after else {}
        return SimpleNamespace(brokers=brokers, topics={}, cluster_id="mockCluster")  # which has no more to tell


def done(result: Any) -> "Future[Any]":
    future: Future[Any] = Future()
    future.set_result(result)
    return future


@contextmanager
def no_right_to_create(broker: KafkaBroker) -> Iterator[None]:
    """Everybody may do some things with the cluster, and so nobody may do others."""
    kept = (AclOperation.CLUSTER_ACTION, AclOperation.ALTER)
    cluster = ResourceType.BROKER, "kafka-cluster", ResourcePatternType.LITERAL, "User:*", "*"
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    acls = [AclBinding(*cluster, operation, AclPermissionType.ALLOW) for operation in kept]
    for future in admin.create_acls(acls).values():
        future.result(60)
    yield
    every = AclBindingFilter(*cluster, AclOperation.ANY, AclPermissionType.ANY)
    for removed in admin.delete_acls([every]).values():
        assert len(removed.result(60)) == len(kept)
