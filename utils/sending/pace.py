"""How much may be on its way at once: as much as the output has lately taken in a short while.

Pure: no Kafka, no clock, no logging.
"""

WITHIN = 1.0  # seconds in which what is on its way should arrive: far less than any time-out that ends in a failure
FIRST = 1 << 19  # bytes: as long as nothing is known
MOST = 1 << 25  # bytes: with more at once nothing gets quicker
PATIENCE = 20.0  # seconds that less would not make shorter: a third of the time-out of a record
PATIENCE_OF_A_TRANSACTION = 1.5  # of the 5 s after which it is aborted
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
        self.size, self._fixed = min(self.size, self._most), min(self._fixed, patience)

    def passed(self, sent: int, seconds: float) -> None:
        """So many bytes at once were acknowledged after so long. Much less than might have been tells nothing."""
        if 2 * sent < self.size:
            return
        self._fixed = min(self._fixed, seconds)
        if seconds <= WITHIN + self._fixed:
            self.size = min(self.size + sent // CAREFULLY, self._most)
            return
        before, took = self._slow
        if sent < before:  # less has taken so much less: the rest of the time is not for bytes
            for_bytes = sent * max(took - seconds, 0.0) / (before - sent)
            self._fixed = min(max(seconds - for_bytes, 0.0), self._patience)
        self._slow = sent, seconds
        self.size = max(min(int(sent / (seconds - self._fixed) * WITHIN), sent), 1) if seconds > self._fixed else sent

    def failed(self) -> None:
        """What was sent was not acknowledged in time."""
        self.size = max(self.size // 4, 1)
        self.has_failed = True
