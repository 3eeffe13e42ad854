"""A daemon of its own for tests in Python: a scratch folder, the debug build, its admin socket, and a receiver."""

import http.client
import json
import os
import queue
import socket
import subprocess
import sys
import tempfile
import threading
import time
import venv
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BUILT = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PATIENCE_SECONDS = 60
SKIPPED = 77


def wait_for(what, look):
    """Looks until there is something to see."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (seen := look()):
        assert time.monotonic() < deadline, f"waited {PATIENCE_SECONDS} s for {what}"
        time.sleep(0.005)
    return seen


def build(profile="dev"):
    """The binary of a profile of cargo, built if it is not there."""
    subprocess.run(["cargo", "build", "--locked", "--quiet", "--profile", profile, "--bin", "postrider"], cwd=ROOT, check=True)
    return BUILT / ("debug" if profile == "dev" else profile) / "postrider"


def python_with(*requirements):
    """A Python that has these packages, in an environment of its own under the build folder; ends the test as skipped
    where they cannot be installed."""
    name = "-".join(sorted(requirement.replace("==", "-") for requirement in requirements))
    folder = BUILT / "python" / name
    python = folder / "bin/python"
    if not (folder / "complete").exists():
        venv.create(folder, with_pip=True, clear=True)
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
        installed = subprocess.run(command, capture_output=True, text=True)
        if installed.returncode != 0:
            print(installed.stderr)
            print(f"pip cannot install {' '.join(requirements)}")
            sys.exit(SKIPPED)
        (folder / "complete").touch()
    return python


def run_in(*requirements):
    """Goes on in a Python that has these packages."""
    if os.environ.get("POSTRIDER_TEST_PYTHON") != "ready":
        python = python_with(*requirements)
        os.execve(python, [python, *sys.argv], {**os.environ, "POSTRIDER_TEST_PYTHON": "ready"})


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("postrider", timeout=PATIENCE_SECONDS)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Daemon:
    """A running daemon; ends with the `with` block. Flags are those of `serve`."""

    def __init__(self, config="", flags=(), profile="dev"):
        self.flags, self.profile = flags, profile
        self.scratch = tempfile.TemporaryDirectory(prefix="postrider-test-")
        self.folder = Path(self.scratch.name)
        self.config = self.folder / "config.toml"
        self.config.write_text(
            f"""
[store]
path = "{self.folder}/postrider.redb"
[ingest]
socket = "{self.folder}/ingest.sock"
[admin]
socket = "{self.folder}/admin.sock"
listen = "127.0.0.1:0"
[egress]
allow_loopback = true
allow_http = true
[log]
format = "json"
{config}
"""
        )

    def __enter__(self):
        self.binary = build(self.profile)
        self.log = open(self.folder / "log", "w+")
        command = [self.binary, "serve", "--config", self.config, *self.flags]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        wait_for("the daemon", self.is_ready)
        return self

    def is_ready(self):
        assert self.process.poll() is None, f"the daemon ended with {self.process.returncode}:\n{self.said()}"
        try:
            status = self.call("GET", "/readyz")[0]
            # Flags may ask for a daemon that takes no events.
            return status == 200 or (bool(self.flags) and status == 503)
        except OSError:
            return False

    def said(self):
        return (self.folder / "log").read_text()

    def address(self):
        """The address of its TCP listener, as `host:port`."""
        for line in self.said().splitlines():
            told = json.loads(line)
            if told.get("event") == "ready":
                return told["listen"]
        raise AssertionError("the daemon has not said where it listens")

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(PATIENCE_SECONDS)
        finally:
            if self.process.poll() is None:
                self.process.kill()
            self.log.close()
            self.scratch.cleanup()

    def call(self, method, path, body=None, headers=None):
        """The status and the JSON of an admin request; bytes go as they are."""
        connection = UnixConnection(self.folder / "admin.sock")
        try:
            content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, content, {"Content-Type": "application/json", **(headers or {})})
            reply = connection.getresponse()
            text = reply.read()
            is_json = "json" in (reply.getheader("Content-Type") or "")
            return reply.status, json.loads(text) if is_json and text else text
        finally:
            connection.close()

    def must(self, method, path, body=None):
        status, answer = self.call(method, path, body)
        assert 200 <= status < 300, f"{method} {path}: {status} {answer}"
        return answer

    def emit(self, *events):
        """Hands events in over the ingest socket; its answers."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.folder / "ingest.sock"))
            connection.sendall(b"".join(json.dumps(event).encode() + b"\n" for event in events))
            connection.shutdown(socket.SHUT_WR)
            return [json.loads(line) for line in connection.makefile("rb").read().splitlines()]


class Receiver:
    """An HTTP server that keeps what it is sent, in the order of arrival, and answers 200, or what it is told to."""

    def __init__(self):
        self.got = queue.Queue()
        self.status, self.headers, self.body = 200, {}, b""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.put((self.command, self.path, dict(self.headers.items()), body))
                self.send_response(receiver.status)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(receiver.body)))
                self.end_headers()
                self.wfile.write(receiver.body)

            do_PUT = do_POST

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            # The default of five cuts connections off when many lanes open at once.
            request_queue_size = 1024

        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def next(self):
        """The next request: method, path, headers, body."""
        return self.got.get(timeout=PATIENCE_SECONDS)
