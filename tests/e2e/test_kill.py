# SPDX-License-Identifier: Apache-2.0
"""kill -9 of any node at random moments under writes; and the same with the power cut.

After each cycle: nothing acknowledged is lost, nothing is invented, every node's store equals the
root's key by key with versions, and no client reads an older index than before the kill.
KILL_CYCLES and POWER_CYCLES set how many cycles; a failing seed is printed with the failure.
"""
import os
import random
import threading

import pytest

import power
from qs_cluster import SLOW, triples, wait_for
from resp import RespError

pytestmark = pytest.mark.once
KILL_CYCLES = int(os.environ.get("KILL_CYCLES", 20))
POWER_CYCLES = int(os.environ.get("POWER_CYCLES", 10))
SHARES = 4  # the cycles are spread over so many trees, which run in parallel
NAMES = ["root", "middle", "replica", "proxy", "empty"]


class Writer(threading.Thread):
    """One connection that puts and deletes, `window` requests under way; survives the root.

    acknowledged: {key: (index, value or None)} of the newest answer; open_ends: what was sent but
    not answered, whose outcome is unknown: key -> values that may have been written.
    """

    def __init__(self, root, name, seed, window=50):
        super().__init__(daemon=True)
        self.root, self.tag = root, name
        self.rng = random.Random(seed)
        self.window = window
        self.serial = 0
        self.acknowledged, self.open_ends = {}, {}
        self.top = 0
        self.running = True
        self.fault = None
        self.answers = 0

    def run(self):
        try:
            while self.running:
                try:
                    self.burst()
                except (OSError, ConnectionError, TimeoutError):
                    threading.Event().wait(0.02)
        except BaseException as fault:  # shown by the test
            self.fault = fault

    def burst(self):
        with self.root.raw() as conn:
            while self.running:
                requests = [self.request() for _ in range(self.rng.randint(1, self.window))]
                waiting = list(requests)
                try:
                    conn.send(b"".join(self.encode(*words) for words in requests))
                    while waiting:
                        self.answered(waiting[0], conn.reply())
                        waiting.pop(0)
                finally:
                    for words in waiting:
                        value = words[2] if len(words) == 3 else None
                        self.open_ends.setdefault(words[1], []).append(value)

    @staticmethod
    def encode(*words):
        from resp import encode

        return encode(*words)

    def request(self):
        key = f"{self.tag}:{self.rng.randrange(400):03}".encode()
        self.serial += 1
        if self.rng.random() < 0.2:
            return ("QS.DELETE", key)
        size = self.rng.choice([10, 100, 1000, 5000])
        return ("QS.PUT", key, b"%s=%d;" % (key, self.serial) + b"." * self.rng.randrange(size))

    def answered(self, words, reply):
        value = words[2] if len(words) == 3 else None
        if isinstance(reply, RespError):
            # UNKNOWN and LOADING: as good as no answer.
            self.open_ends.setdefault(words[1], []).append(value)
            return
        assert reply >= self.top, f"index {reply} was answered after {self.top}"
        self.top = reply
        self.answers += 1
        self.acknowledged[words[1]] = (reply, value)
        self.open_ends.pop(words[1], None)


class Watcher(threading.Thread):
    """A client that reads the index of one node again and again, across its restarts."""

    def __init__(self, node):
        super().__init__(daemon=True)
        self.node, self.highest, self.running, self.fault = node, 0, True, None

    def run(self):
        while self.running:
            try:
                with self.node.raw() as conn:
                    while self.running:
                        reply = conn.call("QS.GET", "watched")
                        if isinstance(reply, RespError):
                            raise ConnectionError
                        if reply[2] < self.highest:
                            self.fault = f"{self.node.name}: {reply[2]} after {self.highest}"
                            return
                        self.highest = reply[2]
            except (OSError, ConnectionError, TimeoutError):
                threading.Event().wait(0.02)


def whole(node):
    """{key: (value, version)} of a quiet node, by SCAN and QS.MGET."""
    out = {}
    with node.raw() as conn:
        cursor = b"0"
        while True:
            cursor, keys = conn.call("SCAN", cursor, "COUNT", "500")
            if keys:
                rows = triples(conn.call("QS.MGET", *keys))
                for key, (value, version, _) in zip(keys, rows):
                    assert value is not None and version > 0, (node.name, key, value, version)
                    out[key] = (value, version)
            if cursor == b"0":
                return out


def check_root(state, writers):
    """Acknowledged writes are there; what is there was acknowledged or is of unknown outcome."""
    for writer in writers:
        for key, (index, value) in writer.acknowledged.items():
            held, version = state.get(key, (None, 0))
            if key in writer.open_ends and held in writer.open_ends[key]:
                continue
            assert held == value, f"acknowledged at {index} lost: {key!r}"
            assert value is None or version == index, (key, version, index)
        prefix = writer.tag.encode() + b":"
        for key in (key for key in state if key.startswith(prefix)):
            known = key in writer.acknowledged or key in writer.open_ends
            assert known, f"invented: {key!r}"


def cycle(cluster, nodes, writers, watchers, rng, cut):
    """Kills one node, starts it again, compares everything. Returns (answers, bytes cut away)."""
    gone = 0
    victim = rng.choice(nodes)
    goal = sum(writer.answers for writer in writers) + rng.randrange(20, 3000)
    wait_for(lambda: sum(w.answers for w in writers) >= goal, 60, "the writers")
    threading.Event().wait(rng.random() * 0.05)
    victim.kill()
    if cut:
        gone = power.cut(victim)
    threading.Event().wait(rng.random() * 0.3)
    victim.start()
    # Stand still: no write is under way, then everything is compared.
    for writer in writers:
        writer.running = False
        writer.join(60 * SLOW)
        assert not writer.is_alive() and writer.fault is None, writer.fault
    cluster.check_equal(*nodes)
    state = whole(nodes[0])
    check_root(state, writers)
    for node in nodes[1:]:
        other = whole(node)
        assert other == state, difference(state, other, node.name)
    for watcher in watchers:
        assert watcher.fault is None, watcher.fault
        assert watcher.is_alive()
    for writer in writers:
        # What the root has now is the truth about every open end.
        for key in writer.open_ends:
            value, version = state.get(key, (None, 0))
            writer.acknowledged[key] = (version, value)
        writer.open_ends.clear()
    return sum(writer.answers for writer in writers), gone


def difference(state, other, name):
    keys = [k for k in state.keys() | other.keys() if state.get(k) != other.get(k)]
    return f"{name} differs from the root in {len(keys)} keys: {sorted(keys)[:5]}"


def campaign(cluster, seed, cycles, cut, say):
    rng = random.Random(seed)
    print(f"seed {seed}")
    small = {"memtable": "1MB", "replay_bytes": "2MB", "segment_bytes": "256KB"}
    if cut:
        small["sync"] = "50ms"  # long tails for the power to take
    root = cluster.root(**small)
    middle = cluster.replica("middle", root, **small)
    replica = cluster.replica("replica", middle, **small)
    proxy = cluster.proxy("proxy", middle, [replica, middle], **small)
    empty = cluster.proxy("empty", middle, [replica, middle], keep_bytes=0, **small)
    nodes = [root, middle, replica, proxy, empty]
    for node in nodes:
        if cut:
            power.arm(node)
        node.start()
    watchers = [Watcher(node) for node in nodes]
    for watcher in watchers:
        watcher.start()
    writers = [Writer(root, f"w{i}", f"{seed}/{i}") for i in range(2)]
    answers = gone = 0
    for number in range(cycles):
        fresh = []
        for i, old in enumerate(writers):
            writer = Writer(root, old.tag, f"{seed}/{number}/{i}")
            writer.serial = old.serial
            writer.acknowledged, writer.top = old.acknowledged, old.top
            fresh.append(writer)
        writers = fresh
        for writer in writers:
            writer.start()
        written, lost = cycle(cluster, nodes, writers, watchers, rng, cut)
        answers, gone = answers + written, gone + lost
    for watcher in watchers:
        watcher.running = False
        watcher.join(30 * SLOW)
        assert watcher.highest > 0
    how = f"power cuts, {gone:,} bytes of journals gone with them" if cut else "kills"
    say(f"{cycles} {how}; {answers:,} acknowledged writes, none lost; five stores equal each time")


def share(total, number):
    return total // SHARES + (number < total % SHARES)


@pytest.mark.long
@pytest.mark.limit(60 + 15 * KILL_CYCLES)
@pytest.mark.parametrize("number", range(SHARES))
def test_kill(cluster, number, say):
    seed = os.environ.get("SEED", f"kill {number}")
    campaign(cluster, seed, share(KILL_CYCLES, number), False, say)


@pytest.mark.limit(60 + 15 * POWER_CYCLES)
@pytest.mark.parametrize("number", range(SHARES))
def test_power_cut(cluster, number, say):
    if not power.LIBRARY.exists():
        pytest.fail(f"{power.LIBRARY} is not built: make programs")
    seed = os.environ.get("SEED", f"power {number}")
    campaign(cluster, seed, share(POWER_CYCLES, number), True, say)


def test_everybody_at_once(cluster):
    """The whole site loses power; all nodes come back in any order."""
    nodes = cluster.tree()
    writer = Writer(nodes[0], "w", "all")
    writer.start()
    wait_for(lambda: writer.answers > 3000, 60, "the writer")
    for node in nodes:
        node.kill()
    for node in reversed(nodes):
        node.launch()
    for node in nodes:
        node.wait_ready()
    writer.running = False
    writer.join(60 * SLOW)
    assert writer.fault is None, writer.fault
    cluster.check_equal(*nodes)
    state = whole(nodes[0])
    check_root(state, [writer])
    assert all(whole(node) == state for node in nodes[1:])
