"""Dead letters once more: those that were chosen are joined, processed and forwarded as messages are, or discarded.

The topic of dead letters is read like an input, by a consumer group of its own whose commits carry maps, too: what was
replayed is finished in it, what was not chosen, or failed again, is not, and is there for the next time. So a run that
ends in the middle, a second one, or two at once, lose and double nothing that the worker itself would not.
"""

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import InitVar, dataclass, field
from typing import NamedTuple, Protocol

from confluent_kafka import Consumer, TopicPartition

from utils.commands.letters import Choice, ListedLetter
from utils.errors import unquoted
from utils.joining.aggregator import Group
from utils.joining.dead_letters import Contents, Part, read, sources
from utils.joining.layout import Layout
from utils.joining.messages import Fragment, Headers, InvalidMessage, join, read_each, read_ids
from utils.joining.offsets import CommitPoint, PartitionOffsets
from utils.kafka.lookups import LATEST, offsets_at
from utils.logger import logger, shown
from utils.metrics import Counters
from utils.processing.executor import Executor
from utils.processing.outcome import Outcome
from utils.reading.batches import Record
from utils.reading.intake import Intake
from utils.reading.pausing import ALMOST_FULL
from utils.sending.assignment import Assignment, Locate
from utils.sending.commits import Commits
from utils.sending.delivery import Delivery
from utils.sending.refusals import Refusals

BUSY = 0.02  # seconds that a step waits for process() before it polls again
IDLE = 0.2  # seconds that a step waits for a record
COMMIT_EVERY = 0.2  # seconds
MAX_IN_FLIGHT = 2_000  # groups in process() or on their way out, before no more is read
ROOM = 512  # bytes of a record beside key and value that count for the client's limit
INCOMPLETE = "still incomplete"
REPLACED = "a later one holds the message of its topic"
IN_DOUBT = "another one holds a message of its topic, and which of them is the later one cannot be told"


class CannotReplay(Exception):
    """Why a dead letter stays: what it holds makes no message."""


class Use(Protocol):
    """What a dead letter that was chosen is used for."""

    @property
    def waiting(self) -> int:
        """How many dead letters are kept for others that are yet to come."""

    @property
    def replaced(self) -> int:
        """How many are of no use, and finished: later ones hold messages of the same topics."""

    @property
    def in_doubt(self) -> int:
        """How many have left the place to others, and stay."""

    def add(self, contents: Contents, offsets: PartitionOffsets, offset: int) -> Group | None:
        """What is to be processed now. Raises CannotReplay."""

    def clear(self) -> None:
        """Forget those that are kept."""


class LetterSet:
    """Dead letters, by partition and offset: a bit each, 64 together."""

    def __init__(self) -> None:
        self._bits: dict[tuple[int, int], int] = {}
        self._count = 0

    def put(self, letters: Iterable[tuple[int, int]], *, within: bool = True) -> None:
        for partition, offset in letters:
            word, bit = (partition, offset // 64), 1 << offset % 64
            bits = self._bits.get(word, 0)
            self._count += within - bool(bits & bit)
            self._bits[word] = bits | bit if within else bits & ~bit

    def __len__(self) -> int:
        return self._count


STOPPED = "stopped: what it has not come to stays as it was"
LEFT_OUT = "dead letters in partitions without a leader were left out: run it again once these have one"


@dataclass(slots=True)
class ReplayResult:
    """What has become of the dead letters that were chosen."""

    stay: Counter[str] = field(default_factory=Counter)  # by why
    failed: int = 0  # of these: process() has failed again, or its result is none that can be sent
    replaced: int = 0
    error: str = ""  # why it has ended before its end
    _done: LetterSet = field(default_factory=LetterSet)

    @property
    def done(self) -> int:
        """Replayed, or discarded."""
        return len(self._done)

    def note(self, letters: Iterable[tuple[int, int]], *, done: bool) -> None:
        """Partition and offset of each. After a failure of Kafka it may be replayed again: what came of that counts."""
        self._done.put(letters, within=done)

    def lines(self, what: str) -> Iterator[str]:
        if self.error:
            yield self.error
        yield f"{self.done:8}  {what}"
        if self.replaced:
            yield f"{self.replaced:8}  left out, now and from now on: {REPLACED}"
        yield from (f"{count:8}  stay: {why}" for why, count in self.stay.most_common())


def rehearse(found: Iterable[ListedLetter], choice: Choice, use: Use, result: ReplayResult) -> None:
    """Count what a replay would do, as far as that can be told without process(), or what would be discarded."""
    partitions: dict[int, PartitionOffsets] = {}
    for each in found:
        if each.done or not choice.takes(each.contents):
            continue
        number = each.at.partition
        offsets = partitions.setdefault(number, PartitionOffsets(each.at.topic, number, Layout(""), 0))
        offsets.read(each.at.offset)
        try:
            group = use.add(each.contents, offsets, each.at.offset)
        except CannotReplay as error:
            result.stay[str(error)] += 1
        else:
            result.note(letters_of(group.fragments) if group else (), done=True)
    _count_left_over(use, result)


def _count_left_over(use: Use, result: ReplayResult) -> None:
    """At the end: what was chosen and is in no group."""
    result.stay += Counter({INCOMPLETE: use.waiting, IN_DOUBT: use.in_doubt})
    result.replaced = use.replaced


def letters_of(fragments: Iterable[Fragment]) -> set[tuple[int, int]]:
    """The dead letters that these are of: partition and offset."""
    return {(each.offsets.partition, each.offset) for each in fragments}


@contextmanager
def progress_bar(width: int = 30) -> Iterator[Callable[[int, int, ReplayResult], None]]:
    """Shows how far a replay is: on a terminal as a bar, else not at all. One that goes away stops nothing."""
    stream = sys.stderr
    is_there = stream.isatty()

    def write(text: str) -> None:
        nonlocal is_there
        try:
            if is_there:
                stream.write(text)
                stream.flush()
        except OSError:
            is_there = False

    def show(read: int, of: int, result: ReplayResult) -> None:
        filled = min(width * read // of, width) if of else width  # more may come while it runs
        stay = sum(result.stay.values())
        write(f"\r[{'#' * filled}{'.' * (width - filled)}] {read}/{of}  done {result.done}, stay {stay} ")

    try:
        yield show
    finally:
        write("\n")


class Held(NamedTuple):
    """A message of a dead letter: its fragment stands for the letter, and it stood there in its topic."""

    fragment: Fragment
    at: tuple[int, int]  # partition and offset

    @property
    def letter(self) -> tuple[int, int]:
        return self.fragment.offsets.partition, self.fragment.offset

    def supersedes(self, before: "Held") -> bool:
        """Whether it is the later one for certain. Letters may come in another order than what they hold did, where a
        message was tried for long; and where a topic was made again, its offsets begin anew.
        """
        (partition, offset), (partition_before, offset_before) = self.letter, before.letter
        same = (partition, self.at[0]) == (partition_before, before.at[0])
        return same and offset > offset_before and self.at[1] >= before.at[1]


class Joining:
    """Dead letters into groups of one message of each input topic; incomplete ones meet their missing parts here.

    The fragments stand for the dead letter: when the group is done, so is it. One of which later ones hold all that it
    held is finished, as a worker finishes what is superseded: else it would be joined in the next replay, when the
    later ones are gone, and its old result would come last.
    """

    def __init__(self, topics_input: tuple[str, ...]) -> None:
        self._index = {topic: index for index, topic in enumerate(topics_input)}
        self._waiting: dict[str, dict[int, Held]] = {}
        self._replaced = LetterSet()
        self._in_doubt: set[tuple[int, int]] = set()

    def add(self, contents: Contents, offsets: PartitionOffsets, offset: int) -> Group | None:
        """The group that this dead letter is, or completes. Raises CannotReplay."""
        held = {each.fragment.topic: each for each in self._held(contents, offsets, offset)}
        id = self._id(contents)
        _refuse_unreadable([each.fragment for each in held.values()])
        if before := self._waiting.pop(id, {}):
            new, held = held, held if len(held) == len(self._index) else before | held
            self._replace(before, new, {each.letter for each in held.values()})
        if len(held) < len(self._index):
            self._waiting[id] = held
            return None
        self._in_doubt.difference_update(each.letter for each in held.values())
        parts = tuple(held[topic].fragment for topic in sorted(held))
        return Group(id, parts, sum(len(each.value) for each in parts))

    def _replace(self, before: dict[int, Held], new: dict[int, Held], left: set[tuple[int, int]]) -> None:
        """`left`: the letters of which some message is still of use."""
        for topic, each in before.items():
            if topic in new and not new[topic].supersedes(each):
                self._in_doubt.add(each.letter)
        for each in before.values():
            if each.letter not in left | self._in_doubt:
                each.fragment.offsets.finish(each.fragment.offset)
                self._replaced.put([each.letter])

    @property
    def waiting(self) -> int:
        """How many dead letters have not met their missing parts."""
        return len({each.letter for group in self._waiting.values() for each in group.values()})

    @property
    def replaced(self) -> int:
        return len(self._replaced)

    @property
    def in_doubt(self) -> int:
        return len(self._in_doubt)

    def incomplete(self) -> dict[str, tuple[str, ...]]:
        """The ids that still lack parts, each with the topics that lack."""
        return {
            id: tuple(topic for topic, at in self._index.items() if at not in fragments)
            for id, fragments in self._waiting.items()
        }

    def clear(self) -> None:
        self._waiting.clear()
        self._in_doubt.clear()

    def _held(self, contents: Contents, offsets: PartitionOffsets, offset: int) -> list[Held]:
        if not contents.parts:
            raise CannotReplay("its messages were too large for it")
        for part in contents.parts:
            if part.topic not in self._index:
                raise CannotReplay(f"{shown(part.topic)} is no input topic any more")
        return [Held(self._fragment(part, offsets, offset), (part.partition, part.offset)) for part in contents.parts]

    def _fragment(self, part: Part, offsets: PartitionOffsets, offset: int) -> Fragment:
        return Fragment(self._index[part.topic], offsets, offset, part.value or b"", part.headers or None)

    def _id(self, contents: Contents) -> str:
        ids, invalid = read_ids([part.value for part in contents.parts])
        if invalid or len(set(ids)) > 1:
            raise CannotReplay(f"still no valid message: {next(iter(invalid.values()), 'different ids')}")
        return ids[0]


def _refuse_unreadable(fragments: Sequence[Fragment]) -> None:
    """What is wrong further inside than `read_ids` looks would keep its mates from the corrected one. CannotReplay."""
    try:
        join(fragments)
    except InvalidMessage as error:
        raise CannotReplay(f"still no valid message: {error}") from None


class Discarding:
    """Each dead letter is done with at once, also one that makes no message; nothing is processed."""

    waiting = replaced = in_doubt = 0

    def __init__(self, result: ReplayResult) -> None:
        self._result = result

    def add(self, _contents: Contents, offsets: PartitionOffsets, offset: int) -> Group | None:
        offsets.finish(offset)
        self._result.note([(offsets.partition, offset)], done=True)
        return None

    def clear(self) -> None:
        pass


@dataclass(kw_only=True, eq=False, slots=True)
class Replay:
    """One run over the topic of dead letters, up to the end that it has when its partitions are assigned."""

    topic: str
    choice: Choice
    use: Use
    consumer: Consumer
    intake: Intake
    delivery: Delivery
    executor: Executor
    refusals: Refusals
    largest: int
    """Bytes of a record that the client takes."""
    room: int
    """Bytes of messages in process() and of results on their way out, above which no more is read."""
    result: ReplayResult
    counters: Counters
    progress: Callable[[int, int, ReplayResult], None]
    """Told how many records of how many have been read, and what became of them."""
    stopping: threading.Event
    locate: InitVar[Locate]
    shutdown_timeout: InitVar[float]
    longest_map: int | None
    """Characters that fit into a commit, where longer maps have no topic."""
    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time

    _ends: dict[tuple[str, int], int] = field(default_factory=dict)
    _begin: dict[tuple[str, int], int] = field(default_factory=dict)
    _assigned: bool = False
    _bytes_in_flight: int = 0  # of the messages in process()

    commits: Commits = field(init=False)
    assignment: Assignment = field(init=False)

    def __post_init__(self, locate: Locate, shutdown_timeout: float) -> None:
        self.assignment = Assignment(self, locate, COMMIT_EVERY, shutdown_timeout)
        self.commits = self.assignment.commits

    def run(self) -> None:
        """Until all is read and done, or `stopping` is set. Sets `stopping` at its end; raises what it cannot mend."""
        try:
            self.assignment.subscribe([self.topic])
            while not (done := self._is_done()) and not self.stopping.is_set():
                self.step()
            self.result.error = (LEFT_OUT if self.intake.siblings.some_are_left_out else "") if done else STOPPED
            _count_left_over(self.use, self.result)
            self.assignment.end()
            self.stopping.set()
        except BaseException as error:
            self.assignment.failure = self.assignment.failure or error
            if not isinstance(error, TooScattered):
                raise
            self.result.error = str(error)
            self.stopping.set()
        finally:
            self.assignment.forget()
            self.consumer.close()

    def step(self) -> None:
        there = self.executor.in_flight + self.delivery.pending
        records = self.intake.read(self._load(), there, 0 if self.executor.in_flight else IDLE)
        if self.assignment.failure:
            raise self.assignment.failure
        batch = self.intake.unfinished(records)
        headers, _ = read_each("headers", batch.records)  # what has none that can be read is no dead letter of ours
        groups = list(filter(None, map(self._take, batch.records, headers, batch.partitions)))
        if groups:
            self._bytes_in_flight += sum([group.bytes for group in groups])
            self.executor.submit(groups)
        self.deliver(self.executor.collect(BUSY))
        self.commits.turn(self._is_full)
        self.progress(*self._read_so_far(), self.result)

    def _load(self) -> float:
        size = self._bytes_in_flight + self.delivery.backlog.bytes
        return max((self.executor.in_flight + self.delivery.pending) / MAX_IN_FLIGHT, size / self.room)

    def _is_full(self) -> bool:
        return self._load() >= ALMOST_FULL and self.delivery.pending > 0

    def _take(self, record: Record, headers: Headers | None, offsets: PartitionOffsets) -> Group | None:
        contents = read(record.key(), record.value(), headers)
        if contents is not None and not contents.is_of(self.choice.consumer):
            offsets.finish(record.offset())  # never looked at again, so that it takes no room in our map
            self.commits.has_news = True
            return None
        if contents is None or not self.choice.takes(contents):
            return None
        self.commits.has_news = True
        try:
            return self.use.add(contents, offsets, record.offset())
        except CannotReplay as error:
            self._stays(str(error), contents.id, contents.about.get("source", ""))
        return None

    def deliver(self, outcomes: list[Outcome]) -> None:
        """What has failed again stays as it is, with its old reason."""
        self._bytes_in_flight -= sum([outcome.group.bytes for outcome in outcomes])
        done = [outcome for outcome in outcomes if self._may_leave(outcome)]
        for outcome in done:
            self.result.note(letters_of(outcome.group.fragments), done=True)
        if done:
            self.delivery.send(done)
            self.commits.has_news = True

    def _may_leave(self, outcome: Outcome) -> bool:
        group, error = outcome.group, outcome.error
        why = ""
        if error is not None:
            why = (
                "no valid message" if isinstance(error, InvalidMessage) else f"failed again: {type(error).__qualname__}"
            )
        elif any(len(each.key) + len(each.value) + ROOM > self.largest for each in outcome.results):
            why = "the result is too large"
        elif sources(group)[0] in self.refusals.groups or self.refusals.largest.refuses(outcome):
            why = "the result is too large for its topic"
        if why:
            self.result.note(letters_of(group.fragments), done=False)
            self.result.failed += 1
            self._stays(why, group.id, sources(group)[0], error)
        return not why

    def _stays(self, why: str, id: str, source: str, error: BaseException | None = None) -> None:
        self.result.stay[why] += 1
        logger.warning("not replayed", extra={"id": id, "source": source, "why": why}, exc_info=unquoted(error))

    def commit_points(self) -> list[CommitPoint]:
        now_ms = int(self.wall_clock() * 1000)
        points = [offsets.commit_point(now_ms, now_ms) for offsets in self.intake.owned.partitions.values()]
        if self.longest_map and any(len(point.metadata) > self.longest_map for point in points):
            raise TooScattered("what is not chosen lies too scattered to be noted: choose more, or --all")
        return points

    def _read_so_far(self) -> tuple[int, int]:
        owned = self.intake.owned.partitions
        read = [owned[at].position - begin for at, begin in self._begin.items() if at in owned]
        return sum(read), sum(end - self._begin[at] for at, end in self._ends.items())

    def _is_done(self) -> bool:
        owned = self.intake.owned.partitions
        is_read = all(owned[at].position >= end for at, end in self._ends.items() if at in owned)
        return self._assigned and is_read and not self.executor.in_flight and self.commits.is_idle

    # ------------------------------------------------------------------ rebalances

    def assigned(self, located: Sequence[PartitionOffsets]) -> None:
        """Told by the assignment: these partitions are ours now, to be read up to the end that they have now.

        What stays is read again, so that it is counted anew.
        """
        self.result.stay.clear()
        self.result.failed = 0
        partitions = [TopicPartition(each.topic, each.partition) for each in located]
        self._ends = offsets_at(self.consumer, partitions, LATEST)
        self._begin = {(each.topic, each.partition): each.position for each in located}
        self._assigned = True

    def may_take(self, seconds: float) -> None:
        """Nobody watches it."""

    def forget(self) -> None:
        """Until the next assignment, of no partitions perhaps, nobody knows whether all is done."""
        self.use.clear()
        self._ends, self._begin = {}, {}
        self._assigned, self._bytes_in_flight = False, 0


class TooScattered(Exception):
    """The map of what was not chosen does not fit into a commit."""
