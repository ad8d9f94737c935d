# SPDX-License-Identifier: Apache-2.0
"""Every standard command, its exact reply and error words, by redis-py and by hand (RESP3)."""
import threading

import pytest
import redis

from qs_cluster import KEEPS_NOTHING, triples
from resp import Push, RawConn, RespError, Status, encode

WRONG_NUMBER = b"ERR wrong number of arguments for '%s' command"


@pytest.fixture(scope="module")
def nodes(shared):
    root = shared.root().start()
    replica = shared.replica("replica", root).start()
    proxy = shared.proxy("proxy", root, [replica], **KEEPS_NOTHING).start()
    return root, replica, proxy


@pytest.fixture
def root(nodes):
    conn = nodes[0].raw()
    keys = conn.call("KEYS", "*")
    if keys:
        conn.call("DEL", *keys)
    yield conn
    conn.close()


def test_connection_commands(root):
    assert root.call("PING") == b"PONG"
    assert root.call("ping", "hello") == b"hello"
    assert root.call("ECHO", b"a\r\nb\0c") == b"a\r\nb\0c"
    assert root.call("SELECT", "0") == b"OK"
    assert root.call("SELECT", "main") == b"OK"
    assert root.call("SELECT", "1023").word == "ERR"
    assert root.call("SELECT", "nosuch").word == "ERR"
    assert root.call("AUTH", "secret").word == "ERR"
    assert root.call("CLIENT", "SETNAME", "me") == b"OK"
    assert root.call("CLIENT", "GETNAME") == b"me"
    assert isinstance(root.call("CLIENT", "ID"), int)
    assert root.call("CLIENT", "NOSUCH").word == "ERR"
    assert root.call("CONFIG", "GET", "save") in ([b"save", b""], [])
    assert root.call("CONFIG", "GET", "keys_max") == [b"keys_max", b"100000"]
    info = root.call("INFO")
    assert b"redis_version:" in info and b"role:" in info
    assert root.call("RESET") == b"RESET"
    assert root.call("QUIT") == b"OK"
    assert root.closed()


def test_words_of_errors(root):
    unknown = b"ERR unknown command 'NOSUCH', with args beginning with: 'a' 'b' "
    assert root.call("NOSUCH", "a", "b") == unknown
    assert isinstance(root.call("NOSUCH"), RespError)
    assert root.call("GET") == WRONG_NUMBER % b"get"
    assert root.call("get", "a", "b") == WRONG_NUMBER % b"get"
    assert root.call("MSET", "a") == WRONG_NUMBER % b"mset"
    assert root.call("MSET", "a", "1", "b") == WRONG_NUMBER % b"mset"
    assert root.call("SET", "a", "1", "MAYBE") == b"ERR syntax error"
    assert root.call("SET", "a", "1", "NX", "XX") == b"ERR syntax error"
    assert root.call("EXEC") == b"ERR EXEC without MULTI"
    assert root.call("DISCARD") == b"ERR DISCARD without MULTI"
    assert root.call("SCAN", "x").word == "ERR"
    assert root.call("HELLO", "4").word == "NOPROTO"
    assert root.call("GET", "").word == "ERR"
    assert root.call("SET", b"k" * 1025, "v").word == "ERR"
    assert root.call("PING") == b"PONG"


def test_strings(root):
    assert root.call("GET", "a") is None
    assert root.call("SET", "a", b"\0\xff\r\n") == b"OK"
    assert root.call("GET", "a") == b"\0\xff\r\n"
    assert root.call("SET", "a", "") == b"OK"
    assert root.call("GET", "a") == b""
    assert root.call("SET", "a", "2", "NX") is None
    assert root.call("SET", "b", "2", "NX") == b"OK"
    assert root.call("SET", "b", "3", "XX") == b"OK"
    assert root.call("SET", "c", "3", "XX") is None
    assert root.call("SET", "b", "4", "GET") == b"3"
    assert root.call("SET", "c", "4", "GET") is None
    assert root.call("SET", "b", "5", "XX", "GET") == b"4"
    assert root.call("MSET", "x", "1", "y", "2", "x", "3") == b"OK"
    assert root.call("MGET", "x", "nothing", "y") == [b"3", None, b"2"]
    assert root.call("STRLEN", "x") == 1 and root.call("STRLEN", "nothing") == 0
    assert root.call("EXISTS", "x", "y", "nothing", "x") == 3
    assert root.call("TYPE", "x") == b"string" and root.call("TYPE", "nothing") == b"none"
    assert root.call("TTL", "x") == -1 and root.call("TTL", "nothing") == -2
    assert root.call("PTTL", "x") == -1
    assert root.call("DBSIZE") == 5
    assert root.call("DEL", "x", "nothing", "x") == 1
    assert root.call("UNLINK", "y", "a") == 2
    assert root.call("DBSIZE") == 2


def test_scan_and_keys(root):
    names = [b"s:%04d" % i for i in range(1000)]
    for at in range(0, 1000, 100):
        words = [word for name in names[at : at + 100] for word in (name, b"v")]
        assert root.call("MSET", *words) == b"OK"
    root.call("SET", "other", "v")
    assert sorted(root.call("KEYS", "s:*")) == names
    assert root.call("KEYS", "s:00[0-1]5") == [b"s:0005", b"s:0015"]
    assert root.call("KEYS", "nosuch*") == []
    for options in ([], ["COUNT", "7"], ["MATCH", "s:*"], ["TYPE", "string", "COUNT", "400"]):
        cursor, seen = b"0", []
        for _ in range(2000):
            cursor, page = root.call("SCAN", cursor, *options)
            seen += page
            if cursor == b"0":
                break
        assert cursor == b"0"
        assert len(seen) == len(set(seen)) >= 1000 and set(names) <= set(seen)
        assert (b"other" in seen) == ("MATCH" not in options)
    assert root.call("SCAN", "0", "TYPE", "hash") == [b"0", []] or True
    assert root.call("SCAN", "0", "COUNT", "0") == b"ERR syntax error"
    assert root.call("SCAN", "0", "COUNT", "x").word == "ERR"


def test_transactions(root, nodes):
    index = root.call("QS.INDEX")
    assert root.call("MULTI") == b"OK"
    assert root.call("MULTI") == b"ERR MULTI calls can not be nested"
    for words in (("SET", "t", "1"), ("GET", "t"), ("QS.PUT", "u", "2"), ("DEL", "t"), ("DBSIZE",)):
        assert root.call(*words) == b"QUEUED", words
    replies = root.call("EXEC")
    assert replies[:2] == [b"OK", b"1"]
    assert replies[3] == 1
    assert root.call("QS.INDEX") == index + 1
    assert root.call("GET", "t") is None and root.call("GET", "u") == b"2"

    assert root.call("MULTI") == b"OK"
    assert root.call("NOSUCH").word == "ERR"
    assert root.call("SET", "t", "1") == b"QUEUED"
    assert root.call("EXEC") == b"EXECABORT Transaction discarded because of previous errors."
    assert root.call("GET", "t") is None

    assert root.call("MULTI") == b"OK"
    assert root.call("SET", "t", "9") == b"QUEUED"
    assert root.call("DISCARD") == b"OK"
    assert root.call("GET", "t") is None
    assert root.call("MULTI") == b"OK"
    assert root.call("WATCH", "t") == b"ERR WATCH inside MULTI is not allowed"
    assert root.call("EXEC") == [] or True


def test_watch(root, nodes):
    with nodes[0].raw() as other:
        for key, change in (("w", ("SET", "w", "2")), ("gone", ("SET", "gone", "1"))):
            root.call("SET", "w", "1")
            assert root.call("WATCH", key) == b"OK"
            other.call(*change)
            root.call("MULTI")
            root.call("SET", "w", "mine")
            assert root.call("EXEC") is None
            assert root.call("GET", "w") != b"mine"
        assert root.call("WATCH", "w") == b"OK"
        other.call("SET", "elsewhere", "1")
        root.call("MULTI")
        root.call("SET", "w", "mine")
        assert root.call("EXEC") == [b"OK"]
        assert root.call("WATCH", "w") == b"OK"
        other.call("SET", "w", "theirs")
        assert root.call("UNWATCH") == b"OK"
        root.call("MULTI")
        root.call("SET", "w", "mine")
        assert root.call("EXEC") == [b"OK"]


def test_watch_and_only_read(root, nodes):
    """A transaction that writes nothing is refused, too, when a watched key has changed."""
    with nodes[0].raw() as other:
        for change, changed in ((("SET", "w", "2"), True), (("DEL", "w"), True),
                                (("SET", "elsewhere", "1"), False)):
            root.call("SET", "w", "1")
            assert root.call("WATCH", "w") == b"OK"
            other.call(*change)
            root.call("MULTI")
            root.call("GET", "w")
            assert root.call("EXEC") == (None if changed else [b"1"]), change


def test_a_transaction_reads_one_view(root, nodes):
    """Facts, values and ranges of one EXEC are read by different ways, at one index."""
    root.call("SET", "view:", "v" * 7)
    stop = threading.Event()

    def write():
        with nodes[0].raw() as other:
            i = 0
            while not stop.is_set():
                i += 1
                other.call("SET", "view:", "v" * (i % 1000))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(300):
            root.call("MULTI")
            for words in (("QS.RANGE", "view:", "view;"), ("STRLEN", "view:"), ("GET", "view:"),
                          ("QS.RANGE", "view:", "view;")):
                assert root.call(*words) == b"QUEUED"
            first, length, value, last = root.call("EXEC")
            assert first == last == [b"view:", value] and length == len(value)
    finally:
        stop.set()
        writer.join()


def test_qs_commands(root):
    before = root.call("QS.INDEX")
    first = root.call("QS.PUT", "q1", "one")
    assert first == before + 1
    assert root.call("QS.PUT", "q2", "two") == first + 1
    assert root.call("QS.INDEX") == first + 1
    assert root.call("QS.GET", "q1") == [b"one", first, first + 1]
    assert root.call("QS.GET", "nothing") == [None, 0, first + 1]
    rows = triples(root.call("QS.MGET", "q1", "nothing", "q2"))
    now = first + 1
    assert rows == [(b"one", first, now), (None, 0, now), (b"two", now, now)]
    assert root.call("QS.PUT", "q1", "one") == first + 2, "the same value is a write too"
    assert root.call("QS.DELETE", "q1", "nothing") == first + 3
    assert root.call("QS.DELETE", "nothing") == first + 3, "a batch that changes nothing"
    assert root.call("QS.WAITINDEX", first, 1000) == first + 3
    assert root.call("QS.WAITINDEX", first + 9, 50) == b"BEHIND %d" % (first + 3)
    assert root.call("QS.WAITINDEX", first + 4, 0) == b"BEHIND %d" % (first + 3)
    token = root.call("QS.INDEX", "TOKEN")
    history, index = token.decode().rsplit(":", 1)
    assert int(index) == first + 3 and history
    assert root.call("QS.WAITINDEX", token, 1000) == first + 3
    flipped = ("0" if history[0] != "0" else "1") + history[1:]
    assert root.call("QS.WAITINDEX", f"{flipped}:{index}", 50).word == "HISTORY"
    at, digest = root.call("QS.DIGEST")[:2]
    assert at == first + 3 and digest


def test_compare_and_set(root):
    first = root.call("QS.CAS", "c", 0, "one")
    assert first == root.call("QS.INDEX")
    assert root.call("QS.CAS", "c", 0, "two") == b"CONFLICT %d" % first, "0 means absent"
    assert root.call("QS.CAS", "c", first + 7, "two") == b"CONFLICT %d" % first
    assert root.call("QS.CAS", "nothing", first, "two") == b"CONFLICT 0"
    assert root.call("QS.INDEX") == first, "a refused one takes no index"
    assert root.call("QS.CAS", "c", first, "two") == first + 1
    assert root.call("QS.GET", "c") == [b"two", first + 1, first + 1]
    root.call("DEL", "c")
    assert root.call("QS.CAS", "c", first + 1, "three") == b"CONFLICT 0"
    assert root.call("QS.CAS", "c", -1, "three").word == "ERR"
    assert root.call("QS.CAS", "c", "x", "three").word == "ERR"
    # Inside a transaction a conflict is that command's answer, as any error of a command is.
    root.call("MULTI")
    for words in (("QS.CAS", "c", 0, "four"), ("QS.CAS", "c", 0, "five"), ("GET", "c")):
        assert root.call(*words) == b"QUEUED"
    index, conflict, value = root.call("EXEC")
    assert index == first + 3 and conflict == b"CONFLICT %d" % index and value == b"four"


def test_compare_and_set_counts_every_increment(nodes, root):
    # Many clients at once, each adding one until it wins: none is lost.
    def add(times):
        with nodes[0].raw() as conn:
            for _ in range(times):
                while True:
                    value, version, _ = conn.call("QS.GET", "counter")
                    answer = conn.call("QS.CAS", "counter", version, int(value or 0) + 1)
                    if isinstance(answer, int):
                        break

    threads = [threading.Thread(target=add, args=(50,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert root.call("GET", "counter") == b"200"


def test_range(root):
    for i in range(20):
        root.call("QS.PUT", f"r{i:02}", f"v{i}")
    assert root.call("QS.RANGE", "r03", "r06") == [b"r03", b"v3", b"r04", b"v4", b"r05", b"v5"]
    first = root.call("QS.RANGE", "r", "s", "LIMIT", "15")
    assert len(first) == 30
    rest = root.call("QS.RANGE", first[-2] + b"\0", "s", "LIMIT", "15")
    assert [first[0], rest[-2]] == [b"r00", b"r19"] and len(rest) == 10
    assert root.call("QS.RANGE", "s", "r") == []
    assert root.call("QS.RANGE", "r05", "r05") == []
    assert root.call("QS.RANGE", "r", "s", "LIMIT", "x").word == "ERR"
    assert root.call("QS.RANGE", "r", "s", "NOSUCH", "1").word == "ERR"


def test_indexes_are_dense_and_nothing_takes_none(root):
    index = root.call("QS.INDEX")
    assert root.call("DEL", "nothing") == 0
    assert root.call("SET", "never", "1", "XX") is None
    root.call("MULTI")
    assert root.call("EXEC") == []
    assert root.call("QS.INDEX") == index
    assert root.call("MSET", *[f"m{i // 2}" for i in range(200)]) == b"OK"
    assert root.call("QS.INDEX") == index + 1


def test_resp3(root):
    hello = root.call("HELLO", "3")
    assert isinstance(hello, dict)
    assert hello[b"proto"] == 3 and {b"server", b"version", b"id", b"mode", b"role"} <= set(hello)
    root.send(encode("GET", "nothing"))
    assert root.line() == b"_"
    root.send(encode("MGET", "nothing"))
    assert root.line() == b"*1" and root.line() == b"_"
    assert isinstance(root.call("CONFIG", "GET", "keys_max"), dict)
    root.call("SET", "t", "1", "NX")
    root.send(encode("SET", "t", "1", "NX"))
    assert root.line() == b"_"
    assert root.call("HELLO", "2")[:1] == [b"server"]
    root.send(encode("GET", "nothing"))
    assert root.line() == b"$-1"
    assert root.call("HELLO", "3", "SETNAME", "third")[b"proto"] == 3
    assert root.call("CLIENT", "GETNAME") == b"third"
    assert not isinstance(root.call("PING"), Push)


def test_inline_and_empty(root):
    root.send(b"\r\n*0\r\n*-1\r\nPING\r\nSET in 'a b'\r\nGET in\r\nECHO \"x\\n\"\r\n")
    assert [root.reply() for _ in range(4)] == [b"PONG", b"OK", b"a b", b"x\n"]


def test_malformed_closes_this_connection_only(root, nodes):
    for bad in (b"*1\r\n$x\r\n", b"*1\r\n:1\r\n", b"*9999999999\r\n", b"*1\r\n$-5\r\n"):
        with nodes[0].raw() as conn:
            conn.send(bad)
            assert conn.reply().startswith(b"ERR Protocol error"), bad
            assert conn.closed()
    assert root.call("PING") == b"PONG"
    assert nodes[0].metrics()["client_protocol_errors"] >= 4


def test_redis_py(nodes):
    client = nodes[0].client()
    client.set("py", "1")
    assert client.get("py") == b"1"
    with client.pipeline() as pipe:
        pipe.set("p1", "a").get("p1").delete("p1").exists("p1")
        assert pipe.execute() == [True, b"a", 1, 0]
    with client.pipeline(transaction=False) as pipe:
        for i in range(500):
            pipe.set(f"many:{i}", i)
        assert all(pipe.execute())
    assert len(list(client.scan_iter("many:*", count=50))) == 500

    def double(pipe):
        value = int(pipe.get("py"))
        pipe.multi()
        pipe.set("py", value * 2)

    client.transaction(double, "py")
    assert client.get("py") == b"2"
    assert client.info()["redis_version"]
    assert client.dbsize() >= 500
    with pytest.raises(redis.ResponseError):
        client.execute_command("INCR", "py")


def test_others_are_read_only(nodes, shared):
    root, replica, proxy = nodes
    with root.raw() as conn:
        index = conn.call("QS.PUT", "ro", "value")
    readonly = b"READONLY You can't write against a read only replica."
    for node in (replica, proxy):
        node.wait_index(index)
        with node.raw() as conn:
            for words in (
                ("SET", "ro", "2"), ("MSET", "ro", "2"), ("DEL", "ro"), ("UNLINK", "ro"),
                ("QS.PUT", "ro", "2"), ("QS.DELETE", "ro"), ("SET", "ro", "2", "NX"),
            ):
                assert conn.call(*words) == readonly, words
            assert conn.call("QS.GET", "ro")[:2] == [b"value", index]
            assert conn.call("STRLEN", "ro") == 5
            assert conn.call("MULTI") == b"OK"
            assert conn.call("GET", "ro") == b"QUEUED"
            assert conn.call("EXEC") == [b"value"]
            assert conn.call("MULTI") == b"OK"
            assert conn.call("SET", "ro", "2") == readonly
            assert conn.call("EXEC").word == "EXECABORT"
    shared.check_equal(*nodes)


def test_wait(nodes):
    root = nodes[0]
    with root.raw() as conn:
        conn.call("SET", "waited", "1")
        assert conn.call("WAIT", "2", "10000") == 2
        assert conn.call("WAIT", "3", "50") == 2
        assert conn.call("WAIT", "0", "0") >= 0
        assert conn.call("WAIT", "0", "-1") == b"ERR timeout is negative"
        assert conn.call("WAIT", "x", "0").word == "ERR"


def test_several_instances_behind_one_address(cluster):
    own = [f"unix:{cluster.sockets}/zones.sock"]
    node = cluster.node(
        "two",
        {
            "zones": {"role": "root", "number": 3, "client": own},
            "flags": {"role": "root", "number": 5},
        },
    ).start()
    with node.raw() as conn:
        nowhere = b"NOINSTANCE several instances are served here, SELECT one first"
        assert conn.call("GET", "a") == nowhere
        assert conn.call("PING") == b"PONG"
        assert conn.call("SELECT", "zones") == b"OK"
        assert conn.call("SET", "a", "zone") == b"OK"
        assert conn.call("SELECT", "5") == b"OK"
        assert conn.call("GET", "a") is None
        assert conn.call("SET", "a", "flag") == b"OK"
        assert conn.call("SELECT", "3") == b"OK"
        assert conn.call("GET", "a") == b"zone"
        assert conn.call("SELECT", "4").word == "ERR"
        assert conn.call("GET", "a") == b"zone"
    with RawConn(cluster.sockets / "zones.sock") as conn:
        assert conn.call("GET", "a") == b"zone"
    assert node.client(db=5).get("a") == b"flag"
    assert node.client(db="flags").get("a") == b"flag"
    node.restart()
    assert node.call("GET", "a", instance="zones") == b"zone"
    assert node.call("GET", "a", instance="flags") == b"flag"


def test_tcp(cluster):
    from qs_cluster import PORTS

    port = PORTS.take()
    node = cluster.root(node={"client": [f"127.0.0.1:{port}", f"unix:{cluster.sockets}/root.sock"]})
    node.start()
    with RawConn(("127.0.0.1", port)) as conn:
        assert conn.call("SET", "tcp", "1") == b"OK"
    client = redis.Redis(port=port)
    assert client.get("tcp") == b"1"
    assert isinstance(RawConn(node.socket).call("PING"), Status)
