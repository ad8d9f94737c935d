# SPDX-License-Identifier: Apache-2.0
"""`make schedules`: what run.py plays, in several fields side by side: most of one is waiting.

FIELDS says in how many. Where no field can be made that is said, loudly, and is no failure: `make
field` is the one that insists. FIELD_SECONDS bounds the time: no schedule is begun after that.
"""
import os
import pathlib
import subprocess
import sys

RUN = pathlib.Path(__file__).with_name("run.py")
FIELDS = int(os.environ.get("FIELDS", 3))
NO_FIELD = 2  # exit code of run.py


def shares(text):
    """Every so many of the seeds, for each field."""
    first, _, last = text.partition("..")
    first, last = int(first), int(last or first)
    return [f"{start}..{last}/{FIELDS}" for start in range(first, min(first + FIELDS, last + 1))]


def main(arguments):
    fields = [
        subprocess.Popen([sys.executable, RUN, share], stdin=subprocess.DEVNULL)
        for share in shares(arguments[0])
    ]
    codes = {field.wait() for field in fields}
    if codes == {NO_FIELD}:
        print("SKIPPED: NO SCHEDULE WAS PLAYED, as no field can be made here (see above)")
        return 0
    return max(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
