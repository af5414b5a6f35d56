"""A stage for faults: topics of its own, a paced feed, some workers, and the oracle that sees every message.

Nothing here runs by itself: whoever plays a fault calls `pass_time` or `wait_until`, and in each of their turns the
feed goes on, results are read, workers that are gone come back, and what was put off with `later` is done.
"""

import heapq
import random
import signal
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Self

from confluent_kafka import KafkaError, Producer

from tests.integration.oracle import Oracle, Verdict, fragment_value
from tests.integration.stream import Records
from tests.integration.workers import ASSIGNED, Job, Outputs, TookTooLong, Worker, feeder, open_transactions
from tests.services.kafka import KafkaBroker, unique_name

PARTITIONS = 6  # of each topic; the broker, as the workers' producer, puts a key into the same number everywhere
RATE = 500  # ids a second
SESSION = 3.0  # seconds that a killed worker is missed
MOST_MESSAGES = 1_000_000  # that one stage feeds: its ledger is in memory, about 1 KB an id
SPLIT = 0.2  # of the ids have their halves apart, by up to
APART = 4.0  # seconds
CLEANUP = 10.0  # seconds between two looks of a broker for transactions past their time-out, its default
PATIENCE = 180.0  # seconds that anything may take before it counts as lost


class Stage:
    """One fault's own world. `session`: seconds that a killed worker is missed.

    `pause`: seconds between two faults that do not wait for what comes of them.
    """

    def __init__(
        self,
        broker: KafkaBroker,
        delivery: str,
        directory: Path,
        chance: random.Random,
        *,
        session: float = SESSION,
        rate: float = RATE,
        pause: float = 3.0,
        most_messages: int = MOST_MESSAGES,
        bootstrap_servers: str = "",
        database_url: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        topics = [unique_name(name) for name in ("chaos-a", "chaos-b", "chaos-out")]
        for topic in topics:
            broker.create_topic(topic, PARTITIONS)
        self.broker = broker
        self.directory = directory
        self.delivery = delivery
        self.chance = chance
        self.session = session
        self.rate = rate
        self.pause = pause
        self._most_ids = most_messages // 2
        session_ms = int(session * 1000)
        self.job = Job(
            broker,
            unique_name("chaos"),
            topics[:2],
            topics[2:],
            directory,
            bootstrap_servers=bootstrap_servers,
            database_url=database_url,
            environment={
                "DELIVERY": delivery,
                "MESSAGE_TIMEOUT": "3600",
                "KAFKA_SESSION_TIMEOUT_MS": str(session_ms),
                "KAFKA_HEARTBEAT_INTERVAL_MS": str(session_ms // 5),
                **(environment or {}),
            },
        )
        self.topics_fed = self.job.topics_input
        self.oracle = Oracle(self.job.topics_input)
        self.outputs = Outputs(self.job, self.oracle)
        self.workers: list[Worker] = []
        self.faults = 0
        self.seconds: list[float] = []  # from each fault to new results
        self.ended: list[str] = []  # workers that ended though nobody told them to
        self.fed = 0
        self._feeder = feeder(broker)
        self._fed_until: float | None = None
        self._failed: list[KafkaError] = []
        self._actions: list[tuple[float, int, Callable[[], object]]] = []
        self._order = count()
        self._since: float | None = None  # the fault after which new results are awaited, in these partitions
        self._awaited: dict[int, str | None] = {}  # the first id sent to each since then

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.outputs.close()
        self.job.__exit__()

    # ------------------------------------------------------------------ workers

    def start(self, number: int = 1, **environment: str) -> list[Worker]:
        """More workers. They are known as assigned only when they say so."""
        started = [self.launch(**environment) for _ in range(number)]
        self.workers += started
        return started

    def launch(self, *, main: Sequence[str] = ("main.py",), **environment: str) -> Worker:
        """One more, which does not count as one of the stage's: it may end. It reads in either order."""
        return self.job.start(main=main, READ_ORDER=self.chance.choice(["fetched", "time"]), **environment)

    def kill(self, worker: Worker) -> None:
        """SIGKILL."""
        self.workers.remove(worker)
        worker.kill()

    def stop(self, worker: Worker) -> None:
        """SIGTERM, without waiting; it must end with 0."""
        self.workers.remove(worker)
        worker.process.terminate()

        def has_ended() -> None:
            code = worker.process.poll()
            if code is None:
                self.later(0.1, has_ended)
            elif code:
                self.ended.append(f"{code} after SIGTERM: {worker.log}")

        has_ended()

    def freeze(self, worker: Worker, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after so many seconds."""
        worker.process.send_signal(signal.SIGSTOP)
        self.later(seconds, lambda: worker.process.send_signal(signal.SIGCONT))  # not sent where it has ended

    def until_assigned(self, workers: Iterable[Worker]) -> None:
        """One that ends of itself is not waited for: another one is started in its place, and it is told (`ended`)."""
        self.wait_until(
            lambda: all(worker.said(ASSIGNED) or worker.process.poll() is not None for worker in workers),
            "partitions assigned",
        )

    # ------------------------------------------------------------------ time

    def pass_time(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._turn()

    def wait_until(self, condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                tails = "\n".join(worker.tail() for worker in self.workers)
                raise TookTooLong(f"{what}: not within {seconds:g} s; {self.oracle.judge()}\n{tails}")
            self._turn()

    def later(self, seconds: float, action: Callable[[], object]) -> None:
        heapq.heappush(self._actions, (time.monotonic() + seconds, next(self._order), action))

    def _turn(self) -> None:
        now = time.monotonic()
        self._feed(now)
        while self._actions and self._actions[0][0] <= now:
            heapq.heappop(self._actions)[2]()
        self.outputs.read(0.01)
        self._look_for_new_results()
        for worker in [each for each in self.workers if each.process.poll() is not None]:
            self.workers.remove(worker)
            self.ended.append(f"{worker.process.returncode}: {worker.log}")
            self.start()

    # ------------------------------------------------------------------ the feed

    def feed(self, on: bool = True) -> None:
        """Begin to feed, or make a pause in which only second halves are sent."""
        self._fed_until = time.monotonic() if on else None

    def _feed(self, now: float) -> None:
        """What is due: most ids with both halves at once, in either order, some with the halves apart."""
        if self._fed_until is not None:
            due = min(int((now - self._fed_until) * self.rate), self._most_ids - self.fed)
            self._fed_until += due / self.rate
            for _ in range(due):
                id = self._new_id()
                first, *others, last = self.chance.sample(self.topics_fed, len(self.topics_fed))
                self._send(id, first)
                if self.chance.random() < SPLIT:
                    for topic in (*others, last):
                        self.later(self.chance.uniform(0, APART), partial(self._send, id, topic))
                else:
                    for topic in others:
                        self._send(id, topic)
                    self._send(id, last, whole=True)
        self._feeder.poll(0)
        if self._failed:
            raise AssertionError(f"not fed: {self._failed[0]}")

    @property
    def has_fed_all(self) -> bool:
        return self.fed >= self._most_ids

    def _new_id(self) -> str:
        self.fed += 1
        return f"id-{self.fed:07d}"

    def feed_held(self, number: int) -> Callable[[], None]:
        """Half ids; the function sends their other halves."""
        a, b = self.job.topics_input
        held = self.feed_halves(a, number)

        def send_the_others() -> None:
            for id in held:
                self._send(id, b)

        return send_the_others

    def feed_halves(self, topic: str, number: int) -> list[str]:
        """New ids of which only this topic has something."""
        ids = [self._new_id() for _ in range(number)]
        for id in ids:
            self._send(id, topic)
        return ids

    def feed_backlog(self, number: int, hours: float) -> list[str]:
        """New ids whose halves are in the log for hours, one topic after the other and in opposite order."""
        a, b = self.job.topics_input
        backlog = [self._new_id() for _ in range(number)]
        for topic, ids in ((a, backlog), (b, backlog[::-1])):
            for id in ids:
                self._send(id, topic, age=hours * 3600)
        self._feeder.flush(PATIENCE)
        return backlog

    def feed_committed(self, producer: Producer, number: int) -> Callable[[], None]:
        """Whole ids in this producer's transaction; the function, for after the commit, notes them in the ledger."""
        sent: list[tuple[str, Any]] = []
        for id in [self._new_id() for _ in range(number)]:
            for topic in self.job.topics_input:
                report = partial(lambda id, _, message: sent.append((id, message)), id)
                producer.produce(topic, fragment_value(topic, id), id, on_delivery=report)
        producer.flush(PATIENCE)

        def note() -> None:
            for id, message in sent:
                self.oracle.sent(message.topic(), message.partition(), message.offset(), id)

        return note

    def feed_aborted(self, producer: Producer, number: int) -> None:
        """In a transaction that will be aborted: ids of their own, and other versions of ids that are on their way."""
        for each in range(number):
            for id in (f"aborted-{each}", f"id-{self.fed - each:07d}"):
                for topic in self.job.topics_input:
                    producer.produce(topic, fragment_value(topic, id, version=9), id)
        producer.flush(PATIENCE)

    def _send(self, id: str, topic: str, *, whole: bool = False, age: float = 0) -> None:
        """One fragment, with a timestamp `age` seconds ago. `whole`: its mate was sent just before."""
        fixed: dict[str, Any] = {"timestamp": int((time.time() - age) * 1000)} if age else {}

        def report(error: KafkaError | None, message: Any) -> None:
            if error:
                self._failed.append(error)
                return
            self.oracle.sent(topic, message.partition(), message.offset(), id)
            if whole and message.partition() in self._awaited:
                self._awaited[message.partition()] = self._awaited[message.partition()] or id

        while True:
            try:
                return self._feeder.produce(topic, fragment_value(topic, id), id, on_delivery=report, **fixed)
            except BufferError:
                self._feeder.poll(0.1)

    # ------------------------------------------------------------------ what came of it

    def happened(self) -> None:
        """A fault. From now on it is measured how long new results take, in every partition."""
        self.faults += 1
        if self._since is None:
            self._since = time.monotonic()
            self._awaited = dict.fromkeys(range(PARTITIONS))

    def _look_for_new_results(self) -> None:
        if self._since is not None:
            self._awaited = {at: id for at, id in self._awaited.items() if id not in self.oracle.results}
            if not self._awaited:
                self.seconds.append(time.monotonic() - self._since)
                self._since = None

    def until_results_flow(self) -> None:
        """Until, in every partition, what was sent after the last fault has its result."""
        self.wait_until(lambda: self._since is None, "new results")

    def all_sent(self) -> bool:
        """Whether Kafka has acknowledged all that was fed."""
        return not self._actions and self._feeder.flush(0) == 0

    def all_out(self) -> bool:
        """Whether every id that was fed has a result."""
        return self.all_sent() and len(self.oracle.results) >= self.fed - len(self.oracle.destroyed)

    def finish(self, *, lag: bool = True) -> Verdict:
        """End the feed, see everything through, stop the workers, and hold everything against the ledger.

        `lag`: nothing may be left uncommitted. (Where maps were destroyed, a half that is read again waits for long.)
        """
        if not self.workers:
            self.start()
        self.feed(False)
        try:
            self.wait_until(self.all_sent, "all halves sent")
            for topic, ids in self.oracle.unplaced.items():
                self.oracle.destroyed |= ids - Records.of(self.broker, topic).values.keys()
            self.wait_until(self.all_out, "all results")
            if lag:
                self.wait_until(lambda: self.job.lag() == 0, "everything committed")
            self.until_assigned(self.workers)  # SIGTERM before that would not be a stop in order yet
        except TookTooLong as error:
            self.ended.append(str(error))
        for worker in self.workers:
            worker.process.terminate()
        for worker in self.workers:
            if code := worker.ends():
                self.ended.append(f"{code} at the end: {worker.log}")
        self.wait_for_transactions(self.session + 2 * CLEANUP)
        commits = self.job.commits()
        self.outputs.read_to_the_end()
        verdict = self.oracle.judge(commits)
        if verdict.lost:
            self.ended += self.not_in_the_logs(self.oracle.missing())
        return verdict

    def not_in_the_logs(self, ids: set[str]) -> list[str]:
        """What Kafka has acknowledged and does not have any more, as text: no worker can have joined that."""
        kept = {topic: Records.of(self.broker, topic).values.keys() for topic in self.oracle.topics_input}
        gone = {topic: sorted(ids - of) for topic, of in kept.items()}
        return [f"Kafka has lost {len(gone[at])} of them from {at}: {gone[at][:5]}" for at in gone if gone[at]]

    def wait_for_transactions(self, seconds: float) -> int:
        """Until no worker's transaction is open any more, for so long at most; how many partitions still have one.

        That of a worker that was killed lives until its time-out, the session's at most, and the broker's next look.
        """
        deadline = time.monotonic() + seconds
        while (number := self.open_transactions()) and time.monotonic() < deadline:
            time.sleep(0.2)
        return number

    def open_transactions(self) -> int:
        """Partitions of the outputs with an open transaction.

        Only workers write there: what a fault does in transactions of its own is in the inputs.
        """
        return open_transactions(self.broker, self.job.topics_output)

    def times(self) -> str:
        """Median and longest of the seconds until new results."""
        return f"{statistics.median(self.seconds):.1f} {max(self.seconds):6.1f}" if self.seconds else "-      -"
