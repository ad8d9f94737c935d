# SPDX-License-Identifier: Apache-2.0
"""`make floor`: import into a root alone, beside what the machine allows, in one run.

One pipelined client (qs import) writes Debian's package index to a root; every write is committed
before it is acknowledged. The floors write the same pairs without qs: by pwrite and one fdatasync
per 1,000 pairs, and as RocksDB write batches of 1,000. Printed as ratios, because only these mean
something on a machine that is shared. Exit code 1 below --least pairs a second.
"""
import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import demo
from qs_cluster import QSD, Cluster  # demo has put tests/e2e on the path

FLOOR = pathlib.Path(os.environ.get("FLOOR", QSD.parent / "tests/floor"))


def floor(kind, directory, path):
    """Seconds that the floor takes for all pairs."""
    place = directory / kind
    place.mkdir(exist_ok=True)
    done = subprocess.run([FLOOR, kind, place, path], check=True, capture_output=True, text=True)
    shutil.rmtree(place)
    return float(done.stdout.split()[1])


def root_alone(directory, path, count):
    cluster = Cluster(directory / "cluster")
    root = cluster.root().start()
    try:
        took, shares = demo.run_import({"root": root}, path)
        metrics = root.metrics("main")
        assert root.call("DBSIZE") == count
        cluster.close()
    except BaseException:
        cluster.abandon()
        raise
    shutil.rmtree(directory / "cluster")
    return took, shares, metrics


def row(name, count, seconds, base):
    print(f"  {name:<52} {count / seconds:>12,.0f} {seconds:>8.2f} {base / seconds:>8.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--least", type=float, default=100_000, help="pairs a second to be reached")
    parser.add_argument("--passes", type=int, default=3)
    given = parser.parse_args()
    directory = pathlib.Path(tempfile.mkdtemp(prefix="qs-floor-"))
    try:
        pairs, _ = demo.parse(demo.read_source())
        path = directory / "packages.tsv"
        demo.write_tsv(pairs, path)
        runs = []
        for _ in range(given.passes):
            runs.append((root_alone(directory, path, len(pairs)), floor("journal", directory, path),
                         floor("store", directory, path)))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    (took, shares, metrics), *_ = best = min(runs, key=lambda run: run[0][0])
    print(f"{len(pairs):,} pairs, best of {given.passes} passes, each pass in this order\n")
    print(f"  {'':<52} {'pairs/s':>12} {'seconds':>8} {'ratio':>8}")
    row("qs import into a root alone, every write committed", len(pairs), took, took)
    row("floor: pwrite + fdatasync per 1,000 pairs", len(pairs), best[1], took)
    row("floor: RocksDB write batch per 1,000 pairs", len(pairs), best[2], took)
    print("\n  CPU cores in use during the import: "
          + ", ".join(f"{name} {cpu / took:.2f}" for name, cpu in shares.items()))
    print(f"  blocks {metrics['blocks']:,.0f}, syncs {metrics['journal_syncs']:,.0f}, "
          f"{metrics['journal_sync_ns'] / 1e9:.2f} s in them; "
          f"applying {metrics['apply_ns'] / 1e9:.2f} s")
    rate = len(pairs) / took
    reached = "yes" if rate >= given.least else "NO"
    print(f"  {rate:,.0f} pairs/s, {given.least:,.0f} asked for: {reached}")
    return 0 if rate >= given.least else 1


if __name__ == "__main__":
    sys.exit(main())
