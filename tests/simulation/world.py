"""Runs a schedule: processes of a worker, the model broker, the ledger, and one clock that only moves when told."""

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from unittest.mock import patch

import framework
from tests.simulation import oracle as promises
from tests.simulation.broker import MAPS, Broker, Committed, Partition
from tests.simulation.oracle import Oracle, Sent
from tests.simulation.process import (
    ATTEMPTS,
    OUTAGE,
    REFRESH,
    RIGHT_OF,
    SETTLE,
    SHUTDOWN,
    WALL,
    Hangs,
    ModelProcess,
    Violation,
    sleep,
)
from tests.simulation.schedule import INPUTS, SHORT, Action, Schedule, Setup
from utils.joining.messages import RESULT_OVERHEAD, Headers, Message
from utils.kafka import limits
from utils.logger import logger
from utils.metrics import Counters
from utils.reading.keys import KeyWatch
from utils.retry import Retry
from utils.sending import delivery
from utils.sending.pace import FIRST

QUIET = 6.0  # seconds without a change after which all is taken to be done
QUIET_CALLS = 8.0  # the same where process() fails, and what it failed for waits for its next attempt
QUIET_ROWS = 12.0  # the same where workers may be behind the group, and wait for the row
QUIET_APART = 45.0  # the same where groups may run apart, and what is tried again is so in each of their batches
ROUNDS = 150  # of turns of all workers, until all must be done
EVICTIONS = 60  # times that MESSAGE_TIMEOUT passes where memory is for a few groups only: for one large one
REPLAY = 12  # turns of the loop until there is an assignment
EXITS = 4  # of processes, without any fault any more
MOST_HANGING = 2  # messages for which process() hangs, their mates included: each ends a process some times
MOST_LONG = 3  # ids that fail for long: fewer than OUTAGE
HANG_EXITS = 12  # that one of them may cause
GOOD = 20  # messages that are sent in the end, so that something succeeds while all others fail
MOST_DEADLY = 4  # messages for which process() ends the process, their mates included
DEATHS = 12  # that one of them may cause until it is known
EVER = 1e9  # seconds
DAY = 86_400.0  # seconds
LONGEST_TIME = (1 << 63) - 1  # ms, that a record can have
MEETS = " meets "  # in a note: between a kind of action and a state
LARGE = 4_000  # bytes of a large record
RECORD = 60  # characters of such a map that fit into one record

FORBIDDEN = "commit is refused for one partition"
FAULTS = (
    "commit lost",
    "commit answer lost",
    "commit fails for one partition",
    FORBIDDEN,
    "request",
    "broker slow",
    "produce fails",
    "produce fails yet arrives",
    "transaction fails",
    "transaction answer lost",
    "event",
    "fatal event",
    "expelled in a request",
)
FOREIGN = {0: "header name", 1: "time -1", 2: "longest time", 3: "no key", 4: "key", 5: "headers"}
INVALID = (b"no json", None, b"", b'{"no":1}', b'{"id":""}', b'{"id":true}', b'{"id":"1","content":[]}', b"[]", b"\xff")
LETTERS = ("", "", "", "n", "t", "f", "f", "")
LETTERS_OF_MANY = ("", "t", "t", "n", "t", "f", "t", "t")
LETTERS_OF_CALLS = ("", "k", "e", "r", "f", "k", "e", "")


class World:
    """What a schedule acts on. `notes` counts what has happened, `log` tells it in order when traced."""

    def __init__(self, setup: Setup, *, traced: bool = False) -> None:
        self.setup = setup
        slack = 2 * setup.skew + (2 * DAY if setup.hours else 0.0)
        options = setup.exactly_once, setup.message_timeout, slack, not (setup.overflows or setup.crowded)
        self.oracle = Oracle(setup.inputs, setup.outputs, setup.dead_letters, *options)
        partitions = {topic: setup.partitions_of(topic) for topic in (INPUTS if setup.rows else setup.inputs)}
        written = filter(None, (*setup.outputs, setup.dead_letters))
        partitions |= dict.fromkeys(written, 2) | {MAPS: 1}
        in_commit = setup.most_in_commit if setup.crowded else float("inf")
        self.broker = self.oracle.broker = Broker(partitions, self.oracle, setup.longest_taken, in_commit)
        self.oracle.torn = setup.strict and not setup.exactly_once
        self.oracle.looked_ended = setup.overflows or setup.crowded
        self.oracle.slow_output = setup.narrow
        self.oracle.trace = partial(self.trace, "==")
        self.oracle.attempts, self.oracle.many_calls = ATTEMPTS, setup.many_calls
        self.oracle.many = setup.many
        self.oracle.repeats = (setup.calls or setup.odd) and setup.topics > 1
        self.inputs = setup.inputs
        self.has_bad_row = self.is_ending = False
        self.planted: dict[str, int] = {}
        self.clocks: dict[str, float] = {}
        self.paused = False  # by the row of all workers
        self.notes: Counter[str] = Counter()
        self.log: list[str] = []
        self._traced = traced
        self._ids = 0
        self._uids = 0
        self._writers = 0
        self._starts = 0  # of processes, and of workers in a process
        self._processes: dict[int, ModelProcess] = {}
        self._counters: list[Counters] = []
        self._held_up = False  # time has passed in the middle of a worker's turn
        self._feeding: dict[Partition, str] = {}  # the transaction of those who feed, by partition

    # ------------------------------------------------------------------ for the processes

    def advance(self, seconds: float) -> None:
        if seconds > 0:
            self.broker.tick(self.broker.now + seconds)

    @property
    def is_punctual(self) -> bool:
        """Not beside large records: Kafka's quotas are bytes, and so is the pace; this output takes records."""
        return not (self._held_up or self.oracle.disturbed or self.oracle.ended_in_a_call or self.setup.large)

    def next_writer(self) -> int:
        self._writers += 1
        return self._writers

    def note(self, what: str) -> None:
        self.notes[what] += 1
        self.oracle.is_withdrawn |= what == "row withdrawn"
        self.oracle.looked_ended |= what == "expelled in a request"
        if what.startswith("restart"):
            self._starts += 1
            self.oracle.disturbed = True

    def trace(self, who: str, what: object) -> None:
        if self._traced:
            self.log.append(f"{self.broker.now:8.2f} {who} {what}")

    def process(self, who: int, message: Message, _consumer_name: str) -> object:
        """The user's process()."""
        what = self.oracle.is_called(message, expelled=self._processes[who].calls_for_former)
        self.note(f"process(): {what}")
        if what == promises.DEADLY:
            self.oracle.ended_in_a_call = True
            self._processes[who].end_in_a_call()
        if what == promises.FAILING:
            raise ZeroDivisionError("process() fails")
        if what in {promises.HANGING, promises.SLEEPY}:
            raise Hangs
        if what in {promises.FLAKY, promises.LATER, promises.LONG}:
            raise Retry("process() fails", after={promises.LATER: 2.0, promises.LONG: EVER}.get(what))
        if what == promises.FILTERED:
            return None
        return [message | {"part": part} for part in range(self.setup.many)] if what == promises.TWOFOLD else message

    # ------------------------------------------------------------------ the run

    def run(self, actions: tuple[Action, ...]) -> None:
        """All actions, then quiet. Raises Violation."""
        try:
            for who in range(self.setup.workers):
                self._start(who, 0)
            for action in actions:
                self._act(action)
            self._end()
        except Violation as violation:
            violation.story = self.log
            for process in self._processes.values():
                self.trace(process.name, process.describe() if self._traced else "")
            raise
        finally:
            for process in self._processes.values():
                process.kill()

    def _act(self, action: Action) -> None:
        self.trace("--", action)
        for state in self._states():
            self.notes[f"{action.kind}{MEETS}{state}"] += 1
        _ACTIONS[action.kind](self, action.who, action.how)
        self._check()

    def _states(self) -> set[str]:
        """What holds of any worker, or of the brokers."""
        met = {"open input transaction"} if self._feeding else {"plain"}
        for process in self._processes.values():
            met |= {
                name
                for name, holds in (
                    ("ended", process.ended),
                    ("frozen", process.frozen),
                    ("in a turn", process.is_in_a_turn and not process.ended),
                    ("circuit open", process.has_open_circuit),
                )
                if holds
            }
            met |= process.states()
        return met

    def _check(self) -> None:
        if self.oracle.problems:
            raise Violation(*self.oracle.problems[0])

    def _end(self) -> None:
        """Everything comes to its end, when the faults that are still planted have happened."""
        self.is_ending = True
        self._heal()
        for who in range(self._lasting, self.setup.workers):
            self._processes[who].stop()
        self._settle()
        if self.oracle.is_withdrawn:  # where something else was wrong with the row, it is not tried again
            self._restart_all()
            self._settle()
        self.oracle.check_made_again()
        if self.setup.calls:
            if not self.setup.tight or (self.setup.topics == 1 and not self.setup.rows):
                self.oracle.check_others()
                self._check()
            self.oracle.mended = True
            self._restart_all()
            self._settle()
        if self.oracle.destroyed:  # so that every worker starts from what is committed now
            self._restart_all()
            self._settle()
        if not self.setup.tight:  # else what is complete may have to wait until there is room for it
            self.oracle.check_end(evicted=False)
        self._check()
        if self.setup.evicts:
            self._let_evict()
        self.oracle.check_end(evicted=self.setup.evicts)
        self._check()
        for process in self._processes.values():
            process.check_idle()
        if self.setup.discards:
            self.notes["discarded"] += sum(each.evicted + each.failed for each in self._counters)
        self.oracle.check_counters(self._counters)
        self._check()

    def _let_evict(self) -> None:
        """Without faults MESSAGE_TIMEOUT passes, and goes on over restarts: nothing has to wait once more.

        But what workers that are killed have not committed yet does.
        """
        self.planted.clear()
        for number in range(EVICTIONS if self.setup.tight else 1 + self._is_undated):
            if self.setup.tight or number:  # turn by turn, for what was shed is read again and again meanwhile
                self._settle(at_least=self.setup.message_timeout, pause=2.0)
            else:
                self.advance(self.setup.message_timeout + 1)
                self._restart_in_a_replay()
            self._settle(at_least=REFRESH + SETTLE if self.setup.rows else 0.0)
            if not self.oracle.waiting():
                break

    @property
    def _lasting(self) -> int:
        """How many workers go on at the end: one where none may have a share, as their error says."""
        return 1 if self.setup.unequal else self.setup.workers

    def _heal(self) -> None:
        self.paused = self.has_bad_row = False
        for at in list(self._feeding):
            self._end_transaction(at, committed=True)
        for process in self._processes.values():
            process.thaw()

    @property
    def _is_undated(self) -> bool:
        """Neither timestamps nor maps tell when something arrived."""
        return not self.oracle.are_dated(self.oracle.sent.values())

    def _restart_in_a_replay(self) -> None:
        """Stop all, and again before they have read all of what waits.

        Where neither timestamps nor maps tell it, the last commit does: then all are killed, for an orderly end is a
        later one.
        """
        if self._is_undated:
            for who in range(self.setup.workers):
                self._kill(who, 0)
            return
        self._restart_all()
        for turn in range(REPLAY):
            for who in range(self._lasting):
                self._start(who, 0)
                self._step(who, 1 + self._uids + turn)
            if any(process.worker and process.worker.intake.owned.partitions for process in self._processes.values()):
                break
            self.advance(0.5)
        self._restart_all()

    def _restart_all(self) -> None:
        for process in self._processes.values():
            process.stop()

    def _settle(self, at_least: float = 0.0, pause: float = 1.0) -> None:
        """Turns of all workers until nothing changes any more, for so many seconds at least."""
        until = self.broker.now + at_least
        exits, before, since = 0, (-1, -1, -1, -1), self.broker.now
        deaths = DEATHS * self._of(promises.DEADLY) + HANG_EXITS * self._hanging() + self._forbidden()
        quiet, good, fed = self._quiet(), GOOD, self.broker.now
        for _ in range(ROUNDS * (1 + 2 * self.setup.calls) + 12 * deaths):  # each is missed for a session
            for who in range(self.setup.workers):
                exits += who < self._lasting and self._start(who, 0)
                self._processes[who].resume(0)
            self._check()
            self.advance(pause)
            is_open = any(process.has_open_circuit for process in self._processes.values())
            happened = self.broker.changes + self.oracle.changes + sum(each.read for each in self._counters)
            happened += self._fetched()
            changes = happened, self._starts, sum(self.planted.values()), self._failed_calls(is_open=is_open)
            if changes != before or self.broker.is_waiting:
                before, since = changes, self.broker.now
            if good and is_open and self.broker.now - fed > quiet:  # there are changes: apart each probe is committed
                if self.oracle.is_withdrawn and good == GOOD:  # who works by the row before does not read what is fed
                    self._restart_all()
                good, fed = good - 1, self.broker.now
                self._feed_all(0, 0)
            elif self.broker.now - since > quiet and self.broker.now > until:
                return
            if exits > EXITS + self.setup.workers + deaths:
                raise Violation("liveness", "processes end again and again")
        if not self.setup.tight:
            raise Violation("liveness", "no end of commits and results, though nothing new is sent")

    def _fetched(self) -> int:
        """Records, also those that a worker holds back to read its topics in step."""
        return sum(each.consumer.fetched for each in self._processes.values() if each.consumer)

    def _forbidden(self) -> int:
        """How many faults are still to happen that may each end a process for good, as somebody must grant a right."""
        return sum(number for kind, number in self.planted.items() if kind == FORBIDDEN or kind.startswith(RIGHT_OF))

    def _failed_calls(self, *, is_open: bool) -> int:
        """Each takes a turn of the loop. Not counted where the quiet is longer than any wait for the next attempt: but
        of an outage many may be left, which are tried one by one.
        """
        if self._quiet() == QUIET_APART and (is_open or not self.setup.trips):
            return 0
        return sum(each.counters.retried for each in self._processes.values())

    def _quiet(self) -> float:
        """Seconds without a change after which all is taken to be done."""
        if self.setup.deadly or (self.setup.calls and self.setup.crashes):
            return QUIET_APART
        return QUIET_ROWS if self.setup.rows else QUIET_CALLS if self.setup.calls else QUIET

    # ------------------------------------------------------------------ workers

    def _start(self, who: int, _how: int) -> bool:
        who %= self.setup.workers
        process = self._processes.get(who)
        if process and not process.ended:
            return False
        if process and process.error and not process.dead:
            self.note("process ended: " + type(process.error).__name__)
        self._starts += 1
        self.note("process started")
        self._processes[who] = ModelProcess(f"W{who}", self, self.setup, partial(self.process, who), self._starts)
        self._counters.append(self._processes[who].counters)
        return True

    def _alive(self, who: int) -> ModelProcess | None:
        process = self._processes[who % self.setup.workers]
        return None if process.ended or process.frozen else process

    def _step(self, who: int, how: int) -> None:
        if process := self._alive(who):
            process.resume(how if self.setup.quirks else 0)

    def _calls(self, who: int, how: int) -> None:
        if process := self._alive(who):
            process.resume(how if self.setup.quirks else 0, 1 + how % 24, to_turn=False)

    def _rounds(self, _who: int, how: int) -> None:
        """As many as it takes until groups run apart, or the circuit opens."""
        for _ in range(10 + how % 64):
            for who in range(self.setup.workers):
                self._start(who, 0)
                self._step(who, 0)
            self._check()
            self.advance(1.0)

    def _kill(self, who: int, how: int) -> None:
        process = self._processes[who % self.setup.workers]
        if not process.ended:
            self.note("killed")
            self.oracle.disturbed = self.oracle.looked_ended = True
            process.kill(how % 4)

    def _kill_twice(self, who: int, how: int) -> None:
        for seconds in (2.0, 0.0):
            self._kill(who, how)
            self._start(who, 0)
            self._calls(who, how)
            self.advance(seconds)

    def _stop(self, who: int, _how: int) -> None:
        if process := self._alive(who):
            self.note("SIGTERM")
            process.stop()

    def _freeze(self, who: int, _how: int) -> None:
        if process := self._alive(who):
            self.note("frozen")
            self.oracle.disturbed = self.oracle.looked_ended = True
            process.freeze()

    def _thaw(self, who: int, _how: int) -> None:
        self._processes[who % self.setup.workers].thaw()

    def _pause(self, _who: int, _how: int) -> None:
        self.note("paused by the row")
        self.paused = True

    def _resume(self, _who: int, _how: int) -> None:
        self.paused = False

    def _row(self, who: int, how: int) -> None:
        """An input topic comes, or goes. Now and then a worker lacks a right for a moment, when it begins by that."""
        if how % 4 == 3:
            self.planted[RIGHT_OF + f"W{how // 4 % self.setup.workers}"] = 1
        topic = INPUTS[who % len(INPUTS)]
        inputs = tuple(each for each in INPUTS if (each in self.inputs) != (each == topic))
        if inputs and self.setup.rows:
            self.note("topic added to the row" if topic in inputs else "topic removed from the row")
            self.inputs = inputs
            self.has_bad_row = False
            self.oracle.row_is(inputs)

    def _bad_row(self, _who: int, _how: int) -> None:
        """Until it is changed the next time."""
        self.note("row that is no good")
        self.oracle.disturbed = self.has_bad_row = True

    def _rebalance(self, _who: int, _how: int) -> None:
        self.broker.group.rebalance(self.broker.now)

    def _lose(self, who: int, how: int) -> None:
        members = list(self.broker.group.members.values())
        if members:
            self.note("expelled")
            self.oracle.disturbed = self.oracle.looked_ended = True
            self.broker.group.leave(members[(who + how) % len(members)], self.broker.now)

    def _assignment(self, who: int, _how: int) -> None:
        self.oracle.disturbed = True
        self.planted["assign fails"] = 1 + who

    def _fault(self, who: int, how: int) -> None:
        self.oracle.disturbed = True
        kind = FAULTS[how % len(FAULTS)]
        self.oracle.torn |= "one partition" in kind and not self.setup.exactly_once
        self.planted[kind] = 1 + who

    # ------------------------------------------------------------------ time

    def _time(self, _who: int, how: int) -> None:
        self._pass((0.1, 0.05, 0.5, 1.0, 2.0, 5.0)[how % 6])

    def _session(self, _who: int, _how: int) -> None:
        self._pass(10.5)

    def _minute(self, _who: int, how: int) -> None:
        self.note("a minute passed")
        self._pass((61.0, 30.0, 59.0, 125.0)[how % 4])

    def _pass(self, seconds: float) -> None:
        """In the middle of a revoke, longer than SHUTDOWN_TIMEOUT, this is as if the process were frozen."""
        held_up = any(process.is_in_a_turn and not process.ended for process in self._processes.values())
        self._held_up = self._held_up or held_up
        if held_up and seconds > SHUTDOWN:
            self.oracle.disturbed = self.oracle.looked_ended = True
        self.advance(seconds)

    # ------------------------------------------------------------------ feeds

    def _clock(self, who: int, how: int) -> None:
        self.note("clock set by hours")
        self.clocks[f"W{who % self.setup.workers}"] = (0.0, DAY, -DAY, 3_600.0, -3_600.0)[how % 5]

    def _outage(self, who: int, how: int) -> None:
        for number in range(OUTAGE + how % 4):
            self._ids += 1
            letter = self._letter_of_calls(5 - number % 2)
            for index in range(len(self.inputs)):
                self._send(f"{self._ids}{letter}", who + index, 0)

    def _feed(self, who: int, how: int) -> None:
        self._send(self._new_id(how), who, how)

    def _feed_all(self, who: int, how: int) -> None:
        id = self._new_id(how)
        for index in range(len(self.inputs)):
            self._send(id, who + index, how)

    def _mate(self, who: int, how: int) -> None:
        lacking = [(id, topics) for id in self.oracle.by_id if (topics := self.oracle.lacking(id))]
        if lacking:
            id, topics = lacking[how % len(lacking)]
            self._send(id, self.inputs.index(topics[who % len(topics)]), abs(how))

    def _burst(self, who: int, how: int) -> None:
        for number in range(2 + how % 8):
            self._feed(who, how + number)

    def _mates(self, who: int, how: int) -> None:
        for number in range(2 + how % 8):
            self._mate(who, -1 - number)

    def _again(self, who: int, how: int) -> None:
        over = [id for id in self.oracle.by_id if not self.oracle.lacking(id) and self.oracle.is_over(id)]
        if over:
            self.note("id used again")
            id = over[how % len(over)]
            self._send(id, who, how, new_round=True)

    def _version(self, who: int, how: int) -> None:
        called = [id for id in self.oracle.by_id if not self.oracle.lacking(id) and self.oracle.is_known(id)]
        if called:
            id = called[how % len(called)]
            self.note("id sent again" if self.oracle.is_over(id) else "id sent again before it is done")
            self._send(id, who, how, new_round=True)

    def _duplicate(self, who: int, how: int) -> None:
        if self.oracle.by_id:
            self.note("duplicate sent")
            self._send(list(self.oracle.by_id)[how % len(self.oracle.by_id)], who, how)

    def _invalid(self, who: int, how: int) -> None:
        self.note("invalid sent")
        self._append(None, self._at(who, how), INVALID[how % len(INVALID)], how, 0)

    def _new_id(self, how: int) -> str:
        self._ids += 1
        if self.setup.deadly and how // 8 % 4 == 3 and self._of(promises.DEADLY) < MOST_DEADLY:
            return f"{self._ids}d"
        if self.setup.calls and how // 8 % 2:
            return f"{self._ids}{self._letter_of_calls(how)}"
        letters = LETTERS if self.setup.many == 2 else LETTERS_OF_MANY
        return f"{self._ids}{letters[how % len(letters)] if self.setup.odd else ''}"

    def _letter_of_calls(self, how: int) -> str:
        if how // 16 % 4 == 3 and self._hanging() < MOST_HANGING and self.setup.hangs:
            return "h" if self.setup.many_calls or how // 64 % 2 else "s"
        letter = LETTERS_OF_CALLS[how % len(LETTERS_OF_CALLS)]
        return "e" if letter == "k" and sum(id.endswith("k") for id in self.oracle.by_id) >= MOST_LONG else letter

    def _of(self, what: str) -> int:
        """How many messages were sent for which process() does this."""
        return sum(promises.behaviour(sent.id or "") == what for sent in self.oracle.sent.values())

    def _hanging(self) -> int:
        return sum((sent.id or "").endswith(("h", "s")) for sent in self.oracle.sent.values())

    def _same(self, who: int, how: int) -> None:
        """Some more records of the latest id that fails, once or for long."""
        ids = [id for id in self.oracle.by_id if id.endswith(("k", "e", "r", "f"))]
        for number in range(2 + how % 8 if ids else 0):
            for index in range(len(self.inputs)):
                self._send(ids[-1], who + index, how + number)

    def _at(self, topic: int, number: int) -> Partition:
        name = self.inputs[topic % len(self.inputs)]
        return name, number % self.setup.partitions_of(name)

    def _send(self, id: str, topic: int, how: int, *, new_round: bool = False) -> None:
        at = self._at(topic, int(id.rstrip("ntfdhserk")))
        rounds = [sent.round for sent in self.oracle.by_id.get(id, ())]
        as_number = at[0] == INPUTS[1] and id.isdigit()
        value = {"id": int(id) if as_number else id, "from": at[0], "content": {at[0]: self._uids + 1}}
        if self.setup.large and how % 8 == 7:
            value["padding"] = "." * LARGE
        self._append(id, at, json.dumps(value).encode(), how, max(rounds, default=0) + new_round)

    def _append(self, id: str | None, at: Partition, value: bytes | None, how: int, number: int) -> None:
        self._uids += 1
        shift = (0, 0, 0, -3_600, 3_600)[how % 5] if self.setup.evicts else 0
        transaction = None
        if at in self._feeding and how % 2:
            transaction = self.broker.transaction(self._feeding[at], EVER)
            self.note("sent in a transaction")
        now = self.broker.now
        key: bytes | None = (id or "").encode()
        time_ms, is_unreadable = int((WALL + now + shift) * 1000), False
        headers: Headers | None = None
        if self.setup.foreign and not self.is_ending:
            kind = how // 4 % 8
            is_unreadable = kind == 0
            time_ms = {1: -1, 2: LONGEST_TIME}.get(kind, time_ms)
            key = {3: None, 4: b"\xff\xfe"}.get(kind, key)
            headers = [("traceparent", b"00-1"), ("none", None), ("any", b"\xff")] if kind == 5 else None
            self.note("of others: " + FOREIGN.get(kind, "plain"))
        entry = self.broker.append(at, key, value, time_ms, transaction, headers)
        entry.unreadable = is_unreadable
        sent = Sent(self._uids, at, entry, None if is_unreadable else id, number, time_ms / 1000 - WALL)
        self.oracle.is_sent(sent)
        self.trace("--", (at, entry.offset, value))

    def _transaction(self, who: int, how: int) -> None:
        at = self._at(who, how // 4)
        if at in self._feeding:
            self._end_transaction(at, committed=how % 3 > 0)
        else:
            self._feeding[at] = f"feeding {at}"

    def _end_transaction(self, at: Partition, *, committed: bool) -> None:
        self.note("feeding transaction " + ("committed" if committed else "aborted"))
        self.broker.end(self._feeding.pop(at), committed=committed)

    # ------------------------------------------------------------------ loss and destruction

    def _compact(self, who: int, how: int) -> None:
        """A record with an older key is removed, or any record that is not the last."""
        at = self._at(who, how)
        log = self.broker.log(at)
        there = [entry for entry in log.waiting() if entry.offset < log.end - 1]
        if there:
            self.note("record compacted away")
            entry = there[how % len(there)]
            log.remove(entry.offset)
            self.oracle.is_deleted(at, entry)

    def _compact_maps(self, _who: int, _how: int) -> None:
        self.note("topic of maps compacted")
        self.broker.log((MAPS, 0)).compact()
        self.oracle.is_compacted()

    def _retention(self, who: int, how: int) -> None:
        at = self._at(who, how)
        log = self.broker.log(at)
        start = min(log.start + 1 + how % 4, log.stable_end)
        if start > log.start:
            self.note("records deleted by retention")
            for entry in log.truncate(start):
                self.oracle.is_deleted(at, entry)

    def _reset(self, who: int, how: int) -> None:
        at = self._at(who, how)
        if at not in self.broker.group.offsets:
            return
        self.oracle.disturbed = True
        end = self.broker.log(at).end
        if how % 5 == 4:
            self.note("committed offset deleted")
            self.broker.group.offsets.pop(at, None)
            self.oracle.is_reset(at, None)
        else:
            self.note("committed offset reset")
            kept = self.broker.group.offsets[at].metadata if how // 5 % 2 else ""  # some tools copy it as it is
            self._overwrite(at, Committed((0, end, end // 2, end + 3)[how % 5], kept))

    def _wipe(self, who: int, how: int) -> None:
        at = self._at(who, how)
        if committed := self.broker.group.offsets.get(at):
            self.note("map wiped")
            self._overwrite(at, Committed(committed.offset, ("", "by another tool")[how % 2]))

    def _damage(self, who: int, how: int) -> None:
        at = self._at(who, how)
        committed = self.broker.group.offsets.get(at)
        if committed and committed.metadata:
            self.note("map damaged")
            text = committed.metadata
            place = (how * 7 % len(text), -10 - how % 8)[how % 2]  # the odd ones: in the states
            place %= len(text)
            changed = text[:place] + chr(ord(text[place]) ^ (1 << how % 3)) + text[place + 1 :]
            moved = Committed(max(committed.offset + (1, -1)[how % 2], 0), text)
            self._overwrite(at, moved if how % 3 == 0 else Committed(committed.offset, changed))

    def _overwrite(self, at: Partition, committed: Committed) -> None:
        self.oracle.disturbed = self.oracle.looked_ended = True
        self.broker.group.offsets[at] = committed
        self.oracle.is_reset(at, committed)

    def _recreate(self, who: int, how: int) -> None:
        """The broker deletes a topic's offsets with it; a worker that does not know yet may commit old ones again.

        A client that sees the topic missing joins the group anew. Between two looks of its own it sees nothing.
        """
        topic = self.inputs[who % len(self.inputs)]
        if any(at[0] == topic for at in self._feeding):
            return
        self.note("topic made again")
        self.oracle.disturbed = True
        self.broker.create(topic, self.setup.partitions_of(topic))
        self.oracle.is_made_again(topic)
        if how % 2:
            self.broker.group.rebalance(self.broker.now)


_ACTIONS: dict[str, Callable[[World, int, int], object]] = {
    "feed": World._feed,
    "feed all": World._feed_all,
    "mate": World._mate,
    "burst": World._burst,
    "mates": World._mates,
    "again": World._again,
    "version": World._version,
    "duplicate": World._duplicate,
    "invalid": World._invalid,
    "same": World._same,
    "rounds": World._rounds,
    "step": World._step,
    "calls": World._calls,
    "time": World._time,
    "start": World._start,
    "kill": World._kill,
    "kill twice": World._kill_twice,
    "stop": World._stop,
    "rebalance": World._rebalance,
    "lose": World._lose,
    "freeze": World._freeze,
    "thaw": World._thaw,
    "session": World._session,
    "fault": World._fault,
    "transaction": World._transaction,
    "minute": World._minute,
    "compact": World._compact,
    "compact maps": World._compact_maps,
    "retention": World._retention,
    "reset": World._reset,
    "wipe": World._wipe,
    "damage": World._damage,
    "recreate": World._recreate,
    "row": World._row,
    "bad row": World._bad_row,
    "assignment": World._assignment,
    "outage": World._outage,
    "clock": World._clock,
    "pause": World._pause,
    "resume": World._resume,
}


def _are_alike(_self: KeyWatch, _topics: Sequence[str], *, all_records: bool) -> bool:
    """In place of KeyWatch.are_alike, which needs some fifty ids of each topic."""
    return True


@contextmanager
def model_time(setup: Setup) -> Iterator[None]:
    """While it lasts no worker logs, none sleeps but in model time; what the setup makes small is so."""
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        in_flight = 3 if setup.small_queue else framework.MAX_IN_FLIGHT
        batch = 1 if setup.small_queue else delivery._BATCH
        with (
            patch("utils.running.supervision.sleep", sleep),
            patch("utils.running.supervision._free_memory", lambda _error: None),  # it takes most of the time here
            patch("framework.MAX_IN_FLIGHT", in_flight),
            patch("utils.sending.delivery._BATCH", batch),
            patch("utils.sending.pace.FIRST", 3 * RESULT_OVERHEAD if setup.narrow else FIRST),
            patch("utils.reading.batches.RUNS_FROM", 3),
            patch("utils.joining.offsets.MAX_METADATA", setup.longest_map),
            patch("utils.kafka.limits.LEAST_METADATA", SHORT),
            patch("utils.kafka.limits._REQUEST", setup.most_in_commit if setup.crowded else limits._REQUEST),
            patch("utils.kafka.limits._REFERENCE", SHORT),
            patch("utils.kafka.limits._BESIDE", -len(MAPS) - 1),  # so that names count nothing
            patch("utils.joining.states.BITS", 3),  # so that some states of these short logs lie in segments
            patch("utils.joining.states.WINDOW", 16),
            patch("utils.joining.states.BUSY", 1),
            patch("utils.sending.map_store.characters_of", lambda _record: RECORD),
            patch("utils.reading.keys.KeyWatch.are_alike", _are_alike if setup.alike else KeyWatch.are_alike),
        ):
            yield
    finally:
        logger.setLevel(level)


def simulate(schedule: Schedule, *, traced: bool = False) -> World:
    """Run one schedule; raises Violation where a promise is broken."""
    world = World(schedule.setup, traced=traced)
    with model_time(schedule.setup):
        world.run(schedule.actions)
    return world
