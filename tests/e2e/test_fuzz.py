# SPDX-License-Identifier: Apache-2.0
"""Mutated requests and frames: each gets a reply, an error or a closed connection.

The daemon lives, other clients are unaffected, and the database equals a model fed with what was
accepted. MUTATIONS sets how many requests; frames are as many, spread over three kinds of peers.
A failure prints the seed and the bytes.
"""
import os
import random
import re
import socket
import threading

import pytest

from peer import FETCH, FOLLOW, MESSAGES, PROTOCOL, SNAPSHOT, PeerConn
from peer import frame, hello, message, pack, unpack
from qs_cluster import ROOT, SLOW, wait_for
from reading import Database
from resp import RawConn, encode

MUTATIONS = int(os.environ.get("MUTATIONS", 4000))
SEED = int(os.environ.get("SEED", 1))
SHARES = 2


def dictionary():
    table = (ROOT / "common/tables/commands.h").read_text()
    words = re.findall(r'COMMAND\("([^"]+)", \w+, (-?\d+)', table)
    return [(word.encode(), int(arity)) for word, arity in words]


COMMANDS = dictionary()
OPTIONS = [b"NX", b"XX", b"GET", b"MATCH", b"COUNT", b"TYPE", b"LIMIT", b"TOKEN", b"main", b"0",
           b"1", b"-1", b"*", b"[a-", b"string", b"99999999999999999999", b"", b"\0", b"\r\n", b"3"]
# Waiting is not what is tested here, and CLIENT REPLY would hide answers.
SKIPPED = {b"WAIT", b"QS.WAITINDEX", b"CLIENT"}


def request(rng):
    """One valid or nearly valid request."""
    name, arity = rng.choice(COMMANDS)
    if name in SKIPPED:
        name, arity = b"SET", 3
    more = rng.randrange(3) if arity < 0 else 0
    count = max(abs(arity) + more + rng.choice([0, 0, 0, 0, 1, -1]), 1)
    words = [rng.choice([name, name, name.lower()])]
    for _ in range(count - 1):
        kind = rng.randrange(10)
        if kind < 6:
            words.append(b"k%d" % rng.randrange(50))
        elif kind < 8:
            words.append(rng.choice(OPTIONS))
        else:
            words.append(rng.randbytes(rng.randrange(40)))
    if rng.random() < 0.1:
        special = set(b" \r\n\t\"'\\\0\v\f")
        return b" ".join(word for word in words if word and not set(word) & special) + b"\r\n"
    return encode(*words)


def mutate(rng, data):
    """A few small changes of bytes."""
    data = bytearray(data)
    for _ in range(rng.choice([0, 1, 1, 1, 2, 4])):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(6)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(data):
            del data[at : at + rng.randrange(1, 5)]
        elif kind == 2:
            data[at:at] = rng.randbytes(rng.randrange(1, 5))
        elif kind == 3 and at < len(data):
            data[at:at] = data[at : at + rng.randrange(1, 20)]
        elif kind == 4:
            data[at:at] = rng.choice([b"\r\n", b"*", b"$", b"-1", b"0", b"4294967296", b"\0", b'"'])
        elif at < len(data):
            del data[at:]
        if not data:
            return b"\r\n"
    return bytes(data)


def converse(target, data):
    """Sends, says that no more will come, reads every reply until the daemon closes."""
    with RawConn(target, 30 * SLOW) as conn:
        try:
            conn.send(data)
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # closed early; what it said is still there to be read
        replies = []
        try:
            while True:
                replies.append(conn.reply())
        except ConnectionError:
            assert conn.position == len(conn.buffer), "half a reply"
        return replies


class Bystander(threading.Thread):
    """An ordinary client of the same daemon: its answers must stay right, its link up."""

    def __init__(self, node):
        super().__init__(daemon=True)
        self.node, self.running, self.fault, self.rounds = node, True, None, 0

    def run(self):
        try:
            with self.node.raw() as conn:
                while self.running:
                    value = b"%d" % self.rounds
                    assert conn.call("SET", "bystander", value) == b"OK"
                    assert conn.call("GET", "bystander") == value
                    assert conn.call("GET", "no-such-key") is None
                    self.rounds += 1
        except BaseException as fault:
            self.fault = fault


@pytest.mark.limit(120 + MUTATIONS // 50)
@pytest.mark.parametrize("share", range(SHARES))
def test_requests(cluster, share, say):
    root = cluster.root().start()
    bystander = Bystander(root)
    bystander.start()
    rng = random.Random(f"{SEED}/{share}")
    database = Database()
    for _ in range(MUTATIONS // SHARES):
        data = b"".join(mutate(rng, request(rng)) for _ in range(rng.choice([1, 1, 2, 5])))
        try:
            replies = converse(root.socket, data)
        except Exception as fault:
            raise AssertionError(f"after {data!r}") from fault
        database.connection(data, replies)
    root.check_alive()
    bystander.running = False
    bystander.join(30 * SLOW)
    assert bystander.fault is None and bystander.rounds > 0, bystander.fault
    held = {}
    with root.raw() as conn:
        keys = conn.call("KEYS", "*")
        held = dict(zip(keys, conn.call("MGET", *keys)))
    held.pop(b"bystander")
    database.data.pop(b"bystander", None)
    wrong = {k: (held.get(k), database.data.get(k)) for k in held.keys() | database.data.keys()
             if held.get(k) != database.data.get(k)}
    assert not wrong, f"{len(wrong)} keys differ from the model: {sorted(wrong.items())[:3]}"
    metrics = root.metrics()
    say(f"{MUTATIONS // SHARES} mutations, {metrics['client_protocol_errors']:.0f} closed for "
        f"malformed bytes, {bystander.rounds} rounds of the bystander")
    root.restart()
    with root.raw() as conn:
        assert {k: v for k, v in zip(keys, conn.call("MGET", *keys)) if k != b"bystander"} == held


def random_fields(rng, name):
    out = {}
    for _, kind, field in MESSAGES[name][1]:
        if kind == "U64":
            out[field] = rng.choice([0, 1, 2, 3, 5, 127, 128, 1 << 32, (1 << 64) - 1])
        else:
            out[field] = rng.choice([b"", b"main", b"qs", rng.randbytes(16), rng.randbytes(300)])
    if name in ("fetch", "fetched"):
        count = rng.randrange(5)
        items = [[rng.randbytes(rng.randrange(20)), rng.randrange(100)] for _ in range(count)]
        out["items"] = mutate(rng, pack(items)) if rng.random() < 0.5 else pack(items)
    if name in ("tree_report", "tree_page"):
        items = b"".join(pack(saying(rng)) for _ in range(rng.randrange(5)))
        out["items"] = mutate(rng, items) if rng.random() < 0.5 else items
    if name == "forward":
        items = transaction(rng)
        out["items"] = mutate(rng, items) if rng.random() < 0.5 else items
        out["path"] = rng.choice([b"", b"child\0", b"root\0", b"x" * rng.randrange(2000)])
    return out


def transaction(rng):
    """What a child might send on for a client (common/wire/write_items.h), sound or nearly so."""
    watched = [(b"k%d" % rng.randrange(9), rng.randrange(9)) for _ in range(rng.choice([0, 0, 1]))]
    calls = []
    for _ in range(rng.choice([1, 1, 1, 3])):
        name, arity = rng.choice(COMMANDS)
        words = [name] + [b"k%d" % rng.randrange(50) for _ in range(abs(arity) - 1)]
        calls.append(rng.choice([words, words, words + [rng.choice(OPTIONS)], b"+PONG\r\n"]))
    head = [rng.choice([2, 3]), rng.random() < 0.7, len(watched), len(calls)]
    flat = [part for pair in watched for part in pair]
    return b"".join(map(pack, [*head, *flat, *calls]))


def saying(rng):
    """What a node might say of itself (common/wire/census_items.h)."""
    names = ["root", "child", "x", "y", "z" * 64, "", "a b"]
    numbers = [rng.choice([0, 1, 2, 3, 4, 1 << 40, (1 << 64) - 1]) for _ in range(9)]
    return [rng.choice(names), rng.choice(names), *numbers]


def mutated_frame(rng, names):
    """Broken in its bytes, or sound in its checksum and broken inside."""
    name = rng.choice(names)
    whole = message(name, **random_fields(rng, name))
    kind = rng.randrange(4)
    if kind == 0:
        return whole
    if kind == 1:
        return mutate(rng, whole)
    code = rng.choice([MESSAGES[name][0], rng.randrange(20), 65535])
    return frame(code, mutate(rng, whole[16:]))


@pytest.mark.limit(120 + MUTATIONS // 50)
def test_frames_from_children(cluster):
    """Strangers at the peer door of a root: as children and as proxies that fetch."""
    root = cluster.root().start()
    with root.raw() as conn:
        conn.pipeline([("SET", f"k{i}", str(i)) for i in range(50)])
    history = bytes.fromhex(root.call("QS.INDEX", "TOKEN").decode().split(":")[0])
    bystander = Bystander(root)
    bystander.start()
    child = cluster.replica("child", root).start()
    rng = random.Random(f"{SEED}/children")
    names = list(MESSAGES) + ["forward"] * 6
    for number in range(MUTATIONS // 2):
        data = b"".join(mutated_frame(rng, names) for _ in range(rng.choice([1, 2, 4])))
        if rng.random() < 0.8:
            purpose = rng.choice([FOLLOW, FETCH, SNAPSHOT])
            data = hello(purpose, history=history if purpose == FETCH else b"") + data
        with PeerConn(root.peer, timeout=30 * SLOW) as conn:
            try:
                conn.send(data)
            except OSError:
                pass
            assert conn.finish(), f"{number}: not closed after {data!r}"
    bystander.running = False
    bystander.join(30 * SLOW)
    assert bystander.fault is None and bystander.rounds > 0, bystander.fault
    cluster.check_equal(root, child)
    wait_for(lambda: root.metrics()["peers"] <= 2, 20, "the strangers' links to be gone")
    assert root.metrics()["peer_protocol_errors"] > 0


@pytest.mark.limit(120 + MUTATIONS // 20)
@pytest.mark.parametrize("role", ["replica", "proxy"])
def test_frames_from_above(cluster, role):
    """A parent (and a replica) that talks nonsense: the child stands, then follows the real one."""
    root = cluster.root().start()
    history = bytes.fromhex(root.call("QS.INDEX", "TOKEN").decode().split(":")[0])
    listener = socket.create_server(("127.0.0.1", 0))
    address = "127.0.0.1:%d" % listener.getsockname()[1]
    rng = random.Random(f"{SEED}/{role}")
    served = [0]

    def babble():
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            served[0] += 1
            with PeerConn(sock=sock, timeout=2) as conn:
                try:
                    asked = conn.receive_until("hello")
                    if rng.random() < 0.8:
                        conn.send(message("welcome", protocol=PROTOCOL, answer=1,
                                          node="babble", role=1,
                                          history=asked["history"] or history, index=9,
                                          block=9, oldest=1))
                    names = ["blocks", "heartbeat", "welcome", "fetched", "goodbye", "ping", "pong",
                             "tree_page", "forwarded"]
                    for _ in range(rng.choice([1, 2, 4])):
                        noise = rng.randbytes(rng.choice([0, 1, 200]))
                        conn.send(mutated_frame(rng, names) + noise)
                    conn.finish()
                except (OSError, ConnectionError, ValueError, KeyError, AssertionError):
                    pass

    thread = threading.Thread(target=babble, daemon=True)
    thread.start()
    fast = {"reconnect": "10ms", "silence": "1s", "heartbeat": "50ms"}
    if role == "proxy":
        child = cluster.proxy("child", address, [address, root], node=fast, keep_bytes=0, window=0)
    else:
        child = cluster.replica("child", address, node=fast)
    child.launch()
    goal = max(MUTATIONS // 20, 50)
    wait_for(lambda: served[0] >= goal, 60 + goal / 10, f"{goal} conversations")
    child.check_alive()
    child.stop()
    child.instances["main"]["parents"] = [root]
    child.start()
    child.wait_index(root.call("QS.PUT", "a", "1"))
    cluster.check_equal(root, child)
    assert child.call("QS.GET", "a")[0] == b"1"
    listener.close()


def test_frames_unpack_what_they_pack():
    for value in (0, 127, 128, 255, 256, 65535, 65536, 1 << 32, (1 << 64) - 1, b"", b"x" * 300,
                  b"y" * 70000, [1, [2, b"z"], None], {1: b"a", 2: 7}):
        assert unpack(pack(value)) == value
