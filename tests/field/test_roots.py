# SPDX-License-Identifier: Apache-2.0
"""Three roots over the wide-area network, with the settings that users get: a leader that is frozen
or cut off from all who decide, but not from its clients and children, and a root outside the set.

Load is on at every root all the time. That nothing acknowledged is lost and that no node takes back
an index is checked at the end of each test (roots.py, load.py).
"""
import contextlib
import os
import signal
import threading
import time

import pytest

import consul
import wan
from checks import check_nodes, settle
from qs_cluster import wait_for
from roots import UNKNOWN, load_of, place
from schedule import LEADER, Fault, aim, shape_links
from tree import CENTRES, Field, make_net

WAIT_S = 60
SILENCE_MS = 2000  # the default
HARMS = "freeze", "between", "from-to", "to-from"
UNHEARD = "between", "from-to"  # what the old leader journals then reaches no other root
NEITHER = {"READONLY", UNKNOWN, "ERR"}  # what a leader may say that commits nothing


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    """One for all: what a test does to it is over at its end."""
    consul.program()  # skips
    directory = tmp_path_factory.mktemp("roots")
    with contextlib.closing(make_net()) as net, wan.running(net, CENTRES, directory) as servers:
        made = Field(directory, net, servers, several=True)
        made.loads = 0
        try:
            made.launch_all()
            yield made
            made.close()
        finally:
            made.abandon()


@pytest.fixture
def load(field):
    """Load from when all roots are in the set; afterwards all is equal, and every answer right."""
    field.loads += 1
    made = load_of(field, field.loads)
    try:
        made.fill()
        settle(field, made)
        with made:
            wait_for(lambda: acknowledged(made.leading(), 0) > 100, WAIT_S, "writes")
            yield made
            made.end_writes()
            made.equal_s, _ = settle(field, made)
        made.counts = check_nodes(field, made.model) + made.check()
    except BaseException:
        for node in field.nodes.values():
            print(node.tail(20))
        raise


def acknowledged(client, since_s):
    """How many of its writes that were sent after that moment."""
    return sum(w.acknowledged for w in client.writes if w.begun_s >= since_s)


def told(client, since_s):
    """{word} of the errors that its writes were answered with that were sent after that moment."""
    return {w.reply.word for w in client.writes
            if w.begun_s >= since_s and w.reply is not None and not w.acknowledged}


def strike(field, root, harm):
    """From its return on the root commits nothing that is sent to it."""
    if harm == "freeze":
        os.kill(root.process.pid, signal.SIGSTOP)
    else:
        shape_links(field.net, [aim(Fault(0, 0, "cut", (harm, LEADER)), root)])


def relieve(field, root, harm):
    if harm == "freeze":
        os.kill(root.process.pid, signal.SIGCONT)
    else:
        field.net.heal()


def follows(root, leader):
    said = place(root)
    return said.get("part") == "standby" and said.get("leader") == leader.name


@pytest.mark.parametrize("harm", HARMS)
def test_a_leader_that_cannot_commit(field, load, say, harm):
    client = load.leading()
    old, child = client.root, field.nodes[f"{client.root.name}-below"]
    aside = old.metrics("main")["set_aside"]
    others = [each for each in load.writers if each is not client]
    strike(field, old, harm)
    begun_s = time.monotonic()
    late = load.add_client(old)
    wait_for(lambda: any(acknowledged(each, begun_s) for each in others), WAIT_S, "a new leader")
    took_s = time.monotonic() - begun_s
    if harm != "freeze":
        # It goes on to answer its clients, and its child to serve.
        wait_for(lambda: UNKNOWN in told(late, begun_s) or acknowledged(late, begun_s), WAIT_S,
                 "an answer to what was sent since")
        assert acknowledged(late, begun_s) == 0, "a leader that was cut off acknowledged a write"
        wait_for(lambda: child.metrics("main")["age_ms"] > SILENCE_MS, WAIT_S,
                 "its child to know that its data is old")
        age_ms = child.metrics("main")["age_ms"]
    relieve(field, old, harm)
    new = load.leading().root
    assert new is not old
    wait_for(lambda: follows(old, new), WAIT_S, "the old leader to follow")
    over_s = time.monotonic()
    for each in (client, late):
        wait_for(lambda: "READONLY" in told(each, over_s), WAIT_S, "the old one to refuse")
        assert acknowledged(each, begun_s) == 0, "a leader that was cut off acknowledged a write"
        assert told(each, begun_s) <= NEITHER
    if harm in UNHEARD:
        wait_for(lambda: old.metrics("main")["set_aside"] > aside, WAIT_S, "its tail to be aside")
    aside = old.metrics("main")["set_aside"] - aside
    say(f"{harm}: writes go on after {took_s:.2f} s; the old one answered "
        f"{', '.join(sorted(told(late, begun_s)))}, set aside {aside:.0f} blocks"
        + ("" if harm == "freeze" else f", its child said its data was {age_ms:.0f} ms old"))


def test_who_is_outside_the_set_never_leads(field, load, say):
    """A standby is held back, while Consul finds it in good health, until it is left out; then the
    leader is lost, and the other one too for a while."""
    leader = load.leading().root
    out, other = [root for root in field.roots if root is not leader]
    sites = [leader.host.site, other.host.site]
    shape_links(field.net, [Fault(0, 0, "cut", ("between", out.host.site, *sites))])
    in_set = sorted([leader.name, other.name])
    wait_for(lambda: place(leader).get("in_sync") == in_set, WAIT_S, "it to be left out")
    wait_for(lambda: acknowledged(load.leading(), time.monotonic() - 1), WAIT_S, "writes to go on")
    os.kill(other.process.pid, signal.SIGSTOP)
    leader.kill()
    field.net.heal()
    server = field.servers["east"]

    def alone():
        with server.host.inside():
            return not server.passing("qs-main").keys() & {leader.name, other.name}

    wait_for(alone, WAIT_S, "Consul to find it alone in good health")
    over_s = time.monotonic() + 5
    while time.monotonic() < over_s:
        said = place(out)
        assert (said["part"], said["role"]) == ("standby", "standby"), "it leads, or tries to"
        threading.Event().wait(0.05)
    os.kill(other.process.pid, signal.SIGCONT)
    begun_s = time.monotonic()
    heir = next(each for each in load.writers if each.root is other)
    wait_for(lambda: acknowledged(heir, begun_s), WAIT_S, "the other one to lead")
    took_s = time.monotonic() - begun_s
    assert place(out)["part"] == "standby"
    leader.launch()
    say(f"{out.name}, left out, did not lead; {other.name} did {took_s:.2f} s after its return")
