# SPDX-License-Identifier: Apache-2.0
"""A donor that lies in the slices of its snapshot: none of it becomes a store that serves."""
import struct

import pytest

from liar import Liar
from peer import MESSAGES, NAMES, Unpacker, checksum64, checksum128, message, pack, unpack
from qs_cluster import wait_for
from test_bootstrap import SHORT, Writes, builds, check, start_empty
from test_heal import store_words

SLICE_ITEMS = MESSAGES["slice_items"][0]


class FalseDonor(Liar):
    """Passes on what `target` says, but for slices: `lie` changes their fields, and the list of
    their records, [key, version, length, check, value]; the checksums are made anew."""

    def __init__(self, target, lie):
        self.lie = lie
        super().__init__(target, None)

    def down(self, parent, child):
        source = parent.makefile("rb")
        while head := source.read(16):
            length, code = struct.unpack_from("<IH", head)
            payload = source.read(length)
            child.sendall(self.told(payload) if code == SLICE_ITEMS else head + payload)
            if NAMES[code] == "blocks":
                child.sendall(source.read(unpack(payload)[1]))

    def told(self, payload):
        given = unpack(payload)
        fields = {field: given[key] for key, _, field in MESSAGES["slice_items"][1]}
        items, records = Unpacker(fields["items"]), []
        while items.at < len(items.data):
            records.append(items.next())
        if self.lie(fields, records):
            self.lies += 1
            fields["items"] = b"".join(pack(record) for record in records)
            fields["check"] = checksum128(fields["items"])
        return message("slice_items", **fields)


def resealed(header):
    header[8:16] = bytes(8)
    header[8:16] = checksum64(bytes(header))
    return bytes(header)


def out_of_order(fields, records):
    records[0], records[1] = records[1], records[0]
    return True


def twice(fields, records):
    records.insert(1, records[0])
    return True


def from_the_future(fields, records):
    records[0][1] = 1 << 40
    return True


def of_another_history(fields, records):
    header = bytearray(fields["header"])
    header[16] ^= 1
    fields["header"] = resealed(header)
    return True


def of_an_earlier_block(fields, records):
    header = bytearray(fields["header"])
    struct.pack_into("<Q", header, 64, 1)
    fields["header"] = resealed(header)
    return True


def left_out(fields, records):
    del records[-2]
    return True


def endless(fields, records):
    """After the last record comes another, and another."""
    if fields["last"]:
        fields["last"] = 0
        if not records:
            records.append([b"\xff" + struct.pack(">Q", fields["id"]), 1, 0, 0, b""])
    return True


def lied_to(cluster, lie, seed):
    """A node that was away too long and its first parent: it has a snapshot now, of true data."""
    root = cluster.root(**SHORT).start()
    node = cluster.replica("node", root, **SHORT).start()
    writes = Writes(root, seed)
    writes.put(500)
    cluster.settle()
    node.stop()
    writes.until_forgotten()
    liar = FalseDonor(root.peer, lie)
    node.instances["main"]["parents"] = [liar.address, root]
    node.start()
    wait_for(lambda: builds(node) == 1, 60, "the snapshot")
    cluster.check_equal()
    check(node, writes.model)
    return node, liar


@pytest.mark.parametrize("lie, words", [
    (out_of_order, "is not added: protocol error"),
    (twice, "is not added: protocol error"),
    (from_the_future, "is not added: protocol error"),
    (of_another_history, "is not added: it is of another history than the welcome"),
    (of_an_earlier_block, "is not added: it is older than was asked for"),
    (endless, "is not added: protocol error"),
], ids=lambda value: getattr(value, "__name__", ""))
def test_a_false_slice(cluster, lie, words):
    """It is refused, the donor is named, and the next one is asked."""
    node, liar = lied_to(cluster, lie, 12)
    assert liar.lies >= 1
    assert f"a slice of the snapshot from {liar.address} {words}" in node.log.read_text()
    liar.close()


def test_a_row_is_left_out(cluster):
    """What each slice says is sound, and the sum over all of them is not."""
    node, liar = lied_to(cluster, left_out, 14)
    assert f"the store built from {liar.address} came to nothing" in node.log.read_text()
    assert node.metrics("main")["builds_dropped"] == 1
    liar.close()


def test_only_a_walked_store_is_given(cluster):
    """One that was built from a snapshot is no source before a walk; a restart forgets nothing."""
    root = cluster.root(**SHORT).start()
    writes = Writes(root, 13)
    writes.put(1000)
    writes.until_forgotten()
    slow = SHORT | {"walk_rate": "64KB"}
    middle = start_empty(cluster.replica("middle", root, **slow))
    wait_for(lambda: builds(middle) == 1, 60, "the snapshot")
    node = cluster.replica("node", middle, **SHORT).launch()
    words = "was built from a snapshot and is not walked yet"
    refused = lambda: node.log.read_text().count(words)
    wait_for(refused, 30, "a refusal in words")
    assert store_words(middle) == "unwalked"
    node.stop()
    middle.restart()
    assert store_words(middle) == "unwalked"
    before = refused()
    node.launch()
    wait_for(lambda: refused() > before, 30, "another refusal")
    middle.stop()
    middle.instances["main"]["walk_rate"] = 0
    middle.start()
    wait_for(lambda: node.is_ready() and builds(node) == 1, 60, "the snapshot")
    assert store_words(middle) == "proven"
    cluster.check_equal()
    check(node, writes.model)
