# SPDX-License-Identifier: Apache-2.0
"""The only root lost the end of its log, and a child has it: it is fetched before any write."""
import shutil
import time

import pytest

from peer import FOLLOW, PeerConn, hello
from qs_cluster import wait_for
from resp import RespError

BEHIND = 2  # enum hello_answer


def keep(node):
    """A copy of a stopped node's disk, and what puts it back."""
    saved = node.directory / f"saved-{time.time_ns()}"
    shutil.copytree(node.data, saved)

    def restore():
        shutil.rmtree(node.data)
        shutil.copytree(saved, node.data)

    return restore


def fill(node, first, count):
    with node.raw() as conn:
        for at in range(first, first + count, 500):
            block = range(at, min(at + 500, first + count))
            conn.pipeline([("SET", f"k{i}", f"value {i} " + "x" * 200) for i in block])


def lose_end(cluster, children, lost=3000):
    """A root that goes back to a copy of its disk: `lost` writes that it acknowledged are gone."""
    root = cluster.root().start()
    nodes = [make(root).start() for make in children]
    fill(root, 0, 1000)
    cluster.settle()
    root.stop()
    restore = keep(root)
    root.start()
    fill(root, 1000, lost)
    cluster.settle()
    root.kill()
    restore()
    return root, nodes


def claim(root, name, block):
    """A child of this history says that it holds so many blocks, and nobody can ask it."""
    history = bytes.fromhex(root.call("QS.INDEX", "TOKEN").decode().split(":")[0])
    with PeerConn(root.peer) as conn:
        conn.send(hello(FOLLOW, node=name, history=history, index=block, block=block,
                        chain=bytes(16)))
        assert conn.receive_until("welcome")["answer"] == BEHIND


@pytest.mark.parametrize("role", ["replica", "proxy"])
def test_a_root_gets_its_end_back(cluster, role):
    makers = {"replica": lambda root: cluster.replica("child", root),
              "proxy": lambda root: cluster.proxy("child", root, [root])}
    root, [child] = lose_end(cluster, [makers[role]])
    assert child.index() == 4000
    root.start()
    root.wait_index(4000)
    fill(root, 4000, 500)
    assert root.index() == 4500
    assert root.call("GET", "k3999").startswith(b"value 3999 ")
    cluster.check_equal()
    assert root.metrics("main")["lacks"] == 0
    assert child.metrics("main").get("store_unsound") == 0
    root.restart()
    fill(root, 4500, 10)
    cluster.check_equal()


def test_the_one_that_is_furthest_decides(cluster):
    root, [low, high] = lose_end(cluster, [lambda root: cluster.replica("low", root),
                                           lambda root: cluster.replica("high", root)], 10)
    high.stop()
    root.start()
    root.wait_index(1010)
    low.stop()
    root.stop()
    restore = keep(root)
    root.start()
    high.start()
    fill(root, 1010, 1000)
    high.wait_index(2010)
    root.kill()
    high.stop()
    restore()
    root.start()
    low.start()
    assert root.call("SET", "before", "it") == b"OK"  # nobody has come who is ahead
    assert root.index() == 1011
    high.start()  # too late: it holds another block at that place
    wait_for(lambda: b"holds another log" in root.log.read_bytes(), 30, "it to be found out")
    fill(root, 2010, 10)
    assert root.index() == 1021 and high.index() == 2010
    wait_for(lambda: high.place()["parent"]["state"].startswith("diverged") or
             "behind" in high.place()["parent"]["state"], 30, "it to be refused")
    for _ in range(5):  # it comes again and again, and does no harm
        claim(root, "high", 5000)
        assert root.call("SET", "more", "of it") == b"OK"
    assert root.log.read_bytes().count(b"holds another log") == 1
    cluster.check_equal(root, low)
    claim(root, "stranger", 5000)
    with root.raw() as conn:
        assert conn.call("SET", "more", "of it").word == "READONLY"


def test_a_child_that_cannot_be_reached_holds_writes_back(cluster):
    root, [child] = lose_end(cluster, [
        lambda root: cluster.replica("child", root, node={"peer": None})], 100)
    child.stop()
    root.start()
    child.start()
    wait_for(lambda: root.metrics("main")["lacks"] > 0, 30, "the claim")
    with root.raw() as conn:
        refusal = conn.call("SET", "a", "1")
        assert isinstance(refusal, RespError) and refusal.word == "READONLY"
        assert b"nothing was written" in refusal
        assert conn.call("GET", "k0").startswith(b"value 0 ")
    assert b"which listens nowhere" in root.log.read_bytes()
    child.stop()
    child.configure(peer=child.peer)  # now it does
    child.start()
    root.wait_index(1100)
    wait_for(lambda: root.metrics("main")["lacks"] == 0, 30, "writes to be taken")
    fill(root, 1100, 10)
    cluster.check_equal()


def test_a_child_dies_while_it_gives(cluster):
    root, [child] = lose_end(cluster, [lambda root: cluster.replica("child", root)], 20000)
    for _ in range(3):
        root.start()
        wait_for(lambda: root.index() > 1000, 30, "blocks to come")
        child.kill()
        with root.raw() as conn:
            reply = conn.call("SET", "a", "1")
        if reply == b"OK":  # all was there already
            break
        assert reply.word == "READONLY"
        root.kill()
        child.start()
    else:
        root.start()
    if child.process is None:
        child.start()
    root.wait_index(21000)
    wait_for(lambda: root.metrics("main")["lacks"] == 0, 30, "writes to be taken")
    fill(root, 21000, 10)
    cluster.check_equal()


def test_a_lower_claim_changes_nothing(cluster):
    root, [child] = lose_end(cluster, [lambda root: cluster.replica("child", root)], 5000)
    root.start()
    claim(root, "far", 1 << 40)
    claim(root, "near", 1 << 20)
    root.wait_index(6000)  # what there is, it gets
    with root.raw() as conn:
        assert conn.call("SET", "a", "1").word == "READONLY"


def test_two_hold_more_than_one_of_them(cluster):
    """Whoever is asked first gives what it has; then the other one is asked."""
    root = cluster.root().start()
    low = cluster.replica("low", root).start()
    high = cluster.replica("high", root).start()
    fill(root, 0, 500)
    cluster.settle()
    root.stop()
    restore = keep(root)
    root.start()
    fill(root, 500, 500)
    cluster.settle()
    low.stop()
    fill(root, 1000, 5000)
    cluster.settle()
    root.kill()
    restore()
    root.start()
    low.start()
    root.wait_index(6000)
    wait_for(lambda: root.metrics("main")["lacks"] == 0, 30, "writes to be taken")
    fill(root, 6000, 10)
    cluster.check_equal()
