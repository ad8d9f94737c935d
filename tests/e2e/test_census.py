# SPDX-License-Identifier: Apache-2.0
"""The whole tree from any node: who is in it, whom it has lost, what is said when it is unknown."""
import json
import socket
import threading

import pytest

from peer import FOLLOW, PROTOCOL, PeerConn, hello, message, pack
from qs_cluster import IO, qs, wait_for

NAMES = ["empty", "middle", "proxy", "replica", "root"]
PARENTS = {"root": None, "middle": "root", "replica": "middle", "proxy": "middle",
           "empty": "middle"}


def picture(node):
    """QS.TREE ALL, parsed: the picture alone."""
    return json.loads(node.call("QS.TREE", "ALL"))["tree"]


def nodes_of(node):
    return {each["node"]: each for each in picture(node)["nodes"]}


def shape(node):
    return {name: each["parent"] for name, each in nodes_of(node).items() if not each["lost"]}


def test_from_every_node(cluster):
    nodes = cluster.tree()
    index = nodes[0].call("QS.PUT", "a", "1")
    cluster.settle(*nodes)
    for node in nodes:
        wait_for(lambda: shape(node) == PARENTS, 30, f"{node.name} to know the whole tree")
        seen = picture(node)
        assert seen["whole"] and seen["reason"] is None and seen["nodes_count"] == 5
        assert [each["node"] for each in seen["nodes"]] == NAMES
    leaf = nodes[3]
    wait_for(lambda: all(each["visible_index"] == index for each in nodes_of(leaf).values()), 30,
             "the index of each node")
    for each in nodes_of(leaf).values():
        assert each["state"] == "serving" and not each["old"] and not each["cut"]
        assert each["age_ms"] is not None and each["said_ms"] < 60000
        assert (each["network_ms"] > 0) == (each["parent"] is not None)
        assert each["queue_ms"] >= 0 and each["apply_ms"] > 0
    assert {each["role"] for each in nodes_of(leaf).values()} == {"root", "replica", "proxy"}


def test_for_people_and_programs(cluster):
    nodes = cluster.tree()
    leaf = nodes[3]
    wait_for(lambda: shape(leaf) == PARENTS, 30, "the whole tree")
    wait_for(lambda: {each["state"] for each in nodes_of(leaf).values()} == {"serving"}, 30,
             "word from each that it serves")
    code, out, _ = qs("-s", leaf.socket, "tree")
    lines = [line for line in out.decode().splitlines() if "serving" in line and ":" not in line]
    assert code == 0 and [line.split(" serving")[0].rsplit(None, 1)[0] for line in lines] == [
        "root", "└─ middle", "   ├─ empty", "   ├─ proxy", "   └─ replica",
    ], out.decode()
    assert "(asked)" in lines[3]
    columns = {len(line.split(" serving")[0].rsplit(None, 1)[0].ljust(200)) for line in lines}
    assert len(columns) == 1
    assert len({line.index("serving") for line in lines}) == 1, "the columns are not aligned"
    code, out, _ = qs("-s", leaf.socket, "--json", "tree")
    assert code == 0 and len(json.loads(out)["tree"]["nodes"]) == 5
    code, out, _ = qs("-s", leaf.socket, "tree", "--here")
    assert code == 0 and b"replica" not in out and b"parent  middle" in out
    status, body = leaf.http("/api/tree")
    answer = json.loads(body)[0]
    assert status == 200 and answer["node"] == "proxy" and answer["parent"]["node"] == "middle"
    assert {each["node"] for each in answer["tree"]["nodes"]} == set(NAMES)
    # Each keep-alive connection is answered again after it was suspended once.
    host, port = leaf.admin.split(":")
    with socket.create_connection((host, int(port)), 20) as conn:
        for _ in range(3):
            conn.sendall(b"GET /api/tree HTTP/1.1\r\nHost: x\r\n\r\n")
            head = b""
            while b"\r\n\r\n" not in head:
                head += conn.recv(65536)
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            body = head.split(b"\r\n\r\n", 1)[1]
            while len(body) < length:
                body += conn.recv(65536)
            assert len(json.loads(body)[0]["tree"]["nodes"]) == 5


def test_a_node_that_vanishes_and_comes_back(cluster):
    nodes = cluster.tree()
    root, middle, replica, proxy, empty = nodes
    for node in (root, proxy):
        wait_for(lambda: shape(node) == PARENTS, 30, "the whole tree")
    replica.kill()
    rest = {name: parent for name, parent in PARENTS.items() if name != "replica"}
    for node in (root, middle, proxy):
        wait_for(lambda: shape(node) == rest, 30, f"{node.name} to miss the replica")
        assert nodes_of(node)["replica"]["lost"] and nodes_of(node)["replica"]["said_ms"] > 0
    code, out, _ = qs("-s", proxy.socket, "tree")
    assert code == 0 and b"LOST" in out
    replica.start()
    for node in (root, middle, proxy):
        wait_for(lambda: shape(node) == PARENTS, 30, f"{node.name} to see the replica again")


def test_a_subtree_that_moves(cluster):
    """Two intermediates; one dies, and its child goes to the other with all that is below."""
    root = cluster.root().start()
    one = cluster.replica("one", root).start()
    two = cluster.replica("two", root).start()
    mover = cluster.replica("mover", one)
    mover.instances["main"]["parents"] = [one, two]
    mover.start()
    leaf = cluster.replica("leaf", mover).start()
    before = {"root": None, "one": "root", "two": "root", "mover": "one", "leaf": "mover"}
    for node in (root, leaf):
        wait_for(lambda: shape(node) == before, 30, "the tree")
    one.kill()
    after = {"root": None, "two": "root", "mover": "two", "leaf": "mover"}
    for node in (root, leaf, two):
        wait_for(lambda: shape(node) == after, 60, f"{node.name} to see the move")
    assert nodes_of(root)["one"]["lost"]
    one.start()
    before = {**after, "one": "root"}
    wait_for(lambda: shape(leaf) == before, 30, "the one that came back")


def test_without_the_root(cluster):
    nodes = cluster.tree()
    root, middle, replica, proxy, _ = nodes
    wait_for(lambda: shape(proxy) == PARENTS, 30, "the whole tree")
    root.stop()
    # The intermediate knows what is below it, and a leaf is told so.
    wait_for(lambda: not picture(middle)["whole"], 30, "the intermediate to say that it is cut off")
    seen = picture(proxy)
    assert not seen["whole"] and "no parent is followed" in seen["reason"]
    assert {each["node"] for each in seen["nodes"]} == set(NAMES) - {"root"}
    middle.stop()
    wait_for(lambda: len(nodes_of(proxy)) == 1, 30, "the leaf to be alone")
    assert not picture(proxy)["whole"] and nodes_of(proxy)["proxy"]["parent"] is None
    code, out, _ = qs("-s", proxy.socket, "tree")
    assert code == 0 and b"NOT THE WHOLE TREE" in out
    root.start()
    middle.start()
    for node in nodes:
        wait_for(lambda: picture(node)["whole"] and shape(node) == PARENTS, 30, "all again")


def test_a_limited_census(cluster):
    root = cluster.root(census_max=2).start()
    for number in range(4):
        cluster.replica(f"r{number}", root).start()
    wait_for(lambda: nodes_of(root)["root"]["cut"], 30, "the root to say that there are more")
    assert picture(root)["nodes_count"] == 3
    metrics = root.metrics("main")
    assert metrics["census_nodes"] == 2 and metrics["census_refused"] > 0


def item(node="x", parent="root", role=2, state=1, flags=0, index=1, ago=0):
    return [node, parent, role, state, flags, index, 1, 1, 1, 1, ago]


def items(*rows):
    return b"".join(map(pack, rows))


def follower(root, name):
    conn = PeerConn(root.peer)
    conn.send(hello(FOLLOW, node=name))
    assert conn.receive_until("welcome")["answer"] == 1
    return conn


BAD = {
    "no name": items(item(node="")),
    "a long name": items(item(node="n" * 65)),
    "a name of other bytes": items(item(node="a b")),
    "a parent of other bytes": items(item(parent="a\n")),
    "its own parent": items(item(node="x", parent="x")),
    "no such role": items(item(role=4)),
    "role zero": items(item(role=0)),
    "no such state": items(item(state=3)),
    "no such flag": items(item(flags=8)),
    "too short": items(item()[:-1]),
    "too long": items(item() + [1]),
    "bytes for a name": items([b"x", *item()[1:]]),
    "cut off": items(item())[:-1],
    "more behind": items(item()) + b"\xc0",
    "a good one, then a bad one": items(item(node="good"), item(role=9)),
}


@pytest.mark.parametrize("what", BAD)
def test_malformed_reports(cluster, what):
    root = cluster.root().start()
    with follower(root, "fake") as conn:
        conn.send(message("tree_report", items=BAD[what]))
        assert conn.finish()
    wait_for(lambda: root.metrics()["peer_protocol_errors"] == 1, 20, "the error to be counted")
    assert set(nodes_of(root)) == {"root"}, "something of a malformed report was taken"


def test_reports_of_a_stranger(cluster):
    root = cluster.root().start()
    with follower(root, "fake") as conn:
        rows = [item(node="fake"), item(node="below", parent="fake", ago=5 * 10**9),
                item(node="gone", parent="fake", flags=1), item(node="root", parent="fake"),
                item(node="long-ago", parent="fake", ago=(1 << 64) - 1)]
        conn.send(message("tree_report", items=items(*rows)))
        wait_for(lambda: len(nodes_of(root)) == 4, 20, "what was reported")
        seen = nodes_of(root)
        assert set(seen) == {"root", "fake", "below", "gone"} and seen["root"]["parent"] is None
        assert seen["gone"]["lost"] and not seen["below"]["lost"]
        assert 5000 <= seen["below"]["said_ms"] < 60000
        # An older saying does not take the place of a newer one.
        conn.send(message("tree_report", items=items(item(node="below", role=3, ago=10 * 10**9),
                                                     item(node="fake", role=3))))
        wait_for(lambda: nodes_of(root)["fake"]["role"] == "proxy", 20, "the newer saying")
        assert nodes_of(root)["below"]["role"] == "replica"
    wait_for(lambda: nodes_of(root)["fake"]["lost"], 20, "the loss of the link")
    assert nodes_of(root)["below"]["lost"]


def test_questions_of_a_stranger(cluster):
    root = cluster.root().start()
    with follower(root, "fake") as conn:
        conn.send(message("tree_ask", id=7, page=0, patience_ns=10**9))
        page = conn.receive_until("tree_page")
        assert page["id"] == 7 and page["last"] == 1 and page["reason"] == b""
        assert b"root" in page["items"]
        # There is no page behind the last.
        conn.send(message("tree_ask", id=7, page=1, patience_ns=10**9))
        assert conn.finish()
    with follower(root, "fake") as conn:
        conn.send(message("tree_ask", id=1, page=1, patience_ns=0))
        assert conn.finish()
    wait_for(lambda: root.metrics()["peer_protocol_errors"] == 2, 20, "both to be counted")


def test_old_data_is_told(cluster):
    quick = {"alarm_age": "1s"}
    root = cluster.root().start()
    middle = cluster.replica("middle", root, node=quick).start()
    leaf = cluster.replica("leaf", middle, node=quick).start()
    wait_for(lambda: middle.metrics("main")["age_ms"] < 500, 20, "an age")
    assert leaf.http("/healthz") == (200, b"ok\n")
    root.stop()
    for node in (middle, leaf):
        wait_for(lambda: node.metrics("main")["age_alarm"] == 1, 30, "the alarm")
        status, body = node.http("/healthz")
        assert status == 200 and b"warning: instance main has old data" in body
        assert "alarm_age (1.0 s)" in node.log.read_text()
        assert b"age_alarm=1" in node.call("INFO")
        assert b"older than alarm_age" in qs("-s", node.socket, "status")[1]
    wait_for(lambda: nodes_of(leaf)["leaf"]["old"] and nodes_of(leaf)["middle"]["old"], 30,
             "the picture to say so")
    root.start()
    for node in (middle, leaf):
        wait_for(lambda: node.metrics("main")["age_alarm"] == 0, 30, "the end of the alarm")
        assert node.metrics("main")["age_alarms"] == 1
        assert node.http("/healthz") == (200, b"ok\n")
        assert "young again" in node.log.read_text()


def test_old_from_the_start(cluster):
    """A node that never found a parent warns too."""
    alone = cluster.replica("alone", "127.0.0.1:1", node={"alarm_age": "1s"}).launch()
    wait_for(lambda: "alarm_age (1.0 s)" in alone.log.read_text(), 30, "the alarm")


class Parent(threading.Thread):
    """A parent by hand, which answers a question with `answer(id, page)`, a frame or nothing."""

    def __init__(self, answer):
        super().__init__(daemon=True)
        self.answer, self.asked = answer, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.start()

    def run(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        try:
            with PeerConn(sock=sock, timeout=60) as conn:
                asked = conn.receive_until("hello")
                conn.send(message("welcome", protocol=PROTOCOL, answer=1, node="by-hand", role=1,
                                  history=asked["history"] or b"h" * 16, oldest=1))
                while True:
                    name, fields = conn.receive()
                    if name == "ping":
                        conn.send(message("pong", sent_ns=fields["sent_ns"]))
                    elif name == "tree_ask":
                        self.asked.append((fields["id"], fields["page"]))
                        conn.send(self.answer(fields["id"], fields["page"]))
        except (OSError, ConnectionError):
            pass


def page(id, *rows, last=1, reason="", **fields):
    return message("tree_page", id=id, items=items(*rows), last=last, reason=reason, **fields)


ANSWERS = {
    "in pages": (lambda id, at: page(id, item(node="abc"[at]), last=at // 2),
                 {"a", "b", "c"}, None),
    "not the root's": (lambda id, at: page(id, item(), reason="so\x1bcut off"), {"x"},
                       "so?cut off"),
    "nothing": (lambda id, at: b"", {"child"}, "did not answer in time"),
    "half of it": (lambda id, at: page(id, item(), last=0) if at == 0 else b"", {"child"},
                   "did not answer in time"),
    "another question's": (lambda id, at: page(id + 1, item()), {"child"}, "was lost"),
    "names that do not rise": (lambda id, at: page(id, item(node="b"), item(node="a")), {"child"},
                               "was lost"),
    "the same page again": (lambda id, at: page(id, item(), last=0), {"child"}, "was lost"),
    "an empty page": (lambda id, at: page(id, last=0), {"child"}, "was lost"),
    "nonsense": (lambda id, at: page(id, item(role=7)), {"child"}, "was lost"),
    "a goodbye": (lambda id, at: message("goodbye", error=1, reason="bye"), {"child"}, "was lost"),
}


@pytest.mark.parametrize("what", ANSWERS)
def test_what_a_parent_answers(cluster, what):
    answer, names, reason = ANSWERS[what]
    parent = Parent(answer)
    child = cluster.replica("child", parent.address, node={"silence": "20s"}).launch()
    wait_for(lambda: child.is_ready() and child.place()["parent"]["connected"], 30, "the link")
    seen = picture(child)
    assert {each["node"] for each in seen["nodes"]} == names
    assert seen["whole"] == (reason is None) and (reason or "") in (seen["reason"] or "")
    assert parent.asked[0] == (1, 0)
    child.check_alive()
    parent.listener.close()
