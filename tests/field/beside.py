# SPDX-License-Identifier: Apache-2.0
"""`make schedules`: what run.py plays, in two fields side by side: most of one is waiting.

Where no field can be made that is said, loudly, and is no failure: `make field` is the one that
insists. FIELD_SECONDS bounds the time: no schedule is begun after that.
"""
import pathlib
import subprocess
import sys

RUN = pathlib.Path(__file__).with_name("run.py")
FIELDS = 2
NO_FIELD = 2  # exit code of run.py


def halves(text):
    first, _, last = text.partition("..")
    first, last = int(first), int(last or first)
    middle = (first + last) // FIELDS
    return [pair for pair in ((first, middle), (middle + 1, last)) if pair[0] <= pair[1]]


def main(arguments):
    fields = [
        subprocess.Popen([sys.executable, RUN, f"{first}..{last}"], stdin=subprocess.DEVNULL)
        for first, last in halves(arguments[0])
    ]
    codes = {field.wait() for field in fields}
    if codes == {NO_FIELD}:
        print("SKIPPED: NO SCHEDULE WAS PLAYED, as no field can be made here (see above)")
        return 0
    return max(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
