# SPDX-License-Identifier: Apache-2.0
"""qs-bench as a program: a small run of `roles` is right and whole, wrong usage is said.

Figures are not judged here, only that every answer was right, every look-up was made, and that the
counts fit each other.
"""
import json
import os
import re
import shutil
import subprocess
import tempfile
import xml.dom.minidom
from pathlib import Path

import pytest

from qs_cluster import IO, QSD, SLOW, wait_for

pytestmark = pytest.mark.once

BENCH = QSD.parent / "qs-bench"
RATE, PROBES = 1000, 300


def bench(*words, timeout=240):
    done = subprocess.run(
        [BENCH, *map(str, words)], capture_output=True, text=True, timeout=timeout * SLOW
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def data():
    """Short, because of the sockets in it."""
    path = tempfile.mkdtemp(prefix="qs-")
    yield path
    shutil.rmtree(path)


@pytest.mark.long
def test_roles(tmp_path, data):
    words = [
        "roles", "--keys", 10000, "--working-set", 20, "--zipf-only", "--pairs-of-runs", 2,
        "--seconds", 1, "--rate", RATE, "--probes", PROBES, "--io", IO, "--out", tmp_path,
        "--data", os.path.relpath(data),
    ]
    code, out, error = bench(*words, "--writes", "0,500")
    assert code == 0, out + error
    assert "0 answers wrong, missing or errors" in out and "loaded in" in out
    found = json.loads((tmp_path / "roles.json").read_text())
    (site,) = found["sites"]
    assert site["working_set"] == 2000
    alone, warm = (site["proxy"][name]["store"] for name in
                   ("disk_keys_alone", "disk_working_set_read"))
    assert alone < warm < site["replica"]["disk_keys_alone"]["store"]
    probes = site["one_after_another"]
    assert probes["proxy_fetched_misses"] == probes["proxy_fetched"]["count"] == PROBES
    assert probes["proxy_held_misses"] == 0 and probes["proxy_held"]["count"] == PROBES
    assert [cell["writes"] for cell in site["cells"]] == [0, 500]
    for cell in site["cells"]:
        assert cell["writes"] == 0 or cell["writes_reached"] > 0
        for role in ("replica", "proxy"):
            side = cell[role]
            assert (side["writes_arrived"] > 0) == (cell["writes"] > 0)
            assert side["all"]["count"] == 2 * RATE
            assert side["absent"]["count"] + side["present"]["count"] == 2 * RATE
            assert side["absent"]["count"] > 8 * side["present"]["count"]
            assert len(side["p999_us_of_runs"]) == 2 and min(side["p999_us_of_runs"]) > 0
            assert side["all"]["p50_us"] <= side["all"]["p99_us"] <= side["all"]["p999_us"]
    picture = xml.dom.minidom.parse(str(tmp_path / "roles.svg"))
    assert len(picture.getElementsByTagName("polyline")) == 4
    claims = site["claims"]
    assert len(claims) == 1 + 5 * 2  # one of the stores, five of a cell
    assert out.count("\n    held ") == sum(claim["held"] for claim in claims)
    assert out.count("\n    NOT HELD ") == sum(not claim["held"] for claim in claims)
    share = 100 * warm / site["replica"]["disk_working_set_read"]["store"]
    assert f"is {share:.1f} % of the replica's" in claims[0]["claim"]
    for restart in ("clean_stop", "kill_9"):
        found = site["proxy_restarts"][restart]
        assert found["first_answer_ms"] > 0 and found["present"] > 0
        # What it had read before it ended it still holds, but for what was being kept just then.
        assert found["misses_after"] <= found["present"] / 4, restart
    assert site["proxy_restarts"]["keys"] == 10000
    # A section of its own on what was loaded before; other data is refused.
    code, out, error = bench(*words, "--writes", 0, "--name", "again")
    assert code == 0 and "loaded in" not in out and (tmp_path / "again.json").exists(), out + error
    code, out, error = bench(*words, "--writes", 0, "--seed", 7)
    assert code == 1 and "holds other or unfinished data" in error


@pytest.mark.long
def test_roles_on_a_file(tmp_path, data):
    """Values of all sizes, the last of them larger than a read of a socket; changed by one pair the
    file is other data."""
    file = tmp_path / "some.tsv"
    pairs = [f"field/{i}\tvalue\\n{i}{'x' * (i % 500)}\n" for i in range(10000)]
    file.write_text("".join(pairs) + f"large\t{'y' * 500000}\n")
    words = [
        "roles", "--pairs", file, "--working-set", 20, "--zipf-only", "--pairs-of-runs", 1,
        "--seconds", 1, "--rate", RATE, "--probes", PROBES, "--io", IO, "--out", tmp_path,
        "--data", data, "--writes", 500,
    ]
    code, out, error = bench(*words)
    assert code == 0, out + error
    assert "some.tsv: 10001 pairs of" in out and "0 answers wrong, missing or errors" in out
    found = json.loads((tmp_path / "roles.json").read_text())
    assert (found["file"], found["pairs"]) == ("some.tsv", 10001)
    assert 9.5 < found["key_bytes"] < 10 and 300 < found["value_bytes"] < 320
    (site,) = found["sites"]
    assert site["proxy_restarts"]["keys"] == 10001 and len(site["claims"]) == 5
    probes = site["one_after_another"]
    assert probes["proxy_fetched_misses"] == PROBES and probes["proxy_held_misses"] == 0
    file.write_text("".join(pairs) + f"large\t{'z' * 500000}\n")
    code, out, error = bench(*words)
    assert code == 1 and "holds other or unfinished data" in error


PEERS = {  # of each section: its rows, its claims, and the sides of the first row
    "sockets": (16, 12, ["qs root", "qs proxy", "redis", "memcached"]),
    "engines": (21, 15, ["libqs, 10 % mapped, two cores", "libqs, 10 % mapped, one core",
                         "libqs, all mapped, two cores", "libqs, all mapped, one core",
                         "libqs by its socket, two cores", "libqs by its socket, one core",
                         "LMDB in process", "RocksDB in process",
                         "redis, two cores", "redis, one core",
                         "libqs, 10 % mapped, two cores, sleeps at once",
                         "redis, two cores, looks before it sleeps"]),
    "writers": (11, 0, ["qs root", "redis"]),
    "hops": (6, 0, ["qs", "redis"]),
    "children": (4, 2, ["qs", "redis"]),
    "apply": (9, 6, ["qs replica", "qs proxy", "floor of a replica", "floor of a proxy"]),
}


@pytest.mark.parametrize("section", PEERS)
def test_peers(tmp_path, section):
    rows, claimed, sides = PEERS[section]
    code, out, error = bench(
        "peers", "--section", section, "--keys", 2000, "--rounds", 3, "--run-ms", 60,
        "--rate", 2000, "--connections", 5, "--depth", 4, "--writes", 1000, "--io", IO,
        "--out", tmp_path,
    )
    assert code == 0, out + error
    assert " answers compared, 0 wrong, missing or errors" in out
    found = json.loads((tmp_path / "peers.json").read_text())
    assert len(found["rows"]) == rows
    assert list(found["rows"][0]["sides"]) == sides
    for row in found["rows"]:
        assert row["what"] in out and row["base"] in row["sides"]
        for name, side in row["sides"].items():
            assert len(side["rounds"]) in (1, 3)
            assert min(side["rounds"]) <= side["median"] <= max(side["rounds"])
            if name == row["base"] and side["median"] > 0:
                assert side["ratio_to_base"]["least"] == side["ratio_to_base"]["most"] == 1
    claims = found["claims"]
    assert len(claims) == claimed
    assert out.count("\n    held ") == sum(claim["held"] for claim in claims)
    assert out.count("\n    NOT HELD ") == sum(not claim["held"] for claim in claims)
    picture = xml.dom.minidom.parse(str(tmp_path / "peers.svg"))
    assert picture.getElementsByTagName("circle")
    if section == "hops":  # all three at one rate, which is plain and at most what was asked for
        (rate,) = {int(row["what"].split()[0]) for row in found["rows"] if "etcd" in row["what"]}
        assert 0 < rate <= 1000 and str(rate).strip("0") in ("1", "2", "5")
        assert list(found["rows"][3]["sides"]) == ["qs", "redis", "etcd, one member, no hops"]
    if section == "sockets":  # else its figures would be the root's, too
        (lacked,) = [row for row in found["rows"] if "did not hold" in row["what"]]
        assert lacked["sides"]["qs proxy"]["rounds"] == [0]
        assert any("Valkey could not be had" in note for note in found["notes"])
    if section == "engines":  # hardly anything is asked when all is mapped, and all of it else
        asked = {row["what"]: row["sides"] for row in found["rows"] if "went on" in row["what"]}
        (present,) = [sides for what, sides in asked.items() if what.startswith("present")]
        assert present["libqs, all mapped"]["median"] < 20000
        absent = asked["absent keys alone, went on to the socket"]
        assert max(side["median"] for side in absent.values()) < 1000


def test_peers_with_valkey(tmp_path):
    """A fifth side, and all claims of the section once more; that they are Redis and a program
    somewhere else is all the same to it."""
    program = tmp_path / "some where" / "valkey-server"
    program.parent.mkdir()
    program.symlink_to(shutil.which("redis-server"))
    words = [
        "peers", "--section", "sockets", "--keys", 2000, "--rounds", 2, "--run-ms", 30, "--rate",
        2000, "--connections", 5, "--depth", 4, "--io", IO, "--out", tmp_path,
    ]
    code, out, error = bench(*words, "--valkey", program)
    assert code == 0, out + error
    found = json.loads((tmp_path / "peers.json").read_text())
    rows, claimed, sides = PEERS["sockets"]
    assert len(found["rows"]) == rows
    for row in found["rows"]:
        assert list(row["sides"]) in ([*sides, "valkey"], ["qs proxy"])
        rounds = [len(side["rounds"]) for side in row["sides"].values()]
        assert len(set(rounds)) == 1, row["what"]
    texts = [claim["claim"] for claim in found["claims"]]
    beside_redis = [text for text in texts if text.endswith(" x redis")]
    beside_valkey = [text for text in texts if text.endswith(" x valkey")]
    assert len(beside_redis) == claimed and len(texts) == 2 * claimed
    assert [text.replace(" x valkey", " x redis") for text in beside_valkey] == beside_redis
    # The lines of the sides are beside Redis, so a claim beside Valkey has its ratio with it.
    assert len(re.findall(r" x valkey   \S+ x valkey \(quartiles ", out)) == claimed
    assert " x redis   " not in out
    (note,) = [note for note in found["notes"] if "alkey" in note]
    assert re.fullmatch(r"valkey \d+\.\d+\.\d+: as redis", note)
    code, _, error = bench(*words, "--valkey", tmp_path / "nothing")
    assert code == 1 and "valkey does not start" in error


def test_a_load_that_is_interrupted_ends(data):
    """Redis takes a minute for so many pairs, the root many; nothing that was started stays."""
    words = [BENCH, "peers", "--section", "engines", "--keys", "20000000", "--io", IO]
    run = subprocess.Popen(words, env={**os.environ, "TMPDIR": data}, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        wait_for(lambda: any(file.stat().st_size > 1 << 20
                             for file in Path(data).glob("qs-bench-*/root/**/*.qsj")),
                 60, "pairs at the root")
        run.terminate()
        _, error = run.communicate(timeout=30 * SLOW)
    finally:
        run.kill()
        run.wait()
    assert run.returncode == 1 and "qs-bench: interrupted" in error
    assert os.listdir(data) == []


def test_growth(tmp_path):
    words = ["growth", "--rounds", 2, "--run-ms", 40, "--io", IO, "--out", tmp_path]
    code, out, error = bench(*words, "--keys", "1000,3000")
    assert code == 0, out + error
    assert "0 wrong, missing or errors" in out
    assert re.search(r"5 G keys, by arithmetic.* a walk \d+\.\d hours", out)
    found = json.loads((tmp_path / "growth.json").read_text())
    assert len(found["rows"]) == 4 * 3 + 7
    for row in found["rows"]:
        assert list(row["sides"]) == ["0.001 M keys", "0.003 M keys"]
        assert all(side["median"] > 0 for side in row["sides"].values()), row["what"]
    assert xml.dom.minidom.parse(str(tmp_path / "growth.svg")).getElementsByTagName("circle")
    code, out, error = bench(*words, "--keys", "3000,1000")
    assert code == 2 and "sizes ascend" in error and out == ""


@pytest.mark.parametrize(
    "text, fault",
    [
        (None, "No such file"),
        ("a\t1\nb\n", "line 2: no tab between key and value"),
        ("a\t1\n", "--pairs: 1 pairs, at least 10000 are needed"),
    ],
)
def test_bad_file(tmp_path, text, fault):
    file = tmp_path / "some.tsv"
    if text is not None:
        file.write_text(text)
    code, out, error = bench("roles", "--pairs", file)
    assert code == 2 and fault in error and out == ""


@pytest.mark.parametrize(
    "words, text",
    [
        ([], "usage: qs-bench EXPERIMENT"),
        (["nothing"], "usage: qs-bench EXPERIMENT"),
        (["roles", "--nothing"], "there is no option '--nothing'"),
        (["roles", "--rate"], "--rate needs a value"),
        (["roles", "--rate", "fast"], "--rate: 'fast' is not a number"),
        (["roles", "--rate", "-1"], "--rate: '-1' is not a number"),
        (["roles", "--working-set", "1,2,3,4,5"], "--working-set: at most 4 numbers"),
        (["roles", "--working-set", "1,"], "--working-set: '' is not a number"),
        (["roles", "--keys", "10000"], "--probes: at most a twentieth"),
        (["roles", "--keys", "10000", "--pairs", "x"], "--keys and --value-bytes cannot stand"),
        (["roles", "--pairs", "x", "--value-bytes", "99"], "--keys and --value-bytes cannot stand"),
        (["mixed", "--reads", "1"], "mixed needs --root"),
        (["peers", "--section", "nothing"], "--section: there is no 'nothing'"),
    ],
)
def test_usage(words, text):
    code, out, error = bench(*words)
    assert code == 2 and text in error and out == ""


def test_help():
    experiments = ("roles", "peers", "growth", "mixed")
    for words in (["--help"], *([name, "--help"] for name in experiments)):
        code, out, error = bench(*words)
        assert code == 0 and out.startswith("usage: qs-bench") and error == ""


def test_mixed_wants_an_empty_root(cluster):
    root = cluster.root().start()
    root.call("SET", "a", "1")
    code, _, error = bench("mixed", "--root", root.socket, "--node", root.socket)
    assert code == 1 and "not an empty root" in error
