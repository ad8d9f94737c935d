# SPDX-License-Identifier: Apache-2.0
"""A crowd: many daemons under one root on one machine, which make a tree by themselves.

Every node is told of nobody but the root, which feeds `children_max` and sends the others on.
While a writer writes at a fixed rate, marks among the writes carry the time at which they were
sent, and a watcher on every node tells when it saw them. Then a child reads nothing for a while.

    crowd.py [--nodes N] [--children N] [--rate N] [--seconds N] [--stall N] [--table FILE]
"""
import argparse
import json
import multiprocessing
import os
import pathlib
import re
import resource
import selectors
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time

from peer import FOLLOW, PeerConn, hello, message
from qs_cluster import Cluster, wait_for
from resp import encode

TICK_S = 0.01
OUT_BYTES = 4 << 20  # what waits at the writer for the root; then it writes no more for the moment
LATE_S = 60  # so long the last answers may take
MARK = re.compile(rb"T(\d{12,20})T")
HEADER_BYTES = 128
LEAST = {"loops": 1, "readers": 1, "block_cache": "1MB", "log_level": "warn",
         "heartbeat": "500ms", "reconnect": "500ms"}
SMALL = {"memtable": "1MB", "segment_bytes": "4MB", "recency_bytes": "64KB", "probe": "0",
         "filter_bits": 0, "walk_every": "0"}


# ---- the tree ----------------------------------------------------------------------------------


def build(cluster, count, children):
    """A root and `count` others, half of them proxies; all of them know but the root."""
    options = SMALL | {"children_max": children}
    root = cluster.root(node=dict(LEAST), **options).start()
    nodes = []
    for number in range(count):
        if number < (count + 1) // 2:
            node = cluster.replica(f"r{number:02}", root, node=dict(LEAST), **options)
        else:
            node = cluster.proxy(f"p{number:02}", root, [root], node=dict(LEAST), **options)
        nodes.append(node.launch())
    for node in nodes:
        node.wait_ready(120)
    return root, nodes


def picture(node):
    return json.loads(node.call("QS.TREE", "ALL"))["tree"]


def parents(node):
    seen = picture(node)
    alive = [each for each in seen["nodes"] if not each["lost"]]
    return {each["node"]: each["parent"] for each in alive} if seen["whole"] else {}


def depths(tree):
    """{name: steps from the root}."""
    out = {}
    for name in tree:
        steps, at = 0, name
        while tree.get(at) is not None and steps <= len(tree):
            steps, at = steps + 1, tree[at]
        out[name] = steps
    return out


def fanouts(tree):
    out = dict.fromkeys(tree, 0)
    for parent in tree.values():
        if parent is not None:
            out[parent] += 1
    return out


# ---- load --------------------------------------------------------------------------------------


def write(path, rate, seconds, value_bytes, mark_every, answers):
    """Writes at a fixed rate, whether answers come or not; a process of its own."""
    conn = socket.socket(socket.AF_UNIX)
    conn.connect(path)
    conn.setblocking(False)
    begun = time.monotonic()
    sent, got, marks, out = 0, 0, 0, bytearray()
    while True:
        now = time.monotonic() - begun
        due = int(min(now, seconds) * rate)
        while sent < due and len(out) < OUT_BYTES:
            if mark_every and sent % mark_every == 0:
                out += encode("SET", "mark", b"T%dT" % time.monotonic_ns())
                marks += 1
            else:
                out += encode("SET", b"key:%d" % (sent % 10000),
                              os.urandom(value_bytes))
            sent += 1
        try:
            if out:
                del out[: conn.send(out)]
        except BlockingIOError:
            pass
        try:
            got += conn.recv(1 << 16).count(b"\n")
        except BlockingIOError:
            pass
        if (got >= sent == due and now >= seconds) or now > seconds + LATE_S:
            break
        time.sleep(TICK_S)
    answers.put({"sent": sent, "answered": got, "marks": marks,
                 "seconds": time.monotonic() - begun})


class Writer:
    """`write` in a process, joined by `end`."""

    def __init__(self, node, rate, seconds, value_bytes=100, mark_every=0):
        self.answers = multiprocessing.Queue()
        self.process = multiprocessing.Process(
            target=write, daemon=True,
            args=(str(node.socket), rate, seconds, value_bytes, mark_every, self.answers))
        self.process.start()

    def end(self):
        answer = self.answers.get(timeout=300)
        self.process.join()
        return answer


class Watcher(threading.Thread):
    """Sees the marks at every node."""

    def __init__(self, nodes):
        super().__init__(daemon=True)
        self.seen = {node.name: [] for node in nodes}
        self.running = True
        self.selector = selectors.DefaultSelector()
        for node in nodes:
            conn = socket.socket(socket.AF_UNIX)
            conn.connect(str(node.socket))
            conn.sendall(encode("QS.WATCH", "mark"))
            self.selector.register(conn, selectors.EVENT_READ, [node.name, b""])

    def run(self):
        while self.running:
            for key, _ in self.selector.select(0.1):
                data = key.fileobj.recv(1 << 16)
                now = time.monotonic_ns()
                if not data:
                    self.selector.unregister(key.fileobj)
                    continue
                name, rest = key.data
                rest += data
                for found in MARK.finditer(rest):
                    self.seen[name].append((now - int(found[1])) / 1e6)
                    key.data[1] = rest = rest[found.end():]
                key.data[1] = rest[-64:]

    def end(self):
        self.running = False
        self.join()
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()
        return self.seen


def cpu_seconds(node):
    fields = pathlib.Path(f"/proc/{node.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def at(values, share):
    values = sorted(values)
    return values[min(int(len(values) * share), len(values) - 1)] if values else float("nan")


def load(root, nodes, rate, seconds):
    """Propagation of marks and what it costs each node."""
    everybody = [root, *nodes]
    watcher = Watcher(everybody)
    watcher.start()
    before = {node.name: cpu_seconds(node) for node in everybody}
    begun = time.monotonic()
    writer = Writer(root, rate, seconds, mark_every=max(rate // 10, 1))
    done = writer.end()
    took = time.monotonic() - begun
    for node in nodes:
        node.wait_index(root.index(), seconds=120)
    wait_for(lambda: all(len(seen) >= done["marks"] for seen in watcher.seen.values()), 60,
             "every mark at every node")
    cpu = {node.name: (cpu_seconds(node) - before[node.name]) / took for node in everybody}
    return done, watcher.end(), cpu


# ---- a child that reads nothing ----------------------------------------------------------------


def last_index(raw):
    """The last index in a run of blocks from the journal, and the bytes up to there."""
    place, index = 0, 0
    while place + HEADER_BYTES <= len(raw):
        first = int.from_bytes(raw[place + 40 : place + 48], "little")
        batches = int.from_bytes(raw[place + 48 : place + 52], "little")
        payload = int.from_bytes(raw[place + 56 : place + 60], "little")
        if place + HEADER_BYTES + payload > len(raw):
            break
        index = first + batches - 1
        place += HEADER_BYTES + payload
    return index, place


def stall(root, seconds, rate, value_bytes):
    """A child that says how far it is, but reads nothing; then everything. By what did its parent
    grow meanwhile? The same writes before, without it, tell what they need by themselves."""

    def writes(length):
        writer = Writer(root, rate, length, value_bytes)
        first = peak = root.memory()[0]
        while writer.answers.empty():
            peak = max(peak, root.memory()[0])
            time.sleep(0.1)
        writer.end()
        return peak - first

    alone = writes(seconds)
    with PeerConn(root.peer, timeout=120) as conn:
        conn.send(hello(FOLLOW, node="sleeper", insists=1))
        assert conn.receive_until("welcome")["answer"] == 1
        awake = threading.Event()

        def talk():
            while not awake.wait(0.5):
                conn.send(message("progress"))

        talker = threading.Thread(target=talk, daemon=True)
        talker.start()
        beside = writes(seconds)
        index = root.index()
        begun = time.monotonic()
        parts, seen, behind = [], 0, b""
        while seen < index:
            name, fields = conn.receive()
            if name == "blocks":
                behind += fields["raw"]
                found, used = last_index(behind)
                seen = found or seen
                parts.append(used)
                behind = behind[used:]
        awake.set()
        talker.join()
        took = time.monotonic() - begun
    return {"alone": alone, "beside": beside, "bytes": sum(parts), "took": took,
            "index": index}


def freeze(root, node, seconds, rate, value_bytes):
    """A node that is stopped outright, and its parent, whichever that is."""
    names = root.cluster.nodes
    parent = names[parents(root)[node.name]]
    before = parent.memory()[0]
    node.process.send_signal(signal.SIGSTOP)
    try:
        done = Writer(root, rate, seconds, value_bytes).end()
        after = parent.memory()[0]
    finally:
        node.process.send_signal(signal.SIGCONT)
    begun = time.monotonic()
    index = root.index()
    node.wait_index(index, seconds=120)
    return {"parent": parent.name, "before": before, "after": after, "writes": done["answered"],
            "took": time.monotonic() - begun}


# ---- the table ---------------------------------------------------------------------------------


def mb(size):
    return f"{size / (1 << 20):.0f} MB"


def tell(options, root, nodes, tree, formed, done, seen, cpu, stalled, frozen):
    depth, fanout = depths(tree), fanouts(tree)
    levels = [sum(1 for each in depth.values() if each == level)
              for level in range(max(depth.values()) + 1)]
    feeding = [count for count in fanout.values() if count]
    memory = {node.name: node.memory()[0] for node in [root, *nodes]}
    inner = [name for name in tree if fanout[name] and name != "root"]
    leaves = [name for name in tree if not fanout[name]]
    yield (f"| daemons | {len(nodes)} under one root, half of them proxies, "
           f"on {os.cpu_count()} cores |")
    yield f"| the tree stood | {formed:.1f} s after the first was started |"
    yield f"| nodes by depth | {', '.join(map(str, levels))} |"
    yield (f"| children | at most {options.children} allowed; {len(feeding)} nodes feed "
           f"{min(feeding)} to {max(feeding)} |")
    yield (f"| writes | {options.rate} a second asked for, "
           f"{done['answered'] / done['seconds']:.0f} reached, {options.seconds} s |")
    for level in range(len(levels)):
        values = [ms for name, each in seen.items() if depth.get(name) == level for ms in each]
        if values:
            yield (f"| propagation to depth {level} | p50 {at(values, 0.5):.1f} ms, "
                   f"p99 {at(values, 0.99):.1f} ms, longest {max(values):.1f} ms |")
    values = [ms for each in seen.values() for ms in each]
    yield (f"| propagation to all | p50 {at(values, 0.5):.1f} ms, p99 {at(values, 0.99):.1f} ms, "
           f"longest {max(values):.1f} ms; {len(values)} marks seen |")
    for what, names in (("root", ["root"]), ("node with children", inner), ("leaf", leaves)):
        if not names:
            continue
        shares = [100 * cpu[name] for name in names]
        sizes = [memory[name] for name in names]
        yield (f"| {what} | CPU {at(shares, 0.5):.1f} % of a core (median), "
               f"{max(shares):.1f} % at most; memory {mb(at(sizes, 0.5))}, {mb(max(sizes))} |")
    yield (f"| all together | CPU {100 * sum(cpu.values()):.0f} % of a core; "
           f"memory {mb(sum(memory.values()))} |")
    yield (f"| a child that reads nothing for {options.stall} s | {mb(stalled['bytes'])} waited "
           f"for it; its parent grew by {mb(stalled['beside'])}, by {mb(stalled['alone'])} with "
           f"the same writes and without it; it had all {stalled['took']:.1f} s after it read "
           f"again |")
    yield (f"| a leaf that is stopped for {options.stall} s | its parent's memory "
           f"{mb(frozen['before'])} before, {mb(frozen['after'])} after {frozen['writes']} writes; "
           f"it had all {frozen['took']:.1f} s after it went on |")


def parse(words):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, value in (("nodes", 64), ("children", 8), ("rate", 1000), ("seconds", 30),
                        ("stall", 60)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--table", type=pathlib.Path, help="a page whose table is replaced")
    return parser.parse_args(words)


def replace_table(page, table):
    text = page.read_text()
    before, rest = text.split("|---|---|\n", 1)
    after = rest.split("\n\n", 1)
    page.write_text(f"{before}|---|---|\n{table}\n\n{after[1] if len(after) > 1 else ''}")


def main(words):
    options = parse(words)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    directory = tempfile.mkdtemp(prefix="qs-crowd-")
    cluster = Cluster(directory)
    try:
        begun = time.monotonic()
        root, nodes = build(cluster, options.nodes, options.children)
        leaf = nodes[-1]
        wait_for(lambda: len(parents(leaf)) == options.nodes + 1, 120, "one tree")
        formed = time.monotonic() - begun
        done, seen, cpu = load(root, nodes, options.rate, options.seconds)
        tree = parents(leaf)
        stalled = stall(root, options.stall, options.rate, 500)
        frozen = freeze(root, leaf, options.stall, options.rate, 500)
        table = "\n".join(tell(options, root, nodes, tree, formed, done, seen, cpu, stalled,
                               frozen))
        print(table)
        if options.table:
            replace_table(options.table, table)
    finally:
        cluster.close()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1:])
