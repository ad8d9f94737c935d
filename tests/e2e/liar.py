# SPDX-License-Identifier: Apache-2.0
"""A parent that lies: it stands between a parent and its child, and leaves every update of one key
out of the blocks that it passes on, with counts and checksums made anew. The chain it cannot make:
that stands over the entries as the root wrote them."""
import socket
import struct
import threading

from peer import MESSAGES, Unpacker, array_head, checksum64, checksum128, message, unpack
from qs_cluster import PORTS

HEADER = 128
COMPRESSED = 1
BLOCKS, PATCH = MESSAGES["blocks"][0], MESSAGES["patch"][0]


def without(block, key):
    """The block without the entries of `key` in batches that hold others too; or None."""
    header, payload = bytearray(block[:HEADER]), Unpacker(block[HEADER:])
    assert not struct.unpack_from("<H", header, 6)[0] & COMPRESSED, "only blocks of noise"
    left_out, batches = 0, []
    for _ in range(payload.array()):
        kept, count = [], payload.array()
        for _ in range(count):
            start = payload.at
            if payload.next()[1] == key and count > 1:
                left_out += 1
            else:
                kept.append(payload.data[start : payload.at])
        batches.append(array_head(len(kept), 0x90, 0xDC) + b"".join(kept))
    if not left_out:
        return None
    told = array_head(len(batches), 0x90, 0xDC) + b"".join(batches)
    entries = struct.unpack_from("<I", header, 52)[0] - left_out
    struct.pack_into("<III", header, 52, entries, len(told), len(told))
    header[104:120] = checksum128(told)
    header[8:16] = bytes(8)
    header[8:16] = checksum64(bytes(header))
    return bytes(header) + told


class Liar:
    """Listens at `address` and passes on what `target` says, but for `key`. Counts its lies."""

    def __init__(self, target, key):
        self.target, self.key, self.lies, self.fault = target, key, 0, None
        self.listener = socket.create_server(("127.0.0.1", PORTS.take()))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.listen, daemon=True).start()

    def close(self):
        self.listener.close()
        assert self.fault is None, self.fault

    def listen(self):
        try:
            while True:
                child, _ = self.listener.accept()
                host, port = self.target.rsplit(":", 1)
                parent = socket.create_connection((host, int(port)))
                for carry, ends in ((self.up, (child, parent)), (self.down, (parent, child))):
                    threading.Thread(target=self.run, args=(carry, *ends), daemon=True).start()
        except OSError:
            pass

    def run(self, carry, source, sink):
        try:
            carry(source, sink)
        except (ConnectionError, OSError):
            pass
        except BaseException as fault:  # shown at the end
            self.fault = fault
        for sock in (source, sink):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def up(self, child, parent):
        while data := child.recv(1 << 16):
            parent.sendall(data)

    def down(self, parent, child):
        """Frames as they are; the stream of blocks a whole block at a time."""
        source, stream = parent.makefile("rb"), b""

        def take(size):
            data = source.read(size)
            if len(data) < size:
                raise ConnectionError("closed")
            return data

        while True:
            head = take(16)
            length, code = struct.unpack_from("<IH", head)
            payload = take(length)
            if code == BLOCKS:
                stream += take(unpack(payload)[1])
                stream = self.pass_on(stream, child)
            else:
                raw = take(unpack(payload)[2]) if code == PATCH else b""
                child.sendall(head + payload + raw)

    def pass_on(self, stream, child):
        while len(stream) >= HEADER:
            size = HEADER + struct.unpack_from("<I", stream, 56)[0]
            if len(stream) < size:
                break
            block, stream = stream[:size], stream[size:]
            told = without(block, self.key) if self.key in block else None
            self.lies += told is not None
            block = told or block
            child.sendall(message("blocks", bytes=len(block)) + block)
        return stream
