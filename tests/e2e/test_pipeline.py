# SPDX-License-Identifier: Apache-2.0
"""Long pipelines of mixed reads on a proxy under writes, explained by one rising index sequence.

Every tenth command reads a value that the proxy does not hold. The writer notes which index each
of its batches took, so the model knows every state; the checker (model.py) then looks for one
rising sequence of indexes that explains all answers of a connection. PIPELINES sets how many
pipelines of 1,000 commands are run and checked.
"""
import multiprocessing
import os
import random
import threading
import time

import pytest

from model import ABSENT, Model, Reader
from qs_cluster import KEEPS_NOTHING, SLOW, triples
from resp import RespError, encode

PIPELINES = int(os.environ.get("PIPELINES", 200))
LENGTH = 1000
RATE = 5000  # writes a second
BURST = 100
HOT, COLD = 300, 20000
# Each share has a tree, a writer and a log of its own: explaining an answer costs the length of the
# log, so many pipelines are many shares.
SHARES = max(2, PIPELINES // 100)


def hot(i):
    return b"hot:%04d" % i


def cold(i):
    return b"cold:%06d" % i


class Writer:
    """A process that writes at about RATE a second and notes which index each batch took."""

    def __init__(self, root, seed, first):
        context = multiprocessing.get_context("fork")
        self.rng, self.root, self.index = random.Random(seed), root, first
        self.serial, self.log = 0, []
        self.stop, (self.ours, theirs) = context.Event(), context.Pipe()
        self.process = context.Process(target=self.run, args=(theirs,), daemon=True)
        self.began = time.monotonic()
        self.process.start()
        theirs.close()

    def finish(self):
        """([(index, changes), ...], batches sent, seconds); raises what went wrong there."""
        self.stop.set()
        outcome = self.ours.recv()
        self.process.join(60 * SLOW)
        if isinstance(outcome, str):
            raise AssertionError(outcome)
        return outcome

    def run(self, to):
        try:
            sent = 0
            with self.root.raw() as conn:
                while not self.stop.is_set():
                    self.burst(conn)
                    sent += BURST
                    ahead = sent / RATE - (time.monotonic() - self.began)
                    self.stop.wait(max(ahead, 0))
            to.send((self.log, sent, time.monotonic() - self.began))
        except BaseException as fault:
            to.send(f"the writer: {fault!r}")

    def value(self, key):
        self.serial += 1
        return b"%s=%d" % (key, self.serial) + b"." * self.rng.randrange(60)

    def batch(self):
        """(words, changes) of one batch of one or several keys."""
        if self.rng.random() < 0.1:
            keys = self.rng.sample(range(HOT), self.rng.randint(2, 6))
            changes = {hot(i): self.value(hot(i)) for i in keys}
            return ["MSET", *[w for pair in changes.items() for w in pair]], changes
        # Cold keys change all the time: a changed value is one the proxy does not hold again.
        is_hot = self.rng.random() < 0.4
        key = hot(self.rng.randrange(HOT)) if is_hot else cold(self.rng.randrange(COLD))
        if is_hot and self.rng.random() < 0.2:
            return ["QS.DELETE", key], {key: ABSENT}
        value = self.value(key)
        return ["QS.PUT", key, value], {key: value}

    def burst(self, conn):
        batches = [self.batch() for _ in range(BURST)]
        for (words, changes), reply in zip(batches, conn.pipeline([words for words, _ in batches])):
            assert not isinstance(reply, RespError), reply
            if words[0] == "MSET" or reply > self.index:
                self.index += 1
                self.log.append((self.index, changes))
                assert words[0] == "MSET" or reply == self.index, (reply, self.index)


def command(rng, number):
    """One request of a pipeline; every tenth reads a cold key."""
    if number % 10 == 0:
        key = cold(rng.randrange(COLD))
        return rng.choice([("GET", key), ("QS.GET", key), ("MGET", key, hot(rng.randrange(HOT)))])
    kind = rng.randrange(10)
    key = hot(rng.randrange(HOT)) if rng.random() < 0.7 else b"absent:%d" % rng.randrange(1000)
    if kind < 3:
        return ("GET", key)
    if kind < 5:
        return ("QS.GET", key)
    keys = [hot(i) for i in rng.sample(range(HOT), 4)]
    if kind == 5:
        return ("MGET", *keys)
    if kind == 6:
        return ("QS.MGET", *keys)
    if kind == 7:
        return ("EXISTS", key)
    if kind == 8:
        return ("STRLEN", key)
    return rng.choice([("QS.INDEX",), ("DBSIZE",), ("QS.RANGE", b"hot:0100", b"hot:0110")])


def check(reader, words, reply):
    """One answer against the model."""
    model, name = reader.model, words[0]
    what = f"{words!r} -> {str(reply)[:200]}"
    assert not isinstance(reply, RespError), what
    if name == "GET":
        reader.saw(model.when_value(words[1], reply), what)
    elif name == "MGET":
        reader.saw_values(list(zip(words[1:], reply)), what)
    elif name in ("QS.GET", "QS.MGET"):
        rows = triples(reply)
        assert len({index for _, _, index in rows}) == 1, what
        index = reader.saw_index(rows[0][2], what)
        for key, (value, version, _) in zip(words[1:], rows):
            assert value == model.value(key, index), what
            assert version == model.version(key, index), what
    elif name == "EXISTS":
        reader.saw(model.when_present(words[1], bool(reply)), what)
    elif name == "STRLEN":
        reader.saw(model.when_length(words[1], reply), what)
    elif name == "QS.INDEX":
        reader.saw_index(reply, what)
    elif name == "DBSIZE":
        reader.saw(model.when_count(reply), what)
    elif name == "QS.RANGE":
        held = dict(zip(reply[::2], reply[1::2]))
        assert list(held) == sorted(held), what
        keys = [hot(i) for i in range(100, 110)]
        assert set(held) <= set(keys), what
        reader.saw_values([(key, held.get(key, ABSENT)) for key in keys], what)
    else:
        raise AssertionError(what)


@pytest.mark.long
@pytest.mark.limit(240)
@pytest.mark.parametrize("share", range(SHARES))
def test_pipelines(cluster, share, say):
    root = cluster.root().start()
    replica = cluster.replica("replica", root).start()
    proxy = cluster.proxy("proxy", root, [replica, root], fetch="20s", **KEEPS_NOTHING).start()
    model = Model()
    with root.raw() as conn:
        for start in range(0, COLD, 1000):
            changes = {cold(i): b"first %d" % i for i in range(start, start + 1000)}
            words = [w for pair in changes.items() for w in pair]
            assert conn.call("MSET", *words) == b"OK"
            model.write(model.last + 1, changes)
        assert conn.call("QS.INDEX") == model.last
    proxy.wait_index(model.last)
    writer = Writer(root, f"writer {share}", model.last)
    done = run_pipelines(proxy, share)
    log, sent, seconds = writer.finish()
    for index, changes in log:
        model.write(index, changes)
    checked = 0
    for transcripts in done:
        reader = Reader(model)
        for words, reply in transcripts:
            check(reader, words, reply)
            checked += 1
    metrics = proxy.metrics("main")
    assert metrics["fetch_sent"] > 0
    cluster.check_equal()
    say(f"{checked} answers checked, {metrics['fetch_sent']:.0f} values fetched, "
        f"{sent / seconds:.0f} writes/s, {model.last} indexes")


def run_pipelines(proxy, share):
    """Each connection's commands and answers; several pipelines follow on one connection."""
    rng = random.Random(f"pipelines {share}")
    done = []
    total = max(PIPELINES // SHARES, 1)
    while total > 0:
        transcripts = []
        with proxy.raw() as conn:
            for _ in range(min(5, total)):
                requests = [command(rng, number) for number in range(LENGTH)]
                data = b"".join(encode(*words) for words in requests)
                sender = threading.Thread(target=conn.send, args=(data,))
                sender.start()
                transcripts += [(words, conn.reply()) for words in requests]
                sender.join()
        total -= 5
        done.append(transcripts)
    return done
