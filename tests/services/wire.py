"""Records on the wire, written by hand: what no client of ours would send, but a producer in another language may.

Any bytes in keys, values, names and values of headers, any timestamp, each kind of compression. The format:
https://kafka.apache.org/documentation/#recordbatch. And commits in the name of any member of a group.
One broker that leads all partitions, without TLS.
"""

import socket
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_PRODUCE, _VERSION = 0, 7  # the first that may carry zstd; its request is that of version 3
_OFFSET_COMMIT, _COMMIT_VERSION = 8, 7  # the first with an instance id, the last without compact fields
_LIST_TRANSACTIONS = 66
_NO_PRODUCER = struct.pack(">qhi", -1, -1, -1)  # id, epoch, first sequence number: not idempotent
_TIMEOUT_MS = 10_000


@dataclass(frozen=True, slots=True)
class RawRecord:
    """A record as it lies in the log."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[bytes, bytes | None]] = ()
    timestamp: int = -1  # ms since the epoch


class WireProducer:
    """Sends batches of records as they are given. The broker checks the batch, and nothing of what is in it."""

    def __init__(self, bootstrap: str) -> None:
        self._connection = _Connection(bootstrap)

    def produce(self, topic: str, partition: int, records: Sequence[RawRecord], compression: str = "none") -> int:
        """Returns the offset of the first. Raises RuntimeError with the code of Kafka's error."""
        batch = record_batch(records, compression)
        data = _array(_string(topic) + _array(struct.pack(">ii", partition, len(batch)) + batch))
        body = _nullable_string(None) + struct.pack(">hi", -1, _TIMEOUT_MS) + data  # acks: all
        answer = self._connection.ask(_PRODUCE, _VERSION, body)
        # array of one topic, its name, array of one partition, its number
        error, offset = struct.unpack_from(">hq", answer, 4 + 2 + len(topic.encode()) + 4 + 4)
        if error:
            raise RuntimeError(f"Kafka refuses the batch: error {error}")
        return int(offset)

    def close(self) -> None:
        self._connection.close()


class WireGroup:
    """Commits an offset in the name of whatever member of a group one likes. The broker must be its coordinator."""

    def __init__(self, bootstrap: str, group: str) -> None:
        self._connection = _Connection(bootstrap)
        self._group = group

    def commit(self, member: tuple[str, str, int], topic: str, partition: int, offset: int, metadata: str) -> int:
        """`member`: its id, its instance id or "", its generation. The code of the answer; 0: it was taken."""
        member_id, instance, generation = member
        of_partition = struct.pack(">iqi", partition, offset, -1) + _nullable_string(metadata)
        who = struct.pack(">i", generation) + _string(member_id) + _nullable_string(instance or None)
        body = _string(self._group) + who + _array(_string(topic) + _array(of_partition))
        answer = self._connection.ask(_OFFSET_COMMIT, _COMMIT_VERSION, body)
        return int(struct.unpack(">h", answer[-2:])[0])

    def close(self) -> None:
        self._connection.close()


def transactional_ids(bootstrap: str) -> list[str]:
    """Those of whose transactions this broker is the coordinator."""
    connection = _Connection(bootstrap)
    try:
        # Fields of a compact kind: an empty array is 1, no tags are 0.
        answer = memoryview(connection.ask(_LIST_TRANSACTIONS, 0, b"\0" + b"\1" + b"\1" + b"\0"))
    finally:
        connection.close()
    # tags of the header, throttle time, error, an empty array of filters that are not known
    [error], at = struct.unpack_from(">h", answer, 5), 8
    if error:
        raise RuntimeError(f"the broker does not list its transactions: error {error}")
    number, at = compact(answer, at)
    found = []
    for _ in range(number - 1):
        length, at = compact(answer, at)
        found.append(bytes(answer[at : at + length - 1]).decode())
        at += length - 1 + 8  # the id of its producer
        length, at = compact(answer, at)
        at += length  # its state, without tags
    return found


def compact(data: memoryview, at: int) -> tuple[int, int]:
    """An unsigned number, and where it ends."""
    number = shift = 0
    while True:
        number |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 128:
            return number, at


class _Connection:
    """One request at a time."""

    def __init__(self, bootstrap: str) -> None:
        host, port = bootstrap.rsplit(":", 1)
        self._socket = socket.create_connection((host, int(port)), timeout=_TIMEOUT_MS / 1000)

    def ask(self, api: int, version: int, body: bytes) -> bytes:
        """The answer without its header."""
        header = struct.pack(">hhi", api, version, 1) + _nullable_string("wire")
        self._socket.sendall(struct.pack(">i", len(header) + len(body)) + header + body)
        return self._read(struct.unpack(">i", self._read(4))[0])[4:]

    def close(self) -> None:
        self._socket.close()

    def _read(self, number: int) -> bytes:
        read = b""
        while len(read) < number:
            more = self._socket.recv(number - len(read))
            if not more:
                raise ConnectionError("the broker has closed the connection")
            read += more
        return read


def record_batch(records: Sequence[RawRecord], compression: str = "none") -> bytes:
    """A batch of version 2, whose base offset the broker replaces."""
    first = records[0].timestamp
    body = b"".join(_record(delta, each, each.timestamp - first) for delta, each in enumerate(records))
    number, compressed = _COMPRESSIONS[compression]
    last, largest = len(records) - 1, max(each.timestamp for each in records)
    head = struct.pack(">hiqq", number, last, first, largest) + _NO_PRODUCER + struct.pack(">i", len(records))
    guarded = head + compressed(body)
    return struct.pack(">qiibI", 0, len(guarded) + 9, 0, 2, crc32c(guarded)) + guarded


def _record(offset_delta: int, record: RawRecord, timestamp_delta: int) -> bytes:
    headers = b"".join(_varint(len(name)) + name + _bytes(value) for name, value in record.headers)
    body = b"\0" + _varint(timestamp_delta) + _varint(offset_delta) + _bytes(record.key) + _bytes(record.value)
    body += _varint(len(record.headers)) + headers
    return _varint(len(body)) + body


def _bytes(value: bytes | None) -> bytes:
    return _varint(-1) if value is None else _varint(len(value)) + value


def _varint(number: int) -> bytes:
    """Zigzag, as in Protocol Buffers; of 64 bits, which a difference of two timestamps may be beyond."""
    number = (number + (1 << 63)) % (1 << 64) - (1 << 63)
    number = (number << 1 ^ number >> 63) & (1 << 64) - 1
    packed = bytearray()
    while number > 127:
        packed.append(number & 127 | 128)
        number >>= 7
    packed.append(number)
    return bytes(packed)


def _string(text: str) -> bytes:
    return struct.pack(">h", len(text.encode())) + text.encode()


def _nullable_string(text: str | None) -> bytes:
    return struct.pack(">h", -1) if text is None else _string(text)


def _array(only: bytes) -> bytes:
    return struct.pack(">i", 1) + only


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ 0x82F63B78 * (byte & 1)
        table.append(byte)
    return table


_CRC = _crc_table()


def crc32c(data: bytes) -> int:
    """Castagnoli's; zlib has another one."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


# ---------------------------------------------------------------- compression: frames that hold the bytes as they are


def _gzip(data: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=31)
    return deflater.compress(data) + deflater.flush()


def _snappy(data: bytes) -> bytes:
    """One literal after the other, of at most 2^16 bytes; behind the header of Java's stream."""
    length, number = b"", len(data)
    while number > 127:
        length += bytes((number & 127 | 128,))
        number >>= 7
    length += bytes((number,))
    parts = [data[at : at + 65_536] for at in range(0, len(data), 65_536)]
    block = length + b"".join(b"\xf4" + struct.pack("<H", len(part) - 1) + part for part in parts)
    return b"\x82SNAPPY\0" + struct.pack(">iii", 1, 1, len(block)) + block


def _lz4(data: bytes) -> bytes:
    """A frame of blocks of at most 64 KiB, none of them compressed."""
    parts = [data[at : at + 65_536] for at in range(0, len(data), 65_536)]
    blocks = b"".join(struct.pack("<I", len(part) | 1 << 31) + part for part in parts)
    return b"\x04\x22\x4d\x18" + b"\x60\x40\x82" + blocks + bytes(4)


def _zstd(data: bytes) -> bytes:
    """A frame of raw blocks of at most 128 KiB."""
    parts = [data[at : at + 131_072] for at in range(0, len(data), 131_072)]
    blocks = b""
    for index, part in enumerate(parts):
        blocks += struct.pack("<I", (index == len(parts) - 1) | len(part) << 3)[:3] + part
    return b"\x28\xb5\x2f\xfd" + b"\xa0" + struct.pack("<I", len(data)) + blocks


_COMPRESSIONS: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "none": (0, bytes),
    "gzip": (1, _gzip),
    "snappy": (2, _snappy),
    "lz4": (3, _lz4),
    "zstd": (4, _zstd),
}
COMPRESSIONS = tuple(_COMPRESSIONS)
