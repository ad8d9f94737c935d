# SPDX-License-Identifier: Apache-2.0
"""With parents or replicas gone a node serves what it has, says what it lacks, and heals."""
import time

from qs_cluster import KEEPS_NOTHING, SLOW, wait_for
from resp import RespError

FETCH_MS = 500


def test_replicas_gone(cluster):
    root = cluster.root().start()
    replica = cluster.replica("replica", root).start()
    second = cluster.replica("second", root).start()
    proxy = cluster.proxy(
        "proxy", root, [replica, second], fetch=f"{FETCH_MS}ms", **KEEPS_NOTHING
    ).start()
    with root.raw() as conn:
        conn.pipeline([("SET", f"k{i:03}", f"value {i}") for i in range(200)])
    cluster.settle()
    cached = {f"k{i:03}": b"value %d" % i for i in range(0, 100)}
    with proxy.raw() as conn:
        for key, value in cached.items():
            assert conn.call("GET", key) == value
    # A fetched value is kept by the applier a moment after it was answered.
    wait_for(lambda: proxy.metrics("main")["fills"] >= 100, 10, "the fills")
    replica.stop()
    second.stop()
    with proxy.raw() as conn:
        for key, value in cached.items():
            assert conn.call("GET", key) == value
        for i in range(200):
            assert conn.call("GET", f"absent{i}") is None
        assert conn.call("EXISTS", *[f"k{i:03}" for i in range(200)]) == 200
        assert conn.call("STRLEN", "k150") == len("value 150")
        assert conn.call("DBSIZE") == 200
        assert len(conn.call("KEYS", "*")) == 200
        began = time.monotonic()
        reply = conn.call("GET", "k150")
        took = time.monotonic() - began
        assert isinstance(reply, RespError) and reply.word == "UNAVAILABLE", reply
        assert took < (FETCH_MS / 1000 + 2) * SLOW
        assert conn.call("QS.GET", "k151").word == "UNAVAILABLE"
        assert conn.call("MGET", "k000", "k152").word == "UNAVAILABLE"
        assert conn.call("MGET", "k000", "nothing") == [b"value 0", None]
        # What is written now arrives all the same, and absence stays exact.
        index = root.call("QS.PUT", "fresh", "1")
        proxy.wait_index(index)
        assert conn.call("EXISTS", "fresh", "k000", "fresher") == 2
        assert proxy.metrics("main")["fetch_failed"] > 0
        second.start()
        wait_for(lambda: conn.call("GET", "k150") == b"value 150", 20, "the proxy to heal")
        assert conn.call("MGET", "k152", "k153") == [b"value 152", b"value 153"]
        assert conn.call("GET", "fresh") == b"1"


def test_a_restarted_proxy_without_anybody(cluster):
    root = cluster.root().start()
    proxy = cluster.proxy("proxy", root, [root], fetch="300ms", **KEEPS_NOTHING).start()
    with root.raw() as conn:
        conn.pipeline([("SET", f"k{i}", str(i)) for i in range(100)])
    index, digest = cluster.check_equal()
    for i in range(50):
        assert proxy.call("GET", f"k{i}") == b"%d" % i
    wait_for(lambda: proxy.metrics("main")["fills"] >= 50, 10, "the fills")
    root.stop()
    proxy.restart()
    assert proxy.digest() == (index, digest)
    assert proxy.call("GET", "k7") == b"7"
    assert proxy.call("GET", "nothing") is None
    with proxy.raw() as conn:
        assert conn.call("GET", "k77").word == "UNAVAILABLE"
    root.start()
    wait_for(lambda: proxy_value(proxy, "k77") == b"77", 20, "the proxy to heal")


def proxy_value(node, key):
    with node.raw() as conn:
        return conn.call("GET", key)


def test_parent_gone(cluster):
    root, middle, replica, proxy, empty = cluster.tree()
    with root.raw() as conn:
        conn.pipeline([("SET", f"k{i}", str(i)) for i in range(100)])
    cluster.settle()
    for node in (replica, proxy):
        wait_for(lambda: node.metrics("main")["age_ms"] < 5000, 20, "a young age")
    middle.kill()
    for node in (replica, proxy, empty):
        wait_for(lambda: node.place()["parent"]["connected"] is False, 20, "the loss to be seen")
        first = node.metrics("main")["age_ms"]
        wait_for(lambda: node.metrics("main")["age_ms"] > first + 300, 20, "the age to grow")
        assert node.call("GET", "k42") == b"42"
        assert node.call("GET", "nothing") is None
        assert node.call("DBSIZE") == 100
        assert node.http("/healthz")[0] == 200
    index = root.call("QS.PUT", "meanwhile", "1")
    assert proxy.call("EXISTS", "meanwhile") == 0
    middle.start()
    for node in (middle, replica, proxy, empty):
        node.wait_index(index)
        assert node.call("GET", "meanwhile") == b"1"
    wait_for(lambda: proxy.metrics("main")["age_ms"] < 5000, 20, "the age to fall")
    cluster.check_equal()


def test_second_parent_takes_over(cluster):
    root = cluster.root().start()
    one = cluster.replica("one", root).start()
    two = cluster.replica("two", root).start()
    leaf = cluster.replica("leaf", one)
    leaf.instances["main"]["parents"] = [one, two]
    leaf.start()
    leaf.wait_index(root.call("QS.PUT", "a", "1"))
    one.kill()
    leaf.wait_index(root.call("QS.PUT", "a", "2"))
    assert leaf.call("GET", "a") == b"2"
    wait_for(lambda: leaf.place()["parent"]["node"] == "two", 20, "the other parent")
    cluster.check_equal()


def test_a_root_of_another_history_is_refused(cluster):
    """A child never gives up its data because a stranger answers at its parent's address."""
    root = cluster.root().start()
    leaf = cluster.replica("leaf", root).start()
    leaf.wait_index(root.call("QS.PUT", "a", "1"))
    root.stop()
    stranger = cluster.root("stranger")
    stranger.peer = root.peer
    stranger.start()
    for i in range(5):
        stranger.call("QS.PUT", "a", f"stranger {i}")
    refused = wait_for(
        lambda: (lambda state: state if "history" in state or "refused" in state else None)(
            leaf.place()["parent"]["state"]
        ),
        20, "a refusal",
    )
    assert refused
    assert leaf.call("GET", "a") == b"1"
    stranger.stop()
    root.start()
    leaf.wait_index(root.call("QS.PUT", "a", "2"))
    assert leaf.call("GET", "a") == b"2"


def test_damaged_journal_of_a_follower_is_fetched_again(cluster):
    root = cluster.root().start()
    leaf = cluster.replica("leaf", root, replay_bytes="1GB").start()
    with root.raw() as conn:
        for start in range(0, 30000, 1000):
            conn.pipeline([("SET", f"k{start + i}", "x" * 300) for i in range(1000)])
    cluster.check_equal()
    leaf.kill()
    segment = leaf.journal_files("main")[0]
    data = bytearray(segment.read_bytes())
    data[len(data) // 3] ^= 0x10
    segment.write_bytes(data)
    leaf.start()
    cluster.check_equal()
    leaf.restart()
    cluster.check_equal()


def test_damaged_journal_of_a_root_is_named(cluster):
    root = cluster.root(replay_bytes="1GB").start()
    with root.raw() as conn:
        for start in range(0, 30000, 1000):
            conn.pipeline([("SET", f"k{start + i}", "x" * 300) for i in range(1000)])
    root.kill()
    segment = root.journal_files("main")[0]
    data = bytearray(segment.read_bytes())
    data[len(data) // 3] ^= 0x10
    segment.write_bytes(data)
    root.launch()
    wait_for(lambda: root.process.poll() is not None, 30, "the root to refuse")
    assert root.process.returncode != 0
    root.process = None
    assert segment.name in root.tail(), "the place of the damage must be named"
