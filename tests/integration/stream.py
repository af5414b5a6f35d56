"""A steady feed in a thread of its own, and what became of it while the row was edited: every id once, none half.

The topics that make a result change on the way, so that this ledger is not that of oracle.py: it knows which ids were
sent, all of them to all topics, and which lists of input topics were ever in force.
"""

import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import cast

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, TopicPartition

from tests.integration.oracle import fragment_value
from tests.integration.workers import SECONDS, ends_of, eventually, feeder, partitions_of
from tests.services.kafka import KafkaBroker

SLICE = 0.05  # seconds


class Stream:
    """Sends so many ids a second, a fragment of each to each topic, until the block ends."""

    def __init__(self, broker: KafkaBroker, topics: Sequence[str], ids_a_second: float, pad: int = 0) -> None:
        self._producer = feeder(broker)
        self.topics = topics
        self._rate = ids_a_second
        self._pad = pad
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._feed, daemon=True)
        self.failed: list[KafkaError] = []
        self.sent = 0

    def __enter__(self) -> "Stream":
        self._thread.start()
        return self

    def __exit__(self, _kind: type | None, error: BaseException | None, _trace: TracebackType | None) -> None:
        self._ended.set()
        if error is None:
            self.end()

    def end(self) -> int:
        """Send no more; how many ids there were, all of them acknowledged."""
        self._ended.set()
        self._thread.join()
        assert self._producer.flush(SECONDS) == 0
        assert not self.failed, self.failed[0]
        return self.sent

    def _feed(self) -> None:
        began = time.monotonic()
        while not self._ended.wait(SLICE):
            due = int((time.monotonic() - began) * self._rate)
            for number in range(self.sent, due):
                self.send(number)
            self.sent = due
            self._producer.poll(0)

    def send(self, number: int) -> None:
        """The id of this number; others may send something else."""
        id = f"id-{number}"
        for topic in self.topics:
            self.put(topic, fragment_value(topic, id, pad=self._pad), id)

    def put(self, topic: str, value: bytes, key: str) -> None:
        self._producer.produce(topic, value, key, on_delivery=self._report)

    def _report(self, error: KafkaError | None, _message: object) -> None:
        if error is not None:
            self.failed.append(error)


@dataclass(frozen=True, slots=True)
class Records:
    """All of one topic, read_committed: by key the values, and the headers; and when each record was written."""

    values: dict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    headers: dict[str, list[dict[str, str]]] = field(default_factory=lambda: defaultdict(list))
    times: list[float] = field(default_factory=list)  # seconds since the epoch, in order

    @classmethod
    def of(cls, broker: KafkaBroker, topic: str) -> "Records":
        found = cls()
        settings = {"bootstrap.servers": broker.bootstrap, "group.id": "none", "isolation.level": "read_committed"}
        consumer = Consumer({**settings, "enable.auto.commit": False, "log_level": 0})
        ends = ends_of(consumer, [topic], OFFSET_END)
        consumer.assign([TopicPartition(*at, OFFSET_BEGINNING) for at in partitions_of(consumer, [topic])])

        def at_the_end() -> bool:
            for record in consumer.consume(10_000, 0.1):
                assert record.error() is None, record.error()
                key = (record.key() or b"").decode()
                found.values[key].append(record.value() or b"")
                found.times.append(record.timestamp()[1] / 1000)
                headers = cast(list[tuple[str, bytes]], record.headers() or [])
                found.headers[key].append({name: value.decode() for name, value in headers})
            positions = consumer.position([TopicPartition(*at) for at in ends])
            return all(max(at.offset, 0) >= ends[at.topic, at.partition] for at in positions)

        eventually(at_the_end, f"{topic} read to its end", pause=0)
        consumer.close()
        found.times.sort()
        return found


@dataclass(frozen=True, slots=True)
class Found:
    """What became of the ids."""

    joined: Counter[tuple[str, ...]]  # results by the topics that they were made of
    lost: list[str]
    twice: list[str]
    half: list[str]  # results that no list of topics explains, as text
    given_up: list[str]  # dead letters of what was not left over, as text
    left_over: int  # dead letters of ids that were joined without that topic, before it was one of the inputs

    def __str__(self) -> str:
        faults = {name: getattr(self, name) for name in ("lost", "twice", "half", "given_up")}
        counts = ", ".join(f"{len(found)} {name}" for name, found in faults.items())
        examples = "".join(f"\n{name}: {found[:10]}" for name, found in faults.items() if found)
        joined = ", ".join(f"{number} of {'+'.join(topics)}" for topics, number in self.joined.items())
        return f"{counts}; results: {joined}; {self.left_over} left over{examples}"

    @property
    def good(self) -> bool:
        return not (self.lost or self.twice or self.half or self.given_up)


def found(sent: int, results: Records, letters: Records, lists: Iterable[Sequence[str]]) -> Found:
    """`lists`: of input topics, all that were in force at some time."""
    allowed = {tuple(sorted(topics)) for topics in lists}
    joined: Counter[tuple[str, ...]] = Counter()
    half, given_up, left_over = [], [], 0
    made_of: dict[str, tuple[str, ...]] = {}
    for id, values in results.values.items():
        for value in values:
            content = {name: text for name, text in json.loads(value)["content"].items() if not name.startswith("pad ")}
            topics = made_of[id] = tuple(sorted(content))
            joined[topics] += 1
            if topics not in allowed or any(text != f"{topic}/{id}/0" for topic, text in content.items()):
                half.append(f"{id}: {value[:300]!r}")
    for id, all_headers in letters.headers.items():
        for headers in all_headers:
            topics_of_letter = {source.rsplit(":", 2)[0] for source in headers["dlq.source"].split(",")}
            if headers["dlq.reason"] == "incomplete" and id in made_of and topics_of_letter.isdisjoint(made_of[id]):
                left_over += 1
            else:
                given_up.append(f"{id}: {headers}, result of {made_of.get(id)}")
    ids = [f"id-{number}" for number in range(sent)]
    return Found(
        joined,
        lost=[id for id in ids if id not in made_of],
        twice=[id for id, values in results.values.items() if len(values) > 1],
        half=half,
        given_up=given_up,
        left_over=left_over,
    )
