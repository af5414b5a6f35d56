"""Quotas of a broker, set by hand: the Python client has no such request. Without TLS."""

import socket
import struct
from collections.abc import Mapping

_ALTER_CLIENT_QUOTAS, _VERSION = 49, 0
_TIMEOUT = 60.0  # seconds


def slow_producers(bootstrap: str, client_id: str, bytes_a_second: float) -> None:
    """Let the producers with this client.id send no more than that. What the last 10 s have left unused comes on top.

    Raises RuntimeError with the broker's reason.
    """
    set_quotas(bootstrap, client_id, {"producer_byte_rate": bytes_a_second})


def set_quotas(bootstrap: str, client_id: str, quotas: Mapping[str, float | None]) -> None:
    """Those of this client.id, by their names, at each broker; None takes one away.

    Raises RuntimeError with the broker's reason. https://kafka.apache.org/protocol#The_Messages_AlterClientQuotas
    """
    entity = struct.pack(">i", 1) + _string("client-id") + _string(client_id)
    changes = struct.pack(">i", len(quotas)) + b"".join(
        _string(name) + struct.pack(">d?", value or 0, value is None) for name, value in quotas.items()
    )
    body = struct.pack(">i", 1) + entity + changes + struct.pack(">?", False)
    header = struct.pack(">hhi", _ALTER_CLIENT_QUOTAS, _VERSION, 1) + _string("quotas")
    host, port = bootstrap.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=_TIMEOUT) as connection:
        connection.sendall(struct.pack(">i", len(header + body)) + header + body)
        answer = connection.makefile("rb")
        [size] = struct.unpack(">i", answer.read(4))
        # correlation id, throttle time, number of entries; of the entry its error and the reason
        *_, error, length = struct.unpack_from(">iiihh", read := answer.read(size))
    if error:
        raise RuntimeError(f"no quota: error {error}, {read[16 : 16 + max(length, 0)].decode()}")


def _string(text: str) -> bytes:
    return struct.pack(">h", len(text.encode())) + text.encode()
