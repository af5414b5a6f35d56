"""How a process of ours waits and ends: by signals, in time, and never stuck in a call that no signal interrupts."""

import faulthandler
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import wait
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn, TypeVar

from config import NeedsNewProcessError, UnavailableError
from utils.logger import logger
from utils.running import first_moment
from utils.threads import Apart, in_thread

LONGEST_PAUSE = 10.0  # seconds between two tries
RELOAD = 30  # seconds that a worker may take to end because its row has changed: several steps of a transaction
TELLING = 1.0  # seconds that saying so may take
STANDSTILL = 30.0  # seconds beside PROCESS_TIMEOUT that a call may keep all other threads from running
STDERR = 2
AGAIN = 0.5  # seconds from which on a signal is a second wish: `timeout` and others tell a process, and then its group
LEAVING = 2.0  # seconds that threads of worker.py, and what libraries do at the exit, may take in all
# Seconds beside SHUTDOWN_TIMEOUT that closing the clients may take: CLOSING_IN_TIME of the worker, and more.
GRACE = 1.5
AT_LAST = GRACE + LEAVING + TELLING + 0.5  # seconds beside twice SHUTDOWN_TIMEOUT that the end of all may take

T = TypeVar("T")


class Stopped(Exception):
    """SIGTERM or SIGINT came before the worker was built."""


@contextmanager
def ending_in_time(process_stop: threading.Event, timeout: float, standstill: float = 0.0) -> Iterator[threading.Event]:
    """An event that ends a worker: set with `process_stop`, or alone where only this worker is to end.

    A worker that takes longer than `timeout` seconds after that ends the process: a client may wait for a broker that
    does not answer. Where only the worker is to end, nobody waits for it: it may take RELOAD seconds.

    Where no thread of Python has run for `standstill` seconds (0: for ever), because a call keeps Python's lock (GIL),
    the process ends with 1 and shows where each thread is. No thread of ours could do that; faulthandler's is one of C.
    """
    worker_stop, worker_ended = threading.Event(), threading.Event()

    def end_with_the_process() -> None:
        while not (worker_stop.is_set() or process_stop.wait(1.0)):
            if standstill:
                with suppress(RuntimeError):  # no thread is to be had at the moment
                    faulthandler.dump_traceback_later(standstill, exit=True, file=STDERR)
        faulthandler.cancel_dump_traceback_later()
        worker_stop.set()

    def tell() -> None:
        logger.error(
            "stopping takes too long: ended, perhaps without the last commit", extra={"shutdown_timeout": timeout}
        )

    def end_in_time() -> None:
        worker_stop.wait()
        for _ in range(RELOAD):
            if process_stop.is_set():
                break
            if worker_ended.wait(1.0):
                return
        if worker_ended.wait(timeout + GRACE):
            return
        _in_time(tell)
        os._exit(1)

    threading.Thread(target=end_with_the_process, name="end with the process", daemon=True).start()
    threading.Thread(target=end_in_time, name="end in time", daemon=True).start()
    try:
        yield worker_stop
    finally:
        worker_ended.set()
        worker_stop.set()


def end_at_last(process_stop: threading.Event, shutdown_timeout: Callable[[], float]) -> None:
    """Whatever this process waits for, it ends with 1 once its time to stop is over. Who ends parts of it in time does
    so before; but each line of the log may be waited for, where nobody takes them any more.
    """

    def end() -> None:
        process_stop.wait()
        time.sleep(2 * shutdown_timeout() + AT_LAST)
        os._exit(1)

    threading.Thread(target=end, name="end at last", daemon=True).start()


def leave(code: int) -> NoReturn:
    """End the process with this code, and in time.

    Python waits for all threads that are no daemons, without an end: those of an executor, for example, whose call
    process() has given up. And a thread of ours that nobody waits for may have a client of Kafka, whose own threads
    call into Python: where that is being taken apart, this is the end of the process (SIGSEGV), whatever its code.
    """
    if any(isinstance(each, Apart) for each in threading.enumerate()):
        first_moment.ends_whole_with = code
    with suppress(RuntimeError):  # no thread is to be had at the moment
        threading.Thread(target=_leave_behind, args=(code,), name="leave", daemon=True).start()
    _drop_unwritten()
    sys.exit(code)


def _drop_unwritten() -> None:
    """What standard error does not take, for its disk is full, say: else Python ends with 120 in place of the code."""
    try:
        sys.stderr.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def _leave_behind(code: int) -> None:
    time.sleep(LEAVING)
    _in_time(lambda: logger.error("ended without threads that do not end"))
    os._exit(code)


def _in_time(tell: Callable[[], None]) -> None:
    """In a thread of its own: where nobody reads the log any more, saying it takes for ever."""
    telling = threading.Thread(target=tell, name="tell", daemon=True)
    with suppress(RuntimeError):  # no thread is to be had at the moment
        telling.start()
        telling.join(TELLING)


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM, SIGINT and SIGHUP set; a second SIGTERM or SIGINT ends the process at once.

    SIGHUP comes when a terminal closes, often twice. Where it is ignored, as under nohup, it stays so.

    A thread listens for the signals. A handler would not run while the main thread is stuck in a call of a library; it
    may wait for a lock of the event that the very code holds which it interrupts; and of two signals that come
    together the second may reach another thread, which wakes nobody.
    """
    stopping = threading.Event()
    heard, told = os.pipe()
    os.set_blocking(told, False)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)

    def listen() -> None:
        first = math.inf
        while True:
            numbers, now = {*os.read(heard, 16)}, time.monotonic()  # of several, nobody knows when each of them came
            if numbers & {signal.SIGTERM, signal.SIGINT}:
                first = min(first, now)
                if now > first + AGAIN:
                    os._exit(1)
            if numbers & {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}:
                stopping.set()

    def wake_up(_number: int, _frame: FrameType | None) -> None:
        """Python tells the listening thread of a signal only where a handler is set."""

    threading.Thread(target=listen, name="signals", daemon=True).start()
    listened_to = {signal.SIGTERM, signal.SIGINT}
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        listened_to.add(signal.SIGHUP)
    for number in listened_to:
        signal.signal(number, wake_up)
    _leave_to_children(listened_to)
    return stopping


def _leave_to_children(numbers: Collection[signal.Signals]) -> None:
    """From now on a signal to a child, which process() has forked, is none to this process.

    A fork has the handlers of its parent, and the very pipe that tells of signals. Such a child would not end by
    SIGTERM, and would stop this process instead. Before this is put right in a child, no signal reaches it.
    """
    before = threading.local()

    def hold_back() -> None:
        before.mask = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)

    def let_through() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before.mask)

    def begin_anew() -> None:
        signal.set_wakeup_fd(-1)
        for number in numbers:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        let_through()

    os.register_at_fork(before=hold_back, after_in_parent=let_through, after_in_child=begin_anew)


def patiently(step: Callable[[], T], stopping: threading.Event) -> T:
    """The value of step(), tried until it is not UnavailableError any more. Stopped as soon as `stopping` is set."""
    pause = 1.0
    while True:
        try:
            return interruptibly(step, stopping)
        except NeedsNewProcessError:
            raise
        except UnavailableError as error:
            logger.warning("waiting: %s", str(error), extra={"next_try_in_s": pause})
        sleep(pause, stopping)
        if stopping.is_set():
            raise Stopped
        pause = min(pause * 2, LONGEST_PAUSE)


def sleep(seconds: float, stopping: threading.Event) -> None:
    """Returns early when `stopping` is set."""
    stopping.wait(seconds)


def interruptibly(
    step: Callable[[], T], stopping: threading.Event, while_waiting: Callable[[], None] = lambda: None
) -> T:
    """step() in a thread of its own, left behind when `stopping` is set: no signal ends a name server's silence.

    `while_waiting` is called again and again meanwhile, on the thread of who waits.
    """
    future = in_thread(step, "start")
    while not wait([future], timeout=0.1).done:
        if stopping.is_set():
            raise Stopped
        while_waiting()
    try:
        return future.result()
    finally:
        del future  # else its error keeps it, and all that the step had in its hands, until Python looks for rings
