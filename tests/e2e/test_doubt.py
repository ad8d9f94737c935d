# SPDX-License-Identifier: Apache-2.0
"""A leader that hears nothing of the other roots cannot know that it leads still: it says so by the
age of its data, to its children too."""
import signal

from qs_cluster import wait_for
from test_takeover import agent, await_leader, await_whole, make_roots

SILENCE_MS = 2000  # the default


def age_ms(node):
    return node.place()["age_ms"]


def test_a_leader_that_hears_nobody_grows_old(cluster, agent):
    roots = make_roots(cluster, agent)
    leader = await_whole(roots)
    child = cluster.replica("child", leader).start()
    child.wait_index(leader.index())
    one, other = [node for node in roots if node is not leader]
    wait_for(lambda: age_ms(leader) == 0, 20, "it to be sure that it leads")
    for node in (one, other):
        node.process.send_signal(signal.SIGSTOP)
    for node in (leader, child):
        wait_for(lambda: age_ms(node) > SILENCE_MS, 40, f"{node.name} to say that its data is old")
    one.process.send_signal(signal.SIGCONT)  # enough for writes, so for this, too
    leader = await_leader([leader, one])
    wait_for(lambda: age_ms(leader) == 0, 40, "whoever leads to be sure of it")
    other.process.send_signal(signal.SIGCONT)
    wait_for(lambda: age_ms(child) < SILENCE_MS, 40, "its child to be told")
    await_whole(roots)
    cluster.check_equal(leader, *[node for node in cluster.running() if node is not leader])
