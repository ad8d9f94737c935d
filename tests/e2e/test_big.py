# SPDX-License-Identifier: Apache-2.0
"""Building big stores from a sibling's snapshot, under constant writes: it converges, it resumes
after kills of either side, readers of the giving node hardly notice, and a node that is built anew
serves its old data to the end. BIG_BYTES says how big; `make big` takes 5 GB. All figures are
printed, none is asserted that a clock has to do with."""
import contextlib
import os
import random
import re
import shutil
import signal
import statistics
import threading
import time

import pytest

from latency import any_of, p99_us
from qs_cluster import wait_for
from resp import RespError
from task import Task
from test_evict import used

pytestmark = pytest.mark.once
KIB, MIB = 1 << 10, 1 << 20
BIG_BYTES = int(os.environ.get("BIG_BYTES", 50 * MIB))
SIZE = 4000
COUNT = BIG_BYTES // SIZE
BATCH = 50
PIPELINE = 10 * BATCH
# Five seconds for a small one; no more than the default for a big one. BIG_RATE is another one.
RATE = int(os.environ.get("BIG_RATE", min(64 * MIB, BIG_BYTES // 5)))
SLICE = max(64 * KIB, RATE // 256)
JOURNAL = max(16 * MIB, BIG_BYTES // 16)
WINDOW_S, PAIRS = 0.25, 80  # of each half of a transfer
FLUSH = 16 * MIB  # what a kill may cost the receiving side, and has to be asked for again
PATIENCE_S = 120 + BIG_BYTES // min(4 * MIB, RATE // 4)
OPTIONS = {
    "snapshot_rate": RATE,
    "journal_bytes": JOURNAL,
    "segment_bytes": JOURNAL // 16,
    "replay_bytes": JOURNAL // 4,
    "memtable": "8MB",
    "walk_every": 0,
    "walk_rate": 0,
}
NOISE = random.Random(1).randbytes(64 * MIB)


def key_of(number):
    return b"key:%012d" % (number * 2654435761 % (1 << 32))


def value_of(number):
    at = number * 7919 % (len(NOISE) - SIZE)
    return b"%d " % number + NOISE[at : at + SIZE]


def fill(root):
    with root.raw(timeout=60) as conn:
        for begin in range(0, COUNT, PIPELINE):
            end, requests = min(begin + PIPELINE, COUNT), []
            for at in range(begin, end, BATCH):
                words = ["MSET"]
                for number in range(at, min(at + BATCH, end)):
                    words += [key_of(number), value_of(number)]
                requests.append(words)
            assert set(conn.pipeline(requests)) == {b"OK"}


class Steps(Task):
    """Does something again and again."""

    def __init__(self, node, pause_s=0.0):
        super().__init__(node)
        self.pause_s, self.count = pause_s, 0
        self.start()

    def work(self):
        with self.node.raw(timeout=60) as conn:
            while not self.ended.is_set() or self.count == 0:
                self.step(conn)
                self.count += 1
                if self.pause_s:
                    self.ended.wait(self.pause_s)


class Writes(Steps):
    """Keys of their own, put and deleted all the time."""

    def __init__(self, root, pause_s=0.02):
        self.rng = random.Random(2)
        super().__init__(root, pause_s)

    def step(self, conn):
        requests = []
        for _ in range(5):
            key = b"hot:%06d" % self.rng.randrange(max(100, COUNT // 20))
            put = self.rng.random() < 0.9
            value = value_of(self.rng.randrange(1 << 20))
            requests.append(("QS.PUT", key, value) if put else ("QS.DELETE", key))
        for reply in conn.pipeline(requests):
            assert isinstance(reply, int), reply


class OldReads(Steps):
    """Values that nobody writes any more: there and right, at indexes that never go back."""

    last = 0
    rng = random.Random(3)

    def step(self, conn):
        number = self.rng.randrange(COUNT)
        value, _, index = conn.call("QS.GET", key_of(number))
        assert value == value_of(number), number
        assert index >= self.last, "the index went back"
        self.last = index


class Disk(Steps):
    """The most that a node's directory takes."""

    peak = 0

    def __init__(self, node):
        super().__init__(node, 0.1)

    def step(self, conn):
        self.peak = max(self.peak, used(self.node))


class Paired:
    """The donor's p99 in pairs of windows, one while a node builds from it and one while that node
    stands still: what else happens on the machine falls on both. A receiver asks for one slice at
    a time, so a stopped one costs its donor nothing."""

    def __init__(self, name):
        self.name, self.with_us, self.without_us, self.bytes = name, [], [], 0

    def measure(self, conn, receiver, given, until):
        """Pairs, as many as there may be, then waits until so many bytes were given."""
        begun = given()
        while given() < until and len(self.with_us) < PAIRS:
            for stopped in random.sample((False, True), 2):
                receiver.process.send_signal(signal.SIGSTOP if stopped else signal.SIGCONT)
                taken = p99_us(conn, any_of(key_of, COUNT), WINDOW_S)
                (self.without_us if stopped else self.with_us).append(taken)
            receiver.process.send_signal(signal.SIGCONT)
        self.bytes = given() - begun
        done = lambda: given() >= until or metric(receiver, "builds") == 1
        wait_for(done, PATIENCE_S, "so many bytes")

    def text(self):
        ratios = sorted(a / b for a, b in zip(self.with_us, self.without_us))
        if len(ratios) < 4:
            return f"{self.name}: only {len(ratios)} pairs of windows"
        low, median, high = statistics.quantiles(ratios, n=4)
        held = "held" if median <= 1.10 else "NOT HELD"
        return (
            f"{self.name}: {statistics.median(self.with_us):.0f} us with, "
            f"{statistics.median(self.without_us):.0f} us without; with / without {median:.2f}, "
            f"median of {len(ratios)} pairs of windows (quartiles {low:.2f}-{high:.2f}, all "
            f"{ratios[0]:.2f}-{ratios[-1]:.2f}): within 10 % {held}; "
            f"{self.bytes / MIB / (len(ratios) * WINDOW_S):.0f} MiB/s given meanwhile"
        )


def schedule(node, policy):
    """How the kernel ranks all threads of a node."""
    for thread in os.listdir(f"/proc/{node.process.pid}/task"):
        os.sched_setscheduler(int(thread), policy, os.sched_param(0))


def metric(node, name):
    """0 while the door of metrics is not open."""
    try:
        return node.metrics("main")[name]
    except OSError:
        return 0


def is_open(node):
    """It has started; an empty one serves nothing before its store is built."""
    node.check_alive()
    try:
        return node.http("/metrics")[0] == 200
    except OSError:
        return False


def wait_settled(node):
    """Until a node's store has done with its compactions: its files stay as they are for long."""
    seen = []

    def still():
        threading.Event().wait(0.1)
        seen.append(metric(node, "store_bytes"))
        return len(seen) >= 20 and len(set(seen[-20:])) == 1

    wait_for(still, PATIENCE_S, "compactions to end")


def segments(node):
    return [int(path.stem, 16) for path in node.journal_files("main")]


def check(root, *nodes):
    """Equal, whole, and right at random places."""
    wait_equal(root, *nodes)
    rng = random.Random(5)
    for node in nodes:
        with node.raw(timeout=PATIENCE_S) as conn:
            for number in (rng.randrange(COUNT) for _ in range(1000)):
                assert conn.call("GET", key_of(number)) == value_of(number)
            scanned = conn.call("QS.DIGEST", "SCAN")
            assert not isinstance(scanned, RespError), scanned
            assert conn.call("QS.DIGEST") == scanned


def wait_equal(root, *nodes):
    for node in nodes:
        node.wait_ready(PATIENCE_S)
        node.wait_index(root.index(), seconds=PATIENCE_S)
        assert node.digest() == root.digest(), node.name


# ---- the parts ---------------------------------------------------------------------------------


def bootstrap(cluster, root, donor, say):
    """An empty replica beside the reads of the giving one. Both share this machine, so that the
    receiver's work is felt there too: in the first half it takes what time it can get, in the
    second only what nobody else wants, as if it were elsewhere."""
    node = cluster.replica("node", donor, **OPTIONS)
    wait_settled(donor)
    writes = Writes(root)
    beside = Paired("donor's p99, the receiver beside it")
    alone = Paired("donor's p99, the receiver only with what time is left")
    whole = metric(donor, "store_bytes")
    given = lambda: metric(donor, "snapshot_bytes")
    with donor.raw() as conn:
        p99_us(conn, any_of(key_of, COUNT), WINDOW_S)  # warms up
        begun = time.monotonic()
        node.launch()
        wait_for(lambda: given() > 0, PATIENCE_S, "the first slice")
        beside.measure(conn, node, given, whole * 0.45)
        schedule(node, os.SCHED_IDLE)
        alone.measure(conn, node, given, whole * 0.9)
        with contextlib.suppress(PermissionError):  # only root may take it back
            schedule(node, os.SCHED_OTHER)
    wait_for(lambda: metric(node, "builds") == 1, PATIENCE_S, "the store")
    took_s = time.monotonic() - begun
    node.wait_index(root.index(), seconds=PATIENCE_S)  # while writes go on
    writes.end()
    stopped_s = (len(beside.without_us) + len(alone.without_us)) * WINDOW_S
    say(f"{given() / MIB:.0f} MiB in {took_s:.1f} s, stopped for {stopped_s:.0f} of them, "
        f"snapshot_rate {RATE / MIB:.1f} MiB/s, beside {writes.count * 5} writes")
    for pairs in (beside, alone):
        say(pairs.text())
    check(root, node)
    return node


def kills(cluster, root, donor, say):
    """Both sides are killed in turns, after so many slices each; no slice that was flushed is
    asked for again."""
    node = cluster.replica("killed", donor, **OPTIONS).launch()
    every = max(BIG_BYTES // SLICE // 8, FLUSH // SLICE * 5 // 4)
    writes, count, given = Writes(root), {"node": 0, "donor": 0}, -metric(donor, "snapshot_slices")
    while True:
        base = metric(node, "build_slices")
        ready = lambda: (metric(node, "build_slices") >= base + every
                         or metric(node, "builds") == 1)
        wait_for(ready, PATIENCE_S, "some slices")
        if metric(node, "builds") == 1:
            break
        victim = node if count["node"] <= count["donor"] else donor
        given += metric(donor, "snapshot_slices") if victim is donor else 0
        victim.kill()
        victim.launch()
        wait_for(lambda: is_open(victim), PATIENCE_S, "its doors")
        count["node" if victim is node else "donor"] += 1
    given += metric(donor, "snapshot_slices")
    writes.end()
    log = node.log.read_text()
    resumed = [int(n) for n in re.findall(r"under construction: (\d+) slices", log)]
    kept = int(re.search(r"a store built from (\d+) slices is whole", log)[1])
    twice = given - kept
    say(f"{count['node']} kills of the receiver, {count['donor']} of the donor, one each {every} "
        f"slices; it went on from {resumed} of {kept}; {twice:.0f} slices were asked for twice")
    assert len(resumed) == count["node"] > 0 and count["donor"] > 0
    assert resumed == sorted(resumed) and resumed[0] > 0, "it never begins anew"
    assert twice <= count["node"] * (FLUSH // SLICE + 4) + count["donor"] * 4
    check(root, node)
    node.stop()
    shutil.rmtree(node.data)


def too_old(cluster, root, donor, node, say):
    """A node that was away too long serves what it has until the new store is whole."""
    node.stop()
    both = lambda: segments(root) + segments(donor)
    newest = max(both())
    writes = Writes(root, pause_s=0)
    # A segment may begin right behind the last block that the node has: the one after it decides.
    wait_for(lambda: max(both()) > newest, PATIENCE_S, "another segment")
    newest = max(both())
    wait_for(lambda: min(both()) > newest, PATIENCE_S, "it to be lost")
    writes.end()
    begun = time.monotonic()
    node.start()
    restart_s = time.monotonic() - begun
    before = used(node)
    reads, disk, writes = OldReads(node), Disk(node), Writes(root)
    wait_for(lambda: metric(node, "builds") == 1, PATIENCE_S, "the new store")
    node.wait_index(root.index(), seconds=PATIENCE_S)
    writes.end()
    reads.end()
    disk.end()
    say(f"{reads.count} reads while it was built anew, all right; disk {before / MIB:.0f} MiB "
        f"before, {disk.peak / MIB:.0f} MiB at most")
    say(f"restart with that much: {restart_s:.2f} s until it served")
    check(root, node)
    found = node.metrics("main")
    say(f"walk: {found['walk_ms']:.0f} ms for {found['keys']:.0f} keys, "
        f"{found['keys'] / max(1, found['walk_ms']) * 1000:.0f} keys/s, "
        f"{BIG_BYTES / MIB / max(1, found['walk_ms']) * 1000:.0f} MiB/s")


@pytest.mark.long
@pytest.mark.limit(600 + BIG_BYTES // (4 * MIB))
def test_big(cluster, say):
    root = cluster.root(**OPTIONS).start()
    donor = cluster.replica("donor", root, **OPTIONS).start()
    begun = time.monotonic()
    fill(root)
    donor.wait_index(root.index(), seconds=PATIENCE_S)
    took_s = time.monotonic() - begun
    say(f"{BIG_BYTES / MIB:.0f} MiB, {COUNT} keys, written to root and donor in {took_s:.0f} s")
    assert min(segments(donor)) > 1, "the log alone must not do"
    node = bootstrap(cluster, root, donor, say)
    kills(cluster, root, donor, say)
    too_old(cluster, root, donor, node, say)
