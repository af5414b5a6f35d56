"""What is known of a worker at a moment, for people and their programs: values, and the sentence that sums them up.

No HTTP, no HTML, no clock. Ids are in it, payloads never.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from utils.monitoring.history import Series
from utils.monitoring.view import PartitionView, Snapshot, WaitingView
from utils.processing.outcome import InFlight

FULL = 0.9  # of MAX_PENDING_BYTES
NEWS = 2.0  # seconds that a message may be in Kafka before the worker counts as behind
PAUSED = "Paused by its row: nothing more is taken in."
UNREAD = "The row cannot be read: no change of it is seen, and no pause."
LONG_CALL = 60.0  # seconds that a call of process() may last without being told
QUEUE = 100  # ids that may be in process(), or before it, without being told beside the rates


@dataclass(frozen=True, slots=True)
class Trouble:
    """A line of the log, WARNING or worse."""

    time: str  # UTC, ISO 8601
    age: float  # seconds
    level: str
    message: str
    facts: dict[str, str]
    error: str = ""  # class of the exception and where it was raised
    ids: tuple[str, ...] = ()  # that it is about


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting or a property of Kafka's client; secrets are masked."""

    name: str
    value: str
    source: str  # default, environment or row


@dataclass(frozen=True, slots=True)
class Search:
    """Where an id is. `asked`: whether the loop has answered."""

    id: str
    asked: bool
    waiting: WaitingView | None
    in_flight: InFlight | None
    troubles: tuple[Trouble, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    level: str  # ok, warning or bad
    sentence: str


@dataclass(frozen=True, slots=True)
class Report:
    consumer: str
    time: str  # UTC, ISO 8601
    verdict: Verdict
    live: bool
    ready: bool
    mismatches: dict[str, str]  # input topics whose keys do not fit those of the others, and why
    refused: tuple[str, ...]  # what is wrong with the row: an earlier one is in force
    topics_input: tuple[str, ...]
    topics_output: tuple[str, ...]
    counters: dict[str, int]
    series: tuple[Series, ...]
    snapshot: Snapshot | None
    troubles: tuple[Trouble, ...]
    settings: tuple[Setting, ...]
    frame: str  # its version and commit


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a verdict is made of."""

    begun: bool
    live: bool
    ready: bool
    restarts: int
    snapshot: Snapshot | None
    series: Sequence[Series]
    errors: int  # in the log of the last minutes,
    remembered: int  # at most
    mismatches: Mapping[str, str]
    refused: bool = False
    unread: bool = False  # the row, the last time
    late: tuple[str, float] | None = None  # what of worker.py has not returned, and for how many seconds


def verdict(facts: Facts) -> Verdict:
    """The first thing that an operator should know."""
    snapshot, errors = facts.snapshot, facts.errors
    if not facts.live:
        return Verdict("bad", "Stuck: the loop has not turned for more than a minute.")
    if facts.late is not None:
        what, lasted = facts.late
        return Verdict("warning", f"Starting: {what} has not returned for {duration(lasted)}.")
    if not facts.begun:
        if facts.restarts:
            return Verdict("bad", f"Starting again from the last commit, for the {_ordinal(facts.restarts)} time.")
        return Verdict("warning", "Starting: waiting for the database or for Kafka.")
    if not facts.ready:
        return Verdict("warning", "Waiting for Kafka to hand out partitions.")
    if snapshot is None:
        return Verdict("warning", "Busy: the loop has not answered within a second.")
    pause = f" {PAUSED}" if snapshot.paused else ""
    if facts.mismatches:
        which = ", ".join(sorted(facts.mismatches))
        return Verdict("bad", f"Not all will meet: the keys of {which} do not fit those of the other topics.{pause}")
    if facts.refused:
        return Verdict("bad", f"The row has been changed and is no good: this worker goes on by the old one.{pause}")
    noted = _count(errors, "error") if errors else ""
    if errors == facts.remembered:
        noted = f"More than {errors - 1} errors"
    found = _of_work(snapshot, {each.title: each.latest for each in facts.series}, noted)
    if facts.unread:
        return Verdict("warning" if found.level == "ok" else found.level, f"{found.sentence} {UNREAD}")
    return found


def _of_work(snapshot: Snapshot, rates: dict[str, float], errors: str) -> Verdict:
    pause = f"{PAUSED} {_left(snapshot)}" if snapshot.paused else ""
    if snapshot.without_leader:
        away = f"Not all is read: {_count(snapshot.without_leader, 'partition')} without a leader that answers."
        return Verdict("bad", f"{away} {pause}".rstrip())
    if not snapshot.partitions:
        return Verdict("ok", "Standing by: other workers have all the partitions.")
    if snapshot.circuit_open_for is not None and not snapshot.paused:
        since = duration(snapshot.circuit_open_for)
        return Verdict("bad", f"Circuit open: process() has failed for all ids for {since}. {_probing(snapshot)}")
    if snapshot.are_apart:
        apart = (
            "Not all will meet: another member of the consumer group, such as a tool with its group.id, has partitions"
            " that belong to those of this worker. The log tells the cure."
        )
        return Verdict("warning", f"{apart} {pause}".rstrip())
    if pause:
        return Verdict("warning", pause)
    doing = _doing(snapshot, rates)
    if errors:
        return Verdict("warning", f"{doing} {errors} in the last ten minutes.")
    if snapshot.waiting_bytes > snapshot.max_pending_bytes // 2 * FULL:
        return Verdict("warning", f"{doing} Memory for waiting messages is nearly full: the rest stays in Kafka.")
    if paused := sum(each.paused for each in snapshot.partitions):
        why = _why_all_paused(snapshot) if paused == len(snapshot.partitions) else "their siblings are behind"
        return Verdict("warning", f"{doing} {_count(paused, 'partition')} paused: {why}.")
    return Verdict("ok", doing)


def _why_all_paused(snapshot: Snapshot) -> str:
    """What has left process() takes room, too, until Kafka has it."""
    if snapshot.uncommitted > snapshot.in_flight - snapshot.parked:
        return f"Kafka takes the results slowly, those of {_count(snapshot.uncommitted, 'id')} are on their way"
    return "process() is slower than its feed"


def _left(snapshot: Snapshot) -> str:
    lag = sum(each.lag or 0 for each in snapshot.partitions)
    parts = [f"{_count(lag, 'message')} unread in Kafka"]
    if snapshot.waiting:
        parts.append(f"{_count(snapshot.waiting, 'id')} waiting, the oldest for {duration(snapshot.oldest_age)}")
    if snapshot.in_flight:
        parts.append(f"{_count(snapshot.in_flight, 'id')} still in process()")
    return ", ".join(parts) + "."


def _probing(snapshot: Snapshot) -> str:
    held = _count(snapshot.in_flight, "id")
    return f"{held} held back, one tried every few seconds; it goes on by itself when one succeeds."


def _doing(snapshot: Snapshot, rates: dict[str, float]) -> str:
    lag = sum(each.lag or 0 for each in snapshot.partitions)
    rate, in_process = rates.get("messages in", 0.0), snapshot.in_flight - snapshot.parked
    if rate:
        doing = f"Working: {rounded(rate)} messages a second in, {rounded(rates['results out'])} results out"
    elif in_process:
        doing = f"Working: {_count(in_process, 'id')} in process()"
    else:
        doing = "Idle: all that has come is read" if not lag else "Reading"
    parts = [doing]
    if lag > rate * NEWS:
        parts.append(f"{_count(lag, 'message')} behind")
    if rate and in_process > max(QUEUE, rate * NEWS):
        parts.append(f"{_count(in_process, 'id')} in process()")
    if snapshot.parked > (QUEUE if rate or in_process else 0):
        parts.append(f"{_count(snapshot.parked, 'id')} between attempts, or behind an earlier one of theirs")
    if snapshot.oldest_call > LONG_CALL:  # nobody may wait for it any more, and it takes a place all the same
        parts.append(f"the longest call of process() has lasted for {duration(snapshot.oldest_call)}")
    if snapshot.waiting:
        parts.append(f"{_count(snapshot.waiting, 'id')} waiting, the oldest for {duration(snapshot.oldest_age)}")
    return ", ".join(parts) + "."


def lagging(partitions: Sequence[PartitionView]) -> list[PartitionView]:
    """The partitions, those farthest behind first."""
    return sorted(partitions, key=lambda each: (-(each.lag or 0), each.topic, each.partition))


def rounded(value: float) -> str:
    """`1,234`, `0.4`, `0`."""
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"


def duration(seconds: float) -> str:
    """`0.4 s`, `59 s`, `3 min 20 s`, `2 h 5 min`, `3 d 1 h`."""
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    for size, unit, smaller, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _ordinal(number: int) -> str:
    ending = "th" if 10 < number % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
