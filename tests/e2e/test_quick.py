# SPDX-License-Identifier: Apache-2.0
"""GETs that are answered where they stand say what the long way says, whatever is between them."""
import random

from qs_cluster import KEEPS_NOTHING
from resp import RespError, encode

ROUNDS = 60
KEYS = 40


def inline(key):
    """The same question in a form that takes the long way."""
    return b"GET " + key + b"\r\n"


def short(key):
    return encode("GET", key)


class Script:
    """Requests of one connection and their only right answers."""

    def __init__(self, rng, held, writes):
        self.rng, self.held, self.writes = rng, held, writes
        self.text, self.answers, self.serial = b"", [], 0

    def add(self, text, *answers):
        self.text += text
        self.answers += answers

    def key(self):
        return b"quick:%d" % self.rng.randrange(2 * KEYS)

    def value(self):
        self.serial += 1
        size = self.rng.choice([0, 10, 300, 600, 70000])
        return b"%d." % self.serial + b"x" * size

    def get(self):
        key = self.key()
        form = self.rng.choice([short, short, short, inline])
        self.add(form(key), self.held.get(key))

    def put(self):
        key, value = self.key(), self.value()
        self.held[key] = value
        self.add(encode("SET", key, value), b"OK")

    def delete(self):
        key = self.key()
        gone = self.held.pop(key, None) is not None
        self.add(encode("DEL", key), int(gone))

    def transaction(self):
        keys = [self.key() for _ in range(self.rng.randrange(1, 4))]
        self.add(encode("MULTI"), b"OK")
        self.add(b"".join(short(key) for key in keys), *[b"QUEUED"] * len(keys))
        self.add(encode("EXEC"), [self.held.get(key) for key in keys])

    def other(self):
        key = self.key()
        self.add(encode("STRLEN", key), len(self.held.get(key, b"")))
        self.add(encode("MGET", key, b"none"), [self.held.get(key), None])
        self.add(encode("KEYS", key), [key] if key in self.held else [])

    def make(self, count):
        steps = [self.get] * 12 + [self.transaction, self.other]
        steps += [self.put, self.delete] if self.writes else []
        for _ in range(count):
            self.rng.choice(steps)()
        return self


def play(conn, script, rng):
    """In pieces that end anywhere."""
    left = script.text
    while left:
        size = rng.choice([1, 7, 40, 500, 16384, len(left)])
        conn.send(left[:size])
        left = left[size:]
    for number, answer in enumerate(script.answers):
        reply = conn.reply()
        assert reply == answer, (number, reply[:80] if reply else reply, answer)


def test_both_ways_say_the_same(cluster):
    root = cluster.root(hot_bytes="64KB", hot_entry="2KB").start()
    proxy = cluster.proxy("proxy", root, [root], hot_bytes="64KB", **KEEPS_NOTHING).start()
    plain = cluster.replica("plain", root, hot_bytes=0, filter_bits=0).start()
    rng, held = random.Random(1), {}
    with root.raw() as writer, proxy.raw() as there, plain.raw() as bare:
        for _ in range(ROUNDS):
            play(writer, Script(rng, held, True).make(rng.randrange(1, 60)), rng)
            index = writer.call("QS.INDEX")
            for node, conn in ((proxy, there), (plain, bare)):
                node.wait_index(index)
                play(conn, Script(rng, dict(held), False).make(rng.randrange(1, 100)), rng)
    assert root.metrics("main")["reads_hot"] > 0 and proxy.metrics("main")["reads_hot"] > 0
    assert plain.metrics("main")["reads_hot"] == plain.metrics("main")["reads_filtered"] == 0


def test_a_short_way_counts_as_the_long_one(cluster):
    root = cluster.root().start()
    with root.raw() as conn:
        conn.call("SET", "a", "1")

        def counted(text):
            names = "reads", "reads_absent", "commands"
            before = [root.metrics("main")[name] for name in names]
            conn.send(text)
            assert [conn.reply() for _ in range(3)] == [b"1", None, b"1"]
            after = [root.metrics("main")[name] for name in names]
            return [b - a for a, b in zip(before, after)]

        assert counted(short(b"a") + short(b"b") + short(b"a")) == [3, 1, 3]
        assert counted(inline(b"a") + inline(b"b") + inline(b"a")) == [3, 1, 3]


def test_a_client_that_does_not_read_is_paused(cluster):
    """However short the way, what waits for one client stays within output_bytes."""
    root = cluster.root(node={"output_bytes": "64KB"}).start()
    value = b"v" * 60000
    with root.raw() as conn, root.raw() as other:
        conn.call("SET", "a", value)
        conn.send(short(b"a") * 400)
        assert other.call("GET", "a") == value
        replies = [conn.reply() for _ in range(400)]
        assert not any(isinstance(reply, RespError) for reply in replies)
        assert replies == [value] * 400
    assert root.metrics()["client_pauses"] > 0


def test_a_range_drives_nothing_out(cluster):
    root = cluster.root().start()
    with root.raw() as conn:
        conn.call("MSET", *(word for i in range(100) for word in (f"k{i}", "v")))
        assert conn.call("QS.RANGE", "k", "l", "LIMIT", 100).count(b"v") == 100
        assert root.metrics("main")["hot_fills"] == 0
        conn.call("GET", "k1")
        assert root.metrics("main")["hot_fills"] == 1


def test_no_table_of_hot_keys(cluster):
    """Without room for any nothing is put there, though the filter is shared."""
    root = cluster.root(hot_bytes=0, share_memory="yes").start()
    with root.raw() as conn:
        conn.call("SET", "a", "1")
        assert [conn.call("GET", "a") for _ in range(3)] == [b"1"] * 3
    metrics = root.metrics("main")
    assert metrics["hot_fills"] == metrics["reads_hot"] == 0 and metrics["boards"] == 1
