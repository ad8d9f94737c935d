# SPDX-License-Identifier: Apache-2.0
"""The models of the roots and of shared memory: do their rules hold, and does the checker find each
rule that is broken?

Usage: run.py [--large] [--only NAME ...] [--trace NAME] [--list] [--memory MB]

Prints a table, and exits 1 when a sound case breaks, a broken rule is not found, or what must
happen does not. --large takes the long cases, too. --trace tells the shortest way there.
"""
import argparse
import collections
import pathlib
import re
import resource
import subprocess
import sys
import tempfile

MODELS = pathlib.Path(__file__).resolve().parent
MEMORY_MB = 4000

# How states are kept: in full; as 64-bit hashes, where one in billions may be taken for another; as
# three bits in a table, which leaves out what it takes for known; in full and breadth first, which
# finds the shortest way.
WAYS = {
    "full": ["-DNOREDUCE"],
    "hashes": ["-DNOREDUCE", "-DHC4"],
    "bits": ["-DNOREDUCE", "-DBITSTATE"],
    "breadth": ["-DNOREDUCE", "-DBFS"],
}
Case = collections.namedtuple(
    "Case", "name text bounds way large model", defaults=("full", False, "roots.pml")
)


def shared(name, text, bounds):
    """A case of what programs of the machine read."""
    return Case(name, text, bounds, model="shared.pml")


def hot(name, text, bounds):
    """A case of the table of hot keys, as the daemon's own threads use it."""
    return Case(name, text, bounds, model="hot.pml")


def fork(name, text, bounds):
    """A case of a change of history."""
    return Case(name, text, bounds, model="fork.pml")


# The store keeps what it was told, so the record alone may say who leads: ASK=1, no promises asked.
# And: it may lose it once, so in_sync_min + promote_min must exceed the number of roots.
KEEPS = "ASK=1 LOSSES=0"
LOSES = "LOSSES=1"
# Of shared memory: what happens beside blocks and fills.
WALK = "KILLS=0 JUMPS=0 FAILS=0 BOARDS=1 GENERATIONS=2 FILLS=1 CALLS=3"
JUMP = "KILLS=0 WALKS=0 BOARDS=2 GENERATIONS=1 FILLS=1 CALLS=3"
KILL = "JUMPS=0 WALKS=0 FAILS=0 BOARDS=2 GENERATIONS=2 FILLS=1"
SOUND = [
    Case("kept", "3 roots, two leaderships, a crash", f"{KEEPS} LEADERSHIPS=2 CRASHES=1 CHANGES=2"),
    Case("kept-late", "the same, the leader acts late on what it hears",
         f"{KEEPS} LEADERSHIPS=2 CRASHES=1 CHANGES=1 LATE"),
    Case("kept-three", "3 roots, three leaderships",
         f"{KEEPS} LEADERSHIPS=3 CRASHES=1 CHANGES=1 L=2"),
    Case("kept-two-roots", "2 roots, the store as the third",
         f"{KEEPS} N=2 KEEP=1 LEADERSHIPS=3 CRASHES=1 CHANGES=3"),
    Case("lost", "3 roots, two leaderships, data lost",
         f"{LOSES} LEADERSHIPS=2 CRASHES=0 CHANGES=1"),
    Case("kept-large", "3 roots, three leaderships, a crash",
         f"{KEEPS} LEADERSHIPS=3 CRASHES=1 CHANGES=1", "hashes", True),
    Case("lost-crash", "3 roots, two leaderships, a crash, data lost",
         f"{LOSES} LEADERSHIPS=2 CRASHES=1 CHANGES=2", "hashes", True),
    Case("lost-large", "3 roots, three leaderships, data lost",
         f"{LOSES} LEADERSHIPS=3 CRASHES=0 CHANGES=1 L=2", "hashes", True),
    Case("kept-five", "5 roots, in_sync_min 2", f"{KEEPS} N=5 KEEP=2 CRASHES=1 CHANGES=2 L=3",
         "bits", True),
    Case("lost-five", "5 roots, in_sync_min 3, data lost", f"{LOSES} N=5 CRASHES=0 CHANGES=2 L=2",
         "bits", True),
    shared("shared-walk", "mapped reads, while a walk builds a filter", WALK),
    shared("shared-jump", "mapped reads, another store comes, a block waits", JUMP),
    shared("shared-all", "mapped reads, all of these, two states",
           "KILLS=0 STATES=2 BOARDS=2 GENERATIONS=2 FILLS=1 CALLS=3"),
    shared("shared-kill", "mapped reads, the daemon is killed", KILL),
    shared("shared-static", "the same, and read on without it", f"{KILL} STATIC"),
    hot("hot", "the table of hot keys, the daemon's own looks", "ALONE"),
    hot("hot-two", "the same, two threads fill it, three states",
        "ALONE STATES=3 LOOKS=1 FILLS=1 FILLERS=2"),
    hot("hot-mapped", "the same, looks of a program, too", "FILLS=1 LOOKS=1"),
    fork("fork", "another history, the third root lags", "TRIES=2 TURNS=2 NEED=3"),
    fork("fork-all", "another history, all were in the set", "TRIES=2 TURNS=3 NEED=7"),
]
FEW = f"{KEEPS} CRASHES=1 CHANGES=2"
BROKEN = [
    Case("OUTSIDER", "a root outside the set asks to lead", FEW),
    Case("NO_STOP", "a root that takes over still acknowledges the old epoch", FEW),
    Case("PROMISE_NOT_SYNCED", "a crash takes the promise back", FEW),
    Case("RESUMES_EPOCH", "a leader that restarts goes on in its old epoch", FEW),
    Case("NO_EPOCH_BLOCK", "a new leader takes its log for committed", FEW),
    Case("ACK_BEFORE_SYNC", "acknowledged when written, not when synced", FEW),
    Case("ACK_BY_NUMBER", "acknowledged by number, without comparing chains", FEW),
    Case("COMMIT_BY_NUMBER", "the commit index counts for what differs", FEW),
    Case("QUORUM_OF_SET", "committed when in_sync_min of the set have it, not all", FEW),
    Case("DROP_BEFORE_CAS", "no longer waited for before the record says so", FEW),
    Case("RECORD_BEFORE_COUNT", "in the record before it is counted", FEW),
    Case("ADD_LAGGING", "added before it has caught up", FEW),
    Case("ADD_AT_COMMIT", "caught up to the commit index, not to the epoch block",
         f"{KEEPS} CRASHES=0 CHANGES=2"),
    Case("UNKNOWN_IS_FAILED", "an unanswered request is taken for a failed one",
         f"{KEEPS} LEADERSHIPS=2 CRASHES=0 CHANGES=2"),
    Case("STANDBY_WRITES", "a standby adds itself to the record", FEW),
    Case("NO_CHECK_AND_SET", "the record is overwritten unchecked", FEW),
    Case("RECORD_ALONE", "data lost: epochs and generations instead of promises",
         "ASK=1 LOSSES=1 CRASHES=0 CHANGES=1"),
    Case("TOO_FEW_PROMISES", "data lost: in_sync_min + promote_min = roots",
         "ASK=1 LOSSES=1 CRASHES=0 CHANGES=1"),
    Case("OWN_LOG_ONLY", "data lost: promises asked, but not their logs",
         "LOSSES=1 CRASHES=1 CHANGES=1"),
    Case("LEADS_ON", "data lost: a leader that promises another leads on",
         "LOSSES=1 CRASHES=1 CHANGES=1"),
    Case("ANY_SIZE", "data lost: a set below in_sync_min takes writes",
         "LOSSES=1 CRASHES=0 CHANGES=2"),
    Case("LONGEST_WINS", "the longer log is the better, whatever its epoch",
         "CRASHES=0 CHANGES=1 L=2"),
    Case("EPOCH_WITHOUT_NAME", "data lost: two leaders of one epoch are one",
         "LOSSES=1 CRASHES=0 CHANGES=1 L=2"),
    shared("FILTER_LATE", "the filter is told of a key after the state is shown", WALK),
    shared("NEXT_NOT_FED", "a filter under construction is not told of new keys", WALK),
    shared("FORGETS_LATE", "a hot value is forgotten after the state is shown", WALK),
    shared("VISIBLE_BEFORE_VIEW", "the map shows a state before the sockets do", WALK),
    shared("GENERATION_LATE", "the index is raised before the filter is named", WALK),
    shared("NO_GENERATION", "a filter is asked that is fed no more", WALK),
    shared("GENERATION_BEFORE", "... as its name was looked at before the index", WALK),
    shared("INDEX_AFTER", "the index of an answer is loaded behind the look", WALK),
    shared("BEYOND_THE_VISIBLE", "asked of an index that the map has not reached", WALK),
    shared("NO_SINCE_OF_FILTER", "a filter is asked of states before its own",
           "KILLS=0 STATES=2 BOARDS=1 GENERATIONS=2 FILLS=0 CALLS=2"),
    shared("NO_SINCE_OF_SLOT", "a value is given for a state before its own", WALK),
    shared("NO_SECOND_SEQUENCE", "a slot is read while it is written",
           "KILLS=0 JUMPS=0 WALKS=0 FAILS=0 BOARDS=1 GENERATIONS=1"),
    shared("FILLS_BEHIND_THE_LOG", "a fill from a view behind what was learned", JUMP),
    shared("KEEPS_THE_BOARD", "another store comes, its changes unknown to the board", JUMP),
    shared("NOT_RETIRED", "the board before is not marked dead", JUMP),
    shared("NO_LEAST", "the map is asked though it is behind a socket", WALK),
    shared("NOT_WHETHER_ALIVE", "nobody looks whether the daemon lives", KILL),
    shared("INCARNATION_LATE", "raised behind the doors' opening", f"{KILL} STATIC"),
    hot("LEARNS_WITHOUT_THE_LOCK", "a hot value is forgotten while it is filled", "FILLS=1"),
    hot("LOOKS_BEFORE_THE_LOCK", "whether a fill is the newest, before the lock", "FILLS=1"),
    hot("FILLS_BEHIND", "a fill from a view behind what was learned", "FILLS=1"),
    hot("NO_SINCE", "a hot value is given to a view before its own", "FILLS=1"),
    fork("ANY_RECORD", "a fork on another record than was read", "TRIES=2"),
    fork("NO_PROMISE", "who was gathered acknowledges on", "TRIES=1"),
    fork("OWN_LOG", "a fork of the own log, whatever others have", "TRIES=1"),
    fork("NO_WAIT", "a fork before all that can be reached have promised", "TRIES=1"),
    fork("NOT_DURABLE", "who was gathered forgets it in a crash", "TRIES=1"),
]
# Where nothing happens nothing goes wrong: what the sound rules must come to within their bounds.
REACHED = [
    Case("NEVER_THIRD", "a third leadership commits", f"{KEEPS} CRASHES=0 CHANGES=2"),
    Case("NEVER_CUT", "a standby cuts what its new leader lacks",
         f"{KEEPS} LEADERSHIPS=2 CHANGES=1"),
    Case("NEVER_BROUGHT", "a new leader takes over another root's log", "LEADERSHIPS=2 CHANGES=1"),
    Case("NEVER_AFTER_LOSS", "a take-over commits after data was lost", f"{LOSES} CHANGES=1 L=2"),
    shared("NEVER_HOT", "a value is read from the map", WALK),
    shared("NEVER_BY_A_WALK", "a deleted key is absent by the filter of a walk", WALK),
    shared("NEVER_AFTER_A_KILL", "the next daemon's map answers", KILL),
    shared("NEVER_STATIC", "a dead daemon's map answers", f"{KILL} STATIC"),
    hot("NEVER_ANSWERED", "the table of hot keys answers", "FILLS=1"),
    fork("NEVER_FORKED", "a history goes on with more than was committed", "TRIES=1"),
]
HARM = BROKEN + REACHED  # cases in which an assertion must fail


def defines(case):
    names = case.bounds.split()
    if case in HARM:
        names.append(f"M_{case.name}")
    return [f"-D{name}" for name in names]


def build(case, way, folder):
    """The checker of one case, compiled in folder."""
    subprocess.run(["spin", *defines(case), "-a", MODELS / case.model], cwd=folder, check=True,
                   stdout=subprocess.DEVNULL)
    speed = "-O1" if case in HARM else "-O2"
    command = ["gcc", speed, "-w", "-DSAFETY", "-DNOCLAIM", *WAYS[way], f"-DMEMLIM={MEMORY_MB}"]
    subprocess.run([*command, "-o", "pan", "pan.c"], cwd=folder, check=True)


def cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def check(case):
    """(verdict, states, depth, CPU seconds): holds | broken | unfinished."""
    way = "breadth" if case in HARM else case.way
    with tempfile.TemporaryDirectory(prefix="qs-model-") as folder:
        build(case, way, folder)
        before = cpu_seconds()
        command = ["./pan", "-E", "-m100000"]
        command += {"bits": ["-w33", "-k3"], "hashes": ["-w27"]}.get(way, [])
        said = subprocess.run(command, cwd=folder, capture_output=True, text=True).stdout
    states = re.search(r"([\d.e+]+) states, stored", said)
    depth = re.search(r"depth reached (\d+), errors: (\d+)", said)
    if not states or not depth:
        verdict = "unfinished"
    elif "assertion violated" in said:
        verdict = "broken"
    elif depth[2] != "0" or re.search("Search not completed|search depth too small", said):
        verdict = "unfinished"
    else:
        verdict = "holds"
    count = int(float(states[1])) if states else 0
    return verdict, count, int(depth[1]) if depth else 0, cpu_seconds() - before


def trace(case):
    """Tells the shortest way to the harm."""
    with tempfile.TemporaryDirectory(prefix="qs-model-") as folder:
        build(case, "breadth", folder)
        subprocess.run(["./pan", "-E"], cwd=folder, stdout=subprocess.DEVNULL)
        if not list(pathlib.Path(folder).glob("*.trail")):
            print("no harm found within the bounds and the memory")
            return
        for trail in pathlib.Path(folder).glob("*.trail"):
            trail.rename(pathlib.Path(folder) / f"{case.model}.trail")
        (pathlib.Path(folder) / case.model).write_text((MODELS / case.model).read_text())
        command = ["spin", *defines(case), "-t", "-T", case.model]
        said = subprocess.run(command, cwd=folder, capture_output=True, text=True).stdout
    for line in said.split("\n"):
        if line.startswith("#processes"):
            break
        print(line)


def run(cases):
    print(f"{'case':<20} {'states':>12} {'depth':>6} {'CPU s':>7} {'kept':<8} {'verdict':<11} what")
    wrong = 0
    for case in cases:
        verdict, states, depth, seconds = check(case)
        words = {"holds": "NOT FOUND", "broken": "found", "unfinished": "UNFINISHED"}
        if case in SOUND:
            words.update(holds="holds", broken="BROKEN")
        elif case in REACHED:
            words.update(holds="NOT REACHED", broken="reached")
        wrong += words[verdict].isupper()
        way = case.way if case in SOUND else "full"
        print(f"{case.name:<20} {states:>12,} {depth:>6} {seconds:>7.1f} {way:<8} "
              f"{words[verdict]:<11} {case.text}", flush=True)
        if case in SOUND:
            print(f"{'':<20} {case.bounds}", flush=True)
    return wrong


def main():
    parser = argparse.ArgumentParser(description="Checks the models.")
    parser.add_argument("--large", action="store_true", help="the long cases, too")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these cases")
    parser.add_argument("--trace", metavar="NAME", help="the shortest way to the harm")
    parser.add_argument("--list", action="store_true", help="names and bounds of all cases")
    given = parser.parse_args()
    cases = {case.name: case for case in SOUND + HARM}
    unknown = [n for n in (given.only or []) + [given.trace or "kept"] if n not in cases]
    if unknown:
        parser.error(f"no case {unknown[0]}; see --list")
    if given.list:
        for case in cases.values():
            print(f"{case.name:<20} {case.text}: {case.bounds}{' (large)' * case.large}")
        return 0
    if given.trace:
        trace(cases[given.trace])
        return 0
    chosen = [c for c in cases.values() if given.large or not c.large]
    if given.only:
        chosen = [cases[name] for name in given.only]
    wrong = run(chosen)
    print(f"{len(chosen)} cases, {wrong} not as expected")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
