"""How records get into the queue of a producer: a large one of a transaction alone, and why.

Kafka's client takes a batch that is stored for a proof that the one before it is, too, which may have been refused:
see `utils/kafka/clients.producer`. It never sends two of a partition at once but where the first is of a few records.
"""

from collections.abc import Callable
from typing import Any

WAIT = 60.0  # seconds: longer than any record of a transaction has, so that each is safe by then, or has failed

Produce = Callable[..., None]


class Alone:
    """`put` for any record, `put_small` for those that are known to be smaller, after `let_go()`."""

    def __init__(self, produce: Produce, flush: Callable[[float], object], large: int) -> None:
        """`flush` raises what `put` shall raise where a delivery has failed. `large`: bytes; 0: no record is."""
        self._flush = flush
        self._large = large
        self._is_out = False  # a large one, and it may not be acknowledged yet
        self.put_small = produce

    def put(self, topic: str, value: bytes | None, key: bytes | None, *partition: int, **options: Any) -> None:
        is_large = 0 < self._large <= len(value or b"") + len(key or b"")
        if is_large or self._is_out:
            self._flush(WAIT)
        self.put_small(topic, value, key, *partition, **options)
        self._is_out = is_large

    def let_go(self) -> None:
        """Wait until a large one is acknowledged, if one was put."""
        if self._is_out:
            self._is_out = False
            self._flush(WAIT)
