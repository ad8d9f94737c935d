# SPDX-License-Identifier: Apache-2.0
"""A real Consul agent for tests: Debian 11's package, unpacked once into build/consul/ by
packaging/unpack.sh. Where the package cannot be had, tests skip, and say so.
"""
import fcntl
import functools
import json
import pathlib
import socket
import struct
import subprocess
import urllib.error
import urllib.request

import pytest

from qs_cluster import PORTS, ROOT, die_with_parent, wait_for

CACHE = ROOT / "build/consul"
SUITE = "bullseye"


@functools.lru_cache(maxsize=None)
def program():
    """The path of the program; skips the test when there is none."""
    CACHE.mkdir(parents=True, exist_ok=True)
    found = CACHE / "usr/bin/consul"
    with open(CACHE / "lock", "w") as lock:  # several tests may come here at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.exists():
            done = subprocess.run(
                ["sh", ROOT / "packaging/unpack.sh", SUITE, CACHE, "consul"],
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
                capture_output=True,
                text=True,
                timeout=180,
            )
            if done.returncode != 0 or not found.exists():
                pytest.skip(f"NO CONSUL: Debian {SUITE}'s package cannot be had: {done.stderr}")
    return found


class Consul:
    """One agent that is a server, too; everything it knows is gone when it stops."""

    def __init__(self, directory, node="agent", address="127.0.0.1", datacenter="dc1", options=()):
        self.program, self.node, self.address = program(), node, address
        self.datacenter, self.options = datacenter, list(options)
        self.http_port, self.dns_port, self.lan, self.wan, self.server = (
            PORTS.take() for _ in range(5)
        )
        self.http = f"{address}:{self.http_port}"
        self.dns = f"{address}:{self.dns_port}"
        self.log = pathlib.Path(directory) / f"consul-{node}.log"
        self.process = None

    def command(self):
        ports = {
            "http": self.http_port,
            "dns": self.dns_port,
            "grpc": -1,
            "serf-lan": self.lan,
            "serf-wan": self.wan,
            "server": self.server,
        }
        command = [self.program, "agent", "-dev", "-node", self.node, "-log-level", "warn"]
        command += ["-datacenter", self.datacenter, "-bind", self.address, "-client", self.address]
        for name, port in ports.items():
            command += [f"-{name}-port", str(port)]
        return command + self.options

    def launch(self, prefix=()):
        """Starts it, after the words of `prefix`, and returns at once."""
        assert self.process is None
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*prefix, *self.command()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )
        return self

    def start(self):
        self.launch()
        wait_for(self.has_leader, 30, "Consul to have a leader")
        return self

    def has_leader(self):
        assert self.process.poll() is None, self.log.read_text(errors="replace")[-2000:]
        try:
            return bool(self.get("/v1/status/leader"))
        except OSError:
            return False

    def stop(self):
        """kill -9: it takes leave of nobody."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def get(self, path):
        with urllib.request.urlopen(f"http://{self.http}{path}", timeout=10) as answer:
            return json.loads(answer.read())

    def put(self, path, body=None):
        data = b"" if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.http}{path}", data=data, method="PUT")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read()

    def passing(self, service):
        """{node: (tags, meta, address, port)} of the instances that count as healthy."""
        try:
            rows = self.get(f"/v1/health/service/{service}?passing")
        except (OSError, urllib.error.HTTPError):
            return {}
        services = [row["Service"] for row in rows]
        return {
            one["Meta"].get("node", one["ID"]): (
                one["Tags"], one["Meta"], one["Address"], one["Port"],
            )
            for one in services
        }

    def srv(self, name):
        """The SRV records of a name over TCP, as a set of (port, target): what `dig` shows."""
        labels = b"".join(bytes([len(l)]) + l.encode() for l in name.rstrip(".").split("."))
        question = labels + b"\0" + struct.pack("!HH", 33, 1)
        message = struct.pack("!6H", 4711, 0x0100, 1, 0, 0, 0) + question
        with socket.create_connection((self.address, self.dns_port), timeout=10) as conn:
            conn.sendall(struct.pack("!H", len(message)) + message)
            stream = conn.makefile("rb")
            answer = stream.read(struct.unpack("!H", stream.read(2))[0])
        count, at = struct.unpack("!H", answer[6:8])[0], 12 + len(question)
        records = set()
        for _ in range(count):
            _, at = read_name(answer, at)
            kind, _, _, size = struct.unpack("!HHIH", answer[at : at + 10])
            at += 10
            if kind == 33:
                port = struct.unpack("!H", answer[at + 4 : at + 6])[0]
                records.add((port, read_name(answer, at + 6)[0]))
            at += size
        return records


def read_name(message, at):
    """(the name that stands there, where it ends)"""
    labels, end = [], None
    while message[at]:
        if message[at] >= 0xC0:
            end = end or at + 2
            at = (message[at] & 0x3F) << 8 | message[at + 1]
        else:
            labels.append(message[at + 1 : at + 1 + message[at]].decode())
            at += 1 + message[at]
    return ".".join(labels), end or at + 1
