"""The network of the chaos runs holds back what it is told to, and loses nothing."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.services.network import ANYBODY, Network, one_way, slow, torn
from tests.services.processes import HOST, running

SECONDS = 60.0
SHORT = 0.2  # seconds in which nothing must come


@pytest.fixture
def network() -> Iterator[Network]:
    with running(Network()) as network:
        yield network


@contextlib.contextmanager
def echo() -> Iterator[int]:
    """A server that answers with what it is told; its port."""
    with socket.create_server((HOST, 0)) as listening:

        def answer(peer: socket.socket) -> None:
            with peer, contextlib.suppress(OSError):
                while data := peer.recv(1000):
                    peer.sendall(data)

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=answer, args=(listening.accept()[0],), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


def connected(port: int) -> socket.socket:
    return socket.create_connection((HOST, port), timeout=SECONDS)


def comes(peer: socket.socket, seconds: float = SECONDS) -> bytes:
    """Nothing where nothing has come in this time."""
    peer.settimeout(seconds)
    try:
        return peer.recv(1000)
    except TimeoutError:
        return b""


def test_what_is_sent_comes_through(network: Network) -> None:
    with echo() as port, connected(network.door("server", port)) as peer:
        peer.sendall(b"a")
        assert comes(peer) == b"a"


def test_a_slow_way_takes_its_time_in_both_directions(network: Network) -> None:
    with echo() as port, connected(network.door("server", port)) as peer:
        network.rules = [slow(ANYBODY, "server", 0.1)]
        began = time.monotonic()
        peer.sendall(b"a")
        assert comes(peer) == b"a"
        assert time.monotonic() - began >= 0.2


def test_a_torn_way_holds_what_is_sent_until_it_is_mended(network: Network) -> None:
    with echo() as port, connected(network.door("server", port)) as peer:
        network.rules = [torn("server", ANYBODY)]
        peer.sendall(b"a")
        peer.sendall(b"b")
        assert comes(peer, SHORT) == b""
        network.rules = ()
        assert comes(peer) in {b"a", b"ab"}


def test_what_was_sent_by_one_who_is_gone_still_arrives(network: Network) -> None:
    with socket.create_server((HOST, 0)) as listening:
        network.rules = [torn("server", ANYBODY)]
        with connected(network.door("server", listening.getsockname()[1])) as peer:
            peer.sendall(b"a")
        server = listening.accept()[0]
        with server:
            assert comes(server, SHORT) == b""
            network.rules = ()
            assert comes(server) == b"a"
            assert comes(server) == b""  # its end


def test_answers_can_be_lost_alone(network: Network) -> None:
    with socket.create_server((HOST, 0)) as listening:
        network.rules = [one_way("server", ANYBODY)]
        with connected(network.door("server", listening.getsockname()[1])) as peer:
            peer.sendall(b"question")
            server = listening.accept()[0]
            with server:
                assert comes(server) == b"question"
                server.sendall(b"answer")
                assert comes(peer, SHORT) == b""
                network.rules = ()
                assert comes(peer) == b"answer"


def test_a_rule_is_for_those_whom_it_names(network: Network) -> None:
    with echo() as port:
        door = network.door("server", port)
        network.rules = [torn("worker-1/", "server")]
        with connected(door) as anybody:
            anybody.sendall(b"a")
            assert comes(anybody) == b"a"
        network.processes[os.getpid()] = "worker-1/"
        with connected(door) as worker:
            worker.sendall(b"a")
            assert comes(worker, SHORT) == b""
            network.processes[os.getpid()] = "worker-2/"
        with connected(door) as other:
            other.sendall(b"a")
            assert comes(other) == b"a"


def test_where_nobody_listens_the_connection_is_reset(network: Network) -> None:
    with socket.create_server((HOST, 0)) as gone:
        port = gone.getsockname()[1]
    # On a busy machine the reset comes before connect() has returned.
    with pytest.raises(ConnectionResetError), connected(network.door("server", port)) as peer:
        comes(peer)
