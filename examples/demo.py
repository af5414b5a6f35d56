"""`python main.py demo`: the whole worker on sample messages, with nothing around it.

Kafka's client brings a broker along (librdkafka's mock cluster: enough to look at, it keeps nothing), the database is
an SQLite file. Worker, row and your process() are the real ones. Settings have their defaults, but for MESSAGE_TIMEOUT.
"""

import json
import logging
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from random import Random

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition

from config import Settings
from examples.demo_feed import ORDERS, PAYMENTS, Sample, samples
from examples.demo_view import View
from models import Row, engine, init_db, load, save
from utils.errors import is_of_the_frame
from utils.logger import logger
from utils.running.streams import printing

NAME = "demo"
RESULTS = "results"
MESSAGE_TIMEOUT = 3  # seconds

Work = Callable[[Settings, Row, threading.Event], int]
Sent = defaultdict[bytes, list[Sample]]  # the messages so far, by key


def demo(results: int | None, file: str, work: Work, stopping: threading.Event) -> int:
    """Run the worker until `results` of its results were shown, or until `stopping` is set; the exit code of `work`.

    `file`: where process() is.
    """
    view = View(sys.stdout.isatty(), MESSAGE_TIMEOUT, file)
    sent, assigned, ended = Sent(list), threading.Event(), threading.Event()
    _show(view.introduction())
    with _broker() as (producer, servers), _row(servers) as (settings, row), _log_shown(view, assigned) as counters:
        with ThreadPoolExecutor() as pool:
            feeding = pool.submit(_feed, producer, sent, assigned, ended)
            viewing = pool.submit(_view, view, servers, sent, results, ended)
            for future in (feeding, viewing):
                future.add_done_callback(lambda _: stopping.set())
            try:
                code = work(settings, row, stopping)
            finally:
                ended.set()
        feeding.result()  # raises what went wrong there
        shown = viewing.result()
        if counters:  # else the log has told why the worker has ended
            _show(view.summary(counters, shown))
    return code


@contextmanager
def _broker() -> Iterator[tuple[Producer, str]]:
    """A broker with the topics of the demo, alive as long as the producer that comes with it; and its address."""
    producer = Producer({"test.mock.num.brokers": 1, "linger.ms": 0, "logger": _silent()})
    for topic in (ORDERS, PAYMENTS, RESULTS, f"{NAME}-dlq"):
        producer.list_topics(topic, timeout=10)  # asking for a topic creates it
    [broker] = producer.list_topics(timeout=10).brokers.values()
    yield producer, f"{broker.host}:{broker.port}"
    producer.flush(1)


@contextmanager
def _row(servers: str) -> Iterator[tuple[Settings, Row]]:
    """Settings, and a row written to a database and loaded from there."""
    with tempfile.TemporaryDirectory(prefix="consumer-skeleton-demo-") as directory:
        settings = Settings.read(
            {
                "CONSUMER_NAME": NAME,
                "DATABASE_URL": f"sqlite:///{directory}/demo.db",
                "MESSAGE_TIMEOUT": str(MESSAGE_TIMEOUT),
            }
        )
        database = engine(settings.url(), create=True)
        init_db(database)
        save(database, Row.validated(NAME, f"{ORDERS},{PAYMENTS}", RESULTS, servers))
        row = load(database, NAME)
        yield settings.overlaid(row.metadatas), row


def _feed(producer: Producer, sent: Sent, assigned: threading.Event, ended: threading.Event) -> None:
    """Send sample messages from the moment when the worker reads, until the end."""
    while not assigned.wait(0.1):
        if ended.is_set():
            return
    start = time.monotonic()
    for sample in samples(Random()):
        if ended.wait(max(0.0, start + sample.at - time.monotonic())):
            return
        key = str(sample.id).encode() if sample.id else None
        if key:
            sent[key].append(sample)
        producer.produce(sample.topic, sample.value, key)
        producer.poll(0)


def _view(view: View, servers: str, sent: Sent, results: int | None, ended: threading.Event) -> int:
    """Show what arrives on the output topic, to the end or until there were that many results; how many there were."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "demo-view", "logger": _silent()})
    partitions = consumer.list_topics(RESULTS, timeout=10).topics[RESULTS].partitions
    consumer.assign([TopicPartition(RESULTS, partition, OFFSET_BEGINNING) for partition in partitions])
    shown = 0
    try:
        while results is None or shown < results:
            record = consumer.poll(0.2)
            if record is None:
                if ended.is_set():
                    break
            elif error := record.error():
                raise KafkaException(error)
            else:
                shown += 1
                _show(view.result(json.loads(record.value() or b""), sent.get(record.key() or b"", [])))
    finally:
        consumer.close()
    return shown


@contextmanager
def _log_shown(view: View, assigned: threading.Event) -> Iterator[dict[str, int]]:
    """Show the worker's log among the results, as far as it is about messages.

    Gives a dict for what the worker has counted, which its last line tells; `assigned` is set when it begins to read.
    """
    counters: dict[str, int] = {}

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            try:
                lines = list(view.log_line(record))
            except Exception:  # worker.py may log what cannot be shown: that is no failure of process()
                return self.handleError(record)
            if is_of_the_frame(record.pathname) and record.getMessage() == "partitions assigned":
                assigned.set()
            if is_of_the_frame(record.pathname) and record.getMessage() == "stopped":
                counters.update(record.__dict__)
            return _show(lines)

    handler = Handler()
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield counters
    finally:
        logger.propagate = True
        logger.removeHandler(handler)


def _show(lines: Iterable[str]) -> None:
    text = "".join(f"{line}\n" for line in lines)
    with printing():
        sys.stdout.write(text)  # in one piece: two threads show something
        sys.stdout.flush()


def _silent() -> logging.Logger:
    return logging.Logger("silent", logging.CRITICAL + 1)
