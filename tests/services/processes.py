"""Server processes of the tests: on loopback only, and ended with the process that started them. Knows no server."""

import atexit
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, TypeVar

HOST = "127.0.0.1"
MUCH = 4 << 30  # bytes of memory in which files may be kept
PROCESSES = 16  # that may need ports at the same time
_given: deque[int] = deque(maxlen=200)  # the last ones: what has had them listens by now, or has ended


class Unavailable(Exception):
    """A service cannot be had on this machine; says why in a few words."""


class Service(Protocol):
    def start(self) -> None: ...
    def stop(self) -> None: ...


S = TypeVar("S", bound=Service)
T = TypeVar("T")


@contextlib.contextmanager
def running(service: S) -> Iterator[S]:
    """Start a service for the length of a `with`; also a start that fails half-way is cleaned up."""
    try:
        service.start()
        yield service
    finally:
        service.stop()


@contextlib.contextmanager
def first_available(*ways: AbstractContextManager[T]) -> Iterator[T]:
    """Enter the first of these that this machine has; Unavailable names what each of them lacks."""
    reasons = []
    with contextlib.ExitStack() as stack:
        for way in ways:
            try:
                found = stack.enter_context(way)
            except Unavailable as reason:
                reasons.append(str(reason))
            else:
                yield found
                return
    raise Unavailable("; ".join(reasons))


def free_port() -> int:
    """A free loopback port below the ephemeral range, which no other call of late has given.

    Inside that range a client that keeps calling a broker which is down would in the end be given the broker's own
    port as its source, connect to itself, and keep the broker from coming back.

    Each process of pytest-xdist has ports of its own: a server needs some seconds before it takes what it was given.
    """
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw-1").removeprefix("gw")) + 1  # 0: no such process
    for port in random.sample(range(15_000 + number % PROCESSES, 30_000, PROCESSES), k=100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            if port not in _given:
                probe.bind((HOST, port))
                _given.append(port)
                return port
    raise RuntimeError("100 ports tried, none free")


def in_memory() -> Path | None:
    """Where files may be kept in memory, if this machine has plenty of it.

    What tests write need not outlive the machine. And on ext4 a quarter of the CPU of those that write many files was
    its search for inodes that were not deleted just now (measured).
    """
    place = Path("/dev/shm")
    if not place.is_dir() or not os.access(place, os.W_OK) or os.statvfs(place).f_flag & os.ST_NOEXEC:
        return None
    return place if shutil.disk_usage(place).free > MUCH else None


def scratch_directory(name: str, **options: Any) -> "tempfile.TemporaryDirectory[str]":
    """Of a server, which goes with it."""
    return tempfile.TemporaryDirectory(prefix=f"consumer-skeleton-{name}-", dir=in_memory(), **options)


def run_tool(command: Sequence[str | Path], user: str | None = None) -> None:
    """Run a set-up command to its end; what it printed is in the error when it fails."""
    done = subprocess.run(command, user=user, group=user, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")


class ServerProcess:
    """One server process, its output in a log file.

    The kernel ends it when the *thread* that started it ends (Linux), so start it from a thread that lives as long as
    the server is needed. It has a session of its own: Ctrl-C reaches only the tests, which then stop it in order.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        ready: Callable[[], bool],
        log: Path,
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self._command = command
        self._ready = ready
        self._log = log
        self._user = user
        self.stop_signal = stop_signal
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("not started")
        return self._process.pid

    def start(self, seconds: float = 60) -> None:
        """Start it and return when it is ready; RuntimeError with the log's end when it dies or takes longer."""
        self.launch()
        self.wait(seconds)

    def wait(self, seconds: float = 60) -> None:
        """Until it is ready; the same errors."""
        deadline = time.monotonic() + seconds
        while not self.is_ready():
            if time.monotonic() > deadline:
                raise RuntimeError(f"not ready after {seconds:g} s:\n{self._log_end()}")
            time.sleep(0.05)

    def launch(self) -> None:
        """Start it without waiting."""
        # setpriv and not preexec_fn: forking with Python code in between is a warning where librdkafka has threads.
        tied = ["setpriv", "--pdeathsig", self.stop_signal.name[3:]] if shutil.which("setpriv") else []
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*tied, *self._command],
                user=self._user,
                group=self._user,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        atexit.register(self.stop)

    def is_ready(self) -> bool:
        """RuntimeError where it has ended."""
        if self._process is None:
            raise RuntimeError("not started")
        ready = self._ready()
        if not ready and self._process.poll() is not None:
            raise RuntimeError(f"ended with {self._process.returncode} at its start:\n{self._log_end()}")
        return ready

    def has_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def stop(self, seconds: float = 30) -> None:
        """Ask it to stop, kill it if it has not after `seconds`; nothing to do when it does not run."""
        atexit.unregister(self.stop)
        if self._process is None or self.has_ended():
            return
        self._process.send_signal(self.stop_signal)
        self._process.send_signal(signal.SIGCONT)  # a test may have frozen it
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _log_end(self) -> str:
        return f"{self._command[0]}: {self._log.read_text(errors='replace')[-4000:]}"


def answers(port: int) -> bool:
    """Whether something listens on this loopback port."""
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False


def service_user(name: str) -> str | None:
    """The account to run a server under that refuses to run as root; None when we are not root."""
    return name if os.geteuid() == 0 else None
