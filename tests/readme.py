#!/usr/bin/env python3
"""Runs the README's commands as they are written, in one shell, against the debug build: its first five minutes, and each part
between `<!-- test: source NNN -->` and `<!-- test: end -->`, which goes on where those ended, with a daemon and a receiver of its
own. Of such a part every line that it shows as an answer must have been said; `…` stands for anything.

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


def readme():
    return (ROOT / "README.md").read_text()


def blocks_of(part, language):
    return re.findall(rf"```{language}\n(.*?)```", part, re.S)


def in_scratch(commands, folder):
    """The commands with a folder and ports that are nobody else's, and without the build."""
    commands = commands.replace("cargo build --release", "cargo build --quiet")
    commands = commands.replace("target/release", "target/debug")
    commands = commands.replace("/tmp/postrider-try", folder)
    commands = commands.replace("127.0.0.1:8470", f"127.0.0.1:{free_port()}")
    return re.sub(r"\b9000\b", str(free_port()), commands)


# A reader is slower than a shell: wait until the daemon and the receiver are there.
READY = (
    "for i in $(seq 500); do curl -sf --unix-socket admin.sock http://x/readyz >ready && "
    "curl -s http://127.0.0.1:9000/ready >ready && break; read -t 0.02 <> <(:) || :; done\n"
)


def five_minutes():
    part = re.search(r"<!-- test: start -->(.*?)<!-- test: end -->", readme(), re.S)
    blocks = blocks_of(part.group(1), "sh")
    assert len(blocks) == 6, f"{len(blocks)} blocks of commands"
    return blocks


def sources():
    """The parts about single sources, by their names."""
    return dict(re.findall(r"<!-- test: (source \d+) -->(.*?)<!-- test: end -->", readme(), re.S))


# Until nothing is being sent.
SETTLED = (
    "for i in $(seq 500); do api '/v1/deliveries?limit=100' >settled; grep -q in_flight settled || break; "
    "read -t 0.02 <> <(:) || :; done\n"
)


def script_of(part, folder):
    """What a reader has done before, then the part's own commands, each block after what the one before has set off."""
    start, listen, first = five_minutes()[:3]
    define = next(line for line in first.splitlines() if line.startswith("api() {"))
    told = next(block for block in blocks_of(readme(), "sh") if block.startswith("export POSTRIDER__ADMIN__SOCKET="))
    commands = "\n".join([start, listen, READY + define, told, SETTLED.join(blocks_of(part, "sh")), SETTLED])
    return "set -e\n" + in_scratch(commands, folder) + "\nkill %1 %2\nwait\n"


def unsaid(part, output):
    """The lines that a part shows as answers and that nobody said."""
    shown = [line for language in ("json", "text") for block in blocks_of(part, language) for line in block.splitlines()]
    assert shown, "a part shows no answer"
    words = lambda text: r"\s+".join(map(re.escape, re.split(r"\s+", text)))
    pattern = lambda line: ".*?".join(words(piece) for piece in line.strip().split("…"))
    return [line for line in shown if not re.search(pattern(line), output, re.S)]


def script(folder):
    blocks = five_minutes()
    commands = in_scratch("\n".join(blocks).replace("api() {", READY + "api() {"), folder)
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


def run(commands):
    """What the commands said, standard error included, and their exit code."""
    done = subprocess.run(
        ["bash", "-m", "-c", commands],
        cwd=ROOT,
        env={**os.environ, "RUST_BACKTRACE": "0"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )
    # `wait` answers for the receiver, which a signal ended.
    return done.stdout, 0 if done.returncode == 143 else done.returncode


def five_minutes_work():
    with tempfile.TemporaryDirectory(prefix="postrider-readme-") as folder:
        output, code = run(script(folder))
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
    return judge("the first five minutes", output, code, [text for text in wanted if text not in output])


def source_works(name, part):
    with tempfile.TemporaryDirectory(prefix="postrider-readme-") as folder:
        output, code = run(script_of(part, folder))
    return judge(name, output, code, unsaid(part, output))


def judge(name, output, code, missing):
    is_right = code == 0 and not missing
    if not is_right or "--show" in sys.argv:
        print(output)
    if not is_right:
        print(f"{name}: exit code {code}; missing: {missing}")
    return is_right


def main():
    parts = sources()
    right = [five_minutes_work()] + [source_works(name, part) for name, part in parts.items()]
    print(f"{sum(right)} passed, {len(right) - sum(right)} failed, 0 skipped")
    return 0 if all(right) else 1


if __name__ == "__main__":
    sys.exit(main())
