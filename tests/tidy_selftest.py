# SPDX-License-Identifier: Apache-2.0
"""Plants each offence that tidy.py knows in a small clean tree and sees exactly it found."""
import pathlib
import shutil
import tempfile

HEAD = "// SPDX-License-Identifier: Apache-2.0\n"
GUARD = "#ifndef QS_X_H\n#define QS_X_H\n"

CLEAN = {
    "tests/layers.txt": "0 common/tables: metrics errors\n1 common/base: low high\n2 replica: r\n"
    "2 proxy: p\n",
    "common/base/low.h": HEAD + "// Low things.\n" + GUARD + "int low_do(int a);\n#endif\n",
    "common/base/low.c": HEAD + '#include "common/base/low.h"\n\n'
    "static const int low_table[] = {1, 2};\nconst char *const low_names[] = {\"a\", \"b\"};\n\n"
    "int low_do(int a)\n{\n    // malloc(1) is only spoken of; \"sprintf(\" too\n"
    "    return low_table[a & 1];\n}\n",
    "common/base/high.h": HEAD + "// High things.\n" + GUARD + '#include "common/base/low.h"\n'
    "#endif\n",
    "common/tables/metrics.h": HEAD + '// Rows.\nNODE_METRIC(GAUGE, used, "", "help")\n',
    "common/tables/errors.h": HEAD + '// Rows.\nERROR(USED, 1, "ERR", "text")\n',
    "replica/r.c": HEAD + "// A replica. It says ERR_USED.\n"
    "void r_set(int *m);\nvoid r_set(int *m) { *m = ERR_USED; METRIC_SET(m, node, used, 1); }\n",
    "proxy/p.h": HEAD + "// A proxy.\n" + GUARD + "int p_do(void);\n#endif\n",
}


def long_function(lines):
    return HEAD + "// Long.\nint r_long(void)\n{\n" + "    ;\n" * (lines - 4) + "    return 0;\n}\n"


def with_body(body):
    return HEAD + "// One function.\nint r_one(int a)\n{\n" + body + "    return a;\n}\n"


# (what is planted: path -> text; a part of the reason that must be given; where)
OFFENCES = [
    ({"common/base/low.h": CLEAN["common/base/low.h"].replace("int low", '#include "proxy/p.h"\nint low')},
     "points upwards", "common/base/low.h:5"),
    ({"replica/r.c": CLEAN["replica/r.c"] + '#include "proxy/p.h"\n'}, "points upwards", "replica/r.c:5"),
    ({"common/base/low.h": CLEAN["common/base/low.h"].replace(
        "int low", '#include "common/base/high.h"\nint low')}, "stands later", "common/base/low.h:5"),
    ({"common/base/new.c": HEAD + "// New.\n"}, "not in tests/layers.txt", "common/base/new.c:1"),
    ({"tests/layers.txt": CLEAN["tests/layers.txt"].replace("high", "high gone")}, "has no module gone",
     "tests/layers.txt:2"),
    ({"replica/q.c": long_function(71)}, "r_long has 71 lines", "replica/q.c:3"),
    ({"replica/q.c": HEAD + "// Long file.\n" + "\n" * 599}, "601 lines", "replica/q.c:601"),
    ({"replica/q.c": HEAD + "// Wide.\n//" + "x" * 99 + "\n"}, "101 columns", "replica/q.c:3"),
    ({"replica/q.c": HEAD + "// A tab.\nint r_f(void);\n#define A\t1\n"}, "a tab", "replica/q.c:4"),
    ({"replica/q.c": "// No licence line.\n// Two.\n"}, "SPDX", "replica/q.c:1"),
    ({"replica/q.c": HEAD + "int r_f(void);\n"}, "no head comment", "replica/q.c:2"),
    ({"replica/q.c": with_body("    void *p = malloc(4);\n")}, "malloc: raw allocation", "replica/q.c:5"),
    ({"replica/q.c": with_body("    rocksdb_open(a);\n")}, "RocksDB outside", "replica/q.c:5"),
    ({"replica/q.c": with_body("    io_uring_submit(a);\n")}, "io_uring outside", "replica/q.c:5"),
    ({"replica/q.c": with_body("    clock_gettime(a, 0);\n")}, "clock_gettime", "replica/q.c:5"),
    ({"replica/q.c": with_body("    a = rand();\n")}, "rand: clocks", "replica/q.c:5"),
    ({"bench/b.c": HEAD + "// B.\nint b(char *t, int a);\nint b(char *t, int a)\n{\n"
      '    return sprintf(t, "x", a);\n}\n', "tests/layers.txt": CLEAN["tests/layers.txt"] + "9 bench: b\n"},
     "sprintf: never", "bench/b.c:6"),
    ({"replica/q.c": with_body("    strcpy(a, a);\n")}, "strcpy: never", "replica/q.c:5"),
    ({"replica/q.c": with_body("    a = atoi(a);\n")}, "atoi: never", "replica/q.c:5"),
    ({"replica/q.c": with_body("    a = r_one(a - 1);\n")}, "r_one calls itself", "replica/q.c:5"),
    ({"replica/q.c": with_body("again:\n    a++;\n    goto again;\n")}, "jumps backwards", "replica/q.c:7"),
    ({"replica/q.c": HEAD + "// State.\nint r_state;\n"}, "r_state is an exported variable",
     "replica/q.c:3"),
    ({"replica/q.c": HEAD + "// State.\nconst char *r_text = 0;\n"}, "r_text is an exported",
     "replica/q.c:3"),
    ({"common/base/low.h": CLEAN["common/base/low.h"].replace("int low", "extern int low_x;\nint low")},
     "an exported variable", "common/base/low.h:5"),
    ({"common/base/low.h": CLEAN["common/base/low.h"].replace("(int a)", "(uint7_t a)")},
     "does not compile alone", "common/base/low.h:5"),
    ({"replica/q.c": with_body("    // TO" + "DO: more\n")}, "left to do", "replica/q.c:5"),
    ({"common/tables/metrics.h": CLEAN["common/tables/metrics.h"]
      + 'NODE_METRIC(GAUGE, unused, "", "help")\n'}, "unused is never set", "common/tables/metrics.h:4"),
    ({"common/tables/errors.h": CLEAN["common/tables/errors.h"]
      + 'ERROR(UNUSED, 2, "ERR", "text")\n'}, "UNUSED is never given", "common/tables/errors.h:4"),
    ({"common/tables/options.h": HEAD + '// Rows.\nNODE_OPTION(INT, lost, "0", 0, 0, "help")\n',
      "tests/layers.txt": CLEAN["tests/layers.txt"].replace("errors", "errors options")},
     "option lost is never read", "common/tables/options.h:3"),
    ({"common/tables/commands.h": HEAD + '// Rows.\nCOMMAND("LOST", lost, 1, LOCAL, "", "help")\n',
      "tests/layers.txt": CLEAN["tests/layers.txt"].replace("errors", "errors commands")},
     "command lost has no handler", "common/tables/commands.h:3"),
    ({"common/tables/messages.h": HEAD + "// Rows.\nMESSAGE(said, 1)\nFIELD(said, 1, U64, word)\n",
      "common/base/low.c": CLEAN["common/base/low.c"]
      + "int message_said_encode(void);\nint message_said_decode(void);\n",
      "docs/protocol.md": "| 1 | U64 | other |\n",
      "tests/layers.txt": CLEAN["tests/layers.txt"].replace("errors", "errors messages")},
     "is not in docs/protocol.md", "common/tables/messages.h:4"),
]


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def findings_of(tidy, files):
    root = pathlib.Path(tempfile.mkdtemp(prefix="qs-tidy-"))
    try:
        write(root, CLEAN | files)
        listed = (root / "tests/layers.txt").read_text()
        if "replica/q.c" in files:
            (root / "tests/layers.txt").write_text(listed.replace("replica: r", "replica: r q"))
        return [f"{path}:{line}: {reason}" for path, line, reason in tidy(root).run()]
    finally:
        shutil.rmtree(root)


def run(tidy):
    faults = []
    clean = findings_of(tidy, {})
    if clean:
        faults.append(f"the clean tree is not clean: {clean}")
    for files, reason, place in OFFENCES:
        found = findings_of(tidy, files)
        if not any(line.startswith(place + ":") and reason in line for line in found):
            faults.append(f"planted `{reason}` at {place}, found: {found}")
        elif len(found) > 1:
            faults.append(f"planted `{reason}` alone, found more: {found}")
    for fault in faults:
        print(fault)
    print(f"tidy: {len(OFFENCES)} offences planted, {len(OFFENCES) - len(faults)} found as they should be")
    return 1 if faults else 0
