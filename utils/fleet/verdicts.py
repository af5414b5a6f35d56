"""How a consumer is, told by its row and two looks at what the brokers say of it: values, and the sentence to act on.

Pure: no Kafka but its error values, no clock, no logging. Two looks, since one cannot tell slow from stuck.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal

from confluent_kafka import KafkaError

from models import ListedRow
from utils.fleet.letters import Letters
from utils.fleet.looks import Pair, Subject
from utils.joining.progress import Progress
from utils.kafka.groups import ConsumerGroup, Member
from utils.kafka.lookups import Topic
from utils.kafka.membership import shared_with_others
from utils.logger import logger
from utils.monitoring.report import duration

Partition = tuple[str, int]
Told = tuple["Level", str, str]  # level, state, sentence
Level = Literal["bad", "warning", "ok"]
LEVELS: tuple[Level, ...] = ("bad", "warning", "ok")

ROW_NO_GOOD = "row no good"
NOT_SEEN = "not seen"
NOBODY = "nobody there"
STILL = "standing still"
NO_COMMIT = "no commit"
REBALANCING = "rebalancing"
BEHIND = "behind"
PAUSED = "paused"
WORKING = "working"
IDLE = "idle"
STATES = (ROW_NO_GOOD, NOT_SEEN, NOBODY, STILL, NO_COMMIT, REBALANCING, BEHIND, PAUSED, WORKING, IDLE)
"""The worst first."""

READS_AT_LEAST_EVERY = 10.0  # seconds: a loop that turns, and may read, has read and committed something by then
IN_PROCESS = 4_000  # so many that are not done may be the reason why a worker reads no more: they are in process()
CALL_AT_LEAST = 60.0  # seconds that a call of process() may last, whatever PROCESS_TIMEOUT says
FAR_BEHIND = 10.0  # seconds of reading that are unread
FEW = 100  # messages to do are never far behind
TOO_LONG = 3.0  # times MESSAGE_TIMEOUT that a message may wait: there is no room, or a partition is not read


@dataclass(frozen=True, slots=True)
class Rates:
    """A second, between the two looks."""

    read: float = 0.0
    done: float = 0.0
    coming: float = 0.0


@dataclass(frozen=True, slots=True)
class PartitionSeen:
    topic: str
    partition: int
    unread: int
    unfinished: int
    committed: int | None
    read: int
    end: int
    host: str  # of its member; empty: nobody's


@dataclass(frozen=True, slots=True)
class MemberSeen:
    host: str
    client_id: str
    instance: str
    partitions: Mapping[str, tuple[int, ...]]  # numbers, by topic
    still_for: float | None = None  # seconds for which nothing has moved that should have


@dataclass(frozen=True, slots=True)
class ConsumerSeen:
    """One row of the table, and how its consumer is. What could not be told is None."""

    name: str
    level: Level
    state: str
    sentence: str
    cluster: str = ""
    topics_input: tuple[str, ...] = ()
    topics_output: tuple[str, ...] = ()
    paused: bool = False
    unread: int | None = None
    unfinished: int | None = None  # read and not done: waiting for other parts, or in process()
    waits: bool = False  # some of them wait for other parts
    since: str | None = None  # when the oldest of them came: UTC, ISO 8601
    age: float | None = None  # of it, in seconds
    letters: Letters | None = None
    members: tuple[MemberSeen, ...] = ()
    frames: tuple[str, ...] = ()  # versions of the frame that have made the last commits
    rates: Rates = Rates()
    partitions: tuple[PartitionSeen, ...] = ()
    topic_rates: Mapping[str, float] = field(default_factory=dict)  # read a second of each input, come of each output
    missing_topics: tuple[str, ...] = ()


def judged(
    listed: ListedRow, subject: Subject | None, looks: Pair | None, collisions: Sequence[str] = ()
) -> ConsumerSeen:
    """None, both of them, where the row is no good. `collisions`: with other rows, see utils/kafka/names.py."""
    if subject is None or looks is None:
        return ConsumerSeen(listed.consumer_name, "bad", ROW_NO_GOOD, _sentence("; ".join(listed.problems)))
    try:
        seen = _Judge(subject, looks).judged()
    except Exception as error:  # what one group has committed, or a topic of it says, hides no other consumer
        logger.exception("a consumer cannot be judged", extra={"row": listed.consumer_name})
        return ConsumerSeen(listed.consumer_name, "bad", NOT_SEEN, f"it cannot be judged: {type(error).__name__}.")
    level: Level = "warning" if collisions and seen.level == "ok" else seen.level
    return replace(seen, level=level, sentence=" ".join([seen.sentence, *map(_sentence, collisions)]))


def utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def worst_first(consumers: Sequence[ConsumerSeen]) -> list[ConsumerSeen]:
    return sorted(
        consumers,
        key=lambda each: (LEVELS.index(each.level), STATES.index(each.state), -(each.unread or 0), each.name),
    )


class _Judge:
    """Of one consumer."""

    def __init__(self, subject: Subject, looks: Pair) -> None:
        self.row, self.settings = subject.row, subject.settings
        self.before, self.now = before, now = looks
        self.seconds = max(now.at - before.at, 0.001)
        group = now.group
        self.group = group if isinstance(group, ConsumerGroup) else ConsumerGroup("DEAD", ())
        self.parts = list(now.progress.values())
        self.unread = sum(each.unread for each in self.parts)
        self.unfinished = sum(each.unfinished for each in self.parts)
        self.since = min((each.since for each in self.parts if each.since is not None), default=None)
        self.rates = Rates(
            self._rate(lambda each: each.read), self._rate(lambda each: each.done), self._rate(lambda each: each.end)
        )
        self.still = {member: self._still_for(member) for member in self.group.members}

    @property
    def waits(self) -> bool:
        return any(each.waits for each in self.parts)

    def _rate(self, of: Callable[[Progress], int]) -> float:
        known = self.before.progress
        moved = sum(of(each) - of(known[at]) for at, each in self.now.progress.items() if at in known)
        return max(moved / self.seconds, 0.0)

    def judged(self) -> ConsumerSeen:
        told = self._of_what_is_not_there() or self._of_nobody() or self._of_members()
        level, state, sentence = told
        notes = list(self._notes())
        if level == "ok" and notes:
            level = "warning"
        seen = not self.now.trouble and not self.now.commits_problem
        return ConsumerSeen(
            name=self.row.consumer_name,
            level=level,
            state=state,
            sentence=" ".join([_sentence(sentence), *notes]),
            cluster=self.row.bootstrap_servers,
            topics_input=self.row.topics_input,
            topics_output=self.row.topics_output,
            paused=self.settings.paused,
            unread=self.unread if seen else None,
            unfinished=self.unfinished if seen else None,
            waits=self.waits,
            since=None if self.since is None else utc(self.since),
            age=None if self.since is None else max(self.now.at - self.since, 0.0),
            letters=self.now.letters,
            members=tuple(self._member(each) for each in self.group.members),
            frames=tuple(sorted({each.frame for each in self.parts if each.frame})),
            rates=self.rates,
            partitions=tuple(self._partition(each) for each in self.parts),
            topic_rates=self._topic_rates(),
            missing_topics=tuple(self._missing()),
        )

    # ------------------------------------------------------------------ states

    def _of_what_is_not_there(self) -> Told | None:
        if self.now.trouble:
            return "bad", NOT_SEEN, self.now.trouble.line
        if missing := self._missing():
            column = dict.fromkeys(self.row.topics_input, "topics_input")
            listed = ", ".join(f"{topic} of {column.get(topic, 'topics_output')}" for topic in missing)
            plural = "s do" if len(missing) > 1 else " does"
            return "bad", ROW_NO_GOOD, f"topic{plural} not exist: {listed}{self._goes_on()}"
        problems = {name: each for name, each in self.now.topics.items() if isinstance(each, KafkaError)}
        for name, problem in problems.items():
            return "bad", NOT_SEEN, f"topic {name}: {problem.str()}"
        for answer in (self.now.group, self.now.commits_problem):
            if isinstance(answer, KafkaError):
                return "bad", NOT_SEEN, f"consumer group {self.row.consumer_name}: {answer.str()}"
        expected = sum(each.partitions for name, each in self._input_topics().items())
        if len(self.parts) < expected:
            lacking = expected - len(self.parts)
            return "bad", NOT_SEEN, f"{_count(lacking, 'partition')} did not answer: a broker may be away"
        return None

    def _missing(self) -> list[str]:
        missing = KafkaError.UNKNOWN_TOPIC_OR_PART
        return [
            name for name, each in self.now.topics.items() if isinstance(each, KafkaError) and each.code() == missing
        ]

    def _goes_on(self) -> str:
        number = len(self.group.members)
        return f"; {_count(number, 'worker')} may go on by an older row" if number else ""

    def _input_topics(self) -> Mapping[str, Topic]:
        return {
            name: each
            for name, each in self.now.topics.items()
            if name in self.row.topics_input and not isinstance(each, KafkaError)
        }

    def _of_nobody(self) -> Told | None:
        if self.group.members:
            return None
        left = self._left()
        if self.settings.paused:
            return "warning", PAUSED, f"paused by its row, and nobody is there{left}"
        if isinstance(self.before.group, ConsumerGroup) and self.before.group.members:
            sentence = "no worker is in the consumer group, and a moment ago one was: it starts again, or has ended"
            return "warning", REBALANCING, f"{sentence}{left}{self._last_commit()}"
        if all(each.committed is None for each in self.parts):
            level: Level = "bad" if self.unread else "warning"
            since = "no worker has run yet, or all were away for so long that Kafka has deleted their commits"
            return level, NO_COMMIT, f"{since} (offsets.retention.minutes){left}; a start reads all from its beginning"
        return "bad", NOBODY, f"no worker is in the consumer group{left}{self._last_commit()}"

    def _left(self) -> str:
        parts = [f"{self.unread:,} unread"] if self.unread else []
        if self.unfinished:
            parts.append(f"{self.unfinished:,} not done, the oldest for {self._age()}")
        return f": {', '.join(parts)}" if parts else ""

    def _of_members(self) -> Told:
        if self.group.state not in {"STABLE", "UNKNOWN"} and not any(each.partitions for each in self.group.members):
            return "warning", REBALANCING, f"{_count(len(self.group.members), 'worker')} share out the partitions"
        if self.settings.paused:
            if self.rates.read:
                return "warning", PAUSED, f"about to pause: still reads {self._speed(self.rates.read)}"
            return "warning", PAUSED, f"paused by its row{self._left()}; fleet resume lets it go on"
        if still := {member: since for member, since in self.still.items() if since is not None}:
            return "bad", STILL, self._standing_still(still)
        if stale := self._in_process_too_long():
            return "warning", WORKING, stale
        return self._of_work()

    def _standing_still(self, still: Mapping[Member, float]) -> str:
        members = len(self.group.members)
        workers = f"{len(still)}{'' if len(still) == members else f' of {members}'} worker{'' if members == 1 else 's'}"
        hosts = ", ".join(sorted({each.host for each in still}))
        since = duration(max(still.values()))
        unread = sum(each.unread for each in self.parts if self._owner(each) in still)
        return (
            f"nothing moves on {workers} ({hosts}), with {unread:,} unread; the last commit was {since} ago:"
            " the process hangs, or process() does not return or fails for all; look at its status page"
        )

    @property
    def _longest_call(self) -> float:
        return max(CALL_AT_LEAST, self.settings.process_timeout)

    def _in_process_too_long(self) -> str:
        """Where nothing is unread, and nothing waits for other parts, what is not done is in process(). Old is also
        what waits there for its turn, behind thousands of slow calls: so it counts what gets done between the looks."""
        if self.waits or self.unread:
            return ""
        old = [each for each in self.parts if each.since is not None and self.now.at - each.since >= self._longest_call]
        if not old:
            return ""
        told = f"{self.unfinished:,} in process(), the oldest for {self._age()}"
        if any(map(self._is_overtaken, old)):
            return f"{told}, while others are done: it hangs, or fails again and again"
        may_tell = self.seconds >= self.settings.commit_interval  # else something may be done, and not yet committed
        if may_tell and any(not self._gets_done(self._owner(each)) for each in old):
            return f"{told}, none done in {duration(self.seconds)}: it hangs, fails again and again, or is slow"
        return ""

    def _is_overtaken(self, now: Progress) -> bool:
        """As many were done since the first look as were there then: in their turn, nothing would be left of those."""
        before = self.before.progress.get((now.topic, now.partition))
        return before is not None and now.done - before.done >= before.unfinished > 0

    def _gets_done(self, owner: Member | None) -> bool:
        known = self.before.progress
        theirs = [each for each in self.parts if self._owner(each) == owner and (each.topic, each.partition) in known]
        return any(each.done > known[each.topic, each.partition].done for each in theirs)

    def _of_work(self) -> Told:
        moves = self.rates.read or self.rates.done
        doing = f"{self._speed(self.rates.done)} done" if moves else ""
        waiting = self._waiting()
        if self.unread > max(FEW, max(self.rates.read, self.rates.done) * FAR_BEHIND):
            return "warning", BEHIND, ", ".join(filter(None, [self._behind(), waiting]))
        if left := self._left_in_process():
            return "warning", BEHIND, f"{waiting}, {self._speed(self.rates.done)} done: about {duration(left)} behind"
        if self.unread or moves:
            return "ok", WORKING, ", ".join(filter(None, [doing or f"{self.unread:,} unread", waiting]))
        return "ok", IDLE, ", ".join(filter(None, ["all is read", waiting]))

    def _left_in_process(self) -> float:
        """Seconds until what is in process() is done, where they are more than one call may last."""
        if self.waits or self.unfinished <= FEW or not self.rates.done:
            return 0.0
        left = self.unfinished / self.rates.done
        return left if left > self._longest_call else 0.0

    def _behind(self) -> str:
        catching_up = self.rates.read - self.rates.coming
        if not self.rates.read and self.rates.done:
            left = (self.unread + self.unfinished) / self.rates.done
            return f"{self.unread:,} unread, {self._speed(self.rates.done)} done: about {duration(left)} behind"
        if not self.rates.read:
            return f"{self.unread:,} unread, none read in {duration(self.seconds)}{self._last_commit()}"
        speeds = f"{self._speed(self.rates.read)} read, {self._speed(self.rates.coming)} come"
        if catching_up > 0:
            return f"{self.unread:,} unread, {speeds}: about {duration(self.unread / catching_up)} behind"
        return f"{self.unread:,} unread and more all the time: {speeds}"

    def _waiting(self) -> str:
        if not self.unfinished:
            return ""
        if not self.waits:
            return f"{self.unfinished:,} in process()"
        topics = {each.topic: 0 for each in self.parts}
        for each in self.parts:
            topics[each.topic] += each.unfinished
        most = max(topics, key=lambda topic: topics[topic])
        return f"{self.unfinished:,} wait, most of them of {most}, the oldest for {self._age()}"

    def _age(self) -> str:
        return duration(max(self.now.at - self.since, 0.0)) if self.since is not None else "an unknown time"

    def _last_commit(self) -> str:
        last = max((each.committed_at for each in self.parts if each.committed_at is not None), default=None)
        return "" if last is None else f"; the last commit was {duration(max(self.now.at - last, 0.0))} ago"

    def _speed(self, rate: float) -> str:
        return f"{rate:,.0f} a second" if rate >= 9.5 or not rate else f"{rate:.1f} a second"

    # ------------------------------------------------------------------ who stands still

    def _owner(self, each: Progress) -> Member | None:
        at = each.topic, each.partition
        return next((member for member in self.group.members if at in member.partitions), None)

    def _still_for(self, member: Member) -> float | None:
        """Seconds for which nothing has moved that should have. None: it moves, need not, or may be slow."""
        owned = [each for at in member.partitions if (each := self.now.progress.get(at))]
        if not any(map(self._stays_unread, owned)) or any(map(self._has_moved, owned)):
            return None
        if self.seconds < self.settings.commit_interval:  # it may have moved, and not yet said so
            return None
        last = max((each.committed_at for each in owned if each.committed_at is not None), default=None)
        if last is None:  # a commit comes right after each assignment
            return self.seconds
        still_for = max(self.now.at - last, self.seconds)  # where its clock is ahead, only the looks tell
        may_be_full = not self.waits and sum(each.unfinished for each in owned) >= IN_PROCESS
        patience = max(READS_AT_LEAST_EVERY, self._longest_call if may_be_full else 0)
        return still_for if still_for >= patience else None

    def _stays_unread(self, now: Progress) -> bool:
        """Something that was unread at the first look is so at the second."""
        before = self.before.progress.get((now.topic, now.partition))
        return before is not None and now.read < before.end

    def _has_moved(self, now: Progress) -> bool:
        """New at the second look is moved, too: the partition has just come to somebody."""
        before = self.before.progress.get((now.topic, now.partition))
        key = now.committed, now.read, now.unfinished, now.committed_at
        if before is None or key != (before.committed, before.read, before.unfinished, before.committed_at):
            return True
        group = self.before.group
        owners = group.members if isinstance(group, ConsumerGroup) else ()
        return not any((now.topic, now.partition) in each.partitions for each in owners)

    # ------------------------------------------------------------------ what else an operator should know

    def _notes(self) -> list[str]:
        notes = []
        if self.letters_open and self.now.letters:
            notes.append(_of_letters(self.now.letters))
        if deleted := sum(each.deleted for each in self.parts):
            notes.append(f"{deleted:,} were deleted from Kafka before they were read.")
        if former := sorted({each.topic for each in self.parts if each.trouble == "former topic"}):
            notes.append(f"{', '.join(former)} was made again: it is read from its beginning.")
        if cut := sorted({each.topic for each in self.parts if each.trouble == "log cut"}):
            notes.append(f"The log of {', '.join(cut)} ends below what was committed: records were lost in Kafka.")
        if any(each.trouble == "map elsewhere" for each in self.parts):
            notes.append("Its map may not be read: what was read and waits is not known (READ on its topic of maps).")
        if alone := self._without_owner():
            notes.append(f"Nobody reads {alone}: its workers may go on by an older row.")
        notes += self._of_other_topics() or ([] if alone else self._of_parts_apart())
        timeout = self.settings.message_timeout
        if self.waits and not self.settings.paused and self.since and self.now.at - self.since > TOO_LONG * timeout:
            known = f"{duration(timeout)} by the row and the environment of fleet"
            notes.append(f"They wait for more than {TOO_LONG:g} times MESSAGE_TIMEOUT ({known}).")
        counts = {topic: each.partitions for topic, each in self._input_topics().items()}
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{topic} has {number}" for topic, number in counts.items())
            notes.append(f"Unequal partition counts ({listed}): no more than one worker may run.")
        return notes

    def _of_other_topics(self) -> list[str]:
        """What members have that no worker by this row would ask for. So the two share what each of them must join."""
        notes = []
        for member in self.group.members:
            topics = sorted({topic for topic, _ in member.partitions} - {*self.row.topics_input})
            if topics:
                verb = "is" if len(topics) == 1 else "are"
                which = f"{', '.join(topics)}, which {verb} not in the row"
                notes.append(f"{member.host} reads {which}: by an older row, or by one in another database.")
        return notes

    def _of_parts_apart(self) -> list[str]:
        """Where some members have other numbers of one topic than of another: what should meet is with two of them."""
        counts = {topic: each.partitions for topic, each in self._input_topics().items()}
        odd = [each for each in self._settled if shared_with_others(each.partitions, counts)]
        if not odd:
            return []
        told = "; ".join(f"{each.host} has {numbers(each.partitions)}" for each in odd)
        return [f"Not all will meet: {told}: one of them is no worker by this row, such as a tool with its group.id."]

    @property
    def letters_open(self) -> bool:
        return bool(self.now.letters and self.now.letters.count)

    def _without_owner(self) -> str:
        owned = {at for member in self._settled for at in member.partitions}
        return numbers([at for at in self.now.progress if at not in owned]) if self._settled else ""

    @property
    def _settled(self) -> Sequence[Member]:
        """The members, where no rebalance is about to give them other partitions."""
        return self.group.members if self.group.state == "STABLE" else ()

    # ------------------------------------------------------------------ values

    def _member(self, member: Member) -> MemberSeen:
        topics: dict[str, tuple[int, ...]] = {}
        for topic, number in member.partitions:
            topics[topic] = (*topics.get(topic, ()), number)
        return MemberSeen(member.host, member.client_id, member.instance, topics, self.still.get(member))

    def _partition(self, each: Progress) -> PartitionSeen:
        owner = self._owner(each)
        numbers_of_it = each.unread, each.unfinished, each.committed, each.read, each.end
        return PartitionSeen(each.topic, each.partition, *numbers_of_it, owner.host if owner else "")

    def _topic_rates(self) -> dict[str, float]:
        rates = dict.fromkeys((*self.row.topics_input, *self.row.topics_output), 0.0)
        for at, each in self.now.progress.items():
            if at in self.before.progress:
                rates[at[0]] += max(each.read - self.before.progress[at].read, 0) / self.seconds
        for at, end in self.now.ends.items():
            rates[at[0]] += max(end - self.before.ends.get(at, end), 0) / self.seconds
        return rates


def numbers(partitions: Sequence[Partition]) -> str:
    """`orders 0-2 5, payments 0-2`."""
    topics: dict[str, list[int]] = {}
    for topic, number in sorted(partitions):
        topics.setdefault(topic, []).append(number)
    return ", ".join(f"{topic} {runs(each)}" for topic, each in topics.items())


def runs(numbers: Sequence[int]) -> str:
    """`0-2 5`."""
    parts: list[list[int]] = []
    for each in sorted(numbers):
        if parts and parts[-1][-1] == each - 1:
            parts[-1] = [parts[-1][0], each]
        else:
            parts.append([each, each])
    return " ".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def _of_letters(letters: Letters) -> str:
    number = f"{'' if letters.exact else 'about '}{_count(letters.count, 'dead letter')}"
    said = f", the newest: {letters.error or letters.reason}" if letters.reason else ""
    return _sentence(f"{number}{said[:160]}")


def _sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "…")) else ".")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
