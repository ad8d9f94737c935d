# SPDX-License-Identifier: Apache-2.0
"""root <- intermediate <- replica and two proxies: what is written at the top is read below."""
import random

import pytest

from qs_cluster import IO, KEEPS_NOTHING, triples, wait_for


def fill(root, count, seed, size=200):
    """Puts and deletes; returns {key: (value, version)} of what is there in the end."""
    rng = random.Random(seed)
    model = {}
    with root.raw() as conn:
        for _ in range(0, count, 500):
            requests = []
            for _ in range(500):
                key = b"key:%05d" % rng.randrange(count)
                if rng.random() < 0.15:
                    requests.append(("QS.DELETE", key))
                else:
                    requests.append(("QS.PUT", key, rng.randbytes(rng.randrange(size))))
            for words, index in zip(requests, conn.pipeline(requests)):
                assert isinstance(index, int), index
                if words[0] == "QS.PUT":
                    model[words[1]] = (words[2], index)
                else:
                    model.pop(words[1], None)
    return model


def read_back(node, model, absent=()):
    """Every key of the model by QS.MGET, with versions; and the absent ones."""
    keys = [*model, *absent]
    with node.raw() as conn:
        for at in range(0, len(keys), 500):
            part = keys[at : at + 500]
            for key, (value, version, _) in zip(part, triples(conn.call("QS.MGET", *part))):
                assert (value, version) == model.get(key, (None, 0)), (node.name, key)


def test_everything_arrives_everywhere(cluster):
    nodes = cluster.tree()
    root, middle, replica, proxy, empty = nodes
    model = fill(root, 4000, 1)
    index, _ = cluster.check_equal(*nodes)
    absent = [b"no:%d" % i for i in range(1000)]
    for node in nodes:
        read_back(node, model, absent)
        assert node.call("DBSIZE") == len(model)
        assert sorted(node.call("KEYS", "*")) == sorted(model)
        ranged = node.call("QS.RANGE", "key:", "key;", "LIMIT", "10000")
        assert dict(zip(ranged[::2], ranged[1::2])) == {k: v for k, (v, _) in model.items()}
    metrics = empty.metrics("main")
    assert metrics["fetch_sent"] > 0, "the proxy that keeps nothing must have asked"
    assert metrics["fetch_failed"] == 0 and metrics["reads_absent"] >= len(absent)
    before = empty.metrics("main")["fetch_sent"]
    read_back(empty, {}, absent)
    assert empty.metrics("main")["fetch_sent"] == before, "an absent key was asked for remotely"
    assert proxy.metrics("main")["visible_index"] == index


def test_places_in_the_tree(cluster):
    nodes = cluster.tree()
    root, middle, replica, proxy, empty = nodes
    root.call("QS.PUT", "a", "1")
    cluster.settle(*nodes)
    wait_for(lambda: len(middle.place()["children"]) == 3, 10, "three children")
    place = root.place()
    assert place["node"] == "root" and place["role"] == "root"
    assert [child["node"] for child in place["children"]] == ["middle"]

    whole = ["root", "middle", "proxy"]
    wait_for(lambda: proxy.place()["path"] == whole, 10, "the path of a proxy")
    assert sorted(child["node"] for child in middle.place()["children"]) == [
        "empty", "proxy", "replica",
    ]
    for node in nodes[1:]:
        wait_for(lambda: node.metrics("main")["age_ms"] < 20000, 20, "an age")
    assert root.metrics("main")["age_ms"] == 0


def test_wait_counts_direct_children(cluster):
    root, middle, *_ = cluster.tree()
    with root.raw() as conn:
        conn.call("SET", "a", "1")
        assert conn.call("WAIT", "1", "10000") == 1
        middle.stop()
        wait_for(lambda: root.metrics("main")["children"] == 0, 10, "the child to be gone")
        conn.call("SET", "a", "2")
        assert conn.call("WAIT", "1", "100") == 0


def test_a_child_that_starts_later_gets_everything(cluster):
    root = cluster.root(segment_bytes="64KB").start()
    model = fill(root, 5000, 2)
    assert len(root.journal_files("main")) > 2, "the log should span several segments"
    replica = cluster.replica("replica", root).start()
    late = cluster.proxy("late", replica, [replica], **KEEPS_NOTHING).start()
    cluster.check_equal(root, replica, late)
    read_back(late, model)
    read_back(replica, model)


@pytest.mark.parametrize("which", ["root", "middle", "replica", "proxy", "empty"])
def test_restart_of_each(cluster, which):
    nodes = cluster.tree()
    root = nodes[0]
    model = fill(root, 1000, 3)
    cluster.settle(*nodes)
    node = cluster.nodes[which]
    before = node.index()
    node.stop()
    if which != "root":
        root.call("QS.PUT", "while-away", "1")
    node.start()
    assert node.index() >= before
    root.call("QS.PUT", "after", "1")
    cluster.check_equal(*nodes)
    read_back(node, model)


def test_a_fresh_start_has_the_same_state(cluster):
    root = cluster.root().start()
    model = fill(root, 3000, 5)
    before = root.digest()
    for _ in range(3):
        root.restart()
        assert root.digest() == before
    read_back(root, model)


def test_large_values_and_batches(cluster):
    nodes = cluster.tree()
    root = nodes[0]
    big = random.Random(6).randbytes(16 << 20)
    with root.raw() as conn:
        assert conn.call("SET", "big", big) == b"OK"
        words = [word for i in range(10000) for word in (f"batch:{i}", "v" * 100)]
        assert conn.call("MSET", *words) == b"OK"
        index = conn.call("QS.INDEX")
    assert index == 2
    cluster.check_equal(*nodes)
    for node in nodes:
        assert node.call("GET", "big") == big
        assert node.call("STRLEN", "big") == len(big)
        assert node.call("EXISTS", *[f"batch:{i}" for i in range(10000)]) == 10000


@pytest.mark.parametrize("io", ["uring", "epoll"])
def test_each_back_end(cluster, io):
    root = cluster.root(node={"io": io})
    proxy = cluster.proxy("proxy", root, [root], node={"io": io}, **KEEPS_NOTHING)
    if io == "uring" and IO == "epoll":
        pytest.skip("this run is to be without io_uring")
    root.start()
    proxy.start()
    assert root.metrics()["io_uring"] == (io == "uring")
    model = fill(root, 1000, 7)
    cluster.check_equal(root, proxy)
    read_back(proxy, model)


def test_a_deep_chain(cluster):
    """A deep chain: delays add up, the path names every hop, digests stay equal."""
    root = cluster.root().start()
    parent = root
    for level in range(1, 6):
        parent = cluster.replica(f"level{level}", parent).start()
    model = fill(root, 1000, 8)
    cluster.check_equal()
    read_back(parent, model)
    wait_for(lambda: "level4" in str(parent.place()), 10, "the path of the last one")


def test_a_circle_is_left(cluster):
    """Two replicas that name each other: neither invents a source, both stand still and say so."""
    root = cluster.root().start()
    one = cluster.replica("one", root)
    two = cluster.replica("two", one)
    one.instances["main"]["parents"] = [root, two]
    one.start()
    two.start()
    root.call("QS.PUT", "a", "1")
    cluster.settle(root, one, two)
    root.stop()
    assert one.call("GET", "a") == b"1" and two.call("GET", "a") == b"1"
    root.start()
    root.call("QS.PUT", "a", "2")
    cluster.check_equal(root, one, two)
