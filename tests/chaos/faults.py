"""The faults, one function each: what is done, once, to a stage on which workers run and the feed goes on."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient

from tests.chaos.stage import Stage
from tests.integration.oracle import Commit
from tests.integration.workers import ASSIGNED, SECONDS, Worker
from tests.program import ROOT
from tests.services.databases import DatabaseServer, mysql_server, scratch_database
from tests.services.kafka import JavaBroker, unique_name

MOST_WORKERS = 3
MORTAL = ("-m", "tests.chaos.mortal")


@dataclass(frozen=True, slots=True)
class Fault:
    """`play` makes it happen once, and returns when it is over. None of them may lose or halve anything."""

    name: str
    play: Callable[[Stage], None]
    workers: int = 2  # that are there before it
    stage: Callable[..., AbstractContextManager[Stage]] = Stage
    destroys: bool = False  # offsets or maps, from outside: then results may come twice, also exactly once
    only: str = ""  # the delivery that knows such a fault
    stops_broker: bool = False  # which must be one of our own


# ------------------------------------------------------------------ workers


def kill(stage: Stage) -> None:
    stage.pass_time(stage.chance.uniform(0.5, 2))
    stage.kill(stage.chance.choice(stage.workers))
    stage.happened()
    stage.start()
    stage.until_results_flow()


def kill_at(point: str, latest: int) -> Callable[[Stage], None]:
    """SIGKILL at a named point (mortal.py), when it is reached for the n-th time, n being `latest` at most."""

    def play(stage: Stage) -> None:
        mortal = start_mortal(stage, point, stage.chance.randint(1, latest))
        stage.wait_until(lambda: has_ended(mortal) or bool(mortal.said(ASSIGNED)), "partitions assigned")
        stage.stop(stage.workers[0])  # for another assignment, with its share of the work
        stage.wait_until(partial(has_ended, mortal), f"death at {point!r}")
        stage.happened()
        stage.start()
        stage.until_results_flow()

    return play


def start_mortal(stage: Stage, point: str, times: int) -> Worker:
    return stage.launch(main=MORTAL, CHAOS_POINT=point, CHAOS_TIMES=str(times), PYTHONPATH=str(ROOT))


def has_ended(worker: Worker) -> bool:
    return worker.process.poll() is not None


def kill_twice_in_a_replay(stage: Stage) -> None:
    """Halves that wait keep the committed offset down, so that the next owner reads much once more."""
    send_the_others = stage.feed_held(30)
    stage.pass_time(8)
    stage.kill(stage.workers[0])
    stage.happened()
    for _ in range(2):
        mortal = start_mortal(stage, "read", stage.chance.randint(1, 2))
        stage.wait_until(partial(has_ended, mortal), "death in a replay")
        stage.happened()
    stage.start()
    stage.until_results_flow()
    send_the_others()


def freeze(stage: Stage) -> None:
    """Past the session and the transaction time-out."""
    stage.pass_time(stage.chance.uniform(0.5, 2))
    seconds = 1.5 * stage.session + 0.5
    stage.freeze(stage.chance.choice(stage.workers), seconds)
    stage.happened()
    stage.pass_time(seconds + 1)
    stage.until_results_flow()


def kill_or_freeze(stage: Stage) -> None:
    """Of one to three workers, without waiting for what comes of it: faults meet what earlier ones have begun."""
    stage.pass_time(stage.chance.uniform(0, 2 * stage.pause))
    if not stage.workers:
        stage.start()
    worker = stage.chance.choice(stage.workers)
    if stage.chance.random() < 0.6:
        stage.kill(worker)
    else:
        stage.freeze(worker, stage.chance.choice([1, 1.5 * stage.session]))
    stage.happened()
    wanted = stage.chance.randint(1, MOST_WORKERS)
    stage.later(stage.chance.uniform(0, 3), lambda: stage.start(max(0, wanted - len(stage.workers))))


def one_three_one(stage: Stage) -> None:
    stage.pass_time(2)
    added = stage.start(2)
    stage.happened()
    stage.until_assigned(added)
    stage.until_results_flow()
    stage.pass_time(1)
    for worker in added:
        stage.stop(worker)
    stage.happened()
    stage.until_results_flow()


def rolling_restart(stage: Stage) -> None:
    """As an orchestrator does it: stop one, wait for its end, start its successor, wait until that is ready."""
    for worker in list(stage.workers):
        stage.stop(worker)
        stage.happened()
        stage.wait_until(partial(has_ended, worker), "the end of a worker")
        stage.until_assigned(stage.start())
        stage.until_results_flow()
        stage.pass_time(1)


# ------------------------------------------------------------------ the broker and its topics


def of_its_own(stage: Stage) -> JavaBroker:
    assert isinstance(stage.broker, JavaBroker), "only a broker started with Java can be stopped"
    return stage.broker


def broker_restart(stage: Stage) -> None:
    """In turn in order and by SIGKILL. What is measured begins when the broker is there again."""
    stage.pass_time(2)
    if stage.faults % 2:
        of_its_own(stage).kill()
    of_its_own(stage).restart()
    stage.happened()
    stage.until_results_flow()


def broker_gone(stage: Stage) -> None:
    stage.pass_time(2)
    of_its_own(stage).kill()
    stage.pass_time(60)
    of_its_own(stage).restart()
    stage.happened()
    stage.until_results_flow()


def transactional_input(stage: Stage) -> None:
    """Fragments in transactions: committed ones count, aborted ones must never be seen, an open one only delays."""
    producer = Producer(
        {
            "bootstrap.servers": stage.broker.bootstrap,
            "transactional.id": unique_name("chaos"),
            "partitioner": "murmur2_random",
            "log_level": 0,
        }
    )
    producer.init_transactions(SECONDS)
    for number in range(10):
        producer.begin_transaction()
        if number % 3:
            stage.feed_aborted(producer, 50)
            stage.pass_time(stage.chance.uniform(0, 0.5))
            producer.abort_transaction(SECONDS)
        else:
            ledger = stage.feed_committed(producer, 50)
            stage.pass_time(stage.chance.uniform(0, 0.5))
            producer.commit_transaction(SECONDS)
            ledger()
    producer.begin_transaction()
    stage.feed_aborted(producer, 50)
    stage.pass_time(2)  # nothing behind it can be read
    stage.kill(stage.chance.choice(stage.workers))
    stage.start()
    stage.pass_time(2)
    producer.abort_transaction(SECONDS)
    stage.happened()
    stage.until_results_flow()


def backlog(stage: Stage) -> None:
    """An hour of one topic in the log, then its sibling, with the mates in opposite order; a kill in the middle."""
    stage.feed(False)
    for worker in list(stage.workers):
        stage.stop(worker)
    ids = stage.feed_backlog(10_000, hours=1)
    stage.until_assigned(stage.start())
    stage.happened()
    stage.pass_time(0.3)
    stage.kill(stage.workers[0])
    stage.start(2)
    stage.feed()
    stage.until_results_flow()
    stage.wait_until(lambda: all(id in stage.oracle.results for id in ids), "the backlog")


# ------------------------------------------------------------------ offsets and maps


def with_workers_stopped(change: Callable[[Stage], None]) -> Callable[[Stage], None]:
    """Something that can only be done, or only to an effect, while the group is empty."""

    def play(stage: Stage) -> None:
        stage.pass_time(2)
        number = len(stage.workers)
        for worker in list(stage.workers):
            stage.kill(worker)
        stage.pass_time(stage.session + 0.5)
        stage.wait_until(lambda: _succeeds(lambda: change(stage)), "the group empty")
        stage.start(number)
        stage.happened()
        stage.until_results_flow()

    return play


def _succeeds(step: Callable[[], None]) -> bool:
    try:
        step()
    except KafkaException:  # the group has still members
        return False
    return True


def reset_offsets(stage: Stage) -> None:
    """To anywhere before what was committed: `kafka-consumer-groups.sh --reset-offsets`."""
    commits = stage.job.commits()
    stage.job.overwrite_commits({at: (stage.chance.randint(0, commit.offset), "") for at, commit in commits.items()})


def delete_offsets(stage: Stage) -> None:
    admin = AdminClient({"bootstrap.servers": stage.broker.bootstrap, "log_level": 0})
    admin.delete_consumer_groups([stage.job.name])[stage.job.name].result(SECONDS)


def junk_in_metadata(stage: Stage) -> None:
    """Of another tool, none at all, long, or a map that was cut, damaged, or is of another offset."""
    commits = stage.job.commits()
    stage.job.overwrite_commits({at: (commit.offset, _junk(stage, commit)) for at, commit in commits.items()})


def _junk(stage: Stage, commit: Commit) -> str:
    text = commit.metadata
    middle = len(text) // 2
    damaged = text[:middle] + chr(ord(text[middle]) ^ 1) + text[middle + 1 :] if text else "x"
    return stage.chance.choice(["junk of another tool", "", "x" * 4_000, text[:-3], damaged])


# ------------------------------------------------------------------ the database


class DatabaseStage(Stage):
    """A stage whose rows are in a database server of its own."""

    database: DatabaseServer


@contextmanager
def with_database(*arguments: Any, **named: Any) -> Iterator[Stage]:
    with (
        mysql_server() as server,
        scratch_database(server) as url,
        DatabaseStage(*arguments, **named, database_url=url) as stage,
    ):
        stage.database = server
        yield stage


def database_dead(stage: Stage) -> None:
    """Who works goes on; who starts waits until it is back."""
    assert isinstance(stage, DatabaseStage)
    process = stage.database.process
    assert process is not None, "only a database started here can be stopped"
    process.stop()
    stage.happened()
    stage.until_results_flow()
    stage.kill(stage.workers[0])
    [started] = stage.start()
    stage.pass_time(5)
    assert not started.said(ASSIGNED)
    process.start()
    stage.happened()
    stage.until_assigned([started])
    stage.until_results_flow()


# ------------------------------------------------------------------ all of them

FAULTS = [
    Fault("SIGKILL", kill),
    Fault("SIGKILL after a result is produced", kill_at("produced", 2_000)),
    Fault("SIGKILL after the offsets are sent", kill_at("offsets", 30), only="exactly_once"),
    Fault("SIGKILL within a commit", kill_at("commit", 30)),
    Fault("SIGKILL within 200 ms of an assignment", kill_at("assigned", 2)),
    Fault("SIGKILL twice before a replay ends", kill_twice_in_a_replay),
    Fault("SIGSTOP past all time-outs, SIGCONT", freeze),
    Fault("kills and freezes at random", kill_or_freeze, MOST_WORKERS),
    Fault("1, 3, 1 workers", one_three_one, 1),
    Fault("rolling restart", rolling_restart, MOST_WORKERS),
    Fault("broker restarts", broker_restart, stops_broker=True),
    Fault("broker gone for a minute", broker_gone, stops_broker=True),
    Fault("input in transactions, some aborted", transactional_input),
    Fault("a topic backlogged by an hour", backlog, stage=partial(Stage, environment={"MESSAGE_TIMEOUT": "5"})),
    Fault("offsets reset", with_workers_stopped(reset_offsets), destroys=True),
    Fault("offsets deleted", with_workers_stopped(delete_offsets), destroys=True),
    Fault("metadata overwritten with junk", with_workers_stopped(junk_in_metadata), destroys=True),
    Fault("database dead at run time", database_dead, stage=with_database),
]
