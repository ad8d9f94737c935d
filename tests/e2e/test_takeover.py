# SPDX-License-Identifier: Apache-2.0
"""Roots that ask a real Consul who leads: one is lost, another takes over, nothing that was
acknowledged is gone."""
import os
import shutil
import signal
import threading
import time
import urllib.error

import pytest

from consul import Consul
from qs_cluster import qs, wait_for
from resp import RespError

HERE = "127.0.0.1"
TAKEOVERS = int(os.environ.get("TAKEOVERS", 3))


@pytest.fixture
def agent(tmp_path):
    made = Consul(tmp_path)
    made.start()
    yield made
    made.stop()


def configured_roots(cluster, agent, names="abc", **options):
    """Roots of `main` that are not started."""
    given = {"role": "root", "commit_wait": "3s", "in_sync_min": min(2, len(names) - 1)} | options
    where = {"http": agent.http, "dns": agent.dns}
    nodes = [cluster.node(name, {"main": dict(given)}, consul=where) for name in names]
    for node in nodes:
        node.instances["main"]["roots"] = [f"{each.name}@{each.peer}" for each in nodes]
        # What a user would have.
        node.configure(heartbeat="500ms", silence="2s", reconnect="1s")
    return nodes


def make_roots(cluster, agent, names="abc", **options):
    """Started roots of `main`, of which one leads."""
    nodes = configured_roots(cluster, agent, names, **options)
    for node in nodes:
        node.launch()
    for node in nodes:
        node.wait_ready()
    await_leader(nodes)
    return nodes


def part(node):
    try:
        return node.place()["roots"]["part"]
    except (OSError, ConnectionError, RuntimeError):
        return "away"


def await_leader(nodes, seconds=40):
    """The one that leads and takes writes."""

    def leads():
        found = [node for node in nodes if node.process and part(node) == "leader"]
        return next((node for node in found if isinstance(put(node, "leads", "1"), int)), None)

    return wait_for(leads, seconds, "a root to lead")


def put(node, key, value):
    try:
        with node.raw() as conn:
            return conn.call("QS.PUT", key, value)
    except (OSError, ConnectionError) as fault:
        return fault


def in_sync(leader):
    return leader.place()["roots"]["in_sync"] or []


def knows_that_it_counts(node):
    """By its promise; the record says so before, and a root that dies between does not know it."""
    return b"blank no" in (node.data / "main" / "promise").read_bytes()


def await_whole(roots, count=3):
    """Until the record names all of them, and they know; returns the one that leads."""

    def whole():
        leader = await_leader(roots)
        named = in_sync(leader)
        told = all(knows_that_it_counts(node) for node in roots if node.name in named)
        return leader if len(named) == count and told else None

    return wait_for(whole, 60, "all to be in sync")


def record(agent):
    try:
        return agent.get("/v1/kv/qs/main/record?raw")
    except urllib.error.HTTPError:
        return {}


def word(reply):
    return reply.word if isinstance(reply, RespError) else None


class Writers:
    """Write through all roots, each to whoever takes it, and keep what was acknowledged."""

    def __init__(self, roots, threads=3):
        self.roots, self.acknowledged, self.words = roots, {}, set()
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(n,)) for n in range(threads)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()

    def run(self, own):
        number, at, conn = 0, own, None
        while not self.over.is_set():
            number += 1
            key = f"w{own}-{number}"
            try:
                conn = conn or self.roots[at % len(self.roots)].raw(timeout=2.5)
                reply = conn.call("QS.PUT", key, str(number))
            except (OSError, ConnectionError):
                conn, at = None, at + 1
                self.over.wait(0.01)
                continue
            if isinstance(reply, int):
                self.acknowledged[key] = (number, reply)
            else:
                self.words.add(word(reply))
                conn.close()
                conn, at = None, at + 1
                self.over.wait(0.005)

    def await_more(self, count=20, seconds=40):
        """Until so many more writes are acknowledged; returns how long that took."""
        begun, before = time.monotonic(), len(self.acknowledged)
        wait_for(lambda: len(self.acknowledged) >= before + count, seconds, "writes to go on")
        return time.monotonic() - begun

    def check(self, *nodes):
        """Each node has each of them, and no index was given twice."""
        keys = list(self.acknowledged)
        indexes = [index for _, index in self.acknowledged.values()]
        assert len(set(indexes)) == len(indexes), "two writes at one index"
        for node in nodes:
            with node.raw() as conn:
                for first in range(0, len(keys), 500):
                    some = keys[first : first + 500]
                    found = conn.call("MGET", *some)
                    lost = [key for key, value in zip(some, found)
                            if value != str(self.acknowledged[key][0]).encode()]
                    assert not lost, f"{node.name} lacks {lost}"
        assert self.words <= {"UNKNOWN", "READONLY", "LOADING", "ERR"}, self.words


class Watcher:
    """Looks at what nodes show, which never goes back."""

    def __init__(self, *nodes):
        self.nodes, self.faults, self.over = nodes, [], threading.Event()
        self.shown = {}
        self.thread = threading.Thread(target=self.run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def run(self):
        while not self.over.wait(0.01):
            for node in self.nodes:
                try:
                    index = node.index()
                except (OSError, ConnectionError, RuntimeError):
                    continue
                if index < self.shown.get(node.name, 0):
                    self.faults.append((node.name, self.shown[node.name], index))
                self.shown[node.name] = index

    def forget(self, node):
        """It is down, and begins anew."""
        self.shown.pop(node.name, None)

    def check(self):
        assert not self.faults, self.faults


def check_equal(cluster, roots):
    leader = await_leader(roots)
    cluster.check_equal(leader, *[node for node in cluster.running() if node is not leader])


def follows(node, leader):
    return lambda: part(node) == "standby" and node.place()["roots"]["leader"] == leader.name


def test_a_leader_is_killed(cluster, agent):
    roots = make_roots(cluster, agent)
    leader = await_whole(roots)
    index = leader.call("QS.PUT", "key", "value")
    others = [node for node in roots if node is not leader]
    for node in others:
        node.wait_index(index)
    leader.kill()
    begun = time.monotonic()
    second = await_leader(others)
    print(f"a new leader after {time.monotonic() - begun:.2f} s")
    assert second.call("GET", "key") == b"value"
    leader.start()
    wait_for(follows(leader, second), 30, "the old one to follow")
    check_equal(cluster, roots)
    tags = {node: sorted(row[0]) for node, row in agent.passing("qs-main").items()}
    wanted = {node.name: ["replica", "root" if node is second else "standby"] for node in roots}

    def tagged():
        tags = {node: set(row[0]) for node, row in agent.passing("qs-main").items()}
        return all(set(words) <= tags.get(node, set()) for node, words in wanted.items())

    wait_for(tagged, 30, f"Consul to list {wanted}, not {tags}")


@pytest.mark.limit(120 + 20 * TAKEOVERS)
def test_leaders_killed_under_load(cluster, agent):
    """Again and again: no acknowledged write is lost, no child goes back."""
    roots = make_roots(cluster, agent)
    child = cluster.node(
        "child", {"main": {"role": "replica", "parents": [node.peer for node in roots]}}
    ).start()
    times = []
    with Writers(roots) as writers, Watcher(child, *roots) as watcher:
        for _ in range(TAKEOVERS):
            writers.await_more()
            leader = await_whole(roots)
            leader.kill()
            times.append(writers.await_more(1))
            writers.await_more()
            leader.start()
            await_whole(roots)
    check_equal(cluster, roots)
    writers.check(child, *roots)
    watcher.check()
    times.sort()
    print(f"{len(writers.acknowledged)} writes acknowledged, {TAKEOVERS} leaders killed; writes go "
          f"on after {times[len(times) // 2]:.2f} s, at most {times[-1]:.2f} s")


def test_a_frozen_leader_commits_nothing(cluster, agent):
    roots = make_roots(cluster, agent)
    with Writers(roots) as writers, Watcher(*roots) as watcher:
        writers.await_more()
        leader = await_whole(roots)
        others = [node for node in roots if node is not leader]
        leader.process.send_signal(signal.SIGSTOP)
        replies = []
        late = threading.Thread(target=lambda: replies.append(put(leader, "late", "1")))
        late.start()
        print(f"writes go on after {writers.await_more(1):.2f} s")
        second = await_leader(others)
        leader.process.send_signal(signal.SIGCONT)
        late.join()
        assert not isinstance(replies[0], int), "a deposed leader acknowledged a write"
        wait_for(follows(leader, second), 40, "the old one to follow")
        assert word(put(leader, "late", "2")) == "READONLY"
        writers.await_more()
    check_equal(cluster, roots)
    writers.check(*roots)
    watcher.check()


def test_a_hand_over(cluster, agent):
    roots = make_roots(cluster, agent)
    with Writers(roots) as writers, Watcher(*roots) as watcher:
        for _ in range(4):
            leader = await_whole(roots)
            heir = next(node for node in roots if node is not leader)
            writers.await_more()
            begun = time.monotonic()
            code, _, errors = qs("-s", heir.socket, "promote")
            assert code == 0, errors
            print(f"handed over after {time.monotonic() - begun:.2f} s")
            writers.await_more()
    assert writers.words <= {"READONLY"}, "the outcome of a write was unknown"
    check_equal(cluster, roots)
    writers.check(*roots)
    watcher.check()


def test_a_leader_is_stopped(cluster, agent):
    """An orderly end hands over first: writes go on at once, and the outcome of none is unknown."""
    roots = make_roots(cluster, agent)
    with Writers(roots) as writers, Watcher(*roots) as watcher:
        for _ in range(2):
            leader = await_whole(roots)
            writers.await_more()
            leader.stop()
            print(f"writes go on {writers.await_more(1):.2f} s after the leader's end")
            leader.start()
        writers.await_more()
    assert "UNKNOWN" not in writers.words
    check_equal(cluster, roots)
    writers.check(*roots)
    watcher.check()


def test_without_consul_writes_go_on(cluster, agent):
    roots = make_roots(cluster, agent)
    leader = await_whole(roots)
    agent.stop()
    with Writers(roots) as writers:
        writers.await_more(200)
        time_over = time.monotonic() + 6  # longer than any health check lasts
        wait_for(lambda: time.monotonic() > time_over, 20, "time to pass")
        writers.await_more(200)
        assert part(leader) == "leader"
        # It comes back empty: the leader writes the record anew, and a standby may take over again.
        agent.start()
        wait_for(lambda: agent.passing("qs-main").keys() == {"a", "b", "c"}, 60, "all to be there")
        wait_for(lambda: record(agent).get("leader") == leader.name, 60, "the record to be written")
        leader.kill()
        writers.await_more()
    leader.start()
    check_equal(cluster, roots)
    writers.check(*roots)


@pytest.mark.long
def test_outside_the_set(cluster, agent):
    """Who lacks what is committed does not lead, whatever Consul says of the others' health."""
    roots = make_roots(cluster, agent)
    leader = await_whole(roots)
    second, third = [node for node in roots if node is not leader]
    third.kill()
    wait_for(lambda: isinstance(put(leader, "key", "value"), int), 40, "the third to be left out")
    left = sorted([leader.name, second.name])
    wait_for(lambda: in_sync(leader) == left, 10, "the leader to say so")
    leader.kill()
    second.kill()
    third.start()
    critical = lambda: not agent.passing("qs-main").keys() - {third.name}
    wait_for(critical, 40, "the others to be critical")
    over = time.monotonic() + 5
    wait_for(lambda: time.monotonic() > over, 20, "it to have the time")
    assert part(third) == "standby"
    assert word(put(third, "key", "other")) == "READONLY"
    code, _, errors = qs("-s", third.socket, "promote", "--wait", 3000)
    assert code != 0, errors
    second.start()
    assert await_leader([second, third]) is second
    assert second.call("GET", "key") == b"value"
    third.wait_index(second.index())
    leader.start()
    check_equal(cluster, roots)


def test_a_new_disk(cluster, agent):
    """A root that begins anew in an empty directory, the leader of before, too."""
    roots = make_roots(cluster, agent)
    with Writers(roots) as writers, Watcher(*roots) as watcher:
        for part_of in ("standby", "leader"):
            leader = await_whole(roots)
            writers.await_more()
            node = next(node for node in roots if (node is leader) == (part_of == "leader"))
            node.kill()
            shutil.rmtree(node.data / "main")
            watcher.forget(node)
            node.start()
            writers.await_more(1)
            assert await_whole(roots) is not node
        writers.await_more()
    check_equal(cluster, roots)
    writers.check(*roots)
    watcher.check()


def test_one_root_becomes_one_of_three(cluster, agent):
    roots = configured_roots(cluster, agent)
    first = roots[0]
    several = first.instances["main"].pop("roots")
    first.start()
    for number in range(20):
        first.call("QS.PUT", f"k{number}", str(number))
    first.stop()
    first.instances["main"]["roots"] = several
    for node in roots:
        node.start()
    assert await_whole(roots) is first
    check_equal(cluster, roots)
    first.kill()
    second = await_leader(roots[1:])
    assert second.call("MGET", "k0", "k19") == [b"0", b"19"]
    first.start()
    check_equal(cluster, roots)


@pytest.mark.parametrize("name", ["promise", "commit"])
def test_a_lost_file(cluster, agent, name):
    """A root that does not know what it has promised, or what is committed, takes no part."""
    roots = make_roots(cluster, agent)
    leader = await_whole(roots)
    node = next(node for node in roots if node is not leader)
    node.kill()
    (node.data / "main" / name).unlink()
    node.launch()
    wait_for(lambda: node.process.poll() is not None, 30, "the root to refuse")
    assert node.process.returncode != 0
    node.process = None
    assert f"/{name} is missing" in node.tail()
    shutil.rmtree(node.data / "main")
    node.start()
    await_whole(roots)
    check_equal(cluster, roots)
