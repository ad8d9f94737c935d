# SPDX-License-Identifier: Apache-2.0
"""Nodes that find each other through a real Consul, and go on when it is gone, empty, or back."""
import signal
import subprocess
import threading
import time

import pytest

from consul import Consul
from consul_liar import FAULTS, LIES, Liar
from qs_cluster import wait_for
from resp import RespError

pytestmark = pytest.mark.once  # a thread of its own speaks with Consul, without the loop
HERE = "127.0.0.1"


@pytest.fixture
def agent(tmp_path):
    made = Consul(tmp_path)
    made.start()
    yield made
    made.stop()


def section(agent, **options):
    return {"http": agent.http, "dns": agent.dns, "ttl": "3s"} | options


def finding(cluster, agent, name, role, **options):
    """A node that is told nothing but where Consul is."""
    node = {"consul": section(agent)} | options
    return cluster.node(name, {"main": {"role": role}}, **node)


def tree(cluster, agent):
    nodes = [
        finding(cluster, agent, "root", "root"),
        finding(cluster, agent, "replica", "replica"),
        finding(cluster, agent, "proxy", "proxy"),
    ]
    nodes[2].instances["main"].update({"keep_bytes": 0, "window": 0, "window_bytes": 0})
    return [node.start() for node in nodes]


def port_of(node):
    return int(node.peer.rpartition(":")[2])


def wait_found(node, parents, replicas=0):
    def found():
        metrics = node.metrics("main")
        return metrics["found_parents"] == parents and metrics["found_replicas"] == replicas

    wait_for(found, 60, f"{node.name} to find {parents} parents and {replicas} replicas")
    connected = lambda: node.metrics("main")["replicas_connected"] == replicas
    wait_for(connected, 60, f"{node.name} to be connected to them")


class Reader:
    """Reads through a proxy that holds no value, without a pause, and collects what goes wrong."""

    def __init__(self, node, keys):
        self.node, self.keys, self.faults, self.reads = node, keys, [], 0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()

    def run(self):
        with self.node.raw() as conn:
            while not self.ended.is_set():
                key = f"key{self.reads % self.keys}"
                value = conn.call("GET", key)
                if isinstance(value, RespError) or value != b"value of " + key.encode():
                    self.faults.append((key, value))
                self.reads += 1
                time.sleep(0.002)


def test_a_tree_forms_from_nothing_but_consul(cluster, agent, say):
    root, replica, proxy = tree(cluster, agent)
    wait_found(proxy, 2, 1)
    for i in range(20):
        root.call("SET", f"key{i}", f"value of key{i}")
    cluster.check_equal(root, replica, proxy)
    assert proxy.call("GET", "key7") == b"value of key7"

    entries = wait_for(
        lambda: (found := agent.passing("qs-main"))
        and len(found) == 3
        and found["replica"][1].get("depth") == "1"
        and found,
        20,
        "three entries, the replica with its depth",
    )
    assert entries["root"][0] == ["root"] and entries["proxy"][0] == ["proxy"]
    assert "replica" in entries["replica"][0]
    assert entries["replica"][2:] == (HERE, port_of(replica))
    meta = entries["root"][1]
    assert meta["cluster"] == "qs" and meta["role"] == "root" and len(meta["history"]) == 32
    assert not any("index" in name for name in meta), "an index would be old when it is read"
    records = agent.srv("replica.qs-main.service.consul")
    assert {port for port, _ in records} == {port_of(replica)}
    say(f"SRV over TCP: {records}")
    # An orderly end takes the entry back at once.
    replica.stop()
    assert "replica" not in agent.passing("qs-main")


def test_consul_goes_and_comes_back_empty(cluster, agent, say):
    root, replica, proxy = tree(cluster, agent)
    wait_found(proxy, 2, 1)
    wait_found(replica, 1)
    for i in range(20):
        root.call("SET", f"key{i}", f"value of key{i}")
    cluster.settle(root, proxy)
    with Reader(proxy, 20) as reader:
        errors = proxy.metrics()["consul_errors"]
        agent.process.send_signal(signal.SIGSTOP)
        wait_for(lambda: proxy.metrics()["consul_errors"] > errors, 60, "a frozen agent to be seen")
        agent.process.send_signal(signal.SIGCONT)
        agent.stop()
        errors = proxy.metrics()["consul_errors"]
        wait_for(lambda: proxy.metrics()["consul_errors"] > errors + 3, 60, "calls to fail")
        root.call("SET", "more", "while it is away")
        proxy.wait_index(root.index())
        # While the checks of all had lapsed the root may have been taken for a replica, too.
        assert proxy.metrics("main")["found_replicas"] >= 1, "a list was given up"
        begun = time.monotonic()
        agent.start()  # and knows nothing any more
        wait_for(lambda: len(agent.passing("qs-main")) == 3, 30, "all to be registered again")
        took = time.monotonic() - begun
        say(f"registered again {took:.1f} s after the start of an empty agent")
        wait_found(proxy, 2, 1)
        root.call("SET", "last", "and again")
        proxy.wait_index(root.index())
    assert reader.reads > 100 and not reader.faults, reader.faults[:3]


def test_a_start_without_consul_uses_the_last_list(cluster, agent):
    root, replica, proxy = tree(cluster, agent)
    wait_found(proxy, 2, 1)
    root.call("SET", "key", "value")
    cluster.settle(root, proxy)
    wait_for(lambda: (proxy.data / "main/FOUND").exists(), 30, "the list to be saved")
    proxy.stop()
    agent.stop()
    proxy.start()
    root.call("SET", "other", "new")
    proxy.wait_index(root.index())
    assert proxy.call("GET", "key") == b"value"
    # A damaged file is as good as none, and is said.
    proxy.stop()
    saved = proxy.data / "main/FOUND"
    saved.write_bytes(saved.read_bytes().replace(b"replica", b"raplica"))
    proxy.start()
    wait_for(lambda: "main/FOUND" in proxy.log.read_text(), 30, "the damage to be told")
    assert proxy.index() == root.index()  # from its own disk


def three_lines(cluster, agent, name, role):
    """A node that is told where it is reached, where Consul is, and which instance it serves; and,
    since it is not the only one on this host, its name and the place of its data."""
    node = cluster.node(name, {"main": {"role": role}}, consul=section(agent))
    own = f'client = "unix:{node.socket}"  node = "{name}"  data_dir = "{node.data}"'
    lines = [
        f'peer = "{node.peer}"  {own}',
        f'consul {{ http = "{agent.http}" dns = "{agent.dns}" }}',
        f"instance main {{ role = {role} }}",
    ]
    node.text = lambda: "\n".join(lines)
    return node


def test_a_node_of_three_lines(cluster, agent):
    root = finding(cluster, agent, "root", "root").start()
    root.call("SET", "key", "value")
    node = three_lines(cluster, agent, "new", "proxy").start()
    node.wait_index(root.index())
    assert node.call("GET", "key") == b"value"


def dig(agent, *question):
    """What a person sees who asks Consul."""
    command = ["dig", f"@{HERE}", "-p", str(agent.dns_port), "+tcp", "+short", *question]
    asked = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    return asked.stdout.splitlines()


def test_dig_lists_the_replicas(cluster, agent, say):
    """The replicas alone, with their ports: also one that joins with three lines, until it ends."""
    first = tree(cluster, agent)[1]
    name = "replica.qs-main.service.consul"

    def listed(*nodes):
        ports = {int(line.split()[2]) for line in dig(agent, name, "SRV")}
        return ports == {port_of(node) for node in nodes}

    wait_for(lambda: listed(first), 30, "dig to list one replica")
    new = three_lines(cluster, agent, "new", "replica")
    new.start()
    wait_for(lambda: listed(first, new), 30, "dig to list the new one, too")
    say(f"dig +tcp {name} SRV: {dig(agent, name, 'SRV')}")
    assert dig(agent, name, "A") == [HERE]
    new.stop()
    assert listed(first)


def stir(agent):
    """Changes an entry (of another cluster), which ends questions that wait for a change."""
    agent.put("/v1/agent/service/register", {
        "ID": "stirrer", "Name": "qs-main", "Address": HERE, "Port": 1,
        "Meta": {"node": "stirrer", "cluster": "other", "at": str(time.monotonic_ns())},
    })
    time.sleep(0.1)
    return True


@pytest.mark.long
def test_consul_lies(cluster, agent, say):
    """Whatever it says, the lists stay, reads and replication go on, and the truth heals."""
    liar = Liar(agent)
    try:
        nodes = [finding(cluster, agent, "root", "root")]
        nodes += [finding(cluster, agent, f"replica{i}", "replica") for i in range(3)]
        proxy = finding(cluster, agent, "proxy", "proxy")
        proxy.configure(consul=section(agent, http=liar.http))
        proxy.instances["main"].update({"keep_bytes": 0, "window": 0, "window_bytes": 0})
        root = nodes[0]
        for node in nodes + [proxy]:
            node.start()
        wait_found(proxy, 4, 3)
        for i in range(20):
            root.call("SET", f"key{i}", f"value of key{i}")
        cluster.settle(root, proxy)
        with Reader(proxy, 20) as reader:
            for lie in [*LIES, *FAULTS]:
                liar.lie, told = lie, liar.told
                errors = proxy.metrics()["consul_errors"]
                if lie != "slow":  # then a question that waits for a change hangs for long
                    wait_for(lambda: stir(agent) and liar.told >= told + 2, 60, f"answers: {lie}")
                if lie in FAULTS:
                    wait_for(lambda: proxy.metrics()["consul_errors"] > errors, 60, f"error: {lie}")
                metrics = proxy.metrics("main")
                assert metrics["found_parents"] >= 4, lie
                assert metrics["found_replicas"] >= 3, lie
                root.call("SET", "during", lie)
                proxy.wait_index(root.index())
            begun, liar.lie = time.monotonic(), None
            nodes.append(finding(cluster, agent, "late", "replica").start())
            wait_for(lambda: proxy.metrics("main")["found_replicas"] == 4, 60, "the truth")
            say(f"a new replica is found {time.monotonic() - begun:.1f} s after the last lie")
        assert reader.reads > 100 and not reader.faults, reader.faults[:3]
    finally:
        liar.close()


def test_a_token_and_tls(cluster, agent, tmp_path):
    liar = Liar(agent, token="5ecret", tls=tmp_path)
    token_file = tmp_path / "token"
    token_file.write_text("wrong\n")
    try:
        options = {"http": liar.http, "ca_file": liar.ca_file, "token_file": token_file}
        node = finding(cluster, agent, "root", "root")
        node.configure(consul=section(agent, **options))
        node.start()
        wait_for(lambda: "status 403" in node.log.read_text(), 60, "the refusal to be told")
        assert not agent.passing("qs-main")
        token_file.write_text("5ecret\n")
        wait_for(lambda: agent.passing("qs-main"), 60, "the node to be registered")
        # A certificate that nobody vouches for ends it before the token is told.
        other = cluster.node("other", {"main": {"role": "root"}}, consul=section(
            agent, http=liar.http, token_file=token_file)).start()
        wait_for(lambda: "certificate" in other.log.read_text(), 60, "the refusal to be told")
        assert list(agent.passing("qs-main")) == ["root"]
    finally:
        liar.close()


@pytest.mark.long
def test_two_data_centres(cluster, tmp_path):
    """A proxy finds what is near first, and the other data centre's when nothing near is left."""
    near = Consul(tmp_path, node="near", datacenter="dc1")
    far = Consul(tmp_path, node="far", datacenter="dc2",
                 options=["-join-wan", f"127.0.0.1:{near.wan}"])
    try:
        near.start()
        far.start()
        wait_for(lambda: len(near.get("/v1/catalog/datacenters")) == 2, 60, "both to be joined")
        root = finding(cluster, far, "root", "root").start()
        middle = finding(cluster, far, "middle", "replica").start()
        root.call("SET", "key", "value")
        wait_for(lambda: len(far.passing("qs-main")) == 2, 30, "dc2 to be registered")
        proxy = finding(cluster, near, "proxy", "proxy")
        proxy.instances["main"].update({"keep_bytes": 0, "window": 0, "window_bytes": 0})
        proxy.start()
        wait_found(proxy, 2, 1)
        proxy.wait_index(root.index())
        assert proxy.call("GET", "key") == b"value"
        here = finding(cluster, near, "here", "replica").start()
        wait_found(proxy, 3, 2)

        def saved():
            path = proxy.data / "main/FOUND"
            return path.read_text().splitlines()[1:] if path.exists() else []

        def nodes():
            return [line.split()[2:] for line in saved() if line.startswith("nodes")]

        wait_for(lambda: len(nodes()) == 3, 30, "three nodes in the file")
        assert nodes()[0] == ["here", "dc1", "3", "1"], "the own data centre comes first"
        assert sorted(name for name, site, *_ in nodes()[1:] if site == "dc2") == ["middle", "root"]
        here.stop()
        middle.stop()
        root.call("SET", "key", "other")
        proxy.wait_index(root.index())
        # Both replicas stay in the list, and the root joins them.
        wait_for(lambda: proxy.metrics("main")["found_replicas"] == 3, 90, "the root as a replica")
        wait_for(lambda: proxy.raw().call("GET", "key") == b"other", 30, "the root to be asked")
    finally:
        near.stop()
        far.stop()


def test_consul_forgets_in_a_moment(cluster, agent):
    """What was answered just before is an index that the new Consul may not reach for long."""
    root, replica, proxy = tree(cluster, agent)
    wait_found(proxy, 2, 1)
    wait_found(replica, 1)
    for i in range(100):
        agent.put(f"/v1/kv/other/{i}", "moves the index")
    agent.put("/v1/agent/service/register", {"ID": "other", "Name": "qs-main", "Port": 1})
    refused = lambda: replica.metrics("main")["found_refused"]
    wait_for(refused, 30, "the question that waits to be answered")
    agent.stop()
    agent.start()
    wait_for(lambda: len(agent.passing("qs-main")) == 3, 30, "all to be registered again")
    finding(cluster, agent, "late", "replica").start()
    wait_for(lambda: replica.metrics("main")["found_parents"] == 2, 30, "a newcomer to be found")
