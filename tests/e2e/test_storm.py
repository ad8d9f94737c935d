# SPDX-License-Identifier: Apache-2.0
"""Nodes of one site that all begin with nothing: one takes a snapshot, or the log, from the other
site, and the others have it from that one."""
import concurrent.futures

import pytest

from qs_cluster import wait_for
from test_bootstrap import SHORT, Background, Writes, builds, check

COUNT = 6
ROOT = {"snapshots_max": COUNT}


def site(cluster, root, told_of_all=True, **options):
    """The nodes of a site, each with the root last on its list."""
    nodes = [cluster.replica(f"node{i}", root, **options) for i in range(COUNT)]
    for node in nodes:
        node.configure(site="east")
        if told_of_all:
            others = [other for other in nodes if other is not node]
            node.instances["main"]["parents"] = [*others, root]
    return nodes


def start_all(nodes):
    for node in nodes:
        node.launch()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        list(pool.map(lambda node: wait_for(node.is_ready, 120, f"{node.name} to serve"), nodes))


def settle(cluster, writes, nodes):
    cluster.check_equal()
    for node in nodes:
        check(node, writes.model)


def filled(cluster, seed):
    root = cluster.root(**ROOT, **SHORT)
    root.configure(site="west", repair_max=COUNT)
    root.start()
    writes = Writes(root, seed)
    writes.put(2000)
    return root, writes


def taken(root, nodes):
    """How many whole snapshots the root has given."""
    whole = max(node.metrics("main")["build_bytes"] for node in nodes)
    return root.metrics("main")["snapshot_bytes"] / whole


def test_a_site_takes_one_snapshot(cluster):
    root, writes = filled(cluster, 31)
    writes.until_forgotten()
    nodes = site(cluster, root, **SHORT)
    background = Background(writes)
    background.start()
    start_all(nodes)
    wait_for(lambda: all(builds(node) == 1 for node in nodes), 120, "the snapshots")
    background.end()
    settle(cluster, writes, nodes)
    assert taken(root, nodes) < 1.5
    assert root.metrics("main")["snapshots_put_off"] > 0


def test_who_knows_only_the_root_is_sent_on(cluster):
    root, writes = filled(cluster, 32)
    writes.until_forgotten()
    nodes = site(cluster, root, told_of_all=False, **SHORT)
    start_all(nodes)
    settle(cluster, writes, nodes)
    assert taken(root, nodes) < 1.5


@pytest.mark.long
def test_the_one_that_was_given_to_dies(cluster):
    """It does not come back: another one takes its place."""
    root, writes = filled(cluster, 33)
    writes.until_forgotten()
    root.stop()
    root.instances["main"]["snapshot_rate"] = "200KB"
    root.start()
    nodes = site(cluster, root, **SHORT)
    for node in nodes:
        node.launch()

    for node in nodes:
        wait_for(lambda node=node: "ready" in node.tail(), 30, f"{node.name} to start")

    def first():
        given = [node for node in nodes if node.metrics("main")["build_slices"] > 0]
        return given and given[0]

    holder = wait_for(first, 30, "one to be given slices")
    holder.kill()
    left = [node for node in nodes if node is not holder]
    wait_for(lambda: root.metrics("main")["snapshots"] == 0, 30, "the link to be lost")
    wait_for(lambda: all(builds(node) == 1 for node in left), 120, "the snapshots")
    settle(cluster, writes, left)
    assert taken(root, left) < 1.9, "one, and what the dead one was given"


def test_the_log_goes_to_a_site_once(cluster):
    """Nothing is forgotten: the log alone leads on, and much of it is sent to one node. Nobody
    knows of that one but from the root."""
    root = cluster.root(snapshots_max=0)
    root.configure(site="west")
    root.start()
    writes = Writes(root, 34)
    writes.put(12000, 100)
    nodes = site(cluster, root, told_of_all=False)
    start_all(nodes)
    settle(cluster, writes, nodes)
    assert root.metrics("main")["children_sent_on"] > 0
    last = root.index()
    sent = root.metrics("main")["child_bytes"]
    whole = sum(path.stat().st_size for path in nodes[0].journal_files("main"))
    assert last > 10000 and sent < 2 * whole
