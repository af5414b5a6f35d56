"""How much may be on its way at once: as much as the output has lately taken in a short while.

Pure: no Kafka, no clock, no logging.
"""

WITHIN = 1.0  # seconds in which what is on its way should arrive: far less than any time-out that ends in a failure
FIRST = 1 << 19  # bytes: as long as nothing is known
MOST = 1 << 25  # bytes: with more at once nothing gets quicker
PATIENCE = 20.0  # seconds that less does not make shorter: a third of the time-out of a record. With more, care is due
PATIENCE_OF_A_TRANSACTION = 1.0  # of the 5 s after which it is aborted
LITTLE = 1 << 16  # bytes: if they take long and all else, too, less would hardly help
END_OF_PATIENCE = 5  # times as long as the patience: then a transaction is aborted
CAREFULLY = 16  # a quota that was not used for ten seconds lets pass ten times as much before it holds back


class Pace:
    """Told how long what was sent took. Outlives the worker: what has failed is sent more slowly after the restart.

    A part of that time does not depend on how much was sent: the client sends one partition a request, and waits for
    the answer before the next one. Sending less would make that no shorter, so it is not counted.
    """

    def __init__(self) -> None:
        self._most = MOST
        self._patience = PATIENCE
        self._fixed = 0.0  # seconds that sending less would not make shorter
        self._slow = (0, 0.0)  # bytes and seconds of what took too long last
        self.size = FIRST
        """Bytes that may be on their way at once."""
        self.has_failed = False
        """Something was not acknowledged in time."""

    def at_most(self, size: int, patience: float = PATIENCE) -> None:
        """More is never to be on its way at once, and no longer than that many seconds and WITHIN."""
        self._most, self._patience = min(max(size, 1), MOST), patience
        self.size = min(self.size, self._most)

    def passed(self, sent: int, seconds: float) -> None:
        """So many bytes at once were acknowledged after so long. Much less than might have been tells nothing."""
        if 2 * sent < self.size:
            return
        self._fixed = min(self._fixed, seconds)
        for_bytes, time = seconds - self._fixed, self._time_for_bytes
        if for_bytes <= time:
            is_little = for_bytes < time / 2
            more = int(sent * min(self._fixed, 1.0)) if is_little else 0  # for there are few of these in the same time
            more = more if self._fixed <= self._patience else more // 4
            self.size = min(self.size + max(sent // CAREFULLY, more), self._most)
            return
        if self._fixed > self._patience and sent <= LITTLE:
            return
        self.size = max(self._in_time(sent, seconds), 1)
        self._slow = sent, seconds

    @property
    def _time_for_bytes(self) -> float:
        """Seconds. Where the rest takes longer than there is patience for, a part of what is left before that fails."""
        left = END_OF_PATIENCE * self._patience - self._fixed
        return min(WITHIN, max(self._patience + WITHIN - self._fixed, left / 3, WITHIN / 100))

    def _in_time(self, sent: int, seconds: float) -> int:
        """How much would have been in time, after this that was not."""
        before, took = self._slow
        if 3 * sent > 2 * before:  # of about as much the times differ by chance
            return int(sent / (seconds - self._fixed) * self._time_for_bytes)
        for_bytes = sent * max(took - seconds, 0.0) / (before - sent)  # more of them took so much more time
        self._fixed = max(seconds - for_bytes, 0.0)
        for_bytes = seconds - self._fixed
        if for_bytes * 10 < seconds:  # it was for nothing that less was sent
            return before if self._fixed <= self._patience else sent
        return min(int(sent / for_bytes * self._time_for_bytes), sent)

    def failed(self) -> None:
        """What was sent was not acknowledged in time."""
        self.size = max(self.size // 4, 1)
        self.has_failed = True
