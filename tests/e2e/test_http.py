# SPDX-License-Identifier: Apache-2.0
"""The HTTP door: metrics that Prometheus reads, health, readiness, JSON."""
import json
import re
import socket

from qs_cluster import QSD, ROOT, wait_for

SAMPLE = re.compile(r'qs_[a-z_0-9]+(\{instance="[a-z0-9-]+"\})? -?[0-9.e+]+\Z')


def test_metrics(cluster):
    root = cluster.root().start()
    proxy = cluster.proxy("proxy", root, [root], keep_bytes=0, window=0).start()
    with root.raw() as conn:
        conn.pipeline([("SET", f"k{i}", "v") for i in range(100)])
    cluster.settle()
    proxy.call("MGET", *[f"k{i}" for i in range(100)], "nothing")
    status, body = root.http("/metrics")
    assert status == 200
    seen = set()
    for line in body.decode().splitlines():
        if not line.startswith("#"):
            assert SAMPLE.match(line), line
            seen.add(re.match(r"qs_(\w+)", line)[1])
    table = (ROOT / "common/tables/metrics.h").read_text()
    rows = re.findall(r"^(?:NODE|INSTANCE)_METRIC\((\w+), (\w+)", table, re.M)
    assert {name for _, name in rows} <= seen
    for kind, name in rows:
        kind_line = f"# TYPE qs_{name} {kind.lower()}"
        assert kind_line in body.decode(), kind_line
        assert f"# HELP qs_{name} " in body.decode()
    assert root.metrics("main")["keys"] == 100
    metrics = proxy.metrics("main")
    assert metrics["reads"] >= 101 and metrics["reads_absent"] >= 1
    assert metrics["fetch_misses"] == 100 and metrics["keys"] == 100


def test_health_and_readiness(cluster):
    root = cluster.root().start()
    replica = cluster.replica("replica", root, node={"ready_age": "2s"}).start()
    assert root.http("/healthz")[0] == 200 and root.http("/readyz")[0] == 200
    wait_for(lambda: replica.http("/readyz")[0] == 200, 20, "readiness")
    root.stop()
    wait_for(lambda: replica.http("/readyz")[0] == 503, 20, "the age to pass ready_age")
    assert replica.http("/healthz")[0] == 200
    root.start()
    wait_for(lambda: replica.http("/readyz")[0] == 200, 20, "readiness again")


def test_open_as_soon_as_a_client_is_answered(cluster):
    root = cluster.root()
    root.env["LD_PRELOAD"] = str(QSD.parent / "tests/slow_listen.so")
    root.launch()
    wait_for(root.is_ready, 30, "the first reply to a client")
    assert root.http("/healthz")[0] == 200


def test_json(cluster):
    root = cluster.root().start()
    replica = cluster.replica("replica", root).start()
    root.call("QS.PUT", "a", "1")
    cluster.settle()
    status, body = root.http("/api/status")
    assert status == 200
    answer = json.loads(body)
    assert answer["node"] == "root" and answer["instances"][0]["visible_index"] == 1
    wait_for(lambda: json.loads(root.http("/api/tree")[1])[0]["children"], 10, "the child")
    assert json.loads(replica.http("/api/tree")[1])[0]["parent"]["node"] == "root"


def test_odd_requests(cluster):
    root = cluster.root().start()
    assert root.http("/nosuch")[0] == 404
    host, port = root.admin.split(":")
    for request, code in (
        (b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", b"405"),
        (b"HEAD /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"200"),
        (b"nonsense\r\n\r\n", b""),
    ):
        with socket.create_connection((host, int(port)), 20) as conn:
            conn.sendall(request)
            conn.shutdown(socket.SHUT_WR)
            assert code in conn.recv(65536)
    assert root.http("/healthz")[0] == 200
