"""A network that can be slow or torn, between processes of this machine. Knows no Kafka, and needs no rights.

    with running(Network()) as network:
        port = network.door("broker-1", 9092)      # who connects to `port` comes to 9092, if the network lets him
        network.processes[pid] = "worker-1"        # who that is; others are ANYBODY
        network.rules = [slow("worker", "broker", 0.1), torn("broker-1", "broker")]

What cannot pass is held and not lost, as TCP does it: it comes late, perhaps when its sender is long gone. Linux only:
whose connection it is says /proc.
"""

import asyncio
import math
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from tests.services.processes import HOST, free_port

ANYBODY = ""
SECONDS = 60.0  # that opening a door may take

Rule = Callable[[str, str], float]
"""Seconds that bytes take from this sender to this receiver; infinite: they do not pass while the rule is in force."""


def slow(one: str, other: str, seconds: float) -> Rule:
    """Between those whose names begin so, in both directions."""
    return lambda sender, receiver: seconds * _are(one, other, sender, receiver)


def torn(one: str, other: str) -> Rule:
    """The same; nothing passes."""
    return lambda sender, receiver: math.inf if _are(one, other, sender, receiver) else 0


def one_way(sender: str, receiver: str) -> Rule:
    """Nothing passes in this direction, all in the other one."""
    return lambda *at: math.inf if at[0].startswith(sender) and at[1].startswith(receiver) else 0


def _are(one: str, other: str, sender: str, receiver: str) -> bool:
    there = sender.startswith(one) and receiver.startswith(other)
    return there or (sender.startswith(other) and receiver.startswith(one))


class Network:
    """Its loop runs in a thread of its own. `processes` and `rules` may be changed at any time."""

    def __init__(self) -> None:
        self.processes: dict[int, str] = {}
        self._rules: Sequence[Rule] = ()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._doors: dict[str, list[asyncio.Server]] = {}
        self.ends: set[_End] = set()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        async def close() -> None:
            for door in [door for doors in self._doors.values() for door in doors]:
                door.close()
            for end in list(self.ends):
                end.abort()

        asyncio.run_coroutine_threadsafe(close(), self._loop).result(SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def door(self, name: str, port: int) -> int:
        """A port behind which is `port`, where `name` listens."""
        outside = free_port()
        create = self._loop.create_server(lambda: _Outer(self, name, outside, port), HOST, outside)
        server = asyncio.run_coroutine_threadsafe(create, self._loop).result(SECONDS)
        self._doors.setdefault(name, []).append(server)
        return outside

    @property
    def rules(self) -> Sequence[Rule]:
        return self._rules

    @rules.setter
    def rules(self, rules: Sequence[Rule]) -> None:
        self._rules = tuple(rules)

        def go_on() -> None:
            for end in list(self.ends):
                end.go_on()

        self._loop.call_soon_threadsafe(go_on)

    def delay(self, sender: str, receiver: str) -> float:
        return 0 if sender == receiver else sum(rule(sender, receiver) for rule in self._rules)

    def whose(self, port: int, door: int) -> str:
        """The name of the process that has connected from this port to this door."""
        inode = _inode(port, door)
        for pid, name in list(self.processes.items()) if inode else ():
            if _has_socket(pid, inode):
                return name
        return ANYBODY


def _inode(port: int, door: int) -> str:
    """Of the socket at this end of a loopback connection. Java's are of IPv6, also where their addresses are not."""
    [address] = struct.unpack("=I", socket.inet_aton(HOST))
    ends = f"{address:08X}:{port:04X}", f"{address:08X}:{door:04X}"
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if (fields[1][-13:], fields[2][-13:]) == ends:
                return fields[9]
    return ""


def _has_socket(pid: int, inode: str) -> bool:
    with suppress(OSError):
        for file in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                if file.readlink().name == f"socket:[{inode}]":
                    return True
    return False


class _End(asyncio.Protocol):
    """One end of a connection. What comes in here goes out at the other end, when the network lets it."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.sender = self.receiver = ANYBODY
        self.other: _End | None = None
        self.transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._held: deque[tuple[float, bytes]] = deque()  # with the time at which it came; empty bytes: the end

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.network.ends.add(self)

    def data_received(self, data: bytes) -> None:
        self._held.append((self._loop.time(), data))
        self.go_on()

    def connection_lost(self, _error: Exception | None) -> None:
        self.transport = None
        self.data_received(b"")

    def go_on(self) -> None:
        """Pass on what may pass by now."""
        while self._held and self.other:
            came, data = self._held[0]
            due = came + self.network.delay(self.sender, self.receiver)
            if due > self._loop.time():
                if due < math.inf:
                    self._loop.call_at(due, self.go_on)
                return
            self._held.popleft()
            self.other.pass_out(data)
            if not data:
                self.network.ends.discard(self)

    def pass_out(self, data: bytes) -> None:
        if self.transport and data:
            self.transport.write(data)
        elif self.transport:
            self.transport.close()

    def abort(self) -> None:
        """A reset, as the kernel of a host sends it where nobody listens."""
        self.network.ends.discard(self)
        if self.transport:
            its_socket: Any = self.transport.get_extra_info("socket")
            its_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()


class _Outer(_End):
    """The end at the door: it connects the other one."""

    def __init__(self, network: Network, name: str, door: int, port: int) -> None:
        super().__init__(network)
        self.receiver, self._door, self._port = name, door, port

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.sender = self.network.whose(transport.get_extra_info("peername")[1], self._door)
        self._connecting = self._loop.create_task(self._connect())

    async def _connect(self) -> None:
        inner = _End(self.network)
        inner.sender, inner.receiver, inner.other = self.receiver, self.sender, self
        try:
            await self._loop.create_connection(lambda: inner, HOST, self._port)
        except OSError:
            self.abort()
        else:
            self.other = inner
            self.go_on()
