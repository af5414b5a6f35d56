"""Records on their way out: results to every output topic, dead letters to theirs, and which of them were refused."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from utils.errors import chain, guarded
from utils.joining.dead_letters import Letter, sources
from utils.joining.messages import Headers, Result
from utils.joining.trace_context import trace_of
from utils.kafka.mute import Mute
from utils.logger import logger
from utils.metrics import Counters
from utils.processing.outcome import Outcome
from utils.sending.alone import Alone
from utils.sending.failures import Failures
from utils.sending.pace import Pace
from utils.sending.refusals import Refusals, Refused, Sent
from utils.threads import bounded

_ANY_PARTITION = -1  # the client's word for: by the key
CLOSE = 5.0  # seconds that closing a producer may take
_FULL = 0.05  # seconds that a full queue is waited for before it is tried again
_PURGED = {KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT}
_TOO_LARGE = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE}
_SMALL = 10_000  # bytes of a result: less than what a client takes, unless somebody has set that very low
_SMALLER = 2  # times: a result that is so much smaller than the one that was refused may leave

REFUSED = "refused by the broker"
TOO_LARGE = "larger than KAFKA_MESSAGE_MAX_BYTES"

Report = Callable[[KafkaError | None, Message], None]  # of a delivery that has failed


class DeliveryFailed(Exception):
    """Results did not reach their topics: nothing may be committed any more, start again from the last commit."""


@contextmanager
def unmasked() -> Iterator[None]:
    """Where the client serves callbacks: its own error leaves as a KafkaException.

    A callback that it calls while it has an error to raise (it was fenced, say) gets a SystemError from whatever it
    calls, and that, or another SystemError, comes out of the client in place of the error (measured).
    """
    try:
        yield
    except SystemError as error:
        known = next((each for each in chain(error) if isinstance(each, KafkaException)), None)
        raise known or KafkaException(KafkaError(KafkaError._FATAL, "the client has failed for good")) from error


class RecordRefused(DeliveryFailed):
    """A record was too large for its topic. It is known now, and leaves as a dead letter after the restart."""


class Outbox:
    """Puts records into the producer's queue and hears what becomes of them."""

    def __init__(
        self,
        producer: Callable[[Report], Producer],
        topics_output: tuple[str, ...],
        failures: Failures,
        refusals: Refusals,
        counters: Counters | None = None,
        mute: Mute | None = None,
    ) -> None:
        """`producer` makes one that reports only deliveries that failed: one report each costs 0.5 us (measured).

        As long as `counters` know of no message with headers, no trace is looked for: that costs 60 ns an id.
        """
        self.producer = producer(guarded(self.on_delivery, self.fail))
        self._alone = Alone(refusals.stamps.stamped(self.producer.produce), self.flush, refusals.alone)
        self._topics = topics_output
        self._failures = failures
        self._refusals = refusals
        self._counters = counters or Counters(with_headers=1)
        self._mute = mute or Mute()
        self._failure: Exception | None = None
        self._failed_at = ""  # topic and partition of the first record that was not delivered
        self._refused: list[Sent] = []
        self.stuck: Future[None] | None = None  # a call of the producer: to close it now would end the process

    def close(self, seconds: float = CLOSE) -> None:
        """Let go of the producer, at once: what is not acknowledged is forgotten, and nothing is put any more.

        The client first aborts an open transaction, and waits for that without an end (confluent-kafka-python, pull
        request 2329), also for a coordinator that it does not look for any more (measured: a broker was restarted). A
        producer that takes longer is left behind: the broker aborts its transaction by then. So is one that is stuck in
        a call, which returns when a connection of its comes or goes (measured); then it is closed.
        """
        with suppress(KafkaException), unmasked():  # a fenced one says so once more, which would end the process
            try:
                bounded(self._let_go, 0 if self.stuck else seconds)
            except TimeoutError:
                logger.warning("a producer that does not end is left behind")

    def _let_go(self) -> None:
        if self.stuck:
            wait([self.stuck])
        self.producer.purge()
        self.producer.close()

    @property
    def copies(self) -> int:
        """Of each result that leave: one for every output topic, and at least 1."""
        return len(self._topics) or 1

    @property
    def pace(self) -> Pace:
        return self._refusals.pace

    @property
    def muted_for(self) -> float:
        """Seconds for which whatever is put will wait for the quota of what was put before."""
        return self._mute.seconds

    def as_known(self, outcomes: list[Outcome]) -> list[Outcome]:
        """These outcomes, with dead letters in place of what the broker has refused before. And of several results of
        which the client will refuse one: others would have left by then. Of a single one `put` finds it out.
        """
        if self._topics and [each for each in outcomes if len(each.results) > 1]:
            refuses = self._refusals.largest.client_refuses
            outcomes = [self._failures.refused(each, TOO_LARGE) if refuses(each) else each for each in outcomes]
        if self._refusals.largest.is_known:
            refuses = self._refusals.largest.refuses
            outcomes = [self._failures.refused(each, REFUSED) if refuses(each) else each for each in outcomes]
        return [self._as_known(outcome) for outcome in outcomes] if self._refusals.groups else outcomes

    def put(self, outcomes: list[Outcome]) -> list[Outcome]:
        """Queue all records of these outcomes, and wait where the queue is full.

        Returns the outcomes as they leave: in place of a result that the client finds too large goes a dead letter.
        Raises RecordRefused where another result of its group has left already, or where it stays; DeliveryFailed,
        KafkaException.
        """
        produce = self._alone.put
        refused: list[tuple[Result, KafkaError]] = []
        traces = _traces(outcomes) if self._counters.with_headers else None
        for topic in self._topics:
            for outcome in outcomes:
                for result in outcome.results:
                    trace = traces.get(id(outcome)) if traces else None
                    try:
                        try:
                            if trace:
                                produce(topic, result.value, result.key, headers=trace)
                            else:
                                produce(topic, result.value, result.key)
                        except BufferError:
                            self._put_patiently(topic, result.key, result.value, trace)
                    except KafkaException as error:
                        refused.append((result, _too_large(error)))
        if refused:
            outcomes = self._instead(outcomes, refused)
        return [self._put_letter(outcome, outcome.letter) if outcome.letter else outcome for outcome in outcomes]

    def results_alone(self, outcomes: list[Outcome]) -> list[Result] | None:
        """The results of these outcomes, where that is all that may be needed to put them; else None.

        Not so for dead letters, traces and results that could be too large, and when a record has been refused before.
        """
        if self.may_accuse or self._counters.with_headers or [each for each in outcomes if each.letter]:
            return None
        results = [result for outcome in outcomes for result in outcome.results]
        return results if max([len(result.value) for result in results], default=0) < _SMALL else None

    def put_results(self, results: list[Result]) -> None:
        """`put` for what `results_alone()` has given. Raises RecordRefused, DeliveryFailed, KafkaException."""
        self._alone.let_go()
        produce = self._alone.put_small
        for topic in self._topics:
            for result in results:
                try:
                    try:
                        produce(topic, result.value, result.key)
                    except BufferError:
                        self._put_patiently(topic, result.key, result.value)
                except KafkaException as error:
                    reason = _too_large(error)
                    self._refusals.whole = True
                    raise RecordRefused(reason.str()) from error

    def flush(self, timeout: float) -> int:
        """How many records are unacknowledged after up to `timeout` seconds. Raises DeliveryFailed."""
        with unmasked():
            unacknowledged = self.producer.flush(timeout)
        self._check()
        return unacknowledged

    def fail(self, error: Exception) -> None:
        """A callback has failed: what it was to tell is not known, so nothing is safe any more."""
        self._failure = self._failure or error

    def failed_because(self) -> Exception | None:
        """What the first of the deliveries that have failed says: a right that is missing, for example. A transaction
        that is aborted for it does not say so. Nothing where that one was purged: then something else came before.
        """
        self.producer.poll(0)
        is_purged = isinstance(self._failure, KafkaException) and self._failure.args[0].code() in _PURGED
        return None if is_purged else self._failure

    def why(self, failure: Exception) -> str:
        """As `failed_because` has given it: with the topic and the partition."""
        is_kafkas = isinstance(failure, KafkaException)
        return failure.args[0].str() + self._failed_at if is_kafkas else "a callback of the client has failed"

    def _check(self) -> None:
        if self._failure:
            raise DeliveryFailed(self.why(self._failure)) from self._failure

    @property
    def may_accuse(self) -> bool:
        """Whether `accuse()` and `forget()` may have something to tell: what was sent must be kept until then."""
        return bool(self._refusals.batch_size or self._refusals.groups or self._refusals.whole)

    @property
    def has_refused(self) -> bool:
        return bool(self._refused)

    def accuse(self, outcomes: Iterable[Outcome]) -> list[Outcome]:
        """Those of these outcomes whose records the broker has refused: `as_known()` knows them from now on.

        Raises RecordRefused where it cannot be told, as others may have been in the same batch, and where it stays.
        """
        refused, self._refused = set(self._refused), []
        if not all(map(self._refusals.has_been_alone, refused)):
            self._refusals.narrow()
            topics = sorted({topic for topic, _, _ in refused if topic})
            cure = "set KAFKA_BATCH_SIZE below max.message.bytes of the topic"
            logger.error(
                "a batch was too large for its topic: smaller ones from now on",
                extra={"topics": topics, "batch_size": self._refusals.batch_size, "cure": cure},
            )
            raise RecordRefused(f"a batch was too large for {', '.join(topics)}")
        guilty = [outcome for outcome in outcomes if not refused.isdisjoint(self._records_of(outcome))]
        sizes = {record: len(record[2] or b"") for record in refused}
        for topic, key, value in refused:
            if topic in self._topics:
                self._refusals.largest.note(len(key or b"") + len(value or b""))
        for outcome in guilty:
            self._note_refusal(outcome, min(sizes[each] for each in self._records_of(outcome) & refused))
        if guilty and self._refusals.stays:
            raise RecordRefused("a result was too large for its topic")
        return guilty

    def forget(self, outcomes: Iterable[Outcome]) -> None:
        """These are safe: they will not come again."""
        if self._refusals.groups:
            for outcome in outcomes:
                self._refusals.groups.pop(_source(outcome), None)

    def on_delivery(self, error: KafkaError | None, record: Message) -> None:
        """How a delivery ended: called for failures only. Runs inside poll() and flush()."""
        if error is not None and error.code() in _TOO_LARGE:
            self._refused.append((record.topic(), record.key(), record.value()))
        elif error is not None:
            self._refusals.stamps.note(error)
            self.fail(KafkaException(error))
            with suppress(Exception):  # it cannot be asked while the client has an error to raise
                self._failed_at = self._failed_at or f" ({record.topic()}:{record.partition()})"

    def _as_known(self, outcome: Outcome) -> Outcome:
        """process() has been called again since, and may have come to something else, which is in nobody's way."""
        known, sizes = self._refusals.groups.get(_source(outcome)), [len(each.value) for each in outcome.results]
        if known and max(sizes, default=0) * _SMALLER > known.result:
            outcome = self._failures.refused(outcome, REFUSED)
        if known and known.letter and outcome.letter:
            outcome = self._failures.refused(outcome, REFUSED)
        return outcome

    def _instead(self, outcomes: list[Outcome], refused: list[tuple[Result, KafkaError]]) -> list[Outcome]:
        """The outcomes without those whose results the client has refused: dead letters in their place."""
        errors = {id(result): error for result, error in refused}
        left, left_in_part = [], None
        for outcome in outcomes:
            error = next((errors[id(result)] for result in outcome.results if id(result) in errors), None)
            if error is not None and (len(outcome.results) > 1 or self._refusals.stays):
                self._note_refusal(outcome, min(len(each.value) for each in outcome.results if id(each) in errors))
                left_in_part = error
            left.append(self._failures.refused(outcome, error.str()) if error else outcome)
        if left_in_part is not None:  # all of them are known now: one restart is enough
            raise RecordRefused(left_in_part.str())
        return left

    def _put_letter(self, outcome: Outcome, letter: Letter) -> Outcome:
        try:
            self._put_patiently(self._failures.topic, letter.key, letter.value, letter.headers)
        except KafkaException as error:
            outcome = self._failures.refused(outcome, _too_large(error).str())
            if outcome.letter:
                self._put_patiently(self._failures.topic, outcome.letter.key, None, outcome.letter.headers)
        return outcome

    def put_map(self, topic: str, key: bytes, value: bytes | None) -> None:
        """A record of the topic of maps, all of which lie in one partition. Raises DeliveryFailed, KafkaException."""
        self._put_patiently(topic, key, value, partition=0)

    def _put_patiently(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None = None,
        partition: int = _ANY_PARTITION,
    ) -> None:
        """While the queue is full the broker is slower than we are. What an empty one has no room for is too large."""
        while True:
            try:
                return self._alone.put(topic, value, key, partition, headers=headers)
            except BufferError:
                if not len(self.producer):
                    why = "larger than queue.buffering.max.kbytes"
                    raise KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE, why)) from None
                with unmasked():
                    self.producer.poll(_FULL)
                self._check()

    def _note_refusal(self, outcome: Outcome, size: int) -> None:
        """Of its dead letter, or of a result with a value of so many bytes."""
        known = self._refusals.groups.setdefault(_source(outcome), Refused())
        if not outcome.letter:
            known.result = min(known.result, size)
        elif known.letter:
            raise DeliveryFailed(f"not even the sources of a dead letter fit into {self._failures.topic}")
        else:
            known.letter = True

    def _records_of(self, outcome: Outcome) -> set[Sent]:
        records: set[Sent] = {(topic, result.key, result.value) for topic, result in _records([outcome], self._topics)}
        letter = outcome.letter
        return {*records, (self._failures.topic, letter.key, letter.value)} if letter else records


def _records(outcomes: Sequence[Outcome], topics: tuple[str, ...]) -> list[tuple[str, Result]]:
    return [(topic, result) for outcome in outcomes for result in outcome.results for topic in topics]


def _traces(outcomes: Iterable[Outcome]) -> dict[int, Headers]:
    """The headers to be carried on, by the `id()` of each outcome that has some."""
    traced = [outcome for outcome in outcomes for fragment in outcome.group.fragments if fragment.headers]
    return {id(outcome): trace for outcome in traced if (trace := trace_of(outcome.group.fragments))}


def _source(outcome: Outcome) -> str:
    return sources(outcome.group)[0]


def _too_large(error: KafkaException) -> KafkaError:
    """The reason, where it is that; raised where it is another one."""
    reason: KafkaError = error.args[0]
    if reason.code() not in _TOO_LARGE:
        raise error
    return reason
