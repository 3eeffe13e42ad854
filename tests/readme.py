#!/usr/bin/env python3
"""Runs the README's first five minutes as they are written, in one shell, against the debug build.

Only two things differ from what a reader does: the build is not repeated, and the folder and the ports are scratch ones, so
that the test can run beside anything else.
"""

import os
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def script(folder):
    text = (ROOT / "README.md").read_text()
    part = re.search(r"<!-- test: start -->(.*?)<!-- test: end -->", text, re.S)
    blocks = re.findall(r"```sh\n(.*?)```", part.group(1), re.S)
    assert len(blocks) == 6, f"{len(blocks)} blocks of commands"
    commands = "\n".join(blocks)
    commands = commands.replace("cargo build --release", "cargo build --quiet")
    commands = commands.replace("target/release", "target/debug")
    commands = commands.replace("/tmp/postrider-try", folder)
    commands = commands.replace("127.0.0.1:8470", f"127.0.0.1:{free_port()}")
    commands = re.sub(r"\b9000\b", str(free_port()), commands)
    # A reader is slower than a shell: wait until the daemon and the receiver are there.
    ready = "for i in $(seq 500); do curl -sf --unix-socket admin.sock http://x/readyz >ready && break; read -t 0.02 <> <(:) || :; done\n"
    commands = commands.replace("api() {", ready + "api() {")
    commands = commands.replace("postrider listen", "exec 3>&1; postrider listen")
    # And slower than a delivery: look at what became of the first event once it has become something.
    listing = "api '/v1/deliveries"
    assert listing in commands, "no list of deliveries to wait for"
    commands = commands.replace(listing, succeeded(2) + listing)
    # Or than a confirmation.
    look = 'api "/v1/destinations/webhook/$id"\n'
    assert look in commands, "no look at the destination to wait for"
    commands = commands.replace(look, succeeded(1) + look)
    return "set -e\n" + commands + "\n" + succeeded(4) + "cat status\nkill %1 %2\nwait\n"


def succeeded(deliveries):
    """Asks until so many deliveries have succeeded."""
    return (
        f"for i in $(seq 500); do api /v1/status >status; grep -q '\"succeeded\":{deliveries}' status && break; "
        "read -t 0.02 <> <(:) || :; done\n"
    )


def main():
    with tempfile.TemporaryDirectory(prefix="postrider-readme-") as folder:
        done = subprocess.run(
            ["bash", "-m", "-c", script(folder)],
            cwd=ROOT,
            env={**os.environ, "RUST_BACKTRACE": "0"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
        )
    wanted = [
        '"whsec_',
        "accepted evt_",
        '"state":"succeeded"',
        "X-Webhook-Event: transaction.refund.success".lower(),
        '"deliveries":1}',
        '"confirmed":true',
        '"succeeded":4',
        '"pending":0',
    ]
    missing = [text for text in wanted if text not in done.stdout]
    # `wait` answers for the receiver, which a signal ended.
    if missing or done.returncode not in (0, 143):
        print(done.stdout)
        print(f"exit code {done.returncode}; missing: {missing}")
        return 1
    if "--show" in sys.argv:
        print(done.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
