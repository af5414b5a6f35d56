"""Real workers for the tests, the chaos runs and the measurements: `python main.py` with its row, environment and log.

oracle = Oracle(("a", "b"))
feed(broker, oracle, ["1", "2"])
with Job(broker, "name", ("a", "b"), ("out",), directory) as job:
    worker = job.start()
    outputs = Outputs(job, oracle)
    outputs.wait(lambda: not oracle.missing(), worker)
    assert worker.stop() == 0
oracle.judge(job.commits()).require()
"""

import functools
import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType
from sqlalchemy import Connection, Engine

from config import Settings
from models import Row, engine, init_db, save
from tests.integration.oracle import Commit, Oracle, Partition, fragment_value
from tests.program import program
from tests.services.kafka import BACK_SOON, KafkaBroker, kept_admin, kept_feeder
from tests.services.kafka import feeder as new_feeder
from tests.services.starts import start_python
from utils.joining.references import Reference
from utils.kafka.lookups import offsets_at
from utils.metrics import Counters
from utils.sending.map_store import MapStore, MapTopic

SECONDS = 60.0  # how long a test waits for something before it fails
ASSIGNED = "partitions assigned"  # the worker's own log line

T = TypeVar("T")


class TookTooLong(AssertionError):
    """What a test waits for has not happened."""


def eventually(condition: Callable[[], T | None], what: str, seconds: float = SECONDS, pause: float = 0.05) -> T:
    """The first true value of the condition; TookTooLong where there is none in time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TookTooLong(f"{what}: not within {seconds:g} s")
        time.sleep(pause)
    return value


class Worker:
    """One process of a worker. Its log, a file of JSON lines, is kept; it ends with the process that started it."""

    def __init__(
        self, program: Path, environment: Mapping[str, str], log: Path, main: Sequence[str] = ("main.py",)
    ) -> None:
        self.log = log
        with log.open("wb") as file:
            self.process = start_python(
                main,
                tied=True,
                cwd=program,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self.started = time.monotonic()

    @property
    def pid(self) -> int:
        return self.process.pid

    def lines(self) -> list[dict[str, Any]]:
        """The log so far; a line that is no JSON comes as `{"message": line}`."""
        return [_parsed(line) for line in self._written()]

    def _written(self) -> list[str]:
        return self.log.read_bytes().decode(errors="replace").rpartition("\n")[0].splitlines()

    def said(self, text: str) -> list[dict[str, Any]]:
        """The lines whose message holds this text."""
        ways = {text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}  # to write it
        found = (_parsed(line) for line in self._written() if any(way in line for way in ways))
        return [line for line in found if text in str(line["message"])]

    def says(self, text: str, times: int = 1, seconds: float = SECONDS, pause: float = 0.05) -> dict[str, Any]:
        """Wait for the line; the `times`-th one with this text. Fails at once when the process ends without it."""

        def found() -> dict[str, Any] | None:
            ended = self.process.poll() is not None
            lines = self.said(text)
            if len(lines) >= times:
                return lines[times - 1]
            self.must_run(ended)
            return None

        return eventually(found, f"{text!r} in {self.log}\n{self.tail()}", seconds, pause)

    def is_assigned(self, times: int = 1, pause: float = 0.05) -> "Worker":
        self.says(ASSIGNED, times, pause=pause)
        return self

    @property
    def address(self) -> str:
        """Of its status page, without a slash at the end."""
        return str(self.says("row loaded")["status"]).rstrip("/")

    def scrape(self) -> str:
        """What /metrics tells."""
        with urllib.request.urlopen(f"{self.address}/metrics", timeout=SECONDS) as answer:
            return bytes(answer.read()).decode()

    def cpu(self, thread: int = 0) -> float:
        """Seconds so far, user and system: of the process, or of one of its threads."""
        stat = f"/proc/{self.pid}/task/{thread}/stat" if thread else f"/proc/{self.pid}/stat"
        fields = Path(stat).read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def must_run(self, ended: bool | None = None) -> None:
        if self.process.poll() is not None if ended is None else ended:
            raise AssertionError(f"the worker has ended with {self.process.returncode}\n{self.tail()}")

    def stop(self, seconds: float = SECONDS) -> int:
        """SIGTERM; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.ends(seconds)

    def ends(self, seconds: float = SECONDS) -> int:
        """Wait for its end; its exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise TookTooLong(f"the worker has not ended after {seconds:g} s\n{self.tail()}") from None

    def kill(self) -> None:
        """SIGKILL, as often as wanted."""
        self.process.kill()
        self.process.wait()

    def tail(self) -> str:
        return f"{self.log}:\n{self.log.read_bytes()[-4000:].decode(errors='replace')}"


class Job(AbstractContextManager["Job"]):
    """A consumer: its row, its topics, and the workers that run it, none of which outlives it.

    `process`: the worker.py of its program; without one results are what was joined. `bootstrap_servers`: where the
    workers reach the broker, if that is another way than ours.
    """

    def __init__(
        self,
        broker: KafkaBroker,
        name: str,
        topics_input: Iterable[str],
        topics_output: Iterable[str],
        directory: Path,
        *,
        bootstrap_servers: str = "",
        database_url: str = "",
        process: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.broker = broker
        self.name = name
        self.topics_input = tuple(topics_input)
        self.topics_output = tuple(topics_output)
        self._bootstrap_servers = bootstrap_servers or broker.bootstrap
        self._directory = directory
        self._database_url = database_url or f"sqlite:///{directory}/{name}.db"
        self._program = program(process) if process else program()
        self._environment = {
            "CONSUMER_NAME": name,
            "DATABASE_URL": self._database_url,
            "LOG_LEVEL": "INFO",
            "HTTP_PORT": "0",
            # On the embedded broker topics cannot be created otherwise.
            **({"KAFKA_ALLOW_AUTO_CREATE_TOPICS": "true"} if broker.kind == "embedded" else {}),
            **(environment or {}),
        }
        self.workers: list[Worker] = []
        self._asker: Consumer | None = None
        self.write_row()

    def write_row(
        self, topics_input: Iterable[str] = (), topics_output: Iterable[str] = (), metadatas: str | None = None
    ) -> None:
        """Insert or update the row, with other topics and metadatas where they are given."""
        self.topics_input = tuple(topics_input) or self.topics_input
        self.topics_output = tuple(topics_output) or self.topics_output
        init_db(self._engine())
        columns = (",".join(self.topics_input), ",".join(self.topics_output), self._bootstrap_servers)
        save(self._engine(), Row.validated(self.name, *columns, metadatas))

    def database(self) -> AbstractContextManager[Connection]:
        """A transaction on the database of its row."""
        return self._engine().begin()

    def _engine(self) -> Engine:
        settings = Settings.read({"CONSUMER_NAME": self.name, "DATABASE_URL": self._database_url})
        return engine(settings.url(), create=True)

    def start(self, *, main: Sequence[str] = ("main.py",), **environment: str) -> Worker:
        """One more worker; `main`: what the interpreter is told to run."""
        log = self._directory / f"{self.name}-{len(self.workers)}.log"
        self.workers.append(Worker(self._program, {**self.whole_environment(), **environment}, log, main))
        return self.workers[-1]

    def run_program(self, program: Path) -> None:
        """From now on its workers run what is in this directory."""
        self._program = program

    def whole_environment(self) -> dict[str, str]:
        """That of its workers: nothing of the tests' own settings is in it."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
        return {**kept, **self._environment}

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.kill()
        if self._asker:
            self._asker.close()

    @property
    def asker(self) -> Consumer:
        """For many questions: a new client takes longer to begin than a question."""
        self._asker = self._asker or self._bare_consumer()
        return self._asker

    def _bare_consumer(self, **settings: str | bool) -> Consumer:
        """In the group by name only: it never joins."""
        settings = {"bootstrap.servers": self.broker.bootstrap, "group.id": self.name, **settings}
        return Consumer({**settings, "enable.auto.commit": False, "log_level": 0, **BACK_SOON})

    def commits(self) -> dict[Partition, Commit]:
        """What the group has committed, with the maps read: in the commits, and in the topic of maps."""
        topic_ids = identities(self.broker, self.topics_input)
        asked = [TopicPartition(*each) for each in partitions_of(self.asker, self.topics_input)]
        answers = self.asker.committed(asked, timeout=SECONDS)
        committed = {(each.topic, each.partition): each for each in answers if each.offset >= 0}
        stored = self.maps(committed)
        return {
            at: Commit.read(each.offset, stored.get(at, each.metadata), topic_ids[each.topic])
            for at, each in committed.items()
        }

    @property
    def map_topic(self) -> str:
        return f"{self.name}-offsets"

    def maps(self, committed: Mapping[Partition, TopicPartition]) -> dict[Partition, str]:
        """The stored maps to which these refer, all of which must be there."""
        reader = functools.partial(
            self._bare_consumer, **{"auto.offset.reset": "earliest", "isolation.level": "read_uncommitted"}
        )
        store = MapStore(MapTopic(self.map_topic), reader, lambda: "nobody", Counters())
        found = store.load({at: each.metadata for at, each in committed.items()})
        lacking = [at for at, each in committed.items() if at not in found and Reference.parse(each.metadata)]
        assert not lacking, f"no stored map for {lacking}"
        return found

    def overwrite_commits(self, changed: Mapping[Partition, tuple[int, str]]) -> None:
        """Commit as another tool would. The group must be empty."""
        offsets = [TopicPartition(*each, offset, metadata) for each, (offset, metadata) in changed.items()]
        for answer in self.asker.commit(offsets=offsets, asynchronous=False) or ():
            assert answer.error is None, answer

    def lag(self) -> int:
        """Records between what is committed and the ends of the input topics (read_committed). Unknown commits: all."""
        partitions = partitions_of(self.asker, self.topics_input)
        answers = self.asker.committed([TopicPartition(*each) for each in partitions], timeout=SECONDS)
        committed = {(each.topic, each.partition): each.offset for each in answers if each.offset >= 0}
        unknown = [each for each in partitions if each not in committed]
        committed |= _offsets(self.asker, unknown, OFFSET_BEGINNING)
        ends = _offsets(self.asker, partitions, OFFSET_END)
        return sum(end - committed[each] for each, end in ends.items())


class Outputs:
    """Reads an output topic from its beginning, read_committed, into an oracle. Each of them gets every result.

    `topics`: several, where a result goes to one of them.
    """

    def __init__(self, job: Job, oracle: Oracle, topics: Sequence[str] = ()) -> None:
        self._oracle = oracle
        self._topics = topics or job.topics_output[:1]
        settings: dict[str, str | int | bool] = {
            "bootstrap.servers": job.broker.bootstrap,
            "group.id": f"{job.name}-reader",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 250,  # a question about the ends waits on the same connection for the fetch before it
            # As that of a worker: after a broker was frozen some consumers make no connection any more (clients.py).
            "enable.sparse.connections": False,
            "log_level": 0,
        }
        self._consumer = Consumer(settings)
        self._partitions = partitions_of(self._consumer, self._topics)
        self._consumer.assign([TopicPartition(*each, OFFSET_BEGINNING) for each in self._partitions])
        self.places: dict[str, list[str]] = {}  # by id, of each of its results
        self.handed_out_again = 0  # records, by the client: no result is there twice for it
        self._read_to: dict[tuple[str | None, int | None], int] = {}

    def read(self, wait: float = 0.1) -> int:
        """Whatever has come; how many results that were."""
        messages = self._consumer.consume(10_000, wait)
        for message in messages:
            error = message.error()
            if error is None:
                self._note(message)
            elif error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:  # its leader has not heard of the topic yet
                (at,) = self._consumer.position([TopicPartition(message.topic() or "", message.partition() or 0)])
                at.offset = at.offset if at.offset >= 0 else OFFSET_BEGINNING
                self._consumer.seek(at)
            elif error.code() not in {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE}:
                raise AssertionError(error)
        return len(messages)

    def _note(self, message: Message) -> None:
        at, offset = (message.topic(), message.partition()), message.offset() or 0
        if offset < self._read_to.get(at, 0):
            self.handed_out_again += 1
            return
        self._read_to[at] = offset + 1
        self.places.setdefault((message.key() or b"").decode(), []).append(f"{at[0]}[{at[1]}]:{offset}")
        self._oracle.seen(message.key(), message.value())

    def read_to_the_end(self, seconds: float = SECONDS) -> None:
        """All results that are there now."""
        ends = ends_of(self._consumer, self._topics, OFFSET_END)

        def at_the_end() -> bool:
            self.read()
            positions = self._consumer.position([TopicPartition(*each) for each in self._partitions])
            return all(max(at.offset, 0) >= ends[at.topic, at.partition] for at in positions)

        eventually(at_the_end, "the outputs read to their end", seconds, pause=0)

    def wait(self, condition: Callable[[], bool], *workers: Worker, seconds: float = SECONDS) -> None:
        """Read until the condition holds. Fails at once when one of these workers ends."""

        def holds() -> bool:
            self.read()
            for worker in workers:
                worker.must_run()
            return condition()

        try:
            eventually(holds, "the results", seconds, pause=0)
        except TookTooLong as error:
            tails = "\n".join(worker.tail() for worker in workers)
            raise TookTooLong(f"{error}\n{self._oracle.judge()}\n{tails}") from None

    def close(self) -> None:
        self._consumer.close()


def feed(
    broker: KafkaBroker,
    oracle: Oracle,
    ids: Iterable[str],
    topics: Iterable[str] = (),
    *,
    pad: int = 0,
    partition: int | None = None,
    timestamp: int = 0,
    producer: Producer | None = None,
) -> None:
    """Send a fragment of each id to each of these topics (default: all inputs), id by id, and note it in the ledger.

    Returns when the broker has acknowledged all. Keys go where Java's clients put them, unless `partition` is given.
    """
    producer = producer or kept_feeder(broker.bootstrap)
    topics = tuple(topics) or oracle.topics_input
    failed: list[KafkaError] = []
    versions: dict[tuple[str, str], int] = {}
    fixed: dict[str, Any] = {} if partition is None else {"partition": partition}
    if timestamp:
        fixed["timestamp"] = timestamp

    def report(error: KafkaError | None, message: Any, id: str) -> None:
        if error is None:
            oracle.sent(message.topic(), message.partition(), message.offset(), id)
        else:
            failed.append(error)

    for id in ids:
        for topic in topics:
            if (topic, id) not in versions:
                versions[topic, id] = oracle.times_sent(topic, id)
            value = fragment_value(topic, id, versions[topic, id], pad)
            versions[topic, id] += 1
            _produce(producer, topic, value, id, lambda error, message, id=id: report(error, message, id), fixed)
    flushed(producer)
    assert not failed, failed[0]


def feed_raw(broker: KafkaBroker, oracle: Oracle, topic: str, values: Iterable[bytes | None], key: str = "x") -> None:
    """Send values that are no valid messages, into the ledger as such."""
    producer = kept_feeder(broker.bootstrap)
    for value in values:
        _produce(producer, topic, value, key, lambda error, message: _note_invalid(oracle, error, message), {})
    flushed(producer)


def flushed(producer: Producer) -> None:
    if left := producer.flush(SECONDS):
        kept_feeder.cache_clear()  # what is wrong with this one is no fault of the next test
        raise TookTooLong(f"{left} records are not acknowledged after {SECONDS:g} s")


def _note_invalid(oracle: Oracle, error: KafkaError | None, message: Any) -> None:
    assert error is None, error
    oracle.sent(message.topic(), message.partition(), message.offset(), None)


def _produce(
    producer: Producer, topic: str, value: bytes | None, key: str, report: Callable[..., None], fixed: dict[str, Any]
) -> None:
    while True:
        try:
            return producer.produce(topic, value, key, on_delivery=report, **fixed)
        except BufferError:
            producer.poll(0.1)


def feeder(broker: KafkaBroker) -> Producer:
    """One of your own. `feed` keeps one for all its calls."""
    return new_feeder(broker.bootstrap)


def partitions_of(client: Consumer, topics: Iterable[str]) -> list[Partition]:
    """Every partition of these topics, asked for one by one: a cluster may have many more."""
    found = []
    for topic in topics:
        numbers = eventually(functools.partial(_partitions, client, topic), f"the partitions of {topic}")
        found += [(topic, partition) for partition in numbers]
    return found


def _partitions(client: Consumer, topic: str) -> list[int] | None:
    """None: the connection has just been lost. The client makes another one."""
    try:
        return sorted(client.list_topics(topic, timeout=SECONDS).topics[topic].partitions)
    except KafkaException as error:
        if error.args[0].code() != KafkaError._TRANSPORT:
            raise
        return None


def ends_of(client: Consumer, topics: Iterable[str], which: int) -> dict[Partition, int]:
    """Where these topics begin (OFFSET_BEGINNING) or end (OFFSET_END), as the client's isolation level sees it."""
    return _offsets(client, partitions_of(client, topics), which)


def _offsets(client: Consumer, partitions: Iterable[Partition], which: int) -> dict[Partition, int]:
    return offsets_at(client, [TopicPartition(*each) for each in partitions], which)  # asks again after an election


def open_transactions(broker: KafkaBroker, topics: Iterable[str]) -> int:
    """Partitions in which one is: there the end is another for who reads committed only."""
    topics, ends = list(topics), []
    for isolation in ("read_committed", "read_uncommitted"):
        settings = {"bootstrap.servers": broker.bootstrap, "group.id": "none", "isolation.level": isolation}
        consumer = Consumer({**settings, "log_level": 0})
        ends.append(ends_of(consumer, topics, OFFSET_END))
        consumer.close()
    return sum(ends[0][at] != ends[1][at] for at in ends[0])


def identities(broker: KafkaBroker, topics: Iterable[str]) -> dict[str, str]:
    """The ids of these topics; the embedded broker has none."""
    if broker.kind == "embedded":
        return dict.fromkeys(topics, "")
    described = kept_admin(broker.bootstrap).describe_topics(TopicCollection(list(topics)), request_timeout=SECONDS)
    return {topic: str(future.result().topic_id) for topic, future in described.items()}


def short_session(broker: KafkaBroker) -> dict[str, str]:
    """The environment for a session time-out as short as the broker allows: a killed member is missed that long.

    (On the embedded broker also one that has left.)
    """
    shortest = 1500
    if broker.kind != "embedded":
        shortest = max(shortest, _shortest_session(broker.bootstrap))
    return {"KAFKA_SESSION_TIMEOUT_MS": str(shortest), "KAFKA_HEARTBEAT_INTERVAL_MS": str(shortest // 5)}


@functools.cache
def _shortest_session(bootstrap: str) -> int:
    admin = kept_admin(bootstrap)
    node = str(next(iter(admin.list_topics(timeout=SECONDS).brokers)))
    [future] = admin.describe_configs([ConfigResource(ResourceType.BROKER, node)]).values()
    return int(future.result()["group.min.session.timeout.ms"].value)


def _parsed(line: str) -> dict[str, Any]:
    try:
        parsed = json.loads(line)
    except ValueError:
        return {"message": line}
    return parsed if isinstance(parsed, dict) and "message" in parsed else {"message": line}
