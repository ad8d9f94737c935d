# SPDX-License-Identifier: Apache-2.0
"""QS.WATCH: every change of the keys with a prefix, exactly once, in order, one message an index.

What watchers were told is compared with the model, which knows what each index changed.
"""
import itertools
import json
import random
import subprocess
import threading

import pytest

from model import ABSENT, Model
from qs_cluster import QS, wait_for
from resp import Push, RespError, encode

PREFIX = b"zone:"


def writes(root, model, rng, count):
    """`count` batches of one to five changes each, some with the prefix and some without."""
    keys = [PREFIX + b"%d" % i for i in range(50)] + [b"other:%d" % i for i in range(50)]
    with root.raw() as conn:
        while count > 0:
            changes = {}
            conn.call("MULTI")
            for key in rng.sample(keys, rng.randint(1, 5)):
                if rng.random() < 0.3:
                    conn.call("QS.DELETE", key)
                    if model.value(key, model.last) is not ABSENT:
                        changes[key] = ABSENT
                else:
                    changes[key] = rng.randbytes(rng.randint(0, 100))
                    conn.call("QS.PUT", key, changes[key])
            index = max(conn.call("EXEC"))
            if index == model.last + 1:
                model.write(index, changes)
                count -= 1
            else:
                assert index == model.last and not changes
    return model.last


class Watcher:
    """One connection in a QS.WATCH; every message is compared as it comes."""

    def __init__(self, node, model, start, protocol=2, given=None, prefix=PREFIX):
        self.model, self.prefix, self.protocol = model, prefix, protocol
        self.told = start - 1  # every change up to here was told
        self.conn = node.raw()
        if protocol == 3:
            self.conn.call("HELLO", "3")
        self.conn.send(encode("QS.WATCH", prefix, "FROM", given or start))

    def until(self, index):
        while self.told < index:
            self.take()

    def take(self):
        message = self.conn.reply()
        assert not isinstance(message, RespError), message
        assert isinstance(message, Push) == (self.protocol == 3)
        if message[0] == b"qs.progress":
            self.skip(message[1])
            return
        kind, index, changes = message
        assert kind == b"qs.watch" and index > self.told
        self.skip(index - 1)
        found = {}
        for op, key, value in zip(*[iter(changes)] * 3):
            assert key not in found and op == (b"delete" if value is None else b"put")
            found[key] = value
        assert found and found == self.matching(index)
        self.told = index

    def skip(self, index):
        """Nothing was told up to `index`, so nothing there may match."""
        assert index >= self.told
        for each in range(self.told + 1, index + 1):
            assert not self.matching(each), f"index {each} was not told"
        self.told = index

    def matching(self, index):
        wait_for(lambda: self.model.last >= index, 20, "the model")
        changes = self.model._keys[index]
        return {key: value for key, value in changes.items() if key.startswith(self.prefix)}


def test_every_change_once_and_in_order(cluster, say):
    """On root, replica and proxy; from the beginning, from now, over restarts."""
    root = cluster.root().start()
    replica = cluster.replica("replica", root).start()
    proxy = cluster.proxy("proxy", replica, [root], keep_bytes=0).start()
    model, rng = Model(), random.Random(7)
    with root.raw() as conn:  # blocks of many batches, so that a watch begins inside one
        puts = [("QS.PUT", b"zone:%d" % (i % 60), b"%d" % i) for i in range(500)]
        for index in conn.pipeline(puts):
            model.write(index, {b"zone:%d" % ((index - 1) % 60): b"%d" % (index - 1)})
    last = writes(root, model, rng, 300)
    cluster.settle()
    watchers = [
        Watcher(root, model, 1),
        *[Watcher(replica, model, start, 3) for start in range(100, 400, 37)],
        Watcher(proxy, model, 1, 2, prefix=b""),
        Watcher(proxy, model, last + 1, 3),
    ]
    writer = threading.Thread(target=writes, args=(root, model, rng, 500))
    writer.start()
    for watcher in watchers:
        watcher.until(last + 200)
    writer.join()
    for watcher in watchers:
        watcher.until(model.last)

    # A daemon is restarted: each goes on where it was.
    for node in (proxy, replica):
        node.restart()
    first = model.last + 1
    writes(root, model, rng, 100)
    token = root.call("QS.INDEX", "TOKEN").split(b":")[0]
    again = [
        Watcher(replica, model, watchers[1].told + 1, 2),
        Watcher(proxy, model, watchers[-2].told + 1, 3, prefix=b""),
        Watcher(proxy, model, first, given=token + b":%d" % first),
    ]
    for watcher in again:
        watcher.until(model.last)
    assert proxy.metrics()["watchers"] == 2
    say(f"{len(watchers) + len(again)} watchers, {model.last} indexes, each change once, in order")


def test_from_now_and_what_is_refused(cluster):
    root = cluster.root().start()
    root.call("QS.PUT", "a1", "old")
    with root.raw() as conn:
        # What stands before it in the pipeline is answered before it begins.
        conn.send(encode("GET", "a1") + encode("QS.WATCH", "a") + encode("GET", "a1"))
        assert conn.reply() == b"old"
        assert conn.reply() == [b"qs.progress", 1]
        assert conn.reply().startswith(b"ERR only QUIT and RESET")
        root.call("QS.PUT", "b", "other")
        root.call("QS.PUT", "a2", "new")
        assert wait_message(conn) == [b"qs.watch", 3, [b"put", b"a2", b"new"]]
        root.call("QS.DELETE", "a1")
        assert wait_message(conn) == [b"qs.watch", 4, [b"delete", b"a1", None]]
        conn.send(encode("RESET") + encode("GET", "a2"))
        while (reply := conn.reply()) != b"RESET":
            assert reply[0] == b"qs.progress"
        assert conn.reply() == b"new"
        assert conn.call("QS.WATCH", "a")[0] == b"qs.progress"
        conn.send(encode("QUIT"))
        while (reply := conn.reply()) != b"OK":
            assert reply[0] == b"qs.progress"
        assert conn.closed()
    with root.raw() as conn:
        for words in (("QS.WATCH", "a", "FROM"), ("QS.WATCH", "a", "TO", "1"),
                      ("QS.WATCH", "a", "FROM", "x"), ("QS.WATCH", "x" * 2000)):
            assert isinstance(conn.call(*words), RespError), words
        token = "0" * 32 + ":1"
        assert conn.call("QS.WATCH", "a", "FROM", token).word == "HISTORY"
        assert conn.call("MULTI") == b"OK"
        assert b"not allowed inside a transaction" in conn.call("QS.WATCH", "a")
    wait_for(lambda: root.metrics()["watchers"] == 0, 10, "the watchers to be gone")


def wait_message(conn):
    while (message := conn.reply())[0] == b"qs.progress":
        pass
    return message


def test_trimmed(cluster):
    """Where the journal does not reach back, the answer is GONE, and the connection goes on."""
    root = cluster.root(journal_bytes="1MB", segment_bytes="64KB", replay_bytes="1MB").start()
    value = random.Random(1).randbytes(60000)

    def gone():
        for _ in range(20):
            root.call("QS.PUT", "big", value)
        with root.raw() as conn:
            reply = conn.call("QS.WATCH", "", "FROM", 1)
            if not isinstance(reply, RespError):
                return False
            assert reply.word == "GONE" and conn.call("PING") == b"PONG"
            return True

    wait_for(gone, 30, "the journal to be trimmed")


def test_a_slow_reader_costs_no_memory(cluster):
    """40 MB are told to ten who do not read: what waits for each is bounded; then all is read."""
    root = cluster.root().start()
    value = random.Random(2).randbytes(40000)
    with root.raw() as conn:
        for start in range(0, 1000, 100):
            conn.pipeline([("QS.PUT", f"k{start + i}", value) for i in range(100)])
    slow = [root.raw() for _ in range(10)]
    before = root.memory()[0]
    for conn in slow:
        conn.send(encode("QS.WATCH", "", "FROM", 1))
    # One that reads gets everything meanwhile.
    for conn in [root.raw(), *slow]:
        if conn not in slow:
            conn.send(encode("QS.WATCH", "", "FROM", 1))
            assert root.memory()[0] < before + 150e6
        for index in range(1, 1001):
            assert wait_message(conn)[:2] == [b"qs.watch", index]
        conn.close()


def test_quit_behind_much_to_read(cluster):
    """QUIT comes while more waits to be read than output_bytes: it is heard once that was read."""
    root = cluster.root(node={"output_bytes": "64KB", "reply_bytes": "64KB"}).start()
    value = random.Random(3).randbytes(1000000)
    for i in range(3):
        root.call("QS.PUT", f"k{i}", value)
    with root.raw() as conn:
        conn.send(encode("QS.WATCH", "", "FROM", 1))

        def paused():
            conn.send(encode("NONSENSE"))  # refused, or held back
            return root.metrics()["client_pauses"] > 0

        wait_for(paused, 10, "a pause")
        conn.send(encode("QUIT"))
        replies = iter(conn.reply, b"OK")
        progress = (reply for reply in replies if reply[0] == b"qs.progress")
        assert len(list(itertools.islice(progress, 20))) < 20  # one a second
        assert conn.closed()


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_tool(cluster, form):
    root = cluster.root().start()
    for i in range(3):
        root.call("QS.PUT", f"k{i}", f"v\t{i}")
    root.call("QS.DELETE", "k1")
    command = [QS, "-s", root.socket, "watch", "k", "--from", "2"]
    with subprocess.Popen(
        command + (["--json"] if form == "json" else []), stdout=subprocess.PIPE, text=True
    ) as tool:
        lines = []
        while len(lines) < 3:
            line = tool.stdout.readline()
            assert line
            if "progress" not in line:
                lines.append(line)
        tool.terminate()
    if form == "text":
        assert lines == ["2\tput\tk1\tv\\t1\n", "3\tput\tk2\tv\\t2\n", "4\tdelete\tk1\n"]
    else:
        assert [json.loads(line) for line in lines] == [
            {"index": 2, "op": "put", "key": "k1", "value": "v\t1"},
            {"index": 3, "op": "put", "key": "k2", "value": "v\t2"},
            {"index": 4, "op": "delete", "key": "k1"},
        ]
