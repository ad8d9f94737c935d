# SPDX-License-Identifier: Apache-2.0
"""An HTTP server in front of a real Consul agent that passes everything on, or lies."""
import http.server
import json
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request

from qs_cluster import PORTS


def few(body, part):
    return body[: max(1, len(body) // part)]


def at_wrong_ports(body):
    for row in body:
        row["Service"]["Port"] += 1
    return body


# What becomes of the list of nodes, and of the headers.
LIES = {
    "unknown service": lambda body, headers: [],
    "a few of all": lambda body, headers: few(body, 4),
    "wrong ports": lambda body, headers: at_wrong_ports(body),
    "no ports": lambda body, headers: [{"Node": {}, "Service": {"Port": 0}}],
    "old": lambda body, headers: headers.update({"X-Consul-KnownLeader": "false"}) or few(body, 4),
    "index goes back": lambda body, headers: headers.update({"X-Consul-Index": "1"}) or body,
}
# What becomes of every answer.
FAULTS = ("refused", "no JSON", "slow", "cut")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.pass_on()

    def do_PUT(self):
        self.pass_on()

    def pass_on(self):
        liar = self.server.liar
        size = int(self.headers.get("Content-Length") or 0)
        sent = self.rfile.read(size)
        if liar.token and self.headers.get("X-Consul-Token") != liar.token:
            self.answer(403, b"Permission denied", {})
            return
        request = urllib.request.Request(
            f"http://{liar.agent.http}{self.path}", data=sent if size else None, method=self.command
        )
        try:
            with urllib.request.urlopen(request, timeout=100) as reply:
                status, body, headers = reply.status, reply.read(), dict(reply.headers)
        except urllib.error.HTTPError as error:
            status, body, headers = error.code, error.read(), {}
        except OSError:
            self.close_connection = True
            return
        lie = liar.lie  # as it is now that the answer is there
        liar.told += "/health/service/" in self.path
        if lie == "refused":
            status, body = 500, b"No cluster leader"
        elif lie == "no JSON":
            body = b"<html>it works</html>"
        elif lie == "slow":
            liar.hold()
        elif lie == "cut":
            self.close_connection = True
            return
        elif lie in LIES and "/health/service/" in self.path and status == 200:
            body = json.dumps(LIES[lie](json.loads(body), headers)).encode()
        self.answer(status, body, headers)

    def answer(self, status, body, headers):
        try:
            self.send_response(status)
            for name, value in headers.items():
                if name.startswith("X-Consul-"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            self.close_connection = True


class Liar:
    """With `tls`, a directory, it speaks TLS with a certificate made there: ca_file."""

    def __init__(self, agent, token=None, tls=None):
        self.agent, self.token, self.lie, self.told = agent, token, None, 0
        self.ended = threading.Event()
        port = PORTS.take()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads, self.server.liar = True, self
        self.http = f"127.0.0.1:{port}"
        if tls is not None:
            self.ca_file = make_certificate(tls)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.ca_file, tls / "key.pem")
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
            self.http = f"https://{self.http}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def hold(self):
        """Until the lie is over, whoever asked has no answer."""
        while self.lie == "slow" and not self.ended.is_set():
            time.sleep(0.05)

    def close(self):
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()


def make_certificate(directory):
    """Of 127.0.0.1, its own issuer."""
    certificate = directory / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=agent", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", directory / "key.pem", "-out", certificate]
    subprocess.run(command, check=True, capture_output=True)
    return certificate
