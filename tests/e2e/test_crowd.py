# SPDX-License-Identifier: Apache-2.0
"""A small crowd (crowd.py): one tree, every mark seen by all, and a child that reads nothing."""
import crowd
from qs_cluster import wait_for

COUNT = 8
MIB = 1 << 20


def test_a_tree_by_itself(cluster, say):
    root, nodes = crowd.build(cluster, COUNT, 3)
    for node in (root, nodes[0], nodes[-1]):
        wait_for(lambda: len(crowd.parents(node)) == COUNT + 1, 60, "one tree")
    tree = crowd.parents(nodes[-1])
    assert tree["root"] is None and max(crowd.depths(tree).values()) <= COUNT
    assert sum(count > 0 for count in crowd.fanouts(tree).values()) > 1, "the root feeds all"
    done, seen, cpu = crowd.load(root, nodes, 200, 3)
    assert done["answered"] == done["sent"] == 600
    assert {name: len(each) for name, each in seen.items()} == dict.fromkeys(tree, done["marks"])
    cluster.check_equal()
    values = [ms for each in seen.values() for ms in each]
    say(f"depth {max(crowd.depths(tree).values())}, propagation p50 {crowd.at(values, 0.5):.1f} "
        f"ms, p99 {crowd.at(values, 0.99):.1f} ms, CPU {100 * sum(cpu.values()):.0f} % of a core")


def test_a_child_that_reads_nothing(cluster, say):
    root = cluster.root(node=dict(crowd.LEAST), **crowd.SMALL).start()
    stalled = crowd.stall(root, 3, 50, 256 << 10)
    assert stalled["bytes"] > 30 * MIB, "nothing waited for the child"
    assert stalled["beside"] < stalled["alone"] + stalled["bytes"] // 2
    say(f"{stalled['bytes'] // MIB} MiB waited, its parent grew by {stalled['beside'] / MIB:.1f} "
        f"MiB, by {stalled['alone'] / MIB:.1f} without it")
