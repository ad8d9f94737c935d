# SPDX-License-Identifier: Apache-2.0
"""A node that the log alone does not lead on builds its store from another node's snapshot."""
import random
import threading

import pytest

from qs_cluster import SLOW, triples, wait_for

# A journal that soon forgets: what a node misses, its parents no longer have.
SHORT = {
    "journal_bytes": "1MB",
    "segment_bytes": "64KB",
    "replay_bytes": "1MB",
    "memtable": "1MB",
    "journal_age": "1s",
}


class Writes:
    """Puts and deletes over a few thousand keys, and the map that they add up to."""

    def __init__(self, root, seed, keys=3000):
        self.root, self.rng, self.keys = root, random.Random(seed), keys
        self.model = {}

    def put(self, count, size=2000):
        with self.root.raw() as conn:
            for _ in range(0, count, 100):
                requests = []
                for _ in range(100):
                    key = b"key:%05d" % self.rng.randrange(self.keys)
                    if self.rng.random() < 0.1:
                        requests.append(("QS.DELETE", key))
                    else:
                        size_now = self.rng.randrange(size)
                        requests.append(("QS.PUT", key, self.rng.randbytes(size_now)))
                for words, index in zip(requests, conn.pipeline(requests)):
                    assert isinstance(index, int), index
                    if words[0] == "QS.PUT":
                        self.model[words[1]] = (words[2], index)
                    else:
                        self.model.pop(words[1], None)

    def until_forgotten(self, block_index):
        """Writes until the root's journal begins after `block_index`."""

        def forgotten():
            self.put(2000)
            return oldest(self.root) > block_index

        wait_for(forgotten, 120, "the root's journal to forget")


def oldest(node):
    """Number of the first block still in a node's journal."""
    return min(int(path.stem, 16) for path in node.journal_files("main"))


def check(node, model):
    keys = sorted(model)
    with node.raw() as conn:
        for at in range(0, len(keys), 200):
            part = keys[at : at + 200]
            for key, (value, version, _) in zip(part, triples(conn.call("QS.MGET", *part))):
                assert (value, version) == model[key], (node.name, key)
        assert conn.call("DBSIZE") == len(model)


def builds(node):
    return node.metrics("main")["builds"]


def start_empty(node):
    """Launches a node whose data directory is empty."""
    node.launch()
    wait_for(node.is_ready, 30, f"{node.name} to serve")
    return node


def test_an_empty_node_bootstraps(cluster):
    root = cluster.root(**SHORT).start()
    writes = Writes(root, 1)
    writes.put(2000)
    writes.until_forgotten(2)
    replica = start_empty(cluster.replica("replica", root, **SHORT))
    wait_for(lambda: builds(replica) == 1, 60, "the snapshot")
    writes.put(1000)
    proxy = start_empty(cluster.proxy("proxy", replica, [replica, root], **SHORT))
    wait_for(lambda: builds(proxy) == 1, 60, "the proxy's snapshot")
    writes.put(1000)
    cluster.check_equal(root, replica, proxy)
    check(replica, writes.model)
    check(proxy, writes.model)
    for node in (replica, proxy):
        node.restart()
    writes.put(500)
    cluster.check_equal(root, replica, proxy)
    check(proxy, writes.model)
    assert builds(replica) == 0, "once is enough"
