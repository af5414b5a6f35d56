"""The service that examples/http_session.py asks: what an item costs. A process of its own, so that it can be killed.

python -m tests.scale.prices 8000
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.services.processes import HOST, ServerProcess, answers


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = json.dumps({"price": len(self.path)}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def service(port: int, log: Path) -> ServerProcess:
    return ServerProcess([sys.executable, "-m", "tests.scale.prices", str(port)], ready=lambda: answers(port), log=log)


if __name__ == "__main__":
    Server((HOST, int(sys.argv[1])), Handler).serve_forever()
