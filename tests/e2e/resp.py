# SPDX-License-Identifier: Apache-2.0
"""RESP2 and RESP3 by hand: an independent reader of what the daemon says.

Errors are returned as values (RespError), never raised, so that a test compares them like any
other reply. A closed connection raises ConnectionError, silence raises TimeoutError.
"""
import socket


class RespError(bytes):
    """An error reply, whole: b"ERR no such thing"."""

    @property
    def word(self):
        return bytes(self).split(b" ", 1)[0].decode()


class Status(bytes):
    """A simple string (+OK)."""


class Verbatim(bytes):
    """A RESP3 verbatim string, without its three-letter kind."""


class Push(list):
    """A RESP3 push message."""


def encode(*words):
    """One request as an array of bulk strings."""
    out = [b"*%d\r\n" % len(words)]
    for word in words:
        if isinstance(word, str):
            word = word.encode()
        elif isinstance(word, int):
            word = b"%d" % word
        out.append(b"$%d\r\n%s\r\n" % (len(word), word))
    return b"".join(out)


class RawConn:
    """A connection of bytes. `target` is a unix socket's path or a (host, port)."""

    def __init__(self, target, timeout=20.0):
        if isinstance(target, (str, bytes)) or hasattr(target, "__fspath__"):
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            target = str(target)
        else:
            self.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.sock.settimeout(timeout)
        try:
            self.sock.connect(target)
        except OSError:
            self.sock.close()
            raise
        self.buffer = bytearray()
        self.position = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def _fill(self):
        if self.position:
            del self.buffer[: self.position]
            self.position = 0
        data = self.sock.recv(1 << 18)
        if not data:
            raise ConnectionError("closed by the daemon")
        self.buffer += data

    def take(self, size):
        """Exactly `size` bytes."""
        while len(self.buffer) - self.position < size:
            self._fill()
        data = bytes(self.buffer[self.position : self.position + size])
        self.position += size
        return data

    def line(self):
        while True:
            end = self.buffer.find(b"\r\n", self.position)
            if end >= 0:
                data = bytes(self.buffer[self.position : end])
                self.position = end + 2
                return data
            self._fill()

    def closed(self):
        """True when the daemon closes the connection (whatever it still says before is eaten)."""
        try:
            while True:
                if not self.sock.recv(1 << 18):
                    return True
        except ConnectionError:
            return True

    def reply(self):
        line = self.line()
        kind, rest = line[:1], line[1:]
        reader = _READERS.get(kind)
        if reader is None:
            raise ValueError(f"not RESP: {line!r}")
        return reader(self, rest)

    def call(self, *words):
        self.send(encode(*words))
        return self.reply()

    def pipeline(self, requests):
        """Sends all requests (each a tuple of words) at once, returns all replies."""
        self.send(b"".join(encode(*words) for words in requests))
        return [self.reply() for _ in requests]


def _bulk(conn, rest):
    size = int(rest)
    if size < 0:
        return None
    data = conn.take(size + 2)
    if data[-2:] != b"\r\n":
        raise ValueError("a bulk string does not end with CR LF")
    return data[:-2]


def _array(conn, rest):
    count = int(rest)
    return None if count < 0 else [conn.reply() for _ in range(count)]


def _map(conn, rest):
    out = {}
    for _ in range(int(rest)):
        key = conn.reply()
        out[key] = conn.reply()
    return out


_READERS = {
    b"+": lambda conn, rest: Status(rest),
    b"-": lambda conn, rest: RespError(rest),
    b":": lambda conn, rest: int(rest),
    b"$": _bulk,
    b"*": _array,
    b"_": lambda conn, rest: None,
    b"#": lambda conn, rest: rest == b"t",
    b",": lambda conn, rest: float(rest),
    b"(": lambda conn, rest: int(rest),
    b"%": _map,
    b"~": _array,
    b">": lambda conn, rest: Push(_array(conn, rest)),
    b"=": lambda conn, rest: Verbatim(_bulk(conn, rest)[4:]),
}
