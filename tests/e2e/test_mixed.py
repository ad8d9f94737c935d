# SPDX-License-Identifier: Apache-2.0
"""Reads by many sessions over replica and proxies, under writes, while nodes are killed.

`qs-bench mixed` reads, writes and checks: it knows the root's log, because each written value is
numbered and each batch's index is acknowledged, and compares every row of every answer (value,
version, index) with it. Sessions move between the nodes with tokens. This test runs the nodes, with
buffers so small that stores are compacted all the time, and kills one again and again.
MIXED_READS sets how many keys are looked up, MIXED_READ_RATE and MIXED_WRITES how many are read and
changed a second, MIXED_LEAST which percentage of the changes has to be written, and shown by every
node that is read: 0, no clock decides, but for the campaign, whose claim it is. The root is never
killed here, so no time in which nothing can be written is left out.
"""
import collections
import json
import os
import random
import subprocess
import threading

import pytest

from qs_cluster import KEEPS_NOTHING, QSD, ROOT, SLOW, wait_for

BENCH = QSD.parent / "qs-bench"
READS = int(os.environ.get("MIXED_READS", 100_000))
READ_RATE = int(os.environ.get("MIXED_READ_RATE", 40_000)) // SLOW
WRITES = int(os.environ.get("MIXED_WRITES", 10_000)) // SLOW
LEAST = int(os.environ.get("MIXED_LEAST", 0)) / 100
SESSIONS = 16
# Values are half as long as the longest on average. A proxy that may take 64 MB, the least that
# may be asked for, has room for half of those of the ordinary run, a tenth of a campaign's.
KEYS, VALUE_BYTES, CACHE = 120_000, 1_200, "64MB"
CHANGES = 5  # of a batch, at most; three batches in five are single puts
BETWEEN_KILLS = 1_000, 8_000  # keys looked up
REPLICA = {}
SMALL = {"memtable": "1MB", "replay_bytes": "4MB", "segment_bytes": "1MB", "journal_bytes": "256MB"}
if READS > 1_000_000:
    KEYS, BETWEEN_KILLS, CHANGES = 600_000, (10_000, 100_000), 40
    SMALL |= {"memtable": "4MB", "replay_bytes": "16MB"}
    # It writes every value twice, here and into its history, on the cores that it shares with four
    # other processes.
    REPLICA = {"memtable": "16MB", "replay_bytes": "32MB"}
NEVER = "absent_but_present", "stale", "backward", "wrong"


class Mixed(threading.Thread):
    """The running checker: how far it is, and in the end what it found."""

    def __init__(self, root, nodes, seed, given, flags=()):
        super().__init__(daemon=True)
        command = [BENCH, "mixed", "--root", root.socket, "--seed", seed, *flags]
        for node in nodes:
            command += ["--node", node.socket]
        for name, value in given.items():
            command += [f"--{name}", str(value)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.found = {"reads": 0}
        self.start()

    def run(self):
        for line in self.process.stdout:
            self.found = json.loads(line)

    def ended(self):
        return self.process.poll() is not None

    def reach(self, reads, seconds=120):
        """Until so many keys were looked up, or it ended."""
        wait_for(lambda: self.ended() or self.found["reads"] >= reads, seconds, "the readers")

    def finish(self):
        """(exit code, findings, what it complained of)."""
        self.join()
        said = self.process.stderr.read()
        return self.process.wait(), self.found, said


def knows(row):
    """Whether this version has the option with that row."""
    return row in (ROOT / "common/tables/options.h").read_text()


def start_nodes(cluster):
    options = SMALL | ({"history": "1m"} if knows("INSTANCE_OPTION(MS, history,") else {})
    # Nobody reads at the root: its compactions need not take the time of those that are.
    root = cluster.root(**options | {"memtable": "16MB", "replay_bytes": "64MB"}).start()
    replica = cluster.replica("replica", root, **options | REPLICA).start()
    proxy = cluster.proxy("proxy", root, [replica, root], window="1s", **options)
    if knows("CACHE_OPTION(SIZE, max_bytes,"):
        proxy.instances["main"] |= {"cache": {"max_bytes": CACHE}, "recency_bytes": "1MB"}
    proxy.start()
    empty = cluster.proxy("empty", root, [replica, root], **options, **KEEPS_NOTHING).start()
    return root, [replica, proxy, empty]


class Counts(collections.Counter):
    """What nodes counted in all their lives: a kill takes a node's counters with it."""

    def add(self, node):
        metrics = node.metrics("main")
        self["misses"] += metrics["fetch_misses"]
        self["evicted"] += metrics.get("values_evicted", 0) + metrics.get("values_refused", 0)


def kill_one(nodes, counts, rng):
    node = rng.choice(nodes)
    counts.add(node)
    counts["kills"] += 1
    node.kill()
    threading.Event().wait(rng.random() * 0.2)
    node.start()


def replaced(nodes):
    """Files that compactions took away, at least: numbers given to files that are not there."""
    files = [{int(file.stem) for file in (node.data / "main").rglob("*.sst")} for node in nodes]
    return sum(max(numbers, default=0) - len(numbers) for numbers in files)


def check_writes(found):
    """How many changes a second arrived, at the root and at the nodes that were read."""
    seconds, batches, entries = (found[name] for name in ("write_seconds", "batches", "entries"))
    before = found["index"] - found["taken"]
    # A slow node may end at what was loaded before the first of them: it has shown none.
    shown = [max(0, index - before) / found["taken"] for index in found["shown"]]
    reached = entries / seconds
    text = (
        f"{WRITES:,} changes a second asked, {reached:,.0f} reached ({entries:,} in {batches:,} "
        f"batches, {batches / seconds:,.0f} a second, {found['single']:,} of one), readers were "
        f"shown {', '.join(f'{part:.1%}' for part in shown)} of them"
    )
    assert reached >= LEAST * WRITES, text
    assert min(shown) >= LEAST, text
    return text


@pytest.mark.long
@pytest.mark.limit(120 + READS * 6 // READ_RATE)
def test_mixed(cluster, say):
    seed = os.environ.get("SEED", "1")
    print(f"seed {seed}")
    rng, counts = random.Random(seed), Counts()
    root, nodes = start_nodes(cluster)
    mixed = Mixed(root, nodes, seed, {
        "reads": READS, "read-rate": READ_RATE, "writes": WRITES, "changes": CHANGES,
        "sessions": SESSIONS, "keys": KEYS, "value-bytes": VALUE_BYTES,
        "limit": 60 * SLOW + READS * 5 // READ_RATE,
    })
    while True:
        mixed.reach(mixed.found["reads"] + rng.randint(*BETWEEN_KILLS))
        if mixed.ended():
            break
        kill_one(nodes, counts, rng)
    code, found, said = mixed.finish()
    assert code == 0, f"{said}\n{found}"
    assert not any(found[name] for name in NEVER), found
    assert found["reads"] >= READS and found["losses"] > 0 and found["moves"] > SESSIONS, found
    cluster.check_equal()
    for node in nodes:
        counts.add(node)
    assert counts["misses"] > 0 and counts["kills"] > 0
    assert counts["evicted"] > 0 or "cache" not in nodes[1].instances["main"]
    reached = check_writes(found)
    say(
        f"{found['reads']:,} reads ({found['reads'] / found['seconds']:,.0f} a second, "
        f"{found['absent']:,} absent, {counts['misses']:,.0f} missed) by {SESSIONS} sessions, "
        f"{found['moves']:,} moves, {found['losses']:,} connections lost, "
        f"{found['unavailable']:,} requests unavailable, {counts['evicted']:,.0f} values evicted, "
        f"{replaced(nodes):,} store files compacted away, {counts['kills']} kills: none absent but "
        f"present, stale or backward; {reached}"
    )
