"""`python main.py dlq`: looks at the dead letters of a consumer, and replays or discards them."""

import argparse
import threading
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

from config import ConfigError, Settings
from models import Row, engine, load, map_topic
from utils.commands.command import Commands, Environ, add_command, settings_of
from utils.commands.letters import Choice, Found, details, letters, shown, table
from utils.commands.moments import FORMS, moment
from utils.commands.replay import Discarding, Joining, Replay, Tally, Use, progress_bar, rehearse
from utils.joining.dead_letters import REASONS
from utils.kafka import clients, preflight
from utils.kafka.limits import CommitLimits
from utils.logger import configure
from utils.metrics import Counters
from utils.processing.executor import Executor, SingleThread
from utils.reading.intake import Intake
from utils.reading.locator import locator
from utils.running.assembly import delivery_of, outbox_of
from utils.running.calls import Calls, dispatcher_of, runner_of
from utils.running.lifetime import interruptibly, stop_on_signals
from utils.running.supervision import supervise
from utils.sending.failures import Failures
from utils.sending.map_store import MapStore
from utils.sending.outbox import Refusals


def add(commands: Commands) -> None:
    parser = add_command(commands, "dlq", dlq, "list, show, replay and discard what has failed")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
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


def dlq(arguments: argparse.Namespace, environ: Environ) -> int:
    """Look at the dead letters of CONSUMER_NAME, and replay them once their cause has been mended."""
    settings = settings_of(environ)
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
    runner = runner_of(dead.row.consumer_name, settings, counters.process_time)
    interruptibly(runner.open, stopping)
    executor = dispatcher_of(runner, settings, counters, stopping)
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
        dead, choice, use, dispatcher_of(never_opened, dead.settings, counters, stopping), counters, tally, stopping
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
        outbox = outbox_of(settings, row, properties, counters, failures, refusals)
        opened.callback(outbox.close)
        delivery = delivery_of(settings, outbox, maps, counters)
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
