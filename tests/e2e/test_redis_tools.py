# SPDX-License-Identifier: Apache-2.0
"""redis-cli and redis-benchmark, unchanged, against root and proxy."""
import os
import pty
import re
import select
import subprocess
import time

import pytest

from qs_cluster import SLOW, wait_for
from resp import encode

LIMIT_S = 60 * SLOW


@pytest.fixture(scope="module")
def nodes(shared):
    root = shared.root().start()
    proxy = shared.proxy("proxy", root, [root]).start()
    with root.raw() as conn:
        conn.pipeline([("SET", f"tool:{i:04}", "x" * (i + 1)) for i in range(500)])
    shared.settle(root, proxy)
    return root, proxy


def cli(node, *arguments, stdin=None):
    done = subprocess.run(
        ["redis-cli", "-s", node.socket, *arguments],
        input=stdin, stdin=None if stdin is not None else subprocess.DEVNULL,
        capture_output=True, timeout=LIMIT_S,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def until(command, pattern, seconds=30):
    """Runs a command at a terminal, as a person does, until its output matches; then ends it."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    text = ""
    end = time.monotonic() + seconds * SLOW
    try:
        while not re.search(pattern, text):
            assert time.monotonic() < end, f"{command}: no {pattern!r} in {text!r}"
            assert process.poll() is None, f"{command} ended: {text!r}"
            if select.select([ours], [], [], 0.2)[0]:
                text += os.read(ours, 65536).decode(errors="replace")
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return text


def test_plain(nodes):
    root, proxy = nodes
    assert cli(root, "SET", "cli", "value")[1] == "OK\n"
    assert cli(root, "GET", "cli")[1] == "value\n"
    wait_for(lambda: cli(proxy, "GET", "cli")[1] == "value\n", 10, "the proxy")
    assert cli(root, "-n", "0", "GET", "cli")[1] == "value\n"
    assert cli(root, stdin=b"SET a 1\nGET a\nDEL a\nGET a\n")[1] == "OK\n1\n1\n\n"
    assert "READONLY" in cli(proxy, "SET", "cli", "2")[1]


def test_resp3(nodes):
    root, _ = nodes
    assert cli(root, "-3", "GET", "nothing")[1] == "\n"
    assert cli(root, "-3", "SET", "three", "3")[1] == "OK\n"
    assert "proto" in cli(root, "-3", "HELLO")[1]
    assert cli(root, "--json", "MGET", "three", "nothing")[1].strip() == '["3",null]'


def test_interactive(nodes):
    """A person at a terminal: redis-cli asks for COMMAND DOCS, shows a prompt, types replies."""
    root, _ = nodes
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "dumb"
        os.execvp("redis-cli", ["redis-cli", "-s", str(root.socket)])
    text = ""

    def expect(pattern):
        nonlocal text
        end = time.monotonic() + 30 * SLOW
        while not re.search(pattern, text, re.S):
            assert time.monotonic() < end, f"no {pattern!r} in {text!r}"
            if select.select([terminal], [], [], 0.2)[0]:
                text += os.read(terminal, 65536).decode(errors="replace")

    def type_line(line, pattern):
        nonlocal text
        expect(r"> ?$")
        text = ""
        os.write(terminal, line.encode() + b"\r")
        expect(pattern)

    try:
        expect("redis .*>")
        type_line("set inter active", "OK")
        type_line("get inter", '"active"')
        type_line("multi", "OK")
        type_line("get inter", "QUEUED")
        type_line("exec", r'1\) "active"')
        type_line("select main", "OK")
        type_line("qs.get nothing", r"1\) \(nil\)\s+2\) \(integer\) 0")
        type_line("nosuch", r"\(error\) ERR unknown command")
        os.write(terminal, b"quit\r")
    finally:
        end = time.monotonic() + 10 * SLOW
        while os.waitpid(pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > end:
                os.kill(pid, 9)
            time.sleep(0.01)
        os.close(terminal)


def test_latency_and_stat(nodes):
    for node in nodes:
        text = until(["redis-cli", "-s", node.socket, "--latency"], r"avg: \d")
        assert "(" in text
        rows = r"keys.*\r?\n\s*\d+ .*\r?\n\s*\d+ "
        until(["redis-cli", "-s", node.socket, "--stat", "-i", "0.1"], rows)


def test_pipe(nodes):
    root, _ = nodes
    requests = b"".join(encode("SET", f"pipe:{i}", b"\r\n%d" % i) for i in range(20000))
    code, out, err = cli(root, "--pipe", stdin=requests)
    assert code == 0 and "errors: 0, replies: 20000" in out, (out, err)
    assert root.call("GET", "pipe:19999") == b"\r\n19999"


def test_scan_and_bigkeys(nodes):
    for node in nodes:
        names = cli(node, "--scan", "--pattern", "tool:*")[1].split()
        assert sorted(names) == [f"tool:{i:04}" for i in range(500)]
        out = cli(node, "--bigkeys")[1]
        assert 'Biggest string found' in out and "string" in out


def test_benchmark(nodes):
    root, proxy = nodes
    command = ["redis-benchmark", "-q", "-P", "16", "-n", "20000", "-r", "5000", "-c", "20"]
    done = subprocess.run(
        [*command, "-s", root.socket, "-t", "ping,get,set,mset"],
        capture_output=True, timeout=LIMIT_S, text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("PING", "SET", "GET", "MSET"):
        assert re.search(rf"{name}.*requests per second", done.stdout), done.stdout
    assert "rror" not in done.stdout.replace("WARNING: Could not fetch server CONFIG", "")
    done = subprocess.run(
        [*command, "-s", proxy.socket, "-3", "-t", "get"],
        capture_output=True, timeout=LIMIT_S, text=True,
    )
    assert done.returncode == 0 and re.search(r"GET.*per second", done.stdout), done.stdout
