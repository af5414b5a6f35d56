"""The command line, and the only place that builds things: settings, row, clients, worker. `python main.py --help`."""

import argparse
import gc
import os
import random
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

from sqlalchemy import Engine

from config import ConfigError, Settings, UnavailableError
from framework import Worker
from models import Row, engine, init_db, load, map_topic, save
from utils.commands.letters import Choice, Found, details, letters, shown, table
from utils.commands.moments import FORMS, moment
from utils.commands.replay import Discarding, Joining, Replay, Tally, Use, progress_bar, rehearse
from utils.errors import chain
from utils.joining.dead_letters import REASONS
from utils.joining.messages import RESULT_OVERHEAD
from utils.joining.offsets import Standing
from utils.kafka import clients, preflight
from utils.kafka.limits import CommitLimits
from utils.kafka.membership import Membership
from utils.logger import configure, logger
from utils.metrics import Counters, Histogram
from utils.monitoring.status import Health, serve
from utils.monitoring.watch import Watch
from utils.processing import user_code
from utils.processing.attempts import Attempts
from utils.processing.dispatcher import Dispatcher
from utils.processing.executor import Coroutines, Executor, Runner, SingleThread, ThreadPool, nothing
from utils.processing.suspects import Suspects
from utils.reading.intake import Intake
from utils.reading.locator import AssignmentOutdated, Partition, RowOutdated, locator
from utils.running.lifetime import (
    LONGEST_PAUSE,
    Stopped,
    end_in_time,
    interruptibly,
    patiently,
    set_with,
    sleep,
    stop_on_signals,
)
from utils.running.refresh import Config, Refresh
from utils.running.steps import ROW_STEPS, STEPS, Seen, Start, cannot_listen, findings, outputs, take, tried
from utils.sending.delivery import AtLeastOnce, Delivery, ExactlyOnce
from utils.sending.failures import Failures
from utils.sending.map_store import MapStore
from utils.sending.outbox import Mute, Outbox, RecordRefused, Refusals

EX_CONFIG = 78  # sysexits.h: starting again is no use before somebody has changed the configuration
RESTARTS = 5  # of the worker, in a row and without progress in between, before the process gives up
LASTING = 600.0  # seconds: a worker that ran so long has not failed in a row with the one before, were there no records
GC_THRESHOLDS = 50_000, 20, 50  # what travels holds no cycles: with the defaults a tenth of the CPU goes into looking
GATHER, GATHER_STAGED = 0.004, 0.01  # seconds that a record stays for others (see Intake); where results wait anyway
SETTLE = 15.0  # seconds beside CONFIG_REFRESH until all workers of a group have applied a change of the input topics

ABOUT = """\
The worker joins the messages of its input topics that share an id, hands each joined message to process() in
worker.py, and sends what that returns to its output topics. Topics and brokers are in its row of the database table
consumer_configs. Without a command it runs.
"""
EPILOG = """\
environment (all names: README.md; your defaults: defaults.py):
  CONSUMER_NAME       which row this worker is; also its Kafka group
  DB_HOST DB_PORT DB_NAME DB_USER DB_PASSWORD
  DATABASE_URL        instead of the five above; MySQL, MariaDB, PostgreSQL or SQLite
  KAFKA_<PROPERTY>    a property of Kafka's clients, such as KAFKA_SECURITY_PROTOCOL

exit codes:
  0 stopped in order    78 bad configuration    1 anything else

examples:
  python main.py demo --results 20
  python main.py init --topics-input orders,payments --topics-output paid --kafka-bootstrap-server host:9092
  python main.py check
  python main.py dlq replay --reason process_failed
  python main.py
"""

T = TypeVar("T")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit as end:  # argparse has printed the help, or what is wrong with the command line
        return EX_CONFIG if end.code else 0
    configure("INFO")
    try:
        code: int = arguments.command(arguments)
        sys.stdout.flush()
    except ConfigError as error:
        for problem in error.problems:
            logger.critical(problem)  # it ends the process: no LOG_LEVEL hides why
        return EX_CONFIG
    except UnavailableError as error:
        logger.error(error)
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:  # `main.py check | head`: there is nobody to print to, also not at the interpreter's end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (Exception, SystemExit):  # sys.exit() in worker.py would look like a stop in order
        logger.exception("unexpected error")
    else:
        return code
    return 1


def _parser() -> argparse.ArgumentParser:
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("main.py", description=ABOUT, epilog=EPILOG, formatter_class=plain)
    parser.set_defaults(command=run)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    def command(function: Callable[[argparse.Namespace], int], summary: str) -> argparse.ArgumentParser:
        added = commands.add_parser(function.__name__, help=summary, description=function.__doc__)
        added.set_defaults(command=function)
        return added

    command(run, "join messages until SIGTERM or Ctrl-C (the default)")
    command(check, "try everything that run needs and say what to do about what fails")
    of_init = command(init, "create the table and write this consumer's row")
    of_init.add_argument("--topics-input", required=True, metavar="A,B", help="topics to read and join")
    of_init.add_argument("--topics-output", required=True, metavar="C", help="topics to send results to; '' for none")
    of_init.add_argument("--kafka-bootstrap-server", required=True, metavar="HOST:PORT", help="one or more brokers")
    of_init.add_argument(
        "--metadatas", metavar="JSON", help="settings of this consumer; without it they stay as they are"
    )
    _add_dlq(
        command(dlq, "list, show, replay and discard what has failed").add_subparsers(required=True, metavar="COMMAND")
    )
    of_demo = command(demo, "see the worker at work, without Kafka and without a database server")
    of_demo.add_argument("--results", type=int, metavar="N", help="end after N results; without it, at Ctrl-C")
    return parser


def _add_dlq(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    of_list = commands.add_parser("list", help="one line for each dead letter, and counts by error")
    of_list.set_defaults(dlq_command=dlq_list)
    of_list.add_argument("--replayed", action="store_true", help="also those that were replayed or discarded")
    of_show = commands.add_parser("show", help="all that a dead letter holds")
    of_show.set_defaults(dlq_command=dlq_show)
    of_show.add_argument("id", metavar="ID")
    of_replay = commands.add_parser("replay", help="process them once more and send the results")
    of_replay.set_defaults(dlq_command=dlq_replay)
    of_discard = commands.add_parser("discard", help="leave them out from now on: they are of no more use")
    of_discard.set_defaults(dlq_command=dlq_discard)
    for each in (of_replay, of_discard):
        each.add_argument("--all", action="store_true", help="all that were neither replayed nor discarded")
        each.add_argument("--dry-run", action="store_true", help="only say what would be done")
    for each in (of_list, of_replay, of_discard):
        each.add_argument("--reason", default="", choices=REASONS, help="only those of this reason")
        each.add_argument("--id", default="", help="only those of this id")
        each.add_argument("--since", type=_moment, metavar="TIME", help=f"not older than: {FORMS}")
        each.add_argument("--until", type=_moment, metavar="TIME", help="older than")


def _moment(text: str) -> datetime:
    try:
        return moment(text, datetime.now(UTC))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _settings() -> Settings:
    """Those of the environment, over the user's defaults."""
    return Settings.read(os.environ, user_code.defaults())


# ---------------------------------------------------------------- run


class Runs(Protocol):
    """A worker, or a replay of dead letters."""

    intake: Intake

    def run(self) -> None: ...


def run(_arguments: argparse.Namespace) -> int:
    """Join messages until SIGTERM or Ctrl-C; a second one ends at once. What can heal by itself is waited for."""
    stopping = stop_on_signals()
    watch: Watch

    def listen(settings: Settings) -> str:
        nonlocal watch
        watch = Watch(settings)
        return _serve(watch)

    start = Start(environ=os.environ, listen=listen, alone=lambda _cluster: True)
    try:
        for step, seen in take(start, STEPS, partial(patiently, stopping=stopping)):
            configure(start.settings.log_level, consumer_name=start.settings.consumer_name)
            _tell(seen)
            if step.subject == "row":
                _tell_row(start)
    except Stopped:
        return 0
    read = partial(_read_again, start.database, start.environment, watch)
    current = Config(start.settings, start.row, start.stores_maps, start.limits)
    refresh = Refresh(current, read, watch.counters, watch.health)
    threading.Thread(target=refresh.watch, args=(stopping,), name="row", daemon=True).start()
    return work(refresh, stopping, watch)


def _tell(seen: Seen) -> None:
    if seen.how == "lacking":
        logger.warning("the worker runs, but: %s", seen.text)


def _tell_row(start: Start) -> None:
    row, status = start.row, start.address
    facts = {"topics_input": row.topics_input, "topics_output": row.topics_output, "brokers": row.bootstrap_servers}
    logger.info("row loaded", extra={**facts, "status": status, "health": f"{status}health/ready"})


def _read_again(database: Engine, environment: Settings, watch: Watch, current: Config) -> Config:
    """The row as it is now and, where it is another one, whether a worker could work by it: ConfigError if not."""
    row = load(database, environment.consumer_name)
    if row == current.row:
        return current
    settings = environment.overlaid(row.metadatas)
    try:
        stores_maps, limits = _tried_row(settings, row, watch, current.row)
        return Config(settings, row, stores_maps, limits)
    except UnavailableError as error:  # the brokers of the new row, not the database
        raise ConfigError([str(error)]) from error


def _tried_row(settings: Settings, row: Row, watch: Watch, current: Row) -> tuple[bool, CommitLimits]:
    """All that a worker needs of Kafka, and its own topics created. Which maps can be stored, and must be."""
    start = Start(environ={}, listen=lambda _settings: "", alone=partial(_owns_all, watch, current))
    start.settings, start.row = settings, row
    for _, seen in list(take(start, ROW_STEPS, lambda step: step())):
        _tell(seen)
    return start.stores_maps, start.limits


def _owns_all(watch: Watch, row: Row, cluster: preflight.Cluster) -> bool:
    """Whether this worker has all partitions of the input topics: then they need not have equal numbers of them."""
    owned = watch.health.ask(lambda view: len(view.worker.intake.owned), 1.0)
    return owned == sum(cluster.partitions.get(topic, 0) for topic in row.topics_input)


def _serve(watch: Watch) -> str:
    """Answer HTTP requests about the worker; the address of the status page."""
    logger.addHandler(watch.memory)
    host, port = watch.settings.http_host, watch.settings.http_port
    allowed = watch.settings.http_allowed_hosts.replace(",", " ").split()
    try:
        server = serve(watch.health, host, port, watch.pages(), watch.tick, allowed_hosts=allowed)
    except OSError as error:
        raise cannot_listen(watch.settings, error) from None
    return f"http://{host}:{server.server_port}/"


class Calls(NamedTuple):
    """The way to process(), with the settings that made it. It outlives a change of the row that leaves these alone."""

    runner: Runner
    dispatcher: Dispatcher
    settings: Settings

    def fit(self, settings: Settings) -> bool:
        names = ("concurrency", "max_pending_bytes", "process_timeout", "process_attempts", "retry_backoff")
        return all(getattr(settings, name) == getattr(self.settings, name) for name in names)

    def close(self) -> bool:
        """Let teardown() of worker.py run; whether all calls have ended. What it raises comes too late to matter."""
        timeout = 0 if self.dispatcher.is_stuck else self.settings.shutdown_timeout
        try:
            self.runner.close(timeout)
        except (Exception, SystemExit) as error:
            ended = not isinstance(error, TimeoutError)
            if not ended and user_code.load().hooks.teardown is nothing:
                logger.warning("process() had not ended when the worker did", extra={"timeout": timeout})
            else:
                logger.warning("no orderly teardown()", extra={"timeout": timeout}, exc_info=error)
            return ended
        return True


def work(refresh: Refresh, stopping: threading.Event, watch: Watch) -> int:
    """Run workers, one after the other where one fails or the row changes, until `stopping` is set: the exit code.

    0 only where nothing but a signal has set it. What a worker does not survive is raised.
    """
    calls = None
    try:
        while not stopping.is_set():
            settings = refresh.current.settings
            if calls and not calls.fit(settings):
                former, calls = calls, None
                if not former.close() or former.dispatcher.is_stuck:
                    return 1  # ids that are still in process() must not get there a second time
            calls = calls or _opened_calls(settings, watch.counters, stopping)
            _work_by_row(refresh, calls.dispatcher, stopping, watch)
            refresh.next()  # without one the row was withdrawn, and the one before is in force again
    except Stopped:
        return 0
    except SetupFailed as error:
        logger.error("setup() failed", exc_info=error.__cause__)
        return 1
    finally:
        if calls:
            calls.close()
    logger.info("stopped", extra=watch.counters.as_dict())
    return 1 if calls and calls.dispatcher.is_stuck else 0


class SetupFailed(Exception):
    """setup() of worker.py has raised its cause."""


def _opened_calls(settings: Settings, counters: Counters, stopping: threading.Event) -> Calls:
    runner = _runner(settings.consumer_name, settings, counters.process_time)
    try:
        interruptibly(runner.open, stopping)
    except Stopped:
        raise
    except (Exception, SystemExit) as error:  # sys.exit() would look like a stop in order
        raise SetupFailed from error
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    return Calls(runner, _dispatcher(runner, settings, counters, stopping), settings)


def _work_by_row(refresh: Refresh, executor: Executor, stopping: threading.Event, watch: Watch) -> None:
    """Run workers until `stopping` is set or the row has changed."""
    ending = set_with(stopping)
    config, refusals, survived = refresh.begin(ending), Refusals(), dict[Partition, Standing]()
    settings, row = config.settings, config.row
    membership = Membership(is_static=bool(settings.group_instance_id))
    configure(settings.log_level, consumer_name=settings.consumer_name)
    watch.sees(settings, row.topics_input, row.topics_output)
    ended = end_in_time(ending, settings.shutdown_timeout)
    try:
        supervise(
            partial(
                build_worker, refresh, executor, watch.counters, watch.health, ending, refusals, survived, membership
            ),
            watch.counters,
            ending,
            refresh.reread,
            survived,
        )
    except Exception as error:
        problems = error.problems if isinstance(error, ConfigError) else [str(error)]
        if not refresh.withdraw(problems):
            raise
    finally:
        ended.set()
        ending.set()


def _runner(consumer_name: str, settings: Settings, times: Histogram) -> Runner:
    """How to call process(), setup() and teardown() of worker.py. Raises ConfigError."""
    process, hooks = (code := user_code.load()).process, code.hooks
    most = settings.max_pending_bytes // 8
    if code.is_async:
        timeout = settings.process_timeout or None
        return Coroutines(process, consumer_name, settings.concurrency, timeout, hooks, times=times, most=most)
    if settings.concurrency > 1:
        return ThreadPool(process, consumer_name, settings.concurrency, hooks, times=times, most=most)
    return SingleThread(process, consumer_name, hooks, times=times, most=most)


def _dispatcher(runner: Runner, settings: Settings, counters: Counters, stopping: threading.Event) -> Dispatcher:
    attempts = Attempts(settings.process_attempts, settings.retry_backoff, random.random)
    # In a thread, for a signal handler on this one would wait for ever if it came in the middle of set().
    on_stuck = threading.Thread(target=stopping.set, daemon=True).start
    return Dispatcher(runner, attempts, counters, settings.process_timeout, on_stuck)


def supervise(
    build: Callable[[ExitStack], Runs],
    counters: Counters,
    stopping: threading.Event,
    reread_row: Callable[[threading.Event, int], None] = lambda _stopping, _edition: None,
    survived: dict[Partition, Standing] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Crash-only: after a failure a new worker goes on from the last commit. Raises after a few failures in a row.

    What is to be closed after a worker, `build` puts on the stack that it is given.
    In a row: without progress, which is a record finished, and not a commit made: each start makes one.

    A ConfigError of build() is raised at once, and one for what does not heal: another worker with the same
    GROUP_INSTANCE_ID has taken this one's place, and would be driven out in turn; Kafka forbids something, or does not
    take a setting. Any other one of a worker that runs may heal: a process that was killed holds partitions until the
    group misses it, a topic is being made again.
    RowOutdated is no failure: `reread_row` waits until the row has been read again. Nor is AssignmentOutdated, after
    which the worker has left the group.

    `survived` is told how the partitions of a worker stood that has failed: the process has not ended, so that no
    message is to blame, unless Kafka has refused one. The last worker counts no start: the process ends by itself then.
    """
    failures, survived = 0, {} if survived is None else survived
    while not stopping.is_set():
        began = clock()
        error, had, has_progressed = _run_one(build)
        _free_memory(error)
        if error is None:
            continue
        if isinstance(error, RowOutdated):
            logger.warning("reading the row again", extra={"why": str(error)})
            reread_row(stopping, error.edition)
            sleep(1.0, stopping)
            continue
        if isinstance(error, AssignmentOutdated):
            logger.warning("joining the group anew", extra={"why": str(error)})
            continue
        if isinstance(error, RecordRefused):  # no failure of the worker: it knows now what to do with that record
            counters.restarts += 1
            survived |= had
            logger.error("starting again from the last commit", extra={"error": str(error)})
            continue
        if cure := clients.cure_of(error):
            raise ConfigError([cure]) from error
        in_a_row = not has_progressed and clock() - began < LASTING
        failures = failures + 1 if in_a_row else 1
        if failures > RESTARTS:
            raise error
        counters.restarts += 1
        survived |= had
        if not clients.concerns_all(error):
            survived.clear()  # whose record it is shows as it does where one ends the process
        elif failures == RESTARTS:
            survived |= {at: standing._replace(starts=0) for at, standing in survived.items()}
        facts = {"failures": failures, "error": str(error)}
        known = isinstance(error, ConfigError)  # says all there is to say
        logger.error("starting again from the last commit", extra=facts, exc_info=None if known else error)
        sleep(min(2.0 ** (failures - 1), LONGEST_PAUSE), stopping)


class Ended(NamedTuple):
    """How a worker has ended. Without an error: in order."""

    error: Exception | None
    standings: dict[Partition, Standing]  # of the partitions that it had last
    has_progressed: bool


def _run_one(build: Callable[[ExitStack], Runs]) -> Ended:
    """Build a worker and let it run. Its clients are closed then: each of them has threads and connections."""
    with ExitStack() as opened:
        worker = build(opened)
        try:
            worker.run()
            error = None
        except Exception as raised:
            error = raised
    intake = worker.intake
    standings = {at: offsets.standing for at, offsets in intake.former.items()}
    return Ended(error, standings, intake.has_progressed)


def _free_memory(error: Exception | None) -> None:
    """That of the worker which has ended so.

    The frames of an error hold it, also where only the log remembers that. And what it is made of holds itself in
    rings, which are not looked for in a long time.
    """
    for each in chain(error):
        traceback.clear_frames(each.__traceback__)
    gc.collect()


def _gather(settings: Settings) -> float:
    """Seconds that a record stays for others: see Intake."""
    return GATHER if settings.delivery == "at_least_once" else min(GATHER_STAGED, settings.commit_interval / 10)


def build_worker(
    refresh: Refresh,
    executor: Executor,
    counters: Counters,
    health: Health,
    stopping: threading.Event,
    refusals: Refusals,
    survived: dict[Partition, Standing],
    membership: Membership,
    opened: ExitStack,
) -> Worker:
    """A worker with clients and memory of its own. Raises ConfigError for properties that the clients refuse.

    `opened` closes what is open then. The consumer is closed by the worker itself: others wait for its partitions.
    """
    config = refresh.current
    settings, row = config.settings, config.row
    with clients.named_properties(settings):
        properties = clients.client_properties(settings, row)
        failures = Failures(row.consumer_name, settings.dead_letters, counters)
        reader = partial(clients.map_reader, properties, settings)
        maps = MapStore(
            map_topic(row.consumer_name),
            config.stores_maps,
            reader,
            lambda: uuid.uuid4().hex[:12],
            counters,
            limits=config.limits,
        )
        topics, timeout = row.topics_input, settings.message_timeout
        locate = locator(properties, topics, timeout, maps.load, counters, refresh.edition, survived, membership)
        opened.enter_context(locate.admin)
        outbox = _outbox(settings, row, properties, counters, failures, refusals)
        opened.callback(outbox.close)
        delivery = _delivery(settings, outbox, maps, counters, partial(clients.is_place_taken, locate.admin, settings))
        consumer = clients.consumer(properties, settings, delivery.on_commit)
        opened.callback(consumer.close)  # where the worker has not come to it
    settle, changed_at = settings.config_refresh + SETTLE, refresh.topics_changed_at
    gather = _gather(settings)
    intake = Intake(
        consumer,
        counters,
        locate.admin,
        tell_mismatches=health.note_mismatches,
        settle=settle,
        topics_changed_at=changed_at,
        gather=gather,
    )
    return Worker(
        topics_input=row.topics_input,
        message_timeout=settings.message_timeout,
        max_pending_bytes=settings.max_pending_bytes,
        commit_interval=settings.commit_interval,
        shutdown_timeout=settings.shutdown_timeout,
        consumer=consumer,
        intake=intake,
        delivery=delivery,
        failures=failures,
        executor=Suspects(executor, lambda: intake.owned.values()),
        locate=locate,
        counters=counters,
        health=health,
        stopping=stopping,
        leave=partial(membership.leave, partial(clients.is_member, locate.admin, settings)),
    )


def _outbox(
    settings: Settings,
    row: Row,
    properties: Mapping[str, Any],
    counters: Counters,
    failures: Failures,
    refusals: Refusals,
) -> Outbox:
    transactional = settings.delivery == "exactly_once"
    identity = transactional_id(row.consumer_name, settings.group_instance_id) if transactional else ""
    records, size = clients.queue_room(properties)
    refusals.pace.at_most(min(records * RESULT_OVERHEAD, size) // 2)
    mute, slow = Mute(), refusals.pace.has_failed
    identified = partial(clients.producer, properties, transactional_id=identity, on_throttle=mute.on_throttle)
    producer = partial(identified, batch_size=refusals.batch_size, is_slow=slow)
    return Outbox(producer, row.topics_output, failures, refusals, counters, mute)


def transactional_id(consumer_name: str, group_instance_id: str) -> str:
    """Of one producer alone in the whole cluster. It begins with the name and a hyphen: rights are granted for those.

    A name holds no slash, so `shop` with `eu-1` is never `shop-eu` with `1`: they would fence each other for ever.
    """
    return f"{consumer_name}-/{group_instance_id}" if group_instance_id else f"{consumer_name}-{uuid.uuid4()}"


def _delivery(
    settings: Settings,
    outbox: Outbox,
    maps: MapStore,
    counters: Counters,
    is_place_taken: Callable[[str], bool] = lambda _member_id: False,
) -> Delivery:
    if settings.delivery == "exactly_once":
        return ExactlyOnce(outbox, maps, counters.commit_time, counters.latency, is_place_taken)
    return AtLeastOnce(outbox, maps, counters.commit_time, counters.latency)


# ---------------------------------------------------------------- check


def check(_arguments: argparse.Namespace) -> int:
    """Try everything that run needs, one line each, and change nothing. Exit 0, or 78 where something must be done."""
    failed = False
    for finding in findings(os.environ):
        failed = failed or bool(finding.problems)
        for problem in finding.problems or ():
            _print_line("✗", finding.subject, problem)
        if not finding.problems:
            _print_line("-" if finding.problems is None else "✓", finding.subject, finding.seen)
    return EX_CONFIG if failed else 0


def _print_line(mark: str, subject: str, text: str) -> None:
    encoding = sys.stdout.encoding
    try:
        mark.encode(encoding)
    except UnicodeEncodeError:
        mark = {"✓": "ok  ", "✗": "FAIL"}[mark]
    print(f"{mark} {subject:12} {text}".encode(encoding, "replace").decode(encoding))


# ---------------------------------------------------------------- dlq


class DeadLetterTopic(NamedTuple):
    """Where dead letters lie, and who replays them."""

    settings: Settings  # with the name of the replaying group
    row: Row
    topic: str
    stores_maps: bool
    limits: CommitLimits

    def map_store(self, counters: Counters) -> MapStore:
        properties = clients.client_properties(self.settings, self.row)
        reader = partial(clients.map_reader, properties, self.settings)
        return MapStore(
            map_topic(self.row.consumer_name),
            self.stores_maps,
            reader,
            lambda: uuid.uuid4().hex[:12],
            counters,
            limits=self.limits,
        )

    def find(self) -> list[Found]:
        with clients.reader(self.settings, self.row) as consumer:
            return list(letters(consumer, self.topic, self.map_store(Counters()).load))


def dlq(arguments: argparse.Namespace) -> int:
    """Look at the dead letters of CONSUMER_NAME, and replay them once their cause has been mended."""
    settings = _settings()
    row = load(engine(settings.url()), settings.consumer_name)
    settings = settings.overlaid(row.metadatas)
    configure(settings.log_level, consumer_name=settings.consumer_name)
    topic = settings.dead_letters
    cluster = preflight.look(settings, row)
    if topic not in cluster.partitions:
        missing = f"topic {topic} (DLQ_TOPIC) does not exist" if topic else "DLQ_TOPIC is empty"
        raise ConfigError([f"there are no dead letters: {missing}"])
    # A group of its own, whose members are no workers: nothing of theirs may be fenced.
    group = replace(settings, consumer_name=preflight.replay_group(row), group_instance_id="")
    written = {dlq_replay: row.topics_output, dlq_discard: ()}.get(arguments.dlq_command)
    if problems := preflight.missing_dead_letter_rights(settings, row, cluster, group.consumer_name, written):
        raise ConfigError(problems)
    stores_maps = cluster.embedded or map_topic(row.consumer_name) in cluster.partitions
    limits = preflight.commit_limits(cluster)
    code: int = arguments.dlq_command(arguments, DeadLetterTopic(group, row, topic, stores_maps, limits))
    return code


def dlq_list(arguments: argparse.Namespace, dead: DeadLetterTopic) -> int:
    choice = _choice(arguments, dead)
    found = [each for each in dead.find() if choice.takes(each.contents)]
    for line in table(each for each in found if arguments.replayed or not each.done):
        print(line)
    return 0


def dlq_show(arguments: argparse.Namespace, dead: DeadLetterTopic) -> int:
    choice = Choice(dead.row.consumer_name, id=arguments.id)
    found = [each for each in dead.find() if choice.takes(each.contents)]
    for each in found:
        print("\n".join(details(each)))
    if not found:
        print(f"no dead letter of {shown(arguments.id)}")
    return 0 if found else 1


def dlq_replay(arguments: argparse.Namespace, dead: DeadLetterTopic) -> int:
    choice, tally, use = _chosen(arguments, dead), Tally(), Joining(dead.row.topics_input)
    if arguments.dry_run:
        return _rehearse(dead, choice, use, tally, "would be replayed")
    stopping = stop_on_signals()
    settings, counters = dead.settings, Counters(with_headers=1)
    runner = _runner(dead.row.consumer_name, settings, counters.process_time)
    interruptibly(runner.open, stopping)
    executor = _dispatcher(runner, settings, counters, stopping)
    try:
        _go_through(dead, choice, use, executor, counters, tally, stopping)
    finally:
        Calls(runner, executor, settings).close()
    print("\n".join(tally.lines("replayed")))
    return 1 if tally.error or executor.is_stuck else 0


def dlq_discard(arguments: argparse.Namespace, dead: DeadLetterTopic) -> int:
    """Nothing is sent, so that no guarantee is needed; process() is not called, nor its thread started."""
    choice, tally = _chosen(arguments, dead), Tally()
    use = Discarding(tally)
    if arguments.dry_run:
        return _rehearse(dead, choice, use, tally, "would be discarded")
    stopping, counters = stop_on_signals(), Counters()
    dead = dead._replace(settings=replace(dead.settings, delivery="at_least_once"))
    never_opened = SingleThread(lambda message, _name: message, dead.row.consumer_name)
    _go_through(
        dead, choice, use, _dispatcher(never_opened, dead.settings, counters, stopping), counters, tally, stopping
    )
    print("\n".join(tally.lines("discarded")))
    return 1 if tally.error else 0


def _rehearse(dead: DeadLetterTopic, choice: Choice, use: Use, tally: Tally, what: str) -> int:
    rehearse(dead.find(), choice, use, tally)
    print("\n".join(tally.lines(what)))
    return 0


def _go_through(
    dead: DeadLetterTopic,
    choice: Choice,
    use: Use,
    executor: Executor,
    counters: Counters,
    tally: Tally,
    stopping: threading.Event,
) -> None:
    with progress_bar() as progress:
        build = partial(build_replay, dead, choice, use, executor, counters, Refusals(), tally, progress, stopping)
        supervise(build, counters, stopping)


def build_replay(
    dead: DeadLetterTopic,
    choice: Choice,
    use: Use,
    executor: Executor,
    counters: Counters,
    refusals: Refusals,
    tally: Tally,
    progress: Callable[[int, int, Tally], None],
    stopping: threading.Event,
    opened: ExitStack,
) -> Replay:
    """As build_worker, for a run over the dead letters."""
    settings, row = dead.settings, dead.row
    with clients.named_properties(settings):
        properties = clients.client_properties(settings, row)
        maps = dead.map_store(counters)
        failures = Failures(row.consumer_name, "", counters)
        locate = locator(properties, (dead.topic,), settings.message_timeout, maps.load, counters)
        opened.enter_context(locate.admin)
        outbox = _outbox(settings, row, properties, counters, failures, refusals)
        opened.callback(outbox.close)
        delivery = _delivery(settings, outbox, maps, counters)
        consumer = clients.consumer(properties, settings, delivery.on_commit)
        opened.callback(consumer.close)  # where the worker has not come to it
    return Replay(
        topic=dead.topic,
        choice=choice,
        use=use,
        consumer=consumer,
        intake=Intake(consumer, counters, locate.admin),
        delivery=delivery,
        executor=executor,
        locate=locate,
        refusals=refusals,
        largest=int(settings.kafka.get("message.max.bytes", 1_000_000)),
        tally=tally,
        counters=counters,
        progress=progress,
        stopping=stopping,
        shutdown_timeout=settings.shutdown_timeout,
        longest_map=None if dead.stores_maps else dead.limits.metadata,
    )


def _chosen(arguments: argparse.Namespace, dead: DeadLetterTopic) -> Choice:
    """As `_choice`, but not all for want of a word."""
    choice = _choice(arguments, dead)
    if choice == Choice(dead.row.consumer_name) and not arguments.all:
        raise ConfigError(["say which dead letters are meant: --reason, --id, --since, --until or --all"])
    return choice


def _choice(arguments: argparse.Namespace, dead: DeadLetterTopic) -> Choice:
    if arguments.since and arguments.until and arguments.since >= arguments.until:
        raise ConfigError(["--since must be earlier than --until"])
    return Choice(dead.row.consumer_name, arguments.reason, arguments.id, arguments.since, arguments.until)


# ---------------------------------------------------------------- init, demo


def init(arguments: argparse.Namespace) -> int:
    """Create the table consumer_configs where it is missing, and insert or update the row of CONSUMER_NAME."""
    settings, problems = tried(_settings)
    name = settings.consumer_name if settings else str({**user_code.defaults(), **os.environ}.get("CONSUMER_NAME", ""))
    topics, servers = (arguments.topics_input, arguments.topics_output), arguments.kafka_bootstrap_server
    row, problems_of_row = tried(lambda: Row.validated(name, *topics, servers, arguments.metadatas))
    overlaid, problems_of_metadatas = tried(lambda: (settings or Settings()).overlaid(arguments.metadatas))
    if not settings or not row or not overlaid:
        raise ConfigError(problems + problems_of_row + problems_of_metadatas)
    for warning in overlaid.warnings:
        logger.warning(warning)
    database = engine(settings.url(), create=True)
    print("table consumer_configs", "created" if init_db(database) else "is there")
    inserted = save(database, row)
    print(f"row {name}", "inserted:" if inserted else "updated:", f"{', '.join(row.topics_input)} -> {outputs(row)}")
    return 0


def demo(arguments: argparse.Namespace) -> int:
    """See the worker at work on sample messages: Kafka's client brings a broker along, the database is SQLite."""
    from examples.demo import demo as show  # here, because nothing else of a worker needs it

    def work_watched(settings: Settings, row: Row, stopping: threading.Event) -> int:
        watch = Watch(settings)
        logger.info("status page", extra={"url": _serve(watch)})
        refresh = Refresh(Config(settings, row), lambda current: current, watch.counters, watch.health)
        return work(refresh, stopping, watch)

    return show(arguments.results, work_watched, stop_on_signals())


if __name__ == "__main__":
    sys.exit(main())
