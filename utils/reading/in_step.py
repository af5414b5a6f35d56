"""A consumer that reads topics in step: of what lies in Kafka side by side, it hands out first what is older.

Kafka keeps no order between topics, and its client hands out what has gathered topic by topic. Where ids come again,
parts would meet that were not sent together (docs/promises-and-limits.md, "When ids come again"). So this one stands
between client and worker, and holds records back until their siblings, the partitions of the same number in the other
topics, have come to the same time, or to their end. Nothing else is changed: each partition keeps its order, and which
partition comes first is open with any consumer. Of a record it looks at its timestamp and its size.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby, repeat
from typing import Any

from confluent_kafka import OFFSET_INVALID, TIMESTAMP_NOT_AVAILABLE, Consumer, Message, TopicPartition

from utils.errors import guarded
from utils.joining.aggregator import FOREVER, FRAGMENT_OVERHEAD, NEVER
from utils.joining.messages import read_each
from utils.kafka.ends import EndOffsets, Partition
from utils.kafka.mute import Mute
from utils.logger import logger

MOST_BYTES = 32_000_000  # bytes, of all partitions together: one that holds more than its share is paused
PATIENCE, PATIENCE_WHEN_RECENT = 10.0, 1.0
"""Seconds for which nothing comes of a partition that is not at its end: an open transaction hides it, say, or its
broker is away. Then its siblings go on without it; what is read as it is sent does so sooner. They count only while all
that the client has is taken: else what comes of that partition may lie there, behind others."""
A_TURN = 0.5  # seconds of these between two reads, at most: in a standstill of the process nothing could come
FETCH = 1000  # records at once
RECENT = 1.0  # seconds: what was not older when it was fetched is read as it is sent, and the last fetch told the ends
ASK_AFTER, ASK_EVERY = 0.05, 0.1  # seconds that siblings have waited for a partition, until its end is asked for
TELL_EVERY = 600.0  # seconds at most, of partitions that are not waited for any longer

_NO_TIME = (TIMESTAMP_NOT_AVAILABLE, -1)


Held = tuple[float, float, Message]
"""A record that has been fetched and not yet handed out, or an error: its timestamp in ms, when it was fetched (by the
loop's clock), and it.
"""


@dataclass(slots=True)
class HeldBack:
    """What is held back of a partition. `next`, `epoch`: where reading goes on behind what was handed out of it."""

    next: int = OFFSET_INVALID
    epoch: int = -1
    last: float = NEVER  # the timestamp of what was handed out last, in ms
    held: deque[Held] = field(default_factory=deque)
    bytes: int = 0
    is_full: bool = False  # so it is paused
    at_end: float = NEVER  # the last time for which its broker has said so, by the loop's clock
    waited_for_since: float | None = None  # by its siblings
    quiet_before: float = 0.0  # the seconds of `Quiet` then

    def put(self, held: Iterable[Held], size: int) -> None:
        self.held.extend(held)
        self.bytes += size
        self.waited_for_since = None

    def take(self, most: int, latest: float) -> list[Message]:
        """At least one; what was fetched with it, as far as it is not later than that."""
        held = self.held
        self.last, fetched, message = held.popleft()
        taken = [message]
        while held and held[0][0] <= latest and held[0][1] == fetched and len(taken) < most:
            self.last, _, message = held.popleft()
            taken.append(message)
        self.bytes -= _size(taken)
        last = taken[-1]
        if last.error() is None:
            offset, epoch = last.offset(), last.leader_epoch()
            self.next, self.epoch = OFFSET_INVALID if offset is None else offset + 1, -1 if epoch is None else epoch
        return taken


@dataclass(slots=True)
class Quiet:
    """`seconds` so far in which the client had nothing more to give, though the brokers would have answered."""

    _mute: Mute
    seconds: float = 0.0
    _fetched_at: float = NEVER

    def note(self, now: float, *, has_all: bool) -> None:
        """A fetch; `has_all`: nothing that had come is left in the client."""
        self.seconds += min(now - self._fetched_at, A_TURN) if has_all and not self._mute.seconds else 0
        self._fetched_at = now


class InStep:
    """Stands for the Consumer that it is made around. What is not here goes there as it is."""

    def __init__(
        self,
        consumer: Consumer,
        ends: EndOffsets,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        mute: Mute,
    ) -> None:
        """`ends`: of the logs, also of what open transactions hide. `mute`: of the consumer."""
        self._consumer = consumer
        self._ends = ends
        self._clock = clock
        self._wall_clock = wall_clock
        self._assigned: dict[Partition, HeldBack] = {}
        self._paused: set[Partition] = set()  # by the worker
        self._events: list[Message] = []
        self._turn = 0  # which partition number comes first
        self._ask_from = self._tell_from = NEVER
        self._quiet = Quiet(mute)
        self._failure: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)

    # ------------------------------------------------------------------ what is assigned

    def subscribe(self, topics: list[str], *, on_assign: Any, on_revoke: Any, on_lost: Any) -> None:
        self._consumer.subscribe(
            topics,
            on_assign=guarded(lambda _consumer, partitions: on_assign(self, partitions), self._fail),
            on_revoke=guarded(self._ending(on_revoke), self._fail),
            on_lost=guarded(self._ending(on_lost), self._fail),
        )

    def _ending(self, callback: Callable[..., None]) -> Callable[..., None]:
        def called(_consumer: Consumer, partitions: list[TopicPartition]) -> None:
            try:
                callback(self, partitions)
            finally:
                self._begin(())

        return called

    def _fail(self, error: Exception) -> None:
        """It must not leave a callback, so the next read raises it."""
        self._failure = error

    def assign(self, partitions: list[TopicPartition]) -> None:
        self._consumer.assign(partitions)
        self._begin(partitions)

    def unsubscribe(self) -> None:
        self._consumer.unsubscribe()
        self._begin(())

    def _begin(self, partitions: Iterable[TopicPartition]) -> None:
        self._ends.forget()
        self._assigned = {_at(each): _begun(each) for each in partitions}

    # ------------------------------------------------------------------ records

    def poll(self, timeout: float = -1) -> Message | None:
        for most, wait in ((1, 0), (FETCH, timeout)):  # many, where what has come must wait for what comes behind it
            self._fetch(most, wait)
            if taken := self._take(1):
                return taken[0]
        return None

    def consume(self, num_messages: int = 1, timeout: float = -1) -> list[Message]:
        taken = self._take(num_messages)
        if len(taken) < num_messages:
            self._fetch(num_messages, timeout)
            taken += self._take(num_messages - len(taken))
        return taken

    def _fetch(self, most: int, wait: float) -> None:
        assigned = self._assigned
        first = self._consumer.poll(wait)
        if self._failure:
            raise self._failure
        messages = [] if first is None else [first]
        if messages and most > 1:
            messages += self._consumer.consume(most - 1, 0)
        if most > 1 or not messages:  # one that was asked for and found tells nothing
            self._quiet.note(self._clock(), has_all=len(messages) < most)
        if assigned is self._assigned:
            self._hold_back(messages)
        else:  # a rebalance has come in between, and some may be of before it
            self._events += [message for message in messages if message.error() is not None]
            for at in {_at(message) for message in messages if message.error() is None} & self._assigned.keys():
                self._consumer.seek(_place(at, self._assigned[at]))
        self._pause_and_resume()

    def _hold_back(self, messages: list[Message]) -> None:
        """Errors are handed out at once; one of a partition that holds records behind those."""
        if [message for message in messages if message.error() is not None]:
            for message in messages:
                if message.error() is None:
                    self._hold_back([message])
                else:
                    self._hold_back_error(message)
            return
        times, _ = read_each("timestamp", messages, _NO_TIME)
        begin, now = 0, self._clock()
        for at, same in groupby(messages, key=_at):
            of = list(same)
            end = begin + len(of)
            held = zip([ms for _, ms in times[begin:end]], repeat(now), of)
            self._assigned.setdefault(at, HeldBack()).put(held, _size(of))
            begin = end

    def _hold_back_error(self, message: Message) -> None:
        of = self._assigned.get(_at(message))
        if of is not None and of.held:
            of.put([(NEVER, NEVER, message)], _size([message]))  # nobody is waited for, and none comes with it
        else:
            self._events.append(message)

    def _take(self, most: int) -> list[Message]:
        self._note_ends()
        taken, self._events = self._events[:most], self._events[most:]
        siblings: dict[int, list[Partition]] = {}
        for at in self._assigned:
            if at not in self._paused:
                siblings.setdefault(at[1], []).append(at)
        for number in sorted(siblings, key=lambda each: (each < self._turn, each)):
            if len(taken) == most:
                self._turn = number  # what has not had its turn comes first the next time
                break
            self._take_of(siblings[number], most, taken)
        self._ask()
        return taken

    def _take_of(self, siblings: list[Partition], most: int, taken: list[Message]) -> None:
        """The oldest of what they hold, as long as none of them may still be behind it."""
        ahead = [each for at in siblings if (each := self._assigned[at]).held]
        empty = [at for at in siblings if not self._assigned[at].held]
        known: dict[Partition, bool] = {}
        while ahead and len(taken) < most:
            first, *others = sorted(ahead, key=_first)
            if [at for at in empty if not self._lets_pass(at, first.held[0], known)]:
                return
            taken += first.take(most - len(taken), _first(others[0]) if others else FOREVER)
            if not first.held:
                ahead.remove(first)
                empty = [at for at in siblings if not self._assigned[at].held]

    # ------------------------------------------------------------------ how far a partition has been read

    def _lets_pass(self, at: Partition, held: Held, known: dict[Partition, bool]) -> bool:
        """Whether nothing that lay in this partition before that record is to come. Nothing is held of it.

        It is so where the partition was at its end when that record had been fetched.
        """
        (ms, fetched, _), of, now = held, self._assigned[at], self._clock()
        is_recent = ms / 1000 >= self._wall_clock() - now + fetched - RECENT
        if fetched <= of.at_end or (is_recent and self._is_at_end(at, known)):
            of.waited_for_since = None
            return True
        if of.waited_for_since is None:
            of.waited_for_since, of.quiet_before = now, self._quiet.seconds
        is_silent = self._quiet.seconds - of.quiet_before > (PATIENCE_WHEN_RECENT if is_recent else PATIENCE)
        if is_silent and now >= self._tell_from:
            self._tell_from = now + TELL_EVERY
            facts = {"partition": f"{at[0]}:{at[1]}"}
            logger.warning("reading on without a partition of which nothing comes", extra=facts)
        return is_silent

    def _ask(self) -> None:
        """All in one request. Some may not be waited for any more: that does no harm."""
        if (now := self._clock()) < self._ask_from:
            return
        long_enough = now - ASK_AFTER
        if late := [at for at, of in self._assigned.items() if (of.waited_for_since or now) <= long_enough]:
            self._ask_from = now + ASK_EVERY
            self._ends.ask(late, now)

    def _is_at_end(self, at: Partition, known: dict[Partition, bool]) -> bool:
        """As the last fetch has told."""
        if at not in known:
            known[at] = self._position(at) >= self._consumer.get_watermark_offsets(_place(at), cached=True)[1] >= 0
        return known[at]

    def _note_ends(self) -> None:
        for at, (asked, end) in self._ends.answers().items():
            if (of := self._assigned.get(at)) and self._position(at) >= end:
                of.at_end = asked

    def _position(self, at: Partition) -> int:
        [place] = self._consumer.position([_place(at)])
        return max(place.offset, self._assigned[at].next)

    # ------------------------------------------------------------------ as any consumer

    def position(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """Where the next record is, by what was handed out."""
        asked = [at for each in partitions if not self._holds(at := _at(each))]
        told = dict(zip(asked, self._consumer.position([_place(at) for at in asked]) if asked else (), strict=True))
        return [told[at] if at in told else _place(at, self._assigned[at]) for at in map(_at, partitions)]

    def _holds(self, at: Partition) -> bool:
        return at in self._assigned and bool(self._assigned[at].held)

    def seek(self, partition: TopicPartition) -> None:
        self._consumer.seek(partition)
        at = _at(partition)
        was_full = at in self._assigned and self._assigned[at].is_full
        self._assigned[at] = _begun(partition)
        if was_full and at not in self._paused:
            self._consumer.resume([_place(at)])

    def pause(self, partitions: list[TopicPartition]) -> None:
        self._paused |= set(map(_at, partitions))
        self._consumer.pause(partitions)

    def resume(self, partitions: list[TopicPartition]) -> None:
        self._paused -= set(map(_at, partitions))
        for of in self._assigned.values():  # it did not come, for nobody fetched it
            of.waited_for_since = None
        self._consumer.resume([each for each in partitions if not self._is_full(_at(each))])

    def _is_full(self, at: Partition) -> bool:
        return at in self._assigned and self._assigned[at].is_full

    def _pause_and_resume(self) -> None:
        share = MOST_BYTES // max(len(self._assigned), 1)
        for at, of in self._assigned.items():
            if not of.is_full and of.bytes > share:
                of.is_full = True
                self._consumer.pause([_place(at)])
            elif of.is_full and of.bytes <= share // 2:
                of.is_full = False
                if at not in self._paused:
                    self._consumer.resume([_place(at)])


def _at(of: Any) -> Partition:
    """Of a message, or a TopicPartition."""
    topic, partition = of.topic, of.partition
    return (topic(), partition()) if callable(topic) else (topic, partition)


def _begun(place: TopicPartition) -> HeldBack:
    epoch: int | None = place.leader_epoch
    return HeldBack(place.offset, -1 if epoch is None else epoch)


def _place(at: Partition, of: HeldBack | None = None) -> TopicPartition:
    return TopicPartition(*at, of.next, "", of.epoch) if of else TopicPartition(*at)


def _first(of: HeldBack) -> float:
    """The time of the next one, in ms; that of the one behind it, where that is earlier and the next one the odd one.
    So a clock that is ahead holds nobody up, and one that is behind brings nobody along with it.

    The third one tells which is odd; as long as there is none, the one before them.
    """
    held = of.held
    first, second = held[0][0], held[1][0] if len(held) > 1 else FOREVER
    is_in_order = first <= held[2][0] if len(held) > 2 else second < of.last <= first
    return first if first <= second or is_in_order else second


def _size(messages: Sequence[Message]) -> int:
    return sum(map(len, messages)) + len(messages) * FRAGMENT_OVERHEAD
