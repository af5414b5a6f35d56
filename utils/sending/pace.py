"""How much may be on its way at once: as much as the output has lately taken in a short while.

Pure: no Kafka, no clock, no logging.
"""

WITHIN = 1.0  # seconds in which what is on its way should arrive: far less than any time-out that ends in a failure
FIRST = 1 << 19  # bytes: as long as nothing is known
MOST = 1 << 25  # bytes: with more at once nothing gets quicker
CAREFULLY = 16  # a quota that was not used for ten seconds lets pass ten times as much before it holds back


class Pace:
    """Told how long what was sent took. Outlives the worker: what has failed is sent more slowly after the restart."""

    def __init__(self) -> None:
        self._most = MOST
        self.size = FIRST
        """Bytes that may be on their way at once."""
        self.has_failed = False
        """Something was not acknowledged in time."""

    def at_most(self, size: int) -> None:
        """More is never to be on its way at once."""
        self._most = min(max(size, 1), MOST)
        self.size = min(self.size, self._most)

    def passed(self, sent: int, seconds: float) -> None:
        """So many bytes at once were acknowledged after so long. Much less than might have been tells nothing."""
        if 2 * sent < self.size:
            return
        if seconds > WITHIN:
            self.size = max(int(sent / seconds * WITHIN), 1)
        else:
            self.size = min(self.size + sent // CAREFULLY, self._most)

    def failed(self) -> None:
        """What was sent was not acknowledged in time."""
        self.size = max(self.size // 4, 1)
        self.has_failed = True
