"""`main.py check`: everything that a worker needs is tried, one finding each, and nothing is changed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from config import ConfigError, Settings, UnavailableError, masked
from models import Row, engine, load, map_topic, ping
from utils import kafka, preflight, user_code

T = TypeVar("T")


class Finding(NamedTuple):
    """What became of one check: its problems (none: all is well; None: it could not be told), and what was seen."""

    subject: str
    problems: Sequence[str] | None
    seen: str = ""


def findings(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Each check in turn, as far as the ones before have found what it needs."""
    settings, problems = _settings_to_try(environ)
    yield Finding("settings", problems, "all valid")
    code, problems = tried(user_code.load)
    yield Finding("worker.py", problems, f"process() is {'a coroutine' if code and code.is_async else 'a function'}")
    if settings is None:
        yield Finding("the rest", None, "not tried: it needs the settings")
        return
    url = settings.url()
    _, problems = tried(lambda: ping(engine(url)))
    yield Finding("database", problems, masked(url))
    if problems:
        yield Finding("the rest", None, "not tried: it needs the database")
        return
    row, problems = tried(lambda: load(engine(url), settings.consumer_name))
    if row is None:
        yield Finding("row", problems)
        yield Finding("the rest", None, "not tried: it needs the row")
        return
    overlaid, problems = tried(lambda: settings.overlaid(row.metadatas))
    yield Finding("row", problems, f"{row.consumer_name} joins {', '.join(row.topics_input)}")
    yield from (Finding("warning", None, warning) for warning in (overlaid or settings).warnings)
    yield from _findings_of_kafka(overlaid or settings, row)


def _findings_of_kafka(settings: Settings, row: Row) -> Iterator[Finding]:
    _, problems = tried(lambda: kafka.try_properties(settings, row))
    yield Finding("properties", problems, "taken by Kafka's clients")
    cluster, problems = tried(lambda: preflight.look(settings, row))
    if cluster is None:
        yield Finding("broker", problems)
        yield Finding("the rest", None, "not tried: it needs the broker")
        return
    yield Finding("broker", [], ", ".join(cluster.brokers))
    yield Finding("topics", preflight.missing_topics(row, cluster), "all there")
    counts = [f"{topic} has {cluster.partitions[topic]}" for topic in row.topics_input if topic in cluster.partitions]
    yield Finding("partitions", preflight.unequal_partitions(row, cluster), ", ".join(counts))
    for subject, operation, topics, seen in (
        ("reading", "READ", row.topics_input, "inputs and group"),
        ("writing", "WRITE", row.topics_output, outputs(row)),
    ):
        lacking = preflight.missing_rights(settings, row, operation)
        if lacking is None:
            seen = "not checked: no answer"
        elif not lacking and not cluster.partitions.keys() >= set(topics):
            lacking, seen = None, "not checked: a topic is missing"
        yield Finding(subject, lacking, seen)
    yield _finding_of_dead_letters(settings, row, cluster)
    yield _finding_of_maps(settings, row, cluster)


def _finding_of_dead_letters(settings: Settings, row: Row, cluster: preflight.Cluster) -> Finding:
    found, unavailable = tried(lambda: preflight.provide_dead_letter_topic(settings, row, cluster, only_try=True))
    name = settings.dead_letters
    there = "" if cluster.embedded or name in cluster.partitions else ": run will create it"
    seen = f"topic {name}{there}" if name else "off (DLQ_TOPIC is empty): what fails is logged and discarded"
    return Finding("dead letters", found or unavailable, seen)


def _finding_of_maps(settings: Settings, row: Row, cluster: preflight.Cluster) -> Finding:
    """The topic of maps. At least once can do without it."""
    found, unavailable = tried(lambda: preflight.provide_map_topic(settings, row, cluster, only_try=True))
    problems, name = found or unavailable, map_topic(row.consumer_name)
    if problems and settings.delivery == "at_least_once":
        return Finding("maps", None, f"commits pause when a map does not fit: {problems[0]}")
    is_there = cluster.embedded or name in cluster.partitions
    return Finding("maps", problems, f"topic {name}" + ("" if is_there else ": run will create it"))


def _settings_to_try(environ: Mapping[str, str]) -> tuple[Settings | None, list[str]]:
    """The settings and their problems; the defaults in place of what is wrong, so that the other checks can go on."""
    settings, problems = tried(lambda: Settings.read(environ))
    wrong = {problem.split()[0] for problem in problems}
    if problems:
        settings, _ = tried(lambda: Settings.read({k: v for k, v in environ.items() if k not in wrong}))
    return settings, problems


def tried(step: Callable[[], T]) -> tuple[T | None, list[str]]:
    """The value of step() and no problem, or none and its problems."""
    try:
        return step(), []
    except ConfigError as error:
        return None, error.problems
    except UnavailableError as error:
        return None, [str(error)]


def outputs(row: Row) -> str:
    return ", ".join(row.topics_output) or "nothing (topics_output is empty)"
