"""Hands groups to process(): those of one id one after the other, in their order. Groups that failed are tried again.

Knows neither Kafka nor offsets. All of it runs on the loop's thread.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

import msgspec

from utils.errors import named
from utils.joining.aggregator import Group
from utils.logger import logger
from utils.metrics import Counters
from utils.processing.attempts import Attempts
from utils.processing.order import OneByOne, OneOfEachId, Order, Submitted
from utils.processing.outcome import Call, InFlight, Outcome
from utils.processing.overtime import Overtime
from utils.processing.parking import Parking
from utils.processing.probing import Probing
from utils.processing.runner import Runner
from utils.sparing import Sparing


class Dispatcher:
    """The Executor that the loop has. It calls process() through one Runner. A call may go on after its assignment, and
    after its worker: so the dispatcher stays when a worker is started again.

    A group that failed goes to the end of the queue, and is tried again when `attempts` says so. When it has failed for
    good, its outcome goes to the loop. While the circuit is open, only probes are called. All else that is submitted
    waits, so the loop soon reads no more.

    A call that lasts longer than `timeout` seconds is a failed attempt, whatever it returns later. (0: no call is too
    long.) When too many calls hang, `is_stuck` is set and `on_stuck` is called: the worker commits what is finished,
    and the process ends. The next process counts on from the attempts in `hung`: `recall()` tells it of them.
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
        self._counters = counters
        self._clock = clock
        self.parked = Parking()
        self._submitted = Submitted(runner)
        self._order = _order_of(runner, self._submitted, self.parked)
        self._probing = Probing(attempts, self._order, self.parked)
        self._overtime = Overtime(runner, self._order, attempts, timeout, on_stuck)
        self._retry_lines = Sparing(clock)  # each failure has so many, and half of all that comes may fail
        self._is_cancelled = False
        self.in_flight = 0

    def submit(self, groups: list[Group]) -> None:
        self.in_flight += len(groups)
        self._start(groups)

    def collect(self, timeout: float) -> list[Outcome]:
        if not self.in_flight:
            return []
        now = self._clock()
        if self.parked.rest_some or self._probing.is_open:
            self._start_due(now)
            timeout = self._wait(timeout, now)
        outcomes = self._submitted.collect(timeout)
        if not (self._order.is_uneventful(outcomes) and self._attempts.is_quiet):
            now = self._clock()
            outcomes = self._wanted(outcomes, now)
        if self._overtime.is_due(now):
            outcomes += self._overtime.look(now, self._judge_late, is_cancelled=self._is_cancelled)
        self.in_flight -= len(outcomes)
        return outcomes

    def cancel(self) -> None:
        """A group that has failed is not tried again: it stays unfinished, like one that was never tried."""
        self._take_back()
        self.parked.clear(but_called=True)
        self._overtime.cancel()
        self._probing.cancel()
        self._is_cancelled = True
        self.in_flight = self._submitted.number - self._order.abandoned

    def drop(self) -> None:
        self.cancel()
        self._attempts.clear(but=self._overtime.late)
        self._order.abandon_all()
        self._probing.drop(self._clock())
        self._is_cancelled = False
        self.in_flight = 0

    @property
    def is_stuck(self) -> bool:
        return self._overtime.is_stuck

    @property
    def hung(self) -> list[tuple[Group, int]]:
        return self._overtime.hung

    @property
    def rests_for(self) -> float | None:
        if not self.parked.rest_some or self.in_flight > self.parked.groups:
            return None
        return self.parked.next_due() - self._clock()

    def recall(self, id: str, attempts: int, *, at_once: bool = False) -> None:
        if self._attempts.has_failed(id):
            return
        was_open, now = self._probing.is_open, self._clock()
        due = self._attempts.recalled(id, attempts, now)
        self.parked.note(id, now if at_once else due)
        self._forget_attempts(self.parked)
        if self._probing.is_open and not was_open:
            self._open_circuit(id, self._overtime.error, now)
            self._probing.begin_with_newest()

    def failed_before(self, id: str) -> None:
        self._attempts.failed_before(id)

    def shed(self, down_to: int) -> list[Group]:
        if self._probing.holds_some:  # what is held came after it
            return []
        shed = self.parked.shed(down_to)
        self.in_flight -= len(shed)
        self._forget_attempts(self.parked)
        return shed

    def put_aside(self, aside: Parking) -> int:
        moved = self.parked.move_resting(aside)
        self.in_flight -= moved
        return moved

    def shed_aside(self, aside: Parking, down_to: int) -> list[Group]:
        shed = aside.shed(down_to)
        self._forget_attempts(aside)
        return shed

    def take_back(self, aside: Parking) -> None:
        groups = aside.release_all()
        self.parked.note_all(aside)
        aside.forgotten.clear()
        self._forget_attempts(self.parked)
        self.submit(groups)

    def calls(self) -> list[Call]:
        return self._runner.calls()

    def find(self, id: str) -> InFlight | None:
        failed = self._attempts.made(id)
        if self.parked.rests(id):
            return InFlight("tried again", self.parked.due_of(id) - self._clock(), failed)
        if call := next((call for call in self._runner.calls() if call.id == id), None):
            return InFlight("called", call.seconds, failed)
        if id in self.parked.busy or self._runner.queued(id) or self._probing.holds(id):
            return InFlight("queued", 0.0, failed)
        return None

    @property
    def circuit_open_for(self) -> float | None:
        opened_at = self._attempts.circuit.opened_at
        return None if opened_at is None else self._clock() - opened_at

    def _forget_attempts(self, of: Parking) -> None:
        """Of ids whose next attempt is known there no more. They are tried each time they are read again, too early
        perhaps. If these attempts counted, they would become dead letters within minutes.
        """
        for id in of.forgotten:
            self._attempts.forget(id)
        of.forgotten.clear()

    # ------------------------------------------------------------------ into process()

    def _start(self, groups: Sequence[Group]) -> None:
        if self._probing.is_open:
            self._probing.hold(groups, self._clock())
        else:
            self._submitted.add(self._order.ready(groups, self._clock()))

    def _start_due(self, now: float) -> None:
        """Call again what is due. While the circuit is open, call one probe when that is due."""
        if self._probing.is_open:
            self._submitted.add(self._probing.next(now))
            return
        due: list[Group] = []
        while self.parked.rest_some and self.parked.next_due() <= now:
            due.append(self.parked.rested())
        self._submitted.add(due)

    def _wait(self, timeout: float, now: float) -> float:
        """`timeout`, or less: the seconds until something is due."""
        next_again = self.parked.next_due() if self.parked.rest_some else now
        due = self._probing.due if self._probing.is_open else next_again
        return min(timeout, due - now) if due > now else timeout

    # ------------------------------------------------------------------ what came of it

    def _wanted(self, outcomes: Sequence[Outcome], now: float) -> list[Outcome]:
        """The outcomes that go to the loop. All these calls have ended, also where this raises: then their ids are set
        free, for nobody else would do it.
        """
        ended, rest = list[Outcome | None](), deque(outcomes)
        try:
            while rest:
                outcome = rest.popleft()
                ended.append(self._ended(outcome, now))
        except Exception:
            self.parked.busy.pop(outcome.group.id, None)
            for each in rest:
                self._order.forget(each.group.id)
            if outcomes[-1].error is not None:
                self._order.halted()  # the thread waits for a word: for one, and no more
            raise
        if outcomes and outcomes[-1].error is not None:
            self._go_on_after_failure(outcomes[-1].group.id)
        return [outcome for outcome in ended if outcome]

    def _ended(self, outcome: Outcome, now: float) -> Outcome | None:
        """A call has ended. None: the loop does not want its outcome, or the group is tried again."""
        group, error = outcome.group, outcome.error
        if self._order.was_abandoned(group.id):
            self._abandoned_has_ended(group.id)
            return None
        if error is not None:
            return self._failed(group, error, now)
        was_open = self._probing.is_open
        attempts = self._attempts.succeeded(group.id)
        self._free(group.id)
        if was_open:
            self._close_circuit()
        return msgspec.structs.replace(outcome, attempts=attempts) if attempts > 1 else outcome

    def _failed(self, group: Group, error: BaseException, now: float) -> Outcome | None:
        due = self._judge(group.id, error, now)
        if due is None:
            outcome = Outcome(group, [], error, attempts=self._attempts.forget(group.id))
            self._free(group.id, has_failed=True)
            return outcome
        if self._is_cancelled:
            self.in_flight -= 1
            self._attempts.forget(group.id)
            self._free(group.id)
            return None
        self.parked.rest(group, due)
        return None

    def _judge(self, id: str, error: BaseException, now: float, *, goes_on: bool = False) -> float | None:
        """When this id is tried again. None: it has failed for good. Opens the circuit, if it is the last of many.

        `goes_on`: its call has not ended yet, and must end before it is tried again.
        """
        was_open = self._probing.is_open
        due = self._attempts.failed(id, error, now)
        self._probing.failed(id, error, now)
        if due is not None and goes_on:
            facts = {"id": id, "attempt": self._attempts.made(id), "error": named(error)}
            logger.warning("process() has not returned in time: it is called again when it has", extra=facts)
        elif due is not None:
            self._counters.retried += 1
            self._tell_retry(id, error, due - now)
        if self._probing.is_open and not was_open:
            self._open_circuit(id, error, now)
        return due

    def _tell_retry(self, id: str, error: BaseException, pause: float) -> None:
        if (beside := self._retry_lines.next()) is None:
            return
        facts = {"id": id, "attempt": self._attempts.made(id), "error": named(error)}
        facts |= {"next_try_in_s": round(pause, 1), **beside}
        logger.warning("process() failed and is tried again", extra=facts)

    def _judge_late(self, id: str, error: BaseException, now: float) -> float | None:
        due = self._judge(id, error, now, goes_on=True)
        if due is not None and self._is_cancelled:
            self.in_flight -= 1
        return due

    def _abandoned_has_ended(self, id: str) -> None:
        """Its message is tried again, but not if it has failed for good, or is no longer ours."""
        late = self._overtime.ended(id)
        if late and late.group:
            self._counters.retried += 1
            self.parked.rest(late.group, late.due)
            return
        if late:
            self._attempts.forget(id)
        if not self.parked.rests(id):  # OneByOne: its message may have been read again, and rest after a failure
            self._free(id)

    def _free(self, id: str, *, has_failed: bool = False) -> None:
        """The id is not busy any more: what waits behind it may go on."""
        is_open = self._probing.is_open
        if not is_open and (following := self._order.following(id, has_failed=has_failed)):
            self._submitted.add([following])
            return
        behind = self.parked.release(id)
        if is_open:
            self._probing.hold_first(behind)
        elif behind:
            self._start(behind)

    def _go_on_after_failure(self, id: str) -> None:
        others_wait = self.parked.rests(id) and (self._probing.is_open or self._runner.queued(id))
        halted = self._order.halted(take_back=others_wait)
        if self._probing.is_open:
            self._probing.hold([*self._with_those_behind(halted)], self._clock())
            return
        for group in halted:
            if self.parked.rests(group.id):
                self.parked.put_behind(group)
        self._submitted.add([group for group in halted if not self.parked.rests(group.id)])

    def _take_back(self) -> list[Group]:
        """The groups whose call has not begun, each followed by those that wait for it."""
        return [*self._with_those_behind(self._submitted.take_back())]

    def _with_those_behind(self, groups: list[Group]) -> Iterable[Group]:
        for group in groups:
            yield group
            if not self.parked.rests(group.id):  # else they wait for another group of the id, which has just failed
                yield from self.parked.release(group.id)

    def _open_circuit(self, last: str, error: BaseException, now: float) -> None:
        """`last`: the id whose failure has opened it."""
        self._counters.outages += 1
        held = self._probing.open(self._take_back(), last, now)
        facts = {"held": held, "error": named(error)}
        logger.error("process() fails for one id after the other: no more are taken in", extra=facts)

    def _close_circuit(self) -> None:
        held = self._probing.close()
        logger.warning("process() succeeds again", extra={"held": len(held)})
        self._start(held)


def _order_of(runner: Runner, submitted: Submitted, parked: Parking) -> Order:
    return OneByOne(runner, submitted, parked) if runner.one_by_one else OneOfEachId(submitted, parked)
