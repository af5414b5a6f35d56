"""Outcomes on their way from the threads of process() to the loop's, which collects them.

No call begins while too many bytes of results wait here.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress

from utils.processing.outcome import Outcome
from utils.processing.runner import NO_LIMIT
from utils.threads import Apart

MANY = 32  # calls that are running: those that end soon after another are collected with it
SOON = 0.01  # seconds; so soon


class ThreadDied(Exception):
    """A thread of process() has ended by its cause, so that no worker of this process can go on."""


class Done:
    """Put there by any threads, collected by one.

    After `put` a thread says what the results take (`note_size`), and tells the loop of them (`tell`): once for several
    where calls are quick. `wait_for_room` ends when the loop has collected.
    """

    def __init__(self, most: float) -> None:
        """`most`: bytes of results, with more of which there is no room."""
        self._outcomes: deque[Outcome] = deque()
        self.put = self._outcomes.append  # in one piece
        self._most = most
        self._made = 0  # bytes, ever
        self._collected = 0
        self._lock = threading.Lock()  # of the bytes
        self._is_room = threading.Event()
        self._is_room.set()
        # Held while there is nothing new: an Event that the wait clears, at a fraction of its cost (measured).
        self._untold = threading.Lock()
        self._untold.acquire()
        self._died: ThreadDied | None = None  # one of the threads

    def start_thread(self, work: Callable[[], None], name: str, *ends: Future[None]) -> threading.Thread:
        """One that puts outcomes here. What it raises is told to whoever collects, or waits for `ends`."""

        def run() -> None:
            try:
                work()
            except BaseException as error:
                self._died = died = ThreadDied("a thread of process() has died")
                died.__cause__ = error
                self.tell()
                for end in ends:
                    if not end.done():
                        end.set_exception(died)

        thread = Apart(target=run, name=name)
        thread.start()
        return thread

    def note_size(self, size: int) -> None:
        """So many bytes of results were put."""
        with self._lock:
            self._made += size
            if self.is_full:
                self._is_room.clear()

    def tell(self) -> None:
        """To the one that collects: something was put. It may have been collected already."""
        if self._untold.locked():
            with suppress(RuntimeError):  # told just now by another thread
                self._untold.release()

    @property
    def is_full(self) -> bool:
        return self._made - self._collected > self._most

    def wait_for_room(self) -> None:
        self._is_room.wait()

    def collect(self, timeout: float, calls: int = 1) -> list[Outcome]:
        """All that is there; waits up to `timeout` seconds, not below 0, to be told of any.

        `calls` that are running: of many, each outcome would wake the loop for a turn of its own. Raises ThreadDied.
        """
        if self._untold.acquire(timeout=timeout) and calls >= MANY:
            time.sleep(min(SOON, timeout))
        if self._died:
            raise self._died
        made = self._made  # all of that was put before, and is collected now, perhaps with more
        outcomes = [self._outcomes.popleft() for _ in range(len(self._outcomes))]
        if made > self._collected:
            with self._lock:
                self._collected = made
                if not self.is_full:
                    self._is_room.set()
        return outcomes

    def close(self) -> None:
        """Nobody collects any more: let all calls come to their end."""
        self._most = NO_LIMIT
        self._is_room.set()
