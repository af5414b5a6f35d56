"""The example of setup() and teardown(): one pool of connections for all calls."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from examples import http_session
from tests.builders import dispatcher, fragment, group
from utils.processing.runner import Hooks
from utils.processing.thread_pool import ThreadPool
from utils.retry import Reject, Retry

SECONDS = 60.0


class PriceService(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.connections = 0
        self.together = threading.Barrier(1)
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: PriceService

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.together.wait(SECONDS)
        body = json.dumps({"price": 7.5}).encode()
        status = self.path.removeprefix("/")
        self.send_response(int(status) if status.isdigit() else 200)
        self.send_header("Retry-After", "7")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None: ...


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[PriceService]:
    with PriceService() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setattr(http_session, "URL", server.url)
        yield server
        server.shutdown()
        thread.join()


def test_each_message_gets_its_price_and_connections_are_used_again(service: PriceService) -> None:
    runner = ThreadPool(http_session.process, "prices", 2, Hooks(http_session.setup, http_session.teardown))
    runner.open()
    executor = dispatcher(runner)
    for number in range(5):
        value = b'{"id":%d,"content":{"item":"tea"}}' % number
        executor.submit([group(str(number), fragment(value=value))])
        [outcome] = executor.collect(SECONDS)
        assert json.loads(outcome.results[0].value)["content"] == {"item": "tea", "price": 7.5}
    runner.close(SECONDS)
    assert service.connections == 1
    assert len(http_session.pool.pools) == 0


def test_as_many_connections_as_calls_run_at_once_are_used_again(
    service: PriceService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where CONCURRENCY was set in the row or in defaults.py, all calls but one made a new connection each time."""
    monkeypatch.setenv("CONCURRENCY", "")
    service.together = threading.Barrier(3)  # none is answered before all three are asked for
    http_session.setup()
    for _ in range(4):
        with ThreadPoolExecutor(3) as threads:
            list(threads.map(http_session.process, [{"content": {"item": "tea"}} for _ in range(3)], ["prices"] * 3))
    http_session.teardown()
    assert service.connections == 3


def test_what_a_message_holds_is_no_other_address(service: PriceService) -> None:
    http_session.setup()
    http_session.process({"content": {"item": "../404?x="}}, "prices")
    assert service.asked == ["/..%2F404%3Fx%3D"]


@pytest.mark.parametrize("item", [".", ".."])
def test_an_item_that_would_be_the_directory_above_is_not_asked_for(service: PriceService, item: str) -> None:
    """It was: http://h/prices/.. is http://h/."""
    http_session.setup()
    with pytest.raises(Reject):
        http_session.process({"id": 1, "content": {"item": item}}, "")
    http_session.teardown()
    assert service.asked == []
    http_session.teardown()


@pytest.mark.parametrize(
    ("status", "failure", "why"),
    [(404, Reject, "no such item"), (503, Retry, "answers 503"), (500, RuntimeError, "answers 500")],
)
def test_other_answers_are_failures_each_of_its_kind(
    service: PriceService, status: int, failure: type[Exception], why: str
) -> None:
    http_session.setup()
    with pytest.raises(failure, match=why) as raised:
        http_session.process({"content": {"item": status}}, "prices")
    assert getattr(raised.value, "after", 7.0) == 7.0
    http_session.teardown()
