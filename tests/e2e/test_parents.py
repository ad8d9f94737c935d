# SPDX-License-Identifier: Apache-2.0
"""A tree that heals and grows by itself: with default times, under reads and writes."""
import os
import random
import signal
import threading
import time

import pytest

from qs_cluster import KEEPS_NOTHING, wait_for
from resp import RespError

# The defaults, not what makes other tests quick.
PATIENT = {"heartbeat": None, "reconnect": None}
KEYS = 300


def parent_of(node):
    """The name of the parent that blocks come from, None while there is none."""
    upstream = node.place()["parent"]
    return upstream["node"] if upstream and upstream["connected"] else None


class Reader(threading.Thread):
    """Reads on one connection: what was put is there, what was not is not, nothing goes back."""

    def __init__(self, node, ended):
        super().__init__(name=f"reader of {node.name}")
        self.node, self.ended, self.reads, self.fault, self.slowest = node, ended, 0, None, 0.0

    def step(self, conn, rng, seen):
        key = rng.randrange(KEYS)
        began = time.monotonic()
        value, version, index = conn.call("QS.GET", f"key:{key}")
        assert conn.call("QS.GET", f"absent:{key}")[1] == 0
        self.slowest = max(self.slowest, time.monotonic() - began)
        assert index >= seen["index"], "the index went back"
        assert int(value.split(b":")[0]) == key
        assert version >= seen.get(key, 0), "a version went back"
        seen.update({"index": index, key: version})
        self.reads += 1

    def run(self):
        rng, seen = random.Random(self.node.name), {"index": 0}
        try:
            with self.node.raw(timeout=30) as conn:
                while not self.ended.is_set():
                    self.step(conn, rng, seen)
        except Exception as fault:  # told by the test
            self.fault = f"{self.node.name}: {type(fault).__name__}: {fault}"


class Writer(threading.Thread):
    def __init__(self, root, ended):
        super().__init__(name="writer")
        self.root, self.ended, self.index, self.fault = root, ended, 0, None

    def run(self):
        rng = random.Random(1)
        with self.root.raw(timeout=30) as conn:
            while not self.ended.wait(0.01):
                key = rng.randrange(KEYS)
                reply = conn.call("QS.PUT", f"key:{key}", f"{key}:{rng.random()}")
                if isinstance(reply, RespError):
                    self.fault = reply
                    return
                self.index = reply


@pytest.fixture
def five(cluster):
    """root <- left, right; a replica and a proxy that hang on the left one and know all."""
    root = cluster.root(node=dict(PATIENT)).start()
    left = cluster.replica("left", root, node=dict(PATIENT)).start()
    right = cluster.replica("right", root, node=dict(PATIENT)).start()
    parents = {"parents": [left, right, root]}
    replica = cluster.replica("replica", left, node=dict(PATIENT), **parents).start()
    proxy = cluster.proxy("proxy", left, [left, right], node=dict(PATIENT),
                          **(parents | KEEPS_NOTHING)).start()
    with root.raw() as conn:
        conn.pipeline([("QS.PUT", f"key:{i}", f"{i}:first") for i in range(KEYS)])
    cluster.settle()
    return root, left, right, replica, proxy


@pytest.mark.parametrize("harm", ["kill", "freeze"])
def test_an_intermediate_is_lost(cluster, five, say, harm):
    root, left, right, replica, proxy = five
    for child in (replica, proxy):
        wait_for(lambda: parent_of(child) == "left", 20, "both children on the left")
    before = {node.name: node.metrics("main") for node in (replica, proxy)}
    ended = threading.Event()
    readers = [Reader(node, ended) for node in (replica, proxy, right)]
    writer = Writer(root, ended)
    threads = [*readers, writer]
    for thread in threads:
        thread.start()
    wait_for(lambda: all(reader.reads > 20 for reader in readers), 30, "reads")

    began = time.monotonic()
    if harm == "kill":
        left.kill()
    else:
        os.kill(left.process.pid, signal.SIGSTOP)
    try:
        took = {}

        def found():
            for child in (replica, proxy):
                if child.name not in took and parent_of(child) in ("right", "root"):
                    took[child.name] = time.monotonic() - began
            return len(took) == 2

        wait_for(found, 60, "another parent for each child")
        index = writer.index
        for child in (replica, proxy):
            child.wait_index(index)
    finally:
        if harm == "freeze":
            os.kill(left.process.pid, signal.SIGCONT)
        ended.set()
        for thread in threads:
            thread.join()
    assert [thread.fault for thread in threads if thread.fault] == []
    say(f"{harm}: another parent after {max(took.values()):.2f} s, slowest read "
        f"{max(reader.slowest for reader in readers):.2f} s of {sum(r.reads for r in readers)}")
    for child in (replica, proxy):
        after = child.metrics("main")
        assert after["builds"] == before[child.name]["builds"] == 0
        assert after["parent_changes"] == before[child.name]["parent_changes"] + 1
        assert after["parent_moves"] == 0 and after["digest_mismatches"] == 0
        assert "gap" not in child.log.read_text() and "too old" not in child.log.read_text()
    if harm == "kill":
        left.start()
    cluster.check_equal(root, left, right, replica, proxy)


def test_growing(cluster, say):
    """Nodes that know nothing but the root, of which each may have two children."""
    small = {"children_max": 2}
    root = cluster.root(**small).start()
    nodes = [cluster.replica(f"n{i}", root, **small) for i in range(7)]
    for node in nodes:
        node.start()
    root.call("QS.PUT", "a", "1")
    cluster.check_equal(root, *nodes)
    paths = [wait_for(lambda: node.place()["path"], 20, "a path") or node.place()["path"]
             for node in nodes]
    assert all(path[0] == "root" and len(path) == len(set(path)) for path in paths)
    for node in (root, *nodes):
        assert node.metrics("main")["children"] <= 2
    assert max(len(path) for path in paths) >= 4
    say(f"8 nodes, 2 children each: {max(len(path) for path in paths)} levels")
