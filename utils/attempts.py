"""How often a message is tried, when it is tried again, and when it makes no sense to try any of them.

Pure: no Kafka, no clock, no logging; `now` is in seconds of whatever clock the caller uses throughout.
"""

import math
from collections.abc import Callable

from utils.messages import InvalidMessage, InvalidResult
from utils.retry import Reject, Retry

OUTAGE = 20  # different ids that fail in a row, without a success in between
LONGEST_BACKOFF = 60.0  # seconds
LONGEST_PROBE = 10.0  # seconds between two probes, and so about how long the end of an outage goes unnoticed

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
    """Opens when different ids fail one after the other: then it is not the messages, and trying more is no use.

    While it is open, one probe at a time, each with another id, finds out when something succeeds again. A message that
    fails again and again is one id, and the next success of any other begins the count anew: it never opens.
    """

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._row: dict[str, int] = {}  # ids that have failed since the last success, and how often
        self._probes = 0
        self.is_open = False
        self.next_probe = math.inf
        """When another id shall be tried. Infinite while one is, and while the circuit is closed."""

    @property
    def is_quiet(self) -> bool:
        """Nothing has failed since the last success."""
        return not self._row

    def in_row(self, id: str) -> int:
        """How often it has failed since the last success."""
        return self._row.get(id, 0)

    def failed(self, id: str, now: float) -> dict[str, int]:
        """Returns the attempts, by id, that do not count against their messages: this one, or all that opened it."""
        if self.is_open:
            return {id: 1}
        self._row[id] = self._row.get(id, 0) + 1
        if len(self._row) < OUTAGE:
            return {}
        self.is_open = True
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

    def succeeded(self) -> None:
        self._row = {}
        self.is_open = False
        self.next_probe = math.inf


class Attempts:
    """Counts the attempts of each id that fails, and decides what comes of it."""

    def __init__(self, limit: int, backoff: float, jitter: Jitter) -> None:
        """`limit`: attempts before a message is given up; `backoff`: seconds before the second one."""
        self._limit = limit
        self._backoff = Backoff(backoff, max(LONGEST_BACKOFF, backoff), jitter)
        self._failed: dict[str, int] = {}
        self.circuit = Circuit(Backoff(min(backoff, LONGEST_PROBE), LONGEST_PROBE, jitter))

    def made(self, id: str) -> int:
        """How many have failed so far, without those that do not count."""
        return self._failed.get(id, 0)

    def failed(self, id: str, error: BaseException, now: float) -> float | None:
        """When this message shall be tried again. None: it is given up."""
        known = self.made(id) > self.circuit.in_row(id)  # others have succeeded since it failed: it is the message
        self._failed[id] = self.made(id) + 1
        if isinstance(error, InvalidMessage | Reject):
            return None
        if not isinstance(error, InvalidResult) and (
            self.circuit.is_open or not known
        ):  # else the outside has answered
            for each, number in self.circuit.failed(id, now).items():
                if each in self._failed:
                    self._failed[each] -= number
        if self.made(id) >= self._limit:
            return None
        if isinstance(error, Retry) and error.after is not None:
            return now + error.after
        return now + self._backoff.wait(max(self.made(id), 1))

    def succeeded(self, id: str) -> int:
        """How many attempts it took."""
        self.circuit.succeeded()
        return self.forget(id) + 1

    def forget(self, id: str) -> int:
        """The message is given up; how many attempts have failed."""
        return self._failed.pop(id, 0)

    def clear(self) -> None:
        """All messages are somebody else's now. The circuit stays as it is."""
        self._failed.clear()
