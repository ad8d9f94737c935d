# SPDX-License-Identifier: Apache-2.0
"""Writes at the root and reads at every leaf while the field is in trouble, and their check.

One writer takes all indexes, so it knows every state: after it lost the root it learns from the
index how many of the batches without an answer were taken. A session reads at its own leaf, and
visits others with a token. What it was answered is checked afterwards: a rising sequence of indexes
must explain the answers of a session, and those of a leaf to its own session even across
connections and restarts of the node.
"""
import collections
import random
import threading

from model import ABSENT, Model, Reader
from resp import RespError, encode
from test_pipeline import HOT, check, cold, command, hot

COLD_WRITTEN = 2000  # of the keys that sessions ask for: most are absent
BURST, WRITE_PAUSE_S = 2, 0.004
PIPELINE, READ_PAUSE_S = 20, 0.05
PATIENCE_S = 60  # longer than any fault: a session never gives up its own leaf when frozen
VISIT_S = 1  # ... but where a session might go it does not wait for long
TOKEN_MS = 300  # for which a visited node may catch up
# Words that a node may answer when it cannot do better.
EXCUSES = {
    "root": {"LOADING", "BEHIND"},
    "replica": {"LOADING", "BEHIND"},
    "proxy": {"LOADING", "BEHIND", "UNAVAILABLE"},
}


class Client(threading.Thread):
    """Connects again whenever its connection is lost, until it is to end and nothing is pending."""

    pending = ()

    def __init__(self):
        super().__init__(daemon=True)
        self.stop, self.fault, self.lost = threading.Event(), None, 0

    def run(self):
        try:
            while not self.stop.is_set() or self.pending:
                try:
                    self.connected()
                except OSError:
                    self.lost += 1
                    self.stop.wait(READ_PAUSE_S)
        except BaseException as fault:
            self.fault = fault

    def finish(self):
        self.stop.set()
        self.join()
        if self.fault:
            raise self.fault


class Writer(Client):
    def __init__(self, root, seed):
        super().__init__()
        self.rng, self.root, self.model = random.Random(f"writer {seed}"), root, Model()
        self.serial, self.present, self.pending = 0, set(), collections.deque()

    def fill(self):
        """What is there before anything goes wrong."""
        changes = {cold(i): self.value(b"first") for i in range(COLD_WRITTEN)}
        with self.root.raw() as conn:
            assert conn.call("MSET", *[w for pair in changes.items() for w in pair]) == b"OK"
        self.model.write(1, changes)

    def value(self, key):
        self.serial += 1
        return b"%s=%d" % (key, self.serial) + b"." * self.rng.randrange(200)

    def batch(self):
        """(words, changes) of a batch that takes an index: it changes something for certain."""
        if self.rng.random() < 0.1:
            keys = [hot(i) for i in self.rng.sample(range(HOT), self.rng.randint(2, 6))]
        elif self.rng.random() < 0.5:
            keys = [hot(self.rng.randrange(HOT))]
        else:
            keys = [cold(self.rng.randrange(COLD_WRITTEN))]
        if len(keys) == 1 and keys[0] in self.present and self.rng.random() < 0.2:
            self.present.discard(keys[0])
            return ["QS.DELETE", *keys], {keys[0]: ABSENT}
        self.present.update(keys)
        changes = {key: self.value(key) for key in keys}
        return ["MSET", *[w for pair in changes.items() for w in pair]], changes

    def taken(self):
        """The oldest batch without an answer took the next index."""
        self.model.write(self.model.last + 1, self.pending.popleft()[1])

    def learn(self, conn):
        """After a loss: the root is the only one to know; False while it is starting."""
        index = conn.call("QS.INDEX")
        if isinstance(index, RespError):
            return False
        count = index - self.model.last
        assert 0 <= count <= len(self.pending), f"{count} of {len(self.pending)} batches are there"
        for _ in range(count):
            self.taken()
        while self.pending:
            for key, value in self.pending.pop()[1].items():
                held = self.model.value(key, self.model.last) is not ABSENT
                (self.present.add if held else self.present.discard)(key)
        return True

    def burst(self, conn):
        self.pending += [self.batch() for _ in range(BURST)]
        conn.send(b"".join(encode(*words) for words, _ in self.pending))
        while self.pending:
            reply = conn.reply()
            assert not isinstance(reply, RespError), reply
            self.taken()
            assert reply in (b"OK", self.model.last), (reply, self.model.last)

    def connected(self):
        with self.root.raw(timeout=PATIENCE_S) as conn:
            while not self.learn(conn):
                self.stop.wait(READ_PAUSE_S)
            while not self.stop.is_set():
                self.burst(conn)
                self.stop.wait(WRITE_PAUSE_S)


class Answer(collections.namedtuple("Answer", "session node words reply")):
    """`session` counts a thread's sessions: after a lost connection the next one begins."""


class Session(Client):
    def __init__(self, home, leaves, seed):
        super().__init__()
        self.rng, self.home, self.leaves = random.Random(f"{home.name} {seed}"), home, leaves
        self.answers, self.moves = [], 0

    def ask(self, node, conn, *requests):
        """Notes every answer that comes, also when not all do; returns the last one."""
        conn.send(b"".join(encode(*words) for words in requests))
        for words in requests:
            reply = conn.reply()
            self.answers.append(Answer(self.lost, node.name, words, reply))
        return reply

    def move(self, node, conn, to):
        """The session goes on at another node from what it has seen; or stays, if that cannot."""
        index, key = self.ask(node, conn, ("QS.INDEX",)), hot(self.rng.randrange(HOT))
        there, moved = None, False
        try:
            if not isinstance(index, RespError):
                there = to.raw(timeout=VISIT_S)
                reply = self.ask(to, there, ("QS.GET", key, "MININDEX", index, TOKEN_MS))
                moved = not isinstance(reply, RespError)
        except OSError:
            pass
        left = conn if moved else there
        if left:
            left.close()
        self.moves += moved
        return (to, there) if moved else (node, conn)

    def connected(self):
        node, conn = self.home, self.home.raw(timeout=PATIENCE_S)
        try:
            while not self.stop.is_set():
                self.ask(node, conn, *[command(self.rng, i) for i in range(PIPELINE)])
                if node is not self.home or self.rng.random() < 0.1:
                    to = self.rng.choice(self.leaves) if node is self.home else self.home
                    node, conn = self.move(node, conn, to)
                self.stop.wait(READ_PAUSE_S)
        finally:
            conn.close()

    def check(self, model, roles):
        """Raises at the first answer that nothing explains; returns the errors by their word."""
        errors = collections.Counter()
        at_home, session, number = Reader(model), Reader(model), 0
        for answer in self.answers:
            if isinstance(answer.reply, RespError):
                excused = answer.reply.word in EXCUSES[roles[answer.node]]
                assert excused, f"{answer.node}: {answer.words}: {answer.reply}"
                errors[answer.reply.word] += 1
                continue
            if answer.session != number:
                session, number = Reader(model), answer.session
            readers = [session] + [at_home] * (answer.node == self.home.name)
            for reader in readers:
                check(reader, answer.words, answer.reply)
        return errors


class Load:
    """Who writes, and a session at every leaf: from `with` to its end."""

    def __init__(self, field, seed):
        leaves = field.leaves()
        self.field = field
        self.sessions = [Session(leaf, leaves, seed) for leaf in leaves]
        self.roles = {leaf.name: leaf.instances["main"]["role"] for leaf in leaves}
        self.writers = self.make_writers(seed)

    def make_writers(self, seed):
        writer = Writer(self.field.nodes["root"], seed)
        self.model = writer.model
        return [writer]

    def fill(self):
        self.writers[0].fill()

    def is_whole(self):
        """Whether everybody who takes writes is at work again."""
        return True

    def learn(self):
        """The model knows all that was written."""

    def leader(self):
        """The root that leads, as far as its clients know."""
        return self.field.nodes["root"]

    def __enter__(self):
        for thread in (*self.writers, *self.sessions):
            thread.start()
        return self

    def __exit__(self, *_):
        for thread in (*self.writers, *self.sessions):
            thread.stop.set()

    def end_writes(self):
        for writer in self.writers:
            writer.stop.set()
        for writer in self.writers:
            writer.finish()

    def check(self):
        """Raises what went wrong; returns counts of answers, moves, and errors by their word."""
        counts = collections.Counter()
        for thread in (*self.writers, *self.sessions):
            thread.finish()
        for session in self.sessions:
            counts["answers"] += len(session.answers)
            counts["moves"] += session.moves
            counts += session.check(self.model, self.roles)
        return counts
