"""`main.py trace` held against a ledger: a chain of three workers that are killed, filter, fail and return lists.

TRACE_IDS=1000 asks for so many ids; in CI they are few.
"""

import os
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka import OFFSET_END, Consumer

from config import Settings
from models import Row
from tests.conftest import Topics
from tests.integration.accounts import letters, records
from tests.integration.oracle import Commit, Partition, fragment_value
from tests.integration.workers import Job, Worker, ends_of, eventually, feeder, short_session
from tests.services.kafka import KafkaBroker, unique_name
from utils.commands.trace import all_traced
from utils.fleet.journeys import Journey
from utils.fleet.looks import Subject
from utils.fleet.search import Wanted
from utils.joining.journey import Visit

PROCESS = Path(__file__).with_name("chain_process.py")
IDS = int(os.environ.get("TRACE_IDS", "24"))
BILLED = {"whole", "none3", "fail3", "list"}  # those that come to the end of the chain meet a mate there
TOGETHER = 4 if IDS < 100 else 10  # ids that are traced between two looks at what is committed
TIMEOUT = 4.0  # seconds that a message waits for its mates
KINDS = ("whole", "whole", "alone", "noc", "none1", "none2", "none3", "fail1", "fail2", "fail3", "list", "own")


@dataclass
class Chain:
    """join: a and b to mid; enrich: mid to enriched; bill: enriched and c to out."""

    broker: KafkaBroker
    jobs: list[Job]
    workers: dict[str, Worker] = field(default_factory=dict)

    @property
    def subjects(self) -> list[Subject]:
        found = []
        for job in self.jobs:
            row = Row.validated(
                job.name, ",".join(job.topics_input), ",".join(job.topics_output), self.broker.bootstrap
            )
            environment = {"CONSUMER_NAME": job.name, "DATABASE_URL": "sqlite:///x", "MESSAGE_TIMEOUT": str(TIMEOUT)}
            found.append(Subject(row, Settings.read(environment)))
        return found

    @property
    def topics(self) -> list[str]:
        return [*dict.fromkeys(topic for job in self.jobs for topic in (*job.topics_input, *job.topics_output))]

    def start(self) -> None:
        self.workers = {job.name: job.start() for job in self.jobs}

    def kill(self, job: Job) -> None:
        self.workers[job.name].kill()
        self.workers[job.name] = job.start()

    def trace(self, id: str) -> Journey:
        [journey] = all_traced(Wanted(id, time.time() - 3600), self.subjects).values()
        return journey


@pytest.fixture
def chains(topics: Topics, tmp_path: Path) -> Iterator[Any]:
    with ExitStack() as stack:

        def make(broker: KafkaBroker, delivery: str) -> Chain:
            a, b, c, mid, enriched, out = topics(broker, "a", "b", "c", "mid", "enriched", "out", partitions=4)
            jobs = []
            for stage, (name, inputs, output) in enumerate(
                [("join", [a, b], mid), ("enrich", [mid], enriched), ("bill", [enriched, c], out)], 1
            ):
                own = {"STAGE": str(stage), "MESSAGE_TIMEOUT": str(TIMEOUT), "DELIVERY": delivery}
                job = Job(
                    broker,
                    unique_name(name),
                    inputs,
                    [output],
                    tmp_path,
                    process=PROCESS,
                    environment={**short_session(broker), **own},
                )
                jobs.append(stack.enter_context(job))
            return Chain(broker, jobs)

        yield make


class Feed:
    """Sends the messages of each id with some steps between them, so that some always wait."""

    def __init__(self, chain: Chain, rng: random.Random) -> None:
        self._producer = feeder(chain.broker)
        self._a, self._b = chain.jobs[0].topics_input
        self._c = chain.jobs[2].topics_input[1]
        self._rng = rng
        self._due: dict[int, list[tuple[str, str]]] = defaultdict(list)
        self._step = 0
        self.ids: list[str] = []

    def step(self, new: int) -> None:
        for _ in range(new):
            kind = self._rng.choice(KINDS)
            id = f"{kind}-{len(self.ids)}"
            self.ids.append(id)
            topics = [self._a] if kind == "alone" else [self._a, self._b] + [self._c] * (kind in BILLED)
            for topic in topics:
                self._due[self._step + self._rng.choice([0, 0, 1, 3])].append((topic, id))
        for topic, id in self._due.pop(self._step, []):
            self._producer.produce(topic, fragment_value(topic, id), id)
        assert self._producer.flush(30) == 0
        self._step += 1

    def rest(self) -> None:
        while self._due:
            self.step(0)


class Moment(NamedTuple):
    """What is known of the chain just before a trace, or just after it."""

    time: float
    commits: Mapping[str, Mapping[Partition, Commit]]  # by job
    ends: Mapping[Partition, int]


class Traced(NamedTuple):
    id: str
    before: Moment
    journey: Journey
    after: Moment


def moment(chain: Chain, watcher: Consumer) -> Moment:
    commits = {job.name: job.commits() for job in chain.jobs}
    return Moment(time.time(), commits, ends_of(watcher, chain.topics, OFFSET_END))


@dataclass
class Truth:
    """All that was ever in the topics, by id, and the sources of all dead letters."""

    records: Mapping[str, Mapping[tuple[str, int, int], float]]  # by id: at, and when
    letters: Mapping[str, Mapping[str, str]]  # by job and source: the reason

    def in_topic(self, id: str, topic: str, ends: Mapping[Partition, int]) -> list[tuple[str, int, int]]:
        """The records of an id that were there when the topic ended so."""
        return [at for at in self.records.get(id, {}) if at[0] == topic and at[2] < ends[at[0], at[1]]]


def truth(chain: Chain) -> Truth:
    found: dict[str, dict[tuple[str, int, int], float]] = defaultdict(dict)
    for each in records(chain.broker, chain.topics):
        found[each.key().decode()][each.topic(), each.partition(), each.offset()] = each.timestamp()[1] / 1000
    sources = {
        job.name: {source: each.reason for each in letters(job) for source in each.about["source"].split(",")}
        for job in chain.jobs
    }
    return Truth(found, sources)


def wrong(traced: Traced, chain: Chain, truth: Truth) -> Iterator[str]:
    """What a trace says that is not so."""
    id, before, journey, _after = traced
    known = truth.records.get(id, {})
    found = {(each.topic, each.partition, each.offset) for some in journey.sightings.values() for each in some}
    must = {at for at in known if at[2] < before.ends[at[0], at[1]]}
    if missed := must - found:
        yield f"not found: {missed}"
    if invented := found - known.keys():
        yield f"not there: {invented}"
    if journey.not_seen and any("open transaction" not in line for line in journey.not_seen):
        yield f"not seen: {journey.not_seen}"
    met = {visit.consumer.name for visit in journey.visits}
    for stage, job in enumerate(chain.jobs, 1):
        if any(truth.in_topic(id, topic, before.ends) for topic in job.topics_input) and job.name not in met:
            yield f"{job.name} is not met"
        for visit in journey.visits:
            if visit.consumer.name == job.name:
                yield from (
                    f"{job.name} {visit.state}: {what}" for what in wrong_visit(visit, stage, job, traced, truth)
                )


def wrong_visit(visit: Visit, stage: int, job: Job, traced: Traced, truth: Truth) -> Iterator[str]:
    id, before, _, after = traced
    kind = id.partition("-")[0]
    letters = truth.letters[job.name]
    for record, how in visit.standings:
        at = record.topic, record.partition
        finished_before = at in before.commits[job.name] and before.commits[job.name][at].is_finished(record.offset)
        finished_after = at in after.commits[job.name] and after.commits[job.name][at].is_finished(record.offset)
        if (how == "done" and not finished_after) or (how != "done" and finished_before):
            yield f"{record.at} {how}"
    if {each.at for each in visit.consumer.results} - {":".join(map(str, at)) for at in truth.records[id]}:
        yield "results that are not there"
    silent = any("no result under this id" in remark for remark in visit.remarks)
    if silent and kind not in {f"none{stage}", "own"}:
        yield "said to be filtered"
    match visit.state:
        case "done":
            if not visit.consumer.results and not visit.remarks:
                yield "done without a word"
            if kind == "whole" and not visit.consumer.results and not any("hidden" in each for each in visit.remarks):
                yield f"no result: {visit.remarks}"
        case "dead-lettered":
            assert visit.letter
            reason = visit.letter.contents.reason
            if not all(letters.get(source) == reason for source in visit.letter.contents.about["source"].split(",")):
                yield "no such dead letter"
            if (reason == "process_failed") != (kind == f"fail{stage}") and reason != "incomplete":
                yield f"the reason {reason}"
        case "waiting":
            for topic in visit.lacking:
                mates = truth.in_topic(id, topic, before.ends)
                commits = after.commits[job.name]
                if open_ones := [at for at in mates if at[:2] not in commits or not commits[at[:2]].is_finished(at[2])]:
                    yield f"waiting for {topic}, where there is {open_ones}"
            for topic in visit.unread:
                if not truth.in_topic(id, topic, after.ends):
                    yield f"{topic} has nothing to be read"
            first = min(truth.records[id][each.topic, each.partition, each.offset] for each, _ in visit.standings)
            assert visit.since
            assert visit.until
            if not first - 1.5 < visit.since < after.time + 1.5 or visit.until != visit.since + TIMEOUT:
                yield f"since {visit.since}, {first}"
        case "in process":
            if lacking := [each for each in job.topics_input if not truth.in_topic(id, each, after.ends)]:
                yield f"without {lacking}"
        case "cannot tell":
            yield "it can"


FINAL: Mapping[str, Sequence[str]] = {
    "whole": ("done", "done", "done"),
    "alone": ("dead-lettered",),
    "noc": ("done", "done", "dead-lettered"),
    "none1": ("done",),
    "none2": ("done", "done"),
    "none3": ("done", "done", "done"),
    "fail1": ("dead-lettered",),
    "fail2": ("done", "dead-lettered"),
    "fail3": ("done", "done", "dead-lettered"),
    "own": ("done",),
}


WAITS_IN_VAIN = {"alone": 0, "noc": 2}  # and with which of the jobs


def given_up(id: str, chain: Chain, truth: Truth) -> bool:
    """Whether it was given up though its mates were sent: on a slow machine they may come too late."""
    sources, expected = {":".join(map(str, at)) for at in truth.records[id]}, WAITS_IN_VAIN.get(id.partition("-")[0])
    others = [truth.letters[job.name] for at, job in enumerate(chain.jobs) if at != expected]
    return any(known.get(source) == "incomplete" for known in others for source in sources)


def is_done(job: Job) -> bool:
    return job.lag() == 0


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_what_it_says_of_ids_at_random_moments_is_so(real_kafka: KafkaBroker, chains: Any, delivery: str) -> None:
    rng = random.Random(f"{delivery} {IDS}")
    chain: Chain = chains(real_kafka, delivery)
    feed, states = Feed(chain, rng), Counter[str]()
    watcher = Consumer(
        {
            "bootstrap.servers": real_kafka.bootstrap,
            "group.id": "w",
            "isolation.level": "read_committed",
            "log_level": 0,
        }
    )
    chain.start()
    all_traces = []
    for number in range(-(-IDS // TOGETHER)):
        feed.step(12)
        if number % 4 == 2:
            chain.kill(rng.choice(chain.jobs))
        ids = [rng.choice(feed.ids[-60:] if rng.random() < 0.8 else feed.ids) for _ in range(TOGETHER)]
        before = moment(chain, watcher)
        journeys = [chain.trace(id) for id in ids]
        after = moment(chain, watcher)
        all_traces += [Traced(id, before, each, after) for id, each in zip(ids, journeys, strict=True)]
        states.update(visit.state for each in journeys for visit in each.visits)
    feed.rest()
    for job in chain.jobs:  # one after the other, along the chain
        eventually(partial(is_done, job), f"{job.name} has read all", 120)
    known = truth(chain)
    faults = [f"{each.id}: {what}" for each in all_traces for what in wrong(each, chain, known)]
    print(states)
    assert not faults, "\n".join([f"{len(faults)} of {len(all_traces)} {states}", *faults[:20]])
    assert states["cannot tell"] == 0

    in_time = [id for id in feed.ids if not given_up(id, chain, known)]
    for id in {id.partition("-")[0]: id for id in in_time}.values():
        journey = chain.trace(id)
        if (kind := id.partition("-")[0]) in FINAL:
            assert tuple(visit.state for visit in journey.visits) == FINAL[kind], id
    watcher.close()
