# SPDX-License-Identifier: Apache-2.0
"""Bits flipped on the way between parent and child: none of it is ever applied.

A man in the middle per child flips one bit of each connection, at a random place of either
direction, and lets the connection live a short time after it. FLIPS sets how many.
"""
import math
import os
import random
import selectors
import socket
import threading
import time

import pytest

from peer import EXACT, FETCH, FOLLOW, PROTOCOL, PeerConn, hello, message, pack
from qs_cluster import PORTS, SLOW, wait_for
from resp import RespError

FLIPS = int(os.environ.get("FLIPS", 2000))
CHILDREN = 6
AFTERLIFE_S = 0.05  # of a connection after its flip: a flipped length may wait for bytes for ever
LIFE_S = 0.5  # of a connection on which the place of the flip never came


class Middle(threading.Thread):
    """Accepts one connection after another and passes bytes on, flipping one bit of each."""

    def __init__(self, target, seed):
        super().__init__(daemon=True)
        self.target = target
        self.rng = random.Random(seed)
        self.listener = socket.create_server(("127.0.0.1", PORTS.take()))
        self.listener.settimeout(0.1)
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.flips, self.honest, self.running = 0, False, True

    def run(self):
        while self.running:
            try:
                child, _ = self.listener.accept()
            except TimeoutError:
                continue
            host, port = self.target.rsplit(":", 1)
            try:
                parent = socket.create_connection((host, int(port)), 5)
            except OSError:
                child.close()
                continue
            with child, parent:
                try:
                    self.carry(child, parent)
                except OSError:
                    pass
        self.listener.close()

    def carry(self, child, parent):
        to_child = self.rng.random() < 0.8
        place = int(math.exp(self.rng.random() * math.log(300_000)))
        passed, flipped, began = 0, None, time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(child, selectors.EVENT_READ, parent)
            selector.register(parent, selectors.EVENT_READ, child)
            while self.running:
                now = time.monotonic()
                over = flipped is not None and now - flipped > AFTERLIFE_S * SLOW
                if not self.honest and (over or now - began > LIFE_S * SLOW):
                    return
                for key, _ in selector.select(0.01):
                    data = bytearray(key.fileobj.recv(1 << 16))
                    if not data:
                        return
                    if (key.fileobj is parent) == to_child:
                        at = place - passed
                        if flipped is None and not self.honest and 0 <= at < len(data):
                            data[at] ^= 1 << self.rng.randrange(8)
                            flipped = time.monotonic()
                            self.flips += 1
                        passed += len(data)
                    key.data.sendall(data)


def keep_writing(root, stop, seed):
    rng = random.Random(seed)
    with root.raw() as conn:
        while not stop.is_set():
            requests = []
            for _ in range(20):
                key = f"k{rng.randrange(3000)}"
                value = rng.randbytes(rng.randrange(500))
                requests.append(("DEL", key) if rng.random() < 0.2 else ("SET", key, value))
            for reply in conn.pipeline(requests):
                assert not isinstance(reply, RespError), reply
            stop.wait(0.02)


@pytest.mark.long
@pytest.mark.limit(120 + FLIPS // 5)
def test_flips(cluster, say):
    fast = {"reconnect": "10ms", "heartbeat": "20ms", "silence": "1s"}
    root = cluster.root(node=fast).start()
    middles, children = [], []
    for i in range(CHILDREN):
        middle = Middle(root.peer, f"wire {i}")
        middle.start()
        middles.append(middle)
        if i % 2:
            child = cluster.proxy(f"child{i}", middle.address, [root], node=fast | {"loops": 1})
        else:
            child = cluster.replica(f"child{i}", middle.address, node=fast | {"loops": 1})
        children.append(child.launch())
    stop = threading.Event()
    writer = threading.Thread(target=keep_writing, args=(root, stop, 1), daemon=True)
    writer.start()
    wait_for(lambda: sum(m.flips for m in middles) >= FLIPS, 60 + FLIPS / 10, f"{FLIPS} flips")
    for node in cluster.running():
        node.check_alive()
    stop.set()
    writer.join()
    for middle in middles:
        middle.honest = True
    for child in children:
        child.wait_ready(60)
    cluster.check_equal()
    keys = root.call("KEYS", "*")
    truth = dict(zip(keys, root.call("MGET", *keys)))
    for child in children:
        assert dict(zip(keys, child.call("MGET", *keys))) == truth, child.name
        metrics = child.metrics("main")
        assert metrics["digest_mismatches"] == 0 and metrics["reads_corrupt"] == 0
        assert metrics["state"] == 1, f"{child.name} must still take updates"
    seen = [c.metrics("main")["parent_bad_blocks"] + c.metrics("main")["parent_bad_frames"]
            for c in children]
    flips = sum(m.flips for m in middles)
    say(f"{flips} bits flipped; noticed by the children: {seen}, "
        f"by the parent: {root.metrics()['peer_protocol_errors']:.0f}")
    assert all(count > 0 for count in seen)
    for middle in middles:
        middle.running = False


def test_handshake_answers(cluster):
    """By hand: what is answered to a hello that does not fit."""
    root = cluster.root().start()
    root.call("QS.PUT", "a", "1")
    history = bytes.fromhex(root.call("QS.INDEX", "TOKEN").decode().split(":")[0])
    cases = [
        ({"cluster": "other"}, 5, b"cluster"),
        ({"instance": "nosuch"}, 5, b"instance"),
        ({"protocol": 99}, 5, b"version"),
        ({"digest_algorithm": 9}, 5, b"digest"),
        ({"history": b"x" * 16, "block": 1, "index": 1, "chain": b"y" * 16}, 5, b"histor"),
        ({"history": history, "block": 2, "index": 1, "chain": b"y" * 16}, 4, b""),
        ({"history": history, "block": 99, "index": 99, "chain": b"y" * 16}, 2, b""),
    ]
    for fields, answer, word in cases:
        with PeerConn(root.peer) as conn:
            conn.send(hello(FOLLOW, **fields))
            welcome = conn.receive_until("welcome")
            assert welcome["answer"] == answer, (fields, welcome)
            assert word in welcome["reason"].lower(), (fields, welcome)
    with PeerConn(root.peer) as conn:
        conn.send(hello(FOLLOW))
        assert conn.receive_until("welcome")["answer"] == 1
        assert conn.receive_until("blocks")["raw"][:4] == b"QSBK"


def test_fetch_by_hand(cluster):
    """A replica answers by (key, version): exact, behind, never."""
    root = cluster.root().start()
    first = root.call("QS.PUT", "a", "one")
    second = root.call("QS.PUT", "a", "two")
    history = bytes.fromhex(root.call("QS.INDEX", "TOKEN").decode().split(":")[0])
    with PeerConn(root.peer) as conn:
        conn.send(hello(FETCH, role=3, history=history))
        assert conn.receive_until("welcome")["answer"] == 1
        items = pack([[b"a", second], [b"a", first], [b"a", 99], [b"never", first]])
        conn.send(message("fetch", id=7, items=items))
        from peer import unpack

        fetched = conn.receive_until("fetched")
        assert fetched["id"] == 7 and fetched["visible"] == second
        rows = unpack(fetched["items"])
        assert rows[0] == [EXACT, b"two"] and rows[1] == [EXACT, b"one"], rows
        assert rows[2][0] == 1 and rows[3][0] == 3, rows


def test_lying_replica(cluster):
    """A replica that answers with other bytes is not believed: an error, never a wrong value."""
    root = cluster.root().start()
    listener = socket.create_server(("127.0.0.1", 0))
    address = "127.0.0.1:%d" % listener.getsockname()[1]
    from peer import unpack

    def lie():
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(sock,), daemon=True).start()

    def serve(sock):
        with PeerConn(sock=sock, timeout=60) as conn:
            try:
                asked = conn.receive_until("hello")
                conn.send(message("welcome", protocol=PROTOCOL, answer=1, node="liar", role=2,
                                  history=asked["history"], index=1 << 40, oldest=1))
                while True:
                    name, fields = conn.receive()
                    if name == "fetch":
                        rows = [[EXACT, b"wrong"] for _ in unpack(fields["items"])]
                        conn.send(message("fetched", id=fields["id"], visible=1 << 40,
                                          items=pack(rows)))
                    elif name == "ping":
                        conn.send(message("pong", sent_ns=fields["sent_ns"]))
            except (OSError, ConnectionError):
                pass

    threading.Thread(target=lie, daemon=True).start()
    proxy = cluster.proxy("proxy", root, [address], keep_bytes=0, window=0, fetch="500ms").start()
    proxy.wait_index(root.call("QS.PUT", "a", "right"))
    with proxy.raw() as conn:
        for _ in range(3):
            reply = conn.call("GET", "a")
            assert isinstance(reply, RespError) and reply.word == "UNAVAILABLE", reply
    assert proxy.metrics("main")["fetch_bad"] > 0
    listener.close()
