"""How often a message is tried, when it is tried again, and when it makes no sense to try any of them.

Pure: no Kafka, no clock, no logging; `now` is in seconds of whatever clock the caller uses throughout.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable

from utils.joining.messages import InvalidMessage, InvalidResult
from utils.retry import Reject, Retry, asked_for

OUTAGE = 20  # messages that fail in a row, each of an id of its own, without a success in between
FEW_IDS = 3  # of so many different ids others count, too: each begun after the one of its id before had failed for good
LONGEST_BACKOFF = 60.0  # seconds
LONGEST_PROBE = 10.0  # seconds between two probes, and so about how long the end of an outage goes unnoticed

FREE_PROBES_FOR = 12 * 3600.0  # seconds, longer than most outages: attempts of probes do not count for so long
HOPELESS = (InvalidMessage, Reject)  # errors with which a message fails for good at once

Jitter = Callable[[], float]


class Backoff:
    """Waits that double: the first about `first` seconds, none longer than about `longest`, each with some jitter.

    `jitter`: numbers of 0 to 1; they spread a wait over half of it to one and a half, so that what failed together is
    not tried again together.
    """

    def __init__(self, first: float, longest: float, jitter: Jitter) -> None:
        self._first = first
        self._longest = longest
        self._jitter = jitter

    def wait(self, failures: int) -> float:
        """Seconds after so many failures, the first one included."""
        doubled = self._first * 2.0 ** min(failures - 1, 64)
        return min(doubled, self._longest) * (0.5 + self._jitter())


class Circuit:
    """Opens when different ids fail one after the other: then it is not the messages, and trying more is no use. Where
    few ids are there, so are messages that come after each other of at least FEW_IDS of them.

    While it is open, one probe at a time, each with another id, finds out when something succeeds again. A message that
    fails again and again is one id, and the next success of any other begins the count anew: it never opens. Nor do
    those that failed before it closed and fail again after it: something has succeeded between, so it is them.

    Where nothing but bad messages is there, all of this looks as an outage does, and lasts: as long as no other message
    succeeds, nobody can tell. So that it does not last for ever, the attempts of the probes count after
    FREE_PROBES_FOR.
    """

    def __init__(self, backoff: Backoff, outage: float = OUTAGE) -> None:
        """`outage`: how many failing messages open it."""
        self._backoff = backoff
        self._outage = outage
        self._row: dict[str, int] = {}  # ids that have failed since the last success, and how often
        self._evidence = Counter[str]()  # those of them that had not failed before it, and how many messages of each
        self._counted: set[str] = set()  # of these the message that is tried now is one
        self._probes = 0
        self.opened_at: float | None = None
        self.next_probe = math.inf
        """When another id shall be tried. Infinite while one is, and while the circuit is closed."""

    @property
    def is_open(self) -> bool:
        return self.opened_at is not None

    @property
    def is_quiet(self) -> bool:
        """Nothing has failed since the last success."""
        return not self._row

    def failed(self, id: str, now: float, *, before: bool) -> dict[str, int]:
        """Returns the attempts, by id, that do not count against their messages: this one, or all that opened it.

        `before`: it had also failed before the last success of another one.
        """
        self._row[id] = self._row.get(id, 0) + 1
        if self.opened_at is not None:
            return {id: 1} if now - self.opened_at < FREE_PROBES_FOR else {}
        if not before:
            self._count(id)
        return self._judged(now)

    def _count(self, id: str) -> None:
        if id not in self._counted:
            self._counted.add(id)
            self._evidence[id] += 1

    def gave_up(self, id: str) -> None:
        """Its message has failed for good: the next one of this id is another."""
        self._counted.discard(id)
        if id in self._row:
            self._row[id] = 0

    def recalled(self, id: str, times: int, now: float) -> dict[str, int]:
        """This id has failed so often in processes before this one. Returns what `failed` returns."""
        self._row[id] = times
        if self.opened_at is not None:
            return {id: times}
        self._count(id)
        return self._judged(now)

    def _judged(self, now: float) -> dict[str, int]:
        messages = self._evidence.total() if len(self._evidence) >= FEW_IDS else len(self._evidence)
        if messages < self._outage:
            return {}
        self.opened_at = now
        self._probes = 0
        self.probed(now)
        return self._row

    def probing(self) -> None:
        """A probe is on its way."""
        self.next_probe = math.inf

    def probed(self, now: float) -> None:
        """It was in vain."""
        self._probes += 1
        self.next_probe = now + self._backoff.wait(self._probes)

    def undecided(self, now: float) -> None:
        """It has told nothing: its message was invalid, or is nobody's any more."""
        self.next_probe = now

    def succeeded(self) -> Iterable[str]:
        """Returns the ids that have failed since the success before."""
        row, self._row = self._row, {}
        self._evidence.clear()
        self._counted.clear()
        self.opened_at = None
        self.next_probe = math.inf
        return row


class Attempts:
    """Counts the attempts of each id that fails, and decides what comes of it."""

    def __init__(
        self, limit: int, backoff: float, jitter: Jitter, outage: float = OUTAGE, patience: float = math.inf
    ) -> None:
        """`limit`: attempts after which a message has failed for good; `backoff`: seconds before the second one.

        `outage`: as of the circuit. `patience`: seconds; what asks to be tried later than that has failed for good.
        """
        self._limit = limit
        self._patience = patience
        self._backoff = Backoff(backoff, max(LONGEST_BACKOFF, backoff), jitter)
        self._failed: dict[str, int] = {}
        self._failed_before: set[str] = set()  # those of them that failed before another one succeeded
        self.circuit = Circuit(Backoff(min(backoff, LONGEST_PROBE), LONGEST_PROBE, jitter), outage)

    @property
    def is_quiet(self) -> bool:
        """A success says nothing that is not known: nothing is left that has failed, in memory or out of it."""
        return self.circuit.is_quiet and not (self._failed or self._failed_before)

    def made(self, id: str) -> int:
        """How many have failed so far, without those that do not count."""
        return self._failed.get(id, 0)

    def has_failed(self, id: str) -> bool:
        """Also where no attempt counts."""
        return id in self._failed

    def failed(self, id: str, error: BaseException, now: float) -> float | None:
        """When this message shall be tried again. None: it has failed for good."""
        self._failed[id] = self.made(id) + 1
        if isinstance(error, HOPELESS):
            return None
        after = asked_for(error) if isinstance(error, Retry) else None
        # Else the outside has answered; or process() wants a message later, which may well be its way with all of them.
        if not isinstance(error, InvalidResult) and (after is None or self.made(id) > 1):
            self._do_not_count(self.circuit.failed(id, now, before=id in self._failed_before))
        if self.made(id) >= self._limit:
            self.circuit.gave_up(id)
            return None
        if after is not None:
            return now + after if after <= self._patience else None
        return now + self._backoff.wait(max(self.made(id), 1))

    def failed_before(self, id: str) -> None:
        """It has failed in an earlier process, where others have succeeded since: it is no sign of an outage."""
        self._failed_before.add(id)

    def recalled(self, id: str, made: int, now: float) -> float:
        """When this message shall be tried again, of which so many attempts have failed in earlier processes."""
        self._failed[id] = made
        if id not in self._failed_before:
            self._do_not_count(self.circuit.recalled(id, made, now))
        return now + self._backoff.wait(max(made, 1))

    def _do_not_count(self, attempts: dict[str, int]) -> None:
        for id, number in attempts.items():
            if id in self._failed:
                self._failed[id] -= number

    def succeeded(self, id: str) -> int:
        """How many attempts it took."""
        self._failed_before.update(each for each in self.circuit.succeeded() if each in self._failed)
        return self.forget(id) + 1

    def forget(self, id: str) -> int:
        """It is not tried again; how many attempts have failed."""
        self._failed_before.discard(id)
        return self._failed.pop(id, 0)

    def clear(self, but: Collection[str] = ()) -> None:
        """All messages are somebody else's now, `but` these may soon be ours again. The circuit stays as it is."""
        self._failed = {id: made for id, made in self._failed.items() if id in but}
        self._failed_before.clear()
