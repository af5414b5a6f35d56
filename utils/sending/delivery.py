"""Results out, offsets committed: the two delivery modes, at least once and exactly once, behind one protocol."""

import math
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, chain
from typing import NamedTuple, Protocol

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from utils.joining.messages import RESULT_OVERHEAD, Result
from utils.joining.offsets import CommitPoint, mark
from utils.joining.states import SENT
from utils.kafka.client_errors import HEALING
from utils.logger import logger
from utils.metrics import Histogram
from utils.processing.outcome import Outcome
from utils.sending.latency import Latency
from utils.sending.map_store import MapStore
from utils.sending.outbox import DeliveryFailed, Outbox, RecordRefused, unmasked
from utils.sending.pace import WITHIN
from utils.sending.whole_commits import WholeCommits
from utils.threads import in_thread

Clock = Callable[[], float]

# Seconds that a step of a transaction may block: longer than brokers let it be open. One whose commit is given up
# earlier can neither go on nor be aborted (the client refuses that), and stays open.
_LEAST_STEP, _STEP_LATER = 8.0, 1.0
_OFFSETS = 1.0  # seconds more, after which the step that sends the offsets is left behind
_SETTLE = 0.05  # seconds that one step of the loop waits for acknowledgements
_BATCH = 1_000_000  # bytes: `batch.size` of the client
_STORE = 8.0  # seconds that maps which do not fit into a commit may take to be acknowledged

_TIMED_OUT = KafkaException(KafkaError(KafkaError._TIMED_OUT))
_COMMIT_AGAIN = {
    *HEALING,  # a coordinator that moves, say: the client tries twice
    KafkaError.ILLEGAL_GENERATION,  # a rebalance overtook the request: the partitions stay ours or are revoked soon
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError._TIMED_OUT,
    KafkaError._TRANSPORT,
    KafkaError._WAIT_COORD,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._DESTROY,
}


class Delivery(Protocol):
    """How results leave, and how the offsets behind them are committed.

    The loop sends outcomes as they come. When a commit is due it calls `settle()` until that is true. Then it finishes
    the offsets that are marked as SENT, and gives the commit points of all partitions to `commit()`. When memory is
    full it does the same earlier, and without the commit if none is due.
    """

    @property
    def pending(self) -> int:
        """Groups that were sent, but are not settled yet."""

    @property
    def backlog(self) -> "Backlog":
        """What was sent and still takes memory."""

    @property
    def holds_back(self) -> bool:
        """More was given to `send()` than may be on its way at once. More leaves after the next settle and commit."""

    def assigned(self, consumer: Consumer) -> None:
        """Told in the assignment callback, before anything is sent for the new partitions. Raises KafkaException."""

    def send(self, outcomes: list[Outcome]) -> None:
        """Send the results of these outcomes to every output topic, and mark their offsets as SENT.

        Some may be held: what comes before `settle()` is done, and what is more than the output takes in a short while.
        They leave with a later `send()` or `commit()`, and their offsets are marked then.
        """

    def settle(self) -> bool:
        """True: all that is marked as SENT is safe as soon as the next commit is. False: ask again. Raises
        DeliveryFailed.
        """

    def drop(self) -> None:
        """Forget what is not settled: its partitions belong to another worker now."""

    def commit(self, consumer: Consumer, points: list[CommitPoint]) -> float:
        """Begin a commit; `committed()` tells how it ended. Returns seconds by which the next commit must be later.

        A map that is too long for a commit is stored first. If that fails, nothing is committed.
        """

    def committed(self) -> bool | None:
        """None: the commit is on its way. True: every partition is confirmed. False: it failed; take a new one.

        Raises KafkaException when a new one would fail, too.
        """

    def fail(self) -> None:
        """The loop has failed: nothing is committed from now on. A commit that did not fit is not repeated either."""

    def commit_now(self, consumer: Consumer, points: list[CommitPoint]) -> float:
        """As `commit()`, and wait for the answer: in a revoke there is no polling. Raises KafkaException."""

    def on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        """The consumer's `on_commit`: the answer to an asynchronous commit. Runs inside poll(), so it never raises."""


class Backlog(NamedTuple):
    """Results that still take memory: they are not safe yet."""

    groups: int = 0
    bytes: int = 0  # of the results or, where that is more, of their fragments

    def plus(self, outcomes: list[Outcome], size: int) -> "Backlog":
        """`size`: bytes of their results, in all output topics."""
        fragments = sum([outcome.group.bytes for outcome in outcomes])
        return Backlog(self.groups + len(outcomes), self.bytes + max(fragments, size))


class AtLeastOnce:
    """Results leave at once; their offsets are committed when the broker has acknowledged them.

    The client reports failed deliveries only (`delivery.report.only.error`). So when its queue is empty and it has
    reported no failure, Kafka has acknowledged everything. One failure forbids all later commits.
    """

    def __init__(
        self,
        outbox: Outbox,
        maps: MapStore,
        commit_time: Histogram | None = None,
        latency: Histogram | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._outbox = outbox
        self._maps = maps
        self._pace = outbox.pace
        self._copies = outbox.copies
        self._held: list[Outcome] = []
        self._held_size = 0  # bytes
        self._on_the_way = 0  # bytes
        self._sent: list[Outcome] = []
        self.backlog = Backlog()
        self._settling = False
        self._settling_since = 0.0
        self._unanswered: deque[int] = deque()
        """For each commit on its way: how long a map was allowed to be. There may be two when an assignment ends."""
        self._answer: bool | None = True
        self._commit_error: KafkaError | None = None
        self._last: tuple[Consumer, list[CommitPoint]] | None = None  # what is committed, until it is dropped
        self._whole = WholeCommits()
        self._has_failed = False
        self._does_not_fit = False  # the answer was that it has maps too long for the brokers
        self._commit_time = commit_time or Histogram()
        self._latency = Latency(latency, clock)
        self._clock = clock
        self._commit_began = 0.0

    @property
    def pending(self) -> int:
        return self.backlog.groups

    @property
    def holds_back(self) -> bool:
        return bool(self._held)

    def assigned(self, consumer: Consumer) -> None:
        pass

    def send(self, outcomes: list[Outcome]) -> None:
        outcomes = self._outbox.as_known(outcomes)
        size = _size(outcomes, self._copies)
        self._held += outcomes
        self._held_size += size
        self.backlog = self.backlog.plus(outcomes, size)
        if not self._settling:
            self._produce()

    def settle(self) -> bool:
        if not self._settling:
            self._produce()
            self._settling = True  # what is sent from here on waits, else a busy queue would never be empty
            self._settling_since = self._clock()
        if self._unacknowledged(_SETTLE):
            return False
        if self._outbox.has_refused:
            guilty = self._outbox.accuse(self._sent)
            ids = set(map(id, guilty))
            self._sent = [outcome for outcome in self._sent if id(outcome) not in ids]
            self._sent += self._outbox.put(self._outbox.as_known(guilty))
            self._drop_rest_of(guilty)
            return False
        self._pace.passed(self._on_the_way, self._clock() - self._settling_since)
        self._outbox.forget(self._sent)
        self._latency.delivered()
        self._sent = []
        self._on_the_way = 0
        self.backlog = Backlog().plus(self._held, self._held_size)
        self._settling = False
        return True

    def _drop_rest_of(self, guilty: list[Outcome]) -> None:
        """Of a large group some results left before, and now its dead letter has left instead: drop its other ones."""
        groups = {id(outcome.group) for outcome in guilty}
        if rest := [outcome for outcome in self._held if id(outcome.group) in groups]:
            self._held = [outcome for outcome in self._held if id(outcome.group) not in groups]
            self._held_size -= _size(rest, self._copies)
            _mark_sent(rest)

    def drop(self) -> None:
        self._held, self._held_size, self._sent = [], 0, []
        self.backlog, self._settling = Backlog(), False
        self._last, self._does_not_fit = None, False
        self._whole.forget()
        self._latency.drop()

    def commit(self, consumer: Consumer, points: list[CommitPoint]) -> float:
        self._answer, self._last = False, (consumer, points)
        self._commit_began = self._clock()
        if fitting := self._stored(consumer, points):
            self._unanswered.append(self._maps.allowed)
            self._answer = None
            self._whole.made(fitting)
            consumer.commit(offsets=_as_offsets(fitting), asynchronous=True)
        self._produce()
        return self._maps.pause

    def fail(self) -> None:
        self._has_failed = True

    def committed(self) -> bool | None:
        if self._commit_error:
            if self._last:
                self._whole.take_back(self._last[0])
            raise KafkaException(self._commit_error)
        # At once: some partitions of it may have been committed.
        if self._does_not_fit and self._last and not self._has_failed:
            self._does_not_fit = False
            self.commit(*self._last)
        return self._answer

    def commit_now(self, consumer: Consumer, points: list[CommitPoint]) -> float:
        fitting = self._stored(consumer, points)
        if not fitting:
            raise KafkaException(KafkaError(KafkaError.OFFSET_METADATA_TOO_LARGE))
        self._whole.made(fitting)
        try:
            for partition in consumer.commit(offsets=_as_offsets(fitting), asynchronous=False) or ():
                if partition.error:
                    raise KafkaException(partition.error)
        except KafkaException as error:
            self._maps.ended(False)
            if not self._maps.makes_fit(error.args[0], self._maps.allowed):
                if not may_repeat(error.args[0]):
                    self._whole.take_back(consumer)
                raise
            return self.commit_now(consumer, points)
        self._whole.confirmed()
        return self._maps.pause

    def on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        errors = [each for each in (error, *(partition.error for partition in partitions)) if each]
        allowed = self._unanswered.popleft()
        too_long = [each for each in errors if self._maps.makes_fit(each, allowed)]
        self._does_not_fit = bool(too_long) and not self._unanswered
        if not self._unanswered:
            self._answer = not errors
            if self._answer:
                self._whole.confirmed()
            self._maps.ended(self._answer)
            self._commit_time.add(self._clock() - self._commit_began)
        self._commit_error = self._commit_error or next(
            (each for each in errors if each not in too_long and not may_repeat(each)), None
        )

    def _stored(self, consumer: Consumer, points: list[CommitPoint]) -> list[CommitPoint] | None:
        """The points; maps that do not fit are stored before, and acknowledged. None: that failed for now."""
        if not self._maps.takes(points):
            return None
        try:
            fitting = self._maps.store(consumer, self._outbox, points)
        except KafkaException as error:
            if not may_repeat(error.args[0]):
                raise
            logger.warning("waiting for the topic of maps", extra={"error": str(error)})
            return None
        if fitting == points:
            return points
        unacknowledged = self._unacknowledged(_STORE)
        if self._outbox.has_refused:
            raise DeliveryFailed("a stored map was refused as too large for its topic")
        if unacknowledged:
            self._maps.ended(False)
            return None
        return fitting

    def _unacknowledged(self, timeout: float) -> int:
        try:
            return self._outbox.flush(timeout)
        except DeliveryFailed:
            self._pace.failed()
            raise

    def _produce(self) -> None:
        """Give the client what is held, but no more than the output takes in a short while."""
        room = self._pace.size - self._on_the_way
        if self._held_size <= room:
            now, self._held = self._held, []
            self._put(now, self._held_size)
        elif (now := _first(self._held, room, self._copies)) or not self._on_the_way:
            if not now and (part := _part(self._held[0], room, self._copies)):
                self._held[0] = _without(self._held[0], part)
                self._put([part], _size([part], self._copies), is_part=True)
                return
            now = now or self._held[:1]
            self._held = self._held[len(now) :]
            self._put(now, _size(now, self._copies))

    def _put(self, outcomes: list[Outcome], size: int, *, is_part: bool = False) -> None:
        self._held_size -= size
        self._on_the_way += size
        sent = self._outbox.put(outcomes)
        if self._outbox.may_accuse:
            self._sent += sent
        if not is_part:
            self._latency.sent(sent)
            _mark_sent(outcomes)


@dataclass(slots=True)
class _Staged:
    """Outcomes that were sent together. Of ordinary outcomes it keeps the results alone.

    Objects that lie here until the commit have left the processor's caches by then. So it keeps few of them (measured:
    a tenth of the CPU of the whole process).
    """

    outcomes: list[Outcome]
    results: list[Result]
    size: int  # bytes
    backlog: Backlog

    def parts(self) -> Iterator[tuple[slice, int]]:
        """Parts of about as many bytes as the client sends at once, and how many bytes each has."""
        values = [result.value for result in self.results]
        values += [result.value for outcome in self.outcomes for result in outcome.results]
        values += [outcome.letter.value or b"" for outcome in self.outcomes if outcome.letter]
        number, size = len(self.results) or len(self.outcomes), sum(map(len, values))
        step = math.ceil(number / (size // _BATCH + 1)) or 1
        return ((slice(at, at + step), size * step // number) for at in range(0, number, step))

    def put(self, outbox: Outbox, part: slice) -> None:
        if self.results:
            outbox.put_results(self.results[part])
        else:
            self.outcomes[part] = outbox.put(self.outcomes[part])


class TransactionTerms(NamedTuple):
    """What holds for the transactions of a worker."""

    timeout: float = 5.0  # seconds after which brokers abort one
    is_place_taken: Callable[[str], bool] = lambda _member_id: False
    """Given our member id, whether another member has our GROUP_INSTANCE_ID now: the transactional id is made of it."""
    may_take: Callable[[float], None] = lambda _seconds: None
    """Told for how many seconds the loop may not turn."""


class ExactlyOnce:
    """Results wait for the commit. Then they go with their offsets in one transaction, opened only for that moment.

    One transaction holds no more results than the output takes in a short while. The others wait for the next one.

    Any failure aborts the transaction and is raised: the worker starts again from the last commit. "Exactly once in
    Kafka": what process() does outside of Kafka is not part of it.
    """

    def __init__(
        self,
        outbox: Outbox,
        maps: MapStore,
        commit_time: Histogram | None = None,
        latency: Histogram | None = None,
        terms: TransactionTerms | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._outbox = outbox
        self._maps = maps
        terms = terms or TransactionTerms()
        self._is_place_taken, self._may_take = terms.is_place_taken, terms.may_take
        self._step = max(terms.timeout + _STEP_LATER, _LEAST_STEP)
        self._answer = True
        self._producer = outbox.producer
        self._pace = outbox.pace
        self._copies = outbox.copies
        self._held: list[Outcome] = []  # for a later transaction
        self._staged: list[_Staged] = []
        self._settled: list[_Staged] = []  # their offsets are in the next commit
        self._size = 0  # bytes of staged and settled
        self.pending = 0
        self.backlog = Backlog()
        self._group: object = None
        self._initialised = False
        self._commit_time = commit_time or Histogram()
        self._latency = Latency(latency, clock)
        self._clock = clock

    @property
    def holds_back(self) -> bool:
        return bool(self._held)

    def assigned(self, consumer: Consumer) -> None:
        # Only at the beginning of this callback does it surely carry the generation of this assignment. If Kafka has
        # expelled us it carries none, and the broker fences nothing (measured). Then the member id is empty.
        self._group = consumer.consumer_group_metadata()
        if not consumer.memberid():
            raise DeliveryFailed("expelled from the consumer group before the assignment was taken in")
        if not self._initialised:
            self._producer.init_transactions(self._step)
            self._initialised = True

    def send(self, outcomes: list[Outcome]) -> None:
        outcomes = self._outbox.as_known(outcomes)
        size = _size(outcomes, self._copies)
        backlog = Backlog().plus(outcomes, size)
        self.pending += backlog.groups
        self.backlog = _sum((self.backlog, backlog))
        if self._held or self._size + size > self._pace.size:
            self._held += outcomes
            self._stage_held()
        else:
            self._stage(outcomes, size, backlog)

    def _stage(self, outcomes: list[Outcome], size: int, backlog: Backlog) -> None:
        results = self._outbox.results_alone(outcomes)
        self._staged.append(_Staged(outcomes if results is None else [], results or [], size, backlog))
        self._size += size
        self._latency.sent(outcomes)
        _mark_sent(outcomes)

    def _stage_held(self) -> None:
        """Stage what is held, but no more than the output takes in a short while; one group in any case."""
        now = _first(self._held, self._pace.size - self._size, self._copies)
        if not now and not self._size:
            now = self._held[:1]
        if now:
            self._held = self._held[len(now) :]
            size = _size(now, self._copies)
            self._stage(now, size, Backlog().plus(now, size))

    def settle(self) -> bool:
        if self._held:
            self._stage_held()
        self._settled += self._staged
        self._staged, self.pending = [], len(self._held)
        return True

    def drop(self) -> None:
        self._held, self._staged, self._settled, self._size = [], [], [], 0
        self.pending, self.backlog = 0, Backlog()
        self._latency.drop()

    def commit(self, consumer: Consumer, points: list[CommitPoint]) -> float:
        self._answer = self._maps.takes(points)
        if self._answer:
            self._transact(consumer, points)
        return max(self._maps.pause, self._outbox.muted_for)

    def _transact(self, consumer: Consumer, points: list[CommitPoint]) -> None:
        """The offsets go first. When a producer is above its quota, the broker lets its next request wait. If results
        went first, that would be the request with the offsets.

        The request that ends the transaction goes another way (measured).
        """
        began = self._clock()
        self._may_take(2 * self._step + _OFFSETS)  # one that fails, and then aborting it
        self._producer.begin_transaction()
        try:
            fitting = self._maps.store(consumer, self._outbox, points)
            if self._maps.may_be_refused:  # which purges what is still queued, and that fails for good (measured)
                self._flush()
            self._send_offsets(fitting)
            self._put_settled()
            with unmasked():
                self._producer.commit_transaction(self._step)
        except (KafkaException, DeliveryFailed) as error:
            if self._clock() - began > WITHIN:
                self._pace.failed()
            if self._is_ready_for_another(error):
                self._transact(consumer, points)
                return
            cause = self._outbox.failed_because()  # before what is purged is said to have failed, too
            why = self._outbox.why(cause) if cause else error.args[0].str() if isinstance(error, KafkaException) else ""
            # Fenced by our own time-out, or by a worker that shares our GROUP_INSTANCE_ID? Its producer is often faster
            # than Kafka's news that our place is taken. Starting again would drive it out, and so on for ever.
            if self._abort() == KafkaError._FENCED and self._is_place_taken(consumer.memberid()):
                raise DeliveryFailed("replaced") from KafkaException(KafkaError(KafkaError.FENCED_INSTANCE_ID))
            if self._outbox.accuse(self._kept()):
                raise RecordRefused("a record was too large for its topic") from error
            if isinstance(error, DeliveryFailed):
                raise
            raise DeliveryFailed(f"transaction aborted: {why}") from cause or error
        self._maps.ended(True)
        self._outbox.forget(self._kept())
        took = self._clock() - began
        self._commit_time.add(took)
        self._latency.delivered()
        self._note_committed(took)

    def _note_committed(self, took: float) -> None:
        left = _sum([staged.backlog for staged in self._staged])
        sent = self._size - sum([staged.size for staged in self._staged])
        if not self._outbox.muted_for or took > WITHIN:
            self._pace.passed(sent, took)
        self._settled, self._size = [], self._size - sent
        self.backlog = left.plus(self._held, _size(self._held, self._copies))

    def _is_ready_for_another(self, error: KafkaException | DeliveryFailed) -> bool:
        """Whether it failed only because a map was too long for the brokers, and is aborted now: then try once more."""
        if isinstance(error, DeliveryFailed) or not self._maps.makes_fit(error.args[0], self._maps.allowed):
            return False
        self._maps.ended(False)
        return not self._abort()

    def _flush(self) -> None:
        if self._outbox.flush(self._step):
            raise DeliveryFailed("results of a transaction were not acknowledged in time") from _TIMED_OUT

    def _put_settled(self) -> None:
        """Put batch after batch; each is acknowledged before the next. When one fails it is known what was put before.

        If records had to wait behind a batch of their partition, the idempotent producer would poll without a pause
        (measured).
        """
        waiting = 0  # bytes
        for staged in self._settled:
            for part, size in staged.parts():
                if waiting and waiting + size > _BATCH:
                    self._flush()
                    waiting = 0
                staged.put(self._outbox, part)
                waiting += size

    def _kept(self) -> Iterator[Outcome]:
        """Of what is in the next commit: the outcomes of which more is kept than the results."""
        return (outcome for staged in self._settled for outcome in staged.outcomes)

    def _send_offsets(self, points: list[CommitPoint]) -> None:
        """In a thread: the client ignores its own time-out here, and may block for ever after the coordinator was away
        (github.com/confluentinc/librdkafka/issues/5456).

        What it sends after that does no harm: its transaction is over, and its member has left the consumer group.
        """
        send = self._producer.send_offsets_to_transaction
        call = in_thread(partial(send, _as_offsets(points), self._group, self._step), "offsets")
        try:
            call.result(self._step + _OFFSETS)
        except TimeoutError:
            self._outbox.stuck = call
            raise DeliveryFailed("no answer to the offsets of a transaction") from _TIMED_OUT
        finally:
            del call  # its error refers to this frame, and this frame to it: a ring, freed late

    def fail(self) -> None:
        pass

    def committed(self) -> bool | None:
        return self._answer

    def commit_now(self, consumer: Consumer, points: list[CommitPoint]) -> float:
        pause = self.commit(consumer, points)
        if not self._answer:
            raise KafkaException(KafkaError(KafkaError.OFFSET_METADATA_TOO_LARGE))
        return pause

    def on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        pass

    def _abort(self) -> int:
        """0, or the code of the error that kept the transaction open: then its time-out ends it."""
        try:
            with unmasked():
                self._producer.abort_transaction(self._step)
        except KafkaException as error:
            logger.warning("transaction not aborted", extra={"error": str(error)})
            return int(error.args[0].code())
        return 0


def _mark_sent(outcomes: list[Outcome]) -> None:
    """Mark all parts of these groups, but not those that were superseded after their group was given up: these are
    finished already. It looks only at groups that lack something: else a process() that filters most would cost a tenth
    more.
    """
    mark(chain.from_iterable([each.group.fragments for each in outcomes if not each.lacks_some]), SENT)
    given_up = chain.from_iterable([each.group.fragments for each in outcomes if each.lacks_some])
    mark((part for part in given_up if not part.offsets.is_finished(part.offset)), SENT)


def _size(outcomes: list[Outcome], copies: int) -> int:
    """Bytes of what is to be sent of them; `copies`: output topics."""
    values = [len(result.value) for outcome in outcomes for result in outcome.results]
    letters = [len(outcome.letter.value or b"") for outcome in outcomes if outcome.letter]
    overheads = len(values) * copies + len(letters)
    return sum(values) * copies + sum(letters) + RESULT_OVERHEAD * overheads


def _first(outcomes: list[Outcome], room: int, copies: int) -> list[Outcome]:
    """The first of them, as many as have room."""
    sizes = list(accumulate(_size([outcome], copies) for outcome in outcomes))
    return outcomes[: bisect_right(sizes, room)]


def _part(outcome: Outcome, room: int, copies: int) -> Outcome | None:
    """The first results of one outcome, as many as have room. None: it has too few results to be parted.

    No part has a single result: where the client refuses the only result of an outcome, it is clear that no others of
    it have left before.
    """
    sizes = list(accumulate(len(result.value) + RESULT_OVERHEAD for result in outcome.results))
    number = max(bisect_right(sizes, room // copies), 2)
    return _with(outcome, outcome.results[:number]) if number + 2 <= len(sizes) else None


def _without(outcome: Outcome, part: Outcome) -> Outcome:
    return _with(outcome, outcome.results[len(part.results) :])


def _with(outcome: Outcome, results: list[Result]) -> Outcome:
    return msgspec.structs.replace(outcome, results=results)


def _sum(backlogs: Sequence[Backlog]) -> Backlog:
    return Backlog(sum([each.groups for each in backlogs]), sum([each.bytes for each in backlogs]))


def _as_offsets(points: list[CommitPoint]) -> list[TopicPartition]:
    return [TopicPartition(*point) for point in points]


def may_repeat(error: KafkaError) -> bool:
    """Whether a commit that failed so may succeed when it is sent again."""
    return bool(error.retriable()) or error.code() in _COMMIT_AGAIN
