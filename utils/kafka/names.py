"""The names that a consumer takes in Kafka beside those of its row, and where they meet those of others.

Pure: no Kafka, no clock, no logging.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from models import INTERNAL_TOPICS, Row, map_topic


class Named(NamedTuple):
    """A consumer, by what has a name. `dead_letters`: their topic, or nothing."""

    row: Row
    dead_letters: str


def replay_group(row: Row) -> str:
    """Who replays dead letters: a consumer group of its own, whose members are no workers."""
    return f"{row.consumer_name}-dlq-replay"


def own_collisions(one: Named) -> list[str]:
    """One line where the topic of dead letters is another one of the same consumer."""
    topic, cure = one.dead_letters, "choose another topic for dead letters, or none"
    if topic in {*one.row.topics_input, *one.row.topics_output}:
        return [f"DLQ_TOPIC is {topic}, which the row names too: {cure}"]
    if topic == map_topic(one.row.consumer_name):
        return [f"DLQ_TOPIC is {topic}, where the worker keeps its maps: {cure}"]
    if topic in INTERNAL_TOPICS:
        return [f"DLQ_TOPIC is {topic}, which is Kafka's own: {cure}"]
    return []


def collisions(consumers: Sequence[Named]) -> Mapping[str, Sequence[str]]:
    """By name of a consumer: one line for each thing that it and another one on the same brokers take for theirs. The
    rows of both must name one of these: it asks none of them which cluster it is of.

    Who reads the dead letters of another one may mean to, and of those who share a topic of them each knows its own.
    """
    found: dict[str, list[str]] = defaultdict(list)
    groups = {replay_group(each.row): each for each in consumers}
    maps = {map_topic(each.row.consumer_name): each for each in consumers}
    letters = defaultdict[str, list[Named]](list)
    for each in consumers:
        letters[each.dead_letters].append(each)

    def tell(one: Named, other: Named | None, line: str) -> None:
        if other and one is not other and _servers(one) & _servers(other):
            for each in (one, other):
                found[each.row.consumer_name].append(line)

    for one in consumers:
        row, choose = one.row, "choose another topic"
        name = row.consumer_name
        if other := groups.get(name):
            is_group = f"row {name} has the name of the consumer group of dlq replay of {other.row.consumer_name}"
            tell(one, other, f"{is_group}: rename one of the two (docs/change-the-row.md)")
        columns = (("topics_input", row.topics_input), ("topics_output", row.topics_output))
        named = [(f"row {name}: {column} names {topic}", topic) for column, topics in columns for topic in topics]
        for says, topic in [*named, (f"DLQ_TOPIC of {name} is {one.dead_letters}", one.dead_letters)]:
            if other := maps.get(topic):
                tell(one, other, f"{says}, where {other.row.consumer_name} keeps its maps: {choose}")
        for says, topic in named[len(row.topics_input) :]:
            for other in letters.get(topic, ()):
                tell(one, other, f"{says}, where {other.row.consumer_name} keeps its dead letters: {choose}")
    return found


def _servers(one: Named) -> set[str]:
    return set(one.row.bootstrap_servers.lower().split(","))
