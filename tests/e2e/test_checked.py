# SPDX-License-Identifier: Apache-2.0
"""Look-ups by all doors at once, each checked: shared memory, libqs over sockets, RESP.

`qs-bench mixed` reads, writes and checks (tests/e2e/test_mixed.py says how), here with handles of
libqs beside its sessions, at a root and at a proxy. Keys are inserted, overwritten and deleted, hot
ones more often; filters are rebuilt by walks one after another, and grow; root and proxy are killed
and stopped. An answer that is absent though present at its index, stale, torn, of another key,
backward for its reader, or a key without one that was written before it, ends the run.
CHECKED_READS sets how many keys are looked up.
"""
import os
import random

import pytest

from qs_cluster import SLOW
from test_mixed import Mixed

READS = int(os.environ.get("CHECKED_READS", 20_000_000 // SLOW))
CAMPAIGN = READS > 100_000_000
KEYS = 200_000 if CAMPAIGN else 20_000
FRESH = 4_000_000 if CAMPAIGN else 50_000  # the filter begins with room for 262,144 keys
WRITES = 10_000 // SLOW
READ_RATE = 10_000 // SLOW
LIMIT = 600 * SLOW + READS // 100_000 * SLOW
BETWEEN = (5_000_000, 30_000_000) if CAMPAIGN else (READS // 12, READS // 6)
SHARED = {"share_memory": "yes", "walk_every": "1s", "walk_rate": 0, "journal_bytes": "256MB",
          "history": "1m"}
NEVER = "absent_but_present", "stale", "backward", "wrong", "b_without_a"
DOORS = "mapped_reads", "by_map", "handle_reads", "pairs"


def begin(root, proxy):
    return Mixed(root, [root, proxy], os.environ.get("SEED", "1"), {
        "reads": READS, "read-rate": READ_RATE, "writes": WRITES, "sessions": 8, "handles": 2,
        "mapped": 2, "keys": KEYS, "fresh": FRESH, "value-bytes": 400, "limit": LIMIT,
    }, ["--root-restarts"])


def end_one(rng, node):
    """By whatever means; it is begun anew."""
    if rng.random() < 0.5:
        node.kill()
    else:
        node.stop()
    node.start()


@pytest.mark.limit(LIMIT + 120)
def test_checked(cluster, say):
    rng = random.Random(os.environ.get("SEED", "1"))
    root = cluster.root(**SHARED).start()
    proxy = cluster.proxy("proxy", root, [root], window="1s", **SHARED).start()
    checked = begin(root, proxy)
    walks = mappings = ended = 0
    while True:
        checked.reach(checked.found["reads"] + rng.randint(*BETWEEN), LIMIT)
        if checked.ended():
            break
        node = rng.choice([root, proxy])
        walks += node.metrics("main")["walks"]
        mappings += node.metrics("main")["maps"]
        end_one(rng, node)
        ended += 1
    code, found, said = checked.finish()
    assert code == 0, f"{said}\n{found}"
    assert not any(found[name] for name in NEVER), found
    assert found["reads"] >= READS and all(found[name] > 0 for name in DOORS), found
    assert found["by_map"] > found["mapped_reads"] / 2, found
    cluster.check_equal()
    for node in (root, proxy):
        walks += node.metrics("main")["walks"]
        mappings += node.metrics("main")["maps"]
    assert ended > 0 and walks > 0 and mappings > 2
    by_resp = found["reads"] - found["mapped_reads"] - found["handle_reads"]
    say(
        f"{found['reads']:,} reads in {found['seconds']:.0f} s: "
        f"{found['by_map']:,} by shared memory, "
        f"{found['mapped_reads'] - found['by_map']:,} by the sockets of such handles, "
        f"{found['handle_reads']:,} by libqs without it, {by_resp:,} by RESP; "
        f"{found['absent']:,} absent, {found['pairs']:,} pairs; {found['entries']:,} changes "
        f"({found['entries'] / found['write_seconds']:,.0f} a second), {walks:,.0f} filters, "
        f"{mappings:,.0f} mappings, {ended} restarts: none wrong"
    )
