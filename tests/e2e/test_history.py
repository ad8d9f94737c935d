# SPDX-License-Identifier: Apache-2.0
"""Reads as of an earlier index on every role, against a model; how far back they reach, across
restarts too; that what is below the floor leaves the disk; and reads that wait for an index."""
import random
import threading

import pytest

from model import ABSENT, Model
from qs_cluster import KEEPS_NOTHING, qs, wait_for
from resp import RespError, encode

pytestmark = pytest.mark.once
KEYS = [f"k{i:02}" for i in range(40)]


def write_batch(conn, model, dice):
    """One batch of a few puts and deletes; the model learns it before anybody can know of it."""
    changes = {}
    for key in dice.sample(KEYS, dice.randint(1, 4)):
        put = dice.random() < 0.7 or model.value(key, model.last) is ABSENT
        changes[key] = f"{model.last + 1}:{dice.random()}".encode() if put else ABSENT
    words = [("MULTI",)]
    words += [("SET", k, v) if v is not ABSENT else ("DEL", k) for k, v in changes.items()]
    words += [("QS.INDEX",), ("EXEC",)]
    model.write(model.last + 1, changes)
    index = conn.pipeline(words)[-1][-1]
    assert index == model.last


def check_at(conn, model, t, dice, token=None):
    key = dice.choice(KEYS)
    at = f"{token}:{t}" if token and dice.random() < 0.3 else t
    expected = model.value(key, t)
    assert conn.call("QS.GETAT", key, at) == [expected, model.version(key, t), t]
    start, end = sorted(dice.sample(KEYS, 2))
    limit = dice.randint(1, 50)
    state = sorted(model.state(t).items())
    wanted = [w for k, v in state if start <= k < end for w in (k.encode(), v)][: 2 * limit]
    assert conn.call("QS.RANGE", start, end, "LIMIT", limit, "AT", at) == wanted


def test_as_of_while_writes_run(cluster):
    nodes = cluster.tree()
    root = nodes[0]
    token = root.call("QS.INDEX", "TOKEN").decode().split(":")[0]
    model, done, faults = Model(), threading.Event(), []

    def read(node, seed):
        dice = random.Random(seed)
        try:
            with node.raw() as conn:
                for _ in range(150):
                    visible = conn.call("QS.INDEX")
                    near = dice.random() < 0.3
                    t = dice.randint(max(0, visible - 3) if near else 0, visible)
                    check_at(conn, model, t, dice, token)
        except BaseException as fault:
            faults.append((node.name, fault))

    def write():
        dice = random.Random(1)
        with root.raw() as conn:
            while not done.is_set():
                write_batch(conn, model, dice)

    threads = [threading.Thread(target=read, args=(n, i)) for i, n in enumerate(nodes)]
    writer = threading.Thread(target=write)
    with root.raw() as conn:
        for i in range(200):
            write_batch(conn, model, random.Random(1000 + i))
    cluster.settle()
    writer.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    writer.join()
    assert not faults, faults
    # The proxies did not make it up: they asked.
    for name in ("proxy", "empty"):
        assert cluster.nodes[name].metrics("main")["recalls_sent"] > 0
    # At rest, every node answers every key at every tenth index.
    last = cluster.settle()
    for node in nodes:
        with node.raw() as conn:
            for t in range(0, last + 1, last // 10):
                answers = conn.pipeline([("QS.GETAT", key, t) for key in KEYS])
                assert answers == [[model.value(k, t), model.version(k, t), t] for k in KEYS]
                wanted = [w for k, v in sorted(model.state(t).items()) for w in (k.encode(), v)]
                assert conn.call("QS.RANGE", "", "", "AT", t) == wanted


def test_long_range_of_the_past(cluster):
    """More rows and more bytes than one answer between nodes holds."""
    root = cluster.root().start()
    proxy = cluster.proxy("proxy", root, [root], **KEEPS_NOTHING).start()
    with root.raw() as conn:
        small = {f"a{i:05}".encode(): b"%d" % i for i in range(2500)}
        conn.pipeline([("SET", k, v) for k, v in small.items()])
        large = {f"b{i:02}".encode(): bytes([i]) * 1_000_000 for i in range(20)}
        conn.pipeline([("SET", k, v) for k, v in large.items()])
        t = conn.call("QS.INDEX")
        # Deleted keys stand in the way, too: a page may hold none that were there.
        keys = list(small) + list(large)
        for at in range(0, len(keys), 500):
            conn.call("DEL", *keys[at : at + 500])
    cluster.settle()
    wanted = [word for pair in sorted((small | large).items()) for word in pair]
    for node in (root, proxy):
        with node.raw() as conn:
            assert conn.call("QS.RANGE", "", "", "LIMIT", 5000, "AT", t) == wanted
            assert conn.call("QS.RANGE", "a", "b", "LIMIT", 2499, "AT", t) == wanted[:4998]
            assert conn.call("QS.RANGE", "", "", "LIMIT", 5000) == []
            assert conn.call("QS.RANGE", "c" * 5000, "d" * 5000, "AT", t) == []
            assert conn.call("QS.RANGE", "a" * 5000, "d" * 5000, "LIMIT", 1, "AT", t) == wanted[
                5000:5002
            ]


def test_errors_are_told_apart(cluster):
    root = cluster.root().start()
    proxy = cluster.proxy("proxy", root, [root], fetch="500ms").start()
    alone = cluster.proxy("alone", root, ["127.0.0.1:1"], fetch="300ms").start()
    other = cluster.root("other", instance="main").start()
    foreign = other.call("QS.INDEX", "TOKEN").decode()
    with root.raw() as conn:
        conn.pipeline([("SET", "old", "1"), ("SET", "k", "2"), ("SET", "k", "3"), ("DEL", "k")])
    last = cluster.settle(root, proxy, alone)
    for node in (root, proxy, alone):
        with node.raw() as conn:
            above = conn.call("QS.GETAT", "k", last + 1)
            assert above == RespError(b"BEHIND %d" % last)
            assert conn.call("QS.RANGE", "", "", "AT", last + 9) == RespError(b"BEHIND %d" % last)
            assert conn.call("QS.GETAT", "k", foreign).word == "HISTORY"
            assert conn.call("QS.RANGE", "", "", "AT", foreign).word == "HISTORY"
            assert conn.call("QS.GET", "k", "MININDEX", foreign, 10).word == "HISTORY"
            for bad in ("x", "-1", "", f"{'0' * 31}:1"):
                assert conn.call("QS.GETAT", "k", bad).word == "ERR"
            assert conn.call("QS.GETAT", "", 1).word == "ERR"
            assert conn.call("QS.RANGE", "", "", "AT").word == "ERR"
            assert conn.call("QS.GETAT", "k", 0) == [None, 0, 0]
            assert conn.call("QS.RANGE", "", "", "AT", 0) == []
            assert conn.call("QS.GETAT", "old", 2) == [b"1", 1, 2]
            # Transactions that only read may look back; those that write may not.
            got = conn.pipeline(
                [("MULTI",), ("QS.GETAT", "old", 1), ("QS.RANGE", "", "", "AT", 1), ("EXEC",)]
            )[-1]
            assert got == [[b"1", 1, 1], [b"old", b"1"]] if node is not alone else got[0]
            got = conn.pipeline([("MULTI",), ("QS.GET", "old", "MININDEX", 1, 1), ("EXEC",)])[-1]
            assert "MININDEX" in got[0].decode()
    for node in (root, proxy):
        assert node.call("QS.GETAT", "k", 2) == [b"2", 2, 2]
        assert node.call("QS.GETAT", "k", 3) == [b"3", 3, 3]
    with root.raw() as conn:
        got = conn.pipeline([("MULTI",), ("SET", "x", 1), ("QS.GETAT", "k", 2), ("EXEC",)])[-1]
        assert got[0] == b"OK" and "not allowed" in got[1].decode()
    with alone.raw() as conn:
        assert conn.call("QS.GETAT", "k", 2).word == "UNAVAILABLE"
        assert conn.call("QS.GETAT", "old", 3) == [b"1", 1, 3], "needs nobody"
        assert conn.call("QS.RANGE", "", "", "AT", 2).word == "UNAVAILABLE"
    assert alone.metrics("main")["recalls_failed"] == 3


def test_a_replica_that_is_behind_is_waited_for(cluster):
    root = cluster.root().start()
    middle = cluster.replica("middle", root).start()
    behind = cluster.replica("behind", middle).start()
    proxy = cluster.proxy("proxy", root, [behind], fetch="600ms").start()
    root.call("SET", "k", "1")
    cluster.settle()
    middle.stop()  # so the one replica stands still
    for value in ("2", "3"):
        last = root.call("QS.PUT", "k", value)
    proxy.wait_index(last)
    with proxy.raw() as conn:
        assert conn.call("QS.GETAT", "k", 1) == [b"1", 1, 1]
        assert conn.call("QS.GETAT", "k", 2).word == "BEHIND"
        assert conn.call("QS.RANGE", "", "", "AT", 2).word == "BEHIND"
        assert conn.call("QS.GETAT", "k", 3) == [b"3", 3, 3]
        middle.start()
        behind.wait_index(last)
        assert conn.call("QS.GETAT", "k", 2) == [b"2", 2, 2]


# ---- waiting for an index ----------------------------------------------------------------------


def test_min_index(cluster):
    nodes = cluster.tree()
    root = nodes[0]
    token = root.call("QS.INDEX", "TOKEN").decode().split(":")[0]
    conns = [node.raw() for node in nodes]
    for i in range(1, 60):
        index = root.call("QS.PUT", "k", str(i))
        least = index if i % 2 else f"{token}:{index}"
        for conn in conns:
            value, version, at = conn.call("QS.GET", "k", "MININDEX", least, 20000)
            assert (value, version) == (b"%d" % i, index) and at >= index
            rows = conn.call("QS.MGET", "k", "nothing", "MININDEX", least, 20000)
            assert rows[0][:2] == [b"%d" % i, index] and rows[1][:2] == [None, 0]
    for conn in conns:
        conn.close()


def test_min_index_in_a_pipeline(cluster):
    """What stands behind a read that waits must not be answered from an earlier state."""
    root = cluster.root().start()
    replica = cluster.replica("replica", root).start()
    root.call("SET", "k", "1")
    cluster.settle()
    with replica.raw() as conn, replica.raw() as quick, root.raw() as writer:
        for i in range(2, 40):
            conn.send(encode("GET", "k"))
            conn.send(encode("QS.GET", "k", "MININDEX", i, 20000))
            conn.send(encode("GET", "k"))
            conn.send(encode("PING"))
            assert quick.call("GET", "k") == b"%d" % (i - 1), "another connection is not held up"
            assert writer.call("QS.PUT", "k", str(i)) == i
            assert conn.reply() in (b"%d" % (i - 1), b"%d" % i)
            assert conn.reply() == [b"%d" % i, i, i]
            assert conn.reply() == b"%d" % i
            assert conn.reply() == b"PONG"
            replica.wait_index(i)
        # The limit; zero is no wait; and the connection goes on.
        for ms in (0, 50):
            conn.send(encode("QS.GET", "k", "MININDEX", 100, ms))
            conn.send(encode("GET", "k"))
            assert conn.reply() == RespError(b"BEHIND 39")
            assert conn.reply() == b"39"
        for bad in ("-1", "x", "99999999999999999999"):
            assert conn.call("QS.GET", "k", "MININDEX", 1, bad).word == "ERR"
        for words in (("MININDEX",), ("MININDEX", 1), ("LEAST", 1, 1), ("MININDEX", 1, 1, 1)):
            assert conn.call("QS.GET", "k", *words).word == "ERR"
        # A client that leaves while it waits leaves nothing behind.
        gone = replica.raw()
        gone.send(encode("QS.GET", "k", "MININDEX", 100, 3600000))
        gone.close()
        assert conn.call("QS.GET", "k", "MININDEX", 39, 0) == [b"39", 39, 39]
    replica.stop()


def test_command_line(cluster):
    root = cluster.root().start()
    address = ["-s", str(root.socket)]
    for value in ("1", "2"):
        root.call("SET", "k", value)
    assert qs(*address, "get", "k", "--at", 1) == (0, b"1\n", b"")
    assert qs(*address, "get", "k", "--min-index", 2) == (0, b"2\n", b"")
    code, _, error = qs(*address, "get", "k", "--min-index", 3, "--wait", 10)
    assert code == 3 and b"BEHIND 2" in error
    assert qs(*address, "get", "k", "--at", 0)[0] == 1
    assert qs(*address, "--json", "get", "k", "--at", 1)[1] == (
        b'{"key": "k", "found": true, "value": "1", "version": 1, "index": 1}\n'
    )
    assert qs(*address, "range", "", "", "--at", 1) == (0, b"k\t1\n", b"")
    assert qs(*address, "get", "k", "--at", 1, "--min-index", 1)[0] == 2
    assert qs(*address, "get", "k", "--wait", 1)[0] == 2


# ---- how far back ------------------------------------------------------------------------------


def floor_of(node):
    return int(node.metrics("main")["history_floor"])


def test_floor_rises_with_age_and_survives(cluster):
    root = cluster.root(history="1s").start()
    replica = cluster.replica("replica", root, history="1h").start()
    proxy = cluster.proxy("proxy", root, [root], fetch="500ms").start()
    for i in range(1, 31):
        root.call("SET", "k", str(i))
    cluster.settle()
    wait_for(lambda: floor_of(root) >= 30, 30, "the floor to rise with age")
    for node in (root, proxy):
        with node.raw() as conn:
            assert conn.call("QS.GETAT", "k", 29).word == "GONE"
            assert conn.call("QS.RANGE", "", "", "AT", 29).word == "GONE"
            assert conn.call("QS.GETAT", "k", 30) == [b"30", 30, 30]
    assert replica.call("QS.GETAT", "k", 7) == [b"7", 7, 7]
    # One replica is enough that still has it.
    both = cluster.proxy("both", root, [root, replica]).start()
    cluster.settle()
    wait_for(lambda: both.metrics("main")["replicas_connected"] == 2, 30, "both replicas")
    for t in range(1, 31):
        assert both.call("QS.GETAT", "k", t) == [b"%d" % t, t, t]
    root.kill()
    root.start()
    assert floor_of(root) >= 30
    with root.raw() as conn:
        assert conn.call("QS.GETAT", "k", 29).word == "GONE"
    replica.restart()
    assert replica.call("QS.GETAT", "k", 7) == [b"7", 7, 7]


@pytest.mark.parametrize("harm", ("damaged", "missing"))
def test_a_lost_floor_is_on_the_safe_side(cluster, harm):
    root = cluster.root().start()
    for i in range(1, 31):
        root.call("SET", "k", str(i))
    assert root.call("QS.GETAT", "k", 3) == [b"3", 3, 3]
    root.stop()
    path = root.data / "main" / "history_floor"
    if harm == "missing":
        path.unlink()
    else:
        data = bytearray(path.read_bytes())
        data[3] ^= 1
        path.write_bytes(data)
    root.start()
    assert harm in root.tail()
    with root.raw() as conn:
        assert conn.call("QS.GETAT", "k", 29).word == "GONE"
        assert conn.call("QS.GETAT", "k", 30) == [b"30", 30, 30]
        conn.call("SET", "k", "31")
        assert conn.call("QS.GETAT", "k", 30) == [b"30", 30, 30]


def overwrite(node, rounds, keys, size):
    dice = random.Random(5)
    with node.raw() as conn:
        for _ in range(rounds):
            conn.pipeline([("SET", f"key{i:05}", dice.randbytes(size)) for i in range(keys)])


def history_bytes(node):
    return node.metrics("main")["history_rows_bytes"]


def test_collection_frees_the_disk(cluster):
    """Nothing is written any more: only the hand makes compactions look at the rows."""
    root = cluster.root(history="2s", memtable="1MB").start()
    overwrite(root, 12, 1000, 2000)
    assert history_bytes(root) > 5e6
    wait_for(lambda: history_bytes(root) < 1.1e6, 60, "the history to leave the disk")
    # The files change places before the step is counted.
    wait_for(lambda: root.metrics("main")["history_compactions"] > 0, 20, "a step of the hand")
    assert root.metrics("main")["history_collected"] > 8000
    last = root.index()
    assert root.call("QS.GETAT", "key00007", last)[0] == root.call("GET", "key00007")


@pytest.mark.long
def test_the_disk_is_bounded_while_writes_run(cluster):
    """What is written in all grows without end; what the history takes does not."""
    root = cluster.root(history="1s", memtable="1MB").start()
    done, written, faults = threading.Event(), [0], []

    def write():
        dice = random.Random(6)
        try:
            with root.raw() as conn:
                while not done.wait(0.02):  # so that a second's worth is a small part of all
                    keys = dice.sample(range(2000), 40)
                    conn.pipeline([("SET", f"key{i}", dice.randbytes(2000)) for i in keys])
                    written[0] += len(keys) * 2000
        except BaseException as fault:
            faults.append(fault)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        wait_for(
            lambda: faults or (written[0] > 3e7 and history_bytes(root) < written[0] / 4),
            120, "the history to be a small part of what was written",
        )
    finally:
        done.set()
        writer.join()
    assert not faults
    assert root.metrics("main")["history_cut"] == 0


def test_history_bytes_bounds_the_disk(cluster):
    """The floor rises long before the age would have it rise, and no further than it must."""
    limit = 4 << 20
    root = cluster.root(history="1h", history_bytes=limit, memtable="1MB").start()
    overwrite(root, 12, 1000, 2000)
    wait_for(lambda: history_bytes(root) < limit, 60, "the history to fit its limit")
    metrics = root.metrics("main")
    assert metrics["history_cut"] > 0
    assert 0 < metrics["history_floor"] < metrics["visible_index"] - 200
    floor = int(metrics["history_floor"])
    with root.raw() as conn:
        assert conn.call("QS.GETAT", "key00000", floor)[0] is not None
        assert conn.call("QS.GETAT", "key00000", floor - 1).word == "GONE"
