# SPDX-License-Identifier: Apache-2.0
"""`make storm`: all nodes of a site begin at once with nothing, over one uplink, while the root is
written to. Prints how much crossed the uplink, against one snapshot, when all served, and what the
root's readers noticed: their p99 in pairs of windows, one while the site goes on and one while all
of it stands still.

STORM_NODES, STORM_BYTES (of the store) and STORM_RATE (of the uplink, bytes a second; half of it
where windows are measured, so that there are more) say how much.
While that is measured the nodes of the site take only what time nobody else wants on one
processor, and the links are on that one too, as if they were elsewhere.
Exit code 1 when the uplink carried more than one and a half snapshots, 2 without a network.
"""
import contextlib
import os
import random
import shutil
import signal
import statistics
import sys
import threading
import time

from net import Net, NoField, Shape
from latency import any_of, p99_us
from qs_cluster import ROOT, Cluster, wait_for
from tree import FieldNode

MIB = 1 << 20
NODES = int(os.environ.get("STORM_NODES", 40))
BYTES = int(os.environ.get("STORM_BYTES", 64 * MIB))
RATE = int(os.environ.get("STORM_RATE", 4 * MIB))
# Few, with several nodes each: the kernel has one bound on neighbours for all namespaces together.
HOSTS = [f"host{number}" for number in range(5)]
DELAY_MS = 20
SIZE = 4000
COUNT = BYTES // SIZE
MOST = 1.5  # snapshots over the uplink
BURST, WRITE_PAUSE_S = 5, 0.1
WINDOW_S, PAIRS = 0.25, 60
PATIENCE_S = 900
ALL = os.sched_getaffinity(0)
NOISE = random.Random(1).randbytes(8 * MIB)
SMALL = {"loops": 1, "block_cache": "8MB", "readers": 1}
OPTIONS = {
    "journal_bytes": "4MB",
    "segment_bytes": "256KB",
    "replay_bytes": "4MB",
    "journal_age": "1s",
    "memtable": "4MB",
}


def key_of(number):
    return b"key:%08d" % number


def value_of(number):
    at = number * 7919 % (len(NOISE) - SIZE)
    return b"%d " % number + NOISE[at : at + SIZE]


class Storm(Cluster):
    """A root, and the nodes of another site, told of each other and, last, of the root."""

    def __init__(self, directory, net):
        super().__init__(directory)
        self.net = net
        main = {"role": "root"} | OPTIONS
        self.top = FieldNode(self, "root", {"main": main}, {"site": "root"})
        self.site = [self.member(number) for number in range(NODES)]
        for node in self.site:
            others = [other for other in self.site if other is not node]
            node.instances["main"]["parents"] = [*others, self.top]
        self.nodes = {node.name: node for node in (self.top, *self.site)}

    def clear(self):
        """The site has nothing again."""
        for node in self.site:
            node.kill()
            shutil.rmtree(node.data)
            node.data.mkdir()

    def member(self, number):
        main, options = {"role": "replica"} | OPTIONS, {"site": "east"} | SMALL
        host, port = HOSTS[number % len(HOSTS)], 7400 + 10 * (number // len(HOSTS))
        return FieldNode(self, f"east{number}", {"main": main}, options, host, port)

    def send_away(self, away):
        """Whether the site takes no time from the root but what nobody wants."""
        policy, where = (os.SCHED_IDLE, {max(ALL)}) if away else (os.SCHED_OTHER, ALL)
        os.sched_setaffinity(self.net.process.pid, where)
        for node in self.site:
            for thread in os.listdir(f"/proc/{node.process.pid}/task"):
                with contextlib.suppress(ProcessLookupError):  # it has ended since
                    os.sched_setaffinity(int(thread), where)
                    os.sched_setscheduler(int(thread), policy, os.sched_param(0))

    def carried(self):
        """Bytes that the uplink has carried to the site and from it."""
        return self.net.count("root", "east")[1], self.net.count("east", "root")[1]


class Writer(threading.Thread):
    """Small writes all the time, over the keys that there are."""

    def __init__(self, root):
        super().__init__(daemon=True)
        self.root, self.over, self.count, self.fault = root, threading.Event(), 0, None
        self.start()

    def run(self):
        rng = random.Random(2)
        try:
            with self.root.raw() as conn:
                while not self.over.wait(WRITE_PAUSE_S):
                    requests = []
                    for _ in range(BURST):
                        number = rng.randrange(COUNT)
                        requests.append(("QS.PUT", key_of(number), value_of(number)[:500]))
                    assert all(isinstance(reply, int) for reply in conn.pipeline(requests))
                    self.count += BURST
        except BaseException as fault:
            self.fault = fault

    def finish(self):
        self.over.set()
        self.join()
        if self.fault:
            raise self.fault


def fill(root):
    with root.raw() as conn:
        for begin in range(0, COUNT, 50):
            numbers = range(begin, min(begin + 50, COUNT))
            words = [word for n in numbers for word in (key_of(n), value_of(n))]
            assert conn.call("MSET", *words) == b"OK"


def tell(nodes, number):
    for node in nodes:
        node.process.send_signal(number)


class Pairs:
    """The root's p99 while the site goes on and while it stands still."""

    def __init__(self, storm):
        self.storm, self.with_us, self.without_us = storm, [], []

    def measure(self, conn):
        for still in random.sample((False, True), 2):
            tell(self.storm.site, signal.SIGSTOP if still else signal.SIGCONT)
            taken = p99_us(conn, any_of(key_of, COUNT), WINDOW_S)
            (self.without_us if still else self.with_us).append(taken)
        tell(self.storm.site, signal.SIGCONT)

    def text(self):
        ratios = [a / b for a, b in zip(self.with_us, self.without_us)]
        low, median, high = statistics.quantiles(ratios, n=4)
        return (f"root's p99 {statistics.median(self.with_us):.0f} us while the site goes on, "
                f"{statistics.median(self.without_us):.0f} us while it stands still; median of "
                f"{len(ratios)} pairs {median:.2f} (quartiles {low:.2f}-{high:.2f})")


def metric(node, name):
    try:
        return node.metrics("main")[name]
    except OSError:
        return 0


def is_whole(node, index):
    """It serves what was written before the storm, and what came since the last look."""
    node.check_alive()
    try:
        with node.raw() as conn:
            shown = conn.call("QS.INDEX")
        return isinstance(shown, int) and shown >= index
    except OSError:
        return False


def wait_whole(storm, begun):
    """When half of the site and all of it served, in seconds."""
    left, half_s = list(storm.site), None
    index = storm.top.index()

    def over():
        nonlocal left, half_s
        left = [node for node in left if not is_whole(node, index)]
        if half_s is None and 2 * len(left) <= len(storm.site):
            half_s = time.monotonic() - begun
        time.sleep(0.2)  # looking costs the site its time
        return not left

    wait_for(over, PATIENCE_S, "the site to serve")
    return half_s, time.monotonic() - begun


def run(storm, paired):
    """One storm; what to say of it, and the snapshots that the uplink carried."""
    writer, pairs = Writer(storm.top), Pairs(storm)
    before, given = storm.carried(), metric(storm.top, "snapshot_bytes")
    rate = RATE // 2 if paired else RATE
    storm.net.change(storm.net.uplink("east"), rate=rate)
    begun = time.monotonic()
    for node in storm.site:
        node.launch()
    if paired:
        wait_for(lambda: metric(storm.top, "snapshot_bytes") > given, PATIENCE_S, "the first slice")
        storm.send_away(True)
        with storm.top.raw() as conn:
            p99_us(conn, any_of(key_of, COUNT), WINDOW_S)  # warms up
            while len(pairs.with_us) < PAIRS and metric(storm.top, "snapshots") > 0:
                pairs.measure(conn)
        storm.send_away(False)
    half_s, all_s = wait_whole(storm, begun)
    writer.finish()
    storm.check_equal()
    down, up = (now - then for now, then in zip(storm.carried(), before))
    whole = statistics.median(metric(node, "build_bytes") for node in storm.site)
    given = metric(storm.top, "snapshot_bytes") - given
    said = (f"{len(storm.site)} nodes, a snapshot of {whole / MIB:.1f} MiB, uplink of "
            f"{rate / MIB:.0f} MiB/s, {writer.count} writes meanwhile: {down / whole:.2f} "
            f"snapshots to the site ({given / whole:.2f} as slices), {up / MIB:.1f} MiB from it; "
            f"half serve after {half_s:.0f} s, all after {all_s:.0f} s")
    return said + ("; " + pairs.text() if paired else ""), down / whole


def main():
    shape = Shape(DELAY_MS, 1, rate=RATE)
    pairs = {("root", "east"): shape, ("east", "root"): shape}
    directory = ROOT / "build/field" / f"storm-{os.getpid()}"
    try:
        with contextlib.closing(Net({"root": ["root"], "east": HOSTS}, pairs)) as net:
            storm = Storm(directory, net)
            try:
                storm.top.start()
                fill(storm.top)
                worst = 0
                for paired in (False, True):
                    said, snapshots = run(storm, paired)
                    print(said, flush=True)
                    worst = max(worst, snapshots)
                    storm.clear()
                storm.close()
            except BaseException:
                for node in (storm.top, *storm.site[:3]):
                    print(node.tail(20))
                raise
            finally:
                storm.abandon()
    except NoField as fault:
        print(fault, file=sys.stderr)
        return 2
    shutil.rmtree(directory)
    return 1 if worst > MOST else 0


if __name__ == "__main__":
    sys.exit(main())
