# SPDX-License-Identifier: Apache-2.0
"""The whole tree over its wide-area network: how it forms, and what the loss of a part costs."""
import collections
import contextlib
import os
import signal
import socket
import threading
import time

import pytest

import consul
import wan
from checks import check_nodes, settle
from roots import load_of
from qs_cluster import wait_for
from tree import CENTRES, Field, make_net

FLAPS, FLAP_S = 20, 0.3


@pytest.fixture
def field(tmp_path):
    """The tree, started and found together by nothing but Consul."""
    consul.program()  # skips
    with contextlib.closing(make_net()) as net, wan.running(net, CENTRES, tmp_path) as servers:
        made = Field(tmp_path, net, servers)
        try:
            made.launch_all()
            yield made
            made.close()
        except BaseException:
            for node in made.nodes.values():
                print(node.tail(20))
            raise
        finally:
            made.abandon()


@contextlib.contextmanager
def loaded(field):
    """Under load from when the tree has formed; afterwards all is equal, and every answer right."""
    load = load_of(field, 1)
    load.fill()
    settle(field, load)
    with load:
        yield load
        load.end_writes()
        load.equal_s, _ = settle(field, load)
    load.counts = check_nodes(field, load.model) + load.check()


def told(load):
    counts = ", ".join(f"{count:,} {what}" for what, count in load.counts.items())
    return f"equal {load.equal_s:.1f} s after the last write; {counts}"


def upstream(node):
    """The name of the parent that the log comes from now, None while there is none."""
    parent = node.place()["parent"]
    return parent["node"] if parent and parent["connected"] else None


def busiest(field):
    """(the node below the root that feeds most others, those), None when there is none."""
    fed = collections.defaultdict(list)
    for node in field.nodes.values():
        fed[upstream(node)].append(node)
    names = sorted(fed.keys() - {None, "root"}, key=lambda name: len(fed[name]))
    return (field.nodes[names[-1]], fed[names[-1]]) if names else None


def test_every_centre_names_its_replicas_to_the_others(field):
    load = load_of(field, 1)
    load.fill()
    settle(field, load)
    for asked, centre in zip(CENTRES, CENTRES[1:] + CENTRES[:1]):
        nodes = [field.nodes[f"{centre}-{what}"] for what in ("middle", "replica")]
        wanted = {socket.inet_aton(node.host.address).hex() for node in nodes}
        if centre == "west":
            wanted.add(socket.inet_aton(field.nodes["standby"].host.address).hex())

        def named():
            records = field.servers[asked].srv(f"replica.qs-main.service.{centre}.consul")
            return {target.partition(".")[0] for _, target in records} == wanted

        wait_for(named, 30, f"the replicas of {centre}, asked in {asked}")


@pytest.mark.parametrize("harm", ["kill", "freeze", "unplug"])
def test_the_loss_of_a_parent(field, say, harm):
    with loaded(field) as load:
        lost, children = wait_for(lambda: busiest(field), 60, "a node below the root that feeds")
        began, took = time.monotonic(), {}
        {"kill": lost.kill, "unplug": lambda: field.net.unplug(lost.name),
         "freeze": lambda: os.kill(lost.process.pid, signal.SIGSTOP)}[harm]()

        index = field.nodes["root"].index()

        def found():
            """A parent that has no news itself is none."""
            for child in children:
                parted = child.name not in took and upstream(child) not in (None, lost.name)
                if parted and child.index() > index:
                    took[child.name] = time.monotonic() - began
            return len(took) == len(children)

        wait_for(found, 60, "news from another parent for each child")
        {"kill": lost.launch, "unplug": lambda: field.net.plug(lost.name),
         "freeze": lambda: os.kill(lost.process.pid, signal.SIGCONT)}[harm]()
    say(f"{harm}: news again for {len(children)} children after {max(took.values()):.2f} s; "
        + told(load))


def test_a_site_is_cut_off_and_returns(field, say):
    away = [node for node in field.nodes.values() if node.host.site == "south"]
    with loaded(field) as load:
        field.net.change(field.net.uplink("south"), cut=True)
        index = field.nodes["root"].index()
        wait_for(lambda: field.nodes["root"].index() > index + 100, 60, "writes elsewhere")
        wait_for(lambda: all(n.metrics("main")["age_ms"] > 6000 for n in away), 60, "old data")
        began = time.monotonic()
        field.net.heal()
        index = field.nodes["root"].index()
        wait_for(lambda: all(node.index() >= index for node in away), 60, "south to catch up")
        caught_up_s = time.monotonic() - began
    say(f"caught up {caught_up_s:.1f} s after the return; " + told(load))


def test_a_flapping_uplink(field, say):
    away = [node for node in field.nodes.values() if node.host.site == "south"]
    with loaded(field) as load:
        before = sum(node.metrics("main")["parent_changes"] for node in away)
        for _ in range(FLAPS):
            for cut in (True, False):
                field.net.change(field.net.uplink("south"), cut=cut)
                threading.Event().wait(FLAP_S)
        changes = sum(node.metrics("main")["parent_changes"] for node in away) - before
    say(f"{changes:.0f} changes of parents by {len(away)} nodes in {FLAPS} flaps of "
        f"{2 * FLAP_S:.1f} s; " + told(load))
