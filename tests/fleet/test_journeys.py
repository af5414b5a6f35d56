"""The way of an id through the consumers of a cluster."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError

from config import Settings
from models import Row
from utils.fleet.journeys import Journey, follow
from utils.fleet.looks import Subject
from utils.fleet.search import Search, Unseen
from utils.joining.dead_letters import write
from utils.joining.journey import Sighting
from utils.joining.offsets import JoinedWith, OffsetMap, short_name
from utils.joining.references import Lot, Reference
from utils.joining.states import FINISHED, UNFINISHED, States
from utils.kafka.groups import Brokers, Commit, ConsumerGroup, Member
from utils.kafka.lookups import Topic


def subject(name: str, inputs: str, outputs: str) -> Subject:
    settings = Settings.read({"CONSUMER_NAME": name, "DATABASE_URL": "sqlite:///x"})
    return Subject(Row.validated(name, inputs, outputs, "h:1"), settings)


def seen(topic: str, offset: int = 0) -> Sighting:
    return Sighting(topic, 0, offset, 100.0, b"1", b'{"id":"1"}', None)


class FakeSearch:
    """Finds what lies in `log`; `later` comes into it with the third look."""

    def __init__(self, log: Mapping[str, list[Sighting]], later: Mapping[str, list[Sighting]] | None = None) -> None:
        self.log, self.later = log, later or {}
        self.found: dict[str, list[Sighting]] = defaultdict(list)
        self.looked: list[set[str]] = []
        self.unseen = Unseen()
        self.ends: dict[tuple[str, int], int] = {}
        self.records = 0

    def look(self, topics: Mapping[str, int], _thorough: Collection[str] = ()) -> None:
        self.looked.append(set(topics))
        for topic in topics:
            self.found[topic] = list(self.log.get(topic, []))
            if self.unseen.hidden and len(self.looked) > 3:
                self.found[topic] += self.later.get(topic, [])


class FakeBrokers:
    def __init__(self, commits: Mapping[str, Mapping[tuple[str, int], Commit]], lacking: Collection[str] = ()) -> None:
        self._commits, self._lacking = commits, lacking
        self.asked: list[list[str]] = []

    def topics(self, names: Collection[str]) -> dict[str, Any]:
        lacking = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)
        return {name: lacking if name in self._lacking else Topic(f"id of {name}", 4, "here") for name in names}

    def commits(self, asked: Mapping[str, Collection[tuple[str, int]]]) -> dict[str, Any]:
        self.asked.append(sorted(asked))
        known = {name: self._commits.get(name, {}) for name in asked}
        return {name: {at: known[name][at] for at in of if at in known[name]} for name, of in asked.items()}

    def groups(self, names: Collection[str]) -> dict[str, Any]:
        return {name: ConsumerGroup("STABLE", (Member("h", "c", "", ()),)) for name in names}


CHAIN = [subject("join", "a,b", "mid"), subject("enrich", "mid", "out"), subject("bill", "out,c", "end")]
DONE = Commit(9, "")


def done(*topics: str) -> dict[tuple[str, int], Commit]:
    return {(topic, 0): DONE for topic in topics}


def journey(some: list[Subject], search: FakeSearch, brokers: FakeBrokers) -> Journey:
    return follow(some, cast(Brokers, brokers), cast(Search, search), sleep=lambda _seconds: None)


def states(found: Journey) -> dict[str, str]:
    return {visit.consumer.name: visit.state for visit in found.visits}


def test_it_is_followed_to_the_end_of_the_chain_and_commits_are_asked_before_what_they_tell_of() -> None:
    search = FakeSearch({"a": [seen("a")], "b": [seen("b")], "mid": [seen("mid")], "out": [seen("out")]})
    brokers = FakeBrokers({"join": done("a", "b"), "enrich": done("mid")})
    found = journey(CHAIN, search, brokers)
    assert states(found) == {"join": "done", "enrich": "done", "bill": "not read"}
    assert search.looked[0] == {"a", "b", "c"}, "what no consumer writes"
    assert [names[-1] for names in brokers.asked] == ["join-dlq-replay", "enrich-dlq-replay", "bill-dlq-replay"]
    assert [visit.consumer.results[0].at for visit in found.visits[:2]] == ["mid:0:0", "out:0:0"]
    assert set(found.sightings) == {"a", "b", "mid", "out"}


def test_consumers_that_it_does_not_come_to_are_not_asked() -> None:
    brokers = FakeBrokers({"join": done("a", "b")})
    found = journey(CHAIN, FakeSearch({"a": [seen("a")], "b": [seen("b")]}), brokers)
    assert states(found) == {"join": "done"}
    assert len(brokers.asked) == 1


def test_what_begins_in_the_middle_is_found_too() -> None:
    search = FakeSearch({"mid": [seen("mid")]})
    found = journey(CHAIN, search, FakeBrokers({}))
    assert states(found) == {"enrich": "not read"}
    assert "mid" not in search.looked[0]


def test_a_cycle_has_an_end() -> None:
    around = [subject("there", "a", "b"), subject("back", "b", "a")]
    found = journey(around, FakeSearch({"a": [seen("a")], "b": [seen("b")]}), FakeBrokers({}))
    assert states(found) == {"there": "not read", "back": "not read"}


def test_they_are_told_along_the_chain_whichever_is_met_first() -> None:
    log = {topic: [seen(topic)] for topic in ("a", "b", "mid", "out", "c")}
    found = journey(CHAIN[::-1], FakeSearch(log), FakeBrokers({}))
    assert list(states(found)) == ["join", "enrich", "bill"]


def test_two_consumers_of_a_topic_are_told_each() -> None:
    both = [subject("one", "a", "x"), subject("other", "a", "y")]
    found = journey(both, FakeSearch({"a": [seen("a")]}), FakeBrokers({"one": done("a")}))
    assert states(found) == {"one": "done", "other": "not read"}


@pytest.mark.parametrize(("offset", "state"), [(4, "done"), (6, "not read")])
@pytest.mark.parametrize("is_stored", [False, True])
def test_a_commit_that_was_brought_from_another_cluster_counts_without_its_map(
    offset: int, state: str, is_stored: bool
) -> None:
    of_there = JoinedWith("", 0, cluster=short_name("there")).encode()
    brought = OffsetMap("id of a there", 5, 0, 0, States.of((UNFINISHED, FINISHED), 5), of_there)
    elsewhere = Reference("id of a there", of_there, 5, Lot("writer", 1, 1), 0, None, 0, ("digest",))
    metadata = elsewhere.encode() if is_stored else brought.encode()
    brokers = FakeBrokers({"join": {("a", 0): Commit(5, metadata)}})
    found = journey([subject("join", "a", "mid")], FakeSearch({"a": [seen("a", offset)]}), brokers)
    assert states(found) == {"join": state}


def test_a_dead_letter_is_the_consumers_own_and_known_to_be_replayed() -> None:
    one = SimpleNamespace(topic="a", partition=0)
    group = SimpleNamespace(
        id="1", fragments=(SimpleNamespace(topic=0, offsets=one, offset=0, value=b"{}", headers=None),)
    )
    letters = {
        name: write(cast(Any, group), "process_failed", consumer=name, time="2026-01-01") for name in ("join", "other")
    }
    shared = [
        Sighting("join-dlq", 0, at, 100.0, each.key, each.value, each.headers)
        for at, each in enumerate([letters["join"], letters["other"]])
    ]
    search = FakeSearch({"a": [seen("a")], "join-dlq": shared})
    states_of_dlq = OffsetMap("id of join-dlq", 0, 0, 0, States.of([1, 0])).encode()
    replayed = {("join-dlq", 0): Commit(0, states_of_dlq)}
    for commits, is_done in (({}, False), (replayed, True)):
        brokers = FakeBrokers({"join": done("a"), "join-dlq-replay": commits})
        [visit] = journey([subject("join", "a", "mid")], search, brokers).visits
        assert visit.state == "dead-lettered"
        assert visit.letter
        assert (visit.letter.at, visit.letter.done) == ("join-dlq:0:0", is_done)
    assert set(journey([subject("join", "a", "mid")], search, FakeBrokers({})).sightings) == {"a"}


def test_what_a_transaction_hides_is_looked_for_again_and_then_said() -> None:
    for later, remarks in (
        ({"mid": [seen("mid")]}, []),
        ({}, ["a result may be hidden by an open transaction in mid"]),
    ):
        search = FakeSearch({"a": [seen("a")]}, later)
        search.unseen.hidden = {("mid", 0)}
        [visit] = journey([subject("join", "a", "mid")], search, FakeBrokers({"join": done("a")})).visits
        assert visit.remarks == remarks


def test_topics_that_are_not_there_are_named_but_those_of_dead_letters() -> None:
    found = journey(CHAIN, FakeSearch({"a": [seen("a")]}), FakeBrokers({}, ["b", "join-dlq"]))
    assert [line.partition(":")[0] for line in found.not_seen] == ["b"]


@pytest.mark.parametrize("why", ["unreadable", "lacking"])
def test_nothing_is_said_of_results_where_their_topic_could_not_be_read(why: str) -> None:
    search = FakeSearch({"a": [seen("a")]})
    if why == "unreadable":
        search.unseen.unreadable["mid"] = "Broker: Topic authorization failed"
    brokers = FakeBrokers({"join": done("a")}, ["mid"] if why == "lacking" else [])
    [visit] = journey([subject("join", "a", "mid")], search, brokers).visits
    assert visit.remarks == ["cannot tell what has come of it: mid could not be read, or not all of it was"]
