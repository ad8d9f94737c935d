# SPDX-License-Identifier: Apache-2.0
"""Planted bugs: does the ordinary suite find each of them?

Usage: mutants.py [--jobs N] [--only NAME ...] [--list] [--keep]

tests/mutants.txt names one-line faults. Each is compiled into a copy of this tree, alone, and the
tests named with it run first, then the simulator, then the unit tests that are left, until one
fails. A fault that nothing finds, that does not build, or whose place has changed makes this fail.
Without a fault everything must pass, or finding one would mean nothing: that is checked first.
"""
import argparse
import concurrent.futures
import os
import pathlib
import queue
import re
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TABLE = ROOT / "tests/mutants.txt"
FIELDS = ("file", "found by", "chosen by")
BUILD_SECONDS = 600
TEST_SECONDS = 240
SIM_SEEDS = os.environ.get("MUTANT_SEEDS", "1..1500")


class Mutant:
    """One fault: where it stands, what it takes away and puts in, and who should notice."""

    def __init__(self, name, line):
        self.name, self.line = name, line
        self.fields, self.old, self.new = {}, [], []

    @property
    def path(self):
        return self.fields["file"]

    @property
    def finders(self):
        return [word.strip() for word in self.fields["found by"].split(",")]

    def apply(self, root):
        """The file with the fault; ValueError when its place is not there exactly once."""
        text = (root / self.path).read_text()
        old = "".join(line + "\n" for line in self.old)
        new = "".join(line + "\n" for line in self.new)
        if text.count(old) != 1:
            raise ValueError(f"{TABLE.name}:{self.line}: {self.name}: its lines stand "
                             f"{text.count(old)} times in {self.path}")
        (root / self.path).write_text(text.replace(old, new))


def read_table(text):
    mutants = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("== "):
            mutants.append(Mutant(line[3:].strip(), number))
        elif line.startswith("#") or not line.strip():
            continue
        elif not mutants:
            raise ValueError(f"{TABLE.name}:{number}: a line before the first name")
        elif line[0] in "-+":
            (mutants[-1].old if line[0] == "-" else mutants[-1].new).append(line[1:])
        else:
            field, _, value = line.partition(":")
            if field not in FIELDS:
                raise ValueError(f"{TABLE.name}:{number}: no such field: {field}")
            mutants[-1].fields[field] = value.strip()
    for mutant in mutants:
        missing = [field for field in FIELDS[:2] if field not in mutant.fields]
        if missing or not mutant.old:
            raise ValueError(f"{TABLE.name}:{mutant.line}: {mutant.name}: incomplete")
    names = [mutant.name for mutant in mutants]
    if len(set(names)) != len(names):
        raise ValueError(f"{TABLE.name}: a name stands twice")
    return mutants


class Slot:
    """A copy of the tree with a build of its own, in which one fault at a time is compiled."""

    def __init__(self, number):
        self.root = ROOT / f"build/mutants/{number}"
        self.root.mkdir(parents=True, exist_ok=True)
        listed = subprocess.run(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT,
                                check=True, capture_output=True, text=True).stdout
        for name in filter(None, listed.split("\0")):
            source, target = ROOT / name, self.root / name
            if not source.is_file():
                continue
            if target.exists() and target.read_bytes() == source.read_bytes():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)

    def make(self, *targets):
        return subprocess.run(["make", "-s", *targets], cwd=self.root, timeout=BUILD_SECONDS,
                              capture_output=True, text=True)

    def command(self, finder):
        if finder == "sim":
            return ["build/release/sim", "--seeds", SIM_SEEDS, "--jobs", "1"]
        return [f"build/release/tests/{finder}"]

    def target(self, finder):
        return self.command(finder)[0]

    def fails(self, finder):
        """Does this test fail? A test that hangs has failed, too."""
        try:
            done = subprocess.run(self.command(finder), cwd=self.root, timeout=TEST_SECONDS,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            return True
        return done.returncode != 0


def finders_of(mutant, units):
    order = list(mutant.finders)
    return order + [name for name in ["sim", *units] if name not in order]


def judge(slot, mutant, units):
    """(found by, words)."""
    before = (slot.root / mutant.path).read_bytes()
    started = time.monotonic()
    try:
        mutant.apply(slot.root)
        for finder in finders_of(mutant, units):
            built = slot.make(slot.target(finder))
            if built.returncode != 0:
                return None, "does not build: " + built.stderr.strip().split("\n")[0]
            if slot.fails(finder):
                return finder, f"{time.monotonic() - started:.0f} s"
    except ValueError as error:
        return None, str(error)
    finally:
        (slot.root / mutant.path).write_bytes(before)
    return None, "NOT FOUND"


def check_sound(slot, mutants, units):
    """Without any fault every finder passes."""
    finders = sorted({finder for mutant in mutants for finder in mutant.finders})
    for finder in finders:
        if finder != "sim" and finder not in units:
            sys.exit(f"mutants: no such test: {finder}")
        built = slot.make(slot.target(finder))
        if built.returncode != 0:
            sys.exit(f"mutants: {finder} does not build: {built.stderr}")
        if slot.fails(finder):
            sys.exit(f"mutants: {finder} fails without any fault")


def run(mutants, units, jobs):
    slots = queue.Queue()
    for number in range(jobs):
        slots.put(Slot(number))
    first = slots.get()
    check_sound(first, mutants, units)
    slots.put(first)

    def one(mutant):
        slot = slots.get()
        try:
            return judge(slot, mutant, units)
        finally:
            slots.put(slot)

    lost = 0
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for mutant, (finder, words) in zip(mutants, pool.map(one, mutants)):
            lost += finder is None
            print(f"  {mutant.name:<36} {finder or '-':<22} {words}", flush=True)
    return lost


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    mutants = read_table(TABLE.read_text())
    if arguments.only:
        mutants = [m for m in mutants if any(re.fullmatch(o, m.name) for o in arguments.only)]
    if arguments.list:
        for mutant in mutants:
            print(f"{mutant.name:<36} {mutant.path:<32} {mutant.fields['found by']}")
        return 0
    if not mutants:
        sys.exit("mutants: none of that name")
    units = sorted(path.stem for path in (ROOT / "tests/unit").glob("*_test.c"))
    lost = run(mutants, units, arguments.jobs)
    print(f"mutants: {len(mutants)} planted, {len(mutants) - lost} found")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
