# SPDX-License-Identifier: Apache-2.0
"""Writes at any node, sent on to the root that leads (`forward_writes`)."""
import os
import socket
import threading

import pytest

from peer import FOLLOW, PROTOCOL, RESUME, PeerConn, hello, message, pack
from qs_cluster import PORTS, wait_for
from resp import RespError
from test_roots import make_roots

YES = {"forward_writes": "yes"}
NOTHING_DONE = "READONLY"


def word(reply):
    assert isinstance(reply, RespError), reply
    return reply.word


def wait_followed(*nodes):
    """Before that there is no way up."""
    for node in nodes:
        wait_for(lambda: node.place()["parent"]["connected"], 30, f"{node.name} to follow")


def make_line(cluster, **options):
    """root <- near <- far, and a proxy below far; near sends none of its own clients' on."""
    root = cluster.root().start()
    near = cluster.replica("near", root, **options).start()
    far = cluster.replica("far", near, **(YES | options)).start()
    proxy = cluster.proxy("proxy", far, [near, far], **(YES | options)).start()
    wait_followed(near, far, proxy)
    return root, near, far, proxy


# Each with its answer, one after another on one connection.
STORY = [
    (("SET", "a", "1"), b"OK"),
    (("GET", "a"), b"1"),
    (("SET", "a", "2", "NX"), None),
    (("SET", "a", "2", "XX", "GET"), b"1"),
    (("SET", "b", "x", "XX"), None),
    (("MSET", "b", "1", "c", "2"), b"OK"),
    (("MGET", "a", "b", "c"), [b"2", b"1", b"2"]),
    (("DEL", "b", "c", "d"), 2),
    (("EXISTS", "b", "c"), 0),
    (("SET", "", "1"), RespError(b"ERR invalid key length, 1 to 1024 bytes are allowed")),
    (("SET", "a", "1", "EX", "1"), RespError(b"ERR expiry is not supported")),
    (("SET", "a"), RespError(b"ERR wrong number of arguments for 'set' command")),
    (("QS.PUT", "v", "1"), 5),
    (("QS.CAS", "v", "4", "2"), RespError(b"CONFLICT 5")),
    (("QS.CAS", "v", "5", "2"), 6),
    (("QS.GET", "v"), [b"2", 6, 6]),
    (("QS.DELETE", "v", "w"), 7),
    (("QS.INDEX",), 7),
    (("MULTI",), b"OK"),
    (("SET", "m", "1"), b"QUEUED"),
    (("GET", "m"), b"QUEUED"),
    (("ECHO", "here"), b"QUEUED"),
    (("QS.CAS", "m", "1", "2"), b"QUEUED"),
    (("DBSIZE",), b"QUEUED"),
    (("SCAN", "0"), b"QUEUED"),
    (("QS.GETAT", "m", "1"), b"QUEUED"),
    (("QS.INDEX",), b"QUEUED"),
    (("EXEC",), [b"OK", b"1", b"here", RespError(b"CONFLICT 8"),
                 RespError(b"ERR DBSIZE is not allowed in a transaction that writes"),
                 RespError(b"ERR SCAN is not allowed in a transaction that writes"),
                 RespError(b"ERR QS.GETAT is not allowed in a transaction that writes"), 8]),
    (("WATCH", "m"), b"OK"),
    (("MULTI",), b"OK"),
    (("SET", "m", "3"), b"QUEUED"),
    (("EXEC",), [b"OK"]),
    (("GET", "m"), b"3"),
]


@pytest.mark.parametrize("where", range(4))
def test_every_node_answers_as_the_root_does(cluster, where):
    node = make_line(cluster, **YES)[where]
    with node.raw() as conn:
        for words, answer in STORY:
            reply = conn.call(*words)
            assert reply == answer, (words, reply)
            assert isinstance(reply, RespError) == isinstance(answer, RespError), (words, reply)
    cluster.check_equal()


def test_a_clients_library_writes_at_a_leaf(cluster):
    root, near, far, proxy = make_line(cluster)
    client, other = proxy.client(), root.client()
    for i in range(200):  # who wrote reads it, at once
        assert client.set(f"k{i % 7}", str(i))
        assert client.get(f"k{i % 7}") == b"%d" % i
    with client.pipeline(transaction=True) as pipe:
        pipe.watch("k0")
        seen = int(pipe.get("k0"))
        pipe.multi()
        pipe.set("k0", str(seen + 1))
        assert pipe.execute() == [True]
    with client.pipeline(transaction=True) as pipe:
        pipe.watch("k0")
        other.set("k0", "meanwhile")
        pipe.multi()
        pipe.set("k0", "never")
        with pytest.raises(Exception, match="Watched variable changed"):
            pipe.execute()
    big = os.urandom(16 << 20)
    assert client.set("big", big)
    assert far.client().set("big", b"", get=True) == big
    assert root.metrics("main")["writes"] >= 203
    for node in (near, far, proxy):
        metrics = node.metrics("main")
        assert metrics["forwards_sent"] >= 200
        assert metrics["forwards"] == metrics["forwards_bytes"] == 0
    with near.raw() as conn:
        assert word(conn.call("SET", "a", "1")) == NOTHING_DONE  # its own clients' are not
    cluster.check_equal()


def test_many_at_once_keep_their_order(cluster):
    root, near, far, proxy = make_line(cluster)

    def write(node, name):
        with node.raw() as conn:
            for start in range(0, 1000, 100):
                sets = [("SET", name, i) for i in range(start, start + 100)]
                replies = conn.pipeline(sets + [("GET", name)])
                assert replies == [b"OK"] * 100 + [b"%d" % (start + 99)], (name, replies)

    writers = [threading.Thread(target=write, args=(node, f"{node.name}{i}"))
               for node in (far, proxy) for i in range(4)]
    for each in writers:
        each.start()
    for each in writers:
        each.join()
    assert root.index() == 8000
    cluster.check_equal()


def test_what_is_watched_after_a_write_holds_back_what_follows(cluster):
    root, near, far, proxy = make_line(cluster)
    story = [("SET", "k", "1"), ("WATCH", "k"), ("MULTI",), ("SET", "k", "2"), ("EXEC",),
             ("GET", "k")]
    with proxy.raw() as conn:
        for _ in range(100):
            assert conn.pipeline(story)[-2:] == [[b"OK"], b"2"]


# ---- what may go wrong on the way ----------------------------------------------------------------


class ByHand:
    """A parent without data of its own: it welcomes one child at a time, as one that stands where
    the child does, and notes its writes."""

    def __init__(self):
        self.history = bytes(range(16))
        self.listener = socket.create_server(("127.0.0.1", PORTS.take()))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.link, self.writes, self.links = None, [], 0
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            link = PeerConn(sock=sock, timeout=None)
            try:
                self.serve(link)
            except (ConnectionError, OSError):
                pass
            sock.close()
            self.link = None

    def serve(self, link):
        _, greeting = link.receive()
        self.history = greeting["history"] or self.history
        place = {key: greeting[key] for key in ("index", "block", "chain")}
        link.send(message("welcome", protocol=PROTOCOL, answer=RESUME, node="hand", role=1,
                          history=self.history, **place))
        if greeting["purpose"] != FOLLOW:
            return
        self.link, self.links = link, self.links + 1
        while True:
            name, fields = link.receive()
            if name == "ping":
                link.send(message("pong", sent_ns=fields["sent_ns"]))
            elif name == "forward":
                self.writes.append(fields)

    def next_write(self):
        wait_for(lambda: self.writes, 20, "a write to come")
        return self.writes.pop(0)

    def answer(self, id, index=0, reply=b"+OK\r\n", error=0):
        self.link.send(message("forwarded", id=id, error=error, index=index, reply=reply,
                               history=self.history if error == 0 else b""))


@pytest.fixture
def hand(cluster):
    """A node whose parent is played, and that parent."""
    root = cluster.root().start()
    node = cluster.replica("node", root, commit_wait="1500ms", **YES).start()
    root.call("SET", "key", "old")
    cluster.settle()
    root.stop()
    parent = ByHand()
    node.stop()
    node.instances["main"]["parents"] = [parent.address]
    node.start()
    wait_for(lambda: parent.link, 20, "the node to follow")
    yield node, parent
    parent.listener.close()


def begin(node, *words):
    """A command whose answer is waited for elsewhere: a function that returns it."""
    replies = []

    def run():
        with node.raw() as conn:
            replies.append(conn.call(*words))

    thread = threading.Thread(target=run)
    thread.start()

    def finish():
        thread.join()
        return replies[0]

    return finish


def test_what_a_parent_answers(hand):
    node, parent = hand
    reply = begin(node, "SET", "key", "value")
    write = parent.next_write()
    assert write["path"] == b"node\0"
    assert b"SET" in write["items"] and b"value" in write["items"]
    assert 0 < write["patience_ns"] <= 1_500_000_000
    parent.answer(write["id"], reply=b"$4\r\nmade\r\n")
    assert reply() == b"made"
    parent.answer(write["id"], reply=b"-ERR twice\r\n")  # nobody asks any more
    for error, words in ((40, "READONLY"), (7, "ERR"), (46, "UNKNOWN"), (9999, "UNKNOWN")):
        reply = begin(node, "SET", "key", "value")
        parent.answer(parent.next_write()["id"], error=error)
        assert word(reply()) == words
    assert parent.links == 1
    assert node.metrics("main")["forwards"] == 0


def test_no_answer_and_a_late_one(hand):
    node, parent = hand
    assert word(begin(node, "SET", "key", "value")()) == "UNKNOWN"
    parent.answer(parent.next_write()["id"])
    assert node.call("PING") == b"PONG"
    reply = begin(node, "SET", "key", "value")
    parent.answer(parent.next_write()["id"])
    assert reply() == b"OK"
    assert not parent.writes and parent.links == 1


def test_an_answer_that_nobody_can_have_asked_for(hand):
    node, parent = hand
    reply = begin(node, "SET", "key", "value")
    parent.answer(parent.next_write()["id"] + 1)
    assert word(reply()) == "UNKNOWN"
    wait_for(lambda: parent.links == 2 and parent.link, 20, "the link to be made anew")
    assert not parent.writes, "sent twice"


def test_the_link_ends(hand):
    node, parent = hand
    reply = begin(node, "SET", "key", "value")
    parent.next_write()
    parent.listener.close()
    parent.link.sock.shutdown(socket.SHUT_RDWR)
    assert word(reply()) == "UNKNOWN"
    wait_for(lambda: not node.place()["parent"]["connected"], 20, "the parent to be gone")
    refusal = begin(node, "SET", "key", "value")()
    assert word(refusal) == NOTHING_DONE and b"nothing was written" in refusal
    assert not parent.writes


def test_who_wrote_is_shown_nothing_older(hand):
    node, parent = hand
    with node.raw() as conn, node.raw() as other:
        conn.send(b"SET key value\r\n")
        parent.answer(parent.next_write()["id"], index=7)
        assert conn.reply() == b"OK"
        for words in (("GET", "key"), ("QS.INDEX",), ("DBSIZE",), ("WATCH", "key")):
            assert word(conn.call(*words)) == "BEHIND", words
        conn.call("MULTI")
        conn.call("GET", "key")
        assert word(conn.call("EXEC")) == "BEHIND"
        assert other.call("GET", "key") == b"old"
        conn.send(b"SET key again\r\n")  # writing goes on
        parent.answer(parent.next_write()["id"], index=8)
        assert conn.reply() == b"OK"


def test_as_many_as_there_may_be(cluster):
    parent = ByHand()
    node = cluster.replica("node", parent.address, forward_max=3, forward_bytes="64KB",
                           commit_wait="60s", **YES)
    node.launch()
    wait_for(lambda: parent.link, 20, "the node to follow")
    wait_for(node.is_ready, 20, "the node to serve")
    with node.raw() as conn:
        large = begin(node, "SET", "large", "v" * 100000)  # one always fits
        write = parent.next_write()
        assert b"limit on work" in conn.call("SET", "key", "value")
        parent.answer(write["id"])
        assert large() == b"OK"
        replies = [begin(node, "SET", "key", str(i)) for i in range(3)]
        writes = [parent.next_write() for _ in range(3)]
        assert node.metrics("main")["forwards"] == 3
        assert b"limit on work" in conn.call("SET", "key", "value")
        for each in writes:
            parent.answer(each["id"])
        assert [reply() for reply in replies] == [b"OK"] * 3
        reply = begin(node, "SET", "key", "value")
        parent.answer(parent.next_write()["id"])
        assert reply() == b"OK"
    metrics = node.metrics("main")
    assert metrics["forwards"] == metrics["forwards_bytes"] == 0
    assert metrics["forwards_refused"] == 2
    parent.listener.close()


# ---- what a child may say ------------------------------------------------------------------------


def items(*calls, protocol=2, multi=False, watched=()):
    """A transaction as it stands in a message."""
    out = pack(protocol) + pack(multi) + pack(len(watched)) + pack(len(calls))
    for key, version in watched:
        out += pack(key) + pack(version)
    return out + b"".join(map(pack, calls))


def follow_by_hand(node, name="by-hand"):
    conn = PeerConn(node.peer)
    conn.send(hello(FOLLOW, node=name))
    greeting = conn.receive_until("welcome")
    assert greeting["answer"] == RESUME
    conn.history = greeting["history"]
    return conn


def forward(conn, what, id=1, path=b"by-hand\0", patience_ns=10**10, history=None):
    conn.send(message("forward", id=id, path=path, patience_ns=patience_ns, items=what,
                      history=history or conn.history))
    return conn.receive_until("forwarded")


def test_a_child_by_hand(cluster):
    root = cluster.root().start()
    middle = cluster.replica("middle", root).start()
    wait_followed(middle)
    for node in (root, middle):
        with follow_by_hand(node) as conn:
            done = forward(conn, items([b"SET", b"key", b"value"]))
            assert (done["error"], done["reply"]) == (0, b"+OK\r\n")
            assert done["index"] == root.index() and len(done["history"]) == 16
            done = forward(conn, items([b"set", b"key", b"x", b"GET"]), id=1)  # its own affair
            assert done["reply"] == b"$5\r\nvalue\r\n"
            watched = items([b"DEL", b"key"], multi=True, watched=[(b"key", 1)])
            assert forward(conn, watched)["reply"] == b"*-1\r\n"
            known = items([b"SET", b"key", b""], b"+PONG\r\n", [b"GET", b"key"], multi=True,
                          protocol=3, watched=[(b"key", done["index"])])
            assert forward(conn, known)["reply"] == b"*3\r\n+OK\r\n+PONG\r\n$0\r\n\r\n"
            for odd in ([b"CLIENT", b"LIST"], [b"NOTHING"], [b"SET"], [b"QS.WATCH", b"a"],
                        [b"EXEC"], [b"WAIT", b"1", b"0"], [b""]):
                assert forward(conn, items(odd))["error"] == 62, odd
            for aside in ([b"SCAN", b"0"], [b"KEYS", b"*"], [b"QS.RANGE", b"a", b"b"],
                          [b"QS.GETAT", b"a", b"1"], [b"DBSIZE"], [b"QS.TREE"]):
                assert b"not allowed" in forward(conn, items(aside))["reply"], aside
            assert b"invalid key" in forward(conn, items([b"SET", b"", b""]))["reply"]
            # Its versions mean nothing here, were they the same numbers.
            swap = items([b"QS.CAS", b"key", b"%d" % root.index(), b"x"])
            assert forward(conn, swap, history=b"another history!")["error"] == 52
    index = root.index()
    with follow_by_hand(middle) as conn:  # a loop, and a way too long
        for path in (b"middle\0by-hand\0", b"x" * 1020 + b"\0"):
            assert forward(conn, items([b"SET", b"loop", b""]), path=path)["error"] == 55
    assert root.index() == index
    for bad in (b"", items(), items([]), items([b"a"], [b"b"]), items(b"x", protocol=4),
                items([b"a"], watched=[(b"k", 1)]), items([b"a"]) + b"x", items([1], multi=True),
                pack(2) + pack(True) + pack(1 << 31) + pack(1), items([b"a"])[:-1]):
        with follow_by_hand(root) as conn:
            conn.send(message("forward", id=1, path=b"", patience_ns=1, items=bad,
                              history=conn.history))
            assert conn.receive_until("goodbye")["error"] == 30, bad
    with follow_by_hand(root) as conn:
        conn.send(message("forward", id=0, path=b"", patience_ns=1, items=items([b"a"]),
                          history=conn.history))
        assert conn.receive_until("goodbye")["error"] == 30
    with follow_by_hand(root) as conn:
        conn.send(message("forward", id=1, path=b"", patience_ns=1, items=items([b"a"])))
        assert conn.receive_until("goodbye")["error"] == 30, "of no history"
    assert root.index() == index


def test_a_child_that_reads_no_answers(cluster):
    root = cluster.root(commit_wait="1s", forward_max=500).start()
    root.call("SET", "big", "v" * 100000)
    with follow_by_hand(root) as conn:
        for id in range(1, 400):
            conn.send(message("forward", id=id, path=b"", patience_ns=10**9,
                              items=items([b"SET", b"big", b"v" * 100000, b"GET"]),
                              history=conn.history))
        wait_for(lambda: root.metrics("main")["writes"] >= 100, 20, "the writes to be made")

        def dropped():
            conn.send(message("ping", sent_ns=1))  # it lives
            return root.metrics("main")["forwards"] == 0

        wait_for(dropped, 30, "the answers to be dropped")
        metrics = root.metrics("main")
        assert metrics["forwards_bytes"] == 0 and metrics["children"] == 1


# ---- nodes that fail -----------------------------------------------------------------------------


def test_a_standby_sends_to_its_leader(cluster):
    leader, second, third = [node.start() for node in make_roots(cluster, **YES)]
    child = cluster.replica("child", third, **YES).start()
    wait_followed(second, third, child)
    for i, node in enumerate((leader, second, third, child)):
        with node.raw() as conn:
            assert conn.call("SET", "key", i) == b"OK"
            assert conn.call("GET", "key") == b"%d" % i
    second.kill()  # nothing is committed now
    assert word(begin(child, "SET", "key", "lost")()) == "UNKNOWN"
    second.start()
    wait_for(lambda: begin(child, "SET", "key", "last")() == b"OK", 20, "writes to go on")
    cluster.check_equal()


def test_a_parent_dies_while_its_children_write(cluster):
    root, near, far, proxy = make_line(cluster, commit_wait="3s")
    outcomes, stop = {}, threading.Event()

    def write(node, name):
        i = 0
        while not stop.is_set():
            with node.raw() as conn:
                requests = [("SET", f"{name}-{i + n}", "1") for n in range(20)]
                for request, reply in zip(requests, conn.pipeline(requests)):
                    outcomes[request[1]] = "OK" if reply == b"OK" else word(reply)
            i += 20

    writers = [threading.Thread(target=write, args=(node, f"{node.name}{i}"))
               for node in (far, proxy) for i in range(2)]
    for each in writers:
        each.start()
    for _ in range(4):
        written = root.index()
        wait_for(lambda: root.index() > written + 200, 30, "writes to flow")
        near.kill()
        wait_for(lambda: not far.place()["parent"]["connected"], 30, "the parent to be gone")
        near.start()
        wait_for(lambda: far.place()["parent"]["connected"], 30, "the parent to be back")
    stop.set()
    for each in writers:
        each.join()
    cluster.settle()
    kinds = set(outcomes.values())
    assert kinds <= {"OK", "UNKNOWN", "READONLY"} and "OK" in kinds and "READONLY" in kinds
    names = list(outcomes)
    found = dict(zip(names, root.call("MGET", *names)))
    for name, outcome in outcomes.items():
        assert outcome == "UNKNOWN" or (found[name] is not None) == (outcome == "OK"), (
            name, outcome)
    # Each was sent once: as many batches as there are keys.
    assert root.index() == sum(value is not None for value in found.values())
    cluster.check_equal()
