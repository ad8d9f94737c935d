# SPDX-License-Identifier: Apache-2.0
"""Planted bugs: does the ordinary suite find each of them?

Usage: mutants.py [--jobs N] [--only NAME ...] [--from NAME] [--named] [--list]

tests/mutants.txt names small faults. Each is compiled into a copy of this tree, alone, and the
tests named with it run first, then the simulator, then the unit tests that are left, until one
fails. A fault that nothing finds, that does not build, or whose place has changed makes this fail.
A test counts only if it passes without any fault, and a seed of the simulator only if that very
seed passes: that is checked before it is believed.
"""
import argparse
import concurrent.futures
import os
import pathlib
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TABLE = ROOT / "tests/mutants.txt"
FIELDS = ("file", "found by", "chosen by")
BUILD_SECONDS = 600
# Before it is known how long a test takes without a fault, and what one with a fault may then take.
TEST_SECONDS = 120
TRIES = 2
SIM_SECONDS = 600  # for all its seeds, so that a busy machine is not taken for a hang
LEAST_SECONDS, FACTOR = 15, 5
E2E = "e2e:"  # and the name of an end-to-end test, or of a file of them
SIM = "sim"  # all of SIM_SEEDS; "sim:N" is seed N alone
ROOTS = "sim-roots"  # likewise, instances with several roots
FAILED_SEED = re.compile(r"FAILED seed (\d+)")
SIM_SEEDS = os.environ.get("MUTANT_SEEDS", "1..600")
# Copies of one tree compile to the same objects: paths are relative.
CC = ["CC=ccache gcc"] if shutil.which("ccache") else []
# A unit test ends with its first case that fails.
ENVIRONMENT = {**os.environ, "CCACHE_NOHASHDIR": "1", "CMOCKA_TEST_ABORT": "1"}
ENVIRONMENT.pop("MAKEFLAGS", None)
ENVIRONMENT.pop("MAKELEVEL", None)


class Mutant:
    """One fault: where it stands, what it takes away and puts in, and who should notice."""

    def __init__(self, name, line):
        self.name, self.line = name, line
        self.fields, self.hunks = {}, []

    @property
    def path(self):
        return self.fields["file"]

    @property
    def finders(self):
        return [word.strip() for word in self.fields["found by"].split(",")]

    def add(self, line):
        """A line of the change; one to be taken away after one to be put in begins a new place."""
        old = line[0] == "-"
        if not self.hunks or (old and self.hunks[-1][1]):
            self.hunks.append(([], []))
        self.hunks[-1][0 if old else 1].append(line[1:] + "\n")

    def apply(self, root):
        """Writes the file with the fault; ValueError as from `planted`."""
        text = self.planted(root)
        (root / self.path).write_text(text)

    def planted(self, root):
        """The file's text with the fault; ValueError when a place is not there exactly once."""
        text = (root / self.path).read_text()
        for old, new in self.hunks:
            old, new = "".join(old), "".join(new)
            if not old or text.count(old) != 1:
                raise ValueError(f"{TABLE.name}:{self.line}: the lines stand {text.count(old)} "
                                 f"times in {self.path}")
            text = text.replace(old, new)
        return text


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
            mutants[-1].add(line)
        else:
            field, _, value = line.partition(":")
            if field not in FIELDS:
                raise ValueError(f"{TABLE.name}:{number}: no such field: {field}")
            mutants[-1].fields[field] = value.strip()
    for mutant in mutants:
        missing = [field for field in FIELDS[:2] if field not in mutant.fields]
        if missing or not mutant.hunks:
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
        names = {name for name in listed.split("\0") if name and (ROOT / name).is_file()}
        for name in names:
            source, target = ROOT / name, self.root / name
            if target.exists() and target.read_bytes() == source.read_bytes():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        for path in self.root.rglob("*.[ch]"):
            name = str(path.relative_to(self.root))
            if name not in names and not name.startswith("build/"):
                path.unlink()

    def make(self, finders, jobs=1):
        targets = [target(finder) for finder in finders]
        built = subprocess.run(["make", "-s", f"-j{jobs}", *CC, *targets], cwd=self.root,
                               timeout=BUILD_SECONDS, env=ENVIRONMENT, capture_output=True,
                               text=True)
        if built.returncode != 0:
            errors = [line for line in built.stderr.split("\n") if "error" in line]
            raise ValueError("does not build: " + (errors or [built.stderr])[0])

    def fails(self, finder, seconds):
        """How this test fails, "" if it passes. Of a simulation only a seed that fails counts, not
        what a batch of them has never met; the first one ends it."""
        with subprocess.Popen(command(finder), cwd=self.root, env=ENVIRONMENT,
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, text=True, errors="replace",
                              start_new_session=True) as process:
            under_way.add(process.pid)
            alarm = threading.Timer(seconds, end_group, [process.pid])
            alarm.start()
            seed = None
            for line in process.stderr:
                seed = FAILED_SEED.match(line) if is_sim(finder) else None
                if seed:
                    end_group(process.pid)
                    break
            failed = process.wait() != 0 and not is_sim(finder)
            hung = alarm.finished.is_set()
            alarm.cancel()
            end_group(process.pid)  # what it left behind
            under_way.discard(process.pid)
        family = finder.split(":")[0]
        return f"{family}:{seed[1]}" if seed else "hangs" if hung else "fails" if failed else ""


under_way = set()  # groups of processes


def end_all(number, frame):
    for pid in list(under_way):
        end_group(pid)
    os._exit(1)


def end_group(pid):
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def is_sim(finder):
    return finder.split(":")[0] in (SIM, ROOTS)


def command(finder):
    if is_sim(finder):
        family, _, seed = finder.partition(":")
        seeds = f"{seed}..{seed}" if seed else SIM_SEEDS
        kind = ["--roots"] if family == ROOTS else []
        return ["build/release/sim", *kind, "--seeds", seeds, "--jobs", "1"]
    if finder.startswith(E2E):
        return ["make", "-s", *CC, "e2e", f"E2E_ARGS=-q -x -k {finder.removeprefix(E2E)}",
                "PYTEST_JOBS=1"]
    return [f"build/release/tests/{finder}"]


def target(finder):
    return "programs" if finder.startswith(E2E) else command(finder)[0]


class Proof:
    """Which tests pass without any fault, and how long each may take with one."""

    def __init__(self):
        self.seconds = {}

    def limit(self, finder):
        if finder in (SIM, ROOTS):
            return SIM_SECONDS
        known = self.seconds.get(finder)
        return TEST_SECONDS if known is None else max(LEAST_SECONDS, FACTOR * known)

    def establish(self, slot, finder):
        """In a slot without a fault. On a busy machine a test may fail once by its own limits."""
        slot.make([finder])
        for _ in range(TRIES):
            started = time.monotonic()
            if not slot.fails(finder, TEST_SECONDS):
                self.seconds[finder] = time.monotonic() - started
                return
        sys.exit(f"mutants: {finder} fails without any fault")


def finders_of(mutant, others):
    order = list(mutant.finders)
    return order + [name for name in [SIM, *others] if name not in order]


def first_failing(slot, mutant, others, proof):
    for finder in finders_of(mutant, others):
        slot.make([finder])
        how = slot.fails(finder, proof.limit(finder))
        # Where nobody expected it, one failure may be chance.
        chance = how and finder not in mutant.finders and not is_sim(how)
        if how and not (chance and not slot.fails(finder, proof.limit(finder))):
            return finder, how
    return None, ""


def judge(slot, mutant, others, proof):
    """(found by, words)."""
    before = (slot.root / mutant.path).read_bytes()
    started = time.monotonic()
    try:
        mutant.apply(slot.root)
        finder, how = first_failing(slot, mutant, others, proof)
    except ValueError as error:
        return None, str(error)
    finally:
        (slot.root / mutant.path).write_bytes(before)
    seconds = time.monotonic() - started
    if finder is None:
        return None, "NOT FOUND"
    named = "" if finder in mutant.finders else ", not by " + mutant.fields["found by"]
    if is_sim(how):
        finder, how = how, "fails"
    if finder not in proof.seconds:
        proof.establish(slot, finder)
    return finder, f"{how}, {seconds:.0f} s{named}"


def on_slots(slots, pool, work, items):
    """work(slot, item) for all items, each on a slot of its own while it lasts; in their order."""
    def one(item):
        slot = slots.get()
        try:
            return work(slot, item)
        finally:
            slots.put(slot)
    return pool.map(one, items)


def run(mutants, units, arguments):
    slots, proof, jobs = queue.Queue(), Proof(), arguments.jobs
    named = {finder for mutant in mutants for finder in mutant.finders}
    finders = sorted(finder for finder in named if not is_sim(finder))
    unknown = [finder for finder in finders
               if finder not in units and not finder.startswith(E2E)]
    if unknown:
        sys.exit(f"mutants: no such test: {unknown[0]}")
    others = [] if arguments.named else units
    for number in range(jobs):
        slot = Slot(number)
        slot.make([*finders, SIM], os.cpu_count() or 1)
        slots.put(slot)
    lost = 0
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        list(on_slots(slots, pool, proof.establish, finders))
        print(f"mutants: {len(finders)} tests pass without a fault", flush=True)
        results = on_slots(slots, pool, lambda slot, m: judge(slot, m, others, proof), mutants)
        for mutant, (finder, words) in zip(mutants, results):
            lost += finder is None
            print(f"  {mutant.name:<36} {finder or '-':<22} {words}", flush=True)
    return lost


def show(mutants):
    """The table; 1 if the code has moved on from under one of its rows."""
    moved = 0
    for mutant in mutants:
        words = mutant.fields["found by"]
        try:
            mutant.planted(ROOT)
        except (OSError, ValueError) as error:
            moved, words = 1, str(error)
        print(f"{mutant.name:<36} {mutant.path:<32} {words}")
    return moved


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--from", dest="first", help="this one and those after it")
    parser.add_argument("--named", action="store_true",
                        help="only the tests named with a fault, and the simulator")
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    mutants = read_table(TABLE.read_text())
    if arguments.only:
        mutants = [m for m in mutants if any(re.fullmatch(o, m.name) for o in arguments.only)]
    while arguments.first and mutants and mutants[0].name != arguments.first:
        del mutants[0]
    if arguments.list:
        return show(mutants)
    if not mutants:
        sys.exit("mutants: none of that name")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end_all)
    units = sorted(path.stem for path in (ROOT / "tests/unit").glob("*_test.c"))
    lost = run(mutants, units, arguments)
    print(f"mutants: {len(mutants)} planted, {len(mutants) - lost} found")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
