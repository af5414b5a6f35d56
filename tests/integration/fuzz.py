"""Records with any bytes in them, by the wire: none stops the worker, and each is accounted for. Chance has a seed.

`python -m tests.integration.fuzz [--seed 1] [--records 100000] [--delivery exactly_once] [--compact]`, on a broker of
its own; with `--compact` the input topics are compacted meanwhile.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from confluent_kafka import Producer

from tests.integration.accounts import letters, records, source
from tests.integration.workers import Job, Worker, eventually, short_session
from tests.services.kafka import JavaBroker, KafkaBroker, unique_name
from tests.services.processes import running
from tests.services.wire import COMPRESSIONS, RawRecord, WireProducer

PARTITIONS = 2
BATCH = 100  # records
ANY_TIME = {  # what a topic must be told to take any timestamp
    "message.timestamp.before.max.ms": str(2**63 - 1),
    "message.timestamp.after.max.ms": str(2**63 - 1),
}
TIMES = (-1, 0, 1, 2**31, 2**41, 2**63 - 1)
NAMES = (
    b"",
    b"traceparent",
    b"tracestate",
    b"dlq.reason",
    b"dlq.source",
    b"\xff\xfe",
    b"\xc3",
    b"a\0b",
    b"\xed\xa0\x80",
)
TEXTS = (  # in place of ids, and of anything else
    b'"x"', b'""', b"1", b"-0", b"1.5", b"1e400", b"null", b"true", b"[]", b"{}", b"9" * 30, b"9" * 5000, b'"\\ud800"',
    b'"\\u0000"', b'"\\ud83d\\ude00"', b'"' + b"y" * 3000 + b'"', b"[" * 2000, b'{"a":' * 500, b"NaN",
    b"\xff", b'"\xff"',
)  # fmt: skip


class Fuzz:
    """Makes records. Some are messages, and some of those have a mate in each topic."""

    def __init__(self, seed: int, keys: Sequence[bytes | None] = (None, b"", b"key")) -> None:
        """`keys`: beside any bytes. A topic that is compacted takes no record without one."""
        self._random = random.Random(seed)
        self._keys = keys

    def batch(self, size: int) -> list[RawRecord]:
        return [self._record() for _ in range(size)]

    def compression(self) -> str:
        return self._random.choice(COMPRESSIONS)

    def _record(self) -> RawRecord:
        chance = self._random
        time_ms = chance.choice((*TIMES, int(time.time() * 1000), chance.getrandbits(63)))
        key = chance.choice((*self._keys, chance.randbytes(8)))
        return RawRecord(key, self._value(), self._headers(), time_ms)

    def _headers(self) -> list[tuple[bytes, bytes | None]]:
        chance = self._random
        number = chance.choice((0, 0, 0, 0, 0, 0, 1, 2, 20))
        names = [chance.choice((*NAMES, chance.randbytes(3))) for _ in range(number)]
        return [(name, chance.choice((None, b"", b"1", chance.randbytes(5)))) for name in names]

    def _value(self) -> bytes | None:
        chance = self._random
        match chance.randrange(8):
            case 0:
                return None
            case 1:
                return chance.randbytes(chance.choice((0, 1, 2, 30, 3000)))
            case 2:
                return b'{"id":%s,"content":%s}' % (chance.choice(TEXTS), chance.choice(TEXTS))
            case 3:
                return b'{"id":"odd-%d","other":%s}' % (chance.randrange(100), chance.choice(TEXTS))
            case 4:  # one byte of a message is another one
                value = bytearray(self._message())
                value[chance.randrange(len(value))] = chance.randrange(256)
                return bytes(value)
        return self._message()

    def _message(self) -> bytes:
        return b'{"id":"%d","content":{"at":"here"}}' % self._random.randrange(150)


def feed(broker: KafkaBroker, topics: Sequence[str], fuzz: Fuzz, number: int) -> None:
    """Records in raw batches of one kind of compression each; between them transactions, one of which stays open."""
    wire = WireProducer(broker.bootstrap)
    transactions = Producer(
        {"bootstrap.servers": broker.bootstrap, "transactional.id": unique_name("fuzz"), "log_level": 0}
    )
    transactions.init_transactions(30)
    for at in range(max(number // BATCH, 1)):
        topic, partition = topics[at % len(topics)], at // len(topics) % PARTITIONS
        wire.produce(topic, partition, fuzz.batch(min(BATCH, number)), fuzz.compression())
        if at % 7 == 0:
            _begin(transactions, topic, partition, fuzz)
            (transactions.abort_transaction if at % 2 else transactions.commit_transaction)(30)
    _begin(transactions, topics[0], 0, fuzz)
    wire.close()


def _begin(producer: Producer, topic: str, partition: int, fuzz: Fuzz) -> None:
    producer.begin_transaction()
    for each in fuzz.batch(5):
        producer.produce(topic, each.value, each.key, partition, headers=[("fuzz", b"\xff")])
    assert producer.flush(30) == 0


def faults(job: Job, worker: Worker, *, is_whole: bool) -> Iterator[str]:
    """What is wrong when a worker has stopped that had read everything. `is_whole`: so is the log, nothing is gone."""
    stopped = worker.said("stopped")[0]
    if stopped["restarts"]:
        yield f"{stopped['restarts']} restarts"
    inputs = {source(each): each.value() or b"" for each in records(job.broker, job.topics_input)}
    buried = Counter[tuple[str, int, int]]()
    for letter in letters(job):
        if letter.reason == "process_failed":
            yield f"process() does not fail, but: {letter.about}"
        for part in letter.parts:
            buried[part.topic, part.partition, part.offset] += 1
            at = part.topic, part.partition, part.offset
            if part.value != inputs.get(at, b"" if is_whole else part.value):
                yield f"other bytes than in the log: {part}"
    yield from (f"{at} is in {number} dead letters" for at, number in buried.items() if number > 1)
    results = len(records(job.broker, job.topics_output[:1]))
    joined, superseded = results * len(job.topics_input), stopped["superseded"]
    if is_whole and joined + len(buried) + superseded != len(inputs):
        told = f"{joined} in results, {len(buried)} in dead letters, {superseded} superseded"
        yield f"of {len(inputs)} records: {told}"
    if is_whole and min(joined, len(buried)) < len(inputs) // 10:
        yield f"{joined} in results and {len(buried)} in dead letters: these records try too little"


def run(
    broker: KafkaBroker, job: Job, fuzz: Fuzz, number: int, seconds: float = 60, *, is_whole: bool = True
) -> list[str]:
    """Feed a worker, and wait until it has read all and given up what has no mate."""
    worker = job.start().is_assigned()
    feed(broker, job.topics_input, fuzz, number)

    def is_done() -> bool:
        worker.must_run()
        return job.lag() == 0

    eventually(is_done, f"all committed\n{worker.tail()}", seconds, pause=0.2)
    assert worker.stop() == 0, worker.tail()
    return list(faults(job, worker, is_whole=is_whole))


def environment(broker: KafkaBroker, delivery: str) -> dict[str, str]:
    return {**short_session(broker), "DELIVERY": delivery, "MESSAGE_TIMEOUT": "1"}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.integration.fuzz", description="Fuzz the records.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--delivery", default="at_least_once")
    parser.add_argument("--compact", action="store_true", help="the input topics, so that what is gone is not counted")
    options = parser.parse_args()
    compaction = {"log.cleaner.backoff.ms": "200", "log.initial.task.delay.ms": "0"}
    gaps = {"cleanup.policy": "compact", "segment.bytes": "1048576", "min.cleanable.dirty.ratio": "0.01"}
    with running(JavaBroker(compaction)) as broker, tempfile.TemporaryDirectory() as directory:
        a, b, out = map(unique_name, ("a", "b", "out"))
        for topic in (a, b):
            broker.create_topic(topic, PARTITIONS, {**ANY_TIME, **(gaps if options.compact else {})})
        broker.create_topic(out, PARTITIONS)
        how = environment(broker, options.delivery)
        with Job(broker, unique_name("fuzz"), [a, b], [out], Path(directory), environment=how) as job:
            fuzz = Fuzz(options.seed, [b"key", b""] if options.compact else [None, b"key", b""])
            found = run(broker, job, fuzz, options.records, 600, is_whole=not options.compact)
    print("\n".join(found) or f"{options.records} records, seed {options.seed}: no fault")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
