# SPDX-License-Identifier: Apache-2.0
"""Ten instances in mixed roles, in one process and in ten: memory and threads while idle."""
import os
import pathlib
import time

from qs_cluster import wait_for

NAMES = [f"i{n}" for n in range(10)]
ROLES = ["root"] * 4 + ["replica"] * 3 + ["proxy"] * 3


def options(name, role, root):
    if role == "root":
        return {"role": role, "number": NAMES.index(name)}
    given = {"role": role, "number": NAMES.index(name), "parents": [root]}
    return given | ({"replicas": [root]} if role == "proxy" else {})


def idle_cpu(nodes):
    ticks = 0
    for node in nodes:
        stat = pathlib.Path(f"/proc/{node.process.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(stat[11]) + int(stat[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def show(say, what, nodes, count):
    memory = [node.memory() for node in nodes]
    rss, threads = sum(m for m, _ in memory), sum(t for _, t in memory)
    say(f"{what}: {rss / count / 2**20:.1f} MiB and {threads / count:.1f} threads an instance, "
        f"{rss / 2**20:.0f} MiB and {threads} threads in all")
    return rss, threads


def test_idle(cluster, say):
    source = cluster.node("source", {name: {"role": "root"} for name in NAMES}).start()
    show(say, "ten roots in one process", [source], 10)
    one = cluster.node(
        "one", {name: options(name, role, source) for name, role in zip(NAMES, ROLES)}
    ).start()
    rss, threads = show(say, "ten mixed instances in one process", [one], 10)
    ten = [
        cluster.node(f"ten{i}", {name: options(name, role, source)}).start()
        for i, (name, role) in enumerate(zip(NAMES, ROLES))
    ]
    show(say, "ten mixed instances in ten processes", ten, 10)
    for name, role in zip(NAMES, ROLES):
        if role != "root":
            index = source.call("QS.PUT", "a", "1", instance=name)
            one.wait_index(index, name)
            assert one.call("GET", "a", instance=name) == b"1"
    used, since = idle_cpu([one]), time.monotonic()
    wait_for(lambda: time.monotonic() > since + 2, 10, "two seconds of idleness")
    share = (idle_cpu([one]) - used) / (time.monotonic() - since)
    say(f"the one process, ten instances idle: {100 * share:.1f} % of a core")
    assert threads <= 10 * 2 + 40, "threads must not be a multiple of what instances need"
    assert rss < 2 << 30
