"""A local HTTP service that answers each request after 50 ms, with as little work as can be; prints its port.

python -m bench.calling.service
"""

import asyncio

CALL = 0.05  # seconds
BODY = b'{"price": 7.5}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
END_OF_REQUEST = b"\r\n\r\n"


class Connection(asyncio.Protocol):
    """Kept alive; requests have no body, and one comes after the answer of the other."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._received.endswith(END_OF_REQUEST):
            self._received = b""
            self._loop.call_later(CALL, self._transport.write, ANSWER)


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
