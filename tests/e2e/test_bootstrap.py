# SPDX-License-Identifier: Apache-2.0
"""A node that the log alone does not lead on builds its store from another node's snapshot."""
import random
import shutil
import subprocess
import threading

import pytest

import peer
from qs_cluster import QSD, SLOW, triples, wait_for
from resp import RespError
from task import Task

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

    def until_forgotten(self):
        """Writes until nothing of what the root's journal holds now is left there."""
        self.put(500)
        newest = max(segments(self.root))

        def forgotten():
            self.put(1000)
            return min(segments(self.root)) > newest

        wait_for(forgotten, 120, "the root's journal to forget")


def segments(node):
    """Numbers of the first blocks of a node's segments."""
    return [int(path.stem, 16) for path in node.journal_files("main")]


def check(node, model):
    keys = sorted(model)
    with node.raw() as conn:
        for at in range(0, len(keys), 200):
            part = keys[at : at + 200]
            for key, (value, version, _) in zip(part, triples(conn.call("QS.MGET", *part))):
                assert (value, version) == model[key], (node.name, key)
        assert conn.call("DBSIZE") == len(model)


def builds(node):
    """How many stores it has built since its start."""
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
    writes.until_forgotten()
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


class Background(Task):
    """Writes all the time."""

    def __init__(self, writes):
        super().__init__(writes.root)
        self.writes = writes

    def work(self):
        while not self.ended.wait(0.02):
            self.writes.put(100, 1000)


class Reader(Task):
    """One connection whose reads must never go back, and always be of a state that there was."""

    reads = 0

    def work(self):
        with self.node.raw() as conn:
            last = 0
            while not self.ended.is_set():
                keys = [b"key:%05d" % n for n in random.sample(range(3000), 20)]
                rows = triples(conn.call("QS.MGET", *keys))
                assert rows[0][2] >= last, "the index went back"
                last = rows[0][2]
                self.reads += 1


@pytest.mark.parametrize("role", ["replica", "proxy"])
def test_a_node_that_was_away_too_long(cluster, role):
    """It serves its old state until the new one is whole, while writes go on."""
    root = cluster.root(snapshot_rate="3MB", **SHORT).start()
    node = (
        cluster.replica("node", root, **SHORT)
        if role == "replica"
        else cluster.proxy("node", root, [root], **SHORT)
    ).start()
    writes = Writes(root, 2)
    writes.put(3000)
    before = cluster.settle()
    model = dict(writes.model)
    check(node, model)
    node.stop()
    writes.until_forgotten()
    node.start()
    assert node.index() == before
    reader, background = Reader(node), Background(writes)
    reader.start()
    background.start()
    wait_for(lambda: builds(node) == 1, 120, "the snapshot")
    background.end()
    cluster.check_equal(root, node)
    reader.end()
    assert reader.reads > 10
    check(node, writes.model)
    stores = [path.name for path in (node.data / "main").glob("store*")]
    wait_for(lambda: len(list((node.data / "main").glob("store*"))) == 1, 30, f"one of {stores}")


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2])
def test_either_side_is_killed_again_and_again(cluster, seed, say):
    rng = random.Random(seed)
    root = cluster.root(**SHORT).start()
    middle = cluster.replica("middle", root, snapshot_rate="256KB", **SHORT).start()
    writes = Writes(root, seed)
    writes.put(3000)
    cluster.settle()
    writes.until_forgotten()
    node = cluster.replica("node", middle, **SHORT).launch()
    background = Background(writes)
    background.start()
    kills = 0
    while kills < 20:
        threading.Event().wait(rng.uniform(0.02, 0.7) * SLOW)
        victim = rng.choice([node, node, middle])
        victim.kill()
        victim.launch()
        kills += 1
    for each in (middle, node):
        each.wait_ready()
    wait_for(lambda: node.index() > 0, 120, "the snapshot")
    background.end()
    cluster.check_equal(root, middle, node)
    check(node, writes.model)
    resumed = node.log.read_text().count("a store is under construction")
    say(f"{kills} kills, {resumed} starts went on with a snapshot")


def damage_store(node):
    """Flips bytes of values inside the files of a stopped node's store."""
    hurt = 0
    for path in sorted((node.data / "main").glob("store*/*.sst")):
        content = bytearray(path.read_bytes())
        if len(content) > 80000:  # not the row that says where the store stands
            for at in range(40000, len(content) - 20000, 5000):
                content[at] ^= 0x55
                hurt += 1
            path.write_bytes(content)
    assert hurt > 0


def test_a_store_that_fails_the_walk_is_built_anew(cluster):
    root = cluster.root().start()
    node = cluster.replica("node", root, memtable="1MB", replay_bytes="1MB").start()
    writes = Writes(root, 3)
    writes.put(5000)
    cluster.settle()
    node.stop()
    damage_store(node)
    node.start()
    background = Background(writes)
    background.start()
    with node.raw(timeout=60) as conn:
        conn.call("QS.DIGEST", "SCAN")  # an error, or the damage was met before
    wait_for(lambda: builds(node) == 1, 60, "the new store")
    background.end()
    cluster.check_equal(root, node)
    check(node, writes.model)
    assert node.metrics("main")["state"] == 1


def test_a_place_is_refused_when_all_are_taken(cluster):
    root = cluster.root(snapshots_max=0, **SHORT).start()
    writes = Writes(root, 4)
    writes.put(1000)
    writes.until_forgotten()
    node = cluster.replica("node", root, **SHORT).launch()
    wait_for(lambda: "busy" in node.log.read_text(), 30, "a refusal in words")
    assert node.index() == 0
    root.instances["main"]["snapshots_max"] = 1
    root.restart()
    wait_for(lambda: builds(node) == 1, 60, "the snapshot")
    cluster.check_equal(root, node)


def history_of(node):
    return node.call("QS.INDEX", "TOKEN").decode().partition(":")[0]


def refound(root, ancestor=None):
    """The root's place is taken by an empty one: unrelated, or forked from `ancestor`."""
    root.stop()
    shutil.rmtree(root.data / "main")
    if ancestor is not None:
        journal = root.data / "main" / "journal"
        journal.mkdir(parents=True)
        tool = QSD.parent / "tests" / "fork_history"
        subprocess.run([tool, journal, ancestor], check=True)
    root.start()


def test_another_history_is_refused_and_a_fork_is_taken(cluster):
    root = cluster.root().start()
    middle = cluster.replica("middle", root).start()
    proxy = cluster.proxy("proxy", middle, [middle]).start()
    writes = Writes(root, 6)
    writes.put(1000)
    index, _ = cluster.check_equal()
    ancestor, model = history_of(root), writes.model
    refound(root)
    words = "unrelated history"
    wait_for(lambda: words in middle.log.read_text(), 30, "the alarm")
    for node in (middle, proxy):
        assert node.index() == index and history_of(node) == ancestor
        check(node, model)
    old_client = middle.raw()
    assert old_client.call("QS.INDEX") == index
    refound(root, ancestor)
    writes = Writes(root, 7)
    writes.put(300)
    for node in (middle, proxy):
        wait_for(lambda node=node: history_of(node) == history_of(root), 60, "the fork")
        wait_for(lambda node=node: node.index() == root.index(), 60, "the fork's data")
    cluster.check_equal()
    check(middle, writes.model)
    check(proxy, writes.model)
    with old_client:
        reply = old_client.call("QS.INDEX")
        assert isinstance(reply, RespError) and reply.startswith(b"HISTORY"), reply
        with pytest.raises((ConnectionError, OSError)):
            old_client.call("QS.INDEX")
    for node in (middle, proxy):
        node.restart()
    writes.put(100)
    cluster.check_equal()


def test_a_lost_journal_is_no_loss(cluster):
    """The store is ahead of what is left of the journal: it serves on and is built anew."""
    root = cluster.root(**SHORT).start()
    node = cluster.replica("node", root, **SHORT).start()
    writes = Writes(root, 8)
    writes.put(2000)
    index = cluster.settle()
    node.stop()
    for path in node.journal_files("main"):
        path.unlink()
    writes.until_forgotten()
    node.start()
    assert node.index() >= index
    wait_for(lambda: builds(node) == 1, 60, "the snapshot")
    cluster.check_equal(root, node)
    check(node, writes.model)


def test_a_damaged_journal_that_nobody_can_mend(cluster):
    """What is behind the damage was never flushed, and has been trimmed everywhere else."""
    root = cluster.root(**SHORT).start()
    node = cluster.replica("node", root, replay_bytes="1GB", memtable="64MB").start()
    writes = Writes(root, 9)
    writes.put(6000)
    index = cluster.settle()
    wait_for(lambda: min(segments(root)) > 1, 30, "the root's journal to forget")
    node.kill()
    segment = min(node.journal_files("main"))
    content = bytearray(segment.read_bytes())
    content[len(content) // 20] ^= 0x10
    segment.write_bytes(content)
    node.start()
    wait_for(lambda: builds(node) == 1, 60, "the snapshot")
    assert node.index() >= index
    writes.put(100)
    cluster.check_equal(root, node)
    check(node, writes.model)


def test_a_slice_is_asked_for_elsewhere(cluster):
    """Two parents, one of which gives nothing: the other one does."""
    root = cluster.root(**SHORT).start()
    mute = cluster.replica("mute", root, snapshots_max=0, **SHORT).start()
    writes = Writes(root, 9)
    writes.put(1000)
    writes.until_forgotten()
    cluster.settle()
    node = cluster.replica("node", mute, **SHORT)
    node.instances["main"]["parents"] = [mute, root]
    node.launch()
    wait_for(lambda: node.is_ready() and builds(node) == 1, 60, "the snapshot")
    cluster.check_equal()
    check(node, writes.model)


def snapshot_link(node):
    link = peer.PeerConn(node.peer)
    link.send(peer.hello(peer.SNAPSHOT))
    return link, link.receive_until("welcome")


def slices(link, size, values_above=0):
    """All records that a node gives, by hand: {key: (version, value)}."""
    found, start, number = {}, b"", 0
    while True:
        number += 1
        asked = dict(id=number, bytes=size, values_above=values_above)
        link.send(peer.message("slice", **{"from": start}, **asked))
        answer = link.receive_until("slice_items")
        assert answer["id"] == number and len(answer["header"]) == 128
        items = peer.Unpacker(answer["items"])
        while items.at < len(items.data):
            key, version, length, _, value = items.next()
            assert key > start and (value is None or len(value) == length)
            found[key], start = (version, value), key
        if answer["last"]:
            return found


def test_slices_by_hand(cluster):
    """What a node gives is what it holds; who does not keep to the rules is left."""
    root = cluster.root().start()
    writes = Writes(root, 10)
    writes.put(1000)
    model = {key: (version, value) for key, (value, version) in writes.model.items()}
    link, welcome = snapshot_link(root)
    assert welcome["answer"] == peer.RESUME
    for size in (1, 5000, 1 << 20):
        assert slices(link, size) == model
    above = root.index() - 100
    for key, (version, value) in slices(link, 1 << 20, above).items():
        assert value == (model[key][1] if version > above else None)
    for wrong in (
        [peer.message("slice", bytes=1, **{"from": b"k" * 1025})],
        [peer.message("slice", bytes=1), peer.message("slice", bytes=1)],  # one at a time
        [peer.message("slice_items", id=1)],
    ):
        link, welcome = snapshot_link(root)
        link.send(b"".join(wrong))
        wait_for(link.finish, 20, "the link to be left")
    link, _ = snapshot_link(root)
    link.send(peer.message("slice", bytes=1, least=1 << 40))
    assert b"lower" in link.receive_until("goodbye")["reason"]
    wait_for(lambda: root.metrics("main")["snapshots"] == 0, 20, "all links to be gone")
    assert root.index() > 0
