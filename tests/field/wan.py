# SPDX-License-Identifier: Apache-2.0
"""Consul servers of the field: one a data centre, joined over its links."""
import contextlib
import subprocess

from consul import Consul
from qs_cluster import wait_for

# A probe that waits for 100 ms, as in the agent's own mode for tests, would take any slow link for
# a dead server.
PATIENT = 'gossip_wan { probe_timeout = "1s" }'


class Server(Consul):
    """The Consul server of a site, on its host there; what it knows is gone when it stops."""

    def __init__(self, net, site, sites, directory):
        directory.mkdir(parents=True, exist_ok=True)
        self.host = net.hosts[f"{site}-consul"]
        super().__init__(directory, self.host.name, self.host.address, site)
        for other in sites:
            if other != site:
                self.options += ["-retry-join-wan", net.hosts[f"{other}-consul"].address]
        self.options += ["-retry-interval-wan", "1s", "-hcl", PATIENT]
        self.http, self.dns = f"{self.address}:8500", f"{self.address}:8600"
        self.http_port, self.dns_port = 8500, 8600
        self.lan, self.wan, self.server = 8301, 8302, 8300

    def launch(self):
        return super().launch(prefix=["ip", "netns", "exec", self.host.namespace])

    def has_leader(self):
        with self.host.inside():
            return super().has_leader()

    def get(self, path):
        with self.host.inside():
            return super().get(path)

    def srv(self, name):
        with self.host.inside():
            return super().srv(name)

    def members(self):
        """{name of a server of any data centre: alive, failed, ...}, as `consul` says itself."""
        with self.host.inside():
            done = subprocess.run(
                [self.program, "members", "-wan", f"-http-addr=http://{self.http}"],
                capture_output=True, text=True, check=False,
            )
        rows = [line.split() for line in done.stdout.splitlines()[1:]]
        return {row[0]: row[2] for row in rows}


@contextlib.contextmanager
def running(net, sites, directory):
    """{site: its server}, each knowing the others, for a while."""
    servers = {site: Server(net, site, sites, directory) for site in sites}
    try:
        for server in servers.values():
            server.launch()
        wait_joined(servers)
        yield servers
    finally:
        for server in servers.values():
            server.stop()


def wait_joined(servers):
    for server in servers.values():
        wait_for(server.has_leader, 60, f"{server.node} to lead")
    alive = ["alive"] * len(servers)
    for server in servers.values():
        wait_for(lambda s=server: list(s.members().values()) == alive, 60, "servers to join")
