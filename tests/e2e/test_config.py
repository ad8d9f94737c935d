# SPDX-License-Identifier: Apache-2.0
"""Wrong configuration: refused with file, true line and reason; wrong places: one sentence."""
import re
import shutil
import socket
import subprocess

import pytest

from qs_cluster import QSD, SLOW

GOOD = """\
# A comment before, so that line numbers must be true ones.
node     = "edge-17"                # and behind
data_dir = "{data}"

client   = {{"unix:{data}/qs.sock"}}
instance zones {{
    # inside
    number   = 0
    role     = root
}}
"""

# name: (what is replaced, by what, the true line, a word of the reason)
WRONG = {
    "unknown option": ("node ", 'nod = "x"\nnode ', 2, "nod"),
    "unknown in instance": ("    number   = 0", "    number   = 0\n    colour = 1", 9, "colour"),
    "not a number": ("number   = 0", "number   = many", 8, "number"),
    "out of range": ("number   = 0", "number   = 5000", 8, "number"),
    "bad role": ("role     = root", "role     = king", 9, "role"),
    "given twice": ('node     = "edge-17"', 'node = "a"\nnode = "b"', 3, "node"),
    "not closed": ("root\n}}\n", "root\n", 6, "instance"),
    "open quote": ('"edge-17"', '"edge-17', 2, ""),
    "missing role": ("    role     = root\n", "", None, "role"),
    "bad size": ("role     = root", "role     = root\n    memtable = 12XB", 10, "memtable"),
    "bad duration": ("role     = root", "role     = root\n    sync = 5parsecs", 10, "sync"),
    "parents of a root": ("role     = root", 'role = root\n    parents = {{"h:1"}}', 10, "parents"),
    "replica without parents": ("role     = root", "role     = replica", None, "parents"),
    "bad address": ("client   =", 'peer = "nowhere"\nclient   =', 5, "peer"),
    "port too high": ("client   =", 'peer = "127.0.0.1:70000"\nclient   =', 5, "peer"),
    "semicolon": ('"edge-17"', '"edge-17";', 2, ""),
    "no instance": ("instance zones", "instance_zones", None, ""),
    "bad node name": ("edge-17", "edge 17", 2, "node"),
    "bad instance name": ("instance zones", "instance Zones!", 6, ""),
    "same instance twice": (
        "instance zones", "instance zones {{ number=1 role=root }}\ninstance zones", 7, "zones",
    ),
    "same number twice": (
        "instance zones", "instance other {{ number=0 role=root }}\ninstance zones", 9, "number",
    ),
    "data missing": ("{data}\"\n", "{data}/nosuch\"\n", 3, "does not exist"),
}


def check(path, *, option="--check-config"):
    done = subprocess.run([QSD, option, path], capture_output=True, text=True, timeout=30 * SLOW)
    return done.returncode, done.stdout, done.stderr


def test_a_good_file(tmp_path):
    path = tmp_path / "qs.conf"
    path.write_text(GOOD.format(data=tmp_path))
    code, out, err = check(path)
    assert code == 0 and not err, err
    assert "valid" in out


@pytest.mark.parametrize("name", WRONG)
def test_wrong_files(tmp_path, name):
    old, new, line, word = WRONG[name]
    assert old in GOOD, old
    path = tmp_path / "qs.conf"
    path.write_text(GOOD.replace(old, new, 1).format(data=tmp_path))
    for option in ("--check-config", "--config"):
        code, _, err = check(path, option=option)
        assert code == 1, (code, err)
        lines = err.strip().splitlines()
        assert len(lines) == 1, f"one sentence, not {err}"
        # What is missing from the whole file stands on no line.
        found = re.match(rf"{re.escape(str(path))}:(?:(\d+):)? (.+)", lines[0])
        assert found, lines[0]
        assert word in found[2], lines[0]
        if line is not None:
            assert int(found[1]) == line, lines[0]


def test_no_file_and_wrong_usage(tmp_path):
    code, _, err = check(tmp_path / "nosuch.conf")
    assert code == 1 and "nosuch.conf" in err and len(err.strip().splitlines()) == 1
    assert check(tmp_path)[0] == 1
    done = subprocess.run([QSD, "--nonsense"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2 and "usage" in done.stderr
    done = subprocess.run([QSD, "--help"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0 and "data_dir" in done.stdout and "keys_max" in done.stdout
    (tmp_path / "empty.conf").write_text("")
    assert check(tmp_path / "empty.conf")[0] == 1
    (tmp_path / "nul.conf").write_bytes(b"node = \"a\0b\"\n")
    assert check(tmp_path / "nul.conf")[0] == 1


def refused(node, *words):
    """The daemon ends by itself, not by a signal, and says why in one line of level error."""
    node.launch()
    code = node.process.wait(30 * SLOW)
    node.process = None
    log = node.log.read_text().rpartition("---- start\n")[2]
    assert code == 1, (code, log)
    assert not re.search(r"#\d+ 0x|Sanitizer|Backtrace|signal", log), log
    found = [line for line in log.splitlines() if re.search(r"error", line, re.I)]
    assert found, log
    text = "\n".join(found)
    for word in words:
        assert word in text, (word, text)


@pytest.mark.parametrize("door", ["peer", "admin", "client", "unix"])
def test_port_taken(cluster, door):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        address = "127.0.0.1:%d" % held.getsockname()[1]
        node = cluster.root()
        if door == "client":
            node.configure(client=[address])
        elif door == "unix":
            address = str(cluster.sockets / "nosuch" / "x.sock")
            node.configure(client=[f"unix:{address}"])
        else:
            node.configure(**{door: address})
        refused(node, address)


def test_two_daemons_on_one_directory(cluster):
    root = cluster.root().start()
    other = cluster.root("other")
    other.configure(data_dir=root.data)
    refused(other, "in use")
    assert root.call("PING") == b"PONG"


@pytest.mark.parametrize("what", ["instance", "cluster", "role"])
def test_data_directory_of_another(cluster, what):
    root = cluster.root().start()
    root.call("QS.PUT", "a", "1")
    root.stop()
    node = cluster.root("other")
    if what == "instance":
        shutil.copytree(root.data / "main", node.data / "flags")
        node.instances = {"flags": {"role": "root"}}
    else:
        shutil.copytree(root.data / "main", node.data / "main")
        if what == "cluster":
            node.configure(cluster="another")
        else:
            node.instances = {"main": {"role": "replica", "parents": [root]}}
    refused(node, what)
    root.start()
    assert root.call("GET", "a") == b"1"


def test_a_stale_socket_is_replaced(cluster):
    root = cluster.root().start()
    root.kill()
    assert root.socket.exists()
    root.start()
    assert root.call("PING") == b"PONG"
