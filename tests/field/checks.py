# SPDX-License-Identifier: Apache-2.0
"""What must hold of a field once nothing is wrong any more."""
import collections
import time

from qs_cluster import triples, wait_for
from resp import RespError
from test_pipeline import HOT, cold, hot

SETTLE_S = 60  # in which digests must be equal, and then every read be answered
# Never counted, whatever the network did.
NEVER = ("digest_mismatches", "walk_mismatches", "walk_failures", "reads_corrupt",
         "parent_bad_blocks", "fetch_bad", "fetch_never", "builds")


def all_equal(field):
    """Whether every node shows the root's newest index with its digest."""
    for node in field.nodes.values():
        node.check_alive()
    try:
        first, *others = field.nodes.values()
        digest = first.digest()
        return all(node.digest() == digest for node in others)
    except (OSError, RuntimeError):  # still loading
        return False


def reads_everything(node, model):
    """Whether the leaf answers for all these keys; then it must be right."""
    keys = [name(i) for i in range(HOT) for name in (hot, cold)]
    with node.raw() as conn:
        reply = conn.call("QS.MGET", *keys)
    if isinstance(reply, RespError):
        return False
    wanted = [(model.value(k, model.last), model.version(k, model.last)) for k in keys]
    assert [row[:2] for row in triples(reply)] == wanted, node.name
    return True


def settle(field, load):
    """Seconds from now, while nothing is written, until digests are equal, and all is served."""
    began = time.monotonic()
    wait_for(lambda: load.is_whole() and all_equal(field), SETTLE_S, "equal digests")
    equal_s = time.monotonic() - began
    load.learn()
    leaves = field.leaves()
    wait_for(lambda: all(reads_everything(n, load.model) for n in leaves), SETTLE_S, "every read")
    return equal_s, time.monotonic() - began


def check_nodes(field, model):
    """Counters of what must not happen, and each store walked against the log."""
    counts = collections.Counter()
    for node in field.nodes.values():
        index, scanned = node.call("QS.DIGEST", "SCAN")[:2]
        assert (index, scanned.decode()) == node.digest(), f"{node.name}: its store is another"
        assert index == model.last and node.call("DBSIZE") == model.count(index), node.name
        metrics = node.metrics("main")
        bad = {name: metrics[name] for name in NEVER if metrics.get(name)}
        assert not bad, f"{node.name}: {bad}"
        counts["parents lost"] += int(metrics["parent_lost"])
        counts["values fetched"] += int(metrics.get("fetch_sent", 0))
    return counts
