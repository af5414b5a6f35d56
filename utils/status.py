"""What the worker tells over HTTP: /health/live and /health/ready. Reads plain values; the loop never waits for it.

Imports the standard library only, so that the container's health check (`python -m utils.status`) costs little.
"""

import json
import os
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STALLED = 60.0  # seconds without a turn of the loop after which the worker counts as dead


@dataclass(slots=True)
class Health:
    """Written by the loop, read by whoever asks."""

    turned_at: float | None = None  # when the loop last turned; None: it has not begun, or begins again after a failure
    joined: bool = False  # the group has told which partitions are ours

    def is_live(self, now: float) -> bool:
        """Whether the loop turns. Waiting for Kafka or the database is no death: a restart would not cure it."""
        return self.turned_at is None or now - self.turned_at < STALLED

    def is_ready(self, now: float) -> bool:
        """Whether records are being read, or would be if there were any."""
        return self.joined and self.turned_at is not None and self.is_live(now)


def serve(health: Health, host: str, port: int, clock: Callable[[], float] = time.monotonic) -> ThreadingHTTPServer:
    """Answer requests in a daemon thread; `server_port` of the result is the port. Raises OSError if it is taken."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answers = {"/health/live": health.is_live, "/health/ready": health.is_ready}
            answer = answers.get(self.path)
            if answer is None:
                self._answer(404, {"paths": list(answers)})
            else:
                well = answer(clock())
                self._answer(200 if well else 503, {self.path.rpartition("/")[2]: well})

        def _answer(self, status: int, content: object) -> None:
            body = json.dumps(content).encode() + b"\n"
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """A probe every few seconds is no news."""

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="status", daemon=True).start()
    return server


def check(port: str) -> int:
    """0 when the worker on this machine says that it lives, else 1."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/live", timeout=3) as answer:
            return 0 if answer.status == 200 else 1
    except OSError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(check(os.environ.get("HTTP_PORT", "8080")))
