# SPDX-License-Identifier: Apache-2.0
"""The record of several roots at a real Consul: check-and-set, a watch, a store that lost it."""
import subprocess
import threading

import pytest

from consul import Consul
from qs_cluster import QSD, die_with_parent, wait_for


class Keeper:
    """`keep` at its words: what it says comes line by line."""

    def __init__(self, http):
        self.process = subprocess.Popen(
            [QSD.parent / "tests" / "keep", http],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            preexec_fn=die_with_parent,
        )
        self.lines, self.moves = [], 0
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        for line in self.process.stdout:
            if line == "moved\n":
                self.moves += 1
            else:
                self.lines.append(line.split())

    def say(self, words):
        """The answer to one line."""
        before = len(self.lines)
        self.process.stdin.write(words + "\n")
        wait_for(lambda: len(self.lines) > before, 30, f"an answer to {words}")
        return self.lines[before]

    def stop(self):
        self.process.stdin.close()
        assert self.process.wait(30) == 0


@pytest.fixture
def agent(tmp_path):
    made = Consul(tmp_path).start()
    yield made
    made.stop()


def test_record(agent):
    one, two = Keeper(agent.http), Keeper(agent.http)
    assert one.say("read") == ["missing"]
    assert one.say("change 5 1 0 7 1") == ["refused"]
    assert one.say("change 0 1 0 7 1") == ["done"]
    assert two.say("change 0 1 1 7 1") == ["refused"], "there is one by now"
    told = two.say("read")
    assert told[:5] == ["record", "1", "0", "7", "1"]
    wait_for(lambda: two.moves > 0, 60, "the watch of the other one")
    # Both at once on one index: one of them.
    answers = [keeper.say(f"change {told[5]} 2 {i} 3 2") for i, keeper in enumerate((one, two))]
    assert sorted(answers) == [["done"], ["refused"]]
    assert one.say("read") == two.say("read")
    # What somebody else writes there is none, and is not overwritten in passing.
    moves = one.moves
    agent.put("/v1/kv/qs/main/record", {"epoch": 1})
    assert one.say("read") == ["failed"]
    wait_for(lambda: one.moves > moves, 60, "the watch")
    one.stop()
    two.stop()


def test_lost(agent):
    keeper = Keeper(agent.http)
    assert keeper.say("change 0 1 0 7 1") == ["done"]
    index = keeper.say("read")[5]
    wait_for(lambda: keeper.moves > 0, 60, "the watch")
    moves = keeper.moves
    agent.stop()
    assert keeper.say("read") == ["failed"], "that is not: missing"
    assert keeper.say(f"change {index} 2 0 7 2") == ["unknown"]
    # One that is back before anybody has missed it, at the same index by chance, is the same to a
    # watch: it takes an agent that is no longer known there (common/discovery/agent.h) to tell.
    wait_for(lambda: keeper.moves > moves, 60, "the watch to lose the old one")
    moves = keeper.moves
    agent.start()
    wait_for(lambda: keeper.say("read") == ["missing"], 60, "the empty Consul")
    assert keeper.say(f"change {index} 2 0 7 2") == ["refused"], "it is gone"
    assert keeper.say("change 0 2 0 7 2") == ["done"]
    wait_for(lambda: keeper.moves > moves, 60, "the watch of the new one")
    keeper.stop()
