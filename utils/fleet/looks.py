"""One look at all consumers of a table: each cluster in a thread of its own, and none waits for another one.

What does not answer in time is a trouble of its consumers, and no error. Only what the rows name is asked for.
"""

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from config import ConfigError, Settings, Trouble
from models import ListedRow, Row, map_topic
from utils.fleet.letters import Letters, Pile, letters
from utils.joining.offsets import OffsetMap, short_name
from utils.joining.progress import Committed, Log, Progress, progress
from utils.joining.references import Reference, was_brought
from utils.kafka import client_errors
from utils.kafka import clients as kafka
from utils.kafka.groups import Brokers, Commits, ConsumerGroup, partitions_of
from utils.kafka.lookups import Topic
from utils.kafka.names import replay_group
from utils.kafka.uuids import share_uuids
from utils.kafka.wrong_properties import named_properties
from utils.metrics import Counters
from utils.sending.map_store import MapStore, MapTopic
from utils.threads import Apart

Partition = tuple[str, int]
Properties = tuple[tuple[str, str], ...]

NOBODY = ConsumerGroup("DEAD", ())
PER_ROW = 0.02  # seconds more, for each consumer, of a cluster that has answered: there is so much to ask
GRACE = 1.0  # seconds beyond its deadline that a cluster is waited for


@dataclass(frozen=True, slots=True)
class Subject:
    """A consumer that is looked at; `settings`: with those of its row over those of the environment."""

    row: Row
    settings: Settings

    @property
    def cluster(self) -> tuple[str, Properties]:
        """Where and how it is reached: who has the same shares a client."""
        return self.row.bootstrap_servers, tuple(sorted(self.settings.kafka.items()))

    @property
    def topics(self) -> tuple[str, ...]:
        return (*self.row.topics_input, *self.row.topics_output)


def subject_of(listed: ListedRow, environment: Settings) -> Subject:
    """With the settings of the row over those of the environment, as its workers have them. Raises ConfigError."""
    if listed.row is None:
        raise ConfigError(list(listed.problems))
    return Subject(listed.row, environment.of_row(listed.consumer_name, listed.row.metadatas))


@dataclass(frozen=True, slots=True)
class Look:
    """What the brokers said of one consumer at one moment. With a `trouble`: nothing."""

    at: float  # seconds since the epoch
    trouble: Trouble | None = None
    topics: Mapping[str, Topic | KafkaError] = field(default_factory=dict)  # of the row
    ends: Mapping[Partition, int] = field(default_factory=dict)  # of the topics that it writes
    group: ConsumerGroup | KafkaError = NOBODY
    progress: Mapping[Partition, Progress] = field(default_factory=dict)  # of the topics that it reads
    letters: Letters | None = None  # None: it keeps none, or they may not be read
    commits_problem: KafkaError | None = None


class Pair(NamedTuple):
    """Two looks at a consumer. They are the same one where the cluster has not answered."""

    before: Look
    now: Look


class Sites:
    """The clusters, each with a client that is kept from one look to the next."""

    def __init__(
        self,
        timeout: float,
        apart: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`timeout`: seconds that a cluster may take to answer. `apart`: seconds between the first two looks."""
        self._timeout, self._apart = timeout, apart
        self._clock, self._sleep = clock, sleep
        self._sites: dict[tuple[str, Properties], _Site] = {}

    def look(self, subjects: Collection[Subject], before: Mapping[str, Look]) -> dict[str, Pair]:
        """By consumer: the look `before`, and one now. A cluster of which one is missing is looked at twice."""
        by_cluster: dict[tuple[str, Properties], list[Subject]] = {}
        for each in subjects:
            by_cluster.setdefault(each.cluster, []).append(each)
        for gone in self._sites.keys() - by_cluster.keys():
            self._sites.pop(gone).close()
        found, threads, began = dict[str, Pair](), list[threading.Thread](), self._clock()
        for cluster, some in by_cluster.items():
            site = self._sites.setdefault(cluster, _Site())
            look = partial(self._look_into, found, site, some, before)
            threads.append(Apart(target=look, name="cluster"))
            threads[-1].start()
        most = 2 * (self._timeout + PER_ROW * max(map(len, by_cluster.values()), default=0)) + self._apart + GRACE
        for thread in threads:
            thread.join(max(began + most - self._clock(), 0.0))
        pairs = dict(found)  # a copy: who comes later is not heard any more
        late = Look(time.time(), Trouble(heals=True, line=f"no answer within {self._timeout:g} s"))
        return {each.row.consumer_name: pairs.get(each.row.consumer_name, Pair(late, late)) for each in subjects}

    def _look_into(
        self, found: dict[str, Pair], site: "_Site", subjects: Sequence[Subject], before: Mapping[str, Look]
    ) -> None:
        """Runs in a thread of its own: what it raises would be seen by nobody."""
        if not site.free.acquire(blocking=False):  # the look before this one has not come to its end yet
            return
        try:
            names = [each.row.consumer_name for each in subjects]
            known, now = dict(before), {}
            if not known.keys() >= set(names):
                known = now = self._seen(site, subjects)
                if not any(each.trouble for each in now.values()):
                    self._sleep(self._apart)
                    now = {}
            now = now or self._seen(site, subjects)
            found |= {name: Pair(known[name], now[name]) for name in names}
        finally:
            site.free.release()

    def _seen(self, site: "_Site", subjects: Sequence[Subject]) -> dict[str, Look]:
        first = self._clock() + self._timeout
        try:
            return site.look(subjects, Deadline(first, first + PER_ROW * len(subjects), self._clock))
        except ConfigError as error:
            trouble = Trouble(heals=False, line="; ".join(error.problems))
        except Exception as error:
            trouble = Trouble(heals=True, line=f"looking failed: {error!r}")
        return {each.row.consumer_name: Look(time.time(), trouble) for each in subjects}

    def close(self) -> None:
        for site in self._sites.values():
            site.close()
        self._sites = {}


class Deadline(NamedTuple):
    """Moments of `clock`: until when a cluster must have answered, and until when all is to be known."""

    first: float
    end: float
    clock: Callable[[], float]


@dataclass(frozen=True, slots=True)
class _Said:
    """What the brokers of a cluster have said."""

    at: float  # seconds since the epoch
    topics: Mapping[str, Topic | KafkaError]
    groups: Mapping[str, ConsumerGroup | KafkaError]
    commits: Mapping[str, Commits | KafkaError]  # by group
    logs: Mapping[str, Mapping[int, Log]]  # by topic and number: the partitions that have answered

    def of(self, topic: str) -> Mapping[int, Log]:
        return self.logs.get(topic, {})


class _Site:
    """A cluster, as the consumers with the same properties reach it."""

    def __init__(self) -> None:
        self.free = threading.Lock()
        self._clients = ExitStack()
        self._admin: AdminClient | None = None
        self._heard: list[KafkaError] = []
        self._known: dict[str, tuple[object, Letters]] = {}  # by consumer, with what they were read by

    def close(self) -> None:
        self._clients.close()
        self._admin = None

    def look(self, subjects: Sequence[Subject], until: Deadline) -> dict[str, Look]:
        """Raises ConfigError where the client refuses a property."""
        self._heard.clear()
        prober = partial(kafka.prober, self._properties(subjects[0]))
        admin = self._client(subjects[0])
        said = _asked(Brokers(admin, prober, until.first, until.clock), subjects, until)
        admin.poll(0)  # where all is well, too: else what it has heard today is told of another day
        if isinstance(said, KafkaError):
            return self._all_away(subjects)
        if any(isinstance(each, KafkaError) and _was_not_answered(each) for each in said.groups.values()):
            self.close()  # it goes on asking: see `described_groups`
        told = self._letters(subjects, said, until)
        found = {}
        for each in subjects:
            name, commits = each.row.consumer_name, said.commits[each.row.consumer_name]
            problem = commits if isinstance(commits, KafkaError) else None
            found[name] = Look(
                said.at,
                topics={topic: said.topics[topic] for topic in each.topics},
                ends={(topic, at): log.end for topic in each.row.topics_output for at, log in said.of(topic).items()},
                group=said.groups[name],
                progress={} if isinstance(commits, KafkaError) else self._progress(each, commits, said),
                letters=told.get(name),
                commits_problem=problem,
            )
        return found

    def _client(self, one: Subject) -> AdminClient:
        if self._admin is None:
            share_uuids()
            with named_properties(one.settings):
                self._admin = AdminClient(self._properties(one))
            self._clients.enter_context(self._admin)
        return self._admin

    def _properties(self, one: Subject) -> dict[str, Any]:
        return {**kafka.quiet_properties(one.settings, one.row, self._heard.append), "client.id": "fleet"}

    def _all_away(self, subjects: Sequence[Subject]) -> dict[str, Look]:
        """Of what the client has heard, what tells the most."""
        heard = [client_errors.explain(each) for each in self._heard if each.code() != KafkaError._ALL_BROKERS_DOWN]
        hopeless = next((each for each in heard if not each.heals), None)
        silent = Trouble(heals=True, line=f"Kafka does not answer in time: {client_errors.SERVERS}")
        trouble = hopeless or (heard[0] if heard else silent)
        return {each.row.consumer_name: Look(time.time(), trouble) for each in subjects}

    def _progress(self, one: Subject, commits: Commits, said: _Said) -> dict[Partition, Progress]:
        topics = {name: each for name, each in said.topics.items() if isinstance(each, Topic)}
        known, found = committed(one, self._properties(one), commits, topics), dict[Partition, Progress]()
        for topic in one.row.topics_input:
            for number, log in said.of(topic).items():
                at = topic, number
                found[at] = progress(at, log, known.get(at))
        return found

    def _letters(self, subjects: Sequence[Subject], said: _Said, until: Deadline) -> dict[str, Letters]:
        """What has not changed since the last look is not read again."""
        piles, signs, found = list[Pile](), dict[str, object](), dict[str, Letters]()
        for each in subjects:
            name, logs = each.row.consumer_name, said.of(each.settings.dead_letters)
            done = said.commits.get(replay_group(each.row), {})
            if not logs or isinstance(done, KafkaError):
                continue
            sign = dict(done), dict(logs)
            if (known := self._known.get(name)) and known[0] == sign:
                found[name] = known[1]
            else:
                piles.append(Pile(name, each.settings.dead_letters, logs, done))
                signs[name] = sign
        if piles:
            read = letters(
                partial(kafka.onlooker, self._properties(subjects[0]), "fleet"), piles, until.end, until.clock
            )
            self._known |= {name: (signs[name], each) for name, each in read.items() if each.exact}
            found |= read
        return found


def _asked(brokers: Brokers, subjects: Sequence[Subject], until: Deadline) -> _Said | KafkaError:
    """An error where the cluster is not there for us."""
    dead = [each.settings.dead_letters for each in subjects if each.settings.dead_letters]
    topics = brokers.topics([*(topic for each in subjects for topic in each.topics), *dead])
    silent = [each for each in topics.values() if isinstance(each, KafkaError) and _is_away(each)]
    if silent and len(silent) == len(topics):
        return silent[0]
    brokers.deadline = until.end
    groups, now = brokers.groups(each.row.consumer_name for each in subjects), time.time()
    read = {each.row.consumer_name: partitions_of(each.row.topics_input, topics) for each in subjects}
    replayed = {replay_group(each.row): partitions_of([each.settings.dead_letters], topics) for each in subjects}
    commits = brokers.commits(read | replayed)
    # After the commits: an end that was asked for before could lie below one.
    known = {name: each for name, each in topics.items() if isinstance(each, Topic)}
    partitions = partitions_of(known, topics)
    begins, ends = brokers.begins(partitions), brokers.ends(partitions)
    logs: dict[str, dict[int, Log]] = {name: {} for name in known}
    for at in partitions:
        if at in begins and at in ends:
            logs[at[0]][at[1]] = Log(known[at[0]].id, begins[at], ends[at])
    return _Said(now, topics, groups, commits, logs)


def committed(
    one: Subject, properties: Mapping[str, Any], commits: Commits, topics: Mapping[str, Topic]
) -> dict[Partition, Committed]:
    """With the maps, those too that were too long for their commits, as far as they may be read.

    Without those of another cluster, from which a tool has brought the commits: here they count for nothing.
    """
    maps = {at: OffsetMap.parse(each.metadata) for at, each in commits.items()}
    references = {at: Reference.parse(commits[at].metadata) for at, found in maps.items() if found is None}
    brought = {at for at in commits if _was_brought(maps[at] or references[at], topics.get(at[0]))}
    texts = {at: commits[at].metadata for at, each in references.items() if each and at not in brought}
    stored = _stored(one, properties, texts) if texts else {}
    maps |= {at: OffsetMap.parse(text) for at, text in stored.items()} | dict.fromkeys(brought)
    return {
        at: Committed(each.offset, maps[at], is_elsewhere=at in texts and maps[at] is None)
        for at, each in commits.items()
    }


def _was_brought(head: OffsetMap | Reference | None, topic: Topic | None) -> bool:
    return topic is not None and bool(topic.cluster) and was_brought(head, topic.id, short_name(topic.cluster))


def _stored(one: Subject, properties: Mapping[str, Any], texts: Mapping[Partition, str | None]) -> dict[Partition, str]:
    reader = partial(kafka.map_reader, properties, one.settings)
    store = MapStore(MapTopic(map_topic(one.row.consumer_name)), reader, lambda: "nobody", Counters())
    try:
        return store.load(texts, only_looks=True)
    except KafkaException:
        return {}


def _was_not_answered(error: KafkaError) -> bool:
    """A right that is missing is an answer: it may be missing for weeks, at each look."""
    return error.code() == KafkaError._TIMED_OUT


def _is_away(error: KafkaError) -> bool:
    return error.code() in client_errors.CONNECTION_ERRORS or error.code() in client_errors.LOGIN_ERRORS
