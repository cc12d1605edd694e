"""What a topic holds, transaction by transaction, as a complete broker would serve it.

The broker of the tests writes the markers that end transactions into its log, but serves records of
aborted ones to readers of committed data too. So tests read the log itself over the wire and leave
out what no commit marker follows: the rule by which clients of Apache Kafka read.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

FETCH, VERSION = 1, 4
_COMMIT = 1


@dataclass(frozen=True)
class Written:
    offset: int
    key: bytes | None
    value: bytes | None


class Reader:
    """Reads big-endian fields one after the other."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def unpack(self, form: str) -> tuple[int, ...]:
        found = struct.unpack_from(">" + form, self.data, self.at)
        self.at += struct.calcsize(">" + form)
        return found

    def one(self, form: str) -> int:
        return self.unpack(form)[0]

    def bytes(self, length: int) -> bytes | None:
        if length < 0:
            return None
        self.at += length
        return self.data[self.at - length : self.at]

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return (value >> 1) ^ -(value & 1)


def committed(port: int, topic: str, partition: int = 0) -> list[Written]:
    """Return the records of committed transactions, and those written outside of any, by offset."""
    open_of: dict[int, list[Written]] = {}
    found: list[Written] = []
    offset = 0
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        while True:
            high, data = _fetch(connection, topic, partition, offset)
            if not data:
                break
            begun = offset
            offset = _batches(data, offset, found, open_of)
            if offset == begun or offset >= high:
                break
    return sorted(found, key=lambda record: record.offset)


def _fetch(connection: socket.socket, topic: str, partition: int, offset: int) -> tuple[int, bytes]:
    name = struct.pack(">h", len(topic)) + topic.encode()
    body = struct.pack(">iiiib", -1, 100, 0, 64 << 20, 0)
    body += struct.pack(">i", 1) + name + struct.pack(">iiqi", 1, partition, offset, 64 << 20)
    head = struct.pack(">hhih", FETCH, VERSION, 1, 4) + b"test"
    connection.sendall(struct.pack(">i", len(head) + len(body)) + head + body)
    answer = Reader(_exactly(connection, struct.unpack(">i", _exactly(connection, 4))[0]))
    answer.unpack("iii")  # correlation, throttle, topics
    answer.bytes(answer.one("h"))
    answer.unpack("ii")  # partitions, partition
    error, high, _ = answer.unpack("hqq")
    assert error == 0, f"fetch failed with {error}"
    for _ in range(max(0, answer.one("i"))):
        answer.unpack("qq")
    return high, answer.bytes(answer.one("i")) or b""


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        assert more, "the broker closed the connection"
        data += more
    return data


def _batches(
    data: bytes, wanted: int, found: list[Written], open_of: dict[int, list[Written]]
) -> int:
    """Read record batches (format 2) and return the offset after the last whole one."""
    reader = Reader(data)
    offset = wanted
    while reader.at + 61 <= len(data):
        start = reader.at
        base, length = reader.unpack("qi")
        if start + 12 + length > len(data):
            break
        reader.unpack("ib")  # leader epoch, magic
        reader.unpack("I")  # checksum
        attributes, last_delta = reader.unpack("hi")
        reader.unpack("qq")  # times
        producer, _, _, count = reader.unpack("qhii")
        assert attributes & 7 == 0, "tests read uncompressed records"
        records = [_record(reader, base) for _ in range(count)]
        records = [record for record in records if record.offset >= wanted]
        if attributes & 32:  # a marker ends the producer's transaction
            for marker in records:
                assert marker.key is not None
                ended = open_of.pop(producer, [])
                if struct.unpack(">hh", marker.key)[1] == _COMMIT:
                    found += ended
        elif attributes & 16:
            open_of.setdefault(producer, []).extend(records)
        else:
            found += records
        offset = base + last_delta + 1
        reader.at = start + 12 + length
    return offset


def _record(reader: Reader, base: int) -> Written:
    end = reader.varint() + reader.at
    reader.one("b")
    reader.varint()
    delta = reader.varint()
    key = reader.bytes(reader.varint())
    value = reader.bytes(reader.varint())
    reader.at = end
    return Written(base + delta, key, value)
