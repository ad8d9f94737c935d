# SPDX-License-Identifier: Apache-2.0
"""One node is damaged: it finds out, heals by itself from another node, and says so. The nodes
beside it are not touched, and nobody's reads are ever wrong."""
import json
import random
import shutil
import subprocess

import pytest

from liar import Liar
from qs_cluster import QSD, qs, triples, wait_for
from resp import RespError
from task import Task

pytestmark = pytest.mark.once
KEYS = 3000
HARMED = 1234  # the key that is harmed
SIZE = 400
# Walks come when they are asked for; the healing takes a few seconds, so that its words can be
# read.
SLOWLY = {"snapshot_rate": "512KB", "walk_every": 0}
ROLES = ["replica", "proxy"]


def key_of(number):
    return b"key:%05d" % number


class Site:
    """A root, two replicas that may build from each other, and two proxies below them. Every key
    was written twice; `model` has what is now, `before` what was first."""

    def __init__(self, cluster, **victim):
        self.cluster = cluster
        self.root = cluster.root(**SLOWLY).start()
        left, right = ("left", self.root), ("right", self.root)
        self.left, self.right = (cluster.replica(*each, **SLOWLY) for each in (left, right))
        self.left.instances["main"]["parents"] = [self.right, self.root]
        both = [self.left, self.right]
        self.near, self.far = (
            cluster.proxy(name, self.left, both, **SLOWLY) for name in ("near", "far")
        )
        self.victims = {"replica": self.left, "proxy": self.near}
        for node in (self.near, self.far):
            node.instances["main"]["parents"] = both
        for node in (self.right, self.left, self.near, self.far):
            node.start()
        self.rng = random.Random(1)
        self.before, self.model = self.write(), self.write()
        cluster.check_equal()

    def write(self):
        """All keys, 30 a batch."""
        model = {}
        with self.root.raw() as conn:
            for at in range(0, KEYS, 30):
                values = {key_of(n): self.rng.randbytes(SIZE).hex().encode()[:SIZE]
                          for n in range(at, at + 30)}
                words = [word for pair in values.items() for word in pair]
                assert conn.call("MSET", *words) == b"OK"
                index = conn.call("QS.INDEX")
                model |= {key: (value, index) for key, value in values.items()}
        return model

    def victim(self, role, **options):
        node = self.victims[role]
        node.instances["main"] |= options
        return node, [each for each in self.cluster.running() if each is not node]


def counters(node):
    """What a node says of harm and of healing; all 0 in one that was never touched."""
    found = node.metrics("main")
    names = ("builds", "builds_dropped", "store_unsound", "walk_mismatches", "walk_failures",
             "digest_mismatches", "reads_corrupt")
    return {name: found[name] for name in names}


class Untouched:
    """That nodes go on as if nothing had happened."""

    def __init__(self, nodes):
        self.nodes = nodes
        self.processes = [node.process.pid for node in nodes]

    def check(self):
        for node, process in zip(self.nodes, self.processes):
            assert node.process.pid == process and node.process.poll() is None, node.name
            assert not any(counters(node).values()), (node.name, counters(node))
            with node.raw(timeout=60) as conn:
                # What is there is what the log says, row by row.
                scanned = conn.call("QS.DIGEST", "SCAN")
            assert not isinstance(scanned, RespError), (node.name, scanned)
            assert node.metrics("main")["walk_mismatches"] == 0


class Reads(Task):
    """Reads random keys on one node until the end: each must be as the model says. `but` are keys
    whose harm nobody can know of yet; a check that fails is an error, which `may_fail` allows."""

    def __init__(self, node, model, but=(), may_fail=False):
        super().__init__(node)
        self.model, self.may_fail = model, may_fail
        self.keys = sorted(model.keys() - set(but))
        self.count = self.errors = 0
        self.start()

    def work(self):
        rng = random.Random(self.node.name)
        with self.node.raw() as conn:
            while not self.ended.is_set() or self.count == 0:
                keys = rng.sample(self.keys, 20)
                replies = conn.pipeline([("QS.GET", key) for key in keys])
                for key, reply in zip(keys, replies):
                    self.check(key, reply)

    def check(self, key, reply):
        if isinstance(reply, RespError):
            assert self.may_fail and reply.word == "CORRUPT", (key, reply)
            self.errors += 1
            return
        assert tuple(reply[:2]) == self.model[key], (self.node.name, key)
        self.count += 1


class Writes(Task):
    """Other keys are written meanwhile."""

    def __init__(self, root):
        super().__init__(root)
        self.start()

    def work(self):
        with self.node.raw() as conn:
            number = 0
            while not self.ended.wait(0.005):
                number += 1
                assert isinstance(conn.call("QS.PUT", b"other:%d" % (number % 500), "v"), int)


class Watched:
    """Everything that must hold around the harm and the healing of `victim`."""

    def __init__(self, site, victim, others, but=()):
        self.site, self.victim = site, victim
        self.untouched = Untouched(others)
        self.writes = Writes(site.root)
        self.reads = [Reads(node, site.model, but) for node in others]

    def restarted(self, **allowed):
        self.reads.append(Reads(self.victim, self.site.model, **allowed))

    def end(self):
        """Healed: all are equal, whole, and right; returns what the victim counts."""
        for each in self.reads:
            each.end()
        self.writes.end()
        self.site.cluster.check_equal(*self.site.cluster.running())
        Reads(self.victim, self.site.model).end()
        with self.victim.raw(timeout=60) as conn:
            keys = sorted(self.site.model)
            for at in range(0, KEYS, 200):
                found = triples(conn.call("QS.MGET", *keys[at : at + 200]))
                for key, (value, version, _) in zip(keys[at : at + 200], found):
                    assert (value, version) == self.site.model[key], key
            assert conn.call("QS.DIGEST", "SCAN") == conn.call("QS.DIGEST")
        self.untouched.check()
        assert store_words(self.victim) == "proven"
        return counters(self.victim)


def store_words(node):
    """What `qs status` says of the store."""
    code, out, _ = qs("-s", node.socket, "--json", "status")
    assert code == 0
    fields = json.loads(out)["QS"]["instance_main"].split(",")
    return dict(field.split("=", 1) for field in fields)["store"]


def wait_healed(node):
    """It says that it is at it, in three places, and then that it is done."""
    at_it = lambda: store_words(node) == "rebuilding" or counters(node)["builds"] == 1
    wait_for(at_it, 20, "the status to say so")
    code, out, _ = qs("-s", node.socket, "status")
    unsound = node.metrics("main")["store_unsound"]
    assert code == 0
    if counters(node)["builds"] == 0:  # else it was done in between
        assert b"rebuilding" in out and unsound == 1
    assert "it is built anew" in node.log.read_text()
    wait_for(lambda: counters(node)["builds"] == 1, 60, "the new store")
    assert "is whole at index" in node.log.read_text()
    assert node.metrics("main")["state"] == 1


def scan(node):
    with node.raw(timeout=60) as conn:
        return conn.call("QS.DIGEST", "SCAN")


def store_of(node):
    return max((node.data / "main").glob("store*"))


def alter(node, role, *words):
    """Changes a row of a stopped node's store behind its back."""
    tool = QSD.parent / "tests" / "alter_store"
    subprocess.run([tool, store_of(node), role, *words], check=True, capture_output=True)


def lose_update(site, node, role):
    """The row is as it was before the key's last update."""
    value, version = site.before[key_of(HARMED)]
    alter(node, role, "put", key_of(HARMED), str(version), value)


def flip(site, node):
    """One bit of a value on the disk."""
    value, _ = site.model[key_of(HARMED)]
    for path in store_of(node).glob("*.sst"):
        content = bytearray(path.read_bytes())
        at = content.find(value[100:132])
        if at >= 0:
            content[at] ^= 4
            path.write_bytes(content)
            return
    raise AssertionError("the value is in no file")


# ---- the log -----------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_an_entry_left_out_by_a_parent(cluster, role):
    """The chain refuses the block; the next parent has the right one."""
    site = Site(cluster)
    node, others = site.victim(role)
    node.stop()
    liar = Liar(site.right.peer, key_of(HARMED))
    node.instances["main"]["parents"] = [liar.address, site.root]
    node.start()
    wait_for(lambda: liar.address in node.call("QS.TREE").decode(), 20, "the liar as its parent")
    untouched = Untouched(others)
    index = node.index()
    with site.root.raw() as conn:
        words = [word for n in (HARMED, HARMED + 1) for word in (key_of(n), random.randbytes(300))]
        assert conn.call("MSET", *words) == b"OK"
        told = conn.call("QS.GET", key_of(HARMED))
    node.wait_index(told[2])
    assert told[2] == index + 1 and node.call("QS.GET", key_of(HARMED)) == told
    assert liar.lies >= 1
    # It may have left for another before it read the last lie.
    assert 1 <= node.metrics("main")["parent_bad_blocks"] <= liar.lies
    assert f"from {liar.address} is bad: checksum mismatch" in node.log.read_text()
    assert f"following root at {site.root.peer}" in node.log.read_text()
    cluster.check_equal()
    scanned = scan(node)
    assert not isinstance(scanned, RespError) and not any(counters(node).values())
    untouched.check()
    liar.close()


# ---- the store ---------------------------------------------------------------------------------


def test_an_update_not_applied_is_met_by_the_next(cluster):
    site = Site(cluster)
    node, others = site.victim("replica")
    watched = Watched(site, node, others, but=[key_of(HARMED)])  # it will be written
    node.stop()
    lose_update(site, node, "replica")
    node.start()
    watched.restarted(but=[key_of(HARMED)])
    version = site.root.call("QS.PUT", key_of(HARMED), b"after")
    site.model[key_of(HARMED)] = (b"after", version)
    words = f'diverged at index {version}: key "{key_of(HARMED).decode()}" replaces version'
    wait_for(lambda: words in node.log.read_text(), 20, "the update to be refused")
    assert node.index() < version
    wait_healed(node)
    assert watched.end()["walk_mismatches"] == 0


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("harm", ["lost update", "dropped key"])
def test_a_wrong_row_is_found_by_a_walk(cluster, role, harm):
    site = Site(cluster)
    node, others = site.victim(role)
    watched = Watched(site, node, others)
    node.stop()
    if harm == "lost update":
        lose_update(site, node, role)
    else:
        alter(node, role, "drop", key_of(HARMED))
    node.start()
    watched.restarted(but=[key_of(HARMED)])
    assert counters(node)["walk_mismatches"] == 0
    assert scan(node).word == "DIVERGED"
    assert counters(node)["walk_mismatches"] == 1, "one walk finds it"
    assert "the store is not what the log says at index" in node.log.read_text()
    wait_healed(node)
    assert watched.end()["walk_mismatches"] == 1


def test_nobody_has_to_ask(cluster):
    """The walk that comes by itself starts the healing."""
    site = Site(cluster)
    node, others = site.victim("replica", walk_every="1s")
    watched = Watched(site, node, others)
    node.stop()
    alter(node, "replica", "drop", key_of(HARMED))
    node.start()
    watched.restarted(but=[key_of(HARMED)])
    wait_healed(node)
    assert watched.end()["builds"] == 1


@pytest.mark.parametrize("role", ROLES)
def test_a_flipped_value(cluster, role):
    """An error where it is read, never another value; a walk finds it, and it is healed."""
    site = Site(cluster)
    node, others = site.victim(role)
    watched = Watched(site, node, others)
    node.stop()
    flip(site, node)
    node.start()
    watched.restarted(may_fail=True)
    with node.raw() as conn:
        for words in (("GET", key_of(HARMED)), ("QS.MGET", key_of(1), key_of(HARMED))):
            reply = conn.call(*words)
            assert isinstance(reply, RespError) and reply.word == "CORRUPT", reply
    assert counters(node)["reads_corrupt"] >= 2
    # The reads have asked for a walk: either one finds it, or that one did, and it is healed now.
    reply = scan(node)
    assert counters(node)["builds"] > 0 or reply.word == "CORRUPT", reply
    assert counters(node)["walk_failures"] in (1, 2), "one walk finds it"
    wait_healed(node)
    assert watched.end()["walk_failures"] in (1, 2)


# ---- the history -------------------------------------------------------------------------------


def token_of(node):
    return node.call("QS.INDEX", "TOKEN").decode()


def found_fork(root, ancestor):
    """The birth of a history that forked from `ancestor`, for a root that has nothing yet."""
    journal = root.data / "main" / "journal"
    journal.mkdir(parents=True)
    subprocess.run([QSD.parent / "tests" / "fork_history", journal, ancestor], check=True)


@pytest.mark.parametrize("role", ROLES)
def test_another_history(cluster, role):
    """One that does not name the node's own as its ancestor is refused; one that does is taken."""
    site = Site(cluster)
    node, others = site.victim(role)
    other = cluster.root("other", **SLOWLY).start()
    other.call("QS.PUT", key_of(1), b"of another history")
    index, token = node.index(), token_of(node)
    node.stop()
    watched = Watched(site, node, others)
    node.instances["main"]["parents"] = [other]
    if role == "proxy":
        node.instances["main"]["replicas"] = [other, site.right]
    node.start()
    watched.restarted()
    place = lambda: node.place()["parent"]["state"]
    wait_for(lambda: "unrelated history" in place(), 20, "a refusal in words")
    assert "refused by" in node.log.read_text()
    assert (node.index(), token_of(node)) == (index, token)
    assert not any(counters(node).values())
    for each in watched.reads:
        each.end()
    watched.writes.end()
    Reads(node, site.model).end()

    client = node.raw()
    assert client.call("QS.INDEX") == index
    other.stop()
    shutil.rmtree(other.data / "main")
    found_fork(other, token.partition(":")[0])
    other.start()
    value = random.randbytes(300)
    version = other.call("QS.PUT", key_of(1), value)
    wait_for(lambda: token_of(node) == token_of(other), 60, "the other history's data")
    assert tuple(node.call("QS.GET", key_of(1))[:2]) == (value, version)
    assert node.call("DBSIZE") == 1 and node.digest() == other.digest()
    assert counters(node)["builds"] == 1
    assert "forked from the one here" in node.log.read_text()
    reply = client.call("QS.INDEX")
    assert isinstance(reply, RespError) and reply.word == "HISTORY", reply
    assert client.closed()
    with node.raw() as conn:
        for words in (("QS.WAITINDEX", token, "10"), ("QS.GETAT", key_of(1), token)):
            reply = conn.call(*words)
            assert isinstance(reply, RespError) and reply.word == "HISTORY", (words, reply)
    code, out, _ = qs("-s", node.socket, "--json", "status")
    assert code == 0 and f"history={token_of(other).partition(':')[0]}".encode() in out
    watched.untouched.check()


def test_a_replica_whose_history_forks(cluster):
    """A proxy that stays with the history before gets nothing of the other one: no check vouches
    for answers about the past."""
    root = cluster.root().start()
    middle = cluster.replica("middle", root).start()
    replica = cluster.replica("replica", middle).start()
    proxy = cluster.proxy("proxy", root, [replica], fetch="300ms").start()
    for number in range(1, 41):
        assert root.call("QS.PUT", b"k", b"%d" % number) == number
    cluster.settle()
    past = lambda at: proxy.call("QS.GETAT", b"k", str(at))
    wait_for(lambda: proxy.metrics("main")["replicas_connected"] == 1, 20, "the replica")
    assert past(20) == [b"20", 20, 20]
    # In its parent's place now stands a root whose history forked from theirs.
    middle.stop()
    usurper = cluster.root("usurper", node={"peer": middle.peer})
    found_fork(usurper, token_of(root).partition(":")[0])
    usurper.start()
    usurper.call("QS.PUT", b"k", b"other 1")
    wait_for(lambda: token_of(replica) == token_of(usurper), 60, "the replica to fork")
    for number in range(2, 41):
        usurper.call("QS.PUT", b"k", b"other %d" % number)
    cluster.settle(usurper, replica)
    with proxy.raw() as conn:
        for at in (5, 20, 39):
            reply = conn.call("QS.GETAT", b"k", str(at))
            assert isinstance(reply, RespError) and reply.word == "UNAVAILABLE", (at, reply)
        assert conn.call("GET", b"k") == b"40"


# ---- the rate of a walk ------------------------------------------------------------------------


def test_the_rate_of_a_walk(cluster, say):
    count = 200_000
    root = cluster.root(walk_rate=0).start()
    proxy = cluster.proxy("proxy", root, [root], walk_rate=0).start()
    with root.raw() as conn:
        for at in range(0, count, 2000):
            words = [word for n in range(at, at + 2000) for word in (key_of(n), b"v" * 100)]
            assert conn.call("MSET", *words) == b"OK"
    cluster.settle()
    for node in (root, proxy):
        before = node.metrics("main")
        assert not isinstance(scan(node), RespError)
        after = node.metrics("main")
        keys, took_ms = after["walk_keys"] - before["walk_keys"], after["walk_ms"]
        assert keys >= count
        say(f"{node.name}: {count} keys walked in {took_ms:.0f} ms, "
            f"{count / max(took_ms, 1) * 1000:.0f} keys/s")
