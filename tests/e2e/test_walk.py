# SPDX-License-Identifier: Apache-2.0
"""QS.DIGEST SCAN on every role while writes run; and the front filter over restarts."""
import random

import pytest

from qs_cluster import qs, wait_for
from resp import RespError, encode
from task import Task

pytestmark = pytest.mark.once


class Writer(Task):
    """Puts and deletes, one at a time, alone; keeps the running digest of every index it made."""

    def __init__(self, root, seed):
        super().__init__(root)
        self.rng, self.digests = random.Random(seed), {}

    def work(self):
        with self.node.raw() as conn:
            while not self.ended.is_set():
                key = b"key-%04d" % self.rng.randrange(2000)
                if self.rng.random() < 0.3:
                    conn.call("QS.DELETE", key)
                else:
                    conn.call("QS.PUT", key, self.rng.randbytes(self.rng.randrange(300)))
                index, digest = conn.call("QS.DIGEST")
                self.digests[index] = digest


def test_scan_while_writing(cluster):
    """What a scan says at an index is what the root's running digest said there."""
    root, _, replica, proxy, empty = cluster.tree(walk_rate=0)
    writer = Writer(root, 1)
    writer.start()
    try:
        answers = []
        for node in (root, replica, proxy, empty):
            node.wait_index(10)
        for _ in range(10):
            for node in (root, replica, proxy, empty):
                with node.raw() as conn:
                    index, digest = conn.call("QS.DIGEST", "SCAN")
                    assert conn.call("QS.INDEX") >= index
                    answers.append((node.name, index, digest))
    finally:
        writer.end()
    for name, index, digest in answers:
        assert writer.digests[index] == digest, (name, index)
    cluster.settle()
    for node in (root, replica, proxy, empty):
        assert node.call("QS.DIGEST", "SCAN") == root.call("QS.DIGEST"), node.name
        metrics = node.metrics()
        assert metrics["walk_mismatches"] == 0 and metrics["walk_failures"] == 0
        assert metrics["walks"] >= 10 and metrics["walk_keys"] > 0
        assert metrics["walked_index"] == root.index()
    code, out, _ = qs("-s", root.socket, "digest", "--scan")
    assert code == 0 and out.split() == qs("-s", root.socket, "digest")[1].split()


def test_scan_in_a_pipeline(cluster):
    """A scan is a barrier; inside MULTI it is refused, and the rest is answered."""
    root = cluster.root().start()
    with root.raw() as conn:
        conn.call("SET", "a", "1")
        replies = conn.pipeline([("QS.DIGEST", "SCAN"), ("QS.DIGEST",), ("GET", "a")])
        assert replies[0] == replies[1] and replies[2] == b"1"
        conn.call("MULTI")
        conn.call("QS.DIGEST", "SCAN")
        conn.call("QS.DIGEST")
        refused, digest = conn.call("EXEC")
        assert isinstance(refused, RespError) and digest == replies[0]
        assert conn.call("QS.DIGEST", "NONSENSE").word == "ERR"


def test_scan_given_up(cluster):
    """A client that leaves, and a daemon that ends, while a walk takes its hours."""
    root = cluster.root(walk_rate=1).start()
    with root.raw() as conn:
        for start in range(0, 20000, 1000):
            words = [word for i in range(start, start + 1000) for word in (f"key-{i}", "v")]
            conn.call("MSET", *words)
        leaving, staying = root.raw(), root.raw()
        for each in (leaving, staying):
            each.send(encode("QS.DIGEST", "SCAN"))
        wait_for(lambda: root.metrics()["walk_keys"] > 0, 20, "a first slice")
        leaving.close()
        assert conn.call("GET", "key-5") == b"v"
    root.stop()
    staying.close()


@pytest.mark.long
def test_filter_over_restarts(cluster):
    """Absent keys are answered without the store, present ones never lost: after a stop, and after
    a kill at any moment between two saves of the filter."""
    nodes = cluster.tree()
    root = nodes[0]
    rng = random.Random(2)
    model = {}
    for cycle in range(6):
        with root.raw() as conn:
            for _ in range(300):
                key = b"key-%d" % rng.randrange(600)
                if rng.random() < 0.3:
                    conn.call("DEL", key)
                    model.pop(key, None)
                else:
                    model[key] = b"%d" % rng.randrange(10**6)
                    conn.call("SET", key, model[key])
        cluster.settle()
        for node in nodes:
            if cycle % 2 == 0:
                node.kill()
            else:
                node.stop()
        for node in nodes:
            node.start()
        for node in nodes:
            node.wait_index(root.index())
            with node.raw() as conn:
                keys = [b"key-%d" % i for i in range(600)]
                assert conn.call("MGET", *keys) == [model.get(key) for key in keys], node.name
            wait_for(lambda node=node: node.metrics()["filter_bytes"] > 0, 20, "a filter")
            if cycle % 2 == 1:  # it was saved at the stop: there from the first view on
                before = node.metrics()["reads_filtered"]
                node.call("MGET", *[b"nobody-%d" % i for i in range(500)])
                assert node.metrics()["reads_filtered"] - before >= 490, node.name
