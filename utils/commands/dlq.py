"""`python main.py dlq`: looks at the dead letters of a consumer, and replays or discards them."""

import argparse
import math
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

from config import ConfigError, Settings, UnavailableError
from models import Row, engine, load, map_topic
from utils.commands.command import Commands, Environ, add_command, not_empty, say, settings_of, time_of
from utils.commands.letters import Choice, ListedLetter, details, letters, table
from utils.commands.moments import FORMS
from utils.commands.notes import Commit, bring_back, commits_of, forgotten, not_noted, note, noting
from utils.commands.replay import STOPPED, Discarding, Joining, Replay, ReplayResult, Use, progress_bar, rehearse
from utils.joining.dead_letters import REASONS
from utils.joining.references import Partition
from utils.kafka import client_errors, clients, needed_topics, preflight, rights
from utils.kafka.mute import Mute
from utils.kafka.names import replay_group
from utils.kafka.properties import largest_record
from utils.kafka.wrong_properties import named_properties
from utils.logger import configure_again, shown
from utils.metrics import Counters
from utils.processing.attempts import LONGEST_BACKOFF, Attempts
from utils.processing.single_thread import SingleThread
from utils.running.assembly import KafkaClients, Surroundings, intake_of, links_of, map_store_of
from utils.running.calls import dispatcher_of, opened_calls
from utils.running.lifetime import Stopped, stop_on_signals
from utils.running.refresh import Config
from utils.running.supervision import supervise
from utils.sending.delivery import AtLeastOnce
from utils.sending.failures import Failures
from utils.sending.outbox import Outbox
from utils.sending.refusals import Refusals


def add(commands: Commands) -> None:
    parser = add_command(commands, "dlq", dlq, "list, show, replay and discard what has failed")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    of_list = commands.add_parser("list", help="one line for each dead letter, and counts by error")
    of_list.set_defaults(dlq_command=dlq_list)
    of_list.add_argument("--replayed", action="store_true", help="also those that were replayed or discarded")
    of_show = commands.add_parser("show", help="all that a dead letter holds")
    of_show.set_defaults(dlq_command=dlq_show)
    id_of_show = of_show.add_mutually_exclusive_group()
    id_of_show.add_argument("id", nargs="?", type=not_empty, metavar="ID", default=argparse.SUPPRESS, help="as --id")
    of_replay = commands.add_parser("replay", help="process them once more and send the results")
    of_replay.set_defaults(dlq_command=dlq_replay)
    of_discard = commands.add_parser("discard", help="leave them out from now on: they are of no more use")
    of_discard.set_defaults(dlq_command=dlq_discard)
    for each in (of_replay, of_discard):
        each.add_argument("--all", action="store_true", help="all that were neither replayed nor discarded")
        each.add_argument("--dry-run", action="store_true", help="only say what would be done")
    for options in (of_list, id_of_show, of_replay, of_discard):
        options.add_argument("--id", type=not_empty, help="only those of this id; some have none")
    for each in (of_list, of_show, of_replay, of_discard):
        each.add_argument("--reason", default="", choices=REASONS, help="only those of this reason")
        each.add_argument("--since", type=time_of, metavar="TIME", help=f"not older than: {FORMS}")
        each.add_argument("--until", type=time_of, metavar="TIME", help="older than")


class DeadLetterTopic(NamedTuple):
    """Where dead letters lie, and by what they are replayed: settings with the name of the replaying consumer group."""

    config: Config
    topic: str
    is_noted: bool = False  # what is done is, in the topic of maps
    forgotten: Mapping[int, Commit] = MappingProxyType({})  # what is noted only: brokers keep commits for a week

    @property
    def consumer_name(self) -> str:
        return self.config.row.consumer_name

    def find(self) -> Iterator[ListedLetter]:
        """Those of all consumers, one by one: there may be more than memory holds. ConfigError, UnavailableError."""
        settings, row = self.config.settings, self.config.row
        with client_errors.explained(), clients.reader(settings, row) as consumer:
            yield from letters(consumer, self.topic, self._load_maps, self.forgotten)

    def with_notes(self) -> "DeadLetterTopic":
        """With what brokers have forgotten of what was done: see notes.py. Raises ConfigError, UnavailableError."""
        settings, row = self.config.settings, self.config.row
        admin = KafkaClients(settings, row, Refusals()).admin
        with client_errors.explained(), admin, clients.reader(settings, row) as consumer:
            return self._replace(forgotten=forgotten(consumer, admin, self.topic, row, self._load_maps))

    def bring_back(self) -> None:
        """Commit what brokers have forgotten once more, before a run. Raises ConfigError, UnavailableError.

        As a worker does: a map that is too long for a commit is stored, and the commit refers to it.
        """
        if not self.forgotten:
            return
        settings, row = replace(self.config.settings, delivery="at_least_once"), self.config.row
        ours, failures = KafkaClients(settings, row, Refusals()), Failures(row.consumer_name, "", Counters())
        with client_errors.explained(), clients.reader(settings, row) as consumer:
            outbox = Outbox(partial(ours.producer, on_throttle=Mute().on_throttle), (), failures, Refusals())
            with closing(outbox):
                maps = map_store_of(self.config, ours, Counters())
                maps.load({})
                bring_back(consumer, AtLeastOnce(outbox, maps), self.topic, self.forgotten)

    def note(self) -> bool:
        """What is done, so that it stays known; whether it does."""
        settings, row = self.config.settings, self.config.row
        try:
            with client_errors.explained(), clients.reader(settings, row) as consumer:
                commits = commits_of(consumer, self.topic, self._load_maps)
        except (ConfigError, UnavailableError) as error:
            not_noted(error)
            return False
        return note(settings, row, self.topic, commits)

    def _load_maps(self, commits: Mapping[Partition, str | None]) -> dict[Partition, str]:
        ours = KafkaClients(self.config.settings, self.config.row, Refusals())
        return map_store_of(self.config, ours, Counters()).load(commits)


class Task(NamedTuple):
    """What a run is for: which dead letters, what they are used for, and what has become of them."""

    choice: Choice
    use: Use
    result: ReplayResult


def dlq(arguments: argparse.Namespace, environ: Environ) -> int:
    """Look at the dead letters of CONSUMER_NAME, and replay them once their cause has been fixed."""
    settings, row = configured(environ)
    written = {dlq_replay: row.topics_output, dlq_discard: ()}.get(arguments.dlq_command)
    code: int = arguments.dlq_command(arguments, dead_letter_topic(settings, row, written))
    return code


def configured(environ: Environ) -> tuple[Settings, Row]:
    """The row of CONSUMER_NAME, and the settings with those of the row over them."""
    settings = settings_of(environ)
    row = load(engine(settings.url()), settings.consumer_name)
    settings = settings.overlaid(row.metadatas)
    configure_again(settings.log_level, settings.consumer_name)
    return settings, row


def dead_letter_topic(settings: Settings, row: Row, written: Sequence[str] | None = None) -> DeadLetterTopic:
    """`written`: the topics to which a run over it writes, if it is one. ConfigError: no such topic, or no right."""
    topic = settings.dead_letters
    cluster = preflight.look(settings, row)
    if topic not in cluster.partitions:
        missing = f"topic {topic} (DLQ_TOPIC) does not exist" if topic else "DLQ_TOPIC is empty"
        raise ConfigError([f"there are no dead letters: {missing}"])
    # A consumer group of its own, whose members are no workers: nothing of theirs may be fenced.
    group = replace(settings, consumer_name=replay_group(row), group_instance_id="", dlq_topic="")
    if problems := rights.missing_dead_letter_rights(settings, row, cluster, group.consumer_name, written):
        raise ConfigError(problems)
    others = {*row.topics_input, *rights.hidden_topics(settings, row, cluster)}
    if written and (problems := needed_topics.missing_topics(row, cluster, others)):
        raise ConfigError(problems)  # else process() would be called with every letter, once in each start
    is_noted = (notes := map_topic(row.consumer_name)) in cluster.partitions
    unread = [] if cluster.embedded or is_noted else [f"topic {notes} does not exist"]
    if is_noted and (unread := rights.missing_map_rights(settings, row, cluster, ["READ"])):
        not_noted(ConfigError(unread))
        is_noted = False  # nor may a note hide what others have noted there, and this run cannot see
    limits = preflight.commit_limits(settings, row, cluster)
    config = Config(group, row, cluster.embedded or is_noted, limits, unread_maps=tuple(unread))
    dead = DeadLetterTopic(config, topic, is_noted)
    return dead.with_notes() if is_noted else dead


def dlq_list(arguments: argparse.Namespace, dead: DeadLetterTopic) -> int:
    choice = _choice(arguments, dead)
    found = (each for each in dead.find() if choice.takes(each.contents))
    for line in table(each for each in found if arguments.replayed or not each.done):
        say(line)
    return 0


def dlq_show(arguments: argparse.Namespace, dead: DeadLetterTopic) -> int:
    choice = _choice(arguments, dead)
    if choice == Choice(dead.consumer_name):
        raise ConfigError(["say which dead letters are meant: an ID, --reason, --since or --until"])
    found = 0
    for each in dead.find():
        if choice.takes(each.contents):
            found += 1
            say("\n".join(details(each)))
    if not found:
        say(f"no dead letter of {shown(arguments.id)}" if arguments.id else "no such dead letter")
    return 0 if found else 1


def dlq_replay(arguments: argparse.Namespace, dead: DeadLetterTopic) -> int:
    result = ReplayResult()
    task = Task(_chosen(arguments, dead), Joining(dead.config.row.topics_input), result)
    if arguments.dry_run:
        return _rehearse(dead, task, "would be replayed")
    dead.bring_back()
    result.error = STOPPED  # until it has come to its end
    stopping, counters = stop_on_signals(), Counters(with_headers=1)
    try:
        settings = replace(dead.config.settings, consumer_name=dead.consumer_name)  # that process() is given, as ever
        calls = opened_calls(settings, counters, stopping, attempts_of_replay(settings))
    except Stopped:
        say("\n".join(result.lines("replayed")))
        return 1
    executor = calls.dispatcher
    try:
        around = Surroundings(executor=executor, counters=counters, refusals=Refusals(stays=True))
        _go_through(dead, task, around, stopping)
    finally:
        calls.close()
    say("\n".join(result.lines("replayed")))
    return 1 if result.error or result.failed or executor.is_stuck else 0


def attempts_of_replay(settings: Settings) -> Attempts:
    """Somebody waits for its end. So no circuit opens, and what asks to be tried much later stays for the next time:
    most of what is replayed has failed before, and where all of it fails again, that tells of no outage.
    """
    return Attempts(
        settings.process_attempts, settings.retry_backoff, random.random, outage=math.inf, patience=LONGEST_BACKOFF
    )


def dlq_discard(arguments: argparse.Namespace, dead: DeadLetterTopic) -> int:
    """Nothing is sent, so that no guarantee is needed; process() is not called, nor its thread started."""
    result = ReplayResult()
    task = Task(_chosen(arguments, dead), Discarding(result), result)
    if arguments.dry_run:
        return _rehearse(dead, task, "would be discarded")
    dead.bring_back()
    result.error = STOPPED  # until it has come to its end
    stopping, counters = stop_on_signals(), Counters()
    settings = replace(dead.config.settings, delivery="at_least_once")
    dead = dead._replace(config=replace(dead.config, settings=settings))
    never_opened = SingleThread(lambda message, _name: message, dead.consumer_name)
    executor = dispatcher_of(never_opened, settings, counters, stopping)
    _go_through(dead, task, Surroundings(executor=executor, counters=counters), stopping)
    say("\n".join(result.lines("discarded")))
    return 1 if result.error else 0


def _rehearse(dead: DeadLetterTopic, task: Task, what: str) -> int:
    rehearse(dead.find(), *task)
    say("\n".join(task.result.lines(what)))
    return 0


def _go_through(dead: DeadLetterTopic, task: Task, around: Surroundings, stopping: threading.Event) -> None:
    with progress_bar() as progress, noting(dead.note) if dead.is_noted else nullcontext():
        build = partial(build_replay, dead, task, progress, around, stopping)
        supervise(build, around.counters, stopping)


def build_replay(
    dead: DeadLetterTopic,
    task: Task,
    progress: Callable[[int, int, ReplayResult], None],
    around: Surroundings,
    stopping: threading.Event,
    opened: ExitStack,
) -> Replay:
    """As build_worker, for a run over the dead letters."""
    config, settings = dead.config, dead.config.settings
    with named_properties(settings):
        ours = KafkaClients(settings, config.row, around.refusals)
        opened.enter_context(ours.admin)
        links = links_of(config, (dead.topic,), ours, around, opened)
    return Replay(
        topic=dead.topic,
        choice=task.choice,
        use=task.use,
        consumer=links.consumer,
        intake=intake_of(links, around),
        delivery=links.delivery,
        executor=around.executor,
        locate=links.locate,
        refusals=around.refusals,
        largest=largest_record(settings.kafka),
        room=settings.max_pending_bytes // 2,
        result=task.result,
        counters=around.counters,
        progress=progress,
        stopping=stopping,
        shutdown_timeout=settings.shutdown_timeout,
        longest_map=None if config.stores_maps else config.limits.metadata,
    )


def _chosen(arguments: argparse.Namespace, dead: DeadLetterTopic) -> Choice:
    """As `_choice`, but not all for want of a word."""
    choice = _choice(arguments, dead)
    if choice == Choice(dead.consumer_name) and not arguments.all:
        raise ConfigError(["say which dead letters are meant: --reason, --id, --since, --until or --all"])
    return choice


def _choice(arguments: argparse.Namespace, dead: DeadLetterTopic) -> Choice:
    if arguments.since and arguments.until and arguments.since >= arguments.until:
        raise ConfigError(["--since must be earlier than --until"])
    return Choice(dead.consumer_name, arguments.reason, arguments.id or "", arguments.since, arguments.until)
