"""Static membership: whether what is assigned can be of the row's topics, how to leave the consumer group for good, and
whether our place in it is another worker's. And how the group stands: its state, members with other topics than ours.

A worker with a GROUP_INSTANCE_ID that comes back within the session time-out gets what it had, without a rebalance,
also where it subscribes other topics than before (measured: Kafka 4.3.1). A topic that was added would be assigned to
nobody, and one that was removed would still be read. Once it has left, it is assigned anew.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import Event

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from config import Settings
from utils.kafka.answers import described_groups
from utils.kafka.properties import Properties
from utils.logger import logger

_LEAVE = 10.0  # seconds that leaving may take
_TURN = 0.1  # seconds
_ASK_GROUP = 5.0  # seconds that it may take to say who its members are
_ASK_AGAIN, _LATE = 1.0, 3.0  # seconds; how much later than the session time-out Kafka may miss a member


def misfit(owned: Iterable[tuple[str, int]], partitions: Mapping[str, int]) -> str:
    """What tells that these partitions were not assigned for these topics; nothing where they may have been.

    `partitions`: how many each topic of the row has. `range` gives a topic to its first members: who owns a partition
    of one topic owns some of every topic that has that partition, too. Who owns none at all may be one too many.
    """
    numbers: dict[str, int] = {}
    for topic, number in owned:
        numbers[topic] = min(number, numbers.get(topic, number))
    foreign = sorted(numbers.keys() - partitions.keys())
    lowest = min(numbers.values(), default=max(partitions.values(), default=0))
    lacking = sorted(topic for topic, count in partitions.items() if topic not in numbers and lowest < count)
    told = [f"{topic} is not in the row" for topic in foreign] + [
        f"nothing of {topic} is assigned" for topic in lacking
    ]
    return ", ".join(told)


def shared_with_others(owned: Iterable[tuple[str, int]], partitions: Mapping[str, int]) -> list[str]:
    """The topics of which members that join other topics than ours have something that we would need.

    `range` gives members with the same topics the same numbers of each, where all have as many partitions. Where they
    have not, only who owns all of them may begin.
    """
    if len(set(partitions.values())) > 1:
        return []
    numbers: dict[str, set[int]] = {topic: set() for topic in partitions}
    for topic, number in owned:
        numbers.setdefault(topic, set()).add(number)
    every = set[int]().union(*numbers.values())
    return sorted(topic for topic, ours in numbers.items() if ours != every)


def gets_place_back(
    holders: Callable[[], Sequence[str] | None],
    session: float,
    worker_stop: Event,
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """Wait until no member has our GROUP_INSTANCE_ID. False: one has it for longer than Kafka keeps who is silent.

    A silent one may be our own: where Kafka has got our request to join, and its answer was lost, we know nothing of
    that member (seen with brokers cut off). `holders`: who has it; None: nobody can tell. `session`: seconds.
    """
    since: float | None = None
    while not worker_stop.is_set():
        found = holders()
        if found is not None:
            since = clock() if since is None else since
            if not found or clock() - since > session + _LATE:
                return not found
        worker_stop.wait(_ASK_AGAIN)
    return True


class Membership:
    """Of a worker in its consumer group, for as long as its topics stay the same."""

    def __init__(self, *, is_static: bool = False) -> None:
        self._may_be_former = is_static

    def misfit(self, owned: Iterable[tuple[str, int]], partitions: Mapping[str, int]) -> str:
        """As above. Nothing once the consumer group has been left: what it assigns then is for the topics of today."""
        return misfit(owned, partitions) if self._may_be_former else ""

    def leave(self, is_member: Callable[[], bool], consumer: Consumer) -> None:
        """For good, which close() does not do for a static member. What the consumer reads meanwhile is dropped.

        `is_member`: whether the consumer group has a member with our GROUP_INSTANCE_ID, or nobody can tell.
        """
        deadline = time.monotonic() + _LEAVE
        consumer.unsubscribe()
        while is_member() and time.monotonic() < deadline:
            consumer.poll(_TURN)
        self._may_be_former = is_member()


def is_place_taken(admin: AdminClient, settings: Settings, member_id: str) -> bool:
    """Whether the consumer group has another member with our GROUP_INSTANCE_ID. False where nobody can tell."""
    ours = member_ids(admin, settings) if member_id else None
    return any(each != member_id for each in ours or ())


def is_member(admin: AdminClient, settings: Settings) -> bool:
    """Whether the consumer group has a member with our GROUP_INSTANCE_ID. True where nobody can tell."""
    return member_ids(admin, settings) != []


def member_ids(admin: AdminClient, settings: Settings) -> list[str] | None:
    """Of members of the consumer group with our GROUP_INSTANCE_ID. None: nobody can tell."""
    ours = settings.group_instance_id
    if not ours:
        return []
    [group] = described_groups(admin, [settings.consumer_name], _ASK_GROUP).values()
    if isinstance(group, KafkaError):
        logger.warning("the consumer group cannot be asked who has our GROUP_INSTANCE_ID", extra={"error": str(group)})
        return None
    return [each.member_id for each in group.members if each.group_instance_id == ours]


def group_state(properties: Properties, settings: Settings) -> str:
    """As Kafka calls it, in capitals; empty where nobody can tell. Asked by a client of its own."""
    try:
        [group] = described_groups(AdminClient(dict(properties)), [settings.consumer_name], _ASK_GROUP).values()
    except KafkaException:
        return ""
    return "" if isinstance(group, KafkaError) else str(group.state.name)
