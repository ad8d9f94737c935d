#!/bin/sh
# Runs unit tests, as many at a time as there are processors. What each says is printed whole when it
# ends; those that failed are named once more behind all.
set -u
said=$(mktemp -d)
export said
trap 'rm -rf "$said"' EXIT
printf '%s\n' "$@" | xargs -P "$(nproc)" -n 1 sh -c '
    name=${0##*/}
    "$0" > "$said/$name" 2>&1 || echo "$name" >> "$said/failed"
    flock "$said" cat "$said/$name"'
if [ -e "$said/failed" ]; then
    echo "failed unit tests:" $(sort "$said/failed")
    exit 1
fi
echo "$# programs of unit tests passed"
