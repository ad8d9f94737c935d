# SPDX-License-Identifier: Apache-2.0
"""The command line: exit codes, output, import in three formats and after an interruption."""
import json
import random
import re
import threading

import pytest

from qs_cluster import qs, wait_for
from resp import encode


@pytest.fixture
def root(cluster):
    return cluster.root().start()


def at(node, *words, **options):
    return qs("-s", node.socket, *words, **options)


def test_get_put_del(root):
    assert at(root, "get", "a")[0] == 1
    code, out, _ = at(root, "put", "a", "value")
    assert code == 0 and out.strip() == b"1"
    code, out, _ = at(root, "get", "a")
    assert code == 0 and out.rstrip(b"\n") == b"value"
    assert at(root, "put", "from-stdin", stdin=b"\0\xff")[0] == 0
    assert root.call("GET", "from-stdin") == b"\0\xff"
    code, out, _ = at(root, "mget", "a", "nothing")
    assert out.splitlines()[0] == b"a\tvalue"
    code, out, _ = at(root, "range", "a", "b")
    assert code == 0 and out == b"a\tvalue\n"
    assert at(root, "del", "a")[0] == 0
    assert at(root, "get", "a")[0] == 1
    code, out, _ = at(root, "index")
    assert code == 0 and out.strip() == b"3"
    code, out, _ = at(root, "wait", "3", "1000")
    assert code == 0
    assert at(root, "wait", "99", "50")[0] == 1
    code, out, _ = at(root, "digest")
    assert code == 0 and root.digest()[1].encode() in out


def test_json(root):
    at(root, "put", "a", "value")
    code, out, _ = at(root, "--json", "get", "a")
    assert code == 0 and json.loads(out)["value"] == "value"
    assert json.loads(at(root, "--json", "index")[1])
    status = json.loads(at(root, "--json", "status")[1])
    assert "root" in [section.get("node") for section in status.values()], status
    assert json.loads(at(root, "--json", "tree")[1])


def test_usage_and_errors(root):
    for words in (
        (), ("nosuch",), ("get",), ("get", "a", "b", "c"), ("put",), ("--nonsense", "get", "a"),
    ):
        code, _, err = at(root, *words)
        assert code == 2 and err, words
    code, _, err = qs("-s", "/nonexistent.sock", "get", "a")
    assert code == 3 and err
    code, _, err = at(root, "-i", "nosuch", "get", "a")
    assert code in (2, 3) and err
    assert qs("help")[0] == 0


def test_readonly(cluster, root):
    replica = cluster.replica("replica", root).start()
    code, _, err = at(replica, "put", "a", "1")
    assert code == 3 and b"READONLY" in err


def pairs(count, seed):
    rng = random.Random(seed)
    out = {}
    for i in range(count):
        value = rng.randbytes(rng.randrange(80)) if i % 3 else b"plain text %d" % i
        out[b"key/%06d" % i] = value
    return out


def tsv(data):
    def escape(text):
        return re.sub(rb"[\\\t\n\r\0]", lambda m: b"\\x%02x" % m[0][0], text)

    return b"".join(escape(k) + b"\t" + escape(v) + b"\n" for k, v in data.items())


def jsonl(data):
    import base64

    lines = []
    for key, value in data.items():
        try:
            lines.append(json.dumps({"key": key.decode(), "value": value.decode()}))
        except UnicodeDecodeError:
            coded = base64.b64encode(value).decode()
            lines.append(json.dumps({"key": key.decode(), "value_base64": coded}))
    return "\n".join(lines).encode() + b"\n"


@pytest.mark.parametrize("form", ["tsv", "jsonl", "resp"])
def test_import(root, tmp_path, form):
    data = pairs(5000, form)
    text = {"tsv": tsv, "jsonl": jsonl}.get(
        form, lambda d: b"".join(encode("SET", k, v) for k, v in d.items())
    )(data)
    path = tmp_path / f"input.{form}"
    path.write_bytes(text)
    code, out, err = at(root, "import", "--format", form, path)
    assert code == 0, err
    keys = list(data)
    assert root.call("DBSIZE") == len(data)
    assert root.call("MGET", *keys) == list(data.values())
    code, _, err = at(root, "import", path)
    assert code == 0, f"the format should be guessed: {err}"
    code, _, err = at(root, "import", "--format", form, "-", stdin=text[:0])
    assert code == 0, err


def test_import_says_what_is_wrong(root, tmp_path):
    path = tmp_path / "input.tsv"
    path.write_bytes(b"a\t1\nb\t2\nno tab here\nc\t3\n")
    code, _, err = at(root, "import", "--format", "tsv", path)
    assert code == 3 and b"3" in err, err
    code, _, err = at(root, "import", "--format", "tsv", "--skip-bad", path)
    assert code == 0, err
    assert root.call("MGET", "a", "b", "c") == [b"1", b"2", b"3"]


def test_import_resumes(root, tmp_path):
    """The root dies in the middle; the second run goes on from what was acknowledged."""
    data = {b"key/%07d" % i: b"value %d" % i for i in range(300_000)}
    path = tmp_path / "input.tsv"
    path.write_bytes(b"".join(b"%s\t%s\n" % pair for pair in data.items()))

    def kill_midway():
        wait_for(lambda: root.call("DBSIZE") > 20_000, 30, "the import to be under way")
        root.kill()

    killer = threading.Thread(target=kill_midway)
    killer.start()
    code, _, err = at(root, "import", "--resume", path)
    killer.join()
    assert code == 3 and b"--resume" in err, err
    root.start()
    before = root.index()
    assert 0 < root.call("DBSIZE") < len(data)
    code, _, err = at(root, "import", "--resume", path)
    assert code == 0, err
    assert root.index() < before + len(data), "the second run began anew"
    assert root.call("DBSIZE") == len(data)
    keys = list(data)
    for start in range(0, len(keys), 10_000):
        part = keys[start : start + 10_000]
        assert root.call("MGET", *part) == [data[key] for key in part]


def test_resume_refuses_another_file(root, tmp_path):
    path = tmp_path / "input.tsv"
    path.write_bytes(b"a\t1\nbroken\n")
    assert at(root, "import", "--resume", path)[0] == 3
    path.write_bytes(b"a\t1\nmended\t2\n")
    code, _, err = at(root, "import", "--resume", path)
    assert code == 3 and b"changed" in err, err
    assert at(root, "import", path)[0] == 0
    assert root.call("GET", "mended") == b"2"


def test_export_and_import_are_inverse(cluster, root, tmp_path):
    data = pairs(3000, "export")
    with root.raw() as conn:
        conn.pipeline([("SET", k, v) for k, v in data.items()])
    code, out, err = at(root, "export")
    assert code == 0, err
    other = cluster.root("other").start()
    assert at(other, "import", "--format", "tsv", "-", stdin=out)[0] == 0
    keys = list(data)
    assert other.call("MGET", *keys) == list(data.values())
    assert other.call("DBSIZE") == len(data)


def test_status_and_tree(cluster, root):
    cluster.replica("replica", root).start()
    root.call("QS.PUT", "a", "1")
    cluster.settle()
    code, out, _ = at(root, "status")
    assert code == 0 and b"root" in out and b"main" in out
    code, out, _ = at(root, "tree")
    assert code == 0 and b"replica" in out
