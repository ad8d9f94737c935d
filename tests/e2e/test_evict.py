# SPDX-License-Identifier: Apache-2.0
"""A proxy within its limits of space: bounded, right, and with a memory of what was read."""
import os
import random
import time

from qs_cluster import SLOW, wait_for
from resp import RespError

MAX_BYTES = 96 << 20
VALUE_BYTES = 8 << 10
KEYS = 6 * MAX_BYTES // VALUE_BYTES


def used(node):
    """What the instance's directory takes on the disk, as `du` says."""
    total, seen = 0, set()
    for folder, _, names in os.walk(node.data / "main"):
        for name in names:
            try:
                info = os.stat(os.path.join(folder, name))
            except FileNotFoundError:
                continue
            if info.st_ino not in seen:
                seen.add(info.st_ino)
                total += info.st_blocks * 512
    return total


class Values:
    """Keys k0, k1, ... with values that no compression makes small, the same in every run."""

    def __init__(self, size=VALUE_BYTES):
        self.noise = random.Random(1).randbytes(1 << 20)
        self.size = size

    def key(self, number):
        return f"key-{number:08d}"

    def value(self, number):
        at = number * 7919 % (len(self.noise) - self.size)
        return b"%d " % number + self.noise[at : at + self.size]

    def write(self, node, first, count):
        with node.raw() as conn:
            for start in range(first, first + count, 100):
                numbers = range(start, min(start + 100, first + count))
                conn.pipeline([("SET", self.key(n), self.value(n)) for n in numbers])

    def read(self, conn, numbers):
        numbers = list(numbers)
        got = conn.call("MGET", *[self.key(n) for n in numbers])
        assert not isinstance(got, RespError), got
        for number, value in zip(numbers, got):
            assert value == self.value(number), f"key {number}"


def test_a_storm_of_misses(cluster, say):
    values = Values()
    root = cluster.root(journal_bytes="64MB", segment_bytes="8MB").start()
    proxy = cluster.proxy(
        "proxy", root, [root], cache={"max_bytes": MAX_BYTES, "soft_limit": 0, "hard_limit": 0},
        window="1s", node={"log_level": "debug"}).start()
    most = 0
    with proxy.raw() as conn:
        for first in range(0, KEYS, 1000):
            values.write(root, first, 1000)
            most = max(most, used(proxy))
        cluster.settle(root, proxy)
        print("written", most >> 20, proxy.metrics("main")["space_level"])
        for first in range(0, KEYS, 200):
            values.read(conn, range(first, first + 200))
            most = max(most, used(proxy))
    print("read", most >> 20)
    m = proxy.metrics("main")
    for k in m:
        if any(w in k for w in ("fill", "evict", "hand", "space", "disk", "period", "fetch_m", "journal_b", "store_b")):
            print(k, m[k])
    import subprocess; print(subprocess.run(f"du -ab {proxy.data}", shell=True, capture_output=True, text=True).stdout)
    end = time.time()
    wait_for(lambda: proxy.metrics("main")["space_level"] == 0, 10, "space")
    print("took", time.time()-end, used(proxy) >> 20)
    assert 0
