# SPDX-License-Identifier: Apache-2.0
"""Real daemons from ordinary configuration files, for tests and for the demo.

A Cluster owns a directory; each Node has a configuration file, a data directory and a log below
it. Unix sockets live in a short directory of their own, because their paths may not be longer
than 107 bytes. Nothing here sleeps for a fixed time: every wait is for a condition, and bounded.

Environment: QSD and QS (the programs; default build/release/...), QS_IO (auto, uring, epoll).
"""
import collections
import ctypes
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

from resp import RawConn, RespError

ROOT = pathlib.Path(__file__).resolve().parents[2]
QSD = pathlib.Path(os.environ.get("QSD", ROOT / "build/release/qsd")).absolute()
QS = pathlib.Path(os.environ.get("QS", QSD.parent / "qs")).absolute()
IO = os.environ.get("QS_IO", "auto")
# Sanitizers cost a factor: limits of waiting grow with it, so that none of them decides a test.
SLOW = 4 if any(word in str(QSD) for word in ("asan", "tsan")) else 1
REPORTS = re.compile(
    r"ERROR: (Address|Leak)Sanitizer|WARNING: ThreadSanitizer|runtime error:|CHECK failed"
)
# What makes a proxy hold no value longer than it must, so that every read of one is a miss.
KEEPS_NOTHING = {"keep_bytes": 0, "window": 0, "window_bytes": 0}
# How full the disk of whoever runs the tests is decides none of them.
NO_FREE_LIMITS = {"soft_limit": 0, "hard_limit": 0}


class Died(AssertionError):
    """A daemon ended when it should not have."""


def wait_for(condition, seconds, what):
    """Polls until `condition()` is true and returns its value."""
    end = time.monotonic() + seconds * SLOW
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds * SLOW} s for {what}")
        time.sleep(0.01)


class Ports:
    """Free TCP ports below the range from which the kernel takes ports for outgoing links.

    A node may listen long after its port was chosen, and not while it is stopped. Until then an
    abstract socket of the port's name keeps it from the tests of other processes.
    """

    def __init__(self):
        self.next = 10000 + random.Random(os.getpid() ^ time.time_ns()).randrange(20000)
        self.names = collections.deque(maxlen=400)  # more than one test has nodes

    def take(self):
        for _ in range(2000):
            self.next = 10000 + (self.next - 9999) % 20000
            name = socket.socket(socket.AF_UNIX)
            with socket.socket() as probe:
                try:
                    name.bind(f"\0qs-test-port-{self.next}")
                    probe.bind(("127.0.0.1", self.next))
                except OSError:
                    name.close()
                    continue
            self.names.append(name)
            return self.next
        raise RuntimeError("no free port")


PORTS = Ports()


def die_with_parent():
    """In the child: the kernel kills it when the test process ends, however that happens."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def option_text(name, value):
    """One option as it stands in a file, or a section of them, from a dict."""
    if isinstance(value, dict):
        return f"{name} {{ " + " ".join(option_text(k, v) for k, v in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return f"{name} = {{" + ", ".join(f'"{item}"' for item in value) + "}"
    if isinstance(value, bool):
        return f"{name} = {'true' if value else 'false'}"
    return f"{name} = {value}" if isinstance(value, int) else f'{name} = "{value}"'


def cache_of(given):
    """The section `cache` of a proxy with the options `given`."""
    return {"cache": NO_FREE_LIMITS | given.get("cache", {})} if given["role"] == "proxy" else {}


class Node:
    """One daemon. `instances` maps a name to its options; parents and replicas may be Nodes."""

    def __init__(self, cluster, name, instances, options):
        self.cluster, self.name = cluster, name
        self.directory = cluster.directory / name
        self.data = self.directory / "data"
        self.log = self.directory / "log"
        self.file = self.directory / "qs.conf"
        self.socket = cluster.sockets / f"{name}.sock"
        self.peer = f"127.0.0.1:{PORTS.take()}"
        self.admin = f"127.0.0.1:{PORTS.take()}"
        self.instances, self.options = instances, options
        self.process, self.env = None, {}
        self.data.mkdir(parents=True)

    def configure(self, **changes):
        """Changes node options; seen at the next start."""
        self.options.update(changes)

    def text(self):
        lines = [f"# Written for node {self.name}."]
        options = {
            "node": self.name,
            "data_dir": self.data,
            "peer": self.peer,
            "client": [f"unix:{self.socket}"],
            "admin": self.admin,
            "io": IO,
            "loops": 2,
            "heartbeat": "100ms",
            "reconnect": "200ms",
        }
        options.update(self.options)
        lines += [option_text(k, v) for k, v in options.items() if v is not None]
        for number, (name, given) in enumerate(self.instances.items()):
            lines.append(f"instance {name} {{")
            for key, value in ({"number": number, "reserve": 0} | given | cache_of(given)).items():
                if key in ("parents", "replicas"):
                    value = [node.peer if isinstance(node, Node) else node for node in value]
                if value is not None and self.cluster.knows(key):
                    lines.append("    " + option_text(key, value))
            lines.append("}")
        return "\n".join(lines) + "\n"

    def launch(self):
        """Starts the process and returns at once."""
        assert self.process is None, f"{self.name} runs already"
        self.file.write_text(self.text())
        env = dict(os.environ)
        env.setdefault("ASAN_OPTIONS", "abort_on_error=0:verify_asan_link_order=0")
        env.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
        env.setdefault("TSAN_OPTIONS", "ignore_noninstrumented_modules=1")
        env.update(self.env)
        with open(self.log, "ab") as log:
            log.write(b"---- start\n")
            log.flush()
            self.process = subprocess.Popen(
                [QSD, "--config", self.file],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=env,
                preexec_fn=self.prepare,
            )
        return self

    def prepare(self):
        """In the new process, before the daemon takes its place."""
        die_with_parent()

    def start(self):
        self.launch()
        self.wait_ready()
        return self

    def wait_ready(self, seconds=30):
        wait_for(self.is_ready, seconds, f"{self.name} to serve")

    def is_ready(self):
        """Every instance answers; a dead process raises."""
        self.check_alive()
        try:
            with self.raw() as conn:
                for name in self.instances:
                    if len(self.instances) > 1 and conn.call("SELECT", name) != b"OK":
                        return False
                    if not isinstance(conn.call("QS.INDEX"), int):
                        return False
            return True
        except (OSError, ConnectionError):
            return False

    def check_alive(self):
        code = self.process.poll() if self.process else None
        if self.process is None or code is not None:
            raise Died(f"{self.name} is not running (exit code {code})\n{self.tail()}")

    def kill(self):
        """kill -9, by its own process id."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None

    def stop(self):
        """SIGTERM; the daemon must end by itself and say 0."""
        self.check_alive()
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(30 * SLOW)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Died(f"{self.name} did not end after SIGTERM\n{self.tail()}") from None
        self.process = None
        if code != 0:
            raise Died(f"{self.name} ended with exit code {code}\n{self.tail()}")

    def restart(self):
        self.stop()
        return self.start()

    def tail(self, lines=60):
        if not self.log.exists():
            return ""
        text = self.log.read_text(errors="replace").splitlines()
        return f"---- log of {self.name}, last lines\n" + "\n".join(text[-lines:])

    def raw(self, instance=None, timeout=20.0):
        """A connection of bytes, in `instance` if given."""
        conn = RawConn(self.socket, timeout * SLOW)
        if instance is not None:
            assert conn.call("SELECT", instance) == b"OK"
        return conn

    def client(self, **options):
        import redis

        options.setdefault("socket_timeout", 20 * SLOW)
        return redis.Redis(unix_socket_path=str(self.socket), **options)

    def call(self, *words, instance=None):
        """One command on a connection of its own; an error reply raises."""
        with self.raw(instance) as conn:
            reply = conn.call(*words)
        if isinstance(reply, RespError):
            raise RuntimeError(f"{self.name}: {words[0]}: {reply.decode()}")
        return reply

    def index(self, instance=None):
        return self.call("QS.INDEX", instance=instance)

    def digest(self, instance=None):
        """(index, digest) as text."""
        index, digest = self.call("QS.DIGEST", instance=instance)[:2]
        return index, digest.decode()

    def place(self, instance=None):
        """QS.TREE, parsed."""
        return json.loads(self.call("QS.TREE", instance=instance))

    def wait_index(self, index, instance=None, seconds=30):
        """Until `index` is visible here."""
        limit = int(seconds * 1000 * SLOW)
        with self.raw(instance, timeout=seconds + 10) as conn:
            reply = conn.call("QS.WAITINDEX", index, limit)
        if isinstance(reply, RespError):
            raise TimeoutError(f"{self.name} did not reach index {index}: {reply.decode()}")
        return reply

    def http(self, path):
        """(status, body) of a GET on the admin address."""
        try:
            with urllib.request.urlopen(f"http://{self.admin}{path}", timeout=10 * SLOW) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def metrics(self, instance=None):
        """Samples as a dict; with `instance` that instance's, under their bare names."""
        status, body = self.http("/metrics")
        assert status == 200
        out = {}
        for line in body.decode().splitlines():
            found = re.match(r'qs_(\w+?)(?:\{instance="([^"]*)"\})? (\S+)$', line)
            if found and (found[2] is None or instance in (found[2], None)):
                out[found[1]] = float(found[3])
        return out

    def memory(self):
        """Resident bytes and number of threads, from the kernel."""
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        rss = int(re.search(r"VmRSS:\s+(\d+)", text)[1]) * 1024
        return rss, int(re.search(r"Threads:\s+(\d+)", text)[1])

    def journal_files(self, instance):
        return sorted((self.data / instance / "journal").glob("*.qsj"))

    def reports(self):
        """What sanitizers and failed checks have written."""
        if not self.log.exists():
            return []
        return [l for l in self.log.read_text(errors="replace").splitlines() if REPORTS.search(l)]


class Cluster:
    """All nodes of one test."""

    _options = None

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.sockets = pathlib.Path(tempfile.mkdtemp(prefix="qs-"))
        self.nodes = {}

    @classmethod
    def knows(cls, option):
        """Whether this version has the option (KEEPS_NOTHING names some that may come)."""
        if cls._options is None:
            table = (ROOT / "common/tables/options.h").read_text()
            cls._options = set(re.findall(r"^INSTANCE_OPTION\(\w+, (\w+)", table, re.M))
        return option in cls._options or option not in KEEPS_NOTHING

    def node(self, name, instances, **options):
        self.nodes[name] = Node(self, name, instances, options)
        return self.nodes[name]

    def root(self, name="root", instance="main", node=None, **options):
        return self.node(name, {instance: {"role": "root"} | options}, **(node or {}))

    def replica(self, name, parent, instance="main", node=None, **options):
        given = {"role": "replica", "parents": [parent]} | options
        return self.node(name, {instance: given}, **(node or {}))

    def proxy(self, name, parent, replicas, instance="main", node=None, **options):
        given = {"role": "proxy", "parents": [parent], "replicas": list(replicas)} | options
        return self.node(name, {instance: given}, **(node or {}))

    def tree(self, **options):
        """root <- middle <- replica, proxy, and a proxy that keeps nothing; all started."""
        root = self.root(**options).start()
        middle = self.replica("middle", root, **options).start()
        replica = self.replica("replica", middle, **options).start()
        self.proxy("proxy", middle, [replica, middle], **options).start()
        self.proxy("empty", middle, [replica, middle], **(options | KEEPS_NOTHING)).start()
        return [self.nodes[n] for n in ("root", "middle", "replica", "proxy", "empty")]

    def settle(self, *nodes, instance=None):
        """Waits until all (running) nodes show what the first one shows; returns the index."""
        nodes = nodes or [node for node in self.nodes.values() if node.process]
        index = nodes[0].index(instance)
        for node in nodes[1:]:
            node.wait_index(index, instance)
        return index

    def check_equal(self, *nodes, instance=None):
        """All nodes stand at one index with one digest; returns both."""
        self.settle(*nodes, instance=instance)
        nodes = nodes or [node for node in self.nodes.values() if node.process]
        digests = {node.name: node.digest(instance) for node in nodes}
        assert len(set(digests.values())) == 1, digests
        return digests[nodes[0].name]

    def running(self):
        return [node for node in self.nodes.values() if node.process]

    def close(self):
        """Ends everything; complaints of any node are an error of the test."""
        faults = []
        for node in reversed(list(self.nodes.values())):
            if node.process:
                try:
                    node.stop()
                except Died as fault:
                    node.process = None
                    faults.append(str(fault))
            faults += [f"{node.name}: {line}" for line in node.reports()]
        shutil.rmtree(self.sockets, ignore_errors=True)
        if faults:
            raise Died("\n".join(faults))

    def abandon(self):
        """Ends everything without a further check: the test has failed already."""
        for node in self.running():
            node.kill()
        shutil.rmtree(self.sockets, ignore_errors=True)


def qs(*arguments, stdin=None, timeout=60):
    """Runs the command line; (exit code, stdout, stderr) as bytes."""
    done = subprocess.run(
        [QS, *map(str, arguments)], input=stdin, capture_output=True, timeout=timeout * SLOW
    )
    return done.returncode, done.stdout, done.stderr


def triples(reply):
    """QS.MGET's answer as [(value, version, index), ...], nested or flat."""
    if reply and isinstance(reply[0], list):
        return [tuple(row) for row in reply]
    return [tuple(reply[i : i + 3]) for i in range(0, len(reply), 3)]
