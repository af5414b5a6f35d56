"""What the loop shows of itself: values that other threads may keep. Taken on the loop's thread, between two steps.

No HTTP, no clock but the worker's, no payloads.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from utils.joining.aggregator import Aggregator, Group
from utils.processing.executor import Executor
from utils.processing.outcome import InFlight
from utils.reading.intake import Intake
from utils.sending.delivery import Delivery

LOOK_PAUSE = 100  # times as long as it takes to find what has waited longest pass until it is looked for again


class Watched(Protocol):
    """What is looked at of the Worker."""

    @property
    def topics_input(self) -> tuple[str, ...]: ...
    @property
    def message_timeout(self) -> float: ...
    @property
    def max_pending_bytes(self) -> int: ...
    @property
    def intake(self) -> Intake: ...
    @property
    def delivery(self) -> Delivery: ...
    @property
    def executor(self) -> Executor: ...
    @property
    def clock(self) -> Callable[[], float]: ...
    @property
    def load(self) -> float: ...


@dataclass(frozen=True, slots=True)
class PartitionView:
    """A partition that is ours; `end` is None as long as nothing was fetched of it."""

    topic: str
    partition: int
    position: int
    end: int | None
    lag: int | None
    unfinished: int  # offsets that are known and not finished
    map_characters: int
    paused: bool


@dataclass(frozen=True, slots=True)
class WaitingView:
    """A group that waits; times in seconds."""

    id: str
    age: float
    given_up_in: float  # at the earliest; below 0: as soon as the missing topics have been read to their end
    partition: int
    arrived: tuple[str, ...]
    missing: tuple[str, ...]
    bytes: int


@dataclass(frozen=True, slots=True)
class CallView:
    """A call of process() that is running."""

    id: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole worker at one moment."""

    waiting: int  # groups
    waiting_bytes: int
    oldest_age: float  # seconds
    in_flight: int  # groups
    oldest_call: float  # seconds
    circuit_open_for: float | None  # seconds; None: it is closed, or nothing is held that may close it
    calls: tuple[CallView, ...]  # the longest ones
    uncommitted: int  # groups
    max_pending_bytes: int
    message_timeout: float  # seconds
    partitions: tuple[PartitionView, ...]
    oldest: tuple[WaitingView, ...]
    parked: int = 0  # of the groups in flight: they rest between two attempts, or wait behind their id
    paused: bool = False  # the row says that nothing more is to be taken in
    load: float = 0.0  # of what is in process(), on its way out, or waits: with 1 nothing more is read
    are_apart: bool = False  # partitions are here whose siblings are with another member of the consumer group
    without_leader: int = 0  # partitions of ours that cannot be read: they, or siblings, have none, or it is silent

    @property
    def circuit_open(self) -> bool:
        return self.circuit_open_for is not None


@dataclass(slots=True)
class OldestFound:
    """The arrival of what has waited longest, by the worker's clock, and how long it is taken for that."""

    arrival: float = 0.0
    until: float = 0.0


@dataclass(frozen=True, slots=True)
class View:
    """Looks at a worker, on its thread only."""

    worker: Watched
    aggregator: Aggregator
    _oldest: OldestFound = field(default_factory=OldestFound)

    def snapshot(self, oldest: int = 0) -> Snapshot:
        """With that many of the groups that have waited longest, and of the longest calls."""
        worker, now = self.worker, self.worker.clock()
        longest, calls = self.aggregator.longest(oldest) if oldest else [], worker.executor.calls()
        partitions, intake = self._partitions(now), worker.intake
        return Snapshot(
            waiting=len(self.aggregator),
            waiting_bytes=self.aggregator.bytes,
            oldest_age=max(now - self._oldest_arrival(longest), 0.0) if len(self.aggregator) else 0.0,
            in_flight=worker.executor.in_flight,
            oldest_call=calls[0].seconds if calls else 0.0,
            circuit_open_for=self._circuit_open_for(),
            calls=tuple(CallView(call.id, call.seconds) for call in calls[:oldest]),
            uncommitted=worker.delivery.pending,
            max_pending_bytes=worker.max_pending_bytes,
            message_timeout=worker.message_timeout,
            partitions=partitions,
            oldest=tuple(self._waiting(group, now) for group in longest),
            parked=worker.executor.parked.groups,
            paused=worker.intake.pausing.is_stopped,
            load=worker.load,
            are_apart=self._are_apart(),
            without_leader=len(intake.without_leader | intake.shown_ends.untold),
        )

    def waiting(self, id: str) -> WaitingView | None:
        """The group of this id, if it waits."""
        group = self.aggregator.get(id)
        return self._waiting(group, self.worker.clock()) if group else None

    def in_flight(self, id: str) -> InFlight | None:
        """Where this id is, if it is in process() or on the way there."""
        return self.worker.executor.find(id)

    def _oldest_arrival(self, longest: Sequence[Group]) -> float:
        """Of what waits, of which there is some. `longest`: what is known of it anyway.

        Among a million that are not in order it takes half a second to find.
        """
        if longest:
            return longest[0].arrival
        began = self.worker.clock()
        if began >= self._oldest.until:
            [group] = self.aggregator.longest(1)
            found = self.worker.clock()
            self._oldest.arrival, self._oldest.until = group.arrival, found + LOOK_PAUSE * (found - began)
        return self._oldest.arrival

    def _circuit_open_for(self) -> float | None:
        """Where others have the partitions now, or all that failed is a dead letter, nothing is tried: whether the next
        message would succeed is not known.
        """
        executor = self.worker.executor
        return executor.circuit_open_for if executor.in_flight and self.worker.intake.owned.partitions else None

    def _are_apart(self) -> bool:
        topics = {topic for topic, _ in self.worker.intake.owned.partitions}
        return self.worker.intake.siblings.are_apart() or 0 < len(topics) < len(self.worker.topics_input)

    def _partitions(self, now: float) -> tuple[PartitionView, ...]:
        intake = self.worker.intake
        ends = intake.shown_ends.look(now)
        return tuple(
            PartitionView(
                topic=topic,
                partition=number,
                position=offsets.position,
                end=ends.get((topic, number)),
                lag=offsets.unread(ends[topic, number]) if (topic, number) in ends else None,
                unfinished=offsets.unfinished(),
                map_characters=offsets.map_characters,
                paused=intake.pausing.is_paused((topic, number)),
            )
            for (topic, number), offsets in sorted(intake.owned.partitions.items())
        )

    def _waiting(self, group: Group, now: float) -> WaitingView:
        topics, missing = self.worker.topics_input, self.aggregator.missing(group)
        return WaitingView(
            id=group.id,
            age=max(now - group.arrival, 0.0),
            given_up_in=group.arrival + self.worker.message_timeout - now,
            partition=group.partition,
            arrived=tuple(topic for index, topic in enumerate(topics) if index not in missing),
            missing=tuple(topics[index] for index in missing),
            bytes=group.bytes,
        )
