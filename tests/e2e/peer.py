# SPDX-License-Identifier: Apache-2.0
"""The peer protocol by hand: frames, msgpack maps and the message table, read from the header.

Independent of the daemon's own code but for the table of names and numbers; the checksum comes
from the same library (libxxhash), through ctypes.
"""
import ctypes
import pathlib
import re
import socket
import struct

TABLE = pathlib.Path(__file__).resolve().parents[2] / "common/tables/messages.h"
MAGIC = 0x5351
PROTOCOL = 3
FOLLOW, FETCH, SNAPSHOT = 1, 2, 3
RESUME = 1
EXACT, BEHIND, GONE, NEVER, ERROR = range(5)

_XXH = ctypes.CDLL("libxxhash.so.0")
_XXH.XXH3_64bits_withSeed.restype = ctypes.c_uint64
_XXH.XXH3_64bits_withSeed.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64]


class Hash128(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


_XXH.XXH3_128bits.restype = Hash128
_XXH.XXH3_128bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]


def checksum64(data):
    """XXH3-64 as it is stored."""
    return _XXH.XXH3_64bits_withSeed(data, len(data), 0).to_bytes(8, "little")


def checksum128(data):
    """XXH3-128 as it is stored."""
    hashed = _XXH.XXH3_128bits(data, len(data))
    return hashed.low.to_bytes(8, "little") + hashed.high.to_bytes(8, "little")


def messages():
    """{name: (code, [(key, type, field), ...])} of common/tables/messages.h."""
    text = TABLE.read_text()
    rows = re.findall(r"^MESSAGE\((\w+), (\d+)\)", text, re.M)
    out = {name: (int(code), []) for name, code in rows}
    for name, key, kind, field in re.findall(r"^FIELD\((\w+), (\d+), (\w+), (\w+)\)", text, re.M):
        out[name][1].append((int(key), kind, field))
    return out


MESSAGES = messages()
NAMES = {code: name for name, (code, _) in MESSAGES.items()}


def pack(value):
    """The few msgpack kinds that the protocol uses."""
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        for limit, form in ((0x80, ">B"), (0x100, ">BB"), (0x10000, ">BH"), (1 << 32, ">BI")):
            if value < limit:
                head = {0x100: 0xCC, 0x10000: 0xCD, 1 << 32: 0xCE}.get(limit)
                return struct.pack(form, value) if head is None else struct.pack(form, head, value)
        return struct.pack(">BQ", 0xCF, value)
    if isinstance(value, str):
        data = value.encode("utf-8", "surrogateescape")
        if len(data) < 32:
            return bytes([0xA0 | len(data)]) + data
        return struct.pack(">BH", 0xDA, len(data)) + data
    if isinstance(value, bytes):
        data = value
        if len(data) < 0x100:
            return struct.pack(">BB", 0xC4, len(data)) + data
        if len(data) < 0x10000:
            return struct.pack(">BH", 0xC5, len(data)) + data
        return struct.pack(">BI", 0xC6, len(data)) + data
    if isinstance(value, dict):
        fields = b"".join(pack(k) + pack(v) for k, v in value.items())
        return array_head(len(value), 0x80, 0xDE) + fields
    return array_head(len(value), 0x90, 0xDC) + b"".join(map(pack, value))


def array_head(count, short, long):
    return bytes([short | count]) if count < 16 else struct.pack(">BH", long, count)


class Unpacker:
    """Reads one value after another from bytes."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, size):
        piece = self.data[self.at : self.at + size]
        if len(piece) != size:
            raise ValueError("msgpack ends early")
        self.at += size
        return piece

    def number(self, size):
        return int.from_bytes(self.take(size), "big")

    def array(self):
        """The head of an array; how many values follow."""
        head = self.number(1)
        if head & 0xF0 == 0x90:
            return head & 15
        if head not in (0xDC, 0xDD):
            raise ValueError(f"no msgpack array: {head:#x}")
        return self.number(2 if head == 0xDC else 4)

    def next(self):
        head = self.number(1)
        if head < 0x80:
            return head
        if 0x80 <= head < 0x90 or head in (0xDE, 0xDF):
            count = head & 15 if head < 0x90 else self.number(2 if head == 0xDE else 4)
            return {self.next(): self.next() for _ in range(count)}
        if 0x90 <= head < 0xA0 or head in (0xDC, 0xDD):
            self.at -= 1
            return [self.next() for _ in range(self.array())]
        if 0xA0 <= head < 0xC0:
            return self.take(head & 31)
        if head in (0xC4, 0xC5, 0xC6):
            return self.take(self.number(1 << (head - 0xC4)))
        if head in (0xD9, 0xDA, 0xDB):
            return self.take(self.number(1 << (head - 0xD9)))
        if head in (0xCC, 0xCD, 0xCE, 0xCF):
            return self.number(1 << (head - 0xCC))
        if head in (0xC0, 0xC2, 0xC3):
            return {0xC0: None, 0xC2: False, 0xC3: True}[head]
        raise ValueError(f"msgpack kind {head:#x}")


def unpack(data):
    return Unpacker(data).next()


def mark(length, code):
    """A damaged length must not be waited for: head and length vouch for each other."""
    return MAGIC ^ code ^ length & 0xFFFF ^ length >> 16


def frame(code, payload):
    head = struct.pack("<IHH", len(payload), code, mark(len(payload), code))
    seed = int.from_bytes(head, "little")
    checksum = _XXH.XXH3_64bits_withSeed(payload, len(payload), seed)
    return head + struct.pack("<Q", checksum) + payload


def message(name, **fields):
    """A whole frame; fields that are not given are 0 or empty."""
    code, rows = MESSAGES[name]
    unknown = fields.keys() - {field for _, _, field in rows}
    assert not unknown, unknown
    empty = {"U64": 0, "BYTES": b"", "TEXT": ""}
    values = {key: fields.get(field, empty[kind]) for key, kind, field in rows}
    for key, kind, _ in rows:
        if kind == "TEXT" and isinstance(values[key], bytes):
            values[key] = values[key].decode("utf-8", "surrogateescape")
    return frame(code, pack(values))


class PeerConn:
    """One side of a peer link."""

    def __init__(self, address=None, sock=None, timeout=10.0):
        if sock is None:
            host, port = address.rsplit(":", 1)
            sock = socket.create_connection((host, int(port)), timeout)
        sock.settimeout(timeout)
        self.sock, self.buffer = sock, b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def take(self, size):
        while len(self.buffer) < size:
            data = self.sock.recv(1 << 16)
            if not data:
                raise ConnectionError("closed by the daemon")
            self.buffer += data
        piece, self.buffer = self.buffer[:size], self.buffer[size:]
        return piece

    def receive(self):
        """(name, {field: value}); the raw bytes after `blocks` come as field `raw`."""
        length, code, given = struct.unpack("<IHH", self.take(8))
        self.take(8)
        assert given == mark(length, code)
        name = NAMES[code]
        found = unpack(self.take(length))
        fields = {field: found.get(key) for key, _, field in MESSAGES[name][1]}
        if name == "blocks":
            fields["raw"] = self.take(fields["bytes"])
        return name, fields

    def receive_until(self, wanted):
        while True:
            name, fields = self.receive()
            if name == wanted:
                return fields

    def finish(self):
        """Nothing more from here; True when the other side then closes within the time limit."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
            while self.sock.recv(1 << 16):
                pass
        except TimeoutError:
            return False
        except OSError:
            pass
        return True


def hello(purpose, **fields):
    given = {
        "protocol": PROTOCOL, "cluster": "qs", "instance": "main", "node": "by-hand",
        "role": 2, "purpose": purpose, "digest_algorithm": 1,
    }
    return message("hello", **(given | fields))
