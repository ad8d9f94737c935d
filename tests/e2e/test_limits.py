# SPDX-License-Identifier: Apache-2.0
"""Every limit has a name and answers its named error; memory stays bounded beside it."""
import contextlib
import os
import threading

import pytest

from qs_cluster import KEEPS_NOTHING, SLOW, wait_for
from resp import RawConn, RespError, encode

MIB = 1 << 20


def test_key_value_batch(cluster):
    root = cluster.root(value_bytes="1MB", batch_entries=100, batch_bytes="2MB").start()
    with root.raw() as conn:
        index = conn.call("QS.INDEX")
        key = b"ERR invalid key length, 1 to 1024 bytes are allowed"
        for words in (("SET", b"k" * 1025, "v"), ("SET", "", "v"), ("QS.PUT", b"k" * 1025, "v"),
                      ("MSET", "a", "1", b"k" * 1025, "v"), ("DEL", ""),
                      ("QS.DELETE", b"k" * 1025)):
            reply = conn.call(*words)
            assert reply == key or words[0] == "DEL" and reply == 0, (words[0], reply)
        for words in (("SET", "a", b"v" * (MIB + 1)), ("MSET", "a", b"v" * (MIB + 1))):
            assert conn.call(*words) == b"ERR value exceeds value_bytes"
        batch = b"ERR batch exceeds batch_entries or batch_bytes"
        words = [word for i in range(101) for word in (f"k{i}", "v")]
        assert conn.call("MSET", *words) == batch
        assert conn.call("MSET", *words[:200]) == b"OK"
        assert conn.call("MSET", "x", b"v" * MIB, "y", b"v" * MIB, "z", b"v" * 1000) == batch
        assert conn.call("GET", "x") is None and conn.call("EXISTS", "k100") == 0
        assert conn.call("QS.INDEX") == index + 1
        assert conn.call("SET", b"k" * 1024, b"v" * MIB) == b"OK"
        conn.call("MULTI")
        for i in range(100):
            assert conn.call("SET", f"m{i}", "v") == b"QUEUED"
        reply = conn.call("SET", "m100", "v")
        assert reply == b"ERR transaction exceeds batch_entries commands"
        assert conn.call("EXEC").word == "EXECABORT"
        assert conn.call("EXISTS", "m0") == 0


def test_reply(cluster):
    """The reply's size is known from stored lengths: nothing is fetched for an error."""
    node = {"reply_bytes": "1MB"}
    root = cluster.root(node=node).start()
    proxy = cluster.proxy("proxy", root, [root], node=node, **KEEPS_NOTHING).start()
    with root.raw() as conn:
        conn.pipeline([("SET", f"k{i}", b"v" * 100_000) for i in range(20)])
    cluster.settle()
    limit = b"ERR reply exceeds reply_bytes"
    keys = [f"k{i}" for i in range(20)]
    for each in (root, proxy):
        with each.raw() as conn:
            assert conn.call("MGET", *keys) == limit
            assert conn.call("QS.MGET", *keys) == limit
            assert conn.call("QS.RANGE", "k", "l") == limit
            if each is proxy:
                assert proxy.metrics("main")["fetch_sent"] == 0
            assert len(conn.call("MGET", *keys[:5])) == 5
            assert len(conn.call("QS.RANGE", "k", "l", "LIMIT", "5")) == 10


def test_reply_of_a_transaction(cluster):
    """One that reads more than a reply may hold is refused whole: nothing of it is written."""
    root = cluster.root(node={"reply_bytes": "1MB"}).start()
    with root.raw() as conn:
        conn.pipeline([("SET", f"k{i}", b"v" * 100_000) for i in range(20)])
        index = conn.call("QS.INDEX")
        conn.call("MULTI")
        conn.call("SET", "before", "1")
        for i in range(20):
            assert conn.call("GET", f"k{i}") == b"QUEUED"
        conn.call("SET", "behind", "1")
        assert conn.call("EXEC") == b"ERR reply exceeds reply_bytes"
        assert conn.call("EXISTS", "before", "behind") == 0
        assert conn.call("QS.INDEX") == index


def test_keys_and_cursors(cluster):
    root = cluster.root(node={"keys_max": 100, "cursors_max": 4}).start()
    with root.raw() as conn:
        conn.pipeline([("SET", f"k{i}", "v") for i in range(300)])
        assert conn.call("KEYS", "*") == b"ERR result exceeds keys_max, use SCAN"
        assert len(conn.call("KEYS", "k1?")) == 10
        for _ in range(20):
            cursor, page = conn.call("SCAN", "0", "COUNT", "10")
            assert page and cursor != b"0"
        # The newest is known; whatever an old or invented one means, it is answered.
        assert conn.call("SCAN", cursor, "COUNT", "10")[1]
        reply = conn.call("SCAN", "123456789", "COUNT", "10")
        assert isinstance(reply, (list, RespError))


def send_too_much(conn, data):
    """The other side may close while the last of it is on the way; its answer stands before."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        conn.send(data)


def test_request(cluster):
    root = cluster.root(node={"request_bytes": "64KB"}).start()
    with root.raw() as conn:
        assert conn.call("SET", "a", b"v" * 60_000) == b"OK"
        send_too_much(conn, encode("SET", "a", b"v" * 70_000))
        reply = conn.reply()
        assert isinstance(reply, RespError) and b"request_bytes" in reply, reply
    with root.raw() as conn:
        send_too_much(conn, b"PING " + b"x" * 70_000)
        assert conn.reply() == b"ERR Protocol error: too big inline request"
        assert conn.closed()
    assert root.call("STRLEN", "a") == 60_000


def test_clients(cluster):
    root = cluster.root(node={"clients_max": 5}).start()
    wait_for(lambda: root.metrics()["clients"] == 0, 10, "the door to be empty")
    held = [root.raw() for _ in range(5)]
    assert all(conn.call("PING") == b"PONG" for conn in held)
    with RawConn(root.socket) as conn:
        assert conn.reply() == b"ERR max number of clients reached"
        assert conn.closed()
    assert root.metrics()["clients_refused"] >= 1
    held.pop().close()

    def again():
        with RawConn(root.socket) as late:
            return late.call("PING") == b"PONG"

    wait_for(lambda: tolerant(again), 10, "a free place")
    assert held[0].call("PING") == b"PONG"


def tolerant(action):
    try:
        return action()
    except (OSError, ValueError):
        return False


def test_pipeline(cluster):
    """More commands than pipeline_max: reading pauses, every answer comes, in order."""
    root = cluster.root(node={"pipeline_max": 16}).start()
    with root.raw() as conn:
        requests = []
        for i in range(3000):
            requests.append(("SET", f"p{i % 7}", str(i)) if i % 3 else ("GET", f"p{i % 7}"))
        requests += [("ECHO", str(i)) for i in range(2000)]
        replies = []
        sender = threading.Thread(target=conn.send, args=(b"".join(encode(*r) for r in requests),))
        sender.start()
        replies = [conn.reply() for _ in requests]
        sender.join()
    assert replies[3000:] == [b"%d" % i for i in range(2000)]
    model = {}
    for words, reply in zip(requests[:3000], replies):
        if words[0] == "SET":
            assert reply == b"OK"
            model[words[1]] = words[2].encode()
        else:
            assert reply == model.get(words[1])
    assert root.metrics()["client_pauses"] > 0


def test_a_client_that_does_not_read(cluster):
    """Replies wait up to output_bytes; then this client is paused, memory stays, others go on."""
    root = cluster.root(node={"output_bytes": "1MB", "reply_bytes": "1MB"}).start()
    with root.raw() as conn:
        conn.call("SET", "big", b"v" * 500_000)
    before, _ = root.memory()
    lazy = root.raw(timeout=2)
    try:
        lazy.sock.settimeout(1)
        for _ in range(2000):
            lazy.send(encode("GET", "big") * 20)
    except OSError:
        pass
    assert root.call("PING") == b"PONG"
    assert root.metrics()["client_pauses"] > 0
    after, _ = root.memory()
    assert after - before < 100 * MIB * SLOW, f"{(after - before) / MIB:.0f} MiB"
    lazy.close()


def test_submit_queue(cluster, say):
    """Writes beyond submit_queue are refused by name; what was accepted is there."""
    root = cluster.root(submit_queue="1MB").start()
    accepted, refused = 0, 0
    conns = [root.raw() for _ in range(8)]
    for i, conn in enumerate(conns):
        conn.send(b"".join(encode("SET", f"s{i}:{j}", b"v" * 100_000) for j in range(10)))
    for conn in conns:
        for _ in range(10):
            reply = conn.reply()
            if reply == b"OK":
                accepted += 1
            else:
                assert reply == b"ERR a limit on work under way is reached, try again", reply
                refused += 1
        conn.close()
    assert root.call("DBSIZE") == accepted and accepted > 0
    say(f"accepted {accepted}, refused {refused}")


@pytest.mark.long
def test_big_delete_bounds_memory(cluster, say):
    """A DEL of many values of 1 MiB: a replica turns them to history without holding them all."""
    if SLOW > 1:
        pytest.skip("a sanitizer keeps freed memory: only the release build's peak means anything")
    count = int(os.environ.get("BIG_VALUES", 600))
    bound = 300 * MIB
    small = {"memtable": "8MB", "apply_chunk": "8MB", "replay_bytes": "64MB"}
    node = {"block_cache": "32MB"}
    root = cluster.root(node=dict(node), **small).start()
    replica = cluster.replica("replica", root, node=dict(node), **small).start()
    with root.raw(timeout=120) as conn:
        for at in range(0, count, 10):
            value = at.to_bytes(4, "big") * (MIB // 4)
            replies = conn.pipeline([("SET", f"big{at + i}", value) for i in range(10)])
            assert replies == [b"OK"] * 10
        index = conn.call("QS.INDEX")
        replica.wait_index(index, seconds=120)
        peaks = Peaks([root, replica])
        assert conn.call("DEL", *[f"big{i}" for i in range(count)]) == count
        replica.wait_index(index + 1, seconds=120)
        peaks.stop()
    cluster.check_equal()
    assert replica.call("DBSIZE") == 0
    for name, peak in peaks.highest.items():
        say(f"{name}: peak {peak / MIB:.0f} MiB, bound {bound / MIB:.0f} MiB")
        assert peak < bound, f"{name}: {peak / MIB:.0f} MiB"


class Peaks:
    """Watches the resident memory of nodes."""

    def __init__(self, nodes):
        self.nodes, self.highest = nodes, {node.name: 0 for node in nodes}
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self):
        while not self.ended.wait(0.01):
            for node in self.nodes:
                self.highest[node.name] = max(self.highest[node.name], node.memory()[0])

    def stop(self):
        self.ended.set()
        self.thread.join()
