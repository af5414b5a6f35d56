"""`main.py trace ID`: where a message is now, told from topics, commits and maps alone."""

import argparse
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from config import ConfigError, Settings
from models import ListedRow, engine, load_all
from utils.commands.command import Commands, Environ, add_command, not_empty, say, settings_of, time_of
from utils.commands.moments import FORMS
from utils.fleet.journeys import Journey, follow
from utils.fleet.looks import Subject, subject_of
from utils.fleet.search import Search, Wanted
from utils.joining.journey import Sighting, Visit
from utils.kafka import client_errors, client_log, clients
from utils.kafka.groups import Brokers
from utils.kafka.wrong_properties import named_properties
from utils.logger import shown

SINCE = timedelta(hours=2)
PATIENCE = 60.0  # seconds that reading may take
_REQUEST = 3.0  # seconds after which a cluster that says nothing is taken to be away


def add(commands: Commands) -> None:
    parser = add_command(commands, "trace", trace, "tell where a message is now, and what each consumer has made of it")
    parser.add_argument("id", type=not_empty, metavar="ID")
    parser.add_argument("--since", type=time_of, metavar="TIME", help=f"no older messages (2h): {FORMS}")
    parser.add_argument("--everywhere", action="store_true", help="in all partitions, not only where a key's hash says")
    parser.add_argument("--show", action="store_true", help="show what is in the messages, and texts of errors")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def trace(arguments: argparse.Namespace, environ: Environ) -> int:
    """Follow a message through all consumers of the table: where it was found, and what each has made of it. Reads
    only, and needs no worker to run. Exit 1 where it was not found, or nothing could be looked at.
    """
    since = arguments.since or datetime.now(UTC) - SINCE
    environment = settings_of(environ, name="trace")
    some, problems = subjects(load_all(engine(environment.url())), environment)
    journeys = all_traced(Wanted(arguments.id, since.timestamp(), arguments.everywhere), some)
    if arguments.json:
        say(json.dumps(_as_json(arguments.id, since, journeys, problems, arguments.show)))
    else:
        for line in lines(
            arguments.id, since, journeys, problems, show=arguments.show, everywhere=arguments.everywhere
        ):
            say(line)
    return 0 if any(each.sightings for each in journeys.values()) else 1


def subjects(rows: Sequence[ListedRow], environment: Settings) -> tuple[list[Subject], list[str]]:
    """The consumers, and why some rows are not looked at. `environment`: the settings that all have in common."""
    some, problems = list[Subject](), list[str]()
    for each in rows:
        try:
            some.append(subject_of(each, environment))
        except ConfigError as error:
            why = "; ".join(problem.removeprefix(f"row {each.consumer_name}: ") for problem in error.problems)
            problems.append(f"row {each.consumer_name} is not looked at: {why}")
    return some, problems


def all_traced(wanted: Wanted, some: Iterable[Subject]) -> dict[str, Journey]:
    """By cluster, whose name is what the rows call it. The clusters are asked side by side."""
    by_way: dict[object, list[Subject]] = {}
    for each in some:
        by_way.setdefault(each.cluster, []).append(each)
    with ThreadPoolExecutor(len(by_way) or 1) as pool:
        clusters: dict[str, list[Subject]] = {}
        unseen: list[tuple[str, Journey]] = []
        for told, those in zip(pool.map(_cluster_id, by_way.values()), by_way.values(), strict=True):
            if isinstance(told, Journey):
                unseen.append((those[0].row.bootstrap_servers, told))
            else:
                clusters.setdefault(told, []).extend(those)
        look = partial(traced, wanted)
        names = [", ".join(dict.fromkeys(each.row.bootstrap_servers for each in those)) for those in clusters.values()]
        journeys = dict(zip(names, pool.map(look, clusters.values()), strict=True))
    for name, told in unseen:  # at the brokers of others, perhaps, but with another login than theirs
        seen = journeys.get(name, Journey(is_seen=False))
        journeys[name] = replace(seen, not_seen=[*seen.not_seen, *told.not_seen])
    return journeys


def _cluster_id(some: Sequence[Subject]) -> str | Journey:
    """What a cluster calls itself, whichever of its brokers a row names; or why it does not tell."""
    one, heard = some[0], list[KafkaError]()
    try:
        with named_properties(one.settings):
            admin = AdminClient(_properties(one, heard.append))
        with admin:
            try:
                return str(admin.describe_cluster(request_timeout=_REQUEST).result().cluster_id)
            except KafkaException as error:  # that it took too long tells less than what was heard meanwhile
                admin.poll(0)
                told = (each for each in heard if each.code() != KafkaError._ALL_BROKERS_DOWN)
                return _unseen(some, KafkaException(next(told, error.args[0])))
    except (KafkaException, ConfigError) as error:
        return _unseen(some, error)


def traced(wanted: Wanted, some: Sequence[Subject]) -> Journey:
    """Through the consumers of one cluster. What keeps it from looking is in `not_seen`."""
    one = some[0]
    try:
        with ExitStack() as stack:
            with named_properties(one.settings):
                admin = stack.enter_context(AdminClient(_properties(one)))
                consumer = clients.onlooker(_properties(one), one.row.consumer_name)
            stack.callback(consumer.close)
            now = time.monotonic()
            search = Search(admin, consumer, wanted, now + PATIENCE)
            brokers = Brokers(admin, partial(clients.prober, _properties(one)), now + PATIENCE)
            return follow(some, brokers, search)
    except (KafkaException, ConfigError) as error:
        return _unseen(some, error)


def _unseen(some: Sequence[Subject], error: KafkaException | ConfigError) -> Journey:
    why = "; ".join(error.problems) if isinstance(error, ConfigError) else client_errors.explain(error.args[0]).line
    names = ", ".join(each.row.consumer_name for each in some)
    return Journey(not_seen=[f"cluster {some[0].row.bootstrap_servers}, of {names}: {why}"], is_seen=False)


def _properties(one: Subject, on_error: Callable[[KafkaError], None] = client_log.unheard) -> dict[str, Any]:
    """A cluster that is not there is told in a line of the answer, and not in the log."""
    return {**clients.quiet_properties(one.settings, one.row, on_error), "client.id": "trace"}


# ---------------------------------------------------------------- What is told of it.


def lines(
    id: str,
    since: datetime,
    journeys: Mapping[str, Journey],
    problems: Sequence[str],
    *,
    show: bool,
    everywhere: bool = False,
) -> Iterator[str]:
    yield f"{shown(id)}, in messages since {since.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    if not any(each.is_seen for each in journeys.values()):
        yield "  cannot tell: no cluster was looked at"
    elif not any(each.sightings for each in journeys.values()):
        yield "  not found: neither in the topics that the consumers read, nor in those that they write"
        if not everywhere:
            yield "  looked at: the partitions in which this id is, if it is the key; --everywhere looks at all"
    for name, journey in journeys.items():
        if len(journeys) > 1 and journey.sightings:
            yield f"cluster {name}"
        for topic in _in_order(journey):
            for each in journey.sightings[topic]:
                yield from _record_lines(each, show)
            for visit in journey.visits:
                if _first_topic(visit) == topic:
                    yield from _visit_lines(visit, show)
    yield from _not_seen_lines(journeys, problems)


def _in_order(journey: Journey) -> list[str]:
    """Topics as the consumers along the chain name them."""
    named = [
        topic for visit in journey.visits for topic in (*visit.consumer.topics_input, *visit.consumer.topics_output)
    ]
    return [topic for topic in dict.fromkeys([*named, *journey.sightings]) if topic in journey.sightings]


def _first_topic(visit: Visit) -> str:
    """After whose records it is told: the last of its inputs that has some."""
    return max(visit.standings, key=lambda each: visit.consumer.topics_input.index(each[0].topic))[0].topic


def _record_lines(each: Sighting, show: bool) -> Iterator[str]:
    yield f"  {each.at}  {_time(each.time)}" + (f"  no valid message: {each.problem}" if each.problem else "")
    if show:
        yield f"      {shown((each.value or b'').decode(errors='backslashreplace'))}"


def _visit_lines(visit: Visit, show: bool) -> Iterator[str]:
    yield f"    {visit.consumer.name}: {summary(visit)}"
    if len(visit.standings) > 1:
        yield from (f"        {each.at} {how}" for each, how in visit.standings)
    if visit.letter:
        about = visit.letter.contents.about
        error = " ".join(filter(None, [about.get("error.class", ""), about.get("error.message", "") if show else ""]))
        what = error or f"missing {about.get('missing.topics', '')}"
        yield f"        dead letter {visit.letter.at}: {shown(visit.letter.contents.reason)}, {shown(what)}"
    yield from (f"        result {each.at}  {_time(each.time)}" for each in visit.consumer.results)
    yield from (f"        {remark}" for remark in visit.remarks)


def summary(visit: Visit) -> str:
    """The state in a line."""
    match visit.state:
        case "waiting":
            for_what = [f"a message in {topic}" for topic in visit.lacking]
            for_what += [f"that of {topic}, which is there and not read yet" for topic in visit.unread]
            return (
                f"waiting for {' and '.join(for_what)}, since {_time(visit.since)};"
                f" given up after {_time(visit.until)}, when all that could hold it has been read"
            )
        case "in process":
            return "in process(), or its result is on the way"
        case "not read":
            return "in process or not yet read: no commit says"
        case "dead-lettered":
            return "dead-lettered" + (", and replayed or discarded since" if visit.letter and visit.letter.done else "")
        case "cannot tell":
            return "cannot tell: what the consumer group has committed cannot be read"
    return "done"


def _not_seen_lines(journeys: Mapping[str, Journey], problems: Sequence[str]) -> Iterator[str]:
    told = [*problems, *(line for each in journeys.values() for line in each.not_seen)]
    if told:
        yield "not seen:"
        yield from (f"  {shown(line)}" for line in told)


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "at an unknown time"
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError):  # a producer may have taken microseconds for milliseconds
        return f"{seconds:.0f} s after 1970"


def _as_json(
    id: str, since: datetime, journeys: Mapping[str, Journey], problems: Sequence[str], show: bool
) -> dict[str, Any]:
    return {
        "id": id,
        "since": since.isoformat(),
        "clusters": [
            {
                "brokers": name,
                "records": [_record(each, show) for topic in _in_order(journey) for each in journey.sightings[topic]],
                "consumers": [_visit(each, show) for each in journey.visits],
                "not_seen": list(journey.not_seen),
            }
            for name, journey in journeys.items()
        ],
        "not_seen": list(problems),
    }


def _record(each: Sighting, show: bool) -> dict[str, Any]:
    told: dict[str, Any] = {"at": each.at, "time": each.time}
    if each.problem:
        told["problem"] = each.problem
    if show:
        told["value"] = None if each.value is None else each.value.decode(errors="backslashreplace")
    return told


def _visit(visit: Visit, show: bool) -> dict[str, Any]:
    told: dict[str, Any] = {
        "consumer": visit.consumer.name,
        "state": visit.state,
        "records": {each.at: how for each, how in visit.standings},
        "results": [each.at for each in visit.consumer.results],
        "remarks": visit.remarks,
    }
    if visit.state == "waiting":
        told |= {"waits_for": [*visit.lacking, *visit.unread], "since": visit.since, "until": visit.until}
    if visit.letter:
        hidden = set() if show else {"error.message"}
        about = {name: text for name, text in visit.letter.contents.about.items() if name not in hidden}
        told["dead_letter"] = {"at": visit.letter.at, "replayed_or_discarded": visit.letter.done, **about}
    return told
