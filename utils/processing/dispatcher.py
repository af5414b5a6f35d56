"""Hands groups to process(): those of an id one after the other, in their order, and again those that failed.

Knows neither Kafka nor offsets; all of it runs on the loop's thread.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from utils.errors import named
from utils.joining.aggregator import Group
from utils.joining.dead_letters import sources
from utils.logger import logger
from utils.metrics import Counters
from utils.processing.attempts import HOPELESS, Attempts
from utils.processing.executor import Call, InFlight, Outcome, Runner, took_too_long
from utils.processing.parking import Parking, taken_in_turn

WATCH_EVERY = 1.0  # seconds
EXAMPLES = 10  # ids that a log line names at most


class Late(NamedTuple):
    """A call whose time was over at `failed_at`, for the last time, as long as it goes on."""

    group: Group | None
    """What is tried again when the call ends. None: the assignment that began it is over."""
    failed_at: float
    due: float
    """When the next attempt may be."""


class Dispatcher:
    """The loop's Executor, over one way to call process(). Outlives a worker, for calls outlive an assignment.

    What failed is tried again as `attempts` says, at the end of the queue, and handed back as failed when it is given
    up. While the circuit is open, only probes are called: what is submitted waits, so that the loop soon takes in no
    more. A probe is by turns the oldest and the newest of what waits: behind many bad messages there may be good ones.

    A call that lasts longer than `timeout` seconds (0: none does) is a failed attempt, whatever comes of it later. So
    it is over a rebalance: the message that is read again waits behind its old call, and its attempts go on. When too
    many hang, `is_stuck` is set and `on_stuck` called: the worker shall commit what is finished, and the process end.
    The next one goes on with the attempts of `hung`, which it recalls.
    """

    def __init__(
        self,
        runner: Runner,
        attempts: Attempts,
        counters: Counters,
        timeout: float = 0,
        on_stuck: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runner = runner
        self._attempts = attempts
        self._circuit = attempts.circuit
        self._counters = counters
        self._timeout = timeout
        self._on_stuck = on_stuck
        self._clock = clock
        self._next_watch = 0.0
        self.is_stuck = False
        self.hung: list[tuple[Group, int]] = []
        self.in_flight = 0

        # An id is busy from its call until that was the last. Where calls go one by one only from a failure on: before,
        # the order of submission is enough.
        self.parked = Parking()
        self._held: deque[Group] = deque()  # while the circuit is open
        self._probe = ""  # the id with which it is tried
        self._newest_next = False  # of the held ones, as a probe
        self._started = 0  # groups that the runner has
        self._stale = 0  # calls whose outcome nobody wants any more: the next ones to end, where they go one by one,
        self._stale_ids: set[str] = set()  # else those of these ids
        self._late: dict[str, Late] = {}  # those of them that have failed, and were not given up
        self._cancelled = False

    def submit(self, groups: list[Group]) -> None:
        self.in_flight += len(groups)
        self._start(groups)

    def collect(self, timeout: float) -> list[Outcome]:
        if not self.in_flight:
            return []
        now = self._clock()
        if self.parked.rest_some or self._circuit.is_open:
            self._start_due(now)
            timeout = self._wait(timeout, now)
        outcomes = self._runner.collect(timeout)
        self._started -= len(outcomes)
        if not self._is_uneventful(outcomes):
            now = self._clock()
            ended = [self._ended(outcome, now) for outcome in outcomes]
            if self._runner.one_by_one and outcomes and outcomes[-1].error:
                self._go_on_after_failure()
            outcomes = [outcome for outcome in ended if outcome]
        if self._timeout and now >= self._next_watch:
            outcomes += self._overdue(now)
        self.in_flight -= len(outcomes)
        return outcomes

    def cancel(self) -> None:
        """What has failed is not tried again either: it is unfinished, as what has not been tried is."""
        self._take_back()
        self.parked.clear(but_called=True)
        self._late = {id: late._replace(group=None) for id, late in self._late.items()}
        self._held.clear()
        self._cancelled = True
        self.in_flight = self._started - self._stale - len(self._stale_ids)

    def drop(self) -> None:
        self.cancel()
        self._attempts.clear(but=self._late)
        if self._runner.one_by_one:
            self._stale = self._started
            self.parked.clear()
        else:
            self._stale_ids = set(self.parked.busy)
        if self._probe:
            self._probe = ""
            self._circuit.undecided(self._clock())
        self._cancelled = False
        self.in_flight = 0

    @property
    def rests_for(self) -> float | None:
        if not self.parked.rest_some or self.in_flight > self.parked.groups:
            return None
        return self.parked.next_due() - self._clock()

    def recall(self, id: str, attempts: int) -> None:
        if self._attempts.has_failed(id):
            return
        was_open, now = self._circuit.is_open, self._clock()
        self.parked.note(id, self._attempts.recalled(id, attempts, now))
        if self._circuit.is_open and not was_open:
            self._open_circuit(id, took_too_long(self._timeout), now)

    def failed_before(self, id: str) -> None:
        self._attempts.failed_before(id)

    def shed(self, down_to: int) -> list[Group]:
        if self._circuit.is_open:  # what is held came after it
            return []
        shed = self.parked.shed(down_to)
        self.in_flight -= len(shed)
        return shed

    def put_aside(self, aside: Parking) -> int:
        moved = self.parked.move_resting(aside)
        self.in_flight -= moved
        return moved

    def take_back(self, aside: Parking) -> None:
        groups = aside.release_all()
        for id, due in aside.due.items():
            self.parked.note(id, due)
        self.submit(groups)

    def calls(self) -> list[Call]:
        return self._runner.calls()

    def find(self, id: str) -> InFlight | None:
        failed = self._attempts.made(id)
        if self.parked.rests(id):
            return InFlight("tried again", self.parked.due_of(id) - self._clock(), failed)
        if call := next((call for call in self._runner.calls() if call.id == id), None):
            return InFlight("called", call.seconds, failed)
        if id in self.parked.busy or self._runner.queued(id) or any(group.id == id for group in self._held):
            return InFlight("queued", 0.0, failed)
        return None

    @property
    def circuit_open_for(self) -> float | None:
        opened_at = self._circuit.opened_at
        return None if opened_at is None else self._clock() - opened_at

    # ------------------------------------------------------------------ into process()

    def _start(self, groups: Sequence[Group]) -> None:
        if self._circuit.is_open:
            self._held.extend(groups)
        elif self._runner.one_by_one and not (self.parked.busy or self.parked.due):
            self._call(groups)
        else:
            self._call([group for group in groups if self._may_start(group)])

    def _may_start(self, group: Group) -> bool:
        """False: its id is busy, or its next attempt is not due, and it waits for that."""
        if group.id in self.parked.busy:
            self.parked.put_behind(group)
            return False
        if self.parked.due and (due := self.parked.due.pop(group.id, 0.0)) > self._clock():
            self.parked.rest(group, due)
            return False
        if not self._runner.one_by_one:
            self.parked.busy[group.id] = deque()
        return True

    def _call(self, groups: Sequence[Group]) -> None:
        if groups:
            self._started += len(groups)
            self._runner.submit(groups)

    def _start_due(self, now: float) -> None:
        """What is to be tried again by now; while the circuit is open, a probe when it is time for one."""
        due: list[Group] = []
        if self._circuit.is_open:
            due = self._next_probe() if now >= self._circuit.next_probe else []
        else:
            while self.parked.rest_some and self.parked.next_due() <= now:
                due.append(self.parked.rested())
        self._call(due)

    def _next_probe(self) -> list[Group]:
        """One group: of those that have not been tried, else of an id that has not been for longest.

        None where all ids are busy.
        """
        probe = next((group for group in self._held_in_turn() if self._may_start(group)), None)
        if not probe and self.parked.rest_some:
            probe = self.parked.rested()
        if not probe:
            return []
        self._probe = probe.id
        self._circuit.probing()
        return [probe]

    def _held_in_turn(self) -> Iterable[Group]:
        """The oldest, the newest and so on; of an id always its oldest."""
        while self._held:
            newest, self._newest_next = self._newest_next, not self._newest_next
            yield taken_in_turn(self._held, newest=newest)

    def _wait(self, timeout: float, now: float) -> float:
        """No longer than until something is due."""
        next_again = self.parked.next_due() if self.parked.rest_some else now
        due = self._circuit.next_probe if self._circuit.is_open else next_again
        return min(timeout, due - now) if due > now else timeout

    # ------------------------------------------------------------------ what came of it

    def _is_uneventful(self, outcomes: list[Outcome]) -> bool:
        """Nothing has failed now or lately: the outcomes are what the loop wants, and looked at no further."""
        return (
            self._runner.one_by_one
            and not (outcomes and outcomes[-1].error)
            and not self._stale
            and not self.parked.busy
            and self._circuit.is_quiet
        )

    def _ended(self, outcome: Outcome, now: float) -> Outcome | None:
        """The end of a call. None: nobody wants its outcome, or it is tried again."""
        group, error = outcome.group, outcome.error
        if self._is_stale(group.id):
            self._late_has_ended(group.id)
            return None
        if error:
            return self._failed(group, error, now)
        was_open = self._circuit.is_open
        attempts = self._attempts.succeeded(group.id)
        self._free(group.id)
        if was_open:
            self._close_circuit()
        return msgspec.structs.replace(outcome, attempts=attempts) if attempts > 1 else outcome

    def _failed(self, group: Group, error: BaseException, now: float) -> Outcome | None:
        due = self._judge(group.id, error, now)
        if due is None:
            outcome = Outcome(group, [], error, attempts=self._attempts.forget(group.id))
            self._free(group.id, failed=True)
            return outcome
        if self._cancelled:
            self.in_flight -= 1
            self._attempts.forget(group.id)
            self._free(group.id)
            return None
        self.parked.rest(group, due)
        return None

    def _judge(self, id: str, error: BaseException, now: float) -> float | None:
        """When it shall be tried again, if it shall, as the attempts say; and what it says of all the others."""
        was_open = self._circuit.is_open
        due = self._attempts.failed(id, error, now)
        if id == self._probe:
            self._probe = ""
            if isinstance(error, HOPELESS):
                self._circuit.undecided(now)
            else:
                self._circuit.probed(now)
        if due is not None:
            self._counters.retried += 1
            facts = {"id": id, "attempt": self._attempts.made(id), "next_try_in_s": round(due - now, 1)}
            logger.warning("process() failed and is tried again", extra={**facts, "error": named(error)})
        if self._circuit.is_open and not was_open:
            self._open_circuit(id, error, now)
        return due

    def _free(self, id: str, *, failed: bool = False) -> None:
        """The id is not busy any more: what waits for it may go on.

        One by one all of it, for the order of submission is enough; but after one that has `failed` the next may fail,
        too, and all of it would have to be taken back.
        """
        if (failed or not self._runner.one_by_one) and not self._circuit.is_open:
            following = self.parked.next_of(id)
            if following:
                self._call([following])
                return
        behind = self.parked.release(id)
        if behind and self._circuit.is_open:
            self._held.extendleft(reversed(behind))  # before those of its id that came later
        elif behind:
            self._start(behind)

    def _go_on_after_failure(self) -> None:
        """Where calls go one by one, the thread waits after a failure: others of its id must now wait for it."""
        if self._circuit.is_open:
            self._held.extend(self._take_back())
        waiting = self._cancel_calls()
        self._runner.go_on()
        for group in waiting:
            if self.parked.rests(group.id):
                self.parked.put_behind(group)
        self._call([group for group in waiting if not self.parked.rests(group.id)])

    def _take_back(self) -> list[Group]:
        """The groups whose call has not begun, each followed by those that wait for it."""
        taken: list[Group] = []
        for group in self._cancel_calls():
            taken.append(group)
            if not self.parked.rests(group.id):  # else it is another one that is waited for: it has just failed
                taken += self.parked.release(group.id)
        return taken

    def _cancel_calls(self) -> list[Group]:
        cancelled = self._runner.cancel()
        self._started -= len(cancelled)
        return cancelled

    def _open_circuit(self, last: str, error: BaseException, now: float) -> None:
        """`last`: the id that has opened it. What has failed before is not held, so that it is never the newest."""
        self._counters.outages += 1
        for group in self._take_back():
            if self._attempts.has_failed(group.id) and not self.parked.rests(group.id) and group.id != last:
                self.parked.rest(group, now)
            else:
                self._held.append(group)
        facts = {"held": len(self._held), "error": named(error)}
        logger.error("process() fails for one id after the other: no more are taken in", extra=facts)

    def _close_circuit(self) -> None:
        self._probe = ""
        held, self._held = self._held, deque()
        logger.warning("process() succeeds again", extra={"held": len(held)})
        self._start(held)

    # ------------------------------------------------------------------ calls that last too long

    def _overdue(self, now: float) -> list[Outcome]:
        """What is given up because its call lasts too long. Once too many do, the end of the process is waited for."""
        if self.is_stuck:
            return []
        self._next_watch = now + min(WATCH_EVERY, self._timeout / 2)
        groups, too_many = self._runner.overdue(self._timeout)
        given_up = [outcome for group in groups if (outcome := self._is_late(group, now))]
        if too_many:
            self.is_stuck = True
            facts = {"timeout": self._timeout, "ids": [group.id for group in groups[:EXAMPLES]], "count": len(groups)}
            logger.error("process() hangs: the worker commits what is finished and ends", extra=facts)
            self.hung = self._hanging(groups, {outcome.group.id for outcome in given_up})
            self._on_stuck()
        return given_up

    def _hanging(self, calls: list[Group], given_up: set[str]) -> list[tuple[Group, int]]:
        """Of an assignment before, too: its message may be ours again, though it is not here yet."""
        open_ones = [group for group in calls if group.id not in given_up]
        return [(group, self._attempts.made(group.id) + (group.id not in self._late)) for group in open_ones]

    def _is_late(self, group: Group, now: float) -> Outcome | None:
        """A call that lasts has failed when its time was over, and once more each time that as long is over again."""
        late, is_fresh = self._late.get(group.id), self._make_stale(group.id)
        ours = group if is_fresh else (late and late.group) or self._read_again(group)
        if not ours:
            return None
        if late and now - late.failed_at <= self._timeout:
            self._late[group.id] = late._replace(group=ours)
            return None
        due = self._judge(group.id, took_too_long(self._timeout), now)
        if due is None:
            self._late.pop(group.id, None)
            return self._give_up(ours)
        if self._cancelled:  # it is unfinished, as what has not been tried is
            self.in_flight -= 1
        self._late[group.id] = Late(None if self._cancelled else ours, now, due)
        return None

    def _read_again(self, call: Group) -> Group | None:
        """The message of this call that an assignment before began, where it waits for it: it does so no more.

        Not another message of its id, which has not been called.
        """
        known = set(sources(call))
        if not self._runner.one_by_one:
            first = self.parked.first_behind(call.id)
            return self.parked.next_of(call.id) if first and not known.isdisjoint(sources(first)) else None
        waiting = self._cancel_calls()
        ours = next((each for each in waiting if each.id == call.id and not known.isdisjoint(sources(each))), None)
        self._call([each for each in waiting if each is not ours])
        return ours

    def _late_has_ended(self, id: str) -> None:
        """A call that nobody waited for any more. Its message is tried again, unless it was given up or is not ours."""
        late = self._late.pop(id, None)
        if late and late.group:
            self.parked.rest(late.group, late.due)
            return
        if late:
            self._attempts.forget(id)
        self._free(id)

    def _give_up(self, group: Group) -> Outcome:
        """Its id stays busy: the call goes on."""
        return Outcome(group, [], took_too_long(self._timeout), attempts=self._attempts.forget(group.id))

    def _make_stale(self, id: str) -> bool:
        """False where it was so before."""
        if self._runner.one_by_one:
            fresh = not self._stale
            self._stale = max(self._stale, 1)
            return fresh
        fresh = id not in self._stale_ids
        self._stale_ids.add(id)
        return fresh

    def _is_stale(self, id: str) -> bool:
        """Of a call that has ended: nobody wants its outcome. Told once."""
        if self._runner.one_by_one:
            stale = self._stale > 0
            self._stale -= stale
            return stale
        stale = id in self._stale_ids
        self._stale_ids.discard(id)
        return stale
