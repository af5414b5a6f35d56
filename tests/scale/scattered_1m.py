"""A million messages that wait, spread at random over a log of two million, on real Kafka: the map in its own topic.

    python -m tests.scale.scattered_1m

Topic a has every id, b a random half of them in random order; then `kill -9`, `kill -9` in the replay and a stop in
order; then the mates of the rest, in random order. It prints figures, and ends with 1 where an id was lost or half, or
(with --delivery exactly_once) twice.
"""

import argparse
import json
import random
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition

from tests.integration.workers import Job, Worker, eventually, feeder
from tests.scale.join_500k import LONG, a_broker, cpu_and_memory, say, stopped
from tests.services.kafka import unique_name


class Ledger:
    """How many results each id has, and which results are not whole. Ids are numbers."""

    def __init__(self, job: Job, ids: int) -> None:
        self._a, self._b = job.topics_input
        self.counts = bytearray(ids)
        self.half: list[str] = []
        settings = {"bootstrap.servers": job.broker.bootstrap, "group.id": f"{job.name}-reader", "log_level": 0}
        self._reader = Consumer({**settings, "isolation.level": "read_committed", "enable.auto.commit": False})
        self._reader.assign([TopicPartition(job.topics_output[0], 0, OFFSET_BEGINNING)])

    def read(self) -> None:
        """What has come."""
        for message in self._reader.consume(20_000, 0.1):
            if error := message.error():
                raise KafkaException(error)
            number = int(message.key() or b"-1")
            content = json.loads(message.value() or b"{}").get("content")
            if content == {self._a: number, self._b: number} and 0 <= number < len(self.counts):
                self.counts[number] += 1
            else:
                self.half.append(f"{number}: {content}")

    @property
    def ids(self) -> int:
        return len(self.counts) - self.counts.count(0)

    @property
    def twice(self) -> int:
        return len(self.counts) - self.counts.count(0) - self.counts.count(1)

    def wait_for(self, ids: int, worker: Worker) -> float:
        """Read until so many ids have a result; the seconds that took."""
        began = time.monotonic()

        def there() -> bool:
            self.read()
            worker.must_run()
            return self.ids >= ids

        eventually(there, f"{ids} ids with a result, {self.ids} have one", LONG, pause=0)
        return time.monotonic() - began

    def close(self) -> None:
        self._reader.close()


def feed(
    producer: Producer, topic: str, ids: Iterable[int], pad: int = 0, sent_at: Callable[[int], float] | None = None
) -> None:
    """Into partition 0; `pad` makes the messages longer by that many characters and some more.

    `sent_at`: the timestamp of an id, seconds since the epoch; default: now.
    """
    padding = b',"pad":"%s"' % (b"x" * pad) if pad else b""
    for id in ids:
        value = b'{"id":%d,"content":{"%s":%d}%s}' % (id, topic.encode(), id, padding)
        while True:
            try:
                producer.produce(topic, value, str(id), 0, timestamp=int(sent_at(id) * 1000) if sent_at else 0)
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(LONG) == 0


def map_of(job: Job) -> tuple[int, int]:
    """How many messages the commits call waiting, and the characters of the longest stored map."""
    consumer = Consumer({"bootstrap.servers": job.broker.bootstrap, "group.id": job.name, "log_level": 0})
    try:
        asked = [TopicPartition(topic, 0) for topic in job.topics_input]
        committed = {(each.topic, each.partition): each for each in consumer.committed(asked, timeout=60)}
    finally:
        consumer.close()
    stored = job.maps({at: each for at, each in committed.items() if each.offset >= 0})
    waiting = sum(len(commit.waiting) for commit in job.commits().values())
    return waiting, max(map(len, stored.values()), default=0)


def wait_for_map(job: Job, waiting: int, worker: Worker) -> tuple[float, int]:
    """Until the commits name so many messages that wait: seconds, and characters of the map."""
    began = time.monotonic()
    found: list[tuple[int, int]] = []

    def there() -> bool:
        worker.must_run()
        found.append(map_of(job))
        return found[-1][0] == waiting

    eventually(there, f"a map of {waiting} waiting messages", LONG, pause=1)
    return time.monotonic() - began, found[-1][1]


def metrics_of(worker: Worker) -> defaultdict[str, float]:
    """Its metrics without the prefix, each the sum over its labels."""
    address = worker.says("row loaded")["status"]
    with urllib.request.urlopen(f"{address}metrics", timeout=30) as answer:
        lines = [line.split() for line in answer.read().decode().splitlines() if line and line[0] != "#"]
    values: defaultdict[str, float] = defaultdict(float)
    for name, value, *_ in lines:
        values[name.partition("{")[0].removeprefix("consumer_")] += float(value)
    return values


def commits_of(worker: Worker) -> str:
    values = metrics_of(worker)
    count, seconds = values["commit_seconds_count"], values["commit_seconds_sum"]
    maps = values["maps_stored_total"]
    return f"{count:.0f} commits of {seconds / max(count, 1) * 1000:.0f} ms on average, {maps:.0f} maps stored"


def run(job: Job, ids: int, chance: random.Random) -> int:
    a, b = job.topics_input
    producer, ledger = feeder(job.broker), Ledger(job, ids)
    shuffled = list(range(ids))
    chance.shuffle(shuffled)
    met, waiting = shuffled[: ids // 2], shuffled[ids // 2 :]
    began = time.monotonic()
    feed(producer, a, range(ids))
    feed(producer, b, met)
    say(f"fed {ids + len(met)} messages in {time.monotonic() - began:.0f} s")
    worker = job.start()
    say(f"{len(met)} results after {ledger.wait_for(len(met), worker):.0f} s")
    seconds, characters = wait_for_map(job, len(waiting), worker)
    say(f"map of {len(waiting)} waiting messages: {characters} characters, committed {seconds:.0f} s after that")
    say(f"{commits_of(worker)}; {cpu_and_memory(worker)}")
    worker.kill()
    worker = job.start().is_assigned(pause=0.002)
    say(f"kill -9: assigned {time.monotonic() - worker.started:.1f} s after the start")
    time.sleep(0.5)
    worker.kill()
    kept = map_of(job)[0]
    worker = job.start().is_assigned()
    marker = waiting.pop()
    feed(producer, b, [marker])
    say(f"kill -9 in the replay: map of {kept} kept; replayed {ledger.wait_for(len(met) + 1, worker):.0f} s later")
    code, to_exit = stopped(worker)
    say(f"stop in order: exit {code} in {to_exit:.1f} s, {len(ledger.half)} half, {ledger.twice} twice so far")
    worker = job.start().is_assigned()
    feed(producer, b, waiting)
    say(f"all mates: every id out {ledger.wait_for(ids, worker):.0f} s after they were sent")
    eventually(lambda: job.lag() == 0, "all committed", LONG, pause=1)
    say(f"{commits_of(worker)}; {cpu_and_memory(worker)}")
    last, _ = stopped(worker)
    time.sleep(1)
    ledger.read()
    ledger.close()
    missing = sum(line.get("missing_maps", 0) for each in job.workers for line in each.said("stopped"))
    print(f"{ids} ids: lost {ids - ledger.ids}, half {len(ledger.half)}, twice {ledger.twice}, maps missing {missing}")
    once = job.whole_environment()["DELIVERY"] == "exactly_once"
    bad = ledger.ids < ids or ledger.half or missing or code or last or kept != len(waiting) + 1
    return int(bool(bad or (once and ledger.twice)))


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.scale.scattered_1m", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--bootstrap", default="", help="host:port of a real Kafka; without it one is started")
    parser.add_argument("--ids", type=int, default=2_000_000, help="of which a random half waits")
    parser.add_argument("--delivery", choices=["at_least_once", "exactly_once"], default="at_least_once")
    parser.add_argument("--max-pending-bytes", default="4000000000", help="so that memory is not what is measured")
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.ids} ids, {options.delivery}", flush=True)
    environment = {
        "DELIVERY": options.delivery,
        "MESSAGE_TIMEOUT": "86400",
        "MAX_PENDING_BYTES": options.max_pending_bytes,
    }
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scattered-")))
        broker = stack.enter_context(a_broker(options.bootstrap))
        topics = [unique_name(f"scattered-{each}") for each in ("a", "b", "out")]
        for topic in topics:
            broker.create_topic(topic, 1)
        job = Job(broker, unique_name("scattered"), topics[:2], topics[2:], directory, environment=environment)
        with job:
            return run(job, options.ids, random.Random(options.seed))


if __name__ == "__main__":
    sys.exit(main())
