# SPDX-License-Identifier: Apache-2.0
"""A network of sites for tests: namespaces, joined by links that can be cut, slowed and made lossy.

Each host is a network namespace with one veth pair to its site; a site is a namespace too, with a
bridge for its hosts and a device for the links to all other sites, which run through one process
of user space (tests/tools/links.c), because not every kernel can delay or lose packets by itself.

Host N of site K has the address 10.77.K.N, seen only inside. Names of namespaces carry the process
id of their owner, and whoever builds a net removes those whose owner is dead, so that nothing is
left of a test that crashed. A process has one net at a time, built and removed in its main thread:
what dies with its parent dies with the thread that started it.
"""
import contextlib
import ctypes
import dataclasses
import itertools
import os
import pathlib
import re
import socket
import subprocess

from qs_cluster import QSD, die_with_parent

LINKS = QSD.parent / "tests/links"
NAMED = pathlib.Path("/run/netns")
LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000


class NoField(Exception):
    """This machine does not let us make a network."""


@dataclasses.dataclass(frozen=True)
class Shape:
    """What one direction of a link does to packets."""

    delay_ms: float = 0
    jitter_ms: float = 0
    loss: float = 0  # part of all packets
    rate: int = 0  # bytes a second, 0 = any
    cut: bool = False

    def words(self):
        numbers = self.delay_ms * 1e3, self.jitter_ms * 1e3, self.loss * 1e6, self.rate, self.cut
        return " ".join(str(int(number)) for number in numbers)


@dataclasses.dataclass(frozen=True)
class Host:
    name: str
    site: str
    namespace: str
    address: str
    port: str  # name of its veth at the site's bridge

    def enter(self):
        enter(self.namespace)

    def inside(self):
        return inside(self.namespace)


def setns(fd):
    if LIBC.setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def enter(namespace):
    """This thread is in the namespace from here on, with the sockets that it opens."""
    fd = os.open(NAMED / namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def inside(namespace):
    """In the namespace, for this thread and for a while; sockets stay in it."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(namespace)
        yield
    finally:
        setns(own)
        os.close(own)


def ip(commands, namespace=None):
    """Commands of ip(8), all in one namespace."""
    where = ["-n", namespace] if namespace else []
    try:
        done = subprocess.run(
            ["ip", *where, "-batch", "-"], input="\n".join(commands), capture_output=True, text=True
        )
    except FileNotFoundError:
        raise NoField("no network can be made here: `ip` (package iproute2) is missing") from None
    if done.returncode != 0:
        said = done.stderr.strip()
        raise NoField(f"no network can be made here (it takes root's rights): {said}")


def remove_stale():
    """Namespaces of processes that are no more, and any of our own."""
    for path in NAMED.glob("qsf-*"):
        pid = int(re.match(r"qsf-(\d+)-", path.name)[1])
        if pid == os.getpid() or not pathlib.Path(f"/proc/{pid}").exists():
            # Another process may be at it too, so that it is gone already.
            command = ["ip", "netns", "del", path.name]
            subprocess.run(command, stderr=subprocess.DEVNULL, check=False)


class Net:
    """`sites` maps a site's name to the names of its hosts; `shapes` maps (from, to) to a Shape."""

    def __init__(self, sites, shapes):
        self.sites = {site: f"qsf-{os.getpid()}-{site}" for site in sites}
        self.hosts = {
            name: Host(name, site, f"qsf-{os.getpid()}-{site}-{name}", f"10.77.{k}.{n}", f"host{n}")
            for k, (site, names) in enumerate(sites.items(), 1)
            for n, name in enumerate(names, 2)
        }
        self.normal = {pair: shapes[pair] for pair in itertools.permutations(sites, 2)}
        self.now = {}
        self.process, self.links = None, None
        try:
            self.build()
        except BaseException:
            self.close()
            raise

    def build(self):
        remove_stale()
        names = [*self.sites.values(), *(host.namespace for host in self.hosts.values())]
        ip([f"netns add {name}" for name in names])
        for number, (site, namespace) in enumerate(self.sites.items(), 1):
            self.build_site(number, namespace, [h for h in self.hosts.values() if h.site == site])
        self.start_links()
        for namespace in self.sites.values():
            ip(["link set wan txqueuelen 4000 up", "route add 10.77.0.0/16 dev wan"], namespace)

    def build_site(self, number, namespace, hosts):
        gateway = f"10.77.{number}.1"
        commands = ["link set lo up", "link add lan type bridge",
                    f"addr add {gateway}/24 dev lan", "link set lan up"]
        for host in hosts:
            commands += [
                f"link add {host.port} type veth peer name eth0 netns {host.namespace}",
                f"link set {host.port} master lan up",
            ]
        ip(commands, namespace)
        with inside(namespace):
            pathlib.Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        for host in hosts:
            ip(["link set lo up", f"addr add {host.address}/24 dev eth0", "link set eth0 up",
                f"route add default via {gateway}"], host.namespace)

    def start_links(self):
        self.links, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        arguments = [f"{site}={namespace}" for site, namespace in self.sites.items()]
        with theirs:
            self.process = subprocess.Popen(
                [LINKS, *arguments], stdin=theirs, stderr=subprocess.PIPE, text=True,
                preexec_fn=die_with_parent,
            )
        some = next(iter(self.sites))
        self.count(some, some)  # is answered when all devices are there
        self.heal()

    def tell(self, command):
        try:
            self.links.send(command.encode())
            reply = self.links.recv(1024).decode()
        except ConnectionError:
            reply = ""
        if not reply:
            raise NoField(f"the links are gone: {self.process.communicate()[1].strip()}")
        if reply.startswith("error"):
            raise ValueError(reply)
        return reply

    def set(self, shapes):
        """What the links (from, to) do from now on; those not named do what is normal."""
        for pair, normal in self.normal.items():
            shape = shapes.get(pair, normal)
            if self.now.get(pair) != shape:
                self.tell("link {} {} {}".format(*pair, shape.words()))
                self.now[pair] = shape

    def change(self, pairs, **changes):
        """These links, each as it is now but for the changes."""
        changed = {pair: dataclasses.replace(self.now[pair], **changes) for pair in pairs}
        self.set(self.now | changed)

    def heal(self):
        self.set({})

    def uplink(self, site):
        """All links from and to a site."""
        return [pair for pair in self.normal if site in pair]

    def count(self, start, end):
        """(packets, bytes) carried, packets lost, packets for which there was no room."""
        return tuple(map(int, self.tell(f"count {start} {end}").split()))

    def unplug(self, name):
        """The host hears nobody and is heard by nobody, and its device does not notice."""
        host = self.hosts[name]
        ip([f"link set {host.port} nomaster"], self.sites[host.site])

    def plug(self, name):
        host = self.hosts[name]
        ip([f"link set {host.port} master lan"], self.sites[host.site])

    def reset(self):
        """As it was built."""
        self.heal()
        for name in self.hosts:
            self.plug(name)

    def close(self):
        """What still runs inside keeps running without a network."""
        if self.links:
            self.links.close()
        if self.process:
            self.process.wait()
            self.process.stderr.close()
        self.links = self.process = None
        remove_stale()
