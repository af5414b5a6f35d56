"""What a worker needs before it can begin: one list of steps, which `run` takes and `check` only tries.

So nothing that `run` needs can be missing in `check`, and both say the same of it.
"""

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, TypeVar

from confluent_kafka import KafkaException
from sqlalchemy import Engine

from config import ConfigError, Settings, UnavailableError, masked
from models import Row, engine, load, load_all, map_topic, ping
from utils.kafka import client_errors, clients, needed_topics, preflight, rights, topic_configs
from utils.kafka.limits import CommitLimits, least_commit
from utils.kafka.names import Named, collisions, replay_group
from utils.kafka.properties import largest_record, session_timeout
from utils.logger import logger
from utils.monitoring.report import duration
from utils.monitoring.status import Address, Health, ask, from_here, place, serve, server_of
from utils.monitoring.watch import Watch
from utils.processing import user_code

A_WEEKEND = 3 * 86_400.0  # seconds for which a worker may well be stopped
A_TOPIC_IS_MISSING = "not checked: a topic is missing"
T = TypeVar("T")


class Seen(NamedTuple):
    """What a step has found. `untold`: it could not be tried; `lacking`: a worker does without, and says so."""

    text: str
    how: Literal["well", "untold", "lacking"] = "well"


@dataclass(slots=True, kw_only=True)
class Start:
    """A worker on its way to begin: what the steps need from outside, and what those before have found."""

    environ: Mapping[str, str]
    listen: Callable[[Settings], str]
    """Answer HTTP requests there; the address. Raises ConfigError."""
    only_try: bool = False  # create nothing; so it is, too, once something was wrong
    patience: float = 0.0  # seconds for which a broker that does not tell rights is asked again
    alone: Callable[[preflight.Cluster], bool] = lambda _cluster: False
    """Whether this worker has, or may get, all partitions to itself."""
    health: Health = field(default_factory=Health)
    """What HTTP requests are answered by, as soon as they are."""

    environment: Settings = field(init=False)
    settings: Settings = field(init=False)  # those of the row over those of the environment
    address: str = field(init=False)
    database: Engine = field(init=False)
    row: Row = field(init=False)
    properties: bool = field(init=False)  # Kafka's clients take them
    cluster: preflight.Cluster = field(init=False)
    stores_maps: bool = False
    unread_maps: tuple[str, ...] = ()  # why stored ones cannot be read; nothing: they can
    limits: CommitLimits = field(default_factory=CommitLimits)

    @property
    def partitions(self) -> int:
        """Of all input topics together."""
        return sum(self.cluster.partitions.get(topic, 0) for topic in self.row.topics_input)

    def let_go(self) -> None:
        """Of the client that has asked the brokers: who has questions yet makes another, and a worker has none."""
        if hasattr(self, "cluster"):
            self.cluster = replace(self.cluster, admin=None)


class Step(NamedTuple):
    """`take` gives what it has found, and raises ConfigError or, where waiting may help, UnavailableError."""

    subject: str
    take: Callable[[Start], Iterator[Seen]]
    needs: Literal["", "settings", "database", "row", "properties", "cluster"]
    """Of what those before have found. After a problem those are taken that need the same, or nothing."""


# ---------------------------------------------------------------- The steps.


def _settings(start: Start) -> Iterator[Seen]:
    own: Mapping[str, object] = {}
    problems: list[str] = []
    try:
        own = user_code.defaults()
    except ConfigError as error:
        problems += error.problems
    settings, found = tried(lambda: Settings.read(start.environ, own))
    problems += found
    if problems:  # the defaults in place of what is wrong, so that other steps can be tried
        wrong = {problem.split()[0] for problem in problems}
        # Without a secret, or with a place that nobody means, the others would only find that.
        if any(name.endswith("_FILE") or name.startswith(("DB_", "DATABASE_URL")) for name in wrong):
            raise ConfigError(problems)
        settings, _ = tried(lambda: Settings.read(_without(wrong, start.environ), _without(wrong, own)))
    if settings:
        start.environment = start.settings = settings
    if problems:
        raise ConfigError(problems)
    yield Seen("all valid")
    yield from _lacking(start.settings.warnings)  # a slip in DB_HOST may be why there is no database


def _without(names: Collection[str], given: Mapping[str, T]) -> dict[str, T]:
    return {name: value for name, value in given.items() if name not in names}


def _worker_py(start: Start) -> Iterator[Seen]:
    before = dict(start.environ)
    with start.health.awaits("the import of worker.py", time.monotonic()):
        code = user_code.load()
    if late := Settings.set_too_late(before, start.environ):
        names = ", ".join(late)
        yield Seen(
            f"worker.py sets {names} in the environment, and the settings were read before: what loads a .env belongs"
            " into defaults.py",
            "lacking",
        )
    around = ", around an `async def` that it must run itself" if code.hides_async else ""
    yield Seen(f"process() is {'a coroutine' if code.is_async else 'a function'}{around}")


def _http(start: Start) -> Iterator[Seen]:
    try:
        start.address = start.listen(start.settings)
        yield Seen(start.address)
    except ConfigError:
        if not (start.only_try and is_worker(start.settings)):
            raise
        yield Seen("not tried: a worker answers there, as it should where this is its own container", "untold")


def _database(start: Start) -> Iterator[Seen]:
    url = start.settings.url()
    database = engine(url, name=start.settings.consumer_name)
    ping(database)
    start.database = database
    yield Seen(masked(url))


def _row(start: Start) -> Iterator[Seen]:
    row = start.row = load(start.database, start.settings.consumer_name)
    start.settings = start.environment.overlaid(row.metadatas)
    yield Seen(f"{row.consumer_name} joins {', '.join(row.topics_input)}")
    if start.settings.paused and start.only_try:  # a worker that runs says so itself
        yield Seen(f"paused: a worker takes nothing in until fleet resume {row.consumer_name}", "lacking")


def _warnings(start: Start) -> Iterator[Seen]:
    yield from _lacking(each for each in start.settings.warnings if each not in start.environment.warnings)


def _names(start: Start) -> Iterator[Seen]:
    """No worker ends by what somebody writes into another row."""
    told = collisions_of(start.row, start.database, start.environment)
    yield from _lacking(told)
    if not told:
        yield Seen("no other row that names one of these brokers takes them")


def _properties(start: Start) -> Iterator[Seen]:
    clients.try_properties(start.settings, start.row)
    start.properties = True
    yield Seen("taken by Kafka's clients")


def _broker(start: Start) -> Iterator[Seen]:
    start.cluster = preflight.look(start.settings, start.row)
    yield Seen(", ".join(start.cluster.brokers))


def _session(start: Start) -> Iterator[Seen]:
    """Else only who joins the consumer group hears of it."""
    timeout = session_timeout(start.settings.kafka)
    if bounds := start.cluster.session_timeouts:
        _must_not([] if bounds[0] <= timeout <= bounds[1] else [client_errors.wrong_session_timeout(timeout)])
        yield Seen(f"may last {timeout} ms")


def _topics(start: Start) -> Iterator[Seen]:
    hidden = rights.hidden_topics(start.settings, start.row, start.cluster)
    _must_not(needed_topics.missing_topics(start.row, start.cluster, hidden))
    yield from _lacking(topic_configs.forgotten_inputs(start.settings, start.row, start.cluster.configs))
    yield Seen(f"no right to see {', '.join(sorted(hidden))}", "untold") if hidden else Seen("all there")


def _partitions(start: Start) -> Iterator[Seen]:
    counts = start.cluster.partitions
    listed = ", ".join(f"{topic} has {counts[topic]}" for topic in start.row.topics_input if topic in counts)
    problems = needed_topics.unequal_partitions(start.row, start.cluster)
    if problems and not start.alone(start.cluster):
        raise ConfigError(problems)
    if problems:
        yield Seen(problems[0], "lacking")
    elif set(start.row.topics_input) <= counts.keys():
        yield Seen(listed)
    else:
        yield Seen(A_TOPIC_IS_MISSING, "untold")


def _reading(start: Start) -> Iterator[Seen]:
    yield _rights(start, "READ", start.row.topics_input, "inputs and consumer group")


def _dead_letters(start: Start) -> Iterator[Seen]:
    settings, row, cluster = start.settings, start.row, start.cluster
    _must_not(needed_topics.provide_dead_letter_topic(settings, row, cluster, only_try=start.only_try))
    name = settings.dead_letters
    few = needed_topics.fewer_replicas(row, cluster, name)
    if why := topic_configs.forgotten_dead_letters(settings, row, cluster.configs) or few:
        yield Seen(why, "lacking")
        return
    there = "" if cluster.embedded or name in cluster.partitions else ": run will create it"
    yield Seen(f"topic {name}{there}" if name else "off (DLQ_TOPIC is empty): what fails is logged and discarded")


def _writing(start: Start) -> Iterator[Seen]:
    largest = largest_record(start.settings.kafka)
    yield from _lacking(topic_configs.narrow_outputs(start.settings, start.row, start.cluster.configs, largest))
    yield _rights(start, "WRITE", start.row.topics_output, outputs(start.row))


def _rights(start: Start, operation: str, topics: Sequence[str], seen: str) -> Seen:
    if start.cluster.embedded:
        return Seen("not checked: this broker does not tell", "untold")
    lacking = rights.missing_rights(start.settings, start.row, start.cluster, operation, start.patience)
    if lacking is None:
        return Seen("not checked: no answer", "untold")
    _must_not(lacking)
    if not start.cluster.partitions.keys() >= set(topics):
        return Seen(A_TOPIC_IS_MISSING, "untold")
    return Seen(seen)


def _transactions(start: Start) -> Iterator[Seen]:
    if start.settings.delivery == "exactly_once" and not start.cluster.embedded:
        _must_not(rights.missing_transactions(start.settings, start.row))
        yield Seen(f"with ids that begin with {start.row.consumer_name}-")


def _replay(start: Start) -> Iterator[Seen]:
    """A worker does not need it, but who is to replay its dead letters one day."""
    settings, row, cluster = start.settings, start.row, start.cluster
    group = replay_group(row)
    if settings.dead_letters and not cluster.embedded:
        lacking = rights.missing_dead_letter_rights(settings, row, cluster, group, ())
        yield Seen(f"dlq replay would fail: {'; '.join(lacking)}", "lacking") if lacking else Seen(f"as group {group}")


def _maps(start: Start) -> Iterator[Seen]:
    """At least once can do without them, as long as no commit refers to one that cannot be read."""
    settings, row, cluster = start.settings, start.row, start.cluster
    problems = needed_topics.provide_map_topic(settings, row, cluster, only_try=start.only_try)
    absent = problems if map_topic(row.consumer_name) not in cluster.partitions else []
    problems = problems or rights.missing_map_rights(settings, row, cluster)
    start.stores_maps = not problems
    start.unread_maps = tuple(absent or (problems and rights.missing_map_rights(settings, row, cluster, ["READ"])))
    if settings.delivery == "exactly_once":
        _must_not(problems)
    there = "" if cluster.embedded or map_topic(row.consumer_name) in cluster.partitions else ": run will create it"
    text = f"commits pause when a map of waiting messages does not fit: {'; '.join(problems)}"
    text += "; and no worker starts where a commit refers to a stored one" if start.unread_maps else ""
    text += "; after the cure start again the workers that run"
    text = text if problems else needed_topics.fewer_replicas(row, cluster, map_topic(row.consumer_name))
    yield Seen(text, "lacking") if text else Seen(f"topic {map_topic(row.consumer_name)}{there}")


def _commits(start: Start) -> Iterator[Seen]:
    """How long a map in them may be, and for how long they outlive the workers."""
    limits = start.limits = preflight.commit_limits(start.settings, start.row, start.cluster)
    text, stay = f"take maps of {limits.metadata:,} characters", start.cluster.commits_stay
    counts = {topic: start.cluster.partitions.get(topic, 0) for topic in start.row.topics_input}
    if (least := least_commit(start.row.consumer_name, counts)) > limits.batch:
        yield Seen(
            f"a worker that has all {sum(counts.values()):,} partitions alone makes commits of {least:,} bytes, and the"
            f" brokers take {limits.batch:,} (message.max.bytes): start several workers together, or read fewer topics",
            "lacking",
        )
    yield from _history(start)
    setting = preflight.RETENTION_SETTING
    if stay is not None and stay < A_WEEKEND:
        yield Seen(
            f"Kafka deletes the commits of a consumer once no worker has run for {duration(stay)} ({setting} of the"
            " brokers), and a start then reads all from its beginning: raise that, or let a paused worker run",
            "lacking",
        )
    if limits.told and stay is not None and stay >= A_WEEKEND:
        yield Seen(f"{text}, and stay for {duration(stay)} without a worker ({preflight.METADATA_SETTING}, {setting})")
    elif limits.told:
        yield Seen(f"{text} ({preflight.METADATA_SETTING})")
    else:
        yield Seen(f"{text}, the default: no broker tells {preflight.METADATA_SETTING}", "untold")


def _history(start: Start) -> Iterator[Seen]:
    """`check` tells of it, before it is too late."""
    behind, row = 0, start.row
    if start.only_try and not start.cluster.embedded:
        with suppress(KafkaException):
            behind = preflight.history(start.settings, row, start.cluster)
    if behind:
        topics = " ".join(f"--topic {topic}" for topic in row.topics_input)
        yield Seen(
            f"none yet: the first worker reads all that its topics hold ({behind:,} messages), from the beginning;"
            f" shall it begin at their end: kafka-consumer-groups.sh --bootstrap-server {row.bootstrap_servers} --group"
            f" {row.consumer_name} {topics} --reset-offsets --to-latest --execute",
            "lacking",
        )


ROW_STEPS = (
    Step("properties", _properties, needs="row"),
    Step("broker", _broker, needs="properties"),
    Step("session", _session, needs="cluster"),
    Step("topics", _topics, needs="cluster"),
    Step("partitions", _partitions, needs="cluster"),
    Step("reading", _reading, needs="cluster"),
    Step("dead letters", _dead_letters, needs="cluster"),
    Step("writing", _writing, needs="cluster"),
    Step("transactions", _transactions, needs="cluster"),
    Step("replay", _replay, needs="cluster"),
    Step("maps", _maps, needs="cluster"),
    Step("commits", _commits, needs="cluster"),
)
"""What there is to be seen of a row, also of one that has changed while a worker runs."""
STEPS = (
    Step("settings", _settings, needs=""),
    # Before worker.py, which may load a model: probes must be answered meanwhile.
    Step("http", _http, needs="settings"),
    Step("worker.py", _worker_py, needs=""),
    Step("database", _database, needs="settings"),
    Step("row", _row, needs="database"),
    Step("warning", _warnings, needs="row"),
    Step("names", _names, needs="row"),
    *ROW_STEPS,
)


def take(
    start: Start, steps: Sequence[Step], patiently: Callable[[Callable[[], list[Seen]]], list[Seen]]
) -> Iterator[tuple[Step, Seen]]:
    """For `run`: what each step has seen. `patiently` waits for what may heal. ConfigError names all problems.

    While it waits for what the row names, somebody may correct the row: then all that needs it is taken anew.
    """
    problems: list[str] = []
    needs = ""
    left = deque(steps)
    try:
        while left:
            step = left.popleft()
            if not problems:
                needs = step.needs
            elif step.needs not in ("", needs):
                continue
            try:
                found = once(step, start) if problems else patiently(_Tries(step, start))
                yield from ((step, seen) for seen in found if not problems)
            except _RowCorrected:
                start.let_go()
                left = deque(steps[[each.subject for each in steps].index("row") :])
            except ConfigError as error:
                problems += error.problems
                start.only_try = True
            except UnavailableError:  # it need not be waited for any more
                if not problems:
                    raise
    finally:
        start.let_go()
    if problems:
        raise ConfigError(problems)


class _RowCorrected(Exception):
    """While a step waited for what the row had named."""


@dataclass(slots=True)
class _Tries:
    """Of one step, until one ends well. Raises _RowCorrected."""

    step: Step
    start: Start
    is_first: bool = True

    def __call__(self) -> list[Seen]:
        is_first, self.is_first = self.is_first, False
        if not is_first:
            # It may wait for a broker that has gone, and look for no other: find_brokers() in utils/kafka/leaders.py.
            self.start.let_go()
            if self.step.needs not in ("", "settings", "database") and _is_corrected(self.start):
                raise _RowCorrected
        return once(self.step, self.start)


def _is_corrected(start: Start) -> bool:
    row, _ = tried(lambda: load(start.database, start.environment.consumer_name))
    return row is not None and row != start.row


def once(step: Step, start: Start) -> list[Seen]:
    return list(step.take(start))


# ---------------------------------------------------------------- what they are made of


def is_worker(settings: Settings) -> bool:
    """Whether what listens there is a worker of this consumer: `check` may run beside one, in its container."""
    try:
        _, server = ask(from_here(settings.http_host), settings.http_port)
        return server == server_of(settings.consumer_name)
    except OSError:
        return False


def answer_http(settings: Settings) -> tuple[Watch, str]:
    """Answer HTTP requests about the workers of this process, from now on: who watches them, and the address."""
    watch = Watch(settings)
    names = settings.http_allowed_hosts.replace(",", " ").split()
    address = Address(settings.http_host, settings.http_port, names, settings.consumer_name)
    try:
        server = serve(watch.health, address, watch.pages(), watch.tick)
    except OSError as error:
        raise cannot_listen(settings, error) from None
    logger.addHandler(watch.memory)
    return watch, f"http://{place(address.host, server.server_port)}/"


def cannot_listen(settings: Settings, error: OSError) -> ConfigError:
    where = place(settings.http_host, settings.http_port)
    return ConfigError([f"HTTP_PORT, HTTP_HOST: cannot listen on {where} ({error}); 0 is any free port"])


def tried(step: Callable[[], T]) -> tuple[T | None, list[str]]:
    """The value of step() and no problem, or none and its problems."""
    try:
        return step(), []
    except ConfigError as error:
        return None, error.problems
    except UnavailableError as error:
        return None, [str(error)]


def collisions_of(row: Row, database: Engine, environment: Settings) -> Sequence[str]:
    """What this row and another one of the table take for theirs, as far as it can be told by this environment."""
    rows = [each.row for each in load_all(database) if each.row]
    consumers = [Named(each, _dead_letters_of(each, environment)) for each in rows]
    return collisions(consumers).get(row.consumer_name, ())


def _dead_letters_of(row: Row, environment: Settings) -> str:
    settings, _ = tried(lambda: environment.of_row(row.consumer_name, row.metadatas))
    return settings.dead_letters if settings else ""


def outputs(row: Row) -> str:
    return ", ".join(row.topics_output) or "nothing (topics_output is empty)"


def _lacking(lines: Iterable[str]) -> Iterator[Seen]:
    return (Seen(line, "lacking") for line in lines)


def _must_not(problems: list[str]) -> None:
    if problems:
        raise ConfigError(problems)
