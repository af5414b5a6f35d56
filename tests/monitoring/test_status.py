"""The HTTP server, and how those who ask meet the loop."""

import json
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from email.message import Message
from socketserver import _SocketWriter  # type: ignore[attr-defined]
from typing import Any, cast

import pytest

from tests.program import ROOT
from tests.test_framework import A0, started
from utils.monitoring.status import (
    ANSWERS,
    ASKERS,
    CONNECTIONS,
    PIECE,
    PROBES,
    STALLED,
    Address,
    Answer,
    Awaited,
    Health,
    Page,
    ask,
    check,
    from_here,
    is_allowed_host,
    place,
    serve,
)


@contextmanager
def serving(health: Health, pages: Mapping[str, Page] | None = None, host: str = "127.0.0.1") -> Iterator[str]:
    server = serve(health, Address(host, 0), pages, clock=lambda: 100.0)
    try:
        yield f"http://{place(from_here(host), server.server_port)}"
    finally:
        server.shutdown()
        server.server_close()


def get(url: str, method: str = "GET", **headers: str) -> tuple[int, Message, bytes]:
    request = urllib.request.Request(url, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


# ---------------------------------------------------------------- health


def test_who_needs_little_time_shortens_none_that_was_told_before_and_the_next_turn_ends_all() -> None:
    health = Health(turned_at=100.0)
    health.may_take(50.0, 100.0)
    health.may_take(20.0, 110.0)
    assert health.busy_until == 150.0
    health.may_take(50.0, 110.0)
    assert (health.is_live(159.9 + STALLED), health.is_live(160.0 + STALLED)) == (True, False)
    health.turn(120.0)
    assert (health.is_live(119.9 + STALLED), health.is_live(120.0 + STALLED)) == (True, False)


@pytest.mark.parametrize(
    ("health", "live", "ready"),
    [
        pytest.param(Health(), 200, 503, id="not begun"),
        pytest.param(Health(turned_at=100.0), 200, 503, id="no partitions told yet"),
        pytest.param(Health(turned_at=100.0, joined=True), 200, 200, id="working"),
        pytest.param(Health(turned_at=100.0 - STALLED, joined=True), 503, 503, id="stalled"),
        pytest.param(Health(turned_at=None, joined=True), 200, 503, id="begins again"),
    ],
)
def test_live_and_ready(health: Health, live: int, ready: int) -> None:
    with serving(health) as url:
        assert get(f"{url}/health/live")[0] == live
        assert get(f"{url}/health/ready")[0] == ready


def test_what_is_not_ready_says_so_where_setup_is_why() -> None:
    why = "setup() of worker.py has not returned for 45 s"
    with serving(Health(awaited=Awaited("setup() of worker.py", 55.0))) as url:
        assert json.loads(get(f"{url}/health/ready")[2]) == {"ready": False, "why": why}
        assert json.loads(get(f"{url}/health/live")[2]) == {"live": True}


def test_the_check_of_the_container_asks_whether_it_lives() -> None:
    with serving(Health()) as url:
        assert check("0.0.0.0", url.rpartition(":")[2]) == 0
    with serving(Health(turned_at=0.0)) as url:
        assert check("", url.rpartition(":")[2]) == 1
        assert check("", f"+{url.rpartition(':')[2]}") == 1, "a port for the worker, too"
    assert check("", url.rpartition(":")[2]) == 1


@pytest.mark.parametrize("port", ["0", "", " ", "tcp://10.96.0.2:80"])
def test_a_worker_that_chooses_its_port_is_not_said_to_be_dead(port: str) -> None:
    """Where HTTP_PORT is one of these, it takes any free one: its container was unhealthy for ever."""
    assert check("0.0.0.0", port) == 0


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("host", "asked"), [("", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("10.0.0.5", "10.0.0.5")]
)
def test_all_addresses_are_none_to_connect_to(host: str, asked: str) -> None:
    """Linux takes them for this machine; others do not."""
    assert from_here(host) == asked


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
@pytest.mark.parametrize(("host", "reached"), [("::1", ["::1"]), ("::", ["::1", "127.0.0.1"])])
def test_over_ipv6_probes_and_pages_are_answered_and_names_are_checked_as_over_ipv4(
    host: str, reached: list[str]
) -> None:
    with serving(Health(), {"/page": lambda _: Answer("text/plain", b"ids")}, host) as url:
        port = url.rpartition(":")[2]
        assert check(host, port) == 0
        for each in reached:
            page = f"http://{place(each, port)}/page"
            assert get(page)[0] == 200
            assert get(page, Host=f"[fd00::5]:{port}")[0] == 200
            assert get(page, Host="evil.example")[0] == 421


def test_the_check_is_answered_also_where_nobody_has_allowed_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the worker listens on the address of a name that somebody has to allow."""
    monkeypatch.setattr("utils.monitoring.status.from_here", lambda _host: "127.0.0.1")
    monkeypatch.setattr("utils.monitoring.status._is_address", lambda _name: False)
    with serving(Health()) as url:
        assert get(f"{url}/no/probe")[0] == 421
        assert check("worker.example", url.rpartition(":")[2]) == 0


def test_of_too_many_connections_the_oldest_is_ended_and_a_probe_is_answered() -> None:
    """Each is a thread, and a container may have 200: slow clients took all, and the probes none."""
    with serving(Health()) as url:
        host, _, port = url.removeprefix("http://").rpartition(":")
        slow = [socket.create_connection((host, int(port)), timeout=60) for _ in range(3 * CONNECTIONS)]
        for each in slow[:-CONNECTIONS]:
            assert each.recv(1) == b""
        assert len([each for each in threading.enumerate() if "process_request" in each.name]) <= 2 * CONNECTIONS
        assert ask(host, port)[0] == 200
        slow[-1].sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert slow[-1].recv(15) == b"HTTP/1.0 200 OK"
        for each in slow:
            each.close()


def test_a_large_answer_leaves_in_pieces_each_of_which_has_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 300 kB/s one of 12 MB was cut off after the 10 s of a slow client, and nothing said so."""
    sent, send = list[int](), _SocketWriter.write

    def write(writer: Any, data: bytes) -> Any:
        sent.append(len(data))
        return send(writer, data)

    monkeypatch.setattr(_SocketWriter, "write", write)
    body = bytes(range(256)) * 1_000
    with serving(Health(), {"/page": lambda _: Answer("text/plain", body)}) as url:
        assert get(f"{url}/page")[2] == body
    assert len(sent) == 5  # the head, and four pieces
    assert max(sent) == PIECE


def test_the_check_asks_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker may put http_proxy into every container: a worker that is well was said to be dead there."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    with serving(Health()) as url:
        host, _, port = url.removeprefix("http://").rpartition(":")
        assert ask(host, port) == (200, "consumer")
        assert check(host, port) == 0


@pytest.mark.parametrize(
    ("host", "port"), [("foo bar", "1"), ("127.0.0.1", "1"), ("no.such.invalid", "1"), ("::1", "x")]
)
def test_what_cannot_be_asked_is_one_kind_of_error(host: str, port: str) -> None:
    with pytest.raises(OSError, match=r"."):  # of any kind
        ask(host, port)


def test_what_answers_there_may_not_speak_http() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"\x16\x03\x01 hello\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(OSError, match="no answer of HTTP"):
            ask("127.0.0.1", server.getsockname()[1])
        thread.join()


def test_a_probe_may_ask_by_head_and_what_may_be_asked_is_told() -> None:
    with serving(Health()) as url:
        status, headers, body = get(f"{url}/health/live", "HEAD")
        assert (status, body) == (200, b"")
        assert int(headers["Content-Length"]) == len(get(f"{url}/health/live")[2])
        assert get(f"{url}/health/ready", "HEAD")[0] == 503
        status, headers, body = get(f"{url}/health/live", "OPTIONS")
        assert (status, headers["Allow"], body) == (204, "GET, HEAD, OPTIONS", b"")
        for method in ("POST", "BREW"):
            status, headers, _ = get(f"{url}/health/live", method)
            assert (status, headers["Allow"]) == (405, "GET, HEAD, OPTIONS")


def test_many_probes_at_once_find_room_to_wait_in_where_the_server_is_busy() -> None:
    server = serve(Health(), Address("127.0.0.1", 0))
    server.shutdown()  # from here on nobody accepts a connection: the machine is busy
    try:
        address = ("127.0.0.1", server.server_port)
        waiting = [socket.create_connection(address, timeout=30) for _ in range(100)]
        for each in waiting:
            each.close()
    finally:
        server.server_close()


# ---------------------------------------------------------------- pages


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:8080",
        "10.2.3.4",
        "[::1]:8080",
        "localhost",
        "paid-orders:8080",
        "paid-orders.ns.svc.cluster.local:80",
        "pod.ns.svc.",
        "printer.local",
        "Status.Example.com:443",
        "",
    ],
)
def test_a_name_that_only_this_network_can_give_or_that_is_allowed_is_answered(host: str) -> None:
    assert is_allowed_host(host, {"status.example.com"})


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "local.evil.example"])
def test_the_name_of_a_foreign_site_is_refused_on_every_path_where_something_can_be_read(host: str) -> None:
    assert not is_allowed_host(host, ())
    with serving(Health(), {"/page": lambda _: Answer("text/plain", b"ids")}) as url:
        for probe in PROBES:  # of a load balancer that calls the machine by its full name
            assert get(url + probe, Host=host)[0] in (200, 503)
        for path in ("/page", "/health/live/", "/health/live?x", "/nothing"):
            status, _, body = get(url + path, Host=host)
            assert status == 421
            assert b"HTTP_ALLOWED_HOSTS" in body


def test_a_host_that_is_no_host_is_refused() -> None:
    assert not is_allowed_host("[::1", ())
    assert not is_allowed_host("evil.example, 127.0.0.1", ())


def test_a_page_is_given_the_query_and_cannot_be_framed_or_run_scripts() -> None:
    page: Page = lambda query: Answer("text/plain", query["id"].encode())  # noqa: E731
    with serving(Health(), {"/page": page}) as url:
        status, headers, body = get(f"{url}/page?id=%3Cb%3E&other=")
    assert (status, body) == (200, b"<b>")
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; ")
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_an_unknown_path_names_the_known_ones() -> None:
    with serving(Health(), {"/page": lambda _: Answer("text/plain", b"")}) as url:
        status, _, body = get(f"{url}/nothing")
    assert status == 404
    assert json.loads(body)["paths"] == ["/health/live", "/health/ready", "/page"]


def test_no_name_server_is_asked_for_a_name_that_nobody_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does not answer delayed the start of each worker by 10 s, or by minutes."""
    monkeypatch.setattr("socket.getfqdn", None)
    with serving(Health()) as url:
        assert get(f"{url}/health/live")[0] == 200


def test_a_page_that_fails_is_an_error_of_its_own() -> None:
    def page(_query: Mapping[str, str]) -> Answer:
        raise ValueError("secret")

    with serving(Health(), {"/page": page}) as url:
        status, _, body = get(f"{url}/page")
        assert get(f"{url}/health/live")[0] == 200
    assert status == 500
    assert b"secret" not in body


# ---------------------------------------------------------------- questions to the loop


def test_the_loop_answers_at_its_next_turn_on_its_own_thread() -> None:
    bench = started()
    bench.feed(A0, "1")
    bench.step()
    asked = threading.Event()
    answers: list[object] = []

    def ask() -> None:
        asked.set()
        answers.append(bench.health.ask(lambda view: (view.snapshot().waiting, threading.get_ident()), 30))

    asker = threading.Thread(target=ask)
    asker.start()
    asked.wait()
    while asker.is_alive():
        bench.step(seconds=0)
        asker.join(0.01)
    assert answers == [(1, threading.get_ident())]


def test_a_turn_answers_a_few_questions_only_and_none_for_which_nobody_waits_any_more() -> None:
    """Else who asks again and again, by many connections, would keep the loop from its work."""
    bench = started()
    answered: list[int] = []
    for _ in range(ANSWERS):
        assert bench.health.ask(lambda view: answered.append(0), timeout=0.001) is None
    bench.step()
    assert answered == []
    askers = [threading.Thread(target=bench.health.ask, args=(lambda view: answered.append(1), 30)) for _ in range(9)]
    for each in askers:
        each.start()
    while len(bench.health._questions) < len(askers):
        time.sleep(0.001)
    turns = 0
    while len(answered) < len(askers):
        bench.step(seconds=0)
        turns += 1
    assert turns == 3
    for each in askers:
        each.join()


def test_what_nobody_waits_for_any_more_costs_no_answer() -> None:
    bench = started()
    for _ in range(50 * ANSWERS):
        assert bench.health.ask(lambda view: 1, timeout=0) is None
    with asking(bench.health, lambda view: 2) as answers:
        bench.step(seconds=0)
    assert answers == [2]


def test_only_so_many_wait_at_once_and_metrics_come_before_them() -> None:
    bench = started()
    with ExitStack() as stack:
        for _ in range(ASKERS):
            stack.enter_context(asking(bench.health, lambda view: 1))
        assert bench.health.ask(lambda view: 1, timeout=3600) is None
        order = list[str]()
        first = threading.Thread(target=bench.health.ask_first, args=(lambda view: order.append("metrics"), 30))
        first.start()
        while len(bench.health._questions) <= ASKERS:
            time.sleep(0.001)
        bench.step(seconds=0)
        first.join()
        assert order == ["metrics"]
        for _ in range(ASKERS):
            bench.step(seconds=0)
    with asking(bench.health, lambda view: 3) as answers:
        bench.step(seconds=0)
    assert answers == [3]


@contextmanager
def asking(health: Health, question: Callable[[Any], int]) -> Iterator[list[int | None]]:
    """Somebody asks, and has an answer at the end."""
    answers = list[int | None]()
    waiting = len(health._questions)
    thread = threading.Thread(target=lambda: answers.append(health.ask(question, 30)))
    thread.start()
    while len(health._questions) == waiting:
        time.sleep(0.001)
    yield answers
    thread.join()


def test_without_a_worker_nobody_waits_for_an_answer() -> None:
    assert Health().ask(lambda view: 1, timeout=3600) is None


def test_a_loop_that_is_busy_gives_no_answer_in_time() -> None:
    bench = started()
    assert bench.health.ask(lambda view: 1, timeout=0.01) is None
    bench.step()  # the question is still there; nobody waits for its answer any more


def test_a_question_that_fails_fails_where_it_was_asked() -> None:
    bench = started()
    turning = threading.Event()

    def turn() -> None:
        while not turning.wait(0.01):
            bench.step(seconds=0)

    loop = threading.Thread(target=turn)
    loop.start()
    try:
        with pytest.raises(ZeroDivisionError):
            bench.health.ask(lambda view: 1 // 0, timeout=30)
        assert loop.is_alive()
    finally:
        turning.set()
        loop.join()


def test_a_child_that_process_has_forked_and_that_outlives_the_worker_does_not_keep_its_port() -> None:
    code = """\
import os
from utils.monitoring.status import Address, Health, serve
server = serve(Health(), Address("127.0.0.1", 0))
ends, ended = os.pipe()
if os.fork() == 0:
    os.close(ended)
    os._exit(len(os.read(ends, 1)))
server.shutdown()
server.server_close()
serve(Health(), Address("127.0.0.1", server.server_port))
os.close(ended)
print(os.WEXITSTATUS(os.wait()[1]))
"""
    assert subprocess.check_output([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, timeout=60) == b"0\n"


def test_however_long_answers_take_the_loop_has_most_of_its_time() -> None:
    """Four who asked for 10,000 ids in a loop made the worker forty times slower."""
    seconds = iter([0.0, 0.1, 5.0, 5.1])
    health = Health(stopwatch=lambda: next(seconds), view=cast(Any, "a view"))
    health.turn(100.0)
    with asking(health, lambda view: 1):
        health.turn(100.0)
    with asking(health, lambda view: 2):
        health.turn(100.9)
        assert len(health._questions) == 1
        health.turn(101.1)
        assert not health._questions
