# SPDX-License-Identifier: Apache-2.0
"""A proxy beside replicas that stand elsewhere than it does, and beside replicas that die.

What it answers is compared, at the index that it names, with the model. Nodes are held where they
are by stopping (SIGSTOP) the one node that feeds them.
"""
import json
import pathlib
import random
import signal
import threading
import time

import pytest

from model import ABSENT, Model, Reader
from qs_cluster import KEEPS_NOTHING, qs, triples, wait_for
from resp import RespError

APART = 10000
KEYS = [b"key:%05d" % i for i in range(8000)]


class Feed:
    """Writes random batches of one entry at the root, and notes them in the model."""

    def __init__(self, root, seed):
        self.root, self.rng, self.model = root, random.Random(seed), Model()

    def write(self, count):
        with self.root.raw() as conn:
            while count > 0:
                changes = [self.change() for _ in range(min(count, 1000))]
                replies = conn.pipeline([request for _, _, request in changes])
                for (key, value, _), index in zip(changes, replies):
                    if index == self.model.last + 1:  # else: a delete of what was not there
                        self.model.write(index, {key: value})
                        count -= 1
                    else:
                        assert index == self.model.last and value is ABSENT
        return self.model.last

    def change(self):
        key = self.rng.choice(KEYS)
        if self.rng.random() < 0.2:
            return key, ABSENT, ("QS.DELETE", key)
        value = self.rng.randbytes(self.rng.randint(0, 200))
        return key, value, ("QS.PUT", key, value)


def check(model, keys, reply, reader=None):
    """One QS.MGET; returns the index that it names."""
    assert not isinstance(reply, RespError), reply
    rows = triples(reply)
    assert len(rows) == len(keys)
    index = rows[0][2]
    for key, (value, version, at) in zip(keys, rows):
        assert at == index
        assert value == model.value(key, index), (key, index)
        assert version == model.version(key, index), (key, index)
    if reader is not None:
        reader.saw_index(index)
    return index


def stands_still(pid):
    states = []
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        try:
            states.append((task / "stat").read_text().rpartition(")")[2].split()[0])
        except (FileNotFoundError, ProcessLookupError):
            pass  # a thread that has ended meanwhile
    return set(states) == {"T"}


def hold(node, signal_number):
    node.process.send_signal(signal_number)
    if signal_number == signal.SIGSTOP:  # its threads go on for a moment
        wait_for(lambda: stands_still(node.process.pid), 10, f"{node.name} to stand still")


def test_replicas_behind_and_ahead(cluster, say):
    """One replica is 10,000 indexes behind the proxy, the other 10,000 ahead."""
    root = cluster.root(journal_bytes="1GB").start()
    above_behind = cluster.replica("above-behind", root).start()
    above_proxy = cluster.replica("above-proxy", root).start()
    behind = cluster.replica("behind", above_behind).start()
    ahead = cluster.replica("ahead", root).start()
    proxy = cluster.proxy("proxy", above_proxy, [behind, ahead], **KEEPS_NOTHING).start()
    feed = Feed(root, 20)
    try:
        low = feed.write(APART)
        cluster.settle()
        hold(above_behind, signal.SIGSTOP)
        here = feed.write(APART)
        proxy.wait_index(here)
        hold(above_proxy, signal.SIGSTOP)
        high = feed.write(APART)
        ahead.wait_index(high)
        stand = (behind.index(), proxy.index(), ahead.index())
        assert stand == (low, here, high) and (here - low, high - here) == (APART, APART)

        rng = random.Random(21)
        keys = rng.sample(KEYS, len(KEYS))
        # What was fetched once is here. These are left for the one behind to refuse.
        newer = [key for key in keys if feed.model.version(key, here) > low][:2000]
        kept = set(newer)
        keys = [key for key in keys if key not in kept]
        half = len(keys) // 2
        with proxy.raw() as conn:
            for at in range(0, half, 100):
                some = keys[at : at + 100] + [b"nothing"]
                assert check(feed.model, some, conn.call("QS.MGET", *some)) == here
            for key in keys[half:]:
                assert check(feed.model, [key], conn.call("QS.GET", key)) == here

            def refused():
                """Known to be behind, it is asked for old keys alone; that is soon forgotten."""
                key = newer.pop()
                assert check(feed.model, [key], conn.call("QS.GET", key)) == here
                return proxy.metrics("main")["fetch_behind"] > 0

            wait_for(refused, 20, "the one behind to be asked too")
        counted = proxy.metrics("main")
        served = {node.name: node.metrics("main")["served"] for node in (behind, ahead)}
        # Where a second replica is asked already, nobody is asked again.
        asked_again = counted["fetch_retried"] + counted["fetch_hedged"]
        assert asked_again >= counted["fetch_behind"]
        assert counted["fetch_failed"] == counted["fetch_never"] == counted["fetch_bad"] == 0
        assert served["behind"] > 0 and served["ahead"] > 0
        say(f"{len(KEYS) - len(newer)} keys right at index {here}; served {served}; "
            f"{counted['fetch_sent']:.0f} asked, {counted['fetch_behind']:.0f} refused as behind, "
            f"{counted['fetch_retried']:.0f} asked again, 0 failed")

        # Let go: the answers follow the log while both catch up.
        hold(above_proxy, signal.SIGCONT)
        hold(above_behind, signal.SIGCONT)
        reader = Reader(feed.model, here)
        with proxy.raw() as conn:
            while reader.index < high:
                some = rng.sample(KEYS, 50)
                check(feed.model, some, conn.call("QS.MGET", *some), reader)
    finally:
        for node in (above_behind, above_proxy):
            if node.process:
                hold(node, signal.SIGCONT)
    assert proxy.metrics("main")["fetch_failed"] == 0
    cluster.check_equal()


class Reading(threading.Thread):
    """Reads random keys until told to stop; keeps every question and answer."""

    def __init__(self, node, seed):
        super().__init__()
        self.node, self.rng, self.answers = node, random.Random(seed), []
        self.enough, self.fault = threading.Event(), None

    def run(self):
        try:
            with self.node.raw() as conn:
                while not self.enough.is_set():
                    keys = self.rng.sample(KEYS, 20)
                    self.answers.append((keys, conn.call("QS.MGET", *keys)))
        except Exception as fault:  # shown by the test
            self.fault = fault


@pytest.mark.long
@pytest.mark.parametrize("at_once", [1, 2])
def test_replicas_are_killed_again_and_again(cluster, say, at_once):
    """kill -9 of one or two of three every second, under reads that miss: no client sees it."""
    root = cluster.root().start()
    replicas = [cluster.replica(f"replica{i}", root).start() for i in range(3)]
    proxy = cluster.proxy("proxy", root, replicas, **KEEPS_NOTHING).start()
    feed = Feed(root, 30)
    feed.write(2 * len(KEYS))
    cluster.settle()
    readers = [Reading(proxy, seed) for seed in range(2)]
    for reader in readers:
        reader.start()
    kills = 10
    try:
        for i in range(kills):
            victims = [replicas[(i + j) % 3] for j in range(at_once)]
            began = time.monotonic()
            for victim in victims:
                victim.kill()
            feed.write(400)
            for victim in victims:
                victim.start()
            while time.monotonic() - began < 1:
                feed.write(50)
    finally:
        for reader in readers:
            reader.enough.set()
            reader.join()
    answers = 0
    for reader in readers:
        assert reader.fault is None, reader.fault
        seen = Reader(feed.model)
        for keys, reply in reader.answers:
            check(feed.model, keys, reply, seen)
        answers += len(reader.answers)
    counted = proxy.metrics("main")
    assert counted["fetch_failed"] == 0
    assert counted["fetch_misses"] > 1000, "the reads must have missed"
    say(f"{kills} times {at_once} killed, {answers} answers of 20 keys, "
        f"{counted['fetch_misses']:.0f} misses, {counted['fetch_retried']:.0f} asked again, "
        f"{counted['fetch_hedged']:.0f} hedged, 0 errors")
    cluster.check_equal()


def test_a_range_larger_than_fetch_max(cluster):
    """One reply may need more values than may be fetched at once: they come in slices."""
    root = cluster.root().start()
    proxy = cluster.proxy("proxy", root, [root], fetch_max=64, **KEEPS_NOTHING).start()
    with root.raw() as conn:
        conn.pipeline([("QS.PUT", key, key * 20) for key in KEYS])
    cluster.settle()
    with proxy.raw() as conn:
        reply = conn.call("QS.RANGE", "", "", "LIMIT", len(KEYS))
        assert reply == [each for key in KEYS for each in (key, key * 20)]
        assert conn.call("MGET", *KEYS[:500]) == [key * 20 for key in KEYS[:500]]
    counted = proxy.metrics("main")
    assert counted["fetch_failed"] == 0 and counted["fetch_misses"] >= len(KEYS)


def test_quarantine_and_hedges_are_shown(cluster):
    """A replica that is lost three times in a row is tried by a probe; a silent one is hedged."""
    root = cluster.root().start()
    good = cluster.replica("good", root).start()
    other = cluster.replica("other", root).start()
    proxy = cluster.proxy("proxy", root, [good, other], **KEEPS_NOTHING).start()
    with root.raw() as conn:
        conn.pipeline([("QS.PUT", key, key) for key in KEYS])
    cluster.settle()
    left = iter(KEYS)

    def states():
        shown = json.loads(proxy.http("/api/status")[1])["instances"][0]["replicas"]
        assert [each["address"] for each in shown] == [good.peer, other.peer]
        return [each["state"] for each in shown]

    def miss(count):
        with proxy.raw() as conn:
            for _ in range(count):
                key = next(left)
                assert conn.call("GET", key) == key

    wait_for(lambda: states() == ["ready", "ready"], 20, "both replicas")
    miss(20)
    for expected in ("ready", "ready", "quarantine"):
        other.kill()
        wait_for(lambda: states() == ["ready", "away"], 20, "the loss to be seen")
        other.start()
        wait_for(lambda: states() == ["ready", expected], 20, f"it to be {expected} again")
    code, out, _ = qs("-s", proxy.socket, "status")
    assert code == 0 and b"quarantine" in out and other.peer.encode() in out
    counted = proxy.metrics("main")
    assert (counted["replicas_connected"], counted["replicas_quarantined"]) == (2, 1)
    assert counted["fetch_quarantines"] == 1 and counted["fetch_probes"] == 0
    wait_for(lambda: miss(1) or states() == ["ready", "ready"], 20, "the probe")
    assert proxy.metrics("main")["fetch_probes"] >= 1

    hold(other, signal.SIGSTOP)
    try:
        wait_for(lambda: miss(5) or proxy.metrics("main")["fetch_hedges_won"], 20, "a hedge")
    finally:
        hold(other, signal.SIGCONT)
    miss(20)
    assert proxy.metrics("main")["fetch_failed"] == 0
