"""`python main.py try`: process() of this working copy on real messages, before it is deployed. Changes nothing."""

import argparse
import math
import random
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from config import ConfigError, Settings
from models import Row
from utils.commands.cases import DIRECTORY as CASES
from utils.commands.cases import save
from utils.commands.command import Commands, Environ, add_command, not_empty, say, settings_of
from utils.commands.dlq import configured, dead_letter_topic
from utils.commands.letters import Choice, ListedLetter
from utils.commands.samples import FIRST, Backwards, Samples, dead, last, of_file, of_ids
from utils.commands.trial import Timed, Trial, cases, failed, made_anonymous, report, run
from utils.joining.aggregator import Group
from utils.kafka import client_errors, clients, needed_topics, preflight
from utils.kafka.lookups import EARLIEST, LATEST, offsets_at
from utils.kafka.properties import largest_record
from utils.kafka.wrong_properties import named_properties
from utils.logger import logger
from utils.metrics import Counters
from utils.processing import user_code
from utils.processing.attempts import Attempts
from utils.running.calls import opened_calls
from utils.running.lifetime import Stopped, stop_on_signals
from utils.running.streams import others_print_to_stderr

DEFAULT = 20  # messages
MOST_READ = 1 << 28  # bytes of messages that are held at most while the window is widened
STOPPED = "stopped"
WARNING = "calls that process() makes to the outside are real: what it writes there is written"


def add(commands: Commands) -> None:
    parser = add_command(commands, "try", try_out, "call process() of these files with real messages, and send nothing")
    source = parser.add_mutually_exclusive_group()
    parser.add_argument("--last", type=_number, metavar="N", help=f"the last N messages that are whole ({DEFAULT})")
    parser.add_argument(
        "--id", type=not_empty, action="append", default=[], metavar="ID", help="only this id; more than once for more"
    )
    source.add_argument("--dlq", action="store_true", help="dead letters that were neither replayed nor discarded")
    source.add_argument("--file", type=Path, metavar="FILE", help="messages as process() gets them, JSON, one a line")
    parser.add_argument("--show", action="store_true", help="show what is in messages and results, and texts of errors")
    parser.add_argument("--json", action="store_true", help="a JSON object a line: each message, then the counts")
    parser.add_argument(
        "--save-tests", action="store_true", help="write what was seen, payload and all, into tests/cases/"
    )
    parser.add_argument(
        "--anonymous",
        type=_fields,
        default=[],
        metavar="FIELDS",
        help="fields, such as content.email,content.name, whose values are replaced before process() sees them",
    )


def _fields(text: str) -> list[str]:
    """None is empty, so that a variable of a shell that is not set shows nobody's values."""
    if fields := [each.strip() for each in text.split(",") if each.strip()]:
        return fields
    raise argparse.ArgumentTypeError("must not be empty")


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of messages")
    return int(text)


def try_out(arguments: argparse.Namespace, environ: Environ) -> int:
    """Call process() of this working copy with messages that are there, and tell what would come of them. Nothing is
    sent or committed, but what process() itself does outside is real. Exit 1 where a message fails, a line of --file is
    none, or nothing is found.
    """
    with others_print_to_stderr():  # what worker.py prints is no line of ours
        settings, samples = _samples(arguments, environ)
        groups = samples.groups
        if arguments.anonymous:
            groups = made_anonymous(groups, arguments.anonymous)
        code = user_code.load()
        timed, trial = Timed(code.process), Trial(settings.consumer_name)
        if groups:
            logger.warning(WARNING, extra={"messages": len(groups)})
            trial = _tried(groups, settings, code._replace(process=timed.wrapped()))
    for line in report(trial, samples, timed, show=arguments.show, as_json=arguments.json):
        say(line)
    if arguments.save_tests:
        try:
            written = save(cases(trial), CASES)
        except OSError as error:
            raise ConfigError([f"--save-tests: {CASES} cannot be written ({error.strerror})"]) from None
        left_out = len(trial.outcomes) - len(written)
        why = f" ({left_out} left out: no test would see it fail as it did)" if left_out else ""
        print(f"{len(written)} case{'' if len(written) == 1 else 's'} in {CASES}{why}", file=sys.stderr)
    wrong_lines = arguments.file and samples.invalid  # in topics they are the producers', and no worker fails by them
    return 1 if wrong_lines or failed(trial, samples, arguments.id) else 0


def _tried(groups: Sequence[Group], settings: Settings, code: user_code.UserCode) -> Trial:
    stopping, counters = stop_on_signals(), Counters()
    once = Attempts(1, settings.retry_backoff, random.random, outage=math.inf)
    try:
        calls = opened_calls(settings, counters, stopping, once, code=code)
    except Stopped:
        return Trial(settings.consumer_name, not_called=len(groups), why_not=STOPPED)
    largest = largest_record(settings.kafka)
    try:
        trial = run(groups, calls.dispatcher, stopping, settings.consumer_name, largest)
    finally:
        calls.close()
    trial.why_not = "a call hung" if calls.dispatcher.is_stuck else STOPPED
    return trial


# ---------------------------------------------------------------- Which messages are tried.


def _samples(arguments: argparse.Namespace, environ: Environ) -> tuple[Settings, Samples]:
    """The messages that are meant. Of a file, without Kafka and without a database."""
    if arguments.file:
        return settings_of(environ, name="try", offline=True), _from_file(arguments)
    settings, row = configured(environ)
    if arguments.dlq:
        return settings, _from_dead_letters(arguments, row, dead_letter_topic(settings, row).find())
    cluster = preflight.look(settings, row)
    if problems := needed_topics.missing_topics(replace(row, topics_output=()), cluster):
        raise ConfigError(problems)
    topics = {topic: cluster.partitions[topic] for topic in row.topics_input}
    with named_properties(settings):
        consumer = clients.onlooker(clients.client_properties(settings, row), row.consumer_name)
    with closing(consumer), client_errors.explained():
        return settings, _from_topics(arguments, consumer, topics, settings.max_pending_bytes)


def _from_file(arguments: argparse.Namespace) -> Samples:
    """ConfigError where it cannot be read."""
    try:
        found = of_file(arguments.file)
    except OSError as error:
        raise ConfigError([f"--file {arguments.file} cannot be read: {error.strerror}"]) from None
    found.groups = [group for group in found.groups if not arguments.id or group.id in arguments.id]
    return found.last(arguments.last) if arguments.last else found


def _from_dead_letters(arguments: argparse.Namespace, row: Row, found: Iterable[ListedLetter]) -> Samples:
    chosen = Choice(row.consumer_name)
    open_ones = (each for each in found if not each.done and chosen.takes(each.contents))
    wanted = [each for each in open_ones if not arguments.id or each.contents.id in arguments.id]
    samples = dead(wanted, row.topics_input)
    return samples.last(arguments.last) if arguments.last else samples


def _from_topics(arguments: argparse.Namespace, consumer: Consumer, topics: Mapping[str, int], most: float) -> Samples:
    """`topics`: the input topics in the order of the row, and how many partitions each has."""
    most = min(most, MOST_READ)

    def make(partitions: Collection[tuple[str, int]], first: int = FIRST) -> Backwards:
        asked = [TopicPartition(*at) for at in sorted(partitions)]
        begins, ends = offsets_at(consumer, asked, EARLIEST), offsets_at(consumer, asked, LATEST)
        return Backwards(consumer, begins, ends, first, arguments.id)

    if arguments.id:
        return of_ids(make, topics, arguments.id)
    number = arguments.last or DEFAULT
    every = [(topic, each) for topic, count in topics.items() for each in range(count)]
    return last(make(every, max(FIRST, 2 * number // max(topics.values()))), list(topics), number, most)
