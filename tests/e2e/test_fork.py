# SPDX-License-Identifier: Apache-2.0
"""What clients see of a node whose history is replaced by one that forked from it."""
import pytest

from qs_cluster import wait_for
from resp import RespError, encode
from test_bootstrap import SHORT, Writes, builds, check, start_empty
from test_heal import found_fork, token_of

OLD, NEW = 200, 40  # indexes of either history


class Waiting:
    """A connection with a command that nothing of its history will ever end."""

    def __init__(self, node, *words):
        self.conn = node.raw(timeout=60)
        self.conn.send(encode(*words))
        self.words = words
        if words[0] == "QS.WATCH":
            assert self.conn.reply() == [b"qs.progress", OLD]

    def parted(self):
        reply = self.conn.reply()
        while isinstance(reply, list):
            assert reply == [b"qs.progress", OLD], reply
            reply = self.conn.reply()
        assert isinstance(reply, RespError) and reply.word == "HISTORY", (self.words, reply)
        assert self.conn.closed(), self.words


def wait_for_what_never_comes(node):
    ahead, limit = str(OLD + 1), "3600000"
    return [
        Waiting(node, "QS.WAITINDEX", ahead, limit),
        Waiting(node, "QS.WAITINDEX", token_of(node).partition(":")[0] + ":" + ahead, limit),
        Waiting(node, "QS.GET", "k1", "MININDEX", ahead, limit),
        Waiting(node, "QS.MGET", "k1", "k2", "MININDEX", ahead, limit),
        Waiting(node, "QS.WATCH", ""),
    ]


def reader(node):
    conn = node.raw()
    assert conn.call("QS.INDEX") == OLD
    return conn


def halfway(cluster):
    """A replica that still shows the old history, with a journal that is of the new one."""
    root = cluster.root().start()
    other = cluster.root("other", snapshot_rate="64KB")
    node = cluster.replica("node", root)
    node.instances["main"]["parents"] = [root, other]
    node.start()
    for number in range(OLD):
        root.call("QS.PUT", f"k{number}", "old")
    cluster.settle(root, node)
    early = wait_for_what_never_comes(node), reader(node)
    found_fork(other, token_of(node).partition(":")[0])
    other.start()
    for number in range(NEW):
        other.call("QS.PUT", f"k{number}", b"new" * 2500)
    root.stop()
    synced = lambda: node.metrics("main")["synced_index"]
    wait_for(lambda: synced() == NEW, 30, "the new history's log")
    for number in range(20):
        other.call("QS.PUT", f"k{number}", b"newer")
    wait_for(lambda: synced() == NEW + 20, 30, "more of it")
    other.kill()
    return node, other, early


def test_clients_see_one_history(cluster):
    node, other, (waiting, before) = halfway(cluster)
    # Nothing of the new one is shown yet, so nothing may be of it.
    with node.raw() as conn:
        token = conn.call("QS.INDEX", "TOKEN").decode()
        history = token.partition(":")[0]
        assert token == waiting[1].words[1].replace(str(OLD + 1), str(OLD))
        assert conn.call("QS.GET", "k1", "MININDEX", token, 10)[0] == b"old"
        assert conn.call("QS.GETAT", "k1", f"{history}:{OLD}")[0] == b"old"
        assert conn.call("QS.WAITINDEX", token, 0) == OLD
        assert history.encode() in node.http("/api/status")[1], "people, too"
        # The journal has blocks with these numbers and indexes, but of the other history.
        reply = conn.call("QS.WATCH", "k", "FROM", str(NEW + 5))
        assert isinstance(reply, RespError) and reply.word == "GONE", reply
        assert conn.call("QS.INDEX") == OLD, "it is this connection's history still"
    waiting += wait_for_what_never_comes(node)
    meanwhile, fresh = reader(node), node.raw()
    other.start()
    wait_for(lambda: token_of(node) == token_of(other), 60, "the new history")
    for each in waiting:
        each.parted()
    for conn in (before, meanwhile):
        reply = conn.call("GET", "k1")
        assert isinstance(reply, RespError) and reply.word == "HISTORY", reply
        assert conn.closed()
    assert fresh.call("GET", "k1") == b"newer", "it has seen nothing of the old one"
    for words in (("QS.WAITINDEX", token, "60000"), ("QS.GET", "k1", "MININDEX", token, "60000"),
                  ("QS.WATCH", "k", "FROM", token)):
        assert fresh.call(*words).word == "HISTORY", words
    assert fresh.call("QS.INDEX") == NEW + 20


def test_a_node_built_from_a_snapshot_knows_its_birth(cluster):
    """It never had the first block of its history, and still leads others into it."""
    root = cluster.root().start()
    leaf = cluster.replica("leaf", root).start()
    root.call("QS.PUT", "k", "old")
    cluster.settle(root, leaf)
    ancestor = token_of(root).partition(":")[0]
    leaf.stop()
    root.stop()
    other = cluster.root("other", **SHORT)
    found_fork(other, ancestor)
    other.start()
    writes = Writes(other, 11)
    writes.until_forgotten()
    middle = start_empty(cluster.replica("middle", other, **SHORT))
    wait_for(lambda: builds(middle) == 1, 60, "the snapshot")
    birth = lambda node: (node.data / "main" / "BIRTH").read_bytes()
    wait_for((middle.data / "main" / "BIRTH").exists, 30, "the birth block")
    assert birth(middle) == birth(other)
    other.stop()
    leaf.instances["main"]["parents"] = [middle.restart()]
    leaf.start()
    wait_for(lambda: token_of(leaf) == token_of(middle), 60, "the other history's data")
    check(leaf, writes.model)
