"""What the worker tells over HTTP: /health/live, /health/ready, and the pages that it is given. Reads plain values.

Imports the standard library only, so that the health check of the container costs little:
`python -m utils.monitoring.status`.
"""

import ipaddress
import json
import logging
import os
import socket
import sys
import threading
import time
import urllib.parse
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty, SimpleQueue
from socketserver import TCPServer
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from utils.monitoring.view import View

STALLED = 60.0  # seconds without a turn of the loop after which the worker counts as dead
SLOW_CLIENT = 10.0  # seconds that a request may take to arrive, and a piece of the answer to leave
PIECE = 65_536  # bytes of an answer that are sent in one call: sendall() counts the time of all that it is given
ANSWERS = 4  # questions that a turn of the loop answers: however many ask, and how often, the loop goes on
SHARE = 10  # after answers it answers none for so many times as long as they took: that of 10,000 ids is 25 ms
ASKERS = 16  # that wait for the loop at once; each is a thread, also when its client has gone
CONNECTIONS = 32  # at once; each takes a thread, of which a container may have few
SERVER = "consumer"  # how a worker calls itself in its answers, with the name of its consumer behind it
TICK = 5.0  # seconds
ASK = 3.0  # seconds that an answer to `ask` may take
PROBES = ("/health/live", "/health/ready")  # answered by whatever name: nobody can read anything there
METHODS = ("GET", "HEAD", "OPTIONS")
LOCAL_NAMES = (".localhost", ".local", ".internal", ".svc", ".svc.cluster.local")
"""Ends of names that no public DNS server answers for, so that no foreign page can have one."""

T = TypeVar("T")


@dataclass(slots=True)
class Health:
    """Where the loop and those who ask meet: it writes, and answers between two steps; they read, and ask."""

    turned_at: float | None = None  # when the loop last turned; None: it has not begun, or begins again after a failure
    busy_until: float = 0.0  # it does not turn until then, and that is no fault: it waits for process(), or for Kafka
    awaited: "Awaited | None" = None  # what of worker.py runs before the loop begins
    joined: bool = False  # Kafka has told which partitions are ours
    mismatches: dict[str, str] = field(default_factory=dict)  # input topics whose keys do not fit, and why
    unread: bool = False  # the row could not be read the last time: the one that is known stays
    refused: tuple[str, ...] = ()  # what is wrong with the row, which has been changed: the old one is still in force
    view: "View | None" = None  # of the latest worker; for its thread only, but for how many groups wait
    _questions: deque[Callable[[], bool]] = field(default_factory=deque)
    _answers_from: float = 0.0  # none before
    stopwatch: Callable[[], float] = time.perf_counter
    _places: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(ASKERS))

    def is_live(self, now: float) -> bool:
        """Whether the loop turns. Waiting for Kafka or the database is no death: a restart would not cure it."""
        return self.turned_at is None or now - max(self.turned_at, self.busy_until) < STALLED

    def is_ready(self, now: float) -> bool:
        """Whether records are being read, or would be if there were any."""
        return self.joined and self.turned_at is not None and self.is_live(now)

    def late(self, now: float) -> tuple[str, float] | None:
        """What of worker.py has not returned, and for how many seconds."""
        awaited = self.awaited  # once: another thread writes it
        return None if awaited is None else (awaited.what, now - awaited.since)

    @contextmanager
    def awaits(self, what: str, now: float) -> Iterator[None]:
        """Code of worker.py runs from now on, and the loop has not begun."""
        self.awaited = Awaited(what, now)
        try:
            yield
        finally:
            self.awaited = None

    def may_take(self, seconds: float, now: float) -> None:
        """The loop may not turn for so long. What was told before, and ends later, holds: this may be a part of it."""
        self.busy_until = max(self.busy_until, now + seconds)

    def turn(self, now: float) -> None:
        """Told by the loop at each turn, on its thread: the moment to answer."""
        self.turned_at, self.busy_until = now, 0.0
        if not self._questions or now < self._answers_from:
            return
        answered, began = 0, self.stopwatch()
        while self._questions and answered < ANSWERS:
            answered += self._questions.popleft()()
        self._answers_from = now + SHARE * (self.stopwatch() - began)

    def ask(self, question: Callable[["View"], T], timeout: float) -> T | None:
        """The answer, which the loop's thread gives. None: no worker runs, it is busy for longer than `timeout` s, or
        too many ask.

        What the question raises is raised here; the loop goes on.
        """
        if self.turned_at is None or not self._places.acquire(blocking=False):
            return None
        try:
            return self._answer(question, timeout, self._questions.append)
        finally:
            self._places.release()

    def ask_first(self, question: Callable[["View"], T], timeout: float) -> T | None:
        """As `ask`, before all others. For one at a time."""
        return None if self.turned_at is None else self._answer(question, timeout, self._questions.appendleft)

    def _answer(
        self, question: Callable[["View"], T], timeout: float, put: Callable[[Callable[[], bool]], None]
    ) -> T | None:
        answers: SimpleQueue[T | Exception] = SimpleQueue()
        is_awaited = True

        def answer() -> bool:
            """Whether anybody waits for it."""
            try:
                if self.view and is_awaited:
                    answers.put(question(self.view))
            except Exception as error:
                answers.put(error)
            return is_awaited

        put(answer)
        try:
            answered = answers.get(timeout=timeout)
        except Empty:
            is_awaited = False
            return None
        if isinstance(answered, Exception):
            raise answered
        return answered


class Awaited(NamedTuple):
    what: str
    since: float


class Answer(NamedTuple):
    content_type: str
    body: bytes
    policy: str = "default-src 'none'"  # Content-Security-Policy
    status: int = 200


Page = Callable[[Mapping[str, str]], Answer]  # of the query's fields


class Address(NamedTuple):
    """Where requests are answered, and by which names, beside those that are safe (see HTTP_ALLOWED_HOSTS)."""

    host: str
    port: int
    allowed_hosts: Collection[str] = ()
    consumer: str = ""  # whose worker answers there


def server_of(consumer: str) -> str:
    """How a worker of this consumer calls itself in its answers."""
    return f"{SERVER}/{consumer}" if consumer else SERVER


def place(host: str, port: int | str) -> str:
    """As it stands in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def from_here(host: str) -> str:
    """Where this machine reaches what listens on `host`: all addresses are none to connect to."""
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # with 5, the default, a probe of a busy machine waits a second for its connection

    def __init__(
        self,
        address: Address,
        pages: Mapping[str, Page],
        tick: Callable[[], None],
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        super().__init__((address.host, address.port), _Handler)
        self.pages = pages
        self.name = server_of(address.consumer)
        self.allowed_hosts = {socket.gethostname().lower(), *(name.lower() for name in address.allowed_hosts)}
        self._tick = tick
        self._next_tick = 0.0
        self._open: dict[socket.socket, None] = {}  # connections, the oldest first
        self._lock = threading.Lock()

    def server_bind(self) -> None:
        """`::` is all addresses, those of IPv4 too, whatever this machine takes it for by itself."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # Not HTTPServer's: it asks for a name that nobody needs, for 10 s and more where no name server answers.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.socket.getsockname()[:2]

    def process_request(self, request: Any, client_address: Any) -> None:
        """In a thread of its own. Of too many connections the oldest is ended: a slow client keeps no probe out."""
        with self._lock:
            self._open[request] = None
            oldest = next(iter(self._open)) if len(self._open) > CONNECTIONS else None
            if oldest:
                del self._open[oldest]
                with suppress(OSError):  # the client has gone
                    oldest.shutdown(socket.SHUT_RDWR)  # its thread wakes up, and closes it
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Called by serve_forever() twice a second."""
        if time.monotonic() >= self._next_tick:
            self._next_tick = time.monotonic() + TICK
            self._tick()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = SLOW_CLIENT

    def do_GET(self) -> None:
        host = self.headers.get("Host", "")
        if not (self.path in PROBES or is_allowed_host(host, self.server.allowed_hosts)):
            cure = "if the worker is reached by this name, add it to HTTP_ALLOWED_HOSTS"
            self._answer(_json(421, {"error": f"not a name of this worker: {host}", "cure": cure}))
            return
        path, _, query = self.path.partition("?")
        page = self.server.pages.get(path, self._not_found)
        try:
            answer = page(dict(urllib.parse.parse_qsl(query)))
        except Exception:  # of a page, never of the worker: it goes on
            logging.getLogger("consumer").exception("page failed", extra={"path": path})
            answer = _json(500, {"error": "the log tells"})
        self._answer(answer)

    def do_HEAD(self) -> None:
        self.do_GET()  # _answer leaves the body out

    def do_OPTIONS(self) -> None:
        self._answer(Answer("text/plain", b"", status=204))

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Called by the base class for what it cannot take: another method (it says 501), a broken request."""
        self._answer(_json(405 if code == HTTPStatus.NOT_IMPLEMENTED else code, {"methods": METHODS}))

    def _not_found(self, _query: Mapping[str, str]) -> Answer:
        return _json(404, {"paths": list(self.server.pages)})

    def _answer(self, answer: Answer) -> None:
        self.send_response(answer.status)
        if answer.status in (HTTPStatus.NO_CONTENT, HTTPStatus.METHOD_NOT_ALLOWED):
            self.send_header("Allow", ", ".join(METHODS))
        if answer.status != HTTPStatus.NO_CONTENT:  # which has no body (RFC 9110, 8.6)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Content-Security-Policy", f"{answer.policy}; base-uri 'none'; frame-ancestors 'none'")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            for at in range(0, len(answer.body), PIECE):
                self.wfile.write(answer.body[at : at + PIECE])

    def version_string(self) -> str:
        return self.server.name

    def log_message(self, format: str, *arguments: object) -> None:
        """A probe every few seconds is no news."""


def is_allowed_host(header: str, allowed: Collection[str]) -> bool:
    """Whether a request with this Host header may be answered: one that was sent to a name of this worker.

    A page of any website can make its own name point at an address in this network (DNS rebinding), and could then
    read our pages in the browser of whoever looks at it. An address, and a name that public DNS cannot give, are safe.
    """
    try:
        name = (urllib.parse.urlsplit(f"//{header}").hostname or "").rstrip(".")
    except ValueError:
        return False
    return _is_address(name) or "." not in name or name.endswith(LOCAL_NAMES) or name in allowed


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def serve(
    health: Health,
    address: Address,
    pages: Mapping[str, Page] | None = None,
    tick: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.monotonic,
) -> Server:
    """Answer requests in daemon threads; `server_port` of the result is the port. Raises OSError if it is taken.

    `tick` is called every few seconds, from a thread of the server.
    """

    def probe(name: str, answer: Callable[[float], bool]) -> Page:
        def page(_query: Mapping[str, str]) -> Answer:
            now = clock()
            well, late = answer(now), health.late(now)
            why = {} if well or late is None else {"why": f"{late[0]} has not returned for {late[1]:.0f} s"}
            return _json(200 if well else 503, {name: well, **why})

        return page

    probes = {"/health/live": probe("live", health.is_live), "/health/ready": probe("ready", health.is_ready)}
    server = Server(address, {**probes, **(pages or {})}, tick)
    os.register_at_fork(after_in_child=server.socket.close)  # else a child that outlives us keeps the port
    threading.Thread(target=server.serve_forever, name="status", daemon=True).start()
    return server


def _json(status: int, content: object) -> Answer:
    return Answer("application/json", json.dumps(content).encode() + b"\n", status=status)


def ask(host: str, port: int | str) -> tuple[int, str]:
    """What `/health/live` answers there: the status, and who answers. Raises OSError, also where that is no HTTP.

    Not by urllib, which would ask the proxy of `http_proxy`, also of this machine.
    """
    try:
        connection = HTTPConnection(host, int(port), timeout=ASK)
        try:
            connection.request("GET", "/health/live")
            answer = connection.getresponse()
            return answer.status, answer.getheader("Server", "")
        finally:
            connection.close()
    except (HTTPException, ValueError) as error:
        raise OSError(f"no answer of HTTP: {error!r}") from error


def check(host: str, port: str) -> int:
    """0 when the worker that listens there, on this machine, says that it lives, else 1. 0, too, where HTTP_PORT names
    no port (it is 0, or empty): nobody knows which one the worker has, and one that is well would be killed.
    """
    if not _names_port(port):
        print("not asked: HTTP_PORT names no port")
        return 0
    try:
        status, _ = ask(from_here(host), port)
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    if status != HTTPStatus.OK:
        print(f"/health/live answers {status}", file=sys.stderr)
    return 0 if status == HTTPStatus.OK else 1


def _names_port(text: str) -> bool:
    try:
        return int(text) != 0
    except ValueError:
        return False


if __name__ == "__main__":
    sys.exit(check(os.environ.get("HTTP_HOST", ""), os.environ.get("HTTP_PORT", "8080")))
