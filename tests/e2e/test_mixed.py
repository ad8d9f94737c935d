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

from qs_cluster import KEEPS_NOTHING, QSD, SLOW, wait_for

BENCH = QSD.parent / "qs-bench"
READS = int(os.environ.get("MIXED_READS", 100_000))
READ_RATE = int(os.environ.get("MIXED_READ_RATE", 40_000)) // SLOW
WRITES = 10_000 // SLOW
SESSIONS = 16
KEYS, VALUE_BYTES = 20_000, 600
# A tenth of what is written and read: keys, and values half as long as the longest on average.
CACHE = KEYS * VALUE_BYTES // 2 // 10
BETWEEN_KILLS = 2_000, 20_000  # keys looked up
SMALL = {"memtable": "1MB", "replay_bytes": "4MB", "segment_bytes": "1MB"}
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


def knows_cache(cluster):
    """Whether this version has `cache { max_bytes }`; other faults than a strange name count."""
    text = (
        f'node = "n"\ndata_dir = "{cluster.directory}"\ninstance main {{\n    number = 0\n'
        '    role = proxy\n    parents = {"127.0.0.1:1"}\n    cache {\n'
        '        max_bytes = "1GB"\n    }\n}\n'
    )
    path = cluster.directory / "probe.conf"
    path.write_text(text)
    done = subprocess.run([QSD, "--check-config", path], capture_output=True, text=True)
    assert done.returncode == 0 or "cache" in done.stderr, done.stderr
    return done.returncode == 0


def start_nodes(cluster):
    root = cluster.root(**SMALL).start()
    replica = cluster.replica("replica", root, **SMALL).start()
    proxy = cluster.proxy("proxy", root, [replica, root], **SMALL)
    if knows_cache(cluster):
        proxy.instances["main"] |= {"window": "1s", "cache": {"max_bytes": CACHE}}
    proxy.start()
    empty = cluster.proxy("empty", root, [replica, root], **SMALL, **KEEPS_NOTHING).start()
    return root, [replica, proxy, empty]


def kill_one(node, rng):
    node.kill()
    threading.Event().wait(rng.random() * 0.2)
    node.start()


@pytest.mark.limit(120 + READS * 6 // READ_RATE)
def test_mixed(cluster, say):
    seed = os.environ.get("SEED", "1")
    print(f"seed {seed}")
    rng = random.Random(seed)
    root, nodes = start_nodes(cluster)
    mixed = Mixed(root, nodes, seed)
    kills = collections.Counter()
    while True:
        goal = mixed.found["reads"] + rng.randint(*BETWEEN_KILLS)
        wait_for(lambda: mixed.ended() or mixed.found["reads"] >= goal, 120, "the readers")
        if mixed.ended():
            break
        victim = rng.choice(nodes)
        kill_one(victim, rng)
        kills[victim.name] += 1
    code, found, said = mixed.finish()
    assert code == 0, f"{said}\n{found}"
    assert not any(found[name] for name in NEVER), found
    assert found["reads"] >= READS and found["losses"] > 0 and found["moves"] > SESSIONS, found
    cluster.check_equal()
    misses = sum(node.metrics("main")["fetch_misses"] for node in nodes)
    assert misses > 0
    rate = found["batches"] / found["write_seconds"]
    say(
        f"{found['reads']:,} reads ({found['reads'] / found['seconds']:,.0f} a second, "
        f"{found['absent']:,} absent) by {SESSIONS} sessions, {found['moves']:,} moves, "
        f"{found['losses']:,} connections lost, {found['unavailable']:,} requests unavailable, "
        f"{found['batches']:,} batches of {found['entries']:,} changes ({rate:,.0f} a second), "
        f"{sum(kills.values())} kills: none absent but present, stale or backward"
    )
