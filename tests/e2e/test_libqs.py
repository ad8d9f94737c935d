# SPDX-License-Identifier: Apache-2.0
"""libqs, through its Python binding, against real daemons; the examples of docs/libqs.md."""
import importlib
import os
import random
import re
import subprocess
import sys

import pytest

from qs_cluster import QSD, ROOT, SLOW, wait_for

# The library of the plain build: one with a sanitizer in it does not load into this process.
BUILD = ROOT / "build/release"
os.environ["QS_LIBRARY"] = str(BUILD / "libqs.so.1")
sys.path.insert(0, str(ROOT / "common/client"))
qs = importlib.import_module("qs") if (BUILD / "libqs.so.1").exists() else None
pytestmark = pytest.mark.skipif(qs is None, reason="build/release has no libqs; make builds it")

PATIENCE = 20.0 * SLOW


def connect(node, **options):
    options.setdefault("timeout", PATIENCE)
    return qs.open(f"unix:{node.socket}", **options)


def test_all_calls(cluster):
    """On a root, and a replica and a proxy that send writes on."""
    root = cluster.root().start()
    replica = cluster.replica("replica", root, forward_writes="yes").start()
    proxy = cluster.proxy("proxy", replica, [replica], forward_writes="yes", keep_bytes=0).start()
    for node in (replica, proxy):
        wait_for(lambda: node.place()["parent"]["connected"], 30, f"{node.name} to follow")
    for node in (root, replica, proxy):
        with connect(node) as db:
            all_calls(db, node.name)


def all_calls(db, name):
    key = f"{name}/a"
    assert db.token() is None
    assert db.get(key) is None and not db.exists(key)
    first = db.put(key, b"1")
    assert db.row(key) == (b"1", first, first) and db.exists(key)
    assert db.token().endswith(f":{first}") and db.index() == first
    second = db.put(key, b"\0\r\n" * 1000)
    assert db.get(key, at=first) == b"1" and db.row(key, at=first).index == first
    assert db.get(key, least=db.token()) == b"\0\r\n" * 1000
    assert db.wait(second) == second == db.wait(db.token())
    with pytest.raises(qs.Conflict) as caught:
        db.cas(key, first, b"x")
    assert caught.value.version == second
    third = db.cas(key, second, b"")
    assert db.row(key) == (b"", third, third)
    assert db.cas(f"{name}/new", 0, b"n") == third + 1
    rows = db.get_many([key, f"{name}/none", f"{name}/new"])
    assert [row.value for row in rows] == [b"", None, b"n"] and len({r.index for r in rows}) == 1
    keys = [key, "MININDEX", "1", "1"]  # the last three could be taken for something else
    assert [row.version for row in db.get_many(keys)] == [third, 0, 0, 0]
    assert db.delete(key) == third + 2
    assert db.get(key) is None
    with pytest.raises(qs.KeySize):
        db.get("")
    with pytest.raises(qs.KeySize):
        db.put("k" * 1025, "")


@pytest.mark.parametrize("busy", [0, 10000])
def test_limits_of_time(cluster, busy):
    root = cluster.root().start()
    with connect(root, timeout=1.0 * SLOW, busy_poll=busy) as db:
        db.put("a", "1")
        for call in (lambda: db.get("a", least=50), lambda: db.wait(50, 0.05),
                     lambda: db.get("a", at=50)):
            with pytest.raises(qs.Behind):
                call()
        root.kill()
        with pytest.raises(qs.Closed):
            db.get("a")
        with pytest.raises(qs.Closed):
            db.put("a", "2")
        root.start()
    with connect(root) as db:
        assert db.get("a") == b"1"


def test_instances(cluster):
    node = cluster.node("node", {"one": {"role": "root"}, "two": {"role": "root"}}).start()
    with connect(node, instance="two") as db:
        db.put("a", "2")
    with connect(node, instance="one") as db:
        assert db.get("a") is None
    with connect(node) as db, pytest.raises(qs.NoInstance):
        db.get("a")
    with connect(node, instance="three") as db, pytest.raises(qs.NoInstance, match="three"):
        db.get("a")


def test_range(cluster):
    """Pages by number and by size; bounds; an earlier index."""
    root = cluster.root(node={"reply_bytes": 65536}).start()
    with connect(root) as db:
        expected = {}
        for i in range(700):
            value = b"v" * (20000 if i % 50 == 0 else 1)
            expected[b"k%04d" % i] = value
            db.put(b"k%04d" % i, value)
        before = db.index()
        db.put(b"k0000x", b"later")
        db.delete(b"k0699")
        assert list(db.range(at=before)) == sorted(expected.items())
        expected[b"k0000x"] = b"later"
        del expected[b"k0699"]
        assert list(db.range()) == sorted(expected.items())
        some = [(k, v) for k, v in sorted(expected.items()) if b"k01" <= k < b"k0250"]
        assert list(db.range(b"k01", b"k0250")) == some
        assert list(db.range(b"x")) == []
        walk = db.range()
        next(walk)
        walk.close()


def test_watch(cluster):
    """Each change once and in order, over a kill of the daemon."""
    root = cluster.root().start()
    with connect(root) as db, db.watch("a", start=1) as early:
        indexes = [db.put("a1", "x"), db.put("b", "y"), db.delete("a1")]
        with db.watch("a") as late:
            told = [next(early), next(early)]
            assert told == [(indexes[0], [(b"a1", b"x")]), (indexes[2], [(b"a1", None)])]
            assert late.next(PATIENCE) == (indexes[2], []), "where it begins"
            root.kill()
            root.start()
            last = db.put("a2", "z")
            assert next(early) == next(late) == (last, [(b"a2", b"z")])


def test_a_watch_whose_place_is_gone(cluster):
    root = cluster.root(journal_bytes="1MB", segment_bytes="64KB", replay_bytes="1MB").start()
    value = random.Random(1).randbytes(60000)

    def is_gone():
        for _ in range(20):
            db.put("big", value)
        with db.watch(start=1) as changes:
            try:
                return changes.next(PATIENCE) is None
            except qs.Gone:
                return True

    with connect(root) as db:
        wait_for(is_gone, 60, "the journal's beginning to be collected")
        with db.watch() as changes:
            assert changes.next(PATIENCE) == (db.index(), [])


def sessions(node, readers=8):
    """Threads of one handle (tests/tools/sessions.c), until their standard input is closed."""
    words = [QSD.parent / "tests/sessions", f"unix:{node.socket}", str(readers)]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def reads(node):
    """Commands so far, of a daemon that may be another one than before."""
    return node.metrics()["commands"]


def test_threads_and_kills(cluster, say):
    """Ten threads in one handle over five connections; the daemon is killed again and again."""
    root = cluster.root().start()
    with sessions(root) as process:
        for cycle in range(4):
            wait_for(lambda: reads(root) > 3000, 60, "commands")
            assert process.poll() is None
            if cycle < 3:
                root.kill()
                root.start()
        out, _ = process.communicate(timeout=120 * SLOW)
        assert process.returncode == 0
    say(f"3 kills: {out.strip()}")
    with connect(root) as db:
        assert int(db.get("counter")) >= int(re.search(r"(\d+) counts", out)[1])


def test_threads_on_a_proxy(cluster, say):
    """Writes are sent on, values fetched, the proxy killed: the handle waits for what it wrote."""
    root = cluster.root().start()
    proxy = cluster.proxy("proxy", root, [root], forward_writes="yes", keep_bytes=0).start()
    wait_for(lambda: proxy.place()["parent"]["connected"], 30, "the proxy to follow")
    with sessions(proxy) as process:
        for cycle in range(2):
            wait_for(lambda: reads(proxy) > 3000, 60, "commands")
            assert process.poll() is None
            if cycle == 0:
                proxy.kill()
                proxy.start()
        out, _ = process.communicate(timeout=120 * SLOW)
        assert process.returncode == 0
    say(f"1 kill: {out.strip()}")


def test_another_daemon_that_is_behind(cluster):
    """The address leads to a replica that stands lower: nothing older is read, then all is well."""
    root = cluster.root().start()
    middle = cluster.replica("middle", root).start()
    replica = cluster.replica("replica", middle).start()
    address = cluster.sockets / "moving"
    address.symlink_to(root.socket)
    with qs.open(f"unix:{address}", timeout=1.0 * SLOW) as db:
        db.put("a", "old")
        before = db.put("gone", "1")
        replica.wait_index(before)
        middle.kill()
        db.put("a", "new")
        db.delete("gone")
        assert db.get("a") == b"new"
        root.kill()
        address.unlink()
        address.symlink_to(replica.socket)
        for call in (lambda: db.get("a"), lambda: db.exists("gone"), lambda: list(db.range()),
                     lambda: db.get_many(["a"]), db.index):
            with pytest.raises((qs.Behind, qs.Timeout)):  # as the machine is quick or slow
                call()
        with pytest.raises(qs.ReadOnly):
            db.put("a", "newer")
        assert db.get("a", at=before) == b"old", "that is no newer state"
        with connect(replica) as other:
            assert other.row("a") == (b"old", before - 1, before), "it has seen nothing yet"
        root.start()
        middle.start()
        replica.wait_index(before + 2)
        assert db.get("a") == b"new" and not db.exists("gone")


def test_another_history(cluster):
    """Data that is of another history is refused until the program says that it is wanted."""
    root, other = cluster.root().start(), cluster.root("other").start()
    address = cluster.sockets / "moving"
    address.symlink_to(root.socket)
    other.call("SET", "a", "other")
    with qs.open(f"unix:{address}", timeout=PATIENCE) as db:
        db.put("a", "1")
        token = db.token()
        root.kill()
        address.unlink()
        address.symlink_to(other.socket)
        for call in (lambda: db.get("a"), lambda: db.put("a", "2"), lambda: next(db.watch())):
            with pytest.raises(qs.History):
                call()
        db.forget()
        assert db.get("a") == b"other"
        with pytest.raises(qs.History):
            db.get("a", least=token)


# ---- what is built -----------------------------------------------------------------------------


def test_only_its_own_names():
    """Neither library shows anything but qs_*, and none needs more than the C library."""
    run = lambda *words: subprocess.run(words, capture_output=True, text=True, check=True).stdout
    shared = run("nm", "-D", "--defined-only", "--format=just-symbols", BUILD / "libqs.so.1")
    static = run("nm", "-g", "--defined-only", "--format=just-symbols", BUILD / "libqs.a")
    names = {line.split("@")[0] for line in shared.split()} - {"QS_1"}
    header = (ROOT / "common/client/qs.h").read_text()
    declared = set(re.findall(r"^QS_API [^(]*?\b(qs_\w+)\(", header, re.M))
    assert names == declared
    assert {line for line in static.split() if not line.endswith(":")} == declared
    assert {line.rpartition("@@")[2] for line in shared.split() if "@" in line} == {"QS_1"}
    needed = re.findall(r"NEEDED\s+(\S+)", run("objdump", "-p", BUILD / "libqs.so.1"))
    assert set(needed) <= {"libc.so.6", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
    assert re.search(r"SONAME\s+libqs.so.1$", run("objdump", "-p", BUILD / "libqs.so.1"), re.M)


def test_the_binding_knows_every_call_and_error():
    header = (ROOT / "common/client/qs.h").read_text()
    binding = (ROOT / "common/client/qs.py").read_text()
    assert set(re.findall(r"\b(qs_\w+)\(", header)) == set(re.findall(r'"(qs_\w+)": ', binding))
    codes = {int(code) for code in re.findall(r"^    QS_\w+ = (-\d+)", header, re.M)}
    assert codes == set(qs._ERRORS) | {qs.NOT_FOUND}


def blocks(language):
    """The examples of that language in the page, in their order."""
    page = (ROOT / "docs/libqs.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.M | re.S)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """An installation as a package makes it, and the environment in which pkg-config finds it."""
    place = tmp_path_factory.mktemp("installed")
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    make = ["make", "-C", ROOT, "install", "FLAVOUR=release", f"DESTDIR={place}", "PREFIX=/usr"]
    subprocess.run(make, check=True, capture_output=True, env=plain)
    environment = dict(
        os.environ,
        PKG_CONFIG_LIBDIR=str(place / "usr/lib/pkgconfig"),
        PKG_CONFIG_SYSROOT_DIR=str(place),
        LD_LIBRARY_PATH=str(place / "usr/lib"),
        PYTHONPATH=str(place / "usr/lib/python3/dist-packages"),
    )
    return place / "usr", environment


def check_output(command, text, mark, environment):
    """Runs an example, which must print what it says behind the mark."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60 * SLOW, env=environment
    )
    assert done.returncode == 0, done.stderr
    expected = re.search(rf"^{mark} prints: (.*)$", text, re.M)[1]
    assert done.stdout.split() == expected.split()


@pytest.mark.parametrize("linked", ["shared", "static", "c++"])
def test_examples_in_c(cluster, tmp_path, installed, linked):
    """Each of the page's programs compiles as it stands there, and does what it says."""
    root = cluster.root().start()
    _, environment = installed
    flags = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "qs"], env=environment, capture_output=True, text=True
    )
    compiler, suffix = ("g++", "cc") if linked == "c++" else ("gcc", "c")
    # With the daemon's own sanitizer, where it has one.
    build = QSD.parent if linked == "static" else BUILD
    checks = ["-fsanitize=address,undefined"] if build.name == "asan" else []
    for number, text in enumerate(blocks("c")):
        source, program = tmp_path / f"example{number}.{suffix}", tmp_path / f"example{number}"
        source.write_text(text)
        words = [word for word in flags.stdout.split() if linked != "static" or word != "-lqs"]
        words += [build / "libqs.a", *checks] if linked == "static" else []
        command = [compiler, "-Wall", "-Wextra", "-Werror", source, *words, "-pthread"]
        subprocess.run([*command, "-o", program], check=True)
        check_output([program, f"unix:{root.socket}"], text, "//", environment)
        with connect(root) as db:
            for key, _ in list(db.range()):
                db.delete(key)
    assert number >= 1


def test_examples_in_python(cluster, installed):
    root = cluster.root().start()
    _, environment = installed
    for text in blocks("python"):
        command = [sys.executable, "-c", text, f"unix:{root.socket}"]
        check_output(command, text, "#", environment)
