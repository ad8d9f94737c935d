# SPDX-License-Identifier: Apache-2.0
"""A power cut for one node: tests/tools/preload/powercut.c notes what was synced; cut() keeps that.

The journal is the only log that must survive, so only its files are cut. The store's files are
left alone: RocksDB's own log is off, and what it flushed it has synced by itself.
"""
import os
import pathlib
import struct

from qs_cluster import QSD

LIBRARY = QSD.parent / "tests/powercut.so"


def arm(node):
    """From the next start on the node's syncs are noted."""
    notes = node.directory / "synced"
    notes.mkdir(exist_ok=True)
    node.env.update(QS_POWERCUT=str(notes), LD_PRELOAD=str(LIBRARY))


def cut(node, instance="main"):
    """After a kill: cuts the journal back to what was synced; returns how many bytes went."""
    notes = pathlib.Path(node.env["QS_POWERCUT"])
    gone = 0
    for path in node.journal_files(instance):
        about = path.stat()
        directory = os.stat(path.parent)
        listed = notes / f"{directory.st_dev}-{directory.st_ino}.entries"
        entries = listed.read_text().split() if listed.exists() else []
        if str(about.st_ino) not in entries:
            gone += about.st_size
            path.unlink()
            continue
        note = notes / f"{about.st_dev}-{about.st_ino}.size"
        synced = struct.unpack("=Q", note.read_bytes())[0] if note.exists() else 0
        if synced < about.st_size:
            gone += about.st_size - synced
            os.truncate(path, synced)
    return gone
