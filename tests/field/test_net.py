# SPDX-License-Identifier: Apache-2.0
"""The network that the field's other tests stand on: what it does to packets, and its removal."""
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from net import NAMED, NoField, Net, Shape
from qs_cluster import wait_for

SITES = {"a": ["one", "two"], "b": ["three"]}
PORT = 7400
OWNER = """
import net, os, signal
made = net.Net({"a": ["one"], "b": ["two"]}, {("a", "b"): net.Shape(), ("b", "a"): net.Shape()})
print(os.getpid(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def net():
    made = Net(SITES, {pair: Shape(delay_ms=5) for pair in [("a", "b"), ("b", "a")]})
    yield made
    made.close()
    assert not own_namespaces(os.getpid())


def own_namespaces(pid):
    return list(NAMED.glob(f"qsf-{pid}-*"))


class Box:
    """A datagram socket of one host."""

    def __init__(self, net, name):
        with net.hosts[name].inside():
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.socket.bind((net.hosts[name].address, PORT))
        self.socket.settimeout(10)
        self.address = net.hosts[name].address, PORT

    def send(self, to, text):
        self.socket.sendto(text, to.address)

    def heard(self):
        return self.socket.recv(100)


def test_a_link_takes_its_time(net):
    one, three = Box(net, "one"), Box(net, "three")
    net.change([("a", "b")], delay_ms=120)
    began = time.monotonic()
    one.send(three, b"question")
    assert three.heard() == b"question"
    assert time.monotonic() - began >= 0.120
    three.send(one, b"answer")
    assert one.heard() == b"answer"
    assert time.monotonic() - began >= 0.125
    net.change([("a", "b")], delay_ms=0, rate=1000)
    began = time.monotonic()
    for _ in range(2):
        one.send(three, b"x" * 72)  # 100 bytes with its headers
    assert three.heard() and three.heard()
    assert time.monotonic() - began >= 0.200


def test_a_narrow_link_that_becomes_wide(net):
    one, three = Box(net, "one"), Box(net, "three")
    net.change([("a", "b")], delay_ms=0, rate=250)
    for number in range(9):
        one.send(three, b"%d" % number + b"x" * 71)  # 0.4 s each, of which it holds half a second
    wait_for(lambda: net.count("a", "b")[3] > 0, 10, "what finds no room")
    net.change([("a", "b")], delay_ms=30_000, rate=0)
    one.send(three, b"late")
    net.heal()
    heard = [three.heard()]
    while heard[-1] != b"late":
        heard.append(three.heard())
    assert heard[0][:1] == b"0" and len(heard) + net.count("a", "b")[3] == 10


def test_one_direction_is_cut(net):
    one, three = Box(net, "one"), Box(net, "three")
    net.change([("a", "b")], cut=True)
    one.send(three, b"lost")
    three.send(one, b"heard")
    assert one.heard() == b"heard"
    wait_for(lambda: net.count("a", "b")[2] == 1, 10, "the loss")
    net.heal()
    one.send(three, b"after")
    assert three.heard() == b"after"


def test_a_cut_loses_what_is_under_way(net):
    one, three = Box(net, "one"), Box(net, "three")
    net.change([("a", "b")], delay_ms=200)
    one.send(three, b"under way")
    net.change([("a", "b")], cut=True)
    wait_for(lambda: net.count("a", "b")[2] == 1, 10, "the loss")


def test_a_link_loses_some(net):
    one, three = Box(net, "one"), Box(net, "three")
    net.change([("a", "b")], loss=0.5)
    for number in range(300):
        one.send(three, b"%d" % number)
    wait_for(lambda: sum(net.count("a", "b")[::2]) == 300, 10, "every datagram's fate")
    carried, size, lost, no_room = net.count("a", "b")
    assert 50 < carried < 250 and lost == 300 - carried and no_room == 0
    assert size > carried * 29
    heard = [int(three.heard()) for _ in range(carried)]
    assert heard == sorted(heard)


def test_a_host_is_unplugged(net):
    one, two, three = Box(net, "one"), Box(net, "two"), Box(net, "three")
    two.send(one, b"before")
    assert one.heard() == b"before"
    net.unplug("one")
    two.send(one, b"not heard")
    two.send(three, b"neighbour")
    assert three.heard() == b"neighbour"
    net.plug("one")
    two.send(one, b"after")
    assert one.heard() == b"after"


def test_what_a_dead_process_left_is_removed():
    done = subprocess.run([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(own_namespaces(int(done.stdout))) == 4
    Net({"a": []}, {}).close()
    assert not own_namespaces(int(done.stdout))


def test_no_rights_are_said(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NoField, match="iproute2"):
        Net({"a": []}, {})
