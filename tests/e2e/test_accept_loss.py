# SPDX-License-Identifier: Apache-2.0
"""Roots that are lost for good: a person has another history go on from what is left
(docs/commit.md, R15 to R18)."""
import pytest

from qs_cluster import qs, wait_for
from resp import RespError
from test_heal import token_of
from test_takeover import (agent, await_leader, await_whole, check_equal, make_roots,  # noqa: F401
                           part, record)


def accept(node, name="main", wait="20000"):
    return qs("-s", node.socket, "promote", "--accept-loss", name, "--wait", wait)


def accept_in_the_end(node):
    """Once it has found that nobody leads; returns what was said."""
    said = []

    def accepted():
        code, _, errors = accept(node)
        said.append(errors)
        return code == 0

    wait_for(accepted, 60, "the loss to be accepted")
    return said[-1]


def put_many(node, prefix, count=20):
    for number in range(count):
        node.call("QS.PUT", f"{prefix}{number}", prefix)


def history_of(node):
    return token_of(node).partition(":")[0]


def of_history(node, history):
    try:
        return history_of(node) == history
    except (OSError, ConnectionError, RuntimeError):
        return False


def set_aside(node):
    return list((node.data / "main" / "set-aside").glob("*.qsj"))


def make_child(cluster, roots):
    child = cluster.replica("child", roots[0])
    child.instances["main"]["parents"] = roots
    return child.start()


def leave_behind(roots):
    """One that is down while the others go on: (it, the leader, the third)."""
    leader = await_whole(roots)
    last, third = [node for node in roots if node is not leader]
    put_many(leader, "early")
    for node in (last, third):
        node.wait_index(leader.index())
    last.kill()
    wait_for(lambda: len(leader.place()["roots"]["in_sync"]) == 2, 40, "it to be dropped")
    put_many(leader, "late")
    third.wait_index(leader.index())
    return last, leader, third


@pytest.mark.long
@pytest.mark.limit(240)
def test_a_majority_is_lost(cluster, agent):  # noqa: F811
    roots = make_roots(cluster, agent)
    child = make_child(cluster, roots)
    leader = await_whole(roots)
    standby = next(node for node in roots if node is not leader)
    # Not while somebody leads, nor for another instance than was meant.
    before = history_of(leader)
    code, _, errors = accept(standby)
    assert code == 3 and b"a leader answers" in errors, errors
    assert accept(standby, "other")[0] == 3
    assert qs("-s", standby.socket, "promote", "--accept-loss")[0] == 2
    assert accept(leader)[0] == 0, "it leads: nothing is done"
    assert history_of(leader) == before
    last, leader, third = leave_behind(roots)
    child.wait_index(leader.index())
    token = token_of(child)
    leader.kill()
    third.kill()
    last.start()
    assert qs("-s", last.socket, "promote", "--wait", "3000")[0] == 1
    old = child.raw()
    assert old.call("GET", "late0") == b"late"
    assert b"no writes are taken yet" in accept_in_the_end(last)
    assert accept(last)[0] == 0, "asked twice, done once"
    history = history_of(last)
    assert history != before and record(agent)["history"] == history
    assert record(agent)["in_sync"] == [last.name]
    assert last.call("GET", "early0") == b"early" and last.call("GET", "late0") is None
    # The child shows what the new history never had; it takes that one's data.
    wait_for(lambda: of_history(child, history), 60, "the child to follow")
    assert child.call("GET", "late0") is None and child.call("GET", "early3") == b"early"
    reply = old.call("GET", "early3")
    assert isinstance(reply, RespError) and reply.word == "HISTORY" and old.closed()
    with child.raw() as conn:
        reply = conn.call("QS.WAITINDEX", token, "60000")
        assert isinstance(reply, RespError) and reply.word == "HISTORY", reply
    # One of the lost ones comes back: what it knew to be committed is kept aside, and it follows.
    third.start()
    wait_for(lambda: of_history(third, history), 60, "it to follow")
    assert set_aside(third), "what was acknowledged is not thrown away"
    assert third.call("GET", "late0") is None
    assert "had been committed" in third.log.read_text()
    assert await_leader([last, third]) is last
    last.call("QS.PUT", "new", "value")
    leader.start()
    assert await_whole(roots) is last
    assert set_aside(leader)
    check_equal(cluster, roots)
    assert {history_of(node) for node in (*roots, child)} == {history}
    # The new history's roots take over from each other as ever.
    last.kill()
    heir = await_leader([leader, third])
    assert heir.call("GET", "new") == b"value" and history_of(heir) == history
    last.start()
    await_whole(roots)
    check_equal(cluster, roots)


@pytest.mark.limit(180)
def test_what_can_be_reached_is_not_lost(cluster, agent):  # noqa: F811
    """All three would have to promise, and two are left: the one that is asked lags."""
    roots = make_roots(cluster, agent, promote_min=3, in_sync_min=1)
    last, leader, third = leave_behind(roots)
    leader.kill()
    last.start()
    before = history_of(third)
    accept_in_the_end(last)
    assert last.call("GET", "late7") == b"late"
    history = history_of(last)
    assert history != before
    wait_for(lambda: of_history(third, history), 60, "the other one to follow")
    last.call("QS.PUT", "new", "value")
    wait_for(lambda: len(last.place()["roots"]["in_sync"]) == 2, 60, "both to be in sync")
    assert third.call("GET", "late7") == b"late" and part(third) == "standby"
    leader.start()
    assert await_whole(roots) is last
    check_equal(cluster, roots)


@pytest.mark.limit(180)
def test_the_one_that_forked_ends(cluster, agent):  # noqa: F811
    """It is whole after a restart, and goes on once another one is there."""
    roots = make_roots(cluster, agent)
    last, leader, third = leave_behind(roots)
    leader.kill()
    third.kill()
    last.start()
    accept_in_the_end(last)
    history, index = history_of(last), last.index()
    last.kill()
    last.start()
    assert history_of(last) == history and last.index() == index
    assert last.call("GET", "early7") == b"early"
    third.start()
    leader.start()
    assert await_whole(roots) is last
    assert {history_of(node) for node in roots} == {history}, "it forked once"
    check_equal(cluster, roots)


def test_where_nobody_takes_over(cluster):
    """The only root, and one of several that ask no Consul."""
    only = cluster.root("only").start()
    first = cluster.node("a", {"main": {"role": "root", "roots": []}})
    first.instances["main"]["roots"] = [f"a@{first.peer}", "b@127.0.0.1:1"]
    first.start()
    before = history_of(only)
    for node in (only, first):
        with node.raw() as conn:
            reply = conn.call("QS.PROMOTE", "ACCEPT-LOSS", "main")
            assert isinstance(reply, RespError) and b"none of several roots" in reply, reply
            for odd in (["ACCEPT-LOSS"], ["ACCEPT-LOSS", "main", "x"], ["OTHER", "main"]):
                assert b"syntax error" in conn.call("QS.PROMOTE", *odd), odd
            assert b"another instance" in conn.call("QS.PROMOTE", "ACCEPT-LOSS", "other")
    assert accept(only)[0] == 3
    assert accept(first)[0] == 0, "it leads: nothing is done"
    assert history_of(only) == before
