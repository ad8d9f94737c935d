# SPDX-License-Identifier: Apache-2.0
"""A proxy within its limits of space: bounded, right, and with a memory of what was read."""
import collections
import itertools
import json
import os
import random
import subprocess
import threading

import pytest

from qs_cluster import qs, wait_for
from resp import RespError

pytestmark = pytest.mark.once
MAX_BYTES = 96 << 20
FILE_BYTES = MAX_BYTES // 64  # a segment: no file is larger


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


class Watch(threading.Thread):
    """The most that the directory ever takes, looked at all the time."""

    def __init__(self, node):
        super().__init__(daemon=True)
        self.node, self.most, self.ended = node, 0, threading.Event()

    def run(self):
        while not self.ended.wait(0.02):
            self.most = max(self.most, used(self.node))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.join()


class Values:
    """Keys with values that no compression makes small, the same in every run."""

    def __init__(self, size, word="key"):
        self.noise = random.Random(size).randbytes(1 << 20)
        self.size, self.word = size, word

    def key(self, number):
        return f"{self.word}-{number * 2654435761 % (1 << 32):010d}"

    def value(self, number):
        at = number * 7919 % (len(self.noise) - self.size)
        return b"%d " % number + self.noise[at : at + self.size]

    def write(self, node, numbers):
        with node.raw() as conn:
            conn.pipeline([("SET", self.key(n), self.value(n)) for n in numbers])

    def read(self, conn, numbers):
        numbers = list(numbers)
        for at in range(0, len(numbers), 50):
            some = numbers[at : at + 50]
            got = conn.call("MGET", *[self.key(n) for n in some])
            assert not isinstance(got, RespError), got
            for number, value in zip(some, got, strict=True):
                assert value == self.value(number), f"key {number}"


def level(node):
    return node.metrics("main")["space_level"]


def within(node):
    wait_for(lambda: level(node) == 0, 60, f"{node.name} to be below its soft limit")


@pytest.mark.long
def test_a_storm_of_misses(cluster, say):
    """Values of five times the cache arrive, then ten times the cache is missed."""
    values = Values(32 << 10)
    count = 5 * MAX_BYTES // values.size // 100 * 100
    root = cluster.root().start()
    proxy = cluster.proxy(
        "proxy", root, [root], window="1s", fetch="30s",
        cache={"max_bytes": MAX_BYTES},
    ).start()
    with Watch(proxy) as watch, proxy.raw() as conn:
        for first in range(0, count, 100):
            values.write(root, range(first, first + 100))
        cluster.settle()
        for turn in range(2):
            order = list(range(count))
            random.Random(turn).shuffle(order)
            for at in range(0, count, 200):
                values.read(conn, order[at : at + 200])
    most = watch.most
    within(proxy)
    assert used(proxy) < 0.9 * MAX_BYTES
    metrics = proxy.metrics("main")
    say(
        f"at most {most / MAX_BYTES:.1%} of max_bytes, {metrics['hand_steps']:.0f} steps, "
        f"{metrics['evicted_bytes'] / MAX_BYTES:.1f} times max_bytes evicted, "
        f"{metrics['fills']:.0f} fills"
    )
    assert most <= MAX_BYTES + FILE_BYTES
    assert metrics["values_evicted"] > 100 and metrics["fills"] > 100 and metrics["hand_steps"] > 0
    assert metrics["fetch_never"] == metrics["fetch_bad"] == metrics["reads_corrupt"] == 0
    assert proxy.call("DBSIZE") == count
    assert proxy.call("STRLEN", values.key(7)) == len(values.value(7))
    assert proxy.call("EXISTS", "key-none") == 0
    cluster.check_equal(root, proxy)
    # A key that changes and one that goes, of values dropped and values held.
    root.call("QS.DELETE", *[values.key(n) for n in range(0, 50)])
    proxy.wait_index(root.call("QS.PUT", values.key(60), "new"))
    assert proxy.call("GET", values.key(60)) == b"new"
    assert proxy.call("EXISTS", *[values.key(n) for n in range(0, 50)]) == 0


def test_a_full_cache_is_built_anew(cluster, say):
    """The store in use stands beside the new one, which takes no more values than there is room."""
    values, count = Values(32 << 10), 5 * MAX_BYTES // 4 // (32 << 10) // 100 * 100
    short = {"journal_bytes": "1MB", "segment_bytes": "64KB", "journal_age": "1s",
             "replay_bytes": "1MB", "memtable": "1MB"}
    root = cluster.root(**short).start()
    proxy = cluster.proxy(
        "proxy", root, [root], window="1s", fetch="30s",
        cache={"max_bytes": MAX_BYTES},
    ).start()
    for first in range(0, count, 100):
        values.write(root, range(first, first + 100))
    cluster.settle()
    within(proxy)
    before = used(proxy)
    proxy.stop()
    for first in range(0, 1000, 100):  # the root's journal forgets what the proxy has
        values.write(root, range(first, first + 100))
    with Watch(proxy) as watch:
        proxy.start()
        wait_for(lambda: proxy.metrics("main")["builds"] == 1, 60, "the new store")
        cluster.settle()
        within(proxy)
    say(f"{before / MAX_BYTES:.1%} of max_bytes before, at most {watch.most / MAX_BYTES:.1%} while "
        f"it was built, then {values_held(proxy) / MAX_BYTES:.1%} in values")
    assert watch.most <= MAX_BYTES + FILE_BYTES
    cluster.check_equal(root, proxy)
    with proxy.raw() as conn:
        values.read(conn, range(count - 200, count))


def misses(proxy, values, conn, numbers):
    before = proxy.metrics("main")["fetch_misses"]
    values.read(conn, numbers)
    return proxy.metrics("main")["fetch_misses"] - before


def values_held(proxy):
    """Bytes of its store's files, which come and go meanwhile."""
    total = 0
    for file in proxy.data.glob("main/store/*.sst"):
        try:
            total += file.stat().st_size
        except FileNotFoundError:
            pass
    return total


def zipf(count, exponent, length, seed):
    """`length` numbers below `count`, the popular ones spread over all of them."""
    chance = random.Random(seed)
    spread = list(range(count))
    chance.shuffle(spread)
    weights = itertools.accumulate((n + 1) ** -exponent for n in range(count))
    return chance.choices(spread, cum_weights=list(weights), k=length)


def ideal_hits(trace, size, capacity, since):
    """How many of the reads from `since` on an LRU of so many bytes of values would have hit."""
    listed, hits = collections.OrderedDict(), 0
    for at, number in enumerate(trace):
        if number in listed:
            listed.move_to_end(number)
            hits += at >= since
        else:
            listed[number] = True
            if len(listed) * size > capacity:
                listed.popitem(last=False)
    return hits


@pytest.mark.unsanitized("the share of hits: the storm of misses takes the same steps")
@pytest.mark.long
@pytest.mark.limit(400)
def test_hits_are_near_those_of_an_ideal_cache(cluster, say):
    """The values of ten caches, read by popularity: at least 90 % of what an LRU would hit."""
    values, max_bytes = Values(8 << 10), 64 << 20
    count = 10 * (max_bytes * 3 // 4) // values.size
    trace = zipf(count, 0.9, 180_000, 5)
    since = len(trace) * 2 // 3
    root = cluster.root().start()
    proxy = cluster.proxy(
        "proxy", root, [root], window="1s", fetch="30s",
        cache={"max_bytes": max_bytes},
    ).start()
    for first in range(0, count, 500):
        values.write(root, range(first, min(first + 500, count)))
    cluster.settle()
    with Watch(proxy) as watch, proxy.raw() as conn:
        for at in range(0, len(trace), 50):
            if at == since // 50 * 50:
                missed = proxy.metrics("main")["fetch_misses"]
            values.read(conn, trace[at : at + 50])
    missed = proxy.metrics("main")["fetch_misses"] - missed
    within(proxy)
    held = values_held(proxy)
    reads = len(trace) - since
    hits, ideal = reads - missed, ideal_hits(trace, values.size, held, since)
    metrics = proxy.metrics("main")
    say(
        f"{hits / reads:.1%} hits, an ideal LRU of the same {held >> 20} MiB: {ideal / reads:.1%}, "
        f"{hits / ideal:.1%} of it; {metrics['hand_steps']:.0f} steps, "
        f"{metrics['fills']:.0f} fills, refused {metrics['fills_refused_once']:.0f} read once, "
        f"{metrics['fills_refused_space']:.0f} for space; at most {watch.most / max_bytes:.1%}"
    )
    assert watch.most <= max_bytes + max_bytes // 64
    assert hits >= 0.9 * ideal
    assert metrics["values_evicted"] > 0 and metrics["hand_steps"] > 0


@pytest.mark.long
def test_what_is_read_stays_across_a_restart(cluster, say):
    values = Values(16 << 10)
    count = 3 * (64 << 20) // values.size
    hot = range(0, count, 20)
    root = cluster.root().start()
    proxy = cluster.proxy(
        "proxy", root, [root], window="100ms", fetch="30s",
        cache={"max_bytes": "64MB"},
    ).start()
    for first in range(0, count, 200):
        values.write(root, range(first, first + 200))
    cluster.settle()
    within(proxy)
    cold = [n for n in range(count) if n % 20 != 0]
    random.Random(3).shuffle(cold)

    def storm(conn):
        """Cold reads of half a cache, which must not drive out what is hot."""
        some, cold[:] = cold[: count // 8], cold[count // 8 :]
        for at in range(0, len(some), 100):
            values.read(conn, some[at : at + 100])
        within(proxy)

    # A burst of what is hot finds room for a part of it at a time, as the hand goes.
    with proxy.raw() as conn:
        before = len(hot)
        for rounds in range(6):
            values.read(conn, hot)
            storm(conn)
            before = misses(proxy, values, conn, hot)
            if before <= len(hot) / 10:
                break
    evicted = proxy.metrics("main")["values_evicted"]
    proxy.restart()
    with proxy.raw() as conn:
        at_once = misses(proxy, values, conn, hot[: len(hot) // 10])
        storm(conn)
        after = misses(proxy, values, conn, hot)
    say(f"of {len(hot)} hot values missed: {before:.0f} before a restart "
        f"({rounds + 1} rounds), {after:.0f} after it")
    assert evicted > 0
    assert at_once <= len(hot) / 100
    assert before <= len(hot) / 10 and after <= len(hot) / 10


def test_the_window_stays_while_its_replica_is_away(cluster):
    old, young = Values(16 << 10, "old"), Values(16 << 10, "young")
    root = cluster.root().start()
    replica = cluster.replica("replica", root).start()
    proxy = cluster.proxy(
        "proxy", root, [replica], window="1h", window_bytes="4MB", fetch="1s",
        cache={"max_bytes": "64MB"},
    ).start()
    for first in range(0, 5000, 200):
        old.write(root, range(first, first + 200))
    cluster.settle()
    within(proxy)
    replica.stop()
    before = refused = proxy.metrics("main")["values_refused"]
    kept_from = 0
    # 3.1 MiB: all of it fits the window. But a full cache takes no more at once than what it has
    # below its hard limit holds twice, compressed and not.
    for first in range(0, 200, 5):
        young.write(root, range(first, first + 5))
        cluster.settle(root, proxy)
        within(proxy)
        # While a merge took the space that was left, a value may have come as a key alone. Then the
        # window begins behind it: what is older may be evicted.
        last, refused = refused, proxy.metrics("main")["values_refused"]
        kept_from = first + 5 if refused > last else kept_from
    assert proxy.metrics("main")["values_evicted"] > 100 and refused - before < 100
    with proxy.raw() as conn:
        lacking = 0
        for number in range(200):
            reply = conn.call("GET", young.key(number))
            if isinstance(reply, RespError):
                assert reply.word == "UNAVAILABLE" and number < kept_from
                lacking += 1
            else:
                assert reply == young.value(number)
        assert lacking >= refused - before
        found = [conn.call("GET", old.key(n)) for n in range(0, 5000, 500)]
        assert any(isinstance(reply, RespError) for reply in found), "nothing was evicted"
        assert all(reply.word == "UNAVAILABLE" for reply in found if isinstance(reply, RespError))
    replica.start()
    with proxy.raw() as conn:
        wait_for(lambda: conn.call("GET", old.key(0)) == old.value(0), 20, "the proxy to heal")
        wait_for(lambda: readable(old, conn, range(0, 5000, 100)), 20, "old values")
        old.read(conn, range(0, 5000, 10))


def readable(values, conn, numbers):
    return not isinstance(conn.call("MGET", *[values.key(n) for n in numbers]), RespError)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 MiB, and a function that leaves so many MiB of it free."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256m", "none", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this user may not mount")
    ballast = place / "ballast"

    def leave_free(mib):
        ballast.unlink(missing_ok=True)
        space = os.statvfs(place)
        size = space.f_bavail * space.f_frsize - (mib << 20)
        if size > 0:
            with open(ballast, "wb") as file:
                os.posix_fallocate(file.fileno(), 0, size)

    yield place, leave_free
    subprocess.run(["umount", "-l", str(place)], check=True)


def space_of(node):
    status, body = node.http("/api/status")
    assert status == 200
    return json.loads(body)["instances"][0]["space"]


def test_a_disk_filled_from_outside(small_disk, cluster):
    place, leave_free = small_disk
    values = Values(8 << 10)
    root = cluster.root().start()
    data = place / "proxy"
    data.mkdir()
    proxy = cluster.proxy(
        "proxy", root, [root], memtable="1MB", journal_bytes="8MB", segment_bytes="1MB",
        replay_bytes="4MB", reserve="40MB", window="100ms",
        cache={"soft_limit": "50%", "hard_limit": "40%"}, node={"data_dir": str(data)},
    )
    proxy.data = data
    proxy.start()
    values.write(root, range(4000))
    cluster.settle()
    held = used(proxy)
    # Over the soft and the hard limit: values go, until what is left is little.
    leave_free(80)
    wait_for(lambda: level(proxy) == 2, 20, "the hard limit")
    assert space_of(proxy)["reason"] == "hard_limit"
    wait_for(lambda: used(proxy) < held / 2, 60, "values to go")
    # In the reserve: nothing is applied, reads go on, the age grows.
    leave_free(20)
    wait_for(lambda: level(proxy) == 3, 20, "the reserve")
    index = proxy.index()
    later = root.call("QS.PUT", "later", "1")
    with proxy.raw() as conn:
        values.read(conn, range(0, 4000, 40))
        assert conn.call("GET", "nothing") is None and conn.call("DBSIZE") == 4000
        first = proxy.metrics("main")["age_ms"]
        wait_for(lambda: proxy.metrics("main")["age_ms"] > first + 300, 20, "the age to grow")
        assert isinstance(conn.call("QS.WAITINDEX", later, 300), RespError)
    assert proxy.index() == index
    assert space_of(proxy)["level"] == "reserve"
    _, out, _ = qs("-s", proxy.socket, "status")
    assert b"reserve" in out, out
    # With the disk full it starts again, and shows what it has shown, though its journal has more:
    # after an orderly end, and after none.
    wait_for(lambda: proxy.metrics("main")["synced_index"] >= later, 20, "the journal to go on")
    for end in (proxy.stop, proxy.kill):
        end()
        leave_free(2)  # less than flushes of all memtables may take
        proxy.start()
        assert proxy.index() == index and proxy.call("DBSIZE") == 4000
    leave_free(256)
    proxy.wait_index(later)
    assert proxy.call("GET", "later") == b"1"
    wait_for(lambda: level(proxy) == 0, 20, "room")
    values.write(root, range(4000, 5000))
    cluster.check_equal(root, proxy)
    with proxy.raw() as conn:
        values.read(conn, range(0, 5000, 7))


def test_a_root_refuses_writes_in_its_reserve(small_disk, cluster):
    place, leave_free = small_disk
    root = cluster.root(memtable="1MB", reserve="64MB", node={"data_dir": str(place)})
    root.data = place
    root.start()
    root.call("QS.PUT", "a", "1")
    leave_free(50)
    wait_for(lambda: level(root) == 3, 60, "the reserve")
    with root.raw() as conn:
        assert isinstance(conn.call("QS.PUT", "a", "2"), RespError)
        assert conn.call("GET", "a") == b"1"
        leave_free(256)
        wait_for(lambda: isinstance(conn.call("QS.PUT", "a", "3"), int), 20, "writes to resume")
        assert conn.call("GET", "a") == b"3"
