# SPDX-License-Identifier: Apache-2.0
"""Consul servers of the field: one a data centre, joined over its links.

The program is Debian 11's, unpacked once into a directory of its own below build/.
"""
import json
import subprocess
import urllib.request

from qs_cluster import ROOT, die_with_parent, wait_for
from tree import CENTRES

UNPACKED = ROOT / "build/consul"
UNPACK = r"""
set -eu
mkdir -p "$1/lists/partial" "$1/cache/archives/partial" "$1/pref" "$1/deb"
uri=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -n1)
key=$(dpkg -L debian-archive-keyring | grep '/debian-archive-keyring.gpg$')
echo "deb [signed-by=$key] $uri bullseye main" > "$1/one.list"
o="-qq -o Dir::Etc::SourceList=$1/one.list -o Dir::Etc::SourceParts=-
   -o Dir::Etc::PreferencesParts=$1/pref -o Dir::State::Lists=$1/lists -o Dir::Cache=$1/cache
   -o APT::Sandbox::User=root"
apt-get $o update
cd "$1/deb"
apt-get $o download consul
for file in ./*.deb; do dpkg -x "$file" "$1/new"; done
mv "$1/new" "$1/root"
"""
# Coordinates move with each probe: every 5 s by default, so that they would take minutes.
GOSSIP = {"gossip_wan": {"probe_interval": "100ms", "gossip_interval": "100ms"}}


class NoConsul(Exception):
    """The package cannot be had."""


def program():
    path = UNPACKED / "root/usr/bin/consul"
    if not path.exists():
        command = ["sh", "-c", UNPACK, "sh", UNPACKED]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            raise NoConsul(f"Debian 11's consul cannot be had: {done.stderr.strip()[-500:]}")
    return path


class Server:
    """The Consul server of a data centre, with its state on disk."""

    def __init__(self, net, centre, directory):
        self.host, self.centre = net.hosts[f"{centre}-consul"], centre
        self.others = [net.hosts[f"{other}-consul"].address for other in CENTRES if other != centre]
        self.directory, self.process = directory / f"{centre}-consul", None
        self.directory.mkdir(parents=True)

    def launch(self):
        settings = self.directory / "settings.json"
        settings.write_text(json.dumps(GOSSIP | {
            "server": True, "bootstrap_expect": 1, "datacenter": self.centre,
            "node_name": f"{self.centre}-consul", "data_dir": str(self.directory / "data"),
            "bind_addr": self.host.address, "client_addr": self.host.address,
            "retry_join_wan": self.others, "retry_interval_wan": "1s",
            "performance": {"raft_multiplier": 1}, "log_level": "warn",
        }))
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(
                [program(), "agent", "-config-file", settings], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, preexec_fn=self.prepare,
            )
        return self

    def prepare(self):
        die_with_parent()
        self.host.enter()

    def get(self, path):
        """The JSON at a path of its HTTP interface; None while it does not answer."""
        try:
            with self.host.inside(), urllib.request.urlopen(
                f"http://{self.host.address}:8500{path}", timeout=10
            ) as answer:
                return json.load(answer)
        except OSError:
            return None

    def members(self):
        """{name of a server of any data centre: alive, failed, ...}, as `consul` says itself."""
        with self.host.inside():
            done = subprocess.run(
                [program(), "members", "-wan", f"-http-addr=http://{self.host.address}:8500"],
                capture_output=True, text=True, check=False,
            )
        rows = [line.split() for line in done.stdout.splitlines()[1:]]
        return {row[0]: row[2] for row in rows}

    def wait_leader(self):
        wait_for(lambda: self.get("/v1/status/leader"), 60, f"Consul of {self.centre} to lead")

    def kill(self):
        if self.process:
            self.process.kill()
            self.process.wait()
        self.process = None


def start_servers(net, directory):
    """{data centre: its server}, joined."""
    servers = {centre: Server(net, centre, directory).launch() for centre in CENTRES}
    for server in servers.values():
        server.wait_leader()
    for server in servers.values():
        alive = ["alive"] * len(CENTRES)
        wait_for(lambda s=server: list(s.members().values()) == alive, 60, "the servers to join")
    return servers
