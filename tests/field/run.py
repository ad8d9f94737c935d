# SPDX-License-Identifier: Apache-2.0
"""`make field`: schedules of faults on the tree of tree.py, each from a seed, a line for each.

FIELD_SEEDS=1..10 or one number. The seed also says how nodes find each other: one in four has lists,
the others Consul, whose servers suffer like everything else. A schedule passes when every answer can be explained (load.py),
all digests become equal after the last fault has ended, every store is what its log says, every
leaf then answers every read, and every daemon ends in order. What a failed one left stays below
build/field/. Exit code 1 when a schedule failed, 2 when the field could not be made.
"""
import collections
import contextlib
import faulthandler
import os
import pathlib
import shutil
import sys
import time
import traceback

import pytest

import consul
import schedule
import wan
from load import HOT, Session, Writer
from net import NoField
from qs_cluster import QSD, ROOT, SLOW, triples, wait_for
from resp import RespError
from test_pipeline import cold, hot
from tree import CENTRES, Field, make_net

LISTS_EVERY = 4  # in one schedule of so many nodes are given lists
LIMIT_S = 240  # of one schedule
SETTLE_S = 60  # in which digests must be equal, and then every read be answered
# Never counted, whatever the network did.
NEVER = ("digest_mismatches", "walk_mismatches", "walk_failures", "reads_corrupt",
         "parent_bad_blocks", "fetch_bad", "fetch_never", "builds")


def seeds(text):
    first, _, last = text.partition("..")
    return range(int(first), int(last or first) + 1)


def all_equal(field):
    """Whether every node shows the root's newest index with its digest."""
    for node in field.nodes.values():
        node.check_alive()
    try:
        return len({node.digest() for node in field.nodes.values()}) == 1
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


def settle(field, model):
    """Seconds from now, when nothing is written, until digests are equal, and until all is served."""
    began = time.monotonic()
    wait_for(lambda: all_equal(field), SETTLE_S, "equal digests")
    equal_s = time.monotonic() - began
    leaves = field.leaves()
    wait_for(lambda: all(reads_everything(n, model) for n in leaves), SETTLE_S, "every read")
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


def run(field, seed, faults):
    """Plays one schedule; returns (seconds until equal, what to say about it)."""
    writer, leaves = Writer(field.nodes["root"], seed), field.leaves()
    sessions = [Session(leaf, leaves, seed) for leaf in leaves]
    field.launch_all()
    writer.fill()
    _, formed_s = settle(field, writer.model)
    for thread in (writer, *sessions):
        thread.start()
    try:
        schedule.play(field, faults)
        writer.finish()
        equal_s, served_s = settle(field, writer.model)
    finally:
        for thread in (writer, *sessions):
            thread.stop.set()
    for session in sessions:
        session.finish()
    counts = check_nodes(field, writer.model)
    roles = {node.name: node.instances["main"]["role"] for node in leaves}
    errors = sum((s.check(writer.model, roles) for s in sessions), collections.Counter())
    field.close()
    told = {
        "writes": writer.model.last,
        "answers": sum(len(s.answers) for s in sessions),
        "moves": sum(s.moves for s in sessions),
        **counts,
        **errors,
    }
    told = ", ".join(f"{count:,} {what}" for what, count in told.items())
    healed = f"equal after {equal_s:.1f} s, all served after {served_s:.1f} s"
    return equal_s, f"formed after {formed_s:.1f} s; {len(faults)} faults, {healed}; {told}"


def complain(field, seed, faults):
    """What a person needs to go on from, here or where nothing but this output is left."""
    for node in field.nodes.values():
        print(node.tail(15))
    print("\n".join(f"  {fault}" for fault in faults))
    traceback.print_exc(file=sys.stdout)
    print(f"seed {seed}: FAILED, see {field.directory}; again: make field FIELD_SEEDS={seed}",
          flush=True)


def run_seed(net, seed, has_consul):
    """Prints the line of a seed; seconds until all were equal, None when it failed."""
    directory = ROOT / "build/field" / f"{os.getpid()}-{seed}"
    sites = CENTRES if has_consul and seed % LISTS_EVERY != 0 else ()
    with wan.running(net, sites, directory) as servers:
        field = Field(directory, net, servers)
        hosts = [*field.nodes, *(server.host.name for server in servers.values())]
        faults = schedule.make(seed, hosts)
        faulthandler.dump_traceback_later(LIMIT_S * SLOW, exit=True)
        try:
            equal_s, said = run(field, seed, faults)
        except Exception:
            complain(field, seed, faults)
            return None
        finally:
            faulthandler.cancel_dump_traceback_later()
            field.abandon()
            net.reset()
    print(f"seed {seed}: {'Consul' if sites else 'lists'}, {said}", flush=True)
    shutil.rmtree(directory)
    return equal_s


def find_consul():
    """Whether the program is there; without it every schedule has lists, which is said."""
    try:
        return bool(consul.program())
    except pytest.skip.Exception as why:
        print(f"every node is given lists of the others: {why}", flush=True)
        return False


def main(arguments):
    wanted = seeds(arguments[0])
    try:
        with contextlib.closing(make_net()) as net:
            has_consul = find_consul()
            equal_s = {seed: run_seed(net, seed, has_consul) for seed in wanted}
    except NoField as fault:
        print(fault, file=sys.stderr)
        return 2
    failed = [seed for seed, seconds in equal_s.items() if seconds is None]
    slowest = max((seconds for seconds in equal_s.values() if seconds is not None), default=0)
    print(f"{len(wanted)} schedules, equal after {slowest:.1f} s at most, {len(failed)} failed",
          *failed)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
