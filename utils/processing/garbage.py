"""What process() leaves behind: cycles, which keep its messages in memory until Python looks for them.

Python looks after so many new objects, whatever they hold, and a worker makes it look rarely (GC_THRESHOLDS of
`running/calls.py`): what travels through the frame holds no cycles. An everyday line of process() makes one
(`except KeyError as error: self.last = error`), and the messages may be large; so may be what process() makes of small
ones. So it looks after so many bytes of messages, too, and whenever the process has grown.
"""

import gc
import os
from collections.abc import Callable

LOOK_EVERY = 16_000_000  # bytes of messages: four times a second at full speed
GROWTH = 32_000_000  # bytes of the process since it was smallest after a look
MUCH = 8  # times GROWTH: then also what is old is looked at
_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident() -> int:
    """Bytes of this process in memory; 0: it is not told here."""
    try:
        file = os.open("/proc/self/statm", os.O_RDONLY)
    except OSError:
        return 0
    try:
        return int(os.read(file, 128).split()[1]) * _PAGE
    finally:
        os.close(file)


class Garbage:
    __slots__ = ("_least", "_resident", "_since", "_since_all")

    def __init__(self, resident: Callable[[], int] = resident) -> None:
        self._resident = resident
        self._since = 0
        self._least = self._since_all = resident()

    def passed(self, size: int) -> None:
        """So many bytes of messages have been processed."""
        self._since += size
        now = self._resident()
        self._least = min(self._least, now)
        if now >= self._least + GROWTH:
            self._look(now)
        elif self._since >= LOOK_EVERY:
            self._since = 0
            gc.collect(0)

    def _look(self, now: int) -> None:
        self._since = 0
        if now >= self._since_all + MUCH * GROWTH:
            gc.collect()
            self._since_all = self._resident()
        else:
            gc.collect(1)
            self._since_all = min(self._since_all, now)
        self._least = self._resident()
