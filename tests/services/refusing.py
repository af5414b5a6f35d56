"""A door to a broker that refuses one request of a producer, as a broker does that does not lead the partition yet.

with refusing() as door:
    door.leads_to = …               (the port of a broker that advertises `door.address` there)
    door.refuses = True             (the next request with records is kept; it is refused as soon as another one comes)

No broker of ours can be brought to do that at a given moment: it refuses one request, and has become the leader when
the next one comes, which the producer had sent before it knew.
"""

import asyncio
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.services.processes import HOST, free_port
from tests.services.wire import compact

_PRODUCE, _VERSION = 0, 10
_NOT_LEADER = 6
ALONE = 1.0  # seconds that another request is waited for


class Door:
    def __init__(self, address: str) -> None:
        self.address = address
        self.refuses = False
        self.leads_to = 0
        self._refusal: tuple[asyncio.StreamWriter, bytes] | None = None

    async def serve(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        """One connection of a client."""
        answers, broker = await asyncio.open_connection(HOST, self.leads_to)
        copying = asyncio.create_task(_copy(answers, back))
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                size = await client.readexactly(4)
                request = await client.readexactly(int.from_bytes(size))
                if int.from_bytes(request[:2]) == _PRODUCE and self._keeps(request, back):
                    continue
                broker.write(size + request)
                await broker.drain()
        copying.cancel()
        broker.close()
        back.close()

    def _keeps(self, request: bytes, back: asyncio.StreamWriter) -> bool:
        self._refuse()
        if not self.refuses:
            return False
        self.refuses, self._refusal = False, (back, refusal(request))
        asyncio.get_running_loop().call_later(ALONE, self._refuse)
        return True

    def _refuse(self) -> None:
        if self._refusal:
            back, answer = self._refusal
            self._refusal = None
            back.write(answer)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()


def refusal(request: bytes) -> bytes:
    """The answer to a request with the records of one partition: this broker does not lead it."""
    version, correlation = struct.unpack_from(">hi", request, 2)
    assert version == _VERSION, f"the client produces by version {version} now"
    at = 10 + max(struct.unpack_from(">h", request, 8)[0], 0) + 1  # the client's name, no tags
    length, at = compact(memoryview(request), at)
    at += max(length - 1, 0) + 2 + 4  # the transactional id, acks, timeout
    topics, at = compact(memoryview(request), at)
    length, name = compact(memoryview(request), at)
    topic, at = request[at : name + length - 1], name + length - 1
    partitions, at = compact(memoryview(request), at)
    assert (topics, partitions) == (2, 2), "the client sends several partitions in one request now"
    nothing = struct.pack(">qqq", -1, -1, -1)  # offset, time, begin of the log
    partition = request[at : at + 4] + struct.pack(">h", _NOT_LEADER) + nothing + b"\1\0\0"  # no errors of records
    answer = struct.pack(">i", correlation) + b"\0" + b"\2" + topic + b"\2" + partition + b"\0" + bytes(4) + b"\0"
    return struct.pack(">i", len(answer)) + answer


@contextmanager
def refusing() -> Iterator[Door]:
    port = free_port()
    door = Door(f"{HOST}:{port}")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(asyncio.start_server(door.serve, HOST, port), loop).result(30)

    async def close() -> None:
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    try:
        yield door
    finally:
        asyncio.run_coroutine_threadsafe(close(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
