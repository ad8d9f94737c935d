# SPDX-License-Identifier: Apache-2.0
"""Reads by many sessions over replica and proxies, under writes, while nodes are killed.

`qs-bench mixed` reads, writes and checks: it knows the root's log, because each written value is
numbered and each batch's index is acknowledged, and compares every row of every answer (value,
version, index) with it. Sessions move between the nodes with tokens. This test runs the nodes, with
buffers so small that stores are compacted all the time, and kills one again and again.
MIXED_READS sets how many keys are looked up.
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
WRITES = 10_000 // SLOW
SESSIONS = 16
# Values are half as long as the longest on average. A proxy that may take 64 MB, the least that
# may be asked for, has room for half of those of the ordinary run, a tenth of a campaign's.
KEYS, VALUE_BYTES, CACHE = 120_000, 1_200, "64MB"
BETWEEN_KILLS = 1_000, 8_000  # keys looked up
SMALL = {"memtable": "1MB", "replay_bytes": "4MB", "segment_bytes": "1MB", "journal_bytes": "256MB"}
if READS > 1_000_000:
    KEYS, BETWEEN_KILLS = 600_000, (10_000, 100_000)
    SMALL |= {"memtable": "4MB", "replay_bytes": "16MB"}
NEVER = "absent_but_present", "stale", "backward", "wrong"


class Mixed(threading.Thread):
    """The running checker: how far it is, and in the end what it found."""

    def __init__(self, root, nodes, seed):
        super().__init__(daemon=True)
        command = [BENCH, "mixed", "--root", root.socket]
        for node in nodes:
            command += ["--node", node.socket]
        given = {
            "reads": READS, "read-rate": READ_RATE, "writes": WRITES, "sessions": SESSIONS,
            "keys": KEYS, "value-bytes": VALUE_BYTES, "seed": seed,
            "limit": 60 * SLOW + READS * 5 // READ_RATE,
        }
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
    root = cluster.root(**options).start()
    replica = cluster.replica("replica", root, **options).start()
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


@pytest.mark.limit(120 + READS * 6 // READ_RATE)
def test_mixed(cluster, say):
    seed = os.environ.get("SEED", "1")
    print(f"seed {seed}")
    rng, counts = random.Random(seed), Counts()
    root, nodes = start_nodes(cluster)
    mixed = Mixed(root, nodes, seed)
    while True:
        goal = mixed.found["reads"] + rng.randint(*BETWEEN_KILLS)
        wait_for(lambda: mixed.ended() or mixed.found["reads"] >= goal, 120, "the readers")
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
    rate = found["batches"] / found["write_seconds"]
    say(
        f"{found['reads']:,} reads ({found['reads'] / found['seconds']:,.0f} a second, "
        f"{found['absent']:,} absent, {counts['misses']:,.0f} missed) by {SESSIONS} sessions, "
        f"{found['moves']:,} moves, {found['losses']:,} connections lost, "
        f"{found['unavailable']:,} requests unavailable, {found['batches']:,} batches of "
        f"{found['entries']:,} changes ({rate:,.0f} a second), {counts['evicted']:,.0f} values "
        f"evicted, {counts['kills']} kills: none absent but present, stale or backward"
    )
