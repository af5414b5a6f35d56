"""Services that all processes of a test run share: the first pytest owns them, the processes of pytest-xdist ask it.

    services = Services({"mariadb": mysql_server})
    services.get("mariadb")                               (here; started when it is first asked for)
    RemoteServices(*services.address()).get("mariadb")     (in another process)

Knows no server. What a service yields is sent to the other processes as a copy, so it must be plain data.
"""

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager
from multiprocessing.connection import Client, Connection, Listener
from typing import Any, NamedTuple, Protocol


class Described(Protocol):
    @property
    def description(self) -> str: ...


Way = Callable[[], AbstractContextManager[Described]]


class Address(NamedTuple):
    """Where the owner answers, and the key that it asks for."""

    path: str
    key: bytes


class Services:
    """Starts each service when it is first asked for, and stops all of them in `close()`."""

    def __init__(self, ways: Mapping[str, Way]) -> None:
        self._ways = ways
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._found: dict[str, Future[Any]] = {}
        self._threads: list[threading.Thread] = []
        self._listener: Listener | None = None
        self._key = secrets.token_bytes(32)
        self._told: dict[str, str] = {}

    def get(self, name: str) -> Any:
        """What the service is: raises what its start has raised, each time."""
        with self._lock:
            if name not in self._found:
                self._found[name] = Future()
                self._run(self._own, name, self._found[name])
        return self._found[name].result()

    def address(self) -> Address:
        """For RemoteServices. From the first call on, other processes are answered."""
        if self._listener is None:
            self._listener = Listener(authkey=self._key)
            self._run(self._listen, self._listener)
        return Address(str(self._listener.address), self._key)

    def told(self) -> dict[str, str]:
        """What was started: by its name, what it is, and how long the start took."""
        return dict(self._told)

    def close(self) -> None:
        self._ending.set()
        if self._listener is not None:
            Client(self._listener.address, authkey=self._key).close()  # wakes the one who listens
        for thread in self._threads:
            thread.join()

    def _run(self, target: Callable[..., None], *arguments: object) -> None:
        self._threads.append(threading.Thread(target=target, args=arguments, daemon=True))
        self._threads[-1].start()

    def _own(self, name: str, found: "Future[Any]") -> None:
        """A thread for each service: the kernel ends a server with the thread that has started it."""
        began = time.monotonic()
        try:
            with self._ways[name]() as service:
                self._told[name] = f"{service.description}, up in {time.monotonic() - began:.1f} s"
                found.set_result(service)
                self._ending.wait()
        except Exception as error:
            if found.done():
                raise
            found.set_exception(error)

    def _listen(self, listener: Listener) -> None:
        with listener:
            while True:
                asking = listener.accept()
                if self._ending.is_set():
                    asking.close()
                    return
                threading.Thread(target=self._answer, args=(asking,), daemon=True).start()

    def _answer(self, asking: "Connection[Any, Any]") -> None:
        with asking, contextlib.suppress(OSError, EOFError):  # who has asked is gone
            name = asking.recv()
            try:
                answer = self.get(name)
            except Exception as error:
                answer = error
            asking.send(answer)


class RemoteServices:
    """The services of another process."""

    def __init__(self, path: str, key: bytes) -> None:
        self._address = Address(path, key)

    def get(self, name: str) -> Any:
        with Client(self._address.path, authkey=self._address.key) as owner:
            owner.send(name)
            answer = owner.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer
