# SPDX-License-Identifier: Apache-2.0
"""`make field`: schedules of faults on the tree of tree.py, each from a seed, a line for each.

FIELD_SEEDS=1..10 or one number; 3..200/4 is every fourth. The seed also says how nodes find each
other: one in four has lists, the others Consul, whose servers suffer like everything else; and one
in three of those has three roots, whoever leads being struck besides. A schedule passes when every
answer can be explained (load.py, roots.py), all digests become equal after the last fault has
ended, every store is what its log says, every leaf then answers every read, and every daemon ends
in order. What a failed one left stays below build/field/. After FIELD_SECONDS, where that is set,
none is begun any more. Exit code 1 when a schedule failed, 2 when the field could not be made.
"""
import contextlib
import faulthandler
import os
import shutil
import sys
import time
import traceback

import pytest

import consul
import schedule
import wan
from checks import check_nodes, settle
from net import NoField
from qs_cluster import ROOT, SLOW
from roots import load_of
from tree import CENTRES, Field, make_net

KINDS = "lists", "Consul", "roots", "Consul"  # of a schedule, by its seed
LIMIT_S = 240  # of one schedule
SECONDS = float(os.environ.get("FIELD_SECONDS", "inf"))


def seeds(text):
    text, _, step = text.partition("/")
    first, _, last = text.partition("..")
    return range(int(first), int(last or first) + 1, int(step or 1))


def run(field, seed, faults):
    """Plays one schedule; returns (seconds until equal, what to say about it)."""
    load = load_of(field, seed)
    field.launch_all()
    load.fill()
    _, formed_s = settle(field, load)
    with load:
        schedule.play(field, faults, load.leader)
        load.end_writes()
        equal_s, served_s = settle(field, load)
    counts = {"writes": load.model.last, **check_nodes(field, load.model), **load.check()}
    field.close()
    told = ", ".join(f"{count:,} {what}" for what, count in counts.items())
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
    kind = KINDS[seed % len(KINDS)] if has_consul else "lists"
    with wan.running(net, () if kind == "lists" else CENTRES, directory) as servers:
        field = Field(directory, net, servers, several=kind == "roots")
        hosts = [net.hosts[name] for name in field.nodes if name in net.hosts]
        hosts += [server.host for server in servers.values()]
        faults = schedule.make(seed, hosts, bool(field.roots))
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
    print(f"seed {seed}: {kind}, {said}", flush=True)
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
            has_consul, until, equal_s = find_consul(), time.monotonic() + SECONDS, {}
            for seed in wanted:
                if time.monotonic() < until:
                    equal_s[seed] = run_seed(net, seed, has_consul)
    except NoField as fault:
        print(fault, file=sys.stderr)
        return 2
    failed = [seed for seed, seconds in equal_s.items() if seconds is None]
    slowest = max((seconds for seconds in equal_s.values() if seconds is not None), default=0)
    played = f"{len(equal_s)} of {len(wanted)}"
    print(f"{played} schedules, equal after {slowest:.1f} s at most, {len(failed)} failed",
          *failed)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
