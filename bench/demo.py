# SPDX-License-Identifier: Apache-2.0
"""`make demo`: a whole tree on this machine, real data, read back through proxies, shown.

root <- intermediate <- replica, proxy, and a second proxy that keeps no arriving value
(keep_bytes = 0), each from an ordinary configuration file below a temporary directory. The data
is Debian's package index: every field of every package is a pair deb/<package>/<field>. Every
pair is read back through a proxy and compared byte for byte with the source. Exit code 0 only if
all of it is right.
"""
import argparse
import itertools
import multiprocessing
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests/e2e"))

from debian import parse, read_source, write_tsv  # noqa: E402
from qs_cluster import QS, Cluster  # noqa: E402
from resp import RawConn, encode  # noqa: E402

BATCH = 500  # keys of one MGET
SAMPLE = 50  # absent keys are asked for beside one pair in so many: 2 %
ABSENT = 10  # ... so many each
REMOTE = 10  # one pair in so many is read through the proxy that keeps nothing
TICKS = os.sysconf("SC_CLK_TCK")
ORDER = ["root", "middle", "replica", "proxy", "empty"]


def say(name, text):
    print(f"  {name:<34} {text}", flush=True)


def mib(size):
    return f"{size / 2**20:,.1f} MiB"


# ---- reading back -------------------------------------------------------------------------------


def raw(text):
    return text.encode("utf-8", errors="surrogateescape")


def verify(socket, items):
    """Reads all keys in MGETs, one request ahead; compares whole replies with what they must be.
    Returns (read, wrong)."""
    conn = RawConn(socket, 120)
    wrong, waiting, count = [], [], 0
    for start in itertools.chain(range(0, len(items), BATCH), [None]):
        if start is not None:
            part = items[start : start + BATCH]
            conn.send(encode(b"MGET", *[key for key, _ in part]))
            waiting.append(part)
        while waiting and (len(waiting) > 1 or start is None):
            part = waiting.pop(0)
            count += len(part)
            wanted = b"".join(
                b"$-1\r\n" if v is None else b"$%d\r\n%b\r\n" % (len(v), v) for _, v in part
            )
            head = conn.line()
            if head != b"*%d" % len(part):
                wrong.append((part[0][0], head))
            elif conn.take(len(wanted)) != wanted:
                # The stream is out of step now: this connection has nothing more to say.
                wrong.append((part[0][0], b"another value"))
                return count, wrong
    conn.close()
    return count, wrong


def verify_all(socket, items):
    """The same with one process per core; returns (read, wrong, seconds)."""
    began = time.monotonic()
    workers = os.cpu_count()
    parts = [(socket, items[n::workers]) for n in range(workers)]
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        results = pool.starmap(verify, parts)
    wrong = [each for _, found in results for each in found]
    return sum(count for count, _ in results), wrong, time.monotonic() - began


def absent_keys(keys):
    """Ten keys beside each of the sample that are not in the source, near and far."""
    known, out = set(keys), []
    for key in keys[::SAMPLE]:
        package = key.rsplit("/", 1)[0]
        names = [key + "-", key + "0", key[:-1], package, package + "/", package + "/Nosuch",
                 package + "x/Version", key.upper(), "x" + key, key + "/" + key]
        names += [f"{key}~{n}" for n in range(ABSENT)]
        out += [name for name in names if name not in known][:ABSENT]
    return [(raw(name), None) for name in out]


# ---- the import ---------------------------------------------------------------------------------


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def run_import(nodes, path):
    """Returns (seconds, {process: CPU seconds})."""
    before = {name: cpu_seconds(node.process.pid) for name, node in nodes.items()}
    own = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    progress = ["--progress"] if sys.stderr.isatty() else []
    subprocess.run([QS, "-s", nodes["root"].socket, "import", "--format", "tsv", *progress, path],
                   check=True, stdout=subprocess.DEVNULL)
    took = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    shares = {name: cpu_seconds(node.process.pid) - before[name] for name, node in nodes.items()}
    shares["qs import"] = after.ru_utime + after.ru_stime - own.ru_utime - own.ru_stime
    return took, shares


def show_import(took, shares, count, metrics):
    """Also says what binds the rate: the cores, or the root's syncs, or neither alone."""
    cores = os.cpu_count()
    busy = sum(shares.values()) / took
    say("import into the tree", f"{count / took:,.0f} pairs/s ({took:.1f} s)")
    say("cores in use by", ", ".join(f"{name} {cpu / took:.2f}" for name, cpu in shares.items()))
    syncing = metrics["journal_sync_ns"] / 1e9 / took
    blocks = metrics["blocks"]
    say("root's journal", f"{mib(metrics['journal_bytes'])} in {blocks:,.0f} blocks of "
        f"{count / blocks:,.0f} pairs, {100 * syncing:.0f} % of the time in fdatasync")
    if busy > 0.85 * cores:
        bound = "the cores: the whole tree shares them"
    elif syncing > 0.5:
        bound = "fdatasync of the root's journal, one after another"
    else:
        bound = "the root's turns: sequence, sync, apply and publish follow on each other"
    say("what binds it", f"{bound} ({busy:.2f} of {cores} cores in use)")


# ---- the show -----------------------------------------------------------------------------------


def disk(path):
    """Bytes that files below a path take."""
    return sum(p.stat().st_blocks * 512 for p in pathlib.Path(path).rglob("*") if p.is_file())


def show_disk(nodes):
    for name, node in nodes.items():
        metrics = node.metrics("main")
        history = metrics["history_rows_bytes"]
        store = metrics["store_bytes"] - history
        parts = f"journal {mib(metrics['journal_bytes'])}, store {mib(store)}"
        if node.instances["main"]["role"] != "proxy":
            parts += f", history {mib(history)}"
        say(f"disk of {name}", f"{mib(disk(node.data))}: {parts}")


class Demo:
    def __init__(self, directory):
        self.cluster = Cluster(directory)
        self.directory = pathlib.Path(directory)
        self.faults = []

    def expect(self, right, fault):
        if not right:
            self.faults.append(fault)
            print(f"  WRONG: {fault}", flush=True)

    def start(self):
        root = self.cluster.root()
        middle = self.cluster.replica("middle", root)
        replica = self.cluster.replica("replica", middle)
        self.cluster.proxy("proxy", middle, [replica, middle])
        self.cluster.proxy("empty", middle, [replica, middle], keep_bytes=0, window=0)
        self.nodes = {name: self.cluster.nodes[name] for name in ORDER}
        for node in self.nodes.values():
            node.start()

    def load(self):
        began = time.monotonic()
        source, packages = parse(read_source())
        path = self.directory / "packages.tsv"
        write_tsv(source, path)
        self.keys = list(source)
        self.items = [(raw(key), raw(value)) for key, value in source.items()]
        size = sum(len(key) + len(value) for key, value in self.items)
        print(f"\nSource: Debian's package index, read in {time.monotonic() - began:.1f} s")
        say("packages", f"{packages:,}")
        say("pairs", f"{len(self.items):,} ({mib(size)} of keys and values)")
        print("\nWritten at the root, through the tree")
        took, shares = run_import(self.nodes, path)
        acknowledged = time.monotonic()
        index = self.nodes["root"].index()
        waits = {}
        for name in ORDER[1:]:
            self.nodes[name].wait_index(index, seconds=60)
            waits[name] = time.monotonic() - acknowledged
        show_import(took, shares, len(self.items), self.nodes["root"].metrics("main"))
        last = max(waits["proxy"], waits["empty"])
        say("last acknowledgement to last proxy", f"{last * 1000:.0f} ms")
        say("index", f"{index:,}")

    def read_back(self, name, items, what):
        node = self.nodes[name]
        before = node.metrics("main")
        count, wrong, took = verify_all(str(node.socket), items)
        asked = node.metrics("main")["fetch_sent"] - before["fetch_sent"]
        self.expect(not wrong and count == len(items), f"{name}: {what}: {wrong[:3]}")
        return count, int(asked), took

    def verify(self):
        print("\nRead back through the proxies, compared with the source byte for byte")
        count, asked, took = self.read_back("proxy", self.items, "every pair")
        say("every pair, through proxy",
            f"{count:,} equal, {asked:,} fetched remotely, {count / took:,.0f} a second")
        count, asked, took = self.read_back("empty", self.items[::REMOTE], "a tenth of the pairs")
        say("every tenth, through empty",
            f"{count:,} equal, {asked:,} fetched remotely, {count / took:,.0f} a second")
        absent = absent_keys(self.keys)
        for name in ("proxy", "empty"):
            count, asked, took = self.read_back(name, absent, "absent keys")
            self.expect(asked == 0, f"{name}: {asked} absent keys were asked for remotely")
            say(f"absent keys, through {name}",
                f"{count - asked:,} answered locally, {asked} remotely, "
                f"{count / took:,.0f} a second")

    def compare(self):
        print("\nThe five nodes")
        digests = {name: node.digest() for name, node in self.nodes.items()}
        for name, (index, digest) in digests.items():
            say(f"digest of {name}", f"{digest} at {index:,}")
        self.expect(len(set(digests.values())) == 1, "the digests differ")
        sizes = {node.call("DBSIZE") for node in self.nodes.values()}
        self.expect(sizes == {len(self.items)}, f"keys: {sizes}, pairs: {len(self.items)}")
        show_disk(self.nodes)

    def run(self):
        began = time.monotonic()
        try:
            print("Starting root, middle, replica, proxy and empty (a proxy with keep_bytes = 0)")
            self.start()
            for node in self.nodes.values():
                say(node.name, f"{node.file}")
            self.load()
            self.verify()
            self.compare()
        finally:
            if sys.exc_info()[0] is not None:
                for node in self.cluster.nodes.values():
                    print(node.tail(15))
                self.cluster.abandon()
        self.cluster.close()
        word = "Failed" if self.faults else "All right"
        print(f"\n{word}, {time.monotonic() - began:.0f} s in all")
        return 1 if self.faults else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--keep", action="store_true", help="keep the directory afterwards")
    given = parser.parse_args()
    directory = tempfile.mkdtemp(prefix="qs-demo-")
    try:
        return Demo(directory).run()
    finally:
        if given.keep:
            print(f"kept: {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
