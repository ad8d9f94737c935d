# SPDX-License-Identifier: Apache-2.0
"""Reads from memory that a daemon shares: what they answer, and when they cease to."""
import itertools
import os
import random
import re
import shutil
import socket

import pytest

import test_libqs
from qs_cluster import wait_for
from test_evict import Values, within
from test_heal import alter, scan
from test_libqs import PATIENCE, connect, qs, sessions

pytestmark = test_libqs.pytestmark
SHARED = {"share_memory": "yes"}


def commands(node):
    return node.metrics()["commands"]


def maps(node):
    return node.metrics("main")["maps"]


def writes(node):
    return node.metrics("main")["writes"]


def warm(node, db):
    """Until the handle has mapped what the node shares."""
    before = maps(node)

    def is_mapped():
        for _ in range(40):
            db.get("nothing")
        return maps(node) > before

    wait_for(is_mapped, 30, "a mapping")


def asked(node, call, times=100):
    """How many commands the node was sent for so many calls."""
    before = commands(node)
    for _ in range(times):
        call()
    return commands(node) - before


def wait_silent(node, call, what):
    wait_for(lambda: asked(node, call) == 0, 30, what)


def test_absent_and_hot(cluster):
    """Neither costs a command, on any role; what is written is seen by the next read."""
    root = cluster.root(**SHARED).start()
    replica = cluster.replica("replica", root, forward_writes="yes", **SHARED).start()
    proxy = cluster.proxy("proxy", replica, [replica], forward_writes="yes", **SHARED).start()
    for node in (replica, proxy):
        wait_for(lambda: node.place()["parent"]["connected"], 30, f"{node.name} to follow")
    for node in (root, replica, proxy):
        with connect(node) as db:
            absent_and_hot(node, db)
        with connect(node, shared="none") as db:
            assert asked(node, lambda: db.get("absent")) >= 100


def absent_and_hot(node, db):
    key = f"{node.name}/hot"
    db.put(key, "1")
    warm(node, db)
    wait_silent(node, lambda: db.get("absent"), "absent keys to be known")
    wait_silent(node, lambda: db.get(key), "a hot value to be shared")
    assert db.row(key).value == b"1" and db.exists(key)
    for number in range(100):
        version = db.put(key, str(number))
        row = db.row(key)
        assert row.value == str(number).encode() and row.version == version <= row.index
    many(node, db, key)
    db.delete(key)
    assert db.get(key) is None and not db.exists(key)
    db.put("absent", "now")
    assert db.get("absent") == b"now" and db.exists("absent")
    db.delete("absent")
    with pytest.raises(qs.KeySize):
        db.get("k" * 1025)
    with pytest.raises(qs.KeySize):
        db.get("")
    used = node.metrics("main")["hot_used"]
    db.put(key, "2")

    def is_used():
        assert db.get(key) == b"2"
        return node.metrics("main")["hot_used"] > used

    wait_for(is_used, 30, "the daemon to learn what was read")


def many(node, db, key):
    """Several keys: known ones cost no command, others one for all of them; all of one state."""
    wait_silent(node, lambda: db.get(key), "a hot value to be shared")
    value = db.get(key)
    assert [row.value for row in db.get_many(["absent", key])] == [None, value]
    assert asked(node, lambda: db.get_many(["absent", key, "gone"])) == 0
    cold = f"{node.name}/cold"
    for number in range(50):
        version = db.put(cold, str(number))
        rows = db.get_many(["absent", cold, key, cold])
        assert [row.value for row in rows] == [None, str(number).encode(), value] + [rows[1].value]
        assert len({row.index for row in rows}) == 1 and rows[0].index >= version
        assert rows[1].version == rows[3].version == version
    with pytest.raises(qs.KeySize):
        db.get_many(["absent", key, ""])


def test_false_positives(cluster):
    """A filter that takes many absent keys for present: the daemon is not asked again and again."""
    root = cluster.root(filter_bits=1, **SHARED).start()
    with connect(root) as db, root.client() as client:
        pipe = client.pipeline(transaction=False)
        for number in range(100000):
            pipe.set(f"k{number}", "x")
        pipe.execute()
        warm(root, db)
        names = [f"none{number}" for number in range(500)]
        false = sum(asked(root, lambda: db.get(name), 1) for name in names)
        assert false > 10, "this filter has false positives"
        look = lambda: [db.get(name) for name in names]
        wait_for(lambda: asked(root, look, 1) == 0, 60, "absent keys to be shared")
        assert db.get(names[0]) is None
        assert root.metrics("main")["hot_fills"] >= false


def test_without_it(cluster):
    """Nothing is shared: not by default, not over TCP, not in a transaction."""
    other = cluster.root("other").start()
    with other.raw() as conn:
        assert b"share_memory" in conn.call("QS.MAP")
    with connect(other) as db:
        db.put("a", "1")
        for _ in range(200):
            assert db.get("a") == b"1" and db.get("b") is None
    root = cluster.root(**SHARED)
    port = int(root.admin.rpartition(":")[2]) + 1
    root.configure(client=[f"unix:{root.socket}", f"127.0.0.1:{port}"])
    root.start()
    with qs.open(f"127.0.0.1:{port}", timeout=PATIENCE) as db:
        db.put("a", "1")
        for _ in range(200):
            assert db.get("a") == b"1" and db.get("b") is None
    assert maps(root) == 0
    with root.raw() as conn:
        assert conn.call("MULTI") == b"OK"
        assert conn.call("QS.MAP").word == "ERR"


def test_descriptors(cluster):
    """They come with their answer, sealed, and none is left behind."""
    root = cluster.root(**SHARED).start()
    root.call("SET", "a", "1")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(str(root.socket))
        sock.sendall(b"GET a\r\nQS.MAP\r\nGET a\r\n")
        data, fds = b"", []
        while data.count(b"$1") < 2:
            piece, more, _, _ = socket.recv_fds(sock, 4096, 8)
            assert piece
            data, fds = data + piece, fds + more
    # What leaves before it may still be on its way: then it is refused, and may be asked for again.
    assert re.fullmatch(rb"\$1\r\n1\r\n(:4|-ERR [^\r]*)\r\n\$1\r\n1\r\n", data), data
    assert len(fds) == (4 if b":4" in data else 0)
    for fd in fds:
        with pytest.raises(OSError):
            os.ftruncate(fd, 0)
        os.close(fd)
    place = f"/proc/{root.process.pid}/fd"
    opened = len(os.listdir(place))
    for _ in range(50):
        with connect(root) as db:
            for _ in range(40):
                db.get("b")
    assert maps(root) > 40
    wait_for(lambda: len(os.listdir(place)) <= opened, 30, "closed descriptors")


def test_killed_and_begun_again(cluster):
    """A dead daemon's memory answers nobody but who asked for that; after a start, nobody."""
    root = cluster.root(**SHARED).start()
    with connect(root, timeout=1.0) as live, connect(root, shared="static") as static:
        version = live.put("hot", "1")
        for db in (live, static):
            warm(root, db)
            wait_silent(root, lambda: db.get("hot"), "a hot value to be shared")
        for again in range(3):
            root.kill()
            for _ in range(100):
                assert static.row("hot").version == version and static.get("no") is None
            with pytest.raises((qs.Closed, qs.Timeout)):
                live.get("absent")
            root.start()
            # By another connection, at once: who has the dead daemon's memory must not believe it.
            root.call("SET", "absent", again)
            version = root.call("QS.PUT", "hot", "1")
            for db in (static, live):
                assert db.get("absent") == str(again).encode()
                assert db.row("hot").version == version
            root.call("DEL", "absent")
            for db in (static, live):
                wait_silent(root, lambda: (db.get("hot"), db.get("no")), "a mapping of the new one")
        root.stop()
        assert static.get("no") is None
        with pytest.raises((qs.Closed, qs.Timeout)):
            live.get("absent")
        root.instances["main"]["share_memory"] = "no"
        root.start()
        root.call("SET", "absent", "now")
        assert static.get("absent") == live.get("absent") == b"now"


@pytest.mark.parametrize("shared", ["live", "static"])
def test_file_is_cut(cluster, shared):
    """Whoever cuts the one file that is not sealed ends no program, and no answer is wrong."""
    root = cluster.root(**SHARED).start()
    with connect(root, shared=shared, timeout=1.0) as db:
        version = db.put("hot", "1")
        warm(root, db)
        wait_silent(root, lambda: (db.get("hot"), db.get("no")), "a mapping")
        os.truncate(root.data / "main" / "incarnation", 0)
        assert asked(root, lambda: (db.get("hot"), db.get("no"))) == 0
        assert db.row("hot").version == version and db.get("no") is None
        root.kill()
        with pytest.raises((qs.Closed, qs.Timeout)):
            db.get("hot")
        root.start()
        root.call("SET", "no", "now")
        assert db.get("no") == b"now" and db.get("hot") == b"1"


@pytest.mark.parametrize("shared", ["live", "static"])
def test_another_history(cluster, shared):
    """The memory of another history is not taken for that of the one that was seen."""
    root, other = cluster.root(**SHARED).start(), cluster.root("other", **SHARED).start()
    address = cluster.sockets / "moving"
    address.symlink_to(root.socket)
    other.call("SET", "a", "other")
    with qs.open(f"unix:{address}", timeout=PATIENCE, shared=shared) as db:
        db.put("b", "1")
        warm(root, db)
        assert db.get("a") is None
        root.kill()
        address.unlink()
        address.symlink_to(other.socket)
        if shared == "static":
            assert db.get("a") is None
        with pytest.raises(qs.History):
            db.get("a" if shared == "live" else "b")
        assert maps(other) == 0
        db.forget()
        assert db.get("a") == b"other"
        wait_silent(other, lambda: (db.get("a"), db.get("b")), "the other's memory")
        assert db.get("a") == b"other" and db.get("b") is None


@pytest.mark.parametrize("role", ["replica", "proxy"])
def test_repaired(cluster, role):
    """What was mapped of a damaged store is not believed once another has taken its place, though
    no block came between."""
    root = cluster.root().start()
    options = {"walk_every": 0, **SHARED}
    if role == "proxy":
        node = cluster.proxy("proxy", root, [root], **options).start()
    else:
        node = cluster.replica("replica", root, **options).start()
    root.call("SET", "lost", "x")
    version = root.call("QS.PUT", "stale", "old")
    root.call("QS.PUT", "stale", "new")
    node.wait_index(root.index())
    node.stop()
    alter(node, role, "drop", "lost")
    alter(node, role, "put", "stale", str(version), "old")
    node.start()
    wait_for(lambda: node.place()["parent"]["connected"], 30, "the node to follow")
    with connect(node) as db:
        warm(node, db)
        wait_silent(node, lambda: (db.get("lost"), db.get("stale")), "the damage to be shared")
        assert db.get("lost") is None and db.get("stale") == b"old"
        assert scan(node).word == "DIVERGED"
        wait_for(lambda: node.call("GET", "lost") == b"x", 60, "the repair")
        assert db.get("lost") == b"x" and db.exists("lost") and db.get("stale") == b"new"
        assert node.metrics("main")["boards"] == 2


@pytest.mark.parametrize("share", ["yes", "no"])
def test_directory_made_anew(cluster, share):
    """A static handle learns of a daemon that has nothing of what the one before had."""
    root = cluster.root().start()
    node = cluster.replica("replica", root, **SHARED).start()
    root.call("SET", "a", "1")
    node.wait_index(root.index())
    with connect(node, shared="static") as static:
        warm(node, static)
        wait_silent(node, lambda: static.get("absent"), "the filter to be mapped")
        node.kill()
        assert static.get("absent") is None
        shutil.rmtree(node.data)
        node.data.mkdir()
        root.call("SET", "absent", "now")
        node.instances["main"]["share_memory"] = share
        node.start()
        wait_for(lambda: static.get("absent") == b"now", 30, "the new daemon's answer")


def use(node, db, keys):
    """Reads all of them, until the daemon has learned of it; how many commands that took."""
    used, before = node.metrics("main")["hot_used"], commands(node)
    for key in keys:
        assert db.get(key) is not None
    sent = commands(node) - before
    wait_for(lambda: node.metrics("main")["hot_used"] >= used + len(keys) / 2, 30, "a sweep")
    return sent


def evicted(proxy, values, conn, numbers):
    """How many of them the store no longer holds: ranges do not look into the table of hot keys."""
    before = proxy.metrics("main")["fetch_misses"]
    for number in numbers:
        key = values.key(number)
        got = conn.call("QS.RANGE", key, key + "~")
        assert got == [key.encode(), values.value(number)], got
    return proxy.metrics("main")["fetch_misses"] - before


@pytest.mark.long
@pytest.mark.once
@pytest.mark.unsanitized("shares of values: the steps are those of other tests")
@pytest.mark.limit(300)
def test_use_counts_for_eviction(cluster, say):
    """Values that are used by shared memory alone stay in a full cache as long as those that are
    asked for over a socket, others of their kind go."""
    # Small ones lie between large ones everywhere: what is rewritten is chosen by what can go.
    small, cold = Values(300), Values(16 << 10)
    mapped, asked_for, idle = (range(at, at + 200) for at in (1_000_000, 2_000_000, 3_000_000))
    used, count = len(mapped), 3 * (64 << 20) // cold.size
    root = cluster.root().start()
    proxy = cluster.proxy(
        "proxy", root, [root], window="100ms", fetch="30s",
        cache={"max_bytes": "64MB"}, **SHARED,
    ).start()
    keys = [small.key(n) for n in mapped]
    for numbers in (mapped, asked_for, idle):
        small.write(root, numbers)
    for first in range(0, count, 200):
        cold.write(root, range(first, first + 200))
    cluster.settle()
    within(proxy)
    order = random.Random(4).sample(range(count), count)
    storms = itertools.cycle(order[at : at + 400] for at in range(0, count, 400))
    groups = [idle[at::10] for at in range(10)]  # of idle ones: to look is to use
    with connect(proxy) as db, proxy.raw() as conn:
        warm(proxy, db)
        for numbers in (mapped, asked_for, idle) * 2:
            small.read(conn, numbers)
        wait_silent(proxy, lambda: [db.get(key) for key in keys], "values to be shared")
        every = [*mapped, *asked_for, *idle]  # what the table answers is not kept by the store anew
        wait_for(lambda: evicted(proxy, small, conn, every) == 0, 60, "all to be in the store")
        sent = steps = gone = 0
        while groups and gone < used / 20:
            for _ in range(8):
                some = next(storms)
                cold.write(root, some)
                cold.read(conn, some)
                small.read(conn, asked_for)
                sent += use(proxy, db, keys)
                steps += 1
                # Where rewriting falls behind, younger values go than were to go.
                within(proxy)
            gone = evicted(proxy, small, conn, groups.pop())
        rest = [n for group in groups for n in group]
        gone += evicted(proxy, small, conn, rest)
        lost, too = (evicted(proxy, small, conn, numbers) for numbers in (mapped, asked_for))
    say(
        f"after {steps} steps: of {used} values used by shared memory {lost:.0f} were evicted, "
        f"of as many asked for {too:.0f}, of {len(rest) + 20} that were neither {gone:.0f}; "
        f"{sent} commands for {steps * used:,} uses"
    )
    assert proxy.metrics("main")["values_evicted"] > 1000
    # Both are chosen at random from what was read as lately as the large ones: some go, too.
    assert gone / (len(rest) + 20) >= too / used + 0.15
    assert lost / used <= too / used + 0.12
    assert sent <= steps * used / 20


@pytest.mark.parametrize("role", ["root", "proxy"])
def test_threads_and_kills(cluster, say, role):
    """All doors of one handle at once, under writes, while the daemon is killed."""
    root = cluster.root(**SHARED).start()
    node = root
    if role == "proxy":
        node = cluster.proxy("proxy", root, [root], forward_writes="yes", keep_bytes=0, **SHARED)
        node.start()
        wait_for(lambda: node.place()["parent"]["connected"], 30, "the proxy to follow")
    with sessions(node) as process:
        for cycle in range(4):
            before = writes(root)
            wait_for(lambda: maps(node) > 0 and writes(root) > before + 60, 60, "reads, writes")
            assert process.poll() is None
            if cycle < 3:
                node.kill()
                node.start()
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0
    say(f"3 kills: {out.strip()}")
