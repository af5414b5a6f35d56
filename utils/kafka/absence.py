"""Whether Kafka's client does not join the consumer group any more, without a word: then a new client has to.

Seen where a broker was frozen for longer than the session: the client told that its session had ended, and no more than
that, while the broker had no member of that consumer group (client 2.16). A rebalance may take minutes, and brokers may
be away for hours. So the brokers are asked: what they call settled is no rebalance that we wait for. Where nobody
answers, new clients are tried after some six minutes.
"""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from confluent_kafka import Consumer

from utils.logger import logger
from utils.threads import bounded, in_thread

PATIENCE = 60.0  # seconds without an assignment: far more than it takes where nobody is slow
AGAIN = 10.0  # seconds until they are asked again
SELDOM = 30.0  # seconds, where none has answered: each question takes a client of its own
ANSWERS = 3  # in a row that call it settled: between two rebalances it may be so for a moment
SILENT = 10  # times in a row that nobody answers: it may also be that we may not ask
SETTLED = {"EMPTY", "DEAD", "STABLE"}
UNANSWERED = 30.0  # seconds after which a question counts as not answered: the client that asks may never end


Ask = Callable[[], str]


def _apart(ask: Ask) -> Future[str]:
    return in_thread(ask, "absence")


@dataclass(slots=True)
class Absence:
    """Of one client."""

    ask: Ask
    """The state of the consumer group, as Kafka calls it; empty where nobody can tell."""
    apart: Callable[[Ask], Future[str]] = _apart
    """The loop does not wait for the answer: it may have to stop."""
    _since: float | None = None  # it has no assignment
    _next: float = 0.0  # when they are asked, or are to have answered
    _asked: Future[str] | None = None
    _settled: int = 0
    _unanswered: int = 0
    _is_left_behind: bool = False

    def is_for_good(self, now: float, is_assigned: bool) -> bool:
        if is_assigned:
            self._since = self._asked = None
            return False
        if self._since is None:
            self._since, self._next = now, now + PATIENCE
            self._settled = self._unanswered = 0
        if self._asked is None and now >= self._next:
            self._asked, self._next = self.apart(self.ask), now + UNANSWERED
        if self._asked is not None and (self._asked.done() or now >= self._next):
            state = self._asked.result() if self._asked.done() else ""
            self._asked, self._next = None, now + (AGAIN if state else SELDOM)
            self._settled = self._settled + 1 if state in SETTLED else 0
            self._unanswered = 0 if state else self._unanswered + 1
        return self._settled >= ANSWERS or self._unanswered >= SILENT

    def let_go(self, consumer: Consumer, seconds: float) -> None:
        """Close this client, which may not end either. Its callbacks must do nothing any more."""
        try:
            bounded(consumer.close, seconds)
        except TimeoutError:
            self._is_left_behind = True
            logger.warning("a consumer that does not end is left behind")

    def close(self, consumer: Consumer) -> None:
        """Also where it is closed. One that is left behind is being closed."""
        if not self._is_left_behind:
            consumer.close()
