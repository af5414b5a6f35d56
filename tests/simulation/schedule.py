"""What the simulation runs: a setup that stays, and a list of actions. They can be drawn, printed and shrunk."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from types import MappingProxyType
from typing import Any, NamedTuple

from utils.joining.offsets import MAX_METADATA

LENGTH = 80  # actions in a drawn schedule
HEADER = 12  # bytes that draw the setup
BYTES = HEADER + 3 * LENGTH

INPUTS = ("a", "b", "c")
OUTPUTS = ("x", "y")
DEAD_LETTERS = "d"
SHORT = 87  # characters of a map that fit into a commit, where maps are to overflow


@dataclass(frozen=True, slots=True)
class Setup:
    """The defaults are the simplest case; a failing schedule is shrunk towards them."""

    topics: int = 2
    partitions: int = 1
    workers: int = 1
    out: int = 1
    exactly_once: bool = False
    static: bool = False
    quirks: bool = False  # the clients' calls take all courses, not only the one without complications
    crashes: bool = False
    freezes: bool = False
    rebalances: bool = False
    faults: bool = False  # of requests
    transactions: bool = False  # of those who feed
    odd: bool = False  # duplicates, invalid messages, ids used again, process() that filters or fails
    evictions: bool = False  # time passes in minutes
    tight: bool = False  # memory for a few groups only
    large: bool = False  # some records take most of it
    slow: bool = False  # a read brings a few records only
    loss: bool = False  # compaction and retention
    destruction: bool = False  # offsets and maps are changed from outside, topics made again
    small_queue: bool = False
    narrow: bool = False  # the output takes a few records in a second, and those that come late have failed
    unequal: bool = False  # one topic has more partitions than the others: several workers cannot go on
    skewed: bool = False  # the clocks of the workers' hosts differ
    overflows: bool = False  # a map of a few waiting offsets does not fit into a commit
    strict: bool = False  # it does not, and the brokers have not said so
    deadly: bool = False  # process() ends the whole process for some ids
    discards: bool = False  # DLQ_TOPIC is empty: what fails or is given up leaves no dead letter
    calls: bool = False  # process() fails once or for long, asks for later, hangs; and some ids come many times
    many_calls: bool = False  # at once
    pauses: bool = False  # the row says now and then that nothing more is to be taken in
    rows: bool = False  # the row changes: an input topic comes or goes, and each worker sees it in its own time
    crowded: bool = False  # the maps that fit are together more than a commit may be large
    foreign: bool = False  # records as others may write them: names of headers, keys and times of any kind
    hours: bool = False  # clocks of hosts are set, by hours
    in_step: bool = False  # the topics are read in the order of their records' timestamps
    alike: bool = False  # known to be so: ids have the same partition number in all topics (else ids are too few)

    @property
    def inputs(self) -> tuple[str, ...]:
        return INPUTS[: self.topics]

    @property
    def outputs(self) -> tuple[str, ...]:
        return OUTPUTS[: self.out]

    @property
    def dead_letters(self) -> str:
        return "" if self.discards else DEAD_LETTERS

    @property
    def hangs(self) -> bool:
        """Whether calls may hang."""
        return not self.trips

    @property
    def trips(self) -> bool:
        """Whether few ids that fail in a row open the circuit. Not where there is no room for good ones beside them."""
        return self.calls and self.odd and not (self.small_queue or self.tight)

    @property
    def leaps(self) -> bool:
        """Whether reading leaps over few offsets that are done."""
        return self.odd

    @property
    def many(self) -> int:
        """Results of one message that has more than one. With memory for a few groups they take more than it."""
        return 12 if self.tight and not (self.large or self.narrow) else 2

    @property
    def skew(self) -> float:
        """Seconds that a host's clock is off at most."""
        return 2.0 if self.skewed else 0.0

    def partitions_of(self, topic: str) -> int:
        return self.partitions + (self.unequal and topic == INPUTS[1])

    @property
    def evicts(self) -> bool:
        """Where memory is short, what is complete may wait for room until something is given up."""
        return self.evictions or self.tight

    @property
    def message_timeout(self) -> float:
        return 60.0 if self.evicts else 1e6

    @property
    def max_pending_bytes(self) -> int:
        return 10_000 if self.tight else 1 << 30

    @property
    def longest_map(self) -> int:
        """Characters that fit into a commit, as far as the worker knows."""
        return SHORT if self.overflows else MAX_METADATA

    @property
    def longest_taken(self) -> int:
        """Characters of a map that the brokers take.

        Of a worker that dies of its first message none is taken in time: here even the shortest map is too long.
        """
        return SHORT if self.overflows or (self.strict and not self.deadly) else MAX_METADATA

    @property
    def most_in_commit(self) -> int:
        """Characters of all maps in a commit, where that is bounded: about as many as the shortest ones have."""
        return SHORT * sum(map(self.partitions_of, INPUTS if self.rows else self.inputs))

    @property
    def producer_room(self) -> int:
        return 2 if self.small_queue else 1_000

    def __str__(self) -> str:
        plain = asdict(Setup())
        return f"Setup({', '.join(f'{key}={value}' for key, value in asdict(self).items() if value != plain[key])})"


class Action(NamedTuple):
    """`who` is a worker, a topic or nobody; `how` says which one, how many or how, as the kind of action needs it."""

    kind: str
    who: int = 0
    how: int = 0


class Schedule(NamedTuple):
    setup: Setup
    actions: tuple[Action, ...]

    def __str__(self) -> str:
        lines = (f"    {tuple(action)}," for action in self.actions)
        return "\n".join([f"{self.setup}", "[", *lines, "]"])


# Kinds of actions with their weights, and what must be switched on in the setup for them.
_KINDS: tuple[tuple[str, int, Callable[[Setup], bool]], ...] = (
    ("feed", 8, lambda _: True),  # a new id in one topic
    ("feed all", 6, lambda _: True),  # a new id in all topics
    ("mate", 12, lambda _: True),  # of an id that lacks one
    ("step", 34, lambda _: True),  # a turn of a worker's loop
    ("calls", 8, lambda _: True),  # so many calls of its clients, which may end in the middle of a turn
    ("time", 3, lambda _: True),
    ("again", 3, lambda s: s.odd),  # an id that is done, once more
    ("version", 6, lambda s: (s.odd or s.calls) and not s.rows),  # an id that was called and is not done, once more
    ("duplicate", 4, lambda s: s.odd),
    ("invalid", 2, lambda s: s.odd),
    ("rounds", 3, lambda s: s.calls or s.deadly),  # turns of all workers, started again where they have ended
    ("same", 6, lambda s: s.calls),  # some records of an id that fails, once or for long
    ("start", 3, lambda s: s.crashes or s.rebalances or s.deadly or s.calls),
    ("kill", 5, lambda s: s.crashes),
    ("kill twice", 1, lambda s: s.crashes),  # the second time soon after it was started again
    ("stop", 3, lambda s: s.rebalances),
    ("rebalance", 3, lambda s: s.rebalances),
    ("lose", 2, lambda s: s.rebalances),
    ("freeze", 4, lambda s: s.freezes),
    ("thaw", 3, lambda s: s.freezes),
    ("session", 3, lambda s: s.freezes or s.crashes),  # so much time passes that a member is missed
    ("fault", 8, lambda s: s.faults),
    ("transaction", 4, lambda s: s.transactions),  # begin one, or end it, in an input partition
    ("burst", 5, lambda s: s.tight),  # some new ids in one topic
    ("mates", 4, lambda s: s.tight),  # of some that lack one, newest first
    ("minute", 4, lambda s: s.evicts),
    ("compact", 3, lambda s: s.loss),
    ("retention", 2, lambda s: s.loss),
    ("compact maps", 4, lambda s: s.overflows or s.strict),
    ("reset", 2, lambda s: s.destruction),
    ("wipe", 2, lambda s: s.destruction),
    ("damage", 2, lambda s: s.destruction),
    ("recreate", 1, lambda s: s.destruction),
    ("row", 3, lambda s: s.rows),
    ("bad row", 1, lambda s: s.rows),
    ("assignment", 2, lambda s: s.faults),  # the next ones fail
    ("outage", 2, lambda s: s.trips),  # some new ids in all topics for which process() fails
    ("clock", 3, lambda s: s.hours),
    ("pause", 3, lambda s: s.pauses),
    ("resume", 3, lambda s: s.pauses),
)


def decode(drawn: bytes, fixed: Mapping[str, Any] = MappingProxyType({})) -> Schedule:
    """Any bytes are a schedule. `fixed` are fields of the setup that are not drawn."""
    setup = Setup(**(asdict(_setup(drawn[:HEADER])) | dict(fixed)))
    kinds = [kind for kind, weight, needs in _KINDS if needs(setup) for _ in range(weight)]
    actions = (drawn[at : at + 3] for at in range(HEADER, len(drawn) - 2, 3))
    return Schedule(setup, tuple(Action(kinds[kind % len(kinds)], who % 3, how) for kind, who, how in actions))


def _setup(drawn: bytes) -> Setup:
    """Each switch is off in most schedules, so that each combination of few comes up."""
    some, more, rest = drawn[9:12]
    rows = drawn[7] // 2 % 8 == 7
    unequal = rest % 8 == 7 and not rows
    deadly = drawn[4] // 2 % 8 == 7
    return Setup(
        topics=(2, 2, 2, 1, 3)[drawn[0] % 5],
        partitions=(1, 2, 1, 3)[drawn[1] % 4],
        workers=1 if unequal and rest < 128 else (1, 2, 3, 2)[drawn[2] % 4],
        out=(1, 1, 1, 2, 1, 0)[drawn[3] % 6],
        exactly_once=drawn[4] % 2 == 1,
        static=drawn[5] % (2 if rows else 4) == (1 if rows else 3),
        quirks=drawn[6] % 4 > 0,
        crashes=drawn[7] % 2 == 1,
        freezes=drawn[8] % 3 == 2,
        rebalances=drawn[8] // 3 % 2 == 1,
        faults=some % 2 == 1,
        transactions=some // 2 % 4 == 3,
        odd=some // 8 % 2 == 1,
        evictions=some // 16 % 4 == 3,
        tight=some // 64 % 4 == 3 and rest // 64 % 2 == 1,
        large=drawn[2] // 4 % 2 == 1,
        slow=drawn[1] // 4 % 4 == 3,
        loss=more % 8 == 7,
        destruction=more // 8 % 8 == 7 and not rows,
        small_queue=more // 64 == 3,
        narrow=drawn[6] // 4 % 8 == 7,
        unequal=unequal,
        skewed=rest // 8 % 4 == 3,
        overflows=drawn[3] // 8 % 4 == 3,
        strict=drawn[0] // 8 % 8 == 7,
        deadly=deadly,
        discards=drawn[8] // 6 % 4 == 3,
        calls=drawn[6] // 4 % 4 == 3,
        many_calls=drawn[6] // 16 % 2 == 1,
        alike=not unequal and drawn[5] // 4 % 2 == 1,
        pauses=drawn[5] // 8 % 8 == 7,
        rows=rows,
        crowded=drawn[1] // 16 % 8 == 7 and drawn[3] // 8 % 4 != 3 and drawn[0] // 8 % 8 != 7,
        foreign=drawn[4] // 16 % 8 == 7,
        hours=drawn[2] // 8 % 8 == 7,
        in_step=drawn[1] // 128 == 1,
    )


def shrink(schedule: Schedule, fails: Callable[[Schedule], bool], tries: int = 2_000) -> Schedule:
    """The shortest schedule found that still fails: actions left out, then numbers and the setup made simpler."""
    left = [tries]

    needs = {kind: needed for kind, _, needed in _KINDS}
    may_be_at_first = all(needs[action.kind](schedule.setup) for action in schedule.actions)

    def still(candidate: Schedule) -> bool:
        left[0] -= 1
        kinds = {action.kind for action in candidate.actions}
        may_be_drawn = all(needs[kind](candidate.setup) for kind in kinds) or not may_be_at_first
        return left[0] >= 0 and candidate != best and may_be_drawn and fails(candidate)

    best, before = schedule, None
    while best != before and left[0] > 0:
        before = best
        size = max(len(best.actions) // 2, 1)
        while size:
            at = 0
            while at < len(best.actions):
                candidate = best._replace(actions=best.actions[:at] + best.actions[at + size :])
                if still(candidate):
                    best = candidate
                else:
                    at += size
            size //= 2
        for each in fields(Setup):
            simpler_setup: dict[str, Any] = {each.name: each.default}
            candidate = best._replace(setup=replace(best.setup, **simpler_setup))
            if still(candidate):
                best = candidate
        for at in range(len(best.actions)):
            for simpler in _simpler(best.actions[at]):
                candidate = best._replace(actions=(*best.actions[:at], simpler, *best.actions[at + 1 :]))
                if still(candidate):
                    best = candidate
                    break
    return best


def _simpler(action: Action) -> list[Action]:
    smaller = sorted({0, 1, 2, action.how // 2, action.how - 1} - {action.how})
    return [action._replace(who=who) for who in range(action.who)] + [
        action._replace(how=how) for how in smaller if 0 <= how < action.how
    ]
