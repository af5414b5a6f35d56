"""A local HTTP server for the examples: keeps what it was asked, and answers what it is told to."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Asked(NamedTuple):
    path: str
    headers: Mapping[str, str]
    body: bytes


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.status = 200
        self.headers: dict[str, str] = {}
        self.answer: Any = {}
        self.asked: list[Asked] = []
        self.at_once = 0
        """How many requests were being answered at the same time, at most."""
        self.together = threading.Barrier(1)
        """Who answers waits here for so many others."""
        self._lock, self._answering = threading.Lock(), 0

    @contextmanager
    def answering(self) -> Iterator[None]:
        with self._lock:
            self._answering += 1
            self.at_once = max(self.at_once, self._answering)
        self.together.wait(60)
        yield
        with self._lock:
            self._answering -= 1


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.server.asked.append(Asked(self.path, dict(self.headers), content))
        with self.server.answering():
            body = json.dumps(self.server.answer).encode()
            self.send_response(self.server.status)
            for name, value in self.server.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    do_POST = do_GET  # noqa: N815  as http.server calls it

    def log_message(self, format: str, *arguments: object) -> None: ...


@contextmanager
def serving() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
