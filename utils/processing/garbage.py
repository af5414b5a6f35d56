"""What process() leaves behind: cycles, which keep its messages in memory until Python looks for them.

Python looks after so many new objects, whatever they hold, and a worker makes it look rarely (GC_THRESHOLDS of
`running/calls.py`): what travels through the frame holds no cycles. An everyday line of process() makes one
(`except KeyError as error: self.last = error`), and the messages may be large. So it looks after so many bytes, too.
"""

import gc

LOOK_EVERY = 16_000_000  # bytes of messages: four times a second at full speed


class Garbage:
    __slots__ = ("_since",)

    def __init__(self) -> None:
        self._since = 0

    def passed(self, size: int) -> None:
        """So many bytes of messages have been processed."""
        self._since += size
        if self._since >= LOOK_EVERY:
            self._since = 0
            gc.collect(0)
