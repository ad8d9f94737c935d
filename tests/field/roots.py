# SPDX-License-Identifier: Apache-2.0
"""Load on a field of several roots, and its check.

A client at each root writes all the time, whether that one leads or not. None of them can know the
order of all writes, so that is read afterwards, from the leader (QS.WATCH). What was acknowledged
must stand there at the index that was told; what was refused must not stand there; what was of
unknown outcome may. Values are unique, so that a write is known by them.
"""
import collections
import dataclasses
import random
import time

from load import COLD_WRITTEN, PATIENCE_S, READ_PAUSE_S, Client, Load
from model import ABSENT, Model
from qs_cluster import wait_for
from resp import RespError, encode
from test_pipeline import HOT, cold, hot

BURST, WRITE_PAUSE_S = 20, 0.01
REFUSED = {"READONLY", "LOADING"}  # nothing was done
UNKNOWN = "UNKNOWN"
FORM_S = 60
PERSON_S = 8  # without a leader, after which a person promotes a root
LISTEN_S = 20
LATE = 10**6  # sets apart what writes that are added say of themselves


@dataclasses.dataclass
class Write:
    words: list
    changes: dict
    begun_s: float = 0
    ended_s: float = None
    reply: object = None  # None: there was none

    @property
    def acknowledged(self):
        return self.reply is not None and not isinstance(self.reply, RespError)

    @property
    def refused(self):
        """Whether it was said that nothing was done."""
        return isinstance(self.reply, RespError) and self.reply.word != UNKNOWN

    def check(self, model):
        """Against the order of all writes."""
        places = [model.when_value(key, value) for key, value in self.changes.items()]
        if self.refused:
            excused = self.reply.word in REFUSED or b"a limit on work" in self.reply
            assert excused, f"{self.words[:2]}: {self.reply}"
            assert ABSENT in self.changes.values() or not any(places), f"refused, but there: {self}"
        if not self.acknowledged:
            return
        assert all(places), f"acknowledged, and lost: {self}"
        if isinstance(self.reply, int):
            held = {key: model.value(key, self.reply) for key in self.changes}
            assert held == self.changes, f"another at that index: {self}, {held}"
        else:
            assert len({ranges[0][0] for ranges in places}) == 1, f"torn: {self}"


class RootClient(Client):
    """Writes at one root, and never gives that up."""

    def __init__(self, root, seed):
        super().__init__()
        self.rng, self.root = random.Random(f"{root.name} writes {seed}"), root
        self.signature = b"%s-%d" % (root.name.encode(), seed)
        self.serial, self.writes, self.last_ok_s = 0, [], 0

    def value(self, key):
        self.serial += 1
        return b"%s=%s-%d" % (key, self.signature, self.serial)

    def batch(self):
        draw = self.rng.random()
        if draw < 0.1:
            key = hot(self.rng.randrange(HOT))
            return Write(["QS.DELETE", key], {key: ABSENT})
        if draw < 0.2:
            keys = [hot(i) for i in self.rng.sample(range(HOT), self.rng.randint(2, 6))]
            changes = {key: self.value(key) for key in keys}
            return Write(["MSET", *[w for pair in changes.items() for w in pair]], changes)
        name, count = self.rng.choice([(hot, HOT), (cold, COLD_WRITTEN)])
        key = name(self.rng.randrange(count))
        value = self.value(key)
        return Write(["QS.PUT", key, value], {key: value})

    def burst(self, conn, count):
        """Whether all were acknowledged."""
        batches = [self.batch() for _ in range(count)]
        self.writes += batches
        now_s = time.monotonic()
        for write in batches:
            write.begun_s = now_s
        conn.send(b"".join(encode(*write.words) for write in batches))
        for write in batches:
            write.reply = conn.reply()
            write.ended_s = time.monotonic()
            if write.acknowledged:
                self.last_ok_s = write.ended_s
        return all(write.acknowledged for write in batches)

    def connected(self):
        with self.root.raw(timeout=PATIENCE_S) as conn:
            leads = False
            while not self.stop.is_set():
                leads = self.burst(conn, BURST if leads else 1)
                self.stop.wait(WRITE_PAUSE_S if leads else READ_PAUSE_S)


def place(root):
    """What a root says of itself; nothing when it does not."""
    try:
        return root.place()["roots"]
    except (OSError, RuntimeError):
        return {}


class RootsLoad(Load):
    """As Load, with a client at each root."""

    def make_writers(self, seed):
        self.seed, self.model = seed, Model()
        self.since_s, self.promoted = time.monotonic(), 0
        return [RootClient(root, seed) for root in self.field.roots]

    def fill(self):
        wait_for(self.is_whole, FORM_S, "the first leader, and all in its set")
        changes = {cold(i): b"first %d" % i for i in range(COLD_WRITTEN)}
        words = [word for pair in changes.items() for word in pair]
        with self.sitting().raw() as conn:
            assert conn.call("MSET", *words) == b"OK"
        self.learn()

    def add_client(self, root):
        """One more, from now on."""
        client = RootClient(root, self.seed + LATE * len(self.writers))
        self.writers.append(client)
        client.start()
        return client

    def end_writes(self):
        super().end_writes()
        self.since_s = time.monotonic()

    def sitting(self):
        """The root that says that it leads and takes writes, None when there is none."""
        for root in self.field.roots:
            said = place(root)
            if said.get("part") == "leader" and not said.get("no_writes"):
                return root
        return None

    def is_whole(self):
        """All are in the set again, and nothing is left that is not committed."""
        leader, now_s = self.sitting(), time.monotonic()
        if leader is None:
            if now_s - self.since_s > PERSON_S:
                self.promote()
            return False
        self.since_s, said = now_s, place(leader)
        return (len(said.get("in_sync") or ()) == len(self.field.roots)
                and said["committed_block"] == said["last_block"])

    def promote(self):
        """As a person would, where the record was lost together with the leader."""
        self.since_s = time.monotonic()
        self.promoted += 1
        for root in self.field.roots:
            with root.raw() as conn:
                conn.call("QS.PROMOTE")

    def leading(self):
        """The client that was the last to be told that a write was done."""
        return max(self.writers, key=lambda client: client.last_ok_s)

    def leader(self):
        return self.leading().root

    def learn(self):
        """Reads on in the order of all writes."""
        leader = self.sitting()
        last = leader.index()
        if last == self.model.last:
            return
        with leader.raw(timeout=LISTEN_S) as conn:
            conn.send(encode("QS.WATCH", "", "FROM", self.model.last + 1))
            while self.model.last < last:
                message = conn.reply()
                assert not isinstance(message, RespError), message
                if message[0] == b"qs.watch":
                    _, index, flat = message
                    changes = {key: value for _, key, value in zip(*[iter(flat)] * 3)}
                    self.model.write(index, changes)

    def gaps(self):
        """[(seconds, root)]: from the last acknowledgement of one root to the first of the next."""
        told = sorted(
            (write.ended_s, client.root.name)
            for client in self.writers for write in client.writes if write.acknowledged
        )
        return [
            (later_s - earlier_s, name)
            for (earlier_s, before), (later_s, name) in zip(told, told[1:]) if name != before
        ]

    def check(self):
        counts = super().check()
        for client in self.writers:
            index = 0
            for write in client.writes:
                write.check(self.model)
                if write.acknowledged and isinstance(write.reply, int):
                    assert write.reply >= index, f"{client.root.name} went back: {write}"
                    index = write.reply
                kind = "done" if write.acknowledged else "refused" if write.refused else "unknown"
                counts[kind] += 1
        counts["times that a person promoted a root"] = self.promoted
        gaps = self.gaps()
        counts["changes of the leader"] = len(gaps)
        counts["ms without writes then, at most"] = round(1000 * max(gaps, default=(0,))[0])
        return collections.Counter({what: count for what, count in counts.items() if count})


def load_of(field, seed):
    return (RootsLoad if field.roots else Load)(field, seed)
