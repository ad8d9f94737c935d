# SPDX-License-Identifier: Apache-2.0
"""What goes wrong in the field, and when: a list of faults from a seed, and the player of it.

Faults overlap. What a link does follows from all faults that are in force, so that the end of one
does not end another; a host suffers one fault at a time. Where there are several roots some faults
strike whichever leads at that moment; from its clients and from children elsewhere it is not cut.
"""
import dataclasses
import os
import random
import signal
import threading
import time
from typing import NamedTuple

from tree import RECORD, ROOTS

FAULTS = 6, 12  # of a schedule
BEGIN_MS, LASTS_MS = 6000, (200, 7000)
LEADER_FAULTS, LEADER_LASTS_MS = (1, 2), (1500, 7000)

# What a fault changes on the links that it strikes.
LINK_KINDS = {
    "cut": {"cut": True},
    "slow": {"delay_ms": 250, "jitter_ms": 100},
    "lossy": {"loss": 0.05},
    "narrow": {"rate": 40_000},
}
# Which links: all of a site, one direction of them, or those between a site and another one.
REACHES = "uplink", "outward", "inward", "between", "from-to"
# ... or those between the leader's site and all that decide who leads: both ways, or one.
LEADER_REACHES = "between", "between", "from-to", "to-from"
LEADER = "leader"
HOST_KINDS = "kill", "restart", "freeze", "unplug"


class Fault(NamedTuple):
    begin_ms: int
    end_ms: int
    kind: str
    where: tuple  # a host's name, or a reach, a site, and others; LEADER for a name

    def __str__(self):
        return f"{self.begin_ms}-{self.end_ms} {self.kind} {' '.join(self.where)}"

    def strikes(self, pair):
        """Whether this is a fault of the link."""
        start, end = pair
        reach, a, *b = self.where if self.kind in LINK_KINDS else ("none", None)
        return {
            "none": False,
            "uplink": a in pair,
            "outward": a == start,
            "inward": a == end,
            "between": a in pair and (start in b or end in b),
            "from-to": a == start and end in b,
            "to-from": a == end and start in b,
        }[reach]


def fault_times(rng, limits=LASTS_MS):
    """As many last for less than the geometric mean of the limits as for more."""
    begin, (least, most) = rng.randrange(BEGIN_MS), limits
    return begin, begin + int(least * (most / least) ** rng.random())


def link_fault(rng, sites):
    reach = rng.choice(REACHES)
    struck = rng.sample(sites, 2 if reach in ("between", "from-to") else 1)
    kind = rng.choice([*LINK_KINDS, "cut", "cut"])
    return Fault(*fault_times(rng), kind, (reach, *struck))


def leader_fault(rng):
    times = fault_times(rng, LEADER_LASTS_MS)
    if rng.random() < 0.6:
        return Fault(*times, "cut", (rng.choice(LEADER_REACHES), LEADER))
    return Fault(*times, rng.choice(HOST_KINDS), (LEADER,))


def host_fault(rng, hosts):
    return Fault(*fault_times(rng), rng.choice(HOST_KINDS), (rng.choice(hosts),))


def flapping(fault, rng):
    """The same fault, in force and not in force by turns."""
    moments = [fault.begin_ms]
    while moments[-1] < fault.end_ms:
        moments.append(moments[-1] + rng.randrange(50, 800))
    return [
        fault._replace(begin_ms=begin, end_ms=end)
        for begin, end in zip(moments[::2], moments[1::2])
    ]


def overlaps(fault, others):
    return any(
        fault.where == other.where and fault.begin_ms <= other.end_ms
        and other.begin_ms <= fault.end_ms
        for other in others
    )


def make(seed, hosts, several):
    """The faults of a seed, by their beginning; each cut of a link that flaps counts as one."""
    rng = random.Random(f"field {seed}")
    names, sites = [host.name for host in hosts], sorted({host.site for host in hosts})
    faults = [leader_fault(rng) for _ in range(rng.randint(*LEADER_FAULTS) if several else 0)]
    for _ in range(rng.randint(*FAULTS) - len(faults)):
        fault = link_fault(rng, sites) if rng.random() < 0.5 else host_fault(rng, names)
        flaps = fault.kind == "cut" and rng.random() < 0.25
        if not overlaps(fault, faults):
            faults += flapping(fault, rng) if flaps else [fault]
    return sorted(faults)


def strike(field, fault):
    """A fault of a host, or of the daemon or Consul server that runs there, begins."""
    name = fault.where[0]
    if fault.kind == "unplug":
        field.net.unplug(name)
    elif fault.kind == "freeze":
        os.kill(field.program(name).process.pid, signal.SIGSTOP)
    elif fault.kind == "kill" and name in field.nodes:
        field.program(name).kill()
    else:
        field.program(name).stop()


def relieve(field, fault):
    """... and ends."""
    name = fault.where[0]
    if fault.kind == "unplug":
        field.net.plug(name)
    elif fault.kind == "freeze":
        os.kill(field.program(name).process.pid, signal.SIGCONT)
    else:
        field.program(name).launch()


def shape_links(net, active):
    shapes = dict(net.normal)
    for fault in active:
        for pair in filter(fault.strikes, shapes):
            shapes[pair] = dataclasses.replace(shapes[pair], **LINK_KINDS[fault.kind])
    net.set(shapes)


def aim(fault, leader):
    """The fault with what it strikes by name, now that it is known who leads."""
    if LEADER not in fault.where:
        return fault
    if fault.kind in LINK_KINDS:
        others = {*ROOTS, RECORD} - {leader.host.site}
        return fault._replace(where=(fault.where[0], leader.host.site, *sorted(others)))
    return fault._replace(where=(leader.name,))


def play(field, faults, leader):
    """Lets it all happen; returns when the last fault has ended. `leader()` is the root that leads
    as far as its clients know."""
    moments = [(fault.begin_ms, True, fault) for fault in faults]
    moments += [(fault.end_ms, False, fault) for fault in faults]
    began, active, pause = time.monotonic(), {}, threading.Event()
    for at_ms, begins, fault in sorted(moments):
        pause.wait(max(began + at_ms / 1000 - time.monotonic(), 0))
        if begins:
            aimed = aim(fault, leader())
            suffers = [other.where for other in active.values() if other.kind in HOST_KINDS]
            if aimed.where in suffers:
                continue  # the leader is down already, or is about to be struck otherwise
            active[fault] = aimed
        elif fault in active:
            aimed = active.pop(fault)
        else:
            continue
        if aimed.kind in LINK_KINDS:
            shape_links(field.net, active.values())
        else:
            (strike if begins else relieve)(field, aimed)
