# SPDX-License-Identifier: Apache-2.0
"""The house rules, checked. Prints FILE:LINE: reason and exits 1 when one is broken.

Usage: tidy.py [--root DIR] [--self-test] [--no-compile]

Only Python's standard library and universal-ctags. tests/layers.txt holds the order of the
modules; the tables HOMES and NEVER below hold what may be called where. --self-test plants each
offence in a temporary tree and sees it found.
"""
import argparse
import bisect
import collections
import concurrent.futures
import json
import pathlib
import re
import subprocess
import sys

FUNCTION_LINES = 70
FILE_LINES = 600
COLUMNS = 100
TABLE_COLUMNS = 180  # a row of a table is one line, however long its help text

STORE_FILES = [f"common/data/store{part}.c" for part in ("", "_read", "_flush", "_compact")]

# What may be called only in its home: pattern of the name, the files that are its home, reason.
HOMES = [
    (r"malloc|calloc|realloc|free|strdup|strndup|asprintf|vasprintf|aligned_alloc|posix_memalign",
     ["common/base/mem.c"], "raw allocation; use common/base/mem.h"),
    (r"rocksdb_\w+", STORE_FILES, "RocksDB outside of its home"),
    (r"io_uring_\w+", ["common/io/loop_uring.c"], "io_uring outside of its home"),
    (r"clock_gettime|gettimeofday|time|clock|getrandom|rand|random|srand|drand48|rand_r",
     ["common/base/clock.c"], "clocks and randomness come from common/base/clock.h"),
]
# Libraries that hand over memory which only the C library can free: file, names.
HOME_EXCEPTIONS = {
    "common/wire/msgpack.c": {"free"},
    "qs/config.c": {"free", "strdup"},
    "qs/http.c": {"free"},
    "qs/status.c": {"free"},
}
NEVER = [
    (r"sprintf|vsprintf|strcpy|strcat|strncpy|strncat|gets|atoi|atol|atoll|atof|alloca|setjmp|longjmp",
     "never: it does not know where its memory or its errors end"),
    (r"strtok|localtime|gmtime|asctime|ctime|strerror_r|readdir_r", "never: not thread safe"),
]
CODE_FOLDERS = ("common", "replica", "proxy", "qs")  # where homes and layers bind
TEXT_FOLDERS = CODE_FOLDERS + ("bench", "tests", "packaging", "docs", ".ci")
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")


def blank(text):
    """C text with comments and the insides of strings turned to blanks; lines stay lines."""
    def keep_lines(found):
        piece = found.group(0)
        if piece[0] in "\"'":
            return piece[0] + " " * (len(piece) - 2) + piece[-1]
        return re.sub(r"[^\n]", " ", piece)

    pattern = r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    return re.sub(pattern, keep_lines, text, flags=re.S)


class Source:
    """One C file: its text, the text without comments, and where lines begin."""

    def __init__(self, root, path):
        self.path = path.relative_to(root).as_posix()
        self.text = path.read_text(errors="replace")
        self.lines = self.text.split("\n")
        self.code = blank(self.text)
        self.starts = [0] + [m.end() for m in re.finditer("\n", self.code)]
        self.folder = self.path.rpartition("/")[0]
        self.module = pathlib.PurePath(self.path).stem
        self.is_header = self.path.endswith(".h")
        self.is_table = self.path.startswith("common/tables/")

    def line_of(self, offset):
        return bisect.bisect_right(self.starts, offset)

    def slice(self, first, last):
        """The blanked code of lines first..last."""
        end = self.starts[last] if last < len(self.starts) else len(self.code)
        return self.code[self.starts[first - 1] : end]


class Tidy:
    def __init__(self, root, compile_headers=True):
        self.root = pathlib.Path(root).resolve()
        self.compile_headers = compile_headers
        self.findings = []
        self.sources = [
            Source(self.root, path)
            for folder in CODE_FOLDERS + ("bench", "tests")
            for path in sorted((self.root / folder).rglob("*.[ch]"))
        ]
        self.by_path = {source.path: source for source in self.sources}

    def find(self, path, line, reason):
        self.findings.append((path, line, reason))

    def run(self):
        for source in self.sources:
            self.check_shape(source)
            self.check_calls(source)
        self.check_texts()
        self.check_layers()
        self.check_functions()
        self.check_rows()
        self.check_headers()
        self.check_references()
        return sorted(set(self.findings))

    # ---- one file -------------------------------------------------------------------------------

    def check_shape(self, source):
        limit = TABLE_COLUMNS if source.is_table else COLUMNS
        for number, line in enumerate(source.lines, 1):
            if len(line) > limit:
                self.find(source.path, number, f"{len(line)} columns, {limit} are allowed")
            if "\t" in line:
                self.find(source.path, number, "a tab; indent with four spaces")
            if line.rstrip() != line:
                self.find(source.path, number, "blanks at the end of the line")
        count = len(source.lines) - 1
        if count > FILE_LINES:
            self.find(source.path, count, f"{count} lines, {FILE_LINES} are allowed")
        if source.lines[0] != "// SPDX-License-Identifier: Apache-2.0":
            self.find(source.path, 1, "the first line must be the SPDX line")
        self.check_head(source)
        if source.is_header and not source.is_table:
            if not re.search(r"#ifndef \w+_H\n#define \w+_H\n|#error \"include ", source.text):
                self.find(source.path, 1, "no include guard")

    def check_head(self, source):
        """The head comment tells what a module owns; a .c may leave it to the .h beside it."""
        count = 0
        while count + 1 < len(source.lines) and source.lines[count + 1].startswith("//"):
            count += 1
        beside = source.path[:-2] + ".h"
        if count == 0 and not source.is_header and beside in self.by_path:
            return
        if count < 1:
            self.find(source.path, 2, "no head comment: 1 to 24 lines on what this file owns")
        if count > 24:
            self.find(source.path, 2, f"a head comment of {count} lines, 24 are allowed")

    def check_calls(self, source):
        in_house = source.folder.split("/")[0] in CODE_FOLDERS
        for pattern, homes, reason in HOMES:
            if not in_house or source.path in homes:
                continue
            allowed = HOME_EXCEPTIONS.get(source.path, set())
            for found in re.finditer(rf"(?<![\w.>])({pattern})\s*\(", source.code):
                if found[1] not in allowed:
                    self.find(source.path, source.line_of(found.start()), f"{found[1]}: {reason}")
        for pattern, reason in NEVER:
            for found in re.finditer(rf"(?<![\w.>])({pattern})\s*\(", source.code):
                self.find(source.path, source.line_of(found.start()), f"{found[1]}: {reason}")

    def check_texts(self):
        """What holds for every text of the project, Python, shell and Markdown included."""
        paths = [p for p in self.root.iterdir() if p.is_file()]
        for folder in TEXT_FOLDERS:
            paths += [p for p in (self.root / folder).rglob("*") if p.is_file()]
        for path in sorted(paths):
            name = path.relative_to(self.root).as_posix()
            if "__pycache__" in name or name.startswith("tests/tidy") or path.suffix in (".svg", ".pyc"):
                continue
            try:
                lines = path.read_text().split("\n")
            except UnicodeDecodeError:
                continue
            for number, line in enumerate(lines, 1):
                if UNFINISHED.search(line) and path.suffix != ".md":
                    self.find(name, number, "something is left to do here")
                if path.suffix == ".py" and len(line) > COLUMNS:
                    self.find(name, number, f"{len(line)} columns, {COLUMNS} are allowed")
            if path.suffix in (".py", ".sh") and len(lines) - 1 > FILE_LINES:
                self.find(name, len(lines), f"{len(lines) - 1} lines, {FILE_LINES} are allowed")

    # ---- layers ---------------------------------------------------------------------------------

    def read_layers(self):
        """({folder: (level, {module: place})}, line number of each folder)."""
        layers, lines = {}, {}
        path = self.root / "tests/layers.txt"
        for number, line in enumerate(path.read_text().split("\n"), 1):
            line = line.split("#")[0].strip()
            found = re.fullmatch(r"(\d+) ([\w/]+):\s*(.*)", line)
            if found:
                modules = found[3].split()
                places = {name: place for place, name in enumerate(modules)}
                level, known = layers.get(found[2], (int(found[1]), {}))
                shift = len(known)
                known.update({name: place + shift for name, place in places.items()})
                layers[found[2]] = (level, known)
                lines[found[2]] = number
            elif line:
                self.find("tests/layers.txt", number, "not `LEVEL FOLDER: modules`")
        return layers, lines

    def check_layers(self):
        layers, lines = self.read_layers()
        seen = collections.defaultdict(set)
        for source in self.sources:
            if source.folder.startswith("tests"):
                continue
            if source.folder not in layers:
                self.find(source.path, 1, f"{source.folder} is not in tests/layers.txt")
                continue
            level, modules = layers[source.folder]
            seen[source.folder].add(source.module)
            if source.module not in modules:
                self.find(source.path, 1, f"{source.module} is not in tests/layers.txt")
            for number, line in enumerate(source.lines, 1):
                found = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
                if found:
                    self.check_include(source, number, found[1], level, modules, layers)
        for folder, (_, modules) in layers.items():
            for module in modules.keys() - seen[folder]:
                self.find("tests/layers.txt", lines[folder], f"{folder} has no module {module}")

    def check_include(self, source, number, target, level, modules, layers):
        folder, _, name = target.rpartition("/")
        module = pathlib.PurePath(name).stem
        if not (self.root / target).exists():
            self.find(source.path, number, f"includes {target}, which is not below the top folder")
        elif folder not in layers:
            self.find(source.path, number, f"includes {target}, which is in no layer")
        elif folder == source.folder:
            late = modules.get(module, -1) >= modules.get(source.module, 1 << 30)
            if source.is_header and late and not source.is_table:
                self.find(source.path, number, f"includes {target}, which stands later in its layer")
        elif layers[folder][0] >= level:
            self.find(source.path, number, f"includes {target}, which points upwards")

    # ---- functions and variables ----------------------------------------------------------------

    def tags(self):
        """What universal-ctags sees: one dict a definition."""
        paths = [s.path for s in self.sources if not s.is_table]
        if not paths:
            return []
        command = ["ctags", "--output-format=json", "--fields=+neSZ", "--kinds-C=fvl", "-o", "-"]
        command += ["--langmap=C:.c.h", "--language-force=C", "--sort=no", "-L", "-"]
        done = subprocess.run(
            command, input="\n".join(paths), capture_output=True, text=True, cwd=self.root, check=True
        )
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    def check_functions(self):
        for tag in self.tags():
            source = self.by_path[tag["path"]]
            if tag["kind"] == "function":
                self.check_function(source, tag["name"], tag["line"], tag.get("end", tag["line"]))
            elif tag["kind"] == "variable" and not tag.get("file", False):
                self.check_variable(source, tag["name"], tag["line"])
        for source in self.sources:
            if source.is_header and not source.folder.startswith("tests"):
                for found in re.finditer(r"^\s*extern\s+(?!const\b|\"C\")[^(;]*;", source.code, re.M):
                    line = source.line_of(found.start() + len(found[0]) - len(found[0].lstrip()))
                    self.find(source.path, line, "an exported variable")

    def check_function(self, source, name, first, last):
        if last - first + 1 > FUNCTION_LINES:
            reason = f"{name} has {last - first + 1} lines, {FUNCTION_LINES} are allowed"
            self.find(source.path, first, reason)
        code = source.slice(first, last)
        body = code[code.find("{") + 1 :]
        for found in re.finditer(rf"(?<![\w.>]){re.escape(name)}\s*\(", body):
            line = first + code[: code.find("{") + 1 + found.start()].count("\n")
            self.find(source.path, line, f"{name} calls itself")
        labels = {m[1]: m.start() for m in re.finditer(r"^\s*(\w+):(?!:)", body, re.M)}
        for found in re.finditer(r"\bgoto\s+(\w+)", body):
            if labels.get(found[1], len(body)) < found.start():
                line = first + code[: code.find("{") + 1 + found.start()].count("\n")
                self.find(source.path, line, f"{name} jumps backwards")

    def check_variable(self, source, name, line):
        """A global that other files can reach must be const."""
        if source.folder.startswith("tests"):
            return
        lines = source.code.split("\n")
        first = line - 1
        while first > 0 and not re.match(r"\w", lines[first]):
            first -= 1
        text = " ".join(lines[first:line])
        declared = re.split(rf"\b{re.escape(name)}\b", text)[0]
        if re.search(r"\bstatic\b|\btypedef\b", declared):
            return
        if "const" not in declared.split("*")[-1]:
            self.find(source.path, line, f"{name} is an exported variable")

    # ---- rows of tables -------------------------------------------------------------------------

    def rows(self, table, pattern):
        source = self.by_path.get(f"common/tables/{table}.h")
        if source is None:
            return []
        found = re.finditer(rf"^\s*{pattern}", source.text, re.M)
        return [(source, source.line_of(m.start(1)), m[1]) for m in found]

    def check_rows(self):
        """A row that nothing uses is a promise that nothing keeps."""
        house = [s for s in self.sources if s.folder.split("/")[0] in CODE_FOLDERS and not s.is_table]
        code = "\n".join(source.code for source in house)
        words = set(re.findall(r"\w+", code))
        fields = set(re.findall(r"(?:->|\.)\s*(\w+)", code))
        used = r"METRIC_(?:ADD|SET|GET)\s*\([^;]*?\b(?:node|instance)\s*,\s*(\w+)"
        metrics = set(re.findall(used, code)) | set(re.findall(r"\b(?:\w+_)?METRIC_(\w+)", code))
        for source, line, name in self.rows("metrics", r"(?:NODE|INSTANCE)_METRIC\(\w+, (\w+)"):
            if name not in metrics:
                self.find(source.path, line, f"metric {name} is never set")
        for source, line, name in self.rows("options", r"(?:NODE|INSTANCE)_OPTION\(\w+, (\w+)"):
            if name not in fields:
                self.find(source.path, line, f"option {name} is never read")
        for source, line, name in self.rows("commands", r'COMMAND\("[^"]+", (\w+)'):
            if f"command_{name}" not in words:
                self.find(source.path, line, f"command {name} has no handler")
        for source, line, name in self.rows("errors", r"ERROR\((\w+),"):
            if f"ERR_{name}" not in words:
                self.find(source.path, line, f"error {name} is never given")
        page = self.root / "docs/protocol.md"
        told = page.read_text() if page.exists() else None
        for source, line, row in self.rows("messages", r"FIELD\((\w+, \d+, \w+, \w+)\)"):
            _, number, kind, field = row.split(", ")
            if told is not None and f"| {number} | {kind} | {field} |" not in told:
                self.find(source.path, line, f"{row} is not in docs/protocol.md")
        for source, line, name in self.rows("messages", r"MESSAGE\((\w+), \d+\)"):
            if not {f"message_{name}_encode", f"message_{name}_decode"} <= words:
                self.find(source.path, line, f"message {name} is not both written and read")

    # ---- headers --------------------------------------------------------------------------------

    def check_headers(self):
        """Each header compiles alone (tables, and pieces that say so by #error, are not headers)."""
        if not self.compile_headers:
            return
        headers = [
            s
            for s in self.sources
            if s.is_header and not s.is_table and '#error "include' not in s.text
        ]
        with concurrent.futures.ThreadPoolExecutor() as pool:
            for source, errors in zip(headers, pool.map(self.compile_one, headers)):
                if errors:
                    line = re.search(rf"{re.escape(source.path)}:(\d+):", errors)
                    first = next((l for l in errors.split("\n") if "error" in l), errors[:80])
                    reason = f"does not compile alone: {first}"
                    self.find(source.path, int(line[1]) if line else 1, reason)

    def compile_one(self, source):
        command = ["gcc", "-std=c11", "-D_GNU_SOURCE", "-I.", "-Wall", "-Werror", "-Wno-unused"]
        command += ["-fsyntax-only", "-x", "c", source.path]
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.root)
        return done.stderr if done.returncode else ""

    # ---- reference pages ------------------------------------------------------------------------

    def check_references(self):
        """docs/options.md and its sisters are what the built daemon says today."""
        daemon = self.root / "build/release/qsd"
        if not daemon.exists():
            return
        for page in ("options", "metrics", "commands", "errors"):
            path = self.root / f"docs/{page}.md"
            done = subprocess.run([daemon, "--reference", page], capture_output=True, text=True)
            if done.returncode != 0:
                self.find(f"docs/{page}.md", 1, f"qsd --reference {page} failed")
            elif not path.exists() or path.read_text() != done.stdout:
                self.find(f"docs/{page}.md", 1, "is not current; run `make docs`")


def main():
    parser = argparse.ArgumentParser(description="Checks the house rules.")
    parser.add_argument("--root", default=pathlib.Path(__file__).resolve().parents[1])
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("--no-compile", action="store_true", help="do not compile headers")
    given = parser.parse_args()
    if given.self_test:
        import tidy_selftest

        return tidy_selftest.run(Tidy)
    findings = Tidy(given.root, not given.no_compile).run()
    for path, line, reason in findings:
        print(f"{path}:{line}: {reason}")
    if not findings:
        print("tidy: clean")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
