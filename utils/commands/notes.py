"""What was replayed or discarded, noted where it stays: in the topic of maps, a record for each partition.

The commits of the consumer group that replays tell it, too, but brokers delete those of a group without members after
`offsets.retention.minutes`, seven days as a rule. Then all would be there once more, and the next replay would send it
a second time. So each run begins by bringing back the commits that are gone, and notes what they are: at its beginning,
now and then, and at its end. Who is killed has noted what was done until a few seconds before.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from config import Settings, UnavailableError
from models import Row, map_topic
from utils.errors import guarded
from utils.joining.offsets import CommitPoint, OffsetMap
from utils.kafka import clients
from utils.kafka.lookups import EARLIEST, LATEST, committed, describe, metadata_of, offsets_at
from utils.kafka.ranges import records_of
from utils.kafka.wrong_properties import named_properties
from utils.logger import logger
from utils.reading.locator import LoadMaps
from utils.sending.delivery import Delivery
from utils.sending.outbox import DeliveryFailed
from utils.threads import Apart
from utils.topic_ids import is_another

_REQUEST = 10.0  # seconds that one request may take
_KEY = "dlq-done:"
NOTE_EVERY = 10.0  # seconds
NOTE_AGAIN = 60.0  # seconds after a note that has failed: for want of a right, perhaps

Commit = tuple[int, str]  # an offset, and the map above it


def commits_of(consumer: Consumer, topic: str, load_maps: LoadMaps) -> dict[int, Commit]:
    """By partition number: what the consumer group of `consumer` has committed, each map in full."""
    partitions = consumer.list_topics(topic, timeout=_REQUEST).topics[topic].partitions
    asked = [TopicPartition(topic, number) for number in sorted(partitions)]
    commits = [each for each in committed(consumer, asked, _REQUEST) if each.offset >= 0]
    metadata = {(topic, each.partition): metadata_of(each) for each in commits}
    stored = load_maps(metadata)
    maps = {at: stored.get(at) or text or "" for at, text in metadata.items()}
    return {each.partition: (each.offset, maps[topic, each.partition]) for each in commits}


def forgotten(
    consumer: Consumer, admin: AdminClient, topic: str, row: Row, load_maps: LoadMaps
) -> Mapping[int, Commit]:
    """What was noted of partitions that have no commit. Not of a former topic of that name: it would hide what is in
    this one.
    """
    known = commits_of(consumer, topic, load_maps)
    if not consumer.list_topics(topic, timeout=_REQUEST).topics[topic].partitions.keys() - known.keys():
        return {}
    topic_id = describe(admin, (topic,))[topic].id
    return {
        number: (offset, metadata)
        for number, (offset, metadata) in _noted(consumer, topic, row).items()
        if number not in known and (of := OffsetMap.parse(metadata)) and not is_another(of.topic_id, topic_id)
    }


def bring_back(consumer: Consumer, delivery: Delivery, topic: str, noted: Mapping[int, Commit]) -> None:
    """Commit it once more. Raises KafkaException, UnavailableError."""
    points = [CommitPoint(topic, number, offset, metadata) for number, (offset, metadata) in noted.items()]
    try:
        delivery.commit_now(consumer, points)
    except DeliveryFailed as error:
        raise UnavailableError(f"what was replayed cannot be committed again: {error}") from error
    logger.info("Kafka had forgotten what was replayed: it is committed again", extra={"partitions": sorted(noted)})


def _noted(consumer: Consumer, topic: str, row: Row) -> dict[int, Commit]:
    """What was noted last, by partition number."""
    at = map_topic(row.consumer_name), 0
    begin, end = (offsets_at(consumer, [TopicPartition(*at)], time)[at] for time in (EARLIEST, LATEST))
    prefix, noted = f"{_KEY}{topic}:".encode(), dict[int, Commit]()
    for records in records_of(consumer, {at: (begin, end)}):
        for each in records:
            key, value = each.key() or b"", each.value() or b""
            if key.startswith(prefix) and value:
                offset, _, metadata = value.decode().partition(" ")
                noted[int(key.removeprefix(prefix))] = int(offset), metadata
    return noted


@contextmanager
def noting(note: Callable[[], bool]) -> Iterator[None]:
    """Calls it all the while, in a thread of its own, and once more at the end. It tells whether it has succeeded."""
    ended = threading.Event()

    def keep_noting() -> None:
        while not ended.wait(NOTE_EVERY if note() else NOTE_AGAIN):
            pass

    thread = Apart(target=keep_noting, name="notes")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        note()


def note(settings: Settings, row: Row, topic: str, commits: Mapping[int, Commit]) -> bool:
    """Where they stay; whether they do. What cannot be noted is only logged: Kafka has the commits for a week."""
    failed: list[Any] = []

    def report(error: object, _record: object) -> None:
        if error:
            failed.append(error)

    try:
        with named_properties(settings):
            producer = clients.producer(clients.client_properties(settings, row), guarded(report, failed.append))
        for number, (offset, metadata) in commits.items():
            value = f"{offset} {metadata}".encode()
            producer.produce(map_topic(row.consumer_name), value, f"{_KEY}{topic}:{number}".encode(), partition=0)
        if producer.flush(_REQUEST) or failed:
            raise KafkaException(*failed[:1])
    except KafkaException as error:
        not_noted(error)
        return False
    return True


def not_noted(error: Exception) -> None:
    logger.warning("what was replayed is known for as long as Kafka keeps commits only", extra={"error": str(error)})
