# SPDX-License-Identifier: Apache-2.0
"""The tree that the field's tests run: a root and a standby, each a site of its own, and three data
centres, each with an intermediate, a replica, a proxy, a proxy that keeps nothing, and a Consul
server. Nodes are told nothing but where that is, or, in a field without servers, are given lists.

Or there are three roots, each a site of its own, of which one leads; beside each a replica that
follows nobody else. Their record is at one Consul server.

Daemons run with the intervals that users get, not with the quick ones of the other tests.
"""
import concurrent.futures
import itertools

from net import Net, Shape
from qs_cluster import KEEPS_NOTHING, Cluster, Node

CENTRES = "east", "west", "south"
ROLES = "middle", "replica", "proxy", "empty"
ROOTS = "root", "standby", "spare"
SITES = {root: [root] for root in ROOTS} | {
    centre: [f"{centre}-{what}" for what in (*ROLES, "consul")] for centre in CENTRES
}
# Where a site stands, and how long a packet travels from one city to another; jitter is a tenth.
CITY = {"root": "A", "east": "A", "standby": "B", "west": "B", "south": "C", "spare": "C"}
DELAY_MS = {"A": 0.5, "B": 0.5, "C": 0.5, "AB": 15, "AC": 40, "BC": 45}
# Whose Consul server a site uses that has none; several roots must all use one.
CONSUL = {"root": "east", "standby": "west"}
RECORD = "east"
BESIDE_PORT = 7410  # of a replica on the host of a root
INTERVALS = dict.fromkeys(("heartbeat", "reconnect", "loops"))


def shapes():
    """{(from, to): Shape} of all links as they are when nothing is wrong."""
    delays = {
        (a, b): DELAY_MS["".join(sorted({CITY[a], CITY[b]}))]
        for a, b in itertools.permutations(SITES, 2)
    }
    return {pair: Shape(delay, delay / 10) for pair, delay in delays.items()}


class FieldNode(Node):
    """A daemon on the host of its name, or, at other ports, on another one."""

    def __init__(self, cluster, name, instances, options, host=None, port=7400):
        super().__init__(cluster, name, instances, INTERVALS | options)
        self.host = cluster.net.hosts[host or name]
        self.peer, self.admin = f"{self.host.address}:{port}", f"{self.host.address}:{port + 2}"

    def prepare(self):
        super().prepare()
        self.host.enter()

    def http(self, path):
        with self.host.inside():
            return super().http(path)


class Field(Cluster):
    """All programs of the tree, on a net that outlives them; `servers` are Consul's, by site.

    `roots`: the several of them, when that is asked for.
    """

    def __init__(self, directory, net, servers, several=False):
        super().__init__(directory)
        self.net, self.servers, self.roots = net, servers, []
        if several:
            self.make_roots()
        else:
            self.root()
            self.node("standby", {"main": {"role": "replica"}})
        for centre in CENTRES:
            for what in ROLES:
                role = "replica" if what in ("middle", "replica") else "proxy"
                keeps = KEEPS_NOTHING if what == "empty" else {}
                self.node(f"{centre}-{what}", {"main": {"role": role} | keeps})
        for node in self.nodes.values():
            if "parents" not in node.instances["main"]:
                self.introduce(node)

    def make_roots(self):
        main = {"role": "root", "in_sync_min": 2}
        self.roots = [self.node(name, {"main": dict(main)}) for name in ROOTS]
        for root in self.roots:
            several = [f"{each.name}@{each.peer}" for each in self.roots]
            root.instances["main"]["roots"] = several
            below = {"main": {"role": "replica", "parents": [root]}}
            name = f"{root.name}-below"
            self.nodes[name] = FieldNode(self, name, below, {}, root.name, BESIDE_PORT)

    def node(self, name, instances, **options):
        self.nodes[name] = FieldNode(self, name, instances, options)
        return self.nodes[name]

    def introduce(self, node):
        """Tells a node how to find the others: through Consul, or by lists, the own site first."""
        if self.servers:
            site = RECORD if node in self.roots else node.host.site
            server = self.servers[CONSUL.get(site, site)]
            node.configure(consul={"http": server.http, "dns": server.dns})
            return
        main = node.instances["main"]
        middles = [self.nodes[f"{centre}-middle"] for centre in CENTRES]
        tops = [self.nodes["root"], self.nodes["standby"]]
        own = [m for m in middles if m.host.site == node.host.site]
        others = [m for m in middles if m not in own]
        if node in tops[1:]:
            main["parents"] = tops[:1]
        elif node in middles:
            main["parents"] = tops + others
        elif node not in tops:
            main["parents"] = own + others + tops
        if main["role"] == "proxy":
            replicas = [self.nodes[f"{centre}-replica"] for centre in CENTRES]
            replicas.sort(key=lambda replica: replica.host.site != node.host.site)
            main["replicas"] = replicas[:1] + own + replicas[1:] + others

    def launch_all(self):
        for node in self.nodes.values():
            node.launch()
        for node in self.nodes.values():
            node.wait_ready()

    def close(self):
        """All together: each takes leave of the others, and of Consul."""
        with concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(Node.stop, self.running()))
        super().close()

    def abandon(self):
        """Also those that ended by themselves."""
        for node in self.running():
            if node.process.poll() is not None:
                node.process = None
        super().abandon()

    def program(self, host):
        """What runs there: a Node or a Consul server."""
        return self.nodes.get(host) or self.servers[self.net.hosts[host].site]

    def leaves(self):
        """Where sessions read. Roots are replicas too, and what they show never goes back."""
        sites = CENTRES + (ROOTS if self.roots else ())
        return [n for n in self.nodes.values() if n.host.site in sites and "middle" not in n.name]


def make_net():
    return Net(SITES, shapes())
