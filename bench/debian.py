# SPDX-License-Identifier: Apache-2.0
"""Debian's package index as real data: every field of every package is a pair.

`python3 bench/debian.py FILE` writes the pairs deb/<package>/<field> as TSV, which `qs import` and
`qs-bench roles --pairs` read.
"""
import argparse
import os
import subprocess

ESCAPES = {ord("\\"): "\\\\", ord("\t"): "\\t", ord("\n"): "\\n", ord("\r"): "\\r"}


def dump():
    return subprocess.run(["apt-cache", "dumpavail"], capture_output=True, check=True).stdout


def read_source():
    """The index as text; asks for it first where apt has none yet."""
    text = dump()
    if text.count(b"\nPackage: ") < 1000:
        print("apt has no package index yet: apt-get update", flush=True)
        sudo = [] if os.geteuid() == 0 else ["sudo"]
        subprocess.run([*sudo, "apt-get", "-q", "update"], check=True)
        text = dump()
    return text.decode("utf-8", errors="surrogateescape")


def parse(text):
    """{deb/<package>/<field>: value}. Of several versions of a package the last one listed counts;
    lines that begin with a blank go on with the value before, line feed and all."""
    pairs, packages = {}, set()
    for stanza in text.split("\n\n"):
        fields, name = {}, None
        for line in stanza.split("\n"):
            if line[:1] in (" ", "\t"):
                fields[name] += "\n" + line
            elif line:
                name, _, value = line.partition(":")
                fields[name] = value.strip()
        package = fields.get("Package")
        if package:
            packages.add(package)
            for name, value in fields.items():
                pairs[f"deb/{package}/{name}"] = value
    return pairs, len(packages)


def write_tsv(pairs, path):
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as out:
        for key, value in pairs.items():
            out.write(f"{key}\t{value.translate(ESCAPES)}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", help="where the pairs go, as TSV")
    given = parser.parse_args()
    pairs, packages = parse(read_source())
    write_tsv(pairs, given.file)
    print(f"{len(pairs):,} pairs of {packages:,} packages")


if __name__ == "__main__":
    main()
