# SPDX-License-Identifier: Apache-2.0
"""Several roots: a write counts once all of them have it, and nobody is shown it before."""
import os
import shutil
import subprocess
import threading

import pytest

from qs_cluster import QSD, wait_for
from resp import RespError

WAIT_MS = 1500
CYCLES = int(os.environ.get("ROOT_KILLS", 6))


def make_roots(cluster, names="abc", **options):
    """Nodes that may lead `main`, the first of them does; not started."""
    given = {"role": "root", "commit_wait": f"{WAIT_MS}ms"} | options
    nodes = [cluster.node(name, {"main": dict(given)}) for name in names]
    for node in nodes:
        node.instances["main"]["roots"] = [f"{each.name}@{each.peer}" for each in nodes]
    return nodes


def put(node, key, value):
    with node.raw() as conn:
        return conn.call("QS.PUT", key, value)


def waits(node):
    """Blocks in a root's journal that it does not know to be committed."""
    roots = node.place()["roots"]
    return roots["last_block"] - roots["committed_block"]


def word(reply):
    assert isinstance(reply, RespError), reply
    return reply.word


def check_unseen(key, *nodes):
    for node in nodes:
        assert node.call("GET", key) is None, f"{node.name} shows what is not committed"


def test_all_roots_have_what_is_acknowledged(cluster):
    roots = make_roots(cluster)
    leader, *standbys = [node.start() for node in roots]
    child = cluster.replica("child", leader).start()
    below = cluster.replica("below", standbys[0]).start()
    index = leader.call("QS.PUT", "key", "value")
    for node in standbys + [child, below]:
        node.wait_index(index)
        assert node.call("GET", "key") == b"value"
    for node in standbys:
        assert word(put(node, "key", "other")) == "READONLY"
        assert b"role:standby" in node.call("INFO", "replication")
        assert node.place()["roots"]["leader"] == leader.name
        assert leader.name in node.place()["path"]
    assert b"role:master" in leader.call("INFO", "replication")
    for i in range(200):
        leader.call("QS.PUT", f"k{i}", str(i))
        if i % 20 == 0:
            for node in standbys:  # acknowledged: so it is in their journals
                assert node.metrics("main")["synced_index"] > i
    cluster.check_equal()
    for node in roots:
        node.restart()
    assert leader.call("QS.PUT", "after", "restarts") == index + 201
    cluster.check_equal()


def test_a_lost_standby_is_waited_for(cluster):
    leader, second, third = [node.start() for node in make_roots(cluster)]
    child = cluster.replica("child", leader).start()
    below = cluster.replica("below", second).start()
    leader.call("QS.PUT", "key", "value")
    cluster.settle()
    third.kill()
    assert word(put(leader, "lost", "1")) == "UNKNOWN"
    check_unseen("lost", leader, second, child, below)
    assert leader.metrics("main")["writes_unknown"] == 1
    reply = []
    writer = threading.Thread(target=lambda: reply.append(put(leader, "late", "1")))
    writer.start()
    wait_for(lambda: waits(leader) == 2, 20, "the second write to be journaled")
    check_unseen("late", leader, second, child, below)
    third.start()
    writer.join()
    # What was of unknown outcome has come to be; the answer of the other depends on the time.
    index = wait_for(lambda: put(leader, "key", "again"), 20, "writes to go on")
    assert index == 4
    cluster.check_equal()
    assert child.call("MGET", "lost", "late", "key") == [b"1", b"1", b"again"]
    assert reply[0] == 3 or reply[0].word == "UNKNOWN"


def test_a_leader_killed_with_a_tail(cluster):
    leader, second, third = [node.start() for node in make_roots(cluster)]
    child = cluster.replica("child", leader).start()
    for i in range(50):
        leader.call("QS.PUT", "key", str(i))
    cluster.settle()
    third.kill()
    assert word(put(leader, "tail", "1")) == "UNKNOWN"
    leader.kill()
    assert second.call("GET", "key") == b"49"
    leader.start()
    assert leader.index() == 50, "what was shown is shown"
    assert waits(leader) == 1
    check_unseen("tail", leader, second, child)
    # It sequences nothing before what it found is committed.
    assert b"a limit on work" in put(leader, "tail", "2")
    third.start()
    wait_for(lambda: leader.call("GET", "tail") == b"1", 20, "the tail to be committed")
    assert leader.call("QS.PUT", "tail", "3") == 52
    cluster.check_equal()


def test_a_tail_that_the_leader_lacks_is_set_aside(cluster):
    roots = make_roots(cluster)
    leader, second, third = [node.start() for node in roots]
    leader.call("QS.PUT", "key", "value")
    cluster.settle()
    for node in roots:
        node.stop()
    saved = cluster.directory / "saved"
    shutil.copytree(leader.data, saved)
    leader.start()
    second.start()
    for i in range(3):
        assert word(put(leader, f"lost{i}", "1")) == "UNKNOWN"
    wait_for(lambda: waits(second) == 3, 20, "the tail to come")
    leader.stop()
    second.stop()
    shutil.rmtree(leader.data)  # what its disk never had
    shutil.copytree(saved, leader.data)
    child = cluster.replica("child", second).start()
    for node in roots:
        node.start()
    wait_for(lambda: second.place()["parent"]["connected"], 20, "the leader to be followed")
    assert leader.call("QS.PUT", "other", "2") == 2
    cluster.check_equal()
    check_unseen("lost0", second, child)
    assert second.metrics("main")["set_aside"] == 3
    assert second.place()["roots"]["set_aside"] == 3
    [aside] = (second.data / "main" / "set-aside").iterdir()
    assert aside.name.endswith("-1-3.qsj")
    assert b"lost0" in aside.read_bytes()
    assert f"set aside in {aside}" in second.tail()
    second.restart()
    cluster.check_equal()


def answers(node):
    try:
        return node.raw().call("PING") == b"PONG"
    except (OSError, ConnectionError):
        return False


@pytest.mark.limit(60 + 10 * CYCLES)
def test_roots_killed_under_load(cluster):
    """Whoever is killed, whenever: what was acknowledged is there, and no child goes back."""
    roots = make_roots(cluster)
    leader = [node.start() for node in roots][0]
    child = cluster.replica("child", leader).start()
    acknowledged, over = [], threading.Event()

    def write():
        number = 0
        while not over.is_set():
            number += 1
            try:
                if isinstance(put(leader, f"k{number}", str(number)), int):
                    acknowledged.append(number)
            except (OSError, ConnectionError):
                wait_for(lambda: over.is_set() or answers(leader), 20, "the leader")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        shown = 0
        for cycle in range(CYCLES):
            before = len(acknowledged)
            wait_for(lambda: len(acknowledged) > before + 10, 40, "writes to go on")
            victim = roots[cycle % len(roots)]
            victim.kill()
            now = child.index()
            assert now >= shown
            shown = now
            victim.start()
    finally:
        over.set()
        writer.join()
    wait_for(lambda: waits(leader) == 0, 30, "the tail to be committed")
    cluster.check_equal()
    for node in (leader, child):
        with node.raw() as conn:
            found = conn.call("MGET", *[f"k{number}" for number in acknowledged])
        assert found == [str(number).encode() for number in acknowledged]


def test_one_root_becomes_one_of_three(cluster):
    roots = make_roots(cluster)
    leader = roots[0]
    several = leader.instances["main"].pop("roots")
    leader.start()
    for i in range(20):
        leader.call("QS.PUT", f"k{i}", str(i))
    leader.stop()
    leader.instances["main"]["roots"] = several
    for node in roots:
        node.start()
    assert leader.call("GET", "k19") == b"19"
    assert leader.call("QS.PUT", "more", "1") == 21
    cluster.check_equal()


def test_a_damaged_commit_file(cluster):
    leader, second, third = [node.start() for node in make_roots(cluster)]
    leader.call("QS.PUT", "key", "value")
    cluster.settle()
    second.kill()
    file = second.data / "main" / "commit"
    data = bytearray(file.read_bytes())
    for at in (40, 4096 + 40):
        data[at] ^= 1
    file.write_bytes(data)
    second.launch()
    wait_for(lambda: second.process.poll() is not None, 30, "the root to refuse")
    assert second.process.returncode != 0
    second.process = None
    assert f"{file} is damaged" in second.tail()
    shutil.rmtree(second.data / "main")  # it begins anew from the leader
    second.start()
    assert leader.call("QS.PUT", "key", "again") == 2
    cluster.check_equal()


def refused(node):
    """What the check of a configuration says that must not pass."""
    node.file.write_text(node.text())
    done = subprocess.run([QSD, "--check-config", node.file], capture_output=True, timeout=60)
    assert done.returncode != 0
    return (done.stdout + done.stderr).decode()


@pytest.mark.parametrize(
    "roots, words",
    [
        (["x@127.0.0.1:7001", "y@127.0.0.1:7002"], "this node is not among them"),
        (["n@127.0.0.1:7001", "n@127.0.0.1:7002"], "this node is named before"),
        (["n@127.0.0.1:7001", "y@127.0.0.1:7001"], "this address is named before"),
        (["n@127.0.0.1:7001", "127.0.0.1:7002"], "say name@host:port"),
        (["n@127.0.0.1:7001", "y@nowhere"], "'y@nowhere'"),
        (["n@127.0.0.1:7001", "y@0.0.0.0:7002"], "nobody can be reached"),
        (["n@127.0.0.1:7001", "y@127.0.0.1:0"], "nobody can be reached"),
        (["n@127.0.0.1:7001", "@127.0.0.1:7002"], "no name of a node"),
        ([f"{name}@127.0.0.1:700{i}" for i, name in enumerate("nabcdefg")], "more than 7"),
    ],
)
def test_configuration(cluster, roots, words):
    node = cluster.node("n", {"main": {"role": "root", "roots": roots}})
    said = refused(node)
    assert words in said, said
    line = 1 + next(i for i, text in enumerate(node.text().split("\n")) if "roots =" in text)
    assert f"{node.file}:{line}:" in said, said


def test_configuration_of_a_replica(cluster):
    given = {"role": "replica", "parents": ["127.0.0.1:7001"], "roots": ["n@127.0.0.1:7001"]}
    node = cluster.node("n", {"main": given})
    assert "roots are for a root" in refused(node)
